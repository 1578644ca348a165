"""How often a series has no bar although nothing is wrong: per time of day, from its own gaps.

1. `Seen.of` puts gaps beside what was expected, cut at the bins of the day (`traces.bins_of`); `count_rates` counts, for each
   series and bin, slots that were due and slots that were missing.
2. `no_trade_odds` gives each gap the chance of a run at least so long. A slot without a trade has the chance
   p = (missing + A * p of the series) / (due + A) in its bin, the gap's own slots left out, and counts -ln p; a day that
   is quieter or busier than others scales that (`_day_factors`).
3. Trades come in bursts: their rate is taken for gamma distributed with shape k, so n slots lack one with a chance of
   (1 + n * (p ** (-1 / k) - 1)) ** -k, which is p of one slot and more than p ** n of n. k is what makes the lengths of the
   series' own gaps likeliest (`_burstiness`).

Pure: frame in, frame out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.keys import Flags, Ints, find_keys, number_ranges, pack_columns
from engine.quality.causes.profiles import PROFILE_KEY, bin_keys, bin_starts, bins_of, unpack_bin_keys
from engine.quality.contiguous_runs import Floats, run_starts
from engine.schema import SEGMENTS_PER_SESSION, Schema

RATES: Schema = {
    "series": pl.Int32(),
    "position": pl.Int32(),
    "bin": pl.Int32(),
    "due": pl.Int64(),
    "missing": pl.Int64(),
}
SHRINK_SLOTS = 20.0  # a bin counts as much as the whole day when it has seen so many slots
SHRINK_DAY_SLOTS = 60.0
DAY_FACTOR = (0.4, 2.5)
LEAST_P, MOST_P = 1e-7, 1 - 1e-6
K = np.array([1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 40.0, 1e6])
K_WITHOUT_GAPS = 6  # index of K
STRANGERS = 0.02  # share of gaps that may come from anything else
MOST_WEIGHT = 9.0  # of a gap that tells of bursts; longer ones may be losses


class Pieces(NamedTuple):
    """Gaps cut at the bins: `gap` is the row of each piece's gap, `first` and `slots` what it holds, `key` as in `Rates`."""

    gap: Ints
    bin: Ints
    first: Ints
    slots: Ints
    key: Ints
    starts: Ints


class BinnedGaps(NamedTuple):
    """Gaps, and what was expected where they are: found once, and weighed as often as need be.

    Attributes
    ----------
    gaps, wanted : DataFrame
        From `gaps.find_gaps` and `gaps.expected_slots`: all of these series.
    counts : array of float
        Slots of each gap.
    segment : array of int
        Its row in `wanted`.
    pieces : Pieces
    width : int
        From `traces.bin_width`.
    """

    gaps: pl.DataFrame
    wanted: pl.DataFrame
    counts: Floats
    segment: Ints
    pieces: Pieces
    width: int

    @classmethod
    def of(cls, gaps: pl.DataFrame, wanted: pl.DataFrame, width: int) -> BinnedGaps:
        """Put gaps beside what was expected."""
        heads = run_starts(*(gaps[name].to_numpy() for name in ("series", "ordinal")))
        theirs, ours = (pack_columns(rows, "series", "ordinal") for rows in (wanted, gaps[heads]))
        segment = np.repeat(np.searchsorted(theirs, ours), np.diff(np.append(heads, gaps.height)))
        return cls(
            gaps, wanted, gaps["bar_count"].to_numpy().astype(np.float64), segment, cut_at_bins(gaps, width), width
        )

    def whole(self) -> Flags:
        """Which gaps are a whole segment."""
        whole: Flags = self.counts == self.wanted["slots"].to_numpy()[self.segment]
        return whole

    def only(self, series: Ints) -> BinnedGaps:
        """What belongs to some series."""
        ours = pl.Series(series, dtype=pl.Int32).implode()
        gaps, wanted = (rows.filter(pl.col("series").is_in(ours)) for rows in (self.gaps, self.wanted))
        return BinnedGaps.of(gaps, wanted, self.width)


