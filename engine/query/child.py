"""The parent's side of the child process: start it, send it queries, and end it when it is late, dead or closed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

from engine.errors import EngineError, ExportError, QueryError
from engine.store_settings import store_variables

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from engine.query.request import Request

START_SECONDS = 60.0
TIMEOUT_SIGNALS = (14, 24)  # SIGALRM, SIGXCPU
MEMORY_SIGNALS = (6, 9)  # SIGABRT: no memory for C++; SIGKILL: none for the system
OUTSIDE_SIGNALS = (1, 2, 3, 15)  # SIGHUP, SIGINT, SIGQUIT, SIGTERM: no limit does that, and no want of memory
READ_BYTES = 1 << 20
# Nothing to collect while modules load; and Arrow loads in a third of the time without NumPy, which no result needs.
START = "import gc, sys; gc.disable(); sys.modules['numpy'] = None; from engine.query.query_worker import main; main()"
ERRORS: dict[str, type[EngineError]] = {"QueryError": QueryError, "ExportError": ExportError}


@dataclass(frozen=True)
class ChildResult:
    """The result of one query as the child process sent it.

    Attributes
    ----------
    table : pyarrow.Table or DataFrame
        The rows, up to the request's `row_limit`.
    kinds : tuple of str
        DuckDB's type of each column.
    rows : int
        How many rows there are in all.
    exact : bool
        False when there are more, which were not counted.
    """

    table: pa.Table | pl.DataFrame
    kinds: tuple[str, ...]
    rows: int
    exact: bool


class Child:
    """A process that answers queries, one at a time; started at once, and again after it had to be ended.

    It belongs to one thread. Close it, or use it in a `with` block: then no process stays behind.
    """

    def __init__(self) -> None:
        self._variables = store_variables()
        self._process: subprocess.Popen[bytes] | None = start_process()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the child; None after `close` (a child that died still has one)."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """Kill the process and wait for its end; the next `ask` starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def restart_if_ended(self) -> subprocess.Popen[bytes]:
        """The running process; another one, started now, where the last one has ended or has other credentials."""
        # A process keeps the environment that it was started with.
        if self._process is None or self._process.poll() is not None or self._variables != store_variables():
            self.close()
            self._variables = store_variables()
            self._process = start_process()
        return self._process

    def ask(self, request: Request) -> ChildResult:
        """Run a query in the child and return its result; restart a dead child, and kill it after any exception.

        Raises
        ------
        QueryError
            It was refused, failed, took too long or needed too much memory.
        ExportError
            A file cannot be read.
        """
        process = self.restart_if_ended()
        try:
            return _Conversation(process, request).result()
        except BaseException:
            # After an error its memory is in no known state, and the rest of an answer may be on its way.
            self.close()
            raise


