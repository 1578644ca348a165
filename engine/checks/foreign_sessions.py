"""Check `foreign_session`: sessions whose prices lie at another level and come back: another symbol's rows. Pure: frame in, frame out."""

from __future__ import annotations

from typing import Any

import polars as pl

from engine.checks.check import SERIES, BarCheck, JudgeInput, register
from engine.checks.findings import findings_of
from engine.checks.price_scale import jumps_apart_from, scale_blocks_of
from engine.checks.sanity import BAR_SANITY, jumps_across_parts
from engine.checks.tick_grid import SAMPLED_PRICES, seams_of
from engine.interval import Interval
from engine.schema import Schema

MOST_DAYS = 10  # from the jump to the one back
SAME_LEVEL = 0.12  # logarithm: before the first jump and after the second one, and of the other symbol
FOREIGN_SESSIONS: Schema = {
    **SERIES,
    "session": pl.Date(),
    "ts": pl.Datetime("us", "UTC"),
    "back": pl.Date(),
    "before": pl.Float64(),
    "open": pl.Float64(),
    "after": pl.Float64(),
    "other": pl.String(),
}
KEY = list(SERIES)

Row = dict[str, Any]


def foreign_sessions(jumps: pl.DataFrame) -> pl.DataFrame:
    """Return `FOREIGN_SESSIONS`: per series the sessions from a jump of the price to the one back, within 10 days, of trades within a day.

    `other` is the first symbol, of the same price type and interval, that goes to the level of this one at the same session,
    from the level that this one goes to; null without one.

    Parameters
    ----------
    jumps : DataFrame of `sanity.SANITY["jumps"]`
    """
    intraday = [text for text in jumps["interval"].unique() if Interval.parse(text).is_intraday]
    traded = jumps.filter((pl.col("price_type") == "last") & pl.col("interval").is_in(intraday)).sort(*KEY, "session")
    following = [
        pl.col(name).shift(-1).over(KEY).alias(to)
        for name, to in (("session", "back"), ("open", "after"), ("before", "last"))
    ]
    returns = (pl.col("after") / pl.col("before")).log().abs() <= SAME_LEVEL
    stays = (pl.col("last") / pl.col("open")).log().abs() <= 2 * SAME_LEVEL
    soon = (pl.col("back") - pl.col("session")).dt.total_days() <= MOST_DAYS
    away = traded.with_columns(following).filter((returns & stays & soon).fill_null(value=False))
    if away.is_empty():
        return pl.DataFrame(schema=dict(FOREIGN_SESSIONS))
    theirs = away.select(
        "price_type",
        "interval",
        "session",
        pl.col("symbol").alias("other"),
        pl.col("before").alias("other_before"),
        pl.col("open").alias("other_open"),
    )
    mirrored = (
        away.join(theirs, on=["price_type", "interval", "session"])
        .filter(
            pl.col("other") != pl.col("symbol"),
            (pl.col("open") / pl.col("other_before")).log().abs() <= SAME_LEVEL,
            (pl.col("other_open") / pl.col("before")).log().abs() <= SAME_LEVEL,
        )
        .group_by(*KEY, "session")
        .agg(pl.col("other").min())
    )
    named = away.join(mirrored, on=[*KEY, "session"], how="left", maintain_order="left")
    return named.select(pl.col(name).cast(dtype) for name, dtype in FOREIGN_SESSIONS.items())


def foreign_sessions_of(measured: JudgeInput) -> pl.DataFrame:
    """Return `foreign_sessions` of all jumps but those of blocks in another unit (check `scale`) and of adjusted copies (`basis`)."""
    jumps = pl.concat([measured.frames["jumps"], jumps_across_parts(measured.frames["ends"])])
    unowned = jumps.join(measured.once(seams_of), on=[*KEY, "session"], how="anti", maintain_order="left")
    return foreign_sessions(jumps_apart_from(unowned, measured.once(scale_blocks_of)))


def foreign_finding(row: Row) -> Row:
    """Build the finding, an error where another symbol went the other way; `value` is the ratio of the levels."""
    ratio = row["open"] / row["before"]
    mirror = f"; {row['other']} goes to the level of this one and back at the same time" if row["other"] else ""
    exchange = f"exchange the rows of the two symbols in the sessions from {row['session']} to before {row['back']}, if another source says so"
    return {
        **{name: row[name] for name in KEY},
        "check_name": "foreign_session",
        "severity": "error" if row["other"] else "warning",
        "session": row["session"],
        "start_ts": row["ts"],
        "count": 1,
        "value": ratio,
        "message": f"Prices from {row['session']} to before {row['back']} are x{ratio:.3g} of those before and after: they look like another symbol's.",
        "evidence": f"{row['before']:g} at the close before, {row['open']:g} at the open, {row['after']:g} at the open after; a split does not come back{mirror}",
        "remedy": exchange if row["other"] else "compare these sessions with another source",
    }


@register
class ForeignSessionCheck(BarCheck):
    """Sessions of a series have the prices of another symbol."""

    name, severities = "foreign_session", ("error", "warning")
    reads = (BAR_SANITY, SAMPLED_PRICES)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return a finding per run of sessions at another level that comes back."""
        return findings_of([foreign_finding(row) for row in measured.once(foreign_sessions_of).iter_rows(named=True)])
