"""What the name of a file says: symbol, interval, side, date.

The name, without its extensions, is split at `_` and blanks into chunks and each chunk at `-` into words. Words that
are dates, years, intervals (`1m`, `m1`, `1min`, `daily`), sides (`bid`, `ask`) or say what a file is (`bars`, `dump`,
`trades`) are set aside. What is left, when it is one chunk, is the symbol, in capitals: `SPY.csv`, `BRK.B_1m.csv`,
`bars_dump_AAPL_2025-07-02.csv`, `gbpusd-m1-ask-2012.csv`, `BTC-USD.csv`. Several chunks are not guessed at.
Folders in the manner of Hive (`symbol=SPY/interval=1m/`) win over the name.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import unquote

from engine.interval import Interval
from engine.schema import PRICE_TYPES
from engine.sources.formats.registry import data_suffixes

_DATE = re.compile(r"(?<!\d)(19[89]\d|20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)(?:T\d{2}-?\d{2})?")
_YEAR = re.compile(r"(?:19[89]\d|20\d\d)(?:0[1-9]|1[0-2])?")
_INTERVAL = re.compile(
    r"(?P<count>\d{1,4})(?P<unit>s|sec|second|m|min|minute|h|hr|hour|d|day)s?|(?P<mt_unit>[mhd])(?P<mt_count>\d{1,3})"
)
_WORDS = {"second": "1s", "minute": "1m", "hour": "1h", "hourly": "1h", "daily": "1d", "day": "1d"}
_FILLERS = frozenset(
    [
        "bar",
        "bars",
        "candle",
        "candles",
        "kline",
        "klines",
        "ohlc",
        "ohlcv",
        "dump",
        "data",
        "quote",
        "quotes",
        "trade",
        "trades",
        "tick",
        "ticks",
        "history",
        "historical",
        "hist",
        "min",
        "mins",
        "intraday",
        "prices",
        "price",
        "export",
        "sample",
    ]
)


@dataclass(frozen=True)
class PathFacts:
    """What a path says; None where it says nothing, or nothing certain."""

    symbol: str | None = None
    interval: Interval | None = None
    price_type: str | None = None
    day: dt.date | None = None


def parse_path(path: PurePath | str) -> PathFacts:
    """Read a path."""
    path = PurePath(path)
    hive = _hive(path)
    stem = _extensions(data_suffixes()).sub("", path.name)
    days = {match.group(1, 2, 3) for match in _DATE.finditer(stem)}
    chunks = [_words(chunk) for chunk in re.split(r"[_\s]+", _DATE.sub("_", stem))]
    every = [word.lower() for chunk in chunks for word in chunk]
    intervals = {found for word in every if (found := _interval(word)) is not None}
    sides = {word for word in every if word in PRICE_TYPES}
    kept = [chunk for words in chunks if (chunk := "-".join(word for word in words if not _is_filler(word)))]
    return PathFacts(
        symbol=hive.get("symbol") or (kept[0].upper() if len(kept) == 1 else None),
        interval=_hive_interval(hive) or (intervals.pop() if len(intervals) == 1 else None),
        price_type=hive.get("price_type") or (sides.pop() if len(sides) == 1 else None),
        day=_day(days.pop()) if len(days) == 1 else None,
    )


@functools.lru_cache
def _extensions(suffixes: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"({'|'.join(map(re.escape, suffixes))})+$", re.IGNORECASE)


def _hive(path: PurePath) -> dict[str, str]:
    pairs = [part.split("=", 1) for part in path.parent.parts if "=" in part]
    return {name.lower(): unquote(value) for name, value in pairs}


def _hive_interval(hive: dict[str, str]) -> Interval | None:
    return _interval(hive.get("interval", "").lower())


def _words(chunk: str) -> list[str]:
    return [word for word in chunk.split("-") if word]


def _is_filler(word: str) -> bool:
    word = word.lower()
    is_kind = word in _FILLERS or word in PRICE_TYPES or word in _WORDS
    return is_kind or _YEAR.fullmatch(word) is not None or _interval(word) is not None


def _interval(word: str) -> Interval | None:
    if word in _WORDS:
        return Interval.parse(_WORDS[word])
    match = _INTERVAL.fullmatch(word)
    if match is None:
        return None
    count, unit = int(match["count"] or match["mt_count"]), (match["unit"] or match["mt_unit"])[0]
    if count == 0 or (unit == "d" and count > 1):
        return None
    return Interval.parse("1d") if (count, unit) in ((24, "h"), (1440, "m")) else _intraday(count, unit)


def _intraday(count: int, unit: str) -> Interval | None:
    if unit == "d":
        return Interval.parse("1d")
    seconds = count * {"s": 1, "m": 60, "h": 3600}[unit]
    return Interval.of_seconds(seconds) if seconds < 86_400 else None  # noqa: PLR2004  # a day


def _day(parts: tuple[str, ...]) -> dt.date | None:
    try:
        return dt.date(*(int(part) for part in parts))
    except ValueError:
        return None
