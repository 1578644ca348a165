"""Start of a live session on a market's target in the middle of a session, 17 minutes after the last export.

    python -m tests.soak.market_start 2000 2          # 2,000 symbols, in the second session, with both of them held

Prints seconds of the processor and by the clock, peak memory of the process, and the load of the machine. The first export
of the session that starts is included where it is due. Exits with 1 when the bars that were missed are not there.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from engine.clock import ManualClock
from engine.runtime.live import LiveSession

from tests.soak.week import MINUTE, ROOT, Feed, Market, configured

MISSED = 17  # minutes
STRIDE = 60  # minutes between two steps of the process before, which are not measured


def main(arguments: list[str] | None = None) -> int:
    """Export a market up to the middle of its last session in one process, then start and measure in another."""
    options = _parser().parse_args(arguments)
    market = Market(options.symbols, options.sessions)
    if options.step:
        return {"export": export, "start": start}[options.step](market, options.target)
    with tempfile.TemporaryDirectory(prefix="engine-start-") as folder:
        of_child = [str(options.symbols), str(options.sessions), "--target", str(Path(folder) / "out"), "--step"]
        for step in ("export", "start"):
            command = [sys.executable, "-m", "tests.soak.market_start", *of_child, step]
            done = subprocess.run(command, check=False, cwd=ROOT)
            if done.returncode:
                return done.returncode
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.market_start")
    parser.add_argument("symbols", type=int, help="of the market")
    parser.add_argument("sessions", type=int, help="of its history, the last one half done")
    parser.add_argument("--step", choices=("export", "start"), help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    return parser


def middle(market: Market) -> int:
    """Number of the minute in the middle of the market's last session."""
    begin, end = market.spans[-1]
    return market.minutes.index(begin) + (end - begin) // MINUTE // 2


def export(market: Market, target: Path) -> int:
    """Follow the market in large steps to some minutes before the middle of its last session, and stop."""
    os.fsync = lambda handle: None  # the export is made here, its durability is another matter
    clock = ManualClock(market.minutes[0])
    live = LiveSession(configured(market, target), Feed(market, clock), clock, fetch_aside=False)
    live.start()
    last = middle(market) - MISSED - 1
    for number in [*range(STRIDE, last, STRIDE), last]:
        clock.set(market.minutes[number] + MINUTE)
        live.step()
    live.close()
    return 0


def start(market: Market, target: Path) -> int:
    """Start on the target and print what it cost; 1 when bars are missing."""
    clock = ManualClock(market.minutes[middle(market)])
    begin, own = time.perf_counter(), time.process_time()
    live = LiveSession(configured(market, target), Feed(market, clock), clock, fetch_aside=False)
    live.start()
    own, begin = time.process_time() - own, time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    snapshot = live.session.snapshot()
    held = snapshot.held_from or market.spans[0][0].date()
    rows = sum(panel.height for key, panel in snapshot.panels.items() if key.origin == "source")
    due = market.bars(market.minutes[0], clock.now() - MINUTE).filter(pl.col("ts").dt.date() >= held).height
    sessions = len({begin.date() for begin, _ in market.spans if begin.date() >= held})
    print(
        f"{market.symbols} symbols, {sessions} sessions held, {rows:,} bars of {due:,}: of the processor {own:.1f} s, "
        f"by the clock {begin:.1f} s, peak {peak:.0f} MB, load {os.getloadavg()[0]:.0f}",
        flush=True,
    )
    return int(rows != due)


if __name__ == "__main__":
    sys.exit(main())
