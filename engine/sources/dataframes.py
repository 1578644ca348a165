"""Frames of other libraries in Polars: pandas (indexes and column levels too), PyArrow, DuckDB, any Arrow stream.

No library is imported: a frame is known by its Arrow stream, and pandas' parts by their own methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from engine.arguments import describe_value
from engine.errors import SchemaError
from engine.sources.layouts.layout import normalize_name
from engine.sources.layouts.shared_names import SHARED_NAMES

UNNAMED_LEVEL = "__index_level_"  # what Arrow calls a level of a pandas index without a name
VALID = "a frame of Polars, pandas, PyArrow or DuckDB, or any with __arrow_c_stream__"
FIELD_NAMES = {
    name
    for role, names in SHARED_NAMES.aliases.items()
    if role not in ("symbol", "ts", "date")
    for name in names.split()
}
COLUMN_LEVELS = 2


def is_frame(value: object) -> bool:
    """Whether a value is a Polars frame, eager or lazy, or offers an Arrow stream; `to_polars` may still refuse it."""
    return isinstance(value, pl.DataFrame | pl.LazyFrame) or hasattr(value, "__arrow_c_stream__")


def to_polars(frame: Any) -> pl.DataFrame:  # noqa: ANN401
    """The frame in Polars (lazy: collected), pandas index levels as columns; SchemaError if no frame, or not readable.

    An unnamed pandas index of stamps is `timestamp`, an unnamed level of texts beside it `symbol`. Column levels of
    names and symbols (`("Close", "SPY")`) become rows with a column `symbol`, without rows where a symbol has no value.

    Raises
    ------
    SchemaError
        It is no frame, a lazy one fails, or pandas has columns that Arrow cannot hold.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    try:
        if isinstance(frame, pl.LazyFrame):
            return frame.collect()
        return pandas_to_polars(frame) if is_pandas(frame) else arrow_to_polars(frame)
    except SchemaError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # the frame is of another library, with errors of its own (DuckDB's, Arrow's)
        raise SchemaError(f"frame: {describe_value(frame)} cannot be read: {error}; valid: {VALID}") from error


def is_pandas(frame: object) -> bool:
    """Whether an object is a pandas DataFrame or of a subclass, told by names of classes; pandas is not imported."""
    return any(
        one.__module__.partition(".")[0] == "pandas" and one.__name__ == "DataFrame" for one in type(frame).__mro__
    )


def pandas_to_polars(frame: Any) -> pl.DataFrame:  # noqa: ANN401
    """A pandas frame with the levels of its index as columns, and symbols of column levels as rows."""
    if hasattr(frame.index, "to_timestamp"):  # periods have no Arrow type; a period is stamped by its start
        frame = frame.to_timestamp()
    if frame.columns.nlevels > 1:
        return pl.concat(list(frames_of_symbols(frame)), how="diagonal_relaxed")
    return arrow_to_polars(frame)


def arrow_to_polars(frame: Any) -> pl.DataFrame:  # noqa: ANN401
    """A frame of an Arrow stream; unnamed pandas index levels become `timestamp` (stamps) or `symbol` (texts)."""
    taken = pl.from_arrow(frame) if hasattr(frame, "__arrow_c_stream__") else None
    # A stream of record batches arrives as one column of structs.
    if isinstance(taken, pl.Series) and isinstance(taken.dtype, pl.Struct):
        taken = taken.struct.unnest()
    if not isinstance(taken, pl.DataFrame):
        raise SchemaError(f"frame: received {describe_value(frame)}; valid: {VALID}")
    return taken.rename(names_of_index_levels(taken.schema))


def names_of_index_levels(schema: Mapping[str, pl.DataType]) -> dict[str, str]:
    """Unnamed pandas index level -> `timestamp` (stamps), `symbol` (texts beside another level) or itself."""
    levels = [name for name in schema if name.startswith(UNNAMED_LEVEL)]
    renamed: dict[str, str] = {}
    for level in levels:
        is_stamp = isinstance(schema[level], pl.Datetime | pl.Date)
        is_text = len(levels) > 1 and isinstance(schema[level], pl.String | pl.Categorical | pl.Enum)
        name = "timestamp" if is_stamp else "symbol" if is_text else level
        if name not in schema and name not in renamed.values():
            renamed[level] = name
    return renamed


def frames_of_symbols(frame: Any) -> list[pl.DataFrame]:  # noqa: ANN401
    """Pandas frame with columns like `("Close", "SPY")`: a frame per symbol, its name as `symbol`, without its all-null rows.

    Raises
    ------
    SchemaError
        There are more than two levels, or none or both of them name columns that are known.
    """
    levels = range(frame.columns.nlevels)
    named = [level for level in levels if FIELD_NAMES & {*map(normalize_name, map(str, frame.columns.levels[level]))}]
    if len(levels) != COLUMN_LEVELS or len(named) != 1:
        raise SchemaError(
            f"frame: its columns have {len(levels)} levels, of which {len(named)} name prices; valid: one level, or two: "
            "names of columns and symbols, such as ('Close', 'SPY')"
        )
    other = 1 - named[0]
    found = []
    for symbol in frame.columns.get_level_values(other).unique():
        part = frame.xs(symbol, axis=1, level=other)
        values = list(map(str, part.columns))
        rows = pandas_to_polars(part).filter(~pl.all_horizontal(_is_missing(part, values)))
        found.append(rows.with_columns(pl.lit(str(symbol)).alias("symbol")) if str(symbol) else rows)
    return found


def _is_missing(frame: Any, names: list[str]) -> list[pl.Expr]:  # noqa: ANN401
    """Per column an expression: null, or NaN where it has floats."""
    floats = {str(name) for name, dtype in frame.dtypes.items() if dtype.kind == "f"}
    return [pl.col(name).is_null() | (pl.col(name).is_nan() if name in floats else False) for name in names]
