"""What an export was: its revisions, what each changed, and which one stood at an instant."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from engine.errors import ExportError, ParameterError
from engine.export import delta_table
from engine.export.dataset import _told, open_dataset, pinned_revisions
from engine.export.delta_table import LakeFile
from engine.export.file_statistics import rows_of
from engine.export.tables import DATA_TABLES
from engine.schema import TS, Schema

COUNTS: Schema = dict.fromkeys(
    ("rows", "files", "bytes", "files_added", "files_removed", "bytes_added", "bytes_removed"), pl.Int64()
)
TABLE = pl.Struct({"table": pl.String(), **COUNTS})
HISTORY: Schema = {
    "revision": pl.Int64(),
    "since_revision": pl.Int64(),
    "written_at": TS,
    "store_id": pl.String(),
    "store_revision": pl.Int64(),
    "engine_version": pl.String(),
    "state": pl.String(),
    **COUNTS,
    "tables": pl.List(TABLE),
}


def history(target: Path) -> pl.DataFrame:
    """List the revisions of an export.

    Parameters
    ----------
    target : Path
        The export's folder.

    Returns
    -------
    DataFrame
        `HISTORY`, one row per revision, sorted by it. `state` is `pinned`, or `expired` where `vacuum` removed its
        files: what it held is null then. `rows, files, bytes` of all tables but `exports`; `files_added`,
        `bytes_added` and so on against the revision before, null where that one has expired. `tables` has the same
        for each table.

    Raises
    ------
    ExportError
        `target` is no export, or a log cannot be read (`engine verify` names it).
    """
    exports = open_dataset(target).exports
    with _told(target):
        per_table = pl.concat([_table_rows(Path(target), name, exports) for name in DATA_TABLES])
    counts = [pl.when(pl.col(name).count() == pl.len()).then(pl.col(name).sum()).alias(name) for name in COUNTS]
    is_pinned = pl.col("revision").is_in(pinned_revisions(exports).implode())
    totals = per_table.group_by("revision").agg(*counts, pl.struct("table", *COUNTS).alias("tables"))
    return (
        exports.with_columns(pl.when(is_pinned).then(pl.lit("pinned")).otherwise(pl.lit("expired")).alias("state"))
        .join(totals, on="revision", how="left", maintain_order="left")
        .select(pl.col(name).cast(dtype) for name, dtype in HISTORY.items())
    )


def revision_at(target: Path, instant: dt.datetime) -> int:
    """Tell which revision stood at an instant: the last one written by then.

    Raises
    ------
    ParameterError
        `instant` has no zone.
    ExportError
        No revision was written by then, or the one that was has expired; the message names the oldest there is.
    """
    if instant.tzinfo is None:
        raise ParameterError(f"as_of: received {instant}, without a zone; valid: an aware datetime")
    exports = open_dataset(target).exports
    standing = exports.filter(pl.col("written_at") <= instant.astimezone(dt.UTC))
    if standing.is_empty():
        first = exports.row(0, named=True)
        raise ExportError(
            f"{target}: had no revision at {instant.isoformat()}; its first, {first['revision']}, "
            f"was written at {first['written_at'].isoformat()}"
        )
    return open_dataset(target, standing["revision"].item(-1)).revision


def pinned_versions(exports: pl.DataFrame, table: str) -> dict[int, int]:
    """Versions of a table by the revisions that pin them; those that have expired are left out."""
    is_pinned = pl.col("revision").is_in(pinned_revisions(exports).implode())
    rows = exports.filter(is_pinned).select("revision", "table_names", "table_versions").iter_rows()
    pins = {revision: dict(zip(names, versions, strict=True)) for revision, names, versions in rows}
    return {revision: tables[table] for revision, tables in pins.items() if table in tables}


def pinned_files(target: Path, table: str, exports: pl.DataFrame) -> Iterator[tuple[int, dict[str, LakeFile]]]:
    """Files of a table, by path, at each revision that has not expired, ascending."""
    versions = pinned_versions(exports, table)
    held = dict(delta_table.holdings(target / table, sorted(set(versions.values()))))
    for revision, version in versions.items():
        yield revision, held[version]


def _table_rows(target: Path, table: str, exports: pl.DataFrame) -> pl.DataFrame:
    former: Mapping[str, LakeFile] | None = {} if exports["table_names"].list.len().item(0) else None
    rows = []
    for revision, held in pinned_files(target, table, exports):
        rows.append({"revision": revision, "table": table, **_counts(held, former)})
        former = held
    return pl.DataFrame(rows, schema={"revision": pl.Int64(), "table": pl.String(), **COUNTS})


def _counts(held: Mapping[str, LakeFile], former: Mapping[str, LakeFile] | None) -> dict[str, int | None]:
    counts: dict[str, int | None] = {
        "rows": sum(rows_of(file) for file in held.values()),
        "files": len(held),
        "bytes": sum(file.size for file in held.values()),
    }
    if former is None:
        return counts | dict.fromkeys(("files_added", "files_removed", "bytes_added", "bytes_removed"))
    added, removed = held.keys() - former.keys(), former.keys() - held.keys()
    return counts | {
        "files_added": len(added),
        "files_removed": len(removed),
        "bytes_added": sum(held[path].size for path in added),
        "bytes_removed": sum(former[path].size for path in removed),
    }
