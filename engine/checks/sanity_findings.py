"""Checks of bar sanity: spikes, splits, stale runs, volume and price at odds. Pure: frame in, frame out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from engine.checks.calendar_check import ATTENDING, PRESENCE_COUNTS
from engine.checks.check import SERIES, BarCheck, Frames, JudgeInput, register
from engine.checks.filled import QUIET_BARS, filled_runs_of
from engine.checks.findings import findings_of
from engine.checks.foreign_sessions import foreign_sessions_of
from engine.checks.price_scale import Block, jumps_apart_from, scale_blocks_of
from engine.checks.sanity import BAR_SANITY, jumps_across_parts
from engine.checks.tick_grid import SAMPLED_PRICES, seams_of

MARKET_SHARE, FEWEST_PEERS = 0.3, 4  # of the series that have the slot, and without the one that is judged
# Not 4:3 and 5:4: shares move as far in a night.
RATIOS = (
    (2, 1),
    (3, 1),
    (4, 1),
    (5, 1),
    (6, 1),
    (7, 1),
    (8, 1),
    (10, 1),
    (15, 1),
    (20, 1),
    (25, 1),
    (30, 1),
    (50, 1),
    (100, 1),
    (3, 2),
    (5, 2),
)
NEAR_RATIO, STAYS = 0.04, 0.12
STALE_CHANCE = 1e-6
FEWEST_REPEATS, LONGEST_STANDING_QUOTE, FEWEST_ANOMALIES = 3, 20, 3
# A print far off within a bar that opens and closes where it should happens in real trading: sweeps, late reports.
LARGE_WICK, LARGE_WICK_SCALES = 0.05, 100.0
NO_VOLUME_AT_ALL = 0.1  # of the bars: then the source gives none for a stretch
ANOMALY_SHARE, TRADED_SHARE = 0.001, 0.5
OFTEN_REPEATED = 0.02  # of the bars

Row = dict[str, Any]
KEY = list(SERIES)


def spikes(frames: Frames, blocks: Sequence[Block] = ()) -> pl.DataFrame:
    """Return one `spike` finding per series with spikes, without those that >= 30 % of at least 4 peers moved with.

    Where `presence` is empty, all series count as peers. Spikes that begin a block in another unit (`scale`) are left out.
    """
    presence = frames["presence"]
    peers = presence.filter(pl.col("minute") != ATTENDING).select("session", "minute", pl.col("present").alias("peers"))
    moved = pl.when("up").then(pl.col("up_right")).otherwise(pl.col("down")).fill_null(0)
    beside = (
        jumps_apart_from(frames["spikes"], blocks)
        .join(
            frames["moves"].select("ts", pl.col("up").alias("up_right"), "down"),
            on="ts",
            how="left",
            maintain_order="left",
        )
        .join(peers, on=["session", "minute"], how="left", maintain_order="left")
    )
    others = pl.col("peers").fill_null(frames["counts"].select(KEY).n_unique()) - 1
    rows_of = {kind: pl.col("rows").filter(pl.col("kind") == kind).sum() for kind in ("traded", "rows")}
    volumes = (
        frames["counts"].group_by(KEY).agg((rows_of["traded"] >= TRADED_SHARE * rows_of["rows"]).alias("has_volumes"))
    )
    judged = beside.with_columns(others.alias("others"), (moved - 1).clip(0).alias("with_it")).join(
        volumes, on=KEY, how="left", maintain_order="left"
    )
    of_market = (pl.col("with_it") >= MARKET_SHARE * pl.col("others")) & (pl.col("others") >= FEWEST_PEERS)
    times = pl.col("size").abs() / pl.col("scale")
    is_small = (pl.col("size").abs() < LARGE_WICK) & (times < LARGE_WICK_SCALES)
    # In a series that has volumes, a bar without one is a price at which nothing traded.
    is_untraded = pl.col("volume").eq(0).fill_null(value=False) & pl.col("has_volumes")
    minor = is_small & (pl.col("reverts_inside") | is_untraded)
    own = ["ts", "session", "price", "beside", "size", "times", "bars", "others", "with_it", "reverts_inside", "is_untraded", "minor"]  # fmt: skip
    summed = (
        judged.with_columns(
            of_market.alias("of_market"), times.alias("times"), is_untraded.alias("is_untraded"), minor.alias("minor")
        )
        .sort("minor", "times", descending=[False, True], maintain_order=True)
        .group_by(KEY, maintain_order=True)
        .agg(
            pl.col("of_market").sum().alias("set_aside"),
            pl.struct(own).filter(~pl.col("of_market")).alias("own"),
        )
        .sort(KEY)
    )
    return findings_of([spike_finding(row) for row in summed.iter_rows(named=True) if row["own"]])


def splits(frames: Frames, blocks: Sequence[Block] = ()) -> pl.DataFrame:
    """Return a `split` per trade jump between sessions within 4 % of a simple ratio, still within 12 % at the close."""
    jumps = pl.concat([frames["jumps"], jumps_across_parts(frames["ends"])]).filter(pl.col("price_type") == "last")
    jumps = jumps_apart_from(jumps, blocks)
    logs = np.log([up / down for up, down in RATIOS])
    with np.errstate(divide="ignore", invalid="ignore"):  # a price may be zero or below
        opened, closed = (np.log((jumps["before"] / jumps[name]).to_numpy()) for name in ("open", "close"))
    off = np.abs(np.abs(opened)[:, None] - logs[None, :])
    nearest = off.argmin(1) if len(opened) else np.zeros(0, np.int64)
    stays = np.abs(np.abs(closed) - logs[nearest]) <= STAYS
    fits = (off.min(1, initial=np.inf) <= NEAR_RATIO) & stays & (np.sign(opened) == np.sign(closed))
    return findings_of(
        [
            split_finding(row, RATIOS[nearest[at]], is_forward=bool(opened[at] > 0))
            for at, row in enumerate(jumps.iter_rows(named=True))
            if fits[at]
        ]
    )


def splits_of(measured: JudgeInput) -> pl.DataFrame:
    """Return `splits` but those that come back (`foreign_sessions`), and those at which an adjusted copy ends (`tick_grid`).

    There the price jumps by the factor of the copy.
    """
    found = splits(measured.frames, measured.once(scale_blocks_of))
    foreign = measured.once(foreign_sessions_of)
    edge = [*SERIES, "session"]
    others = [
        measured.once(seams_of),
        foreign.select(edge),
        foreign.select(*SERIES, pl.col("back").alias("session")),
    ]
    return found.join(pl.concat(others).unique(), on=edge, how="anti", maintain_order="left")


def stale(frames: Frames, told: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return one `stale` warning per series with flat runs of chance < 1e-6 at the rate of its other bars.

    Runs of `filled.filled_runs` (`told`) are left out: same series, session and price.
    """
    wide = frames["counts"].pivot("kind", index=KEY, values="rows", sort_columns=True)
    if "flat_runs" not in wide.columns:
        return findings_of([])
    runs = frames["runs"].join(wide.select(*KEY, "flat", "flat_runs"), on=KEY, how="inner", maintain_order="left")
    # How often such a bar follows another, as the rest of the series has it; its root, as prices that stand tend to stand on.
    others, other_runs = pl.col("flat") - pl.col("bars"), pl.col("flat_runs") - 1
    again = (others - other_runs + 1) / (others + 5)
    chance = pl.col("flat_runs").log() + (pl.col("bars") - 1) * again.clip(1e-4, 0.999).log() / 2
    odd_runs = runs.with_columns(again.alias("again")).filter(chance < np.log(STALE_CHANCE))
    if told is not None:
        odd_runs = odd_runs.join(told, on=[*KEY, "session", "price"], how="anti", maintain_order="left")
    summed = (
        odd_runs.sort("bars", descending=True, maintain_order=True)
        .group_by(KEY, maintain_order=True)
        .agg(
            pl.len().alias("runs"),
            pl.col("bars").sum().alias("rows"),
            pl.col("bars", "start_ts", "session", "price", "again").first(),
        )
    )
    return findings_of([stale_finding(row) for row in summed.iter_rows(named=True)])


