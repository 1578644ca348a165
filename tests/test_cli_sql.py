"""`engine sql` as a user meets it: capped answers, scripts, the prompt in a terminal."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import polars as pl
import pytest
from engine.cli import USAGE, main
from engine.cli import prompt as prompt_room
from engine.cli.prompt import _Completer, _history_file
from engine.query.statements import split

from tests.test_cli import Ran, engine
from tests.test_sql import _export, _tables

__all__ = ["engine"]
RUN = "from engine.cli import main; main()"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("cli") / "export"
    _export(target, _tables())
    return target


# --- What an answer shows


def test_sql_table_is_capped_and_says_so(engine, out: Path) -> None:
    ran = engine("sql", out, "SELECT range AS n FROM range(12345)")
    assert "50 of 12,345 rows; --limit 0 shows all" in ran.out
    assert ran.out.count("│") == 100
    assert "more than 1," in engine("sql", out, "SELECT range AS n FROM range(5000000)", "--limit", 2).out
    assert engine("sql", out, "SELECT range AS n FROM range(60)", "--limit", 0).out.endswith("60 rows\n")


def test_sql_text_for_programs_is_whole_unless_limited(engine, out: Path) -> None:
    query = "SELECT range AS n FROM range(500)"
    assert len(engine("sql", out, query, "--format", "csv").out.splitlines()) == 501
    ran = engine("sql", out, query, "--format", "json", "--limit", 2)
    assert [row["n"] for row in json.loads(ran.out)] == [0, 1]
    assert "2 of 500 rows" in ran.err


def test_sql_output_takes_the_form_of_its_ending(engine, out: Path, tmp_path: Path) -> None:
    for name, read in (("a.csv", pl.read_csv), ("a.json", pl.read_json), ("a.parquet", pl.read_parquet)):
        assert engine("sql", out, "SELECT 7 AS n", "--output", tmp_path / name).code == 0
        assert read(tmp_path / name)["n"].to_list() == [7]


def test_sql_revision_and_instant_choose_the_state(engine, tmp_path: Path) -> None:
    tables = _tables()
    _export(tmp_path / "out", tables)
    _export(tmp_path / "out", tables | {"bars": tables["bars"].head(10)})
    count = "SELECT count(*) AS n FROM bars"
    answers = [
        engine("sql", tmp_path / "out", count, "--format", "csv", *options).out.split()[1]
        for options in ([], ["--revision", 1], ["--revision", 2])
    ]
    assert answers == ["10", str(tables["bars"].height), "10"]
    assert (
        engine("sql", tmp_path / "out", count, "--as-of", "2200-01-01T00:00:00+00:00", "--format", "csv").out.split()[1]
        == "10"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["FROM brs"], "nearest: bars"),
        (["SELECT 1", "--format", "xlsx"], "valid: table, csv, json, parquet"),
        (["SELECT 1", "--format", "parquet"], "--output"),
        (["SELECT 1", "--output", "x.xlsx"], "received 'xlsx'"),
        (["SELECT 1", "--limit", -1], "0 for all rows"),
        (["SELECT 1", "--memory", "lots"], "512MB"),
        (["SELECT 1", "--timeout", 0], "above zero"),
        (["SELECT 1", "--revision", 9], "no revision 9"),
        (["SELECT 1", "--revision", 1, "--as-of", "2024-01-01T00:00:00+00:00"], "one of them"),
        (["SELECT count(*) FROM range(100000000000) t(a) WHERE hash(a) % 7 = 1", "--timeout", 0.5], "stopped after timeout_seconds=0.5"),
        (["SELECT repeat('x', 1000000000) AS x", "--memory", "100MB"], "memory=100MB"),
    ],
)  # fmt: skip
def test_sql_wrong_argument_is_told(engine, out: Path, words: list[object], told: str) -> None:
    ran = engine("sql", out, *words)
    assert ran.code == USAGE
    assert told in ran.err
    assert ran.out == ""


def test_sql_explain_is_shown_as_drawn(engine, out: Path) -> None:
    ran = engine("sql", out, "EXPLAIN SELECT count(*) FROM bars")
    assert "\\n" not in ran.out
    assert len(ran.out.splitlines()) > 5


# --- Scripts


def script(engine, monkeypatch: pytest.MonkeyPatch, out: Path, text: str, *words: object) -> Ran:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return engine("sql", out, *words)


def test_script_on_stdin_runs_every_statement(engine, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = script(engine, monkeypatch, out, "SELECT 1 AS a; -- first;\nSELECT ';' AS b,\n 2 AS c", "--format", "csv")
    assert ran.out.splitlines() == ["a", "1", "b,c", ";,2"]


def test_script_ends_at_the_first_mistake(engine, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = script(engine, monkeypatch, out, "SELECT 1 AS a; FROM brs; SELECT 3 AS z", "--format", "csv")
    assert (ran.code, ran.out.splitlines()) == (USAGE, ["a", "1"])
    assert "nearest: bars" in ran.err


def test_script_with_output_takes_one_statement(
    engine, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = script(engine, monkeypatch, out, "SELECT 1; SELECT 2", "--output", tmp_path / "a.csv")
    assert (ran.code, "2 statements" in ran.err) == (USAGE, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("SELECT 1;", ["SELECT 1"], ""),
        ("SELECT 1", [], "SELECT 1"),
        (" ;; SELECT 1 ; ", ["SELECT 1"], ""),
        ("SELECT ';' ; x", ["SELECT ';'"], "x"),
        ("SELECT 'it''s;'; ", ["SELECT 'it''s;'"], ""),
        ('SELECT ";" FROM t;', ['SELECT ";" FROM t'], ""),
        ("SELECT $$;$$, $a$;$$;$a$;", ["SELECT $$;$$, $a$;$$;$a$"], ""),
        (r"SELECT e'\';'; y", [r"SELECT e'\';'"], "y"),
        ("SELECT 1 -- ;\n+ 2; -- end", ["SELECT 1 -- ;\n+ 2"], ""),
        ("SELECT /* ; */ 1;", ["SELECT /* ; */ 1"], ""),
        ("SELECT 'open; SELECT 2;", [], "SELECT 'open; SELECT 2;"),
        ("SELECT 1; SELECT /* open; ", ["SELECT 1"], "SELECT /* open;"),
        ("-- nothing", [], ""),
        ("a; -- ;\n b", ["a"], "-- ;\n b"),
        ("", [], ""),
    ],
)
def test_split_cuts_at_the_semicolons_that_end_a_statement(text: str, statements: list[str], rest: str) -> None:
    assert split(text) == (statements, rest)


# --- The prompt


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, *words: object, home: Path) -> None:
        self._master, slave = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(home), "COLUMNS": "100"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN, *map(str, words)], stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
            preexec_fn=_own_terminal,  # noqa: PLW1509 - nothing else gives a child its terminal
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def send(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, wanted: str, seconds: float = 60.0) -> str:
        """What came up to `wanted`, which is taken out of sight."""
        end = time.monotonic() + seconds
        while wanted not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self._master], [], [], 0.1)[0]:
                self.seen += os.read(self._master, 65536).decode(errors="replace")
        before, _, self.seen = self.seen.partition(wanted)
        return before

    def interrupt(self, wanted: str) -> None:
        """Press Ctrl-C until it is answered: readline does not see a signal between a key and its next wait."""
        for _ in range(30):
            self.send("\x03")
            end = time.monotonic() + 2.0
            while wanted not in self.seen and time.monotonic() < end:
                if select.select([self._master], [], [], 0.1)[0]:
                    self.seen += os.read(self._master, 65536).decode(errors="replace")
            if wanted in self.seen:
                break
        self.until(wanted)

    def ended(self) -> int:
        code = self._process.wait(60)
        os.close(self._master)
        return code


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who runs the tests may ignore it


def test_prompt_answers_goes_on_after_mistakes_and_keeps_history(out: Path, tmp_path: Path) -> None:
    terminal = Terminal("sql", out, home=tmp_path)
    terminal.until("engine> ")
    terminal.send("SELECT 40 + 1 AS one,\n")
    terminal.until("   ...> ")
    terminal.send("'a;b' AS two;\n")
    assert "41" in terminal.until("1 row")
    terminal.until("engine> ")
    terminal.send("FROM brs;\n")
    terminal.until("nearest: bars")
    terminal.until("engine> ")
    terminal.send("SELECT something half")
    terminal.until("half")
    terminal.interrupt("engine> ")
    terminal.send("\\d worst_gaps\n")
    assert "bar_count" in terminal.until("9 rows")
    terminal.until("engine> ")
    terminal.send("SELECT count(*) FROM range(100000000000) t(a) WHERE hash(a) % 7 = 1;\n")
    time.sleep(1.0)
    terminal.interrupt("interrupted")
    terminal.until("engine> ")
    terminal.send("SELECT base_int\t FROM symbols;\n")
    assert "1m" in terminal.until("2 rows")
    terminal.until("engine> ")
    terminal.send("\x04")
    assert terminal.ended() == 0
    kept = (tmp_path / "session-engine" / "sql_history").read_text()
    assert "SELECT 40 + 1 AS one, 'a;b' AS two;" in kept
    assert "half" not in kept
    assert (tmp_path / "session-engine" / "sql_history").stat().st_mode & 0o077 == 0


def test_prompt_commands_list_help_and_end(out: Path, tmp_path: Path) -> None:
    terminal = Terminal("sql", out, home=tmp_path)
    for words, wanted in (
        ("\\d", "worst_gaps"),
        ("\\?", "Tab completes"),
        ("\\nope", "unknown command"),
        ("\\x", "on"),
    ):
        terminal.until("engine> ")
        terminal.send(f"{words}\n")
        terminal.until(wanted)
    terminal.until("engine> ")
    terminal.send("SELECT 1 AS alone, 2 AS two;\n")
    assert "- 1 -" in terminal.until("1 row")
    terminal.until("engine> ")
    terminal.send("\\q\n")
    assert terminal.ended() == 0


def test_prompt_with_a_home_that_cannot_be_written_says_so(out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    terminal = Terminal("sql", out, home=tmp_path / "file")
    terminal.until("engine> ")
    terminal.send("\x04")
    terminal.until("the history was not kept")
    assert terminal.ended() == 0


def test_completer_offers_names_and_keywords_in_the_case_begun() -> None:
    completer = _Completer(["bars", "bars_local", "SELECT", "symbol"])
    assert [completer.complete("ba", state) for state in range(3)] == ["bars", "bars_local", None]
    assert completer.complete("sel", 0) == "select"
    assert completer.complete("SEL", 0) == "SELECT"


def test_history_file_is_in_the_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert _history_file() == Path("/state/session-engine/sql_history")
    assert prompt_room.FIRST.startswith("engine")
    assert callable(main)
