"""One Delta table: its log of versions, which files each version holds, and how the next one is committed.

Files are named by us and never change; a version is a set of them. Nothing here retries: whoever commits holds the
lock of the target, or (in an object store) begins anew, so a version that somebody else took is an error.
"""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

from engine.export.folders import folder_of
from engine.export.log_mirror import LOG as LOG  # noqa: PLC0414 - its callers know the tables by this module
from engine.export.log_mirror import (
    checkpoint_before,
    checkpoint_name,
    fetched_entries,
    is_known_table,
    local_log_file,
    mirrored,
    scratch_log,
)
from engine.publish import fsync, make_durable_folders, remove_if_exists
from engine.schema import TS, Schema
from engine.storage import ObjectPath

ATTEMPT = "attempt"  # the note by which a writer knows its own commit again
COMMITS_PER_CHECKPOINT = 20
# Old versions are what earlier revisions pin, so the log is never shortened behind our back.
CONFIGURATION: Mapping[str, str | None] = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
}
TYPES: Mapping[pl.DataType | DataTypeClass, str] = {
    pl.String(): "string",
    pl.Int32(): "integer",
    pl.Int64(): "long",
    pl.Float64(): "double",
    pl.Boolean(): "boolean",
    pl.Date(): "date",
    TS: "timestamp",
}


MOST_STATISTICS = 64  # of one version of a table each: those of the last revisions that were asked

# By table and version: the state of its log, and what was read of it.
_statistics: dict[tuple[str, int], tuple[frozenset[tuple[str, int, int, int]], pl.DataFrame]] = {}


@dataclass(frozen=True)
class DataFile:
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

    @property
    def folder(self) -> str:
        """Its place below the table's folder, empty for that itself."""
        return folder_of(self.path)


def is_table(table: Path) -> bool:
    """Whether the folder has a Delta log with an entry of version 0."""
    first = table / LOG / f"{0:020}.json"
    if isinstance(table, ObjectPath):
        return is_known_table(table)
    return os.path.isfile(first)  # noqa: PTH113 - False too for a path that is too long


def log_entries(table: Path) -> dict[int, Path]:
    """Paths of the log entries in a table's log by version, ascending; {} without a log. The files are not read."""
    is_local = not isinstance(table, ObjectPath)
    if is_local and not os.path.isdir(table / LOG):  # noqa: PTH112 - False too for a path that is too long
        return {}
    found = sorted((table / LOG).glob("*.json"))
    return {int(path.stem): path for path in found if path.stem.isdecimal()}


def create(table: Path, schema: Schema) -> None:
    """Create an empty Delta table: schema and configuration as version 0, durably; DeltaError if there is one."""
    make_durable_folders(table / LOG)
    with written_log(table, None) as place:
        DeltaTable.create(str(place), _delta(schema), configuration=CONFIGURATION)
    fsync_log_entry(table, 0)


def column_names(table: Path) -> list[str]:
    """Columns that version 0 of the log declares; later versions may have more (`add_columns`)."""
    return [field.name for field in _open(table, 0).schema().fields]


def newest_version(table: Path) -> int:
    """Number of the table's newest Delta version."""
    return _open(table).version()


def file_paths(table: Path, version: int | None = None) -> list[str]:
    """Sorted paths, below the table's folder, of the files of a version; of the newest version when None."""
    return _paths(_open(table, version))


def newest_version_and_files(table: Path) -> tuple[int, list[str]]:
    """Number of the newest Delta version, and the sorted paths of its files below the table's folder."""
    delta = _open(table)
    return delta.version(), _paths(delta)


def file_statistics(table: Path, version: int) -> pl.DataFrame:
    """One row per file of a version: `path, num_records`, `min.*`, `max.*`, `null_count.*` (from the log).

    A log on this file system is read once per process, as long as none of its files changes.
    """
    if isinstance(table, ObjectPath):
        return _actions(_open(table, version))
    key = (str(table), version)
    state = log_state(table)
    known = _statistics.pop(key, None)
    if known is None or known[0] != state:
        known = state, _actions(_open(table, version))
    _statistics[key] = known  # the last one to be dropped
    while len(_statistics) > MOST_STATISTICS:
        _statistics.pop(next(iter(_statistics)), None)
    return known[1]


def log_state(table: Path) -> frozenset[tuple[str, int, int, int]]:
    """Name, inode, size and time of change of every file in a table's log on this file system; empty without a log."""
    try:
        with os.scandir(table / LOG) as entries:
            states = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return frozenset()
    return frozenset((name, found.st_ino, found.st_size, found.st_mtime_ns) for name, found in states)


