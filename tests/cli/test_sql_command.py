"""`engine sql` as a user meets it: capped answers, scripts, the prompt in a terminal."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import polars as pl
import pytest
from engine.audit.audit_files import write_audit_tables
from engine.audit.audit_tables import AUDIT_TABLES
from engine.cli import FAILED, USAGE, main
from engine.cli import prompt as prompt_room
from engine.cli.prompt import NameCompleter, history_file
from engine.query.statements import split_statements

from tests.cli.test_commands import Ran, engine
from tests.query.test_sql import _export, _tables

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


def test_sql_spreadsheet_safe_makes_formulas_text(engine, out: Path, tmp_path: Path) -> None:
    query = "SELECT '=cmd|x' AS name, -1 AS n"
    safe = engine("sql", out, query, "--format", "csv", "--spreadsheet-safe").out
    assert (safe, engine("sql", out, query, "--format", "csv").out) == ("name,n\n'=cmd|x,-1\n", "name,n\n=cmd|x,-1\n")
    assert engine("sql", out, query, "--output", tmp_path / "a.csv", "--spreadsheet-safe").code == 0
    assert (tmp_path / "a.csv").read_text() == safe
    assert "valid: with csv" in engine("sql", out, query, "--spreadsheet-safe").err


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
        (["SELECT 1", "--timeout", "inf"], "at most 31,536,000"),
        (["SELECT 1", "--as-of", "9999-12-31T23:59:59-23:00"], "--as-of"),
        (["SELECT '\udcff'"], "UTF-8"),
        (["SELECT INTERVAL 1 MONTH AS x"], "CAST it to VARCHAR"),
        (["SELECT {'t': INTERVAL 1 DAY} AS x"], "CAST it to VARCHAR"),
        (["SELECT union_value(a := 1) AS x"], "CAST it to VARCHAR"),
        (["SELECT TIMETZ '10:00:00+02' AS x"], "CAST it to VARCHAR"),
        (["SELECT 'infinity'::TIMESTAMP AS x"], "years 1 to 9999"),
        (["SELECT '-infinity'::TIMESTAMPTZ AS x"], "years 1 to 9999"),
        (["SELECT 'infinity'::TIMESTAMP_NS AS x"], "years 1 to 9999"),
        (["SELECT DATE '-290000-01-01' AS x"], "years 1 to 9999"),
        (["SELECT [DATE '2024-01-01', DATE '-290000-01-01'] AS x"], "years 1 to 9999"),
        (["SELECT {'at': [TIMESTAMP '290000-01-01']} AS x"], "years 1 to 9999"),
        (["SELECT 1", "--revision", 9], "no revision 9"),
        (["SELECT 1", "--revision", 1, "--as-of", "2024-01-01T00:00:00+00:00"], "one of them"),
        (
            ["SELECT count(*) FROM range(100000000000) t(a) WHERE hash(a) % 7 = 1", "--timeout", 0.5],
            "stopped after timeout_seconds=0.5",
        ),
        (["SELECT repeat('x', 1000000000) AS x", "--memory", "100MB"], "memory=100MB"),
    ],
)
def test_sql_wrong_argument_is_told(engine, out: Path, words: list[object], told: str) -> None:
    ran = engine("sql", out, *words)
    assert ran.code == USAGE
    assert told in ran.err
    assert ran.out == ""


EVERY_TYPE = """
SELECT [1, NULL] AS list, {'a': TIMESTAMPTZ '2024-01-02 03:04:05+00'} AS struct, MAP {'k': 1} AS map, 1.50::DECIMAL(9, 2) AS d,
  INTERVAL 36 HOUR AS span, TIMESTAMPTZ '2024-01-02 03:04:05.5+00' AS utc, TIMESTAMP '2024-01-02 03:04:05' AS local,
  TIME '10:00:00' AS t, '\\xFFa'::BLOB AS b, NULL AS nothing, DATE '9999-12-31' AS day, 1 AS n, 2 AS n, 'nan'::DOUBLE AS nan,
  {'interval': 1} AS named
