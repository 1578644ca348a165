"""Hours of a venue as values, and the segments they make: weekly hours, and overrides of any segments.

1. `weekly_spans` turns weekly hours into segments, one Polars expression per span of the week.
2. `amend` applies holidays and overrides to the segments of any calendar.

Local times become instants in `instant`: a time that occurs twice (clocks set back) is its first occurrence,
one that is skipped (clocks set forward) is taken an hour later. A close and the next open at the same local
time are therefore always the same instant.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from engine.calendars.auctions import AUCTION
from engine.calendars.holidays import holiday_dates
from engine.calendars.interruptions import Interruption
from engine.schema import TS

SPANS: Mapping[str, pl.DataType] = {
    "session": pl.Date(),
    "segment": pl.String(),
    "segment_open": TS,
    "segment_close": TS,
}


@dataclass(frozen=True)
class WallTime:
    """A time of day, `day` days after the trade date (-1: the day before); `zone` empty: the calendar's zone."""

    seconds: int
    day: int
    zone: str


@dataclass(frozen=True)
class Span:
    """A segment of one label, in wall times."""

    label: str
    open: WallTime
    close: WallTime


@dataclass(frozen=True)
class Scope:
    """The trade dates that a rule is about: weekdays (0 is Monday) in a range, holidays among them, or listed dates."""

    days: tuple[int, ...] = tuple(range(7))
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None
    dates: tuple[dt.date, ...] = ()
    on: tuple[str, ...] = ()

    def holds(self) -> pl.Expr:
        """Expression: `session` is a listed date or, without a list, a weekday and (with `on`) a holiday in the range."""
        session = pl.col("session")
        if self.dates:
            return session.is_in(list(self.dates))
        tests = [(session.dt.weekday() - 1).is_in(list(self.days))]
        tests += [session.is_in(list(holiday_dates(self.on)))] if self.on else []
        tests += [session >= self.valid_from] if self.valid_from else []
        tests += [session <= self.valid_to] if self.valid_to else []
        return pl.all_horizontal(tests)


@dataclass(frozen=True)
class Hours:
    """Weekly hours of the trade dates in scope."""

    scope: Scope
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Override:
    """What is different on the trade dates in scope."""

    scope: Scope
    closed: bool = False
    spans: tuple[Span, ...] = ()
    open: WallTime | None = None
    close: WallTime | None = None
    pause: Span | None = None
    move: tuple[tuple[WallTime, WallTime], ...] = ()
    halt: Span | None = None
    next_trade_date: bool = False


