"""What the feed's own counters prove: no jump over a hole, and nothing traded there; a jump, and as many trades are lost.

1. `slots_between` finds the slots between two spans of a series (`schema.COUNTERS`) that follow one another.
2. A counter is evidence only where it counts one series without gaps: `counting_series` measures the share of its steps that are
   one where no slot lies between. Numbers that a channel or a venue shares, random ones and falling ones do not pass.
3. `counted_slots`: a step of one over a hole is `no_trade`; a larger one within open hours is a loss, unless the counter
   makes such jumps elsewhere too, and of the feed if most series lost the same slots. A falling number (a reset) tells nothing.

Pure: frame in, frame out.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.grid import SessionGrid, instants, microseconds
from engine.keys import Ints, number_ranges
from engine.quality.causes.profiles import slot_keys

FEWEST_STEPS = 20  # of fewer, nothing is known of a counter
LEAST_SHARE = 0.9  # of its steps that are one
SURE_SHARE = 0.999  # below it, only a jump larger than any other is no habit of the counter
FEWEST_SERIES = 2  # that lose slots together
COUNTED = ["series", "ordinal", "first", "last", "cause", "evidence", "confidence", "event"]


def counted_slots(spans: pl.DataFrame, grid: SessionGrid, name: str) -> pl.DataFrame:
    """`COUNTED` slots that counters prove to be without a trade, or lost; overlapping no other of the series.

    Parameters
    ----------
    spans : DataFrame
        `series` and `schema.COUNTERS`, of one axis.
    grid : SessionGrid
        Of the axis.
    name : str
        Of the axis, for the names of common losses.
    """
    table = grid.table.filter("chosen")
    ordered = spans.unique().sort("series", "first_ts", "first_id")
    if table.is_empty() or ordered.height < FEWEST_SERIES:
        return no_slots()
    pairs = slots_between(ordered, table, grid)
    shares = counting_series(ordered, pairs)
    holes = pairs.filter(pl.col("last") >= pl.col("first")).join(shares, on="series")
    is_silent = pl.col("step").is_between(0, 1)
    is_jump = (pl.col("step") > 1) & ((pl.col("share") >= SURE_SHARE) | (pl.col("step") > pl.col("largest")))
    told = holes.filter(is_silent | (is_jump & pl.col("is_open")))
    if told.is_empty():
        return no_slots()
    measured = pl.format("{} % of its {} other steps are one", (100 * pl.col("share")).round(1), "steps")
    silent = pl.format("the counter goes on from {} to {}: nothing traded ({})", "before", "after", measured)
    skipped = pl.format(
        "the counter skips from {} to {}: {} trades are lost ({})", "before", "after", pl.col("step") - 1, measured
    )
    described = told.with_columns(
        pl.when(is_silent).then(pl.lit("no_trade")).otherwise(pl.lit("symbol_loss")).alias("cause"),
        pl.when(is_silent).then(silent).otherwise(skipped).alias("evidence"),
        pl.col("share").alias("confidence"),
        pl.lit(None, pl.String).alias("event"),
    )
    return with_common_losses(cut_at_segments(described, table), shares.height, grid, name).select(COUNTED)


def no_slots() -> pl.DataFrame:
    """No `COUNTED` slot."""
    numbers = dict.fromkeys(COUNTED[:4], pl.Int32)
    return pl.DataFrame(
        schema={**numbers, "cause": pl.String, "evidence": pl.String, "confidence": pl.Float64, "event": pl.String}
    )


def slots_between(ordered: pl.DataFrame, table: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """Per two spans that follow one another in a series: `first, last` slot wholly between them, by number on the axis.

    Returns
    -------
    DataFrame of `series, before, after, step, first, last, is_open`
        `last < first` where no slot lies between. `is_open`: both lie in segments, and no closed time is between.
    """
    opens, closes = microseconds(table["open"]), microseconds(table["close"])
    base = np.concatenate([[0], np.cumsum(table["slots"].to_numpy().astype(np.int64))])
    ended, begun = microseconds(ordered["last_ts"])[:-1], microseconds(ordered["first_ts"])[1:]

    def place(at: Ints) -> tuple[Ints, NDArray[np.bool_], Ints]:
        """(segment, whether inside it, slot number on the axis; of one outside the number that comes next)."""
        row = np.searchsorted(opens, at, side="right") - 1
        safe = np.maximum(row, 0)
        inside = (row >= 0) & (at < closes[safe])
        slot = grid.slots_at(table["ordinal"].gather(safe), instants(at, "at")).to_numpy().astype(np.int64)
        return safe, inside, np.where(inside, base[safe] + slot, base[row + 1])

    segment, is_inside, number = place(ended)
    next_segment, is_next_inside, next_number = place(begun)
    breaks = np.concatenate([[0], np.cumsum(opens[1:] != closes[:-1])])
    series = ordered["series"].to_numpy()
    before, after = ordered["last_id"].to_numpy()[:-1], ordered["first_id"].to_numpy()[1:]
    pairs = pl.DataFrame(
        {
            "series": series[1:],
            "before": before,
            "after": after,
            "step": after - before,
            "first": number + is_inside,
            "last": next_number - 1,
            "is_open": is_inside & is_next_inside & (breaks[segment] == breaks[next_segment]),
        }
    )
    return pairs.filter(pl.Series(series[1:] == series[:-1]))


def counting_series(ordered: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """`series, steps, share, largest` (step) of series whose counter steps by one in 9 of 10 steps without a slot between, or more."""
    beside = pairs.filter((pl.col("last") < pl.col("first")) & pl.col("is_open") & (pl.col("step") != 0))
    between = beside.group_by("series").agg(
        pl.len().cast(pl.Int64).alias("steps"),
        (pl.col("step") == 1).sum().cast(pl.Int64).alias("ones"),
        pl.col("step").max().alias("largest"),
    )
    sums = [pl.col("steps", "ones").sum(), pl.col("largest").max()]
    summed = pl.concat([between, ordered.group_by("series").agg(sums)]).group_by("series").agg(sums)
    shared = summed.with_columns((pl.col("ones") / pl.col("steps")).alias("share"))
    counts = shared.filter((pl.col("steps") >= FEWEST_STEPS) & (pl.col("share") >= LEAST_SHARE))
    return counts.select("series", "steps", "share", "largest").sort("series")


def cut_at_segments(holes: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Holes by number on the axis as holes of segments, a row each: `ordinal` and the slots in it."""
    base = np.concatenate([[0], np.cumsum(table["slots"].to_numpy().astype(np.int64))])
    first, last = holes["first"].to_numpy(), holes["last"].to_numpy()
    low, high = (np.searchsorted(base, at, side="right") - 1 for at in (first, last))
    which, number = number_ranges(high - low + 1)
    at = low[which] + number
    begin = np.maximum(first[which] - base[at], 0)
    end = np.minimum(last[which] - base[at], base[at + 1] - base[at] - 1)
    cut = holes[which].with_columns(
        table["ordinal"].gather(at).alias("ordinal"),
        pl.Series("first", begin, pl.Int32),
        pl.Series("last", end, pl.Int32),
    )
    return cut.filter(pl.col("first") <= pl.col("last"))


