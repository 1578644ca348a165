"""JSON documents as market data services answer: the same bars in every shape."""

from __future__ import annotations

import datetime as dt
import json
import time
import zipfile
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from engine.errors import SourceError
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan

NEW_YORK = ZoneInfo("America/New_York")
START = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
COUNT = 35
TS = [START + dt.timedelta(minutes=n) for n in range(COUNT)]
BARS = [
    {"open": 10.25 + n, "high": 12.5 + n, "low": 9.125 + n, "close": 11.5 + n, "volume": 100 + n} for n in range(COUNT)
]
MS = [int(ts.timestamp() * 1000) for ts in TS]
LOCAL = [ts.astimezone(NEW_YORK).strftime("%Y-%m-%d %H:%M:%S") for ts in TS]
SHORT = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}


def short(stamps):
    return [{"t": t, **{SHORT[k]: v for k, v in bar.items()}} for t, bar in zip(stamps, BARS, strict=True)]


def texts(bar):
    return {key: f"{value:.4f}" if key != "volume" else str(value) for key, value in bar.items()}


def columns(names=None):
    return {(names or {}).get(key, key): [bar[key] for bar in BARS] for key in BARS[0]}


ISO = [f"{ts:%Y-%m-%dT%H:%M:%SZ}" for ts in TS]
TWELVE = {
    "meta": {"symbol": "SPY", "interval": "1min", "currency": "USD", "exchange_timezone": "America/New_York",
             "exchange": "NYSE", "mic_code": "ARCX", "type": "ETF"},
    "values": [{"datetime": t, **texts(bar)} for t, bar in zip(LOCAL, BARS, strict=True)][::-1],
    "status": "ok",
}  # fmt: skip
ALPHA = {
    "Meta Data": {"1. Information": "Intraday (1min) open, high, low, close prices and volume", "2. Symbol": "SPY",
                  "3. Last Refreshed": LOCAL[-1], "4. Interval": "1min", "5. Output Size": "Full size",
                  "6. Time Zone": "US/Eastern"},
    "Time Series (1min)": {
        t: {f"{n}. {key}": value for n, (key, value) in enumerate(texts(bar).items(), 1)}
        for t, bar in list(zip(LOCAL, BARS, strict=True))[::-1]
    },
}  # fmt: skip
KLINES = [
    [ms, *list(texts(bar).values()), ms + 59_999, "1234.5", 7, "50.0", "60.0", "0"]
    for ms, bar in zip(MS, BARS, strict=True)
]
CHART = {"chart": {"result": [{
    "meta": {"currency": "USD", "symbol": "SPY", "exchangeTimezoneName": "America/New_York", "timezone": "EST",
             "dataGranularity": "1m", "range": "1d", "validRanges": ["1d", "5d"],
             "currentTradingPeriod": {"pre": {"timezone": "EST", "start": 1, "end": 2}}},
    "timestamp": [ms // 1000 for ms in MS],
    "indicators": {"quote": [columns()]},
}], "error": None}}  # fmt: skip
DOCUMENTS = {
    "alpaca by symbol": {"bars": {"SPY": short(ISO)}, "next_page_token": None},
    "alpaca of one": {"bars": short(ISO), "symbol": "SPY", "next_page_token": None},
    "polygon": {"ticker": "SPY", "queryCount": COUNT, "resultsCount": COUNT, "adjusted": True, "results": short(MS),
                "status": "OK", "request_id": "x", "count": COUNT},
    "polygon grouped": {"results": [{"T": "SPY", **bar} for bar in short(MS)], "status": "OK"},
    "twelve data": TWELVE,
    "alpha vantage": ALPHA,
    "schwab": {"symbol": "SPY", "empty": False, "previousClose": 1.5,
               "candles": [{**bar, "datetime": ms} for ms, bar in zip(MS, BARS, strict=True)]},
    "yahoo chart": CHART,
    "oanda": {"instrument": "SPY", "granularity": "M1", "candles": [
        {"complete": True, "volume": bar["volume"], "time": t,
         "mid": {SHORT[key]: value for key, value in texts(bar).items() if key != "volume"}}
        for t, bar in zip(ISO, BARS, strict=True)]},
}  # fmt: skip
NAMED = {  # the file's name tells the symbol
    "SPY.json": short(ISO),
    "SPY_1m.json": {"s": "ok", "t": [ms // 1000 for ms in MS], **columns(SHORT)},
    "spy-1m.json": [
        {"timestamp": ms // 1000, "gmtoffset": 0, "datetime": f"{ts:%Y-%m-%d %H:%M:%S}", **bar}
        for ms, ts, bar in zip(MS, TS, BARS, strict=True)
    ],
    "SPY-1m.json": KLINES,
    "SPY_bars.json": [{"date": f"{ts:%Y-%m-%dT%H:%M:%S.000Z}", **bar} for ts, bar in zip(TS, BARS, strict=True)],
    "split/SPY.json": {"columns": list(BARS[0]), "index": ISO, "data": [list(bar.values()) for bar in BARS]},
    "index/SPY.json": {str(ms): bar for ms, bar in zip(MS, BARS, strict=True)},
    "columns/SPY.json": {
        key: {str(ms): bar[key] for ms, bar in zip(MS, BARS, strict=True)} for key in BARS[0]
    },
    "SPY.txt": {"data": short(ISO)},
}  # fmt: skip


def read_one(path, options=None):
    (file,), problems = scan([path], options)
    assert (problems, file.format) == ([], "json")
    (batch,) = read(file, options)
    return batch


def check(batch, symbol="SPY"):
    frame = batch.frame.sort("ts")
    assert batch.rejects.is_empty()
    assert (batch.kind, str(batch.interval), frame["symbol"].unique().to_list()) == ("bars", "1m", [symbol])
    assert frame["ts"].to_list() == TS
    for key in BARS[0]:
        assert frame[key].to_list() == [bar[key] for bar in BARS], key


@pytest.mark.parametrize("shape", DOCUMENTS)
@pytest.mark.parametrize("indent", [None, 2])
def test_read_document_that_states_its_symbol(tmp_path, shape, indent):
    path = tmp_path / "answer of a service.json"
    path.write_text(json.dumps(DOCUMENTS[shape], indent=indent))
    check(read_one(path))


@pytest.mark.parametrize("name", NAMED)
def test_read_document_of_the_symbol_in_the_name(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(json.dumps(NAMED[name]))
    check(read_one(tmp_path / name))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_read_document_of_another_encoding(tmp_path, encoding):
    (tmp_path / "SPY.json").write_text(json.dumps(NAMED["SPY.json"]), encoding=encoding)
    check(read_one(tmp_path / "SPY.json"))


def test_read_documents_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("SPY.json", json.dumps(NAMED["SPY.json"]))
        archive.writestr("x.json", json.dumps(TWELVE))
    (file,), _ = scan([tmp_path])
    for batch in read(file):
        check(batch)


def test_read_document_of_several_symbols_gives_the_rows_of_each(tmp_path):
    path = tmp_path / "bars.json"
    path.write_text(json.dumps({"bars": {"SPY": short(ISO), "QQQ": short(ISO)[:20]}, "next_page_token": "abc"}))
    batch = read_one(path)
    assert batch.frame.group_by("symbol").len().sort("symbol").rows() == [("QQQ", 20), ("SPY", COUNT)]
    assert batch.frame["row"].to_list() == list(range(1, COUNT + 21))
    assert any("one page of several" in note for note in batch.notes)
    batches = {"SPY": TWELVE, "QQQ": TWELVE | {"meta": TWELVE["meta"] | {"symbol": "QQQ"}}}
    path.write_text(json.dumps(batches))
    assert read_one(path).frame.group_by("symbol").len().sort("symbol").rows() == [("QQQ", COUNT), ("SPY", COUNT)]


def test_read_document_states_its_zone_in_a_note_and_the_option_wins(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(TWELVE))
    assert "timezone America/New_York, as the document states" in read_one(path).notes
    assert read_one(path, ReadOptions(timezone="UTC")).frame["ts"].max() == TS[-1] - dt.timedelta(hours=5)


def test_read_document_rows_without_values_are_rejects(tmp_path):
    path = tmp_path / "SPY_1m.json"
    path.write_text(
        json.dumps([*short(ISO), {"t": ISO[0], "o": None}, 5, {"t": "never", "o": 1, "h": 1, "l": 1, "c": 1}])
    )
    batch = read_one(path)
    assert (batch.frame.height, batch.rejects["row"].to_list()) == (COUNT, [COUNT + 1, COUNT + 2, COUNT + 3])
    path.write_text(json.dumps([*KLINES, KLINES[0][:5], "x"]))
    batch = read_one(path)
    assert (batch.frame.height, batch.rejects["reason"].to_list()) == (COUNT, ["row of another width"] * 2)


def test_read_one_object_per_line_in_a_json_file_is_ndjson(tmp_path):
    path = tmp_path / "SPY.json"
    path.write_text("\n".join(map(json.dumps, short(ISO))))
    check(read_one(path))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"status": "error", "code": 429, "message": "out of credits"}, "it says: out of credits"),
        ({"Note": "Thank you for using the service"}, "it says: Thank you"),
        ({"chart": {"result": None, "error": {"code": "Not Found", "description": "No data"}}}, "it says: No data"),
        ({"name": "x", "version": 2}, "without a list of bars"),
        ({"s": "ok", "t": [1, 2], "o": [1], "h": [1], "l": [1], "c": [1]}, "differ in length"),
        ({"data": [{"a": 1}]}, "are no bars"),
        ([[1, 2, 3], [4, 5, 6]], "--columns"),
        ({"first": short(ISO), "second": short(ISO)}, "holds 2 lists"),
        ({"meta": {"symbol": "X"}, "values": TWELVE["values"]}, "--timezone"),
        ({"data": {"rows": short(ISO)}}, "--symbol"),
    ],
)
def test_read_document_that_is_no_table_is_refused_with_the_reason(tmp_path, document, reason):
    path = tmp_path / "an answer of something.json"
    path.write_text(json.dumps(document))
    (file,), _ = scan([path])
    with pytest.raises(SourceError, match=reason):
        read(file)


@pytest.mark.parametrize(
    "document", [[], {"bars": {}}, {"bars": None}, {"values": []}, {"s": "no_data"}, {"bars": {"SPY": []}}]
)
def test_read_document_without_rows_is_empty(tmp_path, document):
    path = tmp_path / "SPY.json"
    path.write_text(json.dumps(document))
    batch = read_one(path)
    assert (batch.frame.height, batch.rejects.height) == (0, 0)


def test_read_document_of_10000_rows_costs_no_more_per_row_than_one_of_1000(tmp_path):
    bars = [{"t": ms, "o": 1, "h": 2, "l": 1, "c": 1.5} for ms in range(MS[0], MS[0] + 10_000 * 60_000, 60_000)]
    path = tmp_path / "SPY.json"
    path.write_text(json.dumps({"series": {"values": bars}}))
    assert read_one(path).frame.height == 10_000


def test_read_document_of_names_of_their_own_per_row_costs_as_much_per_row(tmp_path):
    taken = []
    for count in (2_000, 8_000):
        rows = [{"t": MS[0] + 60_000 * n, "o": 1, "h": 2, "l": 1, "c": 1.5, f"own {n}": n} for n in range(count)]
        path = tmp_path / "SPY_1m.json"
        path.write_text(json.dumps({"values": rows}))
        began = time.process_time()
        assert read_one(path).frame.height == count
        taken.append(time.process_time() - began)
    assert taken[1] < 12 * taken[0] + 0.5  # with their square it would be 16, and 30 seconds


@pytest.mark.parametrize("text", ["[" * 5000, '{"a":' * 5000 + "1" + "}" * 5000, '[{"t": 1', "{]", '[{"o": NaN}]'])
def test_read_text_that_is_no_json_is_refused(tmp_path, text):
    path = tmp_path / "SPY.json"
    path.write_text(text)
    (file,), _ = scan([path], ReadOptions(format="json"))
    with pytest.raises(SourceError, match="no JSON document"):
        read(file)


def test_scan_passes_over_what_describes_the_data(tmp_path):
    (tmp_path / "_delta_log").mkdir()
    for name in ("metadata.json", "manifest.json", "_delta_log/00000000000000000000.json"):
        (tmp_path / name).write_text("{}")
    files, problems = scan([tmp_path])
    assert (files, [problem.ignored for problem in problems]) == ([], [True] * 3)


def test_frame_of_nested_cells_is_text(tmp_path):
    path = tmp_path / "SPY.json"
    path.write_text(
        json.dumps({"trades": [{"t": t, "p": 1.5, "s": 2, "conditions": ["@", "I"], "exchange": "V"} for t in ISO]})
    )
    batch = read_one(path)
    assert batch.kind == "ticks"
    assert batch.frame.select("price", "size", "conditions", "exchange").unique().rows() == [(1.5, 2.0, "@,I", "V")]
    assert batch.frame.schema["conditions"] == pl.String


def test_a_chart_without_a_list_of_quotes_is_no_table(tmp_path):
    path = tmp_path / "SPY_1m.json"
    path.write_text(json.dumps({"timestamp": MS, "indicators": {"quote": []}}))
    with pytest.raises(SourceError, match="without a list of bars"):
        read(scan([path])[0][0])
