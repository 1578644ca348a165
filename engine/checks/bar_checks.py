"""All checks of bars in two calls: `measure` looks at one part of a lake, `judge` says what all parts show.

1. `measure` makes one pass over the rows of a part, and keeps frames whose size does not grow with the rows.
2. `summed` puts parts together, in any order: parts by date, by symbol, or both.
3. `judge` turns the sums into findings. What a wrong stamp explains is not said again by the checks that build on it.

`check_bars` is all three, for rows that are at hand as a whole. Pure: frame in, frame out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import polars as pl

from engine.checks.calendar_check import (
    absent_sessions,
    absent_slots,
    presence,
    strays,
    summed_presence,
    summed_strays,
    unscheduled,
)
from engine.checks.clock_profile import SERIES, clock_profile
from engine.checks.clock_profile import summed as summed_profiles
from engine.checks.conventions import conventions
from engine.checks.findings import findings, together
from engine.checks.sanity import Sanity, bar_sanity, summed_sanity
from engine.checks.sanity_findings import sanity_findings
from engine.checks.spreads import bar_spreads, crossed, summed_spreads
from engine.checks.truncated import CUTS, cut_sessions, truncated
from engine.grid import SessionGrid
from engine.interval import Interval
from engine.quality.contiguous_runs import SlotRuns
from engine.schema import empty

KEY = list(SERIES)
# What is wrong with the place of rows is wrong in all that is read from their places.
OF_PLACES = ("unscheduled", "truncated")
MOSTLY = 0.5
MOST = 20  # findings per check and series


@dataclass(frozen=True)
class Measured:
    """What the checks keep of bars of one calendar, zone and interval.

    Attributes
    ----------
    profile : DataFrame of `clock_profile.PROFILE`
    strays : DataFrame of `calendar_check.STRAYS`
    presence : DataFrame of `calendar_check.PRESENCE`
    sanity : Sanity
    cuts : DataFrame of `truncated.CUTS`
    spreads : DataFrame of `spreads.SPREADS`
    """

    profile: pl.DataFrame
    strays: pl.DataFrame
    presence: pl.DataFrame
    sanity: Sanity
    cuts: pl.DataFrame
    spreads: pl.DataFrame

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        """Everything as flat frames by name, to be kept as files or sent to another process."""
        whole = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "sanity"}
        return whole | {one.name: getattr(self.sanity, one.name) for one in fields(self.sanity)}

    @classmethod
    def of(cls, frames: Mapping[str, pl.DataFrame]) -> Measured:
        """What `frames` were made of."""
        own = {one.name: frames[one.name] for one in fields(cls) if one.name != "sanity"}
        return cls(sanity=Sanity(**{one.name: frames[one.name] for one in fields(Sanity)}), **own)


def measure(rows: pl.DataFrame, series: pl.DataFrame, grid: SessionGrid, zone: str) -> Measured:
    """Look at the bars of one part: one calendar, one interval.

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

    Returns
    -------
    Measured
    """
    runs = SlotRuns.of(rows)
    return Measured(
        clock_profile(rows, series, grid, zone),
        strays(rows, series, grid, zone),
        presence(runs, grid, zone),
        bar_sanity(rows, series, grid, zone),
        cut_sessions(runs, series, grid),
        bar_spreads(rows, series),
    )


def summed(parts: Sequence[Measured]) -> Measured:
    """What several parts show together; no (series, session) may be in two of them."""
    return Measured(
        summed_profiles([part.profile for part in parts]),
        summed_strays([part.strays for part in parts]),
        summed_presence([part.presence for part in parts]),
        summed_sanity([part.sanity for part in parts]),
        pl.concat([empty(CUTS), *(part.cuts for part in parts)]),
        summed_spreads([part.spreads for part in parts]),
    )


def judge(
    measured: Measured,
    segments: pl.DataFrame,
    zone: str,
    calendar: str,
    others: Mapping[str, pl.DataFrame] | None = None,
    coarse: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Say what all parts show.

    Parameters
    ----------
    measured : Measured
        Summed.
    segments : DataFrame of `schema.SEGMENTS`
        The calendar's, over the dates of the rows.
    zone : str
        IANA zone of the venue.
    calendar : str
        Its code, for the text.
    others : mapping of code to DataFrame of `schema.SEGMENTS`, optional
        Calendars that are plausible too.
    coarse : DataFrame, optional
        Coarser source bars, as `truncated.truncated` takes them.

    Returns
    -------
    DataFrame of `findings.FINDINGS`
        Errors first.
    """
    placed = check_profile(measured.profile, segments, zone, others)
    wrong = placed.select(KEY).unique()
    rest = [
        unscheduled(measured.strays, calendar),
        truncated(measured.cuts, lifetimes(measured.sanity), coarse),
        *_of_calendar(measured, segments, calendar, wrong),
        sanity_findings(measured.sanity, measured.presence),
        crossed(measured.spreads),
    ]
    told = [frame.join(wrong, on=KEY, how="anti", maintain_order="left") if _is_of_places(frame) else frame for frame in rest]  # fmt: skip
    return together([placed, *map(capped, told)])


