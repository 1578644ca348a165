"""Rows that were refused, replaced or repeated on their way in: summed into findings. Pure: frame in, frame out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from engine.checks.check import SERIES, TableCheck, register
from engine.checks.findings import findings, findings_of, number_of
from engine.schema import TS, Schema, empty

CONFLICT = "conflict"
SHOWN_CELLS = 200
MANY_REFUSED = 10  # rows of one reason
COPY_SPREAD = 1e-4  # ratios of a copy that was adjusted as a whole differ by no more: its prices are rounded
ADJUSTED_FEWEST = 10
MOST_VOLUMES = 0.95  # of the rows of an adjusted copy
MANY_CORRECTIONS = 0.001  # of the rows
# Corrections in a session of two sources, and as a share of its present slots: a vendor corrects a few bars of a session.
FEWEST_OF_SOURCE, MOST_OF_SOURCE = 30, 0.5

Row = dict[str, Any]
KEY = list(SERIES)
REFUSED: Schema = {
    "source": pl.String(),
    "reason": pl.String(),
    "count": pl.Int64(),
    "row": pl.Int64(),
    "cells": pl.String(),
}
CONFLICTS: Schema = {
    "source": pl.String(),
    "row": pl.Int64(),
    "symbol": pl.String(),
    "price_type": pl.String(),
    "interval": pl.String(),
    "session": pl.Date(),
    "ts": TS,
    "close": pl.Float64(),
    "volume": pl.Float64(),
    "kept": pl.Float64(),
    "kept_volume": pl.Float64(),
}


def count_refused(rejects: pl.DataFrame) -> pl.DataFrame:
    """Count rejects per file and reason, conflicts EXCLUDED; `row` and `cells` are those of the lowest row; sorted.

    Parameters
    ----------
    rejects : DataFrame of `schema.REJECTS`

    Returns
    -------
    DataFrame of `REFUSED`
        `count` is rows, `row` and `cells` are those of the first; sorted. Those of parts of a file are added by `sum_refused`.
    """
    bad = rejects.filter(~pl.col("reason").str.starts_with(CONFLICT))
    return sum_refused([bad.with_columns(pl.lit(1, pl.Int64).alias("count"))])


def sum_refused(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sum `count` per file and reason over all parts; `row` and `cells` are those of the lowest row; sorted."""
    first = [pl.col(name).sort_by("row").first() for name in ("row", "cells")]
    whole = pl.concat([empty(REFUSED), *(part.select(list(REFUSED)) for part in parts)])
    return whole.group_by("source", "reason").agg(pl.col("count").sum(), *first).sort("source", "reason")


def refused(counts: pl.DataFrame) -> pl.DataFrame:
    """Return one `refused` finding per file and reason, an `error` from 10 rows of the reason in all files, else a `warning`.

    Evidence is the first row's cells, cut to 200 characters; the fingerprint ends with the reason.

    Parameters
    ----------
    counts : DataFrame of `REFUSED`

    Returns
    -------
    DataFrame of `findings.FINDINGS`
        Check `refused`; `count` is rows, `source` the file.
    """
    # By all files: how rows are shared out among them makes none of them graver.
    is_many = pl.col("count").sum().over("reason") >= MANY_REFUSED
    found = findings(
        counts.select(
            pl.lit("refused").alias("check_name"),
            pl.when(is_many).then(pl.lit("error")).otherwise(pl.lit("warning")).alias("severity"),
            "source",
            "count",
            pl.format("{} row(s) of this file were refused: {}.", "count", "reason").alias("message"),
            pl.format("the first is row {}: {}", "row", pl.col("cells").str.slice(0, SHOWN_CELLS)).alias("evidence"),
            pl.lit("mend the file, or ask the vendor; the cells are in `rejects`").alias("remedy"),
        )
    )
    return found.with_columns(pl.concat_str("fingerprint", counts["reason"], separator="|").alias("fingerprint"))


