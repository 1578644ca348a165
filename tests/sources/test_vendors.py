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


@pytest.mark.parametrize(("name", "header"), [
    ("DAX Historische Daten.csv", '"Datum","Zuletzt","Eröffn.","Hoch","Tief","Vol.","+/- %"'),
    ("Datos históricos DAX.csv", '"Fecha","Último","Apertura","Máximo","Mínimo","Vol.","% var."'),
    ("DAX - Données Historiques.csv", '"Date","Dernier","Ouv."," Plus Haut","Plus Bas","Vol.","Variation %"'),
])  # fmt: skip
def test_read_investing_of_other_countries_reads_letters_behind_decimal_commas(tmp_path, name, header):
    text = header + '\n"16.01.2024","16.571,68","16.560,20","16.600,10","16.500,00","85,66M","-0,30%"\n'
    batch = only_batch(tmp_path, name, text, decimal=",", thousands=".", interval="1d")
    assert batch.frame.select("symbol", "open", "high", "low", "close", "volume").rows() == [
        ("DAX", 16560.2, 16600.1, 16500.0, 16571.68, 85_660_000.0)
    ]


def test_read_backslash_n_of_a_database_is_a_missing_value(tmp_path):
    text = "ts\topen\thigh\tlow\tclose\tvolume\n2024-01-16 14:30:00+00\t1\t1\t1\t1\t\\N\n"
    batch = only_batch(tmp_path, "SPY_1m.tsv", text)
    assert (batch.frame["volume"].to_list(), batch.rejects.height) == ([None], 0)


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
DAY = dt.datetime(2024, 1, 16, tzinfo=dt.UTC)
ALGOSEEK = "Date,Timestamp,EventType,Ticker,Price,Quantity,Exchange,Conditions\n"
LSEG = (
    "#RIC,Domain,Date-Time,GMT Offset,Type,Ex/Cntrb.ID,Price,Volume,Bid Price,Bid Size,Ask Price,Ask Size,Qualifiers\n"
)
# By layout: file, content, options, symbol, stamp, columns and their values.
ROWS = {
    "kibot-ticks": ("SPY.txt", "01/16/2024,09:30:00,470.25,470.2,470.3,100\n", {"layout": "kibot-ticks"}, "SPY", AT, ("price", "size"), (470.25, 100.0)),
    "kraken-trades": ("XBTUSD.csv", "1705415400,42000.1,0.25\n", {"layout": "kraken-trades"}, "XBTUSD", AT, ("price", "size"), (42000.1, 0.25)),
    "histdata-ticks": ("DAT_ASCII_EURUSD_T_202401.csv", "20240116 093000123,1.0950,1.0951,0\n", {}, "EURUSD", AT + MILLISECONDS, ("bid", "ask"), (1.095, 1.0951)),
    "dukascopy-ticks": ("EURUSD_Ticks_16.01.2024-16.01.2024.csv", "Gmt time,Ask,Bid,AskVolume,BidVolume\n16.01.2024 14:30:00.123,1.0951,1.0950,0.9,1.2\n", {}, "EURUSD", AT + MILLISECONDS, ("bid", "ask", "bid_size"), (1.095, 1.0951, 1.2)),
    "binance-trades": ("BTCUSDT-trades-2024-01-16.csv", "7,42000.1,0.25,10500.0,1705415400123,True,True\n", {}, "BTCUSDT", AT + MILLISECONDS, ("seq", "price", "size"), (7, 42000.1, 0.25)),
    "kibot-days": ("SPY.txt", "01/16/2024,470.25,471.5,469.75,470.5,1200\n", {"layout": "kibot-days", "interval": "1d"}, "SPY", DAY, ("open", "close", "volume"), (470.25, 470.5, 1200.0)),
    "ninjatrader-days": ("SPY.Last.txt", "20240116;470.25;471.5;469.75;470.5;1200\n", {"interval": "1d"}, "SPY", DAY, ("open", "close", "volume"), (470.25, 470.5, 1200.0)),
    "ninjatrader-ticks": ("ES 03-24.Last.txt", "20240116 143000 1230000;4770.25;4770;4770.25;3\n", {}, "ES.202403", AT + MILLISECONDS, ("price", "size"), (4770.25, 3.0)),
    "ninjatrader-seconds": ("SPY.Last.txt", "20240116 143000;470.25;100\n", {}, "SPY", AT, ("price", "size"), (470.25, 100.0)),
    "mt5-ticks": ("EURUSD_202401161430_202401161500.csv", "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\n2024.01.16\t14:30:00.123\t1.0950\t\t\t\t2\n", {"timezone": "UTC"}, "EURUSD", AT + MILLISECONDS, ("bid", "ask"), (1.095, None)),
    "mt5-python-ticks": ("EURUSD.csv", "time,bid,ask,last,volume,time_msc,flags,volume_real\n1705415400,1.0950,1.0951,0.0,0,1705415400123,134,0.0\n", {}, "EURUSD", AT + MILLISECONDS, ("bid", "ask"), (1.095, 1.0951)),
    "polygon-trades": ("trades_v1/2024-01-16.csv", 'ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,sip_timestamp,size,tape,trf_id,trf_timestamp\nSPY,"12,37",0,11,1,1705415400000000000,470.25,5,1705415400123000000,100,3,0,0\n', {}, "SPY", AT + MILLISECONDS, ("seq", "price", "size"), (5, 470.25, 100.0)),
    "polygon-quotes": ("quotes_v1/2024-01-16.csv", "ticker,ask_exchange,ask_price,ask_size,bid_exchange,bid_price,bid_size,conditions,indicators,participant_timestamp,sequence_number,sip_timestamp,tape,trf_timestamp\nSPY,11,470.26,3,8,470.25,2,1,,1705415400000000000,5,1705415400123000000,3,0\n", {}, "SPY", AT + MILLISECONDS, ("seq", "bid", "ask", "bid_size"), (5, 470.25, 470.26, 2.0)),
    "databento-book": ("xnas-itch-20240116.mbp-1.csv", "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,symbol\n1705415400123000009,1705415400123000000,1,2,38,A,B,0,469000000000,7,470250000000,470260000000,2,3,SPY\n", {}, "SPY", AT + MILLISECONDS, ("bid", "ask", "bid_size"), (470.25, 470.26, 2.0)),
    "histdata-bid": ("DAT_NT_EURUSD_T_BID_202401.csv", "20240116 093000;1.0950;0\n", {}, "EURUSD", AT, ("bid", "ask"), (1.095, None)),
    "histdata-ask": ("DAT_NT_EURUSD_T_ASK_202401.csv", "20240116 093000;1.0951;0\n", {}, "EURUSD", AT, ("bid", "ask"), (None, 1.0951)),
    "histdata-last": ("DAT_NT_EURUSD_T_LAST_202401.csv", "20240116 093000;1.0951;0\n", {}, "EURUSD", AT, ("price", "size"), (1.0951, 0.0)),
    "metastock": ("DAT_MS_EURUSD_M1_202401.csv", "<TICKER>,<DTYYYYMMDD>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>\nEURUSD,20240116,093000,1.1,1.3,1.0,1.2,0\n", {"timezone": "Etc/GMT+5"}, "EURUSD", AT, ("open", "close", "volume"), (1.1, 1.2, 0.0)),
    "sierrachart-ticks": ("ES.txt", "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume\n2024/1/16, 09:30:00.123000, 0.00, 4770.25, 4770.00, 4770.25, 2, 1, 0, 2\n", {"layout": "sierrachart-ticks", "timezone": "America/New_York"}, "ES", AT + MILLISECONDS, ("price", "size"), (4770.25, 2.0)),
    "algoseek-ticks": ("SPY.csv", ALGOSEEK + "20240116,09:30:00.123,QUOTE BID NB,SPY,470.24,9,ARCA,1\n20240116,09:30:00.123,TRADE NB,SPY,470.25,100,NASDAQ,201\n", {"timezone": "America/New_York"}, "SPY", AT + MILLISECONDS, ("price", "size"), (470.25, 100.0)),
    "lseg-ticks": ("N123.csv", LSEG + "SPY.P,Market Price,2024-01-16T14:30:00.123000000Z,-5,Quote,,,,470.24,2,470.26,3,R\nSPY.P,Market Price,2024-01-16T14:30:00.123000000Z,-5,Trade,NAS,470.25,100,,,,,@\n", {}, "SPY.P", AT + MILLISECONDS, ("price", "size", "conditions"), (470.25, 100.0, "@")),
    "lseg-quotes": ("N123.csv", LSEG + "SPY.P,Market Price,2024-01-16T14:30:00.123000000Z,-5,Quote,,,,470.24,2,470.26,3,R\nSPY.P,Market Price,2024-01-16T14:30:00.123000000Z,-5,Trade,NAS,470.25,100,,,,,@\n", {"layout": "lseg-quotes"}, "SPY.P", AT + MILLISECONDS, ("bid", "ask", "ask_size"), (470.24, 470.26, 3.0)),
    "kraken-api": ("XBTUSD.json", '{"error":[],"result":{"XXBTZUSD":[[1705415400,"1.1","1.3","1.0","1.2","1.15","7.5",3]],"last":1705415400}}', {"layout": "kraken-api", "interval": "1m"}, "XBTUSD", AT, ("open", "high", "close", "volume", "vwap"), (1.1, 1.3, 1.2, 7.5, 1.15)),
    "coinbase-api": ("BTC-USD.json", "[[1705415400,1.0,1.3,1.1,1.2,7.5]]", {"layout": "coinbase-api", "interval": "1m"}, "BTC-USD", AT, ("open", "high", "low", "close", "volume"), (1.1, 1.3, 1.0, 1.2, 7.5)),
    "bitfinex-api": ("BTCUSD.json", "[[1705415400000,1.1,1.2,1.3,1.0,7.5]]", {"layout": "bitfinex-api", "interval": "1m"}, "BTCUSD", AT, ("open", "high", "low", "close", "volume"), (1.1, 1.3, 1.0, 1.2, 7.5)),
    "bybit-api": ("BTCUSDT.json", '{"result":{"symbol":"BTCUSDT","list":[["1705415400000","1.1","1.3","1.0","1.2","7.5","8.5"]]}}', {"layout": "bybit-api", "interval": "1m"}, "BTCUSDT", AT, ("open", "high", "low", "close", "volume"), (1.1, 1.3, 1.0, 1.2, 7.5)),
    "okx-api": ("BTC-USDT.json", '{"code":"0","data":[["1705415400000","1.1","1.3","1.0","1.2","7.5","8","9","1"]]}', {"layout": "okx-api", "interval": "1m"}, "BTC-USDT", AT, ("open", "high", "low", "close", "volume"), (1.1, 1.3, 1.0, 1.2, 7.5)),
    "ohlcv-lists": ("BTCUSDT.json", "[[1705415400000,1.1,1.3,1.0,1.2,7.5]]", {"layout": "ohlcv-lists", "interval": "1m"}, "BTCUSDT", AT, ("open", "high", "low", "close", "volume"), (1.1, 1.3, 1.0, 1.2, 7.5)),
    "binance-book": ("BTCUSDT-bookTicker-2024-01-16.csv", "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time\n9,42000.1,2,42000.2,3,1705415400123,1705415400130\n", {}, "BTCUSDT", AT + MILLISECONDS, ("seq", "bid", "ask", "bid_size"), (9, 42000.1, 42000.2, 2.0)),
    "fxcm": ("EURUSD_2024_3.csv", "DateTime,BidOpen,BidHigh,BidLow,BidClose,AskOpen,AskHigh,AskLow,AskClose\n01/16/2024 14:30:00.000,1.1,1.3,1.0,1.2,1.2,1.4,1.1,1.3\n", {"interval": "1m", "price_types": ("ask",)}, "EURUSD", AT, ("open", "high", "close"), (1.2, 1.4, 1.3)),
    "quantquote": ("allstocks_20240116/table_spy.csv", "20240116,930,470.25,471.5,469.75,470.5,1200,1,0,0\n", {"interval": "1m"}, "SPY", AT, ("open", "close", "volume"), (470.25, 470.5, 1200.0)),
    "barchart": ("spy_intraday-1min_historical-data-01-16-2024.csv", 'Time,Open,High,Low,Last,Change,%Chg,Volume\n01/16/2024 08:30,470.25,471.5,469.75,470.5,-1.2,-0.25%,1200\n"Downloaded from Barchart.com as of 01-16-2024 05:01pm CST"\n', {"timezone": "America/Chicago"}, "SPY", AT, ("open", "close", "volume"), (470.25, 470.5, 1200.0)),
    "cryptodatadownload-usd": ("Coinbase_BTCUSD_1h.csv", "https://www.CryptoDataDownload.com\nDate,Symbol,Open,High,Low,Close,Volume BTC,Volume USD\n2024-01-16 02-PM,BTCUSD,1.1,1.3,1.0,1.2,7.5,9\n", {}, "BTCUSD", AT.replace(minute=0), ("open", "close", "volume"), (1.1, 1.2, 7.5)),
    "polygon-stream": ("stream.ndjson", '{"ev":"AM","sym":"SPY","v":1200,"av":9,"op":469,"vw":470.3,"o":470.25,"c":470.5,"h":471.5,"l":469.75,"a":470,"z":60,"s":1705415400000,"e":1705415460000}\n', {"interval": "1m"}, "SPY", AT, ("open", "high", "close", "volume", "vwap"), (470.25, 471.5, 470.5, 1200.0, 470.3)),
    "binance-api-trades": ("BTCUSDT.json", '[{"a":9,"p":"42000.1","q":"0.25","f":7,"l":8,"T":1705415400123,"m":true,"M":true}]', {}, "BTCUSDT", AT + MILLISECONDS, ("seq", "price", "size"), (9, 42000.1, 0.25)),
    "tradestation": ("SPY.txt", '"Date","Time","Open","High","Low","Close","Up","Down"\n01/16/2024,09:31,470.25,471.5,469.75,470.5,700,500\n', {"timezone": "America/New_York", "interval": "1m"}, "SPY", AT + MINUTE, ("open", "close", "volume"), (470.25, 470.5, None)),
    "iex": ("SPY.json", '[{"date":"2024-01-16","minute":"09:30","label":"09:30 AM","high":471.5,"low":469.75,"open":470.25,"close":470.5,"average":470.3,"volume":1200,"notional":1.5,"numberOfTrades":12}]', {"interval": "1m"}, "SPY", AT, ("open", "close", "volume", "trades"), (470.25, 470.5, 1200.0, 12)),
    "binance-aggtrades": ("BTCUSDT-aggTrades-2024-01-16.csv", "9,42000.1,0.25,7,8,1705415400123,True,True\n", {}, "BTCUSDT", AT + MILLISECONDS, ("seq", "price", "size"), (9, 42000.1, 0.25)),
}  # fmt: skip


