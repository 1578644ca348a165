"""What is odd in the vendor files, and what loading makes of it: counted, placed or refused, never lost."""

from __future__ import annotations

import csv
import datetime as dt
import io
import zipfile
from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import engine
import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.grid import GridSpec, SessionGrid

from tests.vendor.files import CALENDARS, rows

EUREX = str(CALENDARS.parents[1] / "calendars" / "eurex_index.toml")
BERLIN = ZoneInfo("Europe/Berlin")


def strays(session: engine.SessionData, symbol: str, zone: str, price_type: str = "last") -> list[str]:
    """Local times of the base bars that lie in no chosen slot."""
    bars = session.get_symbol_data(symbol).bars(price_type=price_type)
    outside = bars.filter(~pl.col("segment").is_in(["RTH", "ETH"]).fill_null(value=False))
    return outside["ts"].dt.convert_time_zone(zone).dt.strftime("%m-%d %H:%M").to_list()


def totals(session: engine.SessionData, *columns: str) -> tuple[int, ...]:
    return session.quality().select(pl.col(columns).sum()).row(0)


def first_lost(session: engine.SessionData, zone: str) -> list[tuple[str, int]]:
    """Local start and length of each gap."""
    local = pl.col("gap_start").dt.convert_time_zone(zone).dt.strftime("%Y-%m-%d %H:%M")
    return session.gaps().sort("gap_start").select(local, "bar_count").rows()


def member(path: Path, name: str) -> list[list[str]]:
    with zipfile.ZipFile(path) as archive:
        return list(csv.reader(io.StringIO(archive.read(name).decode())))


@pytest.mark.parametrize(("stamp", "outside"), [("end", 0), ("start", 22)])
def test_load_euro_fx_stamped_at_ends_has_rows_in_the_pause_only_as_starts(stamp, outside, vendor) -> None:
    session = engine.load(vendor / "nautilus" / "xcme", "CMEGlobex_FX", stamp=stamp)
    assert totals(session, "out_of_session", "off_grid") == (outside, 0)
    (symbol,) = session.get_loaded_symbols()
    assert {text[-5:] for text in strays(session, symbol, "America/New_York")} <= {"17:00"}
    assert session.get_symbol_data(symbol).bars().height == 29_996


@pytest.mark.parametrize(("stamp", "missing"), [("start", 119), ("end", 118)])
def test_load_euro_fx_on_a_cme_holiday_is_thin_but_not_closed(stamp, missing, vendor) -> None:
    session = engine.load(vendor / "nautilus" / "xcme", "CMEGlobex_FX", stamp=stamp)
    holiday = session.gaps().filter(pl.col("session") == dt.date(2024, 1, 16))  # cleared with the next trade date
    thin = holiday.filter(pl.col("gap_end") <= dt.datetime(2024, 1, 15, 22, tzinfo=dt.UTC))
    assert thin["bar_count"].sum() == missing
    assert thin["bar_count"].max() < 10


@pytest.mark.parametrize(("symbol", "as_written"), [("AAPL", 349), ("RIVN", 262)])
def test_load_dump_four_hours_late_fills_the_session_only_when_moved_back(symbol, as_written, vendor) -> None:
    path = vendor / "mismartera" / f"bars_dump_{symbol}_2025-07-02.csv"
    session = engine.load(path, "XNYS")
    assert session.quality().select("expected", "present").rows() == [(390, as_written)]
    segments = calendar("XNYS").segments(dt.date(2025, 7, 1), dt.date(2025, 7, 3))
    grid = SessionGrid.build(segments, "1m", GridSpec("XNYS"))
    moved = grid.place(rows(path)["ts"] - dt.timedelta(hours=4)).filter(pl.col("slot").is_not_null())
    assert Counter(moved["session"]) == {dt.date(2025, 7, 2): 390}


