"""Packed keys and sorted look-up, against plain Python over tuples."""

from __future__ import annotations

import datetime as dt
import itertools
from bisect import bisect_left

import numpy as np
import polars as pl
import pytest
from engine.keys import (
    column_values,
    expand_ranges,
    find_keys,
    find_tuples,
    find_tuples_within,
    is_strictly_increasing,
    number_ranges,
    pack,
    pack_columns,
    pack_pair,
    searchsorted_within,
    unpack,
    unpack_pair,
)
from hypothesis import given
from hypothesis import strategies as st

INT32 = st.integers(-(2**31), 2**31 - 1)
SMALL = st.integers(-3, 3)
PAIRS = st.lists(st.tuples(st.integers(-(2**31) + 1, 2**31 - 1), INT32), max_size=30)
TRIPLES = st.lists(st.tuples(SMALL, SMALL, SMALL), max_size=30)
RANGES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=10)


def columns_of(rows: list[tuple[int, ...]], width: int) -> list[np.ndarray]:
    return [np.array([row[i] for row in rows], np.int64) for i in range(width)]


@given(PAIRS)
def test_pack_pair_sorts_as_pairs_and_unpacks(pairs: list[tuple[int, int]]) -> None:
    first, second = (column.astype(np.int32) for column in columns_of(pairs, 2))
    keys = pack_pair(first, second)
    assert [pairs[i] for i in np.argsort(keys, kind="stable")] == sorted(pairs)
    assert [column.tolist() for column in unpack_pair(keys)] == [first.tolist(), second.tolist()]
    assert {column.dtype for column in unpack_pair(keys)} == {np.dtype(np.int32)}


@given(st.lists(st.tuples(INT32, st.integers(0, 15), st.integers(0, 4095)), max_size=30))
def test_pack_sorts_as_columns_and_unpacks(rows: list[tuple[int, ...]]) -> None:
    columns = columns_of(rows, 3)
    keys = pack(columns, [16, 4096])
    assert [rows[i] for i in np.argsort(keys, kind="stable")] == sorted(rows)
    assert [column.tolist() for column in unpack(keys, [16, 4096])] == [column.tolist() for column in columns]


def test_pack_leaves_its_columns_as_they_are() -> None:
    first = np.array([1, 2])
    pack([first, np.array([3, 4])], [10])
    assert first.tolist() == [1, 2]


def test_pack_columns_takes_dates_before_1970() -> None:
    rows = pl.DataFrame(
        {"series": [0, 0, 1], "session": [dt.date(1969, 12, 31), dt.date(1970, 1, 2), dt.date(1900, 1, 1)]}
    )
    keys = pack_columns(rows, "series", "session")
    assert (np.diff(keys) > 0).all()
    assert [column.tolist() for column in unpack_pair(keys)] == [[0, 0, 1], [-1, 1, -25567]]


def test_column_values_of_instants_are_their_unit() -> None:
    rows = pl.DataFrame({"ts": [dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)]})
    assert column_values(rows, "ts").tolist() == [1_000_000]


@given(st.sets(SMALL), st.lists(st.integers(-5, 5)))
def test_find_keys_finds_those_that_are_there(keys: set[int], wanted: list[int]) -> None:
    ordered = sorted(keys)
    at, found = find_keys(np.array(ordered, np.int64), np.array(wanted, np.int64))
    assert found.tolist() == [one in keys for one in wanted]
    assert [ordered[i] for i in at[found]] == [one for one in wanted if one in keys]
    assert all(0 <= i < max(len(ordered), 1) for i in at)


@given(TRIPLES, TRIPLES)
def test_find_tuples_is_bisection_of_tuples(rows: list[tuple[int, ...]], wanted: list[tuple[int, ...]]) -> None:
    ordered = sorted(set(rows))
    at, found = find_tuples(columns_of(ordered, 3), columns_of(wanted, 3))
    assert found.tolist() == [one in ordered for one in wanted]
    assert [ordered[i] for i in at[found]] == [one for one in wanted if one in ordered]
    low, high = np.zeros(len(wanted), np.int64), np.full(len(wanted), len(ordered))
    within, found_within = find_tuples_within(columns_of(ordered, 3), columns_of(wanted, 3), low, high)
    assert found_within.tolist() == found.tolist()
    assert within.tolist() == [bisect_left(ordered, one) for one in wanted]


@given(RANGES, st.data())
def test_searchsorted_within_is_bisection_of_each_range(ranges: list[tuple[int, int]], data: st.DataObject) -> None:
    values = np.sort(np.array(data.draw(st.lists(SMALL, min_size=60, max_size=60))))
    low = np.array([start for start, _ in ranges], np.int64)
    high = np.array([start + count for start, count in ranges], np.int64)
    wanted = np.array([data.draw(st.integers(-4, 4)) for _ in ranges], np.int64)
    found = searchsorted_within(values, wanted, low, high)
    plain = values.tolist()
    assert found.tolist() == [
        bisect_left(plain, one, begin, end) for one, begin, end in zip(wanted, low, high, strict=True)
    ]


@given(RANGES)
def test_list_members_of_ranges_in_order(ranges: list[tuple[int, int]]) -> None:
    starts, counts = (np.array([part[i] for part in ranges], np.int64) for i in (0, 1))
    assert expand_ranges(starts, counts).tolist() == [start + i for start, count in ranges for i in range(count)]
    owner, number = number_ranges(counts)
    members = [(owner, i) for owner, (_, count) in enumerate(ranges) for i in range(count)]
    assert list(zip(owner.tolist(), number.tolist(), strict=True)) == members


@given(TRIPLES)
def test_is_strictly_increasing_compares_tuples(rows: list[tuple[int, ...]]) -> None:
    frame = pl.DataFrame(dict(zip("abc", columns_of(rows, 3), strict=True)))
    expected = all(before < after for before, after in itertools.pairwise(rows))
    assert is_strictly_increasing(frame, ("a", "b", "c")) == expected


@pytest.mark.parametrize("rows", [[], [(0, 0, 1)], [(0, 0, 1), (0, 0, 1)], [(0, 0, 1), (0, 1, 0), (1, -3, -3)]])
def test_is_strictly_increasing_of_few_rows(rows: list[tuple[int, ...]]) -> None:
    frame = pl.DataFrame(dict(zip("abc", columns_of(rows, 3), strict=True)))
    assert is_strictly_increasing(frame, "abc") == (rows == sorted(set(rows)))
