"""Files as vendors document them, written by hand, read by the shortest call: every bar, start, price and volume."""

from __future__ import annotations

import datetime as dt
import io
import json
import zipfile
from zoneinfo import ZoneInfo

import engine
import polars as pl
import pytest
from engine.errors import SourceError
from engine.sources.layouts.vendors import VENDORS
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan

NY, BERLIN, WARSAW, CHICAGO = map(ZoneInfo, ("America/New_York", "Europe/Berlin", "Europe/Warsaw", "America/Chicago"))
EST = dt.timezone(dt.timedelta(hours=-5))
# Starts of minutes, open, high, low, close, volume, number of trades; on the 16th, which is no month.
BARS = [
    (dt.datetime(2024, 1, 16, 14, 30, tzinfo=dt.UTC), 470.25, 471.5, 469.75, 470.5, 1200, 12),
    (dt.datetime(2024, 1, 16, 14, 31, tzinfo=dt.UTC), 470.5, 470.75, 470.0, 470.25, 800, 8),
    (dt.datetime(2024, 1, 16, 14, 32, tzinfo=dt.UTC), 470.25, 472.0, 470.25, 471.75, 1500, 15),
]
MINUTE = dt.timedelta(minutes=1)


def lines(template, zone=dt.UTC, shift=dt.timedelta(), rows=BARS, **more):
    """A line per bar; `{t:%H:%M}` is the local start, `{s}` seconds since 1970."""
    made = []
    for ts, o, h, low, c, v, n in rows:
        at = ts + shift
        made.append(
            template.format(t=at.astimezone(zone), s=int(at.timestamp()), o=o, h=h, l=low, c=c, v=v, n=n, **more)
        )
    return "\n".join(made) + "\n"


def zipped(name, text):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, text)
    return made.getvalue()


def fixed(template, **kinds):
    """Lines with prices as integers of 1e-9."""
    rows = [(ts, *(int(price * 10**9) for price in prices), v, n) for ts, *prices, v, n in BARS]
    return lines(template, rows=rows, **kinds)


def comma(text):
    return text.replace(".", ",")


BINANCE = "{s}000,{o},{h},{l},{c},{v},{s}999,1.0,{n},0.5,0.5,0"
BINANCE_US = "{s}000000,{o},{h},{l},{c},{v},{s}999999,1.0,{n},0.5,0.5,0"
DATABENTO = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
MT_HEADER = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"

