"""Findings of `verify`: one row per fault, with the rows of the damaged file as far as the log says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import polars as pl

from engine.export.delta_table import DataFile
from engine.export.file_statistics import summarize_file
from engine.panics import hide_panics
from engine.schema import TS, Schema

FINDINGS: Schema = {
    "table_name": pl.String(),
    "file": pl.String(),
    "check_name": pl.String(),
    "severity": pl.String(),
    "rows": pl.Int64(),
    "symbols": pl.String(),
    "first_ts": TS,
    "last_ts": TS,
    "detail": pl.String(),
}
Severity = Literal["error", "warning", "info"]
SEVERITIES = ("error", "warning", "info")
# A file with one of these is not what the log says; the other checks speak of rows that contradict one another.
FILE_CHECKS = ("exists", "size", "sha256", "readable", "rows", "schema", "statistics", "sorted", "folder")

Value = TypeVar("Value")


class Finding(NamedTuple):
    """One fault; `file` is its path below the target, `held` the rows, symbols and times that the file had."""

    table: str
    file: str
    check: str
    detail: str
    severity: Severity = "error"
    held: Mapping[str, Any] = {}

    @classmethod
    def of(cls, table: str, file: DataFile, check: str, detail: str) -> Finding:
        """Error finding of a file that the log names, with the rows, symbols and times of its log statistics."""
        return cls(table, f"{table}/{file.path}", check, detail, held=summarize_file(file))


def findings_frame(found: Iterable[Finding]) -> pl.DataFrame:
    """Findings as a `FINDINGS` frame without duplicates, sorted by severity (errors first), table, file."""
    rows = [
        {
            "table_name": one.table,
            "file": one.file,
            "check_name": one.check,
            "severity": one.severity,
            "detail": one.detail,
            **one.held,
        }
        for one in found
    ]
    frame = pl.DataFrame([{name: row.get(name) for name in FINDINGS} for row in rows], schema=dict(FINDINGS))
    rank = pl.col("severity").cast(pl.Enum(SEVERITIES))
    return frame.unique(maintain_order=True).sort(rank, "table_name", "file", maintain_order=True)


def faults(findings: pl.DataFrame) -> pl.DataFrame:
    """Findings of severity error or warning; those of severity info are dropped."""
    return findings.filter(pl.col("severity") != "info")


def damaged(findings: pl.DataFrame) -> pl.DataFrame:
    """Error findings whose check is in `FILE_CHECKS`: the file is missing or contradicts its log, name or schema."""
    return findings.filter((pl.col("severity") == "error") & pl.col("check_name").is_in(FILE_CHECKS))


def try_reading(action: Callable[[], Value]) -> tuple[Value | None, str]:
    """Run an action; return (result, "") or, on any Exception or Rust panic, (None, "<type>: <message>")."""
    try:
        with hide_panics():
            return action(), ""
    except Exception as error:  # noqa: BLE001 - becomes a finding
        return None, f"{type(error).__name__}: {error}"
    except BaseException as error:
        # Rust libraries panic on some damage, with an error that is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        return None, f"{type(error).__name__}: {error}"
