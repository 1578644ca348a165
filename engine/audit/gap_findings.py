"""Findings of missing bars, from the tables of an audit: outages, losses, absences."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from engine.checks.findings import findings, merge_findings
from engine.quality.causes.cause_table import CAUSE_TABLE, REPORTED

SEVERITY = {cause.name: cause.severity for cause in CAUSE_TABLE}
WORDS = {cause.name: cause.text for cause in CAUSE_TABLE}
REMEDY = {cause.name: cause.remedy for cause in CAUSE_TABLE}


def gap_findings(tables: Mapping[str, pl.DataFrame], others: pl.DataFrame) -> pl.DataFrame:
    """Return `others` plus a finding per outage and per series' chain of other `REPORTED` gaps, errors first.

    Parameters
    ----------
    tables : mapping of name to DataFrame
        `gaps, outages` of `engine.audit.audit_tables`.
    others : DataFrame of `FINDINGS`
        From the checks.
    """
    return merge_findings(
        [others, outage_findings(tables["outages"]), series_gap_findings(tables["gaps"], tables["outages"])]
    )


def outage_findings(outages: pl.DataFrame) -> pl.DataFrame:
    """One finding per outage: check name its cause, `count` missing bars, `value` confidence, `source` the calendar."""
    cause = pl.col("cause")
    message = pl.format("{}: {} symbols lack {} bars", cause.replace_strict(WORDS), "symbols", "missing")
    return findings(
        outages.select(
            pl.format("{}", cause).alias("check_name"),
            cause.replace_strict(SEVERITY, return_dtype=pl.String).alias("severity"),
            pl.col("first_session").alias("session"),
            "start_ts",
            "end_ts",
            pl.col("missing").alias("count"),
            pl.col("confidence").alias("value"),
            message.alias("message"),
            "evidence",
            cause.replace_strict(REMEDY, return_dtype=pl.String).alias("remedy"),
            pl.col("calendar").alias("source"),
        )
    )


def series_gap_findings(gaps: pl.DataFrame, outages: pl.DataFrame) -> pl.DataFrame:
    """One finding per series, `REPORTED` cause, chain of gaps outside outages (no id: one chain); longest's evidence."""
    own = gaps.filter(
        pl.col("cause").is_in(REPORTED)
        & ~pl.col("outage_id").is_in(outages["outage_id"].implode()).fill_null(value=False)
    )
    cause = pl.col("cause")
    # Habits of the calendar have no name of their own: one finding for all sessions of a series.
    run = pl.coalesce("outage_id", pl.format("{} every session", cause)).alias("run")
    key = ["symbol", "price_type", "interval", "cause", "run"]
    longest = pl.col("bar_count").arg_max()
    summed = (
        own.with_columns(run)
        .group_by(key, maintain_order=True)
        .agg(
            pl.col("session").first(),
            pl.col("gap_start").min().alias("start_ts"),
            pl.col("gap_end").max().alias("end_ts"),
            pl.col("bar_count").sum().alias("count"),
            pl.len().alias("gaps"),
            pl.col("confidence").get(longest).alias("value"),
            pl.col("evidence").get(longest),
        )
    )
    several = pl.when(pl.col("gaps") > 1).then(pl.format(" in {} gaps", "gaps")).otherwise(pl.lit(""))
    message = pl.concat_str([cause.replace_strict(WORDS), pl.format(": {} missing bars", "count"), several])
    return findings(
        summed.select(
            cause.alias("check_name"),
            cause.replace_strict(SEVERITY, return_dtype=pl.String).alias("severity"),
            "symbol",
            "price_type",
            "interval",
            "session",
            "start_ts",
            "end_ts",
            "count",
            "value",
            message.alias("message"),
            "evidence",
            cause.replace_strict(REMEDY, return_dtype=pl.String).alias("remedy"),
        )
    )
