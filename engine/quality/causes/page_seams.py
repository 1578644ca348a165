"""Rows lost at constant distances: seams between the pages of an API, each of which lacks its last or its first row.

1. `holes_between` numbers the holes of each series by the bars before them, which no silence shifts.
2. `find_pages` looks for the page size by which the holes repeat. Holes of silences repeat by chance, so a size counts only
   where so many repetitions are improbable among holes so dense, and where they are no matter of the time of day.
3. `seam_slots` are the slots of these holes: `symbol_loss`.

Pure: frames in, frames out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from engine.grid import SessionGrid
from engine.keys import Ints, pack_pair, unpack_pair
from engine.quality.causes.counters import COUNTED, cut_at_segments, no_slots
from engine.quality.contiguous_runs import Floats, run_starts
from engine.schema import SEGMENTS_PER_SESSION

# Rows of a page at public APIs of bars; other constant distances are found where most holes are seams.
PAGES = (100, 200, 250, 300, 350, 500, 720, 1000, 1440, 1500, 2000, 2500, 3000, 4000, 5000, 10000, 20000, 50000)
MOST_LOST = 2  # rows at a seam
LEAST_PAGE = 100  # rows: shorter distances are habits of the clock
FEWEST_SEAMS = 4
LEAST_SHARE = 0.8  # of the seams that a series has room for
DENSEST = 0.1  # holes per bar: among more, a repetition shows little
OFTEN = 0.5  # share of a series between holes at a distance that is no usual page
SAME_HOUR = 0.25  # share of the seams in one half hour of the day, beyond which they are a matter of the clock
COUNTED_PER_KEY = 16  # counters up to which counting is faster than sorting
CHANCE = 1e-6  # of so many repetitions somewhere in the data
CONFIDENCE = 0.99
THOUSAND = 1000
ENDINGS = {1: "st", 2: "nd", 3: "rd"}
# `log_chance`: logarithm of the chance of so many repetitions by silences.
SEAMS = {
    **dict.fromkeys(("series", "size", "phase", "lost", "seams", "places"), pl.Int64),
    "log_chance": pl.Float64,
}
Row = tuple[int, int, int, int, int, int, float]


class Holes(NamedTuple):
    """Holes of series, in order.

    Attributes
    ----------
    series : array of int
        From 0 on, in the order of `numbers`.
    bars : array of int
        Bars of the series before the hole.
    first, last : array of int
        Missing slots, by number on the axis.
    hour : array of int
        Segment of the session and half hour in it.
    numbers, heights : array of int
        Numbers of the series, and how many bars each has.
    """

    series: Ints
    bars: Ints
    first: Ints
    last: Ints
    hour: Ints
    numbers: Ints
    heights: Ints

    def filter(self, selected: Ints) -> Holes:
        """Holes at these positions."""
        series, bars, first, last, hour = (values[selected] for values in self[:5])
        return Holes(series, bars, first, last, hour, self.numbers, self.heights)


def seam_slots(runs: pl.DataFrame, grid: SessionGrid, width: int) -> pl.DataFrame:
    """`COUNTED` slots of rows that were lost at the seams of pages; most series have none.

    Parameters
    ----------
    runs : DataFrame of `profiles.RUNS`
        Of one axis, in order.
    grid : SessionGrid
        Of the axis.
    width : int
        From `profiles.bin_width`.
    """
    table = grid.table.filter("chosen")
    if runs.height < FEWEST_SEAMS or table.is_empty():
        return no_slots()
    holes = holes_between(runs, table, width)
    pages = find_pages(holes)
    if pages.is_empty():
        return no_slots()
    size, phase, lost = (np.full(len(holes.numbers), -1) for _ in range(3))
    for values, name in ((size, "size"), (phase, "phase"), (lost, "lost")):
        values[pages["series"].to_numpy()] = pages[name].to_numpy()
    own = holes.series
    is_seam = (size[own] > 0) & (holes.last - holes.first < lost[own])
    is_seam[is_seam] = (holes.bars % np.maximum(size[own], 1) == phase[own])[is_seam]
    found = holes.filter(np.flatnonzero(is_seam))
    place = pl.DataFrame({"series": found.series, "first": found.first, "last": found.last})
    told = place.join(pages, on="series", maintain_order="left")
    whole = pl.col("size") + pl.col("lost")
    which = pl.when(pl.col("lost") == 1).then(pl.format("every {}", ordinal_text(whole))).otherwise(
        pl.format("{} of every {}", "lost", grouped_text(whole))
    )  # fmt: skip
    evidence = pl.format(
        "{} row{} missing, as at the seams of pages: {} of {} places so far apart have a hole",
        which,
        pl.when(pl.col("lost") == 1).then(pl.lit(" is")).otherwise(pl.lit("s are")),
        "seams",
        "places",
    )
    described = told.with_columns(
        pl.Series("series", found.numbers[found.series], pl.Int32),
        pl.lit("symbol_loss").alias("cause"),
        evidence.alias("evidence"),
        pl.lit(CONFIDENCE).alias("confidence"),
        pl.lit(None, pl.String).alias("event"),
    )
    return cut_at_segments(described, table).select(COUNTED)


def grouped_text(number: pl.Expr) -> pl.Expr:
    """Text of a number below a million, its thousands apart: `1,000`."""
    thousands, rest = number // THOUSAND, (number % THOUSAND).cast(pl.String)
    return pl.when(thousands == 0).then(rest).otherwise(pl.format("{},{}", thousands, rest.str.zfill(3)))


def ordinal_text(number: pl.Expr) -> pl.Expr:
    """Text of an ordinal: `1,000th`, `101st`."""
    is_teen = (number // 10 % 10) == 1
    ending = (number % 10).replace_strict(ENDINGS, default="th", return_dtype=pl.String)
    return pl.concat_str([grouped_text(number), pl.when(is_teen).then(pl.lit("th")).otherwise(ending)])


def holes_between(runs: pl.DataFrame, table: pl.DataFrame, width: int) -> Holes:
    """Holes between the runs of each series, of series with few enough; slots of closed segments lie between none."""
    base = np.concatenate([[0], np.cumsum(table["slots"].to_numpy().astype(np.int64))])
    ordinal = runs["ordinal"].to_numpy().astype(np.int64)
    ordinals = table["ordinal"].to_numpy().astype(np.int64)
    row = np.minimum(np.searchsorted(ordinals, ordinal), len(ordinals) - 1)
    first, last = (runs[name].to_numpy().astype(np.int64) for name in ("first", "last"))
    heads = run_starts(runs["series"].to_numpy())
    owner = np.repeat(np.arange(len(heads)), np.diff(np.append(heads, runs.height)))
    sizes = last - first + 1
    before = np.cumsum(sizes) - sizes
    bars = before - before[heads][owner]
    heights = np.add.reduceat(sizes, heads)
    begin, end = base[row] + first, base[row] + last + 1
    is_hole = np.append([False], (owner[1:] == owner[:-1]) & (begin[1:] > end[:-1]))
    at = np.flatnonzero(is_hole)
    few = np.bincount(owner[at], minlength=len(heads)) <= DENSEST * heights
    at = at[few[owner[at]]]
    begun = end[at - 1]
    segment = np.searchsorted(base, begun, side="right") - 1
    hour = pack_pair(ordinals[segment] % SEGMENTS_PER_SESSION, (begun - base[segment]) // width)
    return Holes(owner[at], bars[at], begun, begin[at] - 1, hour, runs["series"].to_numpy()[heads], heights)


def find_pages(holes: Holes) -> pl.DataFrame:
    """`series, size, phase, lost, seams, places`: by how many bars the holes of a series repeat, a row per series with pages."""
    distances = frequent_distances(holes)
    usual = sorted({page - lost for page in PAGES for lost in (0, 1)})
    # Of a distance that only the data name, as many were tried as there are.
    tried = dict.fromkeys(distances.tolist(), int(holes.heights.max())) | dict.fromkeys(usual, len(usual))
    rows = [row for size, count in sorted(tried.items()) for row in seams_of(holes, size, count)]
    # Seams repeat by twice their distance, too, with a larger chance.
    found = pl.DataFrame(rows, schema=SEAMS, orient="row").sort("series", "log_chance", "size")
    return found.unique("series", keep="first", maintain_order=True).drop("log_chance")


def frequent_distances(holes: Holes) -> Ints:
    """Distances between holes that follow one another which a series has three times or more, and in half of its bars."""
    distance = holes.bars[1:] - holes.bars[:-1]
    is_far = (holes.series[1:] == holes.series[:-1]) & (distance >= LEAST_PAGE - 1)
    owner, far = holes.series[1:][is_far], distance[is_far]
    if not len(far):
        return np.zeros(0, np.int64)
    value, times = np.unique(pack_pair(owner, far), return_counts=True)
    several = times >= FEWEST_SEAMS - 1
    whose, often = (values.astype(np.int64) for values in unpack_pair(value[several]))
    distances: Ints = np.unique(often[times[several] * often >= OFTEN * holes.heights[whose]])
    return distances


def seams_of(holes: Holes, size: int, tried: int) -> list[Row]:
    """Rows (`SEAMS`) of the series that have pages of one distance in bars.

    Parameters
    ----------
    holes : Holes
    size : int
    tried : int
        Distances of which this is one.
    """
    count = np.bincount(holes.series, minlength=len(holes.numbers))
    room = (holes.heights - 1) // size
    is_candidate = (room >= FEWEST_SEAMS - 1) & (count >= np.maximum(FEWEST_SEAMS, LEAST_SHARE * room))
    chosen = is_candidate[holes.series]
    if not chosen.any():
        return []
    key, seams = several_times(holes.series[chosen] * size + holes.bars[chosen] % size)
    series, phase = np.divmod(key, size)
    # At the very start and end of a series no place has a hole.
    places = (holes.heights[series] - 1 - phase) // size + (phase > 0)
    is_many = seams >= LEAST_SHARE * places
    series, phase, seams, places = (values[is_many] for values in (series, phase, seams, places))
    chance = log_chance(seams, places, (count[series] - seams + 1) / holes.heights[series])
    sure = chance + np.log(float(tried) * size * len(holes.numbers)) < np.log(CHANCE)
    found = [
        page_of(holes, size, int(series[at]), int(phase[at]), int(seams[at]), int(places[at]), float(chance[at]))
        for at in np.flatnonzero(sure)
    ]
    return [one for one in found if one is not None]


def several_times(keys: Ints) -> tuple[Ints, Ints]:
    """Keys that are there `FEWEST_SEAMS` times or more, ascending, and how often."""
    if int(keys.max()) <= COUNTED_PER_KEY * len(keys):
        times = np.bincount(keys)
        found = np.flatnonzero(times >= FEWEST_SEAMS)
        return found, times[found]
    value, times = np.unique(keys, return_counts=True)
    return value[times >= FEWEST_SEAMS], times[times >= FEWEST_SEAMS]


def page_of(holes: Holes, size: int, series: int, phase: int, seams: int, places: int, chance: float) -> Row | None:
    """Row of `find_pages` of a series; None where its seams are long, or most lie in the same half hour of the day."""
    low, high = np.searchsorted(holes.series, [series, series + 1])
    own = np.flatnonzero(holes.bars[low:high] % size == phase) + low
    _, alike = np.unique(holes.hour[own], return_counts=True)
    lost = int(np.median(holes.last[own] - holes.first[own] + 1))
    is_of_clock = alike.max() > max(2, SAME_HOUR * seams)
    return None if is_of_clock or lost > MOST_LOST else (series, size, phase, lost, seams, places, chance)


def log_chance(seams: Ints, places: Ints, density: Floats) -> Floats:
    """Logarithm of the chance of holes at so many of the places (an upper bound), at so many holes per bar."""
    share = np.minimum(seams / places, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ways = -places * (share * np.log(share) + np.where(share < 1, (1 - share) * np.log(1 - share), 0.0))
    return np.asarray(ways + seams * np.log(density))
