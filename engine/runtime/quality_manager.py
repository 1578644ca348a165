"""Gaps and quality of a store: computed by the kernels, stored beside the rows they describe.

1. `DataQualityManager.step` collects what was touched, what has become due, and whose lifetime has changed
   (`find_dirty_sessions`), and has the assessor of each interval of each cohort assess just that (`assessment`).
2. Symbols that are new are assessed in their whole lifetime (`_assess_lifetimes`).
3. `step` may be throttled: within `every` of the last one nothing is done, unless it is forced.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import polars as pl

from engine.derive.bars import PRESENCE, completeness_interval
from engine.grid import SessionGrid
from engine.interval import Interval
from engine.plan_calls import PlanNames
from engine.quality.gaps import GAPS
from engine.quality.score import QUALITY, quality_score
from engine.runtime.assessment import (
    SERIES_SESSION,
    DirtySessions,
    Expectation,
    IntervalAssessor,
    StoredOutcome,
    inherit_retries,
)
from engine.runtime.processor import RAW_KINDS, Cohort, CohortCache, symbols_registered_since
from engine.store.batch_rows import DateRange
from engine.store.panel_key import PanelKey
from engine.store.session_data import OUTCOME_ORDER, SessionData
from engine.store.snapshot import Snapshot
from engine.store.versioned_rows import VersionedRows

LIFETIME = {"series": pl.Int32(), "first": pl.Date(), "last": pl.Date()}
NO_OUTCOME = StoredOutcome(
    VersionedRows.empty(GAPS, OUTCOME_ORDER["gaps"]), VersionedRows.empty(QUALITY, OUTCOME_ORDER["quality"])
)
NO_COUNTS = pl.DataFrame(schema={"series": pl.Int32(), "session": pl.Date()})


@dataclass(frozen=True)
class LastStep:
    """State of the store at the last step: revision, as-of time, and lifetimes by cohort."""

    revision: int
    as_of: dt.datetime | None
    alive: Mapping[tuple[object, ...], pl.DataFrame]


class CachedLifetimes(NamedTuple):
    """Lifetimes of a cohort, with the inputs that they were computed from."""

    made_of: tuple[object, ...]
    state: tuple[object, ...]
    alive: pl.DataFrame


PLAN_NAMES = {
    "_calculate_quality": "step(force=True), which stores gaps and quality of what has changed",
    "run": "step(), from the thread that the session runs in",
    "_failed_gaps": "session.gaps(): its columns state, retry_count, last_retry and next_retry",
    "_last_quality_calc": "step(), which is throttled by the argument every",
    "gap_filling_enabled": "SessionConfig.gaps.fill",
}


class DataQualityManager(PlanNames):
    """Updates gaps and quality of a store after each change of its rows. Symbols are read from the store.

    Parameters
    ----------
    session : SessionData
        Slots are due up to its `as_of`.
    dates : (date or None, date or None)
        First and last trade date to assess, both included; each symbol is assessed within its lifetime.
    presence : Interval
        Where a base is finer than this, the slot coverage of derived intervals counts slots of this length.
    every : timedelta
        As-of time between two steps that are not forced.
    """

    _plan_names = PLAN_NAMES

    def __init__(
        self,
        session: SessionData,
        dates: DateRange = (None, None),
        *,
        presence: Interval = PRESENCE,
        every: dt.timedelta = dt.timedelta(0),
    ) -> None:
        self._session = session
        self._dates = dates
        self._presence = presence
        self._every = every
        self._cohorts = CohortCache()
        self._last = LastStep(0, None, {})
        self._lifetimes: dict[tuple[object, ...], CachedLifetimes] = {}
        self._not_stored: dict[PanelKey, StoredOutcome] = {}

    def step(self, *, force: bool = False) -> bool:
        """Update stored gaps and quality of touched rows, slots newly due, changed lifetimes; False if throttled."""
        with self._session.transaction():
            self._session.keep_state(self, "_last", "_not_stored")
            snapshot = self._session.snapshot()
            last, as_of = self._last.as_of, snapshot.as_of
            if not force and last is not None and as_of is not None and last <= as_of < last + self._every:
                return False
            is_earlier = as_of is not None and (last is None or as_of < last)
            whole = None if is_earlier else symbols_registered_since(snapshot, self._last.revision)
            touched = (
                pl.DataFrame() if whole is None else snapshot.series_changes(self._last.revision, ("bars", "counts"))
            )
            alive: dict[tuple[object, ...], pl.DataFrame] = {}
            for cohort in self._cohorts.of(snapshot):
                if cohort.key.spec in snapshot.axes:
                    alive[cohort.kind] = self._lifetimes_of(snapshot, cohort)
                    self._assess_cohort(snapshot, cohort, alive[cohort.kind], whole, touched)
            self._last = LastStep(self._session.revision, snapshot.as_of, alive)
            return True

    def _lifetimes_of(self, snapshot: Snapshot, cohort: Cohort) -> pl.DataFrame:
        """`series, first, last` of a cohort; cached until symbols, row ranges or current session change."""
        made_of = (snapshot.symbols, snapshot.series, snapshot.observed_range, snapshot.excluded_range)
        state = (snapshot.session_active, snapshot.session_date, snapshot.held_from)
        was = self._lifetimes.get(cohort.kind)
        if was and was.state == state and all(map(operator.is_, was.made_of, made_of)):
            return was.alive
        first = max((day for day in (self._dates[0], snapshot.held_from) if day is not None), default=None)
        alive = lifetimes(snapshot, cohort, (first, self._dates[1]))
        self._lifetimes[cohort.kind] = CachedLifetimes(made_of, state, alive)
        return self._lifetimes[cohort.kind].alive

    def _assess_cohort(
        self,
        snapshot: Snapshot,
        cohort: Cohort,
        alive: pl.DataFrame,
        whole: frozenset[str] | None,
        touched: pl.DataFrame,
    ) -> None:
        """Assess new series and `whole` symbols (None: all) over lifetimes, others in dirty sessions; remove ended."""
        before = self._last.alive.get(cohort.kind)
        if before is not None:
            self._remove_outcomes(snapshot, cohort, before.join(alive, on="series", how="anti")["series"])
        if whole is None or before is None:
            self._assess_lifetimes(snapshot, cohort, alive)
            return
        new = alive.join(before, on="series", how="anti", maintain_order="left")
        again = snapshot.series_of(whole & set(cohort.symbols)) if whole else []
        if new.height or again:
            is_whole = pl.col("series").is_in([*new["series"], *again])
            self._assess_lifetimes(snapshot, cohort, alive.filter(is_whole))
            alive, before = alive.filter(~is_whole), before.filter(~is_whole)
        dirty = find_dirty_sessions(snapshot, cohort, alive, before, self._last.as_of, touched)
        if dirty.sessions.height:
            self._assess_sessions(snapshot, cohort, alive, dirty)

    def _assess_lifetimes(self, snapshot: Snapshot, cohort: Cohort, alive: pl.DataFrame) -> None:
        """Recompute and replace gaps (retries inherited) and quality of series over their lifetime."""
        if alive.is_empty():
            return
        ours = alive["series"].to_list()
        counts = snapshot.counts.get(cohort.key, NO_COUNTS).filter(pl.col("series").is_in(ours))
        expectations: dict[Interval, Expectation] = {}
        for interval in assessed_intervals(cohort, self._presence):
            assessor = self._assessor(snapshot, cohort, interval)
            expectations[interval], gaps = assessor.assess_lifetimes(snapshot, alive)
            stored = self._stored_outcome(snapshot, assessor)
            old_gaps, old_quality = (ledger.frame.filter(pl.col("series").is_in(ours)) for ledger in stored)
            self._store("gaps", assessor, inherit_retries(gaps, old_gaps), old_gaps)
            quality = self._score(
                snapshot, cohort, assessor, expectations, counts if assessor.key == cohort.key else None
            )
            self._store("quality", assessor, quality, old_quality)

    def _remove_outcomes(self, snapshot: Snapshot, cohort: Cohort, removed: pl.Series) -> None:
        """Delete stored gaps and quality of `removed` series, if of the cohort's symbols, at every interval."""
        # Rows of their symbols came under other series; series of removed symbols and of other cohorts are not ours.
        removed = removed.filter(removed.is_in(snapshot.series_of(cohort.symbols)))
        if removed.is_empty():
            return
        for interval in assessed_intervals(cohort, self._presence):
            assessor = self._assessor(snapshot, cohort, interval)
            gaps, quality = (
                ledger.frame.filter(pl.col("series").is_in(removed.implode()))
                for ledger in self._stored_outcome(snapshot, assessor)
            )
            self._store("gaps", assessor, gaps.clear().drop("revision"), gaps)
            self._store("quality", assessor, quality.clear().drop("revision"), quality)

    def _assess_sessions(self, snapshot: Snapshot, cohort: Cohort, alive: pl.DataFrame, dirty: DirtySessions) -> None:
        """Recompute and replace stored gaps and quality of dirty sessions only, at every interval of a cohort."""
        counts = snapshot.counts.get(cohort.key, NO_COUNTS).join(dirty.sessions, on=SERIES_SESSION, how="semi")
        expectations: dict[Interval, Expectation] = {}
        for interval in assessed_intervals(cohort, self._presence):
            assessor = self._assessor(snapshot, cohort, interval)
            # An interval without a panel of its own is filled by base rows.
            filled_by = assessor.interval if assessor.base is None else cohort.base
            touched = dirty.touched.filter(pl.col("interval") == str(filled_by)).drop("interval")
            here = dirty._replace(touched=touched)
            stored = self._stored_outcome(snapshot, assessor)
            expectations[interval], removed, added = assessor.assess_sessions(
                snapshot, stored, here, alive, self._last.as_of
            )
            self._store("gaps", assessor, added, removed)
            quality = self._score(
                snapshot, cohort, assessor, expectations, counts if assessor.key == cohort.key else None
            )
            self._store("quality", assessor, quality, stored.quality.of_sessions(assessor.sessions_of(dirty.sessions)))

    def _score(
        self,
        snapshot: Snapshot,
        cohort: Cohort,
        assessor: IntervalAssessor,
        expectations: Mapping[Interval, Expectation],
        counts: pl.DataFrame | None,
    ) -> pl.DataFrame:
        """Quality rows of an interval: with `counts` if given; else, with a panel of its own, with slot coverage."""
        expectation = expectations[assessor.interval]
        if counts is not None:
            return quality_score(expectation.slots, expectation.missing, counts)
        if assessor.base is not None:
            return quality_score(expectation.slots, expectation.missing, NO_COUNTS)
        counted_at = completeness_interval(cohort.base, assessor.interval, self._presence)
        grid = snapshot.grid(cohort.key.spec, counted_at)
        coverage = assessor.coverage(snapshot, expectation.slots, expectations.get(counted_at, expectation), grid)
        return quality_score(expectation.slots, expectation.missing, NO_COUNTS, coverage)

    def _assessor(self, snapshot: Snapshot, cohort: Cohort, interval: Interval) -> IntervalAssessor:
        """Assessor of an interval; one neither base nor derived is filled from the base panel's bars."""
        grid = snapshot.grid(cohort.key.spec, interval)
        is_stored = interval == cohort.base or interval in cohort.intervals
        return IntervalAssessor(cohort.of(interval), grid, None if is_stored else cohort.key)

    def _stored_outcome(self, snapshot: Snapshot, assessor: IntervalAssessor) -> StoredOutcome:
        """Stored gaps and quality of an interval; from memory if it is neither base nor derived."""
        if assessor.base is not None:
            return self._not_stored.get(assessor.key) or NO_OUTCOME
        gaps, quality = snapshot.gap_rows.get(assessor.key), snapshot.quality_rows.get(assessor.key)
        return StoredOutcome(gaps or NO_OUTCOME.gaps, quality or NO_OUTCOME.quality)

    def _store(
        self, what: Literal["gaps", "quality"], assessor: IntervalAssessor, rows: pl.DataFrame, replaced: pl.DataFrame
    ) -> None:
        """Replace `replaced` by `rows` in the store; in memory if the interval is neither base nor derived."""
        if assessor.base is None:
            store = self._session.set_gaps if what == "gaps" else self._session.set_quality
            store(assessor.key, rows, replaced)
            return
        outcome = self._not_stored.get(assessor.key) or NO_OUTCOME
        self._not_stored[assessor.key] = outcome._replace(
            **{what: getattr(outcome, what).edited(replaced, rows, 0).ledger}
        )


