"""Tables of a small export, in which every table says which generation it is of."""

from __future__ import annotations

import datetime as dt
import os
import resource
import signal
import sys
from pathlib import Path

import engine.publish
import polars as pl
from engine.errors import ExportError
from engine.export.dataset import write_dataset
from engine.export.tables import TABLES

WRITTEN_AT = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
HOSTILE = [
    "0700", "BRK/B", "../x", "CON", "=cmd", "[/]", "<script>alert(1)</script>", "\U0001f4c8", "a" * 300, "it's", 'say "x"',
    "two\nlines", "cr\rhere", "tab\there", "back\\slash", "50%", "a,b;c", " lead and trail ", "", "null", "é", "e\u0301", "nul\0in",
]  # fmt: skip


def tables(generation: int, symbols: list[str] | None = None, minutes: int = 7) -> dict[str, pl.DataFrame]:
    symbols = symbols or HOSTILE
    whole = {
        "bars": bars(generation, symbols, minutes),
        "quotes": quotes(generation, symbols),
        "ticks": ticks(generation, symbols),
        "open_interest": framed("open_interest", [
            {"symbol": s, "ts": at(0), "session": dt.date(2013, 10, 31), "value": float(generation)} for s in symbols]),
        "gaps": framed("gaps", [
            {"symbol": s, "price_type": "last", "interval": "1m", "session": dt.date(2013, 10, 31), "segment": "RTH",
             "gap_start": at(7), "gap_end": at(9), "bar_count": 2, "position": "trailing", "state": "open",
             "retry_count": generation, "next_retry": at(60) if s else None} for s in symbols]),
        "quality": framed("quality", [
            {"symbol": s, "price_type": "last", "interval": "1m", "session": dt.date(2013, 10, 31), "expected": 9, "present": 7,
             "missing": 2, "duplicates": generation, "quality": 100 * 7 / 9} for s in symbols]),
        "sessions": framed("sessions", [
            {"calendar": "XNYS", "session": dt.date(2013, 10, 31), "ordinal": generation, "segment": "RTH",
             "segment_open": at(0), "segment_close": at(9)}]),
        "calendars": framed("calendars", [
            {"calendar": "XNYS", "provider": "p", "version": str(generation), "time_zone": "America/New_York"}]),
        "symbols": framed("symbols", [
            {"symbol": s, "calendar": "XNYS", "base_interval": "1m", "derived_intervals": ["5m", "1h"] if s else None,
             "is_loaded": True, "rows": generation, "first_ts": at(0), "last_ts": at(6)} for s in symbols]),
        "rejects": framed("rejects", [
            {"source": s, "row": generation, "reason": "high below low; x", "cells": '{"a":"1"}'} for s in symbols]),
        "fills": framed("fills", [
            {"symbol": s, "price_type": "last", "interval": "1m", "session": dt.date(2013, 10, 31), "segment": "RTH",
             "gap_start": at(7), "gap_end": at(9), "bar_count": 2, "cause": "feed_loss", "source": s, "outcome": "empty",
             "original_start": at(7), "original_end": at(9), "original_cause": "feed_loss" if s else None, "state": "open",
             "retry_count": generation, "last_retry": at(30), "next_retry": at(60) if s else None} for s in symbols]),
    }  # fmt: skip
    return {name: rows.with_columns(pl.lit(generation, pl.Int64).alias("revision")) for name, rows in whole.items()}


MARKS = {
    "bars": "volume", "quotes": "bid_size", "ticks": "size", "open_interest": "value", "gaps": "retry_count",
    "quality": "duplicates", "sessions": "ordinal", "calendars": "version", "symbols": "rows", "rejects": "row",
    "fills": "retry_count",
}  # fmt: skip


