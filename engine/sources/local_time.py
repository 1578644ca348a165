"""Local times to instants in UTC: skipped ones are refused, repeated ones are told apart by the order of the rows.

1. `offset_periods` lists from when to when each offset of a zone holds; a local time is looked up in it
   (`period_of_local_times`). In no period: the clock skips it. In two: the clock shows it twice.
2. `second_pass` resolves what is shown twice. It first finds the direction of each series (newest first, or last),
   from the steps around the repeated hour; then, in order of time, the largest step back within the hour is where the
   second pass begins. Where rows elsewhere step back as far, nothing is told, and these rows are refused.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import SourceError
from engine.schema import TS_NS
from engine.sources.stamp_types import NAIVE, Reading, Stamps, as_stamps

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

SECOND_NS = 1_000_000_000
DAY_S, YEAR_S = 86_400, 31_556_952
SAMPLE_S = 6 * 3600  # no zone changes its offset twice within it
BREAKS_TO_ROWS = 10  # where more than one row in so many goes back by a repeated hour, rows are in no order
LATE_NS = 60 * SECOND_NS  # ticks come late by less
SILENCES = 2  # times the longest silence around the hour
FAR_S = 2**33  # before and after every instant that nanoseconds can hold


class LocalPeriods(NamedTuple):
    """Per local time: the first and the last offset (ns east of UTC) under which the zone's clocks show it.

    Attributes
    ----------
    first, last : array of int
        Equal where the time is shown once; `first` is the earlier instant.
    skipped : array of bool
        The clock skips the time; `first` and `last` mean nothing.
    first_period, last_period : array of int
        Numbers of the periods of `offset_periods`.
    """

    first: Ints
    last: Ints
    skipped: Flags
    first_period: Ints
    last_period: Ints


def localized(naive: pl.Series, zone: str, series: pl.Series | None = None, *, is_bars: bool = False) -> Stamps:
    """UTC instants of local times: skipped ones are refused; repeated ones are told apart by `second_pass`, or refused.

    Parameters
    ----------
    naive : Series of Datetime without zone
        In file order.
    zone : str
        IANA name.
    series : Series, optional
        Symbol (and side) of each row; direction and order are looked at within one.
    is_bars : bool
        A local time that comes twice is the second pass, not a repetition.
    """
    if naive.null_count() == len(naive):
        return as_stamps(naive.dt.replace_time_zone("UTC"))
    local = naive.cast(NAIVE).to_physical()
    at = (local.fill_null(local.min()) if naive.null_count() else local).to_numpy()
    found = period_of_local_times(at, zone)
    offset = found.first
    twice = ~found.skipped & (found.first != found.last)
    if naive.null_count():
        twice &= naive.is_not_null().to_numpy()
    notes: list[str] = []
    undecided = None
    if twice.any():
        width = int((found.first - found.last)[twice].max())
        late, untold, undecided = second_pass(naive, pl.Series(twice), series, width, is_bars=is_bars)
        offset = np.where(late, found.last, found.first)
        notes.append(
            f"{int(twice.sum())} local times that {zone} shows twice: {int(late.sum())} were read as the second pass, "
            f"{int((twice & ~late & ~undecided).sum())} as the first"
            + (f", {int(untold.sum())} of them because no step back tells" if untold.any() else "")
        )
    ts = pl.Series("ts", at - offset).cast(TS_NS)
    refused = refusals(naive, zone, found.skipped, undecided)
    if refused is not None:
        ts = ts.zip_with(refused.is_null(), ts.clear(1))
    if naive.null_count():
        ts = ts.zip_with(naive.is_not_null(), ts.clear(1))
    return as_stamps(ts, refused, *notes)


def local_to_utc(naive: pl.Series, reading: Reading, series: pl.Series | None, *notes: str) -> Stamps:
    """UTC instants of local times in `reading.zone` (`localized`), with notes; SourceError when no zone is known."""
    if reading.zone is None:
        advice = " or ".join(f"--timezone {zone}" for zone in reading.zones_of_name)
        raise SourceError(
            reading.path,
            f"{reading.column}: stamps carry no zone; give {advice or '--timezone (America/New_York, UTC, UTC-05)'}",
        )
    found = localized(naive, reading.zone, series, is_bars=reading.is_bars)
    return Stamps(found.ts, found.refused, notes=(*notes, *found.notes))


def dates_to_utc(midnights: pl.Series, reading: Reading) -> Stamps:
    """First instants of dates in the reading's zone (default UTC) as UTC; sets `dates_only` and adds a note."""
    # A date names a trade date, whatever the zone: midnight in UTC keeps it.
    zone = reading.zone or "UTC"
    ts = localized(midnights, zone).ts
    if (
        ts.is_null() & midnights.is_not_null()
    ).any():  # the clock skips midnight: the day begins 24 hours after the last one
        ts = pl.select(
            pl.coalesce(ts, localized(midnights.dt.offset_by("-1d"), zone).ts.dt.offset_by("24h"))
        ).to_series()
    return as_stamps(ts, None, f"{reading.column}: dates without a time", dates_only=True)


