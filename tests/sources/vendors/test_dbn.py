"""Databento files, from small ones encoded here by the vendor's library."""

from __future__ import annotations

import datetime as dt
import struct
import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from engine.errors import SourceError
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan
from engine.sources.vendors.dbn import read_dbn

dbn = pytest.importorskip("databento_dbn")
START = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
START_NS = int(START.timestamp()) * 10**9
UNDEFINED_PRICE, UNDEFINED_TIME = 2**63 - 1, 2**64 - 1
ANY = ReadOptions()


def spans(number, first=dt.date(2024, 1, 1), past=dt.date(2024, 2, 1)):
    return {"start_date": first, "end_date": past, "symbol": str(number)}


def encoded(schema, mappings, records, *, dataset="GLBX.MDP3", stype_in="raw_symbol"):
    metadata = dbn.Metadata(
        dataset=dataset,
        start=START_NS,
        stype_in=dbn.SType.from_str(stype_in),
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.from_str(schema),
        symbols=list(mappings),
        partial=[],
        not_found=[],
        mappings=[
            SimpleNamespace(
                raw_symbol=name,
                intervals=[
                    SimpleNamespace(start_date=one["start_date"], end_date=one["end_date"], symbol=one["symbol"])
                    for one in found
                ],
            )
            for name, found in mappings.items()
        ],
    )
    return metadata.encode() + b"".join(block.tobytes() for block in records)


def block(message, rtype, **columns):
    dtype = np.dtype(message._dtypes)
    size = len(next(iter(columns.values())))
    records = np.zeros(size, dtype)
    records["length"], records["rtype"] = dtype.itemsize // 4, rtype
    for name, values in columns.items():
        records[name] = values
    return records


def trades(ids, times, prices, sequence):
    return block(
        dbn.TradeMsg,
        0,
        instrument_id=ids,
        ts_event=times,
        ts_recv=[START_NS + 500 + at for at in range(len(ids))],
        price=[int(price * 10**9) for price in prices],
        size=[2] * len(ids),
        sequence=sequence,
    )


def written(tmp_path, data, name="x.dbn.zst"):
    path = tmp_path / name
    path.write_bytes(pa.compress(data, codec="zstd", asbytes=True) if name.endswith("zst") else data)
    return path


@pytest.mark.parametrize("name", ["x.dbn.zst", "x.dbn"])
def test_read_dbn_bars_are_floats_with_symbols_of_the_metadata(tmp_path, name):
    bars = block(
        dbn.OHLCVMsg,
        0x21,
        instrument_id=[7, 8, 9],
        ts_event=[START_NS] * 3,
        open=[3702750000000] * 3,
        high=[3704500000000] * 3,
        low=[3702250000000] * 3,
        close=[3703010000000] * 3,
        volume=[10, 20, 30],
    )
    path = written(tmp_path, encoded("ohlcv-1m", {"ESH4": [spans(7)], "NQH4": [spans(8)]}, [bars]), name)
    file = scan([path])[0][0]
    assert (file.format, file.kind, str(file.interval), file.market) == ("dbn", "bars", "1m", "GLBX.MDP3")
    batch = read(file)[0]
    assert batch.frame.select("symbol", "ts", "open", "high", "low", "close", "volume").rows() == [
        ("ESH4", START, 3702.75, 3704.5, 3702.25, 3703.01, 10),
        ("NQH4", START, 3702.75, 3704.5, 3702.25, 3703.01, 20),
    ]
    assert batch.rejects.select("row", "reason").rows() == [(3, "symbol: missing or unreadable")]


