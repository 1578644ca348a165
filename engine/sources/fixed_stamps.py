"""Time stamps of one fixed spelling, read in one pass: the common case, in front of `engine.sources.stamps`.

`parse_fixed` reads a column whose cells are all as long as the first one and spelled like it, to the character. It
reads nothing else, so that whatever it declines is judged, and rejected, in one place.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Literal

import polars as pl

_SPELLING = re.compile(
    r"(?P<date>\d{4}(?P<mark>[-/])\d{2}(?P=mark)\d{2})(?P<gap>[T ])"
    r"\d{2}:\d{2}(?:(?P<seconds>:\d{2})(?P<fraction>\.(?:\d{3}|\d{6}|\d{9}))?)?(?P<offset>Z|[+-]\d{2}:?\d{2})?"
)
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")
MOST_OFFSETS = 8
YEARS = ("1900", "2200")  # every unit holds them, and text compares like the years at its begin


def parse_fixed(cells: pl.Series) -> pl.Series | None:
    """Datetimes (us, or ns with nine decimals; UTC if offsets are written) of text in one ISO spelling; else None.

    Parameters
    ----------
    cells : Series of String
        None is returned if a cell is null, of another length, of another spelling or not of 1900-2200.
    """
    sample = cells.first()
    match = _SPELLING.fullmatch(sample) if isinstance(sample, str) else None
    if match is None or not is_even(cells):
        return None
    offset, fraction = match["offset"] or "", match["fraction"]
    form = f"%Y{match['mark']}%m{match['mark']}%d{match['gap']}%H:%M"
    if match["seconds"]:
        form += f":%S%.{len(fraction) - 1}f" if fraction else ":%S"
    unit: Literal["ns", "us"] = "ns" if form.endswith("9f") else "us"
    is_shifted = offset not in ("", "Z")
    plain = cells.str.head(len(match[0]) - len(offset)) if is_shifted else cells
    try:
        naive = plain.str.to_datetime(form if is_shifted else form + offset, time_unit=unit)
    except pl.exceptions.PolarsError:
        return None
    if is_shifted:
        shifts = offset_durations(cells.str.tail(len(offset)), unit)
        return None if shifts is None else (naive - shifts).dt.replace_time_zone("UTC")
    return naive.dt.replace_time_zone("UTC") if offset else naive


def is_even(cells: pl.Series) -> bool:
    """Whether no cell is null or has a second of 60, all are as long as another, and begin with a year of 1900-2199."""
    lengths, first, last = cells.str.len_bytes(), cells.min(), cells.max()
    is_dated = isinstance(first, str) and isinstance(last, str) and first >= YEARS[0] and last < YEARS[1]
    is_even = is_dated and not cells.null_count() and lengths.min() == lengths.max()
    return is_even and not cells.str.contains(":60", literal=True).any()


def offset_durations(written: pl.Series, unit: Literal["ns", "us"]) -> pl.Series | None:
    """Offsets from UTC as durations; None if one is no offset, or there are more than `MOST_OFFSETS` different ones."""
    offsets = {text: offset_of(text) for text in written.unique().head(MOST_OFFSETS + 1)}
    if None in offsets.values() or len(offsets) > MOST_OFFSETS:
        return None
    return written.replace_strict(offsets, return_dtype=pl.Duration(unit))


def offset_of(text: str) -> dt.timedelta | None:
    """Offset from UTC as written (`-05:00`, `+0530`); None for other text."""
    match = _OFFSET.fullmatch(text)
    if match is None:
        return None
    offset = dt.timedelta(hours=int(match[2]), minutes=int(match[3]))
    return -offset if match[1] == "-" else offset
