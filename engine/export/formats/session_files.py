"""An export as files: the session as one JSON document, or a file or folder per table in another format.

A folder is written beside its place, with `SHA256SUMS`, and put there in one step
(`engine.export.formats.output_folder`). No symbol is in a path. Rows pass in pieces of about 260,000; in JSON, one
symbol at a time.

`engine.export.formats.session_json` and `engine.export.formats.output_formats` describe the content of the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import polars as pl

from engine import __version__
from engine.arguments import Day, Names, check_arguments, check_known
from engine.errors import UnknownSymbolError
from engine.export.dataset import Dataset, open_dataset
from engine.export.delta import Delta
from engine.export.formats.output_folder import publish_folder
from engine.export.formats.output_formats import output_format, stamps_with_nanoseconds, to_json
from engine.export.formats.selection import (
    PER_SYMBOL,
    LazyTables,
    PartPieces,
    Selection,
    Source,
    selected_changes,
    selected_pieces,
    selected_tables,
    symbols_of,
)
from engine.export.formats.session_json import write_session_document
from engine.export.tables import KEYS, SORT, TABLES
from engine.interval import Intervals
from engine.schema import Schema, empty

SESSION_FILE = "session.json"
DELTA_FILE = "delta.json"
METADATA_FILE = "metadata.json"
UPSERTS, REMOVED = "upserts", "removed"


def write_files(
    source: Source,
    to: str,
    output: Path,
    *,
    symbols: Names | None = None,
    start: Day = None,
    end: Day = None,
    intervals: Intervals | None = None,
    spreadsheet_safe: bool = False,
) -> list[Path]:
    """Write selected rows to folder `output` (`session.json` or per table), replacing its former files; return paths.

    Parameters
    ----------
    source : Dataset or mapping of table name to DataFrame
        What to write; frames as `tables.conform_table` takes them.
    to : str
        A key of `engine.export.formats.output_formats.OUTPUT_FORMATS`.
    output : Path
        A folder that is new or empty, or a former one of these, which is replaced.
    symbols, start, end, intervals
        Narrow what is written; `start` and `end` are trade dates, both included.
    spreadsheet_safe : bool
        CSV only: text cells that begin with `=`, `+`, `-`, `@`, a tab or a carriage return get a `'` in front, so
        that no spreadsheet takes them for a formula. Numbers stay as they are. It cannot be told apart afterwards
        from text that began with `'`, so leave it off for programs.

    Returns
    -------
    list of Path
        The files, sorted, `SHA256SUMS` among them.

    Raises
    ------
    ParameterError
        Another format; a symbol that the source does not have; dates the wrong way round.
    IntervalError
        An interval that is none.
    ExportError
        The folder holds something else, or cannot be written; it is what it was.
    """
    entry = output_format(to, "to", spreadsheet_safe=spreadsheet_safe)
    selection = Selection.of(symbols, start, end, intervals)
    if entry.layout == "document":
        tables = selected_tables(source, selection)
        metadata = export_metadata(source, tables, selection)
        with publish_folder(output) as folder:
            write_session_document(folder / SESSION_FILE, metadata, tables, selection)
    else:
        pieces = selected_pieces(source, selection)
        with publish_folder(output) as folder:
            for name, parts in pieces.items():
                write_table(folder / name, to, TABLES[name], parts, spreadsheet_safe=spreadsheet_safe)
    return files_below(output)


def write_json(
    source: Source,
    output: Path,
    *,
    symbols: Names | None = None,
    start: Day = None,
    end: Day = None,
    intervals: Intervals | None = None,
) -> Path:
    """Write the selected rows as one document `session.json` in the folder `output`; return the document's path.

    Parameters and errors are those of `write_files`.
    """
    write_files(source, "json", output, symbols=symbols, start=start, end=end, intervals=intervals)
    return Path(output) / SESSION_FILE


@check_arguments("spreadsheet_safe")
def write_csv(
    source: Source,
    output: Path,
    *,
    symbols: Names | None = None,
    start: Day = None,
    end: Day = None,
    intervals: Intervals | None = None,
    spreadsheet_safe: bool = False,
) -> list[Path]:
    """Write one CSV per table into the folder `output`; return their paths in the order of `tables.TABLES`.

    Parameters and errors are those of `write_files`.
    """
    files = write_files(
        source,
        "csv",
        output,
        symbols=symbols,
        start=start,
        end=end,
        intervals=intervals,
        spreadsheet_safe=spreadsheet_safe,
    )
    return [path for name in TABLES for path in files if path.name == f"{name}.csv"]


def write_delta(
    target: Path,
    delta: Delta,
    output: Path,
    to: str = "json",
    *,
    symbols: Names | None = None,
    start: Day = None,
    end: Day = None,
    intervals: Intervals | None = None,
    spreadsheet_safe: bool = False,
) -> list[Path]:
    """Write a delta's upserts, removed keys and metadata to a new or empty folder; return its files, sorted.

    As JSON it is one file, `delta.json`, with the document of `session.json`: `symbols` holds those that changed,
    with the bars, gaps, quotes, ticks that were added or changed (`quality` is that of the sessions that changed),
    and `removed` has the keys of rows that are gone, by table. In other formats it is two folders with a file or
    folder per table, as `write_files` writes them: `upserts` with the rows that were added or changed, `removed` with
    the keys (`tables.KEYS`) of those that are gone. `metadata`, in `metadata.json` there, has `since_revision`,
    `revision`, `full` and, when full, the `reason`.

    Parameters
    ----------
    target : Path
        The export.
    delta : Delta
        From `engine.export.delta.read_delta(target, since)`.
    output : Path
        A folder that is new or empty: a delta that nobody has read is not replaced.
    to, symbols, start, end, intervals, spreadsheet_safe
        As for `write_files`; a symbol without a change is none that is unknown.

    Raises
    ------
    ParameterError, IntervalError
        As `write_files`.
    ExportError
        The folder is in use, or cannot be written.
    """
    entry = output_format(to, "to", spreadsheet_safe=spreadsheet_safe)
    selection = Selection.of(symbols, start, end, intervals)
    now = open_dataset(target, delta.until)
    removed_keys = {
        name: selection.narrow(rows.lazy(), rows.columns).collect().sort(KEYS[name])
        for name, rows in delta.removed.items()
    }
    if selection.symbols is not None:
        removed_symbols = (rows["symbol"] for rows in delta.removed.values() if "symbol" in rows.columns)
        known = symbols_of({"symbols": now.scan("symbols")}).union(*removed_symbols)
        check_known("symbols", selection.symbols, known, UnknownSymbolError)
    tables = {name: selection.narrow(rows.lazy(), rows.columns) for name, rows in delta.upserts.items()}
    metadata = export_metadata(now, tables, selection)
    metadata |= {"format": "session_delta", "since_revision": delta.since, "full": delta.full, "reason": delta.reason}
    if entry.layout == "document":
        # A symbol's row has its base interval, which is needed also when the row itself did not change.
        changed = pl.concat([tables[name].select("symbol") for name in PER_SYMBOL]).unique()
        tables["symbols"] = now.scan("symbols").join(changed, on="symbol", how="semi")
        keys = {name: stamps_with_nanoseconds(rows) for name, rows in removed_keys.items() if rows.height}
        with publish_folder(output, replace=False) as folder:
            write_session_document(folder / DELTA_FILE, metadata, tables, selection, removed=keys)
        return files_below(output)
    pieces = selected_changes(delta.upserts, selection)
    with publish_folder(output, replace=False) as folder:
        (folder / METADATA_FILE).write_bytes(to_json(metadata) + b"\n")
        (folder / UPSERTS).mkdir()
        for name, parts in pieces.items():
            write_table(folder / UPSERTS / name, to, TABLES[name], parts, spreadsheet_safe=spreadsheet_safe)
        (folder / REMOVED).mkdir()
        for name, keys_of_table in removed_keys.items():
            parts = iter([(name, keys_of_table)] * bool(keys_of_table.height))
            path = folder / REMOVED / name
            write_table(path, to, keys_of_table.schema, parts, spreadsheet_safe=spreadsheet_safe)
    return files_below(output)


def write_table(path: Path, to: str, schema: Schema, parts: PartPieces, *, spreadsheet_safe: bool = False) -> None:
    """Write rows as file `<path>.<to>`, or as folder `path` with a file per part in a folder layout; raise if existing.

    Parameters
    ----------
    path : Path
        The table's name in the folder of the export, without a suffix.
    to : str
        A key of `OUTPUT_FORMATS`.
    schema : Schema
        The table's columns, also where it has no row.
    parts : iterator of (name, rows)
        Rows piece by piece; those of one part (`1m-2013-10`) follow each other.
    spreadsheet_safe : bool
        As for `write_files`.
    """
    entry = output_format(to, "to", spreadsheet_safe=spreadsheet_safe)
    options = {"spreadsheet_safe": True} if spreadsheet_safe else {}
    if not entry.has_long_integers:
        schema = stamps_with_nanoseconds(empty(schema)).schema
        parts = ((part, stamps_with_nanoseconds(rows)) for part, rows in parts)
    if entry.layout != "folder":
        with path.with_name(f"{path.name}.{to}").open("xb") as file:
            entry.write(schema, (rows for _, rows in parts), file, **options)
        return
    path.mkdir()
    for part, pieces in groupby(parts, key=lambda piece: piece[0]):
        with (path / f"{part}.{to}").open("xb") as file:
            entry.write(schema, (rows for _, rows in pieces), file, **options)
    if not any(path.iterdir()):
        with (path / f"{path.name}.{to}").open("xb") as file:
            entry.write(schema, [], file, **options)


def files_below(folder: Path) -> list[Path]:
    """All files below a folder at any depth, sorted; folders are not among them."""
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def export_metadata(source: Source, tables: LazyTables, selection: Selection) -> dict[str, object]:
    """Document metadata: format, revision and store (engine version alone for frames), calendars, selection."""
    written: Mapping[str, object] = {"engine_version": __version__}
    if isinstance(source, Dataset):
        last = source.exports.row(-1, named=True)
        written = {
            name: last[name] for name in ("revision", "store_id", "store_revision", "written_at", "engine_version")
        }
    calendars = tables["calendars"].sort(SORT["calendars"]).collect().to_dicts()
    return {"format": "session", "format_version": 1, **written, "calendars": calendars, "selection": asdict(selection)}
