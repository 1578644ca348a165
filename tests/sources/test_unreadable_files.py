"""A file with a data file's name that cannot be read is a named problem, and never ends what is done with the others."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import polars as pl
import pytest
from engine.cli import program
from engine.cli.exit_codes import PARTLY_READ
from engine.errors import SourceError
from engine.runtime.load import load_files
from engine.runtime.options import CalendarMap, LoadOptions
from engine.sources.read import contained, read
from engine.sources.scan import scan

MINUTES = [f"2024-01-02T14:{30 + n}:00Z" for n in range(30)]
CSV = "timestamp,open,high,low,close,volume\n" + "".join(f"{ts},10,11,9,10.5,100\n" for ts in MINUTES)


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(byte ^ 0x5A for byte in data[at : at + 12]) + data[at + 12 :]


def parquet() -> bytes:
    file = io.BytesIO()
    pl.read_csv(CSV.encode()).write_parquet(file)
    return file.getvalue()


def dbn(version: int) -> bytes:
    return b"DBN" + bytes([version]) + (100).to_bytes(4, "little") + b"XNAS.ITCH".ljust(16, b"\0") + bytes(100)


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("SPY.csv")
        info.size = len(CSV)
        archive.addfile(info, io.BytesIO(CSV.encode()))
    return file.getvalue()


BAD = {
    "zeros.csv": (bytes(5000), "filled with zeros"),
    "binary.csv": (bytes(range(256)) * 20, "is binary"),
    "empty.csv": (b"", "is empty"),
    "utf32.csv": (CSV.encode("utf-32"), "UTF-32"),
    "utf32le.csv": (CSV.encode("utf-32-le"), "UTF-32"),
    "twice.csv.gz": (gzip.compress(gzip.compress(CSV.encode())), "packed twice (gzip in gzip)"),
    "mixed.csv.xz": (lzma.compress(bz2.compress(CSV.encode())), "packed twice (bzip2 in xz)"),
    "zip.csv.gz": (gzip.compress(zipped(a=b"x")), "packed twice (zip in gzip)"),
    "tar.csv.gz": (tarred(), "is a tar archive"),
    "magic.parquet": (b"PAR0" + parquet()[4:], "not with the mark of parquet"),
    "zeros.parquet": (bytes(5000), "not with the mark of parquet"),
    "cut.parquet": (parquet()[:-20], "no Parquet file"),
    "locked.parquet": (b"PARE" + parquet()[4:-4] + b"PARE", "encrypted"),
    "old.feather": (b"FEA1" + bytes(200) + b"FEA1", "Feather of version 1"),
    "next.dbn": (dbn(9), "version 9"),
    "cut.csv.gz": (gzip.compress(CSV.encode())[:-12], "cannot be unpacked"),
    "damaged.csv.xz": (damaged(lzma.compress(CSV.encode()), 40), "cannot be unpacked"),
    "damaged.csv.bz2": (damaged(bz2.compress(CSV.encode()), 40), "cannot be unpacked"),
    "lzma.zip": (damaged(zipped(**{"SPY.csv": CSV.encode()}), 60), "cannot be unpacked"),
    "cut.zip": (zipped(**{"SPY.csv": CSV.encode()})[:-30], "no zip archive"),
    "nested.zip": (zipped(**{"SPY.csv.gz": gzip.compress(CSV.encode())}), "packed data (gzip)"),
    "old.dat": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Excel workbook of the old kind"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("bad")
    (root / "SPY_1m.csv").write_text(CSV)
    for name, (data, _) in BAD.items():
        (root / name).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def problems(folder) -> dict[str, str]:
    loaded = load_files([folder], LoadOptions(CalendarMap("XNYS")))
    assert loaded.rows == len(MINUTES)
    assert not any(problem.ignored for problem in loaded.problems)
    return {Path(problem.path.split("!")[0]).name: problem.reason for problem in loaded.problems}


@pytest.mark.parametrize("name", BAD)
def test_load_names_each_file_that_cannot_be_read(problems, name):
    assert BAD[name][1] in problems[name]
    assert "defect of engine" not in problems[name]


def test_run_over_unreadable_files_ends_with_the_code_of_partly_read(folder, capsys, run_engine):
    code = run_engine("run", str(folder), "--calendar", "XNYS", "--json")
    named = {Path(one["path"].split("!")[0]).name for one in json.loads(capsys.readouterr().out)["problems"]}
    assert (code, named) == (PARTLY_READ, set(BAD))


@pytest.fixture
def run_engine(monkeypatch):
    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["engine", *words])
        with pytest.raises(SystemExit) as ended:
            program()
        return int(ended.value.code or 0)

    return call


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