# By name: file, content, options, symbol and calendar.
FEEDS = {
    "yfinance": ("SPY.csv", "Datetime,Open,High,Low,Close,Adj Close,Volume\n" + lines("{t:%Y-%m-%d %H:%M:%S}-05:00,{o},{h},{l},{c},9,{v}", NY), {}, "SPY", "XNYS"),
    "yfinance wide": (
        "prices.csv",
        "Price,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\nTicker,AAPL,SPY,AAPL,SPY,AAPL,SPY,AAPL,SPY,AAPL,SPY\nDatetime,,,,,,,,,,\n"
        + lines("{t:%Y-%m-%d %H:%M:%S}+00:00,,{c},,{h},,{l},,{o},,{v}"),
        {}, "SPY", "XNYS",
    ),
    "ib": ("SPY_1min.csv", ",date,open,high,low,close,volume,average,barCount\n" + lines("0,{t:%Y-%m-%d %H:%M:%S}-05:00,{o},{h},{l},{c},{v}.0,470.1,{n}", NY), {}, "SPY", "XNYS"),
    "ib raw": ("SPY.csv", "date,open,high,low,close,volume,average,barCount\n" + lines("{t:%Y%m%d  %H:%M:%S},{o},{h},{l},{c},{v},470.1,{n}", NY), {"timezone": "America/New_York"}, "SPY", "XNYS"),
    "ib with a zone": ("SPY.csv", "date,open,high,low,close,volume,average,barCount\n" + lines("{t:%Y%m%d %H:%M:%S} America/New_York,{o},{h},{l},{c},{v},470.1,{n}", NY), {}, "SPY", "XNYS"),
    "alpaca": ("bars.csv", "symbol,timestamp,open,high,low,close,volume,trade_count,vwap\n" + lines("SPY,{t:%Y-%m-%d %H:%M:%S}+00:00,{o},{h},{l},{c},{v}.0,{n}.0,470.3"), {}, "SPY", "XNYS"),
    "alpaca json": ("bars.json", json.dumps({"bars": {"SPY": [{"t": f"{ts:%Y-%m-%dT%H:%M:%SZ}", "o": o, "h": h, "l": low, "c": c, "v": v, "n": n, "vw": 470.3} for ts, o, h, low, c, v, n in BARS]}, "next_page_token": None}), {}, "SPY", "XNYS"),
    "polygon": ("us_stocks_sip/minute_aggs_v1/2024/01/2024-01-16.csv", "ticker,volume,open,close,high,low,window_start,transactions\n" + lines("SPY,{v},{o},{c},{h},{l},{s}000000000,{n}"), {}, "SPY", "XNYS"),
    "polygon json": ("SPY.json", json.dumps({"ticker": "SPY", "results": [{"v": v, "o": o, "c": c, "h": h, "l": low, "t": int(ts.timestamp() * 1000), "n": n} for ts, o, h, low, c, v, n in BARS]}), {}, "SPY", "XNYS"),
    "databento": ("xnas-itch-20240116.ohlcv-1m.csv", DATABENTO + fixed("{s}000000000,33,2,15144,{o},{h},{l},{c},{v},SPY"), {}, "SPY", "XNYS"),
    "databento decimals": ("xnas-itch-20240116.ohlcv-1m.csv", DATABENTO + lines("{t:%Y-%m-%dT%H:%M:%S}.000000000Z,33,2,15144,{o:.9f},{h:.9f},{l:.9f},{c:.9f},{v},SPY"), {}, "SPY", "XNYS"),
    "schwab": ("SPY.csv", "open,high,low,close,volume,datetime\n" + lines("{o},{h},{l},{c},{v},{s}000"), {}, "SPY", "XNYS"),
    "schwab json": ("pricehistory.json", json.dumps({"symbol": "SPY", "empty": False, "candles": [{"open": o, "high": h, "low": low, "close": c, "volume": v, "datetime": int(ts.timestamp() * 1000)} for ts, o, h, low, c, v, n in BARS]}), {}, "SPY", "XNYS"),
    "twelvedata": ("SPY_1min.csv", "datetime;open;high;low;close;volume\n" + lines("{t:%Y-%m-%d %H:%M:%S};{o:.5f};{h:.5f};{l:.5f};{c:.5f};{v}", NY, rows=BARS[::-1]), {"timezone": "America/New_York"}, "SPY", "XNYS"),
    "twelvedata json": (
        "SPY.json",
        json.dumps({"meta": {"symbol": "SPY", "interval": "1min", "exchange_timezone": "America/New_York"}, "values": [{"datetime": f"{ts.astimezone(NY):%Y-%m-%d %H:%M:%S}", "open": str(o), "high": str(h), "low": str(low), "close": str(c), "volume": str(v)} for ts, o, h, low, c, v, n in BARS[::-1]], "status": "ok"}),
        {}, "SPY", "XNYS",
    ),
    "tiingo": ("SPY.csv", "date,close,high,low,open,volume\n" + lines("{t:%Y-%m-%dT%H:%M:%S}.000Z,{c},{h},{l},{o},{v}.0"), {}, "SPY", "XNYS"),
    "eodhd": ("SPY.US.csv", "Timestamp,Gmtoffset,Datetime,Open,High,Low,Close,Volume\n" + lines("{s},0,{t:%Y-%m-%d %H:%M:%S},{o},{h},{l},{c},{v}"), {}, "SPY.US", "XNYS"),
    "alphavantage": ("intraday_1min_SPY.csv", "timestamp,open,high,low,close,volume\n" + lines("{t:%Y-%m-%d %H:%M:%S},{o},{h},{l},{c},{v}", NY, rows=BARS[::-1]), {"timezone": "America/New_York"}, "SPY", "XNYS"),
    "tradingview": ("BATS_SPY, 1.csv", "time,open,high,low,close,Volume,Volume MA\n" + lines("{s},{o},{h},{l},{c},{v},NaN"), {}, "SPY", "XNYS"),
    "tradingview iso": ("BATS_SPY, 1_1a2b3.csv", "time,open,high,low,close,Volume\n" + lines("{t:%Y-%m-%dT%H:%M:%S}-05:00,{o},{h},{l},{c},{v}", NY), {}, "SPY", "XNYS"),
    "ninjatrader": ("SPY.Last.txt", lines("{t:%Y%m%d %H%M%S};{o};{h};{l};{c};{v}", shift=MINUTE), {}, "SPY", "XNYS"),
    "ninjatrader by option": ("SPY.txt", lines("{t:%Y%m%d %H%M%S};{o};{h};{l};{c};{v}", shift=MINUTE), {"layout": "ninjatrader"}, "SPY", "XNYS"),
    "ninjatrader-futures": ("ES 03-24.Last.txt", lines("{t:%Y%m%d %H%M%S};{o};{h};{l};{c};{v}", shift=MINUTE), {}, "ES.202403", "CME_INDEX"),
    "mt5": ("EURUSD_M1_202401161430_202401161432.csv", MT_HEADER + lines("{t:%Y.%m.%d}\t{t:%H:%M:%S}\t{o}\t{h}\t{l}\t{c}\t{v}\t0\t2"), {"timezone": "UTC"}, "EURUSD", "FX"),
    "mt5 of a stock": ("SPY_M1_202401161430_202401161432.csv", MT_HEADER + lines("{t:%Y.%m.%d}\t{t:%H:%M:%S}\t{o}\t{h}\t{l}\t{c}\t3\t{v}\t2"), {"timezone": "UTC"}, "SPY", "XNYS"),
    "mt4": ("EURUSD1.csv", lines("{t:%Y.%m.%d},{t:%H:%M},{o},{h},{l},{c},{v}"), {"timezone": "UTC"}, "EURUSD", "FX"),
    "mt4 by option": ("EURUSD.csv", lines("{t:%Y.%m.%d},{t:%H:%M},{o},{h},{l},{c},{v}"), {"layout": "mt4", "timezone": "UTC"}, "EURUSD", "FX"),
    "kibot": ("SPY.txt", lines("{t:%m/%d/%Y},{t:%H:%M},{o},{h},{l},{c},{v}", NY), {"layout": "kibot"}, "SPY", "XNYS"),
    "firstrate": ("SPY_full_1min_adjsplitdiv.txt", lines("{t:%Y-%m-%d %H:%M:%S},{o},{h},{l},{c},{v}", NY), {"timezone": "America/New_York"}, "SPY", "XNYS"),
    "firstrate by option": ("SPY.txt", lines("{t:%Y-%m-%d %H:%M:%S},{o},{h},{l},{c},{v}", NY), {"layout": "firstrate", "timezone": "America/New_York"}, "SPY", "XNYS"),
    "histdata": ("DAT_ASCII_EURUSD_M1_2024.csv", lines("{t:%Y%m%d %H%M%S};{o};{h};{l};{c};{v}", EST), {}, "EURUSD", "FX"),
    "histdata zip": ("HISTDATA_COM_ASCII_EURUSD_M12024.zip", zipped("DAT_ASCII_EURUSD_M1_2024.csv", lines("{t:%Y%m%d %H%M%S};{o};{h};{l};{c};{v}", EST)), {}, "EURUSD", "FX"),
    "histdata-mt": ("DAT_MT_EURUSD_M1_2024.csv", lines("{t:%Y.%m.%d},{t:%H:%M},{o},{h},{l},{c},{v}", EST), {}, "EURUSD", "FX"),
    "dukascopy": ("EURUSD_Candlestick_1_M_BID_16.01.2024-16.01.2024.csv", "Gmt time,Open,High,Low,Close,Volume\n" + lines("{t:%d.%m.%Y %H:%M:%S}.000,{o},{h},{l},{c},{v}"), {}, "EURUSD", "FX"),
    "dukascopy utc": ("EURUSD_1 Min_Bid_2024.01.16_2024.01.16.csv", "Time (UTC),Open,High,Low,Close,Volume \n" + lines("{t:%Y.%m.%d %H:%M:%S},{o},{h},{l},{c},{v}"), {}, "EURUSD", "FX"),
    "dukascopy local": ("EURUSD_Candlestick_1_M_BID_16.01.2024-16.01.2024.csv", "Local time,Open,High,Low,Close,Volume\n" + lines("{t:%d.%m.%Y %H:%M:%S}.000 GMT+0100,{o},{h},{l},{c},{v}", BERLIN), {}, "EURUSD", "FX"),
    "dukascopy-node": ("eurusd-m1-bid-2024-01-16-2024-01-17.csv", "timestamp,open,high,low,close,volume\n" + lines("{s}000,{o},{h},{l},{c},{v}"), {}, "EURUSD", "FX"),
    "stooq": ("spy.us.txt", "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n" + lines("SPY.US,1,{t:%Y%m%d},{t:%H%M%S},{o},{h},{l},{c},{v},0", WARSAW), {"timezone": "Europe/Warsaw"}, "SPY.US", "XNYS"),
    "sierrachart": ("SPY.txt", "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume\n" + lines("{t.year}/{t.month}/{t.day}, {t:%H:%M:%S}, {o}, {h}, {l}, {c}, {v}, {n}, 3, 4", NY), {"timezone": "America/New_York"}, "SPY", "XNYS"),
    "sierrachart study": ("SPY.csv", "Date, Time, Open, High, Low, Last, Volume, # of Trades, OHLC Avg, HLC Avg, HL Avg, Bid Volume, Ask Volume\n" + lines("{t:%Y-%m-%d}, {t:%H:%M:%S.%f}, {o}, {h}, {l}, {c}, {v}, {n}, 1, 1, 1, 3, 4", NY), {"timezone": "America/New_York"}, "SPY", "XNYS"),
    "algoseek": ("20240116/S/SPY.csv", "Date,Ticker,TimeBarStart,FirstTradePrice,HighTradePrice,LowTradePrice,LastTradePrice,VolumeWeightPrice,Volume,TotalTrades\n" + lines("{t:%Y%m%d},SPY,{t:%H:%M},{o},{h},{l},{c},470.3,{v},{n}", NY), {"timezone": "America/New_York"}, "SPY", "XNYS"),
    "lseg": ("SPY.csv", "#RIC,Domain,Date-Time,GMT Offset,Type,Open,High,Low,Last,Volume,No. Trades\n" + lines("SPY.P,Market Price,{t:%Y-%m-%dT%H:%M:%S}.000000000Z,-5,Intraday 1Min,{o},{h},{l},{c},{v},{n}"), {}, "SPY.P", "XNYS"),
    "kraken": ("XBTUSD_1.csv", lines("{s},{o},{h},{l},{c},{v},{n}"), {}, "XBTUSD", "24/7"),
    "binance": ("BTCUSDT-1m-2024-01-16.zip", zipped("BTCUSDT-1m-2024-01-16.csv", lines(BINANCE)), {}, "BTCUSDT", "24/7"),
    "binance month": ("BTCUSDT-1m-2024-01.zip", zipped("BTCUSDT-1m-2024-01.csv", lines(BINANCE)), {}, "BTCUSDT", "24/7"),
    "binance us": ("BTCUSDT-1m-2025-01.zip", zipped("BTCUSDT-1m-2025-01.csv", lines(BINANCE_US)), {}, "BTCUSDT", "24/7"),
    "binance futures": (
        "BTCUSDT-1m-2024-01-16.zip",
        zipped("BTCUSDT-1m-2024-01-16.csv", "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n" + lines(BINANCE)),
        {}, "BTCUSDT", "24/7",
    ),
    "cryptodatadownload": ("Binance_BTCUSDT_2024_minute.csv", "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount\n" + lines("{s}000,{t:%Y-%m-%d %H:%M:%S},BTC/USDT,{o},{h},{l},{c},{v},9,{n}", rows=BARS[::-1]), {}, "BTCUSDT", "24/7"),
    "cryptodatadownload seconds": ("Bitstamp_BTCUSD_minute.csv", "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USD\n" + lines("{s},{t:%Y-%m-%d %H:%M:%S},BTC/USD,{o},{h},{l},{c},{v},9", rows=BARS[::-1]), {}, "BTCUSD", "24/7"),
    "ccxt": ("BTC_USDT-1m.csv", "timestamp,open,high,low,close,volume\n" + lines("{s}000,{o},{h},{l},{c},{v}"), {}, "BTCUSDT", "24/7"),
    "excel us": ("SPY.csv", "\ufeffDate,Open,High,Low,Close,Volume\r\n" + lines("{t.month}/{t.day}/{t.year} {t.hour}:{t:%M},{o},{h},{l},{c},{v}", NY), {"timezone": "America/New_York"}, "SPY", "XNYS"),
    "excel german": ("SPY.csv", "Datum;Eröffnung;Hoch;Tief;Schluss;Volumen\n" + comma(lines("{t:%d}@{t:%m}@{t:%Y %H:%M};{o};{h};{l};{c};{v}", BERLIN)).replace("@", "."), {"timezone": "Europe/Berlin", "decimal": ","}, "SPY", "XNYS"),
    "pandas": ("SPY.csv", ",open,high,low,close,volume\n" + lines("{t:%Y-%m-%d %H:%M:%S}+00:00,{o},{h},{l},{c},{v}"), {}, "SPY", "XNYS"),
}  # fmt: skip


