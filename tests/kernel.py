"""Runs one notebook in a clean kernel, warnings as errors: `python kernel.py NOTEBOOK`."""

from __future__ import annotations

import sys

import nbformat
from nbclient import NotebookClient

BEFORE, AFTER = (
    "import warnings\nwarnings.simplefilter('error')",
    "warnings.simplefilter('ignore')",
)  # what ends a kernel is not ours
SECONDS = 300


def main(path: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = [nbformat.v4.new_code_cell(text) for text in (BEFORE, AFTER)]
    notebook.cells = [cells[0], *notebook.cells, cells[1]]
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3").execute()


if __name__ == "__main__":
    main(sys.argv[1])
