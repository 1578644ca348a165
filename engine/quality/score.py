"""Quality and slot coverage per series and session: shares of present slots. Pure: frame in, frame out."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.arguments import check_arguments
from engine.keys import Ints, distinct, find_keys, pack_columns, unpack_pair

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
KEY = ("series", "session")


@check_arguments("expected", "gaps", "counts", "coverage")
def quality_score(
    expected: pl.DataFrame, gaps: pl.DataFrame, counts: pl.DataFrame, coverage: pl.DataFrame | None = None
) -> pl.DataFrame:
    """`QUALITY` per (series, session) expected or counted: counts, coverage, % of expected not in gaps (0 due: null).

    Parameters
    ----------
    expected : DataFrame
        From `gaps.expected_slots`.
    gaps : DataFrame
        From `gaps.find_gaps` on the same expectation, or other rows of `series, session, bar_count` with equal sums.
    counts : DataFrame
        `series, session` and any of `COUNTED` (Int64), from `engine.store.anomalies`. Sessions in which nothing was
        expected are listed with null quality.
    coverage : DataFrame, optional
        `series, session, slot_coverage` (0-1) of a derived interval.

    Returns
    -------
    DataFrame
        `QUALITY`, sorted by (series, session). `quality` is 100 * present / expected, null where nothing was
        expected.
    """
    keys = distinct_keys(np.concatenate([pack_columns(expected, *KEY), pack_columns(counts, *KEY)]))
    due = sum_by_key(keys, expected, "slots")
    sums = {"expected": due, "missing": sum_by_key(keys, gaps, "bar_count")}
    sums["present"] = due - sums["missing"]
    sums |= {name: sum_by_key(keys, counts, name) if name in counts.columns else np.zeros_like(due) for name in COUNTED}
    rate = np.divide(100.0 * sums["present"], due, out=np.full(len(keys), np.nan), where=due > 0)
    covered = np.full(len(keys), np.nan)
    if coverage is not None and coverage.height and len(keys):
        at, is_found = find_keys(keys, pack_columns(coverage, *KEY))
        covered[at[is_found]] = coverage["slot_coverage"].to_numpy()[is_found]
    counted = [pl.Series(name, sums[name]) for name in ("expected", "present", "missing", *COUNTED)]
    quality = pl.Series("quality", rate, nan_to_null=True)
    return pl.DataFrame([*key_columns(keys), *counted, quality, pl.Series("slot_coverage", covered, nan_to_null=True)])


def adjusted_quality() -> pl.Expr:
    """Expression `quality_adjusted`: % present (not `filled`) or explained of expected less excluded; none due: null."""
    due = pl.col("expected") - pl.col("excluded")
    had = pl.col("present") - pl.col("filled") + pl.col("explained")
    return pl.when(due > 0).then(100.0 * had / due).alias("quality_adjusted")


def slot_coverage(expected: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Per series and session, 1 - missing base slots / due base slots (0-1), windows without a bar included.

    Parameters
    ----------
    expected, gaps : DataFrame
        Expectation and gaps of the interval that completeness counts.

    Returns
    -------
    DataFrame of `series, session, slot_coverage` (Float64, 0-1)
    """
    keys = distinct_keys(pack_columns(expected, *KEY))
    due, lost = sum_by_key(keys, expected, "slots"), sum_by_key(keys, gaps, "bar_count")
    return pl.DataFrame([*key_columns(keys), pl.Series("slot_coverage", (due - lost) / due)])


def period_coverage(expected: pl.DataFrame, slots: pl.Series, bars: pl.DataFrame) -> pl.DataFrame:
    """Per expected day, week, month: `n_base` of its bar (none: 0) / all its base slots, also outside the lifetime.

    Parameters
    ----------
    expected : DataFrame
        Expectation of the period.
    slots : Series
        Number of base slots in each row of `expected`.
    bars : DataFrame
        `series, ordinal, n_base` of the derived bars.

    Returns
    -------
    DataFrame of `series, session, slot_coverage` (Float64, 0-1)
    """
    joined = expected.with_columns(slots.alias("due")).join(bars, on=["series", "ordinal"], how="left")
    return joined.select(*KEY, (pl.col("n_base").fill_null(0) / pl.col("due")).alias("slot_coverage"))


def distinct_keys(keys: Ints) -> Ints:
    """Sorted distinct keys; the array itself when already strictly increasing."""
    # Usually they are already: sessions of one segment, in which nothing was counted.
    return keys if (keys[1:] > keys[:-1]).all() else distinct(keys)


def key_columns(keys: Ints) -> list[pl.Series]:
    """Packed keys as [`series`, `session` (Date)]."""
    series, days = unpack_pair(keys)
    return [pl.Series("series", series), pl.Series("session", days).cast(pl.Date)]


def sum_by_key(keys: Ints, rows: pl.DataFrame, name: str) -> Ints:
    """Sum of column `name` per sorted (series, session) key, 0 without rows; nulls 0, other keys ignored."""
    sums = np.zeros(len(keys), np.int64)
    if len(keys) and rows.height:
        at, is_found = find_keys(keys, pack_columns(rows, *KEY))
        np.add.at(sums, at[is_found], rows[name].fill_null(0).cast(pl.Int64).to_numpy()[is_found])
    return sums
