"""A pinned file that lies in an object store, read by ranges: the bytes that a query asks for, in few requests."""

from __future__ import annotations

import threading
from collections import deque

from engine.query.read_only_file import ReadOnlyFile
from engine.storage import ObjectPath

TAIL_BYTES = 1 << 16  # a Parquet footer and the index before it, mostly
LEAST_BYTES = 1 << 18  # of a request: a smaller one takes about as long
PIECES_KEPT = 16


class ObjectContent:
    """Bytes of an object, fetched by ranges and kept for a while; threads and open handles share it.

    Parameters
    ----------
    path : ObjectPath
    size : int, optional
        In bytes; asked for when it is not given.
    """

    def __init__(self, path: ObjectPath, size: int | None = None) -> None:
        self.size = path.stat().st_size if size is None else size
        self._path = path
        self._lock = threading.Lock()
        self._pieces: deque[tuple[int, bytes]] = deque(maxlen=PIECES_KEPT)

    def read(self, start: int, end: int) -> bytes:
        """Bytes from `start` to before `end`, which is cut to the size; one request unless they are here."""
        end = min(end, self.size)
        if start >= end:
            return b""
        with self._lock:
            known = self._known(start, end)
        if known is not None:
            return known
        first = start if start < self.size - TAIL_BYTES else max(self.size - TAIL_BYTES, 0)
        last = min(max(end, first + LEAST_BYTES), self.size)
        piece = self._path.read_range(first, last)
        with self._lock:
            self._pieces.append((first, piece))
        return piece[start - first : end - first]

    def _known(self, start: int, end: int) -> bytes | None:
        """The bytes, where one of the kept pieces has them all."""
        for first, piece in self._pieces:
            if first <= start and end <= first + len(piece):
                return piece[start - first : end - first]
        return None


class PinnedObject(ReadOnlyFile):
    """An open object.

    Parameters
    ----------
    content : ObjectContent
    name : str
        What messages call it.
    """

    def __init__(self, content: ObjectContent, name: str) -> None:
        super().__init__(name, content.size)
        self._content = content

    def read(self, count: int = -1) -> bytes:
        """Read up to `count` bytes (negative: to the end) from the calling thread's position, and advance it."""
        begin = self.tell()
        content = self._content.read(begin, self.size if count < 0 else begin + count)
        self.seek(begin + len(content))
        return content

    def close(self) -> None:
        """Do nothing: there is no handle."""
