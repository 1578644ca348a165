"""Fold finer bars into coarser ones, for a whole panel of series in one pass. Pure: frame in, frame out.

1. `derive` asks `interval.plan_folds` which folds yield all targets: each child from its ladder parent.
2. `fold_input` turns base rows into columns that add up: notional for vwap, counts for completeness.
3. `fold` maps every row to its window (`SessionGrid.windows`) and numbers the runs of (series, window);
   `group_by_dynamic` on the run number makes the windows with their open, close and row count (`fold_runs`); the other
   columns are reduced left to right (`REDUCERS`), so that a slice, a panel and a rebuild agree to the last bit.
4. `finish_bars` adds stamps, vwap and completeness, and drops the columns that only the fold needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.arguments import check_arguments
from engine.errors import SortednessError
from engine.grid import SessionGrid
from engine.interval import Interval, Intervals, intervals_of, plan_folds
from engine.schema import PROVENANCE, PROVENANCES, TS, VERDICT, VERDICTS, select_schema, verdict_by_provenance

PRESENCE = Interval(1, "m")
REDUCERS: Mapping[str, np.ufunc] = {
    "high": np.maximum,
    "low": np.minimum,
    "provenance": np.maximum,
    "verdict": np.maximum,
    **dict.fromkeys(("volume", "notional", "trades", "uncovered", "n_base"), np.add),
}

# Columns of a base bar that a fold needs; `series` numbers (symbol, price_type), `slot` is null off the grid.
BASE: Mapping[str, pl.DataType] = {
    "series": pl.Int32(),
    "ordinal": pl.Int32(),
    "slot": pl.Int32(),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
}
AMOUNTS: Mapping[str, pl.DataType] = {
    "volume": pl.Float64(),
    "size": pl.Float64(),
    "vwap": pl.Float64(),
    "trades": pl.Int64(),
}
DERIVED: Mapping[str, pl.DataType] = {
    "series": pl.Int32(),
    "session": pl.Date(),
    "ordinal": pl.Int32(),
    "slot": pl.Int32(),
    "ts": TS,
    "ts_end": TS,
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    **AMOUNTS,
    "n_base": pl.Int32(),
    "n_expected": pl.Int32(),
    "complete": pl.Boolean(),
    "notional": pl.Float64(),
    "provenance": PROVENANCE,
    "verdict": VERDICT,
}


@check_arguments("rows", "grid")
def derive(
    rows: pl.DataFrame, grid: SessionGrid, targets: Intervals, presence: str | Interval = PRESENCE
) -> dict[Interval, pl.DataFrame]:
    """Map each target to `DERIVED` bars, one per window with a row; null slots skipped; SortednessError, IntervalError: unnested.

    Parameters
    ----------
    rows : DataFrame
        Base bars: `series, ordinal, slot` (Int32), `open, high, low, close` (Float64) and any of `volume,
        size, vwap` (Float64), `trades` (Int64), `provenance`; sorted by (series, ordinal, slot), no two rows
        with one key. Rows with a null `slot` lie off the grid or outside the chosen segments; they are skipped, but for
        those of auctions (`SessionGrid.auction_rows`), which enter days, weeks and months.
    grid : SessionGrid
        The axis at the base interval.
    targets : str, Interval or iterable of them
        Coarser intervals.
    presence : Interval
        Where the base is finer than this, completeness counts slots of this length.

    Returns
    -------
    dict of Interval to DataFrame
        `DERIVED`, sorted by (series, ordinal, slot), one row per window that holds a base bar. `ts` is the
        window's inclusive start, `ts_end` its exclusive end, cut at the close; `n_base` counts present slots
        and `n_expected` the window's slots; `vwap` is null where any volume has none.

    Raises
    ------
    IntervalError
        A target is not made of whole base bars.
    SortednessError
        The rows are not strictly increasing by (series, ordinal, slot).
    """
    wanted = sorted(set(intervals_of("targets", targets, least=0) or ()))
    counted = Interval.parse(presence)
    folds = plan_folds(grid.interval, wanted)
    auctions = auction_input(rows, grid)
    rows = rows.filter(pl.col("slot").is_not_null()) if rows["slot"].null_count() else rows
    check_sorted(rows)
    levels = {grid.interval: fold_input(rows)}
    for above, child in folds:
        counts_rows = child <= completeness_interval(grid.interval, child, counted)
        is_first_period = above.is_intraday and not child.is_intraday
        finer = with_auctions(levels[above], auctions) if is_first_period else levels[above]
        levels[child] = fold(finer, grid.at(above), grid.at(child), counts_rows=counts_rows)
    return {
        t: finish_bars(levels[t], grid.at(t), grid.at(completeness_interval(grid.interval, t, counted))) for t in wanted
    }


def completeness_interval(base: Interval, target: Interval, presence: Interval = PRESENCE) -> Interval:
    """Interval whose slots `n_base` counts: base if >= `presence`; else `presence` if it nests between base and target, else target.

    Where `presence` does not fit between the two, one row makes a window present.
    """
    if base >= presence:
        return base
    return presence if base.nests_in(presence) and presence.nests_in(target) else target


def check_sorted(rows: pl.DataFrame) -> None:
    """Raise SortednessError at the first row whose (series, ordinal, slot) is not above the row before's."""
    series, ordinal, slot = (rows[name].to_numpy() for name in ("series", "ordinal", "slot"))
    ahead = slot[1:] > slot[:-1]
    ahead = np.where(ordinal[1:] == ordinal[:-1], ahead, ordinal[1:] > ordinal[:-1])
    ahead = np.where(series[1:] == series[:-1], ahead, series[1:] > series[:-1])
    if ahead.all():
        return
    at = int(np.argmin(ahead)) + 1
    where = rows.row(at, named=True)
    raise SortednessError(
        f"rows: row {at} (series {where['series']}, ordinal {where['ordinal']}, slot {where['slot']}) does not "
        "come after the row before it; valid: sorted by (series, ordinal, slot), each key once"
    )