def write(folder, path, content):
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)
    return target


@pytest.mark.parametrize("name", FEEDS)
def test_load_files_of_a_vendor_gives_every_bar(tmp_path, name):
    path, content, options, symbol, calendar = FEEDS[name]
    write(tmp_path, path, content)
    bars = engine.load(tmp_path, calendar, **options).bars(interval="1m")
    read_bars = bars.select(
        pl.col("symbol").cast(pl.String),
        pl.col("ts").cast(pl.Datetime("us", "UTC")),
        "open",
        "high",
        "low",
        "close",
        "volume",
    )
    assert read_bars.sort("ts").rows() == [(symbol, *row[:-1]) for row in BARS]


def only_batch(folder, path, content, **options):
    given = ReadOptions(**options)
    (file,), _ = scan([write(folder, path, content)], given)
    (batch,) = read(file, given)
    return batch


def test_read_investing_takes_the_price_as_close_and_volumes_with_letters(tmp_path):
    text = '"Date","Price","Open","High","Low","Vol.","Change %"\n"01/16/2024","4,765.98","4,772.35","4,782.34","4,747.12","1.25M","-0.37%"\n"01/12/2024","4,783.83","4,791.18","4,802.40","4,768.98","-","0.08%"\n'
    batch = only_batch(tmp_path, "S&P 500 Historical Data.csv", text, time_format="%m/%d/%Y", interval="1d")
    assert batch.frame.select("symbol", "open", "high", "low", "close", "volume").rows() == [
        ("S&P 500", 4772.35, 4782.34, 4747.12, 4765.98, 1_250_000.0),
        ("S&P 500", 4791.18, 4802.40, 4768.98, 4783.83, None),
    ]


