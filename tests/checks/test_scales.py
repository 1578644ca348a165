"""Prices and volumes in another unit, copied sessions: planted in simulated feeds, and told from what is right."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.checks.bar_checks import check_bars, combine, judge, measure

from tests.checks.feeds import Feed, market, placed

JUNE = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
PRICES = ("open", "high", "low", "close", "vwap")
KINDS = ("scale", "volume_scale", "copied_session", "split", "spike")


def said(feed: Feed) -> pl.DataFrame:
    found = check_bars(feed.rows, feed.series, feed.grid, feed.zone)
    return found.filter(pl.col("check_name").is_in(KINDS) & (pl.col("severity") != "info"))


def times(feed: Feed, where: pl.Expr, factor: float, names: tuple[str, ...] = PRICES) -> Feed:
    ours = (pl.col("series") == 1) & where
    return feed._replace(
        rows=feed.rows.with_columns(pl.when(ours).then(pl.col(n) * factor).otherwise(n).alias(n) for n in names)
    )


def nth(low: int, high: int) -> pl.Expr:
    return pl.int_range(pl.len()).over("series").is_between(low, high - 1)


def session(feed: Feed, number: int) -> dt.date:
    day: dt.date = feed.rows["session"].drop_nulls().unique().sort()[number]
    return day


@pytest.mark.parametrize("code", ["XNYS", "24/7", "CME_INDEX"])
@pytest.mark.parametrize("factor", [100.0, 0.01, 10.0, 0.001])
@pytest.mark.parametrize("bars", [3, 40, 700])
def test_scale_block_that_returns_is_one_finding_with_its_factor(code, factor, bars) -> None:
    found = said(times(market(code, *JUNE), nth(500, 500 + bars), factor))
    assert found.select("check_name", "value", "count").rows() == [("scale", factor, bars)]
    assert "no split" in found["remedy"][0]


@pytest.mark.parametrize("number", [0, 4, -1])
def test_scale_of_a_whole_session_is_no_split(number) -> None:
    feed = market("XNYS", *JUNE)
    found = said(times(feed, pl.col("session") == session(feed, number), 100.0))
    assert found["check_name"].to_list() == ["scale"]


@pytest.mark.parametrize("span", [(0, 1000), (3000, 100_000)])
def test_scale_that_does_not_return_is_that_of_the_side_with_fewer_bars(span) -> None:
    feed = market("XNYS", *JUNE)
    found = said(times(feed, nth(*span), 0.01))
    rows = feed.rows.filter(pl.col("series") == 1)
    assert found.select("check_name", "value", "start_ts", "session").rows() == [
        ("scale", 0.01, rows["ts"][span[0]], rows["session"][span[0]])
    ]


def test_first_sessions_in_another_unit_are_named_and_not_those_after_them() -> None:
    feed = market("XNYS", *JUNE)
    found = said(times(feed, pl.col("session") < session(feed, 2), 100.0))
    assert found.select("check_name", "value", "session", "end_ts").rows() == [
        ("scale", 100.0, session(feed, 0), feed.rows.filter(pl.col("session") == session(feed, 2))["ts"][0])
    ]


@pytest.mark.parametrize("ratio", [10, 100])
def test_split_with_its_volume_is_no_change_of_unit(ratio) -> None:
    feed = market("XNYS", *JUNE)
    since = pl.col("session") >= session(feed, 4)
    found = said(times(times(feed, since, 1 / ratio), since, float(ratio), ("volume",)))
    assert found["check_name"].to_list() == ["split"]


def test_scale_across_two_parts_is_found_once_they_are_summed() -> None:
    feed = market("XNYS", *JUNE)
    days = [session(feed, 3), session(feed, 6)]
    bad = times(feed, pl.col("session").is_between(*days, closed="left"), 100.0)
    cuts = [
        pl.col("session") < days[0],
        pl.col("session").is_between(*days, closed="left"),
        pl.col("session") >= days[1],
    ]
    parts = [measure(bad.rows.filter(cut), bad.series, bad.grid, bad.zone) for cut in cuts]
    found = judge(combine(parts), bad.grid.segments, bad.zone, "XNYS")
    kinds = found.filter(pl.col("check_name").is_in(["scale", "split"]))
    assert kinds.select("check_name", "value").rows() == [("scale", 100.0)]


@pytest.mark.parametrize("factor", [100.0, 0.01, 1000.0])
@pytest.mark.parametrize("span", [(4, 5), (0, 1), (3, 6), (8, 10)])
def test_volume_scale_of_whole_sessions_is_found_with_its_factor(factor, span) -> None:
    feed = market("XNYS", *JUNE)
    days = [session(feed, n) for n in range(*span)]
    found = said(times(feed, pl.col("session").is_in(days), factor, ("volume",)))
    assert found.select("check_name", "value", "count", "session").rows() == [
        ("volume_scale", factor, len(days), days[0])
    ]


def test_volume_of_a_busy_day_is_no_other_unit() -> None:
    feed = market("XNYS", *JUNE)
    busy = (pl.col("session") == session(feed, 4)) & (pl.col("volume") > pl.col("volume").quantile(0.3).over("series"))
    assert said(times(feed, busy, 40.0, ("volume",))).is_empty()


@pytest.mark.parametrize("late", [dt.timedelta(0), dt.timedelta(minutes=7)])
def test_copied_session_is_found_wherever_it_lies(late) -> None:
    feed = market("XNYS", *JUNE)
    source, target = session(feed, 2), session(feed, 6)
    ours = pl.col("series") == 1
    of = feed.rows.filter(ours & (pl.col("session") == source))
    short = of.filter(pl.col("ts") < of["ts"].max() - late) if late else of  # so that the moved copy ends in time
    copy = short.with_columns(pl.col("ts") + (target - source) + late)
    others = feed.rows.filter(~(ours & pl.col("session").is_in([source, target])))
    found = said(placed(pl.concat([others, short, copy]), feed.series, feed.grid, feed.zone))
    assert found.select("check_name", "session").rows() == [("copied_session", target)]


def test_copied_session_says_nothing_of_flat_days() -> None:
    feed = market("XNYS", *JUNE)
    flat = feed.rows.with_columns(pl.lit(10.0).alias(name) for name in ("open", "high", "low", "close"))
    assert "copied_session" not in said(feed._replace(rows=flat))["check_name"].to_list()


@pytest.mark.parametrize("code", ["XNYS", "24/7", "CME_INDEX"])
@pytest.mark.parametrize("edge", [0, -1])
@pytest.mark.parametrize("number", [0, 4, -1])
@pytest.mark.parametrize("factor", [10.0, 0.1, 3.0])
def test_spike_of_the_first_or_last_bar_of_a_session_is_found(code, edge, number, factor) -> None:
    feed = market(code, *JUNE)
    day = session(feed, number)
    ts = feed.rows.filter((pl.col("series") == 1) & (pl.col("session") == day))["ts"][edge]
    found = said(times(feed, pl.col("ts") == ts, factor))
    assert found.select("check_name", "start_ts").rows() == [("spike", ts)]


def test_split_is_found_although_the_first_pre_market_bar_has_the_old_price() -> None:
    feed = market("XNYS", *JUNE)
    day = session(feed, 4)
    split = times(feed, pl.col("session") >= day, 1 / 7)
    first = feed.rows.filter((pl.col("series") == 1) & (pl.col("session") == day)).head(1)
    early = first.with_columns(pl.col("ts") - dt.timedelta(hours=4))  # as AAPL on 2014-06-09
    assert said(placed(pl.concat([split.rows, early]), feed.series, feed.grid, feed.zone))["check_name"].to_list() == [
        "split"
    ]
