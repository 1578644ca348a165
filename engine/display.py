"""Display of objects: a few facts and a small table, as text in a terminal and as HTML in a notebook.

Names are hostile text: both forms write out what would be invisible or turn the line around, and HTML is escaped.
"""

from __future__ import annotations

import datetime as dt
import html
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MOST_ROWS = 10
LONGEST_CELL = 40
MINUTE = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class Summary:
    """Short description of an object for display: title, facts and a small table.

    Attributes
    ----------
    title : str
        Type and name of the object.
    facts : mapping of str to object
        In the order to show them; None and empty ones are left out.
    head, rows : sequences
        A table's columns and its rows; `of` is how many there are in all.
    """

    title: str
    facts: Mapping[str, object] = field(default_factory=dict)
    head: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    of: int = 0

    def text(self) -> str:
        """Plain text: title, a line per non-empty fact, aligned table, and `and N more` if `of` exceeds the rows."""
        facts = [f"  {name:<{self._name_width}}  {value}" for name, value in self._facts]
        cells = [[_cell(cell) for cell in row] for row in (self.head, *self.rows)] if self.rows else []
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([visible(self.title), *facts, *table, *([f"  {self._more}"] if self._more else [])])

    def html(self) -> str:
        """Escaped HTML `<div>`: title, non-empty facts, a table if there are rows, `and N more` if `of` exceeds them."""
        facts = "".join(f"<div><b>{html.escape(name)}</b> {html.escape(value)}</div>" for name, value in self._facts)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(cell))}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if self.rows else ""
        more = f"<div>{html.escape(self._more)}</div>" if self._more else ""
        return f"<div><div><strong>{html.escape(visible(self.title))}</strong></div>{facts}{table}{more}</div>"

    @property
    def _facts(self) -> list[tuple[str, str]]:
        return [(name, _cell(value, 2 * LONGEST_CELL)) for name, value in self.facts.items() if value not in (None, "", ())]  # fmt: skip

    @property
    def _name_width(self) -> int:
        return max((len(name) for name, _ in self._facts), default=0)

    @property
    def _more(self) -> str:
        return f"and {self.of - len(self.rows):,} more" if self.of > len(self.rows) else ""


class Summarized:
    """Base of objects whose `repr` and notebook display are made of `_summary()`."""

    def _summary(self) -> Summary:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._summary().text()

    def _repr_html_(self) -> str:
        return self._summary().html()


def visible(text: str) -> str:
    """The text with control, invisible and blank characters, except the plain space, as hexadecimal escapes."""
    return "".join(
        one if one == " " or unicodedata.category(one)[0] not in "CZ" else f"\\u{ord(one):04x}" for one in text
    )


def cut(text: str, most: int = LONGEST_CELL) -> str:
    """The text with invisible characters escaped, truncated to `most` characters, the last one then an ellipsis."""
    seen = visible(text)
    return seen if len(seen) <= most else f"{seen[: most - 1]}…"


def _cell(value: object, most: int = LONGEST_CELL) -> str:
    """Display text: `-` for None, 1,234.50 for floats, minute and zone of instants, else text cut to `most` characters."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, dt.datetime):
        return f"{value:{MINUTE}} {value.tzname() or ''}".rstrip()
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return cut(" ".join(map(str, value)) if isinstance(value, tuple) else str(value), most)
