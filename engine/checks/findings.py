"""Findings: one row each, in one schema, whatever check they came from. Pure: frame in, frame out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from engine.errors import SchemaError
from engine.schema import TS, Schema, empty

FINDINGS: Schema = {
    "check_name": pl.String(),
    "severity": pl.String(),
    "symbol": pl.String(),
    "price_type": pl.String(),
    "interval": pl.String(),
    "session": pl.Date(),
    "start_ts": TS,
    "end_ts": TS,
    "count": pl.Int64(),
    "value": pl.Float64(),
    "message": pl.String(),
    "evidence": pl.String(),
    "remedy": pl.String(),
    "source": pl.String(),
    "parts": pl.Int64(),
    "fingerprint": pl.String(),
}
SEVERITIES = ("error", "warning", "info")
NEEDED = ("check_name", "severity", "message")
ORDER = ("check_name", "symbol", "price_type", "session", "start_ts", "message")
# What makes two findings of two audits the same one: what was measured of it may move.
IDENTITY = ("check_name", "symbol", "price_type", "interval", "session", "start_ts", "source")


def findings(rows: pl.DataFrame) -> pl.DataFrame:
    """Cast rows to `FINDINGS` (absent columns null), compute fingerprints; SchemaError for bad columns or severities.

    Parameters
    ----------
    rows : DataFrame
        `check_name`, `severity` (one of `SEVERITIES`), `message`, and any others of `FINDINGS`: `symbol, price_type,
        interval, session` say whose and when; `start_ts` and `end_ts` (exclusive) the span; `count` how many rows or slots;
        `value` the size in the check's own unit; `evidence` what it is based on; `remedy` what would mend it; `source`
        a file; `parts` of how many findings of single series an event consists. The fingerprint is made here.

    Returns
    -------
    DataFrame of `FINDINGS`
        In the same order.

    Raises
    ------
    SchemaError
        A column is missing or unknown, or a severity is none.
    """
    absent = [name for name in NEEDED if name not in rows.columns]
    strange = [name for name in rows.columns if name not in FINDINGS]
    if absent or strange:
        raise SchemaError(f"findings: absent: {', '.join(absent) or 'none'}; unknown: {', '.join(strange) or 'none'}")
    wrong = rows.filter(~pl.col("severity").is_in(SEVERITIES).fill_null(value=False))["severity"].to_list()
    if wrong:
        raise SchemaError(f"findings: severity {wrong[0]!r}; valid: {', '.join(SEVERITIES)}")
    given = [
        pl.col(name).cast(dtype) if name in rows.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in FINDINGS.items()
    ]
    shaped = rows.select(given)
    return shaped.with_columns(fingerprint_of_findings().alias("fingerprint"))


def findings_of(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return a `FINDINGS` frame with fingerprints from one mapping per finding; no rows: an empty frame."""
    if not rows:
        return empty(FINDINGS)
    return findings(pl.DataFrame(rows, infer_schema_length=None))


def number_of(count: int, noun: str) -> str:
    """Text of a number with its noun: `1 row`, `1,234 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def merge_findings(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Concatenate findings and sort: error, warning, info, then check, symbol, price type, session, start; keep all."""
    rank = pl.col("severity").cast(pl.Enum(SEVERITIES))
    # All columns: the order must not depend on how the work was cut, or where it ran.
    order = list(dict.fromkeys([*ORDER, *FINDINGS]))
    return pl.concat([empty(FINDINGS), *parts]).sort([rank, *map(pl.col, order)], maintain_order=True, nulls_last=True)


def fingerprint_of_findings() -> pl.Expr:
    """Return an expression: `IDENTITY` columns joined by `|`, null as empty, `|` doubled; no sizes or text."""
    # Readable, so that a person can name a finding in a list of what is known; stable, as a hash of Polars is not.
    parts = [pl.col(name).cast(pl.String).fill_null("").str.replace_all("|", "||", literal=True) for name in IDENTITY]
    return pl.concat_str(parts, separator="|")
