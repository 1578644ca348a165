from __future__ import annotations

import datetime as dt
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from engine.errors import ExportError, ParameterError
from engine.export import delta_table
from engine.export.dataset import open_dataset
from engine.export.delta import read_delta
from engine.export.maintenance.vacuum import vacuum
from engine.export.maintenance.verify import verify
from engine.export.maintenance.verify_findings import faults
from engine.export.tables import DATA_TABLES, TABLES

from tests.export.maintenance import exported
from tests.export.sample import tables as sample_tables

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return exported.written(tmp_path_factory.mktemp("kept") / "out")


@pytest.fixture
def target(source, tmp_path):
    return shutil.copytree(source, tmp_path / "out")


def parquet_files(target):
    return {path for path in target.rglob("*.parquet") if delta_table.LOG not in path.parts}


def test_vacuum_removes_what_only_expired_revisions_pin_and_nothing_else(target):
    before, files = exported.contents(target, 3), parquet_files(target)
    stay = {path for revision in (2, 3) for path in exported.pinned(target, revision)}
    only_first = set(exported.pinned(target, 1)) - stay
    done = vacuum(target, keep_revisions=2, clock=exported.clock(9))
    assert (done.kept, done.expired) == ((2, 3), (1,))
    assert only_first
    assert not any(path.exists() for path in only_first)
    assert stay <= parquet_files(target)
    assert done.removed["files"].sum() == len(files - parquet_files(target))
    assert all(rows.equals(before[name]) for name, rows in exported.contents(target, 3).items())
    assert faults(verify(target)).is_empty()


@pytest.mark.parametrize("keep_revisions", [1, 2, 3])
def test_vacuum_removes_the_files_that_delta_lake_would_of_the_versions_not_kept(target, keep_revisions):
    (target / "bars" / "mine.txt").write_text("no table's file")
    kept = open_dataset(target).exports["revision"].to_list()[-keep_revisions:]
    expected = set()
    for name in DATA_TABLES:
        versions = sorted({open_dataset(target, revision)._versions[name] for revision in kept})
        unreferenced = DeltaTable(target / name).vacuum(
            0, dry_run=True, enforce_retention_duration=False, full=True, keep_versions=versions
        )
        expected |= {target / name / path for path in unreferenced}
    before = parquet_files(target)
    vacuum(target, keep_revisions=keep_revisions, clock=exported.clock(9))
    removed = {path for path in before - parquet_files(target) if path.relative_to(target).parts[0] != "exports"}
    assert expected - removed == {target / "bars" / "mine.txt"}
    assert removed <= expected
    assert bool(removed) == (keep_revisions < 3)


@pytest.mark.parametrize(
    ("keep", "kept_ones"),
    [
        (dt.timedelta(hours=7), (2, 3)),
        (dt.timedelta(hours=6.5), (3,)),
        (dt.timedelta(0), (3,)),
        (dt.timedelta(days=9), (1, 2, 3)),
    ],
)
def test_vacuum_by_time_keeps_revisions_that_stood_within_it(target, keep, kept_ones):
    assert vacuum(target, keep=keep, clock=exported.clock(8.75)).kept == kept_ones


def test_open_expired_revision_names_the_oldest_there_is(target):
    vacuum(target, keep_revisions=1, clock=exported.clock(9))
    with pytest.raises(ExportError, match="revision 2 has expired, its files were removed; it has 3 to 3"):
        open_dataset(target, 2)
    with pytest.raises(ExportError, match="no revision 9; it has 3 to 3"):
        open_dataset(target, 9)


def test_scan_of_a_revision_that_expired_since_it_was_opened_says_so(target):
    opened = open_dataset(target, 1)
    opened.files("gaps")
    vacuum(target, keep_revisions=1, clock=exported.clock(9))
    with pytest.raises(ExportError, match=r"a file of revision 1 is gone; if it has expired, open the export again"):
        opened.scan("gaps")


def test_vacuum_again_removes_nothing(target):
    vacuum(target, keep_revisions=1, clock=exported.clock(9))
    again = vacuum(target, keep_revisions=1, clock=exported.clock(9))
    assert (again.expired, again.removed.height) == ((), 0)


