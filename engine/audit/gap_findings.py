"""Findings from the tables of an audit: outages, losses, absences, and files that could not be read."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from engine.checks.findings import findings, together
from engine.quality.causes.cause_table import CAUSE_TABLE, REPORTED

PASSED_OVER = "passed over: "  # a file that is no market data
SEVERITY = {cause.name: cause.severity for cause in CAUSE_TABLE}
WORDS = {cause.name: cause.text for cause in CAUSE_TABLE}
REMEDY = {cause.name: cause.remedy for cause in CAUSE_TABLE}


def observed(tables: Mapping[str, pl.DataFrame], others: pl.DataFrame, files: pl.DataFrame) -> pl.DataFrame:
    """All findings of an audit, errors first.

    Parameters
    ----------
    tables : mapping of name to DataFrame
        `gaps, outages, quality` of `engine.audit.audit_tables`.
    others : DataFrame of `FINDINGS`
        What the rows themselves showed.
    files : DataFrame
        `source, rows, problem`.
    """
    return together(
        [others, _of_outages(tables["outages"]), _of_gaps(tables["gaps"], tables["outages"]), _of_files(files)]
    )


def _of_outages(outages: pl.DataFrame) -> pl.DataFrame:
    cause = pl.col("cause")
    message = pl.format("{}: {} symbols lack {} bars", cause.replace_strict(WORDS), "symbols", "missing")
    return findings(
        outages.select(
            pl.format("{}", cause).alias("check"), cause.replace_strict(SEVERITY, return_dtype=pl.String).alias("severity"),
            pl.col("first_session").alias("session"), "start", "end", pl.col("missing").alias("count"),
            pl.col("confidence").alias("value"), message.alias("message"), "evidence",
            cause.replace_strict(REMEDY, return_dtype=pl.String).alias("remedy"), pl.col("calendar").alias("source"),
        )
    )  # fmt: skip


def _of_gaps(gaps: pl.DataFrame, outages: pl.DataFrame) -> pl.DataFrame:
    """One finding per run of gaps of a symbol that follow one another; those of an outage are told with it."""
    own = gaps.filter(
        pl.col("cause").is_in(REPORTED)
        & ~pl.col("outage_id").is_in(outages["outage_id"].implode()).fill_null(value=False)
    )
    cause = pl.col("cause")
    # Habits of the calendar have no name of their own: one finding for all sessions of a series.
    run = pl.coalesce("outage_id", pl.format("{} every session", cause)).alias("run")
    key = ["symbol", "price_type", "interval", "cause", "run"]
    longest = pl.col("bar_count").arg_max()
    summed = own.with_columns(run).group_by(key, maintain_order=True).agg(
        pl.col("session").first(), pl.col("gap_start").min().alias("start"), pl.col("gap_end").max().alias("end"),
        pl.col("bar_count").sum().alias("count"), pl.len().alias("gaps"), pl.col("confidence").get(longest).alias("value"),
        pl.col("evidence").get(longest),
    )  # fmt: skip
    several = pl.when(pl.col("gaps") > 1).then(pl.format(" in {} gaps", "gaps")).otherwise(pl.lit(""))
    message = pl.concat_str([cause.replace_strict(WORDS), pl.format(": {} missing bars", "count"), several])
    return findings(
        summed.select(
            cause.alias("check"), cause.replace_strict(SEVERITY, return_dtype=pl.String).alias("severity"),
            "symbol", "price_type", "interval", "session", "start", "end", "count", "value", message.alias("message"),
            "evidence", cause.replace_strict(REMEDY, return_dtype=pl.String).alias("remedy"),
        )
    )  # fmt: skip


def _of_files(files: pl.DataFrame) -> pl.DataFrame:
    bad = files.drop_nulls("problem")
    no_data = pl.col("problem").str.starts_with(PASSED_OVER)
    return findings(
        bad.select(
            pl.when(no_data).then(pl.lit("passed_over")).otherwise(pl.lit("unreadable_file")).alias("check"),
            pl.when(no_data).then(pl.lit("info")).otherwise(pl.lit("error")).alias("severity"), "source",
            pl.when(no_data).then("problem").otherwise(pl.format("could not be read: {}", "problem")).alias("message"),
            pl.when(~no_data).then(pl.lit("deliver the file again, or name its format and columns")).alias("remedy"),
        )
    )  # fmt: skip
