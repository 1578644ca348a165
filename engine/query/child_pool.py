"""The query processes that wait for the next `engine.sql` of this process; one stays warm."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.query.child import Child

WAITING = 1  # processes that wait while nobody asks; each holds about 100 MB


class ChildPool:
    """Query processes of this process, lent to one thread each; as many run at a time as there are cores, at least two.

    Its threads share it. A forked process begins with an empty one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Child] = []
        self._places = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))

    @contextmanager
    def lend(self) -> Iterator[Child]:
        """Context: a query process, a waiting one if there is one; afterwards it waits, started anew if it was ended.

        A thread waits until one of the places is free: each is held for the time limit of one query at most.
        """
        with self._places:
            with self._lock:
                child = self._waiting.pop() if self._waiting else None
            child = child or Child()
            try:
                yield child
            finally:
                self._take_back(child)

    def _take_back(self, child: Child) -> None:
        """Let a process wait for the next query, a new one in place of an ended one; end it where enough wait."""
        with self._lock:
            is_wanted = len(self._waiting) < WAITING
            if is_wanted:
                child.restart_if_ended()
                self._waiting.append(child)
        if not is_wanted:
            child.close()

    def close(self) -> None:
        """End the processes that wait; the next `lend` starts another."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for child in waiting:
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
