"""Statistics of the sessions before a trade date: trailing averages and extremes, per session and per slot.

Only bars of sessions strictly before the date are read, so the session's own bars, or later ones, cannot change its
baseline. Sessions are those in which a series has bars; the calendar is not asked. Pure: frame in, frame out.
"""

from __future__ import annotations

import datetime as dt

import polars as pl

from engine.derive.series import (
    POSITION,
    RUN,
    RUN_OF_SESSION,
    SESSION_NUMBER,
    SLOT,
    check_columns,
    number_places,
    series_key,
    sort_bars,
    with_sessions,
)
from engine.errors import ParameterError

YEAR = dt.timedelta(days=364)  # 52 weeks
MEASURES = ("volume", "range", "close")


def session_baseline(bars: pl.DataFrame, before: dt.date, sessions: int) -> pl.DataFrame:
    """Per series: mean, max, min of session volume, range, close over its last `sessions` before a date; high, low, also 52-week.

    Parameters
    ----------
    bars : DataFrame
        `session, ts, high, low, close, volume` and the columns that identify a series (`series.SERIES`), in order of
        `ts` within each series, of any interval: bars are folded by session first. Later sessions are not read.
    before : date
        The trade date; only earlier sessions are read.
    sessions : int
        How many sessions, at most.

    Returns
    -------
    DataFrame
        One row per series with a bar before that date, in the order of the bars: the columns of the series;
        `sessions` (UInt32, how many there were), `first_session, last_session`; `average_, max_, min_` of `volume,
        range` (high - low) and `close` per session; `high, low` of those sessions; `high_52w, low_52w` of those within
        364 days. Volume is null where no bar has one.

    Raises
    ------
    ParameterError
        `sessions` is not positive.
    SchemaError
        A column is missing.
    SortednessError
        The rows of a series are out of order.
    """
    rows = bars_before(bars, before, sessions, ("high", "low", "close", "volume"))
    return baseline_of_sessions(session_summaries(rows), before, sessions)


def session_summaries(bars: pl.DataFrame) -> pl.DataFrame:
    """Per series and session with a bar: `session, high, low, close, volume, range`, after the columns of the series.

    Bars are those of `session_baseline`, of any sessions. Volume is null where no bar has one.
    """
    key = series_key(bars)
    check_columns(bars, ("session", "ts", "high", "low", "close", "volume"))
    rows = with_sessions(sort_bars(bars))
    volume = pl.when(pl.col("volume").is_not_null().any()).then(pl.col("volume").sum())
    identity = [pl.col(name).first() for name in (*key, "session")]
    prices = [pl.col("high").max(), pl.col("low").min(), pl.col("close").last()]
    by_session = rows.group_by(RUN_OF_SESSION, maintain_order=True).agg(*identity, *prices, volume.alias("volume"))
    return by_session.drop(RUN_OF_SESSION).with_columns((pl.col("high") - pl.col("low")).alias("range"))


def baseline_of_sessions(summaries: pl.DataFrame, before: dt.date, sessions: int) -> pl.DataFrame:
    """`session_baseline` of `session_summaries`, sorted by session within each series; later sessions are not read."""
    days = summaries.filter(pl.col("session") < before)
    key = series_key(days)
    last_year = pl.col("session") >= before - YEAR
    numbers = [
        how(pl.col(name).tail(sessions)).alias(f"{title}_{name}")
        for name in MEASURES
        for title, how in (("average", pl.Expr.mean), ("max", pl.Expr.max), ("min", pl.Expr.min))
    ]
    return days.group_by(key, maintain_order=True).agg(
        pl.col("session").tail(sessions).len().alias("sessions"),
        pl.col("session").tail(sessions).first().alias("first_session"),
        pl.col("session").last().alias("last_session"),
        *numbers,
        pl.col("high").tail(sessions).max(),
        pl.col("low").tail(sessions).min(),
        pl.col("high").filter(last_year).max().alias("high_52w"),
        pl.col("low").filter(last_year).min().alias("low_52w"),
    )


def slot_averages(bars: pl.DataFrame, before: dt.date, sessions: int) -> pl.DataFrame:
    """Per series, segment position, slot: mean volume and range over those of its last `sessions` before a date with that bar.

    Parameters
    ----------
    bars : DataFrame
        As for `session_baseline`, and `ordinal` with `slot` (`SessionGrid.place`) or with `segment_open` (the table
        `sessions`). Bars off the grid, with a null `slot`, are left out.
    before, sessions
        As for `session_baseline`.

    Returns
    -------
    DataFrame
        Sorted by series, `position` and `slot`: the columns of the series; `position` (Int32, the segment's in its
        session), `slot` (Int64, the bar's in its segment; microseconds since the open, from `segment_open`);
        `sessions` (UInt32, those with that bar), `average_volume, average_range` over them. A session without the bar,
        such as one that closed early, does not count.
    """
    key = series_key(bars)
    rows = number_places(with_sessions(sort_bars(bars_before(bars, before, sessions, ("high", "low", "volume")))))
    is_recent = pl.col(SESSION_NUMBER) > pl.col(SESSION_NUMBER).max().over(RUN) - sessions
    return (
        rows.filter(is_recent & pl.col(SLOT).is_not_null())
        .group_by(RUN, *key, pl.col(POSITION).alias("position"), pl.col(SLOT).alias("slot"))
        .agg(
            pl.len().alias("sessions"),
            pl.col("volume").mean().alias("average_volume"),
            (pl.col("high") - pl.col("low")).mean().alias("average_range"),
        )
        .sort(RUN, "position", "slot")
        .drop(RUN)
    )


def bars_before(bars: pl.DataFrame, before: dt.date, sessions: int, needed: tuple[str, ...]) -> pl.DataFrame:
    """Bars with `session` < `before`, however many; `sessions` is only validated (>= 1), a missing column raises SchemaError."""
    if sessions < 1:
        raise ParameterError(f"sessions: received {sessions}; valid: a whole number from 1")
    check_columns(bars, ("session", "ts", *needed))
    return bars.filter(pl.col("session") < before)
