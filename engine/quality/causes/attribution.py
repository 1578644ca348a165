"""Why a gap is there: a cause, how sure it is, and what it rests on, from signals of the whole panel.

1. `weigh_gaps` weighs the gaps of some series by their own rates (`rates`); what no rate explains does not count for them.
2. What all parts lack together is added up and found elsewhere (`outages`).
3. `attribute_gaps` gives each gap its cause. Slots of an outage or of a habit of the whole group are those; the others are weighed
   by Bayes' rule: how many runs without a trade so long a session has at this time of day, against how many losses and
   halts it has as a rule (`LOSSES_A_SESSION`, `HALTS_A_SESSION`), times how well each goes with the jump of the price over the
   hole, the volume after it, and the prints and quotes inside it. Below `SURE` the cause is `unknown`.
4. `sum_outage_edges` and `classify_outages` say what an outage was, by what the bars at its edges look like.

Pure: frame in, frame out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.keys import Ints, find_keys, pack_columns
from engine.quality.causes.cause_table import CAUSES, EXPLAINING
from engine.quality.causes.no_trade_rates import BinnedGaps, Odds, Rates, chance_of_run, count_rates, no_trade_odds
from engine.quality.causes.outages import OUTAGES
from engine.quality.causes.profiles import PROFILE_KEY, BarSummary, bin_keys, covered_lengths, profile_keys, slot_keys
from engine.quality.contiguous_runs import Floats, run_starts
from engine.schema import SEGMENTS_PER_SESSION, Schema

NO_TRADE, SYMBOL_LOSS, HALT, FEED_LOSS = map(CAUSES.index, ("no_trade", "symbol_loss", "halt", "feed_loss"))
LATE_OPEN, EARLY_CLOSE, CALENDAR = map(CAUSES.index, ("late_open", "early_close", "calendar_suspect"))
NOT_LISTED, UNKNOWN = map(CAUSES.index, ("not_listed", "unknown"))

LOSSES_A_SESSION = 0.01
HALTS_A_SESSION = 0.002
HALT_MINUTES = 5.0  # shorter ones are rare
SURE = 0.7
IMPROBABLE_RUNS = 1e-3  # expected in a session: not counted for the rates
JUMP_SCALE = 8.0  # deviations; half of the halts reopen further away
REOPENING = (1.8, 1.0)  # log of the volume at a reopening against the usual, and its deviation
STRAY_PRINT = 1e-3  # chance of a print in a slot without a trade
SILENT_QUOTES = 0.3  # chance that quotes are lost with the trades
SHRINK_BARS = 20.0
OUTAGE_SHARE = 1 / 3  # of a gap's slots: less may be an outage beside a longer silence

ATTRIBUTED: Schema = {
    "cause": pl.Enum(CAUSES),
    "confidence": pl.Float64(),
    "lost": pl.Int32(),
    "outage": pl.Int32(),
    "run": pl.Float64(),
    "expected_runs": pl.Float64(),
    "jump": pl.Float64(),
    "busier": pl.Float64(),
}
OUTAGE_EDGES: Schema = {
    "outage": pl.Int32(),
    "gaps": pl.Int64(),
    "lost": pl.Int64(),
    **{f"{name}_{what}": pl.Float64() for name in ("after", "before", "jump") for what in ("n", "sum", "squares")},
}
LATE = 0.3  # log of the volume at the edge against the usual: an auction was there
DEVIATIONS = 2.0
JUMPED = 4.0


class WeighedGaps(NamedTuple):
    """Gaps of some series, weighed: `strange` ones do not count for the rates."""

    gaps: pl.DataFrame
    wanted: pl.DataFrame
    strange: NDArray[np.bool_]
    rates: Rates
    odds: Odds

    def lean(self) -> WeighedGaps:
        """What `attribute_gaps` needs of it."""
        return WeighedGaps(self.gaps, self.wanted.clear(), self.strange[:0], self.rates, self.odds.lean())


class GapEdges(NamedTuple):
    """What the bars beside each gap look like, NaN where there is none.

    `jump` is the move of the price over the gap in its own deviations; `after` and `before` are the log of the volume of the
    next and of the former bar against what is usual at that time of day.
    """

    jump: Floats
    after: Floats
    before: Floats


def weigh_gaps(gaps: pl.DataFrame, wanted: pl.DataFrame, width: int) -> WeighedGaps:
    """Weigh gaps by their own series' rates.

    Parameters
    ----------
    gaps, wanted : DataFrame
        From `gaps.find_gaps` and `gaps.expected_slots`: all of these series.
    width : int
        From `traces.bin_width`.
    """
    seen = BinnedGaps.of(gaps, wanted, width)
    whole = seen.whole()
    known = count_rates(seen, whole)
    found = no_trade_odds(known, seen, whole)
    strange = whole | (found.expected < IMPROBABLE_RUNS)
    # Series know nothing of one another: those in which nothing more is strange would be weighed the same once more.
    series = gaps["series"].to_numpy()
    again = np.unique(series[strange & ~whole])
    if len(again):
        theirs = np.isin(series, again)
        part = seen.only(again)
        better = count_rates(part, strange[theirs])
        found = found.changed(theirs, no_trade_odds(better, part, strange[theirs]))
        known = known.changed(again, better)
    return WeighedGaps(gaps, wanted, strange, known, found)


def gap_edges(gaps: pl.DataFrame, traced: BarSummary, width: int) -> GapEdges:
    """Look at the bars beside each gap.

    Parameters
    ----------
    gaps : DataFrame
        From `gaps.find_gaps`.
    traced : Trace
        Of the same series.
    width : int
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
    usual = _Usual.of(traced.profile, gaps)
    spread = usual.move(gaps["slot"].to_numpy(), width)
    later = usual.volume(gaps["slot"].to_numpy() + count, width)
    earlier = usual.volume(np.maximum(gaps["slot"].to_numpy() - 1, 0), width)
    with np.errstate(divide="ignore", invalid="ignore"):
        move = np.log(runs["open"].to_numpy()[after] / runs["close"].to_numpy()[before])
        jump = np.where(has_after & has_before, move / (spread * np.sqrt(count + 1)), np.nan)
        busy_after = np.where(has_after, np.log(runs["volume_first"].to_numpy()[after] / later), np.nan)
        busy_before = np.where(has_before, np.log(runs["volume_last"].to_numpy()[before] / earlier), np.nan)
    return GapEdges(*(np.where(np.isfinite(values), values, np.nan) for values in (jump, busy_after, busy_before)))


