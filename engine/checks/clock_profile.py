"""Clock profiles: counts of rows by the clock, which show how stamps were made. Pure: frame in, frame out.

A profile is a long frame of counts, so profiles of the parts of a lake add up (`combine_profiles`), and its size does not grow
with the rows. Each `facet` has its own `cell`:

1. `week`: quarter of an hour of the UTC week, 0 (Monday 00:00) to 671.
2. `minute`: minute of the hour of the stamp, 0 to 59; -1 for stamps between whole minutes.
3. `second`: second of the minute of the stamps between whole minutes, 0 to 59, of intervals of whole minutes.
4. `after_open`, `after_close`: whole steps from an edge of the session, -6 to 6; edges where one segment follows
   another at once are none. `open_edges`, `close_edges` (cell 0): edges with a row so near.
5. `days` (cell 0): UTC days with a row.

Everything is counted apart for each UTC offset of the venue, so that what changes with the season shows; and for each
`season`, in which no zone of `DST_ZONES` changes its clocks either, so that calendars of other zones can be tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.checks.check import SERIES, Frames, MeasureInput, Measurement
from engine.grid import SessionGrid
from engine.interval import Interval
from engine.keys import Ints, number_ranges
from engine.quality.contiguous_runs import ContiguousRuns, Floats, run_starts
from engine.schema import TS, Schema, empty

FACETS = ("week", "minute", "second", "after_open", "after_close", "open_edges", "close_edges", "days")
PROFILE: Schema = {
    **SERIES,
    "facet": pl.Enum(FACETS),
    "offset": pl.Int16(),
    "season": pl.Int16(),
    "cell": pl.Int16(),
    "rows": pl.Int64(),
    "volume": pl.Float64(),
}
KEY = [name for name in PROFILE if name not in ("rows", "volume")]

CELL_MINUTES = 15
WEEK_CELLS = 7 * 24 * 60 // CELL_MINUTES
NEAR_STEPS = 6
SECOND_US, MINUTE_US, HOUR_US = 1_000_000, 60_000_000, 3_600_000_000
QUARTER_US = CELL_MINUTES * MINUTE_US
QUARTERS = 24 * 60 // CELL_MINUTES
MONDAY = 3 * QUARTERS  # 1970 began on a Thursday
DST_ZONES = ("America/New_York", "Europe/London", "Australia/Sydney")  # the rules of most venues that change clocks


def clock_profile(rows: pl.DataFrame, series: pl.DataFrame, grid: SessionGrid, zone: str) -> pl.DataFrame:
    """Count sorted rows and volume by series, venue UTC offset and clock facet; edges only if intraday; no rows: empty.

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
        `offset` is minutes east of UTC, `season` as `season_numbers` has it. `volume` counts 0 where it is null.
    """
    if rows.is_empty():
        return empty(PROFILE)
    heads = run_starts(rows["series"].to_numpy())
    whole = ContiguousRuns.of(rows["ts"], heads, stride_step(grid.interval))
    moves, clocks, clock_at = clock_periods(zone, int(whole.first.min()), int(whole.last.max()))
    low, high = (np.searchsorted(moves, at, side="right") - 1 for at in (whole.first, whole.last))
    strides, period = whole.cut(low, high, lambda cell: moves[cell])
    first_of_series = (np.searchsorted(heads, strides.row, side="right") - 1) * len(clocks)
    group = first_of_series + clock_at[period]
    # Days and edges count once per offset, whatever changes its clocks elsewhere.
    once = first_of_series + np.searchsorted(clocks[:, 0], clocks[clock_at[period], 0])
    volume = without_nulls(rows["volume"]) if "volume" in rows.columns else None
    counted = [*count_by_quarter(strides, group, once, volume), count_by_minute(strides, group)]
    if grid.interval.is_intraday and grid.interval.step_us % MINUTE_US == 0:
        counted.append(count_by_second(strides, group))
    if grid.interval.is_intraday:
        counted += count_near_edges(strides, group, once, volume, grid)
    return with_series_names(pl.concat(counted), rows["series"].to_numpy()[heads], clocks, series)


def combine_profiles(profiles: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Concatenate profiles; series that occur in several get `rows` and `volume` summed by key."""
    whole = pl.concat([empty(PROFILE), *profiles])
    # Only a series that several parts have is to be added up.
    names = pl.concat([empty(SERIES), *(one.select(list(SERIES)).unique() for one in profiles)])
    shared = names.filter(names.is_duplicated()).unique()
    if shared.is_empty():
        return whole
    both = whole.join(shared, on=list(SERIES), how="semi").group_by(KEY).agg(pl.col("rows", "volume").sum())
    return pl.concat([whole.join(shared, on=list(SERIES), how="anti"), both])


