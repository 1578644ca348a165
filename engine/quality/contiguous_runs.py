"""Sorted rows without a look at each: where they change, and stretches of stamps that follow one another by one step.

Bars mostly come one step after the other, so a few strides stand for many rows: what is counted by the clock is counted of
strides, cut at the hours of the clock (`Strides.cut`), and no row is asked for its time. Pure: arrays in, arrays out.
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


def where(test: Callable[[slice, slice], Flags], pairs: int) -> Ints:
    """Numbers of the pairs of neighbours that pass a test, which is given slices of the rows before and of those after."""
    found = []
    for low in range(0, pairs, BLOCK):
        high = min(low + BLOCK, pairs)
        found.append(np.flatnonzero(test(slice(low, high), slice(low + 1, high + 1))) + low)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def begins(*columns: NDArray[Any]) -> Ints:
    """Rows that differ from the one before in any column, the first one included."""
    first = columns[0]
    if not len(first):
        return np.zeros(0, np.int64)

    def differ(before: slice, after: slice) -> Flags:
        test: Flags = first[after] != first[before]
        for column in columns[1:]:
            test |= column[after] != column[before]
        return test

    return np.concatenate([[0], where(differ, len(first) - 1) + 1])


def united(few: Ints, many: Ints) -> Ints:
    """All numbers of two sorted arrays, sorted; each once where each array has it once."""
    at = np.searchsorted(many, few)
    new = np.append(many, [-1])[at] != few
    return np.insert(many, at[new], few[new])


class SlotRuns(NamedTuple):
    """Rows in slots that follow one another in one segment.

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
        """Runs of `series, ordinal, slot` (Int32), sorted by series and place; those without a slot are left out."""
        placed = rows.filter(pl.col("slot").is_not_null()) if rows["slot"].null_count() else rows
        series, ordinal, slot = (placed[name].to_numpy() for name in ("series", "ordinal", "slot"))
        breaks = where(
            lambda a, b: (slot[b] - slot[a] != 1) | (ordinal[b] != ordinal[a]) | (series[b] != series[a]),
            max(placed.height - 1, 0),
        )
        row = np.append([0], breaks + 1)[: placed.height]
        size = np.diff(np.append(row, placed.height))
        return cls(placed, row, size, *(values[row].astype(np.int64) for values in (series, ordinal, slot)))


class Strides(NamedTuple):
    """Stretches of rows whose stamps follow one another by one step.

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
    def of(cls, ts: pl.Series, heads: Ints, step: int | None) -> Strides:
        """Strides of sorted rows.

        Parameters
        ----------
        ts : Series of Datetime[us, UTC]
        heads : array of int
            Rows at which a stride begins in any case: the first of each series.
        step : int, optional
            In microseconds; without one, each row is a stride of its own.
        """
        at = ts.cast(TS).cast(pl.Int64).to_numpy()
        if step is None:
            return cls(np.arange(len(at)), np.ones(len(at), np.int64), at, 1)
        breaks = where(lambda before, after: at[after] - at[before] != step, max(len(at) - 1, 0)) + 1
        row = united(heads, breaks)
        return cls(row, np.diff(np.append(row, len(at))), at[row], step)

    @property
    def last(self) -> Ints:
        """The last stamp of each."""
        return self.first + (self.size - 1) * self.step

    def cut(self, low: Ints, high: Ints, start: Callable[[Ints], Ints]) -> tuple[Strides, Ints]:
        """Cut strides where cells of time begin.

        Parameters
        ----------
        low, high : array of int
            Cells that the first and the last row of each stride are in.
        start : callable
            The instants at which cells begin.

        Returns
        -------
        Strides, array of int
            In the order of the rows; and the cell of each.
        """
        if not (high > low).any():
            return self, low
        owner, number = number_ranges(high - low + 1)
        cell = low[owner] + number
        begun = np.maximum(-((self.first[owner] - start(cell)) // self.step), 0)
        size = np.append(begun[1:], 0) - begun
        size[np.cumsum(high - low + 1) - 1] += self.size
        pieces = Strides(self.row[owner] + begun, size, self.first[owner] + begun * self.step, self.step)
        return pieces.where(size > 0), cell[size > 0]

    def where(self, kept: Flags) -> Strides:
        """Some of them."""
        if kept.all():
            return self
        return Strides(self.row[kept], self.size[kept], self.first[kept], self.step)