def anomalies(frames: Frames, kind: str) -> pl.DataFrame:
    """A finding per series with bars of kind repeated, zero_volume_range, vwap_outside, unless usual for the series."""
    wide = frames["counts"].pivot("kind", index=KEY, values=["rows", "first", "longest"], sort_columns=True)
    if f"rows_{kind}" not in wide.columns:
        return findings_of([])
    found = wide.filter(pl.col(f"rows_{kind}") > 0).sort(KEY)
    rows = [anomaly_finding(row, kind) for row in found.iter_rows(named=True)]
    return findings_of([row for row in rows if row])


def spike_finding(row: Row) -> Row:
    """Build the finding of the spike with most usual moves; `count` own spikes only.

    `warning` of trades, unless each spike is below 5 % and 100 usual moves, and a print that reverts inside its bar, or a
    bar without volume of a series that has volumes; these and quotes: `info`.
    """
    own, worst = row["own"], row["own"][0]
    inside = "; it reverts inside its bar" if worst["reverts_inside"] else ""
    untraded = "; the bar has no volume" if worst["is_untraded"] else ""
    aside = f"; {row['set_aside']} more set aside: most series moved with them" if row["set_aside"] else ""
    return {
        **{name: row[name] for name in KEY},
        "check_name": "spike",
        "severity": "warning" if row["price_type"] == "last" and not worst["minor"] else "info",
        "session": worst["session"],
        "start_ts": worst["ts"],
        "count": len(own),
        "value": worst["size"],
        "message": (
            f"{bar_count_text(len(own))} stick{'s' if len(own) == 1 else ''} out of both neighbours and revert; the worst, {worst['ts']:%Y-%m-%d %H:%M} UTC, "
            f"has {worst['price']:g} where the bars beside it reach {worst['beside']:g} ({worst['size']:+.2%})."
        ),
        "evidence": (
            f"{worst['times']:.0f} times the usual move from bar to bar, {bar_count_text(worst['bars'])} wide; "
            f"{worst['with_it']} of {worst['others']} other series moved with it{inside}{untraded}{aside}"
        ),
        "remedy": "compare with another source; refuse the bars, or ask the vendor for a correction",
    }


