"""Incidents that an audit proposes to send to the vendor: what was lost, of whom, from when to when, and why it is a loss."""

from __future__ import annotations

import polars as pl

from engine.audit.audit_tables import INCIDENTS
from engine.quality.causes.cause_table import LOSSES


def proposed_incidents(gaps: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """`INCIDENTS` of the losses among gaps: a row per outage and span, with the symbols that lack it, by start.

    Gaps of a symbol in one outage are one span: they follow one another. `--incidents` reads the table as a file.

    Parameters
    ----------
    gaps, series : DataFrame of the audit's tables
    """
    lost = gaps.filter(pl.col("cause").is_in(LOSSES))
    run = pl.coalesce("outage_id", pl.format("{} {}", "symbol", "gap_start")).alias("run")
    spans = lost.group_by("cause", run, "symbol", maintain_order=True).agg(
        pl.col("gap_start").min().alias("start_ts"),
        pl.col("gap_end").max().alias("end_ts"),
        pl.col("bar_count").sum().alias("missing"),
        pl.col("evidence").get(pl.col("bar_count").arg_max()),
    )
    sources = series.group_by("symbol").agg(pl.col("source").sort().first())
    named = spans.join(sources, on="symbol", how="left", maintain_order="left").sort("symbol")
    grouped = named.group_by("cause", "run", "start_ts", "end_ts", maintain_order=True).agg(
        pl.col("symbol").alias("names"), pl.col("missing").sum(), pl.col("evidence").first(), pl.col("source").first()
    )
    joined = pl.col("names").list.join(";")
    # A name of several words is told from several names by the separator at its end.
    symbols = pl.when(joined.str.contains(r"\s")).then(joined + ";").otherwise(joined)
    shaped = grouped.with_columns(symbols.alias("symbols"), pl.col("cause").alias("kind"))
    return shaped.sort("start_ts", "end_ts", "symbols").select(pl.col(n).cast(t) for n, t in INCIDENTS.items())
