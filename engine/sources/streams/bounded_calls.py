"""Calls that may block, made in threads that nobody has to wait for.

A `Worker` makes calls one after another in a daemon thread; `result_of` waits for the answer of one, for a limited time or
until an event is set. A call that does not return is left where it is: neither its caller nor the end of the process waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from engine.clock import steady_seconds
from engine.errors import StreamError, StreamStoppedError

LOOK_SECONDS = 0.05  # how often a waiting thread looks whether it should stop

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """A daemon thread that makes calls one after another; it starts with the first call.

    Parameters
    ----------
    name : str
        Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> Future[T]:
        """Queue a call and return its future; what the function raises is the future's exception."""
        answer: Future[T] = Future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put((answer, lambda: function(*args, **options)))
        return answer

    def end(self) -> None:
        """End the thread after the calls that are queued; a call that never returns keeps it, and nothing else."""
        self._calls.put(None)

    def _run(self) -> None:
        """Thread body: make the queued calls until `end`."""
        while (item := self._calls.get()) is not None:
            answer, call = item
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(call())
                except BaseException as error:  # noqa: BLE001 - it is the caller's, who may have left
                    answer.set_exception(error)
            del item, answer, call  # rows of an answer are not kept until the next call


class Grace:
    """Time that calls have together after they should end, counted from when that was seen first.

    Parameters
    ----------
    seconds : float
        Of all calls together.
    least_seconds : float
        Of each call, also when the time of all is over.
    """

    def __init__(self, seconds: float, least_seconds: float) -> None:
        self._seconds, self._least = seconds, least_seconds
        self._seen_at: float | None = None

    def is_over(self, begun: float, now: float) -> bool:
        """Whether a call that began then (`steady_seconds`) is to be left now."""
        self._seen_at = now if self._seen_at is None else self._seen_at
        return now - self._seen_at >= self._seconds and now - begun >= self._least


def result_of(
    answer: Future[T],
    what: str,
    *,
    seconds: float | None = None,
    stop: threading.Event | None = None,
    grace: Grace | None = None,
) -> T:
    """Result of a call, or what it raised.

    Parameters
    ----------
    answer : Future
    what : str
        The call, for messages: `alpaca: history`.
    seconds : float, optional
        Longest wait; default without limit.
    stop : Event, optional
        Ends the wait when it is set.
    grace : Grace, optional
        Time that the call has after that; default none.

    Raises
    ------
    StreamStoppedError
        `stop` was set and the call has not returned.
    StreamError
        The call has not returned in `seconds`.
    """
    begun = steady_seconds()
    while not wait([answer], LOOK_SECONDS).done:
        now = steady_seconds()
        if stop is not None and stop.is_set() and (grace is None or grace.is_over(begun, now)):
            raise StreamStoppedError(f"{what} had not returned when the session was stopped; it was left")
        if seconds is not None and now - begun >= seconds:
            raise StreamError(f"{what} has not returned in {seconds:g} s; it was left")
    return answer.result()
