"""What reaches standard error: no message of a Rust panic, no warning of NumPy, and everything else."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest
from engine.errors import SourceError
from engine.panics import hide_panics, without_panics
from engine.sources import frames
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan

PANIC = (
    b"\nthread 'async-executor-0' (4711) panicked at crates/polars-parquet/src/parquet/metadata.rs:301:37:\n"
    b"called `Option::unwrap()` on a `None` value\n"
    b"note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n"
)
SECOND = b"\nthread '<unnamed>' panicked at src/a.rs:1:2:\nassertion `left == right` failed\n  left: 1\n right: 2\n"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (PANIC, b""),
        (b"before\n" + PANIC + b"after\n", b"before\nafter\n"),
        (PANIC + SECOND + b"after\n", b"after\n"),
        (b"a thread 'x' of mine\n", b"a thread 'x' of mine\n"),
    ],
)
def test_without_panics_leaves_the_other_text(text, left):
    assert without_panics(text) == left


def test_hidden_panics_leave_what_others_write(capfd):
    with hide_panics():
        os.write(2, PANIC)
        os.write(2, b"of another thread\n")
        with hide_panics():
            os.write(2, SECOND)
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "of another thread\nafterwards\n"


def test_many_threads_lose_no_line(capfd):
    def work(number: int) -> None:
        for turn in range(50):
            with hide_panics():
                os.write(2, PANIC)
                os.write(2, f"line {number} {turn}\n".encode())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = capfd.readouterr().err.splitlines()
    assert sorted(written) == sorted(f"line {number} {turn}" for number in range(4) for turn in range(50))


def test_file_whose_reader_panics_is_refused_without_its_message(tmp_path, monkeypatch, capfd):
    path = tmp_path / "SPY_1m.parquet"
    stamps = [dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC) + dt.timedelta(minutes=n) for n in range(9)]
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), [1.0] * 9)
    pl.DataFrame({"ts": stamps, **prices}).write_parquet(path)
    ((file,), _) = scan([path], ReadOptions())

    def panics(*_, **__):
        os.write(2, PANIC)
        raise pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr(frames.pl, "scan_parquet", panics)
    with pytest.raises(SourceError, match=r"SPY_1m\.parquet"):
        read(file, ReadOptions())
    assert capfd.readouterr().err == ""


def test_extreme_values_print_no_warning_of_numpy(tmp_path: Path):
    """Sums, ratios and squares of such prices and volumes are no floats any more."""
    extremes = ["1e308,1.7e308,1e307,1.1e308,1e308", "1e300,1e300,1e300,1e300,1", "1e-300,1e-300,1e-300,1e-300,1e300"]
    lines = [
        f"{dt.datetime(2024, 1, day, 14, 30, tzinfo=dt.UTC) + dt.timedelta(minutes=n):%Y-%m-%dT%H:%M:%SZ},{extremes[n % 7 % 3]}"
        for day in (2, 3)
        for n in range(390)
    ]
    (tmp_path / "HUGE_1m.csv").write_text("\n".join(["ts,open,high,low,close,volume", *lines]))
    command = f"from engine.cli import main; import sys; sys.argv = ['engine', 'audit', {str(tmp_path / 'HUGE_1m.csv')!r}, '--calendar', 'XNYS', '--output', {str(tmp_path / 'audit')!r}]; main()"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert "Worst series" in done.stdout
    assert "encountered" not in done.stderr
    assert "defect" not in done.stderr
