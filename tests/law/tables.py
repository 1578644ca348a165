"""Tables of the entry points, brought to one form: the one place that says what may differ between equal data."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import engine
import polars as pl
import polars.selectors as cs
from engine.runtime.audit_report import Audit

Tables = dict[str, pl.DataFrame]
NUMBERS = ("open", "high", "low", "close", "volume", "vwap")
BASE_GAP = ["symbol", "price_type", "interval", "session", "segment", "gap_start", "gap_end", "bar_count", "position"]
BASE_QUALITY = ["symbol", "price_type", "interval", "session", "expected", "present", "missing", "quality"]
COUNTED = ["duplicates", "corrections", "off_grid", "out_of_session", "zero_volume"]


def of_store(tables: Mapping[str, pl.DataFrame]) -> Tables:
    """`bars`, `gaps`, `quality`, `rejects` and `symbols` of a store or an export.

    May differ: `revision` (how many writes there were), `source` (the format or folder of a symbol's files), rejects as
    `rejects` says. An export has Int64 where the store has Int32.
    """
    found = {name: tables[name].drop("revision", strict=False) for name in ("bars", "gaps", "quality")}
    found["symbols"] = tables["symbols"].drop("revision", "source", strict=False)
    found = {name: frame.with_columns(cs.integer().cast(pl.Int64)) for name, frame in found.items()}
    found = {name: frame.sort(frame.columns[:4] + _stamps(frame), maintain_order=True) for name, frame in found.items()}
    return found | {"rejects": rejects(tables["rejects"])}


def of_audit(done: Audit) -> Tables:
    """`series`, `quality`, `gaps`, `outages`, `sessions`, `calendars` and `findings` of an audit.

    May differ: `source` of a series, the table of files, findings as `findings` says, the line of a refused row; and a confidence in its fourth digit: it is
    estimated from steps between neighbouring bars, and of a file that is surveyed in parts the steps over their borders are not seen.
    """
    names = ("quality", "gaps", "outages", "sessions", "calendars")
    shown = {name: done.tables[name].with_columns(cs.integer().cast(pl.Int64)) for name in names}
    shown |= {name: shown[name].with_columns(pl.col("confidence").round(3)) for name in ("gaps", "outages")}
    place = pl.col("evidence").str.replace(r"^refused, line \d+ of [^:]+: ", "refused: ")
    shown["gaps"] = shown["gaps"].with_columns(place)
    return shown | {
        "series": done.tables["series"].drop("source"),
        "findings": findings(done.tables["findings"]),
    }


def rejects(frame: pl.DataFrame) -> pl.DataFrame:
    """Reasons and cells of refused rows, sorted.

    May differ: the file, the line in it, and how a format writes a cell (`1.0` or `1`, `T` or a blank in a stamp, nothing or
    text where a stamp cannot be read).
    """
    cells = [_cells(json.loads(text)) for text in frame["cells"]]
    shown = pl.DataFrame({"reason": frame["reason"], "cells": cells}, schema={"reason": pl.String, "cells": pl.String})
    return shown.sort("reason", "cells")


def _cells(row: dict[str, Any]) -> str:
    known = {name: float(row[name]) if row.get(name) else None for name in (*NUMBERS, "trades")}
    return json.dumps({"symbol": row["symbol"], "ts": _instant(row["ts"]), **known}, sort_keys=True)


def _instant(text: str | None) -> str | None:
    try:
        stamp = dt.datetime.fromisoformat((text or "").replace(" UTC", "Z"))
    except ValueError:
        return None
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC)).astimezone(dt.UTC).isoformat()


def findings(frame: pl.DataFrame) -> pl.DataFrame:
    """Findings in their order; those on refused rows by reason.

    May differ: the file, hence the fingerprint, and how the refused rows of one reason are shared out among files.
    """
    refused = frame.filter(pl.col("check_name") == "refused").with_columns(
        pl.col("message").str.replace(r"^[\d,]+ row\(s\) of .* were refused: ", "").alias("reason")
    )
    by_reason = refused.group_by("check_name", "severity", "reason").agg(pl.col("count").sum()).sort("reason")
    others = (
        frame.filter(pl.col("check_name") != "refused")
        .drop("source", "fingerprint")
        .with_columns(pl.col("value").round(3))
    )
    return pl.concat([others, by_reason.rename({"reason": "message"})], how="diagonal")


def exit_code(done: Audit) -> int:
    """Of `engine audit`."""
    return engine.apply_rules(done.tables, engine.read_rules(None), today=dt.date(2024, 4, 1)).exit_code


def differences(one: Tables, other: Tables) -> list[str]:
    """Names of tables that are not equal, each with a row that only one of them has."""
    return [text for name in one for text in _difference(name, one[name], other[name])]


def _difference(name: str, one: pl.DataFrame, other: pl.DataFrame) -> Iterable[str]:
    if one.schema != other.schema:
        return [f"{name}: columns {set(one.schema.items()) ^ set(other.schema.items())}"]
    if one.equals(other):
        return []
    key = one.columns
    mine = one.join(other, on=key, how="anti", nulls_equal=True)
    its = other.join(one, on=key, how="anti", nulls_equal=True)
    shown = [re.sub(r"\s+", " ", str(rows.row(0, named=True))) for rows in (mine, its) if rows.height]
    return [f"{name}: {one.height} and {other.height} rows, {mine.height} and {its.height} alone: {shown or 'order'}"]


def _stamps(frame: pl.DataFrame) -> list[str]:
    return [name for name in ("ts", "gap_start") if name in frame.columns]
