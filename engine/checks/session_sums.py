"""Sums of each session of a series, by which whole sessions are compared. Pure: frame in, frame out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.checks.check import SERIES, Frames, MeasureInput, Measurement
from engine.keys import Flags, Ints, number_ranges
from engine.quality.contiguous_runs import BLOCK, Floats, run_starts
from engine.schema import TS, Schema, empty

# `print` is a hash of the prices of the bars with a range, whatever their times; `ranged` counts these bars.
# `size`, `least` and `most` are of the logarithms (base 10) of volumes above 0: mean, smallest, largest; `grain` is the power of ten
# of which sampled volumes are multiples, null where they are too few or too much alike. `falls` and `rises` count bars with less
# and with more volume than the bar before. `level` is the logarithm of the first close;
# `form` a weighted sum of the moves between sampled closes, the same in every unit; `moves` counts those that are none of 0.
SUMS: Schema = {
    **SERIES,
    "session": pl.Date(),
    "ts": TS,
    "bars": pl.Int32(),
    "ranged": pl.Int32(),
    "print": pl.UInt64(),
    "traded": pl.Int32(),
    "size": pl.Float32(),
    "least": pl.Float32(),
    "most": pl.Float32(),
    "grain": pl.Int8(),
    "falls": pl.Int32(),
    "rises": pl.Int32(),
    "level": pl.Float64(),
    "form": pl.Float64(),
    "moves": pl.Int32(),
}
SAMPLES = 32  # of a session's volumes and closes
FEWEST_DISTINCT = 12  # volumes: fewer are multiples of much by chance
FINEST_GRAIN, COARSEST_GRAIN = -8, 7
ON_GRAIN = 1e-3  # of a grain: a volume times 100 is off its last digit
Hashes = NDArray[np.uint64]
MIXERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)  # odd: no bit is lost


def session_sums(rows: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """Return `SUMS`, a row per series and session, of rows of an intraday interval sorted by (series, ts)."""
    rows = rows.filter(pl.col("session").is_not_null()) if rows["session"].null_count() else rows
    if rows.is_empty():
        return empty(SUMS)
    begins = run_starts(rows["series"].to_numpy(), rows["session"].cast(pl.Int32).to_numpy())
    has_range = (rows["high"] > rows["low"]).fill_null(value=False).to_numpy()
    traded, size, least, most = log_volumes(rows, begins)
    counts = np.diff(np.append(begins, rows.height))
    falls, rises = volume_steps(rows, begins)
    level, form, moves = close_forms(rows["close"].to_numpy(), begins, counts)
    sums = rows.select("series", "session", "ts")[begins].with_columns(
        pl.Series("bars", counts),
        pl.Series("ranged", np.add.reduceat(has_range, begins, dtype=np.int64)),
        pl.Series("print", np.add.reduceat(price_hashes(rows), begins)),
        pl.Series("traded", traded),
        pl.Series("size", size),
        pl.Series("least", least),
        pl.Series("most", most),
        volume_grains(rows, begins, counts),
        pl.Series("falls", falls),
        pl.Series("rises", rises),
        pl.Series("level", level),
        pl.Series("form", form),
        pl.Series("moves", moves),
    )
    named = sums.join(series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
    return named.select(pl.col(name).cast(dtype) for name, dtype in SUMS.items())


def price_hashes(rows: pl.DataFrame) -> Hashes:
    """Return a hash of the four prices of each row with a range, the same in every process, and 0 of rows without one."""
    prices = [rows[name].to_numpy().astype(np.float64, copy=False) for name in ("open", "high", "low", "close")]
    whole = np.zeros(rows.height, np.uint64)
    for low in range(0, rows.height, BLOCK):
        block = slice(low, low + BLOCK)
        mixed = whole[block]
        for price, mixer in zip(prices, MIXERS, strict=True):
            mixed += price[block].view(np.uint64) * np.uint64(mixer)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(MIXERS[0])
        mixed ^= mixed >> np.uint64(32)
        mixed *= prices[1][block] > prices[2][block]
    return whole


def log_volumes(rows: pl.DataFrame, begins: Ints) -> tuple[Ints, Floats, Floats, Floats]:
    """Per span from each of `begins`: count, mean, least and most of log10 of volumes above 0; without any: 0, NaN."""
    none = np.full(len(begins), np.nan)
    if "volume" not in rows.columns:
        return np.zeros(len(begins), np.int64), none, none, none
    volume = rows["volume"].fill_null(0.0).to_numpy()
    held = (volume > 0) & np.isfinite(volume)
    if not held.all():
        volume = np.where(held, volume, np.nan)
    count = np.add.reduceat(held, begins, dtype=np.int64)
    size = np.log(volume) / np.log(10)  # a fourth of the time of log10
    total = np.add.reduceat(size if held.all() else np.where(held, size, 0.0), begins)
    mean = np.divide(total, count, out=none.copy(), where=count > 0)
    return count, mean, np.log10(np.fmin.reduceat(volume, begins)), np.log10(np.fmax.reduceat(volume, begins))


def volume_steps(rows: pl.DataFrame, begins: Ints) -> tuple[Ints, Ints]:
    """Per span from each of `begins`: bars with less volume than the one before in the span, and with more."""
    if "volume" not in rows.columns:
        return np.zeros(len(begins), np.int64), np.zeros(len(begins), np.int64)
    volume, steps = rows["volume"].fill_null(np.nan).to_numpy(), np.zeros((2, rows.height), bool)
    for which, compare in zip(steps, (np.less, np.greater), strict=True):
        compare(volume[1:], volume[:-1], out=which[1:])
        which[begins] = False
    falls, rises = (np.add.reduceat(which, begins, dtype=np.int64) for which in steps)
    return falls, rises


def sampled_rows(begins: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Return (number of the span, row) of up to 32 rows of each span, evenly over it."""
    owner, number = number_ranges(np.minimum(counts, SAMPLES))
    return owner, begins[owner] + number * counts[owner] // np.minimum(counts, SAMPLES)[owner]


