"""Losses planted in markets of the engine's own simulator, which shares its model with the causes: figures to stand beside."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import engine
import numpy as np
import polars as pl
from engine.calendars.providers import calendar
from engine.grid import GridSpec, SessionGrid
from engine.simulation.faults import FaultPlan
from engine.simulation.sessions import Instrument, Market, simulate

from benchmarks.accuracy.results import Results, judge_causes, planted_frame

SOURCE = "engine's simulator"
SYMBOLS = 16
MARKETS = {"liquid": (30.0, 300.0), "mixed": (1.0, 100.0), "thin": (0.3, 4.0)}  # trades a minute
DATES = {"XNYS": (dt.date(2024, 11, 4), dt.date(2024, 11, 29)), "24/7": (dt.date(2024, 11, 4), dt.date(2024, 11, 12))}
PLAN = FaultPlan(outage=3, absent_session=2, missing_start=4, missing_middle=10, missing_end=4)
CAUSE = {
    "outage": "feed_loss",
    "halt": "halt",
    "absent_session": "symbol_loss",
    "missing_start": "symbol_loss",
    "missing_middle": "symbol_loss",
    "missing_end": "symbol_loss",
}


def judged(seed: int) -> Results:
    """Results of simulated markets of each liquidity and calendar."""
    parts = []
    for market, (low, high) in MARKETS.items():
        for code, dates in DATES.items():
            grid = SessionGrid.build(calendar(code).segments(*dates), "1m", GridSpec(code))
            rng = np.random.default_rng([seed, len(market)])
            rates = np.exp(rng.uniform(np.log(low), np.log(high), SYMBOLS))
            names = [
                Instrument(f"S{n:03}", price=20.0 + n, trades_per_minute=float(rate)) for n, rate in enumerate(rates)
            ]
            made = simulate(grid, Market(tuple(names), seed), replace(PLAN, halt=0 if market == "thin" else 4))
            rows = made.rows.filter(pl.col("fault").is_null()).select(
                "symbol", "ts", "open", "high", "low", "close", "volume"
            )
            tables = dict(engine.run_audit([rows], code, interval="1m").tables)
            bounds = rows.group_by("symbol").agg(first_bar=pl.col("ts").min(), last_bar=pl.col("ts").max())
            truth = made.truth.filter(pl.col("kind").is_in(list(CAUSE))).select(
                "symbol", pl.col("kind").replace_strict(CAUSE).alias("cause"), "start", "end", pl.col("rows").alias("slots"), pl.col("rows").alias("bars"), pl.col("kind").alias("variant")
            )  # fmt: skip
            parts.append(
                judge_causes(
                    SOURCE, tables | {"extents": bounds}, truth.cast(dict(planted_frame([]).schema)), silence=True
                )
            )
    return Results.joined(parts)
