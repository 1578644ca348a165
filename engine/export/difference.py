"""Difference between two revisions of an export: rows that were added, removed or corrected.

Files are named by their content, so only those that one of the two revisions lacks are read, folder by folder; what
is the same row in both falls out by anti-joins. Who wrote a row when (`revision`) is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from engine.arguments import location_of
from engine.errors import ParameterError
from engine.export.dataset import Dataset, open_dataset, scan_files
from engine.export.tables import KEYS, TABLES
from engine.export.target_folder import explained_errors
from engine.schema import Schema, empty

COMPARED = ("bars", "quotes", "ticks", "open_interest", "gaps", "quality", "symbols")
UNCOMPARED = ("month", "revision")
MOVED = ("quality", "expected", "present", "missing")
SUMMARY: Schema = {
    "table": pl.String(),
    "change": pl.String(),
    "rows": pl.Int64(),
    "symbols": pl.Int64(),
    "first_session": pl.Date(),
    "last_session": pl.Date(),
}


class Changed(NamedTuple):
    """Difference of a table: rows added, rows removed, rows whose values changed (`<column>_old`, `<column>_new`)."""

    added: pl.DataFrame
    removed: pl.DataFrame
    corrected: pl.DataFrame


@dataclass(frozen=True)
class Diff:
    """Difference of a revision from an earlier (or any other) one, table by table.

    Attributes
    ----------
    target : Path
    old, new : int
        The two revisions.
    bars, quotes, ticks, open_interest, symbols : Changed
        By the table's key. `corrected` has the key, `columns` (which changed, list of String), and each other
        column twice, `<column>_old` and `<column>_new`.
    gaps : Changed
        `added` are gaps that opened, `removed` those that closed; one that shrank or grew is in both. `corrected`
        are those of the same span with another state, cause or retry.
    quality : DataFrame
        Series and sessions whose quality or counts moved: the key, `quality_old, quality_new`, and the same of
        `expected, present, missing`; old or new null where only one revision has the row.
    """

    target: Path
    old: int
    new: int
    bars: Changed
    quotes: Changed
    ticks: Changed
    open_interest: Changed
    gaps: Changed
    quality: pl.DataFrame
    symbols: Changed

    def frames(self) -> dict[str, pl.DataFrame]:
        """All 19 change frames as `<table>_<change>`: `bars_added`, `gaps_opened`, `quality_moved` and so on."""
        return {f"{table}_{change}": frame for table, change, frame in self._changes()}

    @property
    def summary(self) -> pl.DataFrame:
        """Frame `table, change, rows, symbols, first_session, last_session`: a row for each frame that has rows."""
        rows = []
        for table, change, frame in self._changes():
            dates = next((frame[name] for name in ("session", "session_new") if name in frame.columns), None)
            first, last = (None, None) if dates is None else (dates.min(), dates.max())
            if frame.height:
                rows.append((table, change, frame.height, frame["symbol"].n_unique(), first, last))
        return pl.DataFrame(rows, schema=SUMMARY, orient="row")

    def _changes(self) -> Iterator[tuple[str, str, pl.DataFrame]]:
        """Yield (table, kind of change, rows); kinds are added/removed/corrected, opened/closed/changed, or moved."""
        words = {"gaps": ("opened", "closed", "changed")}
        for table in COMPARED:
            if table == "quality":
                yield table, "moved", self.quality
                continue
            for change, frame in zip(words.get(table, Changed._fields), getattr(self, table), strict=True):
                yield table, change, frame


def diff(target: Path, old: int, new: int, tables: Sequence[str] = COMPARED) -> Diff:
    """Rows added, removed, corrected from revision `old` to `new`, by table key; tables not asked for stay empty.

    Parameters
    ----------
    target : Path
    old, new : int
        Revisions; what `new` has and `old` has not is added.
    tables : sequence of str
        Those to compare, of `COMPARED`; the others are left empty.

    Raises
    ------
    ParameterError
        A table that is not compared.
    ExportError
        No export, no such revision, an expired one, or a file that cannot be read.
    """
    strange = [name for name in tables if name not in COMPARED]
    if strange:
        raise ParameterError(f"table: received {', '.join(strange)}; valid: {', '.join(COMPARED)}")
    target = location_of("target", target)
    before, after = open_dataset(target, old), open_dataset(target, new)
    with explained_errors(target):
        changes = {
            name: compare_table(name, *intact_pair(before, after, name))
            if name in tables
            else compare_table(name, [], [])
            for name in COMPARED
        }
    quality = changes.pop("quality")
    return Diff(target, old, new, quality=moved_quality(quality), **changes)


def intact_pair(before: Dataset, after: Dataset, name: str) -> tuple[list[Path], list[Path]]:
    """Files of a table in both revisions; those of one of them alone are compared with their SHA-256."""
    old, new = before.files(name), after.files(name)
    both = set(old) & set(new)
    for dataset, paths in ((before, old), (after, new)):
        dataset.intact_files(name, [path for path in paths if path not in both])
    return old, new


def compare_table(name: str, old: Sequence[Path], new: Sequence[Path]) -> Changed:
    """Rows added, removed, corrected between file lists, without `month` and `revision`; files in both are not read."""
    columns = [column for column in TABLES[name] if column not in UNCOMPARED]
    none = empty({column: TABLES[name][column] for column in columns})
    folders: dict[Path, tuple[list[Path], list[Path]]] = {}
    for side, paths, others in ((0, old, set(new)), (1, new, set(old))):
        for path in paths:
            if path not in others:
                folders.setdefault(path.parent, ([], []))[side].append(path)
    parts = []
    for sides in folders.values():
        frames = [
            pl.concat([none, *(scan_files(name, [one]).select(columns).collect() for one in paths)]) for paths in sides
        ]
        parts.append(compare_rows(name, *frames))
    if not parts:
        return compare_rows(name, none, none)
    return Changed(*(pl.concat(frames, how="vertical_relaxed") for frames in zip(*parts, strict=True)))


def compare_rows(name: str, old: pl.DataFrame, new: pl.DataFrame) -> Changed:
    """Added, removed, corrected rows (key, `columns` that differ, `*_old`, `*_new`); gaps have `gap_end` in the key."""
    key = [*KEYS[name], *(["gap_end"] if name == "gaps" else [])]
    values = [column for column in new.columns if column not in key]
    added = new.join(old, on=key, how="anti", nulls_equal=True, maintain_order="left")
    removed = old.join(new, on=key, how="anti", nulls_equal=True, maintain_order="left")
    both = new.join(old, on=key, nulls_equal=True, maintain_order="left", suffix="_old")
    differs = {column: pl.col(column).ne_missing(pl.col(f"{column}_old")) for column in values}
    both = both.filter(pl.any_horizontal(list(differs.values())))
    names = pl.concat_list(pl.when(test).then(pl.lit(column)) for column, test in differs.items()).list.drop_nulls()
    pairs = [
        pl.col(f"{c}_old") if side == "old" else pl.col(c).alias(f"{c}_new") for c in values for side in ("old", "new")
    ]
    return Changed(added, removed, both.select(*key, names.alias("columns"), *pairs))


def moved_quality(quality: Changed) -> pl.DataFrame:
    """Quality rows on one side only or with other `MOVED` values: key, `*_old` and `*_new` of these, sorted by key."""
    key = KEYS["quality"]
    old = [pl.col(column).alias(f"{column}_old") for column in MOVED]
    new = [pl.col(column).alias(f"{column}_new") for column in MOVED]
    sides = [f"{column}_{side}" for column in MOVED for side in ("old", "new")]
    counted = pl.col("columns").list.set_intersection(list(MOVED)).list.len() > 0
    parts = [
        quality.corrected.filter(counted).select(*key, *sides),
        quality.added.select(*key, *new),
        quality.removed.select(*key, *old),
    ]
    return pl.concat(parts, how="diagonal").select(*key, *sides).sort(key)
