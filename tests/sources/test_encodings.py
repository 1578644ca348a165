"""Encodings of text files."""

from __future__ import annotations

import pytest
from engine.errors import SourceError
from engine.sources.encodings import encoding_of, to_utf8
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan

TEXT = "timestamp,open,high,low,close,Währung\n" + "".join(
    f"2024-01-02T14:{minute}:00Z,10,11,9,10.5,€\n" for minute in range(30, 60)
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_to_utf8_gives_the_text_of_each_encoding(encoding):
    data, notes = to_utf8(TEXT.encode(encoding), "x")
    assert data.decode() == TEXT
    assert bool(notes) == (not encoding.startswith("utf-8"))


@pytest.mark.parametrize("encoding", ["utf-32", "utf-32-le", "utf-32-be"])
def test_to_utf8_refuses_utf32_by_its_name(encoding):
    with pytest.raises(SourceError, match="is UTF-32; valid: UTF-8"):
        to_utf8(TEXT.encode(encoding), "x")


def test_to_utf8_keeps_utf8_with_a_few_damaged_bytes():
    data = TEXT.encode()[:-8] + b"\xff" + TEXT.encode()[-8:]
    assert to_utf8(data, "x") == (data, ("encoding: not UTF-8 throughout; bytes that are no character are replaced",))


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        (b"", "utf-8"),
        (b"a,b\n1,2\n", "utf-8"),
        (b"a," * 100 + b"\0\n", "utf-8"),
        (b"\0" * 100, None),
        (b"\0\1\2", None),
        (bytes(range(256)), None),
        (("日本,1\n" * 20).encode("utf-16"), "utf-16-le"),
        (("a,b\n" * 20).encode("utf-16-be"), "utf-16-be"),
    ],
)
def test_encoding_of_first_bytes(head, encoding):
    assert encoding_of(head) == encoding


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("name", ["SPY_1m.csv", "SPY_1m.txt"])
def test_read_files_of_other_encodings_with_a_note(tmp_path, encoding, name):
    (tmp_path / name).write_bytes(TEXT.encode(encoding))
    (file,), problems = scan([tmp_path])
    (batch,) = read(file, ReadOptions())
    assert (problems, batch.frame.height) == ([], 30)
    assert any(note.startswith("encoding: ") for note in batch.notes)
