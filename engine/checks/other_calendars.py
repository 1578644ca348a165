"""How well calendars fit a clock profile, and which ones fit better than the one that was named. Pure: frame in, frame out.

1. `row_dates` counts the rows per UTC date: hours of dates without rows prove nothing.
2. `calendar_scores` tries calendars on the profile: the rows inside their hours, and the part of their hours that has rows.
3. `try_calendars` tries the codes whose usual hours come near on their exact sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from engine.checks.check import SERIES, Frames, MeasureInput, Measurement
from engine.checks.clock_fit import DAY_CELLS, LOST_SHARE, dense_counts, numbered_groups
from engine.checks.clock_profile import CELL_MINUTES, MINUTE_US, season_numbers, week_cells
from engine.grid import DAY_US
from engine.interval import Interval
from engine.keys import Flags, Ints, number_ranges
from engine.quality.contiguous_runs import Floats, run_starts
from engine.schema import TS, Schema, empty

ROW_DATES: Schema = {"date": pl.Date(), "rows": pl.Int64()}
SCORES: Schema = {
    **SERIES,
    "code": pl.String(),
    "score": pl.Float64(),
    "inside": pl.Float64(),
    "filled": pl.Float64(),
    "rows": pl.Int64(),
}
SHORT_GAP = 4  # days without rows between two that have some: a weekend, a long weekend
FEW_ROWS = 0.05  # of the median date: less is the rest of a session of another date
BLOCK_CELLS = 8  # two hours: weekdays are compared by these, which thin series fill too
EXTENDED = ("PRE", "RTH", "POST")
USUAL_DAYS = 400
NEAR_FIT, TRIED = 0.2, 8  # of the best usual hours; so many codes are tried on their exact sessions
OTHER_ERA = 0.1  # of the rows: no more lie in the hours of other years and outside the usual ones

KEY = list(SERIES)
NO_HOURS = np.zeros(7 * DAY_CELLS), np.zeros(7 * DAY_CELLS), np.zeros(7, bool)


def row_dates(ts: pl.Series) -> pl.DataFrame:
    """Number of stamps per UTC date, of `ROW_DATES`, sorted."""
    days = ts.cast(pl.Int64).to_numpy() // DAY_US
    heads = run_starts(days)
    counts = pl.DataFrame({"date": days[heads].astype(np.int32), "rows": np.diff(np.append(heads, len(days)))})
    return (
        counts.group_by("date").sum().sort("date").select(pl.col(name).cast(dtype) for name, dtype in ROW_DATES.items())
    )


class RowDates(Measurement):
    """Frame `row_dates`: rows of all series per UTC date."""

    schemas: ClassVar[Mapping[str, Schema]] = {"row_dates": ROW_DATES}

    def measure(self, part: MeasureInput) -> Frames:
        """Return frame `row_dates`: the number of the part's rows per UTC date."""
        return {"row_dates": row_dates(part.rows["ts"]) if part.rows.height else empty(ROW_DATES)}

    def combine(self, frames: Mapping[str, Sequence[pl.DataFrame]]) -> Frames:
        """Sum the rows per date of all parts; sorted."""
        return {"row_dates": pl.concat([empty(ROW_DATES), *frames["row_dates"]]).group_by("date").sum().sort("date")}


ROW_DATES_MEASURED = RowDates()