def test_vacuum_leaves_readers_of_the_last_revision_alone(target):
    opened = open_dataset(target)
    frames = {name: opened.scan(name) for name in DATA_TABLES}
    vacuum(target, keep_revisions=1, clock=exported.clock(9))
    assert {name: frame.collect().height for name, frame in frames.items()} == {
        name: opened.rows(name) for name in DATA_TABLES
    }
    for name in DATA_TABLES:
        assert pl.scan_delta(str(target / name)).collect().height == opened.rows(name)


def test_vacuum_then_export_goes_on(target):
    vacuum(target, keep_revisions=1, clock=exported.clock(9))
    assert exported.settle(exported.stored(), target, 10) == 4
    assert faults(verify(target)).is_empty()
    assert open_dataset(target).exports["revision"].to_list() == [1, 2, 3, 4]


def test_vacuum_sends_a_late_consumer_everything(target):
    vacuum(target, keep_revisions=1, clock=exported.clock(9))
    delta = read_delta(target, 1)
    assert delta.full
    assert "there are 3 to 3" in delta.reason


def test_vacuum_after_many_revisions_shortens_the_logs(tmp_path):
    from engine.export.dataset import write_dataset  # noqa: PLC0415

    for generation in range(1, 24):
        rows = {"quality": sample_tables(generation, ["A"])["quality"]}
        write_dataset(tmp_path / "out", rows, store_id="s", store_revision=generation, written_at=exported.NOON)
    done = vacuum(tmp_path / "out", keep_revisions=2, clock=exported.clock(9))
    entries = dict(done.removed.select("table", "log_entries").iter_rows())
    assert entries["quality"] == entries["exports"] == 19
    for revision in (22, 23):
        opened = open_dataset(tmp_path / "out", revision)
        assert set(opened.scan("quality").collect()["duplicates"]) == {revision}
    assert DeltaTable(str(tmp_path / "out" / "quality")).version() == 23
    write_dataset(tmp_path / "out", {}, store_id="s", store_revision=99, written_at=exported.NOON)
    assert open_dataset(tmp_path / "out").rows("quality") == 0
    assert set(verify(tmp_path / "out", 24)["severity"]) <= {"info"}


def test_vacuum_leaves_files_of_others_alone(target):
    mine = target / "bars" / "mine.parquet"
    mine.write_bytes(b"x")
    vacuum(target, keep_revisions=1, clock=exported.clock(9))
    assert mine.exists()


@pytest.mark.parametrize(
    "wanted", [{}, {"keep": dt.timedelta(1), "keep_revisions": 1}, {"keep": dt.timedelta(-1)}, {"keep_revisions": 0}]
)
def test_vacuum_without_one_valid_measure_is_refused(target, wanted):
    before = parquet_files(target)
    with pytest.raises(ParameterError, match="keep"):
        vacuum(target, **wanted)
    assert parquet_files(target) == before


def killed(target, kill_at):
    command = [sys.executable, "-m", "tests.export.maintenance.exported", "vacuum", target, str(kill_at)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def assert_survives(target, kill_at):
    before = exported.contents(target, 3)
    ran = killed(target, kill_at)
    assert ran.returncode == -signal.SIGKILL, ran
    assert all(rows.equals(before[name]) for name, rows in exported.contents(target, 3).items())
    for revision in open_dataset(target).exports.filter(pl.col("table_names").list.len() > 0)["revision"]:
        assert all(path.exists() for path in exported.pinned(target, revision))
    assert faults(verify(target)).is_empty()
    vacuum(target, keep_revisions=1, clock=exported.clock(9))
    assert faults(verify(target)).is_empty()
    pinned = {path for name in TABLES for path in open_dataset(target).files(name)}
    assert len(parquet_files(target) - pinned) <= 2  # the newest `exports`, and the one before


@pytest.mark.parametrize("kill_at", [3, 6, 12])
def test_vacuum_killed_at_some_step_leaves_what_is_kept_whole(target, kill_at):
    assert_survives(target, kill_at)


@pytest.mark.slow
def test_vacuum_killed_at_every_step_leaves_what_is_kept_whole(source, tmp_path):
    steps = int(killed(shutil.copytree(source, tmp_path / "count"), 10**6).stdout)
    for kill_at in range(1, steps + 1):
        assert_survives(shutil.copytree(source, tmp_path / str(kill_at)), kill_at)
