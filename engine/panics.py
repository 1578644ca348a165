"""Panic messages of Rust libraries kept off standard error: the panic itself arrives as an exception, and is handled.

Polars prints `thread '...' panicked at ...` from outside Python, so only the file descriptor can be redirected. That is done
for the call that may panic, and everything else that is written meanwhile is passed on.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PANIC = re.compile(rb"\n?thread '[^\n]*panicked at [^\n]*\n[^\n]*\n(?:[ \t][^\n]*\n)*(?:note: [^\n]*\n)?", re.MULTILINE)

_lock = threading.Lock()
_held: list[tuple[int, int]] = []  # (descriptor of the real standard error, file that collects) of the redirection
_users = 0
_passed_on = 0  # bytes of the collecting file


@contextmanager
def hide_panics() -> Iterator[None]:
    """Keep panic messages of the block off standard error; other text of any thread is passed on when the block ends."""
    global _users  # noqa: PLW0603 - standard error is one per process
    with _lock:
        if _users == 0:
            _redirect()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _held:
                _pass_on(restore=_users == 0)


def without_panics(text: bytes) -> bytes:
    """Text without the messages of Rust panics."""
    return PANIC.sub(b"", text)


def _redirect() -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    try:
        real = os.dup(2)
    except OSError:
        return  # a process without standard error shows nothing
    try:
        collecting = os.memfd_create("stderr") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
    except OSError:
        os.close(real)
        return
    os.dup2(collecting, 2)
    _held.append((real, collecting))


def _pass_on(*, restore: bool) -> None:
    global _passed_on  # noqa: PLW0603
    real, collecting = _held[-1]
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    if restore:
        os.dup2(real, 2)
        _held.pop()
    size = os.fstat(collecting).st_size
    text = without_panics(os.pread(collecting, size - _passed_on, _passed_on))
    _passed_on = 0 if restore else size
    while text:
        text = text[os.write(real, text) :]
    if restore:
        os.close(collecting)
        os.close(real)
