"""Columns of text that hold few values: kept as an enum until they are written, which costs a sixth of writing text.

A file does not tell the difference: its schema says text (`schema_as_text`), and the codes of a column are those of the
values that it holds, in their order (`with_least_codes`), so that equal rows make equal bytes whatever they came as.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache

import polars as pl

FEW_VALUES: Mapping[str, tuple[str, ...]] = {
    "bars": ("price_type", "interval", "origin", "segment", "provenance", "verdict", "month"),
    "quotes": ("month",),
    "ticks": ("month",),
    "gaps": ("price_type", "interval", "segment", "position", "cause", "state"),
    "quality": ("price_type", "interval"),
}
ARROW_SCHEMA = "ARROW:schema"  # key of a Parquet file's metadata by which Polars and PyArrow know their own types


def concat_coded(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Concatenate frames of equal columns whose enums may differ: each then has the values of all, sorted."""
    joined = {}
    for name, dtype in frames[0].schema.items():
        enums = {one.schema[name] for one in frames}
        if isinstance(dtype, pl.Enum) and len(enums) > 1:
            values = {value for enum in enums if isinstance(enum, pl.Enum) for value in enum.categories}
            joined[name] = pl.Enum(sorted(values))
    if joined:
        frames = [one.with_columns(pl.col(name).cast(enum) for name, enum in joined.items()) for one in frames]
    return pl.concat(frames)


def with_least_codes(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Rows whose named columns are enums of the values that each holds, in order; a column without any is text."""
    columns = [rows[name] for name in names if name in rows.columns]
    coded = [least for column in columns if (least := least_coded(column)) is not column]
    return rows.with_columns(coded) if coded else rows


def least_coded(column: pl.Series) -> pl.Series:
    """Text or enum as an enum of the values that occur, in order; as text where there is none."""
    nulls, enum = column.null_count(), column.dtype
    if nulls == len(column):
        return column if enum == pl.String else column.cast(pl.String)
    if isinstance(enum, pl.Enum) and len(enum.categories) == 1:
        return column
    # One value throughout is the common case, which a comparison tells at a fifth of the price of distinct ones.
    codes = column.to_physical()
    if not nulls and (codes.min() == codes.max() if isinstance(enum, pl.Enum) else (codes == codes[0]).all()):
        return pl.Series(column.name, [column[0]], pl.Enum([column[0]])).new_from_index(0, len(column))
    used = column.unique().drop_nulls().cast(pl.String).sort()
    least = pl.Enum(used)
    if not isinstance(enum, pl.Enum):
        return column.cast(least)
    if enum == least:
        return column
    place = {value: code for code, value in enumerate(used.to_list())}
    moved = pl.Series([place.get(value) for value in enum.categories], dtype=codes.dtype)
    return moved.gather(codes).cat.to(least).alias(column.name)


def schema_as_text(rows: pl.DataFrame) -> dict[str, str]:
    """File metadata under which readers see the enums of rows as text."""
    as_text = {name: pl.String() if isinstance(dtype, pl.Enum) else dtype for name, dtype in rows.schema.items()}
    return {ARROW_SCHEMA: _arrow_schema(tuple(as_text.items()))}


@lru_cache(maxsize=64)
def _arrow_schema(columns: tuple[tuple[str, pl.DataType], ...]) -> str:
    """What Polars writes of these columns under `ARROW_SCHEMA`."""
    buffer = io.BytesIO()
    pl.DataFrame(schema=dict(columns)).write_parquet(buffer)
    buffer.seek(0)
    return str(pl.read_parquet_metadata(buffer)[ARROW_SCHEMA])
