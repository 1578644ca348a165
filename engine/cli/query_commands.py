"""Commands that read an export: `engine sql`, `gaps`, `quality`, `export`, `calendars`, `layouts`."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from engine.cli.app import AsJson, Export, app
from engine.cli.console import print_line, print_rows, print_text
from engine.cli.parsing import check_limit, parse_date, split_selection, usage_error

if TYPE_CHECKING:
    import polars as pl

    from engine.calendars.providers import SessionCalendar

SpreadsheetSafe = Annotated[
    bool, typer.Option(help="CSV: a ' before text that a spreadsheet would take for a formula.")
]


@app.command()
def sql(
    out: Export,
    query: Annotated[
        str | None, typer.Argument(help="One statement; without it, a prompt, or statements on stdin.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv, json, ndjson, parquet or arrow.")] = "table",
    output: Annotated[Path | None, typer.Option(help="Write the result to this file.")] = None,
    revision: Annotated[int | None, typer.Option(help="Of the export; default its last.")] = None,
    as_of: Annotated[str | None, typer.Option(help="The revision of this instant (ISO 8601 with zone).")] = None,
    audit: Annotated[
        Path | None, typer.Option(help="An audit's folder: its tables join as audit_findings, audit_gaps ...")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="How many rows; 0 for all. Default: 50 in tables, else all.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that a query may run.")] = 60.0,
    memory: Annotated[str, typer.Option(help="What a query may take.")] = "2GB",
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """Query an export or an audit with SQL (read-only). Without a query: a prompt, or the statements of standard input.

    Example: engine sql out "SELECT symbol, avg(quality) FROM quality GROUP BY symbol"
    """
    from engine.cli.sql_command import run_sql

    run_sql(
        out,
        query,
        form=form,
        output=output,
        revision=revision,
        as_of=as_of,
        audit=audit,
        limit=limit,
        timeout=timeout,
        memory=memory,
        spreadsheet_safe=spreadsheet_safe,
    )


@app.command()
def gaps(
    out: Export,
    symbols: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
    interval: Annotated[str | None, typer.Option(help="Default: each symbol's base.")] = None,
    limit: Annotated[int, typer.Option(help="How many rows; 0 for all.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the gaps of an export at base intervals (or --interval), most missing bars first, in the venue's time.

    Example: engine gaps out --symbols SPY,QQQ --limit 10
    """
    from engine.report.summary_tables import venue_time

    check_limit(limit)
    found, tables = read_selected_table(out, "gaps", symbols, interval)
    zones = tables["symbols"].join(tables["calendars"], on="calendar", how="left").select("symbol", "time_zone")
    found = found.sort(["bar_count", "symbol", "gap_start"], descending=[True, False, False]).join(
        zones, on="symbol", how="left", maintain_order="left"
    )
    shown = found.select(
        "symbol",
        "price_type",
        "interval",
        "session",
        "segment",
        venue_time(found, "gap_start").alias("from"),
        venue_time(found, "gap_end").alias("to"),
        "bar_count",
        "position",
        "state",
    )
    print_rows(f"{found.height} gaps, {found['bar_count'].sum()} bars missing", shown, limit, as_json=as_json)


