"""Mergeable summaries of bars: runs of present slots with the bars at their ends, and a profile of the day.

Both are much smaller than the bars, and both add up: bars are summarized part by part (`summarize_bars`), the summaries
are merged (`merge_summaries`), and gaps, rates and causes are computed from them without the bars.
Pure: frame in, frame out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.interval import Interval
from engine.keys import Integers, Ints, number_ranges, pack, pack_columns, pack_pair, unpack
from engine.quality.contiguous_runs import BLOCK, Floats, run_starts, sorted_union
from engine.schema import SEGMENTS_PER_SESSION, Schema

BIN = dt.timedelta(minutes=30)
BINS = 4096  # more than any segment has

RUNS: Schema = {
    "series": pl.Int32(),
    "ordinal": pl.Int32(),
    "first": pl.Int32(),
    "last": pl.Int32(),
    "open": pl.Float64(),
    "close": pl.Float64(),
    "volume_first": pl.Float64(),
    "volume_last": pl.Float64(),
}
# Of the bars of a series at a time of day: how many, their volume, and the moves between bars that follow one another.
PROFILE: Schema = {
    "series": pl.Int32(),
    "position": pl.Int32(),
    "bin": pl.Int32(),
    "bars": pl.Int64(),
    "volume": pl.Float64(),
    "moves": pl.Int64(),
    "squares": pl.Float64(),
}
PROFILE_KEY = ["series", "position", "bin"]


class BarSummary(NamedTuple):
    """Summary of bars: `runs`, a frame of `RUNS` in order, and `profile`, a frame of `PROFILE`."""

    runs: pl.DataFrame
    profile: pl.DataFrame


def bin_width(interval: Interval) -> int:
    """Slots per bin of the day: 30 minutes' worth, at least 1; 1 for 1d, 1w and 1mo."""
    return max(1, round(BIN.total_seconds() * 1e6 / interval.step_us)) if interval.is_intraday else 1


def bins_of(slot: NDArray[np.integer], width: int) -> Ints:
    """Bin of each slot: 0 for slot 0 alone, else 1 + slot // width."""
    return np.asarray(np.where(slot == 0, 0, 1 + slot.astype(np.int64) // width))


def bin_starts(number: Ints, width: int) -> Ints:
    """First slot of each bin: bin 0 at slot 0, bin 1 at 1, bin n at (n - 1) * width."""
    return np.where(number <= 1, number, (number - 1) * width)


def summarize_bars(rows: pl.DataFrame, width: int) -> BarSummary:
    """`runs` of consecutive slots of sorted bars, with their end bars, and `profile`: sums by series and time of day.

    Parameters
    ----------
    rows : DataFrame
        `series, ordinal, slot` (Int32, no nulls), strictly increasing in that order; `open, close, volume` (Float64,
        volume may be null).
    width : int
        From `bin_width`.
    """
    if rows.is_empty():
        return BarSummary(pl.DataFrame(schema=dict(RUNS)), pl.DataFrame(schema=dict(PROFILE)))
    series, ordinal, slot = (rows[name].to_numpy() for name in ("series", "ordinal", "slot"))
    follows = slot[1:] - slot[:-1] == 1
    follows &= ordinal[1:] == ordinal[:-1]
    follows &= series[1:] == series[:-1]
    starts = np.concatenate([[0], np.flatnonzero(~follows) + 1])
    ends = np.append(starts[1:] - 1, len(slot) - 1)
    places = {"series": series[starts], "ordinal": ordinal[starts], "first": slot[starts], "last": slot[ends]}
    prices = {"open": rows["open"][starts], "close": rows["close"][ends]}
    volumes = {"volume_first": rows["volume"][starts], "volume_last": rows["volume"][ends]}
    runs = pl.DataFrame(places | prices | volumes, schema=dict(RUNS))
    return BarSummary(runs, profile_bars(rows, runs, starts, width))


def merge_summaries(parts: Sequence[BarSummary]) -> BarSummary:
    """Runs of a segment that touch or overlap are united; profiles added, where a slot in two parts counts twice."""
    if len(parts) == 1:
        return parts[0]
    runs = pl.concat([pl.DataFrame(schema=dict(RUNS)), *(part.runs for part in parts)])
    profile = pl.concat([pl.DataFrame(schema=dict(PROFILE)), *(part.profile for part in parts)])
    key = bin_keys(*(profile[name].to_numpy() for name in PROFILE_KEY))
    summed = sum_profile(key, *(profile[name].to_numpy() for name in PROFILE if name not in PROFILE_KEY))
    place = slot_keys(*(runs[name].to_numpy() for name in ("series", "ordinal", "first")))
    in_order = runs if (place[1:] > place[:-1]).all() else runs.sort("series", "ordinal", "first", "last")
    return BarSummary(unite_runs(in_order), summed)


def bin_keys(series: Integers, position: Integers, number: Integers) -> Ints:
    """Packed integer per (series, position of the segment in its session, bin), sorting in that order."""
    return pack([series, position, number], [SEGMENTS_PER_SESSION, BINS])


def unpack_bin_keys(keys: Ints) -> tuple[Ints, ...]:
    """(series, position, bin) arrays of packed keys: the inverse of `bin_keys`."""
    return unpack(keys, [SEGMENTS_PER_SESSION, BINS])


def slot_keys(owner: NDArray[np.integer], ordinal: NDArray[np.integer], slot: NDArray[np.integer] | int = 0) -> Ints:
    """Packed integer per (owner: series or group, ordinal, slot), sorting in that order; slots below 2**20."""
    return pack([owner, ordinal, np.asarray(slot)], [1 << 25, 1 << 20])


def covered_lengths(start: Ints, end: Ints, first: Ints, last: Ints) -> Ints:
    """Length of each range [first, last) covered by sorted, disjoint spans [start, end); 0 without spans."""
    ahead = np.concatenate([[0], np.cumsum(end - start)])

    def before(at: Ints) -> Ints:
        """Length that spans cover up to each point."""
        index = np.searchsorted(start, at, side="right") - 1
        safe = np.maximum(index, 0)
        return np.where(index >= 0, ahead[safe] + np.minimum(at, end[safe]) - start[safe], 0)

    return before(last) - before(first) if len(start) else np.zeros(len(first), np.int64)


def unite_runs(runs: pl.DataFrame) -> pl.DataFrame:
    """Unite sorted runs of a segment that overlap or touch: open of the first, close and volume of the furthest."""
    if runs.is_empty():
        return runs
    # In one growing number, so that the furthest end so far is a running maximum.
    segment = pack_columns(runs, "series", "ordinal")
    number = np.concatenate([[0], np.cumsum(segment[1:] != segment[:-1])])
    first, last = (pack_pair(number, runs[name].to_numpy()) for name in ("first", "last"))
    furthest = np.maximum.accumulate(last)
    starts = np.flatnonzero(np.concatenate([[True], first[1:] > furthest[:-1] + 1]))
    if len(starts) == len(first):
        return runs
    # The bar at the end of a union is that of the run that reaches it.
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(first))))
    ends = np.lexsort((last, group))[np.append(starts[1:], len(first)) - 1]
    heads, tails = runs[starts], runs[ends]
    return heads.with_columns(tails["last"], tails["close"], tails["volume_last"])


