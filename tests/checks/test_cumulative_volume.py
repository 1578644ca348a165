"""Check `cumulative_volume`: totals of the session so far for volumes."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.checks.bar_checks import check_bars

from tests.checks.feeds import market

JUNE = dt.date(2024, 6, 3), dt.date(2024, 6, 14)


def said(volume: pl.Expr, code: str = "XNYS") -> pl.DataFrame:
    feed = market(code, *JUNE)
    rows = feed.rows.with_columns(pl.when(pl.col("series") == 1).then(volume).otherwise("volume").alias("volume"))
    return check_bars(rows, feed.series, feed.grid, feed.zone)


@pytest.mark.parametrize("code", ["XNYS", "24/7"])
def test_volume_that_counts_up_through_each_session_is_told_once_and_no_stamp_is_blamed(code) -> None:
    found = said(pl.col("volume").fill_null(0).cum_sum().over("series", "session"), code)
    assert found.filter(pl.col("severity") != "info").select("check_name", "symbol", "value").rows() == [
        ("cumulative_volume", "LIQ", 1.0)
    ]


def test_total_that_begins_anew_within_the_session_is_told() -> None:
    half = pl.col("ts").dt.hour() < 17
    found = said(pl.col("volume").cum_sum().over("series", "session", half))
    assert "cumulative_volume" in found["check_name"].to_list()


@pytest.mark.parametrize("volume", [pl.col("volume"), pl.lit(0.0), pl.lit(100.0), pl.lit(None, pl.Float64)])
def test_volumes_of_bars_constant_ones_and_none_are_not(volume) -> None:
    assert said(volume).filter(check_name="cumulative_volume").is_empty()