def attribute_gaps(
    part: WeighedGaps,
    beside: GapEdges,
    groups: pl.DataFrame,
    outages: pl.DataFrame,
    habits: pl.DataFrame,
    listed: pl.DataFrame,
    slot_minutes: float,
) -> pl.DataFrame:
    """Give each gap its cause.

    Parameters
    ----------
    part, beside
        From `weigh_gaps` and `gap_edges`. The gaps may carry `prints` and `quotes` (Int64): how many lie inside, null where nobody
        knows; and `usual_quotes` (Float64): how many lie in so much time as a rule.
    groups : DataFrame
        `series, group`, one row per series.
    outages, habits : DataFrame
        Of all parts: from `find_outages` and `recurrent`.
    listed : DataFrame
        `series, first, last`: ordinals of its first and last row ever.
    slot_minutes : float
        Length of a slot.

    Returns
    -------
    DataFrame of `ATTRIBUTED`, a row per gap
        `lost` counts the slots that an outage covers, `outage` is its row number, null without one; `run` and `expected_runs`
        are the chance of the run and how many so long a session has, `jump` and `busier` what `gap_edges` saw.
    """
    gaps = part.gaps
    count = gaps["bar_count"].to_numpy().astype(np.int64)
    cause, confidence = _weighed(part, beside, slot_minutes)
    group = (
        gaps.select("series")
        .join(groups, on="series", how="left", maintain_order="left")["group"]
        .fill_null(-1)
        .to_numpy()
    )
    ordinal, slot = gaps["ordinal"].to_numpy().astype(np.int64), gaps["slot"].to_numpy().astype(np.int64)
    lost, outage = _covered(outages, "ordinal", group, ordinal, slot, count)
    rest = np.maximum(part.odds.expected, _rest(part, lost, count))
    in_outage = (lost > 0) & ((OUTAGE_SHARE * count <= lost) | (rest < LOSSES_A_SESSION))
    beside_outage = (lost > 0) & ~in_outage
    cause[in_outage], confidence[in_outage] = FEED_LOSS, 1.0
    cause[beside_outage], confidence[beside_outage] = NO_TRADE, _share(rest, LOSSES_A_SESSION)[beside_outage]
    usual, habit = _covered(habits, "position", group, ordinal % SEGMENTS_PER_SESSION, slot, count)
    accustomed = 2 * usual >= count
    cause[accustomed] = _habit_causes(habits)[np.maximum(habit, 0)][accustomed] if habits.height else CALENDAR
    confidence[accustomed] = 0.9
    life = gaps.select("series").join(listed, on="series", how="left", maintain_order="left")
    unlisted = (ordinal < life["first"].fill_null(2**31 - 1).to_numpy()) | (
        ordinal > life["last"].fill_null(-1).to_numpy()
    )
    cause[unlisted], confidence[unlisted] = NOT_LISTED, 0.9
    outage = np.where(accustomed | unlisted, -1, outage)
    return pl.DataFrame(
        {
            "cause": pl.Series(cause.astype(np.uint8)).cat.to(pl.Enum(CAUSES)),
            "confidence": confidence,
            "lost": np.where(outage >= 0, lost, 0),
            "outage": pl.Series(outage).replace(-1, None),
            "run": part.odds.run,
            "expected_runs": part.odds.expected,
            "jump": pl.Series(beside.jump, nan_to_null=True),
            "busier": pl.Series(beside.after, nan_to_null=True),
        },
        schema_overrides={name: dtype for name, dtype in ATTRIBUTED.items() if name != "cause"},
    )