@dataclass(frozen=True)
class Odds:
    """Of each gap.

    Attributes
    ----------
    run : array of float
        Chance that the next so many slots all have no trade.
    expected : array of float
        How many runs at least so long a session of this series has.
    weight : array of float
        -ln of the chance of its slots, added up.
    k : array of float
        Burstiness of its series.
    pieces : Pieces
    p : array of float
        Chance of each piece's slots.
    """

    run: Floats
    expected: Floats
    weight: Floats
    k: Floats
    pieces: Pieces
    p: Floats

    def lean(self) -> Odds:
        """Without the pieces."""
        return replace(self, pieces=Pieces(*(values[:0] for values in self.pieces)), p=self.p[:0])

    def changed(self, gaps: Flags, other: Odds) -> Odds:
        """With other odds of some gaps."""
        both = ((getattr(self, name), getattr(other, name)) for name in ("run", "expected", "weight", "k"))
        run, expected, weight, k = (_changed(values, gaps, others) for values, others in both)
        return Odds(run, expected, weight, k, self.pieces, _changed(self.p, gaps[self.pieces.gap], other.p))


@dataclass(frozen=True)
class Rates:
    """What was due and what was missing.

    Attributes
    ----------
    table : DataFrame
        `RATES`, sorted by its key.
    width : int
        From `traces.bin_width`.
    """

    table: pl.DataFrame
    width: int

    @cached_property
    def keys(self) -> Ints:
        """One number per row, growing."""
        return bin_keys(*(self.table[name].to_numpy() for name in PROFILE_KEY))

    @cached_property
    def of_series(self) -> pl.DataFrame:
        """`series, due, missing`, sorted."""
        return self.table.group_by("series").agg(pl.col("due", "missing").sum()).sort("series")

    def changed(self, series: Ints, other: Rates) -> Rates:
        """With other rates of some series."""
        ours = pl.Series(series, dtype=pl.Int32).implode()
        kept = self.table.filter(~pl.col("series").is_in(ours))
        return Rates(pl.concat([kept, other.table]).sort("series", "position", "bin"), self.width)

    def at(self, key: Ints) -> tuple[Floats, Floats]:
        """`due` and `missing` of some keys; 0 of unknown ones."""
        if self.table.is_empty():
            return np.zeros(len(key)), np.zeros(len(key))
        at, known = find_keys(self.keys, key)
        due, missing = (self.table[name].to_numpy()[at].astype(np.float64) for name in ("due", "missing"))
        return np.where(known, due, 0.0), np.where(known, missing, 0.0)

    def chances(self, key: Ints, own: Floats | None = None, own_in_all: Floats | None = None) -> Floats:
        """Chance that a slot of each key has no trade; `own` slots of it, all missing, left out of the count."""
        own = np.zeros(len(key)) if own is None else own
        own_in_all = own if own_in_all is None else own_in_all
        due, missing = self.at(key)
        all_due, all_missing = self._whole(unpack_bin_keys(key)[0])
        of_series = (np.maximum(all_missing - own_in_all, 0) + 0.5) / (np.maximum(all_due - own_in_all, 0) + 1)
        chance = (np.maximum(missing - own, 0) + SHRINK_SLOTS * of_series) / (np.maximum(due - own, 0) + SHRINK_SLOTS)
        return np.asarray(np.clip(chance, LEAST_P, MOST_P))

    def _whole(self, series: Ints) -> tuple[Floats, Floats]:
        whole = self.of_series
        if whole.is_empty():
            return np.zeros(len(series)), np.zeros(len(series))
        at, known = find_keys(whole["series"].to_numpy(), series)
        return tuple(np.where(known, whole[name].to_numpy()[at], 0).astype(np.float64) for name in ("due", "missing"))  # type: ignore[return-value]


