"""The child process that runs queries: it reads requests on standard input and writes results to standard output.

A request is one line of JSON (`Request.line`). The result is a sequence of messages: a letter, the length as four
bytes, the content.

    b  begun: the clock of this query runs
    h  the columns' names and types, as JSON
    d  a piece of the rows as an Arrow IPC stream
    n  the end: how many rows there are, as JSON
    e  an error, as JSON

The operating system holds the limits, whatever DuckDB does: memory (RLIMIT_AS), processor time (RLIMIT_CPU), wall time
(an alarm), no file written (RLIMIT_FSIZE). Nothing is pickled.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from engine.errors import EngineError
from engine.query.file_selection import PLANNING_SETTINGS
from engine.query.request import Request
from engine.query.sandbox import ReusedSandbox, open_result

MESSAGE_HEAD = struct.Struct(">cI")
PIECE_BYTES = 1 << 20
GRACE_SECONDS = 1.0  # by which DuckDB's own clock may be late before the process is ended
SLACK_BYTES = 512 << 20  # of address space: allocators reserve more than they use
SLACK_BYTES_PER_THREAD = 80 << 20


class _Messages:
    # A file for Arrow to write to, whose pieces become messages.

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def send(self, kind: bytes, content: bytes | memoryview) -> None:
        """Write one message to the stream and flush: kind (one byte), content length (4 bytes), content."""
        self._stream.write(MESSAGE_HEAD.pack(kind, len(content)))
        self._stream.write(content)
        self._stream.flush()

    def write(self, data: pa.Buffer) -> int:
        """Send Arrow's bytes as `d` messages of at most 1 MiB each; return the number of bytes."""
        whole = memoryview(data).cast("B")
        for offset in range(0, len(whole), PIECE_BYTES):
            self.send(b"d", whole[offset : offset + PIECE_BYTES])
        return len(whole)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


def main() -> None:
    """Forbid this process to write files, answer requests of standard input under their limits, exit with code 0."""
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    messages = _Messages(sys.stdout.buffer)
    gc.enable()
    reused, planner = ReusedSandbox(), ReusedSandbox(PLANNING_SETTINGS)
    try:
        for line in sys.stdin.buffer:
            request = Request.parse(line)
            with operating_system_limits(request):
                run_request(request, messages, reused, planner)
    except BrokenPipeError:
        pass  # nobody listens any more
    # Without clean-up: threads of a query that was stopped may still hold what it would take away.
    os._exit(0)


def run_request(request: Request, messages: _Messages, reused: ReusedSandbox, planner: ReusedSandbox) -> None:
    """Run one query in a sandbox; send begin, header, rows and row count, or an error message for an EngineError."""
    messages.send(b"b", b"")
    try:
        frames = {name: pa.ipc.open_file(pa.memory_map(path)).read_all() for name, path in request.frames.items()}
        opened = open_result(request.catalog, frames, request.query, request.limits, request.row_limit, reused, planner)
        with opened as result:
            header = {"names": result.schema.names, "kinds": result.kinds}
            messages.send(b"h", json.dumps(header).encode())
            with pa.ipc.new_stream(pa.PythonFile(messages, "w"), result.schema) as writer:
                for batch in result.reader:
                    writer.write_batch(batch)
        end = {"rows": result.reader.rows, "exact": result.reader.exact}
    except EngineError as error:
        messages.send(b"e", json.dumps({"kind": type(error).__name__, "text": str(error)}).encode())
    else:
        messages.send(b"n", json.dumps(end).encode())


@contextmanager
def operating_system_limits(request: Request) -> Iterator[None]:
    """Set CPU, wall-time and (Linux) memory limits of this process for the block; only the alarm is reset after it."""
    limits = request.limits
    threads = limits.threads or os.cpu_count() or 1
    reserved = reserved_bytes()  # grows with what allocators keep of former queries
    if reserved:
        frames = sum(Path(path).stat().st_size for path in request.frames.values())
        slack = SLACK_BYTES + SLACK_BYTES_PER_THREAD * threads
        set_soft_limit(resource.RLIMIT_AS, reserved + frames + limits.memory_bytes + slack)
    spent = resource.getrusage(resource.RUSAGE_SELF)
    allowed = limits.timeout_seconds * threads + GRACE_SECONDS
    set_soft_limit(resource.RLIMIT_CPU, int(spent.ru_utime + spent.ru_stime + allowed) + 1)
    # The kernel ends the process when the alarm rings, also when nobody waits for it and no Python runs.
    signal.setitimer(signal.ITIMER_REAL, limits.timeout_seconds + 2 * GRACE_SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def set_soft_limit(limit: int, value: int) -> None:
    """Set the soft limit of a process resource to `value`, capped at its hard limit, which stays."""
    hard = resource.getrlimit(limit)[1]
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def reserved_bytes() -> int:
    """Address space of this process in bytes, from /proc/self/statm; 0 where there is no such file."""
    # Only Linux holds a process to its address space; elsewhere the clocks have to do.
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        return 0
    return pages * resource.getpagesize()
