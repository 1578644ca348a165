"""Some series of a group: what each says by itself, then what follows from what all of them lack together.

1. `weigh` finds the gaps of a block, weighs them by their own rates, and adds up what the block lacks (`Lack`).
2. With the outages of the whole group known, `judge` gives each gap its cause, and says what outages look like from here.
3. With the outages named, `name` makes tables.

A step may run anywhere, and again: what it leaves for the next one is kept in memory, or in files (`Held`).
"""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from engine.audit.audit_tables import AT_THE_DOOR, COUNTS, GAPS, QUALITY, SERIES
from engine.audit.evidence import is_plain, told, told_of_absence, told_plainly
from engine.calendars.providers import SessionCalendar
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.keys import Ints
from engine.quality.causes import outages as peers
from engine.quality.causes.attribution import edges, explained, prepare, witnessed
from engine.quality.causes.attribution import judge as judged_by
from engine.quality.causes.profiles import Trace, bin_width, line, overlap
from engine.quality.gaps import expected_slots, find_gaps
from engine.quality.score import quality_score

GONE_SESSIONS = 20  # absent for so many in a row, a symbol may not have been listed under this name
LIQUID, MIXED = 0.95, 0.5  # share of slots with a trade
DateRange = tuple[dt.date | None, dt.date | None]
Calendars = Callable[[str], SessionCalendar]


