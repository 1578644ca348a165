"""Sorted look-up by keys of several columns: packed into one integer, or column by column. Pure: arrays in, arrays out.

A packed key sorts as its columns do, so one binary search finds a row:

1. `pack_pair` (two columns of 32 bits) and `pack` (any columns of known size) make keys; `unpack_pair` and `unpack`
   undo it.
2. `find_keys` looks packed keys up in a sorted array, `find_tuples` keys that stay in several columns.
3. `searchsorted_within` searches many sorted ranges of one array at once; `number_ranges` and `expand_ranges` list the
   members of ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Integers = NDArray[np.integer[Any]]

PAIR_BITS = 32


def column_values(rows: pl.DataFrame, name: str) -> Ints:
    """A column without nulls as integers: dates as days and instants as their unit, since 1970."""
    values = rows.get_column(name)
    return (values.cast(pl.Int64) if values.dtype.is_temporal() else values).to_numpy()


def pack_pair(first: Integers, second: Integers | int) -> Ints:
    """One integer per pair, in the order of the pairs; both are signed numbers of 32 bits."""
    return np.asarray((first.astype(np.int64) << PAIR_BITS) + second)


def pack_columns(rows: pl.DataFrame, first: str, second: str) -> Ints:
    """`pack_pair` of two columns of a frame."""
    return pack_pair(column_values(rows, first), column_values(rows, second))


def unpack_pair(keys: Ints) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The pairs of numbers of 32 bits from the keys of `pack_pair`."""
    # Signed: a negative second number borrowed from the first.
    second = (keys & ((1 << PAIR_BITS) - 1)).astype(np.uint32).view(np.int32)
    return ((keys - second) >> PAIR_BITS).astype(np.int32), second


def pack(columns: Sequence[Integers], sizes: Sequence[int]) -> Ints:
    """One integer per row, in the order of the columns; `sizes` bound those after the first: each in `[0, size)`."""
    keys = columns[0].astype(np.int64)
    for values, size in zip(columns[1:], sizes, strict=True):
        keys *= size
        keys += values
    return keys


def unpack(keys: Ints, sizes: Sequence[int]) -> tuple[Ints, ...]:
    """The columns from the keys of `pack`; the sizes are those that `pack` took."""
    columns: list[Ints] = []
    for size in reversed(sizes):
        keys, values = np.divmod(keys, size)
        columns.append(values)
    return (keys, *reversed(columns))


def find_keys(keys: Ints, targets: Integers) -> tuple[Ints, Flags]:
    """Index of each target in sorted, distinct keys, and whether it is there.

    The index of a target that is not there is any valid one; 0 where there are no keys.
    """
    if not len(keys):
        return np.zeros(len(targets), np.int64), np.zeros(len(targets), bool)
    at = np.minimum(np.searchsorted(keys, targets), len(keys) - 1)
    return at, keys[at] == targets


def find_tuples(columns: Sequence[Ints], targets: Sequence[Ints]) -> tuple[Ints, Flags]:
    """Index of each target in rows sorted by several columns, and whether it is there (if not, where it would be)."""
    low = np.searchsorted(columns[0], targets[0], side="left")
    return find_tuples_within(columns[1:], targets[1:], low, np.searchsorted(columns[0], targets[0], side="right"))


def find_tuples_within(columns: Sequence[Ints], targets: Sequence[Ints], low: Ints, high: Ints) -> tuple[Ints, Flags]:
    """As `find_tuples`, each target in its own sorted range `[low, high)` of rows."""
    for values, target in zip(columns, targets, strict=True):
        low = searchsorted_within(values, target, low, high)
        high = searchsorted_within(values, target + 1, low, high)
    return low, high > low


def searchsorted_within(values: Ints, targets: Ints, low: Ints, high: Ints) -> Ints:
    """First index in each sorted range `[low, high)` whose value is not below its target; `high` if all are below."""
    low, high = low.copy(), high.copy()
    searching = np.flatnonzero(low < high)
    while len(searching):
        middle = (low[searching] + high[searching]) >> 1
        below = values[middle] < targets[searching]
        low[searching[below]] = middle[below] + 1
        high[searching[~below]] = middle[~below]
        searching = searching[low[searching] < high[searching]]
    return low


def number_ranges(counts: Ints) -> tuple[Ints, Ints]:
    """Members of ranges of these lengths, in order: the number of each member's range, and its own number in it."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def expand_ranges(starts: Ints, counts: Ints) -> Ints:
    """All integers of the ranges `[start, start + count)`, in order of the ranges."""
    return np.asarray(np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts))


def is_strictly_increasing(rows: pl.DataFrame, key: Sequence[str]) -> bool:
    """Whether each row's key (columns of integers, dates or instants) is greater than that of the row before."""
    ahead = np.zeros(max(rows.height - 1, 0), bool)
    for name in reversed(key):
        values = column_values(rows, name)
        after, before = values[1:], values[:-1]
        ahead = (after > before) | ((after == before) & ahead)
    return bool(ahead.all())
