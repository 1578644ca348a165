"""Slots as a frame: the bars of a session joined on them, and forward-filled, against the reference specification."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine import SessionData, SymbolSessionData, calendar
from engine.errors import UnknownSymbolError


def bars(symbol: str, stamps: list[dt.datetime]) -> pl.DataFrame:
    prices = pl.Series([100.0 + n for n in range(len(stamps))])
    return pl.DataFrame(
        {"symbol": symbol, "price_type": "last", "ts": pl.Series(stamps, dtype=pl.Datetime("us", "UTC")), "open": prices,
         "high": prices, "low": prices, "close": prices, "volume": 1.0, "size": None, "vwap": None, "trades": None, "row": 0},
        schema_overrides={"size": pl.Float64, "vwap": pl.Float64, "trades": pl.Int64, "row": pl.Int64},
    )  # fmt: skip


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.fixture
def session() -> SessionData:
    session = SessionData()
    session.register_symbol_data(SymbolSessionData("SPY", "XNYS"), SymbolSessionData("HSBC", "XHKG"))
    session.append(bars("SPY", [at("2024-07-02 13:30"), at("2024-07-02 13:33"), at("2024-07-03 16:59")]), "bars", "1m")
    return session


def test_slots_are_every_expected_one_from_the_first_to_the_last_session_with_rows(session: SessionData) -> None:
    slots = session.slots("SPY")
    assert slots.height == 390 + 210  # a day, and one that ends at 13:00
    assert slots["ts"].is_sorted()
    assert slots["ts"][0] == at("2024-07-02 13:30")
    assert slots["ts_end"][-1] == at("2024-07-03 17:00")
    assert slots["segment"].unique().to_list() == ["RTH"]
    assert session.slots("HSBC").is_empty()
    assert session.slots().equals(slots)


def test_bars_join_the_slots_and_fill_forward(session: SessionData) -> None:
    filled = session.slots("SPY", "1m").join(session.bars("SPY", "1m"), on=["symbol", "ts"], how="left").sort("ts")
    closes = filled.select(pl.col("close").forward_fill())["close"]
    assert closes[:5].to_list() == [100.0, 100.0, 100.0, 101.0, 101.0]
    assert closes[-1] == 102.0
    assert filled["close"].null_count() == 600 - 3


def test_slots_of_other_intervals_and_dates(session: SessionData) -> None:
    assert session.slots("SPY", "1h", "2024-07-03", "2024-07-03")["ts_end"].dt.strftime("%H:%M").to_list() == [
        "14:30", "15:30", "16:30", "17:00",
    ]  # fmt: skip
    lunch = session.slots("HSBC", "30m", "2024-07-03", "2024-07-03")
    assert lunch["ts"].dt.convert_time_zone("Asia/Hong_Kong").dt.strftime("%H:%M").to_list() == [
        "09:30", "10:00", "10:30", "11:00", "11:30", "13:00", "13:30", "14:00", "14:30", "15:00", "15:30",
    ]  # fmt: skip
    assert session.slots("SPY", "1d", "2024-07-03", "2024-07-08")["session"].to_list() == [
        dt.date(2024, 7, 3), dt.date(2024, 7, 5), dt.date(2024, 7, 8),
    ]  # fmt: skip
    week = session.slots("SPY", "1w", "2024-07-03", "2024-07-03")
    assert week["session"].to_list() == [dt.date(2024, 7, 5)]
    # As many minutes as the calendar says.
    minutes = session.slots("HSBC", "1m", "2024-07-01", "2024-07-05").height
    assert minutes == calendar("XHKG").minutes_between("2024-07-01T00:00Z", "2024-07-06T00:00Z")


def test_slots_end_by_as_of_and_follow_the_calendars_of_the_store(tmp_path) -> None:
    corrections = tmp_path / "closed.toml"
    corrections.write_text("holidays = [2024-07-03]\n")
    mine = calendar("XNYS", overrides=corrections)
    session = SessionData(as_of=at("2024-07-02 13:35"), calendars={"XNYS": mine})
    session.register_symbol_data(SymbolSessionData("SPY", "XNYS"))
    assert session.slots("SPY", "1m", "2024-07-02", "2024-07-03").height == 5
    with pytest.raises(UnknownSymbolError, match="SPX"):
        session.slots("SPX")
