"""Which rows of a source are wanted: files and iterators bring whatever they hold, a session asks for some of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import polars as pl

from engine.interval import Interval
from engine.schema import TS
from engine.sources.batch import Batch
from engine.sources.streams.contract import Delivery, Resolution, Want

FEW_BARS = 30  # fewer do not tell their interval


class Wants:
    """What is streamed of each symbol."""

    def __init__(self) -> None:
        self._of: dict[str, frozenset[Resolution]] = {}

    def add(self, wants: Iterable[Want]) -> None:
        """These, too."""
        for want in wants:
            self._of[want.symbol] = self._of.get(want.symbol, frozenset()) | {(want.kind, want.interval)}

    def remove(self, symbol: str) -> None:
        """Nothing of a symbol any more."""
        self._of.pop(symbol, None)

    def kept(self, came: Delivery) -> tuple[Delivery, int]:
        """The rows that are wanted, and how many are not; rejects are always kept."""
        resolution = (came.kind, came.interval)
        symbols = [symbol for symbol, of in self._of.items() if resolution in of]
        frames = [frame.filter(pl.col("symbol").is_in(symbols)) for frame in came.frames]
        kept = replace(came, frames=tuple(frame for frame in frames if frame.height))
        return kept, came.height - kept.height

    def interval(self, batch: Batch, *, is_stated: bool) -> Interval | None:
        """The interval of a batch of bars: as stated, else as wanted when its rows are too few to tell it."""
        if is_stated or (batch.interval is not None and batch.frame.height >= FEW_BARS):
            return batch.interval
        symbols = batch.frame["symbol"].unique()
        wanted = {step for symbol in symbols for kind, step in self._of.get(symbol, ()) if kind == "bars"}
        return wanted.pop() if len(wanted) == 1 else batch.interval


def delivered(batch: Batch, interval: Interval | None) -> Delivery:
    """A batch as a delivery of an interval."""
    frame = batch.frame.with_columns(pl.lit(batch.source).alias("source"))
    frames = (frame,) if frame.height else ()
    return Delivery(batch.kind, frames, interval if batch.kind == "bars" else None, batch.stamp, batch.rejects)


def behind(now: dt.datetime, deliveries: Sequence[Delivery]) -> float | None:
    """How many seconds the youngest row is behind `now`: a bar's end, a quote's or trade's stamp."""
    ends = [
        cast("dt.datetime", frame["ts"].cast(TS).max()) + _length(delivery)
        for delivery in deliveries for frame in delivery.frames
    ]  # fmt: skip
    return (now - max(ends)).total_seconds() if ends else None


def resolutions(given: Iterable[tuple[str, Interval | str | None]]) -> frozenset[Resolution]:
    """Pairs of kind and interval as a caller writes them."""
    return frozenset((kind, None if step is None else Interval.parse(step)) for kind, step in given)  # type: ignore[misc]


def of_each(
    symbols: Sequence[str], found: Mapping[str, frozenset[Resolution]], expects: frozenset[Resolution]
) -> dict[str, frozenset[Resolution]]:
    """What there is of each symbol: what was found, else what is expected."""
    return {symbol: found.get(symbol) or expects for symbol in symbols}


def _length(delivery: Delivery) -> dt.timedelta:
    is_start = delivery.interval is not None and delivery.stamp == "start"
    return dt.timedelta(seconds=delivery.interval.seconds if is_start and delivery.interval else 0)
