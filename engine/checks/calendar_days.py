"""Days on which bars speak against a calendar, ranked. Pure: frame in, frame out.

Bars and sessions are laid on one axis: dates and minutes of the venue's clock (`ClockMinutes`). Then, per date:

1. Expected minutes that are empty for all series, though they are usually traded in the weeks around: a whole day
   (`no_bars`), the end or the begin of the day (`early_close`, `late_open`), or a stretch between (`break`).
2. Bars outside sessions, other than those that come on most days: on a day without a session (`open_day`), before the
   open, after the close, in a break. Bars in extended hours count as such where they are as many as in regular hours.

The score of a disagreement is in minutes: those that lack a bar, each weighted by how usual it is, times the confidence
that several series give; or those that have one, each weighted by the share of series that have it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.checks.clock_profile import utc_offsets
from engine.keys import Flags, Ints
from engine.schema import Schema

CALENDAR_DAYS: Schema = {
    "date": pl.Date(),
    "weekday": pl.String(),
    "kind": pl.String(),
    "from_time": pl.String(),
    "to_time": pl.String(),
    "minutes": pl.Int32(),
    "series": pl.Int32(),
    "of_series": pl.Int32(),
    "calendar_hours": pl.String(),
    "score": pl.Float64(),
    "override": pl.String(),
}
CLOCK_HABITS: Schema = {
    "kind": pl.String(),
    "from_time": pl.String(),
    "to_time": pl.String(),
    "days": pl.Int32(),
    "of_days": pl.Int32(),
}

MINUTE_US, DAY_MINUTES = 60_000_000, 1440
WINDOW = 42  # days on each side that say what is usual
LEAST_DAYS = 3  # of the window
ALMOST_CERTAIN, STRAYS, DOUBT_BITS = 0.99, 0.1, 6
LEAST_MINUTES, LEAST_BREAK = 3, 15
HABIT, HABIT_DAYS = 0.5, 5
RARELY = 0.05
AS_IN_REGULAR_HOURS, VOLUME_SHARE = 0.8, 0.25
NEAR_THE_END = 10  # slots
AROUND = 15  # minutes
TWICE = 2.0  # the usual share is no disagreement
LEAST_SCORE = 3.0
DENSE = 0.5  # of the minutes of a span, for an override that has the span traded
ROUND_TO = 5  # minutes, of proposed hours
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClockMinutes:
    """Bars and sessions by date (rows, from `first` on) and minute of the venue's day (columns).

    Attributes
    ----------
    first : date
        Of the first row.
    expected, allowed : array of bool
        Minutes in regular segments; in any segment.
    present, begun : array of int
        Series with a bar that covers the minute; with one that begins in it.
    volume : array of float
        Of the bars that begin in it; 0 without volumes.
    covered : array of bool
        Minutes between the first and the last bar of any series: of others the data say nothing.
    active, alive : array of int
        Per date: series with a bar on it; between whose first and last bar it lies.
    step : int
        Length of a bar in minutes.
    """

    first: dt.date
    expected: Flags
    allowed: Flags
    present: Ints
    begun: Ints
    volume: Floats
    covered: Flags
    active: Ints
    alive: Ints
    step: int

    def date(self, row: int) -> dt.date:
        """Date of a row."""
        return self.first + dt.timedelta(days=row)


@dataclass(frozen=True)
class Disagreement:
    """One disagreement of a date, before it becomes a row of `CALENDAR_DAYS`; `end` is exclusive."""

    row: int
    kind: str
    start: int
    end: int
    minutes: int
    series: int
    score: float


def calendar_days(bars: pl.DataFrame, segments: pl.DataFrame, zone: str, step: int) -> pl.DataFrame:
    """Disagreements of bars with sessions, one row per date and kind, the highest score first.

    Parameters
    ----------
    bars : DataFrame
        `series` (Int32), `ts` (start, UTC) and, where there is such, `volume`; rows outside sessions included.
    segments : DataFrame of `schema.SEGMENTS`
        The calendar's, from a week before the first bar to a week after the last one.
    zone : str
        IANA zone of the venue.
    step : int
        Length of a bar in minutes, at least 1.

    Returns
    -------
    DataFrame of `CALENDAR_DAYS`
        `from_time` and `to_time` (exclusive) on the venue's clock; `series` of `of_series` support it; `override` is TOML that
        would make the calendar agree, empty where sessions run over midnight.
    """
    if bars.is_empty():
        return pl.DataFrame(schema=CALENDAR_DAYS)
    axis = clock_minutes(bars, segments, zone, step)
    found = [*empty_expected(axis), *bars_outside(axis)]
    daytime = sessions_within_a_date(segments, zone)
    rows = [disagreement_row(axis, one, daytime, segments, zone) for one in found]
    return pl.DataFrame(rows, schema=CALENDAR_DAYS, orient="row").sort("score", "date", descending=[True, False])


def clock_habits(bars: pl.DataFrame, segments: pl.DataFrame, zone: str, step: int) -> pl.DataFrame:
    """Stretches of the clock that are outside sessions with bars on most days, or expected and all but never traded.

    Parameters as `calendar_days`. Such a stretch on all days means other hours, another zone or another calendar; or
    prints of auctions.

    Returns
    -------
    DataFrame of `CLOCK_HABITS`
        `kind` is `outside` or `never_traded`; `days` of `of_days` dates show it.
    """
    if bars.is_empty():
        return pl.DataFrame(schema=CLOCK_HABITS)
    axis = clock_minutes(bars, segments, zone, step)
    traded = axis.active > 0
    outside = ((axis.begun > 0) & ~axis.allowed)[traded]
    due = axis.expected[traded]
    held = ((axis.present > 0) & axis.expected)[traded].sum(axis=0)
    never = (due.sum(axis=0) >= HABIT_DAYS) & (held <= RARELY * due.sum(axis=0))
    rows = [
        *habit_rows("outside", habitual(axis), outside.sum(axis=0), np.full(DAY_MINUTES, int(traded.sum()))),
        *habit_rows("never_traded", never, due.sum(axis=0) - held, due.sum(axis=0)),
    ]
    return pl.DataFrame(rows, schema=CLOCK_HABITS, orient="row")


# ---------------------------------------------------------------------------- the axis


def clock_minutes(bars: pl.DataFrame, segments: pl.DataFrame, zone: str, step: int) -> ClockMinutes:
    """Bars and segments on the clock of a zone; minutes that occur twice (clocks set back) are one."""
    starts = bars["ts"].cast(pl.Int64).to_numpy() // MINUTE_US
    opens, closes = (
        segments[name].cast(pl.Int64).to_numpy() // MINUTE_US for name in ("segment_open", "segment_close")
    )
    to_local = local_minutes(zone, min(starts.min(), *opens[:1]), max(starts.max() + step, *closes[-1:]))
    local = to_local(starts)
    first, last = int(local.min() // DAY_MINUTES), int(local.max() // DAY_MINUTES)
    days = last - first + 1

    def cells(of: Ints) -> Ints:
        """Numbers of cells of local minutes, those of other dates left out."""
        at = of - first * DAY_MINUTES
        return at[(at >= 0) & (at < days * DAY_MINUTES)]

    def flags(chosen: Flags) -> Flags:
        made = np.zeros(days * DAY_MINUTES, dtype=bool)
        made[cells(to_local(expand(opens[chosen], closes[chosen])))] = True
        return made.reshape(days, DAY_MINUTES)

    numbers = bars["series"].to_numpy()
    begun = series_per_cell(cells(local), numbers, days)
    filled = to_local(expand(starts, starts + step)) if step > 1 else local
    inside = (filled - first * DAY_MINUTES) < days * DAY_MINUTES
    owners = np.repeat(numbers, step)[inside] if step > 1 else numbers
    volume: Floats = np.zeros(days * DAY_MINUTES)
    if "volume" in bars.columns:
        np.add.at(volume, cells(local), bars["volume"].cast(pl.Float64).fill_null(0).to_numpy())
    active, alive = series_per_date(local // DAY_MINUTES - first, numbers, days)
    return ClockMinutes(
        first=dt.date(1970, 1, 1) + dt.timedelta(days=first),
        expected=flags(segments["regular"].to_numpy()),
        allowed=flags(np.ones(segments.height, dtype=bool)),
        present=series_per_cell(cells(filled[inside]), owners, days) if step > 1 else begun,
        begun=begun,
        volume=volume.reshape(days, DAY_MINUTES),
        covered=(series_alive(cells(local), numbers, days * DAY_MINUTES) > 0).reshape(days, DAY_MINUTES),
        active=active,
        alive=alive,
        step=step,
    )


def local_minutes(zone: str, low: int, high: int) -> Any:  # noqa: ANN401 - a function of arrays
    """Function from minutes since 1970 in UTC to those on the clock of a zone, for `low` to `high`."""
    moves, offsets = utc_offsets(zone, int(low) * MINUTE_US, int(high) * MINUTE_US)

    def to_local(at: Ints) -> Ints:
        return at + offsets[np.maximum(np.searchsorted(moves, at * MINUTE_US, side="right") - 1, 0)]

    return to_local


def expand(opens: Ints, closes: Ints) -> Ints:
    """Every minute of the spans [open, close)."""
    sizes = closes - opens
    return np.repeat(opens - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())


def series_per_cell(cells: Ints, series: Ints, days: int) -> Ints:
    """Number of different series per date and minute."""
    keys = pl.DataFrame({"cell": cells.astype(np.int32), "series": series.astype(np.int32)})
    counted = keys.unique().group_by("cell").len()
    made: Ints = np.zeros(days * DAY_MINUTES, dtype=np.int64)
    made[counted["cell"].to_numpy()] = counted["len"].to_numpy()
    return made.reshape(days, DAY_MINUTES)


def series_per_date(dates: Ints, series: Ints, days: int) -> tuple[Ints, Ints]:
    """(series with a row on each date, series between whose first and last row it lies)."""
    frame = pl.DataFrame({"date": dates, "series": series}).unique()
    return np.bincount(frame["date"].to_numpy(), minlength=days), series_alive(dates, series, days)


def series_alive(places: Ints, series: Ints, size: int) -> Ints:
    """Number of series between whose first and last place each of `size` places lies, both included."""
    lives = pl.DataFrame({"place": places, "series": series}).group_by("series")
    ends = lives.agg(pl.col("place").min().alias("from"), pl.col("place").max().alias("to"))
    steps = np.bincount(ends["from"].to_numpy(), minlength=size + 1)
    alive: Ints = np.cumsum(steps - np.bincount(ends["to"].to_numpy() + 1, minlength=size + 1))[:size]
    return alive


def usual_share(hits: Flags, due: Flags) -> Floats:
    """Share of the due minutes that are hit, at the same time of other dates: of the weeks around, else of all dates.

    Where neither has enough dates on which the minute is due, the mean of the other due minutes of the date.
    """
    held = hits & due

    def around(cells: Flags) -> Ints:
        sums = np.concatenate([np.zeros((1, cells.shape[1]), dtype=np.int64), np.cumsum(cells, axis=0)])
        rows = np.arange(len(cells))
        low, high = np.maximum(rows - WINDOW, 0), np.minimum(rows + WINDOW + 1, len(cells))
        counts: Ints = sums[high] - sums[low] - cells
        return counts

    share = np.full(due.shape, np.nan)
    for count, hit in ((due.sum(axis=0) - due, held.sum(axis=0) - held), (around(due), around(held))):
        share = np.where(count >= LEAST_DAYS, hit / np.maximum(count, 1), share)
    known = due & ~np.isnan(share)
    mean = np.where(known, share, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(np.isnan(share), mean[:, None], share)


# ---------------------------------------------------------------------------- what is expected and absent


def empty_expected(axis: ClockMinutes) -> Iterator[Disagreement]:
    """Whole days, ends, begins and stretches of expected minutes that all but no series has, though they usually trade."""
    traded = np.greater(axis.active, 0)[:, None]
    share = usual_share(axis.present > 0, axis.expected & traded)
    session: Flags = np.any(axis.expected, axis=1)
    held = usual_share(traded & session[:, None], session[:, None])
    judged = axis.expected & axis.covered
    lacking = judged & (axis.present == 0)
    bits = closed_bits(axis, share) * judged
    doubt = np.log2(max(int(axis.expected.sum()) // axis.step, 1)) + DOUBT_BITS
    for row in map(int, np.flatnonzero((np.maximum(bits, 0).sum(axis=1) >= doubt) & (axis.alive > 0))):
        if axis.active[row]:
            yield from empty_stretches(axis, row, bits[row], share[row], doubt)
        elif held[row, 0] > HABIT:
            # A file that is not there looks the same, so that one series says little.
            minutes = np.flatnonzero(lacking[row])
            yield absence(row, "no_bars", minutes, share[row, minutes], int(axis.alive[row]))


def closed_bits(axis: ClockMinutes, share: Floats) -> Floats:
    """Evidence of each minute, in bits, that the market was closed (strays in `STRAYS` of the minutes) and not as usual."""
    usual = np.clip(share, STRAYS, ALMOST_CERTAIN)
    absent, there = np.log2((1 - STRAYS) / (1 - usual)), np.log2(STRAYS / usual)
    made: Floats = np.where(axis.present > 0, there, absent) / axis.step
    return made


def empty_stretches(axis: ClockMinutes, row: int, bits: Floats, share: Floats, doubt: float) -> Iterator[Disagreement]:
    """Stretches of a date with the most evidence that the market was closed: at its end, at its begin, between."""
    due = np.flatnonzero(axis.expected[row])
    low, high = 0, len(due)
    sums = np.concatenate([[0.0], np.cumsum(bits[due])])
    end_from = int(np.argmin(sums[:high]))
    if sums[high] - sums[end_from] >= doubt:
        yield from stretch(axis, row, due, (end_from, high), share)
        high = end_from
    begin_to = int(np.argmax(sums[: high + 1]))
    if sums[begin_to] >= doubt:
        yield from stretch(axis, row, due, (low, begin_to), share)
        low = begin_to
    while high - low > 1:
        rise = sums[low : high + 1] - np.minimum.accumulate(sums[low : high + 1])
        stop = low + int(np.argmax(rise))
        if rise.max() < doubt:
            return
        start = low + int(np.argmin(sums[low : stop + 1]))
        yield from stretch(axis, row, due, (start, stop), share)
        sums = np.concatenate(
            [sums[:start], np.full(stop - start, sums[start]), sums[stop:] - sums[stop] + sums[start]]
        )


def stretch(axis: ClockMinutes, row: int, due: Ints, span: tuple[int, int], share: Floats) -> Iterator[Disagreement]:
    """The disagreement of a stretch of due minutes, if it is long enough; named by whether a session ends or begins with it."""
    start, end = span
    ends = end == len(due) or due[end] > due[end - 1] + 1
    begins = start == 0 or due[start] > due[start - 1] + 1
    kind = "early_close" if ends and not begins else "late_open" if begins and not ends else "break"
    least = max(LEAST_BREAK if kind == "break" else LEAST_MINUTES, axis.step)
    if end - start < least:
        return
    near = NEAR_THE_END * axis.step
    beside = np.concatenate([due[max(start - near, 0) : start], due[end : end + near]])
    minutes = due[start:end]
    gone = minutes[axis.present[row, minutes] == 0]
    series = int(np.max(axis.present[row, beside], initial=1))
    yield absence(row, kind, minutes, share[gone], series)


def absence(row: int, kind: str, minutes: Ints, share: Floats, series: int) -> Disagreement:
    """Disagreement of minutes without bars: the usual `share` of the empty ones, times the confidence of so many series."""
    score = float(share.sum()) * (1 - 0.5**series)
    return Disagreement(row, kind, int(minutes[0]), int(minutes[-1]) + 1, len(minutes), series, score)


def runs(flags: Flags) -> list[tuple[int, int]]:
    """(start, end exclusive) of every run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


