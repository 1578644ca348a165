"""Plan the faults of simulated bars: kind, symbol and place of each.

1. `plan_spans` picks stretches without bars: at most one per (symbol, session), an outage alone in its session.
2. `plan_rows` picks single bars to disturb: ones whose neighbours on both sides stay as they are, never two in a row.
3. `plan_strays` picks places outside every segment.

So no two faults touch, and every span but an outage's lies between two bars that are there (or a segment's
edge): the gap that it leaves is exactly the span, in thin names too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import islice

import numpy as np

from engine.errors import ParameterError
from engine.grid import DAY_US, SessionGrid
from engine.simulation.slots import Flags, Ints, Run, Slots, micros

Finder = Callable[["Draft", Flags, int], Run | None]

SPAN_KINDS = ("outage", "absent_session", "halt", "missing_start", "missing_middle", "missing_end")
ROW_KINDS = ("duplicate", "conflict", "correction", "late", "off_grid", "bad_row")
KINDS = (*SPAN_KINDS, *ROW_KINDS, "out_of_session")
# The slots of these hold no bar that can be used.
EMPTY_KINDS = (*SPAN_KINDS, "bad_row")
BAD_ROWS = ("high below low", "price of zero", "negative volume", "unreadable price", "unreadable time")

FARTHEST_STRAY_SLOTS = 30
LIQUID_SHARE = 0.95


@dataclass(frozen=True)
class FaultPlan:
    """Number of faults of each kind; the field's name is the `kind` in the truth.

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
        """A plan with `count` faults of every kind in `KINDS` and the default run lengths."""
        return cls(**dict.fromkeys(KINDS, count))

    def counts(self) -> dict[str, int]:
        """Number of planned faults of each kind, in the order of `KINDS`."""
        values = asdict(self)
        return {kind: values[kind] for kind in KINDS}


@dataclass(frozen=True)
class Span:
    """Slots `[first, end)` without bars for some symbols (numbers); `jump` is the log return of a halt."""

    kind: str
    symbols: tuple[int, ...]
    first: int
    end: int
    jump: float = 0.0


@dataclass(frozen=True)
class Stray:
    """A row outside every segment: symbol, span (microseconds), and the slot whose values it copies."""

    symbol: int
    start: int
    end: int
    slot: int


@dataclass(frozen=True)
class Draft:
    """Inputs of a plan: slots, requested numbers of faults, random generator."""

    slots: Slots
    plan: FaultPlan
    rng: np.random.Generator


@dataclass(frozen=True)
class Planned:
    """All faults with their places, numbered in order.

    Attributes
    ----------
    slots : Slots
        The axis.
    spans : tuple of Span
        Stretches without bars.
    rows : mapping of kind to array of int64
        Disturbed bars, as flat numbers: symbol times slots plus slot.
    strays : tuple of Stray
        Rows outside every segment.
    """

    slots: Slots
    spans: tuple[Span, ...]
    rows: Mapping[str, Ints]
    strays: tuple[Stray, ...]

    @property
    def row_numbers(self) -> dict[str, Ints]:
        """Fault numbers of the altered bars per kind: they go on after the spans, kinds in the order of `ROW_KINDS`."""
        ends = np.cumsum([len(self.spans), *(len(self.rows[kind]) for kind in ROW_KINDS)])
        return {kind: np.arange(ends[i], ends[i + 1]) for i, kind in enumerate(ROW_KINDS)}

    @property
    def stray_numbers(self) -> Ints:
        """Fault numbers of `strays`: they follow those of all spans and altered bars."""
        return len(self.spans) + sum(map(len, self.rows.values())) + np.arange(len(self.strays))


def plan_spans(draft: Draft, traded: Flags) -> tuple[Span, ...]:
    """Draw spans without bars, outages first, one per (symbol, session) at most; ParameterError if there is no room.

    Parameters
    ----------
    draft : Draft
    traded : array of bool, symbols by slots
        Where a symbol trades.

    Raises
    ------
    ParameterError
        The plan asks for more than the sessions have room for.
    """
    counts = draft.plan.counts()
    free = np.ones((len(traded), len(draft.slots.dates)), bool)
    spans = plan_outages(draft, traded, free)
    for kind in _FINDERS:
        found = islice(find_spans(kind, draft, traded, free), counts[kind])
        spans += require_all(kind, counts[kind], list(found))
    return tuple(spans)


