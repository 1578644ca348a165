"""Read symbol, interval, side, date and venue from the path of a file.

`symbol_from` of the options decides first, then folders in the manner of Hive (`symbol=SPY/interval=1m/`), then a layout
whose `name_pattern` fits the name (`engine.sources.layouts.vendors`). Any other name, without its suffixes, is read by
its words:

1. Dates, months, quarters and ranges of them are set aside (`2024-01-02`, `2024_01`, `202401`, `2024Q1`).
2. The rest is split at `_` and blanks into chunks and each chunk at `-` into words. Words that are years, intervals
   (`1m`, `m1`, `1min`, `daily`), sides (`bid`, `ask`) or say what a file is (`bars`, `dump`, `trades`) are set aside;
   beside something else also vendors, venues and months.
3. What is left, when it is one chunk, is the symbol, in capitals: `SPY.csv`, `BRK.B_1m.csv`, `BTC-USD.csv`,
   `bars_dump_AAPL_2025-07-02.csv`; when it is a pair (`BTC_USDT`), both without what divides them. Several chunks are not
   guessed at.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from urllib.parse import unquote

from engine.errors import SourceError
from engine.interval import Interval
from engine.schema import PRICE_TYPES
from engine.sources.formats.registry import data_suffixes
from engine.sources.layouts.registry import layout_named, layouts
from engine.sources.layouts.shared_names import (
    ADJUSTMENTS,
    CONTENT_WORDS,
    CRYPTO_QUOTES,
    CURRENCIES,
    PRICED_IN_CURRENCIES,
    VENUES,
    WEAK_WORDS,
)
from engine.sources.options import FOLDER, TEMPLATE_FIELD, ReadOptions

DAY_SECONDS = 86_400
_Y, _M, _D = r"(?:19[89]\d|20\d\d)", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"(?<!\d)({_Y})([-_.]?)({_M})\2({_D})(?:T?\d{{2}}-?\d{{2}}(?:\d{{2}})?)?(?!\d)|(?<!\d)({_D})\.({_M})\.({_Y})(?!\d)"
)
_PERIOD = re.compile(
    rf"(?<![\d.A-Za-z]){_Y}(?:[-_]?{_M}|[-_]?Q[1-4])(?![\dA-Za-z])|(?<![\dA-Za-z])Q[1-4][-_]?{_Y}(?!\d)|(?<!\d)1\d{{12}}(?!\d)",
    re.IGNORECASE,
)
_COPY = re.compile(r"[ _]?\(\d+\)$|[ _-]copy$", re.IGNORECASE)
_COUNTED = re.compile(
    r"(?<![\dA-Za-z])(\d{1,3})[ _-](s|sec|second|min|minute|hr|hour|day)(s?)(?![A-Za-z])", re.IGNORECASE
)
_PART = re.compile(r"(?:part|page|chunk|batch|file|sheet|export|data|output|results?|tabelle|feuil|hoja|foglio)\d*")
_FILLER = re.compile(rf"{_Y}{_M}?|{_PART.pattern}")
_INTERVAL = re.compile(
    r"(?P<count>\d{1,4})(?P<unit>s|sec|second|m|min|minute|h|hr|hour|d|day)s?|"
    r"(?P<mt_unit>[mhd])(?P<mt_count>(?<=m)[1-6]?\d|(?<=h)\d|(?<=h)1[0-2]|(?<=d)1)"
)
_LETTER_FIRST = re.compile(r"[mhd]\d+")  # of two interval words in a name the first may be a symbol
_INTERVAL_WORDS = {
    "second": "1s", "minute": "1m", "minutes": "1m", "hour": "1h", "hourly": "1h", "daily": "1d", "day": "1d"
}  # fmt: skip
SIDE_WORDS = {"midpoint": "mid"}  # as Interactive Brokers calls it
_PART_NUMBER = re.compile(r"0\d*|1|5|15|30|60|240|720|1440")  # of a download, or minutes
_STREETS = {("futures", "um"): "um", ("futures", "cm"): "cm"}  # folders of Binance: not the spot market
_TEMPLATE_PARTS = {
    "symbol": r"[^/]+?",
    "date": rf"{_Y}(?:[-_.]?{_M}(?:[-_.]?{_D})?)?",
    "interval": r"[A-Za-z0-9]+",
    "price_type": "|".join(PRICE_TYPES),
}


@dataclass(frozen=True)
class PathFacts:
    """Symbol, interval, side, date and venue that a path states; None where it states nothing, or nothing certain.

    `variant` is a word for an adjustment (`adjsplitdiv`); as a market it keeps two series of one symbol apart.
    `is_symbol_of_name` is true where only the file's name states the symbol: the metadata of the file goes before it.
    """

    symbol: str | None = None
    interval: Interval | None = None
    price_type: str | None = None
    day: dt.date | None = None
    venue: str | None = None
    variant: str | None = None
    is_symbol_of_name: bool = False

    @property
    def market(self) -> str | None:
        """What tells files of one symbol apart by their names: venue, else variant, else None."""
        return self.venue or self.variant


def parse_path(path: PurePath | str, options: ReadOptions | None = None) -> PathFacts:
    """Facts by Hive folders, else name; `symbol_from` goes first (without `{symbol}` no symbol; SourceError if unfit).

    Raises
    ------
    SourceError
        `symbol_from` is a template that the path does not fit.
    """
    options = options or ReadOptions()
    path = PurePath(path)
    stated = parse_name(name_stem(path), options.layout)
    hive = hive_folders(path)
    folders = [part.lower() for part in path.parent.parts]
    street = next((_STREETS[pair] for pair in itertools.pairwise(folders) if pair in _STREETS), None)
    facts = PathFacts(
        symbol=hive.get("symbol") or stated.symbol,
        interval=parse_interval_word(hive.get("interval", "").lower()) or stated.interval,
        price_type=hive.get("price_type", "").lower() or stated.price_type,
        day=stated.day or day_of_folders(path, hive),
        venue=stated.venue or street,
        variant=stated.variant,
        is_symbol_of_name=bool(stated.symbol) and not hive.get("symbol") and options.symbol_from is None,
    )
    return facts if options.symbol_from is None else facts_by_template(path, options.symbol_from, facts)


def facts_by_template(path: PurePath, template: str, facts: PathFacts) -> PathFacts:
    """The facts with what `symbol_from` reads in the path, symbol None if it has no `{symbol}`; SourceError if unfit.

    Raises
    ------
    SourceError
        The end of the path does not fit the template.
    """
    if template == FOLDER:
        if not path.parent.name:
            raise SourceError(path, "symbol_from folder: the path has no folder")
        return replace(facts, symbol=path.parent.name.upper())
    pattern = template_pattern(template)
    whole = path.as_posix()
    match = pattern.search(whole) or pattern.search(suffix_pattern(data_suffixes()).sub("", whole))
    if match is None:
        raise SourceError(
            path, f"symbol_from: the path does not fit {template!r}; valid: such as '{{symbol}}/{{date}}.csv'"
        )
    found = match.groupdict()
    symbol, interval = found.get("symbol"), parse_interval_word((found.get("interval") or "").lower())
    return replace(
        facts,
        symbol=symbol.upper() if symbol else None,
        interval=interval or facts.interval,
        price_type=(found.get("price_type") or "").lower() or facts.price_type,
        day=day_of_text(found.get("date")) or facts.day,
    )


def hive_folders(path: PurePath | str) -> dict[str, str]:
    """Value by name (in small letters) of the `name=value` folders of a path; of a repeated name the innermost."""
    folders = (part.split("=", 1) for part in PurePath(path).parent.parts if "=" in part)
    return {name.lower(): unquote(value) for name, value in folders}


def day_of_folders(path: PurePath, hive: Mapping[str, str]) -> dt.date | None:
    """Date of `date=2024-01-02/` or `year=2024/month=1/day=2/`, else of the innermost folder named by a date; else None."""
    stated = next((hive[name] for name in ("date", "trade_date", "dt") if name in hive), None)
    parts = [hive.get(name, "") for name in ("year", "month", "day")]
    if all(part.isdecimal() for part in parts):
        stated = "-".join(part.zfill(2) for part in parts)
    dates = (day_of_text(part) for part in reversed(path.parent.parts) if _DATE.fullmatch(part))
    return day_of_text(stated) if stated else next(dates, None)


@functools.lru_cache
def template_pattern(template: str) -> re.Pattern[str]:
    """Pattern for a path's end, any case: `{symbol}`, `{date}`, `{interval}`, `{price_type}`, `*` within a name."""
    pieces = re.split(rf"({TEMPLATE_FIELD}|\*)", template)
    body = "".join(
        "[^/]*"
        if piece == "*"
        else f"(?P<{piece[1:-1]}>{_TEMPLATE_PARTS[piece[1:-1]]})"
        if piece[:1] == "{"
        else re.escape(piece)
        for piece in pieces
    )
    return re.compile(rf"(?:^|/){body}$", re.IGNORECASE)


