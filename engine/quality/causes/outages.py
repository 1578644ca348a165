"""Outages of a feed: slots that many series of one source miss together, found over the whole panel.

1. `peer_sums` turns the gaps of some series into steps over the slots of their group: how many symbols are missing, and
   how improbable that is at their own rates; `sum_expected` sums what is due. Both add up over parts of the symbols.
2. `find_outages` weighs, for each range of slots, an outage against silence that only looks like one. A symbol that is
   missing speaks for an outage by -ln of the chance of its own gap; one that is there speaks against it by -ln of the
   chance that a bar passes an outage (`PASSES`), or that it is not concerned. Symbols fall silent together when the
   whole market is quiet: their rates have a common factor, gamma distributed with shape `common_shape`, so the sum W of
   what the missing ones say counts shape * ln(1 + W / shape). A gap that fills most of its segment is another event than a
   short range: it is a witness of long ranges only. And an outage must be told by more than its strongest witness, whose
   bars may be lost alone.
3. `habit_steps` and `find_recurring` find slots of the day that nearly every session misses while the adjacent ones are
   present.

Pure: frame in, frame out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.keys import Flags, Ints, pack
from engine.quality.causes.no_trade_rates import LEAST_P, MOST_P, Odds, Rates
from engine.quality.causes.priors import SURE, losses_per_slot
from engine.quality.causes.profiles import BINS, bin_keys, bins_of, covered_lengths, slot_keys
from engine.quality.causes.silent_minutes import PASSES, SHORT_SLOTS, SURELY_SILENT, odds_of_short_outages
from engine.quality.contiguous_runs import Floats
from engine.schema import SEGMENTS_PER_SESSION, Schema

SUMS: Schema = {
    "group": pl.Int32(),
    "ordinal": pl.Int32(),
    "slot": pl.Int32(),
    "is_long": pl.Int32(),
    "missing": pl.Int64(),
    "usual": pl.Int64(),
    "voters": pl.Int64(),
    "weight": pl.Float64(),
    "surprise": pl.Float64(),
    "squares": pl.Float64(),
}
EXPECTATION: Schema = {
    "group": pl.Int32(),
    "position": pl.Int32(),
    "bin": pl.Int32(),
    "ordinal": pl.Int32(),
    "symbols": pl.Int64(),
    "voters": pl.Int64(),
    "weight": pl.Float64(),
    "voted": pl.Float64(),
    "variance": pl.Float64(),
    "lull": pl.Float64(),
}
OUTAGES: Schema = {
    "group": pl.Int32(),
    "ordinal": pl.Int32(),
    "first": pl.Int32(),
    "end": pl.Int32(),
    "symbols": pl.Int64(),
    "peers": pl.Int64(),
    "share": pl.Float64(),
    "surprise": pl.Float64(),
}
HABIT_STEPS: Schema = {
    "group": pl.Int32(),
    "position": pl.Int32(),
    "slot": pl.Int32(),
    "missing": pl.Int64(),
    "due": pl.Int64(),
}
HABITS: Schema = {
    "group": pl.Int32(),
    "position": pl.Int32(),
    "first": pl.Int32(),
    "end": pl.Int32(),
    "closes": pl.Boolean(),
    "share": pl.Float64(),
    "sessions": pl.Int64(),
}
FEWEST_SYMBOLS = 2
LONG_SHARE = 0.5  # of its segment: a longer gap is no witness of a range that is shorter than half of that
VOTER = 0.2  # share of slots missing up to which a symbol counts where only a part of the feed may be down
SHAPE = 15.0  # of the common factor of a market: its rate differs by a quarter from minute to minute
LEAST_SHAPE = 0.1
ALL_VOTERS = 0.9  # missing together: what is to be explained, and not the usual spread
LEAST_ODDS = float(np.log(SURE / (1 - SURE)))
EVENTS = 5  # that may be anything else: the largest are left out
MOST = 0.5  # of the slots beside a range
ALWAYS = 0.9
FEWEST_SESSIONS = 5
ADJACENT_SLOTS = 10
DAYS_OF_WEEK, BLOCK_DAYS = 7, 28  # a habit of a weekday is one of two such blocks
OFTEN = 0.6  # of the sessions of a weekday
NEXT_BLOCK = SEGMENTS_PER_SESSION * DAYS_OF_WEEK  # of `week_places`
BY_CHANCE = 0.01  # ranges of all that are searched that silence empties in most sessions, expected: from there on it is no habit
PARTS_OF_ONE = 2.0**28
PARTS_OF_SQUARE = 2.0**12  # squares are larger, and their sums are to be exact too


def peer_sums(gaps: pl.DataFrame, odds: Odds, rates: Rates, group: Ints, segment_slots: Ints) -> pl.DataFrame:
    """`SUMS` steps per slot: + missing, usual, voters, 1 - p, ... where a piece begins, - where it ends; group < 0 left out.

    Parameters
    ----------
    gaps : DataFrame
        `series, ordinal, bar_count` of each gap.
    odds, rates
        From `weighing.weigh_gaps`. The surprise of a gap, -ln of the chance of its run, is spread over its
        slots.
    group : array of int
        Group of each gap's peers. Below 0: none, such as the second price type of a symbol; it is not counted.
    segment_slots : array of int
        Slots of the segment of each gap: it is long if it lacks more than `LONG_SHARE` of them.

    Returns
    -------
    DataFrame of `SUMS`, sorted; frames of several parts add up by their first four columns.
    """
    pieces = odds.pieces
    has_peers = group[pieces.gap] >= 0
    gap, p = pieces.gap[has_peers], np.clip(odds.p[has_peers], LEAST_P, MOST_P)
    begin = pieces.first[has_peers]
    count = gaps["bar_count"].to_numpy()
    surprise = -np.log(np.maximum(odds.run, 1e-300)) / np.maximum(count, 1)
    added = {
        "missing": np.ones(len(gap), np.int64),
        "usual": (~odds.is_improbable).astype(np.int64)[gap],
        "voters": is_voter(rates, gaps["series"].to_numpy()).astype(np.int64)[gap],
        "weight": round_to_exact(1 - p),
        "surprise": round_to_exact(surprise)[gap],
        "squares": round_to_exact(surprise**2, PARTS_OF_SQUARE)[gap],
    }
    both = {
        "group": np.tile(group[gap], 2),
        "ordinal": np.tile(gaps["ordinal"].to_numpy()[gap], 2),
        "slot": np.concatenate([begin, begin + pieces.slots[has_peers]]),
        "is_long": np.tile((count > LONG_SHARE * segment_slots).astype(np.int64)[gap], 2),
        **{name: np.concatenate([values, -values]) for name, values in added.items()},
    }
    return sum_steps(pl.DataFrame(both).select(pl.col(name).cast(dtype) for name, dtype in SUMS.items()), SUMS)


def sum_expected(rates: Rates, lives: pl.DataFrame) -> pl.DataFrame:
    """`EXPECTATION` steps of symbols, weight, ...: + at a life's first ordinal, - after its last; group < 0: none.

    Parameters
    ----------
    rates : Rates
    lives : DataFrame
        `series`, `group`, `first`, `last` (ordinals that its lifetime begins and ends with).

    Returns
    -------
    DataFrame of `EXPECTATION`, sorted; frames of several parts add up. `weight` is the number of bars expected,
    `voted` that of the voters (`is_voter`), `variance` that of the number of bars, and `lull` its
    change with a common factor of all rates.
    """
    alive = rates.table.join(lives.filter(pl.col("group") >= 0), on="series")
    if alive.is_empty():
        return pl.DataFrame(schema=dict(EXPECTATION))
    p = rates.chances(bin_keys(*(alive[name].to_numpy() for name in ("series", "position", "bin"))))
    votes = is_voter(rates, alive["series"].to_numpy())
    values = {
        "symbols": np.ones(len(p), np.int64),
        "voters": votes.astype(np.int64),
        "weight": round_to_exact(1 - p),
        "voted": round_to_exact(np.where(votes, 1 - p, 0.0)),
        "variance": round_to_exact(p * (1 - p)),
        "lull": round_to_exact(-p * np.log(p)),
    }
    begin = alive.select("group", "position", "bin", pl.col("first").alias("ordinal"))
    end = alive.select("group", "position", "bin", (pl.col("last") + 1).alias("ordinal"))
    rising = begin.with_columns(**{name: pl.Series(added) for name, added in values.items()})
    falling = end.with_columns(**{name: pl.Series(-added) for name, added in values.items()})
    steps = pl.concat([rising, falling])
    return sum_steps(steps.select(pl.col(name).cast(dtype) for name, dtype in EXPECTATION.items()), EXPECTATION)


def sum_steps(steps: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Sum the other columns per key (the schema's Int32 columns), sorted by key; columns in schema order."""
    key = [name for name, dtype in schema.items() if dtype == pl.Int32]
    if steps.is_empty():
        return steps.select(list(schema))
    # One number for the key is added up in half the time that several take.
    columns = [steps[name].to_numpy().astype(np.int64) for name in key]
    spans = [(int(values.min()), int(values.max() - values.min()) + 1) for values in columns]
    number = np.zeros(steps.height, np.int64)
    for values, (low, size) in zip(columns, spans, strict=True):
        number = number * size + (values - low)
    whole = steps.drop(key).with_columns(pl.Series("key", number)).group_by("key").sum().sort("key")
    left, parts = whole["key"].to_numpy(), {}
    for name, (low, size) in reversed(list(zip(key, spans, strict=True))):
        left, parts[name] = left // size, left % size + low
    return whole.with_columns(pl.Series(name, part, pl.Int32) for name, part in parts.items()).select(list(schema))


