"""The design that columns replaced, as a baseline: per symbol a list of bar objects, everything computed anew at each bar.

At each bar of a symbol every derived interval is folded from the first bar of the session on, and its gaps and quality are
found by walking the expected minutes. Written with some care (slots, sets, no copies), so that what is compared is the design.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

STEPS = {"5m": 5, "15m": 15, "1h": 60}
MINUTE = dt.timedelta(minutes=1)


@dataclass(slots=True)
class Bar:
    """One bar."""

    ts: dt.datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(slots=True)
class Gap:
    """Minutes that are missing in a row."""

    start: dt.datetime
    end: dt.datetime
    bar_count: int


@dataclass(slots=True)
class Symbol:
    """All that is kept of a symbol."""

    bars: list[Bar] = field(default_factory=list)
    derived: dict[str, list[Bar]] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    quality: float = 100.0


class FormerSession:
    """Symbols of one session that opens at an instant."""

    def __init__(self, symbols: Sequence[str], opens: dt.datetime) -> None:
        self.symbols = {name: Symbol() for name in symbols}
        self.opens = opens

    def hold(self, rows: pl.DataFrame) -> None:
        """Put bars in their lists, and compute nothing."""
        for name, bar in _objects(rows):
            self.symbols[name].bars.append(bar)

    def step(self, rows: pl.DataFrame, now: dt.datetime) -> None:
        """Put bars in their lists, and compute everything of their symbols anew."""
        for name, bar in _objects(rows):
            one = self.symbols[name]
            one.bars.append(bar)
            for interval, minutes in STEPS.items():
                one.derived[interval] = folded(one.bars, self.opens, minutes)
            one.gaps = gaps(one.bars, self.opens, now)
            due = (now - self.opens) // MINUTE
            one.quality = 100.0 * (due - sum(gap.bar_count for gap in one.gaps)) / due


def folded(bars: list[Bar], opens: dt.datetime, minutes: int) -> list[Bar]:
    """Bars of so many minutes."""
    step = minutes * MINUTE
    made: list[Bar] = []
    window = -1
    for bar in bars:
        at = (bar.ts - opens) // step
        if at != window:
            window = at
            made.append(Bar(opens + at * step, bar.open, bar.high, bar.low, bar.close, bar.volume))
            continue
        last = made[-1]
        last.high, last.low = max(last.high, bar.high), min(last.low, bar.low)
        last.close = bar.close
        last.volume += bar.volume
    return made


def gaps(bars: list[Bar], opens: dt.datetime, now: dt.datetime) -> list[Gap]:
    """Runs of minutes up to now that have no bar."""
    present = {bar.ts for bar in bars}
    found: list[Gap] = []
    at = opens
    while at < now:
        if at not in present:
            if found and found[-1].end == at:
                found[-1].end += MINUTE
                found[-1].bar_count += 1
            else:
                found.append(Gap(at, at + MINUTE, 1))
        at += MINUTE
    return found


def _objects(rows: pl.DataFrame) -> list[tuple[str, Bar]]:
    columns = ("symbol", "ts", "open", "high", "low", "close", "volume")
    return [(name, Bar(*values)) for name, *values in rows.select(columns).iter_rows()]
