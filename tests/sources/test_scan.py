"""Folders: what is data, what is passed over, what cannot be read, and namesakes of two markets."""

from __future__ import annotations

import contextlib
import gzip
import zipfile
from pathlib import Path

import polars as pl
import pytest
from engine.errors import EngineError, SourceError
from engine.sources.batch import Problem
from engine.sources.file_names import parse_path
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sources.vendors.lean_zip import lean_zip

CSV = "timestamp,open,high,low,close\n2024-01-02T14:30:00Z,1,2,1,2\n2024-01-02T14:31:00Z,1,2,1,2\n"
TRADE = "0,10000,10000,10000,10000,1\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "SPY.csv").write_text(CSV)
    (tmp_path / "deep/QQQ.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    pl.read_csv(CSV.encode()).write_parquet(tmp_path / "deep/er/IWM.parquet")
    (tmp_path / "README.md").write_text("# about")
    (tmp_path / "deep/map_files").mkdir()
    (tmp_path / "deep/map_files/spy.csv").write_text("19980102,spy,P\n")
    (tmp_path / "deep/picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.csv").write_text(CSV)
    (tmp_path / "broken.csv.gz").write_bytes(b"\x1f\x8b" + b"nonsense")
    return tmp_path


def names(files, root):
    return [(file.path.relative_to(root).as_posix(), file.format, file.symbol) for file in files]


def test_scan_folder_finds_data_in_order_of_path_and_says_what_it_left(folder):
    files, problems = scan([folder])
    assert names(files, folder) == [
        ("SPY.csv", "csv", "SPY"),
        ("deep/QQQ.csv.gz", "csv", "QQQ"),
        ("deep/er/IWM.parquet", "parquet", "IWM"),
    ]
    left = {Path(problem.path).name: (problem.reason, problem.ignored) for problem in problems}
    assert left["README.md"] == ("about the data", True)
    assert left["spy.csv"] == ("ticker map", True)
    assert left["picture.png"][1] is True
    assert left["broken.csv.gz"][1] is False
    assert len(left) == 4


def test_scan_same_folder_in_any_order_finds_each_file_once(folder):
    assert scan([folder, folder / "SPY.csv"])[0] == scan([folder / "deep", folder])[0] == scan([folder])[0]


def test_scan_files_read_alike_whatever_their_packing(folder):
    batches = [read(file)[0] for file in scan([folder])[0]]
    assert [batch.frame.drop("symbol", "row").rows() for batch in batches] == [
        batches[0].frame.drop("symbol", "row").rows()
    ] * 3
    assert len({batch.sha256 for batch in batches}) == 3


def test_scan_file_named_by_the_caller_is_meant_to_be_data(tmp_path):
    (tmp_path / "README.md").write_text("# about")
    assert scan([tmp_path / "README.md", tmp_path / "none.csv"])[1] == [
        Problem(str(tmp_path / "README.md"), "no format of ours by its first bytes; give --format"),
        Problem(str(tmp_path / "none.csv"), "no such file or folder"),
    ]


def test_scan_format_option_wins_over_the_name(tmp_path):
    (tmp_path / "SPY.md").write_text(CSV)
    files, problems = scan([tmp_path / "SPY.md"], ReadOptions(format="csv", symbol="SPY"))
    assert problems == []
    assert read(files[0], ReadOptions(symbol="SPY"))[0].frame.height == 2


def lean_trade(root, market, symbol, security="crypto"):
    member = {f"d_20240102_{symbol}_minute_trade": "0,1,1,1,1,1\n"}
    return lean_zip(root, f"{security}/{market}/minute/{symbol}/20240102_trade.zip", **member)


def test_scan_symbols_of_two_markets_get_two_names_and_a_note(tmp_path):
    for market, symbol in (("binance", "btcusdt"), ("bybit", "btcusdt"), ("bybit", "ethusdt")):
        lean_trade(tmp_path, market, symbol)
    batches = [read(file)[0] for file in scan([tmp_path])[0]]
    assert [batch.frame["symbol"].to_list() for batch in batches] == [
        ["BTCUSDT@BINANCE"],
        ["BTCUSDT@BYBIT"],
        ["ETHUSDT"],
    ]
    assert batches[0].source_symbols == {"BTCUSDT@BINANCE": "btcusdt"}
    assert ["another market" in " ".join(batch.notes) for batch in batches] == [True, True, False]
    alone = scan([tmp_path / "crypto/bybit"])[0]
    assert [file.qualifier for file in alone] == ["", ""]


def test_scan_symbols_of_two_kinds_of_instrument_get_two_names(tmp_path):
    lean_trade(tmp_path, "usa", "spx", "index")
    lean_trade(tmp_path, "usa", "spx", "equity")
    assert [file.qualifier for file in scan([tmp_path])[0]] == ["@EQUITY", "@INDEX"]


def test_scan_symbols_not_asked_for_are_passed_over(tmp_path):
    lean_trade(tmp_path, "bybit", "btcusdt")
    lean_trade(tmp_path, "bybit", "ethusdt")
    files, problems = scan([tmp_path], ReadOptions(symbols=("ETHUSDT",)))
    assert [file.symbol for file in files] == ["ETHUSDT"]
    assert [(problem.reason, problem.ignored) for problem in problems] == [("not asked for", True)]


def test_scan_contract_asked_for_keeps_the_files_of_its_root(tmp_path):
    path = "future/cme/minute/es/20240102_trade.zip"
    lean_zip(
        tmp_path,
        path,
        d_20240102_es_minute_trade_202403="0,1,1,1,1,1\n",
        d_20240102_es_minute_trade_202406="0,2,2,2,2,1\n",
    )
    options = ReadOptions(symbols=("ES.202406",))
    files, _ = scan([tmp_path], options)
    assert read(files[0], options)[0].frame["symbol"].to_list() == ["ES.202406"]


def test_read_zip_of_text_files_gives_a_batch_per_member(tmp_path):
    path = tmp_path / "klines.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("SPY-1m-2024-01-02.csv", CSV)
        file.writestr("QQQ-1m-2024-01-02.csv", CSV)
    batches = read(scan([tmp_path])[0][0])
    assert [(batch.frame["symbol"][0], batch.source) for batch in batches] == [
        ("SPY", f"{path}!SPY-1m-2024-01-02.csv"),
        ("QQQ", f"{path}!QQQ-1m-2024-01-02.csv"),
    ]


def test_read_one_bad_file_does_not_stop_the_others(tmp_path):
    (tmp_path / "A.csv").write_bytes(b"\x00\x01\x02")
    (tmp_path / "B.csv").write_text("nothing,of,use\nx,y,z\n")
    (tmp_path / "C.csv").write_text(CSV)
    (tmp_path / "D.parquet").write_bytes(b"PAR1" + bytes(50) + b"PAR1")
    outcome = {}
    files, problems = scan([tmp_path])
    for file in files:
        try:
            outcome[file.path.name] = read(file)[0].frame.height
        except SourceError as error:
            outcome[file.path.name] = error.path
    assert outcome == {name: str(tmp_path / name) for name in ("B.csv", "D.parquet")} | {"C.csv": 2}
    assert [Path(problem.path).name for problem in problems] == ["A.csv"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    st.integers(0, 10_000),
    st.sampled_from(range(4)),
)
def test_read_damaged_files_raise_nothing_but_engine_errors(tmp_path_factory, flips, cut, which):
    root = tmp_path_factory.mktemp("damaged")
    path = [_csv, _gzip, _parquet, _lean][which](root)
    data = bytearray(path.read_bytes())
    for at, value in flips:
        data[at % len(data)] ^= value
    path.write_bytes(data[: len(data) - cut % (len(data) // 2)])
    for file in scan([root])[0]:
        with contextlib.suppress(EngineError):
            assert all(isinstance(batch.frame, pl.DataFrame) for batch in read(file))


def _csv(root):
    (root / "SPY.csv").write_text(CSV)
    return root / "SPY.csv"


def _gzip(root):
    (root / "SPY.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    return root / "SPY.csv.gz"


def _parquet(root):
    pl.read_csv(CSV.encode()).write_parquet(root / "SPY.parquet")
    return root / "SPY.parquet"


def _lean(root):
    return lean_zip(root, "equity/usa/minute/spy/20240102_trade.zip", d_20240102_spy_minute_trade=TRADE * 20)


@pytest.mark.parametrize(
    ("path", "symbol", "interval", "price_type"),
    [
        ("SPY.csv", "SPY", None, None),
        ("BRK.B_1m.csv", "BRK.B", "1m", None),
        ("bars_dump_AAPL_2025-07-02.csv", "AAPL", None, None),
        ("gbpusd-m1-ask-2012.csv", "GBPUSD", "1m", "ask"),
        ("BTC-USD.csv", "BTC-USD", None, None),
        ("6EH4.XCME_1min_bars_20240101_20240131.csv.gz", "6EH4.XCME", "1m", None),
        ("ADABTC-1m-2021-11-27.csv", "ADABTC", "1m", None),
        ("EURUSD_daily.csv", "EURUSD", "1d", None),
        ("symbol=0700/interval=5m/part-0.parquet", "0700", "5m", None),
        ("symbol=BRK%2FB/x.parquet", "BRK/B", None, None),
        ("quote_tick_data.csv", None, None, None),
        ("one_two.csv", None, None, None),
        ("2024-01-02.csv", None, None, None),
    ],
)
def test_named_paths_tell_symbol_interval_and_side(path, symbol, interval, price_type):
    told = parse_path(path)
    assert (told.symbol, told.interval and str(told.interval), told.price_type) == (symbol, interval, price_type)


def test_scan_checksum_beside_a_packed_file_is_no_data(tmp_path):
    with zipfile.ZipFile(tmp_path / "BTCUSDT-1m-2024-01.zip", "w") as target:
        target.writestr("BTCUSDT-1m-2024-01.csv", CSV)
    (tmp_path / "BTCUSDT-1m-2024-01.zip.CHECKSUM").write_text(f"{'ab' * 32}  BTCUSDT-1m-2024-01.zip\n")
    files, problems = scan([tmp_path])
    assert ([file.path.name for file in files], [problem.ignored for problem in problems]) == (
        ["BTCUSDT-1m-2024-01.zip"],
        [True],
    )
