"""Checks of the logs that a reader of one revision relies on: complete, with the noted checksums, and none lost at the end.

Each entry is compared with the SHA-256 that a later entry of `exports` notes of it (`maintenance.log_sums`). The newest
entry of `exports` has none; what it does is bounded: the table holds one file, whose name has its SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

import polars as pl
from deltalake.exceptions import DeltaError

from engine.errors import EngineError, ExportError
from engine.export import delta_table
from engine.export.damage import FILE_NAME, check_file, damage_error, is_refused
from engine.export.log_copies import newest_copied_version
from engine.export.maintenance.log_sums import Sums, sums_in_entry
from engine.export.maintenance.verify_findings import try_reading
from engine.publish import file_sha256

GONE = "the log entry is not there"


class NotedSums:
    """Checksums of log files that the log of `exports` notes; an entry of it is read when it is asked for, and once.

    Parameters
    ----------
    target : Path
    exports : DataFrame
        The table `exports`.
    """

    def __init__(self, target: Path, exports: pl.DataFrame) -> None:
        self._target = target
        self._read: dict[int, Sums] = {}
        rows = exports.select("table_names", "table_versions").rows()
        self._pins = [dict(zip(names, versions, strict=True)) for names, versions in rows]

    def of_entry(self, table: str, version: int) -> str | None:
        """SHA-256 noted of an entry; None where none is known."""
        is_own = table == "exports"
        later = (pin for pin in self._pins if pin.get(table, -1) >= version + is_own)
        return self._noted(delta_table.log_entry_path(self._target / table, version), next(later, None))

    def of_checkpoint(self, table: str, version: int) -> str | None:
        """SHA-256 noted of a checkpoint: by the revision after the one that it was made after."""
        later = (pin for pin in self._pins if pin.get(table, -1) >= version)
        next(later, None)
        return self._noted(delta_table.checkpoint_path(self._target / table, version), next(later, None))

    def _noted(self, path: Path, pin: dict[str, int] | None) -> str | None:
        name = path.relative_to(self._target).as_posix()
        known = None if pin is None else self._sums(pin["exports"]).get(name)
        # A vacuum notes again what the entries said that it removes.
        return known or self._kept.get(name)

    def _sums(self, version: int) -> Sums:
        if version not in self._read:
            (path,) = delta_table.local_entries(self._target / "exports", [version])
            self._read[version] = try_reading(partial(sums_in_entry, path))[0] or {}
        return self._read[version]

    @cached_property
    def _kept(self) -> Sums:
        if all(self._pins):
            return {}
        kept: Sums = {}
        for version in delta_table.log_entries(self._target / "exports"):
            kept |= self._sums(version)
        return kept


def check_log(target: Path, table: str, version: int, sums: NotedSums) -> None:
    """Raise DamageError unless all log files that a version of a table is read from are there, with their noted SHA-256.

    Raises
    ------
    DamageError
        The message names one of them.
    """
    for is_checkpoint, at, held in needed_log_files(target / table, version):
        path = (delta_table.checkpoint_path if is_checkpoint else delta_table.log_entry_path)(target / table, at)
        if not held.is_file():
            raise damage_error(path, GONE)
        noted = sums.of_checkpoint(table, at) if is_checkpoint else sums.of_entry(table, at)
        if noted is not None and file_sha256(held) != noted:
            raise damage_error(path, "its SHA-256 is not what the log of `exports` notes")


def needed_log_files(table: Path, version: int) -> Iterator[tuple[bool, int, Path]]:
    """Yield (is a checkpoint, version, file on this disk) of what a version is read from: the last checkpoint, and what follows."""
    start, first = delta_table.last_checkpoint(table, version), 0
    if start is not None:
        first = start[0] + 1
        yield True, *start
    versions = range(first, version + 1)
    yield from (
        (False, at, path) for at, path in zip(versions, delta_table.local_entries(table, versions), strict=True)
    )


def log_fault(table: Path) -> tuple[Path, str] | None:
    """First fault of a table's log that hinders reading it: (file, fault); None where none is found."""
    hint = table / delta_table.LOG / "_last_checkpoint"
    if hint.exists() and not delta_table.is_checkpoint_hint(hint):
        return hint, "is no hint to a checkpoint that is there"
    entries = delta_table.log_entries(table)
    checkpoints = delta_table.checkpoint_paths(table)
    for path in checkpoints.values():
        _, why = try_reading(partial(pl.read_parquet, path, columns=["add"]))
        if why:
            return path, f"the checkpoint cannot be read ({why.partition(':')[0]})"
    for version in range(max(checkpoints, default=-1) + 1, max(entries, default=0) + 1):
        path = delta_table.log_entry_path(table, version)
        if not path.is_file():
            return path, GONE
        _, why = try_reading(partial(delta_table.apply_log_entry, {}, path))
        if why:
            return path, "is no log entry"
    return None


