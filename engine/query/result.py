"""A query result in plain Polars types: no categories, no wide integers, no month-day-nano intervals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import polars as pl
from polars.datatypes import DataTypeClass

from engine.errors import QueryError

if TYPE_CHECKING:
    import pyarrow as pa

DTypes = pl.DataType | DataTypeClass

DAY_US = 86_400_000_000
DAY = 86_400
YEAR_BOUNDS = (-62_135_596_800, 253_402_300_800)  # seconds since 1970 at which the year 1 begins, and the year 10000
PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
_QUOTED_NAME = re.compile(r'"(?:[^"]|"")*"')
# What Polars reads from an Arrow stream as it does from Arrow itself.
POLARS_READABLE = frozenset(
    (
        *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE"),
        *("VARCHAR", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"),
    )
)
INTERVAL = [("months", "<i4"), ("days", "<i4"), ("ns", "<i8")]  # Arrow's month_day_nano_interval


def to_plain_types(table: pa.Table | pl.DataFrame, kinds: Sequence[str]) -> pl.DataFrame:
    """Result as a frame of plain Polars types with distinct names; QueryError for values without an exact form.

    Parameters
    ----------
    table : pyarrow.Table or DataFrame
        As DuckDB gave it; a frame where all columns are of `POLARS_READABLE` kinds.
    kinds : sequence of str
        DuckDB's type of each column: a sum of integers is HUGEINT there and a decimal in Arrow.

    Returns
    -------
    DataFrame
        Instants Datetime[us, UTC], local times Datetime[us], INTERVAL Duration[us], HUGEINT Int64, text String.
        A second column of the same name gets `_1`.

    Raises
    ------
    QueryError
        An INTERVAL of months or within another value, a UNION, a time with a zone, a whole number beyond 64 bits, a
        date or an instant outside the years 1 to 9999.
    """
    if not isinstance(table, pl.DataFrame):
        names = distinct_names(table.column_names)
        for index, (name, kind) in enumerate(zip(names, kinds, strict=True)):
            nested = kind != "INTERVAL" and re.search(r"\bINTERVAL\b", _QUOTED_NAME.sub("", kind))
            if nested or kind.startswith("UNION(") or kind == "TIME WITH TIME ZONE":
                raise QueryError(f"{name}: {kind} has no form outside SQL; CAST it to VARCHAR")
            if kind == "INTERVAL":
                table = table.set_column(index, name, intervals_to_durations(table.column(index), name))
        table = pl.DataFrame(table.rename_columns(names))
    check_years(table)
    wide = {name for name, kind in zip(table.columns, kinds, strict=True) if kind in ("HUGEINT", "UHUGEINT")}
    try:
        return table.cast(
            {name: pl.Int64() if name in wide else plain_type(dtype) for name, dtype in table.schema.items()}
        )
    except pl.exceptions.InvalidOperationError as error:
        raise QueryError(f"a whole number beyond 64 bits; CAST it to DOUBLE or VARCHAR ({error})") from error


def check_years(frame: pl.DataFrame) -> None:
    """Raise QueryError if a date or instant (also in lists and structs) is outside the years 1 to 9999."""
    # What Polars holds and nothing else can print, and `infinity`, which is the last instant of all.
    for name in frame.columns:
        for values in leaf_values(frame[name]):
            dtype = values.dtype
            if (
                isinstance(dtype, pl.Date | pl.Datetime)
                and not values.to_physical().is_between(*year_bounds(dtype)).all()
            ):
                raise QueryError(
                    f"{name}: holds a time outside the years 1 to 9999; CAST it to VARCHAR, or filter it out"
                )


def leaf_values(column: pl.Series) -> Iterator[pl.Series]:
    """Yield a column, or the flattened values in its lists (nulls dropped) and struct fields, one series per leaf."""
    match column.dtype:
        case pl.List() | pl.Array():
            yield from leaf_values(column.explode().drop_nulls())
        case pl.Struct(fields=fields):
            for field in fields:
                yield from leaf_values(column.struct.field(field.name))
        case _:
            yield column


def year_bounds(dtype: pl.Date | pl.Datetime) -> tuple[int, int]:
    """Smallest and largest physical value (inclusive) of a date or datetime type within the years 1 to 9999."""
    if isinstance(dtype, pl.Date):
        return YEAR_BOUNDS[0] // DAY, YEAR_BOUNDS[1] // DAY - 1
    per_second = PER_SECOND[dtype.time_unit]
    return max(YEAR_BOUNDS[0] * per_second, 2 - (1 << 63)), min(YEAR_BOUNDS[1] * per_second - 1, (1 << 63) - 2)


def categories_to_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Frame with enum and categorical columns cast to String (not nested ones); others unchanged."""
    return frame.cast({name: _text(dtype) for name, dtype in frame.schema.items()})


def distinct_names(names: Sequence[str]) -> list[str]:
    """Names in order, made unique: a repeated one gets the first free suffix `_1`, `_2` and so on."""
    distinct: dict[str, None] = {}
    for name in names:
        number, free = 0, name
        while free in distinct or (number and free in names):
            number += 1
            free = f"{name}_{number}"
        distinct[free] = None
    return list(distinct)


def intervals_to_durations(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """INTERVAL column as microsecond durations (day = 24 h, ns cut off); QueryError if any has months."""
    import numpy as np  # noqa: PLC0415 - heavy, and few results hold an INTERVAL
    import pyarrow as pa  # noqa: PLC0415

    chunks = [pa.array([], pa.duration("us"))]
    for chunk in column.chunks:
        parts = np.frombuffer(chunk.buffers()[1], INTERVAL)[chunk.offset : chunk.offset + len(chunk)]
        absent = chunk.is_null().to_numpy(zero_copy_only=False)
        if (parts["months"][~absent] != 0).any():
            raise QueryError(f"{name}: an INTERVAL of months has no fixed length; CAST it to VARCHAR")
        micros = parts["days"].astype(np.int64) * DAY_US + parts["ns"] // 1000
        chunks.append(pa.array(micros, pa.int64(), mask=absent).cast(pa.duration("us")))
    return pa.chunked_array(chunks)


def _text(dtype: DTypes) -> DTypes:
    return pl.String() if isinstance(dtype, pl.Enum | pl.Categorical) else dtype


def plain_type(dtype: DTypes) -> DTypes:
    """Plain dtype, nested too: datetime and duration in microseconds, enum and category as String, others unchanged."""
    match dtype:
        case pl.Datetime(time_zone=zone):
            return pl.Datetime("us", zone)
        case pl.Duration():
            return pl.Duration("us")
        case pl.List(inner=inner):
            return pl.List(plain_type(inner))
        case pl.Array(inner=inner, size=size):
            return pl.Array(plain_type(inner), size)
        case pl.Struct(fields=fields):
            return pl.Struct({field.name: plain_type(field.dtype) for field in fields})
    return _text(dtype)