def capped(found: pl.DataFrame, most: int = MOST) -> pl.DataFrame:
    """Findings with at most so many per check and series, and one more that counts the others.

    Parameters
    ----------
    found : DataFrame of `findings.FINDINGS`
        The first ones of each check and series are kept.
    most : int
        How many.
    """
    key = ["check", *KEY]
    if found.height <= most:
        return found
    rank = pl.int_range(pl.len()).over(key)
    more = found.filter(rank >= most).group_by(key, maintain_order=True).agg(
        pl.col("severity", "session", "start", "source").first(), pl.col("count").sum(), pl.len().alias("others")
    )  # fmt: skip
    said = pl.format("{} more findings like the {} before.", "others", pl.lit(most)).alias("message")
    evidence = pl.format("the first of them of {}", pl.col("session").cast(pl.String).fill_null("no session")).alias(
        "evidence"
    )
    return pl.concat([found.filter(rank < most), findings(more.with_columns(said, evidence).drop("others"))])


def check_profile(
    profile: pl.DataFrame, segments: pl.DataFrame, zone: str, others: Mapping[str, pl.DataFrame] | None = None
) -> pl.DataFrame:
    """What a summed clock profile says about stamps, interval and calendar: `conventions.conventions`."""
    return conventions(profile, segments, zone, others)


def check_bars(
    rows: pl.DataFrame,
    series: pl.DataFrame,
    grid: SessionGrid,
    zone: str,
    others: Mapping[str, pl.DataFrame] | None = None,
    coarse: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Measure and judge rows that are at hand as a whole; parameters as of `measure` and `judge`."""
    whole = summed([measure(rows, series, grid, zone)])
    return judge(whole, grid.segments, zone, grid.spec.calendar, others, coarse)


def lifetimes(kept: Sanity) -> pl.DataFrame:
    """First and last session with a row of each series: `symbol, price_type, interval, first, last`."""
    return kept.ends.group_by(KEY).agg(pl.col("session").min().alias("first"), pl.col("session").max().alias("last"))


def _is_of_places(frame: pl.DataFrame) -> bool:
    return frame.height > 0 and frame["check"][0] in OF_PLACES


def _of_calendar(measured: Measured, segments: pl.DataFrame, calendar: str, wrong: pl.DataFrame) -> list[pl.DataFrame]:
    series = measured.profile.select(KEY).unique()
    if wrong.height >= MOSTLY * series.height and wrong.height:
        return []
    intervals = [Interval.parse(text) for text in series["interval"].unique()]
    minutes = [one.seconds // 60 for one in intervals if one.is_intraday]
    slots: Callable[[int], pl.DataFrame] = lambda m: absent_slots(measured.presence, calendar, m)  # noqa: E731
    return [absent_sessions(measured.presence, segments, calendar), *(slots(m) for m in minutes if m > 0)]
