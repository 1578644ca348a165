"""Findings of missing bars, from the tables of an audit: outages, losses, absences."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from engine.audit.audit_tables import AUDIT_TABLES
from engine.audit.evidence import missing_bars
from engine.checks.calendar_check import SHORT_PAUSE
from engine.checks.findings import findings, merge_findings
from engine.interval import Interval
from engine.quality.causes.cause_table import CAUSE_TABLE, REPORTED
from engine.schema import empty

KEY = ["symbol", "price_type", "interval", "session"]
CHAIN = ["symbol", "price_type", "interval", "cause", "run"]
US = 1_000_000
SEVERITY = {cause.name: cause.severity for cause in CAUSE_TABLE}
WORDS = {cause.name: cause.text for cause in CAUSE_TABLE}
REMEDY = {cause.name: cause.remedy for cause in CAUSE_TABLE}
CERTAIN = 0.9  # confidence from which a short loss is reported as one
SHORT_LOSS = 5  # bars


def gap_findings(tables: Mapping[str, pl.DataFrame], others: pl.DataFrame) -> pl.DataFrame:
    """Return `others` plus a finding per outage and per series' chain of other `REPORTED` gaps, errors first.

    A gap has one cause and one severity, so what checks of bars say of the same slots is not told again: a session cut at
    its edge (`truncated`) becomes evidence of the gap's finding, sessions without a row (`absent_sessions`) are the gaps'.

    Parameters
    ----------
    tables : mapping of name to DataFrame
        `gaps, outages, quality` of `engine.audit.audit_tables`.
    others : DataFrame of `FINDINGS`
        From the checks.
    """
    gaps = tables["gaps"]
    of_series = series_gap_findings(gaps, tables["outages"], tables["quality"])
    own = pl.concat([outage_findings(tables["outages"]), of_series])
    cut = others.filter(pl.col("check_name") == "truncated")
    told = [] if gaps.filter(pl.col("position") == "session").is_empty() else ["absent_sessions"]
    placed = gaps_of_cuts(cut, gaps)
    rest = others.filter(~pl.col("check_name").is_in(told)).join(
        placed, on="fingerprint", how="anti", maintain_order="left"
    )
    return merge_findings([rest, with_cut_evidence(own, placed), uncovered_findings(gaps)])


def gaps_of_cuts(cut: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """`truncated` findings whose gap is known, with `cause, outage_id, gap_start` of the gap after or before their row."""
    edges = gaps.select(*KEY, "gap_start", "gap_end", "cause", "outage_id")
    steps = {text: Interval.parse(text) for text in cut["interval"].unique()}
    length = {text: interval.seconds * US for text, interval in steps.items()} or {"": 0}
    step = pl.col("interval").replace_strict(length, return_dtype=pl.Int64)
    beside = cut.with_columns(step.alias("step")).join(edges, on=KEY)
    follows = pl.col("gap_start") == pl.col("start_ts") + pl.duration(microseconds=pl.col("step"))
    return beside.filter(follows | (pl.col("gap_end") == pl.col("start_ts"))).drop("step")


def with_cut_evidence(own: pl.DataFrame, placed: pl.DataFrame) -> pl.DataFrame:
    """Findings of gaps with what `truncated` said of the same gap after their evidence."""
    if placed.is_empty():
        return own
    said = pl.concat_str("message", "evidence", separator=" ", ignore_nulls=True)
    cuts = placed.select(
        pl.col("cause").alias("check_name"), "symbol", "price_type", "interval", "gap_start", said.alias("cut")
    )
    rows = own.with_row_index("finding")
    key = ["check_name", "symbol", "price_type", "interval"]
    inside = pl.col("gap_start").is_between(pl.col("start_ts"), pl.col("end_ts"), closed="left")
    found = rows.join(cuts, on=key).filter(inside).group_by("finding").agg(pl.col("cut").sort().first())
    joined = rows.join(found, on="finding", how="left", maintain_order="left")
    return joined.with_columns(
        pl.concat_str("evidence", "cut", separator="; ", ignore_nulls=True).alias("evidence")
    ).select(own.columns)


def uncovered_findings(gaps: pl.DataFrame) -> pl.DataFrame:
    """One finding per interval of slots that the files do not cover: `count` bars, of how many series."""
    cause = "not_covered"
    summed = (
        gaps.filter(pl.col("cause") == cause)
        .group_by("interval", maintain_order=True)
        .agg(
            pl.col("gap_start").min().alias("start_ts"),
            pl.col("gap_end").max().alias("end_ts"),
            pl.col("bar_count").sum().alias("count"),
            pl.struct("symbol", "price_type").n_unique().alias("series"),
            pl.col("session").n_unique().alias("sessions"),
        )
    )
    message = pl.format(f"{WORDS[cause]}: {{}} bars of {{}} series in {{}} sessions", "count", "series", "sessions")
    return findings(
        summed.select(
            pl.lit(cause).alias("check_name"),
            pl.lit(SEVERITY[cause]).alias("severity"),
            "interval",
            "start_ts",
            "end_ts",
            "count",
            message.alias("message"),
            pl.lit("no series has rows there, or the sessions are samples").alias("evidence"),
        )
    )


def gap_owners(gaps: pl.DataFrame, outages: pl.DataFrame) -> pl.DataFrame:
    """The gaps that a finding reports, with its fingerprint as `owner`: that of their outage, or of their series' chain."""
    of_outages = outages.filter(pl.col("missing") > 0).select("outage_id").with_columns(
        outage_findings(outages)["fingerprint"].alias("owner")
    )  # fmt: skip
    own = gaps_outside_outages(gaps, outages)
    chains = own.select(CHAIN).unique(maintain_order=True).with_columns(
        series_gap_findings(gaps, outages, empty(AUDIT_TABLES["quality"]))["fingerprint"].alias("owner")
    )  # fmt: skip
    parts = [
        gaps.join(of_outages, on="outage_id", maintain_order="left"),
        own.join(chains, on=CHAIN, maintain_order="left").drop("run"),
    ]
    return pl.concat(parts)


