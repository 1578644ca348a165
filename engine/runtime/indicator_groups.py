"""Who asks for which indicators and how long a history: series that ask for the same are computed together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import polars as pl

from engine.derive.indicator_passes import lookback
from engine.derive.indicators import Indicator
from engine.errors import ParameterError, SchemaError
from engine.interval import Interval
from engine.store.snapshot import PANELS, IndicatorKey, PanelKey, Snapshot, SymbolSessionData, layout

PLACED = ("series", "session", "ordinal", "slot", "ts")
USUAL_INPUTS = ("high", "low", "volume")

K = TypeVar("K")


@dataclass(frozen=True, eq=False)
class Group:
    """Series of one panel that the same indicators are computed for.

    Attributes
    ----------
    key : PanelKey
        Their bars.
    definitions : frozenset
        As their symbols name them.
    wanted : tuple of Indicator
        What these mean, by name.
    series : Series of Int32
    """

    key: PanelKey
    definitions: frozenset[Hashable]
    wanted: tuple[Indicator, ...]
    series: pl.Series

    @cached_property
    def usual(self) -> tuple[Indicator, ...]:
        """Those that hold a bar against its slot in former sessions."""
        return tuple(one for one in self.wanted if one.sessions is not None)

    @cached_property
    def near(self) -> tuple[Indicator, ...]:
        """The others."""
        return tuple(one for one in self.wanted if one.sessions is None)

    @cached_property
    def reach(self) -> int | None:
        """How many bars up to the last one they look at; None when that is not known."""
        return lookback(self.near)

    @cached_property
    def columns(self) -> dict[str, pl.DataType]:
        """What is read of each bar.

        Raises
        ------
        SchemaError
            The panel does not have it.
        """
        has = PANELS[layout(self.key)]
        inputs = {name for one in self.wanted for name in one.inputs} | {*(USUAL_INPUTS if self.usual else ())}
        if lacking := sorted(inputs - {*has}):
            raise SchemaError(
                f"indicators: {', '.join(map(str, self.wanted))} of {self.key.interval} read {', '.join(lacking)}; "
                f"stored bars have {', '.join(has)}"
            )
        return {name: has[name] for name in (*PLACED, *sorted(inputs - {*PLACED}))}

    @property
    def values(self) -> list[str]:
        """What is stored of each bar."""
        return ["series", "session", "ts", *(name for one in self.wanted for name in one.columns)]


class Lookback(NamedTuple):
    """Series of one panel that have as many sessions for a history."""

    key: PanelKey
    sessions: int
    series: pl.Series


@dataclass(frozen=True, eq=False)
class Asked:
    """Who asks for what."""

    groups: Mapping[IndicatorKey, Group]
    lookbacks: tuple[Lookback, ...]


class Asking:
    """Who asks for what in a store, found anew only when symbols or series have come or gone."""

    def __init__(self) -> None:
        self._symbols: Mapping[str, SymbolSessionData] | None = None
        self._numbers: tuple[int, int] = (0, 0)
        self._found = Asked({}, ())

    def of(self, snapshot: Snapshot) -> Asked:
        """The same object while nothing has changed."""
        # Numbers only grow: as many as before, up to the same, are the same.
        numbers = (snapshot.series.height, snapshot.series["series"].max() or 0)
        if snapshot.symbols is not self._symbols or numbers != self._numbers:
            self._symbols, self._numbers = snapshot.symbols, numbers  # type: ignore[assignment]
            self._found = asked_of(snapshot)
        return self._found


def asked_of(snapshot: Snapshot) -> Asked:
    """The groups of a store, and the histories of symbols that have one or ask for an indicator.

    Raises
    ------
    ParameterError
        A definition means nothing, two of one name differ, or a symbol has no bars of an interval.
    """
    asking = [one for one in snapshot.symbols.values() if one.indicators or one.history_sessions]
    if not asking:
        return Asked({}, ())
    meant = _meant(asking)
    groups: dict[IndicatorKey, list[SymbolSessionData]] = defaultdict(list)
    lookbacks: dict[tuple[PanelKey, int], list[SymbolSessionData]] = defaultdict(list)
    known: dict[tuple[object, ...], list[IndicatorKey]] = {}
    for one in asking:
        # Symbols are many, ways to ask are few.
        way = one.base_key, one.derived_intervals, one.indicators
        panels = known.get(way) or known.setdefault(way, _panels(one))
        for key, definitions in panels:
            lookbacks[key, one.history_sessions].append(one)
            if definitions:
                groups[key, definitions].append(one)
    return Asked(
        {key: Group(*key, _by_name(key[1], meant), series) for key, series in _numbered(groups, snapshot).items()},
        tuple(Lookback(*key, series) for key, series in _numbered(lookbacks, snapshot).items()),
    )


def _meant(asking: Iterable[SymbolSessionData]) -> dict[Hashable, Indicator]:
    """What definitions mean."""
    meant: dict[Hashable, Indicator] = {}
    names: dict[str, Indicator] = {}
    for given in (definition for one in asking for definition, _ in one.indicators):
        if isinstance(given, str) and given in meant:
            continue
        one = meant[given] = Indicator.parse(given)  # type: ignore[arg-type]
        held = names.setdefault(one.name, one)
        if not is_same(held, one):
            raise ParameterError(
                f"indicators: two definitions are called {one.name}; valid: one of each name in all the symbols of a session"
            )
    return meant


def is_same(one: Indicator, other: Indicator) -> bool:
    """Whether two indicators of one name mean the same."""
    if one is other or (one.text and one == other and one.text == other.text):
        return True
    mine, its = one.expressions, other.expressions
    return (
        (one.name, one.within, one.lookback, len(mine)) == (other.name, other.within, other.lookback, len(its))
        and all(a.meta.eq(b) for a, b in zip(mine, its, strict=True))
    )  # fmt: skip


def _by_name(definitions: Iterable[Hashable], meant: Mapping[Hashable, Indicator]) -> tuple[Indicator, ...]:
    return tuple(sorted({meant[one] for one in definitions}, key=lambda one: one.name))


def _panels(one: SymbolSessionData) -> list[IndicatorKey]:
    """Each panel of a symbol, with what it asks for there."""
    there = (one.base_interval, *one.derived_intervals)
    for definition, interval in one.indicators:
        if str(Interval.parse(interval)) not in there:
            raise ParameterError(
                f"indicators: {one.symbol} asks for {definition} at {interval}; valid: {', '.join(there)}, or add {interval} "
                "to its derived_intervals"
            )
    return [(one.key_of(interval), one.definitions_of(interval)) for interval in there]


def _numbered(members: Mapping[K, list[SymbolSessionData]], snapshot: Snapshot) -> dict[K, pl.Series]:
    """The series of the price type of each symbol; without those that have none."""
    names = [(at, one.symbol, one.price_type) for at, group in enumerate(members.values()) for one in group]
    schema = {"at": pl.Int64, "symbol": pl.String, "price_type": pl.String}
    series = pl.DataFrame(names, schema=schema, orient="row").join(snapshot.series, on=["symbol", "price_type"])
    keys = list(members)
    parts = series.sort("at", "series").partition_by("at", as_dict=True, maintain_order=True)
    return {keys[at]: part["series"] for (at,), part in parts.items()}
