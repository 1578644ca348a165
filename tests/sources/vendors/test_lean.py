"""Zips of Lean's layout, from small ones made here."""

from __future__ import annotations

import json
from fractions import Fraction

import polars as pl
import pytest
from engine.errors import SourceError
from engine.sources.options import ReadOptions
from engine.sources.vendors.lean import read_lean
from engine.sources.vendors.lean_layout import parse_lean_path

from tests.sources.vendors.lean_zip import lean_zip

ANY = ReadOptions()
TRADE = "34200000,1000000,1010000,990000,1005000,300\n"


def stamps(batch) -> list[str]:
    return batch.frame["ts"].dt.to_string("%F %T%.f").to_list()


def test_read_lean_minute_trades_of_equities_are_scaled_and_in_utc(tmp_path):
    path = lean_zip(tmp_path, "equity/usa/minute/spy/20240102_trade.zip", d_20240102_spy_minute_trade=TRADE)
    batch = read_lean(path, ANY)
    assert stamps(batch) == ["2024-01-02 14:30:00"]
    assert batch.frame.select("symbol", "price_type", "open", "high", "low", "close", "volume", "row").rows() == [
        ("SPY", "last", 100, 101, 99, 100.5, 300, 1)
    ]
    assert (str(batch.interval), batch.stamp, batch.align, batch.zone) == ("1m", "start", "session", "America/New_York")
    assert batch.source == f"{path}!20240102_spy_minute_trade.csv"
    assert batch.source_symbols == {"SPY": "spy"}


def test_read_lean_scaled_prices_are_the_nearest_floats(tmp_path):
    cents = range(1_370_001, 1_380_001, 7)
    text = "".join(f"{1000 * at},{price},{price},{price},{price},1\n" for at, price in enumerate(cents))
    path = lean_zip(tmp_path, "equity/usa/second/spy/20240102_trade.zip", d_20240102_spy_second_trade=text)
    assert read_lean(path, ANY).frame["close"].to_list() == [float(Fraction(price, 10_000)) for price in cents]


@pytest.mark.parametrize(
    ("place", "member", "text", "align", "first"),
    [
        ("equity/usa/hour/spy.zip", "spy", "20240102 09:00,1,1,1,1,5\n", "clock", "2024-01-02 14:00:00"),
        ("equity/usa/daily/spy.zip", "spy", "20240102 00:00,1,1,1,1,5\n", "date", "2024-01-02 05:00:00"),
        ("index/ose/hour/n225.zip", "n225", "20240102 09:00,1,1,1,1\n", "clock", "2024-01-02 00:00:00"),
    ],
)
def test_read_lean_hour_and_daily_files_are_aligned_to_clock_and_date(tmp_path, place, member, text, align, first):
    batch = read_lean(lean_zip(tmp_path, place, **{member: text}), ANY)
    assert (batch.align, stamps(batch)) == (align, [first])


def test_read_lean_options_of_the_caller_win(tmp_path):
    path = lean_zip(tmp_path, "equity/usa/hour/spy.zip", spy="20240102 09:00,1,1,1,1,5\n")
    batch = read_lean(path, ReadOptions(stamp="end", align="session"))
    assert (batch.stamp, batch.align) == ("end", "session")


def test_read_lean_quote_bars_have_a_row_per_side_that_is_there(tmp_path):
    text = "0,1,2,1,2,7,3,4,3,4,8\r\n60000,,,,,0,3,4,3,4,9\r\n120000,,,,,0,,,,,0\r\n180000,1,x,1,2,7,,,,,0"
    path = lean_zip(tmp_path, "future/cme/minute/es/20240102_quote.zip", d_20240102_es_minute_quote_202403=text)
    batch = read_lean(path, ANY)
    assert batch.frame.select("symbol", "price_type", "row", "close", "size", "volume").rows() == [
        ("ES.202403", "bid", 1, 2, 7, None),
        ("ES.202403", "ask", 1, 4, 8, None),
        ("ES.202403", "ask", 2, 4, 9, None),
    ]
    assert sorted(batch.rejects.select("row", "reason").rows()) == [
        (3, "bid and ask: all missing"),
        (4, "high: missing or unreadable"),
    ]


