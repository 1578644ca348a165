"""The next version of a table from its last one and what changed: a cost of what changed, not of what is there.

New rows become new files. Former rows that are replaced or removed are found by the statistics of the files, and
only the files that really hold some are written again, without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from engine.export.parquet import StagedFile, stage
from engine.export.tables import KEYS, TABLES
from engine.schema import empty

SMALL_ROWS = 1 << 16  # what is left of a rewritten file joins the new rows when it is not more than this


@dataclass(frozen=True)
class Edit:
    """What changed in a table.

    Attributes
    ----------
    rows : DataFrame
        New rows, as `tables.shaped` gives them, with the target's revision.
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
        """Whether nothing comes and nothing may go."""
        return self.rows.is_empty() and all(scope.is_empty() for scope in self.scopes)


@dataclass(frozen=True)
class TableFiles:
    """The files of one table at the last revision.

    Attributes
    ----------
    folder : Path
        The table's.
    statistics : DataFrame
        As `lake.statistics` gives them.
    """

    folder: Path
    statistics: pl.DataFrame


def edit(name: str, change: Edit, former: TableFiles, staging: Path) -> tuple[list[StagedFile], list[str]]:
    """Stage the files that a change needs.

    Returns
    -------
    staged : list of StagedFile
    gone : list of str
        Paths of files that the next version does not have any more.
    """
    staged: list[StagedFile] = []
    small, gone = [change.rows], []
    for path in _suspects(former.statistics, change.scopes):
        hits = _hits(name, former.folder / path, change)
        if hits.is_empty():
            continue
        gone.append(path)
        kept = _read(name, former.folder / path).collect()
        kept = kept.join(hits, on=hits.columns, how="anti", nulls_equal=True, maintain_order="left")
        if kept.height > SMALL_ROWS:
            staged.extend(stage(name, kept, staging))
        else:
            small.append(kept)
    return [*staged, *stage(name, pl.concat(small), staging)], gone


def _suspects(statistics: pl.DataFrame, scopes: Iterable[pl.DataFrame]) -> Iterator[str]:
    """Files whose bounds do not rule out that they hold a row of a scope."""
    found: set[str] = set()
    for scope in scopes:
        near = statistics.filter(_near(statistics, scope))
        found.update(row["path"] for row in near.iter_rows(named=True) if _within(row, scope))
    yield from sorted(found)


def _near(statistics: pl.DataFrame, scope: pl.DataFrame) -> pl.Expr:
    # One comparison with the bounds of the whole scope spares most files the comparison with each of its rows.
    if scope.is_empty() or statistics.is_empty():
        return pl.lit(value=False)
    tests = [
        (pl.col(f"max.{c}") >= pl.lit(scope[c].min(), scope.schema[c]))
        & (pl.col(f"min.{c}") <= pl.lit(scope[c].max(), scope.schema[c]))
        for c in scope.columns
    ]
    return pl.all_horizontal(test.fill_null(value=True) for test in tests)


def _within(bounds: dict[str, object], scope: pl.DataFrame) -> bool:
    tests = [
        pl.col(column).is_between(pl.lit(bounds[f"min.{column}"], dtype), pl.lit(bounds[f"max.{column}"], dtype))
        for column, dtype in scope.schema.items()
        if bounds[f"min.{column}"] is not None
    ]
    return bool(scope.select(pl.all_horizontal(pl.lit(value=True), *tests).any()).item())


def _hits(name: str, file: Path, change: Edit) -> pl.DataFrame:
    """Keys of the rows of a file that go."""
    found = [empty({column: TABLES[name][column] for column in KEYS[name]})]
    for scope in change.scopes:
        if scope.is_empty():
            continue
        columns = list(dict.fromkeys((*KEYS[name], *scope.columns)))
        box = [
            pl.col(c).is_between(pl.lit(scope[c].min(), t), pl.lit(scope[c].max(), t)) for c, t in scope.schema.items()
        ]
        near = _read(name, file).filter(*box).select(columns).collect()
        found.append(near.join(scope, on=scope.columns, how="semi").select(KEYS[name]))
    hits = pl.concat(found).unique()
    return hits if change.stay is None else hits.join(change.stay, on=KEYS[name], how="anti")


def _read(name: str, file: Path) -> pl.LazyFrame:
    return pl.scan_parquet(file, schema=dict(TABLES[name]), hive_partitioning=False, glob=False)
