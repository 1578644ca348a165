"""Exports without a lock: object stores have none, so a writer that was overtaken begins anew on the new head.

A commit creates the log entry of the next version, and of two writers that create it the store refuses one
(`If-None-Match: *`). What a writer uploads before is announced in a small object, `.staging/<revision>-<id>.json`: the
names of its files. Files are called after the revision that they are made for, so

- a file of a revision that is there already, and that no revision pins, is of a writer that was overtaken or killed, and
  whoever commits next removes it (`remove_leavings`);
- a file of a later revision may be of a writer that is under way, and stays.

No clock and no lease is asked: a writer whose revision was taken cannot commit any more.
"""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from deltalake.exceptions import CommitFailedError, DeltaError

from engine.errors import ExportError
from engine.export.log_mirror import OvertakenError
from engine.export.parquet import StagedFile
from engine.storage import ObjectPath

T = TypeVar("T")

ANNOUNCED = ".staging"
UPLOADS = 8  # at once
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 3.0
_EXISTS = re.compile("already exists", re.IGNORECASE)
_ANNOUNCEMENT = re.compile(r"(\d+)-[0-9a-f]{32}\.json")


def retry_overtaken(target: Path, act: Callable[[], T], timeout: float) -> T:
    """Result of an act that commits; it is repeated, with growing waits, as long as another writer is faster.

    Raises
    ------
    ExportError
        Another writer was faster for `timeout` seconds.
    """
    begin, wait = time.monotonic(), FIRST_WAIT_SECONDS
    while True:
        try:
            return act()
        except (DeltaError, OvertakenError) as error:
            if not is_overtaken(error):
                raise
            if time.monotonic() - begin > timeout:
                raise ExportError(
                    f"{target}: another export is writing to it (tried for {timeout:g} s, each time it was faster); "
                    "try again later"
                ) from error
        # Random, as two writers that wait for the same time meet again.
        time.sleep(random.uniform(wait / 2, wait))  # noqa: S311
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def is_overtaken(error: Exception) -> bool:
    """Whether a commit failed because somebody else has made that version, or that table."""
    return isinstance(error, CommitFailedError | OvertakenError) or _EXISTS.search(str(error)) is not None


@contextmanager
def announced(target: ObjectPath, revision: int, paths: Iterable[str]) -> Iterator[None]:
    """Announce the files of a revision in the block, at whose end they are committed; after an error that stays."""
    names = sorted(paths)
    place = announce(target, revision, names)
    try:
        yield
    except BaseException as error:
        # Somebody who committed this revision may have removed it, with what was there by then.
        try:
            place.write_bytes(json.dumps(names).encode())
        except OSError as second:
            error.add_note(f"{place}: could not be written, so `engine vacuum` alone finds what was uploaded: {second}")
        raise
    place.unlink()


def announce(target: ObjectPath, revision: int, paths: Iterable[str]) -> ObjectPath:
    """Announce files that are to be uploaded for a revision, named below the target; return the announcement."""
    place = target / ANNOUNCED / f"{revision}-{uuid.uuid4().hex}.json"
    place.write_bytes(json.dumps(sorted(paths)).encode())
    return place


def upload(files: Mapping[Path, StagedFile]) -> None:
    """Upload staged files under their final names, some at once; the first error is raised when all have ended."""
    with ThreadPoolExecutor(UPLOADS, "upload") as uploads:
        for done in [uploads.submit(upload_file, place, file) for place, file in files.items()]:
            done.result()


def upload_file(place: Path, file: StagedFile) -> None:
    """Upload a staged file, and remove it from the disk."""
    assert isinstance(place, ObjectPath)  # noqa: S101 - of a target in a store
    place.upload(file.staged)
    file.staged.unlink()


def has_announcements(target: ObjectPath) -> bool:
    """Whether files are announced that were not committed, or not all of them."""
    return any(_ANNOUNCEMENT.fullmatch(place.name) for place in (target / ANNOUNCED).iterdir())


def leavings(target: ObjectPath, revision: int) -> dict[ObjectPath, list[str]]:
    """Announcements of revisions up to this one, which is there, and the files that each names, below the target."""
    found = {}
    for place in (target / ANNOUNCED).iterdir():
        name = _ANNOUNCEMENT.fullmatch(place.name)
        if name is not None and int(name[1]) <= revision:
            found[place] = list(json.loads(place.read_bytes()))
    return found
