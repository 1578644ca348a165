"""Source rows that lie in no session of their calendar: bars, ticks and quotes alike."""

from __future__ import annotations

import polars as pl

from engine.schema import Schema
from engine.store.snapshot import Snapshot
from engine.store.views import with_series_names

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
