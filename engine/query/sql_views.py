"""SQL statements that make an export's tables visible: views over pinned files, helper views, macros."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from engine.export.tables import ADDED, TABLES
from engine.query.request import SCHEME, Catalog, ListedTable
from engine.query.result import DTypes
from engine.storage import ObjectPath, polars_options

TableFiles = Mapping[str, Sequence[Path]]

PARTITION_FOLDER = re.compile(r"\w+=[^*?\[\]]+")
PATTERN_CHARACTERS = re.compile(r"[*?\[\]{}=]")
MANY_FILES = 64  # from so many on a query chooses files by the log: that costs 10 ms, and opening a file twice 0.4 ms
CHOSEN_BY = {"symbol": "text", "price_type": "text", "interval": "text", "session": "date", "ts": "instant"}
SQL_TYPES: Mapping[DTypes, str] = {
    pl.String(): "VARCHAR",
    pl.Int32(): "INTEGER",
    pl.Int64(): "BIGINT",
    pl.Float64(): "DOUBLE",
    pl.Boolean(): "BOOLEAN",
    pl.Date(): "DATE",
    pl.Datetime("us", "UTC"): "TIMESTAMPTZ",
}

VENUE_ZONE = """(SELECT c.time_zone FROM symbols s JOIN calendars c ON s.calendar = c.calendar
        WHERE s.symbol = of_symbol)"""
# Grouped, so that DuckDB knows that no row comes twice, and drops the join when nobody selects `ts_local`.
ZONES_BY_SYMBOL = """(SELECT s.symbol, any_value(c.time_zone) AS time_zone
        FROM symbols s JOIN calendars c ON s.calendar = c.calendar GROUP BY s.symbol)"""


def local_time_view(table: str) -> tuple[tuple[str, ...], str]:
    """Tables needed by view `<table>_local`, and its SQL: all rows plus `ts_local` in the calendar's zone."""
    return (
        (table, "symbols", "calendars"),
        (
            f"CREATE VIEW {table}_local AS SELECT r.*, timezone(z.time_zone, r.ts) AS ts_local "  # noqa: S608 - ours
            f"FROM {table} r LEFT JOIN {ZONES_BY_SYMBOL} z ON z.symbol = r.symbol"
        ),
    )


# Which tables a helper reads, and its statement. `origin` keeps a series that came at a coarser step apart from
# the one derived here.
HELPERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "coverage": (
        ("quality", "symbols"),
        """CREATE VIEW coverage AS
        SELECT q.symbol, q.price_type, q.session, q.expected, q.present, q.missing, q.quality
        FROM quality q JOIN symbols s ON q.symbol = s.symbol AND q.interval = s.base_interval
        ORDER BY q.symbol, q.price_type, q.session""",
    ),
    "worst_gaps": (
        ("gaps", "symbols"),
        """CREATE VIEW worst_gaps AS
        SELECT g.symbol, g.price_type, g.session, g.segment, g.gap_start, g.gap_end, g.bar_count, g.position, g.cause
        FROM gaps g JOIN symbols s ON g.symbol = s.symbol AND g.interval = s.base_interval
        WHERE g.state IS DISTINCT FROM 'filled'
        ORDER BY g.bar_count DESC, g.symbol, g.price_type, g.gap_start""",
    ),
    "venue_time": (
        ("symbols", "calendars"),
        f"CREATE MACRO venue_time(of_symbol, instant) AS timezone({VENUE_ZONE}, instant)",
    ),
    **{f"{table}_local": local_time_view(table) for table in ("bars", "quotes", "ticks", "open_interest")},
    "ohlcv": (
        ("bars", "quality", "symbols"),
        """CREATE MACRO ohlcv(of_symbol, of_interval, of_price := NULL) AS TABLE
        SELECT ts, open, high, low, close, volume FROM bars
        WHERE symbol = of_symbol AND interval = of_interval
          AND price_type = coalesce(of_price, (
            SELECT CASE WHEN bool_or(q.price_type = 'last') THEN 'last' ELSE 'bid' END
            FROM quality q WHERE q.symbol = of_symbol))
          AND origin = (
            SELECT CASE WHEN s.base_interval = of_interval THEN 'source' ELSE 'derived' END
            FROM symbols s WHERE s.symbol = of_symbol)
        ORDER BY ts""",
    ),
}


