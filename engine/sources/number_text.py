"""Numbers written as text: other decimal marks, marks between thousands, and proposals for columns that do not read.

`plain_number` turns a cell into text with a decimal point as the options `decimal` and `thousands` say. A column that
does not read is tried with other marks (`propose_marks`): a message proposes what reads every such cell of the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from engine.sources.options import ReadOptions

BLANKS = "[\u00a0\u2009\u202f]"  # no-break, thin: between thousands they stand for a blank
NUMBER_LIKE = "^[-+]?[0-9][0-9.,'\u2019_ \u00a0\u2009\u202f]*$"
CURRENCY = r"^\s*(?:[$€£¥]\s*[\d.,]+|[\d.,]+\s*[$€£¥])\s*$"
FEW = 3  # cells of a spelling, below which they are damaged rather than written so


class Marks(NamedTuple):
    """Marks of a spelling of numbers: decimal point or comma, and what stands between thousands (None: nothing)."""

    decimal: str
    thousands: str | None

    @property
    def options(self) -> str:
        """Command-line options that state these marks."""
        parts = [f"--decimal {self.decimal}"] if self.decimal != "." else []
        parts += [f"--thousands {shell_text(self.thousands)}"] if self.thousands else []
        return " ".join(parts)


PLAIN = Marks(".", None)
SPELLINGS = tuple(  # the simplest first
    Marks(decimal, thousands)
    for thousands in (",", None, ".", " ", "'", "\u2019", "_")
    for decimal in (".", ",")
    if decimal != thousands and (decimal, thousands) != PLAIN
)


def shell_text(text: str) -> str:
    """The text as a shell takes it: in quotes where it has other than letters, digits and `,.-_/`."""
    return text if re.fullmatch(r"[\w,.\-/]+", text) else f'"{text}"' if text == "'" else f"'{text}'"


def marks_of(options: ReadOptions) -> Marks:
    """Marks that the options state."""
    return Marks(options.decimal, options.thousands)


def plain_number(cell: pl.Expr, marks: Marks) -> pl.Expr:
    """Text to cast to a number: stripped, decimal point, no marks between thousands; blank is null, other text stays.

    Marks between thousands are taken out where groups of three digits follow them up to the decimal mark, so that
    `1,5` is no 15.
    """
    cell = cell.str.strip_chars().replace("", None)
    if marks.thousands is not None:
        if marks.thousands == " ":
            cell = cell.str.replace_all(BLANKS, " ")
        between, point = re.escape(marks.thousands), re.escape(marks.decimal)
        is_grouped = cell.str.contains(rf"^[-+]?\d{{1,3}}(?:{between}\d{{3}})+(?:{point}\d*)?$")
        cell = pl.when(is_grouped).then(cell.str.replace_all(marks.thousands, "", literal=True)).otherwise(cell)
    if marks.decimal == ",":
        cell = pl.when(~cell.str.contains(".", literal=True)).then(cell.str.replace(",", ".", literal=True))
    return cell


def read_number(cell: pl.Expr, marks: Marks) -> pl.Expr:
    """Float64 of text in this spelling; null where it is none."""
    return plain_number(cell, marks).cast(pl.Float64, strict=False)


def unread_cells(cells: pl.Series, marks: Marks) -> pl.Series:
    """Texts of a String column, stripped, that are neither blank nor numbers of this spelling."""
    text = pl.col(cells.name).str.strip_chars()
    is_unread = read_number(text, marks).is_null() & (text != "")
    return cells.to_frame().select(text.filter(is_unread))[cells.name]


def propose_marks(columns: Sequence[pl.Series], marks: Marks) -> list[Marks]:
    """Spellings that read all number-like cells of the columns that `marks` does not, and lose none that it reads.

    Parameters
    ----------
    columns : sequence of Series of String
        Columns of numbers, whole.
    marks : Marks
        Those that the columns were read with.

    Returns
    -------
    list of Marks
        The simplest of those that read the same numbers; empty where nothing reads them.
    """
    found: list[tuple[Marks, pl.DataFrame]] = []
    for spelling in SPELLINGS:
        if all(reads_more(cells, spelling, marks) for cells in columns):
            read = pl.DataFrame(
                cells.to_frame().select(read_number(pl.col(cells.name), spelling))[cells.name] for cells in columns
            )
            if not any(read.equals(other) for _, other in found):
                found.append((spelling, read))
    return [spelling for spelling, _ in found]


def reads_more(cells: pl.Series, spelling: Marks, marks: Marks) -> bool:
    """Whether `spelling` reads all cells of a column that `marks` reads, and all others that look like numbers."""
    text = pl.col(cells.name)
    due = read_number(text, marks).is_not_null() | text.str.strip_chars().str.contains(NUMBER_LIKE)
    lost = (due & read_number(text, spelling).is_null()).any()
    return not cells.to_frame().select(lost.alias("lost"))["lost"][0]
