"""An audit in a folder: its tables as Parquet files, for SQL and for other readers of Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from engine.audit.audit_tables import AUDIT_TABLES, OPTIONAL_TABLES
from engine.errors import ExportError
from engine.export.formats.output_formats import write_result
from engine.publish import remove_if_exists

TABLES = "tables"


def write_audit_tables(tables: Mapping[str, pl.DataFrame], folder: Path) -> list[Path]:
    """Write each of `AUDIT_TABLES` to `folder/tables/NAME.parquet`, replacing files atomically; return the paths.

    An optional table is written where there is one; the file of an earlier audit goes where there is none.
    """
    for name in OPTIONAL_TABLES:
        if name not in tables:
            remove_if_exists(folder / TABLES / f"{name}.parquet")
    names = [*AUDIT_TABLES, *(name for name in OPTIONAL_TABLES if name in tables)]
    return [write_result(tables[name], "parquet", folder / TABLES / f"{name}.parquet") for name in names]


def is_audit(folder: Path) -> bool:
    """Whether `folder/tables/findings.parquet` exists; the other tables are not looked for."""
    return (folder / TABLES / "findings.parquet").is_file()


def table_files(folder: Path) -> dict[str, Path]:
    """Return table name to Parquet path, existing or not; ExportError if the folder has no findings table.

    Raises
    ------
    ExportError
        The folder is no audit.
    """
    if not is_audit(folder):
        raise ExportError(f"{folder}: is no audit; valid: a folder that `engine audit --output` wrote")
    paths = {name: folder / TABLES / f"{name}.parquet" for name in (*AUDIT_TABLES, *OPTIONAL_TABLES)}
    return {name: path for name, path in paths.items() if name in AUDIT_TABLES or path.is_file()}


def read_audit_tables(folder: Path) -> dict[str, pl.DataFrame]:
    """Read all tables of an audit, by name; ExportError if the folder is no audit or a table is unreadable.

    Raises
    ------
    ExportError
        The folder is no audit, or a table cannot be read.
    """
    return {name: read_audit_table(path) for name, path in table_files(folder).items()}


def read_audit_table(path: Path) -> pl.DataFrame:
    """Read one Parquet table of an audit; ExportError if the file is absent or damaged."""
    try:
        return pl.read_parquet(path, hive_partitioning=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ExportError(f"{path}: a table of an audit that cannot be read: {error}; audit again") from error
