"""History of an export: its revisions, what each changed, and the one that was valid at an instant."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from engine.arguments import location_of
from engine.errors import ExportError, ParameterError
from engine.export import delta_table
from engine.export.dataset import open_dataset, pinned_revisions
from engine.export.delta_table import DataFile
from engine.export.file_statistics import row_count
from engine.export.log_check import explained_log_errors
from engine.export.maintenance.log_sums import refuse_altered_logs
from engine.export.tables import DATA_TABLES
from engine.schema import TS, Schema
from engine.storage import ObjectPath

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
    """One row per revision, expired ones too: state, totals of rows, files, bytes, and the change from the one before.

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
    target = location_of("target", target)
    exports = open_dataset(target).exports
    if not isinstance(target, ObjectPath):
        refuse_altered_logs(target)
    parts = []
    for name in DATA_TABLES:
        with explained_log_errors(target, name):
            parts.append(table_history(target, name, exports))
    per_table = pl.concat(parts)
    counts = [pl.when(pl.col(name).count() == pl.len()).then(pl.col(name).sum()).alias(name) for name in COUNTS]
    is_pinned = pl.col("revision").is_in(pinned_revisions(exports).implode())
    totals = per_table.group_by("revision").agg(*counts, pl.struct("table", *COUNTS).alias("tables"))
    return (
        exports.with_columns(pl.when(is_pinned).then(pl.lit("pinned")).otherwise(pl.lit("expired")).alias("state"))
        .join(totals, on="revision", how="left", maintain_order="left")
        .select(pl.col(name).cast(dtype) for name, dtype in HISTORY.items())
    )


def revision_at(target: Path, instant: dt.datetime) -> int:
    """Last revision written at or before an aware instant; ExportError if there is none or it has expired.

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
    """Delta version of a table per revision; expired revisions and those without the table are omitted."""
    is_pinned = pl.col("revision").is_in(pinned_revisions(exports).implode())
    rows = exports.filter(is_pinned).select("revision", "table_names", "table_versions").iter_rows()
    pins = {revision: dict(zip(names, versions, strict=True)) for revision, names, versions in rows}
    return {revision: tables[table] for revision, tables in pins.items() if table in tables}


def pinned_files(target: Path, table: str, exports: pl.DataFrame) -> Iterator[tuple[int, dict[str, DataFile]]]:
    """Yield each unexpired revision with the table's files by path, in the order of `exports`."""
    versions = pinned_versions(exports, table)
    files = dict(delta_table.files_by_version(target / table, sorted(set(versions.values()))))
    for revision, version in versions.items():
        yield revision, files[version]


def table_history(target: Path, table: str, exports: pl.DataFrame) -> pl.DataFrame:
    """Rows, files, bytes of a table per unexpired revision, and those added, removed (null after an expired one)."""
    before: Mapping[str, DataFile] | None = {} if exports["table_names"].list.len().item(0) else None
    rows = []
    for revision, files in pinned_files(target, table, exports):
        counts: dict[str, object] = {
            "revision": revision,
            "table": table,
            "rows": sum(row_count(file) for file in files.values()),
            "files": len(files),
            "bytes": sum(file.size for file in files.values()),
        }
        if before is not None:
            added, removed = files.keys() - before.keys(), before.keys() - files.keys()
            counts |= {
                "files_added": len(added),
                "files_removed": len(removed),
                "bytes_added": sum(files[path].size for path in added),
                "bytes_removed": sum(before[path].size for path in removed),
            }
        rows.append(counts)
        before = files
    return pl.DataFrame(rows, schema={"revision": pl.Int64(), "table": pl.String(), **COUNTS})
