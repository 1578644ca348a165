"""Exports: the peak memory of a full one beyond the store that it is made from, in fresh processes.

`python -m benchmarks.memory ROWS` runs one size and prints it as JSON. The store is built symbol by symbol, 1m bars on 64
sessions of four months, so that most batches have to be cut out of longer runs of rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from engine.export.dataset import open_dataset
from engine.runtime.run import export_session

from benchmarks import machine
from benchmarks.export import hours, market, names, new_store, stamps
from benchmarks.timing import Measure

SESSIONS = 64
SYMBOLS_PER_APPEND = 50
MIB = 1 << 20
# The allocator of Polars keeps what was freed for a while, so what building the store took would count as the export's.
RETURN_AT_ONCE = {"_RJEM_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0"}


class Peak(TypedDict):
    """What one export took."""

    rows: int
    seconds: float
    store_mb: float
    peak_mb: float


def exports(sizes: Sequence[int]) -> list[Measure]:
    """Peak RSS during the export less what the store's frames take; ratios against the smallest store."""
    peaks = [_child(rows) for rows in sizes]
    above = [peak["peak_mb"] - peak["store_mb"] for peak in peaks]
    lines = [
        Measure("Export, peak memory, fresh process", f"{peak['rows'] / 1e6:.0f}M rows", "export_session", peak["rows"],
                (peak["seconds"],), more / above[0], note=f"{more:,.0f} MB above the store's {peak['store_mb']:,.0f} MB")
        for peak, more in zip(peaks, above, strict=True)
    ]  # fmt: skip
    return [lines[0], *(replace(line, target="<= 1.5") for line in lines[1:])]


def peak_of(rows: int) -> Peak:
    """Build a store of about so many rows, and export it."""
    ts = stamps(hours("1m").head(SESSIONS), "1m")
    symbols = names(max(rows // len(ts), 1))
    session = new_store(symbols)
    for at in range(0, len(symbols), SYMBOLS_PER_APPEND):
        session.append(market(symbols[at : at + SYMBOLS_PER_APPEND], ts), "bars", "1m")
    parts = [part for panel in session.snapshot().panels.values() for part in panel.parts]
    with tempfile.TemporaryDirectory(prefix="engine-bench-") as folder:
        machine.reset_peak()
        begin = time.perf_counter()
        export_session(session, Path(folder, "out"))
        taken = time.perf_counter() - begin
        peak = machine.peak_mb()
        held = open_dataset(Path(folder, "out")).rows("bars")
    if held != sum(part.height for part in parts):
        raise ValueError(f"{held} rows exported of {sum(part.height for part in parts)}")
    return {
        "rows": held,
        "seconds": taken,
        "store_mb": sum(part.estimated_size() for part in parts) / MIB,
        "peak_mb": peak,
    }


def _child(rows: int) -> Peak:
    command = [sys.executable, "-m", "benchmarks.memory", str(rows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **RETURN_AT_ONCE})
    told: Peak = json.loads(done.stdout)
    return told


if __name__ == "__main__":
    print(json.dumps(peak_of(int(sys.argv[1]))))
