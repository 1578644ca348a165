"""Random cases for the reference and the kernels: venues, rows and batches from one number each.

A round is one axis with a few series on it; each series is one case. What the kernels say of a round is put in the
terms of `engine.reference` here, and nowhere else.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import defaultdict
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import polars as pl
from engine.derive.bars import derive
from engine.grid import ALL_IN_DAYS, GridSpec, SessionGrid
from engine.interval import Interval
from engine.quality.gaps import expected_slots, find_gaps, slot_runs
from engine.quality.score import quality_score
from engine.reference import DAY, MINUTE, SECOND, Dates, Gap, Grid, Row, Segment, Step, cut, slots
from engine.schema import BARS, PROVENANCE, TS
from engine.store.anomalies import count_anomalies
from engine.store.panel import KEY, empty_panel

from tests import axis

HOUR = 60 * MINUTE
STEPS = (
    *(n * SECOND for n in (1, 7, 30, 90)), *(n * MINUTE for n in (1, 5, 7, 14, 15, 30, 45, 60, 90, 120, 240, 480, 720)), "1d", "2d", "3d", "1w", "2w", "1mo", "3mo", "1y",
)  # fmt: skip
CLOCK_CHANGES = (dt.date(2024, 3, 7), dt.date(2024, 3, 8), dt.date(2024, 10, 31), dt.date(2024, 11, 1))
LOCAL_HOURS = {
    "New York": (ZoneInfo("America/New_York"), 0, dt.time(9, 30)),
    "Chicago": (ZoneInfo("America/Chicago"), 1, dt.time(17)),
}
SHARE_OF_SECONDS = 0.3
VENUES = ("odd", "lunch", "early", "round the clock", "extended", "New York", "Chicago", "change of clocks", "years")
CHANGES = {  # by zone: trade dates whose sessions contain the change; Lord Howe moves by half an hour
    "America/New_York": (dt.date(2024, 3, 10), dt.date(2024, 11, 3)),
    "Europe/Berlin": (dt.date(2024, 3, 31), dt.date(2024, 10, 27)),
    "Australia/Lord_Howe": (dt.date(2024, 4, 6), dt.date(2024, 10, 5)),
}
VALUES = ("open", "high", "low", "close", "volume", "size", "vwap", "trades")
ROWS = {
    "series": pl.Int32(), "session": pl.Date(), "ordinal": pl.Int32(), "slot": pl.Int32(), "ts": TS,
    **{name: BARS[name] for name in VALUES}, "provenance": PROVENANCE, "revision": pl.Int64(),
}  # fmt: skip
NOT_OF_THE_REFERENCE = ("session", "ordinal", "slot", "notional", "verdict")
QUALITY = ("expected", "present", "missing", "off_grid", "out_of_session", "backfilled", "zero_volume", "quality")


@dataclass(frozen=True)
class Case:
    """What arrives of one series: calls of batches of rows; and the trade dates it is judged in."""

    calls: list[list[list[Row]]]
    dates: Dates


@dataclass(frozen=True)
class Round:
    """Cases on one axis."""

    grid: Grid
    base: Step
    steps: list[Step]
    as_of: int | None
    cases: list[Case]

    @property
    def spec(self) -> GridSpec:
        """The axis in the kernels' terms."""
        zone = self.grid.clock
        segments = (*self.grid.chosen, *([ALL_IN_DAYS] if self.grid.daily_segments == "all" else []))
        return GridSpec("TEST", segments, "clock" if zone else "session", zone or "UTC")


def random_round(seed: int, cases: int) -> Round:
    """The round of a number, always the same."""
    dice = random.Random(seed)  # noqa: S311 - prices, not secrets
    venue = dice.choice(VENUES)
    grid, base = _venue(venue, dice)
    span = grid.segments[-1].close + 1 - grid.segments[0].open
    as_of = dice.choice([None, grid.segments[0].open + dice.randrange(span), dice.choice(grid.segments).close])
    nested = [step for step in STEPS if _nests(base, step) and (grid.clock is None or _fits_a_day(step))]
    steps = sorted(dice.sample(nested, min(len(nested), dice.randint(1, 3))), key=STEPS.index)
    return Round(grid, base, steps, as_of, [_case(grid, base, dice) for _ in range(cases)])