def test_read_nasdaq_takes_close_last_and_leaves_out_dollar_signs(tmp_path):
    text = "Date,Close/Last,Volume,Open,High,Low\n01/16/2024,$183.63,65603040,$182.16,$184.26,$180.934\n"
    batch = only_batch(tmp_path, "HistoricalData_1705500000000.csv", text, symbol="AAPL", interval="1d")
    assert batch.frame.select("ts", "open", "high", "low", "close", "volume").row(0)[1:] == (
        182.16,
        184.26,
        180.934,
        183.63,
        65603040.0,
    )
    assert batch.frame["ts"][0].date() == dt.date(2024, 1, 16)


def test_read_ib_takes_minus_one_as_no_volume_average_and_count(tmp_path):
    text = "date,open,high,low,close,volume,average,barCount\n2024-01-16 14:30:00+00:00,1.1,1.2,1.0,1.1,-1.0,-1.0,-1\n2024-01-16 14:31:00+00:00,1.1,1.2,1.0,1.1,-1.0,-1.0,-1\n"
    batch = only_batch(tmp_path, "EURUSD_1m.csv", text)
    assert batch.rejects.is_empty()
    assert batch.frame.select("volume", "vwap", "trades").unique().rows() == [(None, None, None)]


def test_read_mt5_notes_that_the_tick_volume_was_taken(tmp_path):
    path, content, options, *_ = FEEDS["mt5"]
    assert (
        "volume: the column '<TICKVOL>', numbers of ticks, as '<VOL>' is all zero"
        in only_batch(tmp_path, path, content, **options).notes
    )
    path, content, options, *_ = FEEDS["mt5 of a stock"]
    assert not any(
        "TICKVOL" in note and "all zero" in note for note in only_batch(tmp_path, path, content, **options).notes
    )


