"""A stream whose calls end when the session is stopped, whatever the source does meanwhile."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from engine.errors import StreamStoppedError
from engine.sources.streams.bounded_calls import Grace, Worker, result_of
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, Stream, StreamStatus, Subscription

# After the stop, of all calls together that hand over what has come or close the source; and of each of them.
GRACE_SECONDS, LEAST_SECONDS = 2.0, 0.2

P = ParamSpec("P")
T = TypeVar("T")


class InterruptibleStream:
    """A `Stream` that makes the calls of another one in threads, and leaves a call that is running when `stop` is set.

    Requests of the past have a thread of their own; all other calls come from one thread, one after another. Without an
    event (`stop` is None) calls are made directly.

    Parameters
    ----------
    stream : Stream
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._worker = Worker("source")
        self._history = Worker("source history")
        self.last_status = StreamStatus(connected=False)
        """What `status` returned last."""
        self._stop: threading.Event | None = None
        self._grace: Grace | None = None

    @property
    def stop(self) -> threading.Event | None:
        """Event that ends calls when it is set; None: calls are made directly."""
        return self._stop

    @stop.setter
    def stop(self, event: threading.Event) -> None:
        self._stop, self._grace = event, Grace(GRACE_SECONDS, LEAST_SECONDS)

    def available(self, symbols: Sequence[str]) -> Mapping[str, frozenset[Resolution]]:
        """As the stream; StreamStoppedError when the session is stopped."""
        return self._until_stopped("available", self._stream.available, symbols)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """As the stream; StreamStoppedError when the session is stopped."""
        self._until_stopped("subscribe", self._stream.subscribe, subscriptions)

    def unsubscribe(self, symbol: str) -> None:
        """As the stream, with a grace when the session is stopped, then StreamStoppedError."""
        self._with_grace("unsubscribe", self._stream.unsubscribe, symbol)

    def next_at(self) -> dt.datetime | None:
        """As the stream; StreamStoppedError when the session is stopped."""
        return self._until_stopped("next_at", self._stream.next_at)

    def take(self, until: dt.datetime) -> list[Delivery]:
        """As the stream, with a grace when the session is stopped, then StreamStoppedError."""
        return self._with_grace("take", self._stream.take, until)

    def wait(self, seconds: float) -> bool:
        """As the stream; StreamStoppedError when the session is stopped."""
        return self._until_stopped("wait", self._stream.wait, seconds)

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        """As the stream, in a thread of its own; StreamStoppedError when the session is stopped."""
        if self._stop is None:
            return self._stream.fetch(requests)
        if self._stop.is_set():
            raise StreamStoppedError("fetch of the source was not called: the session is stopped")
        return result_of(self._history.submit(self._stream.fetch, requests), "fetch of the source", stop=self._stop)

    def status(self) -> StreamStatus:
        """As the stream, with a grace when the session is stopped, then StreamStoppedError; kept in `last_status`."""
        self.last_status = self._with_grace("status", self._stream.status)
        return self.last_status

    def close(self) -> None:
        """As the stream, with a grace when the session is stopped, then StreamStoppedError; end the threads."""
        try:
            self._with_grace("close", self._stream.close)
        finally:
            self._worker.end()
            self._history.end()

    def _until_stopped(self, name: str, method: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Result of a call that is not begun after the stop, and left at once when it comes."""
        if self._stop is not None and self._stop.is_set():
            raise StreamStoppedError(f"{name} of the source was not called: the session is stopped")
        return self._call(name, None, method, *args, **options)

    def _with_grace(self, name: str, method: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Result of a call that is made after the stop too, within the grace."""
        return self._call(name, self._grace, method, *args, **options)

    def _call(self, name: str, grace: Grace | None, method: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Result of a call of the stream; one that is left keeps its thread, and later calls get another one."""
        if self._stop is None:
            return method(*args, **options)
        answer = self._worker.submit(method, *args, **options)
        try:
            return result_of(answer, f"{name} of the source", stop=self._stop, grace=grace)
        except StreamStoppedError:
            self._worker.end()
            self._worker = Worker("source")
            raise