def test_load_fesx_written_twice_keeps_the_last_rows_and_rejects_the_first(vendor) -> None:
    path = vendor / "lean/future/eurex/minute/fesx/20240603_trade.zip"
    written = member(path, "20240603_fesx_minute_trade_202406.csv")
    session = engine.load(path, EUREX)
    bars = session.get_symbol_data("FESX.202406").bars()
    midnight = dt.datetime(2024, 6, 3, tzinfo=BERLIN)
    traded = [(midnight + dt.timedelta(milliseconds=int(ms)), *map(float, values)) for ms, *values in written[1152:]]
    columns = ("ts", "open", "high", "low", "close", "volume")
    assert bars.select(columns).rows() == [(ts.astimezone(dt.UTC), *values) for ts, *values in traded]
    refused = pl.concat(session.snapshot().rejects)
    assert sorted(refused["row"]) == list(range(1, 1153))
    assert refused["reason"].str.contains("conflict").all()
    assert totals(session, "duplicates", "corrections") == (0, 0)


def test_load_nifty_with_two_entries_takes_the_one_of_its_own_date(vendor) -> None:
    session = engine.load(vendor / "lean/index/india/minute/nifty50", "XBOM")
    assert session.quality().select("session", "expected", "present", "duplicates").rows() == [
        (dt.date(2019, 1, 1), 375, 375, 0),
        (dt.date(2019, 1, 2), 375, 375, 0),
    ]
    outside = strays(session, "NIFTY50", "Asia/Kolkata")
    assert outside == ["01-01 09:07", "01-01 15:30", "01-01 15:31", "01-02 09:07", "01-02 15:31"]


def test_load_indian_equity_counts_the_closing_session_as_outside(vendor) -> None:
    session = engine.load(vendor / "lean/equity/india/minute", "XBOM")
    assert strays(session, "YESBANK", "Asia/Kolkata") == ["07-09 15:30", "07-09 15:40"]
    missing = session.quality().filter(pl.col("symbol") == "JUNIORBEES")["missing"].to_list()
    assert missing == [158, 174]


def test_load_nikkei_counts_lunch_rows_as_outside(vendor) -> None:
    session = engine.load(vendor / "lean/index/ose/minute", "XTKS")
    assert strays(session, "N225", "Asia/Tokyo") == ["01-14 11:30", "01-14 11:35", "01-14 15:00", "01-14 15:15"]
    assert totals(session, "expected", "present", "out_of_session", "off_grid") == (300, 300, 4, 0)


def test_load_quiet_minutes_of_us_equities_are_gaps_of_single_slots(vendor) -> None:
    minutes = vendor / "lean/equity/usa/minute"
    ibm = engine.load(sorted((minutes / "ibm").glob("*_trade.zip")), "XNYS", start="2013-10-04", end="2013-10-11")
    assert first_lost(ibm, "America/New_York") == [("2013-10-04 12:39", 1), ("2013-10-11 12:46", 1)]
    goog = engine.load(minutes / "goog/20151228_trade.zip", "XNYS")
    assert [count for _, count in first_lost(goog, "America/New_York")] == [1] * 8
    shy = engine.load(minutes / "shy/20080307_trade.zip", "XNYS")
    assert totals(shy, "expected", "missing") == (390, 57)


def test_load_half_day_has_every_minute_and_rows_after_the_close(vendor) -> None:
    session = engine.load(vendor / "lean/equity/usa/minute/goog/20151224_trade.zip", "XNYS", derive=["1h", "1d"])
    base = session.quality().filter(pl.col("interval") == "1m")
    assert base.select("expected", "present").rows() == [(210, 210)]
    outside = strays(session, "GOOG", "America/New_York")
    assert outside[:3] == ["12-24 09:28", "12-24 09:29", "12-24 13:00"]
    assert len(outside) == 2 + 1 + 14  # before the open, the closing print, after it
    hours = session.get_symbol_data("GOOG").bars("1h")
    assert hours.select("n_base", "n_expected", "complete").rows() == [*[(60, 60, True)] * 3, (30, 30, True)]


def test_load_quote_at_the_end_of_extended_hours_does_not_begin_another_session(vendor) -> None:
    path = vendor / "lean/equity/usa/minute/ibm/20131011_quote.zip"
    session = engine.load(path, "XNYS")
    assert "10-11 20:00" in strays(session, "IBM", "America/New_York", "bid")
    due = session.quality().filter(pl.col("expected") > 0)
    assert set(due["session"]) == {dt.date(2013, 10, 11)}
    assert due["missing"].sum() == 0