def fold(rows: pl.DataFrame, finer: SessionGrid, coarser: SessionGrid, *, counts_rows: bool) -> pl.DataFrame:
    """Fold rows into the `coarser` windows that contain them, rows of no window dropped; `counts_rows` caps `n_base` at 1 per window."""
    windows = finer.windows(rows, coarser)
    keyed = rows.drop("ordinal", "slot").hstack(windows)
    if windows["ordinal"].null_count():
        keyed = keyed.filter(pl.col("ordinal").is_not_null())
    folded = fold_runs(keyed)
    return folded.with_columns(pl.col("n_base").clip(upper_bound=1)) if counts_rows else folded


def fold_runs(keyed: pl.DataFrame) -> pl.DataFrame:
    """One row per run of equal (series, ordinal, slot): first open, last close and size, max high, provenance and verdict, min low, sums.

    Parameters
    ----------
    keyed : DataFrame
        `series, ordinal, slot, open, high, low, close, n_base` and any of `volume, notional` (Float64),
        `size, trades, uncovered, provenance, verdict`.
    """
    if keyed.is_empty():
        return keyed
    series, ordinal, slot = (keyed[name].to_numpy() for name in ("series", "ordinal", "slot"))
    begins = np.zeros(keyed.height, bool)
    begins[1:] = (slot[1:] != slot[:-1]) | (ordinal[1:] != ordinal[:-1]) | (series[1:] != series[:-1])
    # By the number of the run, not by time: windows of a timestamp shift by an hour where daylight saving changes.
    run = pl.Series("run", np.cumsum(begins)).set_sorted()
    last = [name for name in ("close", "size") if name in keyed.columns]
    windows = (
        keyed.lazy()
        .select(run, "open", *last)
        .group_by_dynamic("run", every="1i")
        .agg(pl.col("open").first(), pl.col(last).last(), pl.len().cast(pl.Int64).alias("rows"))
        .collect(engine="in-memory")
    )
    starts = np.concatenate([[0], np.cumsum(windows["rows"].to_numpy())[:-1]])
    # Expressions of one select run side by side, and `reduceat` lets go of the interpreter's lock.
    reduced = keyed.select(
        pl.col(name).map_batches(partial(reduce_runs, starts=starts, by=by), return_dtype=keyed.schema[name])
        for name, by in REDUCERS.items()
        if name in keyed.columns
    )
    return keyed[["series", "ordinal", "slot"]][starts].hstack(windows.drop("run", "rows")).hstack(reduced)


