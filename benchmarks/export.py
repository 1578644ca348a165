"""Exports: what writing, carrying on and asking one costs, beside Polars and DuckDB on the same rows and files.

Everything is written below the folder that the caller gives; on a file system in memory the flushes cost nothing, and the
ratios of `written` say less.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import count
from operator import attrgetter
from pathlib import Path
from statistics import median
from unittest import mock

import duckdb
import engine
import numpy as np
import polars as pl
import polars.selectors as cs
import pyarrow.parquet as pq
from engine.calendars.providers import calendar
from engine.export.dataset import Dataset, open_dataset
from engine.export.delta import read_delta
from engine.export.maintenance.compact import compact
from engine.export.parquet import row_group_rows
from engine.export.tables import DATA_TABLES
from engine.grid import SessionGrid
from engine.interval import Interval
from engine.publish import fsync, write_new_file
from engine.runtime.quality_manager import assess_session
from engine.runtime.run import export_session
from engine.schema import BARS, TS
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData
from polars.testing import assert_frame_equal

from benchmarks.panel import SEED, SPEC, TICK, Panel
from benchmarks.timing import Contender, Measure, measures, race

YEAR = (dt.date(2024, 1, 1), dt.date(2024, 12, 31))
YEAR_INTERVAL = "5m"
SESSIONS_PER_APPEND = 20
MINUTE = dt.timedelta(minutes=1)
LIVE_MINUTES = 30  # of the running session, in the export before the first delta
EXPORT_MINUTES = 90  # of the session before it, in each of its exports
COLD_STARTS = 5
COLD_SECONDS = 1.0
COUNTER = Path("/proc/self/io")
COUNT_ROWS = "SELECT count(*) FROM {bars}"
QUERIES = {
    "group by": "SELECT symbol, avg(close) AS mean, sum(volume) AS volume FROM {bars} GROUP BY symbol ORDER BY symbol",
    "sum": "SELECT sum(volume) AS volume, sum(trades) AS trades FROM {bars}",
    "filter": "SELECT count(*) AS n, max(high) AS high FROM {bars} WHERE close > open AND volume > 9000",
}


@dataclass(frozen=True)
class Exported:
    """A panel in a store, and the first export of it.

    Attributes
    ----------
    session : SessionData
        Its 1m bars, gaps and quality.
    folder : Path
        Where exports may be written.
    title : str
        What the panel is.
    """

    session: SessionData
    folder: Path
    title: str

    @classmethod
    def of(cls, panel: Panel, folder: Path) -> Exported:
        """A store of the panel's bars."""
        session = new_store(panel.named.select(pl.col("symbol").unique(maintain_order=True))["symbol"])
        session.append(_conformed(panel.named), "bars", "1m")
        assess_session(session)
        return cls(session, folder, panel.name)

    @cached_property
    def first(self) -> tuple[Dataset, int]:
        """The first export, and how many times it flushed a file or a folder."""
        with mock.patch("os.fsync", wraps=os.fsync) as told:
            export_session(self.session, self.folder / "first")
        return open_dataset(self.folder / "first"), told.call_count

    @property
    def dataset(self) -> Dataset:
        """The first export."""
        return self.first[0]

    @property
    def bars(self) -> list[str]:
        """Files of its bars."""
        return [str(path) for path in self.dataset.files("bars")]


def written(made: Exported, rounds: int) -> list[Measure]:
    """`export_session` to a new folder, against Polars writing the same frames to as many files, flushed as often.

    Polars is given the finished rows (columns, order, cut by file) and the same compression and row groups; hashing,
    statistics, naming and the log are left to the engine. The second rival writes the bars as one file, as Polars does
    by default.
    """
    flushes = made.first[1]
    frames = [(path.relative_to(made.dataset.target), pl.read_parquet(path, hive_partitioning=False))
              for name in DATA_TABLES for path in made.dataset.files(name)]  # fmt: skip
    bars = pl.concat([frame for path, frame in frames if path.parts[0] == "bars"])
    places = (made.folder / f"copy-{number}" for number in count())
    contenders = [
        Contender("Polars, same files and fsyncs", lambda: _copied(frames, next(places), flushes)),
        Contender("export_session", lambda: _exported(made.session, next(places))),
        Contender("Polars, bars as one file, 1 fsync", lambda: _one_file(bars, next(places)), once=True),
    ]
    times = race(contenders, rounds, partial(_check_bars, bars.height))
    lines = measures("Export", made.title, bars.height, times, {"export_session": "<= 1.5"})
    return [replace(one, note=f"{flushes} fsyncs") if one.name == "export_session" else one for one in lines]


