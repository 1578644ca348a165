"""Segments for tests, made by hand: venues whose hours a reader can check in the head."""

from __future__ import annotations

import datetime as dt

import polars as pl
from engine.reference import DAY, MINUTE, Grid, Segment, slots
from engine.schema import SEGMENTS
from hypothesis import strategies as st

EPOCH = dt.date(1970, 1, 1)


def frame(segments: list[Segment]) -> pl.DataFrame:
    """Segments as a calendar gives them."""
    position: dict[dt.date, int] = {}
    rows = []
    for s in segments:
        position[s.session] = position.get(s.session, -1) + 1
        rows.append({
            "session": s.session, "ordinal": (s.session - EPOCH).days * 16 + position[s.session],
            "segment": s.label, "segment_open": s.open, "segment_close": s.close, "regular": s.regular,
        })  # fmt: skip
    return pl.DataFrame(rows, schema={**dict(SEGMENTS), "segment_open": pl.Int64, "segment_close": pl.Int64}).select(
        pl.col(name).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        if name.startswith("segment_")
        else pl.col(name)
        for name in SEGMENTS
    )


def at(session: dt.date, begin: int, end: int, label: str = "RTH", *, regular: bool = True) -> Segment:
    """A segment from one minute after midnight UTC to another."""
    midnight = (session - EPOCH).days * DAY
    return Segment(session, midnight + begin * MINUTE, midnight + end * MINUTE, label, regular)


def starts(segments: list[Segment], step: int = MINUTE) -> list[int]:
    """Starts of all slots."""
    grid = Grid(tuple(segments))
    return [slot.start for segment in segments for slot in slots(grid, segment, step)]


def days(first: dt.date, count: int, spans: list[tuple[int, int]]) -> list[Segment]:
    """Weekdays from `first`, each with the same spans (minutes after midnight UTC)."""
    out: list[Segment] = []
    day = first
    while len({s.session for s in out}) < count:
        if day.weekday() < 5:
            out += [at(day, a, b) for a, b in spans]
        day += dt.timedelta(days=1)
    return out


@st.composite
def venues(draw: st.DrawFn) -> list[Segment]:
    """Up to 12 sessions of one to three segments of odd lengths, some days without a session."""
    out: list[Segment] = []
    day = draw(st.integers(18_000, 20_000))
    for _ in range(draw(st.integers(1, 12))):
        day += draw(st.sampled_from([1, 1, 1, 3, 4]))
        start = draw(st.sampled_from([0, 570, 555]))
        for _ in range(draw(st.integers(1, 3))):
            length = draw(st.integers(1, 75))
            out.append(at(EPOCH + dt.timedelta(days=day), start, start + length))
            start += length + draw(st.integers(1, 40))
    return out
