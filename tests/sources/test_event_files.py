"""Files of halts and incidents, as those who publish them write them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from engine.errors import ParameterError
from engine.sources.event_files import read_events

UTC = dt.UTC


def halts(path: Path, timezone: str | None = None) -> list[tuple[str | None, str, str | None]]:
    """(symbol, start, end) of the events of a file, in UTC."""
    events = read_events(path, None, timezone).events
    stamps = [pl.col(name).dt.strftime("%Y-%m-%d %H:%M:%S") for name in ("start", "end")]
    return events.select("symbol", *stamps).rows()


def test_rss_of_nasdaq(tmp_path: Path) -> None:
    path = tmp_path / "tradehalts.xml"
    path.write_text(
        '<?xml version="1.0"?><rss version="2.0" xmlns:ndaq="http://www.nasdaqtrader.com/"><channel><title>x</title>'
        "<item><title>AB</title><ndaq:HaltDate>07/29/2024</ndaq:HaltDate><ndaq:HaltTime>10:04:01.5</ndaq:HaltTime>"
        "<ndaq:IssueSymbol>AB</ndaq:IssueSymbol><ndaq:IssueName>A &amp; B</ndaq:IssueName><ndaq:Mkt>Q</ndaq:Mkt>"
        "<ndaq:ReasonCode>LUDP</ndaq:ReasonCode><ndaq:ResumptionDate>07/29/2024</ndaq:ResumptionDate>"
        "<ndaq:ResumptionQuoteTime>10:04:01</ndaq:ResumptionQuoteTime>"
        "<ndaq:ResumptionTradeTime>10:09:01</ndaq:ResumptionTradeTime></item>"
        "<item><ndaq:HaltDate>07/29/2024</ndaq:HaltDate><ndaq:HaltTime>11:00:00</ndaq:HaltTime>"
        "<ndaq:IssueSymbol><![CDATA[CD]]></ndaq:IssueSymbol><ndaq:ResumptionDate />"
        "<ndaq:ResumptionTradeTime></ndaq:ResumptionTradeTime></item></channel></rss>"
    )
    assert halts(path) == [
        ("AB", "2024-07-29 14:04:01", "2024-07-29 14:09:01"),
        ("CD", "2024-07-29 15:00:00", None),
    ]


def test_csv_of_cboe_and_pipes_of_nasdaq(tmp_path: Path) -> None:
    cboe, pipes = tmp_path / "cboe.csv", tmp_path / "halts.txt"
    cboe.write_text(
        "Symbol,Name,Market,Halt,Reason,Resume Date,Quote Time,Resume Time\n"
        "XYZ,Xyz,Cboe BZX,2024-01-02 10:00:00,Volatility,2024-01-02,10:05:00,10:06:00\n"
    )
    pipes.write_text(
        "Halt Date|Halt Time|Issue Symbol|Issue Name|Market|Reason Code|Resumption Date|Resumption Trade Time\n"
        "01/02/2024|15:55:00|ABC|A|Q|T1|01/03/2024|09:30:00\n"
    )
    assert halts(cboe) == [("XYZ", "2024-01-02 15:00:00", "2024-01-02 15:06:00")]
    assert halts(pipes) == [("ABC", "2024-01-02 20:55:00", "2024-01-03 14:30:00")]


@pytest.mark.parametrize("digits", ["20240102100000", "202401021000", "20240102100000000"])
def test_stamps_of_digits_alone_are_dates_and_times(tmp_path: Path, digits: str) -> None:
    path = tmp_path / "h.csv"
    path.write_text(f"symbol,halt,resumption\nAB,{digits},{digits}\n")
    assert halts(path, "America/New_York") == [("AB", "2024-01-02 15:00:00", "2024-01-02 15:00:00")]
    refused = read_events(path, None).rejects
    assert "without a zone" in refused["reason"].item()


@pytest.mark.parametrize("odd", ['"no end, x', 'a "b" c"', '"x" y'])
def test_quote_that_is_left_open_costs_no_other_line(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "h.csv"
    at = "2024-01-02T10:0{0}:00-05:00,2024-01-02T10:0{1}:00-05:00"
    path.write_text(
        f"symbol,halt,resumption,reason\nAB,{at.format(0, 1)},{odd}\n\n"
        f'CD,{at.format(2, 3)},"said ""stop"", then"\nEF,bad,,x\n\n'
    )
    assert halts(path) == [
        ("AB", "2024-01-02 15:00:00", "2024-01-02 15:01:00"),
        ("CD", "2024-01-02 15:02:00", "2024-01-02 15:03:00"),
    ]
    assert read_events(path, None).rejects["row"].to_list() == [5]


def test_lines_of_rows_below_a_cell_of_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text('symbol,halt,resumption,reason\nAB,2024-01-02T10:00:00-05:00,,"two\nlines\nmore"\n\nCD,bad,,x\n')
    assert read_events(path, None).rejects["row"].to_list() == [6]


@pytest.mark.parametrize(
    "text", ["foo,bar\n", '[{"halt": "2024-01-02T10:00:00Z", "symbol": "AB"}]', "symbol,reason\nAB,x\n"]
)
def test_file_without_a_column_of_the_start_is_refused_with_and_without_rows(tmp_path: Path, text: str) -> None:
    path = tmp_path / "h.csv"
    path.write_text(text)
    with pytest.raises(ParameterError, match="no column of the start"):
        read_events(path, None)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-01-02T10:00:00-05:00", "2024-01-02 15:00:00"),
        ("2024-01-02 10:00:00 -0500", "2024-01-02 15:00:00"),
        ("2024-01-02 16:00+01", "2024-01-02 15:00:00"),
        ("2024-01-02T15:00:00.25Z", "2024-01-02 15:00:00"),
        ("2024-01-02 15:00 UTC", "2024-01-02 15:00:00"),
        ("1704207600", "2024-01-02 15:00:00"),
        ("1704207600000", "2024-01-02 15:00:00"),
        ("1704207600000000000", "2024-01-02 15:00:00"),
        ("20240102 16:00:00", "2024-01-02 15:00:00"),
        ("1/2/2024 4:00:00 PM", "2024-01-02 15:00:00"),
        ("2024-03-31 02:30", None),  # this time of Berlin does not exist
        ("2024-10-27 02:30", "2024-10-27 00:30:00"),  # the first of two
    ],
)
def test_stamps_of_your_own_file(tmp_path: Path, text: str, instant: str | None) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"symbol;halt;resumption\nA;{text};\n")
    found = halts(path, "Europe/Berlin")
    assert [start for _, start, _ in found] == ([instant] if instant else [])


def test_status_records_of_databento(tmp_path: Path) -> None:
    library = pytest.importorskip("databento_dbn")
    start = 1_704_207_600_000_000_000  # 2024-01-02 15:00 UTC
    actions = [
        (library.StatusAction.TRADING, library.TriState.YES, 0),
        (library.StatusAction.PAUSE, library.TriState.NO, 60),
        (library.StatusAction.PAUSE, library.TriState.NO, 90),
        (library.StatusAction.QUOTING, library.TriState.NOT_AVAILABLE, 300),
        (library.StatusAction.TRADING, library.TriState.YES, 360),
        (library.StatusAction.HALT, library.TriState.NO, 900),
    ]
    metadata = library.Metadata(
        dataset="XNAS.ITCH",
        start=start,
        stype_in=library.SType.RAW_SYMBOL,
        stype_out=library.SType.INSTRUMENT_ID,
        schema=library.Schema.STATUS,
        symbols=["ABC"],
        partial=[],
        not_found=[],
        mappings=[
            SimpleNamespace(
                raw_symbol="ABC",
                intervals=[SimpleNamespace(start_date=dt.date(2024, 1, 2), end_date=dt.date(2024, 1, 3), symbol="7")],
            )
        ],
    )
    records = [
        bytes(library.StatusMsg(1, 7, start + at * 10**9, start + at * 10**9, action=action, is_trading=trading))
        for action, trading, at in actions
    ]
    path = tmp_path / "status.dbn"
    path.write_bytes(metadata.encode() + b"".join(records))
    assert halts(path) == [
        ("ABC", "2024-01-02 15:01:00", "2024-01-02 15:06:00"),
        ("ABC", "2024-01-02 15:15:00", None),
    ]
    assert read_events(path, None).events["evidence"][0].count("status: pause") == 1


def test_status_records_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "status.csv"
    path.write_text(
        "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,reason,trading_event,is_trading,is_quoting,symbol\n"
        "1,1704207660000000000,18,2,7,8,30,0,N,Y,ABC\n"
        "1,1704207660000000000,18,2,9,7,1,0,Y,Y,DEF\n"
        "1,1704208020000000000,18,2,7,7,1,0,Y,Y,ABC\n"
    )
    assert halts(path) == [("ABC", "2024-01-02 15:01:00", "2024-01-02 15:07:00")]


def test_of_bad_rows_of_a_kind_the_first_twenty_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("symbol,halt,resumption\n" + "".join(f"A,day {n},\n" for n in range(1000)))
    rejects = read_events(path, None).rejects
    assert rejects.height == 1000
    assert rejects["reason"].n_unique() == 21
    assert rejects["reason"][19].startswith("start: received 'day 19'")
    assert (rejects["row"].to_list(), set(rejects["source"])) == (list(range(2, 1002)), {str(path)})


def test_sources_that_are_none_are_refused() -> None:
    with pytest.raises(ParameterError, match="halts: received 7; valid: a file, a frame, or a list of them"):
        read_events([7], None)  # type: ignore[list-item]
