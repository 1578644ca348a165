"""The base of a symbol, and the interval that a few stamps tell."""

from __future__ import annotations

import datetime as dt

import engine
import numpy as np
import polars as pl
import pytest
from engine.errors import SourceError
from engine.interval import Interval
from engine.sources.resolution import base_of, interval_of

THIN = [0, 3, 11, 13, 26, 31, 36, 47, 49, 52, 65, 73, 81, 97, 99, 101, 122, 126, 139, 140, 151, 156, 169, 177, 179, 190, 213, 227, 231,
        244, 262, 268, 281, 296, 299, 313, 324, 337, 346, 380]  # fmt: skip  # 13 minutes are the commonest step
OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)


def parsed(texts: list[str]) -> list[Interval]:
    return [Interval.parse(text) for text in texts]


@pytest.mark.parametrize(
    ("available", "wanted", "derived", "base"),
    [
        (["1s", "1m", "1h"], None, [], "1m"),
        (["5m", "1h"], None, [], "5m"),
        (["1s", "5m"], None, [], "1s"),
        (["1s", "1m", None], "1s", [], "1s"),
        ([None], None, [], None),
        ([None, "1m"], None, [], "1m"),
        ([None, "1m"], "1s", [], None),
        (["1m"], "5m", [], "1m"),
        (["1m", "5m"], None, ["15m"], "1m"),
        (["1m", "1d"], None, ["1w"], "1m"),
        (["1s", "1m"], None, ["30s", "5m"], "1s"),
        (["1s", "10s", "1m"], None, ["30s"], "10s"),
        (["1m", None], None, ["30s"], None),
        (["1m"], None, ["30s"], "1m"),
        (["1h", None], None, ["5m"], "1h"),
    ],
)
def test_base_of_several_resolutions(
    available: list[str | None], wanted: str | None, derived: list[str], base: str | None
) -> None:
    there = [None if text is None else Interval.parse(text) for text in available]
    found = base_of(there, wanted and Interval.parse(wanted), parsed(derived))
    assert found == (base and Interval.parse(base))


@pytest.mark.parametrize(
    ("minutes", "others", "interval"),
    [
        (range(40), [], "1m"),
        (range(0, 400, 5), ["1m"], "5m"),
        ([0, 1, 2], [], "1m"),
        ([7, 8], [], "1m"),
        ([0, 5], [], None),
        ([0, 1, 9, 30], [], None),
        ([0, 60, 120, 180], ["1m"], "1h"),
        ([3, 8, 15], ["1m"], "1m"),
        ([3, 8, 15], [], None),
        ([0, 30], ["1m"], None),
        ([0, 60, 150], ["1m"], None),
        ([0], ["1m"], None),
        ([], ["1m"], None),
        ([0, 60, 120, 121], ["1h"], None),
        ([0, 60, 120, 121], ["1m", "1h"], None),
        ([*range(0, 1260, 60), 1201], ["1m"], None),
        (THIN, [], "1m"),
        (THIN, ["1m"], "1m"),
        ([day * 1440 + minute for day in range(20) for minute in (0, 195)], [], "195m"),
        ([day * 1440 + minute for day in range(5) for minute in (0, 30, 90, 150, 210, 270, 330)], [], "1h"),
        ([day * 1440 + minute for day in range(10) for minute in range(0, 390, 7)], [], "7m"),
        ([hour * 60 + hour * hour * 7 % 11 for hour in range(60)], [], None),
        ([*range(0, 6000, 60), 1213, 2537, 4221], [], "1h"),
        ([month * 43_200 + month % 2 * 1440 for month in range(40)], [], "1mo"),
    ],
)
def test_interval_of_few_and_of_many_bars(minutes: list[int], others: list[str], interval: str | None) -> None:
    stamps = [OPEN + dt.timedelta(minutes=minute) for minute in minutes]
    frame = pl.DataFrame({"ts": stamps}, schema={"ts": pl.Datetime("us", "UTC")})
    frame = frame.with_columns(pl.lit("A").alias("symbol"), pl.lit("last").alias("price_type"))
    assert interval_of(frame, parsed(others)) == (interval and Interval.parse(interval))


@pytest.mark.parametrize("unit", [1, 5, 60])
@pytest.mark.parametrize("rate", [0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.9])
def test_thin_bars_tell_their_interval_and_never_another(unit: int, rate: float) -> None:
    dice = np.random.default_rng(7)
    told = []
    for _ in range(40):
        slots = np.flatnonzero(dice.random(round(100 / rate)) < rate)
        stamps = [OPEN + dt.timedelta(minutes=unit * int(slot)) for slot in slots]
        frame = pl.DataFrame({"symbol": "A", "price_type": "last", "ts": stamps})
        told.append(interval_of(frame))
    assert set(told) <= {Interval.of_seconds(unit * 60), None}
    assert told.count(None) <= 4


@pytest.mark.parametrize(
    ("days", "dates_only", "interval"),
    [([2, 3, 5], True, "1d"), ([5, 8], True, None), ([2, 9, 16], True, "1w"), ([2, 3, 5], False, None)],
)
def test_interval_of_few_dates_is_a_day_where_two_are_a_day_apart(
    days: list[int], dates_only: bool, interval: str | None
) -> None:
    stamps = [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in days]
    bars = pl.DataFrame({"symbol": "A", "price_type": "last", "ts": stamps})
    found = interval_of(bars, dates_only=dates_only)
    assert found == (interval and Interval.parse(interval))


def minute_rows(step: int, count: int = 390) -> pl.DataFrame:
    stamps = [OPEN + dt.timedelta(minutes=step * number) for number in range(count)]
    return pl.DataFrame({"ts": stamps, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0})


@pytest.mark.parametrize(("name", "named"), [("SPY_daily.csv", "1d"), ("SPY_5min.csv", "5m"), ("SPY-1h.csv", "1h")])
def test_a_name_coarser_than_the_rows_is_refused_with_an_interval_that_reads_them(tmp_path, name, named):
    minute_rows(1).write_csv(tmp_path / name)
    with pytest.raises(
        SourceError, match=f"its name says {named}, but most of its bars are 1m apart; give --interval 1m"
    ):
        engine.load(tmp_path, "XNYS")
    assert engine.load(tmp_path, "XNYS", interval="1m").bars("SPY", "1m").height == 390


@pytest.mark.parametrize(
    ("name", "step", "count"), [("SPY_1min.csv", 7, 50), ("SPY_5min.csv", 1, 20), ("SPY_5min.csv", 5, 78)]
)
def test_a_name_finer_than_the_rows_or_few_rows_contradict_nothing(tmp_path, name, step, count):
    minute_rows(step, count).write_csv(tmp_path / name)
    assert engine.load(tmp_path, "XNYS").bars("SPY")["interval"].unique().to_list() == [name[4:6]]
