"""What is started before the command line is read, so that it is there when it is needed: the child of `engine sql`."""

# Rooms are imported inside the functions: `engine --help` answers without loading what asks.

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.query.child import Child

_waiting: list[Child] = []


@contextmanager
def started_for(words: list[str]) -> Iterator[None]:
    """Start the process that answers queries, when these words ask one; ended with the block if nobody takes it."""
    if words[:1] == ["sql"] and "--help" not in words:
        from engine.query.child import Child

        # It loads DuckDB while options are read, and Polars loads, here. What is loaded is no rubbish to look for.
        _waiting.append(Child())
        gc.disable()
    try:
        yield
    finally:
        gc.enable()
        while _waiting:
            _waiting.pop().close()


def child() -> Child:
    """The process that was started, or a new one."""
    from engine.query.child import Child

    return _waiting.pop() if _waiting else Child()
