"""Check `foreign_session`: a session of two symbols exchanged is told of both, and is no split; a split and news are none."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.checks.bar_checks import check_bars

from tests.checks.feeds import Feed, market

JUNE = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
PRICES = ("open", "high", "low", "close")
DAY = pl.col("session") == dt.date(2024, 6, 7)


def level(feed: Feed, number: int, factor: float, when: pl.Expr) -> Feed:
    scaled = when & (pl.col("series") == number)
    return feed._replace(
        rows=feed.rows.with_columns(
            pl.when(scaled).then(pl.col(name) * factor).otherwise(name).alias(name) for name in PRICES
        )
    )


def told(feed: Feed) -> list[tuple[str, str, str]]:
    found = check_bars(feed.rows, feed.series, feed.grid, feed.zone)
    wanted = found.filter(pl.col("check_name").is_in(["foreign_session", "split", "scale"]))
    return wanted.select("check_name", "symbol", "severity").sort("symbol").rows()


@pytest.mark.parametrize("ratio", [2.0, 2.7, 6.0])
def test_session_of_two_symbols_exchanged_is_told_of_both_and_is_no_split(ratio) -> None:
    clean = market("XNYS", *JUNE)
    one, other = 1, 2
    at = clean.rows.filter(DAY).group_by("series").agg(pl.col("close").first())
    of = dict(at.iter_rows())
    apart = level(clean, one, ratio * of[other] / of[one], pl.lit(value=True))  # the first is `ratio` times the other
    exchanged = level(level(apart, one, 1 / ratio, DAY), other, ratio, DAY)
    assert [row[::2] for row in told(exchanged)] == [("foreign_session", "error")] * 2


def test_session_at_the_level_of_nobody_is_a_warning() -> None:
    assert told(level(market("XNYS", *JUNE), 1, 2.6, DAY)) == [("foreign_session", "LIQ", "warning")]


@pytest.mark.parametrize("factor", [0.5, 0.55])
def test_level_that_stays_is_none(factor) -> None:
    later = pl.col("session") >= dt.date(2024, 6, 7)
    assert "foreign_session" not in {row[0] for row in told(level(market("XNYS", *JUNE), 1, factor, later))}
