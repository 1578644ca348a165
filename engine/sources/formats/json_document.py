"""JSON documents that hold a list of bars, quotes or trades, as market data services answer.

`find_tables` searches a document for tables, whatever they lie in, and knows these shapes:

- records: `[{"t": ..., "o": ...}, ...]`
- rows without names: `[[1704205800000, "1.0", ...], ...]`, named by a layout or by `columns`, as in a CSV file
- columns: `{"t": [...], "o": [...], ...}`
- records by their stamps: `{"2024-01-02 09:30:00": {"1. open": ...}, ...}`, and columns by stamps
- `{"columns": [...], "index": [...], "data": [[...]]}`, and `{"timestamp": [...], "indicators": {"quote": [{...}]}}`

Symbol, interval and time zone that the document states around a table hold for it; the key of a table in a list by
symbols (`{"bars": {"SPY": [...], "QQQ": [...]}}`) is its symbol. Tables of several symbols become one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import orjson
import polars as pl

from engine.arguments import zone_name
from engine.errors import ParameterError, SourceError
from engine.schema import REJECTS, empty, rejected_rows
from engine.sources.batch import Batch
from engine.sources.columns import headerless_columns, match_columns
from engine.sources.encodings import UTF8, UTF8_MARK, encoding_of
from engine.sources.file_names import parse_interval_word
from engine.sources.formats.format import TextFormat, has_suffix, is_text
from engine.sources.formats.ndjson import MOST_NAMES, flatten_nested, read_ndjson
from engine.sources.formats.registry import data_suffixes, register
from engine.sources.layouts.layout import Layout, normalize_name
from engine.sources.layouts.shared_names import OHLC, SHARED_NAMES, SIDES
from engine.sources.table_rows import Origin, batch
from engine.sources.text import empty_batch

DEPTH = 8  # of lists and objects around a table; what lies deeper is not searched
BY_SYMBOL = ("bars", "quotes", "trades")  # objects under these names hold lists by symbol
CONTAINERS = frozenset(BY_SYMBOL) | set(
    re.split(
        " ",
        "ticks result results values candles data chart klines items list rows prices history historical ohlc ohlcv "
        "records body response timeseries pricedata",
    )
)
STAMP_NAMES = frozenset(name for role in ("ts", "date", "time") for name in SHARED_NAMES.aliases[role].split())
LINES_SUFFIXES = (".ndjson", ".jsonl")
FACTS = {  # normalized key -> what it states; earlier keys go before later ones
    "symbol": "symbol",
    "ticker": "symbol",
    "instrument": "symbol",
    "pair": "symbol",
    "interval": "interval",
    "datagranularity": "interval",
    "granularity": "interval",
    "exchangetimezonename": "timezone",
    "exchangetimezone": "timezone",
    "timezone": "timezone",
}
NEXT_PAGE = ("next_page_token", "next_url", "nextPageToken")
MESSAGES = ("message", "errormessage", "error", "errmsg", "note", "information", "description", "detail", "msg")
STAMP = r"^(?:\d{4}-\d{2}-\d{2}.*|\d{8,19})$"
NUMBERED = re.compile(r"^\d+[a-z]?\.\s*")  # of names as Alpha Vantage writes them: `1. open`
STARTS = re.compile(rb'\s*(?:\{\s*["}]|\[\s*[\[{\]])')
SHORT_SIDES = dict(zip("ohlc", OHLC, strict=True))

Json = Any


@dataclass(frozen=True)
class FoundTable:
    """One table of a document.

    Attributes
    ----------
    frame : DataFrame
        Its columns; of rows without names they are called `1`, `2`, ...
    place : str
        Its place, as in `chart.result[0]`.
    facts : mapping of str to str
        `symbol`, `interval`, `timezone` as the document states them around it; `key` where its key may be its symbol.
    is_named : bool
        Whether its columns have names.
    refused : list
        Rows of another width than most.
    """

    frame: pl.DataFrame
    place: str
    facts: Mapping[str, str]
    is_named: bool = True
    refused: Sequence[Json] = field(default_factory=list)


@register
class JsonDocument(TextFormat):
    """One JSON document with one list of rows, or one per symbol."""

    name = "json"
    suffixes = (".json",)
    precedence = 12
    other_folders: ClassVar[Mapping[str, str]] = {"_delta_log": "transaction log"}

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether text begins as a JSON object or list of such, and the suffix is a data file's but no NDJSON's."""
        if not is_text(head) or has_suffix(path, LINES_SUFFIXES) or not has_suffix(path, data_suffixes()):
            return False
        encoding = encoding_of(head) or UTF8
        text = head.decode(encoding, errors="ignore").encode(errors="ignore").removeprefix(UTF8_MARK)
        return STARTS.match(text) is not None

    def read_content(self, data: bytes, origin: Origin) -> Batch:
        """Batch of conformed rows of a document; a file of one object per line is read as NDJSON."""
        document = parse(data, origin.source)
        return read_ndjson(data, origin) if document is None else read_document(document, origin)


