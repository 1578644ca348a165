"""The folder of an export: its lock, whether it is one, and errors that name it, the fault and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import polars as pl
from deltalake.exceptions import DeltaError

from engine.arguments import location_of
from engine.errors import EngineError, ExportError, RemoteError
from engine.export import delta_table
from engine.export.attempts import ANNOUNCED, has_announcements
from engine.export.damage import REMEDY, damage_error, is_refused
from engine.export.log_check import GONE, explained_log_errors
from engine.export.share_place import SHARES
from engine.export.tables import EXPORTS, TABLES
from engine.publish import make_durable_folders
from engine.storage import ObjectPath

LOCK = ".lock"
LOCK_TIMEOUT_SECONDS = 60.0


@contextmanager
def lock_target(target: Path, timeout: float) -> Iterator[None]:
    """Context: create the target, hold its lock; ExportError if the folder is foreign or locked for `timeout` seconds.

    Raises
    ------
    ExportError
        It is something else, or somebody else holds the lock.
    """
    check_target(target)
    make_durable_folders(target)
    with hold_lock(target, timeout):
        check_target(target)
        yield


@contextmanager
def hold_lock(target: Path, timeout: float) -> Iterator[None]:
    """Hold an export's file lock in the block without checking the folder; ExportError after `timeout` seconds.

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


def is_export(target: Path) -> bool:
    """Whether the folder has a log of the table `exports`; True even when its first export never ended, or is damaged.

    Raises
    ------
    ExportError
        Nothing tells: a store that is out of reach, a folder that cannot be listed.
    """
    with explained_errors(target, remedy=""):
        if isinstance(target, ObjectPath):
            return delta_table.is_table(target / "exports")
        return bool(delta_table.log_entries(target / "exports"))


def refuse_no_export(target: Path, fault: str = "it has no table `exports`") -> NoReturn:
    """Raise ExportError for a folder that is no export; of a store first RemoteError for a bucket or store that is not there.

    Raises
    ------
    ExportError
    """
    if isinstance(target, ObjectPath):
        with explained_errors(target, remedy=""):
            target.check_store()
    raise ExportError(f"{target}: is no export ({fault}); valid: a folder that `--export` wrote")


def check_target(target: Path) -> None:
    """ParameterError for a URL; ExportError if the folder is neither new, empty nor an export, or no log can have its path."""
    target = location_of("target", target)
    if any(sign in str(target.absolute()) for sign in "\\%\n\r"):
        raise ExportError(f"{str(target)!r}: Delta logs need a path without backslash, percent sign and line break")
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"{target}: is a file; valid: a folder that is new, empty, or an export")
    if is_export(target):
        first = delta_table.log_entry_path(target / "exports", 0)
        if not first.is_file():
            raise damage_error(first, GONE)
        with explained_log_errors(target, "exports"):
            names = delta_table.column_names(target / "exports")
        if names == list(EXPORTS):
            return
        raise ExportError(f"{target}: its table `exports` is none of ours; valid: a folder that is new or empty")
    begun = {LOCK, SHARES, "exports"}  # a first export that is under way, or was killed
    if isinstance(target, ObjectPath) and has_announcements(target):
        begun |= {ANNOUNCED, *TABLES}
    strange = sorted({entry.name for entry in target.iterdir()} - begun)
    if strange or any(entry.name != delta_table.LOG for entry in (target / "exports").glob("*")):
        raise ExportError(
            f"{target}: is neither empty nor an export (it holds {', '.join(strange[:3]) or 'exports'}); "
            "valid: a folder that is new, empty, or an export"
        )


@contextmanager
def explained_errors(target: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turn OSError, DeltaError and PolarsError in the block into an ExportError: target, reason, remedy of damage."""
    try:
        yield
    except RemoteError as error:
        named = "" if str(error).startswith(str(target)) else f"{target}: "
        raise ExportError(f"{named}{error}") from error  # out of reach, and not damaged
    except EngineError:
        raise
    except (OSError, DeltaError, pl.exceptions.PolarsError) as error:
        checkpoint = unreadable_checkpoint(target) if isinstance(error, DeltaError) else None
        text = f"{target}: {error}" if checkpoint is None else f"{checkpoint}: the checkpoint cannot be read ({error})"
        raise ExportError(text if is_refused(error) or not remedy else f"{text}; {remedy}") from error


def unreadable_checkpoint(target: Path) -> Path | None:
    """First checkpoint of an export on this file system that is no Parquet file; None if there is none."""
    if isinstance(target, ObjectPath):
        return None
    for table in TABLES:
        for path in delta_table.checkpoint_paths(target / table).values():
            try:
                pl.read_parquet_schema(path)
            except (OSError, pl.exceptions.PolarsError):
                return path
    return None