@pytest.mark.parametrize("layout", ROWS)
def test_read_one_row_of_a_vendor(tmp_path, layout):
    path, content, options, symbol, at, columns, values = ROWS[layout]
    batch = only_batch(tmp_path, path, content, **options)
    assert batch.frame["ts"].to_list() == [at]
    assert batch.frame.select("symbol", *columns).row(0) == (symbol, *values)


def test_every_layout_of_the_table_has_a_feed():
    tried = (
        {name.split(" ")[0] for name in FEEDS}
        | set(ROWS)
        | {one.name for one in VENDORS if one.name.startswith(("investing", "nasdaq"))}
    )
    assert sorted(one.name for one in VENDORS if one.columns and one.name not in tried) == []


@pytest.mark.parametrize(("path", "content", "named"), [
    ("SPY.txt", "01/16/2024,09:30,470,471,469,470.5,1000\n", "--layout kibot"),
    ("SPY.txt", "20240116 143100;470;471;469;470.5;1000\n", "--layout ninjatrader or --layout ninjatrader-futures or --layout histdata"),
    ("spy.csv", "1705415400,470,471,469,470.5,1000,12\n", "--layout kraken"),
])  # fmt: skip
def test_file_without_header_is_refused_naming_layouts_that_read_it(tmp_path, path, content, named):
    with pytest.raises(SourceError) as refused:
        only_batch(tmp_path, path, content, interval="1m")
    assert named in refused.value.reason
    for layout in named.replace("--layout ", "").split(" or "):
        assert only_batch(tmp_path, path, content, interval="1m", layout=layout).frame.height == 1