def files_by_version(table: Path, versions: Sequence[int]) -> Iterator[tuple[int, dict[str, DataFile]]]:
    """Yield each of the ascending versions with its files (`{path: DataFile}`), reading each log entry once.

    Parameters
    ----------
    table : Path
    versions : sequence of int
        Ascending.
    """
    held: dict[str, DataFile] = {}
    at: int | None = None
    for version in versions:
        entries = [] if at is None else local_entries(table, range(at + 1, version + 1))
        if at is None or not all(path.is_file() for path in entries):
            rows = file_statistics(table, version).iter_rows(named=True)
            held = {row["path"]: DataFile(row["path"], row["size_bytes"], statistics_json(row)) for row in rows}
        else:
            for path in entries:
                held = apply_log_entry(held, path)
        at = version
        yield version, dict(held)


def local_entries(table: Path, versions: Sequence[int]) -> list[Path]:
    """Paths of log entries on this disk, of a store as far as they could be fetched; one may be absent."""
    if isinstance(table, ObjectPath):
        return fetched_entries(table, versions)
    return [log_entry_path(table, version) for version in versions]


def last_checkpoint(table: Path, version: int) -> tuple[int, Path] | None:
    """Version of the last checkpoint up to a version, and its path on this disk; None without any."""
    if isinstance(table, ObjectPath):
        start = checkpoint_before(table, version, COMMITS_PER_CHECKPOINT)
        here = local_log_file(table, checkpoint_name(start)) if start else None
        return None if here is None else (start, here)
    versions = range(version, 0, -1)
    return next(((at, path) for at in versions if (path := checkpoint_path(table, at)).is_file()), None)


def log_entry_path(table: Path, version: int) -> Path:
    """`_delta_log/<version as 20 digits>.json` of a table; the file need not exist."""
    return table / LOG / f"{version:020}.json"


