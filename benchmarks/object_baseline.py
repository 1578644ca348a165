"""Baseline without columns: per symbol a list of bar objects, everything computed again at each bar.

At each bar of a symbol every derived interval is folded from the first bar of the session on, and gaps and quality are
computed by a walk over the expected minutes. It uses slots and sets and makes no copies, so that the design is compared.
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
    """A run of missing minutes."""

    start: dt.datetime
    end: dt.datetime
    bar_count: int


@dataclass(slots=True)
class Symbol:
    """Bars, derived bars, gaps and quality of one symbol."""

    bars: list[Bar] = field(default_factory=list)
    derived: dict[str, list[Bar]] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    quality: float = 100.0


class ObjectSession:
    """All symbols of one session."""

    def __init__(self, symbols: Sequence[str], opens: dt.datetime) -> None:
        self.symbols = {name: Symbol() for name in symbols}
        self.opens = opens

    def append(self, rows: pl.DataFrame) -> None:
        """Append bars to the lists of their symbols without computing anything."""
        for name, bar in bar_objects(rows):
            self.symbols[name].bars.append(bar)

    def step(self, rows: pl.DataFrame, now: dt.datetime) -> None:
        """Append bars, and compute derived bars, gaps and quality of their symbols from the first bar on."""
        for name, bar in bar_objects(rows):
            symbol = self.symbols[name]
            symbol.bars.append(bar)
            for interval, minutes in STEPS.items():
                symbol.derived[interval] = fold(symbol.bars, self.opens, minutes)
            symbol.gaps = gaps(symbol.bars, self.opens, now)
            due = (now - self.opens) // MINUTE
            symbol.quality = 100.0 * (due - sum(gap.bar_count for gap in symbol.gaps)) / due


def fold(bars: list[Bar], opens: dt.datetime, minutes: int) -> list[Bar]:
    """Fold minute bars into bars of `minutes` minutes from the open on."""
    step = minutes * MINUTE
    windows: list[Bar] = []
    window = -1
    for bar in bars:
        at = (bar.ts - opens) // step
        if at != window:
            window = at
            windows.append(Bar(opens + at * step, bar.open, bar.high, bar.low, bar.close, bar.volume))
            continue
        last = windows[-1]
        last.high, last.low = max(last.high, bar.high), min(last.low, bar.low)
        last.close = bar.close
        last.volume += bar.volume
    return windows


def gaps(bars: list[Bar], opens: dt.datetime, now: dt.datetime) -> list[Gap]:
    """Runs of minutes without a bar, from the open to `now`."""
    present = {bar.ts for bar in bars}
    runs: list[Gap] = []
    at = opens
    while at < now:
        if at not in present:
            if runs and runs[-1].end == at:
                runs[-1].end += MINUTE
                runs[-1].bar_count += 1
            else:
                runs.append(Gap(at, at + MINUTE, 1))
        at += MINUTE
    return runs


def bar_objects(rows: pl.DataFrame) -> list[tuple[str, Bar]]:
    columns = ("symbol", "ts", "open", "high", "low", "close", "volume")
    return [(name, Bar(*values)) for name, *values in rows.select(columns).iter_rows()]
