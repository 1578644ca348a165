"""Bars of two sides, made by hand, and a plain-Python account of how they compare."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable
from typing import Any

import polars as pl
from engine.schema import TS

COLUMNS = ("open", "high", "low", "close", "volume", "vwap", "trades")
Row = dict[str, Any]


def walk(
    days: int = 5, bars: int = 120, seed: int = 7, symbol: str = "A", price: float = 100.0, step: int = 1
) -> list[Row]:
    """Bars of a random walk: sessions from 14:30 UTC, one bar each `step` minutes."""
    rng, rows, last = random.Random(seed), [], price  # noqa: S311 - no secret
    for day in range(days):
        session = dt.date(2024, 1, 2) + dt.timedelta(days=day)
        begin = dt.datetime.combine(session, dt.time(14, 30), dt.UTC)
        for number in range(bars):
            close = round(last + rng.gauss(0, 0.05), 4)
            low, high = round(min(last, close) - 0.02, 4), round(max(last, close) + 0.02, 4)
            rows.append(
                {
                    "symbol": symbol,
                    "price_type": "last",
                    "interval": f"{step}m",
                    "ts": begin + number * dt.timedelta(minutes=step),
                    "session": session,
                    "open": round(last + 0.01, 4),
                    "high": high,
                    "low": low,
                    "close": close,
                    "volume": float(rng.randint(100, 5_000)),
                    "vwap": None,
                    "trades": None,
                }
            )
            last = close
    return rows


def frame(rows: Iterable[Row]) -> pl.DataFrame:
    schema = {
        **dict.fromkeys(("symbol", "price_type", "interval"), pl.String),
        "ts": TS,
        "session": pl.Date,
        **dict.fromkeys(COLUMNS, pl.Float64),
    }
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def compare(a: list[Row], b: list[Row], bound: float = 1e-9) -> dict[tuple[str, str, str], dict[str, Any]]:
    """For each series the counts of `reconcile`, by loops over dictionaries."""
    key = lambda row: (row["symbol"], row["price_type"], row["interval"])  # noqa: E731
    found = {}
    for series in sorted({key(row) for row in a + b}):
        sides = [{row["ts"]: row for row in side if key(row) == series} for side in (a, b)]
        if not sides[0] or not sides[1]:
            found[series] = {"state": "only_a" if sides[0] else "only_b"}
            continue
        first = max(min(row["session"] for row in side.values()) for side in sides)
        last = min(max(row["session"] for row in side.values()) for side in sides)
        if first > last:
            found[series] = {"state": "apart"}
            continue
        left, right = ({ts: row for ts, row in side.items() if first <= row["session"] <= last} for side in sides)
        told = [c for c in COLUMNS if all(any(row[c] is not None for row in side.values()) for side in (left, right))]
        wrong = {
            c: [ts for ts in left.keys() & right.keys() if not same(left[ts][c], right[ts][c], bound)] for c in told
        }
        different = len({ts for stamps in wrong.values() for ts in stamps})
        common = len(left.keys() & right.keys())
        only_a, only_b = len(left.keys() - right.keys()), len(right.keys() - left.keys())
        found[series] = {
            "state": "different" if different + only_a + only_b else "equal",
            "common": common,
            "equal": common - different,
            "different": different,
            "only_a": only_a,
            "only_b": only_b,
            "outside_a": len(sides[0]) - len(left),
            "outside_b": len(sides[1]) - len(right),
            "columns": {c: len(stamps) for c, stamps in wrong.items() if stamps},
        }
    return found


def same(one: float | None, other: float | None, bound: float) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or abs(one - other) <= bound * max(abs(one), abs(other))