@contextmanager
def explained_log_errors(target: Path, table: str) -> Iterator[None]:
    """Turn errors of reading a table's log in the block into a DamageError that names the file at fault.

    Raises
    ------
    DamageError
        A file of the log is lost or altered.
    ExportError
        The system refused to read it.
    """
    try:
        yield
    except EngineError:
        raise
    except (OSError, DeltaError, ValueError, pl.exceptions.PolarsError) as error:
        if is_refused(error):
            raise ExportError(f"{target}: {error}") from error
        found = log_fault(target / table) or (target / table / delta_table.LOG, str(error))
        raise damage_error(*found) from error


class Promise:
    """What an export shows of its newest version of `exports` before its log is read, so that a lost end is noticed.

    Parameters
    ----------
    target : Path
        Looked at once, before the log is: a writer that goes on meanwhile makes only newer versions.
    staging : Path
        While it exists, files may be of a revision that does not exist yet.
    """

    def __init__(self, target: Path, staging: Path) -> None:
        self._target = target
        self.version = newest_copied_version(target)
        names = (FILE_NAME.fullmatch(path.name) for path in sorted((target / "exports").glob("*.parquet")))
        newest = max((int(name[1]) for name in names if name), default=0)
        self.revision = 0 if staging.exists() or staging.is_symlink() else newest

    def check(self, head: int, revision: int) -> None:
        """Raise DamageError if the log ends before what was there: its newest version and last revision.

        Raises
        ------
        DamageError
            The end of the log of `exports` is lost.
        """
        if head < self.version:
            raise damage_error(delta_table.log_entry_path(self._target / "exports", head + 1), GONE)
        if revision < self.revision:
            raise damage_error(
                delta_table.log_entry_path(self._target / "exports", head + 1),
                f"the log entry is not there: revision {self.revision} was written, the log ends at {revision}",
            )


def check_exports_file(target: Path, files: Sequence[str]) -> None:
    """Raise DamageError unless the table `exports` holds at most one file, of ours, with the SHA-256 of its name.

    Raises
    ------
    DamageError
        Another writer added to the table, or the file is damaged.
    """
    foreign = [file for file in files if not FILE_NAME.fullmatch(file)]
    if foreign or len(files) > 1:
        shown = foreign[0] if foreign else files[0]
        raise damage_error(
            target / "exports" / shown,
            f"the table `exports` has {len(files)} files: a program that is not engine wrote to it",
        )
    for file in files:
        check_file(target / "exports" / file)


def check_last_row(target: Path, files: Sequence[str], exports: pl.DataFrame) -> None:
    """Raise DamageError unless the last row of `exports` is of the revision in its file's name.

    Raises
    ------
    DamageError
        A log entry was replaced by an older one.
    """
    named = int(files[0].partition("-")[0]) if files else 0
    last = exports["revision"].item(-1) if exports.height else 0
    if named != last:
        raise damage_error(target / "exports" / files[0], f"its last row is of revision {last}")
