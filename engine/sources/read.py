"""One door from a file to its batches, whatever the format."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from engine.errors import SourceError
from engine.sources import archive
from engine.sources.batch import Batch, SourceFile
from engine.sources.file_names import named
from engine.sources.frames import read_parquet
from engine.sources.ndjson import SUFFIXES, read_ndjson
from engine.sources.options import ReadOptions
from engine.sources.table_rows import Origin
from engine.sources.text import read_text
from engine.sources.vendors.dbn import read_dbn
from engine.sources.vendors.lean import read_lean


def read(file: SourceFile, options: ReadOptions | None = None) -> list[Batch]:
    """Conformed rows of one file.

    Parameters
    ----------
    file : SourceFile
        As `scan` found it.
    options : ReadOptions, optional
        How to read it.

    Returns
    -------
    list of Batch
        One per kind of rows; of a zip of text files, one per member.

    Raises
    ------
    SourceError
        The file cannot be read; the message names file and reason.
    """
    options = options or ReadOptions()
    try:
        return _read(file, options)
    except OSError as error:
        raise SourceError(file.path, f"cannot be read: {error.strerror or error}") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise SourceError(file.path, f"cannot be read: {error}") from error


def _read(file: SourceFile, options: ReadOptions) -> list[Batch]:
    if file.format == "lean":
        return _noted(file, [read_lean(file.path, options, file.qualifier)])
    if file.format == "dbn":
        return _noted(file, read_dbn(file.path, options, file.qualifier))
    if file.format == "parquet":
        return [read_parquet(file.path, options, file.qualifier)]
    return _read_text(file, options)


def _read_text(file: SourceFile, options: ReadOptions) -> list[Batch]:
    digest = archive.sha256(file.path)
    with file.path.open("rb") as opened:
        is_zip = opened.read(4) in (archive.ZIP, archive.EMPTY_ZIP)
    if not is_zip:
        origin = Origin(str(file.path), digest, named(file.path), options, file.qualifier)
        return [_read_lines(archive.content(file.path, options), origin, is_ndjson=file.format == "ndjson")]
    names = archive.member_names(file.path, options)
    blocks = archive.members(file.path, names, options)
    origins = [
        Origin(f"{file.path}!{name}", digest, named(file.path.parent / name), options, file.qualifier) for name in names
    ]
    return [
        _read_lines(block, origin, is_ndjson=options.format == "ndjson" or name.lower().endswith(SUFFIXES))
        for name, block, origin in zip(names, blocks, origins, strict=True)
    ]


def _read_lines(data: bytes, origin: Origin, *, is_ndjson: bool) -> Batch:
    return read_ndjson(data, origin) if is_ndjson else read_text(data, origin)


def _noted(file: SourceFile, batches: list[Batch]) -> list[Batch]:
    if not file.qualifier:
        return batches
    note = f"{file.qualifier} was appended to the symbols: other files have them of another market"
    return [replace(batch, notes=(*batch.notes, note)) for batch in batches]
