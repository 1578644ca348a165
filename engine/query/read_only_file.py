"""An open file that can be read and sought only, with a read position per thread: the base of pinned files and objects."""

from __future__ import annotations

import os
import threading
from typing import NoReturn


class ReadOnlyFile:
    """Position and refusals of an open file; a subclass reads and closes it.

    DuckDB shares one handle between its threads, and each of them seeks before it reads.

    Parameters
    ----------
    name : str
        What messages call it.
    size : int
        In bytes.
    """

    mode = "rb"

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._at = threading.local()
        self.size = size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the calling thread's read position relative to start, position or end; return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.size}[whence]
        self._at.position = origin + offset
        return self.tell()

    def tell(self) -> int:
        """Read position of the calling thread in bytes; 0 before its first seek or read."""
        return int(getattr(self._at, "position", 0))

    def readable(self) -> bool:
        """True: the file can be read."""
        return True

    def seekable(self) -> bool:
        """True: the read position can be set."""
        return True

    def writable(self) -> bool:
        """False: the file is read only."""
        return False

    def write(self, data: bytes) -> NoReturn:
        """Write nothing; always raise PermissionError."""
        refuse_change(self._name, f"{len(data)} bytes to write")

    def flush(self) -> None:
        """Do nothing: no byte is ever buffered for writing."""


def refuse_change(name: str, what: str) -> NoReturn:
    """Raise the PermissionError of whatever would change a table's file."""
    raise PermissionError(f"{name}: {what} is refused, the tables are read only")
