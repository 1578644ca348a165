"""The cheapest requests for lost slots: compared with every list that there could be, and the calls of vendors."""

from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import polars as pl
import pytest
from engine.audit.vendor_requests import cover_runs, plan_requests, slots_before
from engine.errors import ParameterError

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
STEP = 60_000_000


def segments(days: int = 1, minutes: int = 390) -> pl.DataFrame:
    opens = [OPEN + dt.timedelta(days=day) for day in range(days)]
    return pl.DataFrame(
        {"symbol": "AAA", "segment_open": opens, "segment_close": [at + minutes * MINUTE for at in opens]}
    )


def gaps(*holes: tuple[int, int], cause: str = "symbol_loss") -> pl.DataFrame:
    rows = [("AAA", "1m", OPEN + first * MINUTE, OPEN + last * MINUTE, cause) for first, last in holes]
    return pl.DataFrame(rows, schema=["symbol", "interval", "gap_start", "gap_end", "cause"], orient="row")


def minutes(planned: pl.DataFrame) -> list[tuple[int, int]]:
    return [tuple(int((at - OPEN) / MINUTE) for at in row) for row in planned.select("start", "end").iter_rows()]


def cheapest_by_trying(lost: list[int], rows_of: np.ndarray, cost: int, limit: int) -> tuple[int, int]:
    """(lowest sum, fewest requests of it) over every cut of the list of lost slots into neighbours."""
    best = (10**9, 10**9)
    for mask in itertools.product((0, 1), repeat=len(lost) - 1):
        groups, first = [], 0
        for at, is_cut in enumerate((*mask, 1), 1):
            if is_cut:
                groups.append((lost[first], lost[at - 1] + 1))
                first = at
        if all(end - start <= limit for start, end in groups):
            total = sum(cost + int(rows_of[end] - rows_of[start]) for start, end in groups)
            best = min(best, (total, len(groups)))
    return best


@pytest.mark.parametrize("seed", range(300))
def test_cover_runs_equals_the_best_of_all_lists(seed: int) -> None:
    random = np.random.default_rng(seed)
    clock = int(random.integers(6, 40))
    # Hours in which nothing is open cost no row, but count for the longest request.
    is_open = random.random(clock) < random.choice([1.0, 0.7])
    lost = [int(at) for at in np.flatnonzero(is_open & (random.random(clock) < random.choice([0.2, 0.5, 0.8])))][:11]
    if not lost:
        pytest.skip("nothing lost")
    rows_of = np.concatenate([[0], np.cumsum(is_open)]).astype(np.int64)
    cost, limit = int(random.integers(0, 9)), int(random.choice([1, 2, 3, 5, 8, 100]))
    runs = [at for at in lost if at - 1 not in lost]
    ends = [at + 1 for at in lost if at + 1 not in lost]
    starts_us, ends_us = np.array(runs, np.int64) * STEP, np.array(ends, np.int64) * STEP
    first, last = cover_runs(starts_us, ends_us, (rows_of[runs], rows_of[ends]), STEP, cost, limit * STEP)
    first, last = first // STEP, last // STEP
    assert all(any(begin <= at < end for begin, end in zip(first, last, strict=True)) for at in lost)
    assert (last - first <= limit).all()
    total = int(sum(cost + rows_of[end] - rows_of[begin] for begin, end in zip(first, last, strict=True)))
    assert (total, len(first)) == cheapest_by_trying(lost, rows_of, cost, limit)


def test_plan_joins_holes_with_no_more_rows_between_than_a_request_costs() -> None:
    holes = gaps((0, 5), (30, 31), (200, 210))
    assert minutes(plan_requests(holes, segments(), request_cost=25)) == [(0, 31), (200, 210)]
    assert minutes(plan_requests(holes, segments(), request_cost=24)) == [(0, 5), (30, 31), (200, 210)]


def test_plan_counts_no_rows_of_the_night_between_sessions() -> None:
    holes = gaps((385, 390), (1440, 1445))
    planned = plan_requests(holes, segments(2), request_cost=1)
    assert minutes(planned) == [(385, 1445)]
    assert planned.row(0)[4:6] == (10, 10)


def test_plan_cuts_at_the_limit_and_counts_lost_slots() -> None:
    planned = plan_requests(gaps((0, 250)), segments(), max_rows=100)
    assert minutes(planned) == [(0, 100), (100, 200), (200, 250)]
    assert planned["lost"].to_list() == [100, 100, 50]
    assert minutes(plan_requests(gaps((0, 250)), segments(), max_span=dt.timedelta(hours=3))) == [(0, 180), (180, 250)]


def test_plan_asks_for_lost_slots_alone() -> None:
    holes = pl.concat([gaps((0, 5)), gaps((50, 55), cause="no_trade"), gaps((90, 95), cause="unknown")])
    assert minutes(plan_requests(holes, segments(), request_cost=0)) == [(0, 5)]
    planned = plan_requests(holes, segments(), causes=("symbol_loss", "unknown"), request_cost=100)
    assert minutes(planned) == [(0, 95)]
    assert planned.row(0)[4:] == (95, 10, "symbol_loss,unknown")


def test_plan_of_nothing_is_an_empty_list() -> None:
    assert plan_requests(gaps((0, 5), cause="halt"), segments()).is_empty()


def test_plan_refuses_unknown_causes_and_limits_below_a_bar() -> None:
    with pytest.raises(ParameterError, match="'lost'; valid: feed_loss"):
        plan_requests(gaps((0, 5)), segments(), causes=("lost",))
    with pytest.raises(ParameterError, match="room for one bar"):
        plan_requests(gaps((0, 5)), segments(), max_span=dt.timedelta(seconds=30))


def test_slots_before_counts_short_last_slots() -> None:
    close = OPEN + dt.timedelta(minutes=7)
    one = pl.DataFrame({"segment_open": [OPEN], "segment_close": [close]})
    at = np.array([(OPEN + dt.timedelta(minutes=m)).timestamp() * 1e6 for m in (-1, 0, 5, 7, 60)], np.int64)
    assert slots_before(one, at, 5 * STEP).tolist() == [0, 0, 1, 2, 2]
