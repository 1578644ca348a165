"""What a query gave, as plain Polars types: no categories, no wide integers, no month-day-nano intervals."""

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
YEARS = (-62_135_596_800, 253_402_300_800)  # seconds since 1970 at which the year 1 begins, and the year 10000
PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
_UNNAMED = re.compile(r'"(?:[^"]|"")*"')
# What Polars reads from an Arrow stream as it does from Arrow itself.
EASY = frozenset((
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "VARCHAR", "DATE", "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
))  # fmt: skip
INTERVAL = [("months", "<i4"), ("days", "<i4"), ("ns", "<i8")]  # Arrow's month_day_nano_interval


def plain(table: pa.Table | pl.DataFrame, kinds: Sequence[str]) -> pl.DataFrame:
    """Make a frame of the rows.

    What has no exact form here is refused, and the message says how to write it.

    Parameters
    ----------
    table : pyarrow.Table or DataFrame
        As DuckDB gave it; a frame where all columns are of `EASY` kinds.
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
        An INTERVAL of months or within another value, a UNION, a time with a zone, a whole number beyond 64 bits, a date or
        an instant outside the years 1 to 9999.
    """
    if isinstance(table, pl.DataFrame):
        return _cast(table, kinds)
    names = _distinct(table.column_names)
    for name, kind in zip(names, kinds, strict=True):
        _check_kind(name, kind)
    for index, kind in enumerate(kinds):
        if kind == "INTERVAL":
            table = table.set_column(index, names[index], _durations(table.column(index), names[index]))
    return _cast(pl.DataFrame(table.rename_columns(names)), kinds)


def _cast(frame: pl.DataFrame, kinds: Sequence[str]) -> pl.DataFrame:
    wide = {name for name, kind in zip(frame.columns, kinds, strict=True) if kind in ("HUGEINT", "UHUGEINT")}
    _check_years(frame)
    try:
        return frame.cast({name: pl.Int64() if name in wide else _dtype(dtype) for name, dtype in frame.schema.items()})
    except pl.exceptions.InvalidOperationError as error:
        raise QueryError(f"a whole number beyond 64 bits; CAST it to DOUBLE or VARCHAR ({error})") from error


def _check_kind(name: str, kind: str) -> None:
    nested = kind != "INTERVAL" and re.search(r"\bINTERVAL\b", _UNNAMED.sub("", kind))
    if nested or kind.startswith("UNION(") or kind == "TIME WITH TIME ZONE":
        raise QueryError(f"{name}: {kind} has no form outside SQL; CAST it to VARCHAR")


def _check_years(frame: pl.DataFrame) -> None:
    # What Polars holds and nothing else can print, and `infinity`, which is the last instant of all.
    for name in frame.columns:
        for part in _parts(frame[name]):
            dtype = part.dtype
            if isinstance(dtype, pl.Date | pl.Datetime) and not part.to_physical().is_between(*_years(dtype)).all():
                raise QueryError(
                    f"{name}: holds a time outside the years 1 to 9999; CAST it to VARCHAR, or filter it out"
                )


def _parts(column: pl.Series) -> Iterator[pl.Series]:
    """The values of a column, and those inside of its lists and structs."""
    match column.dtype:
        case pl.List() | pl.Array():
            yield from _parts(column.explode().drop_nulls())
        case pl.Struct(fields=fields):
            for field in fields:
                yield from _parts(column.struct.field(field.name))
        case _:
            yield column


def _years(dtype: pl.Date | pl.Datetime) -> tuple[int, int]:
    if isinstance(dtype, pl.Date):
        return YEARS[0] // DAY, YEARS[1] // DAY - 1
    per_second = PER_SECOND[dtype.time_unit]
    return max(YEARS[0] * per_second, 2 - (1 << 63)), min(YEARS[1] * per_second - 1, (1 << 63) - 2)


def without_categories(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace enums and categories, which SQL would compare by their order, with text."""
    return frame.cast({name: _text(dtype) for name, dtype in frame.schema.items()})


def _distinct(names: Sequence[str]) -> list[str]:
    given: dict[str, None] = {}
    for name in names:
        number, free = 0, name
        while free in given or (number and free in names):
            number += 1
            free = f"{name}_{number}"
        given[free] = None
    return list(given)


def _durations(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    import numpy as np  # noqa: PLC0415 - heavy, and few answers hold an INTERVAL
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


def _dtype(dtype: DTypes) -> DTypes:
    match dtype:
        case pl.Datetime(time_zone=zone):
            return pl.Datetime("us", zone)
        case pl.Duration():
            return pl.Duration("us")
        case pl.List(inner=inner):
            return pl.List(_dtype(inner))
        case pl.Array(inner=inner, size=size):
            return pl.Array(_dtype(inner), size)
        case pl.Struct(fields=fields):
            return pl.Struct({field.name: _dtype(field.dtype) for field in fields})
    return _text(dtype)
