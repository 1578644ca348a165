"""The command line: arguments to the public API, results to text or JSON. No logic of its own.

Exit codes: 0 fine; 1 an unexpected failure; 2 bad input or usage; 3 done, but some files could not be read;
130 interrupted.
"""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.
# ruff: noqa: PLC0415

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from engine.errors import EngineError, ParameterError

if TYPE_CHECKING:
    import polars as pl

    from engine.runtime.load import LoadOptions
    from engine.runtime.run import Outcome

PARTLY_READ = 3
INTERRUPTED = 130
USAGE = 2
PIPE_WIDTH = 10_000

app = typer.Typer(
    help="Session-true bars, stored gaps, per-bar completeness and SQL for intraday market data.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
Export = Annotated[Path, typer.Argument(metavar="OUT", help="A folder that --export wrote.")]


@app.command()
def run(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Files, or folders that are searched.")],
    calendar: Annotated[
        str | None, typer.Option(help="Calendar code (see `engine calendars`), or a TOML file.")
    ] = None,
    calendar_map: Annotated[Path | None, typer.Option(help="TOML with calendars by symbol pattern.")] = None,
    interval: Annotated[
        str | None, typer.Option(help="Base interval; default 1m where there is one, else the finest.")
    ] = None,
    derive: Annotated[str, typer.Option(help="Derived intervals.")] = "5m,15m,1h,1d",
    symbols: Annotated[str | None, typer.Option(help="Keep only these, by comma.")] = None,
    price_type: Annotated[str | None, typer.Option(help="Keep only these series: last,bid,ask,mid.")] = None,
    start: Annotated[str | None, typer.Option(help="First trade date, YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option(help="Last trade date, YYYY-MM-DD, included.")] = None,
    segments: Annotated[
        str | None, typer.Option(help="Expected segments: RTH, PRE, POST, OVERNIGHT ... by comma.")
    ] = None,
    source_format: Annotated[
        str | None, typer.Option("--format", help="csv, parquet, lean or dbn, whatever it looks like.")
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="Zone of stamps that carry none.")] = None,
    stamp: Annotated[str | None, typer.Option(help="What a stamp marks: start, end or end-inclusive.")] = None,
    align: Annotated[str | None, typer.Option(help="Where bars begin: session, clock or date.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of numeric stamps: s, ms, us or ns.")] = None,
    columns: Annotated[str | None, typer.Option(help="Mapping of columns: ts=Date,close=Last or ts=1,open=2.")] = None,
    options: Annotated[Path | None, typer.Option(help="TOML with read options.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Symbol of files that do not tell theirs.")] = None,
    incomplete: Annotated[str, typer.Option(help="Bars of windows that lack slots: flag or drop.")] = "flag",
    keep_source: Annotated[bool, typer.Option(help="Keep other resolutions as series beside the base.")] = False,  # noqa: FBT002
    allow_non_positive: Annotated[bool, typer.Option(help="Prices of zero and below are real.")] = False,  # noqa: FBT002
    as_of: Annotated[str | None, typer.Option(help="Judge as of this instant (ISO 8601 with zone).")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the dataset to this folder.")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Read vendor files, derive bars, find gaps, judge quality, export.

    Example: engine run lean/equity/usa/minute --calendar XNYS --export out
    """
    from engine.runtime import run as runtime
    from engine.runtime.load import CalendarMap, LoadOptions
    from engine.sources.options import ReadOptions

    given: dict[str, Any] = {
        "format": source_format, "timezone": timezone, "stamp": stamp, "align": align, "unit": unit, "symbol": symbol,
        "interval": interval, "columns": _pairs(columns), "symbols": _words(symbols), "price_types": _words(price_type),
        "allow_non_positive": allow_non_positive,
    }  # fmt: skip
    base = ReadOptions.from_toml(options) if options else ReadOptions()
    chosen = LoadOptions(
        calendars=CalendarMap.from_toml(calendar_map, calendar) if calendar_map else CalendarMap(calendar),
        interval=_interval(interval),
        derive=tuple(_intervals(derive)),
        dates=(_date("start", start), _date("end", end)),
        segments=_words(segments),
        align=align,  # type: ignore[arg-type]
        keep_source=keep_source,
        as_of=_instant(as_of),
        incomplete=incomplete,  # type: ignore[arg-type]
        read=_with(base, given),
    )
    with _progress(enabled=not as_json) as tell:
        outcome = runtime.run(sources, chosen, export, tell)
    _show_run(outcome, export, chosen, as_json=as_json)
    if any(not problem.ignored for problem in outcome.loaded.problems):
        raise typer.Exit(PARTLY_READ)


@app.command()
def demo(
    export: Annotated[Path, typer.Option(help="Where the files and the dataset go.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 7,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Simulate sessions with known faults, run the main job on them, and compare what was planned with what was found."""
    from engine.runtime.demo import demonstrate

    with _progress(enabled=not as_json) as tell:
        shown = demonstrate(export, seed, tell)
    if as_json:
        _print_json(shown.as_dict())
        return
    _show_run(shown.outcome, shown.dataset, None, as_json=False)
    _print_frame("Planned faults against what was found", shown.comparison)
    _print(f'\nengine sql {shown.dataset} "{shown.question}"')
    _print_frame("", shown.answer)
    if not shown.agrees:
        raise typer.Exit(1)


@app.command()
def sql(
    out: Export,
    query: Annotated[str, typer.Argument(help="One SQL statement.")],
    form: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    output: Annotated[Path | None, typer.Option(help="Write the result to this file.")] = None,
    revision: Annotated[int | None, typer.Option(help="Of the export; default its last.")] = None,
) -> None:
    """Ask an export in SQL; reads only, and only this export.

    Example: engine sql out "SELECT symbol, avg(quality) FROM quality GROUP BY symbol"
    """
    from engine.export.results import to_text, write_result
    from engine.sql import sql as ask

    result = ask(out, query, revision=revision)
    if output is not None:
        write_result(result, output.suffix.removeprefix(".") if form == "table" else form, output)
    elif form == "table":
        _print_frame("", result)
    else:
        sys.stdout.write(to_text(result, form))


@app.command()
def gaps(
    out: Export,
    symbols: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
    interval: Annotated[str | None, typer.Option(help="Default: each symbol's base.")] = None,
    limit: Annotated[int, typer.Option(help="How many rows; 0 for all.")] = 50,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List the gaps of an export, longest first, in the venue's time."""
    from engine.report.tables import venue_time

    found, tables = _table(out, "gaps", symbols, interval)
    zones = tables["symbols"].join(tables["calendars"], on="calendar", how="left").select("symbol", "time_zone")
    found = found.sort(["bar_count", "symbol", "gap_start"], descending=[True, False, False]).join(
        zones, on="symbol", how="left", maintain_order="left"
    )
    shown = found.select(
        "symbol", "price_type", "interval", "session", "segment", venue_time(found, "gap_start").alias("from"),
        venue_time(found, "gap_end").alias("to"), "bar_count", "position", "state",
    )  # fmt: skip
    _print_rows(f"{found.height} gaps, {found['bar_count'].sum()} bars missing", shown, limit, as_json=as_json)


@app.command()
def quality(
    out: Export,
    symbols: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
    interval: Annotated[str | None, typer.Option(help="Default: each symbol's base.")] = None,
    limit: Annotated[int, typer.Option(help="How many rows; 0 for all.")] = 50,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List the quality of an export per symbol and session, worst first."""
    found, _ = _table(out, "quality", symbols, interval)
    found = found.sort(["quality", "symbol", "price_type", "session"], nulls_last=True)
    _print_rows(f"{found.height} sessions of series", found, limit, as_json=as_json)


@app.command("export")
def export_files(
    out: Export,
    to: Annotated[str, typer.Option(help="json or csv.")],
    output: Annotated[Path, typer.Option(help="Folder for the files.")],
    symbols: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
    start: Annotated[str | None, typer.Option(help="First trade date.")] = None,
    end: Annotated[str | None, typer.Option(help="Last trade date, included.")] = None,
    interval: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
) -> None:
    """Write an export as files for people: the session as JSON, or every table as CSV."""
    from engine.export.dataset import open_dataset
    from engine.export.formats import write_csv, write_json

    writers = {"json": write_json, "csv": write_csv}
    if to not in writers:
        raise _usage(f"--to: received {to!r}; valid: {', '.join(writers)}")
    writers[to](
        open_dataset(out),
        output,
        symbols=_words(symbols) or None,
        start=_date("start", start),
        end=_date("end", end),
        intervals=_words(interval) or None,
    )
    _print(f"{to} written to {output}")


@app.command()
def calendars(
    code: Annotated[str | None, typer.Argument(help="A code, or a TOML file; without one, all codes.")] = None,
    start: Annotated[str | None, typer.Option(help="First trade date.")] = None,
    end: Annotated[str | None, typer.Option(help="Last trade date.")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List the calendars that can be named, or show one with its segments."""
    from engine.calendars import calendar, calendar_codes
    from engine.clock import WallClock

    if code is None:
        _print_rows("calendars", calendar_codes(), 0, as_json=as_json)
        return
    one = calendar(code)
    first = _date("start", start) or WallClock().now().date() - dt.timedelta(days=7)
    segments = one.segments(first, _date("end", end) or first + dt.timedelta(days=14))
    shown = segments.with_columns(
        segments["segment_open"].dt.convert_time_zone(one.zone).dt.strftime("%Y-%m-%d %H:%M:%S %Z").alias("opens"),
        segments["segment_close"].dt.convert_time_zone(one.zone).dt.strftime("%Y-%m-%d %H:%M:%S %Z").alias("closes"),
    ).select("session", "segment", "opens", "closes", "segment_open", "segment_close")
    _print_rows(
        f"{one.code}: {one.provider} {one.version}, {one.zone}, {', '.join(one.labels)}", shown, 0, as_json=as_json
    )


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,  # noqa: FBT002
) -> None:
    if version:
        from engine import __version__

        _print(f"engine {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: runs a command; errors of this package end in one paragraph and exit code 2."""
    try:
        app()
    except EngineError as error:
        sys.stderr.write(f"engine: {error}\n")
        raise SystemExit(USAGE) from error
    except KeyboardInterrupt:
        sys.stderr.write("engine: interrupted\n")
        raise SystemExit(INTERRUPTED) from None


def _show_run(outcome: Outcome, export: Path | None, options: LoadOptions | None, *, as_json: bool) -> None:
    from engine.report.tables import by_series, worst

    snapshot = outcome.session.snapshot()
    tables = {
        name: frame for name, frame in snapshot.tables().items() if name in ("quality", "gaps", "symbols", "calendars")
    }
    series = by_series(tables["quality"], tables["gaps"], tables["symbols"])
    bad = worst(tables["quality"], tables["gaps"], tables["symbols"], tables["calendars"])
    loaded = outcome.loaded
    counted = {
        "files": loaded.files, "rows": loaded.rows, "duplicates": loaded.duplicates, "corrections": loaded.corrections,
        "rejected": loaded.rejected, "derived_bars": outcome.derived, "export": export and str(export),
        "export_revision": outcome.export_revision,
    }  # fmt: skip
    problems = [(p.path, p.reason) for p in loaded.problems if not p.ignored]
    if as_json:
        _print_json({
            **counted, "calendars": tables["calendars"].to_dicts(), "series": series.to_dicts(), "worst": bad.to_dicts(),
            "notes": list(loaded.notes), "problems": [{"path": path, "reason": why} for path, why in problems],
        })  # fmt: skip
        return
    del options
    _print_frame("Series", series)
    if bad.height:
        _print_frame("Worst sessions", bad)
    for row in tables["calendars"].iter_rows(named=True):
        _print(f"calendar {row['calendar']}: {row['provider']} {row['version']}, {row['time_zone']}")
    _print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counted.items() if value is not None))
    _print_list("note", _together(loaded.notes))
    _print_list("could not be read", [f"{path}: {why}" for path, why in problems])


def _table(
    out: Path, name: str, symbols: str | None, interval: str | None
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    import polars as pl

    from engine.export.dataset import open_dataset

    dataset = open_dataset(out)
    tables = {table: dataset.scan(table).collect() for table in (name, "symbols", "calendars")}
    found = tables[name]
    if symbols:
        found = found.filter(pl.col("symbol").is_in(_words(symbols)))
    if interval:
        return found.filter(pl.col("interval") == str(_interval(interval))), tables
    base = tables["symbols"].select("symbol", pl.col("base_interval").alias("interval"))
    return found.join(base, on=["symbol", "interval"], how="semi", maintain_order="left"), tables


def _print_rows(title: str, frame: pl.DataFrame, limit: int, *, as_json: bool) -> None:
    shown = frame.head(limit) if limit else frame
    if as_json:
        _print_json(shown.to_dicts())
        return
    _print_frame(title, shown)
    if shown.height < frame.height:
        _print(f"{frame.height - shown.height} more; --limit 0 shows all")


def _print_frame(title: str, frame: pl.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Cells are data, not markup: a symbol may hold brackets or control characters.
    table = Table(title=Text(title) if title else None, title_justify="left", header_style="bold")
    for name, dtype in frame.schema.items():
        table.add_column(Text(name), justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in frame.iter_rows():
        table.add_row(*(Text(_cell(value)) for value in row))
    # A pipe has no width to fit: columns are never squeezed there.
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.6g}"
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def _together(notes: Iterable[str]) -> list[str]:
    """Notes that say the same of several files, once."""
    places: dict[str, list[str]] = {}
    for note in notes:
        place, _, text = note.partition(": ")
        places.setdefault(text or place, []).append(place)
    return [
        f"{where[0]}: {text}" + (f" (and {len(where) - 1} more like it)" if len(where) > 1 else "")
        for text, where in places.items()
    ]


def _print_list(what: str, lines: Any, most: int = 12) -> None:  # noqa: ANN401 - any sequence of text
    for line in lines[:most]:
        _print(f"{what}: {line}")
    if len(lines) > most:
        _print(f"{what}: {len(lines) - most} more; --json lists all")


def _print(text: str) -> None:
    sys.stdout.write("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text) + "\n")


def _print_json(content: object) -> None:
    import orjson

    text = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str)
    sys.stdout.write(text.decode() + "\n")


class _progress:  # noqa: N801 - used as a function
    """A bar on standard error while files are read; nothing where nobody watches."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled and sys.stderr.isatty()

    def __enter__(self) -> Any:  # noqa: ANN401 - runtime.load.Progress or None
        if not self._enabled:
            return None
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("reading"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("reading")
        self._bar.start()
        return lambda done, total, _: self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> Literal[False]:
        if self._enabled:
            self._bar.stop()
        return False


def _usage(text: str) -> EngineError:
    return ParameterError(text)


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _pairs(text: str | None) -> dict[str, str | int]:
    pairs: dict[str, str | int] = {}
    for word in _words(text):
        ours, equals, theirs = word.partition("=")
        if not equals or not theirs:
            raise _usage(
                f"--columns: received {word!r}; valid: our name = theirs, as in ts=Date,close=Last or ts=1,close=5"
            )
        pairs[ours] = int(theirs) if theirs.isdecimal() else theirs
    return pairs


def _date(name: str, text: str | None) -> dt.date | None:
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise _usage(f"--{name}: received {text!r}; valid: a date as YYYY-MM-DD") from error


def _instant(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        instant = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise _usage(f"--as-of: received {text!r}; valid: 2024-01-02T15:30:00+00:00") from error
    if instant.tzinfo is None:
        raise _usage(f"--as-of: received {text!r}, which has no zone; valid: 2024-01-02T15:30:00+00:00")
    return instant


def _interval(text: str | None) -> Any:  # noqa: ANN401 - engine.interval.Interval or None
    from engine.interval import Interval

    return None if text is None else Interval.parse(text)


def _intervals(text: str) -> list[Any]:
    return [_interval(word) for word in _words(text)]


def _with(base: Any, given: dict[str, Any]) -> Any:  # noqa: ANN401 - engine.sources.options.ReadOptions
    from dataclasses import replace

    return replace(base, **{name: value for name, value in given.items() if value not in (None, (), {}, False)})
