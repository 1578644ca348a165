"""Gaps and quality of a store: found by the kernels, stored beside the rows they speak of.

1. `DataQualityManager.step` asks the store what was touched, what has become due, and whose lifetime has changed
   (`_affected`), and has each level of each cohort judge just that (`levels.Level.refresh`).
2. Symbols that are new are judged whole (`_judge_whole`).
3. `step` may be throttled: within `every` of the last one nothing is done, unless it is forced.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import polars as pl

from engine.derive.bars import PRESENCE, judged_at
from engine.grid import SessionGrid
from engine.interval import Interval
from engine.quality.gaps import GAPS
from engine.quality.score import QUALITY, quality_score
from engine.runtime.assessment import SERIES_SESSION, Affected, Held, Judged, Level, inherited
from engine.runtime.processor import RAW_KINDS, Cohort, Cohorts, asking
from engine.store.session_data import LEDGER_ORDER, DateRange, SessionData
from engine.store.snapshot import PanelKey, Snapshot
from engine.store.versioned_rows import VersionedRows

LIFETIME = {"series": pl.Int32(), "first": pl.Date(), "last": pl.Date()}
_NOTHING = Held(VersionedRows.empty(GAPS, LEDGER_ORDER["gaps"]), VersionedRows.empty(QUALITY, LEDGER_ORDER["quality"]))
NO_COUNTS = pl.DataFrame(schema={"series": pl.Int32(), "session": pl.Date()})


@dataclass(frozen=True)
class _Before:
    """What the last step saw: the store's revision, its as-of time, and the lifetimes by cohort."""

    revision: int
    as_of: dt.datetime | None
    alive: Mapping[tuple[object, ...], pl.DataFrame]


class _Lives(NamedTuple):
    """Lifetimes of a cohort, and what they were made of."""

    made_of: tuple[object, ...]
    state: tuple[object, ...]
    alive: pl.DataFrame


