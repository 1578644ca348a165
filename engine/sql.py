"""SQL over an export or over the live tables, in DuckDB: the one module that knows it.

Two doors:

- `connect` is the owner's: an ordinary DuckDB connection with views over the pinned files.
- `sql` is everyone's. Each call gets a DuckDB of its own, in memory, and
  1. its only file system is `engine.pinned` (`_sandbox`), or none at all when it reads frames;
  2. the views are made (`_view`, `_add_helpers`), then files, settings, extensions and secrets are shut (`_seal`);
  3. one reading statement is let through (`_check_statement`): for a clear answer, the walls do not need it;
  4. rows are read up to the memory limit (`_fetch`) and leave as plain Polars types (`_plain`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import duckdb
import polars as pl
import pyarrow as pa

from engine.errors import ExportError, ParameterError, QueryError
from engine.export.dataset import open_dataset
from engine.export.tables import TABLES
from engine.pinned import SCHEME, PinnedFiles
from engine.query_errors import explain, reason
from engine.query_result import DTypes, plain, without_categories
from engine.snapshot import Snapshot
from engine.store import SessionData

Config = dict[str, str | bool | int | float | list[str]]

BATCH_ROWS = 122_880  # DuckDB's own row group
BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9}

_READING = ("SELECT", "EXPLAIN", "MULTI")  # MULTI is PIVOT, which looks its columns up first
_PARTITION = re.compile(r"\w+=[^*?\[\]]+")
_NEVER_NATIVE = re.compile(r"[*?\[\]{}=]")
_TYPES: Mapping[DTypes, str] = {
    pl.String(): "VARCHAR",
    pl.Int32(): "INTEGER",
    pl.Int64(): "BIGINT",
    pl.Float64(): "DOUBLE",
    pl.Boolean(): "BOOLEAN",
    pl.Date(): "DATE",
    pl.Datetime("us", "UTC"): "TIMESTAMPTZ",
}
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

# Which tables a helper reads, and what it is. `origin` keeps a series that came at a coarser step apart from
# the one derived here.
_HELPERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "coverage": (
        ("quality", "symbols"),
        """CREATE VIEW coverage AS
        SELECT q.symbol, q.price_type, q.session, q.expected, q.present, q.missing, q.quality
        FROM quality q JOIN symbols s ON q.symbol = s.symbol AND q.interval = s.base_interval
        ORDER BY q.symbol, q.price_type, q.session""",
    ),
    "worst_gaps": (
        ("gaps", "symbols"),
        """CREATE VIEW worst_gaps AS
        SELECT g.symbol, g.price_type, g.session, g.segment, g.gap_start, g.gap_end, g.bar_count, g.position, g.cause
        FROM gaps g JOIN symbols s ON g.symbol = s.symbol AND g.interval = s.base_interval
        ORDER BY g.bar_count DESC, g.symbol, g.price_type, g.gap_start""",
    ),
    "ohlcv": (
        ("bars", "quality", "symbols"),
        """CREATE MACRO ohlcv(of_symbol, of_interval, of_price := NULL) AS TABLE
        SELECT ts, open, high, low, close, volume FROM bars
        WHERE symbol = of_symbol AND interval = of_interval
          AND price_type = coalesce(of_price, (
            SELECT CASE WHEN bool_or(q.price_type = 'last') THEN 'last' ELSE 'bid' END
            FROM quality q WHERE q.symbol = of_symbol))
          AND origin = (
            SELECT CASE WHEN s.base_interval = of_interval THEN 'source' ELSE 'derived' END
            FROM symbols s WHERE s.symbol = of_symbol)
        ORDER BY ts""",
    ),
}


class PinnedTables(Protocol):
    """One revision of an export: its tables, and the immutable files each is made of."""

    @property
    def tables(self) -> Iterable[str]:
        """Names, each a key of `TABLES`."""
        ...

    def files(self, table: str) -> Sequence[Path]:
        """List the Parquet files of a table, in order; none when it is empty."""
        ...


Frames = Mapping[str, pl.DataFrame]
Pins = Mapping[str, Sequence[Path]]
Fill = Callable[[duckdb.DuckDBPyConnection], None]


@dataclass(frozen=True)
class _Limits:
    timeout_seconds: float
    memory: str
    threads: int | None

    def __post_init__(self) -> None:
        if not self.timeout_seconds > 0:
            raise ParameterError(f"timeout_seconds: received {self.timeout_seconds!r}; valid: above zero")
        if self.threads is not None and self.threads < 1:
            raise ParameterError(f"threads: received {self.threads!r}; valid: 1 or more")
        if re.fullmatch(r"[1-9][0-9]{0,8}(KB|MB|GB)", self.memory) is None:
            raise ParameterError(f"memory: received {self.memory!r}; valid: a whole number and KB, MB or GB (512MB)")

    @property
    def memory_bytes(self) -> int:
        return int(self.memory[:-2]) * BYTES[self.memory[-2:]]

    @property
    def config(self) -> Config:
        threads: Config = {} if self.threads is None else {"threads": self.threads}
        return {"memory_limit": f"{self.memory_bytes}B"} | threads


def connect(target: str | Path | PinnedTables, *, revision: int | None = None) -> duckdb.DuckDBPyConnection:
    """Open an export in an ordinary DuckDB connection, with all that DuckDB can do.

    There is a view for each table (columns and types of `engine.export.tables.TABLES`), the views `coverage`
    and `worst_gaps` and the macro `ohlcv(symbol, interval)`. The time zone is UTC. What the connection reads
    stays this revision, whatever is exported later. It belongs to one thread.

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
    pins = _pins(target, revision)
    con = duckdb.connect(":memory:")
    con.execute("SET TimeZone='UTC'")
    # DuckDB would read such folder names as patterns or as columns.
    strange = any(_NEVER_NATIVE.search(str(_root(path))) for paths in pins.values() for path in paths)
    _add_views(con, _pinned(con, pins) if strange else {table: map(str, paths) for table, paths in pins.items()})
    return con


