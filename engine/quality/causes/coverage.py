"""What a feed covers, and how long symbols were listed: slots that are not there for a reason that is no loss.

Told from the rows alone, so that it does not depend on how they are cut into files:

1. Sessions in a row in which any series has rows are a stretch of coverage. Up to `LONG_ABSENCE` sessions without a row
   lie within a stretch, unless most sessions have none, so that the data are samples (`SAMPLED`). Before the first and
   after the last slot that any series has in a stretch nothing is covered (`uncovered_slots`): the edges of a download, a
   month cut at midnight, the sessions between sample days.
2. A series that has rows in less than `SAMPLED` of the sessions that it could have, a few in a row each time, is a sample:
   its other sessions are not covered, unless most of the series that share its sessions have rows there (`sampled_series`).
3. A symbol is not listed before its first row and after its last one, if the feed covers earlier or later sessions
   (`unlisted_slots`): listings begin, and contracts end, within a session.

Pure: frame in, frame out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from engine.keys import Flags, Ints
from engine.quality.causes.profiles import slot_keys
from engine.quality.contiguous_runs import run_starts
from engine.schema import SEGMENTS_PER_SESSION, Schema

KEY_RANGES: Schema = {"start": pl.Int64(), "end": pl.Int64()}
DUE: Schema = {"series": pl.Int32(), "session": pl.Date()}
LONG_ABSENCE = 5  # sessions: no feed is down for longer, and data that were not loaded mostly are
SAMPLED = 0.5  # share of the sessions that have rows: below it the data are a sample
AS_MANY = 0.5  # times the series with rows in a sample's own sessions: with fewer, a session is not due for it
LONG_STRETCH = 20  # sessions in a row: longer ones are no samples
FIRST_KEY, LAST_KEY = -(1 << 62), 1 << 62


class Coverage(NamedTuple):
    """What a group of series covers.

    Attributes
    ----------
    uncovered : DataFrame of `KEY_RANGES`
        Packed (ordinal, slot), sorted and disjoint: no series of the group has anything there.
    sampled : DataFrame
        `series` whose sessions are a sample.
    due : DataFrame of `DUE`
        Sessions that a series of `sampled` should have nevertheless.
    sessions : (int, int)
        Days since 1970 of the first and the last session with a row.
    """

    uncovered: pl.DataFrame
    sampled: pl.DataFrame
    due: pl.DataFrame
    sessions: tuple[int, int]


def coverage(series: pl.DataFrame, lives: pl.DataFrame, runs: pl.DataFrame, axis: pl.DataFrame) -> Coverage:
    """Coverage of a group of series, by the sessions and slots in which they have rows.

    Parameters
    ----------
    series : DataFrame
        `series` of the group.
    lives : DataFrame
        `series, first, last` (Date).
    runs : DataFrame
        `series, ordinal, first, last` of the present slots, sorted.
    axis : DataFrame
        `ordinal` of the segments that are due, over all lives.
    """
    days = np.unique(axis["ordinal"].to_numpy().astype(np.int64) // SEGMENTS_PER_SESSION)
    ours = runs.filter(pl.col("series").is_in(series["series"].implode()))
    day = np.searchsorted(days, ours["ordinal"].to_numpy() // SEGMENTS_PER_SESSION)
    known = (day < len(days)) & (
        days[np.minimum(day, len(days) - 1)] == ours["ordinal"].to_numpy() // SEGMENTS_PER_SESSION
    )
    ours, day = ours.filter(pl.Series(known)), day[known]
    if ours.is_empty():
        nothing = pl.DataFrame(schema=dict(KEY_RANGES)), series.select("series").clear(), pl.DataFrame(schema=dict(DUE))
        return Coverage(*nothing, (0, 0))
    has_rows = np.bincount(day, minlength=len(days)) > 0
    given = has_rows | ~is_long_absence(has_rows)
    number, heads = ours["series"].to_numpy(), run_starts(ours["series"].to_numpy(), day)
    first_slot, last_slot = uncovered_edges(ours, day, given)
    uncovered = pl.DataFrame({"start": first_slot, "end": last_slot}, schema=dict(KEY_RANGES))
    at = np.flatnonzero(has_rows)
    edges = (int(days[at[0]]), int(days[at[-1]]))
    return Coverage(uncovered, *sampled_series(number[heads], day[heads], lives, days, has_rows), edges)


def is_long_absence(has_rows: Flags) -> Flags:
    """Mask of sessions without rows that no feed could have lost: `LONG_ABSENCE` or more in a row, or most of all."""
    at = np.flatnonzero(has_rows)
    absent = ~has_rows
    if len(at) < SAMPLED * (at[-1] - at[0] + 1):
        return absent
    heads = run_starts(has_rows)
    size = np.diff(np.append(heads, len(has_rows)))
    return np.asarray(absent & (np.repeat(size, size) >= LONG_ABSENCE))


def uncovered_edges(runs: pl.DataFrame, day: Ints, given: Flags) -> tuple[Ints, Ints]:
    """(start, end) of the packed ranges between the last slot of a stretch of given sessions and the first of the next."""
    stretch = np.cumsum(given & ~np.append([False], given[:-1])) - 1
    zero = np.zeros(len(day), np.int64)
    ordinal = runs["ordinal"].to_numpy()
    keyed = pl.DataFrame(
        {
            "stretch": stretch[day],
            "first": slot_keys(zero, ordinal, runs["first"].to_numpy()),
            "last": slot_keys(zero, ordinal, runs["last"].to_numpy()),
        }
    )
    reached = keyed.group_by("stretch").agg(pl.col("first").min(), pl.col("last").max()).sort("stretch")
    return np.append([FIRST_KEY], reached["last"].to_numpy() + 1), np.append(reached["first"].to_numpy(), [LAST_KEY])


def sampled_series(
    number: Ints, day: Ints, lives: pl.DataFrame, days: Ints, has_rows: Flags
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the samples among the series (`samples_among`), and the sessions that they should have nevertheless.

    A session is due for a sample if at least `AS_MANY` times as many series have rows in it as in the median session of
    the sample; if the sample has few of these too, none of the others is.

    Parameters
    ----------
    number, day : array of int
        Series and session index of each session of a series with rows, in order.
    lives : DataFrame
        `series, first, last` (Date).
    days : array of int
        Days since 1970 of the sessions.
    has_rows : array of bool
        Of each session: whether any series has rows.

    Returns
    -------
    (DataFrame of `series`, DataFrame of `DUE`)
    """
    having = np.bincount(day, minlength=len(days))
    beside = pl.DataFrame({"series": number, "at": day, "having": having[day]})
    own = beside.join(lives, on="series", how="inner", maintain_order="left")
    sampled = samples_among(own, days, has_rows)
    least = (AS_MANY * pl.col("having").median().over("series")).ceil().alias("least")
    own = own.join(sampled, on="series", how="semi", maintain_order="left").with_columns(least)
    due = [pl.DataFrame(schema=dict(DUE))]
    for (fewest,), rows in own.group_by("least"):
        is_due = having >= fewest
        regular = rows.join(samples_among(rows, days, is_due), on="series", how="anti").unique("series")
        sessions = pl.DataFrame({"session": pl.Series(days[is_due].astype(np.int32)).cast(pl.Date)})
        within = pl.col("session").is_between("first", "last")
        due.append(regular.join(sessions, how="cross").filter(within).select(pl.col(n).cast(t) for n, t in DUE.items()))
    return sampled, pl.concat(due).sort(list(DUE))


