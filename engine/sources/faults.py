"""Faults planned into simulated bars, and the truth about each of them.

1. `Slots.of` lists the expected slots of a grid as arrays.
2. `plan_spans` picks stretches without bars: at most one per (symbol, session), an outage alone in its session.
3. `plan_rows` picks single bars to disturb: ones whose neighbours on both sides stay as they are, never two in a row.
4. `plan_strays` picks places outside every segment.
5. `deliver` turns clean bars into the feed: rows in the order in which they arrive. `truth` is the list of all faults.

So no two faults touch, and every span but an outage's lies between two bars that are there (or a segment's
edge): the gap that it leaves is exactly the span, in thin names too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import ParameterError
from engine.grid import SessionGrid
from engine.schema import BARS, TS, Schema

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Run = tuple[int, int]
Finder = Callable[["Slots", Flags, int, "FaultPlan", np.random.Generator], Run | None]

SPAN_KINDS = ("outage", "absent_session", "halt", "missing_start", "missing_middle", "missing_end")
ROW_KINDS = ("duplicate", "conflict", "correction", "late", "off_grid", "bad_row")
KINDS = (*SPAN_KINDS, *ROW_KINDS, "out_of_session")
# The slots of these hold no bar that can be used.
EMPTY_KINDS = (*SPAN_KINDS, "bad_row")
BAD_ROWS = ("high below low", "price of zero", "negative volume", "unreadable price", "unreadable time")

TRUTH: Schema = {
    "fault": pl.Int32(),
    "kind": pl.String(),
    "symbol": pl.String(),
    "session": pl.Date(),
    "start": TS,
    "end": TS,
    "bar_count": pl.Int32(),
    "rows": pl.Int32(),
    "note": pl.String(),
}
FEED: Schema = {**BARS, "arrived": TS, "fault": pl.Int32(), "text": pl.String()}

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
LAG_US = 1_000  # what comes again comes this much after the slot's own delivery
LONGEST_DELAY_SLOTS = 60
FARTHEST_STRAY_SLOTS = 30
LIQUID_SHARE = 0.95


@dataclass(frozen=True)
class FaultPlan:
    """How many faults of each kind; the field's name is the `kind` in the truth.

    Attributes
    ----------
    missing_start, missing_middle, missing_end : int
        Runs of missing slots of one symbol at a session's start, inside a segment, at a session's end.
    absent_session : int
        Sessions of which one symbol has no bar; never a symbol's first or last one.
    outage : int
        Runs of slots that all symbols miss.
    halt : int
        Runs in which a liquid symbol does not trade; it reopens 3 to 8 % away. An event of the market.
    duplicate : int
        Bars that come a second time, with the same values.
    conflict, correction : int
        Bars that come first with wrong values, then with the right ones: at once, or some slots later.
    late : int
        Bars that come after their successors.
    off_grid, out_of_session : int
        Additional bars inside a slot, and outside every segment.
    bad_row : int
        Bars that are spoiled, in the ways of `BAD_ROWS` by turns.
    shortest_run, longest_run : int
        Bounds of a run's length, in slots.
    """

    missing_start: int = 0
    missing_middle: int = 0
    missing_end: int = 0
    absent_session: int = 0
    outage: int = 0
    halt: int = 0
    duplicate: int = 0
    conflict: int = 0
    correction: int = 0
    late: int = 0
    off_grid: int = 0
    out_of_session: int = 0
    bad_row: int = 0
    shortest_run: int = 2
    longest_run: int = 30

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 1 if field.name.endswith("_run") else 0
            if value < least:
                raise ParameterError(f"{field.name}: received {value}; valid: a whole number from {least}")
        if self.longest_run < self.shortest_run:
            raise ParameterError(f"longest_run: received {self.longest_run}; valid: from {self.shortest_run}")

    @classmethod
    def each(cls, count: int) -> FaultPlan:
        """So many faults of every kind."""
        return cls(**dict.fromkeys(KINDS, count))

    def counts(self) -> dict[str, int]:
        """How many of each kind are planned, in the order of `KINDS`."""
        values = asdict(self)
        return {kind: values[kind] for kind in KINDS}


@dataclass(frozen=True)
class Slots:
    """The expected slots of a grid in order of time, as arrays; times are microseconds since 1970, UTC.

    Attributes
    ----------
    starts, ends : array of int64
        Of each slot; the end is exclusive.
    segment : array of int64
        Number of each slot's segment.
    bounds : array of int64
        First slot of each segment, and at last the number of slots.
    session : array of int64
        Number of each segment's session.
    dates : Series of Date
        Trade date of each session.
    """

    starts: Ints
    ends: Ints
    segment: Ints
    bounds: Ints
    session: Ints
    dates: pl.Series

    @classmethod
    def of(cls, grid: SessionGrid) -> Slots:
        """The slots of an intraday grid's chosen segments."""
        due = grid.due()
        sizes = due["slots"].to_numpy().astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        segment = np.repeat(np.arange(len(sizes)), sizes)
        ordinal = due["ordinal"].gather(segment)
        slot = pl.Series((np.arange(bounds[-1]) - bounds[segment]).astype(np.int32))
        session = due["session"].rle_id().to_numpy().astype(np.int64)
        starts, ends = grid.starts(ordinal, slot), grid.ends(ordinal, slot)
        return cls(_micros(starts), _micros(ends), segment, bounds, session, due["session"].unique(maintain_order=True))

    def segments_of(self, session: int) -> Run:
        """First segment of a session, and the one after its last."""
        first, end = np.searchsorted(self.session, [session, session + 1])
        return int(first), int(end)

    def run_of(self, segment: int) -> Run:
        """First slot of a segment, and the one after its last."""
        return int(self.bounds[segment]), int(self.bounds[segment + 1])

    def later(self, slot: Ints, delay: Ints) -> Ints:
        """The slot so many slots later, or the last one of its segment."""
        return np.minimum(slot + delay, self.bounds[self.segment[slot] + 1] - 1)


