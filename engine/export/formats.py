"""An export for people: one JSON file in the hierarchy of the session, or one CSV file per table.

JSON, `session.json`:

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

CSV: `<table>.csv`, UTF-8, comma, LF, a header. Stamps are ISO-8601 in UTC with six decimals and `Z`, dates
ISO; booleans `true` and `false`; null is an empty cell, empty text is `""`; lists are JSON text.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import orjson
import polars as pl

from engine import __version__
from engine.errors import ExportError, ParameterError, SchemaError
from engine.export.dataset import Dataset
from engine.export.tables import DATA_TABLES, SORT, TABLES, shaped
from engine.interval import Interval
from engine.publish import make_folders, publishing
from engine.schema import PRICE_TYPES, empty

Source = Dataset | Mapping[str, pl.DataFrame]
Lazies = Mapping[str, pl.LazyFrame]
Frames = Mapping[str, pl.DataFrame]

SESSION_FILE = "session.json"
ROWS_PER_BATCH = 1 << 20
CSV_STAMP = "%Y-%m-%dT%H:%M:%S%.6fZ"
STREAMS = ("quotes", "ticks", "open_interest")
PER_SYMBOL = ("symbols", "bars", "gaps", "quality", *STREAMS)
BAR_COLUMNS = tuple(
    name for name in TABLES["bars"] if name not in ("symbol", "price_type", "interval", "origin", "month")
)


@dataclass(frozen=True)
class _Selection:
    symbols: tuple[str, ...] | None
    start: dt.date | None
    end: dt.date | None
    intervals: tuple[str, ...] | None

    @classmethod
    def of(
        cls,
        symbols: Iterable[str] | None,
        start: dt.date | None,
        end: dt.date | None,
        intervals: Iterable[str | Interval] | None,
    ) -> _Selection:
        if start is not None and end is not None and start > end:
            raise ParameterError(f"start: received {start}, later than end {end}")
        steps = None if intervals is None else tuple(str(Interval.parse(text)) for text in intervals)
        return cls(None if symbols is None else tuple(symbols), start, end, steps)

    def narrow(self, rows: pl.LazyFrame, table: str) -> pl.LazyFrame:
        schema = TABLES[table]
        if self.symbols is not None and "symbol" in schema:
            rows = rows.filter(pl.col("symbol").is_in(list(self.symbols)))
        if self.start is not None and "session" in schema:
            rows = rows.filter(pl.col("session") >= self.start)
        if self.end is not None and "session" in schema:
            rows = rows.filter(pl.col("session") <= self.end)
        if self.intervals is not None and "interval" in schema:
            rows = rows.filter(pl.col("interval").is_in(list(self.intervals)))
        return rows

    def shows(self, interval: str) -> bool:
        return self.intervals is None or interval in self.intervals


def write_json(
    source: Source,
    output: Path,
    *,
    symbols: Iterable[str] | None = None,
    start: dt.date | None = None,
    end: dt.date | None = None,
    intervals: Iterable[str | Interval] | None = None,
) -> Path:
    """Write `session.json`, in the hierarchy of the session (see this module).

    Parameters
    ----------
    source : Dataset or mapping of table name to DataFrame
        What to write; frames as `tables.shaped` takes them.
    output : Path
        A folder; `session.json` in it is replaced in one step.
    symbols, start, end, intervals
        Narrow what is written; `start` and `end` are trade dates, both included.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ParameterError
        A symbol that the source does not have; dates the wrong way round.
    IntervalError
        An interval that is none.
    ExportError
        The file cannot be written; the former one is what it was.
    """
    selection = _Selection.of(symbols, start, end, intervals)
    tables = _tables(source, selection)
    file = Path(output) / SESSION_FILE
    try:
        make_folders(file.parent)
        with publishing(file) as staged, staged.open("xb") as stream:
            _write_session(_metadata(source, tables, selection), tables, selection, stream)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ExportError(f"{file}: {error}") from error
    return file


def write_csv(
    source: Source,
    output: Path,
    *,
    symbols: Iterable[str] | None = None,
    start: dt.date | None = None,
    end: dt.date | None = None,
    intervals: Iterable[str | Interval] | None = None,
) -> list[Path]:
    """Write one CSV file per table (see this module) to a folder that is new or empty.

    Parameters and errors are those of `write_json`. The folder appears with all its files or not at all.

    Returns
    -------
    list of Path
        The files, in the order of `tables.TABLES`.
    """
    tables = _tables(source, _Selection.of(symbols, start, end, intervals))
    output = Path(output)
    try:
        with publishing(output) as staged:
            staged.mkdir()
            for name, rows in tables.items():
                _as_text(rows, name).sink_csv(staged / f"{name}.csv", null_value="")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ExportError(f"{output}: {error}; valid: a folder that is new or empty") from error
    return [output / f"{name}.csv" for name in tables]


def _tables(source: Source, selection: _Selection) -> dict[str, pl.LazyFrame]:
    if isinstance(source, Dataset):
        whole = {name: source.scan(name) for name in TABLES}
    else:
        unknown = [name for name in source if name not in DATA_TABLES]
        if unknown:
            raise SchemaError(f"tables: received {', '.join(unknown)}; valid: {', '.join(DATA_TABLES)}")
        whole = {name: shaped(name, source.get(name)).lazy() for name in DATA_TABLES}
    _check_symbols(whole, selection)
    return {name: selection.narrow(rows, name) for name, rows in whole.items()}


def _check_symbols(tables: Lazies, selection: _Selection) -> None:
    if selection.symbols is None:
        return
    named = [tables[name].select("symbol") for name in PER_SYMBOL]
    known = set(pl.concat(named).unique().collect()["symbol"])
    strange = [symbol for symbol in selection.symbols if symbol not in known]
    if strange:
        raise ParameterError(f"symbols: received {', '.join(map(repr, strange))}; there are {_some(known)}")


def _some(names: Iterable[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""  # noqa: PLR2004
    return (", ".join(map(repr, shown[:10])) or "none") + more


def _as_text(rows: pl.LazyFrame, table: str) -> pl.LazyFrame:
    schema = TABLES[table]
    stamps = [name for name, dtype in schema.items() if isinstance(dtype, pl.Datetime)]
    lists = [name for name, dtype in schema.items() if isinstance(dtype, pl.List)]
    listed = [
        pl.when(pl.col(name).is_not_null())
        .then(pl.struct(pl.col(name).alias("x")).struct.json_encode().str.strip_prefix('{"x":').str.strip_suffix("}"))
        .alias(name)
        for name in lists
    ]
    return rows.with_columns(pl.col(stamps).dt.strftime(CSV_STAMP), *listed)


def _write_session(metadata: Mapping[str, object], tables: Lazies, selection: _Selection, stream: BinaryIO) -> None:
    stream.write(b'{"metadata":' + _json(metadata) + b',"symbols":{')
    separator = b"\n"
    for symbol, found in _symbols(tables):
        stream.write(separator + _json(symbol) + b":" + _json(_symbol_block(found, selection)))
        separator = b",\n"
    stream.write(b"\n}}\n")


def _metadata(source: Source, tables: Lazies, selection: _Selection) -> dict[str, object]:
    written = {"engine_version": __version__}
    if isinstance(source, Dataset):
        last = source.exports.row(-1, named=True)
        written = {
            name: last[name] for name in ("revision", "store_id", "store_revision", "written_at", "engine_version")
        }
    calendars = tables["calendars"].sort(SORT["calendars"]).collect().to_dicts()
    return {"format": "session", "format_version": 1, **written, "calendars": calendars, "selection": asdict(selection)}


def _symbols(tables: Lazies) -> Iterator[tuple[str, Frames]]:
    for batch in _batches(tables):
        found = {
            name: _by_symbol(tables[name].filter(pl.col("symbol").is_in(batch)).sort(SORT[name]).collect())
            for name in PER_SYMBOL
        }
        for symbol in batch:
            yield symbol, {name: frames.get(symbol, empty(TABLES[name])) for name, frames in found.items()}


def _batches(tables: Lazies) -> Iterator[list[str]]:
    counted = pl.concat(
        [tables[name].group_by("symbol").agg(pl.len().cast(pl.Int64).alias("rows")) for name in PER_SYMBOL]
    )
    sizes = counted.group_by("symbol").agg(pl.col("rows").sum()).sort("symbol").collect()
    batch = (sizes["rows"].cum_sum() // ROWS_PER_BATCH).alias("batch")
    for symbols in sizes.group_by(batch, maintain_order=True).agg("symbol")["symbol"]:
        yield symbols.to_list()


def _by_symbol(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {str(key): frame for (key,), frame in rows.partition_by("symbol", as_dict=True).items()}


def _symbol_block(found: Frames, selection: _Selection) -> dict[str, object]:
    known = found["symbols"].row(0, named=True) if found["symbols"].height else dict.fromkeys(TABLES["symbols"])
    primary = _primary(found)
    fields = {name: value for name, value in known.items() if name != "symbol"}
    streams = {name: _rows(_precise(found[name])) for name in STREAMS if found[name].height}
    return {**fields, "price_type": primary, **_groups(found, known, primary, selection), **streams}


def _primary(found: Frames) -> str:
    seen = {value for name in ("bars", "quality", "gaps") for value in found[name]["price_type"].unique()}
    return next((price_type for price_type in PRICE_TYPES if price_type in seen), PRICE_TYPES[0])


def _groups(
    found: Frames, known: Mapping[str, object], primary: str, selection: _Selection
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
    return {"count": rows.height, "columns": rows.columns, "data": rows.rows()}


def _precise(rows: pl.DataFrame) -> pl.DataFrame:
    # Nanoseconds as a number are more than a JavaScript number holds; the stamp says it all.
    if "ts_ns" in rows.columns:
        rows = rows.with_columns(pl.from_epoch("ts_ns", "ns").dt.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").alias("ts"))
    return rows.drop("symbol", "month", "ts_ns", strict=False)


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)
