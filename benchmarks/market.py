"""A whole market by the minute: what a step costs early and late in a session, beside bar objects in lists.

`python -m benchmarks.market SYMBOLS` runs it once in this process and prints what it saw as JSON: what it comes to first
(`Sums`), then the seconds of every minute (`Seen`).

Every minute is appended, derived into 5m 15m 1h, and judged (gaps and quality), in one transaction, as the session runtime
does it. Two stores take turns, minute by minute: one around minute 30, one around minute 380.

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
from engine.store.snapshot import SymbolSessionData

from benchmarks import machine
from benchmarks.former import FormerSession
from benchmarks.timing import Measure

SESSION = dt.date(2024, 10, 21)
OPEN = dt.datetime(2024, 10, 21, 13, 30, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
MINUTES = 390
DERIVED = ("5m", "15m", "1h")
EARLY, LATE = range(26, 41), range(371, 386)  # alike in where they lie in their 5m and 15m windows
MOST_SILENT = 0.5
MOST_FORMER = 1_000  # symbols of the former design; its cost is a sum over symbols, so more say nothing more
SEED = 20241021
FIXED_SYMBOLS, FIXED_DERIVED = 8, ("5m", "15m", "30m", "1h", "4h", "1d")


class Sums(TypedDict):
    """What a run comes to.

    Seconds are medians over the 15 minutes around 30 and 380; `growth` and `growth_of_work` are the median ratio of one
    around 380 to one around 30, by the clock and by processor time; `times_real_time` is of all 390 minutes. `former_30` and
    `former_380` are how many times ours the former design takes, as if it had as many symbols.
    """

    minute_30: float
    minute_380: float
    growth: float
    growth_of_work: float
    slowest_minute: float
    times_real_time: float
    processor_seconds: float
    former_30: float
    former_380: float


class Seen(TypedDict):
    """What a run saw; seconds by minute."""

    early: list[float]
    late: list[float]
    every: list[float]
    symbols: int
    former_symbols: int
    former_early: list[float]
    former_late: list[float]
    rows: int
    data_mb: float
    beyond_mb: float
    log_rows: int
    worked_early: list[float]
    worked_late: list[float]
    processor_seconds: float


@dataclass
class Market:
    """A store that a market's session is stepped through, minute by minute."""

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
        """One more minute; seconds it took."""
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
        """All minutes up to one."""
        return [self.step() for _ in range(self.minute, minute)]


def names(symbols: int) -> list[str]:
    """Symbols of the market."""
    return [f"S{number:05d}" for number in range(symbols)]


def bars(symbols: int, minute: int) -> pl.DataFrame:
    """Bars of one minute (counted from 1) as a source hands them over, silent names left out; the same at every call."""
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


def run(symbols: int) -> Seen:
    """Both stores and the former design, in this process."""
    Market(4).to(3)  # the calendar and the libraries load once per process: not what is measured here
    begun = machine.resident_mb()
    machine.forget_peak()
    late = Market(symbols)
    every = late.to(LATE[0] - 1)
    early = Market(symbols)
    early.to(EARLY[0] - 1)
    taken = [(early.step(), late.step()) for _ in EARLY]
    every += [one for _, one in taken] + late.to(MINUTES)
    beyond = machine.peak_mb() - begun
    snapshot = late.session.snapshot()
    data = data_mb(late.session)
    few = min(symbols, MOST_FORMER)
    return {
        "early": [one for one, _ in taken], "late": [one for _, one in taken], "every": every,
        "symbols": symbols, "former_symbols": few, "former_early": former(few, EARLY), "former_late": former(few, LATE),
        "rows": sum(held.height for held in snapshot.panels.values()), "data_mb": data,
        "beyond_mb": beyond - data - data_mb(early.session), "log_rows": sum(part.height for part in snapshot.log),
        "worked_early": [early.processor_seconds[minute - 1] for minute in EARLY],
        "worked_late": [late.processor_seconds[minute - 1] for minute in LATE],
        "processor_seconds": sum(late.processor_seconds),
    }  # fmt: skip


