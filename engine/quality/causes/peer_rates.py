"""Rates without a trade that the peers of a series tell: series that are nearly complete, and of a like volume.

One minute that a series of thousands lacks says little of its own rate. If peers of a like volume each lack a few single
slots as well, as series of one rate would, that rate is its own too; if some lack many and others none, as series of rates
of their own would, they tell nothing.

1. `single_gaps` takes the single slots that nearly complete series lack, and how many were due.
2. `find_peer_rates` compares two explanations of the peers' numbers k of single gaps in n slots: all have one rate, which
   is that of their sums; or each has its own, of a log-uniform number of trades in a slot. Single slots are lost besides,
   at the prior rate of losses, so a few losses of peers tell no rate.
3. `PeerRates.mixed` weighs the peers' rate against the series' own estimate by how well each explains its other slots.

Pure: frame in, frame out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import polars as pl

from engine.keys import Ints, find_keys
from engine.quality.causes.gap_parts import axis_keys, range_of_parts
from engine.quality.contiguous_runs import Floats
from engine.schema import Schema

SINGLE_GAPS: Schema = {"series": pl.Int32(), "due": pl.Int64(), "ordinal": pl.Int32(), "slot": pl.Int32()}
NEARLY_COMPLETE = 0.01  # share of slots missing up to which the peers of a series may know its rate better
MOST_TRADES = 1e5  # a slot
ALIKE = 0.02  # prior odds of peers of one rate
LIKE_VOLUME = 2.0  # times more or less
RATES = np.exp(-np.geomspace(-math.log(NEARLY_COMPLETE), MOST_TRADES, 64))  # equally likely
LEAST_LOG_ODDS = -7.0


class PeerRates(NamedTuple):
    """Rates of series as their peers tell them.

    Attributes
    ----------
    series : array of int
        Sorted numbers of the series.
    rate, log_odds : array of float
        Chance of no trade in a slot, and the logarithm of the odds that the series is alike, whatever it lacks itself.
    losses : float
        Slots that are lost, per slot.
    """

    series: Ints
    rate: Floats
    log_odds: Floats
    losses: float

    @classmethod
    def none(cls) -> PeerRates:
        """Rates of no series."""
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), 0.0)

    def mixed(self, own: Floats, series: Ints, due: Floats, missing: Floats) -> Floats:
        """Own rates of series with `missing` of `due` slots, mixed with their peers' rates by the odds of each."""
        at, is_found = find_keys(self.series, series) if len(self.series) else (series, np.zeros(len(series), bool))
        rows = np.flatnonzero(is_found)
        if not len(rows):
            return own
        at, n, k = at[rows], np.maximum(due[rows], 1.0), missing[rows]
        rate = self.rate[at]
        for_peers = self.log_odds[at] + likelihood(n, k, rate + self.losses) - likelihood_of_any(n, k, self.losses)
        share = 1 / (1 + np.exp(-np.clip(for_peers, -50.0, 50.0)))
        mixed = own.copy()
        mixed[rows] = share * rate + (1 - share) * own[rows]
        return mixed


def single_gaps(gaps: pl.DataFrame, segment_slots: Ints, due: pl.DataFrame, voting: pl.Series) -> pl.DataFrame:
    """`SINGLE_GAPS` of nearly complete series: a row for each slot that lacks alone, and one without a slot for each series.

    Parameters
    ----------
    gaps : DataFrame
        `series, ordinal, slot, bar_count`, and `known` where a cause is.
    segment_slots : array of int
        Slots of the segment of each gap.
    due : DataFrame
        `series, due, missing` (`Rates.of_series`).
    voting : Series
        Numbers of the series that are peers.
    """
    steady = due.filter(
        (pl.col("missing") <= NEARLY_COMPLETE * pl.col("due")) & pl.col("series").is_in(voting.implode())
    )
    is_part = pl.Series(segment_slots > 1, dtype=pl.Boolean)
    alone = gaps.filter((pl.col("bar_count") == 1) & pl.col("known").is_null() & is_part)
    none = pl.lit(None, pl.Int32)
    rows = pl.concat(
        [
            steady.select("series", "due", none.alias("ordinal"), none.alias("slot")),
            alone.join(steady, on="series").select("series", "due", "ordinal", "slot"),
        ]
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in SINGLE_GAPS.items())


def find_peer_rates(singles: pl.DataFrame, taken: tuple[Ints, Ints], volume: pl.DataFrame, losses: float) -> PeerRates:
    """Rates that peers tell the series with single gaps.

    Parameters
    ----------
    singles : DataFrame of `SINGLE_GAPS`
        Of the whole group.
    taken : (array of int, array of int)
        Packed (ordinal, slot) ranges [start, end) that all lack together, which tell of no series.
    volume : DataFrame
        `series, volume`: the mean of its bars; without any a series has no peers.
    losses : float
        Slots that are lost, per slot.
    """
    slots = singles.drop_nulls("slot")
    own = slots.filter(pl.Series(range_of_parts(axis_keys(slots), *taken) < 0, dtype=pl.Boolean))
    counts = (
        singles.filter(pl.col("slot").is_null())
        .join(own.group_by("series").len("k"), on="series", how="left")
        .join(volume.filter(pl.col("volume") > 0), on="series")
        .with_columns(pl.col("k").fill_null(0))
        .sort("volume", "series")
    )
    if own.is_empty():
        return PeerRates.none()
    n, k, mean = (counts[name].to_numpy().astype(np.float64) for name in ("due", "k", "volume"))
    n = np.maximum(n, 1.0)
    low, high = np.searchsorted(mean, mean / LIKE_VOLUME, "left"), np.searchsorted(mean, mean * LIKE_VOLUME, "right")

    def of_peers(values: Floats) -> Floats:
        """Sum over the series of a like volume, without its own."""
        ahead = np.concatenate([[0.0], np.cumsum(values)])
        return np.asarray(ahead[high] - ahead[low] - values)

    all_due, all_lacking = of_peers(n), np.round(of_peers(k))
    rate = np.maximum(all_lacking / np.maximum(all_due, 1.0) - losses, 0.0)
    told = all_lacking * np.log(np.maximum(rate + losses, 1e-300)) + of_peers(k * np.log(n)) - all_due * (rate + losses)
    log_odds = math.log(ALIKE) + told - of_peers(likelihood_of_any(n, k, losses))
    others = np.maximum(k - 1, 0)
    for_peers = log_odds + likelihood(n, others, rate + losses) - likelihood_of_any(n, others, losses)
    used = np.flatnonzero((k > 0) & (rate > 0) & (for_peers > LEAST_LOG_ODDS))
    series = counts["series"].to_numpy().astype(np.int64)[used]
    order = np.argsort(series)
    return PeerRates(series[order], rate[used][order], log_odds[used][order], losses)


def likelihood(due: Floats, missing: Floats, rate: Floats) -> Floats:
    """Logarithm of the Poisson likelihood of a rate, but for what does not depend on it."""
    return np.asarray(missing * np.log(np.maximum(due * rate, 1e-300)) - due * rate)


def likelihood_of_any(due: Floats, missing: Floats, losses: float) -> Floats:
    """`likelihood` of any rate of a nearly complete series: the mean over a log-uniform number of trades in a slot."""
    of_rates = likelihood(due[:, None], missing[:, None], RATES[None, :] + losses)
    most = of_rates.max(axis=1)
    return np.asarray(most + np.log(np.exp(of_rates - most[:, None]).mean(axis=1)))