def test_load_fxcm_sunday_counts_indicative_quotes_as_outside(vendor) -> None:
    session = engine.load(vendor / "lean/forex/fxcm/minute/eurusd/20140504_quote.zip", "FX")
    for side in ("bid", "ask"):
        early = strays(session, "EURUSD", "America/New_York", side)
        assert len(early) == 102
        assert min(early) == "05-04 15:00"
        assert max(early) < "05-04 17:00"


@pytest.mark.parametrize(
    ("folder", "today", "then"),
    [("cme/minute/es", "CME_FX", "CME_INDEX"), ("comex/minute/gc", "CME_FX", "COMEX_METALS")],
)
def test_load_futures_of_2013_fit_the_hours_of_their_year(folder, today, then, vendor) -> None:
    # CME_FX has had the hours that all have today, 17:00 to 16:00, throughout.
    paths = sorted((vendor / "lean/future" / folder).glob("*_trade.zip"))
    assert totals(engine.load(paths, today), "out_of_session")[0] > 0
    assert totals(engine.load(paths, then), "out_of_session", "off_grid") == (0, 0)


def test_load_hours_on_the_clock_places_all_but_those_after_an_early_close(vendor) -> None:
    session = engine.load(vendor / "lean/equity/usa/hour/spy.zip", "XNYS")
    bars = session.get_symbol_data("SPY").bars()
    segments = calendar("XNYS").segments(dt.date(1998, 1, 2), dt.date(2021, 3, 31)).filter(pl.col("segment") == "RTH")
    early = segments.filter(pl.col("segment_close").dt.convert_time_zone("America/New_York").dt.hour() < 16)
    placed = bars.filter(pl.col("segment") == "RTH")
    outside = bars.filter(pl.col("segment").ne_missing("RTH")).join(early, on="session", how="left")
    assert (bars.height, placed.height, early.height) == (40_832, 40_785, 52)
    assert (outside["ts"] >= outside["segment_close"]).all()
    assert outside["segment_close"].null_count() == 0
    assert outside["session"].n_unique() == 23
    assert totals(session, "out_of_session", "off_grid") == (47, 0)
    local = placed["ts"].dt.convert_time_zone("America/New_York").dt.strftime("%H:%M")
    assert set(local) == {"09:30", *(f"{hour}:00" for hour in range(10, 16))}


def test_load_hours_finds_the_late_open_the_outage_and_the_renamed_ticker(vendor) -> None:
    hours = vendor / "lean/equity/usa/hour"
    session = engine.load([hours / name for name in ("bac.zip", "ibm.zip", "spy.zip", "spwr.zip")], "XNYS")
    gaps = session.gaps().with_columns(
        pl.col("gap_start").dt.convert_time_zone("America/New_York").dt.strftime("%H:%M").alias("at")
    )
    shown = gaps.select("symbol", "session", "at", "bar_count", "position").rows()
    assert ("BAC", dt.date(2001, 6, 8), "09:30", 2, "leading") in shown
    assert {row for row in shown if row[1] == dt.date(2002, 9, 11)} == {
        (symbol, dt.date(2002, 9, 11), "09:30", late, "leading")
        for symbol, late in (("BAC", 3), ("IBM", 2), ("SPY", 2))
    }
    absent = gaps.filter((pl.col("symbol") == "SPWR") & (pl.col("position") == "session"))["session"]
    scheduled = calendar("XNYS").segments(dt.date(2008, 9, 30), dt.date(2011, 11, 15))["session"].unique()
    assert set(scheduled) <= set(absent)


@pytest.mark.parametrize("symbol", ["bac", "ibm", "spy"])
def test_load_daily_files_by_date_places_every_row_and_misses_none(symbol, vendor) -> None:
    session = engine.load(vendor / f"lean/equity/usa/daily/{symbol}.zip", "XNYS")
    assert totals(session, "expected", "present", "out_of_session", "off_grid") == (5_849, 5_849, 0, 0)
