"""Contents of many small files of a table at once: whether all of them are as their logs and the table's laws say.

`faulty_groups` names the groups of folders (`folders.folder_groups`) that `verify` has to look at file by file, which are none where nothing is wrong. The laws are
those of `verify.check_contents`: rows, schema, statistics, order, folder, keys.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from engine.export.delta_table import DataFile
from engine.export.file_statistics import differing_statistics, row_count
from engine.export.folders import may_lie_in
from engine.export.maintenance.verify_findings import try_reading
from engine.export.parquet import statistics_text
from engine.export.tables import KEYS, PARTITION, SORT

ROWS_AT_ONCE = 1 << 20
FILE, GROUP = "@file", "@group"

Groups = Mapping[str, Sequence[DataFile]]


def faulty_groups(
    root: Path, table: str, groups: Groups, has_right_columns: Callable[[pl.DataFrame], bool]
) -> set[str]:
    """Groups to be looked at file by file: of batches in which something is wrong, and those too large for a batch.

    Parameters
    ----------
    root : Path
        The table's folder.
    table : str
    groups : mapping of group to files
    has_right_columns : callable
        Whether a frame has the table's columns.
    """
    faulty = set()
    for batch in batches(groups):
        held = [groups[group] for group in batch]
        is_whole, _ = try_reading(partial(are_whole, root, table, held, has_right_columns))
        faulty |= set() if is_whole else set(batch)
    return faulty | {group for group, files in groups.items() if rows_of(files) > ROWS_AT_ONCE}


def batches(groups: Groups) -> Iterator[list[str]]:
    """Yield lists of groups, sorted, of together at most `ROWS_AT_ONCE` rows by their logs; larger ones are left out."""
    batch: list[str] = []
    rows = 0
    for group in sorted(groups):
        count = rows_of(groups[group])
        if count > ROWS_AT_ONCE:
            continue
        if batch and rows + count > ROWS_AT_ONCE:
            yield batch
            batch, rows = [], 0
        batch.append(group)
        rows += count
    if batch:
        yield batch


def rows_of(files: Sequence[DataFile]) -> int:
    """Rows of some files by their logs."""
    return sum(map(row_count, files))


def are_whole(
    root: Path, table: str, groups: Sequence[Sequence[DataFile]], has_right_columns: Callable[[pl.DataFrame], bool]
) -> bool:
    """Whether all laws hold in the files of these groups, all of each; may raise whatever reading raises."""
    files = [file for group in groups for file in group]
    # From memory: a map of a file that shrinks meanwhile kills the process.
    contents = [(root / file.path).read_bytes() for file in files]
    footers = [pq.read_metadata(io.BytesIO(content)) for content in contents]
    first, counts = footers[0], [footer.num_rows for footer in footers]
    # The metadata have the Arrow schema, by which Polars reads columns.
    are_alike = all(footer.schema.equals(first.schema) and footer.metadata == first.metadata for footer in footers)
    if not are_alike or counts != [row_count(file) for file in files]:
        return False
    if not has_right_columns(pl.DataFrame(schema=pl.read_parquet_schema(io.BytesIO(contents[0])))):
        return False
    rows = pl.read_parquet(contents, hive_partitioning=False)
    if rows.height != sum(counts):
        return False
    owner = np.repeat(np.arange(len(files), dtype=np.int32), counts)
    group_of_file = np.repeat(np.arange(len(groups), dtype=np.int32), [len(group) for group in groups])
    placed = rows.with_columns(pl.Series(FILE, owner), pl.Series(GROUP, group_of_file[owner]))
    return (
        have_statistics(placed, files)
        and are_sorted(placed, SORT[table])
        and lie_in_folders(placed, PARTITION.get(table, ()), [file.folder for file in files])
        and (table == "rejects" or not repeat_keys(placed, KEYS[table]))
    )


def have_statistics(rows: pl.DataFrame, files: Sequence[DataFile]) -> bool:
    """Whether the bounds and nulls of each file (`FILE`) are those of its log."""
    columns = {name: dtype for name, dtype in rows.schema.items() if name not in (FILE, GROUP)}
    flat = [name for name, dtype in columns.items() if not dtype.is_nested()]
    summed = (
        rows.group_by(FILE)
        .agg(
            pl.len().alias("@rows"),
            pl.col(flat).min().name.prefix("@min "),
            pl.col(flat).max().name.prefix("@max "),
            pl.col(list(columns)).null_count().name.prefix("@null "),
        )
        .sort(FILE)
    )
    if summed.height != len(files):  # a file without rows is looked at alone
        return False
    for file, row in zip(files, summed.iter_rows(named=True), strict=True):
        low, high = ({name: row[f"@{side} {name}"] for name in flat} for side in ("min", "max"))
        nulls = {name: row[f"@null {name}"] for name in columns}
        if differing_statistics(file.stats, statistics_text(row["@rows"], low, high, nulls)):
            return False
    return True


def are_sorted(rows: pl.DataFrame, by: Sequence[str]) -> bool:
    """Whether the rows of each file are in ascending order of these columns, nulls first; ties are in order."""

    def is_out_of_order(rest: pl.Expr, name: str) -> pl.Expr:
        here, before = pl.col(name), pl.col(name).shift()
        is_less = (here < before).fill_null(here.is_null() & before.is_not_null())
        return is_less | (here.eq_missing(before) & rest)

    wrong = reduce(is_out_of_order, reversed(by), pl.lit(value=False))
    in_file = (pl.col(FILE) == pl.col(FILE).shift()).fill_null(value=False)
    return not rows.select((wrong & in_file).any()).item()


def lie_in_folders(rows: pl.DataFrame, by: Sequence[str], folders: Sequence[str]) -> bool:
    """Whether all rows of each file have the values that its folder is named by."""
    if not by:
        return not any(folders)
    held = rows.select(FILE, *by).unique()
    return all(may_lie_in("/".join(map(str, key)), folders[number]) for number, *key in held.iter_rows())


def repeat_keys(rows: pl.DataFrame, key: Sequence[str]) -> bool:
    """Whether a key stands twice in one group (`GROUP`); the rows of each file are sorted."""
    # Rows of one sorted file repeat a key only side by side, which is a twentieth of the price of a set.
    same = [pl.col(name).eq_missing(pl.col(name).shift()) for name in (FILE, *key)]
    if rows.height > 1 and rows.select(pl.all_horizontal(same).slice(1).any()).item():
        return True
    several = rows.select(FILE, GROUP).unique().group_by(GROUP).len().filter(pl.col("len") > 1)
    if several.is_empty():
        return False
    shared = rows.join(several, on=GROUP, how="semi").select(GROUP, *key)
    return shared.height > 0 and shared.n_unique() < shared.height
