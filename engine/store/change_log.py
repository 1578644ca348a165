"""The change log: which sessions of which series were written at which revision. Immutable; pure functions.

Recent entries are exact. Older ones are coalesced to one row per series, kind, interval and session, and of those the
oldest are forgotten: a cursor behind `ChangeLog.start_revision` has to read everything anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import CursorExpiredError
from engine.keys import pack_pair
from engine.schema import TS, empty
from engine.store.panel import append_size_tiered
from engine.store.panel_key import PanelKey

LOG_ROWS = 2_000_000  # coalesced rows beyond this are forgotten, the oldest first
RECENT_LOG_ROWS = 1 << 18  # at least so many entries stay exact: a few minutes of a whole market

CHANGE_LOG = {
    "series": pl.Int32(),
    "kind": pl.String(),
    "interval": pl.String(),
    "session": pl.Date(),
    "first_ts": TS,
    "last_ts": TS,
    "revision": pl.Int64(),
}


@dataclass(frozen=True, eq=False)
class ChangeLog:
    """Changes of a store up to one revision.

    Attributes
    ----------
    entries : tuple of DataFrame of `CHANGE_LOG`
        Each ascending by revision. The first is the coalesced past, the others are recent and exact.
    start_revision : int
        Changes up to this revision were forgotten.
    removals : tuple of (symbol, revision)
        Removed symbols, each with the revision of its last removal.
    """

    entries: tuple[pl.DataFrame, ...] = ()
    start_revision: int = 0
    removals: tuple[tuple[str, int], ...] = ()

    def with_entry(self, entry: pl.DataFrame) -> ChangeLog:
        """New log with an entry; past 2**18 exact rows coalesces the older half, past 2M the oldest go and `start_revision` rises."""
        past, *recent = self.entries or (entry.clear(),)
        recent = list(append_size_tiered(recent, entry))
        rows = sum(part.height for part in recent)
        if rows <= max(RECENT_LOG_ROWS, past.height):
            return replace(self, entries=(past, *recent))
        # By half, so that a consumer that follows closely still gets exact entries, and few writes pay for this.
        whole = pl.concat(recent)
        border = whole["revision"][rows // 2]
        old = whole["revision"] < border
        old = old if old.any() else whole["revision"] == border
        past, exact = coalesce_changes(pl.concat([past, whole.filter(old)])).sort("revision"), whole.filter(~old)
        if past.height <= LOG_ROWS:
            return replace(self, entries=(past, exact))
        start = int(past["revision"][past.height - LOG_ROWS // 2 - 1])
        return replace(self, entries=(past.filter(pl.col("revision") > start), exact), start_revision=start)

    def with_removal(self, symbol: str, revision: int) -> ChangeLog:
        """New log with (symbol, revision) in `removals`, replacing that symbol's earlier removal; entries stay."""
        others = (one for one in self.removals if one[0] != symbol)
        return replace(self, removals=(*others, (symbol, revision)))

    def since(self, revision: int, kinds: Sequence[str] | None = None) -> pl.DataFrame:
        """Changes after `revision`, of these kinds or all, one row per series, kind, interval, session; CursorExpiredError if forgotten.

        Parameters
        ----------
        revision : int
            For an old one, `first_ts` and `last_ts` may include what was changed before it.
        kinds : sequence of str, optional
            Only changes of these kinds.

        Raises
        ------
        CursorExpiredError
            `revision` is older than the log.
        """
        if revision < self.start_revision:
            raise CursorExpiredError(
                f"since: revision {revision} is older than the change log, which begins at {self.start_revision}; "
                "full read required"
            )
        later = [
            part.slice(int(np.searchsorted(part["revision"].to_numpy(), revision, side="right")))
            for part in self.entries
            if part.height and part["revision"][-1] > revision
        ]
        chosen = [part if kinds is None else part.filter(pl.col("kind").is_in(kinds)) for part in later]
        return coalesce_changes(pl.concat([empty(CHANGE_LOG), *chosen]))


def change_entry(key: PanelKey, kind: str, changed: pl.DataFrame, revision: int) -> pl.DataFrame:
    """Log rows (`CHANGE_LOG`) of `changed` at a revision, coalesced per series and session to min `first_ts` and max `last_ts`."""
    values = {
        "kind": pl.lit(kind),
        "interval": pl.lit(None if key.interval is None else str(key.interval), pl.String),
        "first_ts": pl.col("first_ts").cast(TS),
        "last_ts": pl.col("last_ts").cast(TS),
        "revision": pl.lit(revision, pl.Int64),
    }
    entry = changed.select(values.get(name, pl.col(name)).alias(name) for name in CHANGE_LOG)
    return coalesce_changes(entry, same_kind=True)


def coalesce_changes(log: pl.DataFrame, *, same_kind: bool = False) -> pl.DataFrame:
    """Merge log rows per series, kind, interval, session: min `first_ts`, max `last_ts`, `revision`; in no order.

    The result is in no order. `same_kind` says that all rows have one kind and interval. On packed numbers: grouping by
    the four columns would cost four times as much, in what a store does most often.
    """
    kind_codes = np.zeros(log.height, np.int64) if same_kind else _kind_codes(log)
    days = log["session"].cast(pl.Int32).cast(pl.Int64).fill_null(np.iinfo(np.int32).min).to_numpy()
    places = pack_pair(log["series"].to_numpy(), days)
    order = np.argsort(places, kind="stable") if same_kind else np.lexsort((places, kind_codes))
    sorted_codes, sorted_places = kind_codes[order], places[order]
    differs = (sorted_codes[1:] != sorted_codes[:-1]) | (sorted_places[1:] != sorted_places[:-1])
    if differs.all():
        return log
    begins = np.flatnonzero(np.append(True, differs))
    extremes = [
        _reduce_runs(log[name], order, begins, by)
        for name, by in (("first_ts", np.minimum), ("last_ts", np.maximum), ("revision", np.maximum))
    ]
    return log[order[begins]].with_columns(extremes)


def _kind_codes(log: pl.DataFrame) -> NDArray[np.int64]:
    """A number per log entry, equal for entries of equal (kind, interval)."""
    # Rows of one write stand together, so only the first of each run is looked up.
    columns = ["kind", "interval"]
    changes = log.select(pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in columns))
    begins = np.flatnonzero(changes.to_series().to_numpy())
    runs = log[begins][columns]
    numbered = runs.unique(maintain_order=True).with_row_index("code")
    codes = runs.join(numbered, on=columns, how="left", nulls_equal=True, maintain_order="left")["code"].to_numpy()
    return np.repeat(codes.astype(np.int64), np.diff(np.append(begins, log.height)))


def _reduce_runs(values: pl.Series, order: NDArray[np.int64], begins: NDArray[np.int64], by: np.ufunc) -> pl.Series:
    """Minimum or maximum (`by`) of each run of values in `order`; nulls are ignored, a run of nulls gives null."""
    # Nulls are ignored; a run of nulls alone gives null.
    if values.null_count() == len(values):
        return values.head(len(begins))
    numbers, none = values.cast(pl.Int64), np.iinfo(np.int64).max if by is np.minimum else np.iinfo(np.int64).min
    if not values.null_count():
        return pl.Series(values.name, by.reduceat(numbers.to_numpy()[order], begins)).cast(values.dtype)
    reduced = pl.Series(values.name, by.reduceat(numbers.fill_null(none).to_numpy()[order], begins))
    return reduced.replace(none, None).cast(values.dtype)
