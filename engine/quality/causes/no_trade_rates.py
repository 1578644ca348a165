"""Rates of slots without a trade, per series and time of day, from the gaps of the series.

1. `BinnedGaps.of` joins gaps with expected segments, cut at the bins of the day (`profiles.bins_of`); `count_rates`
   counts, for each series and bin, slots that were due and slots that were missing.
2. `no_trade_odds` gives each gap the chance of a run at least so long. The chance p that a slot has no trade is the
   rate of its series (`rate_of_series`, and where they tell it `peer_rates`), scaled by its bin (`scaled_rate`), and counts -ln p; the gap's own slots are
   left out (in part where the series has less than half of its slots: without the longest silence of a thin one its rate would be too
   high), and those of its siblings: gaps that begin at the same slot of other sessions, if so many cannot be chance
   (`recurrences`). Where no other session lacks a slot for hours around that time of day, though many would be expected,
   the rate is that of these hours alone (`busy_time_chances`). A day that is quieter or busier than others scales that (`day_factors`).
3. Trades come in bursts, and a rate that few bars tell is uncertain: the rate is taken for gamma distributed with
   shape k, so n slots lack a trade with a chance of (1 + n * (p ** (-1 / k) - 1)) ** -k, which is p of one slot and
   more than p ** n of n. 1 / k is the sum of the burstiness, the maximum likelihood estimate from the lengths of the
   series' own gaps (`estimate_burstiness`), and of 1 / bars of the series.

Pure: frame in, frame out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.keys import Flags, Ints, find_keys, number_ranges, pack_columns
from engine.quality.causes.peer_rates import MOST_TRADES, PeerRates
from engine.quality.causes.profiles import BINS, PROFILE_KEY, bin_keys, bin_starts, bins_of, unpack_bin_keys
from engine.quality.contiguous_runs import Floats, run_starts
from engine.schema import SEGMENTS_PER_SESSION, Schema

RATES: Schema = {
    "series": pl.Int32(),
    "position": pl.Int32(),
    "bin": pl.Int32(),
    "due": pl.Int64(),
    "missing": pl.Int64(),
}
BIN_STRENGTH = (0.5, 5.0)  # events that a bin must have to count as much as the day: at rate 0, and more per unit of it
DAY_STRENGTH = (2.0, 40.0)
EDGE_OF_BIN = 6  # the edge of a segment is that part of a bin: 5 minutes
BUSY_TIMES = 0.02  # prior odds
BUSY_BINS = 4  # on both sides: next to quiet hours are others that are neither
EVEN = 0.5
PRESENT = 0.5  # bars that a series without any is taken to have
RECURRING_SHARE = 0.1  # of slots missing: a thinner series lacks the same slot on many days by chance
CHANCE_RECURRENCES = 0.1  # expected in all sessions of the series: fewer are no chance
DAY_FACTOR = (0.4, 2.5)
LEAST_P, MOST_P = 1e-7, 1 - 1e-6
IMPROBABLE_RUNS = 1e-3  # expected in a session: not counted for the rates
K = np.array([1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 40.0, 1e6])
K_WITHOUT_GAPS = 6  # index of K
STEP_OF_K = 1.0  # log of the prior odds of neighbours in K, away from that one
OTHER_CAUSES = 0.02  # share of gaps that may come from anything else
MANY_GAPS = 50  # a series with as many has more silences than losses: all of their lengths tell k
FEW_LOSSES = 3.0  # of them that may come from anything else
MOST_WEIGHT = 9.0  # of a gap that k is estimated from where gaps are few; longer ones may be losses


class Pieces(NamedTuple):
    """Gaps cut at the bins of the day.

    Attributes
    ----------
    gap, bin, first, slots, key : array of int
        Of each piece: row of its gap, bin, first slot, number of slots, key as in `Rates`.
    starts : array of int
        First piece of each gap.
    """

    gap: Ints
    bin: Ints
    first: Ints
    slots: Ints
    key: Ints
    starts: Ints


class BinnedGaps(NamedTuple):
    """Gaps with their expected segments and their pieces by bin of the day.

    Attributes
    ----------
    gaps, expected : DataFrame
        From `gaps.find_gaps` and `gaps.expected_slots`: all of these series.
    counts : array of float
        Slots of each gap.
    segment : array of int
        Its row in `expected`.
    pieces : Pieces
    width : int
        From `profiles.bin_width`.
    """

    gaps: pl.DataFrame
    expected: pl.DataFrame
    counts: Floats
    segment: Ints
    pieces: Pieces
    width: int

    @classmethod
    def of(cls, gaps: pl.DataFrame, expected: pl.DataFrame, width: int) -> BinnedGaps:
        """Sorted gaps with slot count, row in `expected` (which must have it), and pieces cut at bins of the day."""
        heads = run_starts(*(gaps[name].to_numpy() for name in ("series", "ordinal")))
        theirs, ours = (pack_columns(rows, "series", "ordinal") for rows in (expected, gaps[heads]))
        segment = np.repeat(np.searchsorted(theirs, ours), np.diff(np.append(heads, gaps.height)))
        counts = gaps["bar_count"].to_numpy().astype(np.float64)
        return cls(gaps, expected, counts, segment, cut_at_bins(gaps, width), width)

    def whole(self) -> Flags:
        """Mask of gaps as long as all expected (due) slots of their segment."""
        whole: Flags = self.counts == self.expected["slots"].to_numpy()[self.segment]
        return whole

    def only(self, series: Ints) -> BinnedGaps:
        """New `BinnedGaps` of the gaps and expected segments of these series."""
        ours = pl.Series(series, dtype=pl.Int32).implode()
        gaps, expected = (rows.filter(pl.col("series").is_in(ours)) for rows in (self.gaps, self.expected))
        return BinnedGaps.of(gaps, expected, self.width)


@dataclass(frozen=True)
class Odds:
    """Odds of each gap without a loss: how probable it is that nothing traded in its slots.

    Attributes
    ----------
    run : array of float
        Chance that as many slots all have no trade.
    expected : array of float
        Expected number of runs at least as long in a session of this series.
    weight : array of float
        -ln of the chance of its slots, added up.
    k : array of float
        Shape of the rate of its series: burstiness, and how well its bars tell the rate.
    session_slots : array of float
        Slots of its session.
    pieces : Pieces
    p : array of float
        Chance of each piece's slots.
    """

    run: Floats
    expected: Floats
    weight: Floats
    k: Floats
    session_slots: Floats
    pieces: Pieces
    p: Floats

    @property
    def is_improbable(self) -> Flags:
        """Mask of the gaps as long as fewer than `IMPROBABLE_RUNS` are expected in a session: hardly silence of its own."""
        return np.asarray(self.expected < IMPROBABLE_RUNS)

    def lean(self) -> Odds:
        """Copy with `pieces` and `p` emptied; per-gap arrays stay."""
        return replace(self, pieces=Pieces(*(values[:0] for values in self.pieces)), p=self.p[:0])

    def changed(self, gaps: Flags, other: Odds) -> Odds:
        """Copy in which the gaps of the mask have `other`'s odds; `other` has exactly these gaps, in order."""
        both = ((getattr(self, name), getattr(other, name)) for name in ("run", "expected", "weight", "k"))
        run, expected, weight, k = (replace_where(values, gaps, others) for values, others in both)
        p = replace_where(self.p, gaps[self.pieces.gap], other.p)
        return replace(self, run=run, expected=expected, weight=weight, k=k, p=p)


