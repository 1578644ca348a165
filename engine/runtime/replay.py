"""Files as a stream: their rows, handed over in the order in which they became available."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from engine.calendars.providers import SessionCalendar
from engine.runtime.availability import arrivals, in_lanes
from engine.runtime.load import Contents, Group
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, StreamStatus, Subscription

BEGINNING = dt.datetime.min.replace(tzinfo=dt.UTC)


class _Track:
    """The rows of one group, and how far they were handed over."""

    def __init__(self, group: Group, rows: pl.DataFrame) -> None:
        self.group = group
        self.rows = rows
        self.available = rows["available"]
        self.at = 0

    @property
    def next_at(self) -> dt.datetime | None:
        return self.available[self.at] if self.at < self.rows.height else None

    def take(self, until: dt.datetime, symbols: frozenset[str] | None) -> pl.DataFrame:
        end = self.available.search_sorted(until, side="right")
        piece = self.rows.slice(self.at, end - self.at)
        self.at = end
        return piece if symbols is None else piece.filter(pl.col("symbol").is_in(list(symbols)))

    def past(self, request: HistoryRequest) -> pl.DataFrame:
        mine = (pl.col("symbol") == request.symbol) & (pl.col("ts") >= request.start) & (pl.col("ts") < request.end)
        return self.rows.head(self.at).filter(mine)

    def delivery(self, piece: pl.DataFrame) -> Delivery:
        one = self.group
        return Delivery(one.kind, in_lanes(piece), one.interval, one.stamp, spec=one.spec)


class ReplayStream:
    """A `Stream` of what files hold.

    Parameters
    ----------
    contents : Contents
        From `load.read_files`.
    calendar : callable
        Gives the calendar of a code.
    """

    def __init__(self, contents: Contents, calendar: Callable[[str], SessionCalendar]) -> None:
        specs = {one.symbol: one.spec for one in contents.symbols}
        self._tracks = [_Track(group, arrivals(group, specs, calendar)) for group in contents.groups]
        self._everyone = frozenset(specs)
        self._symbols: frozenset[str] = frozenset()
        self._refused = _refused(contents.refused, self._tracks)
        self._offers = _offers(contents, self._tracks)
        self._delivered = 0
        self._now = BEGINNING

    @property
    def symbols(self) -> frozenset[str]:
        """Everything that the files hold."""
        return self._everyone

    def extent(self) -> tuple[dt.datetime, dt.datetime] | None:
        """The first and the last instant at which a row becomes available; None when there is no row."""
        held = [track.available for track in self._tracks if track.rows.height]
        return (min(one[0] for one in held), max(one[-1] for one in held)) if held else None

    def available(self, symbols: Sequence[str]) -> Mapping[str, frozenset[Resolution]]:
        """What the files have of each symbol, or of every one when none is named."""
        return {symbol: self._offers[symbol] for symbol in symbols or sorted(self._offers) if symbol in self._offers}

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Hand over these symbols, too, from now on."""
        self._symbols |= {one.symbol for one in subscriptions}

    def unsubscribe(self, symbol: str) -> None:
        """Hand over nothing of a symbol any more."""
        self._symbols -= {symbol}

    def next_at(self) -> dt.datetime | None:
        """When the next row becomes available; None when there is none any more."""
        return min((at for track in self._tracks if (at := track.next_at) is not None), default=None)

    def take(self, until: dt.datetime) -> list[Delivery]:
        """Rows that became available up to `until`."""
        self._now = max(self._now, until)
        wanted = None if self._symbols >= self._everyone else self._symbols
        pieces = [(track, track.take(until, wanted)) for track in self._tracks]
        deliveries = [track.delivery(piece) for track, piece in pieces if piece.height]
        self._delivered += sum(one.height for one in deliveries)
        return [*deliveries, *self._refused_until(until)]

    def wait(self, seconds: float) -> bool:
        """Nothing is waited for: whether there is more."""
        del seconds
        return self.next_at() is not None

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        """Rows that have become available by now."""
        found = []
        for request in requests:
            for track in self._tracks:
                if (track.group.kind, track.group.interval) == (request.kind, request.interval):
                    piece = track.past(request)
                    found += [track.delivery(piece)] if piece.height else []
        return found

    def status(self) -> StreamStatus:
        """How far it is."""
        waiting = sum(track.rows.height - track.at for track in self._tracks)
        return StreamStatus(exhausted=waiting == 0, delivered=self._delivered, waiting=waiting)

    def close(self) -> None:
        """Let go of the rows."""
        self._tracks = []

    def _refused_until(self, until: dt.datetime) -> Iterable[Delivery]:
        due = [one for at, one in self._refused if at <= until]
        self._refused = [(at, one) for at, one in self._refused if at > until]
        return [replace(Delivery("bars", ()), rejects=pl.concat(due))] if due else []


def _refused(refused: Sequence[pl.DataFrame], tracks: Sequence[_Track]) -> list[tuple[dt.datetime, pl.DataFrame]]:
    """Rows that the readers refused, with the end of the last good row of their file (of all, where it has none): they tell no instant themselves."""
    ends: dict[str, dt.datetime] = {}
    latest = max((track.available[-1] for track in tracks if track.rows.height), default=BEGINNING)
    for track in tracks:
        for source, last in track.rows.group_by("source").agg(pl.col("available").max()).iter_rows():
            ends[source] = max(last, ends.get(source, last))
    return [(ends.get(frame["source"][0], latest), frame) for frame in refused]


def _offers(contents: Contents, tracks: Sequence[_Track]) -> dict[str, frozenset[Resolution]]:
    found: dict[str, set[Resolution]] = {one.symbol: set() for one in contents.symbols}
    for track in tracks:
        for symbol in track.rows["symbol"].unique():
            found[symbol].add((track.group.kind, track.group.interval))
    return {symbol: frozenset(there) for symbol, there in found.items()}
