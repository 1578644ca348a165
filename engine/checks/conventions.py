"""Findings of a clock profile about how stamps were made: zone, change of clocks, start or end, interval, calendar.

Everything is reported, nothing applied. A right feed says nothing here: what cannot be told is left alone.

1. `clock_fit` says how well rows fit the sessions, moved back by each shift.
2. `clock_findings`: some shift fits far better; those of the venue's summer and winter together tell a constant shift
   from a change of clocks that was missed. Or another calendar fits the rows as they are (`other_calendars`), or none
   helps and rows come around the clock.
3. `stamp_check`: at the edges of sessions, or at full and half hours, every row comes a step or a few late; stamps repeat on
   another step than the interval that was stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.checks.check import SERIES, BarCheck, Frames, JudgeInput, register
from engine.checks.clock_fit import NO_SHIFT, SHIFTS, Fit, fit, leaves_room
from engine.checks.clock_profile import CELL_MINUTES, CLOCK_PROFILE, HOUR_US, utc_offsets
from engine.checks.co_moves import CO_MOVES, HALF_HOUR, lags_against_others
from engine.checks.findings import findings_of
from engine.checks.other_calendars import (
    ROW_DATES,
    ROW_DATES_MEASURED,
    ExpectedDays,
    calendar_scores,
    steps_of,
    try_calendars,
)
from engine.checks.remedies import any_of, shift_option
from engine.checks.round_times import ROUND_TIMES_MEASURED, round_as_stamped
from engine.checks.stamp_check import interval_findings, stamp_findings
from engine.checks.stamp_steps import stamp_steps_finding, steps_in_words
from engine.interval import Interval
from engine.quality.contiguous_runs import Floats
from engine.schema import empty

FEWEST_ROWS = 100
GAIN = 0.08  # of the share inside sessions, before a shift is believed
# And of the score: where rows of extended hours fill sessions anyway, it moves by half as much. 121 shifts of US shares, ES,
# GC and 6EH4, none of them used before: 0 to 0.05 name as many, 0.07 and 0.1 less; none of the 11 right series at any.
GAIN_OF_SCORE = 0.05
LEAKING = 0.005  # share outside sessions that is worth a shift when the shift ends it: an hour of a week of FX is 0.8 %
LEAK_ENDED = 0.1  # of it may be left
SURE = 0.98
FEWEST_STRAYS = 50
LEAST_INSIDE = 0.75  # after the shift
ROWS_LOST = 0.005  # rows may fit so much worse, where the volume fits better
LONG_ROWS_LOST = 0.01
FAR_HOURS = 6  # so far off, the calendar may be wrong instead
FITS = 0.95  # a score from which another calendar is named
MISFIT = 0.1  # by which its score is higher
ALL_GROUPS = slice(None)
SUSPECT = 0.9  # a score below which other calendars are tried
# Per quarter of an hour of a session's day (a row of 1h is one of each of 4): fewer leave many empty in any calendar.
ROWS_OF_QUARTER = 4
AS_GOOD, SHOWN_CODES = 0.01, 8
AS_LIKELY = 0.05  # so much worse than a shift that no fault of a zone explains, another calendar is the likelier cause
LEAST_FILLED = 0.85  # of the hours of a session, after the shift: else these are shorter hours, of another venue
POOR_FIT, BETTER_BY = 0.7, 0.2  # then the edges of sessions are not those of the rows, and tell nothing of stamps
ASK_FOR_ZONE = "ask the vendor for the zone of the stamps"
A_YEAR = (0, 365 * 24 * HOUR_US)  # of a zone's offsets
ROUND_THE_CLOCK, FEW_ROWS_INSIDE, LITTLE_VOLUME_INSIDE = 0.9, 0.45, 0.9

Row = dict[str, Any]
Named = tuple[str, str, str]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class OtherCalendars:
    """Calendars that series may belong to, to be tried where the one that was named does not fit.

    Attributes
    ----------
    exact : mapping of code to DataFrame of `schema.SEGMENTS`
        Their sessions over the dates of the rows; the more usual codes first. A code is looked up only if it is tried.
    usual : mapping of code to DataFrame of `schema.SEGMENTS` without `ordinal`
        Their usual hours, without holidays, by which the codes to try are chosen; empty: all are tried.
    dates : DataFrame of `other_calendars.ROW_DATES`, optional
        UTC dates that have rows; default all dates of the segments.
    """

    exact: Frames = field(default_factory=dict)
    usual: Frames = field(default_factory=dict)
    dates: pl.DataFrame | None = None


def conventions(
    profile: pl.DataFrame, segments: pl.DataFrame, zone: str, others: OtherCalendars | None = None
) -> pl.DataFrame:
    """Return `clock`, `calendar`, `stamp`, `interval` findings.

    Of series with either of the first two, `stamp` tells only stamps between whole minutes.

    Parameters
    ----------
    profile : DataFrame of `clock_profile.PROFILE`
        Of series of one calendar.
    segments : DataFrame of `schema.SEGMENTS`
        The calendar's, of the years of the profile.
    zone : str
        IANA zone of the venue.
    others : OtherCalendars, optional
        Calendars that are plausible too, over the same dates.

    Returns
    -------
    DataFrame of `findings.FINDINGS`
        Checks `clock`, `calendar`, `stamp` and `interval`; at most one of each per series. `value` of `clock` is the
        hours by which stamps are late, of `stamp` the steps.
    """
    found, doubtful = clock_findings(profile, segments, zone, others or OtherCalendars())
    return pl.concat([found, stamp_findings(profile, doubtful=doubtful), interval_findings(profile)])


def clock_findings(
    profile: pl.DataFrame, segments: pl.DataFrame, zone: str, others: OtherCalendars
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(`clock` per shifted intraday series, `calendar` where another fits or rows are all day; series without edges).

    Quote series follow the trades of their symbol: no finding if those fit, the same calendar if another fits those. The
    second frame (of `SERIES`) has the series with a finding, and those that their calendar fits poorly: stamps near the
    edges of its sessions tell nothing.
    """
    coarse = [text for text in profile["interval"].unique() if not Interval.parse(text).is_intraday]
    if coarse:
        profile = profile.filter(~pl.col("interval").is_in(coarse))
    fitted = fit(profile, segments, zone)
    moved, elsewhere = late_hours(fitted), is_round_the_clock(fitted)
    tried = try_other_calendars(profile, segments, fitted, (moved != 0) | elsewhere, others)
    misfits = tried.filter((pl.col("score") >= FITS) & (pl.col("score") >= pl.col("own") + MISFIT))
    codes_of: dict[Named, pl.DataFrame] = {
        (named[0], named[1], named[2]): rows for named, rows in misfits.group_by(list(SERIES), maintain_order=True)
    }
    named_at = dict(flagged_series(fitted, np.ones(len(moved), bool)))
    codes_for = {named: calendars_named(fitted, at, moved, zone, codes_of.get(named)) for named, at in named_at.items()}
    told = {
        (named[2], shifts_of(fitted, at, moved))
        for named, at in named_at.items()
        if codes_for[named] is None and (moved[at] != 0).any() and fills_sessions(fitted, at, moved)
    }
    rows: list[Row] = []
    for named, at in named_at.items():
        codes = codes_for[named]
        is_moved = bool((moved[at] != 0).any())
        shifted = is_moved and fills_sessions(fitted, at, moved)
        # One cause for all series: where others are told a shift, it goes before a calendar that fits no better.
        if codes is not None and shifted and (named[2], shifts_of(fitted, at, moved)) in told:
            codes = codes if codes["score"].max() > mean_best_score(fitted, at) else None  # type: ignore[operator]
        if codes is not None or (is_moved and not shifted) or (not is_moved and is_series_round_the_clock(fitted, at)):
            rows.append(calendar_finding(named, fitted, at, codes, zone))
        elif is_moved:
            rows.append(clock_finding(named, fitted, at, moved, zone))
    found = findings_of(quotes_after_trades(rows, fitted, named_at, codes_of, zone))
    poor = tried.filter((pl.col("own") < POOR_FIT) & (pl.col("score") >= pl.col("own") + BETTER_BY))
    return found, pl.concat([found.select(list(SERIES)), poor.select(list(SERIES))]).unique()


