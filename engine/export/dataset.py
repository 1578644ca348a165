"""An export on disk: Delta tables that one small table, `exports`, makes one consistent revision.

An export is written in these steps, under the target's lock:

1. `tables.conform_table` refuses frames that do not fit, before anything is touched.
2. `recover` puts back what an export that did not end left: heads that differ from their pins, stray files.
3. `parquet.stage` writes every file of every table to a staging folder, durably. A full disk shows here. All rows
   (`write_dataset`), or what changed since the last revision (`session_export.export_snapshot`), by a `RevisionPlan`.
4. `move_staged_files` renames them to their names, `<revision>-<sha256>.parquet`, which are never used again.
5. `commit_change` commits each table's next version: adds the new files, removes those that are gone. A file that
   holds the same rows as before stays as it is.
6. The row in `exports` with every table's version, by compare-and-swap: from then on the revision exists.
7. `copy_new_entries` copies the new log entries, from which `engine repair` restores damaged ones.

Readers take the versions of the last row of `exports`, so a crash before step 6 changes nothing for them.
What survives `kill -9`: every revision whose `write_dataset` got to step 6. What survives a loss of power:
the same, as files are flushed before they are named, and log entries before the next step.
"""

from __future__ import annotations

import datetime as dt
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
from deltalake.exceptions import DeltaError

from engine import __version__
from engine.arguments import check_arguments, location_of, one_name
from engine.display import Summarized, Summary
from engine.errors import EngineError, ExportError, ParameterError, SchemaError
from engine.export import delta_table
from engine.export.attempts import announced, retry_overtaken, upload
from engine.export.damage import HASHED_BYTES, REMEDY, check_files, check_sizes, damage_error
from engine.export.log_check import (
    GONE,
    NotedSums,
    Promise,
    check_exports_file,
    check_last_row,
    check_log,
    explained_log_errors,
)
from engine.export.log_copies import copy_new_entries
from engine.export.maintenance import log_sums
from engine.export.parquet import StagedFile, stage
from engine.export.share_place import remove_abandoned_shares
from engine.export.stored_scan import known_of_files
from engine.export.tables import ADDED, DATA_TABLES, EXPORTS, LATER, SORT, TABLES, conform_table
from engine.export.target_folder import (
    LOCK_TIMEOUT_SECONDS,
    check_target,
    explained_errors,
    is_export,
    lock_target,
    refuse_no_export,
)
from engine.publish import fsync, make_durable_folders, remove_if_exists
from engine.schema import empty
from engine.storage import ObjectPath, polars_options

if TYPE_CHECKING:
    from engine.export.row_revisions import RevisionChain

STAGING = ".staging"
FILE_SIZE = ("path", "size_bytes")


