"""Objects of a store that is reached by URL (`s3://bucket/prefix`): which Parquet files there are, and what their footers say.

Credentials, region and endpoint come from where the vendor's own tools look (environment, configuration files, roles); of a
store that is not AWS's, from `AWS_ENDPOINT_URL`.
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
    """A Parquet object: where it is, its size in bytes, and when it was written (nanoseconds since 1970, 0 if unknown)."""

    url: str
    size: int
    written_ns: int


def is_remote(source: str | Path) -> bool:
    """Whether a source is a URL of a store of objects."""
    found = _URL.fullmatch(str(source))
    return found is not None and found["scheme"] in SCHEMES


def remote_files(source: str) -> list[RemoteFile]:
    """List the Parquet objects under a URL, or the one that it names, sorted.

    Raises
    ------
    SourceError
        The store cannot be reached, or there is none.
    """
    url = _normal(source)
    try:
        files, path = _opened(url)
        one = files.get_file_info(path)
        held = (
            [one] if one.is_file else files.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
        )
    except (OSError, ValueError) as error:
        raise SourceError(url, f"cannot be listed: {error}; check credentials, region and AWS_ENDPOINT_URL") from error
    scheme = urlsplit(url).scheme
    found = [
        RemoteFile(f"{scheme}://{info.path}", info.size, info.mtime_ns or 0)
        for info in held if info.is_file and ((info.is_file and info.path == path) or info.path.endswith((".parquet", ".pq")))
    ]  # fmt: skip
    if not found:
        raise SourceError(url, "holds no Parquet object; valid: an object, or a prefix with *.parquet below it")
    return sorted(found)


def remote_metadata(url: str) -> pq.FileMetaData:
    """The footer of a Parquet object.

    Raises
    ------
    SourceError
        It cannot be read.
    """
    try:
        files, path = _opened(url)
        with files.open_input_file(path) as held:
            return pq.ParquetFile(held).metadata
    except (OSError, ValueError) as error:
        raise SourceError(url, f"no Parquet file that can be read: {error}") from error


def _normal(source: str) -> str:
    # A path object makes one slash of two.
    found = _URL.fullmatch(source)
    return f"{found['scheme']}://{found['rest']}" if found else source


def _opened(url: str) -> tuple[Any, str]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if urlsplit(url).scheme == "s3" and endpoint:
        at = urlsplit(endpoint)
        files = pafs.S3FileSystem(
            endpoint_override=at.netloc, scheme=at.scheme, region=os.environ.get("AWS_REGION", "us-east-1")
        )
        return files, url.removeprefix("s3://")
    opened: tuple[Any, str] = pafs.FileSystem.from_uri(url)
    return opened
