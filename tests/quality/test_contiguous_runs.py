"""Rows taken by the stride: as many of each kind as when each row is looked at, by an oracle in plain Python."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.checks.clock_profile import clock_profile
from engine.quality.contiguous_runs import BLOCK, ContiguousRuns, SlotRuns, pairs_where, run_starts, sorted_union
from hypothesis import given
from hypothesis import strategies as st

from tests.checks.feeds import Feed, axis, placed

AUTUMN = dt.date(2024, 10, 31), dt.date(2024, 11, 5)  # New York's clocks change on 3 November
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
NEAR = 6


def feed(code: str, interval: str, late: dt.timedelta, chance: float) -> Feed:
    """Two series with some of the bars of each session, stamped so much late; and some stamps between."""
    grid = axis(code, *AUTUMN, interval)
    rng = np.random.default_rng(7)
    step = dt.timedelta(microseconds=grid.interval.step_us)
    opens = grid.table.filter("chosen").select("open", "slots").rows()
    stamps = [open_ + late + n * step for open_, slots in opens for n in range(slots)]
    rows = [
        (series, ts, 100.0, float(rng.integers(1, 9)))
        for series in (1, 2)
        for ts in sorted([ts for ts in stamps if rng.random() < chance] + [stamps[9] + step / 3, stamps[40] + step / 4])
    ]
    names = ["series", "ts", "close", "volume"]
    series = pl.DataFrame({"series": pl.Series([1, 2], dtype=pl.Int32), "symbol": ["A", "B"], "price_type": "last", "interval": interval})  # fmt: skip
    schema = {"series": pl.Int32, "ts": pl.Datetime("us", "UTC"), "close": pl.Float64, "volume": pl.Float64}
    return placed(pl.DataFrame(rows, schema={n: schema[n] for n in names}, orient="row"), series, grid, calendar(code).zone)  # fmt: skip


def true_edges(spans: list[tuple[dt.datetime, dt.datetime]]) -> tuple[list[dt.datetime], list[dt.datetime]]:
    joined = {close for _, close in spans} & {open_ for open_, _ in spans}
    return [o for o, _ in spans if o not in joined], [c for _, c in spans if c not in joined]


def by_hand(feed: Feed) -> Counter[tuple[str, str, int, int]]:
    """Rows of each symbol, facet, offset and cell."""
    zone, found, seen = ZoneInfo(feed.zone), Counter(), set()
    step = dt.timedelta(microseconds=feed.grid.interval.step_us)
    opens, closes = true_edges(feed.grid.table.filter("chosen").select("open", "close").rows())
    names = dict(feed.series.select("series", "symbol").rows())
    for number, ts in feed.rows.select("series", "ts").iter_rows():
        offset = int(ts.astimezone(zone).utcoffset() / MINUTE)
        found[names[number], "week", offset, (ts.weekday() * 24 + ts.hour) * 4 + ts.minute // 15] += 1
        found[names[number], "minute", offset, ts.minute if ts.second == ts.microsecond == 0 else -1] += 1
        if step % MINUTE == dt.timedelta(0) and (ts.second or ts.microsecond):
            found[names[number], "second", offset, ts.second] += 1
        seen.add((names[number], "days", offset, (ts - EPOCH).days))
        for facet, edges in (("after_open", opens), ("after_close", closes)):
            before = [edge for edge in edges if edge <= ts + NEAR * step]
            if before and (ts - before[-1]) // step <= NEAR:
                found[names[number], facet, offset, (ts - before[-1]) // step] += 1
                seen.add((names[number], f"{facet[6:]}_edges", offset, before[-1]))
    found.update((symbol, facet, offset, 0) for symbol, facet, offset, _ in seen)
    return found


@pytest.mark.parametrize(
    ("late", "chance"), [(dt.timedelta(0), 0.98), (dt.timedelta(seconds=20), 0.4), (dt.timedelta(minutes=7), 0.9)]
)
@pytest.mark.parametrize(("code", "interval"), [
    ("XNYS", "1m"), ("24/7", "1m"), ("CME_INDEX", "5m"), ("XHKG", "7m"), ("XNYS", "90s"), ("XNYS", "15m"), ("24/7", "1h"), ("XNYS", "20s"),
])  # fmt: skip
def test_profile_of_strides_counts_each_row_where_it_lies(code, interval, late, chance) -> None:
    given_feed = feed(code, interval, late, chance)
    told = clock_profile(given_feed.rows, given_feed.series, given_feed.grid, given_feed.zone)
    key = ["symbol", "facet", "offset", "cell"]
    cells = told.group_by(key).agg(pl.col("rows").sum()).with_columns(pl.col("facet").cast(pl.String)).iter_rows()
    assert {tuple(cell[:4]): cell[4] for cell in cells} == dict(by_hand(given_feed))
    assert not told.select(*key, "season").is_duplicated().any()
    assert told.filter(pl.col("facet") == "week")["volume"].sum() == given_feed.rows["volume"].sum()


@given(st.lists(st.integers(0, 3), max_size=60), st.sampled_from([1, 2, 5]), st.integers(1, 7))
def test_cut_of_strides_leaves_every_row_in_the_cell_of_its_stamp(jumps, step, width) -> None:
    at = np.cumsum(np.array([3, *jumps], dtype=np.int64) * step)
    whole = ContiguousRuns.of(pl.Series(at).cast(pl.Datetime("us", "UTC")), np.array([0]), step)
    pieces, cell = whole.cut(whole.first // width, whole.last // width, lambda number: number * width)
    stamps = [int(first + n * step) for first, size in zip(pieces.first, pieces.size, strict=True) for n in range(size)]
    assert stamps == at.tolist()
    assert np.repeat(cell, pieces.size).tolist() == (at // width).tolist()
    assert pieces.row.tolist() == (np.cumsum(pieces.size) - pieces.size).tolist()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 9)), unique=True, max_size=60))
def test_runs_of_slots_hold_each_row_once_and_go_on_as_long_as_slots_do(places) -> None:
    rows = pl.DataFrame(sorted(places), schema=dict.fromkeys(("series", "ordinal", "slot"), pl.Int32), orient="row")
    runs = SlotRuns.of(rows)
    found = [
        (series, ordinal, slot + n)
        for series, ordinal, slot, size in zip(runs.series, runs.ordinal, runs.slot, runs.size, strict=True)
        for n in range(size)
    ]
    assert found == sorted(places)
    ends = list(zip(runs.series, runs.ordinal, runs.slot + runs.size, strict=True))
    assert not set(ends) & set(places)


def test_where_looks_at_pairs_that_two_blocks_share() -> None:
    values = np.zeros(2 * BLOCK + 5, np.int64)
    values[[BLOCK, BLOCK + 1, 2 * BLOCK]] = 1
    assert pairs_where(lambda a, b: values[b] > values[a], len(values) - 1).tolist() == [BLOCK - 1, 2 * BLOCK - 1]
    assert run_starts(values).tolist() == [0, BLOCK, BLOCK + 2, 2 * BLOCK, 2 * BLOCK + 1]
    assert run_starts(values[:0]).tolist() == []


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_united_is_all_numbers_once(few, many) -> None:
    both = (np.array(sorted(numbers), dtype=np.int64) for numbers in (few, many))
    assert sorted_union(*both).tolist() == sorted(few | many)
