"""Parquet: `engine.sources.frames` reads the table."""

from __future__ import annotations

from pathlib import Path

from engine.sources.batch import Batch, SourceFile
from engine.sources.formats.format import Format
from engine.sources.formats.registry import register
from engine.sources.frames import read_parquet
from engine.sources.options import ReadOptions

MAGIC = b"PAR1"


@register
class Parquet(Format):
    """Parquet files with typed columns, told by their first bytes."""

    name = "parquet"
    suffixes = (".parquet", ".pq")
    precedence = 20
    magic = (MAGIC,)

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file begins with Parquet's mark `PAR1`; its name is ignored."""
        del path
        return head.startswith(MAGIC)

    def read(self, file: SourceFile, options: ReadOptions) -> list[Batch]:
        """One batch of conformed rows; columns that match no role are not read."""
        return [read_parquet(file.path, options, file.qualifier)]
