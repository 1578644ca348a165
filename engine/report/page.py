"""Render an audit as a single HTML file without external resources. Frames in, text out.

1. `page_content` reduces the tables of an audit to what a page can hold: pictures of a bounded number of cells, and the
   most important rows of each table, with how many there are in all.
2. `audit_page` puts that, the style and the script into the frame `web/page.html`. The page's own policy forbids any
   request, and any script or style but these two, which it knows by their hash.

All text reaches the page as JSON, and the script writes it as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import polars as pl

from engine.audit.audit_tables import AUDIT_TABLES, COUNTS, FILLS, KEY
from engine.checks.findings import SEVERITIES
from engine.errors import SchemaError
from engine.quality.causes.cause_table import CAUSE_TABLE, EXCLUDED, EXPLAINING
from engine.quality.score import adjusted_quality
from engine.report.coverage import coverage, slot_shares
from engine.report.page_data import encode_table, script_text, truncate_rows, truncate_text
from engine.schema import empty, select_schema

SCRIPTS = ("data.js", "tables.js", "matrix.js", "strips.js", "page.js")
OUTCOMES = ("answered", "empty", "refused")
MOST_ROWS: Mapping[str, int] = {
    "series": 2_000,
    "findings": 5_000,
    "parts": 5_000,
    "gaps": 5_000,
    "outages": 1_000,
    "calendars": 200,
    "files": 1_000,
    "fills": 1_000,
}
MOST_BYTES: Mapping[str, int] = {
    "series": 250_000,
    "findings": 800_000,
    "parts": 300_000,
    "gaps": 450_000,
    "outages": 150_000,
    "calendars": 50_000,
    "files": 150_000,
    "fills": 150_000,
}
MOST_STRIPS, MOST_STRIP_POINTS, MOST_STRIP_BYTES = 2_000, 25_000, 100_000
MOST_SLOT_PICTURES, MOST_SLOT_COLUMNS = 6, 1_200
MOST_REASONS = 50
STRIP_LEVELS = 999
PART_COLUMNS = ("finding", "role", "check_name", "symbol", "price_type", "interval", "session", "message")


@dataclass(frozen=True)
class Verdict:
    """The verdict of the rules on an audit, as the page shows it.

    Attributes
    ----------
    passed : bool
        Whether nothing was found that fails it.
    text : str
        In one sentence.
    reasons : sequence of str
        The rules that were broken, or anything else to say beside it.
    """

    passed: bool
    text: str
    reasons: Sequence[str] = ()


def audit_page(
    tables: Mapping[str, pl.DataFrame],
    about: Mapping[str, str | int],
    verdict: Verdict | None = None,
    confidence: float = 0.8,
) -> str:
    """Render an audit as one self-contained HTML page below 5 MB; SchemaError if a table is absent or does not fit.

    Parameters
    ----------
    tables : mapping of name to DataFrame
        All of `engine.audit.audit_tables.AUDIT_TABLES`.
    about : mapping of str to str or int
        What to say of the audit, in this order: `title` is the page's heading, any other (`sources`, `written`,
        `engine`, `command`, ...) a line with its name.
    verdict : Verdict, optional
        None: no rules were asked.
    confidence : float
        From which, 0-1, a gap of cause `no_trade` or `halt` counts as explained in the pictures: what the audit
        itself took for `explained`.

    Returns
    -------
    str
        Less than 5 MB, however large the audit: what is left out is counted, and said.

    Raises
    ------
    SchemaError
        A table is absent, or its columns do not fit.
    """
    absent = [name for name in AUDIT_TABLES if name not in tables]
    if absent:
        raise SchemaError(f"tables: absent: {', '.join(absent)}; valid: all of {', '.join(AUDIT_TABLES)}")
    given = {name: select_schema(tables[name], schema, name) for name, schema in AUDIT_TABLES.items()}
    given["fills"] = select_schema(tables.get("fills", empty(FILLS)), FILLS, "fills")
    data = page_content(given, confidence) | {
        "about": {name: truncate_text(str(value)) for name, value in about.items()},
        "verdict": verdict and verdict_content(verdict),
    }
    return fill_page_template(truncate_text(str(about.get("title", "Audit"))), script_text(data))


def fill_page_template(title: str, data: str) -> str:
    """Return `web/page.html` filled: title (escaped here), style, script, JSON (of `script_text`), policy hashes."""
    web = files("engine.report") / "web"
    style = (web / "page.css").read_text(encoding="utf-8")
    parts = "\n".join((web / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{parts}}})();\n'
    pieces = {
        "title": html.escape(title),
        "style": style,
        "script": script,
        "data": data,
        "style_hash": policy_hash(style),
        "script_hash": policy_hash(script),
    }
    page = (web / "page.html").read_text(encoding="utf-8")
    # Cut once, so that a piece which holds another's name changes nothing.
    first, *rest = page.split("{{")
    return first + "".join(pieces[name] + after for name, after in (part.split("}}", 1) for part in rest))


def verdict_content(verdict: Verdict) -> dict[str, object]:
    """Return `passed`, `text` and the first 50 `reasons` plus a line counting the rest, texts cut at 600 chars."""
    more = len(verdict.reasons) - MOST_REASONS
    reasons = [truncate_text(reason) for reason in verdict.reasons[:MOST_REASONS]]
    said = [*reasons, f"… and {more} more"] if more > 0 else reasons
    return {"passed": verdict.passed, "text": truncate_text(verdict.text), "reasons": said}


def policy_hash(text: str) -> str:
    """Content-Security-Policy source of an inline text: `'sha256-...'` of its UTF-8 bytes."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page_content(tables: Mapping[str, pl.DataFrame], confidence: float) -> dict[str, object]:
    """Return the page's JSON content: totals, pictures, each table's first rows in bounds (files: with problems)."""
    gaps = annotate_gaps(tables["gaps"], tables["series"], confidence)
    series, findings = rank_series(tables["series"], gaps), tables["findings"]
    by_cause = gaps.group_by("cause").agg(
        pl.col("bar_count").sum().alias("slots"),
        pl.len().cast(pl.Int64).alias("gaps"),
        pl.col("series").n_unique().cast(pl.Int64),
    )
    shown = {
        "series": series,
        "findings": findings,
        "parts": tables["parts"].select(*PART_COLUMNS),
        "gaps": tables["gaps"],
        "outages": tables["outages"].sort(
            ["missing", "start_ts", "calendar", "outage_id"], descending=[True, False, False, False], nulls_last=True
        ),
        "calendars": tables["calendars"].sort("calendar"),
        "files": tables["files"].filter(pl.col("problem").is_not_null()),
        "fills": tables["fills"],
    }
    chosen = shown | {
        "findings": pl.concat(
            [findings.filter(pl.col("severity") == level).head(MOST_ROWS["findings"]) for level in SEVERITIES]
        ),
        "gaps": top_gaps(gaps, MOST_ROWS["gaps"]).drop("series", "calendar"),
    }
    fit = {name: truncate_rows(rows, MOST_ROWS[name], MOST_BYTES[name]) for name, rows in chosen.items()}
    return {
        "totals": count_totals(tables),
        "severities": {level: int((findings["severity"] == level).sum()) for level in SEVERITIES},
        "filled": sum_answers(tables["fills"]),
        "causes": encode_table(by_cause.sort("slots", "cause", descending=[True, False])),
        "glossary": {cause.name: cause.meaning for cause in CAUSE_TABLE},
        "families": {cause.name: cause.family for cause in CAUSE_TABLE},
        "coverage": coverage(series, tables["quality"]),
        "slots": slot_pictures(tables, gaps),
        "strips": encode_strips(tables["strips"], gaps),
        **{name: encode_table(rows, shown[name].height) for name, rows in fit.items()},
    }