def _nests(base: Step, step: Step) -> bool:
    if isinstance(step, str):
        return step != base and (isinstance(base, int) or base == "1d")
    return isinstance(base, int) and base < step and step % base == 0


def _fits_a_day(step: Step) -> bool:
    return isinstance(step, str) or DAY % step == 0


def _venue(venue: str, dice: random.Random) -> tuple[Grid, Step]:
    """Sessions of one kind, short enough that a base step cuts them into a few hundred slots at most."""
    bases: list[Step] = [MINUTE, MINUTE, 5 * MINUTE, 7 * MINUTE, "1d"]
    chosen: tuple[str, ...] = ()
    clock = None
    day = dt.date(2024, 1, 1) + dt.timedelta(days=dice.randrange(366))
    if venue in ("New York", "Chicago"):
        day = dice.choice(CLOCK_CHANGES)
        bases = [15 * MINUTE, 30 * MINUTE, HOUR]
        clock = dice.choice([None, "America/New_York", "Asia/Kolkata"])
    elif venue == "change of clocks":
        clock = dice.choice(list(CHANGES))
        day = dice.choice(CHANGES[clock]) - dt.timedelta(days=dice.choice([0, 0, 1]))
        bases = [15 * MINUTE, 30 * MINUTE, 30 * MINUTE, 45 * MINUTE, HOUR, 2 * HOUR]
    elif venue == "years":
        bases = [14 * MINUTE, "1d", "1d"]
    elif venue == "round the clock":
        bases = [30 * MINUTE, HOUR, 14 * MINUTE, "1d"]
    elif venue == "extended":
        chosen = dice.choice([(), ("RTH",), ("PRE", "RTH"), ("PRE", "RTH", "POST"), ("PRE", "POST"), ("POST",)])
        bases, clock = dice.choice([(bases, None), ([MINUTE, 5 * MINUTE], "America/New_York")])
    elif dice.random() < SHARE_OF_SECONDS:
        bases = [SECOND, SECOND, 7 * SECOND, 30 * SECOND]
    base = dice.choice(bases)
    unit = MINUTE if isinstance(base, str) or base >= MINUTE else 3 * SECOND
    out: list[Segment] = []
    is_long = venue == "years"
    for _ in range(dice.randint(1, 40 if is_long else 5)):
        out += _session(venue, day, unit, dice)
        day += dt.timedelta(days=dice.choice([1, 1, 1, 3, *((7, 20, 45) if is_long else ())]))
    return Grid(tuple(out), chosen, clock, dice.choice(["regular", "all"])), base


def _session(venue: str, day: dt.date, unit: int, dice: random.Random) -> list[Segment]:
    """Segments of one trade date; `unit` is what their lengths are counted in."""
    midnight = (day - axis.EPOCH).days * DAY
    if venue == "change of clocks":
        begin = midnight + dice.choice([-2, 0, 0, 1]) * HOUR + dice.choice([0, 0, 10 * MINUTE])
        return [Segment(day, begin, midnight + 22 * HOUR - dice.choice([0, 30 * MINUTE]), "ETH")]
    if venue == "round the clock":
        return [Segment(day, midnight - 2 * HOUR, midnight + 22 * HOUR, "ETH")]
    if venue == "extended":
        spans = [("PRE", 540, 556), ("RTH", 556, 580), ("POST", 580, 590)]
        return [axis.at(day, begin, end, label, regular=label == "RTH") for label, begin, end in spans]
    if venue in LOCAL_HOURS:
        zone, days_ahead, opening = LOCAL_HOURS[venue]
        begin = dt.datetime.combine(day - dt.timedelta(days=days_ahead), opening, zone)
        end = dt.datetime.combine(day, dt.time(16), zone)
        return [Segment(day, int(begin.timestamp()) * SECOND, int(end.timestamp()) * SECOND)]
    if venue in ("lunch", "early"):
        minutes = [(90, 20), (150, 25)] if venue == "lunch" else [(570, dice.choice([31, 31, 12]))]
        begins = [(midnight + begin * MINUTE, length * unit) for begin, length in minutes]
        return [Segment(day, begin, begin + length) for begin, length in begins]
    out = []
    begin = midnight + dice.choice([0, 555, 570]) * MINUTE
    for _ in range(dice.randint(1, 3)):
        end = begin + dice.randint(1, 25) * unit + dice.choice([0, 0, 1, SECOND])
        out.append(Segment(day, begin, end))
        begin = end + dice.choice([0, 1, 20 * MINUTE])
    return out


