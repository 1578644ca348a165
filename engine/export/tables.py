"""The tables of an export: columns, types, keys, order of rows, folders. A public contract.

`conform_table` checks every frame: one that does not fit is refused before a byte is written.

Every row says which `revision` wrote it: on the disk the target's own, in a frame on its way there the store's
(`row_revisions` turns one into the other).
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from engine.errors import IntervalError, SchemaError
from engine.export.coded_text import FEW_VALUES
from engine.interval import Interval
from engine.schema import TS, TS_NS, Schema, empty

STRING, DATE, FLOAT, FLAG = pl.String(), pl.Date(), pl.Float64(), pl.Boolean()
INT, LONG = pl.Int32(), pl.Int64()

BARS: Schema = {
    **dict.fromkeys(("symbol", "price_type", "interval", "origin"), STRING),
    "ts": TS,
    "ts_end": TS,
    "session": DATE,
    "segment": STRING,
    **dict.fromkeys(("open", "high", "low", "close", "volume", "size", "vwap"), FLOAT),
    "trades": LONG,
    "n_base": INT,
    "n_expected": INT,
    "complete": FLAG,
    "final": FLAG,
    "provenance": STRING,
    "verdict": STRING,
    "month": STRING,
    "revision": LONG,
}
QUOTES: Schema = {
    "symbol": STRING,
    "ts": TS,
    "ts_ns": LONG,
    "seq": LONG,
    "session": DATE,
    **dict.fromkeys(("bid", "ask", "bid_size", "ask_size"), FLOAT),
    "month": STRING,
    "revision": LONG,
}
TICKS: Schema = {
    "symbol": STRING,
    "ts": TS,
    "ts_ns": LONG,
    "seq": LONG,
    "session": DATE,
    "price": FLOAT,
    "size": FLOAT,
    "exchange": STRING,
    "conditions": STRING,
    "suspicious": FLAG,
    "month": STRING,
    "revision": LONG,
}
OPEN_INTEREST: Schema = {"symbol": STRING, "ts": TS, "session": DATE, "value": FLOAT, "revision": LONG}
GAPS: Schema = {
    **dict.fromkeys(("symbol", "price_type", "interval"), STRING),
    "session": DATE,
    "segment": STRING,
    "gap_start": TS,
    "gap_end": TS,
    "bar_count": LONG,
    **dict.fromkeys(("position", "cause", "state"), STRING),
    "retry_count": INT,
    "last_retry": TS,
    "next_retry": TS,
    "revision": LONG,
}
QUALITY: Schema = {
    **dict.fromkeys(("symbol", "price_type", "interval"), STRING),
    "session": DATE,
    **dict.fromkeys(("expected", "present", "missing", "duplicates", "corrections"), LONG),
    **dict.fromkeys(("off_grid", "out_of_session", "backfilled", "zero_volume"), LONG),
    "quality": FLOAT,
    "slot_coverage": FLOAT,
    "revision": LONG,
}
SESSIONS: Schema = {
    "calendar": STRING,
    "session": DATE,
    "ordinal": INT,
    "segment": STRING,
    "segment_open": TS,
    "segment_close": TS,
    "revision": LONG,
}
CALENDARS: Schema = {
    **dict.fromkeys(("calendar", "provider", "version", "time_zone", "overrides_hash"), STRING),
    "revision": LONG,
}
SYMBOLS: Schema = {
    **dict.fromkeys(("symbol", "source_symbol", "calendar", "base_interval"), STRING),
    "derived_intervals": pl.List(pl.String()),
    "is_loaded": FLAG,
    "adjustment": STRING,
    "source": STRING,
    "base_from": STRING,
    "price_type": STRING,
    "price_types": pl.List(pl.String()),
    "segments": pl.List(pl.String()),
    "align": STRING,
    "zone": STRING,
    "incomplete": STRING,
    "rows": LONG,
    "first_ts": TS,
    "last_ts": TS,
    "revision": LONG,
}
REJECTS: Schema = {"source": STRING, "row": LONG, "reason": STRING, "cells": STRING, "revision": LONG}
# What was asked of a second source for lost slots: one row per run of slots, source and answer. `former_*` and the
# states of retries are those of the gap that the run lay in, so that its rows can be taken out again.
FILLS: Schema = {
    **dict.fromkeys(("symbol", "price_type", "interval"), STRING),
    "session": DATE,
    "segment": STRING,
    "gap_start": TS,
    "gap_end": TS,
    "bar_count": LONG,
    **dict.fromkeys(("cause", "source", "outcome", "detail"), STRING),
    "original_start": TS,
    "original_end": TS,
    **dict.fromkeys(("original_cause", "state"), STRING),
    "retry_count": INT,
    "last_retry": TS,
    "next_retry": TS,
    "revision": LONG,
}
EXPORTS: Schema = {
    "revision": LONG,
    "since_revision": LONG,
    "store_id": STRING,
    "store_revision": LONG,
    "as_of": TS,
    "written_at": TS,
    "engine_version": STRING,
    "table_names": pl.List(pl.String()),
    "table_versions": pl.List(pl.Int64()),
}

# `exports` comes last: its commit is what makes an export real.
TABLES: Mapping[str, Schema] = {
    "bars": BARS,
    "quotes": QUOTES,
    "ticks": TICKS,
    "open_interest": OPEN_INTEREST,
    "gaps": GAPS,
    "quality": QUALITY,
    "sessions": SESSIONS,
    "calendars": CALENDARS,
    "symbols": SYMBOLS,
    "rejects": REJECTS,
    "fills": FILLS,
    "exports": EXPORTS,
}
# Tables that exports of earlier versions do not have: no rows there.
LATER = ("fills",)
DATA_TABLES = tuple(name for name in TABLES if name != "exports")

# What identifies a row; a reject is nothing but its cells, and may be there twice.
KEYS: Mapping[str, tuple[str, ...]] = {
    "bars": ("symbol", "price_type", "interval", "origin", "ts"),
    "quotes": ("symbol", "ts_ns", "seq"),
    "ticks": ("symbol", "ts_ns", "seq"),
    "open_interest": ("symbol", "ts"),
    "gaps": ("symbol", "price_type", "interval", "gap_start"),
    "quality": ("symbol", "price_type", "interval", "session"),
    "sessions": ("calendar", "ordinal"),
    "calendars": ("calendar",),
    "symbols": ("symbol",),
    "rejects": ("source", "row", "reason", "cells"),
    "fills": ("symbol", "price_type", "interval", "gap_start", "source"),
}
# Order of the rows in each file.
SORT: Mapping[str, tuple[str, ...]] = {
    "bars": ("symbol", "ts", "price_type", "origin"),
    "quotes": ("symbol", "ts_ns", "seq"),
    "ticks": ("symbol", "ts_ns", "seq"),
    "open_interest": ("symbol", "ts"),
    "gaps": ("symbol", "price_type", "interval", "gap_start"),
    "quality": ("symbol", "price_type", "interval", "session"),
    "sessions": ("calendar", "ordinal"),
    "calendars": ("calendar",),
    "symbols": ("symbol",),
    "rejects": ("source", "row", "reason"),
    "fills": ("symbol", "price_type", "interval", "gap_start", "source"),
    "exports": ("revision",),
}
# Folders below the table, `bars/1m/2013-10` (`folders` joins small years). The columns are in the files, and neither
# the folders' names nor the log declare them: pandas and PyArrow refuse files that hold a column of their `name=value`
# folders, and Polars refuses a log with partition_rows below any such folder. Statistics prune as well as folders do.
PARTITION: Mapping[str, tuple[str, ...]] = {
    "bars": ("interval", "month"),
    "quotes": ("month",),
    "ticks": ("month",),
}
COMPUTED = ("month", "ts_ns", "revision")
# Columns that files of earlier versions do not have; null there.
ADDED: Mapping[str, tuple[str, ...]] = {
    "bars": ("verdict",),
    "symbols": ("base_from", "price_type", "price_types", "segments", "align", "zone", "incomplete"),
}
# Their rows of the last session change until it is over, so those have a file of their own.
LIVE = ("gaps", "quality")


def conform_table(name: str, frame: pl.DataFrame | None, *, keep_enums: bool = False) -> pl.DataFrame:
    """Check a frame (None: no rows) and cast it to its table's schema, adding computed columns; SchemaError if unfit.

    Parameters
    ----------
    name : str
        One of `TABLES`.
    frame : DataFrame or None
        The table's columns in any order; None means no row. `month` (from `session`), `ts_ns` (from `ts`) and
        `revision` (then null) and what is `ADDED` (then null) may be left out. Types may differ where nothing can be
        lost: enum for String, an integer of another width, an all-null column, nanoseconds in `ts` where `ts_ns` keeps
        them.
    keep_enums : bool
        Leave enums of `FEW_VALUES` as they are, and make `month` one: rows on their way to a file.

    Raises
    ------
    SchemaError
        Unknown table; columns missing, unknown or of another type; a float that is not finite; a partition
        column that is null or no interval.
    """
    if name not in TABLES:
        raise SchemaError(f"tables: received {name!r}; valid: {', '.join(DATA_TABLES)}")
    if frame is None:
        return empty(TABLES[name])
    check_columns(name, frame)
    for column in COMPUTED:
        if column in TABLES[name]:
            frame = with_computed_column(name, frame, column, as_enum=keep_enums)
    types = TABLES[name]
    if keep_enums:
        held = {column: frame.schema[column] for column in FEW_VALUES.get(name, ()) if column in frame.columns}
        types = {**types, **{column: dtype for column, dtype in held.items() if isinstance(dtype, pl.Enum)}}
    try:
        rows = with_added_columns(name, frame).select(pl.col(column).cast(dtype) for column, dtype in types.items())
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"{name}: {error}") from error
    check_values(name, rows)
    return rows


def sorted_rows(frame: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    """Rows sorted stably by these columns, nulls first; the same frame when it is already sorted or empty."""
    return frame if is_sorted_by(frame, by) else frame.sort(by, maintain_order=True)


def is_sorted_by(frame: pl.DataFrame, by: tuple[str, ...]) -> bool:
    """Whether rows are in ascending order of these columns (lexicographic), nulls first; ties are in order."""
    if frame.is_empty():
        return True
    # One shifted comparison per column while rows are equal so far: a twentieth of the price of a sort by strings.
    equal_so_far = pl.Series([True]).new_from_index(0, frame.height - 1)
    for name in by:
        pairs = pl.select(here=frame[name].slice(1), before=frame[name].head(-1), equal=equal_so_far)
        is_less = (pl.col("here") < pl.col("before")).fill_null(
            pl.col("here").is_null() & pl.col("before").is_not_null()
        )
        if pairs.select((pl.col("equal") & is_less).any()).item():
            return False
        equal_so_far = pairs.select(pl.col("equal") & pl.col("here").eq_missing(pl.col("before")))["equal"]
        if not equal_so_far.any():
            break
    return True


def check_columns(name: str, frame: pl.DataFrame) -> None:
    """Raise SchemaError for missing required or unknown columns and for types that cannot be cast without loss."""
    schema = TABLES[name]
    unknown = [column for column in frame.columns if column not in schema]
    optional = (*COMPUTED, *ADDED.get(name, ()))
    missing = [column for column in schema if column not in frame.columns and column not in optional]
    wrong = [
        f"{column} is {dtype}, valid {schema[column]}"
        for column, dtype in frame.schema.items()
        if column in schema and not is_lossless(dtype, schema[column], has_ns=column == "ts" and "ts_ns" in schema)
    ]
    faults = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has no column {', '.join(unknown)}"] * bool(unknown)
    if faults or wrong:
        raise SchemaError(f"{name}: {'; '.join(faults + wrong)}; its columns: {', '.join(schema)}")


def is_lossless(given: pl.DataType, wanted: pl.DataType, *, has_ns: bool) -> bool:
    """Whether a dtype may be cast: same, all-null, between integers, enum to text, UTC ms to `TS`, ns if `has_ns`."""
    same = given in (wanted, pl.Null()) or (given.is_integer() and wanted.is_integer())
    text = wanted == pl.String() and isinstance(given, pl.Enum | pl.Categorical)
    empty_lists = isinstance(wanted, pl.List) and given == pl.List(pl.Null())
    instants = wanted == TS and (given == pl.Datetime("ms", "UTC") or (has_ns and given == TS_NS))
    return same or text or empty_lists or instants


def with_added_columns(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with columns that version 0.1 lacked inserted as nulls in table order; the same frame if none is absent."""
    absent = [column for column in ADDED.get(name, ()) if column not in rows.columns]
    if not absent:
        return rows
    whole = rows.with_columns(pl.lit(None, TABLES[name][column]).alias(column) for column in absent)
    return whole.select(column for column in TABLES[name] if column in whole.columns)


