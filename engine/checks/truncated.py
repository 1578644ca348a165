"""Sessions whose rows begin late or end early although the series would go on. Pure: frame in, frame out.

1. `truncations` finds, in one part of a lake, sessions that begin or end well inside, against the series' own rate of
   rows in that session; and what the symbol's other price types and the other series did then.
2. `truncated` says it, once all parts are there, and whether coarser bars were made from the same short data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from engine.checks.check import SERIES, BarCheck, JudgeInput, MeasureInput, register
from engine.checks.findings import findings_of
from engine.checks.sanity import BAR_SANITY
from engine.grid import SessionGrid
from engine.keys import pack_columns, pack_pair
from engine.quality.contiguous_runs import SlotRuns, run_starts
from engine.schema import TS, Schema, empty

TRUNCATIONS: Schema = {
    **SERIES,
    "session": pl.Date(),
    "is_tail": pl.Boolean(),
    "ts": TS,
    "slots": pl.Int64(),
    "of": pl.Int64(),
    "rate": pl.Float64(),
    "sibling": pl.String(),
    "sibling_ts": TS,
    "peers": pl.Int64(),
    "peers_on": pl.Int64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
}
FEWEST_SLOTS, LEAST_SHARE = 5, 0.05  # of a session, that are missing at its edge
CHANCE, HIGHEST_RATE = 1e-6, 0.98
LEAST_RATE = 0.2  # of slots with a row: what is thinner comes in clusters, and ends where it likes
ON_SHARE = 0.5  # whoever lacks at most so much of it went on
FEWEST_PEERS = 3
SAME = 1e-6
SAME_VOLUME = 0.01

Row = dict[str, Any]
KEY = list(SERIES)


def truncations(runs: SlotRuns, series: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """Session heads and tails that lack >= 5 slots and 5 %, chance < 1e-6 at the row rate (from 20 %); intraday only.

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
    DataFrame of `TRUNCATIONS`
        `ts` is the last row before the cut, or the first one after it; `slots` are missing of the `of` of the session;
        `sibling` is another price type of the symbol that went on, until `sibling_ts`; `peers_on` of `peers` other
        series of the session went on.
    """
    if not grid.interval.is_intraday or not len(runs.row):
        return empty(TRUNCATIONS)
    spans = session_spans(runs, grid)
    sides = pl.concat([missing_at_edge(spans, is_tail=is_tail) for is_tail in (True, False)])
    missing, of = pl.col("slots"), pl.col("of")
    unlikely = missing * (1 - pl.col("rate").clip(0, HIGHEST_RATE)).log() < np.log(CHANCE)
    is_long = (missing >= FEWEST_SLOTS) & (missing >= LEAST_SHARE * of)
    cut = sides.filter(is_long & unlikely & (pl.col("rate") >= LEAST_RATE))
    if cut.is_empty():
        return empty(TRUNCATIONS)
    return with_witnesses(cut, sides, series, fold_sessions(runs.rows, cut))


def truncated(cut: pl.DataFrame, lifetimes: pl.DataFrame, coarse: pl.DataFrame | None = None) -> pl.DataFrame:
    """A finding per series and side, of the worst session: off the data's edge, not shared by all, then most slots.

    Parameters
    ----------
    cut : DataFrame of `TRUNCATIONS`
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
    told = cut.join(lifetimes, on=KEY, how="left", maintain_order="left")
    edge = pl.col("session") == pl.when("is_tail").then(pl.col("last")).otherwise(pl.col("first"))
    others = pl.col("sibling").is_not_null() | (
        (pl.col("peers") >= FEWEST_PEERS) & (pl.col("peers_on") >= ON_SHARE * pl.col("peers"))
    )
    everybody = (pl.col("peers") >= FEWEST_PEERS) & (pl.col("peers_on") == 0)
    judged = told.with_columns(
        (edge.fill_null(value=False) & ~others).alias("is_edge"), everybody.alias("everybody"), (~others).alias("alone")
    ).sort("is_edge", "everybody", "alone", -pl.col("slots"), "session")
    if coarse is not None and cut.height:
        judged = judged.join(
            compare_with_coarse(judged, coarse), on=[*KEY, "session"], how="left", maintain_order="left"
        )
    worst = judged.group_by(*KEY, "is_tail", maintain_order=True).agg(pl.all().first(), pl.len().alias("sessions"))
    return findings_of([truncated_finding(row) for row in worst.iter_rows(named=True)])


