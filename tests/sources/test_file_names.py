"""Names of files as vendors give them: symbol, interval, side, date and venue, or None where a name tells none."""

from __future__ import annotations

import datetime as dt

import pytest
from engine.errors import ParameterError, SourceError
from engine.sources.file_names import parse_path
from engine.sources.options import ReadOptions
from engine.sources.scan import scan

# name, symbol, interval, side, date, venue or adjustment
NAMES = [
    ("SPY.csv", "SPY", None, None, None, None),
    ("SPY_1min.csv", "SPY", "1m", None, None, None),
    ("BRK.B_1m.csv", "BRK.B", "1m", None, None, None),
    ("^GSPC.csv", "^GSPC", None, None, None, None),
    ("ES=F.csv", "ES=F", None, None, None, None),
    ("EURUSD=X_1h.csv", "EURUSD=X", "1h", None, None, None),
    ("BTC-USD.csv", "BTC-USD", None, None, None, None),
    ("SPY.US.csv", "SPY.US", None, None, None, None),
    ("EURUSD.FOREX.csv", "EURUSD.FOREX", None, None, None, None),
    ("spy.us.txt", "SPY.US", None, None, None, None),
    ("intraday_1min_SPY.csv", "SPY", "1m", None, None, None),
    ("intraday_5min_IBM.csv", "IBM", "5m", None, None, None),
    ("daily_adjusted_IBM.csv", "IBM", None, None, None, None),
    ("BTCUSDT-1m-2024-01-01.zip", "BTCUSDT", "1m", None, dt.date(2024, 1, 1), None),
    ("BTCUSDT-1m-2024-01.zip", "BTCUSDT", "1m", None, None, None),
    ("1000PEPEUSDT-15m-2024-01.zip", "1000PEPEUSDT", "15m", None, None, None),
    ("BTCUSDT-1mo-2024-01.zip", "BTCUSDT", None, None, None, None),
    ("BTCUSDT-trades-2024-01.zip", "BTCUSDT", None, None, None, None),
    ("ETHUSDT-aggTrades-2024-01-02.zip", "ETHUSDT", None, None, dt.date(2024, 1, 2), None),
    ("BTCUSD_PERP-1m-2024-01-02.zip", "BTCUSD_PERP", "1m", None, dt.date(2024, 1, 2), None),
    ("BTCUSDT_240329-1m-2024-01-02.zip", "BTCUSDT_240329", "1m", None, dt.date(2024, 1, 2), None),
    ("futures/um/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip", "BTCUSDT", "1m", None, None, "um"),
    ("BTCUSDT2024-01-02.csv.gz", "BTCUSDT", None, None, dt.date(2024, 1, 2), None),
    ("BTC-USDT-candlesticks-2024-01-02.zip", "BTC-USDT", None, None, dt.date(2024, 1, 2), None),
    ("BTC_USDT-202401.csv.gz", "BTCUSDT", None, None, None, None),
    ("BTC_USDT-1m.csv", "BTCUSDT", "1m", None, None, None),
    ("BTC_USDT_USDT-5m-futures.csv", "BTCUSDT.PERP", "5m", None, None, None),
    ("BATS_SPY, 1.csv", "SPY", "1m", None, None, "bats"),
    ("NYSE_DLY_IBM, 1_a1b2c.csv", "IBM", "1m", None, None, "nyse_dly"),
    ("NASDAQ_AAPL, 5_1a2b3.csv", "AAPL", "5m", None, None, "nasdaq"),
    ("CME_MINI_ES1!, 60.csv", "ES1!", "1h", None, None, "cme_mini"),
    ("FX_IDC_EURUSD, 15.csv", "EURUSD", "15m", None, None, "fx_idc"),
    ("BINANCE_BTCUSDT, 1D (1).csv", "BTCUSDT", "1d", None, None, "binance"),
    ("OANDA_EURUSD, 1W.csv", "EURUSD", None, None, None, "oanda"),
    ("SPY.Last.txt", "SPY", None, "last", None, None),
    ("ES 03-24.Last.txt", "ES.202403", None, "last", None, None),
    ("6E 12-23.Bid.txt", "6E.202312", None, "bid", None, None),
    ("SPY_full_1min_adjsplitdiv.txt", "SPY", "1m", None, None, "adjsplitdiv"),
    ("SPY_full_1min_UNADJUSTED.txt", "SPY", "1m", None, None, "unadjusted"),
    ("AAPL_1hour_sample.txt", "AAPL", "1h", None, None, None),
    ("ES_full_1min_continuous_ratio_adjusted.txt", "ES", "1m", None, None, "ratio_adjusted"),
    ("DAT_ASCII_EURUSD_M1_2024.csv", "EURUSD", "1m", None, None, None),
    ("DAT_ASCII_EURUSD_M1_202401.csv", "EURUSD", "1m", None, None, None),
    ("DAT_MT_GBPJPY_M1_2023.csv", "GBPJPY", "1m", None, None, None),
    ("HISTDATA_COM_ASCII_EURUSD_M12024.zip", "EURUSD", "1m", None, None, None),
    ("DAT_ASCII_EURUSD_T_202401.csv", "EURUSD", None, None, None, None),
    ("EUR.USD_MIDPOINT_1min.csv", "EUR.USD", "1m", "mid", None, None),
    ("twelve_data_AAPL_1day.csv", "AAPL", "1d", None, None, None),
    ("spy_daily_historical-data-02-13-2024.csv", "SPY", "1d", None, None, None),
    ("EURUSD_2024_3.csv.gz", "EURUSD", None, None, None, None),
    ("symbol=SPY/date=2024-01-02/data.csv", "SPY", None, None, dt.date(2024, 1, 2), None),
    ("year=2024/month=1/day=2/SPY.csv", "SPY", None, None, dt.date(2024, 1, 2), None),
    ("20240102/SPY.csv", "SPY", None, None, dt.date(2024, 1, 2), None),
    ("2024-01-01/SPY_2024-01-02.csv", "SPY", None, None, dt.date(2024, 1, 2), None),
    ("table_brk.b.csv", "BRK.B", None, None, None, None),
    ("export_part1.csv", None, None, None, None, None),
    ("page2.csv", None, None, None, None, None),
    ("chunk_0003.csv", None, None, None, None, None),
    ("EURUSD_M1_202401012200_202401032159.csv", "EURUSD", "1m", None, None, None),
    ("XAUUSD_H1_201801020100_202401032300.csv", "XAUUSD", "1h", None, None, None),
    ("EURUSD_202401012200_202401032159.csv", "EURUSD", None, None, None, None),
    ("EURUSD1.csv", "EURUSD", "1m", None, None, None),
    ("EURUSD240.csv", "EURUSD", "4h", None, None, None),
    ("EURUSD_M1.csv", "EURUSD", "1m", None, None, None),
    ("EURUSD_Candlestick_1_M_BID_01.01.2024-03.01.2024.csv", "EURUSD", "1m", "bid", None, None),
    ("EURUSD_Candlestick_4_Hour_ASK_01.01.2024-03.01.2024.csv", "EURUSD", "4h", "ask", None, None),
    ("EURUSD_1 Min_Bid_2024.01.01_2024.01.03.csv", "EURUSD", "1m", "bid", None, None),
    ("eurusd-m1-bid-2024-01-01-2024-01-03.csv", "EURUSD", "1m", "bid", None, None),
    ("xnas-itch-20240102-20240104.ohlcv-1m.csv", None, "1m", None, None, None),
    ("glbx-mdp3-20240102.trades.csv.zst", None, None, None, dt.date(2024, 1, 2), None),
    ("xnas-itch-20240102.ohlcv-1s.SPY.csv", "SPY", "1s", None, dt.date(2024, 1, 2), None),
    ("XBTUSD_1.csv", "XBTUSD", "1m", None, None, None),
    ("ETHEUR_720.csv", "ETHEUR", "12h", None, None, None),
    ("Binance_BTCUSDT_2024_minute.csv", "BTCUSDT", "1m", None, None, "binance"),
    ("Bitstamp_BTCUSD_d.csv", "BTCUSD", "1d", None, None, "bitstamp"),
    ("gemini_BTCUSD_2020_1min.csv", "BTCUSD", "1m", None, None, "gemini"),
    ("SPY Historical Data.csv", "SPY", None, None, None, None),
    ("EUR_USD Historical Data (2).csv", "EURUSD", None, None, None, None),
    ("S&P 500 Historical Data.csv", "S&P 500", None, None, None, None),
    ("Apple Stock Price Historical Data.csv", "APPLE", None, None, None, None),
    ("HistoricalData_1704900000000.csv", None, None, None, None, None),
    ("6EH4.XCME_1min_bars_20240101_20240131.csv.gz", "6EH4.XCME", "1m", None, None, None),
    ("AAPL_2024_01.csv", "AAPL", None, None, None, None),
    ("AAPL-2024-01.parquet", "AAPL", None, None, None, None),
    ("AAPL_2024Q1.csv", "AAPL", None, None, None, None),
    ("AAPL_2024-Q1_1min.csv", "AAPL", "1m", None, None, None),
    ("AAPL_2020-2023.csv", "AAPL", None, None, None, None),
    ("AAPL_2020-01_2023-12.csv", "AAPL", None, None, None, None),
    ("AAPL.20240102.csv", "AAPL", None, None, dt.date(2024, 1, 2), None),
    ("SPY_20240102T0930_20240103T1600.csv", "SPY", None, None, None, None),
    ("AAPL 5 min.csv", "AAPL", "5m", None, None, None),
    ("SPY (1).csv", "SPY", None, None, None, None),
    ("table_spy.csv", "SPY", None, None, None, None),
    ("stooq_aapl_daily.csv", "AAPL", "1d", None, None, None),
    ("COIN.csv", "COIN", None, None, None, None),
    ("ALL_1m.csv", "ALL", "1m", None, None, None),
    ("MAR.csv", "MAR", None, None, None, None),
    ("ETH_USDT-1h.csv", "ETHUSDT", "1h", None, None, None),
    ("600519_daily.csv", "600519", "1d", None, None, None),
    ("H24_1m.csv", "H24", "1m", None, None, None),
    ("D.csv", "D", None, None, None, None),
    ("M1.csv", None, "1m", None, None, None),
    ("M1_1m.csv", "M1", "1m", None, None, None),
    ("H1_5m.csv", "H1", "5m", None, None, None),
    ("M3_1m_20240408.csv", "M3", "1m", None, dt.date(2024, 4, 8), None),
    ("2024-01-02.csv.gz", None, None, None, dt.date(2024, 1, 2), None),
    ("us_stocks_sip/minute_aggs_v1/2024/01/2024-01-02.csv.gz", None, None, None, dt.date(2024, 1, 2), None),
    ("bars.csv", None, None, None, None, None),
    ("symbol=SPY/interval=5m/part-00000-1c2d.snappy.parquet", "SPY", "5m", None, None, None),
    ("part-00000-1c2d.parquet", None, None, None, None, None),
    ("one_two.csv", None, None, None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "symbol", "interval", "side", "day", "market"), NAMES, ids=[row[0] for row in NAMES])