@dataclass(frozen=True)
class Span:
    """A stretch of slots `[first, end)` without bars for some symbols (numbers); `jump` is a halt's log return."""

    kind: str
    symbols: tuple[int, ...]
    first: int
    end: int
    jump: float = 0.0


@dataclass(frozen=True)
class Stray:
    """A row outside every segment: whose, when (microseconds), and the slot whose values it carries."""

    symbol: int
    at: int
    slot: int


def plan_spans(slots: Slots, traded: Flags, plan: FaultPlan, rng: np.random.Generator) -> list[Span]:
    """Pick the stretches without bars.

    Parameters
    ----------
    slots : Slots
    traded : array of bool, symbols by slots
        Where a symbol trades.
    plan : FaultPlan
    rng : Generator

    Raises
    ------
    ParameterError
        The plan asks for more than the sessions have room for.
    """
    counts = plan.counts()
    free = np.ones((len(traded), len(slots.dates)), bool)
    spans = _outages(slots, traded, plan, rng, free)
    for kind, find in _FINDERS.items():
        found = islice(_fitting(kind, find, slots, traded, plan, rng, free), counts[kind])
        spans += _all_of(kind, counts[kind], list(found))
    return spans


def silenced(shape: tuple[int, int], spans: Iterable[Span]) -> Flags:
    """Symbols by slots: whether a span covers the slot."""
    covered = np.zeros(shape, bool)
    for span in spans:
        covered[list(span.symbols), span.first : span.end] = True
    return covered


def plan_rows(slots: Slots, kept: Flags, plan: FaultPlan, rng: np.random.Generator) -> dict[str, Ints]:
    """Pick the single bars to disturb: for each kind, flat numbers (symbol times slots plus slot).

    Raises
    ------
    ParameterError
        Fewer bars than the plan asks for have a neighbour on both sides.
    """
    counts = [plan.counts()[kind] for kind in ROW_KINDS]
    inner = np.zeros_like(kept)
    inner[:, 1:-1] = kept[:, 1:-1] & kept[:, :-2] & kept[:, 2:]
    # Even slots only, so that between two disturbed bars there is always an untouched one.
    position = np.arange(kept.shape[1]) - slots.bounds[slots.segment]
    size = np.diff(slots.bounds)[slots.segment]
    inner &= (position % 2 == 0) & (position > 0) & (position < size - 1)
    candidates = np.flatnonzero(inner)
    if len(candidates) < sum(counts):
        raise _no_room("+".join(ROW_KINDS), sum(counts), len(candidates))
    picked = rng.choice(candidates, sum(counts), replace=False)
    return dict(zip(ROW_KINDS, np.split(picked, np.cumsum(counts)[:-1]), strict=True))


