"""Rows of an export that a new process resumes a session from: base rows, as they were appended."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import polars as pl

from engine.errors import ExportError
from engine.export.dataset import Dataset, open_dataset
from engine.export.delta_table import is_table
from engine.interval import Interval
from engine.schema import PROVENANCES, ROWS, Kind
from engine.sources.streams.contract import Delivery
from engine.store.symbol_data import SymbolSessionData

RAW: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "bars")


def last_export(target: Path) -> Dataset | None:
    """Open the last revision of an export; None if the target has no table or no revision; other errors are raised."""
    if not is_table(target / "exports"):
        return None
    try:
        return open_dataset(target)
    except ExportError as error:
        if "holds no revision" in str(error):
            return None
        raise


def exported_rows(
    dataset: Dataset, symbols: Mapping[str, SymbolSessionData], since: dt.date
) -> list[tuple[str, Delivery]]:
    """(provenance, delivery) since a trade date: source bars at the base per provenance, then raw rows as `source`.

    Parameters
    ----------
    dataset : Dataset
    symbols : mapping of name to SymbolSessionData
        The current registrations; bars of another interval than a symbol's base are left out.
    since : date
    """
    bases = pl.LazyFrame(
        [(name, str(symbol.base_interval)) for name, symbol in symbols.items()],
        schema={"symbol": pl.String, "interval": pl.String},
        orient="row",
    )
    recent = pl.col("session") >= since
    source_bars = dataset.scan("bars").filter(recent & (pl.col("origin") == "source"))
    bars = source_bars.join(bases, on=["symbol", "interval"], how="semi").collect()
    deliveries = [
        (provenance, Delivery("bars", (part.select(*ROWS["bars"], "verdict"),), Interval.parse(interval)))
        for provenance in PROVENANCES
        for interval in bars["interval"].unique().sort()
        if (part := bars.filter((pl.col("provenance") == provenance) & (pl.col("interval") == interval))).height
    ]
    for kind in RAW:
        rows = dataset.scan(kind).filter(recent & pl.col("symbol").is_in(list(symbols))).collect()
        if rows.height:
            deliveries.append(("source", Delivery(kind, (raw_rows(kind, rows),))))
    return deliveries


def raw_rows(kind: Kind, rows: pl.DataFrame) -> pl.DataFrame:
    """Exported raw rows in the columns that `append` takes; `ts` is set from `ts_ns` where that exists."""
    if "ts_ns" in rows.columns:
        rows = rows.with_columns(pl.from_epoch("ts_ns", time_unit="ns").dt.replace_time_zone("UTC").alias("ts"))
    return rows.select(list(ROWS[kind]))
