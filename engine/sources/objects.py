"""Files of sources that lie in an object store: copied to this disk as they are read, and called by their URL.

A copy is a path whose text is the URL, so that rejects, problems and tables name the object, and whose file is the copy
below a temporary folder of this process (`TMPDIR`), in the folders that its key has. A copy that is not there, as in
a worker on another machine, is made when its file is opened.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PosixPath
from typing import Any

from engine.errors import RemoteError, SourceError
from engine.storage import ObjectPath, ObjectStat

DOWNLOADS = 8  # at once


class ObjectCopy(PosixPath):
    """Path of a copy of an object: its text is the URL, its file is on this disk."""

    url: str
    written_ns: int = 0

    @classmethod
    def of(cls, place: ObjectPath, stat: ObjectStat, folder: Path) -> ObjectCopy:
        """The copy of an object below a folder; nothing is read yet."""
        copy = cls(folder, *place.parts[1:])
        copy.url, copy.written_ns = str(place), stat.st_mtime_ns
        return copy

    def __str__(self) -> str:
        return getattr(self, "url", None) or super().__str__()

    def __fspath__(self) -> str:
        file = "/".join(self.parts).replace("//", "/", 1)
        if hasattr(self, "url") and not os.path.exists(file):  # noqa: PTH110 - this is the path
            download(ObjectPath(self.url), Path(file), self.written_ns)
        return file

    def __reduce__(self) -> tuple[Any, ...]:
        return copy_again, (self.parts, self.url, self.written_ns)


def copy_again(parts: Sequence[str], url: str, written_ns: int) -> ObjectCopy:
    """The copy that another process has pickled."""
    copy = ObjectCopy(*parts)
    copy.url, copy.written_ns = url, written_ns
    return copy


def download(place: ObjectPath, file: Path, written_ns: int) -> None:
    """Copy an object to a file, with its time of writing; SourceError when it cannot be read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        place.download(staged)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise SourceError(str(place), f"cannot be read: {error}") from error
    os.utime(staged, ns=(written_ns, written_ns))
    staged.replace(file)


def objects_below(place: ObjectPath) -> list[tuple[ObjectPath, ObjectStat]]:
    """The object of this name, or all below it without hidden ones, sorted, with sizes; SourceError if none.

    Raises
    ------
    SourceError
        The store cannot be reached, or there is nothing of this name.
    """
    hint = "check credentials, region and AWS_ENDPOINT_URL"
    try:
        found = sorted(place.walk_objects())
        if not found:
            found = [(place, place.stat())]
    except FileNotFoundError:
        try:
            place.check_store()
        except RemoteError as error:
            raise SourceError(str(place), f"cannot be listed: {error}") from error
        raise SourceError(str(place), "holds no object; valid: an object, or a prefix with objects below it") from None
    except OSError as error:
        raise SourceError(str(place), f"cannot be listed: {error}; {hint}") from error
    depth = len(place.parts)
    return [(path, stat) for path, stat in found if not any(part.startswith(".") for part in path.parts[depth:])]


def copies_of(objects: Sequence[tuple[ObjectPath, ObjectStat]]) -> list[ObjectCopy]:
    """Copies of objects, some fetched at once."""
    copies = [ObjectCopy.of(place, stat, copies_folder()) for place, stat in objects]
    with ThreadPoolExecutor(DOWNLOADS, "download") as downloads:
        list(downloads.map(os.fspath, copies))
    return copies


@functools.cache
def copies_folder() -> Path:
    """Folder of this process for copies, removed when it ends."""
    folder = tempfile.mkdtemp(prefix="engine-objects-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
