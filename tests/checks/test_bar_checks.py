"""All checks together: parts add up, a right feed is silent, and what a wrong stamp explains is said once."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.checks.bar_checks import capped, check_bars, combine, judge, measure
from engine.checks.findings import FINDINGS, findings
from engine.grid import SessionGrid
from polars.testing import assert_frame_equal

from tests.checks.feeds import Feed, market, moved, stored

JUNE = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
HOSTILE = ["<script>alert(1)</script>", "=cmd|' /C calc'!A0", "[/]" + "x" * 300 + "🙈"]


def said(feed: Feed) -> pl.DataFrame:
    return check_bars(feed.rows, feed.series, feed.grid, feed.zone)


def faulty() -> Feed:
    feed = market("XNYS", *JUNE)
    first = pl.col("series") == 1
    at = pl.int_range(pl.len()).over("series")
    spike = first & (at == 500)
    cut = first & (pl.col("session") == dt.date(2024, 6, 6)) & (pl.col("slot") >= 300)
    prices = [
        pl.when(spike).then(pl.col(n) * 1.06).otherwise(pl.col(n)).alias(n)
        for n in ("open", "high", "low", "close", "vwap")
    ]
    return feed._replace(rows=feed.rows.with_columns(prices).filter(~cut))


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "CME_INDEX", "24/7", "FX"])
@pytest.mark.parametrize("interval", ["1m", "5m", "1h"])
def test_check_bars_of_a_right_feed_says_nothing(code, interval) -> None:
    found = said(market(code, *JUNE, interval))
    assert found.height == 0
    assert dict(found.schema) == dict(FINDINGS)


@pytest.mark.parametrize("by", ["symbol", "date"])
def test_measure_in_parts_says_what_the_whole_says(by) -> None:
    feed = faulty()
    test = pl.col("series") == 2 if by == "symbol" else pl.col("session") < dt.date(2024, 6, 5)
    parts = [measure(feed.rows.filter(one), feed.series, feed.grid, feed.zone) for one in (~test, test)]
    told = judge(combine(parts), feed.grid.segments, feed.zone, "XNYS")
    whole = said(feed)
    assert whole["check_name"].to_list() == ["spike", "truncated"]
    same = ["check_name", "symbol", "session", "start_ts", "count", "fingerprint"]
    assert_frame_equal(told.select(same), whole.select(same))


def test_check_bars_of_shifted_stamps_says_so_once_per_series() -> None:
    found = said(moved(market("XNYS", *JUNE), dt.timedelta(hours=4)))
    assert found.select("check_name", "symbol").rows() == [("clock", "LIQ"), ("clock", "MIX"), ("clock", "THN")]


def test_check_bars_of_end_stamps_in_a_future_names_no_break() -> None:
    found = said(moved(market("CME_INDEX", *JUNE), dt.timedelta(minutes=1)))
    assert set(found["check_name"]) == {"stamp"}


def test_check_bars_without_a_row_says_nothing() -> None:
    feed = market("XNYS", *JUNE)
    assert said(feed._replace(rows=feed.rows.clear())).height == 0


def test_check_bars_keeps_hostile_names_as_they_are() -> None:
    feed = faulty()
    named = feed._replace(series=feed.series.with_columns(pl.Series("symbol", HOSTILE)))
    assert set(said(named)["symbol"]) == {HOSTILE[0]}


def test_check_bars_without_volume_or_vwap_works() -> None:
    feed = faulty()
    bare = feed._replace(rows=feed.rows.drop("volume", "vwap", "trades"))
    assert said(bare)["check_name"].to_list() == ["spike", "truncated"]


def test_check_bars_on_a_grid_with_seconds_works() -> None:
    feed = market("XNYS", dt.date(2024, 6, 3), dt.date(2024, 6, 4), "1s")
    assert isinstance(feed.grid, SessionGrid)
    assert set(said(feed)["check_name"]) <= {"spike"}


def test_check_bars_of_the_broker_dump_names_the_shift_first(vendor) -> None:
    (feed,) = stored(vendor / "mismartera/bars_dump_AAPL_2025-07-02.csv", "XNYS")
    assert said(feed).select("check_name", "severity", "value").rows() == [("clock", "error", 4.0)]


def test_capped_findings_of_a_series_keep_the_first_and_count_the_others() -> None:
    many = findings(
        pl.DataFrame(
            {
                "check_name": "split",
                "severity": "warning",
                "message": [f"no {n}" for n in range(30)],
                "symbol": ["A"] * 27 + ["B"] * 3,
                "count": 2,
            }
        )
    )
    told = capped(many, most=5)
    assert told["symbol"].to_list() == ["A"] * 5 + ["B"] * 3 + ["A"]
    assert told["message"][-1] == "22 more findings like the 5 before."
    assert told["count"].sum() == many["count"].sum()
    assert_frame_equal(capped(many, 20), many.head(20).vstack(many.tail(3)).vstack(capped(many, 20).tail(1)))
    assert_frame_equal(capped(many, None), many)
    assert_frame_equal(capped(many.head(5), most=5), many.head(5))


def test_measured_frames_kept_as_files_are_judged_alike(tmp_path) -> None:
    feed = faulty()
    part = measure(feed.rows, feed.series, feed.grid, feed.zone)
    for name, frame in part.items():
        frame.write_parquet(tmp_path / name)
    again = {name: pl.read_parquet(tmp_path / name) for name in part}
    told = judge(combine([again]), feed.grid.segments, feed.zone, "XNYS")
    assert_frame_equal(told, said(feed))
