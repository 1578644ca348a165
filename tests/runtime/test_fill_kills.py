"""`kill -9` of a fill: the export has the former revision or the filled one, and the next fill ends as an undisturbed one."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from engine.export.dataset import open_dataset
from engine.export.maintenance.verify import verify
from engine.runtime.fill import fill
from engine.runtime.run import run

from tests.kill_at_flush import KILL_AT_FLUSH
from tests.runtime.test_fill import HOLES, OPTIONS, SYMBOLS, bars, contents, write

CODE = f"""{KILL_AT_FLUSH}
from engine.runtime.fill import fill
fill(Path(sys.argv[1]), Path(sys.argv[2]), name="second")
print(int(sys.argv[3]) - left[0])
"""
FLUSHES = 38  # of a whole fill; the last test says so
INSTANTS = sorted(random.Random(5).sample(range(1, FLUSHES + 1), 4))  # noqa: S311


def child(target: Path, second: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", CODE, str(target), str(second), str(kill_at)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("killed")
    files = write(folder / "a", [bars(name, HOLES if name == "BBB" else frozenset()) for name in SYMBOLS])
    run(files, OPTIONS, export=folder / "out")
    second = write(folder / "b", [bars("BBB", frozenset({(1, 65)}))])
    shutil.copytree(folder / "out", folder / "filled")
    fill(folder / "filled", second, name="second")
    return folder, second


def assert_ends_as_undisturbed(scene: tuple[Path, Path], target: Path, kill_at: int) -> None:
    folder, second = scene
    whole = {1: contents(folder / "out"), 2: contents(folder / "filled")}
    done = child(target, second, kill_at)
    assert done.returncode == -signal.SIGKILL, (done.stdout, done.stderr)
    revision = open_dataset(target).revision
    now = contents(target)
    assert all(rows.equals(whole[revision][name]) for name, rows in now.items())
    fill(target, second, name="second")
    assert open_dataset(target).revision == 2
    now = contents(target)
    assert all(rows.equals(whole[2][name]) for name, rows in now.items())
    assert verify(target).is_empty()


@pytest.mark.parametrize("kill_at", INSTANTS)
def test_killed_fill_is_done_by_the_next_one(scene, tmp_path, kill_at):
    assert_ends_as_undisturbed(scene, Path(shutil.copytree(scene[0] / "out", tmp_path / "out")), kill_at)


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", range(1, FLUSHES + 1))
def test_fill_killed_at_every_flush_is_done_by_the_next_one(scene, tmp_path, kill_at):
    assert_ends_as_undisturbed(scene, Path(shutil.copytree(scene[0] / "out", tmp_path / "out")), kill_at)


def test_count_of_flushes_is_what_these_tests_assume(scene, tmp_path):
    done = child(Path(shutil.copytree(scene[0] / "out", tmp_path / "out")), scene[1], 10_000)
    assert done.stdout.split() == [str(FLUSHES)], done.stderr