def delta(symbols: int, sessions: Sequence[int], folder: Path, rounds: int) -> list[Measure]:
    """One more minute of every symbol, into exports of ever more sessions, in turns; ratios against the smallest.

    The last whole session came in pieces, each exported, and was merged by `compact`, as at the end of a live day.
    """
    exports = [Growing(symbols, held, folder / f"of-{held}") for held in sessions]
    steps = [[export.step() for export in exports] for _ in range(rounds + 1)][1:]
    per_export = list(zip(*steps, strict=True))
    lines: list[Measure] = []
    for name, took in (("export_session", attrgetter("export")), ("read_delta", attrgetter("read"))):
        times = {str(held): [took(step) for step in mine] for held, mine in zip(sessions, per_export, strict=True)}
        made = measures(f"Delta, one minute of {symbols:,} symbols, after day-end merges", name, symbols, times, {})
        lines += [_told(one, mine) for one, mine in zip(made, per_export, strict=True)]
    return lines


@dataclass(frozen=True)
class Step:
    """What one minute cost: seconds to write and to read it; bytes of new files; rows of the files that differ."""

    export: float
    read: float
    new_bytes: int
    rows_read: int


class Growing:
    """A live session after so many whole ones, exported once."""

    def __init__(self, symbols: int, held: int, target: Path) -> None:
        days = hours("1m").head(held + 1)
        listed, (self._open, self._day) = names(symbols), days.select("open", "session").row(-1)
        self._symbols = symbols
        self._market = partial(market, listed)
        self._session = new_store(listed, as_of=self._open + LIVE_MINUTES * MINUTE)
        self._target = target
        self._minute = LIVE_MINUTES
        for offset in range(0, held - 1, SESSIONS_PER_APPEND):
            part = days.head(held - 1).slice(offset, SESSIONS_PER_APPEND)
            self._session.append(self._market(stamps(part, "1m")), "bars", "1m")
        self._export()
        self._live_day(days.slice(held - 1, 1))
        self._append(0, LIVE_MINUTES)
        self._export()

    def _live_day(self, day: pl.DataFrame) -> None:
        # As a live session comes: in pieces, each exported, and merged at the end of the day.
        ts = stamps(day, "1m")
        for offset in range(0, len(ts), EXPORT_MINUTES):
            self._session.append(self._market(ts.slice(offset, EXPORT_MINUTES)), "bars", "1m")
            self._export()
        compact(self._target)

    def _export(self) -> None:
        assess_session(self._session)
        export_session(self._session, self._target)

    def step(self) -> Step:
        """Take one more minute in, export it, read it as a consumer would."""
        self._append(self._minute, 1)
        self._minute += 1
        self._session.set_as_of(self._open + self._minute * MINUTE)
        assess_session(self._session, (self._day, self._day))
        begin = time.perf_counter()
        revision = export_session(self._session, self._target)
        exported = time.perf_counter()
        read = read_delta(self._target, revision - 1)
        done = time.perf_counter()
        _check_rows(self._symbols, f"delta, full: {read.full}", read.upserts["bars"].height)
        new, gone = _differing(self._target, revision)
        size = sum((self._target / path).stat().st_size for path in new)
        return Step(exported - begin, done - exported, size, sum(new.values()) + sum(gone.values()))

    def _append(self, first: int, minutes: int) -> None:
        stamps = [self._open + (first + step) * MINUTE for step in range(minutes)]
        self._session.append(self._market(pl.Series("ts", stamps, TS)), "bars", "1m")


