"""Headers that are not the first line, have several lines, or name columns per symbol."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.errors import SourceError
from engine.sources.file_names import PathFacts
from engine.sources.frames import from_frame
from engine.sources.options import ReadOptions
from engine.sources.table_rows import Origin
from engine.sources.text import read_text
from engine.sources.wide_tables import symbols_of_columns

T1, T2 = "2024-01-02 14:30:00+00:00", "2024-01-02 14:31:00+00:00"
AT1, AT2 = (dt.datetime(2024, 1, 2, 14, minute, tzinfo=dt.UTC) for minute in (30, 31))
BARS = ["symbol", "ts", "open", "high", "low", "close", "volume", "row"]


def read(text, symbol=None, **options):
    return read_text(text.encode(), Origin("any.csv", "0", PathFacts(symbol=symbol), ReadOptions(**options)))


def rows(batch):
    return (
        batch.frame.select(BARS).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC"))).sort("symbol", "ts").rows()
    )


def test_download_of_one_ticker_with_three_header_lines_is_read_with_its_symbol():
    text = f"Price,Adj Close,Close,High,Low,Open,Volume\nTicker,SPY,SPY,SPY,SPY,SPY,SPY\nDatetime,,,,,,\n{T1},9,10.2,10.5,9.5,10,7\n"
    assert rows(read(text)) == [("SPY", AT1, 10.0, 10.5, 9.5, 10.2, 7.0, 4)]


@pytest.mark.parametrize(
    "header",
    [
        "Price,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\nTicker,AAPL,SPY,AAPL,SPY,AAPL,SPY,AAPL,SPY,AAPL,SPY\nDatetime,,,,,,,,,,\n",
        ",Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\n,AAPL,SPY,AAPL,SPY,AAPL,SPY,AAPL,SPY,AAPL,SPY\nDatetime,,,,,,,,,,\n",
        "Attributes,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\nSymbols,AAPL,SPY,AAPL,SPY,AAPL,SPY,AAPL,SPY,AAPL,SPY\n",
        "Ticker,AAPL,SPY,AAPL,SPY,AAPL,SPY,AAPL,SPY,AAPL,SPY\nPrice,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\nDatetime,,,,,,,,,,\n",
    ],
)
def test_wide_download_of_several_tickers_is_a_series_each_and_keeps_line_numbers(header):
    text = header + f"{T1},2,10.2,2.5,10.5,1.5,9.5,2.1,10,3,7\n{T2},,10.3,,10.4,,10.1,,10.2,,8\n"
    first = header.count("\n") + 1
    batch = read(text)
    assert rows(batch) == [
        ("AAPL", AT1, 2.1, 2.5, 1.5, 2.0, 3.0, first),
        ("SPY", AT1, 10.0, 10.5, 9.5, 10.2, 7.0, first),
        ("SPY", AT2, 10.2, 10.4, 10.1, 10.3, 8.0, first + 1),
    ]
    assert batch.rejects.is_empty()
    assert "columns per symbol: 2 symbols became rows, 1 without a value left out" in batch.notes


def test_columns_that_join_symbol_and_field_are_a_series_each():
    text = f"Date,SPY_Open,SPY_High,SPY_Low,SPY_Close,BRK.B_Open,BRK.B_High,BRK.B_Low,BRK.B_Close\n{T1},10,11,9,10,2,3,1,2\n"
    assert [row[0] for row in rows(read(text))] == ["BRK.B", "SPY"]
    frame = pl.DataFrame({"ts": [AT1], **{f"('{part}', 'SPY')": [10.0] for part in ("Open", "High", "Low", "Close")}})
    assert from_frame(frame, interval="1m").frame["symbol"].to_list() == ["SPY"]


@pytest.mark.parametrize(
    "names",
    [
        ["ts", "bid_open", "bid_high", "bid_low", "bid_close"],
        ["ts", "open", "high", "low", "close", "spx_open", "spx_high", "spx_low", "spx_close"],
        ["ts", "SPY_open", "SPY_high"],
        ["ts", "S0", "S1"],
    ],
)
def test_other_columns_are_not_taken_for_columns_per_symbol(names):
    assert symbols_of_columns(names) == {}


@pytest.mark.parametrize(
    ("above", "count"),
    [
        ("https://www.CryptoDataDownload.com\n", 1),
        ("Symbol: SPY\nInterval, 1 minute, regular hours\n\n", 2),
        ("sep=,\n", 1),
        ("# made by us\n# on Tuesday, at noon\n", 0),
    ],
)
def test_lines_above_a_plain_header_are_left_out_and_noted(above, count):
    batch = read(f"{above}timestamp,open,high,low,close,volume\n{T1},10,11,9,10,7\n", symbol="SPY")
    assert rows(batch) == [("SPY", AT1, 10.0, 11.0, 9.0, 10.0, 7.0, above.count("\n") + 2)]
    assert [note for note in batch.notes if "above the header" in note] == (
        [f"{count} line{'s' * (count > 1)} above the header left out: {above.splitlines()[0]!r}"] if count else []
    )


def test_header_behind_a_number_sign_is_a_header_where_it_is_plain():
    text = "#RIC,Domain,Date-Time,Type,Open,High,Low,Last,Volume\nSPY.P,Market Price,2024-01-02T14:30:00.000000000Z,Intraday 1Min,10,11,9,10.5,7\n"
    batch = read(text)
    assert rows(batch) == [("SPY.P", AT1, 10.0, 11.0, 9.0, 10.5, 7.0, 2)]
    assert str(batch.interval) == "1m"


def test_units_below_a_header_are_no_symbols():
    with pytest.raises(SourceError):
        read(f"Datetime,Open,High,Low,Close\nUTC,USD,USD,USD,USD\n{T1},10,11,9,10\n", interval="1m")


@pytest.mark.parametrize("last", ["Last", "Price", "Close/Last", "Latest"])
def test_open_high_and_low_beside_another_name_of_the_close_are_bars_and_noted(last):
    batch = read(f"time,Open,High,Low,{last}\n{T1},10,11,9,10.5\n{T2},10,11,9,10.6\n", symbol="SPY")
    assert batch.kind == "bars"
    assert batch.frame["close"].to_list() == [10.5, 10.6]
    assert f"close: the column {last!r}, beside open, high and low" in batch.notes


def test_price_beside_open_and_high_alone_is_no_tick():
    with pytest.raises(SourceError, match="low and close is missing"):
        read(f"time,Open,High,Price\n{T1},10,11,10.5\n", symbol="SPY")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index"])
def test_first_column_without_a_name_is_the_stamp(name):
    batch = read(f"{name},open,high,low,close\n{T1},10,11,9,10\n{T2},10,11,9,10\n", symbol="SPY")
    assert [at.minute for at in batch.frame["ts"]] == [30, 31]


def test_first_column_without_a_name_that_counts_rows_is_no_stamp():
    batch = read(f",date,open,high,low,close\n0,{T1},10,11,9,10\n1,{T2},10,11,9,10\n", symbol="SPY")
    assert [at.minute for at in batch.frame["ts"]] == [30, 31]
    with pytest.raises(SourceError):
        read(",open,high,low,close\n0,10,11,9,10\n1,10,11,9,10\n", symbol="SPY")


def test_two_columns_without_names_are_refused_and_read_with_the_option_named():
    text = f",,open,high,low,close\nSPY,{T1},10,11,9,10\nSPY,{T2},10,11,9,10\n"
    with pytest.raises(SourceError, match=r"--columns symbol=1,ts=2"):
        read(text)
    assert read(text, columns={"symbol": 1, "ts": 2}).frame["symbol"].to_list() == ["SPY", "SPY"]


@pytest.mark.parametrize("name", ["*", "^.*$"])
def test_column_with_the_name_of_a_pattern_is_one_column(name):
    batch = read(f"timestamp,open,high,low,close,{name}\n{T1},10,11,9,10,1\n{T2},10,11,9,10,\n", symbol="SPY")
    assert batch.frame.height == 2
