"""Files bundled into tasks of bounded size, and what tells one task from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from engine import __version__
from engine.runtime.options import LoadOptions
from engine.sources.batch import SourceFile


def bundled(groups: Iterable[Sequence[SourceFile]], most_bytes: int) -> Iterator[list[SourceFile]]:
    """Put groups that stay whole together, in their order, to about so many bytes."""
    bundle: list[SourceFile] = []
    size = 0
    for members in groups:
        weight = sum(file.path.stat().st_size for file in members)
        if bundle and size + weight > most_bytes:
            yield bundle
            bundle, size = [], 0
        bundle += members
        size += weight
    if bundle:
        yield bundle


def state(path: Path) -> str:
    """What changes when a file does."""
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def key(mark: str, options: LoadOptions) -> str:
    """A name for what becomes of a task: another version, other options or other files give another one."""
    return hashlib.sha256(f"{__version__}|{mark}|{options!r}".encode()).hexdigest()[:40]
