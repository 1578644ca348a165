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
    """Column without nulls as numpy integers; dates as days, instants in their own unit, since 1970."""
    values = rows.get_column(name)
    return (values.cast(pl.Int64) if values.dtype.is_temporal() else values).to_numpy()


def pack_pair(first: Integers, second: Integers | int) -> Ints:
    """One int64 per pair, `first` in the high 32 bits, sorting as the pairs do; both signed 32-bit numbers."""
    return np.asarray((first.astype(np.int64) << PAIR_BITS) + second)


def pack_columns(rows: pl.DataFrame, first: str, second: str) -> Ints:
    """`pack_pair` keys of two columns (integers, dates) of a frame, `first` the leading one."""
    return pack_pair(column_values(rows, first), column_values(rows, second))


def unpack_pair(keys: Ints) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(first, second) int32 arrays of the keys of `pack_pair`."""
    # Signed: a negative second number borrowed from the first.
    second = (keys & ((1 << PAIR_BITS) - 1)).astype(np.uint32).view(np.int32)
    return ((keys - second) >> PAIR_BITS).astype(np.int32), second


def pack(columns: Sequence[Integers], sizes: Sequence[int]) -> Ints:
    """Pack rows to int64 keys that sort as they do; columns after the first must lie in [0, size), unchecked."""
    keys = columns[0].astype(np.int64)
    for values, size in zip(columns[1:], sizes, strict=True):
        keys *= size
        keys += values
    return keys


def unpack(keys: Ints, sizes: Sequence[int]) -> tuple[Ints, ...]:
    """Columns of the keys of `pack`, in its order; `sizes` as passed there."""
    columns: list[Ints] = []
    for size in reversed(sizes):
        keys, values = np.divmod(keys, size)
        columns.append(values)
    return (keys, *reversed(columns))


def find_keys(keys: Ints, targets: Integers) -> tuple[Ints, Flags]:
    """(index, mask whether present) of each target in sorted distinct keys; absent: any valid index, 0 if no keys.

    The index of a target that is not there is any valid one; 0 where there are no keys.
    """
    if not len(keys):
        return np.zeros(len(targets), np.int64), np.zeros(len(targets), bool)
    at = np.minimum(np.searchsorted(keys, targets), len(keys) - 1)
    return at, keys[at] == targets


def find_tuples(columns: Sequence[Ints], targets: Sequence[Ints]) -> tuple[Ints, Flags]:
    """(index, mask whether present) of each target row in rows sorted by all columns; absent: the insertion point."""
    low = np.searchsorted(columns[0], targets[0], side="left")
    return find_tuples_within(columns[1:], targets[1:], low, np.searchsorted(columns[0], targets[0], side="right"))


def find_tuples_within(columns: Sequence[Ints], targets: Sequence[Ints], low: Ints, high: Ints) -> tuple[Ints, Flags]:
    """(index, mask whether present) of each target in its own sorted rows [low, high); absent: insertion point."""
    for values, target in zip(columns, targets, strict=True):
        low = searchsorted_within(values, target, low, high)
        high = searchsorted_within(values, target + 1, low, high)
    return low, high > low


def searchsorted_within(values: Ints, targets: Ints, low: Ints, high: Ints) -> Ints:
    """Per target, first index in its sorted range [low, high) with value >= target; `high` if all are below."""
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
    """For every member of ranges of these lengths: (number of its range, its own number from 0 in it), in order."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def expand_ranges(starts: Ints, counts: Ints) -> Ints:
    """Concatenated integers of all ranges [start, start + count), in order of the ranges."""
    return np.asarray(np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts))


def distinct(values: Ints) -> Ints:
    """Return the distinct values, ascending; `np.unique` hashes them, which takes ten times as long."""
    ordered = np.sort(values)
    found: Ints = ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]
    return found


def is_strictly_increasing(rows: pl.DataFrame, key: Sequence[str]) -> bool:
    """Whether rows strictly increase by the key, its first column leading; equal keys: False; below 2 rows: True."""
    ahead = np.zeros(max(rows.height - 1, 0), bool)
    for name in reversed(key):
        values = column_values(rows, name)
        after, before = values[1:], values[:-1]
        ahead = (after > before) | ((after == before) & ahead)
    return bool(ahead.all())
