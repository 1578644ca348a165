"""Start the child process of `engine sql` before the command line is parsed."""

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
def start_query_process(words: list[str]) -> Iterator[None]:
    """Context: for `sql` without --help, start a query process and pause garbage collection; end it if unused."""
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


def query_child() -> Child:
    """The query process already started, handed out once; a newly started one if there is none."""
    from engine.query.child import Child

    return _waiting.pop() if _waiting else Child()
