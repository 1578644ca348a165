"""Blocks of series of a group: find their gaps, attribute causes with the outages of the whole group, build tables.

1. `sum_missing` finds the gaps of a block, weighs them by their own rates, and adds up what the block sums (`MissingSums`).
2. With the outages of the whole group known, `attribute_causes` gives each gap its cause, and says what outages look like from here.
3. With the outages named, `build_tables` makes tables.

A step may run anywhere, and again: what it leaves for the next one is kept in memory, or in files (`BlockState`).
"""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.audit.audit_tables import AT_THE_DOOR, COUNTS, GAPS, QUALITY, SERIES, VOLUMES
from engine.audit.evidence import (
    absence_evidence,
    gap_evidence,
    is_ordinary,
    is_venue_halt,
    ordinary_evidence,
    unit,
    venue_halt_confidence,
    venue_halt_evidence,
)
from engine.calendars.providers import SessionCalendar
from engine.grid import GridSpec, SessionGrid, whole_years
from engine.interval import Interval
from engine.keys import Ints, find_keys, pack_columns
from engine.quality.causes import outages as peers
from engine.quality.causes.attribution import (
    KNOWN,
    cut_at_outages,
    excluded_slots,
    explained_slots,
    gap_edges,
    sum_outage_edges,
)
from engine.quality.causes.attribution import attribute_gaps as attribute_block
from engine.quality.causes.coverage import DUE
from engine.quality.causes.evidence_order import BEFORE_COVERAGE, ranges_of
from engine.quality.causes.fickle_quotes import fickle_series
from engine.quality.causes.gap_parts import axis_keys, cut_points, range_of_parts, series_keys, take_parts
from engine.quality.causes.interruptions import interrupted_slots
from engine.quality.causes.peer_rates import PeerRates, single_gaps
from engine.quality.causes.profiles import BarSummary, bin_width, covered_lengths, slot_keys
from engine.quality.causes.weighing import reweigh_gaps, weigh_gaps
from engine.quality.gaps import expected_slots, find_gaps
from engine.quality.score import adjusted_quality, quality_score

MOST_NAMED = 3  # symbols in a sentence
GONE_SESSIONS = 20  # absent for so many in a row, a symbol may not have been listed under this name
LIQUID, MIXED = 0.95, 0.5  # share of slots with a trade
DateRange = tuple[dt.date | None, dt.date | None]
Calendars = Callable[[str], SessionCalendar]


@dataclass(frozen=True)
class GroupContext:
    """Calendar, grid and dates that all series of a group share.

    Attributes
    ----------
    calendars : callable
        From a code to a calendar.
    spec : GridSpec
    interval : Interval
    first, last : date
        First and last trade date of any of them.
    dates : (date or None, date or None)
        Requested first and last trade date.
    as_of : datetime, optional
        Slots that end later are not due.
    """

    calendars: Calendars
    spec: GridSpec
    interval: Interval
    first: dt.date
    last: dt.date
    dates: DateRange
    as_of: dt.datetime | None

    @cached_property
    def grid(self) -> SessionGrid:
        """Session grid of the calendar from first to last trade date (several days, ...: of their years), computed once."""
        is_usual = self.interval.is_intraday or self.interval.count == 1
        dates = (self.first, self.last) if is_usual else whole_years(self.first, self.last)
        return SessionGrid.build(
            self.calendars(self.spec.calendar).segments_in_bounds(*dates), self.interval, self.spec
        )

    @cached_property
    def axis(self) -> pl.DataFrame:
        """`group` (always 0), `ordinal, slots` of segments with slots due by `as_of` within first..last, by ordinal."""
        due = self.grid.due(self.as_of).filter(pl.col("slots") > 0)
        inside = due.filter(pl.col("session").is_between(self.first, self.last))
        return inside.select(pl.lit(0, pl.Int32).alias("group"), "ordinal", "slots").sort("ordinal")

    @cached_property
    def interruptions(self) -> pl.DataFrame:
        """Interruptions of the venue, sorted by start (`calendars.interruptions.INTERRUPTIONS`)."""
        return self.calendars(self.spec.calendar).interruptions()

    @property
    def width(self) -> int:
        """Number of slots in a bin of the day for the interval: half an hour of them (at least 1); daily and up 1."""
        return bin_width(self.interval)

    @property
    def slot_minutes(self) -> float:
        """Minutes of a slot, that of a day, week or month in open hours of XNYS."""
        return self.interval.seconds / 60


