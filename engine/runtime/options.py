"""Options of a load: calendars of symbols, base interval, derived intervals, range of dates, read options."""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import polars as pl

from engine.arguments import check_fields, describe_value, one_name, path_of
from engine.calendars.auctions import AUCTION
from engine.calendars.providers import SessionCalendar, calendar, regular_labels
from engine.derive.indicators import Indicator
from engine.errors import ParameterError
from engine.grid import ALL_IN_DAYS, Align, DailySegments, GridSpec
from engine.interval import Interval
from engine.sources.options import ReadOptions
from engine.sources.resolution import Resolution, base_of
from engine.store.batch_rows import DateRange
from engine.store.session_state import Incomplete
from engine.toml_text import parse_toml, read_regular_text

Progress = Callable[[int, int, str], None]
Definitions: TypeAlias = str | Indicator | Sequence[str | Indicator]
Indicators: TypeAlias = Definitions | Mapping[str, Definitions]
IndicatorRequest: TypeAlias = tuple[str | Indicator, Interval | None]  # None: at the base
Auctions = Literal["in", "out"]


@dataclass(frozen=True)
class CalendarMap:
    """Calendar of each symbol, by patterns on its name.

    Attributes
    ----------
    default : str or None
        For symbols that no pattern matches.
    patterns : tuple of (pattern, code)
        Shell patterns on symbols (`ES.*`); the first that matches counts.
    """

    default: str | None
    patterns: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, "default", "patterns")

    @classmethod
    def from_toml(cls, path: str | Path, default: str | None = None) -> CalendarMap:
        """Read `default` and `[symbols]` pattern = code from TOML; `default` of the file goes before the argument."""
        path = path_of("path", path)
        try:
            content = parse_toml(read_regular_text(path))
        except (OSError, ValueError) as error:
            raise ParameterError(f"calendar map {path}: {error}") from error
        unknown = sorted(set(content) - {"default", "symbols"})
        if unknown:
            raise ParameterError(f"calendar map {path}: unknown {', '.join(unknown)}; valid: default, [symbols]")
        return cls(content.get("default", default), tuple(content.get("symbols", {}).items()))

    def of(self, symbol: str) -> str:
        """Calendar code of the first shell pattern that matches, else the default; ParameterError when that is None."""
        one_name("symbol", symbol)
        for pattern, code in self.patterns:
            if fnmatch.fnmatchcase(symbol, pattern):
                return code
        if self.default is None:
            raise ParameterError(
                f"calendar: none for {symbol}; name one with --calendar, or the symbol in --calendar-map "
                "(`engine calendars` lists codes)"
            )
        return self.default


Calendars: TypeAlias = str | Path | CalendarMap | Mapping[str, str]


def calendar_map(value: Any) -> CalendarMap:  # noqa: ANN401 - `Calendars`, or anything wrong
    """CalendarMap of a code or file, of a mapping of symbol patterns to codes, or as it is; None: no calendar.

    Raises
    ------
    ParameterError
        The value is none of these.
    """
    if value is None:
        return CalendarMap(None)
    if isinstance(value, CalendarMap):
        return value
    if isinstance(value, str | Path) and str(value):
        return CalendarMap(str(value))
    if isinstance(value, Mapping):
        return CalendarMap(None, tuple((one_name("calendar", key), str(code)) for key, code in value.items()))
    hint = f"; give its code: {value.code!r}" if isinstance(value, SessionCalendar) else ""
    raise ParameterError(
        f"calendar: received {describe_value(value)}; valid: a code such as 'XNYS', a TOML file, a CalendarMap, or "
        f"a mapping of symbol patterns to codes{hint}"
    )


def indicator_requests(value: Any) -> tuple[IndicatorRequest, ...]:  # noqa: ANN401 - `Indicators`, or anything wrong
    """(definition, interval) of indicators at the base (None: `sma(20)`, a list), or by interval (`{"5m": ["sma(20)"]}`).

    Raises
    ------
    ParameterError
        The value, or a definition in it, is none.
    IntervalError
        A key of the mapping is no interval.
    """
    if isinstance(value, Mapping):
        return tuple((one, Interval.parse(at)) for at, ours in value.items() for one, _ in indicator_requests(ours))
    listed = [value] if isinstance(value, str | Indicator) else value
    if not isinstance(listed, Sequence):
        raise ParameterError(
            f"indicators: received {describe_value(value)}; valid: 'sma(20)', a list of such texts or of Indicator, or a "
            'mapping of intervals to them: {"5m": ["sma(20)"]}'
        )
    for one in listed:
        Indicator.parse(one)
    return tuple((one, None) for one in listed)