@pytest.mark.parametrize(
    ("schema", "rtype", "interval", "align"),
    [("ohlcv-1s", 0x20, "1s", "session"), ("ohlcv-1h", 0x22, "1h", "clock"), ("ohlcv-1d", 0x23, "1d", "date")],
)
def test_read_dbn_bar_schemas_tell_interval_and_alignment(tmp_path, schema, rtype, interval, align):
    prices = {name: [10**9] for name in ("open", "high", "low", "close")}
    bars = block(dbn.OHLCVMsg, rtype, instrument_id=[7], ts_event=[START_NS], volume=[1], **prices)
    batch = read_dbn(written(tmp_path, encoded(schema, {"A": [spans(7)]}, [bars])), ANY)[0]
    assert (str(batch.interval), batch.align, batch.stamp) == (interval, align, "start")


def test_read_dbn_numbers_are_named_by_the_interval_of_their_day(tmp_path):
    change = dt.date(2024, 1, 3)
    mappings = {"OLD": [spans(7, dt.date(2024, 1, 1), change)], "NEW": [spans(7, change, dt.date(2024, 1, 9))]}
    day = 86_400 * 10**9
    ticks = trades([7, 7], [START_NS, START_NS + day], [1, 2], [1, 2])
    ticks["ts_recv"] = ticks["ts_event"]
    assert read_dbn(written(tmp_path, encoded("trades", mappings, [ticks])), ANY)[0].frame["symbol"].to_list() == [
        "OLD",
        "NEW",
    ]


def test_read_dbn_parents_keep_their_contracts_apart(tmp_path):
    data = encoded(
        "trades", {"ES.FUT": [spans(7), spans(8)]}, [trades([7, 8], [START_NS] * 2, [1, 2], [1, 2])], stype_in="parent"
    )
    assert read_dbn(written(tmp_path, data), ANY)[0].frame["symbol"].to_list() == ["ES.FUT.7", "ES.FUT.8"]


def test_read_dbn_trades_of_one_packet_have_sequences_of_their_own(tmp_path):
    ticks = trades([7, 7, 7], [START_NS, START_NS, UNDEFINED_TIME], [1, 1, 2], [5, 5, 6])
    frame = read_dbn(written(tmp_path, encoded("trades", {"A": [spans(7)]}, [ticks])), ANY)[0].frame
    assert frame["seq"].n_unique() == 3
    assert frame["seq"].is_sorted()
    assert frame["ts"].to_physical().to_list() == [START_NS, START_NS, START_NS + 502]


def test_read_dbn_quotes_without_a_side_have_it_null_and_without_both_are_rejected(tmp_path):
    books = block(
        dbn.BBOMsg,
        0xC4,
        instrument_id=[7, 7, 7],
        ts_event=[UNDEFINED_TIME] * 3,
        ts_recv=[START_NS] * 3,
        sequence=[1, 2, 3],
        bid_px_00=[10**9, UNDEFINED_PRICE, UNDEFINED_PRICE],
        ask_px_00=[2 * 10**9, 2 * 10**9, UNDEFINED_PRICE],
        bid_sz_00=[4, 0, 0],
        ask_sz_00=[5, 6, 0],
    )
    batch = read_dbn(written(tmp_path, encoded("bbo-1m", {"A": [spans(7)]}, [books])), ANY)[0]
    assert batch.frame.select("bid", "bid_size", "ask", "ask_size").rows() == [(1, 4, 2, 5), (None, None, 2, 6)]
    assert batch.frame["ts"].unique().to_list() == [START]
    assert batch.rejects.select("row", "reason").rows() == [(3, "bid and ask: both missing")]


def test_read_dbn_trades_with_their_quotes_give_two_batches(tmp_path):
    both = block(
        dbn.MBP1Msg,
        1,
        instrument_id=[7],
        ts_event=[START_NS],
        ts_recv=[START_NS],
        price=[15 * 10**8],
        size=[3],
        sequence=[9],
        bid_px_00=[10**9],
        ask_px_00=[2 * 10**9],
        bid_sz_00=[4],
        ask_sz_00=[5],
    )
    ticks, quotes = read_dbn(written(tmp_path, encoded("tbbo", {"A": [spans(7)]}, [both])), ANY)
    assert (ticks.kind, ticks.frame["price"].to_list(), quotes.kind, quotes.frame["ask"].to_list()) == (
        "ticks",
        [1.5],
        "quotes",
        [2],
    )