def sql(
    target: str | Path | PinnedTables | Frames | Snapshot | SessionData,
    query: str,
    *,
    revision: int | None = None,
    timeout_seconds: float = 60.0,
    memory: str = "2GB",
    threads: int | None = None,
) -> pl.DataFrame:
    """Answer one query in a sandbox that reads the tables and can touch nothing else.

    Parameters
    ----------
    target : str, Path, SessionData, Snapshot or mapping of table name to DataFrame
        The export's folder, or a live store (its tables as they are now).
    query : str
        One statement that reads: SELECT, WITH, FROM, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN.
    revision : int, optional
        Of the export; the last complete one by default.
    timeout_seconds : float
        How long DuckDB may run.
    memory : str
        How much DuckDB may hold (its buffers, not every temporary), and how large the result may be: `512MB`.
    threads : int, optional
        As many as there are cores by default.

    Returns
    -------
    DataFrame
        Instants are Datetime[us, UTC] (the nanoseconds of a live tick: `epoch_ns(ts)`), local times
        Datetime[us], differences of times Duration[us], sums of integers Int64, text String, never a category.
        A second column of the same name gets `_1`.

    Raises
    ------
    QueryError
        The statement was refused, failed, took too long or gave too much; the message points at the place.
    ExportError
        There is no export, no such revision, or a file of it cannot be read.
    """
    limits = _Limits(timeout_seconds, memory, threads)
    if isinstance(target, SessionData):
        target = target.snapshot()
    if isinstance(target, Snapshot):
        target = target.tables()
    if isinstance(target, Mapping):
        fill: Fill = partial(_add_frames, frames=target)
    else:
        fill = partial(_add_pinned, pins=_pins(target, revision))
    with _sandbox(fill, limits) as con, _explained(con, query, limits):
        _check_statement(con, query)
        return _fetch(con, query, limits)


def _pins(target: str | Path | PinnedTables, revision: int | None) -> Pins:
    tables = open_dataset(Path(target).absolute(), revision) if isinstance(target, str | Path) else target
    return {table: tables.files(table) for table in tables.tables}


