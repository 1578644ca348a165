"""Logs and checkpoints that are not what was written: `verify` names them, nothing is removed on their word."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine.errors import ExportError
from engine.export import delta_table
from engine.export.dataset import open_dataset
from engine.export.maintenance.log_sums import altered_log_files
from engine.export.maintenance.vacuum import vacuum
from engine.export.maintenance.verify import verify
from engine.export.tables import TABLES
from engine.runtime.export_repair import repair

from tests.export.maintenance import exported
from tests.export.store_sample import bars, new_store, register


def settled(target: Path, revisions: int) -> Path:
    session = new_store()
    register(session, "A")
    for number in range(revisions):
        session.append(bars("A", number // 12, [number % 12], number + 1.0), interval="1m")
        exported.settle(session, target, number / 60)
    return target


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Enough revisions for a checkpoint of most tables, and one that notes it."""
    return settled(tmp_path_factory.mktemp("sums") / "out", 22)


@pytest.fixture
def target(source, tmp_path):
    return shutil.copytree(source, tmp_path / "out")


def put_right(target):
    return repair(target, calendars=exported.CALENDARS, clock=exported.clock(9))


def checkpoint(target: Path, table: str) -> Path:
    return delta_table.checkpoint_paths(target / table)[20]


def lie(path: Path) -> None:
    """A checkpoint that can be read, and names a file that is not there instead of one that is."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    add = next(row["add"] for row in rows if row.get("add"))
    add["path"] = add["path"].replace(".parquet", "0.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def files(target: Path) -> set[Path]:
    return {path for path in target.rglob("*.parquet") if delta_table.LOG not in path.parts}


DAMAGE = {
    "lie": lie,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "flip": lambda path: exported.flip(path, path.stat().st_size * 4),
}


def test_verify_of_every_log_entry_whose_notes_were_changed_names_it(target):
    assert verify(target).is_empty()
    for table in TABLES:
        for entry in sorted((target / table / delta_table.LOG).glob("*.json"))[-3:]:
            text = entry.read_text()
            entry.write_text(text.replace('"commitInfo":{', '"commitInfo":{"note":"x",', 1))
            found = verify(target, quick=True)
            assert set(found["file"]) == {str(entry.relative_to(target))}
            assert set(found["check_name"]) <= {"log", "readable"}
            entry.write_text(text)


def test_export_makes_a_checkpoint_once(target):
    before = {
        path: path.stat().st_mtime_ns
        for table in TABLES
        for path in delta_table.checkpoint_paths(target / table).values()
    }
    assert before
    session = new_store(store_id=open_dataset(target).exports["store_id"][-1])
    register(session, "A")
    exported.settle(session, target, 5)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("table", ["bars", "exports"])
def test_repair_of_a_damaged_checkpoint_reads_the_entries_instead(target, table, damage):
    whole, held = exported.contents(target), files(target)
    DAMAGE[damage](checkpoint(target, table))
    assert str(checkpoint(target, table).relative_to(target)) in verify(target)["file"].to_list()
    done = put_right(target)
    assert done.actions.filter(table=table)["detail"].to_list() == ["a damaged checkpoint, whose entries are all there"]
    assert verify(target).is_empty()
    assert files(target) == held
    assert all(frame.equals(whole[name]) for name, frame in exported.contents(target).items())


@pytest.mark.parametrize(
    ("damage", "noted"), [("lie", True), ("cut", True), ("flip", True), ("lie", False), ("cut", False)]
)
def test_vacuum_with_a_damaged_checkpoint_removes_nothing(target, damage, noted):
    if not noted:
        exported.forget_sums(target)
    held = files(target)
    DAMAGE[damage](checkpoint(target, "bars"))
    with pytest.raises(
        ExportError, match=r"is not what was written|is not what the log of `exports` notes|checkpoint cannot be read"
    ):
        vacuum(target, keep_revisions=1, clock=exported.clock(9))
    assert files(target) == held


def test_vacuum_keeps_what_is_noted_of_log_files_that_stay(target):
    session_target = settled(target.parent / "more", 45)
    vacuum(session_target, keep_revisions=1, clock=exported.clock(9))
    assert not delta_table.log_entry_path(session_target / "exports", 5).exists()
    assert verify(session_target).is_empty()
    path = delta_table.checkpoint_paths(session_target / "bars")[40]
    exported.flip(path, 8 * path.stat().st_size - 100)
    assert altered_log_files(session_target) == [("bars", path)]
    entry = delta_table.log_entry_path(session_target / "calendars", 1)
    entry.write_text(entry.read_text().replace('"commitInfo":{', '"commitInfo":{"note":"x",', 1))
    assert ("calendars", entry) in altered_log_files(session_target)