def outage_findings(outages: pl.DataFrame) -> pl.DataFrame:
    """One finding per outage: check name its cause, `count` missing bars, `value` confidence, `source` the calendar."""
    cause = pl.col("cause")
    one = pl.col("symbols") == 1
    who = pl.when(one).then(pl.lit("1 symbol lacks")).otherwise(pl.format("{} symbols lack", "symbols"))
    bars = pl.when(pl.col("missing") == 1).then(pl.lit("bar")).otherwise(pl.lit("bars"))
    message = pl.format("{}: {} {} {}", cause.replace_strict(WORDS), who, "missing", bars)
    return findings(
        outages.filter(pl.col("missing") > 0).select(
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


def series_gap_findings(gaps: pl.DataFrame, outages: pl.DataFrame, quality: pl.DataFrame) -> pl.DataFrame:
    """One finding per series, `REPORTED` cause, chain of gaps outside outages (no id: one chain); longest's evidence.

    The severity is that of the cause, but `info` for a loss of at most `SHORT_LOSS` bars that is less than `CERTAIN`, and
    for pauses of every session that are less than `SHORT_PAUSE` of it (`quality` tells how long sessions are).
    """
    of_session = quality.select(*KEY, pl.col("expected").alias("session_slots"))
    own = gaps_outside_outages(gaps, outages).join(of_session, on=KEY, how="left", maintain_order="left")
    cause = pl.col("cause")
    longest = pl.col("bar_count").arg_max()
    summed = own.group_by(CHAIN, maintain_order=True).agg(
        pl.col("session").first(),
        pl.col("gap_start").min().alias("start_ts"),
        pl.col("gap_end").max().alias("end_ts"),
        pl.col("bar_count").sum().alias("count"),
        pl.len().alias("gaps"),
        pl.col("confidence").get(longest).alias("value"),
        pl.col("evidence").get(longest),
        (pl.col("bar_count") < SHORT_PAUSE * pl.col("session_slots")).fill_null(value=False).all().alias("is_brief"),
        pl.col("confidence").max().alias("surest"),
    )
    is_doubtful = (cause == "symbol_loss") & (pl.col("surest") < CERTAIN) & (pl.col("count") <= SHORT_LOSS)
    is_minor = is_doubtful | ((cause == "calendar_suspect") & pl.col("is_brief"))
    severity = pl.when(is_minor).then(pl.lit("info")).otherwise(cause.replace_strict(SEVERITY, return_dtype=pl.String))
    several = pl.when(pl.col("gaps") > 1).then(pl.format(" in {} gaps", "gaps")).otherwise(pl.lit(""))
    message = pl.concat_str([cause.replace_strict(WORDS), pl.lit(": "), missing_bars("count"), several])
    return findings(
        summed.select(
            cause.alias("check_name"),
            severity.alias("severity"),
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


def gaps_outside_outages(gaps: pl.DataFrame, outages: pl.DataFrame) -> pl.DataFrame:
    """Gaps of `REPORTED` causes that no outage has, with the `run` (outage id, or the cause) that makes them one chain."""
    own = gaps.filter(
        pl.col("cause").is_in([name for name in REPORTED if name != "not_covered"])
        & ~pl.col("outage_id").is_in(outages["outage_id"].implode()).fill_null(value=False)
    )
    # Habits of the calendar have no name of their own: one finding for all sessions of a series.
    return own.with_columns(pl.coalesce("outage_id", pl.format("{} every session", "cause")).alias("run"))
