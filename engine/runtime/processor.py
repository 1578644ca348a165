"""Derived bars of a store: what to derive is read from its symbols, what comes of it is written back.

Symbols that share an axis, a base and a set of intervals (a cohort) go through the kernels together, as one panel.

1. `DataProcessor.step` asks the store what was touched since it last looked (`_dirty`).
2. Symbols that are new are derived whole (`_derive_whole`).
3. Of the others exactly the windows that hold a touched row: `_refold` takes each interval's windows from the level of
   the ladder below it, which is read from the store where it is kept there, else folded on the way (`_level_rows`).

Both ways fold whole windows with the same kernel from the same ladder, so what comes out is equal to the last bit.

What a step costs follows what was touched and not how far the session is, with one exception: a day, week or month is
folded from the coarsest intraday step that is kept, and where none above the base is asked for, from all base bars of the
period at each step. Asking for 1h beside 1d spares that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from engine.derive.bars import PRESENCE, carried_rows, derive, finished, fold, judged_at, recarried
from engine.derive.tick_bars import bars_from_quotes, bars_from_trades
from engine.grid import SessionGrid
from engine.interval import Interval, check_derivable, parent
from engine.runtime.mid_bars import mid_bars
from engine.schema import TS, TS_NS, Kind
from engine.store.session_data import SessionData
from engine.store.snapshot import RAW_PRICE_TYPES, PanelKey, Snapshot, SymbolSessionData

QUOTE_BARS = ("bid", "ask", "mid")
PLACE = ("series", "ordinal", "slot")
RAW_KINDS: tuple[Kind, ...] = ("ticks", "quotes")


class Cohort(NamedTuple):
    """Symbols that are derived together."""

    key: PanelKey
    intervals: tuple[Interval, ...]
    price_types: tuple[str, ...]
    symbols: tuple[str, ...]

    @property
    def base(self) -> Interval:
        """The base interval."""
        if self.key.interval is None:
            raise TypeError(f"{self.key.kind} have no interval")
        return self.key.interval

    @property
    def kind(self) -> tuple[object, ...]:
        """What its symbols have in common, which stays when some come or go."""
        return self[:3]

    def makes(self, price_type: str) -> bool:
        """Whether bars of this price type are made of ticks and quotes."""
        return not self.price_types or price_type in self.price_types

    def of(self, interval: Interval) -> PanelKey:
        """The panel of one of its intervals."""
        return self.key if interval == self.base else PanelKey("bars", interval, "derived", self.key.spec)

    def raw(self, kind: Kind) -> PanelKey:
        """The panel of its ticks or quotes."""
        return PanelKey(kind, None, "source", self.key.spec)


def cohorts(snapshot: Snapshot) -> list[Cohort]:
    """The symbols of a store by base panel, derived intervals and price types."""
    together: dict[tuple[PanelKey, tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for name, data in snapshot.symbols.items():
        together[data.base_key, data.derived_intervals, data.price_types].append(name)
    return [
        Cohort(key, tuple(map(Interval.parse, intervals)), types, tuple(names))
        for (key, intervals, types), names in together.items()
    ]


class Cohorts:
    """The cohorts of a store, found anew only when its symbols have changed."""

    def __init__(self) -> None:
        self._symbols: Mapping[str, SymbolSessionData] | None = None
        self._found: list[Cohort] = []

    def of(self, snapshot: Snapshot) -> list[Cohort]:
        """As `cohorts`."""
        if snapshot.symbols is not self._symbols:
            self._symbols, self._found = snapshot.symbols, cohorts(snapshot)
        return self._found


class DataProcessor:
    """Keeps the derived bars of a store in step with its rows. It knows no symbol: the store does.

    Parameters
    ----------
    session : SessionData
        Its symbols say which intervals (`SymbolSessionData.derived_intervals`).
    presence : Interval
        Where a base is finer than this, completeness counts slots of this length.
    """

    def __init__(self, session: SessionData, *, presence: Interval = PRESENCE) -> None:
        self._session = session
        self._presence = presence
        self._cohorts = Cohorts()
        self._since = 0
        self._rollbacks = session.rollbacks

    def step(self) -> int:
        """Derive what was touched since the last step.

        Returns
        -------
        int
            How many derived bars are new or changed.

        Raises
        ------
        IntervalError
            An interval cannot be made of its symbol's base bars.
        """
        with self._session.transaction():
            if (
                self._session.rollbacks != self._rollbacks
            ):  # what was derived may be gone, and its revisions be others now
                self._since, self._rollbacks = 0, self._session.rollbacks
            snapshot = self._session.snapshot()
            if snapshot.revision == self._since:
                return 0
            whole = asking(snapshot, self._since)
            touched = None if whole is None else snapshot.touched(self._since, ("bars", *RAW_KINDS))
            written = sum(self._derive(cohort, whole, touched) for cohort in self._cohorts.of(snapshot))
            self._since = self._session.revision
            return written

    def _derive(self, cohort: Cohort, whole: frozenset[str] | None, touched: pl.DataFrame | None) -> int:
        new = cohort.symbols if whole is None else tuple(name for name in cohort.symbols if name in whole)
        _check_intervals(self._session.snapshot().symbols, new)
        written = self._derive_whole(cohort._replace(symbols=new)) if new else 0
        if touched is None or len(new) == len(cohort.symbols):
            return written
        rest = cohort if not new else cohort._replace(symbols=tuple(name for name in cohort.symbols if name not in new))
        return written + self._derive_touched(rest, touched)

    def _derive_whole(self, cohort: Cohort) -> int:
        written = _fold_ticks(self._session, cohort, "ticks") + _fold_ticks(self._session, cohort, "quotes")
        snapshot = self._session.snapshot()
        rows = base_rows(snapshot, cohort)
        if rows.is_empty() or not cohort.intervals:
            return written
        grid = snapshot.grid(cohort.key.spec, cohort.base)
        for interval, bars in derive(rows, grid, cohort.intervals, self._presence).items():
            written += self._session.write_derived(interval, cohort.key.spec, bars)
        return written

    def _derive_touched(self, cohort: Cohort, touched: pl.DataFrame) -> int:
        snapshot = self._session.snapshot()
        if cohort.key.origin == "source":
            dirty = _dirty(snapshot, cohort, "bars", touched)
            return self._refold(cohort, _reread(snapshot, cohort.key, dirty))
        written, remade = 0, []
        for kind in RAW_KINDS:
            for bars in self._remade(cohort, kind, _dirty(snapshot, cohort, kind, touched)):
                written += self._session.write_derived(cohort.base, cohort.key.spec, bars)
                remade.append(bars)
        return written + (self._refold(cohort, pl.concat(remade).sort(PLACE)) if remade else 0)

    def _remade(self, cohort: Cohort, kind: Kind, dirty: pl.DataFrame) -> list[pl.DataFrame]:
        """Base bars of the slots that hold a touched tick or quote."""
        snapshot = self._session.snapshot()
        rows = _reread(snapshot, cohort.raw(kind), dirty)
        if rows.is_empty():
            return []
        grid = snapshot.grid(cohort.key.spec, cohort.base)
        slots = _windows(rows.select(PLACE), snapshot.grid(cohort.key.spec, PRESENCE), grid, rows["ts"])
        near = snapshot.panels[cohort.raw(kind)].between(_spans(slots, grid, TS_NS))
        if kind == "ticks":
            return [bars_from_trades(near, grid)] if cohort.makes("last") else []
        made = []
        for side in (side for side in QUOTE_BARS if cohort.makes(side)):
            panel = snapshot.panels[cohort.raw(kind)]
            bars = mid_bars(panel, slots, grid) if side == "mid" else bars_from_quotes(near, grid, side)
            made.append(_renumbered(self._session, bars, side))
        return made

    def _refold(self, cohort: Cohort, rows: pl.DataFrame) -> int:
        """Every derived window that holds one of these base rows, folded anew."""
        rows = rows[list(PLACE)]
        rows = rows.filter(pl.col("slot").is_not_null()) if rows["slot"].null_count() else rows
        written = 0
        for target in cohort.intervals if rows.height else ():
            snapshot = self._session.snapshot()
            base, grid = snapshot.grid(cohort.key.spec, cohort.base), snapshot.grid(cohort.key.spec, target)
            windows = _windows(rows, base, grid)
            if windows.is_empty():
                continue
            folded = self._level_rows(snapshot, cohort, target, _spans(windows, grid, TS), refold=True)
            if folded.height != windows.height:
                folded = folded.join(windows, on=PLACE, how="semi", maintain_order="left")
            bars = finished(folded, grid, grid.at(judged_at(cohort.base, target, self._presence)))
            written += self._session.write_derived(target, cohort.key.spec, bars)
        return written

    def _level_rows(
        self, snapshot: Snapshot, cohort: Cohort, level: Interval, spans: pl.DataFrame, *, refold: bool = False
    ) -> pl.DataFrame:
        """Carried rows of one level of the ladder in these spans, which hold whole windows of it."""
        key = cohort.of(level)
        if level == cohort.base:
            rows = snapshot.panels[key].between(spans)
            return carried_rows(rows.filter(pl.col("slot").is_not_null()) if rows["slot"].null_count() else rows)
        if not refold and level in cohort.intervals:
            return recarried(snapshot.panels[key].between(spans))
        above = parent(cohort.base, level)
        finer, coarser = snapshot.grid(key.spec, above), snapshot.grid(key.spec, level)
        counts_rows = level <= judged_at(cohort.base, level, self._presence)
        return fold(self._level_rows(snapshot, cohort, above, spans), finer, coarser, counts_rows=counts_rows)


def derive_session(session: SessionData, *, presence: Interval = PRESENCE) -> int:
    """Derive every interval that the symbols of a store ask for, from their base rows; see `DataProcessor.step`."""
    return DataProcessor(session, presence=presence).step()


def asking(snapshot: Snapshot, since: int) -> frozenset[str] | None:
    """Symbols that ask for something they did not at revision `since`; None when all count as new."""
    if since == 0 or since < snapshot.horizon:
        return None
    return frozenset(name for name, revision in snapshot.registered.items() if revision > since)


def base_rows(snapshot: Snapshot, cohort: Cohort) -> pl.DataFrame:
    """Base bars of a cohort as its panel has them, sorted by (series, ts)."""
    rows = snapshot.rows_of(cohort.key)
    ours = snapshot.series_of(cohort.symbols)
    if rows.is_empty() or set(rows["series"].unique().to_list()) <= set(ours):
        return rows
    return rows.filter(pl.col("series").is_in(ours))


def _check_intervals(symbols: Mapping[str, SymbolSessionData], names: Iterable[str]) -> None:
    for base, interval in {(symbols[name].base_interval, i) for name in names for i in symbols[name].derived_intervals}:
        check_derivable(Interval.parse(base), Interval.parse(interval))


def _dirty(snapshot: Snapshot, cohort: Cohort, kind: Kind, touched: pl.DataFrame) -> pl.DataFrame:
    """`series, first, last` of the cohort's rows of a kind that were touched."""
    interval = str(cohort.base) if kind == "bars" else None
    of_kind = touched.filter((pl.col("kind") == kind) & pl.col("interval").eq_missing(pl.lit(interval, pl.String)))
    names = None if kind == "bars" else [RAW_PRICE_TYPES[kind]]
    ours = snapshot.series_of(cohort.symbols, names)
    return (
        of_kind.filter(pl.col("series").is_in(ours)).sort("series", "first_ts")
        .select("series", pl.col("first_ts").alias("first"), pl.col("last_ts").alias("last"))
    )  # fmt: skip


