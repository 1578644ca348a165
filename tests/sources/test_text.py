"""Delimited text: layouts, and the law that every line is accounted for."""

from __future__ import annotations

import gzip
import json

import polars as pl
import pytest
from engine.errors import ParameterError, SourceError
from engine.interval import Interval
from engine.sources.file_names import PathFacts, parse_path
from engine.sources.options import ReadOptions
from engine.sources.table_rows import Origin
from engine.sources.text import find_layout, layout_table, read_text
from hypothesis import given, settings
from hypothesis import strategies as st

HEADER = "timestamp,open,high,low,close,volume"
FIRST = "2024-01-02T14:30:00Z,10,11,9,10.5,100"
SECOND = "2024-01-02T14:31:00Z,10.5,12,10,11,200"


def bars(text: str | bytes, name: str = "SPY.csv", **options):
    data = text.encode() if isinstance(text, str) else text
    return read_text(data, Origin(name, "0", parse_path(name), ReadOptions(**options)))


def body(batch) -> list[tuple]:
    return batch.frame.select(pl.col("ts").dt.to_string("%F %T"), "open", "high", "low", "close", "volume").rows()


EXPECTED = [("2024-01-02 14:30:00", 10, 11, 9, 10.5, 100), ("2024-01-02 14:31:00", 10.5, 12, 10, 11, 200)]
PLAIN = f"{HEADER}\n{FIRST}\n{SECOND}\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        "\ufeff" + PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace(",", " , "),
        PLAIN.replace("\n", "\n\n"),
        "# source: somewhere\n" + PLAIN,
        f"{HEADER}\n{FIRST}\n{HEADER}\n{SECOND}\n",
        PLAIN.replace("10.5,100", '10.5,"100"').replace("timestamp", '"timestamp"'),
        PLAIN.replace("timestamp,open,high,low,close,volume", "t,o,h,l,c,v"),
        PLAIN.replace("timestamp,open,high,low,close,volume", "Open Time,Open Price,High,Low,Close/Last,Vol.").replace(
            "Close/Last", "Close"
        ),
        f"symbol,{HEADER}\nSPY,{FIRST}\nSPY,{SECOND}\n",
        f"{HEADER}\n1704205800,10,11,9,10.5,100\n1704205860,10.5,12,10,11,200\n",
        f"{HEADER}\n1704205800000,10,11,9,10.5,100\n1704205860000,10.5,12,10,11,200\n",
    ],
)
def test_read_text_spellings_of_the_same_bars_give_the_same_rows(text):
    batch = bars(text)
    assert body(batch) == EXPECTED
    assert batch.frame["symbol"].unique().to_list() == ["SPY"]
    assert batch.interval == Interval.parse("1m")
    assert batch.rejects.is_empty()


def test_read_text_rows_carry_their_line_numbers():
    batch = bars(f"# note\n{HEADER}\n\n{FIRST}\nbroken\n{SECOND}")
    assert batch.frame["row"].to_list() == [4, 6]
    assert batch.rejects.select("row", "reason", "cells").rows() == [
        (5, "1 cells, where 6 are due", '{"line":"broken"}')
    ]


def test_read_text_date_and_time_columns_are_joined_and_need_a_zone():
    text = "Date,Time,Open,High,Low,Close,Volume\n2024-01-02,09:30:00,10,11,9,10.5,100\n2024-01-02,09:31:00,10.5,12,10,11,200\n"
    assert body(bars(text, timezone="America/New_York")) == EXPECTED
    with pytest.raises(SourceError, match="--timezone"):
        bars(text)


def test_read_text_zone_in_the_columns_name_needs_no_option():
    text = PLAIN.replace("timestamp", "timestamp_utc").replace("Z,", ",")
    assert body(bars(text)) == EXPECTED


def test_read_text_times_of_day_take_the_date_from_the_files_name():
    text = "time,open,high,low,close,volume\n09:30,10,11,9,10.5,100\n09:31,10.5,12,10,11,200\n"
    batch = bars(text, "SPY_2024-01-02.csv", timezone="America/New_York")
    assert body(batch) == EXPECTED
    assert any("the date in the file's path" in note for note in batch.notes)
    with pytest.raises(SourceError, match="no date"):
        bars(text, "SPY.csv", timezone="America/New_York")


