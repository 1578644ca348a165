"""`mid` bars that a touched quote changes: a mid pairs each quote with the last one of the other side.

So a quote of one side needs what came before it, and whatever is new or corrected changes the mids after it, up to where
both sides were quoted again. Both stretches are looked for in steps that grow, within the segment: what this costs follows
how far apart the quotes of a side are, and not how long the segment is.
"""

from __future__ import annotations

import polars as pl

from engine.derive.tick_bars import bars_from_quotes
from engine.grid import SessionGrid
from engine.schema import TS, TS_NS
from engine.store.panel import Panel

FIRST_LOOK = 60  # seconds
LONGER = 16  # each look than the one before
INSTANT = pl.duration(nanoseconds=1, time_unit="ns")
SEGMENT = ["series", "ordinal"]
SIDES = ("bid", "ask")


def mid_bars(quotes: Panel, slots: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """`bars.DERIVED` of these slots (`series, ordinal, slot`), and of those after them whose mids follow from theirs."""
    spans = _until_both(quotes, _spans(slots, grid), grid)
    if spans.is_empty():
        return bars_from_quotes(quotes.between(spans), grid, "mid")
    begun = _from_both(quotes, spans)
    bars = bars_from_quotes(quotes.between(begun.select("series", pl.col("begin").alias("first"), "last")), grid, "mid")
    asked = bars.join(spans.select(*SEGMENT, pl.col("first").cast(TS)), on=SEGMENT, maintain_order="left")
    return asked.filter(pl.col("ts") >= pl.col("first")).drop("first")


def _spans(slots: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """`series, ordinal, first, last` (inclusive, from the first to the last slot), and `open, close` of their segments."""
    reach = slots.group_by(SEGMENT).agg(pl.col("slot").min().alias("low"), pl.col("slot").max().alias("high"))
    edges = grid.table.select("ordinal", pl.col("open", "close").cast(TS_NS))
    spans = reach.join(edges, on="ordinal").sort(SEGMENT)
    first, end = grid.starts(spans["ordinal"], spans["low"]), grid.ends(spans["ordinal"], spans["high"])
    return spans.select(*SEGMENT, first.cast(TS_NS).alias("first"), end.cast(TS_NS).alias("last") - INSTANT, "open",
                        pl.col("close") - INSTANT)  # fmt: skip


def _until_both(quotes: Panel, spans: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """The spans up to the end of the slot of the last quote whose mid follows from theirs."""
    done, pending, look = [], spans, FIRST_LOOK
    while pending.height:
        until = pl.min_horizontal("close", pl.col("last") + _seconds(look))
        rows = _within(quotes, pending.with_columns((pl.col("last") + INSTANT).alias("from"), until.alias("to")))
        both = pl.max_horizontal(*(pl.col("ts").filter(pl.col(side).is_not_null()).min() for side in SIDES))
        seen = rows.group_by(SEGMENT).agg(
            pl.when(pl.all_horizontal(pl.col(side).count() > 0 for side in SIDES)).then(both).alias("both"),
            # A quote that has both sides is its own master, and whoever comes after it follows that one.
            pl.any_horizontal(pl.col(side).first().is_null() for side in SIDES).alias("follows"),
            pl.col("ts").max().alias("end"),
        )  # fmt: skip
        met = pending.join(seen, on=SEGMENT, how="left").with_columns(until.alias("to"))
        is_over = pl.col("both").is_not_null() | (pl.col("to") == pl.col("close"))
        end = pl.when("follows").then(pl.coalesce("both", "end"))
        done.append(met.filter(is_over).with_columns(end.alias("end")))
        pending, look = met.filter(~is_over).select(spans.columns), look * LONGER
    if not done:
        return spans
    found = pl.concat(done).sort(SEGMENT)
    slots = grid.place(found["end"].fill_null(found["last"]).cast(TS), exact=False)["slot"]
    ends = grid.ends(found["ordinal"], slots).cast(TS_NS).alias("last") - INSTANT
    return found.with_columns(ends).select(spans.columns)


def _from_both(quotes: Panel, spans: pl.DataFrame) -> pl.DataFrame:
    """The spans with `begin`: from when on the quotes say what the first ones of the span lack."""
    rows = _within(quotes, spans.with_columns(pl.col("first").alias("from"), pl.col("last").alias("to")))
    lacks = rows.group_by(SEGMENT).agg(pl.col(side).first().is_null().alias(f"lacks_{side}") for side in SIDES)
    open_ones = spans.join(lacks, on=SEGMENT).filter(pl.any_horizontal("lacks_bid", "lacks_ask"))
    found, look = [], FIRST_LOOK
    while open_ones.height:
        since = pl.max_horizontal("open", pl.col("first") - _seconds(look))
        rows = _within(quotes, open_ones.with_columns(since.alias("from"), (pl.col("first") - INSTANT).alias("to")))
        seen = rows.group_by(SEGMENT).agg(
            pl.col("ts").filter(pl.col(side).is_not_null()).max().alias(f"last_{side}") for side in SIDES
        )
        met = open_ones.join(seen, on=SEGMENT, how="left").with_columns(since.alias("from"))
        wanted = [pl.when(f"lacks_{side}").then(f"last_{side}") for side in SIDES]
        is_over = (pl.col("from") == pl.col("open")) | pl.all_horizontal(
            ~pl.col(f"lacks_{side}") | pl.col(f"last_{side}").is_not_null() for side in SIDES
        )
        found.append(met.filter(is_over).select(*SEGMENT, pl.min_horizontal(*wanted).alias("begin")))
        open_ones, look = met.filter(~is_over).select(open_ones.columns), look * LONGER
    if not found:
        return spans.with_columns(pl.col("first").alias("begin"))
    begun = spans.join(pl.concat(found), on=SEGMENT, how="left", maintain_order="left")
    return begun.with_columns(pl.coalesce("begin", "first").alias("begin"))


def _seconds(count: int) -> pl.Expr:
    return pl.duration(seconds=count, time_unit="ns")


def _within(quotes: Panel, spans: pl.DataFrame) -> pl.DataFrame:
    """`series, ordinal, ts, bid, ask` of the quotes from `from` to `to`, in order."""
    wanted = spans.filter(pl.col("from") <= pl.col("to")).sort(SEGMENT)
    rows = quotes.between(wanted.select("series", pl.col("from").alias("first"), pl.col("to").alias("last")))
    placed = rows.select("series", "ts", *SIDES).join_asof(
        wanted.select(*SEGMENT, "from"), left_on="ts", right_on="from", by="series", check_sortedness=False
    )
    return placed.select(*SEGMENT, "ts", *SIDES)
