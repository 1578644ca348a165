"""Runs one notebook in a clean kernel, warnings as errors: `python -m tests.notebooks.kernel NOTEBOOK [TARGET]`.

The notebook with its outputs is written to TARGET (`make notebooks` names the notebook itself). Outputs are reduced to what a
code host shows and what is equal in each run: text, HTML tables and PNG pictures, without temporary paths.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SETUP = """
import warnings
warnings.simplefilter("error")
try:
    import altair
except ImportError:
    pass
else:
    altair.renderers.enable("png", scale_factor=1)
"""
TEARDOWN = "import warnings\nwarnings.simplefilter('ignore')"  # what ends a kernel is not ours
TIMEOUT_SECONDS = 300
MIME_TYPES = ("image/png", "text/html", "text/plain")
VARIABLE = [
    (re.compile(rf"{re.escape(tempfile.gettempdir())}/{tempfile.gettempprefix()}\w+"), "FOLDER"),
    (re.compile(r"0x[0-9a-f]{8,}"), "0x0"),
    (re.compile(r"(written(?:</b>)?\s+)[\d-]+ [\d:]+ UTC"), r"\1TIME"),
]


def execute(path: Path) -> nbformat.NotebookNode:
    """Run the notebook and return it with reduced outputs; raises when a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    cells = notebook.cells
    notebook.cells = [nbformat.v4.new_code_cell(SETUP), *cells, nbformat.v4.new_code_cell(TEARDOWN)]
    NotebookClient(notebook, timeout=TIMEOUT_SECONDS, kernel_name="python3").execute()
    notebook.cells = cells
    for number, cell in enumerate((one for one in cells if one.cell_type == "code"), 1):
        cell.execution_count = number
        cell.metadata.pop("execution", None)
        cell.outputs = [_reduced(output, number) for output in cell.outputs]
    return notebook


def _reduced(output: nbformat.NotebookNode, number: int) -> nbformat.NotebookNode:
    if "execution_count" in output:
        output.execution_count = number
    if "text" in output:
        output.text = without_variable_text(output.text)
    if "data" in output:
        output.data = {name: output.data[name] for name in MIME_TYPES if name in output.data}
        for name in ("text/plain", "text/html"):
            if name in output.data:
                output.data[name] = without_variable_text(output.data[name])
        output.metadata = {}
    return output


def without_variable_text(text: str) -> str:
    """Text without what differs from run to run: temporary folders, addresses of objects, times of writing."""
    for pattern, replacement in VARIABLE:
        text = pattern.sub(replacement, text)
    return text


if __name__ == "__main__":
    done = execute(Path(sys.argv[1]))
    if len(sys.argv) > 2:
        nbformat.write(done, sys.argv[2])
