"""Atomic, durable writes of a file or a folder: written next to the target, flushed to disk, renamed once.

A reader of the output sees the old or the new one whole, also after a loss of power: the
bytes are flushed before the rename, the folder entry after it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from engine.storage import ObjectPath
from engine.urls import refuse_url


@contextmanager
def atomic_publish(output: Path) -> Iterator[Path]:
    """Make parents, yield a temporary path; at exit flush it and rename it over `output`, on an exception remove it.

    Parameters
    ----------
    output : Path
        A file (replaced when it exists) or a folder (which must be new or empty). Its parents are created.

    Yields
    ------
    Path
        A name that does not exist yet: create a file or a folder there. It is removed when the body fails.

    Raises
    ------
    ParameterError
        `output` is a URL.
    OSError
        The disk is full, the place is not writable, or `output` is a folder with something in it.
    """
    refuse_url("output", output)
    output = output.absolute()
    make_durable_folders(output.parent)
    with staging_folder(output) as folder:
        staged = folder / output.name
        yield staged
        fsync_tree(staged)
        staged.replace(output)
        fsync(output.parent)


@contextmanager
def staging_folder(output: Path) -> Iterator[Path]:
    """Yield a new folder beside `output`, removed at the end; first remove those that killed processes left for `output`.

    The folder is locked (`flock`) as long as its process lives. A file system without such locks keeps what a killed
    process left.
    """
    mark = hashlib.sha256(os.fsencode(output.name)).hexdigest()[:16]
    folder = output.with_name(f".{mark}.{uuid.uuid4().hex}.tmp")
    with ExitStack() as held:
        # One process at a time looks for abandoned folders: a new one is not yet locked when it appears.
        with try_locking(output.parent.resolve(), wait=True):
            for other in output.parent.glob(f".{mark}.*.tmp"):
                with try_locking(other) as is_abandoned:
                    if is_abandoned:
                        shutil.rmtree(other, ignore_errors=True)
            folder.mkdir()
            held.enter_context(try_locking(folder))
        try:
            yield folder
        finally:
            remove_if_exists(folder)


@contextmanager
def try_locking(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a `flock` of a folder in the block; yield whether it was had: False for a locked one, a link or no folder."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file or an object whole, durably: a reader sees the old or the new content."""
    if isinstance(path, ObjectPath):
        path.write_bytes(content)
        return
    with atomic_publish(path) as staged:
        staged.write_bytes(content)


def write_new_file(path: Path, content: bytes | memoryview) -> None:
    """Create a file with its content flushed to disk (not its folder entry); FileExistsError when it exists."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def fsync(path: Path) -> None:
    """Flush a file's bytes, or a folder's own list of entries (not the files in it), to disk; objects are durable."""
    if isinstance(path, ObjectPath):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(path: Path) -> None:
    """Flush a file, or recursively every file and folder in a folder and then the folder itself, to disk."""
    if path.is_dir():
        for inner in path.iterdir():
            fsync_tree(inner)
    fsync(path)


def make_durable_folders(path: Path) -> None:
    """Create a folder and its missing parents, each parent flushed to disk; an existing one stays, stores need none."""
    if isinstance(path, ObjectPath):
        return
    refuse_url("folder", path)
    if path.is_dir():
        return
    make_durable_folders(path.parent)
    path.mkdir(exist_ok=True)
    fsync(path.parent)


def remove_if_exists(path: Path) -> None:
    """Delete a file, a link (never its target) or a folder with everything in it; a missing path changes nothing."""
    if isinstance(path, ObjectPath):
        path.unlink(missing_ok=True)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as stored (not unpacked), as hexadecimal text."""
    if isinstance(path, ObjectPath):
        digest = hashlib.sha256()
        for piece in path.pieces():
            digest.update(piece)
        return digest.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