# ---------------------------------------------------------------------------- what is present and not expected


def habitual(axis: ClockMinutes) -> Flags:
    """Minutes of the clock at which bars begin outside sessions on most days."""
    traded = int((axis.active > 0).sum())
    outside = ((axis.begun > 0) & ~axis.allowed).sum(axis=0)
    chosen: Flags = (outside > HABIT * traded) & (traded >= HABIT_DAYS)
    return chosen


def unusual_share(axis: ClockMinutes) -> Floats:
    """Share of the series with a bar outside sessions, by date and minute, less what other days usually have there."""
    share = (axis.begun / np.maximum(axis.active, 1)[:, None]) * ~axis.allowed
    others = max(int((axis.active > 0).sum()) - 1, 1)
    usual = (share.sum(axis=0) - share) / others if others >= HABIT_DAYS else np.zeros_like(share)
    # A print of each day comes a little sooner or later.
    sums = np.cumsum(np.pad(usual, ((0, 0), (AROUND + 1, AROUND))), axis=1)
    smooth = (sums[:, 2 * AROUND + 1 :] - sums[:, : -2 * AROUND - 1]) / (2 * AROUND + 1)
    return np.where(habitual(axis), 0.0, np.maximum(share - TWICE * np.maximum(smooth, usual), 0.0))