def session_spans(runs: SlotRuns, grid: SessionGrid) -> pl.DataFrame:
    """Per series and session with rows: slots missing at `head`, `tail`, `of` how many, `rate` (<= overall), ends."""
    chosen = grid.table.filter(pl.col("chosen") & (pl.col("slots") > 0))
    slots = chosen["slots"].to_numpy().astype(np.int64)
    starts = np.cumsum(slots) - slots
    days = chosen["session"].cast(pl.Int32).to_numpy()
    opens = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
    of_day = np.cumsum(np.diff(days, prepend=days[:1] - 1) != 0) - 1
    owner = np.searchsorted(chosen["ordinal"].to_numpy(), runs.ordinal)
    head = run_starts(of_day[owner], runs.series)
    tail = np.append(head[1:], [len(owner)]) - 1
    day, number = of_day[owner[head]], starts[owner] + runs.slot
    begin, end = runs.row[head], runs.row[tail] + runs.size[tail] - 1
    total = np.append(starts[opens[1:]], slots.sum()) - starts[opens]
    first, last = number[head] - starts[opens][day], (number + runs.size - 1)[tail] - starts[opens][day]
    placed = runs.rows
    spans = pl.DataFrame(
        {
            "series": placed["series"].gather(begin),
            "session": pl.Series(days[opens][day]).cast(pl.Date),
            "head": first,
            "tail": total[day] - 1 - last,
            "of": total[day],
            "rate": (end - begin + 1) / (last - first + 1),
            "first_ts": placed["ts"].gather(begin),
            "last_ts": placed["ts"].gather(end),
            "begin": begin,
            "end": end,
        }
    )
    # A session that is cut to a few rows looks dense; the series as a whole tells how dense it is.
    overall = (pl.col("end") - pl.col("begin") + 1).sum().over("series") / pl.col("of").sum().over("series")
    return spans.with_columns(pl.min_horizontal("rate", overall).alias("rate"))


def missing_at_edge(spans: pl.DataFrame, *, is_tail: bool) -> pl.DataFrame:
    """Select the head or tail of every session as `slots` missing (0 too) and `ts` of the first or last row."""
    missing, ts = ("tail", "last_ts") if is_tail else ("head", "first_ts")
    return spans.select(
        "series",
        "session",
        pl.lit(is_tail).alias("is_tail"),
        pl.col(ts).alias("ts"),
        pl.col(missing).alias("slots"),
        "of",
        "rate",
        "begin",
        "end",
    )


def fold_sessions(placed: pl.DataFrame, cut: pl.DataFrame) -> pl.DataFrame:
    """Return per cut session, in its order, highest `high`, lowest `low`, summed `volume` (null as 0), last `close`."""
    begin, end = cut["begin"].to_numpy(), cut["end"].to_numpy() + 1
    fold = {}
    for name, by in (("high", np.maximum), ("low", np.minimum), ("volume", np.add)):
        values = placed[name].fill_null(0.0).to_numpy() if name in placed.columns else np.zeros(placed.height)
        fold[name] = [by.reduce(values[a:b]) for a, b in zip(begin, end, strict=True)]
    return pl.DataFrame({**fold, "close": placed["close"].gather(end - 1)})


