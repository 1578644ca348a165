"""Prices off the tick grid: what an adjustment by a factor leaves, with its factor and date. Pure: frame in, frame out.

A traded price is a whole number of ticks. Divided by 7 for a split, or times 0.9731 for dividends, it is none any more, but all
prices lie on a grid of their own: a tick times the factor. From the date of the event on they are on the tick grid again.

1. `sampled_prices` keeps some prices of each session: few, whatever the rows.
2. `grid_changes` finds, per series, up to which session prices lie off the tick grid, and the factor that they share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import polars as pl

from engine.checks.check import SERIES, Frames, JudgeInput, MeasureInput, Measurement
from engine.quality.contiguous_runs import Floats, run_starts
from engine.schema import Schema, empty

SAMPLES = 16  # closes of an intraday session; a daily bar has four prices
UNIT = 10_000  # of the samples: prices have four digits, mostly
SAMPLED: Schema = {
    **SERIES,
    "session": pl.Date(),
    "open": pl.Float64(),
    "close": pl.Float64(),
    "prices": pl.List(pl.Int32()),
}
TICK = 0.01
ON_TICK = 0.06  # of a tick: so near is on it
LEAST_PRICE = 1.0  # below it, prices may have four digits
USUAL_ON, ADJUSTED_ON = 0.97, 0.5  # of raw prices on the grid; of adjusted ones at most (half of them after 2:1)
FEWEST, FITTED = 48, 96  # prices on either side of a change, and those that a factor is fitted to
OFF_SHARE, ON_SHARE = 0.35, 0.9
GAIN = 30.0  # of the logarithm of the likelihood, of a change against none
FITS, FITS_ANY = 0.85, 0.75  # mean length of the phases of prices on their grid: 1 is exact
LEAST_FACTOR = 0.4  # of any; those of splits are known
FEWEST_TICKS = 20  # from the middle price to the farthest: prices that stand lie on any grid
SIXTY_FOURTH = 1 / 64  # fractions of a dollar, the ticks until 2001
# Largest first: prices on the grid of 2/3 are on that of 1/3, too.
SPLITS = ((3, 2), (2, 1), (5, 2), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (10, 1), (15, 1), (20, 1))
HALF_TICKS = (1 / 2, 1 / 4, 1 / 5, 1 / 10)  # prices between two ticks lie on these too: midpoints, finer digits
NEAR_ONE = 1e-3  # a factor so near 1 moves few prices off their tick
HALF_LEFT = 0.2  # of the phases on the tick grid itself: of a 2:1 split none is left, of midpoints some
FINEST = 0.1  # of a turn, that the phase of the farthest price may be off between two factors that are tried

KEY = list(SERIES)


class GridChange(NamedTuple):
    """Prices of a series before `session` (None: all) are those of the tick grid times `factor`.

    `ratio` is that of a split (7, 1), or None. `before` and `open` are the prices on either side of the change.
    """

    series: tuple[str, str, str]
    session: Any
    factor: float
    ratio: tuple[int, int] | None
    first: Any
    sessions: int
    off: float
    on: float
    before: float
    open: float

    @property
    def is_seam(self) -> bool:
        """Whether the price jumps by the factor at the change: then what follows is not of the same copy."""
        if self.session is None or abs(math.log(self.factor)) < math.log(1.2):
            return False
        return abs(math.log(self.before / self.open) - math.log(self.factor)) < math.log(1.1)


def sampled_prices(part: MeasureInput) -> pl.DataFrame:
    """Return `SAMPLED`: a row per series of trades and session, with up to 16 closes; of 1d and longer bars all four prices."""
    trades = part.series.filter(pl.col("price_type") == "last")
    rows = part.session_rows
    if trades.height < part.series.height:
        rows = rows.filter(pl.col("series").is_in(trades["series"].implode()))
    if rows["session"].null_count():
        rows = rows.filter(pl.col("session").is_not_null())
    if rows.is_empty():
        return empty(SAMPLED)
    heads = run_starts(rows["series"].to_numpy(), rows["session"].cast(pl.Int32).to_numpy())
    count = np.diff(np.append(heads, rows.height))
    if part.grid.interval.is_intraday:
        taken = np.minimum(count, SAMPLES)
        owner = np.repeat(np.arange(len(heads)), taken)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(taken) - taken, taken)
        prices = rows["close"].to_numpy()[heads[owner] + number * count[owner] // taken[owner]]
    else:
        owner = np.repeat(np.arange(len(heads)), 4)
        prices = np.stack([rows[name].to_numpy()[heads] for name in ("open", "high", "low", "close")], axis=1).ravel()
    units = np.round(np.nan_to_num(prices, nan=0.0) * UNIT)
    kept = (units >= LEAST_PRICE * UNIT) & (units < np.iinfo(np.int32).max)
    listed = (
        pl.DataFrame({"owner": owner[kept], "prices": units[kept].astype(np.int32)})
        .group_by("owner", maintain_order=True)
        .agg("prices")
    )
    ends = rows.select("series", "session", "open")[heads].with_columns(
        rows["close"].gather(heads + count - 1), pl.int_range(pl.len(), dtype=pl.Int64).alias("owner")
    )
    named = ends.join(listed, on="owner", how="inner", maintain_order="left").join(
        trades.select("series", *SERIES), on="series", how="inner", maintain_order="left"
    )
    return named.select(pl.col(name).cast(dtype) for name, dtype in SAMPLED.items())


class SampledPrices(Measurement):
    """Frame `sampled_prices`: some prices of each session of trades."""

    schemas: ClassVar[Mapping[str, Schema]] = {"sampled_prices": SAMPLED}

    def measure(self, part: MeasureInput) -> Frames:
        """Return the frame `sampled_prices` of a part."""
        return {"sampled_prices": sampled_prices(part)}

    def combine(self, frames: Mapping[str, Sequence[pl.DataFrame]]) -> Frames:
        """Concatenate the samples of all parts, sorted by series and session."""
        return {
            name: frame.sort(*KEY, "session", maintain_order=True) for name, frame in super().combine(frames).items()
        }


SAMPLED_PRICES = SampledPrices()


def grid_changes_of(measured: JudgeInput) -> list[GridChange]:
    """Return `grid_changes` of all samples, for the checks that speak of the same jump."""
    return grid_changes(measured.frames["sampled_prices"])


def seams_of(measured: JudgeInput) -> pl.DataFrame:
    """Return `SERIES` and `session` of the changes at which the price jumps (`GridChange.is_seam`)."""
    seams = [(*change.series, change.session) for change in measured.once(grid_changes_of) if change.is_seam]
    return pl.DataFrame(seams, schema={**SERIES, "session": pl.Date()}, orient="row")


def grid_changes(sampled: pl.DataFrame) -> list[GridChange]:
    """Find the series whose prices, up to a session or all, lie on the grid of a tick times one factor below 1."""
    long = sampled.select(*KEY, "session", "prices").explode("prices")
    steps = pl.col("prices") / (TICK * UNIT)
    is_on = ((steps - steps.round()).abs() <= ON_TICK).cast(pl.Int32)
    counts = long.group_by(*KEY, "session", maintain_order=True).agg(pl.len().alias("n"), is_on.sum().alias("on"))
    suspects = counts.group_by(KEY, maintain_order=True).agg(pl.col("n").sum(), pl.col("on").sum())
    # Of most series all prices are ticks.
    suspects = suspects.filter(pl.col("n") - pl.col("on") >= FEWEST * OFF_SHARE)
    found = []
    for *key, _, _ in suspects.iter_rows():
        ours = [pl.col(name) == value for name, value in zip(KEY, key, strict=True)]
        change = grid_change(tuple(key), counts.filter(*ours), sampled.filter(*ours))
        if change is not None:
            found.append(change)
    return found


def grid_change(series: tuple[str, str, str], counts: pl.DataFrame, sampled: pl.DataFrame) -> GridChange | None:
    """Find the change of one series; None: no range of sessions from its first on is off the tick grid by one factor."""
    on, n = counts["on"].to_numpy().astype(np.int64), counts["n"].to_numpy().astype(np.int64)
    off = n - on
    gain = np.concatenate(
        [[0.0], np.cumsum(off * math.log((1 - ADJUSTED_ON) / (1 - USUAL_ON)) + on * math.log(ADJUSTED_ON / USUAL_ON))]
    )
    cut = int(gain.argmax())
    half = max(cut // 2, 1)
    is_off = all(off[low:high].sum() >= OFF_SHARE * n[low:high].sum() for low, high in ((0, half), (cut - half, cut)))
    rest = n[cut:].sum()
    if (
        gain[cut] < GAIN
        or n[:cut].sum() < FEWEST
        or not is_off
        or (rest and (rest < FEWEST or on[cut:].sum() < ON_SHARE * rest))
    ):
        return None
    prices = last_prices(sampled["prices"].head(cut))
    fitted = fitted_factor(prices, is_open=not rest)
    if fitted is None:
        return None
    factor, ratio = fitted
    sessions = counts["session"]
    return GridChange(
        series, sessions[cut] if rest else None, factor, ratio, sessions[0], cut,
        float(off[:cut].sum() / n[:cut].sum()), float(on[cut:].sum() / rest) if rest else math.nan,
        sampled["close"][cut - 1], sampled["open"][cut] if rest else math.nan,
    )  # fmt: skip


def last_prices(lists: pl.Series) -> Floats:
    """Return the last `FITTED` prices of sampled sessions: those nearest the change, which share its factor."""
    units = lists.tail(FITTED).explode().to_numpy()
    prices: Floats = units[-FITTED:].astype(np.float64) / UNIT
    return prices


def fitted_factor(prices: Floats, *, is_open: bool) -> tuple[float, tuple[int, int] | None] | None:
    """Return (factor, split ratio or None) of prices on the grid of a tick times it; None: they lie on none.

    `is_open`: no ticks follow, which would show that finer prices are not usual; then halves and tenths of ticks tell nothing.
    """
    reach = np.quantile(np.abs(prices - np.median(prices)), 0.9)
    if length_of_phases(prices, SIXTY_FOURTH) >= FITS:
        return None
    for ratio in SPLITS:
        factor = ratio[1] / ratio[0]
        if reach >= FEWEST_TICKS * TICK * factor and length_of_phases(prices, TICK * factor) >= FITS:
            is_finer = factor in HALF_TICKS and (is_open or length_of_phases(prices, TICK) > HALF_LEFT)
            return None if is_finer else (factor, ratio)
    return any_factor(prices) if reach >= FEWEST_TICKS * TICK else None


def length_of_phases(prices: Floats, step: float) -> float:
    """Return how well prices lie on whole multiples of a step: 1 is exactly, 0 not at all."""
    return float(np.exp(2j * np.pi * prices / step).mean().real)


def any_factor(prices: Floats) -> tuple[float, None] | None:
    """Return the largest factor from 0.4 to 1 on whose grid the prices lie; None without one."""
    middle = np.median(prices)
    away = np.abs(prices - middle)
    near = away <= np.quantile(away, 0.9)  # fewer factors are to be tried
    reach = max(float(away[near].max()), TICK)
    # Equal turns of the phase between the factors that are tried: even steps of 1 / step.
    rates = np.arange(1 / TICK, 1 / (TICK * LEAST_FACTOR), FINEST / reach)
    lengths = np.abs(phases(prices[near] - middle, rates))
    good = np.flatnonzero(lengths >= FITS_ANY)
    if not len(good):
        return None
    width = 3 * FINEST / reach
    around = np.arange(rates[good[0]] - width, rates[good[0]] + width, FINEST / 10 / float(prices.max()))
    exact = phases(prices, around).real
    best = int(exact.argmax())
    factor = float(1 / (around[best] * TICK))
    return (factor, None) if exact[best] >= FITS_ANY and factor < 1 - NEAR_ONE else None


def phases(prices: Floats, rates: Floats) -> Any:  # noqa: ANN401 - complex numbers
    """Return the mean phase of the prices at each rate (1 / step), in blocks that fit the cache."""
    found = [
        np.exp(2j * np.pi * np.outer(block, prices)).mean(1) for block in np.array_split(rates, len(rates) // 512 + 1)
    ]
    return np.concatenate(found)
