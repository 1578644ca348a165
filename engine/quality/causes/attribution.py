"""Causes of gaps with their confidence and evidence, from signals of the whole panel.

1. `weighing` computes the odds of gaps by the rates of their series.
2. `outages` adds up slots that many series miss together, and finds outages and recurring gaps of a group.
3. `attribute_gaps` gives each gap its cause. Slots of an outage or of a recurring gap of the group have that cause; the
   others follow Bayes' rule: the number of runs without a trade of that length in a session at this time of day,
   against the usual number of losses and halts (`priors`), times the likelihood of the
   price jump over the gap, of the volume after it, and of the prints and quotes inside it. Below `SURE` the cause is
   `unknown`.
4. `sum_outage_edges` and `classify_outages` find the cause of each outage by the bars at its edges.

Pure: frame in, frame out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.grid import SessionGrid
from engine.keys import Ints, find_keys, pack_columns
from engine.quality.causes.cause_table import CAUSES, EXCLUDED, EXPLAINING
from engine.quality.causes.fickle_quotes import was_away_as_long
from engine.quality.causes.gap_parts import axis_keys, cut_points, outage_keys, range_of_parts, take_parts
from engine.quality.causes.no_trade_rates import EDGE_OF_BIN, chance_of_run
from engine.quality.causes.outages import OUTAGES, is_silence, is_sure, week_places
from engine.quality.causes.priors import HALTS_PER_LOSS, SURE, losses_per_slot
from engine.quality.causes.profiles import (
    PROFILE_KEY,
    BarSummary,
    bin_keys,
    bins_of,
    covered_lengths,
    profile_keys,
    slot_keys,
)
from engine.quality.causes.silent_minutes import SILENCE
from engine.quality.causes.weighing import WeighedGaps
from engine.quality.contiguous_runs import Floats, run_starts
from engine.schema import SEGMENTS_PER_SESSION, Schema

NO_TRADE, SYMBOL_LOSS, HALT, FEED_LOSS = map(CAUSES.index, ("no_trade", "symbol_loss", "halt", "feed_loss"))
LATE_OPEN, EARLY_CLOSE, CALENDAR = map(CAUSES.index, ("late_open", "early_close", "calendar_suspect"))
UNKNOWN = CAUSES.index("unknown")

HALT_MINUTES = 5.0  # shorter ones are rare
KNOWN = 0.99  # confidence of a cause that needs no weighing
JUMP_SCALE = 8.0  # deviations; half of the halts reopen further away
REOPENING = (1.8, 1.0)  # log of the volume at a reopening over the mean, and its deviation
WIDE_SHARE = 0.05  # of ordinary bars, whose volume has a wide tail
STRAY_PRINT = 1e-3  # chance of a print in a slot without a trade
SILENT_QUOTES = 0.3  # chance that quotes are lost with the trades
LOST_SIDE = 0.002  # chance that a loss of a quote leaves its other side
AFTER_PAUSE = 0.05  # share of a segment that a market may leave out where it closes with its daily pause
SHRINK_BARS = 20.0
FEWEST_EDGES, DAILY_EDGES = 5, 0.8  # sessions, and their share, without the same edge
MOST_OTHERS_MISSING = 0.01  # of the slots of that time of day

ATTRIBUTED: Schema = {
    "cause": pl.Enum(CAUSES),
    "confidence": pl.Float64(),
    "lost": pl.Int32(),
    "outage": pl.Int32(),
    "run": pl.Float64(),
    "expected_runs": pl.Float64(),
    "jump": pl.Float64(),
    "busier": pl.Float64(),
    "others": pl.Int64(),
    "others_missing": pl.Int64(),
    "together": pl.Boolean(),
    "edge_sessions": pl.Int64(),
}
OUTAGE_EDGES: Schema = {
    "outage": pl.Int32(),
    "gaps": pl.Int64(),
    "lost": pl.Int64(),
    **{f"{name}_{what}": pl.Float64() for name in ("after", "before", "jump") for what in ("n", "sum", "squares")},
}
LATE = 0.3  # log of the volume at the edge over the mean: an auction was there
DEVIATIONS = 2.0
FEWEST_GAPS = 2  # that an outage's mean is taken of
ALL_LACK = 0.9  # share of what was expected
JUMPED = 4.0


class GapEdges(NamedTuple):
    """Measures of the bars next to each gap, NaN where there is no bar.

    `jump` is the move of the price over the gap in its own deviations; `after` and `before` are the log of the volume
    of the next and of the previous bar over the mean at that time of day.
    """

    jump: Floats
    after: Floats
    before: Floats


def gap_edges(gaps: pl.DataFrame, traced: BarSummary, width: int) -> GapEdges:
    """Price jump over each gap in deviations, log volume over mean of next and previous bar; NaN if not in its segment.

    Parameters
    ----------
    gaps : DataFrame
        From `gaps.find_gaps`.
    traced : BarSummary
        Of the same series.
    width : int
        From `profiles.bin_width`.
    """
    runs = traced.runs
    count = gaps["bar_count"].to_numpy().astype(np.int64)
    nothing = np.full(len(count), np.nan)
    if runs.is_empty():
        return GapEdges(nothing, nothing, nothing)
    ours, theirs = (
        slot_keys(*(rows[n].to_numpy() for n in ("series", "ordinal", slot)))
        for rows, slot in ((gaps, "slot"), (runs, "first"))
    )
    after = np.searchsorted(theirs, ours)
    before = after - 1
    segment, segments = (pack_columns(rows, "series", "ordinal") for rows in (gaps, runs))
    has_after = (after < len(theirs)) & (segments[np.minimum(after, len(theirs) - 1)] == segment)
    has_before = (before >= 0) & (segments[np.maximum(before, 0)] == segment)
    after, before = np.minimum(after, len(theirs) - 1), np.maximum(before, 0)
    means = SeriesMeans.of(traced.profile, gaps)
    spread = means.move(gaps["slot"].to_numpy(), width)
    later = means.volume(gaps["slot"].to_numpy() + count, width)
    earlier = means.volume(np.maximum(gaps["slot"].to_numpy() - 1, 0), width)
    with np.errstate(divide="ignore", invalid="ignore"):
        move = np.log(runs["open"].to_numpy()[after] / runs["close"].to_numpy()[before])
        jump = np.where(has_after & has_before, move / (spread * np.sqrt(count + 1)), np.nan)
        busy_after = np.where(has_after, np.log(runs["volume_first"].to_numpy()[after] / later), np.nan)
        busy_before = np.where(has_before, np.log(runs["volume_last"].to_numpy()[before] / earlier), np.nan)
    return GapEdges(*(np.where(np.isfinite(values), values, np.nan) for values in (jump, busy_after, busy_before)))


def cut_at_outages(
    part: WeighedGaps, edges: GapEdges, outages: pl.DataFrame, grid: SessionGrid
) -> tuple[WeighedGaps, GapEdges]:
    """Cut gaps at the edges of outages; each part has the odds of its own length, and the edges of its whole gap.

    Parameters
    ----------
    part, edges
        From `weigh_gaps` and `gap_edges`.
    outages : DataFrame
        From `find_outages`, of one group.
    grid : SessionGrid
        Of the axis.
    """
    if outages.is_empty():
        return part, edges
    count = part.gaps["bar_count"].to_numpy().astype(np.int64)
    gap, offset, slots = cut_points(axis_keys(part.gaps), count, *outage_keys(outages))
    if len(gap) == len(count):
        return part, edges
    odds = part.odds
    share = slots / count[gap]
    single = odds.weight[gap] / count[gap]
    is_cut = slots < count[gap]
    run = np.where(is_cut, chance_of_run(slots.astype(np.float64), single, odds.k[gap]), odds.run[gap])
    parts = replace(
        odds,
        run=run,
        expected=np.where(is_cut, odds.session_slots[gap] * run, odds.expected[gap]),
        weight=odds.weight[gap] * share,
        k=odds.k[gap],
        session_slots=odds.session_slots[gap],
    )
    gaps = take_parts(part.gaps, gap, offset, slots, grid)
    return part._replace(gaps=gaps, excluded=part.excluded[gap], odds=parts), GapEdges(
        *(values[gap] for values in edges)
    )


def attribute_gaps(
    part: WeighedGaps,
    edges: GapEdges,
    groups: pl.DataFrame,
    outages: pl.DataFrame,
    recurring_gaps: pl.DataFrame,
    slot_minutes: float,
) -> pl.DataFrame:
    """`ATTRIBUTED` per gap: its known cause, else recurring, else that of its outage, else by Bayes.

    Parameters
    ----------
    part, edges
        From `cut_at_outages`. The gaps may carry `known`: their cause, where that is known (with `known_confidence`,
        default 0.99); `prints` and `quotes`
        (Int64): how many lie inside, null where that is unknown; `usual_quotes` (Float64): the mean number in as
        much time; `other_side` (Int64): slots that the other side of a quote has; and `is_quote` (Boolean).
    groups : DataFrame
        `series, group`, one row per series.
    outages, recurring_gaps : DataFrame
        Of all parts: from `find_outages` and `find_recurring`.
    slot_minutes : float
        Length of a slot.

    Returns
    -------
    DataFrame of `ATTRIBUTED`, a row per gap
        `lost` counts the slots that an outage covers, `outage` is its row number, null without one; `run` and
        `expected_runs` are the chance of the run and the number of such runs in a session, `jump` and `busier` are
        `jump` and `after` of `edges`; `others` are the counted slots of the series apart from the gap's, and
        `others_missing` those of them that it lacks; `together` marks slots that all lack, by a loss or by a silence of all;
        `edge_sessions` is in how many sessions the series lacks this edge, where that alone leaves the cause open, else 0.
    """
    gaps = part.gaps
    count = gaps["bar_count"].to_numpy().astype(np.int64)
    cause, confidence = likeliest_causes(part, edges, slot_minutes)
    edge_sessions = daily_edges(part)
    is_edge = (cause == NO_TRADE) & (edge_sessions > 0)
    cause[is_edge], confidence[is_edge] = UNKNOWN, 0.5
    ordinal, slot = gaps["ordinal"].to_numpy().astype(np.int64), gaps["slot"].to_numpy().astype(np.int64)
    outage = range_of_parts(axis_keys(gaps), *outage_keys(outages))
    of_feed, of_nobody = (
        outages.select(told).to_series().to_numpy()[outage] & (outage >= 0) if outages.height else outage >= 0
        for told in (is_sure(), is_silence())
    )
    cause[of_feed], confidence[of_feed] = FEED_LOSS, 1.0
    # All lack these slots, by a loss or a silence of all: no rate of a single series tells.
    of_all = (outage >= 0) & ~of_feed & ~(float_column(gaps, "prints") > 0)
    cause[of_all], confidence[of_all] = UNKNOWN, 0.5
    cause[of_all & of_nobody], confidence[of_all & of_nobody] = NO_TRADE, SILENCE
    outage = np.where(of_feed, outage, -1)
    grouped = gaps.select("series").join(groups, on="series", how="left", maintain_order="left")
    group = grouped["group"].fill_null(-1).to_numpy()
    in_habit, habit = covered_slots(recurring_gaps, "position", group, ordinal % SEGMENTS_PER_SESSION, slot, count)
    of_weekday = gaps.select(week_places())[:, 0].to_numpy().astype(np.int64)
    in_week, week = covered_slots(recurring_gaps, "position", group, of_weekday, slot, count)
    in_habit, habit = np.where(in_week > in_habit, [in_week, week], [in_habit, habit])
    with_pause = ends_with_pause(gaps, recurring_gaps, in_habit, habit)
    recurring = (2 * in_habit >= count) | with_pause
    if recurring_gaps.height:
        leads, closes = recurring_gaps["first"].to_numpy() == 0, recurring_gaps["closes"].to_numpy()
        habit_causes = np.where(leads, LATE_OPEN, np.where(closes, EARLY_CLOSE, CALENDAR))
        cause[recurring] = np.where(with_pause, EARLY_CLOSE, habit_causes[np.maximum(habit, 0)])[recurring]
    else:
        cause[recurring] = CALENDAR
    confidence[recurring] = 0.9
    known = np.zeros(len(count), bool)
    if "known" in gaps.columns:
        told = gaps["known"].cast(pl.Enum(CAUSES)).to_physical()
        known = told.is_not_null().to_numpy()
        cause[known] = told.drop_nulls().to_numpy()
        confidence[known] = gaps["known_confidence"].to_numpy()[known] if "known_confidence" in gaps.columns else KNOWN
    outage = np.where(recurring | known, -1, outage)
    due, missing = part.rates.of_series_at(gaps["series"].to_numpy().astype(np.int64))
    own = np.where(part.excluded, 0, count)
    return pl.DataFrame(
        {
            "cause": pl.Series(cause.astype(np.uint8)).cat.to(pl.Enum(CAUSES)),
            "confidence": confidence,
            "lost": np.where(outage >= 0, count, 0),
            "outage": pl.Series(outage).replace(-1, None),
            "run": part.odds.run,
            "expected_runs": part.odds.expected,
            "jump": pl.Series(edges.jump, nan_to_null=True),
            "busier": pl.Series(edges.after, nan_to_null=True),
            "others": (due - own).astype(np.int64),
            "others_missing": np.maximum(missing - own, 0).astype(np.int64),
            "together": of_all & ~of_nobody & ~recurring & ~known,
            "edge_sessions": np.where(is_edge & ~of_feed & ~of_all & ~recurring & ~known, edge_sessions, 0),
        },
        schema_overrides={name: dtype for name, dtype in ATTRIBUTED.items() if name != "cause"},
    )


def sum_outage_edges(judged: pl.DataFrame, edges: GapEdges) -> pl.DataFrame:
    """Per outage: gaps, lost slots, and count, sum and squares of finite after, before and |jump| of its gaps."""
    sums = judged.select("outage", pl.col("lost").cast(pl.Int64), pl.lit(1, pl.Int64).alias("gaps"))
    for name, values in (("after", edges.after), ("before", edges.before), ("jump", np.abs(edges.jump))):
        is_finite = np.isfinite(values)
        filled = np.where(is_finite, values, 0.0)
        sums = sums.with_columns(
            pl.Series(f"{name}_n", is_finite.astype(np.float64)),
            pl.Series(f"{name}_sum", filled),
            pl.Series(f"{name}_squares", filled * filled),
        )
    return sums.drop_nulls("outage").group_by("outage").sum().sort("outage").select(list(OUTAGE_EDGES))


def classify_outages(outages: pl.DataFrame, witnesses: pl.DataFrame, axis: pl.DataFrame) -> pl.DataFrame:
    """Add cause, confidence, `chain`: late open, early close (with an auction's volume), halt (jump), else feed loss.

    Parameters
    ----------
    outages : DataFrame
        From `find_outages`.
    witnesses : DataFrame
        From `sum_outage_edges`, of all parts.
    axis : DataFrame
        `group, ordinal, slots`: the segments that a group has, sorted.

    Returns
    -------
    DataFrame
        The sure outages with `outage` (row number), `gaps`, `lost`, `cause`, `confidence`, and `chain` (Int32): equal for
        outages that follow one another without a slot between them.
    """
    joined = (
        outages.with_row_index("outage")
        .filter(is_sure())
        .with_columns(pl.col("outage").cast(pl.Int32))
        .join(witnesses, on="outage", how="left", maintain_order="left")
        .join(axis, on=["group", "ordinal"], how="left", maintain_order="left")
        .with_columns(pl.col(name).fill_null(0) for name in OUTAGE_EDGES if name != "outage")
    )
    leads, trails = pl.col("first") == 0, pl.col("end") >= pl.col("slots")
    all_lack = pl.col("share") >= ALL_LACK
    late = leads & ~trails & all_lack & is_significantly_above("after", LATE)
    early = trails & ~leads & all_lack & is_significantly_above("before", LATE)
    jumped = (pl.col("jump_n") >= FEWEST_GAPS) & (pl.col("jump_sum") / pl.col("jump_n") >= JUMPED)
    halted = ~leads & ~trails & jumped
    by_edge = pl.when(late).then(pl.lit("late_open")).when(early).then(pl.lit("early_close"))
    cause = by_edge.when(halted).then(pl.lit("halt")).otherwise(pl.lit("feed_loss"))
    # A whole segment without any series may be a holiday; an edge without an auction may have been thinly traded.
    confidence = pl.when(late | early | halted).then(0.9).when(leads & trails).then(0.75)
    confidence = confidence.when((leads | trails) & all_lack).then(0.8)
    by_surprise = confidence.otherwise(1 / (1 + (-pl.col("surprise").clip(upper_bound=500)).exp()))
    classified = joined.with_columns(cause.cast(pl.Enum(CAUSES)).alias("cause"), by_surprise.alias("confidence"))
    return classified.with_columns(number_chains(classified, axis)).select(
        "outage", *OUTAGES, "gaps", "lost", "cause", "confidence", "chain"
    )


def explained_slots(gaps: pl.DataFrame) -> pl.DataFrame:
    """Per (series, session) with gaps, `explained`: slots less `lost` of those with an `EXPLAINING` cause, >= 0.7.

    Parameters
    ----------
    gaps : DataFrame
        `series, session, bar_count, cause, confidence, lost`.

    Returns
    -------
    DataFrame of `series, session, explained` (Int64)
    """
    is_explained = pl.col("cause").cast(pl.String).is_in(EXPLAINING) & (pl.col("confidence") >= SURE)
    slots = pl.when(is_explained).then(pl.col("bar_count").cast(pl.Int64) - pl.col("lost")).otherwise(0)
    return gaps.group_by("series", "session").agg(slots.sum().alias("explained"))


def excluded_slots(gaps: pl.DataFrame) -> pl.DataFrame:
    """Per (series, session) with gaps, `excluded` (Int64): slots with an `EXCLUDED` cause, which nothing was due in."""
    is_excluded = pl.col("cause").cast(pl.String).is_in(EXCLUDED)
    slots = pl.when(is_excluded).then(pl.col("bar_count").cast(pl.Int64)).otherwise(0)
    return gaps.group_by("series", "session").agg(slots.sum().alias("excluded"))


def likeliest_causes(part: WeighedGaps, edges: GapEdges, slot_minutes: float) -> tuple[Ints, Floats]:
    """(index into `CAUSES`, posterior) of the likeliest of no trade, symbol loss, halt; below 0.7 `unknown`'s index.

    Parameters
    ----------
    part, edges
        From `weigh_gaps` and `gap_edges`.
    slot_minutes : float
        Length of a slot.

    Returns
    -------
    array of int, array of float
        Index into `CAUSES`, and posterior probability.
    """
    gaps = part.gaps
    count = gaps["bar_count"].to_numpy().astype(np.float64)
    prints, quotes = float_column(gaps, "prints"), float_column(gaps, "quotes")
    jump, busier = np.abs(edges.jump), edges.after
    drifts = np.where(np.isnan(jump), 1.0, student_density(jump))
    # Density of the Cauchy distribution: halts reopen far away.
    leaps = np.where(np.isnan(jump), 0.1, 1 / (np.pi * JUMP_SCALE * (1 + (jump / JUMP_SCALE) ** 2)))
    usual_volume = np.where(np.isnan(busier), 1.0, volume_density(busier))
    mean, deviation = REOPENING
    normal = np.exp(-(((busier - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))
    auction = np.where(np.isnan(busier), 1.0, 0.5 * usual_volume + 0.5 * normal)
    printed, proven = prints > 0, np.where(prints > 0, STRAY_PRINT, 1.0)
    silence = np.where(
        np.isnan(quotes), 1.0, np.where(quotes > 0, 1.0, np.maximum(np.exp(-float_column(gaps, "usual_quotes")), 1e-3))
    )
    lost_quotes = np.where(np.isnan(quotes), 1.0, np.where(quotes > 0, 1 - SILENT_QUOTES, SILENT_QUOTES))
    # A loss or a halt of a quote leaves neither side; a side that nobody changes has no bars.
    one_side = np.where(float_column(gaps, "other_side") > 0, LOST_SIDE, 1.0)
    none = part.odds.expected * drifts * usual_volume * proven * silence
    losses = part.odds.session_slots * losses_per_slot(slot_minutes)
    loss = losses * drifts * usual_volume * lost_quotes * one_side
    halts = HALTS_PER_LOSS * losses * np.minimum(count * slot_minutes / HALT_MINUTES, 1.0) * leaps * auction * proven
    halts *= one_side
    # In a series that often has no trade, a halt cannot be distinguished from silence.
    halts *= np.exp(-np.minimum(count / np.maximum(part.odds.weight, 1e-9), 50.0) / 4)
    scores = np.stack([none, loss, halts])
    total = scores.sum(axis=0)
    best = np.array([NO_TRADE, SYMBOL_LOSS, HALT])[np.argmax(scores, axis=0)]
    confidence = scores.max(axis=0) / np.where(total > 0, total, 1)
    confidence = np.where(printed & (best == SYMBOL_LOSS), np.maximum(confidence, 0.99), confidence)
    best = np.where(confidence >= SURE, best, UNKNOWN)
    in_doubt = (best == SYMBOL_LOSS) & was_away_as_long(part.gaps, part.rates, part.excluded, best == NO_TRADE)
    return np.where(in_doubt, UNKNOWN, best), np.where(in_doubt, 0.5, confidence)


def daily_edges(part: WeighedGaps) -> Ints:
    """Sessions that lack the first, or the last, minutes of a segment as a gap does; 0 if not most, or if it lacks others beside them.

    That may be a habit of its source, of its auctions or of its trading; a rate without trades that these gaps themselves
    teach tells none of them.
    """
    gaps, width = part.gaps, part.rates.width
    if width < EDGE_OF_BIN:
        return np.zeros(gaps.height, np.int64)
    edge = pl.col("position").is_in(["leading", "trailing"]) & (pl.col("bar_count") <= width // EDGE_OF_BIN)
    keyed = gaps.select(
        "series",
        (pl.col("ordinal") % SEGMENTS_PER_SESSION).alias("segment"),
        pl.col("position").cast(pl.String),
        edge.alias("edge"),
        pl.when(pl.Series(part.excluded)).then(0).otherwise("bar_count").alias("counted"),
    )
    same = ["series", "segment", "position", "edge"]
    sums = keyed.select(pl.len().over(same).alias("times"), pl.col("counted").sum().over(same))
    series, segment = (keyed[name].to_numpy().astype(np.int64) for name in ("series", "segment"))
    slot = gaps["slot"].to_numpy()
    # The first slot has a bin of its own, and as many are due as there are sessions.
    sessions, first_missing = part.rates.at(bin_keys(series, segment, np.zeros(len(slot), np.int64)))
    due, missing = part.rates.at(bin_keys(series, segment, np.maximum(bins_of(slot, width), 1)))
    other_missing = missing + np.where(slot == 0, first_missing, 0.0) - sums["counted"].to_numpy()
    times = sums["times"].to_numpy()
    often = (times >= FEWEST_EDGES) & (times >= DAILY_EDGES * sessions)
    is_edge = keyed["edge"].to_numpy() & often & (other_missing <= MOST_OTHERS_MISSING * due)
    return np.where(is_edge, times, 0).astype(np.int64)


def ends_with_pause(gaps: pl.DataFrame, recurring_gaps: pl.DataFrame, in_habit: Ints, habit: Ints) -> NDArray[np.bool_]:
    """Mask trailing gaps that begin within a pause of every session, little of the segment after it: it closed there.

    Parameters
    ----------
    gaps : DataFrame
        `series, ordinal, slot, bar_count, position`, sorted; parts of a gap have the position of the whole.
    recurring_gaps : DataFrame
        From `find_recurring`.
    in_habit, habit : array of int
        From `covered_slots`.
    """
    if recurring_gaps.is_empty():
        return np.zeros(gaps.height, bool)
    slot, count = (gaps[name].to_numpy().astype(np.int64) for name in ("slot", "bar_count"))
    at = np.maximum(habit, 0)
    begin, end = (recurring_gaps[name].to_numpy()[at].astype(np.int64) for name in ("first", "end"))
    begins_within = (in_habit > 0) & (slot >= begin)
    after = slot + count - end
    is_trailing = (gaps["position"] == "trailing").to_numpy()
    segment = pack_columns(gaps, "series", "ordinal")
    has_more = (segment[1:] == segment[:-1]) & (slot[1:] == (slot + count)[:-1])
    is_trailing &= ~np.append(has_more, [False])[: len(slot)]
    return np.asarray(is_trailing & begins_within & (after <= AFTER_PAUSE * (slot + count)))


def float_column(gaps: pl.DataFrame, name: str) -> Floats:
    """Column as Float64 array, nulls NaN; all NaN when the frame does not have it."""
    if name not in gaps.columns:
        return np.full(gaps.height, np.nan)
    return gaps[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def covered_slots(
    spans: pl.DataFrame, axis: str, group: NDArray[np.integer], where: Ints, slot: Ints, count: Ints
) -> tuple[Ints, Ints]:
    """Per gap: (slots covered by its group's spans, row of the first such); 0, -1 if none. Spans sorted and disjoint.

    Parameters
    ----------
    spans : DataFrame
        `group, first, end` and the column `axis`.
    axis : {"ordinal", "position"}
        Whether spans lie in one segment, or in a segment position of every session.
    group, where, slot, count : array of int
        Of each gap: its group, its ordinal or position, its first slot, and how many there are.
    """
    if spans.is_empty():
        return np.zeros(len(slot), np.int64), np.full(len(slot), -1)
    start, end = (
        slot_keys(spans["group"].to_numpy(), spans[axis].to_numpy(), spans[name].to_numpy())
        for name in ("first", "end")
    )
    ours = slot_keys(group, where, slot)
    covered = np.where(group >= 0, covered_lengths(start, end, ours, ours + count), 0)
    first = np.minimum(np.searchsorted(end, ours, side="right"), len(end) - 1)
    return covered, np.where(covered > 0, first, -1)


class SeriesMeans(NamedTuple):
    """Mean volume and squared move of each gap's series by time of day, shrunk to the series' mean if bars are few."""

    gaps: pl.DataFrame
    keys: Ints
    profile: pl.DataFrame
    mean_square: Floats
    mean_volume: Floats

    @classmethod
    def of(cls, profile: pl.DataFrame, gaps: pl.DataFrame) -> SeriesMeans:
        """Per gap, its series' whole-day mean volume and squared move (0 if not in the profile, which has rows)."""
        series = profile["series"].to_numpy()
        keys = bin_keys(*(profile[name].to_numpy() for name in PROFILE_KEY))
        heads = run_starts(series)
        bars, volume, moves, squares = (
            np.add.reduceat(profile[name].to_numpy().astype(np.float64), heads)
            for name in ("bars", "volume", "moves", "squares")
        )
        at, is_found = find_keys(series[heads], gaps["series"].to_numpy())
        square, mean = squares / np.maximum(moves, 1), volume / np.maximum(bars, 1)
        return cls(gaps, keys, profile, np.where(is_found, square[at], 0.0), np.where(is_found, mean[at], 0.0))

    def move(self, slot: NDArray[np.integer], width: int) -> Floats:
        """Deviation of a slot's log return in the bin of each slot, shrunk by 20 moves to the series' mean square."""
        moves, squares = self.sums_at(slot, width, "moves", "squares")
        return np.asarray(np.sqrt((squares + SHRINK_BARS * self.mean_square) / (moves + SHRINK_BARS)))

    def volume(self, slot: NDArray[np.integer], width: int) -> Floats:
        """Mean bar volume in the bin of each slot; the series' whole-day mean where the bin has no bar."""
        bars, volume = self.sums_at(slot, width, "bars", "volume")
        return np.asarray((volume + 1e-9 * self.mean_volume) / (bars + 1e-9))

    def sums_at(self, slot: NDArray[np.integer], width: int, *names: str) -> Iterator[Floats]:
        """Profile columns at the (series, position, bin) of each gap's slot, one array per name; 0 if no such bin."""
        ours = profile_keys(self.gaps["series"].to_numpy(), self.gaps["ordinal"].to_numpy(), slot, width)
        at, is_found = find_keys(self.keys, ours)
        return (np.where(is_found, self.profile[name].to_numpy()[at], 0.0) for name in names)


def is_significantly_above(name: str, least: float) -> pl.Expr:
    """Expression: whether an edge measure's mean is >= `least` and >= 2 standard errors, over at least 2 gaps."""
    n = pl.col(f"{name}_n")
    mean = pl.col(f"{name}_sum") / n
    error = ((pl.col(f"{name}_squares") / n - mean**2).clip(0) / n).sqrt()
    return (n >= FEWEST_GAPS) & (mean >= least) & (mean >= DEVIATIONS * error)


def number_chains(outages: pl.DataFrame, axis: pl.DataFrame) -> pl.Series:
    """`chain` per sorted outage: next number, unless at slot 0 right after one that ended the previous segment."""
    key = ["group", "ordinal"]
    at = outages.select(key).join(axis.with_row_index("at"), on=key, how="left", maintain_order="left")["at"]
    row, group = at.fill_null(0).to_numpy().astype(np.int64), outages["group"].to_numpy()
    ends = outages["end"].to_numpy() >= outages["slots"].to_numpy()
    follows = (row[1:] == row[:-1] + 1) & (group[1:] == group[:-1]) & ends[:-1] & (outages["first"].to_numpy()[1:] == 0)
    return pl.Series("chain", np.cumsum(np.concatenate([[True], ~follows])[: len(row)]) - 1, pl.Int32)


def volume_density(busier: Floats) -> Floats:
    """Density of the log volume of an ordinary bar over the mean: normal, but for one in twenty of a far wider tail.

    A silence and a loss leave bars as they come; a volume of twenty times the mean after one of them is rare, and an auction's.
    """
    normal = np.exp(-(busier**2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray((1 - WIDE_SHARE) * normal + WIDE_SHARE * student_density(busier / 0.8) / 0.8)


def student_density(z: Floats) -> Floats:
    """Density of Student's t with 3 degrees of freedom at z."""
    return np.asarray(2 / (np.pi * np.sqrt(3) * (1 + z * z / 3) ** 2))