def bars_outside(axis: ClockMinutes) -> Iterator[Disagreement]:
    """Bars outside all segments beyond what is usual, and those in extended hours that trade as regular hours do."""
    for weights in (unusual_share(axis), regular_like(axis) * (axis.begun / np.maximum(axis.active, 1)[:, None])):
        for row in map(int, np.flatnonzero(weights.any(axis=1))):
            due = np.flatnonzero(axis.expected[row])
            at = np.flatnonzero(weights[row])
            groups = {"open_day": at}
            if len(due):
                later, sooner = at[at > due[-1]], at[at < due[0]]
                groups = {
                    "before_open": sooner,
                    "after_close": later,
                    "in_break": at[(at > due[0]) & (at < due[-1])],
                }
            for kind, minutes in groups.items():
                score = float(weights[row, minutes].sum()) * axis.step
                if len(minutes) * axis.step >= LEAST_MINUTES and score >= LEAST_SCORE:
                    series = int(axis.begun[row, minutes].max())
                    end = min(int(minutes[-1]) + axis.step, DAY_MINUTES)
                    yield Disagreement(row, kind, int(minutes[0]), end, len(minutes) * axis.step, series, score)


def regular_like(axis: ClockMinutes) -> Flags:
    """Minutes in extended hours, regular on most days around, in which as many series and as much volume trade as then."""
    extended = axis.allowed & ~axis.expected
    share = axis.begun / np.maximum(axis.active, 1)[:, None]
    dates = usual_share(axis.expected, np.broadcast_to((axis.active > 0)[:, None], axis.expected.shape))
    candidates = extended & (dates > HABIT) & (axis.begun > 0)
    chosen = np.zeros_like(candidates)
    for row in map(int, np.flatnonzero(candidates.any(axis=1))):
        around = slice(max(row - WINDOW, 0), row + WINDOW + 1)
        at = np.flatnonzero(extended[row] & (dates[row] > HABIT))
        due = axis.expected[around][:, at]
        usual = float((share[around][:, at] * due).sum() / max(due.sum(), 1))
        regular = axis.volume[row, axis.expected[row]].mean() if axis.expected[row].any() else 0.0
        is_busy = regular <= 0 or axis.volume[row, at].mean() >= VOLUME_SHARE * regular
        if is_busy and share[row, at].mean() >= AS_IN_REGULAR_HOURS * usual:
            chosen[row, at] = candidates[row, at]
    return chosen


