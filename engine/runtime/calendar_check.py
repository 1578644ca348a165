"""Check calendars against data: load files, and rank the days on which their bars speak against the calendar."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from engine.calendars.auctions import AUCTION
from engine.calendars.files import parse_overrides
from engine.calendars.libraries import FIRST
from engine.calendars.providers import SessionCalendar, amended_calendar, calendar
from engine.checks.calendar_days import calendar_days, clock_habits, settled_overrides
from engine.errors import CalendarError, ParameterError
from engine.interval import Interval
from engine.runtime.load import load_files
from engine.runtime.options import LoadOptions, Progress
from engine.runtime.processor import Cohort, derive_session, find_cohorts
from engine.runtime.store_survey import survey_series
from engine.sources.inputs import Sources
from engine.store.snapshot import Snapshot

MINUTE_SECONDS = 60
WEEK = dt.timedelta(days=7)


@dataclass(frozen=True)
class CalendarCheck:
    """What bars of one calendar and interval say of it.

    Attributes
    ----------
    calendar, zone, interval : str
        Code, IANA zone, and interval of the bars.
    series, rows, dates : int
        How many series and bars were looked at, on how many dates of the venue's clock.
    days : DataFrame of `engine.checks.calendar_days.CALENDAR_DAYS`
        Days that speak against the calendar, the gravest first; each `override` was tried: with it, its date is not
        listed any more.
    habits : DataFrame of `engine.checks.calendar_days.CLOCK_HABITS`
        Stretches of the clock that do not fit on most days.
    """

    calendar: str
    zone: str
    interval: str
    series: int
    rows: int
    dates: int
    days: pl.DataFrame
    habits: pl.DataFrame


def check_calendars(
    sources: Sources, options: LoadOptions, progress: Progress | None = None
) -> tuple[CalendarCheck, ...]:
    """One check per calendar and interval of the bars of these sources, which are loaded into memory.

    Raises
    ------
    ParameterError
        The bars are daily or coarser, which say nothing of hours; or a symbol has no calendar.
    """
    session = load_files(sources, options, progress).session
    derive_session(session)
    snapshot = session.snapshot()
    parts: dict[tuple[str, str], list[pl.DataFrame]] = {}
    for cohort in find_cohorts(snapshot):
        if cohort.key.spec not in snapshot.axes:
            continue
        if not cohort.base.is_intraday:
            raise ParameterError(f"interval: received bars of {cohort.base}; valid: intraday bars, which have hours")
        key = cohort.key.spec.calendar, str(cohort.base)
        parts.setdefault(key, []).append(bars_of_cohort(snapshot, cohort))
    return tuple(
        check_calendar(calendar(code), interval, pl.concat(bars)) for (code, interval), bars in sorted(parts.items())
    )


def bars_of_cohort(snapshot: Snapshot, cohort: Cohort) -> pl.DataFrame:
    """Stored bars of a cohort's series, in and out of sessions, but synthetic ones: `series, ts, volume`."""
    rows = snapshot.rows_of(cohort.key, survey_series(snapshot, cohort)["series"].to_list())
    return rows.filter(pl.col("provenance") != "synthetic").select("series", "ts", "volume")


def check_calendar(found: SessionCalendar, interval: str, bars: pl.DataFrame) -> CalendarCheck:
    """Check of one calendar by bars `series, ts, volume` of one interval; overrides are proposed if they settle a date."""
    step = max(Interval.parse(interval).seconds // MINUTE_SECONDS, 1)
    low, high = bars.select(pl.col("ts").dt.date().min().alias("low"), pl.col("ts").dt.date().max().alias("high")).row(
        0
    )
    dates = (low or FIRST) - WEEK, (high or FIRST) + WEEK
    segments, auctions = split_auctions(found.segments_in_bounds(*dates))
    days = calendar_days(bars, segments, found.zone, step)
    proposed = days.filter(pl.col("override") != "").unique("date", keep="first", maintain_order=True)
    kept = [text for text in proposed["override"] if has_valid_sessions(found, text, dates)]
    still = days
    if kept:
        amended, _ = split_auctions(with_overrides(found, "\n".join(kept)).segments_in_bounds(*dates))
        still = calendar_days(bars, amended, found.zone, step)
    days = settled_overrides(days, kept, still)
    return CalendarCheck(
        calendar=found.code,
        zone=found.zone,
        interval=interval,
        series=bars["series"].n_unique(),
        rows=bars.height,
        dates=bars["ts"].dt.convert_time_zone(found.zone).dt.date().n_unique(),
        days=days,
        habits=clock_habits(without_prints_of(auctions, bars), segments, found.zone, step),
    )


def split_auctions(segments: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(segments without auctions, auctions): prints of an auction say nothing of the hours of a day."""
    is_auction = pl.col("segment") == AUCTION
    return segments.filter(~is_auction), segments.filter(is_auction)


def without_prints_of(auctions: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Bars that lie in none of these segments (sorted by open), in order."""
    if auctions.is_empty():
        return bars
    opens, closes, at = (
        column.cast(pl.Int64).to_numpy() for column in (auctions["segment_open"], auctions["segment_close"], bars["ts"])
    )
    last = np.searchsorted(opens, at, side="right") - 1
    return bars.filter(pl.Series((last < 0) | (at >= closes[np.maximum(last, 0)])))


def with_overrides(found: SessionCalendar, text: str) -> SessionCalendar:
    """Calendar with overrides of a TOML text on top."""
    return amended_calendar(found, parse_overrides(Path("proposed overrides"), text.encode()))


def has_valid_sessions(found: SessionCalendar, text: str, dates: tuple[dt.date, dt.date]) -> bool:
    """Whether a calendar stays valid with these overrides: none makes segments overlap or close before they open."""
    try:
        with_overrides(found, text).segments_in_bounds(*dates)
    except CalendarError:
        return False
    return True
