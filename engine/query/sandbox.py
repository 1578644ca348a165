"""The sandbox: a DuckDB in memory that reads given tables and can touch nothing else.

1. Its only file system is `engine.query.pinned`, or none at all when it reads frames (`open_sandbox`).
2. The views are created, then files, settings, extensions and secrets are closed.
3. One reading statement is let through (`check_statement`): for a clear message, the sandbox does not need it.
4. Rows are read up to the memory limit (`BoundedReader`), and errors are explained in terms of the query.

This module needs DuckDB and Arrow alone: a child process that loads it is up in a quarter of a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from engine.errors import ExportError, QueryError
from engine.export.damage import REMEDY
from engine.query.explain import error_text, explain_error
from engine.query.file_selection import PLANNING_SETTINGS, narrowed_catalog, planning_catalog
from engine.query.pinned import PinnedFiles
from engine.query.request import SCHEME, Catalog, DuckDBConfig, Limits

BATCH_ROWS = 122_880  # DuckDB's own row group
COUNTED_ROWS = 1_000_000

READING_STATEMENTS = ("SELECT", "EXPLAIN", "MULTI")  # MULTI is PIVOT, which looks its columns up first
CLOSED_CONFIG: DuckDBConfig = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",  # no spilling; cannot be said any more once external access is off
    "max_expression_depth": "250",
}
SEALING_STATEMENTS = (
    "SET secret_directory=''",  # else its default shows the user's home
    "SET allow_extension_repositories='forbidden'",
    "SET disabled_filesystems='LocalFileSystem'",
    "SET enable_external_access=false",
    "SET lock_configuration=true",  # last
)


class BoundedReader:
    """Iterator over the batches of a result up to a row limit and the memory limit; counts the other rows.

    Parameters
    ----------
    reader : pyarrow.RecordBatchReader
    limits : Limits
        Returned rows live outside DuckDB's own memory limit, so their bytes are counted here.
    row_limit : int, optional
        Number of rows to return; all by default. The others are counted, up to a million.

    Attributes
    ----------
    rows : int
        Rows seen so far: at the end, the rows of the whole result.
    exact : bool
        False when counting ended at a million.
    """

    def __init__(self, reader: pa.RecordBatchReader, limits: Limits, row_limit: int | None) -> None:
        self._reader = reader
        self._limits = limits
        self._row_limit = row_limit
        self._returned_bytes = 0
        self.rows = 0
        self.exact = True

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._reader:
            limited = batch if self._row_limit is None else batch.slice(0, max(self._row_limit - self.rows, 0))
            self.rows += batch.num_rows
            if limited.num_rows:
                self._returned_bytes += limited.nbytes
                if self._returned_bytes > self._limits.memory_bytes:
                    raise QueryError(
                        f"the result is larger than memory={self._limits.memory} ({self.rows:,} rows and more); "
                        "add a LIMIT, aggregate, or raise memory"
                    )
                yield limited
            elif self.rows > COUNTED_ROWS:
                self.exact = False
                return


@dataclass(frozen=True)
class OpenResult:
    """A result whose rows have not been read yet.

    Attributes
    ----------
    schema : pyarrow.Schema
    kinds : tuple of str
        DuckDB's type of each column.
    reader : BoundedReader
        The batches.
    """

    schema: pa.Schema
    kinds: tuple[str, ...]
    reader: BoundedReader


class ReusedSandbox:
    """The sandbox of the last query, used again by the next one on the same files under the same limits: its views are made once.

    Each query has a connection of its own, so that none sees types, seeds or settings of another. A file is compared with
    its SHA-256 when it is opened after it has changed. Any error ends the sandbox. It belongs to one thread.

    Parameters
    ----------
    settings : sequence of str
        Statements that come before all others.
    """

    def __init__(self, settings: Sequence[str] = ()) -> None:
        self._settings = settings
        self._of: tuple[Catalog, Limits] | None = None
        self._stack = ExitStack()
        self._sandbox: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def connection(self, catalog: Catalog, limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
        """Context: a new connection to the sandbox of the last query if that is of this catalog and these limits, else to a new one."""
        if self._of != (catalog, limits):
            self.close()
        try:
            if self._sandbox is None:
                self._sandbox = self._stack.enter_context(open_sandbox(catalog, {}, limits, self._settings))
                self._of = catalog, limits
            with self._sandbox.cursor() as con:
                yield con
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the sandbox; the next query opens another."""
        self._of = self._sandbox = None
        self._stack.close()


