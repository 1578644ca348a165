"""Base classes of checks, and the registry: a check is one class, and every later audit runs it.

1. A `BarCheck` measures one part of the bars (`measure`), puts the measurements of all parts together (`combine`), and
   turns them into findings (`judge`). What several checks read is measured once, by a `Measurement`.
2. A `TableCheck` judges a table of the audit, or the rows that were refused on their way in.
3. `register` is the class decorator that adds a check. `registered` imports every module of this package first, so a new
   module needs no entry anywhere else. `fingerprint` changes when a check does: resumed audits measure anew then.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import polars as pl

from engine.checks.findings import FINDINGS, SEVERITIES
from engine.errors import SchemaError
from engine.grid import SessionGrid
from engine.quality.contiguous_runs import SlotRuns, run_starts
from engine.schema import TS, Schema, empty

PACKAGE = "engine.checks"
# Identity of a bar series in measurements and findings.
SERIES: Schema = {"symbol": pl.String(), "price_type": pl.String(), "interval": pl.String()}
QUOTES: Schema = {"symbol": pl.String(), "session": pl.Date(), "ts": TS, "bid": pl.Float64(), "ask": pl.Float64()}
Frames = Mapping[str, pl.DataFrame]
T = TypeVar("T")
LEAST_INSIDE = (
    0.1  # of the rows in chosen segments: extended hours have at most some nine times the minutes of regular ones
)


@dataclass(frozen=True)
class MeasureInput:
    """Bars of one calendar and interval, as a check measures them.

    Attributes
    ----------
    rows : DataFrame
        `series` (Int32), `ts, session, ordinal, slot, open, high, low, close` and, where there are such, `volume, vwap`;
        sorted by (series, ts); rows outside sessions and off the grid are included.
    series : DataFrame
        `series, symbol, price_type, interval` of every number in `rows`.
    grid : SessionGrid
        Of the interval of the rows.
    zone : str
        IANA zone of the venue.
    quotes : DataFrame of `QUOTES`
        Quote ticks of the same symbols.
    """

    rows: pl.DataFrame
    series: pl.DataFrame
    grid: SessionGrid
    zone: str
    quotes: pl.DataFrame = field(default_factory=lambda: empty(QUOTES))
    _results: dict[object, Any] = field(default_factory=dict, repr=False)

    def once(self, function: Callable[[MeasureInput], T]) -> T:
        """Return `function(self)`, computed at the first call with this function and cached for the others."""
        if function not in self._results:
            self._results[function] = function(self)
        return cast("T", self._results[function])

    @cached_property
    def runs(self) -> SlotRuns:
        """Runs of consecutive slots of the rows that have a slot; computed once."""
        return SlotRuns.of(self.rows)

    @cached_property
    def session_rows(self) -> pl.DataFrame:
        """Rows in chosen segments, off-grid ones too; ALL rows of a series with < 10 % there, and of 1d or coarser."""
        if not self.grid.interval.is_intraday or not self.rows["slot"].null_count():
            return self.rows
        chosen = self.grid.table.filter("chosen")["ordinal"].cast(pl.Int64).to_numpy()
        ordinal = self.rows["ordinal"].cast(pl.Int64).fill_null(-1).to_numpy()
        is_chosen = np.zeros(max(chosen.max(initial=0), ordinal.max(initial=0)) + 2, bool)  # the last: of no segment
        is_chosen[chosen] = True
        inside = is_chosen[ordinal]
        heads = run_starts(self.rows["series"].to_numpy())
        counts = np.diff(heads, append=self.rows.height)
        # Stamps or calendar of these are wrong: what is inside by chance is no session.
        elsewhere = np.add.reduceat(inside, heads, dtype=np.int64) < LEAST_INSIDE * counts
        return self.rows.filter(pl.Series(inside | np.repeat(elsewhere, counts)))


@dataclass(frozen=True)
class JudgeInput:
    """Measurements of all parts of one calendar and interval, as a check judges them.

    Attributes
    ----------
    frames : mapping of name to DataFrame
        Combined measurements.
    segments : DataFrame of `schema.SEGMENTS`
        The calendar's, over the dates of the rows.
    zone, calendar : str
        IANA zone and code of the venue.
    others : mapping of code to DataFrame of `schema.SEGMENTS`
        Calendars that are plausible too; looked up only if they are tried.
    usual_hours : mapping of code to DataFrame of `schema.SEGMENTS` without `ordinal`
        The usual hours of `others`, by which those to try are chosen; empty: all are tried.
    coarse : DataFrame, optional
        Coarser source bars: `symbol, price_type, interval, session, ts, high, low, close, volume`.
    misplaced : DataFrame of `SERIES`
        Series whose stamps, interval or calendar are wrong.
    """

    frames: Frames
    segments: pl.DataFrame
    zone: str
    calendar: str
    others: Frames = field(default_factory=dict)
    usual_hours: Frames = field(default_factory=dict)
    coarse: pl.DataFrame | None = None
    misplaced: pl.DataFrame = field(default_factory=lambda: empty(SERIES))
    _results: dict[object, Any] = field(default_factory=dict, repr=False)

    def once(self, function: Callable[[JudgeInput], T]) -> T:
        """Return `function(self)`, computed at the first call with this function and cached for the others."""
        if function not in self._results:
            self._results[function] = function(self)
        return cast("T", self._results[function])


class Measurement(ABC):
    """Frames measured in one pass over a part; they add up over parts, and several checks may read them."""

    schemas: ClassVar[Mapping[str, Schema]]
    version: ClassVar[int] = 1

    @abstractmethod
    def measure(self, part: MeasureInput) -> Frames:
        """Return one frame per name of `schemas` (abstract); the size of the frames must not grow with the rows."""

    def combine(self, frames: Mapping[str, Sequence[pl.DataFrame]]) -> Frames:
        """Concatenate each named frame over all parts; subclasses override to sum. Returns one frame per name."""
        return {name: pl.concat([empty(schema), *frames[name]]) for name, schema in self.schemas.items()}


class Check:
    """A named kind of finding.

    Attributes
    ----------
    name : str
        `check_name` of its findings.
    severities : tuple of str
        Severities that its findings may have, the gravest first.
    most : int, optional
        Findings per series that are listed; one more counts the others. None: all are.
    version : int
        Raised when the same source means something else, for example because a kernel in another module changed.
    """

    name: ClassVar[str]
    severities: ClassVar[tuple[str, ...]]
    most: ClassVar[int | None] = 20
    version: ClassVar[int] = 1

    def checked(self, found: pl.DataFrame) -> pl.DataFrame:
        """Return `found` unchanged; SchemaError if columns, check name or a severity are not as the class declares."""
        names, levels = set(found["check_name"].unique()), set(found["severity"].unique())
        if list(found.columns) != list(FINDINGS) or not names <= {self.name} or not levels <= set(self.severities):
            raise SchemaError(
                f"check {self.name!r}: received findings named {sorted(names)} of severity {sorted(levels)}, columns "
                f"{found.columns}; valid: its own name, {', '.join(self.severities)}, and the columns of FINDINGS"
            )
        return found


class BarCheck(Check):
    """A check of bars (and of quote ticks of the same symbols), part by part.

    Attributes
    ----------
    reads : tuple of Measurement
        Shared measurements whose frames `judge` reads.
    schema : mapping, optional
        Of the check's own measurement, which `judge` finds in `frames` under the check's name. None: it has none.
    finds_misplaced : bool
        Whether a finding means that the places of a series are wrong, so that nothing read from them holds.
    moves_by_steps : bool
        Whether what it finds misplaces rows by some steps at most, so that their hours hold.
    needs_places : bool
        Whether findings of misplaced series are left out.
    needs_hours : bool
        Whether findings of series that are misplaced by more than some steps are left out.
    """

    reads: ClassVar[tuple[Measurement, ...]] = ()
    schema: ClassVar[Schema | None] = None
    finds_misplaced: ClassVar[bool] = False
    moves_by_steps: ClassVar[bool] = False
    needs_places: ClassVar[bool] = False
    needs_hours: ClassVar[bool] = False

    def measure(self, part: MeasureInput) -> pl.DataFrame:
        """Raise NotImplementedError; checks with a `schema` override it to measure a part into one frame."""
        raise NotImplementedError(f"check {self.name!r} has a schema and no measure")

    def combine(self, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Concatenate the parts' frames, in their order; checks whose counts add up override it."""
        return pl.concat([empty(self.schema or {}), *frames])

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Raise NotImplementedError; each check overrides it to return `FINDINGS` from combined measurements."""
        raise NotImplementedError(f"check {self.name!r} has no judge")


class TableCheck(Check):
    """A check of one table, which `table` names: of the audit, or `refused` or `conflicts` (`refused.REFUSED, CONFLICTS`)."""

    table: ClassVar[str]

    def judge(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Raise NotImplementedError; each check overrides it to return `FINDINGS` from the rows of its table."""
        raise NotImplementedError(f"check {self.name!r} has no judge")


