"""Columns and types of the frames that modules exchange, and the validation of rows that are read.

`conform` validates: it splits a frame into valid and rejected rows, and loses none.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import polars as pl

from engine.arguments import check_arguments
from engine.errors import SchemaError

Schema = Mapping[str, pl.DataType]
Kind = Literal["bars", "quotes", "ticks", "open_interest"]

TS = pl.Datetime("us", "UTC")
TS_NS = pl.Datetime("ns", "UTC")

# No bar or tick is older or later: what lies outside was read in the wrong unit.
EARLIEST, LATEST = dt.datetime(1900, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC)

PRICE_TYPES = ("last", "bid", "ask", "mid")
PROVENANCES = ("source", "backfill", "fill", "synthetic")
PROVENANCE = pl.Enum(PROVENANCES)
# How far a bar can be trusted, best first: a bar that is made of several has the last of theirs.
VERDICTS = ("observed", "corrected", "backfilled", "filled", "disputed", "incomplete")
VERDICT = pl.Enum(VERDICTS)
VERDICT_OF: Mapping[str, str] = {
    "source": "observed",
    "backfill": "backfilled",
    "fill": "filled",
    "synthetic": "incomplete",
}

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
PRICES = ("open", "high", "low", "close", "price", "bid", "ask")
AMOUNTS = ("volume", "size", "bid_size", "ask_size", "value", "trades")

FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, in days since 1970
PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
REJECTS: Schema = {"source": pl.String(), "row": pl.Int64(), "reason": pl.String(), "cells": pl.String()}

# Numbers that the feed counts trades by, in spans of time of a symbol: the first and the last of a span, and of the steps inside
# it that are not 0 how many are one, and the largest.
COUNTERS: Schema = {
    "symbol": pl.String(),
    "first_ts": TS,
    "last_ts": TS,
    **dict.fromkeys(("first_id", "last_id", "steps", "ones", "largest"), pl.Int64()),
}

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
    """Expression (Int32): days since 1970 of the trade date * 16 + position of the segment in its session."""
    return (session.cast(pl.Int32) * SEGMENTS_PER_SESSION + position).cast(pl.Int32)


def verdicts_of(codes: pl.Series) -> pl.Series:
    """Places in `VERDICTS` as a series `verdict` of that enum."""
    return codes.cast(pl.UInt8).cat.to(VERDICT).alias("verdict")


def verdict_by_provenance(provenance: pl.Series) -> pl.Series:
    """Series `verdict` of the provenance of rows of which nothing else is known: source rows are `observed`."""
    codes = pl.Series([VERDICTS.index(VERDICT_OF[name]) for name in PROVENANCES], dtype=pl.UInt8)
    return verdicts_of(codes.gather(provenance.to_physical()))


def empty(schema: Schema) -> pl.DataFrame:
    """Frame with the columns and types of the schema and no row."""
    return _empty(tuple(schema.items())).clone()


@functools.lru_cache(maxsize=256)
def _empty(columns: tuple[tuple[str, pl.DataType], ...]) -> pl.DataFrame:
    return pl.DataFrame(schema=dict(columns))


def select_schema(frame: pl.DataFrame, schema: Schema, what: str) -> pl.DataFrame:
    """The schema's columns in its order, cast, others dropped; SchemaError if one is missing or does not fit.

    Raises
    ------
    SchemaError
        A column is missing, or its values do not fit its type.
    """
    dtypes = frame.schema  # built anew at each access
    missing = [name for name in schema if name not in dtypes]
    if missing:
        raise SchemaError(f"{what}: lacks {', '.join(missing)}; it has {', '.join(dtypes)}")
    if all(dtypes[name] == dtype for name, dtype in schema.items()):
        return frame[list(schema)]
    try:
        return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"{what}: {error}") from error


@dataclass(frozen=True)
class Rules:
    """Options of row validation.

    Attributes
    ----------
    allow_non_positive : bool
        Prices of zero and below are real for this instrument (spreads, some energy futures).
    """

    allow_non_positive: bool = False


@check_arguments("raw", "kind", "columns", "rules")
def conform(
    raw: pl.DataFrame,
    kind: Kind,
    columns: Mapping[str, pl.Expr],
    source: str,
    rules: Rules | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split raw rows into (valid rows of the schema with `row`, `REJECTS` with all reasons joined); loses no row.

    Parameters
    ----------
    raw : DataFrame
        Rows as read, in file order. A column `row` (Int64), when there is one, is their number in
        the file; else they are counted from 1.
    kind : {"bars", "quotes", "ticks", "open_interest"}
        Which schema of this module.
    columns : mapping of name to expression over `raw`
        Expression of each column; columns of the schema that are absent become null (`price_type`: `last`).
    source : str
        The file, for the rejects.

    Returns
    -------
    good : DataFrame
        The schema's columns and `row`, in file order.
    bad : DataFrame
        `source, row, reason, cells`; `cells` is the raw row as JSON text.
    """
    if "row" not in raw.columns:
        raw = raw.with_row_index("row", offset=1)
    parsed, unreadable = parse_columns(raw, kind, columns, source)
    names = tuple(name for name in ROWS[kind] if name in columns)
    checks = row_checks(kind, names, rules or Rules(), tuple(unreadable))
    checked = parsed.hstack(raw.select(has_text(raw, columns, unreadable)))
    passed = checked.select(check.passes.alias(str(number)) for number, check in enumerate(checks)).row(0)
    failed = [check for check, is_passed in zip(checks, passed, strict=True) if not is_passed]
    if not failed or parsed.is_empty():
        return parsed, empty(REJECTS)
    texts = [pl.when(check.fails).then(pl.lit(check.reason)) for check in failed]
    reason = checked.select(pl.concat_str(texts, separator="; ", ignore_nulls=True).alias("reason"))["reason"]
    is_bad = reason != ""
    return parsed.filter(~is_bad), rejected_rows(raw.filter(is_bad), reason.filter(is_bad), source)


