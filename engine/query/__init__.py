"""SQL over an export or over the live tables, in DuckDB: the only folder that imports it.

- `connect` is for the owner of an export: an ordinary DuckDB connection with views over the pinned files.
- `sql` is for everyone: one reading statement, in a sandbox, in this process or in a child that can be killed.
- `QuerySession` runs many statements against one revision, each in a sandbox of the child process.

The names load on first use, so that the child (`query_worker`) starts with DuckDB and Arrow alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.query.api import QueryResult, QuerySession, connect, sql

__all__ = ["QueryResult", "QuerySession", "connect", "sql"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'engine.query' has no attribute {name!r}")
    return getattr(import_module("engine.query.api"), name)
