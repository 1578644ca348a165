"""DuckDB's messages made useful: what is wrong, where in the query, which names were perhaps meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence

Columns = Mapping[str, Sequence[str]]

SUGGESTIONS = 3
STACK_TRACE = "\n\nStack Trace:"
RAISED = re.compile(r"[A-Za-z_.]+(Error|Exception): ")

UNKNOWN_NAME = {
    "table": (r"Table with name (?P<name>.+?) does not exist", r'Referenced table "(?P<name>.+?)" not found'),
    "column": (
        r'Referenced column "(?P<name>.+?)" not found',
        r'does not have a column named "(?P<name>.+?)"',
    ),
}


def error_text(error: BaseException) -> str:
    """Message of an error, stripped; of a Python traceback the last line's, of DuckDB's internal errors no stack trace."""
    # A stack trace names the folders of the installation, and nothing that the author of a query can use.
    text = str(error).partition(STACK_TRACE)[0].strip()
    if text.startswith("Traceback"):
        # DuckDB adds the line of the statement below it.
        raised = [line for line in text.splitlines() if RAISED.match(line)]
        return raised[-1].partition(": ")[2] if raised else text.splitlines()[-1]
    return text


def explain_error(error: BaseException, query: str, columns_by_table: Callable[[], Columns]) -> str:
    """Error message for a query's author: place and nearest names of an unknown name, a refusal, or DuckDB's text.

    Parameters
    ----------
    error : exception
        DuckDB's, or one of the file system's.
    query : str
        The query.
    columns_by_table : callable
        Gives the column names of each table; called only when a name is unknown.
    """
    text = error_text(error)
    for kind, patterns in UNKNOWN_NAME.items():
        for pattern in patterns:
            match = re.search(pattern, text)
            if match:
                return unknown_name(kind, match["name"].strip('"'), query, columns_by_table())
    if text.startswith("Permission Error:") or isinstance(error, PermissionError) or "is refused" in text:
        return f"refused, a query reads the tables and nothing else: {text.removeprefix('Permission Error: ')}"
    return text


def unknown_name(kind: str, name: str, query: str, columns: Columns) -> str:
    """Message on an unknown table or column: up to 3 nearest names (of the query's tables), else all, and its line."""
    names = list(columns)
    if kind == "column":
        words = set(re.findall(r"\w+", query.lower()))
        tables = [table for table in columns if table.lower() in words] or list(columns)
        names = list(dict.fromkeys(column for table in tables for column in columns[table]))
    by_lower_case = {known.lower(): known for known in names}
    nearest = [
        by_lower_case[word] for word in difflib.get_close_matches(name.lower(), list(by_lower_case), n=SUGGESTIONS)
    ]
    hint = f"nearest: {', '.join(nearest)}" if nearest else f"{kind}s: {', '.join(names)}"
    if kind == "column" and f'"{name}"' in query and not nearest:
        hint = f"text is written in single quotes: '{name}'; {hint}"
    return f"unknown {kind} {name}; {hint}{line_with_caret(name, query)}"


def line_with_caret(name: str, query: str) -> str:
    """Newline, `LINE n: `, the query's first line with that word (not in text), carets below it; empty if absent."""
    # DuckDB gives no place for a name it does not know. What stands in a string is not the name.
    without_strings = re.sub(r"'[^']*'", lambda quoted: " " * len(quoted[0]), query)
    match = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", without_strings, re.IGNORECASE)
    if match is None:
        return ""
    before = query[: match.start()]
    line = before.count("\n")
    label = f"LINE {line + 1}: "
    indent = len(label) + match.start() - (before.rfind("\n") + 1)
    return f"\n{label}{query.splitlines()[line]}\n{' ' * indent}{'^' * len(name)}"
