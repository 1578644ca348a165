"""Table of vendors' layouts; to add a vendor, add one entry (each field is explained at `Layout`).

Entries are tried in order. The columns of a header decide, or of a file without one its first line and its name.
"""

from __future__ import annotations

from engine.sources.layouts.layout import Layout
from engine.sources.layouts.shared_names import OHLC

_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_FOUR = rf"(?:{_NUMBER},){{4}}"
_BARS = ("ts", *OHLC, "volume")
_MT_PERIOD = "M1|M5|M15|M30|H1|H4|D1|Daily|Weekly|Monthly"
_HISTDATA_NAME = r"(?:DAT|HISTDATA_COM)_{kind}_(?P<symbol>[A-Z0-9]+)_(?P<interval>M1)_?\d{{4,6}}"

VENDORS: tuple[Layout, ...] = (
    Layout(
        name="yfinance",
        title="yfinance: history(), download() with header lines of fields and tickers, of one ticker or several",
        columns=(*OHLC, "Adj Close", "Volume"),
    ),
    Layout(
        name="ib",
        title="Interactive Brokers by ib_async, ib_insync or the TWS API; -1 stands for no volume, average, count",
        columns=("average", "barCount"),
        sentinels=("-1", "-1.0"),
        sentinel_roles=("volume", "vwap", "trades"),
        say="--timezone, unless stamps carry a zone",
    ),
    Layout(
        name="alpaca",
        title="Alpaca bars, trades and quotes: CSV of a frame, or the JSON of its API",
        columns=("trade_count", "vwap", "timestamp"),
    ),
    Layout(
        name="polygon",
        title="Polygon (Massive): flat files and the JSON of its API",
        columns=("ticker", "window_start", "transactions"),
        unit="ns",
    ),
    Layout(
        name="databento",
        title="Databento CSV; prices are multiples of 1e-9 where they are integers",
        columns=("rtype", "publisher_id", "instrument_id"),
        fixed_digits=9,
        sentinels=("9223372036854775807", "9223372036.854775807", "18446744073709551615"),
        name_pattern=(
            r"[a-z]{4}-[a-z0-9]+-(?:(?P<date>\d{8})|\d{8}-\d{8})\.(?:ohlcv-(?P<interval>1[smhd])|[a-z0-9-]+)"
            r"(?:\.(?P<symbol>.+))?"
        ),
    ),
    Layout(
        name="schwab",
        title="Charles Schwab price history: JSON `candles`, or a frame of them",
        columns=(*OHLC, "volume", "datetime"),
        is_recognized=False,
        unit="ms",
    ),
    Layout(
        name="twelvedata",
        title="Twelve Data: CSV and JSON, newest first, in the exchange's local time",
        columns=("datetime", *OHLC),
        is_recognized=False,
        say="--timezone of the exchange (its JSON has it)",
    ),
    Layout(
        name="tiingo",
        title="Tiingo IEX and crypto prices",
        columns=("date", *OHLC),
        is_recognized=False,
        zone="UTC",
    ),
    Layout(
        name="eodhd",
        title="EODHD intraday: Timestamp is seconds, Datetime repeats it in UTC",
        columns=("Timestamp", "Gmtoffset", "Datetime", *OHLC),
        unit="s",
        zone="UTC",
    ),
    Layout(
        name="alphavantage",
        title="Alpha Vantage CSV, newest first, in the exchange's local time",
        columns=("timestamp", *OHLC, "volume"),
        is_recognized=False,
        say="--timezone America/New_York, of other markets theirs",
        name_pattern=r"(?:intraday(?:_extended)?_(?P<interval>\d+min)|daily|daily_adjusted)_(?P<symbol>[A-Z0-9.\-]+)",
    ),
    Layout(
        name="tradingview",
        title="TradingView's export of a chart: unix seconds or ISO, `VENUE_SYMBOL, minutes.csv`",
        columns=("time", *OHLC),
        is_recognized=False,
        name_pattern=(
            r"(?P<venue>[A-Z][A-Z0-9]*(?:_(?:MINI|DL|DLY|IDC|EOD|INDICES))?)_(?P<symbol>[A-Z0-9.!&\-]+), "
            r"(?:(?P<interval>\d{1,4}[SD]?|D)|\d*[WM])(?:_[0-9a-f]{4,6})?(?: ?\(\d+\))?"
        ),
    ),
    Layout(
        name="ninjatrader",
        title="NinjaTrader's export of minutes: no header, stamps in UTC mark the end of bars",
        columns=_BARS,
        first_line=rf"\d{{8}} \d{{6}},{_FOUR}\d+",
        zone="UTC",
        stamp="end",
        name_pattern=r"(?P<symbol>[A-Z0-9.^&\-]+)\.(?P<side>Last|Bid|Ask)",
    ),
    Layout(
        name="ninjatrader-futures",
        title="NinjaTrader's export of a contract: as ninjatrader, named `ES 03-24.Last.txt`, read as ES.202403",
        columns=_BARS,
        first_line=rf"\d{{8}} \d{{6}},{_FOUR}\d+",
        zone="UTC",
        stamp="end",
        name_pattern=r"(?P<root>[A-Z0-9]+) (?P<month>0[1-9]|1[0-2])-(?P<year>\d\d)\.(?P<side>Last|Bid|Ask)",
        symbol_format="{root}.20{year}{month}",
    ),
    Layout(
        name="mt5",
        title="MetaTrader 5: <DATE> <TIME> ... <TICKVOL> <VOL> <SPREAD>; the tick volume where <VOL> is all zero",
        columns=("<DATE>", "<OPEN>", "<TICKVOL>", "<VOL>", "<SPREAD>"),
        say="--timezone of the broker's server",
        name_pattern=rf"(?P<symbol>[^_]+)_(?:(?P<interval>{_MT_PERIOD})_)?\d{{12}}_\d{{12}}",
    ),
    Layout(
        name="mt4",
        title="MetaTrader 4: no header, YYYY.MM.DD,HH:MM, named `EURUSD1.csv` (symbol and minutes)",
        columns=("date", "time", *OHLC, "tick_volume"),
        first_line=rf"\d{{4}}\.\d\d\.\d\d,\d\d:\d\d,{_FOUR}\d+",
        time_format="%Y.%m.%d %H:%M",
        say="--timezone of the broker's server",
        name_pattern=r"(?P<symbol>[A-Z]{6}[a-z.#]{0,3})(?P<interval>1|5|15|30|60|240|1440)",
    ),
    Layout(
        name="kibot",
        title="Kibot bars: no header, MM/DD/YYYY,HH:MM in New York's time",
        columns=("date", "time", *OHLC, "volume"),
        first_line=rf"\d\d/\d\d/\d{{4}},\d\d:\d\d,{_FOUR}\d+",
        is_recognized=False,
        time_format="%m/%d/%Y %H:%M",
        zone="America/New_York",
    ),
    Layout(
        name="kibot-ticks",
        title="Kibot ticks with bid and ask: no header, MM/DD/YYYY,HH:MM:SS in New York's time",
        columns=("date", "time", "price", "bid", "ask", "size"),
        first_line=rf"\d\d/\d\d/\d{{4}},\d\d:\d\d:\d\d(?:\.\d+)?,(?:{_NUMBER},){{3}}\d+",
        is_recognized=False,
        time_format="%m/%d/%Y %H:%M:%S%.f",
        zone="America/New_York",
    ),
    Layout(
        name="firstrate",
        title="FirstRate Data: no header, YYYY-MM-DD HH:MM:SS, named `SPY_full_1min_adjsplitdiv.txt`",
        columns=_BARS,
        first_line=rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,{_FOUR}{_NUMBER}",
        say="--timezone America/New_York (crypto: UTC)",
        name_pattern=(
            r"(?P<symbol>[A-Z0-9.\-]+)(?:_full)?_(?P<interval>1min|5min|30min|1hour|1day)"
            r"(?:_(?:continuous_)?(?P<variant>adjsplitdiv|adjsplit|UNADJUSTED|(?:ratio_|absolute_)?adjusted))?(?:_sample)?"
        ),
    ),
    Layout(
        name="histdata",
        title="HistData.com minutes (ASCII): no header, New York's winter time all year",
        columns=_BARS,
        first_line=rf"\d{{8}} \d{{6}},{_FOUR}\d+",
        zone="Etc/GMT+5",
        name_pattern=_HISTDATA_NAME.format(kind="ASCII"),
    ),
    Layout(
        name="histdata-mt",
        title="HistData.com minutes (MetaTrader): no header, New York's winter time all year",
        columns=("date", "time", *OHLC, "volume"),
        first_line=rf"\d{{4}}\.\d\d\.\d\d,\d\d:\d\d,{_FOUR}\d+",
        time_format="%Y.%m.%d %H:%M",
        zone="Etc/GMT+5",
        name_pattern=_HISTDATA_NAME.format(kind="MT"),
    ),
    Layout(
        name="histdata-ticks",
        title="HistData.com ticks (ASCII): no header, stamp, bid, ask, volume, New York's winter time all year",
        columns=("ts", "bid", "ask", "volume"),
        first_line=rf"\d{{8}} \d{{9}},{_NUMBER},{_NUMBER},\d+",
        zone="Etc/GMT+5",
        name_pattern=r"(?:DAT|HISTDATA_COM)_ASCII_(?P<symbol>[A-Z0-9]+)_T_?\d{6}",
    ),
    Layout(
        name="dukascopy",
        title="Dukascopy candles: `Gmt time`, DD.MM.YYYY HH:MM:SS.fff",
        columns=("Gmt time", *OHLC),
        zone="UTC",
        name_pattern=(
            r"(?P<symbol>[A-Z0-9.]+)_(?:Candlestick_)?(?:(?P<interval>\d+[_ ](?:s|sec|m|min|mins|h|hour|hourly|d|day))|"
            r"Daily|Weekly|Monthly|\d_(?:W|Week|Mo|Month))_(?P<side>BID|ASK)_\d{2,4}\.\d\d\.\d{2,4}[-_]\d{2,4}\.\d\d\.\d{2,4}"
        ),
    ),
    Layout(
        name="dukascopy-ticks",
        title="Dukascopy ticks: Gmt time, Ask, Bid, volumes",
        columns=("Gmt time", "Ask", "Bid"),
        zone="UTC",
        name_pattern=r"(?P<symbol>[A-Z0-9.]+)_Ticks_\d\d\.\d\d\.\d{4}-\d\d\.\d\d\.\d{4}",
    ),
    Layout(
        name="stooq",
        title="Stooq: <TICKER>,<PER>,<DATE>,<TIME>; <PER> has the minutes of a bar",
        columns=("<TICKER>", "<PER>", "<DATE>", *OHLC),
        aliases={"interval": "per", "volume": "vol"},
        say="--timezone Europe/Warsaw, or that of your download",
    ),
    Layout(
        name="sierrachart",
        title="Sierra Chart's text export: Date, Time, Open, High, Low, Last, Volume, trades, bid and ask volume",
        columns=("Date", "Time", "Open", "High", "Low", "Last", "BidVolume", "AskVolume"),
        aliases={"trades": "numberoftrades oftrades"},
        say="--timezone of the chart",
    ),
    Layout(
        name="algoseek",
        title="algoseek minute bars of trades, or of trades and quotes",
        columns=("Date", "Ticker", "TimeBarStart", "FirstTradePrice", "LastTradePrice"),
        aliases={
            "time": "timebarstart",
            "open": "firsttradeprice opentradeprice",
            "high": "hightradeprice",
            "low": "lowtradeprice",
            "close": "lasttradeprice closetradeprice",
            "vwap": "volumeweightprice vwap",
            "trades": "totaltrades",
        },
        say="--timezone America/New_York, of futures America/Chicago",
    ),
    Layout(
        name="lseg",
        title="LSEG (Refinitiv) Tick History intraday summaries: #RIC is a header",
        columns=("#RIC", "Date-Time", "Open", "High", "Low", "Last"),
        aliases={"symbol": "ric", "ts": "datetime", "close": "last", "trades": "notrades", "interval": "type"},
    ),
    Layout(
        name="kraken",
        title="Kraken OHLCVT: no header, unix seconds, named `XBTUSD_1.csv` (pair and minutes)",
        columns=(*_BARS, "trades"),
        first_line=rf"\d{{10}},{_FOUR}{_NUMBER},\d+",
        unit="s",
        name_pattern=r"(?P<symbol>[A-Z0-9]{5,})_(?P<interval>1|5|15|30|60|240|720|1440)",
    ),
    Layout(
        name="kraken-trades",
        title="Kraken trades: no header, unix seconds, price, volume",
        columns=("ts", "price", "size"),
        first_line=rf"\d{{10}}(?:\.\d+)?,{_NUMBER},{_NUMBER}",
        is_recognized=False,
        unit="s",
    ),
    Layout(
        name="binance",
        title="Binance klines, daily and monthly zips: no header, ms or us (with a header, as of futures: shared names)",
        columns=(
            "open_time",
            *OHLC,
            "volume",
            "close_time",
            "quote_volume",
            "trades",
            "taker_base",
            "taker_quote",
            "ignored",
        ),
        first_line=r"(?=[^,]{13},|[^,]{16},)-?\d+(\.\d+)?(,-?\d+(\.\d+)?){11}",
    ),
    Layout(
        name="binance-trades",
        title="Binance trades of the spot market: no header, id, price, quantity, ..., stamp in ms or us",
        columns=("trade_id", "price", "qty", "quote_qty", "ts", "is_buyer_maker", "is_best_match"),
        first_line=rf"\d+,(?:{_NUMBER},){{3}}(?:\d{{13}}|\d{{16}}),(?:true|false|True|False),(?:true|false|True|False)",
    ),
    Layout(
        name="binance-aggtrades",
        title="Binance aggregate trades: no header, id, price, quantity, first and last id, stamp in ms or us",
        columns=("agg_trade_id", "price", "qty", "first_id", "last_id", "ts", "is_buyer_maker", "is_best_match"),
        first_line=rf"\d+,(?:{_NUMBER},){{2}}\d+,\d+,(?:\d{{13}}|\d{{16}}),(?:true|false|True|False)(?:,(?:true|false|True|False))?",
    ),
    Layout(
        name="binance-names",
        title="Names of Binance's files: `BTCUSDT-1m-2024-01.zip`, `BTCUSD_PERP-1m-2024-01-02.zip`",
        name_pattern=(
            r"(?P<symbol>[A-Z0-9]{4,}(?:_PERP|_\d{6})?)-(?:(?P<interval>\d+[smhd])|1w|1mo|trades|aggTrades|bookTicker)"
            r"-(?:(?P<date>\d{4}-\d\d-\d\d)|\d{4}-\d\d)"
        ),
    ),
    Layout(
        name="cryptodatadownload",
        title="CryptoDataDownload: an address above the header, unix,date,symbol, newest first",
        columns=("unix", "date", "symbol", *OHLC),
        aliases={"ts": "unix", "volume": "volume*"},
        zone="UTC",
        joined_symbols="/",
        name_pattern=(
            r"(?P<venue>[A-Z]+)_(?P<symbol>[A-Z0-9]{5,})_(?:\d{4}_)?(?P<interval>minute|1min|1h|hour|d|daily)"
        ),
    ),
    Layout(
        name="freqtrade",
        title="ccxt and freqtrade: `BTC_USDT-1m.csv`, futures `BTC_USDT_USDT-1m-futures.csv`, read as BTCUSDT.PERP",
        name_pattern=r"(?P<base>[A-Z0-9]+)_(?P<quote>[A-Z]+)_(?P=quote)-(?P<interval>\d+[smhd])-futures",
        symbol_format="{base}{quote}.PERP",
    ),
    Layout(
        name="investing",
        title="Investing.com historical data: Price is the close; volumes end in K, M, B",
        columns=("Date", "Price", "Open", "High", "Low", "Change %"),
        aliases={"close": "price"},
        sentinels=("-",),
        sentinel_roles=("volume",),
        signs=",",
        magnitudes=True,
        name_pattern=r"(?P<symbol>.+?) (?:Stock Price |Futures |ETF Stock Price )?Historical Data(?: ?\(\d+\))?",
    ),
    Layout(
        name="nasdaq",
        title="Nasdaq.com historical quotes: Close/Last, prices with a dollar sign, MM/DD/YYYY",
        columns=("Date", "Close/Last", "Volume", "Open", "High", "Low"),
        time_format="%m/%d/%Y",
        signs="$,",
        sentinels=("N/A",),
        sentinel_roles=("volume",),
    ),
    Layout(
        name="pandas",
        title="CSV or Parquet of pandas: index with a name, without one, or of symbol and time",
        columns=("Unnamed: 0", *OHLC),
        aliases={"ts": "unnamed0"},
    ),
)
