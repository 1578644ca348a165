"""Disagreements of calendar and rows: rows outside sessions, slots and sessions without rows. Pure: frame in, frame out.

1. `unscheduled_rows` counts the rows of each series by where they lie: in sessions, after a close, in a break, ...
2. `presence` counts, slot by slot, how many series have it. Both add up over the parts of a lake (`combine_unscheduled_rows`,
   `combine_presence`).
3. `unscheduled`, `absent_slots` and `absent_sessions` say what follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import polars as pl

from engine.calendars.auctions import AUCTION
from engine.checks.check import SERIES, BarCheck, Frames, JudgeInput, MeasureInput, Measurement, register
from engine.checks.clock_profile import CLOCK_PROFILE, HOUR_US, MINUTE_US, offsets_at
from engine.checks.findings import findings_of, number_of
from engine.grid import SessionGrid
from engine.interval import Interval
from engine.keys import Flags, Ints, number_ranges
from engine.quality.causes.outages import ADJACENT_SLOTS, is_beyond_chance
from engine.quality.contiguous_runs import Floats, SlotRuns, run_starts
from engine.schema import TS, Schema, empty

IN_SESSION = "in sessions"
OFF_GRID = "off the grid"
IN_AUCTION = "in closing auctions"
PLACES = (
    IN_SESSION,
    OFF_GRID,
    "before the open",
    "after the close",
    "after an early close",
    "in a break",
    "on days without a session",
    "in extended hours",
    IN_AUCTION,
)
UNSCHEDULED_ROWS: Schema = {
    **SERIES,
    "place": pl.Enum(PLACES),
    "rows": pl.Int64(),
    "volume": pl.Float64(),
    "sessions": pl.List(pl.Date()),
    "first": TS,
    "last": TS,
    "from_minute": pl.Int16(),
    "to_minute": pl.Int16(),
}
PRESENCE: Schema = {"session": pl.Date(), "minute": pl.Int16(), "present": pl.Int64()}
ATTENDING = -1  # the minute under which `presence` counts the series that have a row in a session at all

FAR_US = 8 * HOUR_US  # from any session: then it is another day
FEW, WORTH_A_WARNING = 3, 0.005  # rows outside in all, and as a share
MUCH = 0.05  # of the volume: worth a warning in however few rows
ORDINARY = ("in extended hours", IN_AUCTION)
REMEDY = {
    OFF_GRID: "ask the vendor for stamps on the grid: these rows are in no bar",
    "in extended hours": "choose the segments that you need (--segments)",
    IN_AUCTION: "nothing: they enter 1d, 1w and 1mo, unless --auctions out leaves them out",
}
ABSENT_SHARE, FEWEST_SESSIONS, USUALLY = 0.9, 5, 0.8
NEIGHBOURS, NEIGHBOURS_TRADE = 15, 0.5
SHOWN = 3
MOSTLY = 0.5  # of the series
SPARSE = 0.5  # of the sessions absent: the files are a sample
SHORT_PAUSE = 0.02  # of the slots of a day: a shorter pause barely changes what is missing

Row = dict[str, Any]


def unscheduled_rows(rows: pl.DataFrame, series: pl.DataFrame, grid: SessionGrid, zone: str) -> pl.DataFrame:
    """Count rows, sorted by series, per series and place (`in sessions`, ...); list the trade dates of those outside.

    Parameters
    ----------
    rows : DataFrame
        `series, ts, session, ordinal, slot` and, where there is one, `volume`, sorted by (series, ts); places as `SessionGrid.place` gives them.
    series : DataFrame
        `series, symbol, price_type, interval`.
    grid : SessionGrid
    zone : str
        IANA zone of the venue.

    Returns
    -------
    DataFrame of `UNSCHEDULED_ROWS`
        A row per series and place. `sessions` lists trade dates (none of rows in sessions); `from_minute` and `to_minute` are the first and last
        minute of the venue's day.
    """
    rows = rows if "volume" in rows.columns else rows.with_columns(pl.lit(None, pl.Float64).alias("volume"))
    outside = rows.filter(pl.col("slot").is_null()).select("series", "ts", "session", "ordinal", "volume")
    place = pl.Series("place", classify_places(outside, grid, zone), UNSCHEDULED_ROWS["place"])
    local = outside["ts"].dt.convert_time_zone(zone)
    minute = (local.dt.hour().cast(pl.Int16) * 60 + local.dt.minute()).alias("minute")
    counted = (
        outside.with_columns(place, minute)
        .group_by("series", "place")
        .agg(
            pl.len().cast(pl.Int64).alias("rows"),
            pl.col("volume").sum(),
            pl.col("session").unique().sort().alias("sessions"),
            pl.col("ts").min().alias("first"),
            pl.col("ts").max().alias("last"),
            pl.col("minute").min().alias("from_minute"),
            pl.col("minute").max().alias("to_minute"),
        )
    )
    inside = count_rows_in_slots(rows).with_columns(pl.lit(IN_SESSION, UNSCHEDULED_ROWS["place"]).alias("place"))
    whole = pl.concat([counted, inside], how="diagonal").join(series.select("series", *SERIES), on="series")
    return whole.select(pl.col(name).cast(dtype) for name, dtype in UNSCHEDULED_ROWS.items())


def combine_unscheduled_rows(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sum `rows`, unite `sessions` per series and place over all parts; earliest first and from, latest last and to."""
    key = [*SERIES, "place"]
    return (
        pl.concat([empty(UNSCHEDULED_ROWS), *parts])
        .group_by(key)
        .agg(
            pl.col("rows", "volume").sum(),
            pl.col("sessions").list.explode().drop_nulls().unique().sort(),
            pl.col("first", "from_minute").min(),
            pl.col("last", "to_minute").max(),
        )
        .select(list(UNSCHEDULED_ROWS))
        .sort(key)
    )


