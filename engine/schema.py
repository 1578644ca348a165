"""Columns and types of every frame that crosses a room, and the door that rows pass to become data.

`conform` is that door: it splits a frame into rows that hold and rows that do not, and loses none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from engine.errors import SchemaError

Schema = Mapping[str, pl.DataType]
Kind = Literal["bars", "quotes", "ticks", "open_interest"]

TS = pl.Datetime("us", "UTC")
TS_NS = pl.Datetime("ns", "UTC")

# No bar or tick is older or later: what lies outside was read in the wrong unit.
EARLIEST, LATEST = dt.datetime(1900, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC)

PRICE_TYPES = ("last", "bid", "ask", "mid")
PROVENANCES = ("source", "backfill", "synthetic")
PROVENANCE = pl.Enum(PROVENANCES)
ORIGINS = ("source", "derived")

BARS: Schema = {
    "symbol": pl.String(),
    "price_type": pl.String(),
    "ts": TS,
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
    "size": pl.Float64(),
    "vwap": pl.Float64(),
    "trades": pl.Int64(),
}
QUOTES: Schema = {
    "symbol": pl.String(),
    "ts": TS_NS,
    "seq": pl.Int64(),
    "bid": pl.Float64(),
    "ask": pl.Float64(),
    "bid_size": pl.Float64(),
    "ask_size": pl.Float64(),
}
TICKS: Schema = {
    "symbol": pl.String(),
    "ts": TS_NS,
    "seq": pl.Int64(),
    "price": pl.Float64(),
    "size": pl.Float64(),
    "exchange": pl.String(),
    "conditions": pl.String(),
    "suspicious": pl.Boolean(),
}
OPEN_INTEREST: Schema = {"symbol": pl.String(), "ts": TS, "value": pl.Float64()}
ROWS: Mapping[Kind, Schema] = {"bars": BARS, "quotes": QUOTES, "ticks": TICKS, "open_interest": OPEN_INTEREST}
REQUIRED: Mapping[Kind, tuple[str, ...]] = {
    "bars": ("symbol", "ts", "open", "high", "low", "close"),
    "quotes": ("symbol", "ts"),
    "ticks": ("symbol", "ts", "price"),
    "open_interest": ("symbol", "ts", "value"),
}

REJECTS: Schema = {"source": pl.String(), "row": pl.Int64(), "reason": pl.String(), "cells": pl.String()}

# A calendar's answer: one row per segment, sorted by segment_open, never overlapping.
SEGMENTS: Schema = {
    "session": pl.Date(),
    "ordinal": pl.Int32(),
    "segment": pl.String(),
    "segment_open": TS,
    "segment_close": TS,
    "regular": pl.Boolean(),
}
SEGMENTS_PER_SESSION = 16  # ordinal = days since 1970 of the trade date * 16 + position in the session


def session_ordinal(session: pl.Expr, position: pl.Expr) -> pl.Expr:
    """Ordinal of a segment: from its trade date and its position in the session, Int32."""
    return (session.cast(pl.Int32) * SEGMENTS_PER_SESSION + position).cast(pl.Int32)


def empty(schema: Schema) -> pl.DataFrame:
    """A frame of these columns without a row."""
    return pl.DataFrame(schema=dict(schema))


def select_schema(frame: pl.DataFrame, schema: Schema, what: str) -> pl.DataFrame:
    """The frame with exactly these columns in this order; casts where that loses nothing.

    Raises
    ------
    SchemaError
        A column is missing, or its values do not fit its type.
    """
    known = frame.schema  # made anew whenever it is asked for
    missing = [name for name in schema if name not in known]
    if missing:
        raise SchemaError(f"{what}: lacks {', '.join(missing)}; it has {', '.join(known)}")
    if all(known[name] == dtype for name, dtype in schema.items()):
        return frame[list(schema)]
    try:
        return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"{what}: {error}") from error


@dataclass(frozen=True)
class Rules:
    """What a row may look like.

    Attributes
    ----------
    allow_non_positive : bool
        Prices of zero and below are real for this instrument (spreads, some energy futures).
    """

    allow_non_positive: bool = False


def conform(
    raw: pl.DataFrame,
    kind: Kind,
    columns: Mapping[str, pl.Expr],
    source: str,
    rules: Rules | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split raw rows into those that hold and those that do not; none is repaired, none is lost.

    Parameters
    ----------
    raw : DataFrame
        Rows as they came, in file order. A column `row` (Int64), when there is one, is their number in
        the file; else they are counted from 1.
    kind : {"bars", "quotes", "ticks", "open_interest"}
        Which schema of this module.
    columns : mapping of name to expression over `raw`
        How each column is had; those of the schema that are absent become null (`price_type`: `last`).
    source : str
        The file, for the rejects.

    Returns
    -------
    good : DataFrame
        The schema's columns and `row`, in file order.
    bad : DataFrame
        `source, row, reason, cells`; `cells` is the raw row as JSON text.
    """
    rules = rules or Rules()
    if "row" not in raw.columns:
        raw = raw.with_row_index("row", offset=1)
    parsed = _parse(raw, kind, columns, source)
    reasons = _reasons(parsed, kind, columns, rules)
    faulty = pl.any_horizontal(list(reasons.values()))
    if not parsed.select(faulty.any()).item():
        return parsed.drop(_given(parsed)), empty(REJECTS)
    is_bad = parsed.select(faulty.alias("bad"))["bad"]
    reason = pl.concat_str(
        [pl.when(test).then(pl.lit(text)) for text, test in reasons.items()], separator="; ", ignore_nulls=True
    )
    why = parsed.filter(is_bad).select(reason.alias("reason"))["reason"]
    return parsed.filter(~is_bad).drop(_given(parsed)), rejected_rows(raw.filter(is_bad), why, source)


