"""The only module that imports `alpaca-py`: its streams with the missing hooks, and its historical clients.

How the client (0.44) behaves, and what is done about it here:

- It reconnects by itself with exponential back-off and jitter but tells nobody: `_start_ws`, `_consume` and `_dispatch`
  are wrapped, so that a `Listener` hears of it.
- Bytes that are no message, or a message that is none, end the whole frame; whatever followed in it is gone. The
  listener hears of that, too, and asks the past for it.
- Subscribing from another thread waits without limit and may fall between the message sent and the state it sets: the
  handlers are changed in the client's own loop, and `_send_subscribe_msg` goes on until the vendor knows them.
- Parsed stamps lose their nanoseconds, and a malformed message raises there: raw messages are asked for.
- `stop` takes effect at the next message, or after five seconds; without a subscription the client spins at full speed.
  So the loop is run here, begins with the first subscription, and is ended by cancelling it.
- Requests to the historical endpoint have no time-out, follow page tokens without end and are repeated after fixed pauses:
  their limits stand below the client, in `bounded_http`.
- A vendor that accepts a connection and never confirms the subscription is waited for without limit: `_consume` ends that.
- `websockets` writes frames, the keys among them, to a logger at level DEBUG: it gets one that is silent.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, cast

import requests
from urllib3.exceptions import DecodeError, HTTPError

from engine.errors import AnswerError, StreamError, StreamStoppedError
from engine.interval import Interval
from engine.schema import Kind
from engine.sources.streams.bounded_calls import Worker, result_of
from engine.sources.streams.receive_queue import Row
from engine.sources.vendors.alpaca_options import Access
from engine.sources.vendors.alpaca_rows import Message, past_rows
from engine.sources.vendors.bounded_http import Answer, BoundedAdapter, plain_reason

with warnings.catch_warnings():
    # The client still uses the former API of websockets, which warns when it is imported.
    warnings.filterwarnings("ignore", "websockets.legacy is deprecated", DeprecationWarning)
    from alpaca.common.exceptions import APIError
    from alpaca.common.rest import RESTClient
    from alpaca.common.utils import reconnect_delay
    from alpaca.data.enums import DataFeed
    from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
    from alpaca.data.live import CryptoDataStream, StockDataStream
    from alpaca.data.live.websocket import DataStream
    from alpaca.data.requests import (
        CryptoBarsRequest,
        CryptoQuoteRequest,
        CryptoTradesRequest,
        StockBarsRequest,
        StockQuotesRequest,
        StockTradesRequest,
    )
    from alpaca.data.timeframe import TimeFrame
    from websockets.exceptions import WebSocketException

CHANNELS: Mapping[Kind, tuple[str, ...]] = {
    "bars": ("bars", "updatedBars"),
    "quotes": ("quotes",),
    "ticks": ("trades",),
}
KINDS: Mapping[str, Kind] = {channel: kind for kind, channels in CHANNELS.items() for channel in channels}
TIMEFRAMES: Mapping[Interval, TimeFrame] = {Interval(1, "m"): TimeFrame.Minute, Interval(1, "d"): TimeFrame.Day}
AGAIN = {429, 500, 502, 503, 504}
PING_SECONDS, PONG_SECONDS, CLOSE_SECONDS, START_SECONDS, STOP_SECONDS = 10, 20, 1, 10, 0.1
QUEUED_FRAMES = 64  # read and not handled yet; with `frame_bytes` a bound of memory
PIECE_SECONDS: Mapping[Kind, float] = {"bars": 200 * 86_400.0, "quotes": 1_800.0, "ticks": 1_800.0}
MOST_NAMES, MOST_REASON = 5, 300
TOO_LARGE_CODE, UNCONFIRMED_CODE = 1009, 4000  # of the WebSocket protocol; of ours
REFUSALS = 3  # so often in a row the keys are refused until they are taken to be wrong

logging.getLogger("alpaca").addHandler(logging.NullHandler())
_SILENT = logging.getLogger("engine.sources.vendors.alpaca.frames")
_SILENT.setLevel(logging.CRITICAL)


class Listener(Protocol):
    """Protocol of callbacks about a connection, called in its thread."""

    def connected(self) -> None:
        """Called each time that the vendor accepts the connection."""

    def subscribed(self, symbols: Mapping[Kind, set[str]]) -> None:
        """Called with all symbols per kind that the vendor confirms as subscribed."""

    def lost(self, reason: str) -> None:
        """Called when the connection breaks, falls silent or cannot be made; the client then tries again."""

    def garbage(self, reason: str) -> None:
        """Called when a frame could not be read to its end, so that messages in it are lost; the connection stays."""

    def failed(self, reason: str) -> None:
        """Called with the text and code of an error message of the vendor."""

    def over(self, reason: str) -> None:
        """Called once when the connection ended for good; `reason` is empty when `stop` ended it."""

    async def row(self, channel: str, message: Mapping[str, Any]) -> None:
        """Called for each message of a channel; the next message is read only after this returns."""

    async def amended(self, message: Mapping[str, Any]) -> None:
        """Called when a venue corrected or cancelled a trade."""


class ReportingStream(DataStream):
    """A stream of the vendor's client that reports to a listener."""

    listener: Listener
    access: Access
    announced: set[tuple[str, str]]
    confirmed: asyncio.Event
    refusals = 0

    async def _start_ws(self) -> None:
        """Connect and report it, or report the failure and re-raise; `REFUSALS` refused keys in a row end the client.

        Only keys refused `REFUSALS` times in a row end the stream; other failures leave the client to try again.
        """
        self.announced = set()
        try:
            # The client itself waits without limit for the vendor's first words.
            self.confirmed = asyncio.Event()
            await asyncio.wait_for(super()._start_ws(), self.access.login_seconds)
        except Exception as error:
            is_refused = isinstance(error, ValueError) and "auth failed" in str(error)
            silent = isinstance(error, TimeoutError) and f"no login in {self.access.login_seconds:g} s"
            self.refusals = self.refusals + 1 if is_refused else 0
            if self.refusals >= REFUSALS:
                self._should_run = False
                cast("asyncio.Event", self._stop_stream_event).set()
            self.listener.lost(f"cannot connect: {silent or f'{type(error).__name__} {error}'}")
            raise
        self.refusals = 0
        self.listener.connected()

    async def _send_subscribe_msg(self) -> None:
        """Send subscriptions and unsubscriptions until those announced to the vendor equal the handlers."""
        # Until the vendor knows what the handlers say, whatever changes meanwhile.
        while True:
            subscribed = {(channel, symbol) for channel in KINDS for symbol in self._handlers[channel]}
            if subscribed == self.announced:
                return
            removed = self.announced - subscribed
            if subscribed - self.announced:
                self.announced |= subscribed
                await super()._send_subscribe_msg()
            for channel in {channel for channel, _ in removed}:
                symbols = [symbol for of, symbol in removed if of == channel]
                self.announced -= {(channel, symbol) for symbol in symbols}
                await self._send_unsubscribe_msg(channel, symbols)

    async def _consume(self) -> bool:
        """Read until the feed ends: True if silent, False if a frame was unreadable, raise if broken; report each."""
        confirmation = asyncio.create_task(self._await_confirmation())
        try:
            is_stale = await super()._consume()
        except WebSocketException as error:
            self.listener.lost(self._reason_of(error))
            raise
        except Exception as error:  # noqa: BLE001 - whatever a frame may do to the client's parser
            if self._should_run:
                self.listener.garbage(f"{type(error).__name__} {error}")
            return False
        finally:
            confirmation.cancel()
        if is_stale:
            self.listener.lost(f"nothing came for {self.access.quiet_seconds} s")
        return is_stale

    async def _await_confirmation(self) -> None:
        """End a connection whose subscription the vendor does not confirm in time; the client makes another one."""
        try:
            await asyncio.wait_for(self.confirmed.wait(), self.access.login_seconds)
        except TimeoutError:
            if self._ws is not None:
                await self._ws.close(UNCONFIRMED_CODE)

    def _reason_of(self, error: WebSocketException) -> str:
        """Why a connection ended: a frame too large, a subscription that was not confirmed, or in the client's words."""
        sent = getattr(getattr(error, "sent", None), "code", None)
        if sent == TOO_LARGE_CODE:
            return f"a frame of the stream is larger than {self.access.frame_bytes:,} bytes (frame_bytes)"
        if sent == UNCONFIRMED_CODE:
            return f"the subscription was not confirmed in {self.access.login_seconds:g} s"
        return f"{type(error).__name__} {error}"

    async def _dispatch(self, msg: dict[str, Any]) -> None:
        """Pass a message to its handler, then report it if it is an error or confirms subscriptions."""
        await super()._dispatch(msg)
        if msg.get("T") == "error":
            self.listener.failed(f"{msg.get('msg')} ({msg.get('code')})")
        if msg.get("T") == "subscription":
            self.confirmed.set()
            self.listener.subscribed({kind: set(msg.get(channels[0]) or ()) for kind, channels in CHANNELS.items()})

    async def change(self, add: Iterable[tuple[str, str]], remove: Iterable[tuple[str, str]]) -> None:
        """Remove, then add handlers of (channel, symbol) pairs; announce them if the client runs."""
        for channel, symbol in remove:
            self._handlers[channel].pop(symbol, None)
        for channel, symbol in add:
            self._handlers[channel].setdefault(symbol, partial(self.listener.row, channel))
        for channel in ("corrections", "cancelErrors"):  # they come with the trades, unasked
            self._handlers[channel]["*"] = self.listener.amended
        if self._running:
            # The connection may have gone just now; the next one begins with the handlers as they are.
            with suppress(WebSocketException, AttributeError):
                await self._send_subscribe_msg()