def _reread(snapshot: Snapshot, key: PanelKey, dirty: pl.DataFrame) -> pl.DataFrame:
    """Rows of a panel in spans of whole microseconds."""
    if key not in snapshot.panels or dirty.is_empty():
        return snapshot.none_of(key)
    if key.kind in RAW_KINDS:
        last = pl.col("last").cast(TS_NS) + pl.duration(nanoseconds=999)
        dirty = dirty.with_columns(pl.col("first").cast(TS_NS), last)
    return snapshot.panels[key].between(dirty)


def _windows(
    rows: pl.DataFrame, finer: SessionGrid, coarser: SessionGrid, instants: pl.Series | None = None
) -> pl.DataFrame:
    """Places in `coarser` that hold one of these rows, each once, sorted. Ticks are placed by their instants."""
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


def _spans(windows: pl.DataFrame, grid: SessionGrid, unit: pl.DataType) -> pl.DataFrame:
    """`series, first, last` (inclusive) of the rows that places hold."""
    first, end = grid.starts(windows["ordinal"], windows["slot"]), grid.ends(windows["ordinal"], windows["slot"])
    last = pl.Series("last", end.cast(unit).cast(pl.Int64).to_numpy() - 1).cast(unit)
    return pl.DataFrame([windows["series"], first.cast(unit).alias("first"), last])


def _fold_ticks(session: SessionData, cohort: Cohort, kind: Kind) -> int:
    """Base bars from all ticks or quotes of symbols whose base comes from them."""
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
