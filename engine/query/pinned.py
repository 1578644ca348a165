"""A read-only file system that knows a given set of files and nothing else.

DuckDB reaches it as `pinned://NAME`. Names are keys of a mapping, never paths: `..`, globs, links and
siblings lead nowhere, and whatever would write, remove or rename is refused. A file of an export is compared with the
SHA-256 in its name when it is first opened, as readers return wrong rows of some damaged files without an error.
"""

from __future__ import annotations

import datetime as dt
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from fsspec.spec import AbstractFileSystem

from engine.arguments import location_of
from engine.errors import ExportError
from engine.export.damage import FILE_NAME, HASHED_BYTES, check_file, read_verified
from engine.query.pinned_object import ObjectContent, PinnedObject
from engine.query.read_only_file import ReadOnlyFile, refuse_change
from engine.query.request import PROTOCOL, SCHEME
from engine.storage import ObjectPath

SMALL_BYTES = 1 << 16  # read whole: that costs no more than its footer and its rows one after the other
MOST_SMALL = 64  # kept for their second opening


class PinnedFile(ReadOnlyFile):
    """An open file on disk.

    Parameters
    ----------
    path : Path
        The file on disk.
    name : str
        What messages call it.
    """

    def __init__(self, path: Path, name: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except OSError as error:
            # The path stays on this machine: the message goes to whoever asked the question.
            raise FileNotFoundError(f"{name}: {error.strerror}") from None
        opened = os.fstat(self._fd)
        if not stat.S_ISREG(opened.st_mode):
            self.close()
            raise FileNotFoundError(f"{name}: is no file")
        super().__init__(name, opened.st_size)

    def read(self, count: int = -1) -> bytes:
        """Read up to `count` bytes (negative: to the end) from the calling thread's position, and advance it."""
        begin = self.tell()
        wanted = max(self.size - begin, 0) if count < 0 else count
        content = os.pread(self._fd, wanted, begin)
        # One system call gives at most 2 GiB, and fewer bytes when a signal arrives.
        while len(content) < wanted and (more := os.pread(self._fd, wanted - len(content), begin + len(content))):
            content += more
        self.seek(begin + len(content))
        return content

    def close(self) -> None:
        """Close the file descriptor; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


class PinnedBytes(ReadOnlyFile):
    """An open small file, which was read whole.

    Parameters
    ----------
    content : bytes
    name : str
        What messages call it.
    """

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(name, len(content))
        self._content = content

    def read(self, count: int = -1) -> bytes:
        """Read up to `count` bytes (negative: to the end) from the calling thread's position, and advance it."""
        begin = self.tell()
        piece = self._content[begin:] if count < 0 else self._content[begin : begin + count]
        self.seek(begin + len(piece))
        return piece

    def close(self) -> None:
        """Do nothing: no descriptor is open."""


class PinnedFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The file system `pinned://`.

    Parameters
    ----------
    files : mapping of name to path
        All there is. A name holds no glob characters. A path may be the URL of an object.
    sizes : mapping of name to int, optional
        Sizes of objects in bytes; one that is absent is asked for.
    table_bytes : mapping of table to int, optional
        Bytes of all files of a table, also of those that are not among `files`; one that is absent is added up.
    """

    protocol = PROTOCOL
    cachable = False  # fsspec would hand the files of one export to the reader of another

    def __init__(
        self,
        files: Mapping[str, str | Path],
        sizes: Mapping[str, int] | None = None,
        table_bytes: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self._files = {name: location_of("file", path) for name, path in files.items()}
        self._bytes = dict(table_bytes or {})
        self._sizes = sizes or {}
        self._contents: dict[str, ObjectContent] = {}
        self._lock = threading.Lock()
        self._small: dict[str, tuple[tuple[int, int, int, int], bytes]] = {}

    def open(self, path: str, mode: str = "rb", **_: object) -> PinnedFile | PinnedBytes | PinnedObject:
        """Open a pinned name for reading; PermissionError for modes but `rb`, `r`, FileNotFoundError if not pinned."""
        if mode not in ("rb", "r"):
            refuse_change(path, f"opening it with mode {mode!r}")
        place = self._path(path)
        if isinstance(place, ObjectPath):
            return PinnedObject(self._content(path, place), path)
        name = path.removeprefix(SCHEME)
        content = self._small_content(name, place)
        if content is not None:
            return PinnedBytes(content, path)
        self._compare(name)
        return PinnedFile(place, path)

    def _small_content(self, name: str, place: Path) -> bytes | None:
        """Bytes of a small file of an export, compared with the SHA-256 of its name; None of others.

        DuckDB opens a file twice, for its footer and for its rows: the second time it is here.
        """
        if not FILE_NAME.fullmatch(place.name):
            return None
        try:
            found = os.stat(place)  # noqa: PTH116 - a third of the time of Path.stat
        except OSError:
            return None  # `_compare` says why
        if found.st_size > SMALL_BYTES or not stat.S_ISREG(found.st_mode):
            return None
        state = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        with self._lock:
            known = self._small.pop(name, None)
        if known is None or known[0] != state:
            try:
                known = state, read_verified(place, f"{name.rpartition('/')[0]}/{place.name}")
            except ExportError as error:
                raise FileNotFoundError(str(error)) from None
        with self._lock:
            self._small[name] = known  # the last one to be dropped
            while len(self._small) > MOST_SMALL:
                self._small.pop(next(iter(self._small)))
        return known[1]

    def _compare(self, name: str) -> None:
        """Compare a file of an export with the SHA-256 of its name, unless its table is large; FileNotFoundError if unequal."""
        path = self._path(name)
        if not FILE_NAME.fullmatch(path.name) or self._table_bytes(name.partition("/")[0]) > HASHED_BYTES:
            return
        try:
            check_file(path, f"{name.rpartition('/')[0]}/{path.name}")
        except ExportError as error:
            raise FileNotFoundError(str(error)) from None

    def _table_bytes(self, table: str) -> int:
        if table not in self._bytes:
            files = [path for name, path in self._files.items() if name.partition("/")[0] == table]
            self._bytes[table] = sum(path.stat().st_size for path in files if path.exists())
        return self._bytes[table]

    def info(self, path: str, **_: object) -> dict[str, object]:
        """`name`, `size` in bytes, `type` "file" of a pinned file; FileNotFoundError when it is not pinned."""
        place = self._path(path)
        size = self._content(path, place).size if isinstance(place, ObjectPath) else place.stat().st_size
        return {"name": path, "size": size, "type": "file"}

    def glob(self, path: str, **_: object) -> list[str]:
        """Exactly the pinned name in a list, or an empty list; wildcards are not expanded."""
        return [path.removeprefix(SCHEME)] if self.isfile(path) else []

    def ls(self, path: str, detail: bool = True, **_: object) -> list[object]:  # noqa: FBT001, FBT002 - fsspec
        """List of `path` alone: its info if `detail` (FileNotFoundError if not pinned), else the name unchecked."""
        return [self.info(path) if detail else path]

    def isfile(self, path: str) -> bool:
        """Whether exactly this name, with or without `pinned://`, is pinned; the disk is not looked at."""
        return path.removeprefix(SCHEME) in self._files

    def exists(self, path: str, **_: object) -> bool:
        """Whether exactly this name is pinned, as `isfile`; the disk is not looked at."""
        return self.isfile(path)

    def isdir(self, path: str) -> bool:
        """False for every path: there are no folders."""
        del path
        return False

    def created(self, path: str) -> dt.datetime:
        """Modification time (not creation time) of the pinned file on disk, UTC."""
        return self.modified(path)

    def modified(self, path: str) -> dt.datetime:
        """Modification time of the pinned file on disk, UTC, of an object 1970; FileNotFoundError when it is not pinned."""
        if isinstance(self._path(path), ObjectPath):
            return dt.datetime.fromtimestamp(0, dt.UTC)  # it never changes, and to ask costs a request
        return dt.datetime.fromtimestamp(self._path(path).stat().st_mtime, dt.UTC)

    def _content(self, path: str, place: ObjectPath) -> ObjectContent:
        """Content of an object, shared by all that open it; what was read stays."""
        name = path.removeprefix(SCHEME)
        if name not in self._contents:
            self._contents.setdefault(name, ObjectContent(place, self._sizes.get(name)))
        return self._contents[name]

    def _path(self, path: str) -> Path:
        """Disk path of a pinned name, with or without `pinned://`; FileNotFoundError when it is not pinned."""
        try:
            return self._files[path.removeprefix(SCHEME)]
        except KeyError:
            raise FileNotFoundError(f"{path}: no such file") from None

    def _refuse_change(self, *paths: object, **_: object) -> NoReturn:
        refuse_change(", ".join(map(str, paths)), "changing it")

    # Everything by which fsspec changes files, or copies them to or from the machine's own file system.
    rm = rm_file = _rm = rmdir = mv = rename = move = copy = cp = cp_file = touch = mkdir = makedirs = mkdirs = (
        _refuse_change
    )
    makedir = delete = put = put_file = upload = get = get_file = download = pipe = pipe_file = _refuse_change
    write_bytes = write_text = start_transaction = _refuse_change
