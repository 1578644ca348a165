"""Exports of a running session, whose caller waits for a limited time: a store may accept connections and not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from engine.clock import steady_seconds
from engine.errors import EngineError, ExportError, StreamError
from engine.sources.streams.bounded_calls import Worker, result_of
from engine.store.session_data import SessionData


class BoundedExport:
    """Makes exports in a thread, one after another; one that takes too long is left, and ends before the next begins.

    Parameters
    ----------
    export : callable
        Exports the newest state of a store and returns the revision.
    name : str
        Of the target, for messages.
    """

    def __init__(self, export: Callable[[SessionData], int], name: str) -> None:
        self._export = export
        self._name = name
        self._worker = Worker("export")
        self._running: Future[int] | None = None

    def __call__(self, session: SessionData, seconds: float, stop: threading.Event | None = None) -> int:
        """Revision of an export that ends in so many seconds, one that was left before included, or until `stop` is set.

        Raises
        ------
        ExportError
            It has not ended by then, and goes on; or what the export raised.
        """
        begun = steady_seconds()
        if self._running is not None:
            with suppress(EngineError):  # its end was told when it was left
                result_of(self._running, self._name, seconds=seconds, stop=stop)
            if not self._running.done():
                raise ExportError(f"{self._name}: an export that began before has not ended")
        self._running = self._worker.submit(self._export, session)
        left = round(max(0.0, seconds - (steady_seconds() - begun)), 1)
        try:
            return result_of(self._running, f"{self._name}: the export", seconds=left, stop=stop)
        except StreamError as error:
            raise ExportError(str(error)) from error

    def end(self) -> None:
        """End the thread; an export that is running is left."""
        self._worker.end()
