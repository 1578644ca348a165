"""DuckDB's messages made useful: what is wrong, where in the query, which names were perhaps meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence

Columns = Mapping[str, Sequence[str]]

SHOWN = 3

_UNKNOWN = {
    "table": (r"Table with name (?P<name>.+?) does not exist", r'Referenced table "(?P<name>.+?)" not found'),
    "column": (
        r'Referenced column "(?P<name>.+?)" not found',
        r'does not have a column named "(?P<name>.+?)"',
    ),
}


def reason(error: BaseException) -> str:
    """Say what went wrong, without the stack that DuckDB copies into a message when a file system refuses."""
    text = str(error).strip()
    if text.startswith("Traceback"):
        return text.splitlines()[-1].partition(": ")[2]
    return text


def explain(error: BaseException, query: str, columns: Callable[[], Columns]) -> str:
    """Tell whoever wrote the query what is wrong with it.

    Parameters
    ----------
    error : exception
        DuckDB's, or one of the file system's.
    query : str
        The query.
    columns : callable
        Gives the column names of each table; called only when a name is unknown.
    """
    text = reason(error)
    for kind, patterns in _UNKNOWN.items():
        for pattern in patterns:
            found = re.search(pattern, text)
            if found:
                return _unknown(kind, found["name"].strip('"'), query, columns())
    if text.startswith("Permission Error:") or isinstance(error, PermissionError) or "is refused" in text:
        return f"refused, a query reads the tables and nothing else: {text.removeprefix('Permission Error: ')}"
    return text


def _unknown(kind: str, name: str, query: str, columns: Columns) -> str:
    names = list(columns) if kind == "table" else _columns_in(query, columns)
    meant = _nearest(name, names)
    hint = f"nearest: {', '.join(meant)}" if meant else f"{kind}s: {', '.join(names)}"
    if kind == "column" and f'"{name}"' in query and not meant:
        hint = f"text is written in single quotes: '{name}'; {hint}"
    return f"unknown {kind} {name}; {hint}{_pointed(name, query)}"


def _columns_in(query: str, columns: Columns) -> list[str]:
    words = set(re.findall(r"\w+", query.lower()))
    read = [table for table in columns if table.lower() in words] or list(columns)
    return list(dict.fromkeys(column for table in read for column in columns[table]))


def _nearest(name: str, names: Sequence[str]) -> list[str]:
    spelled = {known.lower(): known for known in names}
    return [spelled[word] for word in difflib.get_close_matches(name.lower(), list(spelled), n=SHOWN)]


def _pointed(name: str, query: str) -> str:
    # DuckDB gives no place for a name it does not know. What stands in a string is not the name.
    blanked = re.sub(r"'[^']*'", lambda quoted: " " * len(quoted[0]), query)
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", blanked, re.IGNORECASE)
    if found is None:
        return ""
    before = query[: found.start()]
    line = before.count("\n")
    label = f"LINE {line + 1}: "
    indent = len(label) + found.start() - (before.rfind("\n") + 1)
    return f"\n{label}{query.splitlines()[line]}\n{' ' * indent}{'^' * len(name)}"
