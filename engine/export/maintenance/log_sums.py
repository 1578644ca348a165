"""Checksums of the logs: SHA-256 of every log file, noted in the log of `exports`, and compared with the files.

Each commit of `exports` notes the log files that came since the one before, of every table and of `exports` itself: the
entries make a chain. The newest entry of `exports`, and a checkpoint that was made after it, are noted by the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import orjson

from engine.export import delta_table
from engine.export.damage import damage_error
from engine.export.log_mirror import local_log_file
from engine.export.maintenance.verify_findings import try_reading
from engine.export.tables import TABLES
from engine.publish import file_sha256, fsync, remove_if_exists
from engine.storage import ObjectPath

NOTE = "log_sha256"

Sums = dict[str, str]


def log_file_sums(target: Path, since: Mapping[str, int], until: Mapping[str, int]) -> Sums:
    """SHA-256 by path of existing log entries and checkpoints, versions `since` (or 0) to `until` inclusive."""
    paths = [
        path
        for table, last in until.items()
        for version in range(since.get(table, 0), last + 1)
        for path in (
            delta_table.log_entry_path(target / table, version),
            delta_table.checkpoint_path(target / table, version),
        )
    ]
    if isinstance(target, ObjectPath):
        return sums_of_objects(target, paths)
    return {path.relative_to(target).as_posix(): file_sha256(path) for path in paths if path.is_file()}


def sums_of_objects(target: Path, paths: Sequence[Path]) -> Sums:
    """SHA-256 by path of log files in a store that exist; most of them are fetched, or made here, already."""
    found = {}
    for path in paths:
        table, version = path.parent.parent, int(path.name[:20])
        if path.suffix != ".json" and not delta_table.is_checkpoint_due(version):
            continue
        here = local_log_file(table, path.name)
        if here is not None:
            found[path.relative_to(target).as_posix()] = file_sha256(here)
    return found


def note(sums: Sums) -> dict[str, str]:
    """Commit metadata `{"log_sha256": <JSON>}` of the checksums; an empty dict when there is none."""
    return {NOTE: orjson.dumps(sums).decode()} if sums else {}


def sums_of_remaining_files(target: Path, oldest: Mapping[str, int]) -> Sums:
    """Noted SHA-256 by path of log files that stay though the entry noting them goes with the log before `oldest`."""
    goes = {
        path for table, version in oldest.items() for path in delta_table.outdated_log_files(target / table, version)
    }
    entries = [path for path in _entries(target) if path in goes]
    return {
        file: known for file, known in noted_sums(entries) if (target / file).is_file() and target / file not in goes
    }


def altered_log_files(target: Path) -> list[tuple[str, Path]]:
    """Sorted (table, path) of existing log files whose SHA-256 differs from one noted for them; unnoted ones pass."""
    noted = dict.fromkeys(noted_sums(_entries(target)))
    found = {file for file, known in noted if (target / file).is_file() and file_sha256(target / file) != known}
    return [(file.partition("/")[0], target / file) for file in sorted(found)]


def refuse_altered_logs(target: Path) -> None:
    """Raise DamageError where a log file has another SHA-256 than is noted of it.

    Raises
    ------
    DamageError
        The message names one.
    """
    for _, path in altered_log_files(target):
        raise damage_error(path, "its SHA-256 is not what the log of `exports` notes")


def refuse_bad_logs(target: Path) -> None:
    """Raise DamageError where a log file was altered or a checkpoint differs from its entries; else return None.

    Raises
    ------
    DamageError
        The message names one.
    """
    wrong = [*(path for _, path in altered_log_files(target)), *(path for _, path in bad_checkpoints(target))]
    if wrong:
        raise damage_error(
            wrong[0], "is not what was written, so it cannot be told which files are needed, and none was removed"
        )


def drop_bad_checkpoints(target: Path) -> list[tuple[str, Path]]:
    """Delete bad checkpoints (and `_last_checkpoint`) whose log entries all exist unaltered; return (table, path)s."""
    changed = altered_log_files(target)
    entries = {path for _, path in changed if path.suffix == ".json"}
    found = sorted({*bad_checkpoints(target), *((table, path) for table, path in changed if path not in entries)})
    dropped = []
    for table, path in found:
        summed = {delta_table.log_entry_path(target / table, version) for version in range(int(path.name[:20]) + 1)}
        if all(entry.is_file() for entry in summed) and not summed & entries:
            dropped.append((table, path))
    for _, path in dropped:
        remove_if_exists(path)
        remove_if_exists(path.with_name("_last_checkpoint"))
        fsync(path.parent)
    return dropped


def bad_checkpoints(target: Path) -> list[tuple[str, Path]]:
    """(table, path) of checkpoints unreadable or unlike their log entries, per table up to its first bad log entry."""
    return [(table, path) for table in TABLES for path in bad_checkpoints_of_table(target / table)]


def bad_checkpoints_of_table(table: Path) -> Iterator[Path]:
    """Yield a table's checkpoints unlike its replayed log or unreadable; stop at the first missing or bad log entry."""
    held: dict[str, delta_table.DataFile] = {}
    at = -1
    for version, path in delta_table.checkpoint_paths(table).items():
        for step in range(at + 1, version + 1):
            entry = delta_table.log_entry_path(table, step)
            after, why = try_reading(partial(delta_table.apply_log_entry, held, entry))
            if after is None or why:
                return
            held = after
        at = version
        summed, _ = try_reading(partial(delta_table.file_paths, table, version))
        if summed != sorted(held):
            yield path


def _entries(target: Path) -> list[Path]:
    return sorted((target / "exports" / delta_table.LOG).glob("*.json"))


def noted_sums(entries: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Yield (log file, SHA-256) noted in these `exports` log entries; unreadable entries yield none."""
    for path in entries:
        sums, _ = try_reading(partial(sums_in_entry, path))
        yield from (sums or {}).items()


def sums_in_entry(entry: Path) -> Sums:
    """Checksums by path that one `exports` log entry notes; paths with `..` are omitted, {} without a note."""
    actions = [orjson.loads(line) for line in entry.read_bytes().splitlines()]
    notes: dict[str, str] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    found = orjson.loads(notes.get(NOTE, "{}"))
    return {str(file): str(known) for file, known in found.items() if ".." not in str(file).split("/")}