def sum_outage_edges(judged: pl.DataFrame, beside: GapEdges) -> pl.DataFrame:
    """Add up what the edges of the gaps of each outage look like: `OUTAGE_EDGES`; frames of several parts add up."""
    seen = judged.select("outage", pl.col("lost").cast(pl.Int64), pl.lit(1, pl.Int64).alias("gaps"))
    for name, values in (("after", beside.after), ("before", beside.before), ("jump", np.abs(beside.jump))):
        known = np.isfinite(values)
        filled = np.where(known, values, 0.0)
        seen = seen.with_columns(
            pl.Series(f"{name}_n", known.astype(np.float64)), pl.Series(f"{name}_sum", filled),
            pl.Series(f"{name}_squares", filled * filled),
        )  # fmt: skip
    return seen.drop_nulls("outage").group_by("outage").sum().sort("outage").select(list(OUTAGE_EDGES))


def classify_outages(outages: pl.DataFrame, witnesses: pl.DataFrame, axis: pl.DataFrame) -> pl.DataFrame:
    """Say what each outage was.

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
        The outages with `outage` (row number), `gaps`, `lost`, `cause`, `confidence`, and `chain` (Int32): the same for those
        that follow one another without a slot between them.
    """
    seen = (
        outages.with_row_index("outage").with_columns(pl.col("outage").cast(pl.Int32))
        .join(witnesses, on="outage", how="left", maintain_order="left")
        .join(axis, on=["group", "ordinal"], how="left", maintain_order="left")
        .with_columns(pl.col(name).fill_null(0) for name in OUTAGE_EDGES if name != "outage")
    )  # fmt: skip
    leads, trails = pl.col("first") == 0, pl.col("end") >= pl.col("slots")
    all_lack = pl.col("share") >= 0.9  # noqa: PLR2004
    late = leads & ~trails & all_lack & _stands_out("after", LATE)
    early = trails & ~leads & all_lack & _stands_out("before", LATE)
    halted = ~leads & ~trails & (pl.col("jump_n") >= 2) & (pl.col("jump_sum") / pl.col("jump_n") >= JUMPED)  # noqa: PLR2004
    cause = (
        pl.when(late).then(pl.lit("late_open")).when(early).then(pl.lit("early_close"))
        .when(halted).then(pl.lit("halt")).otherwise(pl.lit("feed_loss"))
    )  # fmt: skip
    # A whole segment that nobody has may be a holiday; an edge without an auction may be one that was thinly traded.
    confidence = (
        pl.when(late | early | halted).then(0.9).when(leads & trails).then(0.75).when((leads | trails) & all_lack).then(0.8)
        .otherwise(1 - 0.05 * (-(pl.col("surprise") - 14) / 10).exp())
    )  # fmt: skip
    told = seen.with_columns(cause.cast(pl.Enum(CAUSES)).alias("cause"), confidence.alias("confidence"))
    return told.with_columns(_chain(told, axis)).select(
        "outage", *OUTAGES, "gaps", "lost", "cause", "confidence", "chain"
    )