@dataclass(frozen=True, repr=False)
class Dataset(Summarized):
    """One revision of an export; what it reads never changes, whatever is exported afterwards.

    Attributes
    ----------
    target : Path
        The export's folder.
    revision : int
        Which revision.
    exports : DataFrame
        The `exports` table up to this revision (`tables.EXPORTS`), sorted by `revision`.
    """

    target: Path
    revision: int
    exports: pl.DataFrame

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that this revision pins, in the order of its `exports` row (`exports` last)."""
        return tuple(self._versions)

    def files(self, table: str) -> list[Path]:
        """Paths of a table's Parquet files at this revision, sorted by folder, then by the minima of their sort keys.

        Raises
        ------
        ExportError
            There is no such table.
        """
        return self._paths(table, self.statistics(table))

    def _paths(self, table: str, files: pl.DataFrame) -> list[Path]:
        if isinstance(self.target, ObjectPath):
            return [(self.target / table / path).sized(size) for path, size in files.select(*FILE_SIZE).iter_rows()]
        return [self.target / table / path for path in files["path"]]

    def scan(self, table: str, files: pl.DataFrame | None = None) -> pl.LazyFrame:
        """Scan a table lazily with the schema of `TABLES`; ExportError for an unknown table or a file that is gone.

        Parameters
        ----------
        table : str
        files : DataFrame, optional
            The rows of `statistics` whose files are scanned; default all.

        Raises
        ------
        ExportError
            There is no such table, or a file of it is gone: the revision was removed since it was opened.
        """
        chosen = self.statistics(table) if files is None else files
        paths = self._paths(table, chosen)
        if isinstance(self.target, ObjectPath):
            return scan_files(table, paths, known_of_files(chosen, paths, TABLES[table]))
        return scan_files(table, self.intact_files(table, paths))

    def intact_files(self, table: str, paths: Sequence[Path] | None = None) -> list[Path]:
        """Files of a table, or these of them, compared with their SHA-256 (`damage.check_files`: many, with their size).

        Those of a store are not compared: that would be to fetch them.

        Raises
        ------
        ExportError
            There is no such table, a file of it is damaged, or gone: perhaps the revision was removed since it was opened.
        """
        wanted = self.files(table) if paths is None else list(paths)
        if isinstance(self.target, ObjectPath):
            return wanted
        gone = next((path for path in wanted if not path.exists()), None)
        if gone is not None:
            raise ExportError(
                f"{gone}: a file of revision {self.revision} is gone; if it has expired, open the export again, "
                f"else {REMEDY}"
            )
        sizes = self._sizes(table)
        check_files((path, sizes[path]) for path in wanted)
        return wanted

    def sized_files(self, table: str) -> list[Path]:
        """Files of a table, compared with their sizes where they are too large to be compared with their SHA-256."""
        sizes = self._sizes(table)
        if sum(sizes.values()) > HASHED_BYTES and not isinstance(self.target, ObjectPath):
            check_sizes(sizes.items())
        return self.files(table)

    def _sizes(self, table: str) -> dict[Path, int]:
        statistics = self.statistics(table)
        if statistics.is_empty():
            return {}
        folder = self.target / table
        return {folder / path: size for path, size in zip(statistics["path"], statistics["size_bytes"], strict=True)}

    def rows(self, table: str) -> int:
        """Number of rows of a table at this revision: the log's record counts summed; no data file is opened."""
        return int(self.statistics(table)["num_records"].sum())

    def statistics(self, table: str) -> pl.DataFrame:
        """One row per file in the order of `files`: `path` below the table, `num_records, min.*, max.*, null_count.*`.

        Raises
        ------
        ExportError
            There is no such table.
        """
        if one_name("table", table) in LATER and table not in self._versions:
            return empty({"path": pl.String(), "size_bytes": pl.Int64(), "num_records": pl.Int64()})
        if table not in self._versions:
            raise ExportError(f"{self.target}: has no table {table!r}; it has {', '.join(self._versions)}")
        if table not in self._read:
            check_log(self.target, table, self._versions[table], self._sums)
            with explained_log_errors(self.target, table):
                found = delta_table.file_statistics(self.target / table, self._versions[table])
            if found.height > 1:  # a sort costs a millisecond, which a question to a warm process feels
                folder = pl.col("path").str.replace("[^/]*$", "")
                first = [f"min.{name}" for name in SORT[table] if f"min.{name}" in found.columns]
                found = found.sort(folder, *first, "path")
            self._read[table] = found
        return self._read[table]

    def _summary(self) -> Summary:
        """Revision, time of writing, as-of time, engine version and tables, for repr and notebooks."""
        last = self.exports.row(-1, named=True)
        facts = {
            "revision": self.revision,
            "written": last["written_at"],
            "as of": last["as_of"],
            "by engine": last["engine_version"],
            "tables": self.tables,
        }
        return Summary(f"Dataset {self.target}", facts)

    @cached_property
    def _versions(self) -> dict[str, int]:
        return last_pinned_versions(self.exports)[1]

    @cached_property
    def _sums(self) -> NotedSums:
        return NotedSums(self.target, self.exports)

    @cached_property
    def _read(self) -> dict[str, pl.DataFrame]:
        # A version never changes, so its log is read once.
        return {}


def polars_sources(paths: Sequence[Path]) -> list[Any]:
    """Paths as Polars takes them: those of a store as URLs."""
    return [str(path) if isinstance(path, ObjectPath) else path for path in paths]


def scan_files(table: str, paths: Sequence[Path], known: Mapping[str, Any] | None = None) -> pl.LazyFrame:
    """Scan Parquet files lazily with the table's schema; empty without paths; absent `ADDED` columns become null; `known`: of files."""
    if not paths:
        return empty(TABLES[table]).lazy()
    # A folder above may be called `day=5`, and a path may hold `[`.
    return pl.scan_parquet(
        polars_sources(paths),
        schema=dict(TABLES[table]),
        hive_partitioning=False,
        glob=False,
        missing_columns="insert" if table in ADDED else "raise",
        **polars_options(paths[0]),
        **(known or {}),
    )


