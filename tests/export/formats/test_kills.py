"""`kill -9` of an export to files: the former output stands, and the next one clears what was left."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from engine.export.dataset import open_dataset
from engine.export.formats.output_folder import SUMS
from engine.export.formats.session_files import write_files
from engine.publish import staging_folder

from tests.export.maintenance import exported
from tests.kill_at_flush import KILL_AT_FLUSH

CODE = f"""{KILL_AT_FLUSH}
from engine.export.dataset import open_dataset
from engine.export.formats.session_files import write_files
write_files(open_dataset(Path(sys.argv[1])), sys.argv[4], Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return exported.written(tmp_path_factory.mktemp("out") / "out")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("to", "kill_at", "former"), [("csv", 1, False), ("parquet", 7, True), ("csv", 14, True)])
def test_killed_export_to_files_leaves_nothing_that_the_next_one_keeps(target, tmp_path, to, kill_at, former):
    output = tmp_path / "files"
    if former:
        write_files(open_dataset(target), to, output)
        before = (output / SUMS).read_bytes()
    words = [sys.executable, "-c", CODE, target, output, kill_at, to]
    done = subprocess.run(list(map(str, words)), capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(names(tmp_path)) == 1 + former  # the staging folder
    if former:
        assert (output / SUMS).read_bytes() == before
    write_files(open_dataset(target), to, output)
    assert names(tmp_path) == ["files"]


def test_staging_folder_of_a_living_process_stays(tmp_path):
    with staging_folder(tmp_path / "files") as mine:
        with staging_folder(tmp_path / "files") as other:
            assert mine.is_dir()
            assert mine != other
        assert names(tmp_path) == [mine.name]
    assert names(tmp_path) == []
