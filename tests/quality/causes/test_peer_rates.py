"""Rates that peers tell, against a plain loop over the peers, and on markets whose rates are known by how they are made."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from engine.quality.causes.peer_rates import (
    ALIKE,
    LIKE_VOLUME,
    RATES,
    SINGLE_GAPS,
    PeerRates,
    find_peer_rates,
    single_gaps,
)

LOSSES = 1 / 39_000
NONE = np.zeros(0, np.int64)


def singles(counts: list[int], due: int = 3900) -> pl.DataFrame:
    """Series that lack so many single slots, at places of their own."""
    rows: list[tuple[int, int, int | None, int | None]] = []
    for series, k in enumerate(counts):
        rows += [(series, due, None, None), *((series, due, 16 * n, 10 + series) for n in range(k))]
    return pl.DataFrame(rows, schema=dict(SINGLE_GAPS), orient="row")


def volumes(values: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"series": range(len(values)), "volume": values}, schema_overrides={"series": pl.Int32()})


def chance(rates: PeerRates, series: int, missing: int, due: int = 3899, own: float = 3e-6) -> float:
    some = np.array([series]), np.array([float(due)]), np.array([float(missing)])
    return float(rates.mixed(np.array([own]), *some)[0])


def by_loop(counts: list[int], volume: list[float], series: int, due: int) -> tuple[float, float]:
    """(rate, log odds) of a series."""
    peers = [n for n, v in enumerate(volume) if n != series and 1 / LIKE_VOLUME <= v / volume[series] <= LIKE_VOLUME]
    rate = sum(counts[n] for n in peers) / (due * len(peers)) - LOSSES
    odds = math.log(ALIKE)
    for n in peers:
        alike = math.exp(-due * (rate + LOSSES)) * (due * (rate + LOSSES)) ** counts[n]
        odds += math.log(alike)
        odds -= math.log(np.mean([math.exp(-due * (r + LOSSES)) * (due * (r + LOSSES)) ** counts[n] for r in RATES]))
    return rate, odds


def test_find_peer_rates_equals_a_loop_over_the_peers() -> None:
    counts = [1, 2, 0, 3, 1, 4, 2, 7, 0]
    volume = [100.0, 120.0, 60.0, 150.0, 300.0, 90.0, 110.0, 900.0, 0.0]
    told = find_peer_rates(singles(counts), (NONE, NONE), volumes(volume), LOSSES)
    assert told.series.tolist() == [0, 1, 3, 4, 5, 6]
    for at, series in enumerate(told.series.tolist()):
        assert (told.rate[at], told.log_odds[at]) == pytest.approx(by_loop(counts[:8], volume[:8], series, 3900))


def test_find_peer_rates_of_alike_series_is_their_mean_and_of_unlike_ones_is_none() -> None:
    same = [100.0] * 20
    alike = [1, *np.random.default_rng(3).poisson(1.95, 19).tolist()]
    assert chance(find_peer_rates(singles(alike), (NONE, NONE), volumes(same), LOSSES), 0, 0) > 2.5e-4
    unlike = find_peer_rates(singles([1, *[0] * 12, 30, 25, 9, 38, 17, 3, 12]), (NONE, NONE), volumes(same), LOSSES)
    assert chance(unlike, 0, 0) == pytest.approx(3e-6, rel=0.01)
    busier = find_peer_rates(singles(alike), (NONE, NONE), volumes([1000.0, *same[1:]]), LOSSES)
    assert 0 not in busier.series


def test_find_peer_rates_of_a_few_losses_is_none() -> None:
    told = find_peer_rates(singles([1, 1, 1, *[0] * 30], 1950), (NONE, NONE), volumes([100.0] * 33), LOSSES)
    assert chance(told, 0, 0, 1949) < 1e-5


def test_find_peer_rates_leaves_out_slots_that_all_lack() -> None:
    # Each series lacks slots 5 to 8 of the first segment, and no other.
    rows = [(n, 3900, 0, slot) for n in range(8) for slot in (5, 6, 7, 8)] + [(n, 3900, None, None) for n in range(8)]
    lost = pl.DataFrame(rows, schema=dict(SINGLE_GAPS), orient="row")
    taken = np.array([5]), np.array([9])
    assert len(find_peer_rates(lost, (NONE, NONE), volumes([1.0] * 8), LOSSES).series) == 8
    assert len(find_peer_rates(lost, taken, volumes([1.0] * 8), LOSSES).series) == 0


def test_single_gaps_are_those_of_nearly_complete_series_within_segments() -> None:
    gaps = pl.DataFrame(
        {"series": [0, 0, 1, 2], "ordinal": [0, 16, 0, 0], "slot": [3, 5, 3, 0], "bar_count": [1, 2, 1, 1]},
        schema_overrides={name: pl.Int32() for name in ("series", "ordinal", "slot", "bar_count")},
    ).with_columns(known=pl.lit(None, pl.String))
    due = pl.DataFrame({"series": [0, 1, 2], "due": [900, 900, 900], "missing": [3, 10, 1]}).cast(
        {"series": pl.Int32()}
    )
    of_segment = np.array([390, 390, 390, 1])
    found = single_gaps(gaps, of_segment, due, pl.Series([0, 1, 2], dtype=pl.Int32))
    assert found.rows() == [(0, 900, None, None), (2, 900, None, None), (0, 900, 0, 3)]
