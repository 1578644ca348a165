"""Rows of one key: which one is kept, and what the others are. The store and the audit of large files both ask here.

Inside one batch the last row in file order is kept: an earlier one with the same values is a duplicate, one with other values a
conflict. Between batches a later row with the same values is a duplicate; with other values it replaces the earlier one, a correction.
A bar that was kept against a conflict in its batch is `disputed`, one that replaced another is `corrected`: its `verdict` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.keys import Ints, column_values
from engine.schema import VERDICTS, verdicts_of

CORRECTED, DISPUTED = VERDICTS.index("corrected"), VERDICTS.index("disputed")


class Settled(NamedTuple):
    """Rows with one left per key.

    Attributes
    ----------
    rows : DataFrame
        Those that are kept, in the same order.
    counts : DataFrame of `series, session, duplicates, corrections` (Int64)
        Of the sessions that have any.
    conflicts : DataFrame
        Rows that lost against a later one of their batch that has other values.
    """

    rows: pl.DataFrame
    counts: pl.DataFrame
    conflicts: pl.DataFrame


def settle(rows: pl.DataFrame, key: Sequence[str], values: Sequence[str]) -> Settled:
    """Last row per key of sorted rows; others: conflicts if unlike their batch's last, else counted duplicates or corrections.

    Parameters
    ----------
    rows : DataFrame
        `series, session`, key and values, and `batch` (Int32) where there are several; sorted by key, rows of one key in the
        order of arrival.
    key, values : sequence of str
        What identifies a row, and what tells a correction or a conflict from a duplicate.
    """
    again = np.ones(max(rows.height - 1, 0), bool)
    for name in key:
        again &= (column := column_values(rows, name))[1:] == column[:-1]
    if not again.any():
        return Settled(rows, no_counts(), rows.clear())
    flagged = pl.Series("again", np.append(again, [False]))
    involved = flagged | flagged.shift(1, fill_value=False)
    group = rows.with_row_index("at").filter(involved)
    of_batch = [*key, "batch"] if "batch" in rows.columns else list(key)
    old = {name: f"{name}:old" for name in values}
    last = [pl.col(name).last().over(of_batch).alias(was) for name, was in old.items()]
    ends = pl.col("at") == pl.col("at").max().over(of_batch)
    judged = group.with_columns(*last).with_columns(ends.alias("wins"), differs(old).alias("differs"))
    judged = judged.with_columns((~pl.col("wins") & pl.col("differs")).any().over(of_batch).alias("disputed"))
    conflicts = judged.filter(~pl.col("wins") & pl.col("differs"))
    repeats = judged.filter(~pl.col("wins") & ~pl.col("differs"))
    finals = judged.filter("wins")
    before = [pl.col(name).shift(1).over(key).alias(was) for name, was in old.items()]
    first = pl.col("at") == pl.col("at").min().over(key)
    finals = finals.with_columns(*before, first.alias("first")).with_columns(differs(old).alias("differs"))
    later = finals.filter(~pl.col("first"))
    counts = sum_counts([
        count(repeats, pl.lit(value=True), pl.lit(value=False)),
        count(later, ~pl.col("differs"), pl.col("differs")),
    ])  # fmt: skip
    finals = finals.with_columns((~pl.col("first") & pl.col("differs")).any().over(key).alias("corrected"))
    winners = finals.filter(pl.col("at") == pl.col("at").max().over(key))
    kept = winners["at"]
    if "verdict" in rows.columns and "verdict" not in values:
        mark = pl.when("disputed").then(pl.lit(DISPUTED)).when("corrected").then(pl.lit(CORRECTED)).otherwise(0)
        rows = with_verdicts_at_least(rows, kept.to_numpy(), winners.select(mark.alias("mark"))["mark"].to_numpy())
    keep = ~involved | pl.int_range(rows.height, eager=True).is_in(kept.cast(pl.Int64).implode())
    return Settled(rows.filter(keep), counts, conflicts.select(rows.columns))


def with_verdicts_at_least(rows: pl.DataFrame, at: Ints, codes: NDArray[np.int32]) -> pl.DataFrame:
    """Rows whose `verdict` at these places is moved to the given places in `VERDICTS` where they are further down."""
    verdicts = rows["verdict"].to_physical().to_numpy().copy()
    verdicts[at] = np.maximum(verdicts[at], codes)
    return rows.with_columns(verdicts_of(pl.Series(verdicts)))


def differs(old: Mapping[str, str]) -> pl.Expr:
    """Expression: true where any column differs from its counterpart (`old`: name -> column); null equals null."""
    return pl.any_horizontal([pl.col(name).ne_missing(pl.col(was)) for name, was in old.items()])


def count(rows: pl.DataFrame, duplicates: pl.Expr | pl.Series, corrections: pl.Expr | pl.Series) -> pl.DataFrame:
    """Sum two marks per series, session: `series, session, duplicates, corrections` (Int64); zero sums stay."""
    marked = rows.select("series", "session", duplicates.alias("duplicates"), corrections.alias("corrections"))
    return marked.group_by("series", "session").agg(pl.col("duplicates", "corrections").sum().cast(pl.Int64))


@cache
def no_counts() -> pl.DataFrame:
    """Empty frame of `series, session, duplicates, corrections`, cached."""
    return pl.DataFrame(
        schema={"series": pl.Int32, "session": pl.Date, "duplicates": pl.Int64, "corrections": pl.Int64}
    )


def sum_counts(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sum counts per (series, session) over frames, without those where both are 0; sorted; typed if empty."""
    counted = [frame for frame in frames if frame.height]
    if not counted:
        return no_counts()
    summed = counted[0] if len(counted) == 1 else pl.concat(counted).group_by("series", "session").sum()
    return summed.filter((pl.col("duplicates") > 0) | (pl.col("corrections") > 0)).sort("series", "session")
