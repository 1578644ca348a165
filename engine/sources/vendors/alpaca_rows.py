"""Alpaca's messages as tuples of `receive_queue.COLUMNS`, with the same names live and historical.

Bars are stamped with their start, sizes are shares, a side without a quote has price 0. Trades are told apart by the
vendor's number; quotes have none, so those of one symbol and stamp are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from engine.schema import Kind
from engine.sources.streams.receive_queue import Row

Message = Mapping[str, Any]


class Ordinals:
    """Consecutive numbers per symbol and stamp, from 0, in order of arrival."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Any, int]] = {}

    def of(self, symbol: str, ts: object) -> int:
        """Next number of a symbol's stamp: 0 if the stamp differs from its last one, else the last number + 1."""
        before, number = self._last.get(symbol, (None, -1))
        number = number + 1 if ts == before else 0
        self._last[symbol] = (ts, number)
        return number


def live_row(kind: Kind, message: Message, ordinals: Ordinals) -> Row:
    """A stream message (`S` needed) as a tuple in order of `COLUMNS[kind]`, `ts` in ns; absent cells None, odd kept."""
    stamp: Any = message.get("t")
    ts = stamp.to_unix_nano() if hasattr(stamp, "to_unix_nano") else stamp
    return message_row(kind, message["S"], ts, message, ordinals)


def past_rows(kind: Kind, symbol: str, messages: Sequence[Message]) -> list[Row]:
    """Tuples in the order of `COLUMNS[kind]` from a symbol's historical messages; an unreadable stamp stays text."""
    texts = pl.Series([message.get("t") for message in messages], dtype=pl.String, strict=False)
    stamps = texts.str.to_datetime("%+", time_unit="ns", time_zone="UTC", strict=False).to_physical()
    ordinals = Ordinals()
    return [
        message_row(kind, symbol, text if ts is None else ts, message, ordinals)
        for ts, text, message in zip(stamps, texts, messages, strict=True)
    ]


def is_whole_bar(row: Row) -> bool:
    """Whether a bar row has an integer stamp and four numeric prices (their values are not checked)."""
    return type(row[1]) is int and all(type(cell) in (int, float) for cell in row[2:6])


def message_row(kind: Kind, symbol: str, ts: object, message: Message, ordinals: Ordinals) -> Row:
    """Cells in order of `COLUMNS[kind]`; quote prices of 0 become None, `seq` is the trade id, else an ordinal."""
    get = message.get
    if kind == "bars":
        return (symbol, ts, get("o"), get("h"), get("l"), get("c"), get("v"), get("vw"), get("n"))
    if kind == "quotes":
        return (symbol, ts, ordinals.of(symbol, ts), get("bp") or None, get("ap") or None, get("bs"), get("as"))
    number = get("i")
    seq = number if type(number) is int else ordinals.of(symbol, ts)
    conditions = get("c")
    if isinstance(conditions, list):
        conditions = ",".join(map(str, conditions))
    return (symbol, ts, seq, get("p"), get("s"), get("x"), conditions)
