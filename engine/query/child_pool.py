"""The query processes that wait for the next `engine.sql` of this process; one stays warm."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.query.child import Child

MOST_IDLE = 1  # processes kept for the next query; each holds about 100 MB


class ChildPool:
    """Query processes of this process, lent to one thread each; as many run at a time as there are cores, at least two.

    Its threads share it. A forked process begins with an empty one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._running = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))

    @contextmanager
    def acquire(self) -> Iterator[Child]:
        """Context: a query process, an idle one if there is one; afterwards idle again, started anew if it was ended.

        A thread waits while as many run as may: each of them for the time limit of its query at most.
        """
        with self._running:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            child = child or Child()
            try:
                yield child
            finally:
                self._release(child)

    def _release(self, child: Child) -> None:
        """Let a process wait for the next query, a new one in place of an ended one; end it where enough wait."""
        with self._lock:
            has_room = len(self._idle) < MOST_IDLE
            if has_room:
                child.restart_if_ended()
                self._idle.append(child)
        if not has_room:
            child.close()

    def close(self) -> None:
        """End the processes that wait; the next `acquire` starts another."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.close()


_pool = ChildPool()


def child_pool() -> ChildPool:
    """The pool of this process."""
    return _pool


def _forget_parents_pool() -> None:
    # The processes belong to the parent, and another of its threads may hold the lock.
    global _pool  # noqa: PLW0603 - one per process
    _pool = ChildPool()


atexit.register(lambda: child_pool().close())
os.register_at_fork(after_in_child=_forget_parents_pool)