class BlockInput(NamedTuple):
    """Frames of the series of a block.

    Attributes
    ----------
    series : DataFrame of `survey.SERIES`
    lives : DataFrame
        `series, first, last` (Date): within the dates asked for.
    trace : Trace
    counts : DataFrame of `survey.COUNTS`
    prints, quotes : DataFrame of `survey.SLOTS`
    quorum_series : DataFrame
        `series, group`: below 0, a series has no vote on outages.
    uncovered : DataFrame of `coverage.KEY_RANGES`
        Of the group: packed (ordinal, slot) that no series covers.
    sampled : DataFrame
        `series` that have few sessions of those they could have.
    due : DataFrame of `coverage.DUE`
        Sessions that these should have nevertheless.
    unlisted : DataFrame of `coverage.KEY_RANGES`
        Packed (series, ordinal, slot) before and after a symbol was listed.
    known : DataFrame of `survey.KNOWN`
        Slots whose cause is known.
    listed : DataFrame
        `series, first, last`: ordinals of the first and last row of its symbol.
    filled : DataFrame
        `series, session, filled`: slots whose bars a source made up.
    references : DataFrame
        `symbol, ordinal, first, last`: runs of slots of a few symbols that evidence may name.
    copies : DataFrame
        `series, copy`: the symbol of another series with the same bars.
    copied : DataFrame of `copies.COPIED`
        Slots that these have.
    other_sides : DataFrame of `survey.SLOTS`
        Slots in which the other side of a quote has a bar.
    holidays : DataFrame of `dealer_holidays.HOLIDAY_SLOTS`
        Of the group: edges of sessions beside holidays that no series has.
    """

    series: pl.DataFrame
    lives: pl.DataFrame
    trace: BarSummary
    counts: pl.DataFrame
    prints: pl.DataFrame
    quotes: pl.DataFrame
    quorum_series: pl.DataFrame
    uncovered: pl.DataFrame
    sampled: pl.DataFrame
    due: pl.DataFrame
    unlisted: pl.DataFrame
    known: pl.DataFrame
    listed: pl.DataFrame
    filled: pl.DataFrame
    references: pl.DataFrame
    copies: pl.DataFrame
    copied: pl.DataFrame
    other_sides: pl.DataFrame
    holidays: pl.DataFrame


class MissingSums(NamedTuple):
    """Missing and due slots of a block, as steps that add up over blocks; `singles` of several blocks follow one another."""

    missing: pl.DataFrame
    due: pl.DataFrame
    recurring_gaps: pl.DataFrame
    singles: pl.DataFrame


class BlockTables(NamedTuple):
    """Rows of the tables `series`, `quality` and `gaps`."""

    series: pl.DataFrame
    quality: pl.DataFrame
    gaps: pl.DataFrame


@dataclass
class BlockState:
    """Intermediate results of a block, in memory or in files, for its next step.

    Attributes
    ----------
    folder : Path, optional
        Folder of files that every process of the audit can read; default memory.
    name : str
        Of the block.
    contents : dict
        What is in memory; or, of a block of a cluster, what the cluster knows it by.
    """

    folder: Path | None = None
    name: str = ""
    contents: Any = field(default_factory=dict)

    def put(self, what: str, value: object) -> None:
        """Store a value under a name, in memory or pickled to a file in `folder`; the previous one is replaced."""
        if self.folder is None:
            self.contents[what] = value
        else:
            (self.folder / f"{self.name}.{what}").write_bytes(pickle.dumps(value, protocol=5))

    def take(self, what: str) -> Any:  # noqa: ANN401 - whatever was put
        """Return the value stored under a name; from memory it is removed, a file stays. An absent name raises."""
        if self.folder is None:
            return self.contents.pop(what)
        return pickle.loads((self.folder / f"{self.name}.{what}").read_bytes())  # noqa: S301 - of this audit's own workers


@dataclass(frozen=True)
class Block:
    """Some series of a group; `state` holds its `BlockInput`."""

    context: GroupContext
    state: BlockState


