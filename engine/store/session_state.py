"""State of a session that no row tells: its symbols, clock, streams, rejects and what was exported. Immutable."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import polars as pl

from engine.schema import TS, Schema, empty
from engine.store.symbol_data import SymbolSessionData

CARRIED: Schema = {"symbol": pl.String(), "rows": pl.Int64(), "first_ts": TS, "last_ts": TS}
Incomplete = Literal["flag", "drop"]


class Restored(NamedTuple):
    """Revision of an export, and the revision of the store that had just the source bars of it."""

    revision: int
    store_revision: int


@dataclass(frozen=True, kw_only=True, repr=False)
class SessionState:
    """Symbols and state of a session at one revision.

    Attributes
    ----------
    symbols : mapping of str to SymbolSessionData
        The registered symbols; they refer to no snapshot.
    registered : mapping of str to int
        The revision at which a symbol was registered, or last asked for more.
    session_date : date or None
        The current trade date.
    session_active : bool
        Whether its session runs.
    active_streams : mapping of (symbol, interval or kind of rows) to bool
    as_of : datetime or None
        Until when slots are due; None for a batch whose sessions are all over.
    incomplete : {"flag", "drop"}
        Whether derived bars of windows that lack slots are shown (and flagged) or left out of views and exports.
    rejects : tuple of DataFrame of `schema.REJECTS`
    counters : tuple of DataFrame of `schema.COUNTERS`
        The feed's own numbers, of the files that have them.
    exported_revision : int
        Everything up to it is in an export.
    files : frozenset of str
        Content marks of the loaded files.
    held_from : date or None
        The store goes on from an export, and holds the sessions from this one on; earlier ones are in the export alone.
    indicators_from : date or None
        The first session whose indicators are stored: held sessions before it are there so that its values are right. None: all.
    restored : Restored or None
        The revision of an export that it goes on from, and the last of the store whose source bars are those of that revision.
    carried : DataFrame of `CARRIED`
        Number and extent of the source rows of each symbol that are in the export alone.
    carried_in : int
        The revision of the export that has them.
    """

    symbols: Mapping[str, SymbolSessionData] = field(default_factory=dict)
    registered: Mapping[str, int] = field(default_factory=dict)
    session_date: dt.date | None = None
    session_active: bool = False
    active_streams: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    as_of: dt.datetime | None = None
    incomplete: Incomplete = "flag"
    rejects: tuple[pl.DataFrame, ...] = ()
    counters: tuple[pl.DataFrame, ...] = ()
    exported_revision: int = 0
    files: frozenset[str] = frozenset()
    held_from: dt.date | None = None
    indicators_from: dt.date | None = None
    restored: Restored | None = None
    carried: pl.DataFrame = field(default_factory=lambda: empty(CARRIED))
    carried_in: int = 0
