"""Activity at round times of the clock, which shows stamps that are a few steps off. Pure: frame in, frame out.

Orders are sent, figures are published and candles are closed at full and half hours: in the first minute after them more is
traded, at wider ranges, than in the minutes beside. Where that minute is stamped a step later, or earlier, all stamps are. It
needs no edge of a session, so it also holds in markets that never close, and in a single series.

1. `round_times` ranks the bars near each full and half hour among the bars around it, and sums the ranks by their distance.
2. `round_lags` turns the sums into standard scores, and names the distance that stands out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import polars as pl

from engine.checks.check import SERIES, Frames, MeasureInput, Measurement
from engine.checks.clock_profile import MINUTE_US
from engine.checks.remedies import ASK_WHAT_IS_MARKED, any_of, shift_option
from engine.checks.sanity import Bars, session_bars
from engine.checks.stamp_steps import stamp_steps_finding, steps_in_words
from engine.interval import Interval
from engine.keys import Ints
from engine.quality.contiguous_runs import Floats
from engine.schema import Schema, empty

# `lag` in steps from a full or half hour; `total` and `squares` sum the ranks (-0.5 to 0.5) of the bars there.
ROUND_TIMES: Schema = {
    **SERIES,
    "lag": pl.Int16(),
    "marks": pl.Int64(),
    "total": pl.Float64(),
    "squares": pl.Float64(),
}
SUMMED = ("lag", "marks", "total", "squares")
# `lag` > 0: late; `score` at that lag, `as_stamped` at lag 0.
ROUND_LAGS: Schema = {
    **SERIES,
    "lag": pl.Int64(),
    "marks": pl.Int64(),
    "score": pl.Float64(),
    "as_stamped": pl.Float64(),
}
HALF_HOUR_US = 30 * MINUTE_US
LARGEST_STEP_US = 5 * MINUTE_US
FARTHEST_LAG, WINDOW = 3, 10  # steps
MOST_MARKS = 1024  # per series in a part, evenly over all: a pattern that is seen in fewer is told by these
FEWEST_MARKS = 40
LEAST_SCORE = 5.0  # of the bars at a lag
LEAST_STEP = 4.0  # between their score and that of the bars as stamped
LEAST_BESIDE_EDGES = 2.5  # of both, where the edges of sessions say the same
MARKS_AT_ONCE = 2048  # so that the bars around them stay in the cache
KEY = list(SERIES)

Row = dict[str, Any]


def round_times(bars: Bars, interval: Interval) -> pl.DataFrame:
    """Return `series, lag, marks, total, squares`: ranks of bars 0 to 3 steps from full and half hours among those around.

    The rank is that of the range, and of the volume where there is one. Counted are hours around which the series has a bar in
    each slot; no rows for steps that are no divisor of half an hour, or above five minutes.
    """
    found = pl.DataFrame(schema={"series": pl.Int32(), **{name: ROUND_TIMES[name] for name in SUMMED}})
    if not bars.is_intraday:
        return found
    step = interval.step_us
    if step % MINUTE_US or step > LARGEST_STEP_US or HALF_HOUR_US % step:
        return found
    at = marks_of(bars, step)
    if not len(at):
        return found
    rank = ranks_near(bars, at, min(WINDOW, HALF_HOUR_US // step - 1))
    owner = bars.owner(at)
    heads = np.flatnonzero(np.diff(owner, prepend=-1))
    lags = np.arange(-FARTHEST_LAG, FARTHEST_LAG + 1)
    counts = np.diff(np.append(heads, len(at)))
    return pl.DataFrame(
        {
            "series": np.repeat(bars.series[at[heads]], len(lags)),
            "lag": np.tile(lags, len(heads)),
            "marks": np.repeat(counts, len(lags)),
            "total": np.add.reduceat(rank, heads, axis=1).T.ravel(),
            "squares": np.add.reduceat(rank**2, heads, axis=1).T.ravel(),
        },
        schema_overrides=found.schema,
    )


def marks_of(bars: Bars, step: int) -> Ints:
    """Return row numbers of bars at full and half hours with a bar in every slot around them, at most 1,024 per series."""
    ts = bars.rows["ts"].to_physical().to_numpy()
    at = np.flatnonzero(ts % HALF_HOUR_US == 0)
    width = min(WINDOW, HALF_HOUR_US // step - 1)
    at = at[(at >= width) & (at + width < len(ts))]
    first, last = at - width, at + width
    whole = ts[last] - ts[first] == 2 * width * step
    at = at[whole & (bars.series[first] == bars.series[last]) & (bars.session[first] == bars.session[last])]
    owner = bars.owner(at)
    count = np.bincount(owner, minlength=1)
    stride = -(-count[owner] // MOST_MARKS)
    kept: Ints = at[(np.arange(len(at)) - np.searchsorted(owner, owner)) % stride == 0]
    return kept


def ranks_near(bars: Bars, at: Ints, width: int) -> Floats:
    """Return the ranks, a row per lag and a column per mark, of bars among those up to `width` rows from the rows `at`."""
    around, near = np.arange(-width, width + 1)[:, None], slice(width - FARTHEST_LAG, width + FARTHEST_LAG + 1)
    rank = np.empty((2 * FARTHEST_LAG + 1, len(at)))
    for low in range(0, len(at), MARKS_AT_ONCE):
        block = slice(low, low + MARKS_AT_ONCE)
        rows = around + at[block]
        rank[:, block] = ranks(bars.high[rows] - bars.low[rows], near)
        volume = bars.volume[rows]
        volume[np.isnan(volume)] = 0.0
        # Totals so far are highest at the last bar, whatever happens at the mark.
        has_volume = volume.any(0) & ~(volume[1:] >= volume[:-1]).all(0)
        of_volume = ranks(volume, near)
        rank[:, block] = np.where(has_volume, (rank[:, block] + of_volume) / 2, rank[:, block])
    return rank


def ranks(values: Floats, near: slice) -> Floats:
    """Return, per column, the ranks of the rows `near` among all rows, -0.5 (lowest) to 0.5; equals share theirs."""
    found = np.empty((near.stop - near.start, values.shape[1]))
    for at, own in enumerate(values[near]):
        # Counts of so few rows fit a byte.
        counted = (values < own).view(np.int8)
        counted += (values <= own).view(np.int8)
        found[at] = counted.sum(0, np.int8)
    return (found - 1) / (2 * (len(values) - 1)) - 0.5


def round_scores(sums: pl.DataFrame) -> pl.DataFrame:
    """Return the sums of at least 40 marks with `score`: the sum of ranks in its standard deviations, if lags were alike."""
    usual = (pl.col("squares").sum().over(KEY) / pl.col("marks").sum().over(KEY)).sqrt()
    # A score needs a spread: of series whose bars are all alike there is none.
    spread = pl.when(usual > 0).then(usual).otherwise(np.inf)
    return sums.filter(pl.col("marks") >= FEWEST_MARKS).with_columns(
        (pl.col("total") / (spread * pl.col("marks").sqrt())).alias("score")
    )


def round_lags(sums: pl.DataFrame, least: float = LEAST_SCORE, step: float = LEAST_STEP) -> pl.DataFrame:
    """Return `ROUND_LAGS`: series that are most active 1 to 3 steps from full and half hours, and not at them.

    Parameters
    ----------
    sums : DataFrame of `ROUND_TIMES`
    least : float
        Score that they need there.
    step : float
        By which it is above the score at full and half hours.
    """
    best = (
        round_scores(sums)
        .with_columns(pl.col("score").filter(pl.col("lag") == 0).first().over(KEY).alias("as_stamped"))
        .sort(*KEY, "score", descending=[False] * len(KEY) + [True], maintain_order=True)
        .unique(KEY, keep="first", maintain_order=True)
    )
    stands_out = (pl.col("score") >= least) & (pl.col("score") - pl.col("as_stamped") >= step)
    return best.filter(stands_out).select(pl.col(name).cast(dtype) for name, dtype in ROUND_LAGS.items())


def round_as_stamped(sums: pl.DataFrame) -> pl.DataFrame:
    """Return `SERIES` of those that are most active at full and half hours: their stamps are starts of bars."""
    scores = round_scores(sums).sort(*KEY, "lag")
    other = pl.col("score").filter(pl.col("lag") != 0).max().over(KEY)
    is_right = (pl.col("score") >= LEAST_SCORE) & (pl.col("score") - other >= LEAST_STEP)
    return scores.with_columns(other.alias("other")).filter((pl.col("lag") == 0) & is_right).select(KEY)


def round_finding(row: Row) -> Row:
    """Build the `stamp` finding of a row of `ROUND_LAGS`; `count` is the marks."""
    step = Interval.parse(row["interval"]).seconds
    return stamp_steps_finding(
        row,
        row["lag"],
        shown_by="by the activity at full and half hours",
        count=row["marks"],
        evidence=round_evidence(row),
        remedy=any_of(shift_option(-row["lag"] * step), ASK_WHAT_IS_MARKED),
    )


def round_evidence(row: Row) -> str:
    """Return the evidence text of a row of `ROUND_LAGS`."""
    by = steps_in_words(row["lag"])
    side = "after" if row["lag"] > 0 else "before"
    return (
        f"around {row['marks']:,} full and half hours the bar {by} {side} them is the most active, by ranges and volumes: "
        f"{row['score']:.1f} standard deviations above the bars around it, the bar stamped at them {row['as_stamped']:.1f}; "
        f"confidence {'high' if row['score'] >= LEAST_SCORE else 'moderate'}"
    )


class RoundTimes(Measurement):
    """Frame `round_times`: how active bars near full and half hours are among those around them, of `ROUND_TIMES`."""

    schemas: ClassVar[Mapping[str, Schema]] = {"round_times": ROUND_TIMES}

    def measure(self, part: MeasureInput) -> Frames:
        """Return frame `round_times`, empty for steps above five minutes and those that do not divide half an hour."""
        found = round_times(part.once(session_bars), part.grid.interval)
        named = found.join(part.series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
        return {"round_times": named.select(pl.col(name).cast(dtype) for name, dtype in ROUND_TIMES.items())}

    def combine(self, frames: Mapping[str, Sequence[pl.DataFrame]]) -> Frames:
        """Sum the ranks of all parts by series and lag."""
        whole = pl.concat([empty(ROUND_TIMES), *frames["round_times"]])
        summed = whole.group_by(*KEY, "lag").agg(pl.col("marks", "total", "squares").sum()).sort(*KEY, "lag")
        return {"round_times": summed.select(list(ROUND_TIMES))}


ROUND_TIMES_MEASURED = RoundTimes()
