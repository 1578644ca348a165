"""Bars that cannot be right, or hardly: counted in one pass over sorted rows, said when all parts are counted.

1. `bar_sanity` looks at the rows of one part of a lake, and keeps little: counts, the runs, spikes and jumps that stand
   out, and how many series moved at once. `combine_sanity` puts the parts together.
2. The checks of `sanity_findings` judge: a spike at an instant at which most series moved is the market's, a jump to a simple ratio
   that stays is a split, a run is stale when the series' own habits do not explain it.

Pure: frame in, frame out. What is compared with neighbours is not judged at the first and last bar of a session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from engine.checks.check import SERIES, Frames, MeasureInput, Measurement
from engine.grid import SessionGrid
from engine.keys import Flags, Ints, number_ranges
from engine.quality.contiguous_runs import Floats, pairs_where, run_starts
from engine.schema import TS, Schema, empty

DATE, LONG, FLOAT = pl.Date(), pl.Int64(), pl.Float64()
# Per series: how many rows are of that kind, and the first. `longest` is of runs in a row.
ANOMALIES = ("zero_volume_range", "vwap_outside", "repeated", "flat", "flat_runs", "traded", "rows")
COUNTS: Schema = {**SERIES, "kind": pl.Enum(ANOMALIES), "rows": LONG, "first": TS, "longest": LONG}
RUNS: Schema = {**SERIES, "start_ts": TS, "session": DATE, "bars": LONG, "price": FLOAT}
SPIKES: Schema = {
    **SERIES,
    "ts": TS,
    "session": DATE,
    "minute": pl.Int16(),
    "up": pl.Boolean(),
    "bars": pl.Int8(),
    "price": FLOAT,
    "beside": FLOAT,
    "size": FLOAT,
    "scale": FLOAT,
    "reverts_inside": pl.Boolean(),
    "volume": FLOAT,
}
MOVES: Schema = {"ts": TS, "session": DATE, "minute": pl.Int16(), "up": LONG, "down": LONG}
JUMPS: Schema = {**SERIES, "session": DATE, "ts": TS, "before": FLOAT, "open": FLOAT, "close": FLOAT}
ENDS: Schema = {**SERIES, "session": DATE, "ts": TS, "is_last": pl.Boolean(), "open": FLOAT, "close": FLOAT}
SANITY: Mapping[str, Schema] = {
    "counts": COUNTS,
    "runs": RUNS,
    "spikes": SPIKES,
    "moves": MOVES,
    "jumps": JUMPS,
    "ends": ENDS,
}

SMALLEST_SPIKE, SMALLEST_MOVE = 0.002, 0.001  # below it nothing stands out, whatever the scale
SPIKE_SCALES, MOVE_SCALES = 20.0, 8.0
ROUNDING = 1e-9
NEIGHBOUR_RANGES = 3.0  # a spike is so many times its neighbours' ranges
SCALE_SAMPLE = 512  # returns per series from which its usual one is taken
MAD_TO_SIGMA = 1.4826
SMALLEST_JUMP, LONGEST_CLOSED_DAYS = 0.35, 10
FEWEST_MOVES = 5  # between sessions, for a usual one
FEWEST_OF_SESSION = 3  # bars: the first, the last, and one between
LONGEST_SHORT_RUN = 15  # flat bars in a row that nobody looks at
RUN_KINDS = ("repeated", "zero_volume_range")


def bar_sanity(
    rows: pl.DataFrame, series: pl.DataFrame, grid: SessionGrid, zone: str, bars: Bars | None = None
) -> dict[str, pl.DataFrame]:
    """Frames of `SANITY` of sorted rows, by name: anomaly counts, flat runs, spikes, market moves, jumps, end sessions.

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
    bars : Bars, optional
        Of these rows, where they are at hand.

    Returns
    -------
    dict of name to DataFrame of `SANITY`
    """
    bars = bars or Bars(rows, grid.interval.is_intraday)
    scale = usual_moves(bars)
    far = far_bars(bars, scale)
    spikes, moves = find_spikes(bars, scale, far), count_market_moves(bars, scale, far)
    counts, runs = find_anomalies(bars)
    jumps, ends = session_jumps(bars)
    found = {"counts": counts, "runs": runs, "spikes": spikes, "moves": moves, "jumps": jumps, "ends": ends}
    return {name: with_names_and_minutes(found[name], series, schema, zone) for name, schema in SANITY.items()}


def combine_sanity(frames: Mapping[str, Sequence[pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    """Concatenate and sort the frames of all parts; sum counts and moves; what lies across two parts is not found."""
    whole = {name: pl.concat([empty(schema), *frames[name]]) for name, schema in SANITY.items()}
    whole["counts"] = (
        whole["counts"]
        .group_by(*SERIES, "kind")
        .agg(pl.col("rows").sum(), pl.col("first").min(), pl.col("longest").max())
        .sort(*SERIES, "kind")
    )
    # In one order, however the parts were cut: the first or the worst of equals is shown.
    for name, order in {"runs": "start_ts", "spikes": "ts", "jumps": "ts", "ends": "ts"}.items():
        whole[name] = whole[name].sort(*SERIES, order, maintain_order=True)
    whole["moves"] = whole["moves"].group_by("ts", "session", "minute").agg(pl.col("up", "down").sum()).sort("ts")
    return whole


class Bars:
    """Columns of sorted bars as arrays, and which of them are neighbours."""

    def __init__(self, rows: pl.DataFrame, is_intraday: bool) -> None:  # noqa: FBT001
        self.rows = rows
        self.is_intraday = is_intraday
        self.series = rows["series"].to_numpy()
        self.open, self.high, self.low, self.close = (
            rows[name].to_numpy() for name in ("open", "high", "low", "close")
        )
        self.volume = (
            rows["volume"].fill_null(np.nan).to_numpy() if "volume" in rows.columns else np.full(rows.height, np.nan)
        )
        self.session = rows["session"].cast(pl.Int32).to_numpy()
        self.begins = run_starts(self.series)
        self.counts = np.diff(np.append(self.begins, rows.height))
        # A ratio says nothing in a series whose prices pass zero.
        self.positive = np.minimum.reduceat(self.low, self.begins) > 0 if rows.height else np.zeros(0, bool)

    @property
    def pairs(self) -> int:
        """Number of neighbouring rows, of one series or two."""
        return max(len(self.series) - 1, 0)

    def at(self, index: Ints, *columns: str) -> pl.DataFrame:
        """Return `series` and the named columns of the rows at these indices."""
        return self.rows.select("series", *columns)[index]

    def owner(self, index: Ints) -> Ints:
        """Return the position among the series of the part of each row index."""
        owner: Ints = np.searchsorted(self.begins, index, side="right") - 1
        return owner

    def joined(self, index: Ints) -> Flags:
        """Mask indices (below the last) comparable with the NEXT bar: same series, all its lows > 0, same session."""
        same: Flags = self.series[index + 1] == self.series[index]
        if self.is_intraday:
            same &= self.session[index + 1] == self.session[index]
        return same & self.positive[self.owner(index)]


def session_bars(part: MeasureInput) -> Bars:
    """Return the `Bars` of a part's rows in sessions, for `MeasureInput.once`."""
    return Bars(part.session_rows, part.grid.interval.is_intraday)


