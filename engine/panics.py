"""Panic messages of Rust libraries kept off standard error: the panic itself arrives as an exception, and is handled.

Polars prints `thread '...' panicked at ...` from outside Python, so only the file descriptor can be redirected. That is done
for the call that may panic, and everything else that is written meanwhile is passed on.
"""

from __future__ import annotations

import fcntl
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


@contextmanager
def hide_panics() -> Iterator[None]:
    """Keep panic messages of the block off standard error; other text is passed on when the last block of any thread ends."""
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
            if _held and _users == 0:
                _pass_on()


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
    # Threads write at once, and the position of such a file is not theirs together.
    fcntl.fcntl(collecting, fcntl.F_SETFL, os.O_APPEND)
    os.dup2(collecting, 2)
    _held.append((real, collecting))


def _pass_on() -> None:
    real, collecting = _held.pop()
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    os.dup2(real, 2)
    with open(collecting, "rb") as file:  # noqa: PTH123 - a descriptor
        file.seek(0)
        text = without_panics(file.read())
    while text:
        text = text[os.write(real, text) :]
    os.close(real)
