"""Numbers in other spellings, cells that mean none, ignored columns and rows above the header of text files."""

from __future__ import annotations

import re

import polars as pl
import pytest
from engine.errors import ParameterError, SourceError
from engine.sources.file_names import parse_path
from engine.sources.options import ReadOptions
from engine.sources.table_rows import Origin
from engine.sources.text import read_text

HEADER = "timestamp;open;high;low;close;volume"
STAMPS = [f"2024-01-02T14:{minute}:00Z" for minute in range(30, 40)]


def read(lines: list[str], **options):
    text = "\n".join(lines).encode()
    return read_text(text, Origin("SPY.csv", "0", parse_path("SPY.csv"), ReadOptions(**options)))


def file_of(*cells: str) -> list[str]:
    """Ten rows of the same cells."""
    return [HEADER, *(";".join([stamp, *cells]) for stamp in STAMPS)]


@pytest.mark.parametrize(
    ("cells", "options", "expected"),
    [
        (("10,5", "11,25", "9", "10", "1000"), {"decimal": ","}, (10.5, 11.25, 9.0, 10.0, 1000.0)),
        (("1.010,5", "1.011", "999,5", "1.000", "1.234.567"), {"decimal": ",", "thousands": "."},
         (1010.5, 1011.0, 999.5, 1000.0, 1234567.0)),
        (("1,010.5", "1,011", "999.5", "1,000", "1,234,567"), {"thousands": ","},
         (1010.5, 1011.0, 999.5, 1000.0, 1234567.0)),
        (("1 010.5", "1\u00a0011", "999.5", "1\u202f000", "12"), {"thousands": " "},
         (1010.5, 1011.0, 999.5, 1000.0, 12.0)),
        (("1'010.5", "1'011", "999.5", "1'000", "12"), {"thousands": "'"}, (1010.5, 1011.0, 999.5, 1000.0, 12.0)),
    ],
)  # fmt: skip
def test_read_text_with_stated_marks_reads_numbers(cells, options, expected) -> None:
    batch = read(file_of(*cells), **options)
    assert batch.rejects.is_empty()
    assert set(batch.frame.select("open", "high", "low", "close", "volume").rows()) == {expected}


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        (("10,5", "11,25", "9", "10", "1000"), "--decimal ,"),
        (("1.010,5", "1.011,0", "999,5", "1.000,0", "1.234.567"), "--decimal , --thousands ."),
        (("1,010.5", "1,011", "999.5", "1,000", "1,234,567"), "--thousands ,"),
        (("1 010.5", "1 011", "999.5", "1 000", "12"), "--thousands ' '"),
        (("1010,5", "1011", "999,5", "1000", "12 345"), "--decimal , --thousands ' '"),
        (("10.5", "10.5", "9.5", "10.5", "1,000"), "--thousands ,"),
        (("38,500", "38,510", "38,490", "38,505", "0"), "--thousands , or --decimal ,"),
    ],
)
def test_read_text_of_other_marks_proposes_options_that_read_the_file(cells, options) -> None:
    with pytest.raises(SourceError) as raised:
        read(file_of(*cells))
    message = str(raised.value)
    assert re.sub(r" \(reads [^)]*\)", "", message).endswith(f"; give {options}")
    for proposal in message.partition("give ")[2].split(" or "):
        stated = dict(re.findall(r"--(decimal|thousands) '?([^' ]| )'?", proposal))
        batch = read(file_of(*cells), **stated)
        assert (batch.frame.height, batch.rejects.height) == (len(STAMPS), 0), stated


def test_read_text_thousands_that_group_otherwise_are_rejected() -> None:
    lines = file_of("1,010.5", "1,011", "999.5", "1,000", "1")
    lines[1] = lines[1].replace("1,011", "10,11")
    batch = read(lines, thousands=",")
    assert batch.rejects["row"].to_list() == [2]
    assert batch.frame.height == len(STAMPS) - 1


def test_read_text_decimal_comma_takes_no_point() -> None:
    lines = file_of("10,5", "11", "9", "10", "1")
    lines[1] = lines[1].replace("10,5", "10.5")
    assert read(lines, decimal=",").rejects["row"].to_list() == [2]


