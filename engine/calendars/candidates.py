"""Calendars to try where the one that was named does not fit the rows: the codes people use, in the order to propose them.

`data/usual_hours.csv` has their hours in a usual week, so that few of them must be built to find the ones that fit.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from engine.calendars.files import CalendarFile, parse_calendar
from engine.calendars.hours import WallTime, dates, local_to_utc
from engine.calendars.providers import DATA, calendar
from engine.errors import CalendarError
from engine.schema import SEGMENTS, TS, Schema, empty

USUAL_HOURS = DATA / "usual_hours.csv"
COLUMNS = dict.fromkeys(("code", "zone", "days", "hours", "pre", "post"), pl.String)
HOURS: Schema = {
    "number": pl.Int64(),
    "weekday": pl.Int8(),
    "segment": pl.String(),
    "segment_open": pl.Duration("us"),
    "segment_close": pl.Duration("us"),
    "open_zone": pl.String(),
    "close_zone": pl.String(),
}


def candidate_hours() -> pl.DataFrame:
    """Usual hours of the codes to try: `code, zone, days, hours, pre, post`, a row per code and set of weekdays, in order."""
    return pl.read_csv(io.BytesIO(USUAL_HOURS.read_bytes()), schema=COLUMNS)


@dataclass(frozen=True)
class UsualSegments(Mapping[str, pl.DataFrame]):
    """Segments of each code's usual week up to a date, without holidays, eras and early closes; made at first use.

    Frames of `schema.SEGMENTS` without `ordinal`, unsorted. Codes of the same hours have the same frame.
    """

    last: dt.date
    days: int = 500

    def __getitem__(self, code: str) -> pl.DataFrame:
        return self._made[code]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    @cached_property
    def _made(self) -> dict[str, pl.DataFrame]:
        files: dict[str, CalendarFile] = {}
        text_of: dict[str, str] = {}
        for (code, zone), rows in candidate_hours().group_by("code", "zone", maintain_order=True):
            text = f'zone = "{zone}"\n'
            for days, *hours in rows.select("days", "hours", "pre", "post").iter_rows():
                text += f'[[hours]]\ndays = "{days}"\n'
                for label, spans in zip(("RTH", "PRE", "POST"), hours, strict=True):
                    if spans is not None:
                        quoted = ", ".join(f'"{span}"' for span in spans.split("; "))
                        text += f"{label} = [{quoted}]\n"
            text_of[str(code)] = text
            if text not in files:
                files[text] = parse_calendar(USUAL_HOURS, text.encode())
        made = weekly_segments(list(files.values()), self.last - dt.timedelta(days=self.days), self.last)
        segments = dict(zip(files, made, strict=True))
        return {code: segments[text] for code, text in text_of.items()}


def weekly_segments(files: Sequence[CalendarFile], first: dt.date, last: dt.date) -> list[pl.DataFrame]:
    """Return `session, segment, segment_open, segment_close, regular` by each file's hours of weekdays, without any other rule.

    The same as `calendar_from_file` gives of each file, zone by zone instead of file by file.
    """
    hours = [
        (number, day + 1, span.label, *(microseconds(at) for at in ends), *(at.zone or file.zone for at in ends))
        for number, file in enumerate(files)
        for rule in file.hours
        for day in rule.scope.days
        for span in rule.spans
        for ends in [(span.open, span.close)]
    ]
    table = pl.DataFrame(hours, HOURS, orient="row")
    days = dates(first, last).with_columns(pl.col("session").dt.weekday().alias("weekday"))
    midnight = pl.col("session").cast(pl.Datetime("us"))
    ends = ("segment_open", "segment_close")
    parts = [
        rows.select(
            "number",
            "session",
            "segment",
            *(
                local_to_utc(midnight + pl.col(end), zone).cast(TS).alias(end)
                for end, zone in zip(ends, zones, strict=True)
            ),
        )
        for zones, rows in days.join(table, on="weekday").partition_by("open_zone", "close_zone", as_dict=True).items()
    ]
    # A date that a zone skipped has neither end.
    whole = pl.concat(parts).filter(pl.any_horizontal(pl.col(end).is_not_null() for end in ends))
    whole = whole.with_columns((pl.col("segment") == "RTH").alias("regular"))
    by_file = whole.partition_by("number", as_dict=True, include_key=False)
    return [by_file[number,] for number in range(len(files))]


def microseconds(at: WallTime) -> int:
    """Microseconds from the midnight of a trade date to a wall time."""
    return 1_000_000 * (86_400 * at.day + at.seconds)


@dataclass(frozen=True)
class CandidateSegments(Mapping[str, pl.DataFrame]):
    """Exact segments of each code to try over a range of dates; a code's calendar is built when it is looked up.

    A calendar that a library cannot build has no segments here, so that it fits no rows.
    """

    first: dt.date
    last: dt.date
    _codes: tuple[str, ...] = field(
        default_factory=lambda: tuple(candidate_hours()["code"].unique(maintain_order=True))
    )

    def __getitem__(self, code: str) -> pl.DataFrame:
        if code not in self._codes:
            raise KeyError(code)
        try:
            return calendar(code).segments_in_bounds(self.first, self.last)
        except CalendarError:
            return empty(SEGMENTS)

    def __iter__(self) -> Iterator[str]:
        return iter(self._codes)

    def __len__(self) -> int:
        return len(self._codes)
