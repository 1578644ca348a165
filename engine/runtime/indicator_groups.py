"""Groups of series with the same indicators or the same length of history: each group is computed in one pass."""

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
from engine.store.panel_key import IndicatorKey, PanelKey
from engine.store.snapshot import Snapshot
from engine.store.symbol_data import SymbolSessionData

PLACE_COLUMNS = ("series", "session", "ordinal", "slot", "ts")
BASELINE_INPUTS = ("high", "low", "volume")

K = TypeVar("K")


@dataclass(frozen=True, eq=False)
class IndicatorGroup:
    """Series of one panel with the same indicators.

    Attributes
    ----------
    key : PanelKey
        Panel of their bars.
    definitions : frozenset
        The indicators as the symbols name them.
    indicators : tuple of Indicator
        The definitions parsed, sorted by name.
    series : Series of Int32
    """

    key: PanelKey
    definitions: frozenset[Hashable]
    indicators: tuple[Indicator, ...]
    series: pl.Series

    @cached_property
    def baseline_indicators(self) -> tuple[Indicator, ...]:
        """Indicators that compare a bar with the same slot of earlier sessions (`sessions` is set)."""
        return tuple(one for one in self.indicators if one.sessions is not None)

    @cached_property
    def window_indicators(self) -> tuple[Indicator, ...]:
        """Indicators over windows of consecutive bars (`sessions` is None)."""
        return tuple(one for one in self.indicators if one.sessions is None)

    @cached_property
    def reach(self) -> int | None:
        """Largest look-back, in bars, of the window indicators; None (read all bars) if one is unknown."""
        return lookback(self.window_indicators)

    @cached_property
    def columns(self) -> dict[str, pl.DataType]:
        """Column -> type of the bars to read: place columns and all inputs; SchemaError if the panel lacks one.

        Raises
        ------
        SchemaError
            The panel does not have it.
        """
        has = self.key.schema
        inputs = {name for one in self.indicators for name in one.inputs} | {
            *(BASELINE_INPUTS if self.baseline_indicators else ())
        }
        if absent := sorted(inputs - {*has}):
            raise SchemaError(
                f"indicators: {', '.join(map(str, self.indicators))} of {self.key.interval} read {', '.join(absent)}; "
                f"stored bars have {', '.join(has)}"
            )
        return {name: has[name] for name in (*PLACE_COLUMNS, *sorted(inputs - {*PLACE_COLUMNS}))}

    @property
    def values(self) -> list[str]:
        """Column names stored per bar: `series, session, ts`, then those of each indicator."""
        return ["series", "session", "ts", *(name for one in self.indicators for name in one.columns)]


class HistoryGroup(NamedTuple):
    """Series of one panel with the same number of history sessions."""

    key: PanelKey
    sessions: int
    series: pl.Series


@dataclass(frozen=True, eq=False)
class IndicatorPlan:
    """All indicator groups and history groups of a store."""

    groups: Mapping[IndicatorKey, IndicatorGroup]
    histories: tuple[HistoryGroup, ...]


class IndicatorPlanCache:
    """The plan of a store, made again only when its symbols or series have changed."""

    def __init__(self) -> None:
        self._symbols: Mapping[str, SymbolSessionData] | None = None
        self._numbers: tuple[int, int] = (0, 0)
        self._plan = IndicatorPlan({}, ())

    def of(self, snapshot: Snapshot) -> IndicatorPlan:
        """Plan of a snapshot's indicators; the cached object until its symbols or series change."""
        # Series numbers only grow: the same count and maximum are the same series.
        numbers = (snapshot.series.height, snapshot.series["series"].max() or 0)
        if snapshot.symbols is not self._symbols or numbers != self._numbers:
            self._symbols, self._numbers = snapshot.symbols, numbers  # type: ignore[assignment]
            self._plan = plan_indicators(snapshot)
        return self._plan


