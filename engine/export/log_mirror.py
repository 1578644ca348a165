"""Delta logs in an object store: read and written by deltalake in a folder of this disk, entry by entry the same.

Log files never change, so each is fetched once a process, side by side with others, and a version that is known by its
number needs no list. What is to be committed is made by deltalake in a scratch folder, and its log entry is created in
the store by one conditional put: that is the commit.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson

from engine.errors import ExportError, RemoteError
from engine.storage import ObjectPath, SeenObject, show_bytes
from engine.store_settings import endpoint, of_endpoint

LOG = "_delta_log"
FETCHES = 16  # at once
MOST_UNLISTED = 1000  # entries behind the last one that a list shows: lists lag by a few
ACTIONS = frozenset(("commitInfo", "protocol", "metaData", "add", "remove", "txn", "cdc", "domainMetadata"))
_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


class OvertakenError(ExportError):
    """Another writer came between what was read and what was to be committed."""


def entry_name(version: int) -> str:
    """File name of a log entry."""
    return f"{version:020}.json"


def checkpoint_name(version: int) -> str:
    """File name of a checkpoint."""
    return f"{version:020}.checkpoint.parquet"


def mirrored(table: ObjectPath, version: int | None, step: int) -> tuple[Path, int]:
    """(folder with the log that a version needs, the version; of None the newest that a list shows).

    Parameters
    ----------
    table : ObjectPath
    version : int or None
    step : int
        Versions between two checkpoints: where one is looked for.

    Raises
    ------
    FileNotFoundError
        The table has no such version.
    """
    folder = _folder(table)
    if version is None:
        version = newest_version(table)
    start = checkpoint_before(table, version, step)
    names = [entry_name(at) for at in range(start + 1 if start else 0, version + 1)]
    fetch(table, names if start < version else [entry_name(version)])
    return folder, version


def newest_version(table: ObjectPath) -> int:
    """Newest version of a table's log; FileNotFoundError if it has none.

    A list tells where to begin, and the entry that is not there any more where to end: lists may lag, reads do not.
    """
    known = [int(found[1]) for path in (_folder(table) / LOG).iterdir() if (found := _ENTRY.fullmatch(path.name))]
    newest = max(known, default=-1)
    if known and not is_fetched(table, newest + 1):
        return newest
    log = table / LOG
    after = log / entry_name(newest + 1) if known else None
    listed = [int(found[1]) for path in log.list_after(after) if (found := _ENTRY.fullmatch(path.name))]
    newest = last = max([newest + bool(known), *listed])
    while is_fetched(table, newest + 1):
        newest += 1
        if newest - last > MOST_UNLISTED:
            raise RemoteError(
                f"{log / entry_name(newest)}: is there, and none of the {MOST_UNLISTED:,} entries before it is in a list; "
                "check the address of the store"
            )
    if newest < 0:
        raise FileNotFoundError(f"{table}: has no log")
    return newest


def is_fetched(table: ObjectPath, version: int) -> bool:
    """Whether there is an entry of this version, which is here now."""
    try:
        fetch(table, [entry_name(version)])
    except FileNotFoundError:
        return False
    return True


def checkpoint_before(table: ObjectPath, version: int, step: int) -> int:
    """Version of the checkpoint to begin at, fetched: the last due one, or an earlier one; 0 for none."""
    folder = _folder(table) / LOG
    for at in range(version // step * step, 0, -step):
        if (folder / checkpoint_name(at)).is_file():
            return at
        try:
            fetch(table, [checkpoint_name(at)])
        except FileNotFoundError:
            continue  # its writer was killed before it was made
        return at
    return 0


def fetch(table: ObjectPath, names: Sequence[str]) -> None:
    """Fetch the log files of these names that are not here, some at once."""
    folder = _folder(table) / LOG
    absent = [name for name in names if not (folder / name).is_file()]
    if not absent:
        return

    def fetch_one(name: str) -> None:
        """Fetch a file whole, and give it its name last: others read the folder at the same time."""
        content = (table / LOG / name).read_bytes()
        check_log_file(table / LOG / name, content)
        place(folder / name, content)

    with ThreadPoolExecutor(min(FETCHES, len(absent)), "log") as fetches:
        list(fetches.map(fetch_one, absent))


def check_log_file(path: ObjectPath, content: bytes) -> None:
    """Raise RemoteError for content that is no file of a Delta log at all, such as the page of another service.

    Raises
    ------
    RemoteError
        A checkpoint that is no Parquet file, or an entry whose first line is no action.
    """
    if path.suffix != ".json":
        is_sound = content[:4] == content[-4:] == b"PAR1"
    else:
        try:
            action = orjson.loads(content.lstrip().partition(b"\n")[0])
        except ValueError:
            action = None
        is_sound = isinstance(action, dict) and not ACTIONS.isdisjoint(action)
    if not is_sound:
        raise RemoteError(
            f"{path}: is no file of a Delta log: received {show_bytes(content)}; check the address of the store"
            f"{of_endpoint()}, then have `engine verify` look for damage"
        )


def fetched_entries(table: ObjectPath, versions: Sequence[int]) -> list[Path]:
    """Paths of log entries here, fetched as long as they are there: a vacuum removes those that nobody needs."""
    with suppress(FileNotFoundError):  # the caller looks which ones are there
        fetch(table, [entry_name(version) for version in versions])
    return [_folder(table) / LOG / entry_name(version) for version in versions]


def local_log_file(table: Path, name: str) -> Path | None:
    """Path of a log file of a table in a store on this disk, fetched; None where there is none."""
    assert isinstance(table, ObjectPath)  # noqa: S101 - whose log lies elsewhere
    try:
        fetch(table, [name])
    except FileNotFoundError:
        return None
    return _folder(table) / LOG / name


def is_known_table(table: ObjectPath) -> bool:
    """Whether a table has a log; where it is not the one that was fetched, as it was made anew, that is forgotten."""
    try:
        now = (table / LOG / entry_name(0)).stat()
    except FileNotFoundError:
        return False
    mark = _folder(table) / "identity"
    text = f"{now.tag}|{now.st_size}|{now.st_mtime_ns}"
    if not mark.is_file():
        place(mark, text.encode())
    elif mark.read_text(encoding="ascii") != text:
        shutil.rmtree(_folder(table), ignore_errors=True)
        place(_folder(table) / "identity", text.encode())
    return True


def place(path: Path, content: bytes) -> None:
    """Write a file beside its name, then rename it."""
    staged = path.with_name(f".{uuid.uuid4().hex}.tmp")
    staged.write_bytes(content)
    staged.replace(path)


@contextmanager
def scratch_log(table: ObjectPath, versions: Sequence[int | None], step: int) -> Iterator[Path]:
    """Folder with the log that versions need (None: none), for the block to write to; then what it wrote is published.

    Raises
    ------
    OvertakenError
        Somebody else has made that version.
    """
    with tempfile.TemporaryDirectory(prefix="engine-log-") as scratch:
        log = Path(scratch) / LOG
        log.mkdir()
        given = [version for version in versions if version is not None]
        for version in given:
            mirrored(table, version, step)
        # Entries of a version that needs no later ones, up to the newest one asked for.
        if given:
            first = min(checkpoint_before(table, version, step) for version in given)
            mirrored(table, max(given), step)
            fetch(table, [entry_name(at) for at in range(first + 1 if first else 0, max(given) + 1)])
        for path in (_folder(table) / LOG).iterdir() if given else ():
            found = _ENTRY.fullmatch(path.name) or _CHECKPOINT.fullmatch(path.name)
            if found is not None and int(found[1]) <= max(given):
                os.link(path, log / path.name)
        before = {path.name for path in log.iterdir()}
        yield Path(scratch)
        for path in sorted(path for path in log.iterdir() if path.name not in before and path.is_file()):
            publish(table, path.name, path.read_bytes())


def publish(table: ObjectPath, name: str, content: bytes) -> None:
    """Create a log entry or a checkpoint in the store, and keep it; OvertakenError where somebody else has made it."""
    there = table / LOG / name
    if _ENTRY.fullmatch(name) is None:
        if _CHECKPOINT.fullmatch(name) is not None:
            place(_folder(table) / LOG / name, content)
        there.write_bytes(content)
        return
    try:
        there.create(content)
    except OSError as error:
        # The answer of a store may be lost, and the same request once more finds the entry that it made itself.
        if not holds(there, content):
            if isinstance(error, FileExistsError):
                raise OvertakenError(f"{there}: was made by another writer") from error
            raise
    place(_folder(table) / LOG / name, content)


def holds(path: ObjectPath, content: bytes) -> bool:
    """Whether an object is there and has this content."""
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False


def seen_export(target: ObjectPath) -> dict[str, SeenObject]:
    """Objects of an export by URL as one list shows them; log entries and checkpoints with content, fetched anew."""
    forget_logs(target)
    seen, logs = {}, dict[ObjectPath, list[str]]()
    for path, stat in target.walk_objects():
        seen[str(path)] = SeenObject(stat)
        if path.parent.name == LOG and (_ENTRY.fullmatch(path.name) or _CHECKPOINT.fullmatch(path.name)):
            logs.setdefault(ObjectPath(path.parent.parent), []).append(path.name)
    for table, names in logs.items():
        with suppress(
            FileNotFoundError, RemoteError
        ):  # a vacuum at the same time, damage; the rest is asked for one by one
            fetch(table, names)
        for name in names:
            url, here = str(table / LOG / name), _folder(table) / LOG / name
            if here.is_file():
                seen[url] = seen[url]._replace(content=here.read_bytes())
    return seen


def forget_logs(target: ObjectPath) -> None:
    """Fetch the logs of an export's tables anew when they are asked for next."""
    for folder in _root().glob(f"{_name(target)}.*"):
        shutil.rmtree(folder, ignore_errors=True)


def _folder(table: ObjectPath) -> Path:
    folder = _root() / f"{_name(table.parent)}.{table.name}"
    (folder / LOG).mkdir(parents=True, exist_ok=True)
    return folder


def _name(target: Path) -> str:
    return hashlib.sha256(f"{endpoint()}|{target}".encode()).hexdigest()[:24]


@functools.cache
def _root() -> Path:
    folder = tempfile.mkdtemp(prefix="engine-logs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
