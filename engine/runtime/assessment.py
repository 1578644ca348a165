"""Gaps and quality of one interval of a cohort: computed again where something was touched, kept everywhere else.

1. `IntervalAssessor.assess_lifetimes` reads every row of some series.
2. `IntervalAssessor.assess_sessions` reads dirty sessions only (`DirtySessions`): each segment from the first slot
   that may have changed (`_first_changed_slots`), or from the start of the stored gap that ends there
   (`extend_to_stored_gaps`).

Both give the same rows; the cost of the second follows what changed.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.grid import SessionGrid
from engine.interval import Interval
from engine.keys import column_values, expand_ranges, find_keys, pack_columns
from engine.quality.gaps import GAPS, expected_slots, find_gaps, slot_runs, with_positions
from engine.quality.score import period_coverage, slot_coverage
from engine.schema import TS
from engine.store.panel_key import PanelKey
from engine.store.snapshot import Snapshot
from engine.store.versioned_rows import VersionedRows

SERIES_SESSION = ["series", "session"]
SEGMENT = ["series", "ordinal"]
MISSING = [*SERIES_SESSION, "bar_count"]
RETRIES = ["state", "retry_count", "last_retry", "next_retry"]
GROWING = ("trailing", "session")  # positions of a gap that still grows while its segment is open
NO_LOW = pl.lit(None, pl.Int32).alias("low")

Ints = NDArray[np.int64]


class StoredOutcome(NamedTuple):
    """Stored gaps and quality of one interval of a cohort."""

    gaps: VersionedRows
    quality: VersionedRows

    def missing(self, sessions: pl.DataFrame) -> pl.DataFrame:
        """Stored `missing` of the quality rows of the given sessions, as `series, session, bar_count`."""
        scores = self.quality.of_sessions(sessions)
        return scores.select(*SERIES_SESSION, pl.col("missing").cast(GAPS["bar_count"]).alias("bar_count"))


class DirtySessions(NamedTuple):
    """Sessions of a cohort that have to be assessed again.

    Attributes
    ----------
    sessions : DataFrame of `series, session`
        Every session whose gaps or quality may have changed; sorted.
    touched : DataFrame of `series, session, first_ts`
        Sessions with touched rows, and the first of these rows.
    fresh : DataFrame of `series, session`
        Sessions that are expected now and were not before.
    """

    sessions: pl.DataFrame
    touched: pl.DataFrame
    fresh: pl.DataFrame


@dataclass(frozen=True)
class Expectation:
    """Expected and missing slots of some sessions.

    Attributes
    ----------
    slots : DataFrame
        Expected slots by segment, from `gaps.expected_slots`.
    missing : DataFrame of `series, session, bar_count`
        Rows whose `bar_count` add up to the missing slots of a session: its gaps; or its former number, gaps added
        (positive) and gaps removed (negative).
    """

    slots: pl.DataFrame
    missing: pl.DataFrame

    @cached_property
    def coverage(self) -> pl.DataFrame:
        """Slot coverage of these sessions from expected and missing slots (`quality.score.slot_coverage`); cached."""
        return slot_coverage(self.slots, self.missing)


@dataclass(frozen=True)
class IntervalAssessor:
    """Assesses one interval of a cohort.

    Attributes
    ----------
    key : PanelKey
        Panel of its bars, and key of its stored gaps and quality.
    grid : SessionGrid
        Grid of the cohort at this interval.
    base : PanelKey or None
        Panel of base bars that fill its slots, when it has no panel of its own.
    """

    key: PanelKey
    grid: SessionGrid
    base: PanelKey | None = None

    @property
    def interval(self) -> Interval:
        """Interval of the grid."""
        return self.grid.interval

    def assess_lifetimes(self, snapshot: Snapshot, alive: pl.DataFrame) -> tuple[Expectation, pl.DataFrame]:
        """Find gaps in all due sessions of the lifetimes in `alive`; return (expectation, gaps); store nothing."""
        slots = expected_slots(alive, self.grid, snapshot.as_of)
        rows = snapshot.rows_of(self.base or self.key)
        series = alive["series"]
        if rows.height and not rows["series"].unique().is_in(series.implode()).all():
            rows = rows.filter(pl.col("series").is_in(series.implode()))
        gaps = find_gaps(slots, slot_runs(self._present(snapshot, rows)), self.grid)
        return Expectation(slots, gaps[MISSING]), gaps

    def assess_sessions(
        self,
        snapshot: Snapshot,
        stored: StoredOutcome,
        dirty: DirtySessions,
        alive: pl.DataFrame,
        before: dt.datetime | None,
    ) -> tuple[Expectation, pl.DataFrame, pl.DataFrame]:
        """Re-assess dirty sessions only; return (expectation, stored gaps to remove, gaps to add); stores nothing.

        Parameters
        ----------
        snapshot : Snapshot
        stored : StoredOutcome
            Gaps and quality as of `before`.
        dirty : DirtySessions
        alive : DataFrame of `series, first, last`
        before : datetime or None
            The as-of time of the last assessment.

        Returns
        -------
        expectation : Expectation
        removed, added : DataFrame
            Stored gaps that no longer hold, and the gaps that replace them.
        """
        sessions = self.sessions_of(dirty.sessions)
        slots = self._expected_slots(snapshot, sessions, alive)
        missing_before, scan = stored.missing(sessions), self._first_changed_slots(slots, dirty, before)
        days = pack_columns(slots, *SERIES_SESSION)
        are_all_expected = find_keys(np.unique(days), pack_columns(sessions, *SERIES_SESSION))[1].all()
        gaps_here = gaps_to_check(stored.gaps, scan, slots) if are_all_expected else stored.gaps.of_sessions(sessions)
        if scan.is_empty() and np.isin(pack_columns(gaps_here, *SEGMENT), pack_columns(slots, *SEGMENT)).all():
            return Expectation(slots, missing_before), gaps_here.clear(), gaps_here.clear().drop("revision")
        scan = extend_to_stored_gaps(scan, gaps_here)
        present = self._present(snapshot, self._rows_from(snapshot, scan))
        removed, kept = split_rescanned(gaps_here, scan, slots)
        added = inherit_retries(find_gaps(scan, slot_runs(present), self.grid), removed)
        freed = removed.select(*SERIES_SESSION, -pl.col("bar_count"))
        missing = pl.concat([missing_before, added[MISSING], freed])
        if not has_repeats(days):
            return Expectation(slots, missing), removed, added
        # In a session of several segments, the rows of one change the position of gaps in the others.
        gaps = with_positions(pl.concat([kept[added.columns], added]), slots).select(list(GAPS))
        added = gaps.join(gaps_here, on=list(GAPS), how="anti", nulls_equal=True)
        removed = gaps_here.join(gaps, on=list(GAPS), how="anti", nulls_equal=True)
        return Expectation(slots, missing), removed, added

    def coverage(
        self, snapshot: Snapshot, slots: pl.DataFrame, expectation: Expectation, counted_grid: SessionGrid
    ) -> pl.DataFrame:
        """Slot coverage: that of `expectation` if intraday, else `n_base` of each bar over slots in `counted_grid`."""
        if self.interval.is_intraday:
            return expectation.coverage
        counted = self.grid.slots_in(slots.select("ordinal", pl.lit(0, pl.Int32).alias("slot")), counted_grid)
        periods = slots.select(SEGMENT).with_columns(
            pl.lit(0, pl.Int32).alias("low"), pl.lit(1, pl.Int32).alias("slots")
        )
        bars = self._rows_from(snapshot, periods)
        return period_coverage(slots, counted, bars.select(*SEGMENT, "n_base"))

    def sessions_of(self, sessions: pl.DataFrame) -> pl.DataFrame:
        """Same sessions if intraday; else the last scheduled session of the period of each, distinct and sorted."""
        if self.interval.is_intraday or sessions.is_empty():
            return sessions
        return sessions.with_columns(self.grid.periods_of(sessions["session"])).unique().sort(SERIES_SESSION)

    def _expected_slots(self, snapshot: Snapshot, sessions: pl.DataFrame, alive: pl.DataFrame) -> pl.DataFrame:
        """`series, ordinal, session, segment, slots`: segments of given sessions with due slots, within lifetimes."""
        due = self.grid.due(snapshot.as_of)
        day, first_day = column_values(due, "session"), column_values(due, "first_session")
        dirty_day = column_values(sessions, "session")
        low, high = np.searchsorted(day, dirty_day, side="left"), np.searchsorted(day, dirty_day, side="right")
        at = expand_ranges(low, high - low)
        series = np.repeat(sessions["series"].to_numpy(), high - low)
        life, has_life = find_keys(alive["series"].to_numpy(), series)
        begun, over = day[at] >= column_values(alive, "first")[life], first_day[at] > column_values(alive, "last")[life]
        is_expected = has_life & begun & ~over & (due["slots"].to_numpy()[at] > 0)
        slots = due[at[is_expected]][["ordinal", "session", "segment", "slots"]]
        return slots.insert_column(0, pl.Series("series", series[is_expected]))

    def _first_changed_slots(
        self, expected: pl.DataFrame, dirty: DirtySessions, before: dt.datetime | None
    ) -> pl.DataFrame:
        """Add `low`: first slot touched or due since `before` (None: none; fresh: 0); drop unchanged segments."""
        slots = expected["slots"].to_numpy()
        days = pack_columns(expected, *SERIES_SESSION)
        due = self.grid.due(before)
        low = np.zeros(len(slots), np.int64)
        if due.height:
            at, was_due = find_keys(due["ordinal"].to_numpy(), expected["ordinal"].to_numpy())
            low = np.minimum(slots, np.where(was_due, due["slots"].to_numpy()[at], 0))
        touched = dirty.touched
        if touched.height:
            if not self.interval.is_intraday:
                touched = touched.with_columns(self.grid.periods_of(touched["session"]))
            keys, first = pack_columns(touched, *SERIES_SESSION), touched["first_ts"].cast(TS)
            earliest = np.lexsort((first.cast(pl.Int64).to_numpy(), keys))
            earliest = earliest[np.flatnonzero(np.diff(keys[earliest], prepend=keys[earliest[0]] - 1))]
            at, is_touched = find_keys(keys[earliest], days)
            first_touched = self.grid.slots_at(expected["ordinal"], first[earliest[at]]).to_numpy()
            low = np.where(is_touched, np.minimum(low, first_touched), low)
        fresh = self.sessions_of(dirty.fresh)
        if fresh.height:
            low = np.where(np.isin(days, pack_columns(fresh, *SERIES_SESSION)), 0, low)
        changed = low < slots
        if not changed.any():
            return expected.clear().with_columns(NO_LOW)
        return expected.with_columns(pl.Series("low", low.astype(np.int32))).filter(pl.Series(changed))

    def _rows_from(self, snapshot: Snapshot, scan: pl.DataFrame) -> pl.DataFrame:
        """Bars of each segment from slot `low` to its last due slot; base bars if the interval has none stored."""
        key = self.base or self.key
        if scan.is_empty() or key not in snapshot.panels:
            return snapshot.no_rows_of(key)
        first = self.grid.starts(scan["ordinal"], scan["low"])
        last = self.grid.ends(scan["ordinal"], scan["slots"] - 1) - dt.timedelta(microseconds=1)
        ranges = pl.DataFrame([scan["series"], first.alias("first"), last.alias("last")])
        return snapshot.panels[key].between(ranges)

    def _present(self, snapshot: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
        """Distinct `series, ordinal, slot` of sorted real bars (`n_base` > 0 or not synthetic); base: their windows."""
        real = rows["n_base"] > 0 if "n_base" in rows.columns else rows["provenance"] != "synthetic"
        placed = rows[[*SEGMENT, "slot"]].filter(real & rows["slot"].is_not_null())
        if self.base is None or placed.is_empty():
            return placed
        finer = snapshot.grid(self.base.spec, self.base.interval or self.interval)
        windows = placed.select("series").with_columns(finer.windows(placed, self.grid))
        key = windows.select(pl.struct(*SEGMENT, "slot").rle_id())["series"].to_numpy()
        return windows[np.flatnonzero(np.diff(key, prepend=-1))]


def gaps_to_check(stored: VersionedRows, scan: pl.DataFrame, slots: pl.DataFrame) -> pl.DataFrame:
    """Stored gaps reaching `low` of a scanned segment; in multi-segment sessions also whole-segment gaps elsewhere."""
    reaching = stored.reaching(scan)
    if scan.is_empty() or not has_repeats(pack_columns(slots, *SERIES_SESSION)):
        return reaching
    keys = pack_columns(slots, *SEGMENT)
    not_scanned = slots.filter(pl.Series(~find_keys(pack_columns(scan, *SEGMENT), keys)[1]))
    leading = stored.leading(not_scanned)
    at, _ = find_keys(keys, pack_columns(leading, *SEGMENT))
    return pl.concat([reaching, leading.filter(leading["bar_count"] == slots["slots"].gather(at))])


def extend_to_stored_gaps(scan: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Move `low` of scanned segments back to the start of a stored gap that spans or ends at `low`."""
    if stored.is_empty() or scan.is_empty():
        return scan
    at, is_scanned = find_keys(pack_columns(scan, *SEGMENT), pack_columns(stored, *SEGMENT))
    low, begin = scan["low"].to_numpy().copy(), stored["slot"].to_numpy()
    reaches = is_scanned & (begin <= low[at]) & (begin + stored["bar_count"].to_numpy() >= low[at])
    np.minimum.at(low, at[reaches], begin[reaches])
    return scan.with_columns(pl.Series("low", low))