def plan_indicators(snapshot: Snapshot) -> IndicatorPlan:
    """Group symbols with indicators by (panel, definitions), and all by (panel, history length; 0: all).

    Raises
    ------
    ParameterError
        A definition is not valid, two of one name differ, or a symbol has no bars of an interval.
    """
    parsed = parse_definitions(snapshot.symbols.values())
    groups: dict[IndicatorKey, list[SymbolSessionData]] = defaultdict(list)
    histories: dict[tuple[PanelKey, int], list[SymbolSessionData]] = defaultdict(list)
    # Many symbols share few combinations of base, intervals and indicators.
    panels_of: dict[tuple[object, ...], list[IndicatorKey]] = {}
    for one in snapshot.symbols.values():
        combination = one.base_key, one.derived_intervals, one.indicators
        panels = panels_of.get(combination) or panels_of.setdefault(combination, requested_panels(one))
        for key, definitions in panels:
            histories[key, one.history_sessions].append(one)
            if definitions:
                groups[key, definitions].append(one)
    return IndicatorPlan(
        {
            key: IndicatorGroup(*key, tuple(sorted({parsed[one] for one in key[1]}, key=lambda one: one.name)), series)
            for key, series in series_of_members(groups, snapshot).items()
        },
        tuple(HistoryGroup(*key, series) for key, series in series_of_members(histories, snapshot).items()),
    )


def parse_definitions(symbols: Iterable[SymbolSessionData]) -> dict[Hashable, Indicator]:
    """Parse each definition once: definition -> indicator; ParameterError if two that differ share a name."""
    parsed: dict[Hashable, Indicator] = {}
    by_name: dict[str, Indicator] = {}
    for definition in (definition for symbol in symbols for definition, _ in symbol.indicators):
        if isinstance(definition, str) and definition in parsed:
            continue
        indicator = parsed[definition] = Indicator.parse(definition)  # type: ignore[arg-type]
        if not means_same(by_name.setdefault(indicator.name, indicator), indicator):
            raise ParameterError(
                f"indicators: two definitions are called {indicator.name}; valid: one of each name in all the symbols "
                "of a session"
            )
    return parsed


def means_same(one: Indicator, other: Indicator) -> bool:
    """Whether two indicators compute the same: equal text, or equal name, window, look-back and expressions."""
    if one is other or (one.text and one == other and one.text == other.text):
        return True
    mine, its = one.expressions, other.expressions
    return (one.name, one.within, one.lookback, len(mine)) == (
        other.name,
        other.within,
        other.lookback,
        len(its),
    ) and all(a.meta.eq(b) for a, b in zip(mine, its, strict=True))


def requested_panels(one: SymbolSessionData) -> list[IndicatorKey]:
    """(panel, definitions) of the base and derived intervals; ParameterError for another interval's indicator."""
    there = (one.base_interval, *one.derived_intervals)
    for definition, interval in one.indicators:
        if str(Interval.parse(interval)) not in there:
            raise ParameterError(
                f"indicators: {one.symbol} asks for {definition} at {interval}; valid: {', '.join(there)}, or add "
                f"{interval} to its derived_intervals"
            )
    return [(one.key_of(interval), one.definitions_of(interval)) for interval in there]


def series_of_members(members: Mapping[K, list[SymbolSessionData]], snapshot: Snapshot) -> dict[K, pl.Series]:
    """Key -> sorted series numbers of its symbols in their own price type; keys without a stored series are omitted."""
    names = [(at, one.symbol, one.price_type) for at, group in enumerate(members.values()) for one in group]
    schema = {"at": pl.Int64, "symbol": pl.String, "price_type": pl.String}
    series = pl.DataFrame(names, schema=schema, orient="row").join(snapshot.series, on=["symbol", "price_type"])
    keys = list(members)
    parts = series.sort("at", "series").partition_by("at", as_dict=True, maintain_order=True)
    return {keys[at]: part["series"] for (at,), part in parts.items()}