class RowCheck(NamedTuple):
    """One reason to reject a row.

    Attributes
    ----------
    reason : str
        As `rejects` has it.
    fails : Expr
        True of each row that is rejected for this reason.
    passes : Expr
        One value for the whole frame; true only where no row fails. It may be false where none does (numbers whose sum
        overflows): `fails` decides.
    """

    reason: str
    fails: pl.Expr
    passes: pl.Expr


@functools.lru_cache(maxsize=64)
def row_checks(kind: Kind, names: tuple[str, ...], rules: Rules, unreadable: tuple[str, ...] = ()) -> list[RowCheck]:
    """Checks of a kind: required null, unreadable, ts not of 1900-2200, not finite, price <= 0, amount < 0, OHLC order.

    Parameters
    ----------
    kind : {"bars", "quotes", "ticks", "open_interest"}
    names : sequence of str
        Columns that the source has; the others are null throughout.
    rules : Rules
    unreadable : sequence of str
        Optional columns with a null value where a cell may have text; `written:<name>` says whether it has.
    """
    floats = [name for name in names if ROWS[kind][name] == pl.Float64]
    prices = [name for name in floats if name in PRICES and not rules.allow_non_positive]
    amounts = [name for name in names if name in AMOUNTS]
    in_years = (pl.col("ts").min() >= EARLIEST) & (pl.col("ts").max() <= LATEST)
    checks = [
        *(
            _row_check(f"{name}: missing or unreadable", pl.col(name).is_null(), pl.col(name).null_count() == 0)
            for name in REQUIRED[kind]
        ),
        *(_row_check(f"{name}: unreadable", pl.col(f"written:{name}") & pl.col(name).is_null()) for name in unreadable),
        _row_check(f"ts: not of {EARLIEST:%Y} to {LATEST:%Y}", ~pl.col("ts").is_between(EARLIEST, LATEST), in_years),
        # A sum is finite only where every number is, and takes no mask of a whole column.
        *(
            _row_check(f"{name}: not finite", ~pl.col(name).is_finite(), pl.col(name).sum().is_finite())
            for name in floats
        ),
        *(_row_check(f"{name}: not above zero", pl.col(name) <= 0, pl.col(name).min() > 0) for name in prices),
        *(_row_check(f"{name}: negative", pl.col(name) < 0, pl.col(name).min() >= 0) for name in amounts),
    ]
    if "price_type" in names:
        is_side = pl.col("price_type").is_in(PRICE_TYPES).fill_null(value=False)
        checks.append(_row_check(f"price_type: not one of {', '.join(PRICE_TYPES)}", ~is_side, is_side.all()))
    if kind == "bars":
        opened, high, low, close = (pl.col(name) for name in ("open", "high", "low", "close"))
        checks += [
            _row_check("high below low", high < low),
            _row_check("open outside low..high", (opened < low) | (opened > high)),
            _row_check("close outside low..high", (close < low) | (close > high)),
        ]
    if kind == "quotes":
        checks.append(_row_check("bid and ask: both missing", pl.col("bid").is_null() & pl.col("ask").is_null()))
    return checks