# ---------------------------------------------------------------------------- rows


def disagreement_row(
    axis: ClockMinutes, one: Disagreement, daytime: frozenset[dt.date] | None, segments: pl.DataFrame, zone: str
) -> tuple[Any, ...]:
    """Row of `CALENDAR_DAYS` of a disagreement; an override where sessions lie within a date and bars are dense."""
    day = axis.date(one.row)
    hours = ", ".join(f"{clock(start)}-{clock(end)}" for start, end in runs(axis.expected[one.row])) or "closed"
    is_dense = one.minutes >= DENSE * (one.end - one.start) and one.score >= DENSE * one.minutes
    can_propose = daytime is not None and (one.kind == "open_day" or day in daytime) and is_dense
    return (
        day, f"{day:%a}", one.kind, clock(one.start), clock(one.end), one.minutes, one.series, int(axis.active[one.row] or axis.alive[one.row]),
        hours, round(one.score, 1), override_text(axis, one, segments, zone) if can_propose else "",
    )  # fmt: skip


def override_text(axis: ClockMinutes, one: Disagreement, segments: pl.DataFrame, zone: str) -> str:
    """TOML of an override that makes the calendar agree, to be held against a notice of the exchange."""
    day = axis.date(one.row)
    up, down = round_up(one.end), one.start // ROUND_TO * ROUND_TO
    change = {
        "no_bars": "closed = true",
        "early_close": f'close = "{clock(round_up(one.start))}"',
        "late_open": f'open = "{clock(one.end // ROUND_TO * ROUND_TO)}"',
        "break": f'pause = "{clock(one.start)} to {clock(one.end)}"',
        "after_close": f'close = "{clock(up)}"',
        "before_open": f'open = "{clock(down)}"',
    }.get(one.kind)
    if change is None:  # a day without a session, or a break that was none
        change = hours_of_nearest_session(segments, zone, day, join=one.kind == "in_break")
    return f"[[override]]\ndate = {day}\n{change}\n"


