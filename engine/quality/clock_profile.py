"""When a series trades, by the clock: counts that say how its stamps were made. Pure: frame in, frame out.

A profile is a long frame of counts, so profiles of the parts of a lake add up (`summed`), and its size does not grow
with the rows. Each `facet` has its own `cell`:

1. `week`: quarter of an hour of the UTC week, 0 (Monday 00:00) to 671.
2. `minute`: minute of the hour of the stamp, 0 to 59; -1 for stamps between whole minutes.
3. `after_open`, `after_close`: whole steps from an edge of the session, -6 to 6; edges where one segment follows
   another at once are none. `open_edges`, `close_edges` (cell 0): edges with a row so near.
4. `days` (cell 0): UTC days with a row.

Everything is counted apart for each UTC offset of the venue, so that what changes with the season shows.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.grid import SessionGrid
from engine.schema import TS, Schema, empty

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FACETS = ("week", "minute", "after_open", "after_close", "open_edges", "close_edges", "days")
SERIES: Schema = {"symbol": pl.String(), "price_type": pl.String(), "interval": pl.String()}
PROFILE: Schema = {
    **SERIES,
    "facet": pl.Enum(FACETS),
    "offset": pl.Int16(),
    "cell": pl.Int16(),
    "rows": pl.Int64(),
    "volume": pl.Float64(),
}
KEY = [name for name in PROFILE if name not in ("rows", "volume")]

CELL_MINUTES = 15
WEEK_CELLS = 7 * 24 * 60 // CELL_MINUTES
NEAR_STEPS = 6
MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
MONDAY = 3 * 24 * 60 // CELL_MINUTES  # 1970 began on a Thursday
DAY_MINUTES = 24 * 60


def clock_profile(rows: pl.DataFrame, series: pl.DataFrame, grid: SessionGrid, zone: str) -> pl.DataFrame:
    """Count the rows of some series by the clock, those outside sessions included.

    Parameters
    ----------
    rows : DataFrame
        `series` (Int32), `ts` (Datetime us UTC), sorted by both; `volume` (Float64) where there is one.
    series : DataFrame
        `series, symbol, price_type, interval` of each number.
    grid : SessionGrid
        The axis of all of them, at their interval.
    zone : str
        IANA zone of the venue.

    Returns
    -------
    DataFrame of `PROFILE`
        `offset` is minutes east of UTC. `volume` counts 0 where it is null.
    """
    if rows.is_empty():
        return empty(PROFILE)
    at = rows["ts"].cast(pl.Int64).to_numpy()
    owner = _codes(rows["series"].to_numpy())
    moves, offsets = utc_offsets(zone, int(at.min()), int(at.max()))
    season = np.searchsorted(moves, at, side="right") - 1
    group = owner * len(offsets) + season
    volume = rows["volume"].fill_null(0.0).fill_nan(0.0).to_numpy() if "volume" in rows.columns else None
    counted = [*_by_clock(at, group, volume), _days(at, group)]
    if grid.interval.is_intraday:
        counted += _edges(at, group, volume, grid)
    numbers = rows["series"].to_numpy()[np.flatnonzero(np.diff(owner, prepend=-1))]
    return _named(pl.concat(counted), numbers, offsets, series)


def summed(profiles: list[pl.DataFrame]) -> pl.DataFrame:
    """One profile of several: the counts of all of them, in any order."""
    whole = pl.concat([empty(PROFILE), *profiles])
    return whole.group_by(KEY).agg(pl.col("rows", "volume").sum())


def utc_offsets(zone: str, first: int, last: int) -> tuple[Ints, Ints]:
    """From when on a zone has which offset: instants in microseconds, ascending, and minutes east of UTC."""
    hours = np.arange(first // HOUR_US, last // HOUR_US + 1) * HOUR_US
    stamps = pl.Series(hours).cast(TS)
    offset = (
        stamps.dt.convert_time_zone(zone).dt.replace_time_zone(None).cast(pl.Int64).to_numpy() - hours
    ) // MINUTE_US
    changes = np.flatnonzero(np.diff(offset, prepend=offset[0] + 1))
    return hours[changes], offset[changes]


def week_cells(instants: Ints) -> Ints:
    """Quarter of an hour of the UTC week of instants in microseconds."""
    cells: Ints = (instants // (CELL_MINUTES * MINUTE_US) + MONDAY) % WEEK_CELLS
    return cells


def true_edges(table: pl.DataFrame) -> tuple[Ints, Ints]:
    """Opens and closes of spans (`open`, `close`, sorted), without those where one span follows another at once."""
    opens, closes = (table[name].cast(TS).cast(pl.Int64).to_numpy() for name in ("open", "close"))
    joined = opens[1:] == closes[:-1]
    return opens[np.append([True], ~joined)[: len(opens)]], closes[np.append(~joined, [True])[: len(closes)]]


def _codes(series: NDArray[np.int32]) -> Ints:
    codes: Ints = np.cumsum(np.diff(series, prepend=series[:1]) != 0)
    return codes


def _by_clock(at: Ints, group: Ints, volume: Floats | None) -> list[pl.DataFrame]:
    minute = at // MINUTE_US
    small = minute.astype(np.int32)  # division of small numbers costs a fraction
    quarter = (small // CELL_MINUTES + MONDAY) % WEEK_CELLS
    of_hour = np.where(minute * MINUTE_US == at, small % 60, -1) + 1
    return [
        _counted("week", group, quarter, WEEK_CELLS, 0, volume),
        _counted("minute", group, of_hour, 61, -1, None),
    ]


def _days(at: Ints, group: Ints) -> pl.DataFrame:
    day = (at // MINUTE_US).astype(np.int32) // DAY_MINUTES
    begins = np.flatnonzero((np.diff(day, prepend=-1) != 0) | (np.diff(group, prepend=-1) != 0))
    return _counted("days", group[begins], np.zeros(len(begins), np.int64), 1, 0, None)


def _edges(at: Ints, group: Ints, volume: Floats | None, grid: SessionGrid) -> list[pl.DataFrame]:
    spans = grid.table.filter("chosen")
    found = []
    for name, seen, edges in zip(
        ("after_open", "after_close"), ("open_edges", "close_edges"), true_edges(spans), strict=True
    ):
        found += _near(name, seen, edges, at, group, volume, grid.interval.step_us)
    return found


def _near(
    name: str, seen: str, edges: Ints, at: Ints, group: Ints, volume: Floats | None, step: int
) -> list[pl.DataFrame]:
    if not len(edges):
        return []
    nearest = np.searchsorted(edges, at + NEAR_STEPS * step, side="right") - 1
    past = at - edges[np.maximum(nearest, 0)]
    near = np.flatnonzero((nearest >= 0) & (past < (NEAR_STEPS + 1) * step))
    steps, owner, edge = past[near] // step + NEAR_STEPS, group[near], nearest[near]
    heavy = None if volume is None else volume[near]
    begins = np.flatnonzero((np.diff(edge, prepend=-1) != 0) | (np.diff(owner, prepend=-1) != 0))
    return [
        _counted(name, owner, steps, 2 * NEAR_STEPS + 1, -NEAR_STEPS, heavy),
        _counted(seen, owner[begins], np.zeros(len(begins), np.int64), 1, 0, None),
    ]


def _counted(
    facet: str, group: Ints, cell: NDArray[np.integer], cells: int, lowest: int, volume: Floats | None
) -> pl.DataFrame:
    key = group * cells + cell
    rows = np.bincount(key)
    held = np.flatnonzero(rows)
    heavy = np.zeros(len(held)) if volume is None else np.bincount(key, weights=volume)[held].astype(np.float64)
    return pl.DataFrame({
        "facet": pl.repeat(facet, len(held), dtype=PROFILE["facet"], eager=True),
        "group": held // cells,
        "cell": (held % cells + lowest).astype(np.int16),
        "rows": rows[held],
        "volume": heavy,
    })  # fmt: skip


def _named(counted: pl.DataFrame, numbers: NDArray[np.int32], offsets: Ints, series: pl.DataFrame) -> pl.DataFrame:
    group = counted["group"].to_numpy()
    keyed = counted.with_columns(
        pl.Series("series", numbers[group // len(offsets)]),
        pl.Series("offset", offsets[group % len(offsets)].astype(np.int16)),
    )
    return keyed.join(series.select("series", *SERIES), on="series", how="inner").select(
        pl.col(name).cast(dtype) for name, dtype in PROFILE.items()
    )
