"""Calendars are built once per process, and a calendar file that changes is noticed at the next request."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import polars as pl
import pytest
from engine.calendars.cache import cached
from engine.calendars.providers import calendar
from engine.errors import CalendarError
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

DAY = dt.date(2024, 1, 3)


def write(path: Path, close: str) -> Path:
    path.write_text(f'code = "OWN"\nzone = "UTC"\n[[hours]]\ndays = "Mon-Fri"\nRTH = "09:00 to {close}"\n')
    os.utime(path, (0, 0))  # as if written within the resolution of its time stamp
    return path


def close_of(path: Path) -> dt.time:
    return calendar(path).segments(DAY, DAY)["segment_close"][0].time()


def test_calendar_of_an_unchanged_file_or_code_is_the_same_object(tmp_path: Path) -> None:
    path = write(tmp_path / "own.toml", "17:00")
    assert calendar(path) is calendar(str(path))
    assert calendar("XNYS") is calendar("XNYS")
    assert calendar("FX") is calendar("FX")


def test_calendar_of_a_changed_file_is_built_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "own.toml", "17:00")
    assert close_of(path) == dt.time(17)
    assert close_of(write(path, "18:00")) == dt.time(18)
    assert close_of(write(path, "17:00")) == dt.time(17)


def test_overrides_of_a_changed_file_are_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "overrides.toml"
    path.write_text("holidays = [2024-01-02]\n")
    assert calendar("XNYS", path).segments(DAY, DAY).height
    path.write_text("holidays = [2024-01-03]\n")
    assert calendar("XNYS", path).segments(DAY, DAY).is_empty()


def test_calendar_of_a_file_with_a_mistake_is_read_again_once_it_is_right(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    for _ in range(2):
        with pytest.raises(CalendarError, match="not a readable calendar file"):
            calendar(path)
    path.write_text("zone =")
    with pytest.raises(CalendarError, match="not a readable calendar file"):
        calendar(path)
    assert close_of(write(path, "17:00")) == dt.time(17)


def test_session_keeps_the_calendar_that_its_rows_were_placed_by(tmp_path: Path) -> None:
    path = write(tmp_path / "own.toml", "17:00")
    session = SessionData()
    session.register_symbol_data(SymbolSessionData("A", calendar=str(path)))
    ts = pl.Series([dt.datetime(2024, 1, 3, 10, tzinfo=dt.UTC)], dtype=pl.Datetime("us", "UTC"))
    values = {name: [1.0] for name in ("open", "high", "low", "close", "volume", "size", "vwap")}
    trades = pl.Series([1], dtype=pl.Int64)
    row = pl.DataFrame({"symbol": ["A"], "price_type": ["last"], "ts": ts, **values, "trades": trades})
    session.append(row, interval="1m")
    write(path, "18:00")
    assert session.calendar(str(path)).segments(DAY, DAY)["segment_close"][0].hour == 17
    assert SessionData().calendar(str(path)).segments(DAY, DAY)["segment_close"][0].hour == 18


def test_cached_builds_once_per_arguments_and_never_keeps_an_exception() -> None:
    calls: list[int] = []

    def build(number: int) -> int:
        calls.append(number)
        if len(calls) == 1:
            raise ValueError("no answer yet")
        return number

    with pytest.raises(ValueError, match="no answer yet"):
        cached(build, 1)
    assert [cached(build, 1), cached(build, 1), cached(build, 2)] == [1, 1, 2]
    assert calls == [1, 1, 2]
