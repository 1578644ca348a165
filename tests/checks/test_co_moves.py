"""Shifts against other series: random walks with a common factor, one of them moved; right ones say nothing."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from engine.checks.bar_checks import check_bars, combine, judge, measure

from tests.checks.feeds import Feed, axis, placed

DAYS = dt.date(2024, 6, 3), dt.date(2024, 6, 6)
MINUTE = dt.timedelta(minutes=1)


def walks(code: str, symbols: int, *, common: float, seed: int = 5) -> Feed:
    """Minute bars of so many symbols, whose moves have a common part and one of their own, both with fat tails."""
    grid = axis(code, *DAYS)
    slots = (
        grid.table.filter("chosen")
        .select(pl.datetime_ranges("open", "close", "1m", closed="left").alias("ts"))
        .explode("ts")
    )
    rng = np.random.default_rng(seed)
    shared = rng.standard_t(3, slots.height)
    frames = []
    for number in range(symbols):
        moves = common * shared + rng.standard_t(3, slots.height)
        close = 100 * np.exp(np.cumsum(moves) * 2e-4)
        before = np.concatenate([[100.0], close[:-1]])
        frames.append(
            slots.with_columns(
                pl.lit(number, pl.Int32).alias("series"),
                pl.Series("open", before),
                pl.Series("high", np.maximum(before, close) * 1.00005),
                pl.Series("low", np.minimum(before, close) * 0.99995),
                pl.Series("close", close),
                pl.lit(10.0).alias("volume"),
            )
        )
    series = pl.DataFrame(
        {"series": pl.Series(range(symbols), dtype=pl.Int32), "symbol": [f"S{n}" for n in range(symbols)]}
    ).with_columns(pl.lit("last").alias("price_type"), pl.lit("1m").alias("interval"))
    return placed(pl.concat(frames), series, grid, "UTC" if code == "24/7" else "America/New_York")


def shifted(feed: Feed, number: int, by: dt.timedelta) -> Feed:
    late = pl.when(pl.col("series") == number).then(pl.col("ts") + by).otherwise(pl.col("ts"))
    rows = feed.rows.with_columns(late.alias("ts")).select("series", "ts", "open", "high", "low", "close", "volume")
    inside = placed(rows, feed.series, feed.grid, feed.zone)
    return inside._replace(rows=inside.rows.drop_nulls("slot"))  # nothing that the edges of the data tell


def said(feed: Feed) -> list[tuple[str, str, float]]:
    found = check_bars(feed.rows, feed.series, feed.grid, feed.zone)
    return found.filter(pl.col("check_name").is_in(["clock", "stamp"])).select("check_name", "symbol", "value").rows()


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("common", [0.0, 0.5, 3.0])
def test_right_series_say_nothing(common, seed) -> None:
    assert said(walks("24/7", 6, common=common, seed=seed)) == []


@pytest.mark.parametrize(
    ("by", "check", "value"),
    [
        (60 * MINUTE, "clock", 1.0),
        (-300 * MINUTE, "clock", -5.0),
        (330 * MINUTE, "clock", 5.5),
        (MINUTE, "stamp", 1.0),
        (-MINUTE, "stamp", -1.0),
        (2 * MINUTE, "stamp", 2.0),
    ],
)
@pytest.mark.parametrize("symbols", [3, 8])
def test_shift_of_a_series_in_a_market_that_never_closes_is_found(by, check, value, symbols) -> None:
    assert said(shifted(walks("24/7", symbols, common=3.0), 1, by)) == [(check, "S1", value)]


def test_shift_that_all_have_or_one_of_two_is_not_told() -> None:
    feed = walks("24/7", 3, common=3.0)
    for number in range(3):
        feed = shifted(feed, number, 60 * MINUTE)
    assert said(feed) == []
    assert said(shifted(walks("24/7", 2, common=3.0), 1, 60 * MINUTE)) == []


def test_series_without_common_moves_is_not_judged() -> None:
    assert said(shifted(walks("24/7", 5, common=0.0), 1, 60 * MINUTE)) == []


def test_shift_is_the_same_however_parts_are_cut() -> None:
    feed = shifted(walks("24/7", 4, common=3.0), 2, 240 * MINUTE)
    days = feed.rows["session"]
    cut = sorted(days.drop_nulls().unique())[2]
    parts = [feed.rows.filter(days < cut), feed.rows.filter(days >= cut), feed.rows.clear()]
    whole = combine([measure(part, feed.series, feed.grid, feed.zone) for part in parts])
    found = judge(whole, feed.grid.segments, feed.zone, "24/7").filter(pl.col("check_name") == "clock")
    assert found.select("symbol", "value").rows() == [("S2", 4.0)]


def test_moves_that_come_in_one_burst_do_not_hide_a_shift() -> None:
    feed = walks("24/7", 6, common=3.0)
    burst = pl.col("ts").is_between(
        dt.datetime(2024, 6, 4, 13, 30, tzinfo=dt.UTC), dt.datetime(2024, 6, 4, 13, 50, tzinfo=dt.UTC)
    )
    one_day = feed.rows.filter(pl.col("ts").dt.date() == dt.date(2024, 6, 4))
    prices = ("open", "high", "low", "close")
    zigzag = 1 + 0.02 * (pl.col("ts").dt.minute() % 2)
    rows = one_day.with_columns(
        pl.when(burst).then(pl.col(name) * zigzag).otherwise(name).alias(name) for name in prices
    )
    whole = placed(rows.select("series", "ts", *prices, "volume"), feed.series, feed.grid, feed.zone)
    assert said(whole) == []
    assert said(shifted(whole, 1, 60 * MINUTE)) == [("clock", "S1", 1.0)]


def test_series_is_not_judged_by_others_that_do_not_agree_among_themselves() -> None:
    feed = walks("24/7", 5, common=3.0)
    for number, hours in ((1, 1), (2, 1), (3, 4), (4, 4)):
        feed = shifted(feed, number, hours * 60 * MINUTE)
    assert said(feed) == []