def profile_bars(rows: pl.DataFrame, runs: pl.DataFrame, starts: Ints, width: int) -> pl.DataFrame:
    """`PROFILE` per (series, position, bin): bars, volume (null 0), moves, squared log returns within runs.

    Parameters
    ----------
    rows : DataFrame
        As `summarize_bars` takes them.
    runs : DataFrame
        Their `RUNS`.
    starts : array of int
        Row at which each run begins.
    width : int
        From `bin_width`.
    """
    # Rows are in order, so a bin of a segment is a range of rows: summed in one pass, then over segments.
    first, last = (runs[name].to_numpy().astype(np.int64) for name in ("first", "last"))
    low = bins_of(first, width)
    run, number = number_ranges(bins_of(last, width) - low + 1)
    number += low[run]
    slot = np.maximum(bin_starts(number, width), first[run])
    cuts = starts[run] + slot - first[run]
    key = profile_keys(runs["series"].to_numpy()[run], runs["ordinal"].to_numpy()[run], slot, width)
    # Of slots one wide, the bin after the first slot's has none.
    is_new = np.concatenate([[True], key[1:] != key[:-1]])
    cuts, key = cuts[is_new], key[is_new]
    without_move, squares = squared_moves(rows["close"].to_numpy(), starts)
    bars = np.diff(np.append(cuts, rows.height))
    volume = rows["volume"].fill_null(0.0).to_numpy()
    moves = bars - np.diff(np.searchsorted(without_move, np.append(cuts, rows.height)))
    return sum_profile(key, bars, np.add.reduceat(volume, cuts), moves, np.add.reduceat(squares, cuts))


def sum_profile(key: Ints, *values: NDArray[Any]) -> pl.DataFrame:
    """`PROFILE` frame: `values` (bars, volume, moves, squares) summed per packed key in row order, sorted by key."""
    # In a fixed order: threads that add up in another would change the last digits.
    order = np.argsort(key, kind="stable")
    heads = run_starts(key[order])
    sums = [np.add.reduceat(one[order], heads) if len(heads) else one for one in values]
    place = unpack_bin_keys(key[order][heads])
    return pl.DataFrame(dict(zip(PROFILE, [*place, *sums], strict=True)), schema_overrides=dict(PROFILE))


def squared_moves(close: Floats, starts: Ints) -> tuple[Ints, Floats]:
    """(rows without a move: run starts, non-finite returns; squared log return of each row, 0 at these)."""
    squares = np.zeros(len(close))
    with np.errstate(divide="ignore", invalid="ignore"):
        for low in range(1, len(close), BLOCK):
            block = squares[low : low + BLOCK]
            np.divide(close[low : low + BLOCK], close[low - 1 : low - 1 + len(block)], out=block)
            np.log(block, out=block)
            np.multiply(block, block, out=block)
    squares[starts] = 0.0
    if np.isfinite(squares.sum()):
        return starts, squares
    not_finite = np.flatnonzero(~np.isfinite(squares))
    squares[not_finite] = 0.0
    return sorted_union(not_finite, starts), squares


def profile_keys(
    series: NDArray[np.integer], ordinal: NDArray[np.integer], slot: NDArray[np.integer], width: int
) -> Ints:
    """`bin_keys` of (series, ordinal % 16, bin of slot) for each row."""
    return bin_keys(series, ordinal % SEGMENTS_PER_SESSION, bins_of(slot, width))
