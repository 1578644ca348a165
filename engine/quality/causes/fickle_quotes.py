"""Quotes that come and go with whoever quotes: no rate by time of day tells when they are away.

Whoever quotes a contract that hardly trades does so in every minute for hours, and is away for hours. Of such a series a
gap says nothing that is no longer than its silences, or that is one of many alike; and it witnesses no outage.

Pure: arrays and frames in, arrays out.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.keys import Flags, Ints, pack_pair
from engine.quality.causes.no_trade_rates import Rates
from engine.quality.contiguous_runs import run_starts

STEADY = 0.05  # share of slots missing up to which a quote is not one that comes and goes
MANY_ABSENCES = 4  # others that are half as long: losses are rarer


def was_away_as_long(gaps: pl.DataFrame, rates: Rates, excluded: Flags, is_silence: Flags) -> Flags:
    """Mask gaps of quotes that come and go which are no longer than a silence of the series, or one of many alike.

    Parameters
    ----------
    gaps : DataFrame
        `series, bar_count` and, where known, `is_quote`, `known`; sorted by series.
    rates : Rates
        Of these series.
    excluded : array of bool
        Gaps that are not counted in the rates.
    is_silence : array of bool
        Gaps that are ordinary at their rate.
    """
    fickle = comes_and_goes(gaps, rates, excluded)
    if not fickle.any():
        return fickle
    count, series = (gaps[name].to_numpy().astype(np.int64) for name in ("bar_count", "series"))
    heads = run_starts(series)
    ends = np.append(heads[1:], len(series))
    owner = np.repeat(np.arange(len(heads)), ends - heads)
    as_silence = count <= np.maximum.reduceat(np.where(is_silence & ~excluded, count, 0), heads)[owner]
    # Gaps of each series by length: how many are at least half as long as each.
    ranked = pack_pair(series, count)[np.lexsort((count, series))]
    alike = ends[owner] - np.searchsorted(ranked, pack_pair(series, (count + 1) // 2))
    return np.asarray(fickle & (as_silence | (alike > MANY_ABSENCES)))


def comes_and_goes(gaps: pl.DataFrame, rates: Rates, excluded: Flags) -> Flags:
    """Mask gaps of quotes of which more than `STEADY` of the slots are missing, for no reason that is known.

    Parameters
    ----------
    gaps, rates, excluded
        As `was_away_as_long` takes them.
    """
    if gaps.is_empty() or "is_quote" not in gaps.columns:
        return np.zeros(gaps.height, bool)
    count, series = (gaps[name].to_numpy().astype(np.int64) for name in ("bar_count", "series"))
    is_open = gaps["known"].is_null().to_numpy() if "known" in gaps.columns else np.ones(gaps.height, bool)
    heads = run_starts(series)
    owner = np.repeat(np.arange(len(heads)), np.diff(np.append(heads, len(series))))
    missing, left_out = (
        np.add.reduceat(np.where(which, count, 0), heads)[owner] for which in (is_open, is_open & excluded)
    )
    due, _ = rates.of_series_at(series)
    return np.asarray(gaps["is_quote"].to_numpy() & (missing > STEADY * (due + left_out)))


def fickle_series(gaps: pl.DataFrame, rates: Rates, excluded: Flags, is_improbable: Flags) -> Ints:
    """Numbers of the quotes that come and go, with more than `MANY_ABSENCES` improbable gaps.

    Parameters
    ----------
    gaps, rates, excluded
        As `was_away_as_long` takes them.
    is_improbable : array of bool
        Of each gap, at its rate.
    """
    fickle = gaps["series"].to_numpy()[is_improbable & comes_and_goes(gaps, rates, excluded)].astype(np.int64)
    number, times = np.unique(fickle, return_counts=True)
    return number[times > MANY_ABSENCES]
