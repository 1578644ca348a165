"""Options of a load: calendars of symbols, base interval, derived intervals, range of dates, read options."""

from __future__ import annotations

import datetime as dt
import fnmatch
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import ParameterError
from engine.grid import Align
from engine.interval import Interval
from engine.sources.options import ReadOptions
from engine.store.session_data import DateRange
from engine.store.snapshot import Incomplete

DEFAULT_BASE = Interval(1, "m")
Resolution = Interval | None  # None: ticks and quotes
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CalendarMap:
    """Which calendar each symbol lives on.

    Attributes
    ----------
    default : str or None
        For symbols that no pattern matches.
    patterns : tuple of (pattern, code)
        Shell patterns on symbols (`ES.*`); the first that matches counts.
    """

    default: str | None
    patterns: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_toml(cls, path: Path, default: str | None = None) -> CalendarMap:
        """Read a file: `default = "XNYS"` and a table `[symbols]` of pattern = code."""
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ParameterError(f"calendar map {path}: {error}") from error
        strange = sorted(set(content) - {"default", "symbols"})
        if strange:
            raise ParameterError(f"calendar map {path}: unknown {', '.join(strange)}; valid: default, [symbols]")
        return cls(content.get("default", default), tuple(content.get("symbols", {}).items()))

    def of(self, symbol: str) -> str:
        """The calendar of one symbol."""
        for pattern, code in self.patterns:
            if fnmatch.fnmatchcase(symbol, pattern):
                return code
        if self.default is None:
            raise ParameterError(
                f"calendar: none for {symbol}; name one with --calendar, or the symbol in --calendar-map "
                "(`engine calendars` lists codes)"
            )
        return self.default


@dataclass(frozen=True)
class LoadOptions:
    """How sources become a store.

    Attributes
    ----------
    calendars : CalendarMap
    interval : Interval, optional
        The base; default 1m where there is one, else the finest there is.
    derive : tuple of Interval
        Derived intervals; those not coarser than a symbol's base are left out for it, and said.
    dates : (date or None, date or None)
        First and last trade date.
    segments : tuple of str
        Labels whose slots are expected; empty means the regular ones.
    align : {"session", "clock", "date"}, optional
        Overrides what the format says.
    keep_source : bool
        Keep other resolutions as series of their own.
    as_of : datetime, optional
        Slots that end later are not due.
    incomplete : {"flag", "drop"}
        Whether bars of windows that lack slots are shown and flagged, or left out.
    choose : callable, optional
        Chooses the base of a symbol (or of a root of contracts) from the resolutions that there are; default `choose_base`.
    read : ReadOptions
        For the readers.
    """

    calendars: CalendarMap
    interval: Interval | None = None
    derive: tuple[Interval, ...] = ()
    dates: DateRange = (None, None)
    segments: tuple[str, ...] = ()
    align: Align | None = None
    keep_source: bool = False
    as_of: dt.datetime | None = None
    incomplete: Incomplete = "flag"
    choose: Callable[[str, Iterable[Resolution]], Resolution] | None = None
    read: ReadOptions = field(default_factory=ReadOptions)

    def base_of(self, group: str, available: Iterable[Resolution]) -> Resolution:
        """The resolution that is the base of a symbol, or of all contracts of a root."""
        return choose_base(available, self.interval) if self.choose is None else self.choose(group, available)


def choose_base(available: Iterable[Resolution], wanted: Interval | None = None) -> Resolution:
    """The resolution that is a symbol's base: the wanted one, else 1m, else the finest; None means ticks."""
    there = set(available)
    bars = {one for one in there if one is not None}
    if wanted is not None:
        if wanted in bars:
            return wanted
        return None if None in there else min(bars)
    if DEFAULT_BASE in bars:
        return DEFAULT_BASE
    return min(bars) if bars else None
