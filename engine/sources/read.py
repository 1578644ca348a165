"""Read a file of any registered format into batches of conformed rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import polars as pl

from engine.arguments import list_names
from engine.errors import EngineError, IntervalError, ParameterError, SourceError
from engine.panics import hide_panics
from engine.sources.batch import Batch, SourceFile
from engine.sources.formats.format import format_named, read_file
from engine.sources.frames import from_frame
from engine.sources.options import ReadOptions

T = TypeVar("T")


def read(file: SourceFile, options: ReadOptions | None = None) -> list[Batch]:
    """Read a file into batches, one per kind of rows or zip member; SourceError, or ParameterError for a wrong option.

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
    if file.given_symbol is not None:
        options = replace(options, symbol=file.given_symbol)

    def read_rows() -> list[Batch]:
        if file.frame is not None:
            return [from_frame(file.frame, options=options, source=str(file.path))]
        return [one.shifted(options.offset) for one in read_file(format_named(file.format), file, options)]

    batches = contained(file.path, read_rows)
    if file.given_symbol is not None:
        check_given_symbol(file, batches)
    if not file.qualifier:
        return batches
    note = f"{file.qualifier} was appended to the symbols: other files have them of another market"
    return [replace(batch, notes=(*batch.notes, note)) for batch in batches]


def read_all(files: Sequence[SourceFile], options: ReadOptions) -> list[list[Batch] | SourceError]:
    """Per file the batches of `read`, or the SourceError that it raised; files of one layout in one pass where that works.

    Parameters
    ----------
    files : sequence of SourceFile
        Of one format, several only if they are small (`joint_parts.joint_groups`).
    options : ReadOptions
    """
    together: list[list[Batch] | None] = [None] * len(files)
    if len(files) > 1:
        file_format = format_named(files[0].format)
        # What fails together is read, and named, file by file.
        with suppress(SourceError):
            together = contained(files[0].path, lambda: file_format.read_together(files, options))

    def read_alone(file: SourceFile) -> list[Batch] | SourceError:
        try:
            return read(file, options)
        except SourceError as error:
            return error

    return [
        read_alone(file) if batches is None else [batch.shifted(options.offset) for batch in batches]
        for file, batches in zip(files, together, strict=True)
    ]


def contained(path: Path, act: Callable[[], T]) -> T:
    """Result of an act on one file; what it raises becomes its SourceError, but ParameterError and MemoryError stay.

    A `ParameterError` that is no `IntervalError` concerns an option, hence all files, and is raised as it is; so is
    what concerns the process: `MemoryError`, interrupts.

    Raises
    ------
    SourceError
        The act failed for any reason that lies in the file, or in this package.
    """
    try:
        with hide_panics():
            return act()
    except (SourceError, MemoryError):
        raise
    except OSError as error:
        raise SourceError(path, f"cannot be read: {error.strerror or error}") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise SourceError(path, f"cannot be read: {error}") from error
    except EngineError as error:
        if isinstance(error, ParameterError) and not isinstance(error, IntervalError):
            raise
        raise SourceError(path, str(error)) from error
    except Exception as error:  # one bad entry never ends the run; the cause is named and chained
        raise SourceError(
            path, f"cannot be read: unexpected {type(error).__name__}: {error} (a defect of engine; please report it)"
        ) from error


def check_given_symbol(file: SourceFile, batches: Sequence[Batch]) -> None:
    """SourceError if rows have another symbol than `given_symbol` (not None): Lean and DBN state their own."""
    names = {name.removesuffix(file.qualifier) for one in batches for name in one.frame["symbol"].unique()}
    others = sorted(names - {file.given_symbol})
    if others:
        raise SourceError(
            file.path, f"its rows are of {list_names(others)}, not of {file.given_symbol!r}; give the path alone"
        )