@app.command()
def quality(
    out: Export,
    symbols: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
    interval: Annotated[str | None, typer.Option(help="Default: each symbol's base.")] = None,
    limit: Annotated[int, typer.Option(help="How many rows; 0 for all.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the quality of an export per series and session at base intervals (or --interval), worst first.

    Example: engine quality out --interval 1h
    """
    check_limit(limit)
    found, _ = read_selected_table(out, "quality", symbols, interval)
    found = found.sort(["quality", "symbol", "price_type", "session"], nulls_last=True)
    print_rows(f"{found.height} sessions of series", found, limit, as_json=as_json)


@app.command("export")
def export_files(
    out: Export,
    to: Annotated[str, typer.Option(help="json, ndjson, csv, parquet or arrow.")],
    output: Annotated[Path, typer.Option(help="A folder: new, empty, or written by this command before.")],
    symbols: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
    start: Annotated[str | None, typer.Option(help="First trade date.")] = None,
    end: Annotated[str | None, typer.Option(help="Last trade date, included.")] = None,
    interval: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
    revision: Annotated[int | None, typer.Option(help="Of the export; default its last.")] = None,
    as_of: Annotated[str | None, typer.Option(help="The revision of this instant (ISO 8601 with zone).")] = None,
    since: Annotated[int | None, typer.Option(help="What changed after this revision.")] = None,
    consumer: Annotated[
        str | None, typer.Option(help="What changed since this name was last given, and take note.")
    ] = None,
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """Write an export, or its changes (--since, --consumer), as JSON, NDJSON, CSV, Parquet or Arrow files.

    Example: engine export out --to csv --output out-csv --symbols SPY --start 2024-01-02
    """
    from engine.cli.sql_command import revision_of
    from engine.export.dataset import open_dataset
    from engine.export.formats.output_formats import OUTPUT_FORMATS
    from engine.export.formats.session_files import write_files

    if to not in OUTPUT_FORMATS:
        raise usage_error(f"--to: received {to!r}; valid: {', '.join(OUTPUT_FORMATS)}")
    chosen: dict[str, Any] = {
        "symbols": split_selection("--symbols", symbols),
        "start": parse_date("start", start),
        "end": parse_date("end", end),
        "intervals": split_selection("--interval", interval),
        "spreadsheet_safe": spreadsheet_safe,
    }
    revision = revision_of(out, revision, as_of)
    if since is not None or consumer is not None:
        export_delta(out, to, output, (since, revision), consumer, chosen)
        return
    files = write_files(open_dataset(out, revision), to, output, **chosen)
    print_line(f"{len(files)} file{'s' if len(files) != 1 else ''} written to {output} ({to})")


@app.command()
def calendars(
    code: Annotated[str | None, typer.Argument(help="A code, or a TOML file; without one, all codes.")] = None,
    search: Annotated[
        str | None, typer.Option(help="Only codes with these words: a city, country, exchange, index or futures root.")
    ] = None,
    date: Annotated[
        str | None, typer.Option(help="One trade date; where it is none, its neighbours are named.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="First trade date.")] = None,
    end: Annotated[str | None, typer.Option(help="Last trade date.")] = None,
    as_json: AsJson = False,
) -> None:
    """List all calendars, or the segments of one: of --date, or from --start (7 days ago) to --end (14 days later).

    Example: engine calendars XHKG --start 2024-02-05 --end 2024-02-16
    """
    import polars as pl

    from engine.calendars.providers import calendar, calendar_codes
    from engine.calendars.search import search_calendars
    from engine.clock import WallClock

    if search is not None and code is not None:
        raise usage_error(f"--search: received together with {code!r}; valid: one of them")
    if code is None:
        if date is not None or start is not None or end is not None:
            raise usage_error(
                "--date, --start, --end: received without a code; valid: engine calendars CODE --date DATE"
            )
        found = calendar_codes() if search is None else search_calendars(search)
        shown = found if as_json else found.with_columns(pl.col("labels").list.join(", "))
        print_rows("calendars", shown, 0, as_json=as_json)
        return
    if date is not None and (start is not None or end is not None):
        raise usage_error("--date: received together with --start or --end; valid: one date, or a range")
    one = calendar(code)
    first = parse_date("date", date) or parse_date("start", start) or WallClock().now().date() - dt.timedelta(days=7)
    last = first if date is not None else parse_date("end", end) or first + dt.timedelta(days=14)
    segments = one.segments(first, last)
    shown = segments.with_columns(
        segments["segment_open"].dt.convert_time_zone(one.zone).dt.strftime("%Y-%m-%d %H:%M:%S %Z").alias("opens"),
        segments["segment_close"].dt.convert_time_zone(one.zone).dt.strftime("%Y-%m-%d %H:%M:%S %Z").alias("closes"),
    ).select("session", "segment", "opens", "closes", "segment_open", "segment_close")
    if date is not None and shown.is_empty() and not as_json:
        print_text(describe_closed_day(one, first))
        return
    print_rows(
        f"{one.code}: {one.provider} {one.version}, {one.zone}, {', '.join(one.labels)}", shown, 0, as_json=as_json
    )
    if date is not None and not as_json:
        print_interruptions(one, segments)


@app.command()
def layouts(as_json: AsJson = False) -> None:
    """List the vendors' layouts that files are recognized by, or read by with --layout NAME; --json has all of each.

    Example: engine layouts
    """
    from engine.sources.layouts.registry import layout_table

    table = layout_table()
    print_rows("layouts", table if as_json else table.select("name", "title"), 0, as_json=as_json)


def print_interruptions(one: SessionCalendar, segments: pl.DataFrame) -> None:
    """Print a line for each known interruption that overlaps these segments, in the venue's time, with its source."""
    import polars as pl

    first, last = segments["segment_open"].min(), segments["segment_close"].max()
    found = one.interruptions().filter(pl.col("start") < last, pl.col("end") > first)
    for start, end, kind, scope, source in found.iter_rows():
        begins, ends = (at.astimezone(ZoneInfo(one.zone)).strftime("%H:%M:%S %Z") for at in (start, end))
        where = "" if scope == "market" else ", at the exchange alone"
        print_line(f"interrupted: {begins} to {ends}, {kind.replace('_', ' ')}{where} ({source})")


def describe_closed_day(one: SessionCalendar, day: dt.date) -> str:
    """Text: no session on this day (with its weekday), and the nearest trade dates within two months on both sides."""
    months = dt.timedelta(days=62)
    before, after = one.sessions(day - months, day), one.sessions(day, day + months)
    nearest = f"the one before is {before[-1] if len(before) else 'unknown'}, the next {after[0] if len(after) else 'unknown'}"
    return f"{one.code}: no session on {day} ({day:%A}); {nearest}"


def export_delta(
    out: Path,
    to: str,
    output: Path,
    span: tuple[int | None, int | None],
    consumer: str | None,
    chosen: dict[str, Any],
) -> None:
    """Write changes in `span` (since, until; None: 0, last) or since the consumer's cursor; only then move that."""
    from engine.export.cursors import advance_cursor, read_cursor
    from engine.export.delta import read_delta
    from engine.export.formats.session_files import write_delta

    since, until = span
    if since is not None and consumer is not None:
        raise usage_error("--since: received together with --consumer; valid: one of them")
    begin = read_cursor(out, consumer) if consumer is not None else since
    delta = read_delta(out, begin or 0, until)
    write_delta(out, delta, output, to, **chosen)
    if consumer is not None:
        # Only now: a delta that could not be written comes again.
        advance_cursor(out, consumer, delta.until)
    why = f", in full: {delta.reason}" if delta.full else ""
    print_line(f"revision {delta.since} to {delta.until} written to {output}{why}")


def read_selected_table(
    out: Path, name: str, symbols: str | None, interval: str | None
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """(rows of a table for symbols at `interval`, default each one's base; it, symbols, calendars in full by name)."""
    import polars as pl

    from engine.arguments import check_known
    from engine.errors import UnknownSymbolError
    from engine.export.dataset import open_dataset
    from engine.interval import Interval, check_known_intervals

    dataset = open_dataset(out)
    tables = {table: dataset.scan(table).collect() for table in (name, "symbols", "calendars")}
    found = tables[name]
    chosen = split_selection("--symbols", symbols)
    if chosen is not None:
        check_known("--symbols", chosen, tables["symbols"]["symbol"].to_list(), UnknownSymbolError)
        found = found.filter(pl.col("symbol").is_in(chosen))
    if interval is not None:
        step, known = Interval.parse(interval), tables["symbols"].select("base_interval", "derived_intervals")
        texts = {*known["base_interval"], *known["derived_intervals"].explode().drop_nulls(), *tables[name]["interval"]}
        check_known_intervals("--interval", [step], map(Interval.parse, texts), "the export")
        return found.filter(pl.col("interval") == str(step)), tables
    base = tables["symbols"].select("symbol", pl.col("base_interval").alias("interval"))
    return found.join(base, on=["symbol", "interval"], how="semi", maintain_order="left"), tables
