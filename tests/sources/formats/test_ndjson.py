"""NDJSON files: every line is a row, a rejected line or blank."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import time
import zipfile

import polars as pl
import pytest
from engine.errors import SourceError
from engine.runtime.load import load_files
from engine.runtime.options import CalendarMap, LoadOptions
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan

BARS = [
    {"ts": f"2024-01-02T14:{30 + n}:00Z", "open": 10 + n, "high": 12.5 + n, "low": 9, "close": 11, "volume": 100}
    for n in range(3)
]
TEXT = "".join(json.dumps(bar) + "\n" for bar in BARS)


def read_one(path, options=None):
    (file,), problems = scan([path], options)
    assert problems == []
    (batch,) = read(file, options)
    return file, batch


@pytest.mark.parametrize("name", ["AAPL.ndjson", "AAPL_1m.jsonl", "AAPL.ndjson.gz"])
def test_read_ndjson_gives_typed_bars_of_the_named_symbol(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(TEXT.encode()) if name.endswith("gz") else TEXT.encode())
    file, batch = read_one(path)
    assert (file.format, batch.kind, str(batch.interval)) == ("ndjson", "bars", "1m")
    assert batch.frame["symbol"].unique().to_list() == ["AAPL"]
    assert batch.frame["open"].to_list() == [10.0, 11.0, 12.0]
    assert batch.frame["ts"][0] == dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
    assert batch.frame["row"].to_list() == [1, 2, 3]
    assert batch.rejects.is_empty()


def test_read_ndjson_with_lines_that_are_no_objects_rejects_them_with_their_text(tmp_path):
    lines = TEXT.splitlines()
    bad = ["garbage", "[1, 2]", '{"ts": 1', "5"]
    path = tmp_path / "AAPL.ndjson"
    path.write_text("\n".join([lines[0], bad[0], "", lines[1], *bad[1:], lines[2]]))
    _, batch = read_one(path)
    assert batch.frame["row"].to_list() == [1, 4, 8]
    assert batch.rejects["row"].to_list() == [2, 5, 6, 7]
    assert [json.loads(cells)["line"] for cells in batch.rejects["cells"]] == bad


def test_read_ndjson_with_values_of_other_types_rejects_the_row_alone(tmp_path):
    path = tmp_path / "AAPL.ndjson"
    path.write_text(TEXT + json.dumps({**BARS[0], "ts": "2024-01-02T14:33:00Z", "close": "a lot"}))
    _, batch = read_one(path)
    assert batch.frame.height == 3
    assert batch.rejects["reason"].to_list() == ["close: missing or unreadable"]
    assert json.loads(batch.rejects["cells"][0])["close"] == "a lot"


def test_read_ndjson_of_ticks_joins_lists_of_conditions(tmp_path):
    ticks = [{"ts": 1704205800000000001 + n, "price": 5.5, "size": 2, "conditions": ["@", "I"]} for n in range(2)]
    path = tmp_path / "MSFT.ndjson"
    path.write_text("\n".join(map(json.dumps, ticks)))
    _, batch = read_one(path)
    assert batch.kind == "ticks"
    assert batch.frame["conditions"].to_list() == ["@,I", "@,I"]
    assert batch.frame["ts"].to_physical().to_list() == [tick["ts"] for tick in ticks]


def test_read_ndjson_in_a_zip_is_told_by_the_members_name(tmp_path):
    path = tmp_path / "drop.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("AAPL.ndjson", TEXT)
        archive.writestr("MSFT.csv", pl.DataFrame(BARS).write_csv())
    (file,), _ = scan([path])
    one, two = read(file)
    assert one.frame.drop("symbol").equals(two.frame.drop("symbol", "row").with_columns(one.frame["row"]))


def test_read_ndjson_by_option_whatever_the_name(tmp_path):
    path = tmp_path / "AAPL.txt"
    path.write_text(TEXT)
    file, batch = read_one(path, ReadOptions(format="ndjson"))
    assert (file.format, batch.frame.height) == ("ndjson", 3)


@pytest.mark.parametrize(("data", "reason"), [(b"\n \n", "is empty"), (b"\xff\xfe\0\0{\0\0\0", "is UTF-32")])
def test_read_ndjson_without_text_names_the_reason(tmp_path, data, reason):
    path = tmp_path / "AAPL.ndjson"
    path.write_bytes(data)
    (file,), _ = scan([path])
    with pytest.raises(SourceError, match=reason):
        read(file)


def test_read_ndjson_of_nothing_but_garbage_keeps_every_line(tmp_path):
    path = tmp_path / "AAPL.ndjson"
    path.write_text("no\nthing\n")
    _, batch = read_one(path)
    assert batch.frame.is_empty()
    assert batch.rejects.height == 2


def test_load_ndjson_gives_the_store_that_csv_gives(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "AAPL.ndjson").write_text(TEXT)
    pl.DataFrame(BARS).write_csv(tmp_path / "b" / "AAPL.csv")
    options = LoadOptions(calendars=CalendarMap("XNYS"))
    one, two = (load_files([tmp_path / name], options).session.snapshot().tables()["bars"] for name in "ab")
    assert one.height == 3
    assert one.equals(two)


def own_names(count: int) -> str:
    return "".join(
        json.dumps({**BARS[0], "ts": f"2024-01-02T{14 + n // 60 % 6}:{n % 60:02}:00Z", f"own {n}": n, "x": [1]}) + "\n"
        for n in range(count)
    )


def test_read_ndjson_of_names_of_their_own_per_line_keeps_the_common_ones(tmp_path):
    path = tmp_path / "AAPL_1m.ndjson"
    path.write_text(own_names(300))
    _, batch = read_one(path)
    assert batch.frame.height == 300
    assert batch.frame["close"].unique().to_list() == [11.0]
    assert any("names of values that few lines have" in note for note in batch.notes)


def test_read_ndjson_of_names_of_their_own_per_line_costs_as_much_per_line(tmp_path):
    taken = []
    for count in (2_000, 8_000):
        path = tmp_path / "AAPL_1m.ndjson"
        path.write_text(own_names(count))
        began = time.process_time()
        read_one(path)
        taken.append(time.process_time() - began)
    assert taken[1] < 12 * taken[0] + 0.5  # with their square it would be 16, and 30 seconds