def close_forms(close: Floats, begins: Ints, counts: Ints) -> tuple[Floats, Floats, Ints]:
    """Per span: log10 of the first close, weighted sum of moves between sampled closes, and how many moved; NaN for prices <= 0."""
    owner, at = sampled_rows(begins, counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(close[at])
    joined = np.flatnonzero(owner[1:] == owner[:-1]) if len(owner) else owner
    move = logs[joined + 1] - logs[joined]
    # Weights without a common measure, so that moves in another order give another sum.
    place = joined - np.searchsorted(owner, owner[joined])
    form = np.bincount(owner[joined], weights=move * np.sqrt(place + 1.0), minlength=len(begins))
    moves = np.bincount(owner[joined], weights=close[at[joined + 1]] != close[at[joined]], minlength=len(begins))
    level: Floats = logs[np.searchsorted(owner, np.arange(len(begins)))]
    return level, form.astype(np.float64), moves.astype(np.int64)


def volume_grains(rows: pl.DataFrame, begins: Ints, counts: Ints) -> pl.Series:
    """Return `grain` per span: the largest power of ten, from -8 to 7, of which all sampled volumes above 0 are multiples."""
    if "volume" not in rows.columns:
        return pl.Series("grain", np.zeros(len(begins)), pl.Int8).replace(0, None)
    owner, at = sampled_rows(begins, counts)
    sampled = pl.DataFrame({"owner": owner, "volume": rows["volume"].gather(at)})
    sampled = sampled.filter((pl.col("volume") > 0) & pl.col("volume").is_finite())
    fits = powers_that_fit(sampled["volume"].to_numpy())
    by_span = sampled.with_columns(pl.Series("fits", fits)).group_by("owner").agg(
        pl.col("fits").min(), pl.col("volume").n_unique().alias("distinct")
    ).filter((pl.col("fits") > 0) & (pl.col("distinct") >= FEWEST_DISTINCT))  # fmt: skip
    every = pl.DataFrame({"owner": np.arange(len(begins))}).join(by_span, on="owner", how="left", maintain_order="left")
    return (every["fits"].cast(pl.Int8) + (FINEST_GRAIN - 1)).alias("grain")


def powers_that_fit(volume: Floats) -> NDArray[np.int8]:
    """Return, of volumes above 0, the number from 1 of the largest power of ten from -8 to 7 of which each is a multiple; else 0."""
    fits = are_multiples(volume, 0).astype(np.int8) * np.int8(1 - FINEST_GRAIN)
    for power in range(1, COARSEST_GRAIN + 1):
        large = np.flatnonzero(volume >= (1 - 2 * ON_GRAIN) * 10.0**power)  # smaller ones are no multiple
        fits[large[are_multiples(volume[large], power)]] = power - FINEST_GRAIN + 1
    rest = np.flatnonzero(fits == 0)
    for power in range(-1, FINEST_GRAIN - 1, -1):
        is_multiple = are_multiples(volume[rest], power)
        fits[rest[is_multiple]] = power - FINEST_GRAIN + 1
        rest = rest[~is_multiple]
    return fits


def are_multiples(volume: Floats, power: int) -> Flags:
    """Mask the volumes above 0 that are multiples of a power of ten, to a thousandth of it or of themselves."""
    grains = volume / 10.0**power
    return np.abs(grains - np.round(grains)) <= np.minimum(ON_GRAIN, ON_GRAIN * grains)


class SessionSums(Measurement):
    """Frame `session_sums`: what the bars of each session sum up to, of `SUMS`."""

    schemas: ClassVar[Mapping[str, Schema]] = {"session_sums": SUMS}

    def measure(self, part: MeasureInput) -> Frames:
        """Return frame `session_sums`, empty for 1d and coarser bars, whose sessions have one bar."""
        is_intraday = part.grid.interval.is_intraday
        return {"session_sums": session_sums(part.session_rows, part.series) if is_intraday else empty(SUMS)}


SESSION_SUMS = SessionSums()
