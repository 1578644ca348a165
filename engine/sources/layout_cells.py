"""Cells of a table as its layout writes them -> plain cells: missing values, signs, magnitudes, fixed-point prices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import polars as pl

from engine.sources.columns import TableColumns
from engine.sources.layouts.layout import Layout, normalize_name
from engine.sources.layouts.shared_names import OHLC, SIDES
from engine.sources.number_text import Marks, read_number

PRICES = (*OHLC, "vwap", "bid", "ask", "price", *(f"{side}_{part}" for side in SIDES for part in OHLC))
SIZES = ("volume", "tick_volume", "size", "bid_size", "ask_size", "bid_volume", "ask_volume")
TRADE_WORDS = frozenset(("trade", "trades", "trd", "last"))
QUOTE_WORDS = frozenset(("bid", "ask", "quote", "quotes", "offer", "best_bid", "best_ask"))
SAMPLE_ROWS, MOST_WORDS = 10_000, 20
MOST_CELLS = 4  # kinds of rows that a note counts
MAGNITUDE = r"^\s*([0-9][0-9.,' ]*)([KMB])\s*$"
MAGNITUDES = {"K": 1e3, "M": 1e6, "B": 1e9}


def apply_layout(raw: pl.DataFrame, table: TableColumns, marks: Marks) -> tuple[pl.DataFrame, TableColumns]:
    """(table with its layout's cells made plain, columns with notes); all-zero volume yields to tick volume."""
    layout = table.layout
    notes: list[str] = []
    if layout.rows:
        raw, left_out = select_rows(raw, layout)
        notes += left_out
    elif table.kind == "ticks":
        raw, left_out = select_trades(raw, table)
        notes += left_out
    if layout.sentinels:
        raw = without_sentinels(raw, columns_of(table, layout.sentinel_roles or table.roles), layout.sentinels)
    if layout.signs:
        raw = without_signs(raw, columns_of(table, (*PRICES, *SIZES)), layout.signs)
    sizes = columns_of(table, SIZES)
    lettered = sizes if layout.magnitudes else [name for name in sizes if has_magnitudes(raw, name)]
    if lettered:
        raw = with_magnitudes(raw, lettered, marks)
        notes += [] if layout.magnitudes else [f"{', '.join(lettered)}: K, M, B are thousands, millions, billions"]
    if layout.fixed_digits is not None:
        raw, scaled = with_fixed_prices(raw, columns_of(table, PRICES), layout.fixed_digits)
        notes += [f"layout {layout.name}: prices are integers, multiples of 1e-{layout.fixed_digits}"] if scaled else []
    if layout.joined_symbols and "symbol" in table.roles:
        raw = with_joined_symbols(raw, table.roles["symbol"], layout)
    roles = dict(table.roles)
    if (
        is_all_zero(raw, roles.get("volume"))
        and not is_all_zero(raw, roles.get("tick_volume"))
        and "tick_volume" in roles
    ):
        notes.append(
            f"volume: the column {roles['tick_volume']!r}, numbers of ticks, as {roles['volume']!r} is all zero"
        )
        roles["volume"] = roles["tick_volume"]
    return raw, replace(table, roles=roles, notes=(*table.notes, *notes))


def select_rows(raw: pl.DataFrame, layout: Layout) -> tuple[pl.DataFrame, list[str]]:
    """(rows that `layout.rows` selects, a note that counts the others by their cell); all rows without its column."""
    column, pattern = layout.rows
    name = next((name for name in raw.columns if normalize_name(name) == column), None)
    if name is None:
        return raw, []
    cells = raw[name].cast(pl.String).str.strip_chars()
    kept = cells.str.contains(f"^(?:{pattern})$").fill_null(value=False)
    if kept.all():
        return raw, []
    others = cells.filter(~kept).fill_null("").value_counts(sort=True).head(MOST_CELLS)
    counts = ", ".join(
        f"{count} {cell or 'empty'}"
        for cell, count in others.sort("count", others.columns[0], descending=[True, False]).iter_rows()
    )
    note = (
        f"layout {layout.name}: {raw.height - int(kept.sum())} rows whose {name} is not {pattern} left out ({counts})"
    )
    return raw.filter(kept), [note]


def select_trades(raw: pl.DataFrame, table: TableColumns) -> tuple[pl.DataFrame, list[str]]:
    """(rows of trades, a note with the number of others) where a column that is not used tells trades and quotes apart."""
    schema = raw.schema
    for name in (name for name in raw.columns if name not in table.roles.values()):
        if schema[name] not in (pl.String, pl.Categorical, pl.Enum):
            continue
        words = set(
            raw[name].head(SAMPLE_ROWS).cast(pl.String).str.strip_chars().str.to_lowercase().unique().head(MOST_WORDS)
        )
        if words & TRADE_WORDS and words & QUOTE_WORDS:
            is_trade = pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase().is_in(list(TRADE_WORDS))
            kept = raw.filter(is_trade)
            return kept, [f"{raw.height - kept.height} rows whose {name} is no trade left out"]
    return raw, []


def columns_of(table: TableColumns, roles: Iterable[str]) -> list[str]:
    """Distinct names of the columns that the table has for these roles."""
    return list(dict.fromkeys(table.roles[role] for role in roles if role in table.roles))


def without_sentinels(raw: pl.DataFrame, names: list[str], sentinels: tuple[str, ...]) -> pl.DataFrame:
    """The table with null where a cell of these columns, as text, is one of the sentinels."""
    # Empty from here on, in rejects too: a cell that stands for a missing value is not an unreadable one.
    is_missing = {name: pl.col(name).cast(pl.String).str.strip_chars().is_in(list(sentinels)) for name in names}
    return raw.with_columns(pl.when(~missing).then(pl.col(name)) for name, missing in is_missing.items())


def without_signs(raw: pl.DataFrame, names: list[str], signs: str) -> pl.DataFrame:
    """The table with text columns of these names less every character of `signs`."""
    text = [name for name in names if raw.schema[name] == pl.String]
    return raw.with_columns(pl.col(name).str.replace_many(list(signs), [""] * len(signs)) for name in text)


def with_magnitudes(raw: pl.DataFrame, names: list[str], marks: Marks) -> pl.DataFrame:
    """The table with text such as `1.25M` (by `marks`) in these columns as rounded integer text (`1250000`)."""
    changed = []
    for name in (name for name in names if raw.schema[name] == pl.String):
        parts = pl.col(name).str.strip_chars().str.extract_groups(MAGNITUDE).struct
        factor = parts.field("2").replace_strict(MAGNITUDES, default=None, return_dtype=pl.Float64)
        value = (read_number(parts.field("1"), marks) * factor).round(0).cast(pl.Int64).cast(pl.String)
        changed.append(pl.coalesce(value, pl.col(name)).alias(name))
    return raw.with_columns(changed)


def has_magnitudes(raw: pl.DataFrame, name: str) -> bool:
    """Whether a text column has a cell such as `1.25M`."""
    return raw.schema[name] == pl.String and bool(raw[name].str.contains(MAGNITUDE).any())


def with_fixed_prices(raw: pl.DataFrame, names: list[str], digits: int) -> tuple[pl.DataFrame, bool]:
    """(table with these columns divided by 10^digits, True) if all cells are integers or null; else (raw, False)."""
    text = [name for name in names if raw.schema[name] == pl.String]
    numbers = [name for name in names if raw.schema[name].is_integer()]
    if not names or len(text) + len(numbers) < len(names):
        return raw, False
    is_integer = [pl.col(name).str.contains(r"^\s*-?\d+\s*$").fill_null(value=True).all() for name in text]
    if text and not all(raw.select(each.alias(str(at)) for at, each in enumerate(is_integer)).row(0)):
        return raw, False
    values = [pl.col(name).str.strip_chars().cast(pl.Int64, strict=False).alias(name) for name in text]
    scaled = raw.with_columns(values)
    # Dividing by a column, not by a number, is correctly rounded: 37_027_500 / 10_000 is the float of the text 3702.75.
    return scaled.with_columns(
        pl.col(name).cast(pl.Float64) / (pl.col(name).cast(pl.Float64) * 0 + 10.0**digits) for name in names
    ), True


def with_joined_symbols(raw: pl.DataFrame, name: str, layout: Layout) -> pl.DataFrame:
    """The table with the symbols of column `name` less every character of `joined_symbols`."""
    signs = list(layout.joined_symbols)
    return raw.with_columns(pl.col(name).cast(pl.String).str.replace_many(signs, [""] * len(signs)))


def is_all_zero(raw: pl.DataFrame, name: str | None) -> bool:
    """Whether each cell of a column, number or text, is zero, none null; False for no name (None) or no rows."""
    if name is None or not raw.height:
        return False
    values = raw[name].str.strip_chars().cast(pl.Float64, strict=False) if raw.schema[name] == pl.String else raw[name]
    return values.null_count() == 0 and bool((values == 0).all())
