"""Numbers that group rows of bars: by series, by session of a series, by slot of the session.

A frame of bars is the table `bars` (`views.BARS_VIEW`) or rows of a bar panel; the columns of `SERIES` that it has
identify its series. Kernels of this folder need frames whose series are contiguous; `sort_bars` makes them so.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from engine.errors import SchemaError, SortednessError
from engine.interval import Interval
from engine.schema import SEGMENTS_PER_SESSION

SERIES = ("series", "symbol", "price_type", "interval", "origin")

# Columns that `sort_bars` and `number_places` add; no table has a column that begins so.
ROW, RUN, RUN_OF_SESSION, SESSION_NUMBER, POSITION, SLOT = "_row", "_run", "_session", "_number", "_position", "_slot"


def series_key(rows: pl.DataFrame) -> list[str]:
    """Columns of `SERIES` (series, symbol, price_type, interval, origin) in the frame; SchemaError if neither of the first two.

    Raises
    ------
    SchemaError
        It has neither `symbol` nor `series`.
    """
    if not {"symbol", "series"} & set(rows.columns):
        raise SchemaError(f"bars: lacks symbol (or series); it has {', '.join(rows.columns)}")
    return [name for name in SERIES if name in rows.columns]


def check_columns(rows: pl.DataFrame, needed: Sequence[str]) -> None:
    """Raise SchemaError naming the columns of `needed` that the frame does not have."""
    missing = sorted(set(needed) - set(rows.columns))
    if missing:
        raise SchemaError(f"bars: lacks {', '.join(missing)}; it has {', '.join(rows.columns)}")


def sort_bars(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars made contiguous by series, numbered in `RUN`, old row in `ROW`; SortednessError unless `ts` rises in each series.

    Parameters
    ----------
    bars : DataFrame
        In order of `ts` within each series, no two rows of one series with one `ts`; series may alternate.

    Raises
    ------
    SortednessError
        A row of a series is not later than the one before it.
    """
    key = series_key(bars)
    rows = bars.with_row_index(ROW).with_columns(run_numbers(key).alias(RUN))
    heads = rows.filter(begins_run(RUN)).select(key)
    if heads.is_duplicated().any():
        rows = rows.sort(key, maintain_order=True).with_columns(run_numbers(key).alias(RUN))
    ahead = begins_run(RUN) | (pl.col("ts") > pl.col("ts").shift(1))
    late = rows.select(ROW, ahead.fill_null(value=False).alias("ahead")).filter(~pl.col("ahead"))
    if late.height:
        at = late[ROW][0]
        raise SortednessError(
            f"bars: row {at} ({', '.join(str(bars[name][at]) for name in [*key, 'ts'])}) is not later than the row "
            f"before it in its series; valid: sorted by ts within ({', '.join(key)}), each ts once"
        )
    return rows


def restore_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows sorted back by `ROW`, without the columns that this module adds; undoes `sort_bars`."""
    ordered = rows if rows[ROW].is_sorted() else rows.sort(ROW)
    return ordered.drop(ROW, RUN, RUN_OF_SESSION, SESSION_NUMBER, POSITION, SLOT, strict=False)


def with_sessions(rows: pl.DataFrame) -> pl.DataFrame:
    """To rows of `sort_bars` add `RUN_OF_SESSION` (from 0 in the frame) and `SESSION_NUMBER` (from 0 in each series).

    Parameters
    ----------
    rows : DataFrame
        From `sort_bars`.
    """
    rows = rows.with_columns(pl.struct(RUN, "session").rle_id().cast(pl.Int64).alias(RUN_OF_SESSION))
    first = rows.filter(begins_run(RUN))[RUN_OF_SESSION]
    number = rows[RUN_OF_SESSION] - first.gather(rows[RUN])
    return rows.with_columns(number.alias(SESSION_NUMBER))


def number_places(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `POSITION` (ordinal % 16), `SLOT` (`slot`, or us since `segment_open`); lacking these, 0 from 1d on, else SchemaError.

    Raises
    ------
    SchemaError
        The frame lacks `ordinal`, or both `slot` and `segment_open`. Days, weeks and months need neither.
    """
    has = set(rows.columns)
    if {"ordinal", "slot"} <= has:
        slot = pl.col("slot").cast(pl.Int64)
    elif {"ordinal", "segment_open"} <= has:
        slot = (pl.col("ts") - pl.col("segment_open")).dt.total_microseconds()
    elif "interval" in has and not any(Interval.parse(text).is_intraday for text in rows["interval"].unique()):
        return rows.with_columns(pl.lit(0, pl.Int32).alias(POSITION), pl.lit(0, pl.Int64).alias(SLOT))
    else:
        raise SchemaError(
            f"bars: lacks ordinal and slot, so no bar's minute of the session is known; add those of "
            f"SessionGrid.place(bars['ts']), or ordinal and segment_open of the table sessions; "
            f"it has {', '.join(rows.columns)}"
        )
    return rows.with_columns((pl.col("ordinal") % SEGMENTS_PER_SESSION).alias(POSITION), slot.alias(SLOT))


def run_numbers(key: Sequence[str]) -> pl.Expr:
    """Expression: number from 0 (Int32) of each row's run of equal keys; a key that comes again is a new run."""
    return pl.struct(key).rle_id().cast(pl.Int32)


def begins_run(run: str) -> pl.Expr:
    """Expression: true of the first row and where `run` differs from the row before (null equals null)."""
    return pl.col(run).ne_missing(pl.col(run).shift(1))
