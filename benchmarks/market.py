"""A whole market by the minute: cost of a step early and late in a session, against bar objects in lists.

`python -m benchmarks.market SYMBOLS` runs it once in this process and prints JSON: the summary (`Summary`), then the seconds
of every minute (`Timings`).

Every minute is appended, derived into 5m 15m 1h and assessed (gaps and quality) in one transaction, as in a live session.
Two stores take turns, minute by minute: one around minute 30, one around minute 380.

Silent minutes: symbol by symbol the chance of a minute without a bar is `MOST_SILENT * u**4` with `u` uniform, so the median
name has 97 % of its minutes and the thinnest half of them.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import TypedDict

import numpy as np
import polars as pl
from engine.runtime.processor import DataProcessor
from engine.runtime.quality_manager import DataQualityManager
from engine.schema import BARS, TS
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

from benchmarks import machine
from benchmarks.object_baseline import ObjectSession
from benchmarks.timing import Measure

SESSION = dt.date(2024, 10, 21)
OPEN = dt.datetime(2024, 10, 21, 13, 30, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
MINUTES = 390
DERIVED = ("5m", "15m", "1h")
EARLY, LATE = range(26, 41), range(371, 386)  # alike in where they lie in their 5m and 15m windows
MOST_SILENT = 0.5
MOST_OBJECT_SYMBOLS = 1_000  # of bar objects; their cost is a sum over symbols, so more need not be measured
SEED = 20241021
FIXED_SYMBOLS, FIXED_DERIVED = 8, ("5m", "15m", "30m", "1h", "4h", "1d")


class Summary(TypedDict):
    """Summary of a run.

    Seconds are medians over the 15 minutes around 30 and 380; `growth` and `growth_of_work` are the median ratio of one
    around 380 to one around 30, by the clock and by processor time; `times_real_time` is of all 390 minutes. `objects_30` and
    `objects_380` are the seconds of bar objects, scaled to as many symbols, over ours.
    """

    minute_30: float
    minute_380: float
    growth: float
    growth_of_work: float
    slowest_minute: float
    times_real_time: float
    processor_seconds: float
    objects_30: float
    objects_380: float


class Timings(TypedDict):
    """Measurements of a run; seconds by minute."""

    early: list[float]
    late: list[float]
    every: list[float]
    symbols: int
    objects_symbols: int
    objects_early: list[float]
    objects_late: list[float]
    rows: int
    data_mb: float
    beyond_mb: float
    log_rows: int
    worked_early: list[float]
    worked_late: list[float]
    processor_seconds: float


@dataclass
class Market:
    """A store and its processors, advanced minute by minute through a session of a market."""

    symbols: int
    derived: tuple[str, ...] = DERIVED
    session: SessionData = field(default_factory=SessionData)
    minute: int = 0
    processor_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.processor, self.quality = DataProcessor(self.session), DataQualityManager(self.session)
        self.session.register_symbol_data(
            *(SymbolSessionData(name, derived_intervals=self.derived, is_loaded=True) for name in names(self.symbols))
        )
        self.session.set_session(SESSION, active=True)

    def step(self) -> float:
        """Append, derive and assess the next minute; return the seconds it took."""
        self.minute += 1
        rows = bars(self.symbols, self.minute)
        begin, worked = time.perf_counter(), time.process_time()
        with self.session.transaction():
            self.session.append(rows, "bars", "1m")
            self.session.set_as_of(OPEN + self.minute * MINUTE)
            self.processor.step()
            self.quality.step()
        self.processor_seconds.append(time.process_time() - worked)
        return time.perf_counter() - begin

    def to(self, minute: int) -> list[float]:
        """Seconds of each minute up to a given one."""
        return [self.step() for _ in range(self.minute, minute)]


def names(symbols: int) -> list[str]:
    """Symbols of the market."""
    return [f"S{number:05d}" for number in range(symbols)]


def bars(symbols: int, minute: int) -> pl.DataFrame:
    """Bars of one minute (counted from 1) as a source delivers them, without silent names; the same at every call."""
    silent = MOST_SILENT * np.random.default_rng(SEED).random(symbols) ** 4
    rng = np.random.default_rng([SEED, minute])
    there = np.flatnonzero(rng.random(symbols) >= silent)
    start = 50 + rng.integers(0, 5_000, len(there)) * 0.01
    end = start + rng.integers(-5, 6, len(there)) * 0.01
    frame = pl.DataFrame({
        "open": start, "high": np.maximum(start, end) + 0.02, "low": np.minimum(start, end) - 0.02, "close": end,
        "volume": rng.integers(1, 10_000, len(there)).astype(np.float64), "vwap": (start + end) / 2,
        "trades": rng.integers(1, 200, len(there)), "symbol": pl.Series(names(symbols))[there],
    })  # fmt: skip
    about = [pl.lit(OPEN + (minute - 1) * MINUTE, TS).alias("ts"), pl.lit("last").alias("price_type"),
             pl.lit(None, pl.Float64).alias("size")]  # fmt: skip
    return frame.with_columns(about).select(pl.col(name).cast(dtype) for name, dtype in BARS.items())


def run(symbols: int) -> Timings:
    """Measure both stores and the bar objects in this process."""
    Market(4).to(3)  # the calendar and the libraries load once per process: not what is measured here
    begun = machine.resident_mb()
    machine.reset_peak()
    late = Market(symbols)
    every = late.to(LATE[0] - 1)
    early = Market(symbols)
    early.to(EARLY[0] - 1)
    taken = [(early.step(), late.step()) for _ in EARLY]
    every += [one for _, one in taken] + late.to(MINUTES)
    beyond = machine.peak_mb() - begun
    snapshot = late.session.snapshot()
    data = data_mb(late.session)
    few = min(symbols, MOST_OBJECT_SYMBOLS)
    return {
        "early": [one for one, _ in taken], "late": [one for _, one in taken], "every": every,
        "symbols": symbols, "objects_symbols": few, "objects_early": time_objects(few, EARLY), "objects_late": time_objects(few, LATE),
        "rows": sum(held.height for held in snapshot.panels.values()), "data_mb": data,
        "beyond_mb": beyond - data - data_mb(early.session), "log_rows": sum(part.height for part in snapshot.change_log.entries),
        "worked_early": [early.processor_seconds[minute - 1] for minute in EARLY],
        "worked_late": [late.processor_seconds[minute - 1] for minute in LATE],
        "processor_seconds": sum(late.processor_seconds),
    }  # fmt: skip


def summarize(timings: Timings) -> Summary:
    """Summarize the measurements of a run."""
    scale = timings["symbols"] / timings["objects_symbols"]
    return {
        "minute_30": median(timings["early"]), "minute_380": median(timings["late"]),
        "growth": median_growth(timings["early"], timings["late"]),
        "growth_of_work": median_growth(timings["worked_early"], timings["worked_late"]),
        "slowest_minute": max(timings["every"]), "times_real_time": MINUTES * 60 / sum(timings["every"]),
        "processor_seconds": timings["processor_seconds"],
        "objects_30": scale * median_ratio(timings["objects_early"], timings["early"]),
        "objects_380": scale * median_ratio(timings["objects_late"], timings["late"]),
    }  # fmt: skip


def time_objects(symbols: int, minutes: range) -> list[float]:
    """Seconds of some minutes of the bar objects; earlier bars are only appended."""
    session = ObjectSession(names(symbols), OPEN)
    for minute in range(1, minutes[0]):
        session.append(bars(symbols, minute))
    return [seconds_of(session.step, bars(symbols, minute), OPEN + minute * MINUTE) for minute in minutes]


def data_mb(session: SessionData) -> float:
    """Size in MB of the panels, gaps and quality of a store."""
    snapshot = session.snapshot()
    panels = [part for held in snapshot.panels.values() for part in held.parts]
    ledgers = [*snapshot.gap_rows.values(), *snapshot.quality_rows.values()]
    kept = [*panels, *(held.held for one in ledgers for held in one.parts)]
    return sum(part.estimated_size("mb") for part in kept)


def whole_market(symbols: int) -> list[Measure]:
    """Lines of one run in a fresh process."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.market", str(symbols)], check=True, capture_output=True)
    timings: Timings = json.loads(done.stdout)
    group = f"Market by the minute, {symbols:,} symbols, 1m -> 5m 15m 1h, gaps, quality"
    scale = symbols / timings["objects_symbols"]
    of_objects = [[one * scale for one in timings[name]] for name in ("objects_early", "objects_late")]  # type: ignore[literal-required]
    scaled = f"lists of bar objects; {timings['objects_symbols']:,} symbols x {scale:g}"
    summary, total = summarize(timings), sum(timings["every"])
    beyond = f"log {timings['log_rows']:,} rows; memory {timings['data_mb']:,.0f} MB of data, at most {timings['beyond_mb']:,.0f} MB beyond it"
    return [
        Measure(group, "minute 30", "engine", symbols, tuple(timings["early"]), 1.0),
        Measure(group, "minute 30", "bar objects", symbols, tuple(of_objects[0]), median_ratio(of_objects[0], timings["early"]), note=scaled),
        Measure(group, "minute 380", "engine", symbols, tuple(timings["late"]), summary["growth"], "<= 1.3",
                f"against minute 30; {summary['minute_380'] / 60:.1%} of a minute; processor time {summary['growth_of_work']:.2f}x"),
        Measure(group, "minute 380", "bar objects", symbols, tuple(of_objects[1]), median_ratio(of_objects[1], timings["late"]), note=scaled),
        Measure(group, "slowest minute", "engine", symbols, (summary["slowest_minute"],), note="the parts of a panel are merged"),
        Measure(group, "all 390 minutes", "engine", timings["rows"], (total,), summary["times_real_time"], ">= 60", f"times real time; {beyond}"),
    ]  # fmt: skip


def fixed_cost(steps: int) -> list[Measure]:
    """Cost of a step of few rows: the last minutes of a session of 8 symbols."""
    market = Market(FIXED_SYMBOLS, FIXED_DERIVED)
    market.to(MINUTES - steps)
    taken = market.to(MINUTES)
    group = f"A minute of {FIXED_SYMBOLS} symbols, 1m -> {' '.join(FIXED_DERIVED)}, gaps, quality"
    return [Measure(group, f"last {steps} minutes", "engine", FIXED_SYMBOLS, tuple(taken))]


def median_ratio(theirs: list[float], ours: list[float]) -> float:
    return median(theirs) / median(ours)


def median_growth(early: list[float], late: list[float]) -> float:
    return median(b / a for a, b in zip(early, late, strict=True))


def seconds_of(job: Callable[..., object], *arguments: object) -> float:
    begin = time.perf_counter()
    job(*arguments)
    return time.perf_counter() - begin


if __name__ == "__main__":
    timings = run(int(sys.argv[1]))
    print(json.dumps({**summarize(timings), **timings}))
