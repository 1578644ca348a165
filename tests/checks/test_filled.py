"""Filled bars: planted in simulated feeds; feeds whose source writes a bar for every quiet minute are right."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.checks.bar_checks import check_bars, combine, measure
from engine.checks.filled import filled_slots
from engine.runtime.auditor import run_audit
from engine.simulation.sessions import Instrument
from polars.testing import assert_frame_equal

from tests.checks.feeds import LIQUID, MIXED, THIN, Feed, market, moved, placed

JUNE = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
PRICES = ("open", "high", "low", "close")
SERIES_OF = {"LIQ": 1, "MIX": 2, "THN": 3}
RATES = (LIQUID, MIXED, THIN, *(Instrument(f"X{n}", trades_per_minute=n / 10) for n in (8, 15)))


def said(feed: Feed) -> pl.DataFrame:
    found = check_bars(feed.rows, feed.series, feed.grid, feed.zone)
    return found.filter(pl.col("check_name").is_in(["filled", "stale", "repeated"]))


def quiet_minutes_written(feed: Feed) -> Feed:
    """The feed of a source that writes a bar at the last price, without volume, for each minute without a trade."""
    slots = (
        feed.grid.table.filter("chosen")
        .select(pl.datetime_ranges("open", "close", "1m", closed="left").alias("ts"))
        .explode("ts")
    )
    every = feed.series.select("series").join(slots.with_columns(pl.col("ts").cast(feed.rows["ts"].dtype)), how="cross")
    whole = every.join(feed.rows.select("series", "ts", *PRICES, "volume"), on=["series", "ts"], how="left").sort(
        "series", "ts"
    )
    last = pl.col("close").forward_fill().over("series")
    whole = whole.with_columns(pl.coalesce(name, last).alias(name) for name in PRICES)
    return placed(whole.with_columns(pl.col("volume").fill_null(0.0)).drop_nulls(), feed.series, feed.grid, feed.zone)


def filled(feed: Feed, series: int, low: int, bars: int, *, volume: bool) -> Feed:
    """The feed with every slot of a span of one series at the close before."""
    ours = pl.col("series") == series
    own = feed.rows.filter(ours)
    start = own["ts"][low]
    inside = ours & pl.col("ts").is_between(start, start + dt.timedelta(minutes=bars), closed="left")
    whole = quiet_minutes_written(feed).rows.filter(inside)
    made = whole.with_columns(pl.lit(own["close"][low - 1]).alias(name) for name in PRICES)
    made = made.with_columns(pl.col("volume").clip(1.0) if volume else pl.lit(0.0).alias("volume"))
    names = ["series", "ts", *PRICES, "volume"]
    rows = pl.concat([feed.rows.filter(~inside).select(names), made.select(names)])
    return placed(rows, feed.series, feed.grid, feed.zone)


@pytest.mark.parametrize("code", ["XNYS", "24/7", "CME_INDEX", "XHKG"])
def test_feed_that_writes_every_quiet_minute_is_not_filled(code) -> None:
    feed = market(code, *JUNE, instruments=RATES)
    assert said(feed).is_empty()
    assert said(quiet_minutes_written(feed)).is_empty()


@pytest.mark.parametrize("code", ["XNYS", "24/7", "CME_INDEX"])
@pytest.mark.parametrize("symbol", ["LIQ", "MIX"])
@pytest.mark.parametrize(("bars", "low"), [(5, 700), (30, 700), (200, 401)])
@pytest.mark.parametrize("written", [False, True])
def test_filled_run_without_volume_is_found(code, symbol, bars, low, written) -> None:
    if (symbol, bars, written) == ("MIX", 5, True):
        pytest.skip("five quiet minutes of such a name are usual where they are written")
    feed = market(code, *JUNE)
    whole = filled(quiet_minutes_written(feed) if written else feed, SERIES_OF[symbol], low, bars, volume=False)
    found = said(whole)
    assert found.select("check_name", "symbol").rows() == [("filled", symbol)]
    assert found["value"][0] >= bars * 0.9


@pytest.mark.parametrize("code", ["XNYS", "CME_INDEX"])
def test_prices_carried_with_volume_are_filled_and_told_once(code) -> None:
    found = said(filled(market(code, *JUNE), 1, 700, 30, volume=True))
    assert found.select("check_name", "symbol", "value").rows() == [("filled", "LIQ", 30.0)]
    assert "with volume" in found["message"][0]


def test_prices_carried_with_volume_are_filled_though_the_same_hours_stood_in_other_sessions() -> None:
    feed = market("XNYS", *JUNE)
    bars = (feed.rows["series"] == 1).sum()
    hour = pl.int_range(pl.len()).over("series") % 390
    # The price stands for 6 of 16 minutes from 11:00 to 13:00, but not in the last session.
    early = (pl.col("series") == 1) & (pl.int_range(pl.len()).over("series") < bars - 390)
    stands = early & hour.is_between(90, 209) & (hour % 16 < 6)
    price = pl.when(stands).then(None).otherwise("close").forward_fill().over("series")
    rows = feed.rows.with_columns(price.alias("@")).with_columns(
        pl.when(stands).then("@").otherwise(name).alias(name) for name in PRICES
    )
    calm = placed(rows.drop("@"), feed.series, feed.grid, feed.zone)
    assert said(calm).is_empty()
    found = said(filled(calm, 1, bars - 390 + 120, 30, volume=True))
    assert found.select("check_name", "symbol", "value").rows() == [("filled", "LIQ", 30.0)]


def test_filled_runs_of_several_sessions_do_not_explain_each_other() -> None:
    feed = market("XNYS", *JUNE)
    for low in (700, 1200, 1300, 1800, 2500, 3000):
        feed = filled(feed, 1, low, 60, volume=False)
    found = said(feed)
    assert found.select("check_name", "count").rows() == [("filled", 360)]


@pytest.mark.parametrize("lengths", [(20, 10), (10, 60), (20, 10, 30), (40, 12, 20, 100)])
@pytest.mark.parametrize("code", ["XNYS", "24/7"])
def test_filled_runs_of_unlike_lengths_do_not_explain_each_other(code, lengths) -> None:
    feed = market(code, *JUNE)
    for number, bars in enumerate(lengths):
        feed = filled(feed, 1, 700 + 500 * number, bars, volume=False)
    assert said(feed).select("check_name", "count", "value").rows() == [("filled", sum(lengths), float(max(lengths)))]


def test_pre_market_bars_that_stand_do_not_make_a_standing_price_usual() -> None:
    feed = market("XNYS", *JUNE)
    opens = feed.grid.table.filter("chosen").select("open")
    early = (
        opens.with_columns(pl.int_ranges(1, 300).alias("before"))
        .explode("before")
        .select(
            pl.lit(1, pl.Int32).alias("series"),
            (pl.col("open") - pl.duration(minutes="before")).cast(feed.rows["ts"].dtype).alias("ts"),
        )
    )
    bars = early.with_columns(*(pl.lit(100.0).alias(name) for name in PRICES), pl.lit(100.0).alias("volume"))
    bad = filled(feed, 1, 700, 30, volume=True)
    rows = pl.concat([bad.rows.select("series", "ts", *PRICES, "volume"), bars])
    found = said(placed(rows, feed.series, feed.grid, feed.zone))
    assert found.select("check_name", "value").rows() == [("filled", 30.0)]


def test_thin_name_some_of_whose_quiet_minutes_are_written_is_not_filled() -> None:
    feed = market("XNYS", *JUNE)
    whole = quiet_minutes_written(feed).rows.select("series", "ts", *PRICES, "volume")
    some = whole.filter((pl.col("volume") > 0) | (pl.col("ts").dt.minute() % 5 == 0))
    source = placed(some, feed.series, feed.grid, feed.zone)
    assert said(filled(source, 3, 300, 5, volume=False)).is_empty()


def test_thin_name_without_other_bars_for_quiet_minutes_is_filled() -> None:
    found = said(filled(market("XNYS", *JUNE), 3, 300, 12, volume=False))
    assert found.select("check_name", "symbol").rows() == [("filled", "THN")]


def test_filled_run_with_absent_slots_between_is_one_run() -> None:
    feed = market("XNYS", *JUNE)
    bad = filled(feed, 1, 700, 40, volume=False).rows.select("series", "ts", *PRICES, "volume")
    span = bad.filter(pl.col("series") == 1)["ts"][700:740]
    kept = bad.filter(~((pl.col("series") == 1) & pl.col("ts").is_in(span[3::4].implode())))
    found = said(placed(kept, feed.series, feed.grid, feed.zone))
    assert found.select("check_name", "value").rows() == [("filled", 30.0)]


def test_filled_run_is_found_where_a_source_writes_some_quiet_minutes() -> None:
    feed = market("24/7", *JUNE)
    whole = quiet_minutes_written(feed).rows.select("series", "ts", *PRICES, "volume")
    some = whole.filter((pl.col("volume") > 0) | (pl.col("ts").dt.minute() % 3 == 0))
    source = placed(some, feed.series, feed.grid, feed.zone)
    assert said(source).is_empty()
    found = said(filled(source, 2, 700, 20, volume=False))
    assert found.select("check_name", "symbol").rows() == [("filled", "MIX")]


def test_slots_of_filled_runs_are_not_present_for_the_adjusted_quality() -> None:
    # A liquid source whose quiet minutes have no bar, 180 minutes of which were filled on one of its ten sessions.
    feed = filled(market("XNYS", *JUNE), 1, 1200, 180, volume=False)
    bars = feed.rows.filter(pl.col("series") == 1).select(pl.lit("LIQ").alias("symbol"), "ts", *PRICES, "volume")
    found = run_audit(bars, "XNYS", interval="1m")
    day = found.tables["quality"].filter(pl.col("filled") > 0)
    [made] = found.tables["findings"].filter(pl.col("check_name") == "filled").select("session", "count").rows()
    assert day.select("session", "filled").rows() == [made]
    assert made[1] == pytest.approx(180, abs=2)
    [row] = day.rows(named=True)
    assert row["quality"] == 100 * row["present"] / row["expected"]
    kept = row["present"] - made[1] + row["explained"]
    assert row["quality_adjusted"] == 100 * kept / (row["expected"] - row["excluded"])
    assert found.tables["series"]["filled"].to_list() == [made[1]]
    assert found.tables["series"]["quality_adjusted"][0] < 100 - 100 * 170 / 3900


def test_slots_of_misplaced_series_are_not_filled() -> None:
    feed = filled(market("XNYS", *JUNE), 1, 700, 30, volume=False)
    frames = combine([measure(feed.rows, feed.series, feed.grid, feed.zone)])
    named = feed.series.filter(pl.col("symbol") == "LIQ").select("symbol", "price_type", "interval")
    assert filled_slots(frames, named.clear())["filled"].sum() > 25
    assert filled_slots(frames, named).is_empty()


@pytest.mark.parametrize(
    ("by", "found"), [(dt.timedelta(minutes=1), ["filled", "stamp"]), (dt.timedelta(hours=4), ["clock"])]
)
def test_filled_bars_are_found_though_stamps_are_a_step_off_but_not_hours(by, found) -> None:
    feed = moved(filled(market("XNYS", *JUNE), 1, 700, 30, volume=False), by)
    said = check_bars(feed.rows, feed.series, feed.grid, feed.zone).filter(symbol="LIQ")
    assert said["check_name"].unique().sort().to_list() == found


@pytest.mark.parametrize(
    ("code", "zone"), [("24/7", "America/New_York"), ("24/7", "Asia/Kathmandu"), ("XNYS", "America/New_York")]
)
def test_counts_of_half_hours_are_those_of_the_rows_one_by_one(code, zone) -> None:
    # New York moves its clocks in both months; Kathmandu is three quarters of an hour off.
    feed = market(code, dt.date(2024, 3, 8), dt.date(2024, 3, 13))
    rows = feed.rows.sample(fraction=0.7, seed=3).sort("series", "ts")
    flat = pl.col("close").shift(1).over("series")
    rows = rows.with_columns(
        pl.when(pl.col("slot") % 3 == 0).then(flat.fill_null(pl.col("close"))).otherwise("close").alias("close")
    )
    rows = rows.with_columns(pl.col("close").alias("high"), pl.col("close").alias("low"), pl.col("close").alias("open"))
    counted = measure(rows, feed.series, feed.grid, zone)["fill_rates"]
    same = [pl.col(name) == pl.col(name).shift(1) for name in ("series", "ordinal")]
    quiet = pl.all_horizontal(*same, pl.col("close") == pl.col("close").shift(1)).fill_null(value=False)
    skipped = (
        pl.when(pl.all_horizontal(same)).then(pl.col("slot") - pl.col("slot").shift(1) - 1).otherwise(0).fill_null(0)
    )
    local = pl.col("ts").dt.convert_time_zone(zone)
    named = rows.with_columns(
        (local.dt.hour() * 2 + local.dt.minute() // 30).cast(pl.Int16).alias("half_hour"),
        quiet.alias("quiet"), skipped.cast(pl.Int64).alias("skipped"), (pl.col("volume") > 0).alias("traded"),
    ).join(feed.series, on="series")  # fmt: skip
    expected = named.group_by("symbol", "price_type", "interval", "half_hour").agg(
        pl.len().cast(pl.Int64).alias("bars"),
        pl.col("skipped").sum().alias("absent"),
        (pl.col("quiet") & ~pl.col("traded")).sum().cast(pl.Int64).alias("idle"),
        (pl.col("quiet") & pl.col("traded")).sum().cast(pl.Int64).alias("carried"),
    )
    key = ["symbol", "price_type", "interval", "half_hour"]
    assert_frame_equal(counted.select(expected.columns).sort(key), expected.sort(key))
    assert expected["carried"].sum() > 100
