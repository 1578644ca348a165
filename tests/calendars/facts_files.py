"""Answer files of `engine/calendars/facts/`: sessions as text, one line per month and set of hours, in UTC.

    2024-11 14:30/21:00 4 5 6 7 8 11 12
    2024-11 14:30/18:00 29
    2024-11 23:00-1d/22:00 5 6

Each line names the trade dates of a month that have these hours. Spans are separated by commas (a lunch break makes
two); `-1d` is the day before the trade date, in UTC. Nothing of the package `engine` is imported here: the answers
must not depend on what they judge.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

FACTS = Path(__file__).parents[2] / "engine" / "calendars" / "facts"
FIRST, LAST = dt.date(2005, 1, 1), dt.date(2026, 12, 31)
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY = 86_400

# Spans of a session: (open, close) in seconds since the trade date's midnight, in UTC or in the venue's zone.
Spans = tuple[tuple[int, int], ...]
Sessions = dict[dt.date, Spans]

_TIME = re.compile(r"(\d\d):(\d\d)(?::(\d\d))?(?:([+-]\d)d)?")


def facts_path(code: str) -> Path:
    """Path of a code's answer file; `/` and blanks of the code are written `-` and `_`."""
    return FACTS / f"{code.replace('/', '-').replace(' ', '_')}.txt"


def read_facts(path: Path) -> tuple[dict[str, str], Sessions]:
    """(header, sessions) of an answer file; the header's keys are code, zone and made_from."""
    header: dict[str, str] = {}
    sessions: Sessions = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            key, _, value = line[2:].partition(": ")
            header[key] = value
            continue
        month, hours, *days = line.split(" ")
        spans = parse_spans(hours)
        sessions |= {dt.date.fromisoformat(f"{month}-{int(day):02}"): spans for day in days}
    return header, dict(sorted(sessions.items()))


def write_facts(path: Path, header: Mapping[str, str], sessions: Sessions) -> None:
    """Write an answer file: header, then a line per month and set of hours, in the order of their first dates."""
    path.write_text(facts_text(header, sessions), encoding="utf-8")


def facts_text(header: Mapping[str, str], sessions: Sessions) -> str:
    """Text of an answer file; `read_facts` of it gives the same header and sessions."""
    lines: dict[tuple[str, Spans], list[int]] = {}
    for day, spans in sorted(sessions.items()):
        lines.setdefault((f"{day:%Y-%m}", spans), []).append(day.day)
    rows = [f"{month} {spans_text(spans)} {' '.join(map(str, days))}" for (month, spans), days in lines.items()]
    return "\n".join([*(f"# {key}: {value}" for key, value in header.items()), *rows, ""])


def parse_spans(text: str) -> Spans:
    """Spans of text such as `01:30/03:30,05:00/07:00`; the text `closed` gives none."""
    if text == "closed":
        return ()
    return tuple((parse_time(span.split("/")[0]), parse_time(span.split("/")[1])) for span in text.split(","))


def parse_time(text: str) -> int:
    """Seconds since the trade date's midnight of `HH:MM[:SS][±Nd]`; ValueError for other text."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"received {text!r}; valid: a time such as 09:30 or 17:00-1d")
    return int(match[4] or 0) * DAY + int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3] or 0)


def spans_text(spans: Spans) -> str:
    """Text of spans, as `parse_spans` reads it."""
    return ",".join(f"{time_text(begin)}/{time_text(end)}" for begin, end in spans) or "closed"


def time_text(seconds: int) -> str:
    """Text of a time, as `parse_time` reads it; midnight that ends the trade date is `24:00`."""
    day, rest = divmod(seconds, DAY)
    if rest == 0 and day == 1:
        day, rest = 0, DAY
    minutes, second = divmod(rest, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}" + (f":{second:02}" if second else "") + (f"{day:+}d" if day else "")


def seconds_since(day: dt.date, at: dt.datetime) -> int:
    """Seconds from a trade date's midnight, on the clock of `at`'s zone, to `at`."""
    return round((at.replace(tzinfo=None) - dt.datetime.combine(day, dt.time())).total_seconds())


def to_local(day: dt.date, spans: Spans, zone: str) -> Spans:
    """Spans in UTC as spans on the venue's clock."""
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
    local = ZoneInfo(zone)

    def at(seconds: int) -> int:
        return seconds_since(day, (midnight + dt.timedelta(seconds=seconds)).astimezone(local))

    return tuple((at(begin), at(end)) for begin, end in spans)


def to_utc(day: dt.date, spans: Spans, zone: str) -> Spans:
    """Spans on the venue's clock as spans in UTC."""
    midnight = dt.datetime.combine(day, dt.time())
    local = ZoneInfo(zone)

    def at(seconds: int) -> int:
        wall_time = (midnight + dt.timedelta(seconds=seconds)).replace(tzinfo=local)
        return seconds_since(day, wall_time.astimezone(dt.UTC))

    return tuple((at(begin), at(end)) for begin, end in spans)


def read_tables(name: str, key: str) -> list[dict[str, Any]]:
    """Tables `[[key]]` of a TOML file of the folder of answer files."""
    rows: list[dict[str, Any]] = tomllib.loads((FACTS / name).read_text(encoding="utf-8")).get(key, [])
    return rows


def codes_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Codes that a row of a table is about: one text, or a list."""
    return tuple([row["code"]] if isinstance(row["code"], str) else row["code"])


def dates_of(row: Mapping[str, Any], known: Iterable[dt.date]) -> list[dt.date]:
    """Dates that a row is about: its `dates`, else those of `known` from `first` to `last` on its weekdays (`days`)."""
    if "dates" in row:
        return list(row["dates"])
    days = [WEEKDAYS.index(name) for name in row.get("days", ",".join(WEEKDAYS)).split(",")]
    first, last = row.get("first", FIRST), row.get("last", LAST)
    return [day for day in known if first <= day <= last and day.weekday() in days]
