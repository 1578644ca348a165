"""The contract between a session and its source of rows, replayed or live.

A stream is pulled: `take` hands over what has become available and never blocks. A source with threads of its own
(a socket) keeps them behind this contract, with a bounded queue. `fetch` asks for the past: history, what a symbol
that is added in mid-session has missed, what a gap lacks. It may block, and is called where that disturbs nobody.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import polars as pl

from engine.grid import GridSpec, Stamp
from engine.interval import Interval
from engine.schema import REJECTS, Kind, empty

Resolution = tuple[Kind, Interval | None]  # ("bars", 1m), ("ticks", None), ("quotes", None)


AROUND_THE_CLOCK = GridSpec("24/7")


class Subscription(NamedTuple):
    """A symbol with the kind and interval that is streamed."""

    symbol: str
    kind: Kind
    interval: Interval | None = None


class HistoryRequest(NamedTuple):
    """A request of past rows: ticks and quotes in `[start, end)`, bars whose slot on the axis `spec` begins in it.

    The axis says where a bar begins that is stamped with its end, or with its date; by default slots begin at midnight UTC.
    """

    symbol: str
    kind: Kind
    interval: Interval | None
    start: dt.datetime
    end: dt.datetime
    spec: GridSpec = AROUND_THE_CLOCK


@dataclass(frozen=True)
class Delivery:
    """Rows of one kind and interval, delivered together.

    Attributes
    ----------
    kind : {"bars", "quotes", "ticks", "open_interest"}
    frames : tuple of DataFrame
        As `SessionData.append` takes them: conformed rows (`schema.ROWS[kind]`), and `source` and `row` where there
        are any. Inside a frame the last row of a key wins, a later frame corrects an earlier one.
    interval : Interval or None
        Of bars.
    stamp : {"start", "end", "end-inclusive"}
        What `ts` of bars stands for.
    rejects : DataFrame
        `schema.REJECTS`: what came and did not hold.
    spec : GridSpec or None
        The axis, where it is not the symbol's own (a series kept beside the base).
    """

    kind: Kind
    frames: tuple[pl.DataFrame, ...]
    interval: Interval | None = None
    stamp: Stamp = "start"
    rejects: pl.DataFrame = field(default_factory=lambda: empty(REJECTS))
    spec: GridSpec | None = None

    @property
    def height(self) -> int:
        """Number of rows in all frames; rejects are not counted."""
        return sum(frame.height for frame in self.frames)


@dataclass(frozen=True)
class StreamStatus:
    """Connection, counters, lag and last error of a stream.

    Attributes
    ----------
    connected : bool
    exhausted : bool
        Nothing will ever come any more.
    delivered : int
        Rows handed over.
    waiting : int
        Rows that came and were not taken yet.
    dropped : mapping of kind to int
        Rows that did not fit into the queue; never bars.
    reconnects : int
    lag_seconds : float or None
        How far behind the source's own stamps the last row came; None where that means nothing.
    error : str
        The last thing that went wrong, empty when nothing did.
    """

    connected: bool = True
    exhausted: bool = False
    delivered: int = 0
    waiting: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    reconnects: int = 0
    lag_seconds: float | None = None
    error: str = ""


class Stream(Protocol):
    """A source of a running session."""

    def available(self, symbols: Sequence[str]) -> Mapping[str, frozenset[Resolution]]:
        """Offered (kind, interval) pairs per symbol, unknown ones absent; without symbols of all it can name."""
        ...

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Add to the current subscriptions; rows of these are delivered from now on."""
        ...

    def unsubscribe(self, symbol: str) -> None:
        """Stop delivering a symbol, in every kind and interval."""
        ...

    def next_at(self) -> dt.datetime | None:
        """Instant when the next row becomes available (a replay); None for a live source, and at the end."""
        ...

    def take(self, until: dt.datetime) -> list[Delivery]:
        """Remove and return the deliveries available up to `until` (inclusive), in order of arrival; never blocks."""
        ...

    def wait(self, seconds: float) -> bool:
        """Block until there is something to take, at most `seconds`; return whether there is."""
        ...

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        """Deliveries of the requested past rows, subscribed or not; may block and may raise StreamError."""
        ...

    def status(self) -> StreamStatus:
        """Snapshot of connection, exhaustion, counters, lag and last error."""
        ...

    def close(self) -> None:
        """End the stream and release its resources; a second call changes nothing."""
        ...
