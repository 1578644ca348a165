"""Delimited text of several small files of one header, read as one table: the fast form of `text.read_text`.

1. Files of one header whose lines are even are joined (`joint_parts`); the header decides their layout.
2. One typed parse and one pass of the checks (`table_rows.conform_rows`), each file as a series of its own.
3. The rows are cut by file, and the interval of each is told by its own steps.

A file that has anything to tell beyond its layout and its interval (rejected rows, another header, local times that
come twice, a symbol of its rows) is left to `read_text`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import SourceError
from engine.interval import Interval
from engine.sources.batch import Batch, SourceFile
from engine.sources.columns import IDS, TableColumns, match_columns
from engine.sources.file_names import PathFacts, parse_path
from engine.sources.fixed_stamps import parse_fixed
from engine.sources.headers import DELIMITERS, is_plain_header
from engine.sources.joint_parts import PART, Text, file_bytes, part_numbers, plain_lines, rows_in_parts, whole_parts
from engine.sources.options import ReadOptions
from engine.sources.resolution import (
    ROWS_AGAINST_A_NAME,
    SAMPLE_ROWS,
    finer_interval,
    interval_of_steps,
    step_counts_of_parts,
)
from engine.sources.table_rows import (
    ConformedRows,
    Origin,
    conform_rows,
    idle_columns,
    is_number,
    rounded_amounts,
    with_interval_note,
)
from engine.sources.text import (
    TextLayout,
    find_layout,
    has_plain_numbers,
    number_columns,
    parse_csv,
    sample_lines,
)
from engine.sources.wide_tables import symbols_of_columns

FEWEST_FILES = 2  # the reader of single files reads one at the same price
MOST_LEADERS = 8  # files whose header is tried before all are read one by one
# Columns that state for a row what a file states for all rows, or that choose between columns by their values.
OWN_ROLES = frozenset(["symbol", "price_type", "interval", "tick_volume", *IDS])


@dataclass(frozen=True)
class TextFile:
    """One of the files that are read together: its place among those given, source, hash, symbol and lines below the header."""

    place: int
    source: str
    sha256: str
    symbol: str
    text: Text


class Candidate(NamedTuple):
    """A file that may be read with others: its place among those given, path, bytes and symbol."""

    place: int
    path: Path
    data: bytes
    symbol: str


def read_text_files(files: Sequence[SourceFile], options: ReadOptions) -> list[Batch | None]:
    """A batch per file, as `read_text` gives it, where the file can be read with the others; None where not."""
    batches: list[Batch | None] = [None] * len(files)
    if options.symbol or options.skip_rows or options.header is False or options.time_format or options.price_types:
        return batches
    for (header, facts), candidates in by_header(files, options).items():
        leaders = (leading_layout(one, options) for one in candidates[:MOST_LEADERS])
        found = next((layout for layout in leaders if layout is not None), None)
        if found is None or len(candidates) < FEWEST_FILES:
            continue
        layout, table = found
        alike = [file for one in candidates if (file := text_file(one, len(header), layout)) is not None]
        for file, batch in read_or_halve(alike, layout, table, Origin("", "", facts, replace(options, symbols=None))):
            batches[file.place] = batch
    return batches


def by_header(files: Sequence[SourceFile], options: ReadOptions) -> dict[tuple[bytes, PathFacts], list[Candidate]]:
    """Files whose paths state a symbol that is asked for, by first line and the facts of the path that concern all rows."""
    found: dict[tuple[bytes, PathFacts], list[Candidate]] = defaultdict(list)
    for place, file in enumerate(files):
        data = file_bytes(file)
        try:
            facts = parse_path(file.path, options)
        except SourceError:
            continue
        if data is None or facts.symbol is None or not options.selects(facts.symbol):
            continue
        header = data[: data.find(b"\n") + 1]
        concerning_all = PathFacts(interval=facts.interval, price_type=facts.price_type)
        found[header, concerning_all].append(Candidate(place, file.path, data, facts.symbol))
    return found


def leading_layout(file: Candidate, options: ReadOptions) -> tuple[TextLayout, TableColumns] | None:
    """Layout and columns of a file, if its header decides how every file that begins with it is read; else None."""
    if not file.data.isascii():
        return None
    try:
        layout = find_layout(file.data, options, str(file.path))
        table = match_columns(layout.names, options, str(file.path), layout.vendor)
    except SourceError:
        return None
    is_whole = layout.headed and layout.top == 0 and not layout.notes and layout.data == file.data
    if not is_whole or symbols_of_columns(layout.names) or not is_decided(layout, options):
        return None
    header = dict(zip(layout.names, layout.first, strict=True))
    is_plain = (
        table.kind == "bars"
        and not table.sides
        and stamp_name(table) is not None
        and not OWN_ROLES & set(table.roles)
        and not table.layout.rows
        and has_plain_numbers(table, options)
        and not any(is_number(header[name]) for name in number_columns(table))
    )
    return (layout, table) if is_plain else None


def stamp_name(table: TableColumns) -> str | None:
    """Name of the one column of stamps; None where there are two, of dates and of times."""
    roles = table.roles
    names = [roles["ts"]] if "ts" in roles else [roles[role] for role in ("date", "time") if role in roles]
    return names[0] if len(names) == 1 else None


def is_decided(layout: TextLayout, options: ReadOptions) -> bool:
    """Whether the first line alone tells header and delimiter of every file that begins with it and has even lines."""
    line = layout.data.split(b"\n", 1)[0].decode()
    if options.delimiter is None and any(mark in line for mark in DELIMITERS if mark != layout.delimiter):
        return False
    return bool(options.columns) or is_plain_header(sample_lines(layout.data), 0, options)


def text_file(file: Candidate, header: int, layout: TextLayout) -> TextFile | None:
    """The file with the lines below a header of so many bytes, if they are even; else None."""
    text = plain_lines(file.data[header:], layout.delimiter, len(layout.names))
    if text is None:
        return None
    return TextFile(file.place, str(file.path), hashlib.sha256(file.data).hexdigest(), file.symbol, text)


def read_or_halve(
    files: Sequence[TextFile], layout: TextLayout, table: TableColumns, origin: Origin
) -> list[tuple[TextFile, Batch | None]]:
    """Batches of `read_alike`; where the text of all cannot be parsed, of each half of the files in turn."""
    if len(files) < FEWEST_FILES:
        return [(file, None) for file in files]
    try:
        return list(zip(files, read_alike(files, layout, table, origin), strict=True))
    except (SourceError, pl.exceptions.PolarsError):
        middle = len(files) // 2
        halves = files[:middle], files[middle:]
        return [pair for half in halves for pair in read_or_halve(half, layout, table, origin)]


def read_alike(
    files: Sequence[TextFile], layout: TextLayout, table: TableColumns, origin: Origin
) -> list[Batch | None]:
    """Batches of files of one layout; None of those that have something to tell.

    Raises
    ------
    SourceError, PolarsError
        Of some file: all are to be read one by one.
    """
    nothing: list[Batch | None] = [None] * len(files)
    counts = np.array([file.text.count for file in files], np.int64)
    numbers = number_columns(table)
    types = {name: pl.Float64() if name in numbers else pl.String() for name in layout.names}
    raw = parse_csv(b"".join(file.text.lines for file in files), types, layout.delimiter, quote=None)
    name = stamp_name(table)
    stamps = parse_fixed(raw[name]) if name is not None and raw.height == counts.sum() else None
    if name is None or stamps is None:
        return nothing
    raw = raw.with_columns(stamps.alias(name), part_numbers(counts.tolist()), rows_in_parts(2, counts))
    table = replace(table, roles={**table.roles, "symbol": PART})
    # Where another column could part the rows into series, stamps that come again are to be looked at file by file.
    is_again = raw.select(PART, name).is_duplicated() if idle_columns(raw, table) else None
    unclear = set[str]() if is_again is None else set(raw[PART].filter(is_again))
    read = conform_rows(raw, table, origin)
    if read.stamps.notes or read.stamps.dates_only or read.left_out or rounded_amounts(read.kept):
        return nothing
    whole = whole_parts(read.kept, counts.tolist(), [file.symbol for file in files])
    parts = [None if str(number) in unclear else part for number, part in enumerate(whole)]
    intervals = intervals_of_parts(read, counts, parts)
    return [
        None if part is None or told is None else part_batch(file, part, told, read)
        for file, part, told in zip(files, parts, intervals, strict=True)
    ]


IntervalAndNotes = tuple[Interval | None, tuple[str, ...]]


def intervals_of_parts(
    read: ConformedRows, counts: NDArray[np.int64], parts: Sequence[pl.DataFrame | None]
) -> list[IntervalAndNotes | None]:
    """Interval and note of each part, as `table_rows.resolve_interval` has them; None where it would refuse, or is to be asked."""
    whole = [part["ts"] for part in parts if part is not None]
    if not whole:
        return [None] * len(parts)
    stated, is_option = read.origin.interval, read.origin.options.interval is not None
    if stated is not None and is_option:
        return [(stated, ())] * len(parts)
    most = SAMPLE_ROWS if stated is None else ROWS_AGAINST_A_NAME
    lengths = np.array([count for count, part in zip(counts, parts, strict=True) if part is not None], np.int64)
    steps = iter(step_counts_of_parts(pl.concat(whole), lengths, most))
    told: list[IntervalAndNotes | None] = []
    for part in parts:
        own = next(steps) if part is not None else None
        if part is None or own is None:
            told.append(None)
        elif stated is None:
            told.append(with_interval_note(interval_of_steps(own, part.height), part.height))
        else:
            told.append((stated, ()) if finer_interval(own, part.height, stated) is None else None)
    return told


def part_batch(file: TextFile, part: pl.DataFrame, told: IntervalAndNotes, read: ConformedRows) -> Batch:
    """The batch of one file."""
    interval, inferred = told
    options = read.origin.options
    is_daily = interval is not None and not interval.is_intraday
    return Batch(
        kind="bars",
        interval=interval,
        frame=part,
        rejects=read.bad.clear(),
        source=file.source,
        sha256=file.sha256,
        stamp=options.stamp or "start",
        align=options.align or ("date" if is_daily else "session"),
        zone=options.timezone or "UTC",
        source_symbols={file.symbol: file.symbol},
        notes=(*read.origin.notes, *read.table.notes, *inferred),
    )
