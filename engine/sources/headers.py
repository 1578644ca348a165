"""Where the header of a delimited text is: below lines of other text, behind `#`, or in two or three lines.

1. `header_line` finds the first line that is plainly a header (stamp and prices among its names, as wide as the next).
2. `column_levels` reads header lines as pandas writes columns of two levels: fields, symbols, and the index's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import SourceError
from engine.sources.columns import has_header, match_columns
from engine.sources.layouts.layout import normalize_name
from engine.sources.options import ReadOptions
from engine.sources.wide_tables import FIELD_NAMES, tuple_name

DELIMITERS = (",", ";", "\t", "|")
MOST_LINES_ABOVE = 50
LEVEL_NAMES = {
    "",
    "price",
    "ticker",
    "tickers",
    "symbol",
    "symbols",
    "attributes",
    "field",
    "fields",
    "date",
    "datetime",
}
QUOTED = r'"(?:[^"]|"")*"'


@dataclass(frozen=True)
class ColumnLevels:
    """Names of columns whose header has several lines, and how many lines it has."""

    names: list[str]
    lines: int


def header_line(lines: Sequence[str], options: ReadOptions) -> int:
    """Index of the header or first row: the first line with stamp and price names, else that is neither blank nor `#`.

    A line that begins with `#` counts if it is a plain header itself and the last of its kind (`#RIC,Date-Time,...`).
    """
    comments = next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if comments and is_plain_header(lines, comments - 1, options):
        return comments - 1
    first = next((at for at in range(comments, len(lines)) if lines[at].strip()), comments)
    if options.header is False or options.columns:
        return first
    after = (at for at in range(first, min(len(lines), first + MOST_LINES_ABOVE)) if lines[at].strip())
    return next((at for at in after if is_plain_header(lines, at, options)), first)


def is_plain_header(lines: Sequence[str], at: int, options: ReadOptions) -> bool:
    """Whether 3+ cells name stamp and prices (or begin column levels), and the next line, if any, is as wide, +- 1."""
    delimiter = options.delimiter or max(DELIMITERS, key=lambda mark: len(split_line(lines[at], mark)))
    names = split_line(lines[at], delimiter)
    below = next((line for line in lines[at + 1 :] if line.strip()), None)
    if len(names) < 3 or not has_header(names):  # noqa: PLR2004  # a stamp, and a price and size at the least
        return False
    if below is not None and len(split_line(below, delimiter)) not in (len(names), len(names) - 1, len(names) + 1):
        return False
    if column_levels(lines[at:], delimiter) is not None:
        return True
    try:
        match_columns(names, options, "")
    except SourceError:
        return False
    return True


def column_levels(lines: Sequence[str], delimiter: str) -> ColumnLevels | None:
    """Names of a header that begins the lines and has one line of fields and one of symbols; None for any other."""
    rows = [split_line(line, delimiter) for line in lines[:3] if line.strip()]
    if len(rows) < 2 or len(rows[0]) != len(rows[1]) or not (has_header(rows[0]) and has_header(rows[1])):  # noqa: PLR2004
        return None
    is_field = [all(normalize_name(cell) in FIELD_NAMES for cell in row[1:]) and len(row) > 1 for row in rows[:2]]
    if is_field[0] == is_field[1] or not all(rows[0][1:]) or not all(rows[1][1:]):
        return None
    has_index = len(rows) > 2 and bool(rows[2][0]) and not any(rows[2][1:]) and len(rows[2]) > 1  # noqa: PLR2004
    if not has_index and not {normalize_name(row[0]) for row in rows[:2]} <= LEVEL_NAMES:
        return None
    fields, symbols = (rows[0], rows[1]) if is_field[0] else (rows[1], rows[0])
    names = [tuple_name(field, symbol) for field, symbol in zip(fields[1:], symbols[1:], strict=True)]
    return ColumnLevels([rows[2][0] if has_index else "", *names], 3 if has_index else 2)


def split_line(line: str, delimiter: str) -> list[str]:
    """Cells of a line, stripped, without outer quotes (doubled ones halved); quoted delimiters do not split."""
    bare = re.sub(QUOTED, lambda quoted: quoted[0].replace(delimiter, "\0"), line) if '"' in line else line
    parts = [part.strip().replace("\0", delimiter) for part in bare.split(delimiter)]
    return [part[1:-1].replace('""', '"') if part[:1] == part[-1:] == '"' and len(part) > 1 else part for part in parts]