def presence(runs: SlotRuns, grid: SessionGrid, zone: str) -> pl.DataFrame:
    """Count series per session with rows and local minute of slot (-1: any slot); empty for intervals < 1m and >= 1d.

    Parameters
    ----------
    runs : SlotRuns
    grid : SessionGrid
        Of an interval from one minute to below a day; of others the answer is empty.
    zone : str
        IANA zone of the venue.

    Returns
    -------
    DataFrame of `PRESENCE`
        `minute` is the slot's start in the venue's day; -1: series with a row in the session.
    """
    step = grid.interval
    chosen = grid.table.filter(pl.col("chosen") & (pl.col("slots") > 0))
    if not step.is_intraday or step.step_us < MINUTE_US or chosen.is_empty() or not len(runs.row):
        return empty(PRESENCE)
    ordinal = chosen["ordinal"].to_numpy()
    days, session = np.unique(chosen["session"].cast(pl.Int32).to_numpy(), return_inverse=True)
    of_run = session[np.searchsorted(ordinal, runs.ordinal)]
    attending = np.bincount(of_run[run_starts(of_run, runs.series)], minlength=len(days))
    # A calendar may reach years beyond the few sessions that have rows.
    attended = attending[session] > 0
    chosen, ordinal, session = chosen.filter(pl.Series(attended)), ordinal[attended], session[attended]
    starts = np.append(0, np.cumsum(chosen["slots"].to_numpy().astype(np.int64)))
    first = starts[np.searchsorted(ordinal, runs.ordinal)] + runs.slot
    steps = np.bincount(first, minlength=starts[-1] + 1) - np.bincount(first + runs.size, minlength=starts[-1] + 1)
    return presence_rows(chosen, starts, days[session], np.cumsum(steps)[:-1], step.step_us, zone).extend(
        attending_rows(days, attending)
    )


