"""A live source that a test writes by hand, and a session of one morning on a clock that stands still."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl
from engine.clock import ManualClock
from engine.errors import StreamError
from engine.interval import Interval
from engine.runtime.config import SessionConfig
from engine.runtime.live import LiveSession
from engine.schema import BARS
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, StreamStatus, Subscription

OPEN = dt.datetime(2024, 6, 27, 13, 30, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
ONE_MINUTE = Interval(1, "m")


def bars(symbol: str, minutes: Sequence[int], close: float = 10.0) -> pl.DataFrame:
    rows = {
        "symbol": symbol, "price_type": "last", "ts": [OPEN + m * MINUTE for m in minutes], "open": close, "high": close,
        "low": close, "close": close, "volume": 5.0, "size": None, "vwap": close, "trades": 1,
    }  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"ts": BARS["ts"]}).select(
        pl.col(name).cast(dtype) for name, dtype in BARS.items()
    )


class HandStream:
    """Hands over what a test pushed; knows of the past what a test says it knows."""

    def __init__(self, past: pl.DataFrame | None = None) -> None:
        self.past = bars("A", []) if past is None else past
        self.pushed: list[Delivery] = []
        self.asked: list[HistoryRequest] = []
        self.refuses = False
        self.exhausted = False
        self.closed = False
        self.symbols: set[str] = set()

    def push(self, frame: pl.DataFrame) -> None:
        self.pushed.append(Delivery("bars", (frame,), ONE_MINUTE))

    def available(self, symbols: Sequence[str]) -> Mapping[str, frozenset[Resolution]]:
        return {symbol: frozenset({("bars", ONE_MINUTE)}) for symbol in symbols if symbol != "NOPE"}

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        self.symbols |= {one.symbol for one in subscriptions}

    def unsubscribe(self, symbol: str) -> None:
        self.symbols.discard(symbol)

    def next_at(self) -> dt.datetime | None:
        return None

    def take(self, until: dt.datetime) -> list[Delivery]:
        taken, self.pushed = self.pushed, []
        return taken

    def wait(self, seconds: float) -> bool:
        return bool(self.pushed)

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        self.asked += requests
        if self.refuses:
            raise StreamError("the history does not answer")
        found = [
            self.past.filter((pl.col("symbol") == one.symbol) & (pl.col("ts") >= one.start) & (pl.col("ts") < one.end))
            for one in requests
        ]
        return [Delivery("bars", (frame,), ONE_MINUTE) for frame in found if frame.height]

    def status(self) -> StreamStatus:
        return StreamStatus(exhausted=self.exhausted, lag_seconds=0.0)

    def close(self) -> None:
        self.closed = True


def configured(target: Path | None = None, **more: object) -> SessionConfig:
    content = {
        "session": {"calendar": "XNYS", "mode": "live", "symbols": ["A", "B"]},
        "source": {"kind": "alpaca"}, "derive": ["5m"], "live": {"grace_seconds": 0},
        "gaps": {"retries": 3, "interval_seconds": 60, "backoff": 2}, **more,
    }  # fmt: skip
    if target is not None:
        content["export"] = {"target": str(target)}
    return SessionConfig.of(content)


class Morning:
    """A live session and its clock."""

    def __init__(self, stream: HandStream | None = None, config: SessionConfig | None = None, minute: int = -5) -> None:
        self.stream = stream or HandStream()
        self.clock = ManualClock(OPEN + minute * MINUTE)
        self.live = LiveSession(config or configured(), self.stream, self.clock, fetch_aside=False)
        self.session = self.live.session

    def at(self, minute: float) -> Morning:
        self.clock.set(OPEN + minute * MINUTE)
        self.live.step()
        return self

    def gaps(self, symbol: str = "A") -> list[tuple[int, int, str, int]]:
        """Minute, length, state and retries of the base gaps of a symbol that are not filled."""
        rows = self.session.gaps([symbol]).filter(pl.col("interval") == "1m", pl.col("state") != "filled")
        return [
            ((row["gap_start"] - OPEN) // MINUTE, row["bar_count"], row["state"], row["retry_count"])
            for row in rows.iter_rows(named=True)
        ]


def launch(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """`engine live` of the folder's `live.toml` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from engine.cli import main; main()", "live", str(folder / "live.toml"), "--json", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1", **environment},
    )  # fmt: skip


def is_up(process: subprocess.Popen[str]) -> bool:
    """Whether the handlers of signals stand: until then a signal would end the process as it does any other."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def until(test: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.2)
