"""Bookkeeping of what a stream has missed: per symbol and kind, from when on history must be fetched, and when.

Thread-free; all times are parameters. A request begins with the last row of its symbol (less an overlap, since a
correction may have been missed, too), opens when the stream delivers again, and is fetched once more a little later:
the vendor's newest rows may not be in its history yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from engine.schema import Kind

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
Key = tuple[Kind, str]


class BackfillRequest(NamedTuple):
    """History of one symbol to fetch.

    Attributes
    ----------
    kind, symbol
    since_ns : int
        First stamp that may be missing.
    due_ns : int
        Not to be fetched before.
    fetches_left : int
        How many times it is still to be fetched.
    """

    kind: Kind
    symbol: str
    since_ns: int
    due_ns: int
    fetches_left: int


@dataclass
class SeriesState:
    """Last row of a symbol and kind, and whether the vendor streams it now."""

    last_ns: int
    is_new: bool = True  # it was never streamed
    has_no_row: bool = True  # `last_ns` is then the local time, which the stamps of a delayed feed lie before
    is_streaming: bool = False


class BackfillRequests:
    """Open requests of many symbols, at most one per symbol and kind.

    Parameters
    ----------
    overlap_ns : int
        How much before the last bar a request begins.
    again_ns : int
        When it is fetched once more; 0: never.
    """

    def __init__(self, overlap_ns: int, again_ns: int) -> None:
        self._overlap_ns = overlap_ns
        self._again_ns = again_ns
        self._series: dict[Key, SeriesState] = {}
        self._open: dict[Key, BackfillRequest] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, key: Key) -> bool:
        return key in self._series

    def add(self, keys: Iterable[Key], now_ns: int) -> None:
        """Watch new series, with `now_ns` as their last stamp and no request; series already watched stay unchanged."""
        for key in keys:
            self._series.setdefault(key, SeriesState(now_ns))

    def remove(self, symbol: str) -> list[Key]:
        """Stop watching all series of a symbol and drop their open requests; return the keys (kind, symbol) removed."""
        removed = [key for key in self._series if key[1] == symbol]
        for key in removed:
            del self._series[key]
            self._open.pop(key, None)
        return removed

    def record_row(self, kind: Kind, symbol: str, ts_ns: int) -> None:
        """Set a watched series' last stamp to that of its first row, whatever it is, later to newer ones only."""
        state = self._series.get((kind, symbol))
        if state is not None and (state.has_no_row or ts_ns > state.last_ns):
            state.last_ns, state.is_new, state.has_no_row = ts_ns, False, False

    def mark_disconnected(self) -> None:
        """Mark every series as not streaming, so that the next `mark_streaming` opens a request for it."""
        for state in self._series.values():
            state.is_streaming = False

    def mark_streaming(self, symbols: Mapping[Kind, Collection[str]], now_ns: int) -> None:
        """Mark these series streaming; open a request for each that was not, unless just added (bars: this minute)."""
        for (kind, symbol), state in self._series.items():
            if state.is_streaming or symbol not in symbols.get(kind, ()):
                continue
            # Nothing can be missing of a symbol that was just added, unless a bar has ended since.
            just_added = state.is_new and (kind != "bars" or state.last_ns // MINUTE_NS == now_ns // MINUTE_NS)
            state.is_streaming = True
            if not just_added:
                self._open_from_last_row(kind, symbol, state, now_ns)
            state.is_new = False

    def reopen(self, now_ns: int, symbol: str | None = None) -> None:
        """Open a request from the last row of each streaming series, of one symbol or (None) of all."""
        for (kind, name), state in self._series.items():
            if state.is_streaming and symbol in (None, name):
                self._open_from_last_row(kind, name, state, now_ns)

    def take_due(self, now_ns: int) -> list[BackfillRequest]:
        """Remove and return the open requests with `due_ns <= now_ns`, earliest `since_ns` first."""
        due = [request for request in self._open.values() if request.due_ns <= now_ns]
        due.sort(key=lambda request: request.since_ns)
        for request in due:
            del self._open[request.kind, request.symbol]
        return due

    def mark_filled(self, requests: Iterable[BackfillRequest], now_ns: int) -> None:
        """Open fetched requests anew if fetches are left, due `again_ns` later; nothing if `again_ns` is 0."""
        if self._again_ns:
            for request in requests:
                if request.fetches_left > 1:
                    again = request._replace(fetches_left=request.fetches_left - 1)
                    self.postpone([again], now_ns + self._again_ns)

    def postpone(self, requests: Iterable[BackfillRequest], due_ns: int) -> None:
        """Open each request due at `due_ns`, merged into an open one (earlier due); unwatched series are dropped."""
        for request in requests:
            if (request.kind, request.symbol) in self._series:
                self._merge(request._replace(due_ns=due_ns))

    def _open_from_last_row(self, kind: Kind, symbol: str, state: SeriesState, now_ns: int) -> None:
        """Open a request due now with 2 fetches, from the last row on; bars from its minute less the overlap."""
        since = state.last_ns // MINUTE_NS * MINUTE_NS - self._overlap_ns if kind == "bars" else state.last_ns
        self._merge(BackfillRequest(kind, symbol, since, now_ns, fetches_left=2))

    def _merge(self, request: BackfillRequest) -> None:
        """Open a request; with an open one of its series take the earlier times and the more fetches."""
        key = (request.kind, request.symbol)
        other = self._open.get(key, request)
        self._open[key] = BackfillRequest(
            *key,
            min(request.since_ns, other.since_ns),
            min(request.due_ns, other.due_ns),
            max(request.fetches_left, other.fetches_left),
        )