@functools.lru_cache(maxsize=4096)
def parse_name(stem: str, layout: str | None = None) -> PathFacts:
    """Facts of a file's stem by the named layout, else the first that fits, else its words; None where several."""
    stem = _COPY.sub("", stem)
    named = (layout_named(layout),) if layout is not None else ()
    for one in (*named, *layouts()):
        match = one.match_name(stem)
        if match is not None:
            return facts_of_match(match.groupdict(), one.symbol_format)
    return facts_of_words(stem)


def facts_of_match(found: Mapping[str, str | None], symbol_format: str) -> PathFacts:
    """Facts of the groups of a layout's name pattern; the symbol as `symbol_format` makes it, a pair without `_`."""
    given = {name: value for name, value in found.items() if value}
    try:
        symbol = symbol_format.format(**given).upper()
    except KeyError:
        symbol = None
    return PathFacts(
        symbol=joined_pair(symbol.split("_")) or symbol if symbol else None,
        interval=interval_of_text(given.get("interval")),
        price_type=given["side"].lower() if "side" in given else None,
        day=day_of_text(given.get("date")),
        venue=given["venue"].lower() if "venue" in given else None,
        variant=given["variant"].lower() if "variant" in given else None,
    )


def facts_of_words(stem: str) -> PathFacts:
    """Symbol (capitals, pair joined), interval, side, day, venue by a stem's words (None: 0, several); adjustments."""
    dates = list(_DATE.finditer(stem))
    days = {day_of_text(match[0][:10] if match[1] else match[0]) for match in dates}
    bare = _COUNTED.sub(r"\1\2", _PERIOD.sub("_", _DATE.sub("_", stem)))
    chunks = [[word for word in chunk.split("-") if word.strip(".")] for chunk in re.split(r"[_\s,]+", bare)]
    words = [word.lower() for chunk in chunks for word in chunk]
    intervals = {interval for word in words if (interval := parse_interval_word(word)) is not None}
    sides = {SIDE_WORDS.get(word, word) for word in words if word in PRICE_TYPES or word in SIDE_WORDS}
    named = [
        "-".join(word for word in chunk if not is_filler(word)).strip(".") for chunk in chunks if "part" not in chunk
    ]
    symbols = [symbol.upper() for symbol in named if symbol]
    of_last = parse_interval_word(words[-1]) if words else None
    if not symbols and len(words) == 2 and of_last and _LETTER_FIRST.fullmatch(words[0]):  # noqa: PLR2004  # M1_1m
        symbols, intervals = [words[0].upper()], {of_last}
    strong = [one for one in symbols if not is_weak(one)]
    pair = joined_pair(symbols) or joined_pair(strong)
    chosen = (
        symbols
        if len(symbols) == 1
        else [pair]
        if pair
        else [one for one in strong if not _PART_NUMBER.fullmatch(one)] or strong
    )
    if any(_PART.fullmatch(word) for word in words):
        chosen = [one for one in chosen if not one.isdecimal()]  # its number
    venues = [word for word in words if word in VENUES and word.upper() not in chosen]
    variants = [word for word in words if word in ADJUSTMENTS and word.upper() not in chosen]
    return PathFacts(
        symbol=chosen[0] if len(chosen) == 1 else None,
        interval=intervals.pop() if len(intervals) == 1 else None,
        price_type=sides.pop() if len(sides) == 1 else None,
        day=days.pop() if len(days) == 1 else None,
        venue=venues[0] if len(venues) == 1 else None,
        variant="-".join(variants) or None,
    )