def explained_slots(gaps: pl.DataFrame) -> pl.DataFrame:
    """Missing slots that nothing is wrong with, per series and session.

    Parameters
    ----------
    gaps : DataFrame
        `series, session, bar_count, cause, confidence, lost`.

    Returns
    -------
    DataFrame of `series, session, explained` (Int64)
    """
    fine = pl.col("cause").cast(pl.String).is_in(EXPLAINING) & (pl.col("confidence") >= SURE)
    slots = pl.when(fine).then(pl.col("bar_count").cast(pl.Int64) - pl.col("lost")).otherwise(0)
    return gaps.group_by("series", "session").agg(slots.sum().alias("explained"))


def _weighed(part: WeighedGaps, beside: GapEdges, slot_minutes: float) -> tuple[Ints, Floats]:
    """Cause and confidence by Bayes' rule between no trade, a loss of the symbol's own, and a halt."""
    gaps = part.gaps
    count = gaps["bar_count"].to_numpy().astype(np.float64)
    prints, quotes = _inside(gaps, "prints"), _inside(gaps, "quotes")
    jump, busier = np.abs(beside.jump), beside.after
    drifts = np.where(np.isnan(jump), 1.0, _student(jump))
    leaps = np.where(np.isnan(jump), 0.1, _cauchy(jump))
    usual_volume = np.where(np.isnan(busier), 1.0, _student(busier / 0.8) / 0.8)
    auction = np.where(np.isnan(busier), 1.0, 0.5 * usual_volume + 0.5 * _normal(busier, *REOPENING))
    printed, proven = prints > 0, np.where(prints > 0, STRAY_PRINT, 1.0)
    silence = np.where(
        np.isnan(quotes), 1.0, np.where(quotes > 0, 1.0, np.maximum(np.exp(-_inside(gaps, "usual_quotes")), 1e-3))
    )
    lost_quotes = np.where(np.isnan(quotes), 1.0, np.where(quotes > 0, 1 - SILENT_QUOTES, SILENT_QUOTES))
    none = part.odds.expected * drifts * usual_volume * proven * silence
    loss = LOSSES_A_SESSION * drifts * usual_volume * lost_quotes
    halts = HALTS_A_SESSION * np.minimum(count * slot_minutes / HALT_MINUTES, 1.0) * leaps * auction * proven
    # A name that often has no trade shows no halt: nobody can tell it from its silence.
    halts *= np.exp(-np.minimum(count / np.maximum(part.odds.weight, 1e-9), 50.0) / 4)
    scores = np.stack([none, loss, halts])
    total = scores.sum(axis=0)
    best = np.array([NO_TRADE, SYMBOL_LOSS, HALT])[np.argmax(scores, axis=0)]
    confidence = scores.max(axis=0) / np.where(total > 0, total, 1)
    confidence = np.where(printed & (best == SYMBOL_LOSS), np.maximum(confidence, 0.99), confidence)
    return np.where(confidence >= SURE, best, UNKNOWN), confidence


