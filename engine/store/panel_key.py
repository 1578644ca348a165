"""Identity of a panel and its columns: which rows are stored together, and in which layout.

A layout is a fixed set of columns (`PANEL_SCHEMAS`). It is a field of the key, because the origin of rows does not decide
it: bars derived from ticks are a base and still have the columns of derived bars.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Literal, NamedTuple

import polars as pl

from engine.grid import GridSpec
from engine.interval import BarSpec, Interval
from engine.schema import PROVENANCE, ROWS, TS, TS_NS, VERDICT, Kind

Layout = Literal["bars", "derived_bars", "quotes", "ticks", "open_interest"]

AXIS_INTERVAL = Interval(1, "m")  # axes are stored at this step; `SessionGrid.at` cuts them at any other
# The price type of series of raw rows; bars carry theirs in a column.
RAW_PRICE_TYPES: Mapping[Kind, str] = {"quotes": "quote", "ticks": "last", "open_interest": "open_interest"}

BAR_VALUES = ("open", "high", "low", "close", "volume", "size", "vwap", "trades")
PLACE_COLUMNS = {"series": pl.Int32(), "session": pl.Date(), "ordinal": pl.Int32(), "slot": pl.Int32()}
WRITE_COLUMNS = {"provenance": PROVENANCE, "revision": pl.Int64()}
_BAR_WRITE_COLUMNS = {"provenance": PROVENANCE, "verdict": VERDICT, "revision": pl.Int64()}
_BAR_AMOUNTS = {name: ROWS["bars"][name] for name in BAR_VALUES}
_RAW = {kind: {n: t for n, t in ROWS[kind].items() if n not in ("symbol", "ts")} for kind in RAW_PRICE_TYPES}
_COMPLETENESS = {"n_base": pl.Int32(), "n_expected": pl.Int32(), "complete": pl.Boolean(), "notional": pl.Float64()}
PANEL_SCHEMAS: Mapping[Layout, dict[str, pl.DataType]] = {
    "bars": {**PLACE_COLUMNS, "ts": TS, **_BAR_AMOUNTS, **_BAR_WRITE_COLUMNS},
    "derived_bars": {**PLACE_COLUMNS, "ts": TS, "ts_end": TS, **_BAR_AMOUNTS, **_COMPLETENESS, **_BAR_WRITE_COLUMNS},
    "quotes": {**PLACE_COLUMNS, "ts": TS_NS, **_RAW["quotes"], **WRITE_COLUMNS},
    "ticks": {**PLACE_COLUMNS, "ts": TS_NS, **_RAW["ticks"], **WRITE_COLUMNS},
    "open_interest": {**PLACE_COLUMNS, "ts": TS, **_RAW["open_interest"], **WRITE_COLUMNS},
}


class PanelKey(NamedTuple):
    """Identity of a panel: rows of one kind, interval and origin on one axis, stored in one layout.

    Attributes
    ----------
    kind : {"bars", "quotes", "ticks", "open_interest"}
    interval : Interval or None
        None for raw rows.
    origin : {"source", "derived"}
    spec : GridSpec
        The axis that the rows are placed on.
    layout : key of `PANEL_SCHEMAS`
        The columns that its rows have.
    """

    kind: Kind
    interval: Interval | None
    origin: Literal["source", "derived"]
    spec: GridSpec
    layout: Layout

    @property
    def bar_spec(self) -> BarSpec | None:
        """`BarSpec` of the key's interval; None for raw rows (ticks, quotes, open interest)."""
        return None if self.interval is None else BarSpec(self.interval)

    @property
    def has_slots(self) -> bool:
        """Whether its rows lie in grid slots, so gaps and completeness exist: True of time bars, False of raw rows."""
        return self.bar_spec is not None and self.bar_spec.has_slots

    @classmethod
    def of_source(cls, kind: Kind, interval: Interval | None, spec: GridSpec) -> PanelKey:
        """Key with origin `source` and the kind's own layout: bars of an interval, or raw rows (interval None)."""
        return cls(kind, interval, "source", spec, kind)

    @classmethod
    def of_derived_bars(cls, interval: Interval, spec: GridSpec) -> PanelKey:
        """Key of kind `bars` with origin `derived` and layout `derived_bars` at an interval."""
        return cls("bars", interval, "derived", spec, "derived_bars")

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Columns and types of its layout (`PANEL_SCHEMAS`)."""
        return PANEL_SCHEMAS[self.layout]

    @property
    def grid_interval(self) -> Interval:
        """Interval that the panel's axis is cut at: the bars' own; `AXIS_INTERVAL` (1m) for raw rows."""
        return self.interval or AXIS_INTERVAL

    @property
    def compared_columns(self) -> tuple[str, ...]:
        """Value columns whose difference makes a row a correction; `provenance`, `verdict` only in layout `derived_bars`.

        The provenance and the verdict of a row do not count, except in derived bars, where they summarize the rows below.
        """
        ignored = {*PLACE_COLUMNS, "ts", "seq", "revision"}
        ignored |= set() if self.layout == "derived_bars" else {"provenance", "verdict"}
        return tuple(name for name in self.schema if name not in ignored)

    @property
    def sort_key(self) -> tuple[str, int, str, str]:
        """Tuple to sort keys by: kind, interval in seconds (0 without), origin, text of the axis."""
        return (self.kind, self.interval.seconds if self.interval else 0, self.origin, repr(self.spec))


IndicatorKey = tuple[PanelKey, frozenset[Hashable]]  # the panel of the bars, and the definitions computed from them