def apply_log_entry(files: Mapping[str, DataFile], path: Path) -> dict[str, DataFile]:
    """Files by path after a log entry: first its `remove`, then its `add` actions applied; ValueError if damaged.

    Raises
    ------
    ValueError
        A line is no JSON, or lacks what an action needs.
    """
    after = dict(files)
    try:
        actions = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        for gone in (action["remove"] for action in actions if "remove" in action):
            after.pop(unquote(gone["path"]), None)
        for add in (action["add"] for action in actions if "add" in action):
            name = unquote(add["path"])
            after[name] = DataFile(name, int(add["size"]), str(add.get("stats") or "{}"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is no log entry ({type(error).__name__}: {error})") from error
    return after


def checkpoint_path(table: Path, version: int) -> Path:
    """`_delta_log/<version as 20 digits>.checkpoint.parquet`; most versions have no such file."""
    return table / LOG / f"{version:020}.checkpoint.parquet"


def checkpoint_paths(table: Path) -> dict[int, Path]:
    """Paths of the existing checkpoints by version, ascending; other file names are ignored."""
    found = sorted((table / LOG).glob("*.checkpoint.parquet"))
    return {int(path.name[:20]): path for path in found if path.name[:20].isdecimal()}


def is_checkpoint_hint(path: Path) -> bool:
    """Whether a file `_last_checkpoint` names a checkpoint that is there; it only spares readers a list of the log."""
    try:
        version = orjson.loads(path.read_bytes())["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(version, int) and checkpoint_path(path.parent.parent, version).is_file()


def has_all_entries(table: Path, version: int) -> bool:
    """Whether the log has every entry from version 0 up to this one."""
    return all(log_entry_path(table, step).is_file() for step in range(version + 1))


def outdated_log_files(table: Path, before: int) -> list[Path]:
    """Sorted log files of versions after 0 that precede the last checkpoint at or before `before`; [] without one.

    Entries are needed back to the last checkpoint that is not after `before`; without one, all of them.
    """
    log = table / LOG
    start = max((version for version in checkpoint_paths(table) if version <= before), default=0)
    return sorted(path for path in log.iterdir() if path.name[:20].isdecimal() and 0 < int(path.name[:20]) < start)


def remove_outdated_log_files(table: Path, before: int) -> list[Path]:
    """Delete log files that versions from `before` on do not need (never version 0), durably; return their paths."""
    old = outdated_log_files(table, before)
    for path in old:
        path.unlink()
    if old:
        fsync(table / LOG)
    return old


def commit(
    table: Path,
    schema: Schema,
    add: Iterable[DataFile],
    remove: Iterable[str],
    *,
    after: int,
    written_at: dt.datetime,
    notes: Mapping[str, str],
) -> int:
    """Commit version `after + 1` that adds and removes files, durably; CommitFailedError if it is taken; return it.

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
    added = [AddAction(file.path, file.size, {}, at_ms, data_change=True, stats=file.stats) for file in add]
    removed = [RemoveAction(path, data_change=True, deletion_timestamp=at_ms) for path in remove]
    token = {ATTEMPT: uuid.uuid4().hex} if isinstance(table, ObjectPath) else {}
    with written_log(table, after) as place:
        DeltaTable(str(place), version=after).create_write_transaction(
            [*removed, *added],
            "append",
            _delta(schema),
            commit_properties=_commit_properties({**notes, **token}),
            post_commithook_properties=_no_hooks(),
        )
    fsync_log_entry(table, after + 1)
    return after + 1


def add_columns(table: Path, schema: Schema, version: int) -> int:
    """Declare columns that the table lacks at its head, `version`, as a new one; return the newest, `version` if none."""
    delta = _open(table, version)
    known = {field.name for field in delta.schema().fields}
    fresh = [DeltaField(name, _delta_type(dtype), nullable=True) for name, dtype in schema.items() if name not in known]
    if not fresh:
        return version
    with written_log(table, version) as place:
        DeltaTable(str(place)).alter.add_columns(
            fresh, commit_properties=_commit_properties({}), post_commithook_properties=_no_hooks()
        )
    fsync_log_entry(table, version + 1)
    return version + 1


def restore(table: Path, version: int) -> int:
    """Make the newest version hold exactly the files of `version`, by a new commit if it differs; return the newest.

    Returns
    -------
    int
        The newest version.
    """
    # Versions have no holes, so two names tell what opening the table would, at a hundredth of its price.
    is_there = isinstance(table, ObjectPath) or log_entry_path(table, version).is_file()  # in a store: as it is pinned
    if is_there and not log_entry_path(table, version + 1).is_file():
        return version
    if not isinstance(table, ObjectPath):
        remove_torn_entries(table, version)
    delta = _open(table)
    if delta.version() == version or _paths(delta) == file_paths(table, version):
        return delta.version()
    head = delta.version()
    with written_log(table, head, version) as place:
        DeltaTable(str(place)).restore(
            version,
            ignore_missing_files=isinstance(table, ObjectPath),  # they are in the store, and the log is here
            commit_properties=_commit_properties({"restored": str(version)}),
            post_commithook_properties=_no_hooks(),
        )
    fsync_log_entry(table, head + 1)
    return head + 1


def is_checkpoint_due(version: int) -> bool:
    """Whether this version gets a checkpoint: every twentieth does."""
    return version > 0 and version % COMMITS_PER_CHECKPOINT == 0


def remove_torn_entries(table: Path, after: int) -> list[Path]:
    """Delete durably the first unreadable log entry after a version, and all later ones; return their paths.

    A loss of power leaves such entries. No library reads past them, and no revision needs them.
    """
    torn: list[Path] = []
    for version, path in log_entries(table).items():
        if version > after and not torn:
            try:
                apply_log_entry({}, path)
            except (OSError, ValueError):
                torn.append(path)
        elif version > after:
            torn.append(path)
    for path in torn:
        remove_if_exists(path)
    if torn:
        fsync(table / LOG)
    return torn


def checkpoint_when_due(table: Path, version: int) -> None:
    """Write a durable checkpoint of the log when the version is a positive multiple of 20; else do nothing."""
    if is_checkpoint_due(version):
        with written_log(table, version) as place:
            DeltaTable(str(place), version=version).create_checkpoint()
        for name in (f"{version:020}.checkpoint.parquet", "_last_checkpoint"):
            fsync(table / LOG / name)
        fsync(table / LOG)


def statistics_json(row: Mapping[str, object]) -> str:
    """Delta statistics JSON (`numRecords, minValues, maxValues, nullCount`) of a `file_statistics` row; nulls stay."""
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
    """Delta type of a column: an array (nullable elements) for a list, else by `TYPES`; KeyError for another dtype."""
    if isinstance(dtype, pl.List):
        return ArrayType(_primitive(dtype.inner), contains_null=True)
    return _primitive(dtype)


def _primitive(dtype: pl.DataType | DataTypeClass) -> PrimitiveType:
    return PrimitiveType(TYPES[dtype])


def _commit_properties(notes: Mapping[str, str]) -> CommitProperties:
    return CommitProperties(custom_metadata=dict(notes), max_commit_retries=0)


def _no_hooks() -> PostCommitHookProperties:
    return PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def fsync_log_entry(table: Path, version: int) -> None:
    """Flush a version's log entry and the log folder to disk."""
    # The library flushes nothing itself.
    fsync(table / LOG / f"{version:020}.json")
    fsync(table / LOG)


def _open(table: Path, version: int | None = None) -> DeltaTable:
    if isinstance(table, ObjectPath):
        folder, version = mirrored(table, version, COMMITS_PER_CHECKPOINT)
        return DeltaTable(str(folder), version=version)
    return DeltaTable(str(table.resolve()), version=version)


@contextmanager
def written_log(table: Path, *versions: int | None) -> Iterator[Path]:
    """Folder that deltalake writes to: the table's own, or of one in a store a scratch one with these versions."""
    if isinstance(table, ObjectPath):
        with scratch_log(table, versions, COMMITS_PER_CHECKPOINT) as place:
            yield place
    else:
        yield table.resolve()
