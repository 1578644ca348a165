"""Compare sessions with the answer files, per code: `python -m tests.calendars.compare_facts [--json] [--all] [CODE ...]`.

Columns: sessions of the product (`engine.calendars.providers.calendar`) compared with the answer file, equal, corrected by us,
and two databases made by others: 60 public answer files, and the market hours of a trading platform. Every date on
which those say something else is decided by a row of `engine/calendars/facts/decisions.toml`; `open` counts the others.
Databases that are not on this machine are skipped, which the last lines say.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from engine.calendars.providers import calendar

from tests.calendars.facts_files import (
    DAY,
    FIRST,
    LAST,
    Sessions,
    codes_of,
    dates_of,
    facts_path,
    parse_time,
    read_facts,
    read_tables,
    spans_text,
    to_local,
)
from tests.calendars.make_facts import read_bases
from tests.calendars.market_hours_facts import HOURS, SATURDAY, SHARED, market_hours_entries, their_kinds

PUBLIC = SHARED / "calendars"
LEAST_DAYS = 3  # that say what is usual


@dataclass(frozen=True)
class Disagreement:
    """A trade date (of market hours: a local date) on which two sides differ, and what each says."""

    code: str
    leg: str
    day: dt.date
    ours: str
    theirs: str


@dataclass
class CodeResult:
    """What one code's comparison gives; legs that do not know the code are None."""

    code: str
    made_from: str
    sessions: int = 0
    equal: int = 0
    corrected: int = 0
    public: int | None = None
    public_equal: int | None = None
    market_hours: int | None = None
    market_hours_equal: int | None = None
    decided: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)


# ---------------------------------------------------------------------------- the product


def product_sessions(code: str) -> Sessions:
    """Regular segments of the product's calendar, 2005 to 2026 or as far as its bounds go."""
    found = calendar(code)
    low, high = found.bounds()
    rows = found.segments(max(low, FIRST), min(high, LAST)).filter("regular")
    midnight = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    seconds = rows.select(
        "session", *((pl.col(name) - midnight).dt.total_seconds() for name in ("segment_open", "segment_close"))
    )
    sessions: dict[dt.date, list[tuple[int, int]]] = {}
    for day, begin, end in seconds.iter_rows():
        sessions.setdefault(day, []).append((begin, end))
    return {day: tuple(spans) for day, spans in sessions.items()}


def differences(code: str, leg: str, ours: Sessions, theirs: Sessions, days: Iterable[dt.date]) -> list[Disagreement]:
    """Dates of `days` on which the sessions differ."""
    return [
        Disagreement(code, leg, day, spans_text(ours.get(day, ())), spans_text(theirs.get(day, ())))
        for day in days
        if ours.get(day, ()) != theirs.get(day, ())
    ]


# ---------------------------------------------------------------------------- public answer files


def public_path(code: str) -> Path:
    """Where the public answers of a code are, if anywhere."""
    return PUBLIC / f"{code.lower().replace('/', '-')}.csv"


def read_public(path: Path) -> Sessions:
    """Sessions of a public answer file: columns session, open, close, break_start, break_end, in UTC."""
    sessions: Sessions = {}
    with path.open(encoding="utf-8", newline="") as file:
        for name, opens, closes, pause, resume in list(csv.reader(file))[1:]:
            day = dt.date.fromisoformat(name[:10])
            begin, end = (instant_seconds(day, text) for text in (opens, closes))
            broken = pause and resume and pause < resume and pause < closes
            sessions[day] = (
                ((begin, instant_seconds(day, pause)), (instant_seconds(day, resume), end))
                if broken
                else ((begin, end),)
            )
    return {day: spans for day, spans in sessions.items() if FIRST <= day <= LAST}


def instant_seconds(day: dt.date, text: str) -> int:
    """Seconds from a trade date's midnight to an instant, both in UTC."""
    at = dt.datetime.fromisoformat(text).replace(tzinfo=None)
    return round((at - dt.datetime.combine(day, dt.time())).total_seconds())


