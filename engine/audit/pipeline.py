"""From a survey to the tables of an audit: gaps with their causes, quality raw and adjusted, outages.

1. Series that share an axis and an interval are peers (`_peers`): what they lack together is one outage.
2. The series of a group are taken a block at a time (`blocks`), here or by whoever a `Spread` names: each block is weighed,
   and what the blocks lack is added up.
3. With the outages of the whole group known, each block is judged, and named (`_Group.tables`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from engine.audit.attribution_blocks import Block, Calendars, DateRange, Given, Ground, Held, judge, name, weigh
from engine.audit.audit_tables import AUDIT_TABLES, OUTAGES
from engine.audit.evidence import told_of_outages
from engine.audit.survey import Survey
from engine.grid import GridSpec
from engine.interval import Interval
from engine.quality.causes import outages as peers
from engine.quality.causes.attribution import labelled
from engine.quality.causes.profiles import Trace
from engine.schema import Schema, empty

RUNS_PER_BLOCK, LEAST_RUNS_PER_BLOCK = 1 << 21, 1 << 15
EXPLAINED = ("series", "quality", "gaps", "outages", "sessions", "calendars")


@dataclass(frozen=True)
class Spread:
    """Where blocks are worked on.

    Attributes
    ----------
    run : callable, optional
        Runs a function of each block, as `runtime.executor.Executor.run`; default here.
    blocks : int
        Into how many a large group is cut.
    folder : Path, optional
        For what a step leaves for the next one: all that run blocks see it. Default memory.
    """

    run: Callable[[Callable[[Block], Any], Sequence[Block]], Iterator[tuple[int, Any]]] | None = None
    blocks: int = 1
    folder: Path | None = None

    def each(self, function: Callable[[Block], Any], blocks: Sequence[Block]) -> list[Any]:
        """What a function makes of each block, in order."""
        if self.run is None or len(blocks) == 1:
            return [function(block) for block in blocks]
        done = dict(self.run(function, blocks))
        return [done[number] for number in range(len(blocks))]

    def runs_per_block(self, runs: int) -> int:
        """Of so many runs of slots."""
        return max(min(RUNS_PER_BLOCK, runs // self.blocks + 1), LEAST_RUNS_PER_BLOCK)


HERE = Spread()


def explain(
    survey: Survey,
    calendars: Calendars,
    dates: DateRange = (None, None),
    as_of: dt.datetime | None = None,
    spread: Spread = HERE,
) -> dict[str, pl.DataFrame]:
    """Find the gaps of a survey and say why they are there.

    Parameters
    ----------
    survey : Survey
        Of everything: what is missing in all parts.
    calendars : callable
        From a code to a calendar.
    dates : (date or None, date or None)
        First and last trade date, both included; each symbol is judged within its lifetime.
    as_of : datetime, optional
        Slots that end later are not due.
    spread : Spread
        Where the work is done; the answer is the same.

    Returns
    -------
    dict of table to DataFrame
        `series, quality, gaps, outages, sessions, calendars` of `engine.audit.audit_tables`.
    """
    groups = [_Group(survey, one, calendars, dates, as_of) for one in _peers(survey.series)]
    made = [group.tables(spread, f"group{number}") for number, group in enumerate(groups)]
    tables = {name: pl.concat([empty(AUDIT_TABLES[name]), *(one[name] for one in made)]) for name in EXPLAINED}
    return tables | {
        "calendars": tables["calendars"].unique(maintain_order=True),
        "sessions": tables["sessions"].unique(maintain_order=True),
    }


def _peers(series: pl.DataFrame) -> Iterator[pl.DataFrame]:
    axis = ["calendar", "segments", "align", "zone", "interval"]
    # A list is no key of a group, its text is.
    keyed = series.with_columns(pl.col("segments").list.join("\x1f").alias("segments"))
    for _, rows in keyed.group_by(axis, maintain_order=True):
        yield rows.sort("series")


class _Group:
    """Series of one axis and interval."""

    def __init__(
        self, survey: Survey, series: pl.DataFrame, calendars: Calendars, dates: DateRange, as_of: dt.datetime | None
    ) -> None:
        first = series.row(0, named=True)
        labels = tuple(label for label in first["segments"].split("\x1f") if label)
        spec = GridSpec(first["calendar"], labels, first["align"], first["zone"])
        begin, end = (pl.lit(date, pl.Date) for date in dates)
        lives = series.select(
            "series",
            pl.max_horizontal("first", begin).alias("first"),
            pl.min_horizontal("last", end).alias("last"),
        )
        self._survey = survey
        self._series = series
        self._lives = lives.filter(pl.col("first") <= pl.col("last"))
        self._calendar = calendars(first["calendar"])
        low: Any = self._lives["first"].min()
        high: Any = self._lives["last"].max()
        self._ground = Ground(calendars, spec, Interval.parse(first["interval"]), low, high, dates, as_of)

    def tables(self, spread: Spread, called: str) -> dict[str, pl.DataFrame]:
        if self._lives.is_empty():
            return {name: empty(AUDIT_TABLES[name]) for name in EXPLAINED}
        axis = self._ground.axis
        blocks = list(self._blocks(spread, called))
        lacks = spread.each(weigh, blocks)
        missing = _added([one.missing for one in lacks], peers.SUMS)
        due = _added([one.due for one in lacks], peers.EXPECTATION)
        found = peers.find_outages(missing, due, self._ground.width)
        habits = peers.recurrent(_added([one.habits for one in lacks], peers.HABIT_STEPS))
        seen = spread.each(partial(judge, outages=found, habits=habits), blocks)
        witnesses = pl.concat(seen).group_by("outage").sum().sort("outage")
        outages = labelled(found, witnesses, axis)
        outages = outages.with_columns(self._outage_names(outages))
        named = spread.each(partial(name, outages=outages), blocks)
        return {
            "series": pl.concat([one.series for one in named]),
            "quality": pl.concat([one.quality for one in named]),
            "gaps": pl.concat([one.gaps for one in named]),
            "outages": self._outage_table(outages),
            "sessions": self._sessions(),
            "calendars": pl.DataFrame([self._calendar_row()], schema=dict(AUDIT_TABLES["calendars"])),
        }

    def _blocks(self, spread: Spread, called: str) -> Iterator[Block]:
        ours = self._lives.select("series").join(
            self._survey.runs.group_by("series").len(), on="series", how="left", maintain_order="left"
        )
        counts = ours["len"].fill_null(0)
        cut = (counts.cum_sum() // spread.runs_per_block(int(counts.sum()))).alias("cut")
        parts = list(ours.with_columns(cut).group_by("cut", maintain_order=True))
        for number, (_, rows) in enumerate(parts):
            held = Held(spread.folder if len(parts) > 1 else None, f"{called}-{number}")
            held.put("given", self._given(rows["series"].to_list()))
            yield Block(self._ground, held)

    def _given(self, series: list[int]) -> Given:
        survey = self._survey
        runs, profile, counts, prints = (
            _of(frame, series) for frame in (survey.runs, survey.profile, survey.counts, survey.prints)
        )
        ours = pl.col("series").is_in(series)
        about, lives, voters, listed = (
            frame.filter(ours) for frame in (self._series, self._lives, self._voters, self._listed)
        )
        return Given(about, lives, Trace(runs, profile), counts, prints, _of(self._quoted, series), voters, listed)

    @cached_property
    def _voters(self) -> pl.DataFrame:
        # Bid and ask of a symbol are not two witnesses.
        rank = pl.col("price_type").replace_strict({"last": 0, "mid": 1, "bid": 2, "ask": 3}, default=4)
        first = pl.int_range(pl.len()).over("symbol", order_by=rank) == 0
        return self._series.select("series", pl.when(first).then(0).otherwise(-1).cast(pl.Int32).alias("group"))

    @cached_property
    def _quoted(self) -> pl.DataFrame:
        """Slots in which series of trades are quoted: by quotes, else by bars of bid or ask of the same symbol."""
        told = self._survey.quotes
        trades = self._series.filter(
            (pl.col("price_type") == "last") & ~pl.col("series").is_in(told["series"].unique().implode())
        )
        sides = self._series.filter(pl.col("price_type").is_in(["bid", "ask", "mid"])).unique(
            "symbol", keep="first", maintain_order=True
        )
        number = trades.select("symbol", pl.col("series").alias("number")).join(
            sides.select("symbol", "series"), on="symbol"
        )
        runs = self._survey.runs.join(number, on="series").select(
            pl.col("number").alias("series"), "ordinal", "first", "last"
        )
        return pl.concat([told, runs]).sort("series", "ordinal", "first")

    @cached_property
    def _listed(self) -> pl.DataFrame:
        # A symbol is listed while any of its series has rows.
        names = self._survey.series.select("series", "symbol")
        span = self._survey.runs.group_by("series").agg(
            pl.col("ordinal").min().alias("first"), pl.col("ordinal").max().alias("last")
        )
        whole = span.join(names, on="series").group_by("symbol").agg(pl.col("first").min(), pl.col("last").max())
        return self._series.select("series", "symbol").join(whole, on="symbol").drop("symbol")

    def _outage_names(self, outages: pl.DataFrame) -> pl.Series:
        if outages.is_empty():
            return pl.Series("outage_id", [], pl.String)
        start = self._ground.grid.starts(outages["ordinal"], outages["first"])
        begun = outages.select("chain", start.alias("start")).select(pl.col("start").first().over("chain"))["start"]
        stamp = begun.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        return pl.Series("outage_id", f"{self._ground.spec.calendar} {self._ground.interval} " + stamp)

    def _outage_table(self, outages: pl.DataFrame) -> pl.DataFrame:
        if outages.is_empty():
            return empty(OUTAGES)
        placed = outages.with_columns(
            self._ground.grid.starts(outages["ordinal"], outages["first"]).alias("start"),
            self._ground.grid.ends(outages["ordinal"], outages["end"] - 1).alias("end"),
            self._ground.grid.sessions(outages["ordinal"]).alias("session"),
            pl.lit(self._ground.spec.calendar).alias("calendar"),
            told_of_outages().alias("evidence"),
        )
        worst = pl.col("lost").arg_max()
        whole = placed.group_by("outage_id", maintain_order=True).agg(
            pl.col("calendar").first(), pl.col("cause").get(worst), pl.col("session").min().alias("first_session"),
            pl.col("start").min(), pl.col("end").max(), pl.col("symbols").max(), pl.col("gaps").sum(),
            pl.col("lost").sum().alias("missing"), pl.col("confidence").get(worst), pl.col("evidence").get(worst),
        )  # fmt: skip
        return whole.select(pl.col(name).cast(dtype) for name, dtype in OUTAGES.items())

    def _sessions(self) -> pl.DataFrame:
        chosen = (
            self._ground.grid.table.filter("chosen") if self._ground.interval.is_intraday else self._ground.grid.table
        )
        inside = chosen.filter(pl.col("session").is_between(self._ground.first, self._ground.last))
        return inside.select(
            pl.lit(self._ground.spec.calendar).alias("calendar"), "session", "segment",
            pl.col("open").alias("segment_open"), pl.col("close").alias("segment_close"),
        )  # fmt: skip

    def _calendar_row(self) -> dict[str, Any]:
        one = self._calendar
        return {
            "calendar": self._ground.spec.calendar, "provider": one.provider, "version": one.version,
            "time_zone": one.zone, "overrides_hash": one.overrides_hash,
        }  # fmt: skip


def _added(steps: list[pl.DataFrame], schema: Schema) -> pl.DataFrame:
    return steps[0] if len(steps) == 1 else peers.summed(pl.concat(steps), schema)


def _of(rows: pl.DataFrame, series: list[int]) -> pl.DataFrame:
    # Series of a block are neighbours, mostly; rows are sorted by them.
    low = rows["series"].search_sorted(series[0], side="left")
    near = rows.slice(low, rows["series"].search_sorted(series[-1], side="right") - low)
    return near if len(series) == series[-1] - series[0] + 1 else near.filter(pl.col("series").is_in(series))
