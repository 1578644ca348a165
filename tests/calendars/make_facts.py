"""Make the answer files of `engine/calendars/facts/`: `python -m tests.calendars.make_facts [CODE ...]`.

Sessions come from the libraries directly, or from weekly hours of `bases.toml` where no library has the market, and
are then changed by the rows of `corrections.toml`, each of which has a source. The package `engine` is not asked: what
it says is compared with these files (`test_facts.py`). Look at the difference of the files before you commit it.
"""

from __future__ import annotations

import csv
import datetime as dt
import sys
import tomllib
import warnings
from functools import cache
from importlib.metadata import version
from typing import Any

from tests.calendars.facts_files import (
    DAY,
    FACTS,
    FIRST,
    LAST,
    WEEKDAYS,
    Sessions,
    Spans,
    codes_of,
    dates_of,
    facts_path,
    parse_spans,
    parse_time,
    read_tables,
    seconds_since,
    to_local,
    to_utc,
    write_facts,
)

MOST_OF_A_DAY = 13 * 3600
MARGIN = dt.timedelta(days=40)  # rules of a library may look at the sessions before and after


@cache
def read_bases() -> dict[str, dict[str, Any]]:
    """What each answer file is made from: every code of exchange_calendars, then the tables of `bases.toml`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from exchange_calendars.calendar_utils import _default_calendar_factories  # noqa: PLC0415
    declared = tomllib.loads((FACTS / "bases.toml").read_text(encoding="utf-8"))
    without = declared.pop("without")["codes"]
    found = {
        code: {"library": "exchange_calendars", "name": code}
        for code in _default_calendar_factories
        if code not in without
    }
    return {**found, **declared}


def make_facts(code: str) -> tuple[dict[str, str], Sessions, dict[dt.date, str]]:
    """(header, sessions in UTC, source of the correction by date) of a code from the library and the corrections."""
    base = read_bases()[code]
    zone, sessions = base_sessions(code, base)
    corrected, sources = apply_corrections(code, zone, sessions)
    library = base.get("library")
    package = {"exchange_calendars": "exchange-calendars", "pandas_market_calendars": "pandas-market-calendars"}
    made_from = (
        f"{library} {version(package[library])} {base['name']}"
        if library
        else "weekly hours of bases.toml, closures.csv"
    )
    cited = len(set(sources.values()))
    header = {"code": code, "zone": zone, "made_from": made_from, "corrected": f"{len(sources)} ({cited} sources)"}
    return header, corrected, sources


def base_sessions(code: str, base: dict[str, Any]) -> tuple[str, Sessions]:
    """(zone, sessions in UTC) of a base before any correction."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "library" not in base:
            return base["zone"], weekly_sessions(code, base)
        if base["library"] == "exchange_calendars":
            return exchange_sessions(base["name"])
        return market_sessions(base["name"], merge=base.get("merge_holidays", False))


def exchange_sessions(name: str) -> tuple[str, Sessions]:
    """(zone, sessions) of a calendar of exchange_calendars."""
    import exchange_calendars  # noqa: PLC0415
    from exchange_calendars.calendar_utils import _default_calendar_factories  # noqa: PLC0415

    factory = _default_calendar_factories[name]
    low, high = factory.bound_min(), factory.bound_max()
    first = max(FIRST - MARGIN, low.date()) if low else FIRST - MARGIN
    last = min(LAST + MARGIN, high.date()) if high else LAST + MARGIN
    made = exchange_calendars.get_calendar(name, start=first.isoformat(), end=last.isoformat())
    rows = made.schedule.itertuples()
    found = {
        row.Index.date(): spans_of(row.Index.date(), row.open, row.close, row.break_start, row.break_end)
        for row in rows
    }
    return str(made.tz), clip(found)


def market_sessions(name: str, *, merge: bool) -> tuple[str, Sessions]:
    """(zone, sessions) of a calendar of pandas_market_calendars; merged: holidays of CME count for the next trade date."""
    import pandas_market_calendars  # noqa: PLC0415

    made = pandas_market_calendars.get_calendar(name)
    schedule = made.schedule(FIRST - MARGIN, LAST + MARGIN)
    has_break = "break_start" in schedule
    found = {
        row.Index.date(): spans_of(
            row.Index.date(), row.market_open, row.market_close,
            row.break_start if has_break else None, row.break_end if has_break else None,
        )
        for row in schedule.itertuples()
    }  # fmt: skip
    if merge:
        found = merged(found, cme_trade_dates())
    return str(made.tz), clip(found)


def merged(sessions: Sessions, trade_dates: list[dt.date]) -> Sessions:
    """Sessions on days that are no trade dates are put before those of the next trade date that has a session."""
    known, result, carried = set(trade_dates), {}, []
    for day, spans in sorted(sessions.items()):
        carried += [(day, spans)]
        if day in known:
            result[day] = tuple(
                (begin - (day - of).days * DAY, end - (day - of).days * DAY)
                for of, some in carried
                for begin, end in some
            )
            carried = []
    return result


