"""Source rows that lie in no session of their calendar, and bars whose stamps look like ends: notes of a load."""

from __future__ import annotations

import polars as pl

from engine.grid import SessionGrid
from engine.interval import Interval
from engine.schema import Schema
from engine.store.snapshot import Snapshot
from engine.store.views import with_series_names

FEWEST_STAMPS = 10
NEARLY_ALL = 0.9
LAST_SECOND = 1_000_000  # us before the end of a bar
OUTSIDE: Schema = {
    "symbol": pl.String(),
    "price_type": pl.String(),
    "kind": pl.String(),
    "rows": pl.Int64(),
    "outside": pl.Int64(),
}


def outside_sessions(snapshot: Snapshot) -> pl.DataFrame:
    """Per series of source rows with any outside the chosen segments: `rows` stored and `outside`, by symbol and kind.

    Bars inside a session that lie between two slots are not counted here: they are `off_grid` of the quality table.
    """
    found = [pl.DataFrame(schema=OUTSIDE)]
    for key, panel in snapshot.panels.items():
        if key.origin != "source" or not any(part["slot"].null_count() for part in panel.parts):
            continue
        table = snapshot.grid(key.spec, key.grid_interval).table
        chosen = table.filter("chosen")["ordinal"].implode()
        is_inside = pl.col("ordinal").is_in(chosen).fill_null(value=False)
        is_outside = (pl.col("slot").is_null() & ~is_inside).alias("outside")
        counted = pl.concat(part.select("series", is_outside) for part in panel.parts)
        sums = counted.group_by("series").agg(pl.len().cast(pl.Int64).alias("rows"), pl.col("outside").sum())
        named = with_series_names(sums.filter(pl.col("outside") > 0), snapshot.series)
        found.append(
            named.select(pl.lit(key.kind).alias("kind"), pl.all()).select(pl.col(n).cast(t) for n, t in OUTSIDE.items())
        )
    return pl.concat(found).sort("symbol", "price_type", "kind")


def misplaced_ticks_notes(outside: pl.DataFrame) -> list[str]:
    """One note per series of ticks or quotes of which more rows lie outside sessions than in them."""
    lost = outside.filter((pl.col("kind") != "bars") & (2 * pl.col("outside") > pl.col("rows")))
    return [
        f"{symbol}: {rows - count or 'no'} {kind} lie in a session, {count} outside; check --timezone and --calendar "
        "(extended hours: --segments)"
        for symbol, kind, rows, count in lost.select("symbol", "kind", "rows", "outside").iter_rows()
    ]


def end_stamp_notes(snapshot: Snapshot) -> list[str]:
    """One note per series of intraday source bars whose stamps look like ends of bars, with the option that says so.

    All stamps lie up to a second before the end of a bar (`--stamp end-inclusive`); or no session has its first bar, and
    what lies outside sessions lies at their closes, of half of the sessions at the least (`--stamp end`).
    """
    notes = []
    for key, panel in snapshot.panels.items():
        if key.kind != "bars" or key.origin != "source" or key.interval is None or not key.interval.is_intraday:
            continue
        if not any(part["slot"].null_count() for part in panel.parts):
            continue
        grid = snapshot.grid(key.spec, key.grid_interval)
        counted = pl.concat(part.select("series", *edge_marks(grid, key.interval)) for part in panel.parts)
        sums = with_series_names(counted.group_by("series").sum(), snapshot.series).sort("symbol", "price_type")
        for row in sums.iter_rows(named=True):
            name = f"{row['symbol']} {row['price_type']} {key.interval}"
            if row["rows"] >= FEWEST_STAMPS and row["before_end"] == row["rows"]:
                notes.append(
                    f"{name}: all stamps lie just before the end of a bar; if they mark ends: --stamp end-inclusive"
                )
            elif (
                not row["first"]
                and row["at_close"] > NEARLY_ALL * row["outside"]
                and 2 * row["at_close"] >= row["last"]
            ):
                notes.append(
                    f"{name}: no bar at the open of a session, {row['at_close']} at a close; if stamps mark ends: --stamp end"
                )
    return notes


def edge_marks(grid: SessionGrid, interval: Interval) -> list[pl.Expr]:
    """Int64 expressions over placed bars: 1 for each row, first slot, last slot, row outside, at a close, before an end."""
    chosen = grid.table.filter("chosen")
    is_inside = pl.col("ordinal").is_in(chosen["ordinal"].implode()).fill_null(value=False)
    sizes = pl.col("ordinal").replace_strict(chosen["ordinal"], chosen["slots"], default=None)
    step = interval.step_us
    left = (step - pl.col("ts").dt.epoch("us") % step) % step
    marks = {
        "rows": pl.lit(value=True),
        "first": is_inside & (pl.col("slot") == 0),
        "last": is_inside & (pl.col("slot") == sizes - 1),
        "outside": ~is_inside,
        "at_close": ~is_inside & pl.col("ts").is_in(chosen["close"].implode()),
        "before_end": left.is_between(1, LAST_SECOND),
    }
    return [mark.fill_null(value=False).cast(pl.Int64).alias(name) for name, mark in marks.items()]
