"""What an earlier audit found: read from its JSON, and told from what is found now.

A finding is known when the earlier audit had one with its fingerprint, at least as severe, and what was measured of it
has not got worse by more than a tolerance. What the earlier audit allowed is not known: its entry may have expired.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from engine.checks.findings import FINDINGS, SEVERITIES
from engine.errors import ParameterError
from engine.schema import TS

FORMAT, VERSION = "session-engine audit", 2
STAMP = "%Y-%m-%dT%H:%M:%S%.fZ"


@dataclass(frozen=True)
class Baseline:
    """Findings of an earlier audit.

    Attributes
    ----------
    name : str
        Where it came from.
    findings : DataFrame
        `FINDINGS`, each fingerprint once: its worst.
    rules : frozenset of str
        Names of the rules it was judged by.
    """

    name: str
    findings: pl.DataFrame
    rules: frozenset[str]


def read_baseline(path: Path) -> Baseline:
    """Read the JSON of an earlier audit as a Baseline; ParameterError if unreadable, of another format or version.

    Raises
    ------
    ParameterError
        The file cannot be read, is no audit, or is one of another version.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ParameterError(f"baseline {path}: cannot be read: {error}; valid: the JSON of an audit") from error
    return parse_baseline(content, f"baseline {path}")


def parse_baseline(content: Any, name: str = "baseline") -> Baseline:  # noqa: ANN401 - whatever the JSON holds
    """Return the Baseline of audit JSON, allowed findings left out; ParameterError: other format, version, damage."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        got = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ParameterError(f"{name}: format: received {got!r}; valid: {FORMAT!r}, the JSON of an audit")
    if content.get("version") != VERSION:
        raise ParameterError(
            f"{name}: version: received {content.get('version')!r}; valid: {VERSION}. Run the audit again to have a new one"
        )
    try:
        rows = [one for one in content["findings"] if one["state"] != "allowed"]
        rules = frozenset(str(one["name"]) for one in content["rules"])
        return Baseline(name, findings_of_json(rows), rules)
    except (KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise ParameterError(f"{name}: is damaged: {type(error).__name__} {error}; run the audit again") from error


def mark_known(found: pl.DataFrame, baseline: Baseline) -> pl.DataFrame:
    """Add `known` (baseline has it, as severe, no worse beyond tolerance) and the text `than`: what got worse, or null.

    Parameters
    ----------
    found : DataFrame
        `FINDINGS`, `lower_is_worse` (Boolean), and the tolerance of each: `absolute`, `relative` (Float64).
    baseline : Baseline

    Returns
    -------
    DataFrame
        The rows in the same order with `known` (Boolean) and `than` (String), what is worse than before, or null.
    """
    before = baseline.findings.select(
        "fingerprint", *(pl.col(name).alias(f"{name}_before") for name in ("severity", "value", "count"))
    )
    beside = found.join(before, on="fingerprint", how="left", maintain_order="left")
    was_there = pl.col("severity_before").is_not_null()
    severer = severity_rank("severity") < severity_rank("severity_before")
    sizes = [is_worse(pl.col("value"), pl.col("value_before"), pl.col("lower_is_worse"))]
    # Where a finding has no value, or had none, how many rows or slots it holds is its size.
    sizes += [is_worse(pl.col("count"), pl.col("count_before"), pl.lit(value=False))]
    worse = pl.coalesce([*sizes, pl.lit(value=False)])
    has_values = pl.col("value").is_not_null() & pl.col("value_before").is_not_null()
    now, then = (
        pl.when(has_values).then(f"value{end}").otherwise(pl.col(f"count{end}").cast(pl.Float64))
        for end in ("", "_before")
    )
    than = (
        pl.when(was_there & severer)
        .then(pl.format("was a finding of severity {}", "severity_before"))
        .when(was_there & worse)
        .then(pl.format("was {}, is {}", then.round(6), now.round(6)))
    )
    known = was_there & ~severer.fill_null(value=False) & ~worse
    return beside.with_columns(known.alias("known"), than.alias("than")).drop(
        "severity_before", "value_before", "count_before"
    )


def resolved_findings(
    found: pl.DataFrame, baseline: Baseline, series: pl.DataFrame, files: pl.DataFrame, rules: Iterable[str]
) -> pl.DataFrame:
    """Baseline findings absent now: `mended` if symbol (or file, calendar), session, rule were judged, else `unchecked`.

    Parameters
    ----------
    found : DataFrame
        `FINDINGS`.
    baseline : Baseline
    series, files : DataFrame
        Tables of the audit: what was looked at now.
    rules : iterable of str
        Names of the rules by which it was judged now.

    Returns
    -------
    DataFrame of `FINDINGS` and `state`
        `mended`, or `unchecked` where the symbol, session, file, calendar or rule is not among those looked at.
    """
    lost = baseline.findings.join(found, on="fingerprint", how="anti", maintain_order="left")
    first, last = pl.col("first_session").min(), pl.col("last_session").max()
    of_symbols = series.group_by("symbol").agg(first, last)
    of_calendars = series.group_by(pl.col("calendar").alias("source")).agg(first, last)
    begin, end = (pl.lit(series.select(fold).item(), pl.Date) for fold in (first, last))
    lost = lost.join(of_symbols, on="symbol", how="left", maintain_order="left").join(
        of_calendars, on="source", how="left", maintain_order="left", suffix="_of_calendar"
    )
    of_symbol = is_in_span("first_session", "last_session")
    # A finding without a symbol is of a file, of an outage (its source is the calendar), or of a rule on outages (none).
    of_source = (
        pl.when(pl.col("source").is_null())
        .then(pl.col("session").is_null() | pl.col("session").is_between(begin, end).fill_null(value=False))
        .otherwise(
            pl.col("source").is_in(files["source"].implode())
            | is_in_span("first_session_of_calendar", "last_session_of_calendar")
        )
    )
    of_rule = ~pl.col("check_name").is_in(sorted(baseline.rules - set(rules)))
    looked_at = pl.when(pl.col("symbol").is_null()).then(of_source).otherwise(of_symbol) & of_rule
    state = pl.when(looked_at).then(pl.lit("mended")).otherwise(pl.lit("unchecked"))
    return lost.select(*FINDINGS, state.alias("state"))


def is_in_span(first: str, last: str) -> pl.Expr:
    """Whether `session` is null or within the columns `first..last`, both included; False where these are null."""
    within = pl.col("session").is_null() | pl.col("session").is_between(first, last)
    return pl.col(first).is_not_null() & within


def is_worse(now: pl.Expr, before: pl.Expr, lower_is_worse: pl.Expr) -> pl.Expr:
    """Whether a value worsened by more than the larger of `absolute` and `relative` x |before|; either null: null."""
    grown = pl.when(lower_is_worse).then(before - now).otherwise(now - before)
    return grown > pl.max_horizontal(pl.col("absolute"), pl.col("relative") * before.abs())


def severity_rank(column: str) -> pl.Expr:
    """Return an expression: 0 error, 1 warning, 2 info; null stays null, any other value raises."""
    return pl.col(column).replace_strict(list(SEVERITIES), list(range(len(SEVERITIES))), return_dtype=pl.Int8)


def findings_of_json(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return JSON rows as `FINDINGS`, errors first; of one fingerprint the first gravest; absent column: KeyError."""
    as_text = {
        name: pl.String() if name in ("session", "start_ts", "end_ts") else dtype for name, dtype in FINDINGS.items()
    }
    # Audits of earlier versions do not count parts.
    frame = pl.DataFrame(
        [{name: row[name] for name in FINDINGS} for row in ({"parts": None, **row} for row in rows)],
        schema=as_text,
        orient="row",
    )
    stamps = [
        pl.col(name).str.to_datetime(STAMP, time_unit="us", time_zone="UTC").cast(TS) for name in ("start_ts", "end_ts")
    ]
    parsed = frame.with_columns(pl.col("session").str.to_date("%Y-%m-%d"), *stamps)
    worst_first = parsed.sort(severity_rank("severity"), maintain_order=True)
    return worst_first.unique("fingerprint", keep="first", maintain_order=True)
