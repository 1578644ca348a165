"""Order of the evidence: where several kinds speak of one slot, the first of `EVIDENCE` that does decides.

The statistical model (`attribution`) is asked only for slots of which no evidence speaks. Pure: frame in, frame out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from engine.keys import Ints
from engine.quality.causes.cause_table import LOSSES
from engine.quality.causes.gap_parts import cut_points, range_of_parts
from engine.quality.causes.profiles import slot_keys


class Evidence(NamedTuple):
    """A kind of evidence: its name, and what it says, for the documentation."""

    name: str
    says: str


# A row that came tells of its own slot. A halt names the reason of a silence that counters and coarser bars only prove; a
# counter is exact, a coarser bar a sum, a page seam a pattern; and an incident says that bars may be lost, not which.
EVIDENCE = (
    Evidence("row", "a row of the slot was refused, or lies off the grid"),
    Evidence("print", "trades are known from inside the slot, so that neither a halt nor a silence explains it"),
    Evidence("halt", "a file of halts, or of incidents of kind `halt` or `venue_halt`, has the slot in [start, end)"),
    Evidence("counter", "the feed's own counter goes on over the slot without a jump, or jumps"),
    Evidence("coarser_bar", "a bar of a coarser interval equals the sum of its bars that are there, or exceeds it"),
    Evidence("page_seam", "holes repeat at a constant number of rows, as the seams of pages do"),
    Evidence("incident", "a file of incidents of the kinds `feed_loss` and `symbol_loss` has the slot in [start, end)"),
)
RANKS: Mapping[str, int] = {kind.name: rank for rank, kind in enumerate(EVIDENCE)}
RANGE = ["series", "ordinal", "first", "last"]
# Nothing was due where the files do not cover a slot: that goes before a loss and before a halt, not before a proof that
# the row came, or that nothing traded.
BEFORE_COVERAGE = ("refused", "off_grid", "no_trade")


def settle_known(known: pl.DataFrame, prints: pl.DataFrame) -> pl.DataFrame:
    """`KNOWN` rows cut so that each slot has one, of the first kind of `EVIDENCE`; sorted by series and place.

    Parameters
    ----------
    known : DataFrame of `audit.survey.KNOWN`
        May overlap. Of one kind, the row that begins first counts.
    prints : DataFrame of `series, ordinal, first, last`
        Slots with trades: no evidence of a cause that is no loss counts there, but that of rows.
    """
    if known.is_empty():
        return known
    taken = ranges_of(known.clear())
    parts = []
    printed = unite(taken, ranges_of(prints))
    is_loss = pl.col("cause").is_in(LOSSES)
    for rank in sorted(known["rank"].unique()):
        own = known.filter(pl.col("rank") == rank)
        for part, is_denied in ((own.filter(~is_loss), rank > RANKS["print"]), (own.filter(is_loss), False)):
            kept = without_ranges(disjoint(part), unite(taken, printed) if is_denied else taken)
            taken = unite(taken, ranges_of(kept))
            parts.append(kept)
    return pl.concat(parts).sort("series", "ordinal", "first")


def disjoint(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows sorted by series and place; where one overlaps an earlier one its covered slots are cut off."""
    whole = rows.sort(RANGE, maintain_order=True)
    covered = pl.col("last").cum_max().shift(1).over("series", "ordinal")
    begun = pl.max_horizontal(pl.col("first"), covered.fill_null(-1) + 1).cast(pl.Int32)
    return whole.with_columns(begun.alias("first")).filter(pl.col("first") <= pl.col("last"))


def ranges_of(rows: pl.DataFrame) -> tuple[Ints, Ints]:
    """Packed (series, ordinal, slot) ranges [start, end) of rows, in their order."""
    start, end = (
        slot_keys(*(rows[name].to_numpy() for name in ("series", "ordinal", slot))) for slot in ("first", "last")
    )
    return start, end + 1


def unite(one: tuple[Ints, Ints], other: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Sorted, disjoint union of ranges [start, end)."""
    start, end = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order]) if len(end) else end
    begins = np.flatnonzero(np.append([True], start[1:] > reach[:-1])[: len(start)])
    return start[begins], reach[np.append(begins[1:], [len(start)]) - 1] if len(start) else reach


def without_ranges(rows: pl.DataFrame, closed: tuple[Ints, Ints]) -> pl.DataFrame:
    """Disjoint rows without the slots of sorted, disjoint ranges: cut into the parts that are left."""
    if not len(closed[0]) or rows.is_empty():
        return rows
    begin, end = ranges_of(rows)
    gap, offset, slots = cut_points(begin, end - begin, *closed)
    is_left = range_of_parts(begin[gap] + offset, *closed) < 0
    gap, offset, slots = gap[is_left], offset[is_left], slots[is_left]
    first = rows["first"].to_numpy()[gap] + offset
    return rows[gap].with_columns(pl.Series("first", first, pl.Int32), pl.Series("last", first + slots - 1, pl.Int32))
