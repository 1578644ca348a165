"""Headers of a Parquet file's pages, walked without decoding a page: counts and sizes that cannot be are found.

Polars ends the process on a page whose header states a wrong number of values, which no handler can stop. A header is
some 30 bytes before a page of up to a megabyte, so that a file of any size is checked in little time.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from engine.errors import SourceError

# Fields of PageHeader and of the structs in it, by the Parquet format's Thrift definition.
UNCOMPRESSED, COMPRESSED, DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 2, 3, 5, 7, 8
NUM_VALUES = 1
# Types of Thrift's compact protocol.
TRUE, FALSE, BYTE, INT16, INT32, INT64, DOUBLE, BINARY, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
DEEPEST = 8
Fields = dict[int, Any]


def check_page_headers(path: Path, names: Collection[str], cut: tuple[int, int] | None = None) -> None:
    """SourceError if a page header of these columns contradicts the footer; of the row groups of rows `cut` alone.

    The values of a chunk's pages must be as many as the footer says, and no page larger than its chunk.

    Raises
    ------
    SourceError
        A header is damaged; the message names the column and the row group.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415  # slow to import

    footer = pq.read_metadata(path)
    first, end = (cut[0], sum(cut)) if cut else (0, footer.num_rows)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = 0
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            begins, start = start, start + group.num_rows
            if begins >= end or start <= first:
                continue
            for chunk in (group.column(at) for at in range(group.num_columns)):
                name = chunk.path_in_schema.partition(".")[0]
                reason = chunk_fault(data, chunk) if name in names else None
                if reason is not None:
                    raise SourceError(
                        path, f"no Parquet file that can be read: {reason} in column {name} of row group {number}"
                    )


def chunk_fault(data: mmap.mmap, chunk: Any) -> str | None:  # noqa: ANN401 - PyArrow's metadata of a column chunk
    """What is wrong with the page headers of a column chunk; None if nothing is."""
    begin = min(at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at)
    end = begin + chunk.total_compressed_size
    if end > len(data):
        return "a chunk beyond the end of the file"
    values = 0
    try:
        for header, page in page_headers(data, begin, end):
            kind = next((one for one in (DATA_PAGE, DATA_PAGE_V2, DICTIONARY_PAGE) if one in header), None)
            inner = {NUM_VALUES: 0} if kind is None else header[kind]
            count = inner.get(NUM_VALUES) if isinstance(inner, dict) else None
            unpacked = header.get(UNCOMPRESSED)
            if not (isinstance(count, int) and isinstance(unpacked, int)):
                return "a page header without sizes"
            if page > end or count < 0 or not 0 <= unpacked <= chunk.total_uncompressed_size:
                return "a page header with sizes that cannot be"
            if kind == DICTIONARY_PAGE:
                if count > unpacked:
                    return "a dictionary of more values than bytes"
            elif kind is not None:
                values += count
    except (IndexError, ValueError):
        return "a page header that cannot be read"
    return None if values == chunk.num_values else f"{values:,} values where the footer has {chunk.num_values:,}"


def page_headers(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[Fields, int]]:
    """Yield the fields of each page header of a chunk, and where the page ends; ValueError for none, or an endless page."""
    at = begin
    while at < end:
        header, at = read_struct(data, at)
        size = header.get(COMPRESSED, -1)
        if not isinstance(size, int) or size < 0:
            raise ValueError("a page without a size")
        at += size
        yield header, at


def read_struct(data: mmap.mmap, at: int, depth: int = 0) -> tuple[Fields, int]:
    """(field number -> integer or struct, place behind) of a struct in Thrift's compact protocol; others are skipped."""
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    fields: Fields = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return fields, at
        kind, step = head & 15, head >> 4
        if step:
            number += step
        else:
            value, at = read_varint(data, at)
            number = signed(value)
        if kind in (INT16, INT32, INT64):
            value, at = read_varint(data, at)
            fields[number] = signed(value)
        elif kind == STRUCT:
            fields[number], at = read_struct(data, at, depth + 1)
        elif kind == BINARY:
            size, at = read_varint(data, at)
            at += size
        elif kind in (BYTE, DOUBLE):
            at += 1 if kind == BYTE else 8
        elif kind not in (TRUE, FALSE):
            raise ValueError(f"a field of type {kind}, which no page header has")


def read_varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """(unsigned integer, place behind) of up to ten bytes of seven bits each, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte & 128 == 0:
            return value, at
    raise ValueError("an integer without an end")


def signed(value: int) -> int:
    """Integer of its zigzag form: 0, -1, 1, -2 ... of 0, 1, 2, 3 ..."""
    return (value >> 1) ^ -(value & 1)
