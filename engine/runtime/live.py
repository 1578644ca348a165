"""A live session: a coordinator on the machine's clock, a source that pushes, and retries of gaps.

1. `LiveSession.start` registers the symbols, appends the rows that an earlier process exported (`resume`), and
   requests the rest of the history and of today from the source.
2. `step` advances to now; `run` does so whenever rows arrive, until it is told to stop, and writes the last revision.
3. Requests for the past may block: they run in a thread of their own, and `step` appends their answers. In `run` every
   other call of the source has a thread too, and is left when the session is stopped (`InterruptibleStream`). An export
   that takes too long is left as well (`BoundedExport`).
4. An answer that cannot be used is asked for again in halves, so that one symbol's history is not that of the others.
5. Consumers are called after each step; an error of one of them is recorded, and ends neither the session nor the
   others.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, cast

from engine.arguments import check_arguments, one_name
from engine.clock import Clock, WallClock, steady_seconds
from engine.errors import AnswerError, EngineError, ParameterError, PluginError, StreamError, StreamStoppedError
from engine.export.target_folder import LOCK_TIMEOUT_SECONDS, check_target, explained_errors
from engine.interval import Interval
from engine.plugins import SOURCES as PLUGINS
from engine.plugins import Plugin, plugin_named
from engine.runtime.bounded_export import BoundedExport
from engine.runtime.config import SOURCES, SessionConfig, revealed_options
from engine.runtime.coordinator import Exporter, SessionCoordinator, Step
from engine.runtime.deployments import exporter
from engine.runtime.gap_filler import GapFiller, HistoryEndpoint
from engine.runtime.options import CalendarMap
from engine.runtime.resume import Continuation
from engine.sources.streams.bounded_calls import Worker
from engine.sources.streams.contract import Delivery, HistoryRequest, Stream
from engine.sources.streams.folder import FolderStream
from engine.sources.streams.interruptible import InterruptibleStream
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

Consumer = Callable[[SessionData, Step], None]
DAYS_AHEAD = dt.timedelta(days=14)  # how far sessions are known in advance; they are looked up again as days go by
ERRORS_KEPT = 100
EXPORT_SECONDS = 45.0  # for which a step waits for its export: less than `/healthz` waits for a step
LOCK_SECONDS, LOCK_SECONDS_AT_END = 1.0, 15.0  # for which an export waits for another one of its target


class Requested(NamedTuple):
    """Requests that are being fetched, their answer, and whether they are of what was missed before the start."""

    requests: tuple[HistoryRequest, ...]
    answer: Future[list[Delivery]]
    is_missed: bool
    asked_at: float  # of `steady_seconds`


class LiveSession:
    """A session that follows a live source.

    Parameters
    ----------
    config : SessionConfig
        With `session.mode = "live"`.
    stream : Stream
    clock : Clock, optional
        Default the machine's.
    fetch_aside : bool
        Request the past, and export, in threads of their own (else `step` waits for the answer, and the export's end).
    """

    @check_arguments("config")
    def __init__(
        self, config: SessionConfig, stream: Stream, clock: Clock | None = None, *, fetch_aside: bool = True
    ) -> None:
        if config.session.mode != "live":
            raise ParameterError(f"session.mode: received {config.session.mode!r}; valid here: live")
        self.config = config
        self.stream = stream
        self.clock = clock or WallClock()
        self.session = SessionData(incomplete=config.session.incomplete)
        self.errors: deque[str] = deque(maxlen=ERRORS_KEPT)
        self.error_count = 0
        """Errors so far, also those that `errors` does not hold any more."""
        self.history_requests = {"answered": 0, "failed": 0}
        """Requests of the past after the start, by outcome."""
        self.step_seconds = 0.0
        """Duration of the last step, its export included."""
        self.last_step_at: float | None = None
        """When the last step ended (`steady_seconds`); None before the start is done."""
        self._is_ending = False
        self.consumers: list[Consumer] = []
        self.source = InterruptibleStream(stream)
        self._worker = Worker("backfill") if fetch_aside else None
        self._bounded_export: BoundedExport | None = None
        grace = dt.timedelta(seconds=config.live.grace_seconds)
        self.coordinator = SessionCoordinator(
            config,
            self.source,
            self._describe,
            self.session,
            self._scheduled(exporter(config, self.clock, self._lock_timeout)),
            grace=grace,
            report_failed_export=self._report_failed_export,
        )
        self.filler = GapFiller(self.session, config.gaps)
        self._endpoint = HistoryEndpoint(config.gaps.interval_seconds)
        self._left_alone: dict[str, HistoryEndpoint] = {}  # symbols whose answers cannot be used
        self._calendars = CalendarMap(config.session.calendar, tuple(config.session.calendars.items()))
        self._requested: deque[Requested] = deque()

    def start(self) -> None:
        """Load symbols with exported and past rows (default from yesterday), subscribe, and advance to now."""
        now = self.clock.now()
        symbols = list(self.config.session.symbols) or sorted(self.source.available([]))
        if not symbols:
            raise ParameterError("session.symbols: none given, and the source names none; valid: the symbols to stream")
        first = self.config.session.start or now.date() - dt.timedelta(days=1)
        last = self.config.session.end or now.date() + DAYS_AHEAD
        past = None
        if self.config.export is not None:
            with explained_errors(self.config.export.target):
                check_target(self.config.export.target)
            past = Continuation.of(self.config.export.target)
        if past is not None and isinstance(self.stream, FolderStream):
            self.stream.skip_delivered(past.written_at)
        with self.session.transaction():
            self.coordinator.load(symbols, first, last, at=now, past=past)
            self.coordinator.advance(now)
        if self.coordinator.missed:
            self._endpoint.failed(now)
        self._ask(now)
        self.source.status()
        self.last_step_at = steady_seconds()

    def step(self) -> Step:
        """Take in backfills, advance to now, request gaps due, call consumers (errors recorded); return the step."""
        now, begun = self.clock.now(), steady_seconds()
        before = self.session.snapshot().session_date
        self._take_answers()
        step = self.coordinator.advance(now)
        if self.session.snapshot().session_date != before:
            self.filler.forget()
        if self.config.session.end is None:
            self.coordinator.look_ahead(now.date() + DAYS_AHEAD)
        self._ask(now)
        self.last_step_at = steady_seconds()
        self.step_seconds = self.last_step_at - begun
        for consumer in self.consumers:
            try:
                consumer(self.session, step)
            except Exception as error:  # noqa: BLE001 - a consumer's mistake is not the session's
                name = getattr(consumer, "__name__", consumer)
                self._record(f"consumer {name}: {type(error).__name__}: {error}")
        return step

    def run(self, stop: threading.Event) -> Step:
        """Start if new; step until `stop` is set, source exhausted or last session over; return the step of closing.

        It ends when `stop` is set, the source is exhausted, or its last session is over. A call of the source that is
        running when `stop` is set is left; those that hand over what has come, or close the source, have 2 seconds together.
        """
        self.source.stop = stop
        try:
            if self.coordinator.phase == "new":
                self.start()
            while not stop.is_set() and self.coordinator.current is not None:
                self.source.wait(self.config.live.poll_seconds)
                self.step()
                if self.source.status().exhausted and not self._requested:
                    break
        except StreamStoppedError:
            if not stop.is_set():
                raise
        finally:
            last = self.close()
        return last

    def close(self) -> Step:
        """Take what has come, close the source, cancel queued backfills without waiting, export; return the final step.

        An error of taking or of closing the source is recorded in `errors`: what was there before is exported all the same.
        """
        if self.coordinator.phase in ("waiting", "running"):
            try:
                self._take_answers()
                self.coordinator.advance(self.clock.now())
            except EngineError as error:
                self._record(f"close: {error}")
        for call in (self.source.status, self.source.close):  # the last state is that before closing
            try:
                call()
            except EngineError as error:
                self._record(f"close: {error}")
        if self._worker is not None:
            self._worker.end()
        self._is_ending = True
        try:
            return self.coordinator.stop()
        finally:
            if self._bounded_export is not None:
                self._bounded_export.end()

    def add_symbol(self, symbol: str) -> None:
        """Register a symbol; append, derive and assess its past now; ParameterError if present or not offered."""
        self.coordinator.add_symbol(one_name("symbol", symbol))

    def remove_symbol(self, symbol: str) -> bool:
        """Unsubscribe a symbol and delete it with all its rows; False if the session does not have it."""
        return self.coordinator.remove_symbol(one_name("symbol", symbol))

    def _scheduled(self, export: Exporter | None) -> Exporter | None:
        """The exporter, for whose revision the first retries of new gaps are scheduled before: the next process goes on with them."""
        if export is None:
            return None

        if self._worker is not None and self.config.export is not None:
            self._bounded_export = BoundedExport(export, str(self.config.export.target))

        def schedule_and_export(session: SessionData) -> int:
            self.filler.due(self.clock.now(), ask=False)
            # That of the start is part of a transaction of this thread.
            if self._bounded_export is None or self.last_step_at is None:
                return export(session)
            return self._bounded_export(session, EXPORT_SECONDS, None if self._is_ending else self.source.stop)

        return schedule_and_export

    def _describe(self, symbol: str) -> SymbolSessionData:
        """Registration of a symbol: mapped calendar (ParameterError if none), configured segments and source name."""
        part = self.config.session
        return SymbolSessionData(
            symbol, self._calendars.of(symbol), segments=part.segments, source=self.config.source.kind
        )

    def _lock_timeout(self) -> float:
        """Seconds for which an export waits for another one of its target: few while rows are coming, as it is repeated."""
        if self._is_ending:
            return LOCK_SECONDS_AT_END
        return LOCK_TIMEOUT_SECONDS if self.last_step_at is None else LOCK_SECONDS

    def _report_failed_export(self, error: EngineError) -> None:
        """Record an export that failed; the first one, of the start, is raised: it shows a target that cannot be used."""
        if self.last_step_at is None:
            raise error
        self._record(f"export: {error}; it is repeated")

    def _record(self, error: str) -> None:
        """Add a line to `errors` and count it."""
        self.errors.append(error)
        self.error_count += 1

    def _ask(self, now: dt.datetime) -> None:
        """Request what was missed before the start, and gaps whose retry is due, unless the endpoint is left alone now."""
        is_ready = self._endpoint.is_ready(now)
        waiting = frozenset(symbol for symbol, own in self._left_alone.items() if not own.is_ready(now))
        if is_ready and not any(one.is_missed for one in self._requested):
            missed = [one for one in self.coordinator.missed if one.symbol not in waiting]
            self._request(missed, is_missed=True)
        self._request(self.filler.due(now, ask=is_ready, leave=waiting))

    def _request(self, requests: Sequence[HistoryRequest], *, is_missed: bool = False) -> None:
        """Fetch requests in the backfill thread, queueing the answer; without a thread fetch and append now."""
        if not requests:
            return
        if self._worker is not None:
            answer = self._worker.submit(self.stream.fetch, requests)
            self._requested.append(Requested(tuple(requests), answer, is_missed, steady_seconds()))
            return
        done: Future[list[Delivery]] = Future()
        try:
            done.set_result(self.stream.fetch(requests))
        except EngineError as error:
            done.set_exception(error)
        self._requested.append(Requested(tuple(requests), done, is_missed, steady_seconds()))
        self._take_answers()

    def _take_answers(self) -> None:
        """Append arrived answers in request order and settle their gaps; after an error only the endpoint pauses."""
        self._leave_overdue()
        while self._requested and self._requested[0].answer.done():
            requests, answer, is_missed, _ = self._requested.popleft()
            error = answer.exception()
            if error is not None:
                self._fail(requests, error, is_missed=is_missed)
                continue
            self._endpoint.answered()
            self.history_requests["answered"] += len(requests)
            for symbol in {request.symbol for request in requests}:
                self._left_alone.pop(symbol, None)
            if is_missed:
                self.coordinator.take_in_missed(requests, answer.result())
                continue
            with self.session.transaction():
                self.coordinator.take_in(answer.result(), "backfill", again=True)
                self.filler.settle(requests, self.clock.now())

    def _fail(self, requests: tuple[HistoryRequest, ...], error: BaseException, *, is_missed: bool) -> None:
        """Halve requests whose answer cannot be used, and leave a single one's symbol alone; else leave the endpoint alone."""
        if isinstance(error, AnswerError) and len(requests) > 1:
            half = len(requests) // 2
            self._request(requests[:half], is_missed=is_missed)
            self._request(requests[half:], is_missed=is_missed)
            return
        now = self.clock.now()
        self._record(f"backfill: {error}")
        self.history_requests["failed"] += len(requests)
        if isinstance(error, AnswerError):
            own = HistoryEndpoint(self.config.gaps.interval_seconds)
            self._left_alone.setdefault(requests[0].symbol, own).failed(now)
        else:
            self._endpoint.failed(now)
        if not is_missed:
            self.filler.fail(requests)

    def _leave_overdue(self) -> None:
        """Leave a fetch that has not returned in `history_seconds` to its thread, and count all that wait as failed."""
        limit = self.config.live.history_seconds
        if not limit or self._worker is None or not self._requested:
            return
        if steady_seconds() - self._requested[0].asked_at < limit or self._requested[0].answer.done():
            return
        self._worker.end()
        self._worker = Worker("backfill")
        waiting, self._requested = self._requested, deque()
        for one in waiting:
            one.answer.cancel()
            reason = f"the source has not answered in {limit:g} s ([live] history_seconds)"
            self._fail(one.requests, StreamError(reason), is_missed=one.is_missed)


def open_stream(config: SessionConfig, clock: Clock | None = None) -> Stream:
    """Open the live source: folder stream on the first path, a plug-in's, else Alpaca; `source.options` override its defaults.

    Raises
    ------
    ParameterError
        An option is unknown.
    StreamError
        The source needs an extra that is not installed.
    """
    from engine.sources.options import ReadOptions  # noqa: PLC0415

    part = config.source
    plugin = plugin_named(PLUGINS, part.kind) if part.kind not in SOURCES else None
    if plugin is not None:
        return open_plugin_stream(plugin, config, clock or WallClock())
    try:
        if part.kind == "folder":
            base = None if config.streams.bars in ("auto", "none") else Interval.parse(config.streams.bars)
            expects = (("bars", base or Interval(1, "m")),)
            read = ReadOptions(**{"symbols": config.session.symbols or None, **part.read})
            return FolderStream(
                part.paths[0], read, **{"expects": expects, "clock": clock, **revealed_options(part.options)}
            )
        from engine.sources.vendors.alpaca import AlpacaStream  # noqa: PLC0415
        from engine.sources.vendors.alpaca_options import AlpacaOptions  # noqa: PLC0415

        bounds = {"quotes": config.live.queue_rows, "ticks": config.live.queue_rows}
        return AlpacaStream(AlpacaOptions(**{"bounds": bounds, **revealed_options(part.options)}), clock)
    except TypeError as error:
        raise ParameterError(f"source.options: {error}") from error
    except ImportError as error:
        raise StreamError(f"source {part.kind}: {error}; install session-engine[live]") from error


def open_plugin_stream(plugin: Plugin, config: SessionConfig, clock: Clock) -> Stream:
    """Stream that a plug-in opens; a failure of loading, opening or any later method is a StreamError naming the plug-in.

    Raises
    ------
    StreamError
        The plug-in cannot be loaded, is no function of a configuration and a clock, or failed.
    """
    return cast(
        "Stream",
        PluginStream(
            plugin, call_plugin(plugin, cast("Callable[..., object]", call_plugin(plugin, plugin.load)), config, clock)
        ),
    )


def call_plugin(plugin: Plugin, function: Callable[..., Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401
    """Result of a function of a plug-in's live source; StreamError that names the plug-in for what it raises."""
    try:
        return plugin.call(function, *args, **options)
    except PluginError as error:
        raise StreamError(str(error)) from error


class PluginStream:
    """Stream of a plug-in: the same methods, whose failures are errors of a stream that name the plug-in."""

    def __init__(self, plugin: Plugin, stream: object) -> None:
        self._plugin = plugin
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a method of `Stream`
        found = call_plugin(self._plugin, getattr, self._stream, name)
        return partial(call_plugin, self._plugin, found) if callable(found) else found
