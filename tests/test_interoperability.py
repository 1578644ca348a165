"""Frames in and out by the Arrow capsule, and exports opened by others; `docs/interoperability.md` runs beside these."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import engine
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)


class OnlyCapsule:
    """What any library may hand over: nothing but the interface."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.fixture
def bars() -> pl.DataFrame:
    ts = [OPEN + dt.timedelta(minutes=m) for m in range(390) if m != 7]
    return pl.DataFrame(
        {"ts": ts, "open": 10.0, "high": 10.5, "low": 9.5, "close": 10.2, "volume": 100.0}
    ).with_columns(pl.col("ts").dt.cast_time_unit("us"))


@pytest.fixture
def out(bars: pl.DataFrame, tmp_path: Path) -> Path:
    bars.with_columns(symbol=pl.lit("=cmd|' /C calc'!A0")).write_csv(tmp_path / "all.csv")
    engine.export_session(engine.load(tmp_path / "all.csv", "XNYS", derive=["1h"]), tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(
    "given",
    [
        lambda frame: frame,
        lambda frame: frame.lazy(),
        lambda frame: frame.to_arrow(),
        lambda frame: OnlyCapsule(frame.to_arrow()),
        lambda frame: frame.to_pandas(),
        lambda frame: frame.to_pandas().set_index("ts"),
        lambda frame: duckdb.sql("FROM frame"),
    ],
    ids=["polars", "lazy", "pyarrow", "capsule", "pandas", "pandas index", "duckdb"],
)
def test_from_frame_of_any_library_gives_the_same_rows(bars: pl.DataFrame, given) -> None:
    batch = engine.from_frame(given(bars), symbol="AAA")
    expected = engine.from_frame(bars, symbol="AAA")
    assert batch.frame.drop("row").equals(expected.frame.drop("row"))
    assert (batch.frame.height, str(batch.interval), batch.rejects.height) == (389, "1m", 0)


def test_results_hand_their_columns_out_by_the_capsule(out: Path) -> None:
    results = {"sql": engine.sql(out, "FROM gaps"), "bars": engine.open_dataset(out).scan("bars").collect()}
    for name, frame in results.items():
        table = pa.table(OnlyCapsule(frame.to_arrow()))
        assert pl.from_arrow(table).equals(frame), name  # type: ignore[union-attr]


def test_results_become_pandas_and_numpy_with_their_zone_and_nulls(out: Path) -> None:
    hours = engine.sql(out, "SELECT ts, close, vwap FROM bars WHERE interval = '1h' ORDER BY ts")
    frame = hours.to_pandas()
    assert isinstance(frame["ts"].dtype, pd.DatetimeTZDtype)
    assert hours["close"].to_numpy().dtype == np.float64
    assert np.isnan(hours["vwap"].to_numpy()).sum() == hours["vwap"].null_count()


def test_export_opens_in_polars_duckdb_and_pandas_alike(out: Path) -> None:
    ours = engine.sql(out, "SELECT count(*) AS n, sum(volume) AS volume FROM bars WHERE interval = '1m'").row(0)
    delta = pl.read_delta(str(out / "bars")).filter(pl.col("interval") == "1m")
    duck = duckdb.sql(f"SELECT count(*), sum(volume) FROM '{out}/bars/1m/*/*.parquet'").fetchall()[0]  # noqa: S608
    panda = pd.read_parquet(out / "bars" / "1m" / "2024-01")
    assert {ours, (delta.height, delta["volume"].sum()), duck, (len(panda), panda["volume"].sum())} == {(389, 38_900.0)}


def test_csv_for_a_spreadsheet_holds_no_formula(out: Path, tmp_path: Path) -> None:
    engine.write_csv(engine.open_dataset(out), tmp_path / "csv", spreadsheet_safe=True)
    seen = pd.read_csv(tmp_path / "csv" / "symbols.csv")["symbol"].tolist()
    assert seen == ["'=cmd|' /C calc'!A0"]
