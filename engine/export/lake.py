"""One Delta table: its log of versions, which files each version holds, and how the next one is committed.

Files are named by us and never change; a version is a set of them. Nothing here retries: whoever commits
holds the lock of the target, so a version that somebody else took is an error.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.schema import ArrayType, PrimitiveType
from deltalake.schema import Field as DeltaField
from deltalake.schema import Schema as DeltaSchema
from deltalake.transaction import AddAction, RemoveAction
from polars.datatypes import DataTypeClass

from engine.publish import make_folders, sync
from engine.schema import TS, Schema

LOG = "_delta_log"
COMMITS_PER_CHECKPOINT = 20
# Old versions are what earlier revisions pin, so the log is never shortened behind our back.
CONFIGURATION: Mapping[str, str | None] = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
}
TYPES: Mapping[pl.DataType, str] = {
    pl.String(): "string",
    pl.Int32(): "integer",
    pl.Int64(): "long",
    pl.Float64(): "double",
    pl.Boolean(): "boolean",
    pl.Date(): "date",
    TS: "timestamp",
}


@dataclass(frozen=True)
class LakeFile:
    """A Parquet file of a table.

    Attributes
    ----------
    path : str
        Below the table's folder, with `/`.
    size : int
        In bytes.
    stats : str
        Delta's statistics: JSON of `numRecords, minValues, maxValues, nullCount`.
    """

    path: str
    size: int
    stats: str


def is_table(table: Path) -> bool:
    """Whether a log begins here."""
    return (table / LOG / f"{0:020}.json").is_file()


def create(table: Path, schema: Schema) -> None:
    """Begin a log: version 0, no file."""
    make_folders(table / LOG)
    DeltaTable.create(_uri(table), _delta(schema), configuration=CONFIGURATION)
    _sync_log(table, 0)


def column_names(table: Path) -> list[str]:
    """Name the columns that the log declares."""
    return [field.name for field in DeltaTable(_uri(table)).schema().fields]


def head(table: Path) -> int:
    """Tell the newest version."""
    return DeltaTable(_uri(table)).version()


def files(table: Path, version: int | None = None) -> list[str]:
    """List paths of a version's files below the table's folder, sorted; the newest version's when None."""
    return sorted(_actions(DeltaTable(_uri(table), version=version))["path"])


def statistics(table: Path, version: int) -> pl.DataFrame:
    """Give one row per file of a version: `path`, `num_records`, `min.<column>`, `max.<column>`, `null_count.<column>`."""
    return _actions(DeltaTable(_uri(table), version=version))


def commit(
    table: Path,
    schema: Schema,
    add: Iterable[LakeFile],
    remove: Iterable[str],
    *,
    after: int,
    written_at: dt.datetime,
    notes: Mapping[str, str],
) -> int:
    """Make version `after + 1`, which has these files more and those fewer; durable when this returns.

    Returns
    -------
    int
        The new version.

    Raises
    ------
    deltalake.exceptions.CommitFailedError
        Somebody else has made that version.
    """
    at_ms = int(written_at.timestamp() * 1000)
    delta = DeltaTable(_uri(table), version=after)
    added = [AddAction(file.path, file.size, {}, at_ms, data_change=True, stats=file.stats) for file in add]
    removed = [RemoveAction(path, data_change=True, deletion_timestamp=at_ms) for path in remove]
    delta.create_write_transaction(
        [*removed, *added],
        "append",
        _delta(schema),
        commit_properties=_commit_properties(notes),
        post_commithook_properties=_no_hooks(),
    )
    _sync_log(table, after + 1)
    return after + 1


def restore(table: Path, version: int) -> None:
    """Make the newest version hold what `version` held; nothing is done when it does."""
    delta = DeltaTable(_uri(table))
    if delta.version() == version or files(table) == files(table, version):
        return
    delta.restore(
        version,
        commit_properties=_commit_properties({"restored": str(version)}),
        post_commithook_properties=_no_hooks(),
    )
    _sync_log(table, head(table))


def checkpoint_when_due(table: Path, version: int) -> None:
    """Sum up the log in a checkpoint, every 20 commits, so that opening a table reads few files."""
    if version and version % COMMITS_PER_CHECKPOINT == 0:
        DeltaTable(_uri(table)).create_checkpoint()
        for name in (f"{version:020}.checkpoint.parquet", "_last_checkpoint"):
            sync(table / LOG / name)
        sync(table / LOG)


def _actions(delta: DeltaTable) -> pl.DataFrame:
    return pl.DataFrame(delta.get_add_actions(flatten=True))


def _delta(schema: Schema) -> DeltaSchema:
    return DeltaSchema([DeltaField(name, _delta_type(dtype), nullable=True) for name, dtype in schema.items()])


def _delta_type(dtype: pl.DataType) -> PrimitiveType | ArrayType:
    if isinstance(dtype, pl.List):
        return ArrayType(_primitive(dtype.inner), contains_null=True)
    return _primitive(dtype)


def _primitive(dtype: pl.DataType | DataTypeClass) -> PrimitiveType:
    return PrimitiveType(next(name for known, name in TYPES.items() if known == dtype))


def _commit_properties(notes: Mapping[str, str]) -> CommitProperties:
    return CommitProperties(custom_metadata=dict(notes), max_commit_retries=0)


def _no_hooks() -> PostCommitHookProperties:
    return PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def _sync_log(table: Path, version: int) -> None:
    # The library flushes nothing itself.
    sync(table / LOG / f"{version:020}.json")
    sync(table / LOG)


def _uri(table: Path) -> str:
    return str(table.resolve())