@dataclass(frozen=True)
class LoadOptions:
    """Options of a load.

    Attributes
    ----------
    calendars : CalendarMap
    interval : Interval, optional
        The base; default as `sources.resolution.base_of` chooses it.
    derive : tuple of Interval
        Derived intervals; those that a symbol's base cannot be derived to are left out for it, with a note.
    dates : (date or None, date or None)
        First and last trade date.
    segments : tuple of str
        Labels whose slots are expected; empty means the regular ones.
    auctions : {"in", "out"}
        Whether rows of closing auctions enter 1d, 1w and 1mo (calendars with a label `AUCTION`).
    daily_segments : {"regular", "all"}
        Which of these segments days, weeks and months fold.
    align : {"session", "clock", "date"}, optional
        Alignment of bars; default that of the format.
    keep_source : bool
        Keep other resolutions as series of their own.
    as_of : datetime, optional
        Slots that end later are not due.
    incomplete : {"flag", "drop"}
        Whether bars of incomplete windows are flagged or left out.
    choose : callable, optional
        Chooses the base of a symbol, or of a root of contracts, from the available resolutions; default
        `sources.resolution.base_of`.
    read : ReadOptions
        Options of the readers.
    indicators : tuple of (definition, Interval or None)
        Computed for every symbol that has bars of the interval (None: its base).
    history_sessions : int, optional
        Sessions before the current one that are a symbol's history (0: all); None: all, without `historical_indicators`.
    """

    calendars: CalendarMap
    interval: Interval | None = None
    derive: tuple[Interval, ...] = ()
    dates: DateRange = (None, None)
    segments: tuple[str, ...] = ()
    auctions: Auctions = "in"
    daily_segments: DailySegments = "regular"
    align: Align | None = None
    keep_source: bool = False
    as_of: dt.datetime | None = None
    incomplete: Incomplete = "flag"
    choose: Callable[[str, Iterable[Resolution]], Resolution] | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    indicators: tuple[IndicatorRequest, ...] = ()
    history_sessions: int | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            "calendars",
            "interval",
            "daily_segments",
            "align",
            "keep_source",
            "as_of",
            "incomplete",
            "choose",
            "read",
            "history_sessions",
        )
        if self.history_sessions is not None and self.history_sessions < 0:
            raise ParameterError(f"history_sessions: received {self.history_sessions}; valid: a whole number from 0")
        first, last = self.dates
        if first is not None and last is not None and first > last:
            raise ParameterError(f"start: received {first}, later than end {last}; valid: a start up to the end")
        if self.auctions not in get_args(Auctions):
            raise ParameterError(f"auctions: received {self.auctions!r}; valid: {', '.join(get_args(Auctions))}")

    def spec_of(self, symbol: str, interval: Interval, align: Align, zone: str) -> GridSpec:
        """Axis of a symbol: `date` for a day or more, else own `align` before the argument's; zone UTC if `session`.

        Raises
        ------
        ParameterError
            No calendar for the symbol, or one that lacks a label of `segments`; or `daily_segments` is all, the calendar has
            extended hours, and no `segments` are given.
        CalendarError
            The calendar cannot be had.
        """
        code = self.calendars.of(symbol)
        if self.segments:
            calendar(code).check_labels(self.segments)
        align = "date" if not interval.is_intraday else self.align or align
        return GridSpec(code, self.segments_of(code), align, "UTC" if align == "session" else zone)

    def segments_of(self, code: str) -> tuple[str, ...]:
        """Labels of a calendar's axis: `segments` with or without `AUCTION`; none given and auctions out: the regular ones.

        `ALL_IN_DAYS` is among them if days fold all of them; ParameterError if so, none are given, and there are others.
        """
        labels = tuple(label for label in calendar(code).labels if label != AUCTION)
        folds_all = self.daily_segments == "all"
        if folds_all and not self.segments and len(labels) > len(regular_labels(labels)):
            raise ParameterError(
                f"daily_segments: received 'all' without segments; calendar {code} has {', '.join(labels)}: name those that "
                f"are expected, such as --segments {','.join(label for label in labels if label != 'OVERNIGHT')}"
            )
        every = (ALL_IN_DAYS,) if folds_all and self.segments else ()
        if not self.segments and self.auctions == "in":
            return ()
        if AUCTION not in calendar(code).labels:
            return (*self.segments, *every)
        chosen = self.segments or tuple(label for label in labels if label in regular_labels(labels))
        kept = tuple(label for label in chosen if label != AUCTION)
        return (*kept, AUCTION, *every) if self.auctions == "in" else (*kept, *every)

    def zone_of_dates(self, symbol: str, interval: Interval, zone: str, ts: pl.Series) -> str:
        """Zone of the dates that stamps of daily bars show: the market's for UTC instants not all at midnight, else `zone`.

        Midnight in Tokyo is 15:00 UTC of the day before. A stated `timezone` wins.
        """
        if interval.is_intraday or zone != "UTC" or self.read.timezone is not None or (ts.dt.time() == dt.time()).all():
            return zone
        return calendar(self.calendars.of(symbol)).zone

    def base_of(self, group: str, available: Iterable[Resolution]) -> Resolution:
        """`choose` if set; else `interval` if available, else ticks (None), else finest; by default 1m, or what `derive` needs."""
        if self.choose is not None:
            return self.choose(group, available)
        return base_of(available, self.interval, self.derive)
