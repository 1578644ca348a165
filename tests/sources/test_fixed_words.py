"""Stamps parsed as words of bytes, against `datetime.fromisoformat`."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.sources.fixed_words import ROWS_PER_BLOCK, parse_seconds
from hypothesis import given
from hypothesis import strategies as st

SECONDS = st.datetimes(dt.datetime.fromisoformat("1900-01-01"), dt.datetime.fromisoformat("2199-12-31T23:59:59")).map(
    lambda stamp: stamp.replace(microsecond=0)
)


@given(st.lists(SECONDS, min_size=1, max_size=20), st.sampled_from(["", "Z"]))
def test_parse_seconds_of_valid_stamps_gives_their_times(stamps: list[dt.datetime], zone: str) -> None:
    cells = pl.Series("ts", [stamp.isoformat() + zone for stamp in stamps])
    parsed = parse_seconds(cells, "-", "T")
    assert parsed is not None
    assert (parsed.name, parsed.dtype, parsed.to_list()) == ("ts", pl.Datetime("us"), stamps)


@given(SECONDS, st.integers(0, 19), st.characters(max_codepoint=127))
def test_parse_seconds_of_a_changed_character_declines_or_reads_what_is_written(
    stamp: dt.datetime, place: int, character: str
) -> None:
    text = stamp.isoformat() + "Z"
    text = text[:place] + character + text[place + 1 :]
    parsed = parse_seconds(pl.Series([text]), "-", "T")
    try:
        written = dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007 - compared with times that have no zone
    except ValueError:
        written = None
    # Python also reads a digit less, or blanks.
    is_read = written is not None and 1900 <= written.year < 2200 and written.isoformat() + "Z" == text
    assert (None if parsed is None else parsed.to_list()) == ([written] if is_read else None)


@pytest.mark.parametrize("place", [0, ROWS_PER_BLOCK - 1, ROWS_PER_BLOCK, ROWS_PER_BLOCK + 1])
def test_parse_seconds_of_several_blocks_reads_or_declines_all(place: int) -> None:
    cells = ["2024/02/29 13:30:00"] * (ROWS_PER_BLOCK + 2)
    parsed = parse_seconds(pl.Series(cells), "/", " ")
    assert parsed is not None
    assert parsed.to_list() == [dt.datetime.fromisoformat("2024-02-29T13:30:00")] * len(cells)
    cells[place] = "2023/02/29 13:30:00"
    assert parse_seconds(pl.Series(cells), "/", " ") is None
