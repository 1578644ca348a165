"""One instrument under several names, in other units; volumes whose last digit moves; two bars in another unit."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from engine.checks.bar_checks import check_bars
from engine.checks.session_sums import close_forms, volume_grains
from engine.simulation.sessions import Instrument

from tests.checks.feeds import LIQUID, MIXED, Feed, market, placed

ONE_DAY = dt.date(2024, 6, 3), dt.date(2024, 6, 3)
PRICES = ("open", "high", "low", "close")
CHECKS = ("scale", "volume_scale", "spike")


def named_copies(feed: Feed, *factors: float, columns: tuple[str, ...] = PRICES) -> Feed:
    """The first series of a feed under the names C1, C2, ..., its columns times these factors; beside the feed itself."""
    first = feed.rows.filter(pl.col("series") == 1)
    numbers = range(10, 10 + len(factors))
    copies = [
        first.with_columns(pl.lit(number, pl.Int32).alias("series"), *(pl.col(name) * factor for name in columns))
        for number, factor in zip(numbers, factors, strict=True)
    ]
    names = pl.DataFrame(
        {"series": numbers, "symbol": [f"C{at + 1}" for at in range(len(factors))]},
        schema_overrides={"series": pl.Int32},
    ).with_columns(pl.lit("last").alias("price_type"), pl.lit("1m").alias("interval"))
    return placed(
        pl.concat([feed.rows, *copies]),
        pl.concat([feed.series, names.select(feed.series.columns)]),
        feed.grid,
        feed.zone,
    )


def said(feed: Feed) -> list[tuple[str, str, str, float]]:
    found = check_bars(feed.rows, feed.series, feed.grid, feed.zone)
    loud = found.filter(pl.col("check_name").is_in(CHECKS) & (pl.col("severity") != "info"))
    return loud.select("check_name", "severity", "symbol", "value").rows()


@pytest.mark.parametrize("code", ["XNYS", "24/7"])
@pytest.mark.parametrize("factor", [100.0, 0.01, 1000.0])
@pytest.mark.parametrize(("columns", "check"), [(PRICES, "scale"), (("volume",), "volume_scale")])
def test_copy_in_another_unit_is_told_by_what_most_copies_have(code, factor, columns, check) -> None:
    feed = named_copies(market(code, *ONE_DAY, "1m", (LIQUID, MIXED)), 1.0, factor, columns=columns)
    assert said(feed) == [(check, "error", "C2", factor)]


def test_copy_in_another_unit_of_one_series_says_that_one_of_the_two_is() -> None:
    feed = named_copies(market("XNYS", *ONE_DAY, "1m", (LIQUID, MIXED)), 0.01)
    found = check_bars(feed.rows, feed.series, feed.grid, feed.zone).filter(check_name="scale")
    assert found.select("severity", "count").rows() == [("warning", 390)]
    assert "one of the two" in found["message"][0]


@pytest.mark.parametrize("factors", [(1.0, 1.0), (2.0, 0.5), (150.0, 3.0)])
def test_copies_in_one_unit_or_by_other_ratios_say_nothing(factors) -> None:
    assert said(named_copies(market("XNYS", *ONE_DAY, "1m", (LIQUID, MIXED)), *factors)) == []


def test_series_of_one_market_are_no_copies() -> None:
    many = tuple(Instrument(f"S{at}", trades_per_minute=60.0, price=10.0 ** (at % 3 + 1)) for at in range(12))
    assert said(market("XNYS", *ONE_DAY, "1m", many)) == []


def test_copy_whose_moves_come_in_another_order_has_another_form() -> None:
    close = np.array([100.0, 101, 103, 102, 104, 100.0, 102, 101, 103, 104, 104, 104])
    _, form, moves = close_forms(close, np.array([0, 5]), np.array([5, 7]))
    assert moves.tolist() == [4, 4]
    _, again, _ = close_forms(close * 100, np.array([0, 5]), np.array([5, 7]))
    assert np.abs(form - again).max() < 1e-12
    assert abs(form[0] - form[1]) > 1e-4


@pytest.mark.parametrize(
    ("volumes", "grain"),
    [
        (np.arange(1, 41) * 1.0, 0),
        (np.arange(1, 41) * 100.0, 2),
        (np.arange(1, 41) * 1e-8, -8),
        (np.arange(1, 41) * 1e-8 * 100, -6),
        (np.arange(1, 41) * 0.001 * 100, -1),
        (np.full(40, 100.0), None),
        (np.arange(1, 6) * 100.0, None),
        (np.zeros(40), None),
    ],
)
def test_grain_is_the_power_of_ten_of_which_all_volumes_are_multiples(volumes, grain) -> None:
    rows = pl.DataFrame({"volume": volumes})
    assert volume_grains(rows, np.array([0]), np.array([len(volumes)])).to_list() == [grain]


def volumes_by_day(means: tuple[float, ...], unit: float, unit_of: dict[int, float]) -> Feed:
    """Whole contracts (or parts of a coin) with these mean numbers by session, drawn apart; some sessions in another unit."""
    feed = market("XNYS", dt.date(2024, 6, 3), dt.date(2024, 6, 7), "1m", (LIQUID,))
    days = feed.rows["session"].unique().sort()
    rng = np.random.default_rng(4)
    number = feed.rows["session"].replace_strict(days, range(len(days)), return_dtype=pl.Int64).to_numpy()
    drawn = np.round(rng.lognormal(np.log(np.array(means)[number]), 1.2)) + 1
    factor = np.array([unit_of.get(at, 1.0) for at in range(len(days))])[number]
    return feed._replace(rows=feed.rows.with_columns(pl.Series("volume", drawn * unit * factor)))


@pytest.mark.parametrize("unit", [1.0, 1e-8])
def test_volume_scale_is_told_by_the_last_digit_where_days_differ_much(unit) -> None:
    # Activity falls to a quarter and rises again: the mean moves by less than the unit does.
    feed = volumes_by_day((300, 300, 80, 300, 300), unit, {2: 100.0})
    found = check_bars(feed.rows, feed.series, feed.grid, feed.zone).filter(check_name="volume_scale")
    assert found.select("value", "count", "session").rows() == [(100.0, 1, dt.date(2024, 6, 5))]


@pytest.mark.parametrize("busy", [0.05, 1.0, 30.0])
def test_volume_of_busy_days_with_the_same_last_digit_is_no_other_unit(busy) -> None:
    feed = volumes_by_day((300, 300, 300 * busy, 300, 300), 1.0, {})
    assert [row for row in said(feed) if row[0] == "volume_scale"] == []


@pytest.mark.parametrize(("factor", "check"), [(100.0, "scale"), (0.01, "scale"), (1.6, "spike")])
def test_two_bars_at_a_power_of_ten_are_another_unit_and_no_spike(factor, check) -> None:
    feed = market("XNYS", dt.date(2024, 6, 3), dt.date(2024, 6, 7), "1m", (LIQUID,))
    at = pl.int_range(pl.len()).is_between(900, 901)
    rows = feed.rows.with_columns(
        pl.when(at).then(pl.col(name) * factor).otherwise(name).alias(name) for name in PRICES
    )
    assert [row[0] for row in said(feed._replace(rows=rows))] == [check]