@contextmanager
def _sandbox(fill: Fill, limits: _Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    con = duckdb.connect(":memory:", config=_CLOSED | limits.config)
    try:
        con.execute("SET TimeZone='UTC'")
        fill(con)
        _seal(con, limits)
        yield con
    finally:
        con.close()


def _seal(con: duckdb.DuckDBPyConnection, limits: _Limits) -> None:
    con.execute(f"SET max_execution_time={max(1, round(limits.timeout_seconds * 1000))}")
    for statement in _SEALS:
        con.execute(statement)


def _add_pinned(con: duckdb.DuckDBPyConnection, pins: Pins) -> None:
    _add_views(con, _pinned(con, pins))
    # This alone would allow writing too: it is the file system that refuses.
    con.execute(f"SET allowed_directories=['{SCHEME}']")


def _add_frames(con: duckdb.DuckDBPyConnection, frames: Frames) -> None:
    for name, frame in frames.items():
        con.register(name, without_categories(frame))
    _add_helpers(con, frames)


def _pinned(con: duckdb.DuckDBPyConnection, pins: Pins) -> Mapping[str, list[str]]:
    # Names are ours, with the folders that hold partition values: nothing else of a path gets in.
    named = {
        table: {_pinned_name(table, number, path): path for number, path in enumerate(paths)}
        for table, paths in pins.items()
    }
    con.register_filesystem(PinnedFiles({name: path for files in named.values() for name, path in files.items()}))
    return {table: [SCHEME + name for name in files] for table, files in named.items()}


def _pinned_name(table: str, number: int, path: Path) -> str:
    return "/".join([table, *path.parent.relative_to(_root(path)).parts, f"{number}.parquet"])


def _root(path: Path) -> Path:
    folder = path.parent
    while _PARTITION.fullmatch(folder.name):
        folder = folder.parent
    return folder


def _add_views(con: duckdb.DuckDBPyConnection, addresses: Mapping[str, Iterable[str]]) -> None:
    for table, files in addresses.items():
        try:
            con.execute(_view(table, list(files)))
        except (duckdb.Error, OSError) as error:
            con.close()
            raise ExportError(f"table {table} cannot be read: {reason(error)}") from error
    _add_helpers(con, addresses)


def _add_helpers(con: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> None:
    present = set(tables)
    for name, (needed, statement) in _HELPERS.items():
        if present.issuperset(needed) and name not in present:
            con.execute(statement)


def _view(table: str, addresses: Sequence[str]) -> str:
    columns = {_named(name): _sql_type(dtype) for name, dtype in TABLES[table].items()}
    if not addresses:
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
        return f"CREATE VIEW {_named(table)} AS SELECT {nothing} WHERE false"
    typed = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in columns.items())
    files = ", ".join(map(_quoted, addresses))
    # Partition values are text as they stand in the folder's name: months and symbols are no numbers.
    hive = "true, hive_types_autocast=false" if "=" in addresses[0] else "false"
    return f"CREATE VIEW {_named(table)} AS SELECT {typed} FROM read_parquet([{files}], hive_partitioning={hive})"  # noqa: S608 - quoted


def _sql_type(dtype: DTypes) -> str:
    return f"{_sql_type(dtype.inner)}[]" if isinstance(dtype, pl.List) else _TYPES[dtype]


def _named(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _explained(con: duckdb.DuckDBPyConnection, query: str, limits: _Limits) -> Iterator[None]:
    # What fails while rows stream comes as Arrow's OSError with DuckDB's text in it, so the text decides.
    try:
        yield
    except (duckdb.Error, OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        text = str(error)
        if "INTERRUPT Error" in text:
            raise QueryError(f"stopped after timeout_seconds={limits.timeout_seconds:g}") from error
        if "Out of Memory Error" in text:
            raise QueryError(
                f"needs more than memory={limits.memory}; read fewer rows or columns, or raise memory"
            ) from error
        raise QueryError(explain(error, query, lambda: _columns(con))) from error


def _columns(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    listed = con.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
        "WHERE NOT internal GROUP BY table_name ORDER BY table_name"
    )
    return dict(listed.fetchall())


def _check_statement(con: duckdb.DuckDBPyConnection, query: str) -> None:
    kinds = [_kind(statement) for statement in con.extract_statements(query)]
    if len(kinds) != 1 or kinds[0] not in _READING:
        raise QueryError(
            f"refused, received {', '.join(kinds) or 'no statement'}; valid: one statement that reads "
            "(SELECT, WITH, FROM, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN)"
        )


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:
        return "a statement of unknown kind"  # DuckDB parses kinds that its Python package has no name for


def _fetch(con: duckdb.DuckDBPyConnection, query: str, limits: _Limits) -> pl.DataFrame:
    relation = con.sql(query)
    kinds = [str(kind) for kind in relation.types]
    with relation.to_arrow_reader(BATCH_ROWS) as reader:
        table = pa.Table.from_batches(_capped(reader, limits), schema=reader.schema)
    return plain(table, kinds)


def _capped(reader: pa.RecordBatchReader, limits: _Limits) -> Iterator[pa.RecordBatch]:
    # A streamed result lives outside DuckDB's own memory limit.
    held = rows = 0
    for batch in reader:
        held, rows = held + batch.nbytes, rows + batch.num_rows
        if held > limits.memory_bytes:
            raise QueryError(
                f"the result is larger than memory={limits.memory} ({rows:,} rows and more); "
                "add a LIMIT, aggregate, or raise memory"
            )
        yield batch
