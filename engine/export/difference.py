"""What one revision of an export has that another has not.

Files are named by their content, so only those that one of the two revisions lacks are read, folder by folder; what
is the same row in both falls out by anti-joins. Who wrote a row when (`revision`) is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from engine.errors import ParameterError
from engine.export.dataset import Dataset, _told, open_dataset, scan_files
from engine.export.tables import KEYS, TABLES
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
    """How a table differs: rows that came, rows that went, rows whose values changed (`<column>_old`, `<column>_new`)."""

    added: pl.DataFrame
    removed: pl.DataFrame
    corrected: pl.DataFrame


@dataclass(frozen=True)
class Diff:
    """How a revision differs from an earlier (or any other) one.

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
        """Every frame by name: `bars_added`, `gaps_opened`, `quality_moved` and so on."""
        return {f"{table}_{change}": frame for table, change, frame in self._named()}

    @property
    def summary(self) -> pl.DataFrame:
        """How many rows of each table changed in which way: `SUMMARY`; changes of which there is none are left out."""
        rows = [_counted(table, change, frame) for table, change, frame in self._named() if frame.height]
        return pl.DataFrame(rows, schema=SUMMARY)

    def _named(self) -> Iterator[tuple[str, str, pl.DataFrame]]:
        words = {"gaps": ("opened", "closed", "changed")}
        for table in COMPARED:
            if table == "quality":
                yield table, "moved", self.quality
                continue
            for change, frame in zip(words.get(table, Changed._fields), getattr(self, table), strict=True):
                yield table, change, frame


def diff(target: Path, old: int, new: int, tables: Sequence[str] = COMPARED) -> Diff:
    """Compare two revisions of an export.

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
    before, after = open_dataset(target, old), open_dataset(target, new)
    with _told(Path(target)):
        found = {name: _changed(name, before, after) if name in tables else _unchanged(name) for name in COMPARED}
    quality = found.pop("quality")
    return Diff(Path(target), old, new, quality=_moved(quality), **found)


def _changed(name: str, before: Dataset, after: Dataset) -> Changed:
    parts = [_compared(name, *_frames(name, pair)) for pair in _folders(before.files(name), after.files(name)).values()]
    if not parts:
        return _unchanged(name)
    return Changed(*(pl.concat(frames, how="vertical_relaxed") for frames in zip(*parts, strict=True)))


def _folders(old: Sequence[Path], new: Sequence[Path]) -> Mapping[Path, tuple[list[Path], list[Path]]]:
    """Files that only one of two revisions has, by folder."""
    found: dict[Path, tuple[list[Path], list[Path]]] = {}
    for side, paths, others in ((0, old, set(new)), (1, new, set(old))):
        for path in paths:
            if path not in others:
                found.setdefault(path.parent, ([], []))[side].append(path)
    return found


def _frames(name: str, pair: tuple[list[Path], list[Path]]) -> list[pl.DataFrame]:
    columns = [column for column in TABLES[name] if column not in UNCOMPARED]
    none = empty({column: TABLES[name][column] for column in columns})
    return [pl.concat([none, *(_read(name, path, columns) for path in paths)]) for paths in pair]


def _read(name: str, path: Path, columns: Sequence[str]) -> pl.DataFrame:
    return scan_files(name, [path]).select(columns).collect()


def _compared(name: str, old: pl.DataFrame, new: pl.DataFrame) -> Changed:
    # A gap that ends elsewhere is another gap.
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


def _unchanged(name: str) -> Changed:
    none = empty({column: dtype for column, dtype in TABLES[name].items() if column not in UNCOMPARED})
    return _compared(name, none, none)


def _moved(quality: Changed) -> pl.DataFrame:
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


def _counted(table: str, change: str, frame: pl.DataFrame) -> Mapping[str, object]:
    dates = next((frame[name] for name in ("session", "session_new") if name in frame.columns), None)
    return {
        "table": table,
        "change": change,
        "rows": frame.height,
        "symbols": frame["symbol"].n_unique(),
        "first_session": None if dates is None else dates.min(),
        "last_session": None if dates is None else dates.max(),
    }