def is_voter(rates: Rates, series: NDArray[np.integer]) -> Flags:
    """Whether each series lacks at most `VOTER` of its slots: few at the time of day would be chance."""
    due, missing = rates.of_series_at(series.astype(np.int64))
    return np.asarray(missing <= VOTER * due)


def find_outages(
    sums: pl.DataFrame, expected: pl.DataFrame, width: int, slot_minutes: float, axis: pl.DataFrame, open_slots: int
) -> pl.DataFrame:
    """Slot ranges that >= 2 symbols miss, more probably by an outage (posterior >= `SURE`) than at their own rates.

    Gaps that are long in their segment (`LONG_SHARE`) are witnesses of ranges of half that length or more; in all shorter
    ranges their symbols are neither missing nor there.

    Parameters
    ----------
    sums, expected : DataFrame
        From `peer_sums` and `sum_expected`, of all parts.
    width : int
        From `profiles.bin_width`.
    slot_minutes : float
        Length of a slot.
    axis : DataFrame
        `group, ordinal, slots` of all segments.
    open_slots : int
        Slots of those in which any series has a row.

    Returns
    -------
    DataFrame of `OUTAGES`, sorted
        `[first, end)` are slots; `symbols` of `peers` miss some of them, `share` of the expected bars is missing, and
        `surprise` is the logarithm of the odds for an outage, the prior included. Short ranges that may as well be
        silent minutes of the market (`silent_minutes`) are among them: `is_sure` leaves them out, `is_silence` tells those
        that surely are.
    """
    if sums.is_empty():
        return pl.DataFrame(schema=dict(OUTAGES))
    group, ordinal, slot = (sums[name].to_numpy().astype(np.int64) for name in ("group", "ordinal", "slot"))
    due = expected_at(expected, group, ordinal, slot, width)
    is_long = sums["is_long"].to_numpy() == 1
    every = steps_of_witnesses(sums, due, np.ones(len(is_long), bool))
    shape = shape_of_steps(every)
    prior = float(np.log(losses_per_slot(slot_minutes)))
    if is_long.any():
        long_ones = pl.col("length") >= LONG_SHARE / 2 * pl.col("slots")
        likely = likely_outages(every, shape, prior).join(axis, on=["group", "ordinal"], maintain_order="left")
        likely = likely.filter(long_ones).drop("slots")
        others = likely_outages(steps_of_witnesses(sums, due, ~is_long), shape, prior)
        likely = pl.concat([likely, without_overlaps(others, likely)]).sort("group", "ordinal", "first")
    else:
        likely = likely_outages(every, shape, prior)
    segment_minutes = float(np.median(axis["slots"].to_numpy())) * slot_minutes if axis.height else 0.0
    of_short = odds_of_short_outages(likely, open_slots * losses_per_slot(slot_minutes), segment_minutes)
    both = -(pl.col("surprise").neg().exp() + np.exp(-of_short)).log()
    is_short = pl.col("length") <= SHORT_SLOTS
    weighed = likely.with_columns(pl.when(is_short).then(both).otherwise("surprise").alias("surprise"))
    return weighed.select(pl.col(name).cast(dtype) for name, dtype in OUTAGES.items())


