"""A session from its first row to its last: load, activate, run, end, roll to the next trade date, stop.

`SessionCoordinator` has no thread and no wall time: whoever deploys it (`worker`) calls `step`, and a clock that it is
given says what time it is.

1. `load` registers symbols, takes the history that is available before the first session opens, and marks them loaded.
2. `advance(to)` takes what has become available, and in one transaction appends it, derives and judges (`_commit`).
3. It does so up to each open and close on the way (`_turns`): a session begins, ends, and the next one is current.
4. `add_symbol` and `remove_symbol` are one operation each, at any moment; no other component is told, as none keeps a
   list of its own.
5. `finish` takes what came after the last session, judges everything as over, and writes the last revision.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import polars as pl

from engine.errors import ParameterError
from engine.grid import GridSpec, SessionGrid
from engine.runtime.config import SessionConfig
from engine.runtime.indicator_manager import IndicatorManager
from engine.runtime.processor import QUOTE_BARS, DataProcessor
from engine.runtime.quality_manager import DataQualityManager
from engine.runtime.subscription_plan import Asked, Marking, mark
from engine.schema import TS
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, Stream, Subscription
from engine.store.session_data import PADDING, DateRange, SessionData
from engine.store.snapshot import AXIS_INTERVAL, SymbolSessionData
from engine.store.views import with_series_names

Phase = Literal["new", "waiting", "running", "finished"]
ALWAYS = dt.datetime(1900, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC)
Exported = Callable[[Sequence[SymbolSessionData], dt.date], Iterable[tuple[str, Delivery]]]
Exporter = Callable[[SessionData], int]  # writes a revision of the store somewhere, and tells which
INSTANT = dt.timedelta(microseconds=1)


class SessionSpan(NamedTuple):
    """A trade date, from the first open of any calendar in use to the last close."""

    session: dt.date
    opens: dt.datetime
    closes: dt.datetime


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes
    ----------
    at : datetime
        The session's time.
    session : date or None
        The current trade date.
    rows, derived : int
        Rows that came, and derived bars that are new or changed.
    revision : int or None
        The export's, where one was written.
    """

    at: dt.datetime
    session: dt.date | None
    rows: int = 0
    derived: int = 0
    revision: int | None = None


@dataclass
class Totals:
    """What a session has done so far."""

    rows: int = 0
    duplicates: int = 0
    corrections: int = 0
    derived: int = 0
    steps: int = 0
    exports: int = 0
    notes: list[str] = field(default_factory=list)