def try_other_calendars(
    profile: pl.DataFrame, segments: pl.DataFrame, fitted: Fit, suspect: Flags, others: OtherCalendars
) -> pl.DataFrame:
    """Scores (`other_calendars.SCORES`, best first, `rank` and `own`) of other calendars for suspect series of >= 100 rows.

    Suspect are also those with a score below 0.9, unless nearly all rows lie in sessions and are too few to fill them. Quotes
    of trades that fit are not tried: they would prove nothing (`quotes_after_trades`).
    """
    days = ExpectedDays.of(dates_of(segments) if others.dates is None else others.dates)
    own = calendar_scores(profile, {"": segments}, days)
    flagged = fitted.groups.filter(pl.Series(suspect)).select(list(SERIES)).unique()
    regular = (
        segments.filter("regular").group_by("session").agg((pl.col("segment_close") - pl.col("segment_open")).sum())
    )
    quarters = (regular["segment_close"].dt.total_minutes().median() or 0) / CELL_MINUTES  # type: ignore[operator]
    held = pl.col("rows") * pl.Series(steps_of(own["interval"]), dtype=pl.Int64)
    is_thin = (pl.col("inside") >= FITS) & (held < ROWS_OF_QUARTER * quarters)
    poor = own.filter((pl.col("score") < SUSPECT) & (pl.col("rows") >= FEWEST_ROWS) & ~is_thin).select(list(SERIES))
    fitting = own.filter((pl.col("price_type") == "last") & (pl.col("score") >= FITS))
    fitting = fitting.join(flagged, on=list(SERIES), how="anti").select("symbol", "interval")
    wanted = pl.concat([flagged, poor]).unique().join(fitting, on=["symbol", "interval"], how="anti")
    asked = profile.join(wanted, on=list(SERIES), how="semi") if wanted.height else profile.clear()
    named = (pl.col("score") + MISFIT).clip(lower_bound=FITS)
    doubted = pl.when(pl.col("score") < POOR_FIT).then(pl.col("score") + BETTER_BY)
    least = own.select(*SERIES, pl.min_horizontal(named, doubted).alias("least"))
    scored = try_calendars(asked, days, others.exact, others.usual, least)
    rank = pl.col("code").replace_strict({code: rank for rank, code in enumerate(others.exact)}, return_dtype=pl.Int64)
    scored = scored.with_columns(rank.alias("rank"))
    own = own.select(*SERIES, pl.col("score").alias("own"), pl.col("inside", "filled").name.prefix("own_"))
    return scored.join(own, on=list(SERIES), how="left", maintain_order="left")