def is_sure() -> pl.Expr:
    """Expression: whether a range of `OUTAGES` is one; of the others neither outage nor silence is sure."""
    return pl.col("surprise") >= LEAST_ODDS


def is_silence() -> pl.Expr:
    """Expression: whether a range of `OUTAGES` is surely a silence of the whole market."""
    return pl.col("surprise") <= -SURELY_SILENT


class Steps(NamedTuple):
    """Slots between the edges of gaps, in order: what is missing and due in each.

    Attributes
    ----------
    place : dict of array
        `group`, `ordinal`, `slot`: the first slot of each step.
    length : array of int
        Slots of each step; 0 where the last gap of a segment ends.
    follows : array of bool
        Whether the next step is of the same segment.
    missing : dict of array
        `missing, usual, voters, weight, surprise, squares` of `SUMS` in each slot of a step.
    due : dict of array
        `EXPECTATION` in each slot of a step, less what is no witness.
    """

    place: dict[str, Ints]
    length: Ints
    follows: Flags
    missing: dict[str, NDArray[Any]]
    due: dict[str, Floats]


def steps_of_witnesses(sums: pl.DataFrame, due: dict[str, Floats], is_witness: Flags) -> Steps:
    """Steps of the gaps whose rows are marked; symbols of the others are not due while these last.

    Parameters
    ----------
    sums : DataFrame of `SUMS`
    due : dict of array
        From `expected_at`, of each row.
    is_witness : array of bool
        Of each row.
    """
    group, ordinal, slot = (sums[name].to_numpy().astype(np.int64) for name in ("group", "ordinal", "slot"))
    names = [name for name, dtype in SUMS.items() if dtype != pl.Int32]
    missing = {name: np.cumsum(np.where(is_witness, sums[name].to_numpy(), 0)) for name in names}
    if not is_witness.all():
        away = {
            name: np.cumsum(np.where(is_witness, 0, sums[name].to_numpy())) for name in ("missing", "voters", "weight")
        }
        voters = np.maximum(due["voters"] - away["voters"], 0)
        due = due | {
            "symbols": np.maximum(due["symbols"] - away["missing"], 0),
            "voters": voters,
            "voted": due["voted"] * voters / np.maximum(due["voters"], 1),
            "weight": np.maximum(due["weight"] - away["weight"], 0.0),
        }
    same = np.append((group[1:] == group[:-1]) & (ordinal[1:] == ordinal[:-1]), [False])
    length = np.where(same, np.append(slot[1:], [0]) - slot, 0)
    # Two rows of one slot are one step.
    kept = (length > 0) | ~same
    return Steps(
        {"group": group[kept], "ordinal": ordinal[kept], "slot": slot[kept]},
        length[kept],
        same[kept],
        {name: values[kept] for name, values in missing.items()},
        {name: values[kept] for name, values in due.items()},
    )