def annotate_gaps(gaps: pl.DataFrame, series: pl.DataFrame, confidence: float) -> pl.DataFrame:
    """Add `series` row number, `calendar`, `explained` (explaining cause of >= `confidence`); null cause: `unknown`."""
    # There may be millions of gaps: names are looked up once, the number of their series is used from here on.
    owners = series.select(*KEY, "calendar").with_row_index("series").unique(list(KEY), keep="first")
    explained = pl.col("cause").is_in(EXPLAINING) & (pl.col("confidence") >= confidence)
    explained |= pl.col("cause").is_in(EXCLUDED)
    return gaps.join(owners, on=list(KEY), how="left", nulls_equal=True, maintain_order="left").with_columns(
        pl.col("cause").fill_null("unknown"), explained.fill_null(value=False).alias("explained")
    )


def rank_series(series: pl.DataFrame, annotated: pl.DataFrame) -> pl.DataFrame:
    """Add `main_cause` (of most missing bars) and `unexplained` slots; sort by adjusted quality, lowest first."""
    by_cause = annotated.group_by("series", "cause").agg(pl.col("bar_count").sum())
    largest = by_cause.sort("bar_count", "cause", descending=[True, False])
    main = largest.unique("series", keep="first", maintain_order=True)
    unexplained = (pl.col("missing") - pl.sum_horizontal("explained", "excluded")).alias("unexplained")
    return (
        series.with_row_index("series")
        .join(main.select("series", pl.col("cause").alias("main_cause")), on="series", how="left")
        .drop("series")
        .with_columns(unexplained)
        .sort(["quality_adjusted", "unexplained", *KEY], descending=[False, True, False, False, False], nulls_last=True)
    )