class SessionCoordinator:
    """Runs sessions from a stream into a store.

    Parameters
    ----------
    config : SessionConfig
    stream : Stream
    describe : callable
        What is known of a symbol before anything is chosen for it: calendar, price type, vendor's name.
    session : SessionData
        The store.
    export : Exporter, optional
        Writes revisions, at the configured cadence and at the end of each session.
    """

    def __init__(
        self,
        config: SessionConfig,
        stream: Stream,
        describe: Callable[[str], SymbolSessionData],
        session: SessionData,
        export: Exporter | None = None,
        *,
        grace: dt.timedelta = dt.timedelta(0),
    ) -> None:
        self.config = config
        self.session = session
        self.stream = stream
        self.totals = Totals()
        self.phase: Phase = "new"
        self._describe = describe
        self._export = export
        self._grace = grace
        self._pending: set[str] = set()
        self._processor = DataProcessor(session)
        self._indicators = IndicatorManager(session)
        self._quality = DataQualityManager(session, every=dt.timedelta(seconds=config.gaps.every_seconds))
        self._spans: list[SessionSpan] = []
        self._over = 0
        self._now: dt.datetime | None = None
        self._exported_at: dt.datetime | None = None
        self._specs: frozenset[GridSpec] = frozenset()
        self._dates: DateRange = (None, None)

    @property
    def now(self) -> dt.datetime | None:
        """The session's time; None before it was loaded."""
        return self._now

    @property
    def pending(self) -> frozenset[str]:
        """Symbols that are being loaded."""
        return frozenset(self._pending)

    @property
    def current(self) -> SessionSpan | None:
        """The session that runs or comes next; None when all are over."""
        return self._spans[0] if self._spans else None

    @property
    def sessions(self) -> tuple[int, int]:
        """How many sessions are over, of how many that are known."""
        return self._over, self._over + len(self._spans)

    def marking(self, symbol: str) -> Marking:
        """What a symbol streams and derives.

        Raises
        ------
        ParameterError
            The source does not know it, or has nothing to make bars of.
        """
        offered = self.stream.available([symbol])
        if symbol not in offered:
            raise ParameterError(f"symbol: the source has nothing of {symbol}; valid: a symbol that it has")
        return mark(symbol, Asked.of(self.config, symbol), offered[symbol])

    def load(
        self,
        symbols: Sequence[str],
        first: dt.date,
        last: dt.date,
        *,
        at: dt.datetime | None = None,
        exported: Exported | None = None,
    ) -> None:
        """Make symbols known, and take what is available before the first session opens.

        Parameters
        ----------
        symbols : sequence of str
        first, last : date
            Trade dates to run, both included.
        at : datetime, optional
            Join a session that may run already: those that are over by then are left out, and the source is asked for
            the past.
        exported : callable, optional
            What an earlier process left of the sessions from a trade date on; the source is asked for the rest.
        """
        if self.phase != "new":
            raise ParameterError(f"phase: the session is {self.phase} already; valid: loading once")
        self._pending |= set(symbols)
        try:
            self._load(symbols, (first, last), at, exported)
        finally:
            self._pending -= set(symbols)
        self.phase = "waiting"

    def _load(
        self, symbols: Sequence[str], dates: tuple[dt.date, dt.date], at: dt.datetime | None, exported: Exported | None
    ) -> None:  # fmt: skip
        first, last = dates
        markings = [self.marking(symbol) for symbol in symbols]
        described = [self._registration(one) for one in markings]
        self._specs = frozenset(one.spec for one in described)
        self._spans = self._sessions(first, last)
        if at is not None:
            self._spans = [span for span in self._spans if span.closes > at]
        if not self._spans:
            raise ParameterError(f"session: no calendar has a session from {first} to {last} that is not over")
        self._note(markings)
        opens = self._spans[0].opens
        described = [self._expected(one) for one in described]
        with self.session.transaction():
            self.session.register_symbol_data(*described)
            subscriptions = [subscription for one in markings for subscription in one.streams]
            self._subscribe(subscriptions)
            self.session.set_session(self._spans[0].session, active=False)
            if at is not None:
                self._join(subscriptions, described, min(at, opens), at, exported)
            self._move_to(opens - INSTANT if at is None or at < opens else opens)
            self.session.mark_loaded(symbols)

    def look_ahead(self, last: dt.date) -> None:
        """Run sessions up to a later trade date, too."""
        known = self._spans[-1].session if self._spans else None
        if known is not None and last > known:
            begin = self._dates[0]
            self._spans += self._sessions(known + dt.timedelta(days=1), last)
            self._dates = (begin, last)

    def advance(self, to: dt.datetime) -> Step:
        """Go on to an instant: through every open and close on the way.

        Nothing that becomes available later is taken, and nothing that is due later is judged.
        """
        if self._now is None:
            raise ParameterError("advance: the session was not loaded; call load first")
        rows, derived, revision = self.totals.rows, self.totals.derived, None
        for turn in self._turns(to):
            written = self._turn(turn)
            revision = written if written is not None else revision
        self.totals.steps += 1
        return Step(self._now, self.session.snapshot().session_date, self.totals.rows - rows,
                    self.totals.derived - derived, revision)  # fmt: skip

    def finish(self) -> Step:
        """End: take what comes after the last session, judge every slot as due, write the last revision."""
        rows, derived = self.totals.rows, self.totals.derived
        with self.session.transaction():
            self.session.set_session(None, active=False)
            self.session.set_streams(self.session.snapshot().active_streams, active=False)
            self._take(ALWAYS[1])
            self.session.set_as_of(None)
            self._derive_and_judge(force=True)
        self.phase = "finished"
        revision = self._write()
        at = self._now or ALWAYS[0]
        return Step(at, None, self.totals.rows - rows, self.totals.derived - derived, revision)

    def stop(self) -> Step:
        """Stop where it is: write the last revision of what is there."""
        revision = None if self.phase in ("new", "finished") else self._write()
        self.phase = "finished"
        return Step(self._now or ALWAYS[0], self.session.snapshot().session_date, revision=revision)

    def add_symbol(self, symbol: str) -> Marking:
        """Take a symbol in: readers see it as loaded when it has caught up, with everything it needs, at once.

        Raises
        ------
        ParameterError
            It is there already, or the source has nothing of it.
        """
        if symbol in self.session.get_active_symbols():
            raise ParameterError(f"symbol: {symbol} is there already; valid: remove_symbol first, or another one")
        self._pending.add(symbol)
        try:
            marking = self.marking(symbol)
            described = self._expected(self._registration(marking))
            missed = self.stream.fetch(self._past_of(marking))
            with self.session.transaction():
                self.session.register_symbol_data(described)
                self._widen(described.spec)
                self._subscribe(marking.streams)
                self._append(missed)
                self.session.mark_loaded([symbol])
                self._derive_and_judge(force=True)
        except BaseException:
            self.stream.unsubscribe(symbol)
            raise
        finally:
            self._pending.discard(symbol)
        return marking

    def remove_symbol(self, symbol: str) -> bool:
        """Forget a symbol; everything that was kept for it goes with it. False when it was not there."""
        self.stream.unsubscribe(symbol)
        return self.session.remove_symbol(symbol)

    def take_in(self, deliveries: Iterable[Delivery], provenance: str = "source") -> int:
        """Append rows that came another way (a backfill), and let everything follow from them."""
        before = self.totals.rows
        with self.session.transaction():
            self._append(deliveries, provenance)
            self._derive_and_judge(force=True)
        return self.totals.rows - before

    def _join(
        self, subscriptions: Sequence[Subscription], symbols: Sequence[SymbolSessionData], opens: dt.datetime, at: dt.datetime,
        exported: Exported | None,
    ) -> None:  # fmt: skip
        """Take in what is there already: from an earlier process, and from the source what is missing of it."""
        since = self._dates[0] or at.date()
        for provenance, one in exported(symbols, since) if exported is not None else ():
            self._append([one], provenance)
        begin = min(opens, dt.datetime.combine(since, dt.time(), dt.UTC) - dt.timedelta(days=1))
        known = _last_stamps(self.session)
        for provenance, is_known in (("source", False), ("backfill", True)):
            requests = [
                HistoryRequest(one.symbol, one.kind, one.interval, known.get((one.symbol, one.kind), begin), at)
                for one in subscriptions
                if ((one.symbol, one.kind) in known) == is_known
            ]
            self._append(self.stream.fetch(requests) if requests else (), provenance)

    def _turns(self, to: dt.datetime) -> Iterable[dt.datetime]:
        """Instants to stop at on the way: opens and closes of sessions, and the end of the way."""
        at = None
        while self._spans:
            at = self._spans[0].opens if self.phase == "waiting" else self._spans[0].closes
            if at > to:
                break
            yield at
        if at != to and self._now is not None and self._now <= to:
            yield to

    def _turn(self, to: dt.datetime) -> int | None:
        with self.session.transaction():
            if self.phase == "waiting" and self._spans and to == self._spans[0].opens:
                self.phase = "running"
                self.session.set_session(self._spans[0].session, active=True)
            self._move_to(to)
            ends = self.phase == "running" and self._spans and to == self._spans[0].closes
            if ends:
                self._roll()
        if ends or self._is_export_due(to):
            return self._write()
        return None

    def _roll(self) -> None:
        """The session is over: the next trade date is current, and begins when it opens."""
        self._quality.step(force=True)
        self._spans.pop(0)
        self._over += 1
        self.phase = "waiting"
        if self._spans:
            self.session.set_session(self._spans[0].session, active=False)
            self._indicators.step()

    def _move_to(self, now: dt.datetime) -> None:
        self._take(now)
        self._now = now
        self.session.set_as_of(now - self._grace)
        self._derive_and_judge()

    def _subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        self.stream.subscribe(subscriptions)
        self.session.set_streams([(one.symbol, str(one.interval or one.kind)) for one in subscriptions], active=True)

    def _take(self, until: dt.datetime) -> None:
        self._append(self.stream.take(until))

    def _append(self, deliveries: Iterable[Delivery], provenance: str = "source") -> None:
        known = self.session.get_active_symbols()
        for one in deliveries:
            self.session.add_rejects(one.rejects)
            frames = [frame for frame in (_known_only(frame, known) for frame in one.frames) if frame.height]
            if not frames:
                continue
            done = self.session.append(frames, one.kind, one.interval, stamp=one.stamp, spec=one.spec,
                                       provenance=provenance, dates=self._dates)  # fmt: skip
            self.totals.rows += done.written + done.duplicates + done.corrections
            self.totals.duplicates += done.duplicates
            self.totals.corrections += done.corrections

    def _derive_and_judge(self, *, force: bool = False) -> None:
        self.totals.derived += self._processor.step()
        self._indicators.step()
        self._quality.step(force=force)

    def _registration(self, marking: Marking) -> SymbolSessionData:
        known = self._describe(marking.symbol)
        history = self.config.history_of(marking.symbol)
        there = set(map(str, (marking.base, *marking.derived)))  # what is not was refused, and noted
        return replace(
            known,
            base_interval=str(marking.base),
            base_from=marking.base_from,
            price_type=_price_type(known, marking),
            derived_intervals=tuple(map(str, marking.derived)),
            history_sessions=max((one.sessions for one in history), default=0),
            indicators=(*known.indicators, *(
                (one.use, interval) for one in self.config.indicators_of(marking.symbol)
                for interval in (one.intervals or (str(marking.base),)) if interval in there
            )),
            synthetic_quotes=self.config.streams.synthetic_quotes,
            is_loaded=False,
        )  # fmt: skip

    def _expected(self, symbol: SymbolSessionData) -> SymbolSessionData:
        # Files tell by their rows from when on there is something of a symbol; a vendor is asked for it, and may be silent.
        is_live = self.config.session.mode == "live" and bool(self._spans)
        return replace(symbol, expected_from=self._spans[0].session) if is_live else symbol

    def _sessions(self, first: dt.date, last: dt.date) -> list[SessionSpan]:
        """The trade dates to run, of all calendars in use, in order."""
        frames, history = [], []
        for spec in self._specs:
            segments = self.session.calendar(spec.calendar).segments_in_bounds(first - PADDING, last + PADDING)
            due = SessionGrid.build(segments, AXIS_INTERVAL, spec).table.filter("chosen")
            frames.append(due.select("session", "open", "close"))
            before = due.filter(pl.col("session") < first)["session"].unique().sort()
            history += before.tail(self.config.history_sessions).to_list()[:1]
        spans = (
            pl.concat(frames).filter(pl.col("session").is_between(first, last)).group_by("session")
            .agg(pl.col("open").min(), pl.col("close").max()).sort("session")
        )  # fmt: skip
        begin = min([first, *history]) if self.config.history_sessions else first
        self._dates = (begin, last)
        return [SessionSpan(*row) for row in spans.iter_rows()]

    def _widen(self, spec: GridSpec) -> None:
        """Run the sessions of one more calendar, too, from the current trade date on."""
        begin, last = self._dates
        if spec in self._specs or begin is None or last is None or self._now is None or not self._spans:
            return
        self._specs |= {spec}
        # One that is open already begins now.
        self._spans = [
            span._replace(opens=max(span.opens, self._now)) for span in self._sessions(self._spans[0].session, last)
        ]
        self._dates = (min(begin, self._dates[0] or begin), last)

    def _past_of(self, marking: Marking) -> list[HistoryRequest]:
        wanted: Iterable[Resolution] = [(one.kind, one.interval) for one in marking.streams]
        if self.config.session.mode == "replay":  # files hand over all that was read of a symbol, not just its base
            wanted = sorted(self.stream.available([marking.symbol])[marking.symbol], key=str)
        end = (self._now or ALWAYS[1]) + INSTANT
        return [HistoryRequest(marking.symbol, kind, interval, ALWAYS[0], end) for kind, interval in wanted]

    def _is_export_due(self, now: dt.datetime) -> bool:
        export = self.config.export
        if self._export is None or export is None or not export.every_seconds:
            return False
        since = self._exported_at or now
        self._exported_at = since
        return now >= since + dt.timedelta(seconds=export.every_seconds)

    def _write(self) -> int | None:
        if self._export is None:
            return None
        self._exported_at = self._now
        self.totals.exports += 1
        return self._export(self.session)

    def _note(self, markings: Iterable[Marking]) -> None:
        for one in markings:
            self.totals.notes += [f"{one.symbol}: {why}" for why in one.refused.values()]


def _price_type(known: SymbolSessionData, marking: Marking) -> str:
    """Which bars calls mean that name none: those there are when the base is not made of what was expected."""
    made = {"ticks": ("last",), "quotes": tuple(QUOTE_BARS)}.get(marking.base_from, (known.price_type,))
    return known.price_type if known.price_type in made else made[0]


def _last_stamps(session: SessionData) -> dict[tuple[str, str], dt.datetime]:
    """Up to where each symbol's rows of a kind are there."""
    snapshot = session.snapshot()
    found: dict[tuple[str, str], dt.datetime] = {}
    for key, held in snapshot.panels.items():
        last = with_series_names(held.frame.group_by("series").agg(pl.col("ts").cast(TS).max()), snapshot.series)
        found |= {
            (symbol, str(key.kind)): ts
            for symbol, ts in last.select("symbol", "ts").iter_rows()
            if key.origin == "source"
        }
    return found


def _known_only(frame: pl.DataFrame, known: set[str]) -> pl.DataFrame:
    """Rows of symbols that are there: what still comes of one that was removed is not wanted."""
    strange = set(frame["symbol"].unique()) - known
    return frame.filter(~pl.col("symbol").is_in(list(strange))) if strange else frame
