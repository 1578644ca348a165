"""Gaps and quality of one interval of a cohort: found anew where something was touched, kept everywhere else.

1. `Level.whole` looks at every row of some series.
2. `Level.refresh` looks at the sessions it is told (`Affected`), in each segment from the first slot on that may have
   changed (`_lows`), and from the start of the gap that ends there (`_joined`).

Both give the same rows; the second costs what changed and not what is there.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from engine.grid import SessionGrid
from engine.interval import Interval
from engine.ledger import Ledger
from engine.quality.gaps import GAPS, expected, find_gaps, positioned, runs
from engine.quality.score import period_coverage, slot_coverage
from engine.schema import TS
from engine.snapshot import PanelKey, Snapshot

SERIES_SESSION = ["series", "session"]
SEGMENT = ["series", "ordinal"]
RETRIES = ["state", "retry_count", "last_retry", "next_retry"]


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


class Judged(NamedTuple):
    """What is expected of some sessions, and all gaps in them."""

    wanted: pl.DataFrame
    gaps: pl.DataFrame


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

    def whole(self, snapshot: Snapshot, alive: pl.DataFrame) -> Judged:
        """Expectation and gaps of these series in all their life (`series, first, last`)."""
        wanted = expected(alive, self.grid, snapshot.as_of)
        rows = snapshot.rows_of(self.base or self.key)
        ours = alive["series"]
        if rows.height and not rows["series"].unique().is_in(ours.implode()).all():
            rows = rows.filter(pl.col("series").is_in(ours.implode()))
        return Judged(wanted, find_gaps(wanted, runs(self._present(snapshot, rows)), self.grid))

    def refresh(
        self, snapshot: Snapshot, held: Ledger, affected: Affected, alive: pl.DataFrame, before: dt.datetime | None
    ) -> tuple[Judged, pl.DataFrame, pl.DataFrame]:
        """Expectation and gaps of the affected sessions, and what that changes.

        Parameters
        ----------
        snapshot : Snapshot
        held : Ledger
            The gaps as they were.
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
        here = held.of_sessions(sessions)
        scan = _joined(self._lows(wanted, affected, before), here)
        places = self._present(snapshot, self._rows_from(snapshot, scan))
        gone, kept = _replaced(here, scan, wanted)
        come = _inherited(find_gaps(scan, runs(places), self.grid), gone)
        gaps = pl.concat([kept.drop("revision"), come])
        if wanted.height == wanted.select(SERIES_SESSION).unique().height:
            return Judged(wanted, gaps), gone, come
        # In a session of several segments, what comes in one changes what is said of the others.
        gaps = positioned(gaps, wanted).select(list(GAPS))
        come = gaps.join(here, on=list(GAPS), how="anti", nulls_equal=True)
        gone = here.join(gaps, on=list(GAPS), how="anti", nulls_equal=True)
        return Judged(wanted, gaps), gone, come

    def coverage(self, snapshot: Snapshot, wanted: pl.DataFrame, judged: Judged, judge: SessionGrid) -> pl.DataFrame:
        """`slot_coverage` of a derived interval, by the slots that its completeness counts."""
        if self.interval.is_intraday:
            return slot_coverage(*judged)
        slots = self.grid.slots_in(wanted.select("ordinal", pl.lit(0, pl.Int32).alias("slot")), judge)
        key = wanted.select("series", "ordinal").with_columns(
            pl.lit(0, pl.Int32).alias("low"), pl.lit(1, pl.Int32).alias("slots")
        )
        bars = self._rows_from(snapshot, key)
        return period_coverage(wanted, slots, bars.select("series", "ordinal", "n_base"))

    def _wanted(self, snapshot: Snapshot, sessions: pl.DataFrame, alive: pl.DataFrame) -> pl.DataFrame:
        due = self.grid.due(snapshot.as_of).filter(pl.col("slots") > 0)
        beside = due.join(sessions, on="session").join(alive, on="series")
        lived = (pl.col("session") >= pl.col("first")) & (pl.col("first_session") <= pl.col("last"))
        return beside.filter(lived).select("series", "ordinal", "session", "segment", "slots").sort(SEGMENT)

    def sessions_of(self, sessions: pl.DataFrame) -> pl.DataFrame:
        """`series, session` at this interval: of a week or month, its last scheduled session."""
        if self.interval.is_intraday or sessions.is_empty():
            return sessions
        return sessions.with_columns(self.grid.periods_of(sessions["session"])).unique().sort(SERIES_SESSION)

    def _lows(self, wanted: pl.DataFrame, affected: Affected, before: dt.datetime | None) -> pl.DataFrame:
        """The first slot of each segment that may be other than before, in `low`; segments without one are left out."""
        first = self._at_level(affected.touched).group_by(SERIES_SESSION).agg(pl.col("first_ts").min())
        fresh = self.sessions_of(affected.fresh).with_columns(pl.lit(value=True).alias("fresh"))
        due = self.grid.due(before).select("ordinal", pl.col("slots").alias("was_due"))
        beside = (
            wanted.join(first, on=SERIES_SESSION, how="left", maintain_order="left")
            .join(fresh, on=SERIES_SESSION, how="left", maintain_order="left")
            .join(due, on="ordinal", how="left", maintain_order="left")
        )
        touched = self.grid.slots_at(beside["ordinal"], beside["first_ts"])
        low = pl.min_horizontal(
            touched, pl.col("was_due").fill_null(0), pl.when("fresh").then(pl.lit(0, pl.Int32)), pl.col("slots")
        )
        lows = beside.with_columns(low.cast(pl.Int32).alias("low")).filter(pl.col("low") < pl.col("slots"))
        return lows.select(*wanted.columns, "low")

    def _at_level(self, touched: pl.DataFrame) -> pl.DataFrame:
        if self.interval.is_intraday or touched.is_empty():
            return touched
        return touched.with_columns(self.grid.periods_of(touched["session"]))

    def _rows_from(self, snapshot: Snapshot, scan: pl.DataFrame) -> pl.DataFrame:
        """Rows in the slots `low` to `slots` of these segments."""
        key = self.base or self.key
        if scan.is_empty() or key not in snapshot.panels:
            return snapshot.rows_of(key).clear()
        first = self.grid.starts(scan["ordinal"], scan["low"])
        last = self.grid.ends(scan["ordinal"], scan["slots"] - 1) - dt.timedelta(microseconds=1)
        spans = scan.select("series", first.cast(TS).alias("first"), last.cast(TS).alias("last"))
        return snapshot.panels[key].between(spans)

    def _present(self, snapshot: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
        """`series, ordinal, slot` of the slots that hold one of these rows."""
        real = rows["n_base"] > 0 if "n_base" in rows.columns else rows["provenance"] != "synthetic"
        placed = rows.select(*SEGMENT, "slot").filter(real & rows["slot"].is_not_null())
        if self.base is None or placed.is_empty():
            return placed
        finer = snapshot.grid(self.base.spec, self.base.interval or self.interval)
        windows = placed.select("series").with_columns(finer.windows(placed, self.grid))
        key = windows.select(pl.struct(*SEGMENT, "slot").rle_id())["series"].to_numpy()
        return windows[np.flatnonzero(np.diff(key, prepend=-1))]


def _joined(scan: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """The scan from the start of the stored gap that reaches up to it, where there is one."""
    near = scan.join(held.select(*SEGMENT, "slot", "bar_count"), on=SEGMENT, how="inner")
    reaches = (pl.col("slot") <= pl.col("low")) & (pl.col("slot") + pl.col("bar_count") >= pl.col("low"))
    starts = near.filter(reaches).group_by(SEGMENT).agg(pl.col("slot").min().alias("from"))
    beside = scan.join(starts, on=SEGMENT, how="left", maintain_order="left")
    return beside.with_columns(pl.min_horizontal("low", "from").alias("low")).drop("from")


def _replaced(held: pl.DataFrame, scan: pl.DataFrame, wanted: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Stored gaps that the scan looks at again or that nothing is expected of any more, and the others."""
    beside = held.join(scan.select(*SEGMENT, "low"), on=SEGMENT, how="left", maintain_order="left")
    beside = beside.join(
        wanted.select(*SEGMENT, pl.lit(value=True).alias("wanted")), on=SEGMENT, how="left", maintain_order="left"
    )
    again = (pl.col("slot") >= pl.col("low")).fill_null(value=False) | pl.col("wanted").is_null()
    return beside.filter(again).select(held.columns), beside.filter(~again).select(held.columns)


def _inherited(found: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
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