def joined_pair(parts: list[str]) -> str | None:
    """`EURUSD` of `EUR`, `USD`; any 2-10 letters before a crypto quote (`FOO`, `USDT`); None of others, or not two parts."""
    if len(parts) != 2:  # noqa: PLR2004  # base and quote
        return None
    base, quote = (part.upper() for part in parts)
    is_crypto = (
        quote in CRYPTO_QUOTES and re.fullmatch(r"[A-Z0-9]{2,10}", base) is not None and base not in CONTENT_WORDS
    )
    return base + quote if is_crypto or (quote in CURRENCIES and base in PRICED_IN_CURRENCIES) else None


def member_facts(archive: PurePath, member: str, options: ReadOptions) -> PathFacts:
    """Facts of a zip's member by its path beside the zip; open ones, or all if no template fits, by the zip's path.

    Raises
    ------
    SourceError
        `symbol_from` is a template that neither path fits.
    """
    try:
        own = parse_path(archive.parent / member, options)
    except SourceError:
        return parse_path(archive, options)
    outer = parse_path(archive, replace(options, symbol_from=None))
    return PathFacts(
        symbol=own.symbol or (outer.symbol if options.symbol_from is None else None),
        interval=own.interval or outer.interval,
        price_type=own.price_type or outer.price_type,
        day=own.day or outer.day,
        venue=own.venue or outer.venue,
        variant=own.variant or outer.variant,
    )


