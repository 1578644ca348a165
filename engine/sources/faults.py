"""Faults planned into simulated bars, and the truth about each of them.

1. `Slots.of` lists the expected slots of a grid as arrays.
2. `plan_spans` picks stretches without bars: at most one per (symbol, session), an outage alone in its session.
3. `plan_rows` picks single bars to disturb: ones whose neighbours on both sides stay as they are, never two in a row.
4. `plan_strays` picks places outside every segment.
5. `truth` lists them all.

So no two faults touch, and every span but an outage's lies between two bars that are there (or a segment's
edge): the gap that it leaves is exactly the span, in thin names too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import ParameterError
from engine.grid import DAY_US, SessionGrid
from engine.schema import TS, Schema

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

    def slots_of(self, session: int) -> Run:
        """First slot of a session, and the one after its last."""
        first, end = self.segments_of(session)
        return int(self.bounds[first]), int(self.bounds[end])

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
    for kind in _FINDERS:
        found = islice(_fitting(kind, slots, traded, plan, rng, free), counts[kind])
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
        Too few openings and closings have time without a segment beside them.
    """
    edges = _edges(grid, slots)
    begins = [slots.slots_of(session)[0] for session in range(len(slots.dates))]
    present = np.logical_or.reduceat(kept, begins, axis=1)
    pairs = np.argwhere(present[:, edges[:, 0]])
    if len(pairs) < plan.out_of_session:
        raise _no_room("out_of_session", plan.out_of_session, len(pairs))
    strays = []
    for symbol, number in pairs[rng.choice(len(pairs), plan.out_of_session, replace=False)]:
        session, edge, step, nearest, farthest = (int(value) for value in edges[number])
        first, end = slots.slots_of(session)
        at = edge + step * int(rng.integers(nearest, farthest + 1))
        strays.append(Stray(int(symbol), at, first + int(np.argmax(kept[symbol, first:end]))))
    return strays


def truth(
    symbols: Sequence[str], slots: Slots, present: Flags, spans: Sequence[Span], rows: Mapping[str, Ints],
    strays: Sequence[Stray],
) -> pl.DataFrame:  # fmt: skip
    """List every planned fault: `TRUTH`, by start, symbol and number.

    Spans are numbered first, then single rows in the order of `ROW_KINDS`, then strays; an outage is one fault with a
    row for each symbol. `present` (symbols by slots) says where the clean bars are.
    """
    found = []
    for fault, span in enumerate(spans):
        note = f"reopens {np.expm1(span.jump):+.1%}" if span.jump else None
        cut = (slots.session[slots.segment[span.first]], slots.starts[span.first], slots.ends[span.end - 1])
        lost = present[list(span.symbols), span.first : span.end].sum(axis=1)
        found += [
            (fault, span.kind, symbols[s], *cut, span.end - span.first, n, note)
            for s, n in zip(span.symbols, lost, strict=True)
        ]
    for kind, faults in numbered(rows, len(spans)).items():
        for turn, (fault, at) in enumerate(zip(faults, rows[kind], strict=True)):
            symbol, slot = divmod(int(at), len(slots.starts))
            note = BAD_ROWS[turn % len(BAD_ROWS)] if kind == "bad_row" else None
            cut = (slots.session[slots.segment[slot]], slots.starts[slot], slots.ends[slot])
            found.append((fault, kind, symbols[symbol], *cut, int(kind != "off_grid"), 1, note))
    for fault, stray in enumerate(strays, len(spans) + sum(map(len, rows.values()))):
        session = slots.session[slots.segment[stray.slot]]
        found.append((fault, "out_of_session", symbols[stray.symbol], session, stray.at, stray.at, 0, 1, None))
    return _truth_frame(found, slots)


def _outages(slots: Slots, traded: Flags, plan: FaultPlan, rng: np.random.Generator, free: Flags) -> list[Span]:
    everyone = tuple(range(len(traded)))
    spans: list[Span] = []
    for session in rng.permutation(free.shape[1]):
        if len(spans) == plan.outage:
            break
        run = _stretch(slots, int(session), plan, rng)
        first, end = slots.slots_of(int(session))
        # Everyone keeps a bar of that session, or a thin name's first or last session would move.
        if run and (traded[:, first : run[0]].any(axis=1) | traded[:, run[1] : end].any(axis=1)).all():
            free[:, session] = False
            spans.append(Span("outage", everyone, *run))
    return _all_of("outage", plan.outage, spans)


def _fitting(
    kind: str, slots: Slots, traded: Flags, plan: FaultPlan, rng: np.random.Generator, free: Flags
) -> Iterator[Span]:
    for cell in rng.permutation(np.flatnonzero(free)):
        symbol, session = divmod(int(cell), free.shape[1])
        run = _FINDERS[kind](slots, traded[symbol], session, plan, rng)
        if run is not None:
            free[symbol, session] = False
            jump = float(rng.choice((-1, 1)) * rng.uniform(0.03, 0.08)) if kind == "halt" else 0.0
            yield Span(kind, (symbol,), *run, jump)


def _whole(slots: Slots, traded: Flags, session: int, plan: FaultPlan, rng: np.random.Generator) -> Run | None:
    first, end = slots.slots_of(session)
    between = traded[:first].any() and traded[end:].any()
    return (first, end) if between and traded[first:end].any() else None


def _halted(slots: Slots, traded: Flags, session: int, plan: FaultPlan, rng: np.random.Generator) -> Run | None:
    first, end = slots.slots_of(session)
    return _inside(slots, traded, session, plan, rng) if traded[first:end].mean() >= LIQUID_SHARE else None


