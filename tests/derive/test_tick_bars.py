"""Bars of ticks, by hand: which slot a tick is in, in which order ticks count, and which quotes make a mid."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.derive.tick_bars import bars_from_quotes, bars_from_trades
from engine.errors import SortednessError
from engine.grid import GridSpec, SessionGrid
from engine.reference import MINUTE, SECOND

from tests import axis

TUESDAY = dt.date(2024, 1, 2)
LUNCH = [axis.at(TUESDAY, 90, 240), axis.at(TUESDAY, 300, 480)]
OPEN, CLOSE = LUNCH[0].open, LUNCH[0].close
GRID = SessionGrid.build(axis.frame(LUNCH), "1m", GridSpec("TEST"))
TRADES = {"series": pl.Int32, "ts": pl.Int64, "seq": pl.Int64, "price": pl.Float64, "size": pl.Float64}
QUOTES = {
    "series": pl.Int32, "ts": pl.Int64, "seq": pl.Int64, "bid": pl.Float64, "ask": pl.Float64,
    "bid_size": pl.Float64, "ask_size": pl.Float64,
}  # fmt: skip


def ticks(rows: list[tuple], schema: dict = TRADES) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(
        pl.col("ts").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").cast(pl.Datetime("ns", "UTC"))
    )


def shown(bars: pl.DataFrame, *columns: str) -> list[tuple]:
    since_open = (pl.col("ts").dt.timestamp("us") - OPEN) // MINUTE
    return bars.select("series", since_open, *columns).rows()


def test_bars_from_trades_fold_ticks_in_order_of_time_and_number() -> None:
    rows = [
        (1, OPEN, 1, 10.0, 2.0),
        (1, OPEN, 2, 12.0, 1.0),
        (1, OPEN + MINUTE - 1, 3, 9.0, 1.0),
        (1, OPEN + MINUTE, 4, 8.0, 5.0),
    ]
    bars = bars_from_trades(ticks(rows), GRID)
    columns = ("open", "high", "low", "close", "volume", "vwap", "trades", "n_base", "n_expected", "complete")
    assert shown(bars, *columns) == [
        (1, 0, 10.0, 12.0, 9.0, 9.0, 4.0, 10.25, 3, 1, 1, True),
        (1, 1, 8.0, 8.0, 8.0, 8.0, 5.0, 8.0, 1, 1, 1, True),
    ]


def test_bars_from_trades_of_one_time_and_number_count_each() -> None:
    rows = [(1, OPEN, 1, 10.0, 2.0), (1, OPEN, 1, 11.0, 2.0), (1, OPEN, 1, 11.0, 2.0)]
    assert shown(bars_from_trades(ticks(rows), GRID), "open", "close", "volume", "trades") == [
        (1, 0, 10.0, 11.0, 6.0, 3)
    ]


@pytest.mark.parametrize(
    ("second", "refused"),
    [
        ((1, OPEN, 0), True),
        ((1, OPEN - 1, 9), True),
        ((0, OPEN + 1, 9), True),
        ((1, OPEN + 1, 0), False),
        ((2, OPEN - 1, 0), False),
    ],
)
def test_bars_from_trades_out_of_order_raise_with_the_row(second: tuple, refused: bool) -> None:
    frame = ticks([(1, OPEN, 1, 10.0, 1.0), (*second, 10.0, 1.0)])
    if not refused:
        assert bars_from_trades(frame, GRID).height >= 1
        return
    with pytest.raises(SortednessError, match="row 1 comes before"):
        bars_from_trades(frame, GRID)


def test_bars_from_trades_outside_of_the_segments_are_left_out() -> None:
    rows = [(1, at, 1, 10.0, 1.0) for at in (OPEN - 1, OPEN, CLOSE - 1, CLOSE, LUNCH[1].open - 1, LUNCH[1].open)]
    assert shown(bars_from_trades(ticks(rows), GRID), "trades") == [(1, 0, 1), (1, 149, 1), (1, 210, 1)]


def test_bars_from_trades_without_sizes_have_no_volume_and_no_vwap() -> None:
    rows = [
        (1, OPEN, 1, 10.0, None),
        (1, OPEN, 2, 12.0, None),
        (1, OPEN + MINUTE, 3, 9.0, 2.0),
        (1, OPEN + MINUTE, 4, 8.0, None),
    ]
    assert shown(bars_from_trades(ticks(rows), GRID), "volume", "vwap", "trades", "size") == [
        (1, 0, None, None, 2, None),
        (1, 1, 2.0, None, 2, None),
    ]


def test_bars_from_quotes_of_a_side_leave_out_quotes_without_it() -> None:
    rows = [
        (1, OPEN, 1, 10.0, 11.0, 1.0, 2.0), (1, OPEN + SECOND, 2, None, 12.0, None, 3.0),
        (1, OPEN + MINUTE, 3, None, 12.0, None, 4.0), (2, OPEN, 4, 20.0, None, 7.0, None),
    ]  # fmt: skip
    quotes = ticks(rows, QUOTES)
    columns = ("open", "high", "low", "close", "size", "volume")
    assert shown(bars_from_quotes(quotes, GRID, "bid"), *columns) == [
        (1, 0, 10.0, 10.0, 10.0, 10.0, 1.0, None),
        (2, 0, 20.0, 20.0, 20.0, 20.0, 7.0, None),
    ]
    assert shown(bars_from_quotes(quotes, GRID, "ask"), *columns) == [
        (1, 0, 11.0, 12.0, 11.0, 12.0, 3.0, None),
        (1, 1, 12.0, 12.0, 12.0, 12.0, 4.0, None),
    ]


def test_bars_from_quotes_pair_each_side_with_the_last_other_one_of_the_segment() -> None:
    rows = [
        (1, OPEN, 1, 10.0, None, 1.0, None),  # no ask yet
        (1, OPEN + 1, 2, None, 12.0, None, 1.0),  # 11
        (1, OPEN + MINUTE, 3, 14.0, None, 1.0, None),  # 13
        (1, LUNCH[1].open, 4, 20.0, None, 1.0, None),  # the ask was of the morning
        (2, OPEN, 5, 30.0, 32.0, 1.0, 1.0),  # 31
    ]
    assert shown(bars_from_quotes(ticks(rows, QUOTES), GRID, "mid"), "open", "close", "size") == [
        (1, 0, 11.0, 11.0, None),
        (1, 1, 13.0, 13.0, None),
        (2, 0, 31.0, 31.0, None),
    ]


def test_bars_from_no_ticks_are_none() -> None:
    assert bars_from_trades(ticks([]), GRID).height == 0
    assert bars_from_quotes(ticks([], QUOTES), GRID, "mid").height == 0
