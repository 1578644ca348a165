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

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file begins with DBN's mark and a complete header."""
        del path
        return dbn.peek_header(head) is not None

    def describe(self, path: Path, head: bytes, options: ReadOptions) -> SourceFile | Problem:
        """The file with what its metadata state; an ignored problem where its schema holds no rows of ours."""
        del options
        header = dbn.peek_header(head)
        if header is None:
            return Problem(str(path), "is no Databento Binary Encoding")
        reason = dbn.skip_reason(header)
        return Problem(str(path), reason, ignored=True) if reason else dbn.source_file(path, head, header)

    def read(self, file: SourceFile, options: ReadOptions) -> list[Batch]:
        """One batch, or for `tbbo` the trades and the quotes before them."""
        return dbn.read_dbn(file.path, options, file.qualifier)
