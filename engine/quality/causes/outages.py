"""Outages of a feed: slots that many series of one source miss together, found over the whole panel.

1. `peer_sums` turns the gaps of some series into steps over the slots of their group: the number of symbols missing,
   their share of the expected bars, and their surprise; `sum_expected` sums the expectation. Both add up over
   parts of the symbols, so a market is summed part by part.
2. `find_outages` walks the steps once: an outage is a range of slots in which at least half of the expected bars are
   missing (or a fifth, where chance cannot do it), and which is improbable enough as a whole.
3. `habit_steps` and `find_recurring` find slots of the day that nearly every session misses while the adjacent ones are
   present.

Pure: frame in, frame out.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.keys import Ints, pack
from engine.quality.causes.no_trade_rates import LEAST_P, MOST_P, Pieces, Rates
from engine.quality.causes.profiles import BINS, bin_keys, bins_of
from engine.quality.contiguous_runs import Floats
from engine.schema import SEGMENTS_PER_SESSION, Schema

SUMS: Schema = {
    "group": pl.Int32(),
    "ordinal": pl.Int32(),
    "slot": pl.Int32(),
    "missing": pl.Int64(),
    "weight": pl.Float64(),
    "surprise": pl.Float64(),
}
EXPECTATION: Schema = {
    "group": pl.Int32(),
    "position": pl.Int32(),
    "bin": pl.Int32(),
    "ordinal": pl.Int32(),
    "symbols": pl.Int64(),
    "weight": pl.Float64(),
    "surprise": pl.Float64(),
    "variance": pl.Float64(),
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
MOST = 0.5  # of what was expected
MANY = 0.2
FEWEST_SYMBOLS = 2
IMPROBABLE = 14.0  # nats: once in a million
MOST_SURPRISE = 3.0  # of one symbol: an outage takes several
DEVIATIONS = 6.0
ALWAYS = 0.9
FEWEST_SESSIONS = 5
ADJACENT_SLOTS = 10
PARTS_OF_ONE = 2.0**28


def peer_sums(gaps: pl.DataFrame, pieces: Pieces, p: Floats, group: Ints) -> pl.DataFrame:
    """`SUMS` steps per slot: + missing, 1 - p, surprise where a piece begins, - where it ends; group < 0 left out.

    Parameters
    ----------
    gaps : DataFrame
        `ordinal` of each gap.
    pieces, p
        From `no_trade_rates.no_trade_odds`.
    group : array of int
        Group of each gap's peers. Below 0: none, such as the second price type of a symbol; it is not counted.

    Returns
    -------
    DataFrame of `SUMS`, sorted; frames of several parts add up by their first three columns.
    """
    has_peers = group[pieces.gap] >= 0
    gap, p = pieces.gap[has_peers], np.clip(p[has_peers], LEAST_P, MOST_P)
    begin = pieces.first[has_peers]
    both = {
        "group": np.tile(group[gap], 2),
        "ordinal": np.tile(gaps["ordinal"].to_numpy()[gap], 2),
        "slot": np.concatenate([begin, begin + pieces.slots[has_peers]]),
        "missing": np.repeat([1, -1], len(gap)),
        "weight": np.concatenate([round_to_exact(1 - p), -round_to_exact(1 - p)]),
        "surprise": np.concatenate([round_to_exact(surprise(p)), -round_to_exact(surprise(p))]),
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
    DataFrame of `EXPECTATION`, sorted; frames of several parts add up.
    """
    alive = rates.table.join(lives.filter(pl.col("group") >= 0), on="series")
    if alive.is_empty():
        return pl.DataFrame(schema=dict(EXPECTATION))
    p = rates.chances(bin_keys(*(alive[name].to_numpy() for name in ("series", "position", "bin"))))
    values = {
        "symbols": np.ones(len(p), np.int64),
        "weight": round_to_exact(1 - p),
        "surprise": round_to_exact(p * surprise(p)),
        "variance": round_to_exact(p * (1 - p) * surprise(p) ** 2),
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


def find_outages(sums: pl.DataFrame, expected: pl.DataFrame, width: int) -> pl.DataFrame:
    """Slot ranges where >= 2 symbols miss half of the expected weight (or 20 %, beyond chance), surprise >= 14 nats.

    Parameters
    ----------
    sums, expected : DataFrame
        From `peer_sums` and `sum_expected`, of all parts.
    width : int
        From `profiles.bin_width`.

    Returns
    -------
    DataFrame of `OUTAGES`, sorted
        `[first, end)` are slots; `symbols` of `peers` miss some of them, `share` of the expected bars is missing, and
        chance would do that once in exp(`surprise`).
    """
    if sums.is_empty():
        return pl.DataFrame(schema=dict(OUTAGES))
    group, ordinal, slot = (sums[name].to_numpy().astype(np.int64) for name in ("group", "ordinal", "slot"))
    now = {name: np.cumsum(sums[name].to_numpy()) for name in ("missing", "weight", "surprise")}
    same = (group[1:] == group[:-1]) & (ordinal[1:] == ordinal[:-1])
    length = np.where(np.append(same, [False]), np.append(slot[1:], [0]) - slot, 0)
    due = expected_at(expected, group, ordinal, slot, width)
    excess = now["surprise"] - due["surprise"]
    share = now["weight"] / np.maximum(due["weight"], 1e-9)
    beyond_chance = excess >= IMPROBABLE + DEVIATIONS * np.sqrt(np.maximum(due["variance"], 0))
    together = (now["missing"] >= FEWEST_SYMBOLS) & (length > 0) & (excess > 0)
    is_out = together & ((share >= MOST) | ((share >= MANY) & beyond_chance))
    # Steps follow one another, so neighbours that are out are one outage.
    begins = is_out & ~np.concatenate([[False], is_out[:-1] & same])
    number = np.cumsum(begins) - 1
    at = np.flatnonzero(is_out)
    places = {"number": number[at], "group": group[at], "ordinal": ordinal[at], "first": slot[at]}
    counts = {"end": slot[at] + length[at], "symbols": now["missing"][at], "peers": due["symbols"][at]}
    sizes = {"share": share[at] * length[at], "length": length[at], "surprise": excess[at] * length[at]}
    outages = (
        pl.DataFrame(places | counts | sizes)
        .group_by("number", maintain_order=True)
        .agg(
            pl.col("group", "ordinal", "first").first(),
            pl.col("end").last(),
            pl.col("symbols", "peers").max(),
            pl.col("share", "surprise", "length").sum(),
        )
    )
    likely = outages.filter(pl.col("surprise") >= IMPROBABLE)
    return likely.with_columns(pl.col("share") / pl.col("length")).select(
        pl.col(name).cast(dtype) for name, dtype in OUTAGES.items()
    )


def habit_steps(gaps: pl.DataFrame, expected: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """Steps per (group, position, slot): `missing` +1 at a gap's start, -1 at its end; `due` + at 0, - at the end.

    Parameters
    ----------
    gaps, expected : DataFrame
        From `gaps.find_gaps` and `gaps.expected_slots`.
    groups : DataFrame
        `series, group`.

    Returns
    -------
    DataFrame of `HABIT_STEPS`, sorted; frames of several parts add up.
    """
    position = (pl.col("ordinal") % SEGMENTS_PER_SESSION).alias("position")
    end = pl.col("slot") + pl.col("bar_count")
    lost = gaps.join(groups, on="series").select("group", position, "slot", end.alias("end"))
    due = expected.join(groups, on="series").group_by("group", position, "slots").len("due")
    none = pl.lit(0)
    minus_due = -pl.col("due").cast(pl.Int64)
    steps = [
        lost.select("group", "position", "slot", pl.lit(1).alias("missing"), none.alias("due")),
        lost.select("group", "position", pl.col("end").alias("slot"), pl.lit(-1).alias("missing"), none.alias("due")),
        due.select("group", "position", none.alias("slot"), none.alias("missing"), "due"),
        due.select("group", "position", pl.col("slots").alias("slot"), none.alias("missing"), minus_due),
    ]
    whole = pl.concat([part.select(pl.col(name).cast(dtype) for name, dtype in HABIT_STEPS.items()) for part in steps])
    return sum_steps(whole, HABIT_STEPS)


def find_recurring(steps: pl.DataFrame) -> pl.DataFrame:
    """Slot ranges of a position missing in >= 90 % of >= 5 due bars, slots beside in <= 50 %; no whole positions.

    Parameters
    ----------
    steps : DataFrame
        From `habit_steps`, of all parts.

    Returns
    -------
    DataFrame of `HABITS`, sorted
        `[first, end)` are slots; `closes` says that the segment ends with them.
    """
    of_segment = ["group", "position"]
    counted = steps.with_columns(
        pl.col("missing", "due").cum_sum().over(of_segment),
        (pl.col("slot").shift(-1).over(of_segment) - pl.col("slot")).fill_null(0).alias("length"),
    ).filter((pl.col("length") > 0) & (pl.col("due") >= FEWEST_SESSIONS))
    counted = counted.with_columns((pl.col("missing") / pl.col("due")).alias("share"))
    always = pl.col("share") >= ALWAYS
    run = (always != always.shift(1).over(of_segment)).fill_null(value=True).cum_sum()
    marked = counted.with_columns(run.alias("run"), always.alias("always"))
    spans = marked.group_by(*of_segment, "run", maintain_order=True).agg(
        pl.col("always").first(),
        pl.col("slot").first().alias("first"),
        (pl.col("slot") + pl.col("length")).last().alias("end"),
        ((pl.col("share") * pl.col("length")).sum() / pl.col("length").sum()).alias("share"),
        pl.col("due").max().alias("sessions"),
        mean_share_at_edge(last=False).alias("head"),
        mean_share_at_edge(last=True).alias("tail"),
    )
    adjacent = pl.max_horizontal(
        pl.col("tail").shift(1).over(of_segment).fill_null(0.0),
        pl.col("head").shift(-1).over(of_segment).fill_null(0.0),
    )
    whole = pl.len().over(of_segment) == 1
    closes = pl.col("end") == pl.col("end").max().over(of_segment)
    recurring = spans.with_columns(closes.alias("closes")).filter(pl.col("always") & ~whole & (adjacent <= MOST))
    typed = recurring.select(pl.col(name).cast(dtype) for name, dtype in HABITS.items())
    return typed.sort("group", "position", "first")


def round_to_exact(values: Floats) -> Floats:
    """Round to multiples of 2**-28, so that sums are exact and independent of order."""
    return np.asarray(np.round(values * PARTS_OF_ONE) / PARTS_OF_ONE)


def surprise(p: Floats) -> Floats:
    """min(-ln p, 3), element by element."""
    return np.asarray(np.minimum(-np.log(p), MOST_SURPRISE))


def mean_share_at_edge(*, last: bool) -> pl.Expr:
    """Expression: length-weighted mean of `share` over the first (`last`: last) 10 slots of a run of steps."""
    slots, shares = (pl.col(name).reverse() if last else pl.col(name) for name in ("length", "share"))
    ahead = slots.cum_sum() - slots
    used = pl.min_horizontal(slots, (ADJACENT_SLOTS - ahead).clip(0))
    return (shares * used).sum() / used.sum()


def expected_at(
    expected: pl.DataFrame, group: Ints, ordinal: Ints, slot: Ints, width: int
) -> dict[str, NDArray[np.float64]]:
    """`symbols, weight, surprise, variance` expected at each (group, ordinal, slot): sum of steps so far, or 0."""
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
    for name in ("symbols", "weight", "surprise", "variance"):
        values = np.cumsum(expected[name].to_numpy())
        # Steps of one bin end at zero, but for what rounding leaves.
        sums[name] = np.where(is_found, values[np.maximum(at, 0)], 0.0) if len(values) else np.zeros(len(ours))
    return sums
