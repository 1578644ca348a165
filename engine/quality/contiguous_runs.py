"""Runs of sorted rows: consecutive slots (`SlotRuns`), stamps one step apart (`ContiguousRuns`), equal values.

Most bars come one step after the bar before, so few runs stand for many rows: what is counted by time of day is counted
over runs that are cut at the hours of the clock (`ContiguousRuns.cut`), without a look at each row.
Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.keys import Flags, Ints, number_ranges
from engine.schema import TS

Floats = NDArray[np.float64]

BLOCK = 1 << 15  # rows looked at together, so that what is computed of them stays in the cache


def pairs_where(test: Callable[[slice, slice], Flags], pairs: int) -> Ints:
    """Index of the first row of each of `pairs` neighbour pairs (i, i+1) that `test(slice, slice)` passes, ascending.

    The test compares two slices of rows, `BLOCK` rows at a time.
    """
    passed = []
    for low in range(0, pairs, BLOCK):
        high = min(low + BLOCK, pairs)
        passed.append(np.flatnonzero(test(slice(low, high), slice(low + 1, high + 1))) + low)
    return np.concatenate(passed) if passed else np.zeros(0, np.int64)


def run_starts(*columns: NDArray[Any]) -> Ints:
    """Indices of row 0 and of each row that differs from the row before in any column; empty for no rows."""
    first = columns[0]
    if not len(first):
        return np.zeros(0, np.int64)

    def differ(before: slice, after: slice) -> Flags:
        """Mask of neighbour pairs that differ in any column."""
        test: Flags = first[after] != first[before]
        for column in columns[1:]:
            test |= column[after] != column[before]
        return test

    return np.concatenate([[0], pairs_where(differ, len(first) - 1) + 1])


def sorted_union(few: Ints, many: Ints) -> Ints:
    """Sorted union of two sorted arrays of distinct values (none negative); `few` is the shorter one."""
    at = np.searchsorted(many, few)
    new = np.append(many, [-1])[at] != few
    return np.insert(many, at[new], few[new])


class SlotRuns(NamedTuple):
    """Runs of rows whose slots follow one another in one segment of a series.

    Attributes
    ----------
    rows : DataFrame
        Those that have a slot.
    row, size : array of int
        The first row of each run, and how many there are.
    series, ordinal, slot : array of int
        Of the first row.
    """

    rows: pl.DataFrame
    row: Ints
    size: Ints
    series: Ints
    ordinal: Ints
    slot: Ints

    @classmethod
    def of(cls, rows: pl.DataFrame) -> SlotRuns:
        """Runs of slots that follow by 1 in a segment, of sorted rows; those without slot are dropped, not numbered."""
        placed = rows.filter(pl.col("slot").is_not_null()) if rows["slot"].null_count() else rows
        series, ordinal, slot = (placed[name].to_numpy() for name in ("series", "ordinal", "slot"))
        breaks = pairs_where(
            lambda a, b: (slot[b] - slot[a] != 1) | (ordinal[b] != ordinal[a]) | (series[b] != series[a]),
            max(placed.height - 1, 0),
        )
        row = np.append([0], breaks + 1)[: placed.height]
        size = np.diff(np.append(row, placed.height))
        return cls(placed, row, size, *(values[row].astype(np.int64) for values in (series, ordinal, slot)))


class ContiguousRuns(NamedTuple):
    """Runs of rows whose stamps follow one another by one step.

    Attributes
    ----------
    row, size : array of int
        The first row of each, and how many there are.
    first : array of int
        Its stamp, in microseconds.
    step : int
        In microseconds.
    """

    row: Ints
    size: Ints
    first: Ints
    step: int

    @classmethod
    def of(cls, ts: pl.Series, heads: Ints, step: int | None) -> ContiguousRuns:
        """Runs of sorted stamps exactly one `step` apart, also cut at `heads`; `step` None: a run per row.

        Parameters
        ----------
        ts : Series of Datetime[us, UTC]
        heads : array of int
            Rows at which a run begins in any case: the first of each series.
        step : int, optional
            In microseconds; without one, each row is a run of its own.
        """
        at = ts.cast(TS).cast(pl.Int64).to_numpy()
        if step is None:
            return cls(np.arange(len(at)), np.ones(len(at), np.int64), at, 1)
        breaks = pairs_where(lambda before, after: at[after] - at[before] != step, max(len(at) - 1, 0)) + 1
        row = sorted_union(heads, breaks)
        return cls(row, np.diff(np.append(row, len(at))), at[row], step)

    @property
    def last(self) -> Ints:
        """Stamp of the last row of each run: first + (size - 1) * step, in microseconds."""
        return self.first + (self.size - 1) * self.step

    def cut(self, low: Ints, high: Ints, start: Callable[[Ints], Ints]) -> tuple[ContiguousRuns, Ints]:
        """(Pieces, cell of each): run i, in cells low[i]..high[i], cut at the instant `start(cell)` of each.

        Parameters
        ----------
        low, high : array of int
            Cells that the first and the last row of each run are in.
        start : callable
            The instants at which cells begin.

        Returns
        -------
        ContiguousRuns, array of int
            In the order of the rows; and the cell of each.
        """
        if not (high > low).any():
            return self, low
        owner, number = number_ranges(high - low + 1)
        cell = low[owner] + number
        begun = np.maximum(-((self.first[owner] - start(cell)) // self.step), 0)
        size = np.append(begun[1:], 0) - begun
        size[np.cumsum(high - low + 1) - 1] += self.size
        pieces = ContiguousRuns(self.row[owner] + begun, size, self.first[owner] + begun * self.step, self.step)
        return pieces.filter(size > 0), cell[size > 0]

    def filter(self, selected: Flags) -> ContiguousRuns:
        """Runs for which the mask is true."""
        if selected.all():
            return self
        return ContiguousRuns(self.row[selected], self.size[selected], self.first[selected], self.step)
