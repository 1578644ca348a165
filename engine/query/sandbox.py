"""The walls: a DuckDB in memory that reads given tables and can touch nothing else.

1. Its only file system is `engine.query.pinned`, or none at all when it reads frames (`opened`).
2. The views are made, then files, settings, extensions and secrets are shut (`_seal`).
3. One reading statement is let through (`check_statement`): for a clear answer, the walls do not need it.
4. Rows are read up to the memory limit (`Taken`), and what fails is told in terms of the query (`_explained`).

This module needs DuckDB and Arrow alone: a child process that loads it is up in a quarter of a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from engine.errors import ExportError, QueryError
from engine.query.explain import explain, reason
from engine.query.pinned import PinnedFiles
from engine.query.request import SCHEME, Config, Limits, Scene

BATCH_ROWS = 122_880  # DuckDB's own row group
COUNTED_ROWS = 1_000_000

_READING = ("SELECT", "EXPLAIN", "MULTI")  # MULTI is PIVOT, which looks its columns up first
_CLOSED: Config = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",  # no spilling; cannot be said any more once external access is off
    "max_expression_depth": "250",
}
_SEALS = (
    "SET secret_directory=''",  # else its default shows the user's home
    "SET allow_extension_repositories='forbidden'",
    "SET disabled_filesystems='LocalFileSystem'",
    "SET enable_external_access=false",
    "SET lock_configuration=true",  # last
)


class Taken:
    """The first rows of a result, batch by batch, and how many rows there are in all.

    Parameters
    ----------
    reader : pyarrow.RecordBatchReader
    limits : Limits
        Rows that are kept live outside DuckDB's own memory limit, so they are counted here.
    most : int, optional
        How many rows to keep; all by default. The others are counted, up to a million.
    """

    def __init__(self, reader: pa.RecordBatchReader, limits: Limits, most: int | None) -> None:
        self._reader = reader
        self._limits = limits
        self._most = most
        self._held = 0
        self.rows = 0
        self.exact = True

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._reader:
            kept = batch if self._most is None else batch.slice(0, max(self._most - self.rows, 0))
            self.rows += batch.num_rows
            if kept.num_rows:
                self._check(kept.nbytes)
                yield kept
            elif self.rows > COUNTED_ROWS:
                self.exact = False
                return

    def _check(self, size: int) -> None:
        self._held += size
        if self._held > self._limits.memory_bytes:
            raise QueryError(
                f"the result is larger than memory={self._limits.memory} ({self.rows:,} rows and more); "
                "add a LIMIT, aggregate, or raise memory"
            )


@dataclass(frozen=True)
class Rows:
    """A result as it streams.

    Attributes
    ----------
    schema : pyarrow.Schema
    kinds : tuple of str
        DuckDB's type of each column.
    taken : Taken
        The batches.
    """

    schema: pa.Schema
    kinds: tuple[str, ...]
    taken: Taken


@contextmanager
def answering(
    scene: Scene, frames: Mapping[str, object], query: str, limits: Limits, most: int | None = None
) -> Iterator[Rows]:
    """Run one reading statement in a sandbox of its own.

    Parameters
    ----------
    scene : Scene
    frames : mapping of table to Polars or Arrow table
        More tables, in memory.
    query : str
    limits : Limits
    most : int, optional
        How many rows to keep.

    Raises
    ------
    QueryError
        The statement was refused, failed, took too long or gave too much; also while the rows are read.
    ExportError
        A file cannot be read.
    """
    with opened(scene, frames, limits) as con, _explained(con, query, limits):
        check_statement(con, query)
        relation = con.sql(query)
        kinds = tuple(str(kind) for kind in relation.types)
        with relation.to_arrow_reader(BATCH_ROWS) as reader:
            yield Rows(reader.schema, kinds, Taken(reader, limits, most))


@contextmanager
def opened(scene: Scene, frames: Mapping[str, object], limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a sealed connection over a scene and frames."""
    con = duckdb.connect(":memory:", config=_CLOSED | limits.config)
    try:
        con.execute("SET TimeZone='UTC'")
        for name, frame in frames.items():
            con.register(name, frame)
        add_scene(con, scene)
        _seal(con, limits)
        yield con
    finally:
        con.close()


def add_scene(con: duckdb.DuckDBPyConnection, scene: Scene) -> None:
    """Make the pinned files and the views of a scene known to a connection."""
    if scene.files:
        con.register_filesystem(PinnedFiles(scene.files))
    for table, statement in scene.views.items():
        try:
            con.execute(statement)
        except (duckdb.Error, OSError) as error:
            why = reason(error) or "a file is not there"
            raise ExportError(
                f"table {table} cannot be read: {why}; `engine verify` lists what is damaged, and a revision that was "
                "opened before a vacuum removed it has to be opened anew"
            ) from error
    for statement in scene.helpers:
        con.execute(statement)


def check_statement(con: duckdb.DuckDBPyConnection, query: str) -> None:
    """Refuse all but one reading statement."""
    if not _is_text(query):
        raise QueryError("the query holds bytes that are no UTF-8; valid: text in UTF-8")
    kinds = [_kind(statement) for statement in con.extract_statements(query)]
    if len(kinds) != 1 or kinds[0] not in _READING:
        raise QueryError(
            f"refused, received {', '.join(kinds) or 'no statement'}; valid: one statement that reads "
            "(SELECT, WITH, FROM, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN)"
        )


def _is_text(query: str) -> bool:
    # Arguments of a command line in another encoding come with surrogates.
    try:
        query.encode()
    except UnicodeEncodeError:
        return False
    return True


def _seal(con: duckdb.DuckDBPyConnection, limits: Limits) -> None:
    # This alone would allow writing too: it is the file system that refuses.
    con.execute(f"SET allowed_directories=['{SCHEME}']")
    con.execute(f"SET max_execution_time={max(1, round(limits.timeout_seconds * 1000))}")
    for statement in _SEALS:
        con.execute(statement)


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:
        return "a statement of unknown kind"  # DuckDB parses kinds that its Python package has no name for


@contextmanager
def _explained(con: duckdb.DuckDBPyConnection, query: str, limits: Limits) -> Iterator[None]:
    # What fails while rows stream comes as Arrow's OSError with DuckDB's text in it, so the text decides.
    try:
        yield
    except BrokenPipeError:
        raise  # nobody waits for the answer any more
    except (duckdb.Error, OSError, MemoryError, pa.ArrowException) as error:
        text = str(error)
        if "INTERRUPT Error" in text:
            raise limits.timed_out() from error
        if "Out of Memory Error" in text or isinstance(error, MemoryError):
            raise limits.too_large() from error
        raise QueryError(explain(error, query, lambda: _columns(con))) from error


def _columns(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    listed = con.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
        "WHERE NOT internal GROUP BY table_name ORDER BY table_name"
    )
    return dict(listed.fetchall())
