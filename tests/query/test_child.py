"""Queries in a child process: the same answers and errors, limits that hold whatever DuckDB does, nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from engine.errors import ExportError, ParameterError, QueryError
from engine.export.dataset import open_dataset
from engine.query import QuerySession, sandbox, sql
from engine.query.child import Child
from engine.query.child_pool import ChildPool
from engine.query.explain import error_text
from engine.query.request import Limits
from engine.query.sql_views import pinned_catalog
from polars.testing import assert_frame_equal

from tests.query.hostile_statements import HOSTILE, REFUSED
from tests.query.test_sql import QUERIES, WORD, _export, _filled, _pins, _snapshot, _tables, scene

__all__ = ["scene"]

TYPES = """SELECT TIMESTAMPTZ '2013-10-31 12:00:00-04' AS a, TIME '16:00:00' AS b, INTERVAL '1 day 2 seconds' AS c, 7::HUGEINT AS d,
'b'::ENUM('b', 'a') AS e, ['b'::ENUM('b', 'a')] AS f, {'k': 'x', 'n': NULL} AS g, [1, 2]::INTEGER[2] AS h, NULL AS i,
'\U0001f4c8' AS j, 1.5::DECIMAL(10, 2) AS k, '\\xAA'::BLOB AS l, uuid '12345678-1234-1234-1234-123456789012' AS m, 1 AS a"""
EASY = """SELECT * FROM (VALUES (true, 1::TINYINT, 2::SMALLINT, 3, 4::BIGINT, 5::HUGEINT, 0.5::FLOAT, 0.1::DOUBLE, '📈',
DATE '2013-10-31', TIMESTAMP '2013-10-31 16:00:00', TIMESTAMPTZ '2013-10-31 12:00:00-04')) UNION ALL SELECT NULL, NULL, NULL, NULL, NULL,
NULL, NULL, NULL, NULL, NULL, NULL, NULL"""


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("child") / "export"
    _export(target, _tables())
    return target


@pytest.fixture(scope="module")
def session(export: Path):
    with QuerySession(export) as session:
        yield session


def children() -> set[int]:
    found = set()
    for thread in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended since
            found |= set(map(int, thread.read_text().split()))
    return found


@pytest.mark.parametrize("query", [
    *QUERIES, TYPES, EASY, "DESCRIBE bars", "SELECT * FROM bars WHERE false", "SELECT 1 AS a, 2 AS a", "SELECT i FROM range(300000) t(i)",
])  # fmt: skip
def test_child_answers_as_this_process_does(export: Path, session: QuerySession, query: str) -> None:
    answer = session.run(query)
    assert_frame_equal(answer.frame, sql(export, query, isolated=False))
    assert (answer.rows, answer.exact, answer.note) == (answer.frame.height, True, None)


def test_child_whole_number_beyond_64_bits_is_told_as_here(export: Path, session: QuerySession) -> None:
    query = "SELECT 170141183460469231731687303715884105727::HUGEINT AS x"
    for ask in (session.run, lambda text: sql(export, text, isolated=False)):
        with pytest.raises(QueryError, match="beyond 64 bits"):
            ask(query)


def test_sql_isolated_answers_over_export_and_frames_alike(export: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    frames = _tables()
    frames["bars"] = frames["bars"].with_columns(pl.col("provenance").cast(pl.Enum(["source", "backfill"])))
    query = "SELECT symbol, provenance, max(close) AS high FROM bars GROUP BY ALL ORDER BY ALL"
    assert_frame_equal(sql(frames, query), sql(export, query))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT clsoe FROM bars", ["unknown column clsoe", "nearest: close", "LINE 1: SELECT clsoe", "^^^^^"]),
        ("FROM brs", ["unknown table brs", "nearest: bars"]),
        ("DROP VIEW bars", ["refused, received DROP"]),
        ("SELECT * FROM read_text('/etc/passwd')", ["refused", "reads the tables and nothing else"]),
        ("SELECT error('mine') FROM bars", ["mine"]),
    ],
)
def test_child_mistake_is_told_as_here(export: Path, session: QuerySession, query: str, words: list[str]) -> None:
    with pytest.raises(QueryError) as raised:
        session.run(query)
    with pytest.raises(QueryError) as here:
        sql(export, query, isolated=False)
    assert str(raised.value) == str(here.value)
    assert all(word in str(raised.value) for word in words)
    assert str(export) not in str(raised.value)


ENDLESS = [
    ("SELECT repeat('x', 1000000000) AS x", "needs more than memory=200MB|larger than memory=200MB"),
    ("SELECT sum(length(repeat('x', 100000000 + range))) FROM range(30)", "memory=200MB"),
    ("SELECT string_agg(repeat('y', 1000000), ',') FROM range(3000)", "memory=200MB"),
    ("SELECT * FROM (SELECT range AS a, hash(range) AS b FROM range(500000000)) ORDER BY b", "memory=200MB|timeout_seconds=10"),
    ("SELECT range, range FROM range(10000000000)", "larger than memory=200MB"),
    ("SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c WHERE hash(a.range) < hash(b.range)", "timeout_seconds=1$"),
    ("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r", "timeout_seconds=1$"),
    ("WITH RECURSIVE r(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM r) SELECT max(length(s)) FROM r", "memory=200MB|timeout_seconds=1$"),
    ("SELECT list_sum([hash(i) % 7 for i in range(100000000)])", "memory=200MB|timeout_seconds=1$"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "told"), ENDLESS)
def test_child_endless_query_ends_and_leaves_no_process(export: Path, query: str, told: str) -> None:
    before = children()
    begun = time.monotonic()
    with QuerySession(export) as session:
        with pytest.raises(QueryError, match=told):
            session.run(query, Limits(1.0 if "timeout_seconds=1$" in told else 10.0, "200MB", threads=2))
        took = time.monotonic() - begun
        assert session.run("SELECT count(*) AS n FROM bars").frame.item() == _tables()["bars"].height
    assert took < 60  # a machine may be busy; without limits these would take hours
    assert children() <= before


def test_child_that_does_not_answer_is_killed(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with QuerySession(export) as session:
        session.run("SELECT 1")
        pid = session._child.pid
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr("engine.query.child.START_SECONDS", 0.5)
        with pytest.raises(QueryError, match="stopped after"):
            session.run("SELECT 1", Limits(0.5))
        assert pid not in children()
        monkeypatch.undo()
        assert session.run("SELECT 1 AS a").frame.item() == 1


def test_child_that_died_is_told_and_replaced(export: Path) -> None:
    with QuerySession(export) as session:
        session.run("SELECT 1")
        os.kill(session._child.pid, signal.SIGKILL)
        time.sleep(0.1)
        assert session.run("SELECT 1 AS a").frame.item() == 1


def test_child_outlives_no_parent(export: Path) -> None:
    code = (
        "import sys; from engine.query import QuerySession; a = QuerySession(sys.argv[1]); a.run('SELECT 1');"
        "print(a._child.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(export)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.communicate()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


def test_child_runs_no_module_of_the_current_folder(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "duckdb.py").write_text("open('was_here', 'w')")
    monkeypatch.chdir(tmp_path)
    assert sql(export, "SELECT 1 AS a").item() == 1
    assert not (tmp_path / "was_here").exists()


def test_child_keeps_the_first_rows_and_counts_the_others(session: QuerySession) -> None:
    answer = session.run("SELECT range AS n FROM range(200000)", row_limit=3)
    assert (answer.frame["n"].to_list(), answer.rows, answer.exact) == ([0, 1, 2], 200_000, True)
    assert answer.note == "3 of 200,000 rows"
    endless = session.run("SELECT range AS n FROM range(100000000000)", row_limit=3)
    assert (endless.frame["n"].to_list(), endless.exact) == ([0, 1, 2], False)
    assert "3 of more than 1," in endless.note
    assert session.run("SELECT range AS n FROM range(5)", row_limit=5).note is None


def test_asker_stays_at_its_revision(tmp_path: Path) -> None:
    tables = _tables()
    _export(tmp_path / "out", tables)
    with QuerySession(tmp_path / "out") as session, QuerySession(tmp_path / "out", revision=1) as first:
        _export(tmp_path / "out", tables | {"bars": tables["bars"].head(10)})
        for one in (session, first):
            assert one.run("SELECT count(*) AS n FROM bars").frame.item() == tables["bars"].height
    with pytest.raises(ExportError, match="no revision 9"):
        QuerySession(tmp_path / "out", revision=9)


def test_session_lists_tables_views_and_columns(session: QuerySession) -> None:
    columns = session.columns()
    assert {"bars", "bars_local", "coverage", "worst_gaps", "exports"} <= set(columns)
    assert columns["bars_local"][-1] == "ts_local"


def test_child_missing_file_is_an_export_error(tmp_path: Path) -> None:
    _export(tmp_path / "out", _tables())
    for file in (tmp_path / "out" / "gaps").glob("*.parquet"):
        file.unlink()
    with pytest.raises(ExportError, match="table gaps cannot be read") as raised:
        sql(tmp_path / "out", "SELECT 1")
    assert str(tmp_path) not in str(raised.value)


def test_sql_isolated_with_bad_option_starts_nothing(export: Path) -> None:
    before = children()
    with pytest.raises(ParameterError, match="memory: received"):
        sql(export, "SELECT 1", memory="lots")
    assert children() <= before


def test_child_closed_twice_is_quiet() -> None:
    child = Child()
    child.close()
    child.close()
    assert child.pid is None


def assert_hostile(scene: dict[str, Path | str], hostile: list) -> None:
    before = _snapshot(Path(scene["root"]))
    wrong = []
    with QuerySession(_pins(scene)) as session:
        for one in hostile:
            query, outcome = _filled(one, scene), "harmless"
            try:
                seen = str(session.run(query, Limits(20, "60MB")).frame.to_dict(as_series=False))
            except QueryError as error:
                outcome, seen = REFUSED, str(error).replace(query, "")
            if (outcome == REFUSED) != (one.door == REFUSED) or WORD in seen:
                wrong.append((query, seen))
    assert wrong == []
    assert _snapshot(Path(scene["root"])) == before


def test_child_hostile_sample_gets_nothing_in_or_out(scene: dict[str, Path | str]) -> None:
    assert_hostile(scene, HOSTILE[::12])


@pytest.mark.slow
def test_child_hostile_statements_get_nothing_in_or_out(scene: dict[str, Path | str]) -> None:
    assert_hostile(scene, HOSTILE)


def test_child_that_is_ended_from_outside_is_told_apart_from_one_that_took_too_much(export: Path) -> None:
    with QuerySession(export) as session:
        threading.Timer(1.5, os.kill, (session._child.pid, signal.SIGTERM)).start()
        with pytest.raises(QueryError, match="ended from outside"):
            session.run("SELECT count(*) FROM range(100000000) t(a), range(100000) u(b) WHERE hash(a + b) % 7 = 1")
        assert session.run("SELECT 7 AS n").frame["n"].to_list() == [7]


def test_sql_of_files_that_are_gone_or_folders_says_what_to_do(export: Path, tmp_path: Path) -> None:
    target = shutil.copytree(export, tmp_path / "out")
    opened = open_dataset(target)
    for place in opened.files("bars"):
        place.unlink()
        with pytest.raises(ExportError, match="engine verify"):
            sql(opened, "SELECT count(close) FROM bars")
        place.mkdir()
    with pytest.raises(ExportError, match="engine verify"):
        sql(opened, "SELECT count(close) FROM bars")


# --- The warm process of `sql`

CRASHES = [
    "SELECT (repeat('[', 200000) || repeat(']', 200000))::JSON::VARIANT",
    "SELECT json_contains(repeat('[', 300000) || repeat(']', 300000), '1')",
]


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch):
    pool = ChildPool()
    monkeypatch.setattr("engine.query.child_pool._pool", pool)
    yield pool
    pool.close()


def _idle_pids(pool: ChildPool) -> list[int]:
    return [child.pid for child in pool._idle]


def test_sql_asks_one_process_again_and_again(export: Path, pool: ChildPool) -> None:
    before = children()
    assert sql(export, "SELECT 1 AS a").item() == 1
    first = _idle_pids(pool)
    assert sql(_tables(), "SELECT count(*) AS n FROM bars").item() == _tables()["bars"].height
    assert (_idle_pids(pool), len(first)) == (first, 1)
    pool.close()
    assert children() <= before


@pytest.mark.parametrize("query", CRASHES)
def test_sql_crash_of_duckdb_is_told_and_the_next_question_is_answered(
    export: Path, pool: ChildPool, query: str
) -> None:
    with pytest.raises(QueryError, match=r"crashed DuckDB \(signal 11, SIGSEGV\)") as raised:
        sql(export, query)
    assert "memory=" not in str(raised.value)
    assert sql(export, "SELECT 1 AS a").item() == 1
    assert len(pool._idle) == 1


def test_sql_function_that_ignores_duckdbs_clock_is_stopped(export: Path, pool: ChildPool) -> None:
    begun = time.monotonic()
    with pytest.raises(QueryError, match="stopped after timeout_seconds=1"):
        sql(
            export,
            "SELECT count(*) FROM json_tree(repeat('[1,', 100000) || '1' || repeat(']', 100000))",
            timeout_seconds=1,
        )
    assert time.monotonic() - begun < 40  # a minute and more in this process


def test_sql_process_ended_from_outside_is_replaced(export: Path, pool: ChildPool) -> None:
    sql(export, "SELECT 1 AS a")
    os.kill(_idle_pids(pool)[0], signal.SIGKILL)
    time.sleep(0.1)
    assert sql(export, "SELECT 2 AS a").item() == 2


def test_sql_two_hundred_questions_at_a_time(export: Path, pool: ChildPool) -> None:
    most = 0
    before = children()

    def ask(number: int) -> int:
        nonlocal most
        answer = sql(export, f"SELECT {number} + 0 * count(*) AS n FROM bars").item()  # noqa: S608 - a number
        most = max(most, len(children() - before))
        return answer

    with ThreadPoolExecutor(200) as threads:
        assert list(threads.map(ask, range(200))) == list(range(200))
    assert most <= max(2, os.cpu_count() or 1) + 1
    assert len(pool._idle) == 1


def test_sql_forked_process_begins_with_an_empty_pool(export: Path) -> None:
    code = (
        "import os, sys; import engine; from engine.query.child_pool import child_pool as pool\n"
        "ask = lambda: engine.sql(sys.argv[1], 'SELECT 1 AS a').item()\n"
        "ask(); pid = os.fork()\n"
        "if pid == 0: os._exit(len(pool()._idle))\n"
        "print(os.waitpid(pid, 0)[1], ask(), len(pool()._idle))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(export)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ran.stdout, ran.returncode) == ("0 1 1\n", 0), ran.stderr


def test_internal_error_shows_no_folder_of_the_installation() -> None:
    text = "INTERNAL Error: index 3\n\nStack Trace:\n\n/usr/lib/python3/site-packages/_duckdb.so(+0x1) [0x7f]\nmore"
    assert error_text(RuntimeError(text)) == "INTERNAL Error: index 3"


def test_session_questions_share_views_but_neither_seeds_nor_types(session: QuerySession) -> None:
    seeded = [(session.run("SELECT setseed(0.25)"), session.run("SELECT random()").frame.item())[1] for _ in range(2)]
    assert seeded[0] != seeded[1]
    session.run("SELECT * FROM (PIVOT (SELECT 'a' AS k, 1 AS v) ON k USING sum(v))")
    assert session.run("SELECT count(*) FROM duckdb_types() WHERE NOT internal").frame.item() == 0


def test_kept_sandbox_makes_views_again_for_other_files_limits_and_after_an_error(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    create = sandbox.create_views
    monkeypatch.setattr(sandbox, "create_views", lambda *words: (made.append(1), create(*words))[1])
    files = {name: open_dataset(export).files(name) for name in ("gaps", "quality")}
    one, other = pinned_catalog(files), pinned_catalog({"gaps": files["gaps"]})
    kept = sandbox.ReusedSandbox()
    counts = []
    for catalog, query, limits in (
        (one, "FROM gaps", Limits()), (one, "FROM gaps", Limits()), (one, "FROM gaps", Limits(5.0)),
        (other, "FROM gaps", Limits()), (other, "FROM nothing", Limits()), (other, "FROM gaps", Limits()),
    ):  # fmt: skip
        with suppress(QueryError), sandbox.open_result(catalog, {}, query, limits, None, kept) as result:
            assert sum(batch.num_rows for batch in result.reader) == _tables()["gaps"].height
        counts.append(len(made))
    kept.close()
    assert counts == [1, 1, 2, 3, 3, 4]


def test_session_file_that_is_damaged_between_two_questions_is_named(tmp_path: Path) -> None:
    _export(tmp_path / "out", _tables())
    (file, *_) = open_dataset(tmp_path / "out").files("gaps")
    with QuerySession(tmp_path / "out") as session:
        session.run("FROM gaps")
        data = bytearray(Path(file).read_bytes())
        data[100] ^= 1
        Path(file).write_bytes(data)
        with pytest.raises(QueryError, match=r"gaps/.*its SHA-256 is not that of its name; `engine verify`"):
            session.run("FROM gaps")
