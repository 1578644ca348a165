"""Lay a frame out for a terminal: as a table when it fits, else with fewer columns, else one line per cell.

Cells are data, never markup: a symbol may hold brackets or control characters.
"""

# Rich is imported inside the functions: `engine --help` answers without loading it.

from __future__ import annotations

import datetime as dt
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.printable import escape_unprintable

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console, RenderableType

PIPE_WIDTH = 10_000
TEXT_WIDTH = 16  # text is folded to this width before a column is left out
COLUMN_FRAME = 3  # a border and two blanks
TABLE_FRAME = 4  # lines
FEW_ROWS = 3
MOST_EXACT = 1e15


def print_table(title: str, frame: pl.DataFrame, *, decimals: int | None = 2, upright: bool = False) -> None:
    """Print a frame, even if quiet: columns that do not fit left out; few rows or `upright`: a line per cell; may page.

    Parameters
    ----------
    title : str
        Above it; may be empty.
    frame : DataFrame
    decimals : int, optional
        Of numbers beyond one; nine significant digits and whole numbers in full when None.
    upright : bool
        One line per cell, however wide the terminal is.
    """
    # A pipe has no width to fit: columns are never squeezed there.
    console = stdout_console()
    columns = [TableColumn.of(frame[name], decimals) for name in frame.columns]
    shown, note = fit_columns(columns, console.width)
    few_fit = len(shown) < len(columns) and (len(shown) < min(len(columns), 2) or frame.height <= FEW_ROWS)
    if (upright or few_fit) and frame.height:
        print_paged(console, layout_upright(title, columns), len(columns) * frame.height)
    else:
        print_paged(console, layout_table(title, shown or columns[:1]), frame.height + TABLE_FRAME, note)


def render_table(console: Console, title: str, frame: pl.DataFrame) -> RenderableType:
    """Return a Rich table of the columns that fit the console (at least the first); the others are dropped silently."""
    columns = [TableColumn.of(frame[name], 2) for name in frame.columns]
    return layout_table(title, fit_columns(columns, console.width)[0] or columns[:1])


@dataclass(frozen=True)
class TableColumn:
    """A column as text: name, formatted cells, and `least`, the width it needs."""

    name: str
    cells: list[str]
    is_number: bool
    least: int

    @classmethod
    def of(cls, values: pl.Series, decimals: int | None) -> TableColumn:
        """Format a series as text cells; `least`: width of the widest cell or name, text and list cells count to 16."""
        from rich.cells import cell_len

        name = escape_unprintable(values.name, keep_breaks=False)
        # Of a list, iterating would give a series, which prints as a table of its own.
        cells = [format_cell(value, decimals) for value in (values.to_list() if values.dtype.is_nested() else values)]
        width = max(map(cell_len, [name, *cells]))
        folds = str(values.dtype) in ("String", "Null") or values.dtype.is_nested()
        least = max(min(width, TEXT_WIDTH), cell_len(name)) if folds else width
        return cls(name, cells, values.dtype.is_numeric(), least)

    @property
    def is_constant(self) -> bool:
        """Whether there are more than 3 cells and all are equal."""
        return len(self.cells) > FEW_ROWS and len(set(self.cells)) == 1


def fit_columns(columns: Sequence[TableColumn], width: int) -> tuple[list[TableColumn], str]:
    """(columns that fit, note on the others or ""): if not all fit, constant columns go, then those on the right."""
    if count_fitting(columns, width) == len(columns):
        return list(columns), ""
    # What is the same in every row is said once; of the others, those on the right go.
    constant = [column for column in columns if column.is_constant]
    varying = [column for column in columns if not column.is_constant]
    shown = varying[: count_fitting(varying, width)]
    same = ", ".join(f"{column.name} {column.cells[0] or 'null'}" for column in constant)
    left_out = ", ".join(column.name for column in varying[len(shown) :])
    notes = [f"the same in every row: {same}"] * bool(constant)
    notes += [f"columns left out: {left_out} (a wider terminal, a pipe or --json has them)"] * bool(left_out)
    return shown, "\n".join(notes)


def stdout_console() -> Console:
    """Rich console on standard output: terminal width, else 10,000 columns; unencodable characters are escaped."""
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):
        # What the terminal's encoding lacks is spelled out.
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(highlight=False) if sys.stdout.isatty() else Console(width=PIPE_WIDTH, highlight=False)


def count_fitting(columns: Sequence[TableColumn], width: int) -> int:
    """Number of leading columns whose least widths plus frames fit a width; 0 if not even the first."""
    taken = 1
    for count, column in enumerate(columns):
        taken += column.least + COLUMN_FRAME
        if taken > width:
            return count
    return len(columns)


def layout_table(title: str, columns: Sequence[TableColumn]) -> RenderableType:
    """Rich table, numbers right-aligned, cells folded to at least `least` and never markup; prints nothing."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        table.add_column(Text(column.name), justify=justify, overflow="fold", min_width=column.least)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def layout_upright(title: str, columns: Sequence[TableColumn]) -> RenderableType:
    """Rich grid with a `- number -` line per row, from 1, and below it a name-value line per cell; prints nothing."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify = (Text(title) if title else None), "left"
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for number in range(len(columns[0].cells)):
        table.add_row(Text(f"- {number + 1} -"), Text(""))
        for column in columns:
            table.add_row(Text(column.name), Text(column.cells[number]))
    return table


def print_paged(console: Console, content: RenderableType, lines: int, note: str = "") -> None:
    """Print content and note; content through a pager only if $PAGER is set, on a terminal lower than `lines`."""
    # A pager is for whoever sits there and chose one; `less` would hide what fits.
    if os.environ.get("PAGER") and sys.stdin.isatty() and console.is_terminal and lines > console.height:
        with console.pager(styles=True):
            console.print(content)
    else:
        console.print(content)
    if note:
        console.print(note, markup=False, soft_wrap=True)


def format_cell(value: object, decimals: int | None) -> str:
    """Text of a value: float to `decimals` (below 1: 6 digits; None: 9), UTC with Z, bytes in hex, None empty."""
    if value is None:
        return ""
    if isinstance(value, float):
        if decimals is None:
            return format_number(value)
        return f"{value:.{decimals}f}" if abs(value) >= 1 or value == 0 else f"{value:.6g}"
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.hex()
    return escape_unprintable(str(value), keep_breaks=False)


def tell_apart(frame: pl.DataFrame, a: str, b: str) -> pl.DataFrame:
    """The frame with two columns of numbers as text: nine significant digits, all digits where values differ beyond those.

    Parameters
    ----------
    frame : DataFrame
    a, b : str
        Columns whose values in a row are compared.

    Returns
    -------
    DataFrame
    """
    import polars as pl

    pairs = list(zip(frame[a], frame[b], strict=True))
    texts = [
        [repr(value) if one != other and is_alike(one, other) else format_cell(value, None) for value in (one, other)]
        for one, other in pairs
    ]
    columns = [pl.Series(name, [text[at] for text in texts], pl.String) for at, name in enumerate((a, b))]
    return frame.with_columns(columns)


def is_alike(a: float | None, b: float | None) -> bool:
    """Whether two values have one text of nine significant digits; a null is like no other."""
    return None not in (a, b) and format_cell(a, None) == format_cell(b, None)


def format_number(value: float) -> str:
    """Whole numbers below 1e15 in full, others rounded to nine significant digits."""
    if value.is_integer() and abs(value) < MOST_EXACT:
        return f"{value:.0f}"
    return repr(float(f"{value:.9g}"))
