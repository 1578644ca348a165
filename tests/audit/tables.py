"""Small tables of an audit, by hand."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
from engine.audit.audit_tables import AUDIT_TABLES
from engine.checks.findings import findings

DAY = dt.date(2024, 1, 2)
OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
CLOSE = dt.datetime(2024, 1, 2, 21, 0, tzinfo=dt.UTC)
KEY = {"symbol": "SPY", "price_type": "last", "interval": "1m"}


def table(name: str, *rows: dict[str, Any]) -> pl.DataFrame:
    """Rows of one table; columns that are not given are null."""
    schema = dict(AUDIT_TABLES[name])
    return pl.DataFrame([{column: row.get(column) for column in schema} for row in rows], schema=schema)


def quality(symbol: str = "SPY", session: dt.date = DAY, **values: Any) -> dict[str, Any]:
    return {
        **KEY,
        "symbol": symbol,
        "session": session,
        "expected": 390,
        "present": 390,
        "missing": 0,
        "explained": 0,
        "quality": 100.0,
        "quality_adjusted": 100.0,
        **values,
    }


def series(symbol: str = "SPY", **values: Any) -> dict[str, Any]:
    return {
        **KEY,
        "symbol": symbol,
        "calendar": "XNYS",
        "first_session": DAY,
        "last_session": dt.date(2024, 1, 31),
        "expected": 390,
        "present": 390,
        "missing": 0,
        "explained": 0,
        "quality": 100.0,
        "quality_adjusted": 100.0,
        "activity": "liquid",
        **values,
    }


def gap(first: int, last: int, symbol: str = "SPY", **values: Any) -> dict[str, Any]:
    """A gap from one minute after the open to another, exclusive."""
    at = [OPEN + dt.timedelta(minutes=minute) for minute in (first, last)]
    return {
        **KEY,
        "symbol": symbol,
        "session": DAY,
        "segment": "RTH",
        "gap_start": at[0],
        "gap_end": at[1],
        "bar_count": last - first,
        "position": "inner",
        "cause": "feed_loss",
        **values,
    }


def found(check: str = "zone", severity: str = "warning", symbol: str = "SPY", **values: Any) -> pl.DataFrame:
    """A finding of a built-in check."""
    row = {
        "check_name": check,
        "severity": severity,
        "message": f"{check} of {symbol}",
        **KEY,
        "symbol": symbol,
        **values,
    }
    return findings(pl.DataFrame([row]))


def audit(**tables: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Tables of an audit: SPY in one session, and what is given."""
    hours = {"calendar": "XNYS", "session": DAY, "segment": "RTH", "segment_open": OPEN, "segment_close": CLOSE}
    return {"series": table("series", series()), "sessions": table("sessions", hours), **tables}
