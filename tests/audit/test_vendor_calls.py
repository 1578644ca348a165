"""Calls of vendors' interfaces, as their documentation writes them."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.audit.vendor_calls import VENDORS, vendor_calls, vendor_of
from engine.errors import ParameterError
from engine.interval import Interval

START = dt.datetime(2024, 1, 3, 15, 30, tzinfo=dt.UTC)  # 1704295800 seconds since 1970
END = START + dt.timedelta(minutes=20)


def asked(*symbols: str, interval: str = "1m") -> pl.DataFrame:
    return pl.DataFrame({"symbol": symbols, "interval": interval, "start": START, "end": END})


@pytest.mark.parametrize(
    ("vendor", "interval", "call"),
    [
        (
            "polygon",
            "5m",
            (
                "https://api.polygon.io/v2/aggs/ticker/BRK.B/range/5/minute/1704295800000/1704296999999"
                "?adjusted=false&sort=asc&limit=50000"
            ),
        ),
        (
            "alpaca",
            "1m",
            (
                "https://data.alpaca.markets/v2/stocks/bars?symbols=BRK.B&timeframe=1Min&start=2024-01-03T15:30:00Z"
                "&end=2024-01-03T15:49:59Z&adjustment=raw&limit=10000"
            ),
        ),
        (
            "databento",
            "5m",
            (
                "client.timeseries.get_range(dataset=dataset, schema='ohlcv-1m', symbols=['BRK.B'], "
                "start='2024-01-03T15:30:00Z', end='2024-01-03T15:50:00Z')"
            ),
        ),
        (
            "binance",
            "15m",
            (
                "https://api.binance.com/api/v3/klines?symbol=BRK.B&interval=15m&startTime=1704295800000"
                "&endTime=1704296999999&limit=1000"
            ),
        ),
    ],
)
def test_call_of_a_vendor_is_as_documented(vendor: str, interval: str, call: str) -> None:
    assert vendor_calls(asked("BRK.B", interval=interval), vendor) == [call]


def test_symbols_of_one_hole_share_a_call_where_the_vendor_takes_several() -> None:
    both = asked("QQQ", "SPY")
    assert "symbols=QQQ,SPY&" in vendor_calls(both, "alpaca")[0]
    assert "symbols=['QQQ', 'SPY']" in vendor_calls(both, "databento")[0]
    assert {name: len(vendor_calls(both, name)) for name in VENDORS} == {
        "polygon": 2, "alpaca": 1, "databento": 1, "binance": 2,
    }  # fmt: skip


def test_symbols_cannot_add_to_an_address() -> None:
    assert "symbol=A%26limit%3D1%2F..%2F&" in vendor_calls(asked("A&limit=1/../"), "binance")[0]
    assert "symbols=['A\\'; quit()']" in vendor_calls(asked("A'; quit()"), "databento")[0] or (
        'symbols=["A\'; quit()"]' in vendor_calls(asked("A'; quit()"), "databento")[0]
    )


def test_interval_that_a_vendor_lacks_is_refused() -> None:
    with pytest.raises(ParameterError, match="Binance has no bars of 7m"):
        vendor_calls(asked("A", interval="7m"), "binance")
    with pytest.raises(ParameterError, match="Alpaca has no bars of 5s"):
        vendor_calls(asked("A", interval="5s"), "alpaca")
    with pytest.raises(ParameterError, match="'polygon'"):
        vendor_of("polygone")


def test_limit_of_polygon_counts_minutes_below_a_day() -> None:
    longest = {name: vendor_of("polygon").longest_span(Interval.parse(name)) for name in ("1m", "1h", "1d")}
    assert longest["1m"] == longest["1h"] == dt.timedelta(minutes=50_000)
    assert longest["1d"] == dt.timedelta(days=50_000)
    assert vendor_of("databento").longest_span(Interval.parse("1m")) is None


def test_calls_for_days_are_in_whole_days_since_their_bars_are_stamped_at_a_midnight() -> None:
    close = START.replace(hour=21, minute=0)
    day = pl.DataFrame({"symbol": ["SPY"], "interval": "1d", "start": START, "end": close})
    midnight = 1704240000  # 2024-01-03 00:00 UTC; in New York the day begins five hours later, and the bar with it
    assert f"/range/1/day/{midnight}000/{midnight + 86399}999?" in vendor_calls(day, "polygon")[0]
    assert "start=2024-01-03T00:00:00Z&end=2024-01-03T23:59:59Z" in vendor_calls(day, "alpaca")[0]
    assert "start='2024-01-03T00:00:00Z', end='2024-01-04T00:00:00Z'" in vendor_calls(day, "databento")[0]
    assert f"&startTime={midnight}000&endTime={midnight + 86399}999&" in vendor_calls(day, "binance")[0]
    evening = day.with_columns(start=START.replace(day=2, hour=23), end=START.replace(hour=22))
    assert "start='2024-01-02T00:00:00Z', end='2024-01-04T00:00:00Z'" in vendor_calls(evening, "databento")[0]


def test_symbols_of_one_call_bring_no_more_bars_than_a_call_may() -> None:
    names = [f"S{number:03d}" for number in range(60)]
    morning = asked(*names).with_columns(end=START + dt.timedelta(minutes=389))
    calls = vendor_calls(morning, "alpaca")
    assert [call.count("S") for call in calls] == [25, 25, 10]  # 10,000 // 389
    assert len(vendor_calls(morning.with_columns(slots=100), "alpaca")) == 1
    assert [len(vendor_calls(morning, name)) for name in ("databento", "polygon")] == [1, 60]


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [
        ("1s", 50_000),
        ("90s", 90 * 50_000),
        ("1m", 60 * 50_000),
        ("5m", 60 * 50_000),
        ("1h", 60 * 50_000),
        ("1d", 86_400 * 50_000),
    ],
)
def test_longest_call_of_polygon_counts_minutes_for_whole_minutes_alone(interval: str, seconds: int) -> None:
    assert vendor_of("polygon").longest_span(Interval.parse(interval)) == dt.timedelta(seconds=seconds)
