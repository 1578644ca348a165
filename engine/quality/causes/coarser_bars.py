"""What the vendor's coarser bars prove of missing finer ones: a sum that is whole, and nothing traded; a larger one, and a loss.

Vendors fold bars in ways of their own (official prints, other filters), so the agreement is measured first, in windows without a
missing bar: only volumes that are sums there, and highs and lows that are those of the bars, are evidence of the others.
Pure: frame in, frame out.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.grid import SessionGrid, microseconds
from engine.keys import Ints
from engine.quality.causes.counters import cut_at_segments, no_slots
from engine.quality.contiguous_runs import Floats

FEWEST_WINDOWS = 5  # without a missing bar, or with equal sums
LEAST_SHARE = 0.9  # of the whole windows that agree
TOLERANCE = 1e-6
LONGEST_SHARE = 0.5  # of the missing slots of a window, that a loss in it must be


def slots_by_coarser_bars(coarser: pl.DataFrame, bars: pl.DataFrame, grid: SessionGrid, name: str) -> pl.DataFrame:
    """`counters.COUNTED` slots of series that coarser bars prove to be without a trade, or lost.

    Parameters
    ----------
    coarser : DataFrame
        `series, start, end` (instants), `high, low, volume` of coarser bars.
    bars : DataFrame
        `series, ordinal, slot, high, low, volume` of the bars that are there, in slots.
    grid : SessionGrid
        Of the bars.
    name : str
        Of the coarser interval, for the evidence.
    """
    table = grid.table.filter("chosen")
    held = bars.sort("series", "ordinal", "slot")
    ours = coarser.filter(pl.col("series").is_in(held["series"].unique().implode())).sort("series", "start")
    if table.is_empty() or ours.is_empty():
        return no_slots()
    base = np.concatenate([[0], np.cumsum(table["slots"].to_numpy().astype(np.int64))])
    row = pl.Series(np.searchsorted(table["ordinal"].to_numpy(), held["ordinal"].to_numpy()))
    number = base[row.to_numpy()] + held["slot"].to_numpy()
    windows = ours.hstack(slots_inside_windows(ours, table, base, grid)).filter(pl.col("past") > pl.col("first"))
    if windows.is_empty():
        return no_slots()
    stride = int(base[-1]) + 1
    keys = held["series"].to_numpy().astype(np.int64) * stride + number
    lead = windows["series"].to_numpy().astype(np.int64) * stride
    first, past = windows["first"].to_numpy(), windows["past"].to_numpy()
    low, high = np.searchsorted(keys, lead + first), np.searchsorted(keys, lead + past)
    measured = windows.with_columns(
        pl.Series("there", high - low),
        pl.Series("sum", sums_between(held["volume"].fill_null(0).to_numpy(), low, high)),
        pl.Series("top", extremes_between(np.maximum, held["high"].to_numpy(), low, high)),
        pl.Series("bottom", extremes_between(np.minimum, held["low"].to_numpy(), low, high)),
    ).with_columns(
        (pl.col("past") - pl.col("first") - pl.col("there")).alias("missing"),
        ((pl.col("volume") - pl.col("sum")).abs() <= TOLERANCE * pl.col("volume").abs()).alias("is_sum"),
        ((pl.col("top") == pl.col("high")) & (pl.col("bottom") == pl.col("low"))).alias("is_range"),
    )
    judged = measured.join(agreement(measured), on="series", maintain_order="left")
    by_volume = (pl.col("missing") > 0) & pl.col("sums_agree")
    is_silent = by_volume & pl.col("is_sum")
    is_more = by_volume & (pl.col("volume") > pl.col("sum") * (1 + TOLERANCE)) & pl.col("is_measured")
    beyond = (pl.col("high") > pl.col("top")) | (pl.col("low") < pl.col("bottom"))
    is_beyond = (pl.col("missing") > 0) & pl.col("ranges_agree") & beyond.fill_null(value=False)
    told = judged.filter(is_silent | is_more | is_beyond).with_columns(
        is_silent.alias("is_silent"), is_more.alias("is_more")
    )
    if told.is_empty():
        return no_slots()
    runs = missing_runs(told, keys, stride)
    is_one = pl.col("is_silent") | (pl.col("slots") >= LONGEST_SHARE * pl.col("missing"))
    silent = pl.format(
        "the {} bar has the volume of its {} bars that are there: nothing traded in the others", pl.lit(name), "there"
    )
    more = pl.format("the {} bar has volume {}, its {} bars that are there {}", pl.lit(name), "volume", "there", "sum")
    far = pl.format("the {} bar has prices beyond those of its {} bars that are there", pl.lit(name), "there")
    described = runs.filter(is_one).with_columns(
        pl.when("is_silent").then(pl.lit("no_trade")).otherwise(pl.lit("symbol_loss")).alias("cause"),
        pl.when("is_silent").then(silent).when("is_more").then(more).otherwise(far).alias("evidence"),
        pl.col("share").alias("confidence"),
        pl.lit(None, pl.String).alias("event"),
    )
    return cut_at_segments(described, table)


def slots_inside_windows(ours: pl.DataFrame, table: pl.DataFrame, base: Ints, grid: SessionGrid) -> pl.DataFrame:
    """`first, past`: slots, by number on the axis, of one segment that lie wholly in [start, end) of each coarser bar."""
    opens, closes = microseconds(table["open"]), microseconds(table["close"])
    start, end = microseconds(ours["start"]), microseconds(ours["end"])
    row = np.searchsorted(closes, start, side="right")
    safe = np.minimum(row, len(opens) - 1)
    low, high = np.maximum(start, opens[safe]), np.minimum(end, closes[safe])
    ordinal = table["ordinal"].gather(safe)
    inside = (row < len(opens)) & (high > low)
    # A bar over several segments is not looked at: what lies between them is no slot of the axis.
    is_one = end <= np.append(opens[1:], [np.iinfo(np.int64).max])[safe]

    def slot_at(at: Ints) -> pl.Series:
        return grid.slots_at(ordinal, pl.Series("at", np.where(inside, at, opens[safe])).cast(pl.Datetime("us", "UTC")))

    head, tail = slot_at(low), slot_at(high - 1)
    first = head.to_numpy() + (microseconds(grid.starts(ordinal, head)) < low)
    past = tail.to_numpy() + (microseconds(grid.ends(ordinal, tail)) <= high)
    whole = inside & is_one
    return pl.DataFrame(
        {
            "first": np.where(whole, base[safe] + first, 0),
            "past": np.where(whole, base[safe] + past, 0),
        }
    )


def sums_between(values: Floats, low: Ints, high: Ints) -> Floats:
    """Sum of values[low:high] of each range."""
    ahead = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(ahead[high] - ahead[low])


def extremes_between(of: np.ufunc, values: Floats, low: Ints, high: Ints) -> Floats:
    """Extreme of values[low:high] of each range; NaN of an empty one."""
    if not len(values):
        return np.full(len(low), np.nan)
    bounds = np.column_stack([np.minimum(low, len(values) - 1), np.minimum(high, len(values) - 1)]).ravel()
    # `reduceat` ends before the bound, and the last value has none behind it.
    found = of.reduceat(values, bounds)[::2]
    found = np.where(high == len(values), of(found, values[-1]), found)
    return np.where(high > low, found, np.nan)


def agreement(measured: pl.DataFrame) -> pl.DataFrame:
    """`series, share, sums_agree, ranges_agree, is_measured` of series whose coarser bars agree with their bars where none is missing."""
    whole = pl.col("missing") == 0
    has_volume = pl.col("volume").sum() > 0
    summed = measured.group_by("series", maintain_order=True).agg(
        whole.sum().alias("windows"),
        (whole & pl.col("is_sum")).sum().alias("sums"),
        (whole & pl.col("is_range")).sum().alias("ranges"),
        (~whole & pl.col("is_sum") & (pl.col("sum") > 0)).sum().alias("equal"),
        has_volume.alias("has_volume"),
    )
    is_measured = (pl.col("windows") >= FEWEST_WINDOWS) & (pl.col("sums") >= LEAST_SHARE * pl.col("windows"))
    is_thin = (pl.col("windows") < FEWEST_WINDOWS) & (pl.col("equal") >= FEWEST_WINDOWS)
    ranged = (pl.col("windows") >= FEWEST_WINDOWS) & (pl.col("ranges") >= LEAST_SHARE * pl.col("windows"))
    return summed.select(
        "series",
        pl.when(is_measured | ranged)
        .then(pl.max_horizontal("sums", "ranges") / pl.col("windows"))
        .otherwise(LEAST_SHARE)
        .alias("share"),
        (pl.col("has_volume") & (is_measured | is_thin)).alias("sums_agree"),
        ranged.alias("ranges_agree"),
        (is_measured & pl.col("has_volume")).alias("is_measured"),
    )


def missing_runs(windows: pl.DataFrame, keys: Ints, stride: int) -> pl.DataFrame:
    """Runs of missing slots of windows, a row each: `first, last` by number on the axis, and `slots` of the run."""
    lead = windows["series"].to_numpy().astype(np.int64) * stride
    first, past = (windows[name].to_numpy() for name in ("first", "past"))
    low, high = np.searchsorted(keys, lead + first), np.searchsorted(keys, lead + past)
    count = high - low + 1  # a run may lie before each bar that is there, and behind the last
    which = np.repeat(np.arange(windows.height), count)
    place = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    at = low[which] + place
    size = len(keys)
    before = np.where(place == 0, lead[which] + first[which] - 1, keys[np.clip(at - 1, 0, size - 1)])
    after = np.where(place == count[which] - 1, lead[which] + past[which], keys[np.clip(at, 0, size - 1)])
    begun, ended = before + 1 - lead[which], after - 1 - lead[which]
    runs = windows[which].with_columns(
        pl.Series("first", begun), pl.Series("last", ended), pl.Series("slots", ended - begun + 1)
    )
    return runs.filter(pl.col("slots") > 0)
