"""Random walks on sessions made by hand: bars as the table `bars` has them, with places, holes and nulls."""

from __future__ import annotations

import datetime as dt
import random

import polars as pl
from engine.grid import GridSpec, SessionGrid
from engine.reference import MINUTE, Segment
from engine.schema import TS

from tests import axis

# A lunch break, and one day that closes early.
SEGMENTS = [
    s if (s.session - axis.EPOCH).days % 4 else Segment(s.session, s.open, s.open + 15 * MINUTE)
    for s in axis.days(dt.date(2024, 1, 2), 12, [(570, 590), (620, 645)])
]
SCHEMA = {
    "symbol": pl.String(), "price_type": pl.String(), "interval": pl.String(), "origin": pl.String(), "ts": pl.Int64(),
    "open": pl.Float64(), "high": pl.Float64(), "low": pl.Float64(), "close": pl.Float64(), "volume": pl.Float64(),
    "size": pl.Float64(), "vwap": pl.Float64(), "trades": pl.Int64(),
}  # fmt: skip
MANY = (("A", "last"), ("A", "bid"), ("B", "last"))


def bars(
    series: tuple[tuple[str, str], ...] = MANY, segments: list[Segment] = SEGMENTS, *, keep: float = 0.85, seed: int = 7
) -> pl.DataFrame:
    """One walk per series, sorted by series and ts; some bars are missing, some have no vwap, some no volume."""
    dice = [random.Random(seed + at) for at in range(len(series))]  # noqa: S311 - prices, not secrets
    rows = [row for at, one in enumerate(series) for row in _walk(one, segments, keep, dice[at])]
    return framed(rows, segments)


def framed(rows: list[dict], segments: list[Segment]) -> pl.DataFrame:
    """Rows (`ts` in microseconds) as a frame, with their places on the grid."""
    grid = SessionGrid.build(axis.frame(segments), "1m", GridSpec("TEST"))
    frame = pl.DataFrame(rows, schema=SCHEMA)
    frame = frame.with_columns(frame["ts"].cast(pl.Datetime("us")).dt.replace_time_zone("UTC").cast(TS))
    return frame.with_columns(grid.place(frame["ts"]))


def _walk(series: tuple[str, str], segments: list[Segment], keep: float, dice: random.Random) -> list[dict]:
    rows, price = [], 50 + 50 * dice.random()
    for begin in axis.starts(segments):
        start, price = price, price * (1 + dice.gauss(0, 0.002))
        high, low = max(start, price) * (1 + 0.001 * dice.random()), min(start, price) * (1 - 0.001 * dice.random())
        row = {
            "symbol": series[0], "price_type": series[1], "interval": "1m", "origin": "source", "ts": begin,
            "open": start, "high": high, "low": low, "close": price,
            "volume": None if dice.random() < 0.05 else float(dice.randrange(0, 5000)), "size": None,
            "vwap": None if dice.random() < 0.3 else low + (high - low) * dice.random(), "trades": dice.randrange(1, 99),
        }  # fmt: skip
        if dice.random() < keep:
            rows.append(row)
    return rows


def each_series(frame: pl.DataFrame) -> list[pl.DataFrame]:
    return frame.partition_by("symbol", "price_type", maintain_order=True)
