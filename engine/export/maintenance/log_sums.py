"""Whether the logs are what was written: SHA-256 of every log file, noted in the log of `exports`.

Each commit of `exports` notes the log files that came since the one before, of every table and of `exports` itself: the
entries make a chain. The newest entry of `exports`, and a checkpoint that was made after it, are noted by the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import orjson

from engine.errors import ExportError
from engine.export import delta_table
from engine.export.maintenance.verify_findings import tried
from engine.export.tables import TABLES
from engine.publish import fsync, remove_if_exists

NOTE = "log_sha256"

Sums = dict[str, str]


def fresh_sums(target: Path, since: Mapping[str, int], until: Mapping[str, int]) -> Sums:
    """SHA-256 of the log files of the versions `since` (or 0) to `until` of each table, by path below `target`."""
    paths = (
        path
        for table, last in until.items()
        for version in range(since.get(table, 0), last + 1)
        for path in (delta_table.entry(target / table, version), delta_table.checkpoint(target / table, version))
    )
    return {path.relative_to(target).as_posix(): _sha256(path) for path in paths if path.is_file()}


def note(sums: Sums) -> dict[str, str]:
    """What a commit of `exports` says of them."""
    return {NOTE: orjson.dumps(sums).decode()} if sums else {}


def sums_to_keep(target: Path, oldest: Mapping[str, int]) -> Sums:
    """What entries of `exports` note that may go, of log files that stay, where `oldest` is the first version still needed."""
    goes = {path for table, version in oldest.items() for path in delta_table.outdated(target / table, version)}
    entries = [path for path in _entries(target) if path in goes]
    return {file: known for file, known in _noted(entries) if (target / file).is_file() and target / file not in goes}


def changed_files(target: Path) -> list[tuple[str, Path]]:
    """List log files that are not what was noted, with their tables. One that is gone is none of them."""
    noted = dict.fromkeys(_noted(_entries(target)))
    found = {file for file, known in noted if (target / file).is_file() and _sha256(target / file) != known}
    return [(file.partition("/")[0], target / file) for file in sorted(found)]


def check_logs(target: Path) -> None:
    """Refuse logs that were changed, or whose checkpoints are not what the entries add up to.

    Raises
    ------
    ExportError
        The message names one.
    """
    wrong = [*(path for _, path in changed_files(target)), *(path for _, path in bad_checkpoints(target))]
    if wrong:
        raise ExportError(
            f"{wrong[0]}: is not what was written, so it cannot be told which files are needed, and none was removed; "
            "`engine verify` lists what is wrong, `engine repair` drops a checkpoint that its entries make up for"
        )


def drop_bad_checkpoints(target: Path) -> list[tuple[str, Path]]:
    """Remove checkpoints that are damaged and not needed, as all entries that they sum up are there."""
    changed = changed_files(target)
    entries = {path for _, path in changed if path.suffix == ".json"}
    found = sorted({*bad_checkpoints(target), *((table, path) for table, path in changed if path not in entries)})
    dropped = [(table, path) for table, path in found if _made_up_for(target / table, path, entries)]
    for _, path in dropped:
        remove_if_exists(path)
        remove_if_exists(path.with_name("_last_checkpoint"))
        fsync(path.parent)
    return dropped


def bad_checkpoints(target: Path) -> list[tuple[str, Path]]:
    """List checkpoints that cannot be read, or are not what the entries before them add up to, where all are there."""
    return [(table, path) for table in TABLES for path in _bad(target / table)]


def _bad(table: Path) -> Iterator[Path]:
    held: dict[str, delta_table.LakeFile] = {}
    at = -1
    for version, path in delta_table.checkpoints(table).items():
        for step in range(at + 1, version + 1):
            entry = delta_table.entry(table, step)
            after, why = tried(lambda entry=entry, held=held: delta_table.after_entry(held, entry))  # type: ignore[misc]
            if after is None or why:
                return
            held = after
        at = version
        summed, _ = tried(lambda version=version: delta_table.files(table, version))  # type: ignore[misc]
        if summed != sorted(held):
            yield path


def _made_up_for(table: Path, checkpoint: Path, changed: Iterable[Path]) -> bool:
    entries = [delta_table.entry(table, version) for version in range(int(checkpoint.name[:20]) + 1)]
    return all(entry.is_file() for entry in entries) and not set(entries) & set(changed)


def _entries(target: Path) -> list[Path]:
    return sorted((target / "exports" / delta_table.LOG).glob("*.json"))


def _noted(entries: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for path in entries:
        told, _ = tried(lambda path=path: _told(path))  # type: ignore[misc]
        yield from (told or {}).items()


def _told(entry: Path) -> Sums:
    actions = [orjson.loads(line) for line in entry.read_bytes().splitlines()]
    notes: dict[str, str] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    found = orjson.loads(notes.get(NOTE, "{}"))
    return {str(file): str(known) for file, known in found.items() if ".." not in str(file).split("/")}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