"""


def test_sql_values_of_every_type_have_a_form_in_json(engine, out: Path) -> None:
    (row,) = json.loads(engine("sql", out, EVERY_TYPE, "--format", "json").out)
    assert row == {
        "list": [1, None],
        "struct": {"a": "2024-01-02T03:04:05Z"},
        "map": {"k": 1},
        "d": "1.50",
        "span": 129600.0,
        "utc": "2024-01-02T03:04:05.500000Z",
        "local": "2024-01-02T03:04:05",
        "t": "10:00:00",
        "b": "ff61",
        "nothing": None,
        "day": "9999-12-31",
        "n": 1,
        "n_1": 2,
        "nan": None,
        "named": {"interval": 1},
    }


def test_sql_values_of_every_type_have_a_form_in_csv(engine, out: Path) -> None:
    names, row = csv.reader(io.StringIO(engine("sql", out, EVERY_TYPE, "--format", "csv").out))
    assert dict(zip(names, row, strict=True)) == {
        "list": "[1,null]",
        "struct": '{"a":"2024-01-02T03:04:05Z"}',
        "map": '{"k":1}',
        "d": "1.50",
        "span": "129600.0",
        "utc": "2024-01-02T03:04:05.500000Z",
        "local": "2024-01-02T03:04:05.000000",
        "t": "10:00:00.000000000",
        "b": "ff61",
        "nothing": "",
        "day": "9999-12-31",
        "n": "1",
        "n_1": "2",
        "nan": "NaN",
        "named": '{"interval":1}',
    }


def test_sql_lists_and_bytes_are_shown_in_their_cell(engine, out: Path) -> None:
    shown = engine("sql", out, "SELECT [1, 2] AS x, 'ab'::BLOB AS b, count(*) AS n").out
    assert "│ [1, 2] │ 6162 │" in shown


@pytest.mark.parametrize(
    "words", [["SELECT 1 AS n"], ["SELECT 1 AS n", "--format", "json"], ["FROM bars", "--format", "csv"]]
)
def test_sql_to_a_full_disk_ends_in_one_line(out: Path, words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", RUN, "sql", out, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr.count("\n")) == (FAILED, 1)
    assert "No space left" in done.stderr


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_sql_answer_is_readable_in_any_encoding(out: Path, form: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", RUN, "sql", out, "SELECT chr(128200) AS x", "--format", form]
    done = subprocess.run(command, capture_output=True, env=env, check=True)
    assert "\N{CHART WITH UPWARDS TREND}" in done.stdout.decode() or (form == "table" and b"\\U0001f4c8" in done.stdout)


def test_sql_explain_is_shown_as_drawn(engine, out: Path) -> None:
    ran = engine("sql", out, "EXPLAIN SELECT count(*) FROM bars")
    assert "\\n" not in ran.out
    assert len(ran.out.splitlines()) > 5


# --- Tables of an audit


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "audit"
    tables = {name: pl.DataFrame(schema=dict(schema)) for name, schema in AUDIT_TABLES.items()}
    gap = {"symbol": "SPY", "bar_count": 7, "cause": "halt"}
    tables["gaps"] = pl.DataFrame([gap], schema=dict(AUDIT_TABLES["gaps"]))
    write_audit_tables(tables, folder)
    return folder


@pytest.mark.parametrize(
    "query",
    [
        "SHOW TABLES",
        "SHOW ALL TABLES",
        "SELECT table_name AS name FROM information_schema.tables",
        "SELECT table_name AS name FROM duckdb_columns() WHERE NOT internal",
        "SELECT name FROM (SHOW TABLES)",
    ],
)
def test_sql_lists_every_table_of_the_audit_and_of_the_export(engine, out: Path, audit: Path, query: str) -> None:
    rows = json.loads(engine("sql", out, query, "--audit", audit, "--format", "json").out)
    assert {f"audit_{name}" for name in AUDIT_TABLES} | {"bars", "gaps"} <= {row["name"] for row in rows}
    alone = json.loads(engine("sql", audit, query, "--format", "json").out)
    assert {row["name"] for row in alone} >= set(AUDIT_TABLES)


def test_sql_describes_and_reads_tables_of_an_audit(engine, out: Path, audit: Path) -> None:
    for target, options, table in ((out, ["--audit", audit], "audit_gaps"), (audit, [], "gaps")):
        described = json.loads(engine("sql", target, f"DESCRIBE {table}", *options, "--format", "json").out)
        assert [row["column_name"] for row in described] == list(AUDIT_TABLES["gaps"])
        # The table's name is put together where no pattern over the text sees it.
        read = f"FROM query_table('{table[:-2]}' || '{table[-2:]}') SELECT bar_count"
        assert json.loads(engine("sql", target, read, *options, "--format", "json").out) == [{"bar_count": 7}]


def test_sql_table_of_an_audit_that_is_damaged_is_named(engine, out: Path, audit: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(audit, tmp_path / "audit")
    (copy / "tables" / "gaps.parquet").write_bytes(b"PAR1 no more PAR1")
    ran = engine("sql", out, "FROM audit_gaps", "--audit", copy)
    assert (ran.code, "table audit_gaps cannot be read" in ran.err, "engine audit" in ran.err) == (USAGE, True, True)


def test_sql_revision_of_an_audit_is_refused(engine, audit: Path) -> None:
    ran = engine("sql", audit, "SHOW TABLES", "--revision", 1)
    assert (ran.code, "revision: received 1 for tables that have no other" in ran.err) == (USAGE, True)


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
    assert split_statements(text) == (statements, rest)


# --- The prompt


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, *words: object, home: Path) -> None:
        self._master, slave = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(home), "COLUMNS": "100"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN, *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
            preexec_fn=_own_terminal,  # noqa: PLW1509 - nothing else gives a child its terminal
        )
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
    completer = NameCompleter(["bars", "bars_local", "SELECT", "symbol"])
    assert [completer.complete("ba", state) for state in range(3)] == ["bars", "bars_local", None]
    assert completer.complete("sel", 0) == "select"
    assert completer.complete("SEL", 0) == "SELECT"


def test_history_file_is_in_the_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert history_file() == Path("/state/session-engine/sql_history")
    assert prompt_room.FIRST.startswith("engine")
    assert callable(main)
