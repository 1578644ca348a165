"""Columns of the public tables, and stored rows in their form: names for numbers, labels for ordinals, ends added. Pure."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl

from engine.grid import SessionGrid
from engine.interval import Interval
from engine.schema import TS, VERDICT

# In the order of text, as rows are sorted by it.
ORIGIN = pl.Enum(("derived", "source"))

BARS_VIEW = {
    "symbol": pl.String(),
    "price_type": pl.String(),
    "interval": pl.String(),
    "origin": pl.String(),
    "ts": TS,
    "ts_end": TS,
    "session": pl.Date(),
    "segment": pl.String(),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
    "size": pl.Float64(),
    "vwap": pl.Float64(),
    "trades": pl.Int64(),
    "n_base": pl.Int32(),
    "n_expected": pl.Int32(),
    "complete": pl.Boolean(),
    "final": pl.Boolean(),
    "provenance": pl.String(),
    "verdict": pl.String(),
}

GAPS_VIEW = {
    **dict.fromkeys(("symbol", "price_type", "interval"), pl.String()),
    "session": pl.Date(),
    "segment": pl.String(),
    "gap_start": TS,
    "gap_end": TS,
    "bar_count": pl.Int32(),
    **dict.fromkeys(("position", "cause", "state"), pl.String()),
    "retry_count": pl.Int32(),
    "last_retry": TS,
    "next_retry": TS,
}
QUALITY_VIEW = {
    **dict.fromkeys(("symbol", "price_type", "interval"), pl.String()),
    "session": pl.Date(),
    **dict.fromkeys(("expected", "present", "missing", "duplicates", "corrections"), pl.Int64()),
    **dict.fromkeys(("off_grid", "out_of_session", "backfilled", "zero_volume"), pl.Int64()),
    "quality": pl.Float64(),
    "slot_coverage": pl.Float64(),
}
SESSIONS_VIEW = ("calendar", "session", "ordinal", "segment", "segment_open", "segment_close")
CALENDARS_VIEW = ("calendar", "provider", "version", "time_zone", "overrides_hash")
SYMBOLS_VIEW = {
    "symbol": pl.String(),
    "source_symbol": pl.String(),
    "calendar": pl.String(),
    "base_interval": pl.String(),
    "derived_intervals": pl.List(pl.String()),
    "is_loaded": pl.Boolean(),
    "adjustment": pl.String(),
    "source": pl.String(),
    "base_from": pl.String(),
    "price_type": pl.String(),
    "price_types": pl.List(pl.String()),
    "segments": pl.List(pl.String()),
    "align": pl.String(),
    "zone": pl.String(),
    "incomplete": pl.String(),
}


def with_series_names(rows: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """Prepend `symbol, price_type` looked up by each row's `series` number (null if unknown); rows stay in order."""
    names = _lookup_columns(series, "series", rows["series"], ["symbol", "price_type"])
    return names.hstack(rows)


def _lookup_columns(table: pl.DataFrame, key: str, wanted: pl.Series, columns: list[str]) -> pl.DataFrame:
    """`columns` of the `table` row whose integer `key` equals each `wanted` number, in order; null if none."""
    if table.is_empty():
        return table.select(columns).clear(len(wanted))
    numbers = table[key].to_numpy()
    low, high = int(numbers.min()), int(numbers.max())
    # A table over the whole range; one place more, at its end, for what is none of them.
    place = np.full(high - low + 2, -1, np.int64)
    place[numbers - low] = np.arange(len(numbers))
    sought = wanted.fill_null(high + 1).to_numpy()
    inside = (sought >= low) & (sought <= high)
    at = place[np.where(inside, sought, high + 1) - low] if not inside.all() else place[sought - low]
    found = pl.Series(at)
    if at.min(initial=0) < 0:
        found = found.zip_with(pl.Series(at >= 0), pl.Series([None], dtype=pl.Int64))
    return pl.DataFrame([table[column].gather(found) for column in columns])


