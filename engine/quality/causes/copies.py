"""Copies: series with the same bars under several names, such as a contract and its continuous name, or two vendors.

A slot that a series lacks and its copies have was lost: the bar existed. And copies are one witness of an outage, not
several, since they lack the same slots wherever nothing traded.

Told from profiles: copies have the same number of bars, volume and moves of the price in at least half of the bins of the
day. Pure: frames in, frames out.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.keys import number_ranges, unpack
from engine.quality.causes.profiles import slot_keys
from engine.quality.contiguous_runs import run_starts
from engine.schema import Schema

FAMILIES: Schema = {"series": pl.Int32(), "family": pl.Int32()}
COPIED: Schema = {name: pl.Int32() for name in ("series", "ordinal", "first", "last")}
SAME_SHARE = 0.5  # of the bins in which both have moves
FEWEST_BINS = 2
DIGITS = 9  # sums of equal bars in another order differ in later ones


def find_copies(profile: pl.DataFrame) -> pl.DataFrame:
    """Series that are copies of one another: `FAMILIES`, `family` the lowest series number of each, sorted; no singles.

    Parameters
    ----------
    profile : DataFrame of `profiles.PROFILE`
        Of series of one axis and interval. Bins without a move of the price tell nothing.
    """
    none = pl.DataFrame(schema=dict(FAMILIES))
    moved = profile.filter(pl.col("squares") > 0)
    same = moved.filter(pl.col("squares").round_sig_figs(DIGITS).is_duplicated())
    if same.is_empty():
        return none
    key = ["position", "bin", "bars", "moves", *(pl.col(n).round_sig_figs(DIGITS) for n in ("volume", "squares"))]
    first = same.with_columns(pl.col("series").min().over(key).alias("family"))
    bins = moved.group_by("series").len("bins")
    shared = first.group_by("series", "family").len("shared").join(bins, on="series")
    closest = shared.sort("series", "shared", "family", descending=[False, True, False]).unique(
        "series", keep="first", maintain_order=True
    )
    alike = closest.filter((pl.col("shared") >= FEWEST_BINS) & (pl.col("shared") >= SAME_SHARE * pl.col("bins")))
    # Whose closest one is closest to a third is the third's.
    above = alike.select(pl.col("series").alias("family"), pl.col("family").alias("above"))
    families = alike.join(above, on="family", how="left", maintain_order="left").select(
        "series", pl.coalesce("above", "family").alias("family")
    )
    return families.filter(pl.len().over("family") > 1).select(pl.col(n).cast(t) for n, t in FAMILIES.items())


def slots_of_copies(families: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Runs of slots that at least half of the other members of each series' family have: `COPIED`, sorted and disjoint.

    Parameters
    ----------
    families : DataFrame
        From `find_copies`.
    runs : DataFrame of `profiles.RUNS`
    """
    ours = runs.select(*COPIED).join(families, on="series")
    if ours.is_empty():
        return pl.DataFrame(schema=dict(COPIED))
    edges = [slot_keys(*(ours[n].to_numpy() for n in ("family", "ordinal", slot))) for slot in ("first", "last")]
    key = np.concatenate([edges[0], edges[1] + 1])
    key, at = np.unique(key, return_inverse=True)
    steps = np.bincount(at, weights=np.repeat([1.0, -1.0], ours.height)).astype(np.int64)
    family, ordinal, slot = unpack(key, [1 << 25, 1 << 20])
    members = families.sort("family", "series")
    heads = run_starts(members["family"].to_numpy())
    sizes = np.diff(np.append(heads, members.height))
    number = np.searchsorted(members["family"].to_numpy()[heads], family)
    have = 2 * np.cumsum(steps) >= sizes[number] - 1
    begins = np.flatnonzero(have & ~np.append([False], have[:-1]))
    ends = np.flatnonzero(~have & np.append([False], have[:-1]))
    row, member = number_ranges(sizes[number[begins]])
    series = members["series"].to_numpy()[heads[number[begins]][row] + member]
    last = (slot[ends] - 1)[row]
    columns = {"series": series, "ordinal": ordinal[begins][row], "first": slot[begins][row], "last": last}
    return pl.DataFrame(columns).select(pl.col(n).cast(t) for n, t in COPIED.items()).sort("series", "ordinal", "first")
