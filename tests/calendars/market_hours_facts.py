"""The market-hours database of a trading platform: its special dates, as kinds of days and as closures.

`python -m tests.calendars.market_hours_facts` writes `engine/calendars/facts/closures.csv` anew: when futures were closed, by this
database from 2009 on and by pandas_market_calendars before. The database has today's hours only; those of other years are
in `bases.toml`.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.calendars.facts_files import DAY, FACTS, FIRST, LAST, parse_time, read_tables, time_text, to_local

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
HOURS = SHARED / "lean" / "market-hours" / "market-hours-database.json"
SATURDAY = 5
CLOSURES = FACTS / "closures.csv"
COLUMNS = ("code", "date", "from", "to", "source")


@cache
def market_hours_entries() -> dict[str, Any]:
    """Entries of the database, by `Type-market-symbol`."""
    entries: dict[str, Any] = json.loads(HOURS.read_text(encoding="utf-8"))["entries"]
    return entries


def us_date(text: str) -> dt.date:
    """Date of `month/day/year`."""
    month, day, year = map(int, text.split("/"))
    return dt.date(year, month, day)


def closures_of(
    entries: Sequence[dict[str, Any]], turn: int = DAY, evening: int = DAY
) -> dict[dt.date, tuple[int, int]]:
    """Span of each special date, in seconds of the day on the entry's clock, in which the market was closed.

    A symbol's early close goes before its market's holiday; a late open ends a closure. Where none is given, what
    opens in the `evening` is open after a close before `turn`, unless the next date has no trade in its night.
    """
    early, late = (
        {us_date(text): parse_time(time[:5]) for text, time in entries[0].get(key, {}).items()}
        for key in ("earlyCloses", "lateOpens")
    )
    own = {us_date(text) for text in entries[0].get("holidays", [])}
    holidays = own | {us_date(text) for entry in entries for text in entry.get("holidays", [])}
    found = {}
    for day in sorted({*early, *late, *holidays}):
        begin = 0 if day in own else early.get(day, 0)
        after = day + dt.timedelta(days=1)
        night_is_closed = after not in early and (after in late or after in holidays)
        end = evening if begin < turn and not night_is_closed else DAY
        found[day] = (begin, late[day] if late.get(day, 0) > begin else end)
    return {day: span for day, span in found.items() if FIRST <= day <= LAST and day.weekday() < SATURDAY}


def their_kinds(entries: Sequence[dict[str, Any]], turn: int) -> dict[dt.date, str]:
    """What entries (a symbol's, then its market's) say of special dates: `closed`, `closes HH:MM` before `turn`, `usual`."""
    return {
        day: "closed"
        if begin == 0 and end >= min(turn, DAY)
        else "usual"
        if begin == 0 or begin >= turn
        else f"closes {time_text(begin)}"
        for day, (begin, end) in closures_of(entries, turn).items()
    }


def closure_rows(base: str, leg: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Rows of `closures.csv` of a code: of the library to 2008, of the database from 2009 on, on the venue's clock."""
    entries = [market_hours_entries()[name] for name in leg["entries"]]
    zone, target = str(entries[0]["exchangeTimeZone"]), leg["zone"]
    rows = []
    if "library" in leg:
        rows += library_rows(base, leg["library"])
    for day, span in closures_of(entries, parse_time(leg["day_ends"]), parse_time(leg["evening"])).items():
        if day >= leg.get("closures_from", dt.date(2009, 1, 1)) and day <= leg.get("last", LAST):
            begin, end = (moved(day, at, zone, target) if 0 < at < DAY else at for at in span)
            rows.append((base, day.isoformat(), time_text(begin), time_text(end), "market_hours"))
    return rows


def moved(day: dt.date, seconds: int, zone: str, target: str) -> int:
    """Seconds of a date on one clock as those on another."""
    at = dt.datetime.combine(day, dt.time(), ZoneInfo(zone)) + dt.timedelta(seconds=seconds)
    local = at.astimezone(ZoneInfo(target)).replace(tzinfo=None)
    return int((local - dt.datetime.combine(day, dt.time())).total_seconds())


def library_rows(code: str, name: str) -> list[tuple[str, str, str, str, str]]:
    """Rows of days up to 2008 on which a calendar of pandas_market_calendars closes early or not at all opens."""
    from tests.calendars.make_facts import market_sessions  # noqa: PLC0415 - that module reads these rows

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zone, sessions = market_sessions(name, merge=False)
    usual = max(
        end for day, spans in sessions.items() if day.year == 2008 for _, end in to_local(day, spans, zone)[-1:]
    )
    rows = []
    for n in range((dt.date(2008, 12, 31) - FIRST).days + 1):
        day = FIRST + dt.timedelta(days=n)
        if day.weekday() >= SATURDAY:
            continue
        spans = to_local(day, sessions.get(day, ()), zone)
        if not spans:
            rows.append((code, day.isoformat(), "00:00", "17:00", "library"))
        elif spans[-1][1] < usual:
            rows.append((code, day.isoformat(), time_text(spans[-1][1]), "17:00", "library"))
    return rows


def main() -> None:
    """Write `closures.csv` by the legs of `market_hours.toml` that have `closures`."""
    rows = [
        row
        for leg in read_tables("market_hours.toml", "leg")
        if "zone" in leg
        for row in closure_rows(leg["code"], leg)
    ]
    with CLOSURES.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    print(f"{CLOSURES.name}: {len(rows):,} closures")


if __name__ == "__main__":
    main()
