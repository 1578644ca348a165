"""Archives that lie, climb out, or blow up."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zipfile
import zlib

import pyarrow as pa
import pytest
from engine.errors import SourceError
from engine.sources import archive
from engine.sources.options import ReadOptions

ANY = ReadOptions()
MIB = 1024 * 1024


def zipped(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_members_come_out_in_the_order_of_the_archive(tmp_path):
    path = zipped(tmp_path / "a.zip", {"b.csv": b"1", "a.csv": b"2"})
    names = archive.member_names(path, ANY)
    assert (names, list(archive.members(path, names, ANY))) == (["b.csv", "a.csv"], [b"1", b"2"])


@pytest.mark.parametrize("name", ["../x.csv", "a/../../x.csv", "/etc/x.csv", "C:/x.csv", "..\\x.csv"])
def test_member_names_that_climb_out_are_refused(tmp_path, name):
    with pytest.raises(SourceError, match="outside the archive"):
        archive.member_names(zipped(tmp_path / "a.zip", {name: b"1"}), ANY)


def test_member_names_of_a_bomb_are_refused_before_unpacking(tmp_path):
    path = zipped(tmp_path / "a.zip", {"zeros.csv": bytes(40 * MIB)})
    with pytest.raises(SourceError, match="max_ratio"):
        archive.member_names(path, ANY)
    assert archive.member_names(path, ReadOptions(max_ratio=5000)) == ["zeros.csv"]


def test_member_names_of_many_small_bombs_are_summed(tmp_path):
    path = zipped(tmp_path / "a.zip", {f"{at}.csv": bytes(5 * MIB) for at in range(6)})
    with pytest.raises(SourceError, match="max_ratio"):
        archive.member_names(path, ANY)


def test_member_names_too_many_are_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", {f"{at}.csv": b"" for at in range(5)})
    with pytest.raises(SourceError, match="5 members; max_members allows 4"):
        archive.member_names(path, ReadOptions(max_members=4))


def test_member_names_twice_the_same_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.csv", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.csv", b"2")
    with pytest.raises(SourceError, match="same name"):
        archive.member_names(path, ANY)


def test_members_whose_header_lies_about_their_size_are_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", {"zeros.csv": bytes(40 * MIB)})
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    for at in (data.index(b"PK\x03\x04") + 22, central + 24):
        data[at : at + 4] = struct.pack("<I", 100)
    path.write_bytes(data)
    assert archive.member_names(path, ANY) == ["zeros.csv"]
    with pytest.raises(SourceError, match="unpacked"):
        list(archive.members(path, ["zeros.csv"], ANY))


def test_members_that_are_damaged_are_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.csv": b"timestamp,price\n" * 50})
    data = bytearray(path.read_bytes())
    data[45] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(SourceError, match="unpacked"):
        list(archive.members(path, ["a.csv"], ANY))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"PK\x03\x04" + bytes(100), b"no zip at all"])
def test_member_names_of_no_zip_are_refused(tmp_path, data):
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(SourceError, match="no zip archive"):
        archive.member_names(path, ANY)


def packed(data: bytes, kind: str) -> bytes:
    return gzip.compress(data) if kind == "gzip" else pa.compress(data, codec="zstd", asbytes=True)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_content_and_head_are_unpacked(tmp_path, kind):
    path = tmp_path / "a.csv.x"
    path.write_bytes(packed(b"time,price\n" * 1000, kind))
    assert archive.content(path, ANY) == b"time,price\n" * 1000
    assert archive.head(path, 4) == b"time"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_content_of_a_stream_bomb_is_refused_while_unpacking(tmp_path, kind):
    path = tmp_path / "a.csv.x"
    path.write_bytes(packed(bytes(64 * MIB), kind))
    with pytest.raises(SourceError, match="max_ratio"):
        archive.content(path, ANY)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_content_that_is_cut_off_is_refused(tmp_path, kind):
    path = tmp_path / "a.csv.x"
    path.write_bytes(packed(bytes(range(256)) * 100, kind)[:-10])
    with pytest.raises(SourceError, match="unpacked"):
        archive.content(path, ANY)


def test_content_of_no_file_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        archive.head(tmp_path / "none.csv")
    with pytest.raises(SourceError, match="cannot be read"):
        archive.sha256(tmp_path / "none.csv")


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_content_of_several_streams_is_that_of_all(tmp_path, pack):
    path = tmp_path / "a.csv.x"
    path.write_bytes(pack(b"time,price\n" * 1000) + pack(b"1,2\n" * MIB) + bytes(8))
    assert archive.content(path, ANY) == b"time,price\n" * 1000 + b"1,2\n" * MIB
    assert archive.head(path, 4) == b"time"


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
@pytest.mark.parametrize("tail", [b"BZh9 and no more", b"\xfd7zXZ\0 and no more", b"more"])
def test_content_followed_by_anything_else_is_refused(tmp_path, pack, tail):
    path = tmp_path / "a.csv.x"
    path.write_bytes(pack(b"time,price\n" * 1000) + tail)
    with pytest.raises(SourceError, match="cannot be unpacked"):
        archive.content(path, ANY)


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_content_of_a_bomb_of_any_packing_is_refused(tmp_path, pack):
    path = tmp_path / "a.csv.x"
    path.write_bytes(pack(bytes(64 * MIB)))
    with pytest.raises(SourceError, match="max_ratio"):
        archive.content(path, ANY)


def test_content_that_takes_too_much_memory_to_unpack_is_refused(tmp_path):
    path = tmp_path / "a.csv.xz"
    packed = lzma.compress(b"time,price\n", filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": MIB}])
    # The size of the dictionary stands in one byte of the header, which has a checksum of its own.
    head = bytearray(packed[12:24])
    at = head.index(b"\x21\x01") + 2
    head[at] = 38  # 2 GiB
    head[8:12] = zlib.crc32(bytes(head[:8])).to_bytes(4, "little")
    path.write_bytes(packed[:12] + bytes(head) + packed[24:])
    with pytest.raises(SourceError, match=r"(?i)memory"):
        archive.content(path, ANY)


def test_content_of_an_absent_file_is_a_source_error(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        archive.content(tmp_path / "absent.csv.gz", ANY)
