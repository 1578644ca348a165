"""`engine audit`."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.app import AsJson, app
from engine.cli.console import print_data, print_frame, print_line, progress
from engine.cli.parsing import (
    override_options,
    parse_column_pairs,
    parse_date,
    parse_instant,
    parse_interval,
    split_list,
    split_selection,
    usage_error,
)
from engine.cli.source_options import (
    Alignment,
    AsOf,
    AuctionPrints,
    Base,
    Calendar,
    CalendarPatterns,
    Columns,
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
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.audit.verdict import Verdict
    from engine.runtime.audit_report import Audit

MOST_SERIES, MOST_FINDINGS, MOST_NAMES = 20, 12, 30


@app.command()
def audit(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...", help="Files, folders, Parquet tables (also s3://...), an export."),
    ],
    calendar: Calendar = None,
    calendar_map: CalendarPatterns = None,
    interval: Base = None,
    symbols: Symbols = None,
    start: FirstDate = None,
    end: LastDate = None,
    segments: Segments = None,
    auctions: AuctionPrints = "in",
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
    allow_non_positive: NonPositive = None,
    as_of: AsOf = None,
    no_evidence: Annotated[
        bool, typer.Option("--no-evidence", help="Leave out ticks and finer bars, which tell what happened in gaps.")
    ] = False,
    halts: Annotated[
        list[Path] | None,
        typer.Option(help="File of trading halts (Nasdaq, NYSE, Cboe, DBN status, your CSV); may be repeated."),
    ] = None,
    incidents: Annotated[
        list[Path] | None,
        typer.Option(help="File of incidents of a venue or vendor, as an audit proposes them; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report, the tables and the work that is resumed.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with what an interrupted audit left in --output.")] = False,
    rules: Annotated[Path | None, typer.Option(help="TOML with rules (see `engine rules`).")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="audit.json of an earlier audit: only what is new or worse fails.")
    ] = None,
    allow: Annotated[Path | None, typer.Option(help="TOML with findings that are accepted, and until when.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    github: Annotated[bool, typer.Option(help="Print GitHub annotations.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; default: this one.")] = None,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, or `local`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Audit a folder of data: missing bars with their causes, and every other finding. Exit code 1 if rules fail.

    Exit codes: 0 nothing fails, 1 findings at or over the threshold of the rules, 2 bad input.

    Example: engine audit lean/equity/usa/minute --calendar XNYS --output audit
    """
    from engine.audit.verdict import apply_rules
    from engine.runtime import auditor
    from engine.runtime.executor import choose_executor
    from engine.runtime.options import CalendarMap, LoadOptions
    from engine.sources.event_files import read_events
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
        "interval": interval,
        "symbol": symbol,
        "time_format": time_format,
        "delimiter": delimiter,
        "skip_rows": skip_rows,
        "decimal": decimal,
        "thousands": thousands,
        "null": split_list(null),
        "ignore": split_list(ignore),
        "columns": parse_column_pairs(columns),
        "symbols": split_selection("--symbols", symbols),
        "allow_non_positive": allow_non_positive,
    }
    chosen = LoadOptions(
        calendars=CalendarMap.from_toml(calendar_map, calendar) if calendar_map else CalendarMap(calendar),
        interval=parse_interval(interval),
        dates=(parse_date("start", start), parse_date("end", end)),
        segments=split_list(segments),
        auctions=auctions,  # type: ignore[arg-type] # LoadOptions refuses others
        align=align,  # type: ignore[arg-type]
        keep_source=not no_evidence,
        as_of=parse_instant(as_of),
        read=override_options(ReadOptions.from_toml(options) if options else ReadOptions(), given),
    )
    standards = read_standards(rules, baseline, allow)
    zone = chosen.read.timezone
    reported = read_events(halts, incidents, None if zone is None else str(zone))
    with progress(enabled=not as_json, doing="auditing") as tell:
        work = resume_folder(output, resume=resume)
        try:
            done = auditor.audit(
                sources,
                chosen,
                work=work,
                executor=choose_executor(workers, dask),
                progress=tell,
                strips=output is not None,
                reported=reported,
            )
        except BaseException as error:
            # After an error of ours the input is to be mended first: there is nothing to go on with.
            if work is not None and (isinstance(error, EngineError) or not any(work.iterdir())):
                remove_work(work)
            raise
    verdict = apply_rules(done.tables, **standards)
    if output is not None:
        write_report(done, verdict, sources, output)
    write_verdicts(verdict, junit, github=github)
    print_audit(done, verdict, output, as_json=as_json)
    raise typer.Exit(verdict.exit_code)


def read_standards(rules: Path | None, baseline: Path | None, allow: Path | None) -> dict[str, Any]:
    """Dict of rules (None: defaults), baseline (None: None), allowlist (None: ()) read, and today's UTC date."""
    from engine.audit.allowlist import read_allowlist
    from engine.audit.baseline import read_baseline
    from engine.audit.rules import read_rules
    from engine.clock import WallClock

    return {
        "rules": read_rules(rules),
        "today": WallClock().now().date(),
        "baseline": read_baseline(baseline) if baseline else None,
        "allowlist": read_allowlist(allow) if allow else (),
    }


