"""Derived bars of a store: intervals are read from its symbols, derived bars written back.

Symbols that share an axis, a base and a set of intervals (a cohort) go through the kernels together, as one panel.

1. `DataProcessor.step` reads from the store what was touched since its last step (`touched_ranges`).
2. Symbols that are new are derived whole (`_derive_whole`).
3. Of the others exactly the windows that hold a touched row: `_refold` reads each interval's windows from the next
   finer interval that the store has, else folds them from the one below (`_carried_rows_of`).

Both ways fold whole windows with the same kernel through the same intervals, so their results are equal to the last
bit.

The cost of a step follows what was touched and not the length of the session, with one exception: a day, week or
month is folded from the coarsest stored intraday interval, and where none above the base is derived, from all base
bars of the period at each step. Deriving 1h beside 1d avoids that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from engine.derive.bars import (
    PRESENCE,
    auction_input,
    completeness_interval,
    derive,
    finish_bars,
    fold,
    fold_input,
    refold_input,
    with_auctions,
)
from engine.derive.tick_bars import bars_from_quotes, bars_from_trades
from engine.grid import SessionGrid
from engine.interval import Interval, check_derivable, fold_parent
from engine.plan_calls import PlanNames
from engine.runtime.mid_bars import mid_bars
from engine.schema import EARLIEST, LATEST, TS, TS_NS, Kind
from engine.store.panel_key import RAW_PRICE_TYPES, PanelKey
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.symbol_data import SymbolSessionData

QUOTE_BARS = ("bid", "ask", "mid")
PLACE = ("series", "ordinal", "slot")
RAW_KINDS: tuple[Kind, ...] = ("ticks", "quotes")


class Cohort(NamedTuple):
    """Symbols of one axis, base, set of intervals and price types: derived and assessed together."""

    key: PanelKey
    intervals: tuple[Interval, ...]
    price_types: tuple[str, ...]
    symbols: tuple[str, ...]

    @property
    def base(self) -> Interval:
        """Base interval of the cohort; TypeError if its panel has none."""
        if self.key.interval is None:
            raise TypeError(f"{self.key.kind} have no interval")
        return self.key.interval

    @property
    def kind(self) -> tuple[object, ...]:
        """(base panel key, derived intervals, price types): identity of the cohort whichever symbols it has."""
        return self[:3]

    def makes(self, price_type: str) -> bool:
        """Whether bars of this price type are made from ticks and quotes: all if the cohort lists no price types."""
        return not self.price_types or price_type in self.price_types

    def of(self, interval: Interval) -> PanelKey:
        """Panel key of an interval: the base panel if it is the base, else that of its derived bars."""
        return self.key if interval == self.base else PanelKey.of_derived_bars(interval, self.key.spec)

    def raw(self, kind: Kind) -> PanelKey:
        """Panel key of the cohort's ticks or quotes, on its axis."""
        return PanelKey.of_source(kind, None, self.key.spec)


