"""The command line, run in this process."""

from __future__ import annotations

import sys

import pytest
from engine.cli import main
from engine.cli.console import set_quiet


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call with the words behind `engine`: (exit code, standard output, standard error)."""
    monkeypatch.setenv("NO_COLOR", "")  # --no-color sets it for good: put back at the end
    monkeypatch.delenv("NO_COLOR")

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["engine", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        set_quiet(quiet=False)
        return int(stopped.value.code or 0), *capsys.readouterr()

    return call
