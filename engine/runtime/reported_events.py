"""Halts and incidents that files report, as slots of series whose cause is known (`audit.survey.KNOWN`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from engine.audit.pipeline import axis_of, peer_groups
from engine.audit.survey import FILES, KNOWN, Survey
from engine.calendars.providers import calendar
from engine.checks.refused import count_refused, sum_refused
from engine.grid import GridSpec, SessionGrid, microseconds, whole_years
from engine.interval import Interval
from engine.keys import expand_ranges
from engine.quality.causes.attribution import KNOWN as SURE_OF_IT
from engine.quality.causes.cause_table import LOSSES
from engine.quality.causes.evidence_order import RANKS, disjoint
from engine.quality.causes.interruptions import slots_inside
from engine.schema import SEGMENTS_PER_SESSION, empty
from engine.sources.event_files import EVENTS, EventRows

PLACED = ["series", "ordinal", "first", "last", "cause", "evidence", "event"]


def with_reported_events(survey: Survey, rows: EventRows) -> Survey:
    """The survey with `KNOWN` slots of halts and incidents, the files they come from, and their refused rows.

    Symbols are compared without case. An event of all symbols counts from the first to the last session of each series.
    """
    files = pl.DataFrame([(name, count, None, None) for name, count in rows.files], schema=dict(FILES), orient="row")
    groups = list(peer_groups(survey.series)) if rows.events.height else []
    return replace(
        survey,
        known=pl.concat([survey.known, *(event_slots(group, rows.events) for group in groups)]),
        files=pl.concat([survey.files, files]),
        refused=sum_refused([survey.refused, count_refused(rows.rejects)]),
    )


def event_slots(group: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """`KNOWN` slots of the series of a peer group at least half of which lie inside an event."""
    axis = axis_of(group)
    interval = Interval.parse(axis.interval)
    first: Any = group["first"].min()
    last: Any = group["last"].max()
    if first is None or last is None:
        return empty(KNOWN)
    is_usual = interval.is_intraday or interval.count == 1
    dates = (first, last) if is_usual else whole_years(first, last)
    segments = calendar(axis.calendar).segments_in_bounds(*dates)
    grid = SessionGrid.build(segments, interval, GridSpec(*axis[:-1]))  # type: ignore[arg-type]
    placed = pl.concat([named_slots(group, events, grid), common_slots(group, events, grid)])
    kind = pl.when(pl.col("cause").is_in(LOSSES)).then(RANKS["incident"]).otherwise(RANKS["halt"])
    return placed.with_columns(kind.alias("rank"), pl.lit(SURE_OF_IT).alias("confidence")).select(
        pl.col(name).cast(dtype) for name, dtype in KNOWN.items()
    )


def named_slots(group: pl.DataFrame, events: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """`PLACED` of events that name a symbol, under the series of that symbol."""
    names = group.select("series", pl.col("symbol").str.to_lowercase().alias("key"))
    keyed = events.with_columns(pl.col("symbol").str.to_lowercase().alias("key"))
    own = keyed.join(names, on="key").select("series", *EVENTS)
    return slots_of_spans(united_events(with_open_ends(own, grid)), grid).select(PLACED)


def common_slots(group: pl.DataFrame, events: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """`PLACED` of events of all symbols, under each series from its first to its last session."""
    common = events.filter(pl.col("symbol").is_null()).select(pl.lit(-1, pl.Int32).alias("series"), *EVENTS)
    # They are placed once: each series gets a copy of the slots, of which there are no more than the grid has.
    placed = disjoint(slots_of_spans(united_events(with_open_ends(common, grid)), grid)).drop("series")
    lives = group.select("series", pl.col("first", "last").cast(pl.Int32).name.suffix("_day"))
    copies = placed.join(lives, how="cross")
    day = pl.col("ordinal") // SEGMENTS_PER_SESSION
    return copies.filter(day.is_between("first_day", "last_day")).select(PLACED)


def with_open_ends(events: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """Events with an end each: an open one ends at the close of its session, or of the next one; a halt at a resumption before."""
    closes = (
        grid.table.filter("chosen").group_by("session").agg(pl.col("close").max()).sort("close")["close"]
    )  # fmt: skip
    at = np.searchsorted(microseconds(closes), microseconds(events["start"]), side="right")
    following = closes.gather(np.minimum(at, max(len(closes) - 1, 0))) if len(closes) else events["start"]
    closed = events.with_columns(following.alias("close")).with_row_index("at")
    # Another row of the same halt, or of one that came after it, says that the symbol trades again.
    halts = closed.filter(pl.col("cause") == "halt")
    resumed = halts.select("series", pl.col("end").alias("resumption")).drop_nulls().sort("resumption")
    begun = halts.filter(pl.col("end").is_null()).select("at", "series", "start").sort("start")
    next_of = begun.join_asof(
        resumed, left_on="start", right_on="resumption", by="series", strategy="forward", allow_exact_matches=False
    )
    told = closed.join(next_of.select("at", "resumption"), on="at", how="left", maintain_order="left")
    end = pl.coalesce("end", pl.min_horizontal("close", "resumption"))
    return told.with_columns(end.alias("end")).drop("at", "resumption")


def united_events(events: pl.DataFrame) -> pl.DataFrame:
    """Events of one series and cause that overlap as one, described by the first; the events must have ends."""
    by = ["series", "cause"]
    ordered = events.sort(*by, "start", "end", "event", nulls_last=True)
    reach = pl.col("end").cum_max().shift(1).over(by)
    number = (pl.col("start") >= reach).fill_null(value=True).cum_sum().alias("number")
    about = [pl.col(name).first() for name in ("evidence", "event")]
    return (
        ordered.group_by(*by, number, maintain_order=True)
        .agg(pl.col("start").min(), pl.col("end").max(), *about)
        .drop("number")
    )


def slots_of_spans(spans: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """Spans cut at segments: `ordinal, first, last` of the slots at least half of which lie in [start, end); others are gone."""
    table = grid.table.filter("chosen")
    opens, closes = microseconds(table["open"]), microseconds(table["close"])
    start, end = microseconds(spans["start"]), microseconds(spans["end"])
    low = np.searchsorted(closes, start, side="right")
    count = np.maximum(np.searchsorted(opens, end, side="left") - low, 0)
    count = np.where(end > start, count, 0)
    which, at = np.repeat(np.arange(len(start)), count), expand_ranges(low[count > 0], count[count > 0])
    begun, ended = np.maximum(start[which], opens[at]), np.minimum(end[which], closes[at])
    ordinal = table["ordinal"].gather(at)
    first, last = slots_inside(ordinal, begun, ended, grid)
    placed = spans[which].with_columns(ordinal, pl.Series("first", first, pl.Int32), pl.Series("last", last, pl.Int32))
    return placed.filter(pl.col("first") <= pl.col("last"))