def with_computed_column(name: str, frame: pl.DataFrame, column: str, *, as_enum: bool = False) -> pl.DataFrame:
    """Add `month` (an enum if asked for), `ts_ns` or a null `revision` if absent; SchemaError if a given `month` or `ts_ns` disagrees."""
    if column == "revision":
        return frame if column in frame.columns else frame.with_columns(pl.lit(None, LONG).alias(column))
    computed = (
        month_names(frame["session"], as_enum=as_enum) if column == "month" else frame["ts"].cast(TS_NS).dt.epoch("ns")
    )
    if column not in frame.columns:
        return frame.with_columns(computed.alias(column))
    given = frame[column]
    # `ts` in microseconds cannot say more than the whole ones of `ts_ns`.
    comparable = given // 1000 * 1000 if column == "ts_ns" and frame.schema["ts"] == TS else given
    if not comparable.equals(computed, check_names=False, null_equal=True):
        raise SchemaError(f"{name}: {column} differs from what session and ts say; leave it out")
    return frame


def month_names(session: pl.Series, *, as_enum: bool = False) -> pl.Series:
    """Month of each date as text `YYYY-MM`, or an enum; null for a null date."""
    day = session.cast(pl.Date).to_physical()
    first, last = day.min(), day.max()
    if not isinstance(first, int) or not isinstance(last, int):
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(day))
    # Each date is formatted once, not once per row.
    names = pl.int_range(first, last + 1, dtype=pl.Int32, eager=True).cast(pl.Date).dt.strftime("%Y-%m")
    if as_enum:
        names = names.cast(pl.Enum(names.unique().sort()))
    return names.gather(day - first)


