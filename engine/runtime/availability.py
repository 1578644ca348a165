"""Time at which each row of a replay became available; a replay shows nothing earlier.

1. A bar is available at its end (`views.with_ends`), a tick or quote at its own instant.
2. A row that a later file has again, with the same or other values (a correction), is available when that file can have
   been written at the earliest: at the end of its last row (`delay_repeated_rows`).
3. Rows that share a key across files are versions in the order of the files: each version is appended as a batch of
   its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from engine.calendars.providers import SessionCalendar
from engine.grid import GridSpec
from engine.runtime.load import Group
from engine.schema import TS, Kind
from engine.store.panel_key import AXIS_INTERVAL
from engine.store.placement import axis_around
from engine.store.views import with_ends

ADDED = {"available": TS, "version": pl.Int32()}


def order_by_availability(
    group: Group, specs: Mapping[str, GridSpec], calendar: Callable[[str], SessionCalendar]
) -> pl.DataFrame:
    """Sort by `available` (bar end, tick stamp; repeated in a later file: its last row's); number repeats in `version`.

    Parameters
    ----------
    group : Group
    specs : mapping of symbol to GridSpec
        The axes that they live on, where the group names none.
    calendar : callable
        Gives the calendar of a code.

    Returns
    -------
    DataFrame
        The rows as `SessionData.append` takes them, `available` (Datetime, UTC) and `version` (Int32): rows of one
        piece are to be appended version by version, each as a batch.
    """
    whole = pl.concat(
        [frame.with_columns(pl.lit(number, pl.Int32).alias("batch")) for number, frame in enumerate(group.frames)],
        how="diagonal",
    ).with_row_index("at")
    if group.kind != "bars" or group.interval is None:
        up = pl.col("ts").dt.timestamp("ns").add(999).floordiv(1000)  # never a part of a microsecond too early
        available = up.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("available")
        timed = whole.with_columns(pl.col("ts").alias("start"), available)
    elif group.spec is not None:
        timed = add_bar_availability(whole, group, group.spec, calendar)
    else:
        symbols_of: dict[GridSpec, list[str]] = {}
        for symbol in whole["symbol"].unique(maintain_order=True):
            symbols_of.setdefault(specs[symbol], []).append(symbol)
        parts = ((spec, whole.filter(pl.col("symbol").is_in(symbols))) for spec, symbols in symbols_of.items())
        timed = pl.concat([add_bar_availability(part, group, spec, calendar) for spec, part in parts])
    first_version = pl.lit(0, pl.Int32).alias("version")
    timed = timed.with_columns(first_version) if len(group.frames) == 1 else delay_repeated_rows(timed, group.kind)
    return timed.sort("available", "at").drop("at", "batch", "start")


def add_bar_availability(
    bars: pl.DataFrame, group: Group, spec: GridSpec, calendar: Callable[[str], SessionCalendar]
) -> pl.DataFrame:
    """Add `start` (slot start by stamp and axis), `available` (end of the bar; off slot: a step later) on one axis."""
    grid = axis_around(spec, calendar(spec.calendar), bars["ts"]).at(group.interval or AXIS_INTERVAL)
    start = grid.from_stamps(bars["ts"], group.stamp)
    placed = pl.DataFrame({"ts": start}).hstack(grid.place(start))
    return bars.with_columns(start.alias("start"), with_ends(placed, grid)["ts_end"].alias("available"))


def delay_repeated_rows(rows: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """Add `version` 0, 1, ... per key in file order; from 1 on, `available` is at least the last one of its file."""
    key = ["symbol", "price_type", "start"] if kind == "bars" else ["symbol", "start", "seq"]
    key = [name for name in key if name in rows.columns]
    repeated = rows.select(key).is_duplicated()
    if not repeated.any():
        return rows.with_columns(pl.lit(0, pl.Int32).alias("version"))
    ends = rows.group_by("batch").agg(pl.col("available").max().alias("written"))
    versions = (
        rows.filter(repeated)
        .group_by(*key, "batch", maintain_order=True)
        .agg(pl.col("available").last())
        .sort(*key, "batch")
        .join(ends, on="batch", how="left", maintain_order="left")
    )
    is_later = pl.int_range(pl.len()).over(key) > 0
    known = pl.when(is_later).then("written").otherwise("available")
    versions = versions.with_columns(
        known.cum_max().over(key).alias("delayed"), pl.int_range(pl.len(), dtype=pl.Int32).over(key).alias("version")
    ).select(*key, "batch", "delayed", "version")
    return (
        rows.join(versions, on=[*key, "batch"], how="left", maintain_order="left")
        .with_columns(pl.coalesce("delayed", "available").alias("available"), pl.col("version").fill_null(0))
        .drop("delayed")
    )


def split_versions(rows: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """Split rows into one frame per `version`, ascending, without `available` and `version`."""
    batch = rows.drop(list(ADDED))
    if not (rows["version"] > 0).any():
        return (batch,)
    versions: Sequence[int] = rows["version"].unique().sort().to_list()
    return tuple(batch.filter(rows["version"] == version) for version in versions)