def silenced(shape: tuple[int, int], spans: Iterable[Span]) -> Flags:
    """Boolean matrix of symbols by slots: true where any of the spans covers that slot for that symbol."""
    covered = np.zeros(shape, bool)
    for span in spans:
        covered[list(span.symbols), span.first : span.end] = True
    return covered


def plan_rows(draft: Draft, kept: Flags) -> dict[str, Ints]:
    """Draw bars between two others, none adjacent: kind -> flat numbers (symbol x slots + slot); few: ParameterError.

    Raises
    ------
    ParameterError
        Fewer bars than the plan asks for have a neighbour on both sides.
    """
    slots = draft.slots
    counts = [draft.plan.counts()[kind] for kind in ROW_KINDS]
    inner = np.zeros_like(kept)
    inner[:, 1:-1] = kept[:, 1:-1] & kept[:, :-2] & kept[:, 2:]
    # Even slots only, so that between two disturbed bars there is always an untouched one.
    position = np.arange(kept.shape[1]) - slots.bounds[slots.segment]
    size = np.diff(slots.bounds)[slots.segment]
    inner &= (position % 2 == 0) & (position > 0) & (position < size - 1)
    candidates = np.flatnonzero(inner)
    if len(candidates) < sum(counts):
        raise no_room_error("+".join(ROW_KINDS), sum(counts), len(candidates))
    picked = draft.rng.choice(candidates, sum(counts), replace=False)
    return dict(zip(ROW_KINDS, np.split(picked, np.cumsum(counts)[:-1]), strict=True))


def plan_strays(draft: Draft, grid: SessionGrid, kept: Flags) -> tuple[Stray, ...]:
    """Draw `out_of_session` rows in closed time near sessions of their symbol's bars; ParameterError if too few places.

    Raises
    ------
    ParameterError
        Too few openings and closings have time without a segment beside them.
    """
    slots, asked = draft.slots, draft.plan.out_of_session
    edges = segment_edges(grid, slots)
    begins = [slots.slots_of(session)[0] for session in range(len(slots.dates))]
    present = np.logical_or.reduceat(kept, begins, axis=1)
    pairs = np.argwhere(present[:, edges[:, 0]])
    if len(pairs) < asked:
        raise no_room_error("out_of_session", asked, len(pairs))
    strays = []
    for symbol, number in pairs[draft.rng.choice(len(pairs), asked, replace=False)]:
        session, edge, step, nearest, farthest = (int(value) for value in edges[number])
        first, end = slots.slots_of(session)
        at = edge + step * int(draft.rng.integers(nearest, farthest + 1))
        slot = first + int(np.argmax(kept[symbol, first:end]))
        strays.append(Stray(int(symbol), at, at + abs(step), slot))
    return tuple(strays)


def plan_outages(draft: Draft, traded: Flags, free: Flags) -> list[Span]:
    """Draw all-symbol spans, one per session; unset `free` (not read) in those sessions; too few: ParameterError."""
    everyone = tuple(range(len(traded)))
    spans: list[Span] = []
    for session in draft.rng.permutation(free.shape[1]):
        if len(spans) == draft.plan.outage:
            break
        run = random_run(draft, int(session))
        first, end = draft.slots.slots_of(int(session))
        # Whoever trades in that session keeps a bar of it, or a thin name's first or last session would move.
        if run and keeps_a_bar(traded[:, first:end], run[0] - first, run[1] - first):
            free[:, session] = False
            spans.append(Span("outage", everyone, *run))
    return require_all("outage", draft.plan.outage, spans)


def keeps_a_bar(traded: Flags, first: int, end: int) -> bool:
    """Whether every symbol that trades in `[first, end)` of this session's slots also trades in another of them."""
    outside = traded[:, :first].any(axis=1) | traded[:, end:].any(axis=1)
    return bool((outside | ~traded[:, first:end].any(axis=1)).all())


def find_spans(kind: str, draft: Draft, traded: Flags, free: Flags) -> Iterator[Span]:
    """Yield a random span of one kind per free (symbol, session) with room, in random order; set it False in `free`."""
    for cell in draft.rng.permutation(np.flatnonzero(free)):
        symbol, session = divmod(int(cell), free.shape[1])
        run = _FINDERS[kind](draft, traded[symbol], session)
        if run is not None:
            free[symbol, session] = False
            jump = float(draft.rng.choice((-1, 1)) * draft.rng.uniform(0.03, 0.08)) if kind == "halt" else 0.0
            yield Span(kind, (symbol,), *run, jump)


