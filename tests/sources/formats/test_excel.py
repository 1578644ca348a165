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


def test_read_workbook_of_several_sheets_is_refused(tmp_path):
    write(tmp_path / "SPY.xlsx", sheets=2)
    (file,), _ = scan([tmp_path])
    with pytest.raises(SourceError, match="2 sheets have rows"):
        read(file, NEW_YORK)


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
