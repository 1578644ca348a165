"""`run` and `audit` by workers: what of their processor time the one parent takes, and what a second worker gains.

    python -m benchmarks.scale [--rows 1.3e7] [--years 10] [--market liquid|mixed] [--only run|audit] [--rounds 1]
    python -m benchmarks.scale --rows 5e7 --rounds 3      # on a quiet machine: the gain by the clock

Minute bars of XNYS (`benchmarks.audit`): of `run` a Parquet file of each symbol with ten years, derived to 5m, 15m, 1h and 1d and
exported; of `audit` one table of 61 sessions. Every measurement is a process of its own, with workers of one Polars thread each: one worker, two
workers, and two workers on a quarter of the symbols, from which the cost of starting is told apart.

Processor time is of the process and of its workers, which others on the machine change least. `times one` of it compares parent
plus work of one worker with parent plus half of the work of two: the machine as it would be if nobody else used it. The share of
the parent at 20 workers is its time of that of one of 20 workers and its own. The tables of the run by two workers are compared with those
of one process.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from engine.cli.run_commands import print_run
from engine.export.dataset import open_dataset
from engine.export.tables import DATA_TABLES, KEYS
from engine.runtime import partitioned_run
from engine.runtime.executor import ProcessExecutor
from engine.runtime.partitioned_run import run_partitioned
from engine.runtime.run import load_options, run

from benchmarks import machine
from benchmarks.audit import LAST, MARKETS, SEED, BarsTable, children_seconds, random_bars, run_audit, session_minutes

SYMBOLS, MONTHS_OF_MARKET, ROWS_OF_MARKET = 8_000, 120, 8_000 * 10 * 252 * 390
WORKERS = 20
OPTIONS = load_options("XNYS", interval="1m", derive=("5m", "15m", "1h", "1d"))
TASK_BYTES = partitioned_run.BYTES_PER_TASK
LEAST_TASKS = 2
MOST_PARENT, LEAST_GAIN = 0.05, 1.8


@dataclass(frozen=True)
class Spent:
    """Seconds of one job: by the clock, of processor time of the parent and of its workers; bytes that it left."""

    clock: float
    parent: float
    workers: float
    bytes_written: int = 0


@dataclass(frozen=True)
class Market:
    """Files of a symbol each (of `run`), or a table (of `audit`)."""

    source: Path
    rows: int
    symbol_months: float
    bytes_of_source: int

    @classmethod
    def of_files(cls, folder: Path, rows: int, market: str, years: int) -> Market:
        """Write about so many rows: of each symbol a Parquet file of so many years."""
        stamps, rng = session_minutes(LAST.replace(year=LAST.year - years), LAST), np.random.default_rng(SEED)
        symbols = max(1, round(rows / len(stamps) / (1 - MARKETS[market] / 5)))
        files = folder / f"{market}-{rows}"
        files.mkdir()
        written = 0
        for number in range(symbols):
            bars = random_bars(number, 1, stamps, MARKETS[market], rng)
            bars.drop("symbol").write_parquet(files / f"S{number:05}.parquet")
            written += bars.height
        return cls(files, written, symbols * 12 * years, sum(path.stat().st_size for path in files.iterdir()))

    @classmethod
    def of_table(cls, folder: Path, rows: int, market: str) -> Market:
        """Write about so many rows of three months as one table."""
        table = BarsTable.write(folder, rows, market)
        return cls(table.path, table.rows, 3 * table.rows / len(session_minutes()), table.path.stat().st_size)


def measure(job: str, source: Path, workers: int, out: Path) -> Spent:
    """Do a job in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "alone", "--only", job, "--workers", str(workers)]
    done = subprocess.run(
        [*command, "--source", str(source), "--out", str(out)],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )
    return Spent(**json.loads(done.stdout))


def do_alone(job: str, source: Path, workers: int, out: Path) -> Spent:
    """Do a job in this process and workers of its own; what the command would print is made, too."""
    begin, started = time.perf_counter(), time.process_time()
    executor = ProcessExecutor(workers, threads=1)
    if job == "audit":
        run_audit(source, executor)
    else:
        size = sum(path.stat().st_size for path in source.iterdir())
        partitioned_run.BYTES_PER_TASK = min(
            TASK_BYTES, size // LEAST_TASKS
        )  # of the size that a market has, if they are enough
        outcome = run_partitioned([source], OPTIONS, out, executor)
        with contextlib.redirect_stdout(io.StringIO()):
            print_run(outcome, out, as_json=False)
    parent = time.process_time() - started
    written = sum(path.stat().st_size for path in out.rglob("*.parquet")) if out.is_dir() else 0
    return Spent(time.perf_counter() - begin, parent, children_seconds(), written)


