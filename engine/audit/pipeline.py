"""From a survey to the tables of an audit: gaps with their causes, quality raw and adjusted, outages.

1. Series that share an axis and an interval are peers (`peer_groups`): what they lack together is one outage.
2. The series of a group are taken a block at a time (`blocks`), here or by whoever a `BlockRunner` names: each block is weighed,
   and what the blocks lack is added up.
3. With the outages of the whole group known, each block is judged, and named (`PeerGroup.tables`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.audit.attribution_blocks import (
    Block,
    BlockInput,
    BlockState,
    Calendars,
    DateRange,
    GroupContext,
    attribute_causes,
    build_tables,
    sum_missing,
    with_contents,
)
from engine.audit.audit_tables import AUDIT_TABLES, OUTAGES
from engine.audit.evidence import is_venue_halt, outage_evidence, unit, venue_halt_confidence, venue_halt_evidence
from engine.audit.survey import Axis, Survey
from engine.checks.check import SERIES
from engine.checks.filled import FILLED_SLOTS
from engine.grid import GridSpec
from engine.interval import Interval
from engine.quality.causes import outages as peers
from engine.quality.causes.attribution import classify_outages
from engine.quality.causes.copies import find_copies, slots_of_copies
from engine.quality.causes.coverage import Coverage, coverage, unlisted_slots
from engine.quality.causes.dealer_holidays import HOLIDAY_SLOTS, holiday_slots, is_dealer_feed
from engine.quality.causes.evidence_order import RANKS
from engine.quality.causes.gap_parts import outage_keys
from engine.quality.causes.interruptions import interrupted_slots
from engine.quality.causes.missing_dates import slots_of_missing_dates
from engine.quality.causes.peer_rates import PeerRates, find_peer_rates
from engine.quality.causes.priors import losses_per_slot
from engine.quality.causes.profiles import BarSummary
from engine.quality.contiguous_runs import run_starts
from engine.schema import Schema, empty

RUNS_PER_BLOCK, LEAST_RUNS_PER_BLOCK = 1 << 21, 1 << 15
REFERENCES = 4  # symbols that evidence may name
LABEL_SEPARATOR = "\x1f"
FILLED_KEY = list(SERIES)
ATTRIBUTED = ("series", "quality", "gaps", "outages", "sessions", "calendars")


@dataclass(frozen=True)
class BlockRunner:
    """Where blocks are worked on.

    Attributes
    ----------
    run : callable, optional
        Runs a function of each block, as `runtime.executor.Executor.run`; default here.
    blocks : int
        Into how many a large group is cut.
    folder : Path, optional
        For what a step leaves for the next one: all that run blocks see it. Default memory.
    run_with_state : callable, optional
        Instead of `run`, where those that run blocks share no folder: `runtime.executor.DaskCluster.run_with_state`.
    """

    run: Callable[[Callable[[Block], Any], Sequence[Block]], Iterator[tuple[int, Any]]] | None = None
    blocks: int = 1
    folder: Path | None = None
    run_with_state: (
        Callable[[Callable[[Any, Any], Any], Sequence[Any], Sequence[Any]], tuple[list[Any], list[Any]]] | None
    ) = None

    def map_blocks(self, function: Callable[[Block], Any], blocks: Sequence[Block]) -> list[Any]:
        """Return the function's result for each block, in block order; no other place or one block: in this process."""
        if len(blocks) > 1 and self.run_with_state is not None:
            results, states = self.run_with_state(
                partial(with_contents, function),
                [block.context for block in blocks],
                [block.state.contents for block in blocks],
            )
            for block, contents in zip(blocks, states, strict=True):
                block.state.contents = contents
            return results
        if self.run is None or len(blocks) == 1:
            return [function(block) for block in blocks]
        done = dict(self.run(function, blocks))
        return [done[number] for number in range(len(blocks))]

    def runs_per_block(self, runs: int) -> int:
        """Return the limit of slot runs per block: `runs` / `blocks` + 1, within 32,768 to 2,097,152."""
        return max(min(RUNS_PER_BLOCK, runs // self.blocks + 1), LEAST_RUNS_PER_BLOCK)


IN_PROCESS = BlockRunner()


def attribute_gaps(
    survey: Survey,
    calendars: Calendars,
    dates: DateRange = (None, None),
    as_of: dt.datetime | None = None,
    runner: BlockRunner = IN_PROCESS,
    filled: pl.DataFrame | None = None,
) -> dict[str, pl.DataFrame]:
    """Find the gaps of all peer groups and attribute causes; return the six tables of `ATTRIBUTED` by name.

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
    runner : BlockRunner
        Where the work is done; the answer is the same.
    filled : DataFrame of `checks.filled.FILLED_SLOTS`, optional
        Slots whose bars a source made up, which are not present for `quality_adjusted`; none by default.

    Returns
    -------
    dict of table to DataFrame
        `series, quality, gaps, outages, sessions, calendars` of `engine.audit.audit_tables`.
    """
    known = pl.concat([empty(FILLED_SLOTS), *([] if filled is None else [filled])])
    groups = [PeerGroup(survey, one, calendars, dates, as_of, known) for one in peer_groups(survey.series)]
    made = [group.tables(runner, f"group{number}") for number, group in enumerate(groups)]
    tables = {name: pl.concat([empty(AUDIT_TABLES[name]), *(one[name] for one in made)]) for name in ATTRIBUTED}
    return tables | {
        "calendars": tables["calendars"].unique(maintain_order=True),
        "sessions": tables["sessions"].unique(maintain_order=True),
    }


def peer_groups(series: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield rows of one calendar, segments, align, zone, interval, in this order; `segments` is text joined by U+001F."""
    axis = ["calendar", "segments", "align", "zone", "interval"]
    # A list is no key of a group, its text is.
    keyed = series.with_columns(pl.col("segments").list.join(LABEL_SEPARATOR).alias("segments"))
    for _, rows in keyed.sort(*axis, "series").group_by(axis, maintain_order=True):
        yield rows


def axis_of(group: pl.DataFrame) -> Axis:
    """Axis of the series of a peer group (`peer_groups`)."""
    first = group.row(0, named=True)
    labels = tuple(label for label in first["segments"].split(LABEL_SEPARATOR) if label)
    return Axis(first["calendar"], labels, first["align"], first["zone"], first["interval"])


class PeerGroup:
    """Series of one axis and interval."""

    def __init__(
        self,
        survey: Survey,
        series: pl.DataFrame,
        calendars: Calendars,
        dates: DateRange,
        as_of: dt.datetime | None,
        filled: pl.DataFrame,
    ) -> None:
        axis = axis_of(series)
        spec = GridSpec(*axis[:-1])  # type: ignore[arg-type]
        begin, end = (pl.lit(date, pl.Date) for date in dates)
        lives = series.select(
            "series",
            pl.max_horizontal("first", begin).alias("first"),
            pl.min_horizontal("last", end).alias("last"),
        )
        self._survey = survey
        self._series = series
        named = series.select("series", *FILLED_KEY).join(filled, on=FILLED_KEY)
        self._filled = named.select("series", "session", "filled").sort("series", "session")
        self._lives = lives.filter(pl.col("first") <= pl.col("last"))
        self._calendar = calendars(axis.calendar)
        low: Any = self._lives["first"].min()
        high: Any = self._lives["last"].max()
        self._context = GroupContext(calendars, spec, Interval.parse(axis.interval), low, high, dates, as_of)

    def tables(self, runner: BlockRunner, group_name: str) -> dict[str, pl.DataFrame]:
        """Attribute the group's gaps in three passes over its blocks; return `ATTRIBUTED` tables by name, maybe empty."""
        if self._lives.is_empty():
            return {name: empty(AUDIT_TABLES[name]) for name in ATTRIBUTED}
        axis = self._context.axis
        blocks = list(self.blocks(runner, group_name))
        sums = runner.map_blocks(sum_missing, blocks)
        missing = add_steps([one.missing for one in sums], peers.SUMS)
        due = add_steps([one.due for one in sums], peers.EXPECTATION)
        found = peers.find_outages(
            missing,
            due,
            self._context.width,
            self._context.slot_minutes,
            axis,
            int(self.segments_with_rows["slots"].sum()),
        )
        recurring_gaps = peers.find_recurring(
            add_steps([one.recurring_gaps for one in sums], peers.HABIT_STEPS), self.segments_with_rows
        )
        peer_rates = self.peer_rates(pl.concat([one.singles for one in sums]), found)
        attribute = partial(attribute_causes, outages=found, recurring_gaps=recurring_gaps, peer_rates=peer_rates)
        seen = runner.map_blocks(attribute, blocks)
        witnesses = pl.concat(seen).group_by("outage").sum().sort("outage")
        outages = classify_outages(found, witnesses, axis)
        outages = outages.with_columns(self.outage_ids(outages))
        named = runner.map_blocks(partial(build_tables, outages=outages), blocks)
        gaps = pl.concat([one.gaps for one in named])
        return {
            "series": pl.concat([one.series for one in named]),
            "quality": pl.concat([one.quality for one in named]),
            "gaps": gaps,
            "outages": pl.concat([self.outage_table(outages), self.event_table(gaps)]),
            "sessions": self.session_rows(),
            "calendars": pl.DataFrame([self.calendar_row()], schema=dict(AUDIT_TABLES["calendars"])),
        }

    def blocks(self, runner: BlockRunner, group_name: str) -> Iterator[Block]:
        """Yield blocks of series, cut by number of slot runs; stores each `BlockInput` (one block: always in memory)."""
        ours = self._lives.select("series").join(
            self._survey.runs.group_by("series").len(), on="series", how="left", maintain_order="left"
        )
        counts = ours["len"].fill_null(0)
        cut = (counts.cum_sum() // runner.runs_per_block(int(counts.sum()))).alias("cut")
        parts = list(ours.with_columns(cut).group_by("cut", maintain_order=True))
        for number, (_, rows) in enumerate(parts):
            state = BlockState(runner.folder if len(parts) > 1 else None, f"{group_name}-{number}")
            state.put("block_input", self.block_input(rows["series"].to_list()))
            yield Block(self._context, state)

    def block_input(self, series: list[int]) -> BlockInput:
        """Return the survey's and group's frames filtered to these series (ascending numbers)."""
        survey = self._survey
        runs, profile, counts, prints = (
            rows_of_series(frame, series) for frame in (survey.runs, survey.profile, survey.counts, survey.prints)
        )
        ours = pl.col("series").is_in(series)
        about, lives, quorum_series, listed = (
            frame.filter(ours) for frame in (self._series, self._lives, self.quorum_series, self.listed_ranges)
        )
        return BlockInput(
            about,
            lives,
            BarSummary(runs, profile),
            counts,
            prints,
            rows_of_series(self.quoted_slots, series),
            quorum_series,
            self._coverage.uncovered,
            self._coverage.sampled.filter(ours),
            self._coverage.due.filter(ours),
            unlisted_slots(listed, self._coverage.sessions),
            rows_of_series(survey.known, series),
            listed,
            rows_of_series(self._filled, series),
            self.references,
            self.copies.filter(ours),
            rows_of_series(self._copied_slots, series),
            rows_of_series(self.other_sides, series),
            self._holiday_slots,
        )

    def peer_rates(self, singles: pl.DataFrame, outages: pl.DataFrame) -> PeerRates:
        """Rates without a trade that series have by their peers, from the `single_gaps` of all blocks."""
        profile = self._survey.profile.filter(pl.col("series").is_in(singles["series"].unique().implode()))
        volume = profile.group_by("series", maintain_order=True).agg(pl.col("volume").sum() / pl.col("bars").sum())
        return find_peer_rates(singles, outage_keys(outages), volume, losses_per_slot(self._context.slot_minutes))

    @cached_property
    def segments_with_rows(self) -> pl.DataFrame:
        """`axis` of the segments in which any series of the group has a row."""
        return self._context.axis.join(self._runs.select(pl.col("ordinal").unique()), on="ordinal", how="semi")

    @cached_property
    def _runs(self) -> pl.DataFrame:
        """Runs of present slots of the group's series."""
        return self._survey.runs.filter(pl.col("series").is_in(self._series["series"].implode()))

    @cached_property
    def _coverage(self) -> Coverage:
        """What the files of the group cover."""
        axis = self._context.axis
        covered = coverage(self._series, self._lives, self._survey.runs, axis)
        dates = slots_of_missing_dates(self._runs, axis, self._context.grid, ("UTC", self._calendar.zone))
        uncovered = pl.concat([covered.uncovered, dates]).unique().sort("start")
        return covered._replace(uncovered=uncovered)

    @cached_property
    def _holiday_slots(self) -> pl.DataFrame:
        """Edges of sessions beside holidays that no series of a dealer's feed has."""
        interval = self._context.interval
        is_within_a_day = interval.is_intraday or (interval.unit, interval.count) == ("d", 1)
        if not (is_within_a_day and is_dealer_feed(self._series)):
            return empty(HOLIDAY_SLOTS)
        return holiday_slots(self._runs, self._context.axis, self._context.grid)

    @cached_property
    def quorum_series(self) -> pl.DataFrame:
        """`series, group`: 0 for each symbol's one voting series (last, mid, bid, ask, in this order), -1 else, and for copies."""
        # Bid and ask of a symbol are not two witnesses, nor are copies of a series.
        rank = pl.col("price_type").replace_strict({"last": 0, "mid": 1, "bid": 2, "ask": 3}, default=4)
        first = pl.int_range(pl.len()).over("symbol", order_by=rank) == 0
        voting = self._series.filter(first).select("series")
        family = voting.join(self._families, on="series", how="left", maintain_order="left")
        one_each = family.filter(pl.col("family").is_null() | pl.col("family").is_first_distinct())["series"]
        votes = pl.col("series").is_in(one_each.implode())
        return self._series.select("series", pl.when(votes).then(0).otherwise(-1).cast(pl.Int32).alias("group"))

    @cached_property
    def references(self) -> pl.DataFrame:
        """`symbol, ordinal, first, last`: runs of the `REFERENCES` symbols with most bars, each one's voting series."""
        voting = self.quorum_series.filter(pl.col("group") >= 0).select("series")
        bars = self._survey.profile.group_by("series").agg(pl.col("bars").sum()).join(voting, on="series")
        most = bars.sort("bars", "series", descending=[True, False]).head(REFERENCES).select("series")
        named = most.join(self._series.select("series", "symbol"), on="series", maintain_order="left")
        runs = self._survey.runs.filter(pl.col("series").is_in(most["series"].implode()))
        return named.join(runs, on="series", maintain_order="left_right").select("symbol", "ordinal", "first", "last")

    @cached_property
    def _families(self) -> pl.DataFrame:
        """Copies among the series of the group (`copies.find_copies`)."""
        return find_copies(self._survey.profile.filter(pl.col("series").is_in(self._series["series"].implode())))

    @cached_property
    def _copied_slots(self) -> pl.DataFrame:
        """Slots that copies of a series have (`copies.slots_of_copies`)."""
        return slots_of_copies(self._families, self._survey.runs)

    @cached_property
    def copies(self) -> pl.DataFrame:
        """`series, copy`: of each series with copies the symbol of the first other one."""
        named = self._families.join(self._series.select("series", "symbol"), on="series", maintain_order="left")
        first = named.group_by("family", maintain_order=True).agg(pl.col("symbol").head(2))
        symbols = named.join(first.rename({"symbol": "others"}), on="family", maintain_order="left")
        other = pl.when(pl.col("others").list.first() == pl.col("symbol")).then(pl.col("others").list.get(1))
        return symbols.select("series", other.otherwise(pl.col("others").list.first()).alias("copy"))

    @cached_property
    def quoted_slots(self) -> pl.DataFrame:
        """Slot runs with quotes per series; trades without any take bars of their symbol's first bid, ask, mid series."""
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
    def other_sides(self) -> pl.DataFrame:
        """Slot runs of the other side of each bid and ask series of a symbol that has both."""
        sides = self._series.filter(pl.col("price_type").is_in(["bid", "ask"])).select("series", "symbol", "price_type")
        pairs = sides.join(sides, on="symbol", suffix="_other").filter(
            pl.col("price_type") != pl.col("price_type_other")
        )
        number = pairs.select(pl.col("series").alias("number"), pl.col("series_other").alias("series"))
        runs = self._survey.runs.join(number, on="series").select(
            pl.col("number").alias("series"), "ordinal", "first", "last"
        )
        return runs.sort("series", "ordinal", "first")

    @cached_property
    def listed_ranges(self) -> pl.DataFrame:
        """`series, first, first_slot, last, last_slot`: places of the first and last row of ANY series of the symbol."""
        # A symbol is listed while any of its series has rows.
        runs = self._survey.runs
        heads = run_starts(runs["series"].to_numpy())
        tails = np.append(heads[1:], [runs.height])[: len(heads)] - 1
        ends = pl.DataFrame(
            {
                "series": runs["series"].gather(heads),
                "first": runs["ordinal"].gather(heads),
                "first_slot": runs["first"].gather(heads),
                "last": runs["ordinal"].gather(tails),
                "last_slot": runs["last"].gather(tails),
            }
        )
        names = self._survey.series.select("series", "symbol")
        earliest, latest = (
            ends.join(names, on="series")
            .sort(by, slot, descending=descending)
            .unique("symbol", keep="first", maintain_order=True)
            .select("symbol", by, slot)
            for by, slot, descending in (("first", "first_slot", False), ("last", "last_slot", True))
        )
        ours = self._series.select("series", "symbol")
        return ours.join(earliest, on="symbol").join(latest, on="symbol").drop("symbol").sort("series")

    def outage_ids(self, outages: pl.DataFrame) -> pl.Series:
        """Return an id per outage: calendar, interval and start of its chain's first; a chain shares one id."""
        if outages.is_empty():
            return pl.Series("outage_id", [], pl.String)
        start = self._context.grid.starts(outages["ordinal"], outages["first"])
        begun = outages.select("chain", start.alias("start")).select(pl.col("start").first().over("chain"))["start"]
        stamp = begun.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        return pl.Series("outage_id", f"{self._context.spec.calendar} {self._context.interval} " + stamp)

    def outage_table(self, outages: pl.DataFrame) -> pl.DataFrame:
        """Return one row per id with missing bars: span, summed gaps and missing, most symbols, cause of the worst part.

        Without missing bars are those of which all gaps have a cause of their own (known, or of every session).
        """
        if outages.is_empty():
            return empty(OUTAGES)
        placed = outages.with_columns(
            self._context.grid.starts(outages["ordinal"], outages["first"]).alias("start_ts"),
            self._context.grid.ends(outages["ordinal"], outages["end"] - 1).alias("end_ts"),
            self._context.grid.sessions(outages["ordinal"]).alias("session"),
            pl.lit(self._context.spec.calendar).alias("calendar"),
            (outages["end"] - outages["first"]).alias("bar_count"),
        ).with_columns(outage_evidence(unit(str(self._context.interval))).alias("evidence"))
        placed = label_interrupted_outages(placed, self._context)
        worst = pl.col("lost").arg_max()
        whole = placed.group_by("outage_id", maintain_order=True).agg(
            pl.col("calendar").first(),
            pl.col("cause").get(worst),
            pl.col("session").min().alias("first_session"),
            pl.col("start_ts").min(),
            pl.col("end_ts").max(),
            pl.col("symbols").max(),
            pl.col("gaps").sum(),
            pl.col("lost").sum().alias("missing"),
            pl.col("confidence").get(worst),
            pl.col("evidence").get(worst),
        )
        missing = whole.filter(pl.col("missing") > 0)
        return missing.select(pl.col(name).cast(dtype) for name, dtype in OUTAGES.items())

    def event_table(self, gaps: pl.DataFrame) -> pl.DataFrame:
        """`OUTAGES` of events that files report, one per event that explains gaps of the group: its evidence is theirs."""
        # Seams of pages are those of one series, which its own finding names.
        reported = self._survey.known.filter(pl.col("rank") != RANKS["page_seam"])
        events = reported.drop_nulls("event")["event"].unique()
        own = gaps.filter(pl.col("outage_id").is_in(events.implode())) if len(events) else gaps.clear()
        whole = own.group_by("outage_id", maintain_order=True).agg(
            pl.lit(self._context.spec.calendar).alias("calendar"),
            pl.col("cause").first(),
            pl.col("session").min().alias("first_session"),
            pl.col("gap_start").min().alias("start_ts"),
            pl.col("gap_end").max().alias("end_ts"),
            pl.col("symbol").n_unique().alias("symbols"),
            pl.len().alias("gaps"),
            pl.col("bar_count").sum().alias("missing"),
            pl.col("confidence").first(),
            pl.col("evidence").first(),
        )
        return whole.select(pl.col(name).cast(dtype) for name, dtype in OUTAGES.items())

    def session_rows(self) -> pl.DataFrame:
        """Return rows of table `sessions`: segments within first..last session; if intraday the chosen ones, else all."""
        chosen = (
            self._context.grid.table.filter("chosen")
            if self._context.interval.is_intraday
            else self._context.grid.table
        )
        inside = chosen.filter(pl.col("session").is_between(self._context.first, self._context.last))
        return inside.select(
            pl.lit(self._context.spec.calendar).alias("calendar"),
            "session",
            "segment",
            pl.col("open").alias("segment_open"),
            pl.col("close").alias("segment_close"),
        )

    def calendar_row(self) -> dict[str, Any]:
        """Return the row of table `calendars`: code, provider, version, time zone and overrides hash."""
        one = self._calendar
        return {
            "calendar": self._context.spec.calendar,
            "provider": one.provider,
            "version": one.version,
            "time_zone": one.zone,
            "overrides_hash": one.overrides_hash,
        }


def label_interrupted_outages(outages: pl.DataFrame, context: GroupContext) -> pl.DataFrame:
    """Outages of which a third or more lies in an interruption of the venue get cause `venue_halt`, its evidence in front."""
    spans = outages.select(
        "ordinal",
        pl.col("first").alias("slot"),
        (pl.col("end") - pl.col("first")).alias("bar_count"),
        pl.col("start_ts").alias("gap_start"),
        pl.col("end_ts").alias("gap_end"),
    )
    known = interrupted_slots(spans, context.interruptions, context.grid)
    marked = spans.select("bar_count").hstack(known).select(
        is_venue_halt().alias("is_halt"),
        venue_halt_confidence().alias("sure"),
        venue_halt_evidence().alias("because"),
    )  # fmt: skip
    is_halt = pl.col("is_halt")
    return outages.hstack(marked).with_columns(
        pl.when(is_halt).then(pl.lit("venue_halt")).otherwise(pl.col("cause").cast(pl.String)).alias("cause"),
        pl.when(is_halt).then("sure").otherwise("confidence").alias("confidence"),
        pl.when(is_halt).then(pl.format("{}; {}", "because", "evidence")).otherwise("evidence").alias("evidence"),
    )


def add_steps(steps: list[pl.DataFrame], schema: Schema) -> pl.DataFrame:
    """Sum the steps of several blocks by key; those of a single block are returned as they are."""
    return steps[0] if len(steps) == 1 else peers.sum_steps(pl.concat(steps), schema)


def rows_of_series(rows: pl.DataFrame, series: list[int]) -> pl.DataFrame:
    """Return rows whose `series` is listed; rows sorted by series and an ascending, nonempty list are required."""
    # Series of a block are neighbours, mostly; rows are sorted by them.
    low = rows["series"].search_sorted(series[0], side="left")
    near = rows.slice(low, rows["series"].search_sorted(series[-1], side="right") - low)
    return near if len(series) == series[-1] - series[0] + 1 else near.filter(pl.col("series").is_in(series))
