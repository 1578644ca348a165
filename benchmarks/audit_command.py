"""`engine audit` as a command: fresh processes of this checkout, and of another one, in turn on the same files.

`python -m benchmarks.audit --only speed --also CHECKOUT` runs it. Ratios are medians over the rounds of this checkout's time to
the other's, by processor time and by the clock; the peak is of the largest process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import polars as pl

CODE = "import sys; from engine.cli import main; sys.argv[0] = 'engine'; main()"
DATA = Path(os.environ.get("ENGINE_DATA", "/work/shared/data"))
# Of real files: label, folders below the data, calendar.
REAL = (
    ("US equities, 1s", ("lean/equity/usa/second",), "XNYS"),
    ("US equities, 1m", ("lean/equity/usa/minute",), "XNYS"),
    ("gold futures, 1m", ("lean/future/comex/minute",), "COMEX_METALS"),
    ("crypto, 1m", ("lean/crypto/coinbase/minute", "lean/crypto/bybit/minute"), "24/7"),
)
VALID_EXITS = (0, 1)  # 1: findings


class Run(NamedTuple):
    """Seconds of processor time and of the clock of one audit, and its peak memory in MB."""

    processor: float
    clock: float
    peak: float


def run_audit(checkout: Path, sources: Sequence[str], options: Sequence[str], out: Path) -> Run:
    """Audit sources in a fresh process of a checkout; RuntimeError if it fails."""
    command = [sys.executable, "-c", CODE, "audit", *sources, *options, "--output", str(out), "--quiet"]
    begin = time.perf_counter()
    child = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(checkout)}, cwd=out.parent, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in VALID_EXITS:
        raise RuntimeError(f"{command}: ended with {child.returncode}")
    return Run(used.ru_utime + used.ru_stime, time.perf_counter() - begin, used.ru_maxrss / 1024)


def write_symbols(bars: pl.DataFrame, folder: Path) -> Path:
    """Write one CSV per symbol."""
    folder.mkdir()
    for (symbol,), rows in bars.group_by("symbol", maintain_order=True):
        rows.drop("symbol").write_csv(folder / f"{symbol}.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return folder


def real_cases() -> Iterator[tuple[str, list[str], str]]:
    """Yield (label, sources, calendar) of the real folders that are on this machine; without any, a line says so."""
    for label, folders, calendar in REAL:
        sources = [str(DATA / folder) for folder in folders]
        if all(map(os.path.isdir, sources)):
            yield label, sources, calendar
        else:
            print(f"{label}: left out, {sources[0]} is not on this machine")


def compare(made: Mapping[str, Path], scratch: Path, also: Path | None, rounds: int) -> Iterator[str]:
    """Yield a line per case: folders of XNYS bars (label to folder), then the real ones."""
    here = Path(__file__).resolve().parents[1]
    checkouts = [here, *([also.resolve()] if also else [])]
    cases = [*((label, [str(folder)], "XNYS") for label, folder in made.items()), *real_cases()]
    yield "Audit as a command: processor time, clock, peak memory" + (f"; against {also}" if also else "")
    for label, sources, calendar in cases:
        taken: dict[Path, list[Run]] = {checkout: [] for checkout in checkouts}
        for turn in range(rounds):
            for checkout in checkouts:
                out = scratch / f"out-{turn}-{checkouts.index(checkout)}"
                taken[checkout].append(run_audit(checkout, sources, ["--calendar", calendar], out))
        yield f"  {label:<34} {shown(taken[here])}" + (beside(taken[here], taken[checkouts[1]]) if also else "")


def shown(runs: Sequence[Run]) -> str:
    """Medians of runs."""
    processor, clock, peak = (median(values) for values in zip(*runs, strict=True))
    return f"{processor:6.2f} s {clock:6.2f} s {peak:6,.0f} MB"


def beside(ours: Sequence[Run], theirs: Sequence[Run]) -> str:
    """What the other checkout takes, and the median ratios of ours to it."""
    processor, clock, peak = (
        median(one / other for one, other in zip(mine, their, strict=True))
        for mine, their in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True)
    )
    return f" | {shown(theirs)} | {processor:.2f}x {clock:.2f}x {peak:.2f}x"
