"""What is said of bars that stood out: spikes, splits, stale runs, volume and price at odds. Pure: frame in, frame out."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from engine.checks.calendar_check import ATTENDING
from engine.checks.clock_profile import SERIES
from engine.checks.findings import findings_of
from engine.checks.sanity import LONGEST_CLOSED_DAYS, SMALLEST_JUMP, Sanity

MARKET_SHARE, FEWEST_PEERS = 0.3, 4  # of the series that have the slot, and without the one that is judged
# Not 4:3 and 5:4: shares move as far in a night.
RATIOS = ((2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (10, 1), (15, 1), (20, 1), (25, 1), (30, 1), (50, 1), (100, 1), (3, 2), (5, 2))  # fmt: skip
NEAR_RATIO, STAYS = 0.04, 0.12
STALE_CHANCE = 1e-6
FEWEST_REPEATS, LONGEST_STANDING_QUOTE, FEWEST_ODD = 3, 20, 3
NO_VOLUME_AT_ALL = 0.1  # of the bars: then the source gives none for a stretch
ODD_SHARE, TRADED_SHARE = 0.001, 0.5

Row = dict[str, Any]
KEY = list(SERIES)


def sanity_findings(kept: Sanity, presence: pl.DataFrame) -> pl.DataFrame:
    """Judge what a pass over bars kept.

    Parameters
    ----------
    kept : Sanity
        Of all parts, summed.
    presence : DataFrame of `calendar_check.PRESENCE`
        Summed; how many series have each slot. Where it is empty, all series of `kept` count as peers.

    Returns
    -------
    DataFrame of `findings.FINDINGS`
        Checks `spike`, `stale`, `repeated`, `zero_volume`, `vwap` (one per series each) and `split` (one per event).
    """
    judged = [spikes(kept, presence), splits(kept), stale(kept), *(odd(kept, check) for check in ODD_CHECKS)]
    return pl.concat(judged)


def spikes(kept: Sanity, presence: pl.DataFrame) -> pl.DataFrame:
    """Bars beyond both neighbours that the market does not explain; parameters as of `sanity_findings`."""
    peers = presence.filter(pl.col("minute") != ATTENDING).select("session", "minute", pl.col("present").alias("peers"))
    moved = pl.when("up").then(pl.col("up_right")).otherwise(pl.col("down")).fill_null(0)
    beside = kept.spikes.join(
        kept.moves.select("ts", pl.col("up").alias("up_right"), "down"), on="ts", how="left", maintain_order="left"
    ).join(peers, on=["session", "minute"], how="left", maintain_order="left")
    others = pl.col("peers").fill_null(kept.counts.select(KEY).n_unique()) - 1
    judged = beside.with_columns(others.alias("others"), (moved - 1).clip(0).alias("with_it"))
    of_market = (pl.col("with_it") >= MARKET_SHARE * pl.col("others")) & (pl.col("others") >= FEWEST_PEERS)
    times = (pl.col("size").abs() / pl.col("scale")).alias("times")
    summed = judged.with_columns(of_market.alias("of_market"), times).group_by(KEY, maintain_order=True).agg(
        pl.col("of_market").sum().alias("set_aside"),
        pl.struct("ts", "session", "price", "beside", "size", "times", "bars", "others", "with_it")
        .filter(~pl.col("of_market")).sort_by(pl.col("times").filter(~pl.col("of_market")), descending=True).alias("own"),
    )  # fmt: skip
    return findings_of([_spike(row) for row in summed.iter_rows(named=True) if row["own"]])


def splits(kept: Sanity) -> pl.DataFrame:
    """Jumps between two sessions to a simple ratio that stay; parameter as of `sanity_findings`."""
    jumps = pl.concat([kept.jumps, _across_parts(kept.ends)]).filter(pl.col("price_type") == "last")
    logs = np.log([up / down for up, down in RATIOS])
    with np.errstate(divide="ignore", invalid="ignore"):  # a price may be zero or below
        opened, closed = (np.log((jumps["before"] / jumps[name]).to_numpy()) for name in ("open", "close"))
    off = np.abs(np.abs(opened)[:, None] - logs[None, :])
    nearest = off.argmin(1) if len(opened) else np.zeros(0, np.int64)
    stays = np.abs(np.abs(closed) - logs[nearest]) <= STAYS
    fits = (off.min(1, initial=np.inf) <= NEAR_RATIO) & stays & (np.sign(opened) == np.sign(closed))
    return findings_of([
        _split(row, RATIOS[nearest[at]], is_forward=bool(opened[at] > 0))
        for at, row in enumerate(jumps.iter_rows(named=True)) if fits[at]
    ])  # fmt: skip


def stale(kept: Sanity) -> pl.DataFrame:
    """Runs of bars at one price, with volume, that a series' habits do not explain; parameter as of `sanity_findings`."""
    wide = kept.counts.pivot("kind", index=KEY, values="rows", sort_columns=True)
    if "flat_runs" not in wide.columns:
        return findings_of([])
    runs = kept.runs.join(wide.select(*KEY, "flat", "flat_runs"), on=KEY, how="inner", maintain_order="left")
    # How often such a bar follows another, as the rest of the series has it; its root, as prices that stand tend to stand on.
    others, other_runs = pl.col("flat") - pl.col("bars"), pl.col("flat_runs") - 1
    again = (others - other_runs + 1) / (others + 5)
    chance = pl.col("flat_runs").log() + (pl.col("bars") - 1) * again.clip(1e-4, 0.999).log() / 2
    odd_runs = runs.with_columns(again.alias("again")).filter(chance < np.log(STALE_CHANCE))
    summed = odd_runs.sort("bars", descending=True).group_by(KEY, maintain_order=True).agg(
        pl.len().alias("runs"), pl.col("bars").sum().alias("rows"), pl.col("bars", "start", "session", "price", "again").first()
    )  # fmt: skip
    return findings_of([_stale(row) for row in summed.iter_rows(named=True)])