def assess_session(session: SessionData, dates: DateRange = (None, None), *, presence: Interval = PRESENCE) -> None:
    """Compute and store gaps and quality of all series within `dates`, at the base and every derived interval."""
    DataQualityManager(session, dates, presence=presence).step(force=True)


def lifetimes(snapshot: Snapshot, cohort: Cohort, dates: DateRange) -> pl.DataFrame:
    """`series, first, last`: registered bounds, else any rows and running session; without bars only if expected.

    Rows that were left out because of their date count too: a symbol that traded before and after the requested dates
    lived through them, also where it has no row in them. Rows outside the chosen segments do not extend a lifetime (a
    last quote stamped 20:00 lies in the next session's overnight segment), unless a symbol has no others. The running
    session belongs to every loaded symbol's lifetime. A symbol that is expected from a session on and has no bar
    lives from there to the last session in which the cohort has one.

    Returns
    -------
    DataFrame of `series` (Int32), `first`, `last` (Date), sorted by series
    """
    keys = [cohort.key, *(cohort.raw(kind) for kind in RAW_KINDS)]
    reach = [known[key] for known in (snapshot.observed_range, snapshot.excluded_range) for key in keys if key in known]
    if not reach:
        return pl.DataFrame(schema=LIFETIME)
    by_symbol = (
        pl.concat(reach)
        .join(snapshot.series, on="series")
        .group_by("symbol")
        .agg(
            pl.coalesce(pl.col("first").min(), pl.col("any_first").min()).alias("first"),
            pl.coalesce(pl.col("last").max(), pl.col("any_last").max()).alias("last"),
        )
    )
    running = snapshot.session_date if snapshot.session_active else None
    registered = [snapshot.symbols[name] for name in cohort.symbols]
    known = pl.DataFrame(
        [
            (one.symbol, one.first_session, one.last_session, one.expected_from, running if one.is_loaded else None)
            for one in registered
        ],
        schema={"symbol": pl.String, **dict.fromkeys(("given_first", "given_last", "expected", "running"), pl.Date)},
        orient="row",
    )
    begin, end = pl.lit(dates[0], pl.Date), pl.lit(dates[1], pl.Date)
    first = pl.max_horizontal(pl.coalesce("given_first", pl.min_horizontal("first", "expected")), begin)
    last = pl.min_horizontal(pl.coalesce("given_last", pl.max_horizontal("last", "running")), end)
    # Trades have the number of the bars that are made of them; quotes one of their own.
    bar_keys = (cohort.key, cohort.raw("ticks")) if cohort.key.origin == "derived" else (cohort.key,)
    bars = [
        ranges[key].select("series", pl.coalesce("last", "any_last").alias("last"))
        for ranges, keys in ((snapshot.observed_range, (cohort.key,)), (snapshot.excluded_range, bar_keys))
        for key in keys
        if key in ranges
    ]
    if not bars:
        return pl.DataFrame(schema=LIFETIME)
    of_bars = pl.concat(bars)
    ours = snapshot.series.filter(pl.col("series").is_in(of_bars["series"].unique().implode()))
    # Symbols that rows are expected of, with the series that those would be of.
    expected = known.join(ours, on="symbol", how="anti").filter(pl.col("expected").is_not_null())
    price_types = [snapshot.symbols[name].price_type for name in expected["symbol"]]
    unseen = expected.with_columns(pl.Series("price_type", price_types, pl.String)).join(
        snapshot.series, on=["symbol", "price_type"]
    )
    until = pl.min_horizontal(pl.lit(of_bars["last"].max(), pl.Date), "given_last", end)
    seen = ours.join(known, on="symbol").join(by_symbol, on="symbol")
    since = pl.max_horizontal(pl.coalesce("given_first", "expected"), begin)
    silent = unseen.select("series", since.alias("first"), until.alias("last")).filter(
        pl.col("first") <= pl.col("last")
    )
    return pl.concat([seen.select("series", first.alias("first"), last.alias("last")), silent]).sort("series")


