"""The next version of a table from its last one and what changed: a cost of what changed, not of what is there.

New rows become new files. Former rows that are replaced or removed are found by the statistics of the files, and
only the files that really hold some are written again, without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from engine.export.damage import check_file
from engine.export.dataset import scan_files
from engine.export.folders import years_of_changes
from engine.export.parquet import StagedFile, stage
from engine.export.tables import KEYS, TABLES
from engine.schema import empty

SMALL_ROWS = 1 << 16  # what is left of a rewritten file joins the new rows when it is not more than this


@dataclass(frozen=True)
class RowChanges:
    """Rows that are added to a table, and conditions on the rows that they replace or that are removed.

    Attributes
    ----------
    rows : DataFrame
        New rows, as `tables.conform_table` gives them, with the target's revision.
    scopes : sequence of DataFrame
        Each of some of the columns that files have bounds of: former rows that match one of its rows go.
    stay : DataFrame, optional
        Keys (`tables.KEYS`) of former rows that stay although they match.
    """

    rows: pl.DataFrame
    scopes: Sequence[pl.DataFrame] = ()
    stay: pl.DataFrame | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no row is added and every scope of rows to remove is empty."""
        return self.rows.is_empty() and all(scope.is_empty() for scope in self.scopes)


@dataclass(frozen=True)
class TableFiles:
    """The files of one table at the last revision.

    Attributes
    ----------
    folder : Path
        The table's.
    statistics : DataFrame
        As `delta_table.file_statistics` gives them.
    """

    folder: Path
    statistics: pl.DataFrame


def stage_changes(
    name: str, changes: RowChanges, former: TableFiles, staging: Path
) -> tuple[list[StagedFile], list[str]]:
    """Stage new rows, and the remaining rows of files that lose some; return (staged files, paths of removed files).

    Returns
    -------
    staged : list of StagedFile
    removed : list of str
        Paths of files that the next version does not have any more.
    """
    staged: list[StagedFile] = []
    paths = former.statistics["path"].to_list()
    new_rows, removed = [changes.rows], []
    for path in files_in_scope(former.statistics, changes.scopes):
        # What is damaged must not get a new, true name.
        check_file(former.folder / path)
        keys = removed_keys(name, former.folder / path, changes)
        if keys.is_empty():
            continue
        removed.append(path)
        rows = scan_file(name, former.folder / path).collect()
        rows = rows.join(keys, on=keys.columns, how="anti", nulls_equal=True, maintain_order="left")
        if rows.height > SMALL_ROWS:
            staged.extend(stage(name, rows, staging, years_of_changes(name, rows, paths)))
        else:
            new_rows.append(rows)
    rows = pl.concat(new_rows)
    return [*staged, *stage(name, rows, staging, years_of_changes(name, rows, paths))], removed


def files_in_scope(statistics: pl.DataFrame, scopes: Iterable[pl.DataFrame]) -> list[str]:
    """Sorted paths of files whose min/max bounds admit a row of a scope; an absent bound admits every row."""
    paths: set[str] = set()
    for scope in scopes:
        if scope.is_empty() or statistics.is_empty():
            continue
        # One comparison with the bounds of the whole scope spares most files the comparison with each of its rows.
        overlaps = [
            (pl.col(f"max.{c}") >= pl.lit(scope[c].min(), scope.schema[c]))
            & (pl.col(f"min.{c}") <= pl.lit(scope[c].max(), scope.schema[c]))
            for c in scope.columns
        ]
        candidates = statistics.filter(pl.all_horizontal(test.fill_null(value=True) for test in overlaps))
        for bounds in candidates.iter_rows(named=True):
            within = [
                pl.col(c).is_between(pl.lit(bounds[f"min.{c}"], dtype), pl.lit(bounds[f"max.{c}"], dtype))
                for c, dtype in scope.schema.items()
                if bounds[f"min.{c}"] is not None
            ]
            if scope.select(pl.all_horizontal(pl.lit(value=True), *within).any()).item():
                paths.add(bounds["path"])
    return sorted(paths)


def removed_keys(name: str, file: Path, changes: RowChanges) -> pl.DataFrame:
    """Distinct keys of a file's rows that match any scope, without the keys in `changes.stay`."""
    keys = [empty({column: TABLES[name][column] for column in KEYS[name]})]
    for scope in changes.scopes:
        if scope.is_empty():
            continue
        columns = list(dict.fromkeys((*KEYS[name], *scope.columns)))
        in_bounds = [
            pl.col(c).is_between(pl.lit(scope[c].min(), t), pl.lit(scope[c].max(), t)) for c, t in scope.schema.items()
        ]
        candidates = scan_file(name, file).filter(*in_bounds).select(columns).collect()
        keys.append(candidates.join(scope, on=scope.columns, how="semi").select(KEYS[name]))
    matching = pl.concat(keys).unique()
    return matching if changes.stay is None else matching.join(changes.stay, on=KEYS[name], how="anti")


def scan_file(name: str, file: Path) -> pl.LazyFrame:
    """Scan one Parquet file of a table lazily with the table's schema."""
    return scan_files(name, [file])
