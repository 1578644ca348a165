"""Parquet files in an object store that are read where they lie, by ranges: their list and their footers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import SourceError
from engine.sources.objects import objects_below
from engine.storage import ObjectPath

PARQUET = (".parquet", ".pq")
FOOTER_BYTES = 1 << 16


class RemoteFile(NamedTuple):
    """A Parquet object: URL, size in bytes, time of writing (nanoseconds since 1970, 0 if unknown)."""

    url: str
    size: int
    written_ns: int


def remote_files(place: ObjectPath) -> tuple[list[RemoteFile], list[ObjectPath]]:
    """(Parquet objects by their name, `.parquet` or `.pq`; all others) of this name or below it; SourceError if none.

    Raises
    ------
    SourceError
        The store cannot be reached, or there is nothing.
    """
    found = objects_below(place)
    tables = [
        RemoteFile(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found if path.suffix.lower() in PARQUET
    ]
    return tables, [path for path, _ in found if path.suffix.lower() not in PARQUET]


def remote_metadata(file: RemoteFile) -> pq.FileMetaData:
    """Parquet metadata from the footer of an object, by one request mostly; SourceError when it cannot be read.

    Raises
    ------
    SourceError
        It cannot be read.
    """
    place, size = ObjectPath(file.url), FOOTER_BYTES
    try:
        tail = place.read_range(max(file.size - size, 0), file.size)
        needed = int.from_bytes(tail[-8:-4], "little") + 8
        if len(tail) < needed <= file.size:
            tail = place.read_range(file.size - needed, file.size)
        # The footer alone is a file without rows to Arrow, which asks for nothing but the footer here.
        return pq.ParquetFile(io.BytesIO(tail)).metadata
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(file.url, f"no Parquet file that can be read: {error}") from error


def remote_file(path: Path) -> Path | RemoteFile:
    """An object of an export as a RemoteFile; a file of this system as it is."""
    if not isinstance(path, ObjectPath):
        return path
    return RemoteFile(str(path), path.stat().st_size if path.size is None else path.size, 0)
