"""Base classes of file formats: how a file is recognized, described and read.

To add a format, put one module into this folder with one class that `registry.register` decorates: a `TextFormat`
where the bytes of a file (or of a member of a zip) make one table, a `Format` where a file is opened another way.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import ClassVar, cast

import polars as pl

from engine.arguments import describe_value
from engine.errors import ParameterError, PluginError, SourceError
from engine.plugins import PluginWarning
from engine.schema import REJECTS, ROWS
from engine.sources import archive
from engine.sources.batch import Batch, Problem, SourceFile
from engine.sources.encodings import encoding_of, to_utf8
from engine.sources.file_names import member_facts, parse_path, symbol_conflict
from engine.sources.formats import registry
from engine.sources.options import ReadOptions
from engine.sources.table_rows import Origin

OTHER_NAMES = ("readme", "license", "licence", "notice", "changelog")
OTHER_SUFFIXES = (".md", ".pdf", ".html", ".htm", ".png", ".jpg", ".sha256", ".md5", ".checksum", ".xml")


class Format(registry.Registered, ABC):
    """A file format.

    Attributes
    ----------
    name : str
        As `--format` takes it.
    suffixes : tuple of str
        In small letters, with the dot; a file in a folder is data only with a suffix of some format.
    precedence : int
        Formats of higher precedence are tried first. `csv` has 0, as it accepts any text.
    path_states_symbol : bool
        The path alone decides the symbol, so that files of other symbols are never opened.
    other_folders : mapping of str to str
        Folders that belong to the format and hold no market data, with what they hold.
    magic : tuple of bytes
        Marks that its files begin with, one of them; empty for text. A file with such a format's suffix and another
        beginning is named as damaged.
    """

    path_states_symbol: ClassVar[bool] = False
    other_folders: ClassVar[Mapping[str, str]] = {}
    magic: ClassVar[tuple[bytes, ...]] = ()

    @abstractmethod
    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether a file has this format, judged by its first (unpacked) bytes and its path; nothing else is read."""

    def describe(self, path: Path, head: bytes, options: ReadOptions) -> SourceFile | Problem:
        """The file with symbol, interval, side by option, else by name; `kind` stays None and `head` is ignored."""
        del head
        stated = parse_path(path, options)
        return SourceFile(
            path=path,
            format=self.name,
            interval=options.interval or stated.interval,
            symbol=options.symbol or stated.symbol,
            price_type=options.price_type or stated.price_type,
            market=stated.market,
        )

    @abstractmethod
    def read(self, file: SourceFile, options: ReadOptions) -> list[Batch]:
        """Batches of conformed rows of a file, one per kind of rows and zip member; SourceError if unreadable.

        Raises
        ------
        SourceError
            The file cannot be read; the message names file and reason.
        """

    def read_together(self, files: Sequence[SourceFile], options: ReadOptions) -> list[list[Batch] | None]:
        """Per file its batches where it can be read with the others, equal to those of `read`; None: read it alone."""
        del options
        return [None] * len(files)


class TextFormat(Format):
    """A format whose files are text: plain, gzip, zstandard, or members of a zip."""

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file has one of this format's suffixes, is no zip, and has no NUL in its first bytes."""
        return not archive.is_zip(head) and is_text(head) and has_suffix(path, self.suffixes)

    @abstractmethod
    def read_content(self, data: bytes, origin: Origin) -> Batch:
        """One batch of conformed rows and rejects from the unpacked bytes of one file or of one member of a zip.

        Raises
        ------
        SourceError
            The text is not of this format, or columns, symbol, zone or unit are not known.
        """

    def of_member(self, member: str) -> TextFormat:
        """The format that reads a member of a zip: always this one; `Csv` overrides it by suffix."""
        del member
        return self

    def read(self, file: SourceFile, options: ReadOptions) -> list[Batch]:
        """One batch; of a zip one per readable member, in stored order, the first with the problems of the others."""
        sha256 = archive.sha256(file.path)
        with file.path.open("rb") as opened:
            is_zip = archive.is_zip(opened.read(4))
        if not is_zip:
            origin = Origin(str(file.path), sha256, parse_path(file.path, options), options, file.qualifier)
            return [self.read_bytes(archive.content(file.path, options), origin)]
        names = archive.member_names(file.path, options)
        members = [name for name in names if is_member_data(name)]
        others = [name for name in names if name not in members]
        notes = (f"members left out, no data files by their names: {', '.join(others)}",) if others else ()
        if not members:
            raise SourceError(file.path, f"holds no data file ({', '.join(names) or 'no member'})")
        facts = {name: member_facts(file.path, name, options) for name in members}
        conflict = symbol_conflict(options.symbol, [(name, facts[name].symbol) for name in members])
        if conflict is not None:
            raise SourceError(file.path, conflict)
        batches, problems = [], []
        for name, block in zip(members, archive.members_or_errors(file.path, members, options), strict=True):
            source = f"{file.path}!{name}"
            origin = Origin(source, sha256, facts[name], options, file.qualifier, notes)
            try:
                if isinstance(block, SourceError):
                    raise block
                batches.append(self.of_member(name).read_bytes(block, origin))
            except (SourceError, pl.exceptions.PolarsError) as error:
                reason = error.reason if isinstance(error, SourceError) else f"cannot be read: {error}"
                problems.append(Problem(source, reason))
        if not batches:
            raise SourceError(problems[0].path, problems[0].reason)
        return [replace(batches[0], problems=tuple(problems)), *batches[1:]]

    def read_bytes(self, data: bytes, origin: Origin) -> Batch:
        """`read_content` of the bytes as UTF-8; a note names another encoding; SourceError for packed data or no text.

        Raises
        ------
        SourceError
            As `read_content`, or the bytes are UTF-32, packed again or no text.
        """
        packing = archive.packing_of(data) or ("zip" if archive.is_zip(data) else None)
        if packing:
            raise SourceError(origin.source, f"holds packed data ({packing}); unpack it once")
        text, notes = to_utf8(data, origin.source)
        return self.read_content(text, replace(origin, notes=(*origin.notes, *notes)))