def are_equal(one: Path, other: Path) -> bool:
    """Whether two exports hold the same rows in every table."""
    here, there = open_dataset(one), open_dataset(other)
    return all(
        here.scan(name).collect().sort(KEYS[name]).equals(there.scan(name).collect().sort(KEYS[name]))
        for name in DATA_TABLES
    )


def lines_of(job: str, big: Market, small: Market, scratch: Path, rounds: int) -> list[tuple[str, str]]:
    """Measure a job; label and value of each line."""
    one, two, quarter = [], [], []
    for turn in range(rounds):
        outs = [scratch / f"{job}-{turn}-{name}" for name in ("one", "two", "quarter")]
        one.append(measure(job, big.source, 1, outs[0]))
        two.append(measure(job, big.source, 2, outs[1]))
        quarter.append(measure(job, small.source, 2, outs[2]))
    parent, workers = (median(getattr(each, name) for each in two) for name in ("parent", "workers"))
    started, idle = (median(getattr(each, name) for each in quarter) for name in ("parent", "workers"))
    # Of the difference of two sizes: starting Python and calendars costs the same at any.
    rows, symbol_months = big.rows - small.rows, big.symbol_months - small.symbol_months
    rate, per_month = rows / max(workers - idle, 1e-9), max(parent - started, 0.0) / symbol_months
    of_market = per_month * SYMBOLS * MONTHS_OF_MARKET, ROWS_OF_MARKET / rate
    share = of_market[0] / (of_market[0] + of_market[1] / WORKERS)
    by_processor = median((a.parent + a.workers) / (b.parent + b.workers / 2) for a, b in zip(one, two, strict=True))
    by_clock = median(a.clock / b.clock for a, b in zip(one, two, strict=True))
    lines = [
        (f"{job}: rows, symbol-months", f"{big.rows:,}, {big.symbol_months:,.0f}"),
        ("two workers, parent and workers", f"{parent:.1f} s and {workers:.1f} s of processor time"),
        ("a quarter of the symbols", f"{started:.1f} s and {idle:.1f} s"),
        ("rows a second and core", f"{rate / 1e6:.2f}M by workers"),
        ("parent per 1,000 symbol-months", f"{1000 * per_month:.2f} s"),
        (f"parent at {WORKERS} workers", f"{100 * share:.1f} % {met(share <= MOST_PARENT)} (<= {100 * MOST_PARENT:.0f} %)"),
        ("two workers, by processor time", f"{by_processor:.2f} times one {met(by_processor >= LEAST_GAIN)} (>= {LEAST_GAIN})"),
        ("two workers, by the clock", f"{by_clock:.2f} times one"),
        (f"8,000 symbols, ten years, {WORKERS} cores", f"{(of_market[1] / WORKERS + of_market[0]) / 60:.0f} min, {of_market[0] / 60:.1f} of them in the parent"),
    ]  # fmt: skip
    if job == "run":
        run([big.source], OPTIONS, scratch / "whole")
        source = big.bytes_of_source / big.rows
        lines += [
            ("tasks of a market", f"{ROWS_OF_MARKET * source / TASK_BYTES:,.0f} of {TASK_BYTES >> 20} MB of Parquet files"),
            ("bytes of the export a source row", f"{two[0].bytes_written / big.rows:.1f}"),
            ("tables as of one process", "equal" if are_equal(scratch / "whole", scratch / "run-0-two") else "DIFFERENT"),
        ]  # fmt: skip
    return lines


def met(is_met: bool) -> str:  # noqa: FBT001 - of a comparison
    return "met" if is_met else "NOT MET"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.what == "alone":
        spent = do_alone(options.only, Path(options.source), options.workers, Path(options.out))
        print(json.dumps(spent.__dict__))
        return 0
    print(f"load {machine.load():.1f}; {pl.thread_pool_size()} Polars threads; {machine.about()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="engine-bench-") as scratch:
        folder, rows = Path(scratch), int(float(options.rows))
        for job in ("run", "audit") if options.only is None else (options.only,):
            place = folder / job
            place.mkdir()
            big, small = (
                Market.of_files(place, size, options.market, options.years)
                if job == "run"
                else Market.of_table(place, size, options.market)
                for size in (rows, rows // 4)
            )
            for name, value in lines_of(job, big, small, place, options.rounds):
                print(f"{name:<36} {value}", flush=True)
    print(f"load {machine.load():.1f}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("what", nargs="?", default="all", choices=["all", "alone"])
    parser.add_argument("--rows", default="1.3e7")
    parser.add_argument("--years", type=int, default=10, help="of each file of `run`")
    parser.add_argument("--market", choices=MARKETS, default="liquid")
    parser.add_argument("--only", choices=["run", "audit"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--source")
    parser.add_argument("--out")
    return parser


if __name__ == "__main__":
    sys.exit(main())