ODD_CHECKS = ("zero_volume_range", "vwap_outside", "repeated")


def odd(kept: Sanity, kind: str) -> pl.DataFrame:
    """Rows at odds with themselves or with the row before; `kind` is one of `ODD_CHECKS`."""
    wide = kept.counts.pivot("kind", index=KEY, values=["rows", "first", "longest"], sort_columns=True)
    if f"rows_{kind}" not in wide.columns:
        return findings_of([])
    found = wide.filter(pl.col(f"rows_{kind}") > 0).sort(KEY)
    rows = [_odd(row, kind) for row in found.iter_rows(named=True)]
    return findings_of([row for row in rows if row])


def _across_parts(ends: pl.DataFrame) -> pl.DataFrame:
    """Jumps from the last session of one part to the first one of the next."""
    ordered = ends.sort([*KEY, "session", "is_last"])
    beside = ordered.with_columns(
        pl.col("close").shift().over(KEY).alias("before"), pl.col("session").shift().over(KEY).alias("session_before"),
        pl.col("is_last").shift().over(KEY).alias("was_last"),
    )  # fmt: skip
    days = (pl.col("session") - pl.col("session_before")).dt.total_days()
    far = (pl.col("open") / pl.col("before")).log().abs() > SMALLEST_JUMP
    crossing = (
        ~pl.col("is_last") & pl.col("was_last").fill_null(value=False) & days.is_between(1, LONGEST_CLOSED_DAYS) & far
    )
    return beside.filter(crossing.fill_null(value=False)).select(*KEY, "session", "ts", "before", "open", "close")


