"""A simulated vendor over several days, and sessions that follow it: undisturbed, or killed, stopped and started again.

The world says of each bar when the feed sends it, with which values, and since when the vendor's history has it. A process
that is not connected misses what the feed sends. Everything follows from the seed.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from engine import open_dataset
from engine.calendars.providers import calendar
from engine.clock import ManualClock
from engine.errors import ExportError, StreamError
from engine.export.tables import DATA_TABLES, KEYS
from engine.interval import Interval
from engine.runtime.config import SessionConfig
from engine.runtime.live import LiveSession
from engine.schema import BARS, REJECTS
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, StreamStatus, Subscription
from polars.testing import assert_frame_equal

FIVE = Interval(5, "m")
BAR = dt.timedelta(minutes=5)
STEP = dt.timedelta(minutes=30)
STEPS_TAKEN = (0.15, 0.45)  # share of the half hours in which a process steps, by world: steps are what costs
CADENCE = 4  # half hours between two revisions
UTC = dt.UTC
# Tuesday, half day, holiday, Friday, weekend, Monday; of the second, whose days end with an auction, from Wednesday on.
DATES = {"XNYS": (dt.date(2024, 7, 2), dt.date(2024, 7, 8)), "XLON": (dt.date(2024, 7, 3), dt.date(2024, 7, 8))}
NEVER = dt.datetime(2100, 1, 1, tzinfo=UTC)
TRIED = ("last_retry", "next_retry")


class Sent(NamedTuple):
    """Bars or rejects that the feed sends at an instant, in one delivery."""

    at: dt.datetime
    bars: tuple[tuple[str, dt.datetime, float], ...] = ()
    rejects: tuple[str, ...] = ()


class Restart(NamedTuple):
    """End of a process after the step at an instant, and the start of the next one."""

    at: dt.datetime
    how: str  # kill: after the step; torn: before the export of the step; stop: as by SIGTERM
    again: dt.datetime


@dataclass
class World:
    """What the feed sends and the history knows; `versions` are (symbol, ts) -> [(known since, close)]."""

    seed: int
    calendar: str = "XNYS"
    sent: list[Sent] = field(default_factory=list)
    versions: dict[tuple[str, dt.datetime], list[tuple[dt.datetime, float]]] = field(default_factory=dict)
    history_out: tuple[dt.datetime, dt.datetime] = (NEVER, NEVER)
    target_out: list[tuple[dt.datetime, dt.datetime]] = field(default_factory=list)
    feed_out: list[tuple[dt.datetime, dt.datetime]] = field(default_factory=list)
    lost: set[dt.datetime] = field(default_factory=set)  # ends of bars that the feed does not send
    absent: list[tuple[dt.datetime, dt.datetime]] = field(
        default_factory=list
    )  # ends of bars without a trade, and of the session
    added: tuple[str, dt.datetime] = ("C", NEVER)
    removed: tuple[str, dt.datetime] = ("D", NEVER)
    spans: list[tuple[dt.datetime, dt.datetime]] = field(default_factory=list)
    events: set[dt.datetime] = field(default_factory=set)  # steps whose counts only the feed tells

    @classmethod
    def of(cls, seed: int) -> World:
        rng = np.random.default_rng(seed)
        world = cls(seed, "XLON" if seed % 4 == 3 else "XNYS")
        segments = calendar(world.calendar).segments(*DATES[world.calendar]).filter(pl.col("segment") == "RTH")
        world.spans = list(segments.select("segment_open", "segment_close").iter_rows())
        opens = [span[0] for span in world.spans]
        world.added = ("C", opens[1] + int(rng.integers(2, 6)) * STEP)
        world.removed = ("D", opens[2] + int(rng.integers(2, 10)) * STEP)
        for day in rng.permutation([0, 2])[: rng.integers(1, 3)]:
            begin = opens[day] + int(rng.integers(1, 30)) * BAR
            world.feed_out.append((begin, begin + int(rng.integers(2, 9)) * BAR))
        begin = opens[int(rng.choice([0, 2]))] + int(rng.integers(2, 8)) * STEP
        world.history_out = (begin, begin + int(rng.integers(1, 6)) * STEP)
        for begin, end in (world.spans[n] for n in np.random.default_rng([seed, 1, 1]).permutation(4)[:2]):
            world.target_out.append((begin + 4 * STEP, end + STEP))
        late_by = [dt.timedelta(0), dt.timedelta(minutes=40), dt.timedelta(hours=2), None][rng.integers(4)]
        pieces: list[Sent] = []
        for day, (begin, end) in enumerate(world.spans):
            for number in range((end - begin) // BAR):
                for symbol in "ABCD":
                    if symbol != "B" or rng.random() > 0.02:
                        pieces += world._sent_of(rng, day, symbol, begin + number * BAR, late_by)
                    else:  # no trade
                        world.absent.append((begin + (number + 1) * BAR, end))
            junk = begin + int(rng.integers(1, 7)) * STEP
            pieces.append(Sent(junk, (), (f"junk of day {day}",)))
            world.events.add(world.step_of(junk))
        world.sent = sorted(pieces, key=lambda one: one.at)
        return world

    def _sent_of(
        self, rng: np.random.Generator, day: int, symbol: str, ts: dt.datetime, late_by: dt.timedelta | None
    ) -> list[Sent]:
        """What the feed sends of a bar, and when; enters its versions in the history."""
        close, over, chance = round(100 + float(rng.random()), 3), ts + BAR, rng.random()
        is_calm = day in (1, 3)
        if any(a <= over < b for a, b in self.feed_out):  # lost; the history has it at once, later, or never
            self.lost.add(over)
            self.versions[symbol, ts] = [] if late_by is None else [(over + late_by, close)]
            return []
        if chance < 0.01 and symbol != "C" and not is_calm:  # late, and by the feed alone
            late = over + int(rng.choice([2, 3, 20, 60])) * STEP
            if not any(a <= late <= b for a, b in self.spans):
                late = self.spans[min(day + 1, 3)][0] + 2 * STEP
            self.events.add(self.step_of(late))
            return [Sent(late, ((symbol, ts, close),))]
        sent = [Sent(over, ((symbol, ts, close),))]
        self.versions[symbol, ts] = [(over, close)]
        corrected = over + int(rng.choice([1, 2, 15, 60])) * STEP
        if chance > 0.985 and not is_calm and any(a <= corrected <= b for a, b in self.spans):
            sent.append(Sent(corrected, ((symbol, ts, close + 1),)))
            self.versions[symbol, ts].append((corrected, close + 1))
            self.events.add(self.step_of(corrected))
        elif 0.975 < chance <= 0.985:
            sent.append(Sent(over, ((symbol, ts, close),)))
            self.events.add(self.step_of(over))
        return sent

    @property
    def operations(self) -> tuple[dt.datetime, dt.datetime]:
        """When a symbol is added, and one removed."""
        return self.added[1], self.removed[1]

    @staticmethod
    def step_of(at: dt.datetime) -> dt.datetime:
        """First step at or after an instant."""
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + -(-(at - midnight) // STEP) * STEP

    @cached_property
    def steps(self) -> list[dt.datetime]:
        """Instants of the steps: in the morning before each session, then a random share of the half hours until the night."""
        rng = np.random.default_rng([self.seed, 0, 0])
        share, found = rng.uniform(*STEPS_TAKEN), []
        for begin, end in self.spans:
            found.append(begin - dt.timedelta(hours=2))
            later = [begin + n * STEP for n in range((end - begin) // STEP + 2)] + [end + dt.timedelta(hours=5)]
            found += [one for one in later if rng.random() < share or one in self.operations]
        # A process that is started in the last session also steps: what it asks for belongs to its first step.
        return [*found, later[-1]] if found[-1] != later[-1] else found

    def restarts(self, pattern: int) -> list[Restart]:
        """Random ends of processes: in a session with a new one at once, at night with one the next morning."""
        rng = np.random.default_rng([self.seed, pattern])
        steps, found = self.steps, []
        early = [one for one in steps[1:] if one <= self.spans[-1][1]]
        for at in sorted(early[n] for n in rng.permutation(len(early))[: rng.integers(1, 7)]):
            if found and at <= found[-1].again:
                continue
            again = at
            if not any(begin <= at <= end for begin, end in self.spans):
                opens = min(begin for begin, _ in self.spans if begin > at)
                again = next((one for one in steps if at < one <= opens and opens - one <= 4 * STEP), at)
            found.append(Restart(at, ["kill", "torn", "stop"][rng.integers(3)], again))
        return found


class Feed:
    """The world's feed and history to one process."""

    def __init__(self, world: World, clock: ManualClock) -> None:
        self.world, self.clock = world, clock
        self.at = clock.now()
        self.symbols: set[str] = set()
        self.asked_at: set[dt.datetime] = set()

    def available(self, symbols: Sequence[str]) -> Mapping[str, frozenset[Resolution]]:
        return {symbol: frozenset({("bars", FIVE)}) for symbol in symbols}

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        self.symbols |= {one.symbol for one in subscriptions}

    def unsubscribe(self, symbol: str) -> None:
        self.symbols.discard(symbol)

    def next_at(self) -> dt.datetime | None:
        return None

    def take(self, until: dt.datetime) -> list[Delivery]:
        now = self.clock.now()
        came = [one for one in self.world.sent if self.at < one.at <= now]
        self.at = now
        rows = [row for one in came for row in one.bars if row[0] in self.symbols]
        seen: dict[tuple[str, dt.datetime], int] = {}
        frames: list[list[tuple[str, dt.datetime, float]]] = []
        for row in rows:
            turn = seen[row[:2]] = seen.get(row[:2], -1) + 1
            frames += [[]] * (turn == len(frames))
            frames[turn] = [*frames[turn], row]
        made = [Delivery("bars", (bars(frame),), FIVE) for frame in frames]
        junk = [cells for one in came for cells in one.rejects]
        if junk:
            made.append(Delivery("bars", (), FIVE, rejects=rejects(junk)))
        return made

    def wait(self, seconds: float) -> bool:
        return True

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        now = self.clock.now()
        self.asked_at.add(now)
        if self.world.history_out[0] <= now < self.world.history_out[1]:
            raise StreamError("the history does not answer")
        rows = []
        for (symbol, ts), versions in self.world.versions.items():
            asked = any(one.symbol == symbol and one.start <= ts < one.end for one in requests)
            known = [close for since, close in versions if since <= now]
            if asked and known:
                rows.append((symbol, ts, known[-1]))
        return [Delivery("bars", (bars(rows),), FIVE)] if rows else []

    def status(self) -> StreamStatus:
        return StreamStatus()

    def close(self) -> None:
        pass


