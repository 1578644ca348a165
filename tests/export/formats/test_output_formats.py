"""The table of formats: values of every type in each of them, read back by other readers; a new format is one entry."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from dataclasses import replace

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine.cli import USAGE
from engine.errors import ExportError, ParameterError
from engine.export.dataset import open_dataset
from engine.export.delta import read_delta
from engine.export.formats.output_folder import publish_folder
from engine.export.formats.output_formats import (
    OUTPUT_FORMATS,
    OutputFormat,
    output_format,
    to_text,
    write_bytes,
    write_result,
)
from engine.export.formats.session_files import write_delta, write_files
from engine.export.tables import TABLES

from tests.cli.test_commands import engine

__all__ = ["engine"]
INSTANT = dt.datetime(2024, 1, 2, 3, 4, 5, 500000, tzinfo=dt.UTC)
LOCAL = dt.datetime.fromisoformat("2024-01-02")
ROWS = {
    "number": [7, None],
    "text": ['say "x", y', ""],
    "stamp": [INSTANT, None],
    "local": [LOCAL, None],
    "day": [dt.date(9999, 12, 31), None],
    "time": [dt.time(10, 0, 1, 5), None],
    "span": [dt.timedelta(hours=36), None],
    "raw": [b"\xffa", None],
    "list": [[1, None], []],
    "stamps": [[LOCAL], None],
    "struct": [{"at": INSTANT, "of": [b"x"]}, None],
    "nothing": [None, None],
}
FRAME = pl.DataFrame(ROWS).with_columns(
    pl.Series("grade", ["b", "a"], dtype=pl.Enum(["b", "a"])),
    pl.Series("price", ["1.50", None]).cast(pl.Decimal(9, 2)),
    pl.Series("pair", [[dt.date(2024, 1, 1)] * 2, None], dtype=pl.Array(pl.Date, 2)),
)
IN_NDJSON = {
    "number": 7, "text": 'say "x", y', "stamp": "2024-01-02T03:04:05.500000Z", "local": "2024-01-02T00:00:00.000000",
    "day": "9999-12-31", "time": "10:00:01.000005000", "span": 129600.0, "raw": "ff61", "list": [1, None],
    "stamps": ["2024-01-02T00:00:00.000000"], "struct": {"at": "2024-01-02T03:04:05.500000Z", "of": ["78"]},
    "nothing": None, "grade": "b", "price": "1.50", "pair": ["2024-01-01", "2024-01-01"],
}  # fmt: skip
# Where values inside of lists and structs, and whole seconds, have another form.
IN_JSON = IN_NDJSON | {"local": "2024-01-02T00:00:00", "stamps": ["2024-01-02T00:00:00"], "time": "10:00:01.000005"}


def test_json_and_ndjson_have_a_form_for_values_of_every_type():
    first, second = map(json.loads, to_text(FRAME, "ndjson").splitlines())
    assert first == IN_NDJSON
    assert second == dict.fromkeys(IN_NDJSON) | {"text": "", "list": [], "grade": "a"}
    assert json.loads(to_text(FRAME, "json")) == [IN_JSON, second]


def test_csv_has_a_form_for_values_of_every_type():
    names, first, second = csv.reader(io.StringIO(to_text(FRAME, "csv")))
    nested = {name: json.dumps(IN_JSON[name], separators=(",", ":")) for name in ("list", "stamps", "struct", "pair")}
    expected = {name: "" if value is None else str(value) for name, value in IN_NDJSON.items()} | nested
    assert dict(zip(names, first, strict=True)) == expected
    assert dict(zip(names, second, strict=True)) == dict.fromkeys(names, "") | {"list": "[]", "grade": "a"}


@pytest.mark.parametrize("name", ["csv", "ndjson"])
def test_stamp_with_another_zone_is_written_in_utc(name):
    in_new_york = pl.DataFrame({"stamp": [INSTANT]}).cast(pl.Datetime("us", "America/New_York"))
    assert IN_NDJSON["stamp"] in to_text(in_new_york, name)


@pytest.mark.parametrize("name", ["parquet", "arrow"])
def test_columnar_formats_round_trip_values_of_every_type_as_plain_types(tmp_path, name):
    write_result(FRAME, name, tmp_path / "x")
    if name == "parquet":
        table = pq.read_table(tmp_path / "x")
    else:
        table = pa.ipc.open_file(pa.memory_map(str(tmp_path / "x"))).read_all()
    assert table.to_pylist() == FRAME.to_dicts()
    assert (table.schema.field("text").type, table.schema.field("grade").type) == (pa.string(), pa.string())


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_result_without_a_row_keeps_what_the_format_says_of_columns(tmp_path, name):
    write_result(FRAME.clear(), name, tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    if name in ("parquet", "arrow"):
        read = pl.read_parquet if name == "parquet" else pl.read_ipc
        assert read(tmp_path / "x").schema == FRAME.cast({"grade": pl.String}).schema
    else:
        expected = {"csv": ",".join(FRAME.columns) + "\n", "json": "[]\n", "ndjson": ""}
        assert content.decode() == expected[name] == to_text(FRAME.clear(), name)


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_result_in_many_pieces_is_that_in_one(tmp_path, monkeypatch, name):
    rows = pl.DataFrame({"a": range(10), "b": ["x"] * 10})
    write_result(rows, name, tmp_path / "whole")
    monkeypatch.setattr("engine.export.formats.output_formats.ROWS_PER_PIECE", 3)
    write_result(rows, name, tmp_path / "pieces")
    if OUTPUT_FORMATS[name].is_text:
        assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()
    else:
        read = pl.read_parquet if name == "parquet" else pl.read_ipc
        assert read(tmp_path / "pieces").equals(read(tmp_path / "whole"))


def test_formats_refuse_other_names_and_options(tmp_path):
    with pytest.raises(ParameterError, match="format: received 'xlsx'; valid: csv, json"):
        write_result(FRAME, "xlsx", tmp_path / "x")
    with pytest.raises(ParameterError, match="spreadsheet_safe: received with json; valid: with csv"):
        output_format("json", spreadsheet_safe=True)
    with pytest.raises(ParameterError, match="received 'arrow'; valid: csv, json, ndjson"):
        to_text(FRAME, "arrow")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), pl.exceptions.ComputeError("odd"), pa.ArrowInvalid("odd")]
)
def test_result_that_cannot_be_written_leaves_the_former_file(tmp_path, monkeypatch, name, error):
    write_result(FRAME, name, tmp_path / "x")
    before = (tmp_path / "x").read_bytes()

    def failing(schema, pieces, file):
        file.write(b"half")
        raise error

    monkeypatch.setitem(OUTPUT_FORMATS, name, replace(OUTPUT_FORMATS[name], write=failing))
    with pytest.raises(ExportError, match=r"No space left|odd"):
        write_result(FRAME, name, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_error_that_is_no_matter_of_writing_passes_as_it_is(tmp_path, monkeypatch):
    error = ValueError("a bug")

    def failing(schema, pieces, file):
        raise error

    monkeypatch.setitem(OUTPUT_FORMATS, "csv", replace(OUTPUT_FORMATS["csv"], write=failing))
    with pytest.raises(ValueError, match="a bug") as of_file:
        write_result(FRAME, "csv", tmp_path / "x")
    with pytest.raises(ValueError, match="a bug") as of_folder, publish_folder(tmp_path / "folder"):
        raise error
    assert of_file.value is of_folder.value is error
    assert error.__cause__ is None
    with pytest.raises(ExportError, match="full") as full, publish_folder(tmp_path / "folder"):
        raise OSError("full")
    assert isinstance(full.value.__cause__, OSError)
    assert list(tmp_path.iterdir()) == []


def test_write_bytes_where_a_folder_is_missing_rights_is_an_export_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="file"):
        write_bytes(b"x", tmp_path / "file" / "x")


def test_new_format_is_one_entry_for_exports_deltas_and_results(engine, first_export, tmp_path, monkeypatch):
    def write_lines(schema, pieces, file):
        file.write("|".join(schema).encode() + b"\n")
        for rows in pieces:
            file.write(b"%d\n" % rows.height)

    entry = OutputFormat(write_lines, "file", is_text=True, has_long_integers=True)
    monkeypatch.setitem(OUTPUT_FORMATS, "lines", entry)
    write_files(open_dataset(first_export), "lines", tmp_path / "files")
    columns, *counts = (tmp_path / "files" / "bars.lines").read_text().splitlines()
    assert (columns.split("|"), sum(map(int, counts))) == (
        list(TABLES["bars"]),
        open_dataset(first_export).rows("bars"),
    )
    write_delta(first_export, read_delta(first_export, 0), tmp_path / "delta", "lines")
    assert (tmp_path / "delta" / "upserts" / "bars.lines").read_text().startswith("symbol|")
    assert engine("export", first_export, "--to", "lines", "--output", tmp_path / "cli").code == 0
    assert engine("sql", first_export, "SELECT 1 AS a, 2 AS b", "--format", "lines").out == "a|b\n1\n"
    assert engine("sql", first_export, "SELECT 1 AS a", "--output", tmp_path / "a.lines").code == 0
    assert (tmp_path / "a.lines").read_text() == "a\n1\n"
    refused = engine("sql", first_export, "SELECT 1", "--format", "nothing")
    assert (refused.code, "lines" in refused.err) == (USAGE, True)
