"""Calendars written as TOML: weekly hours in a zone, holidays, and overrides of any other calendar.

`parse_calendar` and `parse_overrides` refuse whatever they do not know, naming file, table and key.
The format is described in docs/calendars.md; its meaning is in `hours`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from engine import toml_text
from engine.arguments import did_you_mean
from engine.calendars.holidays import RULES, is_holiday_name
from engine.calendars.hours import Amendments, Hours, Override, Scope, Span, WallTime, labels_of
from engine.calendars.interruptions import KINDS, SCOPES, Interruption
from engine.errors import CalendarError

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
OVERRIDES_KEYS = ("description", "holidays", "override", "interruption")
CALENDAR_KEYS = ("code", "zone", "extends", "holidays_from", "hours", *OVERRIDES_KEYS)
HOURS_KEYS = ("days", "valid_from", "valid_to")
CHANGE_KEYS = ("open", "close", "pause", "move", "halt", "trade_date")
OVERRIDE_KEYS = (*HOURS_KEYS, "on", "date", "dates", "closed", *CHANGE_KEYS)
INTERRUPTION_KEYS = ("start", "end", "kind", "scope", "source")
A_TIME = 'a time such as "09:30", "24:00", "17:00-1d" (the day before the trade date), "17:00 America/New_York"'
A_SPAN = 'open and close such as "09:30 to 16:00" or "18:00-1d to 17:00"'

_TIME = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?:([+-]\d)d)?(?:\s+(\S+))?")
_LABEL = re.compile(r"[A-Z][A-Z0-9_]*")
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class CalendarFile:
    """A calendar as its file has it: either weekly `hours`, or `extends` another calendar."""

    code: str
    zone: str
    description: str
    extends: str
    holidays_from: str
    hours: tuple[Hours, ...]
    amendments: Amendments

    @property
    def labels(self) -> tuple[str, ...]:
        """Distinct segment labels of the weekly hours, in file order; those of overrides are not included."""
        return labels_of(rule.spans for rule in self.hours)


def read_bytes(path: Path) -> bytes:
    """Content of a calendar file as bytes; CalendarError when it cannot be read."""
    try:
        return toml_text.read_regular_bytes(path)
    except OSError as error:
        raise CalendarError(f"{path}: not a readable calendar file: {error}") from error


def parse_calendar(path: Path, content: bytes) -> CalendarFile:
    """Parse TOML to a CalendarFile with either `hours` and `zone` or `extends`, else CalendarError; `code` absent: the stem.

    Raises
    ------
    CalendarError
        It is no TOML, or holds an unknown key or a bad time, date or zone; the message names file, table and key.
    """
    table = parse_toml(path, content, CALENDAR_KEYS)
    zone, extends = table.zone("zone"), table.text("extends")
    rules = table.tables("hours", HOURS_KEYS)
    if bool(extends) == bool(rules):
        raise table.error("extends", extends, 'either extends = "CODE" or [[hours]] tables, one of the two')
    if rules and not zone:
        raise table.error("zone", zone, 'the zone of the hours, such as "America/New_York"')
    return CalendarFile(
        code=table.text("code") or path.stem,
        zone=zone,
        description=table.text("description"),
        extends=extends,
        holidays_from=table.text("holidays_from"),
        hours=tuple(read_hours(rule) for rule in rules),
        amendments=read_amendments(table),
    )


def parse_overrides(path: Path, content: bytes) -> Amendments:
    """Parse TOML bytes of holidays and overrides for another calendar to Amendments; CalendarError on a mistake.

    Raises
    ------
    CalendarError
        As `parse_calendar`.
    """
    return read_amendments(parse_toml(path, content, OVERRIDES_KEYS))


def parse_wall_time(text: str) -> WallTime:
    """Parse `H:MM[:SS][+-Nd][ ZONE]` (at most 24:00; N: days after the trade date); CalendarError on other text.

    Raises
    ------
    CalendarError
        The text is none, or names an unknown zone.
    """
    match = _TIME.fullmatch(text.strip())
    seconds = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3] or 0) if match else _DAY_SECONDS + 1
    if match is None or seconds > _DAY_SECONDS:
        raise CalendarError(f"received {text!r}; valid: {A_TIME}")
    return WallTime(seconds, int(match[4] or 0), require_zone(match[5]) if match[5] else "")


@dataclass(frozen=True)
class TomlTable:
    """One table of a calendar file with readers of its cells; errors name file, table and key."""

    path: Path
    digest: str
    where: str
    cells: Mapping[str, Any]

    def error(self, key: str, value: object, valid: str) -> CalendarError:
        """New CalendarError of a cell: file, table, key, value received, valid forms; returned, not raised."""
        return CalendarError(f"{self.path}: {self.where}{key}: received {value!r}; valid: {valid}")

    def reject_unknown_keys(self, keys: tuple[str, ...], *, labels: bool) -> TomlTable:
        """Return this table; CalendarError if a key is neither in `keys` nor (with `labels`) a label in capitals."""
        for key in self.cells:
            if key not in keys and not (labels and _LABEL.fullmatch(key)):
                also = " and labels in capitals (PRE, RTH, POST, OVERNIGHT, ETH)" if labels else ""
                raise CalendarError(
                    f"{self.path}: {self.where}{key}: unknown key{did_you_mean(key, keys)}; "
                    f"valid: {', '.join(keys)}{also}"
                )
        return self

    def text(self, key: str) -> str:
        """Text of a cell; "" when absent, CalendarError when it is no text."""
        value = self.cells.get(key, "")
        if not isinstance(value, str):
            raise self.error(key, value, "a text in quotes")
        return value

    def zone(self, key: str) -> str:
        """IANA zone name of a cell; "" when absent or empty, CalendarError when unknown."""
        try:
            return require_zone(self.text(key)) if self.text(key) else ""
        except CalendarError as error:
            raise self.error(key, self.cells[key], "an IANA zone such as America/New_York") from error

    def tables(self, key: str, keys: tuple[str, ...]) -> list[TomlTable]:
        """Tables of an array `[[key]]`, in order, empty when absent; CalendarError on keys outside `keys` and labels."""
        rows = self.cells.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.error(key, rows, f"tables written [[{key}]]")
        made = [TomlTable(self.path, self.digest, f"[[{key}]] {n}: ", row) for n, row in enumerate(rows, 1)]
        return [table.reject_unknown_keys(keys, labels=True) for table in made]

    def date(self, key: str) -> dt.date | None:
        """Date of a cell that holds a single one (a list of one, too); None when absent, else CalendarError."""
        dates = self.dates(key)
        if key in self.cells and len(dates) != 1:
            raise self.error(key, self.cells[key], "one date without quotes, such as 2013-11-29")
        return dates[0] if dates else None

    def dates(self, key: str) -> tuple[dt.date, ...]:
        """Dates of a cell, a single one or a list, in file order; empty when absent, CalendarError for other values."""
        value = self.cells.get(key, [])
        listed = value if isinstance(value, list) else [value]
        # A TOML date-time is a `datetime`, which Python counts as a `date` too.
        if not all(type(day) is dt.date for day in listed):
            raise self.error(key, value, "dates without quotes, such as 2013-11-29")
        return tuple(listed)

    def time(self, key: str, text: object = None) -> WallTime | None:
        """Parse `text`, or if it is None the cell, to a WallTime; None when both are absent, else CalendarError."""
        given = self.cells.get(key) if text is None else text
        if given is None:
            return None
        if not isinstance(given, str):
            raise self.error(key, given, A_TIME)
        try:
            return parse_wall_time(given)
        except CalendarError as error:
            raise CalendarError(f"{self.path}: {self.where}{key}: {error}") from error

    def instant(self, key: str) -> dt.datetime:
        """Date-time of a cell that must exist, with or without a zone; CalendarError for other values."""
        value = self.cells.get(key)
        if not isinstance(value, dt.datetime):
            raise self.error(key, value, "a date-time without quotes, 2024-05-02T10:00:00 or 2024-05-02T08:00:00Z")
        return value

    def spans(self, key: str) -> list[Span]:
        """Spans of a cell that must exist, one text `open to close` or a list; each is labelled with the key."""
        given = self.cells[key]
        return [self.parse_span(key, text) for text in (given if isinstance(given, list) else [given])]

    def parse_span(self, key: str, text: object) -> Span:
        """Parse `open to close` to a Span labelled `key`; CalendarError if close <= open in one zone (two are not compared)."""
        ends = text.split(" to ") if isinstance(text, str) else []
        if len(ends) != 2:  # noqa: PLR2004 - an open and a close
            raise self.error(key, text, A_SPAN)
        begin, end = self.time(key, ends[0]), self.time(key, ends[1])
        if begin is None or end is None:
            raise self.error(key, text, A_SPAN)
        if begin.zone == end.zone and (begin.day, begin.seconds) >= (end.day, end.seconds):
            hint = f"a close after the open; an evening before the trade date is written {ends[0].strip()}-1d"
            raise self.error(key, text, hint)
        return Span(key, begin, end)


def parse_toml(path: Path, content: bytes, keys: tuple[str, ...]) -> TomlTable:
    """Parse TOML bytes to a TomlTable with the 16-digit SHA-256; CalendarError for no TOML or an unknown key."""
    try:
        cells = toml_text.parse_toml(content.decode("utf-8"))
    except ValueError as error:
        raise CalendarError(f"{path}: not a readable calendar file: {error}") from error
    digest = hashlib.sha256(content).hexdigest()[:16]
    return TomlTable(path, digest, "", cells).reject_unknown_keys(keys, labels=False)


def read_amendments(table: TomlTable) -> Amendments:
    """Holidays and overrides, in file order, of a parsed file, with the hash of its content."""
    overrides = tuple(read_override(row) for row in table.tables("override", OVERRIDE_KEYS))
    interruptions = tuple(read_interruption(row) for row in table.tables("interruption", INTERRUPTION_KEYS))
    return Amendments(table.dates("holidays"), overrides, table.digest, interruptions)


def read_interruption(table: TomlTable) -> Interruption:
    """Interruption of an `[[interruption]]` table: `start` and `end` date-times, kind `halt` and scope `market` if absent."""
    start, end = (table.instant(key) for key in ("start", "end"))
    if (start.tzinfo is None) != (end.tzinfo is None) or start >= end:
        raise table.error(
            "end", end.isoformat(), f"a later date-time than start ({start.isoformat()}), with a zone if that has one"
        )
    kind, scope = (table.text(key) or default for key, default in (("kind", "halt"), ("scope", "market")))
    for key, value, valid in (("kind", kind, KINDS), ("scope", scope, SCOPES)):
        if value not in valid:
            raise table.error(key, value, ", ".join(valid))
    return Interruption(start, end, kind, scope, table.text("source"))


def read_hours(table: TomlTable) -> Hours:
    """Weekly Hours of one `[[hours]]` table; CalendarError without `days` or without a labelled span."""
    spans = read_segment_hours(table)
    if "days" not in table.cells or not spans:
        raise table.error("days", table.cells.get("days"), 'days = "Mon-Fri" and a label, RTH = "09:30 to 16:00"')
    return Hours(read_scope(table), spans)


def read_override(table: TomlTable) -> Override:
    """Override of an `[[override]]` table; CalendarError unless just one of closed, other hours, or time changes."""
    made = Override(
        scope=read_scope(table),
        closed=read_flag(table, "closed"),
        spans=read_segment_hours(table),
        open=table.time("open"),
        close=table.time("close"),
        pause=read_span(table, "pause"),
        move=read_moves(table),
        halt=read_span(table, "halt"),
        next_trade_date=read_trade_date(table),
    )
    changes = made.open, made.close, made.pause, made.move, made.halt, made.next_trade_date
    kinds = [made.closed, bool(made.spans), any(changes)]
    if sum(kinds) != 1:
        valid = f"closed = true, or other hours (RTH = ...), or any of {', '.join(CHANGE_KEYS)}; one of the three"
        raise CalendarError(f"{table.path}: {table.where}received {', '.join(table.cells)}; valid: {valid}")
    return made


def read_scope(table: TomlTable) -> Scope:
    """Dates of a rule: listed ones, or weekdays and holidays in a range; CalendarError for both or neither."""
    dates = table.dates("date") + table.dates("dates")
    ranged = [key for key in (*HOURS_KEYS, "on") if key in table.cells]
    if bool(dates) == bool(ranged):
        raise CalendarError(
            f"{table.path}: {table.where}received {', '.join(table.cells)}; "
            "valid: either date or dates, or some of days, valid_from, valid_to and on"
        )
    first, last = table.date("valid_from"), table.date("valid_to")
    if first and last and first > last:
        raise table.error("valid_to", last.isoformat(), f"a date from valid_from ({first}) on")
    return Scope(read_weekdays(table), first, last, dates, read_holiday_names(table))


def read_holiday_names(table: TomlTable) -> tuple[str, ...]:
    """Names of the cell `on`, a text or a list of them; empty when absent, CalendarError for an unknown one."""
    given = table.cells.get("on", [])
    names = given if isinstance(given, list) else [given]
    for name in names:
        if not isinstance(name, str) or not is_holiday_name(name):
            valid = f"{', '.join(RULES)}, or a month and day such as 12-24; +1 and -1 count weekdays after and before"
            raise table.error("on", name, valid)
    return tuple(names)


def read_weekdays(table: TomlTable) -> tuple[int, ...]:
    """Weekday numbers (0 is Monday) of `days`, such as Mon-Thu,Sun; Fri-Mon wraps; all if absent; or CalendarError."""
    text = table.text("days") or "Mon-Sun"
    chosen: list[int] = []
    for part in text.split(","):
        ends = [end.strip() for end in part.split("-")]
        if len(ends) > 2 or any(end not in WEEKDAYS for end in ends):  # noqa: PLR2004 - one day, or from and to
            raise table.error("days", text, f"days and ranges of {', '.join(WEEKDAYS)}, such as Mon-Thu,Sun")
        begin, end = WEEKDAYS.index(ends[0]), WEEKDAYS.index(ends[-1])
        chosen += [day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)]
    return tuple(chosen)


def read_segment_hours(table: TomlTable) -> tuple[Span, ...]:
    """Spans, in file order, of all cells whose key is a segment label in capitals (PRE, RTH, ...)."""
    return tuple(span for key in table.cells if _LABEL.fullmatch(key) for span in table.spans(key))


def read_span(table: TomlTable, key: str) -> Span | None:
    """Span of a cell; None when absent, CalendarError when it is no single text."""
    if key not in table.cells:
        return None
    if not isinstance(table.cells[key], str):
        raise table.error(key, table.cells[key], A_SPAN)
    return table.spans(key)[0]


def read_trade_date(table: TomlTable) -> bool:
    """True for `trade_date = "next"`; False when absent, CalendarError for any other value."""
    given = table.cells.get("trade_date")
    if given not in (None, "next"):
        raise table.error("trade_date", given, '"next": these sessions are cleared with the next trade date')
    return given is not None


def read_moves(table: TomlTable) -> tuple[tuple[WallTime, WallTime], ...]:
    """(old, new) WallTimes of the table `move`, in order; empty when absent, CalendarError for a day or zone."""
    given = table.cells.get("move", {})
    if not isinstance(given, dict):
        raise table.error("move", given, 'old and new times, such as { "16:00" = "16:15" }')
    moves = [(parse_plain_time(table, "move", old), parse_plain_time(table, "move", new)) for old, new in given.items()]
    return tuple(moves)


def parse_plain_time(table: TomlTable, key: str, text: object) -> WallTime:
    """Parse a time of day; CalendarError when it has a day offset or a zone of its own."""
    time = table.time(key, text)
    if time is None or time.day or time.zone:
        raise table.error(key, text, "times of day in the calendar's zone, without a day or zone of their own")
    return time


def read_flag(table: TomlTable, key: str) -> bool:
    """Boolean of a cell; False when absent, CalendarError for any other value."""
    value = table.cells.get(key, False)
    if not isinstance(value, bool):
        raise table.error(key, value, "true or false")
    return value


def require_zone(name: str) -> str:
    """The IANA zone's key of a name; CalendarError when no such zone exists."""
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError) as error:
        raise CalendarError(f"zone: received {name!r}; valid: an IANA zone such as America/New_York") from error
