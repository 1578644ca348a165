"""From files to a loaded store: scan, choose each symbol's base, read, append.

1. `scan` says what the files are without reading them, where a name or a path tells; the others are read first.
2. `choose_base`: of several resolutions of a symbol one is its base, the others are named and left out.
3. Files are read side by side and appended in the order of their paths, so the number of workers changes nothing.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import os
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from engine.errors import ParameterError, SourceError
from engine.grid import Align, GridSpec
from engine.interval import Interval
from engine.schema import Kind
from engine.snapshot import SymbolSessionData
from engine.sources.batch import Batch, Problem, ReadOptions, SourceFile
from engine.sources.scan import read, scan
from engine.store import Appended, DateRange, SessionData

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
    symbols, price_types : tuple of str
        Keep only these; empty keeps all.
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
    read : ReadOptions
        For the readers.
    """

    calendars: CalendarMap
    interval: Interval | None = None
    derive: tuple[Interval, ...] = ()
    symbols: tuple[str, ...] = ()
    price_types: tuple[str, ...] = ()
    dates: DateRange = (None, None)
    segments: tuple[str, ...] = ()
    align: Align | None = None
    keep_source: bool = False
    as_of: dt.datetime | None = None
    read: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True)
class Loaded:
    """What a load did.

    Attributes
    ----------
    session : SessionData
    files, rows : int
        Files read, and rows offered to the store.
    duplicates, corrections, rejected : int
    problems : tuple of Problem
        Files that could not be read.
    notes : tuple of str
        What was assumed, skipped or left out.
    """

    session: SessionData
    files: int
    rows: int
    duplicates: int
    corrections: int
    rejected: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def load(sources: Sequence[Path], options: LoadOptions, progress: Progress | None = None) -> Loaded:
    """Read files and folders into a new store; nothing is derived or judged yet.

    Parameters
    ----------
    sources : sequence of Path
        Files, or folders that are searched.
    options : LoadOptions
    progress : callable, optional
        Told after each file: how many are done, of how many, and which.

    Raises
    ------
    ParameterError
        A source does not exist, or a symbol has no calendar.
    SourceError
        Nothing could be read at all.
    """
    _check_sources(sources)
    files, problems = scan(sources, options.read)
    told, untold = _partition(files)
    notes: list[str] = []
    early = list(_read_all(untold, options.read, problems, notes, _counter(progress, len(files))))
    bases = choose_bases(told, early, options.interval)
    chosen = [f for f in told if options.keep_source or _resolution(f) in (bases[f.symbol or ""], "any")]
    notes += _left_out(told, chosen, bases)
    later = _read_all(chosen, options.read, problems, notes, _counter(progress, len(untold) + len(chosen), len(untold)))
    batches = sorted([*early, *later], key=lambda one: one.source)
    if not batches and not files:
        raise SourceError(", ".join(map(str, sources)), _nothing(problems))
    return _fill(batches, bases, options, problems, notes)


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


def choose_bases(files: Sequence[SourceFile], batches: Sequence[Batch], wanted: Interval | None) -> dict[str, Resolution]:
    """The base of each symbol (or root, where a file holds many contracts)."""
    there: dict[str, set[Resolution]] = defaultdict(set)
    for file in files:
        if _resolution(file) != "any":
            there[file.symbol or ""].add(file.interval if file.kind == "bars" else None)
    for batch in batches:
        for symbol in _symbols(batch):
            there[symbol].add(batch.interval)
    return {symbol: choose_base(found, wanted) for symbol, found in there.items()}
