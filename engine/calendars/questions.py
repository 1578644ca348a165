"""Questions about the hours of a calendar: open or closed, the next and the last open and close, sessions and minutes between.

A question takes one value, a Series or an expression, and answers in kind: an aware datetime (or ISO text with a zone)
gives a scalar, a Series a Series, an expression an expression. Nulls stay null. Spans are half-open: at its close a
market is closed. Spans that touch (PRE and RTH; two days of a market that never closes) are one.

1. `CalendarQuestions` is the base of `SessionCalendar` that has the questions as methods.
2. `OpenHours` are the spans of some labels in some years as two sorted arrays, which every answer is searched in.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.arguments import Names, describe_value, instant_of, names_of, required_date
from engine.errors import CalendarError, ParameterError
from engine.schema import TS

Ints = NDArray[np.int64]
When: TypeAlias = dt.datetime | str | pl.Series | pl.Expr
Day: TypeAlias = dt.date | str | pl.Series | pl.Expr

MICROSECONDS_PER_MINUTE = 60_000_000
INSTANT_FORMS = "2024-01-02T15:30:00+00:00, an aware datetime, a Series or expression of Datetime with a time zone"
DATE_FORMS = "2024-01-02, a date, a Series or expression of Date"


@dataclass(frozen=True)
class OpenHours:
    """Spans in which a market is open, in microseconds since 1970: sorted, disjoint, no two touch."""

    opens: Ints
    closes: Ints

    @classmethod
    def of(cls, segments: pl.DataFrame, labels: Collection[str], *, ignore_breaks: bool) -> OpenHours:
        """Hours of `schema.SEGMENTS` with one of the labels (none: regular); `ignore_breaks`: a session is one span."""
        chosen = segments.filter(pl.col("segment").is_in(list(labels)) if labels else pl.col("regular"))
        if ignore_breaks:
            chosen = chosen.group_by("session", maintain_order=True).agg(
                pl.col("segment_open").min(), pl.col("segment_close").max()
            )
        opens, closes = (chosen[name].cast(pl.Int64).to_numpy() for name in ("segment_open", "segment_close"))
        is_new = np.append([True], opens[1:] > closes[:-1])[: len(opens)]
        return cls(opens[is_new], closes[np.append(is_new[1:], [True])[: len(opens)]])

    def contains(self, at: Ints) -> NDArray[np.bool_]:
        """Whether each instant is at or after an open and before its close."""
        return np.searchsorted(self.opens, at, side="right") > np.searchsorted(self.closes, at, side="right")

    def open_until(self, at: Ints) -> Ints:
        """Microseconds of open time before each instant, counted from the first open."""
        if not len(self.opens):
            return np.zeros(len(at), np.int64)
        length = self.closes - self.opens
        before = np.cumsum(length) - length
        span = np.maximum(np.searchsorted(self.opens, at, side="right") - 1, 0)
        return np.asarray(before[span] + np.clip(at - self.opens[span], 0, length[span]))


class CalendarQuestions(ABC):
    """Base of `SessionCalendar`: questions that its segments answer, of one value, a Series or an expression."""

    code: str
    zone: str

    @abstractmethod
    def bounds(self) -> tuple[dt.date, dt.date]:
        """First and last trade date, both included."""

    @abstractmethod
    def segments_in_bounds(self, first: dt.date, last: dt.date) -> pl.DataFrame:
        """Segments (`schema.SEGMENTS`) of trade dates `first` to `last`, both included."""

    @abstractmethod
    def check_labels(self, labels: Collection[str]) -> None:
        """Raise ParameterError if any of these labels is none of the calendar's."""

    def is_open(self, at: When, *, segments: Names | None = None, ignore_breaks: bool = False) -> Any:  # noqa: ANN401 - as `at`
        """Whether the market is open at an instant, in its regular hours or those of `segments`; at a close it is not.

        Parameters
        ----------
        at : datetime, str, Series or Expr
            Instants with a zone; a Series or an expression of Datetime with a time zone.
        segments : str or list of str, optional
            Labels whose hours count (`["PRE", "RTH", "POST"]`); default the regular ones.
        ignore_breaks : bool
            A session is one span from its first open to its last close: open at lunch.

        Returns
        -------
        bool, Series or Expr of Boolean

        Raises
        ------
        ParameterError
            No instant, an instant without a zone, or an unknown label.
        CalendarError
            An instant lies outside `bounds`.

        Examples
        --------
        >>> from engine import calendar
        >>> calendar("XTKS").is_open("2024-06-03T12:00+09:00")
        False
        """

        def answer(at: Ints) -> pl.Series:
            return pl.Series(self._hours_around(at, segments, ignore_breaks=ignore_breaks).contains(at))

        return self._ask(answer, pl.Boolean(), at)

    def next_open(self, at: When, *, segments: Names | None = None, ignore_breaks: bool = False) -> Any:  # noqa: ANN401 - as `at`
        """First open strictly after an instant, in UTC; None where the calendar has none; arguments as of `is_open`."""
        return self._edge(at, "opens", segments, later=True, ignore_breaks=ignore_breaks)

    def next_close(self, at: When, *, segments: Names | None = None, ignore_breaks: bool = False) -> Any:  # noqa: ANN401 - as `at`
        """First close strictly after an instant, in UTC; None where the calendar has none; arguments as of `is_open`."""
        return self._edge(at, "closes", segments, later=True, ignore_breaks=ignore_breaks)

    def previous_open(self, at: When, *, segments: Names | None = None, ignore_breaks: bool = False) -> Any:  # noqa: ANN401 - as `at`
        """Last open strictly before an instant, in UTC; None where the calendar has none; arguments as of `is_open`."""
        return self._edge(at, "opens", segments, later=False, ignore_breaks=ignore_breaks)

    def previous_close(self, at: When, *, segments: Names | None = None, ignore_breaks: bool = False) -> Any:  # noqa: ANN401 - as `at`
        """Last close strictly before an instant, in UTC; None where the calendar has none; arguments as of `is_open`."""
        return self._edge(at, "closes", segments, later=False, ignore_breaks=ignore_breaks)

    def minutes_between(
        self, begin: When, end: When, *, segments: Names | None = None, ignore_breaks: bool = False
    ) -> Any:  # noqa: ANN401 - as `begin` and `end`
        """Open minutes from `begin` to `end` (Float64, fractions too), negative where `end` is earlier; else as `is_open`.

        Examples
        --------
        >>> from engine import calendar
        >>> calendar("XNYS").minutes_between("2024-07-03T09:30-04:00", "2024-07-05T10:00-04:00")
        240.0
        """

        def answer(begin: Ints, end: Ints) -> pl.Series:
            hours = self._hours_around(np.concatenate([begin, end]), segments, ignore_breaks=ignore_breaks)
            return pl.Series((hours.open_until(end) - hours.open_until(begin)) / MICROSECONDS_PER_MINUTE)

        return self._ask(answer, pl.Float64(), begin, end)

    def sessions(self, first: dt.date | str, last: dt.date | str) -> pl.Series:
        """Trade dates from `first` to `last`, both included, as a sorted Series of Date; dates outside `bounds` have none."""
        segments = self.segments_in_bounds(required_date("first", first), required_date("last", last))
        return segments["session"].unique().sort()

    def sessions_between(self, first: Day, last: Day) -> Any:  # noqa: ANN401 - as `first` and `last`
        """Number of trade dates from `first` to `last`, both included; negative where `last` is earlier (Int64).

        Parameters
        ----------
        first, last : date, str, Series or Expr
            Dates, sessions or not.

        Raises
        ------
        ParameterError
            No date.
        CalendarError
            A date lies outside `bounds`.

        Examples
        --------
        >>> from engine import calendar
        >>> calendar("XNYS").sessions_between("2024-12-23", "2025-01-03")
        8
        """

        def answer(first: Ints, last: Ints) -> pl.Series:
            days = np.concatenate([first, last])
            ends = [dt.date.fromordinal(EPOCH + int(day)) for day in (days.min(), days.max())] if len(days) else []
            self._check_bounds(ends)
            sessions = self._sessions_of(ends[0].year, ends[1].year) if ends else np.zeros(0, np.int64)
            low, high = np.minimum(first, last), np.maximum(first, last)
            count = np.searchsorted(sessions, high, side="right") - np.searchsorted(sessions, low, side="left")
            return pl.Series(np.where(last < first, -count, count))

        return self._ask(answer, pl.Int64(), first, last, read=days_of)

    def _ask(
        self,
        answer: Callable[..., pl.Series],
        dtype: pl.DataType,
        *values: object,
        read: Callable[[object], pl.Series] | None = None,
    ) -> Any:  # noqa: ANN401 - a scalar, a Series or an expression
        """Scalar, Series or expression of `dtype` that `answer` gives for the integers of the values; nulls stay null."""
        read = read or instants_of

        def of_series(given: Sequence[pl.Series]) -> pl.Series:
            columns = [read(one) for one in given]
            sizes = {len(one) for one in columns}
            if len(sizes - {1}) > 1:
                raise ParameterError(
                    f"calendar {self.code}: received Series of {sorted(sizes)} rows; valid: one length"
                )
            size = (sizes - {1}).pop() if sizes != {1} else 1
            columns = [one if len(one) == size else one.new_from_index(0, size) for one in columns]
            is_known = np.logical_and.reduce([one.is_not_null().to_numpy() for one in columns])
            found = answer(*(one.cast(pl.Int64).filter(pl.Series(is_known)).to_numpy() for one in columns)).cast(dtype)
            if is_known.all():
                return found.alias(given[0].name)
            rows = np.where(is_known, np.cumsum(is_known) - 1, len(found))
            return found.extend(pl.Series([None], dtype=dtype)).gather(rows).alias(given[0].name)

        if any(isinstance(value, pl.Expr) for value in values):
            columns = [value if isinstance(value, pl.Expr) else pl.lit(read(value)) for value in values]
            return pl.map_batches(columns, of_series, return_dtype=dtype, is_elementwise=True)
        found = of_series([value if isinstance(value, pl.Series) else read(value) for value in values])
        return found if any(isinstance(value, pl.Series) for value in values) else found.item()

    def _edge(self, at: When, which: str, segments: Names | None, *, later: bool, ignore_breaks: bool) -> Any:  # noqa: ANN401 - as `at`
        """Nearest of `opens` or `closes` strictly after (`later`) or before each instant; null where there is none."""

        def search(at: Ints, hours: OpenHours) -> tuple[Ints, NDArray[np.bool_]]:
            edges: Ints = getattr(hours, which)
            index = np.searchsorted(edges, at, side="right") if later else np.searchsorted(edges, at) - 1
            is_found = (index >= 0) & (index < len(edges))
            return np.where(is_found, edges[np.where(is_found, index, 0)], 0) if len(edges) else at, is_found

        def answer(at: Ints) -> pl.Series:
            found, is_found = search(at, self._hours_around(at, segments, ignore_breaks=ignore_breaks))
            if not is_found.all():  # nowhere in the years around: anywhere at all
                first, last = (day.year for day in self.bounds())
                found, is_found = search(at, self._hours_of(first, last, segments, ignore_breaks=ignore_breaks))
            return pl.select(pl.when(pl.Series(is_found)).then(pl.Series(found)).cast(TS)).to_series()

        return self._ask(answer, TS, at)

    def _hours_around(self, at: Ints, segments: Names | None, *, ignore_breaks: bool) -> OpenHours:
        """Open hours of the years of the instants and of those beside; CalendarError if an instant is outside `bounds`."""
        if not len(at):
            return OpenHours(np.zeros(0, np.int64), np.zeros(0, np.int64))
        zone = ZoneInfo(self.zone)
        ends = [
            dt.datetime.fromtimestamp(int(micros) // 1_000_000, dt.UTC).astimezone(zone).date()
            for micros in (at.min(), at.max())
        ]
        self._check_bounds(ends)
        return self._hours_of(ends[0].year - 1, ends[1].year + 1, segments, ignore_breaks=ignore_breaks)

    def _hours_of(self, first: int, last: int, segments: Names | None, *, ignore_breaks: bool) -> OpenHours:
        """Open hours of the years `first` to `last`, both included, within `bounds`; kept as long as the calendar."""
        labels = names_of("segments", segments) or ()
        key = (first, last, labels, ignore_breaks)
        if key not in self._kept_hours:
            self.check_labels(labels)
            frame = self.segments_in_bounds(*year_range(first, last))
            self._kept_hours[key] = OpenHours.of(frame, labels, ignore_breaks=ignore_breaks)
        return self._kept_hours[key]

    def _sessions_of(self, first: int, last: int) -> Ints:
        """Trade dates (days since 1970, sorted) of the years `first` to `last`, both included; kept as the hours are."""
        if (first, last) not in self._kept_sessions:
            days = self.segments_in_bounds(*year_range(first, last))["session"].unique().sort()
            self._kept_sessions[first, last] = days.cast(pl.Int32).to_numpy().astype(np.int64)
        return self._kept_sessions[first, last]

    def _check_bounds(self, days: list[dt.date]) -> None:
        """Raise CalendarError if a day lies outside `bounds`."""
        earliest, latest = self.bounds()
        for day in days:
            if not earliest <= day <= latest:
                raise CalendarError(f"calendar {self.code}: received {day}; valid: {earliest} to {latest}")

    @cached_property
    def _kept_hours(self) -> dict[tuple[int, int, tuple[str, ...], bool], OpenHours]:
        return {}

    @cached_property
    def _kept_sessions(self) -> dict[tuple[int, int], Ints]:
        return {}


EPOCH = dt.date(1970, 1, 1).toordinal()


def year_range(first: int, last: int) -> tuple[dt.date, dt.date]:
    """First day of the year `first` and last day of the year `last`."""
    return dt.date(first, 1, 1), dt.date(last, 12, 31)


def instants_of(value: object) -> pl.Series:
    """Series of Datetime[us, UTC] of instants with a zone (one row for a scalar); ParameterError for anything else."""
    if not isinstance(value, pl.Series):
        at = instant_of("at", value)  # type: ignore[arg-type] # refuses what is none
        return pl.Series("at", [at], TS)
    if value.dtype == pl.Null or (isinstance(value.dtype, pl.Datetime) and value.dtype.time_zone is not None):
        return value.cast(TS)
    raise ParameterError(f"at: received a Series of {value.dtype}; valid: {INSTANT_FORMS}")


def days_of(value: object) -> pl.Series:
    """Series of days since 1970 of dates (one row for a scalar); ParameterError for anything else."""
    if not isinstance(value, pl.Series):
        if isinstance(value, dt.date | str):
            return pl.Series("date", [required_date("date", value)], pl.Date)
        raise ParameterError(f"date: received {describe_value(value)}; valid: {DATE_FORMS}")
    if value.dtype in (pl.Null, pl.Date):
        return value.cast(pl.Date)
    raise ParameterError(f"date: received a Series of {value.dtype}; valid: {DATE_FORMS}")
