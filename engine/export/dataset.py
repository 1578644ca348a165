"""An export on disk: Delta tables that one small table, `exports`, makes one consistent revision.

An export is written in these steps, under the target's lock:

1. `tables.shaped` refuses frames that do not fit, before anything is touched.
2. `recover` puts back what an export that did not end left: heads that differ from their pins, stray files.
3. `parquet.stage` writes every file of every table beside, durably. A full disk shows here.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake.exceptions import DeltaError
from filelock import FileLock, Timeout

from engine import __version__
from engine.errors import EngineError, ExportError, ParameterError, SchemaError
from engine.export import lake
from engine.export.parquet import StagedFile, stage
from engine.export.tables import DATA_TABLES, EXPORTS, SORT, TABLES, shaped
from engine.publish import discard, make_folders, sync
from engine.schema import empty

LOCK = ".lock"
STAGING = ".staging"
LOCK_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Dataset:
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
        return [self.target / table / path for path in self._statistics(table)["path"]]

    def scan(self, table: str) -> pl.LazyFrame:
        """Read a table's rows, with exactly the columns and types of `tables.TABLES`, also when it has none.

        Raises
        ------
        ExportError
            There is no such table.
        """
        paths = self.files(table)
        if not paths:
            return empty(TABLES[table]).lazy()
        # A folder above may be called `day=5`, and a path may hold `[`.
        return pl.scan_parquet(paths, schema=dict(TABLES[table]), hive_partitioning=False, glob=False)

    def rows(self, table: str) -> int:
        """Count the rows of a table, from the log alone."""
        return int(self._statistics(table)["num_records"].sum())

    @property
    def _versions(self) -> dict[str, int]:
        return _pins(self.exports)[1]

    def _statistics(self, table: str) -> pl.DataFrame:
        versions = self._versions
        if table not in versions:
            raise ExportError(f"{self.target}: has no table {table!r}; it has {', '.join(versions)}")
        with _told(self.target):
            found = lake.statistics(self.target / table, versions[table])
        folder = pl.col("path").str.replace("[^/]*$", "")
        first = [f"min.{name}" for name in SORT[table] if f"min.{name}" in found.columns]
        return found.sort(folder, *first, "path")


def write_dataset(
    target: Path,
    tables: Mapping[str, pl.DataFrame],
    *,
    store_id: str,
    store_revision: int,
    written_at: dt.datetime,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> int:
    """Write all tables as the target's next revision.

    Parameters
    ----------
    target : Path
        A folder that is new, empty, or an export, whose revision is replaced (and stays readable).
    tables : mapping of name to DataFrame
        As `tables.shaped` takes them; those not given are written empty.
    store_id, store_revision
        Which state of which store this is.
    written_at : datetime
        Aware; goes into `exports`.
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
    if written_at.tzinfo is None:
        raise ParameterError(f"written_at: received {written_at}, without a zone; valid: an aware datetime")
    unknown = [name for name in tables if name not in DATA_TABLES]
    if unknown:
        raise SchemaError(f"tables: received {', '.join(unknown)}; valid: {', '.join(DATA_TABLES)}")
    target = Path(target)
    rows = {name: shaped(name, tables.get(name)) for name in DATA_TABLES}
    row = {"store_id": store_id, "store_revision": store_revision, "written_at": written_at.astimezone(dt.UTC)}
    with _told(target), _locked(target, lock_timeout):
        recover(target)
        try:
            return _write(target, rows, row)
        except BaseException as error:
            _roll_back(target, error)
            raise


def open_dataset(target: Path, revision: int | None = None) -> Dataset:
    """Open an export at a revision, or at its last one.

    Raises
    ------
    ExportError
        `target` is no export, its first export never ended, or it has no such revision.
    """
    target = Path(target)
    if not lake.is_table(target / "exports"):
        raise ExportError(f"{target}: is no export (it has no table `exports`); valid: a folder that `--export` wrote")
    with _told(target):
        exports = _read_exports(target, lake.head(target / "exports"))
    if exports.is_empty():
        raise ExportError(f"{target}: holds no revision, its first export did not end; export to it again")
    last = exports["revision"].item(-1)
    wanted = last if revision is None else revision
    if wanted not in exports["revision"]:
        raise ExportError(f"{target}: has no revision {wanted}; it has {exports['revision'].item(0)} to {last}")
    return Dataset(target, wanted, exports.filter(pl.col("revision") <= wanted))


def recover(target: Path) -> None:
    """Undo what an export that did not end left behind; call it under the lock.

    Every table's head is made to hold what the last complete revision pins, tables that are missing are
    begun, and files of a later revision, which nothing names, are removed.
    """
    staging = target / STAGING
    for file in staging.glob("*"):
        discard(file)
    if not lake.is_table(target / "exports"):
        lake.create(target / "exports", EXPORTS)
    revision, versions = _pins(_read_exports(target, lake.head(target / "exports")))
    for name in DATA_TABLES:
        if lake.is_table(target / name):
            lake.restore(target / name, versions.get(name, 0))
        else:
            lake.create(target / name, TABLES[name])
    # The folder stands from before the first file is placed until the revision exists.
    if staging.exists():
        for file in _later_files(target, revision):
            discard(file)
        discard(staging)


