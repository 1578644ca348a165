"""Hostile files, one list: the name, the content, and what a run must say of it.

`Refused` files are a problem of the run, named with a reason that holds the phrase. `Rejected` files are read: rows that do
not fit are rejects, with their line, their cells and the reason.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.feather

HEADER = "timestamp,open,high,low,close,volume\n"
LINES = [f"2024-01-02T14:{30 + n}:00Z,10,11,9,10.5,100\n" for n in range(30)]
CSV = HEADER + "".join(LINES)
DATA = CSV.encode()
BAD = "2024-01-02T15:00:00Z"  # the first minute after those of `CSV`


class Refused(NamedTuple):
    """A file that is a problem of the run, whose reason holds the phrase."""

    data: bytes
    phrase: str


class Rejected(NamedTuple):
    """A file with rows, some of them rejects: how many, of the first one the line, a part of its reason and of its cells."""

    data: bytes
    rejects: int
    row: int
    phrase: str
    value: str


def frame() -> pl.DataFrame:
    return pl.read_csv(DATA)


def zipped(members: Mapping[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def encrypted(data: bytes) -> bytes:
    """The archive with the flag of encryption in each header."""
    content = bytearray(data)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= 1
    return bytes(content)


def twice_named() -> bytes:
    one, other = zipped({"A.csv": DATA}), zipped({"A.csv": DATA})
    file = io.BytesIO(one)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("B.csv", other[:10])
    return file.getvalue().replace(b"B.csv", b"A.csv")


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(byte ^ 0x5A for byte in data[at : at + 12]) + data[at + 12 :]


def parquet(table: pl.DataFrame | None = None) -> bytes:
    file = io.BytesIO()
    (frame() if table is None else table).write_parquet(file)
    return file.getvalue()


def arrow(table: pl.DataFrame | None = None) -> bytes:
    file = io.BytesIO()
    pyarrow.feather.write_feather((frame() if table is None else table).to_arrow(), file, compression="uncompressed")
    return file.getvalue()


def workbook() -> bytes:
    file = io.BytesIO()
    frame().write_excel(file)
    return file.getvalue()


def entity_bomb() -> bytes:
    """A workbook whose shared strings expand a thousand million times."""
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">{entities}]><sst><si><t>&l9;</t></si></sst>'
    file = io.BytesIO(workbook())
    members = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            members[name] = bomb.encode() if name.endswith("sharedStrings.xml") else archive.read(name)
    return zipped(members)


def zstandard() -> bytes:
    return pa.compress(DATA, codec="zstd", asbytes=True)


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("SPY.csv")
        info.size = len(DATA)
        archive.addfile(info, io.BytesIO(DATA))
    return file.getvalue()


def dbn(version: int, length: int = 100) -> bytes:
    return b"DBN" + bytes([version]) + length.to_bytes(4, "little") + b"XNAS.ITCH".ljust(16, b"\0") + b"\7" + bytes(99)


def footer_length(length: int) -> bytes:
    data = parquet()
    return data[:-8] + struct.pack("<I", length) + data[-4:]


class Runs:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return exec, ("raise SystemExit('a pickle was run')",)


def with_line(line: str, at: int = 15) -> bytes:
    """`CSV` with one more line before its line `at`."""
    return (HEADER + "".join([*LINES[: at - 2], line + "\n", *LINES[at - 2 :]])).encode()


def ndjson(*lines: str) -> bytes:
    rows = [
        json.dumps({"t": f"2024-01-02T14:{30 + n}:00Z", "o": 10, "h": 11, "l": 9, "c": 10, "v": 1}) for n in range(30)
    ]
    return "\n".join([*rows[:15], *lines, *rows[15:]]).encode()


FILES: dict[str, Refused | Rejected] = {
    # text
    "zeros.csv": Refused(bytes(5000), "filled with zeros"),
    "binary.csv": Refused(bytes(range(256)) * 20, "is binary"),
    "empty.csv": Refused(b"", "is empty"),
    "mark.csv": Refused(b"\xef\xbb\xbf", "is empty"),
    "lines.csv": Refused(b"\n" * 5000, "is empty"),
    "blanks.csv": Refused(b" \t\n" * 500, "is empty"),
    "comments.csv": Refused(b"# nothing\n" * 50, "is empty"),
    "names.csv": Refused(DATA.replace(HEADER.encode(), b"a,b,c,d,e,f\n"), "columns a, b, c, d, e, f are no bars"),
    "prose.csv": Refused(b"The quick brown fox jumps over the lazy dog.\n" * 100, "'The quick brown fox"),
    "html.csv": Refused(b"<!DOCTYPE html><html><head><title>429 Too Many Requests</title></head><body>slow down</body></html>", "is a web page"),
    "xml.csv": Refused(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>', "is a web page"),
    "error.csv": Refused(b'{"error": "API key is not valid"}', "it says: API key is not valid"),
    "limit.csv": Refused(b"Note: thank you for using our API! The rate limit is 25 requests per day.", "The rate limit is 25 requests"),
    "script.csv": Refused(b"#!/bin/sh\nrm -rf /\n", "no delimiter found"),
    "lfs.csv": Refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n", "git-lfs"),
    "conflict.csv": Rejected(with_line("<<<<<<< HEAD"), 1, 15, "1 cells, where 6 are due", "<<<<<<< HEAD"),
    "utf32.csv": Refused(CSV.encode("utf-32"), "UTF-32"),
    "utf32le.csv": Refused(CSV.encode("utf-32-le"), "UTF-32"),
    "odd16.csv": Rejected(CSV.encode("utf-16")[:-1], 1, 31, "volume: unreadable", "100"),
    "ebcdic.csv": Refused(CSV.encode("cp037"), "no delimiter found"),
    "long.csv": Refused(b"x" * (5 << 20), "no delimiter found"),
    "wide.csv": Refused(b",".join(b"c%d" % n for n in range(20_000)) + b"\n" + b"," * 19_999 + b"\n", "c39 and 19,960 more are no bars"),
    "quote.csv": Rejected(with_line('"2024-01-02T15:00:00Z,10,11,9,10.5,100'), 1, 15, "quotes that do not wrap a whole cell", "2024-01-02T15:00:00Z,10"),
    "quotes.csv": Rejected((HEADER + '"' + "".join(LINES)).encode(), 1, 2, "quotes that do not wrap a whole cell", "2024-01-02T14:30:00Z,10"),
    "twice.csv": Refused(DATA.replace(b"volume", b"open", 1), "'open' names the columns 2 and 6"),
    "pdf.csv": Refused(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n" + bytes(range(128, 256)) * 10, "'%PDF-1.7'"),
    "png.csv": Refused(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, "is binary"),
    "sqlite.csv": Refused(b"SQLite format 3\0" + bytes(2000), "is an SQLite database"),
    "elf.csv": Refused(b"\x7fELF\x02\x01\x01" + bytes(3000), "is binary"),
    "pickle.csv": Refused(pickle.dumps(Runs()), "is binary"),
    "hdf5.csv": Refused(b"\x89HDF\r\n\x1a\n" + bytes(2000), "is HDF5"),
    # lines
    "nul.csv": Rejected(with_line(f"{BAD},10,11,9,\0,100"), 1, 15, "close: missing or unreadable", "\0"),
    "short.csv": Rejected(with_line(f"{BAD},10,11"), 1, 15, "3 cells, where 6 are due", "2024-01-02T15:00:00Z,10,11"),
    "surplus.csv": Rejected(with_line(f"{BAD},10,11,9,10.5,100,7,8,9"), 1, 15, "9 cells, where 6 are due", "7,8,9"),
    "infinite.csv": Rejected(with_line(f"{BAD},inf,inf,inf,inf,100"), 1, 15, "open: not finite", "inf"),
    "overflow.csv": Rejected(with_line(f"{BAD},1e999,1e999,1e999,1e999,100"), 1, 15, "open: not finite", "1e999"),
    "nan.csv": Rejected(with_line(f"{BAD},nan,nan,nan,nan,nan"), 1, 15, "volume: not finite", "nan"),
    "hex.csv": Rejected(with_line(f"{BAD},0x10,0x11,0x9,0x10,100"), 1, 15, "open: missing or unreadable", "0x10"),
    "crossed.csv": Rejected(with_line(f"{BAD},10,9,11,10.5,100"), 1, 15, "high below low", "11"),
    "negative.csv": Rejected(with_line(f"{BAD},-10,-9,-11,-10.5,100"), 1, 15, "open: not above zero", "-10"),
    "volume.csv": Rejected(with_line(f"{BAD},10,11,9,10.5,-100"), 1, 15, "volume: negative", "-100"),
    "year.csv": Rejected(with_line("99999-01-02T15:00:00Z,10,11,9,10.5,100"), 1, 15, "ts: missing or unreadable", "99999-01-02"),
    "date.csv": Rejected(with_line("0000-00-00T00:00:00Z,10,11,9,10.5,100"), 1, 15, "ts: missing or unreadable", "0000-00-00"),
    "leap.csv": Rejected(with_line("2023-02-29T15:00:00Z,10,11,9,10.5,100"), 1, 15, "ts: missing or unreadable", "2023-02-29"),
    "epoch.csv": Rejected(with_line("1704207600000000000000000000,10,11,9,10.5,100"), 1, 15, "ts: missing or unreadable", "1704207600000000000000000000"),
    "formula.csv": Rejected(with_line("=cmd|'/C calc'!A0,10,11,9,10.5,100"), 1, 15, "ts: missing or unreadable", "=cmd|'/C calc'!A0"),
    "escape.csv": Rejected(with_line("\x1b]0;owned\x07\x1b[2J,10,11,9,10.5,100"), 1, 15, "ts: missing or unreadable", "\x1b]0;owned\x07"),
    "backwards.csv": Rejected(with_line("\u202e2024,10,11,9,10.5,100"), 1, 15, "ts: missing or unreadable", "\u202e2024"),
    "surrogate.csv": Rejected(with_line("here,10,11,9,10.5,100").replace(b"here", b"\xed\xa0\x80"), 1, 15, "ts: missing or unreadable", ""),
    "cell.csv": Rejected(with_line("9" * 200_000 + ",10,11,9,10.5,100"), 1, 15, "ts: missing or unreadable", "99999999999999999999"),
    # packed
    "twice.csv.gz": Refused(gzip.compress(gzip.compress(DATA)), "packed twice (gzip in gzip)"),
    "mixed.csv.xz": Refused(lzma.compress(bz2.compress(DATA)), "packed twice (bzip2 in xz)"),
    "zip.csv.gz": Refused(gzip.compress(zipped({"a": b"x"})), "packed twice (zip in gzip)"),
    "tar.csv.gz": Refused(tarred(), "is a tar archive"),
    "cut.csv.gz": Refused(gzip.compress(DATA)[:-12], "cannot be unpacked"),
    "sum.csv.gz": Refused(gzip.compress(DATA)[:-8] + struct.pack("<II", zlib.crc32(DATA) ^ 1, len(DATA)), "CRC check failed"),
    "tail.csv.gz": Refused(gzip.compress(DATA) + b"anything else", "cannot be unpacked"),
    "nothing.csv.gz": Refused(gzip.compress(b""), "is empty"),
    "damaged.csv.xz": Refused(damaged(lzma.compress(DATA), 40), "cannot be unpacked"),
    "damaged.csv.bz2": Refused(damaged(bz2.compress(DATA), 40), "cannot be unpacked"),
    "cut.csv.zst": Refused(zstandard()[:-20], "cannot be unpacked"),
    "lzma.zip": Refused(damaged(zipped({"SPY.csv": DATA}, zipfile.ZIP_LZMA), 60), "cannot be unpacked"),
    "cut.zip": Refused(zipped({"SPY.csv": DATA})[:-30], "no zip archive"),
    "nested.zip": Refused(zipped({"SPY.csv.gz": gzip.compress(DATA)}), "packed data (gzip)"),
    "zip.zip": Refused(zipped({"SPY.zip": zipped({"SPY.csv": DATA})}), "packed data (zip)"),
    "climbs.zip": Refused(zipped({"../../SPY.csv": DATA}), "'../../SPY.csv' points outside the archive"),
    "locked.zip": Refused(encrypted(zipped({"SPY.csv": DATA})), "is encrypted"),
    "empty.zip": Refused(zipped({}), "holds no data file"),
    "same.zip": Refused(twice_named(), "two members of the same name"),
    "bad.zip": Refused(zipped({"SPY.csv": bytes(5000)}), "filled with zeros"),
    # typed formats
    "nothing.parquet": Refused(b"", "is empty"),
    "magic.parquet": Refused(b"PAR0" + parquet()[4:], "not with the mark of parquet"),
    "zeros.parquet": Refused(bytes(5000), "not with the mark of parquet"),
    "cut.parquet": Refused(parquet()[:-20], "no Parquet file"),
    "locked.parquet": Refused(b"PARE" + parquet()[4:-4] + b"PARE", "is encrypted Parquet"),
    "footer.parquet": Refused(footer_length(0x7FFFFFFF), "no Parquet file"),
    "negative.parquet": Refused(footer_length(0xFFFFFFF0), "no Parquet file"),
    "names.parquet": Refused(parquet(pl.DataFrame({"a": [1], "b": [2]})), "columns a, b are no bars"),
    "nested.parquet": Refused(parquet(frame().select(pl.struct(pl.all()).alias("bar"))), "columns bar are no bars"),
    "nulls.parquet": Rejected(parquet(frame().with_columns(pl.lit(None, pl.String).alias("timestamp"))), 30, 1, "ts: missing or unreadable", "null"),
    "old.feather": Refused(b"FEA1" + bytes(200) + b"FEA1", "Feather of version 1"),
    "cut.arrow": Refused(arrow()[:-200], "no Arrow data"),
    "next.dbn": Refused(dbn(9), "version 9"),
    "length.dbn": Refused(dbn(1, 0xFFFFFFFF), "metadata cannot be read"),
    "cut.dbn": Refused(dbn(1)[:40], "metadata cannot be read"),
    "old.dat": Refused(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Excel workbook of the old kind"),
    "parts.xlsx": Refused(zipped({"a.xml": b"<a/>"}), "no Excel workbook"),
    "bomb.xlsx": Refused(entity_bomb(), "no Excel workbook"),
    # JSON
    "deep.json": Refused(b"[" * 200_000, "depth limit exceeded"),
    "cut.json": Refused(json.dumps({"bars": frame().to_dicts()}).encode()[:-100], "unexpected end of data"),
    "numbers.json": Refused(b"[1, 2, 3]", "the first line is [1,2,3]"),
    "null.json": Refused(b"null", "'null'"),
    "integer.json": Refused(b"[" + b"9" * 100_000 + b"]", "is JSON ('[999"),
    "error.json": Refused(b'{"status": "error", "message": "key is not valid"}', "it says: key is not valid"),
    "deep.ndjson": Rejected(ndjson('{"t": ' + "[" * 100_000), 1, 16, "no JSON object", "[[[["),
    "scalar.ndjson": Rejected(ndjson("17", "null", '"x"'), 3, 16, "no JSON object", "17"),
    "nan.ndjson": Rejected(ndjson(f'{{"t": "{BAD}", "o": NaN, "h": NaN, "l": NaN, "c": NaN, "v": 1}}'), 1, 16, "no JSON object", "NaN"),
    "binary.ndjson": Refused(bytes(range(256)) * 20, "is binary"),
}  # fmt: skip