@dataclass(frozen=True)
class Rates:
    """Numbers of due and of missing slots per series and bin of the day.

    Attributes
    ----------
    table : DataFrame
        `RATES`, sorted by its key.
    width : int
        From `profiles.bin_width`.
    peers : PeerRates
        What peers tell of the rates of some series.
    """

    table: pl.DataFrame
    width: int
    peers: PeerRates = field(default_factory=PeerRates.none)

    @cached_property
    def keys(self) -> Ints:
        """Packed (series, position, bin) of each row of the table, increasing."""
        return bin_keys(*(self.table[name].to_numpy() for name in PROFILE_KEY))

    @cached_property
    def of_series(self) -> pl.DataFrame:
        """`series, due, missing` summed over positions and bins, sorted by series."""
        return self.table.group_by("series").agg(pl.col("due", "missing").sum()).sort("series")

    def changed(self, series: Ints, other: Rates) -> Rates:
        """Copy in which all rows of these series are replaced by `other`'s table, sorted again."""
        ours = pl.Series(series, dtype=pl.Int32).implode()
        others = self.table.filter(~pl.col("series").is_in(ours))
        return replace(self, table=pl.concat([others, other.table]).sort("series", "position", "bin"))

    def at(self, key: Ints) -> tuple[Floats, Floats]:
        """(`due`, `missing`) as floats for each key; 0 for a key that the table does not have."""
        if self.table.is_empty():
            return np.zeros(len(key)), np.zeros(len(key))
        at, is_found = find_keys(self.keys, key)
        due, missing = (self.table[name].to_numpy()[at].astype(np.float64) for name in ("due", "missing"))
        return np.where(is_found, due, 0.0), np.where(is_found, missing, 0.0)

    def of_series_at(self, series: Ints) -> tuple[Floats, Floats]:
        """(`due`, `missing`) of whole series as floats, for each series number; 0 for one that the table lacks."""
        whole = self.of_series
        if whole.is_empty():
            return np.zeros(len(series)), np.zeros(len(series))
        at, is_found = find_keys(whole["series"].to_numpy(), series)
        due, missing = (whole[name].to_numpy()[at].astype(np.float64) for name in ("due", "missing"))
        return np.where(is_found, due, 0.0), np.where(is_found, missing, 0.0)

    def chances(self, key: Ints, own: Floats | None = None, own_in_all: Floats | None = None) -> Floats:
        """Chance of no trade in a slot per key: the series' rate scaled by its bin, own slots left out; clipped.

        Parameters
        ----------
        key : array of int
            From `bin_keys`.
        own, own_in_all : array of float, optional
            Missing slots that are left out of the counts of the bin and of the series (the gap's own).
        """
        own = np.zeros(len(key)) if own is None else own
        own_in_all = own if own_in_all is None else own_in_all
        due, missing = self.at(key)
        series = unpack_bin_keys(key)[0]
        all_due, all_missing = self.of_series_at(series)
        of_series = self.of_whole(series, np.maximum(all_due - own_in_all, 0), np.maximum(all_missing - own_in_all, 0))
        chance = scaled_rate(of_series, np.maximum(due - own, 0), np.maximum(missing - own, 0), BIN_STRENGTH)
        return np.asarray(np.clip(chance, LEAST_P, MOST_P))

    def of_whole(self, series: Ints, due: Floats, missing: Floats) -> Floats:
        """Chance of no trade in a slot of series with `missing` of `due` slots, by their own and their peers' rates."""
        return self.peers.mixed(rate_of_series(due, missing), series, due, missing)