def rejected_rows(raw: pl.DataFrame, reason: pl.Series | str, source: str) -> pl.DataFrame:
    """Rows that were refused, as the `rejects` table has them: the original cells as JSON text."""
    cells = [name for name in raw.columns if name != "row"]
    return raw.select(
        pl.lit(source).alias("source"),
        pl.col("row").cast(pl.Int64),
        pl.lit(reason).cast(pl.String).alias("reason"),
        pl.struct(pl.col(cells).cast(pl.String, strict=False)).struct.json_encode().alias("cells"),
    )


def _parse(raw: pl.DataFrame, kind: Kind, columns: Mapping[str, pl.Expr], source: str) -> pl.DataFrame:
    schema = ROWS[kind]
    unknown = [name for name in columns if name not in schema]
    absent = [name for name in REQUIRED[kind] if name not in columns]
    if unknown or absent:
        raise SchemaError(
            f"{source}: {kind} need {', '.join(REQUIRED[kind])}; absent: {', '.join(absent) or 'none'}; "
            f"not a column of {kind}: {', '.join(unknown) or 'none'}"
        )
    values = [_value(name, dtype, columns, kind) for name, dtype in schema.items()]
    # What was written although it could not be read: a cell with text in it whose value is null.
    given = [
        pl.col(expr.meta.root_names()[0]).cast(pl.String, strict=False).str.strip_chars().str.len_chars().gt(0)
        .fill_null(value=False).alias(f"given:{name}")
        for name, expr in columns.items() if name not in REQUIRED[kind] and expr.meta.root_names()
    ]  # fmt: skip
    parsed = raw.select(*values, pl.col("row").cast(pl.Int64), *given)
    # Only cells that failed need the flag; dropping the others keeps wide files cheap.
    idle = [name for name in _given(parsed) if parsed[name.removeprefix("given:")].null_count() == 0]
    return parsed.drop(idle)


def _value(name: str, dtype: pl.DataType, columns: Mapping[str, pl.Expr], kind: Kind) -> pl.Expr:
    if name in columns:
        return columns[name].cast(dtype, strict=False).alias(name)
    default = "last" if name == "price_type" and kind == "bars" else None
    return pl.lit(default, dtype=dtype).alias(name)


def _given(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if name.startswith("given:")]


def _reasons(parsed: pl.DataFrame, kind: Kind, columns: Mapping[str, pl.Expr], rules: Rules) -> dict[str, pl.Expr]:
    reasons = {f"{name}: missing or unreadable": pl.col(name).is_null() for name in REQUIRED[kind]}
    reasons |= {
        f"{name.removeprefix('given:')}: unreadable": pl.col(name) & pl.col(name.removeprefix("given:")).is_null()
        for name in _given(parsed)
    }
    in_years = pl.col("ts").is_between(EARLIEST, LATEST)
    reasons[f"ts: not of {EARLIEST:%Y} to {LATEST:%Y}"] = ~in_years.fill_null(value=True)
    floats = [name for name in columns if ROWS[kind][name] == pl.Float64]
    reasons |= {f"{name}: not finite": ~pl.col(name).is_finite().fill_null(value=True) for name in floats}
    prices = [name for name in floats if name in ("open", "high", "low", "close", "price", "bid", "ask")]
    if not rules.allow_non_positive:
        reasons |= {f"{name}: not above zero": pl.col(name).le(0).fill_null(value=False) for name in prices}
    amounts = [name for name in floats if name in ("volume", "size", "bid_size", "ask_size", "value")]
    reasons |= {f"{name}: negative": pl.col(name).lt(0).fill_null(value=False) for name in amounts}
    if kind == "bars":
        reasons |= _BAR_REASONS
    if kind == "quotes":
        reasons["bid and ask: both missing"] = pl.col("bid").is_null() & pl.col("ask").is_null()
    return reasons


_BAR_REASONS: dict[str, pl.Expr] = {
    "high below low": pl.col("high") < pl.col("low"),
    "open outside low..high": (pl.col("open") < pl.col("low")) | (pl.col("open") > pl.col("high")),
    "close outside low..high": (pl.col("close") < pl.col("low")) | (pl.col("close") > pl.col("high")),
    "trades: negative": pl.col("trades").lt(0).fill_null(value=False),
}
