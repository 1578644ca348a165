from __future__ import annotations

import csv
import datetime as dt
import io
import json

import polars as pl
import pytest
from engine.errors import ExportError, IntervalError, ParameterError, SchemaError
from engine.export.dataset import open_dataset
from engine.export.formats import output_formats, selection, session_json
from engine.export.formats.session_files import write_csv, write_json
from engine.export.tables import DATA_TABLES, TABLES, conform_table

from tests.export.sample import HOSTILE, WRITTEN_AT, bars, framed, tables


def loaded(path):
    return json.loads(path.read_bytes())


def stamp(value):
    return value.isoformat().replace("+00:00", "Z") if value is not None else None


def test_write_json_of_export_holds_every_bar_in_hierarchy(first_export, tmp_path):
    path = write_json(open_dataset(first_export), tmp_path / "out")
    assert path == tmp_path / "out" / "session.json"
    content = loaded(path)
    assert sorted(content["symbols"]) == sorted(HOSTILE)
    given = conform_table("bars", tables(1)["bars"])
    for symbol, block in content["symbols"].items():
        for group, price_type in (("bars", "last"), ("bars_bid", "bid")):
            for interval in ("1m", "5m"):
                series = block[group][interval]
                rows = given.filter(symbol=symbol, price_type=price_type, interval=interval).sort("ts")
                assert series["count"] == rows.height == 14
                assert series["derived"] == (interval == "5m")
                assert series["base"] == ("1m" if interval == "5m" and symbol else None if interval == "1m" else "1m")
                for cells, row in zip(series["data"], rows.to_dicts(), strict=True):
                    told = dict(zip(series["columns"], cells, strict=True))
                    assert told == {
                        name: stamp(row[name]) if name in ("ts", "ts_end", "session") else row[name] for name in told
                    }


def test_write_json_metadata_names_revision_and_calendar(first_export, tmp_path):
    metadata = loaded(write_json(open_dataset(first_export), tmp_path, start=dt.date(2013, 10, 1)))["metadata"]
    assert metadata["revision"] == metadata["store_revision"] == 1
    assert metadata["written_at"] == stamp(WRITTEN_AT)
    assert [one["calendar"] for one in metadata["calendars"]] == ["XNYS"]
    assert metadata["selection"]["start"] == "2013-10-01"


def test_write_json_gaps_and_quality_are_those_of_the_series(first_export, tmp_path):
    series = loaded(write_json(open_dataset(first_export), tmp_path))["symbols"]["BRK/B"]["bars"]["1m"]
    assert series["quality"] == pytest.approx(100 * 7 / 9)
    assert series["gaps"] == {
        "gap_count": 1,
        "missing_bars": 2,
        "ranges": [
            {"start_time": "2013-10-31T13:37:00.123456Z", "end_time": "2013-10-31T13:39:00.123456Z", "bar_count": 2}
        ],
    }


def test_write_json_interval_without_a_bar_is_listed(first_export, tmp_path):
    block = loaded(write_json(open_dataset(first_export), tmp_path))["symbols"]["0700"]
    assert block["derived_intervals"] == ["5m", "1h"]
    empty = block["bars"]["1h"]
    assert (empty["derived"], empty["base"], empty["count"], empty["quality"], empty["data"]) == (
        True,
        "1m",
        0,
        None,
        [],
    )
    assert empty["gaps"] == {"gap_count": 0, "missing_bars": 0, "ranges": []}


def test_write_json_symbol_without_any_row_is_listed(tmp_path):
    symbols = framed("symbols", [{"symbol": "X", "base_interval": "1m", "derived_intervals": ["5m"]}])
    block = loaded(write_json({"symbols": symbols}, tmp_path))["symbols"]["X"]
    assert list(block["bars"]) == ["1m", "5m"]


def test_write_json_stamps_of_ticks_keep_nanoseconds(first_export, tmp_path):
    ticks = loaded(write_json(open_dataset(first_export), tmp_path))["symbols"]["0700"]["ticks"]
    assert ticks["columns"][0] == "ts"
    assert [row[0] for row in ticks["data"]] == [f"2013-10-31T13:{30 + n}:00.12345600{n}Z" for n in range(3)]


def test_write_json_kept_source_bars_stand_apart_from_derived_ones(tmp_path):
    given = bars(1, ["X"], 3).filter(price_type="last")
    own = given.filter(interval="5m").with_columns(origin=pl.lit("source"), volume=pl.lit(99.0))
    symbols = framed("symbols", [{"symbol": "X", "base_interval": "1m", "derived_intervals": ["5m"]}])
    block = loaded(write_json({"bars": pl.concat([given, own]), "symbols": symbols}, tmp_path))["symbols"]["X"]
    assert block["bars"]["5m"]["count"] == block["bars_source"]["5m"]["count"] == 6
    assert "quality" not in block["bars_source"]["5m"]
    assert {row[8] for row in block["bars_source"]["5m"]["data"]} == {99.0}