class DataQualityManager:
    """Keeps gaps and quality of a store in step with its rows. It knows no symbol: the store does.

    Parameters
    ----------
    session : SessionData
        Slots are due up to its `as_of`.
    dates : (date or None, date or None)
        First and last trade date to judge, both included; each symbol is judged within its lifetime.
    presence : Interval
        Where a base is finer than this, the slot coverage of derived intervals counts slots of this length.
    every : timedelta
        How much as-of time passes between two steps that are not forced.
    """

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
        self._cohorts = Cohorts()
        self._before = _Before(0, None, {})
        self._lifetimes: dict[tuple[object, ...], _Lives] = {}
        self._unasked: dict[PanelKey, Held] = {}
        self._rollbacks = session.rollbacks

    def step(self, *, force: bool = False) -> bool:
        """Judge what was touched or has become due since the last step; False when it was too early for that."""
        with self._session.transaction():
            if (
                self._session.rollbacks != self._rollbacks
            ):  # what was judged may be gone, and its revisions be others now
                self._before, self._unasked, self._rollbacks = _Before(0, None, {}), {}, self._session.rollbacks
            snapshot = self._session.snapshot()
            if not force and self._is_early(snapshot.as_of):
                return False
            whole = None if self._went_back(snapshot.as_of) else asking(snapshot, self._before.revision)
            touched = pl.DataFrame() if whole is None else snapshot.touched(self._before.revision, ("bars", "counts"))
            alive: dict[tuple[object, ...], pl.DataFrame] = {}
            for cohort in self._cohorts.of(snapshot):
                if cohort.key.spec in snapshot.axes:
                    alive[cohort.kind] = self._lifetimes_of(snapshot, cohort)
                    self._judge(snapshot, cohort, alive[cohort.kind], whole, touched)
            self._before = _Before(self._session.revision, snapshot.as_of, alive)
            return True

    def _lifetimes_of(self, snapshot: Snapshot, cohort: Cohort) -> pl.DataFrame:
        # They change with a session's first row and not with every one: what they are made of is the same object till then.
        made_of = (snapshot.symbols, snapshot.series, snapshot.observed_range, snapshot.excluded_range)
        state = (snapshot.session_active, snapshot.session_date)
        was = self._lifetimes.get(cohort.kind)
        if was and was.state == state and all(map(operator.is_, was.made_of, made_of)):
            return was.alive
        self._lifetimes[cohort.kind] = _Lives(made_of, state, lifetimes(snapshot, cohort, self._dates))
        return self._lifetimes[cohort.kind].alive

    def _is_early(self, as_of: dt.datetime | None) -> bool:
        was = self._before.as_of
        return was is not None and as_of is not None and was <= as_of < was + self._every

    def _went_back(self, as_of: dt.datetime | None) -> bool:
        was = self._before.as_of
        return as_of is not None and (was is None or as_of < was)

    def _judge(
        self, snapshot: Snapshot, cohort: Cohort, alive: pl.DataFrame, whole: frozenset[str] | None, touched: pl.DataFrame
    ) -> None:  # fmt: skip
        before = self._before.alive.get(cohort.kind)
        if before is not None:
            self._forget(snapshot, cohort, before.join(alive, on="series", how="anti")["series"])
        if whole is None or before is None:
            self._judge_whole(snapshot, cohort, alive)
            return
        new = alive.join(before, on="series", how="anti", maintain_order="left")
        again = snapshot.series_of(whole & set(cohort.symbols)) if whole else []
        fully = pl.col("series").is_in([*new["series"], *again])
        if new.height or again:
            self._judge_whole(snapshot, cohort, alive.filter(fully))
            alive, before = alive.filter(~fully), before.filter(~fully)
        self._judge_affected(
            snapshot, cohort, alive, _affected(snapshot, cohort, alive, before, self._before.as_of, touched)
        )

    def _judge_whole(self, snapshot: Snapshot, cohort: Cohort, alive: pl.DataFrame) -> None:
        if alive.is_empty():
            return
        ours = alive["series"].to_list()
        counts = self._counts(snapshot, cohort).filter(pl.col("series").is_in(ours))
        base, judged = self._level(snapshot, cohort, cohort.base), {}
        for interval in _in_order(cohort, self._presence):
            level = self._level(snapshot, cohort, interval)
            judged[interval], gaps = level.whole(snapshot, alive)
            held = self._held(snapshot, level)
            old, was = (ledger.frame.filter(pl.col("series").is_in(ours)) for ledger in held)
            self._keep("gaps", level, inherited(gaps, old), old)
            quality = self._scored(snapshot, cohort, level, judged, counts if level.key == base.key else None)
            self._keep("quality", level, quality, was)

    def _forget(self, snapshot: Snapshot, cohort: Cohort, gone: pl.Series) -> None:
        """Nothing is expected of these series any more, as rows of their symbol came as another one."""
        gone = gone.filter(
            gone.is_in(snapshot.series_of(cohort.symbols))
        )  # others are removed, or of another cohort now
        if gone.is_empty():
            return
        for interval in _in_order(cohort, self._presence):
            level = self._level(snapshot, cohort, interval)
            gaps, quality = (
                one.frame.filter(pl.col("series").is_in(gone.implode())) for one in self._held(snapshot, level)
            )
            self._keep("gaps", level, gaps.clear().drop("revision"), gaps)
            self._keep("quality", level, quality.clear().drop("revision"), quality)

    def _judge_affected(self, snapshot: Snapshot, cohort: Cohort, alive: pl.DataFrame, affected: Affected) -> None:
        if affected.sessions.is_empty():
            return
        counts = self._counts(snapshot, cohort).join(affected.sessions, on=SERIES_SESSION, how="semi")
        judged: dict[Interval, Judged] = {}
        for interval in _in_order(cohort, self._presence):
            level = self._level(snapshot, cohort, interval)
            here = affected._replace(touched=_touched(level, affected, cohort))
            held = self._held(snapshot, level)
            judged[interval], gone, come = level.refresh(snapshot, held, here, alive, self._before.as_of)
            self._keep("gaps", level, come, gone)
            quality = self._scored(snapshot, cohort, level, judged, counts if level.key == cohort.key else None)
            self._keep("quality", level, quality, held.quality.of_sessions(level.sessions_of(affected.sessions)))

    def _scored(
        self, snapshot: Snapshot, cohort: Cohort, level: Level, judged: Mapping[Interval, Judged], counts: pl.DataFrame | None
    ) -> pl.DataFrame:  # fmt: skip
        one = judged[level.interval]
        if counts is not None:
            return quality_score(one.wanted, one.lost, counts)
        if level.base is not None:
            return quality_score(one.wanted, one.lost, NO_COUNTS)
        judge = judged_at(cohort.base, level.interval, self._presence)
        judge_grid = snapshot.grid(cohort.key.spec, judge)
        coverage = level.coverage(snapshot, one.wanted, judged.get(judge, one), judge_grid)
        return quality_score(one.wanted, one.lost, NO_COUNTS, coverage)

    def _level(self, snapshot: Snapshot, cohort: Cohort, interval: Interval) -> Level:
        grid = snapshot.grid(cohort.key.spec, interval)
        asked = interval == cohort.base or interval in cohort.intervals
        return Level(cohort.of(interval), grid, None if asked else cohort.key)

    def _held(self, snapshot: Snapshot, level: Level) -> Held:
        if level.base is not None:
            return self._unasked.get(level.key) or _NOTHING
        gaps, quality = snapshot.gap_rows.get(level.key), snapshot.quality_rows.get(level.key)
        return Held(gaps or _NOTHING.gaps, quality or _NOTHING.quality)

    def _keep(self, what: Literal["gaps", "quality"], level: Level, rows: pl.DataFrame, replaced: pl.DataFrame) -> None:
        if level.base is None:
            store = self._session.set_gaps if what == "gaps" else self._session.set_quality
            store(level.key, rows, replaced)
            return
        held = self._unasked.get(level.key) or _NOTHING
        self._unasked[level.key] = held._replace(**{what: getattr(held, what).edited(replaced, rows, 0).ledger})

    def _counts(self, snapshot: Snapshot, cohort: Cohort) -> pl.DataFrame:
        return snapshot.counts.get(cohort.key, NO_COUNTS)


