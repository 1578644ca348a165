"""`mid` bars of touched slots: a mid pairs each quote with the last quote of the other side.

A quote of one side therefore needs the quotes before it, and a new or corrected quote changes the mids after it,
until both sides were quoted again. Both ranges are searched in windows of growing length within the segment: the cost
follows the distance between quotes of a side, not the length of the segment.
"""

from __future__ import annotations

import polars as pl

from engine.derive.tick_bars import bars_from_quotes
from engine.grid import SessionGrid
from engine.schema import TS, TS_NS
from engine.store.panel import Panel

FIRST_WINDOW_SECONDS = 60
WINDOW_GROWTH = 16  # of each search window over the one before
INSTANT = pl.duration(nanoseconds=1, time_unit="ns")
SEGMENT = ["series", "ordinal"]
SIDES = ("bid", "ask")


def mid_bars(quotes: Panel, slots: pl.DataFrame, grid: SessionGrid) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Mid bars per segment from its first to last of `slots`, and on to the slot where both sides quote again; and these ranges.

    Returns
    -------
    bars : DataFrame
    ranges : DataFrame of `series, first, last`
        Inclusive: all mid bars in them are among `bars`.
    """
    touched = slots.group_by(SEGMENT).agg(pl.col("slot").min().alias("low"), pl.col("slot").max().alias("high"))
    edges = grid.table.select("ordinal", pl.col("open", "close").cast(TS_NS))
    spans = touched.join(edges, on="ordinal").sort(SEGMENT)
    first, end = grid.starts(spans["ordinal"], spans["low"]), grid.ends(spans["ordinal"], spans["high"])
    spans = spans.select(
        *SEGMENT,
        first.cast(TS_NS).alias("first"),
        end.cast(TS_NS).alias("last") - INSTANT,
        "open",
        pl.col("close") - INSTANT,
    )
    spans = extend_to_next_pair(quotes, spans, grid)
    ranges = spans.select("series", pl.col("first", "last").cast(TS))
    if spans.is_empty():
        return bars_from_quotes(quotes.between(spans), grid, "mid"), ranges
    begun = extend_to_last_pair(quotes, spans)
    bars = bars_from_quotes(quotes.between(begun.select("series", pl.col("begin").alias("first"), "last")), grid, "mid")
    asked = bars.join(spans.select(*SEGMENT, pl.col("first").cast(TS)), on=SEGMENT, maintain_order="left")
    return asked.filter(pl.col("ts") >= pl.col("first")).drop("first"), ranges


def extend_to_next_pair(quotes: Panel, spans: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """If a one-sided quote follows, move `last` to the end of the slot where both sides are quoted, or last quoted."""
    columns = spans.columns
    done, pending, window = [], spans, FIRST_WINDOW_SECONDS
    while pending.height:
        until = pl.min_horizontal("close", pl.col("last") + pl.duration(seconds=window, time_unit="ns"))
        rows = quotes_within(quotes, pending.with_columns((pl.col("last") + INSTANT).alias("from"), until.alias("to")))
        both = pl.max_horizontal(*(pl.col("ts").filter(pl.col(side).is_not_null()).min() for side in SIDES))
        seen = rows.group_by(SEGMENT).agg(
            pl.when(pl.all_horizontal(pl.col(side).count() > 0 for side in SIDES)).then(both).alias("both"),
            # A two-sided quote resets the pairing: later one-sided quotes pair with it.
            pl.any_horizontal(pl.col(side).first().is_null() for side in SIDES).alias("follows"),
            pl.col("ts").max().alias("end"),
        )
        searched = pending.join(seen, on=SEGMENT, how="left").with_columns(until.alias("to"))
        is_over = pl.col("both").is_not_null() | (pl.col("to") == pl.col("close"))
        end = pl.when("follows").then(pl.coalesce("both", "end"))
        done.append(searched.filter(is_over).with_columns(end.alias("end")))
        pending, window = searched.filter(~is_over).select(columns), window * WINDOW_GROWTH
    if not done:
        return spans
    spans = pl.concat(done).sort(SEGMENT)
    slots = grid.place(spans["end"].fill_null(spans["last"]).cast(TS), exact=False)["slot"]
    ends = grid.ends(spans["ordinal"], slots).cast(TS_NS).alias("last") - INSTANT
    return spans.with_columns(ends).select(columns)


def extend_to_last_pair(quotes: Panel, spans: pl.DataFrame) -> pl.DataFrame:
    """Add `begin`: stamp of the earlier quote of the side that the span's first quote lacks, else `first`."""
    rows = quotes_within(quotes, spans.with_columns(pl.col("first").alias("from"), pl.col("last").alias("to")))
    one_sided = rows.group_by(SEGMENT).agg(pl.col(side).first().is_null().alias(f"lacks_{side}") for side in SIDES)
    pending = spans.join(one_sided, on=SEGMENT).filter(pl.any_horizontal("lacks_bid", "lacks_ask"))
    done, window = [], FIRST_WINDOW_SECONDS
    while pending.height:
        since = pl.max_horizontal("open", pl.col("first") - pl.duration(seconds=window, time_unit="ns"))
        rows = quotes_within(quotes, pending.with_columns(since.alias("from"), (pl.col("first") - INSTANT).alias("to")))
        seen = rows.group_by(SEGMENT).agg(
            pl.col("ts").filter(pl.col(side).is_not_null()).max().alias(f"last_{side}") for side in SIDES
        )
        searched = pending.join(seen, on=SEGMENT, how="left").with_columns(since.alias("from"))
        begins = [pl.when(f"lacks_{side}").then(f"last_{side}") for side in SIDES]
        is_over = (pl.col("from") == pl.col("open")) | pl.all_horizontal(
            ~pl.col(f"lacks_{side}") | pl.col(f"last_{side}").is_not_null() for side in SIDES
        )
        done.append(searched.filter(is_over).select(*SEGMENT, pl.min_horizontal(*begins).alias("begin")))
        pending, window = searched.filter(~is_over).select(pending.columns), window * WINDOW_GROWTH
    if not done:
        return spans.with_columns(pl.col("first").alias("begin"))
    begun = spans.join(pl.concat(done), on=SEGMENT, how="left", maintain_order="left")
    return begun.with_columns(pl.coalesce("begin", "first").alias("begin"))


def quotes_within(quotes: Panel, spans: pl.DataFrame) -> pl.DataFrame:
    """Quotes `series, ordinal, ts, bid, ask` of disjoint spans with `from` <= ts <= `to`, in order."""
    ranges = spans.filter(pl.col("from") <= pl.col("to")).sort(SEGMENT)
    rows = quotes.between(ranges.select("series", pl.col("from").alias("first"), pl.col("to").alias("last")))
    placed = rows.select("series", "ts", *SIDES).join_asof(
        ranges.select(*SEGMENT, "from"), left_on="ts", right_on="from", by="series", check_sortedness=False
    )
    return placed.select(*SEGMENT, "ts", *SIDES)
