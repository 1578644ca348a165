"""Hostile files beside a good one: the run ends, reads the good file, and says of the other what is wrong with it and where."""

from __future__ import annotations

import faulthandler
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.cli import program
from engine.cli.exit_codes import MANY_REJECTS, PARTLY_READ

from tests.sources.hostile_files import CSV, FILES, LINES, Refused

HUNG_SECONDS = 300.0
LONGEST_REASON = 1000


@pytest.fixture(autouse=True)
def _ended_when_it_hangs() -> Iterator[None]:
    faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("name", FILES)
def test_run_beside_a_hostile_file_reads_the_other_and_names_what_is_wrong(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / f"BAD_1m.{name.partition('.')[2]}"
    hostile.write_bytes(FILES[name].data)
    (tmp_path / "GOOD_1m.csv").write_text(CSV)
    monkeypatch.setattr(sys, "argv", ["engine", "run", str(tmp_path), "--calendar", "XNYS", "--json"])
    with pytest.raises(SystemExit) as ended:
        program()
    printed = capsys.readouterr()
    run = json.loads(printed.out)
    assert printed.err == ""
    assert [one["present"] for one in run["series"] if one["symbol"] == "GOOD"] == [len(LINES)]
    match FILES[name]:
        case Refused(_, phrase):
            (problem,) = run["problems"]
            assert problem["path"].partition("!")[0] == str(hostile)
            assert phrase in problem["reason"]
            assert "defect of engine" not in problem["reason"]
            assert len(problem["reason"]) < LONGEST_REASON
            assert (ended.value.code, run["rejected"]) == (PARTLY_READ, 0)
        case _, rejects, row, phrase, value:
            assert run["problems"] == []
            refused = next(one for one in run["refused"] if phrase in one["reason"])
            assert (refused["source"], refused["row"], run["rejected"]) == (str(hostile), row, rejects)
            assert any(value in str(cell or "null") for cell in json.loads(refused["cells"]).values())
            assert ended.value.code == MANY_REJECTS
