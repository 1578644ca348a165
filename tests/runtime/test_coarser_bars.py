"""The vendor's hourly bars beside its minutes: folded from the whole, while some minutes were never traded or were taken away."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import engine
import numpy as np
import polars as pl
import pytest

HOURS = 48
START = dt.datetime(2024, 5, 6, tzinfo=dt.UTC)


def minutes(seed: int, share: float) -> pl.DataFrame:
    """One-minute bars of two 24-hour sessions, of which a share traded."""
    rng = np.random.default_rng(seed)
    traded = np.flatnonzero(rng.random(60 * HOURS) < share)
    close = np.round(100 + np.cumsum(rng.normal(0, 0.02, len(traded))), 2)
    high, low = close + rng.integers(0, 4, len(traded)) / 100, close - rng.integers(0, 4, len(traded)) / 100
    stamp = [START + dt.timedelta(minutes=int(at)) for at in traded]
    volume = rng.integers(1, 900, len(traded)).astype(float)
    return pl.DataFrame(
        {"timestamp": stamp, "open": close, "high": high, "low": low, "close": close, "volume": volume},
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )


def hours(bars: pl.DataFrame) -> pl.DataFrame:
    stamp = pl.col("timestamp").dt.truncate("1h")
    return bars.group_by(stamp, maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )


def audited(folder: Path, fine: pl.DataFrame, coarse: pl.DataFrame) -> dict[str, pl.DataFrame]:
    for name, frame in (("1m", fine), ("1h", coarse)):
        (folder / name).mkdir(parents=True)
        frame.write_csv(folder / name / f"XBT_{name}.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return dict(engine.run_audit(folder, "24/7").tables)


def causes(tables: dict[str, pl.DataFrame]) -> dict[int, tuple[str, str]]:
    """Missing minute -> cause and evidence."""
    found = {}
    for begun, count, cause, said in tables["gaps"].select("gap_start", "bar_count", "cause", "evidence").iter_rows():
        first = int((begun - START).total_seconds() // 60)
        found |= dict.fromkeys(range(first, first + count), (cause, said))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_hour_that_is_the_sum_of_its_minutes_proves_silence_and_a_larger_one_loss(tmp_path: Path, seed: int) -> None:
    whole = minutes(seed, 0.98)
    lost = set(range(1205, 1225))
    number = (whole["timestamp"] - START).dt.total_minutes()
    tables = audited(tmp_path, whole.filter(~number.is_in(list(lost))), hours(whole))
    found = causes(tables)
    silent = set(range(1, 60 * HOURS - 1)) - set(number.to_list()) - set(range(1200, 1260))
    assert {found[minute][0] for minute in silent} == {"no_trade"}
    assert all("nothing traded in the others" in found[minute][1] for minute in silent)
    assert {found[minute][0] for minute in lost} == {"symbol_loss"}
    assert "the 1h bar has volume" in found[1210][1]


def test_hour_of_another_fold_is_no_evidence(tmp_path: Path) -> None:
    whole = minutes(4, 0.98)
    rng = np.random.default_rng(2)
    other = hours(whole).with_columns(
        pl.col("volume") + pl.Series(rng.integers(1, 50, HOURS)), pl.col("high") + 0.03, pl.col("low") - 0.03
    )
    number = (whole["timestamp"] - START).dt.total_minutes()
    tables = audited(tmp_path, whole.filter(~number.is_between(1205, 1224)), other)
    assert not tables["gaps"]["evidence"].str.contains("the 1h bar").any()


def test_hour_with_prices_beyond_its_minutes_proves_loss_without_volumes(tmp_path: Path) -> None:
    whole = minutes(5, 0.99).with_columns(pl.lit(0.0).alias("volume"))
    number = (whole["timestamp"] - START).dt.total_minutes()
    peak = pl.when(number == 1210).then(pl.col("high") + 5).otherwise("high").alias("high")
    whole = whole.with_columns(peak)
    assert (number == 1210).any()
    tables = audited(tmp_path, whole.filter(~number.is_between(1205, 1224)), hours(whole))
    found = causes(tables)
    assert found[1210][0] == "symbol_loss"
    assert "prices beyond" in found[1210][1]


def test_thin_name_without_a_whole_hour_is_silent_where_sums_are_equal(tmp_path: Path) -> None:
    whole = minutes(6, 0.1)
    tables = audited(tmp_path, whole, hours(whole))
    gaps = tables["gaps"]
    proved = gaps.filter(pl.col("evidence").str.contains("the 1h bar"))
    assert proved["bar_count"].sum() > 0.95 * gaps["bar_count"].sum()
    assert set(proved["cause"]) == {"no_trade"}
