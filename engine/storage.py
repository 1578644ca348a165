"""Exports and sources in object stores: paths of objects, with what the rest of the package does with a path.

`ObjectPath` is a `pathlib.Path` whose reads, lists and writes go to the store, by obstore (the Rust crate object_store,
which Polars and Delta Lake use too: it signs, retries with back-off, and reads ranges). It cannot be opened as a file of
this system: whatever asks for its place on the disk gets a TypeError, so nothing is ever written under `./s3:`.

Credentials, region and endpoint come from the environment, as all three libraries read it: `AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL` (or an instance's role);
`GOOGLE_APPLICATION_CREDENTIALS`; `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY` (`store_settings`).
"""

from __future__ import annotations

import fnmatch
import functools
import re
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PosixPath
from typing import Any, NamedTuple, NoReturn

from engine.errors import ParameterError, RemoteError
from engine.store_settings import (
    check_variables,
    of_endpoint,
    retry_options,
    store_options,
    store_variables,
)
from engine.urls import url_of

SHOWN_BYTES = 60
NO_BUCKET = re.compile("NoSuchBucket|404 Not Found")
INSTALL = "pip install 'session-engine[objects]'"


class ObjectStat(NamedTuple):
    """Size in bytes, time of writing and content tag of an object; the first under the names of `Path.stat`."""

    st_size: int
    st_mtime: float
    st_mtime_ns: int
    tag: str


class SeenObject(NamedTuple):
    """State of an object, and its content where that was fetched."""

    stat: ObjectStat
    content: bytes | None = None


_seen: ContextVar[Mapping[str, SeenObject]] = ContextVar("seen", default={})  # noqa: B039 - never written to