def rate_of_series(due: Floats, missing: Floats) -> Floats:
    """Chance of no trade in a slot of a series, by the other slots: (missing + a) / (due + a + 0.5).

    With a log-uniform prior of the trades in a slot, up to `MOST_TRADES`, `due` slots of which none is missing leave a
    chance of a / due, a = 1 / (ln due * ln(MOST_TRADES / ln due)): far less than one half, since most rates that miss
    no slot of many are far above the least that could.
    """
    count = np.maximum(np.log(np.maximum(due, 1.0)), 1.0)
    none = 1 / (count * np.log(MOST_TRADES / count))
    return np.asarray((missing + none) / (due + none + PRESENT))


def scaled_rate(rate: Floats, due: Floats, missing: Floats, strength: tuple[float, float]) -> Floats:
    """`rate` times (missing + s) / (due * rate + s), s = strength; of rates above 0.5, the same of the present slots.

    The rarer of the two, missing and present slots, tells how a part of the day, or a day, differs from the others; a
    part that expects few of them says little, and has the rate of the whole.
    """
    is_thin = rate > EVEN
    rarer, counted = np.where(is_thin, 1 - rate, rate), np.where(is_thin, due - missing, missing)
    prior = strength[0] + strength[1] * rarer
    scaled = np.minimum(rarer * (counted + prior) / (due * rarer + prior), 1.0)
    return np.asarray(np.where(is_thin, 1 - scaled, scaled))


