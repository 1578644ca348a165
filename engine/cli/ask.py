"""`engine sql`, `gaps`, `quality`, `export`, `calendars`: what is in an export."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.
# ruff: noqa: PLC0415

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.app import AsJson, Export, app
from engine.cli.show import print_frame, print_line, print_rows
from engine.cli.words import date, interval_of, usage, words

if TYPE_CHECKING:
    import polars as pl


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
        print_frame("", result)
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
    print_rows(f"{found.height} gaps, {found['bar_count'].sum()} bars missing", shown, limit, as_json=as_json)


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
    print_rows(f"{found.height} sessions of series", found, limit, as_json=as_json)


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
        raise usage(f"--to: received {to!r}; valid: {', '.join(writers)}")
    writers[to](
        open_dataset(out),
        output,
        symbols=words(symbols) or None,
        start=date("start", start),
        end=date("end", end),
        intervals=words(interval) or None,
    )
    print_line(f"{to} written to {output}")


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
        print_rows("calendars", calendar_codes(), 0, as_json=as_json)
        return
    one = calendar(code)
    first = date("start", start) or WallClock().now().date() - dt.timedelta(days=7)
    segments = one.segments(first, date("end", end) or first + dt.timedelta(days=14))
    shown = segments.with_columns(
        segments["segment_open"].dt.convert_time_zone(one.zone).dt.strftime("%Y-%m-%d %H:%M:%S %Z").alias("opens"),
        segments["segment_close"].dt.convert_time_zone(one.zone).dt.strftime("%Y-%m-%d %H:%M:%S %Z").alias("closes"),
    ).select("session", "segment", "opens", "closes", "segment_open", "segment_close")
    print_rows(
        f"{one.code}: {one.provider} {one.version}, {one.zone}, {', '.join(one.labels)}", shown, 0, as_json=as_json
    )


def _table(
    out: Path, name: str, symbols: str | None, interval: str | None
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    import polars as pl

    from engine.export.dataset import open_dataset

    dataset = open_dataset(out)
    tables = {table: dataset.scan(table).collect() for table in (name, "symbols", "calendars")}
    found = tables[name]
    if symbols:
        found = found.filter(pl.col("symbol").is_in(words(symbols)))
    if interval:
        return found.filter(pl.col("interval") == str(interval_of(interval))), tables
    base = tables["symbols"].select("symbol", pl.col("base_interval").alias("interval"))
    return found.join(base, on=["symbol", "interval"], how="semi", maintain_order="left"), tables
