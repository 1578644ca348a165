"""A session from its first row to its last: load, activate, run, end, roll to the next trade date, stop.

`SessionCoordinator` has no thread and no wall time: its deployment (`deployments`, `live`) calls it and passes the
time.

1. `load` registers symbols, appends the history that is available before the first session opens, and marks them
   loaded.
2. `advance(to)` appends what has become available, derives bars and assesses quality, in one transaction (`_move_to`).
3. It stops at each open and close on the way: a session begins or ends there, and the next one becomes current.
4. `add_symbol` and `remove_symbol` are one operation each, at any moment; no component keeps a list of symbols of its
   own.
5. `finish` appends what comes after the last session, assesses every slot as due, and writes the last revision.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, cast

import polars as pl

from engine.errors import AnswerError, EngineError, ParameterError, StreamError, StreamStoppedError
from engine.grid import GridSpec, SessionGrid
from engine.plan_calls import PlanNames
from engine.runtime.config import SessionConfig
from engine.runtime.indicator_manager import IndicatorManager
from engine.runtime.processor import QUOTE_BARS, DataProcessor
from engine.runtime.quality_manager import DataQualityManager
from engine.runtime.resume import Continuation, SessionsToRead
from engine.runtime.sessions_to_read import sessions_to_read
from engine.runtime.subscription_plan import Requirements, SubscriptionPlan, plan_subscription
from engine.schema import TS, rejected_rows
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, Stream, Subscription
from engine.store.batch_rows import DateRange
from engine.store.panel_key import AXIS_INTERVAL
from engine.store.placement import PADDING
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.symbol_data import SymbolSessionData
from engine.store.views import with_ends, with_series_names

Phase = Literal["new", "waiting", "running", "finished"]
ALWAYS = dt.datetime(1900, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC)
Exporter = Callable[[SessionData], int]  # writes a revision of the store and returns its number
MOST_TAKES = 100_000  # of what waits at the start
INSTANT = dt.timedelta(microseconds=1)
REPEAT_SECONDS = 60  # after which an export that failed is repeated, where no shorter cadence does it
FOLLOWING = (
    "phase",
    "totals",
    "_spans",
    "_over",
    "_ended",
    "_now",
    "_exported_at",
    "_specs",
    "_dates",
    "_past",
    "_missed",
)


class SessionSpan(NamedTuple):
    """A trade date, from the first open of any calendar in use to the last close."""

    session: dt.date
    opens: dt.datetime
    closes: dt.datetime


@dataclass(frozen=True)
class Step:
    """Outcome of one step.

    Attributes
    ----------
    at : datetime
        Session time after the step.
    session : date or None
        The current trade date.
    rows, derived : int
        Rows appended (each once, duplicates and corrections too), and derived bars that are new or changed.
    revision : int or None
        Revision of the export, if one was due: the last one where no row has changed since.
    """

    at: dt.datetime
    session: dt.date | None
    rows: int = 0
    derived: int = 0
    revision: int | None = None


@dataclass
class SessionTotals:
    """Counts of a session since it was loaded; `rows` counts each appended row once, duplicates and corrections too.

    `exports` counts revisions (an export that finds nothing new writes none), `revision` is the last one.
    """

    rows: int = 0
    duplicates: int = 0
    corrections: int = 0
    derived: int = 0
    steps: int = 0
    exports: int = 0
    revision: int | None = None
    notes: list[str] = field(default_factory=list)


PLAN_NAMES = {
    "session_data": "session",
    "get_loaded_symbols": "session.get_loaded_symbols()",
    "_loaded_symbols": "session.get_loaded_symbols()",
    "_pending_symbols": "pending",
    **dict.fromkeys(("_streamed_data", "_initial_stream_marking"), "plan(symbol).streams"),
    **dict.fromkeys(("_generated_data", "_initial_derived_marking"), "session.get_symbols_with_derived()"),
    "_load_symbols_phase_3": "load(symbols, first, last)",
}


class SessionCoordinator(PlanNames):
    """Runs sessions from a stream into a store.

    Parameters
    ----------
    config : SessionConfig
    stream : Stream
    describe : callable
        Returns what is known of a symbol before its plan is made: calendar, price type, vendor's name.
    session : SessionData
        The store.
    export : Exporter, optional
        Writes revisions, at the configured cadence and at the end of each session.
    grace : timedelta
        By which the as-of time is behind.
    report_failed_export : callable, optional
        Called with the error when an export in `advance` fails, which is then repeated; default: the error is raised.
    """

    _plan_names = PLAN_NAMES

    def __init__(
        self,
        config: SessionConfig,
        stream: Stream,
        describe: Callable[[str], SymbolSessionData],
        session: SessionData,
        export: Exporter | None = None,
        *,
        grace: dt.timedelta = dt.timedelta(0),
        report_failed_export: Callable[[EngineError], None] | None = None,
    ) -> None:
        self.config = config
        self.session = session
        self.stream = stream
        self.totals = SessionTotals()
        self.phase: Phase = "new"
        self._describe = describe
        self._export = export
        self._grace = grace
        self._report_failed_export = report_failed_export
        self._has_export_failed = False
        self._is_drop_due = False
        self._pending: set[str] = set()
        self._processor = DataProcessor(session)
        self._indicators = IndicatorManager(session)
        self._quality = DataQualityManager(session, every=dt.timedelta(seconds=config.gaps.every_seconds))
        self._spans: list[SessionSpan] = []
        self._over = 0
        self._ended: dt.date | None = None
        self._now: dt.datetime | None = None
        self._exported_at: dt.datetime | None = None
        self._specs: frozenset[GridSpec] = frozenset()
        self._dates: DateRange = (None, None)
        self._past: Continuation | None = None
        self._missed: tuple[HistoryRequest, ...] = ()

    @property
    def now(self) -> dt.datetime | None:
        """Session time; None before `load` has appended anything."""
        return self._now

    @property
    def pending(self) -> frozenset[str]:
        """Symbols whose `load` or `add_symbol` is running now."""
        return frozenset(self._pending)

    @property
    def current(self) -> SessionSpan | None:
        """The first session that is not over: running, or the next to open; None when all are over."""
        return self._spans[0] if self._spans else None

    @property
    def sessions(self) -> tuple[int, int]:
        """(number of sessions that are over, number of all sessions: over, running and to come)."""
        return self._over, self._over + len(self._spans)

    def plan(self, symbol: str) -> SubscriptionPlan:
        """Plan base, streams and derived intervals (unfit ones in `refused`); ParameterError if no bars can be made.

        Raises
        ------
        ParameterError
            The source does not know it, or has nothing to make bars of.
        """
        offered = self.stream.available([symbol])
        if symbol not in offered:
            raise ParameterError(f"symbol: the source has nothing of {symbol}; valid: a symbol that it has")
        return plan_subscription(symbol, Requirements.of(self.config, symbol), offered[symbol])

    def load(
        self,
        symbols: Sequence[str],
        first: dt.date,
        last: dt.date,
        *,
        at: dt.datetime | None = None,
        past: Continuation | None = None,
    ) -> None:
        """Once: register, subscribe, append rows before the first open (or to `at`), derive, assess; phase `waiting`.

        Parameters
        ----------
        symbols : sequence of str
        first, last : date
            Trade dates to run, both included.
        at : datetime, optional
            Join a session that may run already: sessions that are over by then are left out, and the past is requested
            from the source.
        past : Continuation, optional
            What an earlier process exported: the session goes on from there, and only the rest is requested. When the
            source does not answer, that is requested later (`missed`).
        """
        if self.phase != "new":
            raise ParameterError(f"phase: the session is {self.phase} already; valid: loading once")
        self._pending |= set(symbols)
        try:
            plans = [self.plan(symbol) for symbol in symbols]
            described = [self._describe_planned(plan) for plan in plans]
            self._specs = frozenset(symbol.spec for symbol in described)
            self._spans = self._sessions(first, last)
            if at is not None:
                self._spans = [span for span in self._spans if span.closes > at]
            if not self._spans:
                raise ParameterError(f"session: no calendar has a session from {first} to {last} that is not over")
            self.totals.notes = [f"{plan.symbol}: {why}" for plan in plans for why in plan.refused.values()]
            opens = self._spans[0].opens
            described = [self._expect_from(symbol, self._spans[0].session) for symbol in described]
            held = SessionsToRead(self._dates[0] or first)
            if past is not None:
                self._past = past
                day = min(held.first, past.as_of.date() - dt.timedelta(days=1))
                held = sessions_to_read(past, self.session, described, day)
                described = past.registered(described, held.first)
                self._dates = (min(self._dates[0] or held.first, past.first_session or held.first), self._dates[1])
            with self._transaction():
                if past is not None:
                    self.session.resume(past.entry["store_id"], past.entry["store_revision"])
                self.session.register_symbol_data(*described)
                streams = [stream for plan in plans for stream in plan.streams]
                self._subscribe(streams)
                self.session.set_session(self._spans[0].session, active=False)
                if at is not None:
                    self._append_past(streams, described, min(at, opens), at, held)
                self._move_to(opens - INSTANT if at is None or at < opens else opens)
                self.session.mark_loaded(symbols)
        finally:
            self._pending -= set(symbols)
        self.phase = "waiting"

    def look_ahead(self, last: dt.date) -> None:
        """Add sessions after the last one still to run, up to `last`; none if none is left, or `last` is not later."""
        known = self._spans[-1].session if self._spans else None
        if known is not None and last > known:
            begin = self._dates[0]
            self._spans += self._sessions(known + dt.timedelta(days=1), last)
            self._dates = (begin, last)

    def advance(self, to: dt.datetime) -> Step:
        """Append, derive, assess up to `to`, stopping at each open and close; export when due and at each close.

        Rows that become available later are not appended, slots that are due later not assessed.
        """
        if self._now is None:
            raise ParameterError("advance: the session was not loaded; call load first")
        rows, derived, revision = self.totals.rows, self.totals.derived, None
        for stop in self._stops(to):
            with self._transaction():
                if self.phase == "waiting" and self._spans and stop == self._spans[0].opens:
                    self.phase = "running"
                    self.session.set_session(self._spans[0].session, active=True)
                self._move_to(stop)
                is_over = self.phase == "running" and bool(self._spans) and stop == self._spans[0].closes
                if is_over:
                    self._quality.step(force=True)
                    self._ended = self._spans.pop(0).session
                    self._over += 1
                    self.phase = "waiting"
                    if self._spans:
                        # Of another calendar it may have opened before this one's close: it is current from here on.
                        self._spans[0] = self._spans[0]._replace(opens=max(self._spans[0].opens, stop))
                        self.session.set_session(self._spans[0].session, active=False)
                        self._indicators.step()
            written = None
            if is_over or self._is_export_due(stop):
                self._exported_at = stop
                written = self._try_to_write()
            revision = revision if written is None else written
            self._is_drop_due |= is_over and self.config.session.mode == "live"
            if self._is_drop_due and written is not None:
                self._drop_exported_sessions(written)
                self._is_drop_due = False
        self.totals.steps += 1
        session = self.session.snapshot().session_date
        return Step(self._now, session, self.totals.rows - rows, self.totals.derived - derived, revision)

    def finish(self) -> Step:
        """Take all remaining rows, clear the as-of time, assess every slot as due, export; phase becomes `finished`."""
        rows, derived = self.totals.rows, self.totals.derived
        with self._transaction():
            self.session.set_session(None, active=False)
            self.session.set_streams(self.session.snapshot().active_streams, active=False)
            self._append(self.stream.take(ALWAYS[1]))
            self.session.set_as_of(None)
            self._derive_and_assess(force=True)
        self.phase = "finished"
        revision = self._write()
        at = self._now or ALWAYS[0]
        return Step(at, None, self.totals.rows - rows, self.totals.derived - derived, revision)

    def stop(self) -> Step:
        """End: bars that have come are due now, without a grace; export (unless new or finished); phase `finished`."""
        revision = None
        if self.phase not in ("new", "finished"):
            with self._transaction():
                received = last_end_of_bars(self.session.snapshot(), self._now)
                if received is not None:
                    self._set_as_of(max(received, self.session.snapshot().as_of or received))
                self._derive_and_assess(force=True)
            revision = self._write()
        self.phase = "finished"
        return Step(self._now or ALWAYS[0], self.session.snapshot().session_date, revision=revision)

    def add_symbol(self, symbol: str) -> SubscriptionPlan:
        """Fetch a new symbol's past; in one transaction register, append, derive, assess, mark loaded; return its plan.

        Raises
        ------
        ParameterError
            The session has it already, or the source has nothing of it.
        """
        if symbol in self.session.get_active_symbols():
            raise ParameterError(f"symbol: {symbol} is there already; valid: remove_symbol first, or another one")
        self._pending.add(symbol)
        try:
            plan = self.plan(symbol)
            described = self._describe_planned(plan)
            current = self._current_with(described.spec)
            described = self._expect_from(described, current)
            resolutions: Iterable[Resolution] = [(stream.kind, stream.interval) for stream in plan.streams]
            if self.config.session.mode == "replay":  # all resolutions that files have of a symbol are loaded
                resolutions = sorted(self.stream.available([symbol])[symbol], key=str)
            end = (self._now or ALWAYS[1]) + INSTANT
            begin = ALWAYS[0]
            if self.config.session.mode == "live" and self._dates[0] is not None:  # rows before are not appended
                begin = dt.datetime.combine(self._dates[0], dt.time(), dt.UTC) - dt.timedelta(days=1)
            requests = [
                HistoryRequest(symbol, kind, interval, begin, end, described.spec) for kind, interval in resolutions
            ]
            past = self.stream.fetch(requests)
            with self._transaction():
                self.session.register_symbol_data(described)
                self._add_axis(described.spec)
                self._subscribe(plan.streams)
                self._append(past)
                self.session.mark_loaded([symbol])
                self._derive_and_assess(force=True)
        except BaseException:
            self.stream.unsubscribe(symbol)
            raise
        finally:
            self._pending.discard(symbol)
        self._write_at_once(is_changed=True)
        return plan

    def remove_symbol(self, symbol: str) -> bool:
        """Unsubscribe a symbol and delete it with all its rows from the store; False if the store does not have it.

        A live session exports that at once, as `add_symbol`: a restart does not undo it.
        """
        self.stream.unsubscribe(symbol)
        is_removed = self.session.remove_symbol(symbol)
        self._write_at_once(is_changed=is_removed)
        return is_removed

    def take_in(self, deliveries: Iterable[Delivery], provenance: str = "source", *, again: bool = False) -> int:
        """Append fetched rows, derive, force an assessment; return rows appended, each once, duplicates and corrections too.

        `again`: what is stored already is no duplicate, because it was asked for.
        """
        before = self.totals.rows
        with self._transaction():
            self._append(deliveries, provenance, again=again)
            self._derive_and_assess(force=True)
        return self.totals.rows - before

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Transaction of the store that phase, sessions, time and totals follow when it is rolled back."""
        with self.session.transaction():
            self.session.keep_state(self, *FOLLOWING)
            yield

    @property
    def missed(self) -> tuple[HistoryRequest, ...]:
        """Requests of what came between the last export and the start that the source has not answered yet."""
        return self._missed

    def take_in_missed(self, requests: Sequence[HistoryRequest], deliveries: Iterable[Delivery]) -> None:
        """Append the answer to some of `missed` as rows of the source, but not into gaps that the export has.

        What was exported as missing is asked for by the retries of its gap, as without a restart.
        """
        with self._transaction():
            self._append(map(self._outside_known_gaps, deliveries), again=True)
            answered = set(requests)
            self._missed = tuple(one for one in self._missed if one not in answered)
            if self.phase != "new":
                self._derive_and_assess(force=True)

    def _append_past(
        self,
        streams: Sequence[Subscription],
        symbols: Sequence[SymbolSessionData],
        opens: dt.datetime,
        at: dt.datetime,
        held: SessionsToRead,
    ) -> None:
        """Append exported rows of the held sessions; fetch to `at` what follows, less an overlap; all of it as `source`."""
        if self._past is not None:
            self._past.restore(self.session, held)
        begin = min(opens, dt.datetime.combine(held.first, dt.time(), dt.UTC) - dt.timedelta(days=1))
        last = last_stamps(self.session)
        specs = {symbol.symbol: symbol.spec for symbol in symbols}
        overlap = dt.timedelta(seconds=self.config.live.overlap_seconds)
        starts = {stream: last[stream] - (overlap if stream.kind == "bars" else INSTANT * 0) for stream in last}
        self._missed = tuple(
            HistoryRequest(*stream, starts.get(stream, begin), at, specs[stream.symbol]) for stream in streams
        )
        # What waits at the source goes first, so that it counts as what it is: a folder gives a few files at a time.
        for _ in range(MOST_TAKES):
            if not (waiting := self.stream.take(at)):
                break
            self._append(waiting)
        try:
            self.take_in_missed(self._missed, self.stream.fetch(self._missed) if self._missed else ())
        except StreamStoppedError:
            raise
        except StreamError as error:
            # A first start without any answer shows a mistake; an answer that cannot be used may be that of one symbol.
            if self._past is None and not isinstance(error, AnswerError):
                raise
            self.totals.notes = [*self.totals.notes, f"history: {error}; it is asked for again"]

    def _outside_known_gaps(self, delivery: Delivery) -> Delivery:
        """The delivery without bars in exported gaps."""
        if self._past is None or delivery.kind != "bars":
            return delivery
        gaps = self._past.gaps.filter(pl.col("interval") == str(delivery.interval))
        gaps = gaps.select("symbol", "price_type", "gap_start", "gap_end").sort("gap_start")
        return replace(delivery, frames=tuple(outside_gaps(frame, gaps) for frame in delivery.frames))

    def _restore_sessions_of(self, frames: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
        """Rows to append, once the sessions of theirs that the store does not hold are restored from the export.

        All of them; those of such sessions are rejected when the export cannot be read, as a store with a part of a session
        would export it as the whole.
        """
        held_from = self.session.snapshot().held_from
        if self._past is None or held_from is None:
            return list(frames)
        earliest = min(cast("dt.datetime", frame["ts"].cast(TS).min()) for frame in frames)
        day = max(earliest.date() - dt.timedelta(days=1), self._dates[0] or held_from)
        if day >= held_from:
            return list(frames)
        symbols = list(self.session.snapshot().symbols.values())
        try:
            with self.session.transaction():
                self._past.restore(self.session, sessions_to_read(self._past, self.session, symbols, day), held_from)
        except EngineError as error:
            reason = f"its session is in {self._past.dataset.target} alone, which cannot be read: {error}"
            # Of the first day that is held, evening rows may be of the session before.
            return self._reject_before(held_from + dt.timedelta(days=1), frames, reason)
        return list(frames)

    def _reject_before(self, day: dt.date, frames: Sequence[pl.DataFrame], reason: str) -> list[pl.DataFrame]:
        """Rows from a UTC date on; those before go to the rejects with the reason, and a note says how many."""
        is_later = pl.col("ts") >= dt.datetime.combine(day, dt.time(), dt.UTC)
        rejected = [frame.filter(~is_later).with_row_index("row") for frame in frames]
        for rows in rejected:
            self.session.add_rejects(rejected_rows(rows, reason, self.config.source.kind))
        count = sum(rows.height for rows in rejected)
        self.totals.notes = [*self.totals.notes, f"{count:,} late rows were rejected: {reason}"]
        return [rows for frame in frames if (rows := frame.filter(is_later)).height]

    def _drop_exported_sessions(self, revision: int) -> None:
        """Drop from the store the sessions that a start from this revision of the export would not read.

        Sessions from `session.start` on stay. All stay until what was missed before the start is answered, since the gaps of
        the start's revision say what of it is left to retries. When the export cannot be read, the next close tries again.
        """
        export, snapshot = self.config.export, self.session.snapshot()
        if export is None or self._missed:
            return
        try:
            past = Continuation.of(export.target)
            if past is None or past.dataset.revision != revision:  # somebody else has written since
                return
            day = past.as_of.date() - dt.timedelta(days=1)
            day = min(day, self._begin_of_history(day), self.config.session.start or day)
            read = sessions_to_read(past, self.session, list(snapshot.symbols.values()), day)
        except EngineError as error:
            self.totals.notes = [*self.totals.notes, f"past sessions stay in memory until the next close: {error}"]
            return
        with self._transaction():
            self.session.drop_sessions_before(read.first, exported=revision, indicators_from=read.indicators_from)
            self._past = past

    def _stops(self, to: dt.datetime) -> Iterable[dt.datetime]:
        """Yield the next open or close, read anew once the caller moved phase and spans on; then `to` unless yielded."""
        last = None
        while self._spans:
            at = self._spans[0].opens if self.phase == "waiting" else self._spans[0].closes
            if at > to:
                break
            yield at
            last = at
        if last != to and self._now is not None and self._now <= to:
            yield to

    def _move_to(self, now: dt.datetime) -> None:
        """Append rows available by `now`; set session time and the as-of time (less grace); derive; assess."""
        self._append(self.stream.take(now))
        self._now = now
        self._set_as_of(now - self._grace)
        self._derive_and_assess()

    def _set_as_of(self, as_of: dt.datetime) -> None:
        """Set the as-of time; never back behind what is exported."""
        floor = None if self._past is None else self._past.as_of
        self.session.set_as_of(as_of if floor is None else max(as_of, floor))

    def _subscribe(self, streams: Sequence[Subscription]) -> None:
        """Subscribe to streams at the source; mark each (symbol, interval or kind) active in the store."""
        self.stream.subscribe(streams)
        self.session.set_streams([(one.symbol, str(one.interval or one.kind)) for one in streams], active=True)

    def _append(self, deliveries: Iterable[Delivery], provenance: str = "source", *, again: bool = False) -> None:
        """Append rows of registered symbols within the load dates, add all rejects, and count rows in the totals.

        `again`: they were asked for by us, so rows and rejects that are there already do not count.
        """
        symbols = self.session.get_active_symbols()
        for delivery in last_values(deliveries) if again else deliveries:
            rejects = delivery.rejects
            if again and rejects.height:
                known = pl.concat([rejects.clear(), *self.session.snapshot().rejects])
                rejects = rejects.join(known, on=rejects.columns, how="anti", nulls_equal=True, maintain_order="left")
            self.session.add_rejects(rejects)
            # Rows of a removed symbol may still arrive.
            frames = [frame for frame in (rows_of_symbols(frame, symbols) for frame in delivery.frames) if frame.height]
            if not frames:
                continue
            frames = self._restore_sessions_of(frames)
            if not frames:
                continue
            appended = self.session.append(
                frames,
                delivery.kind,
                delivery.interval,
                stamp=delivery.stamp,
                spec=delivery.spec,
                provenance=provenance,
                dates=self._dates,
                again=again,
            )
            self.totals.rows += appended.added + appended.duplicates + appended.corrections
            self.totals.duplicates += appended.duplicates
            self.totals.corrections += appended.corrections

    def _derive_and_assess(self, *, force: bool = False) -> None:
        """Derive bars (counted), then indicators, then gaps and quality; `force` ignores their throttle."""
        self.totals.derived += self._processor.step()
        self._indicators.step()
        self._quality.step(force=force)

    def _describe_planned(self, plan: SubscriptionPlan) -> SymbolSessionData:
        """Registration, not loaded, from the plan: base, derived, longest history, indicators at those intervals."""
        known = self._describe(plan.symbol)
        history = self.config.history_of(plan.symbol)
        intervals = set(map(str, (plan.base, *plan.derived)))  # others were refused, and noted
        indicators = [
            (indicator.use, interval)
            for indicator in self.config.indicators_of(plan.symbol)
            for interval in (indicator.intervals or (str(plan.base),))
            if interval in intervals
        ]
        return replace(
            known,
            base_interval=str(plan.base),
            base_from=plan.base_from,
            price_type=primary_price_type(known, plan),
            derived_intervals=tuple(map(str, plan.derived)),
            history_sessions=max((one.sessions for one in history), default=0),
            indicators=(*known.indicators, *indicators),
            synthetic_quotes=self.config.streams.synthetic_quotes,
            is_loaded=False,
        )

    def _expect_from(self, symbol: SymbolSessionData, session: dt.date | None) -> SymbolSessionData:
        """Live: copy whose slots are expected from a session on, even without rows; in a replay, or without one, unchanged."""
        # Rows of files show since when a symbol exists; a vendor that was subscribed to may send nothing.
        is_live = self.config.session.mode == "live" and session is not None
        return symbol.with_state(expected_from=session) if is_live else symbol

    def _sessions(self, first: dt.date, last: dt.date) -> list[SessionSpan]:
        """Sessions in the dates on all axes, earliest open to latest close; sets load dates, with history."""
        axes = [self._axis_of(spec, first - PADDING, last + PADDING) for spec in self._specs]
        within = pl.concat(axis.select("session", "open", "close") for axis in axes)
        within = within.filter(pl.col("session").is_between(first, last))
        spans = within.group_by("session").agg(pl.col("open").min(), pl.col("close").max()).sort("session")
        self._dates = (self._begin_of_history(first), last)
        return [SessionSpan(*row) for row in spans.iter_rows()]

    def _begin_of_history(self, first: dt.date) -> dt.date:
        """The first of the sessions that the indicators of session `first` look back on; `first` where they look back on none."""
        history: list[dt.date] = []
        for spec in self._specs if self.config.history_sessions else ():
            axis = self._axis_of(spec, first - PADDING, first)
            before = axis.filter(pl.col("session") < first)["session"].unique().sort()
            history += before.tail(self.config.history_sessions).to_list()[:1]
        return min([first, *history])

    def _axis_of(self, spec: GridSpec, first: dt.date, last: dt.date) -> pl.DataFrame:
        """Expected segments of an axis between two trade dates."""
        segments = self.session.calendar(spec.calendar).segments_in_bounds(first, last)
        return SessionGrid.build(segments, AXIS_INTERVAL, spec).table.filter("chosen")

    def _current_with(self, spec: GridSpec) -> dt.date | None:
        """Trade date that is current once a symbol on an axis is there: of a new one a session may run while others are over."""
        current = self._spans[0].session if self._spans else None
        last = self._dates[1]
        if spec in self._specs or self.phase == "running" or self._now is None or last is None:
            return current
        axis = self._axis_of(spec, self._now.date() - PADDING, last)
        mine = axis.filter((pl.col("close") > self._now) & (pl.col("session") <= last))["session"].min()
        return min((day for day in (current, mine) if isinstance(day, dt.date)), default=None)

    def _add_axis(self, spec: GridSpec) -> None:
        """Recompute current and later sessions with a new axis; a session open already begins now, and one that was over begins again."""
        begin, last = self._dates
        current = self._current_with(spec)
        if spec in self._specs or begin is None or last is None or self._now is None or current is None:
            return
        self._specs |= {spec}
        spans = [span for span in self._sessions(current, last) if span.closes > self._now]
        self._spans = [span._replace(opens=max(span.opens, self._now)) for span in spans]
        self._dates = (min(begin, self._dates[0] or begin), last)
        if self.phase == "waiting" and self._spans:
            self._over -= self._spans[0].session == self._ended
            self.session.set_session(self._spans[0].session, active=False)

    def _is_export_due(self, now: dt.datetime) -> bool:
        """Whether `every_seconds` (0: never) passed since the last export, or `REPEAT_SECONDS` since one that failed.

        The first call only starts the time.
        """
        export = self.config.export
        if self._export is None or export is None or not (export.every_seconds or self._has_export_failed):
            return False
        since = self._exported_at or now
        self._exported_at = since
        return now >= since + dt.timedelta(seconds=export.every_seconds or REPEAT_SECONDS)

    def _write_at_once(self, *, is_changed: bool) -> None:
        """Export a change of the symbols in live mode, whatever the cadence; that goes on as it was."""
        if is_changed and self.config.session.mode == "live" and self._export is not None and self._now is not None:
            self._try_to_write()

    def _try_to_write(self) -> int | None:
        """`_write`; after an error None where a report of it is asked for, and the export is due again."""
        try:
            return self._write()
        except EngineError as error:
            if self._report_failed_export is None:
                raise
            self._has_export_failed = True
            self._report_failed_export(error)
            return None

    def _write(self) -> int | None:
        """Export the store, count a new revision; return the revision, None without an exporter."""
        if self._export is None:
            return None
        known = self.totals.revision or (None if self._past is None else self._past.dataset.revision)
        self.totals.revision = self._export(self.session)
        self.totals.exports += self.totals.revision != known
        self._has_export_failed = False
        return self.totals.revision


def primary_price_type(known: SymbolSessionData, plan: SubscriptionPlan) -> str:
    """Known price type, but `last` if the base is from ticks, and `bid` if from quotes and not bid, ask or mid."""
    made = {"ticks": ("last",), "quotes": tuple(QUOTE_BARS)}.get(plan.base_from, (known.price_type,))
    return known.price_type if known.price_type in made else made[0]


def last_stamps(session: SessionData) -> dict[Subscription, dt.datetime]:
    """Latest `ts` of source rows per symbol, kind and interval; of several price types (or axes) that of the one furthest behind."""
    snapshot = session.snapshot()
    stamps: dict[Subscription, dt.datetime] = {}
    for key, panel in snapshot.panels.items():
        if key.origin == "source":
            extents = pl.concat([run.extent.select("series", pl.col("last_ts").cast(TS)) for run in panel.sorted_runs])
            latest = extents.group_by("series").agg(pl.col("last_ts").max().alias("ts"))
            last = with_series_names(latest, snapshot.series)
            for symbol, ts in last.group_by("symbol").agg(pl.col("ts").min()).iter_rows():
                stream = Subscription(symbol, key.kind, key.interval)
                stamps[stream] = min(ts, stamps.get(stream, ts))
    return stamps


def last_end_of_bars(snapshot: Snapshot, until: dt.datetime | None) -> dt.datetime | None:
    """Latest end, not after `until`, of a base bar in a slot; None without one."""
    ends = []
    for key in {symbol.base_key for symbol in snapshot.symbols.values()} & snapshot.panels.keys():
        if key.origin == "source" and until is not None:
            length = dt.timedelta(seconds=key.grid_interval.seconds)
            recent = snapshot.panels[key].since(snapshot.revision, until - 3 * length)
            placed = recent.filter(pl.col("slot").is_not_null())
            ended = with_ends(placed, snapshot.grid(key.spec, key.grid_interval)).filter(pl.col("ts_end") <= until)
            ends += [cast("dt.datetime", ended["ts_end"].max())] if ended.height else []
    return max(ends, default=None)


def last_values(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """Deliveries of history joined per kind, interval, stamp and axis, with the last row of each key: what it says now."""
    joined: dict[tuple[object, ...], list[Delivery]] = {}
    for one in deliveries:
        joined.setdefault((one.kind, one.interval, one.stamp, one.spec), []).append(one)
    merged = []
    for parts in joined.values():
        frames = [frame for one in parts for frame in one.frames]
        key = [name for name in ("symbol", "price_type", "ts", "seq") if frames and name in frames[0].columns]
        rows = pl.concat(frames, how="diagonal").unique(key, keep="last", maintain_order=True) if frames else None
        rejects = pl.concat([one.rejects for one in parts])
        merged.append(replace(parts[0], frames=() if rows is None else (rows,), rejects=rejects))
    return merged


def outside_gaps(frame: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Bars that begin in none of the gaps (`symbol, price_type, gap_start, gap_end`, sorted by start) of their series."""
    if gaps.is_empty():
        return frame
    series = ["symbol", "price_type"]
    stamps = frame.select(*series, pl.col("ts").cast(TS)).with_row_index("at").sort("ts")
    within = stamps.join_asof(
        gaps, left_on="ts", right_on="gap_start", by=series, strategy="backward", check_sortedness=False
    ).filter(pl.col("ts") < pl.col("gap_end"))
    return frame.filter(~pl.int_range(pl.len(), dtype=pl.UInt32).is_in(within["at"].implode()))


def rows_of_symbols(frame: pl.DataFrame, symbols: set[str]) -> pl.DataFrame:
    """Rows whose symbol is in `symbols`; the same frame when all are."""
    others = set(frame["symbol"].unique()) - symbols
    return frame.filter(~pl.col("symbol").is_in(list(others))) if others else frame
