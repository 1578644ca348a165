"""Many small files into few: a live session that exported every minute leaves hundreds of them.

Small files of a folder are merged among themselves, sorted; large ones stay as they are, so that the work is that of
what came since. The merged files are a new revision with the same rows; files of former revisions stay until `vacuum`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from engine.clock import Clock, WallClock
from engine.errors import ExportError
from engine.export.dataset import LOCK_TIMEOUT_SECONDS, Dataset, Plan, State, Work, open_dataset, revise
from engine.export.parquet import ROWS_PER_FILE, StagedFile, stage
from engine.export.tables import DATA_TABLES, with_added
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
    """What was merged.

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
    """Merge the small files of an export, folder by folder, as a new revision with the same rows.

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
    dataset = open_dataset(target)
    if not any(_small(dataset, table) for table in DATA_TABLES):
        return Compacted(dataset.revision, pl.DataFrame(schema=dict(MERGED)))
    last = dataset.exports.row(-1, named=True)
    state = State(last["store_id"], last["store_revision"], (clock or WallClock()).now(), last.get("as_of"))
    report: list[Mapping[str, object]] = []

    def merge(work: Work) -> Plan:
        former = open_dataset(work.target)
        changes = {table: _merged(work, former, table, report) for table in DATA_TABLES}
        fresh = {table: work.edited(table, *change) for table, change in changes.items() if change[1]}
        return Plan(fresh, former.revision)

    revision = revise(Path(target), merge, state, lock_timeout)
    return Compacted(revision, pl.DataFrame(report, schema=dict(MERGED)))


def intact_bytes(path: Path) -> bytes:
    """Read a file whose name says its SHA-256.

    Raises
    ------
    ExportError
        It is gone, or its bytes are others.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path}: {error}; `engine verify` lists what is damaged") from error
    if not path.stem.endswith(hashlib.sha256(content).hexdigest()):
        raise ExportError(f"{path}: its SHA-256 is not that of its name, it is damaged; `engine repair` sees to it")
    return content


def _small(dataset: Dataset, table: str) -> dict[str, list[Mapping[str, object]]]:
    """Small files by folder, where there are enough of them to merge."""
    files = (
        dataset.statistics(table).select("path", "size_bytes", "num_records").filter(pl.col("num_records") < SMALL_ROWS)
    )
    folders: dict[str, list[Mapping[str, object]]] = {}
    for file in files.iter_rows(named=True):
        folders.setdefault(str(file["path"]).rpartition("/")[0], []).append(file)
    return {folder: held for folder, held in folders.items() if len(held) > FEWEST.get(table, 1)}


def _merged(
    work: Work, former: Dataset, table: str, report: list[Mapping[str, object]]
) -> tuple[list[StagedFile], list[str]]:
    staged: list[StagedFile] = []
    gone: list[str] = []
    for folder, files in _small(former, table).items():
        paths = [str(file["path"]) for file in files]
        fresh = [one for group in _groups(files) for one in _restaged(work, table, group)]
        same = {one.sha256 for one in fresh} & {Path(path).stem.partition("-")[2] for path in paths}
        staged += [one for one in fresh if one.sha256 not in same]
        gone += [path for path in paths if Path(path).stem.partition("-")[2] not in same]
        report.append(_told(table, folder, files, fresh))
    return staged, gone


def _groups(files: Sequence[Mapping[str, object]]) -> Iterator[list[str]]:
    """Paths, as many at a time as one large file has rows."""
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


def _restaged(work: Work, table: str, paths: Sequence[str]) -> list[StagedFile]:
    # Bytes are checked first: what is damaged must not get a new, true name.
    contents = (io.BytesIO(intact_bytes(work.target / table / path)) for path in paths)
    parts = [with_added(table, pl.read_parquet(content, hive_partitioning=False)) for content in contents]
    return list(stage(table, pl.concat(parts), work.staging))


def _told(
    table: str, folder: str, files: Sequence[Mapping[str, object]], fresh: Sequence[StagedFile]
) -> Mapping[str, object]:
    return {
        "table": table,
        "folder": folder,
        "rows": sum(int(str(file["num_records"])) for file in files),
        "files_before": len(files),
        "files_after": len(fresh),
        "bytes_before": sum(int(str(file["size_bytes"])) for file in files),
        "bytes_after": sum(one.size for one in fresh),
    }