def pinned_catalog(tables: TableFiles, statistics: Mapping[str, pl.DataFrame] | None = None) -> Catalog:
    """Catalog of views over an export's files as `pinned://TABLE/.../N.parquet`, with the helpers they allow.

    Parameters
    ----------
    tables : mapping of table to paths
    statistics : mapping of table to DataFrame, optional
        `Dataset.statistics`, in the order of the paths. A table of many files that is here is listed (`ListedTable`).
    """
    # The folders that hold partition values are in the names: nothing else of a path gets in.
    named = {table: pinned_names(table, paths) for table, paths in tables.items()}
    sizes = {
        name: path.size
        for table, files in named.items()
        for name, path in zip(files, tables[table], strict=True)
        if isinstance(path, ObjectPath) and path.size is not None
    }
    views = {
        table: create_view(table, [SCHEME + name for name in files], older=has_missing_columns(table, tables[table]))
        for table, files in named.items()
    }
    many = {table: rows for table, rows in (statistics or {}).items() if rows.height >= MANY_FILES}
    listed = {table: listed_table(table, list(named[table]), views.pop(table), rows) for table, rows in many.items()}
    return Catalog(
        {name: path for files in named.values() for name, path in files.items()},
        views,
        helper_statements(tables),
        sizes,
        listed,
        {table: int(rows["size_bytes"].sum()) for table, rows in many.items()},
    )


def pinned_names(table: str, paths: Sequence[Path]) -> dict[str, str]:
    """Paths of a table's files by the names of these in a query: `TABLE/`, the folders of partition values, `N.parquet`."""
    folders: dict[str, str] = {}
    names = {}
    for number, path in enumerate(paths):
        text = str(path)
        folder = text.rpartition("/")[0]
        if folder not in folders:  # a path is taken apart in 20 us, and a folder has many files
            folders[folder] = "/".join([table, *path.parent.relative_to(table_folder(path)).parts])
        names[f"{folders[folder]}/{number}.parquet"] = text
    return names


def listed_table(table: str, names: Sequence[str], view: str, statistics: pl.DataFrame) -> ListedTable:
    """A table of many files with their rows and bounds by the export's log; `view` is the statement over all of them."""
    head, _, tail = view.partition(", ".join(quoted_text(SCHEME + name) for name in names))
    kinds = {name: kind for name, kind in CHOSEN_BY.items() if f"min.{name}" in statistics.columns}
    forms: Mapping[str, Callable[[pl.Series], pl.Series]] = {
        "text": lambda c: c,
        "date": lambda c: c.dt.to_string("%Y-%m-%d"),
        "instant": lambda c: c.dt.epoch("us"),
    }
    bounds = {
        name: [forms[kind](statistics[f"{side}.{name}"]).to_list() for side in ("min", "max")]
        for name, kind in kinds.items()
    }
    return ListedTable(names, statistics["num_records"].to_list(), kinds, bounds, [head, tail], select_nulls(table))


def native_catalog(tables: TableFiles) -> Catalog:
    """Catalog of views over the files' own paths; the pinned catalog for a store, or a folder with a pattern character."""
    if any(isinstance(path, ObjectPath) for paths in tables.values() for path in paths):
        return pinned_catalog(tables)
    if any(PATTERN_CHARACTERS.search(str(table_folder(path))) for paths in tables.values() for path in paths):
        return pinned_catalog(tables)
    views = {
        table: create_view(table, list(map(str, paths)), older=has_missing_columns(table, paths))
        for table, paths in tables.items()
    }
    return Catalog({}, views, helper_statements(tables))


def frame_catalog(tables: Iterable[str]) -> Catalog:
    """Catalog without files or table views: only the helper views and macros that these table names allow."""
    return Catalog(helpers=helper_statements(tables))