def letters_to_utc(
    naive: pl.Series, letters: pl.Series, zone: str, series: pl.Series | None, *, is_bars: bool
) -> Stamps | None:
    """UTC instants of local times (none null) by letters (`EST`, `EDT`); None if the zone has not these at all of them.

    A zone of one fixed offset without letters of its own (`UTC-05`) takes any, if they are the same in all rows. None is
    returned if some time is not shown with its letters by the zone's clocks.
    """
    at = naive.cast(NAIVE).to_physical().to_numpy()
    found = period_of_local_times(at, zone)
    shown = pl.Series(period_letters(zone, *years_of(at)))
    if len(shown) == 1 and not shown.str.contains("[A-Z]").any():
        return localized(naive, zone, series, is_bars=is_bars) if letters.n_unique() == 1 else None
    last = np.minimum(found.first_period, len(shown) - 1)
    is_first = (shown.gather(last) == letters).to_numpy() & ~found.skipped
    is_last = (shown.gather(found.last_period) == letters).to_numpy() & ~found.skipped
    if not (is_first | is_last).all():
        return None
    return as_stamps(pl.Series("ts", at - np.where(is_first, found.first, found.last)).cast(TS_NS))


def refusals(naive: pl.Series, zone: str, skipped: Flags, undecided: Flags | None) -> pl.Series | None:
    """Reason per row whose local time is skipped or cannot be told apart, null for others; None if there is none."""
    reasons = [(skipped, f"does not exist in {zone} (the clock skips it)")]
    if undecided is not None:
        reasons.append((undecided, f"is shown twice by {zone}, and the order of the rows does not tell which it is"))
    told = [(pl.Series(mask) & naive.is_not_null(), why) for mask, why in reasons if mask.any()]
    if not told:
        return None
    shown = naive.dt.to_string("%Y-%m-%d %H:%M:%S")
    return pl.select(
        pl.coalesce([pl.when(mask).then(pl.format(f"ts: {{}} {why}", shown)) for mask, why in told])
    ).to_series()


def period_of_local_times(local: Ints, zone: str) -> LocalPeriods:
    """Offsets of local times (ns) in a zone: the same one twice, two where they are repeated, `skipped` where none."""
    starts, offsets = offset_periods(zone, *years_of(local))
    if len(offsets) == 1:
        offset, period = np.full(len(local), offsets[0] * SECOND_NS), np.zeros(len(local), np.int64)
        return LocalPeriods(offset, offset, np.zeros(len(local), np.bool_), period, period)
    ends = np.append(starts[1:], FAR_S) + offsets
    first = np.searchsorted(ends * SECOND_NS, local, side="right")
    last = np.searchsorted((starts + offsets)[1:] * SECOND_NS, local, side="right")
    offset_ns = offsets * SECOND_NS
    return LocalPeriods(offset_ns[np.minimum(first, len(offsets) - 1)], offset_ns[last], first > last, first, last)


def years_of(local: Ints) -> tuple[int, int]:
    """First and last year of times in ns since 1970, give or take a day."""
    return 1970 + int(local.min()) // (YEAR_S * SECOND_NS), 1970 + int(local.max()) // (YEAR_S * SECOND_NS)


def period_letters(zone: str, first_year: int, last_year: int) -> list[str]:
    """Letters that a zone's clocks are named by (`EST`, `EDT`; `-05` without any) in each of its `offset_periods`."""
    starts, _ = offset_periods(zone, first_year, last_year)
    inside = np.append((first_year - 1970) * YEAR_S - 3 * DAY_S, starts[1:])
    shown = pl.Series(inside * 1000).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(zone)
    return shown.dt.strftime("%Z").to_list()


@lru_cache(maxsize=512)
def offset_periods(zone: str, first_year: int, last_year: int) -> tuple[Ints, Ints]:
    """(instants in s from which each offset of a zone holds, offsets in s east), ascending, over these years and a bit.

    The first instant is before every stamp.
    """
    first, last = ((year - 1970) * YEAR_S for year in (first_year, last_year + 1))
    sampled = np.arange(first - 3 * DAY_S, last + 3 * DAY_S, SAMPLE_S)
    offsets = utc_offsets_of(sampled, zone)
    at = np.flatnonzero(np.diff(offsets))
    before, after = sampled[at], sampled[at + 1]
    while (after - before > 1).any():
        middle = (before + after) // 2
        is_before = utc_offsets_of(middle, zone) == offsets[at]
        before, after = np.where(is_before, middle, before), np.where(is_before, after, middle)
    return np.concatenate([[-FAR_S], after]), np.concatenate([offsets[:1], offsets[at + 1]])


