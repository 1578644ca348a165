"""Indicators and history of a store: computed from its bars, stored beside them.

Series of one panel whose symbols have the same indicators (an indicator group) go through the kernels together.

1. `IndicatorManager.step` reads from the store what was touched since its last step, and the plan (`indicator_groups`).
2. Series of a group that can be extended are computed from their state (`_extend`): the last closed bar, and the bars
   before it that windows look back to (`indicator_state`). Bars in progress are computed again each time.
3. A series that is new, that was touched at or before its last closed bar, or whose averages have no first value yet,
   is computed from its first bar (`_compute_all`); so is every series of an indicator of unknown look-back.
4. Stored values of bars that are there no more are removed (`_values_without_bar`).
5. The history before the current session is computed by `histories`.
"""

from __future__ import annotations

import datetime as dt

import polars as pl

from engine.derive.indicator_passes import begin, extend
from engine.derive.slot_baseline import compare_to_baseline, slot_baseline
from engine.runtime.histories import Histories
from engine.runtime.indicator_groups import IndicatorGroup, IndicatorPlan, IndicatorPlanCache, means_same
from engine.runtime.indicator_state import IndicatorState
from engine.runtime.visible_bars import rows_of_series, visible_bars, without
from engine.schema import LATEST, TS, empty
from engine.store.change_log import CHANGE_LOG
from engine.store.panel import Panel
from engine.store.panel_key import IndicatorKey
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot

LastStep = tuple[int, dt.date | None, IndicatorPlan | None]  # revision, current session and plan
NO_STEP: LastStep = (0, None, None)


