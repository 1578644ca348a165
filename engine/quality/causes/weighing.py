"""Odds of gaps by the rates of their series, which losses do not teach.

1. `weigh_gaps` computes the odds of gaps by the rates of their own series (`no_trade_rates`); gaps that no rate
   explains are excluded from the rates.
2. `reweigh_gaps` does it again for the series that need it, with the outages of the group known and what peers tell of
   rates (`peer_rates`).

Pure: frame in, frame out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.quality.causes.gap_parts import axis_keys, outage_keys
from engine.quality.causes.no_trade_rates import BinnedGaps, Odds, Rates, count_rates, no_trade_odds
from engine.quality.causes.peer_rates import PeerRates
from engine.quality.causes.profiles import covered_lengths


class WeighedGaps(NamedTuple):
    """Gaps of some series with the rates and odds of these; gaps in `excluded` are not counted in the rates."""

    gaps: pl.DataFrame
    expected: pl.DataFrame
    excluded: NDArray[np.bool_]
    rates: Rates
    odds: Odds

    def lean(self) -> WeighedGaps:
        """Copy with whole `gaps`, `excluded` and `rates`; odds without pieces, `expected` empty, to save memory."""
        return WeighedGaps(self.gaps, self.expected.clear(), self.excluded, self.rates, self.odds.lean())


def weigh_gaps(
    gaps: pl.DataFrame,
    expected: pl.DataFrame,
    width: int,
    known: NDArray[np.bool_] | None = None,
    peer_rates: PeerRates | None = None,
) -> WeighedGaps:
    """No-trade rates, odds of sorted gaps; rates leave out whole-segment gaps and, in a second pass, improbable ones.

    Parameters
    ----------
    gaps, expected : DataFrame
        From `gaps.find_gaps` and `gaps.expected_slots`: all of these series.
    width : int
        From `profiles.bin_width`.
    known : array of bool, optional
        Gaps whose cause is known: they are not counted for the rates.
    peer_rates : PeerRates, optional
        From `peer_rates.find_peer_rates`.
    """
    binned = BinnedGaps.of(gaps, expected, width)
    whole = binned.whole()
    if known is not None:
        whole |= known
    rates = count_rates(binned, whole, peer_rates)
    odds = no_trade_odds(rates, binned, whole)
    excluded = whole | odds.is_improbable
    # Series are independent: a second pass changes only those in which more gaps are excluded.
    series = gaps["series"].to_numpy()
    again = np.unique(series[excluded & ~whole])
    if len(again):
        is_again = np.isin(series, again)
        part = binned.only(again)
        new_rates = count_rates(part, excluded[is_again], peer_rates)
        odds = odds.changed(is_again, no_trade_odds(new_rates, part, excluded[is_again]))
        rates = rates.changed(again, new_rates)
    return WeighedGaps(gaps, expected, excluded, rates, odds)


def reweigh_gaps(
    part: WeighedGaps,
    expected: pl.DataFrame,
    width: int,
    known: NDArray[np.bool_],
    outages: pl.DataFrame,
    peer_rates: PeerRates,
) -> WeighedGaps:
    """Weigh the gaps of some series again: those whose rates gaps of outages taught, and those that peers tell a rate.

    Parameters
    ----------
    part : WeighedGaps
        From `weigh_gaps`.
    expected, width, known
        As `weigh_gaps` took them.
    outages : DataFrame
        From `find_outages`, of one group.
    peer_rates : PeerRates
        From `peer_rates.find_peer_rates`.
    """
    gaps = part.gaps
    series, begin = gaps["series"].to_numpy(), axis_keys(gaps)
    in_outage = covered_lengths(*outage_keys(outages), begin, begin + gaps["bar_count"].to_numpy()) > 0
    is_again = np.isin(series, series[in_outage & ~part.excluded]) | np.isin(series, peer_rates.series)
    if not is_again.any():
        return part
    again = np.unique(series[is_again])
    wanted = expected.filter(pl.col("series").is_in(pl.Series(again, dtype=pl.Int32).implode()))
    ours = gaps.filter(pl.Series(is_again))
    new = weigh_gaps(ours, wanted, width, (known | in_outage)[is_again], peer_rates)
    excluded = part.excluded.copy()
    excluded[is_again] = new.excluded
    rates, odds = part.rates.changed(again, new.rates), part.odds.changed(is_again, new.odds.lean())
    return part._replace(excluded=excluded, rates=rates, odds=odds)
