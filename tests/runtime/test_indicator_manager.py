"""Indicators of a running session: after any sequence of rows, they equal one pass over all bars."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from engine.derive.indicator_passes import indicators
from engine.derive.indicators import Indicator, custom
from engine.derive.session_baseline import session_baseline
from engine.errors import ParameterError, SchemaError
from engine.runtime import histories, indicator_manager
from engine.runtime.config import SessionConfig
from engine.runtime.deployments import ReplaySession
from engine.runtime.indicator_manager import IndicatorManager
from engine.runtime.processor import DataProcessor, derive_session
from engine.schema import BARS
from engine.store import change_log
from engine.store.panel_key import PanelKey
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.runtime.test_incremental import WORLDS, Edit, World, edits, register

MOVED = custom("moved", pl.col("close") - pl.col("open").shift(2), lookback=2)
HIGHEST = custom("highest", pl.col("high").cum_max())
OF_SESSION = custom("of_session", pl.col("low").cum_min(), within="session")
BOUNDED = ("sma(3)", "sma(2, of=volume)", "ema(3)", "rsi(2)", "atr(2)", "session_vwap",
           "relative_volume(1)", "relative_volume(2)", MOVED)  # fmt: skip
EVERYTHING = (*BOUNDED, HIGHEST, OF_SESSION)
CASES = [*((name, BOUNDED) for name in WORLDS), ("equities", EVERYTHING)]
EXACT = ("ema", "rsi", "atr", "session_vwap", "moved", "highest", "of_session")
OPEN = dt.datetime(2024, 6, 27, 13, 30, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
SIDES = {"ticks": "last", "quotes": "bid"}


def with_indicators(world: World, *wanted: Hashable) -> World:
    coarse = (("sma(2)", world.derived[-1]), ("relative_volume(1)", world.derived[-1]), ("ema(2)", world.derived[0]))
    middle = "5m" if "5m" in world.derived else world.derived[0]
    about = {
        **dict(world.about),
        "indicators": (*((one, world.base) for one in wanted), *((one, middle) for one in wanted), *coarse),
        "history_sessions": 2,
        "price_type": SIDES.get(world.base_from, "last"),
    }
    return replace(world, about=tuple(about.items()))


@pytest.mark.parametrize(("name", "wanted"), CASES, ids=[f"{name}-{len(wanted)}" for name, wanted in CASES])
@given(data=st.data())
@settings(max_examples=8)
def test_step_after_any_edits_equals_a_pass_over_a_rebuild(name: str, wanted: tuple, data: st.DataObject) -> None:
    world = with_indicators(WORLDS[name], *wanted)
    check(world, data.draw(edits(world)), data.draw(st.sets(st.integers(0, 7))))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wanted"), CASES, ids=[f"{name}-{len(wanted)}" for name, wanted in CASES])
@given(data=st.data())
@settings(max_examples=600)
def test_step_after_very_many_edits_equals_a_pass_over_a_rebuild(name: str, wanted: tuple, data: st.DataObject) -> None:
    world = with_indicators(WORLDS[name], *wanted)
    check(world, data.draw(edits(world)), data.draw(st.sets(st.integers(0, 7))))


def check(world: World, story: list[tuple[str, Edit]], unobserved: set[int]) -> None:
    """Steps after each edit (but some), and compares with a pass over a store that sees all the edits and steps once."""
    running = SessionData(as_of=min(world.instants))
    processor, manager = DataProcessor(running), IndicatorManager(running)
    register(running, world, "A")
    for at, (_, one) in enumerate(story):
        one(running)
        if at not in unobserved:
            processor.step()
            manager.step()
    processor.step()
    manager.step()
    rebuilt = SessionData(as_of=min(world.instants))
    register(rebuilt, world, "A")
    for _, one in story:
        one(rebuilt)
    derive_session(rebuilt)
    check_equal(running, rebuilt)


def check_equal(running: SessionData, rebuilt: SessionData) -> None:
    assert running.get_active_symbols() == rebuilt.get_active_symbols()
    for symbol in rebuilt.get_active_symbols():
        ours, there = running.get_symbol_data(symbol), rebuilt.get_symbol_data(symbol)
        for interval in (there.base_interval, *there.derived_intervals):
            check_values(ours.indicator_values(interval), expected(there, interval))
        assert ours.historical_indicators == expected_history(there)


def check_values(got: pl.DataFrame, want: pl.DataFrame) -> None:
    """Windows within 1e-12 of what they average; all else to the bit."""
    if got.width == 2:  # nothing of the symbol was ever there
        assert want.height == 0 or want.width == 2
        return
    want = want.select(got.columns)
    near = [name for name in got.columns if name not in ("ts", "session") and not name.startswith(EXACT)]
    assert_frame_equal(got.drop(near), want.drop(near), check_exact=True)
    assert_frame_equal(got.select(near), want.select(near), rel_tol=1e-12, abs_tol=0)


def in_slots(data: SymbolSessionData, interval: str) -> pl.DataFrame:
    snapshot = data._snapshot
    rows = snapshot.rows_of(data.key_of(interval), snapshot.series_of([data.symbol], [data.price_type]))
    return rows.filter(pl.col("slot").is_not_null())


def expected(data: SymbolSessionData, interval: str) -> pl.DataFrame:
    wanted = {str(Indicator.parse(one)): one for one, at in data.indicators if at == interval}
    rows = in_slots(data, interval)
    made = indicators(rows, list(wanted.values()))
    return made.select("ts", "session", *(name for name in made.columns if name not in rows.columns))


def expected_history(data: SymbolSessionData) -> dict[str, dict[str, object]]:
    today = data._snapshot.current_session
    found = {}
    for interval in (data.base_interval, *data.derived_intervals) if today else ():
        rows = session_baseline(in_slots(data, interval), today, data.history_sessions or histories.ALL_SESSIONS)
        if rows.height:
            found[interval] = rows.drop("series").row(0, named=True)
    return found


def session_of(*symbols: SymbolSessionData, as_of: dt.datetime = OPEN, **about: object) -> SessionData:
    session = SessionData(as_of=as_of, **about)
    session.register_symbol_data(*symbols)
    return session


def minutes(symbol: str, start: dt.datetime, count: int, price: float = 10.0, volume: float = 7.0) -> pl.DataFrame:
    close = [price + at * at % 11 / 7 for at in range(count)]
    frame = pl.DataFrame({"ts": [start + at * MINUTE for at in range(count)], "close": close}).with_columns(
        symbol=pl.lit(symbol), price_type=pl.lit("last"), open=pl.col("close") - 0.1, high=pl.col("close") + 0.3,
        low=pl.col("close") - 0.2, volume=volume + pl.int_range(pl.len()) % 5,
    )  # fmt: skip
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in BARS.items() if name not in frame.columns]
    return frame.with_columns(absent).select(pl.col(name).cast(dtype) for name, dtype in BARS.items())


class Stepping:
    """A session whose bars come minute by minute, and what its kernels are given meanwhile."""

    def __init__(self, session: SessionData, monkeypatch: pytest.MonkeyPatch) -> None:
        self.session, self.processor, self.manager = session, DataProcessor(session), IndicatorManager(session)
        kernels = {
            **dict.fromkeys(("begin", "extend", "slot_baseline"), indicator_manager),
            "session_summaries": histories,
        }
        self.given: dict[str, list[pl.DataFrame]] = {name: [] for name in kernels}
        for name, module in kernels.items():
            monkeypatch.setattr(module, name, self._recorded(name, getattr(module, name)))

    def _recorded(self, name: str, kernel: Callable[..., pl.DataFrame]) -> Callable[..., pl.DataFrame]:
        def call(bars: pl.DataFrame, *rest: object) -> pl.DataFrame:
            self.given[name].append(bars)
            return kernel(bars, *rest)

        return call

    def take(self, rows: pl.DataFrame, at: dt.datetime | None = None) -> int:
        """Append rows and step, at the end of the last of them or at another time."""
        self.session.append(rows, "bars", "1m")
        return self.at(at or rows["ts"].max() + MINUTE)

    def at(self, now: dt.datetime) -> int:
        self.session.set_as_of(now)
        for calls in self.given.values():
            calls.clear()
        self.processor.step()
        return self.manager.step()

    def check(self) -> None:
        for symbol in self.session.get_active_symbols():
            data = self.session.get_symbol_data(symbol)
            for interval in (data.base_interval, *data.derived_intervals):
                check_values(data.indicator_values(interval), expected(data, interval))


def test_step_on_a_bar_in_time_computes_no_more_than_windows_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (("sma(5)", "1m"), ("rsi(3)", "1m"), ("session_vwap", "1m"))
    running = Stepping(session_of(*(SymbolSessionData(one, indicators=wanted) for one in "AB")), monkeypatch)
    running.take(pl.concat([minutes("A", OPEN, 60), minutes("B", OPEN, 60, 20.0)]))
    for at in range(60, 70):
        written = running.take(pl.concat([minutes(one, OPEN + at * MINUTE, 1, 30.0 + at) for one in "AB"]))
        assert written == 2
        assert running.given["begin"] == []
        assert [bars.height for bars in running.given["extend"]] == [2 * (4 + 1)]
    running.check()


def test_step_on_a_correction_computes_its_series_whole_and_stores_what_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = (("sma(5)", "1m"), ("ema(3)", "1m"))
    running = Stepping(session_of(*(SymbolSessionData(one, indicators=wanted) for one in "AB")), monkeypatch)
    running.take(pl.concat([minutes("A", OPEN, 60), minutes("B", OPEN, 60, 20.0)]))
    before = running.session.revision
    assert running.take(minutes("A", OPEN + 50 * MINUTE, 1, 99.0), OPEN + 60 * MINUTE) == 10
    assert [bars.height for bars in running.given["begin"]] == [60]
    running.check()
    changes = running.session.changes(before).filter(pl.col("kind") == "indicators")
    assert changes.select("symbol", "first_ts").rows() == [("A", OPEN + 50 * MINUTE)]


def test_step_on_a_repeated_bar_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Stepping(session_of(SymbolSessionData("A", indicators=(("ema(3)", "1m"),))), monkeypatch)
    running.take(minutes("A", OPEN, 9))
    revision = running.session.revision
    assert running.take(minutes("A", OPEN, 9)) == 0
    assert running.session.snapshot().panels
    assert running.session.changes(revision).filter(pl.col("kind") == "indicators").is_empty()


def test_step_on_a_bar_in_progress_computes_it_again_from_the_last_one_that_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = SymbolSessionData("A", derived_intervals=("5m",), indicators=(("ema(2)", "5m"), ("sma(2)", "5m")))
    running = Stepping(session_of(data), monkeypatch)
    running.take(minutes("A", OPEN, 20))
    seen = []
    for at in range(20, 29):
        assert running.take(minutes("A", OPEN + at * MINUTE, 1, 30.0 + at)) == 1
        assert running.given["begin"] == []
        seen.append(running.session.get_symbol_data("A").indicator_values("5m")["ema_2"][-1])
        running.check()
    assert len(set(seen)) == 9


def test_step_reads_what_is_usual_once_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Stepping(session_of(SymbolSessionData("A", indicators=(("relative_volume(2)", "1m"),))), monkeypatch)
    read = []
    for day, volume in ((0, 7.0), (1, 9.0), (4, 8.0)):
        running.take(minutes("A", OPEN + dt.timedelta(days=day), 30, volume=volume))
        read.append(len(running.given["slot_baseline"]))
    for at in range(30, 35):
        running.take(minutes("A", OPEN + dt.timedelta(days=4, minutes=at), 1))
        assert running.given["begin"] == []
        read.append(len(running.given["slot_baseline"]))
    assert read == [0, 1, 1, 0, 0, 0, 0, 0]
    running.check()
    correction = minutes("A", OPEN + dt.timedelta(days=1, minutes=35), 1, volume=99.0)
    running.take(correction, OPEN + dt.timedelta(days=4, minutes=35))
    running.take(minutes("A", OPEN + dt.timedelta(days=4, minutes=35), 1))
    assert len(running.given["slot_baseline"]) == 1
    running.check()
    assert running.session.get_symbol_data("A").indicator_values()["relative_volume_2"][-1] == 7 / 99


def test_step_on_bars_of_two_sessions_holds_each_against_what_was_usual_then(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Stepping(session_of(SymbolSessionData("A", indicators=(("relative_volume(1)", "1m"),))), monkeypatch)
    running.take(minutes("A", OPEN, 30, volume=7.0))
    running.take(minutes("A", OPEN + dt.timedelta(days=1), 10, volume=50.0))
    rest = minutes("A", OPEN + dt.timedelta(days=1, minutes=10), 15, volume=90.0)
    running.take(pl.concat([rest, minutes("A", OPEN + dt.timedelta(days=4), 30, volume=20.0)]))
    running.check()


def test_step_of_symbols_without_indicators_summarises_each_session_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Stepping(session_of(SymbolSessionData("A", derived_intervals=("5m",))), monkeypatch)
    for day in range(3):
        running.session.set_session(OPEN.date() + dt.timedelta(days=(0, 1, 4)[day]), active=True)
        running.take(
            minutes("A", OPEN + dt.timedelta(days=(0, 1, 4)[day]), 30, 10.0 + day), OPEN + dt.timedelta(days=5)
        )
    read = [bars["session"].unique().to_list() for bars in running.given["session_summaries"] if bars.height]
    assert read == [[OPEN.date() + dt.timedelta(days=1)]] * 2  # at 1m and 5m, what was over since the step before
    data = running.session.get_symbol_data("A")
    assert data.indicator_values().columns == ["ts", "session"]
    assert data.historical_indicators == expected_history(data)
    assert data.historical_indicators["1m"]["sessions"] == 2


def test_remove_symbol_takes_its_values_and_history_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (("sma(5)", "1m"),)
    running = Stepping(session_of(*(SymbolSessionData(one, indicators=wanted) for one in "AB")), monkeypatch)
    running.session.set_session(OPEN.date() + dt.timedelta(days=1), active=True)
    running.take(pl.concat([minutes("A", OPEN, 20), minutes("B", OPEN, 20)]))
    held = running.session.get_symbol_data("A")
    running.session.remove_symbol("A")
    running.at(OPEN + 21 * MINUTE)
    snapshot = running.session.snapshot()
    assert [one.height for one in snapshot.indicators.values()] == [20]
    assert [one.height for one in snapshot.trailing.values()] == [1]
    assert held.indicator_values().height == 20
    assert held.historical_indicators["1m"]["sessions"] == 1


def test_register_with_other_indicators_forgets_former_values(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Stepping(session_of(SymbolSessionData("A", indicators=(("sma(5)", "1m"),))), monkeypatch)
    running.take(minutes("A", OPEN, 20))
    for wanted in ("ema(3)", "sma(5)"):
        running.session.register_symbol_data(SymbolSessionData("A", indicators=((wanted, "1m"),)))
        running.at(OPEN + 20 * MINUTE)
        running.check()
        assert sum(one.height for one in running.session.snapshot().indicators.values()) == 20


def test_register_with_another_meaning_of_a_name_computes_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Stepping(
        session_of(SymbolSessionData("A", indicators=((custom("own", pl.col("high")), "1m"),))), monkeypatch
    )
    running.take(minutes("A", OPEN, 20))
    other = custom("own", pl.col("close") > pl.col("open"))
    running.session.register_symbol_data(SymbolSessionData("A", indicators=((other, "1m"),)))
    running.at(OPEN + 20 * MINUTE)
    assert running.session.get_symbol_data("A").indicator_values()["own"].to_list() == [True] * 20


@pytest.mark.parametrize(
    ("wanted", "error", "says"),
    [
        (("smaa(3)",), ParameterError, r"did you mean sma\(20\)"),
        ((custom("own", pl.col("high")), custom("own2", pl.col("n_base"))), SchemaError, "read n_base"),
        ((custom("sma_3", pl.col("high")), "sma(3)"), ParameterError, "two definitions are called sma_3"),
        ((custom("revision", pl.col("high")),), ParameterError, "revision"),
    ],
)  # fmt: skip
def test_step_with_a_definition_that_does_not_fit_is_refused(
    wanted: tuple[Hashable, ...], error: type[Exception], says: str
) -> None:
    session = session_of(SymbolSessionData("A", indicators=tuple((one, "1m") for one in wanted)))
    session.append(minutes("A", OPEN, 3), "bars", "1m")
    with pytest.raises(error, match=says):
        IndicatorManager(session).step()


def test_step_with_an_indicator_of_an_interval_that_is_not_there_is_refused() -> None:
    session = session_of(SymbolSessionData("A", derived_intervals=("5m",), indicators=(("sma(3)", "15m"),)))
    session.append(minutes("A", OPEN, 3), "bars", "1m")
    with pytest.raises(ParameterError, match=r"A asks for sma\(3\) at 15m; valid: 1m, 5m"):
        IndicatorManager(session).step()


def test_configuration_with_an_indicator_that_means_nothing_is_refused() -> None:
    content = {"session": {"calendar": "XNYS"}, "source": {"paths": ["."]}, "indicators": [{"use": "smaa(3)"}]}
    with pytest.raises(ParameterError, match=r"indicators.0.use: .*did you mean sma\(20\)"):
        SessionConfig.of(content)


def test_step_with_two_meanings_of_a_name_in_two_symbols_is_refused() -> None:
    mine, its = custom("own", pl.col("high")), custom("own", pl.col("low"))
    session = session_of(*(SymbolSessionData(n, indicators=((one, "1m"),)) for n, one in (("A", mine), ("B", its))))
    with pytest.raises(ParameterError, match="two definitions are called own"):
        IndicatorManager(session).step()


def test_step_after_the_log_was_cut_computes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Stepping(session_of(SymbolSessionData("A", indicators=(("ema(3)", "1m"),))), monkeypatch)
    running.take(minutes("A", OPEN, 20))
    monkeypatch.setattr(change_log, "RECENT_LOG_ROWS", 1)
    monkeypatch.setattr(change_log, "LOG_ROWS", 2)
    for day in (1, 4, 5, 6, 7, 8):
        running.session.append(minutes("A", OPEN + dt.timedelta(days=day), 3), "bars", "1m")
    assert running.session.snapshot().change_log.start_revision > 0
    running.at(OPEN + dt.timedelta(days=9))
    assert len(running.given["begin"]) == 1
    running.check()


@pytest.mark.parametrize("within", [True, False])
def test_step_after_one_that_was_undone_computes_its_bars_again(within: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (("ema(3)", "1m"), ("ema(3)", "5m"))
    data = SymbolSessionData("A", derived_intervals=("5m",), indicators=wanted)
    running = Stepping(session_of(data), monkeypatch)
    rows = minutes("A", OPEN, 30)
    running.take(rows[:20])
    write, failing = SessionData.set_indicators, within

    def fail(session: SessionData, key: PanelKey, *rest: object) -> int:
        if failing and str(key.interval) == "5m":
            raise ZeroDivisionError
        return write(session, key, *rest)

    def undone() -> None:
        with running.session.transaction():
            running.take(rows[20:25])
            raise ZeroDivisionError

    monkeypatch.setattr(SessionData, "set_indicators", fail)
    with pytest.raises(ZeroDivisionError):
        undone()
    failing = False
    assert running.session.bars(interval="1m").height == 20
    running.take(rows[25:])
    running.check()
    running.take(rows[20:25], OPEN + 30 * MINUTE)
    running.check()


def test_step_leaves_out_windows_that_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    data = SymbolSessionData("A", derived_intervals=("5m",), indicators=(("sma(2)", "5m"),))
    running = Stepping(session_of(data, incomplete="drop"), monkeypatch)
    rows = minutes("A", OPEN, 20)
    running.take(rows.filter(pl.col("ts") != OPEN + 7 * MINUTE))
    assert running.session.get_symbol_data("A").indicator_values("5m")["ts"].to_list() == [
        OPEN, OPEN + 10 * MINUTE, OPEN + 15 * MINUTE,
    ]  # fmt: skip
    running.take(rows.filter(pl.col("ts") == OPEN + 7 * MINUTE), OPEN + 20 * MINUTE)
    running.check()


def test_history_holds_nothing_of_the_current_session_or_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    data = SymbolSessionData("A", derived_intervals=("5m", "1d"), history_sessions=2)
    running = Stepping(session_of(data), monkeypatch)
    for day in (0, 1, 4):
        running.session.append(minutes("A", OPEN + dt.timedelta(days=day), 30, 10.0 + day), "bars", "1m")
    today = OPEN.date() + dt.timedelta(days=4)
    running.session.set_session(today, active=True)
    running.at(OPEN + dt.timedelta(days=4))
    clean = running.session.get_symbol_data("A").historical_indicators
    assert [(one["sessions"], one["last_session"], one["high_52w"]) for one in clean.values()] == [
        (2, dt.date(2024, 6, 28), 11 + 9 / 7 + 0.3)
    ] * 3
    poison = [minutes("A", OPEN + dt.timedelta(days=day), 40, 9_999.0) for day in (4, 5, 6)]
    running.take(pl.concat(poison), OPEN + dt.timedelta(days=4, minutes=40))
    assert running.given["session_summaries"] == []
    assert running.session.get_symbol_data("A").historical_indicators == clean


def test_history_follows_the_current_session_and_corrections_of_former_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Stepping(session_of(*(SymbolSessionData(one, history_sessions=2) for one in "AB")), monkeypatch)
    for one in "AB":
        for day in (0, 1, 4):
            running.session.append(minutes(one, OPEN + dt.timedelta(days=day), 30, 10.0 + day), "bars", "1m")
    highs = {}
    for day in (1, 4, 5):
        running.session.set_session(OPEN.date() + dt.timedelta(days=day), active=True)
        stale = running.session.get_symbol_data("A").historical_indicators
        assert stale == {}
        running.at(OPEN + dt.timedelta(days=day))
        highs[day] = running.session.get_symbol_data("A").historical_indicators["1m"]["high"]
    assert highs == {1: 10 + 9 / 7 + 0.3, 4: 11 + 9 / 7 + 0.3, 5: 14 + 9 / 7 + 0.3}
    running.take(minutes("A", OPEN + dt.timedelta(days=1), 1, 50.0), OPEN + dt.timedelta(days=5))
    assert [bars["series"].n_unique() for bars in running.given["session_summaries"]] == [1]
    found = {one: running.session.get_symbol_data(one).historical_indicators["1m"]["high"] for one in "AB"}
    assert found == {"A": 50.3, "B": highs[5]}
    assert running.session.get_symbol_data("A").historical_indicators == expected_history(
        running.session.get_symbol_data("A")
    )
    running.session.set_session(None, active=False)
    running.at(OPEN + dt.timedelta(days=6))
    left = running.session.get_symbol_data("A")
    assert left._snapshot.current_session == OPEN.date() + dt.timedelta(days=4)  # the last with a bar
    assert left.historical_indicators == expected_history(left) != {}


@pytest.mark.parametrize("until", [12, 33])
def test_values_do_not_depend_on_later_bars(until: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tuple((one, "1m") for one in EVERYTHING)
    rows = minutes("A", OPEN, 40)
    later = pl.col("ts") >= OPEN + until * MINUTE
    poisoned = rows.with_columns(
        pl.when(later).then(pl.col(n) * 77).otherwise(pl.col(n)) for n in ("open", "high", "low", "close", "volume")
    )
    found = []
    for sent in (rows, poisoned):
        running = Stepping(session_of(SymbolSessionData("A", indicators=wanted)), monkeypatch)
        for at in range(0, 40, 4):
            running.take(sent[at : at + 4])
        found.append(running.session.get_symbol_data("A").indicator_values())
    assert not found[0].equals(found[1])
    assert_frame_equal(found[0][:until], found[1][:until], check_exact=True)


def test_replay_shows_indicators_as_they_were_whatever_comes_later(tmp_path: Path) -> None:
    days = [OPEN + dt.timedelta(days=day) for day in (0, 1, 4)]
    now = days[1] + 20 * MINUTE
    clean = [minutes("A", day, 390, 10.0 + at) for at, day in enumerate(days)]
    poisoned = [
        rows.with_columns(
            pl.when(pl.col("ts") < now).then(pl.col(n)).otherwise(pl.col(n) + 500)
            for n in ("open", "high", "low", "close")
        )
        for rows in clean
    ]
    found = []
    for name, rows in (("clean", clean), ("poisoned", poisoned)):
        (tmp_path / name).mkdir()
        pl.concat(rows).select("ts", "open", "high", "low", "close", "volume").write_csv(tmp_path / name / "A.csv")
        replay = ReplaySession(SessionConfig.of(configured(tmp_path / name)))
        replay.load()
        replay.coordinator.advance(now)
        data = replay.session.get_symbol_data("A")
        check_values(data.indicator_values("5m"), expected(data, "5m"))
        found.append((data.indicator_values(), data.indicator_values("5m"), data.historical_indicators))
        replay.coordinator.advance(days[2] + 20 * MINUTE)
        replay.coordinator.finish()
        whole = replay.session.get_symbol_data("A")
        check_values(whole.indicator_values(), expected(whole, "1m"))
        found.append((whole.indicator_values(), whole.indicator_values("5m"), whole.historical_indicators))
    early, late, early_poisoned, late_poisoned = found
    for mine, its in zip(early[:2], early_poisoned[:2], strict=True):
        assert_frame_equal(mine, its, check_exact=True)
    assert early[2] == early_poisoned[2]
    assert early[2]["1m"]["last_session"] == OPEN.date()
    assert early[0]["ts"][-1] == now - MINUTE
    assert not late[0].equals(late_poisoned[0])


def configured(folder: Path) -> dict[str, object]:
    return {
        "session": {"calendar": "XNYS", "symbols": ["A"], "start": "2024-06-28", "end": "2024-07-01"},
        "source": {"paths": [str(folder)], "read": {"timezone": "UTC", "interval": "1m"}},
        "history": [{"sessions": 5}],
        "indicators": [
            {"use": "ema(3)", "intervals": ["1m", "5m"]},
            {"use": "relative_volume(1)", "intervals": ["1m", "5m"]},
            {"use": "sma(4)"},
        ],
    }


def test_roll_to_the_next_session_shows_its_history_at_once(tmp_path: Path) -> None:
    days = [OPEN, OPEN + dt.timedelta(days=1), OPEN + dt.timedelta(days=4)]
    rows = pl.concat([minutes("A", day, 390, 10.0 + at) for at, day in enumerate(days)])
    rows.select("ts", "open", "high", "low", "close", "volume").write_csv(tmp_path / "A.csv")
    replay = ReplaySession(SessionConfig.of(configured(tmp_path)))
    replay.load()
    replay.coordinator.advance(days[1] + 390 * MINUTE)
    assert replay.session.snapshot().session_date == days[2].date()
    history = replay.session.get_symbol_data("A").historical_indicators
    assert (history["1m"]["sessions"], history["1m"]["last_session"]) == (2, days[1].date())


def test_history_that_was_not_asked_for_meanwhile_knows_what_was_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Stepping(session_of(SymbolSessionData("A", history_sessions=2)), monkeypatch)
    for day in (0, 1):
        running.session.append(minutes("A", OPEN + dt.timedelta(days=day), 30, 10.0 + day), "bars", "1m")
    running.session.set_session(OPEN.date() + dt.timedelta(days=4), active=True)
    running.at(OPEN + dt.timedelta(days=4))
    running.session.register_symbol_data(SymbolSessionData("A", history_sessions=0))
    running.at(OPEN + dt.timedelta(days=4))
    running.take(minutes("A", OPEN + dt.timedelta(days=1), 1, 50.0), OPEN + dt.timedelta(days=4))
    running.session.register_symbol_data(SymbolSessionData("A", history_sessions=2))
    running.at(OPEN + dt.timedelta(days=4))
    assert running.session.get_symbol_data("A").historical_indicators["1m"]["high"] == 50.0 + 0.3
