"""Rows to Parquet files: cut by folder, sorted, named by what is in them, with statistics for every column.

The same rows always give the same bytes, so the same name.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from engine.export.coded_text import FEW_VALUES, schema_as_text, with_least_codes
from engine.export.delta_table import DataFile
from engine.export.folders import cut_by_folder
from engine.export.tables import LIVE, SORT, sorted_rows
from engine.publish import write_new_file

ROWS_PER_FILE = 1 << 22
ROW_GROUPS_PER_FILE = 32
ROW_GROUP_ROWS = (1 << 15, 1 << 17)
ZSTD_LEVEL = 2  # Polars writes at 3 by default: a quarter more time, and no smaller
ENCODERS = 2  # each holds a batch


@dataclass(frozen=True)
class StagedFile:
    """A Parquet file that is written and durable, but not yet where its table looks.

    Attributes
    ----------
    staged : Path
        Where it lies.
    folder : str
        Its place below the table, empty for the table's own folder.
    sha256 : str
        Of its bytes.
    size : int
        In bytes.
    stats : str
        Delta's statistics, JSON.
    """

    staged: Path
    folder: str
    sha256: str
    size: int
    stats: str

    def at(self, revision: int) -> DataFile:
        """DataFile named `<folder>/<revision>-<sha256>.parquet`: the log entry of this file; moves nothing."""
        name = f"{revision}-{self.sha256}.parquet"
        return DataFile(f"{self.folder}/{name}" if self.folder else name, self.size, self.stats)


class Batch(NamedTuple):
    """Rows of a table that are written together.

    Attributes
    ----------
    rows : DataFrame
    years : collection of str
        Folders of years (`folders.small_years`) that their rows go to; others go to folders of months.
    """

    rows: pl.DataFrame
    years: Collection[str] = ()


def stage(name: str, rows: pl.DataFrame, staging: Path, years: Collection[str] = ()) -> Iterator[StagedFile]:
    """Write rows to durable Parquet files in `staging`, cut by folder and sorted; yield a StagedFile per file."""
    yield from stage_batches(name, [Batch(rows, years)], staging)


def stage_batches(name: str, batches: Iterable[Batch], staging: Path) -> Iterator[StagedFile]:
    """Write batches of rows as Parquet files in `staging`, two encoded at a time; yield StagedFiles in row order.

    Yields
    ------
    StagedFile
        In the order of the rows. `ENCODERS` batches are held, and the one that is being made.
    """
    pieces = (piece for batch in batches for piece in file_pieces(name, *batch))
    first, second = next(pieces, None), next(pieces, None)
    if first is None:
        return
    if second is None:  # most tables of most revisions: threads cost more than the file
        yield write_staged_file(name, *first, staging)
        return
    # Polars encodes a frame on one core: two at a time, while the caller makes the next one. Whoever stops listening
    # waits for those under way.
    with ThreadPoolExecutor(ENCODERS, "stage") as encoders:
        under_way = deque(encoders.submit(write_staged_file, name, *piece, staging) for piece in (first, second))
        del first, second
        for folder, rows in pieces:
            if len(under_way) == ENCODERS:
                yield under_way.popleft().result()
            under_way.append(encoders.submit(write_staged_file, name, folder, rows, staging))
            del rows
        while under_way:
            yield under_way.popleft().result()


def file_pieces(name: str, rows: pl.DataFrame, years: Collection[str]) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield (folder, sorted rows) for each file to be written, at most `ROWS_PER_FILE` (2^22) rows each."""
    # What is one value in the whole batch needs no look in each of its files.
    rows = with_least_codes(rows, FEW_VALUES.get(name, ()))
    # Sorted as a whole: a batch of many folders is in order as a rule, which is seen once.
    for folder, part in cut_into_files(name, sorted_rows(rows, SORT[name]), years):
        for offset in range(0, part.height, ROWS_PER_FILE):
            yield folder, part.slice(offset, ROWS_PER_FILE)


def cut_into_files(name: str, rows: pl.DataFrame, years: Collection[str] = ()) -> list[tuple[str, pl.DataFrame]]:
    """(folder, rows in the same order) in folder order; `gaps`, `quality`: earlier rows, last session per interval."""
    if name not in LIVE:
        return cut_by_folder(name, rows, years)
    # The next minute replaces the rows of the running session, and should not have to copy those of the others.
    is_last = pl.col("session") == pl.col("session").max().over("interval")
    running = rows.select(is_last.alias("running"))["running"]
    return [("", part) for part in (rows.filter(~running), rows.filter(running)) if part.height]


def row_group_rows(height: int) -> int:
    """Rows per Parquet row group: a 32nd of the file's, rounded up, at least 32,768 and at most 131,072."""
    low, high = ROW_GROUP_ROWS
    return min(max(-(-height // ROW_GROUPS_PER_FILE), low), high)


def write_staged_file(name: str, folder: str, rows: pl.DataFrame, staging: Path) -> StagedFile:
    """Write rows of a table durably as zstd Parquet to `staging/<sha256>`, which must be new; return it with its statistics."""
    rows = with_least_codes(rows, FEW_VALUES.get(name, ()))
    buffer = io.BytesIO()
    rows.write_parquet(
        buffer,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        statistics=True,
        row_group_size=row_group_rows(rows.height),
        metadata=schema_as_text(rows),
    )
    content, stats = buffer.getbuffer(), column_statistics(rows)
    sha256 = hashlib.sha256(content).hexdigest()
    # Two folders may hold the same bytes only if they hold the same rows, which their own columns rule out.
    staged = staging / sha256
    write_new_file(staged, content)
    return StagedFile(staged, folder, sha256, len(content), stats)


def column_statistics(rows: pl.DataFrame) -> str:
    """Delta statistics JSON: row count, and min, max and null count of each column (no bounds for lists)."""
    # Every column, also booleans and columns of nulls: PyArrow drops rows where a bound is merely left out.
    columns = [column for column in rows.iter_columns() if not column.dtype.is_nested()]
    bounds = {column.name: column_bounds(column) for column in columns}
    low, high = ({name: pair[side] for name, pair in bounds.items()} for side in (0, 1))
    nulls = {column.name: column.null_count() for column in rows.iter_columns()}
    return statistics_text(rows.height, low, high, nulls)


def statistics_text(count: int, low: Mapping[str, object], high: Mapping[str, object], nulls: Mapping[str, int]) -> str:
    """Delta statistics JSON of a row count and the bounds and null counts by column."""
    values = {"numRecords": count, "minValues": low, "maxValues": high, "nullCount": nulls}
    return json.dumps(values, default=iso_8601, ensure_ascii=False)


def column_bounds(column: pl.Series) -> tuple[object, object]:
    """Minimum and maximum of a column (of an enum, the first and last of its values); nulls are ignored, both None when all are null."""
    if isinstance(column.dtype, pl.Enum):
        values = column.dtype.categories
        return values[0], values[-1]
    # Text of one value throughout is common, which a comparison tells at a fifth of the price of two bounds.
    if column.dtype == pl.String and len(column) and column[0] is not None and (column == column[0]).all():
        return column[0], column[0]
    return column.min(), column.max()


def iso_8601(value: object) -> str:
    """ISO text of a date or an instant (UTC, microseconds, `Z`); TypeError for any other value."""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in statistics")
