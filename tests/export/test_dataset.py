from __future__ import annotations

import datetime as dt
import json
import threading
import time

import polars as pl
import pytest
from deltalake import DeltaTable
from engine.errors import ExportError, ParameterError, SchemaError
from engine.export import dataset, delta_table, parquet, target_folder
from engine.export.dataset import open_dataset, write_dataset
from engine.export.tables import DATA_TABLES, SORT, TABLES, conform_table
from filelock import FileLock
from polars.testing import assert_frame_equal

from tests.export.sample import EXPECTED_COUNTS, HOSTILE, WRITTEN_AT, counts, export, generations, tables


def scans(target, revision=None):
    opened = open_dataset(target, revision)
    return {name: opened.scan(name) for name in opened.tables}


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def heads_equal_pins(target):
    last = open_dataset(target).exports.row(-1, named=True)
    pins = dict(zip(last["table_names"], last["table_versions"], strict=True))
    return {
        name: sorted(delta_table.file_paths(target / name)) == sorted(delta_table.file_paths(target / name, pins[name]))
        for name in TABLES
    }


@pytest.mark.parametrize("name", DATA_TABLES)
def test_write_hostile_tables_reads_back_exactly(exported, name):
    want = conform_table(name, tables(1)[name])
    got = open_dataset(exported).scan(name).collect()
    assert got.schema == pl.Schema(TABLES[name])
    assert_frame_equal(got, want, check_row_order=False)


def test_write_tables_files_are_sorted_and_keep_symbols_out_of_paths(exported):
    opened = open_dataset(exported)
    for name in DATA_TABLES:
        for path in opened.files(name):
            rows = pl.read_parquet(path, hive_partitioning=False)
            assert_frame_equal(rows, rows.sort(SORT[name]))
            revision, sha256 = path.stem.split("-")
            assert (revision, len(sha256)) == ("1", 64)
    folders = {str(path.parent.relative_to(exported)) for path in opened.files("bars")}
    assert folders == {f"bars/{i}/2013-{m}" for i in ("1m", "5m") for m in (10, 11)}


def test_write_nothing_gives_every_table_empty(tmp_path):
    assert write_dataset(tmp_path / "out", {}, store_id="s", store_revision=0, written_at=WRITTEN_AT) == 1
    opened = open_dataset(tmp_path / "out")
    assert opened.tables == tuple(TABLES)
    for name in DATA_TABLES:
        assert opened.files(name) == []
        assert opened.scan(name).collect_schema() == pl.Schema(TABLES[name])
        assert opened.scan(name).collect().is_empty()


def test_write_again_replaces_and_keeps_former_revision(tmp_path):
    for generation in (1, 2, 3):
        assert export(tmp_path, generation) == generation
    for generation in (1, 2, 3):
        read = scans(tmp_path, generation)
        assert set(map(frozenset, generations(read).values())) == {frozenset({generation})}
        assert counts(read) == EXPECTED_COUNTS
    assert open_dataset(tmp_path).revision == 3
    assert open_dataset(tmp_path).scan("exports").collect()["revision"].to_list() == [1, 2, 3]
    assert all(heads_equal_pins(tmp_path).values())


def test_write_exports_row_says_where_it_came_from(exported):
    row = open_dataset(exported).exports.row(0, named=True)
    assert (row["revision"], row["since_revision"], row["store_id"], row["store_revision"]) == (1, None, "s", 1)
    assert row["written_at"] == WRITTEN_AT
    assert dict(zip(row["table_names"], row["table_versions"], strict=True)) == dict.fromkeys(TABLES, 1)


def test_write_same_rows_again_writes_no_file_twice(tmp_path):
    export(tmp_path, 1)
    before = {path for name in DATA_TABLES for path in open_dataset(tmp_path).files(name)}
    shuffled = {name: frame.sample(fraction=1, shuffle=True, seed=5) for name, frame in tables(1).items()}
    shuffled["quality"] = tables(2)["quality"]
    write_dataset(tmp_path, shuffled, store_id="s", store_revision=2, written_at=WRITTEN_AT)
    after = {path for name in DATA_TABLES for path in open_dataset(tmp_path).files(name)}
    assert {path.parent.name for path in after - before} == {"quality"}
    assert generations(scans(tmp_path))["quality"] == {2}


