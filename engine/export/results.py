"""One frame as a file or as text: what a query gave, for people and programs."""

from __future__ import annotations

from pathlib import Path

import orjson
import polars as pl

from engine.errors import ExportError, ParameterError
from engine.publish import publishing

FORMS = ("csv", "json", "parquet")


def to_text(result: pl.DataFrame, form: str) -> str:
    """A frame as CSV, or as a JSON list of rows; instants in ISO 8601.

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
    try:
        with publishing(output) as staged:
            if form == "parquet":
                result.write_parquet(staged)
            else:
                staged.write_bytes(_bytes(result, form))
    except OSError as error:
        raise ExportError(f"{output}: {error}") from error
    return output


def _bytes(result: pl.DataFrame, form: str) -> bytes:
    _check(form, ("csv", "json"))
    if form == "csv":
        return _flat(result).write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ").encode()
    return orjson.dumps(result.to_dicts(), option=orjson.OPT_INDENT_2, default=str) + b"\n"


def _flat(result: pl.DataFrame) -> pl.DataFrame:
    nested = [name for name, dtype in result.schema.items() if dtype.is_nested()]
    return result.with_columns(pl.struct(name).struct.json_encode().alias(name) for name in nested)


def _check(form: str, valid: tuple[str, ...]) -> None:
    if form not in valid:
        raise ParameterError(f"format: received {form!r}; valid: {', '.join(valid)}")
