"""Gaps and quality against the reference, and the laws that tie them."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine import reference
from engine.grid import GridSpec, SessionGrid
from engine.quality.gaps import expected_slots, find_gaps, slot_runs
from engine.quality.score import quality_score
from engine.reference import MINUTE
from hypothesis import given
from hypothesis import strategies as st

from tests import axis

SPEC = GridSpec("TEST")


def scan(
    stamps: dict[int, set[int]],
    spans: dict[int, reference.Dates],
    grid: SessionGrid,
    as_of: dt.datetime | None = None,
):
    rows = [(n, t) for n, ts in stamps.items() for t in sorted(ts)]
    frame = pl.DataFrame(rows, schema={"series": pl.Int32, "ts": pl.Int64}, orient="row")
    placed = frame.select("series").with_columns(
        grid.place(frame["ts"].cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    )
    lifetime = {"series": pl.Int32, "first": pl.Date, "last": pl.Date}
    alive = pl.DataFrame([(n, *dates) for n, dates in spans.items()], schema=lifetime, orient="row")
    wanted = expected_slots(alive, grid, as_of)
    return wanted, find_gaps(wanted, slot_runs(placed.filter(pl.col("slot").is_not_null())), grid)


@given(st.data())
def test_find_gaps_any_holes_equals_the_reference(data: st.DataObject) -> None:
    segments = data.draw(axis.venues())
    step = data.draw(st.sampled_from([1, 5, 7])) * MINUTE
    everywhere = axis.starts(segments, step)
    grid = SessionGrid.build(axis.frame(segments), f"{step // MINUTE}m", SPEC)
    stamps, spans = {}, {}
    for n in range(1, data.draw(st.integers(1, 3)) + 1):
        stamps[n] = data.draw(st.sets(st.sampled_from(everywhere))) | data.draw(
            st.sets(st.integers(segments[0].open, segments[-1].close).map(lambda t: t * 2 + 1), max_size=3)
        )
        ends = sorted(data.draw(st.lists(st.sampled_from(segments), min_size=2, max_size=2)), key=lambda s: s.session)
        spans[n] = (ends[0].session, ends[1].session)
    wanted, gaps = scan(stamps, spans, grid)
    table = gaps.with_columns(pl.col("gap_start", "gap_end").dt.timestamp("us"))
    for n, held in stamps.items():
        want = reference.gaps(reference.Grid(tuple(segments)), held, step, spans[n])
        columns = ["session", "gap_start", "gap_end", "bar_count", "position"]
        have = table.filter(pl.col("series") == n).select(columns).rows()
        assert have == want
    quality = quality_score(wanted, gaps, pl.DataFrame(schema={"series": pl.Int32, "session": pl.Date}))
    assert quality["missing"].sum() == gaps["bar_count"].sum()
    for n, held in stamps.items():
        on = axis.starts([s for s in segments if spans[n][0] <= s.session <= spans[n][1]], step)
        mine = quality.filter(pl.col("series") == n)
        assert mine["expected"].sum() == len(on)
        assert mine["present"].sum() == len(set(on) & held)


@pytest.mark.parametrize(
    ("minutes", "due"),
    [(0, 0), (1, 1), (4, 4), (10, 10), (11, 10), (-5, 0)],
)
def test_expected_with_an_as_of_time_counts_slots_that_are_over(minutes: int, due: int) -> None:
    segments = axis.days(dt.date(2024, 1, 2), 1, [(570, 580)])
    grid = SessionGrid.build(axis.frame(segments), "1m", SPEC)
    now = dt.datetime(2024, 1, 2, 9, 30, tzinfo=dt.UTC) + dt.timedelta(minutes=minutes)
    wanted, gaps = scan({1: {segments[0].open}}, {1: (segments[0].session, segments[0].session)}, grid, now)
    assert wanted["slots"].sum() == due
    assert gaps["bar_count"].sum() == max(due - 1, 0)


def test_find_gaps_half_a_slot_before_its_end_is_not_due() -> None:
    segments = axis.days(dt.date(2024, 1, 2), 1, [(570, 590)])
    grid = SessionGrid.build(axis.frame(segments), "7m", SPEC)
    wanted, _ = scan(
        {1: set()}, {1: (segments[0].session,) * 2}, grid, dt.datetime(2024, 1, 2, 9, 43, 59, tzinfo=dt.UTC)
    )
    assert wanted["slots"].to_list() == [1]
    wanted, _ = scan({1: set()}, {1: (segments[0].session,) * 2}, grid, dt.datetime(2024, 1, 2, 9, 50, tzinfo=dt.UTC))
    assert wanted["slots"].to_list() == [3]


def test_score_session_without_expectation_has_null_quality() -> None:
    segments = axis.days(dt.date(2024, 1, 2), 1, [(570, 580)])
    grid = SessionGrid.build(axis.frame(segments), "1m", SPEC)
    wanted, gaps = scan({1: {segments[0].open}}, {1: (segments[0].session,) * 2}, grid)
    strays = pl.DataFrame({"series": [1], "session": [dt.date(2024, 1, 3)], "out_of_session": [4]}).cast(
        {"series": pl.Int32}
    )
    quality = quality_score(wanted, gaps, strays)
    assert quality.select("expected", "out_of_session", "quality").rows() == [(10, 0, 10.0), (0, 4, None)]