def check_values(name: str, rows: pl.DataFrame) -> None:
    """Raise SchemaError where a float is NaN or infinite, a partition column is null or an interval not canonical."""
    floats = [column for column, dtype in TABLES[name].items() if dtype == pl.Float64()]
    # A sum is finite only if all it adds up is, and costs a fifth of a look at every value.
    finite = rows.select(pl.col(floats).sum().is_finite())
    suspects = [column for column in floats if not finite[column].item()]
    infinite = rows.select((~pl.col(suspects).is_finite()).any())
    bad = [column for column in suspects if infinite[column].item()]
    if bad:
        raise SchemaError(f"{name}: {', '.join(bad)} holds NaN or an infinity; valid: finite numbers and null")
    for column in PARTITION.get(name, ()):
        if rows[column].null_count():
            source = "session" if column == "month" else column
            raise SchemaError(f"{name}: {source} is null in {rows[column].null_count()} rows; every row needs one")
        for text in rows[column].unique().to_list() if column == "interval" else ():
            # It becomes a folder's name, so only the one spelling will do.
            try:
                shortest = str(Interval.parse(text))
            except IntervalError as error:
                raise SchemaError(f"{name}: {error}") from error
            if shortest != text:
                raise SchemaError(f"{name}: interval is {text!r}, valid {shortest!r}")
