"""Bars from ticks: trades to `last`, quotes to `bid`, `ask` and `mid`, by the plain fold.

A tick belongs to the slot that holds its instant. Every tick counts, in order of (ts, seq).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.arguments import check_arguments, check_known, one_name
from engine.derive.bars import finish_bars, fold_runs
from engine.errors import SortednessError
from engine.grid import SessionGrid
from engine.schema import TS


@check_arguments("ticks", "grid")
def bars_from_trades(ticks: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """`DERIVED` `last` bars, one per slot with a tick: volume is the sum of sizes, vwap null if any tick has no size; all complete.

    Parameters
    ----------
    ticks : DataFrame
        `series` (Int32), `ts` (Datetime, UTC), `seq` (Int64), `price`, `size` (Float64); sorted by
        (series, ts, seq).
    grid : SessionGrid
        The axis at the interval of the bars.

    Returns
    -------
    DataFrame
        `bars.DERIVED`: `volume` is the sum of sizes (null where all are), `trades` the number of ticks, `vwap`
        the sum of price times size over `volume`; sorted by (series, ordinal, slot).
    """
    size = pl.col("size")
    rows = place_ticks(ticks, grid).with_columns(
        size.alias("volume"),
        (pl.col("price") * size).fill_null(0.0).alias("notional"),
        size.is_null().cast(pl.Int32).alias("uncovered"),
        pl.lit(1, pl.Int64).alias("trades"),
    )
    return fold_ticks(rows.drop("size"), grid)


@check_arguments("quotes", "grid", "price_type")
def bars_from_quotes(quotes: pl.DataFrame, grid: SessionGrid, price_type: str) -> pl.DataFrame:
    """`DERIVED` bars of a side, or of `mid` (last bid and ask of the segment); quotes without price make no bar; no volume.

    Parameters
    ----------
    quotes : DataFrame
        `series` (Int32), `ts`, `seq`, `bid`, `ask`, `bid_size`, `ask_size`; sorted by (series, ts, seq).
    grid : SessionGrid
        The axis at the interval of the bars.
    price_type : {"bid", "ask", "mid"}
        A quote without that side makes no bar; `mid` pairs each quote with the last one of the other side of
        the same segment.

    Returns
    -------
    DataFrame
        `bars.DERIVED` with `size` (the last one shown, null for mid) and no volume.
    """
    check_known("price_type", [one_name("price_type", price_type)], ("bid", "ask", "mid"))
    placed = place_ticks(quotes, grid)
    if price_type == "mid":
        sides = [pl.col(side).forward_fill().over("series", "ordinal") for side in ("bid", "ask")]
        priced = placed.with_columns(((sides[0] + sides[1]) / 2).alias("price"), pl.lit(None, pl.Float64).alias("size"))
    else:
        priced = placed.with_columns(pl.col(price_type).alias("price"), pl.col(f"{price_type}_size").alias("size"))
    return fold_ticks(priced.filter(pl.col("price").is_not_null()), grid)


def place_ticks(ticks: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """Add `ordinal`, `slot` to ticks in chosen segments, drop the others; SortednessError unless sorted by series, ts, seq."""
    series, ts, seq = (ticks[name].to_physical().to_numpy() for name in ("series", "ts", "seq"))
    ahead = np.where(ts[1:] == ts[:-1], seq[1:] >= seq[:-1], ts[1:] > ts[:-1])
    ahead = np.where(series[1:] == series[:-1], ahead, series[1:] > series[:-1])
    if not ahead.all():
        at = int(np.argmin(ahead)) + 1
        raise SortednessError(f"ticks: row {at} comes before the row above it; valid: sorted by (series, ts, seq)")
    place = grid.place(ticks["ts"].cast(TS), exact=False).select("ordinal", "slot")
    return ticks.with_columns(place).filter(pl.col("slot").is_not_null())


def fold_ticks(rows: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """Fold placed ticks by `price` into `DERIVED` OHLC bars per slot; any tick makes a slot complete (n_base = n_expected = 1)."""
    price = pl.col("price")
    prices = [price.alias(name) for name in ("open", "high", "low", "close")]
    carried = [name for name in ("size", "volume", "notional", "uncovered", "trades") if name in rows.columns]
    keyed = rows.select("series", "ordinal", "slot", *prices, *carried, pl.lit(1, pl.Int32).alias("n_base"))
    folded = fold_runs(keyed).with_columns(pl.lit(1, pl.Int32).alias("n_base"))
    return finish_bars(folded, grid, grid)
