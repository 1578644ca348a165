"""History before the current session: averages and extremes of the sessions before it, per series (`derive.session_baseline`).

1. Each session that is over is summarised once (`session_summaries`), and again when it is touched later.
2. When another session becomes current, the baselines of all series are computed from the summaries; in the same
   session only those of series that are new, or touched in an earlier one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from engine.derive.session_baseline import baseline_of_sessions, session_summaries
from engine.runtime.indicator_groups import BASELINE_INPUTS, PLACE_COLUMNS, HistoryGroup
from engine.runtime.visible_bars import rows_of_series, visible_bars, without
from engine.store.panel_key import PanelKey
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot

ALL_SESSIONS = 1_000_000
COLUMNS = [*PLACE_COLUMNS, "close", *BASELINE_INPUTS]
SERIES_SESSION = ["series", "session"]


@dataclass(frozen=True)
class Summaries:
    """Summaries of the sessions of a panel's series before `until`, sorted by series and session."""

    days: pl.DataFrame
    series: pl.Series
    until: dt.date


class Histories:
    """Updates the history of a store.

    Parameters
    ----------
    session : SessionData
    """

    def __init__(self, session: SessionData) -> None:
        self._session = session
        self._summaries: dict[PanelKey, Summaries] = {}
        self._known: dict[tuple[PanelKey, int], tuple[dt.date, pl.Series]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is summarised, so that no change has to be followed."""
        return not self._summaries

    def clear(self) -> None:
        """Forget all summaries, which are then made of all bars again; inside a transaction of the store."""
        self._session.keep_state(self, "_summaries", "_known")
        self._summaries.clear()
        self._known.clear()

    def update(self, snapshot: Snapshot, groups: Sequence[HistoryGroup], touched: pl.DataFrame) -> None:
        """Store in the baselines from before the current session: of all series in a new one, else of new or corrected ones.

        Parameters
        ----------
        snapshot : Snapshot
        groups : sequence of HistoryGroup
        touched : DataFrame of `change_log.CHANGE_LOG`
            Changes of bars since the last update.
        """
        self._session.keep_state(self, "_summaries", "_known")
        today = snapshot.current_session
        if today is None:
            self.clear()
            return
        members: dict[PanelKey, list[HistoryGroup]] = {}
        for group in groups:
            if group.key in snapshot.panels:
                members.setdefault(group.key, []).append(group)
        self._summaries = {key: held for key, held in self._summaries.items() if key in members}
        planned = {(group.key, group.sessions) for ours in members.values() for group in ours}
        self._known = {key: known for key, known in self._known.items() if key in planned}
        for key, ours in members.items():
            series = pl.concat([group.series for group in ours]).sort()
            corrected = self._summarise(snapshot, key, series, today, touched)
            for group in ours:
                self._store_baselines(group, today, corrected)

    def _store_baselines(self, group: HistoryGroup, today: dt.date, corrected: pl.Series) -> None:
        """Store the baselines before `today` of a group's series: all if it is new to them, else new and corrected ones."""
        date, known = self._known.get((group.key, group.sessions), (None, group.series.clear()))
        self._known[group.key, group.sessions] = today, group.series
        series = group.series
        if date == today:
            again = series.filter(series.is_in(corrected.implode()))
            series = pl.concat([without(series, known), again]).unique().sort()
        if series.is_empty():
            return
        days = self._summaries[group.key].days
        days = (
            days if len(series) == days["series"].n_unique() else days.filter(pl.col("series").is_in(series.implode()))
        )
        values = baseline_of_sessions(days, today, group.sessions or ALL_SESSIONS)
        self._session.set_trailing(group.key, values.with_columns(pl.lit(today).alias("before")), series)

    def _summarise(
        self, snapshot: Snapshot, key: PanelKey, series: pl.Series, today: dt.date, touched: pl.DataFrame
    ) -> pl.Series:
        """Bring the summaries of a panel up to `today`; return the series of which earlier sessions were summarised again."""
        panel = snapshot.panels[key]
        held = self._summaries.get(key)
        if held is None:
            none = visible_bars(snapshot, key, panel.parts[0].clear(), COLUMNS)
            held = Summaries(session_summaries(none), series.clear(), today)
        until = max(today, held.until)
        new, known = without(series, held.series), held.series.filter(held.series.is_in(series.implode()))
        is_known = pl.col("series").is_in(known.implode())
        again = (
            touched.filter(is_known, pl.col("interval") == str(key.interval), pl.col("session") < held.until)
            .select(SERIES_SESSION)
            .unique()
        )
        parts = []
        if len(new):
            parts.append(rows_of_series(panel, new, pl.col("session") < until))
        if until > held.until and len(known):
            parts.append(panel.where(is_known & pl.col("session").is_between(held.until, until, closed="left")))
        if again.height:
            some = pl.col("session").is_in(again["session"].unique().implode())
            series_again = again["series"].unique().implode()
            parts.append(
                panel.where(some & pl.col("series").is_in(series_again)).join(
                    again, on=SERIES_SESSION, how="semi", maintain_order="left"
                )
            )
        days = held.days if len(known) == len(held.series) else held.days.filter(is_known)
        days = days.join(again, on=SERIES_SESSION, how="anti", maintain_order="left") if again.height else days
        made = [session_summaries(visible_bars(snapshot, key, rows, COLUMNS)) for rows in parts if rows.height]
        if made:
            days = pl.concat([days, *made]).sort(SERIES_SESSION)
        self._summaries[key] = Summaries(days, series, until)
        return pl.concat([new, again["series"].unique()])
