from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from engine.errors import ExportError
from engine.export.dataset import open_dataset
from engine.export.delta import read_delta
from engine.export.difference import diff
from engine.export.maintenance import compact as compacting
from engine.export.maintenance.compact import compact
from engine.export.maintenance.verify import verify
from engine.export.maintenance.verify_findings import faults
from engine.export.tables import SORT
from engine.runtime.run import export_session

from tests.export.maintenance import exported
from tests.export.store_sample import bars

LAST = 4


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return exported.minutes(tmp_path_factory.mktemp("live") / "out", LAST)


@pytest.fixture
def target(source, tmp_path):
    return shutil.copytree(source, tmp_path / "out")


def test_compact_live_session_has_few_sorted_files_and_the_same_rows(target):
    before, files = exported.contents(target), len(exported.pinned(target))
    done = compact(target, clock=exported.clock(9))
    assert done.revision == LAST + 1
    after = exported.contents(target)
    assert all(after[name].equals(before[name]) for name in before)
    folders = [path.parent for path in open_dataset(target).files("bars")]
    assert len(folders) == len(set(folders))
    assert len(exported.pinned(target)) < files
    for path in open_dataset(target).files("bars"):
        rows = pl.read_parquet(path)
        assert rows.equals(rows.sort(SORT["bars"]))
    assert faults(verify(target)).is_empty()
    merged = done.merged.filter(folder="1m/2024-01").to_dicts()[0]
    assert (merged["rows"], merged["files_before"], merged["files_after"]) == (3 * LAST, LAST, 1)


def test_compact_leaves_former_revisions_and_their_readers_alone(target):
    opened = open_dataset(target)
    frame = opened.scan("bars")
    before = {revision: exported.contents(target, revision) for revision in (1, 3, LAST)}
    compact(target, clock=exported.clock(9))
    assert frame.collect().height == opened.rows("bars")
    for revision, tables in before.items():
        assert all(rows.equals(exported.contents(target, revision)[name]) for name, rows in tables.items())


def test_compact_is_no_change_to_diff_and_delta(target):
    compact(target, clock=exported.clock(9))
    assert diff(target, LAST, LAST + 1).summary.is_empty()
    delta = read_delta(target, LAST)
    assert not delta.full
    assert all(rows.is_empty() for rows in (*delta.upserts.values(), *delta.removed.values()))


def test_compact_again_does_nothing(target):
    compact(target, clock=exported.clock(9))
    again = compact(target, clock=exported.clock(10))
    assert (again.revision, again.merged.height) == (LAST + 1, 0)
    assert open_dataset(target).revision == LAST + 1


def test_compact_between_exports_of_a_store_changes_nothing_in_the_next(tmp_path):
    session = exported.stored()
    for target in ("plain", "merged"):
        exported.settle(session, tmp_path / target, 0)
    session.append(bars("A", 2, [0, 1, 2]), interval="1m")
    for target in ("plain", "merged"):
        exported.settle(session, tmp_path / target, 1)
    compact(tmp_path / "merged", clock=exported.clock(2))
    session.append(bars("A", 2, [2, 4], 3.0), interval="1m")
    for target in ("plain", "merged"):
        exported.settle(session, tmp_path / target, 3)
        export_session(session, tmp_path / target, exported.clock(4), full=True)
    plain, merged = (exported.contents(tmp_path / target) for target in ("plain", "merged"))
    assert all(plain[name].drop("revision").equals(merged[name].drop("revision")) for name in plain)
    assert verify(tmp_path / "merged").is_empty()


def test_compact_of_damaged_file_is_refused_and_changes_nothing(target):
    path = next(p for p in open_dataset(target).files("bars") if "/1m/" in str(p))
    exported.flip(path, 999)
    with pytest.raises(ExportError, match=f"{path.name}.* damaged"):
        compact(target)
    assert open_dataset(target).revision == LAST


def test_compact_merges_a_bounded_number_of_rows_at_a_time(target, monkeypatch):
    before = exported.contents(target)
    monkeypatch.setattr(compacting, "ROWS_PER_FILE", 6)
    compact(target, clock=exported.clock(9))
    files = [pl.read_parquet(path).height for path in open_dataset(target).files("bars") if "/1m/" in str(path)]
    assert sorted(files) == [6, 6]
    assert all(rows.equals(before[name]) for name, rows in exported.contents(target).items())


@pytest.mark.parametrize("kill_at", [4, 11])
def test_compact_killed_leaves_the_former_revision_and_works_again(target, kill_at):
    before = exported.contents(target)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.export.maintenance.exported", "compact", target, str(kill_at)],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert ran.returncode == -signal.SIGKILL
    assert all(rows.equals(before[name]) for name, rows in exported.contents(target).items())
    compact(target, clock=exported.clock(10))
    assert faults(verify(target)).is_empty()
    assert all(rows.equals(before[name]) for name, rows in exported.contents(target).items())
