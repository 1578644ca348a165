"""Copies of the log entries of an export, from which `engine repair` restores entries that were damaged or lost.

Each commit of `exports` is followed by one file in `_log_copies`, which has the entries of all tables that came since the
copy before and the rows of `exports` that they made. Its name has the version of `exports` and the SHA-256 of its bytes,
so that it vouches for itself. A vacuum replaces all copies by one.
"""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import orjson
import polars as pl

from engine.export import delta_table
from engine.export.tables import EXPORTS
from engine.publish import fsync, make_durable_folders, write_new_file
from engine.schema import TS, empty

COPIES = "_log_copies"
COPY_NAME = re.compile(r"(\d{20})-([0-9a-f]{64})\.json\.gz")


class LogCopies(NamedTuple):
    """What the copies of an export hold together.

    Attributes
    ----------
    entries : mapping of path to bytes
        Log entries, and checkpoints whose entries a vacuum removed, by their path below the target.
    exports : DataFrame
        The table `exports` as the last copied version holds it.
    version : int
        Newest version of `exports` that was copied; -1 without a copy.
    damaged : tuple of Path
        Copies that are not what their names say.
    """

    entries: Mapping[str, bytes]
    exports: pl.DataFrame
    version: int
    damaged: tuple[Path, ...]


def copy_paths(target: Path) -> dict[int, Path]:
    """Paths of the copies by version of `exports`, ascending; the files are not read."""
    found = sorted(path for path in (target / COPIES).glob("*") if COPY_NAME.fullmatch(path.name))
    return {int(path.name[:20]): path for path in found}


def newest_copied_version(target: Path) -> int:
    """Newest version of `exports` that has a copy; -1 without one."""
    return max(copy_paths(target), default=-1)


def copy_new_entries(target: Path, exports: pl.DataFrame, head: int, staging: Path) -> None:
    """Write the log entries since the last copy durably as one more (lock held); entries of all versions without a copy.

    Parameters
    ----------
    target : Path
    exports : DataFrame
        The table `exports` at its version `head`.
    head : int
    staging : Path
        An existing folder on the same file system: a copy appears whole.
    """
    copied = newest_copied_version(target)
    pins = [dict(zip(names, versions, strict=True)) for names, versions in _pins(exports)]
    known = [number for number, pin in enumerate(pins) if pin and pin["exports"] <= copied]
    first = known[-1] if known else 0
    write_copy(target, exports[first:], pins[first] if known else {}, {**pins[-1], "exports": head}, staging)


def replace_copies(target: Path, exports: pl.DataFrame, head: int, staging: Path) -> None:
    """Write one copy of all log entries that there are, durably, then remove the other copies (lock held)."""
    names, versions = list(_pins(exports))[-1]
    kept = write_copy(target, exports, {}, {**dict(zip(names, versions, strict=True)), "exports": head}, staging)
    for path in sorted((target / COPIES).iterdir()):
        if path != kept and path.is_file() and COPY_NAME.fullmatch(path.name):
            path.unlink()
    fsync(target / COPIES)


def write_copy(
    target: Path, exports: pl.DataFrame, since: Mapping[str, int], until: Mapping[str, int], staging: Path
) -> Path:
    """Write a copy of the entries of versions `since` (or 0) to `until` inclusive, and these rows; return its path."""
    entries, checkpoints = {}, {}
    for table, last in until.items():
        for version in range(since.get(table, 0), last + 1):
            entry = delta_table.log_entry_path(target / table, version)
            if entry.is_file():
                entries[entry.relative_to(target).as_posix()] = entry.read_text(encoding="utf-8")
            checkpoint = delta_table.checkpoint_path(target / table, version)
            if checkpoint.is_file() and not delta_table.has_all_entries(target / table, version):
                checkpoints[checkpoint.relative_to(target).as_posix()] = base64.b64encode(
                    checkpoint.read_bytes()
                ).decode()
    rows = orjson.dumps({"entries": entries, "checkpoints": checkpoints, "exports": exports.to_dicts()})
    content = gzip.compress(rows, compresslevel=6, mtime=0)
    name = f"{until['exports']:020}-{hashlib.sha256(content).hexdigest()}.json.gz"
    place = target / COPIES / name
    make_durable_folders(place.parent)
    if not place.exists():
        write_new_file(staging / name, content)
        (staging / name).replace(place)
        fsync(place.parent)
    return place


def read_copies(target: Path) -> LogCopies:
    """All copies of an export together; one whose bytes are not those of its name counts as damaged and is left out."""
    entries: dict[str, bytes] = {}
    rows: dict[int, Mapping[str, object]] = {}
    damaged = []
    newest = -1
    for path in sorted(path for path in (target / COPIES).glob("*") if COPY_NAME.fullmatch(path.name)):
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != path.name[21:85]:
            damaged.append(path)
            continue
        copy = orjson.loads(gzip.decompress(content))
        entries |= {file: text.encode() for file, text in copy["entries"].items()}
        entries |= {file: base64.b64decode(text) for file, text in copy["checkpoints"].items()}
        rows |= {row["revision"]: row for row in copy["exports"]}
        newest = int(path.name[:20])
    return LogCopies(entries, _exports_frame(rows), newest, tuple(damaged))


def _pins(exports: pl.DataFrame) -> list[tuple[list[str], list[int]]]:
    return exports.select("table_names", "table_versions").rows()


def _exports_frame(rows: Mapping[int, Mapping[str, object]]) -> pl.DataFrame:
    if not rows:
        return empty(EXPORTS)
    stamps = [name for name, dtype in EXPORTS.items() if dtype == TS]
    parsed = [
        {**row, **{name: dt.datetime.fromisoformat(str(row[name])) for name in stamps if row[name] is not None}}
        for _, row in sorted(rows.items())
    ]
    return pl.DataFrame([{name: row[name] for name in EXPORTS} for row in parsed], schema=dict(EXPORTS))
