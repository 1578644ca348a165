"""The feed's own counters (trade ids, sequence numbers) of rows -> `COUNTERS`: spans of time with their first and last number.

A file without such a column costs nothing. Row numbers, which stand for `seq` where a file has none, are no counter.
"""

from __future__ import annotations

import polars as pl

from engine.grid import Stamp
from engine.interval import Interval
from engine.schema import COUNTERS, TS, empty

SPAN = "1m"  # ticks of as much time are one span


def tick_counters(ticks: pl.DataFrame, number: str = "seq") -> pl.DataFrame:
    """`COUNTERS` of ticks, a span per symbol and minute; rows of one number count once.

    Parameters
    ----------
    ticks : DataFrame of `symbol, ts` and the number
        In any order.
    number : str
        Column of whole numbers.
    """
    if ticks.is_empty():
        return empty(COUNTERS)
    rows = ticks.select("symbol", pl.col("ts").dt.cast_time_unit("us"), pl.col(number).cast(pl.Int64).alias("id"))
    ordered = rows.drop_nulls("id").sort("symbol", "ts", "id")
    span = [pl.col("symbol"), pl.col("ts").dt.truncate(SPAN).alias("span")]
    step = pl.col("id").diff()
    spans = ordered.group_by(span, maintain_order=True).agg(
        pl.col("ts").first().alias("first_ts"),
        pl.col("ts").last().alias("last_ts"),
        pl.col("id").first().alias("first_id"),
        pl.col("id").last().alias("last_id"),
        (step != 0).sum().alias("steps"),
        (step == 1).sum().alias("ones"),
        step.max().fill_null(0).alias("largest"),
    )
    return spans.select(pl.col(name).cast(dtype) for name, dtype in COUNTERS.items())


def bar_counters(bars: pl.DataFrame, interval: Interval | None, stamp: Stamp) -> pl.DataFrame:
    """`COUNTERS` of bars with the ids of their first and last trade, a span per bar; bars without a trade have none.

    Parameters
    ----------
    bars : DataFrame of `symbol, ts, first_id, last_id`
        `ts` as the vendor stamps them.
    interval : Interval or None
        None: nothing tells which time a bar covers, so there is no span.
    stamp : {"start", "end", "end-inclusive"}
    """
    if interval is None or not interval.is_intraday or bars.is_empty():
        return empty(COUNTERS)
    step = pl.duration(microseconds=interval.step_us)
    start = {
        "start": pl.col("ts"),
        "end": pl.col("ts") - step,
        "end-inclusive": pl.col("ts").dt.truncate(f"{interval.seconds}s"),
    }[stamp]
    held = bars.filter((pl.col("first_id") > 0) & (pl.col("last_id") >= pl.col("first_id")))
    spans = held.select(
        "symbol",
        start.alias("first_ts"),
        (start + step - pl.duration(microseconds=1)).alias("last_ts"),
        "first_id",
        "last_id",
        pl.lit(0).alias("steps"),
        pl.lit(0).alias("ones"),
        pl.lit(0).alias("largest"),
    )
    return spans.select(pl.col(name).cast(dtype) for name, dtype in COUNTERS.items()).sort("symbol", "first_ts")


def numbers_of_bars(raw: pl.DataFrame, kept: pl.DataFrame, first: str, last: str) -> pl.DataFrame:
    """`symbol, ts, first_id, last_id` of rows that hold, from the raw columns of these names; not whole numbers: null."""
    ids = raw.select(
        pl.col("row").cast(pl.Int64),
        pl.col(first).cast(pl.Int64, strict=False).alias("first_id"),
        pl.col(last).cast(pl.Int64, strict=False).alias("last_id"),
    )
    return kept.select("symbol", pl.col("ts").cast(TS), "row").unique(["symbol", "row"]).join(ids, on="row")
