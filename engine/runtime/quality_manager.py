"""Gaps and quality of a store: found by the kernels, stored beside the rows they speak of."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.derive.bars import PRESENCE, judged_at
from engine.grid import SessionGrid
from engine.interval import Interval
from engine.quality.gaps import expected, find_gaps, runs
from engine.quality.score import period_coverage, score, slot_coverage, tally
from engine.runtime.processor import Cohort, base_rows, cohorts
from engine.schema import Kind
from engine.snapshot import PanelKey, Snapshot
from engine.store import DateRange, SessionData, spans

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
    snapshot = session.snapshot()
    for cohort in cohorts(snapshot):
        if cohort.key.spec not in snapshot.axes:
            continue
        rows = base_rows(snapshot, cohort)
        alive = lifetimes(snapshot, cohort, rows, dates)
        if alive.height:
            _assess(session, snapshot, cohort, rows, alive, presence)


def lifetimes(snapshot: Snapshot, cohort: Cohort, rows: pl.DataFrame, dates: DateRange) -> pl.DataFrame:
    """First and last session of each series that has base bars: its symbol's, whatever kind its rows are of.

    Rows that were left out because of their date count too: a symbol that traded before and after the dates that were
    asked for lived through them, also where it has no row in them. Rows outside the chosen segments do not stretch a
    lifetime (a last quote stamped 20:00 lies in the next session's overnight segment), unless a symbol has no others.

    Returns
    -------
    DataFrame of `series` (Int32), `first`, `last` (Date), sorted by series
    """
    spec = cohort.key.spec
    raw = [PanelKey(kind, None, "source", spec) for kind in RAW_KINDS]
    reach = [_span(snapshot, cohort.key, rows), *(_span(snapshot, key, snapshot.rows_of(key)) for key in raw)]
    reach += [snapshot.left_out[key].lazy() for key in (cohort.key, *raw) if key in snapshot.left_out]
    by_symbol = (
        pl.concat(reach).collect().join(snapshot.series, on="series").group_by("symbol")
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
    theirs = snapshot.series.filter(pl.col("symbol").is_in(cohort.symbols))
    of_bars = [
        rows["series"],
        *(snapshot.left_out[key]["series"] for key in _keys_of_bars(cohort) if key in snapshot.left_out),
    ]
    ours = theirs.filter(pl.col("series").is_in(pl.concat(of_bars).unique().implode()))
    return (
        ours.join(by_symbol, on="symbol").join(known, on="symbol")
        .select("series", first.alias("first"), last.alias("last")).sort("series")
    )  # fmt: skip


def _keys_of_bars(cohort: Cohort) -> tuple[PanelKey, ...]:
    # Trades have the number of the bars that are made of them; quotes one of their own.
    trades = PanelKey("ticks", None, "source", cohort.key.spec)
    return (cohort.key, trades) if cohort.key.origin == "derived" else (cohort.key,)


def _span(snapshot: Snapshot, key: PanelKey, rows: pl.DataFrame) -> pl.LazyFrame:
    chosen = snapshot.grid(key.spec, key.interval or PRESENCE).due()["ordinal"].implode()
    return rows.lazy().group_by("series").agg(spans(pl.col("ordinal").is_in(chosen)))


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
    synthetic = rows["provenance"] == "synthetic"
    placed = rows.filter(~synthetic) if synthetic.any() else rows
    placed = placed.select("series", "ordinal", "slot")
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
        _assess_derived(session, snapshot, cohort, interval, grid.at(judge), judged[judge], alive)


def _assess_derived(
    session: SessionData, snapshot: Snapshot, cohort: Cohort, interval: Interval, judge: SessionGrid,
    judged: tuple[pl.DataFrame, pl.DataFrame], alive: pl.DataFrame,
) -> None:  # fmt: skip
    grid = snapshot.grid(cohort.key.spec, interval)
    key = PanelKey("bars", interval, "derived", cohort.key.spec)
    bars = snapshot.rows_of(key, None).select("series", "ordinal", "slot", "n_base")
    bars = bars if (bars["n_base"] > 0).all() else bars.filter(pl.col("n_base") > 0)  # not of synthetic rows alone
    wanted = expected(alive, grid, snapshot.as_of)
    gaps = find_gaps(wanted, runs(bars), grid)
    if interval.is_intraday:
        coverage = slot_coverage(*judged)
    else:
        slots = grid.slots_in(wanted.select("ordinal", pl.lit(0, pl.Int32).alias("slot")), judge)
        coverage = period_coverage(wanted, slots, bars.select("series", "ordinal", "n_base"))
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
