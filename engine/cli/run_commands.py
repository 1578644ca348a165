"""`engine run` and `engine demo`."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.app import AsJson, app
from engine.cli.console import (
    is_quiet,
    merge_notes,
    print_frame,
    print_json,
    print_line,
    print_list,
    print_problems,
    progress,
)
from engine.cli.exit_codes import MANY_REJECTS, PARTLY_READ, correction_lines
from engine.cli.parsing import (
    override_options,
    parse_column_pairs,
    parse_date,
    parse_instant,
    parse_interval,
    parse_intervals,
    parse_share,
    split_list,
    split_selection,
)
from engine.cli.source_options import (
    Alignment,
    AsOf,
    AuctionPrints,
    Base,
    Calendar,
    CalendarPatterns,
    Columns,
    DaysFold,
    Decimal,
    Delimiter,
    FirstDate,
    Ignore,
    LastDate,
    NonPositive,
    NullCells,
    OneSymbol,
    OptionsFile,
    Scale,
    Segments,
    Shift,
    SkipRows,
    SourceFormat,
    StampMark,
    SymbolFrom,
    Symbols,
    Thousands,
    TimeFormat,
    Unit,
    VendorLayout,
    Zone,
)
from engine.cli.terminal_text import write_error

if TYPE_CHECKING:
    from engine.runtime.options import LoadOptions, Progress
    from engine.runtime.partitioned_run import PartitionedResult
    from engine.runtime.run import RunResult


@app.command()
def run(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Files, or folders that are searched.")],
    calendar: Calendar = None,
    calendar_map: CalendarPatterns = None,
    interval: Base = None,
    derive: Annotated[str, typer.Option(help="Derived intervals.")] = "5m,15m,1h,1d",
    symbols: Symbols = None,
    price_type: Annotated[str | None, typer.Option(help="Keep only these series: last,bid,ask,mid.")] = None,
    start: FirstDate = None,
    end: LastDate = None,
    segments: Segments = None,
    auctions: AuctionPrints = "in",
    daily_segments: DaysFold = "regular",
    source_format: SourceFormat = None,
    layout: VendorLayout = None,
    timezone: Zone = None,
    stamp: StampMark = None,
    shift: Shift = None,
    align: Alignment = None,
    unit: Unit = None,
    time_format: TimeFormat = None,
    delimiter: Delimiter = None,
    skip_rows: SkipRows = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    null: NullCells = None,
    ignore: Ignore = None,
    columns: Columns = None,
    options: OptionsFile = None,
    symbol: OneSymbol = None,
    symbol_from: SymbolFrom = None,
    scale: Scale = None,
    incomplete: Annotated[str, typer.Option(help="Bars of windows that lack slots: flag or drop.")] = "flag",
    keep_source: Annotated[bool, typer.Option(help="Keep other resolutions as series beside the base.")] = False,
    allow_non_positive: NonPositive = None,
    as_of: AsOf = None,
    max_rejects: Annotated[
        str, typer.Option(help="Exit code 4 when more of a file's rows were refused: a share, as 1% or 0.01.")
    ] = "1%",
    export: Annotated[Path | None, typer.Option(help="Write the dataset to this folder.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the symbols; needs --export.")] = None,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, or `local`; needs --export.")] = None,
    resume: Annotated[bool, typer.Option(help="Keep what an interrupted run with workers did.")] = False,
    show_all: Annotated[
        bool, typer.Option("--all", help="Print every series, note and reason, not only the worst.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read vendor files, derive bars, find gaps; --export writes them. Exit code 3: unreadable files, 4: many rejects.

    Exit codes: 0 fine, 2 bad input, 3 done, but some files could not be read, 4 done, but of a file more rows were refused
    than --max-rejects.

    Example: engine run lean/equity/usa/minute --calendar XNYS --export out --workers 8
    """
    from engine.runtime import run as runtime
    from engine.runtime.options import CalendarMap, LoadOptions
    from engine.runtime.refused_rows import sources_over
    from engine.sources.options import ReadOptions

    given: dict[str, Any] = {
        "format": source_format,
        "layout": layout,
        "symbol_from": symbol_from,
        "scale": scale,
        "timezone": timezone,
        "stamp": stamp,
        "shift": shift,
        "align": align,
        "unit": unit,
        "symbol": symbol,
        "time_format": time_format,
        "delimiter": delimiter,
        "skip_rows": skip_rows,
        "decimal": decimal,
        "thousands": thousands,
        "null": split_list(null),
        "ignore": split_list(ignore),
        "interval": interval,
        "columns": parse_column_pairs(columns),
        "symbols": split_selection("--symbols", symbols),
        "price_types": split_selection("--price-type", price_type),
        "allow_non_positive": allow_non_positive,
    }
    most_rejects = parse_share("max-rejects", max_rejects)
    base = ReadOptions.from_toml(options) if options else ReadOptions()
    chosen = LoadOptions(
        calendars=CalendarMap.from_toml(calendar_map, calendar) if calendar_map else CalendarMap(calendar),
        interval=parse_interval(interval),
        derive=tuple(parse_intervals(derive)),
        dates=(parse_date("start", start), parse_date("end", end)),
        segments=split_list(segments),
        auctions=auctions,  # type: ignore[arg-type] # LoadOptions refuses others
        daily_segments=daily_segments,  # type: ignore[arg-type]
        align=align,  # type: ignore[arg-type]
        keep_source=keep_source,
        as_of=parse_instant(as_of),
        incomplete=incomplete,  # type: ignore[arg-type]
        read=override_options(base, given),
    )
    with progress(enabled=not as_json) as tell:
        outcome = (
            runtime.run(sources, chosen, export, tell)
            if workers is None and dask is None
            else run_in_partitions(sources, chosen, export, workers, dask, resume=resume, tell=tell)
        )
    if export is not None:
        remove_outdated_records(export)
    print_run(outcome, export, as_json=as_json, most_rejects=most_rejects, show_all=show_all)
    if any(not problem.ignored for problem in outcome.loaded.problems):
        raise typer.Exit(PARTLY_READ)
    if sources_over(outcome.loaded.refused, most_rejects):
        raise typer.Exit(MANY_REJECTS)


