"""Tables, and what users reach for beside them, as statements: views over pinned files, helper views, macros."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from engine.export.tables import ADDED, TABLES
from engine.query.request import SCHEME, Scene
from engine.query.result import DTypes

Pins = Mapping[str, Sequence[Path]]

_PARTITION = re.compile(r"\w+=[^*?\[\]]+")
_NEVER_NATIVE = re.compile(r"[*?\[\]{}=]")
_TYPES: Mapping[DTypes, str] = {
    pl.String(): "VARCHAR",
    pl.Int32(): "INTEGER",
    pl.Int64(): "BIGINT",
    pl.Float64(): "DOUBLE",
    pl.Boolean(): "BOOLEAN",
    pl.Date(): "DATE",
    pl.Datetime("us", "UTC"): "TIMESTAMPTZ",
}

_ZONE = """(SELECT c.time_zone FROM symbols s JOIN calendars c ON s.calendar = c.calendar
        WHERE s.symbol = of_symbol)"""
# Grouped, so that DuckDB knows that no row comes twice, and drops the join when nobody selects `ts_local`.
_ZONES = """(SELECT s.symbol, any_value(c.time_zone) AS time_zone
        FROM symbols s JOIN calendars c ON s.calendar = c.calendar GROUP BY s.symbol)"""


def _local(table: str) -> tuple[tuple[str, ...], str]:
    return (
        (table, "symbols", "calendars"),
        (
            f"CREATE VIEW {table}_local AS SELECT r.*, timezone(z.time_zone, r.ts) AS ts_local "  # noqa: S608 - ours
            f"FROM {table} r LEFT JOIN {_ZONES} z ON z.symbol = r.symbol"
        ),
    )


# Which tables a helper reads, and what it is. `origin` keeps a series that came at a coarser step apart from
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
        ORDER BY g.bar_count DESC, g.symbol, g.price_type, g.gap_start""",
    ),
    "venue_time": (
        ("symbols", "calendars"),
        f"CREATE MACRO venue_time(of_symbol, instant) AS timezone({_ZONE}, instant)",
    ),
    **{f"{table}_local": _local(table) for table in ("bars", "quotes", "ticks", "open_interest")},
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


def pinned_scene(pins: Pins) -> Scene:
    """Views over files that only the pinned file system knows, under names of our own."""
    # The folders that hold partition values are in the names: nothing else of a path gets in.
    named = {
        table: {_pinned_name(table, number, path): str(path) for number, path in enumerate(paths)}
        for table, paths in pins.items()
    }
    return Scene(
        {name: path for files in named.values() for name, path in files.items()},
        {table: _view(table, [SCHEME + name for name in files]) for table, files in named.items()},
        tuple(_helpers(pins)),
    )


def native_scene(pins: Pins) -> Scene:
    """Views over the files by their own paths, where DuckDB would not read those as patterns or columns."""
    if any(_NEVER_NATIVE.search(str(_root(path))) for paths in pins.values() for path in paths):
        return pinned_scene(pins)
    return Scene(
        {}, {table: _view(table, list(map(str, paths))) for table, paths in pins.items()}, tuple(_helpers(pins))
    )


def frame_scene(names: Iterable[str]) -> Scene:
    """The helpers over tables that are there already."""
    return Scene(helpers=tuple(_helpers(names)))


def sql_type(dtype: DTypes) -> str:
    """DuckDB's name of a type of the contract."""
    return f"{sql_type(dtype.inner)}[]" if isinstance(dtype, pl.List) else _TYPES[dtype]


def _helpers(tables: Iterable[str]) -> Iterator[str]:
    present = set(tables)
    for name, (needed, statement) in HELPERS.items():
        if present.issuperset(needed) and name not in present:
            yield statement


def _pinned_name(table: str, number: int, path: Path) -> str:
    return "/".join([table, *path.parent.relative_to(_root(path)).parts, f"{number}.parquet"])


def _root(path: Path) -> Path:
    folder = path.parent
    while _PARTITION.fullmatch(folder.name):
        folder = folder.parent
    return folder


def _view(table: str, addresses: Sequence[str]) -> str:
    columns = {_named(name): sql_type(dtype) for name, dtype in TABLES[table].items()}
    if not addresses:
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
        return f"CREATE VIEW {_named(table)} AS SELECT {nothing} WHERE false"
    typed = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in columns.items())
    files = ", ".join(map(_quoted, addresses))
    # Partition values are text as they stand in the folder's name: months and symbols are no numbers.
    hive = "true, hive_types_autocast=false" if "=" in addresses[0] else "false"
    rows = f"read_parquet([{files}], hive_partitioning={hive})"
    if table in ADDED:
        # Files of an earlier version lack columns, which this gives as nulls.
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
        rows = f"(FROM {rows} UNION ALL BY NAME SELECT {nothing} WHERE false)"
    return f"CREATE VIEW {_named(table)} AS SELECT {typed} FROM {rows}"  # noqa: S608 - quoted


def _named(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