def plan_strays(
    grid: SessionGrid, slots: Slots, kept: Flags, plan: FaultPlan, rng: np.random.Generator
) -> list[Stray]:
    """Pick places outside every segment, nearest to a session in which the symbol has bars.

    Raises
    ------
    ParameterError
        The calendar has not that many openings and closings beside which there is time without a segment.
    """
    edges = _edges(grid, slots)
    present = np.logical_or.reduceat(kept, [slots.run_of(slots.segments_of(d)[0])[0] for d in range(len(slots.dates))], axis=1)
    pairs = np.argwhere(present[:, edges[:, 0]]) if len(edges) else np.empty((0, 2), np.int64)
    if len(pairs) < plan.out_of_session:
        raise _no_room("out_of_session", plan.out_of_session, len(pairs))
    strays = []
    for symbol, number in rng.choice(pairs, plan.out_of_session, replace=False) if plan.out_of_session else ():
        session, edge, direction, nearest, farthest = (int(value) for value in edges[number])
        at = edge + direction * grid.interval.step_us * int(rng.integers(nearest, farthest + 1))
        first, end = slots.segments_of(session)
        begin = slots.run_of(first)[0]
        row = kept[symbol, begin : slots.run_of(end - 1)[1]]
        strays.append(Stray(int(symbol), at, begin + int(np.argmax(row))))
    return strays


def deliver(
    clean: pl.DataFrame, at: Ints, lost: Flags, slots: Slots, rows: Mapping[str, Ints], strays: Sequence[Stray],
    first_fault: int, tick: Mapping[str, float], rng: np.random.Generator,
) -> pl.DataFrame:  # fmt: skip
    """Turn clean bars into the feed.

    Parameters
    ----------
    clean : DataFrame of `schema.BARS`
        The perfect bars, by symbol and time.
    at : array of int64
        Their flat numbers, ascending.
    lost : array of bool
        Which of them never arrive.
    slots, rows, strays
        The axis and the plan.
    first_fault : int
        Number of the first row fault; the strays follow the rows.
    tick : mapping of symbol to float
        Smallest step of each symbol's price.
    rng : Generator

    Returns
    -------
    DataFrame of `FEED`
        In order of arrival: bars, `arrived` (the slot's end, or later), `fault` (of the row that is at fault), `text`
        (what stands in the file where a cell is null because it cannot be read).
    """
    feed = _Feed(clean, at, slots, rng)
    numbers = _numbers(rows, first_fault)
    step = pl.col("symbol").replace_strict(dict(tick), return_dtype=pl.Float64)
    again = {kind: (feed.take(rows[kind]), numbers[kind]) for kind in ROW_KINDS}
    parts = [feed.untouched(lost, [rows[kind] for kind in ("conflict", "correction", "late", "bad_row")])]
    parts.append(feed.stamp(*again["duplicate"], rows["duplicate"], delay=(0, 5)))
    parts.append(feed.stamp(*again["late"], rows["late"], delay=(1, LONGEST_DELAY_SLOTS)))
    for kind, delay in (("conflict", (0, 0)), ("correction", (1, LONGEST_DELAY_SLOTS))):
        right, number = again[kind]
        parts.append(feed.stamp(_mistaken(right, step, rng), number, rows[kind]))
        parts.append(feed.stamp(right, None, rows[kind], delay=delay))
    parts.append(feed.stamp(_spoiled(again["bad_row"][0], step), again["bad_row"][1], rows["bad_row"]))
    parts.append(feed.stamp(feed.between(*again["off_grid"][:1], rows["off_grid"]), numbers["off_grid"], rows["off_grid"], delay=(0, 0)))
    parts.append(feed.astray(strays, first_fault + sum(len(picked) for picked in rows.values())))
    return pl.concat(parts).sort("arrived", maintain_order=True)
