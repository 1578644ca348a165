"""Excel workbooks."""

from __future__ import annotations

import datetime as dt
import sys
import zipfile

import polars as pl
import pytest
import xlsxwriter
from engine.errors import SourceError
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan

NEW_YORK = ReadOptions(timezone="America/New_York")
LOCAL = [dt.datetime(2024, 1, 2, 9, 30) + dt.timedelta(minutes=n) for n in range(390)]  # noqa: DTZ001 - as a sheet has them
BARS = pl.DataFrame(
    {
        "Date": LOCAL,
        "Open": [10.25 + n for n in range(390)],
        "High": [12.5 + n for n in range(390)],
        "Low": [9.125 + n for n in range(390)],
        "Close": [11.1 + n for n in range(390)],
        "Volume": [100 + n for n in range(390)],
    }
)


def write(path, *, days_and_times=False, sheets=1, text_dates=False):
    book = xlsxwriter.Workbook(path)
    stamp, day, time = (book.add_format({"num_format": text}) for text in ("yyyy-mm-dd hh:mm", "yyyy-mm-dd", "hh:mm"))
    for number in range(sheets):
        sheet = book.add_worksheet(f"sheet {number}")
        names = ["Date", "Time", *BARS.columns[1:]] if days_and_times else BARS.columns
        sheet.write_row(0, 0, names)
        for row, (ts, *cells) in enumerate(BARS.iter_rows(), 1):
            if days_and_times:
                sheet.write_datetime(row, 0, dt.datetime.combine(ts.date(), dt.time()), day)
                sheet.write_datetime(row, 1, ts.time(), time)
                sheet.write_row(row, 2, cells)
            else:
                if text_dates:
                    sheet.write_string(row, 0, f"{ts:%Y-%m-%d %H:%M}")
                else:
                    sheet.write_datetime(row, 0, ts, stamp)
                sheet.write_row(row, 1, cells)
    book.add_worksheet("empty")
    book.close()


@pytest.mark.parametrize("shape", [{}, {"days_and_times": True}, {"text_dates": True}])
def test_read_workbook_gives_the_cells_of_its_sheet(tmp_path, shape):
    write(tmp_path / "SPY_1m.xlsx", **shape)
    (file,), problems = scan([tmp_path])
    (batch,) = read(file, NEW_YORK)
    assert (problems, file.format, batch.rejects.height) == ([], "excel", 0)
    assert batch.frame["ts"].dt.convert_time_zone("America/New_York").dt.replace_time_zone(None).to_list() == LOCAL
    for name in BARS.columns[1:]:
        assert batch.frame[name.lower()].to_list() == BARS[name].to_list()
    assert (batch.frame["row"][0], batch.frame["symbol"][0]) == (2, "SPY")


def test_read_workbook_stamps_without_a_zone_name_the_option(tmp_path):
    write(tmp_path / "SPY_1m.xlsx")
    (file,), _ = scan([tmp_path])
    with pytest.raises(SourceError, match="--timezone"):
        read(file)


def write_sheets(path, sheets):
    """A workbook of sheets by name: rows above the header, and whether a table follows."""
    book = xlsxwriter.Workbook(path)
    stamp = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
    for name, (above, has_table) in sheets.items():
        sheet = book.add_worksheet(name)
        for at, text in enumerate(above):
            sheet.merge_range(at, 0, at, 5, text) if text else None
        if has_table:
            sheet.write_row(len(above), 0, BARS.columns)
            for row, (ts, *cells) in enumerate(BARS.iter_rows(), len(above) + 1):
                sheet.write_datetime(row, 0, ts, stamp)
                sheet.write_row(row, 1, cells)
    book.close()


def read_workbook(folder, options=NEW_YORK):
    (file,), _ = scan([folder], options)
    return read(file, options)


def test_read_workbook_of_several_sheets_and_a_symbol_of_the_file_is_refused_with_both_mends(tmp_path):
    write(tmp_path / "SPY.xlsx", sheets=2)
    with pytest.raises(SourceError, match=r"name says SPY.*--symbol-from '\*'; if all are of one symbol, --symbol SPY"):
        read_workbook(tmp_path)
    one = read_workbook(tmp_path, ReadOptions(timezone="America/New_York", symbol="SPY"))
    assert [batch.symbols for batch in one] == [("SPY",), ("SPY",)]


def test_read_workbook_of_a_sheet_per_symbol_takes_the_sheets_names(tmp_path):
    write_sheets(tmp_path / "prices.xlsx", {"AAPL": ([], True), "BRK.B": ([], True), "Notes": (["by the desk"], False)})
    first, second = read_workbook(tmp_path)
    assert (first.frame["symbol"].unique().item(), second.frame["symbol"].unique().item()) == ("AAPL", "BRK.B")
    assert second.source.endswith("prices.xlsx!BRK.B")
    assert "symbol: BRK.B, the sheet's name" in second.notes
    assert "sheets without a header left out: Notes" in first.notes


def test_read_workbook_with_titles_above_the_header_leaves_them_out(tmp_path):
    write_sheets(
        tmp_path / "SPY.xlsx", {"Data": (["Prices of SPY", "", "made by the desk"], True), "Notes": (["x"], False)}
    )
    (batch,) = read_workbook(tmp_path)
    assert batch.frame["open"].to_list() == BARS["Open"].to_list()
    assert batch.frame["row"][0] == 5
    assert "2 rows above the header left out: 'Prices of SPY'" in batch.notes


def test_read_workbook_of_sheets_without_a_table_is_refused(tmp_path):
    write_sheets(tmp_path / "SPY.xlsx", {"one": (["x"], False), "two": (["y"], False)})
    with pytest.raises(SourceError, match=r"2 sheets have rows .*, and none has a header of bars or ticks"):
        read_workbook(tmp_path)


def test_read_workbook_over_the_limits_is_refused(tmp_path):
    write(tmp_path / "SPY.xlsx")
    (file,), _ = scan([tmp_path])
    with pytest.raises(SourceError, match="max_bytes"):
        read(file, ReadOptions(max_bytes=1000))


def test_read_workbook_that_is_none_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "SPY.xlsx", "w") as archive:
        archive.writestr("a.txt", "x")
    (file,), _ = scan([tmp_path])
    with pytest.raises(SourceError, match="no Excel workbook"):
        read(file)


def test_read_workbook_without_the_extra_names_it(tmp_path, monkeypatch):
    write(tmp_path / "SPY.xlsx")
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    (file,), _ = scan([tmp_path])
    with pytest.raises(SourceError, match=r"pip install session-engine\[excel\]"):
        read(file)