def test_names_of_vendors_tell_symbol_interval_side_date_and_market(path, symbol, interval, side, day, market):
    facts = parse_path(path)
    told = (facts.symbol, facts.interval and str(facts.interval), facts.price_type, facts.day, facts.market)
    assert told == (symbol, interval, side, day, market)


@pytest.mark.parametrize(
    ("template", "path", "symbol", "interval", "day"),
    [
        ("folder", "data/spy/2024-01-02_1m.csv", "SPY", "1m", dt.date(2024, 1, 2)),
        ("{symbol}/{date}.csv", "data/spy/20240102.csv", "SPY", None, dt.date(2024, 1, 2)),
        ("{symbol}/{date}.csv", "data/BRK.B/2024-01.csv", "BRK.B", None, None),
        ("{symbol}/{date}", "data/spy/20240102.csv.gz", "SPY", None, dt.date(2024, 1, 2)),
        ("{interval}/x_{symbol}_*", "data/5min/x_spy_anything.csv", "SPY", "5m", None),
        ("{symbol}_{price_type}.csv", "es_bid.csv", "ES", None, None),
        ("*", "data/AAPL_1m.csv", None, "1m", None),
    ],
)
def test_symbol_from_reads_the_path_as_the_template_says(template, path, symbol, interval, day):
    facts = parse_path(path, ReadOptions(symbol_from=template))
    assert (facts.symbol, facts.interval and str(facts.interval), facts.day) == (symbol, interval, day)


