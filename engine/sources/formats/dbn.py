"""Databento Binary Encoding: `engine.sources.vendors.dbn` reads the records."""

from __future__ import annotations

from pathlib import Path

from engine.sources.batch import Batch, Problem, SourceFile
from engine.sources.formats.format import Format
from engine.sources.formats.registry import register
from engine.sources.options import ReadOptions
from engine.sources.vendors import dbn


@register
class Dbn(Format):
    """DBN files, plain or zstandard, told by their first bytes; needs the extra `dbn`."""

    name = "dbn"
    suffixes = (".dbn",)
    precedence = 40
    magic = (dbn.MAGIC,)

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the (unpacked) first bytes hold DBN's mark and at least 26 bytes; the path is ignored."""
        del path
        return dbn.peek_header(head) is not None

    def describe(self, path: Path, head: bytes, options: ReadOptions) -> SourceFile | Problem:
        """The file as its metadata states it; a Problem, `ignored` if the schema has no bars, quotes or trades."""
        del options
        header = dbn.peek_header(head)
        if header is None:
            return Problem(str(path), "is no Databento Binary Encoding")
        unknown = dbn.unknown_reason(header)
        if unknown is not None:
            return Problem(str(path), unknown)
        reason = dbn.skip_reason(header)
        return Problem(str(path), reason, ignored=True) if reason else dbn.source_file(path, head, header)

    def read(self, file: SourceFile, options: ReadOptions) -> list[Batch]:
        """One batch of the schema's kind; for `tbbo` two: trades, and the quotes before them."""
        return dbn.read_dbn(file.path, options, file.qualifier)
