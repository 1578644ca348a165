"""An audit in a folder: its tables as Parquet files, for SQL and for whoever reads Parquet.

No column there is a reserved word of SQL: `check`, `start` and `end` are called `check_name`, `start_ts` and `end_ts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from engine.audit.audit_tables import AUDIT_TABLES
from engine.errors import ExportError
from engine.export.formats.output_formats import write_result

TABLES = "tables"
IN_SQL = {"check": "check_name", "start": "start_ts", "end": "end_ts"}


def keep(tables: Mapping[str, pl.DataFrame], folder: Path) -> list[Path]:
    """Write the tables of an audit to `folder/tables`, each whole or not at all."""
    named = {name: tables[name].rename(IN_SQL, strict=False) for name in AUDIT_TABLES}
    return [write_result(rows, "parquet", folder / TABLES / f"{name}.parquet") for name, rows in named.items()]


def is_kept(folder: Path) -> bool:
    """Whether `keep` wrote to this folder."""
    return (folder / TABLES / "findings.parquet").is_file()


def table_files(folder: Path) -> dict[str, Path]:
    """The Parquet file of every table of an audit, by the table's name.

    Raises
    ------
    ExportError
        The folder is no audit.
    """
    if not is_kept(folder):
        raise ExportError(f"{folder}: is no audit; valid: a folder that `engine audit --output` wrote")
    return {name: folder / TABLES / f"{name}.parquet" for name in AUDIT_TABLES}


def kept(folder: Path) -> dict[str, pl.DataFrame]:
    """The tables of an audit under their names in SQL.

    Raises
    ------
    ExportError
        The folder is no audit, or a table cannot be read.
    """
    return {name: _read(path) for name, path in table_files(folder).items()}


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, hive_partitioning=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ExportError(f"{path}: a table of an audit that cannot be read: {error}; audit again") from error
