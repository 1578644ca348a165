"""Sessions whose rows begin late or end early although the series would go on. Pure: frame in, frame out.

1. `cut_sessions` finds, in one part of a lake, sessions that begin or end well inside, against the series' own rate of
   rows in that session; and what the symbol's other price types and the other series did then.
2. `truncated` says it, once all parts are there, and whether coarser bars were made from the same short data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from engine.checks.clock_profile import SERIES
from engine.checks.findings import findings_of
from engine.grid import SessionGrid
from engine.keys import pack_columns, pack_pair
from engine.quality.contiguous_runs import SlotRuns, begins
from engine.schema import TS, Schema, empty

CUTS: Schema = {
    **SERIES, "session": pl.Date(), "is_tail": pl.Boolean(), "ts": TS, "slots": pl.Int64(), "of": pl.Int64(),
    "rate": pl.Float64(), "sibling": pl.String(), "sibling_ts": TS, "peers": pl.Int64(), "peers_on": pl.Int64(),
    "high": pl.Float64(), "low": pl.Float64(), "close": pl.Float64(), "volume": pl.Float64(),
}  # fmt: skip
FEWEST_SLOTS, LEAST_SHARE = 5, 0.05  # of a session, that are missing at its edge
CHANCE, HIGHEST_RATE = 1e-6, 0.98
LEAST_RATE = 0.2  # of slots with a row: what is thinner comes in clusters, and ends where it likes
ON_SHARE = 0.5  # whoever lacks at most so much of it went on
FEWEST_PEERS = 3
SAME = 1e-6
SAME_VOLUME = 0.01

Row = dict[str, Any]
KEY = list(SERIES)


def cut_sessions(runs: SlotRuns, series: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """Sessions that begin or end well inside.

    Parameters
    ----------
    runs : SlotRuns
        Of rows with `ts, high, low, close, volume` too.
    series : DataFrame
        `series, symbol, price_type, interval`.
    grid : SessionGrid
        Of an intraday interval; of others the answer is empty.

    Returns
    -------
    DataFrame of `CUTS`
        `ts` is the last row before the cut, or the first one after it; `slots` are missing of the `of` of the session;
        `sibling` is another price type of the symbol that went on, until `sibling_ts`; `peers_on` of `peers` other
        series of the session went on.
    """
    if not grid.interval.is_intraday or not len(runs.row):
        return empty(CUTS)
    spans = _spans(runs, grid)
    sides = pl.concat([_side(spans, is_tail=is_tail) for is_tail in (True, False)])
    missing, of = pl.col("slots"), pl.col("of")
    unlikely = missing * (1 - pl.col("rate").clip(0, HIGHEST_RATE)).log() < np.log(CHANCE)
    is_long = (missing >= FEWEST_SLOTS) & (missing >= LEAST_SHARE * of)
    cut = sides.filter(is_long & unlikely & (pl.col("rate") >= LEAST_RATE))
    if cut.is_empty():
        return empty(CUTS)
    return _with_others(cut, sides, series, _folds(runs.rows, cut))


def truncated(cuts: pl.DataFrame, lifetimes: pl.DataFrame, coarse: pl.DataFrame | None = None) -> pl.DataFrame:
    """Say which sessions are truncated.

    Parameters
    ----------
    cuts : DataFrame of `CUTS`
        Of all parts.
    lifetimes : DataFrame
        `symbol, price_type, interval, first, last` (Date). A cut at the edge of a lifetime may be where the data begin
        or end: `info`, unless others went on; one that all symbols share is the venue's or the feed's, and `info` too.
    coarse : DataFrame, optional
        `symbol, price_type, interval, session, ts, high, low, close, volume` of the vendor's coarser bars.

    Returns
    -------
    DataFrame of `findings.FINDINGS`
        Check `truncated`, one per series and side; `count` is sessions, `value` the missing slots of the worst one.
    """
    told = cuts.join(lifetimes, on=KEY, how="left", maintain_order="left")
    edge = pl.col("session") == pl.when("is_tail").then(pl.col("last")).otherwise(pl.col("first"))
    others = pl.col("sibling").is_not_null() | ((pl.col("peers") >= FEWEST_PEERS) & (pl.col("peers_on") >= ON_SHARE * pl.col("peers")))  # fmt: skip
    everybody = (pl.col("peers") >= FEWEST_PEERS) & (pl.col("peers_on") == 0)
    judged = told.with_columns(
        (edge.fill_null(value=False) & ~others).alias("is_edge"), everybody.alias("everybody"), (~others).alias("alone")
    ).sort("is_edge", "everybody", "alone", -pl.col("slots"), "session")  # fmt: skip
    if coarse is not None and cuts.height:
        judged = judged.join(_coarse(judged, coarse), on=[*KEY, "session"], how="left", maintain_order="left")
    worst = judged.group_by(*KEY, "is_tail", maintain_order=True).agg(pl.all().first(), pl.len().alias("sessions"))
    return findings_of([_truncated(row) for row in worst.iter_rows(named=True)])


def _spans(runs: SlotRuns, grid: SessionGrid) -> pl.DataFrame:
    """First and last slot of each series and session, counted through its chosen segments."""
    chosen = grid.table.filter(pl.col("chosen") & (pl.col("slots") > 0))
    slots = chosen["slots"].to_numpy().astype(np.int64)
    starts = np.cumsum(slots) - slots
    days = chosen["session"].cast(pl.Int32).to_numpy()
    opens = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
    of_day = np.cumsum(np.diff(days, prepend=days[:1] - 1) != 0) - 1
    owner = np.searchsorted(chosen["ordinal"].to_numpy(), runs.ordinal)
    head = begins(of_day[owner], runs.series)
    tail = np.append(head[1:], [len(owner)]) - 1
    day, number = of_day[owner[head]], starts[owner] + runs.slot
    begin, end = runs.row[head], runs.row[tail] + runs.size[tail] - 1
    total = np.append(starts[opens[1:]], slots.sum()) - starts[opens]
    first, last = number[head] - starts[opens][day], (number + runs.size - 1)[tail] - starts[opens][day]
    placed = runs.rows
    spans = pl.DataFrame({
        "series": placed["series"].gather(begin), "session": pl.Series(days[opens][day]).cast(pl.Date),
        "head": first, "tail": total[day] - 1 - last, "of": total[day],
        "rate": (end - begin + 1) / (last - first + 1),
        "first_ts": placed["ts"].gather(begin), "last_ts": placed["ts"].gather(end), "begin": begin, "end": end,
    })  # fmt: skip
    # A session that is cut to a few rows looks dense; the series as a whole tells how dense it is.
    overall = (pl.col("end") - pl.col("begin") + 1).sum().over("series") / pl.col("of").sum().over("series")
    return spans.with_columns(pl.min_horizontal("rate", overall).alias("rate"))


def _side(spans: pl.DataFrame, *, is_tail: bool) -> pl.DataFrame:
    missing, ts = ("tail", "last_ts") if is_tail else ("head", "first_ts")
    return spans.select(
        "series", "session", pl.lit(is_tail).alias("is_tail"), pl.col(ts).alias("ts"), pl.col(missing).alias("slots"),
        "of", "rate", "begin", "end",
    )  # fmt: skip


def _folds(placed: pl.DataFrame, cut: pl.DataFrame) -> pl.DataFrame:
    """What the rows of each truncated session fold to."""
    begin, end = cut["begin"].to_numpy(), cut["end"].to_numpy() + 1
    fold = {}
    for name, by in (("high", np.maximum), ("low", np.minimum), ("volume", np.add)):
        values = placed[name].fill_null(0.0).to_numpy() if name in placed.columns else np.zeros(placed.height)
        fold[name] = [by.reduce(values[a:b]) for a, b in zip(begin, end, strict=True)]
    return pl.DataFrame({**fold, "close": placed["close"].gather(end - 1)})


def _with_others(cut: pl.DataFrame, sides: pl.DataFrame, series: pl.DataFrame, folds: pl.DataFrame) -> pl.DataFrame:
    named = sides.join(series.select("series", *SERIES), on="series", how="inner")
    key = ["session", "is_tail"]
    mine = cut.hstack(folds).join(series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
    mine = mine.with_row_index("cut")
    lacking = pl.col("slots_right") <= (1 - ON_SHARE) * pl.col("slots")
    other = pl.col("price_type_right") != pl.col("price_type")
    kin = mine.select("cut", "symbol", "interval", "price_type", "slots", *key).join(
        named.select("symbol", "interval", "price_type", "slots", "ts", *key), on=["symbol", "interval", *key]
    ).filter(other & lacking).sort("cut", "slots_right").group_by("cut", maintain_order=True).agg(
        pl.col("price_type_right").first().alias("sibling"), pl.col("ts").first().alias("sibling_ts")
    )  # fmt: skip
    peers = _peers(mine, named)
    return mine.join(kin, on="cut", how="left", maintain_order="left").hstack(peers).select(
        pl.col(name).cast(dtype) for name, dtype in CUTS.items()
    )  # fmt: skip


def _peers(mine: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """How many other symbols each session of `mine` has, and how many of them went on."""
    key = ["session", "is_tail"]
    # A symbol went on when one of its price types did; its own ones are no peers.
    best = named.group_by("symbol", *key).agg(pl.col("slots").min().alias("best"))
    groups = best.select(key).unique().with_row_index("group")
    ranked = best.join(groups, on=key)
    # Searched in one sorted list, and not joined: when a feed stops, every symbol is cut, and has all others for peers.
    places = np.sort(pack_columns(ranked, "group", "best"))
    at = mine.join(ranked, on=["symbol", *key], how="left", maintain_order="left")
    group = at["group"].cast(pl.Int64).to_numpy()
    limit = (at["slots"].to_numpy() * (1 - ON_SHARE)).astype(np.int64)
    low = np.searchsorted(places, pack_pair(group, 0))
    on = np.searchsorted(places, pack_pair(group, limit), side="right")
    there = np.searchsorted(places, pack_pair(group + 1, 0)) - low
    own = at["best"].to_numpy() <= limit
    return pl.DataFrame({"peers": there - 1, "peers_on": on - low - own})


def _coarse(cuts: pl.DataFrame, coarse: pl.DataFrame) -> pl.DataFrame:
    """Whether coarser bars of the same series and session agree with what is left of it."""
    key = ["symbol", "price_type", "session"]
    folded = coarse.sort("ts").group_by(*key, pl.col("interval").alias("coarse"), maintain_order=True).agg(
        pl.col("high").max().alias("coarse_high"), pl.col("low").min().alias("coarse_low"),
        pl.col("close").last().alias("coarse_close"), pl.col("volume").sum().alias("coarse_volume"),
    )  # fmt: skip
    near = (pl.col("coarse_volume") - pl.col("volume")).abs() <= SAME_VOLUME * pl.col("volume")
    same = [(pl.col(f"coarse_{n}") - pl.col(n)).abs() <= SAME * pl.col(n) for n in ("high", "low", "close")]
    beside = cuts.select(*KEY, "session", "high", "low", "close", "volume").unique().join(folded, on=key)
    judged = beside.with_columns(pl.all_horizontal(near, *same).alias("agrees"))
    return judged.sort("coarse").group_by(*KEY, "session", maintain_order=True).agg(
        pl.col("coarse").first(), pl.col("agrees").first(), pl.col("coarse_volume").first()
    )  # fmt: skip


def _truncated(row: Row) -> Row:
    side = "stop" if row["is_tail"] else "begin only"
    where = "before its end" if row["is_tail"] else "after its open"
    said = f"Rows of {row['session']} {side} at {row['ts']:%Y-%m-%d %H:%M} UTC, {row['slots']:,} of {row['of']:,} slots {where}"
    more = f"; {row['sessions'] - 1:,} more sessions are cut like that" if row["sessions"] > 1 else ""
    return {
        **{name: row[name] for name in KEY},
        "check": "truncated",
        "severity": "info" if row["is_edge"] or row["everybody"] else "warning",
        "session": row["session"],
        "start": row["ts"],
        "count": row["sessions"],
        "value": float(row["slots"]),
        "message": f"{said}{more}.",
        "evidence": _evidence(row),
        "remedy": "load the session again from the source; do not trust coarser bars made from it",
    }


def _evidence(row: Row) -> str:
    said = [f"this series has a row in {row['rate']:.0%} of its slots"]
    if row["sibling"] is not None:
        said.append(f"{row['sibling']} of the same symbol has rows {'until' if row['is_tail'] else 'from'} {row['sibling_ts']:%Y-%m-%d %H:%M} UTC")  # fmt: skip
    if row["peers"]:
        alike = ": an early close, or an outage of the feed" if row["everybody"] else ""
        said.append(f"{row['peers_on']:,} of {row['peers']:,} other symbols go on{alike}")
    if row["is_edge"]:
        said.append("it is where the data of this series " + ("end" if row["is_tail"] else "begin"))
    if row.get("agrees") is not None:
        verb = "agrees with the short data, so it was made from them" if row["agrees"] else "differs, so it was made from more"  # fmt: skip
        said.append(f"the {row['coarse']} bar {verb} (volume {row['coarse_volume']:,.6g} and {row['volume']:,.6g})")
    return "; ".join(said)
