"""Names of columns that vendors share, and words of file names that name no symbol."""

from __future__ import annotations

from engine.sources.layouts.layout import Layout


def words_of(text: str) -> frozenset[str]:
    """Set of the words of a text that are divided by blanks."""
    return frozenset(text.split())


OHLC = ("open", "high", "low", "close")
SIDES = ("bid", "ask", "mid")

SHARED_NAMES = Layout(
    name="shared",
    title="names that vendors share",
    aliases={
        "ts": (
            "timestamp ts tsevent datetime timestamputc datetimeutc utc opentime starttime starttimestamp "
            "opentimestamp barstart bartime windowstart timestampms timestampns unixtimestamp unixtime unix epoch "
            "transacttime timeperiodstart gmttime localtime timeutc timegmt dateutc dategmt t datumzeit zeitstempel"
        ),
        "date": "date day tradedate yyyymmdd dtyyyymmdd datum fecha",
        "time": "time timeofday hhmmss uhrzeit zeit heure hora",
        "symbol": "symbol ticker sym instrument pair contract rawsymbol code",
        "price_type": "pricetype",
        "open": "open o openprice openpx priceopen erffnung eroeffnung erffnungskurs eroeffnungskurs erffn eroeffn erster pxopen ouverture ouv apertura",
        "high": "high h highprice highpx max pricehigh hoch hchst hoechst hchstkurs hoechstkurs pxhigh plushaut haut mximo maximo",
        "low": "low l lowprice lowpx min pricelow tief tiefst tiefstkurs pxlow plusbas bas mnimo minimo",
        "close": "close c closeprice closepx priceclose schluss schlusskurs pxlast clture cloture clot cierre",
        "volume": "volume v vol totalvolume tradedvolume volumetraded basevolume pxvolume tottrdqty stck stcke stueck stuecke volumen",
        "tick_volume": "tickvolume tickvol",
        "vwap": "vwap vw average wap avgprice",
        "trades": "trades n count transactions totaltrades tradecount numberoftrades numtrades tradescount barcount",
        "bid": "bid bidprice bidpx bidpx00 bestbid bestbidprice bidprice0 bids0price b",
        "ask": "ask askprice askpx askpx00 bestask bestaskprice askprice0 asks0price offer offerprice a",
        "bid_size": (
            "bidsize bidamount bidqty bidquantity bidvolume bidsz bidsz00 bestbidsize bestbidqty bestbidamount bids0amount"
        ),
        "ask_size": (
            "asksize askamount askqty askquantity askvolume asksz asksz00 bestasksize bestaskqty bestaskamount "
            "offersize asks0amount"
        ),
        "price": "price tradeprice lastprice last px p",
        "size": "size qty quantity amount lastsize tradesize lastquantity sz s",
        "exchange": "exchange venue ex exch market",
        "conditions": "conditions condition cond salecondition saleconditions",
        "suspicious": "suspicious",
        "seq": "seq sequence sequencenumber tradeid aggtradeid id",
        "first_id": "firsttradeid firstid",
        "last_id": "lasttradeid lastid",
        "value": "openinterest oi",
        "interval": "interval timeframe",
    }
    | {f"{side}_{part}": f"{side}{part} {part}{side}" for side in SIDES for part in OHLC},
)

# The close of a bar whose open, high and low are there, and no column of the names above.
CLOSE_NAMES = (
    "closelast",
    "last",
    "lastprice",
    "price",
    "latest",
    "settle",
    "settlement",
    "zuletzt",
    "ltimo",
    "dernier",
)

CONTENT_WORDS = words_of(
    "bar bars candle candles candlestick candlesticks kline klines ohlc ohlcv dump data quote quotes trade trades "
    "aggtrades tick ticks history historical hist historicaldata min mins intraday prices price export sample"
)
# They are set aside only beside something that may be the symbol: a stock may be called like them.
WEAK_WORDS = words_of(
    "full all table part continuous ratio back stock stocks etf etfs equity crypto forex spot "
    "download yahoo yfinance barchart marketwatch bloomberg twelve twelvedata alpaca polygon tiingo stooq eodhd kibot firstrate histdata dukascopy databento ibkr mt4 "
    "mt5 jan feb mar apr may jun jul aug sep oct nov dec january february march april june july august september "
    "october november december q1 q2 q3 q4 rth"
)
VENUES = words_of(
    "amex arca bats batsx bitfinex bitget bitmex bitstamp bybit cboe cbot cme coinbase comex deribit fxcm gateio gemini "
    "huobi kraken kucoin lse mexc nasdaq nymex nyse oanda okex okx poloniex binance binanceus tsx xetra"
)
# Names that tell series of one symbol apart: adjusted and unadjusted prices must not become one series.
ADJUSTMENTS = words_of("adj raw adjusted unadjusted unadj adjsplitdiv adjsplit adjdiv")

CRYPTO_QUOTES = words_of("USDT USDC BUSD FDUSD TUSD BTC ETH BNB")
CURRENCIES = words_of("USD EUR GBP JPY CHF AUD CAD NZD SEK NOK DKK PLN CZK HUF TRY ZAR MXN SGD HKD CNH CNY INR KRW BRL")
PRICED_IN_CURRENCIES = CURRENCIES | words_of("BTC XBT ETH SOL XRP ADA DOGE LTC BNB DOT AVAX LINK XAU XAG")