def combine_presence(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sum `present` by session and minute over all parts; parts may share sessions, not series."""
    return (
        pl.concat([empty(PRESENCE), *parts])
        .group_by("session", "minute")
        .agg(pl.col("present").sum())
        .sort("session", "minute")
    )


def unscheduled(counted: pl.DataFrame, calendar: str) -> pl.DataFrame:
    """One finding per series and place outside sessions: `info` in extended hours, to 3 rows or below 0.5 % (`value`).

    Parameters
    ----------
    counted : DataFrame of `UNSCHEDULED_ROWS`
        Summed.
    calendar : str
        Its code, for the text.

    Returns
    -------
    DataFrame of `findings.FINDINGS`
        Check `unscheduled`; `value` is the share of the series' volume, or of its rows where it has no volume. Rows in
        segments that the calendar has and nobody chose (extended hours), and in closing auctions, are `info`.
    """
    sums = [pl.col(name).sum().over(list(SERIES)).alias(f"total_{name}") for name in ("rows", "volume")]
    totals = counted.with_columns(sums)
    out = totals.filter(pl.col("place") != IN_SESSION).sort([*SERIES, "place"])
    return findings_of([unscheduled_finding(row, calendar) for row in out.iter_rows(named=True)])


def volume_shares(counted: pl.DataFrame) -> pl.DataFrame:
    """Per series `auctions` (rows in closing auctions), `auction_volume`, `outside_volume` (% of its volume, null without any).

    Parameters
    ----------
    counted : DataFrame of `UNSCHEDULED_ROWS`
        Summed.
    """
    is_auction = pl.col("place") == IN_AUCTION
    is_outside = ~is_auction & (pl.col("place") != IN_SESSION)
    volume, total = pl.col("volume"), pl.col("volume").sum()
    shares = (
        pl.when(total > 0).then(100.0 * volume.filter(test).sum() / total).alias(name)
        for name, test in (("auction_volume", is_auction), ("outside_volume", is_outside))
    )
    return counted.group_by(list(SERIES), maintain_order=True).agg(
        pl.col("rows").filter(is_auction).sum().alias("auctions"), *shares
    )


def absent_slots(counted: pl.DataFrame, calendar: str, slot_minutes: int) -> pl.DataFrame:
    """Return a finding per run of minutes usually absent in >= 90 % of series, beyond chance; presence around >= 50 %.

    Parameters
    ----------
    counted : DataFrame of `PRESENCE`
        Summed.
    calendar : str
        Its code, for the text.
    slot_minutes : int
        Length of a slot.

    Returns
    -------
    DataFrame of `findings.FINDINGS`
        Check `absent_slots`, one per run of slots; `count` is sessions, `value` the share of slots that were absent.
        `info` where the run is less than `SHORT_PAUSE` of the day's slots, else `warning`.
    """
    shares = presence_by_minute(counted)
    at, share = shares["minute"].to_numpy().astype(np.int64), shares["share"].to_numpy()
    flagged = shares["absent"].to_numpy()
    starts = np.flatnonzero(flagged & ~continues_run(at, flagged, slot_minutes))
    runs = [flagged_run(at, flagged, int(start), slot_minutes) for start in starts]
    beside = np.array([mean_share_around(share, flagged, *run) for run in runs])
    parts = [shares[run[0] : run[1]] for run in runs]
    lacking, due, sessions = (
        np.array([part[name].mean() for part in parts], np.float64) for name in ("lacked", "series", "sessions")
    )
    length = np.array([part.height for part in parts], np.float64)
    is_habit = is_beyond_chance(
        lacking, due, sessions, length, 1 - beside, 2 * ADJACENT_SLOTS * due, np.full(len(runs), float(len(at)))
    )
    attending = counted.filter(pl.col("minute") == ATTENDING)
    most = int(attending["present"].max() or 0)  # type: ignore[arg-type]
    return findings_of(
        [
            absent_slots_finding(part, float(near), calendar, slot_minutes, most, len(at))
            for part, near, habit in zip(parts, beside, is_habit, strict=True)
            if habit and near >= NEIGHBOURS_TRADE
        ]
    )


def absent_sessions(counted: pl.DataFrame, segments: pl.DataFrame, calendar: str) -> pl.DataFrame:
    """At most one finding: regular sessions without rows between the first and last with; `info` if over half of them.

    Parameters
    ----------
    counted : DataFrame of `PRESENCE`
        Summed.
    segments : DataFrame of `schema.SEGMENTS`
    calendar : str
        Its code, for the text.

    Returns
    -------
    DataFrame of `findings.FINDINGS`
        Check `absent_sessions`, at most one; `info` where most sessions are absent, so that the data are a sample.
    """
    held = counted["session"].unique()
    if held.is_empty():
        return findings_of([])
    due = (
        segments.filter(pl.col("regular") & pl.col("session").is_between(held.min(), held.max()))["session"]
        .unique()
        .sort()
    )
    gone = due.filter(~due.is_in(held.implode()))
    if gone.is_empty():
        return findings_of([])
    shown = ", ".join(str(day) for day in gone.head(SHOWN)) + (" ..." if len(gone) > SHOWN else "")
    return findings_of(
        [
            {
                "check_name": "absent_sessions",
                "severity": "info" if len(gone) > SPARSE * len(due) else "warning",
                "session": gone[0],
                "count": len(gone),
                "value": len(gone) / len(due),
                "message": f"No symbol has a row in {len(gone):,} of {len(due):,} sessions of {calendar}: {shown}.",
                "evidence": f"sessions from {due[0]} to {due[-1]}, the first and the last one with a row",
                "remedy": "load the missing files, or add the dates to the calendar's holidays (docs/calendars.md)",
            }
        ]
    )


# ---------------------------------------------------------------------------- where rows lie


def count_rows_in_slots(rows: pl.DataFrame) -> pl.DataFrame:
    """Count rows with a slot per series (rows sorted by series): `series, rows, volume`; series without any are left out."""
    heads = run_starts(rows["series"].to_numpy())
    if not len(heads):
        return rows.select("series", pl.lit(0, pl.Int64).alias("rows"), "volume")
    has_slot = rows["slot"].is_not_null().to_numpy() if rows["slot"].null_count() else None
    counts = np.diff(np.append(heads, rows.height))
    volume = rows["volume"].fill_null(0.0).to_numpy()
    if has_slot is not None:
        counts, volume = np.add.reduceat(has_slot, heads, dtype=np.int64), np.where(has_slot, volume, 0.0)
    counted = rows.select("series")[heads].with_columns(
        pl.Series("rows", counts), pl.Series("volume", np.add.reduceat(volume, heads))
    )
    return counted.filter(pl.col("rows") > 0)


def classify_places(outside: pl.DataFrame, grid: SessionGrid, zone: str) -> list[str]:
    """Name of `PLACES` of each row without a slot: by its segment, else a break, else the nearer edge if within 8 h."""
    table = grid.table
    if table.is_empty() or outside.is_empty():
        return ["on days without a session"] * outside.height
    opens, closes = (table[name].cast(TS).cast(pl.Int64).to_numpy() for name in ("open", "close"))
    at = outside["ts"].cast(pl.Int64).to_numpy()
    before = np.searchsorted(opens, at, side="right") - 1
    last, following = np.maximum(before, 0), np.minimum(before + 1, len(opens) - 1)
    since = np.where(before >= 0, at - closes[last], 10 * FAR_US)
    until = np.where(before + 1 < len(opens), opens[following] - at, 10 * FAR_US)
    session = table["session"].cast(pl.Int32).to_numpy()
    held = outside["ordinal"].is_not_null().to_numpy()
    chosen = table["chosen"].to_numpy()[last] & held
    early = is_closed_early(table, zone)[last] & (table["session"].to_numpy()[last] == outside["session"].to_numpy())
    in_break = (before >= 0) & (before + 1 < len(opens)) & (session[last] == session[following])
    auction = held & (table["segment"] == AUCTION).fill_null(value=False).to_numpy()[last]
    place = np.select(
        [auction, chosen, held & early, held, in_break, (since > FAR_US) & (until > FAR_US), since > until, early],
        [8, 1, 4, 7, 5, 6, 2, 4],
        default=3,
    )
    return [PLACES[one] for one in place]


def is_closed_early(table: pl.DataFrame, zone: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Mask segments closing at or after their session's last chosen close, if that is before the usual local time."""
    local = pl.col("close").dt.convert_time_zone(zone)
    ends = table.filter("chosen").group_by("session").agg(pl.col("close").max())
    ends = ends.with_columns((local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute()).alias("minute"))
    usual = ends["minute"].mode().max()
    early = ends.filter(pl.col("minute") < usual).select("session", pl.col("close").alias("early"))
    beside = table.select("session", "close").join(early, on="session", how="left", maintain_order="left")
    return beside.select((pl.col("close") >= pl.col("early")).fill_null(value=False).alias("is_early"))[
        "is_early"
    ].to_numpy()


def unscheduled_finding(row: Row, calendar: str) -> Row:
    """Build the finding: `warning` from 0.5 % of rows or volume and above 3 rows, or 5 % of the volume; `info`: extended, auctions."""
    by_rows, has_volume = row["rows"] / max(row["total_rows"], 1), row["total_volume"] > 0
    share = row["volume"] / row["total_volume"] if has_volume else by_rows
    ordinary = row["place"] in ORDINARY
    many = row["rows"] > FEW and max(share, by_rows) >= WORTH_A_WARNING
    loud = not ordinary and (many or (has_volume and share >= MUCH))
    weight = f"{share:.1%} of the volume" if has_volume else f"{share:.1%}"
    rows, lie = number_of(row["rows"], "row"), "lies" if row["rows"] == 1 else "lie"
    span = f"{_clock(row['from_minute'])} to {_clock(row['to_minute'])}"
    return {
        **{name: row[name] for name in SERIES},
        "check_name": "unscheduled",
        "severity": "warning" if loud else "info",
        "start_ts": row["first"],
        "count": row["rows"],
        "value": share,
        "message": f"{rows} ({weight}) {lie} {row['place']} of {calendar}, in {number_of(len(row['sessions']), 'session')}.",
        "evidence": f"the first at {row['first']:%Y-%m-%d %H:%M} UTC, the last at {row['last']:%Y-%m-%d %H:%M} UTC; {span} on the venue's clock",
        "remedy": REMEDY.get(
            row["place"],
            "nothing, if prints after hours are expected; else another calendar of these years (--calendar), or an override",
        ),
    }


def _clock(minute: int) -> str:
    """Format a minute of the day as HH:MM."""
    return f"{minute // 60:02}:{minute % 60:02}"


# ---------------------------------------------------------------------------- slots that nobody has


def presence_rows(
    chosen: pl.DataFrame, starts: Ints, day: np.ndarray[Any, Any], counts: Ints, step: int, zone: str
) -> pl.DataFrame:
    """Build `PRESENCE` of the slots of segments: the count of each by the local minute in which it starts."""
    owner, number = number_ranges(np.diff(starts))
    opens = chosen["open"].cast(pl.Int64).to_numpy() - chosen["lead"].to_numpy()
    at = opens[owner] + number * step
    minute = (at // MINUTE_US + offsets_at(zone, at)) % (24 * 60)
    return frame_of_presence(day[owner], minute, counts)


def attending_rows(days: np.ndarray[Any, Any], attending: Ints) -> pl.DataFrame:
    """Build `PRESENCE` of minute -1: the number of series per session, those without any left out."""
    at = np.flatnonzero(attending)
    return frame_of_presence(days[at], np.full(len(at), ATTENDING), attending[at])


def frame_of_presence(day: np.ndarray[Any, Any], minute: Ints, present: Ints) -> pl.DataFrame:
    """Return arrays as a frame of `PRESENCE`; days count from 1970."""
    frame = pl.DataFrame({"session": day.astype(np.int32), "minute": minute.astype(np.int16), "present": present})
    return frame.select(pl.col(name).cast(dtype) for name, dtype in PRESENCE.items())


def presence_by_minute(counted: pl.DataFrame) -> pl.DataFrame:
    """Sum presence by minute: `share` present; `absent`: share <= 10 %, and so in >= 5 and >= 80 % of the sessions."""
    attending = counted.filter(pl.col("minute") == ATTENDING).select("session", pl.col("present").alias("series"))
    slots = counted.filter(pl.col("minute") != ATTENDING).join(attending, on="session", how="left")
    lacks = pl.col("present") <= (1 - ABSENT_SHARE) * pl.col("series")
    by_minute = slots.group_by("minute").agg(
        pl.col("present", "series").sum(),
        pl.len().alias("sessions"),
        lacks.sum().alias("lacking"),
        pl.col("session").filter(lacks).min().alias("first"),
    )
    share = pl.col("present") / pl.col("series")
    always = (pl.col("lacking") >= FEWEST_SESSIONS) & (pl.col("lacking") >= USUALLY * pl.col("sessions"))
    lacked = (pl.col("series") - pl.col("present")).alias("lacked")
    return by_minute.with_columns(
        lacked, share.alias("share"), ((share <= 1 - ABSENT_SHARE) & always).alias("absent")
    ).sort("minute")


def continues_run(at: Ints, flagged: Flags, slot_minutes: int) -> Flags:
    """Mask minutes whose predecessor is flagged and one slot earlier, flagged themselves or not; first: False."""
    return np.append([False], flagged[:-1] & (np.diff(at) == slot_minutes))[: len(at)]


def flagged_run(at: Ints, flagged: Flags, start: int, slot_minutes: int) -> tuple[int, int]:
    """Return (`start`, end exclusive) of the run of flagged minutes one slot apart that begins at index `start`."""
    stops = np.flatnonzero(~continues_run(at, flagged, slot_minutes)[start + 1 :])
    ends = start + 1 + (int(stops[0]) if len(stops) else len(at) - start - 1)
    return start, ends if flagged[ends - 1] else ends - 1


def mean_share_around(share: Floats, flagged: Flags, start: int, end: int) -> float:
    """Return the mean share PRESENT of up to 15 slots on either side of a run, flagged ones left out; none: 0."""
    near = np.append(np.arange(max(start - NEIGHBOURS, 0), start), np.arange(end, min(end + NEIGHBOURS, len(share))))
    near = near[~flagged[near]]
    return float(share[near].mean()) if len(near) else 0.0


def absent_slots_finding(
    run: pl.DataFrame, beside: float, calendar: str, slot_minutes: int, most: int, day_slots: int
) -> Row:
    """Build the finding of one run: `count` fewest lacking sessions, `value` share MISSING, `beside` share PRESENT."""
    start, end = int(run["minute"][0]), int(run["minute"][-1]) + slot_minutes
    lacking, sessions = int(run["lacking"].min()), int(run["sessions"].max())  # type: ignore[arg-type]
    share = 1 - float(run["present"].sum()) / float(run["series"].sum())
    return {
        "check_name": "absent_slots",
        "severity": "info" if run.height < SHORT_PAUSE * day_slots else "warning",
        "session": run["first"].min(),
        "count": lacking,
        "value": share,
        "message": (
            f"{_clock(start)} to {_clock(end)} on the venue's clock is empty for all of up to {most:,} series, in "
            f"{lacking:,} of {sessions:,} sessions: a break that {calendar} does not know."
        ),
        "evidence": f"{share:.0%} of these slots are absent; of the slots beside them {beside:.0%} are there",
        "remedy": f'an override: pause = "{_clock(start)} to {_clock(end)}" (docs/calendars.md), or another --calendar',
    }


# ---------------------------------------------------------------------------- checks


class Presence(Measurement):
    """Frame `presence`: how many series have each slot of a session, of `PRESENCE`."""

    schemas: ClassVar[Mapping[str, Schema]] = {"presence": PRESENCE}

    def measure(self, part: MeasureInput) -> Frames:
        """Return frame `presence`: the number of series that have each slot of each session of the part."""
        return {"presence": presence(part.runs, part.grid, part.zone)}

    def combine(self, frames: Mapping[str, Sequence[pl.DataFrame]]) -> Frames:
        """Sum `present` by session and minute over all parts; return frame `presence`."""
        return {"presence": combine_presence(frames["presence"])}


PRESENCE_COUNTS = Presence()


@register
class UnscheduledCheck(BarCheck):
    """Rows lie outside the sessions of the calendar."""

    name, severities = "unscheduled", ("warning", "info")
    schema, needs_places = UNSCHEDULED_ROWS, True

    def measure(self, part: MeasureInput) -> pl.DataFrame:
        """Return the row count of each series by place, inside sessions included."""
        return unscheduled_rows(part.rows, part.series, part.grid, part.zone)

    def combine(self, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Sum rows and sessions per series and place over all parts."""
        return combine_unscheduled_rows(frames)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return one finding per series and place of rows without a slot; extended hours are `info`."""
        return unscheduled(measured.frames[self.name], measured.calendar)


def is_mostly_misplaced(measured: JudgeInput) -> bool:
    """Whether at least half of the profiled series have wrong stamps, interval or calendar; False if none has."""
    series = measured.frames["clock_profile"].select(list(SERIES)).unique()
    return measured.misplaced.height > 0 and measured.misplaced.height >= MOSTLY * series.height


@register
class AbsentSlotsCheck(BarCheck):
    """A stretch of the day is empty for all series."""

    name, severities = "absent_slots", ("warning", "info")
    reads = (CLOCK_PROFILE, PRESENCE_COUNTS)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Find minutes that nearly all series lack while those around trade; none if half the series are misplaced."""
        if is_mostly_misplaced(measured):
            return findings_of([])
        texts = measured.frames["clock_profile"]["interval"].unique()
        minutes = [one.seconds // 60 for one in map(Interval.parse, texts) if one.is_intraday]
        found = [absent_slots(measured.frames["presence"], measured.calendar, many) for many in minutes if many > 0]
        return pl.concat([findings_of([]), *found])


@register
class AbsentSessionsCheck(BarCheck):
    """No symbol has a row in some sessions."""

    name, severities = "absent_sessions", ("warning", "info")
    reads = (CLOCK_PROFILE, PRESENCE_COUNTS)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Find regular sessions without rows, from first to last with any; none if half the series are misplaced."""
        if is_mostly_misplaced(measured):
            return findings_of([])
        return absent_sessions(measured.frames["presence"], measured.segments, measured.calendar)
