"""Bars that cannot be right, or hardly: counted in one pass over sorted rows, said when all parts are counted.

1. `bar_sanity` looks at the rows of one part of a lake, and keeps little: counts, the runs, spikes and jumps that stand
   out, and how many series moved at once. `summed_sanity` puts the parts together.
2. `sanity_findings` judges: a spike at an instant at which most series moved is the market's, a jump to a simple ratio
   that stays is a split, a run is stale when the series' own habits do not explain it.

Pure: frame in, frame out. What is compared with neighbours is not judged at the first and last bar of a session.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.grid import SessionGrid
from engine.quality.clock_profile import SERIES, Floats, Ints
from engine.schema import TS, Schema, empty

Flags = NDArray[np.bool_]

DATE, LONG, FLOAT = pl.Date(), pl.Int64(), pl.Float64()
# Per series: how many rows are of that kind, and the first. `longest` is of runs in a row.
ODD = ("zero_volume_range", "vwap_outside", "repeated", "flat", "flat_runs", "traded", "rows")
COUNTS: Schema = {**SERIES, "kind": pl.Enum(ODD), "rows": LONG, "first": TS, "longest": LONG}
RUNS: Schema = {**SERIES, "start": TS, "session": DATE, "bars": LONG, "price": FLOAT}
SPIKES: Schema = {
    **SERIES, "ts": TS, "session": DATE, "minute": pl.Int16(), "up": pl.Boolean(), "bars": pl.Int8(),
    "price": FLOAT, "beside": FLOAT, "size": FLOAT, "scale": FLOAT,
}  # fmt: skip
MOVES: Schema = {"ts": TS, "session": DATE, "minute": pl.Int16(), "up": LONG, "down": LONG}
JUMPS: Schema = {**SERIES, "session": DATE, "ts": TS, "before": FLOAT, "open": FLOAT, "close": FLOAT}
ENDS: Schema = {**SERIES, "session": DATE, "ts": TS, "is_last": pl.Boolean(), "open": FLOAT, "close": FLOAT}

SMALLEST_SPIKE = 0.002  # below it nothing stands out, whatever the scale
SPIKE_SCALES, MOVE_SCALES = 20.0, 8.0
NEIGHBOUR_RANGES = 3.0  # a spike is so many times its neighbours' ranges
SCALE_SAMPLE = 512  # returns per series from which its usual one is taken
MAD_TO_SIGMA = 1.4826
SMALLEST_JUMP, LONGEST_CLOSED_DAYS = 0.35, 10
LONGEST_SHORT_RUN = 15  # flat bars in a row that nobody looks at


@dataclass(frozen=True)
class Sanity:
    """What one pass over bars keeps; frames of the schemas of this module."""

    counts: pl.DataFrame
    runs: pl.DataFrame
    spikes: pl.DataFrame
    moves: pl.DataFrame
    jumps: pl.DataFrame
    ends: pl.DataFrame


def bar_sanity(rows: pl.DataFrame, series: pl.DataFrame, grid: SessionGrid, zone: str) -> Sanity:
    """Look at every bar once.

    Parameters
    ----------
    rows : DataFrame
        `series, ts, session, open, high, low, close` and, where there are such, `volume, vwap`; sorted by (series, ts).
    series : DataFrame
        `series, symbol, price_type, interval`.
    grid : SessionGrid
        Of the interval of the rows.
    zone : str
        IANA zone of the venue.

    Returns
    -------
    Sanity
    """
    bars = _Bars(rows, grid.interval.is_intraday)
    scale = _scales(bars)
    spikes, moves = _spikes(bars, scale), _moves(bars, scale)
    counts, runs = _odd(bars)
    jumps, ends = _sessions(bars)
    named = [_shaped(frame, series, schema, zone) for frame, schema in (
        (counts, COUNTS), (runs, RUNS), (spikes, SPIKES), (jumps, JUMPS), (ends, ENDS))]  # fmt: skip
    return Sanity(named[0], named[1], named[2], _shaped(moves, series, MOVES, zone), named[3], named[4])


def summed_sanity(parts: list[Sanity]) -> Sanity:
    """What several parts kept, as one; a run or a spike across two parts is seen in neither."""
    schemas = dict(zip((one.name for one in fields(Sanity)), (COUNTS, RUNS, SPIKES, MOVES, JUMPS, ENDS), strict=True))
    whole = {name: pl.concat([empty(schema), *(getattr(p, name) for p in parts)]) for name, schema in schemas.items()}
    whole["counts"] = whole["counts"].group_by(*SERIES, "kind").agg(
        pl.col("rows").sum(), pl.col("first").min(), pl.col("longest").max()
    ).sort(*SERIES, "kind")  # fmt: skip
    whole["moves"] = whole["moves"].group_by("ts", "session", "minute").agg(pl.col("up", "down").sum()).sort("ts")
    return Sanity(**whole)


class _Bars:
    """Columns of sorted bars as arrays, and which of them are neighbours."""

    def __init__(self, rows: pl.DataFrame, is_intraday: bool) -> None:  # noqa: FBT001
        self.rows = rows
        self.series = rows["series"].to_numpy()
        self.open, self.high, self.low, self.close = (
            rows[name].to_numpy() for name in ("open", "high", "low", "close")
        )
        self.volume = (
            rows["volume"].fill_null(np.nan).to_numpy() if "volume" in rows.columns else np.full(rows.height, np.nan)
        )
        self.session = rows["session"].cast(pl.Int32).to_numpy()
        self.same_series = self.series[1:] == self.series[:-1]
        same_session = self.same_series & (self.session[1:] == self.session[:-1])
        self.begins = np.flatnonzero(np.append([True], ~self.same_series)[: rows.height])
        # A ratio says nothing in a series whose prices pass zero.
        lowest = np.minimum.reduceat(self.low, self.begins) if rows.height else self.low
        counts = np.diff(np.append(self.begins, rows.height))
        self.positive = np.repeat(lowest > 0, counts)
        self.joined = (same_session if is_intraday else self.same_series) & self.positive[1:]

    def at(self, index: Ints, *columns: str) -> pl.DataFrame:
        return self.rows.select("series", *columns)[index]

    def owner(self, index: Ints) -> Ints:
        owner: Ints = np.searchsorted(self.begins, index, side="right") - 1
        return owner


def _scales(bars: _Bars) -> Floats:
    """Usual size of a series' move from bar to bar, from a sample; infinite where nothing moves."""
    scale = np.full(len(bars.begins), np.inf)
    if len(bars.series) < 2:  # noqa: PLR2004 - a pair
        return scale
    ends = np.append(bars.begins[1:], len(bars.series))
    stride = np.maximum((ends - bars.begins) // SCALE_SAMPLE, 1)
    count = (ends - bars.begins - 1) // stride
    owner = np.repeat(np.arange(len(count)), count)
    at = bars.begins[owner] + 1 + (np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)) * stride[owner]
    at, owner = at[bars.joined[at - 1]], owner[bars.joined[at - 1]]
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.abs(bars.close[at] / bars.close[at - 1] - 1)
    moved = (size > 0) & np.isfinite(size)
    usual = pl.DataFrame({"owner": owner[moved], "size": size[moved]}).group_by("owner").agg(pl.col("size").median())
    scale[usual["owner"].to_numpy()] = usual["size"].to_numpy() * MAD_TO_SIGMA
    return scale