def sums(seen: Seen) -> Sums:
    """What a run comes to."""
    scale = seen["symbols"] / seen["former_symbols"]
    return {
        "minute_30": median(seen["early"]), "minute_380": median(seen["late"]),
        "growth": _growth(seen["early"], seen["late"]),
        "growth_of_work": _growth(seen["worked_early"], seen["worked_late"]),
        "slowest_minute": max(seen["every"]), "times_real_time": MINUTES * 60 / sum(seen["every"]),
        "processor_seconds": seen["processor_seconds"],
        "former_30": scale * _against(seen["former_early"], seen["early"]),
        "former_380": scale * _against(seen["former_late"], seen["late"]),
    }  # fmt: skip


def former(symbols: int, minutes: range) -> list[float]:
    """Seconds of these minutes in the former design; the bars before them are only put in their lists."""
    session = FormerSession(names(symbols), OPEN)
    for minute in range(1, minutes[0]):
        session.hold(bars(symbols, minute))
    return [_timed(session.step, bars(symbols, minute), OPEN + minute * MINUTE) for minute in minutes]


def data_mb(session: SessionData) -> float:
    """Size of everything that a store keeps of its rows."""
    snapshot = session.snapshot()
    panels = [part for held in snapshot.panels.values() for part in held.parts]
    ledgers = [*snapshot.gap_rows.values(), *snapshot.quality_rows.values()]
    kept = [*panels, *(held.held for one in ledgers for held in one.parts)]
    return sum(part.estimated_size("mb") for part in kept)


def whole_market(symbols: int) -> list[Measure]:
    """Lines of one run in a fresh process."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.market", str(symbols)], check=True, capture_output=True)
    seen: Seen = json.loads(done.stdout)
    group = f"Market by the minute, {symbols:,} symbols, 1m -> 5m 15m 1h, gaps, quality"
    scale = symbols / seen["former_symbols"]
    of_former = [[one * scale for one in seen[name]] for name in ("former_early", "former_late")]  # type: ignore[literal-required]
    scaled = f"lists of bar objects; {seen['former_symbols']:,} symbols x {scale:g}"
    come_to, total = sums(seen), sum(seen["every"])
    beyond = f"log {seen['log_rows']:,} rows; memory {seen['data_mb']:,.0f} MB of data, at most {seen['beyond_mb']:,.0f} MB beyond it"
    return [
        Measure(group, "minute 30", "engine", symbols, tuple(seen["early"]), 1.0),
        Measure(group, "minute 30", "former design", symbols, tuple(of_former[0]), _against(of_former[0], seen["early"]), note=scaled),
        Measure(group, "minute 380", "engine", symbols, tuple(seen["late"]), come_to["growth"], "<= 1.3",
                f"against minute 30; {come_to['minute_380'] / 60:.1%} of a minute; processor time {come_to['growth_of_work']:.2f}x"),
        Measure(group, "minute 380", "former design", symbols, tuple(of_former[1]), _against(of_former[1], seen["late"]), note=scaled),
        Measure(group, "slowest minute", "engine", symbols, (come_to["slowest_minute"],), note="the parts of a panel are merged"),
        Measure(group, "all 390 minutes", "engine", seen["rows"], (total,), come_to["times_real_time"], ">= 60", f"times real time; {beyond}"),
    ]  # fmt: skip


def fixed_cost(steps: int) -> list[Measure]:
    """What a step costs however few rows it brings."""
    market = Market(FIXED_SYMBOLS, FIXED_DERIVED)
    market.to(MINUTES - steps)
    taken = market.to(MINUTES)
    group = f"A minute of {FIXED_SYMBOLS} symbols, 1m -> {' '.join(FIXED_DERIVED)}, gaps, quality"
    return [Measure(group, f"last {steps} minutes", "engine", FIXED_SYMBOLS, tuple(taken))]


def _against(theirs: list[float], ours: list[float]) -> float:
    return median(theirs) / median(ours)


def _growth(early: list[float], late: list[float]) -> float:
    return median(b / a for a, b in zip(early, late, strict=True))


def _timed(job: Callable[..., object], *arguments: object) -> float:
    begin = time.perf_counter()
    job(*arguments)
    return time.perf_counter() - begin


if __name__ == "__main__":
    saw = run(int(sys.argv[1]))
    print(json.dumps({**sums(saw), **saw}))
