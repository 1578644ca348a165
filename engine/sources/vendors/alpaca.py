"""Alpaca as a live source: minute bars, their late updates, quotes and trades; the past from its historical endpoint.

1. `alpaca_client.Connection` runs the vendor's client in a thread; its messages become tuples in a `ReceiveQueue`.
2. After a reconnect, and after a frame that could not be read, `BackfillRequests` lists what may be missing of each
   symbol.
3. A second thread (`_backfill_loop`) fetches that and puts it behind what came, so nothing is lost; the store tells
   what it had already (duplicates) from what has changed (corrections), so nothing is doubled.

A fetched bar that the stream has brought meanwhile is left out: the stream's is the newer one.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from engine.clock import Clock, WallClock
from engine.errors import StreamError
from engine.interval import Interval
from engine.schema import Kind
from engine.sources.streams.backfill_requests import MINUTE_NS, SECOND_NS, BackfillRequest, BackfillRequests
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, StreamStatus, Subscription
from engine.sources.streams.receive_queue import ReceiveQueue, Row, rejected_line, to_delivery
from engine.sources.vendors.alpaca_options import AlpacaOptions
from engine.sources.vendors.alpaca_rows import Ordinals, is_whole_bar, live_row

if TYPE_CHECKING:
    from engine.sources.vendors.alpaca_client import Connection, History

MINUTE, DAY = Interval(1, "m"), Interval(1, "d")
STREAMED: frozenset[Resolution] = frozenset({("bars", MINUTE), ("quotes", None), ("ticks", None)})
OFFERED: frozenset[Resolution] = STREAMED | {("bars", DAY)}
CHUNK = 200  # symbols of one request: their names must fit into its address
DAY_NS = 86_400 * SECOND_NS
NEW_YORK = "America/New_York"
POLL_SECONDS = 0.25
FULL_SECONDS = 0.02
CLOSE_SECONDS = 2.0  # a thread that is in a lookup of a name is left


class AlpacaStream:
    """A `Stream` of Alpaca.

    Parameters
    ----------
    options : AlpacaOptions, optional
    clock : Clock, optional
        Tells what is over, and how late rows come.
    """

    def __init__(self, options: AlpacaOptions | None = None, clock: Clock | None = None) -> None:
        self._options = options or AlpacaOptions()
        self._access = self._options.access()
        self._clock = clock or WallClock()
        self._source = f"alpaca:{self._options.feed}"
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._queue = ReceiveQueue(self._source, self._options.bounds)
        self._backfill = BackfillRequests(
            whole_nanoseconds(self._options.overlap_seconds), whole_nanoseconds(self._options.again_seconds)
        )
        self._ordinals = Ordinals()
        self._received_bars: set[Row] | None = None  # symbol and stamp of bars that came while the past is asked
        self._unsubscribed: set[str] = set()
        self._connects = 0
        self._connected = False
        self._over = False
        self._filling = 0
        self._error = ""
        self._lag: float | None = None
        self._connection: Connection | None = None
        self._filler = threading.Thread(target=self._backfill_loop, name="alpaca backfill", daemon=True)

    def __repr__(self) -> str:
        return f"AlpacaStream({self._options})"

    def available(self, symbols: Sequence[str]) -> Mapping[str, frozenset[Resolution]]:
        """Each symbol -> minute and (fetch only) daily bars, quotes, trades; `A/B` pairs only on feed crypto."""
        is_crypto = self._options.feed == "crypto"
        return {symbol: OFFERED for symbol in symbols if ("/" in symbol) == is_crypto}

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Add minute bars, quotes or trades; the first call connects; StreamError for others or once ended.

        Raises
        ------
        StreamError
            What the vendor does not stream, or the stream has ended.
        """
        for one in subscriptions:
            if (one.kind, one.interval) not in STREAMED:
                raise StreamError(
                    f"alpaca: received {one}; streamed are {format_resolutions(STREAMED)}; daily bars can be fetched"
                )
        if self._over or self._stopped.is_set():
            raise StreamError(
                f"alpaca: the stream has ended{f' ({self._error})' if self._error else ''}; make a new one"
            )
        keys: list[tuple[Kind, str]] = [(one.kind, one.symbol) for one in subscriptions]
        with self._lock:
            self._unsubscribed -= {one.symbol for one in subscriptions}
            fresh = [key for key in dict.fromkeys(keys) if key not in self._backfill]
            self._backfill.add(fresh, self._now_ns())
        if fresh:
            self._connect().change(add=channels_of(fresh))

    def unsubscribe(self, symbol: str) -> None:
        """Stop streaming a symbol and drop its backfills; rows of it still queued are left out by `take`."""
        with self._lock:
            gone = self._backfill.remove(symbol)
            self._unsubscribed.add(symbol)
        if gone and self._connection is not None:
            self._connection.change(remove=channels_of(gone))

    def next_at(self) -> dt.datetime | None:
        """Always None: when the next row comes is unknown."""
        return None

    def take(self, until: dt.datetime) -> list[Delivery]:
        """Empty the queue of live and backfilled rows, without unsubscribed symbols; `until` is ignored."""
        del until
        taken = self._queue.take()
        with self._lock:
            gone = list(self._unsubscribed)
        return [drop_symbols(one, gone) for one in taken] if gone else taken

    def wait(self, seconds: float) -> bool:
        """Block until something is queued, the stream ends or `seconds` pass; return whether something is."""
        return self._queue.wait(seconds, lambda: self._over)

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        """Past bars (1m, 1d), quotes, trades, a delivery per kind and range; no unended bars; StreamError if refused.

        Raises
        ------
        StreamError
            Another interval, the vendor refuses, or it does not answer after all attempts.
        """
        groups: dict[tuple[Kind, Interval | None, dt.datetime, dt.datetime], list[str]] = defaultdict(list)
        for request in requests:
            if (request.kind, request.interval) not in OFFERED:
                raise StreamError(f"alpaca: received {request}; valid: {format_resolutions(OFFERED)}")
            groups[request.kind, request.interval, request.start, request.end].append(request.symbol)
        return [made for group, symbols in groups.items() if (made := self._fetch_group(symbols, *group)) is not None]

    def status(self) -> StreamStatus:
        """Connected now; exhausted once ended and the queue is empty; counters, reconnects, lag, error."""
        with self._lock:
            return StreamStatus(
                connected=self._connected,
                exhausted=(self._over or self._stopped.is_set()) and self._queue.is_empty,
                delivered=self._queue.delivered,
                waiting=self._queue.waiting,
                dropped=dict(self._queue.dropped),
                reconnects=max(self._connects - 1, 0),
                lag_seconds=self._lag,
                error=self._error,
            )

    @property
    def pending_backfills(self) -> int:
        """Number of (kind, symbol) series whose history is still to be fetched, fetched again, or being fetched now."""
        with self._lock:
            return len(self._backfill) + self._filling

    def close(self) -> None:
        """Close the queue, disconnect and wait for both threads, with a limit; queued rows can still be taken."""
        self._stopped.set()
        self._queue.close()
        if self._connection is not None:
            self._connection.stop()
            self._filler.join(CLOSE_SECONDS)

    def connected(self) -> None:
        """Listener: the vendor accepted the connection; mark connected and count it."""
        with self._lock:
            self._connected = True
            self._connects += 1

    def subscribed(self, symbols: Mapping[Kind, set[str]]) -> None:
        """Listener: vendor confirmed these; open a backfill for each newly streaming, not just added one."""
        with self._lock:
            self._backfill.mark_streaming(symbols, self._now_ns())

    def lost(self, reason: str) -> None:
        """Listener: the connection broke or failed; set not connected, the error, and all series as not streaming."""
        with self._lock:
            self._connected = False
            self._backfill.mark_disconnected()
            self._set_error(reason)

    def garbage(self, reason: str) -> None:
        """Listener: a frame was unreadable; queue a reject, set the error, reopen backfills of all streaming series."""
        self._reject("bars", f"a frame that cannot be read: {reason}")
        with self._lock:
            self._backfill.reopen(self._now_ns())

    def failed(self, reason: str) -> None:
        """Listener: the vendor reported an error; store it as the status' error, change nothing else."""
        self._set_error(f"the vendor says: {reason}")

    def over(self, reason: str) -> None:
        """Listener: the connection ended for good; mark the stream over, store the reason, wake waiters."""
        with self._lock:
            self._over, self._connected = True, False
            if reason:
                self._set_error(f"{reason}; {self._error}" if self._error else reason)
        self._queue.wake()

    async def row(self, channel: str, message: Mapping[str, Any]) -> None:
        """Listener: queue a message as a row; while bars have no room, wait, so that no other message is read."""
        kind: Kind = "quotes" if channel == "quotes" else "ticks" if channel == "trades" else "bars"
        row = live_row(kind, message, self._ordinals)
        is_update = channel == "updatedBars"
        while not self._queue_row(kind, row, is_update=is_update):  # noqa: ASYNC110 - another thread makes room
            await asyncio.sleep(FULL_SECONDS)

    async def amended(self, message: Mapping[str, Any]) -> None:
        """Listener: a venue corrected or cancelled a trade; queue a reject, set the error, leave the tick as it is."""
        self._reject(
            "ticks", "a trade was corrected or cancelled by its venue; the tick stands as it came", str(message)
        )

    def _queue_row(self, kind: Kind, row: Row, *, is_update: bool) -> bool:
        """Queue a row (if unwatched drop it); an incomplete bar reopens its backfill; False only if bars lack room."""
        symbol, ts = row[0], row[1]
        with self._lock:
            if (kind, symbol) not in self._backfill:
                return True
            if not self._queue.offer((kind, MINUTE if kind == "bars" else None), [row]):
                return False
            if kind == "bars" and not is_whole_bar(row):
                self._backfill.reopen(self._now_ns(), symbol)
            elif type(ts) is int:
                self._backfill.record_row(kind, symbol, ts)
                if kind == "bars" and self._received_bars is not None:
                    self._received_bars.add((symbol, ts))
                if not is_update:
                    self._lag = (self._now_ns() - ts - (MINUTE_NS if kind == "bars" else 0)) / SECOND_NS
            return True

    def _connect(self) -> Connection:
        """The connection; the first call makes it and starts the backfill thread, later ones return the same."""
        if self._connection is None:
            from engine.sources.vendors.alpaca_client import Connection  # noqa: PLC0415 - an extra, and slow to import

            self._connection = Connection(self._access, self)
            self._filler.start()
        return self._connection

    def _backfill_loop(self) -> None:
        """Body of the backfill thread: until closed, take the due requests and fetch them in chunks."""
        history = self._history()
        while not self._stopped.wait(POLL_SECONDS):
            with self._lock:
                due = self._backfill.take_due(self._now_ns())
                self._filling = len(due)
            for chunk in request_chunks(due):
                self._fetch_backfill(history, chunk)
            with self._lock:
                self._filling, self._received_bars = 0, None

    def _fetch_backfill(self, history: History, requests: list[BackfillRequest]) -> None:
        """Fetch and queue the ended rows of requests of one kind; after an error store it and postpone them all."""
        kind = requests[0].kind
        with self._lock:
            self._received_bars = set()
        now = self._clock.now()
        now_ns = whole_nanoseconds(now.timestamp())
        start = dt.datetime.fromtimestamp(min(request.since_ns for request in requests) // SECOND_NS, dt.UTC)
        resolution: Resolution = (kind, MINUTE if kind == "bars" else None)
        try:
            rows = history.rows(resolution, [request.symbol for request in requests], start, max(now, start))
        except Exception as error:  # noqa: BLE001 - a request that fails now stays open
            with self._lock:
                self._set_error(str(error))
                self._backfill.postpone(requests, now_ns + whole_nanoseconds(self._options.backoff_seconds[1]))
            return
        since = {request.symbol: request.since_ns for request in requests}
        rows = [row for row in rows if is_due(row, since.get(row[0], now_ns), now_ns, kind)]
        if self._queue_fetched(resolution, rows):
            with self._lock:
                self._backfill.mark_filled(requests, now_ns)

    def _queue_fetched(self, resolution: Resolution, rows: list[Row]) -> bool:
        """Queue fetched rows of watched series, but not bars also received live; block for room; False once closed."""
        while not self._stopped.is_set():
            with self._lock:
                newer = (self._received_bars or ()) if resolution[0] == "bars" else ()
                kept = [row for row in rows if row[:2] not in newer and (resolution[0], row[0]) in self._backfill]
                if self._queue.offer(resolution, kept):
                    for row in kept:
                        if type(row[1]) is int:
                            self._backfill.record_row(resolution[0], row[0], row[1])
                    return True
            self._queue.wait_for_change()
        return False

    def _fetch_group(
        self, symbols: Sequence[str], kind: Kind, interval: Interval | None, start: dt.datetime, end: dt.datetime
    ) -> Delivery | None:
        """Delivery of past rows in `[start, end)` (1d: by New York date), no unended bars; None without any row."""
        now = self._clock.now()
        end = min(end, now)
        if end <= start:
            return None
        step_ns = {None: 0, MINUTE: MINUTE_NS}.get(interval, DAY_NS)
        asked = (start - dt.timedelta(days=1), end) if interval == DAY else (start, end)
        history, names = self._history(), sorted(set(symbols))
        rows = [
            row
            for at in range(0, len(names), CHUNK)
            for row in history.rows((kind, interval), names[at : at + CHUNK], *asked)
            if type(row[1]) is not int or row[1] + step_ns <= whole_nanoseconds(now.timestamp())
        ]
        made = to_delivery((kind, interval), rows, f"{self._source}:history") if rows else None
        return filter_days(made, start, end) if made is not None and interval == DAY else made

    def _history(self) -> History:
        """A new client of the historical endpoint; `close` of the stream ends its retries."""
        from engine.sources.vendors.alpaca_client import History  # noqa: PLC0415 - an extra, and slow to import

        return History(self._access, self._options.attempts, self._stopped)

    def _reject(self, kind: Kind, reason: str, cells: str = "") -> None:
        """Queue a rejected line and set the status' error, with the keys masked in both."""
        self._queue.put_rejects(
            kind, rejected_line(self._source, self._access.clean(reason), self._access.clean(cells))
        )
        self._set_error(reason)

    def _set_error(self, reason: str) -> None:
        """Replace the status' error by `reason`, with the keys masked."""
        with self._lock:
            self._error = self._access.clean(reason)

    def _now_ns(self) -> int:
        return whole_nanoseconds(self._clock.now().timestamp())


def is_due(row: Row, since_ns: int, now_ns: int, kind: Kind) -> bool:
    """Whether a row is at or after `since_ns` and ended by `now_ns`; True without an integer stamp."""
    step_ns = MINUTE_NS if kind == "bars" else 0
    return type(row[1]) is not int or since_ns <= row[1] <= now_ns - step_ns


def request_chunks(requests: Sequence[BackfillRequest]) -> Iterator[list[BackfillRequest]]:
    """Yield lists of at most 200 requests of one kind each: bars, then quotes, then ticks; other kinds are left out."""
    for kind in ("bars", "quotes", "ticks"):
        mine = [request for request in requests if request.kind == kind]
        yield from (mine[at : at + CHUNK] for at in range(0, len(mine), CHUNK))


def channels_of(keys: Sequence[tuple[Kind, str]]) -> list[tuple[str, str]]:
    """Pairs (channel, symbol) of the series: bars give two channels (`bars`, `updatedBars`), quotes and ticks one."""
    from engine.sources.vendors.alpaca_client import CHANNELS  # noqa: PLC0415 - an extra, and slow to import

    return [(channel, symbol) for kind, symbol in keys for channel in CHANNELS[kind]]


def format_resolutions(resolutions: frozenset[Resolution]) -> str:
    """Kinds and intervals as sorted text joined by commas, for messages: `bars 1m, quotes, ticks`."""
    return ", ".join(sorted(f"{kind} {interval}" if interval else kind for kind, interval in resolutions))


def drop_symbols(taken: Delivery, symbols: list[str]) -> Delivery:
    """The delivery without rows of these symbols and without frames left empty; rejects stay."""
    kept = (frame.filter(~pl.col("symbol").is_in(symbols)) for frame in taken.frames)
    return Delivery(taken.kind, tuple(f for f in kept if f.height), taken.interval, taken.stamp, taken.rejects)


def filter_days(made: Delivery, start: dt.datetime, end: dt.datetime) -> Delivery:
    """The delivery with only daily bars of the New York dates that `[start, end)` touches; frames may become empty."""
    day = pl.col("ts").dt.convert_time_zone(NEW_YORK).dt.date()
    last = end - dt.timedelta(microseconds=1)
    bounds = pl.Series([start, last]).dt.convert_time_zone(NEW_YORK).dt.date()
    kept = tuple(frame.filter(day.is_between(bounds[0], bounds[1])) for frame in made.frames)
    return Delivery(made.kind, kept, made.interval, made.stamp, made.rejects)


def whole_nanoseconds(seconds: float) -> int:
    """Seconds as an integer number of nanoseconds, rounded to whole microseconds."""
    return round(seconds * 1_000_000) * 1_000
