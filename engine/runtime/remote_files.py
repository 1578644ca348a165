"""Parquet files in an object store, by URL (`s3://bucket/prefix`): their list and their footers.

Credentials, region and endpoint come from the places that the vendor's own tools read: environment, configuration
files, instance roles; `AWS_ENDPOINT_URL` names another S3-compatible store.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from engine.errors import SourceError

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
_URL = re.compile(r"(?P<scheme>\w+):/{1,2}(?P<rest>.+)")


class RemoteFile(NamedTuple):
    """A Parquet object: URL, size in bytes, time of writing (nanoseconds since 1970, 0 if unknown)."""

    url: str
    size: int
    written_ns: int


def is_remote(source: str | Path) -> bool:
    """Whether a source is a URL of an object store: `s3`, `gs`, `gcs`, `abfs` or `abfss`, with one slash or two."""
    found = _URL.fullmatch(str(source))
    return found is not None and found["scheme"] in SCHEMES


def remote_files(source: str) -> list[RemoteFile]:
    """List Parquet objects (`.parquet`, `.pq`) below a URL, or the object it names, sorted; SourceError if none.

    Raises
    ------
    SourceError
        The store cannot be reached, or there is none.
    """
    # A path object makes one slash of two.
    parts = _URL.fullmatch(source)
    url = f"{parts['scheme']}://{parts['rest']}" if parts else source
    try:
        files, path = open_object_store(url)
        named = files.get_file_info(path)
        below = pafs.FileSelector(path, recursive=True, allow_not_found=True)
        infos = [named] if named.is_file else files.get_file_info(below)
    except (OSError, ValueError) as error:
        raise SourceError(url, f"cannot be listed: {error}; check credentials, region and AWS_ENDPOINT_URL") from error
    scheme = urlsplit(url).scheme
    found = [
        RemoteFile(f"{scheme}://{info.path}", info.size, info.mtime_ns or 0)
        for info in infos
        if info.is_file and (info.path == path or info.path.endswith((".parquet", ".pq")))
    ]
    if not found:
        raise SourceError(url, "holds no Parquet object; valid: an object, or a prefix with *.parquet below it")
    return sorted(found)


def remote_metadata(url: str) -> pq.FileMetaData:
    """Parquet metadata from the footer of an object; SourceError when it cannot be read.

    Raises
    ------
    SourceError
        It cannot be read.
    """
    try:
        files, path = open_object_store(url)
        with files.open_input_file(path) as file:
            return pq.ParquetFile(file).metadata
    except (OSError, ValueError) as error:
        raise SourceError(url, f"no Parquet file that can be read: {error}") from error


def open_object_store(url: str) -> tuple[Any, str]:
    """(Arrow file system, path) of a URL, `s3` at `AWS_ENDPOINT_URL` if set; ValueError for an unknown scheme."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if urlsplit(url).scheme == "s3" and endpoint:
        at = urlsplit(endpoint)
        files = pafs.S3FileSystem(
            endpoint_override=at.netloc, scheme=at.scheme, region=os.environ.get("AWS_REGION", "us-east-1")
        )
        return files, url.removeprefix("s3://")
    opened: tuple[Any, str] = pafs.FileSystem.from_uri(url)
    return opened
