"""Bars of a store that indicators and history are computed from."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from engine.interval import Interval
from engine.runtime.indicator_state import CLOSED
from engine.store.panel import Panel
from engine.store.panel_key import PanelKey
from engine.store.snapshot import Snapshot
from engine.store.views import with_ends

FEW_SERIES = 64  # up to so many are sliced one by one, more of them filtered in one pass


def without(series: pl.Series, others: pl.Series) -> pl.Series:
    """Values of `series` that are not in `others`, in order."""
    return series.filter(~series.is_in(others.implode())) if len(others) else series


def rows_of_series(panel: Panel, series: pl.Series, test: pl.Expr | None = None) -> pl.DataFrame:
    """Rows of the given series of a panel that pass `test` (if any): one slice each for up to 64 series, else one filter pass."""
    if len(series) <= FEW_SERIES:
        return panel.of_series(series.to_list(), test)
    is_wanted = pl.col("series").is_in(series.implode())
    return panel.where(is_wanted if test is None else test & is_wanted)


def visible_bars(snapshot: Snapshot, key: PanelKey, rows: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """Bars in a slot (derived, policy `drop`: complete): `columns`, `CLOSED` (ended by as-of time; None: all)."""
    visible = pl.col("slot").is_not_null()
    if key.origin == "derived" and snapshot.incomplete == "drop":
        visible &= pl.col("complete")
    bars = rows.filter(visible)
    if snapshot.as_of is None:
        return bars.select(*columns, pl.lit(value=True).alias(CLOSED))
    ends = with_ends(bars, snapshot.grid(key.spec, key.interval or Interval(1, "m")))["ts_end"]
    return bars.select(*columns, (ends <= snapshot.as_of).alias(CLOSED))