def cut_at_bins(gaps: pl.DataFrame, width: int) -> Pieces:
    """Pieces of gaps in gap order, cut where bins begin: gap row, bin, first slot, slots, key, first piece per gap."""
    slot = gaps["slot"].to_numpy().astype(np.int64)
    end = slot + gaps["bar_count"].to_numpy()
    low, high = bins_of(slot, width), bins_of(end - 1, width)
    gap, number = number_ranges(high - low + 1)
    number += low[gap]
    first = np.maximum(bin_starts(number, width), slot[gap])
    slots = np.minimum(bin_starts(number + 1, width), end[gap]) - first
    series, position = gaps["series"].to_numpy()[gap], gaps["ordinal"].to_numpy()[gap] % SEGMENTS_PER_SESSION
    is_filled = slots > 0
    gap = gap[is_filled]
    starts = np.searchsorted(gap, np.arange(len(slot)))
    key = bin_keys(series[is_filled], position[is_filled], number[is_filled])
    return Pieces(gap, number[is_filled], first[is_filled], slots[is_filled], key, starts)


def count_rates(binned: BinnedGaps, excluded: Flags, peers: PeerRates | None = None) -> Rates:
    """Per series, position, bin: slots `due` (expected) and `missing` (in gaps), both less excluded gaps' slots.

    Parameters
    ----------
    binned : BinnedGaps
    excluded : array of bool
        Gaps that have another cause than that nothing traded.
    peers : PeerRates, optional
        What peers tell of the rates of some series.
    """
    position = (pl.col("ordinal") % SEGMENTS_PER_SESSION).alias("position")
    segments = binned.expected.group_by("series", position, "slots").agg(pl.len().alias("segments"))
    whole = segments.rename({"slots": "bar_count", "position": "ordinal"}).with_columns(slot=pl.lit(0, pl.Int32))
    pieces = cut_at_bins(whole, binned.width)
    keys, at = np.unique(pieces.key, return_inverse=True)
    due = sum_by_index(at, pieces.slots * whole["segments"].to_numpy()[pieces.gap], len(keys))
    ours, slots = np.searchsorted(keys, binned.pieces.key), binned.pieces.slots
    missing = sum_by_index(ours, slots, len(keys))
    not_counted = sum_by_index(ours, slots * excluded[binned.pieces.gap], len(keys))
    counted = {
        **dict(zip(PROFILE_KEY, unpack_bin_keys(keys), strict=True)),
        "due": due - not_counted,
        "missing": missing - not_counted,
    }
    table = pl.DataFrame(counted).select(pl.col(name).cast(dtype) for name, dtype in RATES.items())
    return Rates(table, binned.width, peers or PeerRates.none())


def no_trade_odds(rates: Rates, binned: BinnedGaps, excluded: Flags) -> Odds:
    """Per gap, by rates without its own slots: chance of a no-trade run as long, times session slots, and k.

    Parameters
    ----------
    rates : Rates
    binned : BinnedGaps
    excluded : array of bool
        As `count_rates` took it: the gaps whose slots are not in the counts.
    """
    pieces, counts, expected = binned.pieces, binned.counts, binned.expected
    counted = ~excluded[pieces.gap]
    siblings, recurring = recurrences(rates, binned, counted)
    left_out = np.where(excluded, 0.0, counts * share_left_out(rates, binned.gaps["series"].to_numpy()))
    own = pieces.slots * (left_out / np.maximum(counts, 1))[pieces.gap] + siblings
    p = rates.chances(pieces.key, own, (left_out + sum_pieces(siblings, pieces, len(counts)))[pieces.gap])
    of_day = day_factors(rates, binned, excluded, left_out)[pieces.gap]
    weight = -np.log(busy_time_chances(rates, pieces.key, own, np.clip(p**of_day, LEAST_P, MOST_P), of_day))
    total = sum_pieces(weight * pieces.slots, pieces, len(counts))
    single = total / np.maximum(counts, 1)
    k = 1 / (1 / estimate_burstiness(binned, single, excluded) + rate_variances(rates, pieces, weight))
    run = chance_of_run(counts, single, k)
    heads = run_starts(*(expected[name].to_physical().to_numpy() for name in ("series", "session")))
    slots = np.add.reduceat(expected["slots"].to_numpy().astype(np.float64), heads) if len(heads) else np.zeros(0)
    session_slots = slots[np.searchsorted(heads, binned.segment, side="right") - 1]
    expected_runs = np.minimum(session_slots * run, np.minimum.reduceat(recurring, pieces.starts) if len(run) else run)
    return Odds(run, expected_runs, total, k, session_slots, pieces, p)