def bars(rows: Sequence[tuple[str, dt.datetime, float]]) -> pl.DataFrame:
    whole = [
        (symbol, "last", ts, close, close + 1, close - 1, close, 5.0, None, close, 1) for symbol, ts, close in rows
    ]
    return pl.DataFrame(whole, schema=dict(BARS), orient="row")


def rejects(cells: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame([("feed", None, "no bar", one) for one in cells], schema=dict(REJECTS), orient="row")


def configured(world: World, target: Path, symbols: Sequence[str], *, indicators: bool) -> SessionConfig:
    return SessionConfig.of(
        {
            "session": {"calendar": world.calendar, "mode": "live", "symbols": list(symbols)},
            "source": {"kind": "alpaca"},
            "streams": {"bars": "5m"},
            "derive": ["15m", "1d", "1w"],
            "indicators": [{"use": "ema(3)"}, {"use": "sma(4)", "intervals": ["15m"]}] if indicators else [],
            "live": {"grace_seconds": 0},
            "gaps": {"retries": 3, "interval_seconds": 1800, "backoff": 2},
            "export": {"target": str(target), "every_seconds": CADENCE * STEP.total_seconds()},
        }
    )


class Killed(BaseException):
    """The process ends here."""


class Process:
    """A live session of the world, with what the next one is started with."""

    def __init__(self, world: World, target: Path, *, indicators: bool, is_target_out: bool) -> None:
        self.world, self.target, self.indicators, self.is_target_out = world, target, indicators, is_target_out
        self.symbols = ["A", "B", "D"]
        self.clock = ManualClock(world.steps[0] - STEP)
        self.written = self.clock.now()
        self.launch()

    def launch(self) -> None:
        self.feed = Feed(self.world, self.clock)
        config = configured(self.world, self.target, self.symbols, indicators=self.indicators)
        self.live = LiveSession(config, self.feed, self.clock, fetch_aside=False)
        self.live.start()

    def step(self, at: dt.datetime, *, is_torn: bool = False) -> None:
        if at == self.world.added[1]:
            self.symbols.append("C")
            self.live.add_symbol("C")
        if at == self.world.removed[1]:
            self.symbols.remove("D")
            self.live.remove_symbol("D")
        export, ask, exported, advanced = self.live.coordinator._export, self.live._ask, None, None

        def recorded(*arguments: object) -> int:
            nonlocal exported
            if self.is_target_out and any(begin <= at < end for begin, end in self.world.target_out):
                raise ExportError("the target is out of reach")
            made = export(*arguments)
            exported = self.live.session.snapshot().revision
            return made

        def asked(now: dt.datetime) -> None:
            nonlocal advanced
            advanced = self.live.session.snapshot().revision
            ask(now)

        # Symbols are added and removed by revisions of their own.
        self.live.coordinator._export, self.live._ask = die if is_torn else recorded, asked
        with suppress(Killed):
            self.live.step()
            # A revision at the turn of a session is made before the step takes in what came.
            self.written = at if exported == advanced else self.written
        self.live.coordinator._export, self.live._ask = (
            export,
            ask,
        )  # the step may have asked for what only a stop records

    def end(self, at: dt.datetime, how: str) -> None:
        """Step once more and end; a process that knows more than the export and the history do is stopped, not killed."""
        is_out = self.world.history_out[0] <= at < self.world.history_out[1]
        self.step(at, is_torn=how == "torn" and not is_out and not self._knows_more(at))
        if how == "stop" or is_out or self._knows_more(at):
            self.live.close()
        self.written = at

    def _knows_more(self, at: dt.datetime) -> bool:
        # Retries are made after the revision of their step.
        is_lost = any(self.written < over <= at for over in self.world.lost)
        has_asked = any(self.written <= one <= at for one in self.feed.asked_at)
        # The time of a first retry is set by the step that sees the gap: the process knows it alone until a revision has it.
        has_scheduled = any(
            any(self.written < one < at and over <= one < end for one in self.world.steps)
            and not any(over <= one <= self.written for one in self.world.steps)
            for over, end in self.world.absent
        )
        has_heard = any(self.written < one <= at for one in self.world.events)
        return is_lost or has_asked or has_scheduled or has_heard


def die(*_: object) -> int:
    raise Killed


def run(
    world: World,
    target: Path,
    restarts: Sequence[Restart] = (),
    *,
    indicators: bool = False,
    is_target_out: bool = False,
) -> LiveSession:
    """Follow the world to its end with these restarts; the last session, stopped. Its target holds the last revision.

    `is_target_out`: exports fail from the middle of a session until after its close, in two of the four.
    """
    ends = {one.at: one for one in restarts}
    process, away = Process(world, target, indicators=indicators, is_target_out=is_target_out), None
    for at in world.steps:
        if away is not None and at < away:
            continue
        process.clock.set(at)
        if away is not None:
            process.launch()
            away = None
        end = ends.get(at)
        if end is None:
            process.step(at)
            continue
        process.end(at, end.how)
        if end.again > at:
            away = end.again
        else:
            process.launch()
    process.live.close()
    return process.live


def tables(target: Path) -> dict[str, pl.DataFrame]:
    """All tables of the newest revision, sorted, without the number of the revision that wrote a row."""
    last = open_dataset(target)
    return {
        name: last.scan(name).drop("revision").collect().sort(*KEYS[name], maintain_order=True) for name in DATA_TABLES
    }


def differences(
    target: Path, undisturbed: Mapping[str, pl.DataFrame], *, without_times_on: Sequence[dt.date] = ()
) -> list[str]:
    """What differs between the newest revision of a target and other tables: table, rows that one of them has alone.

    On some days the instants of retries may differ: how long an endpoint is left alone that failed is no part of the data.
    """
    is_compared = ~pl.col("session").is_in(list(without_times_on))
    without_times = [pl.when(is_compared).then(pl.col(name)).alias(name) for name in TRIED]
    found = []
    for name, rows in tables(target).items():
        pair = (rows, undisturbed[name])
        one, other = (table.with_columns(without_times) if name == "gaps" else table for table in pair)
        if not one.equals(other):
            more, less = (
                a.join(b, on=one.columns, how="anti", nulls_equal=True) for a, b in ((one, other), (other, one))
            )
            found.append(
                f"{name}: {one.height} rows, {other.height} undisturbed; more {more.head(3).rows()}; "
                f"less {less.head(3).rows()}"
            )
    return found


def broken_laws(folder: Path, seed: int, patterns: int) -> Iterator[str]:
    """Where sessions with this many patterns of restarts differ from the undisturbed one: tables, and values of indicators."""
    world, has_indicators = World.of(seed), seed % 2 == 1
    whole = run(world, folder / f"{seed}", indicators=has_indicators)
    right_tables = tables(folder / f"{seed}")
    for pattern in range(patterns):
        restarts, target = world.restarts(pattern), folder / f"{seed} {pattern}"
        last = run(world, target, restarts, indicators=has_indicators, is_target_out=pattern % 2 == 1)
        out = [one.at.date() for one in restarts if world.history_out[0] <= one.at <= world.history_out[1]]
        found = differences(target, right_tables, without_times_on=out)
        for symbol in ("A", "B", "C") if has_indicators else ():
            for interval in ("5m", "15m"):
                held, right = (one.session.get_symbol_data(symbol).indicator_values(interval) for one in (last, whole))
                if held.is_empty() or not are_close(held, right.filter(pl.col("ts") >= held["ts"].min())):
                    found.append(f"indicators of {symbol} {interval}")
        yield from (f"seed {seed}, pattern {pattern}, {restarts}: {one}" for one in found)
        shutil.rmtree(target)
    shutil.rmtree(folder / f"{seed}")


def are_close(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Whether values agree but for the last bits: a mean that is carried on and one of its window are rounded differently."""
    try:
        assert_frame_equal(one, other, rel_tol=1e-12, abs_tol=0)
    except AssertionError:
        return False
    return True