def dates_of(segments: pl.DataFrame) -> pl.DataFrame:
    """Every date from the first to the last trade date of segments, of `other_calendars.ROW_DATES`, with a row each."""
    first, last = segments["session"].min(), segments["session"].max()
    if first is None or last is None:
        return empty(ROW_DATES)
    every = pl.date_range(first, last, "1d", eager=True)  # type: ignore[arg-type]
    return pl.DataFrame({"date": every}).with_columns(pl.lit(1, pl.Int64).alias("rows"))


def calendars_named(
    fitted: Fit, at: list[int], moved: Floats, zone: str, codes: pl.DataFrame | None
) -> pl.DataFrame | None:
    """Return the calendars that fit a series (scores of `try_other_calendars`), None where none does, or a shift is the likelier."""
    if codes is None or not (moved[at] != 0).any():
        return codes
    best, highest = mean_best_score(fitted, at), codes["score"].max()
    if is_fault_of_zone(fitted, at, moved, zone):
        return codes if highest > best + AS_LIKELY else None  # type: ignore[operator]
    is_likely = highest >= best - AS_LIKELY or not fills_sessions(fitted, at, moved)  # type: ignore[operator]
    return codes if is_likely else None


def shifts_of(fitted: Fit, at: list[int], moved: Floats) -> frozenset[tuple[int, float]]:
    """Offset from UTC and hours late of the shifted seasons of a series; none: it is not shifted."""
    return frozenset((int(fitted.offsets[g]), float(moved[g])) for g in at if moved[g])


