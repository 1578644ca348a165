"""Audits of one Parquet table of bars: against merely decoding it, step by step, with two workers, and the memory they take.

    python -m benchmarks.audit [--rows 5e6] [--market liquid mixed] [--only speed|steps|workers|memory] [--also CHECKOUT]
    python -m benchmarks.audit plan

Minute bars of 61 sessions of XNYS, sorted by symbol and time, in row groups of half a million rows, compressed by zstd. A symbol
lacks each of its minutes with a chance of `most * u**4`, `u` uniform: `liquid` (most 0.015) as `benchmarks.panel` on average;
`mixed` (most 0.5) as `benchmarks.market`, whose median name has 97 % of its minutes and whose thinnest half of them, so that a
million rows have 80,000 gaps to be explained.

speed    all that an audit does, and grid, gaps and quality alone, each with its own reading of the table, beside the time in
         which Polars decodes the columns that an audit uses. In this process, contenders take turns. Then the command
         `engine audit` in fresh processes, on folders of CSV files and on real ones, beside another checkout (`--also`).
steps    where the time of an audit goes.

Both count processor time (of one Polars thread, where POLARS_MAX_THREADS=1 says so), which others on the machine change least.

workers  two processes of one Polars thread each beside one.
memory   the most memory that the process and its workers hold, in fresh processes.
plan     what 8,000 symbols over ten years take, from rates that `benchmarks.scale` measures.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from engine.audit import pipeline
from engine.calendars.providers import calendar
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.quality.gaps import expected_slots, find_gaps, slot_runs
from engine.quality.score import quality_score
from engine.runtime import auditor, parquet_scan
from engine.runtime.executor import Executor, ProcessExecutor, SerialExecutor
from engine.runtime.run import load_options

from benchmarks import audit_command, machine
from benchmarks.timing import Contender, Measure, measures, table

FIRST, LAST = dt.date(2024, 9, 3), dt.date(2024, 11, 26)
MARKETS = {"liquid": 0.015, "mixed": 0.5}
MONTH_END = dt.date(2024, 9, 30)
YEARS = (2, 4, 8)
SYMBOLS_AT_ONCE = 50
ROW_GROUP = 1 << 19
SEED = 20240903
USED = ["symbol", "ts", "open", "high", "low", "close", "volume"]
OPTIONS = load_options("XNYS", interval="1m")
DECODE, SCAN, FULL = "Polars, decode of the seven columns", "engine, grid, gaps and quality", "engine, full audit"
# What a step is called, and the functions that are one.
STEPS: tuple[tuple[str, object, str], ...] = (
    ("decode and conform", parquet_scan, "read_row_range"),
    ("number and sort", parquet_scan, "number_series"),
    ("place", SessionGrid, "place"),
    ("repeats", parquet_scan, "settle"),
    ("sum up runs", parquet_scan, "summarize_bars"),
    ("sizes", parquet_scan, "series_sizes"),
    ("checks of bars", parquet_scan, "measured_rows"),
    ("keep", auditor, "to_bytes"),
    ("keep", auditor, "from_bytes"),
    ("join", auditor, "join_surveys"),
    ("explain blocks", pipeline, "sum_missing"),
    ("explain blocks", pipeline, "attribute_causes"),
    ("explain blocks", pipeline, "build_tables"),
    ("explain", auditor, "attribute_gaps"),
    ("checks judged", auditor, "judge_checks"),
    ("findings", auditor, "gap_findings"),
)
PARENTS = ("join", "explain", "checks judged", "findings")


@dataclass(frozen=True)
class BarsTable:
    """A table of bars on the disk."""

    path: Path
    rows: int
    market: str

    @classmethod
    def write(cls, folder: Path, rows: int, market: str) -> BarsTable:
        """Write about so many rows, a few symbols at a time."""
        path = folder / f"{market}-{rows}.parquet"
        stamps, rng, written = session_minutes(), np.random.default_rng(SEED), 0
        symbols = max(1, round(rows / len(stamps) / (1 - MARKETS[market] / 5)))
        writer: Any = None
        for first in range(0, symbols, SYMBOLS_AT_ONCE):
            part = random_bars(first, min(SYMBOLS_AT_ONCE, symbols - first), stamps, MARKETS[market], rng).to_arrow(
                compat_level=pl.CompatLevel.oldest()
            )
            writer = writer or pq.ParquetWriter(path, part.schema, compression="zstd")
            writer.write_table(part, row_group_size=ROW_GROUP)
            written += part.num_rows
        writer.close()
        return cls(path, written, market)

    @property
    def name(self) -> str:
        return f"{self.rows / 1e6:.0f}M rows, {self.market}"


def session_minutes(first: dt.date = FIRST, last: dt.date = LAST) -> np.ndarray:
    regular = calendar("XNYS").segments(first, last).filter("regular")
    spans = regular.select(pl.col("segment_open", "segment_close").to_physical()).iter_rows()
    return np.concatenate([np.arange(begin, end, 60_000_000) for begin, end in spans])


def random_bars(first: int, symbols: int, stamps: np.ndarray, most: float, rng: np.random.Generator) -> pl.DataFrame:
    silent = np.repeat(most * rng.random(symbols) ** 4, len(stamps))
    kept = rng.random(len(silent)) >= silent
    rows = int(kept.sum())
    start = 100 + (np.cumsum(rng.integers(-3, 4, rows)) % 5000) * 0.01
    end = start + rng.integers(-5, 6, rows) * 0.01
    return pl.DataFrame(
        {
            "symbol": np.repeat(np.arange(first, first + symbols), len(stamps))[kept],
            "ts": np.tile(stamps, symbols)[kept],
            "open": start,
            "high": np.maximum(start, end) + rng.integers(0, 5, rows) * 0.01,
            "low": np.minimum(start, end) - rng.integers(0, 5, rows) * 0.01,
            "close": end,
            "volume": rng.integers(1, 10_000, rows),
        }
    ).with_columns(
        pl.format("S{}", pl.col("symbol").cast(pl.String).str.zfill(5)).alias("symbol"),
        pl.col("ts").cast(pl.Datetime("us", "UTC")),
    )


def folders_of_files(folder: Path, rows: int) -> dict[str, Path]:
    """CSV files of `mixed` bars, label to folder: about `rows` of symbols over 20 sessions, and one symbol over years."""
    rng, month = np.random.default_rng(SEED), session_minutes(FIRST, MONTH_END)
    symbols = max(2, round(rows / len(month)))
    bars = random_bars(0, symbols, month, MARKETS["mixed"], rng)
    made = {f"{symbols} symbols, 20 sessions": audit_command.write_symbols(bars, folder / "month")}
    for years in YEARS:
        minutes = session_minutes(dt.date(LAST.year - years, LAST.month, LAST.day), LAST)
        bars = random_bars(0, 1, minutes, MARKETS["mixed"], rng)
        made[f"one symbol, {years} years"] = audit_command.write_symbols(bars, folder / f"years-{years}")
    return made


def speed(bars_table: BarsTable, rounds: int) -> list[Measure]:
    """Decode, grid with gaps and quality, and the full audit, in turns."""
    decode = Contender(DECODE, lambda: pl.read_parquet(bars_table.path, columns=USED).height)
    two = Contender(
        "Polars, decode of symbol and ts", lambda: pl.read_parquet(bars_table.path, columns=USED[:2]).height
    )
    contenders = [
        decode,
        two,
        Contender(SCAN, partial(scan_gaps, bars_table.path)),
        Contender(FULL, partial(run_audit, bars_table.path)),
    ]
    times: dict[str, list[float]] = {one.name: [] for one in contenders}
    for _ in range(rounds):
        for one in contenders:
            begin = time.process_time()
            rows = one.run()
            times[one.name].append(time.process_time() - begin)
            if rows != bars_table.rows:
                raise AssertionError(f"{one.name}: {rows} rows of {bars_table.rows}")
    return measures(
        "Audit of a Parquet table", bars_table.name, bars_table.rows, times, {SCAN: "<= 2.5", FULL: "<= 10"}
    )


def run_audit(path: Path, executor: Executor | None = None) -> int:
    return auditor.audit([path], OPTIONS, executor=executor).rows


def scan_gaps(path: Path) -> int:
    """Place, find gaps, score: a stretch at a time, decode included, as the audit does it."""
    rows = 0
    for stretch in parquet_scan.cut_row_ranges(path):
        bars = pl.scan_parquet(path).slice(stretch.first, stretch.count).select("symbol", "ts").collect()
        numbered, series = parquet_scan.number_series(bars.with_columns(pl.lit("last").alias("price_type")))
        segments = calendar("XNYS").segments_in_bounds(FIRST, LAST)
        grid = SessionGrid.build(segments, Interval(1, "m"), GridSpec("XNYS"))
        placed = pl.concat([numbered, grid.place(numbered["ts"])], how="horizontal")
        alive = series.select("series", pl.lit(FIRST).alias("first"), pl.lit(LAST).alias("last"))
        wanted = expected_slots(alive, grid)
        gaps = find_gaps(wanted, slot_runs(placed.select("series", "ordinal", "slot")), grid)
        quality_score(wanted, gaps, pl.DataFrame(schema={"series": pl.Int32, "session": pl.Date}))
        rows += placed.height
    return rows


def steps(bars_table: BarsTable) -> list[Measure]:
    """Seconds of each step of an audit, as a share of the whole."""
    spent: dict[str, float] = defaultdict(float)
    with timed_steps(spent):
        begin = time.process_time()
        run_audit(bars_table.path)
        whole = time.process_time() - begin
    spent["the rest"] = whole - sum(spent.values())
    return [
        Measure(
            "Steps of an audit",
            bars_table.name,
            name,
            bars_table.rows,
            (seconds,),
            note=f"{100 * seconds / whole:.0f} %",
        )
        for name, seconds in spent.items()
    ]


@contextmanager
def timed_steps(spent: dict[str, float]) -> Iterator[None]:
    former = [(owner, function, getattr(owner, function)) for _, owner, function in STEPS]
    called = {(owner, function): step for step, owner, function in STEPS}
    inside: list[float] = []

    def clocked(step: str, function: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **options: object) -> object:
            inside.append(0.0)
            begin = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                taken = time.process_time() - begin
                # What a step within a step takes is not the outer one's.
                spent[step] += taken - inside.pop()
                if inside:
                    inside[-1] += taken

        return run

    for owner, name, function in former:
        setattr(owner, name, clocked(called[owner, name], function))
    try:
        yield
    finally:
        for owner, name, function in former:
            setattr(owner, name, function)


def workers(bars_table: BarsTable, rounds: int) -> list[Measure]:
    """One and two workers, the start of processes included; a ratio is one's time over two's.

    By processor time, two workers take what the parent does, and half of what the workers do: what a machine would see
    whose cores nobody else uses. What two processes of plain arithmetic gain on this machine is beside it.
    """
    taken: dict[int, list[float]] = {1: [], 2: []}
    spent: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for count, seconds in taken.items():
            begin, parent, children = time.perf_counter(), time.process_time(), children_seconds()
            run_audit(bars_table.path, ProcessExecutor(count, threads=1))
            seconds.append(time.perf_counter() - begin)
            spent[count].append((time.process_time() - parent, children_seconds() - children))
    gained = sorted(one / two for one, two in zip(taken[1], taken[2], strict=True))[rounds // 2]
    alone, shared = (tuple(parent + work / count for parent, work in spent[count]) for count in (1, 2))
    could = sorted(one / two for one, two in zip(alone, shared, strict=True))[rounds // 2]
    parent = sorted(part / whole for (part, _), whole in zip(spent[2], shared, strict=True))[rounds // 2]
    group = "Audit by workers of one Polars thread"
    return [
        Measure(group, bars_table.name, "one worker", bars_table.rows, tuple(taken[1])),
        Measure(group, bars_table.name, "two workers", bars_table.rows, tuple(taken[2]), gained, ">= 1.7",
                f"times one worker; arithmetic gains {gain_of_arithmetic():.2f}"),
        Measure(group, bars_table.name, "one worker, by processor time", bars_table.rows, alone),
        Measure(group, bars_table.name, "two workers, by processor time", bars_table.rows, shared, could, ">= 1.7",
                f"times one worker; {100 * parent:.0f} % of it in the parent"),
    ]  # fmt: skip


def gain_of_arithmetic() -> float:
    def taken(count: int) -> float:
        begin = time.perf_counter()
        code = "sum(number * number for number in range(20_000_000))"
        children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
        for child in children:
            child.wait()
        return time.perf_counter() - begin

    return 2 * taken(1) / taken(2)


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory(bars_table: BarsTable) -> list[Measure]:
    """The most that a fresh process and its workers hold."""
    lines = []
    for name, executor in (("one process", SerialExecutor()), ("two workers", ProcessExecutor(2, threads=1))):
        count = 0 if isinstance(executor, SerialExecutor) else 2
        seconds, peak = _peak(
            [sys.executable, "-m", "benchmarks.audit", "alone", str(bars_table.path), "--workers", str(count)]
        )
        lines.append(Measure("Memory of an audit, process and workers", bars_table.name, name, bars_table.rows, (seconds,), peak / 2048,
                             "<= 1", f"{peak:,.0f} MB; ratio to 2 GB"))  # fmt: skip
    return lines


def _peak(command: list[str]) -> tuple[float, float]:
    begin, most = time.perf_counter(), 0.0
    child = subprocess.Popen(command, env={**os.environ, "POLARS_MAX_THREADS": "1"})
    while child.poll() is None:
        most = max(most, _held(child.pid))
        time.sleep(0.05)
    if child.returncode:
        raise RuntimeError(f"{command}: ended with {child.returncode}")
    return time.perf_counter() - begin, most


def _held(pid: int) -> float:
    """Megabytes that a process and all below it hold now, what they share counted once."""
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = next((int(line.split()[1]) / 1024 for line in told.splitlines() if line.startswith("Pss:")), 0.0)
    return own + sum(_held(int(child)) for child in below)


def everything(
    rows: int, scratch: Path, rounds: int, only: str | None = None, markets: Sequence[str] = tuple(MARKETS)
) -> Iterator[list[Measure]]:
    """Every group on both markets."""
    for market in markets:
        bars_table = BarsTable.write(scratch, rows, market)
        kinds: dict[str, Callable[[], list[Measure]]] = {
            "speed": lambda bars_table=bars_table: speed(bars_table, rounds),  # type: ignore[misc]
            "steps": lambda bars_table=bars_table: steps(bars_table),  # type: ignore[misc]
            "workers": lambda bars_table=bars_table: workers(bars_table, max(1, rounds // 2)),  # type: ignore[misc]
            "memory": lambda bars_table=bars_table: memory(bars_table),  # type: ignore[misc]
        }
        for name, kind in kinds.items():
            if only in (None, name):
                yield kind()
        bars_table.path.unlink()


def main() -> int:
    options = _parser().parse_args()
    if options.what == "alone":
        run_audit(
            Path(options.path), ProcessExecutor(options.workers, threads=1) if options.workers else SerialExecutor()
        )
        return 0
    if options.what == "plan":
        from benchmarks import scale  # noqa: PLC0415 - it imports this module

        return scale.main(["--market", "mixed"])
    print(f"load {machine.load():.1f}; {pl.thread_pool_size()} Polars threads; {machine.about()}")
    with tempfile.TemporaryDirectory(prefix="engine-bench-") as scratch:
        for lines in everything(int(float(options.rows)), Path(scratch), options.repeat, options.only, options.market):
            print(table(lines), flush=True)
        if options.only in (None, "speed"):
            made = folders_of_files(Path(scratch), int(float(options.rows)) // 5)
            for line in audit_command.compare(made, Path(scratch), options.also, options.repeat):
                print(line, flush=True)
    print(f"load {machine.load():.1f}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit")
    parser.add_argument("what", nargs="?", default="all", choices=["all", "plan", "alone"])
    parser.add_argument("path", nargs="?")
    parser.add_argument("--rows", default="5e6")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=["speed", "steps", "workers", "memory"])
    parser.add_argument("--market", nargs="+", choices=MARKETS, default=list(MARKETS))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--also", type=Path, help="checkout of another version, timed on the same files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