@dataclass(frozen=True)
class Amendments:
    """Holidays, overrides and interruptions, and the hash (first 16 digits of SHA-256) of the file they came from."""

    holidays: tuple[dt.date, ...]
    overrides: tuple[Override, ...]
    digest: str
    interruptions: tuple[Interruption, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Distinct segment labels of the overrides' own hours, in order."""
        return labels_of(override.spans for override in self.overrides)

    @property
    def across_dates(self) -> bool:
        """Whether an override reaches from one trade date into another, so that days before a range matter to it."""
        return any(override.next_trade_date or override.halt for override in self.overrides)


def weekly_spans(hours: tuple[Hours, ...], zone: str, first: dt.date, last: dt.date) -> pl.DataFrame:
    """Unsorted `session, segment, segment_open, segment_close` of `first` to `last` inclusive by all matching rules."""
    days = dates(first, last)
    return pl.concat(
        [empty_spans(), *(spans_on_days(days.filter(rule.scope.holds()), rule.spans, zone) for rule in hours)]
    )


def amend(
    spans: pl.DataFrame, amendments: Amendments, zone: str, regular: frozenset[str], days: pl.DataFrame
) -> pl.DataFrame:
    """Unsorted segments without holidays, then changed by every override in file order; an override may reopen a holiday.

    Parameters
    ----------
    spans : DataFrame
        Columns `SPANS`.
    zone : str
        Zone of the wall times that name none.
    regular : frozenset of str
        Labels whose first open and last close `open` and `close` speak of.
    days : DataFrame
        Column `session`: every date in question, also those without a segment.
    """
    open_days = spans.filter(~pl.col("session").is_in(list(amendments.holidays)))

    for override in amendments.overrides:
        open_days = apply_override(open_days, override, days, zone, regular)
    return open_days


def instant(day: pl.Expr, time: WallTime, zone: str) -> pl.Expr:
    """UTC instant (Datetime[us]) of a wall time on a trade date, in its own zone, else in `zone`; DST by `local_to_utc`."""
    return local_to_utc(
        day.cast(pl.Datetime("us")) + pl.duration(days=time.day, seconds=time.seconds), time.zone or zone
    )


def dates(first: dt.date, last: dt.date) -> pl.DataFrame:
    """Frame with one column `session`: every date from `first` to `last`, both included."""
    return pl.DataFrame({"session": pl.date_range(first, last, "1d", eager=True)})


def empty_spans() -> pl.DataFrame:
    """Empty frame with the columns `session, segment, segment_open, segment_close`."""
    return pl.DataFrame(schema=dict(SPANS))


def spans_between(frame: pl.DataFrame, label: str, begin: str | pl.Expr, end: str | pl.Expr) -> pl.DataFrame:
    """One segment (labelled) per row from `begin` to `end`; those of no or negative length or a null end are dropped."""
    made = segment_rows(frame, label, *(pl.col(at) if isinstance(at, str) else at for at in (begin, end)))
    return made.filter(pl.col("segment_open") < pl.col("segment_close"))


def around_break(frame: pl.DataFrame, label: str, begin: str, end: str) -> pl.DataFrame:
    """Segments of a library's schedule, one per row, two where its break has a length and begins before the close."""
    if "break_start" not in frame.columns:
        return spans_between(frame, label, begin, end)
    # Libraries write "no break" as null, as one of no length, and as one that begins at the close.
    has_break = (pl.col("break_start") < pl.col("break_end")) & (pl.col("break_start") < pl.col(end))
    whole = frame.filter(has_break.not_().fill_null(value=True))
    split = frame.filter(has_break)
    parts = [spans_between(whole, label, begin, end), spans_between(split, label, begin, "break_start")]
    return pl.concat([*parts, spans_between(split, label, "break_end", end)])


def us_extended(regular: pl.DataFrame) -> pl.DataFrame:
    """Only the PRE (from 04:00), POST (to 20:00; 17:00 on early closes), OVERNIGHT (20:00-04:00) around US sessions.

    PRE is 04:00 to the open, POST the close to 20:00 (to 17:00 after a close at or before 13:00), OVERNIGHT 20:00 of
    the evening before to 04:00, in the trade date that follows: Sunday evening belongs to Monday.
    """
    zone = "America/New_York"

    def at(hour: int, day: int = 0) -> pl.Expr:
        return instant(pl.col("session"), WallTime(hour * 3600, day, ""), zone)

    early = pl.col("segment_close") <= at(13)
    post_close = pl.when(early).then(at(17)).otherwise(at(20))
    return pl.concat(
        [
            spans_between(regular, "PRE", at(4), "segment_open"),
            spans_between(regular, "POST", "segment_close", post_close),
            spans_between(regular, "OVERNIGHT", at(20, -1), at(4)),
        ]
    )


def labels_of(groups: Iterable[tuple[Span, ...]]) -> tuple[str, ...]:
    """Distinct labels of all spans, in order of first occurrence."""
    return tuple(dict.fromkeys(span.label for spans in groups for span in spans))


def spans_on_days(days: pl.DataFrame, spans: tuple[Span, ...], zone: str) -> pl.DataFrame:
    """Segments of every span on every `session` of `days`; those without ends (skipped dates) are dropped."""
    session = pl.col("session")
    parts = [
        segment_rows(days, span.label, instant(session, span.open, zone), instant(session, span.close, zone))
        for span in spans
    ]
    # A date that a zone skipped (Samoa, 2011-12-30) has neither; a span that closes first is the calendar's to report.
    nowhere = pl.col("segment_open").is_null() & pl.col("segment_close").is_null()
    return pl.concat([empty_spans(), *parts]).filter(~nowhere)


def segment_rows(frame: pl.DataFrame, label: str, opens: pl.Expr, closes: pl.Expr) -> pl.DataFrame:
    """One segment per row: `session`, `segment` (the label), `segment_open`, `segment_close`; no row is dropped."""
    return frame.select(
        "session",
        pl.lit(label).alias("segment"),
        opens.cast(TS).alias("segment_open"),
        closes.cast(TS).alias("segment_close"),
    )


def apply_override(
    frame: pl.DataFrame, override: Override, days: pl.DataFrame, zone: str, regular: frozenset[str]
) -> pl.DataFrame:
    """Segments after an override: dates in scope are closed, get other hours (listed ones always), or changed times."""
    touched = override.scope.holds()
    if override.halt:
        frame = cut_halt(frame, override.halt, days.filter(touched)["session"], zone)
    rest, changed = frame.filter(~touched), frame.filter(touched)
    if override.closed:
        return rest
    if override.spans:
        # Listed dates become sessions even if they were none; a range only changes sessions that there are.
        known = days.filter(touched) if override.scope.dates else changed.select("session").unique()
        return pl.concat([rest, spans_on_days(known, override.spans, zone)])
    whole = pl.concat([rest, change_segments(changed, override, zone, regular)])
    return give_to_next_trade_date(whole, touched) if override.next_trade_date else whole


def give_to_next_trade_date(frame: pl.DataFrame, touched: pl.Expr) -> pl.DataFrame:
    """Segments by open; those of touched sessions get the next session that is not touched, dropped where none follows."""
    session = pl.when(~touched).then("session").backward_fill()
    return frame.sort("segment_open").with_columns(session.alias("session")).drop_nulls("session").select(list(SPANS))


def cut_halt(frame: pl.DataFrame, halt: Span, halted: pl.Series, zone: str) -> pl.DataFrame:
    """Segments, of any trade date and unsorted, without the halt's hours of these CIVIL dates of `zone`; one may become two."""
    if frame.is_empty() or halted.is_empty():
        return frame
    opens, closes = pl.col("segment_open"), pl.col("segment_close")
    frame = frame.with_columns(opens.dt.convert_time_zone(zone).dt.date().alias("opened"))
    longest = int(frame.select((closes - opens).dt.total_days().max()).item()) + 1
    for later in range(longest + 1):
        day = pl.col("opened") + pl.duration(days=later)
        begin, end = (instant(day, time, zone).cast(TS) for time in (halt.open, halt.close))
        hit = day.is_in(halted.to_list()) & (opens < end) & (closes > begin)
        whole, parted = frame.filter(~hit), frame.filter(hit)
        before = parted.with_columns(pl.min_horizontal(closes, begin).alias("segment_close"))
        after = parted.with_columns(pl.max_horizontal(opens, end).alias("segment_open"))
        frame = pl.concat([whole, before.filter(opens < closes), after.filter(opens < closes)])
    return frame.drop("opened")


def change_segments(frame: pl.DataFrame, override: Override, zone: str, regular: frozenset[str]) -> pl.DataFrame:
    """Segments with an override's moves, new open, new close, then pause applied, in this order."""
    if override.move:
        frame = frame.with_columns(move_times(name, override.move, zone) for name in ("segment_open", "segment_close"))
    if override.open:
        frame = set_open(frame, instant(pl.col("session"), override.open, zone), pl.col("segment").is_in(list(regular)))
    if override.close:
        frame = set_close(
            frame, instant(pl.col("session"), override.close, zone), pl.col("segment").is_in(list(regular))
        )
    return cut_pause(frame, override.pause, zone) if override.pause else frame


def set_open(frame: pl.DataFrame, new: pl.Expr, is_regular: pl.Expr) -> pl.DataFrame:
    """Set the first regular open, and regular opens before `new`, to `new`; drop those over by then; PRE ends at it."""
    opens, closes = pl.col("segment_open"), pl.col("segment_close")
    old = opens.filter(is_regular).min().over("session")
    moved = frame.with_columns(
        pl.when(is_regular & ((opens == old) | (opens < new))).then(new).otherwise(opens).alias("segment_open"),
        # What ran up to the open (PRE) runs up to the new one.
        pl.when(~is_regular & (closes == old)).then(new).otherwise(closes).alias("segment_close"),
    )
    return moved.filter(~is_regular | (opens < closes))


def set_close(frame: pl.DataFrame, new: pl.Expr, is_regular: pl.Expr) -> pl.DataFrame:
    """Set the last regular close, and regular closes after `new`, to `new`; drop those not begun by then; POST begins at it."""
    opens, closes = pl.col("segment_open"), pl.col("segment_close")
    old = closes.filter(is_regular).max().over("session")
    is_auction = (pl.col("segment") == AUCTION) & (opens >= old)
    moved = frame.with_columns(
        pl.when(is_regular & ((closes == old) | (closes > new)))
        .then(new)
        .when(is_auction)
        .then(closes + (new - old))
        .otherwise(closes)
        .alias("segment_close"),
        # What began at the close (POST) begins at the new one; an auction behind it is as long as ever.
        pl.when(is_auction)
        .then(opens + (new - old))
        .when(~is_regular & (opens == old))
        .then(new)
        .otherwise(opens)
        .alias("segment_open"),
    )
    return moved.filter(~is_regular | (opens < closes))


def cut_pause(frame: pl.DataFrame, pause: Span, zone: str) -> pl.DataFrame:
    """Segments of any label, unsorted, less the pause of their trade date: one around it becomes two, one inside is dropped."""
    begin, end = (instant(pl.col("session"), time, zone) for time in (pause.open, pause.close))
    before = frame.with_columns(pl.min_horizontal("segment_close", begin).alias("segment_close"))
    after = frame.with_columns(pl.max_horizontal("segment_open", end).alias("segment_open"))
    return pl.concat([before, after]).filter(pl.col("segment_open") < pl.col("segment_close"))


def move_times(name: str, move: tuple[tuple[WallTime, WallTime], ...], zone: str) -> pl.Expr:
    """Expression of an instant column: each old local time of day becomes its new one on the same date; last match wins."""
    local = pl.col(name).dt.convert_time_zone(zone).dt.replace_time_zone(None)
    midnight = local.dt.truncate("1d")
    since = (local - midnight).dt.total_seconds()
    moved = pl.col(name)
    for old, new in move:
        at = local_to_utc(midnight + pl.duration(seconds=new.seconds), zone)
        moved = pl.when(since == old.seconds).then(at).otherwise(moved)
    return moved.alias(name)


def local_to_utc(local: pl.Expr, zone: str) -> pl.Expr:
    """UTC instant of a local time: first occurrence of a repeated one; a skipped one an hour later, null if that is skipped."""

    def at(wall_clock: pl.Expr) -> pl.Expr:
        known = wall_clock.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        return known.dt.convert_time_zone("UTC")

    return at(local).fill_null(at(local + pl.duration(hours=1)))
