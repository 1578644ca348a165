"""Tables with columns per symbol (`('Close', 'SPY')`, `SPY_Open`) -> a row per symbol and stamp.

pandas writes column levels as tuples; `engine.sources.headers` gives the header lines of such a text the same names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from engine.sources.layouts.layout import normalize_name
from engine.sources.layouts.shared_names import CLOSE_NAMES, OHLC, SHARED_NAMES

_NO_FIELDS = ("symbol", "ts", "date", "time", "interval")
FIELD_NAMES = frozenset(
    [name for role, names in SHARED_NAMES.aliases.items() if role not in _NO_FIELDS for name in names.split()]
    + ["adjclose", "dividends", "stocksplits", "capitalgains", *CLOSE_NAMES]
)
_LEVELS = re.compile(r"\((?P<quote>['\"])(.*)(?P=quote), (?P<other>['\"])(.*)(?P=other)\)")
_JOINED = re.compile(r"(.+?)[_ .:|](.+)|(.+)[_ .:|](.+?)")


def tuple_name(first: str, second: str) -> str:
    """Name of a column of two levels as pandas writes it: `('Close', 'SPY')`."""
    return f"({first!r}, {second!r})"


def symbols_of_columns(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Symbol -> field (`Close`) -> column, from names of two levels or joined (`SPY_Close`); {} for any other table.

    Names that only join symbol and field (`SPY_Open`) count where each symbol has open, high, low and close.
    """
    levels = {name: (match[2], match[4]) for name in names if (match := _LEVELS.fullmatch(name)) is not None}
    found: dict[str, dict[str, str]] = {}
    if levels:
        for name, (first, second) in levels.items():
            field, symbol = (first, second) if normalize_name(first) in FIELD_NAMES else (second, first)
            if normalize_name(field) in FIELD_NAMES and symbol:
                found.setdefault(symbol, {})[field] = name
        return found
    if set(OHLC) <= {normalize_name(name) for name in names}:
        return {}
    for name in names:
        for mark in "_ .:|":
            ahead, behind = name.rpartition(mark)[::2], name.partition(mark)[::2]
            if mark in name and normalize_name(ahead[1]) in (*OHLC, "volume"):
                found.setdefault(ahead[0], {})[ahead[1]] = name
            elif mark in name and normalize_name(behind[0]) in (*OHLC, "volume"):
                found.setdefault(behind[1], {})[behind[0]] = name
    sides = {"bid", "ask", "mid"}
    is_whole = all(set(OHLC) <= {normalize_name(field) for field in fields} for fields in found.values())
    return found if is_whole and not sides & {symbol.lower() for symbol in found} else {}


def long_table(raw: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Rows symbol by symbol of a table with columns per symbol, less those without a value, and a note; else (raw, ()).

    Rows keep their `row`; where a symbol has no value in any of its columns it has no row.
    """
    found = symbols_of_columns([name for name in raw.columns if name != "row"])
    if not found:
        return raw, ()
    used = {name for fields in found.values() for name in fields.values()}
    shared = [name for name in raw.columns if name not in used]
    parts = []
    for symbol, fields in found.items():
        values = [pl.col(name).alias(field) for field, name in fields.items()]
        is_empty = pl.all_horizontal(is_missing(raw, name) for name in fields.values())
        parts.append(raw.filter(~is_empty).select(*shared, pl.lit(symbol).alias("symbol"), *values))
    absent = raw.height * len(found) - sum(part.height for part in parts)
    note = f"columns per symbol: {len(found)} symbols became rows" + (
        f", {absent} without a value left out" if absent else ""
    )
    return pl.concat(parts, how="diagonal"), (note,)


def is_missing(raw: pl.DataFrame, name: str) -> pl.Expr:
    """Expression: whether a cell is null, blank text, `nan`, or NaN."""
    cell, dtype = pl.col(name), raw.schema[name]
    if dtype == pl.String:
        return cell.str.strip_chars().str.to_lowercase().is_in(["", "nan"]).fill_null(value=True)
    return cell.is_null() | (cell.is_nan() if dtype.is_float() else False)
