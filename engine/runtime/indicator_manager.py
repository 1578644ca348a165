"""Indicators of a store and what its former sessions were like: computed from its bars, stored beside them.

Series of one panel whose symbols ask for the same indicators (a group) go through the kernels together.

1. `IndicatorManager.step` asks the store what was touched since it last looked, and who asks for what (`Asking`).
2. Of each group, series that go on from where they stood are computed from there (`_extended`): from the last bar that is
   over, and the bars before it that windows reach back to (`former.Former`). Bars in progress are computed again each time.
3. A series that is new, that was touched at or before its last bar, or whose averages have no first value yet, is computed
   whole (`_begun`); so are those with an indicator that does not say how far it reaches back.
4. What the sessions before the current one were like is looked up when it becomes current, and again for series that
   are touched in one of these (`_look_back`).
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import polars as pl

from engine.derive.history import trailing
from engine.derive.indicators import Indicator
from engine.derive.passes import begin, extend, lookback
from engine.derive.usual import against, usual
from engine.errors import ParameterError, SchemaError
from engine.interval import Interval
from engine.panel import Panel
from engine.runtime.former import ENDED, Former
from engine.schema import empty
from engine.snapshot import LOGGED, PANELS, IndicatorKey, PanelKey, Snapshot, SymbolSessionData, layout
from engine.store import SessionData
from engine.views import with_ends

PLACED = ("series", "session", "ordinal", "slot", "ts")
USUAL_INPUTS = ("high", "low", "volume")
ALL_SESSIONS = 1_000_000
FEW = 64  # so many series are cut out one by one, more of them in one pass

K = TypeVar("K")


@dataclass(frozen=True, eq=False)
class Group:
    """Series of one panel that the same indicators are computed for.

    Attributes
    ----------
    key : PanelKey
        Their bars.
    definitions : frozenset
        As their symbols name them.
    wanted : tuple of Indicator
        What these mean, by name.
    series : Series of Int32
    """

    key: PanelKey
    definitions: frozenset[Hashable]
    wanted: tuple[Indicator, ...]
    series: pl.Series

    @cached_property
    def usual(self) -> tuple[Indicator, ...]:
        """Those that hold a bar against its slot in former sessions."""
        return tuple(one for one in self.wanted if one.sessions is not None)

    @cached_property
    def near(self) -> tuple[Indicator, ...]:
        """The others."""
        return tuple(one for one in self.wanted if one.sessions is None)

    @cached_property
    def reach(self) -> int | None:
        """How many bars up to the last one they look at; None when that is not known."""
        return lookback(self.near)

    @cached_property
    def columns(self) -> dict[str, pl.DataType]:
        """What is read of each bar.

        Raises
        ------
        SchemaError
            The panel does not have it.
        """
        has = PANELS[layout(self.key)]
        inputs = {name for one in self.wanted for name in one.inputs} | {*(USUAL_INPUTS if self.usual else ())}
        if lacking := sorted(inputs - {*has}):
            raise SchemaError(
                f"indicators: {', '.join(map(str, self.wanted))} of {self.key.interval} read {', '.join(lacking)}; "
                f"stored bars have {', '.join(has)}"
            )
        return {name: has[name] for name in (*PLACED, *sorted(inputs - {*PLACED}))}

    @property
    def values(self) -> list[str]:
        """What is stored of each bar."""
        return ["series", "session", "ts", *(name for one in self.wanted for name in one.columns)]


class Lookback(NamedTuple):
    """Series of one panel that have as many sessions for a history."""

    key: PanelKey
    sessions: int
    series: pl.Series


@dataclass(frozen=True, eq=False)
class Asked:
    """Who asks for what."""

    groups: Mapping[IndicatorKey, Group]
    lookbacks: tuple[Lookback, ...]


Seen = tuple[int, dt.date | None, Asked | None]  # the revision and the session of the last step, and who asked then
NOTHING_SEEN: Seen = (0, None, None)


class Asking:
    """Who asks for what in a store, found anew only when symbols or series have come or gone."""

    def __init__(self) -> None:
        self._symbols: Mapping[str, SymbolSessionData] | None = None
        self._numbers: tuple[int, int] = (0, 0)
        self._found = Asked({}, ())

    def of(self, snapshot: Snapshot) -> Asked:
        """The same object while nothing has changed."""
        # Numbers only grow: as many as before, up to the same, are the same.
        numbers = (snapshot.series.height, snapshot.series["series"].max() or 0)
        if snapshot.symbols is not self._symbols or numbers != self._numbers:
            self._symbols, self._numbers = snapshot.symbols, numbers  # type: ignore[assignment]
            self._found = asked_of(snapshot)
        return self._found


def asked_of(snapshot: Snapshot) -> Asked:
    """The groups of a store, and the histories of symbols that have one or ask for an indicator.

    Raises
    ------
    ParameterError
        A definition means nothing, or two of one name differ.
    """
    asking = [one for one in snapshot.symbols.values() if one.indicators or one.history_sessions]
    if not asking:
        return Asked({}, ())
    meant = _meant(asking)
    groups: dict[IndicatorKey, list[SymbolSessionData]] = defaultdict(list)
    lookbacks: dict[tuple[PanelKey, int], list[SymbolSessionData]] = defaultdict(list)
    known: dict[tuple[object, ...], list[IndicatorKey]] = {}
    for one in asking:
        # Symbols are many, ways to ask are few.
        way = one.base_key, one.derived_intervals, one.indicators
        panels = known.get(way) or known.setdefault(way, _panels(one))
        for key, definitions in panels:
            lookbacks[key, one.history_sessions].append(one)
            if definitions:
                groups[key, definitions].append(one)
    return Asked(
        {key: Group(*key, _by_name(key[1], meant), series) for key, series in _numbered(groups, snapshot).items()},
        tuple(Lookback(*key, series) for key, series in _numbered(lookbacks, snapshot).items()),
    )


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
            A definition means nothing, or two of one name differ.
        """
        with self._session.together():
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
            return empty(LOGGED)
        return snapshot.touched(since).filter(pl.col("kind") == "bars")

    def _forget(self, snapshot: Snapshot, asked: Asked) -> None:
        """Give up series that no longer ask for what they did, and values of definitions that mean something else now."""
        for key, former in list(self._formers.items()):
            group = asked.groups.get(key)
            stays = group is not None and all(map(_is_same, group.wanted, former.wanted))
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


