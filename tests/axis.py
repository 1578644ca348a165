"""Segments for tests, made by hand: venues whose hours a reader can check in the head."""

from __future__ import annotations

import datetime as dt

import polars as pl
from engine.schema import SEGMENTS
from hypothesis import strategies as st

from tests.oracle import DAY, MINUTE, Segment

EPOCH = dt.date(1970, 1, 1)


def frame(segments: list[Segment], labels: list[str] | None = None, regular: list[bool] | None = None) -> pl.DataFrame:
    """Segments as a calendar gives them."""
    position: dict[int, int] = {}
    rows = []
    for at, s in enumerate(segments):
        position[s.day] = position.get(s.day, -1) + 1
        rows.append({
            "session": EPOCH + dt.timedelta(days=s.day), "ordinal": s.day * 16 + position[s.day],
            "segment": labels[at] if labels else "RTH", "segment_open": s.open, "segment_close": s.close,
            "regular": regular[at] if regular else True,
        })  # fmt: skip
    return pl.DataFrame(rows, schema={**dict(SEGMENTS), "segment_open": pl.Int64, "segment_close": pl.Int64}).select(
        pl.col(name).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        if name.startswith("segment_")
        else pl.col(name)
        for name in SEGMENTS
    )


def days(first: dt.date, count: int, spans: list[tuple[int, int]]) -> list[Segment]:
    """Weekdays from `first`, each with the same spans (minutes after midnight UTC)."""
    out: list[Segment] = []
    day = (first - EPOCH).days
    while len({s.day for s in out}) < count:
        if (EPOCH + dt.timedelta(days=day)).weekday() < 5:
            out += [Segment(day, day * DAY + a * MINUTE, day * DAY + b * MINUTE) for a, b in spans]
        day += 1
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
            out.append(Segment(day, day * DAY + start * MINUTE, day * DAY + (start + length) * MINUTE))
            start += length + draw(st.integers(1, 40))
    return out