def absent_session_run(draft: Draft, traded: Flags, session: int) -> Run | None:
    """All slots `[first, end)` of a session with trades if the symbol trades both before and after it; else None."""
    first, end = draft.slots.slots_of(session)
    between = traded[:first].any() and traded[end:].any()
    return (first, end) if between and traded[first:end].any() else None


def halt_run(draft: Draft, traded: Flags, session: int) -> Run | None:
    """A run from `missing_middle_run` if the symbol trades in at least 95 % of the session's slots; else None."""
    first, end = draft.slots.slots_of(session)
    return missing_middle_run(draft, traded, session) if traded[first:end].mean() >= LIQUID_SHARE else None


def missing_start_run(draft: Draft, traded: Flags, session: int) -> Run | None:
    """Slots from a session's first one up to before a traded one, at least one of them traded; None if none fits."""
    first, end = draft.slots.run_of(draft.slots.segments_of(session)[0])
    length = edge_run_length(draft, traded[first:end])
    return None if length is None else (first, first + length)


def missing_end_run(draft: Draft, traded: Flags, session: int) -> Run | None:
    """Slots after a traded one to a session's last one, at least one of them traded; None if none fits."""
    first, end = draft.slots.run_of(draft.slots.segments_of(session)[1] - 1)
    length = edge_run_length(draft, traded[first:end][::-1])
    return None if length is None else (end - length, end)


def edge_run_length(draft: Draft, traded: Flags) -> int | None:
    """Random planned length n such that a slot of `[0, n)` and slot n itself are traded; None if none fits."""
    lengths = np.arange(draft.plan.shortest_run, min(draft.plan.longest_run, len(traded) - 1) + 1)
    fits = lengths[traded[lengths] & (lengths > np.argmax(traded))]
    return int(draft.rng.choice(fits)) if len(fits) else None


def missing_middle_run(draft: Draft, traded: Flags, session: int) -> Run | None:
    """A random run in a segment with a traded slot in it, just before it and just after it; None where none fits."""
    stretch = random_run(draft, session)
    if stretch is None:
        return None
    length = stretch[1] - stretch[0]
    begin, end = draft.slots.run_of(int(draft.slots.segment[stretch[0]]))
    bars = np.concatenate([[0], np.cumsum(traded[begin:end])])
    first = np.arange(1, end - begin - length)
    bounded = traded[begin + first - 1] & traded[begin + first + length]
    fits = first[bounded & (bars[first + length] > bars[first])]
    if not len(fits):
        return None
    start = begin + int(draft.rng.choice(fits))
    return start, start + length


def random_run(draft: Draft, session: int) -> Run | None:
    """A random run in a random segment, never its first or last slot; None if all segments are too short."""
    sizes = np.diff(draft.slots.bounds)
    roomy = [s for s in range(*draft.slots.segments_of(session)) if sizes[s] >= draft.plan.shortest_run + 2]
    if not roomy:
        return None
    first, end = draft.slots.run_of(int(draft.rng.choice(roomy)))
    length = int(draft.rng.integers(draft.plan.shortest_run, min(draft.plan.longest_run, end - first - 2) + 1))
    start = int(draft.rng.integers(first + 1, end - length))
    return start, start + length


_FINDERS: dict[str, Finder] = {
    "absent_session": absent_session_run,
    "halt": halt_run,
    "missing_start": missing_start_run,
    "missing_middle": missing_middle_run,
    "missing_end": missing_end_run,
}


def require_all(kind: str, asked: int, found: list[Span]) -> list[Span]:
    """Return the spans unchanged; raise ParameterError when they are fewer than `asked`."""
    if len(found) < asked:
        raise no_room_error(kind, asked, len(found))
    return found


def no_room_error(kind: str, asked: int, room: int) -> ParameterError:
    """A ParameterError (returned, not raised) that says `asked` faults were planned and only `room` fit."""
    return ParameterError(
        f"{kind}: received {asked}; valid: up to {room} with these sessions, symbols and other faults "
        "(more sessions or symbols, or shorter runs, make room)"
    )


def segment_edges(grid: SessionGrid, slots: Slots) -> Ints:
    """Edges of simulated segments with room outside, each: session index, time, signed step (us), least, most steps."""
    opens, closes = micros(grid.table["open"]), micros(grid.table["close"])
    session = slots.dates.search_sorted(grid.table["session"]).to_numpy().astype(np.int64)
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
    simulated = grid.table["session"].is_in(slots.dates.implode()).to_numpy()
    return edges[np.tile(simulated, 2) & (edges[:, 4] >= edges[:, 3])]
