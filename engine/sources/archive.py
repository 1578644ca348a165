"""Unpack files and archives within limits of size, ratio and number of members.

Nothing is trusted that an archive says about itself: sizes are checked before a byte is unpacked and counted
while unpacking, and members whose names leave the archive's folder are refused.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from engine.errors import SourceError
from engine.publish import file_sha256
from engine.sources.options import ReadOptions

ZIPS = (b"PK\x03\x04", b"PK\x05\x06")  # the second one is empty
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
CHUNK_BYTES = 4 * 1024 * 1024
SMALL_BYTES = 16 * 1024 * 1024  # below this a high ratio is only a repetitive file


def is_zip(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a zip archive, an empty one included."""
    return head.startswith(ZIPS)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as stored (packed), hexadecimal; SourceError when it cannot be read.

    Raises
    ------
    SourceError
        The file cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise SourceError(path, f"cannot be read: {error.strerror or error}") from error


def head(path: Path, count: int = 4096) -> bytes:
    """The first `count` bytes of a file, gzip or zstandard unpacked (a zip is not); SourceError if unreadable.

    Raises
    ------
    SourceError
        The file cannot be read or unpacked.
    """
    with open_unpacked(path) as stream:
        return read_block(path, stream, count)


def content(path: Path, options: ReadOptions) -> bytes:
    """All bytes of a file, gzip or zstandard unpacked (a zip is not); SourceError if over the limits or unreadable.

    Raises
    ------
    SourceError
        The file cannot be read or unpacked, or goes over the limits.
    """
    packed = path.stat().st_size
    with open_unpacked(path) as stream:
        return read_all(path, stream, allowed_bytes(packed, options))


def member_names(path: Path, options: ReadOptions) -> list[str]:
    """Names of a zip's files, without folders, in stored order; SourceError if no zip, unsafe, repeated or over limits.

    Raises
    ------
    SourceError
        No zip, a name that climbs out, or over the limits.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise SourceError(path, f"no zip archive that can be read: {error}") from error
    check_members(path, infos, options)
    return [info.filename for info in infos]


def members(path: Path, names: Sequence[str], options: ReadOptions) -> Iterator[bytes]:
    """Yield the named members of a zip, unpacked, in the order of `names`; SourceError if their sum exceeds the limits.

    Raises
    ------
    SourceError
        One is damaged or encrypted, or they go over the limits together.
    """
    left = allowed_bytes(path.stat().st_size, options)
    with zipfile.ZipFile(path) as archive:
        for name in names:
            block = read_member(path, archive, name, left)
            left -= len(block)
            yield block


def read_member(path: Path, archive: zipfile.ZipFile, name: str, allowed: int) -> bytes:
    """Unpacked bytes of one member of a zip; SourceError if absent, damaged, encrypted or above `allowed` bytes."""
    try:
        with archive.open(name) as stream:
            return read_all(path, stream, allowed)
    except SourceError:
        raise
    except (zipfile.BadZipFile, RuntimeError, ValueError, KeyError) as error:
        raise SourceError(f"{path}!{name}", f"cannot be unpacked: {error}") from error


def check_members(path: Path, infos: list[zipfile.ZipInfo], options: ReadOptions) -> None:
    """SourceError for too many members, two equal names, a path outside the archive, or a stated total over limits."""
    if len(infos) > options.max_members:
        raise SourceError(path, f"holds {len(infos):,} members; max_members allows {options.max_members:,}")
    if len({info.filename for info in infos}) < len(infos):
        raise SourceError(path, "holds two members of the same name")
    for info in infos:
        parts = info.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise SourceError(path, f"member {info.filename!r} points outside the archive")
    total, allowed = sum(info.file_size for info in infos), allowed_bytes(path.stat().st_size, options)
    if total > allowed:
        raise SourceError(path, over_limit_reason(f"{total:,}", allowed))


def allowed_bytes(packed_bytes: int, options: ReadOptions) -> int:
    """Most bytes a file may unpack to: `packed_bytes` x `max_ratio`, at least 16 MiB, never above `max_bytes`."""
    return min(options.max_bytes, max(packed_bytes * options.max_ratio, SMALL_BYTES))


def over_limit_reason(seen: str, allowed: int) -> str:
    """Error text: unpacks to `seen` bytes, more than `allowed`, with the options to raise."""
    return (
        f"unpacks to {seen} bytes, more than the {allowed:,} that max_bytes and max_ratio allow; "
        "raise them if you trust it"
    )


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a file as a byte stream, unpacked if its first bytes are gzip or zstandard; SourceError if unreadable."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic.startswith(GZIP):
            return gzip.open(path, "rb")  # type: ignore[return-value]
        if magic == ZSTD:
            import pyarrow as pa  # noqa: PLC0415  # slow to import, and few files are zstandard

            stream: IO[bytes] = pa.input_stream(str(path), compression="zstd")
            return stream
        return path.open("rb")
    except OSError as error:
        raise SourceError(path, f"cannot be read: {error.strerror or error}") from error


def read_all(path: Path, stream: IO[bytes], allowed: int) -> bytes:
    """All bytes of a stream, read in 4 MiB blocks; SourceError as soon as they exceed `allowed`."""
    whole = io.BytesIO()
    while block := read_block(path, stream, CHUNK_BYTES):
        whole.write(block)
        if whole.tell() > allowed:
            raise SourceError(path, over_limit_reason(f"over {allowed:,}", allowed))
    return whole.getvalue()


def read_block(path: Path, stream: IO[bytes], count: int) -> bytes:
    """The next at most `count` bytes of a stream, empty at its end; SourceError when they cannot be unpacked."""
    try:
        return stream.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(path, f"cannot be unpacked: {error}") from error