def reduce_runs(values: pl.Series, starts: NDArray[np.int64], by: np.ufunc) -> pl.Series:
    """Reduce each run [start, next start) left to right by `by`, nulls taken as 0; a run of nulls alone gives null."""
    filled = (values.fill_null(0) if values.null_count() else values).to_numpy()
    reduced = pl.Series(values.name, by.reduceat(filled, starts, dtype=filled.dtype))
    if not values.null_count():
        return reduced
    has_value = np.logical_or.reduceat(values.is_not_null().to_numpy(), starts)
    return pl.select(pl.when(pl.lit(pl.Series(has_value))).then(pl.lit(reduced)).alias(values.name)).to_series()


def fold_input(rows: pl.DataFrame) -> pl.DataFrame:
    """Base bars with `n_base` 1 (0 if synthetic) and `notional` = vwap * volume instead of vwap; columns that are all null dropped."""
    amounts = [name for name in AMOUNTS if name in rows.columns and rows[name].null_count() < rows.height]
    carried = rows.select(*BASE, *(name for name in amounts if name != "vwap"), pl.lit(1, pl.Int32).alias("n_base"))
    if "vwap" in amounts and "volume" in amounts:
        notional = (rows["vwap"] * rows["volume"]).fill_null(0.0).alias("notional")
        carried = carried.hstack([notional, *uncovered_counts(rows, "vwap")])
    if "provenance" in rows.columns and (rows["provenance"] != PROVENANCES[0]).any():
        real = (rows["provenance"] != "synthetic").cast(pl.Int32)
        carried = carried.with_columns(rows["provenance"].to_physical().alias("provenance"), real.alias("n_base"))
    if "verdict" not in rows.columns and "provenance" in carried.columns:
        rows = rows.with_columns(verdict_by_provenance(rows["provenance"].cast(PROVENANCE)))
    return carried.hstack(verdict_codes(rows))


def verdict_codes(rows: pl.DataFrame) -> list[pl.Series]:
    """[`verdict` of rows as places in `VERDICTS`]; [] where all are `observed`, or there is none."""
    if "verdict" not in rows.columns or (rows["verdict"] == VERDICTS[0]).all():
        return []
    return [rows["verdict"].to_physical().alias("verdict")]