def test_read_lean_equity_quote_ticks_have_one_side_and_the_other_null(tmp_path):
    text = "14400151,0,0,1402000,500,Q,1,0\n14400554.5,1384000,700,0,0,P,20000001,1\n"
    path = lean_zip(tmp_path, "equity/usa/tick/bac/20240102_quote.zip", d_20240102_bac_Quote_Tick=text)
    frame = read_lean(path, ANY).frame
    assert frame.select("seq", "bid", "bid_size", "ask", "ask_size").rows() == [
        (1, None, None, 140.2, 500),
        (2, 138.4, 700, None, None),
    ]
    assert frame["ts"].to_physical()[1] % 10**9 == 554_500_000


def test_read_lean_trade_ticks_keep_exchange_conditions_and_flag(tmp_path):
    text = "276,1313.7,0,usa,,0\n276,1313.7,1,usa,0A2,1\n"
    path = lean_zip(tmp_path, "future/comex/tick/gc/20240102_trade.zip", d_20240102_gc_tick_trade_202404=text)
    frame = read_lean(path, ANY).frame
    assert frame.select("price", "size", "exchange", "conditions", "suspicious").rows() == [
        (1313.7, 0, "usa", None, False),
        (1313.7, 1, "usa", "0A2", True),
    ]


def test_read_lean_contracts_of_one_zip_become_symbols_with_their_own_lines(tmp_path):
    path = lean_zip(
        tmp_path,
        "option/usa/minute/goog/20240102_trade_american.zip",
        d_20240102_goog_minute_trade_american_call_6050000_20240119=TRADE + "broken\n",
        d_20240102_goog_minute_trade_american_put_1725000_20240119=TRADE,
    )
    batch = read_lean(path, ANY)
    assert batch.frame.select("symbol", "row").rows() == [("GOOG.20240119.C.605", 1), ("GOOG.20240119.P.172.5", 1)]
    assert batch.source == str(path)
    assert batch.source_symbols["GOOG.20240119.P.172.5"] == "goog_american_put_1725000_20240119"
    assert batch.rejects.select("source", "row").rows() == [
        (f"{path}!20240102_goog_minute_trade_american_call_6050000_20240119.csv", 2)
    ]
    kept = read_lean(path, ReadOptions(symbols=("GOOG.20240119.C.605",)))
    assert kept.frame["symbol"].to_list() == ["GOOG.20240119.C.605"]
    assert "1 members of other symbols left out" in kept.notes


def test_read_lean_bad_value_of_one_of_several_members_is_rejected_with_that_member(tmp_path):
    path = lean_zip(
        tmp_path,
        "future/cme/minute/es/20240102_openinterest.zip",
        d_20240102_es_minute_openinterest_202403="0,5\n",
        d_20240102_es_minute_openinterest_202406="60000,7\n120000,-1\nx,1\n",
    )
    batch = read_lean(path, ANY)
    assert batch.kind == "open_interest"
    assert batch.frame.select("symbol", "value").rows() == [("ES.202403", 5), ("ES.202406", 7)]
    assert batch.rejects["row"].to_list() == [2, 3]
    assert batch.rejects["source"].unique().to_list() == [f"{path}!20240102_es_minute_openinterest_202406.csv"]


def test_read_lean_perpetual_futures_are_named_so(tmp_path):
    path = lean_zip(
        tmp_path,
        "cryptofuture/binance/minute/btcusdt/20240102_trade.zip",
        d_20240102_btcusdt_minute_trade_perp="0,1,1,1,1,2\n",
    )
    assert read_lean(path, ANY).frame["symbol"].to_list() == ["BTCUSDT.PERP"]


