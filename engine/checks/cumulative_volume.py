"""Check `cumulative_volume`: bars that have the session's total so far for their volume. Pure: frame in, frame out."""

from __future__ import annotations

from typing import Any

import polars as pl

from engine.checks.check import SERIES, BarCheck, JudgeInput, register
from engine.checks.findings import findings_of
from engine.checks.session_sums import SESSION_SUMS

FEWEST_BARS = 20  # of a session
MOST_FALLS = 1  # a total that begins anew within the session, as at midnight
LEAST_RISING = 0.5  # of the bars, from the one before
LEAST_GROWTH = 0.6  # in powers of ten, from the smallest to the largest bar: about four times

Row = dict[str, Any]


def cumulative_volumes(sums: pl.DataFrame) -> pl.DataFrame:
    """Return a `cumulative_volume` error per series with sessions in which volume rises from bar to bar and does not fall.

    Parameters
    ----------
    sums : DataFrame of `session_sums.SUMS`
    """
    long = sums.filter(pl.col("traded") >= FEWEST_BARS)
    rises = pl.col("rises") >= LEAST_RISING * pl.col("bars")
    counts_up = rises & (pl.col("falls") <= MOST_FALLS) & (pl.col("most") - pl.col("least") >= LEAST_GROWTH)
    by_series = long.sort(*SERIES, "session").group_by(list(SERIES), maintain_order=True).agg(
        pl.len().alias("sessions"),
        counts_up.sum().alias("count"),
        pl.col("session", "ts", "bars").filter(counts_up).first(),
    )  # fmt: skip
    return findings_of([cumulative_finding(row) for row in by_series.iter_rows(named=True) if row["count"]])


def cumulative_finding(row: Row) -> Row:
    """Build the error: `count` of sessions, `value` their share."""
    return {
        **{name: row[name] for name in SERIES},
        "check_name": "cumulative_volume",
        "severity": "error",
        "session": row["session"],
        "start_ts": row["ts"],
        "count": row["count"],
        "value": row["count"] / row["sessions"],
        "message": f"Volume counts up through {row['count']:,} of {row['sessions']:,} sessions: each bar has the total so far.",
        "evidence": f"in the first of them, with {row['bars']:,} bars, it falls from one bar to the next at most once; by chance half of them would",
        "remedy": "take the differences from bar to bar of each session for the volume, or load bars with volumes of their own",
    }


@register
class CumulativeVolumeCheck(BarCheck):
    """Volumes are totals of the session so far."""

    name, severities = "cumulative_volume", ("error",)
    reads = (SESSION_SUMS,)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return an error per series whose volume counts up within sessions."""
        return cumulative_volumes(measured.frames["session_sums"])
