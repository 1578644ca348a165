"""Requests and bytes of one symbol's year out of an export of many, counted at a proxy in front of a store.

    python -m benchmarks.objects [--symbols N]

The store is moto's server on this machine; the export holds minutes of N symbols of one year. Printed are the requests
and the bytes that came back, and the share of the export's bytes, of a scan by Polars and of a query by DuckDB, each
in a process that has read nothing before.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import numpy as np
import polars as pl
from engine.export.dataset import RevisionDraft, RevisionPlan, StoreState, commit_revision, open_dataset
from engine.export.parquet import Batch, stage_batches
from engine.export.session_export import ROWS_PER_BATCH
from engine.export.tables import TABLES
from engine.schema import empty
from engine.storage import ObjectPath
from tests.object_proxy import Proxy, proxy_of
from tests.object_store import BUCKET, environment, serve_objects

URL = f"s3://{BUCKET}/out"
MINUTES = 390
YEAR = (dt.date(2024, 1, 1), dt.date(2024, 12, 31))
OPEN = dt.time(14, 30)
SCAN = """
import polars as pl
from engine.export.dataset import open_dataset
bars = open_dataset({url!r}).scan("bars")
found = bars.filter(pl.col("symbol") == {symbol!r}, pl.col("interval") == "1m").select("ts", "open", "high", "low", "close", "volume").collect()
assert found.height == {rows}, found.height
"""
QUERY = """
import engine
found = engine.sql({url!r}, "SELECT ts, open, high, low, close, volume FROM bars WHERE symbol = '{symbol}' AND interval = '1m'", timeout_seconds=600)
assert found.height == {rows}, found.height
"""


def batches(symbols: int) -> Iterator[pl.DataFrame]:
    """Bars of one year of so many symbols, in batches of about 2^20 rows of one month, as an export of a store has them."""
    days = pl.date_range(*YEAR, "1d", eager=True)
    days = days.filter(days.dt.weekday() <= 5)
    chance = np.random.default_rng(7)
    for month in days.dt.truncate("1mo").unique(maintain_order=True):
        own = days.filter(days.dt.truncate("1mo") == month)
        each = len(own) * MINUTES
        step = max(ROWS_PER_BATCH // each, 1)
        for first in range(0, symbols, step):
            numbers = range(first, min(first + step, symbols))
            yield bars_of(own, numbers, chance)


def bars_of(days: pl.Series, numbers: range, chance: np.random.Generator) -> pl.DataFrame:
    """Bars of some symbols on some days, with prices of a random walk."""
    opens = days.dt.combine(OPEN).dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    names = pl.DataFrame({"symbol": [f"S{number:04}" for number in numbers]})
    slots = pl.DataFrame({"session": days, "first": opens}).join(pl.DataFrame({"slot": range(MINUTES)}), how="cross")
    rows = names.join(slots, how="cross")
    ts = pl.col("first") + pl.duration(minutes=pl.col("slot"))
    close = np.round(100 + np.cumsum(chance.normal(0, 0.02, rows.height)), 2)
    rows = rows.select(
        "symbol", "session", ts.alias("ts"), (ts + pl.duration(minutes=1)).alias("ts_end"),
        pl.Series("close", close), pl.Series("open", close), pl.Series("high", close + 0.01),
        pl.Series("low", close - 0.01), pl.Series("volume", chance.integers(1, 9_999, rows.height).astype(float)),
        pl.lit("last").alias("price_type"), pl.lit("1m").alias("interval"), pl.lit("source").alias("origin"),
        pl.lit("RTH").alias("segment"), pl.lit(days[0].strftime("%Y-%m")).alias("month"),
        pl.lit(1, pl.Int64).alias("revision"),
    )  # fmt: skip
    return pl.concat([empty(TABLES["bars"]), rows], how="diagonal_relaxed").select(list(TABLES["bars"]))


def counted(proxy: Proxy, name: str, script: str, total: int) -> None:
    """Run a script in a process of its own, and print what it asked for."""
    proxy.forget()
    subprocess.run([sys.executable, "-c", script], check=True)
    share = proxy.received / total
    print(f"{name:24} {proxy.requests:>9} {proxy.received:>12,} {share:>8.2%}")


def plan(symbols: int, draft: RevisionDraft) -> RevisionPlan:
    """The revision with all bars."""
    return RevisionPlan(
        {"bars": draft.replaced("bars", list(stage_batches("bars", map(Batch, batches(symbols)), draft.staging)))}
    )


def main() -> None:
    """Write the export, and print a line for each way to read it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=100)
    symbols = parser.parse_args().symbols
    with serve_objects() as server, proxy_of(server) as proxy:
        os.environ.update(environment(proxy.address))
        state = StoreState("b", 1, dt.datetime(2025, 1, 1, tzinfo=dt.UTC))
        commit_revision(ObjectPath(URL), partial(plan, symbols), state)
        print(f"writing: {proxy.requests} requests")
        files = open_dataset(URL).statistics("bars")
        total = int(files["size_bytes"].sum())
        height = int(files["num_records"].sum())
        rows = height // symbols
        print(f"{height:,} rows of {symbols} symbols in {files.height} files of {total:,} bytes\n")
        print(f"{'one symbol, one year':24} {'requests':>9} {'bytes':>12} {'share':>8}")
        given = {"url": URL, "symbol": f"S{symbols // 2:04}", "rows": rows}
        counted(proxy, "Polars scan", SCAN.format(**given), total)
        counted(proxy, "DuckDB, engine.sql", QUERY.format(**given), total)


if __name__ == "__main__":
    main()
