"""The specification as code: slots, places, bars, gaps, quality and repeated rows, one row at a time in plain Python.

It is slow and imports nothing of the package; the columnar kernels give the same answers, and where one differs, this
module is right. Times are microseconds since 1970-01-01 UTC. A step is a number of microseconds below one day, or text of
days, weeks, months or a year: "1d", "2d", "1w", "2w", "1mo", "3mo", "1y". A row is a dict of `ts` (the inclusive start of a bar), `open, high, low, close` and any of `volume, size,
vwap, trades, provenance`. Every function looks at one series, whose rows have distinct `ts` after `settle`.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
PROVENANCES = ("source", "backfill", "synthetic")
FIRST_MONDAY = dt.date(1969, 12, 29)  # of the week of 1970-01-01
AUCTION = "AUCTION"  # the label of segments without expected slots whose rows enter days
COUNTS = ("expected", "present", "off_grid", "out_of_session", "backfilled", "zero_volume")

Step = int | str
Row = dict[str, Any]
Dates = tuple[dt.date, dt.date]  # both included


@dataclass(frozen=True)
class Segment:
    """A half-open span `[open, close)` of a session, or the day, week or month whose sessions begin with `first_session`."""

    session: dt.date
    open: int
    close: int
    label: str = "RTH"
    regular: bool = True
    first_session: dt.date | None = None


@dataclass(frozen=True)
class Grid:
    """Segments of a calendar, sorted by open and disjoint.

    `chosen` are the labels of the segments whose slots are expected; empty means the regular ones. `clock` is a zone whose
    wall clock slots are aligned to (09:30-10:00, 10:00-11:00, ...); None aligns them to each segment's open.
    `daily_segments` says which of the expected segments days, weeks and months fold.
    """

    segments: tuple[Segment, ...]
    chosen: tuple[str, ...] = ()
    clock: str | None = None
    daily_segments: Literal["regular", "all"] = "regular"

    def expects(self, segment: Segment) -> bool:
        """Whether a segment's slots are expected: periods always, auctions never; label in `chosen` if any; else its `regular`."""
        labels = [label for label in self.chosen if label != AUCTION]
        is_chosen = segment.label in labels if labels else segment.regular
        return segment.first_session is not None or (is_chosen and segment.label != AUCTION)

    def folds_auction(self, segment: Segment) -> bool:
        """Whether a segment is an auction whose rows enter days: unless `chosen` names others and not it."""
        return segment.label == AUCTION and (not self.chosen or AUCTION in self.chosen)


class Slot(NamedTuple):
    """A slot's number in its segment, its inclusive start and its exclusive end."""

    number: int
    start: int
    end: int


Due = tuple[dt.date, list[Slot]]
Settled = tuple[list[Row], int, int, list[Row]]


def daily_segments(grid: Grid) -> list[Segment]:
    """Segments that days fold: expected regular ones; all expected ones if asked for, or where none of them is regular."""
    chosen = [segment for segment in grid.segments if grid.expects(segment)]
    regular = [segment for segment in chosen if segment.regular]
    return chosen if grid.daily_segments == "all" else regular or chosen


def cut(grid: Grid, step: Step) -> list[Segment]:
    """Segments that slots lie in: the calendar's (int step), or one per period of `daily_segments`."""
    if isinstance(step, int):
        return list(grid.segments)
    periods: dict[tuple[int, ...], list[Segment]] = defaultdict(list)
    sessions = sorted({segment.session for segment in daily_segments(grid)})
    folded = [*daily_segments(grid), *filter(grid.folds_auction, grid.segments)]
    for segment in sorted(folded, key=lambda one: one.open):
        periods[period_of(segment.session, step, sessions)].append(segment)
    return [Segment(p[-1].session, p[0].open, p[-1].close, first_session=p[0].session) for p in periods.values()]