def test_symbol_from_that_a_path_does_not_fit_is_an_error_with_an_example():
    with pytest.raises(SourceError, match=r"does not fit '\{symbol\}/\{date\}.csv'"):
        parse_path("a/b/spy.csv", ReadOptions(symbol_from="{symbol}/{date}.csv"))


@pytest.mark.parametrize("template", ["spy.csv", "{ticker}.csv", "{symbol}/{symbol}.csv", ""])
def test_symbol_from_without_a_known_field_is_refused(template):
    with pytest.raises(ParameterError, match="symbol_from: received"):
        ReadOptions(symbol_from=template)


def bars(path, first="2024-01-02T14:30:00Z"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"timestamp,open,high,low,close\n{first},1,1,1,1\n2024-01-02T14:31:00Z,1,1,1,1\n")
    return path


def test_name_of_letters_in_both_cases_with_a_number_is_a_symbol():
    assert (parse_path("BACfilled30.csv").symbol, parse_path("BACfilled30.csv").interval) == ("BACFILLED30", None)
    assert (parse_path("EURUSDm30.csv").symbol, str(parse_path("eurusd30.csv").interval)) == ("EURUSDM", "30m")


def test_symbol_given_for_files_whose_names_differ_is_refused_and_read_with_the_option_named(tmp_path):
    bars(tmp_path / "AAPL.csv")
    bars(tmp_path / "MSFT.csv")
    with pytest.raises(ParameterError, match=r"2 symbols by their names .*AAPL.*MSFT.*--symbol-from '\*'"):
        scan([tmp_path], ReadOptions(symbol="X"))
    files, _ = scan([tmp_path], ReadOptions(symbol="X", symbol_from="*"))
    assert {file.symbol for file in files} == {"X"}
    files, _ = scan([tmp_path / "AAPL.csv"], ReadOptions(symbol="X"))
    assert [file.symbol for file in files] == ["X"]


def test_scan_keeps_adjusted_and_unadjusted_files_of_a_symbol_apart(tmp_path):
    bars(tmp_path / "SPY_full_1min_adjsplitdiv.csv")
    bars(tmp_path / "SPY_full_1min_UNADJUSTED.csv")
    files, _ = scan([tmp_path])
    assert sorted(file.symbol + file.qualifier for file in files) == ["SPY@ADJSPLITDIV", "SPY@UNADJUSTED"]
