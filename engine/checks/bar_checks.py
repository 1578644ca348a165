"""Run the registered checks: `measure` a part of the bars, `combine` the parts, `judge` what all of them show.

1. `measure` makes one pass over the rows of a part; the frames it returns do not grow with the rows.
2. `combine` puts parts together, in any order: parts by date, by symbol, or both.
3. `judge` turns the sums into findings. What a wrong stamp explains is not reported again by the checks that need places.

`check_bars` is all three, for rows that are at hand as a whole. `check_tables` runs the checks of other inputs. Pure: frame in, frame out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from engine.checks.check import (
    QUOTES,
    SERIES,
    BarCheck,
    JudgeInput,
    MeasureInput,
    TableCheck,
    measurements,
    registered,
)
from engine.checks.findings import FINDINGS, findings, merge_findings
from engine.grid import SessionGrid
from engine.schema import empty

KEY = list(SERIES)


def measure(
    rows: pl.DataFrame, series: pl.DataFrame, grid: SessionGrid, zone: str, quotes: pl.DataFrame | None = None
) -> dict[str, pl.DataFrame]:
    """Run all shared and check-owned measurements on rows sorted by (series, ts), of one interval; frames by name.

    Parameters
    ----------
    rows : DataFrame
        `series` (Int32), `ts, session, ordinal, slot, open, high, low, close` and, where there are such, `volume, vwap`;
        sorted by (series, ts), all rows, those outside sessions and off the grid included. Places are those of
        `SessionGrid.place`.
    series : DataFrame
        `series, symbol, price_type, interval` of every number in `rows`.
    grid : SessionGrid
    zone : str
        IANA zone of the venue.
    quotes : DataFrame of `check.QUOTES`, optional
        Quote ticks of the same symbols.

    Returns
    -------
    dict of name to DataFrame
        Flat frames, to be stored as files or sent to another process.
    """
    part = MeasureInput(rows, series, grid, zone, empty(QUOTES) if quotes is None else quotes)
    frames: dict[str, pl.DataFrame] = {}
    for shared in measurements():
        frames |= shared.measure(part)
    return frames | {check.name: check.measure(part) for check in measuring_checks()}


def combine(parts: Sequence[Mapping[str, pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    """Combine each measurement over all parts (none: empty frames); a (series, session) is in one part only."""
    frames: dict[str, pl.DataFrame] = {}
    for shared in measurements():
        frames |= shared.combine({name: [part[name] for part in parts] for name in shared.schemas})
    return frames | {check.name: check.combine([part[check.name] for part in parts]) for check in measuring_checks()}


def judge(
    frames: Mapping[str, pl.DataFrame],
    segments: pl.DataFrame,
    zone: str,
    calendar: str,
    others: Mapping[str, pl.DataFrame] | None = None,
    coarse: pl.DataFrame | None = None,
    usual_hours: Mapping[str, pl.DataFrame] | None = None,
) -> pl.DataFrame:
    """Findings, errors first: for misplaced series none that need places; all but those of misplacing capped at `most`.

    Parameters
    ----------
    frames : mapping of name to DataFrame
        From `combine`.
    segments : DataFrame of `schema.SEGMENTS`
        The calendar's, over the dates of the rows.
    zone : str
        IANA zone of the venue.
    calendar : str
        Its code, for the text.
    others : mapping of code to DataFrame of `schema.SEGMENTS`, optional
        Calendars that are plausible too; looked up only if they are tried.
    coarse : DataFrame, optional
        Coarser source bars, as `truncated.truncated` takes them.
    usual_hours : mapping of code to DataFrame of `schema.SEGMENTS` without `ordinal`, optional
        The usual hours of `others`, by which those to try are chosen.

    Returns
    -------
    DataFrame of `findings.FINDINGS`
    """
    # Not by `or`, which asks for their length and so builds them.
    others = {} if others is None else others
    usual_hours = {} if usual_hours is None else usual_hours
    measured = JudgeInput(frames, segments, zone, calendar, others, usual_hours, coarse)
    of_places = judge_places(measured)
    misplaced = misplaced_series(of_places)
    elsewhere = misplaced_series(of_places, by_hours=True)
    measured = replace(measured, misplaced=misplaced)
    found = [of_places]
    for check in registered(BarCheck):
        if not check.finds_misplaced:
            own = check.checked(check.judge(measured))
            if check.needs_places or check.needs_hours:
                left_out = misplaced if check.needs_places else elsewhere
                own = own.join(left_out, on=KEY, how="anti", maintain_order="left")
            found.append(capped(own, check.most))
    return merge_findings(found)


def misplaced_series(found: pl.DataFrame, *, by_hours: bool = False) -> pl.DataFrame:
    """Return `check.SERIES` of the series that a check of misplacing (`finds_misplaced`) names among findings.

    `by_hours`: without those whose stamps are some steps off, which leaves rows at their time of day.
    """
    checks = [check for check in registered(BarCheck) if check.finds_misplaced]
    names = [check.name for check in checks if not (by_hours and check.moves_by_steps)]
    return found.filter(pl.col("check_name").is_in(names)).select(KEY).unique()


def judge_places(measured: JudgeInput) -> pl.DataFrame:
    """Findings of the checks that find misplaced series: those whose stamps, interval or calendar are wrong."""
    checks = [check for check in registered(BarCheck) if check.finds_misplaced]
    return pl.concat([empty(FINDINGS), *(check.checked(check.judge(measured)) for check in checks)])


def check_bars(
    rows: pl.DataFrame,
    series: pl.DataFrame,
    grid: SessionGrid,
    zone: str,
    others: Mapping[str, pl.DataFrame] | None = None,
    coarse: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Measure all rows as one part, combine and judge; return findings for the calendar and segments of the grid."""
    whole = combine([measure(rows, series, grid, zone)])
    return judge(whole, grid.segments, zone, grid.spec.calendar, others, coarse)


def check_tables(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Run each table check whose table is in `tables`; return findings in check order, capped per check and series."""
    checks = [check for check in registered(TableCheck) if check.table in tables]
    found = [capped(check.checked(check.judge(tables[check.table])), check.most) for check in checks]
    return pl.concat([empty(FINDINGS), *found])


def capped(found: pl.DataFrame, most: int | None) -> pl.DataFrame:
    """Keep the first `most` findings per check and series; append one whose `count` sums the rest's; None: all."""
    key = ["check_name", *KEY]
    if most is None or found.height <= most:
        return found
    rank = pl.int_range(pl.len()).over(key)
    more = (
        found.filter(rank >= most)
        .group_by(key, maintain_order=True)
        .agg(
            pl.col("severity", "session", "start_ts", "source").first(), pl.col("count").sum(), pl.len().alias("others")
        )
    )
    message = pl.format("{} more findings like the {} before.", "others", pl.lit(most)).alias("message")
    first = pl.format("the first of them of {}", pl.col("session").cast(pl.String).fill_null("no session"))
    rest = findings(more.with_columns(message, first.alias("evidence")).drop("others"))
    return pl.concat([found.filter(rank < most), rest])


def measuring_checks() -> list[BarCheck]:
    """Return the registered bar checks that have a `schema`, that is a measurement of their own."""
    return [check for check in registered(BarCheck) if check.schema is not None]