def period_of(session: dt.date, step: str, sessions: list[dt.date]) -> tuple[int, ...]:
    """Key of the period of a trade date; so many days are successive `sessions`, counted from the first of the year.

    `sessions` are all trade dates of the year from its first on. Weeks begin on Mondays and count from the one of 1970-01-01,
    months from January 1970.
    """
    unit = step.lstrip("0123456789")
    count = int(step.removesuffix(unit))
    if unit == "d":
        of_year = [one for one in sessions if one.year == session.year]
        return session.year, of_year.index(session) // count
    if unit == "w":
        return ((session - FIRST_MONDAY).days // 7 // count,)
    months = count * 12 if unit == "y" else count
    return (((session.year - 1970) * 12 + session.month - 1) // months,)


def slot_at(grid: Grid, segment: Segment, step: Step, ts: int) -> Slot:
    """Slot of a segment that holds instant `ts`, its start cut at the open and its end at the close."""
    number, start, end = _uncut_slot(grid, segment, step, ts)
    return Slot(number, max(start, segment.open), min(end, segment.close))


def slots(grid: Grid, segment: Segment, step: Step) -> list[Slot]:
    """All slots of a segment from open to close, in order; the last may be short."""
    out = [slot_at(grid, segment, step, segment.open)]
    while out[-1].end < segment.close:
        out.append(slot_at(grid, segment, step, out[-1].end))
    return out


def place(grid: Grid, step: Step, ts: int, *, exact: bool = True) -> tuple[dt.date, Segment | None, Slot | None]:
    """(trade date, segment, slot): slot None if not expected or (`exact`) not a start; no segment: nearest date, the later on a tie.

    A stamp has no slot in a segment that is not expected, nor (`exact`) inside of a slot.
    """
    segments = cut(grid, step)
    for segment in segments:
        if segment.open <= ts < segment.close:
            slot = slot_at(grid, segment, step, ts)
            fits = grid.expects(segment) and (slot.start == ts or not exact)
            return segment.session, segment, slot if fits else None
    before = [segment for segment in segments if segment.close <= ts]
    after = [segment for segment in segments if ts < segment.open]
    if not after or (before and ts - before[-1].close < after[0].open - ts):
        return before[-1].session, None, None
    return after[0].session, None, None


def bar_start(grid: Grid, step: int, ts: int, stamp: Literal["end", "end-inclusive"]) -> int:
    """Start of the slot that ends at `ts` (end-inclusive: that it is within, past its start); no such slot: back by one step.

    A short last slot may be stamped as if the close did not cut it. A stamp of no slot goes back by the step.
    """
    within = ts - 1 if stamp == "end" else ts
    for segment in [segment for segment in grid.segments if segment.open <= within][-1:]:
        slot = slot_at(grid, segment, step, min(within, segment.close - 1))
        ends = slot.end, _uncut_slot(grid, segment, step, slot.start).end
        if ts in ends if stamp == "end" else slot.start < ts < slot.end:
            return slot.start
    return within - step + 1


def _uncut_slot(grid: Grid, segment: Segment, step: Step, ts: int) -> Slot:
    """Slot of a stamp with ends not cut at open or close, on the wall clock if the grid has one; of periods: the segment."""
    if isinstance(step, str):
        return Slot(0, segment.open, segment.close)
    starts = _clock_starts(grid, segment, step)
    if starts:
        number = sum(1 for start in starts if start <= ts) - 1
        return Slot(number, starts[number], starts[number + 1])
    # From the boundary of the wall clock to the open.
    lead = 0 if grid.clock is None else (segment.open + _offset(segment.open, grid.clock)) % step
    number = (ts - segment.open + lead) // step
    start = segment.open - lead + number * step
    return Slot(number, start, start + step)


def _offset(ts: int, zone: str) -> int:
    """UTC offset of a zone at an instant, in microseconds."""
    local = dt.datetime.fromtimestamp(ts // SECOND, ZoneInfo(zone)).replace(tzinfo=dt.UTC)
    return int(local.timestamp() - ts // SECOND) * SECOND


def _clock_starts(grid: Grid, segment: Segment, step: int) -> list[int]:
    """Starts of the slots of a segment in which the clock changes by no whole number of steps, and the end of the last one.

    A slot begins when the clock shows a later multiple of the step for the first time. Empty where slots are a step apart.
    The first start is not cut at the open, and the last end not at the close.
    """
    zone = grid.clock
    if zone is None or (_offset(segment.close - 1, zone) - _offset(segment.open, zone)) % step == 0:
        return []
    before, after = _offset(segment.open, zone), _offset(segment.close - 1, zone)
    low, high = segment.open, segment.close - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(middle, zone) == after else (middle, high)
    wall = segment.open + before
    starts = [segment.open - wall % step]
    shown = wall // step  # multiples of the step that the clock has shown
    while starts[-1] < segment.close:
        earlier, later = (shown + 1) * step - before, (shown + 1) * step - after
        following = earlier if earlier < high else max(later, high)
        shown = (following + (before if following < high else after)) // step
        starts.append(following)
    return starts


def bars(grid: Grid, rows: Iterable[Row], base: Step, step: Step, presence: int = MINUTE) -> list[Row]:
    """Bars of a coarser step, one per window with a row in a slot: OHLC, sums, last size, vwap, n_base of n_expected, complete.

    Rows of an auction enter days, weeks and months, and make no slot present.
    `n_base` counts the slots present (a synthetic row makes none present) and `n_expected` all slots of the window: slots
    of the base, or of `presence` where the base is finer. `vwap` needs one of every row with a volume.
    """
    counted = base
    if isinstance(base, int) and base < presence:  # where the three do not nest, one row makes a window complete
        nests = presence % base == 0 and (isinstance(step, str) or step % presence == 0)
        counted = presence if nests else step
    members = daily_segments(grid) if isinstance(step, str) and isinstance(base, int) else cut(grid, base)
    starts = [slot.start for segment in members for slot in slots(grid, segment, counted)]
    outer, inner = cut(grid, step), cut(grid, counted)
    windows: dict[Slot, list[tuple[Row, Slot | None]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["ts"]):
        _, segment, slot = place(grid, base, row["ts"])
        if isinstance(step, str) and isinstance(base, int) and segment is not None and grid.folds_auction(segment):
            windows[_slot_around(grid, step, outer, segment, row["ts"])].append((row, None))
        elif segment in members and slot is not None:
            window = _slot_around(grid, step, outer, segment, row["ts"])
            windows[window].append((row, _slot_around(grid, counted, inner, segment, row["ts"])))
    out = []
    for (_, start, end), found in windows.items():
        held = [row for row, _ in found]
        present = {slot for row, slot in found if slot is not None and row.get("provenance") != "synthetic"}
        expected = 1 if counted == step else sum(1 for one in starts if start <= one < end)
        volumes = [row["volume"] for row in held if row.get("volume") is not None]
        trades = [row["trades"] for row in held if row.get("trades") is not None]
        is_covered = all(row.get("vwap") is not None or not row.get("volume") for row in held)
        notional = sum((row.get("vwap") or 0.0) * (row.get("volume") or 0.0) for row in held)
        out.append(
            {
                "ts": start,
                "ts_end": end,
                "open": held[0]["open"],
                "high": max(row["high"] for row in held),
                "low": min(row["low"] for row in held),
                "close": held[-1]["close"],
                "volume": sum(volumes) if volumes else None,
                "size": held[-1].get("size"),
                "vwap": notional / sum(volumes) if is_covered and sum(volumes) > 0 else None,
                "trades": sum(trades) if trades else None,
                "n_base": len(present),
                "n_expected": expected,
                "complete": len(present) >= expected,
                "provenance": max((row.get("provenance", "source") for row in held), key=PROVENANCES.index),
            }
        )
    return out


def _slot_around(grid: Grid, step: Step, segments: list[Segment], segment: Segment, ts: int) -> Slot:
    """The slot of a stamp; of a step in days, weeks or months, the period that holds the segment's session."""
    if isinstance(step, str):
        segment = next(period for period in segments if segment.session <= period.session)
    return slot_at(grid, segment, step, ts)


def due_slots(grid: Grid, step: Step, dates: Dates, as_of: int | None = None) -> list[Due]:
    """Per expected segment within the dates (trade date, list of `Slot` that end by `as_of`); none due: left out."""
    due: list[Due] = []
    for segment in cut(grid, step):
        if segment.session >= dates[0] and (segment.first_session or segment.session) <= dates[1]:
            over = [slot for slot in slots(grid, segment, step) if as_of is None or slot.end <= as_of]
            if over and grid.expects(segment):
                due.append((segment.session, over))
    return due


class Gap(NamedTuple):
    """A run of missing slots of one segment; `position` is leading, inner, trailing or session."""

    session: dt.date
    start: int
    end: int
    bar_count: int
    position: str


def gaps(grid: Grid, stamps: Iterable[int], step: Step, dates: Dates, as_of: int | None = None) -> list[Gap]:
    """`Gap` per run of due slots that start at none of the stamps, never across a segment, in time order."""
    present, due = set(stamps), due_slots(grid, step, dates, as_of)
    out = []
    for session, within in due:
        alive = [peers[0] for day, peers in due if day == session and any(slot.start in present for slot in peers)]
        run: list[Slot] = []
        for slot in within:
            if slot.start not in present:
                run.append(slot)
            if run and (slot.start in present or slot is within[-1]):
                out.append(Gap(session, run[0].start, run[-1].end, len(run), _position(run, within, alive)))
                run = []
    return out


def _position(run: list[Slot], within: list[Slot], alive: list[Slot]) -> str:
    """Position of a run of missing slots: leading, inner or trailing; session where the session has no bar."""
    if run != within:
        return "leading" if run[0] is within[0] else "trailing" if run[-1] is within[-1] else "inner"
    if not alive:  # a whole segment, in a session without a bar
        return "session"
    return "leading" if run[0].start < alive[0].start else "trailing" if run[0].start > alive[-1].start else "inner"


def quality(grid: Grid, rows: Iterable[Row], step: Step, dates: Dates, as_of: int | None = None) -> list[Row]:
    """Per session with any count: expected, present (not synthetic), missing, anomalies, quality = 100 * present / expected or None.

    Synthetic rows, and those off the grid or outside of the expected segments, are never present.
    """
    sessions: dict[dt.date, Counter[str]] = defaultdict(Counter)
    due = due_slots(grid, step, dates, as_of)
    for session, within in due:
        sessions[session]["expected"] += len(within)
    starts = {slot.start for _, within in due for slot in within}
    for row in rows:
        session, segment, slot = place(grid, step, row["ts"])
        if slot is None:
            sessions[session]["off_grid" if segment and grid.expects(segment) else "out_of_session"] += 1
            continue
        sessions[session]["present"] += row["ts"] in starts and row.get("provenance") != "synthetic"
        sessions[session]["backfilled"] += row.get("provenance") == "backfill"
        sessions[session]["zero_volume"] += row.get("volume") == 0
    listed = sorted(session for session, counted in sessions.items() if any(counted.values()))
    out: list[Row] = [{"session": session, **{name: sessions[session][name] for name in COUNTS}} for session in listed]
    for row in out:
        row["missing"] = row["expected"] - row["present"]
        row["quality"] = 100 * row["present"] / row["expected"] if row["expected"] else None
    return out


def settle(batches: Iterable[Iterable[Row]], key: tuple[str, ...] = ("ts",)) -> Settled:
    """(rows sorted, last per key, equal later batch ignored; number of duplicates; of corrections; rows that lost in their batch).

    Batches come in order of arrival; bars are known by `ts`, ticks and quotes by `ts` and `seq`. Inside a batch the last row
    of a key wins: earlier ones are duplicates where their values are the same, else conflicts. A later batch's row is a
    duplicate of the row that is there (which stays), or corrects it. `provenance` is none of a row's values.
    """
    there: dict[tuple[Any, ...], Row] = {}
    duplicates, corrections, conflicts = 0, 0, []
    for batch in batches:
        offered: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for row in batch:
            offered[tuple(row[name] for name in key)].append(row)
        for where, (*losers, winner) in offered.items():
            duplicates += sum(1 for row in losers if _values(row) == _values(winner))
            conflicts += [row for row in losers if _values(row) != _values(winner)]
            is_repeat = where in there and _values(there[where]) == _values(winner)
            duplicates += is_repeat
            corrections += where in there and not is_repeat
            there[where] = there[where] if is_repeat else winner
    return [there[where] for where in sorted(there)], duplicates, corrections, conflicts


def _values(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "provenance"}
