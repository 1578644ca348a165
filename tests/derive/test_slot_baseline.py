"""A look-up of what is usual gives what a window over all sessions of a slot gives."""

from __future__ import annotations

import polars as pl
import pytest
from engine.derive.indicator_passes import indicators
from engine.derive.indicators import relative_volume
from engine.derive.slot_baseline import compare_to_baseline, slot_baseline
from polars.testing import assert_frame_equal

from tests.derive import walks

WANTED = [relative_volume(1), relative_volume(4)]


@pytest.mark.parametrize("keep", [0.85, 0.1])
def test_against_what_is_usual_equals_relative_volume_of_a_full_pass(keep: float) -> None:
    bars = walks.bars(keep=keep)
    full = indicators(bars, WANTED)
    some = 0
    for (session,), today in bars.group_by("session"):
        want = full.filter(pl.col("session") == session)
        got = compare_to_baseline(today, slot_baseline(bars, session, WANTED), WANTED)
        assert_frame_equal(got, want, rel_tol=1e-12, abs_tol=0)
        some += want["relative_volume_4"].count()
    assert some > 20


def test_usual_of_a_first_session_is_nothing() -> None:
    bars = walks.bars()
    first = bars.filter(pl.col("session") == pl.col("session").min())
    known = slot_baseline(bars, bars["session"].min(), WANTED)
    assert known.is_empty()
    assert compare_to_baseline(first, known, WANTED)["relative_volume_1"].null_count() == first.height


def test_usual_does_not_read_the_session_or_later_ones() -> None:
    bars = walks.bars()
    session = bars["session"].unique().sort()[6]
    later = pl.when(pl.col("session") >= session).then(pl.col("volume") * 99).otherwise(pl.col("volume"))
    poisoned = bars.with_columns(later.alias("volume"))
    keys = ["symbol", "price_type", "_position", "_slot"]
    assert_frame_equal(
        slot_baseline(poisoned, session, WANTED).sort(keys), slot_baseline(bars, session, WANTED).sort(keys)
    )