def test_read_lean_local_time_that_does_not_exist_is_rejected_with_the_reason(tmp_path):
    two_thirty = "9000000,1000000,1000000,1000000,1000000,1\n"
    path = lean_zip(
        tmp_path, "equity/usa/minute/spy/20240310_trade.zip", d_20240310_spy_minute_trade=two_thirty + TRADE
    )
    batch = read_lean(path, ANY)
    assert batch.frame["row"].to_list() == [2]
    assert "does not exist in America/New_York" in batch.rejects["reason"][0]


def test_read_lean_zone_comes_from_the_market_hours_database_of_the_folder(tmp_path):
    database = tmp_path / "market-hours/market-hours-database.json"
    database.parent.mkdir()
    entries = {"Future-cme-[*]": {"dataTimeZone": "UTC"}, "Future-cme-ES": {"dataTimeZone": "UTC-05"}}
    database.write_text(json.dumps({"entries": entries}))
    text = "0,1,1,1,1,1\n"
    es = lean_zip(tmp_path, "future/cme/minute/es/20240102_trade.zip", d_20240102_es_minute_trade_202403=text)
    nq = lean_zip(tmp_path, "future/cme/minute/nq/20240102_trade.zip", d_20240102_nq_minute_trade_202403=text)
    assert [read_lean(path, ANY).zone for path in (es, nq)] == ["Etc/GMT+5", "UTC"]


def test_read_lean_unknown_zone_needs_the_option(tmp_path):
    path = lean_zip(tmp_path, "equity/mars/minute/dust/20240102_trade.zip", d_20240102_dust_minute_trade=TRADE)
    with pytest.raises(SourceError, match="--timezone"):
        read_lean(path, ANY)
    assert stamps(read_lean(path, ReadOptions(timezone="Asia/Tokyo"))) == ["2024-01-02 00:30:00"]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "no member of the file's date"),
        ({"d_20240103_spy_minute_trade": TRADE}, "no member of the file's date"),
        ({"d_20240102_spy_minute_trade": "1,2,3\n"}, "6 or 5 cells, here 3"),
    ],
)
def test_read_lean_zip_without_its_rows_says_why(tmp_path, members, reason):
    path = lean_zip(tmp_path, "equity/usa/minute/spy/20240102_trade.zip", **members)
    with pytest.raises(SourceError, match=reason):
        read_lean(path, ANY)


def test_read_lean_empty_member_has_no_row(tmp_path):
    path = lean_zip(tmp_path, "equity/usa/minute/spy/20240102_trade.zip", d_20240102_spy_minute_trade="")
    batch = read_lean(path, ANY)
    assert (batch.frame.height, batch.rejects.height) == (0, 0)
    assert batch.frame.schema["ts"] == pl.Datetime("us", "UTC")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("a/equity/usa/minute/spy/20240102_trade.zip", ("equity", "usa", "spy", "minute", "trade", "bars")),
        ("forex/oanda/tick/eurusd/20240102_quote.zip", ("forex", "oanda", "eurusd", "tick", "quote", "quotes")),
        ("forex/oanda/hour/eurusd.zip", ("forex", "oanda", "eurusd", "hour", "quote", "bars")),
        ("future/cme/daily/es_openinterest.zip", ("future", "cme", "es", "daily", "openinterest", "open_interest")),
        ("option/usa/hour/goog_2015_trade_american.zip", ("option", "usa", "goog", "hour", "trade", "bars")),
    ],
)
def test_parsed_paths_tell_what_the_rows_are(tmp_path, place, told):
    file = parse_lean_path(tmp_path / place)
    assert (file.security, file.market, file.ticker, file.resolution, file.content, file.kind) == told


@pytest.mark.parametrize("place", ["equity/usa/minute/spy/trade.zip", "stocks/usa/hour/spy.zip", "SPY.zip"])
def test_parsed_other_paths_are_none(tmp_path, place):
    assert parse_lean_path(tmp_path / place) is None


def test_a_path_with_a_date_that_does_not_exist_is_not_of_the_layout(tmp_path):
    assert parse_lean_path(tmp_path / "equity/usa/minute/spy/20241399_trade.zip") is None
