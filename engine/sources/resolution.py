"""Interval of a file's bars, and which of several resolutions of a symbol is its base.

`interval_of` and `base_of` are the only places that decide either: `run`, `load`, `audit`, `replay` and `live` call
them.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.interval import Interval

Resolution = Interval | None  # None: ticks and quotes
DEFAULT_BASE = Interval(1, "m")
ENOUGH_BARS = 30  # tell their interval if most steps are multiples of one
MOST_STEPS = 0.6
NEARLY_ALL_STEPS = 0.9
SHORT_STEPS = 0.05
BEYOND_CHANCE = 0.1  # and three standard errors: by so much more steps than chance gives are multiples of a coarser one
ENOUGH_STEPS = 2  # of fewer bars, and most of their steps, are equal
SAMPLE_ROWS = 20_000
ROWS_AGAINST_A_NAME = 1_000
DAY_SECONDS = 86_400
MONTH_SECONDS = 28 * DAY_SECONDS
_BEGINS = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in ("symbol", "price_type"))
_STEP = pl.col("ts").diff().filter(~_BEGINS)
_STEP_IN_RUN, _FALLS = _STEP.dt.total_milliseconds().alias("step"), (dt.timedelta() >= _STEP).alias("falls")
UNTOLD = "bars do not tell their interval: neither name, option, metadata nor rows do; name it with --interval"


def base_of(
    available: Iterable[Resolution], wanted: Interval | None = None, derived: Collection[Interval] = ()
) -> Resolution:
    """Base: `wanted`, else ticks (None), else finest bars; by default 1m, else finest, but finer if `derived` needs it.

    The one wanted; else 1m. Where something finer than 1m is to be derived, the coarsest bars that it can be made of,
    else ticks or quotes. Where there is no 1m, the finest bars; without bars, ticks or quotes (None).

    Parameters
    ----------
    available : iterable of Interval or None
        What the source has of the symbol; None stands for ticks or quotes.
    wanted : Interval, optional
        Stated by an option. Where the source has no such bars they are made of ticks or quotes; without these it is as
        if none were stated, with the finest bars.
    derived : collection of Interval
        What is to be derived.
    """
    there = set(available)
    bars = {one for one in there if one is not None}
    has_prints = None in there
    if not bars or wanted in bars:
        return wanted if bars else None
    if wanted is not None:
        return None if has_prints else min(bars)
    if min(derived, default=DEFAULT_BASE) < DEFAULT_BASE:
        serving = [one for one in bars if all(serves(one, target) for target in derived)]
        if serving or has_prints:
            return max(serving, default=None)
    return DEFAULT_BASE if DEFAULT_BASE in bars else min(bars)


def interval_of_prints(wanted: Interval | None, derived: Collection[Interval] = ()) -> Interval:
    """Interval of bars folded from ticks or quotes: `wanted`, else the finest of 1m and `derived`."""
    return wanted or min([DEFAULT_BASE, *derived])


def serves(base: Interval, target: Interval) -> bool:
    """Whether the intervals are equal, or `base` is finer and its bars aggregate exactly into `target`."""
    return base == target or (base < target and base.nests_in(target))


def interval_of(frame: pl.DataFrame, others: Collection[Interval] = (), *, dates_only: bool = False) -> Interval | None:
    """Interval of bars: of 30+ rows the commonest step if it fits; of fewer a majority's, or one in `others`; or None.

    Of `ENOUGH_BARS` rows the commonest step between neighbours of a series, if nearly all steps are multiples of it, or most
    are and a third are equal, or none is shorter and a third are equal. Else, of thin bars, the largest step of a minute or
    more that all are multiples of (`interval_of_thin`). Of fewer rows the step that most of them have and none is shorter than (once is enough up
    to a minute, twice beyond). Else the largest step that all are multiples of, where `others` has it and no coarser one
    explains most: a few bars of an hour, beside files of minutes, are not taken for minutes. Stamps without a time of day are
    days where two of them are a day apart.

    Parameters
    ----------
    frame : DataFrame with `symbol`, `price_type`, `ts`
    others : collection of Interval
        Those of other files of the same symbols.
    dates_only : bool
        Whether the stamps are dates.
    """
    steps = step_counts(frame.head(SAMPLE_ROWS))
    if not steps and frame.height > SAMPLE_ROWS:
        steps = step_counts(frame)
    return interval_of_steps(steps, frame.height, others, dates_only=dates_only)


def interval_of_steps(
    steps: Sequence[tuple[int, int]], rows: int, others: Collection[Interval] = (), *, dates_only: bool = False
) -> Interval | None:
    """Interval of so many rows whose first ones have these steps (as `step_counts` has them), by the rules of `interval_of`."""
    if not steps:
        return None
    if dates_only and min(step for step, _ in steps) == DAY_SECONDS * 1000:
        return Interval(1, "d")
    commonest, count = steps[0]
    total, shortest = sum(number for _, number in steps), min(step for step, _ in steps)
    # Bars of a thin series of minutes lie any number of minutes apart, those of an interval by and large at multiples.
    multiples = sum(number for step, number in steps if step % commonest == 0)
    is_multiple = multiples >= MOST_STEPS * total
    if rows >= ENOUGH_BARS:
        is_third = 3 * count >= total
        is_alike = is_third and (is_multiple or shortest == commonest)
        is_told = multiples >= NEARLY_ALL_STEPS * total or is_alike or commonest >= MONTH_SECONDS * 1000
    else:
        # Bars a minute apart are of no coarser interval; a wider step may be a gap, so one of them tells nothing.
        is_repeated = count >= ENOUGH_STEPS or commonest <= DEFAULT_BASE.seconds * 1000
        is_told = is_repeated and 2 * count > total and shortest == commonest
    if is_told:
        return interval_of_step(commonest)
    if is_multiple and shortest < commonest:
        return None  # bars of an hour and an odd one are no bars of a minute
    shared = interval_of_step(math.gcd(*(step for step, _ in steps)))
    if shared in others:
        return shared
    return interval_of_thin(steps) if rows >= ENOUGH_BARS else None


def interval_of_thin(steps: Sequence[tuple[int, int]]) -> Interval | None:
    """Interval of bars of a series that trades seldom, by its steps (as `step_counts` has them); None where it is not told.

    The greatest common divisor of all steps, if it is a minute or more and below a day; if no more steps than by chance are
    multiples of two, three or five times of it, as they are of coarser bars with odd rows between them; and if a twentieth of
    them are a quarter of the median or less, as those between trades are, and those between days or hours are not.
    """
    shared = math.gcd(*(step for step, _ in steps))
    total = sum(number for _, number in steps)
    for times in (2, 3, 5):
        chance = 1 / times
        error = math.sqrt(chance * (1 - chance) / total)
        multiples = sum(number for step, number in steps if step % (times * shared) == 0)
        if multiples > (chance + max(BEYOND_CHANCE, 3 * error)) * total:
            return None
    passed = np.cumsum([number for _, number in sorted(steps)])
    median = sorted(steps)[int(np.searchsorted(passed, total / 2))][0]
    short = sum(number for step, number in steps if 4 * step <= max(median, 4 * shared))
    is_within = DEFAULT_BASE.seconds * 1000 <= shared < DAY_SECONDS * 1000
    return interval_of_step(shared) if is_within and SHORT_STEPS * total <= short else None


def contradicting_interval(frame: pl.DataFrame, named: Interval) -> Interval | None:
    """The finer interval that most steps of 30 or more bars have, where `named` is coarser than it; None otherwise.

    Parameters
    ----------
    frame : DataFrame with `symbol`, `price_type`, `ts`
    named : Interval
        What the file's name says.
    """
    return finer_interval(step_counts(frame.head(ROWS_AGAINST_A_NAME)), frame.height, named)


def finer_interval(steps: Sequence[tuple[int, int]], rows: int, named: Interval) -> Interval | None:
    """The interval that contradicts `named`, by the steps of the first of so many rows; None for under 30 rows."""
    if rows < ENOUGH_BARS:
        return None
    found = interval_of_step(steps[0][0]) if steps else None
    is_most = found is not None and steps[0][1] >= MOST_STEPS * sum(count for _, count in steps)
    return found if is_most and found is not None and found < named else None


def step_counts_of_parts(
    ts: pl.Series, lengths: NDArray[np.int64], most_rows: int
) -> list[list[tuple[int, int]] | None]:
    """`step_counts` of the first `most_rows` rows of each part of a column; None where stamps of a part do not rise.

    Parameters
    ----------
    ts : Series of Datetime
        Stamps of all parts, one series each, one part behind the other; no nulls.
    lengths : array of int
        Rows of each part; their sum is the length of `ts`.
    most_rows : int
        Of each part only so many rows are looked at.
    """
    at = ts.cast(pl.Datetime("us", "UTC")).to_physical().to_numpy()
    part = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(at)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    is_step = (place > 0) & (place < most_rows)
    step = np.diff(at, prepend=0)[is_step]
    of_part = part[is_step]
    falling = set(np.unique(of_part[step <= 0]).tolist())
    found: list[list[tuple[int, int]]] = [[] for _ in lengths]
    counted = pl.DataFrame({"part": of_part, "step": step // 1000}).group_by("part", "step").len()
    for number, milliseconds, count in counted.sort("part", -pl.col("len").cast(pl.Int64), "step").iter_rows():
        found[number].append((milliseconds, count))
    return [None if number in falling else steps for number, steps in enumerate(found)]


def step_counts(frame: pl.DataFrame) -> list[tuple[int, int]]:
    """Pairs (ms between neighbouring distinct stamps of a series, how often); commonest first, ties: shorter."""
    steps = ordered_steps(frame)
    if steps is None:
        series = ["symbol", "price_type"]
        stamps = frame.select(*series, "ts").unique().sort(*series, "ts")
        steps = stamps.select(pl.col("ts").diff().over(series).dt.total_milliseconds().alias("step"))["step"]
    counts = [(step, count) for step, count in steps.value_counts().iter_rows() if step is not None]
    return sorted(counts, key=lambda pair: (-pair[1], pair[0]))


def ordered_steps(frame: pl.DataFrame) -> pl.Series | None:
    """Steps `step` (ms) between neighbours, if each series is one run of rising stamps; else None."""
    steps, falls, runs = frame.select(_STEP_IN_RUN.implode(), _FALLS.any(), _BEGINS.sum().alias("runs")).row(0)
    if falls:
        return None
    is_one_run_each = runs < 2 or frame.filter(_BEGINS).select("symbol", "price_type").n_unique() == runs  # noqa: PLR2004
    return pl.Series("step", steps, pl.Int64) if is_one_run_each else None


def interval_of_step(milliseconds: int) -> Interval | None:
    """Interval of a step: whole seconds below a day, exactly a day or week, 28 days or more as one month; else None."""
    seconds, rest = divmod(milliseconds, 1000)
    if rest or not seconds:
        return None
    if seconds < DAY_SECONDS:
        return Interval.of_seconds(seconds)
    if seconds >= MONTH_SECONDS:
        return Interval(1, "mo")
    return {DAY_SECONDS: Interval(1, "d"), 7 * DAY_SECONDS: Interval(1, "w")}.get(seconds)
