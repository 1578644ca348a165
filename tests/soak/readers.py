"""Readers in processes of their own under a writer that exports revision after revision.

The writer exports generations of the store, now and then all of it anew, and compacts; it notes what the store held at
each revision. Readers pin the last revision, or by turns a former one, and read bars, gaps and quality of it, each with the
library's own means. Every read must find bars, gaps and quality that agree session by session, and exactly the sums that the
writer noted for this revision. The writer's generations differ in each of the three tables, so no mix would pass.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from engine.export.dataset import Dataset, open_dataset
from engine.export.maintenance.compact import compact
from engine.export.maintenance.verify import verify
from engine.export.maintenance.verify_findings import try_reading
from engine.export.tables import conform_table
from engine.query import connect, sql
from engine.store.snapshot import Snapshot

from tests.soak.report import Line, first
from tests.soak.story import LAST, Story, export

SCOPE = ("symbol", "price_type", "interval", "session")
# Of each session and series: what must agree, and what else tells one generation from another.
AMOUNTS = {"bars": ("ts", "volume"), "gaps": ("bar_count", "gap_start"), "quality": ("present", "missing")}
SHAPE = {**dict.fromkeys(SCOPE[:3], pl.String()), "session": pl.Date(), "slots": pl.Int64(), "other": pl.Float64()}
SUMMED = {
    "bars": "count(ts) AS slots, sum(volume) AS other",
    "gaps": "sum(bar_count) AS slots, count(gap_start) AS other",
    "quality": "sum(present) AS slots, sum(missing) AS other",
}
FORMER_EVERY, FULL_EVERY, COMPACT_EVERY = 4, 5, 7
ANSWER_SECONDS = 120.0
SEED = 5

Found = TypeVar("Found")
Sums = dict[str, tuple[int, float]]
Read = Callable[[Dataset, str], pl.DataFrame]


class Seen(NamedTuple):
    """One read: which revision, its sums, and what did not agree or went wrong, empty when nothing."""

    revision: int
    sums: Sums
    why: str


@dataclass
class _Written:
    sums: dict[int, Sums] = field(default_factory=dict)
    full: int = 0
    compacted: int = 0
    failures: list[str] = field(default_factory=list)


def read_under_writer(folder: Path, seconds: float) -> list[Line]:
    """Let everybody work so long.

    Parameters
    ----------
    folder : Path
        Empty; filled with an export.
    seconds : float
    """
    target = folder / "out"
    with ExitStack() as stack:
        writer = stack.enter_context(closing(_Worker(partial(_write_all, target))))
        readers = {name: stack.enter_context(closing(_Worker(partial(_read_all, target, name)))) for name in READERS}
        writer.wait_until_ready()
        for reader in readers.values():
            reader.wait_until_ready()
        for reader in readers.values():
            reader.begin()
        time.sleep(seconds)
        seen = {name: reader.stopped() for name, reader in readers.items()}
        written = writer.stopped()
    return [*_lines(seen, written, seconds), _writer_line(target, written)]


def _lines(seen: Mapping[str, Sequence[Seen]], written: _Written, seconds: float) -> Iterator[Line]:
    for name, reads in seen.items():
        wrong = [f"revision {one.revision}: {why}" for one in reads if (why := one.why or _mixed(one, written))]
        revisions = {one.revision for one in reads}
        errors = sum(bool(one.why) for one in reads)
        told = f"{errors} errors, {len(wrong) - errors} mixed or unknown revisions; {len(revisions)} of {len(written.sums)} revisions read"
        yield Line(f"{seconds:g} s of {name} under a writer", len(reads), len(wrong), (told,), first(wrong))


def _mixed(one: Seen, written: _Written) -> str:
    if one.revision not in written.sums:
        return "was never written"
    return "" if one.sums == written.sums[one.revision] else f"{one.sums}, written were {written.sums[one.revision]}"


def _writer_line(target: Path, written: _Written) -> Line:
    found = verify(target)
    failures = [*written.failures, *(f"verify found {row}" for row in found.rows())]
    seen = (
        f"{written.full} of them full, {written.compacted} compactions; verify found {found.height} faults at the end",
    )
    return Line("the writer's revisions", len(written.sums), len(failures), seen, first(failures))


def _write_all(target: Path, line: Connection) -> _Written:
    story, written = Story.begin(), _Written()
    while not line.poll():
        sums = _sums(_held(story.snapshot))
        full = story.generation % FULL_EVERY == 0
        _note(written, export(story.snapshot, target, full=full), sums)
        written.full += full
        if story.generation == 1:
            line.send("ready")
        if story.generation % COMPACT_EVERY == 0:
            written.sums[compact(target).revision] = sums
            written.compacted += 1
        if story.generation == LAST:
            break
        story.advance(story.generation + 1)
    return written


def _note(written: _Written, revision: int, sums: Sums) -> None:
    before = written.sums.get(revision - 1, {})
    if alike := [name for name in sums if sums[name] == before.get(name)]:
        written.failures.append(f"revision {revision} cannot be told from the one before by {', '.join(alike)}")
    written.sums[revision] = sums


def _held(snapshot: Snapshot) -> dict[str, pl.DataFrame]:
    tables = snapshot.tables()
    return {name: _by_polars(conform_table(name, tables[name]).lazy(), name) for name in AMOUNTS}


def _read_all(target: Path, name: str, line: Connection) -> list[Seen]:
    chance, read = random.Random(f"{SEED} {name}"), READERS[name]  # noqa: S311
    seen: list[Seen] = []
    line.send("ready")
    line.recv()
    while not line.poll():
        share = chance.random() if len(seen) % FORMER_EVERY == FORMER_EVERY - 1 else 1.0
        start = time.perf_counter()
        found, why = try_reading(partial(_read_one, target, share, read))
        seen.append(found or Seen(0, {}, why))
        # Else four readers leave the writer nothing, and nothing changes under them.
        time.sleep(time.perf_counter() - start)
    return seen


def _read_one(target: Path, share: float, read: Read) -> Seen:
    dataset = open_dataset(target)
    if share < 1:
        dataset = open_dataset(target, 1 + int(share * dataset.revision))
    tables = {
        name: read(dataset, name).select(pl.col(column).cast(dtype) for column, dtype in SHAPE.items())
        for name in AMOUNTS
    }
    return Seen(dataset.revision, _sums(tables), _disagreement(tables))


def _sums(tables: Mapping[str, pl.DataFrame]) -> Sums:
    return {name: (int(rows["slots"].sum()), float(rows["other"].sum())) for name, rows in tables.items()}


def _disagreement(tables: Mapping[str, pl.DataFrame]) -> str:
    both = tables["quality"].rename({"slots": "present", "other": "missing"})
    for name in ("bars", "gaps"):
        both = both.join(tables[name].select(*SCOPE, pl.col("slots").alias(name)), on=SCOPE, how="full", coalesce=True)
    wrong = both.filter(
        (pl.col("present").fill_null(-1) != pl.col("bars").fill_null(0))
        | (pl.col("missing").fill_null(-1) != pl.col("gaps").fill_null(0))
    )
    return f"bars, gaps and quality do not agree: {wrong.row(0)}" if wrong.height else ""


def _by_polars(rows: pl.LazyFrame, table: str) -> pl.DataFrame:
    slots, other = AMOUNTS[table]
    counted = {
        "bars": (pl.col(slots).count(), pl.col(other).sum()),
        "gaps": (pl.col(slots).sum(), pl.col(other).count()),
    }
    one, two = counted.get(table, (pl.col(slots).sum(), pl.col(other).sum()))
    return rows.group_by(SCOPE).agg(one.alias("slots"), two.alias("other")).collect()


def _polars(dataset: Dataset, table: str) -> pl.DataFrame:
    return _by_polars(pl.scan_delta(str(dataset.target / table), version=_version(dataset, table)), table)


def _pyarrow(dataset: Dataset, table: str) -> pl.DataFrame:
    delta = DeltaTable(dataset.target / table, version=_version(dataset, table))
    slots, other = AMOUNTS[table]
    rows = delta.to_pyarrow_dataset().to_table(columns=[*SCOPE, slots, other])
    how = {"bars": ("count", "sum"), "gaps": ("sum", "count")}.get(table, ("sum", "sum"))
    sums: pa.Table = rows.group_by(list(SCOPE)).aggregate([(slots, how[0]), (other, how[1])])
    return pl.DataFrame(sums).rename({f"{slots}_{how[0]}": "slots", f"{other}_{how[1]}": "other"})


def _duckdb(dataset: Dataset, table: str) -> pl.DataFrame:
    with closing(connect(dataset)) as con:
        rows: pl.DataFrame = con.sql(_query(table)).pl()
        return rows


def _sandbox(dataset: Dataset, table: str) -> pl.DataFrame:
    return sql(dataset.target, _query(table), revision=dataset.revision, threads=1)


def _query(table: str) -> str:
    scope = ", ".join(SCOPE)
    return f"SELECT {scope}, {SUMMED[table]} FROM {table} GROUP BY {scope}"  # noqa: S608 - names of ours


def _version(dataset: Dataset, table: str) -> int:
    last = dataset.exports.row(-1, named=True)
    return int(dict(zip(last["table_names"], last["table_versions"], strict=True))[table])


READERS: Mapping[str, Read] = {
    "Polars (scan_delta)": _polars,
    "DuckDB (engine.connect)": _duckdb,
    "DuckDB (engine.sql)": _sandbox,
    "PyArrow (deltalake)": _pyarrow,
}


class _Worker(Generic[Found]):
    """A process that works until it is told to stop, and then says what it found."""

    def __init__(self, work: Callable[[Connection], Found]) -> None:
        context = get_context("spawn")
        self._line, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, work), daemon=True)
        self._process.start()
        other.close()

    def wait_until_ready(self) -> None:
        self._answer("start")

    def begin(self) -> None:
        self._line.send("begin")

    def stopped(self) -> Found:
        self._line.send("stop")
        found: Found = self._answer("stop")
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._line.close()

    def _answer(self, what: str) -> Any:
        if not self._line.poll(ANSWER_SECONDS):
            raise RuntimeError(f"a process did not {what} within {ANSWER_SECONDS:g} s")
        said = self._line.recv()
        if isinstance(said, Exception):
            raise said
        return said


def _work(line: Connection, work: Callable[[Connection], object]) -> None:
    try:
        line.send(work(line))
    except Exception as error:  # noqa: BLE001 - raised again by whoever waits
        line.send(RuntimeError(f"{type(error).__name__}: {error}"))
    # Whoever works on its own account is told to stop all the same.
    with suppress(EOFError):
        line.recv()
