"""Minutes that every session lacks: found where they were taken out, and not in series that trade at random."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
from engine.quality.causes.outages import find_recurring, habit_steps
from engine.schema import SEGMENTS_PER_SESSION

SLOTS = 390
WEEKDAYS = 5


def recurring(
    chance: float, sessions: int, rng: np.random.Generator, hole: slice | None = None, weekday: int | None = None
) -> pl.DataFrame:
    """Ranges found in one series that has a bar in each minute with `chance`, and none in `hole` (of one weekday)."""
    days = [day for day in range(2 * sessions) if day % 7 < WEEKDAYS][:sessions]

    def runs() -> Iterator[tuple[int, int, int]]:
        for day in days:
            there = rng.random(SLOTS) < chance * np.exp(rng.normal(0, 0.3))
            if hole is not None and weekday in (None, day % 7):
                there[hole] = False
            edges = np.flatnonzero(np.diff(np.concatenate([[False], ~there, [False]])))
            yield from (
                (day * SEGMENTS_PER_SESSION, first, end - first) for first, end in edges.reshape(-1, 2).tolist()
            )

    gaps = pl.DataFrame(list(runs()), schema=["ordinal", "slot", "bar_count"], orient="row")
    gaps = gaps.cast(pl.Int32).with_columns(series=pl.lit(0, pl.Int32), known=pl.lit(None, pl.String))
    segments = pl.DataFrame({"ordinal": [day * SEGMENTS_PER_SESSION for day in days]}, schema={"ordinal": pl.Int32})
    due = segments.with_columns(series=pl.lit(0, pl.Int32), slots=pl.lit(SLOTS, pl.Int32))
    group = pl.DataFrame({"series": [0], "group": [0]}, schema={"series": pl.Int32, "group": pl.Int32})
    return find_recurring(habit_steps(gaps, due, group), segments)


def test_a_series_that_trades_at_random_has_no_recurring_gaps() -> None:
    rng = np.random.default_rng(11)
    worlds = [(chance, sessions) for chance in (0.05, 0.1, 0.2, 0.4) for sessions in (12, 25, 40)]
    assert sum(recurring(chance, sessions, rng).height for chance, sessions in worlds) == 0


@pytest.mark.parametrize(
    ("chance", "sessions", "hole"),
    [(0.9, 10, slice(150, 210)), (0.6, 5, slice(150, 210)), (0.9, 6, slice(0, 5)), (0.98, 10, slice(389, 390))],
)
def test_a_pause_of_every_session_is_found(chance: float, sessions: int, hole: slice) -> None:
    found = recurring(chance, sessions, np.random.default_rng(12), hole)
    [(first, end)] = found.select("first", "end").rows()
    assert first <= hole.start
    assert end >= hole.stop
    assert end - first <= hole.stop - hole.start + 3  # silence beside it may join


def test_fridays_that_end_early_are_found() -> None:
    found = recurring(0.98, 40, np.random.default_rng(13), slice(330, SLOTS), weekday=4)
    assert found.height
    assert set(found.select("first", "end", "closes").rows()) == {(330, SLOTS, True)}