def pruning(symbols: int, folder: Path, rounds: int) -> list[Measure]:
    """One symbol's year of 5m bars, all columns, out of an export of many symbols: bytes read of those that bars take.

    Bytes are those that system calls of this process return (`rchar` in /proc/self/io), the log and all footers
    included. A file has up to 64 row groups however few rows it holds, so footers, which are read whole, weigh most in a
    small export. The line `row groups by statistics` reads none: it adds up the compressed row groups whose bounds hold
    the symbol, which is the least that a reader has to fetch.
    """
    target = folder / "year"
    session = new_store(names(symbols))
    days = hours(YEAR_INTERVAL)
    for _, month in days.group_by(pl.col("session").dt.month(), maintain_order=True):
        session.append(market(names(symbols), stamps(month, YEAR_INTERVAL)), "bars", YEAR_INTERVAL)
    export_session(session, target)
    files = open_dataset(target).files("bars")
    table, footers = (sum(sizes) for sizes in zip(*map(_file_and_footer, files), strict=True))
    wanted = [f"S{at:05}" for at in np.linspace(1, symbols, rounds + 2, dtype=int)[1:-1]]
    expected = len(stamps(days, YEAR_INTERVAL))
    runs: dict[str, Callable[[str], int]] = {
        "engine.connect": partial(_through_connect, target, expected),
        "engine.sql": partial(_through_sql, target, expected),
        "row groups by statistics": partial(_row_groups, files),
    }
    for run in runs.values():
        run("S00001")
    case = f"1 of {symbols:,}, footers {footers / table:.2%}"
    return [_pruned(case, name, expected, table, [_timed(run, one) for one in wanted])
            for name, run in runs.items()]  # fmt: skip


def sql(made: Exported, rounds: int) -> list[Measure]:
    """Queries that read all rows, through each door, against DuckDB's `read_parquet` on the same files.

    `one query` opens what it needs and closes it, as `engine.sql` always does; `open connection` has opened before.
    """
    return [line for name, query in QUERIES.items() for line in _asked(made, name, query, rounds)]


def cold(made: Exported) -> list[Measure]:
    """`engine sql` as a whole process; ratio: its seconds by (1 s plus what DuckDB takes for the same query)."""
    program = str(Path(sys.executable).with_name("engine"))
    target = str(made.dataset.target)
    contenders = [
        Contender(
            "engine sql OUT 'SELECT count(*) ...'",
            partial(_process, program, "sql", target, COUNT_ROWS.format(bars="bars")),
        ),
        Contender("python -c 'import duckdb'", partial(_process, sys.executable, "-c", "import duckdb")),
        Contender("the scan (DuckDB)", partial(_natively, None, COUNT_ROWS, made.bars)),
    ]
    times = race(contenders, COLD_STARTS, lambda *_: None)
    ours, other, scan = measures("Cold", "whole process", 0, times, {})
    allowed = COLD_SECONDS + scan.median
    told = replace(ours, ratio=ours.median / allowed, target="<= 1", note=f"of {allowed:.3f} s")
    return [told, replace(other, ratio=None), replace(scan, ratio=None)]


def _asked(made: Exported, name: str, query: str, rounds: int) -> list[Measure]:
    group, rows, files = f"SQL, {made.title}, all rows", made.dataset.rows("bars"), made.bars
    target, ours = made.dataset.target, query.format(bars="bars")
    check = partial(_check_answer, _natively(None, query, files))
    fresh = [
        Contender("DuckDB read_parquet", lambda: _natively(None, query, files)),
        Contender("engine.sql (sandbox)", lambda: engine.sql(target, ours, isolated=False)),
        Contender("engine.sql (in a child)", lambda: engine.sql(target, ours)),
        Contender("engine.connect", lambda: _connected(target, ours)),
    ]
    with duckdb.connect() as native, engine.connect(target) as owned:
        opened = [
            Contender("DuckDB read_parquet, open", partial(_natively, native, query, files)),
            Contender("engine.connect, open", lambda: owned.sql(ours).pl()),
        ]
        open_times = race(opened, rounds, check)
    times = race(fresh, rounds, check)
    return [
        *measures(group, f"{name}: one query", rows, times, {"engine.sql (sandbox)": "<= 2.5"}),
        *measures(group, f"{name}: open connection", rows, open_times, {"engine.connect, open": "<= 1.1"}),
    ]