def split_finding(row: Row, ratio: tuple[int, int], *, is_forward: bool) -> Row:
    """Build the `split` warning: `value` is close before / open; the ratio reads 2:1 if `is_forward`, else 1:2."""
    shown = f"{ratio[0]}:{ratio[1]}" if is_forward else f"{ratio[1]}:{ratio[0]}"
    return {
        **{name: row[name] for name in KEY},
        "check_name": "split",
        "severity": "warning",
        "session": row["session"],
        "start_ts": row["ts"],
        "count": 1,
        "value": row["before"] / row["open"],
        "message": f"A {shown} split of {row['session']} looks unadjusted: {row['before']:g} at the close before, {row['open']:g} at the open.",
        "evidence": f"the ratio is {row['before'] / row['open']:.4f}, and the session closes at {row['close']:g}",
        "remedy": "adjust earlier prices and volumes by the vendor's split factors, or say that prices are raw",
    }


def stale_finding(row: Row) -> Row:
    """Build the `stale` warning: `value` is the bars of the longest run, `count` the bars of all improbable runs."""
    return {
        **{name: row[name] for name in KEY},
        "check_name": "stale",
        "severity": "warning",
        "session": row["session"],
        "start_ts": row["start_ts"],
        "count": row["rows"],
        "value": float(row["bars"]),
        "message": f"{bar_count_text(row['bars'])} in a row stand at {row['price']:g} without range, though with volume; {row['runs']:,} such runs in all.",
        "evidence": f"apart from that run, such a bar is followed by another in {max(row['again'], 0):.0%} of cases",
        "remedy": "compare with another source: a price that was carried forward is no trade",
    }


