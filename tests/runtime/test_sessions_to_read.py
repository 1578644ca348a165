"""A session that goes on from a long export holds as many sessions as its indicators depend on, and their values stay."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import engine
import numpy as np
import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.clock import ManualClock
from engine.derive.indicators import Indicator, custom
from engine.interval import Interval
from engine.runtime.config import SessionConfig
from engine.runtime.live import LiveSession
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.runtime.resume import Continuation, SessionsToRead
from engine.runtime.run import export_session
from engine.runtime.sessions_to_read import needs_of, sessions_to_read, whole_periods
from engine.sources.streams.contract import Delivery
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

from tests.law.restart_world import BAR, FIVE, Feed, Sent, World, are_close, bars

FIRST, MONDAY, TUESDAY = dt.date(2024, 3, 4), dt.date(2024, 4, 1), dt.date(2024, 4, 2)
USED = ("ema(20)", "sma(20)", "rsi(3)", "atr(4)", "bollinger(10, 2)", "session_vwap", "relative_volume(3)")


@pytest.fixture(scope="module")
def world() -> World:
    """Bars of 21 sessions of a full and a thinner symbol, as the feed sends them and the history has them."""
    rng, made = np.random.default_rng(5), World(0)
    segments = calendar("XNYS").segments(FIRST, TUESDAY).filter(pl.col("segment") == "RTH")
    made.spans = list(segments.select("segment_open", "segment_close").iter_rows())
    for begin, end in made.spans:
        for number in range((end - begin) // BAR):
            for symbol in "AB":
                if symbol == "A" or rng.random() < 0.7:
                    ts, close = begin + number * BAR, round(100 + float(rng.random()), 3)
                    made.sent.append(Sent(ts + BAR, ((symbol, ts, close),)))
                    made.versions[symbol, ts] = [(ts + BAR, close)]
    return made


def stored(world: World, until: dt.datetime) -> SessionData:
    """A store without indicators of all bars that begin before an instant."""
    session = SessionData()
    session.register_symbol_data(*(SymbolSessionData(symbol, "XNYS", "5m", ("15m",)) for symbol in "AB"))
    rows = [(*key, versions[-1][1]) for key, versions in world.versions.items() if key[1] < until]
    session.append([bars(rows)], interval="5m")
    session.set_as_of(until)
    derive_session(session)
    assess_session(session)
    return session


@pytest.fixture(scope="module")
def target(world, tmp_path_factory) -> Path:
    """Export of the sessions up to Monday's."""
    folder = tmp_path_factory.mktemp("held") / "out"
    export_session(stored(world, world.spans[-2][1]), folder, ManualClock(world.spans[-2][1]))
    return folder


@pytest.fixture(scope="module")
def live(world, target) -> Iterator[LiveSession]:
    """A session that was started on Tuesday morning and ran to the close."""
    clock = ManualClock(world.spans[-1][0] - 2 * BAR)
    config = SessionConfig.of(
        {
            "session": {"calendar": "XNYS", "mode": "live", "symbols": ["A", "B"]},
            "source": {"kind": "alpaca"},
            "streams": {"bars": "5m"},
            "derive": ["15m"],
            "indicators": [*({"use": one} for one in USED), {"use": "sma(4)", "intervals": ["15m"]}],
            "live": {"grace_seconds": 0},
            "gaps": {"fill": False},
            "export": {"target": str(target), "every_seconds": 0},
        }
    )
    session = LiveSession(config, Feed(world, clock), clock, fetch_aside=False)
    session.start()
    for at in (world.spans[-1][0] + 30 * BAR, world.spans[-1][1]):
        clock.set(at)
        session.step()
    yield session
    session.close()


