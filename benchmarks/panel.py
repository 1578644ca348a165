"""Synthetic panels: liquid names on real sessions of XNYS, 3 bars in 1,000 missing at random, seeded.

The 20 sessions from 2024-10-21 to 2024-11-15 hold the change of clocks and no early close.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import polars as pl
from engine.calendars.providers import calendar
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.schema import TS

SPEC = GridSpec("XNYS")
FIRST, LAST = dt.date(2024, 10, 21), dt.date(2024, 11, 15)
MARGIN = dt.timedelta(days=40)
HOLES = 0.003
SEED = 20241021
TICK = 0.01

PRICES = ("open", "high", "low", "close")
OHLCV = (*PRICES, "volume")
COMPLETE = (*OHLCV, "n_base", "n_expected", "complete", "vwap", "trades")


@dataclass(frozen=True)
class Panel:
    """Bars of one interval for many symbols.

    Attributes
    ----------
    grid : SessionGrid
        The axis at the bars' interval.
    symbols : int
        How many; their series are numbered from 1.
    hours : DataFrame of `session, ordinal, open, close`
        The sessions that the bars are of.
    raw : DataFrame of `series, ts, open, high, low, close, volume, vwap, trades`
        Sorted by (series, ts).
    """

    grid: SessionGrid
    symbols: int
    hours: pl.DataFrame
    raw: pl.DataFrame

    @cached_property
    def placed(self) -> pl.DataFrame:
        """The bars with their places, as the store keeps them."""
        return self.raw.with_columns(self.grid.place(self.raw["ts"]))

    @cached_property
    def named(self) -> pl.DataFrame:
        """The bars with a text `symbol` (S00001 ...) for the series number, as a source or an export has them."""
        number = pl.col("series").cast(pl.String).str.zfill(5)
        return self.raw.with_columns(pl.format("S{}", number).alias("symbol")).drop("series")

    @cached_property
    def plain(self) -> pl.DataFrame:
        """The bars with stamps that carry no zone, which rivals handle fastest."""
        return self.placed.with_columns(pl.col("ts").dt.replace_time_zone(None))

    @cached_property
    def plain_hours(self) -> pl.DataFrame:
        """The sessions with stamps that carry no zone."""
        return self.hours.with_columns(pl.col("open", "close").dt.replace_time_zone(None))

    @property
    def name(self) -> str:
        return f"{self.symbols} symbols x {self.hours.height} sessions"


def build(symbols: int, sessions: int, interval: str = "1m") -> Panel:
    """A panel of so many symbols on the first so many sessions (at most 20)."""
    grid = axis(interval)
    traded = grid.table.filter(pl.col("chosen") & pl.col("session").is_between(FIRST, LAST)).head(sessions)
    return _filled(symbols, grid, traded)


def build_between(symbols: int, first: dt.date, last: dt.date) -> Panel:
    """A panel of minutes of so many symbols on all sessions between two dates, inclusive."""
    grid = SessionGrid.build(calendar("XNYS").segments_in_bounds(first, last), Interval.parse("1m"), SPEC)
    return _filled(symbols, grid, grid.table.filter("chosen"))


def _filled(symbols: int, grid: SessionGrid, segments: pl.DataFrame) -> Panel:
    hours = segments.select("session", "ordinal", "open", "close")
    stamps = _stamps(hours, grid.interval)
    rng = np.random.default_rng(SEED)
    kept = rng.random(len(stamps) * symbols) >= HOLES
    series = np.repeat(np.arange(1, symbols + 1, dtype=np.int32), len(stamps))[kept]
    ts = pl.Series("ts", np.tile(stamps, symbols)[kept]).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return Panel(grid, symbols, hours, pl.DataFrame({"series": series, "ts": ts.cast(TS), **_values(len(series), rng)}))


@cache
def axis(interval: str) -> SessionGrid:
    """XNYS cut at an interval, with whole weeks and months around the sessions."""
    segments = calendar("XNYS").segments_in_bounds(FIRST - MARGIN, LAST + MARGIN)
    return SessionGrid.build(segments, Interval.parse(interval), SPEC)


def _stamps(hours: pl.DataFrame, interval: Interval) -> np.ndarray:
    spans = hours.select(pl.col("open", "close").to_physical()).iter_rows()
    return np.concatenate([np.arange(begin, end, interval.step_us) for begin, end in spans])


def _values(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    start = 100 + (np.cumsum(rng.integers(-3, 4, rows)) % 5000) * TICK
    end = start + rng.integers(-5, 6, rows) * TICK
    high = np.maximum(start, end) + rng.integers(0, 5, rows) * TICK
    low = np.minimum(start, end) - rng.integers(0, 5, rows) * TICK
    return {
        "open": start, "high": high, "low": low, "close": end,
        "volume": rng.integers(1, 10_000, rows).astype(np.float64),
        "vwap": (high + low) / 2, "trades": rng.integers(1, 200, rows),
    }  # fmt: skip
