"""The entry points: `connect` for the owner of an export, `sql` and `QuerySession` for everyone.

DuckDB and PyArrow are imported lazily: clients of the child process need neither.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import polars as pl

from engine.arguments import check_arguments, describe_value, location_of, one_name, path_of
from engine.errors import ParameterError, QueryError
from engine.export.dataset import Dataset, open_dataset
from engine.export.tables import DATA_TABLES, TABLES
from engine.query.child import Child
from engine.query.child_pool import child_pool
from engine.query.request import Catalog, Limits, Request
from engine.query.result import categories_to_text, to_plain_types
from engine.query.sql_views import (
    TableFiles,
    frame_catalog,
    native_catalog,
    pinned_catalog,
    with_parquet_files,
)
from engine.schema import empty

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from engine.store.session_data import SessionData
    from engine.store.snapshot import Snapshot


class PinnedTables(Protocol):
    """One revision of an export: its tables and their immutable files."""

    @property
    def tables(self) -> Iterable[str]:
        """Names of the tables, each a key of `engine.export.tables.TABLES`."""
        ...

    def files(self, table: str) -> Sequence[Path]:
        """Parquet files of a table, in order; empty when the table has no rows."""
        ...


# Tables in memory, or each in one Parquet file.
Tables = Mapping[str, Any]  # frames of any library, or Parquet files
Target: TypeAlias = "str | Path | PinnedTables | Tables | Snapshot | SessionData"


@dataclass(frozen=True)
class QueryResult:
    """The first rows of a query's result, and the number of all its rows.

    Attributes
    ----------
    frame : DataFrame
        The rows, up to the row limit.
    rows : int
        How many there are in all.
    exact : bool
        False when there are more, which were not counted (counting ends at a million).
    """

    frame: pl.DataFrame
    rows: int
    exact: bool = True

    @property
    def note(self) -> str | None:
        """`50 of 12,345 rows` (`of more than ...` if not exact) where rows were cut off; None otherwise."""
        if self.frame.height == self.rows:
            return None
        return f"{self.frame.height:,} of {'' if self.exact else 'more than '}{self.rows:,} rows"


@dataclass(frozen=True)
class Source:
    """The tables that a query sees: those in files as a catalog, those in memory as frames.

    Attributes
    ----------
    catalog : Catalog
    frames : mapping of table to DataFrame
        Without enums and categories.
    """

    catalog: Catalog
    frames: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    @classmethod
    def of(cls, target: Target, revision: int | None, also: Tables | None = None) -> Source:
        """Source of a target and `also`; ParameterError for equal names, or for a revision if the target is no path.

        Raises
        ------
        ParameterError
            A name of `also` is a table of the target, or the target has no other revision.
        """
        # Queries of an export start without loading the store.
        if not isinstance(target, str | Path):
            target = live_tables(target)
        if isinstance(target, Mapping):
            refuse_revision(revision)
            source = cls(frame_catalog(target)).with_tables(target)
        else:
            opened = opened_tables(target, revision)
            statistics = None
            if isinstance(opened, Dataset):
                statistics = {table: opened.statistics(table) for table in opened.tables}
            source = cls(pinned_catalog(table_files(opened), statistics))
        taken = sorted(set(also or ()) & {*source.catalog.tables, *source.frames})
        if taken:
            raise ParameterError(f"also: {', '.join(taken)} is a table of the target; valid: other names")
        return source.with_tables(also or {})

    def with_tables(self, tables: Tables) -> Source:
        """New Source with more tables: paths as views over Parquet files, frames of any library, categories as text."""
        files, frames = {}, {}
        for name, table in tables.items():
            if isinstance(table, str | Path):
                files[one_name("also", name)] = path_of(f"also: {name}", table)
            else:
                frames[one_name("also", name)] = categories_to_text(frame_of(name, table))
        return Source(with_parquet_files(self.catalog, files), {**self.frames, **frames})


@check_arguments("revision")
def connect(target: str | Path | PinnedTables, *, revision: int | None = None) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB connection (UTC, no sandbox) with views on an export's tables at a revision and helpers.

    There is a view for each table (columns and types of `engine.export.tables.TABLES`), and the views and macros of
    `engine.query.sql_views.HELPERS`. The time zone is UTC. What the connection reads stays this revision, whatever is
    exported later. It belongs to one thread.

    Parameters
    ----------
    target : str or Path
        The export's folder.
    revision : int, optional
        Which one; the last complete one by default.

    Raises
    ------
    ExportError
        There is no export, no such revision, or a file of it cannot be read.
    """
    import duckdb

    from engine.query.sandbox import create_views

    tables = opened_tables(target, revision)
    if isinstance(tables, Dataset):
        for table in tables.tables:
            tables.intact_files(table)
    catalog = native_catalog(table_files(tables))
    con = duckdb.connect(":memory:")
    try:
        con.execute("SET TimeZone='UTC'")
        create_views(con, catalog)
    except BaseException:
        con.close()
        raise
    return con