def assessed_intervals(cohort: Cohort, presence: Interval) -> list[Interval]:
    """Base, derived and completeness-counting intervals (these may be neither), distinct, finest first."""
    judges = {
        completeness_interval(cohort.base, interval, presence) for interval in cohort.intervals if interval.is_intraday
    }
    return sorted({cohort.base, *cohort.intervals, *judges})


def find_dirty_sessions(
    snapshot: Snapshot,
    cohort: Cohort,
    alive: pl.DataFrame,
    before: pl.DataFrame,
    was: dt.datetime | None,
    touched: pl.DataFrame,
) -> DirtySessions:
    """Sessions with touched rows or counts, slots due since `was` (None: none), lifetimes changed; and touched rows.

    Parameters
    ----------
    snapshot : Snapshot
    cohort : Cohort
    alive, before : DataFrame of `series, first, last`
        Lifetimes now, and at the last step.
    was : datetime or None
        As-of time of the last step.
    touched : DataFrame
        From `Snapshot.touched`.
    """
    ours = touched.filter(pl.col("series").is_in(alive["series"].implode()))
    is_assessed = pl.col("interval").is_in([str(interval) for interval in (cohort.base, *cohort.intervals)])
    rows = ours.filter((pl.col("kind") == "bars") & is_assessed)[["series", "session", "first_ts", "interval"]]
    grid = snapshot.grid(cohort.key.spec, cohort.base)
    now, then = grid.due(snapshot.as_of), grid.due(was)
    newly_due = now.filter(now["slots"] != then["slots"])["session"].unique()
    running = alive.join(newly_due.to_frame(), how="cross").filter(pl.col("session").is_between("first", "last"))
    fresh, past = changed_lifetimes(grid, alive, before)
    of_base = pl.col("kind").is_in(["bars", "counts"]) & (pl.col("interval") == str(cohort.base))
    parts = [ours.filter(of_base)[SERIES_SESSION], running[SERIES_SESSION], fresh, past]
    for interval in cohort.intervals:
        if not interval.is_intraday:
            # Later than the base slots of its last session where an auction follows them, or a series has ended before.
            periods = snapshot.grid(cohort.key.spec, interval)
            now, then = periods.due(snapshot.as_of), periods.due(was)
            newly_due_periods = now.filter(now["slots"] != then["slots"]).select("session", "first_session")
            overlaps = (pl.col("first") <= pl.col("session")) & (pl.col("last") >= pl.col("first_session"))
            affected = alive.join(newly_due_periods, how="cross").filter(overlaps)
            parts.append(affected.select("series", pl.min_horizontal("session", "last")))
    return DirtySessions(pl.concat(parts).unique().sort(SERIES_SESSION), rows, fresh)


def changed_lifetimes(
    grid: SessionGrid, alive: pl.DataFrame, before: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(sessions added to lifetimes, sessions removed): `series, session`, of series in both tables only."""
    if alive is before:
        return NO_COUNTS, NO_COUNTS
    changed = alive.join(before, on="series", suffix=":was").filter(
        (pl.col("first") != pl.col("first:was")) | (pl.col("last") != pl.col("last:was"))
    )
    if changed.is_empty():
        return NO_COUNTS, NO_COUNTS
    sessions = grid.table.select("session").unique().join(changed, how="cross")
    lives = pl.col("session").is_between("first", "last")
    lived = pl.col("session").is_between("first:was", "last:was")
    fresh, past = (sessions.filter(test)[SERIES_SESSION] for test in (lives & ~lived, lived & ~lives))
    return fresh, past