def test_write_same_tables_elsewhere_gives_same_names(tmp_path):
    for place in ("a", "b"):
        export(tmp_path / place, 1)
    names = [
        [
            str(path.relative_to(tmp_path / place))
            for name in TABLES
            for path in open_dataset(tmp_path / place).files(name)
        ]
        for place in ("a", "b")
    ]
    assert names[0] == names[1]


def test_write_symbol_that_left_has_no_row(tmp_path):
    export(tmp_path, 1)
    write_dataset(tmp_path, tables(2, ["ONLY"]), store_id="s", store_revision=2, written_at=WRITTEN_AT)
    for name in ("bars", "ticks", "gaps", "quality", "symbols"):
        assert set(open_dataset(tmp_path).scan(name).collect()["symbol"]) == {"ONLY"}


def test_write_large_table_is_cut_into_ordered_files(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_PER_FILE", 50)
    export(tmp_path, 1)
    files = open_dataset(tmp_path).files("bars")
    assert len(files) > 20
    got = open_dataset(tmp_path).scan("bars").filter(interval="1m", month="2013-10").collect()
    assert_frame_equal(got, got.sort(SORT["bars"]))
    assert counts(scans(tmp_path)) == EXPECTED_COUNTS


@pytest.mark.parametrize(("height", "rows"), [(10, 32768), (1 << 20, 32768), ((1 << 20) + 1, 32769), (1 << 25, 131072)])
def test_size_row_groups_is_a_32nd_within_bounds(height, rows):
    assert parquet.row_group_rows(height) == rows


def test_write_statistics_cover_every_column(exported):
    entry = (exported / "bars" / "_delta_log" / f"{1:020}.json").read_text()
    for line in map(json.loads, entry.splitlines()):
        if "add" in line:
            stats = json.loads(line["add"]["stats"])
            assert set(stats["minValues"]) == set(stats["maxValues"]) == set(stats["nullCount"]) == set(TABLES["bars"])


def test_write_many_times_makes_a_checkpoint_and_stays_right(tmp_path):
    for generation in range(1, 23):
        write_dataset(
            tmp_path,
            {"quality": tables(generation, ["A"])["quality"]},
            store_id="s",
            store_revision=generation,
            written_at=WRITTEN_AT,
        )
    for name in ("quality", "exports"):
        assert (tmp_path / name / "_delta_log" / f"{20:020}.checkpoint.parquet").exists()
    for revision in (1, 19, 20, 21, 22):
        assert set(open_dataset(tmp_path, revision).scan("quality").collect()["duplicates"]) == {revision}
    assert pl.scan_delta(str(tmp_path / "quality")).collect()["duplicates"].to_list() == [22]


@pytest.mark.parametrize("bad", [{"volume": pl.lit("x")}, {"volume": pl.lit(float("inf"))}])
def test_write_frame_that_does_not_fit_touches_nothing(exported, bad):
    before = snapshot(exported)
    with pytest.raises(SchemaError):
        write_dataset(
            exported,
            {**tables(2), "bars": tables(2)["bars"].with_columns(**bad)},
            store_id="s",
            store_revision=2,
            written_at=WRITTEN_AT,
        )
    assert snapshot(exported) == before


@pytest.mark.parametrize("name", ["exports", "candles"])
def test_write_table_that_is_not_given_by_callers_is_refused(tmp_path, name):
    with pytest.raises(SchemaError, match=name):
        write_dataset(tmp_path / "x", {name: pl.DataFrame()}, store_id="s", store_revision=1, written_at=WRITTEN_AT)
    assert not (tmp_path / "x").exists()


def test_write_naive_stamp_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="without a zone"):
        write_dataset(tmp_path, {}, store_id="s", store_revision=1, written_at=dt.datetime(2024, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("stranger", ["notes.txt", "bars", "exports", ".git"])
def test_write_to_unrelated_folder_is_refused_and_leaves_it_alone(tmp_path, stranger):
    (tmp_path / stranger).mkdir()
    (tmp_path / stranger / "file").write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(ExportError, match="neither empty nor an export"):
        export(tmp_path, 1)
    assert snapshot(tmp_path) == before


def test_write_to_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ExportError, match="is a file"):
        export(tmp_path / "out", 1)
    assert (tmp_path / "out").read_text() == "mine"


def test_write_to_foreign_delta_table_named_exports_is_refused(tmp_path):
    delta_table.create(tmp_path / "exports", {"a": pl.String()})
    with pytest.raises(ExportError, match="none of ours"):
        export(tmp_path, 1)


@pytest.mark.parametrize("name", ["with space", "é", "a#b?c", "day=5/out", "[x]*", "it's"])
def test_write_to_odd_path_reads_back(tmp_path, name):
    export(tmp_path / name, 1)
    assert counts(scans(tmp_path / name)) == EXPECTED_COUNTS
    assert export(tmp_path / name, 2) == 2
    assert generations(scans(tmp_path / name))["bars"] == {2}


@pytest.mark.parametrize("name", ["50%20off", "back\\slash", "two\nlines"])
def test_write_to_path_that_logs_cannot_hold_is_refused(tmp_path, name):
    with pytest.raises(ExportError, match="percent sign"):
        export(tmp_path / name, 1)


def test_write_while_another_writes_waits_then_names_the_lock(exported):
    with FileLock(exported / target_folder.LOCK), pytest.raises(ExportError, match="another export is writing"):
        export(exported, 2, lock_timeout=0.2)
    assert export(exported, 2, lock_timeout=0.2) == 2


def test_write_from_two_threads_makes_two_whole_revisions(tmp_path):
    threads = [threading.Thread(target=export, args=(tmp_path, generation)) for generation in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [generations(scans(tmp_path, revision)) for revision in (1, 2)]
    assert sorted(map(str, ({frozenset(v) for v in one.values()} for one in seen))) == sorted(
        map(str, ({frozenset({g})} for g in (1, 2)))
    )


def test_write_when_exports_was_committed_by_somebody_else_fails_and_rolls_back(exported, monkeypatch):
    stage = dataset.stage

    def interfering(name, rows, staging):
        if name == "exports":
            delta_table.commit(
                exported / "exports", TABLES["exports"], [], [], after=1, written_at=WRITTEN_AT, notes={}
            )
        return stage(name, rows, staging)

    monkeypatch.setattr(dataset, "stage", interfering)
    with pytest.raises(ExportError):
        export(exported, 2)
    monkeypatch.undo()
    assert generations(scans(exported))["bars"] == {1}
    assert export(exported, 3) == 2
    assert generations(scans(exported))["bars"] == {3}


def test_open_what_is_no_export_names_it(tmp_path):
    for target in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ExportError, match=str(target)):
            open_dataset(target)


def test_open_unknown_revision_says_which_there_are(exported):
    with pytest.raises(ExportError, match="no revision 7; it has 1 to 1"):
        open_dataset(exported, 7)


def test_open_unknown_table_says_which_there_are(exported):
    with pytest.raises(ExportError, match="no table 'candles'; it has bars"):
        open_dataset(exported).scan("candles")


def test_open_dataset_stays_as_it_was_under_later_exports(tmp_path):
    export(tmp_path, 1)
    opened = open_dataset(tmp_path)
    frames = {name: opened.scan(name) for name in DATA_TABLES}
    export(tmp_path, 2)
    assert set(map(frozenset, generations(frames).values())) == {frozenset({1})}
    assert opened.rows("bars") == EXPECTED_COUNTS["bars"]


def test_read_while_another_writes_sees_one_revision(tmp_path):
    export(tmp_path, 1)
    ends = time.monotonic() + 3
    writer = threading.Thread(target=lambda: [export(tmp_path, g) for g in range(2, 8)])
    writer.start()
    reads = 0
    while writer.is_alive() and time.monotonic() < ends:
        seen = generations(scans(tmp_path))
        assert len(set(map(frozenset, seen.values()))) == 1, seen
        reads += 1
    writer.join()
    assert reads > 0


def test_commit_history_is_readable_by_others(exported):
    assert DeltaTable(str(exported / "bars")).history()[0]["revision"] == "1"
    assert len(HOSTILE) == len(set(HOSTILE))
