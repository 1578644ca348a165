"""Files that a query needs, chosen before DuckDB sees the list of them: DuckDB 2.0 opens every file of a list, twice.

1. A second DuckDB has tables of the same names and columns without rows (`planning_catalog`). Its plan of the query
   names the filters of each scan; that it has no rows changes none of them (`PLANNING_SETTINGS`).
2. `chosen_files` compares them with the bounds that the export's log has of each file. What it cannot read chooses all files.
3. `narrowed_catalog` has views over the chosen files alone. Where a query needs only the number of rows, the log says it.

Loads DuckDB alone.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any

import duckdb

from engine.query.request import Catalog, ListedTable

# Both draw conclusions from tables being empty, which the real ones are not.
PLANNING_SETTINGS = ("SET disabled_optimizers='statistics_propagation,empty_result_pullup'",)
TOKEN = re.compile(r"\s*('(?:[^']|'')*'|\w+|<=|>=|::|\S)")
DATE = re.compile(r"\d{4}-\d\d-\d\d")
HELPER_NAME = re.compile(r"CREATE (?:VIEW|MACRO) (\w+)")
PASSING = ("PROJECTION", "STREAMING_LIMIT", "LIMIT")  # operators that leave rows in the order of the files
COMPARED: Mapping[str, Callable[[Any, Any, Any], bool]] = {
    "=": lambda low, high, value: low <= value <= high,
    "<": lambda low, _, value: low < value,
    "<=": lambda low, _, value: low <= value,
    ">": lambda _, high, value: high > value,
    ">=": lambda _, high, value: high >= value,
}

Node = Mapping[str, Any]
Chosen = list[bool] | None  # by file; None: all of them


class UnreadableFilterError(Exception):
    """A filter is of another form than those that are compared with bounds."""


def planning_catalog(catalog: Catalog) -> Catalog:
    """Catalog of empty tables in place of those that have many files."""
    listed = {name for table in catalog.listed.values() for name in table.names}
    empty = {name: f'CREATE TABLE "{name}" AS {table.nulls} WHERE false' for name, table in catalog.listed.items()}
    files = {name: path for name, path in catalog.files.items() if name not in listed}
    sizes = {name: size for name, size in catalog.sizes.items() if name not in listed}
    return Catalog(files, {**catalog.views, **empty}, catalog.helpers, sizes)


def narrowed_catalog(catalog: Catalog, planner: duckdb.DuckDBPyConnection, query: str) -> Catalog:
    """Catalog with views over the files that a query needs; over all of them where its plan does not tell.

    Parameters
    ----------
    catalog : Catalog
    planner : DuckDBPyConnection
        Of `planning_catalog`.
    query : str
    """
    plan = plan_of(planner, query)
    views, files = dict(catalog.views), dict(catalog.files)
    for name, table in catalog.listed.items():
        if plan is not None and needs_only_rows(plan, name):
            views[name], names = f'CREATE VIEW "{name}" AS {table.nulls} FROM range({sum(table.rows)})', []
        else:
            names = needed_names(catalog, name, plan, query)
            views[name] = table.view_over(names)
        for gone in set(table.names).difference(names):
            del files[gone]
    return replace(catalog, files=files, views=views, listed={})


def plan_of(planner: duckdb.DuckDBPyConnection, query: str) -> list[Node] | None:
    """Physical plan of one SELECT; None for any other text, and where it cannot be planned, which running it explains."""
    try:
        (statement,) = planner.extract_statements(query)
        if statement.type.name != "SELECT":
            return None
        ((_, text),) = planner.execute(f"EXPLAIN (FORMAT JSON) {query}").fetchall()
        plan = json.loads(text)
    except (duckdb.Error, ValueError):
        return None
    return plan if isinstance(plan, list) else None


def needed_names(catalog: Catalog, name: str, plan: list[Node] | None, query: str) -> list[str]:
    """Names of the files of a table that a query needs, in their order."""
    table = catalog.listed[name]
    if plan is None:
        return list(table.names)
    scans = list(scans_of(plan, name))
    if not scans:
        # Not in the plan: because nobody asks for it, or because DuckDB saw that none of its rows matters.
        helpers = [found[1] for found in map(HELPER_NAME.match, catalog.helpers) if found]
        is_mentioned = any(word.casefold() in query.casefold() for word in (name, *helpers))
        return list(table.names) if is_mentioned else list(table.names[:1])
    limit = limit_of(plan)
    if limit is not None:
        before = accumulate(table.rows, initial=0)
        return [file for file, rows in zip(table.names, before, strict=False) if rows < max(limit, 1)]
    chosen = any_of([chosen_files(table, filters_of(scan)) for scan in scans])
    return (
        [file for file, is_chosen in zip(table.names, chosen, strict=True) if is_chosen] if chosen else [*table.names]
    )


def nodes_of(nodes: list[Node]) -> Iterator[Node]:
    """Yield all operators of a plan."""
    for node in nodes:
        yield node
        yield from nodes_of(node.get("children", []))


def scans_of(plan: list[Node], name: str) -> Iterator[Mapping[str, Any]]:
    """Yield what the plan says of each scan of a table: `Table`, `Projections`, `Filters`."""
    for node in nodes_of(plan):
        about = node.get("extra_info", {})
        if about.get("Table") == f"memory.main.{name}":
            yield about


def filters_of(scan: Mapping[str, Any]) -> list[str]:
    """Filters of a scan, each of which all of its rows pass."""
    filters = scan.get("Filters") or []
    return [filters] if isinstance(filters, str) else list(filters)


def needs_only_rows(plan: list[Node], name: str) -> bool:
    """Whether a table is read in the plan, and none of its columns."""
    scans = list(scans_of(plan, name))
    return bool(scans) and all(scan.get("Projections") == "" and not filters_of(scan) for scan in scans)


def limit_of(plan: list[Node]) -> int | None:
    """How many rows a plan takes from the beginning of the one table that it reads without a filter; None for other plans."""
    limit, nodes = None, plan
    while len(nodes) == 1 and nodes[0].get("name") in PASSING:
        about = nodes[0].get("extra_info", {})
        if "Limit" in about:
            if limit is not None or "Offset" in about or not str(about["Limit"]).isdecimal():
                return None
            limit = int(about["Limit"])
        nodes = nodes[0].get("children", [])
    is_plain = len(nodes) == 1 and not nodes[0].get("children") and not filters_of(nodes[0].get("extra_info", {}))
    return limit if is_plain else None


def chosen_files(table: ListedTable, filters: list[str]) -> Chosen:
    """Files that may hold a row that passes all filters."""
    return all_of([Condition(table, text).files() for text in filters])


def all_of(parts: list[Chosen]) -> Chosen:
    """Files that each of the parts chooses."""
    known = [part for part in parts if part is not None]
    return [all(flags) for flags in zip(*known, strict=True)] if known else None


def any_of(parts: list[Chosen]) -> Chosen:
    """Files that one of the parts chooses."""
    known = [part for part in parts if part is not None]
    return [any(flags) for flags in zip(*known, strict=True)] if len(known) == len(parts) and parts else None


class Condition:
    """A filter as a plan writes it, compared with the bounds of files: `((symbol = 'A') AND (session < '2024-03-01'::DATE))`.

    Parameters
    ----------
    table : ListedTable
    text : str
    """

    def __init__(self, table: ListedTable, text: str) -> None:
        self._table = table
        # The same condition stands above the scan, too: it is optional for the scan, not for the rows.
        self._tokens = TOKEN.findall(text.removeprefix("optional: "))
        self._at = 0

    def files(self) -> Chosen:
        """Files that may hold a row for which it is true."""
        try:
            chosen = self._condition()
        except (UnreadableFilterError, IndexError):
            return None
        return chosen if self._at == len(self._tokens) else None

    def _next(self) -> str:
        self._at += 1
        return str(self._tokens[self._at - 1])

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise UnreadableFilterError

    def _condition(self) -> Chosen:
        begin = self._at
        try:
            return self._joined() if self._tokens[self._at] == "(" else self._comparison()
        except UnreadableFilterError:
            self._at = begin
            self._skip_parentheses()
            return None

    def _skip_parentheses(self) -> None:
        """Go on after the parenthesis that closes the one that opens here."""
        self._expect("(")
        depth = 1
        while depth:
            depth += {"(": 1, ")": -1}.get(self._next(), 0)

    def _joined(self) -> Chosen:
        self._expect("(")
        parts = [self._condition()]
        word = self._next()
        while self._tokens[self._at - 1] == word in ("AND", "OR"):
            parts.append(self._condition())
            self._at += 1
        self._at -= 1
        self._expect(")")
        return any_of(parts) if word == "OR" else all_of(parts)

    def _comparison(self) -> Chosen:
        column, sign = self._next(), self._next()
        if column not in self._table.bounds:
            raise UnreadableFilterError
        if sign == "IN":
            self._expect("(")
            parts = [self._compared(column, "=")]
            while self._next() == ",":
                parts.append(self._compared(column, "="))
            self._at -= 1
            self._expect(")")
            return any_of(parts)
        return self._compared(column, sign)

    def _compared(self, column: str, sign: str) -> Chosen:
        value = self._value(self._table.kinds[column])
        compare = COMPARED.get(sign)
        if compare is None:
            raise UnreadableFilterError
        low, high = self._table.bounds[column]
        return [a is None or b is None or compare(a, b, value) for a, b in zip(low, high, strict=True)]

    def _value(self, kind: str) -> str | int:
        """A literal of a kind in the form of the bounds."""
        token = self._next()
        if not token.startswith("'"):
            raise UnreadableFilterError
        text = token[1:-1].replace("''", "'")
        if kind == "text":
            return text
        wanted = ("::", "DATE") if kind == "date" else ("::", "TIMESTAMP", "WITH", "TIME", "ZONE")
        for word in wanted:
            self._expect(word)
        if kind == "date":
            if not DATE.fullmatch(text):
                raise UnreadableFilterError
            return text
        try:
            since = dt.datetime.fromisoformat(text) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        except (ValueError, TypeError, OverflowError):
            raise UnreadableFilterError from None
        return since // dt.timedelta(microseconds=1)