@app.command()
def demo(
    export: Annotated[Path, typer.Option(help="Where the files and the dataset go.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Simulate sessions with planned faults, run the engine on them; exit code 1 if it finds other faults than planned.

    Example: engine demo --export out/demo
    """
    from engine.runtime.demo import demonstrate

    with progress(enabled=not as_json) as tell:
        shown = demonstrate(export, seed, tell)
    if as_json:
        print_json(shown.as_dict())
    else:
        print_run(shown.outcome, shown.dataset, as_json=False)
        print_frame("Planned faults against what was found", shown.comparison)
        print_frame("Planned stretches without bars, and what the audit says of them", shown.causes)
        print_line(f'\nengine sql {shown.dataset} "{shown.question}"')
        print_frame("", shown.answer)
        print_line(f"\nthe audit's report: {shown.report}")
    if not shown.agrees:
        raise typer.Exit(1)


def run_in_partitions(
    sources: list[Path],
    options: LoadOptions,
    export: Path | None,
    workers: int | None,
    dask: str | None,
    *,
    resume: bool,
    tell: Progress,
) -> PartitionedResult:
    """Run in workers; `EXPORT.parts` is deleted before (unless `resume`) and after success; export is required.

    That of an export in a store is in the current folder.
    """
    import shutil

    from engine.arguments import location_of, refuse_foreign_folder
    from engine.errors import EngineError, ParameterError
    from engine.export.share_place import SHARES, remove_abandoned_shares
    from engine.export.target_folder import check_target
    from engine.runtime.executor import choose_executor
    from engine.runtime.partitioned_run import run_partitioned
    from engine.storage import ObjectPath

    if export is None:
        raise ParameterError(
            "export: none given; --workers and --dask need --export DIR: it is where workers write their files"
        )
    target = location_of("export", export).absolute()
    beside = Path.cwd() if isinstance(target, ObjectPath) else target.parent
    work = beside / f"{target.name}.parts"
    if resume:
        refuse_foreign_folder("--resume", work)
    else:
        shutil.rmtree(work, ignore_errors=True)
        if not isinstance(target, ObjectPath):
            check_target(target)  # another folder may have one of that name
            remove_abandoned_shares(target)
    try:
        outcome = run_partitioned(sources, options, target, choose_executor(workers, dask), work, tell)
    except EngineError:
        if work.is_dir():
            files = "" if isinstance(target, ObjectPath) else f" and {target / SHARES}"
            write_error(f"engine: {work}{files} stay for --resume; a run without it removes them\n")
        raise
    # Kept while anything can fail, so that it need not be done again.
    shutil.rmtree(work, ignore_errors=True)
    return outcome


def remove_outdated_records(export: Path) -> None:
    """Delete `EXPORT.parts` of a killed run with workers whose files a later export has removed; local exports alone."""
    import shutil

    from engine.arguments import location_of
    from engine.export.share_place import SHARES
    from engine.runtime.partitioned_run import RUN
    from engine.storage import ObjectPath

    target = location_of("export", export).absolute()
    if isinstance(target, ObjectPath):
        return
    work = target.with_name(f"{target.name}.parts")
    name = work / RUN
    if name.is_file() and not (target / SHARES / name.read_text()).exists():
        shutil.rmtree(work, ignore_errors=True)


def print_run(
    outcome: RunResult | PartitionedResult,
    export: Path | None,
    *,
    as_json: bool,
    most_rejects: float = 1.0,
    show_all: bool = False,
) -> None:
    """Print worst series and sessions, calendars, counts, notes, refused rows, unreadable files of a run; or all as JSON.

    Files with more refused rows than the share `most_rejects` are named one by one. With `show_all` no series, note or
    reason is left out.
    """
    from dataclasses import asdict

    from engine.report.summary_tables import worst_series
    from engine.runtime.refused_rows import describe_refused, describe_sources_over

    loaded = outcome.loaded
    # In an order of their own: workers are done in any.
    problems = sorted((p.path, p.reason) for p in loaded.problems if not p.ignored)
    too_many = describe_sources_over(loaded.refused, most_rejects)
    unread = [f"{path}: {why}" for path, why in problems]
    if is_quiet() and not as_json:  # nothing else would be printed
        print_problems("too many rows refused", too_many)
        print_problems("could not be read", unread)
        return
    summary = outcome.summary()
    series, bad = summary.series, summary.worst
    counted = {
        "files": loaded.files,
        "rows": loaded.rows,
        "duplicates": loaded.duplicates,
        "corrections": loaded.corrections,
        "rejected": loaded.rejected,
        "outside_sessions": loaded.outside_sessions,
        "derived_bars": outcome.derived,
        "export": export and str(export),
        "export_revision": outcome.export_revision,
    }
    notes = sorted(loaded.notes)
    if as_json:
        print_json(
            {
                **counted,
                "calendars": summary.calendars.to_dicts(),
                "series": series.to_dicts(),
                "worst": bad.to_dicts(),
                "notes": notes,
                "refused": [asdict(one) for one in sorted(loaded.refused, key=lambda one: (one.source, one.reason))],
                "problems": [{"path": path, "reason": why} for path, why in problems],
            }
        )
        return
    shown = series if show_all else worst_series(series)
    is_cut = shown.height < series.height
    print_frame(
        f"The worst {shown.height} of {series.height:,} series (--all: every one)" if is_cut else "Series", shown
    )
    if bad.height:
        print_frame("Worst sessions", bad)
    for row in summary.calendars.iter_rows(named=True):
        print_line(f"calendar {row['calendar']}: {row['provider']} {row['version']}, {row['time_zone']}")
    print_line(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counted.items() if value is not None))
    merged, refused = merge_notes(notes), describe_refused(loaded.refused)
    print_list("note", merged, *([len(merged)] if show_all else []))
    for line in correction_lines("; ".join(note for note in notes if "mark ends: --stamp" in note)):
        print_line(line.rstrip())
    print_list("refused", refused, *([len(refused)] if show_all else []))
    print_problems("too many rows refused", too_many)
    print_problems("could not be read", unread)