def test_read_databento_notes_that_integers_were_scaled(tmp_path):
    path, content, *_ = FEEDS["databento"]
    assert "layout databento: prices are integers, multiples of 1e-9" in only_batch(tmp_path, path, content).notes


def test_read_stooq_takes_the_interval_of_its_column_and_refuses_several(tmp_path):
    header = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    row = "SPY.US,{},20240116,{},470,471,469,470.5,1000,0\n"
    batch = only_batch(tmp_path, "spy.us.txt", header + row.format(5, 153000), timezone="Europe/Warsaw")
    assert str(batch.interval) == "5m"
    with pytest.raises(SourceError, match="bars of 5m, 1h in one table"):
        only_batch(
            tmp_path, "spy.us.txt", header + row.format(5, 153000) + row.format(60, 160000), timezone="Europe/Warsaw"
        )


AT = dt.datetime(2024, 1, 16, 14, 30, tzinfo=dt.UTC)
MILLISECONDS = dt.timedelta(milliseconds=123)
# By layout: file, content, options, symbol, stamp, columns and their values.
TICKS = {
    "kibot-ticks": ("SPY.txt", "01/16/2024,09:30:00,470.25,470.2,470.3,100\n", {"layout": "kibot-ticks"}, "SPY", AT, ("price", "size"), (470.25, 100.0)),
    "kraken-trades": ("XBTUSD.csv", "1705415400,42000.1,0.25\n", {"layout": "kraken-trades"}, "XBTUSD", AT, ("price", "size"), (42000.1, 0.25)),
    "histdata-ticks": ("DAT_ASCII_EURUSD_T_202401.csv", "20240116 093000123,1.0950,1.0951,0\n", {}, "EURUSD", AT + MILLISECONDS, ("bid", "ask"), (1.095, 1.0951)),
    "dukascopy-ticks": ("EURUSD_Ticks_16.01.2024-16.01.2024.csv", "Gmt time,Ask,Bid,AskVolume,BidVolume\n16.01.2024 14:30:00.123,1.0951,1.0950,0.9,1.2\n", {}, "EURUSD", AT + MILLISECONDS, ("bid", "ask", "bid_size"), (1.095, 1.0951, 1.2)),
    "binance-trades": ("BTCUSDT-trades-2024-01-16.csv", "7,42000.1,0.25,10500.0,1705415400123,True,True\n", {}, "BTCUSDT", AT + MILLISECONDS, ("seq", "price", "size"), (7, 42000.1, 0.25)),
    "binance-aggtrades": ("BTCUSDT-aggTrades-2024-01-16.csv", "9,42000.1,0.25,7,8,1705415400123,True,True\n", {}, "BTCUSDT", AT + MILLISECONDS, ("seq", "price", "size"), (9, 42000.1, 0.25)),
}  # fmt: skip