@check_arguments("query", "revision", "also", "timeout_seconds", "memory", "threads", "isolated")
def sql(
    target: Target,
    query: str,
    *,
    revision: int | None = None,
    also: Tables | None = None,
    timeout_seconds: float = 60.0,
    memory: str = "2GB",
    threads: int | None = None,
    isolated: bool = True,
) -> pl.DataFrame:
    """Run one reading statement in a sandbox, a child process unless `isolated=False`; return all rows or QueryError.

    Parameters
    ----------
    target : str, Path, SessionData, Snapshot or mapping of table name to DataFrame or Path
        The export's folder, a live store (its tables as they are now), or tables: frames and Parquet files.
    query : str
        One statement that reads: SELECT, WITH, FROM, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN.
    revision : int, optional
        Of the export at a path; the last complete one by default.
    also : mapping of name to DataFrame or Path, optional
        More tables, frames or Parquet files, under names that the target does not have.
    timeout_seconds : float
        Wall time of the query.
    memory : str
        Limit of DuckDB's buffers (not of every temporary), and of the result: `512MB`.
    threads : int, optional
        As many as there are cores by default.
    isolated : bool
        In a child process that the operating system holds to these limits and that can be killed; it stays warm for
        the next query of this process. The first query costs its start, about a quarter of a second, and tables in
        memory are copied to it. False runs DuckDB in this process: a statement that crashes DuckDB ends this process,
        one that plans for long ignores `timeout_seconds`, and one large value ignores `memory`.

    Returns
    -------
    DataFrame
        Instants are Datetime[us, UTC] (the nanoseconds of a live tick: `epoch_ns(ts)`), local times
        Datetime[us], differences of times Duration[us], sums of integers Int64, text String, never a category.
        A second column of the same name gets `_1`.

    Raises
    ------
    QueryError
        The statement was refused, failed, took too long or needed too much memory; the message points at the place.
    ExportError
        There is no export, no such revision, or a file of it cannot be read.
    """
    limits = Limits(timeout_seconds, memory, threads)
    source = Source.of(target, revision, also)
    if isolated:
        with ipc_files(source.frames) as files, child_pool().acquire() as child:
            result = child.ask(Request(query, source.catalog, files, limits, None))
            return _plain_frame(result.table, result.kinds)
    import pyarrow as pa

    from engine.query.sandbox import open_result

    with open_result(source.catalog, source.frames, query, limits) as opened:
        table = pa.Table.from_batches(opened.reader, schema=opened.schema)
    return _plain_frame(table, opened.kinds)


