"""The session grid: the one axis that places, gaps, windows and completeness are all read from.

1. A calendar gives segments, half-open spans `[open, close)` in UTC (`SessionCalendar.segments`).
2. Each segment is cut into slots of one step from its open, or from the clock (`lead`); the last one ends
   at the close (`SessionGrid.build`). Days, weeks and months are segments of one slot (`_periods`).
3. A row's place is the pair (segment ordinal, slot in segment): `SessionGrid.place`.
4. A coarser interval is a coarser cut of the same segments: `SessionGrid.at`, `SessionGrid.windows`.

An ordinal is a function of the trade date alone (days since 1970 times 16, plus the segment's position in
its session), so more history or another range never renumbers a row.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.display import Summarized, Summary
from engine.errors import ParameterError
from engine.interval import Interval
from engine.schema import SEGMENTS, SEGMENTS_PER_SESSION, TS, select_schema, session_ordinal

Align = Literal["session", "clock", "date"]
Stamp = Literal["start", "end", "end-inclusive"]
Ints = NDArray[np.int64]

PLACE = {"session": pl.Date(), "ordinal": pl.Int32(), "slot": pl.Int32()}
DAY_US = 86_400_000_000
DUES_KEPT = 4  # instants
ROWS_PER_STRIDE = 4  # fewer, and it takes longer to look for strides than to place each row
LEAST_ROWS_TO_STRIDE = 64
SHOWN_SEGMENTS = 3
END_INCLUSIVE_SLACK_US = 1_000_000  # vendors write the last second, millisecond or microsecond of a bar


class _Places(NamedTuple):
    session: NDArray[np.int32]
    ordinal: NDArray[np.int32]
    slot: NDArray[np.int32]
    inside: NDArray[np.bool_]
    in_slot: NDArray[np.bool_]


@dataclass(frozen=True)
class GridSpec:
    """Which axis a symbol lives on.

    Attributes
    ----------
    calendar : str
        Code of the calendar.
    segments : tuple of str
        Labels whose slots are expected; empty means the calendar's regular ones.
    align : {"session", "clock", "date"}
        Where slots begin: at each segment's open, on a zone's wall clock, or once per trade date.
    zone : str
        The wall clock of `clock` and the dates of `date`.
    """

    calendar: str
    segments: tuple[str, ...] = ()
    align: Align = "session"
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.align not in get_args(Align):
            raise ParameterError(f"align: received {self.align!r}; valid: {', '.join(get_args(Align))}")


@dataclass(frozen=True, repr=False)
class SessionGrid(Summarized):
    """Slots of one interval over the segments of one calendar.

    Attributes
    ----------
    spec : GridSpec
        The axis.
    interval : Interval
        The step.
    segments : DataFrame
        Every segment of the calendar in range, as the calendar gave them (`schema.SEGMENTS`).
    table : DataFrame
        The cut: `session, ordinal, segment, open, close, regular, chosen, lead, slots, first_session`,
        sorted by `open`. `lead` (microseconds) is how far the open lies behind the clock's boundary,
        `slots` (Int32) how many slots the segment has. For 1d, 1w and 1mo a row is a period of one slot.
    """

    spec: GridSpec
    interval: Interval
    segments: pl.DataFrame
    table: pl.DataFrame
    _others: dict[Interval, SessionGrid] = field(default_factory=dict, repr=False, compare=False)
    _dues: dict[dt.datetime | None, pl.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(cls, segments: pl.DataFrame, interval: Interval | str, spec: GridSpec) -> SessionGrid:
        """Cut segments into slots.

        Parameters
        ----------
        segments : DataFrame
            `schema.SEGMENTS`, sorted by open, not overlapping.
        interval : Interval or str
            The step.
        spec : GridSpec
            Which segments are expected, and how slots are aligned.

        Raises
        ------
        ParameterError
            A chosen label is none of the calendar's, or the step does not divide a day (clock alignment).
        """
        interval = Interval.parse(interval)
        segments = select_schema(segments, SEGMENTS, "segments")
        _check_segments(segments)
        cut = _cut(_chosen(segments, spec), interval, spec)
        return cls(spec, interval, segments, cut if interval.is_intraday else _periods(cut, interval))

    def at(self, interval: Interval) -> SessionGrid:
        """The same axis cut at another step."""
        if interval == self.interval:
            return self
        if interval not in self._others:
            self._others[interval] = SessionGrid.build(self.segments, interval, self.spec)
        return self._others[interval]

    def place(self, ts: pl.Series, *, exact: bool = True) -> pl.DataFrame:
        """Where each stamp lies.

        Parameters
        ----------
        ts : Series of Datetime[us, UTC]
            Bar starts (`exact`), or instants of ticks and quotes (not `exact`). In any order.
        exact : bool
            A stamp inside a slot, not at its start, has no slot.

        Returns
        -------
        DataFrame of `session` (Date), `ordinal` (Int32), `slot` (Int32)
            One row per stamp. Outside every segment: `ordinal` and `slot` null, `session` the nearest
            trade date. In a segment that is not chosen, or off the grid: `slot` null.
        """
        at = _micros(ts)
        begins = _strides(at, self._step) if exact else None
        found = self._placed(at, exact=exact) if begins is None else self._placed_by_stride(at, begins)
        return pl.DataFrame(
            {
                "session": pl.Series(found.session).cast(pl.Date),
                "ordinal": _masked(found.ordinal, found.inside),
                "slot": _masked(found.slot, found.in_slot),
            }
        )

    def starts(self, ordinal: pl.Series, slot: pl.Series) -> pl.Series:
        """Inclusive start of each slot, Datetime[us, UTC]."""
        row = self._rows(ordinal)
        begin = self._origins[row] + slot.to_numpy() * np.int64(self._step)
        return _instants(np.maximum(begin, self._opens[row]), "ts")

    def ends(self, ordinal: pl.Series, slot: pl.Series) -> pl.Series:
        """Exclusive end of each slot, cut at the segment's close, Datetime[us, UTC]."""
        row = self._rows(ordinal)
        end = (self._origins + self._step)[row] + slot.to_numpy() * np.int64(self._step)
        return _instants(np.minimum(end, self._closes[row]), "ts_end")

    def from_stamps(self, ts: pl.Series, stamp: Stamp = "start") -> pl.Series:
        """Bar starts from a vendor's stamps.

        A stamp at a bar's end is looked up as the slot that ends there (the last slot of a segment may be
        short, so subtracting the step would be wrong). `clock` stamps before a late open, and the date stamps
        of `date`, move to the open they stand for. A stamp that is no slot's stays off the grid.

        Parameters
        ----------
        ts : Series of Datetime[us, UTC]
        stamp : {"start", "end", "end-inclusive"}
            What the vendor stamps: the first instant, the first instant after, or the last one within.
        """
        if stamp not in get_args(Stamp):
            raise ParameterError(f"stamp: received {stamp!r}; valid: {', '.join(get_args(Stamp))}")
        if not self.interval.is_intraday:
            return self._from_dates(ts, stamp)
        at = _micros(ts)
        if stamp == "start":
            return _instants(self._clock_starts(at), ts.name)
        return _instants(self._ended(at, stamp), ts.name)

    def sessions(self, ordinal: pl.Series) -> pl.Series:
        """Trade date of each segment or period (of a week or month: its last scheduled session), Date."""
        return pl.Series("session", self._days.astype(np.int32)[self._rows(ordinal)]).cast(pl.Date)

    def slots_at(self, ordinal: pl.Series, ts: pl.Series) -> pl.Series:
        """Slot of each segment that holds an instant, Int32: 0 before its open, beyond its last one after its close."""
        row = self._rows(ordinal)
        past = _micros(ts) - self._origins[row]
        return pl.Series(ts.name, np.clip(past // self._step, 0, 2**31 - 1).astype(np.int32))

    def periods_of(self, sessions: pl.Series) -> pl.Series:
        """The day, week or month that each trade date belongs to: its last scheduled session, Date."""
        days = sessions.cast(pl.Int32).to_numpy()
        period = np.maximum(np.searchsorted(self._first_days, days, side="right") - 1, 0)
        return pl.Series(sessions.name, self._days.astype(np.int32)[period]).cast(pl.Date)

    def windows(self, places: pl.DataFrame, coarser: SessionGrid) -> pl.DataFrame:
        """The place in `coarser` of each place here.

        Parameters
        ----------
        places : DataFrame with `ordinal` and `slot` (Int32, no nulls)
        coarser : SessionGrid
            The same axis at a step made of whole steps of this one, or a day, week or month.

        Returns
        -------
        DataFrame of `ordinal` and `slot` (Int32)
            Both null where the row belongs to no window (1d folds regular segments only).
        """
        if coarser.interval.is_intraday:
            return self._intraday_windows(places, coarser)
        ordinal = places["ordinal"].to_numpy()
        period = np.searchsorted(coarser._first_days, ordinal // SEGMENTS_PER_SESSION, side="right") - 1
        folded = np.ones(len(ordinal), bool)
        if self.interval.is_intraday and not self._folded_daily.all():
            folded = self._folded_daily[self._rows(places["ordinal"])]
        return pl.DataFrame(
            {
                "ordinal": _masked(coarser._ordinals[period], folded),
                "slot": _masked(np.zeros(len(period), np.int64), folded),
            }
        )

    def slots_in(self, places: pl.DataFrame, finer: SessionGrid) -> pl.Series:
        """How many slots of `finer` each place of this grid holds, Int32."""
        row = self._rows(places["ordinal"])
        if not self.interval.is_intraday:
            return pl.Series("n_expected", self._held(finer).astype(np.int32)[row])
        ratio = np.int32(self._step // finer._step)
        ahead = ((self._leads - finer._leads) // finer._step).astype(np.int32)[row]
        first = places["slot"].to_numpy() * ratio - ahead
        last = np.minimum(first + ratio, finer._slots.astype(np.int32)[row])
        return pl.Series("n_expected", last - np.maximum(first, 0))

    def due(self, as_of: dt.datetime | None = None) -> pl.DataFrame:
        """Chosen segments and how many of their slots are over at `as_of` (all of them, when None).

        Returns
        -------
        DataFrame of `ordinal, session, first_session, segment, slots` (Int32), sorted by `ordinal`
        """
        # Asked for several times a step: of the step's own instant, and of the one before.
        found = self._dues.get(as_of)
        if found is None:
            if len(self._dues) >= DUES_KEPT:
                self._dues.clear()
            found = self._dues[as_of] = self._due(as_of)
        return found

    def _due(self, as_of: dt.datetime | None) -> pl.DataFrame:
        slots = self._slots
        if as_of is not None:
            now = int(_micros(pl.Series([as_of]).cast(TS))[0])
            full = now >= self._closes
            over = (now - self._opens + self._leads) // self._step
            slots = np.where(full, slots, np.clip(over, 0, np.maximum(slots - 1, 0)))
        return self._chosen_table.hstack([pl.Series("slots", slots.astype(np.int32)[self._chosen])])

    def _summary(self) -> Summary:
        chosen = self.table.filter("chosen")
        sessions = chosen["session"].unique().sort()
        facts = {
            "sessions": f"{len(sessions):,}, {sessions[0]} to {sessions[-1]}" if len(sessions) else "none",
            "slots": int(chosen["slots"].sum()), "segments": self.spec.segments or "regular",
            "aligned": f"{self.spec.align} ({self.spec.zone})" if self.spec.align != "session" else self.spec.align,
        }  # fmt: skip
        columns = ["session", "segment", "open", "close", "slots"]
        return Summary(
            f"SessionGrid {self.spec.calendar} {self.interval}", facts, columns,
            chosen.select(columns).head(SHOWN_SEGMENTS).rows(), chosen.height,
        )  # fmt: skip

    @cached_property
    def _chosen_table(self) -> pl.DataFrame:
        return self.table.filter("chosen").select("ordinal", "session", "first_session", "segment")

    @cached_property
    def _opens(self) -> Ints:
        return _micros(self.table["open"])

    @cached_property
    def _closes(self) -> Ints:
        return _micros(self.table["close"])

    @cached_property
    def _leads(self) -> Ints:
        return self.table["lead"].to_numpy()

    @cached_property
    def _origins(self) -> Ints:
        return self._opens - self._leads

    @cached_property
    def _slots(self) -> Ints:
        return self.table["slots"].to_numpy().astype(np.int64)

    @cached_property
    def _ordinals(self) -> Ints:
        return self.table["ordinal"].to_numpy().astype(np.int64)

    @cached_property
    def _days(self) -> Ints:
        return self.table["session"].cast(pl.Int32).to_numpy().astype(np.int64)

    @cached_property
    def _first_days(self) -> Ints:
        return self.table["first_session"].cast(pl.Int32).to_numpy().astype(np.int64)

    @cached_property
    def _chosen(self) -> NDArray[np.bool_]:
        return self.table["chosen"].to_numpy()

    @cached_property
    def _folded_daily(self) -> NDArray[np.bool_]:
        return self.table.select(_daily_members())["member"].to_numpy()

    @cached_property
    def _step(self) -> int:
        # A period is one slot however long, so any step beyond the longest one will do.
        return self.interval.step_us if self.interval.is_intraday else 400 * DAY_US

    @cached_property
    def _row_of(self) -> Ints:
        days = self._ordinals - self._ordinals[:1]
        row_of = np.zeros(days.max(initial=-1) + 1, np.int64)
        row_of[days] = np.arange(len(days))
        return row_of

    def _rows(self, ordinal: pl.Series) -> Ints:
        # A table by ordinal (16 entries a day): searching costs ten times as much.
        rows: Ints = self._row_of[ordinal.to_numpy() - self._ordinals[:1].astype(np.int32)]
        return rows

    def _placed(self, at: Ints, *, exact: bool) -> _Places:
        index = np.searchsorted(self._opens, at, side="right") - 1
        safe = np.maximum(index, 0)
        inside = (index >= 0) & (at < self._closes[safe])
        past = at - self._origins[safe]
        slot = past // self._step
        in_slot = inside & self._chosen[safe]
        if exact:
            begins = past == slot * self._step
            in_slot &= begins | (at == self._opens[safe]) if self._leads.any() else begins
        session = self._days.astype(np.int32)[safe]
        if not inside.all():
            session[~inside] = self._nearest_days(at[~inside], safe[~inside])
        return _Places(session, self._ordinals.astype(np.int32)[safe], slot.astype(np.int32), inside, in_slot)

    def _placed_by_stride(self, at: Ints, begins: Ints) -> _Places:
        """As `_placed`, of stamps that follow each other by one step from each of `begins` to the next."""
        size = np.diff(np.append(begins, len(at)))
        head, tail = self._placed(at[begins], exact=True), self._placed(at[begins + size - 1], exact=True)
        # Both ends in one segment: so is all between, and on the grid, or off it, as they are.
        whole = head.inside & tail.inside & (head.ordinal == tail.ordinal) & (head.in_slot == tail.in_slot)
        whole &= tail.slot - head.slot == size - 1
        found = _Places(*(np.repeat(values, size) for values in head))  # type: ignore[arg-type]
        np.add(
            found.slot, np.arange(len(at), dtype=np.int32) - np.repeat(begins.astype(np.int32), size), out=found.slot
        )
        if not whole.all():
            others = np.flatnonzero(np.repeat(~whole, size))
            for values, right in zip(found, self._placed(at[others], exact=True), strict=True):
                values[others] = right
        return found

    def _nearest_days(self, at: Ints, before: Ints) -> Ints:
        after = np.minimum(before + 1, len(self._opens) - 1)
        to_next = np.abs(self._opens[after] - at)
        to_last = np.abs(at - self._closes[before])
        # `before` is 0 for stamps ahead of the first open: that session is the nearest one.
        return np.where((to_next <= to_last) & (at >= self._opens[before]), self._days[after], self._days[before])

    def _clock_starts(self, at: Ints) -> Ints:
        if not self._leads.any():
            return at
        following = np.minimum(np.searchsorted(self._opens, at, side="right"), len(self._opens) - 1)
        boundary = self._opens[following] - self._leads[following]
        return np.where((at == boundary) & (self._leads[following] > 0), self._opens[following], at)

    def _ended(self, at: Ints, stamp: Stamp) -> Ints:
        within = at - 1 if stamp == "end" else at
        index = np.maximum(np.searchsorted(self._opens, within, side="right") - 1, 0)
        last_slot = self._slots[index] - 1
        slot = np.minimum((within - self._opens[index] + self._leads[index]) // self._step, last_slot)
        origin = self._opens[index] - self._leads[index] + slot * self._step
        cut_end = np.minimum(origin + self._step, self._closes[index])
        if stamp == "end":
            fits = (at == cut_end) | ((at == origin + self._step) & (slot == last_slot))
        else:
            fits = (cut_end > at) & (cut_end - at <= END_INCLUSIVE_SLACK_US)
        inside = (within >= self._opens[index]) & (slot >= 0)
        unplaced = at - self._step if stamp == "end" else at - self._step + 1
        return np.where(fits & inside, np.maximum(origin, self._opens[index]), unplaced)

    def _from_dates(self, ts: pl.Series, stamp: Stamp) -> pl.Series:
        at = _micros(ts)
        shown = _instants(at - 1 if stamp == "end" else at, ts.name).dt.convert_time_zone(self.spec.zone).dt.date()
        day = shown.cast(pl.Int32).to_numpy().astype(np.int64)
        # By the period's number: a week or month is stamped with its first or last day, session or not.
        numbers, number = _period_numbers(self._days, self.interval), _period_numbers(day, self.interval)
        period = np.minimum(np.searchsorted(numbers, number), len(numbers) - 1)
        fits = numbers[period] == number
        if stamp == "start":  # a Sunday may begin a vendor's week, then it is not in this one
            fits &= day <= self._days[period]
        return _instants(np.where(fits, self._opens[period], at), ts.name)

    def _intraday_windows(self, places: pl.DataFrame, coarser: SessionGrid) -> pl.DataFrame:
        slot = places["slot"].to_numpy()
        if self._leads.any() or coarser._leads.any():
            ahead = (coarser._leads - self._leads) // self._step
            slot = slot + ahead[self._rows(places["ordinal"])].astype(np.int32)
        window = (slot // np.int32(coarser._step // self._step)).astype(np.int32, copy=False)
        return pl.DataFrame([places["ordinal"], pl.Series("slot", window)])

    def _held(self, finer: SessionGrid) -> Ints:
        """Slots of `finer` in each period of this grid."""
        member = finer._folded_daily
        period = np.searchsorted(self._first_days, finer._days[member], side="right") - 1
        return np.bincount(period, weights=finer._slots[member], minlength=len(self._opens)).astype(np.int64)


def _check_segments(segments: pl.DataFrame) -> None:
    opens, closes = segments["segment_open"], segments["segment_close"]
    if (closes <= opens).any():
        raise ParameterError("segments: one closes before it opens; valid: segment_open < segment_close")
    if (opens.slice(1) < closes.slice(0, max(len(closes) - 1, 0))).any():
        raise ParameterError("segments: two overlap or are out of order; valid: sorted, disjoint spans")


def _chosen(segments: pl.DataFrame, spec: GridSpec) -> pl.DataFrame:
    known = segments["segment"].unique().to_list()
    strange = [label for label in spec.segments if label not in known]
    if strange and segments.height:
        raise ParameterError(
            f"segments: received {', '.join(strange)}; calendar {spec.calendar} has {', '.join(sorted(known))}"
        )
    is_chosen = pl.col("segment").is_in(list(spec.segments)) if spec.segments else pl.col("regular")
    return segments.with_columns(is_chosen.alias("chosen")).rename({"segment_open": "open", "segment_close": "close"})


def _cut(segments: pl.DataFrame, interval: Interval, spec: GridSpec) -> pl.DataFrame:
    if not interval.is_intraday:
        return segments.with_columns(pl.lit(0, pl.Int64).alias("lead"), pl.lit(1, pl.Int32).alias("slots"),
                                     pl.col("session").alias("first_session"))  # fmt: skip
    step = interval.step_us
    lead = pl.lit(0, pl.Int64)
    if spec.align == "clock":
        if DAY_US % step:
            raise ParameterError(f"align: clock needs a step that divides a day; received {interval}")
        local = pl.col("open").dt.convert_time_zone(spec.zone).dt.replace_time_zone(None)
        lead = local.cast(pl.Int64) % step
    length = (pl.col("close") - pl.col("open")).dt.total_microseconds() + pl.col("lead")
    return segments.with_columns(lead.alias("lead")).with_columns(
        ((length + step - 1) // step).cast(pl.Int32).alias("slots"), pl.col("session").alias("first_session")
    )


def _daily_members() -> pl.Expr:
    """Which segments a day is folded from: the chosen regular ones, or the chosen ones where none is regular."""
    regular = pl.col("regular") & pl.col("chosen")
    return pl.when(regular.any()).then(regular).otherwise(pl.col("chosen")).alias("member")


def _periods(segments: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    session = pl.col("session")
    key = {"d": session, "w": session.dt.truncate("1w"), "mo": session.dt.truncate("1mo")}[interval.unit]
    return (
        segments.filter(_daily_members())
        .group_by(key.alias("period"), maintain_order=True)
        .agg(
            session.last(),
            pl.col("open").first(),
            pl.col("close").last(),
            session.first().alias("first_session"),
        )
        .select(
            "session",
            session_ordinal(session, pl.lit(0)).alias("ordinal"),
            pl.lit(None, pl.String).alias("segment"),
            "open",
            "close",
            pl.lit(value=True).alias("regular"),
            pl.lit(value=True).alias("chosen"),
            pl.lit(0, pl.Int64).alias("lead"),
            pl.lit(1, pl.Int32).alias("slots"),
            "first_session",
        )
    )


def _period_numbers(days: Ints, interval: Interval) -> Ints:
    if interval.unit == "w":
        return (days + 3) // 7  # 1970 began on a Thursday
    if interval.unit == "mo":
        return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return days


def _micros(ts: pl.Series) -> Ints:
    # A cast to integers is a tenth of what `to_physical` costs, which shows in small frames.
    return ts.cast(TS).cast(pl.Int64).to_numpy()


def _strides(at: Ints, step: int) -> Ints | None:
    """Where stamps begin that follow each other by one step; None where few do."""
    if len(at) < LEAST_ROWS_TO_STRIDE:
        return None
    breaks = np.flatnonzero(at[1:] - at[:-1] != step)
    few = (len(breaks) + 1) * ROWS_PER_STRIDE <= len(at)
    return np.concatenate([[0], breaks + 1]) if few else None


def _instants(micros: Ints, name: str) -> pl.Series:
    return pl.Series(name, micros.astype(np.int64, copy=False)).cast(TS)


def _masked(values: NDArray[np.integer], keep: NDArray[np.bool_]) -> pl.Series:
    series = pl.Series(values.astype(np.int32, copy=False))
    return series if keep.all() else pl.select(pl.when(pl.lit(pl.Series(keep))).then(pl.lit(series))).to_series()