def hours_of_nearest_session(segments: pl.DataFrame, zone: str, day: dt.date, *, join: bool) -> str:
    """TOML lines of all hours of the session before a date, else of the first; `join`: regular spans become one."""
    sessions = segments["session"]
    before = sessions.filter(sessions < day)
    nearest = before.max() if len(before) else sessions.min()
    spans: list[tuple[str, str, str]] = []
    for row in segments.filter(pl.col("session") == nearest).iter_rows(named=True):
        begin, end = (
            day_clock(row[name].astimezone(ZoneInfo(zone)), row["session"])
            for name in ("segment_open", "segment_close")
        )
        if join and row["regular"] and spans and spans[-1][0] == row["segment"]:
            begin = spans.pop()[1]
        spans.append((row["segment"], begin, end))
    labels = dict.fromkeys(label for label, _, _ in spans)
    texts = {label: [f'"{begin} to {end}"' for of, begin, end in spans if of == label] for label in labels}
    return "\n".join(f"{label} = [{', '.join(some)}]" for label, some in texts.items())


def day_clock(at: dt.datetime, session: dt.date) -> str:
    """`HH:MM` of a local time, with `-1d` or `+1d` where it is not on the trade date."""
    days = (at.date() - session).days
    return f"{at:%H:%M}" + (f"{days:+}d" if days else "")


