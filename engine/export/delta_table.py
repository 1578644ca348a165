"""One Delta table: its log of versions, which files each version holds, and how the next one is committed.

Files are named by us and never change; a version is a set of them. Nothing here retries: whoever commits
holds the lock of the target, so a version that somebody else took is an error.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import orjson
import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.schema import ArrayType, PrimitiveType
from deltalake.schema import Field as DeltaField
from deltalake.schema import Schema as DeltaSchema
from deltalake.transaction import AddAction, RemoveAction
from polars.datatypes import DataTypeClass

from engine.publish import fsync, make_durable_folders
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
    make_durable_folders(table / LOG)
    DeltaTable.create(_uri(table), _delta(schema), configuration=CONFIGURATION)
    _sync_log(table, 0)


def column_names(table: Path) -> list[str]:
    """Name the columns that the log declares at its beginning; later ones may have been added (`add_columns`)."""
    return [field.name for field in DeltaTable(_uri(table), version=0).schema().fields]


def head(table: Path) -> int:
    """Tell the newest version."""
    return DeltaTable(_uri(table)).version()


def files(table: Path, version: int | None = None) -> list[str]:
    """List paths of a version's files below the table's folder, sorted; the newest version's when None."""
    return _paths(DeltaTable(_uri(table), version=version))


def newest(table: Path) -> tuple[int, list[str]]:
    """Give the newest version and its `files`."""
    delta = DeltaTable(_uri(table))
    return delta.version(), _paths(delta)


def statistics(table: Path, version: int) -> pl.DataFrame:
    """Give one row per file of a version: `path`, `num_records`, `min.<column>`, `max.<column>`, `null_count.<column>`."""
    return _actions(DeltaTable(_uri(table), version=version))


def holdings(table: Path, versions: Sequence[int]) -> Iterator[tuple[int, dict[str, LakeFile]]]:
    """Give the files of several versions by path, reading each log entry once.

    Parameters
    ----------
    table : Path
    versions : sequence of int
        Ascending.
    """
    held: dict[str, LakeFile] = {}
    at: int | None = None
    for version in versions:
        entries = [] if at is None else [entry(table, step) for step in range(at + 1, version + 1)]
        if at is None or not all(path.is_file() for path in entries):
            held = _loaded(table, version)
        else:
            for path in entries:
                held = after_entry(held, path)
        at = version
        yield version, dict(held)


def entry(table: Path, version: int) -> Path:
    """Name the log entry of a version."""
    return table / LOG / f"{version:020}.json"


def after_entry(held: Mapping[str, LakeFile], path: Path) -> dict[str, LakeFile]:
    """Apply a log entry to the files before it.

    Raises
    ------
    ValueError
        A line is no JSON, or lacks what an action needs.
    """
    after = dict(held)
    try:
        actions = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        for gone in (action["remove"] for action in actions if "remove" in action):
            after.pop(unquote(gone["path"]), None)
        for add in (action["add"] for action in actions if "add" in action):
            name = unquote(add["path"])
            after[name] = LakeFile(name, int(add["size"]), str(add.get("stats") or "{}"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is no log entry ({type(error).__name__}: {error})") from error
    return after


def checkpoint(table: Path, version: int) -> Path:
    """Name the checkpoint of a version, which few have."""
    return table / LOG / f"{version:020}.checkpoint.parquet"


def checkpoints(table: Path) -> dict[int, Path]:
    """List the checkpoints by version, ascending."""
    found = sorted((table / LOG).glob("*.checkpoint.parquet"))
    return {int(path.name[:20]): path for path in found if path.name[:20].isdecimal()}


def outdated(table: Path, before: int) -> list[Path]:
    """List log files that no version from `before` on needs; version 0, which begins the log, stays.

    Entries are needed back to the last checkpoint that is not after `before`; without one, all of them.
    """
    log = table / LOG
    start = max((version for version in checkpoints(table) if version <= before), default=0)
    return sorted(path for path in log.iterdir() if path.name[:20].isdecimal() and 0 < int(path.name[:20]) < start)


def drop_entries(table: Path, before: int) -> list[Path]:
    """Remove what is `outdated`."""
    old = outdated(table, before)
    for path in old:
        path.unlink()
    if old:
        fsync(table / LOG)
    return old


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


def add_columns(table: Path, schema: Schema, version: int) -> int:
    """Declare the columns that an earlier version of this package did not know; returns the newest version."""
    delta = DeltaTable(_uri(table))
    known = {field.name for field in delta.schema().fields}
    fresh = [DeltaField(name, _delta_type(dtype), nullable=True) for name, dtype in schema.items() if name not in known]
    if not fresh:
        return version
    delta.alter.add_columns(fresh, commit_properties=_commit_properties({}), post_commithook_properties=_no_hooks())
    _sync_log(table, head(table))
    return head(table)


def restore(table: Path, version: int) -> int:
    """Make the newest version hold what `version` held; nothing is done when it does.

    Returns
    -------
    int
        The newest version.
    """
    # Versions have no holes, so two names tell what opening the table would, at a hundredth of its price.
    if entry(table, version).is_file() and not entry(table, version + 1).exists():
        return version
    delta = DeltaTable(_uri(table))
    if delta.version() == version or _paths(delta) == files(table, version):
        return delta.version()
    delta.restore(
        version,
        commit_properties=_commit_properties({"restored": str(version)}),
        post_commithook_properties=_no_hooks(),
    )
    after = head(table)
    _sync_log(table, after)
    return after


def checkpoint_when_due(table: Path, version: int) -> None:
    """Sum up the log in a checkpoint, every 20 commits, so that opening a table reads few files."""
    if version and version % COMMITS_PER_CHECKPOINT == 0:
        DeltaTable(_uri(table)).create_checkpoint()
        for name in (f"{version:020}.checkpoint.parquet", "_last_checkpoint"):
            fsync(table / LOG / name)
        fsync(table / LOG)


def _loaded(table: Path, version: int) -> dict[str, LakeFile]:
    rows = statistics(table, version).iter_rows(named=True)
    return {row["path"]: LakeFile(row["path"], row["size_bytes"], _stats_text(row)) for row in rows}


def _stats_text(row: Mapping[str, object]) -> str:
    parts = {"minValues": "min.", "maxValues": "max.", "nullCount": "null_count."}
    bounds = {
        part: {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}
        for part, prefix in parts.items()
    }
    text = orjson.dumps({"numRecords": row["num_records"], **bounds}, option=orjson.OPT_UTC_Z)
    return text.decode()


def _paths(delta: DeltaTable) -> list[str]:
    return sorted(_actions(delta)["path"])


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
    fsync(table / LOG / f"{version:020}.json")
    fsync(table / LOG)


def _uri(table: Path) -> str:
    return str(table.resolve())