def shape_of_steps(steps: Steps) -> float:
    """`common_shape` of steps, without those in which nearly all voters are missing: they are to be explained."""
    voters = np.maximum(steps.due["voters"], steps.missing["voters"])
    is_usual = (voters < FEWEST_SYMBOLS) | (steps.missing["voters"] < ALL_VOTERS * voters)
    return common_shape(steps.missing["usual"], steps.due, np.where(is_usual, steps.length, 0))


def likely_outages(steps: Steps, shape: float, prior: float) -> pl.DataFrame:
    """Ranges whose log odds for an outage, `surprise`, are `LEAST_ODDS` or more: `OUTAGES` and `length`, sorted.

    Parameters
    ----------
    steps : Steps
    shape : float
        From `common_shape`.
    prior : float
        Logarithm of the chance that an outage begins in a slot.
    """
    place, length, now, due = steps.place, steps.length, steps.missing, steps.due
    there = np.maximum(due["symbols"] - now["missing"], 0)
    voters = np.maximum(due["voters"], now["voters"])
    silent = np.clip(1 - due["voted"] / np.maximum(voters, 1), LEAST_P, MOST_P)
    against = -np.log(PASSES) * there
    # Whatever share of the voters an outage concerns is equally likely: one of as many as there are, and one.
    of_part = voters * divergence(now["voters"] / np.maximum(voters, 1), silent) - np.log(voters + 1.0)
    is_part = (now["voters"] >= FEWEST_SYMBOLS) & (of_part > 0)
    together = (now["missing"] >= FEWEST_SYMBOLS) & (length > 0)
    is_out = together & ((now["surprise"] > against) | is_part)
    # Steps follow one another, so neighbours that are out are one outage.
    begins = is_out & ~np.concatenate([[False], is_out[:-1] & steps.follows[:-1]])
    number = np.cumsum(begins) - 1
    at = np.flatnonzero(is_out)
    first = {"group": place["group"][at], "ordinal": place["ordinal"][at], "first": place["slot"][at]}
    counts = {"end": (place["slot"] + length)[at], "symbols": now["missing"][at], "peers": due["symbols"][at]}
    sums_of_slots = {
        "share": now["weight"] / np.maximum(due["weight"], 1e-9),
        "surprise": now["surprise"],
        # No symbol says more than the root of the sum of squares.
        "strongest": np.sqrt(np.maximum(now["squares"], 0.0)),
        "against": against,
        "of_part": of_part,
        "voted": now["voters"] / np.maximum(voters, 1),
        "silent": silent,
    }
    slots = {name: values[at] * length[at] for name, values in sums_of_slots.items()}
    outages = (
        pl.DataFrame({"number": number[at]} | first | counts | slots | {"length": length[at]})
        .group_by("number", maintain_order=True)
        .agg(
            pl.col("group", "ordinal", "first").first(),
            pl.col("end").last(),
            pl.col("symbols", "peers").max(),
            pl.col("length", *slots).sum(),
        )
    )
    said, strongest, against = (outages[name].to_numpy() for name in ("surprise", "strongest", "against"))
    of_others = shape * np.log1p(np.maximum(said - strongest, 0.0) / shape)
    for_all = np.minimum(shape * np.log1p(said / shape) + prior, of_others) - against
    voted, silent = (outages[name].to_numpy() / outages["length"].to_numpy() for name in ("voted", "silent"))
    # The common factor at which so many voters are silent, and what it takes; both must be improbable.
    factor = np.log(np.clip(voted, 1e-9, 1 - 1e-9)) / np.log(np.clip(silent, LEAST_P, MOST_P))
    of_lull = np.where(factor < 1, shape * (factor - 1 - np.log(np.maximum(factor, 1e-9))), 0.0)
    of_part = np.maximum(outages["of_part"].to_numpy(), 0.0)
    for_part = np.minimum(of_part * of_lull / np.maximum(of_part + of_lull, 1e-9) + prior, of_others)
    odds = np.maximum(for_all, for_part)
    judged = outages.with_columns(pl.Series("surprise", odds), pl.col("share") / pl.col("length"))
    return judged.filter(pl.col("surprise") >= LEAST_ODDS).select(*OUTAGES, "length")


