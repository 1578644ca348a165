"""`history`, `diff`, `verify`, `repair`, `compact` and `vacuum` as a user meets them: what they print, and their codes."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
from pathlib import Path

import pytest
from engine.cli import USAGE, main
from engine.cli.maintenance_commands import FOUND
from engine.export.dataset import open_dataset
from engine.interval import Interval
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.run import run

from tests.export.maintenance import exported

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*words: object):
        monkeypatch.setattr(sys, "argv", ["engine", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 0
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Two revisions: in the second a bar is corrected and a hole of twenty minutes filled."""
    folder = tmp_path_factory.mktemp("upkeep")
    for turn in (1, 2):
        rows = [
            f"{(OPEN + dt.timedelta(minutes=m)).isoformat()},10,10.5,9.5,{10.3 if turn == 2 and m == 9 else 10.2},100"
            for m in range(390)
            if turn == 2 or not 60 <= m < 80
        ]
        (folder / "[b]AAA.csv").write_text("ts,open,high,low,close,volume\n" + "\n".join(rows))
        options = LoadOptions(CalendarMap("XNYS"), derive=(Interval.parse("5m"),))
        run([folder / "[b]AAA.csv"], options, folder / "out", clock=exported.clock(turn))
    return folder / "out"


@pytest.fixture
def out(source: Path, tmp_path: Path) -> Path:
    return shutil.copytree(source, tmp_path / "out")


def test_history_lists_revisions(engine, out: Path) -> None:
    code, text, _ = engine("history", out)
    assert (code, "2 revisions" in text, "pinned" in text) == (0, True, True)
    told = json.loads(engine("history", out, "--json")[1])
    assert [row["revision"] for row in told] == [1, 2]
    assert {table["table"] for table in told[0]["tables"]} >= {"bars", "gaps"}


def test_diff_shows_the_correction_and_the_filled_gap(engine, out: Path) -> None:
    code, text, _ = engine("diff", out, 1, 2)
    assert code == 0
    assert "close 10.2 -> 10.3" in text
    assert "gaps closed" in text
    told = json.loads(engine("diff", out, 1, 2, "--table", "gaps", "--json", "--limit", 1)[1])
    assert {row["table"] for row in told["summary"]} == {"gaps"}
    assert len(told["gaps_closed"]) == 1
    assert told["gaps_closed"][0]["bar_count"] == 20


def test_diff_prints_symbols_as_text(engine, out: Path) -> None:
    assert "[b]AAA" in engine("diff", out, 1, 2)[1].upper().replace("[B]", "[b]")


def test_verify_ends_with_0_when_clean_and_1_when_not(engine, out: Path) -> None:
    assert engine("verify", out)[:2] == (0, f"{out}: nothing wrong\n")
    path = open_dataset(out).files("bars")[0]
    path.write_bytes(path.read_bytes()[:-1])
    for words in ((), ("--quick",), ("--revision", 2)):
        code, text, _ = engine("verify", out, *words)
        assert (code, path.name in text) == (FOUND, True)
    assert json.loads(engine("verify", out, "--json")[1])[0]["check_name"] == "size"


def test_repair_restores_derived_bars_and_ends_with_0(engine, out: Path) -> None:
    assert "nothing to repair" in engine("repair", out)[1]
    path = next(path for path in open_dataset(out).files("bars") if "/5m/" in str(path))
    path.unlink()
    code, text, _ = engine("repair", out)
    assert (code, "restored" in text) == (0, True)
    assert engine("verify", out)[0] == 0


def test_repair_of_lost_bars_ends_with_1_until_they_are_dropped(engine, out: Path) -> None:
    next(path for path in open_dataset(out).files("bars") if "/1m/" in str(path)).unlink()
    code, text, _ = engine("repair", out, "--json")
    assert (code, json.loads(text)["actions"][0]["action"]) == (FOUND, "lost")
    assert engine("repair", out, "--drop-damaged")[0] == 0
    assert engine("verify", out, "--revision", 3)[0] == 0


def test_compact_without_small_files_says_so(engine, out: Path) -> None:
    code, text, _ = engine("compact", out)
    assert (code, "revision" in text.lower()) == (0, True)


def test_vacuum_says_what_went_and_expired_revisions_are_told(engine, out: Path) -> None:
    code, text, _ = engine("vacuum", out, "--keep-revisions", 1)
    assert (code, "kept revisions 2 to 2; 1 expired" in text) == (0, True)
    code, _, told = engine("sql", out, "SELECT 1", "--revision", 1)
    assert (code, "revision 1 has expired" in told, "it has 2 to 2" in told) == (USAGE, True, True)
    assert "expired" in engine("history", out)[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("vacuum", "{out}"), "--keep 7d"),
        (("vacuum", "{out}", "--keep", "7"), "a number and s, m, h, d or w"),
        (("vacuum", "{out}", "--keep", "7d", "--keep-revisions", "1"), "one of the two"),
        (("diff", "{out}", "1", "2", "--table", "tics"), "bars, gaps, quality, symbols, all"),
        (("diff", "{out}", "1", "9"), "no revision 9; it has 1 to 2"),
        (("verify", "{out}/absent"), "is no export"),
        (("history", "{out}/absent"), "is no export"),
        (("repair", "{out}", "--calendar", "{out}/absent.toml"), "absent.toml"),
    ],
)
def test_wrong_argument_is_told_what_would_be_right(engine, out: Path, words: tuple[str, ...], told: str) -> None:
    code, _, text = engine(*(word.format(out=out) for word in words))
    assert (code, told in text) == (USAGE, True), text
    assert "Traceback" not in text