def _spike(row: Row) -> Row:
    own, worst = row["own"], row["own"][0]
    aside = f"; {row['set_aside']} more set aside: most series moved with them" if row["set_aside"] else ""
    return {
        **{name: row[name] for name in KEY},
        "check": "spike",
        "severity": "warning" if row["price_type"] == "last" else "info",
        "session": worst["session"],
        "start": worst["ts"],
        "count": len(own),
        "value": worst["size"],
        "message": (
            f"{_bars(len(own))} stick out of both neighbours and revert; the worst, {worst['ts']:%Y-%m-%d %H:%M} UTC, "
            f"has {worst['price']:g} where the bars beside it reach {worst['beside']:g} ({worst['size']:+.2%})."
        ),
        "evidence": (
            f"{worst['times']:.0f} times the usual move from bar to bar, {worst['bars']} bar(s) wide; "
            f"{worst['with_it']} of {worst['others']} other series moved with it{aside}"
        ),
        "remedy": "compare with another source; refuse the bars, or ask the vendor for a correction",
    }


def _split(row: Row, ratio: tuple[int, int], *, is_forward: bool) -> Row:
    shown = f"{ratio[0]}:{ratio[1]}" if is_forward else f"{ratio[1]}:{ratio[0]}"
    return {
        **{name: row[name] for name in KEY},
        "check": "split",
        "severity": "warning",
        "session": row["session"],
        "start": row["ts"],
        "count": 1,
        "value": row["before"] / row["open"],
        "message": f"A {shown} split of {row['session']} looks unadjusted: {row['before']:g} at the close before, {row['open']:g} at the open.",
        "evidence": f"the ratio is {row['before'] / row['open']:.4f}, and the session closes at {row['close']:g}",
        "remedy": "adjust earlier prices and volumes by the vendor's split factors, or say that prices are raw",
    }


def _stale(row: Row) -> Row:
    return {
        **{name: row[name] for name in KEY},
        "check": "stale",
        "severity": "warning",
        "session": row["session"],
        "start": row["start"],
        "count": row["rows"],
        "value": float(row["bars"]),
        "message": f"{_bars(row['bars'])} in a row stand at {row['price']:g} without range, though with volume; {row['runs']:,} such runs in all.",
        "evidence": f"apart from that run, such a bar is followed by another in {max(row['again'], 0):.0%} of cases",
        "remedy": "compare with another source: a price that was carried forward is no trade",
    }


def _odd(row: Row, kind: str) -> Row | None:
    count, total, traded = row[f"rows_{kind}"], row["rows_rows"], row.get("rows_traded") or 0
    share = count / total
    few = count < FEWEST_ODD
    if kind == "zero_volume_range":
        if traded < TRADED_SHARE * total:
            return None
        said = f"{_bars(count)} ({share:.1%}) have a range and no volume."
        evidence = f"{traded / total:.0%} of the bars have volume"
    elif kind == "vwap_outside":
        said = f"{_bars(count)} ({share:.1%}) have a vwap above their high or below their low."
        evidence = "further than a millionth of the price"
    else:
        # A quote stands as long as nobody changes it; a volume to the last share does not come again.
        usual = LONGEST_STANDING_QUOTE if not traded else FEWEST_REPEATS
        if row["longest_repeated"] < usual and (not traded or few or share < ODD_SHARE):
            return None
        said = f"{_bars(count)} repeat the bar before in every cell, up to {row['longest_repeated']} in a row."
        evidence = "open, high, low, close and volume are the same, and high is above low"
    loud = not few and share >= ODD_SHARE and (kind != "zero_volume_range" or share <= NO_VOLUME_AT_ALL)
    return {
        **{name: row[name] for name in KEY},
        "check": {"zero_volume_range": "zero_volume", "vwap_outside": "vwap", "repeated": "repeated"}[kind],
        "severity": "warning" if loud else "info",
        "start": row[f"first_{kind}"],
        "count": count,
        "value": share,
        "message": said,
        "evidence": f"{evidence}; the first at {row[f'first_{kind}']:%Y-%m-%d %H:%M} UTC",
        "remedy": "ask the vendor how these cells are made",
    }


def _bars(count: int) -> str:
    return f"{count:,} bar{'s' if count != 1 else ''}"