def usual_moves(bars: Bars) -> Floats:
    """Return per series the median nonzero |close-to-close return| x 1.4826 of ~512 sampled bars; inf if none."""
    scale = np.full(len(bars.begins), np.inf)
    if not bars.pairs:
        return scale
    stride = np.maximum(bars.counts // SCALE_SAMPLE, 1)
    owner, number = number_ranges((bars.counts - 1) // stride)
    at = bars.begins[owner] + 1 + number * stride[owner]
    joined = bars.joined(at - 1)
    at, owner = at[joined], owner[joined]
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.abs(bars.close[at] / bars.close[at - 1] - 1)
    moved = (size > 0) & np.isfinite(size)
    usual = pl.DataFrame({"owner": owner[moved], "size": size[moved]}).group_by("owner").agg(pl.col("size").median())
    scale[usual["owner"].to_numpy()] = usual["size"].to_numpy() * MAD_TO_SIGMA
    return scale


class _Far(NamedTuple):
    """Bars far from the one before, of which few are: whoever looks for what stands out looks at these alone."""

    high: Ints  # its high from the high before
    low: Ints
    move: Ints  # its high or low from the close before


def far_bars(bars: Bars, scale: Floats) -> _Far:
    """Indices BEFORE a higher high, a lower low, either off the close, by max(0.1 %, 8 scales); across series too."""
    least = np.where(bars.positive, np.maximum(SMALLEST_MOVE, MOVE_SCALES * scale), np.inf)
    beyond = np.repeat((1 + least) * (1 - ROUNDING), bars.counts)
    high, low, close = bars.high, bars.low, bars.close
    with np.errstate(invalid="ignore"):
        return _Far(
            pairs_where(lambda a, b: high[b] > high[a] * beyond[a], bars.pairs),
            pairs_where(lambda a, b: low[b] < low[a] * (2 - beyond[a]), bars.pairs),
            pairs_where(
                lambda a, b: (high[b] > close[a] * beyond[a]) | (low[b] < close[a] * (2 - beyond[a])), bars.pairs
            ),
        )


def find_spikes(bars: Bars, scale: Floats, far: _Far) -> pl.DataFrame:
    """Return spikes of one or two bars, up and down; per series and ts the one-bar, then the upward spike wins."""
    found = [find_spikes_of_width(bars, scale, far, width, up) for width in (1, 2) for up in (True, False)]
    found.append(find_edge_spikes(bars, scale))
    # A spike of one bar may look like one of two with its neighbour: the narrower one is it.
    return pl.concat(found).unique(["series", "ts"], keep="first", maintain_order=True)


def find_spikes_of_width(bars: Bars, scale: Floats, far: _Far, width: int, up: bool) -> pl.DataFrame:  # noqa: FBT001
    """Return spikes beyond BOTH neighbours by > 0.2 %, > 20 scales and > 3 neighbour ranges; `size` < 0 if down."""
    edge, at = (bars.high, far.high) if up else (bars.low, far.low)
    at = at[at + width + 1 < len(edge)]
    inner, outer = (np.minimum, np.maximum) if up else (np.maximum, np.minimum)
    own = edge[at + 1] if width == 1 else inner(edge[at + 1], edge[at + 2])
    beside = outer(edge[at], edge[at + width + 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        size = own / beside - 1 if up else 1 - own / beside
        wide = np.maximum(*(bars.high[one] / bars.low[one] - 1 for one in (at, at + width + 1)))
    beyond = scale[bars.owner(at + 1)]
    stands = (size > SMALLEST_SPIKE) & (size > SPIKE_SCALES * beyond) & (size > NEIGHBOUR_RANGES * wide)
    for step in range(width + 1):
        stands &= bars.joined(at + step)
    at, beyond, size, beside = at[stands], beyond[stands], size[stands], beside[stands]
    return spike_rows(bars, at + 1, np.full(len(at), up), width, edge[at + 1], beside, size, beyond)


def reverts_inside(bars: Bars, at: Ints, up: Flags, beside: Floats) -> Flags:
    """Mask bars that open and close within 0.2 % of what is beside them: only a high or low stands out."""
    opened, closed = bars.open[at], bars.close[at]
    inside_up = np.maximum(opened, closed) <= beside * (1 + SMALLEST_SPIKE)
    inside_down = np.minimum(opened, closed) >= beside * (1 - SMALLEST_SPIKE)
    return np.asarray(np.where(up, inside_up, inside_down))


def spike_rows(
    bars: Bars, at: Ints, up: Flags, width: int, price: Floats, beside: Floats, size: Floats, scale: Floats
) -> pl.DataFrame:
    """Return the spikes that begin at these indices, `size` above 0 as given, below 0 where they are down."""
    return bars.at(at, "ts", "session").with_columns(
        pl.Series("up", up),
        pl.Series("bars", np.full(len(at), width, np.int8)),
        pl.Series("price", price),
        pl.Series("beside", beside),
        pl.Series("size", np.where(up, size, -size)),
        pl.Series("scale", scale),
        pl.Series("reverts_inside", reverts_inside(bars, at, up, beside) & (width == 1)),
        pl.Series("volume", bars.volume[at], nan_to_null=True),
    )


def find_edge_spikes(bars: Bars, scale: Floats) -> pl.DataFrame:
    """Return first and last bars of intraday sessions that lie beyond BOTH neighbours as a whole, one in another session.

    By > 0.2 %, 20 scales, 3 neighbour ranges, 8 usual moves between sessions. Where the data begin or end, one neighbour
    is left: then by 3 times the range of the rest of the session.
    """
    begin = run_starts(bars.session, bars.series)
    end = np.append(begin[1:], [len(bars.series)])[: len(begin)]
    whole = np.flatnonzero(end - begin > FEWEST_OF_SESSION) if bars.is_intraday else begin[:0]
    at = np.concatenate([begin[whole], end[whole] - 1])
    inner = np.concatenate([begin[whole] + 1, end[whole] - 2])  # the neighbour in its session
    outer = np.concatenate([begin[whole] - 1, end[whole]])  # the one in the session before or after
    has_outer = (outer >= 0) & (outer < len(bars.series))
    outer = np.where(has_outer, outer, inner)
    has_outer &= bars.series[outer] == bars.series[at]
    outer = np.where(has_outer, outer, inner)
    owner = bars.owner(at)
    rest = np.tile(ranges_without_edges(bars, begin[whole], end[whole]), 2)
    between = usual_moves_between(bars, begin, end)[owner]
    wide = np.maximum(bars.high[inner] / bars.low[inner], bars.high[outer] / bars.low[outer]) - 1
    limit = np.maximum.reduce([SPIKE_SCALES * scale[owner], NEIGHBOUR_RANGES * wide, MOVE_SCALES * between])
    limit = np.where(has_outer, limit, np.maximum(limit, NEIGHBOUR_RANGES * rest))
    high, low = (
        pick(values[inner], values[outer]) for pick, values in ((np.maximum, bars.high), (np.minimum, bars.low))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        above, below = bars.low[at] / high - 1, 1 - bars.high[at] / low
    up = above > below
    size = np.where(up, above, below)
    stands = (size > SMALLEST_SPIKE) & (size > limit) & bars.positive[owner]
    price, beside = np.where(up, bars.low[at], bars.high[at]), np.where(up, high, low)
    at, up, price, beside, size, owner = (one[stands] for one in (at, up, price, beside, size, owner))
    return spike_rows(bars, at, up, 1, price, beside, size, scale[owner])


def ranges_without_edges(bars: Bars, begin: Ints, end: Ints) -> Floats:
    """Return highest high / lowest low - 1 of the rows from each `begin` to before `end`, the first and last left out."""
    if not len(begin):
        return np.zeros(0)
    cuts = np.stack([begin + 1, end - 1], axis=1).ravel()
    ranges: Floats = np.maximum.reduceat(bars.high, cuts)[::2] / np.minimum.reduceat(bars.low, cuts)[::2] - 1
    return ranges


def usual_moves_between(bars: Bars, begin: Ints, end: Ints) -> Floats:
    """Return per series the median |move| x 1.4826 from one session's close to the next one's open; 0 below 5 of them."""
    before, after = end[:-1] - 1, begin[1:]
    same = bars.series[before] == bars.series[after]
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.abs(bars.open[after[same]] / bars.close[before[same]] - 1)
    found = pl.DataFrame({"owner": bars.owner(after[same]), "size": size}).filter(pl.col("size").is_finite())
    usual = found.group_by("owner").agg(pl.col("size").median(), pl.len().alias("moves"))
    usual = usual.filter(pl.col("moves") >= FEWEST_MOVES)
    moves = np.zeros(len(bars.begins))
    moves[usual["owner"].to_numpy()] = usual["size"].to_numpy() * MAD_TO_SIGMA
    return moves


def count_market_moves(bars: Bars, scale: Floats, far: _Far) -> pl.DataFrame:
    """Count series per instant whose high or low is > 0.1 % and > 8 scales off the prior close: `up`, `down`."""
    at = far.move[bars.joined(far.move)]
    with np.errstate(divide="ignore", invalid="ignore"):
        rise, fall = bars.high[at + 1] / bars.close[at] - 1, 1 - bars.low[at + 1] / bars.close[at]
    limit = MOVE_SCALES * scale[bars.owner(at)]
    is_far = np.maximum(rise, fall) > SMALLEST_MOVE
    moved = bars.at(at + 1, "ts", "session").with_columns(
        pl.Series("up", is_far & (rise > limit)), pl.Series("down", is_far & (fall > limit))
    )
    return (
        moved.filter(pl.col("up") | pl.col("down"))
        .group_by("ts", "session")
        .agg(pl.col("up", "down").sum().cast(pl.Int64))
    )


def find_anomalies(bars: Bars) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (anomaly counts per series and kind; runs of >= 15 rangeless bars at the prior close, with volume)."""
    flat, repeated = flat_and_repeated_bars(bars)
    idle = np.flatnonzero(bars.volume == 0)
    start, end = consecutive_runs(flat)
    kinds = {
        "zero_volume_range": idle[bars.high[idle] > bars.low[idle]],
        "vwap_outside": vwap_outside_bars(bars),
        "repeated": repeated,
        "flat": flat,
        "flat_runs": start,
    }
    whole = {"traded": np.add.reduceat(bars.volume > 0, bars.begins, dtype=np.int64), "rows": bars.counts}
    long = np.flatnonzero(end - start >= LONGEST_SHORT_RUN)
    runs = bars.at(start[long], "session", "ts", "close")
    runs = runs.with_columns(pl.Series("bars", end[long] - start[long])).rename({"ts": "start_ts", "close": "price"})
    counted = [count_kind(bars, kind, index) for kind, index in kinds.items()]
    return pl.concat([*counted, *(sum_kind(bars, kind, sums) for kind, sums in whole.items())]), runs


def flat_and_repeated_bars(bars: Bars) -> tuple[Ints, Ints]:
    """Indices of (rangeless bars at the prior close, with volume; ranged bars equal to the prior, volume too)."""
    close, volume = bars.close, bars.volume
    at = pairs_where(lambda a, b: close[b] == close[a], bars.pairs) + 1
    at = at[bars.series[at] == bars.series[at - 1]]
    ranges = bars.high[at] > bars.low[at]
    same, flat = at[ranges], at[~ranges]
    for values in (bars.open, bars.high, bars.low):
        same = same[values[same] == values[same - 1]]
    alike = (volume[same] == volume[same - 1]) | (np.isnan(volume[same]) & np.isnan(volume[same - 1]))
    return flat[volume[flat] > 0], same[alike]


def vwap_outside_bars(bars: Bars) -> Ints:
    """Return indices of bars whose vwap is over a millionth of the high outside low..high; none without vwap."""
    if "vwap" not in bars.rows.columns or bars.rows["vwap"].null_count() == len(bars.series):
        return np.zeros(0, np.int64)
    vwap, slack = bars.rows["vwap"].fill_null(np.nan).to_numpy(), 1e-6 * bars.high
    return np.flatnonzero((vwap < bars.low - slack) | (vwap > bars.high + slack))


def count_kind(bars: Bars, kind: str, index: Ints) -> pl.DataFrame:
    """Count ascending `index` per series, with first ts; `longest` is the longest run of the kinds in `RUN_KINDS`, else 0."""
    owner = bars.owner(index)
    fresh = run_starts(owner)
    start, end = consecutive_runs(index) if kind in RUN_KINDS else (index[:0], index[:0])
    longest = np.zeros(len(bars.begins), np.int64)
    np.maximum.at(longest, bars.owner(start), end - start)
    return kind_rows(bars, kind, index[fresh], np.diff(np.append(fresh, len(index))), longest[owner[fresh]])


def sum_kind(bars: Bars, kind: str, sums: Ints) -> pl.DataFrame:
    """Return `kind` rows for nonzero per-series totals: `first` is the series' first bar, `longest` 0."""
    held = np.flatnonzero(sums)
    return kind_rows(bars, kind, bars.begins[held], sums[held], np.zeros(len(held), np.int64))


def kind_rows(bars: Bars, kind: str, first: Ints, rows: Ints, longest: Ints) -> pl.DataFrame:
    """Return `series, first, kind, rows, longest`, where `first` is the ts of the bar at each index."""
    return (
        bars.at(first, "ts")
        .rename({"ts": "first"})
        .with_columns(
            pl.lit(kind, COUNTS["kind"]).alias("kind"), pl.Series("rows", rows), pl.Series("longest", longest)
        )
    )


def consecutive_runs(index: Ints) -> tuple[Ints, Ints]:
    """Return (first values, last values + 1) of the runs of consecutive integers in ascending `index`."""
    start = run_starts(index - np.arange(len(index)))
    return index[start], index[np.append(start[1:], len(index))[: len(start)] - 1] + 1


def session_jumps(bars: Bars) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(Jumps from close to next session's open, |log| > 0.35, within 10 days; first and last session per series)."""
    begin = run_starts(bars.session, bars.series)
    end = np.append(begin[1:], [len(bars.series)])[: len(begin)] - 1
    before, after = end[:-1], begin[1:]
    follows = (
        (bars.series[before] == bars.series[after])
        & bars.positive[bars.owner(after)]
        & (bars.session[after] - bars.session[before] <= LONGEST_CLOSED_DAYS)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        jump = np.abs(np.log(bars.open[after] / bars.close[before]))
        # One bad print beside the edge is no jump: the bars next to them have to be as far apart.
        inner = np.log(bars.open[np.minimum(after + 1, len(bars.open) - 1)] / bars.close[np.maximum(before - 1, 0)])
        same_way = inner * np.sign(np.log(bars.open[after] / bars.close[before])) > SMALLEST_JUMP
    has_inner = (np.diff(begin, append=len(bars.series)) > FEWEST_OF_SESSION) if len(begin) else np.zeros(0, bool)
    stays = same_way | ~has_inner[:-1] | ~has_inner[1:]
    at = np.flatnonzero(follows & (jump > SMALLEST_JUMP) & stays)
    jumps = bars.at(after[at], "ts", "session", "open").with_columns(
        pl.Series("before", bars.close[before[at]]), pl.Series("close", bars.close[end[at + 1]])
    )
    first = np.searchsorted(begin, bars.begins)
    last = np.append(first[1:], [len(begin)])[: len(first)] - 1
    sides = [
        bars.at(begin[one], "ts", "session", "open").with_columns(
            pl.Series("close", bars.close[end[one]]), pl.Series("is_last", np.full(len(one), is_last))
        )
        for one, is_last in ((first, False), (last, True))
    ]
    return jumps, pl.concat(sides)


def jumps_across_parts(ends: pl.DataFrame) -> pl.DataFrame:
    """Return jumps (|log| > 0.35) from a part's last session to the next part's first, 1 to 10 days later."""
    ordered = ends.sort([*SERIES, "session", "is_last"])
    beside = ordered.with_columns(
        pl.col("close").shift().over(list(SERIES)).alias("before"),
        pl.col("session").shift().over(list(SERIES)).alias("session_before"),
        pl.col("is_last").shift().over(list(SERIES)).alias("was_last"),
    )
    days = (pl.col("session") - pl.col("session_before")).dt.total_days()
    far = (pl.col("open") / pl.col("before")).log().abs() > SMALLEST_JUMP
    crossing = (
        ~pl.col("is_last") & pl.col("was_last").fill_null(value=False) & days.is_between(1, LONGEST_CLOSED_DAYS) & far
    )
    return beside.filter(crossing.fill_null(value=False)).select(*SERIES, "session", "ts", "before", "open", "close")


def with_names_and_minutes(frame: pl.DataFrame, series: pl.DataFrame, schema: Schema, zone: str) -> pl.DataFrame:
    """Add series names (rows of others are dropped) and local `minute` where the schema has them; cast to it."""
    if "symbol" in schema:
        frame = frame.join(series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
    if "minute" in schema:
        local = pl.col("ts").dt.convert_time_zone(zone)
        frame = frame.with_columns((local.dt.hour().cast(pl.Int16) * 60 + local.dt.minute()).alias("minute"))
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


class BarSanity(Measurement):
    """Frames of `SANITY`: anomalies, flat runs, spikes, moves of the market, jumps, first and last sessions."""

    schemas = SANITY

    def measure(self, part: MeasureInput) -> Frames:
        """Return the frames of `SANITY` of one part: counts, runs, spikes, moves, jumps, ends."""
        return bar_sanity(part.session_rows, part.series, part.grid, part.zone, part.once(session_bars))

    def combine(self, frames: Mapping[str, Sequence[pl.DataFrame]]) -> Frames:
        """Sum counts and market moves over all parts; concatenate runs, spikes, jumps and ends."""
        return combine_sanity(frames)


BAR_SANITY = BarSanity()
