"""Hours of dealers beside the holidays that all markets have: calendars cannot know them, since each broker has its own.

Currencies and contracts for difference trade around the clock, but for 25 December and 1 January. Brokers close
earlier before these days, and open later after them, some for a whole day. What every series of such a feed lacks there
at the edges of sessions was not traded.

Pure: frame in, frame out.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.grid import SessionGrid
from engine.quality.causes.coverage import KEY_RANGES
from engine.quality.causes.profiles import slot_keys
from engine.schema import Schema

HOLIDAY_SLOTS: Schema = {**KEY_RANGES, "cause": pl.String()}
DEALER_CALENDARS = ("FX", "GOLD_CFD", "24/5")
AROUND_THE_CLOCK = 20 * 3600  # seconds of a segment
HOLIDAYS = ((12, 25), (1, 1))


def is_dealer_feed(series: pl.DataFrame) -> bool:
    """Whether series (`calendar, price_type`) are those of a dealer: on a calendar of dealers, or quotes and no trades."""
    return bool(series["calendar"].is_in(DEALER_CALENDARS).all() or (series["price_type"] != "last").all())


def holiday_slots(runs: pl.DataFrame, axis: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """Edges of sessions beside 25 December and 1 January without a row of any series, sorted.

    Parameters
    ----------
    runs : DataFrame
        `ordinal, first, last` of the present slots of all series of the feed.
    axis : DataFrame
        `ordinal, slots` of the segments that are due, sorted.
    grid : SessionGrid
        Of the axis.

    Returns
    -------
    DataFrame of `HOLIDAY_SLOTS`
        Packed (ordinal, slot) ranges: `late_open` up to the first row, `early_close` from the last one on, and
        `calendar_suspect` for segments without any.
    """
    reached = runs.group_by("ordinal").agg(pl.col("first").min(), pl.col("last").max())
    sessions = grid.table.select("ordinal", "session")
    due = axis.join(sessions, on="ordinal", maintain_order="left")
    is_long = pl.col("slots") * grid.interval.seconds >= AROUND_THE_CLOCK
    near = due.filter(is_beside_holiday(due["session"])).filter(is_long)
    there = near.join(reached, on="ordinal", how="left", maintain_order="left")
    edges = [
        there.filter(pl.col("first") > 0).select("ordinal", low=0, high="first", cause=pl.lit("late_open")),
        there.filter(pl.col("last") + 1 < pl.col("slots")).select(
            "ordinal", low=pl.col("last") + 1, high="slots", cause=pl.lit("early_close")
        ),
        there.filter(pl.col("first").is_null()).select(
            "ordinal", low=0, high="slots", cause=pl.lit("calendar_suspect")
        ),
    ]
    whole = pl.concat(edges, how="vertical_relaxed")
    owner = np.zeros(whole.height, np.int64)
    keys = {
        name: slot_keys(owner, whole["ordinal"].to_numpy(), whole[edge].to_numpy())
        for name, edge in (("start", "low"), ("end", "high"))
    }
    return whole.select(pl.Series(name, key) for name, key in keys.items()).with_columns(whole["cause"]).sort("start")


def is_beside_holiday(session: pl.Series) -> pl.Series:
    """Mask sessions (sorted dates) that are a holiday, or have one on or before the next session, or since the last."""
    days = session.unique().sort()
    if days.is_empty():
        return pl.Series([], dtype=pl.Boolean)
    years = range(days[0].year, days[-1].year + 2)
    holidays = pl.Series([days[0].replace(year=year, month=month, day=day) for year in years for month, day in HOLIDAYS]).sort()  # fmt: skip
    before, after = days.shift(1).fill_null(days[0]), days.shift(-1).fill_null(days[-1])
    first = holidays.search_sorted(before, side="left")
    beside = first != holidays.search_sorted(after, side="right")
    return session.is_in(days.filter(beside).implode())
