"""Quotes whose bid meets or passes the ask, from quote ticks or from bars of both sides. Pure: frame in, frame out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from engine.checks.check import BarCheck, JudgeInput, MeasureInput, register
from engine.checks.findings import findings_of
from engine.keys import Ints
from engine.quality.contiguous_runs import run_starts
from engine.schema import TS, Schema, empty

SPREADS: Schema = {
    "symbol": pl.String(),
    "interval": pl.String(),
    "session": pl.Date(),
    "quotes": pl.Int64(),
    "locked": pl.Int64(),
    "crossed": pl.Int64(),
    "widest": pl.Float64(),
    "first": TS,
}
MANY_CROSSED, MANY_LOCKED = 0.001, 0.05
MANY_CROSSED_CLOSES = 0.01  # of bars: the last bid and the last ask of a bar are rarely of the same instant
NO_SESSION = -(2**31)

Row = dict[str, Any]


def quote_spreads(quotes: pl.DataFrame) -> pl.DataFrame:
    """Count two-sided quotes per symbol and session: all, locked, crossed, widest and first crossed; null interval.

    Parameters
    ----------
    quotes : DataFrame
        `symbol, ts, session, bid, ask`; those with one side are left out.

    Returns
    -------
    DataFrame of `SPREADS`
        Per symbol and session: all two-sided quotes, those with bid = ask, those with bid > ask, by how much at most
        (a share of the ask), and the first crossed one. `interval` is null.
    """
    return count_spreads(
        quotes.select("symbol", pl.lit(None, pl.String).alias("interval"), "session", "ts", "bid", "ask")
    )


def bar_spreads(rows: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """Count bid and ask closes of equal symbol, interval and ts per session: all, locked, crossed; one side: empty.

    Parameters
    ----------
    rows : DataFrame
        `series, ts, session, close`, sorted by (series, ts).
    series : DataFrame
        `series, symbol, price_type, interval`.
    """
    sides = series.filter(pl.col("price_type").is_in(["bid", "ask"]))
    pairs = sides.filter(pl.col("price_type") == "bid").join(
        sides.filter(pl.col("price_type") == "ask"), on=["symbol", "interval"], suffix="_ask"
    )
    if pairs.is_empty():
        return empty(SPREADS)
    # Rows are sorted by (series, ts): the common stamps of two series are found without a join.
    numbers = rows["series"].to_numpy()
    heads = run_starts(numbers)
    spans = {
        int(numbers[low]): (int(low), int(high))
        for low, high in zip(heads, np.append(heads[1:], rows.height), strict=False)
    }
    ts = rows["ts"].to_physical().to_numpy()
    whole = [empty(SPREADS)]
    for bid, ask, symbol, interval in pairs.select("series", "series_ask", "symbol", "interval").iter_rows():
        if bid in spans and ask in spans:
            at_bid, at_ask = common_rows(ts, spans[bid], spans[ask])
            whole.append(spreads_of_pair(rows, at_bid, at_ask, symbol, interval))
    return pl.concat(whole)


def common_rows(ts: Ints, bid: tuple[int, int], ask: tuple[int, int]) -> tuple[Ints, Ints]:
    """Return the row numbers of the stamps that two spans of rows, each sorted by `ts`, have in common."""
    ours, theirs = ts[slice(*bid)], ts[slice(*ask)]
    if len(ours) == len(theirs) and np.array_equal(ours, theirs):
        return np.arange(*bid), np.arange(*ask)
    at = np.minimum(np.searchsorted(theirs, ours), len(theirs) - 1)
    held = np.flatnonzero(theirs[at] == ours)
    return held + bid[0], at[held] + ask[0]


def spreads_of_pair(rows: pl.DataFrame, at_bid: Ints, at_ask: Ints, symbol: str, interval: str) -> pl.DataFrame:
    """Return `SPREADS` of the closes of a bid and an ask series at common stamps, a row per session."""
    bid, ask = (rows["close"].gather(at).to_numpy() for at in (at_bid, at_ask))
    session = rows["session"].gather(at_bid)
    heads = run_starts(session.cast(pl.Int32).fill_null(NO_SESSION).to_numpy())
    crossed = np.flatnonzero(bid > ask)
    counted = pl.DataFrame(
        {
            "session": session.gather(heads),
            "quotes": np.diff(heads, append=len(bid)),
            "locked": np.add.reduceat(bid == ask, heads, dtype=np.int64) if len(heads) else heads,
        }
    ).with_row_index("at")
    worst = pl.DataFrame(
        {
            "at": pl.Series(np.searchsorted(heads, crossed, side="right") - 1, dtype=pl.UInt32),
            "wide": np.where(ask[crossed] > 0, bid[crossed] / ask[crossed] - 1, np.nan),
            "first": rows["ts"].gather(at_bid[crossed]),
        }
    ).group_by("at")
    wide = pl.col("wide").fill_nan(None).max().alias("widest")
    told = worst.agg(pl.len().alias("crossed"), wide, pl.col("first").min())
    named = counted.join(told, on="at", how="left", maintain_order="left").with_columns(
        pl.lit(symbol).alias("symbol"), pl.lit(interval).alias("interval"), pl.col("crossed").fill_null(0)
    )
    return named.select(pl.col(name).cast(dtype) for name, dtype in SPREADS.items())


def combine_spreads(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sum quotes, locked and crossed per symbol, interval and session over all parts; keep widest and first."""
    key = ["symbol", "interval", "session"]
    return (
        pl.concat([empty(SPREADS), *parts])
        .group_by(key)
        .agg(pl.col("quotes", "locked", "crossed").sum(), pl.col("widest").max(), pl.col("first").min())
        .sort(key)
    )


