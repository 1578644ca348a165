"""Findings of a clock profile about single stamps: start or end of a bar, and the interval. Pure: frame in, frame out.

1. `stamp_findings`: at the edges of sessions every row comes a step or a few late, or the activity of full and half hours
   does (`round_times`); or all rows have one second of the minute (the last one), and so lie within their bars.
2. `interval_findings`: stamps repeat on another step than the interval that was stated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.checks.check import SERIES
from engine.checks.clock_profile import NEAR_STEPS
from engine.checks.findings import findings_of
from engine.checks.remedies import ASK_WHAT_IS_MARKED, any_of, shift_option
from engine.checks.round_times import (
    LEAST_BESIDE_EDGES,
    ROUND_TIMES,
    round_as_stamped,
    round_finding,
    round_lags,
)
from engine.interval import Interval
from engine.quality.contiguous_runs import Floats
from engine.schema import empty

LATEST_STEPS = 3
CHANCE = 0.003  # that a series that stamps starts looks so at its edges
LIQUID, LIQUID_CAP = 0.8, 0.95  # no slot is surer than the latter
PEAK_RATIO, FEWEST_OPENS = 5.0, 5
PEAK_OVER_NEXT = 1.5
FEWEST_WITH_ENDS = 3  # opens, where the last bar of a session tells the same
FEWEST_CLOSES, SHOWN = 2, 6
ROWS_OUTSIDE = 0.05  # chance that a series that stamps starts has a row in the last step before each open
SELDOM = 0.3  # of the opens have a row: more, and stamps are no ends
ON_ONE_STEP, OFF_STEP, EVENLY = 0.995, 0.2, 1.3
FEWEST_STAMPS, FEWEST_DAYS = 30, 10
RUNGS = (60, 30, 15, 5, 1)

Row = dict[str, Any]


def stamp_findings(
    profile: pl.DataFrame, round_sums: pl.DataFrame | None = None, doubtful: pl.DataFrame | None = None
) -> pl.DataFrame:
    """A `stamp` per intraday series with one second in all stamps, or stamps a step or a few off by edges or round times.

    Where full and half hours (`round_sums`, of `round_times.ROUND_TIMES`) are the most active as stamped, no edge speaks against it;
    where the bars 1 to 3 steps beside them are, stamps are so far off, with less of a score if the edges agree. Edges and
    round times say nothing of `doubtful` series (`SERIES`), whose zone or calendar is wrong.
    """
    series, opens = facet_of_series(profile, "after_open", 2 * NEAR_STEPS + 1, NEAR_STEPS)
    _, closes = facet_of_series(profile, "after_close", 2 * NEAR_STEPS + 1, NEAR_STEPS)
    _, peaks = facet_of_series(profile, "after_open", 2 * NEAR_STEPS + 1, NEAR_STEPS, "volume")
    _, ends = facet_of_series(profile, "after_close", 2 * NEAR_STEPS + 1, NEAR_STEPS, "volume")
    _, open_edges = facet_of_series(profile, "open_edges", 1, 0)
    _, close_edges = facet_of_series(profile, "close_edges", 1, 0)
    zero = NEAR_STEPS
    suspect = ((opens[:, zero] <= SELDOM * open_edges[:, 0]) & (closes[:, zero] > 0)) | (
        peaks[:, zero + 1] >= PEAK_RATIO * peaks[:, zero]
    )
    early = (
        (opens[:, zero - 1] >= SELDOM * open_edges[:, 0]) & (closes[:, zero - 1] <= SELDOM * close_edges[:, 0])
    ) | (peaks[:, zero - 1] >= PEAK_RATIO * peaks[:, zero - 2])
    second = seconds_within(profile)
    sums = empty(ROUND_TIMES) if round_sums is None else round_sums
    right = set(round_as_stamped(sums).iter_rows())
    beside_edges = lags_by_series(round_lags(sums, LEAST_BESIDE_EDGES, LEAST_BESIDE_EDGES))
    alone = lags_by_series(round_lags(sums))
    rows: list[Row] = []
    no_edges = set() if doubtful is None else set(doubtful.select(list(SERIES)).iter_rows())
    for at, named in enumerate(series.iter_rows()):
        if not Interval.parse(named[2]).is_intraday or second[at] >= 0 or named in right or named in no_edges:
            continue
        counts = (open_edges[at, 0], close_edges[at, 0])
        if early[at] and is_step_early(opens[at], closes[at], peaks[at], ends[at], *counts):
            rows.append(early_finding(named, opens[at], closes[at], counts))
            continue
        late = count_steps_late(opens[at], closes[at], *counts) if suspect[at] else 0
        peak = 0 if late or not suspect[at] else int(is_peak_late(peaks[at], counts[0], ends[at]))
        if late or peak:
            rows.append(stamp_finding(named, late or peak, opens[at], closes[at], peaks[at] if peak else None, counts))
        elif named in alone:
            rows.append(round_finding(alone[named]))
        elif named in beside_edges and do_edges_agree(beside_edges[named]["lag"], opens[at], closes[at]):
            rows.append(round_finding(beside_edges[named]))
    rows += [
        within_finding(
            named, int(second[at]), opens[at], close_edges[at, 0] if named not in no_edges else 0.0, closes[at]
        )
        for at, named in enumerate(series.iter_rows())
        if second[at] >= 0
    ]
    return findings_of(rows)


def lags_by_series(lags: pl.DataFrame) -> dict[tuple[Any, ...], Row]:
    """Return the rows of `round_times.ROUND_LAGS` by series."""
    return {tuple(row[name] for name in SERIES): row for row in lags.iter_rows(named=True)}


def do_edges_agree(steps: int, opened: Floats, closed: Floats) -> bool:
    """Whether all rows near opens and closes lie between these edges moved by so many steps (> 0: late), and reach both."""
    begin = end = NEAR_STEPS + steps
    is_inside = opened[:begin].sum() == 0 and closed[end:].sum() == 0
    return bool(is_inside and opened[begin] > 0 and closed[end - 1] > 0)


def seconds_within(profile: pl.DataFrame) -> NDArray[np.int64]:
    """Per series, as `facet_of_series` sorts: the second of 99.5 % of >= 30 stamps, between whole minutes; else -1.

    Of 30 stamps and more, and of intervals of whole minutes.
    """
    _, minutes = facet_of_series(profile, "minute", 61, 1)
    _, seconds = facet_of_series(profile, "second", 60, 0)
    total = minutes.sum(1)
    is_one = (seconds.max(1) >= ON_ONE_STEP * total) & (total >= FEWEST_STAMPS)
    return np.where(is_one, seconds.argmax(1), -1).astype(np.int64)


def within_finding(named: tuple[Any, ...], second: int, opened: Floats, closes: float, closed: Floats) -> Row:
    """Build the `stamp` error of stamps within bars (past them if a step late): `value` second, `count` near opens."""
    is_late = bool(closes and closed[NEAR_STEPS] >= FEWEST_CLOSES and opened[NEAR_STEPS] == 0)
    return {
        **dict(zip(SERIES, named, strict=True)),
        "check_name": "stamp",
        "severity": "error",
        "count": int(opened.sum()),
        "value": float(second),
        "message": f"Stamps are {second} s past the end of each bar, and are read as its start."
        if is_late
        else f"Stamps lie within each bar, at second {second} of the minute, and are read as its start.",
        "evidence": f"all stamps are at second {second} of the minute; confidence high",
        "remedy": f"{shift_option(-second)} --stamp end" if is_late else "--stamp end-inclusive",
    }


def count_steps_late(opened: Floats, closed: Floats, opens: float, closes: float) -> int:
    """Least of 1 to 3 steps (2, 3: if liquid) with few rows after opens, rows past closes, chance <= 0.3 %; else 0."""
    zero = NEAR_STEPS
    for late in range(1, LATEST_STEPS + 1):
        if not opens or not closes:
            return 0
        first, last = opened / opens, closed / closes
        usual = min(first[zero + late : zero + late + 4].mean(), LIQUID_CAP)
        if late > 1 and usual < LIQUID:
            return 0
        is_quiet = opened[: zero + late].sum() <= 0.1 * usual * opens * late
        runs_on = last[zero : zero + late].mean() >= 0.5 * min(last[zero - 5 : zero].mean(), 1.0)
        then_ends = closed[zero + late :].sum() <= max(0.1 * closed[zero : zero + late].sum(), 1.0)
        seen = closed[zero : zero + late].sum()
        is_seen = seen >= (FEWEST_CLOSES if opens < FEWEST_CLOSES else min(closes, FEWEST_CLOSES))
        if is_quiet and runs_on and then_ends and is_seen and (1 - usual) ** (opens * late) <= CHANCE:
            return late
    return 0


def is_step_early(opened: Floats, closed: Floats, volume: Floats, ends: Floats, opens: float, closes: float) -> bool:
    """Whether rows run from one step before opens to one step before closes; with extended hours by the volume's peak.

    Of at least 2 opens, by chance in at most 3 of 1,000 series: of a single close (a market that closes once a week) only where
    4 of 5 opens have such a row; by a peak of at least 5 opens, or by a rise of 3 where the volume also falls a step before
    the close.
    """
    zero = NEAR_STEPS
    if opens < FEWEST_CLOSES or not closes:
        return False
    usual = min(closed[zero - 5 : zero - 1].mean() / closes, LIQUID_CAP)
    is_quiet = closed[zero - 1 :].sum() <= 0.1 * usual * closes and opened[: zero - 1].sum() <= 0.1 * opened[zero - 1]
    begins = opened[zero - 1] >= 0.5 * min(opened[zero : zero + 4].mean(), opens)
    if closes < FEWEST_CLOSES and opened[zero - 1] >= LIQUID * opens:
        # Of four slots before one close a thin series has rows by chance.
        chance = ROWS_OUTSIDE * (1 - min(usual, opened[zero : zero + 4].mean() / opens))
    else:
        chance = (1 - usual) ** closes
    if is_quiet and begins and chance <= CHANCE:
        return True
    if closes < FEWEST_CLOSES:
        return False
    before, peak = volume[: zero - 1].max(), volume[zero - 1]
    stands_out = before > 0 and peak >= PEAK_RATIO * before
    falls = ends[zero - 2] >= PEAK_RATIO * max(ends[zero - 1], ends[zero]) and peak > volume[zero] / 2
    by_peak = opens >= FEWEST_OPENS and peak > PEAK_OVER_NEXT * volume[zero]
    return bool(stands_out and (by_peak or (falls and opens >= FEWEST_WITH_ENDS)))


def early_finding(named: tuple[Any, ...], opened: Floats, closed: Floats, edges: tuple[float, float]) -> Row:
    """Build the `stamp` error of stamps one step early: `value` -1, `count` opens."""
    zero = NEAR_STEPS
    return {
        **dict(zip(SERIES, named, strict=True)),
        "check_name": "stamp",
        "severity": "error",
        "count": int(edges[0]),
        "value": -1.0,
        "message": f"Stamps are one step ({named[2]}) early: sessions begin and end that much before those of the calendar.",
        "evidence": (
            f"{opened[zero - 1]:.0f} of {edges[0]:.0f} opens have a row one step before them, {closed[zero - 1]:.0f} of "
            f"{edges[1]:.0f} closes one in their last step; confidence {'high' if edges[0] >= 2 * FEWEST_OPENS else 'moderate'}"
        ),
        "remedy": any_of(shift_option(Interval.parse(named[2]).seconds), ASK_WHAT_IS_MARKED),
    }


def is_peak_late(volume: Floats, opens: float, ends: Floats) -> bool:
    """Whether volume peaks one step after a quiet open, >= 5 times its; of >= 5 opens with volume just before.

    Of 3 and 4 opens too, where the volume ends (`ends`, by step from the close) one step after the close as well.
    """
    # Where rows come before the open too, the opening auction tells: it is the first bar of the session.
    zero = NEAR_STEPS
    before, at_open, after = volume[zero - 1], volume[zero], volume[zero + 1]
    rest = volume[zero + 2 : zero + 6].mean()
    is_small = at_open <= 3 * max(before, volume[: zero - 1].mean())
    is_end_late = opens >= FEWEST_WITH_ENDS and ends[zero] >= PEAK_RATIO * max(
        ends[zero + 1 : zero + 5].max(), ends[zero - 2]
    )
    return bool(
        (opens >= FEWEST_OPENS or is_end_late)
        and before > 0
        and is_small
        and after >= PEAK_RATIO * at_open
        and after > rest
    )


def stamp_finding(
    named: tuple[Any, ...], late: int, opened: Floats, closed: Floats, peaks: Floats | None, edges: tuple[float, float]
) -> Row:
    """Build the finding: 1 step late is an `error` (end stamps), 2 or 3 a `warning`; `value` steps, `count` opens."""
    zero = NEAR_STEPS
    if peaks is None:
        evidence = (
            f"rows in the first {late} steps after an open: {opened[zero : zero + late].sum():.0f} of {edges[0]:.0f} opens, "
            f"in the next: {opened[zero + late]:.0f}; in the first {late} steps after a close: "
            f"{closed[zero : zero + late].sum():.0f} of {edges[1]:.0f} closes"
        )
    else:
        ratio = peaks[zero + 1] / max(peaks[zero], 1e-9)
        evidence = (
            f"the bar stamped one step after the open has {ratio:.0f} times the volume of the bar stamped at it, "
            f"over {edges[0]:.0f} opens"
        )
    sure = "high" if edges[0] >= 2 * FEWEST_OPENS else "moderate" if edges[0] > 1 else "low"
    is_end = late == 1
    return {
        **dict(zip(SERIES, named, strict=True)),
        "check_name": "stamp",
        "severity": "error" if is_end else "warning",
        "count": int(edges[0]),
        "value": float(late),
        "message": "Stamps mark the end of each bar, and are read as its start."
        if is_end
        else f"Rows come {late} x {named[2]} after the hours of the calendar: stamps are late, or the values are delayed.",
        "evidence": f"{evidence}; confidence {sure}",
        "remedy": "--stamp end"
        if is_end
        else any_of(shift_option(-late * Interval.parse(named[2]).seconds), ASK_WHAT_IS_MARKED),
    }


# ---------------------------------------------------------------------------- interval


def interval_findings(profile: pl.DataFrame) -> pl.DataFrame:
    """An `interval` error per intraday series whose stamps prove another step; none if all share one second."""
    series, minutes = facet_of_series(profile, "minute", 61, 1)
    _, days = facet_of_series(profile, "days", 1, 0)
    intervals = {text: Interval.parse(text) for text in series["interval"].unique()}
    alike, second = shares_on_steps(minutes), seconds_within(profile)
    rows: list[Row] = []
    for at, named in enumerate(series.iter_rows()):
        if second[at] >= 0:
            continue
        stated = intervals[named[2]]
        actual = actual_interval(
            minutes[at], float(days[at, 0]), stated, dict(zip(RUNGS, alike[at].tolist(), strict=True))
        )
        if actual is not None and actual != str(stated):
            rows.append(interval_finding(named, actual, minutes[at], float(days[at, 0])))
    return findings_of(rows)


def shares_on_steps(minutes: Floats) -> Floats:
    """Series x `RUNGS`: largest share of stamps on one remainder of the minute; column 0 only adds to the total."""
    total, steps = np.maximum(minutes.sum(1), 1), minutes[:, 1:]
    shares = [steps.reshape(len(steps), steps.shape[1] // rung, rung).sum(1).max(1) / total for rung in RUNGS]
    return np.stack(shares, axis=1)


def actual_interval(cells: Floats, days: float, stated: Interval, alike: dict[int, float]) -> str | None:
    """Step that >= 30 stamps prove: `1d`, `1s`, coarser, or finer and evenly filled; None: stated one may be right."""
    total = cells.sum()
    if total < FEWEST_STAMPS or not stated.is_intraday:
        return None
    minutes = stated.seconds / 60
    if days >= FEWEST_DAYS and total <= days * 1.05 and alike[60] >= ON_ONE_STEP and minutes < 60 * 12:
        return "1d"
    if minutes >= 1 and cells[0] >= OFF_STEP * total:
        return "1s"
    coarser = next((rung for rung in RUNGS if rung > minutes and alike[rung] >= ON_ONE_STEP), None)
    if coarser is not None:
        return str(Interval.of_seconds(coarser * 60))
    of_hour = min(int(minutes), 60)
    # Quarters and halves of an hour prove nothing: segments may open at them, and coarse bars begin with each segment.
    finer = next((rung for rung in (5, 1) if rung < of_hour and alike[rung] >= ON_ONE_STEP), None)
    if finer is not None and of_hour in RUNGS and alike[of_hour] <= EVENLY * finer / of_hour:
        return str(Interval.of_seconds(finer * 60))
    return None


def interval_finding(named: tuple[Any, ...], actual: str, cells: Floats, days: float) -> Row:
    """Build the `interval` error: actual interval as remedy, `count` the rows, evidence the minutes of the hour."""
    held = np.flatnonzero(cells[1:])
    shown = ", ".join(map(str, held[:SHOWN])) + (" ..." if len(held) > SHOWN else "")
    between = f"; {cells[0]:,.0f} between whole minutes" if cells[0] else ""
    return {
        **dict(zip(SERIES, named, strict=True)),
        "check_name": "interval",
        "severity": "error",
        "count": int(cells.sum()),
        "message": f"The interval is {actual}, not {named[2]}: that is the step on which its stamps repeat.",
        "evidence": f"{cells.sum():,.0f} rows on {days:,.0f} days, at minutes of the hour {shown}{between}; confidence high",
        "remedy": f"--interval {actual}",
    }


def facet_of_series(
    profile: pl.DataFrame, name: str, cells: int, zero: int, column: str = "rows"
) -> tuple[pl.DataFrame, Floats]:
    """Return (all series, sorted; array series x cells of `column` summed over seasons, cell 0 at column `zero`)."""
    # Every series has a day, and this facet is the smallest.
    series = profile.filter(pl.col("facet") == "days").select(list(SERIES)).unique().sort(list(SERIES))
    ours = profile.filter(pl.col("facet") == name)
    at = ours.join(series.with_row_index("at"), on=list(SERIES), how="left", maintain_order="left")
    flat = at["at"].cast(pl.Int64).to_numpy() * cells + at["cell"].to_numpy() + zero
    dense = np.bincount(flat, weights=at[column].to_numpy(), minlength=series.height * cells)
    return series, dense.astype(np.float64).reshape(-1, cells)
