"""Any Python iterator of frames as a live source, pulled in a thread of its own, so that it may block.

Items are frames as `frames.from_frame` takes them, or `Delivery` objects whose frames hold already. An item that is
neither is rejected and reported, and the next one is pulled; an exception of the iterator ends the stream, and nothing
else.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import polars as pl

from engine.clock import Clock, WallClock
from engine.errors import ParameterError, StreamError
from engine.interval import Interval
from engine.schema import ROWS, rejected_rows, select_schema
from engine.sources.frames import from_frame
from engine.sources.options import ReadOptions
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, StreamStatus, Subscription
from engine.sources.streams.receive_queue import ReceiveQueue, rejected_line
from engine.sources.streams.subscriptions import (
    SubscriptionFilter,
    available_per_symbol,
    delivery_of_batch,
    lag_seconds,
    parse_resolutions,
)

CLOSE_SECONDS = 1.0


class IteratorStream:
    """A `Stream` of an iterator's frames.

    Parameters
    ----------
    frames : iterable
        Of frames (Polars, pandas, Arrow) or `Delivery`; pulled from the first subscription on, no faster than rows are
        taken.
    expects : sequence of (kind, interval)
        What its symbols are offered with. With one interval of bars, this is the interval of frames of bars.
    symbols : sequence of str, optional
        What it knows; None: whatever is asked for.
    symbol : str, optional
        Of frames without such a column.
    options : ReadOptions, optional
        As for files.
    name : str
        Named in rejects, with the number of the item.
    bounds : mapping of kind to int, optional
        Most rows that wait; the iterator is not pulled meanwhile.
    clock : Clock, optional
    """

    def __init__(
        self,
        frames: Iterable[Any],
        *,
        expects: Sequence[tuple[str, Interval | str | None]] = (("bars", "1m"),),
        symbols: Sequence[str] | None = None,
        symbol: str | None = None,
        options: ReadOptions | None = None,
        name: str = "iterator",
        bounds: Mapping[str, int] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(frames, Iterable) or isinstance(frames, pl.DataFrame | str | bytes):
            raise ParameterError(
                f"frames: received {type(frames).__name__}; valid: an iterator of frames, such as [frame]"
            )
        self._frames = frames
        self._expects = parse_resolutions(expects)
        self._symbols = None if symbols is None else frozenset(symbols)
        self._symbol = symbol
        self._options = options or ReadOptions()
        self._name = name
        self._clock = clock or WallClock()
        self._queue = ReceiveQueue(name, bounds)
        self._lock = threading.Lock()
        self._filter = SubscriptionFilter()
        self._over = False
        self._error = ""
        self._lag: float | None = None
        self._thread = threading.Thread(target=self._pull, name=f"{name} stream", daemon=True)
        self.left_out = 0
        """Rows of symbols, kinds or intervals that were not wanted when they were taken."""

    def available(self, symbols: Sequence[str]) -> Mapping[str, frozenset[Resolution]]:
        """`expects` for each given symbol; with `symbols` set only for those among it, others are absent."""
        known = [symbol for symbol in symbols if self._symbols is None or symbol in self._symbols]
        return available_per_symbol(known, {}, self._expects)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Add to the subscriptions; the first call starts the thread that pulls the iterator; StreamError once closed.

        Raises
        ------
        StreamError
            The stream was closed.
        """
        if self._queue.closed:
            raise StreamError(f"{self._name}: the stream was closed; make a new one")
        with self._lock:
            self._filter.add(subscriptions)
            if self._thread.ident is None:
                self._thread.start()

    def unsubscribe(self, symbol: str) -> None:
        """Remove every subscription of a symbol; its rows taken from now on are dropped and counted in `left_out`."""
        with self._lock:
            self._filter.remove(symbol)

    def next_at(self) -> dt.datetime | None:
        """Always None: when the next item comes is unknown."""
        return None

    def take(self, until: dt.datetime) -> list[Delivery]:
        """Empty the queue; return subscribed rows and all rejects, count others in `left_out`; ignores `until`."""
        del until
        came = self._queue.take()
        with self._lock:
            kept = [self._filter.select(one) for one in came]
            self.left_out += sum(others for _, others in kept)
            made = [one for one, _ in kept if one.frames or one.rejects.height]
            lag = lag_seconds(self._clock.now(), made)
            self._lag = self._lag if lag is None else lag
            return made

    def wait(self, seconds: float) -> bool:
        """Block until something is queued, the iterator ends or `seconds` pass; return whether something is."""
        return self._queue.wait(seconds, lambda: self._over)

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        """Always an empty list: an iterator has no history."""
        del requests
        return []

    def status(self) -> StreamStatus:
        """Connected until ended or closed; exhausted once the queue is empty too; counters, lag, error."""
        is_over = self._over or self._queue.closed
        return StreamStatus(
            connected=not is_over,
            exhausted=is_over and self._queue.is_empty,
            delivered=self._queue.delivered - self.left_out,
            waiting=self._queue.waiting,
            dropped=dict(self._queue.dropped),
            lag_seconds=self._lag,
            error=self._error,
        )

    def close(self) -> None:
        """Close the queue and wait up to `CLOSE_SECONDS` for the thread; a blocked iterator is left running."""
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _pull(self) -> None:
        """Thread body: queue items until the iterator ends, raises (error stored) or the queue is closed; close it."""
        items: Iterator[Any] = iter(())
        try:
            items = iter(self._frames)
            for number, item in enumerate(items, 1):
                if not self._put(item, number):
                    break
        except BaseException as error:  # noqa: BLE001 - whatever an iterator raises ends the stream and nothing else
            self._error = f"{self._name}: {type(error).__name__}: {error}"
        finally:
            self._over = True
            self._queue.wake()
            with suppress(Exception):
                getattr(items, "close", lambda: None)()

    def _put(self, item: object, number: int) -> bool:
        """Queue an item as a delivery, or its rejects if unusable (error stored); return False once closed."""
        source = f"{self._name}:{number}"
        try:
            if isinstance(item, Delivery):
                delivery = item
                for frame in delivery.frames:
                    select_schema(frame, ROWS[delivery.kind], source)
            else:
                steps = [step for kind, step in self._expects if kind == "bars"]
                interval = steps[0] if len(steps) == 1 else None
                batch = from_frame(item, symbol=self._symbol, interval=interval, options=self._options, source=source)
                delivery = delivery_of_batch(batch, batch.interval)
        except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - no item ends the stream
            self._error = str(error)
            self._queue.put_rejects("bars", reject_item(item, str(error), source))
            return not self._queue.closed
        return self._queue.put_delivery(delivery)


def reject_item(item: object, reason: str, source: str) -> pl.DataFrame:
    """Rejects of an unusable item: each row of a Polars frame, else one line with its first 1000 characters."""
    if isinstance(item, pl.DataFrame) and item.height:
        with suppress(pl.exceptions.PolarsError):
            rows = item.drop("row", strict=False).with_columns(
                pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row")
            )
            return rejected_rows(rows, reason, source)
    return rejected_line(source, reason, str(item)[:1000])
