"""Excel workbooks (`.xlsx`, `.xlsm`) with a table per sheet; needs the extra `excel`."""

from __future__ import annotations

import datetime as dt
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from engine.errors import SourceError
from engine.sources import archive
from engine.sources.batch import Batch, SourceFile
from engine.sources.columns import match_columns
from engine.sources.file_names import parse_name, parse_path
from engine.sources.formats.format import Format, has_suffix
from engine.sources.formats.registry import register
from engine.sources.headers import header_line, is_plain_header
from engine.sources.options import ReadOptions
from engine.sources.table_rows import Origin, batch
from engine.sources.text import empty_batch, number_repeated_names

DAYS_ZERO = (dt.date(1899, 12, 30), dt.date(1899, 12, 31))  # of cells with a time and no date
ROWS_ABOVE = 50  # among which the header is looked for


@register
class Excel(Format):
    """Workbooks with a table, or a table per sheet, below a header; cells keep their types, and dates are dates."""

    name = "excel"
    suffixes = (".xlsx", ".xlsm")
    precedence = 22

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file is a zip by its first bytes and a workbook by its suffix."""
        return archive.is_zip(head) and has_suffix(path, self.suffixes)

    def read(self, file: SourceFile, options: ReadOptions) -> list[Batch]:
        """A batch per sheet that is a table (a lone sheet with rows always is); SourceError if several are not told apart.

        Sheets without a symbol in a column or a symbol by the file's name are named by their symbols.
        """
        facts = parse_path(file.path, options)
        sheets, left_out = read_sheets(file.path, options)
        origin = Origin(str(file.path), archive.sha256(file.path), facts, options, file.qualifier, left_out)
        return [
            sheet_batch(sheet, origin if len(sheets) == 1 else origin_of_sheet(sheet, origin, len(sheets)))
            for sheet in sheets
        ]


class Sheet(NamedTuple):
    """A sheet of a workbook: its name, cells below the header with `row` (number in the sheet), and lines above it."""

    name: str
    table: pl.DataFrame
    above: tuple[str, ...]


def sheet_batch(sheet: Sheet, origin: Origin) -> Batch:
    """Batch of a sheet's rows; empty below a lone header."""
    above = (f"{len(sheet.above)} rows above the header left out: {sheet.above[0][:80]!r}",) if sheet.above else ()
    origin = replace(origin, notes=(*origin.notes, *above))
    names = [name for name in sheet.table.columns if name != "row"]
    if sheet.table.is_empty():
        return empty_batch(names, origin)
    return batch(sheet.table, match_columns(names, origin.options, origin.source), origin)


def origin_of_sheet(sheet: Sheet, origin: Origin, count: int) -> Origin:
    """The origin of one of several sheets: `path!sheet`, with the symbol (noted) and interval that the sheet's name states.

    Raises
    ------
    SourceError
        Neither a column nor the sheet's name tells the symbol, or the file's name states another.
    """
    origin = replace(origin, source=f"{origin.source}!{sheet.name}")
    columns = match_columns([name for name in sheet.table.columns if name != "row"], origin.options, origin.source)
    if "symbol" in columns.roles or origin.options.symbol is not None:
        return origin
    stated, facts = parse_name(sheet.name), origin.path_facts
    if facts.symbol is not None and facts.symbol != stated.symbol:
        raise SourceError(
            origin.source,
            f"one of {count} tables of a workbook whose name says {facts.symbol}; if the sheets' names are the symbols, "
            f"--symbol-from '*'; if all are of one symbol, --symbol {facts.symbol}",
        )
    facts = replace(facts, symbol=stated.symbol, interval=facts.interval or stated.interval)
    return replace(origin, path_facts=facts, notes=(*origin.notes, f"symbol: {stated.symbol}, the sheet's name"))


