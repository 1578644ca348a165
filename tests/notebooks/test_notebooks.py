"""Every notebook runs in a clean kernel and still says what its stored outputs say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def outputs(notebook: nbformat.NotebookNode) -> list[list[object]]:
    """What each code cell says: its text; of a picture, that there is one (its bytes depend on the fonts of a machine)."""
    return [
        [output.get("text") or ("picture" if "image/png" in output.data else output.data) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_notebooks_are_there() -> None:
    assert len(NOTEBOOKS) >= 6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_in_a_clean_kernel_and_says_what_is_stored(path: Path, tmp_path: Path) -> None:
    # Without the variables that name a folder of the user's, and in a folder of its own: it must bring its data.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    paths = os.pathsep.join(one for one in (str(ROOT), outer.get("PYTHONPATH", "")) if one)
    done = subprocess.run(
        [sys.executable, "-m", "tests.notebooks.kernel", str(path), "run.ipynb"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**outer, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    stored, now = (outputs(nbformat.read(one, as_version=4)) for one in (path, tmp_path / "run.ipynb"))
    assert stored == now, "outputs changed: look at them, then `make notebooks` stores them"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_stored_with_outputs_that_a_code_host_shows(path: Path) -> None:
    cells = [one for one in nbformat.read(path, as_version=4).cells if one.cell_type == "code"]
    assert any(cell.outputs for cell in cells)
    mimes = {name for cell in cells for output in cell.outputs for name in output.get("data", {})}
    assert mimes <= {"image/png", "text/html", "text/plain"}
    assert path.stat().st_size < 2_000_000
