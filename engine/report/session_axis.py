"""The session grid as an x axis without nights and weekends, thinned to few places. Frames in, frames out.

1. `Axis.of` numbers the chosen slots of a range one after the other; where they are more than a picture holds, some
   consecutive slots of a segment, or some sessions, share one place.
2. `Axis.at` says where instants lie, `Axis.folded` makes one candle of the bars of each place, `Axis.spans` lays gaps.
3. `Axis.breaks` and `Axis.ticks` mark where sessions and segments begin.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from engine.errors import ParameterError
from engine.grid import SessionGrid
from engine.schema import TS

SHARED = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 240, 480, 1_440)
MOST_TICKS, MOST_BREAKS = 12, 80
CLOCK_MINUTES = (5, 10, 15, 30, 60, 120, 240, 360)


@dataclass(frozen=True)
class Axis:
    """Consecutive places of the slots of a range of sessions.

    Attributes
    ----------
    grid : SessionGrid
        Whose slots.
    table : DataFrame of `ordinal, session, open, close, slots, at, step`
        The segments in range: slot `k` begins at `at + k * step`.
    length : float
        Where the last one ends.
    shared : str
        What shares one place, in words; empty where each slot has its own.
    """

    grid: SessionGrid
    table: pl.DataFrame
    length: float
    shared: str

    @classmethod
    def of(cls, grid: SessionGrid, first: dt.date | None, last: dt.date | None, most: int) -> Axis:
        """Number chosen slots of `first`..`last` (None: open) in <= `most` places, some shared; none: ParameterError.

        Raises
        ------
        ParameterError
            There is no session in that range.
        """
        whole = grid.table.filter("chosen")
        held = whole.filter(
            pl.col("session").is_between(first or whole["session"].min(), last or whole["session"].max())
        )
        if held.is_empty():
            days = whole["session"].cast(pl.String)
            spans = f"{days[0]} to {days[-1]}" if len(days) else "none"
            raise ParameterError(f"start, end: received {first} and {last}: no session there; the source has {spans}")
        slots = held.select("ordinal", "session", "open", "close", "slots")
        for shared in SHARED:
            places = (pl.col("slots") + (shared - 1)) // shared
            if slots.select(places.sum()).item() <= most:
                table = slots.with_columns(
                    (places.cum_sum() - places).cast(pl.Float64).alias("at"), pl.lit(1 / shared).alias("step")
                )
                said = "" if shared == 1 else f"{shared} slots of {grid.interval}"
                return cls(grid, table, float(slots.select(places.sum()).item()), said)
        # No number of slots is enough: whole sessions share a place.
        count = slots["session"].n_unique()
        together = -(-count // most)
        total = pl.col("slots").sum().over("session")
        before = (pl.col("slots").cum_sum() - pl.col("slots")).over("session")
        number = pl.col("session").rle_id()
        table = slots.with_columns(
            ((number + before / total) / together).alias("at"), (1 / (total * together)).alias("step")
        )
        return cls(grid, table, count / together, "one session" if together == 1 else f"{together} sessions")

    def at(self, ts: pl.Series, *, exact: bool = True) -> pl.DataFrame:
        """Return `x` (slot's start), `place` (whole number) by instant; null off the axis or (`exact`) in mid-slot."""
        placed = self.grid.place(ts.cast(TS), exact=exact).select("ordinal", "slot")
        known = self.table.select("ordinal", "at", "step")
        found = placed.join(known, on="ordinal", how="left", maintain_order="left", nulls_equal=False)
        # By the middle of the slot: a third of three may be a little less than one.
        return found.select(
            (pl.col("at") + pl.col("slot") * pl.col("step")).alias("x"),
            (pl.col("at") + (pl.col("slot") + 0.5) * pl.col("step")).floor().alias("place"),
        )

    def folded(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Fold bars per place `x`: first `ts`, open; extremes; last close; summed volume; count. No slot: left out."""
        placed = bars.sort("ts").hstack(self.at(bars.sort("ts")["ts"])).drop_nulls("place")
        return (
            placed.group_by("place", maintain_order=True)
            .agg(
                pl.col("ts", "open").first(),
                pl.col("high").max(),
                pl.col("low").min(),
                pl.col("close").last(),
                pl.when(pl.col("volume").count() > 0).then(pl.col("volume").sum()).alias("volume"),
                pl.len().alias("bars"),
            )
            .rename({"place": "x"})
            .sort("x")
        )

    def spans(self, gaps: pl.DataFrame) -> pl.DataFrame:
        """Add `x` (start) and `x2` (`bar_count` slots later) to gaps; those that start off the axis are dropped."""
        begins = gaps.hstack(self.at(gaps["gap_start"]).select("x"))
        # The end of a segment is in no slot, so a gap ends so many slots after its start.
        step = (
            self.grid.place(gaps["gap_start"].cast(TS))
            .select("ordinal")
            .join(self.table.select("ordinal", "step"), on="ordinal", how="left", maintain_order="left")
        )
        return (
            begins.hstack(step.select("step"))
            .with_columns((pl.col("x") + pl.col("bar_count") * pl.col("step")).alias("x2"))
            .drop("step")
            .drop_nulls("x")
        )

    def breaks(self) -> pl.DataFrame:
        """Return `x, kind` of segment starts but the first: `session` if it begins one, else `pause`; over 80: none."""
        kind = (
            pl.when(pl.col("session") != pl.col("session").shift(1)).then(pl.lit("session")).otherwise(pl.lit("pause"))
        )
        found = self.table.select(pl.col("at").alias("x"), kind.alias("kind")).slice(1)
        return found if found.height <= MOST_BREAKS else found.clear()

    def ticks(self, zone: str) -> pl.DataFrame:
        """Return `x, label`: up to 12 dates at even steps; for up to 4 intraday sessions also the venue's times."""
        days = self.table.unique("session", keep="first", maintain_order=True)
        year = "%d %b %Y" if days["session"].dt.year().n_unique() > 1 else "%d %b"
        every = -(-days.height // MOST_TICKS)
        dates = days.gather_every(every).select(
            pl.col("at").alias("x"), pl.col("session").dt.strftime(year).alias("label")
        )
        if days.height > MOST_TICKS // 3 or not self.grid.interval.is_intraday:
            return dates
        return pl.concat([dates, self.clock_ticks(zone, MOST_TICKS // days.height)]).sort("x")

    def clock_ticks(self, zone: str, most: int) -> pl.DataFrame:
        """Return `x, label` (HH:MM) at round venue times, about `most` a segment, none in half a step after an open."""
        minutes = (self.table["close"] - self.table["open"]).dt.total_minutes().max()
        wide = float(minutes) if isinstance(minutes, int | float) else 0.0
        every = next((step for step in CLOCK_MINUTES if wide / step <= most), CLOCK_MINUTES[-1])
        begin, end = (pl.col(name).dt.convert_time_zone(zone) for name in ("open", "close"))
        hours = (
            self.table.select(pl.datetime_ranges(begin.dt.truncate("1d"), end, f"{every}m").alias("ts"), "open", "at")
            .explode("ts", empty_as_null=False, keep_nulls=False)
            .with_columns(pl.col("ts").dt.convert_time_zone("UTC"))
        )
        # Not beside a date.
        later = hours.filter(pl.col("ts") > pl.col("open") + pl.duration(minutes=every / 2))
        placed = later.hstack(self.at(later["ts"], exact=False).select("x")).drop_nulls("x")
        return placed.select("x", pl.col("ts").dt.convert_time_zone(zone).dt.strftime("%H:%M").alias("label")).unique(
            "x", keep="first"
        )
