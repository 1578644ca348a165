"""The session in one JSON document, one symbol after the other.

::

    {"metadata": {...},
     "symbols": {SYMBOL: {"calendar": ..., "base_interval": ..., "price_type": the primary one,
                          "metrics":  {"session", "session_volume", "session_high", "session_low", "last_update"},
                          "bars":     {INTERVAL: BLOCK},      series of the primary price type
                          "bars_ask": {INTERVAL: BLOCK},      of another price type
                          "bars_source": {INTERVAL: BLOCK},   coarser bars that the source had itself
                          "quotes": ROWS, "ticks": ROWS, "open_interest": ROWS}}}
    BLOCK: {"derived", "base", "count", "quality",
            "gaps": {"gap_count", "missing_bars", "ranges": [{"start_time", "end_time", "bar_count"}]},
            "columns": [...], "data": [[...]]}
    ROWS:  {"count", "columns": [...], "data": [[...]]}

A column of a block is named once, in `columns`. Metrics are of the base bars of the primary price type in a slot, in the
last selected session in which any symbol has a bar; `last_update` is the last start of all. They are those of `SymbolSessionData`
after a load of the same rows. A delta, which does not hold whole sessions, has none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import polars as pl

from engine.calendars.providers import regular_labels
from engine.errors import ExportError
from engine.export.formats.output_formats import stamps_with_nanoseconds, to_json
from engine.export.formats.selection import PER_SYMBOL, STREAMS, LazyTables, Selection, symbol_batches
from engine.export.tables import SORT, TABLES
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.schema import IS_MISSING, PRICE_TYPES, empty

Tables = Mapping[str, pl.DataFrame]

ROWS_PER_WRITE = 1 << 14
BAR_COLUMNS = tuple(
    name for name in TABLES["bars"] if name not in ("symbol", "price_type", "interval", "origin", "month")
)


def write_session_document(
    path: Path,
    metadata: Mapping[str, object],
    tables: LazyTables,
    selection: Selection,
    removed: Tables | None = None,
) -> None:
    """Write the session JSON to a new file, symbols sorted, a delta's removed keys last; ExportError for NaN, infinity.

    Raises
    ------
    ExportError
        A float is not finite.
    """
    current = last_session(tables) if removed is None else None
    with path.open("xb") as stream:
        stream.write(b'{"metadata":' + to_json(metadata) + b',"symbols":{')
        separator = b"\n"
        for symbol, symbol_tables in tables_by_symbol(tables):
            stream.write(separator + to_json(symbol) + b":")
            block = _symbol_block(symbol_tables, selection)
            if removed is None:
                block = {"metrics": session_metrics(symbol_tables, block, current), **block}
            write_value(block, stream)
            separator = b",\n"
        stream.write(b"\n}")
        if removed is not None:
            stream.write(b',"removed":')
            write_value({name: {"columns": rows.columns, "data": rows} for name, rows in removed.items()}, stream)
        stream.write(b"}\n")


def write_value(value: object, stream: BinaryIO) -> None:
    """Write a dict, frame (list of row lists) or any value as JSON to a stream, frames slice by slice."""
    if isinstance(value, pl.DataFrame):
        separator = b"["
        for part in value.iter_slices(ROWS_PER_WRITE) if value.height else ():
            stream.write(separator + to_json(part.rows())[1:-1])
            separator = b","
        stream.write(b"]" if value.height else b"[]")
    elif isinstance(value, dict):
        separator = b"{"
        for name, inner in value.items():
            stream.write(separator + to_json(name) + b":")
            write_value(inner, stream)
            separator = b","
        stream.write(b"}" if value else b"{}")
    else:
        stream.write(to_json(value))


def tables_by_symbol(tables: LazyTables) -> Iterator[tuple[str, Tables]]:
    """Yield each symbol, sorted, with its sorted rows of every per-symbol table (a frame without rows where none), and `sessions`."""
    sessions = tables["sessions"].collect()
    for batch in symbol_batches(tables):
        frames = {}
        for name in PER_SYMBOL:
            rows = tables[name].filter(pl.col("symbol").is_in(batch)).sort(SORT[name]).collect()
            frames[name] = {str(key): part for (key,), part in rows.partition_by("symbol", as_dict=True).items()}
        for symbol in batch:
            own = {name: parts.get(symbol, empty(TABLES[name])) for name, parts in frames.items()}
            yield symbol, {**own, "sessions": sessions}


def _symbol_block(tables: Tables, selection: Selection) -> dict[str, object]:
    """Fields, `bars[_TYPE][_source]` by interval (primary, first of `PRICE_TYPES` seen: no suffix), filled streams."""
    symbol = tables["symbols"].row(0, named=True) if tables["symbols"].height else dict.fromkeys(TABLES["symbols"])
    seen = {value for name in ("bars", "quality", "gaps") for value in tables[name]["price_type"].unique()}
    primary = next((price_type for price_type in PRICE_TYPES if price_type in seen), PRICE_TYPES[0])
    groups: dict[str, dict[str, object]] = {"bars": {}}
    for price_type, interval, is_source in series_of(tables, symbol, primary):
        if selection.includes_interval(interval):
            group = "bars" + ("" if price_type == primary else f"_{price_type}") + ("_source" if is_source else "")
            block = series_block(tables, symbol["base_interval"], price_type, interval, is_source=is_source)
            groups.setdefault(group, {})[interval] = block
    fields = {name: value for name, value in symbol.items() if name != "symbol"}
    streams = {
        name: columns_and_data(stamps_with_nanoseconds(tables[name]).drop("symbol", "month", strict=False))
        for name in STREAMS
        if tables[name].height
    }
    return {**fields, "price_type": primary, **groups, **streams}


def last_session(tables: LazyTables) -> dt.date | None:
    """Last session with a bar of any symbol's base, by the counts of `quality`; without such counts, by the bars; else None."""
    bases = tables["symbols"].select("symbol", pl.col("base_interval").alias("interval"))
    counted = (
        tables["quality"].filter(pl.col("present") + pl.col("off_grid") > 0).join(bases, on=["symbol", "interval"])
    )
    days = [rows.select(pl.col("session").max()).collect().item() for rows in (counted, tables["bars"])]
    return next((day for day in days if isinstance(day, dt.date)), None)


