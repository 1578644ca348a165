"""A plug-in source that blocks for good in one of its methods, as `BLOCKS_IN` says; `NAME.blocked` is written when it does.

It is copied beside a `dist-info` folder and loaded by `engine live` in a process of its own (`install`).
"""

import datetime as dt
import os
import time
from pathlib import Path

import polars as pl
from engine.interval import Interval
from engine.schema import BARS
from engine.sources.streams.contract import Delivery, StreamStatus

BLOCKS_IN = os.environ.get("BLOCKS_IN", "")
MINUTE = dt.timedelta(minutes=1)
BARS_BEFORE = 20
TAKES_BEFORE = 6  # the start takes until nothing comes
MINUTES = [n for n in range(BARS_BEFORE) if n != 10]  # one is a gap, which is asked for again


def block(name: str) -> None:
    """Tell it and never return, whatever signal comes."""
    (Path(__file__).parent / f"{name}.blocked").touch()
    while True:
        time.sleep(3600)


class BlockingStream:
    """Delivers 19 of the last 20 bars of A, then blocks."""

    def __init__(self) -> None:
        self.has_delivered = False
        self.fetches = self.takes = 0

    def available(self, symbols):
        return {symbol: frozenset({("bars", Interval(1, "m"))}) for symbol in symbols}

    def subscribe(self, subscriptions):
        self._block("subscribe")

    def unsubscribe(self, symbol):
        pass

    def next_at(self):
        return None

    def take(self, until):
        self.takes += 1
        if self.takes > TAKES_BEFORE:
            self._block("take")
        if self.has_delivered:
            return []
        self.has_delivered = True
        start = until.replace(second=0, microsecond=0) - BARS_BEFORE * MINUTE
        rows = {
            "symbol": "A",
            "price_type": "last",
            "ts": [start + n * MINUTE for n in MINUTES],
            "volume": 5.0,
        }
        frame = pl.DataFrame({**rows, **dict.fromkeys(("open", "high", "low", "close"), 10.0)})
        missing = [pl.lit(None).alias(name) for name in BARS if name not in frame.columns]
        frame = frame.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in BARS.items())
        return [Delivery("bars", (frame,), Interval(1, "m"))]

    def wait(self, seconds):
        if self.has_delivered:
            self._block("wait")
        time.sleep(min(seconds, 0.05))
        return True

    def fetch(self, requests):
        self.fetches += 1
        self._block("fetch" if self.fetches == 1 else "retry")
        return []

    def status(self):
        self._block("status")
        return StreamStatus()

    def close(self):
        self._block("close")

    def _block(self, name: str) -> None:
        if name == BLOCKS_IN:
            block(name)


def open_blocking(config, clock):
    if BLOCKS_IN == "open":
        block("open")
    return BlockingStream()


def install(folder: Path) -> None:
    """Put this module, and metadata that name it as a source, into a folder of PYTHONPATH."""
    (folder / "blocking_source.py").write_text(Path(__file__).read_text())
    metadata = folder / "blocking-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: blocking\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[engine.sources]\nblocking = blocking_source:open_blocking\n")
