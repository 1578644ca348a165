"""An export for people: the session as JSON, or a file or folder per table in CSV, NDJSON, Parquet or Arrow.

A folder is written beside its place, with `SHA256SUMS`, and put there in one step (`engine.export.formats.output_folder`). No symbol is
in a path. Rows pass in pieces of about 260,000; in JSON, one symbol at a time.

`engine.export.formats.session_json` and `engine.export.formats.table_files` say what stands in the files.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa

from engine import __version__
from engine.errors import ExportError, ParameterError
from engine.export.dataset import Dataset, open_dataset
from engine.export.delta import Delta
from engine.export.formats import table_files
from engine.export.formats.output_folder import replacing
from engine.export.formats.selection import (
    PER_SYMBOL,
    Chunked,
    Lazies,
    Selection,
    Source,
    changed_chunks,
    check_asked,
    chunks_of,
    tables_of,
    tables_symbols,
)
from engine.export.formats.session_json import to_json, write_symbols, write_value
from engine.export.formats.table_files import precise
from engine.export.tables import KEYS, SORT, TABLES
from engine.interval import Interval
from engine.schema import Schema

TableWriter = Callable[[str, Schema, table_files.Chunks, Path], None]

SESSION_FILE = "session.json"
DELTA_FILE = "delta.json"
METADATA_FILE = "metadata.json"
UPSERTS, REMOVED = "upserts", "removed"
TABLE_WRITERS: Mapping[str, TableWriter] = {
    "ndjson": table_files.write_ndjson_table,
    "csv": table_files.write_csv_table,
    "parquet": table_files.write_parquet_table,
    "arrow": table_files.write_arrow_table,
}
FORMATS = ("json", *TABLE_WRITERS)


def write_files(
    source: Source,
    to: str,
    output: Path,
    *,
    symbols: Iterable[str] | None = None,
    start: dt.date | None = None,
    end: dt.date | None = None,
    intervals: Iterable[str | Interval] | None = None,
    spreadsheet_safe: bool = False,
) -> list[Path]:
    """Write a folder of files, which appears whole or not at all.

    Parameters
    ----------
    source : Dataset or mapping of table name to DataFrame
        What to write; frames as `tables.shaped` takes them.
    to : {"json", "ndjson", "csv", "parquet", "arrow"}
    output : Path
        A folder that is new or empty, or a former one of these, which is replaced.
    symbols, start, end, intervals
        Narrow what is written; `start` and `end` are trade dates, both included.
    spreadsheet_safe : bool
        CSV only: text cells that begin with `=`, `+`, `-`, `@`, a tab or a carriage return get a `'` in front, so that no
        spreadsheet takes them for a formula. Numbers stay as they are. It cannot be told apart afterwards from text that
        began with `'`, so leave it off for programs.

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
    _check_format(to, spreadsheet_safe=spreadsheet_safe)
    selection = Selection.of(symbols, start, end, intervals)
    if to == "json":
        tables = tables_of(source, selection)
        metadata = _metadata(source, tables, selection)
        return _published(output, partial(_write_session, metadata, tables, selection))
    write = partial(_write_tables, _writer(to, spreadsheet_safe=spreadsheet_safe), chunks_of(source, selection), TABLES)
    return _published(output, write)


def write_json(
    source: Source,
    output: Path,
    *,
    symbols: Iterable[str] | None = None,
    start: dt.date | None = None,
    end: dt.date | None = None,
    intervals: Iterable[str | Interval] | None = None,
) -> Path:
    """Write `session.json`, in the hierarchy of the session (see `engine.export.formats.session_json`); give its path.

    Parameters and errors are those of `write_files`.
    """
    write_files(source, "json", output, symbols=symbols, start=start, end=end, intervals=intervals)
    return Path(output) / SESSION_FILE


def write_csv(
    source: Source,
    output: Path,
    *,
    symbols: Iterable[str] | None = None,
    start: dt.date | None = None,
    end: dt.date | None = None,
    intervals: Iterable[str | Interval] | None = None,
    spreadsheet_safe: bool = False,
) -> list[Path]:
    """Write one CSV file per table (see `engine.export.formats.table_files`); give their paths, in the order of `tables.TABLES`.

    Parameters and errors are those of `write_files`.
    """
    files = write_files(
        source, "csv", output, symbols=symbols, start=start, end=end, intervals=intervals, spreadsheet_safe=spreadsheet_safe
    )  # fmt: skip
    return [path for name in TABLES for path in files if path.name == f"{name}.csv"]


