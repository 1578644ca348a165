"""One frame as a file or as text: what a query gave, for people and programs."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import orjson
import polars as pl

from engine.errors import ExportError, ParameterError
from engine.publish import atomic_publish

FORMS = ("csv", "json", "parquet")
OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
MICROSECONDS = 1_000_000


def to_text(result: pl.DataFrame, form: str) -> str:
    """A frame as CSV, or as a JSON list of rows.

    Instants are ISO 8601 in UTC with `Z`, local times have no zone, differences of times are seconds, bytes are
    hexadecimal. In CSV, lists and structs are JSON text. JSON has no NaN and no infinity: they are null.

    Raises
    ------
    ParameterError
        Another form, or one that is no text.
    """
    return _bytes(result, form).decode()


def write_result(result: pl.DataFrame, form: str, output: Path) -> Path:
    """Write a frame as a file, which appears whole or not at all.

    Parameters
    ----------
    result : DataFrame
    form : {"csv", "json", "parquet"}
    output : Path
        The file; one that is there is replaced.

    Raises
    ------
    ExportError
        The file cannot be written.
    """
    _check(form, FORMS)
    if form != "parquet":
        return write_content(_bytes(result, form), output)
    try:
        with atomic_publish(output) as staged:
            result.write_parquet(staged)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ExportError(f"{output}: {error}") from error
    return output


def write_content(content: bytes, output: Path) -> Path:
    """Write bytes as a file, which appears whole or not at all; one that is there is replaced.

    Raises
    ------
    ExportError
        The file cannot be written.
    """
    try:
        with atomic_publish(output) as staged:
            staged.write_bytes(content)
    except OSError as error:
        raise ExportError(f"{output}: {error}") from error
    return output


def _bytes(result: pl.DataFrame, form: str) -> bytes:
    _check(form, ("csv", "json"))
    if form == "csv":
        return _flat(result).write_csv().encode()
    return orjson.dumps(result.to_dicts(), option=orjson.OPT_INDENT_2 | OPTIONS, default=_plain) + b"\n"


def _flat(result: pl.DataFrame) -> pl.DataFrame:
    return result.with_columns(_cells(column) for column in result)


def _cells(column: pl.Series) -> pl.Series:
    match column.dtype:
        case pl.Datetime(time_zone=zone):
            return column.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.6f{'Z' if zone else ''}")
        case pl.Duration():
            return column.dt.total_microseconds() / MICROSECONDS
        case pl.Binary():
            return column.bin.encode("hex")
        case dtype if dtype.is_nested():
            texts = [None if value is None else _json(value) for value in column.to_list()]
            return pl.Series(column.name, texts, pl.String)
    return column


def _json(value: object) -> str:
    return orjson.dumps(value, option=OPTIONS, default=_plain).decode()


def _plain(value: object) -> object:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    return value.hex() if isinstance(value, bytes) else str(value)


def _check(form: str, valid: tuple[str, ...]) -> None:
    if form not in valid:
        raise ParameterError(f"format: received {form!r}; valid: {', '.join(valid)}")
