"""Scans of tables in a store: files that a filter rules out by the log are not opened, and sizes are not asked for.

Polars takes both from a scan's caller, as its own `scan_delta` gives them: bounds per file, and sizes. The order of
files and the absent columns of older ones stay those of `dataset.scan_files`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from engine.schema import TS, Schema

# Bounds of numbers are text in a log, which not every reader takes back to the last bit.
BOUNDED = (pl.String(), pl.Date(), TS)


def known_of_files(files: pl.DataFrame, paths: Sequence[Path], schema: Schema) -> dict[str, Any]:
    """Arguments of `pl.scan_parquet` that tell the sizes, and the bounds by column, of a table's files.

    Parameters
    ----------
    files : DataFrame
        `Dataset.statistics`: one row per file, in the order of the paths.
    paths : sequence of Path
        Of the files to scan: all of them, or nothing is known.
    schema : mapping of column to dtype
        Of the table.
    """
    if len(paths) != files.height:
        return {}
    bounds = [pl.col("num_records").cast(pl.get_index_type()).alias("len")]
    for name, dtype in schema.items():
        columns = {f"null_count.{name}": f"{name}_nc", f"min.{name}": f"{name}_min", f"max.{name}": f"{name}_max"}
        if dtype in BOUNDED and all(column in files.columns for column in columns):
            types = (pl.get_index_type(), dtype, dtype)
            bounds += [
                pl.col(column).cast(kind).alias(alias)
                for (column, alias), kind in zip(columns.items(), types, strict=True)
            ]
    return {"_table_statistics": files.select(bounds), "_source_sizes": files["size_bytes"].to_list()}
