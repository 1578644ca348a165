"""Days of the regular segments, or of all that are expected: bars, notes, exports, and what is refused."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import engine as package
import polars as pl
import pytest
from engine.errors import ParameterError
from engine.export.dataset import open_dataset
from engine.grid import ALL_IN_DAYS

EXTENDED = ["PRE", "RTH", "POST"]


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """A minute of each hour from 05:00 to 18:00 in New York, on two days; the n-th closes at n and trades one."""
    hours = [dt.datetime(2024, 7, day, hour, 30) for day in (1, 2) for hour in range(5, 19)]  # noqa: DTZ001 - local
    close = pl.Series([float(n + 1) for n in range(len(hours))])
    bars = pl.DataFrame({"ts": hours, "open": close, "high": close, "low": close, "close": close, "volume": 1})
    path = tmp_path / "SPY.csv"
    bars.with_columns(pl.col("ts").dt.strftime("%Y-%m-%d %H:%M")).write_csv(path)
    return path


def load(path: Path, **options: object) -> package.SessionData:
    derive, zone = ["1d", "1w"], "America/New_York"
    return package.load(path, "XNYS", interval="1m", derive=derive, timezone=zone, **options)  # type: ignore[arg-type]


def test_days_fold_regular_hours_or_all_expected_ones(prices: Path) -> None:
    days = {
        which: load(prices, segments=EXTENDED, daily_segments=which).bars("SPY", "1d") for which in ("regular", "all")
    }
    assert days["regular"]["volume"].to_list() == [7, 7]  # 09:30 to 15:30
    assert days["all"]["volume"].to_list() == [14, 14]
    assert days["all"].select("open", "close").rows() == [(1.0, 14.0), (15.0, 28.0)]
    spans = days["all"].select(pl.col("ts", "ts_end").dt.convert_time_zone("America/New_York").dt.strftime("%H:%M"))
    assert spans.row(0) == ("04:00", "20:00")
    assert days["all"]["n_expected"].to_list() == [960, 960]


def test_weeks_fold_the_same_segments_as_days(prices: Path) -> None:
    assert load(prices, segments=EXTENDED, daily_segments="all").bars("SPY", "1w")["volume"].to_list() == [28]


def test_all_daily_segments_without_segments_are_refused_with_what_to_give(prices: Path) -> None:
    with pytest.raises(ParameterError, match="--segments PRE,RTH,POST"):
        load(prices, daily_segments="all")
    with pytest.raises(ParameterError, match="daily_segments: received 'both'"):
        load(prices, daily_segments="both")


def test_run_notes_and_exports_what_days_fold(engine, prices: Path, tmp_path: Path) -> None:
    words = ["run", prices, "--calendar", "XNYS", "--interval", "1m", "--timezone", "America/New_York"]
    words += ["--derive", "1d,3mo", "--segments", ",".join(EXTENDED), "--daily-segments", "all"]
    code, out, err = engine(*words, "--export", tmp_path / "out")
    assert code == 0, err
    assert "1d, 3mo of SPY fold PRE, RTH, POST (daily segments: all)" in " ".join((out + err).split())
    dataset = open_dataset(tmp_path / "out")
    assert dataset.scan("symbols").collect()["segments"].to_list() == [[*EXTENDED, ALL_IN_DAYS]]
    assert dataset.scan("bars").filter(pl.col("interval") == "1d").collect()["volume"].to_list() == [14, 14]
