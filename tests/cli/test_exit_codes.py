"""How the command line behaves: examples, quiet, colours, pipes, narrow terminals, Ctrl-C, errors, completion."""

from __future__ import annotations

import datetime as dt
import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import typer
from engine.cli import FAILED, INTERRUPTED, USAGE
from engine.cli.audit_command import resume_folder
from engine.cli.commands import app
from engine.cli.console import print_data, progress, set_quiet
from engine.errors import ParameterError

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
COLOUR = re.compile(r"\x1b\[[\d;]*?\b(?:3\d|4\d|9\d)[\d;]*m")
PROGRAM = "from engine.cli import main; main()"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [f"{(OPEN + dt.timedelta(minutes=m)).isoformat()},10,10.5,9.5,10.2,{100 + m}" for m in range(390) if m != 7]
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "SPY.csv").write_text("ts,open,high,low,close,volume\n" + "\n".join(lines))
    return tmp_path / "vendor"


def commands() -> Iterator[tuple[str, ...]]:
    def walk(command, *names: str) -> Iterator[tuple[str, ...]]:
        inner = getattr(command, "commands", {})
        if not inner:
            yield names
        for name, one in inner.items():
            yield from walk(one, *names, name)

    yield from walk(typer.main.get_command(app))


@pytest.mark.parametrize("names", sorted(commands()), ids=" ".join)
def test_help_of_a_command_shows_an_example_of_it(
    engine, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = engine(*names, "--help")
    assert code == 0
    assert f"Example: engine {' '.join(names)}" in out


def in_terminal(*words: str, columns: int = 120, **variables: str) -> str:
    """What a command writes to a terminal of so many columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES", "PAGER", "CI")
    }
    env = inherited | {"TERM": "xterm-256color", **variables}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdin=follower, stdout=follower, stderr=follower, env=env
    ):
        os.close(follower)
        written = io.BytesIO()
        while True:
            try:
                chunk = os.read(leader, 65_536)
            except OSError:  # Linux says so when the other side is closed
                break
            if not chunk:
                break
            written.write(chunk)
    os.close(leader)
    return written.getvalue().decode(errors="replace")


def test_help_in_a_terminal_is_coloured_unless_told_otherwise() -> None:
    assert COLOUR.search(in_terminal("--help"))
    assert not COLOUR.search(in_terminal("--help", "--no-color"))
    assert not COLOUR.search(in_terminal("--help", NO_COLOR="1"))


def test_run_in_a_narrow_terminal_keeps_to_its_width(folder: Path) -> None:
    written = in_terminal("run", str(folder), "--calendar", "XNYS", "--no-color", "--quiet", columns=40)
    assert written.strip() == ""
    written = in_terminal("calendars", "XNYS", "--start", "2024-01-02", "--end", "2024-01-02", "--no-color", columns=40)
    drawn = [line for line in re.sub(r"\x1b\[[\d;]*m", "", written).splitlines() if line[:1] in "┏┃┡│└"]
    assert drawn
    assert max(map(len, drawn)) <= 40
    assert "columns left out" in written


def test_pipe_gets_no_colour_and_no_bar(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", str(folder), "--calendar", "XNYS"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b" not in done.stdout
    assert (done.stderr, "SPY" in done.stdout) == ("", True)


def test_progress_of_watched_work_shows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress(enabled=True, doing="auditing") as tell:
        for done in range(1, 61):
            tell(done, 100, None)
            time.sleep(0.005)
        shown = tell.__self__._bar.get_renderable()
        cells = [str(cell) for table in shown.renderables for column in table.columns for cell in column._cells]
    assert "auditing" in cells
    assert "60/100" in [cell.strip() for cell in cells]
    assert any(re.fullmatch(r"[\d,]+/s", cell) for cell in cells)
    assert any(re.fullmatch(r"(\d+:)?\d+:\d+", cell) for cell in cells)


def test_progress_of_quiet_work_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    set_quiet(quiet=True)
    try:
        with progress(enabled=True) as tell:
            assert tell is None
    finally:
        set_quiet(quiet=False)


@pytest.mark.parametrize("place", ["before", "behind"])
def test_run_quietly_prints_nothing_and_still_writes(engine, folder: Path, tmp_path: Path, place: str) -> None:
    words = ["run", folder, "--calendar", "XNYS", "--export", tmp_path / "out"]
    given = ["--quiet", *words] if place == "before" else [*words, "--quiet"]
    assert engine(*given) == (0, "", "")
    assert (
        engine(
            "sql",
            tmp_path / "out",
            "SELECT count(*) AS n FROM gaps WHERE interval = '1m'",
            "--format",
            "csv",
            "--quiet",
        )[1]
        == "n\n1\n"
    )
    assert "SPY" in engine("--quiet", "gaps", tmp_path / "out")[1]


def test_run_quietly_still_tells_of_files_that_could_not_be_read(engine, folder: Path) -> None:
    (folder / "BAD.csv.gz").write_bytes(b"\x1f\x8bnot really")
    code, out, err = engine("run", folder, "--calendar", "XNYS", "--quiet")
    assert (code, out) == (3, "")
    assert err.startswith("engine: could not be read: ")
    assert "BAD.csv.gz" in err


def test_words_behind_two_dashes_are_no_flags(engine) -> None:
    code, _, err = engine("calendars", "--", "--quiet")
    assert (code, "'--quiet'" in err) == (USAGE, True)


def test_error_with_debug_shows_where_it_came_from(engine, folder: Path) -> None:
    code, _, err = engine("run", folder / "nowhere", "--calendar", "XNYS", "--debug")
    assert code == USAGE
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("engine: ")
    assert "Traceback" not in engine("run", folder / "nowhere", "--calendar", "XNYS")[2]


def test_error_of_ours_is_a_sentence_that_asks_for_the_trace(
    engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("engine.runtime.run.run", fail)
    code, _, err = engine("run", folder, "--calendar", "XNYS")
    assert (code, err.count("\n")) == (FAILED, 1)
    assert "ZeroDivisionError: by nothing" in err
    assert "--debug" in err
    assert "in fail" in engine("run", folder, "--calendar", "XNYS", "--debug")[2]


def test_interrupt_while_exporting_leaves_nothing_half_written(folder: Path, tmp_path: Path) -> None:
    text = (folder / "SPY.csv").read_text()
    for number in range(150):
        (folder / f"S{number}.csv").write_text(text)
    out = tmp_path / "out"
    words = [sys.executable, "-c", PROGRAM, "run", str(folder), "--calendar", "XNYS", "--export", str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while running.poll() is None and not list(out.glob("bars/**/*.parquet")):
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=120)
    assert running.returncode in (0, INTERRUPTED)  # 0: it was faster than the signal
    assert "Traceback" not in err
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    counted = pl.read_delta(str(out / "bars")).filter(pl.col("interval") == "1m")
    assert counted.group_by("symbol").len()["len"].unique().to_list() == [389]
    checked = subprocess.run(
        [sys.executable, "-c", PROGRAM, "verify", str(out)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, "nothing wrong" in checked.stdout) == (0, True)


def test_completion_of_a_shell_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    env = os.environ | {"_ENGINE_COMPLETE": "complete_bash", "COMP_WORDS": "engine rec", "COMP_CWORD": "1"}
    started = "import sys; sys.argv[0] = 'engine'\n" + PROGRAM
    done = subprocess.run([sys.executable, "-c", started], capture_output=True, text=True, env=env, check=False)
    assert done.stdout.split() == ["reconcile"]


def test_run_out_of_memory_is_no_defect(engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("engine.runtime.run.run", fill)
    code, _, err = engine("run", folder, "--calendar", "XNYS")
    assert (code, "out of memory" in err, "defect" in err) == (FAILED, True, False)


STEERING = "\x1b[31mRED\x1b]0;title\x07\x9b2J\u202e\u2066"


@pytest.mark.parametrize(
    "words",
    [
        [STEERING],
        ["run", STEERING],
        ["run", f"--{STEERING}", "."],
        ["calendars", STEERING],
        ["config", "check", STEERING],
        ["sql", ".", "SELECT 1", "--limit", STEERING],
        ["calendars", "--search", STEERING, "--debug", "XNYS"],
    ],
)
def test_errors_show_control_characters_escaped(engine, words: list[str]) -> None:
    code, out, err = engine(*words)
    assert code != 0
    assert [c for c in out + err if not c.isprintable() and c != "\n"] == []


def test_data_on_a_terminal_are_escaped_and_in_a_pipe_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal, told in ((True, "\\x1b[31mRED"), (False, "\x1b[31mRED")):
        screen = io.StringIO()
        screen.isatty = lambda is_terminal=is_terminal: is_terminal  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdout", screen)
        print_data("\x1b[31mRED")
        assert screen.getvalue() == told


def test_work_of_another_user_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".work").mkdir()
    assert resume_folder(tmp_path, resume=True) == tmp_path / ".work"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ParameterError, match="belongs to another user"):
        resume_folder(tmp_path, resume=True)