def auction_input(rows: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """`fold` input of the rows of auctions among base rows: their `n_base` is 0, as they fill no slot."""
    return fold_input(grid.auction_rows(rows)).with_columns(pl.lit(0, pl.Int32).alias("n_base"))


def with_auctions(carried: pl.DataFrame, auctions: pl.DataFrame) -> pl.DataFrame:
    """`fold` input of an intraday interval with rows of `auction_input` added, for a fold to days; sorted."""
    if auctions.is_empty():
        return carried
    both = pl.concat([carried, auctions], how="diagonal_relaxed").sort("series", "ordinal", "slot")
    if "notional" in both.columns:
        lacks = (both["notional"].is_null() & (both["volume"] != 0)).fill_null(value=False).cast(pl.Int32)
        uncovered = (
            both["uncovered"].fill_null(0)
            if "uncovered" in both.columns
            else pl.zeros(both.height, pl.Int32, eager=True)
        )
        both = both.with_columns((uncovered | lacks).alias("uncovered"), pl.col("notional").fill_null(0.0))
    return both.with_columns(pl.col(name).fill_null(0) for name in ("provenance", "verdict") if name in both.columns)


def uncovered_counts(rows: pl.DataFrame, name: str) -> list[pl.Series]:
    """[`uncovered`: 1 where `name` is null and there is volume, so that its window gets no vwap]; [] if no such row."""
    if not rows[name].null_count():
        return []
    uncovered = (rows[name].is_null() & (rows["volume"] != 0)).fill_null(value=False)
    return [uncovered.cast(pl.Int32).alias("uncovered")] if uncovered.any() else []


def refold_input(bars: pl.DataFrame) -> pl.DataFrame:
    """`DERIVED` bars as rows for a further `fold`: `notional`, `n_base` and amounts taken over, stamps, vwap and `complete` dropped."""
    amounts = [name for name in ("volume", "size", "trades", "notional") if bars[name].null_count() < bars.height]
    carried = bars[[*BASE, *amounts, "n_base"]]
    if "notional" in amounts:
        carried = carried.hstack(uncovered_counts(bars, "notional"))
    if (bars["provenance"] != PROVENANCES[0]).any():
        carried = carried.with_columns(bars["provenance"].to_physical().alias("provenance"))
    return carried.hstack(verdict_codes(bars))


def finish_bars(carried: pl.DataFrame, grid: SessionGrid, completeness_grid: SessionGrid) -> pl.DataFrame:
    """Folded bars in schema `DERIVED`: session, stamps, vwap, `n_expected`, `complete`, provenance, weakest verdict; absent amounts null.

    Parameters
    ----------
    carried : DataFrame
        From `fold` or `fold_runs`.
    grid : SessionGrid
        The axis at the interval of the rows.
    completeness_grid : SessionGrid
        The axis at the interval whose slots completeness counts; `grid` itself: one slot makes a bar complete.
    """
    session = grid.sessions(carried["ordinal"])
    stamps = [grid.starts(carried["ordinal"], carried["slot"]), grid.ends(carried["ordinal"], carried["slot"])]
    expected = (
        grid.slots_in(carried, completeness_grid)
        if completeness_grid.interval < grid.interval
        else pl.lit(1, pl.Int32).alias("n_expected")
    )
    provenance = pl.lit("source", PROVENANCE).alias("provenance")
    if "provenance" in carried.columns:
        provenance = pl.col("provenance").cast(pl.UInt8).cat.to(PROVENANCE)
    verdict = pl.lit(VERDICTS[0], VERDICT).alias("verdict")
    if "verdict" in carried.columns:
        verdict = pl.col("verdict").cast(pl.UInt8).cat.to(VERDICT)
    # Notional serves coarser bars: only where there is a vwap, so that other series of the panel do not matter.
    notional = pl.col("notional") if "notional" in carried.columns else pl.lit(None, pl.Float64)
    frame = carried.with_columns(session, *stamps, expected, vwap_of(carried.columns)).with_columns(
        (pl.col("n_base") >= pl.col("n_expected")).alias("complete"),
        pl.when(pl.col("vwap").is_not_null()).then(notional).alias("notional"),
        provenance,
        verdict,
    )
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in AMOUNTS.items() if name not in frame.columns]
    return select_schema(frame.with_columns(absent), DERIVED, "derived bars")


def vwap_of(columns: list[str]) -> pl.Expr:
    """Expression `vwap` = notional / volume; null if volume is 0, a row with volume had no vwap, or there is no `notional`."""
    if "notional" not in columns:
        return pl.lit(None, pl.Float64).alias("vwap")
    covered = (pl.col("uncovered") == 0) if "uncovered" in columns else pl.lit(value=True)
    return pl.when(covered & (pl.col("volume") > 0)).then(pl.col("notional") / pl.col("volume")).alias("vwap")