def fills_sessions(fitted: Fit, at: list[int], moved: Floats) -> bool:
    """Whether the shifted seasons of a series fill >= 85 % of the hours of a session once they are moved back."""
    shifted = [g for g in at if moved[g]]
    best = [int(np.flatnonzero(round(moved[g] * 2) == SHIFTS)[0]) for g in shifted]
    return bool(np.min(fitted.filled[shifted, best]) >= LEAST_FILLED)


def is_fault_of_zone(fitted: Fit, at: list[int], moved: Floats, zone: str) -> bool:
    """Whether shifts are those of UTC read as the venue's time (any of its offsets), the reverse, or an hour of clocks."""
    hours = {fitted.offsets[g] / 60: moved[g] for g in at if fitted.rows[g] >= FEWEST_ROWS}
    wrong = {offset: shift for offset, shift in hours.items() if shift}
    is_one_season = len(wrong) < len(hours) and all(abs(shift) <= 1 for shift in wrong.values())
    is_utc = bool(wrong) and any(all(shift == sign * offset for offset, shift in wrong.items()) for sign in (1, -1))
    # One shift in all seasons: the zone beside, or a fixed offset that is the venue's in another season.
    of_venue = {float(offset) / 60 for offset in utc_offsets(zone, *A_YEAR)[1]}
    is_constant = len(set(wrong.values())) == 1
    shift = next(iter(wrong.values()), 0.0)
    return is_one_season or is_utc or (is_constant and (abs(shift) == 1 or shift in of_venue or -shift in of_venue))


def flagged_series(fitted: Fit, flagged: Flags) -> Iterator[tuple[Named, list[int]]]:
    """Yield (series key, row numbers of ALL its seasons) for each series with at least one flagged season."""
    groups = fitted.groups.with_row_index("at").with_columns(pl.Series("flagged", flagged))
    keyed = groups.group_by(list(SERIES), maintain_order=True).agg("at", pl.col("flagged").any())
    for *named, at in keyed.filter("flagged").drop("flagged").iter_rows():
        yield (named[0], named[1], named[2]), at


def late_hours(fitted: Fit) -> Floats:
    """Hours each season is late (< 0: early) at the best, smallest shift; 0 for a small gain, < 100 rows, a bad fit."""
    score, inside, rows_inside = fitted.score, fitted.inside, fitted.rows_inside
    near = score >= score.max(1, initial=0.0, keepdims=True) - 1e-6
    best = np.where(near, np.abs(SHIFTS), len(SHIFTS)).argmin(1)
    one = np.arange(len(best))
    # Few zones lie at half hours: the whole hour beside, where it fits as well and more of the rows lie in sessions (of rows
    # of an hour, which cover both, about as many).
    seconds = {text: Interval.parse(text).seconds for text in fitted.groups["interval"].unique()}
    is_long = fitted.groups["interval"].replace_strict(seconds, return_dtype=pl.Float64).to_numpy() >= HOUR_US / 1e6
    least = rows_inside - np.where(is_long, LONG_ROWS_LOST, 0.0)[:, None]
    for beside in (best - 1, best + 1):
        at = np.clip(beside, 0, len(SHIFTS) - 1)
        as_good = (score[one, at] >= score[one, best] - AS_LIKELY) & (rows_inside[one, at] >= least[one, best])
        best = np.where((SHIFTS[best] % 2 != 0) & as_good, at, best)
    gained = (score[one, best] - score[:, NO_SHIFT] >= GAIN_OF_SCORE) & (
        inside[one, best] - inside[:, NO_SHIFT] >= GAIN
    )
    leak, left = 1 - rows_inside[:, NO_SHIFT], 1 - rows_inside[one, best]
    ended = (leak >= LEAKING) & (left <= leak * LEAK_ENDED) & (leak * fitted.rows >= FEWEST_STRAYS)
    ended &= score[one, best] > score[:, NO_SHIFT]
    for g in np.flatnonzero(ended & ~gained):
        ended[g] = leaves_room(fitted.week[g], fitted.sessions[g], int(SHIFTS[best[g]]))
    better = gained | ended
    can_tell = (fitted.rows >= FEWEST_ROWS) & (inside[one, best] >= LEAST_INSIDE) & (left <= leak + ROWS_LOST)
    return np.where(better & can_tell, SHIFTS[best] / 2, 0.0)


