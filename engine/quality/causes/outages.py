"""Slots that many series of one source lack together: outages of a feed, found over the whole panel.

1. `peer_sums` turns the gaps of some series into steps over the slots of their group: how many of its symbols are missing,
   how much of what was expected that is, and how surprising; `sum_expected` says what was expected. Both add up
   over parts of the symbols, so a market is summed part by part.
2. `find_outages` walks the steps once: an outage is a stretch in which at least half of the bars that were expected are
   missing (or a fifth, where chance cannot do it), and which is improbable enough as a whole.
3. `habit_steps` and `find_recurring` find slots of the day that nearly every session lacks while those beside them are there.

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
BESIDE = 10  # slots
PARTS_OF_ONE = 2.0**28


def peer_sums(gaps: pl.DataFrame, pieces: Pieces, p: Floats, group: Ints) -> pl.DataFrame:
    """Steps of what is missing: added up in order of slots, they say how much is missing in each.

    Parameters
    ----------
    gaps : DataFrame
        `ordinal` of each gap.
    pieces, p
        From `rates.odds`.
    group : array of int
        Of each gap: which peers it has. Below 0: none, such as the second price type of a symbol.

    Returns
    -------
    DataFrame of `SUMS`, sorted; frames of several parts add up by their first three columns.
    """
    kept = group[pieces.gap] >= 0
    gap, p = pieces.gap[kept], np.clip(p[kept], LEAST_P, MOST_P)
    begin = pieces.first[kept]
    both = {
        "group": np.tile(group[gap], 2),
        "ordinal": np.tile(gaps["ordinal"].to_numpy()[gap], 2),
        "slot": np.concatenate([begin, begin + pieces.slots[kept]]),
        "missing": np.repeat([1, -1], len(gap)),
        "weight": np.concatenate([_exact(1 - p), -_exact(1 - p)]),
        "surprise": np.concatenate([_exact(_surprise(p)), -_exact(_surprise(p))]),
    }
    return sum_steps(pl.DataFrame(both).select(pl.col(name).cast(dtype) for name, dtype in SUMS.items()), SUMS)


def sum_expected(known: Rates, lives: pl.DataFrame) -> pl.DataFrame:
    """Steps of what is expected, over the sessions: added up in order of ordinals.

    Parameters
    ----------
    known : Rates
    lives : DataFrame
        `series`, `group`, `first`, `last` (ordinals that its lifetime begins and ends with).

    Returns
    -------
    DataFrame of `EXPECTATION`, sorted; frames of several parts add up.
    """
    alive = known.table.join(lives.filter(pl.col("group") >= 0), on="series")
    if alive.is_empty():
        return pl.DataFrame(schema=dict(EXPECTATION))
    p = known.chances(bin_keys(*(alive[name].to_numpy() for name in ("series", "position", "bin"))))
    values = {
        "symbols": np.ones(len(p), np.int64),
        "weight": _exact(1 - p),
        "surprise": _exact(p * _surprise(p)),
        "variance": _exact(p * (1 - p) * _surprise(p) ** 2),
    }
    begin = alive.select("group", "position", "bin", pl.col("first").alias("ordinal"))
    end = alive.select("group", "position", "bin", (pl.col("last") + 1).alias("ordinal"))
    steps = pl.concat(
        [begin.with_columns(**{n: pl.Series(v) for n, v in values.items()}),
         end.with_columns(**{n: pl.Series(-v) for n, v in values.items()})]
    )  # fmt: skip
    return sum_steps(steps.select(pl.col(name).cast(dtype) for name, dtype in EXPECTATION.items()), EXPECTATION)


def sum_steps(steps: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Add up steps of several parts (`SUMS` or `EXPECTATION`), by whatever is a whole number of 32 bits."""
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
    """Find stretches that too many lack at once.

    Parameters
    ----------
    sums, expected : DataFrame
        From `peer_sums` and `sum_expected`, of all parts.
    width : int
        From `traces.bin_width`.

    Returns
    -------
    DataFrame of `OUTAGES`, sorted
        `[first, end)` are slots; `symbols` of `peers` lack some of them, `share` of what was expected is missing, and
        chance would do that once in exp(`surprise`).
    """
    if sums.is_empty():
        return pl.DataFrame(schema=dict(OUTAGES))
    group, ordinal, slot = (sums[name].to_numpy().astype(np.int64) for name in ("group", "ordinal", "slot"))
    now = {name: np.cumsum(sums[name].to_numpy()) for name in ("missing", "weight", "surprise")}
    same = (group[1:] == group[:-1]) & (ordinal[1:] == ordinal[:-1])
    length = np.where(np.append(same, [False]), np.append(slot[1:], [0]) - slot, 0)
    due = _due(expected, group, ordinal, slot, width)
    excess = now["surprise"] - due["surprise"]
    share = now["weight"] / np.maximum(due["weight"], 1e-9)
    beyond_chance = excess >= IMPROBABLE + DEVIATIONS * np.sqrt(np.maximum(due["variance"], 0))
    together = (now["missing"] >= FEWEST_SYMBOLS) & (length > 0) & (excess > 0)
    odd = together & ((share >= MOST) | ((share >= MANY) & beyond_chance))
    # Steps follow one another, so neighbours that are odd are one outage.
    begins = odd & ~np.concatenate([[False], odd[:-1] & same])
    number = np.cumsum(begins) - 1
    at = np.flatnonzero(odd)
    found = pl.DataFrame(
        {
            "number": number[at], "group": group[at], "ordinal": ordinal[at], "first": slot[at],
            "end": slot[at] + length[at], "symbols": now["missing"][at], "peers": due["symbols"][at],
            "share": share[at] * length[at], "length": length[at], "surprise": excess[at] * length[at],
        }
    )  # fmt: skip
    outages = found.group_by("number", maintain_order=True).agg(
        pl.col("group", "ordinal", "first").first(), pl.col("end").last(), pl.col("symbols", "peers").max(),
        pl.col("share", "surprise", "length").sum(),
    )  # fmt: skip
    likely = outages.filter(pl.col("surprise") >= IMPROBABLE)
    return likely.with_columns(pl.col("share") / pl.col("length")).select(
        pl.col(name).cast(dtype) for name, dtype in OUTAGES.items()
    )