C = TypeVar("C", bound=Check)
_CHECKS: dict[str, Check] = {}


def register(check: type[C]) -> type[C]:
    """Register an instance (again: replaces it), return the class; SchemaError: another class's name, bad severity.

    Raises
    ------
    SchemaError
        Another class has the name, or a severity is none.
    """
    strange = [one for one in check.severities if one not in SEVERITIES]
    if strange or not check.severities:
        raise SchemaError(f"check {check.name!r}: severities {check.severities}; valid: any of {', '.join(SEVERITIES)}")
    other = _CHECKS.get(check.name)
    if other is not None and (type(other).__module__, type(other).__qualname__) != (
        check.__module__,
        check.__qualname__,
    ):
        raise SchemaError(f"check {check.name!r}: {type(other).__qualname__} has this name; valid: a name of its own")
    _CHECKS[check.name] = check()
    return check


def unregister(name: str) -> None:
    """Remove a check from the registry, so that later audits do not run it; unknown names are ignored."""
    _CHECKS.pop(name, None)


def registered(kind: type[C]) -> tuple[C, ...]:
    """Import all modules of `engine.checks`, then return the check instances of a class, in order of registration."""
    import_checks()
    return tuple(check for check in _CHECKS.values() if isinstance(check, kind))


def added_checks() -> tuple[type[Check], ...]:
    """Return the registered check classes defined outside of `engine.checks`, for worker processes to register."""
    return tuple(type(one) for one in registered(Check) if not type(one).__module__.startswith(f"{PACKAGE}."))