class StockStream(ReportingStream, StockDataStream):
    """A stream of stocks that reports to a listener."""


class CryptoStream(ReportingStream, CryptoDataStream):
    """A stream of crypto pairs that reports to a listener."""


class Connection:
    """The vendor's stream in a thread of its own.

    Parameters
    ----------
    access : Access
    listener : Listener
    """

    def __init__(self, access: Access, listener: Listener) -> None:
        self._listener = listener
        self._stream = make_stream(access)
        self._stream.listener, self._stream.access = listener, access
        self._thread = threading.Thread(target=self._run, name="alpaca stream", daemon=True)
        self._begun = threading.Event()
        self._is_stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def change(self, add: Sequence[tuple[str, str]] = (), remove: Sequence[tuple[str, str]] = ()) -> None:
        """Ask the client to add and remove (channel, symbol) pairs; the first call starts its thread and connects."""
        if not self._thread.is_alive() and not self._begun.is_set():
            self._thread.start()
            self._begun.wait(START_SECONDS)
        if self._loop is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._stream.change(add, remove), self._loop)

    def stop(self) -> None:
        """Cancel the client until its thread ends, at most `START_SECONDS`; nothing before the first `change`."""
        self._is_stopping = True
        for _ in range(round(START_SECONDS / STOP_SECONDS)):
            if not self._thread.is_alive() or self._loop is None or self._task is None:
                return
            # Again and again: Python 3.11 may lose a cancellation that meets a message.
            self._stream._should_run = False  # noqa: SLF001 - there is no public way
            with suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        """Thread body: run the client to its end, then report `over` with the reason, empty after `stop`."""
        reason = ""
        try:
            asyncio.run(self._main())
            reason = "the vendor ended the stream"
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 - a thread that dies must say so
            reason = f"{type(error).__name__} {error}"
        self._listener.over("" if self._is_stopping else reason)

    async def _main(self) -> None:
        """Run the client in this event loop until it ends or is cancelled, then close it."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._begun.set()
        try:
            await self._stream._run_forever()  # noqa: SLF001 - the public `run` starts a loop that nobody can end
        finally:
            await self._stream.close()


class History:
    """Client of the vendor's historical endpoint, with limits and retries.

    A long range is asked for in pieces (`pieces_of`); time and bytes of each piece are limited, over all of its pages,
    attempts and pauses.

    Parameters
    ----------
    access : Access
    attempts : int
        How often a request is made that is answered with 429 or 5xx, or not at all.
    stopped : Event
        Set when nobody wants an answer any more.
    """

    def __init__(self, access: Access, attempts: int, stopped: threading.Event) -> None:
        self._access = access
        self._attempts = attempts
        self._stopped = stopped

    def rows(
        self, resolution: tuple[Kind, Interval | None], symbols: Sequence[str], start: datetime, end: datetime
    ) -> list[Row]:
        """Rows in `[start, end)` as tuples of `COLUMNS[kind]`, sorted by symbol, then time; retried, else StreamError.

        Raises
        ------
        AnswerError
            The answer takes too long, is too large or cannot be read.
        StreamError
            The vendor refuses, or does not answer after all attempts.
        """
        found: list[Row] = []
        for begin, until in pieces_of(resolution, len(symbols), start, end):
            until_ns = round(until.timestamp() * 1_000_000) * 1_000
            rows = self._piece(resolution, list(symbols), begin, until)
            # The vendor's end is included.
            found += [row for row in rows if type(row[1]) is not int or row[1] < until_ns]
        return sorted(found, key=lambda row: row[0])

    def _piece(
        self, resolution: tuple[Kind, Interval | None], symbols: list[str], start: datetime, end: datetime
    ) -> list[Row]:
        """Rows of one piece, `end` included, asked for in a thread that is left when its time is over."""
        answer, worker = Answer(self._access.timeout_seconds, self._access.answer_bytes), Worker("alpaca history")
        asked = worker.submit(self._with_retries, partial(self._request, resolution, symbols, start, end), answer)
        worker.end()
        what = f"alpaca: history of {describe_request(resolution, symbols, start, end)}"
        try:
            # The thread itself ends in time but in a lookup of a name, or where bytes come drop by drop.
            return result_of(asked, what, seconds=answer.seconds, stop=self._stopped)
        except StreamError as error:
            if isinstance(error, StreamStoppedError):
                raise
            problem = error if asked.done() else answer.overdue()
            raise type(problem)(f"{what}: {problem}") from error
        finally:
            answer.abort()

    def _with_retries(self, ask: Callable[[Answer], list[Row]], answer: Answer) -> list[Row]:
        """Result of `ask`, retried after growing pauses on 429, 5xx or no answer; StreamError if refused or at last."""
        for attempt in range(1, self._attempts + 1):
            answer.begin_attempt()
            try:
                return ask(answer)
            except _PROBLEMS as error:
                answer.check_time()
                problem, status = error, getattr(error, "status_code", None)
            is_final = isinstance(problem, APIError) and status not in AGAIN
            pause = min(reconnect_delay(attempt, *self._access.backoff_seconds), answer.seconds_left)
            if is_final or attempt == self._attempts or self._stopped.wait(pause):
                break
        if isinstance(problem, APIError):
            reason = f" (status {status}): {problem}"
        else:
            reason = f": {plain_reason(problem, answer)}"
        is_answer = isinstance(problem, _UNREADABLE) and not isinstance(problem, requests.RequestException | APIError)
        is_answer |= isinstance(problem, requests.exceptions.JSONDecodeError)
        raise (AnswerError if is_answer else StreamError)(
            f"no {'readable ' if is_answer else ''}answer in {attempt} of {self._attempts} attempts"
            f"{self._access.clean(reason)[:MOST_REASON]}"
        )

    def _request(
        self,
        resolution: tuple[Kind, Interval | None],
        symbols: list[str],
        start: datetime,
        end: datetime,
        answer: Answer,
    ) -> list[Row]:
        """Rows of one request, `end` included, sorted by symbol and oldest first within each."""
        kind, interval = resolution
        is_crypto = self._access.feed == "crypto"
        given: dict[str, Any] = {"symbol_or_symbols": symbols, "start": start, "end": end}
        if interval is not None:
            given["timeframe"] = TIMEFRAMES[interval]
        if not is_crypto:
            given["feed"] = DataFeed(self._access.feed)
        client = (CryptoHistoricalDataClient if is_crypto else StockHistoricalDataClient)(
            self._access.key, self._access.secret, raw_data=True, url_override=self._access.rest_url
        )
        set_limits(client, answer)
        request, call = (_CRYPTO if is_crypto else _STOCK)[kind]
        found: Mapping[str, list[Message] | None] = getattr(client, call)(request(**given))
        return [row for symbol, told in sorted(found.items()) for row in past_rows(kind, symbol, told or [])]


def pieces_of(
    resolution: tuple[Kind, Interval | None], symbols: int, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Yield consecutive parts of `[start, end)`, of whole minutes but the last: so long that a usual answer fits its limits.

    Daily bars are one part; of other kinds a part has `PIECE_SECONDS[kind]` of one symbol, and of many symbols less.
    """
    kind, interval = resolution
    seconds = PIECE_SECONDS[kind] / max(symbols, 1)
    step = timedelta(seconds=max(seconds // 60, 1) * 60)
    if interval is not None and not interval.is_intraday:
        step = max(end - start, step)
    while start < end:
        until = min(start + step, end)
        yield start, until
        start = until


def describe_request(
    resolution: tuple[Kind, Interval | None], symbols: Sequence[str], start: datetime, end: datetime
) -> str:
    """Kind, symbols and range of a request for messages; of many symbols the first ones."""
    names = ", ".join(symbols[:MOST_NAMES])
    names += f" and {len(symbols) - MOST_NAMES} more" if len(symbols) > MOST_NAMES else ""
    return f"{resolution[0]} of {names} from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"


def set_limits(client: RESTClient, answer: Answer) -> None:
    """Change the client in place: its requests are parts of the answer, and its own retries are switched off."""
    client._retry = 0  # noqa: SLF001 - asking again is done in one place, with a back-off that can be ended
    for scheme in ("http://", "https://"):
        client._session.mount(scheme, BoundedAdapter(answer))  # noqa: SLF001


def make_stream(access: Access) -> ReportingStream:
    """A new, unconnected stream of crypto or stocks by `access.feed`, with its keys, address, limits and back-off."""
    parameters = {
        "ping_interval": PING_SECONDS,
        "ping_timeout": PONG_SECONDS,
        "close_timeout": CLOSE_SECONDS,
        "open_timeout": access.login_seconds,
        "max_size": access.frame_bytes,
        "max_queue": QUEUED_FRAMES,
        "logger": _SILENT,
    }
    given: dict[str, Any] = {
        "raw_data": True,
        "url_override": access.stream_url,
        "websocket_params": parameters,
        "data_timeout": access.quiet_seconds,
    }
    keys = (access.key, access.secret)
    is_crypto = access.feed == "crypto"
    stream = CryptoStream(*keys, **given) if is_crypto else StockStream(*keys, feed=DataFeed(access.feed), **given)
    stream._reconnect_min_backoff, stream._reconnect_max_backoff = access.backoff_seconds  # noqa: SLF001
    return stream


_UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, RecursionError, DecodeError)
_PROBLEMS = (APIError, requests.RequestException, HTTPError, *_UNREADABLE)
_STOCK: Mapping[Kind, tuple[Any, str]] = {
    "bars": (StockBarsRequest, "get_stock_bars"),
    "quotes": (StockQuotesRequest, "get_stock_quotes"),
    "ticks": (StockTradesRequest, "get_stock_trades"),
}
_CRYPTO: Mapping[Kind, tuple[Any, str]] = {
    "bars": (CryptoBarsRequest, "get_crypto_bars"),
    "quotes": (CryptoQuoteRequest, "get_crypto_quotes"),
    "ticks": (CryptoTradesRequest, "get_crypto_trades"),
}