def without_overlaps(outages: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Outages that share no slot with others; both are sorted, and those of each are disjoint."""
    if others.is_empty():
        return outages
    starts, ends = (
        [slot_keys(*(rows[name].to_numpy() for name in ("group", "ordinal", edge))) for rows in (outages, others)]
        for edge in ("first", "end")
    )
    covered = covered_lengths(starts[1], ends[1], starts[0], ends[0])
    return outages.filter(pl.Series(covered == 0))


def divergence(share: Floats, chance: Floats) -> Floats:
    """Kullback-Leibler divergence of a share from a chance: what each of many says for it; 0 where it is not above."""
    share = np.clip(share, 1e-12, 1 - 1e-12)
    told = share * np.log(share / chance) + (1 - share) * np.log((1 - share) / (1 - chance))
    return np.asarray(np.where(share > chance, told, 0.0))


def common_shape(missing: Ints, due: dict[str, Floats], length: Ints) -> float:
    """Shape of the gamma distributed factor that the rates of all symbols share: at most `SHAPE`, smaller if they vary more.

    The number of missing bars in a slot has the variance of independent symbols plus lull ** 2 / shape. The excess,
    less its standard error, gives the shape; the `EVENTS` steps that say most are left out. Gaps that are improbable at
    their symbol's own rate are not counted: losses must not teach how quiet a market is.

    Parameters
    ----------
    missing : array of int
        Symbols missing at each step, in gaps that are not improbable (`Odds.is_improbable`).
    due : dict of array
        From `expected_at`.
    length : array of int
        Slots of each step; 0: it is not counted.
    """
    lull, variance = due["lull"], np.maximum(due["variance"], 0.0)
    told = length * lull**2 * ((missing - (due["symbols"] - due["weight"])) ** 2 - variance)
    used = np.argsort(told, kind="stable")[: max(len(told) - EVENTS, 0)]
    total = float((length * lull**4)[used].sum())
    if total <= 0:
        return SHAPE
    # Steps, not slots, are independent: a slot is mostly like the one before.
    error = float(np.sqrt(((length * lull**2) ** 2 * (2 * variance**2 + variance))[used].sum())) / total
    inverse = float(told[used].sum()) / total - error
    return max(1 / max(inverse, 1 / SHAPE), LEAST_SHAPE)


def habit_steps(gaps: pl.DataFrame, expected: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """Steps per (group, position, slot): `missing` +1 at a gap's start, -1 at its end; `due` + at 0, - at the end.

    Each is counted at the position of its segment in the session, and at that of its weekday in four weeks (`week_places`).

    Parameters
    ----------
    gaps, expected : DataFrame
        From `gaps.find_gaps` and `gaps.expected_slots`. Gaps whose cause is `known` are neither missing nor due.
    groups : DataFrame
        `series, group`.

    Returns
    -------
    DataFrame of `HABIT_STEPS`, sorted; frames of several parts add up.
    """
    end = (pl.col("slot") + pl.col("bar_count")).alias("end")
    place = week_places().alias("position")
    placed = gaps.join(groups, on="series").with_columns(place, end)
    lost, known = placed.filter(pl.col("known").is_null()), placed.filter(pl.col("known").is_not_null())
    due = expected.join(groups, on="series").group_by("group", place, "slots").len("due")
    none = pl.lit(0)
    minus_due = -pl.col("due").cast(pl.Int64)
    steps = [
        lost.select("group", "position", "slot", pl.lit(1).alias("missing"), none.alias("due")),
        lost.select("group", "position", pl.col("end").alias("slot"), pl.lit(-1).alias("missing"), none.alias("due")),
        due.select("group", "position", none.alias("slot"), none.alias("missing"), "due"),
        due.select("group", "position", pl.col("slots").alias("slot"), none.alias("missing"), minus_due),
        known.select("group", "position", "slot", none.alias("missing"), pl.lit(-1).alias("due")),
        known.select("group", "position", pl.col("end").alias("slot"), none.alias("missing"), pl.lit(1).alias("due")),
    ]
    whole = pl.concat([part.select(pl.col(name).cast(dtype) for name, dtype in HABIT_STEPS.items()) for part in steps])
    weekly = sum_steps(whole, HABIT_STEPS)
    return sum_steps(pl.concat([weekly, weekly.with_columns(pl.col("position") % SEGMENTS_PER_SESSION)]), HABIT_STEPS)


def week_places() -> pl.Expr:
    """Expression: place of an `ordinal` by its four weeks, weekday and segment; above all positions of segments."""
    day, segment = pl.col("ordinal") // SEGMENTS_PER_SESSION, pl.col("ordinal") % SEGMENTS_PER_SESSION
    weekday = day // BLOCK_DAYS * DAYS_OF_WEEK + day % DAYS_OF_WEEK
    return (SEGMENTS_PER_SESSION * (1 + weekday) + segment).cast(pl.Int32)


def find_recurring(steps: pl.DataFrame, segments: pl.DataFrame) -> pl.DataFrame:
    """Slot ranges missing in >= 90 % of the due bars of >= 5 sessions, beyond chance, slots beside in <= 50 %; no whole positions.

    Of a weekday only ranges at the open or the close, missing in >= 60 % of >= 5 sessions of eight weeks: a market that
    closes early on Fridays.

    Parameters
    ----------
    steps : DataFrame
        From `habit_steps`, of all parts.
    segments : DataFrame
        `ordinal` of the segments in which any series has a row.

    Returns
    -------
    DataFrame of `HABITS`, sorted
        `[first, end)` are slots of a position, or of a weekday (`week_places`); `closes` says that the segment ends
        with them.
    """
    of_segment = ["group", "position"]
    places = [(pl.col("ordinal") % SEGMENTS_PER_SESSION).cast(pl.Int32), week_places(), week_places() - NEXT_BLOCK]
    often = pl.concat([segments.group_by(place.alias("position")).len("sessions") for place in places])
    often = often.group_by("position").agg(pl.col("sessions").sum())
    # Of a weekday, each block with the one after it.
    weekly = steps.filter(pl.col("position") >= SEGMENTS_PER_SESSION)
    steps = sum_steps(pl.concat([steps, weekly.with_columns(pl.col("position") - NEXT_BLOCK)]), HABIT_STEPS)
    is_weekly = pl.col("position") >= SEGMENTS_PER_SESSION
    enough = often.filter(pl.col("sessions") >= FEWEST_SESSIONS)["position"].implode()
    counted = (
        steps.filter(pl.col("position").is_in(enough))
        .with_columns(
            pl.col("missing", "due").cum_sum().over(of_segment),
            (pl.col("slot").shift(-1).over(of_segment) - pl.col("slot")).fill_null(0).alias("length"),
        )
        .filter((pl.col("length") > 0) & (pl.col("due") >= FEWEST_SESSIONS))
    )
    counted = counted.with_columns((pl.col("missing") / pl.col("due")).alias("share"))
    always = pl.col("share") >= pl.when(is_weekly).then(OFTEN).otherwise(ALWAYS)
    run = (always != always.shift(1).over(of_segment)).fill_null(value=True).cum_sum()
    marked = counted.with_columns(run.alias("run"), always.alias("always"))
    spans = marked.group_by(*of_segment, "run", maintain_order=True).agg(
        pl.col("always").first(),
        pl.col("slot").first().alias("first"),
        (pl.col("slot") + pl.col("length")).last().alias("end"),
        ((pl.col("share") * pl.col("length")).sum() / pl.col("length").sum()).alias("share"),
        pl.col("due").max().alias("sessions"),
    )
    whole = pl.len().over(of_segment) == 1
    ends = pl.col("end").max().over(of_segment)
    spans = spans.with_columns((pl.col("end") == ends).alias("closes"), whole.alias("whole"), ends.alias("of"))
    recurring = spans.filter("always", ~pl.col("whole"), ~is_weekly | (pl.col("first") == 0) | pl.col("closes"))
    recurring = recurring.join(often.rename({"sessions": "of_sessions"}), on="position", maintain_order="left")
    beside, seen = share_beside(counted, recurring)
    due = recurring["sessions"].to_numpy().astype(np.float64)
    is_habit = is_beyond_chance(
        recurring["share"].to_numpy() * due,
        due,
        recurring["of_sessions"].to_numpy().astype(np.float64),
        (recurring["end"] - recurring["first"]).to_numpy().astype(np.float64),
        beside,
        seen,
        recurring["of"].to_numpy().astype(np.float64) * max(enough.item().len(), 1),
    )
    is_habit &= beside <= MOST
    recurring = recurring.filter(pl.Series(is_habit, dtype=pl.Boolean))
    typed = recurring.select(pl.col(name).cast(dtype) for name, dtype in HABITS.items())
    following = typed.filter(is_weekly).with_columns(pl.col("position") + NEXT_BLOCK)
    # A block is in two windows: of what both find at one edge, the longer range.
    of_edge = [*of_segment, "closes"]
    longest = pl.concat([typed.filter(is_weekly), following]).sort(
        *of_edge, pl.col("end") - pl.col("first"), descending=[False, False, False, True]
    )
    both = pl.concat([typed.filter(~is_weekly), longest.unique(of_edge, keep="first", maintain_order=True)])
    return both.sort("group", "position", "first")


def is_beyond_chance(
    lacking: Floats, due: Floats, sessions: Floats, length: Floats, missing_beside: Floats, seen: Floats, ranges: Floats
) -> Flags:
    """Mask ranges of slots, empty in most sessions, of which silence leaves fewer than `BY_CHANCE` so in all places tried.

    Silence of a range is as probable as in the slots beside it; a silent slot is followed by another with the square root
    of that. Series fall silent together: what they say of one session counts SHAPE * ln(1 + W / SHAPE).

    Parameters
    ----------
    lacking, due : array of float
        Series times sessions that lack the range, and in which it is due.
    sessions, length : array of float
        Sessions; slots of the range.
    missing_beside : array of float
        Share of the slots beside the range that is missing.
    seen : array of float
        Slots beside it that this is the share of.
    ranges : array of float
        Places that were searched: slots of the segment or day, times the segments, days or weekdays.
    """
    silent = (missing_beside * seen + 0.5) / (seen + 1)
    share = np.clip(lacking / due, 1e-9, 1 - 1e-9)
    # Chernoff's bound of so large a share.
    each = share * np.log(share / silent) + (1 - share) * np.log((1 - share) / (1 - silent))
    weight = due / sessions * (length + 1) / 2 * np.where(share > silent, each, 0.0)
    surprise = sessions * SHAPE * np.log1p(weight / SHAPE) - np.log(ranges)
    return np.asarray(surprise >= -np.log(BY_CHANCE))


def round_to_exact(values: Floats, parts: float = PARTS_OF_ONE) -> Floats:
    """Round to multiples of 1 / parts (a power of two, 2**28), so that sums are exact and independent of order."""
    return np.asarray(np.round(values * parts) / parts)


def share_beside(counted: pl.DataFrame, spans: pl.DataFrame) -> tuple[Floats, Floats]:
    """Per span, of the 10 slots before and of those after it, the larger missing share, and how many were due there.

    Parameters
    ----------
    counted : DataFrame
        `position, slot, length, missing, due` of steps, sorted, and `group`.
    spans : DataFrame
        `group, position, first, end`.
    """
    group, position, first, end = (spans[name].to_numpy() for name in ("group", "position", "first", "end"))
    begins = slot_keys(*(counted[name].to_numpy() for name in ("group", "position", "slot")))
    length = counted["length"].to_numpy()
    ahead = [
        np.concatenate([[0], np.cumsum(counted[name].to_numpy() * length, dtype=np.float64)])
        for name in ("missing", "due")
    ]
    ends = begins + length

    def before(key: Ints, which: int) -> Floats:
        """Sum of a column over all slots before each key."""
        at = np.maximum(np.searchsorted(begins, key, side="right") - 1, 0)
        within = np.clip(np.minimum(key, ends[at]) - begins[at], 0, None)
        return np.asarray(ahead[which][at] + within * (ahead[which][at + 1] - ahead[which][at]) / length[at])

    sides = []
    for low, high in ((np.maximum(first - ADJACENT_SLOTS, 0), first), (end, end + ADJACENT_SLOTS)):
        keys = [slot_keys(group, position, slot) for slot in (low, high)]
        missing, due = (before(keys[1], which) - before(keys[0], which) for which in (0, 1))
        sides.append((np.where(due > 0, missing / np.maximum(due, 1), 0.0), due))
    (left, due_left), (right, due_right) = sides
    is_left = np.where(due_left > 0, left, -1.0) > np.where(due_right > 0, right, -1.0)
    return np.where(is_left, left, right), np.where(is_left, due_left, due_right)


def expected_at(
    expected: pl.DataFrame, group: Ints, ordinal: Ints, slot: Ints, width: int
) -> dict[str, NDArray[np.float64]]:
    """Columns of `EXPECTATION` after its key, expected at each (group, ordinal, slot): sum of steps so far, or 0."""
    position, number = ordinal % SEGMENTS_PER_SESSION, bins_of(slot, width)
    span = 1 << 24  # more than days times 16 are
    sizes = [SEGMENTS_PER_SESSION, BINS, span]
    theirs = pack([*(expected[name].to_numpy() for name in ("group", "position", "bin", "ordinal"))], sizes)
    ours = pack([group, position, number, ordinal], sizes)
    at = np.searchsorted(theirs, ours, side="right") - 1
    is_found = np.zeros(len(ours), bool)
    if len(theirs):
        is_found = (at >= 0) & (theirs[np.maximum(at, 0)] // span == ours // span)
    sums = {}
    for name in (one for one, dtype in EXPECTATION.items() if dtype != pl.Int32):
        values = np.cumsum(expected[name].to_numpy())
        # Steps of one bin end at zero, but for what rounding leaves.
        sums[name] = np.where(is_found, values[np.maximum(at, 0)], 0.0) if len(values) else np.zeros(len(ours))
    return sums