def _case(grid: Grid, base: Step, dice: random.Random) -> Case:
    starts = {segment: [slot.start for slot in slots(grid, segment, base)] for segment in cut(grid, base)}
    everywhere = [ts for found in starts.values() for ts in found]
    density = dice.choice([0, 0.05, 0.5, 0.9, 1])
    alive = {segment.session for segment in grid.segments if dice.random() < 0.8}
    stamps = [ts for s, found in starts.items() if s.session in alive for ts in found if dice.random() < density]
    for _ in range(dice.choice([0, 0, 1, 5])):  # off the grid, between sessions, before the first and after the last
        first, last = grid.segments[0].open - HOUR, grid.segments[-1].close + HOUR
        stamps += [dice.randint(first, last), dice.choice(everywhere) + dice.choice([-1, 1, SECOND])]
        stamps.append(dice.choice([one for segment in grid.segments for one in (segment.open - 1, segment.close)]))
    stamps = sorted(set(stamps))
    quiet = {name for name in ("volume", "vwap", "trades") if dice.random() < 0.1}
    batches = [[_row(ts, quiet, dice) for ts in stamps]]
    if stamps and dice.random() < 0.5:  # rows that come again: in their batch, and in later ones
        batches = [[] for _ in range(dice.randint(1, 4))]
        for ts in stamps:
            row = _row(ts, quiet, dice)
            for _ in range(dice.choice([1, 1, 1, 2, 3])):
                again = row if dice.random() < 0.5 else _row(ts, quiet, dice)
                dice.choice(batches).append(again)
        for batch in batches:
            dice.shuffle(batch)
    size = dice.randint(1, len(batches))
    calls = [batches[:size], *([batch] for batch in batches[size:])]
    for call in calls:
        origin = dice.choice(["source", "source", "backfill", "synthetic"])
        call[:] = [[{**row, "provenance": origin} for row in batch] for batch in call]
    days = sorted(dice.choices(sorted({segment.session for segment in grid.segments}), k=2))
    return Case(calls, (days[0], days[1]))


def _row(ts: int, quiet: set[str], dice: random.Random) -> Row:
    low = 1 + int(dice.random() * 1000)
    high = low + dice.randint(0, 8)
    values = {
        "open": dice.randint(low, high) / 4, "high": high / 4, "low": low / 4, "close": dice.randint(low, high) / 4,
        "volume": dice.choice([None, 0.0, 1.0, 100.0, 250.0]), "size": dice.choice([None, 5.0]),
        "vwap": dice.choice([None, low / 4, high / 4, high / 4]), "trades": dice.choice([None, 0, 7]),
    }  # fmt: skip
    return {"ts": ts, **values, **dict.fromkeys(quiet)}


# ---------------------------------------------------------------------------- the kernels


@dataclass(frozen=True)
class Answers:
    """What the kernels say, by the number of the case."""

    panel: pl.DataFrame
    rows: dict[int, list[Row]]
    repeats: dict[int, tuple[int, int]]
    conflicts: dict[int, list[Row]]
    bars: dict[tuple[int, Step], list[Row]]
    gaps: dict[tuple[int, Step], list[Gap]]
    quality: dict[tuple[int, Step], list[Row]]


def session_grid(one: Round) -> SessionGrid:
    """The axis of a round, at its base."""
    return SessionGrid.build(axis.frame(list(one.grid.segments)), interval(one.base), one.spec)


