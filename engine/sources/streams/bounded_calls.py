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


def result_of(
    answer: Future[T],
    what: str,
    *,
    seconds: float | None = None,
    stop: threading.Event | None = None,
    grace_seconds: float = 0.0,
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
        Ends the wait when it is set, `grace_seconds` later.

    Raises
    ------
    StreamStoppedError
        `stop` was set and the call has not returned.
    StreamError
        The call has not returned in `seconds`.
    """
    begun, stopped_at = steady_seconds(), None
    while not wait([answer], LOOK_SECONDS).done:
        now = steady_seconds()
        if stopped_at is None and stop is not None and stop.is_set():
            stopped_at = now
        if stopped_at is not None and now - stopped_at >= grace_seconds:
            raise StreamStoppedError(f"{what} had not returned when the session was stopped; it was left")
        if seconds is not None and now - begun >= seconds:
            raise StreamError(f"{what} has not returned in {seconds:g} s; it was left")
    return answer.result()