def top_gaps(annotated: pl.DataFrame, most: int) -> pl.DataFrame:
    """Return the first `most` gaps, sorted: unexplained first, then the longest, then the earliest, then by series."""
    order = ["explained", "bar_count", "gap_start", *KEY]
    # Sorting all would take longer than everything else: what cannot be among the first is left out before.
    weight = annotated["bar_count"] - annotated["explained"].cast(pl.Int64) * (1 << 40)
    least = weight.top_k(most).min()
    if least is None:
        return annotated
    tied = annotated.filter(weight == least)
    latest = tied["gap_start"].bottom_k(most).max()
    close = pl.concat([annotated.filter(weight > least), tied.filter(pl.col("gap_start") <= latest)])
    return close.sort(order, descending=[False, True, *[False] * 4], maintain_order=True).head(most)


def sum_answers(fills: pl.DataFrame) -> list[str]:
    """Return a sentence per source on the slots that it filled and those that it did not; then of the slots that remain."""
    slots = {outcome: pl.col("bar_count").filter(pl.col("outcome") == outcome).sum() for outcome in OUTCOMES}
    sums = fills.group_by("source").agg(**slots).sort("source")
    return [
        f"{truncate_text(source)}: {answered:,} slots filled, {empty_:,} without a bar there, {refused:,} refused"
        for source, answered, empty_, refused in sums.select("source", *OUTCOMES).iter_rows()
    ]


def count_totals(tables: Mapping[str, pl.DataFrame]) -> dict[str, object]:
    """Return summed slots, first and last session, and numbers of series, symbols, sessions, gaps, findings, ..."""
    series, files_ = tables["series"], tables["files"]
    # A row after the last close of a day is of a session that nothing was expected in.
    sessions = tables["quality"].filter(pl.col("expected") > 0)["session"]
    sums = series.select(pl.col(*COUNTS, "rows").sum()).with_columns(adjusted_quality()).row(0, named=True)
    first, last = sessions.min(), sessions.max()
    return {
        **sums,
        "series": series.height,
        "symbols": series["symbol"].n_unique(),
        "sessions": sessions.n_unique(),
        "calendars": series["calendar"].drop_nulls().n_unique(),
        "first": first and str(first),
        "last": last and str(last),
        "gaps": tables["gaps"].height,
        "outages": tables["outages"].height,
        "findings": tables["findings"].height,
        "files": files_.height,
        "files_rows": int(files_["rows"].sum()),
        "files_bad": int(files_["problem"].is_not_null().sum()),
    }


