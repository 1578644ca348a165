"""The demo finds exactly the faults that were planned, for any seed."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from engine.errors import ParameterError
from engine.runtime.demo import demonstrate


@pytest.mark.parametrize("seed", [7, 8, 1234])
def test_demonstrate_any_seed_finds_what_was_planned(tmp_path: Path, seed: int) -> None:
    shown = demonstrate(tmp_path / "demo", seed)
    assert shown.comparison.filter(~pl.col("agrees")).rows() == []
    assert shown.comparison["planned"].min() > 0
    assert shown.answer.height > 0


def test_demonstrate_twice_on_one_folder_makes_a_second_revision(tmp_path: Path) -> None:
    assert demonstrate(tmp_path, 7).outcome.export_revision == 1
    assert demonstrate(tmp_path, 7).outcome.export_revision == 2


def test_demonstrate_in_a_folder_with_other_files_refuses(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine.csv").write_text("precious")
    with pytest.raises(ParameterError, match="no demo wrote"):
        demonstrate(tmp_path, 7)
    assert (tmp_path / "files" / "mine.csv").read_text() == "precious"