def test_write_json_of_quotes_only_has_bid_as_primary(tmp_path):
    block = loaded(write_json({"bars": bars(1, ["X"], 3).filter(price_type="bid")}, tmp_path))["symbols"]["X"]
    assert block["price_type"] == "bid"
    assert block["bars"]["1m"]["count"] == 6
    assert "bars_bid" not in block


def test_write_json_in_small_batches_is_the_same(first_export, tmp_path, monkeypatch):
    whole = write_json(open_dataset(first_export), tmp_path / "a").read_bytes()
    monkeypatch.setattr(selection, "ROWS_PER_BATCH", 100)
    monkeypatch.setattr(session_json, "ROWS_PER_WRITE", 3)
    assert write_json(open_dataset(first_export), tmp_path / "b").read_bytes() == whole
    assert write_json(open_dataset(first_export), tmp_path / "a").read_bytes() == whole


def test_write_json_narrowed_holds_what_was_asked_for(first_export, tmp_path):
    content = loaded(
        write_json(
            open_dataset(first_export),
            tmp_path,
            symbols=["0700", "it's"],
            intervals=["60m", "1m"],
            start=dt.date(2013, 11, 1),
        )
    )
    assert sorted(content["symbols"]) == ["0700", "it's"]
    block = content["symbols"]["0700"]
    assert list(block["bars"]) == ["1m", "1h"]
    assert {row[2] for row in block["bars"]["1m"]["data"]} == {"2013-11-01"}


BAD = [
    ({"symbols": ["SPX"]}, ParameterError, "'SPX'; there are '', ' lead"),
    ({"intervals": ["soon"]}, IntervalError, "soon"),
    ({"start": dt.date(2014, 1, 1), "end": dt.date(2013, 1, 1)}, ParameterError, "later than end"),
]


@pytest.mark.parametrize("write", [write_json, write_csv])
@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_write_with_bad_selection_is_refused(first_export, tmp_path, write, options, error, message):
    with pytest.raises(error) as raised:
        write(open_dataset(first_export), tmp_path / "out", **options)
    assert message in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("write", [write_json, write_csv])
def test_write_frames_with_nan_is_refused(tmp_path, write):
    given = tables(1)["bars"].with_columns(close=float("nan"))
    with pytest.raises(SchemaError, match="NaN"):
        write({"bars": given}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_write_json_that_fails_keeps_the_former_file(first_export, tmp_path, monkeypatch):
    before = write_json(open_dataset(first_export), tmp_path).read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session_json, "_symbol_block", full)
    with pytest.raises(ExportError, match="No space left"):
        write_json(open_dataset(first_export), tmp_path)
    assert (tmp_path / "session.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SHA256SUMS", "session.json"]


def cell(value):
    # What the module's docstring promises, in plain Python.
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, list):
        return json.dumps(value, separators=(",", ":"))
    return value


@pytest.mark.parametrize("name", DATA_TABLES)
def test_write_csv_cells_read_back_by_the_standard_reader(first_export, tmp_path, name):
    paths = write_csv(open_dataset(first_export), tmp_path / "out")
    assert [path.name for path in paths] == [f"{table}.csv" for table in TABLES]
    text = (tmp_path / "out" / f"{name}.csv").read_bytes().decode()
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    assert header == list(TABLES[name])
    rows = open_dataset(first_export).scan(name).collect()
    for got, want in zip(lines, rows.rows(), strict=True):
        for column, told, value in zip(header, got, want, strict=True):
            assert (float(told) if isinstance(value, float) else told) == (
                value if isinstance(value, float) else str(cell(value))
            ), column


def test_write_csv_tells_null_from_empty_text(tmp_path):
    calendars = framed("calendars", [{"calendar": "", "provider": None, "version": 'say "x"'}])
    write_csv({"calendars": calendars}, tmp_path / "out")
    lines = (tmp_path / "out" / "calendars.csv").read_text().splitlines()
    assert lines[1].startswith('"",,"say ""x""",,')


def test_write_csv_of_empty_tables_has_headers(tmp_path):
    for path in write_csv({}, tmp_path / "out"):
        assert path.read_text() == ",".join(TABLES[path.stem]) + "\n"


def test_write_csv_to_folder_in_use_is_refused_and_leaves_it_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ExportError, match="new or empty"):
        write_csv({}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_write_csv_that_fails_leaves_nothing(tmp_path, monkeypatch):
    csv_cells = output_formats.csv_cells

    def failing(rows, **options):
        if "gap_start" in rows.columns:
            raise OSError(28, "No space left on device")
        return csv_cells(rows, **options)

    monkeypatch.setattr(output_formats, "csv_cells", failing)
    with pytest.raises(ExportError, match="No space left"):
        write_csv(tables(1), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_write_table_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SchemaError, match="candles"):
        write_json({"candles": pl.DataFrame()}, tmp_path)