def test_read_dbn_records_of_other_kinds_are_stepped_over_with_a_note(tmp_path):
    system = np.zeros(80, "u1")
    system[0], system[1] = 20, 0x17
    first, second = trades([7] * 3, [START_NS] * 3, [1, 2, 3], [1, 2, 3]), trades([7], [START_NS], [4], [4])
    data = encoded("trades", {"A": [spans(7)]}, [system, first, system, system, second])
    batch = read_dbn(written(tmp_path, data), ANY)[0]
    assert batch.frame["price"].to_list() == [1, 2, 3, 4]
    assert batch.notes == ("3 records of other kinds stepped over",)


def test_read_dbn_cut_off_file_is_refused(tmp_path):
    data = encoded("trades", {"A": [spans(7)]}, [trades([7, 7], [START_NS] * 2, [1, 2], [1, 2])])
    with pytest.raises(SourceError, match="cut off"):
        read_dbn(written(tmp_path, data[:-5]), ANY)
    with pytest.raises(SourceError, match="metadata"):
        read_dbn(written(tmp_path, data[:60]), ANY)


@pytest.mark.parametrize("schema", ["mbo", "mbp-10", "definition", "statistics", "status", "imbalance"])
def test_scan_dbn_of_other_schemas_is_passed_over_with_a_note(tmp_path, schema):
    path = written(tmp_path, encoded(schema, {"A": [spans(7)]}, []))
    files, problems = scan([path])
    assert files == []
    assert problems[0].ignored
    assert schema in problems[0].reason
    assert read_dbn(path, ANY) == []


def test_scan_dbn_without_the_extra_names_it(tmp_path, monkeypatch):
    path = written(tmp_path, encoded("trades", {"A": [spans(7)]}, []))
    monkeypatch.setitem(sys.modules, "databento_dbn", None)
    assert "pip install session-engine[dbn]" in scan([path])[1][0].reason
    with pytest.raises(SourceError, match="session-engine"):
        read_dbn(path, ANY)


def test_scan_dbn_of_two_data_sets_with_one_symbol_keeps_all_theirs_apart(tmp_path):
    one = trades([7], [START_NS], [1], [1])
    for name, dataset, symbol in (("a", "XNAS.ITCH", "SPY"), ("b", "XNAS.ITCH", "QQQ"), ("c", "EQUS.MINI", "SPY")):
        written(tmp_path, encoded("trades", {symbol: [spans(7)]}, [one], dataset=dataset), f"{name}.dbn.zst")
    symbols = [read(file)[0].frame["symbol"][0] for file in scan([tmp_path])[0]]
    assert symbols == ["SPY@XNAS.ITCH", "QQQ@XNAS.ITCH", "SPY@EQUS.MINI"]


def test_read_dbn_agrees_with_the_vendors_own_decoder(vendor):
    for path in sorted(vendor.glob("**/*mbp-1[._]*.dbn.zst")):
        data = pa.input_stream(str(path), compression="zstd").read()
        decoder = dbn.DBNDecoder()
        decoder.write(data)
        books = decoder.decode()[1:]
        due = [(book.ts_event, book.pretty_bid_px_00, book.pretty_ask_px_00) for book in books]
        frame = read_dbn(path, ANY)[0].frame
        found = frame.select(pl.col("ts").to_physical(), "bid", "ask").rows()
        assert found == [tuple(None if x != x else x for x in due[row - 1]) for row in frame["row"]]  # noqa: PLR0124  # NaN


def test_header_of_the_vendors_library_is_where_it_is_looked_for():
    data = encoded("ohlcv-1d", {"A": [spans(7)]}, [], dataset="XNAS.ITCH")
    assert data[:3] == b"DBN"
    assert data[8:24].rstrip(b"\0") == b"XNAS.ITCH"
    assert struct.unpack_from("<H", data, 24) == (8,)
