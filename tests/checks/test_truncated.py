"""Sessions that are cut: planted in simulated feeds, and as vendor files have them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest
from engine.checks.sanity import bar_sanity
from engine.checks.truncated import lifetimes, truncated, truncations
from engine.quality.contiguous_runs import SlotRuns
from engine.simulation.sessions import Instrument

from tests.checks.feeds import LIQUID, THIN, Feed, market, stored

JUNE = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
DAY, LAST = dt.date(2024, 6, 6), dt.date(2024, 6, 14)
FIVE = tuple(Instrument(f"S{n}", trades_per_minute=60) for n in range(5))


def said(feed: Feed, coarse: pl.DataFrame | None = None) -> list[dict[str, Any]]:
    ends = bar_sanity(feed.rows, feed.series, feed.grid, feed.zone)["ends"]
    return truncated(truncations(SlotRuns.of(feed.rows), feed.series, feed.grid), lifetimes(ends), coarse).to_dicts()


def cut(
    feed: Feed, day: dt.date, last: dt.time | None = None, first: dt.time | None = None, series: int | None = 1
) -> Feed:
    """The feed without the rows of a day from an hour on, or up to one, on the venue's clock."""
    local = pl.col("ts").dt.convert_time_zone(feed.zone).dt.time()
    gone = local >= last if last else local < first
    ours = pl.lit(value=True) if series is None else pl.col("series") == series
    return feed._replace(rows=feed.rows.filter(~(ours & (pl.col("session") == day) & gone)))


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "24/7", "CME_INDEX", "FX"])
@pytest.mark.parametrize("interval", ["1m", "15m"])
def test_truncated_of_a_right_feed_says_nothing(code, interval) -> None:
    assert said(market(code, *JUNE, interval)) == []


@pytest.mark.parametrize("code", ["XNYS", "XHKG"])
def test_truncated_session_of_a_liquid_series_says_where_it_stops(code) -> None:
    (row,) = said(cut(market(code, *JUNE), DAY, last=dt.time(14)))
    assert (row["symbol"], row["severity"], row["session"]) == ("LIQ", "warning", DAY)
    assert row["value"] == 120
    assert f"Rows of {DAY} stop at" in row["message"]


def test_truncated_session_of_a_thin_series_cannot_be_told() -> None:
    thin = market("XNYS", *JUNE, "1m", (LIQUID, THIN))
    assert said(cut(thin, DAY, last=dt.time(15, 40), series=2)) == []


def test_late_beginning_is_told_from_an_early_end() -> None:
    (row,) = said(cut(market("XNYS", *JUNE), DAY, first=dt.time(11)))
    assert "begin only at" in row["message"]
    assert row["value"] == 90


def test_sessions_cut_alike_are_one_finding() -> None:
    feed = market("XNYS", *JUNE)
    for day in (4, 5, 6):
        feed = cut(feed, dt.date(2024, 6, day), last=dt.time(14))
    (row,) = said(feed)
    assert row["count"] == 3


def test_cut_at_the_end_of_the_data_is_information_unless_peers_go_on() -> None:
    (row,) = said(cut(market("XNYS", *JUNE, "1m", (LIQUID,)), LAST, last=dt.time(14)))
    assert row["severity"] == "info"
    assert "it is where the data of this series end" in row["evidence"]
    (row,) = said(cut(market("XNYS", *JUNE, "1m", FIVE), LAST, last=dt.time(14)))
    assert row["severity"] == "warning"
    assert "4 of 4 other symbols go on" in row["evidence"]


def test_cut_that_all_symbols_share_is_left_to_the_gaps() -> None:
    rows = said(cut(market("XNYS", *JUNE, "1m", FIVE), DAY, last=dt.time(14), series=None))
    assert len(rows) == 5
    assert {row["severity"] for row in rows} == {"info"}
    assert all("0 of 4 other symbols go on: an early close, or an outage" in row["evidence"] for row in rows)


def test_own_price_types_are_siblings_and_no_peers() -> None:
    feed = market("XNYS", *JUNE, "1m", FIVE)
    one = feed.series.with_columns(
        pl.lit("A").alias("symbol"), pl.Series("price_type", ["last", "bid", "ask", "mid", "x"])
    )
    (row,) = said(cut(feed._replace(series=one), DAY, last=dt.time(14)))
    assert "other symbols" not in row["evidence"]
    assert "of the same symbol has rows until" in row["evidence"]


@pytest.mark.parametrize(("share", "verb"), [(1.0, "agrees with the short data"), (1.7, "differs")])
def test_coarse_bars_of_the_session_tell_whether_they_were_made_from_it(share, verb) -> None:
    feed = cut(market("XNYS", *JUNE), DAY, last=dt.time(14))
    day = feed.rows.filter((pl.col("series") == 1) & (pl.col("session") == DAY))
    coarse = day.select(
        pl.lit("LIQ").alias("symbol"),
        pl.lit("last").alias("price_type"),
        pl.lit("1d").alias("interval"),
        "session",
        "ts",
        "high",
        "low",
        "close",
        pl.col("volume") * share,
    )
    (row,) = said(feed, coarse)
    assert f"the 1d bar {verb}" in row["evidence"]


def test_truncated_coinbase_trades_stop_while_quotes_go_on_and_the_daily_bar_is_as_short(vendor) -> None:
    crypto = vendor / "lean/crypto/coinbase"
    (feed,) = stored(crypto / "minute", "24/7")
    (daily,) = stored(crypto / "daily/btcusd_trade.zip", "24/7")
    (row,) = said(feed, daily.rows.join(daily.series, on="series"))
    assert (row["symbol"], row["price_type"], row["severity"], row["value"]) == ("BTCUSD", "last", "warning", 432.0)
    assert "stop at 2018-04-04 16:47" in row["message"]
    assert "of the same symbol has rows until 2018-04-04 23:58" in row["evidence"]
    assert "the 1d bar agrees with the short data" in row["evidence"]


def test_truncated_bybit_quotes_stop_at_noon(vendor) -> None:
    (feed,) = stored(vendor / "lean/crypto/bybit/minute", "24/7")
    rows = said(feed)
    assert {(row["price_type"], row["value"]) for row in rows} == {("bid", 719.0), ("ask", 719.0)}
    assert all("stop at 2022-12-13 12:00" in row["message"] for row in rows)


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("equity/usa/minute", "XNYS"),
        ("equity/usa/hour", "XNYS"),
        ("equity/india/minute", "XBOM"),
        ("index/ose/minute", "XTKS"),
    ],
)
def test_truncated_of_vendor_files_that_are_whole_says_nothing(folder, code, vendor) -> None:
    for feed in stored(vendor / "lean" / folder, code):
        assert said(feed) == []
