"""When each row of a replay became available, from what its files tell: nothing is shown a moment earlier.

1. A bar is available at its end (`views.with_ends`), a tick or quote at its own instant.
2. A row that a later file has again, with other values (a correction) or the same, is available when that file can have
   been written, which is not before the end of its last row (`_corrected`).
3. Rows that share a key across files keep the order of the files: each version goes into a lane of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from engine.calendars.providers import SessionCalendar
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.runtime.load import Group
from engine.schema import TS, Kind
from engine.store.session_data import MONTH
from engine.store.snapshot import AXIS_INTERVAL
from engine.store.views import with_ends

ADDED = {"available": TS, "lane": pl.Int32()}
Axes = Callable[[GridSpec], SessionGrid]


def arrivals(group: Group, specs: Mapping[str, GridSpec], calendar: Callable[[str], SessionCalendar]) -> pl.DataFrame:
    """All rows of a group in the order in which they become available.

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
        The rows as `SessionData.append` takes them, `available` (Datetime, UTC) and `lane` (Int32): rows of one piece
        are to be appended lane by lane, each as a batch.
    """
    whole = pl.concat(
        [frame.with_columns(pl.lit(number, pl.Int32).alias("batch")) for number, frame in enumerate(group.frames)],
        how="diagonal",
    ).with_row_index("at")
    timed = _timed(whole, group, specs, calendar)
    lanes = pl.lit(0, pl.Int32).alias("lane")
    timed = timed.with_columns(lanes) if len(group.frames) == 1 else _corrected(timed, group.kind)
    return timed.sort("available", "at").drop("at", "batch", "start")


def _timed(
    rows: pl.DataFrame, group: Group, specs: Mapping[str, GridSpec], calendar: Callable[[str], SessionCalendar]
) -> pl.DataFrame:
    """Rows with `start` (what identifies them beside their symbol) and `available`."""
    if group.kind != "bars" or group.interval is None:
        up = pl.col("ts").dt.timestamp("ns").add(999).floordiv(1000)  # never a part of a microsecond too early
        return rows.with_columns(
            pl.col("ts").alias("start"), up.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("available")
        )
    if group.spec is not None:
        return _ended(rows, group, _axis(group.spec, calendar, rows, group.interval))
    parts = []
    for spec, names in _by_spec(rows["symbol"].unique(maintain_order=True), specs).items():
        part = rows.filter(pl.col("symbol").is_in(names))
        parts.append(_ended(part, group, _axis(spec, calendar, part, group.interval)))
    return pl.concat(parts)


def _by_spec(symbols: pl.Series, specs: Mapping[str, GridSpec]) -> dict[GridSpec, list[str]]:
    found: dict[GridSpec, list[str]] = {}
    for symbol in symbols:
        found.setdefault(specs[symbol], []).append(symbol)
    return found


def _axis(
    spec: GridSpec, calendar: Callable[[str], SessionCalendar], rows: pl.DataFrame, interval: Interval
) -> SessionGrid:
    low, high = rows["ts"].min(), rows["ts"].max()
    segments = calendar(spec.calendar).segments_in_bounds(low.date() - 2 * MONTH, high.date() + 2 * MONTH)  # type: ignore[union-attr]
    return SessionGrid.build(segments, AXIS_INTERVAL, spec).at(interval)


def _ended(rows: pl.DataFrame, group: Group, grid: SessionGrid) -> pl.DataFrame:
    start = grid.from_stamps(rows["ts"], group.stamp)
    placed = pl.DataFrame({"ts": start}).hstack(grid.place(start))
    return rows.with_columns(start.alias("start"), with_ends(placed, grid)["ts_end"].alias("available"))


def _corrected(rows: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    key = ["symbol", "price_type", "start"] if kind == "bars" else ["symbol", "start", "seq"]
    key = [name for name in key if name in rows.columns]
    again = rows.select(key).is_duplicated()
    rows = rows.with_columns(pl.lit(0, pl.Int32).alias("lane"))
    if not again.any():
        return rows
    ends = rows.group_by("batch").agg(pl.col("available").max().alias("written"))
    versions = (
        rows.filter(again).group_by(*key, "batch", maintain_order=True).agg(pl.col("available").last())
        .sort(*key, "batch").join(ends, on="batch", how="left", maintain_order="left")
    )  # fmt: skip
    is_later = pl.int_range(pl.len()).over(key) > 0
    known = pl.when(is_later).then("written").otherwise("available")
    versions = versions.with_columns(
        known.cum_max().over(key).alias("shown"), pl.int_range(pl.len(), dtype=pl.Int32).over(key).alias("version")
    )
    beside = rows.join(
        versions.select(*key, "batch", "shown", "version"), on=[*key, "batch"], how="left", maintain_order="left"
    )
    return beside.with_columns(
        pl.coalesce("shown", "available").alias("available"), pl.coalesce("version", "lane").alias("lane")
    ).drop("shown", "version")


def in_lanes(piece: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """Rows that became available together, as the batches that they are appended as."""
    rows = piece.drop(list(ADDED))
    if not (piece["lane"] > 0).any():
        return (rows,)
    lanes: Sequence[int] = piece["lane"].unique().sort().to_list()
    return tuple(rows.filter(piece["lane"] == lane) for lane in lanes)