def resume_folder(output: Path | None, *, resume: bool) -> Path | None:
    """Path `output/.work`, created, its content deleted unless `resume`; None without an output.

    Raises
    ------
    ParameterError
        The output is no folder, none that can be written to, or holds work of another user.
    """
    import shutil

    from engine.arguments import refuse_foreign_folder

    if output is None:
        return None
    work = output / ".work"
    if resume:
        refuse_foreign_folder("--resume", work)
    else:
        shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise usage_error(
            f"--output: received {str(output)!r} ({error.strerror}); valid: a folder that can be written to"
        ) from error
    return work


def remove_work(work: Path | None) -> None:
    """Remove the folder of surveys, and the output folder around it where nothing else is in it."""
    import shutil
    from contextlib import suppress

    if work is not None:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):  # it holds something, or is not there
            work.parent.rmdir()


def write_report(done: Audit, verdict: Verdict, sources: list[Path], output: Path) -> None:
    """Write report, verdict and tables of an audit to the output folder; then delete its `.work`."""
    from engine.runtime.audit_report import write_audit

    title = f"Audit of {', '.join(path.name or str(path) for path in sources)}"
    write_audit(done, output, title=title, sources=", ".join(map(str, sources)), verdict=verdict)
    remove_work(output / ".work")  # it is done, and nothing is left to go on with


def write_verdicts(verdict: Verdict, junit: Path | None, *, github: bool) -> None:
    """Write JUnit XML to `junit` if it is given; print GitHub annotations if `github`; neither: nothing."""
    from engine.audit.verdict_formats import render, write_verdict

    if junit is not None:
        write_verdict(verdict, "junit", junit)
    if github:
        print_data(render(verdict, "github").decode())


def print_audit(done: Audit, verdict: Verdict, output: Path | None, *, as_json: bool) -> None:
    """Print (unless quiet) worst series, causes of gaps, findings, the gravest in full, headline; `as_json`: the verdict alone."""
    import polars as pl

    from engine.audit.verdict_formats import render

    if as_json:
        print_data(render(verdict, "json").decode())
        return
    tables = done.tables
    series = tables["series"].select(
        "symbol",
        "price_type",
        "interval",
        "sessions",
        "rows",
        "missing",
        "explained",
        "quality",
        "quality_adjusted",
        "activity",
    )
    causes = tables["gaps"].group_by("cause").agg(pl.len().alias("gaps"), pl.col("bar_count").sum().alias("missing"))
    print_frame(
        "Worst series",
        series.sort("quality_adjusted", "quality", "symbol", "price_type", "interval", nulls_last=True).head(
            MOST_SERIES
        ),
    )
    print_frame("Why bars are missing", causes.sort("missing", "cause", descending=[True, False]))
    print_frame("Findings by check", verdict.summary)
    print_findings(verdict, tables["series"]["symbol"].n_unique())
    for note in verdict.notes:
        print_line(f"note: {note}")
    print_line(f"{done.rows:,} rows of {done.files:,} file{'s' if done.files != 1 else ''}; {verdict.headline}")
    if output is not None:
        print_line(f"{output / 'report.html'}: the report; engine sql {output} asks its tables")


def print_findings(verdict: Verdict, symbols: int) -> None:
    """Print the 12 gravest findings above info in full, each with its evidence and the command that mends it, if one does.

    Where it is not about all `symbols` of the audit, the command has those that it is about (`--symbols`), if these are few.
    """
    import polars as pl

    from engine.cli.exit_codes import correction_lines

    grave = verdict.findings.filter(pl.col("severity") != "info")
    for row in grave.head(MOST_FINDINGS).iter_rows(named=True):
        place = " ".join(str(one) for one in (row["symbol"], row["price_type"], row["session"]) if one is not None)
        state = "" if row["state"] == "new" else f" ({row['state']})"
        print_line(f"{row['severity']} {row['check_name']}{state}{' ' if place else ''}{place}: {row['message']}")
        own = verdict.parts.filter((pl.col("finding") == row["fingerprint"]) & (pl.col("role") == "part"))["symbol"]
        names = [row["symbol"]] if row["symbol"] is not None else sorted(own.drop_nulls().unique())
        option = (row["remedy"] or "").partition(" (")[0]
        some = f" --symbols {','.join(names)}" if option and len(names) < symbols else ""
        commands = [] if len(names) > MOST_NAMES and some else correction_lines(option + some if "--" in option else "")
        said = [("why", row["evidence"]), ("remedy", None if commands else row["remedy"])]
        for name, text in said:
            if text:
                print_line(f"    {name}: {text}")
        for line in commands:
            print_line(f"    {line.rstrip()}")
    if grave.height > MOST_FINDINGS:
        print_line(f"{grave.height - MOST_FINDINGS} more findings above info; --json and the table findings list all")
