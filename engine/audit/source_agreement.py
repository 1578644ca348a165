"""Whether a second source may fill a hole: both are compared on the bars that they share around it. Pure.

Around each hole up to `AROUND` shared bars on each side within a week are compared, in this order; the first rule that is
broken refuses the hole, and says so:

1. `stamps`: at another offset (one or two steps, half an hour, up to 12 hours) the second source's prices lie nearer by
   half or more, and within the tolerance.
2. `overlap`: fewer than `LEAST_OVERLAP` shared bars.
3. `scale`: the median ratio of closes differs from 1 by more than a fifth of the tolerance, on one side of the hole or on
   both (a power of ten, a split or a dividend that one of them is adjusted for).
4. `spread`: of ten shared bars more than one has a price that differs by more than the tolerance.
5. `volume`: the median ratio of volumes lies outside 1/2 to 2 (lots, one venue of many).
6. `level`: a price of the second source inside the hole is twice, or half, those of our bars on both sides of it (another
   unit in these bars alone, a bad print); on one side where there is no bar on the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from engine.keys import Ints, expand_ranges, find_keys
from engine.schema import Schema

TOLERANCE = 0.005
AROUND = 30
LEAST_OVERLAP = 5
REACH_US = 7 * 86_400_000_000
SHARE_WITHIN = 0.9
SYSTEMATIC = 5  # a ratio that all bars share may differ by this part of the tolerance
NEARER = 0.5
VOLUME_FACTOR = 2.0
LEVEL_FACTOR = 2.0
PRICES = ("open", "high", "low", "close")
HOUR_US = 3_600_000_000

COMPARED: Schema = {
    "hole": pl.UInt32(),
    "shared": pl.Int64(),
    "ratio": pl.Float64(),
    "refusal": pl.String(),
}


class Sides(NamedTuple):
    """Bars of one series in the filled export (`ours`) and in the second source (`theirs`), each sorted by `ts`."""

    ours: pl.DataFrame
    theirs: pl.DataFrame


def compare_around(holes: pl.DataFrame, sides: Sides, step: int, tolerance: float = TOLERANCE) -> pl.DataFrame:
    """Per hole of one series the shared bars around it, the ratio of their closes, and why it is refused (null: not).

    Parameters
    ----------
    holes : DataFrame
        `hole` (UInt32), `gap_start`, `gap_end`.
    sides : Sides
        `ts, open, high, low, close, volume` of both sources; of ours without bars that were filled before.
    step : int
        Of a bar, in microseconds.
    tolerance : float
        Greatest relative difference of two prices.

    Returns
    -------
    DataFrame
        `COMPARED`, in the order of the holes.
    """
    ours, theirs = sides
    ts, other = (rows["ts"].to_physical().to_numpy() for rows in sides)
    starts, ends = (holes[name].to_physical().to_numpy() for name in ("gap_start", "gap_end"))
    at, found = find_keys(other, ts)
    shared = ts[found]
    low, high, middle = _windows(shared, starts, ends)
    own, theirs_of_shared = ours.filter(pl.Series(found)), theirs[at[found]]
    pairs = np.repeat(np.arange(len(starts)), high - low)
    held = expand_ranges(low, high - low)
    measured = pl.DataFrame({
        "hole": pairs,
        "is_before": held < middle[pairs],
        "ratio": (theirs_of_shared["close"] / own["close"]).gather(held),
        "spread": _spread(own, theirs_of_shared).gather(held),
        "volume": _volume_ratio(own, theirs_of_shared).gather(held),
    })  # fmt: skip
    by_hole = measured.group_by("hole").agg(
        pl.len().cast(pl.Int64).alias("shared"),
        pl.col("ratio").median(),
        pl.col("ratio").filter("is_before").median().alias("before"),
        pl.col("ratio").filter(~pl.col("is_before")).median().alias("after"),
        (pl.col("spread") <= tolerance).mean().alias("within"),
        pl.col("spread").filter("is_before").median().alias("spread_before"),
        pl.col("spread").filter(~pl.col("is_before")).median().alias("spread_after"),
        pl.col("spread").max().alias("widest"),
        pl.col("volume").median(),
    )
    every = pl.DataFrame({"hole": np.arange(len(starts))}).join(by_hole, on="hole", how="left", maintain_order="left")
    every = every.hstack(nearest_offset(sides, starts, ends, step)).with_columns(pl.col("shared").fill_null(0))
    every = every.hstack(price_levels(sides, starts, ends))
    refusals = [_refusal(row, tolerance) for row in every.iter_rows(named=True)]
    answers = every.select(holes["hole"].alias("hole"), "shared", "ratio", pl.Series("refusal", refusals, pl.String))
    return answers.select(pl.col(name).cast(dtype) for name, dtype in COMPARED.items())


def price_levels(sides: Sides, starts: Ints, ends: Ints) -> pl.DataFrame:
    """Per hole `lowest` and `highest` price of the second source inside it, and ours `beside_low`, `beside_high` next to it.

    Ours are the close before and the open after, within a week; null where there is none, or none that is positive.
    """
    ours, theirs = sides
    ts, other = (rows["ts"].to_physical().to_numpy() for rows in sides)
    first, last = np.searchsorted(other, starts), np.searchsorted(other, ends)
    pairs, held = np.repeat(np.arange(len(starts)), last - first), expand_ranges(first, last - first)
    inside = pl.DataFrame({"at": pairs, "low": theirs["low"].gather(held), "high": theirs["high"].gather(held)})
    extremes = inside.group_by("at").agg(pl.col("low").min().alias("lowest"), pl.col("high").max().alias("highest"))
    before, after = np.searchsorted(ts, starts) - 1, np.searchsorted(ts, ends)
    is_near = [
        (before >= 0) & (ts[np.maximum(before, 0)] >= starts - REACH_US) if len(ts) else np.zeros(len(starts), bool),
        (after < len(ts)) & (ts[np.minimum(after, len(ts) - 1)] < ends + REACH_US)
        if len(ts)
        else np.zeros(len(starts), bool),
    ]
    places = [
        pl.Series(np.where(near, at, -1)).replace(-1, None) for near, at in zip(is_near, (before, after), strict=True)
    ]
    edges = pl.DataFrame({"before": ours["close"].gather(places[0]), "after": ours["open"].gather(places[1])})
    positive = [pl.when(pl.col(name) > 0).then(name) for name in edges.columns]
    beside = edges.select(
        pl.min_horizontal(positive).alias("beside_low"), pl.max_horizontal(positive).alias("beside_high")
    )
    numbered = pl.DataFrame({"at": np.arange(len(starts))})
    return numbered.join(extremes, on="at", how="left", maintain_order="left").drop("at").hstack(beside)


def nearest_offset(sides: Sides, starts: Ints, ends: Ints, step: int) -> pl.DataFrame:
    """Per hole the `offset` (us) at which the second source's prices lie nearest to ours, and their median distance there.

    Of offsets at which half of our bars around the hole, and at least `LEAST_OVERLAP`, have one of theirs; null: of none.
    """
    ours, theirs = sides
    ts, other = (rows["ts"].to_physical().to_numpy() for rows in sides)
    low, high, _ = _windows(ts, starts, ends)
    pairs = np.repeat(np.arange(len(starts)), high - low)
    held = expand_ranges(low, high - low)
    used, inverse = np.unique(held, return_inverse=True)
    near = ours[used]
    best = pl.DataFrame({"hole": np.arange(len(starts)), "offset": None, "distance": None}).cast(
        {"offset": pl.Int64, "distance": pl.Float64}
    )
    hours = [sign * hours * HOUR_US for hours in range(1, 13) for sign in (1, -1)]
    for offset in dict.fromkeys([step, -step, 2 * step, -2 * step, HOUR_US // 2, -HOUR_US // 2, *hours]):
        at, found = find_keys(other, ts[used] + offset)
        if found.sum() < LEAST_OVERLAP:
            continue
        spread = _spread(near, theirs[np.minimum(at, len(other) - 1)]).to_numpy().copy()
        spread[~found] = np.nan
        distances = (
            pl.DataFrame({"hole": pairs, "spread": spread[inverse]})
            .with_columns(pl.col("spread").fill_nan(None))
            .group_by("hole")
            .agg(pl.col("spread").median().alias("now"), pl.col("spread").count().alias("count"), pl.len().alias("all"))
            .filter((pl.col("count") >= LEAST_OVERLAP) & (2 * pl.col("count") >= pl.col("all")))
        )
        joined = best.join(distances, on="hole", how="left", maintain_order="left")
        nearer = pl.col("now").is_not_null() & (pl.col("distance").is_null() | (pl.col("now") < pl.col("distance")))
        best = joined.select(
            "hole",
            pl.when(nearer).then(pl.lit(offset, pl.Int64)).otherwise("offset").alias("offset"),
            pl.when(nearer).then("now").otherwise("distance").alias("distance"),
        )
    return best.select("offset", "distance")


def _windows(ts: Ints, starts: Ints, ends: Ints) -> tuple[Ints, Ints, Ints]:
    """(first, end, first after the hole) of the stamps around each hole: `AROUND` on each side, within a week."""
    before, after = np.searchsorted(ts, starts), np.searchsorted(ts, ends)
    low = np.maximum(before - AROUND, np.searchsorted(ts, starts - REACH_US))
    high = np.minimum(after + AROUND, np.searchsorted(ts, ends + REACH_US))
    return low, high, before


def _spread(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.Series:
    """Greatest relative difference of the four prices per bar."""
    joined = ours.select(PRICES).hstack(theirs.select(pl.col(name).alias(f"{name}:b") for name in PRICES))
    return joined.select(
        pl.max_horizontal((pl.col(f"{name}:b") / pl.col(name) - 1).abs() for name in PRICES).alias("spread")
    )["spread"]


def _volume_ratio(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.Series:
    """Ratio of volumes per bar, null where one of them has none."""
    pair = pl.DataFrame({"a": ours["volume"], "b": theirs["volume"]})
    return pair.select(pl.when((pl.col("a") > 0) & (pl.col("b") > 0)).then(pl.col("b") / pl.col("a")).alias("v"))["v"]


def _refusal(one: Mapping[str, float | int | None], tolerance: float) -> str | None:
    """Why the hole is refused by what was measured around it; None when it is not."""
    distance, offset = one["distance"], one["offset"]
    # Where one side agrees as it is, the stamps are right, and the other side has another scale.
    spreads = [spread for spread in (one["spread_before"], one["spread_after"]) if spread is not None]
    is_nearer = distance is not None and distance <= tolerance and all(distance < NEARER * s for s in spreads)
    shared, ratio, volume = one["shared"] or 0, one["ratio"] or 0.0, one["volume"]
    before, after = (ratio if one[side] is None else one[side] or 0.0 for side in ("before", "after"))
    outside = 1 - (one["within"] or 0.0)
    is_scaled = max(abs(before - 1), abs(after - 1)) > tolerance / SYSTEMATIC
    refusal = None
    if is_nearer and offset:
        refusal = f"stamps: its bars agree {_duration(abs(int(offset)))} {'later' if offset > 0 else 'earlier'}"
    elif shared < LEAST_OVERLAP:
        refusal = f"overlap: {shared} bars of both within a week of the hole, {LEAST_OVERLAP} are needed"
    elif is_scaled and abs(before - after) > tolerance / SYSTEMATIC * abs(after):
        refusal = f"scale: its prices are {before:.6g} times ours before the hole, {after:.6g} after it"
    elif is_scaled:
        refusal = f"scale: its prices are {ratio:.6g} times ours"
    elif outside > 1 - SHARE_WITHIN:
        refusal = (
            f"spread: {outside:.0%} of {shared} bars differ by more than {tolerance:.2%}, "
            f"the widest by {one['widest']:.2%}"
        )
    elif volume is not None and not 1 / VOLUME_FACTOR <= volume <= VOLUME_FACTOR:
        refusal = f"volume: its volume is {volume:.3g} times ours"
    else:
        refusal = _level_refusal(one)
    return refusal


def _level_refusal(one: Mapping[str, float | int | None]) -> str | None:
    """Why prices inside the hole are not of the level beside it; None where they are, or nothing is known."""
    lowest, highest, low, high = (one[name] for name in ("lowest", "highest", "beside_low", "beside_high"))
    if None in (lowest, highest, low, high):
        return None
    for price, is_off in ((highest, highest > LEVEL_FACTOR * high), (lowest, lowest < low / LEVEL_FACTOR)):  # type: ignore[operator]
        if is_off:
            return f"level: it has {price:.6g} inside the hole, beside it we have {low:.6g} to {high:.6g}"
    return None


def _duration(microseconds: int) -> str:
    for unit, size in (("h", HOUR_US), ("m", 60_000_000), ("s", 1_000_000)):
        if microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    return f"{microseconds}us"


def answer_runs(hole: tuple[int, int], bars: pl.DataFrame) -> list[tuple[int, int, int]]:
    """Runs of a hole (start, end in us) as (start, end, number of bars): those with bars, and with 0 those without.

    Parameters
    ----------
    hole : (int, int)
    bars : DataFrame
        `ts, ts_end` of the bars inside the hole, sorted.
    """
    starts, ends = (bars[name].to_physical().to_numpy() for name in ("ts", "ts_end"))
    begins = np.flatnonzero(np.append(True, starts[1:] != ends[:-1])) if len(starts) else np.zeros(0, np.int64)
    stops = np.append(begins[1:], len(starts))
    runs, at = [], hole[0]
    for begin, stop in zip(begins, stops, strict=True):
        first, last = int(starts[begin]), int(ends[stop - 1])
        runs += [(at, first, 0)] * (first > at) + [(first, last, int(stop - begin))]
        at = last
    return runs + [(at, hole[1], 0)] * (at < hole[1])