def session_metrics(tables: Tables, block: Mapping[str, object], current: dt.date | None) -> dict[str, object]:
    """Volume, high and low of the current session and the last update, of the base bars of the primary price type."""
    base, price_type = block["base_interval"], block["price_type"]
    mine = tables["bars"].filter(pl.col("price_type") == price_type, pl.col("interval") == pl.lit(base, pl.String))
    bars = mine.filter(pl.col("session") == pl.lit(current, pl.Date), in_slot(mine, tables["sessions"], block))
    return {
        "session": current,
        "session_volume": float(bars["volume"].sum()),
        "session_high": bars["high"].max(),
        "session_low": bars["low"].min(),
        "last_update": mine["ts"].max(),
    }


def in_slot(bars: pl.DataFrame, sessions: pl.DataFrame, symbol: Mapping[str, object]) -> pl.Series:
    """Mask of the bars that stand in an expected slot of their symbol's axis; all do where the tables do not have it."""
    axis = (
        sessions.filter(calendar=symbol["calendar"]).sort("ordinal")
        if symbol["calendar"] is not None
        else sessions.clear()
    )
    if axis.is_empty() or bars.is_empty() or symbol["align"] is None:
        return pl.repeat(value=True, n=bars.height, eager=True)
    spec = GridSpec(symbol["calendar"], tuple(symbol["segments"] or ()), symbol["align"], symbol["zone"] or "UTC")  # type: ignore[arg-type]
    regular = regular_labels(tuple(axis["segment"].unique(maintain_order=True)))
    segments = axis.with_columns(pl.col("segment").is_in(regular).alias("regular"))
    grid = SessionGrid.build(segments, str(symbol["base_interval"]), spec)
    return grid.place(bars["ts"])["slot"].is_not_null()


def series_of(tables: Tables, symbol: Mapping[str, object], primary: str) -> list[tuple[str, str, bool]]:
    """Sorted (price type, interval, is source beside the base) of a symbol, with configured intervals that lack rows.

    An interval that the symbol has by its entry and that has no bar, gap or quality is listed too.
    """
    base, derived = symbol["base_interval"], symbol["derived_intervals"]
    configured = [text for text in (base, *(derived if isinstance(derived, list) else ())) if isinstance(text, str)]
    series = {(primary, interval, False) for interval in configured}
    for name in ("quality", "gaps"):
        series |= {(*key, False) for key in tables[name].select("price_type", "interval").unique().rows()}
    is_source = is_source_beside_base(base).alias("is_source")
    series |= set(tables["bars"].select("price_type", "interval", is_source).unique().rows())
    return sorted(series, key=lambda one: (one[0], Interval.parse(one[1]), one[2]))


def is_source_beside_base(base: object) -> pl.Expr:
    """Expression: a bar's origin is `source` at an interval other than `base`; false when base is None."""
    if base is None:
        return pl.lit(value=False)
    return (pl.col("origin") == "source") & (pl.col("interval") != base)


def series_block(tables: Tables, base: object, price_type: str, interval: str, *, is_source: bool) -> dict[str, object]:
    """JSON block of a series: bars, `derived`, `base`, gaps, quality %; `is_source`: source bars off the base, bars only."""
    in_series = (pl.col("price_type") == price_type) & (pl.col("interval") == interval)
    bars = tables["bars"].filter(in_series & (is_source_beside_base(base) == is_source)).select(BAR_COLUMNS)
    is_derived = base is not None and interval != base and not is_source
    head = {"derived": is_derived, "base": base if is_derived else None}
    if is_source:  # gaps and quality are measured on the base and what is derived from it
        return {**head, **columns_and_data(bars)}
    counts = tables["quality"].filter(in_series).select(pl.col("present").sum(), pl.col("expected").sum())
    present, expected = counts.row(0)
    gaps = tables["gaps"].filter(in_series & IS_MISSING)
    ranges = gaps.select(
        pl.col("gap_start").alias("start_time"), pl.col("gap_end").alias("end_time"), pl.col("bar_count")
    )
    return {
        **head,
        "quality": 100 * present / expected if expected else None,
        "gaps": {"gap_count": gaps.height, "missing_bars": gaps["bar_count"].sum(), "ranges": ranges.to_dicts()},
        **columns_and_data(bars),
    }


def columns_and_data(rows: pl.DataFrame) -> dict[str, object]:
    """`{"count", "columns", "data": rows}`; ExportError when a float is NaN or infinite.

    Raises
    ------
    ExportError
        A float is not finite: JSON has no form for it.
    """
    floats = [name for name, dtype in rows.schema.items() if dtype.is_float()]
    if rows.select(pl.any_horizontal((~pl.col(floats).is_finite()).any())).item():
        raise ExportError("the tables hold NaN or an infinity, which JSON has no form for")
    return {"count": rows.height, "columns": rows.columns, "data": rows}
