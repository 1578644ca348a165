"""Read symbol, interval, side and date from the path of a file.

A layout whose `name_pattern` fits the name decides (`engine.sources.layouts`). Any other name, without its suffixes, is
split at `_` and blanks into chunks and each chunk at `-` into words. Words that are dates, years, intervals (`1m`,
`m1`, `1min`, `daily`), sides (`bid`, `ask`) or say what a file is (`bars`, `dump`, `trades`) are set aside. What is
left, when it is one chunk, is the symbol, in capitals: `SPY.csv`, `BRK.B_1m.csv`, `bars_dump_AAPL_2025-07-02.csv`,
`gbpusd-m1-ask-2012.csv`, `BTC-USD.csv`. Several chunks are not guessed at. Folders in the manner of Hive
(`symbol=SPY/interval=1m/`) win over the name.
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
from engine.sources import layouts
from engine.sources.formats.registry import data_suffixes

DAY_SECONDS = 86_400
_DATE = re.compile(r"(?<!\d)(19[89]\d|20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)(?:T\d{2}-?\d{2})?")
_YEAR = re.compile(r"(?:19[89]\d|20\d\d)(?:0[1-9]|1[0-2])?")
_INTERVAL = re.compile(
    r"(?P<count>\d{1,4})(?P<unit>s|sec|second|m|min|minute|h|hr|hour|d|day)s?|(?P<mt_unit>[mhd])(?P<mt_count>\d{1,3})"
)
_INTERVAL_WORDS = {"second": "1s", "minute": "1m", "hour": "1h", "hourly": "1h", "daily": "1d", "day": "1d"}


@dataclass(frozen=True)
class PathFacts:
    """Symbol, interval, side and date that a path states; None where it states nothing, or nothing certain."""

    symbol: str | None = None
    interval: Interval | None = None
    price_type: str | None = None
    day: dt.date | None = None


def parse_path(path: PurePath | str) -> PathFacts:
    """Symbol, interval, side, date of a path (None if unstated); Hive folders (`symbol=SPY`) win over the file's name."""
    hive, stated = hive_folders(path), parse_name(name_stem(path))
    return PathFacts(
        symbol=hive.get("symbol") or stated.symbol,
        interval=parse_interval_word(hive.get("interval", "").lower()) or stated.interval,
        price_type=hive.get("price_type") or stated.price_type,
        day=stated.day,
    )


def hive_folders(path: PurePath | str) -> dict[str, str]:
    """Value by name (in small letters) of the `name=value` folders of a path; of a repeated name the innermost."""
    folders = (part.split("=", 1) for part in PurePath(path).parent.parts if "=" in part)
    return {name.lower(): unquote(value) for name, value in folders}


def parse_name(stem: str) -> PathFacts:
    """Facts of a file's stem by the first layout that fits, else by its words; a fact with several values is None."""
    for layout in layouts.LAYOUTS:
        match = layout.match_name(stem)
        if match is not None:
            groups = match.groupdict()
            date = _DATE.search(groups.get("date") or "")
            symbol, side = groups.get("symbol"), (groups.get("side") or "").lower()
            return PathFacts(
                symbol=symbol.upper() if symbol else None,
                interval=parse_interval_word((groups.get("interval") or "").lower()),
                price_type=side if side in PRICE_TYPES else None,
                day=date_of_parts(date.group(1, 2, 3)) if date else None,
            )
    days = {match.group(1, 2, 3) for match in _DATE.finditer(stem)}
    chunks = [[word for word in chunk.split("-") if word] for chunk in re.split(r"[_\s]+", _DATE.sub("_", stem))]
    words = [word.lower() for chunk in chunks for word in chunk]
    intervals = {interval for word in words if (interval := parse_interval_word(word)) is not None}
    sides = {word for word in words if word in PRICE_TYPES}
    symbols = [symbol for chunk in chunks if (symbol := "-".join(word for word in chunk if not is_filler(word)))]
    return PathFacts(
        symbol=symbols[0].upper() if len(symbols) == 1 else None,
        interval=intervals.pop() if len(intervals) == 1 else None,
        price_type=sides.pop() if len(sides) == 1 else None,
        day=date_of_parts(days.pop()) if len(days) == 1 else None,
    )


def name_stem(path: PurePath | str) -> str:
    """File name without folders and without all data and packing suffixes: `SPY_1m` of `daily/SPY_1m.csv.gz`."""
    return suffix_pattern(data_suffixes()).sub("", PurePath(path).name)


def parse_interval_word(word: str) -> Interval | None:
    """Interval, up to `1d`, of a lower-case word (`1m`, `m1`, `60min`, `daily`); None for all other words."""
    if word in _INTERVAL_WORDS:
        return Interval.parse(_INTERVAL_WORDS[word])
    match = _INTERVAL.fullmatch(word)
    if match is None:
        return None
    count, unit = int(match["count"] or match["mt_count"]), (match["unit"] or match["mt_unit"])[0]
    seconds = count * {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}[unit]
    if seconds == DAY_SECONDS and unit != "s":
        return Interval.parse("1d")
    return Interval.of_seconds(seconds) if 0 < seconds < DAY_SECONDS else None


@functools.lru_cache
def suffix_pattern(suffixes: tuple[str, ...]) -> re.Pattern[str]:
    """Compiled pattern that matches one or more of the suffixes at the end of a name, case-insensitive; cached."""
    return re.compile(rf"({'|'.join(map(re.escape, suffixes))})+$", re.IGNORECASE)


def is_filler(word: str) -> bool:
    """Whether a word is a year (`2012`, `201207`), interval, side or content word (`bars`), so no part of a symbol."""
    word = word.lower()
    is_kind = word in layouts.COMMON.name_fillers or word in PRICE_TYPES or word in _INTERVAL_WORDS
    return is_kind or _YEAR.fullmatch(word) is not None or parse_interval_word(word) is not None


def date_of_parts(parts: tuple[str, ...]) -> dt.date | None:
    """Date of (year, month, day) given as text; None when it does not exist or is not numeric."""
    try:
        return dt.date(*(int(part) for part in parts))
    except ValueError:
        return None
