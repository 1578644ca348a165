"""Cursors: the revision that each consumer of an export has read, stored in the export under the consumer's name.

A cursor is a small file of its own in `_cursors`, called after the hash of its name, because a name is anybody's
text. It is replaced as a whole, so a consumer that is killed has read twice at worst, and never missed anything.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl

from engine.arguments import location_of, one_name
from engine.errors import ExportError, ParameterError
from engine.export.dataset import open_dataset
from engine.publish import fsync, remove_if_exists, replace_file

CURSORS = "_cursors"
COLUMNS = {"name": pl.String(), "revision": pl.Int64()}


def read_cursor(target: Path, name: str) -> int:
    """Read the export revision that a named consumer has acknowledged; 0 when it has no cursor file.

    Raises
    ------
    ExportError
        The cursor's file is damaged.
    """
    file = cursor_path(location_of("target", target), one_name("name", name))
    return read_cursor_file(file)[1] if file.exists() else 0


def advance_cursor(target: Path, name: str, revision: int) -> None:
    """Store durably the revision a consumer has read; ParameterError if it goes back, ExportError if not in the export.

    Raises
    ------
    ParameterError
        The consumer is further already (`drop_cursor` lets it begin anew).
    ExportError
        The target is no export, has no such revision, or cannot be written.
    """
    reached = read_cursor(target, name)
    if revision < reached:
        raise ParameterError(
            f"revision: received {revision}, but {name!r} is at {reached}; "
            f"valid: {reached} or later, or drop_cursor first"
        )
    open_dataset(target, revision)
    file = cursor_path(target, name)
    try:
        replace_file(file, json.dumps({"name": name, "revision": revision}).encode("ascii"))
    except OSError as error:
        raise ExportError(f"{file}: {error}") from error


def drop_cursor(target: Path, name: str) -> bool:
    """Delete a consumer's cursor file durably, so that it reads everything again; return False when it had none."""
    file = cursor_path(target, name)
    if not file.exists():
        return False
    try:
        remove_if_exists(file)
        fsync(file.parent)
    except OSError as error:
        raise ExportError(f"{file}: {error}") from error
    return True


def list_cursors(target: Path) -> pl.DataFrame:
    """One row per consumer of an export: `name`, `revision` it has read, sorted by name; empty without cursors."""
    rows = [read_cursor_file(file) for file in (location_of("target", target) / CURSORS).glob("*.json")]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row").sort("name")


def cursor_path(target: Path, name: str) -> Path:
    """`<target>/_cursors/<SHA-256 of the name>.json`; raise ParameterError when UTF-8 cannot encode the name."""
    try:
        digest = hashlib.sha256(name.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise ParameterError(f"name: received {name!r}; valid: text that UTF-8 can hold") from error
    return location_of("target", target) / CURSORS / f"{digest}.json"


def read_cursor_file(file: Path) -> tuple[str, int]:
    """Consumer name and revision from a cursor's JSON; raise ExportError when it is damaged or unreadable."""
    try:
        content = json.loads(file.read_text(encoding="ascii"))
        name, revision = content["name"], content["revision"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{file}: is no cursor ({error}); remove it, its consumer then reads everything anew"
        ) from error
    if not isinstance(name, str) or not isinstance(revision, int):
        raise ExportError(f"{file}: is no cursor; remove it, its consumer then reads everything anew")
    return name, revision