def symbol_conflict(symbol: str | None, stated: Iterable[tuple[object, str | None]]) -> str | None:
    """Reason to refuse `symbol` for files (path, symbol by its name) whose names state several symbols; else None."""
    by_symbol: dict[str, object] = {}
    for path, name in stated if symbol is not None else ():
        if name is not None:
            by_symbol.setdefault(name, path)
    if len(by_symbol) < 2:  # noqa: PLR2004  # two names differ
        return None
    (one, first), (other, second) = list(by_symbol.items())[:2]
    return (
        f"symbol: received {symbol!r} for files of {len(by_symbol)} symbols by their names ({first} has {one}, {second} "
        f"has {other}), which would become one series; leave --symbol out, or, if they are one series, say that names "
        "tell no symbol: --symbol-from '*'"
    )


def name_stem(path: PurePath | str) -> str:
    """File name without folders and without all data and packing suffixes: `SPY_1m` of `daily/SPY_1m.csv.gz`."""
    return suffix_pattern(data_suffixes()).sub("", PurePath(path).name)


def interval_of_text(text: str | None) -> Interval | None:
    """Interval of a vendor's word: a bare number is minutes, `D` a day, of `Intraday 1Min` the last word; else None."""
    word = re.sub(r"(?<=\d)[ _]", "", text or "").split(" ")[-1].lower()
    return parse_interval_word(f"{word}m" if word.isdigit() else "1d" if word == "d" else word)


@functools.lru_cache
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
    """Whether a word is a year (`2012`, `201207`), part (`page3`), interval, side or content word, so no part of a symbol."""
    word = word.lower()
    is_kind = word in CONTENT_WORDS or word in PRICE_TYPES or word in SIDE_WORDS
    return is_kind or _FILLER.fullmatch(word) is not None or parse_interval_word(word) is not None


def is_weak(chunk: str) -> bool:
    """Whether all words of a chunk are vendors, venues, months or adjustments: no symbol where something else may be."""
    return all(word in WEAK_WORDS or word in VENUES or word in ADJUSTMENTS for word in chunk.lower().split("-"))


def day_of_text(text: str | None) -> dt.date | None:
    """Date of `YYYYMMDD`, `YYYY-MM-DD` or `DD.MM.YYYY`, whatever divides its parts; None when it is none."""
    digits = re.sub(r"\D", "", text or "")
    is_day_first = re.match(r"\d\d\D", text or "") is not None
    parts = (digits[4:8], digits[2:4], digits[:2]) if is_day_first else (digits[:4], digits[4:6], digits[6:8])
    try:
        return dt.date(*(int(part) for part in parts))
    except ValueError:
        return None
