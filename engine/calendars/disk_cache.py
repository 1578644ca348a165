"""What was built of the calendar libraries, kept on disk: a second process neither imports them nor builds it anew.

To import pandas and a library and to build a decade takes about a second, to read it back a thousandth of that. A file
holds one frame, and the SHA-256 of it and of all that it depends on (`origin`): the versions of the libraries, of
Polars and of the zones, and the code and data of this package's calendars. A file of another origin, or one that was
damaged, is not read; it is written anew. Nothing else changes a frame, so nothing else makes a file invalid.

The folder is that of the user's caches, or `ENGINE_CACHE`; with `ENGINE_CACHE` empty nothing is kept. A folder that
belongs to another user, or that others may write to, is not used. To delete it is safe at any time.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import stat
import sys
import tempfile
import zoneinfo
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import polars as pl
from platformdirs import user_cache_path

FOLDER = "ENGINE_CACHE"
PACKAGE = Path(__file__).parent
DISTRIBUTIONS = (
    "session-engine", "polars", "pandas", "numpy", "exchange-calendars", "pandas-market-calendars", "tzdata",
)  # fmt: skip
DIGEST_BYTES = 32

_log = logging.getLogger(__name__)


def cached_on_disk(build: Callable[..., pl.DataFrame], *arguments: str | int) -> pl.DataFrame:
    """The frame `build(*arguments)`, read from the folder of caches; built, and written there, if it has none.

    Parameters
    ----------
    build : callable
        A function whose result depends on its arguments and on `origin` alone.
    *arguments : str or int

    Returns
    -------
    DataFrame
        Equal to `build(*arguments)`, in dtypes and order too. What cannot be read or written is built, and logged.
    """
    folder = folder_of_caches()
    if folder is None:
        return build(*arguments)
    key = "\0".join([build.__name__, *map(str, arguments)])
    path = folder / f"{build.__name__}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    frame = read(path, key)
    if frame is None:
        frame = build(*arguments)
        write(path, key, frame)
    return frame


def folder_of_caches() -> Path | None:
    """Folder to keep frames in, made if it is absent; None if `ENGINE_CACHE` is empty or the folder is not ours alone."""
    named = os.environ.get(FOLDER)
    if named == "":
        return None
    try:
        folder = (
            Path(named) if named is not None else user_cache_path("session-engine", appauthor=False)
        ) / "calendars"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except (OSError, RuntimeError, ValueError) as error:  # no home, a path with a NUL, a file of that name
        _log.debug("calendars are not kept on disk: %s", error)
        return None
    if sys.platform != "win32" and (facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        _log.debug("calendars are not kept in %s: others may write there", folder)
        return None
    return folder


def read(path: Path, key: str) -> pl.DataFrame | None:
    """Frame of a file; None if there is none, or one of another key or origin, or not as it was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body = content[DIGEST_BYTES:]
    if content[:DIGEST_BYTES] != digest_of(key, body):
        return None
    return pl.read_ipc(io.BytesIO(body))


def write(path: Path, key: str, frame: pl.DataFrame) -> None:
    """Write a frame so that another process reads all of it or none; one that cannot be written is logged."""
    body = io.BytesIO()
    frame.write_ipc(body)
    content = body.getvalue()
    unfinished: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
        unfinished = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(digest_of(key, content) + content)
        unfinished.replace(path)
    except OSError as error:
        _log.debug("%s: not written: %s", path, error)
        if unfinished is not None:
            with suppress(OSError):  # it is as full or read-only as it was
                unfinished.unlink(missing_ok=True)


def digest_of(key: str, body: bytes) -> bytes:
    """SHA-256 of a key, of the origin and of a frame's bytes."""
    return hashlib.sha256(b"\0".join([key.encode(), origin(), body])).digest()


@cache
def origin() -> bytes:
    """What every frame depends on: versions of Python and of the distributions, of the zones, and the calendars' own files."""
    parts = [sys.version, *(f"{name} {version(name)}" for name in DISTRIBUTIONS)]
    for folder in zoneinfo.TZPATH:
        with suppress(OSError), (Path(folder) / "tzdata.zi").open("rb") as file:  # most systems have one of them
            parts.append(f"{folder} {file.readline(100)!r}")
    digest = hashlib.sha256("\0".join(parts).encode())
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in {".py", ".toml", ".csv"}:
            digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return digest.digest()