def measurements() -> tuple[Measurement, ...]:
    """Return the shared measurements that registered bar checks read, each once, in order of first use."""
    return tuple(dict.fromkeys(shared for check in registered(BarCheck) for shared in check.reads))


def fingerprint() -> str:
    """Import all checks; return the SHA-256 of names, versions and module sources of checks and measurements."""
    import_checks()
    parts: list[Check | Measurement] = [*registered(Check), *measurements()]
    told = {
        f"{type(one).__module__}.{type(one).__qualname__} {getattr(one, 'name', '')} {one.version}" for one in parts
    }
    files = {source_hash(module) for module in {type(one).__module__ for one in parts}}
    return hashlib.sha256("\n".join([*sorted(told), *sorted(files)]).encode()).hexdigest()


@cache
def import_checks() -> None:
    """Import every module of `engine.checks`, which registers its checks; only the first call does anything."""
    for module in pkgutil.iter_modules(sys.modules[PACKAGE].__path__):
        importlib.import_module(f"{PACKAGE}.{module.name}")


@cache
def source_hash(module: str) -> str:
    """Return the SHA-256 of a loaded module's source (cached); the module name itself where there is no source."""
    try:
        return hashlib.sha256(inspect.getsource(sys.modules[module]).encode()).hexdigest()
    except (OSError, TypeError):
        return module  # typed into a prompt: there is no file, and the version has to tell