def is_round_the_clock(fitted: Fit, at: Sequence[int] | slice = ALL_GROUPS) -> Flags:
    """Mask seasons of >= 100 rows, in 90 % of the day, <= 45 % of rows (trades: <= 90 % of volume too) in sessions."""
    quiet = ~fitted.weighed[at] | (fitted.inside[at, NO_SHIFT] <= LITTLE_VOLUME_INSIDE)
    even = (fitted.active[at] >= ROUND_THE_CLOCK) & (fitted.rows_inside[at, NO_SHIFT] <= FEW_ROWS_INSIDE)
    elsewhere: Flags = even & quiet & (fitted.rows[at] >= FEWEST_ROWS)
    return elsewhere


def is_series_round_the_clock(fitted: Fit, at: list[int]) -> bool:
    """Whether all seasons of a series with >= 100 rows are round the clock; False if no season has so many."""
    told = [g for g in at if fitted.rows[g] >= FEWEST_ROWS]
    return bool(told) and bool(is_round_the_clock(fitted, told).all())


def mean_best_score(fitted: Fit, at: list[int]) -> float:
    """Return the mean over a series' seasons of the highest score at any shift."""
    return float(np.mean([fitted.score[g].max() for g in at]))


def clock_finding(named: Named, fitted: Fit, at: list[int], moved: Floats, zone: str) -> Row:
    """Build the `clock` error: `value` is the hours late of the shifted season with most rows; cause and remedy."""
    shifts = {int(fitted.offsets[g]): float(moved[g]) for g in at}
    told = {offset: shift for offset, shift in shifts.items() if shift or is_surely_right(fitted, at, offset)}
    what, right_zone = diagnose_shift(told, zone)
    g = max(at, key=lambda one: (shifts[int(fitted.offsets[one])] != 0, fitted.rows[one]))
    shift = shifts[int(fitted.offsets[g])]
    best = int(np.flatnonzero(round(shift * 2) == SHIFTS)[0])
    rows = int(fitted.rows[at].sum())
    gain = fitted.score[g, best] - fitted.score[g, NO_SHIFT]
    sure = "high" if gain >= 2 * GAIN and rows >= 10 * FEWEST_ROWS else "moderate"
    seasons = "; ".join(
        f"UTC{offset / 60:+g}: {'right' if not s else f'{abs(s):g} h ' + ('late' if s > 0 else 'early')}"
        for offset, s in sorted(told.items())
    )
    what_of = "volume" if fitted.weighed[g] else "rows"
    return {
        **dict(zip(SERIES, named, strict=True)),
        "check_name": "clock",
        "severity": "error",
        "count": rows,
        "value": shift,
        "message": f"Stamps are {hours_in_words(shift)} {'late' if shift > 0 else 'early'}: {what}.",
        "evidence": (
            f"As stamped, {fitted.inside[g, NO_SHIFT]:.1%} of the {what_of} lies in sessions, moved by {-shift:+g} h "
            f"{fitted.inside[g, best]:.1%}; the busiest quarter of an hour begins at {busiest_local_time(fitted, g)} {zone} as "
            f"stamped; seasons: {seasons}; {rows:,} rows; confidence {sure}"
        ),
        "remedy": shift_remedy(told, right_zone),
    }


