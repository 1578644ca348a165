"""Events: what one cause makes many checks say of many series is one finding, with its parts beneath. Frames in, frames out.

1. A series whose stamps, interval or calendar are wrong has gaps and low quality for that reason alone: these findings are
   consequences of the one that says so.
2. Findings of one check about one span (or one fault of stamps) in several series are one, which names them.

`PARTS` keeps each finding that was folded, so nothing is lost: the table `parts` of an audit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from engine.audit.audit_tables import PARTS
from engine.audit.evidence import missing_bars
from engine.checks.check import SERIES, BarCheck, registered
from engine.checks.findings import FINDINGS, merge_findings
from engine.quality.causes.cause_table import REPORTED
from engine.schema import empty

KEY = list(SERIES)
FEWEST_PARTS = 3  # findings of one event, unless they are of all series
SHOWN_SYMBOLS = 12
# Gaps of every session, by their cause, which `absent_slots` tells of all series together.
OF_EVERY_SESSION = ("calendar_suspect", "late_open", "early_close")
SIZED_FAULTS = ("clock", "stamp")  # their `value` is the fault's, of others that of the series
REFUSED = "refused"  # told per reason, with its files as parts
PART, CONSEQUENCE = "part", "consequence"

Row = dict[str, Any]
Tables = Mapping[str, pl.DataFrame]


def events(tables: Tables, found: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(findings, one per event with the number of its `parts`, errors first; `PARTS` that were folded into them).

    Parameters
    ----------
    tables : mapping of name to DataFrame
        `series, gaps, outages` of an audit.
    found : DataFrame of `FINDINGS`
        Of checks and gaps, each of one series, file or outage.
    """
    root_of = {row["fingerprint"]: root for row, root in consequences(tables, found)}
    roots = found.filter(~pl.col("fingerprint").is_in(list(root_of)))
    heads, parts = grouped(roots, tables["series"])
    head_of = dict(parts.select(pl.col("fingerprint"), "finding").iter_rows())
    folded = found.filter(pl.col("fingerprint").is_in(list(root_of)))
    finding = [head_of.get(root_of[one], root_of[one]) for one in folded["fingerprint"]]
    folded = folded.with_columns(pl.Series("finding", finding, pl.String), pl.lit(CONSEQUENCE).alias("role"))
    whole = pl.concat([parts, folded.select(list(PARTS)), outage_parts(tables, heads)])
    return merge_findings([with_consequences(with_sizes(heads, whole), folded)]), whole


