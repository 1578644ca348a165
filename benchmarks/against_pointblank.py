"""An audit and Pointblank on the same bars with planted faults: findings, misses and seconds of each.

    python -m benchmarks.against_pointblank [--python PATH]

`PATH` is a Python that has `pointblank` and Polars (default: this one); without it the comparison says so and ends. It runs
the rules of `benchmarks.pointblank_rules`. Simulated names from liquid to thin on 20 sessions of XNYS; seconds of processor time.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from engine.calendars.providers import calendar
from engine.grid import GridSpec, SessionGrid
from engine.runtime.auditor import Audit, audit
from engine.runtime.run import load_options
from engine.schema import BARS
from engine.simulation.faults import FaultPlan
from engine.simulation.sessions import Instrument, Market, Simulation, simulate

SYMBOLS = 30
SEED = 515
RATES = (0.5, 100.0)  # trades a minute
PLAN = FaultPlan(
    outage=4, halt=4, missing_start=8, missing_middle=16, missing_end=8, absent_session=3,
    duplicate=40, conflict=20, correction=20, late=20, off_grid=20, out_of_session=20, bad_row=20,
)  # fmt: skip
TRUE = {"outage": ["feed_loss"], "halt": ["halt"]}
LOST = ["symbol_loss"]
BLAMES = ("feed_loss", "symbol_loss")
SPANS = ("outage", "halt", "missing_start", "missing_middle", "missing_end", "absent_session")
RULES = Path(__file__).with_name("pointblank_rules.py")


@dataclass(frozen=True)
class Line:
    """One kind of fault: how many were planted, and what each side says."""

    kind: str
    planted: int
    engine: str
    pointblank: str


def simulate_faults() -> tuple[Simulation, SessionGrid]:
    grid = SessionGrid.build(
        calendar("XNYS").segments(dt.date(2024, 10, 21), dt.date(2024, 11, 15)), "1m", GridSpec("XNYS")
    )
    rates = np.exp(np.linspace(np.log(RATES[0]), np.log(RATES[1]), SYMBOLS))
    names = tuple(Instrument(f"S{n:04}", price=20.0 + n, trades_per_minute=float(rate)) for n, rate in enumerate(rates))
    return simulate(grid, Market(names, SEED), PLAN), grid


def compare_findings(simulation: Simulation, done: Audit, theirs: dict[str, object]) -> list[Line]:
    """What each side found of each kind of fault, and what it says of slots with which nothing is wrong."""
    gaps = done.tables["gaps"].select("symbol", "gap_start", "gap_end", "cause")
    flagged = pl.DataFrame(theirs["gaps"], schema=["symbol", "gap_start", "gap_end"], orient="row").with_columns(
        pl.col("gap_start", "gap_end").cast(pl.Datetime("us", "UTC"))
    )
    # A halt takes no bar away: none was made.
    spans = simulation.truth.filter(pl.col("kind").is_in(SPANS) & ((pl.col("rows") > 0) | (pl.col("kind") == "halt")))
    lines = []
    for kind in SPANS:
        planted = spans.filter(pl.col("kind") == kind)
        here, there = overlapping(planted, gaps), overlapping(planted, flagged)
        right = here.filter(pl.col("cause").is_in(TRUE.get(kind, LOST)))
        lines.append(
            Line(
                kind,
                planted.height,
                f"{count_faults(here)} found, {count_faults(right)} with that cause",
                f"{count_faults(there)} found, no cause",
            )
        )
    return [*lines, false_alarms(gaps, flagged, spans), *row_faults(simulation, done, theirs)]


def overlapping(planted: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    beside = planted.select("fault", "symbol", "start", "end").join(gaps, on="symbol")
    return beside.filter((pl.col("gap_start") < pl.col("end")) & (pl.col("gap_end") > pl.col("start")))


def count_faults(rows: pl.DataFrame) -> int:
    return rows.select("fault", "symbol", "start").unique().height


def false_alarms(gaps: pl.DataFrame, flagged: pl.DataFrame, spans: pl.DataFrame) -> Line:
    fine = gaps_outside(gaps, spans)
    blamed = fine.filter(pl.col("cause").is_in(BLAMES)).height
    return Line(
        "nothing: no trade in a minute", fine.height, f"{blamed} blamed on the feed or the symbol",
        f"{gaps_outside(flagged, spans).height} reported like any other",
    )  # fmt: skip


def gaps_outside(gaps: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    met = gaps.join(spans.select("symbol", "start", "end"), on="symbol").filter(
        (pl.col("gap_start") < pl.col("end")) & (pl.col("gap_end") > pl.col("start"))
    )
    return gaps.join(met, on=["symbol", "gap_start"], how="anti")


def row_faults(simulation: Simulation, done: Audit, theirs: dict[str, object]) -> list[Line]:
    counted = dict(simulation.truth.group_by("kind").len().iter_rows())
    series = done.tables["series"].select(pl.col("duplicates", "corrections", "off_grid", "out_of_session").sum())
    have = series.row(0, named=True)
    said = dict(done.tables["findings"].group_by("check_name").agg(pl.col("count").sum()).iter_rows())
    rules = theirs["rules"]
    failed = [int(rule["failed"]) for rule in rules]  # type: ignore[attr-defined]
    twice, whole, order, grid, hours = failed[-6:-1]
    wrong = counted["conflict"] + counted["correction"]
    return [
        Line("duplicate", counted["duplicate"], f"{have['duplicates']} counted", f"{whole} rows that are not the only one"),
        Line("conflict or correction", wrong, f"{have['corrections'] + said.get('conflict', 0)} reported, the later one kept",
             f"{twice - whole} rows more that share symbol and time"),
        Line("off_grid", counted["off_grid"], f"{have['off_grid']} counted", f"{grid} rows not on a minute"),
        Line("out_of_session", counted["out_of_session"], f"{have['out_of_session']} counted", f"{hours} rows outside hours"),
        Line("bad_row", counted["bad_row"], f"{said.get('refused', 0) + said.get('bad_rows', 0)} reported by reason", f"{sum(failed[:-6])} failures of rules by column"),
        Line("late", counted["late"], "not told: rows are sorted first", f"{order} rows behind a later one of their symbol"),
    ]  # fmt: skip


def format_lines(lines: list[Line], about: dict[str, str]) -> str:
    head = Line("planted", 0, "engine audit", "Pointblank")
    rows = [(line.kind, str(line.planted or ""), line.engine, line.pointblank) for line in [head, *lines]]
    rows += [(name, "", *value.split("|")) for name, value in about.items()]
    wide = [max(len(row[at]) for row in rows) for at in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against_pointblank")
    parser.add_argument("--python", default=sys.executable)
    python = parser.parse_args().python
    if subprocess.run([python, "-c", "import pointblank"], capture_output=True, check=False).returncode:
        print(f"skipped: {python} cannot import pointblank; name a Python that can with --python")
        return 0
    simulation, grid = simulate_faults()
    with tempfile.TemporaryDirectory(prefix="engine-pointblank-") as folder:
        bars, hours = Path(folder, "bars.parquet"), Path(folder, "hours.parquet")
        simulation.rows.select(list(BARS)).write_parquet(bars)
        traded = grid.table.filter("chosen")
        traded.select(pl.col("open").alias("open_ts"), pl.col("close").alias("close_ts")).sort("open_ts").write_parquet(
            hours
        )
        theirs = json.loads(
            subprocess.run([python, RULES, bars, hours], check=True, capture_output=True, text=True).stdout
        )
        begin = time.process_time()
        done = audit([bars], load_options("XNYS", interval="1m"))
        seconds = time.process_time() - begin
    lines = len(RULES.read_text().splitlines())
    print(format_lines(compare_findings(simulation, done, theirs), {
        "rows": f"{simulation.rows.height:,}|the same",
        "processor seconds": f"{seconds:.2f}|{theirs['seconds']:.2f}",
        "written for it": f"one command|{lines} lines, and the hours from a calendar",
        "version": f"this one|{theirs['version']}",
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
