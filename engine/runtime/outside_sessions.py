"""Source rows that lie in no session of their calendar, and bars whose stamps look like ends: notes of a load."""

from __future__ import annotations

import polars as pl

from engine.grid import SessionGrid
from engine.interval import Interval
from engine.schema import Schema
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.views import with_series_names

FEWEST_STAMPS = 10
NEARLY_ALL = 0.9
FEWEST_IN_SEGMENT = 0.01  # of the bars in segments that are not chosen
LAST_SECOND = 1_000_000  # us before the end of a bar
OUTSIDE: Schema = {
    "symbol": pl.String(),
    "price_type": pl.String(),
    "kind": pl.String(),
    "rows": pl.Int64(),
    "outside": pl.Int64(),
}
ELSEWHERE: Schema = {"rows": pl.Int64(), "places": pl.String(), "segments": pl.String()}


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
        "(`engine audit` tries them), or choose more segments (--segments)"
        for symbol, kind, rows, count in lost.select("symbol", "kind", "rows", "outside").iter_rows()
    ]


def misplaced_bars_notes(session: SessionData) -> list[str]:
    """One note per series with more bars outside slots (off grid, out of session) than in: extended hours, or what to check."""
    counted = session.quality().group_by("symbol", "price_type", "interval", maintain_order=True).sum()
    counted = counted.with_columns((pl.col("off_grid") + pl.col("out_of_session")).alias("outside"))
    lost = counted.filter(pl.col("outside") > pl.col("present"))
    if lost.is_empty():
        return []
    others = bars_in_other_segments(session.snapshot())
    notes = []
    for row in lost.join(others, on=["symbol", "price_type", "interval"], how="left").iter_rows(named=True):
        present, outside, elsewhere = row["present"], row["outside"], row["rows"] or 0
        text = (
            f"{row['symbol']} {row['price_type']} {row['interval']}: {present or 'no'} "
            f"bar{'s lie' if present > 1 else ' lies'} in a slot of a session, {outside} outside"
        )
        # Another zone puts bars of regular hours there, too, and leaves regular hours with few.
        if elsewhere >= NEARLY_ALL * outside and present >= NEARLY_ALL * row["expected"]:
            notes.append(f"{text}, of them {row['places']}: --segments {row['segments']} gives these a slot")
        else:
            notes.append(
                f"{text}; check --timezone, --stamp, --align and --calendar (`engine audit` tries zones, stamps and calendars)"
            )
    return notes


def bars_in_other_segments(snapshot: Snapshot) -> pl.DataFrame:
    """Source bars per series in segments that are not chosen: `symbol, price_type, interval, rows, places, segments`.

    `rows` is their number, `places` says how many lie in which segment, `segments` is the option's value with these and
    the chosen ones, in the order of the calendar; segments with few of them are left out.
    """
    found = [pl.DataFrame(schema={**dict.fromkeys(("symbol", "price_type", "interval"), pl.String()), **ELSEWHERE})]
    for key, panel in snapshot.panels.items():
        if key.kind != "bars" or key.origin != "source" or not any(part["slot"].null_count() for part in panel.parts):
            continue
        table = snapshot.grid(key.spec, key.grid_interval).table
        order = {label: at for at, label in enumerate(snapshot.calendars[key.spec.calendar].labels)}
        chosen = table.filter("chosen")["segment"].unique().to_list()
        placed = pl.concat(part.select("series", "ordinal") for part in panel.parts)
        counted = (
            placed.join(table.filter(~pl.col("chosen")).select("ordinal", "segment"), on="ordinal")
            .group_by("series", "segment")
            .agg(pl.len().cast(pl.Int64).alias("rows"))
            .filter(pl.col("rows") >= FEWEST_IN_SEGMENT * pl.col("rows").sum().over("series"))
            .sort("series", pl.col("segment").replace_strict(order, return_dtype=pl.Int64))
        )
        summed = counted.group_by("series", maintain_order=True).agg(
            pl.col("rows").sum(),
            pl.format("{} in {}", "rows", "segment").str.join(", ").alias("places"),
            pl.col("segment"),
        )
        options = [",".join(sorted({*chosen, *one}, key=lambda label: order[label])) for one in summed["segment"]]
        named = with_series_names(summed.with_columns(pl.Series("segments", options, pl.String)), snapshot.series)
        interval = pl.lit(str(key.interval)).alias("interval")
        found.append(named.select("symbol", "price_type", interval, *ELSEWHERE))
    return pl.concat(found)


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
