"""The table of formats: what a new one needs, and who reads the table."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.cli.source_options import complete_format
from engine.errors import ParameterError
from engine.interval import Interval
from engine.sources.batch import Batch
from engine.sources.columns import match_columns
from engine.sources.file_names import parse_path
from engine.sources.formats.format import TextFormat, format_named, formats, sniff_format
from engine.sources.formats.registry import data_suffixes, format_names, register, unregister
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import non_data_reason, scan
from engine.sources.streams.contract import HistoryRequest
from engine.sources.streams.folder import FolderStream
from engine.sources.table_rows import Origin, batch

NAMES = ("csv", "ndjson", "json", "parquet", "excel", "arrow", "lean", "dbn")
YEAR = (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2025, 1, 1, tzinfo=dt.UTC))
WIDTHS = {"ts": 20, "open": 8, "high": 8, "low": 8, "close": 8}
ROWS = [("2024-01-02T14:30:00Z", "1", "2", "1", "2"), ("2024-01-02T14:31:00Z", "2", "3", "2", "3")]
TEXT = "".join(
    "|".join(cell.ljust(width) for cell, width in zip(row, WIDTHS.values(), strict=True)) + "\n" for row in ROWS
)


class FixedColumns(TextFormat):
    """Cells of fixed widths with a bar between them, and no header."""

    name = "fixed"
    suffixes = (".fix",)

    def read_content(self, data: bytes, origin: Origin) -> Batch:
        line, begins = pl.col("line"), 0
        cells = []
        for name, width in WIDTHS.items():
            cells.append(line.str.slice(begins, width).str.strip_chars().alias(name))
            begins += width + 1
        lines = pl.DataFrame({"line": data.decode().splitlines()}).with_row_index("row", offset=1)
        raw = lines.select(pl.col("row").cast(pl.Int64), *cells)
        return batch(raw, match_columns(list(WIDTHS), origin.options, origin.source), origin)


@pytest.fixture
def fixed():
    register(FixedColumns)
    yield FixedColumns.name
    unregister(FixedColumns.name)


def test_load_file_of_a_registered_format_reads_its_bars(fixed, tmp_path):
    (tmp_path / "SPY_1m.fix").write_text(TEXT)
    session = engine.load([tmp_path], calendar="XNYS")
    bars = session.snapshot().bars()
    assert bars.select("symbol", "open", "close").rows() == [("SPY", 1.0, 2.0), ("SPY", 2.0, 3.0)]


def test_load_file_of_the_format_before_it_is_registered_is_no_data(tmp_path):
    path = tmp_path / "SPY_1m.fix"
    path.write_text(TEXT)
    assert non_data_reason(path) == "no data file by its name (.fix)"
    assert scan([tmp_path])[0] == []


def test_scan_named_file_of_a_registered_format_prefers_it_to_plain_text(fixed, tmp_path):
    path = tmp_path / "SPY_1m.fix"
    path.write_text(TEXT)
    (file,), problems = scan([path])
    assert (file.format, file.symbol, str(file.interval), problems) == (fixed, "SPY", "1m", [])


def test_read_zip_with_members_of_two_formats_reads_each_with_its_own(fixed, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("SPY_1m.fix", TEXT)
        archive.writestr("QQQ_1m.csv", "ts,open,high,low,close\n2024-01-02T14:30:00Z,1,2,1,2\n")
    path = tmp_path / "both.zip"
    path.write_bytes(packed.getvalue())
    (file,), _ = scan([path])
    assert [(one.frame["symbol"][0], one.frame.height) for one in read(file)] == [("SPY", 2), ("QQQ", 1)]


def test_take_from_folder_with_a_registered_format_hands_its_rows_over(fixed, tmp_path):
    stream = FolderStream(tmp_path, settle_seconds=0.0, poll_seconds=0.0)
    (tmp_path / "SPY_1m.fix").write_text(TEXT)
    (delivery,) = stream.fetch([HistoryRequest("SPY", "bars", Interval.parse("1m"), *YEAR)])
    assert delivery.height == len(ROWS)


def test_options_completion_and_names_read_the_same_table(fixed):
    assert format_names() == (*NAMES, fixed)
    assert ReadOptions(format=fixed).format == fixed
    assert complete_format("fi") == [fixed]
    assert parse_path("SPY_1m.fix.gz").symbol == "SPY"
    assert ".fix" in data_suffixes()


def test_options_unknown_format_lists_the_registered_ones_in_order():
    with pytest.raises(
        ParameterError,
        match=re.escape("format: received 'fixed'; valid: csv, ndjson, json, parquet, excel, arrow, lean, dbn"),
    ):
        ReadOptions(format="fixed")
    with pytest.raises(
        ParameterError,
        match=re.escape("format: received 'fixed'; valid: csv, ndjson, json, parquet, excel, arrow, lean, dbn"),
    ):
        format_named("fixed")


def test_register_second_format_of_a_name_raises(fixed):
    class Other(FixedColumns):
        pass

    with pytest.raises(ParameterError, match="'fixed' is registered already, by FixedColumns"):
        register(Other)


@pytest.mark.parametrize(
    ("head", "name", "expected"),
    [
        (b"PAR1rest", "a.csv", "parquet"),
        (b"PAR1rest", "equity/usa/daily/spy.zip", "parquet"),
        (b"PK\x03\x04", "equity/usa/daily/spy.zip", "lean"),
        (b"garbage", "equity/usa/daily/spy.zip", "lean"),
        (b"PK\x03\x04", "a.ndjson", "csv"),
        (b"PK\x05\x06", "a.bin", "csv"),
        (b'{"a":1}', "a.ndjson.gz", "ndjson"),
        (b"a,b\n", "a.parquet", "csv"),
        (b"a,b\n", "a.bin", None),
        (b"a\0b\n", "a.csv", None),
        (b"\xff\xfea\0", "a.csv", "csv"),
        (b"DBN", "a.dbn", "csv"),
        (b"DBN" + b"\x01" * 30, "a.csv", "dbn"),
    ],
)
def test_sniff_by_content_then_path_then_suffix(head, name, expected):
    sniffed = sniff_format(head, Path("/data") / name)
    assert (sniffed and sniffed.name) == expected


def test_docs_have_a_line_for_every_format():
    page = (Path(__file__).parents[3] / "docs/sources.md").read_text()
    assert [one.name for one in formats() if f"| `{one.name}` |" not in page] == []
