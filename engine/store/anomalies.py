"""Anomalies of base bars, counted as rows are written and replaced. Pure: frame in, frame out."""

from __future__ import annotations

import polars as pl

ANOMALIES = ("off_grid", "out_of_session", "backfilled", "zero_volume")
_NONE = pl.DataFrame(schema={"series": pl.Int32, "session": pl.Date, **dict.fromkeys(ANOMALIES, pl.Int64)})


def count_anomalies(rows: pl.DataFrame, chosen: pl.Series) -> pl.DataFrame:
    """Per series and session that has any: rows off grid in `chosen` segments, out of session, backfilled, of volume 0.

    Parameters
    ----------
    rows : DataFrame
        `series, session, ordinal, slot, volume, provenance` of base bars.
    chosen : Series of Int32
        Ordinals of the chosen segments.

    Returns
    -------
    DataFrame of `series, session, off_grid, out_of_session, backfilled, zero_volume` (Int64)
        Only sessions with an anomaly, sorted.
    """
    key = ["series", "session"]
    placed = pl.col("slot").is_not_null()
    in_segment = pl.col("ordinal").is_in(chosen.implode()).fill_null(value=False)
    tests = {
        "off_grid": ~placed & in_segment,
        "out_of_session": ~placed & ~in_segment,
        "backfilled": placed & (pl.col("provenance") == "backfill"),
        "zero_volume": placed & (pl.col("volume") == 0).fill_null(value=False),
    }
    anomalous = rows.filter(pl.any_horizontal(list(tests.values()))) if rows.height else rows
    if anomalous.is_empty():  # as a rule
        return _NONE
    return anomalous.group_by(key).agg(test.sum().cast(pl.Int64).alias(name) for name, test in tests.items()).sort(key)
