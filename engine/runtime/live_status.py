"""State of a live session in figures: for the line a minute, for metrics and for a supervisor. Safe in any thread.

It is computed from the store's snapshot and the session's counters when it is asked for, and asks nothing of the source.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from engine.clock import steady_seconds
from engine.runtime.coordinator import Phase
from engine.runtime.gap_filler import base_kinds, current_gaps
from engine.runtime.live import LiveSession
from engine.sources.streams.contract import StreamStatus
from engine.store.snapshot import Snapshot

STALLED_SECONDS = 60.0  # without a step, which is due every `poll_seconds`, a session is stalled
STALLED_POLLS = 5
GAP_STATES = ("open", "retrying", "abandoned", "filled")


@dataclass(frozen=True)
class LiveStatus:
    """Figures of a live session at one moment.

    Attributes
    ----------
    at : datetime
    phase : {"new", "waiting", "running", "finished"}
    session, opens, closes : date and datetimes, or None
        The session that is open, or the next one; None after the last.
    symbols : int
    rows, duplicates, corrections, derived, rejects, steps, exports, errors : int
        Counts since the start of the process; `rows` counts each appended row once, duplicates and corrections too.
    revision : int or None
        Last revision of the export that this process wrote.
    gaps : mapping of state to int
        Gaps of base bars of the current session: open, retrying, abandoned, filled.
    missing, retries : int
        Slots of these gaps that are missing, and retries that were made for them.
    history_requests : mapping of outcome to int
        Requests of the past that were answered, or failed.
    last_bar_end : datetime or None
        End of the newest base bar.
    step_seconds : float
        Duration of the last step.
    stalled_seconds : float or None
        Time since the last step where one is overdue; else None.
    source : StreamStatus
    """

    at: dt.datetime
    phase: Phase
    session: dt.date | None
    opens: dt.datetime | None
    closes: dt.datetime | None
    symbols: int
    rows: int
    duplicates: int
    corrections: int
    derived: int
    rejects: int
    steps: int
    exports: int
    errors: int
    revision: int | None
    gaps: Mapping[str, int]
    missing: int
    retries: int
    history_requests: Mapping[str, int]
    last_bar_end: dt.datetime | None
    step_seconds: float
    stalled_seconds: float | None
    source: StreamStatus

    @classmethod
    def of(cls, live: LiveSession) -> LiveStatus:
        """The state of a session now."""
        coordinator, snapshot = live.coordinator, live.session.snapshot()
        totals, span, at = coordinator.totals, coordinator.current, live.clock.now()
        gaps, missing, retries = count_gaps(snapshot)
        return cls(
            at=at,
            phase=coordinator.phase,
            session=None if span is None else span.session,
            opens=None if span is None else span.opens,
            closes=None if span is None else span.closes,
            symbols=len(snapshot.symbols),
            rows=totals.rows,
            duplicates=totals.duplicates,
            corrections=totals.corrections,
            derived=totals.derived,
            rejects=sum(frame.height for frame in snapshot.rejects),
            steps=totals.steps,
            exports=totals.exports,
            errors=live.error_count,
            revision=totals.revision,
            gaps=gaps,
            missing=missing,
            retries=retries,
            history_requests=dict(live.history_requests),
            last_bar_end=last_bar_end(snapshot),
            step_seconds=live.step_seconds,
            stalled_seconds=stalled_seconds(live),
            source=live.source.last_status,
        )

    @property
    def is_open(self) -> bool:
        """Whether a session is open."""
        return self.phase == "running"

    @property
    def last_bar_age_seconds(self) -> float | None:
        """Seconds since the end of the newest base bar; None without one."""
        return None if self.last_bar_end is None else (self.at - self.last_bar_end).total_seconds()


def count_gaps(snapshot: Snapshot) -> tuple[dict[str, int], int, int]:
    """(gaps by state, missing slots, retries) of base bars in the current session."""
    counts = dict.fromkeys(GAP_STATES, 0)
    missing = retries = 0
    for key in base_kinds(snapshot):
        states = current_gaps(snapshot, key).group_by("state").agg(pl.len(), pl.col("bar_count", "retry_count").sum())
        for state, gaps, slots, tried in states.iter_rows():
            counts[state] += gaps
            missing += slots
            retries += tried
    for stored in snapshot.filled_rows.values():
        counts["filled"] += stored.frame.filter(pl.col("session") == snapshot.session_date).height
    return counts, missing, retries


def last_bar_end(snapshot: Snapshot) -> dt.datetime | None:
    """End of the newest source bar of any symbol's base; None without bars."""
    ends = []
    for key in base_kinds(snapshot):
        panel = snapshot.panels.get(key)
        stamps = [] if panel is None else [run.span[1] for run in panel.sorted_runs if run.rows.height]
        ends += [max(stamps) + dt.timedelta(seconds=key.grid_interval.seconds)] if stamps else []
    return max(ends, default=None)


def stalled_seconds(live: LiveSession) -> float | None:
    """Seconds since the last step where that is longer than `STALLED_SECONDS` and some polls; None before the first one."""
    if live.last_step_at is None or live.coordinator.phase == "finished":
        return None
    since = steady_seconds() - live.last_step_at
    return since if since > max(STALLED_SECONDS, STALLED_POLLS * live.config.live.poll_seconds) else None