def cut_at_bins(gaps: pl.DataFrame, width: int) -> Pieces:
    """Cut gaps (`series, ordinal, slot, bar_count`) at the bins of the day."""
    slot = gaps["slot"].to_numpy().astype(np.int64)
    end = slot + gaps["bar_count"].to_numpy()
    low, high = bins_of(slot, width), bins_of(end - 1, width)
    gap, number = number_ranges(high - low + 1)
    number += low[gap]
    first = np.maximum(bin_starts(number, width), slot[gap])
    slots = np.minimum(bin_starts(number + 1, width), end[gap]) - first
    series, position = gaps["series"].to_numpy()[gap], gaps["ordinal"].to_numpy()[gap] % SEGMENTS_PER_SESSION
    kept = slots > 0
    gap = gap[kept]
    starts = np.searchsorted(gap, np.arange(len(slot)))
    key = bin_keys(series[kept], position[kept], number[kept])
    return Pieces(gap, number[kept], first[kept], slots[kept], key, starts)


def count_rates(seen: BinnedGaps, strange: Flags) -> Rates:
    """Count what was due and missing by series and time of day.

    Parameters
    ----------
    seen : Seen
    strange : array of bool
        Gaps that have another cause: their slots count for neither.
    """
    segments = (
        seen.wanted.group_by("series", (pl.col("ordinal") % SEGMENTS_PER_SESSION).alias("position"), "slots")
        .agg(pl.len().alias("segments"))
    )  # fmt: skip
    whole = segments.rename({"slots": "bar_count", "position": "ordinal"}).with_columns(slot=pl.lit(0, pl.Int32))
    pieces = cut_at_bins(whole, seen.width)
    keys, at = np.unique(pieces.key, return_inverse=True)
    due = _added(at, pieces.slots * whole["segments"].to_numpy()[pieces.gap], len(keys))
    ours, slots = np.searchsorted(keys, seen.pieces.key), seen.pieces.slots
    missing = _added(ours, slots, len(keys))
    odd = _added(ours, slots * strange[seen.pieces.gap], len(keys))
    counted = {
        **dict(zip(PROFILE_KEY, unpack_bin_keys(keys), strict=True)),
        "due": due - odd,
        "missing": missing - odd,
    }
    return Rates(pl.DataFrame(counted).select(pl.col(name).cast(dtype) for name, dtype in RATES.items()), seen.width)


def no_trade_odds(known: Rates, seen: BinnedGaps, strange: Flags) -> Odds:
    """Tell how likely each gap is without a cause.

    Parameters
    ----------
    known : Rates
    seen : Seen
    strange : array of bool
        As `count_rates` took it: the gaps whose slots are not in the counts.
    """
    pieces, counts = seen.pieces, seen.counts
    counted = ~strange[pieces.gap]
    own, own_in_all = (np.where(counted, slots, 0.0) for slots in (pieces.slots, counts[pieces.gap]))
    p = known.chances(pieces.key, own, own_in_all)
    weight = -np.log(p) * _day_factors(known, seen, strange)[pieces.gap]
    total = _reduced(weight * pieces.slots, pieces, len(counts))
    single = total / np.maximum(counts, 1)
    k = _burstiness(seen, single, strange)
    run = chance_of_run(counts, single, k)
    return Odds(run, _slots_of(seen) * run, total, k, pieces, p)


def chance_of_run(slots: Floats, weight: Floats, k: Floats | float) -> Floats:
    """Chance that so many slots all have no trade; `weight` is -ln of the chance of one of them."""
    return np.asarray(np.exp(-k * np.log1p(slots * np.expm1(np.minimum(weight / k, 50.0)))))


def _changed(values: Floats, where: Flags, others: Floats) -> Floats:
    values = values.copy()
    values[where] = others
    return values


def _added(at: Ints, values: NDArray[np.integer], height: int) -> Ints:
    # Numbers of slots: sums of floats are exact as far as they go.
    return np.bincount(at, weights=values, minlength=height).astype(np.int64)


def _reduced(values: Floats, pieces: Pieces, height: int) -> Floats:
    return np.add.reduceat(values, pieces.starts) if height else np.zeros(0)


def _slots_of(seen: BinnedGaps) -> Floats:
    """Slots of the session of each gap."""
    heads = run_starts(*(seen.wanted[name].to_physical().to_numpy() for name in ("series", "session")))
    slots = np.add.reduceat(seen.wanted["slots"].to_numpy().astype(np.float64), heads) if len(heads) else np.zeros(0)
    return np.asarray(slots[np.searchsorted(heads, seen.segment, side="right") - 1])


