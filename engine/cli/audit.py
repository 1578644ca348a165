"""`engine audit`."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.
# ruff: noqa: PLC0415

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.app import AsJson, app
from engine.cli.show import print_frame, print_json, print_line, progress
from engine.cli.words import date, instant, interval_of, pairs, with_given, words

if TYPE_CHECKING:
    from engine.runtime.executor import Executor


@app.command()
def audit(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Files, folders, Parquet tables, an export.")
    ],
    calendar: Annotated[
        str | None, typer.Option(help="Calendar code (see `engine calendars`), or a TOML file.")
    ] = None,
    calendar_map: Annotated[Path | None, typer.Option(help="TOML with calendars by symbol pattern.")] = None,
    interval: Annotated[
        str | None, typer.Option(help="Base interval; default 1m where there is one, else the finest.")
    ] = None,
    symbols: Annotated[str | None, typer.Option(help="Keep only these, by comma.")] = None,
    start: Annotated[str | None, typer.Option(help="First trade date, YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option(help="Last trade date, YYYY-MM-DD, included.")] = None,
    segments: Annotated[
        str | None, typer.Option(help="Expected segments: RTH, PRE, POST, OVERNIGHT ... by comma.")
    ] = None,
    source_format: Annotated[
        str | None, typer.Option("--format", help="csv, ndjson, parquet, lean or dbn, whatever it looks like.")
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="Zone of stamps that carry none.")] = None,
    stamp: Annotated[str | None, typer.Option(help="What a stamp marks: start, end or end-inclusive.")] = None,
    align: Annotated[str | None, typer.Option(help="Where bars begin: session, clock or date.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of numeric stamps: s, ms, us or ns.")] = None,
    columns: Annotated[str | None, typer.Option(help="Mapping of columns: ts=Date,close=Last or ts=1,open=2.")] = None,
    options: Annotated[Path | None, typer.Option(help="TOML with read options.")] = None,
    allow_non_positive: Annotated[bool, typer.Option(help="Prices of zero and below are real.")] = False,  # noqa: FBT002
    as_of: Annotated[str | None, typer.Option(help="Judge as of this instant (ISO 8601 with zone).")] = None,
    no_evidence: Annotated[  # noqa: FBT002
        bool, typer.Option("--no-evidence", help="Leave out ticks and finer bars, which tell what happened in gaps.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report, the tables and the work that is resumed.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with what an interrupted audit left in --output.")] = False,  # noqa: FBT002
    workers: Annotated[int | None, typer.Option(help="Processes; default: this one.")] = None,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, or `local`.")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Say what is missing, why, and what else is wrong, over a whole folder of data.

    Example: engine audit lean/equity/usa/minute --calendar XNYS --output audit
    """
    from engine.audit.kept import keep
    from engine.runtime import auditor
    from engine.runtime.load import CalendarMap, LoadOptions
    from engine.sources.options import ReadOptions

    given: dict[str, Any] = {
        "format": source_format, "timezone": timezone, "stamp": stamp, "align": align, "unit": unit, "interval": interval,
        "columns": pairs(columns), "symbols": words(symbols), "allow_non_positive": allow_non_positive,
    }  # fmt: skip
    chosen = LoadOptions(
        calendars=CalendarMap.from_toml(calendar_map, calendar) if calendar_map else CalendarMap(calendar),
        interval=interval_of(interval),
        dates=(date("start", start), date("end", end)),
        segments=words(segments),
        align=align,  # type: ignore[arg-type]
        keep_source=not no_evidence,
        as_of=instant(as_of),
        read=with_given(ReadOptions.from_toml(options) if options else ReadOptions(), given),
    )
    with progress(enabled=not as_json) as tell:
        done = auditor.audit(
            sources, chosen, work=_work(output, resume=resume), executor=_executor(workers, dask), progress=tell
        )
    if output is not None:
        keep(done.tables, output)
    _show(done, as_json=as_json)


def _executor(workers: int | None, dask: str | None) -> Executor:
    from engine.runtime.executor import Dask, Here, Processes

    if dask is not None:
        return Dask(dask, workers)
    return Here() if workers is None else Processes(workers)


def _work(output: Path | None, *, resume: bool) -> Path | None:
    import shutil

    if output is None:
        return None
    work = output / ".work"
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    return work


def _show(done: Any, *, as_json: bool) -> None:  # noqa: ANN401 - runtime.auditor.Audit
    import polars as pl

    tables = done.tables
    if as_json:
        print_json(
            {name: rows.to_dicts() for name, rows in tables.items() if name not in ("gaps", "quality", "strips")}
        )
        return
    causes = (
        tables["gaps"]
        .group_by("cause")
        .agg(pl.len().alias("gaps"), pl.col("bar_count").sum().alias("missing"))
        .sort("missing", descending=True)
    )
    print_frame(
        "Series",
        tables["series"]
        .select(
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
        .sort("quality_adjusted"),
    )
    print_frame("Why bars are missing", causes)
    print_frame(
        "Findings",
        tables["findings"].select("severity", "check", "symbol", "session", "count", "message", "evidence").head(30),
    )
    print_line(f"{done.rows:,} rows of {done.files:,} files; {tables['findings'].height} findings")
