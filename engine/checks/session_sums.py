"""Sums of each session of a series, by which whole sessions are compared. Pure: frame in, frame out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.checks.check import SERIES, Frames, MeasureInput, Measurement
from engine.keys import Ints
from engine.quality.contiguous_runs import Floats, run_starts
from engine.schema import TS, Schema, empty

# `print` is a hash of the prices of the bars with a range, whatever their times; `ranged` counts these bars.
# `size`, `least` and `most` are of the logarithms (base 10) of volumes above 0: mean, smallest, largest.
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
}
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
    sums = rows.select("series", "session", "ts")[begins].with_columns(
        pl.Series("bars", np.diff(np.append(begins, rows.height))),
        pl.Series("ranged", np.add.reduceat(has_range, begins, dtype=np.int64)),
        pl.Series("print", np.add.reduceat(np.where(has_range, price_hashes(rows), np.uint64(0)), begins)),
        pl.Series("traded", traded),
        pl.Series("size", size),
        pl.Series("least", least),
        pl.Series("most", most),
    )
    named = sums.join(series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
    return named.select(pl.col(name).cast(dtype) for name, dtype in SUMS.items())


def price_hashes(rows: pl.DataFrame) -> Hashes:
    """Return a hash of the four prices of each row, the same in every process."""
    whole = np.zeros(rows.height, np.uint64)
    for name, mixer in zip(("open", "high", "low", "close"), MIXERS, strict=True):
        bits = rows[name].to_numpy().astype(np.float64, copy=False).view(np.uint64)
        whole += bits * np.uint64(mixer)
    whole ^= whole >> np.uint64(29)
    whole *= np.uint64(MIXERS[0])
    whole ^= whole >> np.uint64(32)
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
    size = np.log10(volume)
    total = np.add.reduceat(size if held.all() else np.where(held, size, 0.0), begins)
    mean = np.divide(total, count, out=none.copy(), where=count > 0)
    return count, mean, np.log10(np.fmin.reduceat(volume, begins)), np.log10(np.fmax.reduceat(volume, begins))


class SessionSums(Measurement):
    """Frame `session_sums`: what the bars of each session sum up to, of `SUMS`."""

    schemas: ClassVar[Mapping[str, Schema]] = {"session_sums": SUMS}

    def measure(self, part: MeasureInput) -> Frames:
        """Return frame `session_sums`, empty for 1d and coarser bars, whose sessions have one bar."""
        is_intraday = part.grid.interval.is_intraday
        return {"session_sums": session_sums(part.session_rows, part.series) if is_intraday else empty(SUMS)}


SESSION_SUMS = SessionSums()
