from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from engine.publish import atomic_publish, write_new_file


def test_publish_file_replaces_the_former_one_whole(tmp_path):
    output = tmp_path / "new" / "file"
    for content in (b"one", b"two"):
        with atomic_publish(output) as staged:
            staged.write_bytes(content)
            assert not output.exists() or output.read_bytes() == b"one"
        assert output.read_bytes() == content
    assert [path.name for path in output.parent.iterdir()] == ["file"]


def test_publish_folder_appears_with_all_its_files(tmp_path):
    output = tmp_path / "folder"
    with atomic_publish(output) as staged:
        (staged / "inner").mkdir(parents=True)
        (staged / "inner" / "file").write_bytes(b"x")
        assert not output.exists()
    assert (output / "inner" / "file").read_bytes() == b"x"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_publish_that_fails_leaves_former_and_nothing_beside(tmp_path, error):
    (tmp_path / "file").write_bytes(b"one")
    with pytest.raises(error), atomic_publish(tmp_path / "file") as staged:  # noqa: PT012
        staged.write_bytes(b"tw")
        raise error
    assert (tmp_path / "file").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_write_new_over_a_file_is_refused(tmp_path):
    write_new_file(tmp_path / "file", b"one")
    with pytest.raises(FileExistsError):
        write_new_file(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"one"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_publish_flushes_file_then_renames_then_flushes_folder(tmp_path):
    code = (
        "import sys; from pathlib import Path; from engine.publish import atomic_publish\n"
        "with atomic_publish(Path(sys.argv[1])) as staged: staged.write_bytes(b'x')"
    )
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", trace, "-e", "trace=fsync,rename,renameat,renameat2", sys.executable, "-c", code]
    subprocess.run([*command, tmp_path / "file"], check=True)
    calls = [
        line.split(None, 1)[1].split("(")[0]
        for line in trace.read_text().splitlines()
        if "(" in line and "+++" not in line
    ]
    assert [call.removesuffix("at2").removesuffix("at") for call in calls] == ["fsync", "rename", "fsync"]
