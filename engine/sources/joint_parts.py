"""Small files that are read together: their bytes as one text, and the rows of that text as parts of one table.

What a table costs is in large part the same for ten rows as for ten thousand, so files of one layout are parsed and
checked as one table, whose column `PART` has the number of the file. Only files of which nothing has to be told are
read this way; the reader of single files reads every other one, so that a message is written in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import SourceError
from engine.sources import archive
from engine.sources.batch import SourceFile
from engine.sources.encodings import UTF8, encoding_of
from engine.storage import ObjectPath

PART = "@part"  # a column that no file has: `@` begins names of ours
MOST_FILE_BYTES = 4 * 1024 * 1024  # files above it gain nothing
MOST_BYTES = 24 * 1024 * 1024  # of all files that are read together
MOST_FILES = 512
NEWLINE = 10


@dataclass(frozen=True)
class Text:
    """Lines of one file, as they stand in a text of several.

    Attributes
    ----------
    lines : bytes
        Each ends in a line feed.
    count : int
    """

    lines: bytes
    count: int


def joint_groups(files: Sequence[SourceFile]) -> list[list[SourceFile]]:
    """The files in order, in groups to be read together: neighbours of one format, small; any other file alone."""
    groups: list[list[SourceFile]] = []
    total = 0
    for file in files:
        size = joint_size(file)
        fits = groups and size is not None and total + size <= MOST_BYTES and len(groups[-1]) < MOST_FILES
        if fits and groups[-1][0].format == file.format:
            groups[-1].append(file)
            total += size or 0
        else:
            groups.append([file])
            total = MOST_BYTES if size is None else size
    return groups


def joint_size(file: SourceFile) -> int | None:
    """Bytes of a file that may be read together with others; None for a large one, a frame, an object of a store."""
    if file.frame is not None or file.given_symbol is not None or file.qualifier or isinstance(file.path, ObjectPath):
        return None
    try:
        size = file.path.stat().st_size
    except OSError:
        return None
    return size if size <= MOST_FILE_BYTES else None


def file_bytes(file: SourceFile) -> bytes | None:
    """Bytes of a regular file; None where it cannot be read."""
    try:
        archive.check_regular(file.path)
        return file.path.read_bytes()
    except (OSError, SourceError):
        return None


def plain_lines(data: bytes, delimiter: str, width: int) -> Text | None:
    """Text of ASCII data whose every line has `width` cells on average; None with quotes, blank lines, CR or NUL."""
    if not data or not data.isascii() or encoding_of(data) != UTF8:
        return None
    data = data if data.endswith(b"\n") else data + b"\n"
    codes = np.frombuffer(data, np.uint8)
    ends = codes == NEWLINE
    count = int(np.count_nonzero(ends))
    delimiters = int(np.count_nonzero(codes == ord(delimiter)))
    if delimiters != (width - 1) * count or ends[0] or (ends[1:] & ends[:-1]).any():
        return None
    return None if b'"' in data or b"\r" in data or b"\0" in data else Text(data, count)


def part_numbers(counts: Sequence[int]) -> pl.Series:
    """Column `PART` of parts of so many rows: the number of each one as text."""
    numbers = pl.Series(PART, [str(number) for number in range(len(counts))], pl.String)
    return numbers.gather(np.repeat(np.arange(len(counts)), counts))


def rows_in_parts(first: int, counts: NDArray[np.int64]) -> pl.Series:
    """Column `row` of parts of so many rows: the number of each line in its file, from `first`."""
    return pl.Series("row", np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first)


def whole_parts(kept: pl.DataFrame, counts: Sequence[int], symbols: Sequence[str]) -> list[pl.DataFrame | None]:
    """Rows of each part, with its symbol in place of its number; None of one that lost a row.

    Parameters
    ----------
    kept : DataFrame
        Rows in the order of the parts, with the number of the part as `symbol`.
    counts : sequence of int
        Rows of each part before any was taken out.
    symbols : sequence of str
        Of each part.
    """
    runs = kept["symbol"].rle().struct.unnest()
    found = runs["value"].cast(pl.Int64).to_numpy()
    lengths = runs["len"].cast(pl.Int64).to_numpy()
    named = pl.Series("symbol", symbols, pl.String).gather(np.repeat(found, lengths))
    kept = kept.with_columns(named)
    parts: list[pl.DataFrame | None] = [None] * len(counts)
    starts = np.cumsum(lengths) - lengths
    for number, start, length in zip(found.tolist(), starts.tolist(), lengths.tolist(), strict=True):
        if length == counts[number]:
            parts[number] = kept.slice(start, length)
    return parts