def utc_offsets_of(instants: Ints, zone: str) -> Ints:
    """Offset of a zone in seconds east of UTC at each instant (s since 1970)."""
    shown = pl.Series(instants * 1000).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(zone)
    offset: Ints = shown.dt.replace_time_zone(None).to_physical().to_numpy() // 1000 - instants
    return offset


def second_pass(
    naive: pl.Series, twice: pl.Series, series: pl.Series | None, width: int, *, is_bars: bool
) -> tuple[Flags, Flags, Flags]:
    """Masks over all rows: repeated and in the second pass; in the first for want of a step back; told by nothing.

    In order of time, per series, day and run (rows between steps back of a whole repeated hour or more), the second
    pass begins with the largest step back within the hour (bars: or an equal stamp), if it is larger than each one
    outside of the hour. A short one must not mean a silence such as there is no other around: ticks that come a moment
    late are no second pass.

    Parameters
    ----------
    naive : Series of Datetime without zone
        In file order.
    twice : Series of Boolean
        Rows whose local time the clock shows twice.
    series : Series or None
        Symbol (and side) of each row.
    width : int
        Of the repeated hour, in ns.
    is_bars : bool
        An equal stamp is a step back too.
    """
    names = pl.lit("") if series is None else series
    frame = pl.DataFrame({"at": naive.cast(NAIVE).to_physical(), "day": naive.dt.date(), "twice": twice})
    frame = frame.with_columns(names.alias("series")).with_row_index("row").drop_nulls("at")
    rows = oriented(frame)
    day = ["series", "day"]
    step, both = pl.col("at").diff(), pl.col("twice") & pl.col("twice").shift(1)
    rows = rows.with_columns(
        (-step).over(day).alias("back"),
        both.over(day).alias("both"),
        (step <= -width).over(day).fill_null(value=False).alias("breaks"),
    )
    rows = rows.with_columns(
        pl.col("breaks").cum_sum().over(day).alias("run"),
        (pl.col("breaks").sum().over(day) * BREAKS_TO_ROWS > pl.len().over(day)).alias("disordered"),
    )
    run = [*day, "run"]
    elsewhere = pl.when(~pl.col("both") & ~pl.col("breaks")).then("back").max().over(run)
    near = pl.col("twice") | pl.col("twice").shift(1)
    rows = rows.with_columns(
        elsewhere.fill_null(-1).clip(-1 if is_bars else 0).alias("jitter"),
        pl.when(near).then(-pl.col("back")).max().over(run).fill_null(0).alias("silence"),
    ).filter("twice")
    # A row outside of the hour between two within it is no step of theirs.
    rows = rows.with_columns((-pl.col("at").diff()).over(run).alias("back"))
    largest = pl.col("back").max().over(run)
    far_back = pl.col("back") * 2 > width
    is_likely = (pl.col("back") >= LATE_NS) | (width - pl.col("back") <= SILENCES * pl.col("silence")) | is_bars
    begins = (pl.col("back") == largest) & (pl.col("back") > pl.col("jitter")) & is_likely
    rows = rows.with_columns(
        (begins.fill_null(value=False).cum_sum().over(run) > 0).alias("late"),
        (~begins.fill_null(value=False).any().over(run)).alias("untold"),
        (
            pl.col("disordered")
            | (far_back.sum().over(run) > 1)
            | (far_back & (pl.col("back") <= pl.col("jitter"))).any().over(run)
        ).alias("undecided"),
    )
    masks = {name: np.zeros(len(naive), np.bool_) for name in ("late", "untold", "undecided")}
    for name, mask in masks.items():
        mask[rows["row"].to_numpy()] = rows[name].to_numpy()
    decided = ~masks["undecided"]
    return masks["late"] & decided, masks["untold"] & decided, masks["undecided"]


def oriented(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows (`row, series, day, at, twice`) of days with a repeated hour, each series and day in the order of time.

    The direction of a day is that of most steps with an end outside of the repeated hour, else that of the series, else
    that of the steps within the hour, else forward.
    """
    hours = frame.filter("twice").select("series", "day").unique()
    ups = pl.col("at").diff().sign()
    overall = frame.join(hours, on="series", how="semi").group_by("series").agg(ups.sum().alias("overall"))
    days = frame.join(hours, on=["series", "day"], how="semi", maintain_order="left").join(overall, on="series")
    both = pl.col("twice") & pl.col("twice").shift(1)
    directions = days.group_by("series", "day", maintain_order=True).agg(
        pl.when(~both).then(ups).sum().alias("around"),
        pl.when(both).then(ups).sum().alias("within"),
        pl.col("overall").first(),
    )
    told = pl.coalesce(pl.col(name).replace(0, None) for name in ("around", "overall", "within")).fill_null(1).sign()
    directed = days.drop("overall").join(directions.select("series", "day", told.alias("way")), on=["series", "day"])
    return directed.sort("series", "day", pl.col("row").cast(pl.Int64) * pl.col("way"))