def utc_offsets(zone: str, first: int, last: int) -> tuple[Ints, Ints]:
    """Return (full UTC hours in us from which each offset holds, ascending; minutes east) in `first`..`last`."""
    hours = np.arange(first // HOUR_US, last // HOUR_US + 1) * HOUR_US
    stamps = pl.Series(hours).cast(TS)
    offset = (
        stamps.dt.convert_time_zone(zone).dt.replace_time_zone(None).cast(pl.Int64).to_numpy() - hours
    ) // MINUTE_US
    changes = np.flatnonzero(np.diff(offset, prepend=offset[0] + 1))
    return hours[changes], offset[changes]


def offsets_at(zone: str, instants: Ints) -> Ints:
    """Return the minutes east of UTC on the clock of a zone at each instant (us); empty for none."""
    if not len(instants):
        return instants
    moves, offsets = utc_offsets(zone, int(instants.min()), int(instants.max()))
    return offsets[np.searchsorted(moves, instants, side="right") - 1]


def clock_periods(zone: str, first: int, last: int) -> tuple[Ints, Ints, Ints]:
    """(starts of periods without a change of clocks, distinct rows of [offset of `zone`, season], row of each period)."""
    changes = [utc_offsets(one, first, last) for one in (zone, *DST_ZONES)]
    moves = np.unique(np.concatenate([starts for starts, _ in changes]))
    offset, *_ = (offsets[np.searchsorted(starts, moves, side="right") - 1] for starts, offsets in changes)
    pairs, number = np.unique(
        np.stack([offset, season_numbers(moves, changes[1:])], axis=1), axis=0, return_inverse=True
    )
    return moves, pairs, number.reshape(-1)


def season_numbers(instants: Ints, changes: Sequence[tuple[Ints, Ints]] | None = None) -> Ints:
    """Number of each instant (us): a decimal digit per zone of `DST_ZONES`, its UTC offset in hours modulo 10."""
    if changes is None:
        changes = [utc_offsets(zone, int(instants.min()), int(instants.max())) for zone in DST_ZONES]
    hours = [offsets[np.searchsorted(starts, instants, side="right") - 1] // 60 % 10 for starts, offsets in changes]
    number: Ints = sum((one * 10**place for place, one in enumerate(hours)), np.zeros(len(instants), np.int64))
    return number


def week_cells(instants: Ints) -> Ints:
    """Map instants (us) to their quarter hour of the UTC week, 0 (Monday 00:00) to 671."""
    cells: Ints = (instants // QUARTER_US + MONDAY) % WEEK_CELLS
    return cells


def true_edges(table: pl.DataFrame) -> tuple[Ints, Ints]:
    """Return (opens, closes) in us of sorted spans without each close that equals the next open, and that open."""
    opens, closes = (table[name].cast(TS).cast(pl.Int64).to_numpy() for name in ("open", "close"))
    joined = opens[1:] == closes[:-1]
    return opens[np.append([True], ~joined)[: len(opens)]], closes[np.append(~joined, [True])[: len(closes)]]


def stride_step(interval: Interval) -> int | None:
    """Step in us if at most 15 min and it divides a minute, or is whole minutes and divides an hour; else None."""
    step = interval.step_us if interval.is_intraday else 0
    fits = 0 < step <= QUARTER_US and (MINUTE_US % step == 0 or (step % MINUTE_US == 0 and HOUR_US % step == 0))
    return step if fits else None


def without_nulls(volume: pl.Series) -> Floats:
    """Return volumes as an array with null and NaN replaced by 0."""
    values: Floats = volume.fill_null(0.0).to_numpy()
    with np.errstate(over="ignore"):  # volumes near the bound of a float
        has_nan = np.isnan(values.sum())
    return np.nan_to_num(values, nan=0.0, posinf=np.inf) if has_nan else values


def count_by_quarter(strides: ContiguousRuns, group: Ints, once: Ints, volume: Floats | None) -> list[pl.DataFrame]:
    """Facets per group: `week` (rows, volume by UTC quarter hour of the week), `days` (one count: UTC days with any row)."""
    low, high = (at // QUARTER_US for at in (strides.first, strides.last))
    pieces, quarter = strides.cut(low, high, lambda cell: cell * QUARTER_US)
    stride = np.searchsorted(strides.row, pieces.row, side="right") - 1
    owner = group[stride]
    heavy = None if volume is None else np.add.reduceat(volume, pieces.row)
    one_a_day = run_starts(quarter // QUARTERS, once[stride])
    return [
        facet_counts("week", owner, (quarter + MONDAY) % WEEK_CELLS, WEEK_CELLS, 0, pieces.size, heavy),
        facet_counts("days", owner[one_a_day], 0, 1, 0, None, None),
    ]


def count_by_minute(strides: ContiguousRuns, group: Ints) -> pl.DataFrame:
    """Return facet `minute`: rows by group and UTC minute of the hour; stamps off whole minutes have cell -1."""
    ahead, step = -strides.first % MINUTE_US, strides.step
    # Stamps on whole minutes follow each other too: the first is `ahead`, and one of so many rows is one.
    of, minutes = max(MINUTE_US // step, 1), max(step // MINUTE_US, 1)
    whole = np.where(ahead % step == 0, np.maximum(-((ahead // step - strides.size) // of), 0), 0)
    minute = (strides.first + ahead) // MINUTE_US % 60
    times = count_passes(group * minutes + minute % minutes, minute // minutes, whole, 60 // minutes)
    owner, cell = np.divmod(np.arange(times.size), 60)
    # An hour begins with each of so many minutes: those are apart.
    cell = cell // (60 // minutes) + cell % (60 // minutes) * minutes
    return facet_counts(
        "minute",
        np.concatenate([owner, group]),
        np.concatenate([cell, np.full(len(group), -1)]),
        61,
        -1,
        np.concatenate([times.ravel(), strides.size - whole]),
        None,
    )


def count_by_second(strides: ContiguousRuns, group: Ints) -> pl.DataFrame:
    """Facet `second`: rows between whole minutes by group and second; strides are of whole minutes or single rows."""
    within = strides.first % MINUTE_US
    off = within > 0
    return facet_counts("second", group[off], within[off] // SECOND_US, 60, 0, strides.size[off], None)


def count_passes(dial: Ints, begin: Ints, size: Ints, cells: int) -> Ints:
    """Dials x cells: how often runs (one at least) of `size` cells from `begin` < cells, wrapping, pass each cell."""
    turns, end = size // cells, begin + size % cells
    base, dials = dial * (cells + 1), int(dial.max()) + 1
    over = end > cells
    steps = np.bincount(base + begin, minlength=dials * (cells + 1))
    steps += np.bincount(base[over], minlength=len(steps))
    steps -= np.bincount(base + np.where(over, end - cells, end), minlength=len(steps))
    steps -= np.bincount(base[over] + cells, minlength=len(steps))
    whole = np.bincount(dial, weights=turns, minlength=dials).astype(np.int64)
    passed: Ints = np.cumsum(steps.reshape(dials, cells + 1), axis=1)[:, :cells] + whole[:, None]
    return passed


def count_near_edges(
    strides: ContiguousRuns, group: Ints, once: Ints, volume: Floats | None, grid: SessionGrid
) -> list[pl.DataFrame]:
    """Return facets of rows within 6 steps of each chosen open and close, and of the edges that have such rows."""
    spans = grid.table.filter("chosen")
    found = []
    for name, seen, edges in zip(
        ("after_open", "after_close"), ("open_edges", "close_edges"), true_edges(spans), strict=True
    ):
        found += count_near(name, seen, edges, strides, group, once, volume, grid.interval.step_us)
    return found


def count_near(
    facet: str,
    edge_facet: str,
    edges: Ints,
    strides: ContiguousRuns,
    group: Ints,
    once: Ints,
    volume: Floats | None,
    step: int,
) -> list[pl.DataFrame]:
    """Facets of rows by step (-6 to 6 from an edge, the later edge wins) and of edges with such rows; no edges: []."""
    if not len(edges):
        return []
    # A row that two edges are near is the later one's.
    since = edges - NEAR_STEPS * step
    until = np.minimum(edges + (NEAR_STEPS + 1) * step, np.append(since[1:], np.iinfo(np.int64).max))
    low = np.searchsorted(until, strides.first, side="right")
    high = np.searchsorted(since, strides.last, side="right")
    owner, number = number_ranges(np.maximum(high - low, 0))
    edge = low[owner] + number
    begin, end = (-((strides.first[owner] - at[edge]) // strides.step) for at in (since, until))
    begin, end = np.maximum(begin, 0), np.minimum(end, strides.size[owner])
    held = end > begin
    owner, edge, begin, size = owner[held], edge[held], begin[held], (end - begin)[held]
    piece, row = number_ranges(size)
    row += begin[piece]
    past = strides.first[owner][piece] + row * strides.step - edges[edge][piece]
    heavy = None if volume is None else volume[strides.row[owner][piece] + row]
    first_near = run_starts(edge, once[owner])
    return [
        facet_counts(facet, group[owner][piece], past // step, 2 * NEAR_STEPS + 1, -NEAR_STEPS, None, heavy),
        facet_counts(edge_facet, group[owner][first_near], 0, 1, 0, None, None),
    ]


def facet_counts(
    facet: str, group: Ints, cell: Ints | int, cells: int, lowest: int, times: Ints | None, volume: Floats | None
) -> pl.DataFrame:
    """Return nonempty `facet, group, cell, rows, volume`; `times` weighs entries (None: 1 each); no volume: 0."""
    key = group * cells + cell - lowest
    rows = np.bincount(key, weights=times).astype(np.int64)
    held = np.flatnonzero(rows)
    heavy = np.zeros(len(held)) if volume is None else np.bincount(key, weights=volume)[held].astype(np.float64)
    return pl.DataFrame(
        {
            "facet": pl.repeat(facet, len(held), dtype=PROFILE["facet"], eager=True),
            "group": held // cells,
            "cell": (held % cells + lowest).astype(np.int16),
            "rows": rows[held],
            "volume": heavy,
        }
    )


def with_series_names(
    counted: pl.DataFrame, numbers: NDArray[np.int32], clocks: Ints, series: pl.DataFrame
) -> pl.DataFrame:
    """Resolve group numbers (series position x clocks + clock) to `PROFILE`; series without names are dropped."""
    group = counted["group"].to_numpy()
    offset, season = clocks[group % len(clocks)].T.astype(np.int16)
    keyed = counted.with_columns(
        pl.Series("series", numbers[group // len(clocks)]), pl.Series("offset", offset), pl.Series("season", season)
    )
    return keyed.join(series.select("series", *SERIES), on="series", how="inner").select(
        pl.col(name).cast(dtype) for name, dtype in PROFILE.items()
    )


class ClockProfile(Measurement):
    """Frame `clock_profile`: counts of rows by the clock, of `PROFILE`."""

    schemas: ClassVar[Mapping[str, Schema]] = {"clock_profile": PROFILE}

    def measure(self, part: MeasureInput) -> Frames:
        """Return frame `clock_profile`: the part's rows counted by series, UTC offset and clock facet."""
        return {"clock_profile": clock_profile(part.rows, part.series, part.grid, part.zone)}

    def combine(self, frames: Mapping[str, Sequence[pl.DataFrame]]) -> Frames:
        """Sum the profiles of all parts by key; return frame `clock_profile`."""
        return {"clock_profile": combine_profiles(frames["clock_profile"])}


CLOCK_PROFILE = ClockProfile()
