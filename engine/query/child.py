"""The parent's side of the child process: start it, ask it, and end it when it is late, dead or no longer wanted."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

from engine.errors import EngineError, ExportError, QueryError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from engine.query.request import Request

START_SECONDS = 60.0
READ_BYTES = 1 << 20
# What loads is no rubbish to look for, and Arrow loads in a third of the time without NumPy, which no answer needs.
START = "import gc, sys; gc.disable(); sys.modules['numpy'] = None; from engine.query.query_worker import main; main()"
ERRORS: dict[str, type[EngineError]] = {"QueryError": QueryError, "ExportError": ExportError}


@dataclass(frozen=True)
class Told:
    """What the child answered.

    Attributes
    ----------
    table : pyarrow.Table or DataFrame
        The rows that were kept.
    kinds : tuple of str
        DuckDB's type of each column.
    rows : int
        How many rows there are in all.
    exact : bool
        False when there are more, which nobody counted.
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
        self._process: subprocess.Popen[bytes] | None = _spawn()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def ask(self, request: Request) -> Told:
        """Run one query.

        Raises
        ------
        QueryError
            It was refused, failed, took too long or too much; the process is then ended where it has to be.
        ExportError
            A file cannot be read.
        """
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = _spawn()
        try:
            return _Conversation(self._process, request).told()
        except BaseException:
            # After an error its memory is in no known state, and the rest of an answer may be on its way.
            self.close()
            raise


class _Conversation:
    # A file for Arrow to read from, made of the messages that hold rows.

    closed = False

    def __init__(self, process: subprocess.Popen[bytes], request: Request) -> None:
        self._process = process
        self._request = request
        self._deadline = monotonic() + START_SECONDS
        self._buffer = bytearray()
        self._rows = bytearray()
        self._end: dict[str, int] | None = None

    def told(self) -> Told:
        assert self._process.stdin is not None  # noqa: S101 - it was made with pipes
        try:
            self._process.stdin.write(self._request.line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        self._message(b"b")
        self._deadline = monotonic() + self._request.limits.timeout_seconds + 1.0
        head = json.loads(self._message(b"h"))
        kinds = tuple(head["kinds"])
        table = self._table(head["names"], kinds)
        while self._end is None:
            self._next()
        return Told(table, kinds, self._end["rows"], bool(self._end["exact"]))

    def _table(self, names: list[str], kinds: tuple[str, ...]) -> pa.Table | pl.DataFrame:
        while len(self._rows) < READ_BYTES and self._end is None:
            self._next()
        # Heavy libraries load here: the child has started by now, and loads its own at the same time.
        import polars as pl  # noqa: PLC0415

        from engine.query.result import EASY  # noqa: PLC0415

        # A short answer; two columns of one name are more than Polars takes.
        if self._end is not None and EASY.issuperset(kinds) and len(set(names)) == len(names):
            return pl.read_ipc_stream(bytes(self._rows))
        import pyarrow as pa  # noqa: PLC0415 - takes longer than most questions do, and few answers need it

        return pa.ipc.open_stream(pa.PythonFile(self, "r")).read_all()

    def read(self, count: int) -> bytes:
        """Give Arrow exactly what it asks for; fewer bytes only at the end."""
        while len(self._rows) < count and self._end is None:
            self._next()
        taken = bytes(memoryview(self._rows)[:count])
        del self._rows[:count]
        return taken

    def readable(self) -> bool:
        return True

    def _next(self) -> None:
        kind, content = self._receive()
        if kind == b"d":
            self._rows += content
        elif kind == b"n":
            self._end = json.loads(content)

    def _message(self, wanted: bytes) -> bytes:
        kind, content = self._receive()
        if kind != wanted:
            raise QueryError(f"the query's process answered {kind!r} where {wanted!r} was due")
        return content

    def _receive(self) -> tuple[bytes, bytes]:
        head = self._take(5)
        kind, length = head[:1], int.from_bytes(head[1:], "big")
        content = self._take(length)
        if kind == b"e":
            error = json.loads(content)
            raise ERRORS.get(error["kind"], QueryError)(error["text"])
        return kind, content

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += self._piece()
        taken = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        return taken

    def _piece(self) -> bytes:
        assert self._process.stdout is not None  # noqa: S101
        handle = self._process.stdout.fileno()
        if not select.select([handle], [], [], max(self._deadline - monotonic(), 0))[0]:
            raise self._request.limits.timed_out()
        piece = os.read(handle, READ_BYTES)
        if not piece:
            raise self._died()
        return piece

    def _died(self) -> QueryError:
        # Its limits end it by a signal; DuckDB may also crash for want of memory.
        _, said = self._process.communicate()
        code = self._process.returncode
        limits = self._request.limits
        if -code in _CLOCKS:
            return limits.timed_out()
        if -code in _ENDED:
            return QueryError(f"the query's process was ended from outside (signal {-code}); ask again")
        if code < 0:
            return QueryError(f"{limits.too_large()} (its process died of signal {-code})")
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        return QueryError(f"the query's process ended with code {code}: {' '.join(last) or 'it said nothing'}")


_CLOCKS = (14, 24)  # SIGALRM, SIGXCPU
_ENDED = (1, 2, 3, 15)  # SIGHUP, SIGINT, SIGQUIT, SIGTERM: no limit does that, and no want of memory


def _spawn() -> subprocess.Popen[bytes]:
    # The same modules as here, but none from the current folder; a group of its own, as Ctrl-C is for the parent.
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(  # noqa: S603 - this interpreter, and text of our own
        [sys.executable, "-P", "-c", START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
        process_group=0,
    )
