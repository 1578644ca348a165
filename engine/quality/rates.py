"""How often a series has no bar although nothing is wrong: per time of day, from its own gaps.

1. `rates` counts, for each series and bin of the day (`traces.bins_of`), slots that were due and slots that were missing.
2. `Rates.odds` gives each gap the chance of a run at least so long. A slot without a trade has the chance
   p = (missing + A * p of the series) / (due + A) in its bin, the gap's own slots left out, and counts -ln p; a day that
   is quieter or busier than others scales that (`_day_factors`).
3. Trades come in bursts: their rate is taken for gamma distributed with shape k, so n slots lack one with a chance of
   (1 + n * (p ** (-1 / k) - 1)) ** -k, which is p of one slot and more than p ** n of n. k is what makes the lengths of the
   series' own gaps likeliest (`_burstiness`).

Pure: frame in, frame out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.quality.traces import BINS, Floats, Ints, bin_starts, bins_of
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
        return keys_of(*(self.table[name].to_numpy() for name in ("series", "position", "bin")))

    @cached_property
    def of_series(self) -> pl.DataFrame:
        """`series, due, missing`, sorted."""
        return self.table.group_by("series").agg(pl.col("due", "missing").sum()).sort("series")

    def at(self, key: Ints) -> tuple[Floats, Floats]:
        """`due` and `missing` of some keys; 0 of unknown ones."""
        if self.table.is_empty():
            return np.zeros(len(key)), np.zeros(len(key))
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        known = self.keys[at] == key
        due, missing = (self.table[name].to_numpy()[at].astype(np.float64) for name in ("due", "missing"))
        return np.where(known, due, 0.0), np.where(known, missing, 0.0)

    def chances(self, key: Ints, own: Floats | None = None, own_in_all: Floats | None = None) -> Floats:
        """Chance that a slot of each key has no trade; `own` slots of it, all missing, left out of the count."""
        own = np.zeros(len(key)) if own is None else own
        own_in_all = own if own_in_all is None else own_in_all
        due, missing = self.at(key)
        all_due, all_missing = self._whole(key // (SEGMENTS_PER_SESSION * BINS))
        of_series = (np.maximum(all_missing - own_in_all, 0) + 0.5) / (np.maximum(all_due - own_in_all, 0) + 1)
        chance = (np.maximum(missing - own, 0) + SHRINK_SLOTS * of_series) / (np.maximum(due - own, 0) + SHRINK_SLOTS)
        return np.asarray(np.clip(chance, LEAST_P, MOST_P))

    def _whole(self, series: Ints) -> tuple[Floats, Floats]:
        whole = self.of_series
        if whole.is_empty():
            return np.zeros(len(series)), np.zeros(len(series))
        at = np.minimum(np.searchsorted(whole["series"].to_numpy(), series), whole.height - 1)
        known = whole["series"].to_numpy()[at] == series
        return tuple(np.where(known, whole[name].to_numpy()[at], 0).astype(np.float64) for name in ("due", "missing"))  # type: ignore[return-value]


def keys_of(series: NDArray[np.integer], position: NDArray[np.integer], number: NDArray[np.integer]) -> Ints:
    """One number for series, position and bin, in their order."""
    return np.asarray((series.astype(np.int64) * SEGMENTS_PER_SESSION + position) * BINS + number)


def cut(gaps: pl.DataFrame, width: int) -> Pieces:
    """Cut gaps (`series, ordinal, slot, bar_count`) at the bins of the day."""
    slot = gaps["slot"].to_numpy().astype(np.int64)
    end = slot + gaps["bar_count"].to_numpy()
    low, high = bins_of(slot, width), bins_of(end - 1, width)
    bins = high - low + 1
    gap = np.repeat(np.arange(len(slot)), bins)
    number = low[gap] + np.arange(len(gap)) - np.repeat(np.cumsum(bins) - bins, bins)
    first = np.maximum(bin_starts(number, width), slot[gap])
    slots = np.minimum(bin_starts(number + 1, width), end[gap]) - first
    series, position = gaps["series"].to_numpy()[gap], gaps["ordinal"].to_numpy()[gap] % SEGMENTS_PER_SESSION
    kept = slots > 0
    gap = gap[kept]
    starts = np.searchsorted(gap, np.arange(len(slot)))
    key = keys_of(series[kept], position[kept], number[kept])
    return Pieces(gap, number[kept], first[kept], slots[kept], key, starts)


def rates(wanted: pl.DataFrame, gaps: pl.DataFrame, width: int, strange: NDArray[np.bool_]) -> Rates:
    """Count what was due and missing by series and time of day.

    Parameters
    ----------
    wanted, gaps : DataFrame
        From `gaps.expected` and `gaps.find_gaps`.
    width : int
        From `traces.bin_width`.
    strange : array of bool
        Gaps that have another cause: their slots count for neither.
    """
    segments = (
        wanted.group_by("series", (pl.col("ordinal") % SEGMENTS_PER_SESSION).alias("position"), "slots")
        .agg(pl.len().alias("segments"))
    )  # fmt: skip
    whole = segments.rename({"slots": "bar_count", "position": "ordinal"}).with_columns(slot=pl.lit(0, pl.Int32))
    due = _summed(cut(whole, width), whole["segments"].to_numpy())
    pieces = cut(gaps, width)
    missing = _summed(pieces, np.ones(gaps.height, np.int64))
    odd = _summed(pieces, strange.astype(np.int64))
    table = (
        due.rename({"slots": "due"})
        .join(missing.rename({"slots": "missing"}), on="key", how="left")
        .join(odd.rename({"slots": "odd"}), on="key", how="left")
        .with_columns(pl.col("missing", "odd").fill_null(0)).sort("key")
    )  # fmt: skip
    per_session = SEGMENTS_PER_SESSION * BINS
    counted = table.select(
        (pl.col("key") // per_session).alias("series"),
        (pl.col("key") // BINS % SEGMENTS_PER_SESSION).alias("position"),
        (pl.col("key") % BINS).alias("bin"),
        (pl.col("due") - pl.col("odd")).alias("due"),
        (pl.col("missing") - pl.col("odd")).alias("missing"),
    )
    return Rates(counted.select(pl.col(name).cast(dtype) for name, dtype in RATES.items()), width)


def odds(known: Rates, wanted: pl.DataFrame, gaps: pl.DataFrame, strange: NDArray[np.bool_]) -> Odds:
    """Tell how likely each gap is without a cause.

    Parameters
    ----------
    known : Rates
    wanted, gaps : DataFrame
        As `rates` took them.
    strange : array of bool
        As `rates` took it: the gaps whose slots are not in the counts.
    """
    pieces = cut(gaps, known.width)
    counts = gaps["bar_count"].to_numpy().astype(np.float64)
    counted = ~strange[pieces.gap]
    own, own_in_all = (np.where(counted, slots, 0.0) for slots in (pieces.slots, counts[pieces.gap]))
    p = known.chances(pieces.key, own, own_in_all)
    weight = -np.log(p) * _day_factors(known, wanted, gaps, strange)[pieces.gap]
    total = _reduced(weight * pieces.slots, pieces, len(counts))
    single = total / np.maximum(counts, 1)
    k = _burstiness(gaps, single, strange)
    run = chance_of_run(counts, single, k)
    return Odds(run, _slots_of(wanted, gaps) * run, total, k, pieces, p)


def chance_of_run(slots: Floats, weight: Floats, k: Floats | float) -> Floats:
    """Chance that so many slots all have no trade; `weight` is -ln of the chance of one of them."""
    return np.asarray(np.exp(-k * np.log1p(slots * np.expm1(np.minimum(weight / k, 50.0)))))


def _summed(pieces: Pieces, times: Ints) -> pl.DataFrame:
    frame = pl.DataFrame({"key": pieces.key, "slots": pieces.slots * times[pieces.gap]})
    return frame.group_by("key").sum()


def _reduced(values: Floats, pieces: Pieces, height: int) -> Floats:
    return np.add.reduceat(values, pieces.starts) if height else np.zeros(0)


def _slots_of(wanted: pl.DataFrame, gaps: pl.DataFrame) -> Floats:
    key = ["series", "session"]
    slots = wanted.group_by(key).agg(pl.col("slots").sum())
    return (
        gaps.select(key).join(slots, on=key, how="left", maintain_order="left")["slots"].to_numpy().astype(np.float64)
    )


def _day_factors(known: Rates, wanted: pl.DataFrame, gaps: pl.DataFrame, strange: NDArray[np.bool_]) -> Floats:
    """By how much the segment of each gap is busier (above 1) or quieter than the series' days are."""
    usual = _usual(known, wanted)
    key = ["series", "ordinal"]
    missing = (
        gaps.select(*key, (pl.col("bar_count") * ~pl.Series(strange)).alias("missing")).group_by(key).sum()
    )  # fmt: skip
    odd = gaps.select(*key, (pl.col("bar_count") * pl.Series(strange)).alias("odd")).group_by(key).sum()
    here = (
        gaps.select(*key, "bar_count").join(usual, on=key, how="left", maintain_order="left")
        .join(missing, on=key, how="left", maintain_order="left").join(odd, on=key, how="left", maintain_order="left")
    )  # fmt: skip
    own = np.where(strange, 0, here["bar_count"].to_numpy())
    share = np.clip(here["share"].to_numpy(), LEAST_P, MOST_P)
    due = np.maximum(here["slots"].to_numpy() - here["odd"].to_numpy() - own, 0)
    seen = np.maximum(here["missing"].to_numpy() - own, 0)
    today = np.clip((seen + SHRINK_DAY_SLOTS * share) / (due + SHRINK_DAY_SLOTS), LEAST_P, MOST_P)
    return np.asarray(np.clip(np.log(today) / np.log(share), *DAY_FACTOR))