def read_sheets(path: Path, options: ReadOptions) -> tuple[list[Sheet], tuple[str, ...]]:
    """(the sheets of a workbook that are tables, notes of others): those with a plain header, else the only one with rows.

    Raises
    ------
    SourceError
        The extra is not installed; the workbook is damaged, encrypted or over the limits; no sheet, or several, with rows
        and none of them with a header.
    """
    try:
        import fastexcel  # noqa: PLC0415  # an optional extra
    except ImportError as error:
        raise SourceError(
            path, "Excel workbooks need an extra: pip install session-engine[excel]; or save the sheet as CSV (UTF-8)"
        ) from error
    archive.member_names(path, options)  # its limits are those of a zip
    try:
        workbook = fastexcel.read_excel(path.read_bytes())
        heads = {name: lines for name in workbook.sheet_names if (lines := first_lines(workbook, name))}
        tables = [name for name, lines in heads.items() if is_plain_header(lines, header_line(lines, options), options)]
        chosen = tables or list(heads)
        if not tables and len(heads) != 1:
            listed = ", ".join(map(repr, list(heads)[:5])) or "none"
            raise SourceError(path, f"{len(heads)} sheets have rows ({listed}), and none has a header of bars or ticks")
        sheets = [load_sheet(workbook, name, heads[name], options) for name in chosen]
    except (fastexcel.FastExcelError, zipfile.BadZipFile, ValueError, pl.exceptions.PanicException) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(path, f"no Excel workbook that can be read: {str(error).splitlines()[0]}") from error
    others = [name for name in heads if name not in chosen]
    return sheets, ((f"sheets without a header left out: {', '.join(others)}",) if others else ())


def first_lines(workbook: Any, name: str) -> list[str]:  # noqa: ANN401 - fastexcel's reader
    """The first rows of a sheet as lines of text with tabs; empty for a sheet without cells."""
    rows: pl.DataFrame = workbook.load_sheet(name, header_row=None, dtypes="string", n_rows=ROWS_ABOVE).to_polars()
    return [
        "\t".join(str(cell or "").strip().replace("\t", " ") for cell in row).rstrip("\t") for row in rows.iter_rows()
    ]


def load_sheet(workbook: Any, name: str, lines: list[str], options: ReadOptions) -> Sheet:  # noqa: ANN401 - fastexcel's reader
    """A sheet's rows below its header, empty ones left out, names that repeat numbered; no column for a sheet without."""
    at = options.skip_rows or header_line(lines, replace(options, delimiter="\t"))
    typed: pl.DataFrame = workbook.load_sheet(
        name, header_row=None, skip_rows=at + 1, schema_sample_rows=None
    ).to_polars()
    cells = lines[at].split("\t")
    names = number_repeated_names(cells + [""] * (typed.width - len(cells)))
    table = split_days_and_times(typed.rename(dict(zip(typed.columns, names, strict=False))))
    table = table.drop(
        name for name in table.columns if table[name].null_count() == table.height and not name.strip(" #0123456789")
    )
    numbered = table.with_row_index("row", at + 2).with_columns(pl.col("row").cast(pl.Int64))
    shown = numbered.filter(~pl.all_horizontal(pl.col(table.columns).is_null())) if table.width else numbered.head(0)
    return Sheet(name, shown, tuple(line for line in lines[:at] if line.strip()))


def split_days_and_times(table: pl.DataFrame) -> pl.DataFrame:
    """The table with columns of days alone as Date, of times alone (Excel's day zero) as text `09:30:00`."""
    changed = []
    for name, dtype in table.schema.items():
        if not isinstance(dtype, pl.Datetime) or table[name].null_count() == table.height:
            continue
        days = table[name].dt.date()
        if days.is_in(list(DAYS_ZERO)).fill_null(value=True).all():
            changed.append(pl.col(name).dt.to_string("%H:%M:%S%.f"))
        elif (table[name].dt.time() == dt.time()).fill_null(value=True).all():
            changed.append(pl.col(name).dt.date())
    return table.with_columns(changed)