@dataclass(frozen=True)
class Ground:
    """What all series of a group have in common.

    Attributes
    ----------
    calendars : callable
        From a code to a calendar.
    spec : GridSpec
    interval : Interval
    first, last : date
        First and last trade date of any of them.
    dates : (date or None, date or None)
        Those that were asked for.
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
        """The slots of these dates."""
        return SessionGrid.build(
            self.calendars(self.spec.calendar).segments_in_bounds(self.first, self.last), self.interval, self.spec
        )

    @cached_property
    def axis(self) -> pl.DataFrame:
        """`group, ordinal, slots` of the segments that are due, sorted."""
        due = self.grid.due(self.as_of).filter(pl.col("slots") > 0)
        inside = due.filter(pl.col("session").is_between(self.first, self.last))
        return inside.select(pl.lit(0, pl.Int32).alias("group"), "ordinal", "slots").sort("ordinal")

    @property
    def width(self) -> int:
        """As `traces.bin_width`."""
        return bin_width(self.interval)


class Given(NamedTuple):
    """Frames of the series of a block.

    Attributes
    ----------
    series : DataFrame of `survey.SERIES`
    lives : DataFrame
        `series, first, last` (Date): within the dates asked for.
    trace : Trace
    counts : DataFrame of `survey.COUNTS`
    prints, quotes : DataFrame of `survey.SLOTS`
    voters : DataFrame
        `series, group`: below 0, a series has no vote on outages.
    listed : DataFrame
        `series, first, last`: ordinals of the first and last row of its symbol.
    """

    series: pl.DataFrame
    lives: pl.DataFrame
    trace: Trace
    counts: pl.DataFrame
    prints: pl.DataFrame
    quotes: pl.DataFrame
    voters: pl.DataFrame
    listed: pl.DataFrame


class Lack(NamedTuple):
    """What a block lacks and what was due, as steps that add up over blocks: `outages.peer_sums`, `expectation`, `habit_steps`."""

    missing: pl.DataFrame
    due: pl.DataFrame
    habits: pl.DataFrame


class Named(NamedTuple):
    """Rows of the tables `series`, `quality` and `gaps`."""

    series: pl.DataFrame
    quality: pl.DataFrame
    gaps: pl.DataFrame


@dataclass(frozen=True)
class Held:
    """What the steps of a block leave for one another.

    Attributes
    ----------
    folder : Path, optional
        Of files that whoever runs the next step can read; default memory. They are written and read by one audit alone.
    name : str
        Of the block.
    """

    folder: Path | None = None
    name: str = ""
    _memory: dict[str, Any] = field(default_factory=dict)

    def put(self, what: str, value: object) -> None:
        """Keep something."""
        if self.folder is None:
            self._memory[what] = value
        else:
            (self.folder / f"{self.name}.{what}").write_bytes(pickle.dumps(value, protocol=5))

    def take(self, what: str) -> Any:  # noqa: ANN401 - whatever was put
        """Give it back; once."""
        if self.folder is None:
            return self._memory.pop(what)
        return pickle.loads((self.folder / f"{self.name}.{what}").read_bytes())  # noqa: S301 - of this audit's own workers


@dataclass(frozen=True)
class Block:
    """Some series of a group; `held` has what was `Given`."""

    ground: Ground
    held: Held


def weigh(block: Block) -> Lack:
    """Find the gaps of a block, and weigh them."""
    ground, given = block.ground, block.held.take("given")
    wanted = expected_slots(given.lives, ground.grid, ground.as_of)
    gaps = find_gaps(wanted, given.trace.runs, ground.grid).drop(
        "cause", "state", "retry_count", "last_retry", "next_retry"
    )
    gaps = _with_evidence(gaps, wanted, given.prints, given.quotes)
    part = prepare(gaps, wanted, ground.width)
    group = gaps.select("series").join(given.voters, on="series", how="left", maintain_order="left")["group"]
    lives = wanted.group_by("series").agg(pl.col("ordinal").min().alias("first"), pl.col("ordinal").max().alias("last"))
    lack = Lack(
        peers.peer_sums(gaps, part.odds.pieces, part.odds.p, group.to_numpy()),
        peers.expectation(part.rates, lives.join(given.voters, on="series")),
        peers.habit_steps(gaps, wanted, given.voters.filter(pl.col("group") >= 0)),
    )
    block.held.put("weighed", (given, part.lean()))
    return lack


def judge(block: Block, outages: pl.DataFrame, habits: pl.DataFrame) -> pl.DataFrame:
    """Give the gaps of a block their causes.

    Parameters
    ----------
    block : Block
    outages, habits : DataFrame
        Of the whole group: from `outages.find_outages` and `outages.recurrent`.

    Returns
    -------
    DataFrame of `causes.WITNESSES`
        What outages look like here; adds up over blocks.
    """
    ground = block.ground
    given, part = block.held.take("weighed")
    beside = edges(part.gaps, given.trace, ground.width)
    groups = given.series.select("series", pl.lit(0, pl.Int32).alias("group"))
    judged = judged_by(part, beside, groups, outages, habits, given.listed, ground.interval.seconds / 60)
    whole = part.rates.of_series
    traded = whole.select("series", (1 - pl.col("missing") / pl.col("due").clip(1)).alias("traded"))
    given = given._replace(trace=Trace(*(frame.clear() for frame in given.trace)))
    block.held.put("judged", (given, pl.concat([part.gaps, judged], how="horizontal"), traded))
    return witnessed(judged, beside)


def name(block: Block, outages: pl.DataFrame) -> Named:
    """Make tables of a block.

    Parameters
    ----------
    block : Block
    outages : DataFrame
        From `causes.labelled`, with `outage_id`.
    """
    given, gaps, traded = block.held.take("judged")
    told = _named_gaps(gaps, outages, given.series, block.ground.axis)
    quality = _quality(told, given, block.ground)
    return Named(
        _series_table(quality, traded, given),
        _with_names(quality, given.series).select(list(QUALITY)),
        _with_names(told, given.series).select(pl.col(name).cast(dtype) for name, dtype in GAPS.items()),
    )


def _named_gaps(gaps: pl.DataFrame, outages: pl.DataFrame, series: pl.DataFrame, axis: pl.DataFrame) -> pl.DataFrame:
    known = outages.select(
        "outage", "outage_id", pl.col("cause").alias("outage_cause"), pl.col("confidence").alias("outage_confidence"),
        "symbols", "peers",
    )  # fmt: skip
    beside = gaps.join(known, on="outage", how="left", maintain_order="left")
    of_outage = (pl.col("cause").cast(pl.String) == "feed_loss") & pl.col("outage_cause").is_not_null()
    settled = beside.with_columns(
        pl.when(of_outage).then("outage_cause").otherwise("cause").alias("cause"),
        pl.when(of_outage).then("outage_confidence").otherwise("confidence").alias("confidence"),
    )
    chains = settled.hstack(_chained(settled, series, axis))
    gone = (pl.col("absent") >= GONE_SESSIONS) & pl.col("own_id").is_not_null()
    known = chains.with_columns(
        pl.when(gone).then(pl.lit("unknown")).otherwise(pl.col("cause").cast(pl.String)).alias("cause"),
        pl.when(gone).then(0.5).otherwise("confidence").alias("confidence"),
    )
    return known.with_columns(
        pl.coalesce("outage_id", "own_id").alias("outage_id"),
        pl.when(gone).then(told_of_absence()).otherwise(_evidence(known)).alias("evidence"),
    )


def _quality(gaps: pl.DataFrame, given: Given, ground: Ground) -> pl.DataFrame:
    wanted = expected_slots(given.lives, ground.grid, ground.as_of)
    first, last = ground.dates
    asked = pl.col("session").is_between(first or dt.date.min, last or dt.date.max)
    raw = quality_score(wanted, gaps, given.counts.filter(asked))
    fine = explained(gaps)
    rate = 100.0 * (pl.col("present") + pl.col("explained")) / pl.col("expected")
    return (
        raw.join(fine, on=["series", "session"], how="left", maintain_order="left")
        .with_columns(pl.col("explained").fill_null(0))
        .with_columns(pl.when(pl.col("expected") > 0).then(rate).alias("quality_adjusted"))
    )


def _series_table(quality: pl.DataFrame, traded: pl.DataFrame, given: Given) -> pl.DataFrame:
    counted = [*COUNTS, *AT_THE_DOOR]
    sums = quality.group_by("series").agg(
        (pl.col("expected") > 0).sum().cast(pl.Int64).alias("sessions"), pl.col(counted).sum()
    )
    share = {"quality": pl.col("present"), "quality_adjusted": pl.col("present") + pl.col("explained")}
    activity = (
        pl.when(pl.col("traded") >= LIQUID).then(pl.lit("liquid"))
        .when(pl.col("traded") >= MIXED).then(pl.lit("mixed")).otherwise(pl.lit("thin"))
    )  # fmt: skip
    known = given.series.join(
        given.lives.select("series", pl.col("first").alias("first_session"), pl.col("last").alias("last_session")),
        on="series",
    )
    whole = known.join(sums, on="series").join(traded, on="series", how="left").with_columns(
        *(pl.when(pl.col("expected") > 0).then(100.0 * of / pl.col("expected")).alias(name) for name, of in share.items()),
        activity.alias("activity"),
    )  # fmt: skip
    return whole.sort("series").select(pl.col(name).cast(dtype) for name, dtype in SERIES.items())


def _with_names(rows: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    names = series.select("series", "symbol", "price_type", "interval")
    return rows.join(names, on="series", how="left", maintain_order="left")


def _with_evidence(
    gaps: pl.DataFrame, wanted: pl.DataFrame, prints: pl.DataFrame, quotes: pl.DataFrame
) -> pl.DataFrame:
    """Gaps with how many of their slots hold prints and quotes; null for series that have neither anywhere."""
    for name, runs in (("prints", prints), ("quotes", quotes)):
        if runs.is_empty():
            continue
        inside = pl.Series(name, _overlap(runs, gaps))
        known = gaps["series"].is_in(runs["series"].unique().implode())
        gaps = gaps.with_columns(pl.when(known).then(inside).alias(name))
    if quotes.is_empty():
        return gaps
    due = wanted.group_by("series").agg(pl.col("slots").sum().alias("due"))
    held = quotes.group_by("series").agg((pl.col("last") - pl.col("first") + 1).sum().alias("held"))
    share = due.join(held, on="series").select("series", (pl.col("held") / pl.col("due")).clip(0, 0.999).alias("share"))
    beside = gaps.join(share, on="series", how="left", maintain_order="left")
    return beside.with_columns((-pl.col("bar_count") * (1 - pl.col("share")).log()).alias("usual_quotes")).drop("share")


def _overlap(runs: pl.DataFrame, gaps: pl.DataFrame) -> Ints:
    start = line(*(runs[name].to_numpy() for name in ("series", "ordinal", "first")))
    end = line(*(runs[name].to_numpy() for name in ("series", "ordinal", "last"))) + 1
    begin = line(*(gaps[name].to_numpy() for name in ("series", "ordinal", "slot")))
    return overlap(start, end, begin, begin + gaps["bar_count"].to_numpy())


def _chained(gaps: pl.DataFrame, series: pl.DataFrame, axis: pl.DataFrame) -> pl.DataFrame:
    """Which gaps of a series follow one another without a slot between them: a name for each such run, and its sessions.

    Returns
    -------
    DataFrame of `own_id` (String, null where nothing was lost), `absent` (whole sessions of the run)
    """
    begun = _chains(gaps, axis)
    run = np.repeat(np.arange(len(begun)), np.diff(np.append(begun, gaps.height)))
    placed = gaps.select("series", "session", "position", "cause").with_columns(
        pl.Series("run", run), gaps["gap_start"].gather(begun[run]).alias("begun")
    )
    absent = placed.filter(pl.col("position") == "session").group_by("run").agg(
        pl.col("session").n_unique().alias("absent")
    )  # fmt: skip
    its_own = pl.col("cause").cast(pl.String).is_in(["symbol_loss", "halt", "unknown"]).fill_null(value=False)
    lost = placed.with_row_index("row").filter(its_own)
    names = series.select("series", "symbol", "price_type")
    named = lost.join(names, on="series", how="left", maintain_order="left").join(absent, on="run", how="left", maintain_order="left")  # fmt: skip
    stamp = pl.col("begun").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    told = named.select("row", pl.format("{} {} {}", "symbol", "price_type", stamp).alias("own_id"), "absent")
    return _scattered(told, gaps.height).with_columns(pl.col("absent").fill_null(0))


def _chains(gaps: pl.DataFrame, axis: pl.DataFrame) -> Ints:
    """Gaps that do not go on where the one before ends."""
    ordinal, slot, end, number = (gaps[name].to_numpy() for name in ("ordinal", "slot", "bar_count", "series"))
    at = np.searchsorted(axis["ordinal"].to_numpy(), ordinal)
    closes = slot + end >= axis["slots"].to_numpy()[np.minimum(at, axis.height - 1)]
    follows = (number[1:] == number[:-1]) & (at[1:] == at[:-1] + 1) & (slot[1:] == 0) & closes[:-1]
    return np.flatnonzero(np.append([True], ~follows)[: gaps.height])


def _evidence(gaps: pl.DataFrame) -> pl.Series:
    """What each cause rests on; most gaps are plain, and take a word."""
    plain = gaps.select(is_plain()).to_series()
    rows = gaps.with_row_index("row")
    parts = [(rows.filter(plain), told_plainly()), (rows.filter(~plain), told(gaps))]
    whole = pl.concat([part.select("row", said.alias("evidence")) for part, said in parts])
    return _scattered(whole, gaps.height)["evidence"]


def _scattered(rows: pl.DataFrame, height: int) -> pl.DataFrame:
    """Rows at the places that their `row` says, null between."""
    at = np.full(height, rows.height, np.int64)
    at[rows["row"].to_numpy()] = np.arange(rows.height)
    return pl.concat([rows.drop("row"), rows.drop("row").clear(1)])[at]
