"""Activity at full and half hours: a market that is made so, its stamps moved; and releases whose minute is known."""

from __future__ import annotations

import datetime as dt

import engine
import numpy as np
import polars as pl
import pytest
from engine.checks.bar_checks import check_bars
from engine.checks.round_times import ranks

from tests.checks.feeds import Feed, axis, placed

MINUTE = dt.timedelta(minutes=1)
FIRST = dt.date(2024, 4, 8)
# The calendar of financial releases: 2022-01-07 13:30 UTC employment, 01-12 13:30 consumer prices, 01-26 19:00 rates.
RELEASES = [dt.datetime(2022, *at, tzinfo=dt.UTC) for at in ((1, 7, 13, 30), (1, 12, 13, 30), (1, 26, 19, 0))]


def active_market(code: str, days: int, at_round_times: float, seed: int = 1) -> Feed:
    """A bar in every minute, whose range and volume are so many times as large in the minutes of full and half hours."""
    grid = axis(code, FIRST, FIRST + dt.timedelta(days=days))
    spans = grid.table.filter("chosen").select("open", "close").rows()
    ts = pl.concat([pl.datetime_range(a, b, MINUTE, closed="left", eager=True, time_unit="us") for a, b in spans])
    rng = np.random.default_rng(seed)
    size = rng.lognormal(0, 0.6, len(ts)) * np.where(ts.dt.minute() % 30 == 0, at_round_times, 1.0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-4, len(ts))))
    rows = pl.DataFrame({"ts": ts, "close": close}).with_columns(
        pl.lit(1, pl.Int32).alias("series"),
        pl.col("close").alias("open"),
        pl.Series("high", close * (1 + 2e-4 * size)),
        pl.Series("low", close * (1 - 2e-4 * size)),
        pl.Series("volume", np.round(100 * size)),
    )
    names = {"series": [1], "symbol": ["A"], "price_type": ["last"], "interval": ["1m"]}
    series = pl.DataFrame(names, schema_overrides={"series": pl.Int32})
    return placed(rows, series, grid, "UTC")


def moved(feed: Feed, steps: int) -> Feed:
    return placed(feed.rows.with_columns(pl.col("ts") + steps * MINUTE), feed.series, feed.grid, feed.zone)


def stamps(feed: Feed) -> list[tuple[str, float, str]]:
    found = check_bars(feed.rows, feed.series, feed.grid, feed.zone).filter(check_name="stamp")
    return found.select("severity", "value", "remedy").rows()


@pytest.mark.parametrize("code", ["24/7", "FX"])
@pytest.mark.parametrize(
    ("steps", "severity", "remedy"),
    [
        (1, "error", "--stamp end"),
        (-1, "error", "--shift 1m; or ask the vendor what a stamp marks"),
        (2, "warning", "--shift=-2m; or ask the vendor what a stamp marks"),
    ],
)
def test_stamps_are_told_by_the_activity_of_full_and_half_hours(code, steps, severity, remedy) -> None:
    assert stamps(moved(active_market(code, 4, 3.0), steps)) == [(severity, float(steps), remedy)]


@pytest.mark.parametrize(("at_round_times", "steps"), [(3.0, 0), (1.0, 0), (1.0, 1), (1.0, -1)])
def test_stamps_that_are_right_or_leave_no_trace_say_nothing(at_round_times, steps) -> None:
    assert stamps(moved(active_market("24/7", 4, at_round_times), steps)) == []


@pytest.mark.parametrize("seed", range(2, 12))
def test_markets_without_activity_at_round_times_say_nothing(seed) -> None:
    assert stamps(active_market("24/7", 10, 1.0, seed)) == []


@pytest.mark.parametrize(("at_round_times", "found"), [(3.0, []), (1.0, [("error", 1.0, "--stamp end")])])
def test_activity_of_round_times_goes_before_the_edges_of_sessions(at_round_times, found) -> None:
    # A broker begins each session a minute late, and prints a last bar at the close.
    feed = active_market("XNYS", 11, at_round_times)
    spans = feed.grid.table.filter("chosen")
    without_open = feed.rows.filter(~pl.col("ts").is_in(spans["open"].implode()))
    at_close = feed.rows.filter(pl.col("ts").is_in((spans["close"] - MINUTE).implode()))
    rows = pl.concat([without_open, at_close.with_columns(pl.col("ts") + MINUTE)])
    assert stamps(placed(rows, feed.series, feed.grid, feed.zone)) == found


def test_ranks_of_equals_are_shared() -> None:
    column = np.array([[1.0, 2.0, 2.0, 5.0, 0.0]]).T
    assert ranks(column, slice(0, 5)).ravel().tolist() == [-0.25, 0.125, 0.125, 0.5, -0.5]
    assert ranks(column, slice(1, 3)).ravel().tolist() == [0.125, 0.125]


def test_perpetual_of_a_vendor_is_stamped_at_ends_as_releases_show(vendor) -> None:
    path, options = vendor / "nautilus/btc-perp-20211231-20220201_1m.csv", {"timezone": "UTC", "symbol": "BTC"}
    found = engine.run_audit([path], "24/7", **options).tables["findings"].filter(check_name="stamp")
    assert found.select("value", "remedy").rows() == [(1.0, "--stamp end")]
    bars = engine.load([path], "24/7", stamp="end", **options).bars(interval="1m")
    for release in RELEASES:
        minutes = pl.col("ts").is_between(release - 10 * MINUTE, release)
        near = bars.filter(minutes).sort("ts")
        assert near["volume"].arg_max() == near.height - 1
        assert near["volume"][-1] > 5 * near["volume"][:-1].median()
    again = engine.run_audit([path], "24/7", stamp="end", **options).tables["findings"]
    assert again.filter(check_name="stamp").is_empty()