def interval(step: Step) -> Interval:
    """A step in the kernels' terms."""
    return Interval.parse(step if isinstance(step, str) else f"{step // SECOND}s")


def instants(stamps: list[int]) -> pl.Series:
    """Microseconds as the column `ts`."""
    return pl.Series("ts", stamps, pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def answers(one: Round) -> Answers:
    """All rows of a round in one panel, and what is computed from that."""
    grid = session_grid(one)
    held = empty_panel(ROWS, KEY, VALUES)
    counted, lost = [], []
    for number in range(max(len(case.calls) for case in one.cases)):
        calls = {n: case.calls[number] for n, case in enumerate(one.cases, 1) if number < len(case.calls)}
        flat = [
            {"series": n, "batch": at, "revision": number, **row}
            for n, batches in calls.items() for at, batch in enumerate(batches) for row in batch
        ]  # fmt: skip
        frame = pl.DataFrame(flat, schema={**ROWS, "ts": pl.Int64, "batch": pl.Int32()})
        stamps = instants(frame["ts"].to_list())
        done = held.upsert(frame.with_columns(stamps, *grid.place(stamps).get_columns()))
        held = done.panel
        counted.append(done.counts.select("series", "duplicates", "corrections"))
        lost.append(done.conflicts)
    rows, conflicts = held.frame, pl.concat(lost)
    sums = pl.concat(counted).group_by("series").sum()
    derived = derive(rows, grid, [interval(step) for step in one.steps])
    bars = {step: derived[interval(step)] for step in one.steps}
    lifetimes = pl.DataFrame(
        [(n, *case.dates) for n, case in enumerate(one.cases, 1)],
        schema={"series": pl.Int32, "first": pl.Date, "last": pl.Date}, orient="row",
    )  # fmt: skip
    as_of = None if one.as_of is None else instants([one.as_of])[0]
    present = {one.base: rows.filter(pl.col("slot").is_not_null() & (pl.col("provenance") != "synthetic"))}
    present |= {step: frame.filter(pl.col("n_base") > 0) for step, frame in bars.items()}
    gaps, quality = {}, {}
    for step, frame in present.items():
        level = grid.at(interval(step))
        wanted = expected_slots(lifetimes, level, as_of)
        found = find_gaps(wanted, slot_runs(frame), level)
        counts = count_anomalies(rows if step == one.base else rows.clear(), level.due()["ordinal"])
        judged = quality_score(wanted, found, counts).select("series", "session", *QUALITY)
        quality |= by_case(judged, step, len(one.cases))
        spans = found.select("series", "session", "gap_start", "gap_end", "bar_count", "position")
        listed = by_case(spans, step, len(one.cases))
        gaps |= {key: [Gap(*gap.values()) for gap in runs_missing] for key, runs_missing in listed.items()}
    derived_bars: dict[tuple[int, Step], list[Row]] = {}
    for step, frame in bars.items():
        derived_bars |= by_case(frame.drop(NOT_OF_THE_REFERENCE), step, len(one.cases))
    columns = ["series", "ts", *VALUES, "provenance"]
    repeats = {row["series"]: (row["duplicates"], row["corrections"]) for row in sums.to_dicts()}
    return Answers(
        panel=rows,
        rows=by_series(rows.select(columns), len(one.cases)),
        repeats=defaultdict(lambda: (0, 0), repeats),
        conflicts=by_series(conflicts.select(columns), len(one.cases)),
        bars=derived_bars,
        gaps=gaps,
        quality=quality,
    )


def by_case(frame: pl.DataFrame, step: Step, cases: int) -> dict[tuple[int, Step], list[Row]]:
    """Rows of each case at one step."""
    listed = by_series(frame, cases)
    return {(n, step): rows for n, rows in listed.items()}


def by_series(frame: pl.DataFrame, cases: int) -> dict[int, list[Row]]:
    """Rows of each case as dicts, instants as microseconds."""
    out: dict[int, list[Row]] = {n: [] for n in range(1, cases + 1)}
    for row in frame.with_columns(pl.col(TS).cast(pl.Int64)).to_dicts():
        out[row.pop("series")].append(row)
    return out
