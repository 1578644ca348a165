"""The table of file formats: how rows become CSV, JSON, NDJSON, Parquet or Arrow, for exports, deltas and results.

- CSV: UTF-8, comma, LF, a header. Stamps are ISO-8601 in UTC with six decimals and `Z` (without `Z` when they have no
  zone), dates ISO; booleans `true` and `false`; null is an empty cell, empty text is `""`; durations are seconds,
  bytes are hexadecimal; lists and structs are JSON text.
- JSON: a list of rows, each an object. Stamps as in CSV, without decimals where they are zero. JSON has no NaN and no
  infinity: they are null. (An export as JSON is one document instead, `engine.export.formats.session_json`.)
- NDJSON: one object per line, the columns by name; values as in CSV, lists and structs as JSON.
- Parquet, Arrow: plain Arrow types that every reader knows; text is `string`, enums are text.

A format is one entry of `OUTPUT_FORMATS`; commands, deltas, `engine sql` and results take it from there.
"""

# PyArrow loads where it is used: a result as text needs none of it.
# ruff: noqa: PLC0415

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import orjson
import polars as pl
from polars.datatypes import DataTypeClass

from engine.errors import ExportError, ParameterError
from engine.publish import atomic_publish
from engine.schema import Schema, empty

if TYPE_CHECKING:
    import pyarrow as pa

Pieces = Iterable[pl.DataFrame]
DType = pl.DataType | DataTypeClass

ROWS_PER_PIECE = 1 << 18
ROW_GROUP_ROWS = 1 << 17
MICROSECONDS_PER_SECOND = 1_000_000
STAMP = "%Y-%m-%dT%H:%M:%S%.6f"
STAMP_NS = "%Y-%m-%dT%H:%M:%S%.9fZ"
FORMULA = r"^[=+\-@\t\r]"
JSON_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True)
class OutputFormat:
    """One file format: how it writes rows, and how an export of several tables is laid out in it.

    Attributes
    ----------
    write : callable
        Given the schema, the rows piece by piece, an open binary file and the `options` as keywords, writes one file.
    layout : {"file", "folder", "document"}
        An export has one file per table; a folder per table with a file per interval and month; or is one document.
    is_text : bool
        Whether a result can be printed.
    has_long_integers : bool
        Whether its readers hold whole numbers beyond 2**53; where not, nanoseconds are part of the stamp.
    options : tuple of str
        Names of the boolean options that `write` takes.
    """

    write: Callable[..., None]
    layout: Literal["file", "folder", "document"]
    is_text: bool
    has_long_integers: bool
    options: tuple[str, ...] = ()


def output_format(name: str, parameter: str = "format", /, **options: bool) -> OutputFormat:
    """Entry of `OUTPUT_FORMATS` by name; ParameterError for an unknown one or a true option it does not take.

    Parameters
    ----------
    name : str
    parameter : str
        The name of the parameter in messages.
    options : bool
        Options that are wanted of the format.

    Raises
    ------
    ParameterError
        There is no such format, or it does not have an option that is wanted.
    """
    if name not in OUTPUT_FORMATS:
        raise ParameterError(f"{parameter}: received {name!r}; valid: {', '.join(OUTPUT_FORMATS)}")
    for option, wanted in options.items():
        if wanted and option not in OUTPUT_FORMATS[name].options:
            valid = ", ".join(known for known, entry in OUTPUT_FORMATS.items() if option in entry.options)
            raise ParameterError(f"{option}: received with {name}; valid: with {valid}")
    return OUTPUT_FORMATS[name]


def to_text(result: pl.DataFrame, name: str, **options: bool) -> str:
    """Frame as text in a text format (csv, json, ndjson); ParameterError for parquet, arrow or an unknown format.

    Raises
    ------
    ParameterError
        Another format, or one that is no text.
    """
    entry = output_format(name, **options)
    if not entry.is_text:
        valid = ", ".join(known for known, other in OUTPUT_FORMATS.items() if other.is_text)
        raise ParameterError(f"format: received {name!r}; valid: {valid}")
    buffer = io.BytesIO()
    entry.write(result.schema, result.iter_slices(ROWS_PER_PIECE), buffer, **options)
    return buffer.getvalue().decode()


