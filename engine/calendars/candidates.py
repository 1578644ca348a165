"""Calendars to try where the one that was named does not fit the rows: the codes people use, in the order to propose them.

`data/usual_hours.csv` has their hours in a usual week, so that few of them must be built to find the ones that fit.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from engine.calendars.files import parse_calendar
from engine.calendars.providers import DATA, calendar, calendar_from_file
from engine.errors import CalendarError
from engine.schema import SEGMENTS, empty

USUAL_HOURS = DATA / "usual_hours.csv"
COLUMNS = dict.fromkeys(("code", "zone", "days", "hours", "pre", "post"), pl.String)


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
        made: dict[str, pl.DataFrame] = {}
        code_of: dict[str, str] = {}
        for (code, zone), rows in candidate_hours().group_by("code", "zone", maintain_order=True):
            text = f'zone = "{zone}"\n'
            for days, *hours in rows.select("days", "hours", "pre", "post").iter_rows():
                text += f'[[hours]]\ndays = "{days}"\n'
                for label, spans in zip(("RTH", "PRE", "POST"), hours, strict=True):
                    if spans is not None:
                        quoted = ", ".join(f'"{span}"' for span in spans.split("; "))
                        text += f"{label} = [{quoted}]\n"
            first = code_of.setdefault(text, str(code))
            if first not in made:
                own = calendar_from_file(parse_calendar(USUAL_HOURS, text.encode()))
                spans = own.source(self.last - dt.timedelta(days=self.days), self.last)
                made[first] = spans.with_columns((pl.col("segment") == "RTH").alias("regular"))
            made[str(code)] = made[first]
        return made


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