def bars(generation: int, symbols: list[str], minutes: int) -> pl.DataFrame:
    return framed(
        "bars",
        [
            {"symbol": s, "price_type": price_type, "interval": interval, "origin": "source" if interval == "1m" else "derived",
             "ts": at(minute + days * 1440), "ts_end": at(minute + days * 1440 + 1), "session": dt.date(2013, 10, 31) + dt.timedelta(days),
             "segment": "RTH" if minute else None, "open": 1.5 + minute / 7, "high": 3.0, "low": 0.1, "close": 1.1, "volume": float(generation),
             "trades": 2**60 + minute, "n_base": 5 if interval == "5m" else None, "n_expected": minute, "complete": minute % 2 == 0,
             "final": True, "provenance": "source",
             "verdict": "observed"}
            for price_type in ("last", "bid") for interval in ("1m", "5m") for s in symbols for days in (0, 1) for minute in range(minutes)
        ],
    )  # fmt: skip


def quotes(generation: int, symbols: list[str]) -> pl.DataFrame:
    rows = [
        {"symbol": s, "ts": at(n), "ts_ns": ns(at(n)) + 7 * n, "seq": n, "session": dt.date(2013, 10, 31), "bid": 1.0,
         "ask": None if n else 1.25, "bid_size": float(generation)}
        for s in symbols for n in range(3)
    ]  # fmt: skip
    return framed("quotes", rows)


def ticks(generation: int, symbols: list[str]) -> pl.DataFrame:
    rows = [
        {"symbol": s, "ts": at(n), "ts_ns": ns(at(n)) + n, "seq": n, "session": dt.date(2013, 10, 31), "price": 1.0,
         "size": float(generation), "exchange": "Q", "conditions": s, "suspicious": bool(n)}
        for s in symbols for n in range(3)
    ]  # fmt: skip
    return framed("ticks", rows)


def framed(name: str, rows: list[dict[str, object]]) -> pl.DataFrame:
    schema = {column: dtype for column, dtype in TABLES[name].items() if column != "month"}
    return pl.DataFrame([{column: row.get(column) for column in schema} for row in rows], schema=schema)


def at(minute: int) -> dt.datetime:
    return dt.datetime(2013, 10, 31, 13, 30, 0, 123456, tzinfo=dt.UTC) + dt.timedelta(minutes=minute)


def ns(instant: dt.datetime) -> int:
    return int((instant - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1)) * 1000


def export(target: Path, generation: int, symbols: list[str] | None = None, **options: object) -> int:
    return write_dataset(
        target, tables(generation, symbols), store_id="s", store_revision=generation, written_at=WRITTEN_AT, **options
    )


def generations(scan: dict[str, pl.LazyFrame]) -> dict[str, set[int]]:
    return {
        name: {int(value) for value in scan[name].select(mark).collect()[mark].unique()} for name, mark in MARKS.items()
    }


def counts(scan: dict[str, pl.LazyFrame]) -> dict[str, int]:
    return {name: scan[name].select(pl.len()).collect().item() for name in MARKS}


EXPECTED_COUNTS = {name: frame.height for name, frame in tables(1).items()}


# Text that Parquet makes small and the statistics of a log entry do not.
LONG = ["a" * 20_000]


def counting_fsync(kill_at: int) -> list[int]:
    seen = [0]
    real = os.fsync

    def counted(handle: int) -> None:
        seen[0] += 1
        if seen[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)

    engine.publish.os.fsync = counted
    return seen


def main(folder: str, generation: str, kill_at: str, file_limit: str, symbols: str) -> int:
    """A child of the fault tests: killed at its n-th fsync, or with files limited in size (0: neither)."""
    seen = counting_fsync(int(kill_at))
    if int(file_limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_limit), int(file_limit)))
    print("ready", flush=True)  # noqa: T201
    try:
        revision = export(Path(folder), int(generation), LONG if symbols == "long" else None)
    except ExportError as error:
        print(error, getattr(error.__cause__, "__notes__", ""), flush=True)  # noqa: T201
        return 2
    print(revision, *seen, flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