def parse(data: bytes, source: str) -> Json:
    """The document as Python values, or None for one JSON object per line; SourceError if it is neither.

    Raises
    ------
    SourceError
        Empty, or no JSON.
    """
    if not data.strip():
        raise SourceError(source, "is empty")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        first = data.lstrip().split(b"\n", 1)[0]
        try:
            if isinstance(orjson.loads(first), dict):
                return None
        except orjson.JSONDecodeError:
            pass  # then the document as a whole is at fault
        nan = "; NaN is not JSON: write null" if b"NaN" in data else ""
        raise SourceError(source, f"is no JSON document that can be read: {error}{nan}") from error


def read_document(document: Json, origin: Origin) -> Batch:
    """Batch of the tables of a document, with a `symbol` column where it states symbols; empty for an empty list.

    Raises
    ------
    SourceError
        No table (with the service's own message, if there is one), several that no symbol tells apart or that differ in
        zone or interval, or columns, symbol, zone or unit are not known.
    """
    tables = [one for one in find_tables(document, "", {}, 0, origin.source) if one.frame.height]
    if not tables and isinstance(document, dict) and any(not isinstance(v, dict | list) for v in document.values()):
        tables = [FoundTable(frame_of_records([document], origin.source), "", facts_of(document))]
        if STAMP_NAMES.isdisjoint(map(normalize_name, tables[0].frame.columns)):
            tables = []
    if not tables:
        message = service_message(document)
        if message is None and has_empty_table(document):
            return empty_batch([], origin)
        says = f"; it says: {message[:300]}" if message else ""
        raise SourceError(origin.source, f"is JSON without a list of bars, quotes or trades{says}")
    raw, facts = join_tables(tables, origin)
    layout: Layout | None = None
    if not tables[0].is_named:
        cells = [str(cell) for cell in raw.drop("symbol", strict=False).row(0)]
        names, layout = headerless_columns(cells, origin.options, origin.source)
        raw = raw.rename(dict(zip(raw.columns[: len(names)], names, strict=True)))
    columns = match_columns(raw.columns, origin.options, origin.source, layout)
    known = apply_facts(origin, facts, is_text=raw.schema[stamp_column_name(columns.roles)] == pl.String)
    if isinstance(document, dict) and any(document.get(name) for name in NEXT_PAGE):
        known = replace(known, notes=(*known.notes, "the document is one page of several: it names a next one"))
    odd = [row for one in tables for row in one.refused]
    if odd:
        lines = pl.DataFrame({"row": range(raw.height + 1, raw.height + len(odd) + 1), "line": list(map(str, odd))})
        refused = rejected_rows(lines.with_columns(pl.col("row").cast(pl.Int64)), "row of another width", origin.source)
        known = replace(known, refused=pl.concat([empty(REJECTS), refused]))
    return batch(raw.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row")), columns, known)


def find_tables(node: Json, place: str, facts: Mapping[str, str], depth: int, source: str) -> Iterator[FoundTable]:
    """Yield the tables in a value of a document in their order; those deeper than 8 levels are left out."""
    if depth > DEPTH or not node:
        return
    if isinstance(node, dict):
        yield from tables_of_object(node, place, {**facts, **facts_of(node)}, depth, source)
    elif isinstance(node, list):
        yield from tables_of_list(node, place, facts, depth, source)


def tables_of_object(
    node: dict[str, Json], place: str, facts: Mapping[str, str], depth: int, source: str
) -> Iterator[FoundTable]:
    """Yield the object as a table if it has the shape of one, else the tables in its values."""
    frame = next((frame for shape in SHAPES if (frame := shape(node, source)) is not None), None)
    if frame is not None:
        yield FoundTable(frame, place, facts)
        return
    container = normalize_name(place.rpartition(".")[2])
    for key, value in node.items():
        if not isinstance(value, dict | list) or is_metadata(key):
            continue
        stated = dict(facts)
        if normalize_name(key) not in CONTAINERS and not key.lower().startswith("time series"):
            if container in BY_SYMBOL:
                stated["symbol"] = key
            elif key == key.upper():
                stated["key"] = key
        yield from find_tables(value, f"{place}.{key}".lstrip("."), stated, depth + 1, source)


def tables_of_list(
    node: list[Json], place: str, facts: Mapping[str, str], depth: int, source: str
) -> Iterator[FoundTable]:
    """Yield a list of objects or of lists as one table, or the tables in its objects; nothing for other lists."""
    first = next((item for item in node if item is not None), None)
    if isinstance(first, dict):
        has_nested = any(isinstance(value, dict | list) for value in first.values())
        if has_nested and next(find_tables(first, place, facts, depth + 1, source), None) is not None:
            for number, item in enumerate(node):
                yield from find_tables(item, f"{place}[{number}]", facts, depth + 1, source)
        else:
            yield FoundTable(frame_of_records(node, source), place, facts)
    elif isinstance(first, list) and first and not any(isinstance(cell, dict | list) for cell in first):
        frame, refused = frame_of_rows(node, source)
        yield FoundTable(frame, place, facts, is_named=False, refused=refused)


def chart_table(node: dict[str, Json], source: str) -> pl.DataFrame | None:
    """Columns of `{"timestamp": [], "indicators": {"quote": [{"open": []}]}}`; else None; SourceError if uneven."""
    indicators = node.get("indicators")
    quotes = indicators.get("quote") if isinstance(indicators, dict) else None
    first = quotes[0] if isinstance(quotes, list) and quotes else None
    if not isinstance(node.get("timestamp"), list) or not isinstance(first, dict):
        return None
    return frame_of_columns({"timestamp": node["timestamp"], **first}, source)


def split_table(node: dict[str, Json], source: str) -> pl.DataFrame | None:
    """Columns of `{"columns", "index", "data": [[]]}`, stamps of an index first; else None; SourceError if uneven."""
    names, rows, index = node.get("columns"), node.get("data"), node.get("index")
    if not isinstance(names, list) or not isinstance(rows, list) or not rows or not isinstance(rows[0], list):
        return None
    frame, odd = frame_of_rows(rows, source)
    if odd or len(names) != frame.width or len(set(map(str, names))) < len(names):
        raise SourceError(source, f"{len(names)} columns are named, and rows have other numbers of cells")
    named = frame.rename(dict(zip(frame.columns, map(str, names), strict=True)))
    if not isinstance(index, list) or index == list(range(len(rows))) or "timestamp" in names:
        return named
    return frame_of_columns({"timestamp": index, **named.to_dict(as_series=False)}, source)


def columns_table(node: dict[str, Json], source: str) -> pl.DataFrame | None:
    """Columns of the lists in an object, one of stamps by its name; None for others; SourceError if lengths differ."""
    lists = {key: value for key, value in node.items() if isinstance(value, list)}
    if len(lists) < 2 or STAMP_NAMES.isdisjoint(map(normalize_name, lists)):  # noqa: PLR2004  # a stamp and a value
        return None
    if any(not value or isinstance(value[0], dict | list) for value in lists.values()):
        return None
    return frame_of_columns(lists, source)


def stamped_table(node: dict[str, Json], source: str) -> pl.DataFrame | None:
    """Columns of an object of objects, whose keys, or all of whose keys within, are stamps; None for other objects."""
    values = list(node.values())
    if set(map(type, values)) != {dict} or not values[0]:
        return None
    if are_stamps(node):
        return frame_of_records(values, source).insert_column(0, pl.Series("timestamp", list(node)))
    if len(node) > 1 and are_stamps(values[0]) and all(value.keys() == values[0].keys() for value in values[1:]):
        columns = {key: list(value.values()) for key, value in node.items()}
        return frame_of_columns({"timestamp": list(values[0]), **columns}, source)
    return None


SHAPES: tuple[Callable[[dict[str, Json], str], pl.DataFrame | None], ...] = (
    chart_table,
    split_table,
    columns_table,
    stamped_table,
)


def are_stamps(keys: Mapping[str, Json]) -> bool:
    """Whether all keys are dates with or without a time, or numbers of 8 to 19 digits."""
    return bool(pl.Series(list(keys), dtype=pl.String).str.contains(STAMP).all())


def frame_of_records(rows: Sequence[Json], source: str) -> pl.DataFrame:
    """Columns of objects (none: a row of nulls): `1. open` is `open`, `bid: {o}` is `bid_open`, others within are text.

    Raises
    ------
    SourceError
        Values of one name do not mix.
    """
    if set(map(type, rows)) != {dict}:
        rows = [row if isinstance(row, dict) else {} for row in rows]
    names: list[str] | None = None
    if len(set().union(*rows)) > MOST_NAMES:  # columns times rows are the cost: names of one row each are left out
        names = [name for name, _ in Counter(chain.from_iterable(rows)).most_common(MOST_NAMES)]
    frame = frame_of(rows, source, names, is_row=False)
    sides = [name for name, dtype in frame.schema.items() if name.lower() in SIDES and dtype == pl.Struct]
    for side in sides:
        renamed = {key: f"{side.lower()}_{SHORT_SIDES.get(key, key)}" for key in frame[side].struct.fields}
        frame = frame.with_columns(frame[side].struct.unnest().rename(renamed)).drop(side)
    names = [NUMBERED.sub("", name) for name in frame.columns]
    if "t" in names and frame.schema.get("T") == pl.String:
        names[names.index("T")] = "symbol"  # names are compared without case, and both would be the stamp
    if len(set(names)) == len(names):
        frame.columns = names
    return flatten_nested(frame)


def frame_of_rows(rows: Sequence[Json], source: str) -> tuple[pl.DataFrame, list[Json]]:
    """(columns `1`, `2`, ... of a list of lists of the commonest width, items that are not such a list)."""
    odd: list[Json] = []
    if set(map(type, rows)) != {list} or len(set(map(len, rows))) > 1:
        width = Counter(len(row) for row in rows if isinstance(row, list)).most_common(1)[0][0]
        odd = [row for row in rows if not isinstance(row, list) or len(row) != width]
        rows = [row for row in rows if isinstance(row, list) and len(row) == width]
    names = [str(place) for place in range(1, len(rows[0]) + 1)]
    return flatten_nested(frame_of(rows, source, names)), odd


def frame_of_columns(columns: Mapping[str, Json], source: str) -> pl.DataFrame:
    """Columns of the lists in an object, others left out; SourceError if their lengths differ or values do not mix.

    Raises
    ------
    SourceError
        The lists differ in length, or one has values that do not mix.
    """
    lists = {name: values for name, values in columns.items() if isinstance(values, list)}
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        raise SourceError(source, f"its columns differ in length: {', '.join(f'{n} {c}' for n, c in lengths.items())}")
    try:
        series = [pl.Series(name, values, strict=False) for name, values in lists.items()]
        return flatten_nested(pl.DataFrame(series))
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise SourceError(source, f"values of one name do not mix: {error}") from error


def frame_of(
    rows: Sequence[Json], source: str, names: Sequence[str] | None = None, *, is_row: bool = True
) -> pl.DataFrame:
    """Frame of lists (`is_row`), or of objects with these names alone; SourceError if values of a name do not mix."""
    try:
        orient: Any = "row" if is_row else None
        frame = pl.DataFrame(rows, schema=names, orient=orient, infer_schema_length=None, strict=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError, ValueError, OverflowError) as error:
        raise SourceError(source, f"values of one name do not mix: {error}") from error
    if frame.height != len(rows):
        raise SourceError(source, f"{len(rows)} items were parsed into {frame.height} rows")
    return frame


def facts_of(node: Mapping[str, Json]) -> dict[str, str]:
    """`symbol`, `interval`, `timezone` as texts in an object state them; a `meta` or `metadata` object in it goes first."""
    inner = [value for key, value in node.items() if is_metadata(key) and isinstance(value, dict)]
    texts: dict[str, str] = {}
    for one in (*inner, node):
        for key, value in one.items():
            if isinstance(value, str) and value:
                texts.setdefault(normalize_name(NUMBERED.sub("", key)), value)
    facts: dict[str, str] = {}
    for key, fact in FACTS.items():
        if key in texts:
            facts.setdefault(fact, texts[key])
    return facts


def is_metadata(key: str) -> bool:
    """Whether an object under this key describes its neighbours: `meta`, `Meta Data`, `metadata`."""
    return normalize_name(key) in ("meta", "metadata")


def join_tables(tables: Sequence[FoundTable], origin: Origin) -> tuple[pl.DataFrame, dict[str, str]]:
    """(rows of all tables, `symbol` if several; shared facts); SourceError if those differ or no symbol tells tables.

    Raises
    ------
    SourceError
        Several tables without symbols, with and without names, or of different zones or intervals.
    """
    symbols = [one.facts.get("symbol") or one.facts.get("key") for one in tables]
    shared: dict[str, str] = {}
    for fact in ("interval", "timezone"):
        stated = {one.facts.get(fact) for one in tables}
        if len(stated) > 1:
            names = ", ".join(sorted(str(value) for value in stated))
            raise SourceError(origin.source, f"its lists differ in {fact} ({names}); write a file for each")
        if (value := stated.pop()) is not None:
            shared[fact] = value
    if len(tables) == 1:
        # A key alone is no more than a hint: the file's name goes before it.
        symbol = tables[0].facts.get("symbol") or origin.path_facts.symbol or symbols[0]
        return tables[0].frame, shared | ({"symbol": symbol} if symbol else {})
    has_own = ["symbol" in one.frame.columns for one in tables]
    if (
        not all(symbol or own for symbol, own in zip(symbols, has_own, strict=True))
        or len({one.is_named for one in tables}) > 1
    ):
        places = ", ".join(one.place or "the document" for one in tables[:4])
        raise SourceError(
            origin.source, f"holds {len(tables)} lists ({places}), and no symbols tell them apart; keep one in the file"
        )
    parts = [
        one.frame if own else one.frame.with_columns(pl.lit(symbol).alias("symbol"))
        for one, symbol, own in zip(tables, symbols, has_own, strict=True)
    ]
    try:
        return pl.concat(parts, how="diagonal_relaxed"), shared
    except pl.exceptions.PolarsError as error:
        raise SourceError(origin.source, f"columns of its {len(tables)} lists do not mix: {error}") from error


def apply_facts(origin: Origin, facts: Mapping[str, str], *, is_text: bool) -> Origin:
    """The origin with a document's symbol and interval before the name's, and its zone (text, no option) with a note.

    What the options state goes before; an interval or zone that is not known is left out.
    """
    interval = parse_interval_word(facts.get("interval", "").lower()) or origin.path_facts.interval
    symbol = facts.get("symbol") or origin.path_facts.symbol
    known = replace(origin, path_facts=replace(origin.path_facts, interval=interval, symbol=symbol))
    zone = facts.get("timezone")
    if zone is None or not is_text or origin.options.timezone is not None:
        return known
    try:
        options = replace(origin.options, timezone=zone_name(zone))
    except ParameterError:
        return replace(known, notes=(*known.notes, f"timezone {zone!r} of the document is not known"))
    return replace(known, options=options, notes=(*known.notes, f"timezone {zone}, as the document states"))


def stamp_column_name(roles: Mapping[str, str]) -> str:
    """Name of the column of stamps: `ts`, else `date`, else `time`."""
    return next(roles[role] for role in ("ts", "date", "time") if role in roles)


def service_message(document: Json) -> str | None:
    """The text with which a service refused (`message`, `error`, `Note`, ...), or None without one."""
    if not isinstance(document, dict):
        return None
    texts = {normalize_name(key): value for key, value in document.items() if isinstance(value, str)}
    inner = (service_message(value) for value in document.values() if isinstance(value, dict))
    return next((texts[key] for key in MESSAGES if texts.get(key)), None) or next(filter(None, inner), None)


def has_empty_table(document: Json) -> bool:
    """Whether a document answers without rows: `[]`, a known key with nothing in it or `"s": "no_data"`; not for {}."""
    if not isinstance(document, dict):
        return bool(document == [])
    if document.get("s") == "no_data":
        return True
    inside = [(key, value) for key, value in document.items() if normalize_name(key) in CONTAINERS]
    return any(
        not value or (isinstance(value, dict) and not any(value.values())) or has_empty_table(value)
        for _, value in inside
    )