def _meant(asking: Iterable[SymbolSessionData]) -> dict[Hashable, Indicator]:
    """What definitions mean."""
    meant: dict[Hashable, Indicator] = {}
    names: dict[str, Indicator] = {}
    for given in (definition for one in asking for definition, _ in one.indicators):
        if isinstance(given, str) and given in meant:
            continue
        one = meant[given] = Indicator.parse(given)  # type: ignore[arg-type]
        held = names.setdefault(one.name, one)
        if not _is_same(held, one):
            raise ParameterError(
                f"indicators: two definitions are called {one.name}; valid: one of each name in all the symbols of a session"
            )
    return meant


def _is_same(one: Indicator, other: Indicator) -> bool:
    if one is other or (one.text and one == other and one.text == other.text):
        return True
    mine, its = one.expressions, other.expressions
    return (
        (one.name, one.within, one.lookback, len(mine)) == (other.name, other.within, other.lookback, len(its))
        and all(a.meta.eq(b) for a, b in zip(mine, its, strict=True))
    )  # fmt: skip


def _by_name(definitions: Iterable[Hashable], meant: Mapping[Hashable, Indicator]) -> tuple[Indicator, ...]:
    return tuple(sorted({meant[one] for one in definitions}, key=lambda one: one.name))


def _panels(one: SymbolSessionData) -> list[IndicatorKey]:
    """Each panel of a symbol, with what it asks for there."""
    return [(one.key_of(i), one.definitions_of(i)) for i in (one.base_interval, *one.derived_intervals)]


def _numbered(members: Mapping[K, list[SymbolSessionData]], snapshot: Snapshot) -> dict[K, pl.Series]:
    """The series of the price type of each symbol; without those that have none."""
    names = [(at, one.symbol, one.price_type) for at, group in enumerate(members.values()) for one in group]
    schema = {"at": pl.Int64, "symbol": pl.String, "price_type": pl.String}
    series = pl.DataFrame(names, schema=schema, orient="row").join(snapshot.series, on=["symbol", "price_type"])
    keys = list(members)
    parts = series.sort("at", "series").partition_by("at", as_dict=True, maintain_order=True)
    return {keys[at]: part["series"] for (at,), part in parts.items()}


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
