"""Requests for bars as calls of vendors' interfaces: one row per vendor, its limits, and how it names an interval.

Calls carry no key: each vendor's own client, header or environment variable adds it. What is documented where, looked
up on 2026-12-01:

- `polygon`: `/v2/aggs/ticker/{ticker}/range/...` takes milliseconds, both ends included, and at most 50,000 base
  aggregates, which are minutes for whole minutes below a day (polygon.io/blog/aggs-api-updates), and seconds for seconds.
- `alpaca`: `/v2/stocks/bars` takes up to 10,000 bars a page, those of all symbols together, `end` included
  (alpaca.markets, as its own client asks).
- `databento`: `timeseries.get_range` takes an exclusive `end` and up to 2,000 symbols; bars of 1s, 1m, 1h and 1d
  (databento.com/docs/api-historical/timeseries).
- `binance`: `/api/v3/klines` takes milliseconds of the open, both included, and at most 1,000 bars
  (developers.binance.com, market data endpoints).

Bars of a day are stamped at a midnight, of UTC or of New York, whenever the session opens: calls for days, and longer
bars, are in whole days of UTC, which hold both.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import polars as pl

from engine.arguments import check_known
from engine.errors import ParameterError
from engine.interval import Interval

DAY = Interval(1, "d")


@dataclass(frozen=True)
class Vendor:
    """A vendor's interface for past bars.

    Attributes
    ----------
    name, title : str
    rows_per_call : int or None
        Most bars of a call; None: no limit.
    counts : str
        Interval of the bars that this limit counts, for whole multiples of it below a day; empty: those asked for.
    symbols_per_call : int
        So many symbols of equal start and end go into one call.
    interval_of : callable
        Its name of an interval; None for one that it does not have.
    call_of : callable
        The call of (symbols, name of the interval, start, exclusive end).
    """

    name: str
    title: str
    rows_per_call: int | None
    counts: str
    symbols_per_call: int
    interval_of: Callable[[Interval], str | None]
    call_of: Callable[[Sequence[str], str, dt.datetime, dt.datetime], str]

    def longest_span(self, interval: Interval) -> dt.timedelta | None:
        """Time that the bars of one call span at most; None without a limit."""
        if self.rows_per_call is None:
            return None
        counted = Interval.parse(self.counts) if self.counts else interval
        step = counted if interval.is_intraday and counted.nests_in(interval) else interval
        return dt.timedelta(seconds=step.seconds * self.rows_per_call)

    def most_symbols(self, slots: int) -> int:
        """Symbols of so many slots each that go into one call."""
        if self.rows_per_call is None:
            return self.symbols_per_call
        return max(1, min(self.symbols_per_call, self.rows_per_call // max(slots, 1)))


def vendor_calls(requests: pl.DataFrame, vendor: str) -> list[str]:
    """Calls of a vendor's interface, without keys, for requests, in order of time.

    Parameters
    ----------
    requests : DataFrame
        `symbol, interval, start, end`, and `slots` where they are known: bars that each may bring; else each step has one.
    vendor : str

    Raises
    ------
    ParameterError
        The vendor is unknown, or has no bars of an interval.
    """
    one = vendor_of(vendor)
    calls = []
    slots = pl.col("slots").max() if "slots" in requests.columns else pl.lit(None, pl.Int64)
    of_time = requests.group_by("interval", "start", "end", maintain_order=True)
    same = of_time.agg(pl.col("symbol").unique().sort(), slots.alias("slots"))
    for text, start, end, symbols, known in same.sort("start", "end", "interval").iter_rows():
        interval = Interval.parse(text)
        name = one.interval_of(interval)
        if name is None:
            raise ParameterError(f"vendor: {one.title} has no bars of {text}; valid: --format csv or json for these")
        span = (start, end) if interval.is_intraday else whole_days(start, end)
        most = one.most_symbols(known or (end - start) // dt.timedelta(seconds=interval.seconds))
        calls += [one.call_of(symbols[at : at + most], name, *span) for at in range(0, len(symbols), most)]
    return calls


def whole_days(start: dt.datetime, end: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """The days of UTC that hold [start, end)."""
    midnight = dt.time(tzinfo=dt.UTC)
    last = (end - dt.timedelta(microseconds=1)).date()
    return dt.datetime.combine(start.date(), midnight), dt.datetime.combine(last + dt.timedelta(days=1), midnight)


def vendor_of(name: str) -> Vendor:
    """The vendor of a name; ParameterError with the names that there are."""
    check_known("vendor", (name,), VENDORS)
    return VENDORS[name]


def _milliseconds(instant: dt.datetime) -> int:
    return round(instant.timestamp() * 1000)


def _last_stamp(end: dt.datetime) -> str:
    """ISO text of the last whole second before an exclusive end, for vendors whose end is included."""
    return f"{end - dt.timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"


def _polygon_call(symbols: Sequence[str], interval: str, start: dt.datetime, end: dt.datetime) -> str:
    span = f"{interval}/{_milliseconds(start)}/{_milliseconds(end) - 1}"
    return (
        f"https://api.polygon.io/v2/aggs/ticker/{quote(symbols[0], safe=':')}/range/{span}"
        "?adjusted=false&sort=asc&limit=50000"
    )


def _alpaca_call(symbols: Sequence[str], interval: str, start: dt.datetime, end: dt.datetime) -> str:
    return (
        f"https://data.alpaca.markets/v2/stocks/bars?symbols={quote(','.join(symbols), safe=',')}&timeframe={interval}"
        f"&start={start:%Y-%m-%dT%H:%M:%SZ}&end={_last_stamp(end)}&adjustment=raw&limit=10000"
    )


def _databento_call(symbols: Sequence[str], interval: str, start: dt.datetime, end: dt.datetime) -> str:
    return (
        f"client.timeseries.get_range(dataset=dataset, schema={f'ohlcv-{interval}'!r}, symbols={list(symbols)!r}, "
        f"start='{start:%Y-%m-%dT%H:%M:%SZ}', end='{end:%Y-%m-%dT%H:%M:%SZ}')"
    )


def _binance_call(symbols: Sequence[str], interval: str, start: dt.datetime, end: dt.datetime) -> str:
    return (
        f"https://api.binance.com/api/v3/klines?symbol={quote(symbols[0], safe='')}&interval={interval}"
        f"&startTime={_milliseconds(start)}&endTime={_milliseconds(end) - 1}&limit=1000"
    )


def _polygon_interval(interval: Interval) -> str | None:
    units = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
    return f"{interval.count}/{units[interval.unit]}"


def _alpaca_interval(interval: Interval) -> str | None:
    most = {"m": 59, "h": 23, "d": 1, "w": 1}.get(interval.unit, 0)
    return f"{interval.count}{ALPACA_UNITS[interval.unit]}" if interval.count <= most else None


def _databento_interval(interval: Interval) -> str | None:
    # The coarsest that it has of those that the interval is made of.
    return next((name for name in ("1d", "1h", "1m", "1s") if Interval.parse(name).nests_in(interval)), None)


def _binance_interval(interval: Interval) -> str | None:
    return {"1mo": "1M"}.get(str(interval), str(interval)) if str(interval) in BINANCE_INTERVALS else None


ALPACA_UNITS = {"m": "Min", "h": "Hour", "d": "Day", "w": "Week"}
BINANCE_INTERVALS = (
    *("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1mo"),
)
VENDORS: Mapping[str, Vendor] = {
    one.name: one
    for one in (
        Vendor("polygon", "Polygon / Massive", 50_000, "1m", 1, _polygon_interval, _polygon_call),
        Vendor("alpaca", "Alpaca", 10_000, "", 100, _alpaca_interval, _alpaca_call),
        Vendor("databento", "Databento", None, "", 2000, _databento_interval, _databento_call),
        Vendor("binance", "Binance", 1000, "", 1, _binance_interval, _binance_call),
    )
}
