"""Spikes, splits, stale runs, volume and vwap at odds: planted in simulated bars, and as vendor files have them."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.checks.calendar_check import PRESENCE, presence
from engine.checks.check import BarCheck, JudgeInput, registered
from engine.checks.filled import RATES, RUNS
from engine.checks.price_scale import JUMPS
from engine.checks.sanity import BAR_SANITY, bar_sanity, combine_sanity
from engine.checks.tick_grid import SAMPLED
from engine.quality.contiguous_runs import SlotRuns
from engine.schema import SEGMENTS, empty
from engine.simulation.sessions import Instrument
from polars.testing import assert_frame_equal

from tests.checks.feeds import Feed, market, stored

JUNE = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
PRICES = ("open", "high", "low", "close", "vwap")
MANY = tuple(Instrument(f"S{n}", trades_per_minute=60) for n in range(8))
BAR = 500  # of a series: in the second session, far from its edges


def said(feed: Feed) -> pl.DataFrame:
    return judged([bar_sanity(feed.rows, feed.series, feed.grid, feed.zone)], counted(feed))


def counted(feed: Feed) -> pl.DataFrame:
    return presence(SlotRuns.of(feed.rows), feed.grid, feed.zone)


def whole(parts: list[dict[str, pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    return combine_sanity({name: [part[name] for part in parts] for name in parts[0]})


def judged(parts: list[dict[str, pl.DataFrame]], present: pl.DataFrame) -> pl.DataFrame:
    measured = JudgeInput(
        {
            **whole(parts),
            "presence": present,
            "scale": empty(JUMPS),
            "fill_runs": empty(RUNS),
            "fill_rates": empty(RATES),
            "sampled_prices": empty(SAMPLED),
        },
        empty(SEGMENTS),
        "UTC",
        "",
    )
    checks = [
        check
        for check in registered(BarCheck)
        if BAR_SANITY in check.reads
        and check.schema is None
        and check.name not in ("volume_scale", "basis", "foreign_session")
    ]
    assert {check.name for check in checks} == {"spike", "split", "stale", "repeated", "zero_volume", "vwap"}
    return pl.concat([check.judge(measured) for check in checks])


def changed(feed: Feed, test: pl.Expr, **columns: pl.Expr) -> Feed:
    new = [pl.when(test).then(value).otherwise(pl.col(name)).alias(name) for name, value in columns.items()]
    return feed._replace(rows=feed.rows.with_columns(new))


def nth(*numbers: int, series: int = 1) -> pl.Expr:
    return (pl.col("series") == series) & pl.int_range(pl.len()).over("series").is_in(list(numbers))


def times(factor: float, *names: str) -> dict[str, pl.Expr]:
    return {name: pl.col(name) * factor for name in names or PRICES}


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "24/7", "CME_INDEX"])
@pytest.mark.parametrize("interval", ["1m", "15m"])
def test_sanity_of_a_right_feed_says_nothing(code, interval) -> None:
    assert said(market(code, *JUNE, interval)).height == 0


@pytest.mark.parametrize(
    ("bars", "columns", "up"),
    [
        ((BAR,), times(1.05), True),
        ((BAR,), times(0.95), False),
        ((BAR,), times(0.96, "low"), False),
        ((BAR, BAR + 1), times(1.04), True),
    ],
    ids=["bar above", "bar below", "low alone", "two bars"],
)
def test_spike_that_reverts_is_found_with_its_place(bars, columns, up) -> None:
    clean = market("XNYS", *JUNE)
    feed = changed(clean, nth(*bars), **columns)
    (row,) = said(feed).iter_rows(named=True)
    assert (row["check_name"], row["symbol"], row["count"]) == ("spike", "LIQ", 1)
    assert row["start_ts"] == clean.rows.filter(pl.col("series") == 1)["ts"][BAR]
    assert (row["value"] > 0) == up
    assert abs(row["value"]) == pytest.approx(0.045, abs=0.012)


@pytest.mark.parametrize(
    ("columns", "severity"),
    [
        (times(1.02, "high"), "info"),  # opens and closes where the bars beside it are
        (times(1.06, "high"), "warning"),
        (times(1.02), "warning"),
        (times(1.02) | {"volume": pl.lit(0.0)}, "info"),
        (times(10.0) | {"volume": pl.lit(0.0)}, "warning"),
    ],
    ids=["print inside a bar", "print far off", "bar", "bar without volume", "bar far off without volume"],
)
def test_spike_within_a_bar_and_of_a_bar_without_volume_is_information(columns, severity) -> None:
    feed = changed(market("XNYS", *JUNE), nth(BAR), **columns)
    spike = said(feed).filter(pl.col("check_name") == "spike")
    assert spike["severity"].to_list() == [severity]


@pytest.mark.parametrize("volume", [0.0, None])
def test_spike_in_a_source_without_volumes_is_a_warning(volume) -> None:
    feed = changed(market("XNYS", *JUNE), nth(BAR), **times(1.02))
    rows = feed.rows.with_columns(pl.lit(volume, pl.Float64).alias("volume"))
    assert said(feed._replace(rows=rows)).select("check_name", "severity").rows() == [("spike", "warning")]


def test_move_that_stays_is_no_spike() -> None:
    after = (pl.col("series") == 1) & (pl.int_range(pl.len()).over("series") >= BAR)
    assert said(changed(market("XNYS", *JUNE), after, **times(1.05))).height == 0


def test_spike_that_most_of_the_market_shares_is_the_markets() -> None:
    feed = market("XNYS", *JUNE, "1m", MANY)
    instant = feed.rows.filter(pl.col("series") == 1)["ts"][BAR]
    all_but_one = (pl.col("ts") == instant) & (pl.col("series") > 1)
    assert said(changed(feed, all_but_one, **times(0.97))).height == 0
    alone = changed(feed, nth(BAR), **times(0.97))
    assert said(alone).select("symbol", "count").rows() == [("S0", 1)]


def test_spikes_at_many_bars_of_a_series_are_one_finding() -> None:
    feed = changed(market("XNYS", *JUNE), nth(*range(BAR, BAR + 200, 10)), **times(1.05))
    assert said(feed).select("check_name", "count").rows() == [("spike", 20)]


@pytest.mark.parametrize(("ratio", "shown"), [(0.5, "2:1"), (2 / 3, "3:2"), (10.0, "1:10")])
def test_split_is_told_from_a_spike_and_named_by_its_ratio(ratio, shown) -> None:
    later = (pl.col("series") == 1) & (pl.col("session") >= dt.date(2024, 6, 7))
    (row,) = said(changed(market("XNYS", *JUNE), later, **times(ratio))).iter_rows(named=True)
    assert (row["check_name"], row["session"]) == ("split", dt.date(2024, 6, 7))
    assert f"A {shown} split" in row["message"]


def test_split_between_two_parts_is_found_once_they_are_summed() -> None:
    later = pl.col("session") >= dt.date(2024, 6, 7)
    feed = changed(market("XNYS", *JUNE), later & (pl.col("series") == 1), **times(0.5))
    parts = [bar_sanity(feed.rows.filter(test), feed.series, feed.grid, feed.zone) for test in (~later, later)]
    none = empty(PRESENCE)
    assert all(judged([part], none).height == 0 for part in parts)
    together = judged(parts[::-1], none)
    assert together.select("check_name", "session").rows() == [("split", dt.date(2024, 6, 7))]


def test_summed_sanity_of_parts_by_symbol_equals_that_of_the_whole() -> None:
    feed = changed(market("XNYS", *JUNE), nth(BAR), **times(1.05))
    one = pl.col("series") == 1
    parts = [bar_sanity(feed.rows.filter(test), feed.series, feed.grid, feed.zone) for test in (one, ~one)]
    one_part = whole([bar_sanity(feed.rows, feed.series, feed.grid, feed.zone)])
    both = whole(parts)
    for name in ("counts", "moves", "spikes", "jumps"):
        assert_frame_equal(both[name], one_part[name], check_row_order=False)


def test_stale_run_with_volume_is_found_in_a_liquid_series() -> None:
    flat = nth(*range(BAR, BAR + 40))
    (row,) = said(changed(market("XNYS", *JUNE), flat, **dict.fromkeys(PRICES, pl.lit(100.25)))).iter_rows(named=True)
    assert (row["check_name"], row["symbol"], row["value"]) == ("stale", "LIQ", 39.0)
    assert "at 100.25" in row["message"]


def test_standing_price_of_a_series_that_often_stands_is_not_stale() -> None:
    feed = market("XNYS", *JUNE)
    often = (pl.col("series") == 1) & ((pl.int_range(pl.len()).over("series") // 20) % 2 == 0)
    assert (
        said(changed(feed, often, **dict.fromkeys(PRICES, pl.lit(100.25))))
        .filter(pl.col("check_name") == "stale")
        .height
        == 0
    )


def test_bar_that_is_repeated_in_every_cell_is_found() -> None:
    feed = market("XNYS", *JUNE)
    bar = feed.rows.filter(pl.col("series") == 1).row(BAR, named=True)
    copied = {name: pl.lit(bar[name]) for name in (*PRICES, "volume")}
    found = said(changed(feed, nth(*range(BAR, BAR + 6)), **copied))
    assert found.select("check_name", "count").rows() == [("repeated", 5)]
    assert "up to 5 in a row" in found["message"][0]


@pytest.mark.parametrize(("count", "severity"), [(1, "info"), (2, "warning")])
def test_single_repeats_here_and_there_are_information(count, severity) -> None:
    feed = market("XNYS", *JUNE)
    copied = {name: pl.col(name).shift(1).over("series") for name in (*PRICES, "volume")}
    for again in range(count):
        feed = changed(feed, nth(*(at + again for at in range(BAR, BAR + 600, 60))), **copied)
    assert said(feed).select("check_name", "severity").rows() == [("repeated", severity)]


def test_volume_of_zero_with_a_range_is_found_where_others_have_volume() -> None:
    feed = changed(market("XNYS", *JUNE), nth(*range(BAR, BAR + 5)), volume=pl.lit(0.0))
    assert said(feed).select("check_name", "severity", "count").rows() == [("zero_volume", "warning", 5)]
    apart = changed(market("XNYS", *JUNE), nth(*range(BAR, BAR + 50, 10)), volume=pl.lit(0.0))
    assert said(apart).select("check_name", "severity", "count").rows() == [("zero_volume", "info", 5)]
    index = feed._replace(rows=feed.rows.with_columns(pl.lit(0.0).alias("volume")))
    assert said(index).height == 0


def test_vwap_outside_of_its_bar_is_found() -> None:
    feed = changed(market("XNYS", *JUNE), nth(BAR, BAR + 9), vwap=pl.col("high") * 1.001)
    assert said(feed).select("check_name", "severity", "count").rows() == [("vwap", "info", 2)]


def test_sanity_of_prices_through_zero_says_nothing_of_ratios() -> None:
    feed = market("XNYS", *JUNE)
    shifted = feed._replace(rows=feed.rows.with_columns(pl.col(*PRICES) - 100))
    assert shifted.rows["low"].min() < 0 < shifted.rows["high"].max()
    later = (pl.col("series") == 1) & (pl.col("session") >= dt.date(2024, 6, 7))
    assert (
        said(changed(shifted, later, **times(-0.5))).filter(pl.col("check_name").is_in(["spike", "split"])).height == 0
    )


def test_sanity_of_daily_vendor_bars_names_real_splits_and_bad_prints(vendor) -> None:
    (feed,) = stored(vendor / "lean/equity/usa/daily", "XNYS")
    found = said(feed)
    splits = found.filter(pl.col("check_name") == "split").select("symbol", "session").rows()
    assert splits == [("BAC", dt.date(2004, 8, 30)), ("GOOG", dt.date(2014, 4, 3)), ("IBM", dt.date(1999, 5, 27))]
    google = found.filter((pl.col("check_name") == "spike") & (pl.col("symbol") == "GOOG"))
    assert "has 0.01 where the bars beside it reach 380.72" in google["message"][0]


def test_sanity_of_minutes_finds_the_bad_prints_of_spy(vendor) -> None:
    (feed,) = stored(sorted((vendor / "lean/equity/usa/minute/spy").glob("*_trade.zip")), "XNYS")
    found = bar_sanity(feed.rows, feed.series, feed.grid, feed.zone)["spikes"]
    bad = found.filter(pl.col("price") == 167.51, pl.col("session") == dt.date(2013, 10, 8)).head(2)
    assert bad["ts"].dt.strftime("%H:%M").to_list() == ["19:03", "19:36"]  # 15:03 and 15:36 New York
    assert bad["reverts_inside"].all()


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("equity/india/minute", "XBOM"),
        ("forex/oanda/minute", "FX"),
        ("index/ose/minute", "XTKS"),
        ("future/hkfe/hour", "XHKG"),
    ],
)
def test_sanity_of_vendor_files_that_are_right_says_nothing(folder, code, vendor) -> None:
    for feed in stored(vendor / "lean" / folder, code):
        assert said(feed).height == 0