def _spikes(bars: _Bars, scale: Floats) -> pl.DataFrame:
    found = [_sticking_out(bars, scale, width, up) for width in (1, 2) for up in (True, False)]
    # A spike of one bar may look like one of two with its neighbour: the narrower one is it.
    return pl.concat(found).unique(["series", "ts"], keep="first", maintain_order=True)


def _sticking_out(bars: _Bars, scale: Floats, width: int, up: bool) -> pl.DataFrame:  # noqa: FBT001
    """Bars that are beyond the bar before and the bar after; of two, the first."""
    n = max(len(bars.series) - width - 1, 0)
    edge = bars.high if up else bars.low
    inner, outer = (np.minimum, np.maximum) if up else (np.maximum, np.minimum)
    own = edge[1 : n + 1] if width == 1 else inner(edge[1 : n + 1], edge[2 : n + 2])
    beside = outer(edge[:n], edge[width + 1 : width + 1 + n])
    with np.errstate(divide="ignore", invalid="ignore"):
        size = own / beside - 1 if up else 1 - own / beside
    at = np.flatnonzero(size > SMALLEST_SPIKE)
    at = at[np.logical_and.reduce([bars.joined[at + step] for step in range(width + 1)])]
    beyond = scale[bars.owner(at + 1)]
    wide = np.maximum(*(bars.high[one] / bars.low[one] - 1 for one in (at, at + width + 1)))
    stands = (size[at] > SPIKE_SCALES * beyond) & (size[at] > NEIGHBOUR_RANGES * wide)
    at, beyond = at[stands], beyond[stands]
    return bars.at(at + 1, "ts", "session").with_columns(
        pl.Series("up", np.full(len(at), up)),
        pl.Series("bars", np.full(len(at), width, np.int8)),
        pl.Series("price", edge[at + 1]),
        pl.Series("beside", beside[at]),
        pl.Series("size", size[at] * (1 if up else -1)),
        pl.Series("scale", beyond),
    )


