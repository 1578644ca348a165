"""Indicators of a store and what its former sessions were like: computed from its bars, stored beside them.

Series of one panel whose symbols ask for the same indicators (a group) go through the kernels together.

1. `IndicatorManager.step` asks the store what was touched since it last looked, and who asks for what (`groups.Asking`).
2. Of each group, series that go on from where they stood are computed from there (`_extended`): from the last bar that is
   over, and the bars before it that windows reach back to (`former.Former`). Bars in progress are computed again each time.
3. A series that is new, that was touched at or before its last bar, or whose averages have no first value yet, is computed
   whole (`_begun`); so are those with an indicator that does not say how far it reaches back.
4. What the sessions before the current one were like is looked up when it becomes current, and again for series that
   are touched in one of these (`_look_back`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import polars as pl

from engine.derive.indicator_passes import begin, extend
from engine.derive.session_baseline import trailing
from engine.derive.slot_baseline import against, usual
from engine.interval import Interval
from engine.runtime.indicator_groups import PLACED, USUAL_INPUTS, Asked, Asking, Group, Lookback, is_same
from engine.runtime.indicator_state import ENDED, Former
from engine.schema import empty
from engine.store.panel import Panel
from engine.store.session_data import SessionData
from engine.store.snapshot import CHANGE_LOG, IndicatorKey, PanelKey, Snapshot
from engine.store.views import with_ends

ALL_SESSIONS = 1_000_000
FEW = 64  # so many series are cut out one by one, more of them in one pass


Seen = tuple[int, dt.date | None, Asked | None]  # the revision and the session of the last step, and who asked then
NOTHING_SEEN: Seen = (0, None, None)


class IndicatorManager:
    """Keeps the indicators and the history of a store in step with its bars. It knows no symbol: the store does.

    Parameters
    ----------
    session : SessionData
        Its symbols say which indicators (`SymbolSessionData.indicators`), and how long their history is. Of each symbol the
        series of its price type is computed; bars that are in no slot are left out.
    """

    def __init__(self, session: SessionData) -> None:
        self._session = session
        self._asking = Asking()
        self._formers: dict[IndicatorKey, Former] = {}
        self._mornings: dict[tuple[PanelKey, int], tuple[dt.date, pl.Series]] = {}
        self._seen: Seen = NOTHING_SEEN

    def step(self) -> int:
        """Compute what was touched since the last step.

        Returns
        -------
        int
            Of how many bars a value is new or changed.

        Raises
        ------
        ParameterError
            A definition means nothing, two of one name differ, or a symbol has no bars of an interval.
        """
        with self._session.transaction():
            snapshot = self._session.snapshot()
            asked = self._asking.of(snapshot)
            if self._seen == (snapshot.revision, snapshot.session_date, asked):
                return 0
            before = self._seen
            self._seen = NOTHING_SEEN  # should anything be raised, the store is as it was, and all is done again
            written = self._follow(snapshot, asked, before) if asked.lookbacks or self._formers else 0
            self._seen = self._session.revision, snapshot.session_date, asked
            return written

    def _follow(self, snapshot: Snapshot, asked: Asked, before: Seen) -> int:
        touched = self._touched(snapshot, before[0])
        if asked is not before[2]:
            self._forget(snapshot, asked)
        written = sum(self._compute(snapshot, group, touched) for group in asked.groups.values())
        for one in asked.lookbacks:
            self._look_back(snapshot, one, touched)
        return written

    def _touched(self, snapshot: Snapshot, since: int) -> pl.DataFrame:
        # Nobody knows what was touched, or the writes of a former step were undone.
        if since < max(snapshot.horizon, 1) or snapshot.revision < since:
            self._formers.clear()
            self._mornings.clear()
        if not self._formers and not self._mornings:
            return empty(CHANGE_LOG)
        return snapshot.touched(since, ["bars"])

    def _forget(self, snapshot: Snapshot, asked: Asked) -> None:
        """Give up series that no longer ask for what they did, and values of definitions that mean something else now."""
        for key, former in list(self._formers.items()):
            group = asked.groups.get(key)
            stays = group is not None and all(map(is_same, group.wanted, former.wanted))
            gone = _beyond(former.series, group.series) if group is not None and stays else former.series
            if stays:
                self._formers[key] = former.without(gone) if len(gone) else former
            else:
                del self._formers[key]
            alive = gone.filter(gone.is_in(snapshot.series["series"].implode()))
            if len(alive) and key in snapshot.indicators:
                none = snapshot.indicators[key].parts[0].clear().drop("revision")
                self._session.set_indicators(*key, none, without=alive.to_list())
        kept = {(one.key, one.sessions) for one in asked.lookbacks}
        self._mornings = {key: morning for key, morning in self._mornings.items() if key in kept}

    def _compute(self, snapshot: Snapshot, group: Group, touched: pl.DataFrame) -> int:
        if group.key not in snapshot.panels:
            return 0
        former = self._formers.get((group.key, group.definitions)) or Former.nothing(group.wanted, group.columns)
        new, first = _beyond(group.series, former.series), _first_touched(touched, group)
        onward, fresh = self._fresh(snapshot, group, former.onward(first))
        whole = pl.concat([new, _beyond(first["series"], onward)]).unique().sort()
        made = []
        if len(whole):
            former, values = self._begun(snapshot, group, former, whole)
            made.append(_from(values, first.filter(~pl.col("series").is_in(new.implode()))))
        if fresh.height:
            former, values = self._extended(snapshot, group, former, fresh)
            made.append(values)
        self._formers[group.key, group.definitions] = former
        rows = pl.concat(made).sort("series", "ts") if made else None
        if rows is None or rows.is_empty():
            return 0
        return self._session.set_indicators(group.key, group.definitions, rows)

    def _fresh(self, snapshot: Snapshot, group: Group, last: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
        """Series that go on from their last bar (`series, ts`), and their bars after it."""
        if group.reach is None:
            last = last.clear()
        rows = snapshot.panels[group.key].between(Former.after(last))
        fresh = _bars(snapshot, group.key, rows, group.columns)
        if not group.usual:
            return last["series"], fresh
        # What is usual is read for one session at a time.
        several = fresh.group_by("series").agg(pl.col("session").n_unique()).filter(pl.col("session") > 1)["series"]
        return _beyond(last["series"], several), fresh.filter(~pl.col("series").is_in(several.implode()))

    def _begun(
        self, snapshot: Snapshot, group: Group, former: Former, series: pl.Series
    ) -> tuple[Former, pl.DataFrame]:
        """Values of all bars of these series."""
        bars = _bars(snapshot, group.key, _rows(snapshot.panels[group.key], series), group.columns)
        made = begin(bars, group.wanted)
        return former.without(series).seen(series).settled(made, bars, group.reach), made.select(group.values)

    def _extended(
        self, snapshot: Snapshot, group: Group, former: Former, fresh: pl.DataFrame
    ) -> tuple[Former, pl.DataFrame]:
        """Values of bars after the last ones, of series that go on from these."""
        series = fresh["series"].unique()
        bars = pl.concat([former.tail_of(series), fresh]).sort("series", "ts")
        made = extend(bars, former.last_of(series), group.near)
        if group.usual:
            former = self._morning(snapshot, group, former, fresh)
            made = against(made, former.usual, group.usual)
        return former.settled(made, bars, group.reach), made.select(group.values)

    def _morning(self, snapshot: Snapshot, group: Group, former: Former, fresh: pl.DataFrame) -> Former:
        """With what is usual in the session of these bars, for series that have come to another one."""
        current = fresh.select("series", "session").unique()
        stale = current.join(former.usual_for, on=["series", "session"], how="anti")
        for (session,), part in stale.group_by("session"):
            rows = _rows(snapshot.panels[group.key], part["series"])
            bars = _bars(snapshot, group.key, rows, group.columns)
            former = former.with_usual(part, usual(bars, session, group.usual))
        return former

    def _look_back(self, snapshot: Snapshot, one: Lookback, touched: pl.DataFrame) -> None:
        today, held = snapshot.session_date, snapshot.panels.get(one.key)
        if today is None or held is None:
            self._mornings.pop((one.key, one.sessions), None)
            return
        date, known = self._mornings.get((one.key, one.sessions), (None, one.series.clear()))
        wanted = one.series if date != today else _again(one, known, touched, today)
        self._mornings[one.key, one.sessions] = today, one.series
        if wanted.is_empty():
            return
        bars = _bars(snapshot, one.key, _rows(held, wanted), [*PLACED, "close", *USUAL_INPUTS])
        found = trailing(bars, today, one.sessions or ALL_SESSIONS)
        if found.height:
            self._session.set_trailing(one.key, found.with_columns(pl.lit(today).alias("before")))


def _beyond(series: pl.Series, others: pl.Series) -> pl.Series:
    return series.filter(~series.is_in(others.implode())) if len(others) else series


def _first_touched(touched: pl.DataFrame, group: Group) -> pl.DataFrame:
    """`series, first_ts` of the series of a group that were touched."""
    ours = (pl.col("interval") == str(group.key.interval)) & pl.col("series").is_in(group.series.implode())
    return touched.filter(ours).group_by("series").agg(pl.col("first_ts").min())


def _from(values: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    """Values from the first touched bar of each series on: what comes before it cannot have changed."""
    beside = values.join(first, on="series", how="left", maintain_order="left")
    return beside.filter(pl.col("first_ts").is_null() | (pl.col("ts") >= pl.col("first_ts"))).drop("first_ts")


def _again(one: Lookback, known: pl.Series, touched: pl.DataFrame, today: dt.date) -> pl.Series:
    """Series that are new, or were touched in a former session."""
    corrected = (pl.col("interval") == str(one.key.interval)) & (pl.col("session") < today)
    series = touched.filter(corrected)["series"]
    new = _beyond(one.series, known)
    return pl.concat([new, one.series.filter(one.series.is_in(series.implode()))]).unique().sort()


def _rows(held: Panel, series: pl.Series) -> pl.DataFrame:
    if len(series) <= FEW:
        return held.of_series(series.to_list())
    return held.where(pl.col("series").is_in(series.implode()))


def _bars(snapshot: Snapshot, key: PanelKey, rows: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """Rows of a panel that are in a slot, and shown: these columns, and whether each is over."""
    shown = pl.col("slot").is_not_null()
    if key.origin == "derived" and snapshot.incomplete == "drop":
        shown &= pl.col("complete")
    rows = rows.filter(shown)
    if snapshot.as_of is None:
        return rows.select(*columns, pl.lit(value=True).alias(ENDED))
    ends = with_ends(rows, snapshot.grid(key.spec, key.interval or Interval(1, "m")))["ts_end"]
    return rows.select(*columns, (ends <= snapshot.as_of).alias(ENDED))
