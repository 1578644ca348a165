"""How much of what was expected is there: one row per series and session. Pure: frame in, frame out."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.keys import Ints, find_keys, pack_columns, unpack_pair

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


def quality_score(
    wanted: pl.DataFrame, gaps: pl.DataFrame, counts: pl.DataFrame, coverage: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Quality per series and session.

    Parameters
    ----------
    wanted : DataFrame
        From `gaps.expected_slots`.
    gaps : DataFrame
        From `gaps.find_gaps` on the same expectation, or other rows of `series, session, bar_count` whose sums are alike.
    counts : DataFrame
        `series, session` and any of `COUNTED` (Int64): what was counted at the door (`engine.store.anomalies`). Sessions
        in which nothing was expected are listed with null quality.
    coverage : DataFrame, optional
        `series, session, slot_coverage` (0-1) of a derived interval.

    Returns
    -------
    DataFrame
        `QUALITY`, sorted by (series, session). `quality` is 100 * present / expected, null where nothing was
        expected.
    """
    keys = _distinct(np.concatenate([pack_columns(wanted, *KEY), pack_columns(counts, *KEY)]))
    expected = _summed(keys, wanted, "slots")
    sums = {"expected": expected, "missing": _summed(keys, gaps, "bar_count")}
    sums["present"] = expected - sums["missing"]
    sums |= {
        name: _summed(keys, counts, name) if name in counts.columns else np.zeros_like(expected) for name in COUNTED
    }
    rate = 100.0 * sums["present"] / np.where(expected > 0, expected, 1)
    covered = np.full(len(keys), np.nan)
    if coverage is not None and coverage.height and len(keys):
        at, known = find_keys(keys, pack_columns(coverage, *KEY))
        covered[at[known]] = coverage["slot_coverage"].to_numpy()[known]
    return pl.DataFrame([
        *_unkeyed(keys),
        *(pl.Series(name, sums[name]) for name in ("expected", "present", "missing", *COUNTED)),
        pl.Series("quality", np.where(expected > 0, rate, np.nan), nan_to_null=True),
        pl.Series("slot_coverage", covered, nan_to_null=True),
    ])  # fmt: skip


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
    keys = _distinct(pack_columns(wanted, *KEY))
    due, lost = _summed(keys, wanted, "slots"), _summed(keys, gaps, "bar_count")
    return _covered(keys, (due - lost) / due)


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


def _covered(keys: Ints, share: NDArray[np.float64]) -> pl.DataFrame:
    return pl.DataFrame([*_unkeyed(keys), pl.Series("slot_coverage", share)])


def _distinct(keys: Ints) -> Ints:
    # They are so already, as a rule: sessions of one segment, in which nothing was counted.
    return keys if (keys[1:] > keys[:-1]).all() else np.unique(keys)


def _unkeyed(keys: Ints) -> list[pl.Series]:
    series, days = unpack_pair(keys)
    return [pl.Series("series", series), pl.Series("session", days).cast(pl.Date)]


def _summed(keys: Ints, rows: pl.DataFrame, name: str) -> Ints:
    """Sum of a column for each of these keys; rows with another key count for nothing."""
    sums = np.zeros(len(keys), np.int64)
    if len(keys) and rows.height:
        at, known = find_keys(keys, pack_columns(rows, *KEY))
        np.add.at(sums, at[known], rows[name].fill_null(0).cast(pl.Int64).to_numpy()[known])
    return sums