class QuerySession:
    """Many queries against one state of the data, each on a connection of its own in one child process.

    Parameters
    ----------
    target, revision, also
        As in `sql`; every query sees this revision, whatever is exported later.
    child : Child, optional
        A process that was started before.

    It belongs to one thread. Close it, or use it in a `with` block.
    """

    def __init__(
        self, target: Target, *, revision: int | None = None, also: Tables | None = None, child: Child | None = None
    ) -> None:
        self._child = child or Child()
        self._stack = ExitStack()
        self._stack.callback(self._child.close)
        try:
            self._source = Source.of(target, revision, also)
            self._files = self._stack.enter_context(ipc_files(self._source.frames))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Kill the child process and delete the temporary Arrow files of frames."""
        self._stack.close()

    def run(self, query: str, limits: Limits | None = None, row_limit: int | None = None) -> QueryResult:
        """Run one query in the child process; return up to `row_limit` rows and the row count (exact to a million).

        Parameters
        ----------
        query : str
        limits : Limits, optional
        row_limit : int, optional
            Number of rows to return; all by default.

        Raises
        ------
        QueryError, ExportError
            As in `sql`.
        """
        request = Request(query, self._source.catalog, self._files, limits or Limits(), row_limit)
        result = self._child.ask(request)
        return QueryResult(_plain_frame(result.table, result.kinds), result.rows, result.exact)

    def columns(self) -> dict[str, list[str]]:
        """Column names, in column order, of every table and view, by a query of its own; sorted by table."""
        listed = self.run(
            "SELECT table_name, list(column_name ORDER BY column_index) AS names FROM duckdb_columns() "
            "WHERE NOT internal GROUP BY table_name ORDER BY table_name"
        )
        return dict(listed.frame.rows())


def live_tables(target: PinnedTables | Tables | Snapshot | SessionData) -> PinnedTables | Tables:
    """All data tables of a SessionData or Snapshot now, in export columns; any other target is returned unchanged."""
    from engine.store.session_data import SessionData
    from engine.store.snapshot import Snapshot

    if isinstance(target, SessionData):
        target = target.snapshot()
    if not isinstance(target, Snapshot):
        if not (isinstance(target, Mapping) or callable(getattr(target, "files", None))):
            raise ParameterError(unknown_target(target))
        return target
    tables = target.tables()
    return {name: exported_columns(name, tables.get(name)) for name in DATA_TABLES}


def frame_of(name: str, table: object) -> pl.DataFrame:
    """Table of the caller as a Polars frame, whatever library it is from; ParameterError for what is no frame."""
    if isinstance(table, pl.DataFrame):
        return table
    # Queries of an export start without loading readers of sources.
    from engine.sources.dataframes import is_frame, to_polars

    if not is_frame(table):
        raise ParameterError(f"also: {name}: received {describe_value(table)}; valid: a frame or a Parquet file")
    return to_polars(table)


def opened_tables(target: str | Path | PinnedTables | Tables, revision: int | None) -> PinnedTables:
    """An export at a revision (None: last), or one that is open, which takes no revision."""
    if isinstance(target, str | Path):
        return open_dataset(location_of("target", target).absolute(), revision)
    if isinstance(target, Mapping) or not callable(getattr(target, "files", None)):
        raise ParameterError(unknown_target(target))
    refuse_revision(revision)
    return target


def table_files(tables: PinnedTables) -> TableFiles:
    """Parquet files by table of an open export."""
    # The sandbox compares files with their names when a query opens them; large tables it cannot.
    if isinstance(tables, Dataset):
        return {table: tables.sized_files(table) for table in tables.tables}
    return {table: tables.files(table) for table in tables.tables}


def unknown_target(target: object) -> str:
    """Message for a target that has no tables to query."""
    hint = " (its `tables` are such a mapping)" if isinstance(getattr(target, "tables", None), Mapping) else ""
    return (
        f"target: received {describe_value(target)}{hint}; valid: the folder of an export, a Dataset, a SessionData, a "
        "Snapshot, or a mapping of names to frames and Parquet files"
    )


def refuse_revision(revision: int | None) -> None:
    """ParameterError for a revision that is given beside a target other than an export's path; None passes."""
    if revision is not None:
        raise ParameterError(
            f"revision: received {revision} for tables that have no other; valid: for an export's path"
        )


@contextmanager
def ipc_files(frames: Mapping[str, pl.DataFrame]) -> Iterator[dict[str, str]]:
    """Context: write frames to temporary Arrow IPC files, yield their paths by table, delete the files at the end."""
    if not frames:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="engine-sql-") as folder:
        paths = {name: str(Path(folder, str(number))) for number, name in enumerate(frames)}
        for name, path in paths.items():
            frames[name].write_ipc(path, compression="uncompressed")
        yield paths


def exported_columns(name: str, frame: pl.DataFrame | None) -> pl.DataFrame:
    """Frame with exactly a table's export columns and types: absent ones null, others dropped; empty for None."""
    if frame is None:
        return empty(TABLES[name])
    present = set(frame.columns)
    return frame.select(
        (pl.col(column) if column in present else pl.lit(None)).cast(dtype).alias(column)
        for column, dtype in TABLES[name].items()
    )


def _plain_frame(table: pa.Table | pl.DataFrame, kinds: Sequence[str]) -> pl.DataFrame:
    """Result table as a frame of plain Polars types (`to_plain_types`); a PolarsError becomes a QueryError."""
    try:
        return to_plain_types(table, kinds)
    except pl.exceptions.PolarsError as error:
        raise QueryError(str(error)) from error
