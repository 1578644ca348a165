"""Read a file of any registered format into batches of conformed rows."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from engine.errors import SourceError
from engine.sources.batch import Batch, SourceFile
from engine.sources.formats.format import format_named
from engine.sources.options import ReadOptions


def read(file: SourceFile, options: ReadOptions | None = None) -> list[Batch]:
    """Read a file into batches, one per kind of rows or zip member; OS and Polars errors are raised as SourceError.

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
        batches = format_named(file.format).read(file, options)
    except OSError as error:
        raise SourceError(file.path, f"cannot be read: {error.strerror or error}") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise SourceError(file.path, f"cannot be read: {error}") from error
    if not file.qualifier:
        return batches
    note = f"{file.qualifier} was appended to the symbols: other files have them of another market"
    return [replace(batch, notes=(*batch.notes, note)) for batch in batches]
