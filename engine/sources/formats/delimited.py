"""CSV and its relatives: `engine.sources.text` reads the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.sources import archive
from engine.sources.batch import Batch, SourceFile
from engine.sources.formats.format import TextFormat, formats, has_suffix, is_text
from engine.sources.formats.registry import data_suffixes, register
from engine.sources.joint_text import read_text_files
from engine.sources.options import ReadOptions
from engine.sources.table_rows import Origin
from engine.sources.text import read_text


@register
class Csv(TextFormat):
    """Text with a delimiter between cells, and zips of any text format: the format of whatever no other one claims."""

    name = "csv"
    suffixes = (".csv", ".tsv", ".txt", ".psv", ".dat", ".asc", ".prn")
    precedence = 0

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file is a zip, or has a suffix of any format (or packing) and no NUL in its first bytes."""
        return archive.is_zip(head) or (has_suffix(path, data_suffixes()) and is_text(head))

    def of_member(self, member: str) -> TextFormat:
        """The text format of highest precedence with a suffix that ends the member's name; without, this one."""
        others = (one for one in reversed(formats()) if isinstance(one, TextFormat))
        return next((one for one in others if member.lower().endswith(one.suffixes)), self)

    def read_content(self, data: bytes, origin: Origin) -> Batch:
        """Batch of conformed rows and rejects from the bytes of one delimited text file (`read_text`)."""
        return read_text(data, origin)

    def read_together(self, files: Sequence[SourceFile], options: ReadOptions) -> list[list[Batch] | None]:
        """Per file its batch where its header and lines are those of the first (`joint_text`); else None."""
        if type(self) is not Csv:  # another format may read the same bytes in another way
            return super().read_together(files, options)
        return [None if batch is None else [batch] for batch in read_text_files(files, options)]
