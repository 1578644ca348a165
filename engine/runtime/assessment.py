"""Gaps and quality of one interval of a cohort: found anew where something was touched, kept everywhere else.

1. `Level.whole` looks at every row of some series.
2. `Level.refresh` looks at the sessions it is told (`Affected`), in each segment from the first slot on that may have
   changed (`_lows`), and from the start of the gap that ends there (`_joined`).

Both give the same rows; the second costs what changed and not what is there.
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
from engine.quality.gaps import GAPS, expected_slots, find_gaps, positioned, slot_runs
from engine.quality.score import period_coverage, slot_coverage
from engine.schema import TS
from engine.store.snapshot import PanelKey, Snapshot
from engine.store.versioned_rows import VersionedRows

SERIES_SESSION = ["series", "session"]
SEGMENT = ["series", "ordinal"]
_LOST = [*SERIES_SESSION, "bar_count"]
RETRIES = ["state", "retry_count", "last_retry", "next_retry"]
_NO_LOW = pl.lit(None, pl.Int32).alias("low")

Ints = NDArray[np.int64]


class Held(NamedTuple):
    """What is stored of a level."""

    gaps: VersionedRows
    quality: VersionedRows

    def lost(self, sessions: pl.DataFrame) -> pl.DataFrame:
        """`series, session, bar_count`: how many slots each of these sessions lacked."""
        scores = self.quality.of_sessions(sessions)
        return scores.select(*SERIES_SESSION, pl.col("missing").cast(GAPS["bar_count"]).alias("bar_count"))


class Affected(NamedTuple):
    """What of a cohort has to be judged anew.

    Attributes
    ----------
    sessions : DataFrame of `series, session`
        Every session in which something may be other than before; sorted.
    touched : DataFrame of `series, session, first_ts`
        Those with rows that were written, and the first of them.
    fresh : DataFrame of `series, session`
        Those that are expected now and were not before.
    """

    sessions: pl.DataFrame
    touched: pl.DataFrame
    fresh: pl.DataFrame


@dataclass(frozen=True)
class Judged:
    """What is expected of some sessions, and how much of it is missing.

    Attributes
    ----------
    wanted : DataFrame
        From `gaps.expected_slots`.
    lost : DataFrame of `series, session, bar_count`
        Rows whose `bar_count`, added up, is what a session lacks: its gaps, or what it lacked before, and what came
        to that and went from it.
    """

    wanted: pl.DataFrame
    lost: pl.DataFrame

    @cached_property
    def coverage(self) -> pl.DataFrame:
        """`slot_coverage` of these sessions."""
        return slot_coverage(self.wanted, self.lost)


@dataclass(frozen=True)
class Level:
    """One interval of a cohort.

    Attributes
    ----------
    key : PanelKey
        Where its bars are, and where its gaps and quality are stored.
    grid : SessionGrid
        The axis at its interval.
    base : PanelKey or None
        Where its slots are filled from, when it is not a panel of its own but the base at a coarser step.
    """

    key: PanelKey
    grid: SessionGrid
    base: PanelKey | None = None

    @property
    def interval(self) -> Interval:
        """Its interval."""
        return self.grid.interval

    def whole(self, snapshot: Snapshot, alive: pl.DataFrame) -> tuple[Judged, pl.DataFrame]:
        """Expectation and gaps of these series in all their life (`series, first, last`)."""
        wanted = expected_slots(alive, self.grid, snapshot.as_of)
        rows = snapshot.rows_of(self.base or self.key)
        ours = alive["series"]
        if rows.height and not rows["series"].unique().is_in(ours.implode()).all():
            rows = rows.filter(pl.col("series").is_in(ours.implode()))
        gaps = find_gaps(wanted, slot_runs(self._present(snapshot, rows)), self.grid)
        return Judged(wanted, gaps[_LOST]), gaps

    def refresh(
        self, snapshot: Snapshot, held: Held, affected: Affected, alive: pl.DataFrame, before: dt.datetime | None
    ) -> tuple[Judged, pl.DataFrame, pl.DataFrame]:
        """Expectation of the affected sessions and what they lack, and what that changes.

        Parameters
        ----------
        snapshot : Snapshot
        held : Held
            What was found before.
        affected : Affected
        alive : DataFrame of `series, first, last`
        before : datetime or None
            The as-of time at which `held` was right.

        Returns
        -------
        judged : Judged
        gone, come : DataFrame
            Stored gaps that are to be replaced, and what replaces them.
        """
        sessions = self.sessions_of(affected.sessions)
        wanted = self._wanted(snapshot, sessions, alive)
        before_lost, scan = held.lost(sessions), self._lows(wanted, affected, before)
        days = pack_columns(wanted, "series", "session")
        every = find_keys(np.unique(days), pack_columns(sessions, "series", "session"))[1].all()
        here = _near(held.gaps, scan, wanted) if every else held.gaps.of_sessions(sessions)
        if (
            scan.is_empty()
            and np.isin(pack_columns(here, "series", "ordinal"), pack_columns(wanted, "series", "ordinal")).all()
        ):
            return Judged(wanted, before_lost), here.clear(), here.clear().drop("revision")
        scan = _joined(scan, here)
        places = self._present(snapshot, self._rows_from(snapshot, scan))
        gone, kept = _replaced(here, scan, wanted)
        come = inherited(find_gaps(scan, slot_runs(places), self.grid), gone)
        lost = pl.concat([before_lost, come[_LOST], gone.select(*SERIES_SESSION, -pl.col("bar_count"))])
        if _is_alone(days):
            return Judged(wanted, lost), gone, come
        # In a session of several segments, what comes in one changes what is said of the others.
        gaps = positioned(pl.concat([kept[come.columns], come]), wanted).select(list(GAPS))
        come = gaps.join(here, on=list(GAPS), how="anti", nulls_equal=True)
        gone = here.join(gaps, on=list(GAPS), how="anti", nulls_equal=True)
        return Judged(wanted, lost), gone, come

    def coverage(self, snapshot: Snapshot, wanted: pl.DataFrame, judged: Judged, judge: SessionGrid) -> pl.DataFrame:
        """`slot_coverage` of a derived interval, by the slots that its completeness counts."""
        if self.interval.is_intraday:
            return judged.coverage
        slots = self.grid.slots_in(wanted.select("ordinal", pl.lit(0, pl.Int32).alias("slot")), judge)
        key = wanted.select("series", "ordinal").with_columns(
            pl.lit(0, pl.Int32).alias("low"), pl.lit(1, pl.Int32).alias("slots")
        )
        bars = self._rows_from(snapshot, key)
        return period_coverage(wanted, slots, bars.select("series", "ordinal", "n_base"))

    def _wanted(self, snapshot: Snapshot, sessions: pl.DataFrame, alive: pl.DataFrame) -> pl.DataFrame:
        due = self.grid.due(snapshot.as_of)
        day, first_day = column_values(due, "session"), column_values(due, "first_session")
        asked = column_values(sessions, "session")
        low, high = np.searchsorted(day, asked, side="left"), np.searchsorted(day, asked, side="right")
        at = expand_ranges(low, high - low)
        owner = np.repeat(sessions["series"].to_numpy(), high - low)
        life, known = find_keys(alive["series"].to_numpy(), owner)
        lived = (day[at] >= column_values(alive, "first")[life]) & (first_day[at] <= column_values(alive, "last")[life])
        held = known & lived & (due["slots"].to_numpy()[at] > 0)
        picked = due[at[held]][["ordinal", "session", "segment", "slots"]]
        return picked.insert_column(0, pl.Series("series", owner[held]))

    def sessions_of(self, sessions: pl.DataFrame) -> pl.DataFrame:
        """`series, session` at this interval: of a week or month, its last scheduled session."""
        if self.interval.is_intraday or sessions.is_empty():
            return sessions
        return sessions.with_columns(self.grid.periods_of(sessions["session"])).unique().sort(SERIES_SESSION)

    def _lows(self, wanted: pl.DataFrame, affected: Affected, before: dt.datetime | None) -> pl.DataFrame:
        """The first slot of each segment that may be other than before, in `low`; segments without one are left out."""
        slots = wanted["slots"].to_numpy()
        low = np.minimum(slots, self._slots_due(wanted, before))
        touched = self._at_level(affected.touched)
        if touched.height:
            keys, first = pack_columns(touched, "series", "session"), touched["first_ts"].cast(TS)
            earliest = np.lexsort((first.cast(pl.Int64).to_numpy(), keys))
            earliest = earliest[np.flatnonzero(np.diff(keys[earliest], prepend=keys[earliest[0]] - 1))]
            at, is_touched = find_keys(keys[earliest], pack_columns(wanted, "series", "session"))
            reached = self.grid.slots_at(wanted["ordinal"], first[earliest[at]]).to_numpy()
            low = np.where(is_touched, np.minimum(low, reached), low)
        fresh = self.sessions_of(affected.fresh)
        low = (
            np.where(
                np.isin(pack_columns(wanted, "series", "session"), pack_columns(fresh, "series", "session")), 0, low
            )
            if fresh.height
            else low
        )
        lows = wanted.with_columns(pl.Series("low", low.astype(np.int32))) if (low < slots).any() else None
        return wanted.clear().with_columns(_NO_LOW) if lows is None else lows.filter(pl.Series(low < slots))

    def _slots_due(self, wanted: pl.DataFrame, as_of: dt.datetime | None) -> Ints:
        due = self.grid.due(as_of)
        at, known = find_keys(due["ordinal"].to_numpy(), wanted["ordinal"].to_numpy())
        return np.where(known, due["slots"].to_numpy()[at], 0) if due.height else np.zeros(wanted.height, np.int64)

    def _at_level(self, touched: pl.DataFrame) -> pl.DataFrame:
        if self.interval.is_intraday or touched.is_empty():
            return touched
        return touched.with_columns(self.grid.periods_of(touched["session"]))

    def _rows_from(self, snapshot: Snapshot, scan: pl.DataFrame) -> pl.DataFrame:
        """Rows in the slots `low` to `slots` of these segments."""
        key = self.base or self.key
        if scan.is_empty() or key not in snapshot.panels:
            return snapshot.none_of(key)
        first = self.grid.starts(scan["ordinal"], scan["low"])
        last = self.grid.ends(scan["ordinal"], scan["slots"] - 1) - dt.timedelta(microseconds=1)
        spans = pl.DataFrame([scan["series"], first.alias("first"), last.alias("last")])
        return snapshot.panels[key].between(spans)

    def _present(self, snapshot: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
        """`series, ordinal, slot` of the slots that hold one of these rows."""
        real = rows["n_base"] > 0 if "n_base" in rows.columns else rows["provenance"] != "synthetic"
        placed = rows[[*SEGMENT, "slot"]].filter(real & rows["slot"].is_not_null())
        if self.base is None or placed.is_empty():
            return placed
        finer = snapshot.grid(self.base.spec, self.base.interval or self.interval)
        windows = placed.select("series").with_columns(finer.windows(placed, self.grid))
        key = windows.select(pl.struct(*SEGMENT, "slot").rle_id())["series"].to_numpy()
        return windows[np.flatnonzero(np.diff(key, prepend=-1))]


def _near(held: VersionedRows, scan: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """Stored gaps that may be other than before: those the scan reaches, and whole segments beside others of a session."""
    reached = held.reaching(scan)
    if scan.is_empty() or _is_alone(pack_columns(wanted, "series", "session")):
        return reached
    beside = wanted.filter(
        pl.Series(~find_keys(pack_columns(scan, "series", "ordinal"), pack_columns(wanted, "series", "ordinal"))[1])
    )
    leading = held.leading(beside)
    at, _ = find_keys(pack_columns(wanted, "series", "ordinal"), pack_columns(leading, "series", "ordinal"))
    return pl.concat([reached, leading.filter(leading["bar_count"] == wanted["slots"].gather(at))])


def _joined(scan: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """The scan from the start of the stored gap that reaches up to it, where there is one."""
    if held.is_empty() or scan.is_empty():
        return scan
    at, known = find_keys(pack_columns(scan, "series", "ordinal"), pack_columns(held, "series", "ordinal"))
    low, begin = scan["low"].to_numpy().copy(), held["slot"].to_numpy()
    reaches = known & (begin <= low[at]) & (begin + held["bar_count"].to_numpy() >= low[at])
    np.minimum.at(low, at[reaches], begin[reaches])
    return scan.with_columns(pl.Series("low", low))


def _replaced(held: pl.DataFrame, scan: pl.DataFrame, wanted: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Stored gaps that the scan looks at again or that nothing is expected of any more, and the others."""
    if held.is_empty():
        return held, held
    keys = pack_columns(held, "series", "ordinal")
    again = ~find_keys(pack_columns(wanted, "series", "ordinal"), keys)[1]
    if scan.height:
        at, known = find_keys(pack_columns(scan, "series", "ordinal"), keys)
        again |= known & (held["slot"].to_numpy() >= scan["low"].to_numpy()[at])
    return held.filter(pl.Series(again)), held.filter(pl.Series(~again))


def _is_alone(sorted_keys: Ints) -> bool:
    return not (sorted_keys[1:] == sorted_keys[:-1]).any()


def inherited(found: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
    """Gaps with what was tried before to fill the stored gap that they begin in."""
    tried = gone.filter((pl.col("state") != "open") | pl.col("next_retry").is_not_null())
    if tried.is_empty() or found.is_empty():
        return found
    was = tried.select(*SEGMENT, pl.col("slot").alias("begin"), (pl.col("slot") + pl.col("bar_count")).alias("end"),
                       *(pl.col(name).alias(f"{name}:was") for name in RETRIES))  # fmt: skip
    within = (
        found.select(*SEGMENT, "slot")
        .join(was, on=SEGMENT)
        .filter(pl.col("slot").is_between("begin", "end", closed="left"))
    )
    beside = found.join(within.drop("begin", "end"), on=[*SEGMENT, "slot"], how="left", maintain_order="left")
    return beside.with_columns(
        pl.when(pl.col("state:was").is_not_null()).then(pl.col(f"{name}:was")).otherwise(pl.col(name)).alias(name)
        for name in RETRIES
    ).select(found.columns)
