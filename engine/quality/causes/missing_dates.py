"""Dates of which no file was given: whole dates without a row of any series, whose edges lie inside sessions.

Vendors cut their files at midnight, of UTC or of the venue's zone, and sessions of markets around the clock do not end
there. Where a feed stops at midnight and goes on at another, or at the next open, these dates were not loaded.

Pure: frame in, frame out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from engine.grid import SessionGrid
from engine.keys import Ints
from engine.quality.causes.coverage import KEY_RANGES
from engine.quality.causes.profiles import slot_keys
from engine.schema import TS

SECOND_US = 1_000_000
NEAR_MIDNIGHT_US = 300 * SECOND_US  # silence beside it, of bars of a minute and less


def slots_of_missing_dates(
    runs: pl.DataFrame, axis: pl.DataFrame, grid: SessionGrid, zones: Sequence[str]
) -> pl.DataFrame:
    """Packed (ordinal, slot) ranges of whole dates without a row that begin or end inside a segment, sorted.

    Parameters
    ----------
    runs : DataFrame
        `ordinal, first, last` of the present slots of all series of the feed.
    axis : DataFrame
        `ordinal, slots` of the segments that are due, sorted.
    grid : SessionGrid
        Of the axis.
    zones : sequence of str
        Zones at whose midnights files may be cut.

    Returns
    -------
    DataFrame of `KEY_RANGES`
    """
    reached = runs.group_by("ordinal").agg(pl.col("first").min(), pl.col("last").max())
    numbered = axis.select("ordinal", "slots", at=pl.int_range(pl.len()))
    there = numbered.join(reached, on="ordinal", how="inner", maintain_order="left")
    if there.height <= 1 or not grid.interval.is_intraday:
        return pl.DataFrame(schema=dict(KEY_RANGES))
    before, after = there[:-1], there[1:]
    stops, goes_on = before["last"] + 1 < before["slots"], after["first"] > 0
    has_hole = stops | goes_on
    before, after = before.filter(has_hole), after.filter(has_hole)
    stops, goes_on = (one.filter(has_hole).to_numpy() for one in (stops, goes_on))
    ordinals = axis["ordinal"]
    left, reached_again = (
        grid.ends(before["ordinal"], before["last"]).cast(pl.Int64).to_numpy(),
        grid.starts(after["ordinal"], after["first"]).cast(pl.Int64).to_numpy(),
    )
    # Where the feed stops with a segment, the hole begins with the next one; likewise at its end.
    following, preceding = ordinals.gather(before["at"] + 1), ordinals.gather(after["at"] - 1)
    zero = pl.zeros(len(following), pl.Int32, eager=True)
    last_slots = axis["slots"].gather(after["at"] - 1) - 1
    begin = np.where(stops, left, grid.starts(following, zero).cast(pl.Int64).to_numpy())
    end = np.where(goes_on, reached_again, grid.ends(preceding, last_slots).cast(pl.Int64).to_numpy())
    near = NEAR_MIDNIGHT_US if grid.interval.seconds * SECOND_US < NEAR_MIDNIGHT_US else 0
    is_whole = np.zeros(len(begin), bool)
    for zone in zones:
        is_whole |= (dates_of(left - 1, zone) < dates_of(begin + near, zone)) & (
            dates_of(end - near - 1, zone) < dates_of(reached_again, zone)
        )
    is_whole &= begin + near < end - near
    owner = np.zeros(len(begin), np.int64)
    ranges = {
        "start": slot_keys(owner, before["ordinal"].to_numpy(), before["last"].to_numpy() + 1),
        "end": slot_keys(owner, after["ordinal"].to_numpy(), after["first"].to_numpy()),
    }
    return pl.DataFrame(ranges, schema=dict(KEY_RANGES)).filter(pl.Series(is_whole))


def dates_of(at: Ints, zone: str) -> Ints:
    """Days since 1970 of the local dates of instants in microseconds."""
    local = pl.Series(at).cast(TS).dt.convert_time_zone(zone).dt.date()
    return local.cast(pl.Int32).to_numpy().astype(np.int64)