def find_cohorts(snapshot: Snapshot) -> list[Cohort]:
    """Group all symbols (also not loaded) by (base panel, derived intervals, price types), in first order."""
    members: dict[tuple[PanelKey, tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for name, data in snapshot.symbols.items():
        members[data.base_key, data.derived_intervals, data.price_types].append(name)
    return [
        Cohort(key, tuple(map(Interval.parse, intervals)), types, tuple(names))
        for (key, intervals, types), names in members.items()
    ]


class CohortCache:
    """The cohorts of a store, grouped again only when its symbols have changed."""

    def __init__(self) -> None:
        self._symbols: Mapping[str, SymbolSessionData] | None = None
        self._cohorts: list[Cohort] = []

    def of(self, snapshot: Snapshot) -> list[Cohort]:
        """Cohorts of a snapshot; regrouped only when its `symbols` object is another, else the cached list."""
        if snapshot.symbols is not self._symbols:
            self._symbols, self._cohorts = snapshot.symbols, find_cohorts(snapshot)
        return self._cohorts


PLAN_NAMES = {
    "set_generated_data": "session.register_symbol_data(dataclasses.replace(symbol_data, derived_intervals=...)), then step()",
    "get_derived_intervals_for_symbol": "session.get_symbol_data(symbol).derived_intervals",
    "_derived_intervals": "session.get_symbols_with_derived()",
    **dict.fromkeys(("_process_bar_data", "_generate_derived_bars"), "step(), which derives what has changed"),
}


class DataProcessor(PlanNames):
    """Updates the derived bars of a store after each change of its rows. Symbols are read from the store.

    Parameters
    ----------
    session : SessionData
        Its symbols name the intervals to derive (`SymbolSessionData.derived_intervals`).
    presence : Interval
        Where a base is finer than this, completeness counts slots of this length.
    """

    _plan_names = PLAN_NAMES

    def __init__(self, session: SessionData, *, presence: Interval = PRESENCE) -> None:
        self._session = session
        self._presence = presence
        self._cohorts = CohortCache()
        self._since = 0

    def step(self) -> int:
        """Derive and store windows with rows touched since the last step, new symbols in full; return bars changed.

        Returns
        -------
        int
            Number of derived bars that are new or changed.

        Raises
        ------
        IntervalError
            An interval cannot be derived from its symbol's base.
        """
        with self._session.transaction():
            self._session.keep_state(self, "_since")
            snapshot = self._session.snapshot()
            if snapshot.revision == self._since:
                return 0
            whole = symbols_registered_since(snapshot, self._since)
            touched = None if whole is None else snapshot.series_changes(self._since, ("bars", *RAW_KINDS))
            written = sum(self._derive(cohort, whole, touched) for cohort in self._cohorts.of(snapshot))
            self._since = self._session.revision
            return written

    def _derive(self, cohort: Cohort, whole: frozenset[str] | None, touched: pl.DataFrame | None) -> int:
        """Derive and store new symbols (`whole` None: all) in full, touched windows of others; return bars changed."""
        new = cohort.symbols if whole is None else tuple(name for name in cohort.symbols if name in whole)
        symbols = self._session.snapshot().symbols
        for base, interval in {
            (symbols[name].base_interval, i) for name in new for i in symbols[name].derived_intervals
        }:
            check_derivable(Interval.parse(base), Interval.parse(interval))
        written = self._derive_whole(cohort._replace(symbols=new)) if new else 0
        if touched is None or len(new) == len(cohort.symbols):
            return written
        rest = cohort if not new else cohort._replace(symbols=tuple(name for name in cohort.symbols if name not in new))
        return written + self._derive_touched(rest, touched)

    def _derive_whole(self, cohort: Cohort) -> int:
        """Make base bars of ticks and quotes, derive every interval from all base bars; return bars changed."""
        written = derive_base_bars(self._session, cohort, "ticks") + derive_base_bars(self._session, cohort, "quotes")
        snapshot = self._session.snapshot()
        rows = base_rows(snapshot, cohort)
        if cohort.key not in snapshot.panels or not cohort.intervals:
            return written
        grid = snapshot.grid(cohort.key.spec, cohort.base)
        rows = without_unplaced_quotes(snapshot, rows)
        everything = whole_ranges(snapshot.series_of(cohort.symbols))
        for interval, bars in derive(rows, grid, cohort.intervals, self._presence).items():
            written += self._session.write_derived(interval, cohort.key.spec, bars)
            if cohort.key.origin == "derived":
                written += self._session.remove_absent_bars(interval, cohort.key.spec, bars, everything).height
        return written

    def _derive_touched(self, cohort: Cohort, touched: pl.DataFrame) -> int:
        """Derive and store windows with touched rows, base bars of touched ticks first; return bars changed."""
        snapshot = self._session.snapshot()
        if cohort.key.origin == "source":
            ranges = touched_ranges(snapshot, cohort, "bars", touched)
            return self._refold(cohort, rows_in_ranges(snapshot, cohort.key, ranges))
        written, places = 0, []
        for kind in RAW_KINDS:
            for bars, ranges in self._base_bars_again(cohort, kind, touched_ranges(snapshot, cohort, kind, touched)):
                written += self._session.write_derived(cohort.base, cohort.key.spec, bars)
                gone = self._session.remove_absent_bars(cohort.base, cohort.key.spec, bars, ranges)
                written += gone.height
                places += [bars.select(PLACE), gone.select(PLACE)]
        return written + (self._refold(cohort, pl.concat(places).sort(PLACE)) if places else 0)

    def _base_bars_again(
        self, cohort: Cohort, kind: Kind, ranges: pl.DataFrame
    ) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
        """(base bars of slots with touched ticks or quotes, ranges of these slots) per price type; not stored here.

        The ranges hold no other bars. They are empty where all slots have a bar: none can have gone.
        """
        snapshot = self._session.snapshot()
        rows = rows_in_ranges(snapshot, cohort.raw(kind), ranges)
        if rows.is_empty():
            return []
        grid = snapshot.grid(cohort.key.spec, cohort.base)
        slots = windows_holding(rows.select(PLACE), snapshot.grid(cohort.key.spec, PRESENCE), grid, rows["ts"])
        panel = snapshot.panels[cohort.raw(kind)]
        rows = panel.between(ranges_of_windows(slots, grid, TS_NS))
        ranges = ranges_of_windows(slots, grid, TS)
        if kind == "ticks":  # each has a price, so a slot with one has a bar
            return [(bars_from_trades(rows, grid), ranges.clear())] if cohort.makes("last") else []
        made = []
        for side in (side for side in QUOTE_BARS if cohort.makes(side)):
            bars, within = bars_from_quotes(rows, grid, side) if side != "mid" else None, ranges
            if bars is None:
                bars, within = mid_bars(panel, slots, grid)
            elif bars.height == slots.height:
                within = ranges.clear()
            made.append((as_series_of(self._session, bars, side), ranges_of_side(self._session, within, side)))
        return made

    def _refold(self, cohort: Cohort, rows: pl.DataFrame) -> int:
        """Derive and store, per interval, each window that contains any of the base `rows`, removed ones, too; return bars changed."""
        rows, written = rows[list(PLACE)], 0
        auctions = rows.clear()
        if rows["slot"].null_count():
            snapshot = self._session.snapshot()
            base = snapshot.grid(cohort.key.spec, cohort.base)
            auctions = base.auction_rows(without_unplaced_quotes(snapshot, rows))
            rows = rows.filter(pl.col("slot").is_not_null())
        for target in cohort.intervals if rows.height or auctions.height else ():
            snapshot = self._session.snapshot()
            base, grid = snapshot.grid(cohort.key.spec, cohort.base), snapshot.grid(cohort.key.spec, target)
            windows = windows_holding(rows if target.is_intraday else pl.concat([rows, auctions]), base, grid)
            if windows.is_empty():
                continue
            folded = self._carried_rows_of(snapshot, cohort, target, ranges_of_windows(windows, grid, TS), refold=True)
            if folded.height != windows.height:
                folded = folded.join(windows, on=PLACE, how="semi", maintain_order="left")
            bars = finish_bars(folded, grid, grid.at(completeness_interval(cohort.base, target, self._presence)))
            written += self._session.write_derived(target, cohort.key.spec, bars)
            if bars.height < windows.height:
                ranges = ranges_of_windows(windows, grid, TS)
                written += self._session.remove_absent_bars(target, cohort.key.spec, bars, ranges).height
        return written

    def _carried_rows_of(
        self, snapshot: Snapshot, cohort: Cohort, interval: Interval, ranges: pl.DataFrame, *, refold: bool = False
    ) -> pl.DataFrame:
        """`fold` input of an interval: stored rows (base, or derived unless `refold`), else folded from the finer."""
        key = cohort.of(interval)
        if interval == cohort.base:
            rows = snapshot.panels[key].between(ranges)
            return fold_input(rows.filter(pl.col("slot").is_not_null()) if rows["slot"].null_count() else rows)
        if not refold and interval in cohort.intervals:
            return refold_input(snapshot.panels[key].between(ranges))
        finer_interval = fold_parent(cohort.base, interval)
        finer, coarser = snapshot.grid(key.spec, finer_interval), snapshot.grid(key.spec, interval)
        counts_rows = interval <= completeness_interval(cohort.base, interval, self._presence)
        carried = self._carried_rows_of(snapshot, cohort, finer_interval, ranges)
        if finer_interval.is_intraday and not interval.is_intraday:
            rows = snapshot.panels[cohort.key].between(ranges)
            base = snapshot.grid(key.spec, cohort.base)
            carried = with_auctions(carried, auction_input(without_unplaced_quotes(snapshot, rows), base))
        return fold(carried, finer, coarser, counts_rows=counts_rows)


def derive_session(session: SessionData, *, presence: Interval = PRESENCE) -> int:
    """Derive every interval of every symbol from all base rows and store the bars; return the number new or changed."""
    return DataProcessor(session, presence=presence).step()


def symbols_registered_since(snapshot: Snapshot, since: int) -> frozenset[str] | None:
    """Names of symbols registered after revision `since`; None (meaning all) if 0 or older than the change log."""
    if since == 0 or since < snapshot.change_log.start_revision:
        return None
    return frozenset(name for name, revision in snapshot.registered.items() if revision > since)


def base_rows(snapshot: Snapshot, cohort: Cohort) -> pl.DataFrame:
    """All base bars of the cohort's symbols, by (series, ts); those of other cohorts in the panel are dropped."""
    rows = snapshot.rows_of(cohort.key)
    ours = snapshot.series_of(cohort.symbols)
    if rows.is_empty() or set(rows["series"].unique().to_list()) <= set(ours):
        return rows
    return rows.filter(pl.col("series").is_in(ours))


def without_unplaced_quotes(snapshot: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
    """Base rows without those of bid, ask and mid that have no slot: quotes of an auction call are no prices of the day."""
    if not rows["slot"].null_count():
        return rows
    return rows.filter(pl.col("slot").is_not_null() | pl.col("series").is_in(snapshot.series_of(None, ["last"])))


def touched_ranges(snapshot: Snapshot, cohort: Cohort, kind: Kind, touched: pl.DataFrame) -> pl.DataFrame:
    """`series, first, last` of the cohort's touched rows of a kind (bars: base interval only), sorted."""
    interval = str(cohort.base) if kind == "bars" else None
    of_kind = touched.filter((pl.col("kind") == kind) & pl.col("interval").eq_missing(pl.lit(interval, pl.String)))
    names = None if kind == "bars" else [RAW_PRICE_TYPES[kind]]
    ours = snapshot.series_of(cohort.symbols, names)
    return (
        of_kind.filter(pl.col("series").is_in(ours))
        .sort("series", "first_ts")
        .select("series", pl.col("first_ts").alias("first"), pl.col("last_ts").alias("last"))
    )


def rows_in_ranges(snapshot: Snapshot, key: PanelKey, ranges: pl.DataFrame) -> pl.DataFrame:
    """Rows in `series, first, last`, ends included (ticks, quotes: whole microsecond); empty without the panel."""
    if key not in snapshot.panels or ranges.is_empty():
        return snapshot.no_rows_of(key)
    if key.kind in RAW_KINDS:
        last = pl.col("last").cast(TS_NS) + pl.duration(nanoseconds=999)
        ranges = ranges.with_columns(pl.col("first").cast(TS_NS), last)
    return snapshot.panels[key].between(ranges)


def windows_holding(
    rows: pl.DataFrame, finer: SessionGrid, coarser: SessionGrid, instants: pl.Series | None = None
) -> pl.DataFrame:
    """Distinct sorted `series, ordinal, slot` of `coarser` with rows, by slot or `instants`; others are dropped."""
    if instants is None:
        placed = rows[["series"]].hstack(finer.windows(rows, coarser))
    else:
        placed = rows[["series"]].hstack(coarser.place(instants.cast(TS), exact=False))
    if placed["ordinal"].null_count() or placed["slot"].null_count():
        placed = placed.drop_nulls(PLACE)
    columns = [placed[name].to_numpy() for name in PLACE]
    order = np.lexsort(columns[::-1])
    sorted_columns = [one[order] for one in columns]
    begins = np.ones(len(order), bool)
    begins[1:] = np.logical_or.reduce([one[1:] != one[:-1] for one in sorted_columns])
    return pl.DataFrame([pl.Series(name, one[begins]) for name, one in zip(PLACE, sorted_columns, strict=True)])


def ranges_of_windows(windows: pl.DataFrame, grid: SessionGrid, unit: pl.DataType) -> pl.DataFrame:
    """`series, first, last` from slot start to one `unit` tick before slot end, both ends included."""
    first, end = grid.starts(windows["ordinal"], windows["slot"]), grid.ends(windows["ordinal"], windows["slot"])
    last = pl.Series("last", end.cast(unit).cast(pl.Int64).to_numpy() - 1).cast(unit)
    return pl.DataFrame([windows["series"], first.cast(unit).alias("first"), last])


def derive_base_bars(session: SessionData, cohort: Cohort, kind: Kind) -> int:
    """Make and store base bars of all ticks or quotes (the cohort's sides); return bars changed, 0 for source bars."""
    snapshot = session.snapshot()
    if cohort.key.origin == "source":
        return 0
    rows = snapshot.rows_of(cohort.raw(kind), snapshot.series_of(cohort.symbols))
    if rows.is_empty():
        return 0
    grid = snapshot.grid(cohort.key.spec, cohort.base)
    if kind == "ticks" and not cohort.makes("last"):
        return 0
    if kind == "ticks":
        return session.write_derived(grid.interval, cohort.key.spec, bars_from_trades(rows, grid))
    written = 0
    for side in (side for side in QUOTE_BARS if cohort.makes(side)):
        bars = as_series_of(session, bars_from_quotes(rows, grid, side), side)
        written += session.write_derived(grid.interval, cohort.key.spec, bars)
        everything = whole_ranges(session.snapshot().series_of(cohort.symbols, [side]))
        written += session.remove_absent_bars(grid.interval, cohort.key.spec, bars, everything).height
    return written


def whole_ranges(series: Sequence[int]) -> pl.DataFrame:
    """`series, first, last` from the earliest to the latest instant that a row may have."""
    return pl.DataFrame({"series": pl.Series(series, dtype=pl.Int32)}).with_columns(
        pl.lit(EARLIEST, TS).alias("first"), pl.lit(LATEST, TS).alias("last")
    )


def ranges_of_side(session: SessionData, ranges: pl.DataFrame, price_type: str) -> pl.DataFrame:
    """Ranges of quotes as those of their symbols' series of `price_type`, sorted; without symbols that have no such series."""
    series = session.snapshot().series
    sides = series.filter(pl.col("price_type") == price_type).select("symbol", pl.col("series").alias("side"))
    numbers = series.join(sides, on="symbol").select("series", "side")
    joined = ranges.join(numbers, on="series").select(pl.col("side").alias("series"), "first", "last")
    return joined.sort("series", "first")


def as_series_of(session: SessionData, bars: pl.DataFrame, price_type: str) -> pl.DataFrame:
    """Renumber bars of quotes to their symbols' series of `price_type`, created if absent; sort by series, ts."""
    names = session.snapshot().series.filter(pl.col("series").is_in(bars["series"].unique().implode()))
    pairs = names.select(pl.col("series").alias("quote"), "symbol", pl.lit(price_type).alias("price_type"))
    numbers = session.series_for(pairs.drop("quote")).select("series").with_columns(pairs["quote"])
    renumbered = (
        bars.rename({"series": "quote"}).join(numbers, on="quote", how="left", maintain_order="left").drop("quote")
    )
    return renumbered.sort("series", "ts").select(bars.columns)
