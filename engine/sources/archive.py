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
    """Whether a file that begins with these bytes is a zip."""
    return head.startswith(ZIPS)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

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
    """The first bytes of a file, unpacked when it is gzip or zstandard.

    Raises
    ------
    SourceError
        The file cannot be read or unpacked.
    """
    with _unpacked(path) as stream:
        return _read(path, stream, count)


def content(path: Path, options: ReadOptions) -> bytes:
    """All bytes of a file, unpacked when it is gzip or zstandard.

    Raises
    ------
    SourceError
        The file cannot be read or unpacked, or goes over the limits.
    """
    packed = path.stat().st_size
    with _unpacked(path) as stream:
        return _counted(path, stream, _allowed(packed, options))


def member_names(path: Path, options: ReadOptions) -> list[str]:
    """Names of a zip's files, in the order of its directory.

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
    _check_members(path, infos, options)
    return [info.filename for info in infos]


def members(path: Path, names: Sequence[str], options: ReadOptions) -> Iterator[bytes]:
    """Bytes of some members of a zip, one after another; the limits apply to all of them together.

    Raises
    ------
    SourceError
        One is damaged or encrypted, or they go over the limits together.
    """
    left = _allowed(path.stat().st_size, options)
    with zipfile.ZipFile(path) as archive:
        for name in names:
            block = _member(path, archive, name, left)
            left -= len(block)
            yield block


def _member(path: Path, archive: zipfile.ZipFile, name: str, allowed: int) -> bytes:
    try:
        with archive.open(name) as stream:
            return _counted(path, stream, allowed)
    except SourceError:
        raise
    except (zipfile.BadZipFile, RuntimeError, ValueError, KeyError) as error:
        raise SourceError(f"{path}!{name}", f"cannot be unpacked: {error}") from error


def _check_members(path: Path, infos: list[zipfile.ZipInfo], options: ReadOptions) -> None:
    if len(infos) > options.max_members:
        raise SourceError(path, f"holds {len(infos):,} members; max_members allows {options.max_members:,}")
    if len({info.filename for info in infos}) < len(infos):
        raise SourceError(path, "holds two members of the same name")
    for info in infos:
        parts = info.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise SourceError(path, f"member {info.filename!r} points outside the archive")
    total, allowed = sum(info.file_size for info in infos), _allowed(path.stat().st_size, options)
    if total > allowed:
        raise SourceError(path, _over(f"{total:,}", allowed))


def _allowed(packed_bytes: int, options: ReadOptions) -> int:
    return min(options.max_bytes, max(packed_bytes * options.max_ratio, SMALL_BYTES))


def _over(seen: str, allowed: int) -> str:
    return f"unpacks to {seen} bytes, more than the {allowed:,} that max_bytes and max_ratio allow; raise them if you trust it"


def _unpacked(path: Path) -> IO[bytes]:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic.startswith(GZIP):
            return gzip.open(path, "rb")  # type: ignore[return-value]
        return _zstd(path) if magic == ZSTD else path.open("rb")
    except OSError as error:
        raise SourceError(path, f"cannot be read: {error.strerror or error}") from error


def _zstd(path: Path) -> IO[bytes]:
    import pyarrow as pa  # noqa: PLC0415  # slow to import, and few files are zstandard

    stream: IO[bytes] = pa.input_stream(str(path), compression="zstd")
    return stream


def _counted(path: Path, stream: IO[bytes], allowed: int) -> bytes:
    whole = io.BytesIO()
    while block := _read(path, stream, CHUNK_BYTES):
        whole.write(block)
        if whole.tell() > allowed:
            raise SourceError(path, _over(f"over {allowed:,}", allowed))
    return whole.getvalue()


def _read(path: Path, stream: IO[bytes], count: int) -> bytes:
    try:
        return stream.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(path, f"cannot be unpacked: {error}") from error
