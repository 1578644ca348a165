"""An export on disk: Delta tables that one small table, `exports`, makes one consistent revision.

An export is written in these steps, under the target's lock:

1. `tables.shaped` refuses frames that do not fit, before anything is touched.
2. `recover` puts back what an export that did not end left: heads that differ from their pins, stray files.
3. `parquet.stage` writes every file of every table beside, durably. A full disk shows here. All rows
   (`write_dataset`), or what changed since the last revision (`session.export_snapshot`): a `Plan` says which.
4. `_place` renames them to their names, `<revision>-<sha256>.parquet`, which are never used again.
5. `_commit` makes each table's next version: the files that are new, without those that are gone. A file that
   holds the same rows as before stays as it is.
6. The row in `exports` with every table's version, by compare-and-swap: from then on the revision exists.

Readers take the versions of the last row of `exports`, so a crash before step 6 changes nothing for them.
What survives `kill -9`: every revision whose `write_dataset` got to step 6. What survives a loss of power:
the same, as files are flushed before they are named, and log entries before the next step.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
from deltalake.exceptions import DeltaError

from engine import __version__
from engine.display import Summarized, Summary
from engine.errors import EngineError, ExportError, ParameterError, SchemaError
from engine.export import delta_table
from engine.export.maintenance import log_sums
from engine.export.parquet import StagedFile, stage
from engine.export.tables import ADDED, DATA_TABLES, EXPORTS, SORT, TABLES, shaped
from engine.publish import fsync, make_durable_folders, remove_if_exists
from engine.schema import empty

if TYPE_CHECKING:
    from engine.export.row_revisions import Chain

LOCK = ".lock"
STAGING = ".staging"
LOCK_TIMEOUT_SECONDS = 60.0


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
        """Names of the tables, `exports` last."""
        return tuple(self._versions)

    def files(self, table: str) -> list[Path]:
        """List the Parquet files of a table, by folder and then by the rows' order.

        Raises
        ------
        ExportError
            There is no such table.
        """
        return [self.target / table / path for path in self.statistics(table)["path"]]

    def scan(self, table: str) -> pl.LazyFrame:
        """Read a table's rows, with exactly the columns and types of `tables.TABLES`, also when it has none.

        Raises
        ------
        ExportError
            There is no such table, or a file of it is gone: the revision was removed since it was opened.
        """
        paths = self.files(table)
        if not paths:
            return empty(TABLES[table]).lazy()
        gone = next((path for path in paths if not path.exists()), None)
        if gone is not None:
            raise ExportError(
                f"{gone}: a file of revision {self.revision} is gone; if it has expired, open the export again, else see `engine verify`"
            )
        return scan_files(table, paths)

    def rows(self, table: str) -> int:
        """Count the rows of a table, from the log alone."""
        return int(self.statistics(table)["num_records"].sum())

    def statistics(self, table: str) -> pl.DataFrame:
        """List a table's files with `num_records` and the bounds of every column (see `delta_table.statistics`).

        Raises
        ------
        ExportError
            There is no such table.
        """
        if table not in self._versions:
            raise ExportError(f"{self.target}: has no table {table!r}; it has {', '.join(self._versions)}")
        if table not in self._read:
            with _told(self.target):
                found = delta_table.statistics(self.target / table, self._versions[table])
            folder = pl.col("path").str.replace("[^/]*$", "")
            first = [f"min.{name}" for name in SORT[table] if f"min.{name}" in found.columns]
            self._read[table] = found.sort(folder, *first, "path")
        return self._read[table]

    def _summary(self) -> Summary:
        last = self.exports.row(-1, named=True)
        facts = {"revision": self.revision, "written": last["written_at"], "as of": last["as_of"], "by engine": last["engine_version"],
                 "tables": self.tables}  # fmt: skip
        return Summary(f"Dataset {self.target}", facts)

    @cached_property
    def _versions(self) -> dict[str, int]:
        return _pins(self.exports)[1]

    @cached_property
    def _read(self) -> dict[str, pl.DataFrame]:
        # A version never changes, so its log is read once.
        return {}


def scan_files(table: str, paths: Sequence[Path]) -> pl.LazyFrame:
    """Read files of a table; columns that an earlier version did not write are null."""
    # A folder above may be called `day=5`, and a path may hold `[`.
    return pl.scan_parquet(
        list(paths),
        schema=dict(TABLES[table]),
        hive_partitioning=False,
        glob=False,
        missing_columns="insert" if table in ADDED else "raise",
    )


@dataclass(frozen=True)
class State:
    """Which state of which store an export holds.

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


