"""Feeds whose faults are known: simulated markets with their stamps moved, and vendor files as they are stored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import engine
import polars as pl
from engine.calendars.providers import calendar
from engine.checks.clock_profile import clock_profile
from engine.grid import GridSpec, SessionGrid
from engine.simulation.sessions import Instrument, Market, simulate

LIQUID, MIXED, THIN = (
    Instrument(name, trades_per_minute=rate) for name, rate in (("LIQ", 60), ("MIX", 3), ("THN", 0.4))
)


class Feed(NamedTuple):
    """Rows as a panel holds them, and what goes with them."""

    rows: pl.DataFrame
    series: pl.DataFrame
    grid: SessionGrid
    zone: str


@cache
def axis(code: str, first: dt.date, last: dt.date, interval: str = "1m") -> SessionGrid:
    return SessionGrid.build(calendar(code).segments_in_bounds(first, last), interval, GridSpec(code))


@cache
def market(
    code: str,
    first: dt.date,
    last: dt.date,
    interval: str = "1m",
    instruments: tuple[Instrument, ...] = (LIQUID, MIXED, THIN),
) -> Feed:
    """A feed without a fault."""
    grid = axis(code, first, last, interval)
    clean = simulate(grid, Market(instruments, seed=5)).clean
    names = pl.DataFrame({"symbol": sorted(one.symbol for one in instruments)}).with_row_index("series", offset=1)
    series = names.with_columns(
        pl.col("series").cast(pl.Int32), pl.lit("last").alias("price_type"), pl.lit(interval).alias("interval")
    )
    return placed(clean.join(series.select("series", "symbol"), on="symbol"), series, grid, calendar(code).zone)


def placed(rows: pl.DataFrame, series: pl.DataFrame, grid: SessionGrid, zone: str) -> Feed:
    sorted_rows = rows.drop("session", "ordinal", "slot", strict=False).sort("series", "ts")
    return Feed(sorted_rows.with_columns(grid.place(sorted_rows["ts"])), series, grid, zone)


def moved(feed: Feed, by: pl.Expr | dt.timedelta) -> Feed:
    """The feed with other stamps."""
    ts = pl.col("ts") + by if isinstance(by, dt.timedelta) else by
    return placed(feed.rows.with_columns(ts.alias("ts")), feed.series, feed.grid, feed.zone)


def profile(feed: Feed) -> pl.DataFrame:
    return clock_profile(feed.rows, feed.series, feed.grid, feed.zone)


def stored(paths: Any, code: str | Path, **options: Any) -> Iterator[Feed]:
    """Vendor files through the readers, a feed for each panel."""
    snapshot = engine.load(paths, code, **options).snapshot()
    for key in snapshot.panels_of("bars"):
        series = snapshot.series.with_columns(pl.lit(str(key.interval)).alias("interval"))
        assert key.interval is not None
        grid = snapshot.grid(key.spec, key.interval)
        yield Feed(snapshot.rows_of(key), series, grid, snapshot.calendars[key.spec.calendar].zone)
