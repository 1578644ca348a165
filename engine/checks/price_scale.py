"""Check `scale`: a block of bars in another unit (x100, x0.01, ...), told from a split. Pure: frame in, frame out.

1. `level_jumps` lists the places where a price follows another at 5 times it or more: few, whatever the rows.
2. `scale_blocks` pairs a jump by a power of ten with the jump back. A split does not come back, and moves the volume
   against the price; a change of unit moves the price alone.
3. `rescaled_copies` finds series that are another symbol's in another unit, where no bar of their own shows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from engine.checks.check import SERIES, BarCheck, Frames, JudgeInput, MeasureInput, register
from engine.checks.findings import findings_of
from engine.checks.rescaled_copies import copy_finding, rescaled_copies_of
from engine.checks.sanity import BAR_SANITY, Bars, session_bars
from engine.checks.session_sums import SESSION_SUMS
from engine.keys import Ints, number_ranges
from engine.quality.contiguous_runs import Floats, pairs_where
from engine.schema import TS, Schema, empty

# `part` and `first_session` are the first stamp and session of the series in its part of the data, `number` the bar's number in it, `left` how many bars
# follow from it on: null across parts.
JUMPS: Schema = {
    **SERIES,
    "session": pl.Date(),
    "ts": TS,
    "is_inside": pl.Boolean(),
    "part": TS,
    "first_session": pl.Date(),
    "number": pl.Int64(),
    "left": pl.Int64(),
    "before": pl.Float64(),
    "open": pl.Float64(),
    "level_before": pl.Float64(),
    "level_after": pl.Float64(),
    "volume_before": pl.Float64(),
    "volume_after": pl.Float64(),
}
SMALLEST_FACTOR = 5.0  # no price moves so far from one bar to the next
MOST_JUMPS = 64  # of a series in a part: where more are, the first ones tell as much
NEAR_POWER = 0.15  # of the logarithm of a factor: what the price itself may have moved meanwhile
RETURNS = 0.35  # and over a whole block
SPIKE_BARS = 2  # blocks of so few bars are spikes; two bars are none whose prices are a power of ten to within
EXACT_POWER = 0.02  # of the logarithm, at both ends
LEVEL_BARS = 20  # on either side of a jump, of which the middle price is taken
VOLUME_BARS = 400  # on either side of a jump, of which the middle volume is taken
VOLUME_STANDS = 0.25  # of the factor's logarithm: a split moves volume by all of it
SPLIT_FACTOR = 10.0  # up to it a jump for good is a split, whatever the volume says: 10:1 is usual

Row = dict[str, Any]
KEY = list(SERIES)


class Block(NamedTuple):
    """Bars in another unit: the jump that begins it (None: the series does), the one that ends it, and the power of ten."""

    first: Row | None
    back: Row | None
    power: int


def level_jumps(
    rows: pl.DataFrame, series: pl.DataFrame, *, is_intraday: bool, bars: Bars | None = None
) -> pl.DataFrame:
    """Return `JUMPS`: bars that open at 5 times the close before, or a fifth; up to 64 per series; prices above 0.

    Parameters
    ----------
    rows : DataFrame
        `series, ts, session, open, high, low, close`, `volume` where there is one; sorted by (series, ts).
    series : DataFrame
        `series, symbol, price_type, interval`.
    is_intraday : bool
        Whether a session has several bars.
    bars : Bars, optional
        Of these rows, where they are at hand.
    """
    bars = bars or Bars(rows, is_intraday)
    opened, close = bars.open, bars.close
    at = 1 + pairs_where(
        lambda a, b: (opened[b] > SMALLEST_FACTOR * close[a]) | (opened[b] * SMALLEST_FACTOR < close[a]), bars.pairs
    )
    owner = bars.owner(at)
    at = at[(bars.series[at] == bars.series[at - 1]) & bars.positive[owner]]
    owner = bars.owner(at)
    at = at[np.arange(len(at)) - np.searchsorted(owner, owner) < MOST_JUMPS]
    if not len(at):
        return empty(JUMPS)
    owner = bars.owner(at)
    begin, end = bars.begins[owner], bars.begins[owner] + bars.counts[owner]
    found = bars.at(at, "ts", "session", "open").with_columns(
        pl.Series("is_inside", (bars.session[at] == bars.session[at - 1]) & is_intraday),
        rows["ts"].gather(begin).alias("part"),
        rows["session"].gather(begin).alias("first_session"),
        pl.Series("number", at - begin),
        pl.Series("left", end - at),
        pl.Series("before", close[at - 1]),
        middle(close, np.maximum(at - LEVEL_BARS, begin), at).alias("level_before"),
        middle(close, at, np.minimum(at + LEVEL_BARS, end)).alias("level_after"),
        middle(bars.volume, np.maximum(at - VOLUME_BARS, begin), at).alias("volume_before"),
        middle(bars.volume, at, np.minimum(at + VOLUME_BARS, end)).alias("volume_after"),
    )
    named = found.join(series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
    return named.select(pl.col(name).cast(dtype) for name, dtype in JUMPS.items())


def middle(values: Floats, low: Ints, high: Ints) -> pl.Series:
    """Return the median of the values above 0 from each `low` to below `high`; null without any."""
    owner, number = number_ranges(high - low)
    held = pl.DataFrame({"owner": owner, "value": values[low[owner] + number]}).filter(pl.col("value") > 0)
    medians = held.group_by("owner").agg(pl.col("value").median())
    every = pl.DataFrame({"owner": np.arange(len(low))})
    return every.join(medians, on="owner", how="left", maintain_order="left")["value"]


def jumps_between_parts(ends: pl.DataFrame) -> pl.DataFrame:
    """Return `JUMPS` from a part's last session to the next part's first (`sanity.ENDS`), without number and volumes."""
    ordered = ends.sort([*KEY, "session", "is_last"])
    beside = ordered.with_columns(
        pl.col("close").shift().over(KEY).alias("before"), pl.col("is_last").shift().over(KEY).alias("was_last")
    )
    far = (pl.col("open") / pl.col("before")).log().abs() > math.log(SMALLEST_FACTOR)
    crossing = beside.filter((~pl.col("is_last") & pl.col("was_last") & far).fill_null(value=False))
    return crossing.with_columns(pl.lit(value=False).alias("is_inside")).select(
        pl.col(name).cast(dtype) if name in crossing.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in JUMPS.items()
    )


def scale_blocks(frames: Frames) -> list[Block]:
    """Return the blocks of each series that stand at a power of ten of the prices beside, of 2 bars and more."""
    jumps = pl.concat([frames["scale"], jumps_between_parts(frames["ends"])]).sort(*KEY, "ts")
    ratio = (pl.col("open") / pl.col("before")).log10()
    power = ratio.round().cast(pl.Int64, strict=False)  # a ratio beyond a float is no power of ten
    near = (ratio - power).abs() * math.log(10) <= NEAR_POWER
    tens = jumps.with_columns(power.alias("power")).filter(near & (pl.col("power") != 0))
    blocks: list[Block] = []
    for _, events in tens.group_by(KEY, maintain_order=True):
        blocks += blocks_of(events.to_dicts())
    return blocks


def blocks_of(events: Sequence[Row]) -> list[Block]:
    """Pair the jumps (by powers of ten) of one series: those that return, and those that no split explains."""
    blocks, taken = [], set()
    for at, event in enumerate(events):
        if at in taken:
            continue
        back = next((b for b in range(at + 1, len(events)) if b not in taken and comes_back(event, events[b])), None)
        if back is not None:
            taken.add(back)
            if not is_spike(event, events[back]):
                blocks.append(Block(event, events[back], event["power"]))
        elif is_change_of_unit(event):
            # Which side is wrong the prices do not say: it is taken for the one with fewer bars.
            is_before = event["number"] is not None and event["number"] < event["left"]
            blocks.append(Block(None, event, -event["power"]) if is_before else Block(event, None, event["power"]))
    return blocks


def comes_back(event: Row, later: Row) -> bool:
    """Whether a later jump undoes one: the opposite power, to within 35 % of the price before."""
    return bool(later["power"] == -event["power"] and abs(math.log(later["open"] / event["before"])) <= RETURNS)


def is_spike(event: Row, back: Row) -> bool:
    """Whether one bar lies between two jumps of one part, or two that are no exact power of ten of the prices beside."""
    if event["part"] is None or event["part"] != back["part"]:
        return False
    bars = back["number"] - event["number"]
    ends = (event["open"] / event["before"], back["before"] / back["open"])
    is_exact = all(abs(math.log(ratio) - event["power"] * math.log(10)) <= EXACT_POWER for ratio in ends)
    return bool(bars < SPIKE_BARS or (bars == SPIKE_BARS and not is_exact))


def is_change_of_unit(event: Row) -> bool:
    """Whether a jump for good is none of a split: inside a session, or by 100 and more while the volume stands.

    The prices have to stay at the power of ten, to within 35 %, in the 20 bars after it.
    """
    if not event["level_before"] or not event["level_after"]:
        return False
    if abs(math.log(event["level_after"] / event["level_before"]) - event["power"] * math.log(10)) > RETURNS:
        return False
    if event["is_inside"]:
        return bool(min(event["number"], event["left"]) > SPIKE_BARS)
    if 10 ** abs(event["power"]) <= SPLIT_FACTOR or not event["volume_before"] or not event["volume_after"]:
        return False
    moved = math.log10(event["volume_after"] / event["volume_before"])
    return bool(abs(moved) <= VOLUME_STANDS * abs(event["power"]))


def jumps_apart_from(jumps: pl.DataFrame, blocks: Sequence[Block]) -> pl.DataFrame:
    """Return the jumps (of `SERIES`, ts) without those that begin or end a block."""
    edges = [{**{name: one[name] for name in KEY}, "ts": one["ts"]} for b in blocks for one in (b.first, b.back) if one]
    known = pl.DataFrame(edges, schema={**SERIES, "ts": TS})
    return jumps.join(known, on=[*KEY, "ts"], how="anti", maintain_order="left")


def scale_finding(block: Block) -> Row:
    """Build the `scale` error: `value` is the factor, `count` the bars (where it ends; 0: until the end of the data)."""
    first, back = block.first, block.back
    jump = first or back
    if jump is None:
        raise ValueError("block: begins and ends with the series; valid: a jump at one of its ends")
    factor = 10.0**block.power
    count = bars_of_block(block)
    what = f"{count:,} bars" if count else "Bars"
    start = jump["part"] if first is None else first["ts"]
    until = f"to {back['ts']:%Y-%m-%d %H:%M} UTC" if back is not None else "on"
    if first is not None and back is not None:
        reason = f"then back from {back['before']:g} to {back['open']:g}: a split does not come back"
    elif jump["is_inside"]:
        reason = "inside a session, where no split takes effect"
    else:
        reason = (
            f"the middle volume is {jump['volume_before']:g} before and {jump['volume_after']:g} after: a split would "
            f"change it by {jump['before'] / jump['open']:.3g}"
        )
    is_counted = (first is None or back is None) and jump["number"] is not None
    others = "; the other prices are more, so they are taken for right" if is_counted else ""
    return {
        **{name: jump[name] for name in KEY},
        "check_name": "scale",
        "severity": "error",
        "session": jump["first_session"] if first is None else first["session"],
        "start_ts": start,
        "end_ts": back["ts"] if back is not None else None,
        "count": count,
        "value": factor,
        "message": f"{what} from {start:%Y-%m-%d %H:%M} UTC {until} are x{factor:g} of the prices beside: another unit or decimal point.",
        "evidence": f"from {jump['before']:g} to {jump['open']:g}, {reason}{others}",
        "remedy": f"divide these prices by {factor:g}, or load them anew; no split: adjust nothing before them",
    }


def bars_of_block(block: Block) -> int:
    """Return the number of bars of a block that ends in the part of the data in which it begins; else 0."""
    if block.back is None:
        return 0
    if block.first is None:
        return int(block.back["number"])
    is_counted = block.first["part"] is not None and block.first["part"] == block.back["part"]
    return int(block.back["number"] - block.first["number"]) if is_counted else 0


def scale_blocks_of(measured: JudgeInput) -> list[Block]:
    """Return `scale_blocks` of all measurements, for the checks that speak of the same jumps."""
    return scale_blocks(measured.frames)


@register
class ScaleCheck(BarCheck):
    """Prices of some bars or sessions are a power of ten of those beside."""

    name, severities = "scale", ("error", "warning")
    schema, reads = JUMPS, (BAR_SANITY, SESSION_SUMS)

    def measure(self, part: MeasureInput) -> pl.DataFrame:
        """Return the bars of a part that open at 5 times the close before, or at a fifth of it."""
        is_intraday = part.grid.interval.is_intraday
        return level_jumps(part.session_rows, part.series, is_intraday=is_intraday, bars=part.once(session_bars))

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return an error per block of bars in another unit; of series without one, a finding if they rescale another symbol."""
        found = findings_of([scale_finding(block) for block in measured.once(scale_blocks_of)])
        copies = measured.once(rescaled_copies_of).filter(pl.col("of") == "level")
        rest = copies.join(found, on=KEY, how="anti", maintain_order="left")
        return pl.concat([found, findings_of([copy_finding(row, self.name) for row in rest.iter_rows(named=True)])])
