"""Check `copied_session`: the bars of a session are those of another session again. Pure: frame in, frame out."""

from __future__ import annotations

from typing import Any

import polars as pl

from engine.checks.check import SERIES, BarCheck, JudgeInput, register
from engine.checks.findings import findings_of
from engine.checks.session_sums import SESSION_SUMS

FEWEST_RANGED = 10  # bars with a range: fewer may have the same prices by chance
SHOWN = 3


def copied_sessions(sums: pl.DataFrame) -> pl.DataFrame:
    """Return a `copied_session` error per set of sessions of a series with >= 10 ranged bars and equal prices in all.

    Times do not count, so a copy that was moved is found too; nor do volumes and bars without a range.
    """
    key = [*SERIES, "print", "ranged"]
    several = (
        sums.filter(pl.col("ranged") >= FEWEST_RANGED)
        .sort(*SERIES, "session", "ts")
        .group_by(key, maintain_order=True)
        .agg("session", "ts", pl.col("bars").first())
        .filter(pl.col("session").list.n_unique() > 1)
    )
    return findings_of([copied_finding(row) for row in several.iter_rows(named=True)])


def copied_finding(row: dict[str, Any]) -> dict[str, Any]:
    """Build the error: `session` and `start_ts` are of the first repetition, `count` sessions that repeat another one."""
    first, *copies = row["session"]
    shown = ", ".join(map(str, copies[:SHOWN])) + (" ..." if len(copies) > SHOWN else "")
    return {
        **{name: row[name] for name in SERIES},
        "check_name": "copied_session",
        "severity": "error",
        "session": copies[0],
        "start_ts": row["ts"][1],
        "count": len(copies),
        "value": float(row["ranged"]),
        "message": f"The session of {shown} has the bars of {first} again: one of them is a copy.",
        "evidence": f"open, high, low and close of all {row['ranged']:,} bars with a range are the same, in any order",
        "remedy": "ask the vendor which session the bars are of, and load the other one anew",
    }


@register
class CopiedSessionCheck(BarCheck):
    """A session has the bars of another one."""

    name, severities = "copied_session", ("error",)
    reads = (SESSION_SUMS,)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return an error per set of sessions whose bars with a range have the same prices."""
        return copied_sessions(measured.frames["session_sums"])
