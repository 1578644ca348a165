"""Interruptions of whole venues: circuit breakers and outages of `data/interruptions.csv`, and those of calendar files.

Facts, not hours: the slots of an interrupted session are still expected, and an audit explains their gaps.
A row of the table names calendar codes, by shell patterns, that it is true of. Its scope is `market` where nothing
could trade anywhere (or the venue is where its symbols trade), and `exchange` where they went on trading elsewhere.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from engine.calendars.cache import cached
from engine.schema import TS, Schema

TABLE = Path(__file__).parent / "data" / "interruptions.csv"
KINDS = ("circuit_breaker", "outage", "halt")
SCOPES = ("market", "exchange")
INTERRUPTIONS: Schema = {
    "start": TS, "end": TS, "kind": pl.String(), "scope": pl.String(), "source": pl.String()
}  # fmt: skip


class Interruption(NamedTuple):
    """An interruption that a calendar file names; times without a zone are those of the calendar's zone."""

    start: dt.datetime
    end: dt.datetime
    kind: str
    scope: str
    source: str


def interruptions_of(codes: Iterable[str], own: Iterable[Interruption], zone: str) -> pl.DataFrame:
    """`INTERRUPTIONS` of calendar codes from the table, and `own` ones, sorted by start; the first code counts at its exchange.

    Parameters
    ----------
    codes : iterable of str
        The calendar's code, then the code of the venue whose calendar it is (an alias, a file that extends one). Rows of
        scope `exchange` must name the first.
    own : iterable of Interruption
        Of the calendar's file.
    zone : str
        Of `own` times without a zone.
    """
    names = tuple(dict.fromkeys(code for code in codes if code))
    shipped = cached(read_shipped_interruptions)
    # A few rows, and as many patterns: no data path.
    is_ours = [
        any(fnmatch.fnmatchcase(name, pattern) for name in (names if scope == "market" else names[:1]) for pattern in venues)
        for venues, scope in shipped.select("venues", "scope").iter_rows()
    ]  # fmt: skip
    added = pl.DataFrame(own, schema={**INTERRUPTIONS, "start": pl.Object(), "end": pl.Object()}, orient="row")
    added = added.with_columns(
        pl.Series(name, [utc(at, zone) for at in added[name]], TS) for name in ("start", "end")
    )  # fmt: skip
    return pl.concat([shipped.filter(is_ours).select(list(INTERRUPTIONS)), added]).sort("start", "end")


def read_shipped_interruptions() -> pl.DataFrame:
    """Rows of the table: `venues` (list of patterns), `INTERRUPTIONS`, `looked_up` (Date)."""
    schema = {"venues": pl.String(), **dict.fromkeys(INTERRUPTIONS, pl.String()), "looked_up": pl.Date()}
    rows = pl.read_csv(io.BytesIO(TABLE.read_bytes()), schema=schema)
    return rows.with_columns(
        pl.col("venues").str.split(" "),
        *(pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC") for name in ("start", "end")),
    )  # fmt: skip


def utc(at: dt.datetime, zone: str) -> dt.datetime:
    """The instant in UTC; a time without a zone is one of `zone`, the first of two that a clock shows."""
    return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))).astimezone(dt.UTC)
