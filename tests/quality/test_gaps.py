"""Gaps and quality against the reference, and the laws that tie them."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine import reference
from engine.grid import GridSpec, SessionGrid
from engine.quality.gaps import GAPS, expected_slots, find_gaps, missing_runs, slot_runs, with_positions
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


def places(rows: list[tuple[int, int, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(("series", "ordinal", "slot"), pl.Int32), orient="row")


@pytest.mark.parametrize(
    ("rows", "runs"),
    [
        ([], []),
        ([(1, 16, 0)], [(1, 16, 0, 0)]),
        ([(1, 16, 3), (1, 16, 4), (1, 16, 5)], [(1, 16, 3, 5)]),
        ([(1, 16, 3), (1, 16, 5)], [(1, 16, 3, 3), (1, 16, 5, 5)]),
        ([(1, 16, 3), (1, 17, 4)], [(1, 16, 3, 3), (1, 17, 4, 4)]),
        ([(1, 16, 3), (2, 16, 4), (2, 16, 5)], [(1, 16, 3, 3), (2, 16, 4, 5)]),
    ],
)
def test_slot_runs_are_of_one_series_and_segment_without_a_hole(rows: list[tuple], runs: list[tuple]) -> None:
    found = slot_runs(places(rows))
    assert found.rows() == runs
    assert dict(found.schema) == dict.fromkeys(("series", "ordinal", "first", "last"), pl.Int32)


def segments_expected(slots: list[tuple], *, low: list[int] | None = None) -> pl.DataFrame:
    schema = {"series": pl.Int32, "ordinal": pl.Int32, "session": pl.Date, "segment": pl.String, "slots": pl.Int32}
    frame = pl.DataFrame(slots, schema=schema, orient="row")
    return frame if low is None else frame.with_columns(pl.Series("low", low, pl.Int32))


TUESDAY = dt.date(2024, 1, 2)
TWO = segments_expected([(1, 16, TUESDAY, "RTH", 10), (1, 17, TUESDAY, "RTH", 5), (2, 16, TUESDAY, "RTH", 10)])


@pytest.mark.parametrize(
    ("rows", "low", "missing"),
    [
        ([], None, [(1, 16, 0, 10), (1, 17, 0, 5), (2, 16, 0, 10)]),
        ([(1, 16, s) for s in range(10)], None, [(1, 17, 0, 5), (2, 16, 0, 10)]),
        ([(1, 16, 2), (1, 16, 3), (1, 16, 7)], None,
         [(1, 16, 0, 2), (1, 16, 4, 3), (1, 16, 8, 2), (1, 17, 0, 5), (2, 16, 0, 10)]),
        ([(1, 17, 0), (1, 17, 4), (1, 17, 5), (1, 17, 9)], None, [(1, 16, 0, 10), (1, 17, 1, 3), (2, 16, 0, 10)]),
        ([(0, 16, 0), (1, 15, 0), (1, 18, 0), (3, 16, 0), (2, 16, 9)], None,
         [(1, 16, 0, 10), (1, 17, 0, 5), (2, 16, 0, 9)]),
        ([], [4, 5, 10], [(1, 16, 4, 6)]),
        ([(1, 16, 1), (1, 16, 5), (2, 16, 3)], [3, 4, 3], [(1, 16, 3, 2), (1, 16, 6, 4), (1, 17, 4, 1), (2, 16, 4, 6)]),
        ([(1, 16, s) for s in range(6)], [3, 5, 10], [(1, 16, 6, 4)]),
    ],
)  # fmt: skip
def test_missing_runs_are_expected_slots_between_present_ones(
    rows: list[tuple], low: list[int] | None, missing: list[tuple]
) -> None:
    expected = TWO if low is None else TWO.with_columns(pl.Series("low", low, pl.Int32))
    found = missing_runs(expected, slot_runs(places(rows)))
    assert found.select("series", "ordinal", "slot", "bar_count").rows() == missing


def test_with_positions_keeps_the_order_of_the_gaps() -> None:
    expected = segments_expected([(n, 16 + k, TUESDAY, "RTH", 10) for n in (1, 2) for k in range(4)])
    gaps = pl.DataFrame(
        [(2, 17, 3, 2), (1, 19, 0, 10), (1, 16, 0, 10), (1, 18, 0, 10), (1, 17, 0, 4), (2, 16, 8, 2), (2, 16, 0, 1), (1, 17, 5, 1)],
        schema={"series": pl.Int32, "ordinal": pl.Int32, "slot": pl.Int32, "bar_count": pl.Int32}, orient="row",
    ).with_columns(pl.lit(TUESDAY).alias("session"))  # fmt: skip
    found = with_positions(gaps, expected)
    assert found["position"].to_list() == [
        "inner", "trailing", "leading", "trailing", "leading", "trailing", "leading", "inner",
    ]  # fmt: skip
    assert found.drop("position").equals(gaps)
    again = with_positions(found, expected)
    assert again.equals(found)
    partial = gaps.filter(pl.col("bar_count") < 10)
    assert with_positions(partial, expected)["position"].to_list() == [
        "inner",
        "leading",
        "trailing",
        "leading",
        "inner",
    ]


def test_find_gaps_of_nothing_missing_is_empty_with_the_columns_of_gaps() -> None:
    segments = axis.days(TUESDAY, 1, [(570, 572)])
    grid = SessionGrid.build(axis.frame(segments), "1m", SPEC)
    _, gaps = scan({1: set(axis.starts(segments))}, {1: (TUESDAY, TUESDAY)}, grid)
    assert gaps.height == 0
    assert dict(gaps.schema) == GAPS
    _, gaps = scan({1: set()}, {1: (TUESDAY, TUESDAY)}, grid)
    assert dict(gaps.schema) == GAPS
    assert gaps.select("cause", "state", "retry_count", "last_retry", "next_retry").rows() == [
        (None, "open", 0, None, None)
    ]


@pytest.mark.parametrize(
    ("first", "last", "days"),
    [(0, 0, []), (1, 1, [2]), (1, 2, [2, 3]), (2, 9, [3, 4]), (0, 9, [2, 3, 4]), (4, 9, []), (3, 1, [])],
)
def test_expected_slots_are_of_the_trade_dates_of_the_lifetime(first: int, last: int, days: list[int]) -> None:
    segments = axis.days(TUESDAY, 3, [(570, 580), (600, 605)])
    grid = SessionGrid.build(axis.frame(segments), "1m", SPEC)
    start = dt.date(2024, 1, 1)
    lifetimes = pl.DataFrame(
        [(7, start + dt.timedelta(days=first), start + dt.timedelta(days=last))],
        schema={"series": pl.Int32, "first": pl.Date, "last": pl.Date}, orient="row",
    )  # fmt: skip
    found = expected_slots(lifetimes, grid)
    assert found.select("series", "session", "segment", "slots").rows() == [
        (7, dt.date(2024, 1, day), "RTH", slots) for day in days for slots in (10, 5)
    ]


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