@pytest.mark.parametrize(("row", "columns"), [
    ("16.01.2024,14:30,470,471,469,470.5,1000", "date=1,time=2,open=3,high=4,low=5,close=6,volume=7"),
    ("SPY,2024-01-16 14:30:00,470,471,469,470.5,1000", "symbol=1,ts=2,open=3,high=4,low=5,close=6,volume=7"),
    ("2024-01-16 14:30:00,470,471,469,470.5,1000", "ts=1,open=2,high=3,low=4,close=5,volume=6"),
    ("2024-01-16 14:30:00,470,470.5,471,469,1000", "ts=1,open=2,close=3,high=4,low=5,volume=6"),
    ("2024-01-16 14:30:00,469,471,470,470.5,1000", "ts=1,low=2,high=3,open=4,close=5,volume=6"),
    ("20240116,1430,470,471,469,470.5,1000", "date=1,time=2,open=3,high=4,low=5,close=6,volume=7"),
])  # fmt: skip
def test_columns_that_a_refusal_proposes_read_the_file(tmp_path, row, columns):
    with pytest.raises(SourceError) as refused:
        only_batch(tmp_path, "SPY_1m.csv", row + "\n")
    assert refused.value.reason.endswith(f"--columns {columns}")
    stated = dict(pair.split("=") for pair in columns.split(","))
    batch = only_batch(tmp_path, "SPY_1m.csv", row + "\n", columns=stated, timezone="UTC")
    assert batch.frame.select("symbol", "open", "close", "volume").row(0) == ("SPY", 470.0, 470.5, 1000.0)


