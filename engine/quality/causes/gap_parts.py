"""Cut gaps where what is known of their slots changes: each part has one cause. Pure: frame in, frame out.

A run of missing slots may begin with slots that the files do not cover, contain an outage, and end with slots in which
nothing traded. `cut_points` cuts gaps at the edges of ranges; `range_of_parts` says in which range each part lies. The law
stays: the sum of `bar_count` over the parts of a session is its number of missing slots.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.grid import SessionGrid
from engine.keys import Ints, number_ranges
from engine.quality.causes.profiles import slot_keys


def axis_keys(gaps: pl.DataFrame) -> Ints:
    """Packed (ordinal, slot) of the first slot of each gap: the same for all series of an axis, in order of time."""
    ordinal, slot = (gaps[name].to_numpy() for name in ("ordinal", "slot"))
    return slot_keys(np.zeros(len(ordinal), np.int64), ordinal, slot)


def outage_keys(outages: pl.DataFrame) -> tuple[Ints, Ints]:
    """Packed (ordinal, slot) of the start and the end of each outage of a group."""
    ordinal = outages["ordinal"].to_numpy()
    zero = np.zeros(len(ordinal), np.int64)
    start, end = (slot_keys(zero, ordinal, outages[name].to_numpy()) for name in ("first", "end"))
    return start, end


def series_keys(gaps: pl.DataFrame) -> Ints:
    """Packed (series, ordinal, slot) of the first slot of each gap."""
    return slot_keys(*(gaps[name].to_numpy() for name in ("series", "ordinal", "slot")))


def cut_points(begin: Ints, count: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """(gap, offset, slots) of each part of gaps [begin, begin + count) cut at the edges of ranges [start, end).

    Parameters
    ----------
    begin, count : array of int
        Packed first slot and number of slots of each gap.
    start, end : array of int
        Packed ranges, sorted and disjoint.
    """
    cuts = np.unique(np.concatenate([start, end]))
    low = np.searchsorted(cuts, begin, side="right")
    inside = np.maximum(np.searchsorted(cuts, begin + count, side="left") - low, 0)
    gap, number = number_ranges(inside + 1)
    at = cuts[np.minimum(low[gap] + number - 1, len(cuts) - 1)] if len(cuts) else begin[gap]
    offset = np.where(number == 0, 0, at - begin[gap])
    closes = np.append(number[1:] == 0, [True])[: len(number)]
    following = np.append(offset[1:], [0])[: len(offset)]
    return gap, offset, np.where(closes, count[gap], following) - offset


def range_of_parts(begin: Ints, start: Ints, end: Ints) -> Ints:
    """Row of the sorted, disjoint range [start, end) that each packed slot lies in; -1 in none."""
    if not len(start):
        return np.full(len(begin), -1)
    at = np.searchsorted(start, begin, side="right") - 1
    return np.where((at >= 0) & (begin < end[np.maximum(at, 0)]), at, -1)


def take_parts(
    gaps: pl.DataFrame, gap: Ints, offset: Ints, slots: NDArray[np.integer], grid: SessionGrid
) -> pl.DataFrame:
    """Gaps of the parts (`cut_points`): slot, bar_count, gap_start and gap_end are theirs, the rest is their gap's."""
    if len(gap) == gaps.height:
        return gaps
    parts = gaps[gap]
    first = (parts["slot"].to_numpy() + offset).astype(np.int32)
    placed = parts.with_columns(
        pl.Series("slot", first, pl.Int32), pl.Series("bar_count", slots.astype(np.int32), pl.Int32)
    )
    is_cut = np.flatnonzero(slots != gaps["bar_count"].to_numpy()[gap])
    ordinal = placed["ordinal"].gather(is_cut)
    begun = grid.starts(ordinal, placed["slot"].gather(is_cut))
    ended = grid.ends(ordinal, (placed["slot"] + placed["bar_count"] - 1).gather(is_cut))
    return placed.with_columns(
        placed["gap_start"].scatter(is_cut, begun).alias("gap_start"),
        placed["gap_end"].scatter(is_cut, ended).alias("gap_end"),
    )
