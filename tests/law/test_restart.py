"""Law: a restart is not an event in the data. Sessions that are killed and stopped equal one that ran undisturbed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.law.restart_world import broken_laws


@pytest.mark.parametrize("seed", range(4))
def test_sessions_that_end_anywhere_equal_one_that_runs_on(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    assert list(broken_laws(tmp_path, seed, patterns=5)) == []
