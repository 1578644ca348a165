"""Aggregate coverage for pictures: series by period, and series share by slot of day. Frames in, small columns out.

1. `periods` groups sessions into days, weeks, months or years, so that they are as few as a picture can hold.
2. `coverage` sums quality by series and period: the heatmap.
3. `slot_shares` lays the gaps of one calendar on the wall clock of its venue: which share of its series lacks each slot
   of the day, session by session. What all lack at once is an outage, and shows as a line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.interval import Interval
from engine.report.page_data import encode_numbers, encode_table, truncate_rows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_PERIODS, MOST_SERIES, MOST_CELLS = 130, 1_000, 60_000
CELLS = ("expected", "missing", "explained", "excluded", "filled")
MOST_DAYS, MOST_MARKS, MOST_MARK_BYTES = 260, 400, 20_000
PERIODS = {"1d": "session", "1w": "week", "1mo": "month", "1q": "quarter", "1y": "year"}
STEPS_MINUTES = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 240)
MINUTE_US = 60_000_000
LEAST = 1e-6
# A share in one character: the square of so many 61sts, so that one series of thousands is still seen, and never more
# than it is; a dot where no slot is.
ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.", np.uint8)
ALL, CLOSED = 61, 62


@dataclass(frozen=True)
class DaySlots:
    """Columns of one calendar's picture: slots of `step` minutes from `first` (minutes after midnight)."""

    first: int
    step: int
    slots: int


def choose_period(sessions: pl.Series, most: int) -> str:
    """Return the finest of day, week, month, quarter, year of which sessions fill at most `most`; none fits: `1y`."""
    counts = ((every, sessions.dt.truncate(every).n_unique()) for every in PERIODS)
    return next((every for every, count in counts if count <= most), "1y")


