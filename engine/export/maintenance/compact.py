"""Merge small files: a live session that exports every minute leaves hundreds of them.

Small files of a folder are merged among themselves, sorted; large ones stay as they are, so that the cost is that of
what was added since. The merged files are a new revision with the same rows; files of former revisions stay until
`vacuum`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from engine.arguments import location_of
from engine.clock import Clock, WallClock
from engine.export.damage import read_verified
from engine.export.dataset import Dataset, RevisionDraft, RevisionPlan, StoreState, commit_revision, open_dataset
from engine.export.folders import folder_of
from engine.export.parquet import ROWS_PER_FILE, StagedFile, stage
from engine.export.tables import DATA_TABLES, with_added_columns
from engine.export.target_folder import LOCK_TIMEOUT_SECONDS
from engine.schema import Schema

SMALL_ROWS = 1 << 19
# `gaps` and `quality` keep the rows of the running session apart.
FEWEST: Mapping[str, int] = {"gaps": 2, "quality": 2}
MERGED: Schema = {
    "table": pl.String(),
    "folder": pl.String(),
    "rows": pl.Int64(),
    "files_before": pl.Int64(),
    "files_after": pl.Int64(),
    "bytes_before": pl.Int64(),
    "bytes_after": pl.Int64(),
}


@dataclass(frozen=True)
class Compacted:
    """Result of `compact`: the revision, and the folders whose files were merged.

    Attributes
    ----------
    revision : int
        The target's last revision: a new one, or the former where nothing was to be merged.
    merged : DataFrame
        `MERGED`, one row per folder that was rewritten.
    """

    revision: int
    merged: pl.DataFrame


def compact(target: Path, *, clock: Clock | None = None, lock_timeout: float = LOCK_TIMEOUT_SECONDS) -> Compacted:
    """Merge files of under 524,288 rows per folder into a new revision with the same rows; without any, do nothing.

    No query's answer changes, every row keeps the revision that wrote it, and readers of former revisions are not
    disturbed. Never more than about `parquet.ROWS_PER_FILE` rows are in memory.

    Parameters
    ----------
    target : Path
        The export's folder.
    clock : Clock, optional
        Stamps the revision; default the machine's.
    lock_timeout : float
        Seconds to wait for an exporter of this target.

    Raises
    ------
    ExportError
        No export, one that somebody else writes to, or a file that is damaged (it is never merged).
    """
    target = location_of("target", target)
    dataset = open_dataset(target)
    if not any(small_files(dataset, table) for table in DATA_TABLES):
        return Compacted(dataset.revision, pl.DataFrame(schema=dict(MERGED)))
    last = dataset.exports.row(-1, named=True)
    state = StoreState(last["store_id"], last["store_revision"], (clock or WallClock()).now(), last.get("as_of"))
    report: list[Mapping[str, object]] = []

    def merge(draft: RevisionDraft) -> RevisionPlan:
        """Plan a revision with the small files of each table merged; tables without any keep their files."""
        former = open_dataset(draft.target)
        changes = {table: merge_small_files(draft, former, table, report) for table in DATA_TABLES}
        fresh = {table: draft.edited(table, *change) for table, change in changes.items() if change[1]}
        return RevisionPlan(fresh, former.revision)

    revision = commit_revision(target, merge, state, lock_timeout)
    return Compacted(revision, pl.DataFrame(report, schema=dict(MERGED)))


def small_files(dataset: Dataset, table: str) -> dict[str, list[Mapping[str, object]]]:
    """Files of under 524,288 rows by folder, only folders with at least 2 of them (3 for `gaps`, `quality`)."""
    files = (
        dataset.statistics(table).select("path", "size_bytes", "num_records").filter(pl.col("num_records") < SMALL_ROWS)
    )
    folders: dict[str, list[Mapping[str, object]]] = {}
    for file in files.iter_rows(named=True):
        folders.setdefault(folder_of(str(file["path"])), []).append(file)
    return {folder: small for folder, small in folders.items() if len(small) > FEWEST.get(table, 1)}


def merge_small_files(
    draft: RevisionDraft, former: Dataset, table: str, report: list[Mapping[str, object]]
) -> tuple[list[StagedFile], list[str]]:
    """Stage merged small files of a table, add a row per folder to `report`; return (staged files, replaced paths)."""
    staged: list[StagedFile] = []
    removed: list[str] = []
    for folder, files in small_files(former, table).items():
        paths = [str(file["path"]) for file in files]
        fresh: list[StagedFile] = []
        for group in groups_of_one_file(files):
            # Bytes are checked first: what is damaged must not get a new, true name.
            contents = (io.BytesIO(read_verified(draft.target / table / path)) for path in group)
            parts = [
                with_added_columns(table, pl.read_parquet(content, hive_partitioning=False)) for content in contents
            ]
            fresh += stage(table, pl.concat(parts), draft.staging, [folder])
        same = {one.sha256 for one in fresh} & {Path(path).stem.partition("-")[2] for path in paths}
        staged += [one for one in fresh if one.sha256 not in same]
        removed += [path for path in paths if Path(path).stem.partition("-")[2] not in same]
        report.append(
            {
                "table": table,
                "folder": folder,
                "rows": sum(int(str(file["num_records"])) for file in files),
                "files_before": len(files),
                "files_after": len(fresh),
                "bytes_before": sum(int(str(file["size_bytes"])) for file in files),
                "bytes_after": sum(one.size for one in fresh),
            }
        )
    return staged, removed


def groups_of_one_file(files: Sequence[Mapping[str, object]]) -> Iterator[list[str]]:
    """Yield paths in order, in groups that end once their rows reach 2^22; the last group may be smaller."""
    group: list[str] = []
    rows = 0
    for file in files:
        group.append(str(file["path"]))
        rows += int(str(file["num_records"]))
        if rows >= ROWS_PER_FILE:
            yield group
            group, rows = [], 0
    if group:
        yield group
