"""Gaps and quality of a store: found by the kernels, stored beside the rows they speak of."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.derive.bars import PRESENCE, judged_at
from engine.grid import SessionGrid
from engine.interval import Interval
from engine.quality.gaps import expected, find_gaps, runs
from engine.quality.score import score, slot_coverage, tally
from engine.runtime.processor import Cohort, base_rows, cohorts
from engine.schema import Kind
from engine.snapshot import PanelKey, Snapshot
from engine.store import DateRange, SessionData

RAW_KINDS: tuple[Kind, ...] = ("ticks", "quotes")


def assess_session(session: SessionData, dates: DateRange = (None, None), *, presence: Interval = PRESENCE) -> None:
    """Find and store gaps and quality of every series, at its base and each derived interval.

    Parameters
    ----------
    session : SessionData
        Slots are due up to its `as_of`.
    dates : (date or None, date or None)
        First and last trade date to judge, both included; each symbol is judged within its lifetime.
    presence : Interval
        Where a base is finer than this, the slot coverage of derived intervals counts slots of this length.
    """
    for cohort in cohorts(session.snapshot()):
        snapshot = session.snapshot()
        rows = base_rows(snapshot, cohort)
        if rows.height:
            _assess(session, snapshot, cohort, rows, lifetimes(snapshot, cohort, rows, dates), presence)


def lifetimes(snapshot: Snapshot, cohort: Cohort, rows: pl.DataFrame, dates: DateRange) -> pl.DataFrame:
    """First and last session of each series that has base bars: its symbol's, whatever kind its rows are of.

    Rows outside the chosen segments do not stretch a lifetime (a last quote stamped 20:00 lies in the next session's
    overnight segment), unless a symbol has no others.

    Returns
    -------
    DataFrame of `series` (Int32), `first`, `last` (Date), sorted by series
    """
    spec = cohort.key.spec
    seen = [rows, *(snapshot.rows_of(PanelKey(kind, None, "source", spec)) for kind in RAW_KINDS)]
    chosen = snapshot.grid(spec, PRESENCE).due()["ordinal"].implode()
    spans = [_span(one.lazy(), chosen) for one in seen]
    by_symbol = (
        pl.concat(spans).collect().join(snapshot.series, on="series").group_by("symbol")
        .agg(pl.coalesce(pl.col("first").min(), pl.col("any_first").min()).alias("first"),
             pl.coalesce(pl.col("last").max(), pl.col("any_last").max()).alias("last"))
    )  # fmt: skip
    known = pl.DataFrame(
        [(s, snapshot.symbols[s].first_session, snapshot.symbols[s].last_session) for s in cohort.symbols],
        schema={"symbol": pl.String, "given_first": pl.Date, "given_last": pl.Date},
        orient="row",
    )
    first = pl.max_horizontal(pl.coalesce("given_first", "first"), pl.lit(dates[0], pl.Date))
    last = pl.min_horizontal(pl.coalesce("given_last", "last"), pl.lit(dates[1], pl.Date))
    ours = snapshot.series.filter(pl.col("series").is_in(rows["series"].unique().implode()))
    return (
        ours.join(by_symbol, on="symbol").join(known, on="symbol")
        .select("series", first.alias("first"), last.alias("last")).sort("series")
    )  # fmt: skip


def _span(rows: pl.LazyFrame, chosen: pl.Series) -> pl.LazyFrame:
    session, inside = pl.col("session"), pl.col("ordinal").is_in(chosen)
    return rows.group_by("series").agg(
        session.filter(inside).min().alias("first"), session.filter(inside).max().alias("last"),
        session.min().alias("any_first"), session.max().alias("any_last"),
    )  # fmt: skip


def _assess(
    session: SessionData,
    snapshot: Snapshot,
    cohort: Cohort,
    rows: pl.DataFrame,
    alive: pl.DataFrame,
    presence: Interval,
) -> None:
    base = cohort.key.interval or PRESENCE
    grid = snapshot.grid(cohort.key.spec, base)
    placed = rows.select("series", "ordinal", "slot")
    placed = placed.filter(pl.col("slot").is_not_null()) if placed["slot"].null_count() else placed
    wanted = expected(alive, grid, snapshot.as_of)
    gaps = find_gaps(wanted, runs(placed), grid)
    counts = tally(rows, grid.due()["ordinal"]).join(
        _door_counts(snapshot, cohort), on=["series", "session"], how="full", coalesce=True
    )  # fmt: skip
    scope = alive.select("series")
    _store(session, cohort.key, gaps, score(wanted, gaps, counts), scope)
    judged = {base: (wanted, gaps)}
    for interval in cohort.intervals:
        judge = judged_at(base, interval, presence)
        if judge not in judged:
            judged[judge] = _gaps_at(snapshot, placed, grid, grid.at(judge), alive)
        _assess_derived(session, cohort, interval, grid.at(judge), judged[judge], alive)


def _assess_derived(
    session: SessionData, cohort: Cohort, interval: Interval, judge: SessionGrid,
    judged: tuple[pl.DataFrame, pl.DataFrame], alive: pl.DataFrame,
) -> None:  # fmt: skip
    snapshot = session.snapshot()
    grid = snapshot.grid(cohort.key.spec, interval)
    key = PanelKey("bars", interval, "derived", cohort.key.spec)
    bars = snapshot.rows_of(key, None).select("series", "ordinal", "slot")
    wanted = expected(alive, grid, snapshot.as_of)
    gaps = find_gaps(wanted, runs(bars), grid)
    slots, lost = judged
    if not interval.is_intraday:
        daily = judge.daily_ordinals().implode()
        slots, lost = slots.filter(pl.col("ordinal").is_in(daily)), lost.filter(pl.col("ordinal").is_in(daily))
    sessions = slots.select("session").unique()
    coverage = slot_coverage(slots, lost, sessions.with_columns(grid.labels(sessions["session"])))
    none = pl.DataFrame(schema={"series": pl.Int32, "session": pl.Date})
    _store(session, key, gaps, score(wanted, gaps, none, coverage), alive.select("series"))


def _gaps_at(
    snapshot: Snapshot, placed: pl.DataFrame, grid: SessionGrid, coarser: SessionGrid, alive: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Expectation and gaps of a coarser interval in which one base row makes a slot present."""
    windows = placed.select("series").with_columns(grid.windows(placed, coarser))
    key = windows.select(pl.struct("series", "ordinal", "slot").rle_id())["series"].to_numpy()
    first = np.flatnonzero(np.diff(key, prepend=-1))
    wanted = expected(alive, coarser, snapshot.as_of)
    return wanted, find_gaps(wanted, runs(windows[first]), coarser)


def _door_counts(snapshot: Snapshot, cohort: Cohort) -> pl.DataFrame:
    none = pl.DataFrame(
        schema={"series": pl.Int32, "session": pl.Date, "duplicates": pl.Int64, "corrections": pl.Int64}
    )
    return snapshot.counts.get(cohort.key, none).filter(pl.col("series").is_in(snapshot.series_of(cohort.symbols)))


def _store(session: SessionData, key: PanelKey, gaps: pl.DataFrame, quality: pl.DataFrame, scope: pl.DataFrame) -> None:
    """Replace what is stored for these series, and leave other cohorts of the panel alone."""
    snapshot = session.snapshot()
    held = [frames[key] for frames in (snapshot.gap_rows, snapshot.quality_rows) if key in frames]
    sessions = pl.concat([one.select("series", "session") for one in (gaps, quality, *held)]).unique()
    mine = sessions.join(scope, on="series", how="semi")
    session.set_gaps(key, gaps, mine)
    session.set_quality(key, quality, mine)