def with_witnesses(cut: pl.DataFrame, sides: pl.DataFrame, series: pl.DataFrame, folds: pl.DataFrame) -> pl.DataFrame:
    """`TRUNCATIONS` of the cuts: folds, sibling price type that lacks least (at most half), `peers`, `peers_on`."""
    named = sides.join(series.select("series", *SERIES), on="series", how="inner")
    key = ["session", "is_tail"]
    mine = cut.hstack(folds).join(series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
    mine = mine.with_row_index("cut")
    lacking = pl.col("slots_right") <= (1 - ON_SHARE) * pl.col("slots")
    other = pl.col("price_type_right") != pl.col("price_type")
    kin = (
        mine.select("cut", "symbol", "interval", "price_type", "slots", *key)
        .join(named.select("symbol", "interval", "price_type", "slots", "ts", *key), on=["symbol", "interval", *key])
        .filter(other & lacking)
        .sort("cut", "slots_right")
        .group_by("cut", maintain_order=True)
        .agg(pl.col("price_type_right").first().alias("sibling"), pl.col("ts").first().alias("sibling_ts"))
    )
    peers = count_peers(mine, named)
    return (
        mine.join(kin, on="cut", how="left", maintain_order="left")
        .hstack(peers)
        .select(pl.col(name).cast(dtype) for name, dtype in TRUNCATIONS.items())
    )


def count_peers(mine: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """Return per cut `peers` (other symbols) and `peers_on` (best price type lacks at most half as many slots)."""
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


def compare_with_coarse(cut: pl.DataFrame, coarse: pl.DataFrame) -> pl.DataFrame:
    """Coarser bars of cut sessions that have some (first interval by name); `agrees`: same prices, volume to 1 %."""
    key = ["symbol", "price_type", "session"]
    folded = (
        coarse.sort("ts")
        .group_by(*key, pl.col("interval").alias("coarse"), maintain_order=True)
        .agg(
            pl.col("high").max().alias("coarse_high"),
            pl.col("low").min().alias("coarse_low"),
            pl.col("close").last().alias("coarse_close"),
            pl.col("volume").sum().alias("coarse_volume"),
        )
    )
    near = (pl.col("coarse_volume") - pl.col("volume")).abs() <= SAME_VOLUME * pl.col("volume")
    same = [(pl.col(f"coarse_{n}") - pl.col(n)).abs() <= SAME * pl.col(n) for n in ("high", "low", "close")]
    beside = cut.select(*KEY, "session", "high", "low", "close", "volume").unique().join(folded, on=key)
    judged = beside.with_columns(pl.all_horizontal(near, *same).alias("agrees"))
    return (
        judged.sort("coarse")
        .group_by(*KEY, "session", maintain_order=True)
        .agg(pl.col("coarse").first(), pl.col("agrees").first(), pl.col("coarse_volume").first())
    )


def truncated_finding(row: Row) -> Row:
    """Build the finding: `info` at the data's edge or if all peers stop, else `warning`; `value` missing slots."""
    side = "stop" if row["is_tail"] else "begin only"
    where = "before its end" if row["is_tail"] else "after its open"
    said = f"Rows of {row['session']} {side} at {row['ts']:%Y-%m-%d %H:%M} UTC, {row['slots']:,} of {row['of']:,} slots {where}"
    more = f"; {row['sessions'] - 1:,} more sessions are cut like that" if row["sessions"] > 1 else ""
    return {
        **{name: row[name] for name in KEY},
        "check_name": "truncated",
        "severity": "info" if row["is_edge"] or row["everybody"] else "warning",
        "session": row["session"],
        "start_ts": row["ts"],
        "count": row["sessions"],
        "value": float(row["slots"]),
        "message": f"{said}{more}.",
        "evidence": truncation_evidence(row),
        "remedy": "load the session again from the source; do not trust coarser bars made from it",
    }


def truncation_evidence(row: Row) -> str:
    """Return the evidence text: row rate, then if any sibling, peers going on, data edge, coarse bar agreement."""
    said = [f"This series has a row in {row['rate']:.0%} of its slots"]
    if row["sibling"] is not None:
        said.append(
            f"{row['sibling']} of the same symbol has rows {'until' if row['is_tail'] else 'from'} {row['sibling_ts']:%Y-%m-%d %H:%M} UTC"
        )
    if row["peers"]:
        alike = ": an early close, or an outage of the feed" if row["everybody"] else ""
        said.append(f"{row['peers_on']:,} of {row['peers']:,} other symbols go on{alike}")
    if row["is_edge"]:
        said.append("it is where the data of this series " + ("end" if row["is_tail"] else "begin"))
    if row.get("agrees") is not None:
        verb = (
            "agrees with the short data, so it was made from them"
            if row["agrees"]
            else "differs, so it was made from more"
        )
        said.append(f"the {row['coarse']} bar {verb} (volume {row['coarse_volume']:,.6g} and {row['volume']:,.6g})")
    return "; ".join(said)


def lifetimes(ends: pl.DataFrame) -> pl.DataFrame:
    """Return `first` and `last` session with a row of each series, from `sanity.ENDS` of all parts."""
    return ends.group_by(KEY).agg(pl.col("session").min().alias("first"), pl.col("session").max().alias("last"))


@register
class TruncatedCheck(BarCheck):
    """A session begins late or ends early although the series would go on."""

    name, severities = "truncated", ("warning", "info")
    schema, reads, needs_places = TRUNCATIONS, (BAR_SANITY,), True

    def measure(self, part: MeasureInput) -> pl.DataFrame:
        """Return sessions of a part that begin late or end early beyond chance (`TRUNCATIONS`)."""
        return truncations(part.runs, part.series, part.grid)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return one finding per series and side; `info` at the edge of its data or if all peers stop."""
        return truncated(measured.frames[self.name], lifetimes(measured.frames["ends"]), measured.coarse)
