"""A symbol of another calendar that is added after the others' session has ended gets that trade date."""

from __future__ import annotations

import datetime as dt

import engine
import polars as pl
import pytest
from engine.runtime.config import SessionConfig
from engine.runtime.deployments import ReplaySession

from tests.runtime.live_world import MINUTE, OPEN, HandStream, Morning, bars, configured

DAY = OPEN.date()
CLOSE, MIDNIGHT = 390, 630  # minutes from OPEN
BEGIN = -810  # of the trade date around the clock
MIXED = {"mode": "live", "calendars": {"X*": "24/7", "*": "XNYS"}, "symbols": ["A"]}


def evening(minute: int) -> Morning:
    past = pl.concat([bars("XBT", [BEGIN, BEGIN + 1, 0, 400, 401, 419]), bars("A", [])])
    morning = Morning(HandStream(past), configured(session=MIXED))
    morning.live.start()
    morning.stream.push(bars("A", range(CLOSE)))
    morning.at(CLOSE + 1)
    assert morning.session.snapshot().session_date == DAY + dt.timedelta(days=1)
    return morning.at(minute)


def test_symbol_added_after_the_close_gets_the_trade_date_of_its_calendar() -> None:
    morning = evening(420)
    morning.live.add_symbol("XBT")
    added = morning.session.get_symbol_data("XBT")
    assert morning.session.snapshot().session_date == DAY
    assert added.expected_from == DAY
    assert (added.session_volume, added.session_bars.height) == (30.0, 6)
    quality = added.bar_quality["1m"].select("session", "expected", "present")
    assert quality.rows() == [(DAY, 420 - BEGIN, 6)]
    morning.stream.push(bars("XBT", [420, 421]))
    morning.at(422)
    assert (morning.session.snapshot().session_date, morning.session.snapshot().session_active) == (DAY, True)
    assert morning.session.get_symbol_data("XBT").session_volume == 40.0
    assert morning.session.get_symbol_data("A").session_volume == 5.0 * CLOSE
    morning.at(MIDNIGHT)
    snapshot = morning.session.snapshot()
    assert snapshot.session_date == DAY + dt.timedelta(days=1)
    whole = morning.session.get_symbol_data("XBT").bar_quality["1m"].filter(pl.col("session") == DAY)
    assert whole.select("expected", "present").rows() == [(1440, 8)]
    assert morning.live.coordinator.sessions[0] == 1


def test_symbol_of_the_same_calendar_added_after_the_close_waits_for_the_next_session() -> None:
    morning = evening(420)
    morning.live.add_symbol("C")
    assert morning.session.snapshot().session_date == DAY + dt.timedelta(days=1)


def test_symbol_added_on_a_weekend_gets_the_trade_date_of_that_day() -> None:
    morning = evening(CLOSE + 2)
    saturday = dt.date(2024, 6, 29)
    at = int((dt.datetime(2024, 6, 29, 12, 0, tzinfo=dt.UTC) - OPEN) / MINUTE)
    morning.at(at)
    assert morning.session.snapshot().session_date == dt.date(2024, 7, 1)
    morning.stream.past = bars("XBT", range(at - 5, at))
    morning.live.add_symbol("XBT")
    assert morning.session.snapshot().session_date == saturday
    assert morning.session.get_symbol_data("XBT").session_volume == 25.0
    instants = [morning.session.snapshot().as_of]
    for minute in range(at, at + 3 * 1440, 240):
        morning.at(minute)
        instants.append(morning.session.snapshot().as_of)
    assert instants == sorted(instants)
    assert morning.session.snapshot().session_date == dt.date(2024, 7, 2)


@pytest.mark.parametrize("cut", [400, 700])
def test_symbol_added_to_a_replay_ends_with_the_tables_of_a_load(tmp_path, cut: int) -> None:
    stamps = [m for m in range(BEGIN, MIDNIGHT) if m % 7]
    bars("XBT", stamps).write_parquet(tmp_path / "XBT_1m.parquet")
    bars("A", [m for m in range(CLOSE) if m % 5]).write_parquet(tmp_path / "A_1m.parquet")
    config = SessionConfig.of({
        "session": {"calendars": {"X*": "24/7", "*": "XNYS"}, "symbols": ["A"], "start": str(DAY), "end": str(DAY)},
        "source": {"paths": [str(tmp_path)], "read": {"symbols": ["A", "XBT"]}},
        "derive": ["1h"],
    })  # fmt: skip
    replay = ReplaySession(config)
    replay.load()
    replay.coordinator.advance(OPEN + cut * MINUTE)
    replay.coordinator.add_symbol("XBT")
    replay.coordinator.advance(OPEN + MIDNIGHT * MINUTE)
    replay.coordinator.finish()
    whole = engine.load(tmp_path, {"X*": "24/7", "*": "XNYS"}, derive=["1h"])
    for name in ("bars", "gaps", "quality"):
        order = ["symbol", "interval", *(["ts"] if name == "bars" else ["session"])]
        ours, theirs = (getattr(one, name)().sort(order, maintain_order=True) for one in (replay.session, whole))
        assert ours.equals(theirs), name
    for symbol in ("A", "XBT"):
        ours, theirs = (one.get_symbol_data(symbol) for one in (replay.session, whole))
        assert ours.session_volume == theirs.session_volume > 0