def _row_check(reason: str, fails: pl.Expr, passes: pl.Expr | None = None) -> RowCheck:
    # A comparison with a null is null: only the check for missing cells rejects it.
    fails = fails.fill_null(value=False)
    return RowCheck(reason, fails, ~fails.any() if passes is None else passes.fill_null(value=True))


def rejected_rows(raw: pl.DataFrame, reason: pl.Series | str, source: str) -> pl.DataFrame:
    """`REJECTS` of all `raw` rows: source, `row`, reason (one, or one per row), other columns as JSON `cells`."""
    cells = [name for name in raw.columns if name != "row"]
    with_text = [
        name for name in cells if not isinstance(raw.schema[name], pl.List | pl.Array)
    ]  # a list is JSON as it is
    return raw.with_columns(cell_text(name, raw.schema[name]) for name in with_text).select(
        pl.lit(source).alias("source"),
        pl.col("row").cast(pl.Int64),
        pl.lit(reason).cast(pl.String).alias("reason"),
        pl.struct(pl.col(cells)).struct.json_encode().alias("cells"),
    )


def cell_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Expression for a column as String; a stamp or date outside the years 1 to 9999 is written as its number."""
    cell = pl.col(name)
    if not isinstance(dtype, pl.Datetime | pl.Date):
        return cell.cast(pl.String)
    # Polars ends the whole query on a date that its calendar does not reach.
    per_day = 1 if isinstance(dtype, pl.Date) else PER_DAY[dtype.time_unit]
    number = cell.to_physical().cast(pl.Int64)
    is_dated = number.is_between(FIRST_DAY * per_day, (LAST_DAY + 1) * per_day - 1)
    return pl.when(is_dated).then(cell).cast(pl.String).fill_null(number.cast(pl.String)).alias(name)


def parse_columns(
    raw: pl.DataFrame, kind: Kind, columns: Mapping[str, pl.Expr], source: str
) -> tuple[pl.DataFrame, list[str]]:
    """(rows in the schema with `row`, unfit cells null; optional columns with nulls); SchemaError for wrong columns.

    Raises
    ------
    SchemaError
        A required column is absent, or a column is none of the schema's.
    """
    schema = ROWS[kind]
    unknown = [name for name in columns if name not in schema]
    absent = [name for name in REQUIRED[kind] if name not in columns]
    if unknown or absent:
        raise SchemaError(
            f"{source}: {kind} need {', '.join(REQUIRED[kind])}; absent: {', '.join(absent) or 'none'}; "
            f"not a column of {kind}: {', '.join(unknown) or 'none'}"
        )
    values = {name: pl.lit(None, dtype) for name, dtype in schema.items()}
    if kind == "bars":
        values["price_type"] = pl.lit("last", schema["price_type"])
    values |= {name: expr.cast(schema[name], strict=False) for name, expr in columns.items()}
    parsed = raw.select(*(expr.alias(name) for name, expr in values.items()), pl.col("row").cast(pl.Int64))
    optional = [name for name, expr in columns.items() if name not in REQUIRED[kind] and expr.meta.root_names()]
    return parsed, [name for name in optional if parsed[name].null_count()]


def has_text(raw: pl.DataFrame, columns: Mapping[str, pl.Expr], names: Sequence[str]) -> list[pl.Expr]:
    """Expressions `written:<name>`: whether the raw cell behind each column is not null and (String) not blank."""
    cells = {name: columns[name].meta.root_names()[0] for name in names}
    return [
        (
            pl.col(cell).str.strip_chars().str.len_chars().gt(0).fill_null(value=False)
            if raw.schema[cell] == pl.String
            else pl.col(cell).is_not_null()
        ).alias(f"written:{name}")
        for name, cell in cells.items()
    ]


# Of a row of the table `gaps`: a filled gap is a record of what was missing once.
IS_MISSING = pl.col("state").ne_missing("filled")
