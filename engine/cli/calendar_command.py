"""`engine calendars check`."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.app import AsJson, app
from engine.cli.console import print_json, print_line, progress
from engine.cli.parsing import (
    check_limit,
    override_options,
    parse_column_pairs,
    parse_date,
    parse_interval,
    split_list,
    usage_error,
)
from engine.cli.source_options import (
    Base,
    Calendar,
    CalendarPatterns,
    Columns,
    FirstDate,
    LastDate,
    OneSymbol,
    OptionsFile,
    Shift,
    SourceFormat,
    StampMark,
    SymbolFrom,
    Symbols,
    VendorLayout,
    Zone,
)

if TYPE_CHECKING:
    from engine.runtime.calendar_check import CalendarCheck

MOST_DAYS = 20
KINDS = {
    "no_bars": "no bars at all",
    "early_close": "the bars end early",
    "late_open": "the bars begin late",
    "break": "no bars in between",
    "open_day": "bars on a day without a session",
    "before_open": "bars before the open",
    "after_close": "bars after the close",
    "in_break": "bars in a break",
}


@app.command("calendars check")
def check(
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Files and folders of intraday bars.")],
    calendar: Calendar = None,
    calendar_map: CalendarPatterns = None,
    interval: Base = None,
    symbols: Symbols = None,
    start: FirstDate = None,
    end: LastDate = None,
    source_format: SourceFormat = None,
    layout: VendorLayout = None,
    timezone: Zone = None,
    stamp: StampMark = None,
    shift: Shift = None,
    columns: Columns = None,
    symbol: OneSymbol = None,
    symbol_from: SymbolFrom = None,
    options: OptionsFile = None,
    limit: Annotated[int, typer.Option(help="Days that are shown; 0 for all.")] = MOST_DAYS,
    overrides: Annotated[
        Path | None, typer.Option(help="Write the overrides that make the calendar agree into this TOML file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the days on which data speak against a calendar: bars outside sessions, sessions without bars, early ends.

    Example: engine calendars check data --calendar XLON
    """
    from engine.runtime.calendar_check import check_calendars
    from engine.runtime.options import CalendarMap, LoadOptions
    from engine.sources.options import ReadOptions

    check_limit(limit)
    given = {
        "format": source_format,
        "layout": layout,
        "timezone": timezone,
        "stamp": stamp,
        "shift": shift,
        "columns": parse_column_pairs(columns),
        "symbols": split_list(symbols),
        "symbol": symbol,
        "symbol_from": symbol_from,
    }
    chosen = LoadOptions(
        calendars=CalendarMap.from_toml(calendar_map, calendar) if calendar_map else CalendarMap(calendar),
        interval=parse_interval(interval),
        dates=(parse_date("start", start), parse_date("end", end)),
        read=override_options(ReadOptions.from_toml(options) if options else ReadOptions(), given),
    )
    with progress(enabled=not as_json, doing="reading") as tell:
        checks = check_calendars(data, chosen, tell)
    if overrides is not None:
        write_overrides(checks, overrides)
    if as_json:
        print_json([check_fields(one, limit) for one in checks])
        return
    for one in checks:
        print_check(one, limit)


def check_fields(one: CalendarCheck, limit: int) -> dict[str, Any]:
    """Fields of a check for JSON: its counts, its first `limit` days (0: all), its habits."""
    shown = one.days.head(limit) if limit else one.days
    return {
        "calendar": one.calendar, "zone": one.zone, "interval": one.interval, "series": one.series, "rows": one.rows,
        "dates": one.dates, "days_against": one.days["date"].n_unique(), "days": shown.to_dicts(), "habits": one.habits.to_dicts(),
    }  # fmt: skip


def print_check(one: CalendarCheck, limit: int) -> None:
    """Print a check: a line of counts, the habits, the first `limit` days (0: all) as a table, and how many more."""
    import polars as pl

    from engine.cli.console import print_rows

    against = one.days["date"].n_unique()
    print_line(
        f"{one.calendar}: {one.rows:,} bars ({one.interval}) of {one.series:,} series on {one.dates:,} dates; "
        f"{against:,} of these speak against the calendar (times of {one.zone})"
    )
    for kind, begin, end, days, of_days in one.habits.iter_rows():
        text = "bars outside sessions" if kind == "outside" else "expected, and never traded"
        print_line(f"{text} from {begin} to {end}, on {days:,} of {of_days:,} dates")
    if against:
        described = one.days.with_columns(pl.col("kind").replace(KINDS))
        print_rows("days against the calendar", described.drop("override"), limit, as_json=False)


def write_overrides(checks: tuple[CalendarCheck, ...], path: Path) -> None:
    """Write the proposed overrides to a TOML file, in the order of dates; ParameterError for several calendars."""
    codes = {one.calendar for one in checks}
    if len(codes) != 1:
        raise usage_error(f"--overrides: received data of {', '.join(sorted(codes))}; valid: data of one calendar")
    rows = [row for one in checks for row in one.days.sort("date").select("date", "override").iter_rows()]
    texts = list(dict.fromkeys(text for _, text in rows if text))
    head = f"# Proposed by `engine calendars check` for {codes.pop()}: hold each against a notice of the exchange.\n\n"
    path.write_text(head + "\n".join(texts), encoding="utf-8")
    print_line(f"{len(texts)} overrides written to {path}")