def write_result(result: pl.DataFrame, name: str, output: Path, **options: bool) -> Path:
    """Write a frame atomically as one file, replacing one; ParameterError (format, option), ExportError; return path.

    Parameters
    ----------
    result : DataFrame
    name : str
        A key of `OUTPUT_FORMATS`.
    output : Path
        The file.
    options : bool
        Those of the format.

    Raises
    ------
    ParameterError
        There is no such format, or it does not have the option.
    ExportError
        The file cannot be written.
    """
    entry = output_format(name, **options)
    with export_errors(output), atomic_publish(output) as staged, staged.open("xb") as file:
        entry.write(result.schema, result.iter_slices(ROWS_PER_PIECE), file, **options)
    return output


def write_bytes(content: bytes, output: Path) -> Path:
    """Write bytes atomically as one file, replacing an existing one; ExportError if it cannot; return `output`.

    Raises
    ------
    ExportError
        The file cannot be written.
    """
    with export_errors(output), atomic_publish(output) as staged:
        staged.write_bytes(content)
    return output


@contextmanager
def export_errors(output: Path) -> Iterator[None]:
    """Raise OS, Polars and Arrow errors of the body as ExportError naming `output`; any other error as it is."""
    try:
        yield
    except Exception as error:
        import pyarrow as pa

        if isinstance(error, OSError | pl.exceptions.PolarsError | pa.ArrowException):
            raise ExportError(f"{output}: {error}") from error
        raise


# ---------------------------------------------------------------------------- text


def write_csv(schema: Schema, pieces: Pieces, file: BinaryIO, *, spreadsheet_safe: bool = False) -> None:
    """Write a CSV header and rows to `file`; `spreadsheet_safe` prefixes text that looks like a formula with `'`."""
    csv_cells(empty(schema)).write_csv(file)
    for rows in pieces:
        csv_cells(rows, spreadsheet_safe=spreadsheet_safe).write_csv(file, include_header=False)


def csv_cells(rows: pl.DataFrame, *, spreadsheet_safe: bool = False) -> pl.DataFrame:
    """Rows as CSV cells: ISO datetimes (UTC if zoned), duration seconds, hex, JSON; formulas made safe if asked."""
    cells = []
    for column in rows:
        match column.dtype:
            case pl.Datetime() | pl.Duration() | pl.Binary():
                cells.append(rows.select(json_value(pl.col(column.name), column.dtype)).to_series())
            case pl.String() if spreadsheet_safe:
                is_formula = column.str.contains(FORMULA).fill_null(value=False)
                cells.append(column.zip_with(~is_formula, "'" + column))
            case dtype if dtype.is_nested():
                texts = [None if value is None else to_json(value).decode() for value in column.to_list()]
                cells.append(pl.Series(column.name, texts, pl.String))
            case _:
                cells.append(column)
    return pl.DataFrame(cells)


def write_json(schema: Schema, pieces: Pieces, file: BinaryIO) -> None:
    """Write rows to `file` as one indented JSON list of objects; `[]` when there is no row."""
    del schema  # every object names its columns
    separator = b"["
    for rows in pieces:
        if rows.height:
            listed = orjson.dumps(rows.to_dicts(), option=orjson.OPT_INDENT_2 | JSON_OPTIONS, default=json_default)
            file.write(separator + listed.removeprefix(b"[").removesuffix(b"\n]"))
            separator = b","
    file.write(b"[]\n" if separator == b"[" else b"\n]\n")


def to_json(value: object) -> bytes:
    """Compact JSON bytes of a value: instants in UTC with `Z`, durations in seconds, bytes in hexadecimal."""
    return orjson.dumps(value, option=JSON_OPTIONS, default=json_default)


def json_default(value: object) -> object:
    """JSON fallback of a value: seconds of a duration, hexadecimal of bytes, `str` of anything else."""
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    return value.hex() if isinstance(value, bytes) else str(value)


def write_ndjson(schema: Schema, pieces: Pieces, file: BinaryIO) -> None:
    """Write rows to `file` as one JSON object per line; nothing when there is no row."""
    del schema  # every line names its columns
    for rows in pieces:
        values = [json_value(pl.col(name), dtype).alias(name) for name, dtype in rows.schema.items()]
        rows.select(values).write_ndjson(file)


