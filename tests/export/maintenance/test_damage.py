"""Every kind of damage to every kind of file: readers are right or refuse, `repair` restores or says what is lost."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import engine
import polars as pl
import pytest
from deltalake import write_deltalake
from engine.errors import DamageError, EngineError, ExportError
from engine.export import dataset, delta_table, log_copies
from engine.export.dataset import STAGING, open_dataset
from engine.export.maintenance.vacuum import vacuum
from engine.export.maintenance.verify import verify
from engine.export.maintenance.verify_findings import faults
from engine.export.revision_history import history
from engine.runtime.export_repair import repair

from tests.export.maintenance import damage, exported
from tests.export.maintenance.damage import DAMAGES, is_equal, wrong_answers, wrong_export

DATA = ("bars/1m", "bars/5m", "gaps", "quality", "symbols", "sessions", "ticks")
ENTRIES = [f"entry {table} {at}" for table in ("bars", "exports") for at in ("first", "middle", "last")]
KINDS = [*DATA, "exports last", "exports first", *ENTRIES, "copy first", "copy last"]
# A copy that is gone is no damage: the next export and `repair` write another one.
CASES = [
    (kind, name)
    for kind in KINDS
    for name in DAMAGES
    if (kind[:4], name) not in {("copy", "deleted"), ("copy", "renamed")}
]
IN_SUITE = {
    ("bars/1m", "flipped"),
    ("gaps", "overwritten"),
    ("symbols", "zeroed"),
    ("exports first", "swapped"),
    ("entry bars first", "deleted"),
    ("entry bars last", "folder"),
    ("entry exports first", "zeroed"),
    ("entry exports last", "deleted"),
    ("copy last", "emptied"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return exported.written(tmp_path_factory.mktemp("whole") / "out")


@pytest.fixture(scope="module")
def truth(whole):
    return damage.truth_of(whole)


@pytest.fixture
def target(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


def put_right(target: Path, **options):
    return repair(target, calendars=exported.CALENDARS, clock=exported.clock(9), **options)


def place_of(target: Path, kind: str) -> tuple[Path, Path]:
    """A file of a kind, and another one that it may be exchanged with."""
    word, _, at = kind.partition(" ")
    if word == "entry":
        table, _, at = at.partition(" ")
        listed = list(delta_table.log_entries(target / table).values())
    elif word == "copy":
        listed = list(log_copies.copy_paths(target).values())
    elif word == "exports":
        listed = [target / "exports" / path for path in sorted(p.name for p in (target / "exports").glob("*.parquet"))]
    else:
        files = open_dataset(target).files(kind.partition("/")[0])
        listed = [open_dataset(target).files("calendars")[0], *(path for path in files if kind in str(path))]
        at = "last"
    chosen = {"first": 0, "middle": 1, "last": -1}[at]
    return listed[chosen], listed[chosen + 1 if chosen != -1 else -2]


@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param(*case, marks=[] if case in IN_SUITE else [pytest.mark.slow]) for case in CASES],
)
def test_damage_is_answered_rightly_or_refused_and_repaired_or_named(target, truth, kind, name):
    DAMAGES[name](*place_of(target, kind))
    wrong = [*wrong_answers(target, truth)]
    wrong += wrong_export(shutil.copytree(target, target.with_name("next")), truth)
    assert faults(verify(target)).height
    done = put_right(target)
    assert not done.actions["detail"].str.contains("engine repair").any()  # no circle
    lost = done.actions.filter(action="lost")["detail"].to_list()
    mine = [detail for detail in lost if "only former revisions" not in detail]
    assert not [detail for detail in mine if "load them again" not in detail and "`symbols` is damaged" not in detail]
    if mine:
        wrong += wrong_answers(target, truth)
    else:
        rebuilt = done.actions.filter(action="rebuilt").height > 0
        counted = ("duplicates", "corrections", "revision") if rebuilt else ()
        assert is_equal(exported.contents(target), truth[max(truth)], counted)
        wrong += wrong_export(shutil.copytree(target, target.with_name("after")), {**truth, done.revision: truth[3]})
        if lost or rebuilt:
            vacuum(target, keep_revisions=1, clock=exported.clock(9))
        assert faults(verify(target)).is_empty()
    assert wrong == []


def test_log_that_lost_its_removals_is_refused_and_not_counted_twice(target, truth):
    """An entry that is valid JSON and adds what it should, and no longer removes: every gap would come twice."""
    entry = list(delta_table.log_entries(target / "gaps").values())[-1]
    lines = entry.read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"remove"' not in line]
    assert len(kept) < len(lines)
    entry.write_text("".join(kept))
    assert pl.read_delta(str(target / "gaps")).height > truth[3]["gaps"].height
    for read in (
        lambda: engine.sql(target, "SELECT count(*) FROM gaps"),
        lambda: open_dataset(target).scan("gaps"),
        lambda: history(target),
        lambda: exported.settle(exported.stored(), target, 5),
    ):
        with pytest.raises(DamageError, match=f"{entry.name}.*engine repair"):
            read()
    assert put_right(target).actions["action"].to_list() == ["restored"]
    assert list(wrong_answers(target, truth)) == []


def add_foreign_row(target: Path) -> None:
    """A row that another program appends, as any Delta writer can."""
    row = open_dataset(target).exports.tail(1).with_columns(pl.lit(900, pl.Int64).alias("revision"))
    write_deltalake(str(target / "exports"), row.to_arrow(), mode="append")


def test_foreign_row_in_exports_is_refused_and_cleaned_up(target, truth):
    add_foreign_row(target)
    with pytest.raises(DamageError, match=r"a program that is not engine wrote to it.*engine repair"):
        open_dataset(target)
    assert faults(verify(target))["file"].str.contains("exports/").all()
    wrong = list(wrong_answers(target, truth))
    assert wrong == list(wrong_export(shutil.copytree(target, target.with_name("next")), truth)) == []
    assert put_right(target).actions["action"].to_list() == ["put back"]
    assert list(wrong_answers(target, truth)) == []
    assert faults(verify(target)).is_empty()
    assert exported.settle(exported.stored(), target, 10) == 4


@pytest.mark.parametrize("has_copies", [True, False])
def test_lost_last_entry_of_exports_never_leads_to_a_revision_used_twice(target, truth, has_copies):
    if not has_copies:
        exported.forget_sums(target)
    entry = list(delta_table.log_entries(target / "exports").values())[-1]
    entry.unlink()
    for act in (lambda: open_dataset(target), lambda: exported.settle(exported.stored(), target, 5)):
        with pytest.raises(DamageError, match=f"{entry.name}: the log entry is not there.*engine repair"):
            act()
    done = put_right(target)
    assert done.revision == 3
    assert set(done.actions["action"]) <= {"restored", "put back"}
    assert list(wrong_answers(target, truth)) == []
    assert exported.settle(exported.stored(), target, 10) == 4
    assert open_dataset(target).exports["revision"].to_list() == [1, 2, 3, 4]
    assert faults(verify(target)).is_empty()


@pytest.mark.parametrize("table", ["bars", "exports"])
@pytest.mark.parametrize("which", [-1, -2])
def test_duplicated_entry_changes_no_answer(target, truth, table, which):
    entries = delta_table.log_entries(target / table)
    shutil.copy(list(entries.values())[which], delta_table.log_entry_path(target / table, max(entries) + 1))
    wrong = [*wrong_answers(target, truth), *wrong_export(shutil.copytree(target, target.with_name("next")), truth)]
    assert wrong == []
    put_right(target)
    assert list(wrong_answers(target, truth)) == []
    assert exported.settle(exported.stored(), target, 10) == 4
    assert faults(verify(target)).is_empty()


@pytest.mark.parametrize("table", ["bars", "exports"])
def test_torn_entry_after_the_last_one_is_removed(target, truth, table):
    """Left by a loss of power in a commit: its name was flushed, its bytes were not."""
    entries = delta_table.log_entries(target / table)
    delta_table.log_entry_path(target / table, max(entries) + 1).write_bytes(b'{"commitInfo":{')
    assert list(wrong_answers(target, truth)) == []
    if table == "exports":
        assert put_right(target).actions["action"].to_list() == ["removed"]
    assert exported.settle(exported.stored(), target, 10) == 4
    assert faults(verify(target)).is_empty()


def test_lost_entry_without_a_copy_is_named_with_the_revision_that_can_be_opened(target, truth):
    exported.forget_sums(target)
    list(delta_table.log_entries(target / "gaps").values())[-1].unlink()
    done = put_right(target)
    (lost,) = done.actions.to_dicts()
    assert (lost["action"], lost["table"]) == ("lost", "gaps")
    assert "revision 2 is the last one that can be opened" in lost["detail"]
    assert "engine repair" not in lost["detail"]
    assert is_equal(exported.contents(target, 2), truth[2])
    with pytest.raises(DamageError, match="the log entry is not there"):
        open_dataset(target).scan("gaps")
    # The other remedy that the message names.
    assert exported.settle(exported.stored(), target.with_name("anew"), 5) == 1


def test_hint_to_a_checkpoint_that_is_not_there_is_removed(target, truth):
    hint = target / "bars" / delta_table.LOG / "_last_checkpoint"
    hint.write_text('{"version": 17, "size": 1}')
    assert list(wrong_answers(target, truth)) == []
    assert put_right(target).actions["file"].to_list() == [str(hint.relative_to(target))]
    assert not hint.exists()
    assert faults(verify(target)).is_empty()


def test_foreign_files_change_no_answer_and_stay(target, truth):
    mine = [target / "bars" / "notes.txt", target / "readme.md", target / "gaps" / "mine.parquet"]
    for path in mine:
        path.write_bytes(b"mine")
    assert list(wrong_answers(target, truth)) == []
    assert faults(verify(target)).is_empty()
    put_right(target)
    assert exported.settle(exported.stored(), target, 10) == 4
    assert all(path.read_bytes() == b"mine" for path in mine)


def test_file_in_place_of_a_folder_is_refused_with_its_name(target):
    shutil.rmtree(target / "gaps" / delta_table.LOG)
    (target / "gaps" / delta_table.LOG).write_bytes(b"x")
    with pytest.raises(EngineError, match=r"gaps/_delta_log"):
        open_dataset(target).scan("gaps")


def test_killed_repair_leaves_what_the_next_one_clears(target, truth):
    (target / ".repair").mkdir()
    (target / ".repair" / "x").write_bytes(b"half")
    list(delta_table.log_entries(target / "exports").values())[-1].unlink()
    put_right(target)
    assert not (target / ".repair").exists()
    assert not (target / STAGING).exists()
    assert list(wrong_answers(target, truth)) == []


def test_vacuum_then_damage_is_repaired_from_the_copy_that_is_left(tmp_path):
    target = exported.minutes(tmp_path / "out", 24)
    vacuum(target, keep_revisions=2, clock=exported.clock(9))
    last = open_dataset(target).revision
    before = exported.contents(target)
    (only,) = log_copies.copy_paths(target).values()
    assert only.is_file()
    for table in ("bars", "exports"):
        for path in (
            *delta_table.checkpoint_paths(target / table).values(),
            list(delta_table.log_entries(target / table).values())[-1],
        ):
            path.write_bytes(b"")
    with pytest.raises(ExportError, match="engine repair"):
        open_dataset(target)
    assert set(put_right(target).actions["action"]) == {"restored"}
    assert open_dataset(target).revision == last
    assert is_equal(exported.contents(target), before)
    assert faults(verify(target)).is_empty()


def test_copy_that_has_no_room_is_made_by_the_next_export(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target, session = tmp_path / "out", exported.stored()
    with monkeypatch.context() as then:
        then.setattr(dataset, "copy_new_entries", full)
        assert exported.settle(session, target, 0) == 1
    assert log_copies.newest_copied_version(target) == -1
    assert open_dataset(target).revision == 1
    assert not (target / STAGING).exists()
    assert exported.settle(session, target, 1) == 2
    list(delta_table.log_entries(target / "bars").values())[1].unlink()
    assert put_right(target).actions["action"].to_list() == ["restored"]