# ---------------------------------------------------------------------------- market hours of a trading platform


def day_closes(sessions: Sessions, zone: str, turn: int) -> dict[dt.date, int]:
    """Last close of each day on a clock, of what opens before `turn` (seconds of the day); days without are absent."""
    last: dict[dt.date, int] = {}
    for trade_date, spans in sessions.items():
        for begin, end in to_local(trade_date, spans, zone):
            # A span counts for the local date on which it ends, and for those that it runs through.
            for offset in range(begin // DAY, (end - 1) // DAY + 1):
                day = trade_date + dt.timedelta(days=offset)
                opens, closes = max(begin - offset * DAY, 0), min(end - offset * DAY, DAY)
                if opens < turn:
                    last[day] = max(last.get(day, 0), closes)
    return {day: closes for day, closes in last.items() if day.weekday() < SATURDAY}


def holiday_kinds(sessions: Sessions, zone: str, turn: int) -> dict[dt.date, str]:
    """Per weekday on a clock: `closed`, `closes HH:MM` where that is early, or `usual`.

    Early is earlier than most of six days of that weekday before and of six after, so that a change of hours is none.
    """
    last = day_closes(sessions, zone, turn)
    kinds = {
        day: "closed"
        for n in range((max(last) - min(last)).days)
        if (day := min(last) + dt.timedelta(days=n)).weekday() < SATURDAY
    }
    for weekday in range(SATURDAY):
        days = sorted(day for day in last if day.weekday() == weekday)
        for n, day in enumerate(days):
            around = [[last[at] for at in some] for some in (days[max(n - 6, 0) : n], days[n + 1 : n + 7])]
            usual = min(statistics.mode(some) for some in around if len(some) >= LEAST_DAYS)
            kinds[day] = f"closes {clock(last[day])}" if last[day] < usual else "usual"
    return dict(sorted(kinds.items()))


def clock(seconds: int) -> str:
    """`HH:MM` of seconds."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}"


def market_hours_leg(code: str, facts: Sessions, leg: dict[str, Any]) -> tuple[int, list[Disagreement]]:
    """(special dates compared, disagreements) with an entry of the database, from its first date to its last."""
    entries = [market_hours_entries()[name] for name in leg["entries"]]
    zone = str(entries[0]["exchangeTimeZone"])
    turn = parse_time(leg["day_ends"]) if "day_ends" in leg else DAY
    theirs = their_kinds(entries, turn)
    low, high = max(leg.get("first", FIRST), min(theirs)), min(leg.get("last", LAST), max(theirs))
    ours = holiday_kinds(facts, zone, turn)
    days = [day for day, kind in ours.items() if low <= day <= high and (kind != "usual" or day in theirs)]
    return len(days), [
        Disagreement(code, "market_hours", day, ours[day], theirs.get(day, "usual"))
        for day in days
        if ours[day] != theirs.get(day, "usual")
    ]


# ---------------------------------------------------------------------------- the table


def compare(code: str) -> CodeResult:
    """Compare a code's product sessions and both databases with its answer file."""
    header, facts = read_facts(facts_path(code))
    result = CodeResult(code, header["made_from"])
    ours = product_sessions(code)
    days = sorted({*ours, *facts})
    wrong = differences(code, "product", ours, facts, days)
    result.sessions, result.equal = len(days), len(days) - len(wrong)
    result.corrected = int(header.get("corrected", "0").split(" ")[0])
    result.disagreements += wrong
    found: list[Disagreement] = []
    if public_path(code).exists():
        theirs = read_public(public_path(code))
        known = [day for day in sorted({*theirs, *facts}) if min(theirs) <= day <= max(theirs)]
        other = differences(code, "public", facts, theirs, known)
        result.public, result.public_equal = len(known), len(known) - len(other)
        found += other
    if HOURS.exists():
        for leg in read_tables("market_hours.toml", "leg"):
            if leg["code"] == code:
                compared, other = market_hours_leg(code, facts, leg)
                result.market_hours = (result.market_hours or 0) + compared
                result.market_hours_equal = (result.market_hours_equal or 0) + compared - len(other)
                found += other
    undecided = [one for one in found if decision_of(one) is None]
    result.decided = len(found) - len(undecided)
    result.disagreements += undecided
    return result


def decision_of(one: Disagreement) -> dict[str, Any] | None:
    """Row that decides a disagreement with a database: of `decisions.toml`, else the correction of that date.

    A correction of a whole era decides what public answer files say, which the library's authors made of it.
    """
    for row in read_tables_once("decisions.toml", "decision"):
        told = row.get("ours", one.ours) == one.ours and row.get("theirs", one.theirs) == one.theirs
        if told and row["leg"] == one.leg and one.code in codes_of(row) and dates_of(row, [one.day]).count(one.day):
            return row
    for row in read_tables_once("corrections.toml", "correction"):
        if (
            one.code in codes_of(row)
            and ("dates" in row or one.leg == "public")
            and one.day in dates_of(row, [one.day])
        ):
            return row
    return None


@cache
def read_tables_once(name: str, key: str) -> tuple[dict[str, Any], ...]:
    """Tables of a file, read once per process."""
    return tuple(read_tables(name, key))


def absent_databases() -> list[str]:
    """A line for each database that is not on this machine, or lacks files."""
    paths = {"public answer files": PUBLIC, "market hours": HOURS}
    return [f"NOT COMPARED: no {name} at {path}" for name, path in paths.items() if not path.exists()]


def table_text(results: Sequence[CodeResult]) -> str:
    """The results as a table with a line per code and one of sums."""
    columns = (
        "sessions",
        "equal",
        "corrected",
        "public",
        "public_equal",
        "market_hours",
        "market_hours_equal",
        "decided",
    )
    titles = ("code", *columns, "open", "made from")
    rows = [
        [one.code, *(shown(getattr(one, name)) for name in columns), f"{len(one.disagreements):,}", one.made_from]
        for one in results
    ]
    sums = [sum(getattr(one, name) or 0 for one in results) for name in columns]
    rows.append(
        ["all", *map(shown, sums), f"{sum(len(one.disagreements) for one in results):,}", f"{len(results)} codes"]
    )
    widths = [max(len(row[n]) for row in [list(titles), *rows]) for n in range(len(titles))]
    aligned = ["<", *(">" for _ in columns), ">", "<"]
    return "\n".join(
        "  ".join(f"{cell:{way}{width}}" for cell, way, width in zip(row, aligned, widths, strict=True)).rstrip()
        for row in [list(titles), *rows]
    )


def shown(value: int | None) -> str:
    """A count with thousands marked; nothing for None."""
    return "" if value is None else f"{value:,}"


def main(arguments: Sequence[str]) -> int:
    """Print the table, then undecided disagreements; the exit code is 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.calendars.compare_facts")
    parser.add_argument("codes", nargs="*", help="codes to compare; default all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--all", action="store_true", help="print every disagreement, not the first 20 of a code")
    given = parser.parse_args(arguments)
    results = [compare(code) for code in given.codes or sorted(read_bases())]
    if given.json:
        print(json.dumps([asdict(one) for one in results], default=str, indent=2))
    else:
        print(table_text(results))
        for result in results:
            for one in result.disagreements[: None if given.all else 20]:
                print(f"{one.code} {one.leg} {one.day} {one.day:%a}: ours {one.ours}, theirs {one.theirs}")
            if len(result.disagreements) > 20 and not given.all:
                print(f"{result.code}: ... {len(result.disagreements) - 20:,} more (--all)")
    for line in absent_databases():
        print(line, file=sys.stderr)
    return int(any(one.disagreements for one in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
