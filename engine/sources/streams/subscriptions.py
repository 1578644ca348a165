"""Select the subscribed rows of a source that delivers whatever it has: a folder of files, an iterator of frames."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import polars as pl

from engine.interval import Interval
from engine.schema import TS, Kind
from engine.sources.batch import Batch
from engine.sources.resolution import ENOUGH_BARS
from engine.sources.streams.contract import Delivery, Resolution, Subscription


class SubscriptionFilter:
    """The subscribed kinds and intervals of each symbol; selects their rows from deliveries."""

    def __init__(self) -> None:
        self._resolutions: dict[str, frozenset[Resolution]] = {}

    def add(self, subscriptions: Iterable[Subscription]) -> None:
        """Add these kinds and intervals to those of their symbols; earlier subscriptions stay."""
        for one in subscriptions:
            earlier = self._resolutions.get(one.symbol, frozenset())
            self._resolutions[one.symbol] = earlier | {(one.kind, one.interval)}

    def remove(self, symbol: str) -> None:
        """Unsubscribe a symbol from every kind and interval; an unknown symbol changes nothing."""
        self._resolutions.pop(symbol, None)

    def select(self, delivery: Delivery) -> tuple[Delivery, int]:
        """Drop rows not subscribed in the delivery's kind and interval; return the rest and the number dropped.

        Rejects are never dropped.
        """
        resolution = (delivery.kind, delivery.interval)
        symbols = [symbol for symbol, subscribed in self._resolutions.items() if resolution in subscribed]
        frames = [frame.filter(pl.col("symbol").is_in(symbols)) for frame in delivery.frames]
        selected = replace(delivery, frames=tuple(frame for frame in frames if frame.height))
        return selected, delivery.height - selected.height

    def interval_of(self, batch: Batch, *, is_stated: bool) -> Interval | None:
        """The batch's interval; if unstated and under 30 bars or untold, its symbols' one subscribed interval."""
        if is_stated or (batch.frame.height >= ENOUGH_BARS and batch.interval is not None):
            return batch.interval
        symbols = batch.frame["symbol"].unique()
        subscribed = {step for symbol in symbols for kind, step in self._resolutions.get(symbol, ()) if kind == "bars"}
        return subscribed.pop() if len(subscribed) == 1 else batch.interval


def delivery_of_batch(batch: Batch, interval: Interval | None) -> Delivery:
    """The batch as a delivery: one frame with a `source` column (none if empty), rejects, `interval` for bars only."""
    frame = batch.frame.with_columns(pl.lit(batch.source).alias("source"))
    frames = (frame,) if frame.height else ()
    return Delivery(batch.kind, frames, interval if batch.kind == "bars" else None, batch.stamp, batch.rejects)


def lag_seconds(now: dt.datetime, deliveries: Sequence[Delivery]) -> float | None:
    """Seconds from the latest row's bar end (or stamp) to `now` over all deliveries; None without rows."""
    ends = []
    for delivery in deliveries:
        is_start = delivery.interval is not None and delivery.stamp == "start"
        length = dt.timedelta(seconds=delivery.interval.seconds if is_start and delivery.interval else 0)
        ends += [cast("dt.datetime", frame["ts"].cast(TS).max()) + length for frame in delivery.frames]
    return (now - max(ends)).total_seconds() if ends else None


def parse_resolutions(pairs: Iterable[tuple[str, Interval | str | None]]) -> frozenset[Resolution]:
    """Set of (kind, interval), texts parsed: `("bars", "1m")` gives `("bars", Interval(1, "m"))`."""
    return frozenset((cast("Kind", kind), None if step is None else Interval.parse(step)) for kind, step in pairs)


def available_per_symbol(
    symbols: Sequence[str], stated: Mapping[str, frozenset[Resolution]], default: frozenset[Resolution]
) -> dict[str, frozenset[Resolution]]:
    """Each symbol -> its entry in `stated` if present and not empty, else `default`."""
    return {symbol: stated.get(symbol) or default for symbol in symbols}
