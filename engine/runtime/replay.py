"""Files as a stream: rows are delivered in the order in which they became available."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from engine.calendars.providers import SessionCalendar
from engine.runtime.availability import order_by_availability, split_versions
from engine.runtime.load import Contents, Group
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, StreamStatus, Subscription
from engine.sources.streams.folder import select_requested

BEGINNING = dt.datetime.min.replace(tzinfo=dt.UTC)


class GroupReplay:
    """Rows of one group in order of availability, and the position up to which they were delivered."""

    def __init__(self, group: Group, rows: pl.DataFrame) -> None:
        self.group = group
        self.rows = rows
        self.available = rows["available"]
        self.at = 0

    @property
    def next_at(self) -> dt.datetime | None:
        """Time at which the next undelivered row becomes available; None when all were delivered."""
        return self.available[self.at] if self.at < self.rows.height else None

    def take(self, until: dt.datetime, symbols: frozenset[str] | None) -> pl.DataFrame:
        """Rows not yet taken with `available` <= `until`; moves past all, returns those of `symbols` (all if None)."""
        end = self.available.search_sorted(until, side="right")
        piece = self.rows.slice(self.at, end - self.at)
        self.at = end
        return piece if symbols is None else piece.filter(pl.col("symbol").is_in(list(symbols)))

    def passed(self, symbols: Iterable[str]) -> pl.DataFrame:
        """Rows of the symbols that `take` moved past, delivered or not; the position stays."""
        return self.rows.head(self.at).filter(pl.col("symbol").is_in(list(symbols)))

    def delivery(self, piece: pl.DataFrame) -> Delivery:
        """`Delivery` of the rows: one frame per version, with the group's kind, interval, stamp and axis."""
        one = self.group
        return Delivery(one.kind, split_versions(piece), one.interval, one.stamp, spec=one.spec)


class ReplayStream:
    """A `Stream` of the contents of files.

    Parameters
    ----------
    contents : Contents
        From `load.read_files`.
    calendar : callable
        Gives the calendar of a code.
    """

    def __init__(self, contents: Contents, calendar: Callable[[str], SessionCalendar]) -> None:
        specs = {one.symbol: one.spec for one in contents.symbols}
        self._tracks = [GroupReplay(group, order_by_availability(group, specs, calendar)) for group in contents.groups]
        self._everyone = frozenset(specs)
        self._symbols: frozenset[str] = frozenset()
        self._refused = time_refused_rows(contents.refused, self._tracks)
        self._offers = resolutions_of(contents, self._tracks)
        self._delivered = 0
        self._now = BEGINNING

    @property
    def symbols(self) -> frozenset[str]:
        """All symbols of the files, subscribed or not."""
        return self._everyone

    def extent(self) -> tuple[dt.datetime, dt.datetime] | None:
        """(first, last) time at which any row becomes available, all symbols; None without rows."""
        held = [track.available for track in self._tracks if track.rows.height]
        return (min(one[0] for one in held), max(one[-1] for one in held)) if held else None

    def available(self, symbols: Sequence[str]) -> Mapping[str, frozenset[Resolution]]:
        """Symbol -> (kind, interval) pairs in the files; for all symbols if the list is empty; unknown ones omitted."""
        return {symbol: self._offers[symbol] for symbol in symbols or sorted(self._offers) if symbol in self._offers}

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Add the symbols to those that `take` delivers; all of a symbol's kinds and intervals are delivered."""
        self._symbols |= {one.symbol for one in subscriptions}

    def unsubscribe(self, symbol: str) -> None:
        """Remove a symbol from those that `take` delivers; its rows are skipped from then on."""
        self._symbols -= {symbol}

    def next_at(self) -> dt.datetime | None:
        """Earliest time at which an undelivered row becomes available, of any symbol; None when there is none."""
        return min((at for track in self._tracks if (at := track.next_at) is not None), default=None)

    def take(self, until: dt.datetime) -> list[Delivery]:
        """Deliver subscribed symbols' rows available by `until`, once; skip others' rows; add rejects due by then."""
        self._now = max(self._now, until)
        wanted = None if self._symbols >= self._everyone else self._symbols
        pieces = [(track, track.take(until, wanted)) for track in self._tracks]
        deliveries = [track.delivery(piece) for track, piece in pieces if piece.height]
        self._delivered += sum(one.height for one in deliveries)
        refused = [rows for available, rows in self._refused if available <= until]
        self._refused = [(available, rows) for available, rows in self._refused if available > until]
        return [*deliveries, *([replace(Delivery("bars", ()), rejects=pl.concat(refused))] if refused else [])]

    def wait(self, seconds: float) -> bool:
        """Return at once, without sleeping: True while rows are left."""
        del seconds
        return self.next_at() is not None

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        """Rows that `take` moved past (subscribed or not) and whose slot begins in `[start, end)` of their request."""
        symbols = {request.symbol for request in requests}
        passed = [(track, rows) for track in self._tracks if (rows := track.passed(symbols)).height]
        found = (select_requested(track.delivery(rows), requests) for track, rows in passed)
        return [one for one in found if one.frames]

    def status(self) -> StreamStatus:
        """Numbers of rows delivered and waiting (any symbol); `exhausted` when none is waiting."""
        waiting = sum(track.rows.height - track.at for track in self._tracks)
        return StreamStatus(exhausted=waiting == 0, delivered=self._delivered, waiting=waiting)

    def close(self) -> None:
        """Drop all rows; nothing is delivered afterwards."""
        self._tracks = []


def time_refused_rows(
    refused: Sequence[pl.DataFrame], tracks: Sequence[GroupReplay]
) -> list[tuple[dt.datetime, pl.DataFrame]]:
    """(time, frame) of each refused frame: last availability of its file's rows, else of all files'."""
    # Refused rows have no stamp of their own that holds.
    ends: dict[str, dt.datetime] = {}
    latest = max((track.available[-1] for track in tracks if track.rows.height), default=BEGINNING)
    for track in tracks:
        for source, last in track.rows.group_by("source").agg(pl.col("available").max()).iter_rows():
            ends[source] = max(last, ends.get(source, last))
    return [(ends.get(frame["source"][0], latest), frame) for frame in refused]


def resolutions_of(contents: Contents, tracks: Sequence[GroupReplay]) -> dict[str, frozenset[Resolution]]:
    """Symbol -> (kind, interval) pairs of its rows in the files; empty for a symbol without rows."""
    found: dict[str, set[Resolution]] = {one.symbol: set() for one in contents.symbols}
    for track in tracks:
        for symbol in track.rows["symbol"].unique():
            found[symbol].add((track.group.kind, track.group.interval))
    return {symbol: frozenset(there) for symbol, there in found.items()}
