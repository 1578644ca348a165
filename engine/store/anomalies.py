"""What stands out in stored base bars themselves: counted at the door, as rows come and go. Pure: frame in, frame out."""

from __future__ import annotations

import polars as pl

ANOMALIES = ("off_grid", "out_of_session", "backfilled", "zero_volume")
_NONE = pl.DataFrame(schema={"series": pl.Int32, "session": pl.Date, **dict.fromkeys(ANOMALIES, pl.Int64)})


def count_anomalies(rows: pl.DataFrame, chosen: pl.Series) -> pl.DataFrame:
    """Off-grid and out-of-session rows; backfilled and zero-volume ones among those in their slot.

    Parameters
    ----------
    rows : DataFrame
        `series, session, ordinal, slot, volume, provenance` of base bars.
    chosen : Series of Int32
        Ordinals of the chosen segments.

    Returns
    -------
    DataFrame of `series, session, off_grid, out_of_session, backfilled, zero_volume` (Int64)
        Of the sessions in which anything stands out, sorted.
    """
    key = ["series", "session"]
    placed = pl.col("slot").is_not_null()
    in_segment = pl.col("ordinal").is_in(chosen.implode()).fill_null(value=False)
    odd = {
        "off_grid": ~placed & in_segment,
        "out_of_session": ~placed & ~in_segment,
        "backfilled": placed & (pl.col("provenance") == "backfill"),
        "zero_volume": placed & (pl.col("volume") == 0).fill_null(value=False),
    }
    noted = rows.filter(pl.any_horizontal(list(odd.values()))) if rows.height else rows
    if noted.is_empty():  # as a rule
        return _NONE
    return noted.group_by(key).agg(test.sum().cast(pl.Int64).alias(name) for name, test in odd.items()).sort(key)
