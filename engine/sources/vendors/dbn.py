"""Databento Binary Encoding -> batches.

1. `peek_header` reads data set and schema from the first bytes, without the vendor's library.
2. `read_records` views the bytes of a file as a NumPy array of the library's own record layout; records of other kinds
   in between (mappings, system messages of a live recording) are stepped over.
3. Instrument numbers become symbols by the intervals of the file's metadata (`add_symbols`).

Prices are integers, 1e-9; times are nanoseconds since 1970 UTC. Bars are stamped with their start, trades and books
with the venue's event time (or the receive time, where there is none), sampled books (`bbo-1s`) with the sample's time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import SourceError
from engine.grid import Align
from engine.interval import Interval
from engine.schema import COUNTERS, ROWS, TS_NS, Kind, conform, empty
from engine.sources import archive
from engine.sources.batch import Batch, SourceFile
from engine.sources.counters import tick_counters
from engine.sources.file_names import PathFacts
from engine.sources.layouts.shared_names import OHLC
from engine.sources.options import ReadOptions
from engine.sources.table_rows import Origin, divided, drop_unrequested, source_symbols

SCHEMAS = {
    0: "mbo",
    1: "mbp-1",
    2: "mbp-10",
    3: "tbbo",
    4: "trades",
    5: "ohlcv-1s",
    6: "ohlcv-1m",
    7: "ohlcv-1h",
    8: "ohlcv-1d",
    9: "definition",
    10: "statistics",
    11: "status",
    12: "imbalance",
    13: "ohlcv-eod",
    14: "cmbp-1",
    15: "cbbo-1s",
    16: "cbbo-1m",
    17: "tcbbo",
    18: "bbo-1s",
    19: "bbo-1m",
}
KINDS: dict[str, tuple[Kind, ...]] = {
    "ohlcv-1s": ("bars",),
    "ohlcv-1m": ("bars",),
    "ohlcv-1h": ("bars",),
    "ohlcv-1d": ("bars",),
    "trades": ("ticks",),
    "tbbo": ("ticks", "quotes"),
    "mbp-1": ("quotes",),
    "bbo-1s": ("quotes",),
    "bbo-1m": ("quotes",),
}
MESSAGES = {"ohlcv": "OHLCVMsg", "trades": "TradeMsg", "tbbo": "MBP1Msg", "mbp": "MBP1Msg", "bbo": "BBOMsg"}
MAGIC = b"DBN"
NEWEST_VERSION = 3
PRICE_UNIT = 1e9
UNDEFINED_PRICE, UNDEFINED_TIME = 2**63 - 1, 2**64 - 1
WORD_BYTES = 4  # a record tells its length in words
RUN_RECORDS = 65_536
SAME_SEQUENCE = 2**16  # more events than one packet can hold


@dataclass(frozen=True)
class Header:
    """Data set and schema of a DBN file, from its first bytes."""

    dataset: str
    schema: str
    version: int


def peek_header(head: bytes) -> Header | None:
    """Data set and schema name from a file's first unpacked bytes; None without DBN's mark or below 26 bytes."""
    if not head.startswith(MAGIC) or len(head) < 26:  # noqa: PLR2004  # magic, version, length, data set, schema
        return None
    (schema,) = struct.unpack_from("<H", head, 24)
    dataset = head[8:24].rstrip(b"\0").decode("ascii", errors="replace")
    name = SCHEMAS.get(schema, "mixed" if schema == 2**16 - 1 else f"number {schema}")
    return Header(dataset, name, version=head[len(MAGIC)])


def source_file(path: Path, head: bytes, header: Header) -> SourceFile:
    """The file with kind, interval, market, symbols of its metadata, `symbol` if only one; SourceError if damaged.

    Raises
    ------
    SourceError
        `databento-dbn` is not installed, or the metadata are damaged.
    """
    interval = interval_of_schema(header)
    (length,) = struct.unpack_from("<I", head, 4)
    whole = archive.head(path, 8 + length) if len(head) < 8 + length else head
    _, metadata, _ = decode_metadata(path, whole)
    symbols = tuple(sorted({symbol for _, _, _, symbol in symbol_spans(metadata)}))
    return SourceFile(
        path=path,
        format="dbn",
        kind=KINDS[header.schema][0],
        interval=interval,
        symbol=symbols[0] if len(symbols) == 1 else None,
        price_type="last" if interval else None,
        market=header.dataset,
        symbols=symbols,
    )


def unknown_reason(header: Header) -> str | None:
    """Text why a header cannot be relied on (a version or schema that DBN does not have); None when it can."""
    if not 1 <= header.version <= NEWEST_VERSION:
        return f"is DBN of version {header.version}; valid: 1 to {NEWEST_VERSION}; or its head is damaged"
    return f"is DBN of an unknown schema ({header.schema})" if header.schema.startswith("number ") else None


def skip_reason(header: Header) -> str | None:
    """Text why a schema is not read (no bars, quotes or trades in it); None when it is read."""
    if header.schema in KINDS:
        return None
    return f"Databento schema {header.schema} holds no bars, top-of-book quotes or trades"


def read_dbn(path: Path, options: ReadOptions, qualifier: str = "") -> list[Batch]:
    """Batches of a DBN file: one, for `tbbo` two (trades, quotes), for an unread schema none; SourceError if damaged.

    Raises
    ------
    SourceError
        `databento-dbn` is not installed, or the file is damaged or over the limits.
    """
    data = archive.content(path, options)
    header = peek_header(data)
    if header is None:
        raise SourceError(path, "is no Databento Binary Encoding")
    unknown = unknown_reason(header)
    if unknown is not None:
        raise SourceError(path, unknown)
    if skip_reason(header) is not None:
        return []
    library, metadata, body = decode_metadata(path, data)
    family = header.schema.split("-")[0]
    dtype = np.dtype(getattr(library, MESSAGES[family])._dtypes)  # noqa: SLF001  # the layout has no other door
    if metadata.ts_out:
        dtype = np.dtype([*dtype.descr, ("ts_out", "u8")])
    records, others = read_records(path, body, dtype)
    raw = records_table(records, metadata)
    notes = (f"{others} records of other kinds stepped over",) if others else ()
    origin = Origin(str(path), archive.sha256(path), PathFacts(), options, qualifier, notes)
    return [batch_of_kind(raw, kind, header, origin) for kind in KINDS[header.schema]]


def decode_metadata(path: Path, data: bytes) -> tuple[Any, Any, bytes]:
    """(vendor's module, metadata, bytes of the records); SourceError without the module or if damaged."""
    try:
        import databento_dbn as library  # noqa: PLC0415  # an optional extra
    except ImportError as error:
        raise SourceError(path, "Databento files need an extra: pip install session-engine[dbn]") from error
    (length,) = struct.unpack_from("<I", data, 4)
    try:
        metadata = library.Metadata.decode(data[: 8 + length])
    except Exception as error:  # the library raises kinds of its own, which have no common root
        raise SourceError(path, f"metadata cannot be read: {error}") from error
    return library, metadata, data[8 + length :]


def read_records(path: Path, body: bytes, dtype: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    """All records of this layout in file order, and the number of records of other kinds, which are skipped."""
    if len(body) % dtype.itemsize == 0:
        whole = np.frombuffer(body, dtype)
        if matches_layout(whole).all():
            return whole, 0
    runs = list(record_runs(path, body, dtype))
    found = [run for run in runs if run.size]
    return (np.concatenate(found) if found else np.empty(0, dtype)), len(runs) - len(found)


def record_runs(path: Path, body: bytes, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Yield runs of up to 65,536 records of the layout; an empty run per other record; SourceError if cut off."""
    at = 0
    while at < len(body):
        count = min((len(body) - at) // dtype.itemsize, RUN_RECORDS)
        ahead = np.frombuffer(body, dtype, count, at)
        alike = matches_layout(ahead)
        run = ahead if alike.all() else ahead[: int(np.argmin(alike))]
        step = run.size * dtype.itemsize or body[at] * WORD_BYTES
        if step == 0 or at + step > len(body):
            raise SourceError(path, f"a record is cut off at byte {at:,} of the records")
        yield run
        at += step


def matches_layout(records: NDArray[Any]) -> NDArray[np.bool_]:
    """Per record, whether its length is the layout's and its type is outside 0x12-0x1f (messages about the stream)."""
    # Layouts of data differ in size; records about the stream (types 0x12 to 0x1f) may share one.
    words = records.dtype.itemsize // WORD_BYTES
    rtype = records["rtype"]
    control = (rtype >= 0x12) & (rtype <= 0x1F)  # noqa: PLR2004
    mine: NDArray[np.bool_] = (records["length"] == words) & ~control
    return mine


def records_table(records: NDArray[Any], metadata: Any) -> pl.DataFrame:  # noqa: ANN401
    """Frame of the records' integer fields, `row` from 1, and `symbol` from the metadata (null if none)."""
    names = [name for name in records.dtype.names or () if records.dtype[name].kind in "iu"]
    table = pl.DataFrame({name: np.ascontiguousarray(records[name]) for name in names})
    table = table.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row"))
    return add_symbols(table, metadata)


def add_symbols(table: pl.DataFrame, metadata: Any) -> pl.DataFrame:  # noqa: ANN401
    """Add `symbol`: the first mapping valid for the instrument on the UTC day received (else of event); or null."""
    stamp = "ts_recv" if "ts_recv" in table.columns else "ts_event"
    day = pl.col(stamp).cast(pl.Int64, strict=False).cast(pl.Datetime("ns")).dt.date()
    dated = table.with_columns(day.alias("day"))
    spans = pl.DataFrame(
        list(symbol_spans(metadata)),
        schema={"instrument_id": pl.UInt32(), "first": pl.Date(), "past": pl.Date(), "symbol": pl.String()},
        orient="row",
    )
    pairs = dated.select("instrument_id", "day").unique()
    valid = (pl.col("day") >= pl.col("first")) & (pl.col("day") < pl.col("past"))
    named = (
        pairs.join(spans, on="instrument_id")
        .filter(valid)
        .unique(["instrument_id", "day"], keep="first", maintain_order=True)
    )
    keys = ["instrument_id", "day"]
    return dated.join(named.select(*keys, "symbol"), on=keys, how="left", maintain_order="left").drop("day")


def symbol_spans(metadata: Any) -> Iterable[tuple[int, Any, Any, str]]:  # noqa: ANN401
    """Yield (instrument, first day, day past the last, symbol) per mapping; parent symbols get `.number` appended."""
    numbers_first = str(metadata.stype_in) == "instrument_id"
    for name, intervals in metadata.mappings.items():
        for span in intervals:
            given, number = (span["symbol"], name) if numbers_first else (name, span["symbol"])
            if str(number).isdigit():
                # A parent symbol (ES.FUT) stands for many contracts at once: each stays a series of its own.
                symbol = f"{given}.{number}" if str(metadata.stype_in) == "parent" else given
                yield int(number), span["start_date"], span["end_date"], symbol


def batch_of_kind(raw: pl.DataFrame, kind: Kind, header: Header, origin: Origin) -> Batch:
    """Batch of one kind; `seq` is sequence x 65,536 + place among rows of equal (symbol, ts, sequence)."""
    options, qualifier = origin.options, origin.qualifier
    columns = {name: pl.lit(value) for name, value in row_values(raw, kind, header, qualifier).to_dict().items()}
    good, bad = conform(raw, kind, columns, origin.source, options.rules)
    if "seq" in ROWS[kind]:
        # One packet may hold several events: its number and the place of the event in it are the same in every file.
        place = pl.int_range(pl.len(), dtype=pl.Int64).over("symbol", "ts", "seq")
        good = good.with_columns((pl.col("seq") * SAME_SEQUENCE + place).alias("seq"))
    kept, left_out = drop_unrequested(good, options)
    interval = interval_of_schema(header)
    return Batch(
        kind=kind,
        interval=interval,
        frame=kept,
        rejects=bad,
        source=origin.source,
        sha256=origin.sha256,
        stamp=options.stamp or "start",
        align=options.align or align_of_interval(interval),
        source_symbols=source_symbols(kept["symbol"], qualifier),
        notes=(*origin.notes, *left_out),
        counters=tick_counters(kept.with_columns(pl.col("seq") // SAME_SEQUENCE))
        if kind == "ticks"
        else empty(COUNTERS),
    )


def row_values(raw: pl.DataFrame, kind: Kind, header: Header, qualifier: str) -> pl.DataFrame:
    """Symbol with qualifier, `ts`, values of the kind; undefined prices are null; bbo schemas use receive time."""
    symbol = (pl.col("symbol") + qualifier).alias("symbol")
    sampled = header.schema.startswith("bbo")
    ts = (
        instant_column("ts_recv")
        if sampled
        else instant_column(*(name for name in ("ts_event", "ts_recv") if name in raw.columns))
    )
    if kind == "bars":
        return raw.select(symbol, ts, *map(price_column, OHLC), pl.col("volume").cast(pl.Float64))
    seq = pl.col("sequence").cast(pl.Int64).alias("seq")
    if kind == "ticks":
        return raw.select(symbol, ts, seq, price_column("price"), pl.col("size").cast(pl.Float64))
    sides = [price_column(f"{side}_px_00").alias(side) for side in ("bid", "ask")]
    return raw.select(symbol, ts, seq, *sides, *map(size_column, ("bid", "ask")))


def instant_column(*names: str) -> pl.Expr:
    """Expression `ts` (ns, UTC): per row the first of the columns whose time is defined, else null."""
    given = [pl.when(pl.col(name) != UNDEFINED_TIME).then(pl.col(name)) for name in names]
    return pl.coalesce(given).cast(pl.Int64, strict=False).cast(TS_NS).alias("ts")


def price_column(name: str) -> pl.Expr:
    """Expression: the column's integer price times 1e-9 as Float64 under the same name; null where it is undefined."""
    defined = pl.when(pl.col(name) != UNDEFINED_PRICE).then(pl.col(name))
    return divided(defined.cast(pl.Float64), PRICE_UNIT).alias(name)


def size_column(side: str) -> pl.Expr:
    """Expression `bid_size` or `ask_size` as Float64; null where that side's price is undefined."""
    defined = pl.when(pl.col(f"{side}_px_00") != UNDEFINED_PRICE).then(pl.col(f"{side}_sz_00"))
    return defined.cast(pl.Float64).alias(f"{side}_size")


def interval_of_schema(header: Header) -> Interval | None:
    """Interval of an `ohlcv-...` schema (`ohlcv-1m` gives 1m); None for all other schemas."""
    name = header.schema.removeprefix("ohlcv-")
    return Interval.parse(name) if name != header.schema else None


def align_of_interval(interval: Interval | None) -> Align:
    """Alignment: `session` below an hour and for None, `clock` from an hour to below a day, `date` from a day on."""
    if interval is None or interval < Interval.parse("1h"):
        return "session"
    return "clock" if interval.is_intraday else "date"