def shift_remedy(late_by_offset: dict[int, float], zone: str | None) -> str:
    """Alternatives to try: the zone as `--timezone`, one shift of all seasons as `--shift`, the vendor."""
    late = set(late_by_offset.values())
    options = [] if zone is None else [f"--timezone {zone}"]
    options += [shift_option(-3600 * late.pop())] if len(late) == 1 else []
    return any_of(*options, ASK_FOR_ZONE)


def is_surely_right(fitted: Fit, at: list[int], offset: int) -> bool:
    """Whether the season at this UTC offset has >= 100 rows, >= 98 % of them in sessions without a shift."""
    g = next(one for one in at if fitted.offsets[one] == offset)
    return int(fitted.rows[g]) >= FEWEST_ROWS and fitted.rows_inside[g, NO_SHIFT] >= SURE


def diagnose_shift(late_by_offset: dict[int, float], zone: str) -> tuple[str, str | None]:
    """(cause, zone that was meant, None: unknown) of hours late (one not 0) by UTC offset in minutes: clocks missed, UTC twice, ..."""
    hours = {offset / 60: shift for offset, shift in late_by_offset.items()}
    wrong = {offset: shift for offset, shift in hours.items() if shift}
    right = [offset for offset in hours if offset not in wrong]
    if right and wrong:
        return diagnose_missed_change(right[0], wrong, zone)
    if all(shift == -offset for offset, shift in wrong.items()):
        return "they were converted to UTC twice, or UTC was read as the venue's time", "UTC"
    if all(shift == offset for offset, shift in wrong.items()):
        return "the venue's own time was read as UTC", zone
    if len(set(wrong.values())) == 1:
        shift = next(iter(wrong.values()))
        far = "" if abs(shift) < FAR_HOURS else ", or these are another market's hours"
        cause = f"the zone they were read in is another than the one they were written in{far}"
        return cause, fixed_zone(shift) if shift == int(shift) else None
    return "the shift changes with the season", None


def diagnose_missed_change(
    right_offset: float, late_by_offset: dict[float, float], zone: str
) -> tuple[str, str | None]:
    """(cause, zone that was meant, None: unknown) where a season is right, by the first late one: fixed offset written or read; in hours."""
    offset, shift = next(iter(late_by_offset.items()))
    if shift == right_offset - offset:
        return (
            f"the file keeps UTC{right_offset:+g} all year, and was read in a zone that changes its clocks",
            fixed_zone(right_offset),
        )
    if shift == offset - right_offset:
        return (
            f"the venue changes its clocks, and the stamps were read as UTC{right_offset:+g} all year",
            zone,
        )
    return "they are right in one season only", None


def fixed_zone(hours: float) -> str:
    """Return the name of the zone with a fixed offset in hours, such as UTC+02."""
    return f"UTC{'-' if hours < 0 else '+'}{abs(hours):02g}"


def busiest_local_time(fitted: Fit, g: int) -> str:
    """Return the local time (HH:MM) at which the busiest quarter hour of row `g` of the fit begins."""
    minute = (int(fitted.busiest[g]) + int(fitted.offsets[g])) % (24 * 60)
    return f"{minute // 60:02}:{minute % 60:02}"


