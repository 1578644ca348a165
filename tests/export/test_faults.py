"""What an export leaves when it is killed, when the disk is full, when a step fails."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from engine.errors import ExportError
from engine.export import dataset, delta_table, target_folder
from engine.export.dataset import open_dataset
from engine.export.log_copies import COPIES
from engine.export.tables import DATA_TABLES, TABLES

from tests.export.sample import EXPECTED_COUNTS, MARKS, counts, export, generations

ROOT = Path(__file__).parents[2]
FSYNCS_OF_A_FIRST_EXPORT = 115
FSYNCS_OF_A_RE_EXPORT = 57


def child(target, generation, *, kill_at=0, file_limit=0, symbols="-"):
    command = [sys.executable, "-m", "tests.export.sample", target, generation, kill_at, file_limit, symbols]
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def assert_whole(target, generation):
    opened = open_dataset(target)
    scan = {name: opened.scan(name) for name in DATA_TABLES}
    assert set(map(frozenset, generations(scan).values())) == {frozenset({generation})}
    assert counts(scan) == EXPECTED_COUNTS


def assert_clean(target, generation):
    """Every table's head is its pin, every file on the disk is one that a revision pins, nothing is staged."""
    assert_whole(target, generation)
    heads = {name: pl.scan_delta(str(target / name)) for name in DATA_TABLES}
    assert counts(heads) == EXPECTED_COUNTS
    assert generations(heads) == {name: {generation} for name in MARKS}
    exports = open_dataset(target).exports
    assert exports["revision"].to_list() == list(range(1, exports.height + 1))
    pinned = {path for n in exports["revision"] for name in TABLES for path in open_dataset(target, n).files(name)}
    on_disk = {path for path in target.rglob("*.parquet") if delta_table.LOG not in path.parts}
    assert on_disk == pinned
    assert {path.name for path in target.iterdir()} - {target_folder.LOCK, COPIES} == set(TABLES)
    assert not list(target.rglob("*#*"))


def revisions(target):
    try:
        return open_dataset(target).revision
    except ExportError:
        return 0


def assert_survives_kill(target, before, generation, *, kill_at):
    """Kill an export of `generation` over `before` (0: none); then export again, after which all is right."""
    former = revisions(target)
    process = child(target, generation, kill_at=kill_at)
    out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, (kill_at, out, err)
    now = revisions(target)
    assert now in (former, former + 1)
    standing = generation if now > former else before
    if standing:
        assert_whole(target, standing)
    assert export(target, generation + 1) == now + 1
    assert_clean(target, generation + 1)


# The last flushes are those of the commits, where it could matter most.
CHANCE = random.Random(7)  # noqa: S311
INSTANTS = [*CHANCE.sample(range(1, 20), 2), *CHANCE.sample(range(20, FSYNCS_OF_A_RE_EXPORT + 1), 6)]


@pytest.mark.parametrize("kill_at", INSTANTS)
def test_kill_at_random_flush_of_a_re_export_leaves_whole_revisions(exported, kill_at):
    assert_survives_kill(exported, 1, 2, kill_at=kill_at)


@pytest.mark.parametrize("kill_at", [1, 3, 40, FSYNCS_OF_A_FIRST_EXPORT])
def test_kill_at_flushes_of_first_export_leaves_a_target_that_exports(tmp_path, kill_at):
    assert_survives_kill(tmp_path / "out", 0, 1, kill_at=kill_at)


def test_kill_at_random_times_leaves_whole_revisions(tmp_path):
    chance = random.Random(11)  # noqa: S311
    export(tmp_path, 1)
    for generation in range(2, 6):
        process = child(tmp_path, generation)
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert_whole(tmp_path, max(generations({n: open_dataset(tmp_path).scan(n) for n in DATA_TABLES})["bars"]))
    export(tmp_path, 9)
    assert_clean(tmp_path, 9)


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", range(1, FSYNCS_OF_A_RE_EXPORT + 1))
def test_kill_at_every_flush_of_a_re_export_leaves_whole_revisions(exported, kill_at):
    assert_survives_kill(exported, 1, 2, kill_at=kill_at)


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", range(1, FSYNCS_OF_A_FIRST_EXPORT + 1))
def test_kill_at_every_flush_of_a_first_export_leaves_a_target_that_exports(tmp_path, kill_at):
    assert_survives_kill(tmp_path / "out", 0, 1, kill_at=kill_at)