class _Conversation:
    # One query's exchange of messages, and a file for Arrow to read from, made of the messages that hold rows.

    closed = False

    def __init__(self, process: subprocess.Popen[bytes], request: Request) -> None:
        self._process = process
        self._request = request
        self._deadline = monotonic() + START_SECONDS
        self._buffer = bytearray()
        self._rows = bytearray()
        self._end: dict[str, int] | None = None

    def result(self) -> ChildResult:
        """Send the request, receive header, all rows and row count; return a ChildResult or raise the child's error."""
        assert self._process.stdin is not None  # noqa: S101 - it was made with pipes
        try:
            self._process.stdin.write(self._request.line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        self._expect(b"b")
        self._deadline = monotonic() + self._request.limits.timeout_seconds + 1.0
        header = json.loads(self._expect(b"h"))
        kinds = tuple(header["kinds"])
        table = self._receive_table(header["names"], kinds)
        while self._end is None:
            self._receive_rows()
        return ChildResult(table, kinds, self._end["rows"], bool(self._end["exact"]))

    def _receive_table(self, names: list[str], kinds: tuple[str, ...]) -> pa.Table | pl.DataFrame:
        """Receive all rows: a Polars frame if below 1 MiB, of plain types and distinct names; else an Arrow table."""
        while len(self._rows) < READ_BYTES and self._end is None:
            self._receive_rows()
        # Heavy libraries load here: the child has started by now, and loads its own at the same time.
        import polars as pl  # noqa: PLC0415

        from engine.query.result import POLARS_READABLE  # noqa: PLC0415

        # A short result; two columns of one name are more than Polars takes.
        if self._end is not None and POLARS_READABLE.issuperset(kinds) and len(set(names)) == len(names):
            return pl.read_ipc_stream(bytes(self._rows))
        import pyarrow as pa  # noqa: PLC0415 - takes longer than most queries do, and few results need it

        return pa.ipc.open_stream(pa.PythonFile(self, "r")).read_all()

    def read(self, count: int) -> bytes:
        """Remove and return `count` bytes of row data, waiting for the child; fewer only at the end of the result."""
        while len(self._rows) < count and self._end is None:
            self._receive_rows()
        piece = bytes(memoryview(self._rows)[:count])
        del self._rows[:count]
        return piece

    def readable(self) -> bool:
        """True: Arrow may read from this object."""
        return True

    def _receive_rows(self) -> None:
        """Receive one message: append row data or store the end's row count; ignore other kinds, raise the child's error."""
        kind, content = self._receive()
        if kind == b"d":
            self._rows += content
        elif kind == b"n":
            self._end = json.loads(content)

    def _expect(self, kind: bytes) -> bytes:
        """Receive one message and return its content; QueryError where its kind is not `kind`."""
        received, content = self._receive()
        if received != kind:
            raise QueryError(f"the query's process answered {received!r} where {kind!r} was due")
        return content

    def _receive(self) -> tuple[bytes, bytes]:
        """Receive one message and return (kind, content); an error message of the child is raised."""
        head = self._read_pipe(5)
        kind, length = head[:1], int.from_bytes(head[1:], "big")
        content = self._read_pipe(length)
        if kind == b"e":
            error = json.loads(content)
            raise ERRORS.get(error["kind"], QueryError)(error["text"])
        return kind, content

    def _read_pipe(self, count: int) -> bytes:
        """Read exactly `count` bytes from the child; QueryError at the deadline or when the child has died."""
        assert self._process.stdout is not None  # noqa: S101
        pipe = self._process.stdout.fileno()
        while len(self._buffer) < count:
            if not select.select([pipe], [], [], max(self._deadline - monotonic(), 0))[0]:
                raise self._request.limits.timeout_error()
            piece = os.read(pipe, READ_BYTES)
            if not piece:
                raise self._died()
            self._buffer += piece
        content = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        return content

    def _died(self) -> QueryError:
        """Reap the ended child; return a QueryError by its exit: timeout, ended from outside, crash or exit code."""
        # Its limits end it by a signal. Out of memory, DuckDB aborts or the system kills it; a crash is none of both.
        _, output = self._process.communicate()
        code = self._process.returncode
        limits = self._request.limits
        if -code in TIMEOUT_SIGNALS:
            return limits.timeout_error()
        if -code in OUTSIDE_SIGNALS:
            return QueryError(f"the query's process was ended from outside (signal {-code}); ask again")
        if -code in MEMORY_SIGNALS:
            return QueryError(f"{limits.memory_error()} (its process died of {signal_name(-code)})")
        if code < 0:
            return QueryError(
                f"this statement crashed DuckDB ({signal_name(-code)}) in the query's process, which is started anew; "
                "ask it in another way"
            )
        last = output.decode(errors="replace").strip().splitlines()[-1:]
        return QueryError(f"the query's process ended with code {code}: {' '.join(last) or 'it said nothing'}")


def signal_name(number: int) -> str:
    """`signal 11, SIGSEGV`; the number alone where the system has no name for it."""
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"


def start_process() -> subprocess.Popen[bytes]:
    """Start a query child process with this process's import path and its own process group; return it."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(  # noqa: S603 - this interpreter, and text of our own
        [sys.executable, "-P", "-c", START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
        process_group=0,  # Ctrl-C is for the parent
    )
