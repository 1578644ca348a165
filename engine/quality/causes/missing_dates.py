"""Dates of which no file was given: whole dates without a row of any series, one of whose edges lies inside a session.

Vendors cut their files at midnight, of UTC or of the venue's zone, and sessions of markets around the clock do not end
there. Where a feed stops at midnight, or goes on at midnight, after whole dates without a row, these were not loaded.

Pure: frame in, frame out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from engine.grid import SessionGrid
from engine.keys import Flags, Ints
from engine.quality.causes.coverage import KEY_RANGES
from engine.quality.causes.profiles import slot_keys
from engine.schema import TS

SECOND_US = 1_000_000
NEAR_MIDNIGHT_US = 300 * SECOND_US  # silence beside it, of bars of a minute and less


class Holes(NamedTuple):
    """Slots that no series of a feed has, from its last row in a segment to its first one in a later segment.

    Attributes
    ----------
    left, begin, end, resumed : array of int
        Microseconds: end of the last row, start and end of what is due between, start of the next row.
    first, last : array of int
        Packed (ordinal, slot) of the first slot of each, and of the next row.
    stops, goes_on : array of bool
        Whether it begins, and ends, inside a segment.
    """

    left: Ints
    begin: Ints
    end: Ints
    resumed: Ints
    first: Ints
    last: Ints
    stops: Flags
    goes_on: Flags


def slots_of_missing_dates(
    runs: pl.DataFrame, axis: pl.DataFrame, grid: SessionGrid, zones: Sequence[str]
) -> pl.DataFrame:
    """Packed (ordinal, slot) ranges of whole dates without a row that begin or end at midnight inside a segment, sorted.

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
    if not grid.interval.is_intraday:
        return pl.DataFrame(schema=dict(KEY_RANGES))
    holes = holes_of_feed(runs, axis, grid)
    near = NEAR_MIDNIGHT_US if grid.interval.seconds * SECOND_US < NEAR_MIDNIGHT_US else 0
    start, end = holes.last.copy(), holes.first.copy()  # of none
    for zone in zones:
        first_date, last_date = dates_of(holes.begin + near, zone), dates_of(holes.end - near - 1, zone)
        begins_whole = dates_of(holes.left - 1, zone) < first_date
        ends_whole = last_date < dates_of(holes.resumed, zone)
        first_date, last_date = first_date + ~begins_whole, last_date - ~ends_whole
        cut_at_midnight = (begins_whole & holes.stops) | (ends_whole & holes.goes_on)
        found = cut_at_midnight & (first_date <= last_date)
        midnight, following = (keys_at_midnight(day, zone, axis, grid) for day in (first_date, last_date + 1))
        start = np.where(found, np.minimum(start, np.where(begins_whole, holes.first, midnight)), start)
        end = np.where(found, np.maximum(end, np.where(ends_whole, holes.last, following)), end)
    return pl.DataFrame({"start": start, "end": end}, schema=dict(KEY_RANGES)).filter(pl.col("start") < pl.col("end"))


def holes_of_feed(runs: pl.DataFrame, axis: pl.DataFrame, grid: SessionGrid) -> Holes:
    """Holes of all series together that touch the edge of a segment; parameters as of `slots_of_missing_dates`."""
    reached = runs.group_by("ordinal").agg(pl.col("first").min(), pl.col("last").max())
    numbered = axis.select("ordinal", "slots", at=pl.int_range(pl.len()))
    there = numbered.join(reached, on="ordinal", how="inner", maintain_order="left")
    before, after = there.head(max(there.height - 1, 0)), there.tail(max(there.height - 1, 0))
    stops, goes_on = before["last"] + 1 < before["slots"], after["first"] > 0
    is_hole = stops | goes_on | (before["at"] + 1 < after["at"])
    before, after = before.filter(is_hole), after.filter(is_hole)
    stops_at, goes_on_at = stops.filter(is_hole).to_numpy(), goes_on.filter(is_hole).to_numpy()
    left = grid.ends(before["ordinal"], before["last"]).cast(pl.Int64).to_numpy()
    resumed = grid.starts(after["ordinal"], after["first"]).cast(pl.Int64).to_numpy()
    # Where the feed stops with a segment, the hole begins with the next one; likewise at its end.
    following, preceding = before["at"] + 1, after["at"] - 1
    opened = grid.starts(axis["ordinal"].gather(following), pl.zeros(len(following), pl.Int32, eager=True))
    closed = grid.ends(axis["ordinal"].gather(preceding), axis["slots"].gather(preceding) - 1)
    owner = np.zeros(len(left), np.int64)
    return Holes(
        left,
        np.where(stops_at, left, opened.cast(pl.Int64).to_numpy()),
        np.where(goes_on_at, resumed, closed.cast(pl.Int64).to_numpy()),
        resumed,
        slot_keys(owner, before["ordinal"].to_numpy(), before["last"].to_numpy() + 1),
        slot_keys(owner, after["ordinal"].to_numpy(), after["first"].to_numpy()),
        stops_at,
        goes_on_at,
    )


def dates_of(at: Ints, zone: str) -> Ints:
    """Days since 1970 of the local dates of instants in microseconds."""
    local = pl.Series(at).cast(TS).dt.convert_time_zone(zone).dt.date()
    return local.cast(pl.Int32).to_numpy().astype(np.int64)


def keys_at_midnight(days: Ints, zone: str, axis: pl.DataFrame, grid: SessionGrid) -> Ints:
    """Packed (ordinal, slot) of the slot at the local midnight of each day; where none is open, of the next segment."""
    local = pl.Series(days.astype(np.int32), dtype=pl.Int32).cast(pl.Date).cast(pl.Datetime("us"))
    # Some zones change their clock at midnight, which then comes twice or not at all.
    at = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
    at = at.fill_null(local.dt.replace_time_zone("UTC"))
    placed = grid.place(at.rename("ts"), exact=False)
    opens = grid.starts(axis["ordinal"], pl.zeros(axis.height, pl.Int32, eager=True))
    following = np.minimum(opens.search_sorted(at, side="left").to_numpy(), axis.height - 1)
    in_slot = placed["slot"].is_not_null().to_numpy()
    ordinal = np.where(in_slot, placed["ordinal"].fill_null(0).to_numpy(), axis["ordinal"].to_numpy()[following])
    slot = np.where(in_slot, placed["slot"].fill_null(0).to_numpy(), 0)
    return slot_keys(np.zeros(len(ordinal), np.int64), ordinal, slot)