@pytest.mark.parametrize(("row", "columns", "values"), [
    ("2024-01-16 14:30:00,470.25,100", "ts=1,price=2,size=3", {"price": 470.25, "size": 100.0}),
    ("SPY,20240116 14:30:00,1.09,1.09002", "symbol=1,ts=2,bid=3,ask=4", {"bid": 1.09, "ask": 1.09002}),
])  # fmt: skip
def test_columns_that_a_refusal_proposes_for_few_numbers_are_no_bars(tmp_path, row, columns, values):
    with pytest.raises(SourceError, match=f"--columns {columns}$"):
        only_batch(tmp_path, "SPY.csv", row + "\n")
    stated = dict(pair.split("=") for pair in columns.split(","))
    batch = only_batch(tmp_path, "SPY.csv", row + "\n", columns=stated, timezone="UTC")
    assert batch.frame.select(*values).row(0, named=True) == values


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


def test_read_trades_among_quotes_counts_the_quotes_that_are_left_out(tmp_path):
    path, content, options, *_ = ROWS["algoseek-ticks"]
    note = "layout algoseek-ticks: 1 rows whose EventType is not TRADE(?: NB)? left out (1 QUOTE BID NB)"
    assert note in only_batch(tmp_path, path, content, **options).notes


def test_read_databento_takes_only_trades_of_book_events_as_ticks(tmp_path):
    head = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,price,size,channel_id,order_id,flags,sequence,symbol\n"
    rows = "".join(f"9,1705415400123000000,160,2,38,{action},B,470250000000,7,0,5,0,1,SPY\n" for action in "ACTF")
    batch = only_batch(tmp_path, "xnas-itch-20240116.mbo.csv", head + rows)
    assert (batch.kind, batch.frame.height) == ("ticks", 1)


