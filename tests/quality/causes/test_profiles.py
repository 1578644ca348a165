"""What is kept of bars: against plain Python, and the law that parts joined are the whole."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from engine.interval import Interval
from engine.quality.causes.profiles import BarSummary, bin_width, covered_lengths, merge_summaries, summarize_bars
from hypothesis import given
from hypothesis import strategies as st

WIDTH = 4
Row = tuple[int, int, int, float, float, float | None]


def frame(rows: list[Row]) -> pl.DataFrame:
    schema = {
        "series": pl.Int32,
        "ordinal": pl.Int32,
        "slot": pl.Int32,
        "open": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Float64,
    }
    return pl.DataFrame(sorted(rows, key=lambda r: r[:3]), schema=schema, orient="row")


@st.composite
def bars(draw: st.DrawFn) -> list[Row]:
    places = draw(
        st.sets(
            st.tuples(st.integers(0, 3), st.sampled_from([160, 161, 176]), st.integers(0, 20)), min_size=1, max_size=60
        )
    )
    price = st.integers(1, 40).map(float)
    return [
        (*place, draw(price), draw(price), draw(st.none() | st.integers(0, 9).map(float))) for place in sorted(places)
    ]


def runs_by_hand(rows: list[Row]) -> list[list[Row]]:
    found: list[list[Row]] = []
    for row in sorted(rows, key=lambda r: r[:3]):
        if found and found[-1][-1][:2] == row[:2] and found[-1][-1][2] + 1 == row[2]:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def bin_of(slot: int) -> int:
    return 0 if slot == 0 else 1 + slot // WIDTH


@given(bars())
def test_trace_any_bars_equals_the_oracle(rows):
    made = summarize_bars(frame(rows), WIDTH)
    runs = runs_by_hand(rows)
    assert made.runs.rows() == [
        (r[0][0], r[0][1], r[0][2], r[-1][2], r[0][3], r[-1][4], r[0][5], r[-1][5]) for r in runs
    ]
    moves: dict[tuple[int, int, int], list[float]] = {}
    volume: dict[tuple[int, int, int], list[float]] = {}
    for run in runs:
        for before, row in zip([None, *run], run, strict=False):
            key = (row[0], row[1] % 16, bin_of(row[2]))
            volume.setdefault(key, []).append(row[5] or 0.0)
            moves.setdefault(key, [])
            if before is not None:
                moves[key].append(math.log(row[4] / before[4]) ** 2)
    profile = {row[:3]: row[3:] for row in made.profile.rows()}
    assert set(profile) == set(volume)
    for key, (count, total, moved, squares) in profile.items():
        assert (count, total, moved) == (len(volume[key]), pytest.approx(sum(volume[key])), len(moves[key]))
        assert squares == pytest.approx(sum(moves[key]))


@given(bars(), st.data())
def test_joined_traces_of_any_parts_have_the_runs_of_the_whole(rows, data):
    # Some rows lie in two parts.
    owners = [data.draw(st.sets(st.integers(0, 2), min_size=1, max_size=2)) for _ in rows]
    parts = [[row for row, owner in zip(rows, owners, strict=True) if part in owner] for part in range(3)]
    whole = summarize_bars(frame(rows), WIDTH).runs
    made = merge_summaries([summarize_bars(frame(part), WIDTH) for part in parts if part])
    assert made.runs.equals(whole)
    counted = sum(len(owner) for owner in owners)
    assert made.profile["bars"].sum() == counted


def test_trace_of_no_bars_is_empty_and_joins():
    made = merge_summaries(
        [summarize_bars(frame([]), WIDTH), summarize_bars(frame([(1, 160, 3, 1.0, 2.0, 5.0)]), WIDTH)]
    )
    assert isinstance(made, BarSummary)
    assert made.runs["first"].to_list() == [3]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=6), st.integers(0, 40), st.integers(0, 20))
def test_overlap_any_spans_counts_covered_slots(steps, first, length):
    spans, at = [], 0
    for gap, size in steps:
        spans.append((at + gap, at + gap + size))
        at += gap + size
    covered = {slot for start, end in spans for slot in range(start, end)}
    start, end = (np.array([span[side] for span in spans], np.int64) for side in (0, 1))
    counted = covered_lengths(start, end, np.array([first]), np.array([first + length]))
    assert counted.tolist() == [len(covered & set(range(first, first + length)))]


def test_bin_width_follows_the_interval():
    assert [bin_width(Interval.parse(text)) for text in ("1s", "1m", "15m", "1h", "1d")] == [1800, 30, 2, 1, 1]