def fits_all_parts(found: pl.DataFrame, parts: pl.DataFrame, fits: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Mask findings whose symbol fits; of an event of several symbols, those of which all parts fit."""
    own = fits(found["symbol"])
    if parts.is_empty():
        return own
    of_parts = parts.filter(pl.col("role") == PART).select(
        "finding", fits(parts.filter(pl.col("role") == PART)["symbol"]).alias("fits")
    )
    whole = of_parts.group_by("finding").agg(pl.col("fits").all())
    told = found.select("fingerprint").join(
        whole, left_on="fingerprint", right_on="finding", how="left", maintain_order="left"
    )
    return own | (told["fits"].fill_null(value=False) & found["symbol"].is_null())


def misplacing_checks() -> tuple[str, ...]:
    """Names of the checks whose findings mean that the places of a series are wrong."""
    return tuple(check.name for check in registered(BarCheck) if check.finds_misplaced)


def roots_of_series(found: pl.DataFrame) -> pl.DataFrame:
    """`SERIES` and `root`, the fingerprint of the error that says that their stamps, interval or calendar are wrong."""
    wrong = found.filter(pl.col("check_name").is_in(misplacing_checks()) & (pl.col("severity") == "error"))
    return wrong.select(*KEY, pl.col("fingerprint").alias("root")).unique(KEY, keep="first", maintain_order=True)


def consequences(tables: Tables, found: pl.DataFrame) -> list[tuple[Row, str]]:
    """Findings that another one explains, with its fingerprint: gaps of misplaced series, gaps of every session."""
    misplaced = roots_of_series(found)
    of_series = {row[:3]: row[3] for row in misplaced.iter_rows()}
    absent = found.filter(pl.col("check_name") == "absent_slots")["fingerprint"].to_list()
    if not (of_series or absent):
        return []
    gaps = tables["gaps"]
    unlike = gaps.join(misplaced, on=KEY, how="anti")
    right_outages = set(unlike["outage_id"].drop_nulls())
    right_causes = set(unlike.select(pl.format("{} {}", "cause", "interval").alias("name"))["name"].drop_nulls())
    outages = tables["outages"].select("cause", "start_ts", "calendar", "outage_id")
    outage_of = {row[:3]: row[3] for row in outages.iter_rows()}
    named = set(gaps.filter(pl.col("outage_id").is_null()).select(*KEY, "cause").unique().iter_rows())
    first = next(iter(of_series.values()), "")
    done = []
    for row in found.filter(pl.col("check_name").is_in(REPORTED)).iter_rows(named=True):
        series = (row["symbol"], row["price_type"], row["interval"])
        if series in of_series:
            done.append((row, of_series[series]))
        elif row["symbol"] is None and of_series:
            outage = outage_of.get((row["check_name"], row["start_ts"], row["source"]))
            alone = (
                outage not in right_outages if outage else f"{row['check_name']} {row['interval']}" not in right_causes
            )
            if alone:
                done.append((row, first))
        elif absent and row["check_name"] in OF_EVERY_SESSION and (*series, row["check_name"]) in named:
            done.append((row, absent[0]))
    return done


def grouped(found: pl.DataFrame, series: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(findings, those of one event as one; `PARTS` of these): of 3 series and more, or of all where there are two."""
    is_fault = pl.col("check_name").is_in(misplacing_checks())
    # Of faults of stamps the size and what mends it; of all others the span.
    span = pl.concat_str(pl.col("session", "start_ts", "end_ts").cast(pl.String).fill_null(""), separator=" ")
    size = pl.when(pl.col("check_name").is_in(SIZED_FAULTS)).then(pl.col("value").cast(pl.String))
    fault = pl.concat_str(size.fill_null(""), pl.col("remedy").fill_null(""), separator=" ")
    has_span = pl.col("start_ts").is_not_null()
    reason = pl.col("message").str.extract(r" were refused: (.*)$")
    is_refused = pl.col("check_name") == REFUSED
    event = pl.when(is_fault).then(fault).when(is_refused).then(reason).when(has_span).then(span)
    key = ["check_name", "severity", "interval", "event"]
    marked = found.with_row_index("at").with_columns(event.alias("event"))
    of_series = marked.filter((pl.col("symbol").is_not_null() | is_refused) & pl.col("event").is_not_null())
    most = pl.when(is_refused).then(FEWEST_PARTS).otherwise(min(FEWEST_PARTS, max(series.height, 2)))
    several = of_series.filter(pl.len().over(key) >= most)
    heads, parts = [], []
    for _, rows in several.group_by(key, maintain_order=True):
        head = head_of_event(rows.drop("at", "event").to_dicts())
        heads.append({"at": rows["at"][0], **head})
        parts.append(rows.with_columns(pl.lit(head["fingerprint"]).alias("finding"), pl.lit(PART).alias("role")))
    rest = marked.filter(~pl.col("at").is_in(several["at"].implode())).drop("event")
    merged = pl.DataFrame(heads, schema=rest.schema, orient="row")
    whole = pl.concat([rest, merged]).sort("at").drop("at")
    return whole, pl.concat([empty(PARTS), *(one.select(list(PARTS)) for one in parts)])


def head_of_event(rows: Sequence[Row]) -> Row:
    """One finding for the findings of an event: the gravest example's words, the series' names, the summed `count`.

    Its fingerprint is that of the first series by name, so that an event of one more series is the same finding.
    """
    worst = max(rows, key=lambda row: row["count"] or 0)
    symbols = list(dict.fromkeys(row["symbol"] for row in rows))
    alike = {name: rows[0][name] if len({row[name] for row in rows}) == 1 else None for name in FINDINGS}
    counts = [row["count"] for row in rows if row["count"] is not None]
    if worst["check_name"] == REFUSED:
        reason = worst["message"].partition(" were refused: ")[2]
        return alike | {
            "count": sum(counts),
            "message": f"{sum(counts):,} row(s) of {len(rows):,} file(s) were refused: {reason}",
            "evidence": f"{worst['count']:,} of them in {worst['source']}; {worst['evidence']}",
            "parts": len(rows),
            "fingerprint": rows[0]["fingerprint"],
        }
    who = f"{len(symbols):,} symbols" if len(symbols) > 1 else f"{len(rows):,} series of {symbols[0]}"
    example = "" if alike["message"] else f"for example {worst['symbol']}: "
    names = ", ".join(symbols[:SHOWN_SYMBOLS]) + (
        f" and {len(symbols) - SHOWN_SYMBOLS:,} more" if len(symbols) > SHOWN_SYMBOLS else ""
    )
    of_worst = "" if alike["evidence"] or len(symbols) == 1 else f"{worst['symbol']}: "
    return alike | {
        "count": sum(counts) if counts else None,
        "value": worst["value"],
        "message": f"{who}: {example}{worst['message']}",
        "evidence": f"{names}. {of_worst}{worst['evidence'] or ''}".rstrip(". "),
        "remedy": worst["remedy"],
        "parts": len(rows),
        "fingerprint": rows[0]["fingerprint"],
    }


def outage_parts(tables: Tables, found: pl.DataFrame) -> pl.DataFrame:
    """`PARTS` of the findings of outages: a row per series with its gaps' span and missing bars."""
    outages = tables["outages"].select(
        "outage_id", pl.col("cause").alias("check_name"), "start_ts", pl.col("calendar").alias("source")
    )
    heads = found.filter(pl.col("symbol").is_null()).join(outages, on=["check_name", "start_ts", "source"])
    heads = heads.select("outage_id", "severity", pl.col("fingerprint").alias("finding"))
    gaps = tables["gaps"].join(heads, on="outage_id")
    summed = (
        gaps.group_by("finding", "severity", *KEY, maintain_order=True)
        .agg(
            pl.col("cause").first().alias("check_name"),
            pl.col("session").min(),
            pl.col("gap_start").min().alias("start_ts"),
            pl.col("gap_end").max().alias("end_ts"),
            pl.col("bar_count").sum().alias("count"),
            pl.col("confidence").max().alias("value"),
            pl.col("evidence").first(),
        )
        .sort("finding", *KEY)
    )
    told = summed.with_columns(missing_bars("count").alias("message"), pl.lit(PART).alias("role"))
    return told.select(
        pl.col(name).cast(dtype) if name in told.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in PARTS.items()
    )


def with_sizes(found: pl.DataFrame, parts: pl.DataFrame) -> pl.DataFrame:
    """The findings with the number of their `parts`; null where a finding is of one series."""
    symbols = pl.col("symbol").unique(maintain_order=True)
    more = (
        pl.when(symbols.len() > SHOWN_SYMBOLS)
        .then(pl.format(" and {} more", symbols.len() - SHOWN_SYMBOLS))
        .otherwise(pl.lit(""))
    )
    names = pl.concat_str(symbols.head(SHOWN_SYMBOLS).str.join(", "), more).alias("names")
    sizes = (
        parts.filter(pl.col("role") == PART)
        .group_by("finding", maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("size"), names)
    )
    joined = found.join(sizes, left_on="fingerprint", right_on="finding", how="left", maintain_order="left")
    # What was grouped here names its symbols already.
    is_outage = pl.col("parts").is_null() & pl.col("size").is_not_null()
    evidence = (
        pl.when(is_outage).then(pl.format("{}: {}", "names", pl.col("evidence").fill_null(""))).otherwise("evidence")
    )
    return joined.with_columns(pl.col("size").alias("parts"), evidence.alias("evidence")).select(list(FINDINGS))


def with_consequences(found: pl.DataFrame, folded: pl.DataFrame) -> pl.DataFrame:
    """The findings with what follows from them after their evidence: how many findings of which checks."""
    counted = folded.group_by("finding", "check_name").len().sort("finding", "check_name")
    said = counted.group_by("finding", maintain_order=True).agg(
        pl.col("len").sum(), pl.format("{} {}", "len", "check_name").str.join(", ").alias("which")
    )
    joined = found.join(said, left_on="fingerprint", right_on="finding", how="left", maintain_order="left")
    more = pl.format("this explains {} more (table parts): {}", "len", "which")
    evidence = pl.concat_str("evidence", more, separator="; ", ignore_nulls=True)
    return joined.with_columns(evidence.alias("evidence")).select(list(FINDINGS))