def test_file_without_header_and_without_likely_columns_is_refused_without_an_example(tmp_path):
    with pytest.raises(SourceError, match=r"name them by place: --columns ts=1,price=\.\.\.$"):
        only_batch(tmp_path, "SPY.csv", "2024-01-16 14:30:00,1,2,3,4,5,6\n")


def test_read_stamp_column_with_the_zone_in_parentheses_in_its_name(tmp_path):
    text = "Time (EET),Open,High,Low,Close,Volume\n2024.01.16 16:30:00,1.1,1.3,1.0,1.2,5\n"
    with pytest.raises(SourceError, match=r"Time \(EET\): stamps carry no zone; give --timezone Europe/Helsinki$"):
        only_batch(tmp_path, "EURUSD_1 Min_Bid_2024.01.16_2024.01.16.csv", text)
    batch = only_batch(tmp_path, "EURUSD_1 Min_Bid_2024.01.16_2024.01.16.csv", text, timezone="Europe/Helsinki")
    assert batch.frame["ts"].to_list() == [AT]


def test_read_shares_not_turnover_as_volume_where_both_have_columns(tmp_path):
    text = "Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke;Volumen\n2024-01-16;165.1;166.2;164.3;165.4;1200;198000\n"
    batch = only_batch(tmp_path, "SAP.csv", text, interval="1d")
    assert batch.frame.select("open", "close", "volume").row(0) == (165.1, 165.4, 1200.0)


def test_read_ticks_with_dates_alone_is_refused_naming_the_column_of_times(tmp_path):
    text = "DATE,TIME_M,EX,SYM_ROOT,SIZE,PRICE\n20240116,9:30:00.123456789,P,SPY,100,470.25\n"
    with pytest.raises(
        SourceError, match=r"dates without a time, which ticks must have.*--columns date=DATE,time=TIME_M$"
    ):
        only_batch(tmp_path, "SPY.csv", text)
    columns = {"date": "DATE", "time": "TIME_M"}
    batch = only_batch(tmp_path, "SPY.csv", text, columns=columns, timezone="America/New_York")
    assert batch.frame["ts"].dt.epoch("ns").to_list() == [1705415400123456789]