def _moves(bars: _Bars, scale: Floats) -> pl.DataFrame:
    """How many series moved far at each instant, by direction; only those at which any did."""
    before = bars.close[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        rise, fall = bars.high[1:] / before - 1, 1 - bars.low[1:] / before
    far = np.flatnonzero((np.maximum(rise, fall) > SMALLEST_SPIKE / 2) & bars.joined)
    limit = MOVE_SCALES * scale[bars.owner(far + 1)]
    up, down = rise[far] > limit, fall[far] > limit
    moved = bars.at(far + 1, "ts", "session").with_columns(pl.Series("up", up), pl.Series("down", down))
    return (
        moved.filter(pl.col("up") | pl.col("down")).group_by("ts", "session")
        .agg(pl.col("up", "down").sum().cast(pl.Int64))
    )  # fmt: skip


def _odd(bars: _Bars) -> tuple[pl.DataFrame, pl.DataFrame]:
    n = len(bars.series)
    trades = bars.volume > 0
    has_range = bars.high > bars.low
    flat, repeated = np.zeros(n, bool), np.zeros(n, bool)
    alike = bars.same_series & (bars.close[1:] == bars.close[:-1])
    flat[1:] = alike & trades[1:] & ~has_range[1:]
    same = alike & has_range[1:]
    for values in (bars.open, bars.high, bars.low):
        same &= values[1:] == values[:-1]
    volume = bars.volume
    repeated[1:] = same & ((volume[1:] == volume[:-1]) | (np.isnan(volume[1:]) & np.isnan(volume[:-1])))
    outside = np.zeros(n, bool)
    if "vwap" in bars.rows.columns and bars.rows["vwap"].null_count() < n:
        vwap, slack = bars.rows["vwap"].fill_null(np.nan).to_numpy(), 1e-6 * bars.high
        outside = (vwap < bars.low - slack) | (vwap > bars.high + slack)
    kinds = {"zero_volume_range": (volume == 0) & has_range, "vwap_outside": outside, "repeated": repeated, "flat": flat,
             "traded": trades, "rows": np.ones(n, bool)}  # fmt: skip
    start, end = _runs(flat)
    kinds["flat_runs"] = np.isin(np.arange(n), start, assume_unique=True)
    long = np.flatnonzero(end - start >= LONGEST_SHORT_RUN)
    runs = bars.at(start[long], "session", "ts", "close")
    runs = runs.with_columns(pl.Series("bars", end[long] - start[long])).rename({"ts": "start", "close": "price"})
    return pl.concat([_counted(bars, kind, test) for kind, test in kinds.items()]), runs


def _counted(bars: _Bars, kind: str, test: Flags) -> pl.DataFrame:
    sums = np.add.reduceat(test, bars.begins, dtype=np.int64) if len(test) else np.zeros(0, np.int64)
    held = np.flatnonzero(sums)
    start, end = _runs(test) if kind == "repeated" else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    longest = np.zeros(len(sums), np.int64)
    np.maximum.at(longest, bars.owner(start), end - start)
    true = np.flatnonzero(test) if kind not in ("rows", "traded") else np.zeros(0, np.int64)
    first = true[np.searchsorted(true, bars.begins[held])] if len(true) else bars.begins[held]
    return bars.at(first, "ts").rename({"ts": "first"}).with_columns(
        pl.lit(kind, COUNTS["kind"]).alias("kind"), pl.Series("rows", sums[held]), pl.Series("longest", longest[held])
    )  # fmt: skip


def _runs(test: Flags) -> tuple[Ints, Ints]:
    """Starts and ends (exclusive) of the runs of true."""
    change = np.flatnonzero(np.diff(test, prepend=False, append=False))
    return change[::2], change[1::2]


def _sessions(bars: _Bars) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Jumps from a session's close to the next one's open that may be splits; first and last session of each series."""
    n = len(bars.series)
    fresh = ~bars.same_series | (bars.session[1:] != bars.session[:-1])
    begin = np.flatnonzero(np.append([True], fresh)[:n])
    end = np.append(begin[1:], [n])[: len(begin)] - 1
    before = end[:-1]
    follows = (
        bars.same_series[begin[1:] - 1]
        & bars.positive[begin[1:]]
        & (bars.session[begin[1:]] - bars.session[before] <= LONGEST_CLOSED_DAYS)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        jump = np.abs(np.log(bars.open[begin[1:]] / bars.close[before]))
    at = np.flatnonzero(follows & (jump > SMALLEST_JUMP))
    jumps = bars.at(begin[at + 1], "ts", "session", "open").with_columns(
        pl.Series("before", bars.close[before[at]]), pl.Series("close", bars.close[end[at + 1]])
    )
    first = np.flatnonzero(np.isin(begin, bars.begins, assume_unique=True))
    last = np.append(first[1:] - 1, [len(begin) - 1])[: len(first)]
    sides = [
        bars.at(begin[one], "ts", "session", "open").with_columns(
            pl.Series("close", bars.close[end[one]]), pl.Series("is_last", np.full(len(one), is_last)))
        for one, is_last in ((first, False), (last, True))
    ]  # fmt: skip
    return jumps, pl.concat(sides)


def _shaped(frame: pl.DataFrame, series: pl.DataFrame, schema: Schema, zone: str) -> pl.DataFrame:
    if "symbol" in schema:
        frame = frame.join(series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
    if "minute" in schema:
        local = pl.col("ts").dt.convert_time_zone(zone)
        frame = frame.with_columns((local.dt.hour().cast(pl.Int16) * 60 + local.dt.minute()).alias("minute"))
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
