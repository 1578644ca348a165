"""Expected slots of a grid as arrays, for simulations that draw a value per slot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.grid import SessionGrid
from engine.schema import TS

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Run = tuple[int, int]


@dataclass(frozen=True)
class Slots:
    """Expected slots of a grid in order of time, as arrays; times are microseconds since 1970, UTC.

    Attributes
    ----------
    starts, ends : array of int64
        Of each slot; the end is exclusive.
    segment : array of int64
        Number of each slot's segment.
    bounds : array of int64
        First slot of each segment, and at last the number of slots.
    session : array of int64
        Number of each segment's session.
    dates : Series of Date
        Trade date of each session.
    """

    starts: Ints
    ends: Ints
    segment: Ints
    bounds: Ints
    session: Ints
    dates: pl.Series

    @classmethod
    def of(cls, grid: SessionGrid) -> Slots:
        """Slots of all due segments of an intraday grid, in order of time, with segment and session numbers."""
        due = grid.due()
        sizes = due["slots"].to_numpy().astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        segment = np.repeat(np.arange(len(sizes)), sizes)
        ordinal = due["ordinal"].gather(segment)
        slot = pl.Series((np.arange(bounds[-1]) - bounds[segment]).astype(np.int32))
        session = due["session"].rle_id().to_numpy().astype(np.int64)
        starts, ends = grid.starts(ordinal, slot), grid.ends(ordinal, slot)
        return cls(micros(starts), micros(ends), segment, bounds, session, due["session"].unique(maintain_order=True))

    def segments_of(self, session: int) -> Run:
        """Range `[first, end)` of the numbers of the segments of a session, by its number."""
        first, end = np.searchsorted(self.session, [session, session + 1])
        return int(first), int(end)

    def slots_of(self, session: int) -> Run:
        """Range `[first, end)` of the slot numbers of all segments of a session, by its number."""
        first, end = self.segments_of(session)
        return int(self.bounds[first]), int(self.bounds[end])

    def run_of(self, segment: int) -> Run:
        """Range `[first, end)` of the slot numbers of one segment, by its number."""
        return int(self.bounds[segment]), int(self.bounds[segment + 1])

    def later(self, slot: Ints, delay: Ints) -> Ints:
        """Number of the slot `delay` slots after each slot, clamped to the last slot of the same segment."""
        return np.asarray(np.minimum(slot + delay, self.bounds[self.segment[slot] + 1] - 1))


def instants(since_1970: Ints | pl.Series) -> pl.Series:
    """Microseconds since 1970 (UTC) as a Series of Datetime[us, UTC]."""
    series = since_1970 if isinstance(since_1970, pl.Series) else pl.Series(since_1970)
    return series.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def micros(ts: pl.Series) -> Ints:
    """A Series of instants as an int64 array of microseconds since 1970, UTC."""
    return ts.cast(TS).to_physical().to_numpy()