def _usual(known: Rates, wanted: pl.DataFrame) -> pl.DataFrame:
    """`series, ordinal, slots, share`: of each wanted segment, what share of its slots lacks a trade as a rule."""
    placed = wanted.select("series", "ordinal", "slots", (pl.col("ordinal") % SEGMENTS_PER_SESSION).alias("position"))
    kinds = placed.select("series", "position", "slots").unique()
    whole = kinds.select(
        "series", pl.col("position").alias("ordinal"), pl.col("slots").alias("bar_count"), slot=pl.lit(0, pl.Int32)
    )
    pieces = cut(whole, known.width)
    lacking = _reduced(known.chances(pieces.key) * pieces.slots, pieces, kinds.height)
    shares = kinds.with_columns((pl.Series(lacking) / pl.col("slots")).alias("share"))
    return placed.join(shares, on=["series", "position", "slots"], how="left", maintain_order="left").drop("position")


def _burstiness(gaps: pl.DataFrame, single: Floats, strange: NDArray[np.bool_]) -> Floats:
    """Find k of each gap's series, which makes the lengths of its gaps likeliest, some of which may be strangers."""
    if gaps.is_empty():
        return np.zeros(0)
    counts = gaps["bar_count"].to_numpy().astype(np.float64)
    scores = np.stack([_likely(counts, single, k) for k in K], axis=1)
    scores[strange | (counts * single > MOST_WEIGHT)] = 0.0
    series = gaps["series"].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], series[1:] != series[:-1]]))
    summed = np.add.reduceat(scores, starts, axis=0)
    # A series with few gaps is taken for one of ordinary burstiness.
    summed -= 2.0 * np.abs(np.arange(len(K)) - K_WITHOUT_GAPS)
    best = K[np.argmax(summed, axis=1)]
    return np.repeat(best, np.diff(np.append(starts, len(series))))


def _likely(counts: Floats, single: Floats, k: float) -> Floats:
    # Given that a gap began, it has at least its length, and not one slot more.
    ends = chance_of_run(counts, single, k) - chance_of_run(counts + 1, single, k)
    likely = np.maximum(ends, 0) / np.maximum(chance_of_run(np.ones_like(counts), single, k), 1e-300)
    return np.asarray(np.log((1 - STRANGERS) * likely + STRANGERS / (counts * (counts + 1))))