def _as_strings(names: pl.Series) -> pl.Series:
    # One value throughout, as a rule, which need not be spelled for every row.
    alike = len(names) > 0 and not names.null_count() and (names.to_physical() == names.to_physical()[0]).all()
    return names.head(1).cast(pl.String).new_from_index(0, len(names)) if alike else names.cast(pl.String)


def bars_view(
    rows: pl.DataFrame,
    grid: SessionGrid | None,
    interval: Interval | None,
    origin: str,
    series: pl.DataFrame,
    as_of: dt.datetime | None,
    *,
    as_enums: bool = False,
) -> pl.DataFrame:
    """Stored bars as `BARS_VIEW`, in order; `final`, and only then `complete`, if ended by `as_of`; verdict `incomplete` else.

    Parameters
    ----------
    rows : DataFrame
        Rows of a bar panel.
    grid : SessionGrid or None
        The axis at their interval; None when there are no rows.
    interval : Interval or None
        Theirs.
    origin : {"source", "derived"}
    series : DataFrame
        `series, symbol, price_type`.
    as_of : datetime or None
        A bar whose end lies later is not final.
    as_enums : bool
        Leave columns of text that hold few values as enums.

    Returns
    -------
    DataFrame
        `BARS_VIEW`, in the order of `rows`. A bar off the grid or out of session ends one step after its start.
    """
    if grid is None or interval is None:
        return pl.DataFrame(schema=BARS_VIEW)
    labels = grid.table.select("ordinal", "segment")
    if as_enums:
        series = series.with_columns(series["price_type"].cast(pl.Enum(series["price_type"].unique().sort())))
        labels = labels.with_columns(labels["segment"].cast(pl.Enum(labels["segment"].drop_nulls().unique().sort())))
    shown = with_series_names(with_ends(rows, grid), series)
    shown = shown.hstack(_lookup_columns(labels, "ordinal", shown["ordinal"], ["segment"]))
    final = pl.lit(value=True) if as_of is None else pl.col("ts_end") <= as_of
    # All its slots may hold something before it is over, where they are made of ticks.
    completeness = (
        [(pl.col("complete") & final).alias("complete")]
        if "complete" in shown.columns
        else [pl.lit(None, BARS_VIEW[name]).alias(name) for name in ("n_base", "n_expected", "complete")]
    )
    text = str(interval)
    named = (pl.lit(text, pl.Enum([text])), pl.lit(origin, ORIGIN)) if as_enums else (pl.lit(text), pl.lit(origin))
    # What is not over, or lacks a slot, is incomplete whatever it is made of.
    is_whole = pl.col("final") & pl.col("complete").fill_null(value=True)
    whole = shown.with_columns(
        named[0].alias("interval"),
        named[1].alias("origin"),
        final.alias("final"),
        *completeness,
        shown["provenance"] if as_enums else _as_strings(shown["provenance"]),
    ).with_columns(pl.when(is_whole).then("verdict").otherwise(pl.lit("incomplete", VERDICT)).alias("verdict"))
    kept = {name for name, dtype in whole.schema.items() if as_enums and isinstance(dtype, pl.Enum)}
    return whole.select(name if name in kept else pl.col(name).cast(dtype) for name, dtype in BARS_VIEW.items())


def with_ends(rows: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """Add exclusive `ts_end`: end of the slot, cut at the close; no slot: `ts` plus one step. Rows with `ts_end` stay unchanged."""
    if "ts_end" in rows.columns:
        return rows
    step = pl.duration(seconds=grid.interval.seconds)
    if not rows["slot"].null_count():
        return rows.with_columns(grid.ends(rows["ordinal"], rows["slot"]))
    placed = rows["slot"].is_not_null()
    any_segment = grid.table["ordinal"][0]  # stands in where there is none; its end is not used
    ends = grid.ends(rows["ordinal"].fill_null(any_segment), rows["slot"].fill_null(0))
    return rows.with_columns(pl.when(placed).then(ends).otherwise(pl.col("ts") + step).alias("ts_end"))
