"""Shifts of stamps against the other series of an audit: large moves of one market come in the same minute. Pure.

A market that never closes has no edge that would show a shift; but series that move together do so at the same instant,
within a bar. A series whose largest moves come k steps or hours after those of several others, and not with them, is
stamped that much late.

1. `large_moves` keeps, per series and session, the instants and signs of the 12 largest moves from close to close.
2. `lags_against_others` counts at each lag how many other symbols moved the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import polars as pl

from engine.checks.check import SERIES, Frames, MeasureInput, Measurement
from engine.checks.clock_profile import QUARTER_US
from engine.checks.sanity import Bars, session_bars, usual_moves
from engine.interval import Interval
from engine.keys import Ints, distinct
from engine.quality.contiguous_runs import Floats, pairs_where, run_starts
from engine.schema import Schema, empty

# `moments` are (seconds since 00:00 UTC of the session's date) x 2, + 1 for a rise.
LARGE_MOVES: Schema = {**SERIES, "session": pl.Date(), "moments": pl.List(pl.Int32())}
# `lag` in seconds, > 0: late; `moves` of the series, `agree` of them with two other symbols or more at that lag.
LAGS: Schema = {
    **SERIES,
    "lag": pl.Int64(),
    "moves": pl.Int64(),
    "agree": pl.Int64(),
    "others": pl.Float64(),
    "others_as_stamped": pl.Float64(),
}
LEAST_STEP, LARGEST_STEP = 60, 15 * 60  # seconds of an interval whose moves are compared
MOVES_KEPT = 12  # per series and session
LARGE_SCALES = 1.0  # usual moves that a move has to exceed
MOST_SESSIONS = 250  # that are compared, evenly over all
HALF_HOUR, FARTHEST = 30 * 60, 14 * 3600
NEAR_STEPS = 3
BESIDE = (4, 5, 6, 7, 8, 9)  # steps from a lag, either way, at which chance is measured
FEWEST_MOVES, FEWEST_AGREE = 8, 6
AGREE_SHARE = 0.3  # of the moves, with two other symbols
TIMES = 4.0  # more symbols at the lag than as stamped, and than beside it
TIMES_NEXT = 2.0  # more than at any other lag: else the other symbols do not agree among themselves
CHANCE = 1e-6  # of so many agreements at any lag

KEY = list(SERIES)


def large_moves(bars: Bars, interval: Interval) -> pl.DataFrame:
    """Return `series, session, moments` (of `LARGE_MOVES`): the 12 largest moves above one scale of each session.

    From close to close, the largest of each quarter of an hour, of intervals of 1 to 15 whole minutes; no rows for others.
    """
    if not bars.is_intraday or not LEAST_STEP <= interval.seconds <= LARGEST_STEP or interval.seconds % LEAST_STEP:
        return bars.at(np.zeros(0, np.int64), "session").with_columns(
            pl.lit(None, LARGE_MOVES["moments"]).alias("moments")
        )
    close, limit = bars.close, np.repeat(np.where(bars.positive, LARGE_SCALES * usual_moves(bars), np.inf), bars.counts)
    with np.errstate(invalid="ignore"):
        at = pairs_where(lambda a, b: np.abs(close[b] - close[a]) > limit[a] * close[a], bars.pairs)
        at = at[bars.joined(at)]
        size = close[at + 1] / close[at] - 1
    # Moves come in bursts, in which a shift of some minutes agrees too: the largest one of each quarter of an hour counts.
    quarter = run_starts(
        bars.series[at], bars.session[at], bars.rows["ts"].gather(at + 1).to_physical().to_numpy() // QUARTER_US
    )
    largest = largest_of_groups(np.abs(size), quarter, 1)
    at, size = at[largest], size[largest]
    kept = largest_of_groups(np.abs(size), run_starts(bars.series[at], bars.session[at]), MOVES_KEPT)
    found = bars.at(at[kept] + 1, "session", "ts").with_columns(pl.Series("rise", size[kept] > 0))
    since = pl.col("ts").cast(pl.Int64) // 1_000_000 - pl.col("session").cast(pl.Int64) * 86_400
    return (
        found.with_columns((since * 2 + pl.col("rise")).cast(pl.Int32).alias("moments"))
        .group_by("series", "session", maintain_order=True)
        .agg("moments")
    )


def largest_of_groups(size: Floats, begins: Ints, count: int) -> Ints:
    """Return the row numbers, ascending, of the `count` largest sizes (the first of equals) from each of `begins` on."""
    group = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(size)))
    left, largest = size.copy(), np.zeros(len(size), bool)
    for _ in range(min(count, len(size))):
        at = np.flatnonzero((left == np.maximum.reduceat(left, begins)[group]) & ~largest)
        first = at[run_starts(group[at])]
        largest[first], left[first] = True, -np.inf
    return np.flatnonzero(largest)


def lags_against_others(moves: pl.DataFrame) -> pl.DataFrame:
    """Return `LAGS`: series whose moves agree with >= 2 other symbols at a lag (1-3 steps, half hours to 14 h), not at 0.

    At the lag four times as many symbols must agree as at none and beside it; of two symbols alone nobody can tell which is
    late, and a shift that most symbols share is none.

    Parameters
    ----------
    moves : DataFrame of `LARGE_MOVES`
    """
    found = [empty(LAGS)]
    for (interval,), ours in moves.group_by("interval", maintain_order=True):
        step = Interval.parse(str(interval)).seconds
        found.append(lags_of_interval(ours, int(step)))
    return pl.concat(found).sort(KEY)


def lags_of_interval(moves: pl.DataFrame, step: int) -> pl.DataFrame:
    """Return `LAGS` of series of one interval of `step` seconds."""
    series = moves.select(KEY).unique().sort(KEY)
    series = series.with_columns(pl.col("symbol").rle_id().cast(pl.Int64).alias("symbol_number"))
    if series["symbol"].n_unique() <= 2:  # noqa: PLR2004
        return empty(LAGS)
    sessions = moves["session"].unique().sort()
    compared = np.unique(np.linspace(0, len(sessions) - 1, min(len(sessions), MOST_SESSIONS)).astype(int))
    events = (
        moves.join(series.with_row_index("series"), on=KEY)
        .filter(pl.col("session").is_in(sessions.gather(compared).implode()))
        .select(pl.col("series").cast(pl.Int64), "symbol_number", pl.col("session").cast(pl.Int64), "moments")
        .explode("moments")
        .drop_nulls("moments")
    )
    if events.is_empty():
        return empty(LAGS)
    moments = events["moments"].to_numpy()
    instant = events["session"].to_numpy() * 86_400 + moments // 2
    # A cell per step and sign, and room for the farthest lag on either side.
    first = int(instant.min()) - FARTHEST - (max(BESIDE) + 1) * step
    cell = (instant - first) // step * 2 + moments % 2
    size = int(cell.max()) + 2 * (FARTHEST // step + max(BESIDE) + 2)
    symbol_cells = cells_by_number(events["symbol_number"].to_numpy(), cell, size)
    series_cells = cells_by_number(events["series"].to_numpy(), cell, size)
    symbols = np.bincount(symbol_cells.cells, minlength=size)
    lags = tried_lags(step)
    rows = []
    for number in may_be_late(symbols, series_cells):
        *names, symbol_number = series.row(int(number))
        moved, of_symbol = series_cells.of(int(number)), symbol_cells.of(symbol_number)
        symbols[of_symbol] -= 1
        found = best_lag(symbols, moved, lags)
        symbols[of_symbol] += 1
        if found is not None:
            lag, agree, others, stamped = found
            rows.append((*names, lag * step, len(moved), agree, others, stamped))
    return pl.DataFrame(rows, schema=LAGS, orient="row")


class NumberedCells(NamedTuple):
    """Cells of series (or symbols) 0, 1, ..., those of one after those of another, each once.

    Attributes
    ----------
    cells : array of int
    begins : array of int
        Where the cells of each begin, and the end of the last one.
    """

    cells: Ints
    begins: Ints

    def of(self, number: int) -> Ints:
        """Cells of one of them, ascending."""
        return self.cells[self.begins[number] : self.begins[number + 1]]


def cells_by_number(numbers: Ints, cells: Ints, size: int) -> NumberedCells:
    """Distinct cells (below `size`) of each number."""
    owners, distinct_cells = np.divmod(distinct(numbers * size + cells), size)
    return NumberedCells(distinct_cells, np.searchsorted(owners, np.arange(int(owners.max()) + 2)))


def may_be_late(symbols: Ints, moves: NumberedCells) -> Ints:
    """Numbers of the series with enough moves that agree with so few symbols as stamped that more may agree at a lag.

    Parameters
    ----------
    symbols : array
        Symbols that move, the series' own among them, by cell.
    moves : NumberedCells
        Of the series.
    """
    count = np.diff(moves.begins)
    agreeing = np.diff(np.append(0, np.cumsum(symbols[moves.cells]))[moves.begins]) - count
    # At no lag do more symbols agree than in as many cells of the most symbols.
    descending = np.sort(symbols[symbols > 0])[::-1]
    most = np.append(0, np.cumsum(descending))[np.minimum(count, len(descending))]
    late: Ints = np.flatnonzero((count >= FEWEST_MOVES) & (agreeing * TIMES <= most))
    return late


def tried_lags(step: int) -> Ints:
    """Lags in steps: 0 first, then 1 to 3 either way, then the half hours that are whole steps, to 14 hours."""
    hours = np.arange(HALF_HOUR, FARTHEST + 1, HALF_HOUR)
    hours = hours[hours % step == 0] // step
    near = np.arange(1, NEAR_STEPS + 1)
    far = hours[hours > NEAR_STEPS]
    return np.concatenate([[0], np.stack([near, -near], axis=1).ravel(), np.stack([far, -far], axis=1).ravel()])


def best_lag(symbols: Ints, at: Ints, lags: Ints) -> tuple[int, int, float, float] | None:
    """Return (lag in steps, moves with two symbols, mean symbols there, mean as stamped), or None where none stands out.

    Parameters
    ----------
    symbols : array
        Other symbols that move, by cell.
    at : array
        Cells of the moves of a series.
    lags : array
        From `tried_lags`, 0 first.
    """
    counted = symbols[at[None, :] - 2 * lags[:, None]]
    strength = counted.mean(1)
    best = int(strength.argmax())
    lag = int(lags[best])
    if lag == 0 or strength[best] < max(TIMES * strength[0], TIMES_NEXT * np.delete(strength, best).max()):
        return None
    agree = int((counted[best] > 1).sum())
    beside = np.array([lag + sign * one for one in BESIDE for sign in (1, -1)])
    chance = symbols[at[None, :] - 2 * beside[:, None]]
    if agree < max(FEWEST_AGREE, AGREE_SHARE * len(at)) or strength[best] < TIMES * chance.mean():
        return None
    share = ((chance > 1).sum() + 1) / (chance.size + 1)
    # At most C(n, k) p^k: the chance that so many agree.
    bound = log_choose(len(at), agree) + agree * np.log(share) + np.log(len(lags))
    return (lag, agree, float(strength[best]), float(strength[0])) if bound < np.log(CHANCE) else None


def log_choose(n: int, k: int) -> float:
    """Return the logarithm of the number of ways to choose k of n."""
    return float(np.log(np.arange(n - k + 1, n + 1)).sum() - np.log(np.arange(1, k + 1)).sum())


class CoMoves(Measurement):
    """Frame `large_moves`: the instants of the largest moves of each series and session, of `LARGE_MOVES`."""

    schemas: ClassVar[Mapping[str, Schema]] = {"large_moves": LARGE_MOVES}

    def measure(self, part: MeasureInput) -> Frames:
        """Return frame `large_moves`, empty for intervals other than 1 to 15 whole minutes."""
        found = large_moves(part.once(session_bars), part.grid.interval)
        named = found.join(part.series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
        return {"large_moves": named.select(pl.col(name).cast(dtype) for name, dtype in LARGE_MOVES.items())}

    def combine(self, frames: Mapping[str, Sequence[pl.DataFrame]]) -> Frames:
        """Concatenate the moves of all parts, sorted by series and session."""
        return {"large_moves": super().combine(frames)["large_moves"].sort(*KEY, "session", maintain_order=True)}


CO_MOVES = CoMoves()