def crossed(counted: pl.DataFrame) -> pl.DataFrame:
    """Return one finding per symbol and interval with any crossed or > 5 % locked quotes; `value` the crossed share.

    Parameters
    ----------
    counted : DataFrame of `SPREADS`
        Summed.

    Returns
    -------
    DataFrame of `findings.FINDINGS`
        Check `crossed`, one per symbol; `count` is crossed quotes, `value` their share. `warning` where more than one in a
        thousand (closes of bars: in a hundred) is crossed or one in twenty locked. Symbols with neither have none.
    """
    key = ["symbol", "interval"]
    share = pl.col("crossed") / pl.col("quotes")
    worst = counted.with_columns(share.alias("share")).sort("share", "session", descending=[True, False])
    summed = worst.group_by(key).agg(
        pl.col("quotes", "locked", "crossed").sum(),
        pl.col("widest").max(),
        pl.col("first").min(),
        pl.len().alias("sessions"),
        pl.col("session").first().alias("worst"),
        pl.col("share").first().alias("worst_share"),
    )
    found = summed.filter((pl.col("crossed") > 0) | (pl.col("locked") > MANY_LOCKED * pl.col("quotes"))).sort(key)
    return findings_of([crossed_finding(row) for row in found.iter_rows(named=True)])


def count_spreads(quotes: pl.DataFrame) -> pl.DataFrame:
    """Count two-sided quotes per symbol, interval, session: all, bid = ask, bid > ask; widest crossing, first crossed `ts`."""
    two_sided = quotes.filter(pl.col("bid").is_not_null() & pl.col("ask").is_not_null())
    over = pl.col("bid") > pl.col("ask")
    counted = two_sided.group_by("symbol", "interval", "session").agg(
        pl.len().alias("quotes"),
        (pl.col("bid") == pl.col("ask")).sum().alias("locked"),
        over.sum().alias("crossed"),
        (pl.col("bid") / pl.col("ask") - 1).filter(over & (pl.col("ask") > 0)).max().alias("widest"),
        pl.col("ts").filter(over).min().alias("first"),
    )
    return counted.select(pl.col(name).cast(dtype) for name, dtype in SPREADS.items())


def crossed_finding(row: Row) -> Row:
    """Build the finding: `warning` above 0.1 % (closes: 1 %) crossed or 5 % locked, else `info`; `session`: the worst."""
    share, locked = row["crossed"] / row["quotes"], row["locked"] / row["quotes"]
    many = MANY_CROSSED if row["interval"] is None else MANY_CROSSED_CLOSES
    what = "quotes" if row["interval"] is None else f"{row['interval']} closes"
    # Prices of zero and below have no share.
    size = "" if row["widest"] is None else f", by up to {row['widest']:.4%} of the price"
    first = f"; the first at {row['first']:%Y-%m-%d %H:%M:%S} UTC" if row["crossed"] else ""
    return {
        "symbol": row["symbol"],
        "interval": row["interval"],
        "check_name": "crossed",
        "severity": "warning" if share > many or locked > MANY_LOCKED else "info",
        "session": row["worst"],
        "start_ts": row["first"],
        "count": row["crossed"],
        "value": share,
        "message": f"The bid is above the ask in {row['crossed']:,} of {row['quotes']:,} {what} ({share:.2%}){size}, and equal to it in {row['locked']:,} ({locked:.2%}).",
        "evidence": f"{row['sessions']:,} sessions, the worst {row['worst']}: {row['worst_share']:.2%} crossed{first}",
        "remedy": "do not trade on mid prices of these rows; ask the vendor whether both sides come from one book",
    }


@register
class CrossedCheck(BarCheck):
    """The bid is above the ask, or equal to it, in quote ticks or in the closes of bid and ask bars."""

    name, severities = "crossed", ("warning", "info")
    schema = SPREADS

    def measure(self, part: MeasureInput) -> pl.DataFrame:
        """Return spread counts of bid/ask bar closes and of quote ticks (`interval` null), concatenated."""
        return pl.concat([bar_spreads(part.rows, part.series), quote_spreads(part.quotes)])

    def combine(self, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Sum the spread counts of all parts by symbol, interval and session."""
        return combine_spreads(frames)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return one finding per symbol and interval with any crossed or over 5 % locked quotes."""
        return crossed(measured.frames[self.name])