class ObjectPath(PosixPath):
    """Path of an object, or of a prefix that holds some, in an object store: `s3://bucket/key`.

    Text of it is the URL. A folder is a prefix with an object below it: folders are neither made nor removed.
    """

    size: int | None = None  # in bytes, where whoever made the path knows it

    def sized(self, size: int) -> ObjectPath:
        """The path itself, with the size of its object."""
        self.size = size
        return self

    @property
    def bucket(self) -> str:
        """Scheme and bucket: `s3://lake` of `s3://lake/out/bars`."""
        return f"{self.parts[0]}//{self.parts[1]}"

    @property
    def key(self) -> str:
        """Name of the object in its bucket: `out/bars` of `s3://lake/out/bars`."""
        return "/".join(self.parts[2:])

    def __str__(self) -> str:
        # What `relative_to` gives is of this class, too, and no URL.
        if not self.parts or not self.parts[0].endswith(":"):
            return "/".join(self.parts) or "."
        return f"{self.parts[0]}//{'/'.join(self.parts[1:])}"

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __fspath__(self) -> NoReturn:
        raise TypeError(f"{self} is in an object store, and has no place in this file system")

    def as_posix(self) -> str:
        """The URL."""
        return str(self)

    def absolute(self) -> ObjectPath:
        """The path itself."""
        return self

    def resolve(self, strict: bool = False) -> ObjectPath:  # noqa: FBT001, FBT002 - as pathlib has it
        """The path itself."""
        del strict
        return self

    def stat(self, *, follow_symlinks: bool = True) -> ObjectStat:  # type: ignore[override]
        """Size and time of an object; FileNotFoundError for a prefix, or where there is nothing."""
        del follow_symlinks
        seen = _seen.get().get(str(self))
        if seen is not None:
            return seen.stat
        with store_errors(self):
            return _stat_of(_obstore().head(_store(self.bucket), self.key))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is an object of this name, or one below it."""
        del follow_symlinks
        return self.is_file() or self.is_dir()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is an object of this name."""
        del follow_symlinks
        if not self.key:
            return False
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is an object below this name."""
        del follow_symlinks
        return next(self.walk_objects(), None) is not None

    def is_symlink(self) -> bool:
        """False: stores have no links."""
        return False

    def _seen_content(self) -> bytes | None:
        seen = _seen.get().get(str(self))
        return None if seen is None else seen.content

    def read_bytes(self) -> bytes:
        """Content of the object; FileNotFoundError when there is none."""
        content = self._seen_content()
        if content is not None:
            return content
        with store_errors(self):
            return bytes(_obstore().get(_store(self.bucket), self.key).bytes())

    def read_range(self, start: int, end: int) -> bytes:
        """Bytes of the object from `start` to before `end`, in one request."""
        with store_errors(self):
            return bytes(_obstore().get_range(_store(self.bucket), self.key, start=start, end=end))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Content of the object as text."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: Any) -> int:  # noqa: ANN401 - as pathlib has it
        """Write the object whole, in place of one that is there; return the number of bytes."""
        with store_errors(self):
            _obstore().put(_store(self.bucket), self.key, bytes(data))
        return len(data)

    def create(self, data: bytes) -> None:
        """Write the object unless there is one, by a conditional put; FileExistsError where there is."""
        with store_errors(self):
            _obstore().put(_store(self.bucket), self.key, data, mode="create")

    def upload(self, file: Path) -> None:
        """Write the object whole with the bytes of a file of this system; a large one in parts."""
        with store_errors(self):
            _obstore().put(_store(self.bucket), self.key, file)

    def download(self, file: Path) -> None:
        """Write the object's bytes into a new file of this system, a piece at a time."""
        with file.open("xb") as out:
            for piece in self.pieces():
                out.write(piece)

    def pieces(self) -> Iterator[bytes]:
        """Yield the object's bytes, a piece at a time, of one request."""
        seen = self._seen_content()
        if seen is not None:
            yield seen
            return
        with store_errors(self):
            content = _obstore().get(_store(self.bucket), self.key)
            for piece in content.stream():
                yield bytes(piece)

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Delete the object; S3 does not tell where there was none, other stores may."""
        try:
            with store_errors(self):
                _obstore().delete(_store(self.bucket), self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def iterdir(self) -> Generator[ObjectPath, None, None]:
        """Yield the objects and prefixes directly below."""
        with list_errors(self):
            listed = _obstore().list_with_delimiter(_store(self.bucket), prefix=self.key or None)
        for prefix in listed["common_prefixes"]:
            yield ObjectPath(self.bucket, prefix)
        for found in listed["objects"]:
            yield ObjectPath(self.bucket, found["path"])

    def walk_objects(self) -> Iterator[tuple[ObjectPath, ObjectStat]]:
        """Yield every object below, with its size and time, by one list request a thousand."""
        for found in self._listed(None):
            yield ObjectPath(self.bucket, found["path"]), _stat_of(found)

    def list_after(self, after: ObjectPath | None) -> Iterator[ObjectPath]:
        """Yield the objects below whose names come after that of an object; all of them where it is None."""
        for found in self._listed(None if after is None else after.key):
            yield ObjectPath(self.bucket, found["path"])

    def _listed(self, offset: str | None) -> Iterator[Mapping[str, Any]]:
        before = None
        with list_errors(self):
            for batch in _obstore().list(_store(self.bucket), prefix=self.key or None, offset=offset):
                if before is not None and batch and batch[0]["path"] == before:
                    raise RemoteError(f"{self}: the same page of a list came twice, so it has no end")
                before = batch[0]["path"] if batch else before
                yield from batch

    def check_store(self) -> None:
        """Raise RemoteError where what seems absent tells nothing: without such a bucket, or a store at that address.

        Raises
        ------
        RemoteError
            There is no such bucket, or the address answers for an object that nobody has made.
        """
        self.is_dir()
        nobodys = ObjectPath(self.bucket, uuid.uuid4().hex)
        try:
            content = nobodys.read_bytes()
        except OSError:
            return  # the store that was asked before has told what it had to
        raise RemoteError(
            f"{self}: no object store answers{of_endpoint()}: asked for an object that nobody has made, it gave "
            f"{show_bytes(content)}; check AWS_ENDPOINT_URL"
        )

    def glob(self, pattern: str) -> Generator[ObjectPath, None, None]:
        """Yield what is directly below and has a name like the pattern, which has no `/`."""
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str) -> Generator[ObjectPath, None, None]:
        """Yield the objects at any depth below whose name is like the pattern; their prefixes are left out."""
        return (path for path, _ in self.walk_objects() if fnmatch.fnmatchcase(path.name, pattern))


@contextmanager
def seen_objects(seen: Mapping[str, SeenObject]) -> Iterator[None]:
    """Let paths of this thread answer from what was seen, by URL, within the block; others ask the store."""
    token = _seen.set(seen)
    try:
        yield
    finally:
        _seen.reset(token)


def sized(path: Path, size: int) -> Path:
    """The path; one of an object knows its size from then on."""
    return path.sized(size) if isinstance(path, ObjectPath) else path


def size_of(path: Path) -> int:
    """Size of a file or an object in bytes; of an object without a request where it is known."""
    return path.size if isinstance(path, ObjectPath) and path.size is not None else path.stat().st_size


def polars_options(path: Path | str) -> dict[str, Any]:
    """Arguments of Polars' readers for a path or URL of a store: credentials are those of the environment; else none."""
    is_stored = isinstance(path, ObjectPath) or url_of(path) is not None
    return {"storage_options": store_options(), "credential_provider": None} if is_stored else {}


