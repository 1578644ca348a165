"""Check `copied_session`: the bars of a session are those of another session again. Pure: frame in, frame out."""

from __future__ import annotations

from typing import Any

import polars as pl

from engine.checks.check import SERIES, BarCheck, JudgeInput, register
from engine.checks.findings import findings_of
from engine.checks.session_sums import SESSION_SUMS

FEWEST_RANGED = 10  # bars with a range: fewer may have the same prices by chance
FEWEST_OF_OTHERS = 30  # of another symbol: there are many more pairs
OWN_LEVEL = 0.05  # logarithm (base 10): beyond it, the price of a session is not the series' own
A_PAIR = 2
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


def others_sessions(sums: pl.DataFrame) -> pl.DataFrame:
    """Return a `copied_session` finding per series that has sessions of another symbol, bar by bar.

    - Fewer than half of its sessions, at another level than its own ones: an error, for the rows are the other's.
    - Otherwise nothing tells whose they are: a finding of the later of the two by name, a warning; info where more than
      two names have the same bars, as a feed that gives an instrument several names.
    """
    told = sums.filter(pl.col("ranged") >= FEWEST_OF_OTHERS)
    key = ["price_type", "interval", "session", "print"]
    names = (
        told.filter(pl.col("symbol").n_unique().over(key) > 1)
        .group_by(key)
        .agg(pl.col("symbol").unique().sort().alias("names"))
    )
    if names.is_empty():
        return findings_of([])
    first = pl.col("names").list.first()
    shared = told.join(names, on=key, maintain_order="left").with_columns(
        pl.when(first == pl.col("symbol")).then(pl.col("names").list.get(1)).otherwise(first).alias("other"),
        pl.col("names").list.len().alias("alike"),
    )
    own = told.join(shared, on=[*SERIES, "session"], how="anti").group_by(*SERIES).agg(
        pl.col("level").median().alias("own_level"), pl.len().alias("own")
    )  # fmt: skip
    of_series = (
        shared.sort(*SERIES, "other", "session")
        .group_by(*SERIES, "other", maintain_order=True)
        .agg(
            pl.col("session", "ts", "level").first(),
            pl.len().alias("count"),
            pl.col("ranged").sum(),
            pl.col("alike").max(),
        )
        .join(own, on=list(SERIES), how="left", maintain_order="left")
    )
    is_foreign = (pl.col("count") < pl.col("own")) & ((pl.col("level") - pl.col("own_level")).abs() > OWN_LEVEL)
    judged = of_series.with_columns(is_foreign.fill_null(value=False).alias("is_foreign"))
    foreign = judged.filter("is_foreign")
    rest = judged.filter(~pl.col("is_foreign") & (pl.col("symbol") > pl.col("other")))
    mirrored = foreign.select(*SERIES, "other").rename({"symbol": "other", "other": "symbol"})
    told_once = rest.join(mirrored, on=[*SERIES, "other"], how="anti", maintain_order="left")
    return findings_of([others_finding(row) for row in pl.concat([foreign, told_once]).iter_rows(named=True)])


def others_finding(row: dict[str, Any]) -> dict[str, Any]:
    """Build the finding of a row of `others_sessions`: `session` and `start_ts` are of the first shared session, `count` sessions."""
    several = f"{row['count']:,} sessions" if row["count"] > 1 else "1 session"
    is_pair = row["alike"] == A_PAIR
    severity = "error" if row["is_foreign"] else "warning" if is_pair else "info"
    open_question = "one of the two is a copy, or they are one instrument under two names"
    whose = (
        f"its own prices lie elsewhere, so the bars are those of {row['other']}" if row["is_foreign"] else open_question
    )
    anew = "load these sessions anew from the vendor"
    return {
        **{name: row[name] for name in SERIES},
        "check_name": "copied_session",
        "severity": severity,
        "session": row["session"],
        "start_ts": row["ts"],
        "count": row["count"],
        "value": float(row["ranged"]),
        "message": f"{several} from {row['session']} on have the bars of {row['other']}: {whose}.",
        "evidence": f"open, high, low and close of all {row['ranged']:,} bars with a range are the same",
        "remedy": anew
        if row["is_foreign"]
        else f"compare the symbol with its file, and {anew} or leave one of the two out",
    }


@register
class CopiedSessionCheck(BarCheck):
    """A session has the bars of another one, of its own series or of another symbol."""

    name, severities = "copied_session", ("error", "warning", "info")
    reads = (SESSION_SUMS,)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return findings of sets of sessions whose bars with a range have the same prices."""
        sums = measured.frames["session_sums"]
        return pl.concat([copied_sessions(sums), others_sessions(sums)])