def calendar_finding(
    named: Named, fitted: Fit, at: list[int], codes: pl.DataFrame | None, zone: str, measured: str = ""
) -> Row:
    """Build the `calendar` error: `value` is the seasons' mean share of rows IN sessions; remedy: the codes that fit."""
    rows = int(fitted.rows[at].sum())
    share = float(np.mean(fitted.rows_inside[at, NO_SHIFT]))
    around = is_series_round_the_clock(fitted, at)
    what = "rows come around the clock" if around else "these are another market's hours"
    where = f"{share:.0%} of them lie in its sessions"
    fits, trial = "", ""
    remedy = "--calendar: the venue's own" if not around else "--calendar: 24/7, FX, or the venue's own"
    if codes is not None:
        best: Any = codes["score"].max()
        near = codes.filter(pl.col("score") >= pl.col("score").max() - AS_GOOD).sort("rank")
        as_good: list[str] = near["code"].head(SHOWN_CODES).to_list()
        where += f", and {codes['own_filled'][0]:.0%} of its hours have rows"
        fits = f"; {as_good[0]} fits them as they are ({best:.0%})"
        remedy = f"--calendar {as_good[0]}" + (f" ({', '.join(as_good[1:])} fit as well)" if as_good[1:] else "")
        shown = codes.head(SHOWN_CODES).select(
            pl.format("{} {}%", "code", (pl.col("score") * 100).round().cast(pl.Int64))
        )
        tried = ", ".join(shown.to_series().to_list())
        trial = f"; fit measured{measured}: {codes['own'][0]:.0%}, tried {tried}"
    return {
        **dict(zip(SERIES, named, strict=True)),
        "check_name": "calendar",
        "severity": "error",
        "count": rows,
        "value": share,
        "message": f"The calendar does not fit: {what}, {where}{fits}.",
        "evidence": (
            f"{rows:,} rows, in {float(np.mean(fitted.active[at])):.0%} of the quarters of an hour of a day; busiest at "
            f"{busiest_local_time(fitted, at[0])} {zone}{trial}; confidence {'moderate' if codes is None else 'high'}"
        ),
        "remedy": remedy,
    }


def quotes_after_trades(
    rows: list[Row], fitted: Fit, named_at: Mapping[Named, list[int]], codes_of: Mapping[Named, pl.DataFrame], zone: str
) -> list[Row]:
    """Findings with those of bid, ask, ... bars dropped if their symbol's trades have none, replaced if a calendar fits those."""
    # Quotes come at all hours of venues that trade at some: where trades fit, quotes prove nothing.
    trades = {(symbol, interval) for symbol, price_type, interval in named_at if price_type == "last"}
    of_trades = {(row["symbol"], row["interval"]): row for row in rows if row["price_type"] == "last"}
    named = {key for key, row in of_trades.items() if row["check_name"] == "calendar"}
    kept = [
        row
        for row in rows
        if row["price_type"] == "last"
        or (row["symbol"], row["interval"]) not in trades
        or (row["symbol"], row["interval"]) in of_trades.keys() - named
    ]
    follow = [
        calendar_finding(one, fitted, at, codes_of.get((one[0], "last", one[2])), zone, " on the trades")
        for one, at in named_at.items()
        if one[1] != "last" and (one[0], one[2]) in named
    ]
    return kept + follow


# ---------------------------------------------------------------------------- checks


