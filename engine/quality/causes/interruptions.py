"""Slots of gaps that lie inside an interruption of the venue. Pure: frames in, frame out."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.grid import SessionGrid, microseconds
from engine.keys import Ints, expand_ranges
from engine.schema import Schema

MOST_OF_IT = 0.9  # of an interruption at the exchange alone: other series went on
INSIDE: Schema = {"inside": pl.Int64(), "kind": pl.String(), "scope": pl.String(), "start": pl.String(), "end": pl.String(), "source": pl.String()}  # fmt: skip


def interrupted_slots(gaps: pl.DataFrame, interruptions: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """Per gap how many of its slots are `inside` an interruption, by at least half of each slot, and what it was; 0, null.

    Parameters
    ----------
    gaps : DataFrame of `ordinal, slot, bar_count, gap_start, gap_end`
        In the grid.
    interruptions : DataFrame of `calendars.interruptions.INTERRUPTIONS`
        Sorted by start. Those that overlap count as one, described by the first. One of scope `exchange` counts only in
        gaps that cover nine tenths of it.
    grid : SessionGrid
        Of the gaps' interval.

    Returns
    -------
    DataFrame of `INSIDE`, a row per gap, in order
        `start` and `end` are texts in UTC, for evidence.
    """
    merged = merge_overlapping(interruptions)
    none = pl.DataFrame({"inside": np.zeros(gaps.height, np.int64)}).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in INSIDE.items() if name != "inside"
    )
    begin, close = microseconds(gaps["gap_start"]), microseconds(gaps["gap_end"])
    start, end = microseconds(merged["start"]), microseconds(merged["end"])
    first = np.searchsorted(end, begin, side="right")
    count = np.maximum(np.searchsorted(start, close, side="left") - first, 0)
    if not count.any():
        return none
    gap, which = np.repeat(np.arange(gaps.height), count), expand_ranges(first[count > 0], count[count > 0])
    low, high = np.maximum(begin[gap], start[which]), np.minimum(close[gap], end[which])
    is_exchange = (merged["scope"] == "exchange").to_numpy()[which]
    is_enough = ~is_exchange | (high - low >= MOST_OF_IT * (end[which] - start[which]))
    first_slot, last_slot = slots_inside(gaps["ordinal"].gather(gap), low, high, grid)
    inside = last_slot - first_slot + 1
    counted = pl.DataFrame({"gap": gap, "which": which, "inside": np.where(is_enough, inside, 0)}).filter(
        pl.col("inside") > 0
    )
    text = "%Y-%m-%d %H:%M:%SZ"
    known = merged.with_columns(pl.col("start", "end").dt.strftime(text)).with_row_index("which")
    described = (
        counted.group_by("gap", maintain_order=True)
        .agg(pl.col("inside").sum(), pl.col("which").first())
        .join(known.with_columns(pl.col("which").cast(pl.Int64)), on="which", how="left", maintain_order="left")
    )
    rows = none.select(pl.int_range(pl.len()).alias("gap"))
    joined = rows.join(described, on="gap", how="left", maintain_order="left").with_columns(
        pl.col("inside").fill_null(0)
    )
    return joined.select(pl.col(name).cast(dtype) for name, dtype in INSIDE.items())


def slots_inside(ordinal: pl.Series, low: Ints, high: Ints, grid: SessionGrid) -> tuple[Ints, Ints]:
    """(first, last) slot of segments `ordinal` at least half of which lies in [low, high); last < first where there is none.

    Parameters
    ----------
    ordinal : Series of Int32
        Segment of each span.
    low, high : array of int
        Microseconds since 1970, inside the segment, low < high.
    grid : SessionGrid
    """

    def slot_at(at: Ints) -> pl.Series:
        return grid.slots_at(ordinal, pl.Series("slot", at).cast(pl.Datetime("us", "UTC")))

    head, tail = slot_at(low), slot_at(high - 1)
    first, last = (slot.to_numpy().astype(np.int64) for slot in (head, tail))
    is_short = []
    for slot in (head, tail):
        opens, ends = microseconds(grid.starts(ordinal, slot)), microseconds(grid.ends(ordinal, slot))
        covered = np.minimum(high, ends) - np.maximum(low, opens)
        is_short.append(2 * covered < ends - opens)
    return first + is_short[0], last - (is_short[1] & (head != tail).to_numpy())


def merge_overlapping(interruptions: pl.DataFrame) -> pl.DataFrame:
    """Interruptions (sorted by start) as disjoint spans: those that overlap are one, with the first one's description."""
    reach = pl.col("end").cum_max().shift(1)
    group = (pl.col("start") >= reach).fill_null(value=True).cum_sum().alias("group")
    described = [pl.col(name).first() for name in ("kind", "scope", "source")]
    return interruptions.group_by(group, maintain_order=True).agg(
        pl.col("start").min(), pl.col("end").max(), *described
    )