def round_up(minute: int) -> int:
    """The next multiple of `ROUND_TO`, or the minute itself if it is one."""
    return (minute + ROUND_TO - 1) // ROUND_TO * ROUND_TO


def sessions_within_a_date(segments: pl.DataFrame, zone: str) -> frozenset[dt.date] | None:
    """Trade dates whose regular segments lie on that date of the clock; None if most sessions run over midnight."""
    local = segments.filter("regular").select(
        "session",
        *(
            pl.col(name).dt.convert_time_zone(zone).dt.replace_time_zone(None).alias(name)
            for name in ("segment_open", "segment_close")
        ),
    )
    within = (pl.col("segment_open").dt.date() == pl.col("session")) & (
        (pl.col("segment_close") - pl.duration(minutes=1)).dt.date() == pl.col("session")
    )
    judged = local.group_by("session").agg(within.all().alias("within"))
    if judged.is_empty() or 2 * judged["within"].sum() < judged.height:
        return None
    return frozenset(judged.filter("within")["session"])


def habit_rows(kind: str, chosen: Flags, days: Ints, of_days: Ints) -> list[tuple[Any, ...]]:
    """Rows of `CLOCK_HABITS` of runs of minutes; `days` is the fewest of the run."""
    return [
        (kind, clock(start), clock(end), int(days[start:end].min()), int(of_days[start:end].max()))
        for start, end in runs(chosen)
    ]


def clock(minute: int) -> str:
    """`HH:MM` of a minute of the day; the end of the day is 24:00."""
    return f"{minute // 60:02}:{minute % 60:02}"


def settled_overrides(days: pl.DataFrame, valid: list[str], still: pl.DataFrame) -> pl.DataFrame:
    """`days` with `override` kept only if it is one of `valid` and its date is not in `still`, the check by all of them."""
    settles = pl.col("override").is_in(valid) & ~pl.col("date").is_in(still["date"].unique().to_list())
    return days.with_columns(pl.when(settles).then("override").otherwise(pl.lit("")).alias("override"))