def formats() -> tuple[Format, ...]:
    """All registered formats by ascending precedence; the last one is tried first on a file."""
    return cast("tuple[Format, ...]", registry.registered())


def format_named(name: str) -> Format:
    """The registered format of this name; ParameterError that lists the valid names when there is none.

    Raises
    ------
    ParameterError
        There is no such format.
    """
    for one in formats():
        if one.name == name:
            return one
    raise ParameterError(f"format: received {name!r}; valid: {', '.join(registry.format_names())}")


def sniff_format(head: bytes, path: Path) -> Format | None:
    """The format of highest precedence whose `sniff` accepts the file; None when none does."""
    return next((one for one in reversed(formats()) if sniffs(one, head, path)), None)


def sniffs(file_format: Format, head: bytes, path: Path) -> bool:
    """Whether a format accepts a file; one of a plug-in that fails does not, with a warning that names the plug-in."""
    try:
        return registry.call_format(file_format.name, lambda: bool(file_format.sniff(head, path)))
    except PluginError as error:
        warnings.warn(f"{path}: {error}; its format is not tried", PluginWarning, stacklevel=2)
        return False


def describe_file(file_format: Format, path: Path, head: bytes, options: ReadOptions) -> SourceFile | Problem:
    """The file as a format describes it; of a plug-in PluginError for a failure, or for anything else it returns."""

    def described() -> SourceFile | Problem:
        found: object = file_format.describe(path, head, options)
        if isinstance(found, SourceFile | Problem):
            return found
        raise TypeError(f"describe returned {describe_value(found)}; valid: a SourceFile or a Problem")

    return registry.call_format(file_format.name, described)


def read_file(file_format: Format, file: SourceFile, options: ReadOptions) -> list[Batch]:
    """Batches of a file by its format; of a plug-in PluginError for a failure, or for what is no list of batches."""

    def batches() -> list[Batch]:
        found: object = file_format.read(file, options)
        if not isinstance(found, list):
            raise TypeError(f"read returned {describe_value(found)}; valid: a list of batches")
        for one in found:
            check_batch(one)
        return found

    return registry.call_format(file_format.name, batches)


def check_batch(batch: object) -> None:
    """TypeError unless it is a Batch whose rows and rejects have the columns of its kind.

    Raises
    ------
    TypeError
        It is none, or lacks columns; the message has the valid ones.
    """
    if not isinstance(batch, Batch) or batch.kind not in ROWS:
        received = f"a batch of {batch.kind!r}" if isinstance(batch, Batch) else describe_value(batch)
        raise TypeError(f"read returned {received}; valid: a Batch of {', '.join(ROWS)}")
    for name, columns in (("frame", (*ROWS[batch.kind], "row")), ("rejects", tuple(REJECTS))):
        frame = getattr(batch, name)
        absent = [column for column in columns if not isinstance(frame, pl.DataFrame) or column not in frame.columns]
        if absent:
            raise TypeError(f"{name} of a batch lacks {', '.join(absent)}; valid: {', '.join(columns)}")


def has_suffix(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether any of a file's suffixes, in lower case (`.csv` and `.gz` of `SPY.CSV.gz`), is among these."""
    return any(suffix.lower() in suffixes for suffix in path.suffixes)


def is_text(head: bytes) -> bool:
    """Whether the first bytes are text of an encoding that `encodings` tells; UTF-32 too, which the reader refuses."""
    return encoding_of(head) is not None


def is_member_data(name: str) -> bool:
    """Whether a zip's member is data by its name: not hidden, of macOS, about the data, or a picture or such."""
    path = PurePosixPath(name)
    is_other = path.name.startswith(".") or "__MACOSX" in path.parts or path.stem.lower().startswith(OTHER_NAMES)
    return not is_other and path.suffix.lower() not in OTHER_SUFFIXES