def test_read_text_dates_alone_are_daily_bars_by_date():
    batch = bars("date,open,high,low,close\n2024-01-02,1,1,1,1\n2024-01-03,1,1,1,1\n2024-01-05,1,1,1,1\n")
    assert (str(batch.interval), batch.align) == ("1d", "date")


def test_read_text_without_header_reads_klines_by_their_twelve_columns():
    line = "1637971200000,2,4,1,3,50,1637971259999,1.03,79,1.0,0.5,0"
    batch = bars(f"{line}\n{line.replace('1637971200000', '1637971260000')}\n", "ADABTC.csv")
    assert batch.frame.select("open", "high", "low", "close", "volume", "trades").row(0) == (2, 4, 1, 3, 50, 79)
    assert any("ms since 1970" in note for note in batch.notes)


def test_read_text_without_header_needs_columns():
    with pytest.raises(SourceError, match="--columns"):
        bars("20240102 093000000,1.1,1.2\n20240102 093001000,1.1,1.2\n")
    batch = bars(
        "20240102 093000065,1.1,1.2\n20240102 093001000,1.1,1.2\n",
        columns={"ts": 1, "bid": 2, "ask": 3},
        timezone="UTC-05",
    )
    assert batch.kind == "quotes"
    assert batch.frame["ts"].dt.to_string("%H:%M:%S%.3f")[0] == "14:30:00.065"


def test_read_text_bars_of_both_sides_give_two_price_types_and_no_row_for_an_empty_side():
    names = "timestamp,bid_open,bid_high,bid_low,bid_close,ask_open,ask_high,ask_low,ask_close"
    batch = bars(
        f"{names}\n2024-01-02T00:00:00Z,1,2,1,2,3,4,3,4\n2024-01-02T00:01:00Z,,,,,3,4,3,4\n2024-01-02T00:02:00Z,,,,,,,,\n"
    )
    assert batch.frame.select("price_type", "row", "close").rows() == [("bid", 2, 2), ("ask", 2, 4), ("ask", 3, 4)]
    assert batch.rejects["row"].to_list() == [4]


def test_read_text_header_alone_is_a_note():
    batch = bars(f"{HEADER}\r\n", "x/test_session.csv")
    assert batch.frame.is_empty()
    assert batch.rejects.is_empty()
    assert batch.notes == ("a header and no row",)


def test_read_text_bad_cells_are_rejected_with_reason_and_text():
    batch = bars(
        f"{HEADER}\n{FIRST}\nyesterday,1,1,1,1,1\n2024-01-02T14:32:00Z,1,abc,1,1,1\n2024-01-02T14:33:00Z,5,4,6,5,1\n"
    )
    assert batch.rejects["row"].to_list() == [3, 4, 5]
    assert batch.rejects["reason"].to_list()[:2] == ["ts: missing or unreadable", "high: missing or unreadable"]
    assert '"high":"abc"' in batch.rejects["cells"][1]


@pytest.mark.parametrize(
    ("text", "options", "mend"),
    [
        ("", {}, "is empty"),
        (b"\xff\xfet\x00", {}, "binary"),
        (b"a,b\x00c\n", {}, "binary"),
        ("just one column\n1\n", {}, "--delimiter"),
        ("a,b,c\nx,y,z\n", {}, "--columns"),
        ("timestamp;open;high;low;close\n2024-01-02T14:30:00Z;1,5;1,6;1,4;1,5\n", {}, "--decimal ,"),
        (f"{HEADER}\n45293.5,1,1,1,1,1\n", {}, "spreadsheet"),
        (f"{HEADER}\n12345,1,1,1,1,1\n", {}, "--unit"),
        (f"{HEADER}\n02/01/2024 09:30,1,1,1,1,1\n", {}, "--time-format"),
        (PLAIN, {"columns": {"open": "nope"}}, "no column 'nope'"),
    ],
)
def test_read_text_that_cannot_be_understood_names_the_mend(text, options, mend):
    with pytest.raises(SourceError, match=mend):
        bars(text, **options)


def test_read_text_without_symbol_names_the_option():
    with pytest.raises(SourceError, match="--symbol"):
        bars(PLAIN, "quote_tick_data.csv")


def test_read_text_columns_of_an_unknown_role_are_refused():
    with pytest.raises(ParameterError, match="valid: ts"):
        bars(PLAIN, columns={"opn": "open"})


