"""The bounded queue between a live source's threads and the session.

Bars are never dropped: `offer` refuses them when the queue is full, and the producer waits. Quotes and ticks beyond the
bound push out the oldest of their kind, which is counted. Rows are kept as plain tuples, cheap to make in an event
loop; `take` turns them into frames, one conversion per kind and interval.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from engine.errors import ParameterError
from engine.schema import REJECTS, ROWS, TS_NS, Kind, Rules, conform
from engine.sources.streams.contract import Delivery, Resolution

Row = tuple[Any, ...]

# What a tuple holds: nanoseconds since 1970 for `ts`, all else as it came. What no live source has is left out:
# `price_type` is `last`, `size` of bars and `suspicious` are null.
COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    kind: tuple(
        name
        for name in schema
        if (kind, name) not in {("bars", "price_type"), ("bars", "size"), ("ticks", "suspicious")}
    )
    for kind, schema in ROWS.items()
}
BOUNDS: Mapping[str, int] = {"bars": 200_000, "quotes": 500_000, "ticks": 500_000, "open_interest": 50_000}
MOST_REFUSED = 10_000  # garbage has a bound, too; what exceeds it is counted
WAIT_SECONDS = 0.2  # how long a producer waits before it looks whether it should stop


class ReceiveQueue:
    """A bounded, thread-safe queue of rows; `take` returns them as frames.

    Parameters
    ----------
    source : str
        Named in frames and rejects.
    bounds : mapping of kind to int, optional
        Most rows that wait, per kind.
    rules : Rules, optional
        What a row may look like.
    """

    def __init__(self, source: str, bounds: Mapping[str, int] | None = None, rules: Rules | None = None) -> None:
        self._source = source
        self._bounds = {**BOUNDS, **check_bounds(bounds or {})}
        self._rules = rules
        self._ready = threading.Condition()
        # Each row with its number since the source began.
        self._rows: dict[Resolution, deque[tuple[int, Row]]] = {}
        self._whole: deque[Delivery] = deque()
        self._refused: deque[tuple[Kind, pl.DataFrame]] = deque()
        self._count = 0
        self._closed = False
        self.dropped: dict[str, int] = {}
        self.delivered = 0

    @property
    def waiting(self) -> int:
        """Number of rows in the queue, of tuples and of deliveries; rejects are not counted."""
        with self._ready:
            return self._count_rows()

    @property
    def is_empty(self) -> bool:
        """Whether neither rows, deliveries nor rejects are queued."""
        with self._ready:
            return not self._has_items()

    @property
    def closed(self) -> bool:
        """Whether `close` was called; queued rows can still be taken."""
        return self._closed

    def offer(self, resolution: Resolution, rows: Sequence[Row]) -> bool:
        """Add rows at once: False (none added) if bars lack room; other kinds drop their oldest; closed: drop, True.

        Parameters
        ----------
        resolution : (kind, interval)
        rows : sequence of tuple
            Cells in the order of `COLUMNS[kind]`.

        Returns
        -------
        bool
            False: bars for which there is no room now, offer them again. Never for other kinds.
        """
        kind = resolution[0]
        with self._ready:
            if self._closed:
                return True  # a closed queue accepts and drops rows
            if kind == "bars" and not self._has_room(kind, len(rows)):
                return False
            queue = self._rows.setdefault(resolution, deque())
            queue.extend(enumerate(rows, self._count + 1))
            self._count += len(rows)
            excess = len(queue) - self._bounds[kind]
            if kind != "bars" and excess > 0:
                for _ in range(excess):
                    queue.popleft()
                self.dropped[kind] = self.dropped.get(kind, 0) + excess
            self._ready.notify_all()
            return True

    def put(self, resolution: Resolution, rows: Sequence[Row]) -> bool:
        """Add rows, blocking until bars have room; return False if the queue is closed, which drops the rows."""
        while not self.offer(resolution, rows):
            self.wait_for_change()
        return not self._closed

    def put_delivery(self, delivery: Delivery) -> bool:
        """Add a delivery of any kind, blocking until there is room; False (not added) once closed."""
        with self._ready:
            while not self._closed and not self._has_room(delivery.kind, delivery.height):
                self._ready.wait(WAIT_SECONDS)
            if not self._closed:
                self._whole.append(delivery)
                self._ready.notify_all()
            return not self._closed

    def put_rejects(self, kind: Kind, rejects: pl.DataFrame) -> None:
        """Add rejects without blocking; above `MOST_REFUSED` rows drop and count the oldest frames, never the last."""
        with self._ready:
            self._refused.append((kind, rejects))
            while sum(frame.height for _, frame in self._refused) > MOST_REFUSED and len(self._refused) > 1:
                gone = self._refused.popleft()[1].height
                self.dropped["rejects"] = self.dropped.get("rejects", 0) + gone
            self._ready.notify_all()

    def wait_for_change(self) -> None:
        """Block until anything is added or taken (room or not), at most `WAIT_SECONDS`; return at once if closed."""
        with self._ready:
            if not self._closed:
                self._ready.wait(WAIT_SECONDS)

    def wait(self, seconds: float, over: Callable[[], bool] = lambda: False) -> bool:
        """Block until an item is queued, the queue closed, `over()` or a timeout; return whether one is queued."""
        with self._ready:
            self._ready.wait_for(lambda: self._has_items() or self._closed or over(), timeout=max(seconds, 0.0))
            return self._has_items()

    def wake(self) -> None:
        """Wake all threads that wait on the queue, so that they check their conditions again."""
        with self._ready:
            self._ready.notify_all()

    def take(self) -> list[Delivery]:
        """Empty the queue: a delivery per kind and interval, then added deliveries, then rejects; never blocks."""
        with self._ready:
            whole, self._whole = self._whole, deque()
            queues, self._rows = self._rows, {}
            refused, self._refused = self._refused, deque()
            self._ready.notify_all()
        made = [
            to_delivery(resolution, [row for _, row in queue], self._source, [n for n, _ in queue], self._rules)
            for resolution, queue in queues.items()
            if queue
        ]
        made += [*whole, *(Delivery(kind, (), rejects=frame) for kind, frame in refused)]
        self.delivered += sum(delivery.height for delivery in made)
        return made

    def close(self) -> None:
        """Drop all rows offered from now on and wake waiting threads; rows already queued can still be taken."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def _has_items(self) -> bool:
        """Whether any row, delivery or rejected frame is queued; the lock must be held."""
        return bool(self._whole or self._refused) or any(self._rows.values())

    def _count_rows(self, kind: Kind | None = None) -> int:
        """Number of queued rows, tuples and deliveries, of one kind or (None) of all; rejects are not counted."""
        queues = sum(len(queue) for (of, _), queue in self._rows.items() if kind in (None, of))
        return queues + sum(delivery.height for delivery in self._whole if kind in (None, delivery.kind))

    def _has_room(self, kind: Kind, rows: int) -> bool:
        """Whether `rows` more fit within the kind's bound; True for any number while no row of the kind is queued."""
        there = self._count_rows(kind)
        return there == 0 or there + rows <= self._bounds[kind]


