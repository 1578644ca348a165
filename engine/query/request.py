"""Data of one query: catalog of tables, statement, limits. Imports no library, so that clients start at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from engine.errors import ParameterError, QueryError

DuckDBConfig = dict[str, str | bool | int | float | list[str]]

PROTOCOL = "pinned"
SCHEME = f"{PROTOCOL}://"
LONGEST_SECONDS = 86_400 * 365  # what every clock of the operating system can hold
BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Limits:
    """Time, memory and threads that one query may use.

    Attributes
    ----------
    timeout_seconds : float
        Wall time of the query.
    memory : str
        DuckDB's buffers, and the size of the result: a whole number and KB, MB or GB.
    threads : int, optional
        As many as there are cores by default.
    """

    timeout_seconds: float = 60.0
    memory: str = "2GB"
    threads: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.timeout_seconds <= LONGEST_SECONDS:
            raise ParameterError(
                f"timeout_seconds: received {self.timeout_seconds!r}; "
                f"valid: above zero, and at most {LONGEST_SECONDS:,}"
            )
        if self.threads is not None and self.threads < 1:
            raise ParameterError(f"threads: received {self.threads!r}; valid: 1 or more")
        if re.fullmatch(r"[1-9][0-9]{0,8}(KB|MB|GB)", self.memory) is None:
            raise ParameterError(f"memory: received {self.memory!r}; valid: a whole number and KB, MB or GB (512MB)")

    @property
    def memory_bytes(self) -> int:
        """`memory` (such as `512MB`) as a number of bytes, decimal units."""
        return int(self.memory[:-2]) * BYTES[self.memory[-2:]]

    @property
    def duckdb_config(self) -> DuckDBConfig:
        """DuckDB settings `memory_limit` and, only where `threads` is set, `threads`."""
        threads: DuckDBConfig = {} if self.threads is None else {"threads": self.threads}
        return {"memory_limit": f"{self.memory_bytes}B"} | threads

    def timeout_error(self) -> QueryError:
        """New QueryError "stopped after timeout_seconds=..."; returned, not raised."""
        return QueryError(f"stopped after timeout_seconds={self.timeout_seconds:g}")

    def memory_error(self) -> QueryError:
        """New QueryError "needs more than memory=..."; returned, not raised."""
        return QueryError(f"needs more than memory={self.memory}; read fewer rows or columns, or raise memory")


@dataclass(frozen=True)
class ListedTable:
    """A table of many files, and what the export's log says of each, by which a query chooses those that it needs.

    Attributes
    ----------
    names : sequence of str
        Its files among those of the catalog.
    rows : sequence of int
        How many rows each has.
    kinds : mapping of column to str
        `text`, `date` or `instant`.
    bounds : mapping of column to (sequence, sequence)
        Least and greatest value in each file; dates as text, instants in microseconds since 1970; None where unknown.
    view : (str, str)
        The statement that creates its view, before and after the list of files.
    nulls : str
        `SELECT` of a null of each column's name and type.
    """

    names: Sequence[str]
    rows: Sequence[int]
    kinds: Mapping[str, str]
    bounds: Mapping[str, Sequence[Sequence[str | int | None]]]
    view: Sequence[str]
    nulls: str

    def view_over(self, names: Sequence[str]) -> str:
        """The statement that creates its view over these of its files; that of no rows without any."""
        head, tail = self.view
        if not names:
            return f"{head[: head.index(' AS ')]} AS {self.nulls} WHERE false"
        return head + ", ".join(f"'{SCHEME}{name}'" for name in names) + tail


@dataclass(frozen=True)
class Catalog:
    """The tables that a query can see, as files and as statements that create views over them.

    Attributes
    ----------
    files : mapping of name to path
        The files of the read-only file system `engine.query.pinned`.
    views : mapping of table to statement
        `CREATE VIEW` of each table over those files.
    helpers : tuple of str
        Statements that create views and macros over the tables.
    sizes : mapping of name to int
        Bytes of those files that are objects in a store.
    listed : mapping of table to ListedTable
        Tables of many files, which have no statement in `views`: each query has one over the files that it needs.
    table_bytes : mapping of table to int
        Bytes of all files of a table by the log; what is not here is looked up.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)
    helpers: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    listed: Mapping[str, ListedTable] = field(default_factory=dict)
    table_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def tables(self) -> list[str]:
        """Names of its tables."""
        return [*self.views, *self.listed]


@dataclass(frozen=True)
class Request:
    """One query for the child process.

    Attributes
    ----------
    query : str
    catalog : Catalog
    frames : mapping of table to path
        Tables as Arrow IPC files.
    limits : Limits
    row_limit : int, optional
        Number of rows to return; the others are only counted.
    """

    query: str
    catalog: Catalog
    frames: Mapping[str, str]
    limits: Limits
    row_limit: int | None

    @property
    def line(self) -> bytes:
        """The request as one line of JSON bytes ending in a line feed, which `parse` reads."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Request:
        """Request from one line of JSON as the property `line` writes it; limits are validated again."""
        fields = json.loads(line)
        catalog = fields["catalog"]
        return cls(
            fields["query"],
            Catalog(
                catalog["files"],
                catalog["views"],
                tuple(catalog["helpers"]),
                catalog["sizes"],
                {name: ListedTable(**table) for name, table in catalog["listed"].items()},
                catalog["table_bytes"],
            ),
            fields["frames"],
            Limits(**fields["limits"]),
            fields["row_limit"],
        )