@pytest.mark.parametrize("layout", TICKS)
def test_read_ticks_and_quotes_of_a_vendor(tmp_path, layout):
    path, content, options, symbol, at, columns, values = TICKS[layout]
    batch = only_batch(tmp_path, path, content, **options)
    assert batch.frame["ts"].to_list() == [at]
    assert batch.frame.select("symbol", *columns).row(0) == (symbol, *values)


def test_every_layout_of_the_table_has_a_feed():
    tried = {name.split(" ")[0] for name in FEEDS} | set(TICKS) | {"investing", "nasdaq"}
    assert sorted(one.name for one in VENDORS if one.columns and one.name not in tried) == []


@pytest.mark.parametrize(("path", "content", "named"), [
    ("SPY.txt", "01/16/2024,09:30,470,471,469,470.5,1000\n", "--layout kibot"),
    ("SPY.txt", "20240116 143100;470;471;469;470.5;1000\n", "--layout ninjatrader or ninjatrader-futures or histdata"),
    ("spy.csv", "1705415400,470,471,469,470.5,1000,12\n", "--layout kraken"),
])  # fmt: skip
def test_file_without_header_is_refused_naming_layouts_that_read_it(tmp_path, path, content, named):
    with pytest.raises(SourceError) as refused:
        only_batch(tmp_path, path, content, interval="1m")
    assert named in refused.value.reason
    for layout in named.removeprefix("--layout ").split(" or "):
        assert only_batch(tmp_path, path, content, interval="1m", layout=layout).frame.height == 1