def _at_start(slots: Slots, traded: Flags, session: int, plan: FaultPlan, rng: np.random.Generator) -> Run | None:
    first, end = slots.run_of(slots.segments_of(session)[0])
    length = _edge_length(traded[first:end], plan, rng)
    return None if length is None else (first, first + length)


def _at_end(slots: Slots, traded: Flags, session: int, plan: FaultPlan, rng: np.random.Generator) -> Run | None:
    first, end = slots.run_of(slots.segments_of(session)[1] - 1)
    length = _edge_length(traded[first:end][::-1], plan, rng)
    return None if length is None else (end - length, end)


def _edge_length(traded: Flags, plan: FaultPlan, rng: np.random.Generator) -> int | None:
    lengths = np.arange(plan.shortest_run, min(plan.longest_run, len(traded) - 1) + 1)
    fits = lengths[traded[lengths] & (lengths > np.argmax(traded))]
    return int(rng.choice(fits)) if len(fits) else None


def _inside(slots: Slots, traded: Flags, session: int, plan: FaultPlan, rng: np.random.Generator) -> Run | None:
    stretch = _stretch(slots, session, plan, rng)
    if stretch is None:
        return None
    length = stretch[1] - stretch[0]
    begin, end = slots.run_of(int(slots.segment[stretch[0]]))
    bars = np.concatenate([[0], np.cumsum(traded[begin:end])])
    first = np.arange(1, end - begin - length)
    bounded = traded[begin + first - 1] & traded[begin + first + length]
    fits = first[bounded & (bars[first + length] > bars[first])]
    start = begin + int(rng.choice(fits)) if len(fits) else 0
    return (start, start + length) if len(fits) else None


def _stretch(slots: Slots, session: int, plan: FaultPlan, rng: np.random.Generator) -> Run | None:
    """Any run of slots that touches neither end of its segment."""
    roomy = [s for s in range(*slots.segments_of(session)) if np.diff(slots.run_of(s))[0] >= plan.shortest_run + 2]
    if not roomy:
        return None
    first, end = slots.run_of(int(rng.choice(roomy)))
    length = int(rng.integers(plan.shortest_run, min(plan.longest_run, end - first - 2) + 1))
    start = int(rng.integers(first + 1, end - length))
    return start, start + length


_FINDERS: dict[str, Finder] = {
    "absent_session": _whole,
    "halt": _halted,
    "missing_start": _at_start,
    "missing_middle": _inside,
    "missing_end": _at_end,
}


def _all_of(kind: str, asked: int, found: list[Span]) -> list[Span]:
    if len(found) < asked:
        raise _no_room(kind, asked, len(found))
    return found


def _no_room(kind: str, asked: int, room: int) -> ParameterError:
    return ParameterError(
        f"{kind}: received {asked}; valid: up to {room} with these sessions, symbols and other faults "
        "(more sessions or symbols, or shorter runs, make room)"
    )


def _edges(grid: SessionGrid, slots: Slots) -> Ints:
    """Where a segment ends or begins beside closed time: session, time, step, fewest and most steps away from it."""
    table = grid.table.filter(pl.col("session").is_in(slots.dates.implode()))
    opens, closes = _micros(table["open"]), _micros(table["close"])
    session = slots.dates.search_sorted(table["session"]).to_numpy().astype(np.int64)
    # What lies beyond the first and the last session is not known: a day goes round in 24 hours.
    before = DAY_US - (closes[session == session[0]][-1] - opens[0])
    beyond = DAY_US - (closes[-1] - opens[session == session[-1]][0])
    closed = np.concatenate([[before], opens[1:] - closes[:-1], [beyond]])
    # Less than half of the closed time away, so that the nearest session is this one.
    most = np.minimum((closed - 1) // (2 * grid.interval.step_us), FARTHEST_STRAY_SLOTS)
    step = np.full_like(session, grid.interval.step_us)
    after = np.stack([session, closes, step, np.zeros_like(step), most[1:]], axis=1)
    ahead = np.stack([session, opens, -step, np.ones_like(step), most[:-1]], axis=1)
    edges = np.concatenate([after, ahead])
    return edges[edges[:, 4] >= edges[:, 3]]


def numbered(rows: Mapping[str, Ints], first: int) -> dict[str, Ints]:
    """The fault numbers of picked rows, from `first` on, kind by kind in the order of `ROW_KINDS`."""
    ends = np.cumsum([first, *(len(rows[kind]) for kind in ROW_KINDS)])
    return {kind: np.arange(ends[i], ends[i + 1]) for i, kind in enumerate(ROW_KINDS)}


def _truth_frame(found: list[tuple[object, ...]], slots: Slots) -> pl.DataFrame:
    numbers: dict[str, pl.DataType] = {"session": pl.Int64(), "start": pl.Int64(), "end": pl.Int64()}
    frame = pl.DataFrame(found, schema={**TRUTH, **numbers}, orient="row")
    return frame.with_columns(
        slots.dates.gather(frame["session"]).alias("session"), instants(frame["start"]), instants(frame["end"])
    ).sort("start", "symbol", "fault")


def instants(micros: Ints | pl.Series) -> pl.Series:
    """Microseconds since 1970, UTC, as a Series of `schema.TS`."""
    series = micros if isinstance(micros, pl.Series) else pl.Series(micros)
    return series.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _micros(ts: pl.Series) -> Ints:
    return ts.to_physical().to_numpy()