@contextmanager
def open_result(
    catalog: Catalog,
    frames: Mapping[str, object],
    query: str,
    limits: Limits,
    row_limit: int | None = None,
    reused: ReusedSandbox | None = None,
    planner: ReusedSandbox | None = None,
) -> Iterator[OpenResult]:
    """In this process, run one reading statement in a locked DuckDB; yield schema, types, reader of `row_limit` rows.

    Parameters
    ----------
    catalog : Catalog
    frames : mapping of table to Polars or Arrow table
        More tables, in memory.
    query : str
    limits : Limits
    row_limit : int, optional
        Number of rows to return; the others are only counted.
    reused : ReusedSandbox, optional
        Where the DuckDB of a query without `frames` comes from; default a new one, which is closed at the end.
    planner : ReusedSandbox, optional
        Where the one comes from that plans which files of many a query needs (`PLANNING_SETTINGS`); default a new one.

    Raises
    ------
    QueryError
        The statement was refused, failed, took too long or needed too much memory; also while the rows are read.
    ExportError
        A file cannot be read.
    """
    if catalog.listed:
        plans = planning_catalog(catalog)
        planning = planner.connection(plans, limits) if planner else open_sandbox(plans, {}, limits, PLANNING_SETTINGS)
        with planning as con:
            catalog = narrowed_catalog(catalog, con, query)
    sandbox = open_sandbox(catalog, frames, limits) if reused is None or frames else reused.connection(catalog, limits)
    with sandbox as con, query_errors(con, query, limits):
        check_statement(con, query)
        relation = con.sql(query)
        kinds = tuple(str(kind) for kind in relation.types)
        with relation.to_arrow_reader(BATCH_ROWS) as reader:
            yield OpenResult(reader.schema, kinds, BoundedReader(reader, limits, row_limit))


@contextmanager
def open_sandbox(
    catalog: Catalog, frames: Mapping[str, object], limits: Limits, settings: Sequence[str] = ()
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Context: a DuckDB connection that sees only catalog and frames, its settings locked; closed at the end."""
    con = duckdb.connect(":memory:", config=CLOSED_CONFIG | limits.duckdb_config)
    try:
        for statement in ("SET GLOBAL TimeZone='UTC'", *settings):
            con.execute(statement)
        for name, frame in frames.items():
            con.register(name, frame)
        create_views(con, catalog)
        # This alone would allow writing too: it is the file system that refuses.
        con.execute(f"SET allowed_directories=['{SCHEME}']")
        con.execute(f"SET GLOBAL max_execution_time={max(1, round(limits.timeout_seconds * 1000))}")
        for statement in SEALING_STATEMENTS:
            con.execute(statement)
        yield con
    finally:
        con.close()


def create_views(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    """Register the catalog's files, create its views, then helper views and macros; ExportError if a table fails.

    Raises
    ------
    ExportError
        A file of a table cannot be read; the message names the table.
    """
    if catalog.files:
        con.register_filesystem(PinnedFiles(catalog.files, catalog.sizes, catalog.table_bytes))
    for table, statement in catalog.views.items():
        try:
            con.execute(statement)
        except (duckdb.Error, OSError) as error:
            why = error_text(error) or "a file is not there"
            remedy = (
                f"{REMEDY}; a revision that was opened before a vacuum removed it has to be opened anew; `engine audit` "
                "writes an audit's tables anew"
            )
            raise ExportError(
                f"table {table} cannot be read: {why}" + ("" if REMEDY in why else f"; {remedy}")
            ) from error
    for statement in catalog.helpers:
        con.execute(statement)


def check_statement(con: duckdb.DuckDBPyConnection, query: str) -> None:
    """QueryError unless the text is one SELECT, EXPLAIN or MULTI (PIVOT) statement; duckdb.Error for bad syntax."""
    try:
        query.encode()
    except UnicodeEncodeError:
        # Arguments of a command line in another encoding come with surrogates.
        raise QueryError("the query holds bytes that are no UTF-8; valid: text in UTF-8") from None
    kinds = []
    for statement in con.extract_statements(query):
        try:
            kinds.append(statement.type.name)
        except ValueError:
            kinds.append("a statement of unknown kind")  # its Python package has no name for all that DuckDB parses
    if len(kinds) != 1 or kinds[0] not in READING_STATEMENTS:
        raise QueryError(
            f"refused, received {', '.join(kinds) or 'no statement'}; valid: one statement that reads "
            "(SELECT, WITH, FROM, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN)"
        )


@contextmanager
def query_errors(con: duckdb.DuckDBPyConnection, query: str, limits: Limits) -> Iterator[None]:
    """Turn DuckDB, OS (not BrokenPipeError), memory and Arrow errors of the block into explained QueryErrors."""
    # What fails while rows stream comes as Arrow's OSError with DuckDB's text in it, so the text decides.
    try:
        yield
    except BrokenPipeError:
        raise  # the parent has closed the pipe
    except (duckdb.Error, OSError, MemoryError, pa.ArrowException) as error:
        text = str(error)
        if "INTERRUPT Error" in text:
            raise limits.timeout_error() from error
        if "Out of Memory Error" in text or isinstance(error, MemoryError):
            raise limits.memory_error() from error
        raise QueryError(explain_error(error, query, lambda: columns_by_table(con))) from error


def columns_by_table(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Column names, in column order, of every table and view of a connection, by table name."""
    listed = con.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
        "WHERE NOT internal GROUP BY table_name ORDER BY table_name"
    )
    return dict(listed.fetchall())
