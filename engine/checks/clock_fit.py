"""How well the hours of a calendar fit a clock profile, at each shift of the stamps. Pure: frame in, frame out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.checks.check import SERIES
from engine.checks.clock_profile import (
    CELL_MINUTES,
    MINUTE_US,
    WEEK_CELLS,
    utc_offsets,
    week_cells,
)
from engine.interval import Interval
from engine.keys import Ints
from engine.quality.contiguous_runs import Floats
from engine.schema import TS

DAY_CELLS = WEEK_CELLS // 7
HALF_HOUR_CELLS = 2
SHIFTS = np.arange(-28, 29)  # half hours by which stamps may be late
NO_SHIFT = int(np.flatnonzero(SHIFTS == 0)[0])
RARE_SHARE, USUAL_SHARE = 0.25, 0.9  # of the days of a week: less is an exception, more is the rule
LARGEST_PRINT = (
    4.0  # times the usual volume of a row: the first and last quarters of an hour have two to three times it
)
ROOM = 0.25  # of the rows of the hours beside, in hours that a shift has emptied: gold of a vendor has a fifth in its pause
LOST_SHARE = 0.02  # of a cell's usual rows: fewer do not make it active


@dataclass(frozen=True)
class Fit:
    """How well sessions fit series, season by season; a row per (series, offset), a column per shift of `SHIFTS`.

    Attributes
    ----------
    groups : DataFrame of `symbol, price_type, interval, offset, rows`
    weighed : array of bool
        Whether the volume weighs, else each row counts 1.
    inside : array
        Share of the rows (of their volume) inside sessions once the stamps are moved back by the shift, 0-1.
    rows_inside : array
        The same, each row counting 1.
    filled : array
        Share of the quarters of an hour of a session's day that have rows, 0-1.
    active : array
        Share of all quarters of an hour of a day that have rows.
    busiest : array of int
        Minute of the UTC day with which the busiest quarter of an hour begins.
    week : array
        Rows by quarter of an hour of the UTC week.
    sessions : array
        Weight of each quarter of the week that is in sessions, 0-1.
    """

    groups: pl.DataFrame
    weighed: NDArray[np.bool_]
    inside: Floats
    rows_inside: Floats
    filled: Floats
    active: Floats
    busiest: Ints
    week: Floats
    sessions: Floats

    @cached_property
    def rows(self) -> Ints:
        """Number of rows of each group (series and UTC offset)."""
        rows: Ints = self.groups["rows"].to_numpy()
        return rows

    @cached_property
    def offsets(self) -> Ints:
        """Minutes east of UTC of each group."""
        offsets: Ints = self.groups["offset"].to_numpy().astype(np.int64)
        return offsets

    @cached_property
    def score(self) -> Floats:
        """Harmonic mean of `inside` and `filled` per group and shift: 1 where rows fill the sessions and only those."""
        return 2 * self.inside * self.filled / np.maximum(self.inside + self.filled, 1e-9)


def fit(profile: pl.DataFrame, segments: pl.DataFrame, zone: str) -> Fit:
    """Fit to regular sessions per (series, UTC offset), at shifts of -14 to 14 h by half hours; trades weigh volume.

    Parameters
    ----------
    profile : DataFrame of `clock_profile.PROFILE`
    segments : DataFrame of `schema.SEGMENTS`
        Of the years of the profile; the regular ones count.
    zone : str
        The zone of the profile's offsets.
    """
    week = profile.filter(pl.col("facet") == "week")
    groups, group = numbered_groups(week, (*SERIES, "offset"))
    counts = dense_counts(week, group, groups.height, "rows", "volume")
    rows, volume = (spread_over_bars(one, groups["interval"]) for one in counts)
    with np.errstate(over="ignore", invalid="ignore"):  # volumes near the bound of a float
        weighed = (volume.sum(1) > 0) & (groups["price_type"] == "last").to_numpy()
        weight = np.where(weighed[:, None], without_single_prints(volume, rows), rows)
    inside, rows_inside, filled = (np.zeros((groups.height, len(SHIFTS))) for _ in range(3))
    sessions = np.zeros(rows.shape)
    by_day = rows.reshape(-1, 7, DAY_CELLS).sum(1)
    has_rows = by_day > LOST_SHARE * by_day.max(1, initial=1)[:, None]
    for offset, mask in session_masks(segments, zone).items():
        ours = np.flatnonzero((groups["offset"] == offset).to_numpy())
        sessions[ours] = mask
        moved = np.stack([np.roll(mask, s * HALF_HOUR_CELLS) for s in SHIFTS], axis=1)
        inside[ours], rows_inside[ours] = _share(weight[ours], moved), _share(rows[ours], moved)
        day = mask.reshape(7, DAY_CELLS).max(0)
        moved_day = np.stack([np.roll(day, s * HALF_HOUR_CELLS) for s in SHIFTS], axis=1)
        filled[ours] = has_rows[ours] @ moved_day / max(day.sum(), 1e-9)
    busiest = weight.reshape(-1, 7, DAY_CELLS).sum(1).argmax(1) * CELL_MINUTES
    return Fit(groups, weighed, inside, rows_inside, filled, has_rows.mean(1), busiest, rows, sessions)


def leaves_room(week: Floats, sessions: Floats, shift: int) -> bool:
    """Whether the hours that a shift (half hours, > 0: late) would have emptied within sessions are empty.

    Stamps that are late leave the begin of sessions without rows, early ones their end; where the pause before is shorter
    than the shift, only hours as long as the pause, which moved with the rows. Counted are those with rows beside them.
    """
    cells = abs(shift) * HALF_HOUR_CELLS
    # Early stamps are late ones of a week that runs backwards.
    rows, is_open = (week, sessions > 0) if shift > 0 else (week[::-1], sessions[::-1] > 0)
    is_emptied = is_open & ~np.roll(is_open, cells)
    first = np.flatnonzero(is_emptied & ~np.roll(is_emptied, 1))
    last = np.flatnonzero(is_emptied & ~np.roll(is_emptied, -1))
    if not len(first):
        return False
    if last[0] < first[0]:  # the last run goes on in the next week
        last = np.append(last[1:], last[0] + WEEK_CELLS)
    length = last + 1 - first
    until = np.concatenate([[0.0], np.cumsum(np.tile(rows, 3))])
    emptied = until[first + length] - until[first]
    beside = until[first + 2 * length] - until[first + length]
    return bool((beside > 0).any() and emptied[beside > 0].sum() <= ROOM * beside.sum())


def without_single_prints(volume: Floats, rows: Floats) -> Floats:
    """Volume per group and cell, at most 4 times its rows x the volume per row at which half of the group's volume lies.

    An auction that is printed after the close in one row is no sign of half an hour of trading.
    """
    capped, used = volume.copy(), np.flatnonzero(volume.any(0))  # most markets trade in a part of the week
    if not len(used):
        return capped
    volume, rows = volume[:, used], rows[:, used]
    per_row = volume / np.maximum(rows, 1)
    order = np.argsort(per_row, axis=1)
    reached = np.cumsum(np.take_along_axis(volume, order, axis=1), axis=1)
    middle = np.argmax(reached >= 0.5 * volume.sum(1, keepdims=True), axis=1)
    usual = np.take_along_axis(per_row, np.take_along_axis(order, middle[:, None], axis=1), axis=1)
    capped[:, used] = np.minimum(volume, LARGEST_PRINT * usual * rows)
    return capped


def spread_over_bars(counts: Floats, intervals: pl.Series) -> Floats:
    """Counts per group and quarter hour, those of longer bars in equal parts in all quarters that a bar covers."""
    spread = counts
    for text in intervals.unique():
        quarters = Interval.parse(text).step_us // (CELL_MINUTES * MINUTE_US)
        if 1 < quarters <= DAY_CELLS // 2:
            spread = counts.copy() if spread is counts else spread
            ours = (intervals == text).to_numpy()
            spread[ours] = sum(np.roll(counts[ours], k, axis=1) for k in range(quarters)) / quarters
    return spread


def numbered_groups(week: pl.DataFrame, key: Sequence[str]) -> tuple[pl.DataFrame, Ints]:
    """(groups of rows with an equal `key`, sorted, with their sum of `rows`; number of each row's group)."""
    # The rows of a group are neighbours mostly: a key of a run is looked up once.
    begins = pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in key).fill_null(value=True)
    heads = week.select(begins.arg_true()).to_series()
    runs = week.select(key)[heads]
    groups = runs.unique().sort(key)
    of_run = runs.join(groups.with_row_index("group"), on=key, how="left", maintain_order="left")["group"]
    first = heads.to_numpy().astype(np.int64)
    group = np.repeat(of_run.to_numpy().astype(np.int64), np.diff(np.append(first, week.height)))
    rows = np.bincount(group, weights=week["rows"].to_numpy(), minlength=groups.height)
    return groups.with_columns(pl.Series("rows", rows.astype(np.int64))), group


