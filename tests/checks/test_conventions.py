"""What a clock profile says about stamps: on simulated feeds whose faults are known, and on vendor files."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.checks.clock_fit import session_masks
from engine.checks.clock_profile import PROFILE, combine_profiles
from engine.checks.conventions import OtherCalendars, conventions
from polars.testing import assert_frame_equal

from tests.checks.feeds import LIQUID, MIXED, THIN, Feed, axis, market, moved, profile, stored
from tests.vendor.files import CALENDARS

AUTUMN = dt.date(2024, 10, 21), dt.date(2024, 11, 15)  # New York's clocks change on 3 November
SUMMER = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
JUNE = SUMMER[0], dt.date(2024, 6, 28)  # a hundred hourly bars
EUREX = str(CALENDARS.parents[1] / "calendars" / "eurex_index.toml")


def said(feed: Feed, **others: pl.DataFrame) -> pl.DataFrame:
    return conventions(profile(feed), feed.grid.segments, feed.zone, OtherCalendars(others))


def local(zone: str) -> pl.Expr:
    """Stamps as a vendor writes them in a zone, taken for UTC."""
    return pl.col("ts").dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.replace_time_zone("UTC")


def read_in(zone: str) -> pl.Expr:
    """Stamps of UTC, read as times of a zone."""
    naive = pl.col("ts").dt.replace_time_zone(None)
    return naive.dt.replace_time_zone(zone, ambiguous="earliest").dt.convert_time_zone("UTC")


@pytest.mark.parametrize(
    ("code", "span"),
    [
        ("XNYS", AUTUMN),
        ("XHKG", SUMMER),
        ("XTKS", SUMMER),
        ("XLON", AUTUMN),
        ("24/7", SUMMER),
        ("FX", AUTUMN),
        ("CME_INDEX", AUTUMN),
        ("XBOM", SUMMER),
    ],
)
@pytest.mark.parametrize("interval", ["1m", "5m"])
def test_conventions_right_feed_says_nothing(code, span, interval) -> None:
    assert said(market(code, *span, interval)).height == 0


@pytest.mark.parametrize("interval", ["15m", "30m", "1h"])
@pytest.mark.parametrize("code", ["XNYS", "XHKG", "CME_INDEX"])
def test_conventions_right_coarse_feed_says_nothing(code, interval) -> None:
    assert said(market(code, *AUTUMN, interval)).height == 0


@pytest.mark.parametrize(("hours", "word"), [(-3, "early"), (2, "late"), (7, "late")])
@pytest.mark.parametrize("code", ["XNYS", "XHKG"])
def test_conventions_constant_shift_is_named_with_its_hours(code, hours, word) -> None:
    feed = moved(market(code, *SUMMER), dt.timedelta(hours=hours))
    found = said(feed)
    assert set(found["check_name"]) == {"clock"}
    assert set(found["symbol"]) >= {"LIQ", "MIX"}
    assert set(found["value"]) == {float(hours)}
    assert found["message"].str.contains(f"{abs(hours)} hours {word}").all()
    assert found["remedy"].str.contains(f"UTC{hours:+03d}", literal=True).all()


def test_conventions_venue_time_taken_for_utc_is_told_in_both_seasons() -> None:
    found = said(moved(market("XNYS", *AUTUMN), local("America/New_York")))
    assert set(found["remedy"]) == {"--timezone America/New_York; or ask the vendor for the zone of the stamps"}
    assert found["evidence"].str.contains("UTC-5: 5 h early; UTC-4: 4 h early").any()


def test_conventions_utc_converted_twice_is_told_in_both_seasons() -> None:
    found = said(moved(market("XNYS", *AUTUMN), read_in("America/New_York")))
    assert found["message"].str.contains("converted to UTC twice").all()
    assert found["remedy"].str.contains("--timezone UTC").all()


@pytest.mark.parametrize(
    ("stamps", "remedy"),
    [
        (
            local("Etc/GMT+5")
            .dt.replace_time_zone(None)
            .dt.replace_time_zone("America/New_York", ambiguous="earliest")
            .dt.convert_time_zone("UTC"),
            "--timezone UTC-05",
        ),
        (local("America/New_York") + dt.timedelta(hours=5), "--timezone America/New_York"),
        (local("America/New_York") + dt.timedelta(hours=4), "--timezone America/New_York"),
    ],
    ids=["fixed file read in the zone", "zone file read as winter all year", "zone file read as summer all year"],
)
def test_conventions_missed_change_of_clocks_is_told_from_a_constant_shift(stamps, remedy) -> None:
    found = said(moved(market("XNYS", *AUTUMN), stamps)).filter(pl.col("symbol") == "LIQ")
    assert found["check_name"].to_list() == ["clock"]
    assert found["remedy"].to_list() == [f"{remedy}; or ask the vendor for the zone of the stamps"]
    assert abs(found["value"][0]) == 1


@pytest.mark.parametrize(("code", "hours"), [("XNYS", -5), ("XNYS", 5), ("XHKG", 8), ("XHKG", 3), ("XLON", -5)])
def test_conventions_shift_of_hourly_bars_is_named(code, hours) -> None:
    found = said(moved(market(code, *JUNE, interval="1h", instruments=(LIQUID,)), dt.timedelta(hours=hours)))
    assert found.select("check_name", "value").rows() == [("clock", float(hours))]


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "XLON", "CME_INDEX", "FX"])
def test_conventions_hourly_bars_in_their_sessions_say_nothing(code) -> None:
    assert said(market(code, *JUNE, interval="1h", instruments=(LIQUID, MIXED))).is_empty()


@pytest.mark.parametrize("hours", [1, 5])
def test_conventions_shift_of_a_market_with_a_daily_pause_is_found(hours) -> None:
    found = said(moved(market("CME_INDEX", *SUMMER), dt.timedelta(hours=hours)))
    assert set(found.filter(pl.col("symbol") == "LIQ")["value"]) == {float(hours)}


@pytest.mark.parametrize("hours", [1, -5])
def test_conventions_shift_of_a_market_that_only_closes_at_weekends_is_found(hours) -> None:
    found = said(moved(market("FX", *SUMMER), dt.timedelta(hours=hours)))
    assert found.filter(pl.col("symbol") == "LIQ").select("check_name", "value").rows() == [("clock", float(hours))]


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "CME_INDEX"])
@pytest.mark.parametrize("interval", ["1m", "5m"])
def test_conventions_end_stamps_are_found(code, interval) -> None:
    step = dt.timedelta(minutes=int(interval[:-1]))
    found = said(moved(market(code, *SUMMER, interval), step))
    assert "LIQ" in set(found["symbol"])
    assert set(found["check_name"]) == {"stamp"}
    assert set(found["remedy"]) == {"--stamp end"}


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "CME_INDEX"])
@pytest.mark.parametrize("interval", ["1m", "5m"])
def test_conventions_stamps_one_step_early_are_found(code, interval) -> None:
    step = dt.timedelta(minutes=int(interval[:-1]))
    found = said(moved(market(code, *SUMMER, interval), -step))
    assert "LIQ" in set(found["symbol"])
    assert set(found.select("check_name", "value").rows()) == {("stamp", -1.0)}


@pytest.mark.parametrize("hours", [1, 4, -5])
def test_conventions_auction_printed_after_the_close_moves_no_shift_by_half_an_hour(hours, vendor) -> None:
    (feed,) = stored(vendor / "lean/equity/usa/minute/twx", "XNYS")
    trades = feed._replace(series=feed.series.filter(pl.col("price_type") == "last"))
    found = said(moved(trades, dt.timedelta(hours=hours)))
    assert found.select("check_name", "value").rows() == [("clock", float(hours))]


@pytest.mark.parametrize("code", ["24/7", "FX"])
def test_conventions_end_stamps_without_edges_to_see_say_nothing(code) -> None:
    assert said(moved(market(code, dt.date(2024, 6, 3), dt.date(2024, 6, 6)), dt.timedelta(minutes=1))).height == 0


@pytest.mark.parametrize(("steps", "value"), [(1, 1.0), (-1, -1.0), (0, None)])
def test_conventions_a_week_and_a_day_with_one_close_tells_a_step_of_a_liquid_name(steps, value) -> None:
    feed = market("FX", dt.date(2024, 6, 3), dt.date(2024, 6, 10))
    found = said(moved(feed, dt.timedelta(minutes=steps)))
    told = found.filter(pl.col("symbol") == "LIQ").select("check_name", "value").rows()
    assert told == ([] if value is None else [("stamp", value)])
    assert "THN" not in set(found["symbol"])


def test_conventions_end_stamps_among_extended_hours_are_told_by_the_opening_peak() -> None:
    span = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
    feed = market("XNYS", *span, "1m", (LIQUID,))
    early = feed.rows.with_columns(pl.col("ts") - dt.timedelta(hours=6, minutes=30), pl.col("volume") * 0.02)
    both = feed._replace(rows=pl.concat([feed.rows, early]).unique(["series", "ts"]).sort("series", "ts"))
    assert said(moved(both, dt.timedelta(0))).height == 0
    found = said(moved(both, dt.timedelta(minutes=1)))
    assert found.select("check_name", "remedy").rows() == [("stamp", "--stamp end")]
    assert said(moved(both, -dt.timedelta(minutes=1))).select("check_name", "value").rows() == [("stamp", -1.0)]


@pytest.mark.parametrize(("stated", "actual"), [("1m", "5m"), ("1m", "15m"), ("5m", "1m"), ("1m", "1h"), ("1h", "1m")])
def test_conventions_wrong_interval_is_named(stated, actual) -> None:
    feed = market("XLON", *SUMMER, actual, (LIQUID, THIN))
    grid = axis("XLON", *SUMMER, stated)
    wrong = moved(
        feed._replace(series=feed.series.with_columns(pl.lit(stated).alias("interval")), grid=grid), dt.timedelta(0)
    )
    found = said(wrong).filter(pl.col("symbol") == "LIQ")
    assert found.select("check_name", "remedy").rows() == [("interval", f"--interval {actual}")]


def test_conventions_daily_bars_named_minutes_are_found() -> None:
    feed = market("XNYS", dt.date(2024, 3, 1), dt.date(2024, 6, 28), "1m", (LIQUID,))
    daily = feed._replace(
        rows=feed.rows.group_by("series", "session", maintain_order=True)
        .first()
        .select(feed.rows.columns)
        .sort("series", "ts")
    )
    found = said(daily).filter(pl.col("check_name") == "interval")
    assert found["remedy"].to_list() == ["--interval 1d"]


def test_conventions_round_the_clock_on_an_exchange_calendar_is_its_wrong_calendar() -> None:
    feed = market("24/7", *SUMMER, "1m", (LIQUID,))
    segments = {code: calendar(code).segments_in_bounds(*SUMMER) for code in ("XNYS", "24/7", "FX")}
    wrong = feed._replace(grid=axis("XNYS", *SUMMER), zone="America/New_York")
    found = said(moved(wrong, dt.timedelta(0)), **{code: segments[code] for code in ("24/7", "FX")})
    assert found.select("check_name", "remedy").rows() == [("calendar", "--calendar 24/7")]


def test_conventions_hours_of_another_market_name_its_calendar_and_no_shift() -> None:
    feed = market("XHKG", *SUMMER)._replace(grid=axis("XNYS", *SUMMER), zone="America/New_York")
    others = {code: calendar(code).segments_in_bounds(*SUMMER) for code in ("XTKS", "XHKG", "XLON")}
    found = said(moved(feed, dt.timedelta(0)), **others)
    assert set(found["check_name"]) == {"calendar"}
    assert set(found["remedy"]) == {"--calendar XHKG"}


def test_summed_profiles_of_parts_equal_the_profile_of_the_whole() -> None:
    feed = market("XNYS", *AUTUMN)
    cut = dt.date(2024, 11, 4)
    parts = [feed._replace(rows=feed.rows.filter(test)) for test in (pl.col("session") < cut, pl.col("session") >= cut)]
    whole = combine_profiles([profile(feed)])
    assert_frame_equal(combine_profiles([profile(part) for part in parts]), whole, check_row_order=False)
    assert dict(whole.schema) == dict(PROFILE)
    assert whole.filter(pl.col("facet") == "week")["rows"].sum() == feed.rows.height


@pytest.mark.parametrize(
    ("written", "options", "mend"),
    [
        ("America/New_York", {"timezone": "UTC"}, {"timezone": "America/New_York"}),
        ("Etc/GMT-7", {"timezone": "UTC"}, {"timezone": "UTC+07"}),
        ("UTC", {"timezone": "America/New_York"}, {"timezone": "UTC"}),
        ("ends", {"timezone": "UTC"}, {"timezone": "UTC", "stamp": "end"}),
    ],
)
def test_conventions_option_that_is_named_repairs_the_feed(written, options, mend, tmp_path) -> None:
    rows = market("XNYS", *SUMMER, "1m", (LIQUID,)).rows
    late, zone = (dt.timedelta(minutes=1), "UTC") if written == "ends" else (dt.timedelta(0), written)
    stamps = (rows["ts"] + late).dt.convert_time_zone(zone).dt.strftime("%Y-%m-%d %H:%M:%S")
    rows.select(stamps, "open", "high", "low", "close", "volume").write_csv(tmp_path / "LIQ.csv")
    (wrong,) = stored(tmp_path / "LIQ.csv", "XNYS", **options)
    (remedy,) = said(wrong)["remedy"]
    assert all(f"--{name} {value}" in remedy for name, value in mend.items() if options.get(name) != value)
    (right,) = stored(tmp_path / "LIQ.csv", "XNYS", **mend)
    assert said(right).height == 0


@pytest.mark.parametrize(("code", "interval"), [("XNYS", "1m"), ("24/7", "1m"), ("XNYS", "5m"), ("CME_INDEX", "1h")])
@pytest.mark.parametrize("after", [59.0, 59.999, 1.0])
def test_conventions_stamps_at_one_second_of_the_minute_lie_within_their_bars(code, interval, after, tmp_path) -> None:
    rows = market(code, *SUMMER, interval, (LIQUID,)).rows
    step = {"1m": 0, "5m": 4, "1h": 59}[interval] * 60 * (after > 1)
    stamps = (rows["ts"] + dt.timedelta(seconds=step + after)).dt.strftime("%Y-%m-%d %H:%M:%S%.3f")
    rows.select(stamps, "open", "high", "low", "close", "volume").write_csv(tmp_path / f"LIQ_{interval}.csv")
    (wrong,) = stored(tmp_path / f"LIQ_{interval}.csv", code, timezone="UTC")
    found = said(wrong)
    assert found.select("check_name", "remedy").rows() == [("stamp", "--stamp end-inclusive")]
    assert f"at second {int(after)} of the minute" in found["message"][0]
    (right,) = stored(tmp_path / f"LIQ_{interval}.csv", code, timezone="UTC", stamp="end-inclusive")
    assert right.rows["ts"].to_list() == rows["ts"].to_list()
    assert said(right).height == 0


def test_conventions_stamps_a_second_past_the_end_of_each_bar_are_no_part_of_it(tmp_path) -> None:
    feed = moved(market("XNYS", *SUMMER), pl.col("ts") + dt.timedelta(seconds=61))
    (remedy,) = said(feed).filter(pl.col("symbol") == LIQUID.symbol)["remedy"]
    assert remedy == "--shift=-1s --stamp end"


@pytest.mark.parametrize("symbol", ["AAPL", "RIVN"])
def test_conventions_broker_dump_is_four_hours_late(symbol, vendor) -> None:
    (feed,) = stored(vendor / "mismartera" / f"bars_dump_{symbol}_2025-07-02.csv", "XNYS")
    found = said(feed)
    assert found.select("symbol", "check_name", "value").rows() == [(symbol, "clock", 4.0)]
    assert "converted to UTC twice" in found["message"][0]


@pytest.mark.parametrize(("stamp", "checks"), [("start", ["stamp"]), ("end", [])])
def test_conventions_euro_fx_is_stamped_at_ends(stamp, checks, vendor) -> None:
    (feed,) = stored(vendor / "nautilus" / "xcme", "CMEGlobex_FX", stamp=stamp)
    assert said(feed)["check_name"].to_list() == checks


def test_conventions_euro_stoxx_index_comes_two_minutes_late(vendor) -> None:
    (feed,) = stored(vendor / "lean/index/eurex/minute", "XFRA")
    assert said(feed).select("check_name", "severity", "value").rows() == [("stamp", "warning", 2.0)]


@pytest.mark.parametrize("hours", [-5, 3])
@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("forex/oanda/minute", "FX"),
        ("equity/usa/minute/ibm", "XNYS"),
        ("cfd/oanda/minute/xauusd", "GOLD_CFD"),
        ("equity/india/minute", "XBOM"),
    ],
)
def test_conventions_vendor_files_that_are_moved_say_by_how_much(folder, code, hours, vendor) -> None:
    (feed,) = stored(vendor / "lean" / folder, code)
    found = said(moved(feed, dt.timedelta(hours=hours)))
    assert found.height > 0
    assert set(found.select("check_name", "value").rows()) == {("clock", float(hours))}


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("equity/usa/minute", "XNYS"),
        ("equity/usa/second", "XNYS"),
        ("equity/usa/hour", "XNYS"),
        ("equity/usa/daily", "XNYS"),
        ("equity/india/minute", "XBOM"),
        ("forex/oanda/minute", "FX"),
        ("forex/oanda/hour", "FX"),
        ("forex/fxcm/minute", "FX"),
        ("cfd/oanda/minute/xauusd", "GOLD_CFD"),
        ("crypto/coinbase/minute", "24/7"),
        ("crypto/bybit/minute", "24/7"),
        ("future/cme/minute/es", "CME_INDEX"),
        ("future/cme/minute/es", "CME_FX"),
        ("future/comex/minute/gc", "COMEX_METALS"),
        ("future/eurex/minute/fesx", EUREX),
        ("future/hkfe/hour", "XHKG"),
        ("index/ose/minute", "XTKS"),
        ("index/india/minute", "XBOM"),
        ("index/usa/minute", str(CALENDARS / "spx_index.toml")),
    ],
)
def test_conventions_vendor_files_that_are_right_say_nothing(folder, code, vendor) -> None:
    for feed in stored(vendor / "lean" / folder, code):
        assert said(feed).height == 0


def test_week_of_sessions_leaves_out_first_and_last_dates_that_are_there_in_part() -> None:
    # From Wednesday 22:00 UTC to Friday 21:00 of the next week: Wednesdays have a date in part and a whole one.
    segments = calendar("FX").segments_in_bounds(dt.date(2014, 5, 1), dt.date(2014, 5, 9))
    mask = session_masks(segments, "America/New_York")[-240].reshape(7, 96)
    assert mask[2].min() == mask[3].min() == 1.0
    assert mask[4, :84].min() == 1.0
    assert mask[4, 84:].max() == mask[5].max() == mask[6, :84].max() == 0.0
