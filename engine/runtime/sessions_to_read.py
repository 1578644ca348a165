"""Sessions of an export that a session which goes on from it has to hold.

1. `sessions_to_read` begins with a trade date and makes its weeks and months whole (`whole_periods`).
2. Indicators of that date depend on bars before. Each of them says how many (`needs_of`): bars of its windows,
   contributions to its averages until earlier ones are below the last bit, sessions of a slot.
3. `first_session_needed` counts these in the exported bars, in ranges that double, until every symbol has them or none
   are left. The sessions before the first of `indicators_from` are held so that values are right from there on.

An indicator that depends on all bars before (a custom one without `lookback`) has all sessions read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from engine.derive.indicators import BEFORE, Indicator
from engine.export.tables import TABLES
from engine.grid import GridSpec, SessionGrid, whole_years
from engine.interval import Interval
from engine.runtime.indicator_groups import requested_panels
from engine.runtime.resume import Continuation, SessionsToRead
from engine.store.panel_key import PanelKey
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

FIRST_RANGE = dt.timedelta(days=8)
DAY = dt.timedelta(days=1)
EACH_BAR = pl.lit(value=True)
FIRST_OF_SESSION = pl.struct("symbol", "session").is_first_distinct()
ALWAYS_READ = ("symbol", "session", "ts", "close")


class Need(NamedTuple):
    """Number of bars with a property that a value depends on, besides its own bar.

    `is_counted` is an expression over bars in order of symbol and time, with `BEFORE`.
    """

    bars: int
    is_counted: pl.Expr


class Group(NamedTuple):
    """Symbols whose bars of one panel the same indicators are computed from."""

    key: PanelKey
    needs: tuple[Need, ...]
    symbols: tuple[SymbolSessionData, ...]


def sessions_to_read(
    past: Continuation, session: SessionData, symbols: Sequence[SymbolSessionData], day: dt.date
) -> SessionsToRead:
    """Sessions to read from an export so that `day` can be held: whole weeks and months, and what its indicators depend on.

    Parameters
    ----------
    past : Continuation
    session : SessionData
        Its calendars are used.
    symbols : sequence of SymbolSessionData
    day : date
    """
    first = whole_periods(session, symbols, day)
    exported = past.first_session
    if exported is None or exported >= first or not any(symbol.indicators for symbol in symbols):
        return SessionsToRead(first)
    needed = whole_periods(session, symbols, first_session_needed(past, session, symbols, first))
    return SessionsToRead(needed, first if exported < needed else None)


def whole_periods(session: SessionData, symbols: Sequence[SymbolSessionData], day: dt.date) -> dt.date:
    """First session from which on all periods are whole that `day` and later dates are in, of derived intervals from `1d` on.

    A week that lies in two months needs the earlier of them whole, too, and so on.
    """
    steps = {(one.spec, name) for one in symbols for name in one.derived_intervals}
    coarse = [(spec, step) for spec, name in steps for step in [Interval.parse(name)] if not step.is_intraday]
    while True:
        begin = min([day, *(first_of_period(session, spec, step, day) for spec, step in coarse)])
        if begin == day:
            return day
        day = begin


def first_of_period(session: SessionData, spec: GridSpec, step: Interval, day: dt.date) -> dt.date:
    """First session of the period of a step from `1d` on that `day` is in; `day` itself where it is in none."""
    segments = session.calendar(spec.calendar).segments_in_bounds(*whole_years(day, day))
    periods = SessionGrid.build(segments, step, spec).due()
    held = periods.filter((pl.col("first_session") <= day) & (pl.col("session") >= day))
    begins: list[dt.date] = held["first_session"].to_list()
    return min([day, *begins])


def needs_of(indicator: Indicator) -> tuple[Need, ...] | None:
    """What a value of the indicator depends on before its own session or bar; None: all bars before, or not known."""
    if indicator.sessions is not None:
        return (Need(indicator.sessions, FIRST_OF_SESSION),)
    if indicator.within == "session":
        return ()
    averages = indicator.running
    if indicator.within == "slot" or indicator.lookback is None or any(one.memory is None for one in averages):
        return None
    # One more: the first bar that is held has no bar before it.
    contributions = [(one, one.value.cast(pl.Float64)) for one in averages]
    return (
        Need(indicator.lookback, EACH_BAR),
        *(Need(one.warmup + (one.memory or 0) + 1, value.is_not_null() & (value != 0)) for one, value in contributions),
    )


def first_session_needed(
    past: Continuation, session: SessionData, symbols: Sequence[SymbolSessionData], before: dt.date
) -> dt.date:
    """First exported session that indicators of `before` and later depend on; `before` if they depend on none."""
    exported = past.first_session or before
    groups = indicator_groups(past, symbols)
    if groups is None:
        return exported
    needed, range_of_days = before, FIRST_RANGE
    while groups and needed > exported:
        begin = max(before - range_of_days, exported)
        pending = []
        for group in groups:
            found = sessions_reached(group, exported_bars(past, session, group, begin, before))
            late = []
            for symbol in group.symbols:
                reached = found.get(symbol.symbol)
                is_whole = begin == exported or past.symbols[symbol.symbol]["first_ts"].date() - DAY >= begin
                if reached is not None:
                    needed = min(needed, reached)
                elif is_whole:
                    needed = min(needed, max(past.symbols[symbol.symbol]["first_ts"].date() - DAY, exported))
                else:
                    late.append(symbol)
            if late:
                pending.append(group._replace(symbols=tuple(late)))
        groups, range_of_days = pending, 2 * range_of_days
    return needed


def indicator_groups(past: Continuation, symbols: Sequence[SymbolSessionData]) -> list[Group] | None:
    """Groups of the symbols that have exported rows and indicators with needs; None: one of these depends on all bars."""
    members: dict[tuple[PanelKey, frozenset[object]], list[SymbolSessionData]] = {}
    for symbol in symbols:
        if symbol.indicators and past.symbols.get(symbol.symbol, {}).get("first_ts") is not None:
            for key, definitions in requested_panels(symbol):
                if definitions:
                    members.setdefault((key, definitions), []).append(symbol)
    groups = []
    for (key, definitions), ours in members.items():
        needs = [needs_of(Indicator.parse(one)) for one in definitions]  # type: ignore[arg-type]
        whole = [need for one in needs if one is not None for need in one if need.bars]
        if None in needs or not columns_of(whole) <= TABLES["bars"].keys():
            return None
        if whole:
            groups.append(Group(key, tuple(whole), tuple(ours)))
    return groups


def columns_of(needs: Sequence[Need]) -> set[str]:
    """Columns of bars that the needs are counted by."""
    return {*ALWAYS_READ, *(name for need in needs for name in need.is_counted.meta.root_names())} - {BEFORE}


def exported_bars(
    past: Continuation, session: SessionData, group: Group, begin: dt.date, before: dt.date
) -> pl.DataFrame:
    """Exported bars in a slot of a group's symbols and panel in `[begin, before)`, by symbol and time, with `BEFORE`."""
    key = group.key
    series = pl.LazyFrame(
        [(one.symbol, one.price_type) for one in group.symbols], schema=["symbol", "price_type"], orient="row"
    )
    ours = pl.col("session").is_between(begin, before, closed="left") & (pl.col("origin") == key.origin)
    rows = (
        past.dataset.scan("bars")
        .filter(ours & (pl.col("interval") == str(key.grid_interval)))
        .join(series, on=["symbol", "price_type"], how="semi")
        .select(*sorted(columns_of(group.needs)))
        .collect()
        .sort("symbol", "ts")
    )
    segments = session.calendar(key.spec.calendar).segments_in_bounds(*whole_years(begin, before))
    places = SessionGrid.build(segments, key.grid_interval, key.spec).place(rows["ts"])
    return rows.filter(places["slot"].is_not_null()).with_columns(pl.col("close").shift(1).over("symbol").alias(BEFORE))


def sessions_reached(group: Group, rows: pl.DataFrame) -> Mapping[str, dt.date | None]:
    """Per symbol with rows the session from which on they have all that is needed; None: they have it not."""
    names = [f"need {number}" for number in range(len(group.needs))]
    counted = [need.is_counted.cast(pl.Int64).alias(name) for name, need in zip(names, group.needs, strict=True)]
    sums = (
        rows.with_columns(counted)
        .group_by("symbol", "session")
        .agg(pl.col(name).sum() for name in names)
        .sort("symbol", "session", descending=[False, True])
        .with_columns(pl.col(name).cum_sum().over("symbol") for name in names)
    )
    reached = sums.group_by("symbol").agg(
        pl.col("session").filter(pl.col(name) >= need.bars).max().alias(name)
        for name, need in zip(names, group.needs, strict=True)
    )
    complete = pl.all_horizontal(pl.col(name).is_not_null() for name in names)
    first = pl.when(complete).then(pl.min_horizontal(names)).alias("session")
    return dict(reached.select("symbol", first).iter_rows())