def _day_factors(known: Rates, seen: BinnedGaps, strange: Flags) -> Floats:
    """By how much the segment of each gap is busier (above 1) or quieter than the series' days are."""
    segments, segment = seen.wanted.height, seen.segment
    odd = np.bincount(segment, weights=seen.counts * strange, minlength=segments)[segment]
    missing = np.bincount(segment, weights=seen.counts * ~strange, minlength=segments)[segment]
    own = np.where(strange, 0, seen.counts)
    share = np.clip(_usual(known, seen.wanted)[segment], LEAST_P, MOST_P)
    due = np.maximum(seen.wanted["slots"].to_numpy()[segment] - odd - own, 0)
    today = np.clip(
        (np.maximum(missing - own, 0) + SHRINK_DAY_SLOTS * share) / (due + SHRINK_DAY_SLOTS), LEAST_P, MOST_P
    )
    return np.asarray(np.clip(np.log(today) / np.log(share), *DAY_FACTOR))


def _usual(known: Rates, wanted: pl.DataFrame) -> Floats:
    """Of each wanted segment: what share of its slots lacks a trade as a rule."""
    placed = wanted.select("series", "slots", (pl.col("ordinal") % SEGMENTS_PER_SESSION).alias("position"))
    kinds = placed.select("series", "position", "slots").unique()
    whole = kinds.select(
        "series", pl.col("position").alias("ordinal"), pl.col("slots").alias("bar_count"), slot=pl.lit(0, pl.Int32)
    )
    pieces = cut_at_bins(whole, known.width)
    lacking = _reduced(known.chances(pieces.key) * pieces.slots, pieces, kinds.height)
    shares = kinds.with_columns((pl.Series(lacking) / pl.col("slots")).alias("share"))
    return placed.join(shares, on=["series", "position", "slots"], how="left", maintain_order="left")[
        "share"
    ].to_numpy()


def _burstiness(seen: BinnedGaps, single: Floats, strange: Flags) -> Floats:
    """Find k of each gap's series, which makes the lengths of its gaps likeliest, some of which may be strangers."""
    heads = run_starts(seen.gaps["series"].to_numpy())
    if not len(heads):
        return np.zeros(0)
    telling = np.flatnonzero(~(strange | (seen.counts * single > MOST_WEIGHT)))
    counts, single = seen.counts[telling], single[telling]
    owner = np.searchsorted(heads, telling, side="right") - 1
    # Gaps that are alike in all that counts mostly follow one another.
    alike = run_starts(owner, counts, single)
    times, owner = np.diff(np.append(alike, len(counts))), owner[alike]
    scores = _likely(counts[alike], single[alike])
    summed = np.stack([np.bincount(owner, weights=times * score, minlength=len(heads)) for score in scores], axis=1)
    # A series with few gaps is taken for one of ordinary burstiness.
    best = np.argmax(summed - 2.0 * np.abs(np.arange(len(K)) - K_WITHOUT_GAPS), axis=1)
    return np.repeat(K[best], np.diff(np.append(heads, seen.gaps.height)))


def _likely(counts: Floats, single: Floats) -> Iterator[Floats]:
    """For each of K, log of the likelihood of the lengths of gaps."""
    stranger = STRANGERS / (counts * (counts + 1))
    longer = np.flatnonzero(counts > 1)
    for k in K:
        # As `chance_of_run`. Given that a gap began, it has at least its length, and not one slot more.
        step = np.expm1(np.minimum(single / k, 50.0))
        began = np.exp(-k * np.log1p(step))
        holds = began.copy()
        holds[longer] = np.exp(-k * np.log1p(counts[longer] * step[longer]))
        ends = holds - np.exp(-k * np.log1p((counts + 1) * step))
        yield np.log((1 - STRANGERS) * np.maximum(ends, 0) / np.maximum(began, 1e-300) + stranger)