@contextmanager
def store_errors(path: ObjectPath) -> Iterator[None]:
    """Turn an error of the store into a RemoteError that names the object; FileNotFoundError where there is none."""
    exceptions = _obstore().exceptions
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such object") from error
    except exceptions.AlreadyExistsError as error:
        raise FileExistsError(f"{path}: exists") from error
    except exceptions.BaseError as error:
        raise RemoteError(f"{path}: {first_line(error)}") from error


@contextmanager
def list_errors(path: ObjectPath) -> Iterator[None]:
    """`store_errors` of a list, which is empty where there is no object: what is not there is the bucket."""
    try:
        with store_errors(path):
            yield
    except (FileNotFoundError, RemoteError) as error:
        # S3 has a code for it, a list of which the library tells as any other error.
        if isinstance(error, RemoteError) and not NO_BUCKET.search(str(error.__cause__)):
            raise
        raise RemoteError(f"{path.bucket}: there is no such bucket{of_endpoint()}") from error


def show_bytes(content: bytes) -> str:
    """Size and begin of a content, for messages."""
    begin = repr(content[:SHOWN_BYTES])[1:]
    return f"{len(content):,} bytes, {begin}{'...' if len(content) > SHOWN_BYTES else ''}"


def first_line(error: Exception) -> str:
    """First line of the message: the rest is the library's own debug output, with every header of the request."""
    return str(error).partition("\n")[0]


def _stat_of(found: Mapping[str, Any]) -> ObjectStat:
    written = found["last_modified"].timestamp()
    return ObjectStat(found["size"], written, int(written * 1e9), found["e_tag"] or "")


def _obstore() -> Any:  # noqa: ANN401 - a module of an extra
    try:
        import obstore.store  # noqa: PLC0415 - an extra, and slow to load
    except ImportError as error:
        raise ParameterError(f"objects in a store need obstore, which is not installed: {INSTALL}") from error
    return obstore


def _store(bucket: str) -> Any:  # noqa: ANN401 - of an extra
    return _open_store(bucket, store_variables())


@functools.lru_cache(maxsize=32)
def _open_store(bucket: str, variables: tuple[tuple[str, str], ...]) -> Any:  # noqa: ANN401 - of an extra
    check_variables(variables)
    store = _obstore()
    try:  # it reads the environment itself
        return store.store.from_url(bucket, client_options=store_options(), retry_config=retry_options())
    except (store.exceptions.BaseError, ValueError) as error:
        names = ", ".join(name for name, _ in variables) or "no variable is set"
        raise ParameterError(
            f"{bucket}: no store can be opened with the environment ({names}): {first_line(error)}"
        ) from error
