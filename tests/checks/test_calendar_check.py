"""Rows outside sessions, slots and sessions that nobody has: planned in simulated feeds, and as vendor files have them."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.checks.calendar_check import (
    absent_sessions,
    absent_slots,
    combine_presence,
    combine_unscheduled_rows,
    presence,
    unscheduled,
    unscheduled_rows,
)
from engine.quality.contiguous_runs import SlotRuns
from polars.testing import assert_frame_equal

from tests.checks.feeds import Feed, axis, market, moved, stored

JUNE = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
CHRISTMAS = dt.date(2024, 12, 16), dt.date(2024, 12, 31)  # closes at 13:00 on the 24th


def held(feed: Feed) -> pl.DataFrame:
    return combine_presence([presence(SlotRuns.of(feed.rows), feed.grid, feed.zone)])


def outside(feed: Feed) -> pl.DataFrame:
    return unscheduled(
        combine_unscheduled_rows([unscheduled_rows(feed.rows, feed.series, feed.grid, feed.zone)]),
        feed.grid.spec.calendar,
    )


def without(feed: Feed, test: pl.Expr) -> Feed:
    return feed._replace(rows=feed.rows.filter(~test))


def clock(zone: str) -> pl.Expr:
    local = pl.col("ts").dt.convert_time_zone(zone)
    return local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute()


def added(feed: Feed, *stamps: dt.datetime) -> Feed:
    rows = (
        feed.rows.head(1).drop("ts").join(pl.DataFrame({"ts": list(stamps)}).cast(feed.rows.schema["ts"]), how="cross")
    )
    whole = pl.concat([feed.rows, rows.select(feed.rows.columns)])
    return moved(feed._replace(rows=whole), dt.timedelta(0))


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "CME_INDEX", "24/7", "FX"])
def test_calendar_right_feed_says_nothing(code) -> None:
    feed = market(code, *JUNE)
    counted = held(feed)
    assert outside(feed).height == 0
    assert absent_slots(counted, code, 1).height == 0
    assert absent_sessions(counted, feed.grid.segments, code).height == 0


def test_presence_of_parts_by_symbol_and_by_date_equals_that_of_the_whole() -> None:
    feed = market("XHKG", *JUNE)
    whole = held(feed)
    first = pl.col("series") == 1
    early = pl.col("session") < dt.date(2024, 6, 7)
    for test in (first, early):
        parts = [feed.rows.filter(test), feed.rows.filter(~test)]
        assert_frame_equal(
            combine_presence([presence(SlotRuns.of(part), feed.grid, feed.zone) for part in parts]), whole
        )
    assert whole.filter(pl.col("minute") >= 0)["present"].sum() == feed.rows.height
    counted = [unscheduled_rows(part, feed.series, feed.grid, feed.zone) for part in parts]
    assert_frame_equal(
        combine_unscheduled_rows(counted),
        combine_unscheduled_rows([unscheduled_rows(feed.rows, feed.series, feed.grid, feed.zone)]),
    )


def test_unscheduled_rows_of_a_session_that_lies_in_two_parts_are_of_one_session() -> None:
    stamps = [dt.datetime(2024, 6, 3, 20, minute, tzinfo=dt.UTC) for minute in (5, 6, 7, 8)]  # after the close
    feed = added(market("XNYS", *JUNE), *stamps)
    late = pl.col("ts") > stamps[1]
    parts = [feed.rows.filter(test) for test in (late, ~late)]
    counted = [unscheduled_rows(part, feed.series, feed.grid, feed.zone) for part in parts]
    cut = unscheduled(combine_unscheduled_rows(counted), "XNYS")
    assert "4 rows" in cut["message"][0]
    assert "in 1 session." in cut["message"][0]
    assert_frame_equal(cut, outside(feed))


def test_unscheduled_rows_are_told_by_where_they_lie() -> None:
    feed = added(
        market("XTKS", *JUNE),
        dt.datetime(2024, 6, 3, 2, 45, tzinfo=dt.UTC),  # 11:45 Tokyo: lunch
        dt.datetime(2024, 6, 4, 6, 10, tzinfo=dt.UTC),  # 15:10
        dt.datetime(2024, 6, 4, 6, 15, tzinfo=dt.UTC),
        dt.datetime(2024, 6, 5, 23, 50, tzinfo=dt.UTC),  # 08:50
        dt.datetime(2024, 6, 9, 3, 0, tzinfo=dt.UTC),  # Sunday noon
        dt.datetime(2024, 6, 4, 0, 30, 30, tzinfo=dt.UTC),  # inside, between two stamps
    )
    said = outside(feed).with_columns(pl.col("message").str.extract(r"lies? (.*) of XTKS").alias("place"))
    assert dict(said.select("place", "count").rows()) == {
        "off the grid": 1,
        "before the open": 1,
        "after the close": 2,
        "in a break": 1,
        "on days without a session": 1,
    }
    assert set(said["severity"]) == {"info"}


def test_unscheduled_rows_after_an_early_close_are_named_so() -> None:
    feed = added(market("XNYS", *CHRISTMAS), dt.datetime(2024, 12, 24, 18, 30, tzinfo=dt.UTC))
    (said,) = outside(feed).iter_rows(named=True)
    assert "after an early close" in said["message"]
    assert said["symbol"] == "LIQ"


def test_absent_slots_of_a_pause_that_the_calendar_lacks_are_one_run() -> None:
    minute = clock("America/New_York")
    feed = without(market("FX", *JUNE), minute.is_between(16 * 60 + 58, 17 * 60 + 2))
    (said,) = absent_slots(held(feed), "FX", 1).iter_rows(named=True)
    assert "16:58 to 17:03" in said["message"]
    assert 'pause = "16:58 to 17:03"' in said["remedy"]
    assert said["value"] == 1.0


def test_absent_slots_of_a_lunch_break_are_found_whatever_the_season() -> None:
    feed = without(
        market("XLON", dt.date(2024, 10, 21), dt.date(2024, 11, 8)), clock("Europe/London").is_between(720, 779)
    )
    (said,) = absent_slots(held(feed), "XLON", 1).iter_rows(named=True)
    assert "12:00 to 13:00" in said["message"]


def test_absent_slots_of_four_sessions_are_no_break() -> None:
    few = pl.col("session") < dt.date(2024, 6, 7)
    feed = without(market("XLON", *JUNE), few & clock("Europe/London").is_between(720, 779))
    assert absent_slots(held(feed), "XLON", 1).height == 0


def test_absent_sessions_between_the_first_and_the_last_are_listed() -> None:
    gone = [dt.date(2024, 6, 5), dt.date(2024, 6, 6)]
    feed = without(market("XNYS", *JUNE), pl.col("session").is_in(gone))
    (said,) = absent_sessions(held(feed), feed.grid.segments, "XNYS").iter_rows(named=True)
    assert said["severity"] == "warning"
    assert "2 of 10 sessions of XNYS: 2024-06-05, 2024-06-06." in said["message"]


def test_absent_sessions_of_a_sample_are_information() -> None:
    days = [dt.date(2024, 6, 3), dt.date(2024, 6, 14)]
    feed = without(market("XNYS", *JUNE), ~pl.col("session").is_in(days))
    assert absent_sessions(held(feed), feed.grid.segments, "XNYS")["severity"].to_list() == ["info"]


def test_presence_of_seconds_is_not_counted() -> None:
    assert presence(SlotRuns.of(market("XNYS", *JUNE).rows), axis("XNYS", *JUNE, "1s"), "America/New_York").height == 0


def test_presence_of_rows_that_are_all_outside_is_empty() -> None:
    feed = moved(market("XNYS", *JUNE), dt.timedelta(hours=10))
    assert feed.rows["slot"].null_count() == feed.rows.height
    assert presence(SlotRuns.of(feed.rows), feed.grid, feed.zone).height == 0


def test_unscheduled_futures_of_2013_trade_to_a_quarter_past(vendor) -> None:
    (feed,) = stored(sorted((vendor / "lean/future/comex/minute/gc").glob("*_trade.zip")), "CME_FX")
    said = outside(feed).filter(pl.col("symbol") == "GC.201312")
    (number,) = feed.series.filter(pl.col("symbol") == "GC.201312")["series"]
    local = feed.rows.filter(pl.col("series") == number)["ts"].dt.convert_time_zone("America/Chicago")
    after = ((local.dt.hour() == 16) & (local.dt.minute() < 15)).sum()
    assert said.select("severity", "count").rows() == [("warning", after)]
    assert "16:00 to 16:14 on the venue's clock" in said["evidence"][0]


def test_unscheduled_rows_of_vendor_files_are_counted(vendor) -> None:
    (nikkei,) = stored(vendor / "lean/index/ose/minute", "XTKS")
    assert outside(nikkei)["message"].str.extract(r"^(\d+ rows? .*lies?) ").str.replace(r" \(.*\)", "").to_list() == [
        "1 row lies",
        "2 rows lie",
        "1 row lies",
    ]
    assert outside(nikkei)["message"].str.contains("after the close|in a break|in closing auctions").all()
    (google,) = stored(vendor / "lean/equity/usa/minute/goog/20151224_trade.zip", "XNYS")
    said = outside(google)
    assert said.filter(pl.col("message").str.contains("after an early close"))["count"].to_list() == [15]