def with_parquet_files(catalog: Catalog, tables: Mapping[str, Path]) -> Catalog:
    """Copy of the catalog with a pinned file and a view per name and Parquet file, replacing a view of that name."""
    first = len(catalog.files)
    pinned = {f"parquet/{number}.parquet": path for number, path in enumerate(tables.values(), start=first)}
    views = {
        table: f"CREATE VIEW {quoted_name(table)} AS FROM read_parquet('{SCHEME}{name}', hive_partitioning=false)"
        for table, name in zip(tables, pinned, strict=True)
    }
    files = {name: str(path) for name, path in pinned.items()}
    return replace(catalog, files={**catalog.files, **files}, views={**catalog.views, **views})


def sql_type(dtype: DTypes) -> str:
    """DuckDB type name of an export column's dtype; `[]` appended for a list; KeyError for other dtypes."""
    return f"{sql_type(dtype.inner)}[]" if isinstance(dtype, pl.List) else SQL_TYPES[dtype]


def helper_statements(tables: Iterable[str]) -> tuple[str, ...]:
    """SQL of the helper views and macros whose tables are all present and whose own name is no table."""
    present = set(tables)
    return tuple(
        statement for name, (needed, statement) in HELPERS.items() if present.issuperset(needed) and name not in present
    )


def table_folder(path: Path) -> Path:
    """Folder of a data file above its `name=value` partition folders; other subfolders are not skipped."""
    folder = path.parent
    while PARTITION_FOLDER.fullmatch(folder.name):
        folder = folder.parent
    return folder


def has_missing_columns(table: str, paths: Sequence[Path]) -> bool:
    """Whether the oldest of an export's files lacks a column that an earlier version did not write."""
    if not paths or table not in ADDED:
        return False
    # A column that is written once is written ever after, and names of files begin with their revision.
    oldest = min(paths, key=lambda path: int(number) if (number := path.name.partition("-")[0]).isdecimal() else 0)
    try:
        if isinstance(oldest, ObjectPath):
            scanned = pl.scan_parquet(str(oldest), **polars_options(oldest), glob=False)
            return not set(ADDED[table]) <= set(scanned.collect_schema().names())
        return not set(ADDED[table]) <= set(pl.read_parquet_schema(oldest))
    except (OSError, pl.exceptions.PolarsError):
        return False  # DuckDB names the file when it reads it


def create_view(table: str, addresses: Sequence[str], *, older: bool = False) -> str:
    """SQL `CREATE VIEW` over Parquet addresses with the table's exact columns and types; no rows without addresses.

    `older`: some of the files lack columns, which the view has as nulls.
    """
    columns = {quoted_name(name): sql_type(dtype) for name, dtype in TABLES[table].items()}
    if not addresses:
        return f"CREATE VIEW {quoted_name(table)} AS {select_nulls(table)} WHERE false"
    typed = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in columns.items())
    files = ", ".join(map(quoted_text, addresses))
    # Partition values are text as they stand in the folder's name: months and symbols are no numbers.
    hive = "true, hive_types_autocast=false" if "=" in addresses[0] else "false"
    rows = f"read_parquet([{files}], hive_partitioning={hive}{', union_by_name=true' * older})"
    if older:
        rows = f"(FROM {rows} UNION ALL BY NAME {select_nulls(table)} WHERE false)"
    return f"CREATE VIEW {quoted_name(table)} AS SELECT {typed} FROM {rows}"  # noqa: S608 - quoted


def select_nulls(table: str) -> str:
    """SQL `SELECT` of a null of each column's name and type."""
    nulls = (f"CAST(NULL AS {sql_type(dtype)}) AS {quoted_name(name)}" for name, dtype in TABLES[table].items())
    return f"SELECT {', '.join(nulls)}"


def quoted_name(name: str) -> str:
    """SQL identifier in double quotes, inner double quotes doubled."""
    return '"' + name.replace('"', '""') + '"'


def quoted_text(text: str) -> str:
    """SQL text literal in single quotes, inner single quotes doubled."""
    return "'" + text.replace("'", "''") + "'"
