"""Sources of a load and an audit: every form gives the bars, gaps and quality of the same rows in a file."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import engine
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from engine.errors import EngineError, ParameterError, SchemaError, SourceError
from engine.runtime.auditor import run_audit
from engine.runtime.run import load
from engine.sources.options import ReadOptions

from tests.sources.vendors.lean_zip import lean_zip

MISSING = {30, 31, 100}  # minutes without a bar
STAMPS = pd.date_range("2024-01-02 14:30", periods=390, freq="min", tz="UTC").delete(sorted(MISSING))


@pytest.fixture
def bars() -> pd.DataFrame:
    rows = range(len(STAMPS))
    return pd.DataFrame(
        {
            "Open": 10.0,
            "High": 11.0,
            "Low": 9.5,
            "Close": [10 + n / 1000 for n in rows],
            "Volume": [100 + n for n in rows],
        },
        index=STAMPS,
    )


@pytest.fixture
def file(bars: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "SPY_1m.csv"
    bars.rename_axis("Date").to_csv(path)
    return path


def polars_bars(bars: pd.DataFrame, symbol: str = "SPY") -> pl.DataFrame:
    return pl.from_pandas(bars.reset_index(names="ts")).with_columns(symbol=pl.lit(symbol))


def relation(bars: pd.DataFrame) -> Any:
    connection = duckdb.connect()
    connection.register("bars", polars_bars(bars).to_arrow())
    return connection.sql("SELECT * FROM bars")


def forms(bars: pd.DataFrame, file: Path) -> dict[str, Any]:
    """The same rows in every form that a source may have."""
    return {
        "text": str(file),
        "path": file,
        "list of paths": [file],
        "set of paths": {file},
        "folder": file.parent,
        "symbol to path": {"SPY": file},
        "eager": polars_bars(bars),
        "lazy": polars_bars(bars).lazy(),
        "pandas": bars.assign(symbol="SPY"),
        "pandas, named index": {"SPY": bars.rename_axis("Date")},
        "pandas, symbols in the index": pd.concat({"SPY": bars}),
        "pandas, named levels": pd.concat({"SPY": bars}, names=["Ticker", "Date"]),
        "pandas, symbols in the columns": pd.concat({"SPY": bars}, axis=1).swaplevel(axis=1),
        "pandas, periods": {"SPY": bars.set_axis(STAMPS.tz_localize(None).to_period("min")).to_timestamp().tz_localize("UTC")},
        "arrow": polars_bars(bars).to_arrow(),
        "arrow, from pandas": {"SPY": pa.Table.from_pandas(bars)},
        "arrow reader": polars_bars(bars).to_arrow().to_reader(),
        "duckdb": relation(bars),
        "symbol to frame": {"SPY": polars_bars(bars, "other name")},
        "symbol to parts": {"SPY": [bars[:100], bars[100:]]},
        "parts": [polars_bars(bars)[200:], polars_bars(bars)[:200]],
    }  # fmt: skip


FORMS = (
    "text",
    "path",
    "list of paths",
    "set of paths",
    "folder",
    "symbol to path",
    "eager",
    "lazy",
    "pandas",
    "pandas, named index",
    "pandas, symbols in the index",
    "pandas, named levels",
    "pandas, symbols in the columns",
    "pandas, periods",
    "arrow",
    "arrow, from pandas",
    "arrow reader",
    "duckdb",
    "symbol to frame",
    "symbol to parts",
    "parts",
)


@pytest.mark.parametrize("form", FORMS)
def test_load_of_any_form_gives_the_bars_and_gaps_of_the_file(form: str, bars: pd.DataFrame, file: Path) -> None:
    expected = load(file, "XNYS", derive="1h")
    session = load(forms(bars, file)[form], "XNYS", derive="1h")
    for table in (session.bars(), session.gaps(), session.quality()):
        assert table.height
    assert session.bars().equals(expected.bars())
    assert session.gaps("SPY").equals(expected.gaps("SPY"))
    assert session.quality().equals(expected.quality())
    assert session.quality("SPY").filter(interval="1m")["missing"].to_list() == [len(MISSING)]


@pytest.mark.parametrize("form", FORMS)
def test_audit_of_any_form_finds_what_that_of_the_file_finds(form: str, bars: pd.DataFrame, file: Path) -> None:
    expected, done = run_audit(file, "XNYS"), run_audit(forms(bars, file)[form], "XNYS")
    assert done.rows == expected.rows == len(STAMPS)
    for name in ("series", "gaps"):
        assert (
            done.tables[name].drop("source", strict=False).equals(expected.tables[name].drop("source", strict=False))
        ), name


def test_audit_of_frames_in_worker_processes_gives_the_same_tables(bars: pd.DataFrame) -> None:
    frames = {"SPY": bars, "QQQ": bars[5:]}
    alone, shared = run_audit(frames, "XNYS"), run_audit(frames, "XNYS", workers=2)
    assert shared.tables["gaps"].equals(alone.tables["gaps"])
    assert set(alone.tables["series"]["symbol"]) == {"SPY", "QQQ"}


def test_two_frames_of_one_symbol_are_both_read(bars: pd.DataFrame) -> None:
    # Equal first stamps and no file hash: they would be taken for copies of one another.
    last, bid = bars, bars.assign(Close=9.9)
    session = load([polars_bars(last), polars_bars(bid)], "XNYS")
    assert session.bars("SPY")["close"].unique().to_list() == [9.9]  # the later one corrects


def test_columns_of_several_symbols_leave_no_empty_rows(bars: pd.DataFrame) -> None:
    wide = pd.concat({"SPY": bars, "QQQ": bars[10:]}, axis=1)  # as yfinance: NaN where QQQ has no bar
    session = load(wide, "XNYS")
    assert session.quality("QQQ")["missing"].to_list() == [len(MISSING) + 10]
    assert not session.snapshot().rejects


WRONG: list[tuple[Any, str]] = [
    (5, "source: received 5; valid: a path, a frame"),
    (None, "source: received None"),
    ("", "source: received ''"),
    (b"SPY.csv", "source: received b'SPY.csv'"),
    ([], "source: none given"),
    ({}, "source: none given"),
    ([None], "source: received None"),
    ({"SPY": None}, "source: received None"),
    ({5: "a.csv"}, "received 5; valid: one name as text"),
    ("nowhere.csv", "source: nowhere.csv does not exist"),
    (pl.Series([1]), "frame: received a Series"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Duplicate column names"),
    (pl.scan_csv("nowhere.csv"), "cannot be read: No such file"),
]


@pytest.mark.parametrize("call", [load, run_audit])
@pytest.mark.parametrize(("source", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_source_of_another_type_is_refused_with_the_valid_ones(
    call: Callable[..., object], source: object, message: str
) -> None:
    with pytest.raises((ParameterError, SchemaError)) as caught:
        call(source, "XNYS")
    assert message in str(caught.value)


def test_a_name_for_a_file_that_states_another_symbol_is_refused(tmp_path: Path) -> None:
    minute = "34200000,1000000,1005000,995000,1002000,500"
    path = lean_zip(tmp_path, "equity/usa/minute/spy/20240102_trade.zip", d_20240102_spy_minute_trade=minute)
    with pytest.raises(SourceError, match="its rows are of 'SPY', not of 'QQQ'"):
        load({"QQQ": path}, "XNYS")


# ---------------------------------------------------------------------------- the signature


@pytest.mark.parametrize("call", [load, run_audit])
def test_read_options_stand_in_the_signature(call: Callable[..., object]) -> None:
    parameters = inspect.signature(call, eval_str=True).parameters
    for option in dataclasses.fields(ReadOptions):
        assert option.name in parameters, f"{call.__name__} lacks the read option {option.name}"
        shown = parameters[option.name]
        assert shown.kind is inspect.Parameter.KEYWORD_ONLY
        default = option.default_factory() if option.default is dataclasses.MISSING else option.default  # type: ignore[misc]
        assert shown.default == (None if default in ((), {}) else default), option.name
        assert shown.annotation is not inspect.Parameter.empty
        assert option.name in load.__doc__, f"load does not explain {option.name}"


UNKNOWN = [("tz", "timezone"), ("timeframe", "interval"), ("sep", "delimiter"), ("ticker", "symbol"), ("symbls", "symbols"), ("time_fmt", "time_format")]  # fmt: skip


@pytest.mark.parametrize("call", [load, run_audit])
@pytest.mark.parametrize(("given", "meant"), UNKNOWN)
def test_an_unknown_option_is_refused_with_the_one_that_is_meant(
    call: Callable[..., object], given: str, meant: str, bars: pd.DataFrame
) -> None:
    with pytest.raises(EngineError, match=rf"{given}: \w+ has no such option \(did you mean {meant}\?\)"):
        call({"SPY": bars}, "XNYS", **{given: "x"})


def test_zone_objects_are_zones(bars: pd.DataFrame) -> None:
    import zoneinfo  # noqa: PLC0415

    local = bars.tz_convert("America/New_York").tz_localize(None)
    session = engine.load({"SPY": local}, "XNYS", timezone=zoneinfo.ZoneInfo("America/New_York"))
    assert session.quality()["missing"].to_list() == [len(MISSING)]


def test_one_name_for_a_frame_of_two_symbols_in_the_same_time_is_refused(bars: pd.DataFrame) -> None:
    both = pl.concat([polars_bars(bars, "AAPL"), polars_bars(bars, "MSFT")])
    with pytest.raises(SourceError, match="'symbol' has 2 symbols in the same time"):
        load({"SPY": both}, "XNYS")
    followed = pl.concat([polars_bars(bars[:100], "ESH4"), polars_bars(bars[100:], "ESM4")])
    assert load({"ES": followed}, "XNYS").bars("ES").height == len(STAMPS)


def test_several_frames_of_a_symbol_have_names_of_their_own(bars: pd.DataFrame) -> None:
    whole = polars_bars(bars)
    bad = whole.tail(1).with_columns(pl.lit(-1.0).alias("Low"))
    session = engine.load({"SPY": [whole, bad]}, "XNYS", interval="1m")
    assert session.snapshot().tables()["rejects"]["source"].unique().to_list() == ["frame SPY 2"]
