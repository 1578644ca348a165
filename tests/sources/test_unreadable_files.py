"""A file with a data file's name that cannot be read is a named problem, and never ends what is done with the others."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import subprocess
import zipfile
from pathlib import Path

import polars as pl
import pytest
from engine.errors import SourceError
from engine.runtime.load import load_files
from engine.runtime.options import CalendarMap, LoadOptions
from engine.sources.read import contained, read
from engine.sources.scan import scan

MINUTES = [f"2024-01-02T14:{30 + n}:00Z" for n in range(30)]
CSV = "timestamp,open,high,low,close,volume\n" + "".join(f"{ts},10,11,9,10.5,100\n" for ts in MINUTES)


def parquet() -> bytes:
    file = io.BytesIO()
    pl.read_csv(CSV.encode()).write_parquet(file)
    return file.getvalue()


def test_scan_pipes_devices_sockets_and_endless_links_are_never_waited_for(tmp_path):
    (tmp_path / "A.csv").write_text(CSV)
    os.mkfifo(tmp_path / "B.csv")
    (tmp_path / "C.csv").symlink_to("/dev/zero")
    (tmp_path / "D.csv").symlink_to(tmp_path / "D.csv")
    (tmp_path / "E.csv").symlink_to(tmp_path / "nowhere.csv")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path is short
        server.bind("F.csv")
        os.chdir(here)
        files, found = scan([tmp_path])
    assert [file.path.name for file in files] == ["A.csv"]
    reasons = {Path(problem.path).name: problem.reason.partition(": ")[::2] for problem in found}
    assert set(reasons) == {f"{name}.csv" for name in "BCDEF"}
    assert {reason for reason, _ in reasons.values()} == {"is not a regular file"}
    assert [reasons[f"{name}.csv"][1] for name in "BCF"] == ["a pipe", "a device", "a socket"]
    assert [one.reason for one in scan([tmp_path / "D.csv"])[1]] == [": ".join(reasons["D.csv"])]


def test_scan_name_that_is_not_utf8_is_a_problem_of_that_file(tmp_path):
    (tmp_path / "A.csv").write_text(CSV)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv")).write_text(CSV)
    loaded = load_files([tmp_path], LoadOptions(CalendarMap("XNYS")))
    assert loaded.rows == len(MINUTES)
    assert [(Path(one.path).name, one.reason) for one in loaded.problems] == [
        ("caf\\xe9.csv", "its path is not UTF-8; rename it")
    ]


def test_scan_folders_nested_1500_deep_are_searched(tmp_path):
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1500):
            os.mkdir("d")  # noqa: PTH102 - the path as a whole is longer than the system takes
            os.chdir("d")
        Path("A.csv").write_text(CSV)
    finally:
        os.chdir(here)
    (tmp_path / "B.csv").write_text(CSV)
    try:
        files, found = scan([tmp_path])
        assert [file.path.name for file in files] == ["B.csv", "A.csv"]
        assert found == []
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # Python's own removal recurses


def test_scan_folder_that_cannot_be_listed_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "A.csv").write_text(CSV)
    real = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files, found = scan([tmp_path])
    assert [file.path.name for file in files] == ["A.csv"]
    assert [(Path(one.path).name, one.reason) for one in found] == [("closed", "cannot be listed: Permission denied")]


def test_contained_makes_whatever_is_raised_the_problem_of_the_file(tmp_path):
    for error in (KeyError("x"), RecursionError("deep"), pl.exceptions.ComputeError("no"), OSError(5, "I/O error")):
        with pytest.raises(Exception, match=r"SPY\.csv: cannot be read: ") as raised:
            contained(Path("SPY.csv"), lambda error=error: (_ for _ in ()).throw(error))
        assert type(raised.value).__name__ == "SourceError"
    for error in (MemoryError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            contained(Path("SPY.csv"), lambda error=error: (_ for _ in ()).throw(error))


@pytest.mark.parametrize(
    ("name", "pack"), [("SPY_1m.csv.bz2", bz2.compress), ("SPY_1m.csv.xz", lzma.compress), ("SPY_1m.csv.gz", gzip.compress)]
)  # fmt: skip
def test_read_packed_files_give_the_rows_of_the_plain_one(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(CSV.encode()))
    (file,), problems = scan([tmp_path])
    assert (problems, file.symbol) == ([], "SPY")
    assert read(file)[0].frame.height == len(MINUTES)


def test_read_zip_gives_readable_members_and_names_the_others(tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        archive.writestr("SPY_1m.csv", CSV)
        archive.writestr("QQQ_1m.csv", bytes(5000))
        archive.writestr("__MACOSX/._SPY_1m.csv", bytes(100))
        archive.writestr("readme.txt", "about")
        archive.writestr("IWM_1m.csv", CSV)
    loaded = load_files([tmp_path], LoadOptions(CalendarMap("XNYS")))
    assert sorted(loaded.session.snapshot().symbols) == ["IWM", "SPY"]
    assert [(Path(one.path).name.split("!")[1], "zeros" in one.reason) for one in loaded.problems] == [
        ("QQQ_1m.csv", True)
    ]
    assert any("readme.txt" in note for note in loaded.notes)


def test_read_parquet_with_a_damaged_schema_or_page_is_refused_by_its_name(tmp_path):
    """Each byte of the footer and of the first page in turn: nothing raises anything else, and nothing ends the process."""
    data = parquet()
    path = tmp_path / "SPY_1m.parquet"
    for at in (*range(4, 60), *range(len(data) - 600, len(data), 7)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        files, problems = scan([path])
        reasons = [one.reason for one in problems]
        for file in files:
            try:
                read(file)
            except SourceError as error:
                reasons.append(error.reason)
        assert not [reason for reason in reasons if "defect of engine" in reason], at