def assess_session(session: SessionData, dates: DateRange = (None, None), *, presence: Interval = PRESENCE) -> None:
    """Find and store gaps and quality of every series, at its base and each derived interval.

    As one step of a `DataQualityManager` that has seen nothing before.
    """
    DataQualityManager(session, dates, presence=presence).step(force=True)


def lifetimes(snapshot: Snapshot, cohort: Cohort, dates: DateRange) -> pl.DataFrame:
    """First and last session of each series that has base bars: its symbol's, whatever kind its rows are of.

    Rows that were left out because of their date count too: a symbol that traded before and after the dates that were
    asked for lived through them, also where it has no row in them. Rows outside the chosen segments do not stretch a
    lifetime (a last quote stamped 20:00 lies in the next session's overnight segment), unless a symbol has no others.
    A session that runs is one of every loaded symbol's. A symbol that is expected from a session on and has no bar lives
    from there to the last session in which the cohort has one: before that, nobody knows whether anything comes.

    Returns
    -------
    DataFrame of `series` (Int32), `first`, `last` (Date), sorted by series
    """
    keys = [cohort.key, *(cohort.raw(kind) for kind in RAW_KINDS)]
    reach = [known[key] for known in (snapshot.observed_range, snapshot.excluded_range) for key in keys if key in known]
    if not reach:
        return pl.DataFrame(schema=LIFETIME)
    by_symbol = (
        pl.concat(reach).join(snapshot.series, on="series").group_by("symbol")
        .agg(pl.coalesce(pl.col("first").min(), pl.col("any_first").min()).alias("first"),
             pl.coalesce(pl.col("last").max(), pl.col("any_last").max()).alias("last"))
    )  # fmt: skip
    running = snapshot.session_date if snapshot.session_active else None
    known = pl.DataFrame(
        [(s, one.first_session, one.last_session, one.expected_from, running if one.is_loaded else None)
         for s, one in ((s, snapshot.symbols[s]) for s in cohort.symbols)],
        schema={"symbol": pl.String, **dict.fromkeys(("given_first", "given_last", "expected", "running"), pl.Date)},
        orient="row",
    )  # fmt: skip
    begin, end = pl.lit(dates[0], pl.Date), pl.lit(dates[1], pl.Date)
    first = pl.max_horizontal(pl.coalesce("given_first", pl.min_horizontal("first", "expected")), begin)
    last = pl.min_horizontal(pl.coalesce("given_last", pl.max_horizontal("last", "running")), end)
    bars = [
        held[key].select("series", pl.coalesce("last", "any_last").alias("last"))
        for held, of in ((snapshot.observed_range, (cohort.key,)), (snapshot.excluded_range, _keys_of_bars(cohort)))
        for key in of if key in held
    ]  # fmt: skip
    if not bars:
        return pl.DataFrame(schema=LIFETIME)
    of_bars = pl.concat(bars)
    ours = snapshot.series.filter(pl.col("series").is_in(of_bars["series"].unique().implode()))
    unseen = _unseen(snapshot, known.join(ours, on="symbol", how="anti"))
    until = pl.min_horizontal(pl.lit(of_bars["last"].max(), pl.Date), "given_last", end)
    return pl.concat([
        ours.join(known, on="symbol").join(by_symbol, on="symbol")
        .select("series", first.alias("first"), last.alias("last")),
        unseen.select("series", pl.max_horizontal(pl.coalesce("given_first", "expected"), begin).alias("first"), until.alias("last"))
        .filter(pl.col("first") <= pl.col("last")),
    ]).sort("series")  # fmt: skip


