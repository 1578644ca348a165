"""Replay of files: calls the coordinator as fast as possible, paced by a clock, or step by step.

The deployment of a live source is `engine.runtime.live`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import polars as pl

from engine import __version__
from engine.arguments import check_arguments
from engine.clock import Clock, WallClock
from engine.errors import ParameterError
from engine.export.target_folder import LOCK_TIMEOUT_SECONDS
from engine.interval import Interval
from engine.runtime.config import SessionConfig
from engine.runtime.coordinator import SessionCoordinator, Step
from engine.runtime.load import Contents, read_files
from engine.runtime.options import CalendarMap, LoadOptions, Progress
from engine.runtime.replay import ReplayStream
from engine.runtime.run import export_session
from engine.runtime.subscription_plan import Requirements, plan_subscription
from engine.sources.options import ReadOptions
from engine.sources.resolution import Resolution
from engine.sources.streams.contract import Resolution as Offered
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

Sleep = Callable[[float], None]


class ReplaySession:
    """A replay of files, from a configuration.

    Parameters
    ----------
    config : SessionConfig
    progress : callable, optional
        Called after each file that was read.
    clock : Clock, optional
        Paces the replay and stamps exports; default the machine's.
    """

    @check_arguments("config")
    def __init__(self, config: SessionConfig, progress: Progress | None = None, clock: Clock | None = None) -> None:
        if config.session.mode != "replay":
            raise ParameterError(f"session.mode: received {config.session.mode!r}; valid here: replay")
        self.config = config
        self.clock = clock or WallClock()
        self.contents = read_files(config.source.paths, configured_load_options(config), progress)
        self.session = SessionData(
            incomplete=config.session.incomplete, store_id=replay_identity(config, self.contents)
        )
        self.session.add_files(self.contents.marks)
        self.stream = ReplayStream(self.contents, self.session.calendar)
        known = {one.symbol: one for one in self.contents.symbols}
        self.coordinator = SessionCoordinator(
            config, self.stream, registrations_of(known), self.session, exporter(config, self.clock)
        )

    def load(self) -> None:
        """Register and load the configured symbols (default: all of the files) for the configured or observed dates."""
        symbols = list(self.config.session.symbols) or sorted(self.stream.symbols)
        first, last = self._dates()
        self.coordinator.load(symbols, first, last)

    def steps(self) -> Iterator[Step]:
        """Load if phase is `new`; yield a step for each open, each `replay.step` with rows and each close; then `finish`."""
        if self.coordinator.phase == "new":
            self.load()
        while (to := self._next()) is not None:
            yield self.coordinator.advance(to)
        yield self.coordinator.finish()

    def paced(self, sleep: Sleep, speed: float | None = None) -> Iterator[Step]:
        """Yield `steps`, sleeping so that sessions pass at `speed` (None: configured) times real time; 0: no sleep."""
        speed = self.config.replay.speed if speed is None else speed
        began: tuple[dt.datetime, dt.datetime] | None = None
        for step in self.steps():
            # Nights are not waited for; time spent by the caller on a step shortens the wait.
            began = (began or (self.clock.now(), step.at)) if self.coordinator.phase == "running" else None
            yield step
            ahead = self._next()
            if not speed or began is None or ahead is None:
                continue
            due = began[0] + (ahead - began[1]) / speed
            sleep(max((due - self.clock.now()).total_seconds(), 0.0))

    def run(self) -> SessionData:
        """Replay all steps without pacing, export included; return the store."""
        for _ in self.steps():
            pass
        return self.session

    def _next(self) -> dt.datetime | None:
        """Next open if waiting; else end of the step with the next row, at most the close; None after the last."""
        span, now = self.coordinator.current, self.coordinator.now
        if span is None or now is None:
            return None
        if self.coordinator.phase == "waiting":
            return span.opens
        step = self.config.replay.step
        ahead = max(self.stream.next_at() or span.closes, now + dt.timedelta(microseconds=1))
        steps = -(-(ahead - span.opens) // step)
        return min(span.opens + steps * step, span.closes)

    def _dates(self) -> tuple[dt.date, dt.date]:
        """Configured (start, end); one not set is the first or last row's trade date; ParameterError without rows."""
        part, extent = self.config.session, self.stream.extent()
        if part.start is not None and part.end is not None:
            return part.start, part.end
        if extent is None:
            raise ParameterError("session: its sources hold no row; valid: files with rows, or start and end")
        first, last = (self._trade_dates(at) for at in extent)
        return part.start or first[0], part.end or last[-1]

    def _trade_dates(self, at: dt.datetime) -> list[dt.date]:
        """Sorted trade dates of the sessions of any calendar that hold an instant, else of all in 4 days, else its UTC date."""
        margin = dt.timedelta(days=4)
        codes = {one.calendar for one in self.contents.symbols}
        near = pl.concat(
            self.session.calendar(code).segments_in_bounds(at.date() - margin, at.date() + margin) for code in codes
        )
        held = near.filter((near["segment_open"] <= at) & (near["segment_close"] >= at))
        return sorted(set((held if held.height else near)["session"])) or [at.date()]


def configured_load_options(config: SessionConfig) -> LoadOptions:
    """Load options of a configuration without its dates; a symbol's base is its plan's (None: ticks or quotes)."""
    part = config.session
    patterns = tuple(part.calendars.items())

    def choose(group: str, available: Iterable[Resolution]) -> Resolution:
        """The base that the subscription plan of a symbol or root chooses; None where bars are made of ticks or quotes."""
        offered: set[Offered] = {("ticks", None) if one is None else ("bars", one) for one in available}
        plan = plan_subscription(group, Requirements.of(config, group), offered)
        return plan.base if plan.base_from == "bars" else None

    read = ReadOptions(**{"symbols": part.symbols or None, **config.source.read})
    return LoadOptions(
        CalendarMap(part.calendar, patterns),
        segments=part.segments,
        align=read.align,
        incomplete=part.incomplete,
        derive=tuple(map(Interval.parse, config.derive)),
        keep_source=config.source.keep_source,
        choose=choose,
        read=read,
    )


def exporter(
    config: SessionConfig, clock: Clock, lock_timeout: Callable[[], float] = lambda: LOCK_TIMEOUT_SECONDS
) -> Callable[[SessionData], int] | None:
    """Function that exports a store to the configured target and returns the revision; None without `[export]`.

    `lock_timeout` is asked at each export: seconds to wait for another exporter of the target.
    """
    part = config.export
    if part is None:
        return None
    target: Path = part.target
    return lambda session: export_session(session, target, clock, skip_unchanged=True, lock_timeout=lock_timeout())


def registrations_of(known: dict[str, SymbolSessionData]) -> Callable[[str], SymbolSessionData]:
    """Function from symbol to its registration, marked not loaded; ParameterError for symbols not in the files."""

    def describe(symbol: str) -> SymbolSessionData:
        """The symbol as the files describe it, not loaded yet; ParameterError where no file has it."""
        if symbol not in known:
            raise ParameterError(f"symbol: {symbol} is not in the files; they have {', '.join(sorted(known)[:10])}")
        return replace(known[symbol], is_loaded=False)

    return describe


def replay_identity(config: SessionConfig, contents: Contents) -> str:
    """Hash of version, file contents, step and configuration without export and paths: the id of the store."""
    asked = config.model_dump(mode="json", exclude={"export": True, "source": {"paths"}, "replay": True})
    content = orjson.dumps(
        [__version__, asked, sorted(contents.marks), config.replay.step.total_seconds()], option=orjson.OPT_SORT_KEYS
    )
    return hashlib.sha256(content).hexdigest()[:32]
