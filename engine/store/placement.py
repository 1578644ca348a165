"""Placement of raw rows: which axis each row belongs to, how far the axis reaches, and the segment and slot of each row. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from engine.calendars.providers import SessionCalendar
from engine.errors import CalendarError
from engine.grid import GridSpec, SessionGrid, Stamp, whole_years
from engine.keys import Ints
from engine.schema import TS
from engine.store.panel_key import AXIS_INTERVAL, PanelKey
from engine.store.panel_state import PanelState

MONTH = dt.timedelta(days=31)  # axes reach at least this far beyond the data, and to the ends of these years
PADDING = 2 * MONTH  # axes are built this far beyond the data, so that not every day builds them anew


def number_pairs(rows: pl.DataFrame) -> tuple[pl.DataFrame, Ints]:
    """(distinct `symbol, price_type` in the order of first rows, position of each row's pair among them); no nulls."""
    names = ["symbol", "price_type"]
    changes = rows.select(pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in names)).to_series()
    begins = np.flatnonzero(changes.fill_null(value=True).to_numpy())
    # Rows of a series stand together, as a rule, so only the first one of each run is looked up.
    runs = rows[begins].select(names)
    pairs = runs.unique(maintain_order=True)
    found = runs.join(pairs.with_row_index("pair"), on=names, how="left", maintain_order="left")["pair"]
    return pairs, np.repeat(found.cast(pl.Int64).to_numpy(), np.diff(np.append(begins, rows.height)))


def partition_by_axis(
    rows: pl.DataFrame, series: pl.DataFrame, pair: Ints, specs: Sequence[GridSpec], axis_of: Mapping[str, int]
) -> list[tuple[GridSpec, pl.DataFrame]]:
    """Rows by axis as [(spec, rows)], with a series number in place of `symbol, price_type`; `axis_of`: symbol to position in `specs`.

    Parameters
    ----------
    rows : DataFrame
        With `symbol` and `price_type`.
    series : DataFrame of `symbol, price_type, series`
        Of every pair in `rows`.
    pair : array of int
        Of each row, the position of its pair in `series`.
    specs : sequence of GridSpec
        The axes in use.
    axis_of : mapping of str to int
        Position in `specs` of each symbol's axis; not read when there is only one.
    """
    numbered = rows.drop("symbol", "price_type").with_columns(series["series"].gather(pair))
    if len(specs) == 1:
        return [(specs[0], numbered)]
    axes = pl.Series("axis", [axis_of[symbol] for symbol in series["symbol"]], pl.Int32)
    parts = numbered.with_columns(axes.gather(pair)).partition_by(
        "axis", as_dict=True, include_key=False, maintain_order=True
    )
    return [(specs[axis], part) for (axis,), part in parts.items()]


def extend_axis(state: PanelState, spec: GridSpec, venue: SessionCalendar, stamps: pl.Series) -> dict[str, object]:
    """State fields with the axis rebuilt 2 months beyond the stamps (within the calendar); `{}` if it has a month's margin already.

    Ordinals do not depend on how far an axis reaches, so stored rows keep theirs.

    Raises
    ------
    CalendarError
        The calendar has no session in these months.
    ParameterError
        The calendar has no segment of a label of the axis.
    """
    venue.check_labels(spec.labels)
    earliest, latest = venue.bounds()
    first, last = utc_dates_in_bounds(venue, stamps)
    low, high = state.axis_dates.get(spec, (latest, earliest))
    if low <= max(first - MONTH, earliest) and min(last + MONTH, latest) <= high:
        return {}
    low, high = min(low, max(first - PADDING, earliest)), max(high, min(last + PADDING, latest))
    return {
        "axes": {**state.axes, spec: build_axis(spec, venue, low, high)},
        "axis_dates": {**state.axis_dates, spec: (low, high)},
        "calendars": {**state.calendars, spec.calendar: venue},
    }


def axis_around(spec: GridSpec, venue: SessionCalendar, stamps: pl.Series) -> SessionGrid:
    """Axis (step `AXIS_INTERVAL`) from 2 months before the first stamp to 2 after the last, as the store's; CalendarError: no session.

    UTC dates alone would not do: an evening belongs to the next trade date, and a week or month to its last session.
    """
    first, last = utc_dates_in_bounds(venue, stamps)
    return build_axis(spec, venue, first - PADDING, last + PADDING)


def utc_dates_in_bounds(venue: SessionCalendar, stamps: pl.Series) -> tuple[dt.date, dt.date]:
    """First and last UTC date of the stamps (one at least), each moved into the calendar's bounds."""
    earliest, latest = venue.bounds()
    first, last = (min(max(at.date(), earliest), latest) for at in (stamps.min(), stamps.max()))  # type: ignore[union-attr]
    return first, last


def build_axis(spec: GridSpec, venue: SessionCalendar, first: dt.date, last: dt.date) -> SessionGrid:
    """Axis (step `AXIS_INTERVAL`) of the calendar's trade dates in the whole years of both dates; CalendarError if there is none."""
    segments = venue.segments_in_bounds(*whole_years(first, last))
    if segments.is_empty():
        raise CalendarError(f"calendar {spec.calendar} has no session from {first} to {last}, where the rows are")
    return SessionGrid.build(segments, AXIS_INTERVAL, spec)


def place_rows(state: PanelState, key: PanelKey, rows: pl.DataFrame, stamp: Stamp) -> pl.DataFrame:
    """Add `session` (nearest when closed), `ordinal` (null then), `slot` (null off the grid); bars: `ts` by `from_stamps`."""
    grid = state.grid(key.spec, key.grid_interval)
    if key.kind == "bars":
        rows = rows.with_columns(grid.from_stamps(rows["ts"], stamp).alias("ts"))
    return rows.with_columns(*grid.place(rows["ts"].cast(TS), exact=key.kind == "bars").get_columns())