def with_contents(
    function: Callable[[Block], Any], context: GroupContext, contents: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Call a function of the block of these contents, which stay as they are; return its result and the contents after it."""
    state = BlockState(contents=dict(contents))
    return function(Block(context, state)), state.contents


def sum_missing(block: Block) -> MissingSums:
    """Find and weigh the gaps of a block, which replace the input in its state; return missing, due, recurring sums."""
    context, block_input = block.context, block.state.take("block_input")
    wanted = wanted_slots(block_input, context)
    found = find_gaps(wanted, block_input.trace.runs, context.grid).drop(
        "cause", "state", "retry_count", "last_retry", "next_retry"
    )
    gaps = with_known_causes(found, block_input, context.grid)
    gaps = with_prints_and_quotes(gaps, wanted, block_input.prints, block_input.quotes)
    gaps = with_other_side(gaps, block_input)
    is_known = gaps["known"].is_not_null().to_numpy()
    part = weigh_gaps(gaps, wanted, context.width, is_known_loss(gaps))
    away = absent_for_long(gaps, context.axis)
    fickle = fickle_series(gaps, part.rates, part.excluded, part.odds.is_improbable)
    is_fickle = pl.col("series").is_in(pl.Series(fickle, dtype=pl.Int32).implode())
    witnesses = block_input.quorum_series.with_columns(
        pl.when(is_fickle).then(-1).otherwise("group").cast(pl.Int32).alias("group")
    )
    group = gaps.select("series").join(witnesses, on="series", how="left", maintain_order="left")["group"]
    voting = np.where(is_known | away, -1, group.to_numpy())
    lives = ordinals_there(wanted, gaps.filter(pl.Series(away)))
    segment_slots = segment_slots_of(gaps, wanted)
    lack = MissingSums(
        peers.peer_sums(gaps, part.odds, part.rates, voting, segment_slots),
        peers.sum_expected(part.rates, lives.join(witnesses, on="series")),
        peers.habit_steps(gaps, wanted, block_input.quorum_series.filter(pl.col("group") >= 0)),
        single_gaps(gaps, segment_slots, part.rates.of_series, witnesses.filter(pl.col("group") >= 0)["series"]),
    )
    block.state.put("weighed", (block_input, part.lean()))
    return lack


def wanted_slots(block_input: BlockInput, context: GroupContext) -> pl.DataFrame:
    """Expected slots of the series of a block (`gaps.expected_slots`)."""
    return expected_slots(block_input.lives, context.grid, context.as_of)


def is_known_loss(gaps: pl.DataFrame) -> NDArray[np.bool_]:
    """Mask gaps whose cause is known. A proven silence is a silence: it tells how quiet the series is."""
    return gaps["known"].ne("no_trade").fill_null(value=False).to_numpy()


def attribute_causes(
    block: Block, outages: pl.DataFrame, recurring_gaps: pl.DataFrame, peer_rates: PeerRates
) -> pl.DataFrame:
    """Attribute a cause to each gap, replacing `sum_missing`'s result in the state; return edge measures summed by outage.

    Parameters
    ----------
    block : Block
    outages, recurring_gaps : DataFrame
        Of the whole group: from `outages.find_outages` and `outages.find_recurring`.
    peer_rates : PeerRates
        Of the whole group.

    Returns
    -------
    DataFrame of `causes.WITNESSES`
        What outages look like here; adds up over blocks.
    """
    context = block.context
    block_input, part = block.state.take("weighed")
    if outages.height or len(peer_rates.series):
        wanted = wanted_slots(block_input, context)
        part = reweigh_gaps(part, wanted, context.width, is_known_loss(part.gaps), outages, peer_rates)
    joined = gap_edges(part.gaps, block_input.trace, context.width)
    part, joined = cut_at_outages(part, joined, outages, context.grid)
    recounted = recount_prints_and_quotes(part.gaps, block_input.prints, block_input.quotes)
    part = part._replace(gaps=with_other_side(recounted, block_input))
    groups = block_input.series.select("series", pl.lit(0, pl.Int32).alias("group"))
    judged = attribute_block(part, joined, groups, outages, recurring_gaps, context.slot_minutes)
    whole = part.rates.of_series
    traded = whole.select("series", "due", "missing", (1 - pl.col("missing") / pl.col("due").clip(1)).alias("traded"))
    block_input = block_input._replace(trace=BarSummary(*(frame.clear() for frame in block_input.trace)))
    block.state.put("judged", (block_input, pl.concat([part.gaps, judged], how="horizontal"), traded))
    return sum_outage_edges(judged, joined)


def build_tables(block: Block, outages: pl.DataFrame) -> BlockTables:
    """Take the gaps `attribute_causes` stored, give them final causes; return rows of tables `series, quality, gaps`.

    Parameters
    ----------
    block : Block
    outages : DataFrame
        From `causes.labelled`, with `outage_id`.
    """
    block_input, gaps, traded = block.state.take("judged")
    counted = traded.join(block_input.series.select("series", "symbol"), on="series")
    told = label_gaps(gaps, outages, block_input, counted, block.context)
    told = label_venue_halts(told, block.context)
    quality = quality_table(told, block_input, block.context)
    return BlockTables(
        series_table(quality, traded.drop("due", "missing"), block_input),
        with_series_names(quality, block_input.series).select(list(QUALITY)),
        with_series_names(told, block_input.series).select(pl.col(name).cast(dtype) for name, dtype in GAPS.items()),
    )


def label_gaps(
    gaps: pl.DataFrame, outages: pl.DataFrame, block_input: BlockInput, counted: pl.DataFrame, context: GroupContext
) -> pl.DataFrame:
    """Add final cause, confidence, evidence, id: a feed loss takes its outage's; 20 or more absent sessions: unknown."""
    known = outages.select(
        "outage",
        "outage_id",
        pl.col("cause").alias("outage_cause"),
        pl.col("confidence").alias("outage_confidence"),
        "symbols",
        "peers",
    )
    joined = gaps.join(known, on="outage", how="left", maintain_order="left")
    of_outage = (pl.col("cause").cast(pl.String) == "feed_loss") & pl.col("outage_cause").is_not_null()
    settled = joined.with_columns(
        pl.when(of_outage).then("outage_cause").otherwise("cause").alias("cause"),
        pl.when(of_outage).then("outage_confidence").otherwise("confidence").alias("confidence"),
    )
    chains = settled.hstack(chains_of_gaps(settled, block_input.series, context.axis))
    gone = (pl.col("absent") >= GONE_SESSIONS) & pl.col("own_id").is_not_null() & pl.col("known").is_null()
    known = chains.with_columns(
        pl.when(gone).then(pl.lit("unknown")).otherwise(pl.col("cause").cast(pl.String)).alias("cause"),
        pl.when(gone).then(0.5).otherwise("confidence").alias("confidence"),
    )
    return known.with_columns(
        pl.coalesce("outage_id", "event", "own_id").alias("outage_id"),
        pl.when(gone)
        .then(absence_evidence())
        .otherwise(evidence_of_gaps(known, counted, block_input.references, unit(str(context.interval))))
        .alias("evidence"),
        pl.when(pl.col("known").is_null()).then("run").alias("chance"),
    )


def label_venue_halts(gaps: pl.DataFrame, context: GroupContext) -> pl.DataFrame:
    """Gaps of which a third or more lies in an interruption of the venue get cause `venue_halt`, the rest of them is `lost`.

    Not those before listing or after delisting, nor those with more trade prints than slots outside the interruption.
    """
    known = interrupted_slots(gaps, context.interruptions, context.grid)
    marked = pl.concat([gaps, known], how="horizontal")
    outside = pl.col("bar_count") - pl.col("inside")
    printed = (pl.col("prints") > outside).fill_null(value=False) if "prints" in gaps.columns else pl.lit(value=False)
    is_halt = is_venue_halt() & ~pl.col("cause").is_in(["not_listed", "not_covered"]) & ~printed
    own_id = pl.format("{} {} {}", pl.lit(context.spec.calendar), "kind", pl.col("start"))
    return marked.with_columns(
        pl.when(is_halt).then(pl.lit("venue_halt")).otherwise("cause").alias("cause"),
        pl.when(is_halt).then(venue_halt_confidence()).otherwise("confidence").alias("confidence"),
        pl.when(is_halt).then(outside).otherwise("lost").cast(gaps.schema["lost"]).alias("lost"),
        pl.when(is_halt).then(venue_halt_evidence()).otherwise("evidence").alias("evidence"),
        pl.when(is_halt).then(pl.coalesce("outage_id", own_id)).otherwise("outage_id").alias("outage_id"),
    ).drop(known.columns)


def quality_table(gaps: pl.DataFrame, block_input: BlockInput, context: GroupContext) -> pl.DataFrame:
    """Quality per series and session within `dates`, raw and adjusted (`adjusted_quality`); nothing due: null."""
    wanted = expected_slots(block_input.lives, context.grid, context.as_of)
    first, last = context.dates
    asked = pl.col("session").is_between(first or dt.date.min, last or dt.date.max)
    raw = quality_score(wanted, gaps, block_input.counts.filter(asked))
    key = ["series", "session"]
    return (
        raw.join(explained_slots(gaps), on=key, how="left", maintain_order="left")
        .join(excluded_slots(gaps), on=key, how="left", maintain_order="left")
        .join(block_input.filled, on=key, how="left", maintain_order="left")
        .with_columns(
            pl.col("explained", "excluded").fill_null(0), pl.min_horizontal(pl.col("filled").fill_null(0), "present")
        )
        .with_columns(adjusted_quality())
    )


def series_table(quality: pl.DataFrame, traded: pl.DataFrame, block_input: BlockInput) -> pl.DataFrame:
    """One row per series with quality: sums, % qualities, `traded`, `activity` (liquid >= 0.95, mixed >= 0.5; else thin)."""
    counted = [*COUNTS, *AT_THE_DOOR]
    sums = quality.group_by("series").agg(
        (pl.col("expected") > 0).sum().cast(pl.Int64).alias("sessions"), pl.col(counted).sum()
    )
    activity = (
        pl.when(pl.col("traded") >= LIQUID)
        .then(pl.lit("liquid"))
        .when(pl.col("traded") >= MIXED)
        .then(pl.lit("mixed"))
        .otherwise(pl.lit("thin"))
    )
    known = block_input.series.join(
        block_input.lives.select(
            "series", pl.col("first").alias("first_session"), pl.col("last").alias("last_session")
        ),
        on="series",
    )
    whole = (
        known.join(sums, on="series")
        .join(traded, on="series", how="left")
        .with_columns(
            pl.when(pl.col("expected") > 0).then(100.0 * pl.col("present") / pl.col("expected")).alias("quality"),
            adjusted_quality(),
            activity.alias("activity"),
            *(pl.lit(None, dtype).alias(name) for name, dtype in VOLUMES.items()),  # of the checks
        )
    )
    return whole.sort("series").select(pl.col(name).cast(dtype) for name, dtype in SERIES.items())


def with_series_names(rows: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """Left-join symbol, price type and interval to rows by series number; the order of rows stays."""
    names = series.select("series", "symbol", "price_type", "interval")
    return rows.join(names, on="series", how="left", maintain_order="left")


def with_known_causes(gaps: pl.DataFrame, block_input: BlockInput, grid: SessionGrid) -> pl.DataFrame:
    """Cut gaps at the edges of what is known of their slots; add `known` (cause or null), its evidence, confidence, event.

    In this order: what rows prove of a slot (`evidence_order.BEFORE_COVERAGE`), what no series covers, sessions of a sample,
    other evidence (`BlockInput.known`), not listed, bars that a copy of the series has, holidays of a dealer.
    """
    known = block_input.known
    told, copied = ranges_of(known), ranges_of(block_input.copied)
    covered, listed, closed = (
        (ranges["start"].to_numpy(), ranges["end"].to_numpy())
        for ranges in (block_input.uncovered, block_input.unlisted, block_input.holidays)
    )
    cuts = ((series_keys, told), (series_keys, listed), (axis_keys, covered), (series_keys, copied), (axis_keys, closed))  # fmt: skip
    for keys_of, ranges in cuts:
        if len(ranges[0]):
            count = gaps["bar_count"].to_numpy().astype(np.int64)
            gaps = take_parts(gaps, *cut_points(keys_of(gaps), count, *ranges), grid)
    at = range_of_parts(series_keys(gaps), *told)
    names = ["cause", "evidence", "confidence", "event"]
    is_known = pl.Series(at >= 0)
    facts = known.select(names)[np.maximum(at, 0)] if known.height else known.select(names).clear(gaps.height)
    whole = gaps.hstack(facts.rename({name: f"@{name}" for name in names}))
    is_told = pl.lit(is_known)
    is_first = is_told & pl.col("@cause").is_in(BEFORE_COVERAGE)
    is_uncovered = pl.lit(pl.Series(range_of_parts(axis_keys(gaps), *covered) >= 0))
    is_unlisted = pl.lit(pl.Series(range_of_parts(series_keys(gaps), *listed) >= 0))
    is_copied = pl.lit(pl.Series(range_of_parts(series_keys(gaps), *copied) >= 0))
    holiday = range_of_parts(axis_keys(gaps), *closed)
    of_holiday = pl.lit(block_input.holidays["cause"].gather(pl.Series(holiday).replace(-1, None)))
    name = gaps.select("series").join(block_input.copies, on="series", how="left", maintain_order="left")["copy"]
    is_due = pl.lit(pl.Series(find_keys(pack_columns(block_input.due, *DUE), pack_columns(gaps, *DUE))[1]))
    is_sample = pl.col("series").is_in(block_input.sampled["series"].implode())
    is_sampled = (pl.col("position") == "session") & is_sample & ~is_due
    is_nowhere = ~is_first & (is_uncovered | is_sampled)
    is_decided = is_told & ~is_nowhere
    return whole.with_columns(
        pl.when(is_nowhere)
        .then(pl.lit("not_covered"))
        .when(is_told)
        .then("@cause")
        .when(is_unlisted)
        .then(pl.lit("not_listed"))
        .when(is_copied)
        .then(pl.lit("symbol_loss"))
        .otherwise(of_holiday)
        .alias("known"),
        pl.when(is_first)
        .then("@evidence")
        .when(is_uncovered)
        .then(pl.lit("no series of this feed has rows there"))
        .when(is_sampled)
        .then(pl.lit("this series has few sessions, each alone: a sample"))
        .when(is_told)
        .then("@evidence")
        .when(is_unlisted)
        .then(pl.lit("before its first or after its last row"))
        .when(is_copied)
        .then(pl.format("{} has the same bars as this series, and it has these too", pl.lit(name)))
        .when(of_holiday.is_not_null())
        .then(pl.lit("no series of this feed has rows there, beside 25 December or 1 January: hours of brokers differ"))
        .alias("known_evidence"),
        pl.when(is_decided).then("@confidence").otherwise(KNOWN).alias("known_confidence"),
        pl.when(is_decided).then("@event").alias("event"),
    ).drop(f"@{name}" for name in names)


def absent_for_long(gaps: pl.DataFrame, axis: pl.DataFrame) -> NDArray[np.bool_]:
    """Mask of gaps in chains that lack `GONE_SESSIONS` covered sessions or more: the symbol is away, and no witness."""
    begun = chain_starts(gaps, axis)
    if not len(begun):
        return np.zeros(0, bool)
    size = np.diff(np.append(begun, gaps.height))
    days = gaps["session"].cast(pl.Int32).to_numpy()
    tail = begun + size - 1
    is_covered = gaps["known"].ne_missing("not_covered").to_numpy()
    covered = np.add.reduceat(is_covered.astype(np.int64), begun)
    return np.asarray(np.repeat((covered >= GONE_SESSIONS) & (days[tail] - days[begun] >= GONE_SESSIONS), size))


def segment_slots_of(gaps: pl.DataFrame, wanted: pl.DataFrame) -> Ints:
    """Slots of the segment of each gap, from the expected ones (sorted, and all segments with gaps are among them)."""
    theirs, ours = (pack_columns(rows, "series", "ordinal") for rows in (wanted, gaps))
    return wanted["slots"].to_numpy()[np.searchsorted(theirs, ours)].astype(np.int64)


def ordinals_there(wanted: pl.DataFrame, away: pl.DataFrame) -> pl.DataFrame:
    """`series, first, last`: ordinals in which each series is a witness, without segments that gaps `away` fill."""
    edges = [pl.col("ordinal").min().alias("first"), pl.col("ordinal").max().alias("last")]
    if away.is_empty():
        return wanted.group_by("series").agg(edges)
    key = ["series", "ordinal"]
    # A symbol that goes away within a session, or comes back within one, was there in that session.
    lacking = away.group_by(key).agg(pl.col("bar_count").sum().alias("lacking"))
    gone = wanted.join(lacking, on=key, how="left", maintain_order="left")
    gone = gone.with_columns((pl.col("lacking").fill_null(0) >= pl.col("slots")).alias("away"))
    part = (pl.col("away") != pl.col("away").shift(1).over("series")).fill_null(value=False).cum_sum().alias("part")
    there = gone.with_columns(part).filter(~pl.col("away"))
    return there.group_by("series", "part").agg(edges).drop("part")


def with_other_side(gaps: pl.DataFrame, block_input: BlockInput) -> pl.DataFrame:
    """Add `is_quote`, and `other_side`: slots of each gap that the other side of its quote has; null: there is none."""
    sides = pl.Series("other_side", count_slots_in_gaps(block_input.other_sides, gaps))
    paired = gaps["series"].is_in(block_input.other_sides["series"].unique().implode())
    quotes = block_input.series.filter(pl.col("price_type") != "last")["series"]
    return gaps.with_columns(
        pl.when(paired).then(sides).alias("other_side"), gaps["series"].is_in(quotes.implode()).alias("is_quote")
    )


def recount_prints_and_quotes(gaps: pl.DataFrame, prints: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """Count `prints` and `quotes` again after gaps were cut; `usual_quotes` are spread evenly over a gap's slots."""
    for name, runs in (("prints", prints), ("quotes", quotes)):
        if name in gaps.columns:
            inside = pl.lit(pl.Series(count_slots_in_gaps(runs, gaps)))
            gaps = gaps.with_columns(pl.when(pl.col(name).is_not_null()).then(inside).alias(name))
    return gaps


def with_prints_and_quotes(
    gaps: pl.DataFrame, wanted: pl.DataFrame, prints: pl.DataFrame, quotes: pl.DataFrame
) -> pl.DataFrame:
    """Add `prints`, `quotes`: slots with any per gap, null if its series has none; `usual_quotes`; no runs, no column."""
    for name, runs in (("prints", prints), ("quotes", quotes)):
        if runs.is_empty():
            continue
        inside = pl.Series(name, count_slots_in_gaps(runs, gaps))
        known = gaps["series"].is_in(runs["series"].unique().implode())
        gaps = gaps.with_columns(pl.when(known).then(inside).alias(name))
    if quotes.is_empty():
        return gaps
    due = wanted.group_by("series").agg(pl.col("slots").sum().alias("due"))
    held = quotes.group_by("series").agg((pl.col("last") - pl.col("first") + 1).sum().alias("held"))
    share = due.join(held, on="series").select("series", (pl.col("held") / pl.col("due")).clip(0, 0.999).alias("share"))
    joined = gaps.join(share, on="series", how="left", maintain_order="left")
    return joined.with_columns((-pl.col("bar_count") * (1 - pl.col("share")).log()).alias("usual_quotes")).drop("share")


def count_slots_in_gaps(runs: pl.DataFrame, gaps: pl.DataFrame) -> Ints:
    """Return per gap how many of its slots slot runs of its series cover; runs must be sorted and disjoint."""
    start = slot_keys(*(runs[name].to_numpy() for name in ("series", "ordinal", "first")))
    end = slot_keys(*(runs[name].to_numpy() for name in ("series", "ordinal", "last"))) + 1
    begin = slot_keys(*(gaps[name].to_numpy() for name in ("series", "ordinal", "slot")))
    return covered_lengths(start, end, begin, begin + gaps["bar_count"].to_numpy())


def chains_of_gaps(gaps: pl.DataFrame, series: pl.DataFrame, axis: pl.DataFrame) -> pl.DataFrame:
    """Per gap (sorted by series, place): id of its chain of adjoining gaps, covered sessions it lacks; not lost: null, 0.

    Returns
    -------
    DataFrame of `own_id` (String, null where nothing was lost), `absent` (whole covered sessions of the run)
    """
    begun = chain_starts(gaps, axis)
    run = np.repeat(np.arange(len(begun)), np.diff(np.append(begun, gaps.height)))
    placed = gaps.select("series", "session", "position", "cause").with_columns(
        pl.Series("run", run), gaps["gap_start"].gather(begun[run]).alias("begun")
    )
    is_absent = (pl.col("position") == "session") & pl.col("cause").ne_missing("not_covered")
    absent = placed.filter(is_absent).group_by("run").agg(pl.col("session").n_unique().alias("absent"))
    its_own = pl.col("cause").cast(pl.String).is_in(["symbol_loss", "halt", "unknown"]).fill_null(value=False)
    lost = placed.with_row_index("row").filter(its_own)
    names = series.select("series", "symbol", "price_type")
    named = lost.join(names, on="series", how="left", maintain_order="left").join(
        absent, on="run", how="left", maintain_order="left"
    )
    stamp = pl.col("begun").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    told = named.select("row", pl.format("{} {} {}", "symbol", "price_type", stamp).alias("own_id"), "absent")
    return scatter_rows(told, gaps.height).with_columns(pl.col("absent").fill_null(0))


def chain_starts(gaps: pl.DataFrame, axis: pl.DataFrame) -> Ints:
    """Return row numbers of gaps (sorted by series, place) not adjoining the series' gap before at a segment end."""
    ordinal, slot, end, number = (gaps[name].to_numpy() for name in ("ordinal", "slot", "bar_count", "series"))
    at = np.searchsorted(axis["ordinal"].to_numpy(), ordinal)
    closes = slot + end >= axis["slots"].to_numpy()[np.minimum(at, axis.height - 1)]
    follows = (number[1:] == number[:-1]) & (at[1:] == at[:-1] + 1) & (slot[1:] == 0) & closes[:-1]
    return np.flatnonzero(np.append([True], ~follows)[: gaps.height])


def evidence_of_gaps(gaps: pl.DataFrame, counted: pl.DataFrame, references: pl.DataFrame, word: str) -> pl.Series:
    """Return the evidence text of each gap, in order: one text per series for ordinary ones, full text for all others.

    Parameters
    ----------
    gaps : DataFrame
    counted : DataFrame
        `series, symbol, due, missing`.
    references : DataFrame
        From `BlockInput`.
    word : str
        What a slot is called.
    """
    plain = gaps.select(is_ordinary()).to_series()
    rows = gaps.with_row_index("row")
    texts = counted.select("series", ordinary_evidence(word).alias("evidence"))
    ordinary = rows.filter(plain).select("row", "series").join(texts, on="series", how="left", maintain_order="left")
    others = rows.filter(~plain).join(
        counted.select("series", "symbol"), on="series", how="left", maintain_order="left"
    )
    told = others.with_columns(symbols_that_go_on(others, references))
    whole = [ordinary.select("row", "evidence"), told.select("row", gap_evidence(told, word).alias("evidence"))]
    return scatter_rows(pl.concat(whole), gaps.height)["evidence"]


def symbols_that_go_on(gaps: pl.DataFrame, references: pl.DataFrame) -> pl.Series:
    """`on`: the names of at most three other symbols that have all slots of each gap: `SPY, BAC and IBM`; none: null."""
    begin, count = axis_keys(gaps), gaps["bar_count"].to_numpy().astype(np.int64)
    there = []
    for (symbol,), runs in references.group_by("symbol", maintain_order=True):
        zero = np.zeros(runs.height, np.int64)
        start, last = (slot_keys(zero, runs["ordinal"].to_numpy(), runs[slot].to_numpy()) for slot in ("first", "last"))
        has_all = covered_lengths(start, last + 1, begin, begin + count) == count
        there.append(pl.when(pl.lit(pl.Series(has_all)) & (pl.col("symbol") != symbol)).then(pl.lit(symbol)))
    if not there:
        return pl.Series("on", [None] * gaps.height, pl.String)
    names = pl.concat_list(there).list.drop_nulls().list.head(MOST_NAMED)
    listed = gaps.with_columns(names.alias("names"))
    one = pl.when(pl.col("names").list.len() == 1).then(pl.col("names").list.first())
    said = one.when(pl.col("names").list.len() > 1).then(several_names())
    return listed.select(said.alias("on")).to_series()


def several_names() -> pl.Expr:
    """Text of a list `names` of two or more: `A, B and C`."""
    names = pl.col("names")
    return pl.concat_str([names.list.head(names.list.len() - 1).list.join(", "), pl.lit(" and "), names.list.last()])


def scatter_rows(rows: pl.DataFrame, height: int) -> pl.DataFrame:
    """Return `height` rows: each row at the index in its column `row` (dropped), null rows elsewhere."""
    at = np.full(height, rows.height, np.int64)
    at[rows["row"].to_numpy()] = np.arange(rows.height)
    return pl.concat([rows.drop("row"), rows.drop("row").clear(1)])[at]