def with_common_losses(slots: pl.DataFrame, series: int, grid: SessionGrid, name: str) -> pl.DataFrame:
    """Losses whose slots at least two, and half, of the counting series lose are `feed_loss`, with an event in common."""
    is_lost = (slots["cause"] == "symbol_loss").to_numpy()
    lost = slots.filter(pl.Series(is_lost))
    if lost["series"].n_unique() < FEWEST_SERIES:
        return slots
    none = np.zeros(lost.height, np.int64)
    begin, end = (slot_keys(none, lost["ordinal"].to_numpy(), lost[at].to_numpy()) for at in ("first", "last"))
    middle = (begin + end) // 2
    count = np.searchsorted(np.sort(begin), middle, side="right") - np.searchsorted(np.sort(end), middle, side="left")
    is_common = count >= max(FEWEST_SERIES, (series + 1) // 2)
    order = np.argsort(begin, kind="stable")
    reach = np.maximum.accumulate(end[order])
    heads = np.append([True], begin[order][1:] > reach[:-1])
    head_of = np.empty(lost.height, np.int64)
    head_of[order] = order[np.flatnonzero(heads)][np.cumsum(heads) - 1]
    started = grid.starts(lost["ordinal"], lost["first"]).gather(head_of)
    said = pl.Series("event", f"{name} counters " + started.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    common = lost.with_columns(said, pl.lit("feed_loss").alias("cause")).filter(pl.Series(is_common))
    return pl.concat([slots.filter(pl.Series(~is_lost)), lost.filter(pl.Series(~is_common)), common])