def busy_time_chances(rates: Rates, key: Ints, own: Floats, p: Floats, of_day: Floats) -> Floats:
    """Chance `p` of a slot per key, or less in a stretch of bins around it of which no slot but its own is missing.

    Either the stretch is as quiet as the whole series, and lacks none of its slots by luck, or nothing is ever missing
    there, as in the busy hours of a market that never closes. `BUSY_TIMES` is the prior odds of the latter, since many
    stretches of a day could be such.

    Parameters
    ----------
    rates : Rates
    key : array of int
        From `bin_keys`.
    own : array of float
        Missing slots of each key that are left out.
    p : array of float
        From `Rates.chances`, on that day.
    of_day : array of float
        From `day_factors`: a quiet day is so in busy hours too.
    """
    if not len(rates.keys):
        return p
    due, missing = (rates.table[name].to_numpy().astype(np.float64) for name in ("due", "missing"))
    at, is_found = find_keys(rates.keys, key)
    place = rates.keys // BINS
    row, height = np.arange(len(place)), len(place)
    ahead = np.concatenate([[0.0], np.cumsum(due)])
    # The last row at or before each one where a slot is missing, or another segment begins; and the first one after it.
    stops = missing > 0
    begins = np.append([True], place[1:] != place[:-1])
    last = np.maximum.accumulate(np.maximum(np.where(stops, row + 1, 0), np.where(begins, row, 0)))
    ends = np.append(begins[1:], [True])
    first = np.minimum.accumulate(np.minimum(np.where(stops, row, height), np.where(ends, row + 1, height))[::-1])[::-1]
    is_first, is_last = begins[at], ends[at]
    left = np.where(is_first, at, last[np.maximum(at - 1, 0)])
    right = np.where(is_last, at + 1, first[np.minimum(at + 1, height - 1)])
    # As far on both sides: at the edge of a busy stretch its rate is not that of the middle.
    own_due = due[at]
    arms = np.minimum(ahead[right] - ahead[at] - own_due, ahead[at] - ahead[left])
    held = np.maximum(2 * arms + own_due - own, 1.0)
    all_due, all_missing = rates.of_series_at(unpack_bin_keys(key)[0])
    luck = np.exp(-np.minimum(held * all_missing / np.maximum(all_due, 1), 500.0))
    is_busy = is_found & (missing[at] <= own)
    is_busy &= (at - left >= BUSY_BINS) & (right - at > BUSY_BINS)
    share = np.where(is_busy, BUSY_TIMES / (BUSY_TIMES + luck), 0.0)
    busy = np.minimum(rate_of_series(held, np.zeros(len(held))) ** np.minimum(of_day, 1.0), p)
    return np.asarray(np.clip(share * busy + (1 - share) * p, LEAST_P, MOST_P))


def share_left_out(rates: Rates, series: NDArray[np.integer]) -> Floats:
    """Twice the share of its counted slots that each series has, at most 1: below it the series lacks most slots."""
    due, missing = rates.of_series_at(series.astype(np.int64))
    return np.asarray(np.minimum(2 * (1 - missing / np.maximum(due, 1)), 1.0))


def rate_variances(rates: Rates, pieces: Pieces, weight: Floats) -> Floats:
    """Relative variance of the rate of each gap: 1 / bars of the series, and of its bins by weight 1 / (bars + prior).

    Parameters
    ----------
    rates : Rates
    pieces : Pieces
    weight : array of float
        Of a slot of each piece.
    """
    due, missing = rates.at(pieces.key)
    series = unpack_bin_keys(pieces.key)[0]
    all_due, all_missing = rates.of_series_at(series)
    chance = rates.of_whole(series, all_due, all_missing)
    rarer = np.minimum(chance, 1 - chance)
    prior = (BIN_STRENGTH[0] + BIN_STRENGTH[1] * rarer) * (1 - chance) / rarer
    of_bin = 1 / (np.maximum(due - missing, 0.0) + prior)
    height = len(pieces.starts)
    sums = sum_pieces(weight * pieces.slots, pieces, height)
    parts = (weight * pieces.slots / np.maximum(sums, 1e-300)[pieces.gap]) ** 2
    of_series = 1 / (np.maximum(all_due - all_missing, 0.0) + PRESENT)
    return sum_pieces(parts * of_bin, pieces, height) + (of_series[pieces.starts] if height else 0.0)


