"""The store: what appending, deriving and assessing a panel costs, in a process of its own, with its peak memory.

`python -m benchmarks.store SYMBOLS SESSIONS` runs it once and prints the steps as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypedDict

import polars as pl
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.schema import BARS
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

from benchmarks import machine
from benchmarks.panel import FIRST, LAST, build
from benchmarks.timing import Measure

DERIVED = ("5m", "15m", "1h", "1d")


class Step(TypedDict):
    """One step of a run."""

    name: str
    rows: int
    seconds: float
    peak_mb: float


def whole_run(symbols: int, sessions: int, rounds: int) -> list[Measure]:
    """Append, derive 5m 15m 1h 1d, assess; medians over fresh processes."""
    runs = [_child(symbols, sessions) for _ in range(rounds)]
    group = f"Store, {symbols} symbols x {sessions} sessions, fresh process"
    return [
        Measure(group, "1m, derived 5m 15m 1h 1d", step["name"], step["rows"], tuple(r[at]["seconds"] for r in runs),
                note=f"peak RSS {max(r[at]['peak_mb'] for r in runs):,.0f} MB")
        for at, step in enumerate(runs[0])
    ]  # fmt: skip


def bars(symbols: int, sessions: int) -> pl.DataFrame:
    """The panel as rows that a source hands to the store."""
    raw = build(symbols, sessions).raw
    names = pl.format("S{}", pl.col("series").cast(pl.String).str.zfill(5)).alias("symbol")
    extra = [names, pl.lit("last").alias("price_type"), pl.lit(None, pl.Float64).alias("size")]
    return raw.with_columns(extra).select(pl.col(name).cast(dtype) for name, dtype in BARS.items())


def registered(rows: pl.DataFrame) -> SessionData:
    """A store that knows the symbols of these rows."""
    session = SessionData()
    names = rows["symbol"].unique(maintain_order=True)
    session.register_symbol_data(*(SymbolSessionData(name, derived_intervals=DERIVED) for name in names))
    return session


def steps(symbols: int, sessions: int) -> list[Step]:
    """One run, step by step."""
    rows = bars(symbols, sessions)
    session = registered(rows)
    # The calendar loads its library and its dates once per process: not what is measured here.
    session.calendar("XNYS").segments_in_bounds(FIRST, LAST)
    jobs: dict[str, Callable[[], object]] = {
        "append": lambda: session.append(rows, "bars", "1m"),
        "append again (all duplicates)": lambda: session.append(rows, "bars", "1m"),
        "derive_session": lambda: derive_session(session),
        "assess_session": lambda: assess_session(session),
    }
    baseline = _step("input (baseline)", lambda: None, 0)
    return [baseline, *(_step(name, job, rows.height) for name, job in jobs.items())]


def _step(name: str, job: Callable[[], object], rows: int) -> Step:
    machine.reset_peak()
    begin = time.perf_counter()
    job()
    return {"name": name, "rows": rows, "seconds": time.perf_counter() - begin, "peak_mb": machine.peak_mb()}


def _child(symbols: int, sessions: int) -> list[Step]:
    command = [sys.executable, "-m", "benchmarks.store", str(symbols), str(sessions)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: list[Step] = json.loads(done.stdout)
    return told


if __name__ == "__main__":
    print(json.dumps(steps(int(sys.argv[1]), int(sys.argv[2]))))
