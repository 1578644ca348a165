"""Files for people, read back by readers that know nothing of this package; what a failed write leaves."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine.errors import ExportError, ParameterError
from engine.export.dataset import open_dataset
from engine.export.delta import read_delta
from engine.export.formats import selection
from engine.export.formats.output_folder import SUMS
from engine.export.formats.output_formats import OUTPUT_FORMATS, stamps_with_nanoseconds
from engine.export.formats.session_files import write_delta, write_files
from engine.export.tables import DATA_TABLES, SORT, TABLES

from tests.export.sample import HOSTILE, export, framed, tables

TABLE_FORMATS = [to for to in OUTPUT_FORMATS if to != "json"]


def read_csv(folder: Path, name: str) -> list[dict[str, object]]:
    text = (folder / f"{name}.csv").read_bytes().decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def read_ndjson(folder: Path, name: str) -> list[dict[str, object]]:
    # Lines end with LF alone: what stands in a cell is escaped.
    return [json.loads(line) for line in (folder / f"{name}.ndjson").read_bytes().split(b"\n") if line]


def read_parquet(folder: Path, name: str) -> list[dict[str, object]]:
    files = sorted(folder.glob(f"{name}/*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def read_arrow(folder: Path, name: str) -> list[dict[str, object]]:
    with pa.memory_map(str(folder / f"{name}.arrow")) as file:
        return pa.ipc.open_file(file).read_all().to_pylist()


READERS = {"csv": read_csv, "ndjson": read_ndjson, "parquet": read_parquet, "arrow": read_arrow}


def cell(value: object, to: str) -> object:  # noqa: PLR0911
    """What the module promises for a value, in plain Python."""
    if to in ("parquet", "arrow"):
        return value
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, dt.date):
        return value.isoformat()
    if to == "ndjson":
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return json.dumps(value, separators=(",", ":"))
    return "" if value is None else str(value)


def stamped(row: dict[str, object]) -> dict[str, object]:
    """A row of ticks or quotes as NDJSON has it: nanoseconds in the stamp."""
    if "ts_ns" not in row:
        return row
    ns = row["ts_ns"]
    whole = dt.datetime.fromtimestamp(ns // 10**9, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return {**{k: v for k, v in row.items() if k != "ts_ns"}, "ts": f"{whole}.{ns % 10**9:09}Z"}


def counted(rows: list[dict[str, object]]) -> Counter[str]:
    return Counter(repr(sorted(row.items())) for row in rows)


@pytest.fixture(scope="module", params=TABLE_FORMATS)
def written(request, first_export, tmp_path_factory):
    to = request.param
    folder = tmp_path_factory.mktemp("files") / to
    write_files(open_dataset(first_export), to, folder)
    return to, folder


@pytest.mark.parametrize("name", DATA_TABLES)
def test_write_files_round_trips_every_row_with_hostile_symbols(first_export, written, name):
    to, folder = written
    rows = open_dataset(first_export).scan(name).collect().to_dicts()
    if to == "ndjson":
        rows = [stamped(row) for row in rows]
    expected = [{column: cell(value, to) for column, value in row.items()} for row in rows]
    found = READERS[to](folder, name)
    if "symbol" in TABLES[name] and name != "fills":
        assert {row["symbol"] for row in found} == set(HOSTILE)
    if to == "csv":  # a number's text may differ
        expected, found = ([{k: number(v) for k, v in row.items()} for row in r] for r in (expected, found))
    assert counted(found) == counted(expected)


def number(text: str) -> object:
    return float(text) if re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", text) and "." in text else text


def test_write_json_round_trips_hostile_symbols(first_export, tmp_path):
    write_files(open_dataset(first_export), "json", tmp_path / "o")
    content = json.loads((tmp_path / "o" / "session.json").read_bytes())
    assert set(content["symbols"]) == set(HOSTILE)
    told = {symbol: block["ticks"] for symbol, block in content["symbols"].items()}
    at = next(iter(told.values()))["columns"].index("conditions")
    assert {symbol: {row[at] for row in ticks["data"]} for symbol, ticks in told.items()} == {s: {s} for s in HOSTILE}


@pytest.mark.parametrize("to", OUTPUT_FORMATS)
def test_write_files_no_symbol_is_in_a_path_and_sums_hold(first_export, tmp_path, to):
    files = write_files(open_dataset(first_export), to, tmp_path / "o")
    names = sorted(str(path.relative_to(tmp_path / "o")) for path in files)
    assert all(
        re.fullmatch(r"(session\.json|SHA256SUMS|[a-z_]+\.[a-z]+|[a-z_]+/([0-9]+[a-z]+-)?[a-z0-9_-]+\.parquet)", n)
        for n in names
    )
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "o" / SUMS).read_text().splitlines())
    assert sorted([*sums, SUMS]) == names
    assert all(hashlib.sha256((tmp_path / "o" / n).read_bytes()).hexdigest() == told for n, told in sums.items())
    assert (
        subprocess.run(["sha256sum", "-c", SUMS], cwd=tmp_path / "o", capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize("to", TABLE_FORMATS)
def test_write_files_in_small_pieces_gives_the_same_rows_in_order(first_export, tmp_path, monkeypatch, to):
    write_files(open_dataset(first_export), to, tmp_path / "whole")
    monkeypatch.setattr(selection, "ROWS_PER_BATCH", 10)
    write_files(open_dataset(first_export), to, tmp_path / "pieces")
    for name in DATA_TABLES:
        assert READERS[to](tmp_path / "pieces", name) == READERS[to](tmp_path / "whole", name)


def test_write_parquet_files_are_sorted_and_open_by_glob(first_export, tmp_path):
    write_files(open_dataset(first_export), "parquet", tmp_path / "o")
    for name in TABLES:
        by_glob = pl.read_parquet(f"{tmp_path}/o/{name}/*.parquet")
        assert by_glob.schema == dict(TABLES[name])
        assert by_glob.height == open_dataset(first_export).rows(name)
        for file in (tmp_path / "o" / name).iterdir():
            part = pl.read_parquet(file)
            assert part.equals(part.sort(SORT[name], maintain_order=True))
    assert "0700" in pl.read_parquet(f"{tmp_path}/o/bars/*.parquet")["symbol"]


@pytest.mark.parametrize("to", TABLE_FORMATS)
def test_write_files_narrowed_holds_what_was_asked_for(first_export, tmp_path, to):
    chosen = {"symbols": ["0700", "BRK/B"], "intervals": ["1m"], "start": dt.date(2013, 11, 1)}
    write_files(open_dataset(first_export), to, tmp_path / "o", **chosen)
    rows = READERS[to](tmp_path / "o", "bars")
    assert {(row["symbol"], row["interval"], str(row["session"])) for row in rows} == {
        ("0700", "1m", "2013-11-01"),
        ("BRK/B", "1m", "2013-11-01"),
    }
    assert READERS[to](tmp_path / "o", "gaps") == []


@pytest.mark.parametrize("to", OUTPUT_FORMATS)
def test_write_files_over_a_former_export_replaces_it_whole(first_export, tmp_path, to):
    write_files(open_dataset(first_export), "parquet", tmp_path / "o")
    write_files(open_dataset(first_export), to, tmp_path / "o", symbols=["CON"])
    write_files(open_dataset(first_export), to, tmp_path / "fresh", symbols=["CON"])
    assert contents(tmp_path / "o") == contents(tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "o"]


def test_write_files_over_a_former_export_with_a_file_added_is_refused(first_export, tmp_path):
    write_files(open_dataset(first_export), "csv", tmp_path / "o")
    (tmp_path / "o" / "notes.txt").write_text("mine")
    before = contents(tmp_path / "o")
    with pytest.raises(ExportError, match=r"holds notes\.txt"):
        write_files(open_dataset(first_export), "csv", tmp_path / "o")
    assert contents(tmp_path / "o") == before


@pytest.mark.parametrize("kind", ["file", "link"])
def test_write_files_where_no_folder_is_is_refused(first_export, tmp_path, kind):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "o").write_text("x") if kind == "file" else (tmp_path / "o").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExportError, match="is no folder"):
        write_files(open_dataset(first_export), "csv", tmp_path / "o")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_write_csv_spreadsheet_safe_guards_text_and_leaves_numbers(tmp_path):
    symbols = ["=cmd", "+1", "-x", "@a", "\tx", "\rx", "x=1", "'=1", ""]
    rows = [{"symbol": s, "ts": None, "session": None, "value": -1.5} for s in symbols]
    given = {
        "open_interest": framed(
            "open_interest", [{**row, "ts": dt.datetime(2024, 1, 2, tzinfo=dt.UTC)} for row in rows]
        )
    }
    write_files(given, "csv", tmp_path / "o", spreadsheet_safe=True)
    found = read_csv(tmp_path / "o", "open_interest")
    assert {row["symbol"] for row in found} == {"'=cmd", "'+1", "'-x", "'@a", "'\tx", "'\rx", "x=1", "'=1", ""}
    assert {row["value"] for row in found} == {"-1.5"}


@pytest.mark.parametrize("options", [{"to": "xlsx"}, {"to": "json", "spreadsheet_safe": True}])
def test_write_files_with_bad_options_is_refused(first_export, tmp_path, options):
    with pytest.raises(ParameterError, match="received"):
        write_files(open_dataset(first_export), output=tmp_path / "o", **options)


def test_write_delta_holds_what_changed_and_what_went(exported, tmp_path):
    kept = [symbol for symbol in HOSTILE if symbol != "CON"]
    export(exported, 2, kept)
    write_delta(exported, read_delta(exported, 1), tmp_path / "o")
    content = json.loads((tmp_path / "o" / "delta.json").read_bytes())
    about = content["metadata"]
    assert (about["format"], about["since_revision"], about["revision"], about["full"]) == (
        "session_delta",
        1,
        2,
        False,
    )
    assert set(content["symbols"]) == set(kept)
    block = content["symbols"]["0700"]["bars"]["5m"]
    assert (block["derived"], block["base"], block["count"]) == (True, "1m", 14)
    gone = content["removed"]["symbols"]
    assert gone == {"columns": ["symbol"], "data": [["CON"]]}
    assert len(content["removed"]["bars"]["data"]) == 56


def test_write_delta_of_nothing_is_empty_and_does_not_replace_one(exported, tmp_path):
    write_delta(exported, read_delta(exported, 1), tmp_path / "o")
    content = json.loads((tmp_path / "o" / "delta.json").read_bytes())
    assert (content["symbols"], content["removed"]) == ({}, {})
    with pytest.raises(ExportError, match="new or empty"):
        write_delta(exported, read_delta(exported, 1), tmp_path / "o")


@pytest.mark.parametrize("to", TABLE_FORMATS)
def test_write_delta_as_tables_holds_what_changed_and_what_went(exported, tmp_path, to):
    export(exported, 2, [symbol for symbol in HOSTILE if symbol != "CON"])
    delta = read_delta(exported, 1)
    write_delta(exported, delta, tmp_path / "o", to)
    about = json.loads((tmp_path / "o" / "metadata.json").read_bytes())
    assert [about[name] for name in ("since_revision", "revision", "full", "reason")] == [1, 2, False, ""]
    read = READERS[to]
    for folder, held in (("upserts", delta.upserts), ("removed", delta.removed)):
        for name, rows in held.items():
            shown = stamps_with_nanoseconds(rows) if to == "ndjson" else rows
            want = [{column: cell(value, to) for column, value in row.items()} for row in shown.iter_rows(named=True)]
            got = read(tmp_path / "o" / folder, name)
            assert Counter(map(repr, got)) == Counter(map(repr, want)), name
            assert rows.is_empty() or list(got[0]) == shown.columns
    assert delta.removed["ticks"].height
    lines = (tmp_path / "o" / SUMS).read_text().splitlines()
    assert len(lines) == sum(path.is_file() for path in (tmp_path / "o").rglob("*")) - 1


def test_write_delta_tells_removed_ticks_by_the_stamp_that_rows_have(exported, tmp_path):
    export(exported, 2, [symbol for symbol in HOSTILE if symbol != "CON"])
    write_files(open_dataset(exported, 1), "json", tmp_path / "before")
    write_delta(exported, read_delta(exported, 1), tmp_path / "o")
    gone = json.loads((tmp_path / "o" / "delta.json").read_bytes())["removed"]["ticks"]
    before = json.loads((tmp_path / "before" / "session.json").read_bytes())["symbols"]["CON"]["ticks"]
    stamps = {row[before["columns"].index("ts")] for row in before["data"]}
    assert {row[gone["columns"].index("ts")] for row in gone["data"]} == stamps


def test_write_delta_of_a_symbol_that_is_nowhere_is_refused(exported, tmp_path):
    with pytest.raises(ParameterError, match="received 'NOPE'"):
        write_delta(exported, read_delta(exported, 1), tmp_path / "o", symbols=["NOPE"])


FULL_DISK = """
import resource, sys
from pathlib import Path
from engine.errors import ExportError
from engine.export.dataset import open_dataset
from engine.export.formats.session_files import write_files
source, to, output = open_dataset(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
failed = 0
for limit in map(int, sys.argv[4:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_files(source, to, output)
    except ExportError as error:
        failed += 1
    beside = sorted(path.name for path in output.parent.iterdir())
    assert beside == [output.name], (limit, beside)
print(failed)
"""


@pytest.mark.parametrize("to", OUTPUT_FORMATS)
def test_write_files_on_a_full_disk_leaves_the_former_output_and_nothing_else(first_export, tmp_path, to):
    output = tmp_path / "beside" / "o"
    write_files(open_dataset(first_export), to, output)
    before = contents(output)
    largest = max(map(len, before.values()))
    limits = [0, 1, 10, 100, 500, 1000, 2000, *(largest * n // 10 for n in range(1, 10)), largest - 1]
    command = [sys.executable, "-c", FULL_DISK, first_export, to, output, *limits]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(len(limits))], done.stderr
    assert contents(output) == before


def test_write_files_of_no_rows_opens_everywhere(tmp_path):
    for to in TABLE_FORMATS:
        write_files({}, to, tmp_path / to)
        for name in DATA_TABLES:
            assert READERS[to](tmp_path / to, name) == []
    assert pl.read_parquet(tmp_path / "parquet" / "bars" / "*.parquet").schema == dict(TABLES["bars"])


def test_write_files_of_frames_equals_those_of_their_export(tmp_path):
    export(tmp_path / "export", 1, ["0700"])
    write_files(open_dataset(tmp_path / "export"), "parquet", tmp_path / "a")
    given = {name: open_dataset(tmp_path / "export").scan(name).collect() for name in tables(1)}
    write_files(given, "parquet", tmp_path / "b")
    for name in DATA_TABLES:
        assert read_parquet(tmp_path / "a", name) == read_parquet(tmp_path / "b", name)