@dataclass(frozen=True)
class StoreState:
    """Identity and state of the store that a revision is written from.

    Attributes
    ----------
    store_id : str
        Which store.
    store_revision : int
        How far it was.
    written_at : datetime
        Aware.
    as_of : datetime or None
        Until when windows were over; None when all were.
    """

    store_id: str
    store_revision: int
    written_at: dt.datetime
    as_of: dt.datetime | None = None

    def __post_init__(self) -> None:
        for name, value in (("written_at", self.written_at), ("as_of", self.as_of)):
            if value is not None and value.tzinfo is None:
                raise ParameterError(f"{name}: received {value}, without a zone; valid: an aware datetime")


REPAIRED = "+repaired"  # after the identity of a store whose rows were dropped since


def original_store(entry: Mapping[str, Any]) -> str:
    """Identity of the store that a row of `exports` is of, also after a repair that has dropped rows."""
    return str(entry["store_id"]).split(REPAIRED, maxsplit=1)[0]


@dataclass(frozen=True)
class RevisionDraft:
    """The revision being made: the tables it builds on, and where its files are staged. Valid under the target's lock.

    Attributes
    ----------
    target : Path
    staging : Path
        Where files are staged.
    former : Dataset or None
        The last revision.
    heads : TableHeads
        What each table's next version follows.
    revision : int
        The one being made.
    chain : RevisionChain
        Turns revisions of the store into the target's.
    """

    target: Path
    staging: Path
    former: Dataset | None
    heads: TableHeads
    revision: int
    chain: RevisionChain

    def replaced(self, name: str, staged: Sequence[StagedFile]) -> TableChange:
        """TableChange to exactly the staged files: files of equal folder and SHA-256 stay, other former files go."""
        if name == "exports":
            paths = self.heads.exports_files
        else:
            # What the last revision pins is what the head holds, whichever version that is.
            paths = [] if self.former is None else self.former.statistics(name)["path"].to_list()
        existing = {_folder_and_sha256(path): path for path in paths}
        wanted = {(file.folder, file.sha256) for file in staged}
        fresh = [file for file in staged if (file.folder, file.sha256) not in existing]
        return self.edited(name, fresh, [path for content, path in existing.items() if content not in wanted])

    def edited(self, name: str, staged: Sequence[StagedFile], gone: Sequence[str]) -> TableChange:
        """TableChange that adds the staged files and removes the paths `gone`; it writes and commits nothing."""
        return TableChange(self.target / name, self.heads.versions[name], self.revision, tuple(staged), tuple(gone))

    def rows(self, name: str) -> pl.LazyFrame | None:
        """Lazy scan of a table at the target's last revision; None when this is the target's first."""
        return None if self.former is None else self.former.scan(name)


class RevisionPlan(NamedTuple):
    """The change of each table in a revision, and the revision it builds on (None when it was written in full).

    `is_skipped`: the revision is not written, because the last one holds the same rows.
    """

    changes: Mapping[str, TableChange]
    since: int | None = None
    is_skipped: bool = False