def recurrences(rates: Rates, binned: BinnedGaps, counted: Flags) -> tuple[Floats, Floats]:
    """Per piece: (slots of its siblings, expected number of such recurrences); 0 and infinity where chance explains it.

    Siblings are gaps that begin at the same slot of other sessions of a series that rarely lacks a slot, and whose cause
    is not known, apart from the first and last minutes of segments, which often are quiet. m of them in D sessions are expected slots * C(D, m) * p ** m times, C(D, m) <= (e D / m) ** m; below `CHANCE_RECURRENCES` they are no chance.

    Parameters
    ----------
    rates : Rates
    binned : BinnedGaps
    counted : array of bool
        Of each piece: whether its slots are in `rates`.
    """
    pieces = binned.pieces
    siblings, recurring = np.zeros(len(pieces.gap)), np.full(len(pieces.gap), np.inf)
    due, missing = rates.of_series_at(unpack_bin_keys(pieces.key)[0])
    may_recur = np.zeros(len(pieces.gap), bool)
    slot, slots = binned.gaps["slot"].to_numpy(), binned.expected["slots"].to_numpy()[binned.segment]
    edge = max(binned.width // EDGE_OF_BIN, 1)
    may_recur[pieces.starts] = (slot >= edge) & (slot + binned.counts <= slots - edge)
    if "known" in binned.gaps.columns:
        may_recur &= binned.gaps["known"].is_null().to_numpy()[pieces.gap]
    at = np.flatnonzero((missing <= RECURRING_SHARE * due) & may_recur)
    if not len(at):
        return siblings, recurring
    # A bin and a slot in it: less than a million slots are in a segment.
    place = pieces.key[at] * (1 << 20) + pieces.first[at]
    _, number, times = np.unique(place, return_inverse=True, return_counts=True)
    own = pieces.slots[at] * counted[at]
    slots = np.bincount(number, weights=own)[number]
    m = times[number].astype(np.float64)
    rate = rates.of_whole(unpack_bin_keys(pieces.key[at])[0], due[at], np.maximum(missing[at] - slots, 0))
    of_segment = binned.expected["slots"].to_numpy()[binned.segment[pieces.gap[at]]].astype(np.float64)
    sessions = np.maximum(due[at] / np.maximum(of_segment, 1), 1.0)
    chance = of_segment * np.exp(np.minimum(m * (np.log(sessions * rate / m) + 1), 50.0))
    is_no_chance = (m > 1) & (chance < CHANCE_RECURRENCES)
    siblings[at] = np.where(is_no_chance, slots - own, 0.0)
    recurring[at] = np.where(is_no_chance, chance, np.inf)
    return siblings, recurring


def chance_of_run(slots: Floats, weight: Floats, k: Floats | float) -> Floats:
    """Chance that all slots have no trade: (1 + slots * (exp(weight / k) - 1)) ** -k; weight = -ln p of one."""
    return np.asarray(np.exp(-k * np.log1p(slots * np.expm1(np.minimum(weight / k, 50.0)))))


def replace_where(values: Floats, where: Flags, others: Floats) -> Floats:
    """Copy of `values` with the masked elements set to `others` (one per true), in order."""
    values = values.copy()
    values[where] = others
    return values


def sum_by_index(at: Ints, values: NDArray[np.integer], height: int) -> Ints:
    """Integer sum of `values` per index 0..height-1; 0 for an index that does not occur."""
    # By way of floats, whose sums of slots are exact.
    return np.bincount(at, weights=values, minlength=height).astype(np.int64)


def sum_pieces(values: Floats, pieces: Pieces, height: int) -> Floats:
    """Sum of piece values per gap, one for each of `height` gaps."""
    return np.add.reduceat(values, pieces.starts) if height else np.zeros(0)


def day_factors(rates: Rates, binned: BinnedGaps, excluded: Flags, own: Floats) -> Floats:
    """Per gap ln(missing share of its segment's other slots) / ln(usual share), shrunk, in 0.4..2.5; > 1: busier."""
    segments, segment = binned.expected.height, binned.segment
    not_counted = np.bincount(segment, weights=binned.counts * excluded, minlength=segments)[segment]
    missing = np.bincount(segment, weights=binned.counts * ~excluded, minlength=segments)[segment]
    share = np.clip(mean_missing_share(rates, binned.expected)[segment], LEAST_P, MOST_P)
    due = np.maximum(binned.expected["slots"].to_numpy()[segment] - not_counted - own, 0)
    today = np.clip(scaled_rate(share, due, np.maximum(missing - own, 0), DAY_STRENGTH), LEAST_P, MOST_P)
    return np.asarray(np.clip(np.log(today) / np.log(share), *DAY_FACTOR))


def mean_missing_share(rates: Rates, expected: pl.DataFrame) -> Floats:
    """Per expected segment, the mean no-trade chance of its slots by the rates of its bins (0-1), whatever the day."""
    placed = expected.select("series", "slots", (pl.col("ordinal") % SEGMENTS_PER_SESSION).alias("position"))
    kinds = placed.select("series", "position", "slots").unique()
    whole = kinds.select(
        "series", pl.col("position").alias("ordinal"), pl.col("slots").alias("bar_count"), slot=pl.lit(0, pl.Int32)
    )
    pieces = cut_at_bins(whole, rates.width)
    missing = sum_pieces(rates.chances(pieces.key) * pieces.slots, pieces, kinds.height)
    shares = kinds.with_columns((pl.Series(missing) / pl.col("slots")).alias("share"))
    joined = placed.join(shares, on=["series", "position", "slots"], how="left", maintain_order="left")
    return joined["share"].to_numpy()


def estimate_burstiness(binned: BinnedGaps, single: Floats, excluded: Flags) -> Floats:
    """Per gap, k of its series: 1 / mean of 1 / k over `K`, by the likelihood of its usable gaps' lengths and a prior at 15.

    Parameters
    ----------
    binned : BinnedGaps
    single : array of float
        -ln of the chance of one slot of each gap.
    excluded : array of bool
        Gaps that are left out.
    """
    heads = run_starts(binned.gaps["series"].to_numpy())
    if not len(heads):
        return np.zeros(0)
    gaps = np.diff(np.append(heads, binned.gaps.height))
    often = gaps >= MANY_GAPS
    used = np.flatnonzero(~excluded & (np.repeat(often, gaps) | (binned.counts * single <= MOST_WEIGHT)))
    counts, single = binned.counts[used], single[used]
    owner = np.searchsorted(heads, used, side="right") - 1
    # Gaps that are alike in all that counts mostly follow one another.
    alike = run_starts(owner, counts, single)
    times, owner = np.diff(np.append(alike, len(counts))), owner[alike]
    number = np.maximum(np.bincount(owner, weights=times, minlength=len(heads)), 1)
    others = np.where(often, np.minimum(OTHER_CAUSES, FEW_LOSSES / number), OTHER_CAUSES)
    scores = log_likelihoods(counts[alike], single[alike], others[owner])
    summed = np.stack([np.bincount(owner, weights=times * score, minlength=len(heads)) for score in scores], axis=1)
    # A series with few gaps is taken for one of ordinary burstiness.
    scores_of_k = summed - STEP_OF_K * np.abs(np.arange(len(K)) - K_WITHOUT_GAPS)
    weights = np.exp(scores_of_k - scores_of_k.max(axis=1, keepdims=True))
    mean = (weights / K).sum(axis=1) / weights.sum(axis=1)
    return np.repeat(1 / mean, gaps)


def log_likelihoods(counts: Floats, single: Floats, others: Floats) -> Iterator[Floats]:
    """Yield per k of `K` the log likelihood of each gap's length, given a gap began; a share `others` has other causes."""
    by_other_cause = others / (counts * (counts + 1))
    longer = np.flatnonzero(counts > 1)
    for k in K:
        # As `chance_of_run`. Given that a gap began, it has at least its length, and not one slot more.
        step = np.expm1(np.minimum(single / k, 50.0))
        began = np.exp(-k * np.log1p(step))
        at_least = began.copy()
        at_least[longer] = np.exp(-k * np.log1p(counts[longer] * step[longer]))
        exactly = at_least - np.exp(-k * np.log1p((counts + 1) * step))
        yield np.log((1 - others) * np.maximum(exactly, 0) / np.maximum(began, 1e-300) + by_other_cause)
