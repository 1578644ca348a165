"""The revision of the target that a row carries: the first one that had the row as it is now.

A store counts its own revisions, a target counts exports. Along the exports of one store the one follows from the
other: a row that the store wrote at its revision 7 entered with the first export of revision 7 or later, a bar with
the first after its window was over. With another store everything is new, and so it is with one that went back: what it
had corrected since is there again as it was, and only a later revision can say so.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.export.tables import KEYS
from engine.schema import TS

END_OF_TIME = np.iinfo(np.int64).max


@dataclass(frozen=True)
class RevisionChain:
    """The exports of one store to one target since its revision last went back; the one being made comes last.

    Attributes
    ----------
    revisions : array of int64
        Of the target.
    store_revisions : array of int64
        Ascending.
    as_of : array of int64
        In microseconds since 1970, the lowest of this export and later ones, so ascending; an export without one holds
        every window.
    """

    revisions: NDArray[np.int64]
    store_revisions: NDArray[np.int64]
    as_of: NDArray[np.int64]

    @classmethod
    def of(
        cls, exports: pl.DataFrame, revision: int, store_id: str, store_revision: int, as_of: dt.datetime | None
    ) -> RevisionChain:
        """Chain of this store's exports since another store's or since its revision went back, plus the new one."""
        ours = exports.filter((pl.col("store_id") != store_id).cum_sum(reverse=True) == 0)
        schema = {"revision": pl.Int64(), "store_revision": pl.Int64(), "as_of": TS}
        now = pl.DataFrame([(revision, store_revision, as_of)], schema=schema, orient="row")
        whole = pl.concat([ours.select(now.columns), now])
        went_back = (pl.col("store_revision") < pl.col("store_revision").shift()).fill_null(value=False)
        whole = whole.filter(went_back.cum_sum() == went_back.sum())
        as_of_us = whole["as_of"].to_physical().fill_null(END_OF_TIME).to_numpy()
        lowest_from_here: NDArray[np.int64] = np.minimum.accumulate(as_of_us[::-1])[::-1]
        return cls(whole["revision"].to_numpy(), whole["store_revision"].to_numpy(), lowest_from_here)

    @property
    def revision(self) -> int:
        """The target revision that is being made: the last of the chain."""
        return int(self.revisions[-1])

    @property
    def continues(self) -> bool:
        """Whether the last revision of the target is of this store, and not of a later state: its rows may stay."""
        return len(self.revisions) > 1

    def with_target_revision(self, name: str, rows: pl.DataFrame, former: pl.LazyFrame | None) -> pl.DataFrame:
        """Replace each store `revision` by the target's first with that row; if any is null, comparing with `former`.

        Parameters
        ----------
        name : str
            Of the table.
        rows : DataFrame
            As `tables.conform_table` gives them. Where one has no `revision`, all are compared with the former ones.
        former : LazyFrame, optional
            The table's rows in the last revision; not read when it is not needed.
        """
        if not self.continues or former is None:
            return rows.with_columns(pl.lit(self.revision, pl.Int64).alias("revision"))
        if rows["revision"].null_count():
            return keep_known_revisions(name, rows, former.collect(), self.revision)
        index = np.searchsorted(self.store_revisions, rows["revision"].to_numpy())
        if name == "bars":
            index = np.maximum(index, np.searchsorted(self.as_of, rows["ts_end"].to_physical().fill_null(0).to_numpy()))
        entered = self.revisions[np.minimum(index, len(self.revisions) - 1)]
        return rows.with_columns(pl.Series("revision", entered))


def keep_known_revisions(name: str, rows: pl.DataFrame, former: pl.DataFrame, revision: int) -> pl.DataFrame:
    """Rows with the revision of the former row of equal key and values; `revision` for new or changed rows."""
    rows = rows.cast({pl.Enum: pl.String})
    key = [*KEYS[name], "turn"]
    values = [column for column in rows.columns if column not in key and column != "revision"]
    old = {column: f"{column}:old" for column in (*values, "revision")}
    known = with_turns(name, former.sort("revision")).rename(old).with_columns(pl.lit(value=True).alias("known"))
    joined = with_turns(name, rows.drop("revision")).join(
        known, on=key, how="left", nulls_equal=True, maintain_order="left"
    )
    is_same = pl.all_horizontal(
        pl.col("known"), *(pl.col(column).eq_missing(pl.col(f"{column}:old")) for column in values)
    )
    kept = pl.when(is_same.fill_null(value=False)).then("revision:old").otherwise(revision)
    return joined.with_columns(kept.cast(pl.Int64).alias("revision")).select(rows.columns)


def with_turns(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with a column `turn`: 0, but for rejects the running number among rows of equal key (0, 1, ...)."""
    key = list(KEYS[name])
    turn = pl.int_range(pl.len()).over(key) if name == "rejects" else pl.lit(0, pl.Int64)
    return rows.with_columns(turn.alias("turn"))