def _unseen(snapshot: Snapshot, known: pl.DataFrame) -> pl.DataFrame:
    """Symbols that rows are expected of, with the series that those would be of."""
    wanted = known.filter(pl.col("expected").is_not_null())
    named = [(name, snapshot.symbols[name].price_type) for name in wanted["symbol"]]
    pairs = pl.DataFrame(named, schema={"symbol": pl.String, "price_type": pl.String}, orient="row")
    return wanted.join(pairs, on="symbol").join(snapshot.series, on=["symbol", "price_type"])


def _keys_of_bars(cohort: Cohort) -> tuple[PanelKey, ...]:
    # Trades have the number of the bars that are made of them; quotes one of their own.
    return (cohort.key, cohort.raw("ticks")) if cohort.key.origin == "derived" else (cohort.key,)


def _in_order(cohort: Cohort, presence: Interval) -> list[Interval]:
    """The intervals that are judged, and those whose slots completeness counts, finest first."""
    judges = {judged_at(cohort.base, interval, presence) for interval in cohort.intervals if interval.is_intraday}
    return sorted({cohort.base, *cohort.intervals, *judges})


def _affected(
    snapshot: Snapshot, cohort: Cohort, alive: pl.DataFrame, before: pl.DataFrame, was: dt.datetime | None, touched: pl.DataFrame
) -> Affected:  # fmt: skip
    ours = touched.filter(pl.col("series").is_in(alive["series"].implode()))
    asked = pl.col("interval").is_in([str(i) for i in (cohort.base, *cohort.intervals)])
    rows = ours.filter((pl.col("kind") == "bars") & asked)[["series", "session", "first_ts", "interval"]]
    grid = snapshot.grid(cohort.key.spec, cohort.base)
    now, then = grid.due(snapshot.as_of), grid.due(was)
    moved = now.filter(now["slots"] != then["slots"])["session"].unique()
    running = alive.join(moved.to_frame(), how="cross").filter(pl.col("session").is_between("first", "last"))
    fresh, past = _begun_and_ended(grid, alive, before)
    counted = pl.col("kind").is_in(["bars", "counts"]) & (pl.col("interval") == str(cohort.base))
    outlived = _outlived(snapshot, cohort, alive, was)
    every = pl.concat([ours.filter(counted)[SERIES_SESSION], running[SERIES_SESSION], fresh, past, *outlived])
    return Affected(every.unique().sort(SERIES_SESSION), rows, fresh)


def _begun_and_ended(grid: SessionGrid, alive: pl.DataFrame, before: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`series, session` of sessions that a lifetime holds now and did not before, and the other way round."""
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


def _outlived(
    snapshot: Snapshot, cohort: Cohort, alive: pl.DataFrame, was: dt.datetime | None
) -> Iterator[pl.DataFrame]:  # fmt: skip
    """Last sessions of series whose last week or month has become due after them."""
    for interval in cohort.intervals:
        if interval.is_intraday:
            continue
        grid = snapshot.grid(cohort.key.spec, interval)
        now, then = grid.due(snapshot.as_of), grid.due(was)
        moved = now.filter(now["slots"] != then["slots"]).select("session", "first_session")
        within = pl.col("last").is_between("first_session", "session", closed="left")
        yield alive.join(moved, how="cross").filter(within).select("series", pl.col("last").alias("session"))


def _touched(level: Level, affected: Affected, cohort: Cohort) -> pl.DataFrame:
    # What fills a level that is no panel of its own are base rows.
    interval = level.interval if level.base is None else cohort.base
    return affected.touched.filter(pl.col("interval") == str(interval)).drop("interval")
