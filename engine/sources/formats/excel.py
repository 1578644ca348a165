"""Excel workbooks (`.xlsx`, `.xlsm`) with one table; needs the extra `excel`."""

from __future__ import annotations

import datetime as dt
import zipfile
from pathlib import Path
from typing import Any

import polars as pl

from engine.errors import SourceError
from engine.sources import archive
from engine.sources.batch import Batch, SourceFile
from engine.sources.columns import match_columns
from engine.sources.file_names import parse_path
from engine.sources.formats.format import Format, has_suffix
from engine.sources.formats.registry import register
from engine.sources.options import ReadOptions
from engine.sources.table_rows import Origin, batch
from engine.sources.text import empty_batch, number_repeated_names

DAYS_ZERO = (dt.date(1899, 12, 30), dt.date(1899, 12, 31))  # of cells with a time and no date
FIRST_ROW = 2  # of data: row 1 of the sheet is the header


@register
class Excel(Format):
    """Workbooks with one sheet of rows below a header; cells keep their types, and dates are dates."""

    name = "excel"
    suffixes = (".xlsx", ".xlsm")
    precedence = 22

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file is a zip by its first bytes and a workbook by its suffix."""
        return archive.is_zip(head) and has_suffix(path, self.suffixes)

    def read(self, file: SourceFile, options: ReadOptions) -> list[Batch]:
        """[batch of the only sheet with rows below its first, the header]; SourceError if none or several have any."""
        facts = parse_path(file.path, options)
        origin = Origin(str(file.path), archive.sha256(file.path), facts, options, file.qualifier)
        table = read_sheet(file.path, options)
        names = [name for name in table.columns if name != "row"]
        if table.is_empty():
            return [empty_batch(names, origin)]
        return [batch(table, match_columns(names, options, origin.source), origin)]


def read_sheet(path: Path, options: ReadOptions) -> pl.DataFrame:
    """Columns and `row` (number in the sheet) of the workbook's only sheet that is not empty; empty rows are left out.

    Raises
    ------
    SourceError
        The extra is not installed; the workbook is damaged, encrypted or over the limits; no sheet, or several, with rows.
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
        sheets = {name: sheet for name in workbook.sheet_names if (sheet := load_sheet(workbook, name)).width}
        if len(sheets) != 1:
            listed = ", ".join(map(repr, list(sheets)[:5])) or "none"
            raise SourceError(path, f"{len(sheets)} sheets have rows ({listed}); valid: one sheet in the workbook")
        (table,) = sheets.values()
    except (fastexcel.FastExcelError, zipfile.BadZipFile, ValueError, pl.exceptions.PanicException) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(path, f"no Excel workbook that can be read: {str(error).splitlines()[0]}") from error
    numbered = table.with_row_index("row", FIRST_ROW).with_columns(pl.col("row").cast(pl.Int64))
    return numbered.filter(~pl.all_horizontal(pl.col(table.columns).is_null()))


def load_sheet(workbook: Any, name: str) -> pl.DataFrame:  # noqa: ANN401 - fastexcel's reader
    """A sheet as a frame, names that repeat numbered; without a column when it has no row but a header, or none."""
    sheet: pl.DataFrame = workbook.load_sheet(name, header_row=None, dtypes="string", n_rows=1).to_polars()
    if sheet.is_empty():
        return pl.DataFrame()
    names = number_repeated_names([str(cell or "").strip() for cell in sheet.row(0)])
    typed: pl.DataFrame = workbook.load_sheet(name, header_row=None, skip_rows=1, schema_sample_rows=None).to_polars()
    return split_days_and_times(typed.rename(dict(zip(typed.columns, names, strict=False))))


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
