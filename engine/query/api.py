"""The two doors: `connect` for the owner of an export, `sql` and `Asker` for everyone.

Whoever asks a child needs neither DuckDB nor Arrow, so these load where they are used.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

import polars as pl

from engine.errors import ParameterError, QueryError
from engine.export.dataset import open_dataset
from engine.export.tables import DATA_TABLES, TABLES
from engine.query.child import Child
from engine.query.request import Limits, Request, Scene
from engine.query.result import plain, without_categories
from engine.query.sql_views import Pins, frame_scene, native_scene, pinned_scene
from engine.schema import empty

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from engine.store.session_data import SessionData
    from engine.store.snapshot import Snapshot


class PinnedTables(Protocol):
    """One revision of an export: its tables, and the immutable files each is made of."""

    @property
    def tables(self) -> Iterable[str]:
        """Names, each a key of `engine.export.tables.TABLES`."""
        ...

    def files(self, table: str) -> Sequence[Path]:
        """List the Parquet files of a table, in order; none when it is empty."""
        ...


Frames = Mapping[str, pl.DataFrame]
Target: TypeAlias = "str | Path | PinnedTables | Frames | Snapshot | SessionData"


@dataclass(frozen=True)
class Answer:
    """What a query gave.

    Attributes
    ----------
    frame : DataFrame
        The rows that were kept.
    rows : int
        How many there are in all.
    exact : bool
        False when there are more, which nobody counted (counting ends at a million).
    """

    frame: pl.DataFrame
    rows: int
    exact: bool = True

    @property
    def note(self) -> str | None:
        """What was left out, in words; None when nothing was."""
        if self.frame.height == self.rows:
            return None
        return f"{self.frame.height:,} of {'' if self.exact else 'more than '}{self.rows:,} rows"


@dataclass(frozen=True)
class _Source:
    scene: Scene
    frames: Frames = field(default_factory=dict)

    @classmethod
    def of(cls, target: Target, revision: int | None, also: Frames | None = None) -> _Source:
        source = cls._of(target, revision)
        if not also:
            return source
        taken = sorted(set(also) & ({*source.scene.views} | {*source.frames}))
        if taken:
            raise ParameterError(f"also: {', '.join(taken)} is a table of the target; valid: other names")
        return cls(source.scene, {**source.frames, **{name: without_categories(frame) for name, frame in also.items()}})

    @classmethod
    def _of(cls, target: Target, revision: int | None) -> _Source:
        if isinstance(target, str | Path):
            return cls(pinned_scene(_pins(target, revision)))
        live = _live(target)
        if isinstance(live, Mapping):
            frames = {name: without_categories(frame) for name, frame in live.items()}
            return cls(frame_scene(frames), frames)
        return cls(pinned_scene(_pins(live, revision)))


def _live(target: PinnedTables | Frames | Snapshot | SessionData) -> PinnedTables | Frames:
    from engine.store.session_data import SessionData
    from engine.store.snapshot import Snapshot

    if isinstance(target, SessionData):
        target = target.snapshot()
    if not isinstance(target, Snapshot):
        return target
    tables = target.tables()
    return {name: _contract(name, tables.get(name)) for name in DATA_TABLES}


def connect(target: str | Path | PinnedTables, *, revision: int | None = None) -> duckdb.DuckDBPyConnection:
    """Open an export in an ordinary DuckDB connection, with all that DuckDB can do.

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

    from engine.query.sandbox import add_scene

    scene = native_scene(_pins(target, revision))
    con = duckdb.connect(":memory:")
    try:
        con.execute("SET TimeZone='UTC'")
        add_scene(con, scene)
    except BaseException:
        con.close()
        raise
    return con


def sql(
    target: Target,
    query: str,
    *,
    revision: int | None = None,
    also: Frames | None = None,
    timeout_seconds: float = 60.0,
    memory: str = "2GB",
    threads: int | None = None,
    isolated: bool = False,
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
    also : mapping of name to DataFrame, optional
        More tables, under names that the target has none of.
    timeout_seconds : float
        How long DuckDB may run.
    memory : str
        How much DuckDB may hold (its buffers, not every temporary), and how large the result may be: `512MB`.
    threads : int, optional
        As many as there are cores by default.
    isolated : bool
        Run it in a child process that the operating system holds to these limits, and that can be killed. The answer
        is the same; it costs a start of about a quarter of a second, and copies of live tables.

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
    limits = Limits(timeout_seconds, memory, threads)
    if isolated:
        with Asker(target, revision=revision, also=also) as asker:
            return asker.ask(query, limits).frame
    import pyarrow as pa

    from engine.query.sandbox import answering

    source = _Source.of(target, revision, also)
    with answering(source.scene, source.frames, query, limits) as rows:
        table = pa.Table.from_batches(rows.taken, schema=rows.schema)
    return _plain(table, rows.kinds)


class Asker:
    """Many questions to one state of the data, each in a sandbox of its own in a child process.

    Parameters
    ----------
    target, revision, also
        As `sql` has them; what is asked is this revision, whatever is exported later.
    child : Child, optional
        A process that was started before.

    It belongs to one thread. Close it, or use it in a `with` block.
    """

    def __init__(
        self, target: Target, *, revision: int | None = None, also: Frames | None = None, child: Child | None = None
    ) -> None:
        self._child = child or Child()
        self._stack = ExitStack()
        self._stack.callback(self._child.close)
        try:
            self._source = _Source.of(target, revision, also)
            self._files = self._stack.enter_context(_stored(self._source.frames))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._stack.close()

    def ask(self, query: str, limits: Limits | None = None, most: int | None = None) -> Answer:
        """Run one query.

        Parameters
        ----------
        query : str
        limits : Limits, optional
        most : int, optional
            How many rows to keep; all by default.

        Raises
        ------
        QueryError, ExportError
            As `sql` does.
        """
        request = Request(query, self._source.scene, self._files, limits or Limits(), most)
        told = self._child.ask(request)
        return Answer(_plain(told.table, told.kinds), told.rows, told.exact)

    def columns(self) -> dict[str, list[str]]:
        """Names of the tables and views, each with its columns."""
        listed = self.ask(
            "SELECT table_name, list(column_name ORDER BY column_index) AS names FROM duckdb_columns() "
            "WHERE NOT internal GROUP BY table_name ORDER BY table_name"
        )
        return dict(listed.frame.rows())


def _pins(target: str | Path | PinnedTables, revision: int | None) -> Pins:
    tables = open_dataset(Path(target).absolute(), revision) if isinstance(target, str | Path) else target
    return {table: tables.files(table) for table in tables.tables}


@contextmanager
def _stored(frames: Frames) -> Iterator[dict[str, str]]:
    if not frames:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="engine-sql-") as folder:
        paths = {name: str(Path(folder, str(number))) for number, name in enumerate(frames)}
        for name, path in paths.items():
            frames[name].write_ipc(path, compression="uncompressed")
        yield paths


def _contract(name: str, frame: pl.DataFrame | None) -> pl.DataFrame:
    # The live tables have the columns and types of the exported ones, so that a query means the same there.
    if frame is None:
        return empty(TABLES[name])
    known = set(frame.columns)
    return frame.select(
        (pl.col(column) if column in known else pl.lit(None)).cast(dtype).alias(column)
        for column, dtype in TABLES[name].items()
    )


def _plain(table: pa.Table | pl.DataFrame, kinds: Sequence[str]) -> pl.DataFrame:
    try:
        return plain(table, kinds)
    except pl.exceptions.PolarsError as error:
        raise QueryError(str(error)) from error