def test_read_text_two_cells_of_another_spelling_are_rejected_one_by_one() -> None:
    lines = file_of("10", "11", "9", "10", "1000")
    lines[3] = lines[3].replace("1000", "1,000")
    batch = read(lines)
    assert (batch.frame.height, batch.rejects["reason"].to_list()) == (len(STAMPS) - 1, ["volume: unreadable"])


@pytest.mark.parametrize("cell", ["-1", "-1.0", "N/A"])
def test_read_text_null_cells_are_missing_and_a_note_names_the_option(cell: str) -> None:
    lines = file_of("10", "11", "9", "10", cell)
    refused = read(lines)
    assert refused.frame.is_empty()
    assert any(f"--null={cell}" in note and "--ignore volume" in note for note in refused.notes)
    batch = read(lines, null=["-1", "N/A"])
    assert (batch.frame.height, batch.frame["volume"].null_count(), batch.rejects.height) == (10, 10, 0)
    ignored = read(lines, ignore="volume")
    assert (ignored.frame.height, ignored.frame["volume"].null_count()) == (10, 10)


def test_read_text_negative_prices_note_names_allow_non_positive() -> None:
    lines = file_of("0", "1", "-1", "0", "5")
    assert any("--allow-non-positive" in note for note in read(lines).notes)
    assert read(lines, allow_non_positive=True).frame.height == len(STAMPS)


def test_read_text_volume_above_2_to_53_is_noted() -> None:
    batch = read(file_of("1", "1", "1", "1", str(2**53 + 1)))
    assert any("2^53" in note for note in batch.notes)
    assert not any("2^53" in note for note in read(file_of("1", "1", "1", "1", str(2**53 - 1))).notes)


def test_read_text_skip_rows_drops_lines_and_keeps_numbers_of_lines() -> None:
    plain = file_of("10", "11", "9", "10", "1")
    batch = read(["a;b;c;d;e;f", "1;2;3;4;5;6", *plain], skip_rows=2)
    assert batch.frame["row"].to_list() == list(range(4, 14))
    assert batch.frame.drop("row").equals(read(plain).frame.drop("row"))
    with pytest.raises(SourceError, match="is empty"):
        read(plain, skip_rows=20)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\r\r\n"])
def test_read_text_mixed_line_ends_read_every_row(end: str) -> None:
    lines = file_of("10", "11", "9", "10", "1")
    data = f"{lines[0]}\n{end.join(lines[1:6])}\n{chr(10).join(lines[6:])}\n".encode()
    batch = read_text(data, Origin("SPY.csv", "0", parse_path("SPY.csv"), ReadOptions()))
    assert (batch.frame.height, batch.rejects.height) == (10, 0)


def test_read_text_delimiter_at_the_end_of_rows_alone_is_an_empty_column() -> None:
    lines = file_of("10", "11", "9", "10", "1")
    batch = read([lines[0], *(f"{line};" for line in lines[1:])])
    assert (batch.frame.height, batch.rejects.height) == (10, 0)
    assert batch.frame["volume"].to_list() == [1.0] * 10


@pytest.mark.parametrize(
    "options", [{"skip_rows": -1}, {"decimal": ";"}, {"thousands": "x"}, {"decimal": ",", "thousands": ","}]
)
def test_options_of_cells_that_are_not_valid_are_refused(options) -> None:
    with pytest.raises(ParameterError, match="received"):
        ReadOptions(**options)


def test_from_frame_null_numbers_are_missing() -> None:
    from engine.sources.frames import from_frame  # noqa: PLC0415  # only here

    frame = pl.DataFrame({"ts": pl.Series(STAMPS).str.to_datetime(time_zone="UTC"), "symbol": "SPY"}).with_columns(
        *(pl.lit(10.0).alias(name) for name in ("open", "high", "low", "close")), pl.lit(-1).alias("volume")
    )
    batch = from_frame(frame, options=ReadOptions(null=["-1"]))
    assert (batch.frame.height, batch.frame["volume"].null_count()) == (10, 10)
