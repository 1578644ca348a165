"""Zips in QuantConnect Lean's folder layout: `engine.sources.vendors.lean` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from engine.sources.batch import Batch, Problem, SourceFile
from engine.sources.formats.format import Format
from engine.sources.formats.parquet import MAGIC as PARQUET_MAGIC
from engine.sources.formats.registry import register
from engine.sources.options import ReadOptions
from engine.sources.vendors import lean
from engine.sources.vendors.lean_joint import read_lean_files


@register
class Lean(Format):
    """Zips of Lean's folders, told by their path."""

    name = "lean"
    precedence = 30
    path_states_symbol = True
    other_folders: ClassVar[Mapping[str, str]] = {
        "map_files": "ticker map",
        "factor_files": "adjustment factors",
        "market-hours": "vendor's calendar",
        "symbol-properties": "symbol properties",
    }

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the path follows Lean's folder layout and the bytes are not Parquet's; a damaged zip counts too."""
        return not head.startswith(PARQUET_MAGIC) and lean.source_file(path) is not None

    def describe(self, path: Path, head: bytes, options: ReadOptions) -> SourceFile | Problem:
        """The file as its path alone states it (options are ignored); a Problem outside Lean's layout."""
        del head, options
        return lean.source_file(path) or Problem(str(path), "not in Lean's folder layout")

    def read(self, file: SourceFile, options: ReadOptions) -> list[Batch]:
        """One batch with the rows of the zip's members whose names carry the file's date, or no date."""
        return [lean.read_lean(file.path, options, file.qualifier)]

    def read_together(self, files: Sequence[SourceFile], options: ReadOptions) -> list[list[Batch] | None]:
        """Per file its batch where it has trade bars of one day and instrument, and nothing to tell; else None."""
        if type(self) is not Lean:  # another format may read the same bytes in another way
            return super().read_together(files, options)
        return [None if batch is None else [batch] for batch in read_lean_files(files, options)]
