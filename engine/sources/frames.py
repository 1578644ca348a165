"""Typed tables: Parquet files, and frames of Polars, pandas, Arrow and whatever speaks the Arrow PyCapsule protocol."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from engine.arguments import check_arguments
from engine.errors import SourceError
from engine.interval import Interval
from engine.sources.archive import sha256
from engine.sources.batch import Batch, content_hash
from engine.sources.columns import match_columns
from engine.sources.dataframes import names_of_index_levels, to_polars
from engine.sources.file_names import PathFacts, parse_path
from engine.sources.fixed_point import unpack_binary
from engine.sources.options import ReadOptions
from engine.sources.parquet_pages import check_page_headers
from engine.sources.table_rows import Origin, batch
from engine.sources.wide_tables import long_table, symbols_of_columns
from engine.storage import polars_options

CELL_BYTES = 8
MOST_BYTES_CHECKED = 32 << 20
ROW_NUMBER = "@number of the row"
ARROW_SCHEMA = "ARROW:schema"


def read_parquet(path: Path, options: ReadOptions, qualifier: str = "") -> Batch:
    """Batch of a Parquet file; without symbol column or option its folder, metadata or name states it; SourceError over `max_bytes`.

    Raises
    ------
    SourceError
        No Parquet, damaged, over the limits, or columns, symbol, zone or unit are not known.
    """
    check_unpacked_size(path, options)
    return read_parquet_batch(path, Origin(str(path), sha256(path), parse_path(path, options), options, qualifier))


def read_parquet_rows(
    path: Path | str,
    options: ReadOptions,
    rows: tuple[int, int],
    symbols: Sequence[str] = (),
    without: pl.Expr | None = None,
) -> Batch:
    """Batch of slice `rows` (first from 0, count) of a Parquet file, then filtered; `sha256` is empty.

    Parameters
    ----------
    path : Path or str
        A file, or the URL of an object.
    options : ReadOptions
    rows : (int, int)
        Number of the first one, from 0, and how many.
    symbols : sequence of str
        As the file spells them: only these rows. Empty: all.
    without : Expr, optional
        Over the file's columns: leave out the rows of which it is true.

    Raises
    ------
    SourceError
        As `read_parquet`.
    """
    origin = Origin(str(path), "", parse_path(str(path), options), options)
    return read_parquet_batch(path, origin, rows, symbols, without).shifted(options.offset)


def read_parquet_batch(
    path: Path | str,
    origin: Origin,
    cut: tuple[int, int] | None = None,
    symbols: Sequence[str] = (),
    without: pl.Expr | None = None,
) -> Batch:
    """Batch of rows `cut` (first, count), of `symbols`, not `without` (or null); wide tables: by `cut` alone."""
    try:
        # Rows that the scan itself numbers can be filtered where they lie: row groups of other symbols are not decoded.
        scanned = pl.scan_parquet(
            path,
            glob=False,
            hive_partitioning=False,
            row_index_name=ROW_NUMBER,
            row_index_offset=1,
            **polars_options(path),
        )
        scanned = scanned.rename(names_of_index_levels(scanned.collect_schema()))
        names = [name for name in scanned.collect_schema().names() if name != ROW_NUMBER]
        if symbols_of_columns(names):
            check_pages(path, names, cut)
            return read_wide_parquet(scanned, origin, cut)
        found = match_columns(names, origin.options, str(path))
        metadata = metadata_of(path)
        facts = origin.path_facts
        is_open = facts.symbol is None or facts.is_symbol_of_name
        if is_open and "symbol" not in found.roles and origin.options.symbol is None:
            named = metadata.get("symbol") or metadata.get("instrument_id") or facts.symbol
            origin = replace(origin, path_facts=replace(facts, symbol=named))
        numbered = scanned.slice(*cut) if cut else scanned
        if without is not None:
            numbered = numbered.filter(~without)
        if symbols:
            numbered = numbered.filter(pl.col(found.roles["symbol"]).is_in(list(symbols)))
        used = set(found.roles.values())
        check_pages(path, [name for name in names if name in used], cut)
        raw = numbered.select(pl.col(ROW_NUMBER).alias("row"), *(name for name in names if name in used)).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise SourceError(path, f"no Parquet file that can be read: {error}") from error
    raw, origin = unpack_binary(raw, origin, metadata)
    return batch(raw, found, origin)


def check_pages(path: Path | str, names: Sequence[str], cut: tuple[int, int] | None = None) -> None:
    """SourceError if PyArrow cannot decode these columns of a local Parquet file up to 32 MiB; of larger ones see below.

    Polars ends the process on some damaged pages, which no handler can stop; PyArrow raises. Of a larger file the headers
    of the pages are read (of the row groups of rows `cut` alone), which tell such pages; an object of a store is not read. Checksums of pages, which
    Polars passes over, are compared where a file has them.

    Raises
    ------
    SourceError
        A page is damaged.
    """
    import pyarrow as pa  # noqa: PLC0415  # slow to import
    import pyarrow.parquet as pq  # noqa: PLC0415

    if isinstance(path, str):
        return
    if path.stat().st_size > MOST_BYTES_CHECKED:
        check_page_headers(path, names, cut)
        return
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            inside = [name for name in names if name in file.schema_arrow.names]
            for _ in file.iter_batches(columns=inside, use_threads=False):
                pass
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(path, f"no Parquet file that can be read: {error}") from error


def read_wide_parquet(scanned: pl.LazyFrame, origin: Origin, cut: tuple[int, int] | None) -> Batch:
    """Batch of a table with columns per symbol (`('Close', 'SPY')`), of rows `cut` (first, count) alone if stated."""
    raw, notes = long_table((scanned.slice(*cut) if cut else scanned).rename({ROW_NUMBER: "row"}).collect())
    found = match_columns([name for name in raw.columns if name != "row"], origin.options, origin.source)
    raw, origin = unpack_binary(raw, replace(origin, notes=(*origin.notes, *notes)))
    return batch(raw, found, origin)


@check_arguments("options", "source")
def from_frame(
    frame: Any,  # noqa: ANN401  # anything with __arrow_c_stream__
    *,
    symbol: str | None = None,
    interval: Interval | str | None = None,
    options: ReadOptions | None = None,
    source: str = "frame",
) -> Batch:
    """Conform a frame in memory to a Batch; `symbol` wins even over a symbol column; SchemaError if it is no frame.

    Parameters
    ----------
    frame : polars.DataFrame, polars.LazyFrame, pandas.DataFrame, pyarrow.Table or any Arrow stream
        Bars (a stamp, open, high, low, close), quotes (bid, ask), ticks (price) or open interest, with names as in
        files. Polars and Arrow columns are not copied. The index of a pandas frame, when it holds stamps, is the stamp.
    symbol : str, optional
        Of all rows, also where the frame has a symbol column; required where it has none.
    interval : Interval or str, optional
        Default: the commonest step.
    options : ReadOptions, optional
        As for files.
    source : str
        Name of the frame in rejects and notes.

    Raises
    ------
    SchemaError
        The object is no frame.
    SourceError
        Columns, symbol, zone or unit are not known.
    """
    options = options or ReadOptions()
    if symbol is not None:
        options = replace(options, symbol=symbol)
    if interval is not None:
        options = replace(options, interval=Interval.parse(interval))
    table = to_polars(frame)
    return read_frame(table, Origin(source, content_hash(table), PathFacts(), options)).shifted(options.offset)


def read_frame(table: pl.DataFrame, origin: Origin) -> Batch:
    """Batch of a table with a vendor's column names and types; its rows are numbered from 1.

    Raises
    ------
    SourceError
        Columns, symbol, zone or unit are not known.
    """
    numbered, notes = long_table(table.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row")))
    origin = replace(origin, notes=(*origin.notes, *notes))
    found = match_columns([name for name in numbered.columns if name != "row"], origin.options, origin.source)
    unpacked, origin = unpack_binary(numbered, origin)
    return batch(unpacked, found, origin)


def metadata_of(path: Path | str) -> dict[str, str]:
    """Key -> text of the metadata of a Parquet file or object, of its Arrow schema too; SourceError if that is damaged.

    Raises
    ------
    SourceError
        The Arrow schema is damaged.
    """
    import pyarrow as pa  # noqa: PLC0415  # slow to import, and only needed for files

    stated = pl.read_parquet_metadata(path, **polars_options(path))
    packed = stated.pop(ARROW_SCHEMA, None)
    try:
        arrow = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(packed))).metadata if packed else None
    except (pa.ArrowException, ValueError, OSError) as error:
        raise SourceError(path, f"no Parquet file that can be read: {ARROW_SCHEMA}: {error}") from error
    texts = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in (arrow or {}).items()}
    return texts | stated


def check_unpacked_size(path: Path, options: ReadOptions) -> None:
    """SourceError if a Parquet file's unpacked size by its footer is over `max_bytes`, or the footer cannot be read."""
    import pyarrow as pa  # noqa: PLC0415  # slow to import
    import pyarrow.parquet as pq  # noqa: PLC0415  # and only the footer is wanted

    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise SourceError(path, f"no Parquet file that can be read: {error}") from error
    groups = (footer.row_group(at).total_byte_size for at in range(footer.num_row_groups))
    # Encoded cells can be far smaller than decoded ones, so both are looked at.
    size = max(sum(groups), footer.num_rows * footer.num_columns * CELL_BYTES)
    if size > options.max_bytes:
        raise SourceError(path, f"unpacks to {size:,} bytes, more than max_bytes allows ({options.max_bytes:,})")
