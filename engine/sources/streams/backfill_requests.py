"""Stretches that a stream did not bring: what was published while there was no connection, and must be fetched.

Thread-free bookkeeping, times given from outside. A hole begins with the last row of its symbol (less an overlap, since
a correction may have been missed, too), opens when the stream is live again, and is looked at once more a little later:
what the vendor published last may not be in its history yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from engine.schema import Kind

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
Key = tuple[Kind, str]


class Hole(NamedTuple):
    """What of one symbol must be fetched.

    Attributes
    ----------
    kind, symbol
    since_ns : int
        First stamp that may be missing.
    due_ns : int
        Not to be fetched before.
    looks : int
        How often it is still looked at.
    """

    kind: Kind
    symbol: str
    since_ns: int
    due_ns: int
    looks: int


@dataclass
class _Line:
    last_ns: int
    is_new: bool = True  # it was never live
    is_unseen: bool = True  # nothing came yet: `last_ns` is the time here, which a delayed feed's stamps lie before
    is_live: bool = False


class Holes:
    """Holes of many symbols, each known once.

    Parameters
    ----------
    overlap_ns : int
        How much before the last bar a hole begins.
    again_ns : int
        When it is looked at again; 0: never.
    """

    def __init__(self, overlap_ns: int, again_ns: int) -> None:
        self._overlap_ns = overlap_ns
        self._again_ns = again_ns
        self._lines: dict[Key, _Line] = {}
        self._open: dict[Key, Hole] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, key: Key) -> bool:
        return key in self._lines

    def add(self, keys: Iterable[Key], now_ns: int) -> None:
        """Symbols that are wanted from now on; those that are known stay as they are."""
        for key in keys:
            self._lines.setdefault(key, _Line(now_ns))

    def remove(self, symbol: str) -> list[Key]:
        """A symbol is not wanted any more; what it was known for."""
        gone = [key for key in self._lines if key[1] == symbol]
        for key in gone:
            del self._lines[key]
            self._open.pop(key, None)
        return gone

    def saw(self, kind: Kind, symbol: str, ts_ns: int) -> None:
        """A row came."""
        line = self._lines.get((kind, symbol))
        if line is not None and (line.is_unseen or ts_ns > line.last_ns):
            line.last_ns, line.is_new, line.is_unseen = ts_ns, False, False

    def lost(self) -> None:
        """The connection is gone."""
        for line in self._lines.values():
            line.is_live = False

    def live(self, symbols: Mapping[Kind, Collection[str]], now_ns: int) -> None:
        """The vendor streams these: whatever was published between the last row and now is a hole."""
        for (kind, symbol), line in self._lines.items():
            if line.is_live or symbol not in symbols.get(kind, ()):
                continue
            # Nothing can be missing of a symbol that was just added, unless a bar has ended since.
            just_added = line.is_new and (kind != "bars" or line.last_ns // MINUTE_NS == now_ns // MINUTE_NS)
            line.is_live = True
            if not just_added:
                self._reopen(kind, symbol, line, now_ns)
            line.is_new = False

    def doubt(self, now_ns: int, symbol: str | None = None) -> None:
        """Rows of one symbol, or of any, may have been lost although the connection stands."""
        for (kind, name), line in self._lines.items():
            if line.is_live and symbol in (None, name):
                self._reopen(kind, name, line, now_ns)

    def take(self, now_ns: int) -> list[Hole]:
        """Holes that are due, the oldest first; they are closed unless `put_back`."""
        due = sorted((hole for hole in self._open.values() if hole.due_ns <= now_ns), key=lambda hole: hole.since_ns)
        for hole in due:
            del self._open[hole.kind, hole.symbol]
        return due

    def filled(self, holes: Iterable[Hole], now_ns: int) -> None:
        """They were fetched; look again later at those that want it."""
        if self._again_ns:
            for hole in holes:
                if hole.looks > 1:
                    self.put_back([hole._replace(looks=hole.looks - 1)], now_ns + self._again_ns)

    def put_back(self, holes: Iterable[Hole], due_ns: int) -> None:
        """They are still to be fetched, at `due_ns`."""
        for hole in holes:
            if (hole.kind, hole.symbol) in self._lines:
                self._merge(hole._replace(due_ns=due_ns))

    def _reopen(self, kind: Kind, symbol: str, line: _Line, now_ns: int) -> None:
        since = line.last_ns // MINUTE_NS * MINUTE_NS - self._overlap_ns if kind == "bars" else line.last_ns
        self._merge(Hole(kind, symbol, since, now_ns, 2))

    def _merge(self, hole: Hole) -> None:
        key = (hole.kind, hole.symbol)
        other = self._open.get(key, hole)
        self._open[key] = Hole(
            *key, min(hole.since_ns, other.since_ns), min(hole.due_ns, other.due_ns), max(hole.looks, other.looks)
        )
