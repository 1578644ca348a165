"""A delta costs by what changed: files read and bytes written do not grow with the export."""

from __future__ import annotations

import polars as pl
import pytest
from engine.export import table_edits
from engine.export.dataset import open_dataset
from engine.export.delta import read_delta
from engine.export.tables import DATA_TABLES

from tests.export.store_sample import SLOTS, at, bars, new_store, put, register, settle

SYMBOLS = [f"S{n:02d}" for n in range(20)]
MINUTE = 7


def live(sessions):
    """A store of whole sessions and one that runs, exported up to a minute of it."""
    store = new_store()
    for symbol in SYMBOLS:
        register(store, symbol, ("5m",))
        days = [bars(symbol, day, list(range(SLOTS))) for day in range(sessions)]
        store.append(pl.concat([*days, bars(symbol, sessions, list(range(1, MINUTE)))]), interval="1m")
    store.set_as_of(at(sessions, MINUTE))
    settle(store)
    return store


def minute(store, day, slot, value=2.0):
    store.append(pl.concat([bars(symbol, day, [slot], value) for symbol in SYMBOLS]), interval="1m")
    settle(store)


@pytest.fixture
def rows_read(monkeypatch):
    """Rows of every file that an export looked into."""
    counted = []
    read = table_edits.scan_file

    def counting(name, file):
        counted.append((name, read(name, file).select(pl.len()).collect().item()))
        return read(name, file)

    monkeypatch.setattr(table_edits, "scan_file", counting)
    return counted


def fresh(target, revision):
    opened = open_dataset(target, revision)
    files = [file for name in DATA_TABLES for file in opened.files(name) if file.name.startswith(f"{revision}-")]
    return {file.relative_to(target).parts[0]: file.stat().st_size for file in files}


def cost(target, sessions, rows_read):
    store = live(sessions)
    put(store, target)
    costs = []
    for slot in (MINUTE, MINUTE + 1):
        rows_read.clear()
        store.set_as_of(at(sessions, slot + 1))
        minute(store, sessions, slot)
        revision = put(store, target)
        costs.append((sorted(rows_read), fresh(target, revision)))
    assert open_dataset(target).exports["since_revision"].to_list() == [None, 1, 2]
    return costs


def test_export_of_one_minute_costs_the_same_after_one_session_and_after_many(tmp_path, rows_read):
    few, many = (cost(tmp_path / str(n), n, rows_read) for n in (1, 25))
    for (read, written), (read_after_many, written_after_many) in zip(few, many, strict=True):
        assert read == read_after_many
        assert {name for name, _ in read} == {"quality"}
        assert sum(height for _, height in read) <= 8 * len(SYMBOLS)
        assert set(written) == set(written_after_many) == {"bars", "quality", "symbols"}
        for table, size in written.items():
            assert written_after_many[table] <= 1.1 * size, table


def test_export_of_pure_appends_makes_one_file_per_folder_and_drops_none(tmp_path, rows_read):
    store = live(1)
    put(store, tmp_path)
    store.set_as_of(at(1, SLOTS))
    minute(store, 1, 9)
    put(store, tmp_path)
    then, now = (set(open_dataset(tmp_path, n).files("bars")) for n in (1, 2))
    assert then < now
    assert sorted(str(file.parent.relative_to(tmp_path)) for file in now - then) == [
        "bars/1m/2024-01",
        "bars/5m/2024-01",
    ]
    assert "bars" not in dict(rows_read)


def test_export_of_one_correction_rewrites_only_the_file_that_holds_it(tmp_path):
    store = live(4)
    put(store, tmp_path)
    store.append(bars("S03", 0, [3], 9.0), interval="1m")
    put(store, tmp_path)
    then, now = (set(open_dataset(tmp_path, n).files("bars")) for n in (1, 2))
    assert [str(file.parent.relative_to(tmp_path)) for file in then - now] == ["bars/1m/2024"]
    assert [str(file.parent.relative_to(tmp_path)) for file in now - then] == ["bars/1m/2024"]
    assert read_delta(tmp_path, 1).upserts["bars"].select("symbol", "ts", "close").rows() == [("S03", at(0, 3), 9.0)]


def test_export_of_what_is_left_of_a_large_file_keeps_it_apart_from_new_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(table_edits, "SMALL_ROWS", 20)
    store = live(2)
    put(store, tmp_path)
    store.append(bars("S03", 0, [3], 9.0), interval="1m")
    put(store, tmp_path)
    now = open_dataset(tmp_path).statistics("bars").filter(pl.col("path").str.starts_with("1m/2024/2-"))
    assert now["num_records"].min() == 1
    assert now.height == 2
