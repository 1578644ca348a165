"""Bars around the gaps of a report."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from engine.runtime.audit_report import BAR, bars_around_gaps
from engine.schema import TS

BEGIN = dt.datetime(2024, 3, 1, 14, 30, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def random_bars(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    minutes = pl.Series(rng.integers(0, 400, rows))
    return pl.DataFrame(
        {
            "symbol": rng.choice(["AAA", "BBB", "CCC"], rows),
            "price_type": rng.choice(["bid", "last"], rows),
            "ts": [BEGIN + int(minute) * MINUTE for minute in minutes],
            "close": rng.normal(100, 1, rows),
            "volume": rng.integers(0, 9, rows).astype(float),
        },
        schema_overrides={"ts": TS},
    ).select(list(BAR))


def random_gaps(rng: np.random.Generator, count: int) -> pl.DataFrame:
    keys = [
        (symbol, side, "1m", BEGIN + int(minute) * MINUTE, BEGIN + int(minute + length) * MINUTE)
        for symbol, side, minute, length in zip(
            rng.choice(["AAA", "BBB", "DDD"], count),
            rng.choice(["bid", "last"], count),
            rng.integers(-50, 450, count),
            rng.integers(1, 60, count),
            strict=True,
        )
    ]
    names = ["symbol", "price_type", "interval", "gap_start", "gap_end"]
    gaps = pl.DataFrame(keys, schema=names, orient="row", schema_overrides={"gap_start": TS, "gap_end": TS})
    return gaps.unique(["symbol", "price_type", "gap_start"], maintain_order=True)


def joined_and_cut(gaps: pl.DataFrame, bars: pl.DataFrame, margin: dt.timedelta) -> list[tuple[object, ...]]:
    """Every gap beside every bar of its series, and of these the ones that are near."""
    first: dict[tuple[object, ...], tuple[object, ...]] = {}
    for row in bars.iter_rows():
        first.setdefault(row[:3], row)
    near = [
        (*gap, *bar[2:])
        for gap in gaps.iter_rows()
        for bar in first.values()
        if gap[:2] == bar[:2] and gap[3] - margin <= bar[2] < gap[4] + margin
    ]
    return sorted(near, key=lambda row: (*row[:4], row[5]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("is_sorted", [True, False])
def test_bars_around_gaps_are_those_of_the_whole_join(seed: int, is_sorted: bool) -> None:
    rng = np.random.default_rng(seed)
    bars, gaps, margin = random_bars(rng, 600), random_gaps(rng, 25), 30 * MINUTE
    if is_sorted:
        bars = bars.sort("symbol", "price_type", "ts", maintain_order=True)
    found = bars_around_gaps(gaps, bars, margin)
    assert found.rows() == joined_and_cut(gaps, bars, margin)
    assert found.height > 0


def test_bars_around_gaps_without_bars_or_gaps_are_none() -> None:
    rng = np.random.default_rng(1)
    bars, gaps = random_bars(rng, 50), random_gaps(rng, 5)
    assert bars_around_gaps(gaps, bars.clear(), MINUTE).is_empty()
    assert bars_around_gaps(gaps.clear(), bars, MINUTE).is_empty()
