"""Checks of an audit, each against the warm decode of the columns that they read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
from engine.checks.bar_checks import combine, judge, measure
from engine.checks.calendar_check import presence, unscheduled_rows
from engine.checks.clock_profile import clock_profile
from engine.checks.sanity import bar_sanity
from engine.checks.truncated import truncations
from engine.quality.contiguous_runs import SlotRuns

from benchmarks.panel import Panel
from benchmarks.timing import Contender, Measure, measures, race

COLUMNS = ("series", "ts", "session", "ordinal", "slot", "open", "high", "low", "close", "volume", "vwap")
ZONE, CODE = "America/New_York", "XNYS"
DECODE = "warm decode of the columns"


def shares(panel: Panel, rounds: int) -> list[Measure]:
    """Seconds of each check on one part, of all checks together, and of judging the summed measurements."""
    rows = panel.placed.select(COLUMNS)
    number = pl.int_range(1, panel.symbols + 1, dtype=pl.Int32, eager=True).alias("series")
    series = pl.DataFrame([number]).with_columns(
        pl.format("S{}", "series").alias("symbol"), pl.lit("last").alias("price_type"), pl.lit("1m").alias("interval")
    )  # fmt: skip
    measured = combine([measure(rows, series, panel.grid, ZONE)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.parquet"
        rows.write_parquet(path)
        steps: dict[str, Callable[[], object]] = {
            DECODE: lambda: pl.read_parquet(path, columns=list(COLUMNS)),
            "clock profile": lambda: clock_profile(rows, series, panel.grid, ZONE),
            "rows outside sessions": lambda: unscheduled_rows(rows, series, panel.grid, ZONE),
            "slots that are there": lambda: presence(SlotRuns.of(rows), panel.grid, ZONE),
            "bar sanity": lambda: bar_sanity(rows, series, panel.grid, ZONE),
            "truncated sessions": lambda: truncations(SlotRuns.of(rows), series, panel.grid),
            "all that looks at rows": lambda: measure(rows, series, panel.grid, ZONE),
            "judging the sums": lambda: judge(measured, panel.grid.segments, ZONE, CODE),
        }
        times = race([Contender(name, run) for name, run in steps.items()], rounds, lambda *_: None)
    return measures(
        f"Checks, {panel.name}", "checks against decode", rows.height, times, {"all that looks at rows": "<= 4"}
    )
