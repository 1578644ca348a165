"""Files batched into tasks of bounded size, files of one symbol always in the same task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.runtime.options import LoadOptions
from engine.sources.batch import SourceFile


@dataclass(frozen=True)
class FilesTask:
    """A task of files that are read together: all there is of their symbols."""

    files: tuple[SourceFile, ...]
    options: LoadOptions

    @property
    def name(self) -> str:
        """Path of the first file, as text for progress and messages."""
        return str(self.files[0].path)

    @property
    def identity(self) -> str:
        """Path, size and time of modification of each file, joined: changes when a file does."""
        return "|".join(f"{file.path}:{file.state}" for file in self.files)


def batch_groups(groups: Iterable[Sequence[SourceFile]], batch_bytes: int) -> Iterator[list[SourceFile]]:
    """Join whole groups of files, in order, into batches of at most `batch_bytes`; a larger group is a batch alone."""
    batch: list[SourceFile] = []
    size = 0
    for group in groups:
        group_size = sum(file.size for file in group)
        if batch and size + group_size > batch_bytes:
            yield batch
            batch, size = [], 0
        batch += group
        size += group_size
    if batch:
        yield batch
