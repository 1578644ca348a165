"""Insertion of placed rows into a panel, with all that follows from it: counts, ranges and changes. Pure.

1. `insert_rows` upserts the rows into their panel and gives the fields of the state that change.
2. Duplicates, corrections and, for base bars, anomalies are counted per session (`count_upsert`).
3. The range of sessions that each series was observed in is extended (`extend_observed_range`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import polars as pl

from engine.schema import TS
from engine.store.anomalies import count_anomalies
from engine.store.batch_rows import DateRange
from engine.store.change_log import change_entry
from engine.store.deduplication import sum_counts
from engine.store.panel import KEY, TICK_KEY, Panel, Upsert, empty_panel
from engine.store.panel_key import PanelKey
from engine.store.panel_state import PanelState


class Insertion(NamedTuple):
    """Result of an insertion: the upsert, the fields of the state that change, and the entry of the change log (None: none)."""

    upsert: Upsert
    fields: dict[str, object]
    entry: pl.DataFrame | None


def insert_rows(
    state: PanelState, key: PanelKey, rows: pl.DataFrame, revision: int, *, is_base: bool, again: bool = False
) -> Insertion:
    """Upsert placed rows with their counts and log entries, mutating nothing; `is_base`: anomalies, session ranges, too.

    Parameters
    ----------
    state : PanelState
    key : PanelKey
    rows : DataFrame
        Columns of the panel and `batch`, without `revision`.
    revision : int
        That of this write.
    is_base : bool
        Whether the rows are of a source, or derived bars that a symbol has as its base.
    again : bool
        The rows were asked for by us, so that those which are there already are no duplicates of the feed.
    """
    panel: Panel = state.panels.get(key) or empty_panel(
        key.schema, TICK_KEY if "seq" in key.schema else KEY, key.compared_columns
    )
    upsert = panel.upsert(rows.with_columns(pl.lit(revision, pl.Int64).alias("revision")))
    if again:
        none = pl.lit(0, pl.Int64).alias("duplicates")
        upsert = replace(upsert, counts=sum_counts([upsert.counts.with_columns(none)]))
    fields: dict[str, object] = {"panels": {**state.panels, key: upsert.panel}}
    counts = count_upsert(state, key, upsert, is_base=is_base)
    if counts.height:
        total = pl.concat([state.counts[key], counts], how="diagonal") if key in state.counts else counts
        fields["counts"] = {**state.counts, key: total.group_by("series", "session", maintain_order=True).sum()}
    entries = []
    if upsert.written.height:
        changed = upsert.written.select(
            "series", "session", pl.col("ts").alias("first_ts"), pl.col("ts").alias("last_ts")
        )
        entries.append(change_entry(key, key.kind, changed, revision))
        if is_base:
            fields |= extend_observed_range(state, key, upsert.written)
    if key.origin == "source" and upsert.counts.height:  # also where every row is a duplicate
        no_ts = pl.lit(None, TS)
        entries.append(change_entry(key, "counts", upsert.counts.with_columns(first_ts=no_ts, last_ts=no_ts), revision))
    return Insertion(upsert, fields, pl.concat(entries) if entries else None)


def count_upsert(state: PanelState, key: PanelKey, upsert: Upsert, *, is_base: bool) -> pl.DataFrame:
    """Counts to add per series and session: duplicates, corrections (of sources); `is_base`: change of anomalies, too."""
    # Deriving again repeats bars, the feed did not.
    counts = upsert.counts if key.origin == "source" else upsert.counts.clear()
    if key.kind != "bars" or not is_base:
        return counts
    chosen = state.grid(key.spec, key.grid_interval).due()["ordinal"]
    added, removed = count_anomalies(upsert.written, chosen), count_anomalies(upsert.replaced, chosen)
    removed = removed.select("series", "session", -pl.col(removed.columns[2:]))
    both = pl.concat([counts, added, removed], how="diagonal")
    return both.group_by("series", "session", maintain_order=True).sum() if both.height else counts


def extend_observed_range(state: PanelState, key: PanelKey, written: pl.DataFrame) -> dict[str, object]:
    """`{'observed_range': ...}`: each series' first and last session widened by written rows; `{}` if none is widened.

    The same object then tells a consumer that what it computed from the ranges is still right.
    """
    chosen = state.grid(key.spec, key.grid_interval).due()["ordinal"].implode()
    is_chosen = pl.col("ordinal").is_in(chosen).fill_null(value=False)
    stored, rows = state.observed_range.get(key), written[["series", "session", "ordinal"]]
    if stored is not None:
        joined = rows.join(stored, on="series", how="left")
        within = pl.col("session").is_between("any_first", "any_last")
        within &= ~is_chosen | pl.col("session").is_between("first", "last")
        if joined.select(within.fill_null(value=False).all()).item():
            return {}
    ranges = rows.unique().group_by("series").agg(session_ranges(is_chosen))
    return {
        "observed_range": {**state.observed_range, key: ranges if stored is None else merge_ranges([stored, ranges])}
    }


def extend_excluded_range(
    state: PanelState, key: PanelKey, placed: pl.DataFrame, dates: DateRange
) -> dict[str, object]:
    """`{'excluded_range': ...}`: stored session ranges widened by all of `placed`, in `dates` or not; bounds clipped to `dates`.

    Rows outside the dates, too, tell which of the requested dates a series lived through.
    """
    ranges = placed.group_by("series").agg(session_ranges(pl.col("slot").is_not_null()))
    ranges = ranges.with_columns(
        pl.col("first", "any_first").clip(dates[0]), pl.col("last", "any_last").clip(None, dates[1])
    )
    stored = state.excluded_range.get(key, ranges.clear())
    return {"excluded_range": {**state.excluded_range, key: merge_ranges([stored, ranges])}}


def session_ranges(is_chosen: pl.Expr) -> list[pl.Expr]:
    """Aggregations of `session`: min, max where `is_chosen` (`first, last`) and of all (`any_first, any_last`)."""
    session = pl.col("session")
    return [
        session.filter(is_chosen).min().alias("first"),
        session.filter(is_chosen).max().alias("last"),
        session.min().alias("any_first"),
        session.max().alias("any_last"),
    ]


def merge_ranges(ranges: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row per series over all frames: min of `first, any_first`, max of `last, any_last`; first seen first."""
    ends = [pl.col("first", "any_first").min(), pl.col("last", "any_last").max()]
    return pl.concat(ranges).group_by("series", maintain_order=True).agg(ends).select(ranges[0].columns)