def slot_pictures(tables: Mapping[str, pl.DataFrame], annotated: pl.DataFrame) -> list[dict[str, object]]:
    """Return slot-of-day pictures (`slot_shares`) of the 6 calendars with most series; nothing due: left out."""
    zones = {code: zone for code, zone in tables["calendars"].select("calendar", "time_zone").iter_rows() if zone}
    series, drawn = tables["series"], ["session", "gap_start", "gap_end", "explained", "outage_id"]
    counts = series["calendar"].drop_nulls().value_counts().sort("count", "calendar", descending=[True, False])
    often = counts["calendar"].head(MOST_SLOT_PICTURES)
    pictures = []
    columns = MOST_SLOT_COLUMNS // max(len(often), 3)
    for code in often.to_list():
        mine = series.filter(pl.col("calendar") == code)
        segments = tables["sessions"].filter(pl.col("calendar") == code)
        quality = tables["quality"].join(mine, on=list(KEY), how="semi")
        lost = annotated.lazy().filter(pl.col("calendar") == code).select(drawn).collect()
        picture = slot_shares(mine, quality, lost, segments, zones.get(code, "UTC"), columns)
        if picture is not None:
            pictures.append({"calendar": code, "zone": zones.get(code, "UTC"), **picture})
    return pictures


def encode_strips(strips: pl.DataFrame, annotated: pl.DataFrame) -> dict[str, object]:
    """Encode up to 2,000 strips of close, volume around gaps, scaled 0-999 in each; unexplained, longest gaps first."""
    key = [*KEY, "gap_start"]
    near = annotated.filter(pl.col("gap_start").is_in(strips["gap_start"].unique().implode()))
    sizes = near.select(*key, "gap_end", "bar_count", "explained").unique(key, keep="first", maintain_order=True)
    held = strips.join(sizes, on=key, how="left", nulls_equal=True)
    heads = (
        held.group_by(key, maintain_order=True)
        .agg(
            pl.col("explained", "gap_end", "bar_count").first(),
            pl.len().alias("points"),
            pl.col("close").min().alias("low"),
            pl.col("close").max().alias("high"),
            pl.col("volume").max().alias("most"),
        )
        .sort(["explained", "bar_count"], descending=[False, True], nulls_last=True, maintain_order=True)
    )
    held_here = heads.filter(pl.col("points").cum_sum() <= MOST_STRIP_POINTS).drop("explained", "bar_count")
    fit = truncate_rows(held_here, MOST_STRIPS, MOST_STRIP_BYTES)
    order = fit.with_row_index("strip").select(*key, "strip", "low", "high", "most")
    points = held.select(*key, "ts", "close", "volume").join(order, on=key, nulls_equal=True).sort("strip", "ts")
    reach = pl.col("high") - pl.col("low")
    price = pl.when(reach > 0).then((pl.col("close") - pl.col("low")) / reach).otherwise(0.5)
    volume = pl.when(pl.col("most") > 0).then(pl.col("volume") / pl.col("most")).otherwise(0.0)
    return encode_table(fit, heads.height) | {
        "points": encode_table(
            points.select(
                (pl.col("ts") - pl.col("gap_start")).dt.total_seconds().alias("seconds"),
                *(
                    # Not a number, or without end: no place in a picture.
                    (share * STRIP_LEVELS).round().cast(pl.Int32, strict=False).alias(name)
                    for name, share in (("price", price), ("volume", volume))
                ),
            )
        ),
        "levels": STRIP_LEVELS,
    }
