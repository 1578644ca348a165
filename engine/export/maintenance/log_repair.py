"""Repair of the logs of an export, from their copies and from what the files themselves say.

1. `restore_entries` writes entries that are lost or altered anew, from `_log_copies`.
2. Hints and checkpoints that are wrong go, where the entries make up for them.
3. `mend_exports` and `restore_former_exports` see to its files: the first makes the newest version of `exports` hold the rows of the last revision that there was: rows that
   another program added go, a lost entry is committed again, a damaged file is written again.
4. Where something was mended, one new copy of all entries takes the place of the others.

What cannot be mended is left as it is: `unreadable_logs` lists it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from engine import __version__
from engine.errors import DamageError, ExportError
from engine.export import delta_table
from engine.export.damage import FILE_NAME
from engine.export.dataset import STAGING, last_pinned_versions, read_exports, read_newest_exports
from engine.export.delta_table import DataFile
from engine.export.log_check import NotedSums, check_exports_file, check_last_row, check_log
from engine.export.log_copies import LogCopies, read_copies, replace_copies
from engine.export.maintenance import log_sums
from engine.export.maintenance.verify_findings import try_reading
from engine.export.parquet import stage
from engine.export.revision_history import pinned_files
from engine.export.tables import EXPORTS, TABLES
from engine.publish import file_sha256, fsync, make_durable_folders, remove_if_exists, write_new_file

REPAIR = ".repair"  # where files are staged: `.staging` is the mark of an unfinished export


class LogAction(NamedTuple):
    """What was done to a file of a log: `restored`, `removed` or `put back`."""

    action: str
    table: str
    path: Path
    detail: str


class _ExportsState(NamedTuple):
    # Rows of `exports`, and where they are from.

    revision: int
    rows: pl.DataFrame
    is_head: bool = False


def mend_logs(target: Path, now: dt.datetime) -> list[LogAction]:
    """Mend the logs of an export as far as they can be (lock held); return what was done.

    Parameters
    ----------
    target : Path
    now : datetime
        Aware; stamps a commit.
    """
    copies = read_copies(target)
    is_unfinished = (target / STAGING).exists() or (target / STAGING).is_symlink()
    staging = target / REPAIR
    make_repair_folder(staging)
    actions = [
        *restore_entries(target, copies, staging),
        *remove_wrong_hints(target),
        *(
            LogAction("removed", table, path, "a damaged checkpoint, whose entries are all there")
            for table, path in log_sums.drop_bad_checkpoints(target)
        ),
        *mend_exports(target, copies, now, is_unfinished=is_unfinished),
        *restore_former_exports(target),
    ]
    if (actions or copies.damaged) and not unreadable_logs(target):
        head, exports, _ = read_newest_exports(target)
        for path in copies.damaged:
            make_way(path)
            remove_if_exists(path)
        if exports.height:
            replace_copies(target, exports, head, staging)
        actions += [
            LogAction("removed", "exports", path, "a damaged copy of the log, written anew") for path in copies.damaged
        ]
    remove_if_exists(staging)
    return actions


def make_repair_folder(staging: Path) -> None:
    """Make an empty folder for staged files; what is in its place goes."""
    remove_if_exists(staging)
    make_durable_folders(staging)


def restore_entries(target: Path, copies: LogCopies, staging: Path) -> Iterator[LogAction]:
    """Write log files that are gone or differ from their copies anew; yield an action for each.

    Raises
    ------
    ExportError
        A folder with something in it stands where a log file was.
    """
    for name, content in sorted(copies.entries.items()):
        place = target / name
        found, _ = try_reading(place.read_bytes)
        if found == content:
            continue
        make_way(place)
        staged = staging / place.name
        remove_if_exists(staged)
        write_new_file(staged, content)
        make_durable_folders(place.parent)
        staged.replace(place)
        fsync(place.parent)
        detail = "the log entry was lost" if found is None else "the log entry was altered"
        yield LogAction("restored", name.partition("/")[0], place, f"{detail}, its copy has the same bytes as before")


def make_way(place: Path) -> None:
    """Remove an empty folder that stands where a file was; ExportError for one with something in it.

    Raises
    ------
    ExportError
        The folder is not empty, and it is not ours to remove.
    """
    if place.is_dir() and not place.is_symlink():
        try:
            place.rmdir()
        except OSError as error:
            raise ExportError(
                f"{place}: is a folder where a file was; move it away and repair again ({error})"
            ) from error


def remove_wrong_hints(target: Path) -> Iterator[LogAction]:
    """Remove files `_last_checkpoint` that name no checkpoint; readers then list the log."""
    for table in TABLES:
        hint = target / table / delta_table.LOG / "_last_checkpoint"
        if (hint.exists() or hint.is_symlink()) and not delta_table.is_checkpoint_hint(hint):
            make_way(hint)
            remove_if_exists(hint)
            fsync(hint.parent)
            yield LogAction("removed", table, hint, "it names no checkpoint, and spares readers a list only")


def mend_exports(target: Path, copies: LogCopies, now: dt.datetime, *, is_unfinished: bool) -> Iterator[LogAction]:
    """Make the newest version of `exports` hold one file with the rows of the last revision there was; yield actions."""
    table = target / "exports"
    entries = delta_table.log_entries(table)
    # Only the last entry may be of a commit that was not copied; others that are torn are lost.
    last_sound = copies.version if copies.version >= 0 else max(entries, default=0) - 1
    for path in delta_table.remove_torn_entries(table, last_sound):
        yield LogAction("removed", "exports", path, "it cannot be read, and no copy knows it")
    opened, _ = try_reading(partial(delta_table.newest_version_and_files, table))
    if opened is None:
        return
    head, files = opened
    found = list(exports_states(target, files, copies, is_unfinished=is_unfinished))
    named = max((int(match[1]) for file in files if (match := FILE_NAME.fullmatch(file))), default=0)
    if not found or found[0].is_head or found[0].revision < named:
        return
    best = found[0]
    (staged,) = stage("exports", best.rows, target / REPAIR)
    file = staged.at(best.revision)
    place = table / file.path
    is_damaged = not place.is_file() or file_sha256(place) != staged.sha256
    if is_damaged:
        make_way(place)
        staged.staged.replace(place)
        fsync(table)
    remove_if_exists(staged.staged)
    if files == [file.path]:
        yield LogAction("restored", "exports", place, "the same bytes as before")
        return
    _, pins = last_pinned_versions(best.rows)
    is_sound = not log_sums.altered_log_files(target)
    sums = log_sums.log_file_sums(target, {}, {**pins, "exports": head}) if is_sound else {}
    notes = {"revision": str(best.revision), "engine_version": __version__, **log_sums.note(sums)}
    added: list[DataFile] = [] if file.path in files else [file]
    removed = [path for path in files if path != file.path]
    delta_table.commit(table, EXPORTS, added, removed, after=head, written_at=now, notes=notes)
    delta_table.checkpoint_when_due(table, head + 1)
    detail = f"the table `exports` ends with revision {best.revision} again"
    yield LogAction("put back", "exports", table / delta_table.LOG, detail)


def restore_former_exports(target: Path) -> Iterator[LogAction]:
    """Write damaged files of former versions of `exports` anew, where the rows up to their revision have their bytes."""
    found, _ = try_reading(partial(read_newest_exports, target))
    if found is None:
        return
    _, exports, _ = found
    table = target / "exports"
    held, _ = try_reading(lambda: {path for _, files in pinned_files(target, "exports", exports) for path in files})
    for name in sorted(held or ()):
        match, place = FILE_NAME.fullmatch(name), table / name
        if match is None or (place.is_file() and file_sha256(place) == match[2]):
            continue
        (staged,) = stage("exports", exports.filter(pl.col("revision") <= int(match[1])), target / REPAIR)
        if staged.sha256 == match[2]:
            make_way(place)
            staged.staged.replace(place)
            fsync(table)
            yield LogAction("restored", "exports", place, "the same bytes as before")
        remove_if_exists(staged.staged)


def exports_states(
    target: Path, files: list[str], copies: LogCopies, *, is_unfinished: bool
) -> Iterator[_ExportsState]:
    """Yield the rows of `exports` that can be read, the last revision first; of equal ones the head, a copy, a file."""
    table = target / "exports"
    states = []
    # Several files at the head: those of other programs are left out, each of ours is a state of its own.
    rows, _ = try_reading(partial(rows_of_file, target, files))
    if rows is not None and rows.height:
        states.append(_ExportsState(rows["revision"].item(-1), rows, is_head=True))
    if copies.exports.height:
        states.append(_ExportsState(copies.exports["revision"].item(-1), copies.exports))
    at_head = max((one.revision for one in states), default=0)
    for path in sorted(table.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        rows, _ = try_reading(partial(rows_of_file, target, [path.name]))
        # While an export is unfinished, a file of a later revision is of none that there was.
        if rows is not None and rows.height and not (is_unfinished and rows["revision"].item(-1) > at_head):
            states.append(_ExportsState(rows["revision"].item(-1), rows))
    yield from sorted(states, key=lambda one: one.revision, reverse=True)


def rows_of_file(target: Path, files: list[str]) -> pl.DataFrame:
    """Rows of the one file of `exports`; DamageError where it is not what its name says, or not one of ours."""
    check_exports_file(target, files)
    rows = read_exports(target, files)
    check_last_row(target, files, rows)
    return rows


def unreadable_logs(target: Path) -> list[DamageError]:
    """Faults that hinder opening the last revision: of `exports`, else of the log of each table that it pins."""
    try:
        _, exports, _ = read_newest_exports(target)
    except DamageError as error:
        return [error]
    return list(log_faults_of(target, exports, exports.height - 1))


def log_faults_of(target: Path, exports: pl.DataFrame, row: int) -> Iterator[DamageError]:
    """Yield the fault of each table's log that hinders opening the revision of a row of `exports`."""
    pins: Mapping[str, int] = last_pinned_versions(exports[: row + 1])[1] if row >= 0 else {}
    sums = NotedSums(target, exports)
    for table, version in pins.items():
        try:
            check_log(target, table, version, sums)
        except DamageError as error:
            yield error
            continue
        _, why = try_reading(partial(delta_table.file_paths, target / table, version))
        if why:
            yield DamageError(target / table / delta_table.LOG, why, "")


def last_readable_revision(target: Path) -> int | None:
    """Last revision all of whose logs can be read; None where there is none, or `exports` itself cannot be read."""
    found, _ = try_reading(partial(read_newest_exports, target))
    if found is None:
        return None
    exports = found[1]
    for row in range(exports.height - 1, -1, -1):
        if exports["table_names"].list.len()[row] and not any(log_faults_of(target, exports, row)):
            return int(exports["revision"][row])
    return None