def _natively(con: duckdb.DuckDBPyConnection | None, query: str, files: list[str]) -> pl.DataFrame:
    if con is None:
        with duckdb.connect() as own:
            return _natively(own, query, files)
    listed = f"read_parquet({files!r}, hive_partitioning = false)"
    answer: pl.DataFrame = con.sql(query.format(bars=listed)).pl()
    return answer


def _connected(target: Path, query: str) -> pl.DataFrame:
    with engine.connect(target) as con:
        answer: pl.DataFrame = con.sql(query).pl()
    return answer


def _check_answer(expected: pl.DataFrame, name: str, answer: object) -> None:
    if not isinstance(answer, pl.DataFrame):
        raise TypeError(f"{name}: gave {type(answer).__name__}")
    # Sums of floats depend on the order of the threads; sums of integers are decimals in the native answer.
    theirs, ours = (frame.with_columns(cs.numeric().cast(pl.Float64)) for frame in (expected, answer))
    try:
        assert_frame_equal(ours, theirs, rel_tol=1e-9)
    except AssertionError as error:
        raise AssertionError(f"{name}: its answer is not DuckDB's own: {error}") from error


def _copied(frames: list[tuple[Path, pl.DataFrame]], place: Path, flushes: int) -> Path:
    for folder in {place / path.parent for path, _ in frames}:
        folder.mkdir(parents=True, exist_ok=True)
    for path, frame in frames:
        frame.write_parquet(
            place / path, compression="zstd", statistics=True, row_group_size=row_group_rows(frame.height)
        )
        fsync(place / path)
    # The engine also flushes its folders and the entries of its log.
    for number in range(flushes - len(frames)):
        write_new_file(place / f"entry-{number}", b"{}")
    return place


def _exported(session: SessionData, target: Path) -> Path:
    export_session(session, target)
    return target


def _one_file(bars: pl.DataFrame, place: Path) -> Path:
    (place / "bars").mkdir(parents=True)
    bars.write_parquet(place / "bars" / "all.parquet")
    fsync(place / "bars" / "all.parquet")
    return place


def _check_bars(expected: int, name: str, place: object) -> None:
    files = [path for path in Path(str(place), "bars").rglob("*.parquet") if path.parent.name != "_delta_log"]
    _check_rows(expected, name, sum(pq.read_metadata(path).num_rows for path in files))


def _check_rows(expected: int, name: str, rows: int) -> None:
    if rows != expected:
        raise ValueError(f"{name}: {rows} rows of {expected}")


def _differing(target: Path, revision: int) -> tuple[dict[Path, int], dict[Path, int]]:
    now, then = _sizes(open_dataset(target, revision)), _sizes(open_dataset(target, revision - 1))
    return {path: now[path] for path in now.keys() - then}, {path: then[path] for path in then.keys() - now}


def _sizes(dataset: Dataset) -> dict[Path, int]:
    listed = {name: dataset.statistics(name).select("path", "num_records").rows() for name in DATA_TABLES}
    return {Path(name, path): rows for name, files in listed.items() for path, rows in files}


def _told(line: Measure, steps: Sequence[Step]) -> Measure:
    size, rows = median(step.new_bytes for step in steps), median(step.rows_read for step in steps)
    note = f"{size / 1e3:,.0f} kB in new files, {rows:,.0f} rows read"
    return replace(line, name=f"sessions before: {line.name}", target="" if line.ratio == 1 else "<= 1.5", note=note)


def _timed(run: Callable[[str], int], symbol: str) -> tuple[float, int]:
    begin = time.perf_counter()
    size = run(symbol)
    return time.perf_counter() - begin, size