@dataclass(frozen=True)
class Work:
    """What a planner is given, under the target's lock.

    Attributes
    ----------
    target : Path
    staging : Path
        Where files are staged.
    former : Dataset or None
        The last revision.
    heads : Heads
        What each table's next version follows.
    revision : int
        The one being made.
    chain : Chain
        Turns revisions of the store into the target's.
    """

    target: Path
    staging: Path
    former: Dataset | None
    heads: Heads
    revision: int
    chain: Chain

    def replaced(self, name: str, staged: Sequence[StagedFile]) -> Change:
        """The change that leaves a table with exactly these files; one that is there already stays."""
        return Change.of(self.target / name, self.heads.versions[name], self._paths(name), staged, self.revision)

    def edited(self, name: str, staged: Sequence[StagedFile], gone: Sequence[str]) -> Change:
        """The change that adds some files to a table and takes others away."""
        return Change(self.target / name, self.heads.versions[name], self.revision, tuple(staged), tuple(gone))

    def rows(self, name: str) -> pl.LazyFrame | None:
        """A table's rows in the last revision."""
        return None if self.former is None else self.former.scan(name)

    def _paths(self, name: str) -> Sequence[str]:
        if name == "exports":
            return self.heads.exports_files
        # What the last revision pins is what the head holds, whichever version that is.
        return () if self.former is None else self.former.statistics(name)["path"].to_list()


class Plan(NamedTuple):
    """What a revision changes in each table, and the revision it builds on, None when it stands for itself."""

    changes: Mapping[str, Change]
    since: int | None = None


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
    """Write all tables as the target's next revision.

    Parameters
    ----------
    target : Path
        A folder that is new, empty, or an export, whose revision is replaced (and stays readable).
    tables : mapping of name to DataFrame
        As `tables.shaped` takes them; those not given are written empty. `revision` is the store's; rows without
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
    state = State(store_id, store_revision, written_at, as_of)
    unknown = [name for name in tables if name not in DATA_TABLES]
    if unknown:
        raise SchemaError(f"tables: received {', '.join(unknown)}; valid: {', '.join(DATA_TABLES)}")
    rows = {name: shaped(name, tables.get(name)) for name in DATA_TABLES}

    def all_of_them(work: Work) -> Plan:
        return Plan({name: work.replaced(name, list(_stamped(work, name, frame))) for name, frame in rows.items()})

    return revise(target, all_of_them, state, lock_timeout)


def revise(target: Path, plan: Callable[[Work], Plan], state: State, lock_timeout: float = LOCK_TIMEOUT_SECONDS) -> int:
    """Make the target's next revision by a plan: all of it or, when anything fails, nothing.

    Parameters
    ----------
    target : Path
        A folder that is new, empty, or an export.
    plan : callable
        Stages files and says what becomes of each table; a table it does not name stays as it is.
    state : State
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
    target = Path(target)
    with _told(target), _locked(target, lock_timeout):
        heads = recover(target)
        try:
            return _write(target, heads, plan, state)
        except BaseException as error:
            _roll_back(target, error)
            raise


def open_dataset(target: Path, revision: int | None = None) -> Dataset:
    """Open an export at a revision, or at its last one.

    Raises
    ------
    ExportError
        `target` is no export, its first export never ended, or it has no such revision, or not any more.
    """
    target = Path(target)
    if not delta_table.is_table(target / "exports"):
        raise ExportError(f"{target}: is no export (it has no table `exports`); valid: a folder that `--export` wrote")
    with _told(target):
        exports = _read_exports(target, delta_table.newest(target / "exports")[1])
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


def is_export(target: Path) -> bool:
    """Whether `open_dataset` has something to open there."""
    return delta_table.is_table(target / "exports")


