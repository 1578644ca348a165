"""Removal of derived bars whose rows are gone: a correction of a quote can take away the only price of a slot. Pure.

A removed bar leaves a row in `removed_bars` (its key, and the revision that removed it), so that consumers that follow
revisions, as exports do, learn what is there no more.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from engine.schema import TS, empty
from engine.store.change_log import change_entry
from engine.store.deduplication import no_counts
from engine.store.insertion import count_upsert, session_ranges
from engine.store.panel import Panel, Upsert
from engine.store.panel_key import PanelKey
from engine.store.panel_state import PanelState

REMOVED_BARS = {"series": pl.Int32(), "session": pl.Date(), "ts": TS, "revision": pl.Int64()}
BOUNDS = ("first", "last", "any_first", "any_last")


class Removal(NamedTuple):
    """Result of a removal: the fields of the state that change, and the entry of the change log."""

    fields: dict[str, object]
    entry: pl.DataFrame


def absent_bars(state: PanelState, key: PanelKey, bars: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """Stored rows of a panel in inclusive ranges (`series, first, last`, sorted) whose (series, ts) `bars` does not have."""
    if key not in state.panels or ranges.is_empty():
        return state.no_rows_of(key)
    stored = state.panels[key].between(ranges)
    return stored.join(bars, on=["series", "ts"], how="anti", maintain_order="left")


def remove_rows(
    state: PanelState, key: PanelKey, gone: pl.DataFrame, revision: int, *, is_base: bool, since: int
) -> Removal:
    """Remove stored rows from their panel with counts, observed range and log entry; mutate nothing.

    Parameters
    ----------
    state : PanelState
    key : PanelKey
    gone : DataFrame
        At least one row of the panel, as stored.
    revision : int
        That of this write.
    is_base : bool
        Whether a symbol has these bars as its base.
    since : int
        Consumers ask for changes after this revision only: earlier removals are forgotten.
    """
    panel = state.panels[key].without_keys(gone)
    fields: dict[str, object] = {"panels": {**state.panels, key: panel}}
    removed = gone.select("series", "session", "ts", pl.lit(revision, pl.Int64).alias("revision"))
    known = state.removed_bars.get(key, empty(REMOVED_BARS)).filter(pl.col("revision") > since)
    fields["removed_bars"] = {**state.removed_bars, key: pl.concat([known, removed])}
    if is_base:
        counts = count_upsert(state, key, Upsert(panel, gone.clear(), no_counts(), gone.clear(), gone), is_base=True)
        total = pl.concat([state.counts[key], counts], how="diagonal") if key in state.counts else counts
        fields["counts"] = {**state.counts, key: total.group_by("series", "session", maintain_order=True).sum()}
        fields |= shrink_observed_range(state, key, panel, gone)
    changed = gone.select("series", "session", pl.col("ts").alias("first_ts"), pl.col("ts").alias("last_ts"))
    return Removal(fields, change_entry(key, key.kind, changed, revision))


def shrink_observed_range(state: PanelState, key: PanelKey, panel: Panel, gone: pl.DataFrame) -> dict[str, object]:
    """`{'observed_range': ...}` without the bounds at sessions that lost their last row; `{}` if no bound moves.

    Bounds at sessions that the store does not hold stay. A series without any bound is left out.
    """
    stored = state.observed_range.get(key)
    if stored is None:
        return {}
    series = gone["series"].unique().to_list()
    left = panel.of_series(series)
    lost = gone.select("series", "session").unique().join(left, on=["series", "session"], how="anti")
    ours = stored.filter(pl.col("series").is_in(lost["series"].implode()))
    chosen = state.grid(key.spec, key.grid_interval).due()["ordinal"].implode()
    found = left.group_by("series").agg(session_ranges(pl.col("ordinal").is_in(chosen).fill_null(value=False)))
    dates = lost.group_by("series").agg("session")
    both = ours.join(dates, on="series").join(found, on="series", how="left", suffix=":left")
    kept = {name: pl.when(~pl.col(name).is_in(pl.col("session"))).then(name) for name in BOUNDS}
    other = {"first": "last", "last": "first", "any_first": "any_last", "any_last": "any_first"}
    moved = both.select(
        "series", *(pl.coalesce(kept[name], f"{name}:left", kept[other[name]]).alias(name) for name in BOUNDS)
    ).filter(pl.col("any_first").is_not_null())
    if moved.equals(ours):
        return {}
    others = stored.filter(~pl.col("series").is_in(ours["series"].implode()))
    return {"observed_range": {**state.observed_range, key: pl.concat([others, moved])}}
