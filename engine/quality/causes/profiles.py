"""What an audit keeps of bars: runs of present slots with the bars at their ends, and a profile of the day.

Both are small beside the bars, and both add up: bars may be traced part by part (`summarize_bars`), the parts joined (`merge_summaries`),
and gaps, rates and causes told from what was kept, without the bars. Pure: frame in, frame out.
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
    """`runs` is a frame of `RUNS`, in order; `profile` one of `PROFILE`."""

    runs: pl.DataFrame
    profile: pl.DataFrame


def bin_width(interval: Interval) -> int:
    """How many slots of a segment are one time of day to the profile and the rates; the first slot is one alone."""
    return max(1, round(BIN.total_seconds() * 1e6 / interval.step_us)) if interval.is_intraday else 1


def bins_of(slot: NDArray[np.integer], width: int) -> Ints:
    """Bin of each slot: 0 for the first one, where auctions are, then one per `width` slots."""
    return np.asarray(np.where(slot == 0, 0, 1 + slot.astype(np.int64) // width))


def bin_starts(number: Ints, width: int) -> Ints:
    """First slot of each bin."""
    return np.where(number <= 1, number, (number - 1) * width)


def summarize_bars(rows: pl.DataFrame, width: int) -> BarSummary:
    """Trace bars that lie in their slots.

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
    runs = pl.DataFrame(
        {
            "series": series[starts], "ordinal": ordinal[starts], "first": slot[starts], "last": slot[ends],
            "open": rows["open"][starts], "close": rows["close"][ends],
            "volume_first": rows["volume"][starts], "volume_last": rows["volume"][ends],
        },
        schema=dict(RUNS),
    )  # fmt: skip
    return BarSummary(runs, _profile(rows, runs, starts, width))


def merge_summaries(parts: Sequence[BarSummary]) -> BarSummary:
    """Traces of several parts as one: a run that goes on in another part is one run, a slot that is in two counts once."""
    if len(parts) == 1:
        return parts[0]
    runs = pl.concat([pl.DataFrame(schema=dict(RUNS)), *(part.runs for part in parts)])
    profile = pl.concat([pl.DataFrame(schema=dict(PROFILE)), *(part.profile for part in parts)])
    number = bin_keys(*(profile[name].to_numpy() for name in PROFILE_KEY))
    summed = _added(number, *(profile[name].to_numpy() for name in PROFILE if name not in PROFILE_KEY))
    place = slot_keys(*(runs[name].to_numpy() for name in ("series", "ordinal", "first")))
    in_order = runs if (place[1:] > place[:-1]).all() else runs.sort("series", "ordinal", "first", "last")
    return BarSummary(_united(in_order), summed)


def bin_keys(series: Integers, position: Integers, number: Integers) -> Ints:
    """One integer per series, position of a segment in its session, and bin, in the order of the three."""
    return pack([series, position, number], [SEGMENTS_PER_SESSION, BINS])


def unpack_bin_keys(keys: Ints) -> tuple[Ints, ...]:
    """Series, position and bin of each key of `bin_keys`."""
    return unpack(keys, [SEGMENTS_PER_SESSION, BINS])


def slot_keys(owner: NDArray[np.integer], ordinal: NDArray[np.integer], slot: NDArray[np.integer] | int = 0) -> Ints:
    """One number for owner, segment and slot, in their order; a segment has less than 2**20 slots."""
    return pack([owner, ordinal, np.asarray(slot)], [1 << 25, 1 << 20])


def covered_lengths(start: Ints, end: Ints, first: Ints, last: Ints) -> Ints:
    """How much of each `[first, last)` the spans `[start, end)` cover, which are sorted and disjoint."""
    ahead = np.concatenate([[0], np.cumsum(end - start)])

    def before(at: Ints) -> Ints:
        index = np.searchsorted(start, at, side="right") - 1
        safe = np.maximum(index, 0)
        return np.where(index >= 0, ahead[safe] + np.minimum(at, end[safe]) - start[safe], 0)

    return before(last) - before(first) if len(start) else np.zeros(len(first), np.int64)


def _united(runs: pl.DataFrame) -> pl.DataFrame:
    if runs.height < 2:  # noqa: PLR2004 - a pair
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


def _profile(rows: pl.DataFrame, runs: pl.DataFrame, starts: Ints, width: int) -> pl.DataFrame:
    # Rows are in order, so a bin of a segment is a stretch: summed in one pass, then over segments.
    cuts, key = _cuts(runs, starts, width)
    still, squares = _moves(rows["close"].to_numpy(), starts)
    bars = np.diff(np.append(cuts, rows.height))
    volume = rows["volume"].fill_null(0.0).to_numpy()
    moves = bars - np.diff(np.searchsorted(still, np.append(cuts, rows.height)))
    return _added(key, bars, np.add.reduceat(volume, cuts), moves, np.add.reduceat(squares, cuts))


def _added(key: Ints, *values: NDArray[Any]) -> pl.DataFrame:
    """`PROFILE` of values by key, added up in their order: threads that do it in another would change the last digits."""
    order = np.argsort(key, kind="stable")
    heads = run_starts(key[order])
    sums = [np.add.reduceat(one[order], heads) if len(heads) else one for one in values]
    place = unpack_bin_keys(key[order][heads])
    return pl.DataFrame(dict(zip(PROFILE, [*place, *sums], strict=True)), schema_overrides=dict(PROFILE))


def _cuts(runs: pl.DataFrame, starts: Ints, width: int) -> tuple[Ints, Ints]:
    """Where in the rows stretches of one bin begin, and the key of each."""
    first, last = (runs[name].to_numpy().astype(np.int64) for name in ("first", "last"))
    low = bins_of(first, width)
    bins = bins_of(last, width) - low + 1
    run, number = number_ranges(bins)
    number += low[run]
    slot = np.maximum(bin_starts(number, width), first[run])
    cuts = starts[run] + slot - first[run]
    key = profile_keys(runs["series"].to_numpy()[run], runs["ordinal"].to_numpy()[run], slot, width)
    # Of slots one wide, the bin after the first slot's has none.
    fresh = np.concatenate([[True], key[1:] != key[:-1]])
    return cuts[fresh], key[fresh]


def _moves(close: Floats, starts: Ints) -> tuple[Ints, Floats]:
    """Rows that have no move from the one before, and the square of each row's move."""
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
    odd = np.flatnonzero(~np.isfinite(squares))
    squares[odd] = 0.0
    return sorted_union(odd, starts), squares


def profile_keys(
    series: NDArray[np.integer], ordinal: NDArray[np.integer], slot: NDArray[np.integer], width: int
) -> Ints:
    """One number for series, position of the segment in its session, and bin; in the order of the three."""
    return bin_keys(series, ordinal % SEGMENTS_PER_SESSION, bins_of(slot, width))