def conflict_pairs(rejects: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Join `conflict` rejects to ALL stored bars of symbol, price type, ts; none: null interval, session, `kept`.

    Parameters
    ----------
    rejects : DataFrame of `schema.REJECTS`
        Those whose reason begins with `conflict` are looked at; the cells are those of a bar.
    bars : DataFrame
        `symbol, price_type, interval, ts, session, close, volume`: those that won, and maybe others.

    Returns
    -------
    DataFrame of `CONFLICTS`
    """
    lost = rejects.filter(pl.col("reason").str.starts_with(CONFLICT))
    if lost.is_empty():
        return empty(CONFLICTS)
    kept = bars.select(*KEY, "ts", "session", pl.col("close").alias("kept"), pl.col("volume").alias("kept_volume"))
    beside = conflict_cells(lost).join(kept, on=["symbol", "price_type", "ts"], how="left", maintain_order="left")
    return beside.select(pl.col(name).cast(dtype) for name, dtype in CONFLICTS.items())


def conflicts(pairs: pl.DataFrame) -> pl.DataFrame:
    """A `conflict` per series and session (`error` from 10 rows); `value` median ratio of refused to stored close.

    Parameters
    ----------
    pairs : DataFrame of `CONFLICTS`

    Returns
    -------
    DataFrame of `findings.FINDINGS`
        Check `conflict`; `count` is rows, `value` the median ratio of the refused close to the kept one. Where nearly all
        have one ratio, and the same volumes (adjusted for dividends, or a continuous future) or volumes in the inverse
        ratio (adjusted for splits), the message says that one is an adjusted copy of the other.
    """
    ratio = pl.col("close") / pl.col("kept")
    ordered = pairs.sort(*KEY, "session", "ts", "source", "row", nulls_last=True)
    summed = ordered.group_by(*KEY, "session", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("count"),
        pl.col("ts").min().alias("start_ts"),
        pl.col("source").first(),
        ratio.median().alias("ratio"),
        (ratio.quantile(0.95) - ratio.quantile(0.05)).alias("spread"),
        pl.col("volume").eq_missing(pl.col("kept_volume")).mean().alias("same_volume"),
        has_inverse_volume(ratio).mean().alias("inverse_volume"),
        pl.col("close").first(),
        pl.col("kept").first(),
    )
    return findings_of([conflict_finding(row) for row in summed.iter_rows(named=True)])


def has_inverse_volume(ratio: pl.Expr) -> pl.Expr:
    """Expression: whether refused volume x `ratio` of the closes is the kept volume, within rounding to whole ones."""
    volume, kept = pl.col("volume"), pl.col("kept_volume")
    return ((volume * ratio - kept).abs() <= (1 + ratio) / 2 + COPY_SPREAD * kept).fill_null(value=False)


def repeats(quality: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return one finding per series whose `kind` count is > 0: `count` summed, `session` that with most, `value` share.

    Parameters
    ----------
    quality : DataFrame
        `symbol, price_type, interval, session, present` and the column `kind`.
    kind : {"duplicates", "corrections"}
        `corrections` above one in a thousand rows are a `warning`, all others `info`.
    """
    is_counted = pl.col(kind) > 0
    summed = (
        quality.group_by(KEY, maintain_order=True)
        .agg(
            pl.col(kind).sum().alias("count"),
            pl.col("present").sum(),
            pl.col("present").filter(is_counted).sum().alias("present_there"),
            is_counted.sum().alias("sessions"),
            pl.col("session")
            .filter(is_counted)
            .sort_by(pl.col(kind).filter(is_counted), descending=True, maintain_order=True)
            .first()
            .alias("worst"),
            pl.col(kind).max().alias("most"),
        )
        .filter(pl.col("count") > 0)
    )
    return findings_of([repeats_finding(row, kind) for row in summed.iter_rows(named=True)])


def conflict_cells(lost: pl.DataFrame) -> pl.DataFrame:
    """JSON cells as `source, row, symbol, price_type, ts, close, volume`; bad value: null; no JSON: ComputeError."""
    dtype = pl.Struct(dict.fromkeys(("symbol", "price_type", "ts", "close", "volume"), pl.String))
    cells = lost.select("source", "row", pl.col("cells").str.json_decode(dtype)).unnest("cells")
    stamp = pl.col("ts").str.replace(r"\s*(UTC|Z|\+00:00)$", "").str.replace("T", " ", literal=True)
    return cells.with_columns(
        stamp.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
        .dt.replace_time_zone("UTC")
        .alias("ts"),
        pl.col("close", "volume").cast(pl.Float64, strict=False),
    )


def conflict_finding(row: Row) -> Row:
    """Build the finding: `error` from 10 rows, else `warning`; 10 in one ratio (not 1) with fitting volumes: a copy."""
    ratio = row["ratio"]
    is_copy = (
        ratio is not None
        and row["count"] >= ADJUSTED_FEWEST
        and abs(ratio - 1) > COPY_SPREAD
        and row["spread"] <= COPY_SPREAD
        and max(row["same_volume"], row["inverse_volume"]) >= MOST_VOLUMES
    )
    if is_copy:
        what = f"one is a back-adjusted copy of the other: every close differs by x {ratio:.5f}"
    elif ratio is not None:
        what = f"the median close that was refused is {ratio:.5f} of the one that was kept"
    else:
        what = "the bars that were kept are not at hand"
    volumes = f"{row['same_volume']:.0%} have the same volume"
    if row["inverse_volume"] > row["same_volume"]:
        volumes = f"{row['inverse_volume']:.0%} have the volume in the inverse ratio"
    first = "" if row["kept"] is None else f"; the first: {row['close']:g} refused, {row['kept']:g} kept"
    return {
        **{name: row[name] for name in KEY},
        "check_name": "conflict",
        "severity": "error" if row["count"] >= ADJUSTED_FEWEST else "warning",
        "session": row["session"],
        "start_ts": row["start_ts"],
        "count": row["count"],
        "value": ratio,
        "source": row["source"],
        "message": f"{number_of(row['count'], 'row')} came twice in one file with other values; the latest is kept; {what}.",
        "evidence": f"{volumes}{first}",
        "remedy": "ask the vendor which of them is meant, and load a file with one series"
        if is_copy
        else "ask the vendor which row is right",
    }


def repeats_finding(row: Row, kind: str) -> Row:
    """Build the finding of one series: `warning` for `corrections` above 0.1 % of the rows, else `info`."""
    share = row["count"] / max(row["present"], 1)
    are_two_sources = kind == "corrections" and row["count"] >= max(
        FEWEST_OF_SOURCE, MOST_OF_SOURCE * row["present_there"]
    )
    verb, what = {
        "duplicates": ("repeat", "a row that was there, in every cell"),
        "corrections": ("replace", "a row that was there with other values"),
    }[kind]
    done = f"{verb}{'s' if row['count'] == 1 else ''} {what}"
    return {
        **{name: row[name] for name in KEY},
        "check_name": kind,
        "severity": "warning" if kind == "corrections" and share > MANY_CORRECTIONS else "info",
        "session": row["worst"],
        "count": row["count"],
        "value": share,
        "message": f"{number_of(row['count'], 'row')} in {number_of(row['sessions'], 'session')} {done}"
        + (": two sources, or two versions, of these sessions lie under one name." if are_two_sources else "."),
        "evidence": f"most of them in {row['worst']}: {row['most']:,}",
        "remedy": "none is needed: the latest is kept"
        if kind == "duplicates"
        else "load one of them alone; engine reconcile FIRST SECOND shows where they differ"
        if are_two_sources
        else "none, if the vendor corrects; else load each session once",
    }


# ---------------------------------------------------------------------------- checks


@register
class RefusedCheck(TableCheck):
    """Rows were refused on their way in."""

    name, severities, table = "refused", ("error", "warning"), "refused"

    def judge(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return one finding per file and reason of refused rows (`REFUSED`)."""
        return refused(rows)


@register
class ConflictCheck(TableCheck):
    """A key came twice in one file with other values."""

    name, severities, table = "conflict", ("error", "warning"), "conflicts"

    def judge(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return one finding per series and session of rows replaced by a later row of the same file (`CONFLICTS`)."""
        return conflicts(rows)


@register
class DuplicatesCheck(TableCheck):
    """Rows repeat one that was stored, in every cell."""

    name, severities, table = "duplicates", ("info",), "quality"

    def judge(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return one `info` finding per series with duplicates: their sum, and the session with most."""
        return repeats(rows, "duplicates")


@register
class CorrectionsCheck(TableCheck):
    """Rows replace one that was stored, with other values."""

    name, severities, table = "corrections", ("warning", "info"), "quality"

    def judge(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return one finding per series with corrections: their sum; `warning` above 0.1 % of the rows."""
        return repeats(rows, "corrections")