def to_delivery(
    resolution: Resolution,
    rows: Sequence[Row],
    source: str,
    numbers: Sequence[int] | None = None,
    rules: Rules | None = None,
) -> Delivery:
    """Conform one or more tuples; the n-th bar of a key goes to the n-th frame, so that later ones correct earlier.

    Parameters
    ----------
    resolution : (kind, interval)
    rows : sequence of tuple
        Cells in the order of `COLUMNS[kind]`.
    source : str
    numbers : sequence of int, optional
        Of the rows; counted from 1 by default.
    rules : Rules, optional
    """
    kind, interval = resolution
    names = COLUMNS[kind]
    raw = pl.DataFrame(
        {name: cell_series(name, cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True)}
    )
    raw = raw.with_columns(pl.Series("row", numbers or range(1, len(rows) + 1), dtype=pl.Int64))
    columns = {name: pl.col(name) for name in names} | {"ts": pl.col("ts").cast(pl.Int64, strict=False).cast(TS_NS)}
    good, bad = conform(raw, kind, columns, source, rules)
    return Delivery(
        kind, split_repeated_keys(good.with_columns(pl.lit(source).alias("source")), kind), interval, rejects=bad
    )


def rejected_line(source: str, reason: str, cells: str = "", row: int | None = None) -> pl.DataFrame:
    """A frame of `schema.REJECTS` with one row, for input that never became a row."""
    return pl.DataFrame({"source": [source], "row": [row], "reason": [reason], "cells": [cells]}, schema=dict(REJECTS))


def cell_series(name: str, cells: Sequence[Any]) -> pl.Series:
    """Cells as a Series of the column's type; if any cell has another type, all cells as String (null stays null)."""
    wanted = _TYPES.get(name, pl.Float64)
    try:
        return pl.Series(name, cells, dtype=wanted, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(name, [None if cell is None else str(cell) for cell in cells], dtype=pl.String)


_TYPES: Mapping[str, type[pl.DataType]] = {
    "symbol": pl.String,
    "ts": pl.Int64,
    "seq": pl.Int64,
    "trades": pl.Int64,
    "exchange": pl.String,
    "conditions": pl.String,
}


def split_repeated_keys(frame: pl.DataFrame, kind: Kind) -> tuple[pl.DataFrame, ...]:
    """Bars: the n-th row of each (symbol, price_type, ts) in the n-th frame; other kinds one frame; empty ()."""
    if frame.is_empty():
        return ()
    if kind != "bars":
        return (frame,)
    # How often the key came before: inside one frame other values would be a conflict, not a correction.
    nth = frame.select(pl.int_range(pl.len()).over("symbol", "price_type", "ts").alias("nth"))["nth"]
    return tuple(frame.filter(nth == n) for n in range(int(nth.max()) + 1))  # type: ignore[arg-type]


def check_bounds(bounds: Mapping[str, int]) -> Mapping[str, int]:
    """Return the bounds unchanged; ParameterError for an unknown kind or a bound below 1."""
    for kind, bound in bounds.items():
        if kind not in BOUNDS or bound < 1:
            raise ParameterError(f"bounds: received {kind}={bound}; valid: {', '.join(BOUNDS)}, each at least 1")
    return bounds