def _inside(gaps: pl.DataFrame, name: str) -> Floats:
    if name not in gaps.columns:
        return np.full(gaps.height, np.nan)
    return gaps[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _share(one: Floats, other: float) -> Floats:
    return one / (one + other)


def _rest(part: WeighedGaps, lost: Ints, count: Ints) -> Floats:
    """How many runs so long as what an outage leaves of each gap a session has."""
    per_run = part.odds.expected / np.maximum(part.odds.run, 1e-300)
    single = part.odds.weight / np.maximum(count, 1)
    return per_run * chance_of_run((count - lost).astype(np.float64), single, part.odds.k)


def _covered(
    spans: pl.DataFrame, axis: str, group: NDArray[np.integer], where: Ints, slot: Ints, count: Ints
) -> tuple[Ints, Ints]:
    """How many slots of each gap some disjoint spans cover, and the row of the first span that does; -1 without one."""
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


def _habit_causes(habits: pl.DataFrame) -> Ints:
    leads, closes = habits["first"].to_numpy() == 0, habits["closes"].to_numpy()
    return np.where(leads, LATE_OPEN, np.where(closes, EARLY_CLOSE, CALENDAR))


class _Usual(NamedTuple):
    """What bars of each gap's series are like: by the time of day, and its own mean where few bars are."""

    gaps: pl.DataFrame
    keys: Ints
    profile: pl.DataFrame
    mean_square: Floats
    mean_volume: Floats

    @classmethod
    def of(cls, profile: pl.DataFrame, gaps: pl.DataFrame) -> _Usual:
        series = profile["series"].to_numpy()
        keys = bin_keys(*(profile[name].to_numpy() for name in PROFILE_KEY))
        heads = run_starts(series)
        bars, volume, moves, squares = (
            np.add.reduceat(profile[name].to_numpy().astype(np.float64), heads)
            for name in ("bars", "volume", "moves", "squares")
        )
        at, known = find_keys(series[heads], gaps["series"].to_numpy())
        square, mean = squares / np.maximum(moves, 1), volume / np.maximum(bars, 1)
        return cls(gaps, keys, profile, np.where(known, square[at], 0.0), np.where(known, mean[at], 0.0))

    def move(self, slot: NDArray[np.integer], width: int) -> Floats:
        """Deviation of a move over one slot."""
        moves, squares = self._at(slot, width, "moves", "squares")
        return np.asarray(np.sqrt((squares + SHRINK_BARS * self.mean_square) / (moves + SHRINK_BARS)))

    def volume(self, slot: NDArray[np.integer], width: int) -> Floats:
        """Mean volume of a bar."""
        bars, volume = self._at(slot, width, "bars", "volume")
        return np.asarray((volume + 1e-9 * self.mean_volume) / (bars + 1e-9))

    def _at(self, slot: NDArray[np.integer], width: int, *names: str) -> Iterator[Floats]:
        ours = profile_keys(self.gaps["series"].to_numpy(), self.gaps["ordinal"].to_numpy(), slot, width)
        at, known = find_keys(self.keys, ours)
        return (np.where(known, self.profile[name].to_numpy()[at], 0.0) for name in names)


def _stands_out(name: str, least: float) -> pl.Expr:
    n = pl.col(f"{name}_n")
    mean = pl.col(f"{name}_sum") / n
    error = ((pl.col(f"{name}_squares") / n - mean**2).clip(0) / n).sqrt()
    return (n >= 2) & (mean >= least) & (mean >= DEVIATIONS * error)  # noqa: PLR2004


def _chain(told: pl.DataFrame, axis: pl.DataFrame) -> pl.Series:
    key = ["group", "ordinal"]
    at = told.select(key).join(axis.with_row_index("at"), on=key, how="left", maintain_order="left")["at"]
    row, group = at.fill_null(0).to_numpy().astype(np.int64), told["group"].to_numpy()
    ends = told["end"].to_numpy() >= told["slots"].to_numpy()
    follows = (row[1:] == row[:-1] + 1) & (group[1:] == group[:-1]) & ends[:-1] & (told["first"].to_numpy()[1:] == 0)
    return pl.Series("chain", np.cumsum(np.concatenate([[True], ~follows])[: len(row)]) - 1, pl.Int32)


def _student(z: Floats) -> Floats:
    """Density of Student's t with 3 degrees of freedom: prices move with heavy tails."""
    return np.asarray(2 / (np.pi * np.sqrt(3) * (1 + z * z / 3) ** 2))


def _cauchy(z: Floats) -> Floats:
    return np.asarray(1 / (np.pi * JUMP_SCALE * (1 + (z / JUMP_SCALE) ** 2)))


def _normal(x: Floats, mean: float, deviation: float) -> Floats:
    return np.asarray(np.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi)))