@dataclass(frozen=True)
class ExpectedDays:
    """Days (since 1970, sorted) on which hours of a calendar are expected; `has_rows`: not only in a gap between such days."""

    days: Ints
    has_rows: Flags

    @cached_property
    def seasons(self) -> Ints:
        """Season of each day (`clock_profile.season_numbers`)."""
        return season_numbers(self.days * DAY_US + DAY_US // 2)

    @classmethod
    def of(cls, dates: pl.DataFrame) -> ExpectedDays:
        """Dates of `ROW_DATES` with >= 5 % of the usual rows, and those in gaps of at most 4 days between two of them."""
        usual = dates.filter(pl.col("rows") >= FEW_ROWS * pl.col("rows").median())
        held = usual["date"].cast(pl.Int32).to_numpy().astype(np.int64)
        gap = np.diff(held) - 1
        owner, number = number_ranges(np.where(gap <= SHORT_GAP, gap, 0))
        days = np.concatenate([held, held[owner] + 1 + number])
        order = np.argsort(days)
        return cls(days[order], order < len(held))

    @classmethod
    def until(cls, last: int, count: int) -> ExpectedDays:
        """So many days up to the last one, all of which may have rows."""
        return cls(np.arange(last - count + 1, last + 1), np.ones(count, bool))


def calendar_scores(
    profile: pl.DataFrame, calendars: Mapping[str, pl.DataFrame], expected: ExpectedDays
) -> pl.DataFrame:
    """Score 0-1 per series and calendar: harmonic mean of rows inside its regular hours and of these hours with rows.

    Parameters
    ----------
    profile : DataFrame of `clock_profile.PROFILE`
    calendars : mapping of code to DataFrame of `schema.SEGMENTS`
    expected : ExpectedDays

    Returns
    -------
    DataFrame of `SCORES`
        Inside is the mean of the share of the rows and of the volume, where trades have volume. Where a calendar has PRE
        and POST, the score is the better one of the regular and of the extended hours.
    """
    week = profile.filter(pl.col("facet") == "week")
    if week.is_empty() or not len(expected.days):
        return empty(SCORES)
    groups, group = numbered_groups(week, (*KEY, "season"))
    rows, volume = dense_counts(week, group, groups.height, "rows", "volume")
    weighed = (volume.sum(1) > 0) & (groups["price_type"] == "last").to_numpy()
    seasons, steps = groups["season"].to_numpy(), steps_of(groups["interval"])
    profiles = []
    for season, step in sorted(set(zip(seasons.tolist(), steps.tolist(), strict=True))):
        at = np.flatnonzero((seasons == season) & (steps == step))
        profiles.append(SeasonProfiles.of(season, step, at, rows[at], volume[at], weighed[at]))
    made: list[pl.DataFrame] = []
    best_of: dict[int, Floats] = {}
    for code, segments in calendars.items():
        # Codes of the same hours share a frame.
        best = best_of.get(id(segments))
        if best is None:
            best = np.zeros((3, groups.height))
            for spans in hours_to_try(segments):
                scored = group_scores(profiles, session_weights(spans, expected), groups.height)
                best = np.where(scored[0] > best[0], scored, best)
            best_of[id(segments)] = best
        made.append(
            groups.with_columns(pl.lit(code).alias("code"), *map(pl.Series, ("score", "inside", "filled"), best))
        )
    if not made:
        return empty(SCORES)
    by_rows = (pl.col("score", "inside", "filled") * pl.col("rows")).sum() / pl.col("rows").sum()
    whole = pl.concat(made).group_by([*KEY, "code"], maintain_order=True).agg(by_rows, pl.col("rows").sum())
    return whole.select(pl.col(name).cast(dtype) for name, dtype in SCORES.items())


def share_of_total(counts: Floats) -> Floats:
    """Counts of each group (row) as shares of the group's sum; 0 where that is 0."""
    shares: Floats = counts / np.maximum(counts.sum(1), 1e-9)[:, None]
    return shares


def steps_of(intervals: pl.Series) -> Ints:
    """Number of quarters of an hour that a bar of each interval covers, the last one in part; at least 1."""
    quarters = {text: -(-Interval.parse(text).seconds // (60 * CELL_MINUTES)) for text in intervals.unique()}
    return intervals.replace_strict(quarters, return_dtype=pl.Int64).to_numpy()


def hours_to_try(segments: pl.DataFrame) -> list[pl.DataFrame]:
    """The regular segments; and those of PRE, RTH and POST, where a calendar has all three."""
    is_extended = pl.col("segment").is_in(EXTENDED)
    labels = set(segments["segment"].unique())
    return [segments.filter("regular"), *([segments.filter(is_extended)] if set(EXTENDED) <= labels else [])]


@dataclass(frozen=True)
class SeasonProfiles:
    """The rows of groups of one season and length of bars, by quarter of an hour of the week.

    Attributes
    ----------
    season, step : int
        The season, and the number of quarters of an hour that a bar covers.
    at : array of int
        Numbers of the groups.
    weight : array
        Per quarter of the week, the mean of its shares of the rows and of the volume (0-1); without volume, of the rows.
    has_quarter, has_block : array
        Whether (1, 0) each quarter of an hour of a day, and each block of two hours of the week, has rows.
    has_weekday : array of bool
        Whether each weekday has rows.
    """

    season: int
    step: int
    at: Ints
    weight: Floats
    has_quarter: Floats
    has_block: Floats
    has_weekday: Flags

    @classmethod
    def of(cls, season: int, step: int, at: Ints, rows: Floats, volume: Floats, weighed: Flags) -> SeasonProfiles:
        """Of counts by quarter of an hour of the week; the volume counts where `weighed`."""
        weight = share_of_total(rows)
        weight = (weight + np.where(weighed[:, None], share_of_total(volume), weight)) / 2
        spread = rows
        for late in range(1, step):
            spread = spread + np.roll(rows, late, axis=1)
        by_day = spread.reshape(-1, 7, DAY_CELLS)
        of_day, of_block = by_day.sum(1), spread.reshape(-1, 7 * DAY_CELLS // BLOCK_CELLS, BLOCK_CELLS).sum(2)
        has_quarter, has_block = (has_rows(one).astype(np.float64) for one in (of_day, of_block))
        return cls(season, step, at, weight, has_quarter, has_block, has_rows(by_day.sum(2)))


def has_rows(counts: Floats) -> Flags:
    """Whether cells have more than a fiftieth of the rows of the fullest one of their group."""
    flags: Flags = counts > LOST_SHARE * counts.max(1, initial=0)[:, None]
    return flags


def group_scores(
    profiles: Sequence[SeasonProfiles], masks: Mapping[int, tuple[Floats, Floats, Flags]], count: int
) -> Floats:
    """(score, inside, filled) x groups (`count`), against the hours of their season; 0 where there are none.

    A bar is inside hours of which it covers a part. Weekdays on which others have rows and the series has none are not
    expected of it.
    """
    scores = np.zeros((3, count))
    for one in profiles:
        mask, mask_of_rows, weekdays_with_rows = masks.get(one.season, NO_HOURS)
        if not mask.any():
            continue
        inside = one.weight @ np.max([np.roll(mask_of_rows, -later) for later in range(one.step)], axis=0)
        day = mask.reshape(7, DAY_CELLS).max(0)
        weekdays = np.repeat(one.has_weekday | ~weekdays_with_rows, DAY_CELLS // BLOCK_CELLS, axis=1)
        block = mask.reshape(-1, BLOCK_CELLS).sum(1) * weekdays
        of_blocks = (one.has_block * block).sum(1) / np.maximum(block.sum(1), 1e-9)
        filled = np.minimum(one.has_quarter @ day / day.sum(), of_blocks)
        scores[:, one.at] = 2 * inside * filled / np.maximum(inside + filled, 1e-9), inside, filled
    return scores


def session_weights(segments: pl.DataFrame, expected: ExpectedDays) -> dict[int, tuple[Floats, Floats, Flags]]:
    """Share of the days of each season, by weekday, on which each quarter of a UTC week is in hours.

    Returns
    -------
    dict of season to (array, array, array)
        The share of all expected days, that of the days with rows, and which weekdays have rows.
    """
    quarter, days, season_of_day = CELL_MINUTES * MINUTE_US, expected.days, expected.seasons
    opens, closes = (segments[name].cast(TS).cast(pl.Int64).to_numpy() for name in ("segment_open", "segment_close"))
    first, count = opens // quarter, -(-closes // quarter) - opens // quarter
    owner, number = number_ranges(count)
    begins = (first[owner] + number) * quarter
    covered = (np.minimum(begins + quarter, closes[owner]) - np.maximum(begins, opens[owner])) / quarter
    at = np.minimum(np.searchsorted(days, begins // DAY_US), len(days) - 1)
    held = days[at] == begins // DAY_US
    begins, covered, at = begins[held], covered[held], at[held]
    season, cell = season_of_day[at], week_cells(begins)
    weights = {}
    for one in np.unique(season_of_day):
        is_season, ours = season_of_day == one, season == one
        shares = []
        for counted in (np.ones(len(days), bool), expected.has_rows):
            per_weekday = np.bincount((days[is_season & counted] + 3) % 7, minlength=7)
            chosen = ours & counted[at]
            total = np.bincount(cell[chosen], weights=covered[chosen], minlength=7 * DAY_CELLS)
            shares.append(total / np.repeat(np.maximum(per_weekday, 1), DAY_CELLS))
        weights[int(one)] = shares[0], shares[1], per_weekday > 0
    return weights


def try_calendars(
    profile: pl.DataFrame,
    expected: ExpectedDays,
    others: Mapping[str, pl.DataFrame],
    usual: Mapping[str, pl.DataFrame],
    least: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Scores of the calendars that were tried, best first: all of `others`, or the nearest 8 per series by `usual` hours.

    Of the nearest, those are not tried whose usual hours hold too few rows for the least score that counts.

    Parameters
    ----------
    profile : DataFrame of `clock_profile.PROFILE`
    expected : ExpectedDays
    others : mapping of code to DataFrame of `schema.SEGMENTS`
        Calendars to try, the more usual ones first; each is looked up only if it is tried.
    usual : mapping of code to DataFrame of `schema.SEGMENTS` without `ordinal`
        Their usual hours, without holidays; empty: all are tried.
    least : DataFrame of `SERIES` and `least`, optional
        Lowest score of each series that its caller has a use for; default 0.
    """
    tried = list(others) if profile.height else []
    if tried and usual:
        # Usual hours are the same in each year.
        rough = calendar_scores(profile, usual, ExpectedDays.until(int(expected.days[-1]), USUAL_DAYS))
        near = rough.filter(pl.col("score") >= pl.col("score").max().over(KEY) - NEAR_FIT)
        ranked = near.sort("score", descending=True, maintain_order=True)
        nearest = ranked.group_by(KEY, maintain_order=True).head(TRIED)
        if least is not None:
            # A harmonic mean is highest where all hours have rows.
            held = (pl.col("inside") + OTHER_ERA).clip(upper_bound=1.0)
            highest = 2 * held / (1 + held)
            nearest = nearest.join(least, on=KEY).filter(highest >= pl.col("least"))
        best = set(nearest["code"])
        tried = [code for code in tried if code in best]
    scored = calendar_scores(profile, {code: others[code] for code in tried}, expected)
    return scored.sort([*KEY, "score"], descending=[False] * len(KEY) + [True], maintain_order=True)
