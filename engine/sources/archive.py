"""Unpack files and archives within limits of size, ratio and number of members.

Nothing is trusted that an archive says about itself: sizes are checked before a byte is unpacked and counted
while unpacking, and members whose names leave the archive's folder are refused.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from engine.errors import SourceError
from engine.publish import file_sha256
from engine.sources.options import ReadOptions

ZIPS = (b"PK\x03\x04", b"PK\x05\x06")  # the second one is empty
PACKINGS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstandard", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
MOST_MEMORY = 512 * 1024 * 1024  # that unpacking one xz file may take: the strongest preset takes 65 MiB
DECOMPRESSORS: dict[str | None, Callable[[], Any]] = {
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY),
}
MAGIC_BYTES = 6  # the longest of them
KINDS_OF_ENTRIES = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
CHUNK_BYTES = 4 * 1024 * 1024
DAMAGES = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, struct.error)  # as unpackers raise them
SMALL_BYTES = 16 * 1024 * 1024  # below this a high ratio is only a repetitive file


def is_zip(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a zip archive, an empty one included."""
    return head.startswith(ZIPS)


class StrictStream(io.RawIOBase):
    """Unpacks one or more compressed streams in a row; what follows them must be a stream too, or zero bytes.

    The standard library's own readers pass over what follows the first stream if it is damaged.
    """

    def __init__(self, packed: IO[bytes], make: Callable[[], Any]) -> None:
        self._packed, self._make = packed, make
        self._stream = make()

    def readable(self) -> bool:
        """True."""
        return True

    def close(self) -> None:
        """Close the packed file as well."""
        self._packed.close()
        super().close()

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        """Fill the buffer with the next unpacked bytes; 0 at the end; EOFError where the file is cut off."""
        while True:
            data = b""
            if self._stream.eof:
                data = self._stream.unused_data or self._packed.read(CHUNK_BYTES)
                data = data.lstrip(b"\0")
                if not data and not (data := self._packed.read(CHUNK_BYTES).lstrip(b"\0")):
                    return 0
                self._stream = self._make()
            elif self._stream.needs_input and not (data := self._packed.read(CHUNK_BYTES)):
                raise EOFError("it ends before its end mark")
            block = self._stream.decompress(data, len(buffer))
            if block:
                buffer[: len(block)] = block
                return len(block)


def packing_of(head: bytes) -> str | None:
    """Name of the compression whose mark the first bytes are (gzip, zstandard, bzip2, xz); None for others and zip."""
    return next((name for magic, name in PACKINGS.items() if head.startswith(magic)), None)


def check_regular(path: Path) -> None:
    """SourceError unless the path is a regular file or a link to one; nothing is opened, so that a pipe never blocks.

    Raises
    ------
    SourceError
        It does not exist, is a pipe, a socket, a device or a folder, or a link that leads to nothing or in a circle.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if path.is_symlink():
            raise SourceError(
                path, "is not a regular file: a link to nothing, or one that leads in a circle"
            ) from error
        absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "no such file or folder" if absent else f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise SourceError(path, reason) from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else KINDS_OF_ENTRIES.get(stat.S_IFMT(mode), "something else")
        raise SourceError(path, f"is not a regular file: {what}")


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
    """The first `count` bytes of a file, unpacked (a zip is not); SourceError if unreadable.

    Raises
    ------
    SourceError
        The file cannot be read or unpacked.
    """
    with open_unpacked(path) as stream:
        return read_block(path, stream, count)


def content(path: Path, options: ReadOptions) -> bytes:
    """All bytes of a file, unpacked (a zip is not); SourceError if over the limits or unreadable.

    Raises
    ------
    SourceError
        The file cannot be read or unpacked, or goes over the limits.
    """
    with open_unpacked(path) as stream:
        return read_all(path, stream, allowed_bytes(path.stat().st_size, options))


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
    except (*DAMAGES, NotImplementedError, ValueError) as error:
        raise SourceError(path, f"no zip archive that can be read: {error}") from error
    check_members(path, infos, options)
    return [info.filename for info in infos]


def members(path: Path, names: Sequence[str], options: ReadOptions) -> Iterator[bytes]:
    """Yield these (`member_names`) of a zip, unpacked, in order; SourceError if one is damaged, or all exceed limits.

    Raises
    ------
    SourceError
        One is damaged or encrypted, or they go over the limits together.
    """
    for block in members_or_errors(path, names, options):
        if isinstance(block, SourceError):
            raise block
        yield block


def members_or_errors(path: Path, names: Sequence[str], options: ReadOptions) -> Iterator[bytes | SourceError]:
    """Yield per name (`member_names`) the unpacked member, or the SourceError of one damaged, encrypted or over limits.

    The limits are those of all members together; the others are yielded all the same.
    """
    left = allowed_bytes(path.stat().st_size, options)
    with zipfile.ZipFile(path) as archive:
        for name in names:
            try:
                block = read_member(path, archive, name, left)
            except SourceError as error:
                yield error
                continue
            left -= len(block)
            yield block


def read_member(path: Path, archive: zipfile.ZipFile, name: str, allowed: int) -> bytes:
    """Unpacked bytes of one member of a zip; SourceError if absent, damaged, encrypted or above `allowed` bytes."""
    place = f"{path}!{name}"
    try:
        with archive.open(name) as stream:
            return read_all(place, stream, allowed)
    except (*DAMAGES, RuntimeError, ValueError, KeyError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(place, f"cannot be unpacked: {error}") from error


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
    """Open a regular file as bytes, unpacked if its first bytes are a compression's; SourceError if unreadable."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            packing = packing_of(file.read(MAGIC_BYTES))
        if packing == "zstandard":
            import pyarrow as pa  # noqa: PLC0415  # slow to import, and few files are zstandard

            return pa.input_stream(os.fspath(path), compression="zstd")  # type: ignore[no-any-return]
        file_or_gzip = gzip.open if packing == "gzip" else open
        stream: IO[bytes] = file_or_gzip(path, "rb")  # type: ignore[assignment]
        if packing in DECOMPRESSORS:
            stream = io.BufferedReader(StrictStream(stream, DECOMPRESSORS[packing]))
    except OSError as error:
        raise SourceError(path, f"cannot be read: {error.strerror or error}") from error
    return stream


def read_all(path: Path | str, stream: IO[bytes], allowed: int) -> bytes:
    """All bytes of a stream, read in 4 MiB blocks; SourceError as soon as they exceed `allowed`."""
    whole = io.BytesIO()
    while block := read_block(path, stream, CHUNK_BYTES):
        whole.write(block)
        if whole.tell() > allowed:
            raise SourceError(path, over_limit_reason(f"over {allowed:,}", allowed))
    return whole.getvalue()


def read_block(path: Path | str, stream: IO[bytes], count: int) -> bytes:
    """The next at most `count` bytes of a stream, empty at its end; SourceError when they cannot be unpacked."""
    try:
        return stream.read(count)
    except DAMAGES as error:
        raise SourceError(path, f"cannot be unpacked: {error}") from error
