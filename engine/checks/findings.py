"""What an audit says: one row per finding, in one shape, whatever check it came from. Pure: frame in, frame out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from engine.errors import SchemaError
from engine.schema import TS, Schema, empty

FINDINGS: Schema = {
    "check": pl.String(),
    "severity": pl.String(),
    "symbol": pl.String(),
    "price_type": pl.String(),
    "interval": pl.String(),
    "session": pl.Date(),
    "start": TS,
    "end": TS,
    "count": pl.Int64(),
    "value": pl.Float64(),
    "message": pl.String(),
    "evidence": pl.String(),
    "remedy": pl.String(),
    "source": pl.String(),
    "fingerprint": pl.String(),
}
SEVERITIES = ("error", "warning", "info")
NEEDED = ("check", "severity", "message")
# What makes two findings of two audits the same one: what was measured of it may move.
IDENTITY = ("check", "symbol", "price_type", "interval", "session", "start", "source")


def findings(rows: pl.DataFrame) -> pl.DataFrame:
    """Give the findings of a check their shape.

    Parameters
    ----------
    rows : DataFrame
        `check`, `severity` (one of `SEVERITIES`), `message`, and any others of `FINDINGS`: `symbol, price_type,
        interval, session` say whose and when; `start` and `end` (exclusive) the span; `count` how many rows or slots;
        `value` the size in the check's own unit; `evidence` what it is based on; `remedy` what would mend it; `source`
        a file. The fingerprint is made here.

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
    wrong = rows.filter(~pl.col("severity").is_in(SEVERITIES))["severity"].to_list()
    if wrong:
        raise SchemaError(f"findings: severity {wrong[0]!r}; valid: {', '.join(SEVERITIES)}")
    given = [pl.col(name).cast(dtype) if name in rows.columns else pl.lit(None, dtype).alias(name) for name, dtype in FINDINGS.items()]  # fmt: skip
    shaped = rows.select(given)
    return shaped.with_columns(_fingerprint().alias("fingerprint"))


def findings_of(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """As `findings`, from a mapping of names to values per finding; maybe none."""
    if not rows:
        return empty(FINDINGS)
    return findings(pl.DataFrame(rows, infer_schema_length=None))


def together(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Findings of several checks as one frame: errors first, then by check, symbol and time, then by all else."""
    rank = pl.col("severity").cast(pl.Enum(SEVERITIES))
    # Every column, so that findings that are alike come in one order whatever task found them first.
    order = [
        "check",
        "symbol",
        "price_type",
        "session",
        "start",
        "message",
        "interval",
        "end",
        "source",
        "count",
        "value",
        "evidence",
    ]
    return pl.concat([empty(FINDINGS), *parts]).sort([rank, *map(pl.col, order)], maintain_order=True, nulls_last=True)


def _fingerprint() -> pl.Expr:
    # Readable, so that a person can name a finding in a list of what is known; stable, as a hash of Polars is not.
    parts = [pl.col(name).cast(pl.String).fill_null("").str.replace_all("|", "||", literal=True) for name in IDENTITY]
    return pl.concat_str(parts, separator="|")