def json_value(value: pl.Expr, dtype: DType) -> pl.Expr:
    """Expression for JSON, nested too: ISO datetimes (zoned in UTC), times, decimals as text, duration seconds, hex."""
    plain = value
    match dtype:
        case pl.Datetime(time_zone=zone):
            plain = value.dt.convert_time_zone("UTC").dt.strftime(STAMP + "Z") if zone else value.dt.strftime(STAMP)
        case pl.Duration():
            plain = value.dt.total_microseconds() / MICROSECONDS_PER_SECOND
        case pl.Binary():
            plain = value.bin.encode("hex")
        case pl.Time():
            plain = value.dt.strftime("%H:%M:%S%.9f")
        case pl.Decimal():
            plain = value.cast(pl.String)
        case pl.Array(inner=inner):
            plain = json_value(value.arr.to_list(), pl.List(inner))
        case pl.List(inner=inner):
            plain = value.list.eval(json_value(pl.element(), inner))
        case pl.Struct(fields=fields):
            inner_values = [json_value(value.struct.field(one.name), one.dtype).alias(one.name) for one in fields]
            plain = pl.when(value.is_not_null()).then(pl.struct(inner_values))
    return plain


def stamps_with_nanoseconds(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with `ts` as ISO text from `ts_ns`, which is dropped; unchanged frame without `ts_ns`."""
    # Nanoseconds as a number are more than a JavaScript number holds.
    if "ts_ns" not in rows.columns:
        return rows
    stamp = pl.from_epoch("ts_ns", "ns").dt.strftime(STAMP_NS).alias("ts")
    if "ts" in rows.columns:
        return rows.with_columns(stamp).drop("ts_ns")
    return rows.select(stamp if name == "ts_ns" else name for name in rows.columns)


# ---------------------------------------------------------------------------- columnar


def write_parquet(schema: Schema, pieces: Pieces, file: BinaryIO) -> None:
    """Write rows to `file` as zstd Parquet with row groups of up to 131,072 rows, in plain Arrow types."""
    import pyarrow.parquet as pq

    columns = arrow_schema(schema)
    with pq.ParquetWriter(file, columns, compression="zstd") as writer:
        for rows in pieces:
            writer.write_table(rows.to_arrow().cast(columns), row_group_size=ROW_GROUP_ROWS)


def write_arrow(schema: Schema, pieces: Pieces, file: BinaryIO) -> None:
    """Write rows to `file` as an Arrow IPC file with batches of up to 131,072 rows, in plain Arrow types."""
    import pyarrow as pa

    columns = arrow_schema(schema)
    with pa.ipc.new_file(file, columns) as writer:
        for rows in pieces:
            writer.write_table(rows.to_arrow().cast(columns), max_chunksize=ROW_GROUP_ROWS)


def arrow_schema(schema: Schema) -> pa.Schema:
    """Arrow schema of the columns in order: text, enums and categories as `string`, others as `arrow_type`."""
    import pyarrow as pa

    return pa.schema([(column, arrow_type(dtype)) for column, dtype in schema.items()])


def arrow_type(dtype: DType) -> pa.DataType:
    """Arrow type of a dtype, nested too: text, enum, category as `string`, binary as `binary`, else as Polars."""
    import pyarrow as pa

    match dtype:
        case pl.List(inner=inner):
            return pa.list_(arrow_type(inner))
        case pl.Array(inner=inner, size=size):
            return pa.list_(arrow_type(inner), size)
        case pl.Struct(fields=fields):
            return pa.struct([(one.name, arrow_type(one.dtype)) for one in fields])
    if dtype in (pl.String, pl.Enum, pl.Categorical):
        return pa.string()
    return pa.binary() if dtype == pl.Binary else pl.Series([], dtype=dtype).to_arrow().type


OUTPUT_FORMATS: Mapping[str, OutputFormat] = {
    "csv": OutputFormat(write_csv, "file", is_text=True, has_long_integers=True, options=("spreadsheet_safe",)),
    "json": OutputFormat(write_json, "document", is_text=True, has_long_integers=False),
    "parquet": OutputFormat(write_parquet, "folder", is_text=False, has_long_integers=True),
    "ndjson": OutputFormat(write_ndjson, "file", is_text=True, has_long_integers=False),
    "arrow": OutputFormat(write_arrow, "file", is_text=False, has_long_integers=True),
}