def test_read_text_keeps_only_what_was_asked_for_and_counts_the_rest():
    text = f"symbol,{HEADER}\nSPY,{FIRST}\n0700,{FIRST}\n0700,{SECOND}\n"
    batch = bars(text, symbols=("0700",))
    assert batch.frame["symbol"].to_list() == ["0700", "0700"]
    assert "1 rows of other symbols left out" in batch.notes


def test_read_text_ids_that_are_numbers_order_ticks_and_others_do_not():
    text = "timestamp,price,size,id\n2024-01-02T14:30:00Z,1,1,70\n2024-01-02T14:30:00Z,1,1,{}\n"
    assert bars(text.format("71")).frame["seq"].to_list() == [70, 71]
    assert bars(text.format("x-7")).frame["seq"].to_list() == [2, 3]


CELLS = st.sampled_from(["1", "", "x", '"1"', '"1,2"', '"', "2024-01-02T14:30:00Z", " ", "é", "1e3", "nan", "-1", "\t"])
LINES = st.one_of(
    st.just(FIRST),
    st.just(SECOND),
    st.just(HEADER),
    st.just(""),
    st.just("  "),
    st.lists(CELLS, min_size=1, max_size=9).map(",".join),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=12), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_read_text_every_line_is_good_rejected_header_or_blank(lines, end, ends_with_newline):
    text = end.join([HEADER, FIRST, *lines]) + (end if ends_with_newline else "")
    batch = bars(text)
    due = {2} | {at for at, line in enumerate(lines, start=3) if line.strip() and line != HEADER}
    seen = [*batch.frame["row"], *batch.rejects["row"]]
    assert set(seen) == due
    assert len(seen) == len(due)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_table_of_any_bytes_raises_nothing_but_source_errors(data):
    try:
        read = layout_table(find_layout(data, ReadOptions(), "any"), "any")
    except SourceError:
        return
    assert "row" in read.raw.columns


def test_gzip_and_plain_file_give_the_same_rows(tmp_path):
    from engine.sources.read import read  # noqa: PLC0415
    from engine.sources.scan import scan  # noqa: PLC0415

    (tmp_path / "a").mkdir()
    (tmp_path / "a/SPY.csv").write_text(PLAIN)
    with gzip.open(tmp_path / "a/SPY.csv.gz", "wt") as file:
        file.write(PLAIN)
    both = [body(read(file)[0]) for file in scan([tmp_path])[0]]
    assert both == [EXPECTED, EXPECTED]


def test_read_text_with_a_header_longer_than_the_sample_is_read_whole():
    extra = ",".join(f"a column with a rather long name {n}" for n in range(3000))
    rows = "".join(f"2024-01-02T14:{n:02}:00Z,10,11,9,10.5,100,{','.join(['1'] * 3000)}\n" for n in range(30, 60))
    batch = bars(f"{HEADER},{extra}\n{rows}")
    assert (batch.frame.height, batch.rejects.height) == (30, 0)


def test_read_text_with_a_long_header_that_is_no_table_is_told_in_short():
    names = ",".join(f"a column with a rather long name {n}" for n in range(3000))
    with pytest.raises(SourceError, match=r"and 2,960 more") as raised:
        bars(f"{names}\n{','.join(['x'] * 3000)}\n")
    assert len(str(raised.value)) < 2100


def test_read_text_a_column_named_row_is_the_files_own() -> None:
    lines = [b"ts,open,high,low,close,row", b"2024-01-02T14:30:00Z,10,11,9,10.5,7", b"2024-01-02T14:31:00Z,10,11,9,x,8"]
    read = read_text(b"\n".join(lines), Origin("SPY.csv", "", PathFacts(symbol="SPY"), ReadOptions()))
    assert read.frame["row"].to_list() == [2]
    assert read.rejects.select("row", "reason").rows() == [(3, "close: missing or unreadable")]
    assert json.loads(read.rejects["cells"][0])["row "] == "8"


def test_read_text_a_saved_index_of_numbers_beside_a_stamp_is_no_stamp() -> None:
    lines = [
        "Unnamed: 0,timestamp,open,high,low,close",
        *(f"{n},2024-01-02T14:{30 + n}:00Z,10,11,9,10.5" for n in range(3)),
    ]
    read = read_text("\n".join(lines).encode(), Origin("SPY.csv", "", PathFacts(symbol="SPY"), ReadOptions()))
    assert (read.frame.height, str(read.frame["ts"][0])) == (3, "2024-01-02 14:30:00+00:00")