@pytest.mark.parametrize(("row", "columns"), [
    ("16.01.2024,14:30,470,471,469,470.5,1000", "date=1,time=2,open=3,high=4,low=5,close=6,volume=7"),
    ("SPY,2024-01-16 14:30:00,470,471,469,470.5,1000", "symbol=1,ts=2,open=3,high=4,low=5,close=6,volume=7"),
    ("2024-01-16 14:30:00,470,471,469,470.5,1000", "ts=1,open=2,high=3,low=4,close=5,volume=6"),
])  # fmt: skip
def test_columns_that_a_refusal_proposes_read_the_file(tmp_path, row, columns):
    with pytest.raises(SourceError) as refused:
        only_batch(tmp_path, "SPY_1m.csv", row + "\n")
    assert refused.value.reason.endswith(f"--columns {columns}")
    stated = dict(pair.split("=") for pair in columns.split(","))
    batch = only_batch(tmp_path, "SPY_1m.csv", row + "\n", columns=stated, timezone="UTC")
    assert batch.frame.select("symbol", "open", "close", "volume").row(0) == ("SPY", 470.0, 470.5, 1000.0)


def test_decimal_comma_is_read_where_no_other_spelling_reads_the_file_and_noted(tmp_path):
    header = "timestamp;open;high;low;close\n"
    batch = only_batch(tmp_path, "SPY_1m.csv", header + "2024-01-16T14:30:00Z;1.470,5;1.471,25;1.469;1.470,5\n" * 30)
    assert batch.frame["high"].unique().to_list() == [1471.25]
    assert any(note.startswith("numbers have a decimal comma (--decimal , --thousands .)") for note in batch.notes)
    with pytest.raises(SourceError, match=r"give --thousands , .* or --decimal ,"):
        only_batch(tmp_path, "SPY_1m.csv", header + "2024-01-16T14:30:00Z;1,470;1,471;1,469;1,470\n" * 30)


def test_layout_that_does_not_fit_is_refused_naming_what_it_needs(tmp_path):
    with pytest.raises(SourceError, match="layout kibot does not fit its first line"):
        only_batch(tmp_path, "SPY.txt", "2024-01-16 09:30:00,470,471,469,470.5,1000\n", layout="kibot")
    with pytest.raises(SourceError, match="layout eodhd has the columns Timestamp, Gmtoffset, Datetime"):
        only_batch(tmp_path, "SPY.csv", "date,open,high,low,close\n2024-01-16,1,1,1,1\n", layout="eodhd")