def samples_among(own: pl.DataFrame, days: Ints, is_due: Flags) -> pl.DataFrame:
    """`series` with rows in less than `SAMPLED` of the sessions that are due in their life, in short stretches.

    Parameters
    ----------
    own : DataFrame
        `series, at, first, last`: index of each session with rows, and the life (Date); sorted.
    days : array of int
        Days since 1970 of the sessions.
    is_due : array of bool
        Of each session.
    """
    heads = run_starts(own["series"].to_numpy())
    before, at = np.append([0], np.cumsum(is_due)), own["at"].to_numpy()
    # A session follows the one before if none that is due lies between.
    is_start = np.append([True], before[at[1:]] > before[at[:-1] + 1])[: len(at)]
    is_start[heads] = True
    series = own.select("series", "first", "last")[heads]
    sessions, stretches = np.diff(heads, append=len(at)), np.add.reduceat(is_start.astype(np.int64), heads)
    first, last = (series[name].cast(pl.Int32).to_numpy() for name in ("first", "last"))
    due = before[np.searchsorted(days, last, side="right")] - before[np.searchsorted(days, first)]
    is_sample = (sessions < SAMPLED * due) & (sessions < LONG_STRETCH * stretches)
    return series.select("series").filter(pl.Series(is_sample))


def unlisted_slots(listed: pl.DataFrame, edges: tuple[int, int]) -> pl.DataFrame:
    """`KEY_RANGES` packed by series: before its symbol's first slot and after its last, where the feed covers more.

    Parameters
    ----------
    listed : DataFrame
        `series, first, first_slot, last, last_slot`: ordinals and slots of the first and the last row of its symbol;
        sorted by series.
    edges : (int, int)
        From `Coverage.sessions`.
    """
    number = listed["series"].to_numpy()
    first, last = (listed[name].to_numpy().astype(np.int64) for name in ("first", "last"))
    begun = slot_keys(number, first, listed["first_slot"].to_numpy())
    ended = slot_keys(number, last, listed["last_slot"].to_numpy()) + 1
    floor, ceiling = (
        slot_keys(number, np.zeros(len(number), np.int64)),
        slot_keys(number + 1, np.zeros(len(number), np.int64)),
    )
    starts_later = first // SEGMENTS_PER_SESSION > edges[0]
    ends_earlier = last // SEGMENTS_PER_SESSION < edges[1]
    ranges = pl.DataFrame(
        {
            "start": np.concatenate([floor[starts_later], ended[ends_earlier]]),
            "end": np.concatenate([begun[starts_later], ceiling[ends_earlier]]),
        },
        schema=dict(KEY_RANGES),
    )
    return ranges.sort("start")
