"""Derived bars of a store: what to derive is read from its symbols, what comes of it is written back.

Symbols that share an axis, a base and a set of intervals go through the kernels together, as one panel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from engine.derive.bars import PRESENCE, derive
from engine.derive.ticks import bars_from_quotes, bars_from_trades
from engine.interval import Interval, check_derivable
from engine.schema import Kind
from engine.snapshot import PanelKey, Snapshot, SymbolSessionData
from engine.store import SessionData

QUOTE_BARS = ("bid", "ask", "mid")


class Cohort(NamedTuple):
    """Symbols that are derived together."""

    key: PanelKey
    intervals: tuple[Interval, ...]
    price_types: tuple[str, ...]
    symbols: tuple[str, ...]

    def makes(self, price_type: str) -> bool:
        """Whether bars of this price type are made of ticks and quotes."""
        return not self.price_types or price_type in self.price_types


def cohorts(snapshot: Snapshot) -> list[Cohort]:
    """The symbols of a store by base panel, derived intervals and price types."""
    together: dict[tuple[PanelKey, tuple[Interval, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for name, data in snapshot.symbols.items():
        together[data.base_key, tuple(Interval.parse(i) for i in data.derived_intervals), data.price_types].append(name)
    return [Cohort(*shared, tuple(names)) for shared, names in together.items()]


def derive_session(session: SessionData, *, presence: Interval = PRESENCE) -> int:
    """Derive every interval that the symbols of a store ask for, from their base rows.

    Parameters
    ----------
    session : SessionData
        Its symbols say which intervals (`SymbolSessionData.derived_intervals`).
    presence : Interval
        Where a base is finer than this, completeness counts slots of this length.

    Returns
    -------
    int
        How many derived bars are new or changed.

    Raises
    ------
    IntervalError
        An interval cannot be made of its symbol's base bars.
    """
    _check_intervals(session.snapshot().symbols)
    written = 0
    for cohort in cohorts(session.snapshot()):
        written += _fold_ticks(session, cohort, "ticks") + _fold_ticks(session, cohort, "quotes")
        snapshot = session.snapshot()
        rows = base_rows(snapshot, cohort)
        if rows.is_empty() or not cohort.intervals:
            continue
        grid = snapshot.grid(cohort.key.spec, _interval(cohort.key))
        for interval, bars in derive(rows, grid, cohort.intervals, presence).items():
            written += session.write_derived(interval, cohort.key.spec, bars)
    return written


def base_rows(snapshot: Snapshot, cohort: Cohort) -> pl.DataFrame:
    """Base bars of a cohort as its panel has them, sorted by (series, ts)."""
    rows = snapshot.rows_of(cohort.key)
    ours = snapshot.series_of(cohort.symbols)
    if rows.is_empty() or set(rows["series"].unique().to_list()) <= set(ours):
        return rows
    return rows.filter(pl.col("series").is_in(ours))


def _check_intervals(symbols: Mapping[str, SymbolSessionData]) -> None:
    for data in symbols.values():
        for interval in data.derived_intervals:
            check_derivable(data.base, Interval.parse(interval))


def _interval(key: PanelKey) -> Interval:
    if key.interval is None:
        raise TypeError(f"{key.kind} have no interval")
    return key.interval


def _fold_ticks(session: SessionData, cohort: Cohort, kind: Kind) -> int:
    """Base bars from ticks or quotes, for symbols whose base comes from them."""
    snapshot = session.snapshot()
    if cohort.key.origin == "source":
        return 0
    raw = PanelKey(kind, None, "source", cohort.key.spec)
    rows = snapshot.rows_of(raw, snapshot.series_of(cohort.symbols))
    if rows.is_empty():
        return 0
    grid = snapshot.grid(cohort.key.spec, _interval(cohort.key))
    if kind == "ticks" and not cohort.makes("last"):
        return 0
    if kind == "ticks":
        return session.write_derived(grid.interval, cohort.key.spec, bars_from_trades(rows, grid))
    return sum(
        session.write_derived(
            grid.interval, cohort.key.spec, _renumbered(session, bars_from_quotes(rows, grid, side), side)
        )
        for side in QUOTE_BARS
        if cohort.makes(side)
    )


def _renumbered(session: SessionData, bars: pl.DataFrame, price_type: str) -> pl.DataFrame:
    """Bars under the numbers of their own price type instead of those of the quotes."""
    names = session.snapshot().series.filter(pl.col("series").is_in(bars["series"].unique().implode()))
    pairs = names.select(pl.col("series").alias("quote"), "symbol", pl.lit(price_type).alias("price_type"))
    numbers = session.series_for(pairs.drop("quote")).select("series").with_columns(pairs["quote"])
    swapped = (
        bars.rename({"series": "quote"}).join(numbers, on="quote", how="left", maintain_order="left").drop("quote")
    )
    return swapped.sort("series", "ts").select(bars.columns)


def intervals_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Interval texts, each once, ascending, in their shortest spelling."""
    return tuple(str(i) for i in sorted({Interval.parse(text) for text in texts}))
