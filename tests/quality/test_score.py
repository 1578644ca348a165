"""Counts and shares per session, by hand: which rows count where, and which count nowhere."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.quality.score import QUALITY, period_coverage, quality_score, slot_coverage

MONDAY, TUESDAY, WEDNESDAY = (dt.date(2024, 1, day) for day in (1, 2, 3))
BEFORE_1970 = dt.date(1969, 12, 30)
COUNTS = ["duplicates", "corrections", "off_grid", "out_of_session", "backfilled", "zero_volume"]


def rows(found: list[tuple], *columns: str) -> pl.DataFrame:
    schema = {"series": pl.Int32, "session": pl.Date, **dict.fromkeys(columns, pl.Int64)}
    if "slot_coverage" in columns:
        schema["slot_coverage"] = pl.Float64
    return pl.DataFrame(found, schema=schema, orient="row")


NONE = rows([])
WANTED = rows([(1, MONDAY, 4), (1, TUESDAY, 3), (1, TUESDAY, 5), (2, MONDAY, 10)], "slots")


def test_quality_score_segments_of_a_session_are_one_row() -> None:
    gaps = rows([(1, TUESDAY, 2), (1, TUESDAY, 1), (2, MONDAY, 10)], "bar_count")
    scored = quality_score(WANTED, gaps, NONE)
    assert dict(scored.schema) == QUALITY
    assert scored.select("series", "session", "expected", "present", "missing", "quality").rows() == [
        (1, MONDAY, 4, 4, 0, 100.0),
        (1, TUESDAY, 8, 5, 3, 62.5),
        (2, MONDAY, 10, 0, 10, 0.0),
    ]
    assert scored.select(COUNTS).sum().row(0) == (0,) * 6
    assert scored["slot_coverage"].null_count() == 3


def test_quality_score_of_one_slot_is_all_or_nothing() -> None:
    scored = quality_score(rows([(1, MONDAY, 1), (1, TUESDAY, 1)], "slots"), rows([(1, MONDAY, 1)], "bar_count"), NONE)
    assert scored["quality"].to_list() == [0.0, 100.0]


@pytest.mark.parametrize("sessions", [[TUESDAY, TUESDAY], [TUESDAY, MONDAY], [MONDAY, MONDAY, TUESDAY, TUESDAY]])
def test_quality_score_lists_each_session_once_in_any_order(sessions: list[dt.date]) -> None:
    wanted = rows([(1, session, 2) for session in sessions], "slots")
    scored = quality_score(wanted, rows([], "bar_count"), NONE)
    once = sorted(set(sessions))
    assert scored["session"].to_list() == once
    assert scored["expected"].to_list() == [2 * sessions.count(session) for session in once]


def test_quality_score_counts_are_summed_per_session_and_nulls_count_nothing() -> None:
    counts = rows(
        [(1, MONDAY, 1, 2, None, 4, 5, 6), (1, MONDAY, 10, None, 30, 40, 50, 60), (2, MONDAY, 7, 7, 7, 7, 7, 7)],
        *COUNTS,
    )
    scored = quality_score(WANTED, rows([], "bar_count"), counts)
    assert scored.select("series", *COUNTS).rows() == [
        (1, 11, 2, 30, 44, 55, 66),
        (1, 0, 0, 0, 0, 0, 0),
        (2, 7, 7, 7, 7, 7, 7),
    ]


def test_quality_score_session_with_counts_alone_has_no_quality_and_stands_in_order() -> None:
    counts = rows([(2, TUESDAY, 1), (1, BEFORE_1970, 2)], "off_grid")
    scored = quality_score(WANTED, rows([], "bar_count"), counts)
    assert scored.select("series", "session", "expected", "off_grid", "quality").rows() == [
        (1, BEFORE_1970, 0, 2, None),
        (1, MONDAY, 4, 0, 100.0),
        (1, TUESDAY, 8, 0, 100.0),
        (2, MONDAY, 10, 0, 100.0),
        (2, TUESDAY, 0, 1, None),
    ]


def test_quality_score_gaps_and_coverage_of_sessions_that_are_not_there_count_nowhere() -> None:
    gaps = rows([(1, WEDNESDAY, 99), (0, MONDAY, 99), (3, MONDAY, 99), (1, MONDAY, 1)], "bar_count")
    found = [(0, MONDAY, 0.1), (1, BEFORE_1970, 0.2), (1, TUESDAY, 0.5), (1, WEDNESDAY, 0.3), (3, MONDAY, 0.4)]
    scored = quality_score(WANTED, gaps, NONE, rows(found, "slot_coverage"))
    assert scored.select("series", "session", "missing", "slot_coverage").rows() == [
        (1, MONDAY, 1, None),
        (1, TUESDAY, 0, 0.5),
        (2, MONDAY, 0, None),
    ]


@pytest.mark.parametrize("coverage", [None, rows([], "slot_coverage"), rows([(1, MONDAY, 1.0)], "slot_coverage")])
def test_quality_score_of_nothing_is_empty(coverage: pl.DataFrame | None) -> None:
    scored = quality_score(rows([], "slots"), rows([], "bar_count"), NONE, coverage)
    assert scored.height == 0
    assert dict(scored.schema) == QUALITY


def test_slot_coverage_is_the_share_of_slots_present_over_all_segments() -> None:
    gaps = rows([(1, TUESDAY, 2), (2, MONDAY, 10), (2, WEDNESDAY, 5)], "bar_count")
    assert slot_coverage(WANTED, gaps).rows() == [(1, MONDAY, 1.0), (1, TUESDAY, 0.75), (2, MONDAY, 0.0)]


def test_period_coverage_is_the_share_of_the_slots_of_the_period() -> None:
    wanted = pl.DataFrame(
        {"series": [1, 1, 2], "ordinal": [16, 32, 16], "session": [MONDAY, TUESDAY, MONDAY]},
        schema={"series": pl.Int32, "ordinal": pl.Int32, "session": pl.Date},
    )
    bars = pl.DataFrame(
        {"series": [1, 2, 3], "ordinal": [32, 16, 16], "n_base": [3, 8, 8]},
        schema={"series": pl.Int32, "ordinal": pl.Int32, "n_base": pl.Int32},
    )
    share = period_coverage(wanted, pl.Series([4, 4, 8], dtype=pl.Int32), bars)
    assert share.rows() == [(1, MONDAY, 0.0), (1, TUESDAY, 0.75), (2, MONDAY, 1.0)]
