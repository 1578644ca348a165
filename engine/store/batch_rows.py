"""Batches of raw rows on their way into the store: checked, stacked into one frame, and refused where they conflict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
import polars as pl

from engine.errors import ParameterError, SchemaError
from engine.interval import Interval
from engine.schema import (
    EARLIEST,
    LATEST,
    PRICE_TYPES,
    PROVENANCE,
    PROVENANCES,
    REJECTS,
    ROWS,
    VERDICT,
    Kind,
    Schema,
    empty,
    rejected_rows,
    select_schema,
    verdict_by_provenance,
)
from engine.store.panel_key import RAW_PRICE_TYPES
from engine.store.views import with_series_names

CONFLICT = "conflict: a later row of the same batch has other values for this key"

DateRange = tuple[dt.date | None, dt.date | None]  # first and last trade date, both included; None is unbounded


def check_kind(kind: str, interval: Interval | None, provenance: str) -> None:
    """Raise ParameterError for an unknown kind or provenance, bars without an interval, or another kind with one."""
    if kind not in ROWS:
        raise ParameterError(f"kind: received {kind!r}; valid: {', '.join(ROWS)}")
    if kind == "bars" and interval is None:
        raise ParameterError("interval: bars need one; valid: 1s, 1m, 5m, 1d ...")
    if kind != "bars" and interval is not None:
        raise ParameterError(f"interval: received {interval}; {kind} have none")
    if provenance not in PROVENANCES:
        raise ParameterError(f"provenance: received {provenance!r}; valid: {', '.join(PROVENANCES)}")


def stack_batches(frames: Sequence[pl.DataFrame], kind: Kind, provenance: str) -> pl.DataFrame:
    """Stack frames (SchemaError if bad); add `batch` number, `provenance`, price type of raw kinds, null `source`, `row`; bars without a `verdict` get that of the provenance.

    Raises
    ------
    SchemaError
        A column is missing, a key column has a null, a `ts` is out of range or a `price_type` unknown.
    """
    schema: Schema = {
        **ROWS[kind],
        "source": pl.String(),
        "row": pl.Int64(),
        **({"verdict": VERDICT} if kind == "bars" else {}),
    }
    if len(frames) > 1 and all(frame.schema == frames[0].schema for frame in frames[1:]):
        numbers = np.repeat(np.arange(len(frames), dtype=np.int32), [frame.height for frame in frames])
        rows = fit_batch(pl.concat(frames, rechunk=True), schema, f"{kind} batches")
        rows = rows.with_columns(pl.Series("batch", numbers))
    else:
        fitted = [fit_batch(frame, schema, f"{kind} batch {number}") for number, frame in enumerate(frames)]
        parts = [part.with_columns(pl.lit(number, pl.Int32).alias("batch")) for number, part in enumerate(fitted)]
        rows = pl.concat(parts) if parts else empty({**schema, "batch": pl.Int32()})
    required = [name for name in ("symbol", "ts", "seq", "price_type") if name in rows.columns]
    lacking = [name for name in required if rows[name].null_count()]
    if lacking:
        raise SchemaError(f"{kind}: a row lacks its {', '.join(lacking)}; pass rows through schema.conform first")
    if not rows.select(pl.col("ts").is_between(EARLIEST, LATEST).all()).item():
        raise SchemaError(
            f"{kind}: a ts lies outside {EARLIEST:%Y} to {LATEST:%Y}; pass rows through schema.conform first"
        )
    if kind == "bars":
        unknown = sorted(set(rows["price_type"].unique()) - set(PRICE_TYPES))
        if unknown:
            raise SchemaError(f"bars: price_type: received {unknown[0]!r}; valid: {', '.join(PRICE_TYPES)}")
    else:
        rows = rows.with_columns(pl.lit(RAW_PRICE_TYPES[kind]).alias("price_type"))
    rows = rows.with_columns(pl.lit(provenance, PROVENANCE).alias("provenance"))
    if kind == "bars" and rows["verdict"].null_count():
        rows = rows.with_columns(pl.col("verdict").fill_null(verdict_by_provenance(rows["provenance"])))
    return rows


def fit_batch(frame: pl.DataFrame, schema: Schema, what: str) -> pl.DataFrame:
    """The frame in a schema; `source`, `row` and `verdict` are null where it has none. SchemaError if it does not fit."""
    optional = [name for name in ("source", "row", "verdict") if name in schema and name not in frame.columns]
    return select_schema(frame.with_columns(pl.lit(None, schema[name]).alias(name) for name in optional), schema, what)


def within_dates(rows: pl.DataFrame, dates: DateRange) -> pl.DataFrame:
    """Rows whose `session` is within both inclusive dates (None: unbounded); rows with null session go if a bound is set."""
    first, last = dates
    if first is not None:
        rows = rows.filter(pl.col("session") >= first)
    return rows if last is None else rows.filter(pl.col("session") <= last)


def conflict_rejects(conflicts: pl.DataFrame, kind: Kind, series: pl.DataFrame) -> pl.DataFrame:
    """`REJECTS` rows of conflicting rows: symbol, price type, ts and all values of the kind as JSON `cells`; reason `CONFLICT`."""
    if conflicts.is_empty():
        return empty(REJECTS)
    rows = with_series_names(conflicts, series)
    names = ["symbol", "price_type", "ts"]
    values = [name for name in ROWS[kind] if name in rows.columns and name not in names]
    return rejected_rows(rows.select(*names, *values, "row"), CONFLICT, "").with_columns(rows["source"].fill_null(""))


def without_conflicts_of(symbol: str, rejects: pl.DataFrame) -> pl.DataFrame:
    """Drop the rejects with reason `CONFLICT` whose cells name this symbol; all other rejects stay, also its own from readers."""
    of_symbol = pl.col("cells").str.json_path_match("$.symbol") == symbol
    return rejects.filter(~((pl.col("reason") == CONFLICT) & of_symbol).fill_null(value=False))