def _write(target: Path, rows: Mapping[str, pl.DataFrame], row: Mapping[str, object]) -> int:
    staging = target / STAGING
    make_folders(staging)
    heads = {name: lake.head(target / name) for name in TABLES}
    former = _read_exports(target, heads["exports"])
    revision = _pins(former)[0] + 1
    staged = {name: list(stage(name, frame, staging)) for name, frame in rows.items()}
    changes = {name: _Change.of(target / name, heads[name], files, revision) for name, files in staged.items()}
    for change in changes.values():
        _place(change)
    notes = {"revision": str(revision), "engine_version": __version__}
    written_at = row["written_at"]
    assert isinstance(written_at, dt.datetime)  # noqa: S101
    versions = {name: _commit(change, TABLES[name], written_at, notes) for name, change in changes.items()}
    versions["exports"] = heads["exports"] + 1
    entry = _entry(revision, versions, row)
    entries = list(stage("exports", pl.concat([former, entry]), staging))
    whole = _Change.of(target / "exports", heads["exports"], entries, revision)
    _place(whole)
    _commit(whole, EXPORTS, written_at, notes)
    discard(staging)
    for name, version in versions.items():
        lake.checkpoint_when_due(target / name, version)
    return revision


@dataclass(frozen=True)
class _Change:
    table: Path
    head: int
    revision: int
    fresh: tuple[StagedFile, ...]
    gone: tuple[str, ...]

    @classmethod
    def of(cls, table: Path, head: int, staged: Sequence[StagedFile], revision: int) -> _Change:
        active = {_content(path): path for path in lake.files(table, head)}
        wanted = {(file.folder, file.sha256) for file in staged}
        fresh = tuple(file for file in staged if (file.folder, file.sha256) not in active)
        gone = tuple(path for content, path in active.items() if content not in wanted)
        return cls(table, head, revision, fresh, gone)


def _content(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name.removesuffix(".parquet").partition("-")[2]


def _place(change: _Change) -> None:
    for file in change.fresh:
        place = change.table / file.at(change.revision).path
        make_folders(place.parent)
        file.staged.replace(place)
    for folder in {change.table / file.folder for file in change.fresh}:
        sync(folder)


def _commit(
    change: _Change, schema: Mapping[str, pl.DataType], written_at: dt.datetime, notes: Mapping[str, str]
) -> int:
    if not change.fresh and not change.gone:
        return change.head
    added = [file.at(change.revision) for file in change.fresh]
    return lake.commit(change.table, schema, added, change.gone, after=change.head, written_at=written_at, notes=notes)


def _entry(revision: int, versions: Mapping[str, int], row: Mapping[str, object]) -> pl.DataFrame:
    whole = {
        "revision": revision,
        "since_revision": None,
        "engine_version": __version__,
        "table_names": list(versions),
        "table_versions": list(versions.values()),
        **row,
    }
    return pl.DataFrame({name: [whole[name]] for name in EXPORTS}, schema=dict(EXPORTS))


def _pins(exports: pl.DataFrame) -> tuple[int, dict[str, int]]:
    if exports.is_empty():
        return 0, {}
    last = exports.row(-1, named=True)
    return last["revision"], dict(zip(last["table_names"], last["table_versions"], strict=True))


def _read_exports(target: Path, version: int) -> pl.DataFrame:
    paths = [target / "exports" / path for path in lake.files(target / "exports", version)]
    if not paths:
        return empty(EXPORTS)
    return pl.read_parquet(paths, schema=dict(EXPORTS), hive_partitioning=False, glob=False).sort("revision")


def _later_files(target: Path, revision: int) -> list[Path]:
    files = [file for name in TABLES for file in (target / name).rglob("*.parquet") if lake.LOG not in file.parts]
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
    make_folders(target)
    lock = FileLock(target / LOCK)
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise ExportError(
            f"{target}: another export is writing to it (waited {timeout:g} s for {target / LOCK}); try again later"
        ) from error
    try:
        _check_target(target)
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
    if lake.is_table(target / "exports"):
        if lake.column_names(target / "exports") == list(EXPORTS):
            return
        raise ExportError(f"{target}: its table `exports` is none of ours; valid: a folder that is new or empty")
    begun = {LOCK, "exports"}  # a first export that was killed
    strange = sorted({entry.name for entry in target.iterdir()} - begun)
    if strange or any(entry.name != lake.LOG for entry in (target / "exports").glob("*")):
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
        raise ExportError(f"{target}: {error}") from error