def weekly_sessions(code: str, base: dict[str, Any]) -> Sessions:
    """Sessions of weekly hours, without closures of `closures.csv`, and of CME's holidays with the next trade date.

    `hours` is a list of tables with days, hours and, if not always, first and last.
    """
    days = [FIRST - MARGIN + dt.timedelta(days=n) for n in range((LAST - FIRST + 2 * MARGIN).days + 1)]
    local = {
        day: parse_spans(rule["hours"])
        for rule in base["hours"]
        for day in days
        if day.weekday() in [WEEKDAYS.index(name) for name in rule["days"].split(",")]
        and rule.get("first", FIRST - MARGIN) <= day <= rule.get("last", LAST + MARGIN)
    }
    closed = read_closures().get(base.get("closures", code), {})
    # A day that is closed as a whole has no evening before it either.
    whole = {day for day, (begin, end) in closed.items() if begin == 0 and end >= MOST_OF_A_DAY}
    cut = {day: without_closures(day, spans, closed) for day, spans in sorted(local.items()) if day not in whole}
    sessions = {day: to_utc(day, spans, base["zone"]) for day, spans in cut.items() if spans}
    for rule in base["hours"]:
        if "open_utc" in rule:  # an open that does not follow the venue's summer time
            opens = parse_time(rule["open_utc"])
            low, high = rule.get("first", FIRST), rule.get("last", LAST)
            sessions |= {
                day: ((opens, spans[0][1]), *spans[1:]) for day, spans in sessions.items() if low <= day <= high
            }
    if base.get("merge_holidays"):
        start = base.get("merge_from", FIRST - MARGIN)
        early = {day: spans for day, spans in sessions.items() if day < start}
        sessions = early | merged({day: spans for day, spans in sessions.items() if day >= start}, cme_trade_dates())
    return clip(sessions)


def without_closures(day: dt.date, spans: Spans, closed: dict[dt.date, tuple[int, int]]) -> Spans:
    """Spans on the venue's clock less the closures of the dates that they touch."""
    for offset in range(-3, 2):
        if (gap := closed.get(day + dt.timedelta(days=offset))) is not None:
            begin, end = (at + offset * DAY for at in gap)
            parts = [
                part for opens, closes in spans for part in ((opens, min(closes, begin)), (max(opens, end), closes))
            ]
            spans = tuple(dict.fromkeys((opens, closes) for opens, closes in parts if opens < closes))
    return spans


@cache
def read_closures() -> dict[str, dict[dt.date, tuple[int, int]]]:
    """Closures of `closures.csv` by code and date, in seconds of the venue's day."""
    found: dict[str, dict[dt.date, tuple[int, int]]] = {}
    with (FACTS / "closures.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            span = parse_time(row["from"]), parse_time(row["to"])
            found.setdefault(row["code"], {})[dt.date.fromisoformat(row["date"])] = span
    return found


@cache
def cme_trade_dates() -> list[dt.date]:
    """Trade dates of CME by pandas_market_calendars."""
    import pandas_market_calendars  # noqa: PLC0415

    days = pandas_market_calendars.get_calendar("CME_TradeDate").valid_days(FIRST - MARGIN, LAST + MARGIN)
    return sorted(day.date() for day in days)


def spans_of(day: dt.date, opens: Any, closes: Any, pause: Any, resume: Any) -> Spans:
    """Spans of one row of a schedule; a break of no length, or at the close, is none."""
    begin, end = (seconds_since(day, at.to_pydatetime()) for at in (opens, closes))
    if pause is None or pause != pause or not (pause < resume and pause < closes):  # noqa: PLR0124 - NaT
        return ((begin, end),)
    return (begin, seconds_since(day, pause.to_pydatetime())), (seconds_since(day, resume.to_pydatetime()), end)


def clip(sessions: Sessions) -> Sessions:
    """Sessions from `FIRST` to `LAST`."""
    return {day: spans for day, spans in sessions.items() if FIRST <= day <= LAST}


def apply_corrections(code: str, zone: str, sessions: Sessions) -> tuple[Sessions, dict[dt.date, str]]:
    """(corrected sessions, source by corrected date); ValueError for a row of `corrections.toml` that changes nothing."""
    result, sources = dict(sessions), {}
    for row in read_tables("corrections.toml", "correction"):
        if code not in codes_of(row):
            continue
        was = parse_spans(row["was"]) if "was" in row else None
        touched = [
            day
            for day in dates_of(row, sorted(result))
            if was is None or to_local(day, result.get(day, ()), zone) == was
        ]
        new = parse_spans(row["hours"])
        changed = [day for day in touched if result.get(day, ()) != to_utc(day, new, zone)]
        if not changed or ("dates" in row and len(changed) < len(row["dates"])):
            idle = sorted(set(row.get("dates", [])) - set(changed)) or "all"
            raise ValueError(f"corrections.toml: {code}: {row['source']}: already so in what it corrects: {idle}")
        for day in changed:
            result[day] = to_utc(day, new, zone)
            sources[day] = row["source"]
    return {day: spans for day, spans in sorted(result.items()) if spans}, sources


def main(codes: list[str]) -> None:
    """Write the answer files of these codes, of all if none is given."""
    for code in codes or sorted(read_bases()):
        header, sessions, sources = make_facts(code)
        write_facts(facts_path(code), header, sessions)
        print(f"{facts_path(code).name}: {len(sessions):,} sessions, {len(sources):,} corrected")


if __name__ == "__main__":
    main(sys.argv[1:])
