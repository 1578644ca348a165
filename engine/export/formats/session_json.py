"""The session in one JSON document, one symbol after the other.

::

    {"metadata": {...},
     "symbols": {SYMBOL: {"calendar": ..., "base_interval": ..., "price_type": the primary one,
                          "bars":     {INTERVAL: BLOCK},      series of the primary price type
                          "bars_ask": {INTERVAL: BLOCK},      of another price type
                          "bars_source": {INTERVAL: BLOCK},   coarser bars that the source had itself
                          "quotes": ROWS, "ticks": ROWS, "open_interest": ROWS}}}
    BLOCK: {"derived", "base", "count", "quality",
            "gaps": {"gap_count", "missing_bars", "ranges": [{"start_time", "end_time", "bar_count"}]},
            "columns": [...], "data": [[...]]}
    ROWS:  {"count", "columns": [...], "data": [[...]]}

A column of a block is named once, in `columns`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import BinaryIO

import orjson
import polars as pl

from engine.errors import ExportError
from engine.export.formats.selection import PER_SYMBOL, STREAMS, Lazies, Selection, by_symbol
from engine.export.formats.table_files import precise
from engine.export.tables import SORT, TABLES
from engine.interval import Interval
from engine.schema import PRICE_TYPES, empty

Frames = Mapping[str, pl.DataFrame]

ROWS_PER_WRITE = 1 << 14
BAR_COLUMNS = tuple(
    name for name in TABLES["bars"] if name not in ("symbol", "price_type", "interval", "origin", "month")
)


def write_symbols(tables: Lazies, selection: Selection, stream: BinaryIO) -> None:
    """Write the object of all symbols, sorted by name.

    Raises
    ------
    ExportError
        A float is not finite.
    """
    stream.write(b"{")
    separator = b"\n"
    for symbol, found in _symbols(tables):
        stream.write(separator + to_json(symbol) + b":")
        write_value(_symbol_block(found, selection), stream)
        separator = b",\n"
    stream.write(b"\n}")


def to_json(value: object) -> bytes:
    """Any value as JSON, instants in UTC with `Z`."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def write_value(value: object, stream: BinaryIO) -> None:
    """Write any value as JSON; the rows of a frame become Python objects a slice at a time."""
    if isinstance(value, pl.DataFrame):
        _write_rows(value, stream)
    elif isinstance(value, dict):
        separator = b"{"
        for name, inner in value.items():
            stream.write(separator + to_json(name) + b":")
            write_value(inner, stream)
            separator = b","
        stream.write(b"}" if value else b"{}")
    else:
        stream.write(to_json(value))


def _write_rows(rows: pl.DataFrame, stream: BinaryIO) -> None:
    separator = b"["
    for part in rows.iter_slices(ROWS_PER_WRITE) if rows.height else ():
        stream.write(separator + to_json(part.rows())[1:-1])
        separator = b","
    stream.write(b"]" if rows.height else b"[]")


def _symbols(tables: Lazies) -> Iterator[tuple[str, Frames]]:
    for batch in by_symbol(tables):
        found = {
            name: _by_symbol(tables[name].filter(pl.col("symbol").is_in(batch)).sort(SORT[name]).collect())
            for name in PER_SYMBOL
        }
        for symbol in batch:
            yield symbol, {name: frames.get(symbol, empty(TABLES[name])) for name, frames in found.items()}


def _by_symbol(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {str(key): frame for (key,), frame in rows.partition_by("symbol", as_dict=True).items()}


def _symbol_block(found: Frames, selection: Selection) -> dict[str, object]:
    known = found["symbols"].row(0, named=True) if found["symbols"].height else dict.fromkeys(TABLES["symbols"])
    primary = _primary(found)
    fields = {name: value for name, value in known.items() if name != "symbol"}
    streams = {name: _rows(_stream(found[name])) for name in STREAMS if found[name].height}
    return {**fields, "price_type": primary, **_groups(found, known, primary, selection), **streams}


def _primary(found: Frames) -> str:
    seen = {value for name in ("bars", "quality", "gaps") for value in found[name]["price_type"].unique()}
    return next((price_type for price_type in PRICE_TYPES if price_type in seen), PRICE_TYPES[0])


def _groups(
    found: Frames, known: Mapping[str, object], primary: str, selection: Selection
) -> dict[str, dict[str, object]]:
    groups: dict[str, dict[str, object]] = {"bars": {}}
    for price_type, interval, own in _series(found, known, primary):
        if selection.shows(interval):
            group = "bars" + ("" if price_type == primary else f"_{price_type}") + ("_source" if own else "")
            block = _block(found, known["base_interval"], price_type, interval, own=own)
            groups.setdefault(group, {})[interval] = block
    return groups


def _series(found: Frames, known: Mapping[str, object], primary: str) -> list[tuple[str, str, bool]]:
    # An interval that was asked for and has no bar, gap or quality is listed too.
    base, derived = known["base_interval"], known["derived_intervals"]
    asked = [text for text in (base, *(derived if isinstance(derived, list) else ())) if isinstance(text, str)]
    series = {(primary, interval, False) for interval in asked}
    for name in ("quality", "gaps"):
        series |= {(*key, False) for key in found[name].select("price_type", "interval").unique().rows()}
    series |= set(found["bars"].select("price_type", "interval", _is_own(base)).unique().rows())
    return sorted(series, key=lambda one: (one[0], Interval.parse(one[1]), one[2]))


def _is_own(base: object) -> pl.Expr:
    # Bars of the source beside the base: kept for reconciling, never mixed with derived ones.
    own = (pl.col("origin") == "source") & (pl.col("interval") != base) if base is not None else pl.lit(value=False)
    return own.alias("own")


def _block(found: Frames, base: object, price_type: str, interval: str, *, own: bool) -> dict[str, object]:
    of_series = (pl.col("price_type") == price_type) & (pl.col("interval") == interval)
    bars = found["bars"].filter(of_series & (_is_own(base) == own)).select(BAR_COLUMNS)
    is_derived = base is not None and interval != base and not own
    head = {"derived": is_derived, "base": base if is_derived else None}
    if own:  # gaps and quality are judged on the base and what is derived from it
        return {**head, **_rows(bars)}
    quality = _quality(found["quality"].filter(of_series))
    return {**head, "quality": quality, "gaps": _gaps(found["gaps"].filter(of_series)), **_rows(bars)}


def _quality(rows: pl.DataFrame) -> float | None:
    present, expected = rows.select(pl.col("present").sum(), pl.col("expected").sum()).row(0)
    return 100 * present / expected if expected else None


def _gaps(rows: pl.DataFrame) -> dict[str, object]:
    ranges = rows.select(
        pl.col("gap_start").alias("start_time"), pl.col("gap_end").alias("end_time"), pl.col("bar_count")
    )
    return {"gap_count": rows.height, "missing_bars": rows["bar_count"].sum(), "ranges": ranges.to_dicts()}


def _rows(rows: pl.DataFrame) -> dict[str, object]:
    floats = [name for name, dtype in rows.schema.items() if dtype.is_float()]
    if rows.select(pl.any_horizontal((~pl.col(floats).is_finite()).any())).item():
        raise ExportError("the tables hold NaN or an infinity, which JSON has no form for")
    return {"count": rows.height, "columns": rows.columns, "data": rows}


def _stream(rows: pl.DataFrame) -> pl.DataFrame:
    return precise(rows).drop("symbol", "month", strict=False)