def values_of_all_bars(session: SessionData, symbol: str, interval: str) -> pl.DataFrame:
    """Indicators of a pass over all bars of a symbol."""
    one = session.get_symbol_data(symbol)
    grid = session.snapshot().grid(one.spec, Interval.parse(interval))
    rows = one.bars(interval)
    placed = rows.hstack(grid.place(rows["ts"]).select("ordinal", "slot"))
    used = USED if interval == "5m" else ("sma(4)",)
    values = engine.indicators(placed, [*used])
    return values.drop(set(placed.columns) - {"session", "ts"}).sort("ts")


@pytest.mark.parametrize(("symbol", "interval"), [("A", "5m"), ("A", "15m"), ("B", "5m"), ("B", "15m")])
def test_values_of_indicators_after_a_start_equal_those_of_all_bars(live, world, symbol, interval) -> None:
    state = live.session.snapshot()
    assert FIRST < state.held_from < state.indicators_from <= MONDAY
    held = live.session.get_symbol_data(symbol).indicator_values(interval)
    assert held["session"].unique().sort().to_list() == [MONDAY, TUESDAY]
    right = values_of_all_bars(stored(world, world.spans[-1][1]), symbol, interval)
    right = right.filter(pl.col("session") >= MONDAY).select(held.columns)
    assert are_close(held, right)
    assert not any(held[name].is_null().all() for name in held.columns)


def test_a_late_row_of_an_earlier_session_has_values_stored_from_there_on(live, world) -> None:
    ts, day = world.spans[8][0] + 5 * BAR, dt.date(2024, 3, 14)
    world.versions["A", ts] = [(ts + BAR, 100.5)]
    live.coordinator.take_in([Delivery("bars", (bars([("A", ts, 100.5)]),), FIVE)])
    whole = stored(world, world.spans[-1][1])
    for symbol in "AB":
        held = live.session.get_symbol_data(symbol).indicator_values("5m").filter(pl.col("session") >= day)
        right = values_of_all_bars(whole, symbol, "5m").filter(pl.col("session") >= day)
        assert are_close(held, right.select(held.columns))


@pytest.mark.parametrize(
    ("indicator", "held"),
    [
        (custom("wick", pl.col("high") - pl.col("low")), SessionsToRead(FIRST)),  # of unknown look-back
        (custom("last", pl.col("close").shift(1), lookback=1), SessionsToRead(MONDAY, TUESDAY)),
        (custom("so_far", pl.col("high").cum_max(), within="session"), SessionsToRead(TUESDAY, TUESDAY)),
        ("sma(79)", SessionsToRead(MONDAY, TUESDAY)),  # 78 bars before, those of a session
        ("sma(80)", SessionsToRead(dt.date(2024, 3, 28), TUESDAY)),  # 29 March 2024 is Good Friday
        ("relative_volume(2)", SessionsToRead(dt.date(2024, 3, 28), TUESDAY)),
        ("sma(100000)", SessionsToRead(FIRST)),
    ],
    ids=str,
)
def test_sessions_to_read_are_those_that_the_indicator_depends_on(target, indicator, held) -> None:
    past = Continuation.of(target)
    symbol = SymbolSessionData("A", "XNYS", "5m", indicators=((indicator, "5m"),))
    assert sessions_to_read(past, SessionData(), [symbol], TUESDAY) == held


def test_needs_of_an_average_forget_what_is_below_the_last_bit() -> None:
    average = needs_of(Indicator.parse("ema(9)"))[-1]
    left = 0.8 ** (average.bars - 9 - 1)
    assert left < 1e-16 < left / 0.8


@pytest.mark.parametrize(
    ("derived", "first"),
    [(("1w",), "2024-05-06"), (("1mo",), "2024-05-01"), (("1d", "1w", "1mo"), "2024-04-01"), (("5m",), "2024-05-07")],
)
def test_whole_periods_go_on_over_weeks_that_lie_in_two_months(derived: tuple[str, ...], first: str) -> None:
    # 1 May 2024 is a Wednesday, 1 April a Monday.
    symbols = [SymbolSessionData("A", "XNYS", derived_intervals=derived)]
    assert str(whole_periods(SessionData(), symbols, dt.date(2024, 5, 7))) == first
