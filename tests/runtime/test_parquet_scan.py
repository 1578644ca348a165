"""Large Parquet tables: the tables of their audit are those of the same rows in a store."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.grid import GridSpec, SessionGrid
from engine.runtime import auditor, parquet_scan
from engine.runtime.auditor import audit
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.run import load_options
from engine.schema import BARS
from engine.simulation.sessions import Market, simulate
from engine.sources.options import ReadOptions

from tests.law import tables

OVERNIGHT = LoadOptions(CalendarMap("CME_Equity"))
MONDAY, SUNDAY_EVENING = dt.date(2024, 11, 18), dt.datetime(2024, 11, 17, 23, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    """Bars of Monday and Tuesday; those of Sunday and Monday evening belong to the trade date that follows."""
    venue = calendar("CME_Equity")
    grid = SessionGrid.build(venue.segments(MONDAY, MONDAY + dt.timedelta(days=1)), "5m", GridSpec("CME_Equity"))
    return simulate(grid, Market.of(2, 3)).clean.select(list(BARS)).sort("ts")


def is_before(moment: dt.datetime) -> pl.Expr:
    return pl.col("ts") < moment


CUTS = {
    "ends in the evening": is_before(dt.datetime(2024, 11, 18, 23, 55, tzinfo=dt.UTC)),
    "an evening alone": is_before(SUNDAY_EVENING + dt.timedelta(minutes=55)),
    "whole": pl.lit(value=True),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("per_range", [1 << 21, 560], ids=["one range", "cut in Monday's evening"])
def test_audit_of_a_large_table_of_an_overnight_market_equals_the_stored_one(
    bars, cut, per_range, tmp_path, monkeypatch
):
    path = tmp_path / "bars_5m.parquet"
    bars.filter(CUTS[cut]).write_parquet(path, row_group_size=560)
    stored = audit([path], OVERNIGHT)
    monkeypatch.setattr(auditor, "LARGE_BYTES", 1)
    monkeypatch.setattr(parquet_scan, "ROWS_PER_RANGE", per_range)
    scanned = audit([path], OVERNIGHT)
    assert scanned.rows == stored.rows == bars.filter(CUTS[cut]).height
    found, expected = tables.of_audit(scanned), tables.of_audit(stored)
    assert expected["quality"]["present"].sum() == stored.rows
    if bars.filter(CUTS[cut]).height > per_range:  # a series' rate of rows, against which it is cut, is that of a range
        expected["findings"] = expected["findings"].filter(pl.col("check_name") != "truncated")
    for name, table in expected.items():
        assert found[name].equals(table), name


@pytest.mark.parametrize("held", [(), ("AAA",)])
def test_bars_of_a_task_are_those_of_the_symbols_asked_for_only(tmp_path: Path, held: tuple[str, ...]) -> None:
    path = tmp_path / "bars.parquet"
    stamps = [dt.datetime(2024, 7, 1, 13, minute, tzinfo=dt.UTC) for minute in (30, 31)]
    pl.DataFrame({
        "symbol": ["AAA", "BBB"], "ts": stamps, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0,
    }).write_parquet(path)  # fmt: skip
    options = load_options("XNYS", interval="1m")
    (rows,) = parquet_scan.cut_row_ranges(path, held)
    task = auditor.RowsTask(rows, options)
    assert auditor.read_task_bars(task, ["AAA"])["symbol"].to_list() == ["AAA"]
    assert auditor.read_task_bars(task, ["CCC"]).is_empty()
    assert auditor.read_task_bars(task, []).is_empty()


def test_audit_of_a_large_table_applies_the_conventions_of_its_layout(tmp_path: Path, monkeypatch) -> None:
    start = int(dt.datetime(2024, 1, 16, 14, 30, tzinfo=dt.UTC).timestamp()) * 10**9
    prices = [470_250_000_000, 471_000_000_000]
    path = tmp_path / "xnas-itch-20240116.ohlcv-1m.parquet"
    pl.DataFrame({
        "ts_event": [start + at * 60 * 10**9 for at in range(2)] * 2, "rtype": 33, "publisher_id": 2, "instrument_id": 1,
        "open": prices * 2, "high": prices * 2, "low": prices * 2, "close": prices * 2, "volume": 5,
        "symbol": ["AAPL", "AAPL", "SPY", "SPY"],
    }).write_parquet(path)  # fmt: skip
    options = LoadOptions(CalendarMap("XNYS"), read=ReadOptions(layout="databento"))
    (rows,) = parquet_scan.cut_row_ranges(path)
    batch = parquet_scan.read_row_range(rows, options)
    assert batch.frame["close"].unique().sort().to_list() == [470.25, 471.0]
    stored = audit([path], options)
    monkeypatch.setattr(auditor, "LARGE_BYTES", 1)
    scanned = audit([path], options)
    assert scanned.rows == stored.rows == 4
    assert scanned.tables["gaps"].equals(stored.tables["gaps"])
