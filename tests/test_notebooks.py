"""Every notebook runs in a clean kernel, and carries no output in the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_notebooks_are_there() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_in_a_clean_kernel(path: Path, tmp_path: Path) -> None:
    # Without the variables that name a folder of the user's, and in a folder of its own: it must bring its data.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    paths = os.pathsep.join(one for one in (str(ROOT), outer.get("PYTHONPATH", "")) if one)
    command = [sys.executable, str(Path(__file__).with_name("kernel.py")), str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env={**outer, "PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr[-4_000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_has_no_output(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert [c for c in cells if c.get("outputs") or c.get("execution_count")] == []
