"""How much of what was expected is there: one row per series and session. Pure: frame in, frame out."""

from __future__ import annotations

import polars as pl

QUALITY = {
    "series": pl.Int32(),
    "session": pl.Date(),
    "expected": pl.Int64(),
    "present": pl.Int64(),
    "missing": pl.Int64(),
    "duplicates": pl.Int64(),
    "corrections": pl.Int64(),
    "off_grid": pl.Int64(),
    "out_of_session": pl.Int64(),
    "backfilled": pl.Int64(),
    "zero_volume": pl.Int64(),
    "quality": pl.Float64(),
    "slot_coverage": pl.Float64(),
}
COUNTED = ("duplicates", "corrections", "off_grid", "out_of_session", "backfilled", "zero_volume")
KEY = ["series", "session"]


def score(
    wanted: pl.DataFrame, gaps: pl.DataFrame, counts: pl.DataFrame, coverage: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Quality per series and session.

    Parameters
    ----------
    wanted : DataFrame
        From `gaps.expected`.
    gaps : DataFrame
        From `gaps.find_gaps` on the same expectation.
    counts : DataFrame
        `series, session` and any of `COUNTED` (Int64): what was counted at the door (`engine.tally`). Sessions
        in which nothing was expected are listed with null quality.
    coverage : DataFrame, optional
        `series, session, slot_coverage` (0-1) of a derived interval.

    Returns
    -------
    DataFrame
        `QUALITY`, sorted by (series, session). `quality` is 100 * present / expected, null where nothing was
        expected.
    """
    due = wanted.group_by(KEY).agg(pl.col("slots").cast(pl.Int64).sum().alias("expected"))
    lost = gaps.group_by(KEY).agg(pl.col("bar_count").cast(pl.Int64).sum().alias("missing"))
    frame = due.join(counts, on=KEY, how="full", coalesce=True).join(lost, on=KEY, how="left")
    if coverage is not None:
        frame = frame.join(coverage, on=KEY, how="left")
    absent = [pl.lit(0, pl.Int64).alias(name) for name in COUNTED if name not in frame.columns]
    known = ["expected", "missing", *(name for name in COUNTED if name in frame.columns)]
    frame = frame.with_columns(*absent, pl.col(known).fill_null(0)).with_columns(
        (pl.col("expected") - pl.col("missing")).alias("present")
    )
    if coverage is None:
        frame = frame.with_columns(pl.lit(None, pl.Float64).alias("slot_coverage"))
    rate = pl.when(pl.col("expected") > 0).then(100.0 * pl.col("present") / pl.col("expected")).alias("quality")
    return frame.with_columns(rate).select(pl.col(n).cast(t) for n, t in QUALITY.items()).sort(KEY)


def slot_coverage(wanted: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Share of base slots present over all windows of a session, also those that got no bar.

    Parameters
    ----------
    wanted, gaps : DataFrame
        Expectation and gaps of the interval that completeness counts.

    Returns
    -------
    DataFrame of `series, session, slot_coverage` (Float64, 0-1)
    """
    due = wanted.group_by(KEY).agg(pl.col("slots").cast(pl.Int64).sum().alias("due"))
    lost = gaps.group_by(KEY).agg(pl.col("bar_count").cast(pl.Int64).sum().alias("lost"))
    covered = (pl.col("due") - pl.col("lost").fill_null(0)) / pl.col("due")
    return due.join(lost, on=KEY, how="left").select(*KEY, covered.alias("slot_coverage"))


def period_coverage(wanted: pl.DataFrame, slots: pl.Series, bars: pl.DataFrame) -> pl.DataFrame:
    """As `slot_coverage`, of a day, week or month: its one window is expected whole, whatever the lifetime.

    Parameters
    ----------
    wanted : DataFrame
        Expectation of the period.
    slots : Series
        How many slots each row of `wanted` holds.
    bars : DataFrame
        `series, ordinal, n_base` of the derived bars.

    Returns
    -------
    DataFrame of `series, session, slot_coverage` (Float64, 0-1)
    """
    beside = wanted.with_columns(slots.alias("due")).join(bars, on=["series", "ordinal"], how="left")
    return beside.select(*KEY, (pl.col("n_base").fill_null(0) / pl.col("due")).alias("slot_coverage"))