def dense_counts(week: pl.DataFrame, group: Ints, count: int, *names: str) -> list[Floats]:
    """One array per name: a row per group, a column per quarter hour; 0 where none."""
    flat = group * WEEK_CELLS + week["cell"].to_numpy()
    dense = (np.bincount(flat, weights=week[name].to_numpy(), minlength=count * WEEK_CELLS) for name in names)
    return [one.astype(np.float64, copy=False).reshape(-1, WEEK_CELLS) for one in dense]


def _share(weight: Floats, moved: Floats) -> Floats:
    shares: Floats = weight @ moved / np.maximum(weight.sum(1), 1e-9)[:, None]
    return shares


def session_masks(segments: pl.DataFrame, zone: str) -> dict[int, Floats]:
    """Map each UTC offset to the in-session weight of each UTC-week quarter hour; {} without regular segments."""
    spans = segments.filter("regular")
    if spans.is_empty():
        return {}
    opens, closes = (spans[name].cast(TS).cast(pl.Int64).to_numpy() for name in ("segment_open", "segment_close"))
    cell = CELL_MINUTES * MINUTE_US
    first, count = opens // cell, -(-closes // cell) - opens // cell
    owner = np.repeat(np.arange(len(opens)), count)
    begins = (np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[owner]) * cell
    covered = (np.minimum(begins + cell, closes[owner]) - np.maximum(begins, opens[owner])) / cell
    moves, offsets = utc_offsets(zone, int(begins.min()), int(begins.max()))
    season = offsets[np.searchsorted(moves, begins, side="right") - 1]
    return {int(one): session_mask(begins[season == one], covered[season == one]) for one in np.unique(offsets)}


def session_mask(begins: Ints, covered: Floats) -> Floats:
    """Per quarter hour of the week: mean `covered` of its weekday's dates in `begins`; < 25 %: 0, else / 0.9, max 1.

    The first and the last date, on which sessions may be there in part, count only where no other date has their weekday.
    """
    if not len(begins):
        return np.zeros(WEEK_CELLS)
    date = begins // (DAY_CELLS * CELL_MINUTES * MINUTE_US)
    days = np.unique(date)
    weekday = (days + 3) % 7
    is_edge = np.isin(days, days[[0, -1]])
    whole = days[~is_edge | ~np.isin(weekday, weekday[~is_edge])]
    per_weekday = np.bincount((whole + 3) % 7, minlength=7)
    held = np.isin(date, whole)
    total = np.bincount(week_cells(begins[held]), weights=covered[held], minlength=WEEK_CELLS)
    share = total / np.repeat(np.maximum(per_weekday, 1), DAY_CELLS)
    return np.where(share < RARE_SHARE, 0.0, np.minimum(share / USUAL_SHARE, 1.0))
