"""Start of a live session on targets of one, two and four times the history, with and without indicators.

    python -m tests.soak.starts 20          # 20, 40 and 80 sessions of one-minute bars of 100 symbols

Prints seconds by the clock and of the processor, and how many sessions were read. Exits with 1 when a start with
indicators on the longest history reads over two sessions more than one on the shortest (weekends make up to two).
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from engine.calendars.providers import calendar
from engine.clock import ManualClock
from engine.runtime.config import SessionConfig
from engine.runtime.live import LiveSession
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.runtime.run import export_session
from engine.schema import BARS
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

from tests.soak.week import Feed, Market

SYMBOLS = 100
AROUND_A_WEEKEND = 2
INDICATORS = ("ema(20)", "sma(50)", "rsi(14)", "session_vwap")
Span = tuple[dt.datetime, dt.datetime]


def main(words: list[str]) -> int:
    """Measure; 1 when the start costs by the history."""
    os.fsync = lambda handle: None  # the export is made here, its durability is another matter
    shortest, read = int(words[0]), []
    segments = calendar("XNYS").segments(dt.date(2023, 1, 3), dt.date(2026, 10, 30)).filter(pl.col("segment") == "RTH")
    spans: list[Span] = list(segments.select("segment_open", "segment_close").iter_rows())
    for sessions in (shortest, 2 * shortest, 4 * shortest):
        with tempfile.TemporaryDirectory(prefix="engine-starts-") as folder:
            export(Path(folder) / "out", spans[:sessions])
            for used in ((), INDICATORS):
                begin, own = time.perf_counter(), time.process_time()
                held = start(Path(folder) / "out", spans[sessions], used)
                print(
                    f"{sessions} sessions, {len(used)} indicators: start {time.perf_counter() - begin:.2f} s, of the processor "
                    f"{time.process_time() - own:.2f} s, {held} sessions read",
                    flush=True,
                )
            read.append(held)
    return int(read[-1] > read[0] + AROUND_A_WEEKEND)


def export(target: Path, spans: list[Span]) -> None:
    """Export walks of `SYMBOLS` symbols over the sessions."""
    rng, names = np.random.default_rng(1), [f"S{number:05}" for number in range(SYMBOLS)]
    stamps = pl.concat([pl.datetime_range(*span, "1m", closed="left", eager=True) for span in spans])
    frames = []
    for name in names:
        close = 100 + 0.01 * rng.standard_normal(len(stamps)).cumsum()
        values = {"open": close, "high": close + 0.1, "low": close - 0.1, "close": close, "volume": 5.0}
        frame = pl.DataFrame({"symbol": name, "price_type": "last", "ts": stamps, **values})
        absent = [pl.lit(None).alias(column) for column in BARS if column not in frame.columns]
        frames.append(frame.with_columns(absent).select(pl.col(column).cast(kind) for column, kind in BARS.items()))
    session = SessionData()
    session.register_symbol_data(*(SymbolSessionData(name, "XNYS", "1m", ("5m", "1h")) for name in names))
    session.append(frames, interval="1m")
    session.set_as_of(spans[-1][1])
    derive_session(session)
    assess_session(session)
    export_session(session, target, ManualClock(spans[-1][1]))


def start(target: Path, span: Span, used: tuple[str, ...]) -> int:
    """Start a session on the target before the open of `span`; how many sessions it read."""
    config = SessionConfig.of(
        {
            "session": {"calendar": "XNYS", "mode": "live", "symbols": [f"S{number:05}" for number in range(SYMBOLS)]},
            "source": {"kind": "alpaca"},
            "streams": {"bars": "1m"},
            "derive": ["5m", "1h"],
            "indicators": [{"use": one} for one in used],
            "gaps": {"fill": False},
            "export": {"target": str(target), "every_seconds": 0},
        }
    )
    clock = ManualClock(span[0] - dt.timedelta(minutes=10))
    live = LiveSession(config, Feed(Market(0, 0), clock), clock, fetch_aside=False)
    live.start()
    bars = live.session.get_symbol_data("S00000").bars_base
    return int(bars["session"].n_unique())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
