"""SQL over an export or over the live tables, in DuckDB: the one room that knows it.

Two doors:

- `connect` is the owner's: an ordinary DuckDB connection with views over the pinned files.
- `sql` is everyone's: one reading statement, in a sandbox, in this process or in a child that can be killed.

The names load on first use, so that the child (`worker`) starts with DuckDB and Arrow alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.query.api import Answer, Asker, connect, sql

__all__ = ["Answer", "Asker", "connect", "sql"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in __all__:
        raise AttributeError(f"module 'engine.query' has no attribute {name!r}")
    return getattr(import_module("engine.query.api"), name)
