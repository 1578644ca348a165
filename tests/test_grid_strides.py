"""Stamps that follow each other by a step are placed by their ends: the law is that a few alone have the same places."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.grid import LEAST_ROWS_TO_STRIDE, GridSpec, SessionGrid
from engine.schema import TS
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

MINUTE = 60_000_000
AXES = {
    "XNYS": ("1m", GridSpec("XNYS")),
    "XHKG, a break at noon": ("1m", GridSpec("XHKG")),
    "XNYS, all segments": ("5m", GridSpec("XNYS", ("PRE", "RTH", "POST"))),
    "XNYS, hours by the clock": ("1h", GridSpec("XNYS", align="clock", zone="America/New_York")),
    "CME, over midnight": ("15m", GridSpec("CME_INDEX")),
}


@pytest.mark.parametrize("axis", AXES)
@settings(deadline=None, max_examples=25)
@given(
    strides=st.lists(
        st.tuples(st.integers(0, 8 * 1440), st.sampled_from([0, 0, 0, 1, 30_000_000]), st.integers(20, 700)),
        min_size=1,
        max_size=5,
    )
)
def test_place_stamps_in_strides_equals_a_few_alone(axis, strides):
    interval, spec = AXES[axis]
    segments = calendar(spec.calendar).segments_in_bounds(dt.date(2024, 10, 31), dt.date(2024, 11, 5))
    grid = SessionGrid.build(segments, interval, spec)
    begin = int(dt.datetime(2024, 10, 30, tzinfo=dt.UTC).timestamp()) * 1_000_000
    stamps = np.concatenate(
        [begin + at * MINUTE + off + np.arange(size) * grid.interval.step_us for at, off, size in strides]
    )
    ts = pl.Series("ts", np.tile(stamps, 1 + LEAST_ROWS_TO_STRIDE // len(stamps))).cast(TS)
    few = LEAST_ROWS_TO_STRIDE - 1
    alone = [grid.place(ts.slice(at, few)) for at in range(0, len(ts), few)]
    assert_frame_equal(grid.place(ts), pl.concat(alone))
