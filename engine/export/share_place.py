"""Where workers put the files of their shares of a revision, before it is committed.

On a disk: `.shares/<run>/<attempt>/` in the target, from where the commit renames them to their places. The process
that runs the workers holds a lock of the run's folder (`flock`): of a folder that nobody holds, the process is dead,
and the next export, vacuum or repair removes it. No lock of the target is held meanwhile, and other exports commit.

In an object store: under their final names, announced before (`attempts`), where nobody sees them until they are
committed. Whoever commits that revision removes what it does not name.

An attempt that is made twice, because a worker died or was believed dead, writes files of its own, and one is used.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

from engine.arguments import location_of
from engine.errors import ExportError
from engine.export.attempts import announce, upload
from engine.export.parquet import StagedFile
from engine.export.tables import SORT
from engine.publish import make_durable_folders, remove_if_exists, try_locking
from engine.storage import ObjectPath

SHARES = ".shares"


class ShareFile(NamedTuple):
    """A file of a table, durable and not committed. The parent of a run holds those of all workers.

    Attributes
    ----------
    table : str
    place : str
        Path in `SharePlace.folder`, or in an object store the URL, which has its final name.
    folder, sha256, size, stats
        As in `parquet.StagedFile`.
    rows : int
        Number of its rows.
    owner : str
        Least symbol of its rows; of rejects the least source.
    """

    table: str
    place: str
    folder: str
    sha256: str
    size: int
    stats: str
    rows: int
    owner: str

    @classmethod
    def of(cls, table: str, file: StagedFile, place: Path) -> ShareFile:
        """A staged file that is at its place."""
        stats = orjson.loads(file.stats)
        owner = str(stats["minValues"][SORT[table][0]] or "")
        return cls(table, str(place), file.folder, file.sha256, file.size, file.stats, stats["numRecords"], owner)

    @property
    def path(self) -> Path:
        """Its place as a path."""
        return location_of("file", self.place)

    def staged(self) -> StagedFile:
        """As the commit takes it."""
        return StagedFile(self.path, self.folder, self.sha256, self.size, self.stats)


@dataclass(frozen=True)
class SharePlace:
    """Place of the shares of one revision.

    Attributes
    ----------
    target : Path
        The export.
    revision : int
        The one that is being made; every row carries it.
    folder : Path or None
        Of files until they are committed; None in an object store, where they have their final names.
    """

    target: Path
    revision: int
    folder: Path | None

    def write(self, write_files: Callable[[Path], Iterable[tuple[str, StagedFile]]]) -> list[ShareFile]:
        """Files, with their tables, that a function writes into an empty folder of this disk; durable in the place.

        Parameters
        ----------
        write_files : callable
            Takes the folder; yields the table and the staged file of each.

        Raises
        ------
        ExportError
            The run that the files are for is over.
        """
        if self.folder is not None:
            attempt = self.folder / uuid.uuid4().hex
            try:
                attempt.mkdir()
            except FileNotFoundError as error:
                raise ExportError(f"{self.folder}: is gone, so the run that it was for is over") from error
            return [ShareFile.of(table, file, file.staged) for table, file in write_files(attempt)]
        assert isinstance(self.target, ObjectPath)  # noqa: S101 - `open_share_place`
        with tempfile.TemporaryDirectory(prefix="engine-share-") as scratch:
            staged = list(write_files(Path(scratch)))
            places = {self.target / table / file.at(self.revision).path: (table, file) for table, file in staged}
            # It stays: who commits the revision clears up after those that it does not name.
            announce(self.target, self.revision, [place.relative_to(self.target).as_posix() for place in places])
            upload({place: file for place, (_, file) in places.items()})
        return [ShareFile.of(table, file, place) for place, (table, file) in places.items()]

    def holds_all(self, files: Iterable[ShareFile]) -> bool:
        """Whether all of these files are there still."""
        return all(file.path.is_file() for file in files)


@contextmanager
def open_share_place(target: Path, revision: int, run: str, *, keep: bool = False) -> Iterator[SharePlace]:
    """Place of the shares of a run; on a disk its folder is locked in the block, and removed at the end.

    Parameters
    ----------
    target : Path
    revision : int
    run : str
        Name of the run's folder: a run that goes on has the same.
    keep : bool
        After an error leave the folder, for a run that goes on. The next export of somebody else removes it.

    Raises
    ------
    ExportError
        A run of this name is under way.
    """
    if isinstance(target, ObjectPath):
        yield SharePlace(target, revision, None)
        return
    folder = target / SHARES / run
    is_new = not target.exists()
    make_durable_folders(folder.parent)
    with ExitStack() as held:
        # Nobody looks for abandoned folders meanwhile: a new one is not yet locked when it appears.
        with try_locking(folder.parent, wait=True):
            folder.mkdir(parents=True, exist_ok=True)
            if not held.enter_context(try_locking(folder)):
                raise ExportError(f"{folder}: the run that it is of is under way; wait until it has ended")
        try:
            yield SharePlace(target, revision, folder)
        except BaseException:
            remove_share_folder(folder, is_target_new=is_new, keep=keep)
            raise
        remove_share_folder(folder, is_target_new=is_new)


def remove_share_folder(folder: Path, *, is_target_new: bool, keep: bool = False) -> None:
    """Remove a run's folder unless it is kept, `.shares` unless it holds others, and a new target with nothing in it."""
    if not keep:
        remove_if_exists(folder)
    with suppress(OSError):  # not empty
        folder.parent.rmdir()
        if is_target_new:
            folder.parent.parent.rmdir()


def remove_abandoned_shares(target: Path) -> None:
    """Remove the folders of runs whose process is dead (lock of the target held)."""
    shares = target / SHARES
    with try_locking(shares, wait=True) as is_there:
        for folder in shares.iterdir() if is_there else ():
            with try_locking(folder) as is_abandoned:
                if is_abandoned:
                    # A worker that outlived its run may write there still; the next export removes the rest.
                    shutil.rmtree(folder, ignore_errors=True)
        if is_there:
            with suppress(OSError):  # not empty
                shares.rmdir()