def anomaly_finding(row: Row, kind: str) -> Row | None:
    """`warning` from 3 bars (`zero_volume_range`: in a row) and 0.1 % (of that: up to 10 %), else `info`; None: usual."""
    count, total, traded = row[f"rows_{kind}"], row["rows_rows"], row.get("rows_traded") or 0
    share = count / total
    few = count < FEWEST_ANOMALIES
    if kind == "zero_volume_range":
        if traded < TRADED_SHARE * total:
            return None
        said = f"{bar_count_text(count)} ({share:.1%}) have a range and no volume, up to {row['longest_zero_volume_range']} in a row."
        evidence = f"{traded / total:.0%} of the bars have volume"
    elif kind == "vwap_outside":
        said = f"{bar_count_text(count)} ({share:.1%}) have a vwap above their high or below their low."
        evidence = "further than a millionth of the price"
    else:
        # A quote stands as long as nobody changes it; a volume to the last share does not come again.
        usual = LONGEST_STANDING_QUOTE if not traded else FEWEST_REPEATS
        if row["longest_repeated"] < usual and (not traded or few or share < ANOMALY_SHARE):
            return None
        said = f"{bar_count_text(count)} repeat the bar before in every cell, up to {row['longest_repeated']} in a row."
        evidence = "open, high, low, close and volume are the same, and high is above low"
    loud = not few and share >= ANOMALY_SHARE
    if kind == "repeated":
        # Of few prices and round volumes one bar is like the one before by chance, hardly a third one.
        loud &= row["longest_repeated"] > 1 or share >= OFTEN_REPEATED
    if kind == "zero_volume_range":
        # Here and there a print of size 0 sets a price; volume that is lost is missing for bars in a row.
        loud &= share <= NO_VOLUME_AT_ALL and row["longest_zero_volume_range"] >= FEWEST_ANOMALIES
    return {
        **{name: row[name] for name in KEY},
        "check_name": {"zero_volume_range": "zero_volume", "vwap_outside": "vwap", "repeated": "repeated"}[kind],
        "severity": "warning" if loud else "info",
        "start_ts": row[f"first_{kind}"],
        "count": count,
        "value": share,
        "message": said,
        "evidence": f"{evidence}; the first at {row[f'first_{kind}']:%Y-%m-%d %H:%M} UTC",
        "remedy": "ask the vendor how these cells are made",
    }


def bar_count_text(count: int) -> str:
    """Format a count with its noun: `1 bar`, `1,200 bars`."""
    return f"{count:,} bar{'s' if count != 1 else ''}"


@register
class SpikeCheck(BarCheck):
    """Bars stick out of both neighbours and revert."""

    name, severities = "spike", ("warning", "info")
    reads = (BAR_SANITY, PRESENCE_COUNTS)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return one finding per series with spikes that fewer than 30 % of the other series shared."""
        return spikes(measured.frames, measured.once(scale_blocks_of))


@register
class SplitCheck(BarCheck):
    """A split of a share looks unadjusted."""

    name, severities = "split", ("warning",)
    reads = (BAR_SANITY, SAMPLED_PRICES)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return a finding per trade jump from close to next open by a simple ratio that the session's close keeps.

        Jumps that begin or end a block in another unit (`scale`) or an adjusted copy (`basis`) are none.
        """
        return splits_of(measured)


@register
class StaleCheck(BarCheck):
    """A price stands for many bars, with volume."""

    name, severities = "stale", ("warning",)
    reads = (BAR_SANITY, QUIET_BARS)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return one warning per series with runs of rangeless bars improbable for it, those of `filled` left out."""
        return stale(measured.frames, measured.once(filled_runs_of))


@register
class RepeatedCheck(BarCheck):
    """Bars repeat the one before in every cell."""

    name, severities = "repeated", ("warning", "info")
    reads = (BAR_SANITY,)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return one finding per series with bars equal to the prior one; few or short runs are skipped."""
        return anomalies(measured.frames, "repeated")


@register
class ZeroVolumeCheck(BarCheck):
    """Bars have a range without volume."""

    name, severities = "zero_volume", ("warning", "info")
    reads = (BAR_SANITY,)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return one finding per series with ranged bars without volume, if at least half its bars have volume."""
        return anomalies(measured.frames, "zero_volume_range")


@register
class VwapCheck(BarCheck):
    """The vwap of bars lies outside low to high."""

    name, severities = "vwap", ("warning", "info")
    reads = (BAR_SANITY,)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return one finding per series with a vwap over a millionth of the price outside low..high."""
        return anomalies(measured.frames, "vwap_outside")