def test_read_names_that_differ_in_case_alone_are_refused_with_each_choice(tmp_path):
    rows = '{"t":3400000001,"T":1705415400123,"p":"42000.1"}\n{"t":3400000002,"T":1705415400124,"p":"42000.2"}\n'
    with pytest.raises(SourceError, match=r"columns t, T differ in case .* --columns ts=t, or --columns ts=T$"):
        only_batch(tmp_path, "BTCUSDT.ndjson", rows)
    assert only_batch(tmp_path, "BTCUSDT.ndjson", rows, columns={"ts": "T"}).frame["ts"][0] == AT + MILLISECONDS


def test_read_trades_among_rows_of_bid_and_ask_takes_the_trades(tmp_path):
    stamp = "2024-01-16T14:30:00Z"
    text = f"ts,type,price,size\n{stamp},bid,470.24,9\n{stamp},ask,470.26,8\n{stamp},trade,470.25,100\n"
    batch = only_batch(tmp_path, "SPY.csv", text)
    assert batch.frame.select("price", "size").rows() == [(470.25, 100.0)]
    assert "2 rows whose type is no trade left out" in batch.notes


def test_read_sides_of_the_trades_themselves_leaves_nothing_out(tmp_path):
    stamp = "2024-01-16T14:30:00Z"
    text = f"ts,side,price,size\n{stamp},bid,470.24,9\n{stamp},ask,470.26,8\n"
    assert only_batch(tmp_path, "SPY.csv", text).frame.height == 2


def contracts(names, cells):
    minutes = [f"2024-01-16T14:{minute}:00Z" for minute in range(30, 50)]
    return "\n".join(
        [f"symbol,{names},ts,open,high,low,close", *(f"ES,{cell},{ts},1,1,1,1" for cell in cells for ts in minutes)]
    )


def test_read_two_contracts_under_one_symbol_is_refused_naming_what_parts_them(tmp_path):
    text = contracts("expiry", ("2024-03-15", "2024-06-21"))
    with pytest.raises(SourceError, match=r"20 stamps come again, with another 'expiry' .*--columns symbol=expiry"):
        only_batch(tmp_path, "ES.csv", text, interval="1m")
    text = contracts("strike,right", ("470,C", "470,P", "480,C", "480,P"))
    with pytest.raises(SourceError, match=r"60 stamps come again, with another 'strike' or 'right' .*write a symbol"):
        only_batch(tmp_path, "ES.csv", text, interval="1m")


def test_read_a_revision_of_the_same_bars_is_a_correction(tmp_path):
    batch = only_batch(tmp_path, "ES.csv", contracts("revision", ("1", "2")), interval="1m")
    assert (batch.frame.height, batch.rejects.height) == (40, 0)


def test_read_bars_with_dates_alone_that_come_again_are_refused(tmp_path):
    text = "date,hour,minute,open,high,low,close\n" + "".join(
        f"2024-01-16,9,{minute},1,1,1,1\n" for minute in range(30, 50)
    )
    with pytest.raises(
        SourceError, match=r"date: dates without a time, 19 of which come again; .*--columns date=date,time="
    ):
        only_batch(tmp_path, "SPY.csv", text)


def test_read_volumes_with_letters_of_any_file_and_notes_them(tmp_path):
    text = "Date,Open,High,Low,Close,Volume\n" + "".join(f"2024-01-{day},1,2,1,2,{day}.5M\n" for day in (16, 17, 18))
    batch = only_batch(tmp_path, "SPY_1d.csv", text)
    assert batch.frame["volume"].to_list() == [16.5e6, 17.5e6, 18.5e6]
    assert "Volume: K, M, B are thousands, millions, billions" in batch.notes


def test_hint_for_text_in_every_row_proposes_no_missing_value(tmp_path):
    rows = "".join(f"2024-01-16T14:30:0{second}Z,470.25,SPY\n" for second in range(3))
    (note,) = [note for note in only_batch(tmp_path, "X.csv", "ts,price,size\n" + rows).notes if "refused" in note]
    assert note == "3 rows refused, size: unreadable; --ignore size to leave the column out"


def test_read_tradestation_takes_stamps_as_ends(tmp_path):
    path, content, options, *_ = ROWS["tradestation"]
    assert only_batch(tmp_path, path, content, **options).stamp == "end"