def write_dataset(
    target: Path,
    tables: Mapping[str, pl.DataFrame],
    *,
    store_id: str,
    store_revision: int,
    written_at: dt.datetime,
    as_of: dt.datetime | None = None,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> int:
    """Write atomically a new revision whose tables hold exactly these frames (none given: empty); return its number.

    Parameters
    ----------
    target : Path
        A folder that is new, empty, or an export, whose revision is replaced (and stays readable).
    tables : mapping of name to DataFrame
        As `tables.conform_table` takes them; those not given are written empty. `revision` is the store's; rows without
        keep the revision of an equal row that the last export of the same store wrote.
    store_id, store_revision
        Which state of which store this is.
    written_at : datetime
        Aware; goes into `exports`.
    as_of : datetime, optional
        Aware; bars whose window ends later are not among the rows.
    lock_timeout : float
        Seconds to wait for another exporter of this target.

    Returns
    -------
    int
        The target's revision, counted from 1.

    Raises
    ------
    SchemaError
        A frame does not fit its table; nothing was touched.
    ExportError
        The target is something else, somebody else is writing to it, or it cannot be written; the former
        revision is what it was.
    """
    state = StoreState(store_id, store_revision, written_at, as_of)
    unknown = [name for name in tables if name not in DATA_TABLES]
    if unknown:
        raise SchemaError(f"tables: received {', '.join(unknown)}; valid: {', '.join(DATA_TABLES)}")
    rows = {name: conform_table(name, tables.get(name)) for name in DATA_TABLES}

    def replace_all(draft: RevisionDraft) -> RevisionPlan:
        """Plan a revision in which every table is replaced by its frame of `rows`."""
        changes = {}
        for name, frame in rows.items():
            stamped = draft.chain.with_target_revision(name, frame, draft.rows(name))
            changes[name] = draft.replaced(name, list(stage(name, stamped, draft.staging)))
        return RevisionPlan(changes)

    return commit_revision(target, replace_all, state, lock_timeout)


def commit_revision(
    target: Path,
    plan: Callable[[RevisionDraft], RevisionPlan],
    state: StoreState,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> int:
    """Lock the target, undo an unfinished revision, write one by `plan`, roll back on any error; return its number.

    In an object store there is no lock: a writer that was overtaken plans and writes anew on the new head (`attempts`).

    Parameters
    ----------
    target : Path
        A folder that is new, empty, or an export.
    plan : callable
        Stages files and returns the change of each table; a table it does not name stays as it is.
    state : StoreState
        For the row of `exports`.
    lock_timeout : float
        Seconds to wait for another exporter of this target.

    Returns
    -------
    int
        The revision.

    Raises
    ------
    ExportError
        The target is something else, somebody else is writing to it, or it cannot be written.
    """
    target = location_of("target", target)
    if isinstance(target, ObjectPath):
        with explained_errors(target):
            check_target(target)
            return retry_overtaken(target, lambda: write_revision(target, recover(target), plan, state), lock_timeout)
    with explained_errors(target), lock_target(target, lock_timeout):
        heads = recover(target)
        try:
            return write_revision(target, heads, plan, state)
        except BaseException as error:
            try:
                recover(target)
            except (EngineError, OSError, DeltaError, pl.exceptions.PolarsError) as second:
                error.add_note(f"{target}: could not be cleaned up now, the next export will: {second}")
            raise


@check_arguments("revision")
def open_dataset(target: str | Path, revision: int | None = None) -> Dataset:
    """Open an export at a revision (default the last); ExportError if that is unknown or expired, or it is no export.

    Raises
    ------
    ExportError
        `target` is no export, its first export never ended, or it has no such revision, or not any more.
    """
    target = location_of("target", target)
    if not is_export(target):
        refuse_no_export(target)
    _, exports, _ = read_newest_exports(target)
    if exports.is_empty():
        raise ExportError(f"{target}: holds no revision, its first export did not end; export to it again")
    last = exports["revision"].item(-1)
    wanted = last if revision is None else revision
    oldest = pinned_revisions(exports).item(0)
    if wanted not in exports["revision"]:
        raise ExportError(f"{target}: has no revision {wanted}; it has {oldest} to {last}")
    if wanted not in pinned_revisions(exports):
        raise ExportError(f"{target}: revision {wanted} has expired, its files were removed; it has {oldest} to {last}")
    return Dataset(target, wanted, exports.filter(pl.col("revision") <= wanted))


def read_newest_exports(target: Path) -> tuple[int, pl.DataFrame, list[str]]:
    """(newest version, rows, files) of the table `exports`, with all that vouches for them; ExportError for damage.

    Raises
    ------
    ExportError
        An entry of its log is lost or altered, another program added to it, or its file is damaged.
    """
    if isinstance(target, ObjectPath):
        with explained_errors(target):
            head, files = delta_table.newest_version_and_files(target / "exports")
            return head, read_exports(target, files), files
    promise = Promise(target, target / STAGING)
    first = delta_table.log_entry_path(target / "exports", 0)
    if not first.is_file():
        raise damage_error(first, GONE)
    with explained_log_errors(target, "exports"):
        head, files = delta_table.newest_version_and_files(target / "exports")
        check_exports_file(target, files)
        exports = read_exports(target, files)
    promise.check(head, exports["revision"].item(-1) if exports.height else 0)
    check_last_row(target, files, exports)
    check_log(target, "exports", head, NotedSums(target, exports))
    return head, exports, files


def pinned_revisions(exports: pl.DataFrame) -> pl.Series:
    """Revisions in `exports` that have not expired: those whose `table_names` is not empty, in order."""
    return exports.filter(pl.col("table_names").list.len() > 0)["revision"]


@dataclass(frozen=True)
class TableHeads:
    """The newest version of every table, valid while the target's lock is held.

    Attributes
    ----------
    versions : mapping of table to version
    exports : DataFrame
        The table `exports`.
    exports_files : sequence of str
        Its files, below its folder.
    """

    versions: Mapping[str, int]
    exports: pl.DataFrame
    exports_files: Sequence[str]


def recover(target: Path) -> TableHeads:  # noqa: C901 - on a disk and in a store
    """Undo an unfinished export (roll back, delete its files); create absent tables; return the heads (lock held).

    Every table's head is made to hold what the last complete revision pins, tables that are missing are
    begun, and files of a later revision, which nothing names, are removed.
    """
    staging = target / STAGING
    is_stored = isinstance(target, ObjectPath)  # where files of others are under way (`attempts`)
    # A link leads to a folder of somebody else.
    for file in () if is_stored or staging.is_symlink() else staging.glob("*"):
        remove_if_exists(file)
    if not is_stored:
        remove_abandoned_shares(target)
    if not is_export(target):
        delta_table.create(target / "exports", EXPORTS)
    head, exports, files = read_newest_exports(target)
    revision, pins = last_pinned_versions(exports)
    sums = None if is_stored else NotedSums(target, exports)

    def head_of(name: str) -> int:
        """Newest version of a table, which holds what is pinned; of one that is missing the first."""
        if sums is not None and name in pins:
            check_log(target, name, pins[name], sums)
        if name in pins or delta_table.is_table(target / name):
            with explained_log_errors(target, name):
                made = delta_table.restore(target / name, pins.get(name, 0))
        else:
            delta_table.create(target / name, TABLES[name])
            made = 0
        return delta_table.add_columns(target / name, TABLES[name], made) if name in ADDED else made

    if is_stored:
        # Each asks the store, and waits.
        with ThreadPoolExecutor(len(DATA_TABLES), "recover") as requests:
            heads = dict(zip(DATA_TABLES, requests.map(head_of, DATA_TABLES), strict=True))
    else:
        heads = {name: head_of(name) for name in DATA_TABLES}
    # The folder stands from before the first file is placed until the revision exists.
    if not is_stored and (staging.exists() or staging.is_symlink()):
        for name in TABLES:
            for file in (target / name).rglob("*.parquet"):
                number = file.name.partition("-")[0]
                # A file that somebody else put there has another name, and is not ours to remove.
                if delta_table.LOG not in file.parts and number.isdecimal() and int(number) > revision:
                    remove_if_exists(file)
        remove_if_exists(staging)
    return TableHeads({**heads, "exports": head}, exports, files)


def write_revision(
    target: Path, heads: TableHeads, plan: Callable[[RevisionDraft], RevisionPlan], state: StoreState
) -> int:
    """Commit the plan's changes, then the `exports` row that makes them valid; return its revision (lock held)."""
    from engine.export.row_revisions import RevisionChain  # noqa: PLC0415 - loads NumPy, which readers do not need

    last, last_versions = last_pinned_versions(heads.exports)
    former = Dataset(target, last, heads.exports) if last else None
    chain = RevisionChain.of(heads.exports, last + 1, state.store_id, state.store_revision, state.as_of)
    with staging_folder(target) as staging:
        draft = RevisionDraft(target, staging, former, heads, last + 1, chain)
        changes, since, is_skipped = plan(draft)
        if is_skipped:
            return last
        versions = {**heads.versions, **{name: change.version for name, change in changes.items()}}
        versions["exports"] = heads.versions["exports"] + 1
        row = exports_row(draft.revision, since, versions, state)
        exports = draft.replaced("exports", list(stage("exports", pl.concat([heads.exports, row]), staging)))
        notes = {"revision": str(draft.revision), "engine_version": __version__}
        with placed_files(target, draft.revision, [*changes.values(), exports]):
            for name, change in changes.items():
                commit_change(change, TABLES[name], state.written_at, notes)
            sums = log_sums.log_file_sums(target, last_versions, {**versions, "exports": heads.versions["exports"]})
            commit_change(exports, EXPORTS, state.written_at, notes | log_sums.note(sums))
        for name, version in versions.items():
            # A checkpoint is a file like others: it is made once, as somebody may be reading it.
            if version != heads.versions[name]:
                delta_table.checkpoint_when_due(target / name, version)
        if not isinstance(target, ObjectPath):
            # The revision exists by now: a copy that a full disk has no room for is made by the next export.
            with suppress(OSError):
                copy_new_entries(target, pl.concat([heads.exports, row]), versions["exports"], staging)
    return draft.revision


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Folder for the files of a revision until they are placed: in the target, or on this disk for a store."""
    if isinstance(target, ObjectPath):
        with tempfile.TemporaryDirectory(prefix="engine-export-") as folder:
            yield Path(folder)
        return
    staging = target / STAGING
    make_durable_folders(staging)
    yield staging
    # After an error `recover` removes it, with what it stands for.
    remove_if_exists(staging)


@contextmanager
def placed_files(target: Path, revision: int, changes: Sequence[TableChange]) -> Iterator[None]:
    """Give the staged files of changes their places, and commit them in the block; in a store, clear up after others."""
    if not isinstance(target, ObjectPath):
        for change in changes:
            move_staged_files(change)
        yield
        return
    # Those of workers are in their places (`share_place`).
    files = {
        change.table / file.at(revision).path: file
        for change in changes
        for file in change.fresh
        if not isinstance(file.staged, ObjectPath)
    }
    with announced(target, revision, [place.relative_to(target).as_posix() for place in files]):
        upload(files)
        yield
    from engine.export.maintenance.leavings import remove_leavings  # noqa: PLC0415 - it reads datasets

    remove_leavings(target, revision)


@dataclass(frozen=True)
class TableChange:
    """Files that a revision adds to one table and removes from it.

    Attributes
    ----------
    table : Path
        Its folder.
    head : int
        Its version before.
    revision : int
        The one being made.
    fresh : tuple of StagedFile
        Files that come.
    gone : tuple of str
        Paths of files that go.
    """

    table: Path
    head: int
    revision: int
    fresh: tuple[StagedFile, ...]
    gone: tuple[str, ...]

    @property
    def version(self) -> int:
        """The table's version with this change: the next one, or the head where nothing changes."""
        return self.head + 1 if self.fresh or self.gone else self.head


def _folder_and_sha256(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name.removesuffix(".parquet").partition("-")[2]


def move_staged_files(change: TableChange) -> None:
    """Move a change's staged files into the table's folders as `<revision>-<sha256>.parquet` and fsync the folders."""
    for file in change.fresh:
        place = change.table / file.at(change.revision).path
        make_durable_folders(place.parent)
        place_file(file, place)
    for folder in {change.table / file.folder for file in change.fresh}:
        fsync(folder)


def place_file(file: StagedFile, place: Path) -> None:
    """Move a staged file to its place, or upload it; the folder is there."""
    if isinstance(place, ObjectPath):
        place.upload(file.staged)
    else:
        file.staged.replace(place)


def commit_change(
    change: TableChange, schema: Mapping[str, pl.DataType], written_at: dt.datetime, notes: Mapping[str, str]
) -> int:
    """Commit a change as the table's next Delta version; return it, or the unchanged head when nothing changes."""
    if not change.fresh and not change.gone:
        return change.head
    added = [file.at(change.revision) for file in change.fresh]
    return delta_table.commit(
        change.table, schema, added, change.gone, after=change.head, written_at=written_at, notes=notes
    )


def exports_row(revision: int, since: int | None, versions: Mapping[str, int], state: StoreState) -> pl.DataFrame:
    """One-row frame of `exports` that pins every table's version at a revision with engine version; instants in UTC."""
    values = {
        "revision": revision,
        "since_revision": since,
        "store_id": state.store_id,
        "store_revision": state.store_revision,
        "as_of": state.as_of,
        "written_at": state.written_at,
        "engine_version": __version__,
        "table_names": list(versions),
        "table_versions": list(versions.values()),
    }
    utc = {
        name: value.astimezone(dt.UTC) if isinstance(value, dt.datetime) else value for name, value in values.items()
    }
    return pl.DataFrame({name: [utc[name]] for name in EXPORTS}, schema=dict(EXPORTS))


def last_pinned_versions(exports: pl.DataFrame) -> tuple[int, dict[str, int]]:
    """Last row of `exports`: its revision and the table versions it pins; `(0, {})` when there is no row."""
    if exports.is_empty():
        return 0, {}
    last = exports.row(-1, named=True)
    return last["revision"], dict(zip(last["table_names"], last["table_versions"], strict=True))


def read_exports(target: Path, files: Sequence[str]) -> pl.DataFrame:
    """Read files of the table `exports` into one frame sorted by revision; empty frame when there is no file."""
    paths = [target / "exports" / path for path in files]
    if not paths:
        return empty(EXPORTS)
    if isinstance(target, ObjectPath):
        # A small file, read whole: one request, where a scan makes three.
        frames = [pl.read_parquet(io.BytesIO(path.read_bytes()), hive_partitioning=False) for path in paths]
        return pl.concat([frame.select(list(EXPORTS)) for frame in frames]).sort("revision")
    return pl.read_parquet(paths, schema=dict(EXPORTS), hive_partitioning=False, glob=False).sort("revision")