def habit_steps(gaps: pl.DataFrame, wanted: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """Steps over the slots of the day, whatever the session: how many were due, and how many were missing.

    Parameters
    ----------
    gaps, wanted : DataFrame
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
    due = wanted.join(groups, on="series").group_by("group", position, "slots").len("due")
    none = pl.lit(0)
    steps = [
        lost.select("group", "position", "slot", pl.lit(1).alias("missing"), none.alias("due")),
        lost.select("group", "position", pl.col("end").alias("slot"), pl.lit(-1).alias("missing"), none.alias("due")),
        due.select("group", "position", none.alias("slot"), none.alias("missing"), "due"),
        due.select("group", "position", pl.col("slots").alias("slot"), none.alias("missing"), -pl.col("due").cast(pl.Int64)),
    ]  # fmt: skip
    whole = pl.concat([part.select(pl.col(name).cast(dtype) for name, dtype in HABIT_STEPS.items()) for part in steps])
    return sum_steps(whole, HABIT_STEPS)


def find_recurring(steps: pl.DataFrame) -> pl.DataFrame:
    """Find slots of the day that nearly every session of every series of a group lacks, unlike those beside them.

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
    return _bounded(counted.with_columns((pl.col("missing") / pl.col("due")).alias("share")))


def _exact(values: Floats) -> Floats:
    # In so many parts of one, sums lose nothing: they are the same in any order, whoever added up which part.
    return np.asarray(np.round(values * PARTS_OF_ONE) / PARTS_OF_ONE)


def _surprise(p: Floats) -> Floats:
    return np.asarray(np.minimum(-np.log(p), MOST_SURPRISE))


def _bounded(counted: pl.DataFrame) -> pl.DataFrame:
    """Stretches of `ALWAYS` missing slots whose neighbours are there."""
    always = pl.col("share") >= ALWAYS
    of_segment = ["group", "position"]
    run = (always != always.shift(1).over(of_segment)).fill_null(value=True).cum_sum()
    marked = counted.with_columns(run.alias("run"), always.alias("always"))
    spans = marked.group_by(*of_segment, "run", maintain_order=True).agg(
        pl.col("always").first(), pl.col("slot").first().alias("first"), (pl.col("slot") + pl.col("length")).last().alias("end"),
        ((pl.col("share") * pl.col("length")).sum() / pl.col("length").sum()).alias("share"),
        pl.col("due").max().alias("sessions"),
        # What is nearest to the neighbours: the first and the last few slots of the run.
        _near(last=False).alias("head"), _near(last=True).alias("tail"),
    )  # fmt: skip
    beside = pl.max_horizontal(
        pl.col("tail").shift(1).over(of_segment).fill_null(0.0),
        pl.col("head").shift(-1).over(of_segment).fill_null(0.0),
    )
    whole = pl.len().over(of_segment) == 1
    closes = pl.col("end") == pl.col("end").max().over(of_segment)
    found = spans.with_columns(closes.alias("closes")).filter(pl.col("always") & ~whole & (beside <= MOST))
    return found.select(pl.col(name).cast(dtype) for name, dtype in HABITS.items()).sort("group", "position", "first")


def _near(*, last: bool) -> pl.Expr:
    slots, shares = (pl.col(name).reverse() if last else pl.col(name) for name in ("length", "share"))
    ahead = slots.cum_sum() - slots
    used = pl.min_horizontal(slots, (BESIDE - ahead).clip(0))
    return (shares * used).sum() / used.sum()


def _due(expected: pl.DataFrame, group: Ints, ordinal: Ints, slot: Ints, width: int) -> dict[str, NDArray[np.float64]]:
    """What is expected where the steps are: the last sum of group, position and bin up to the ordinal."""
    position, number = ordinal % SEGMENTS_PER_SESSION, bins_of(slot, width)
    span = 1 << 24  # more than days times 16 are
    sizes = [SEGMENTS_PER_SESSION, BINS, span]
    theirs = pack([*(expected[name].to_numpy() for name in ("group", "position", "bin", "ordinal"))], sizes)
    ours = pack([group, position, number, ordinal], sizes)
    at = np.searchsorted(theirs, ours, side="right") - 1
    known = (
        (at >= 0) & (theirs[np.maximum(at, 0)] // span == ours // span) if len(theirs) else np.zeros(len(ours), bool)
    )
    sums = {}
    for name in ("symbols", "weight", "surprise", "variance"):
        values = np.cumsum(expected[name].to_numpy())
        # Steps of one bin end at zero, but for what rounding leaves.
        sums[name] = np.where(known, values[np.maximum(at, 0)], 0.0) if len(values) else np.zeros(len(ours))
    return sums
