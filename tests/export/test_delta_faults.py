"""What an export of changes leaves when it is killed, and in which order its system calls reach the disk."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from engine.errors import ExportError
from engine.export import dataset, delta_table, target_folder
from engine.export.dataset import open_dataset
from engine.export.delta import apply_delta, read_delta
from engine.export.log_copies import COPIES
from engine.export.tables import DATA_TABLES, TABLES

from tests.export.store_sample import Story, put, rows
from tests.export.test_delta import assert_same
from tests.export.test_faults import ROOT, failing

FSYNCS = 41
CHANCE = random.Random(5)  # noqa: S311
INSTANTS = sorted({FSYNCS, *CHANCE.sample(range(1, FSYNCS), 4)})


def child(target, generation, kill_at=0, prefix: Iterable[str] = ()):
    command = [*prefix, sys.executable, "-m", "tests.export.store_sample", target, generation, kill_at]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What is right at each revision."""
    target = tmp_path_factory.mktemp("right") / "out"
    story = Story.begin()
    put(story.store, target)
    for generation in (2, 3):
        put(story.edit(generation).store, target)
    return {revision: rows(target, revision) for revision in (1, 2, 3)}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    target = tmp_path_factory.mktemp("begun") / "out"
    put(Story.begin().store, target)
    return target


@pytest.fixture
def target(begun, tmp_path):
    return Path(shutil.copytree(begun, tmp_path / "out"))


def assert_clean(target):
    """Every head holds what is pinned, every file is one that a revision pins, nothing is staged."""
    exports = open_dataset(target).exports
    opened = [open_dataset(target, revision) for revision in exports["revision"]]
    pinned = {path for one in opened for name in TABLES for path in one.files(name)}
    assert {path for path in target.rglob("*.parquet") if delta_table.LOG not in path.parts} == pinned
    heads = {name: sorted(target / name / path for path in delta_table.file_paths(target / name)) for name in TABLES}
    assert heads == {name: sorted(opened[-1].files(name)) for name in TABLES}
    assert {path.name for path in target.iterdir()} - {target_folder.LOCK, COPIES} == set(TABLES)


def assert_survives_kill(target, expected, kill_at):
    code, out, err = child(target, 2, kill_at)
    assert code == -signal.SIGKILL, (kill_at, out, err)
    now = open_dataset(target).revision
    assert now in (1, 2)
    assert_same(rows(target), expected[now])
    story = Story.told(2)
    # The store that was killed comes back, so the revision that did not end is made now.
    if now == 1:
        assert put(story.store, target) == 2
    assert put(story.edit(3).store, target) == 3
    assert open_dataset(target).exports["since_revision"].to_list() == [None, 1, 2]
    for revision in (1, 2, 3):
        assert_same(rows(target, revision), expected[revision])
    assert_same(apply_delta(rows(target, 1), read_delta(target, 1)), expected[3])
    assert_clean(target)


@pytest.mark.parametrize("kill_at", INSTANTS)
def test_kill_at_random_flush_of_changes_leaves_whole_revisions(target, expected, kill_at):
    assert_survives_kill(target, expected, kill_at)


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", range(1, FSYNCS + 1))
def test_kill_at_every_flush_of_changes_leaves_whole_revisions(target, expected, kill_at):
    assert_survives_kill(target, expected, kill_at)


def test_count_of_flushes_of_changes_is_what_these_tests_assume(target):
    code, out, err = child(target, 2)
    assert (code, out.split()) == (0, ["ready", "2", str(FSYNCS)]), err


@pytest.mark.parametrize(
    ("module", "name", "at"),
    [(delta_table, "commit", 3), (dataset, "move_staged_files", 4), (delta_table, "fsync_log_entry", 5)],
)
def test_failing_step_of_changes_rolls_back_at_once(target, expected, monkeypatch, module, name, at):
    story = Story.told(2)
    monkeypatch.setattr(module, name, failing(getattr(module, name), at))
    with pytest.raises(ExportError, match="No space left"):
        put(story.store, target)
    monkeypatch.undo()
    assert_same(rows(target), expected[1])
    assert_clean(target)
    assert put(story.store, target) == 2
    assert_same(rows(target), expected[2])


# The system calls that matter, as strace -y prints them: fsync(3</path>), rename("a", "b"), link(...).
CALLS = "fsync,fdatasync,rename,renameat,renameat2,link,linkat"
LINE = re.compile(r"(?P<call>\w+)\((?P<args>.*)\)\s+= 0")


@pytest.fixture
def strace(tmp_path):
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("no strace on this machine")
    probe = subprocess.run([tracer, "-f", "-o", tmp_path / "probe", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("strace may not trace here")
    return [tracer, "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(tmp_path / "trace")]


def calls(trace):
    """Each call's kind and the path it is about: what is flushed, or where a file gets its name."""
    for line in unsplit(trace.read_text().splitlines()):
        found = LINE.search(line)
        if found:
            call, args = found["call"], found["args"]
            paths = re.findall(r"<([^>]+)>", args) if "sync" in call else re.findall(r'"([^"]+)"', args)
            yield ("flush" if "sync" in call else "name"), Path(paths[-1])


def unsplit(lines):
    # strace cuts a call in two lines when another thread makes one in between.
    begun = {}
    for line in lines:
        pid, _, rest = line.partition(" ")
        if rest.rstrip().endswith("<unfinished ...>"):
            begun[pid] = rest.rstrip().removesuffix("<unfinished ...>").rstrip()
        elif "resumed>" in rest:
            yield begun.pop(pid) + rest.partition("resumed>")[2]
        else:
            yield rest


@pytest.mark.parametrize("generation", [1, 2])
def test_export_flushes_files_then_names_then_logs_and_exports_last(target, tmp_path, strace, generation):
    place = target if generation == 2 else tmp_path / "first"
    code, _, err = child(place, generation, prefix=strace)
    assert code == 0, err
    order = [(kind, path) for kind, path in calls(tmp_path / "trace") if place in (path, *path.parents)]
    logs = [at for at, (kind, path) in enumerate(order) if kind == "name" and path.parent.name == delta_table.LOG]
    entries = {order[at][1]: at for at in logs if int(order[at][1].stem) > 0}
    fresh = [
        path for name in TABLES for path in open_dataset(place).files(name) if path.name.startswith(f"{generation}-")
    ]
    assert len(fresh) >= 8
    for file in fresh:
        table = next(name for name in TABLES if place / name in file.parents)
        entry = max(path for path in entries if place / table in path.parents)
        staged = place / dataset.STAGING / file.stem.partition("-")[2]
        steps = [
            order.index(("flush", staged)),
            order.index(("name", file)),
            order.index(("flush", file.parent), order.index(("name", file))),
            entries[entry],
            order.index(("flush", entry)),
            order.index(("flush", entry.parent), entries[entry]),
        ]
        assert steps == sorted(steps), file
    last = max(entries.values())
    assert order[last][1].parent.parent.name == "exports"
    assert all(order.index(("flush", path)) < last for path in entries if path.parent.parent.name in DATA_TABLES)
    assert ("flush", order[last][1].parent) in order[last:]