def write_delta(
    target: Path,
    delta: Delta,
    output: Path,
    to: str = "json",
    *,
    symbols: Iterable[str] | None = None,
    start: dt.date | None = None,
    end: dt.date | None = None,
    intervals: Iterable[str | Interval] | None = None,
    spreadsheet_safe: bool = False,
) -> list[Path]:
    """Write what changed in an export.

    As JSON it is one file, `delta.json`, with the document of `session.json`: `symbols` holds those that changed, with the
    bars, gaps, quotes, ticks that came or changed (`quality` is that of the sessions that changed), and `removed` has the
    keys of rows that are gone, by table. As anything else it is two folders with a file or folder per table, as `write_files`
    writes them: `upserts` with the rows that came or changed, `removed` with the keys (`tables.KEYS`) of those that are gone.
    `metadata`, in `metadata.json` there, has `since_revision`, `revision`, `full` and, when full, the `reason`.

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
    _check_format(to, spreadsheet_safe=spreadsheet_safe)
    selection = Selection.of(symbols, start, end, intervals)
    now = open_dataset(target, delta.until)
    _check_symbols(selection, now, delta)
    tables = {name: selection.narrow(rows.lazy(), rows.columns) for name, rows in delta.upserts.items()}
    about = _metadata(now, tables, selection)
    about |= {"format": "session_delta", "since_revision": delta.since, "full": delta.full, "reason": delta.reason}
    if to != "json":
        writer = _writer(to, spreadsheet_safe=spreadsheet_safe)
        return _published(output, partial(_write_changes, writer, about, delta, selection), over_former=False)
    # A symbol's row tells its base interval, also when the row itself did not change.
    changed = pl.concat([tables[name].select("symbol") for name in PER_SYMBOL]).unique()
    tables["symbols"] = now.scan("symbols").join(changed, on="symbol", how="semi")
    removed = {
        name: precise(selection.narrow(rows.lazy(), rows.columns).collect())
        for name, rows in delta.removed.items()
        if rows.height
    }
    write = partial(_write_delta, about, tables, selection, removed)
    return _published(output, write, over_former=False)


def _check_format(to: str, *, spreadsheet_safe: bool) -> None:
    if to not in FORMATS:
        raise ParameterError(f"to: received {to!r}; valid: {', '.join(FORMATS)}")
    if spreadsheet_safe and to != "csv":
        raise ParameterError(f"spreadsheet_safe: received with {to}; valid: with csv")


def _check_symbols(selection: Selection, now: Dataset, delta: Delta) -> None:
    if selection.symbols is not None:
        known = tables_symbols({"symbols": now.scan("symbols")})
        known |= {symbol for rows in delta.removed.values() if "symbol" in rows.columns for symbol in rows["symbol"]}
        check_asked("symbols", selection.symbols, known)


def _writer(to: str, *, spreadsheet_safe: bool) -> TableWriter:
    return partial(table_files.write_csv_table, spreadsheet_safe=True) if spreadsheet_safe else TABLE_WRITERS[to]


def _write_changes(
    writer: TableWriter, metadata: Mapping[str, object], delta: Delta, selection: Selection, folder: Path
) -> None:
    (folder / METADATA_FILE).write_bytes(to_json(metadata) + b"\n")
    (folder / UPSERTS).mkdir()
    _write_tables(writer, changed_chunks(delta.upserts, selection), TABLES, folder / UPSERTS)
    (folder / REMOVED).mkdir()
    for name, keys in delta.removed.items():
        rows = selection.narrow(keys.lazy(), keys.columns).collect().sort(KEYS[name])
        writer(name, keys.schema, [(name, rows)] * bool(rows.height), folder / REMOVED)


def _write_delta(
    metadata: Mapping[str, object],
    tables: Lazies,
    selection: Selection,
    removed: Mapping[str, pl.DataFrame],
    folder: Path,
) -> None:
    with (folder / DELTA_FILE).open("xb") as stream:
        stream.write(b'{"metadata":' + to_json(metadata) + b',"symbols":')
        write_symbols(tables, selection, stream)
        stream.write(b',"removed":')
        write_value({name: {"columns": rows.columns, "data": rows} for name, rows in removed.items()}, stream)
        stream.write(b"}\n")


def _published(output: Path, write: Callable[[Path], None], *, over_former: bool = True) -> list[Path]:
    output = Path(output)
    with _told(output), replacing(output, over_former=over_former) as staged:
        write(staged)
    return sorted(path for path in output.rglob("*") if path.is_file())


@contextmanager
def _told(output: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise ExportError(f"{output}: {error}") from error


def _write_tables(writer: TableWriter, chunks: Chunked, schemas: Mapping[str, Schema], folder: Path) -> None:
    for name, pieces in chunks.items():
        writer(name, schemas[name], pieces, folder)


def _write_session(metadata: Mapping[str, object], tables: Lazies, selection: Selection, folder: Path) -> None:
    with (folder / SESSION_FILE).open("xb") as stream:
        stream.write(b'{"metadata":' + to_json(metadata) + b',"symbols":')
        write_symbols(tables, selection, stream)
        stream.write(b"}\n")


def _metadata(source: Source, tables: Lazies, selection: Selection) -> dict[str, object]:
    written: dict[str, object] = {"engine_version": __version__}
    if isinstance(source, Dataset):
        last = source.exports.row(-1, named=True)
        written = {
            name: last[name] for name in ("revision", "store_id", "store_revision", "written_at", "engine_version")
        }
    calendars = tables["calendars"].sort(SORT["calendars"]).collect().to_dicts()
    return {"format": "session", "format_version": 1, **written, "calendars": calendars, "selection": asdict(selection)}