def pinned_revisions(exports: pl.DataFrame) -> pl.Series:
    """List revisions of `exports` whose files are there; one that has expired names no table any more."""
    return exports.filter(pl.col("table_names").list.len() > 0)["revision"]


@dataclass(frozen=True)
class Heads:
    """The newest version of every table, as long as nobody else may write.

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


def recover(target: Path) -> Heads:
    """Undo what an export that did not end left behind; call it under the lock.

    Every table's head is made to hold what the last complete revision pins, tables that are missing are
    begun, and files of a later revision, which nothing names, are removed.
    """
    staging = target / STAGING
    # A link leads to a folder of somebody else.
    for file in () if staging.is_symlink() else staging.glob("*"):
        remove_if_exists(file)
    if not delta_table.is_table(target / "exports"):
        delta_table.create(target / "exports", EXPORTS)
    head, files = delta_table.newest(target / "exports")
    exports = _read_exports(target, files)
    revision, pins = _pins(exports)
    heads = {name: _restored(target / name, pins.get(name, 0)) for name in DATA_TABLES}
    heads |= {name: delta_table.add_columns(target / name, TABLES[name], heads[name]) for name in ADDED}
    # The folder stands from before the first file is placed until the revision exists.
    if staging.exists() or staging.is_symlink():
        for file in _later_files(target, revision):
            remove_if_exists(file)
        remove_if_exists(staging)
    return Heads({**heads, "exports": head}, exports, files)


def _restored(table: Path, version: int) -> int:
    if delta_table.is_table(table):
        return delta_table.restore(table, version)
    delta_table.create(table, TABLES[table.name])
    return 0


def _stamped(work: Work, name: str, rows: pl.DataFrame) -> Iterator[StagedFile]:
    yield from stage(name, work.chain.stamped(name, rows, work.rows(name)), work.staging)


def _write(target: Path, heads: Heads, plan: Callable[[Work], Plan], state: State) -> int:
    staging = target / STAGING
    make_durable_folders(staging)
    work = _work(target, staging, heads, state)
    changes, since = plan(work)
    for change in changes.values():
        _place(change)
    notes = {"revision": str(work.revision), "engine_version": __version__}
    versions = {**heads.versions}
    for name, change in changes.items():
        versions[name] = _commit(change, TABLES[name], state.written_at, notes)
    versions["exports"] += 1
    entry = _entry(work.revision, since, versions, state)
    whole = work.replaced("exports", list(stage("exports", pl.concat([heads.exports, entry]), staging)))
    _place(whole)
    pinned = {} if work.former is None else _pins(work.former.exports)[1]
    sums = log_sums.fresh_sums(target, pinned, {**versions, "exports": heads.versions["exports"]})
    _commit(whole, EXPORTS, state.written_at, notes | log_sums.note(sums))
    remove_if_exists(staging)
    for name, version in versions.items():
        # A checkpoint is a file like others: it is made once, as somebody may be reading it.
        if version != heads.versions[name]:
            delta_table.checkpoint_when_due(target / name, version)
    return work.revision


def _work(target: Path, staging: Path, heads: Heads, state: State) -> Work:
    from engine.export.row_revisions import Chain  # noqa: PLC0415 - loads NumPy, which readers can do without

    exports = heads.exports
    last = _pins(exports)[0]
    former = Dataset(target, last, exports) if last else None
    chain = Chain.of(exports, last + 1, state.store_id, state.store_revision, state.as_of)
    return Work(target, staging, former, heads, last + 1, chain)


@dataclass(frozen=True)
class Change:
    """What a revision does to one table.

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

    @classmethod
    def of(cls, table: Path, head: int, held: Sequence[str], staged: Sequence[StagedFile], revision: int) -> Change:
        """Leave exactly the staged files; one whose content is among the paths that are held already stays."""
        active = {_content(path): path for path in held}
        wanted = {(file.folder, file.sha256) for file in staged}
        fresh = tuple(file for file in staged if (file.folder, file.sha256) not in active)
        gone = tuple(path for content, path in active.items() if content not in wanted)
        return cls(table, head, revision, fresh, gone)


