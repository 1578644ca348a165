"""Missing slots, from one scan over a sorted panel; stored as rows, one per run. Pure: frame in, frame out.

1. `expected_slots` lists the segments each series should have: its lifetime, cut at what is due by now.
2. `slot_runs` cuts the present rows wherever the slot does not follow the one before: the only full pass.
3. `find_gaps` reads gaps from the ends of those runs, and whole segments from expected ones without a run;
   `with_positions` adds where in its session each lies.

Law: the sum of `bar_count` over the gaps of a series and session is its number of missing slots.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl

from engine.arguments import check_arguments
from engine.grid import SessionGrid
from engine.keys import expand_ranges, find_keys, pack_columns
from engine.schema import TS

POSITIONS = ("leading", "inner", "trailing", "session")
STATES = ("open", "retrying", "filled", "abandoned")

GAPS = {
    "series": pl.Int32(),
    "session": pl.Date(),
    "ordinal": pl.Int32(),
    "segment": pl.String(),
    "slot": pl.Int32(),
    "gap_start": TS,
    "gap_end": TS,
    "bar_count": pl.Int32(),
    "position": pl.String(),
    "cause": pl.String(),
    "state": pl.String(),
    "retry_count": pl.Int32(),
    "last_retry": TS,
    "next_retry": TS,
}
_NO_GAPS = pl.DataFrame(schema=GAPS)
_UNTRIED = {"cause": None, "state": "open", "retry_count": 0, "last_retry": None, "next_retry": None}


@check_arguments("lifetimes", "grid", "as_of")
def expected_slots(lifetimes: pl.DataFrame, grid: SessionGrid, as_of: dt.datetime | None = None) -> pl.DataFrame:
    """Per series, chosen segments in its lifetime with the number of `slots` ended by `as_of` (None: all; 0: no row).

    Parameters
    ----------
    lifetimes : DataFrame
        `series` (Int32), `first`, `last` (Date): trade dates, both included; sorted by series.
    grid : SessionGrid
        The axis.
    as_of : datetime, optional
        Slots that end later are not due yet.

    Returns
    -------
    DataFrame of `series, ordinal` (Int32), `session` (Date), `segment` (String), `slots` (Int32)
        Sorted by (series, ordinal); segments without a due slot are left out.
    """
    due = grid.due(as_of).filter(pl.col("slots") > 0)
    low = due["session"].search_sorted(lifetimes["first"], side="left").cast(pl.Int64)
    high = due["first_session"].search_sorted(lifetimes["last"], side="right").cast(pl.Int64)
    count = np.maximum((high - low).to_numpy(), 0)
    owner = np.repeat(lifetimes["series"].to_numpy(), count)
    picked: pl.DataFrame = due[expand_ranges(low.to_numpy(), count)]
    return picked.select(pl.Series("series", owner, pl.Int32), "ordinal", "session", "segment", "slots")


@check_arguments("rows")
def slot_runs(rows: pl.DataFrame) -> pl.DataFrame:
    """Runs of consecutive present slots of a segment and series: `series, ordinal, first, last` (inclusive).

    Parameters
    ----------
    rows : DataFrame
        `series, ordinal, slot` (Int32, no nulls), strictly increasing in that order.

    Returns
    -------
    DataFrame of `series, ordinal, first, last` (Int32)
        First and last slot of each run, in order.
    """
    if rows.is_empty():
        return rows.select("series", "ordinal", pl.col("slot").alias("first"), pl.col("slot").alias("last"))
    series, ordinal, slot = (rows[name].to_numpy() for name in ("series", "ordinal", "slot"))
    follows = (slot[1:] - slot[:-1] == 1) & (ordinal[1:] == ordinal[:-1]) & (series[1:] == series[:-1])
    starts = np.concatenate([[0], np.flatnonzero(~follows) + 1])
    ends = np.concatenate([starts[1:] - 1, [len(slot) - 1]])
    return pl.DataFrame(
        {"series": series[starts], "ordinal": ordinal[starts], "first": slot[starts], "last": slot[ends]}
    )


@check_arguments("expected", "present", "grid")
def find_gaps(expected: pl.DataFrame, present: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """`GAPS`, sorted: a row per run of expected slots not present, within a segment; cause null, state `open`.

    Parameters
    ----------
    expected : DataFrame
        From `expected_slots`; with a column `low` (Int32), only slots from there on are looked at.
    present : DataFrame
        From `slot_runs`; rows of segments or slots that are not expected are ignored.
    grid : SessionGrid
        The axis.

    Returns
    -------
    DataFrame
        `GAPS`, sorted by (series, ordinal, slot). `gap_end` is exclusive. `position` is from `with_positions`.
    """
    missing = missing_runs(expected, present)
    if missing.is_empty():
        return _NO_GAPS
    start = grid.starts(missing["ordinal"], missing["slot"]).alias("gap_start")
    end = grid.ends(missing["ordinal"], missing["slot"] + missing["bar_count"] - 1).alias("gap_end")
    untried = [pl.lit(value, GAPS[name]).alias(name) for name, value in _UNTRIED.items()]
    gaps = with_positions(missing.with_columns(start, end, *untried), expected)
    return gaps.select(pl.col(name).cast(dtype) for name, dtype in GAPS.items())


def with_positions(gaps: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """Add `position`: at slot 0 leading, at last due slot trailing, else inner; whole segment: its place, or `session`.

    `leading` and `trailing` gaps touch the open or the end of what is due of their segment, `inner` ones neither;
    `session` is a segment of a session that holds no present slot, and a segment absent from a session that has
    others is leading, inner or trailing by where it lies among them.

    Parameters
    ----------
    gaps : DataFrame
        `series, ordinal, session, slot, bar_count`: all that these sessions have.
    expected : DataFrame
        From `expected_slots`: all segments of these sessions.
    """
    key = ["series", "ordinal"]
    sized = gaps.drop("position", strict=False).join(
        expected.select(*key, "slots"), on=key, how="left", maintain_order="left"
    )
    is_whole = pl.col("bar_count") == pl.col("slots")
    at_end = pl.col("slot") + pl.col("bar_count") == pl.col("slots")
    leading_or_trailing = pl.when(pl.col("slot") == 0).then(pl.lit("leading")).when(at_end).then(pl.lit("trailing"))
    in_segment = leading_or_trailing.otherwise(pl.lit("inner"))
    if not sized.select(is_whole.any()).item():
        return sized.with_columns(in_segment.alias("position")).drop("slots")
    absent = sized.filter(is_whole).select(key)
    alive = (
        expected.join(absent, on=key, how="anti")
        .group_by("series", "session")
        .agg(pl.col("ordinal").min().alias("first_alive"), pl.col("ordinal").max().alias("last_alive"))
    )
    joined = sized.join(alive, on=["series", "session"], how="left", maintain_order="left")
    in_session = (
        pl.when(pl.col("first_alive").is_null())
        .then(pl.lit("session"))
        .when(pl.col("ordinal") < pl.col("first_alive"))
        .then(pl.lit("leading"))
        .when(pl.col("ordinal") > pl.col("last_alive"))
        .then(pl.lit("trailing"))
        .otherwise(pl.lit("inner"))
    )
    position = pl.when(is_whole).then(in_session).otherwise(in_segment).alias("position")
    return joined.with_columns(position).drop("slots", "first_alive", "last_alive")


def missing_runs(expected: pl.DataFrame, present: pl.DataFrame) -> pl.DataFrame:
    """Runs of expected slots from `low` on not present, sorted: `series, ordinal, session, segment, slot, bar_count`.

    Parameters
    ----------
    expected, present : DataFrame
        As `find_gaps` takes them.
    """
    slots = expected["slots"].to_numpy()
    low = expected["low"].to_numpy() if "low" in expected.columns else np.zeros(len(slots), np.int32)
    row, used = find_keys(*(pack_columns(rows, "series", "ordinal") for rows in (expected, present)))
    first, last = present["first"].to_numpy(), present["last"].to_numpy()
    used[used] = (first[used] < slots[row[used]]) & (last[used] >= low[row[used]])
    at, first, last = row[used], first[used], last[used]
    # Runs are in order, so the neighbour before each has the end of the run before.
    opens = np.diff(at, prepend=-1) != 0
    before = np.where(opens, low[at], np.roll(last, 1) + 1)
    closes = np.append(opens[1:], np.ones(min(len(at), 1), bool))
    without_run = np.setdiff1d(np.arange(len(slots)), at)
    owner = np.concatenate([at, at[closes], without_run])
    begin = np.concatenate([before, last[closes] + 1, low[without_run]])
    count = np.concatenate([first, slots[at[closes]], slots[without_run]]) - begin
    missing = np.flatnonzero(count > 0)
    missing = missing[np.lexsort((begin[missing], owner[missing]))]
    segments = expected[["series", "ordinal", "session", "segment"]][owner[missing]]
    placed = [
        pl.Series("slot", begin[missing].astype(np.int32)),
        pl.Series("bar_count", count[missing].astype(np.int32)),
    ]
    return segments.hstack(placed)
