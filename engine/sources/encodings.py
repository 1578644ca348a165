"""Encodings of text files: told from the first bytes, and converted to UTF-8 before a format reads the text."""

from __future__ import annotations

import codecs

from engine.errors import SourceError

UTF8_MARK = b"\xef\xbb\xbf"
UTF32_MARKS = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
UTF16_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
UTF8, UTF32 = "utf-8", "utf-32"
HEAD_BYTES = 4096
FEWEST_BYTES = 16  # that tell UTF-16 and UTF-32 without a mark
CHUNK_BYTES = 4 * 1024 * 1024
MOST_CONTROLS = 0.05  # of a text's bytes; of packed or numeric data about 10 % or more are control characters
FEWEST_ZEROS, MOST_ZEROS = 0.8, 0.1  # of one place of each pair of bytes, and of the other: Latin text in UTF-16
CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\v\f\r\x1a")


def encoding_of(head: bytes) -> str | None:
    """Encoding by first bytes: `utf-8` (also other 8-bit text), `utf-16-le`, `utf-16-be`, `utf-32`; None if no text.

    None means that the bytes are no text: more than 5 % are control characters.
    """
    head = head[:HEAD_BYTES]
    if head.startswith(UTF32_MARKS):
        return UTF32
    marked = UTF16_MARKS.get(head[:2])
    if marked is not None:
        return marked
    if b"\0" in head and len(head) >= FEWEST_BYTES:
        of_four, of_two = zero_shares(head, 4), zero_shares(head, 2)
        for zeros, name in (
            (of_four, UTF32),
            (of_four[::-1], UTF32),
            (of_two, "utf-16-le"),
            (of_two[::-1], "utf-16-be"),
        ):
            if zeros[0] <= MOST_ZEROS and min(zeros[1:]) >= FEWEST_ZEROS:
                return name
    controls = len(head) - len(head.translate(None, CONTROLS))
    return UTF8 if controls <= len(head) * MOST_CONTROLS else None


def zero_shares(head: bytes, width: int) -> list[float]:
    """Share of zero bytes at each place of units of `width` bytes; all 0 for fewer bytes than one unit."""
    units = len(head) // width
    return [head[place : units * width : width].count(0) / max(units, 1) for place in range(width)]


def to_utf8(data: bytes, source: str) -> tuple[bytes, tuple[str, ...]]:
    """(UTF-8 without its mark, notes): UTF-16 converted, other text read as Windows-1252, stray bytes among UTF-8 kept.

    Text that is not UTF-8 is read as Windows-1252 (Latin-1), with a note, unless it has UTF-8 characters beside the
    bytes that are none.

    Raises
    ------
    SourceError
        The data are UTF-32, or no text.
    """
    encoding = encoding_of(data[:HEAD_BYTES])
    if encoding is None:
        raise SourceError(source, no_text_reason(data[:HEAD_BYTES]))
    if encoding == UTF32:
        raise SourceError(source, "is UTF-32; valid: UTF-8 (save it so, or: iconv -f UTF-32 -t UTF-8)")
    if encoding != UTF8:
        text = data.decode(encoding, errors="replace").removeprefix("\ufeff")
        return text.encode(), (f"encoding: {encoding.upper()}",)
    data = data.removeprefix(UTF8_MARK)
    if data.isascii() or is_utf8(data):
        return data, ()
    strict = data.decode("utf-8", errors="ignore")
    if not strict.isascii():
        return data, ("encoding: not UTF-8 throughout; bytes that are no character are replaced",)
    try:
        return data.decode("cp1252").encode(), ("encoding: not UTF-8, read as Windows-1252 (Latin-1)",)
    except UnicodeDecodeError:
        return data.decode("latin-1").encode(), ("encoding: not UTF-8, read as Latin-1",)


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are valid UTF-8 throughout, checked in blocks of 4 MiB."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), CHUNK_BYTES):
            decoder.decode(data[start : start + CHUNK_BYTES], final=start + CHUNK_BYTES >= len(data))
    except UnicodeDecodeError:
        return False
    return True


def no_text_reason(head: bytes) -> str:
    """Error text for first bytes that are no text: only zeros, or binary with the first bytes in hexadecimal."""
    if head.count(0) == len(head):
        return "is filled with zeros, most likely a copy that was not finished; fetch the file again"
    return f"is binary, no delimited text or JSON (it begins with the bytes {head[:8].hex(' ')})"