def _content(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name.removesuffix(".parquet").partition("-")[2]


def _place(change: Change) -> None:
    for file in change.fresh:
        place = change.table / file.at(change.revision).path
        make_durable_folders(place.parent)
        file.staged.replace(place)
    for folder in {change.table / file.folder for file in change.fresh}:
        fsync(folder)


def _commit(
    change: Change, schema: Mapping[str, pl.DataType], written_at: dt.datetime, notes: Mapping[str, str]
) -> int:
    if not change.fresh and not change.gone:
        return change.head
    added = [file.at(change.revision) for file in change.fresh]
    return delta_table.commit(
        change.table, schema, added, change.gone, after=change.head, written_at=written_at, notes=notes
    )


def _entry(revision: int, since: int | None, versions: Mapping[str, int], state: State) -> pl.DataFrame:
    whole = {
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
    utc = {name: value.astimezone(dt.UTC) if isinstance(value, dt.datetime) else value for name, value in whole.items()}
    return pl.DataFrame({name: [utc[name]] for name in EXPORTS}, schema=dict(EXPORTS))


def _pins(exports: pl.DataFrame) -> tuple[int, dict[str, int]]:
    if exports.is_empty():
        return 0, {}
    last = exports.row(-1, named=True)
    return last["revision"], dict(zip(last["table_names"], last["table_versions"], strict=True))


def _read_exports(target: Path, files: Sequence[str]) -> pl.DataFrame:
    paths = [target / "exports" / path for path in files]
    if not paths:
        return empty(EXPORTS)
    return pl.read_parquet(paths, schema=dict(EXPORTS), hive_partitioning=False, glob=False).sort("revision")


def _later_files(target: Path, revision: int) -> list[Path]:
    files = [
        file for name in TABLES for file in (target / name).rglob("*.parquet") if delta_table.LOG not in file.parts
    ]
    return [file for file in files if _revision_of(file) > revision]


def _revision_of(file: Path) -> int:
    number = file.name.partition("-")[0]
    # A file that somebody else put there is not ours to remove.
    return int(number) if number.isdecimal() else 0


def _roll_back(target: Path, error: BaseException) -> None:
    try:
        recover(target)
    except (OSError, DeltaError, pl.exceptions.PolarsError) as second:
        error.add_note(f"{target}: could not be cleaned up now, the next export will: {second}")


@contextmanager
def _locked(target: Path, timeout: float) -> Iterator[None]:
    _check_target(target)
    make_durable_folders(target)
    with lock_of(target, timeout):
        _check_target(target)
        yield


@contextmanager
def lock_of(target: Path, timeout: float) -> Iterator[None]:
    """Hold an export's lock, whatever state it is in.

    Raises
    ------
    ExportError
        Somebody else holds it.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - loads asyncio, and who reads locks nothing

    lock = FileLock(target / LOCK)
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise ExportError(
            f"{target}: another export is writing to it (waited {timeout:g} s for {target / LOCK}); try again later"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _check_target(target: Path) -> None:
    if any(sign in str(target.absolute()) for sign in "\\%\n\r"):
        raise ExportError(f"{str(target)!r}: Delta logs need a path without backslash, percent sign and line break")
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"{target}: is a file; valid: a folder that is new, empty, or an export")
    if delta_table.is_table(target / "exports"):
        if delta_table.column_names(target / "exports") == list(EXPORTS):
            return
        raise ExportError(f"{target}: its table `exports` is none of ours; valid: a folder that is new or empty")
    begun = {LOCK, "exports"}  # a first export that was killed
    strange = sorted({entry.name for entry in target.iterdir()} - begun)
    if strange or any(entry.name != delta_table.LOG for entry in (target / "exports").glob("*")):
        raise ExportError(
            f"{target}: is neither empty nor an export (it holds {', '.join(strange[:3]) or 'exports'}); "
            "valid: a folder that is new, empty, or an export"
        )


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except (OSError, DeltaError, pl.exceptions.PolarsError) as error:
        raise ExportError(
            f"{target}: {error}; `engine verify` names what is damaged, `engine repair` mends it"
        ) from error