def split_rescanned(stored: pl.DataFrame, scan: pl.DataFrame, slots: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(stored gaps starting at or after `low` of a scanned segment, or in one no longer expected; other gaps)."""
    if stored.is_empty():
        return stored, stored
    keys = pack_columns(stored, *SEGMENT)
    again = ~find_keys(pack_columns(slots, *SEGMENT), keys)[1]
    if scan.height:
        at, is_scanned = find_keys(pack_columns(scan, *SEGMENT), keys)
        again |= is_scanned & (stored["slot"].to_numpy() >= scan["low"].to_numpy()[at])
    return stored.filter(pl.Series(again)), stored.filter(pl.Series(~again))


def has_repeats(sorted_keys: Ints) -> bool:
    """Whether any value of a sorted array occurs more than once."""
    return bool((sorted_keys[1:] == sorted_keys[:-1]).any())


def inherit_retries(gaps: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Copy retry state, count and times of a stored, already scheduled gap to new gaps starting inside it.

    Where it grew and the new gap does not, nothing is copied: count and back-off begin when a gap has its end.
    """
    retried = stored.filter((pl.col("state") != "open") | pl.col("next_retry").is_not_null())
    if retried.is_empty() or gaps.is_empty():
        return gaps
    spans = retried.select(
        *SEGMENT,
        pl.col("slot").alias("begin"),
        (pl.col("slot") + pl.col("bar_count")).alias("end"),
        pl.col("position").is_in(GROWING).alias("grew"),
        *(pl.col(name).alias(f"{name}:was") for name in RETRIES),
    )
    begins_within = pl.col("slot").is_between("begin", "end", closed="left")
    goes_on = ~pl.col("grew") | pl.col("position").is_in(GROWING)
    inherited = gaps.select(*SEGMENT, "slot", "position").join(spans, on=SEGMENT).filter(begins_within & goes_on)
    inherited = inherited.drop("begin", "end", "grew", "position")
    return (
        gaps.join(inherited, on=[*SEGMENT, "slot"], how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("state:was").is_not_null()).then(pl.col(f"{name}:was")).otherwise(pl.col(name)).alias(name)
            for name in RETRIES
        )
        .select(gaps.columns)
    )
