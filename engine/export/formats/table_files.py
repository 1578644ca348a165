"""Tables as plain files: CSV, NDJSON, Parquet, Arrow. Each writer takes a table's rows piece by piece.

- CSV: UTF-8, comma, LF, a header. Stamps are ISO-8601 in UTC with six decimals and `Z`, dates ISO; booleans `true` and
  `false`; null is an empty cell, empty text is `""`; lists are JSON text.
- NDJSON: one object per line, the columns by name; stamps as in CSV, those of ticks and quotes with nine decimals
  (and no `ts_ns`, which a JavaScript number would not hold).
- Parquet: a folder per table, a file per interval and month (`bars/1m-2013-10.parquet`), so that `bars/*.parquet` is the
  table. No folder is called `name=value`: every column is in the files, and all-numeric symbols stay text.
- Arrow: one IPC file per table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.datatypes import DataTypeClass

from engine.schema import TS, Schema, empty

Chunks = Iterable[tuple[str, pl.DataFrame]]

STAMP = "%Y-%m-%dT%H:%M:%S%.6fZ"
STAMP_NS = "%Y-%m-%dT%H:%M:%S%.9fZ"
FORMULA = r"^[=+\-@\t\r]"
ROW_GROUP_ROWS = 1 << 17
ARROW: Mapping[DataTypeClass, pa.DataType] = {
    pl.String: pa.string(),
    pl.Int32: pa.int32(),
    pl.Int64: pa.int64(),
    pl.Float64: pa.float64(),
    pl.Boolean: pa.bool_(),
    pl.Date: pa.date32(),
    pl.Datetime: pa.timestamp("us", tz="UTC"),
}


def write_csv_table(name: str, schema: Schema, chunks: Chunks, folder: Path, *, spreadsheet_safe: bool = False) -> None:
    """Write `<name>.csv`; `spreadsheet_safe` puts `'` before text that a spreadsheet would take for a formula."""
    with (folder / f"{name}.csv").open("xb") as file:
        for number, rows in enumerate(_at_least_one(schema, chunks)):
            texts = _as_cells(_guarded(rows) if spreadsheet_safe else rows)
            texts.write_csv(file, include_header=number == 0, null_value="")


def write_ndjson_table(name: str, schema: Schema, chunks: Chunks, folder: Path) -> None:
    """Write `<name>.ndjson`."""
    del schema  # every line names its columns
    with (folder / f"{name}.ndjson").open("xb") as file:
        for _, rows in chunks:
            exact = precise(rows)
            stamps = [column for column, dtype in exact.schema.items() if isinstance(dtype, pl.Datetime)]
            exact.with_columns(pl.col(stamps).dt.strftime(STAMP)).write_ndjson(file)


def write_parquet_table(name: str, schema: Schema, chunks: Chunks, folder: Path) -> None:
    """Write the folder `<name>`."""
    (folder / name).mkdir()
    for key, pieces in groupby(chunks, key=lambda piece: piece[0]):
        _write_parquet(folder / name / f"{key}.parquet", schema, (rows for _, rows in pieces))
    if not any((folder / name).iterdir()):
        _write_parquet(folder / name / f"{name}.parquet", schema, [])


def write_arrow_table(name: str, schema: Schema, chunks: Chunks, folder: Path) -> None:
    """Write `<name>.arrow`."""
    with (
        (folder / f"{name}.arrow").open("xb") as file,
        pa.ipc.new_file(file, arrow_schema(schema)) as writer,
    ):
        for _, rows in chunks:
            writer.write_table(_arrow(schema, rows), max_chunksize=ROW_GROUP_ROWS)


def arrow_schema(schema: Schema) -> pa.Schema:
    """Columns as Arrow has them, in the types that every reader knows."""
    return pa.schema([(column, _arrow_type(dtype)) for column, dtype in schema.items()])


def precise(rows: pl.DataFrame) -> pl.DataFrame:
    """Show the nanoseconds in the stamp itself, as text, and leave the number out."""
    # Nanoseconds as a number are more than a JavaScript number holds; the stamp says it all.
    if "ts_ns" not in rows.columns:
        return rows
    exact = pl.from_epoch("ts_ns", "ns").dt.strftime(STAMP_NS).alias("ts")
    if "ts" in rows.columns:
        return rows.with_columns(exact).drop("ts_ns")
    return rows.select(exact if name == "ts_ns" else name for name in rows.columns)


def _at_least_one(schema: Schema, chunks: Chunks) -> Iterator[pl.DataFrame]:
    # A table without a row has a header.
    none = True
    for _, rows in chunks:
        none = False
        yield rows
    if none:
        yield empty(schema)


def _write_parquet(path: Path, schema: Schema, pieces: Iterable[pl.DataFrame]) -> None:
    with path.open("xb") as file, pq.ParquetWriter(file, arrow_schema(schema), compression="zstd") as writer:
        for rows in pieces:
            writer.write_table(_arrow(schema, rows), row_group_size=ROW_GROUP_ROWS)


def _arrow(schema: Schema, rows: pl.DataFrame) -> pa.Table:
    return rows.to_arrow().cast(arrow_schema(schema))


def _arrow_type(dtype: pl.DataType | DataTypeClass) -> pa.DataType:
    if isinstance(dtype, pl.List):
        return pa.list_(_arrow_type(dtype.inner))
    return ARROW[dtype.base_type()]


def _guarded(rows: pl.DataFrame) -> pl.DataFrame:
    text = [name for name, dtype in rows.schema.items() if dtype == pl.String]
    return rows.with_columns(
        pl.when(pl.col(name).str.contains(FORMULA))
        .then(pl.concat_str(pl.lit("'"), pl.col(name)))
        .otherwise(name)
        .alias(name)
        for name in text
    )


def _as_cells(rows: pl.DataFrame) -> pl.DataFrame:
    stamps = [name for name, dtype in rows.schema.items() if dtype == TS]
    lists = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.List)]
    listed = [
        pl.when(pl.col(name).is_not_null())
        .then(pl.struct(pl.col(name).alias("x")).struct.json_encode().str.strip_prefix('{"x":').str.strip_suffix("}"))
        .alias(name)
        for name in lists
    ]
    return rows.with_columns(pl.col(stamps).dt.strftime(STAMP), *listed)
