"""Stamps to the second in one ISO spelling, parsed as words of eight bytes: 19 characters, or 20 with `Z` behind them.

1. An exclusive or with the spelling leaves the values of digits, and 0 of marks (`_digits`).
2. One product and one sum give the numbers of all pairs of digits in a word (`_pairs`), and a shift each of them.

A cell that is spelled otherwise, or is no time between 1900 and 2199, declines the whole column.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

SECONDS_LENGTH = len("2024-10-21T13:30:00")
WORD_BYTES = 8
ROWS_PER_BLOCK = 1 << 15  # whose words stay in the processor's cache
FIRST_YEAR, LAST_YEAR = 1900, 2199

Words = NDArray[np.uint64]

_MONTH_STARTS = np.arange(f"{FIRST_YEAR}-01", f"{LAST_YEAR + 1}-02", dtype="datetime64[M]").astype("datetime64[D]")
_FIRST_DAYS = _MONTH_STARTS.astype(np.int64)
_MONTH_LENGTHS = np.diff(_FIRST_DAYS)


def parse_seconds(cells: pl.Series, mark: str, gap: str) -> pl.Series | None:
    """Datetimes (us, no zone) of text `YYYY-MM-DDTHH:MM:SS`, with or without `Z`; None if a cell is none of 1900-2199.

    Parameters
    ----------
    cells : Series of String
        Without nulls, all of 19 or all of 20 bytes.
    mark : str
        Between year, month and day.
    gap : str
        Between date and time.
    """
    length = len(cells[0])
    spelling = f"0000{mark}00{mark}00{gap}00:00:00Z"[:length].encode()
    # The last word begins among bytes of the one before, so that it ends with the cell.
    places = (0, WORD_BYTES, length - WORD_BYTES)
    stamps = np.empty(len(cells), np.int64)
    for start in range(0, len(cells), ROWS_PER_BLOCK):
        block = cells.slice(start, ROWS_PER_BLOCK).cast(pl.Binary)
        codes = block.bin.reinterpret(dtype=pl.Array(pl.UInt8, length), endianness="little").to_numpy()
        digits = [_digits(codes, spelling, place) for place in places]
        if not all(_are_digits(word, spelling, place) for word, place in zip(digits, places, strict=True)):
            return None
        date, time, rest = map(_pairs, digits)
        month_of_year, day = _pair(date, 5), _pair(time, 0)
        hour, minute, second = _pair(time, 3), _pair(time, 6), _pair(rest, SECONDS_LENGTH - 2 - places[2])
        month = (_pair(date, 0) * 100 + _pair(date, 2) - FIRST_YEAR) * 12 + month_of_year - 1
        is_valid = (
            month_of_year.min() >= 1
            and month_of_year.max() <= 12  # noqa: PLR2004 - of a year
            and month.min() >= 0
            and month.max() < len(_MONTH_LENGTHS)
            and day.min() >= 1
            and max(hour.max() - 23, minute.max() - 59, second.max() - 59) <= 0
        )
        if not is_valid or (day > _MONTH_LENGTHS[month]).any():
            return None
        minutes = ((_FIRST_DAYS[month] + day - 1) * 24 + hour) * 60 + minute
        stamps[start : start + len(codes)] = (minutes * 60 + second) * 1_000_000
    return pl.Series(cells.name, stamps).cast(pl.Datetime("us"))


def _digits(codes: NDArray[np.uint8], spelling: bytes, place: int) -> Words:
    # Values of the digits of eight bytes from `place`, the first byte the lowest.
    words = np.ascontiguousarray(codes[:, place : place + WORD_BYTES]).view(np.uint64)[:, 0]
    return words ^ _word(spelling[place : place + WORD_BYTES])


def _are_digits(digits: Words, spelling: bytes, place: int) -> bool:
    # Whether no byte of a digit is above 9, and none of a mark above 0: six more of a digit would fill its upper half.
    part = spelling[place : place + WORD_BYTES]
    more = _word(bytes(6 if code == ord("0") else 15 for code in part))
    upper = _word(b"\xf0" * WORD_BYTES)
    return not (np.bitwise_or.reduce(digits) & upper) and not (np.bitwise_or.reduce(digits + more) & upper)


def _pairs(digits: Words) -> Words:
    # Each byte ten times its digit plus the next one: at most 99, so none runs over into the next byte.
    return digits * np.uint64(10) + (digits >> np.uint64(8))


def _pair(pairs: Words, byte: int) -> NDArray[np.int64]:
    return ((pairs >> np.uint64(8 * byte)) & np.uint64(0xFF)).view(np.int64)


def _word(code: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(code, "little"))