def test_count_of_flushes_is_what_these_tests_assume(tmp_path):
    for generation, expected in ((1, FSYNCS_OF_A_FIRST_EXPORT), (2, FSYNCS_OF_A_RE_EXPORT)):
        out, err = child(tmp_path / "out", generation).communicate()
        assert out.split() == ["ready", str(generation), str(expected)], err


@pytest.mark.parametrize(("limit", "symbols"), [(1, "-"), (3000, "-"), (3000, "long"), (7000, "long")])
def test_full_disk_leaves_former_revision_and_nothing_else(exported, limit, symbols):
    before = {path for path in exported.rglob("*") if path.is_file()}
    process = child(exported, 2, file_limit=limit, symbols=symbols)
    out, err = process.communicate()
    assert process.returncode == 2, (out, err)
    assert str(exported) in out
    assert "next export will" not in out
    assert set(exported.rglob("*.parquet")) == {path for path in before if path.suffix == ".parquet"}
    assert_clean(exported, 1)
    assert export(exported, 3) == 2
    assert_clean(exported, 3)


def failing(function, at):
    calls = 0

    def wrapped(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize(
    ("module", "name", "at"),
    [(delta_table, "commit", n) for n in (1, 6, len(TABLES))]
    + [(dataset, "fsync", n) for n in (1,)]
    + [(delta_table, "fsync_log_entry", n) for n in (1, len(TABLES) - 1)]
    + [(dataset, "move_staged_files", n) for n in (2, len(TABLES))],
)
def test_failing_step_rolls_back_at_once(exported, monkeypatch, module, name, at):
    monkeypatch.setattr(module, name, failing(getattr(module, name), at))
    with pytest.raises(ExportError, match="No space left"):
        export(exported, 2)
    monkeypatch.undo()
    assert_clean(exported, 1)
    assert export(exported, 3) == 2
    assert_clean(exported, 3)


def test_failing_flush_after_the_last_commit_keeps_the_new_revision(exported, monkeypatch):
    monkeypatch.setattr(delta_table, "fsync_log_entry", failing(delta_table.fsync_log_entry, len(TABLES)))
    with pytest.raises(ExportError, match="No space left"):
        export(exported, 2)
    monkeypatch.undo()
    assert_clean(exported, 2)


def test_failing_step_that_cannot_be_rolled_back_says_so_and_next_export_is_right(exported, monkeypatch):
    monkeypatch.setattr(delta_table, "commit", failing(delta_table.commit, 5))
    monkeypatch.setattr(delta_table, "restore", failing(delta_table.restore, len(DATA_TABLES) + 1))
    with pytest.raises(ExportError) as raised:
        export(exported, 2)
    assert "the next export will" in "".join(raised.value.__cause__.__notes__)
    monkeypatch.undo()
    assert_whole(exported, 1)
    assert export(exported, 3) == 2
    assert_clean(exported, 3)


def test_rolled_back_tables_keep_their_statistics(exported, monkeypatch):
    monkeypatch.setattr(delta_table, "commit", failing(delta_table.commit, len(TABLES)))
    with pytest.raises(ExportError):
        export(exported, 2)
    monkeypatch.undo()
    assert delta_table.newest_version(exported / "bars") > 1
    found = delta_table.file_statistics(exported / "bars", delta_table.newest_version(exported / "bars")).sort("path")
    first = delta_table.file_statistics(exported / "bars", 1).sort("path")
    assert found.drop("modification_time").equals(first.drop("modification_time"))
    assert found["null_count.segment"].sum() > 0


def test_interrupt_rolls_back(exported, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "exports_row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(exported, 2)
    monkeypatch.undo()
    assert_clean(exported, 1)


def test_recover_leaves_files_of_others_alone(exported):
    (exported / "bars" / "mine.parquet").write_bytes(b"x")
    (exported / dataset.STAGING).mkdir()
    export(exported, 2)
    assert (exported / "bars" / "mine.parquet").exists()


def test_export_over_a_link_for_its_staging_leaves_the_folder_it_leads_to(exported, tmp_path):
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "text.txt").write_text("mine")
    (exported / dataset.STAGING).symlink_to(foreign)
    export(exported, 2)
    assert_clean(exported, 2)
    assert [path.name for path in foreign.iterdir()] == ["text.txt"]