def coverage(series: pl.DataFrame, quality: pl.DataFrame) -> dict[str, object]:
    """Encode `CELLS` (sums of slots) per series (first 1,000; fewer if periods are many) and period.

    Parameters
    ----------
    series : DataFrame of `symbol, price_type, interval`
        In the order of the picture; the first `MOST_SERIES` are drawn, fewer where there are many periods.
    quality : DataFrame
        The table of an audit.
    """
    due = quality.filter(pl.col("expected") > 0)
    every = choose_period(due["session"], MOST_PERIODS)
    starts = due["session"].dt.truncate(every).unique().sort()
    rows = min(series.height, MOST_SERIES, MOST_CELLS // max(len(starts), 1))
    key = ["symbol", "price_type", "interval"]
    drawn = due.join(series.head(rows).select(*key).with_row_index("row"), on=key)
    at = drawn["row"].to_numpy() * len(starts) + starts.search_sorted(drawn["session"].dt.truncate(every)).to_numpy()
    sums = {name: sum_by_position(at, drawn[name], rows * len(starts)) for name in CELLS}
    return {
        "every": PERIODS[every],
        "periods": encode_table(starts.to_frame("start")),
        "rows": rows,
        "of": series.height,
        "cells": {name: encode_numbers(pl.Series(values)) for name, values in sums.items()},
    }


def slot_shares(
    series: pl.DataFrame,
    quality: pl.DataFrame,
    gaps: pl.DataFrame,
    segments: pl.DataFrame,
    zone: str,
    most_slots: int = 400,
) -> dict[str, object] | None:
    """Encode shares of series MISSING each slot of day per period, all and unexplained, and outages; nothing due: None.

    Parameters
    ----------
    series, quality, gaps, segments : DataFrame
        `series, quality, gaps, sessions` of an audit, of this calendar alone; `gaps` with `explained` (Boolean).
    zone : str
        The venue's.
    most_slots : int
        How many columns the picture may have.

    Returns
    -------
    dict, or None
        None where nothing was expected.
    """
    due = quality.filter(pl.col("expected") > 0)
    held = segments.join(due.select("session").unique(), on="session", how="semi")
    if held.is_empty():
        return None
    every = choose_period(held["session"], MOST_DAYS)
    rows = held["session"].dt.truncate(every).unique().sort()
    spans = with_venue_minutes(held, "segment_open", "segment_close", zone)
    day = choose_day_slots(spans, series["interval"], most_slots)
    wanted = spans.join(due.group_by("session").len("series"), on="session")
    owed = fill_slots(wanted, rows, every, day, wanted["series"].to_numpy().astype(np.float64))
    lost = with_venue_minutes(gaps, "gap_start", "gap_end", zone)
    raw = fill_slots(lost, rows, every, day, np.ones(lost.height))
    open_ = lost.filter(~pl.col("explained"))
    return {
        "every": PERIODS[every],
        "sessions": encode_table(rows.to_frame("start")),
        "series": series.height,
        "first": day.first,
        "step": day.step,
        "slots": day.slots,
        "raw": encode_shares(raw, owed),
        "adjusted": encode_shares(fill_slots(open_, rows, every, day, np.ones(open_.height)), owed),
        "marks": outage_marks(lost, rows, every, day),
    }


def sum_by_position(at: Ints, values: pl.Series, size: int) -> Ints:
    """Return `size` sums: element i is the sum of the values whose position `at` is i; nulls count as 0."""
    sums = np.zeros(size, np.int64)
    np.add.at(sums, at, values.fill_null(0).to_numpy())
    return sums


def with_venue_minutes(rows: pl.DataFrame, start: str, end: str, zone: str) -> pl.DataFrame:
    """Add `from`, `to`: venue minutes of `start`, `end` after midnight of the trade date; `to` is at least `from`."""
    # Minutes after midnight of the trade date by the venue's wall clock, so that a change of its clocks moves nothing.
    midnight = pl.col("session").cast(pl.Datetime("us"))
    since = {
        name: (pl.col(column).dt.convert_time_zone(zone).dt.replace_time_zone(None) - midnight).dt.total_microseconds()
        / MINUTE_US
        for name, column in (("from", start), ("to", end))
    }
    return rows.with_columns(**since).with_columns(pl.max_horizontal("from", "to").alias("to"))


def choose_day_slots(spans: pl.DataFrame, intervals: pl.Series, most: int) -> DaySlots:
    """Slots from first open to last close of the least step (1-240 min) >= the finest interval; `most`, if possible."""
    low, high = spans.select(pl.col("from").min().floor().cast(pl.Int64), pl.col("to").max().ceil().cast(pl.Int64)).row(
        0
    )
    finest = min((Interval.parse(text).seconds / 60 for text in intervals.drop_nulls().unique()), default=1)
    least = max(finest, (high - low) / most)
    step = next((s for s in STEPS_MINUTES if s >= least), STEPS_MINUTES[-1])
    first = low // step * step
    return DaySlots(first, step, max(-((first - high) // step), 1))


def fill_slots(spans: pl.DataFrame, rows: pl.Series, every: str, day: DaySlots, weight: Floats) -> Floats:
    """Rows x slots, `rows` ascending: the sum, over a period's spans, of weight times the share of the slot covered."""
    # How much of each slot the spans fill: a span's start adds what is left of its slot and all slots after it, its end
    # takes the same away; one running sum then covers everything between.
    width = day.slots + 2
    held = np.zeros(len(rows) * width)
    later = np.zeros_like(held)
    row = rows.search_sorted(spans["session"].dt.truncate(every)).to_numpy().astype(np.int64)
    for name, sign in (("from", 1.0), ("to", -1.0)):
        at = np.clip((spans[name].to_numpy() - day.first) / day.step, 0, day.slots)
        slot = at.astype(np.int64)
        np.add.at(held, row * width + slot, sign * weight * (slot + 1 - at))
        np.add.at(later, row * width + slot + 1, sign * weight)
    filled: Floats = (held + np.cumsum(later)).reshape(len(rows), width)[:, : day.slots]
    return filled


def encode_shares(missing: Floats, expected: Floats) -> str:
    """Return one character per slot: 61 x sqrt(missing / expected), above 0 if any is missing; a dot if none is due."""
    is_open = expected > LEAST
    share = np.divide(missing, expected, out=np.zeros_like(missing), where=is_open)
    level = np.clip(np.floor(np.sqrt(np.maximum(share, 0)) * ALL + LEAST), share > LEAST, ALL).astype(np.int64)
    return ALPHABET[np.where(is_open, level, CLOSED)].tobytes().decode()


def outage_marks(lost: pl.DataFrame, rows: pl.Series, every: str, day: DaySlots) -> dict[str, object]:
    """A mark per outage and period of ascending `rows`: first and last slot, id; the first 400, and how many in all."""
    outages = lost.filter(pl.col("outage_id").is_not_null()).with_columns(pl.col("session").dt.truncate(every))
    spans = (
        outages.group_by("session", "outage_id")
        .agg(pl.col("from").min(), pl.col("to").max())
        .sort("session", "from", "to", "outage_id", nulls_last=True)
    )
    slot = ((pl.col("from", "to") - day.first) / day.step).clip(0, day.slots)
    shown = truncate_rows(spans, MOST_MARKS, MOST_MARK_BYTES)
    row = pl.Series("row", rows.search_sorted(shown["session"]))
    return encode_table(shown.select(row, slot.name.keep().round(2), "outage_id"), spans.height)
