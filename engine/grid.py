"""The session grid: the one axis that places, gaps, windows and completeness are all read from.

1. A calendar gives segments, half-open spans `[open, close)` in UTC (`SessionCalendar.segments`).
2. Each segment is cut into slots of one step from its open, or from the clock (`lead`); the last one ends
   at the close (`SessionGrid.build`). Days, weeks, months and years are segments of one slot (`group_into_periods`).
   A year is the longest period; so many days are counted from the first trade date of each year (`period_numbers`).
3. A row's place is the pair (segment ordinal, slot in segment): `SessionGrid.place`.
4. A coarser interval is a coarser cut of the same segments: `SessionGrid.at`, `SessionGrid.windows`.

An ordinal is a function of the trade date alone (days since 1970 times 16, plus the segment's position in
its session), so more history or another range never renumbers a row.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal, NamedTuple, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.arguments import check_arguments, check_fields, names_of, zone_name
from engine.calendars.auctions import AUCTION
from engine.display import Summarized, Summary
from engine.errors import ParameterError
from engine.interval import Interval
from engine.keys import number_ranges
from engine.schema import SEGMENTS, SEGMENTS_PER_SESSION, TS, select_schema, session_ordinal

Align = Literal["session", "clock", "date"]
Stamp = Literal["start", "end", "end-inclusive"]
DailySegments = Literal["regular", "all"]
ALL_IN_DAYS = "1d=all"  # among the labels of an axis: days fold every expected segment
Ints = NDArray[np.int64]

SLOTS = {
    "session": pl.Date(), "segment": pl.String(), "ordinal": pl.Int32(), "slot": pl.Int32(), "ts": TS, "ts_end": TS
}  # fmt: skip
PLACE = {"session": pl.Date(), "ordinal": pl.Int32(), "slot": pl.Int32()}
DAY_US = 86_400_000_000
DAYS_A_YEAR = 400  # more than a year has trade dates
LONGEST_WEEKS = dt.timedelta(weeks=13)
DUES_KEPT = 4  # instants
NEVER = np.iinfo(np.int64).max
ROWS_PER_STRIDE = 4  # with fewer, finding contiguous runs takes longer than placing each row
LEAST_ROWS_TO_STRIDE = 64
SHOWN_SEGMENTS = 3


class Places(NamedTuple):
    """Places of stamps; `ordinal` is valid where `inside` a segment, `slot` where `in_slot` of a chosen one."""

    session: NDArray[np.int32]
    ordinal: NDArray[np.int32]
    slot: NDArray[np.int32]
    inside: NDArray[np.bool_]
    in_slot: NDArray[np.bool_]


class Turns(NamedTuple):
    """Changes of the clock in segments: instant, last slot that begins before it, and origin of the slots after it.

    `at` is `NEVER` of segments without one, or whose change is a whole number of steps.
    """

    at: Ints
    slot: Ints
    origin: Ints

    def of(self, row: Ints) -> Turns:
        """Those of the segments with these numbers."""
        return Turns(self.at[row], self.slot[row], self.origin[row])


@dataclass(frozen=True)
class GridSpec:
    """Axis of a symbol: calendar, expected segments and alignment of the slots.

    Attributes
    ----------
    calendar : str
        Code of the calendar.
    segments : tuple of str
        Labels whose slots are expected; empty means the calendar's regular ones. `AUCTION` among them, or none at all, lets
        rows of auctions enter days. `ALL_IN_DAYS` among them is no label: with it days, weeks and months fold all of these
        segments, without it the regular ones of them.
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
        object.__setattr__(self, "segments", names_of("segments", self.segments, least=0) or ())
        check_fields(self, "calendar", "align")
        object.__setattr__(self, "zone", zone_name(self.zone))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of `segments`."""
        return tuple(label for label in self.segments if label != ALL_IN_DAYS)

    @property
    def daily_segments(self) -> DailySegments:
        """Which of the expected segments days, weeks and months fold."""
        return "all" if ALL_IN_DAYS in self.segments else "regular"


@dataclass(frozen=True, repr=False, eq=False)
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
        The cut: `session, ordinal, segment, open, close, regular, chosen, auction, lead, slots, first_session`,
        sorted by `open`. `auction` marks auctions whose rows enter days, which have no expected slots. `lead` (microseconds)
        is how far the open lies behind the clock's boundary, `slots` (Int32) how many slots the segment has. For days, weeks,
        months and years a row is a period of one slot.
    """

    spec: GridSpec
    interval: Interval
    segments: pl.DataFrame
    table: pl.DataFrame
    _others: dict[Interval, SessionGrid] = field(default_factory=dict)
    _dues: dict[dt.datetime | None, pl.DataFrame] = field(default_factory=dict)

    @classmethod
    @check_arguments("segments", "spec")
    def build(cls, segments: pl.DataFrame, interval: Interval | str, spec: GridSpec) -> SessionGrid:
        """Grid of segments cut at a step (1d, 2w, 3mo: a slot a period); ParameterError: overlap, disorder, bad label or step.

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
        opens, closes = segments["segment_open"], segments["segment_close"]
        if (closes <= opens).any():
            raise ParameterError("segments: one closes before it opens; valid: segment_open < segment_close")
        if (opens.slice(1) < closes.slice(0, max(len(closes) - 1, 0))).any():
            raise ParameterError("segments: two overlap or are out of order; valid: sorted, disjoint spans")
        marked = mark_chosen(segments, spec)
        is_cut = interval.is_intraday
        table = cut_segments(marked, interval, spec) if is_cut else group_into_periods(marked, interval, spec)
        return cls(spec, interval, segments, table)

    @check_arguments("interval")
    def at(self, interval: Interval) -> SessionGrid:
        """The same segments cut at another step; cached, the grid itself at its own step."""
        if interval == self.interval:
            return self
        if interval not in self._others:
            self._others[interval] = SessionGrid.build(self.segments, interval, self.spec)
        return self._others[interval]

    @check_arguments("ts")
    def place(self, ts: pl.Series, *, exact: bool = True) -> pl.DataFrame:
        """`session, ordinal, slot` per stamp; slot null if unchosen or (`exact`) off a start; outside: no ordinal, nearest session.

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
            trade date (null when the grid has none). In a segment that is not chosen, or off the grid: `slot` null.
        """
        if self.table.is_empty():
            return pl.DataFrame([pl.Series(name, [None] * len(ts), dtype) for name, dtype in PLACE.items()])
        at = microseconds(ts)
        begins = contiguous_starts(at, self._step) if exact else None
        places = self.search_places(at, exact=exact) if begins is None else self.place_runs(at, begins)
        return pl.DataFrame(
            {
                "session": pl.Series(places.session).cast(pl.Date),
                "ordinal": null_unless(places.ordinal, places.inside),
                "slot": null_unless(places.slot, places.in_slot),
            }
        )

    def starts(self, ordinal: pl.Series, slot: pl.Series) -> pl.Series:
        """Inclusive start of each (ordinal, slot), not before the segment's open; Datetime[us, UTC] named `ts`."""
        row = self.table_rows(ordinal)
        return instants(np.maximum(self.clock_starts(row, slot.to_numpy().astype(np.int64)), self._opens[row]), "ts")

    def ends(self, ordinal: pl.Series, slot: pl.Series) -> pl.Series:
        """Exclusive end of each (ordinal, slot), not after the segment's close; Datetime[us, UTC] named `ts_end`."""
        row = self.table_rows(ordinal)
        end = self.clock_starts(row, slot.to_numpy().astype(np.int64) + 1)
        return instants(np.minimum(end, self._closes[row]), "ts_end")

    @check_arguments("ts", "stamp")
    def from_stamps(self, ts: pl.Series, stamp: Stamp = "start") -> pl.Series:
        """Bar starts meant by vendor stamps: of ends, dates, clock marks before a late open; others as is (ends: less a step).

        A stamp at a bar's end is looked up as the slot that ends there (the last slot of a segment may be
        short, so subtracting the step would be wrong). `clock` stamps before a late open that are no slot's start, and
        the date stamps of `date`, move to the open they stand for. A stamp that is no slot's stays off the grid.

        Parameters
        ----------
        ts : Series of Datetime[us, UTC]
        stamp : {"start", "end", "end-inclusive"}
            What the vendor stamps: the first instant, the first instant after, or one within (the last second, millisecond).
        """
        if stamp not in get_args(Stamp):
            raise ParameterError(f"stamp: received {stamp!r}; valid: {', '.join(get_args(Stamp))}")
        if not self.interval.is_intraday:
            return ts if self.table.is_empty() else self.starts_from_dates(ts, stamp)
        at = microseconds(ts)
        if stamp != "start":
            return instants(self.starts_from_ends(at, stamp), ts.name)
        if not self._leads.any():
            return instants(at, ts.name)
        following = np.minimum(np.searchsorted(self._opens, at, side="right"), len(self._opens) - 1)
        boundary = self._opens[following] - self._leads[following]
        # Where a segment that is expected has a slot from there on (09:00 to 09:30, before hours), that one is meant.
        is_free = ~self.search_places(at, exact=True).in_slot
        is_late_open = (at == boundary) & is_free
        return instants(np.where(is_late_open, self._opens[following], at), ts.name)

    def sessions(self, ordinal: pl.Series) -> pl.Series:
        """Trade date (Date) of each segment ordinal; of a week or month its last scheduled session."""
        return pl.Series("session", self._days.astype(np.int32)[self.table_rows(ordinal)]).cast(pl.Date)

    def slots_at(self, ordinal: pl.Series, ts: pl.Series) -> pl.Series:
        """Per (segment ordinal, instant) the slot number counted from its first slot: 0 before it, not limited at its close; Int32."""
        row = self.table_rows(ordinal)
        slot = self.slot_numbers(row, microseconds(ts))
        return pl.Series(ts.name, np.clip(slot, 0, 2**31 - 1).astype(np.int32))

    def periods_of(self, sessions: pl.Series) -> pl.Series:
        """Last scheduled session (Date) of the period that began by each trade date; the first's, if before all."""
        days = sessions.cast(pl.Int32).to_numpy()
        period = np.maximum(np.searchsorted(self._first_days, days, side="right") - 1, 0)
        return pl.Series(sessions.name, self._days.astype(np.int32)[period]).cast(pl.Date)

    def windows(self, places: pl.DataFrame, coarser: SessionGrid) -> pl.DataFrame:
        """`ordinal, slot` in `coarser` of the window that contains each place; null where a day folds no such segment.

        Parameters
        ----------
        places : DataFrame with `ordinal` and `slot` (Int32, no nulls)
        coarser : SessionGrid
            The same axis at a step made of whole steps of this one, or a day, week or month.

        Returns
        -------
        DataFrame of `ordinal` and `slot` (Int32)
            Both null where the row belongs to no window (1d folds regular segments and their auctions only).
        """
        if coarser.interval.is_intraday and coarser._turns is not None:
            start = microseconds(self.starts(places["ordinal"], places["slot"]))
            window = coarser.slot_numbers(coarser.table_rows(places["ordinal"]), start).astype(np.int32)
            return pl.DataFrame([places["ordinal"], pl.Series("slot", window)])
        if coarser.interval.is_intraday:
            slot = places["slot"].to_numpy()
            if coarser._leads.any():  # a lead of this step is one of the coarser step
                ahead = (coarser._leads - self._leads) // self._step
                slot = slot + ahead[self.table_rows(places["ordinal"])].astype(np.int32)
            window = (slot // np.int32(coarser._step // self._step)).astype(np.int32, copy=False)
            return pl.DataFrame([places["ordinal"], pl.Series("slot", window)])
        ordinal = places["ordinal"].to_numpy()
        period = np.searchsorted(coarser._first_days, ordinal // SEGMENTS_PER_SESSION, side="right") - 1
        folded = np.ones(len(ordinal), bool)
        members = self._folded_daily | self._auctions
        if self.interval.is_intraday and not members.all():
            folded = members[self.table_rows(places["ordinal"])]
        return pl.DataFrame(
            {
                "ordinal": null_unless(coarser._ordinals[period], folded),
                "slot": null_unless(np.zeros(len(period), np.int64), folded),
            }
        )

    def slots_in(self, places: pl.DataFrame, finer: SessionGrid) -> pl.Series:
        """Number of `finer` slots in each place (Int32), cut at open and close; period: of all its daily members."""
        row = self.table_rows(places["ordinal"])
        if not self.interval.is_intraday:
            member = finer._folded_daily
            period = np.searchsorted(self._first_days, finer._days[member], side="right") - 1
            count = np.bincount(period, weights=finer._slots[member], minlength=len(self._opens)).astype(np.int64)
            return pl.Series("n_expected", count.astype(np.int32)[row])
        if self._turns is not None:
            begin, end = (microseconds(edges(places["ordinal"], places["slot"])) for edges in (self.starts, self.ends))
            count = finer.slot_numbers(row, end - 1) - finer.slot_numbers(row, begin) + 1
            return pl.Series("n_expected", count.astype(np.int32))
        ratio = np.int32(self._step // finer._step)
        ahead = ((self._leads - finer._leads) // finer._step).astype(np.int32)[row]
        first = places["slot"].to_numpy() * ratio - ahead
        last = np.minimum(first + ratio, finer._slots.astype(np.int32)[row])
        return pl.Series("n_expected", last - np.maximum(first, 0))

    @check_arguments("as_of")
    def due(self, as_of: dt.datetime | None = None) -> pl.DataFrame:
        """Chosen segments with `slots`, how many ended by `as_of` (None: all), 0 included; cached for 4 instants.

        Returns
        -------
        DataFrame of `ordinal, session, first_session, segment, slots` (Int32), sorted by `ordinal`
        """
        # Asked for several times a step: of the step's own instant, and of the one before.
        cached = self._dues.get(as_of)
        if cached is not None:
            return cached
        slots = self._slots
        if as_of is not None:
            now = int(microseconds(pl.Series([as_of]).cast(TS))[0])
            full = now >= self._closes
            over = self.slot_numbers(np.arange(len(self._opens)), np.full(len(self._opens), now))
            slots = np.where(full, slots, np.maximum(over, 0))
        due = self._chosen_table.hstack([pl.Series("slots", slots.astype(np.int32)[self._chosen])])
        if len(self._dues) >= DUES_KEPT:
            self._dues.clear()
        self._dues[as_of] = due
        return due

    def auction_rows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows (`ordinal`, `slot`, in order of time per series) of auctions that enter days, `slot` their number from 0."""
        if not self.interval.is_intraday or not self._auctions.any() or not rows["slot"].null_count():
            return rows.clear()
        ordinals = self.table.filter("auction")["ordinal"].implode()
        found = rows.filter(pl.col("slot").is_null() & pl.col("ordinal").is_in(ordinals).fill_null(value=False))
        number = pl.int_range(pl.len(), dtype=pl.Int32).over("series", "ordinal")
        return found.with_columns(number.alias("slot"))

    def slot_table(
        self, as_of: dt.datetime | None = None, dates: tuple[dt.date, dt.date] | None = None
    ) -> pl.DataFrame:
        """Every expected slot as a row of `SLOTS`, in order of time: ended by `as_of` (None: all), within `dates` (None: all).

        A week or month lies within the dates if one of its days does. `segment` is null of periods; `ts_end` is
        exclusive, and cut at the close.
        """
        due = self.due(as_of)
        if dates is not None:
            due = due.filter(pl.col("session") >= dates[0], pl.col("first_session") <= dates[1])
        row, slot = number_ranges(due["slots"].to_numpy())
        slots = due.select("session", "segment", "ordinal")[row].with_columns(pl.Series("slot", slot, pl.Int32))
        place = slots["ordinal"], slots["slot"]
        return slots.with_columns(self.starts(*place), self.ends(*place)).select(list(SLOTS))

    def _summary(self) -> Summary:
        """Display summary of the chosen segments: sessions, slots, labels, alignment and the first three segments."""
        chosen = self.table.filter("chosen")
        sessions = chosen["session"].unique().sort()
        facts = {
            "sessions": f"{len(sessions):,}, {sessions[0]} to {sessions[-1]}" if len(sessions) else "none",
            "slots": int(chosen["slots"].sum()),
            "segments": self.spec.segments or "regular",
            "aligned": f"{self.spec.align} ({self.spec.zone})" if self.spec.align != "session" else self.spec.align,
        }
        columns = ["session", "segment", "open", "close", "slots"]
        rows = chosen.select(columns).head(SHOWN_SEGMENTS).rows()
        return Summary(f"SessionGrid {self.spec.calendar} {self.interval}", facts, columns, rows, chosen.height)

    @cached_property
    def _chosen_table(self) -> pl.DataFrame:
        return self.table.filter("chosen").select("ordinal", "session", "first_session", "segment")

    @cached_property
    def _opens(self) -> Ints:
        return microseconds(self.table["open"])

    @cached_property
    def _closes(self) -> Ints:
        return microseconds(self.table["close"])

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
        return self.table.select(daily_members(self.spec))["member"].to_numpy()

    @cached_property
    def _auctions(self) -> NDArray[np.bool_]:
        return self.table["auction"].to_numpy()

    @cached_property
    def _step(self) -> int:
        # A period is one slot however long, so any step beyond the longest one will do.
        return self.interval.step_us if self.interval.is_intraday else 400 * DAY_US

    @cached_property
    def _turns(self) -> Turns | None:
        """Changes of the clock that move the slots of segments; None where there are none, so that slots are a step apart."""
        if self.spec.align != "clock" or not self.interval.is_intraday:
            return None
        turns = clock_turns(self._opens, self._closes, self._leads, self._step, self.spec.zone)
        return turns if (turns.at < NEVER).any() else None

    def clock_starts(self, row: Ints, slot: Ints) -> Ints:
        """Instant at which slots of segments (rows of `table`) begin, the first one not cut at its open."""
        begin = self._origins[row] + slot * np.int64(self._step)
        if self._turns is None:
            return begin
        turns = self._turns.of(row)
        return np.where(slot > turns.slot, np.maximum(turns.at, turns.origin + slot * self._step), begin)

    def slot_numbers(self, row: Ints, at: Ints) -> Ints:
        """Slot of each instant in a segment (row of `table`), counted from its first one: below 0 before it, on past its close."""
        slot = (at - self._origins[row]) // self._step
        if self._turns is None:
            return slot
        turns = self._turns.of(row)
        return np.where(at >= turns.at, np.maximum(turns.slot, (at - turns.origin) // self._step), slot)

    @cached_property
    def _row_of(self) -> Ints:
        """Array giving the row of `table` by (ordinal - first ordinal); 0 for ordinals that do not exist."""
        days = self._ordinals - self._ordinals[:1]
        row_of = np.zeros(days.max(initial=-1) + 1, np.int64)
        row_of[days] = np.arange(len(days))
        return row_of

    def table_rows(self, ordinal: pl.Series) -> Ints:
        """Row of `table` of each segment ordinal; ordinals must be in the grid (not checked)."""
        # Through an array by ordinal: searching costs ten times as much.
        rows: Ints = self._row_of[ordinal.to_numpy() - self._ordinals[:1].astype(np.int32)]
        return rows

    def search_places(self, at: Ints, *, exact: bool) -> Places:
        """`Places` of stamps; outside all segments only the nearest session has a meaning; `exact`: in a slot only at its start."""
        index = np.searchsorted(self._opens, at, side="right") - 1
        safe = np.maximum(index, 0)
        inside = (index >= 0) & (at < self._closes[safe])
        slot = self.slot_numbers(safe, at)
        in_slot = inside & self._chosen[safe]
        if exact:
            begins = at == self.clock_starts(safe, slot)
            in_slot &= begins | (at == self._opens[safe]) if self._leads.any() else begins
        session = self._days.astype(np.int32)[safe]
        if not inside.all():
            session[~inside] = self.nearest_days(at[~inside], safe[~inside])
        return Places(session, self._ordinals.astype(np.int32)[safe], slot.astype(np.int32), inside, in_slot)

    def place_runs(self, at: Ints, begins: Ints) -> Places:
        """Exact `Places` of runs of stamps one step apart from `begins` on; in one segment only ends are searched."""
        size = np.diff(np.append(begins, len(at)))
        head = self.search_places(at[begins], exact=True)
        tail = self.search_places(at[begins + size - 1], exact=True)
        # Both ends in one segment: so is all between, a slot apart, and on the grid, or off it, as they are.
        whole = head.inside & tail.inside & (head.ordinal == tail.ordinal) & (head.in_slot == tail.in_slot)
        repeat = partial(np.repeat, repeats=size)
        places = Places(*map(repeat, head))
        number_in_run = np.arange(len(at), dtype=np.int32) - np.repeat(begins.astype(np.int32), size)
        np.add(places.slot, number_in_run, out=places.slot)
        if not whole.all():
            others = np.flatnonzero(np.repeat(~whole, size))
            for values, searched in zip(places, self.search_places(at[others], exact=True), strict=True):
                values[others] = searched
        return places

    def nearest_days(self, at: Ints, before: Ints) -> Ints:
        """Nearest trade date (days since 1970) to stamps outside all segments; `before`: last segment opened, or 0; tie: later."""
        after = np.minimum(before + 1, len(self._opens) - 1)
        to_next = np.abs(self._opens[after] - at)
        to_last = np.abs(at - self._closes[before])
        # `before` is 0 for stamps ahead of the first open: that session is the nearest one.
        return np.where((to_next <= to_last) & (at >= self._opens[before]), self._days[after], self._days[before])

    def starts_from_ends(self, at: Ints, stamp: Stamp) -> Ints:
        """Start of the slot that ends at each stamp (end-inclusive: that it is within, past its start); else the stamp minus a step."""
        within = at - 1  # neither stamp is that of a start
        unplaced = at - self._step if stamp == "end" else at - self._step + 1
        if self.table.is_empty():
            return unplaced
        index = np.maximum(np.searchsorted(self._opens, within, side="right") - 1, 0)
        last_slot = self._slots[index] - 1
        slot = np.minimum(self.slot_numbers(index, within), last_slot)
        origin, uncut_end = self.clock_starts(index, slot), self.clock_starts(index, slot + 1)
        cut_end = np.minimum(uncut_end, self._closes[index])
        is_end = (at == cut_end) | ((at == uncut_end) & (slot == last_slot))
        # Inclusive: the last second, millisecond or microsecond of the slot, or that of its last trade.
        fits = is_end if stamp == "end" else at < cut_end
        inside = within >= self._opens[index]
        return np.where(fits & inside, np.maximum(origin, self._opens[index]), unplaced)

    def starts_from_dates(self, ts: pl.Series, stamp: Stamp) -> pl.Series:
        """Open of the period of each stamp's local date (`end`: the instant before); in no period (`start`: past its end): as is."""
        at = microseconds(ts)
        shown = instants(at - 1 if stamp == "end" else at, ts.name).dt.convert_time_zone(self.spec.zone).dt.date()
        day = shown.cast(pl.Int32).to_numpy().astype(np.int64)
        if self.interval.unit == "d":
            period = np.minimum(np.searchsorted(self._days, day), len(self._days) - 1)
            fits = day >= self._first_days[period]
        else:
            # By the period's number: a week or month is stamped with its first or last day, session or not.
            numbers, number = period_numbers(self._days, self.interval), period_numbers(day, self.interval)
            period = np.minimum(np.searchsorted(numbers, number), len(numbers) - 1)
            fits = numbers[period] == number
        if stamp == "start":  # a Sunday may begin a vendor's week, then it is not in this one
            fits &= day <= self._days[period]
        return instants(np.where(fits, self._opens[period], at), ts.name)


def mark_chosen(segments: pl.DataFrame, spec: GridSpec) -> pl.DataFrame:
    """Add `chosen` (label among the spec's, or `regular` where it names none), `auction`; rename times to `open, close`.

    An auction is never chosen: it has no expected slots. Its rows enter days unless the spec names segments and not it.
    """
    labels = [label for label in spec.labels if label != AUCTION]
    is_auction = (pl.col("segment") == AUCTION).fill_null(value=False)
    is_chosen = (pl.col("segment").is_in(labels) if labels else pl.col("regular")) & ~is_auction
    enters = is_auction if not spec.segments or AUCTION in spec.segments else pl.lit(value=False)
    return segments.with_columns(is_chosen.alias("chosen"), enters.alias("auction")).rename(
        {"segment_open": "open", "segment_close": "close"}
    )


def cut_segments(segments: pl.DataFrame, interval: Interval, spec: GridSpec) -> pl.DataFrame:
    """Add `lead` (open behind the wall clock's step), `slots`, `first_session`; ParameterError: clock step divides no day."""
    step = interval.step_us
    lead = pl.lit(0, pl.Int64)
    if spec.align == "clock":
        if DAY_US % step:
            raise ParameterError(f"align: clock needs a step that divides a day; received {interval}")
        local = pl.col("open").dt.convert_time_zone(spec.zone).dt.replace_time_zone(None)
        lead = local.cast(pl.Int64) % step
    length = (pl.col("close") - pl.col("open")).dt.total_microseconds() + pl.col("lead")
    cut = segments.with_columns(lead.alias("lead")).with_columns(
        ((length + step - 1) // step).cast(pl.Int32).alias("slots"), pl.col("session").alias("first_session")
    )
    if spec.align != "clock" or cut.is_empty():
        return cut
    opens, closes = microseconds(cut["open"]), microseconds(cut["close"])
    turns = clock_turns(opens, closes, cut["lead"].to_numpy(), step, spec.zone)
    after = np.maximum(turns.slot, (closes - 1 - turns.origin) // step) + 1
    slots = np.where(turns.at < NEVER, after, cut["slots"].to_numpy())
    return cut.with_columns(pl.Series("slots", slots.astype(np.int32)))


def clock_turns(opens: Ints, closes: Ints, leads: Ints, step: int, zone: str) -> Turns:
    """Changes of a zone's clock within segments that are no whole number of steps, and the slots that follow them.

    After a change slots begin where the clock shows a multiple of the step for the first time. A slot is longer by the
    hour that occurs twice, shorter by one that is left out; a boundary that is left out is the change itself.
    """
    at = change_within(opens, closes, zone)
    before, after = (utc_offset(instant, zone) for instant in (opens, at))
    moved = after - before
    is_turn = (at < closes) & (moved % step != 0)
    origin = opens - leads
    slot = (at - 1 - origin) // step
    skipped = np.maximum((at - origin + moved) // step - slot - 1, 0)
    return Turns(np.where(is_turn, at, NEVER), slot, origin - moved + skipped * step)


def change_within(opens: Ints, closes: Ints, zone: str) -> Ints:
    """First instant of each segment at which the zone's UTC offset is that of its end; the close where it never changes."""
    low, high = opens.copy(), closes.copy()
    last = utc_offset(closes - 1, zone)
    odd = np.flatnonzero(utc_offset(opens, zone) != last)
    while len(odd) and (high[odd] - low[odd] > 1).any():
        middle = (low[odd] + high[odd]) // 2
        is_late = utc_offset(middle, zone) == last[odd]
        high[odd], low[odd] = np.where(is_late, middle, high[odd]), np.where(is_late, low[odd], middle)
    return high


def utc_offset(at: Ints, zone: str) -> Ints:
    """UTC offset of a zone at instants, in microseconds."""
    local = pl.Series(at).cast(TS).dt.convert_time_zone(zone).dt.replace_time_zone(None)
    offset: Ints = local.cast(pl.Int64).to_numpy() - at
    return offset


def daily_members(spec: GridSpec) -> pl.Expr:
    """Expression `member`: chosen regular segments, or all chosen ones if asked for or no chosen one is regular in the frame."""
    if spec.daily_segments == "all":
        return pl.col("chosen").alias("member")
    regular = pl.col("regular") & pl.col("chosen")
    return pl.when(regular.any()).then(regular).otherwise(pl.col("chosen")).alias("member")


def group_into_periods(segments: pl.DataFrame, interval: Interval, spec: GridSpec) -> pl.DataFrame:
    """One row (one slot) per period of `daily_members` and their auctions: first open, last close; `session`, `ordinal` of its last."""
    session = pl.col("session")
    members = segments.filter(daily_members(spec) | pl.col("auction"))
    days = members["session"].cast(pl.Int32).to_numpy().astype(np.int64)
    return (
        members.with_columns(pl.Series("period", period_numbers(days, interval)))
        .group_by("period", maintain_order=True)
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
            pl.lit(value=False).alias("auction"),
            pl.lit(0, pl.Int64).alias("lead"),
            pl.lit(1, pl.Int32).alias("slots"),
            "first_session",
        )
    )


def period_numbers(sessions: Ints, interval: Interval) -> Ints:
    """Per trade date (days since 1970, ascending) an integer, equal within one period; origins are fixed.

    So many weeks count from Monday 1969-12-29, months and years from January 1970. So many days are trade dates in
    succession, counted anew from the first of each calendar year, so `sessions` of these are all of the year from its
    first on; the last window of a year may be shorter.
    """
    if interval.unit == "w":
        return (sessions + 3) // 7 // interval.count  # 1970 began on a Thursday
    if interval.in_months:
        return sessions.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) // interval.in_months
    if interval.count == 1:
        return sessions
    distinct, number = np.unique(sessions, return_inverse=True)
    years = distinct.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64)
    in_year = np.arange(len(distinct)) - np.searchsorted(years, years)
    return (years * DAYS_A_YEAR + in_year // interval.count)[number.reshape(-1)]


def whole_years(first: dt.date, last: dt.date) -> tuple[dt.date, dt.date]:
    """Dates from which every period of a trade date from `first` to `last` is whole: calendar years, and 13 weeks on either side."""
    return dt.date(first.year, 1, 1) - LONGEST_WEEKS, dt.date(last.year, 12, 31) + LONGEST_WEEKS


def microseconds(ts: pl.Series) -> Ints:
    """Instants as Int64 microseconds since 1970."""
    # A cast to integers is a tenth of what `to_physical` costs, which shows in small frames.
    return ts.cast(TS).cast(pl.Int64).to_numpy()


def contiguous_starts(at: Ints, step: int) -> Ints | None:
    """First index of each run of stamps one step apart; None below 64 stamps or 4 stamps a run on average."""
    if len(at) < LEAST_ROWS_TO_STRIDE:
        return None
    breaks = np.flatnonzero(at[1:] - at[:-1] != step)
    few = (len(breaks) + 1) * ROWS_PER_STRIDE <= len(at)
    return np.concatenate([[0], breaks + 1]) if few else None


def instants(micros: Ints, name: str) -> pl.Series:
    """Microseconds since 1970 as a named Series of Datetime[us, UTC]."""
    return pl.Series(name, micros.astype(np.int64, copy=False)).cast(TS)


def null_unless(values: NDArray[np.integer], keep: NDArray[np.bool_]) -> pl.Series:
    """Values as an Int32 Series, null where `keep` is false."""
    series = pl.Series(values.astype(np.int32, copy=False))
    return series if keep.all() else pl.select(pl.when(pl.lit(pl.Series(keep))).then(pl.lit(series))).to_series()