class IndicatorManager:
    """Updates the indicators and the history of a store after each change of its bars. Symbols are read from the store.

    Parameters
    ----------
    session : SessionData
        Its symbols name their indicators (`SymbolSessionData.indicators`) and the length of their history. Of each
        symbol the series of its price type is computed; bars in no slot are left out.
    """

    def __init__(self, session: SessionData) -> None:
        self._session = session
        self._plans = IndicatorPlanCache()
        self._states: dict[IndicatorKey, IndicatorState] = {}
        self._histories = Histories(session)
        self._last_step: LastStep = NO_STEP

    def step(self) -> int:
        """Compute and store indicators and history of bars touched since the last step; return bars changed.

        Returns
        -------
        int
            Number of bars with a new or changed value.

        Raises
        ------
        ParameterError
            A definition is not valid, two of one name differ, or a symbol has no bars of an interval.
        """
        with self._session.transaction():
            self._session.keep_state(self, "_states", "_last_step")
            snapshot = self._session.snapshot()
            plan = self._plans.of(snapshot)
            since, session_date, last_plan = self._last_step
            if (since, session_date, last_plan) == (snapshot.revision, snapshot.current_session, plan):
                return 0
            written = 0
            if plan.histories or self._states:
                touched = self._touched(snapshot, since)
                if plan is not last_plan:
                    self._drop_unplanned(snapshot, plan)
                written = sum(self._update_group(snapshot, group, touched) for group in plan.groups.values())
                self._histories.update(snapshot, plan.histories, touched)
            self._last_step = self._session.revision, snapshot.current_session, plan
            return written

    def _touched(self, snapshot: Snapshot, since: int) -> pl.DataFrame:
        """Bar changes since a revision, none without state; first clear all state if the log lost any."""
        if since < max(snapshot.change_log.start_revision, 1):  # it does not reach back to the last step
            self._states.clear()
            self._histories.clear()
        if not self._states and self._histories.is_empty:
            return empty(CHANGE_LOG)
        return snapshot.series_changes(since, ["bars"])

    def _drop_unplanned(self, snapshot: Snapshot, plan: IndicatorPlan) -> None:
        """Drop state and stored values of series that left their group, and of groups gone or redefined."""
        for key, state in list(self._states.items()):
            group = plan.groups.get(key)
            stays = group is not None and all(map(means_same, group.indicators, state.indicators))
            dropped = without(state.series, group.series) if group is not None and stays else state.series
            if stays:
                self._states[key] = state.without(dropped) if len(dropped) else state
            else:
                del self._states[key]
            stored = dropped.filter(dropped.is_in(snapshot.series["series"].implode()))
            if len(stored) and key in snapshot.indicators:
                none = snapshot.indicators[key].parts[0].clear().drop("revision")
                self._session.set_indicators(*key, none, without=stored.to_list())

    def _update_group(self, snapshot: Snapshot, group: IndicatorGroup, touched: pl.DataFrame) -> int:
        """Recompute new or rewritten series in full, extend others; store; return bars new or changed."""
        if group.key not in snapshot.panels:
            return 0
        state = self._states.get((group.key, group.definitions)) or IndicatorState.empty(
            group.indicators, group.columns
        )
        of_group = (pl.col("interval") == str(group.key.interval)) & pl.col("series").is_in(group.series.implode())
        first_touched = touched.filter(of_group).group_by("series").agg(pl.col("first_ts").min())
        new = without(group.series, state.series)
        last = state.extendable(first_touched)
        if group.reach is None:
            last = last.clear()
        added = visible_bars(snapshot, group.key, snapshot.panels[group.key].between(state.after(last)), group.columns)
        extended = last["series"]
        if group.baseline_indicators:
            # A baseline is read for one session at a time.
            sessions = added.group_by("series").agg(pl.col("session").n_unique())
            several = sessions.filter(pl.col("session") > 1)["series"]
            extended, added = without(extended, several), added.filter(~pl.col("series").is_in(several.implode()))
        whole = pl.concat([new, without(first_touched["series"], extended)]).unique().sort()
        written = []
        if len(whole):
            state, values = self._compute_all(snapshot, group, state, whole)
            # Values before the first touched bar of a series are as they were.
            touched_from = first_touched.filter(~pl.col("series").is_in(new.implode()))
            values = values.join(touched_from, on="series", how="left", maintain_order="left")
            changed = pl.col("first_ts").is_null() | (pl.col("ts") >= pl.col("first_ts"))
            written.append(values.filter(changed).drop("first_ts"))
        if added.height:
            state, values = self._extend(snapshot, group, state, added)
            written.append(values)
        self._states[group.key, group.definitions] = state
        if snapshot.indicators_from is not None:
            written = [rows.filter(pl.col("session") >= snapshot.indicators_from) for rows in written]
        stored = snapshot.indicators.get((group.key, group.definitions))
        rows = pl.concat(written).sort("series", "ts") if written else None
        absent = None if stored is None else values_without_bar(stored, rows, first_touched)
        if absent is None or absent.is_empty():
            return 0 if rows is None else self._session.set_indicators(group.key, group.definitions, rows)
        rows = absent.clear().drop("revision") if rows is None else rows
        return self._session.set_indicators(group.key, group.definitions, rows, absent=absent)

    def _compute_all(
        self, snapshot: Snapshot, group: IndicatorGroup, state: IndicatorState, series: pl.Series
    ) -> tuple[IndicatorState, pl.DataFrame]:
        """Compute indicators over all bars of the given series; return (replaced state, value rows); stores nothing."""
        rows = rows_of_series(snapshot.panels[group.key], series)
        bars = visible_bars(snapshot, group.key, rows, group.columns)
        values = begin(bars, group.indicators)
        state = state.without(series).with_series(series).advanced(values, bars, group.reach)
        return state, values.select(group.values)

    def _extend(
        self, snapshot: Snapshot, group: IndicatorGroup, state: IndicatorState, added: pl.DataFrame
    ) -> tuple[IndicatorState, pl.DataFrame]:
        """Compute added bars from look-back bars and state, slot baselines included; return (new state, value rows)."""
        series = added["series"].unique()
        bars = pl.concat([state.tail_of(series), added]).sort("series", "ts")
        values = extend(bars, state.last_of(series), group.window_indicators)
        if group.baseline_indicators:
            sessions = added.select("series", "session").unique()
            stale = sessions.join(state.baseline_for, on=["series", "session"], how="anti")
            for (session,), part in stale.group_by("session"):
                rows = rows_of_series(snapshot.panels[group.key], part["series"])
                past = visible_bars(snapshot, group.key, rows, group.columns)
                state = state.with_baseline(part, slot_baseline(past, session, group.baseline_indicators))
            values = compare_to_baseline(values, state.baseline, group.baseline_indicators)
        return state.advanced(values, bars, group.reach), values.select(group.values)


def values_without_bar(stored: Panel, values: pl.DataFrame | None, touched: pl.DataFrame) -> pl.DataFrame:
    """Stored values from the first touched bar of a series on (`series, first_ts`) whose bar has no value in `values` (None: none)."""
    ranges = touched.select("series", pl.col("first_ts").alias("first"), pl.lit(LATEST, TS).alias("last"))
    here = stored.between(ranges.sort("series"))
    return here if values is None else here.join(values, on=["series", "ts"], how="anti")