def _pruned(case: str, name: str, rows: int, table: int, runs: list[tuple[float, int]]) -> Measure:
    size = median(read for _, read in runs)
    # 0 where the system does not tell.
    ratio = size / table if size else None
    note = f"{size / 1e3:,.0f} kB of {table / 1e6:,.1f} MB = {size / table:.2%}"
    return Measure(
        "Pruning, a symbol's year of 5m", case, name, rows, tuple(s for s, _ in runs), ratio, "<= 0.03", note
    )


def _through_connect(target: Path, expected: int, symbol: str) -> int:
    before = _bytes_read()
    with engine.connect(target) as con:
        _check_rows(expected, "engine.connect", con.sql(_one_symbol(symbol)).pl().height)
    return _bytes_read() - before


def _through_sql(target: Path, expected: int, symbol: str) -> int:
    before = _bytes_read()
    _check_rows(expected, "engine.sql", engine.sql(target, _one_symbol(symbol)).height)
    return _bytes_read() - before


def _one_symbol(symbol: str) -> str:
    return f"SELECT * FROM bars WHERE symbol = '{symbol}'"  # noqa: S608 - a name of ours


def _file_and_footer(path: Path) -> tuple[int, int]:
    return path.stat().st_size, pq.read_metadata(path).serialized_size


def _row_groups(files: list[Path], symbol: str) -> int:
    return sum(size for path in files for size in _matching(pq.read_metadata(path), symbol))


def _matching(footer: pq.FileMetaData, symbol: str) -> Iterator[int]:
    for group in map(footer.row_group, range(footer.num_row_groups)):
        columns = [group.column(at) for at in range(group.num_columns)]
        bounds = next(one.statistics for one in columns if one.path_in_schema == "symbol")
        if bounds.min <= symbol <= bounds.max:
            yield sum(one.total_compressed_size for one in columns)


def _bytes_read() -> int:
    if not COUNTER.exists():
        return 0
    return int(COUNTER.read_text().split("rchar:")[1].split()[0])


def _process(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def new_store(names: Sequence[str] | pl.Series, as_of: dt.datetime | None = None) -> SessionData:
    session = SessionData(as_of=as_of)
    session.register_symbol_data(*(SymbolSessionData(name) for name in names))
    return session


def names(symbols: int) -> list[str]:
    return [f"S{at:05}" for at in range(1, symbols + 1)]


def hours(interval: str) -> pl.DataFrame:
    axis = SessionGrid.build(calendar("XNYS").segments_in_bounds(*YEAR), Interval.parse(interval), SPEC).table
    return axis.filter(pl.col("chosen") & pl.col("session").is_between(*YEAR)).select("session", "open", "close")


def stamps(hours: pl.DataFrame, interval: str) -> pl.Series:
    step = f"{Interval.parse(interval).seconds}s"
    ranges = pl.datetime_ranges("open", "close", step, closed="left").alias("ts")
    return hours.select(ranges).explode("ts")["ts"].cast(TS)


def market(names: list[str], stamps: pl.Series) -> pl.DataFrame:
    symbols = pl.DataFrame({"symbol": names}).join(stamps.to_frame(), how="cross")
    rng = np.random.default_rng(SEED)
    # Each symbol walks from its own price.
    steps = rng.integers(-3, 4, (len(names), len(stamps)))
    close = 100 + (np.cumsum(steps, axis=1) % 5000).ravel() * TICK
    before = close + rng.integers(-5, 6, close.size) * TICK
    values = {
        "open": before, "high": np.maximum(before, close) + TICK, "low": np.minimum(before, close) - TICK, "close": close,
        "volume": rng.integers(1, 10_000, close.size).astype(np.float64), "vwap": (before + close) / 2,
        "trades": rng.integers(1, 200, close.size),
    }  # fmt: skip
    return _conformed(symbols.with_columns(**{name: pl.Series(column) for name, column in values.items()}))


def _conformed(rows: pl.DataFrame) -> pl.DataFrame:
    extra = [pl.lit("last").alias("price_type"), pl.lit(None, pl.Float64).alias("size")]
    return rows.with_columns(extra).select(pl.col(name).cast(dtype) for name, dtype in BARS.items())