def clock_and_calendar_findings(measured: JudgeInput) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return `clock_findings` of the profile and of shifts against other series; either check filters its own.

    `stamp` leaves out the series of the second frame. What the other series show goes before another calendar.
    """
    others = OtherCalendars(measured.others, measured.usual_hours, measured.frames["row_dates"])
    profile = measured.frames["clock_profile"]
    found, doubtful = clock_findings(profile, measured.segments, measured.zone, others)
    far = measured.once(lags_of).filter(pl.col("lag").abs() >= HALF_HOUR)
    told = found.filter(pl.col("check_name") == "clock")
    far = far.join(told, on=list(SERIES), how="anti", maintain_order="left")
    offsets = profile.group_by(list(SERIES)).agg(pl.col("offset").unique().sort())
    rows = [
        lag_finding(row, measured.zone)
        for row in far.join(offsets, on=list(SERIES), how="left", maintain_order="left").iter_rows(named=True)
    ]
    found = pl.concat([found.join(far, on=list(SERIES), how="anti", maintain_order="left"), findings_of(rows)])
    return found, pl.concat([doubtful, far.select(list(SERIES))]).unique()


def lags_of(measured: JudgeInput) -> pl.DataFrame:
    """Return `lags_against_others` of all measurements, for the checks that speak of the same shifts."""
    return lags_against_others(measured.frames["large_moves"])


def hours_in_words(hours: float) -> str:
    """A number of hours without its sign: `1 hour`, `5.5 hours`."""
    return f"{abs(hours):g} hour{'' if abs(hours) == 1 else 's'}"


def lag_finding(row: Row, zone: str) -> Row:
    """Build the `clock` error of a series that moves hours after, or before, the others; `value` is the hours late."""
    hours = row["lag"] / 3600
    what, remedy = diagnose_shift(dict.fromkeys(row["offset"], hours), zone)
    size = hours_in_words(hours)
    return {
        **{name: row[name] for name in SERIES},
        "check_name": "clock",
        "severity": "error",
        "count": row["moves"],
        "value": hours,
        "message": f"Stamps are {size} {'late' if hours > 0 else 'early'}: {what}.",
        "evidence": lag_evidence(row, size),
        "remedy": remedy,
    }


def step_lag_finding(row: Row) -> Row:
    """Build the `stamp` finding of a series that moves 1 to 3 steps after, or before, the others; `count` is the moves."""
    steps = round(row["lag"] / Interval.parse(row["interval"]).seconds)
    return stamp_steps_finding(
        row,
        steps,
        shown_by="against the other series",
        count=row["moves"],
        evidence=lag_evidence(row, steps_in_words(steps)),
        remedy="ask the vendor what a stamp marks, and move the stamps before they are read",
    )


def lag_evidence(row: Row, by: str) -> str:
    """Return the evidence text of a row of `co_moves.LAGS`."""
    side = "after" if row["lag"] > 0 else "before"
    return (
        f"{row['agree']:,} of its {row['moves']:,} largest moves come {by} {side} the same move of at least two other "
        f"symbols; on average {row['others']:.1f} symbols move with it then, {row['others_as_stamped']:.1f} as stamped; "
        "confidence high"
    )


@register
class ClockCheck(BarCheck):
    """Stamps of a series are hours late or early, or a change of clocks was missed."""

    name, severities = "clock", ("error",)
    reads, finds_misplaced = (CLOCK_PROFILE, ROW_DATES_MEASURED, CO_MOVES), True

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return the `clock` findings: series whose rows fit the sessions far better when shifted by hours."""
        return measured.once(clock_and_calendar_findings)[0].filter(pl.col("check_name") == self.name)


@register
class CalendarCheck(BarCheck):
    """The calendar of a series is another venue's."""

    name, severities = "calendar", ("error",)
    reads, finds_misplaced = (CLOCK_PROFILE, ROW_DATES_MEASURED, CO_MOVES), True

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return the `calendar` findings: another calendar fits the rows as they are and this one does not, or all-day rows."""
        return measured.once(clock_and_calendar_findings)[0].filter(pl.col("check_name") == self.name)


@register
class StampCheck(BarCheck):
    """Stamps mark the ends of bars, or rows come a few steps late."""

    name, severities = "stamp", ("error", "warning")
    reads = (CLOCK_PROFILE, ROW_DATES_MEASURED, CO_MOVES, ROUND_TIMES_MEASURED)
    finds_misplaced = moves_by_steps = True

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return `stamp` findings: between whole minutes; where the calendar fits, 1 to 3 steps off, by edges or other series."""
        _, doubtful = measured.once(clock_and_calendar_findings)
        sums = measured.frames["round_times"]
        found = stamp_findings(measured.frames["clock_profile"], sums, doubtful)
        near = measured.once(lags_of).filter(pl.col("lag").abs() < HALF_HOUR)
        near = near.join(found, on=list(SERIES), how="anti", maintain_order="left")
        near = near.join(round_as_stamped(sums), on=list(SERIES), how="anti", maintain_order="left")
        return pl.concat([found, findings_of([step_lag_finding(row) for row in near.iter_rows(named=True)])])


@register
class IntervalCheck(BarCheck):
    """The interval of a series is another one than was stated."""

    name, severities = "interval", ("error",)
    reads, finds_misplaced = (CLOCK_PROFILE,), True

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return `interval` findings: intraday series whose stamps prove another step than the stated interval."""
        return interval_findings(measured.frames["clock_profile"])
