"""Sessions of a series that are another symbol's: a file under a wrong name, and a session of one."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.checks.bar_checks import check_bars

from tests.checks.feeds import LIQUID, MIXED, Feed, market, placed

WEEK = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
FEED = market("XNYS", *WEEK, "1m", (LIQUID, MIXED))
FIRST, SECOND = (FEED.series.filter(series=number)["symbol"][0] for number in FEED.series["series"][:2])


def with_bars_of(feed: Feed, number: int, other: int, sessions: pl.Expr, factor: float = 1.0) -> Feed:
    """The feed with the bars of one series, in these sessions, taken from another one."""
    theirs = feed.rows.filter(sessions, series=other).with_columns(pl.lit(number, pl.Int32).alias("series"))
    kept = feed.rows.filter(~((pl.col("series") == number) & sessions))
    rows = pl.concat([kept, theirs.with_columns(pl.col("open", "high", "low", "close") * factor)])
    return placed(rows.sort("series", "ts"), feed.series, feed.grid, feed.zone)


def said(feed: Feed) -> list[tuple[str, str, int]]:
    found = check_bars(feed.rows, feed.series, feed.grid, feed.zone).filter(check_name="copied_session")
    return found.select("symbol", "severity", "count").rows()


def test_file_with_the_bars_of_another_symbol_is_named_once() -> None:
    one, other = FEED.series["series"][:2]
    copied = with_bars_of(FEED, other, one, pl.lit(value=True))
    later, earlier = max(FIRST, SECOND), min(FIRST, SECOND)
    assert said(copied) == [(later, "warning", 10)]
    found = check_bars(copied.rows, copied.series, copied.grid, copied.zone).filter(check_name="copied_session")
    assert f"have the bars of {earlier}" in found["message"][0]


@pytest.mark.parametrize("which", [0, 1])
def test_session_with_the_bars_of_another_symbol_is_an_error_of_the_one_whose_prices_lie_elsewhere(which: int) -> None:
    number, other = FEED.series["series"][which], FEED.series["series"][1 - which]
    dearer = FEED.rows.with_columns(
        pl.when(pl.col("series") == number).then(pl.col(name) * 7).otherwise(name).alias(name)
        for name in ("open", "high", "low", "close")
    )
    feed = placed(dearer, FEED.series, FEED.grid, FEED.zone)
    mixed = with_bars_of(feed, number, other, pl.col("session") == dt.date(2024, 6, 6))
    assert said(mixed) == [((FIRST, SECOND)[which], "error", 1)]


def test_symbols_with_bars_of_their_own_have_no_copied_session() -> None:
    assert said(FEED) == []
