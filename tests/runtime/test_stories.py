"""The stories of the plan's third part, and what readers are promised: nobody is told, everybody knows."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.errors import ParameterError
from engine.runtime.deployments import ReplaySession
from engine.runtime.options import CalendarMap
from engine.runtime.processor import DataProcessor
from engine.runtime.quality_manager import DataQualityManager
from engine.schema import BARS
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.symbol_data import SymbolSessionData

from tests.runtime.feeds import (
    DAYS,
    HOUR,
    MINUTE,
    File,
    assert_same_tables,
    bars,
    closes,
    configured,
    minutes,
    opens,
    shown,
    write,
)

FIRST, SECOND = DAYS[1], DAYS[2]
NOON = opens(FIRST) + 3 * HOUR


class Running:
    """A store with the two components that follow it; none of them is ever told of a symbol."""

    def __init__(self) -> None:
        self.session = SessionData()
        self.processor = DataProcessor(self.session)
        self.quality = DataQualityManager(self.session)

    def step(self) -> None:
        self.processor.step()
        self.quality.step()

    def add(self, symbol: str) -> None:
        self.session.register_symbol_data(SymbolSessionData(symbol, derived_intervals=("5m", "15m")))

    def append(self, symbol: str, which: range, price: float = 10.0) -> None:
        self.session.append(rows(symbol, which, price), interval="1m")


def rows(symbol: str, which: range, price: float = 10.0) -> pl.DataFrame:
    found = bars(minutes(FIRST, which), price).with_columns(
        pl.lit(symbol).alias("symbol"), pl.lit("last").alias("price_type")
    )
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in BARS.items() if name not in found.columns]
    return found.with_columns(absent).select(pl.col(name).cast(dtype) for name, dtype in BARS.items())


@pytest.fixture
def running() -> Running:
    return Running()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    feed = [File(f"{symbol}_1m.csv", bars([*minutes(FIRST), *minutes(SECOND)], price))
            for symbol, price in (("AAA", 10.0), ("BBB", 20.0), ("CCC", 30.0))]  # fmt: skip
    return write(feed, tmp_path / "files")


@pytest.fixture
def replay(files: Path) -> ReplaySession:
    """Of two of the three symbols, to be stepped by hand."""
    replay = ReplaySession(configured(files))
    replay.coordinator.load(["AAA", "BBB"], FIRST, SECOND)
    return replay


# 3.1 Simplified add-symbol flow


def test_add_symbol_flow_is_one_operation_and_all_components_discover_it(running: Running) -> None:
    running.add("AAA")
    running.append("AAA", range(10))
    running.step()
    found = running.session.get_symbol_data("AAA")
    assert found is not None
    assert {interval: frame.height for interval, frame in found.bars_derived.items()} == {"5m": 2, "15m": 1}
    assert {interval: frame["present"].to_list() for interval, frame in found.bar_quality.items()} == {
        "1m": [10], "5m": [2], "15m": [1],
    }  # fmt: skip
    assert found.bar_gaps["1m"]["bar_count"].to_list() == [380]


def test_add_symbol_beside_others_touches_none_of_them(running: Running) -> None:
    running.add("AAA")
    running.append("AAA", range(10))
    running.step()
    before = running.session.revision
    running.add("BBB")
    running.append("BBB", range(4))
    running.step()
    changed = running.session.changes(before)
    assert set(changed["symbol"]) == {"BBB"}
    assert set(changed["kind"]) >= {"bars", "gaps", "quality"}


def test_register_symbol_with_one_more_interval_derives_it_on_the_next_step(running: Running) -> None:
    running.add("AAA")
    running.append("AAA", range(60))
    running.step()
    running.session.register_symbol_data(SymbolSessionData("AAA", derived_intervals=("5m", "15m", "30m")))
    running.step()
    found = running.session.get_symbol_data("AAA")
    assert found is not None
    assert found.bars("30m").height == 2
    assert found.bar_quality["30m"]["present"].to_list() == [2]


# 3.2 Simplified remove-symbol flow


def test_remove_symbol_flow_is_one_operation_and_everything_cascades(running: Running) -> None:
    for symbol in ("AAA", "BBB"):
        running.add(symbol)
        running.append(symbol, range(10))
    running.step()
    assert running.session.remove_symbol("AAA")
    running.step()
    assert running.session.get_symbol_data("AAA") is None
    assert running.session.get_active_symbols() == {"BBB"}
    assert running.session.get_symbols_with_derived() == {"BBB": ["5m", "15m"]}
    tables = shown(running.session.snapshot())
    assert {name for name, rows in tables.items() if "symbol" in rows.columns and "AAA" in rows["symbol"]} == set()


def test_remove_symbol_with_work_still_to_do_is_skipped_by_the_next_step(running: Running) -> None:
    for symbol in ("AAA", "BBB"):
        running.add(symbol)
        running.append(symbol, range(10))
    running.session.remove_symbol("AAA")
    running.step()
    assert set(running.session.bars()["symbol"]) == {"BBB"}
    assert set(running.session.quality()["symbol"]) == {"BBB"}


def test_add_removed_symbol_again_starts_from_nothing(running: Running) -> None:
    running.add("AAA")
    running.append("AAA", range(10), 10.0)
    running.step()
    running.session.remove_symbol("AAA")
    running.add("AAA")
    running.append("AAA", range(5, 8), 50.0)
    running.step()
    fresh = Running()
    fresh.add("AAA")
    fresh.append("AAA", range(5, 8), 50.0)
    fresh.step()
    assert_same_tables(shown(running.session.snapshot()), shown(fresh.session.snapshot()))


# 3.3 Automatic synchronization


def test_automatic_synchronization_added_in_mid_session_is_caught_up_before_it_is_loaded(replay: ReplaySession) -> None:
    coordinator, session = replay.coordinator, replay.session
    coordinator.advance(NOON)
    seen: list[tuple[set[str], int, int]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            now = session.snapshot()
            loaded = {name for name, one in now.symbols.items() if one.is_loaded}
            if "CCC" in now.symbols:
                seen.append((loaded, now.bars("CCC", "1m").height, now.bars("CCC", "5m").height))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        coordinator.add_symbol("CCC")
        session.wait_for_revision(-1)
    finally:
        stop.set()
        reader.join()
    view = session.get_symbol_data("CCC")
    assert view is not None
    assert session.get_loaded_symbols() == {"AAA", "BBB", "CCC"}
    assert (view.bars_base.height, view.bars("5m").height, view.bar_quality["1m"]["present"].to_list()) == (
        180,
        36,
        [180],
    )
    assert all(one == ({"AAA", "BBB", "CCC"}, 180, 36) for one in seen)


def test_automatic_synchronization_pending_holds_a_symbol_only_while_it_is_loaded(
    replay: ReplaySession, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator, stream = replay.coordinator, replay.stream
    coordinator.advance(NOON)
    during: list[tuple[frozenset[str], bool]] = []
    fetch = stream.fetch

    def watched(requests):
        during.append((coordinator.pending, "CCC" in replay.session.get_loaded_symbols()))
        return fetch(requests)

    monkeypatch.setattr(stream, "fetch", watched)
    assert coordinator.pending == frozenset()
    coordinator.add_symbol("CCC")
    assert during == [(frozenset({"CCC"}), False)]
    assert coordinator.pending == frozenset()


def test_automatic_synchronization_added_in_mid_session_ends_as_if_it_had_been_there(
    replay: ReplaySession, files: Path
) -> None:
    replay.coordinator.advance(NOON)
    replay.coordinator.add_symbol("CCC")
    for _ in replay.steps():
        pass
    whole = engine.load(files, "XNYS", derive=["5m", "1h", "1d"])
    assert_same_tables(shown(replay.session.snapshot()), shown(whole.snapshot()))


def test_automatic_synchronization_removed_in_mid_session_is_none_and_its_rows_are_not_wanted(
    replay: ReplaySession,
) -> None:
    coordinator, session = replay.coordinator, replay.session
    coordinator.advance(NOON)
    assert coordinator.remove_symbol("AAA")
    assert not coordinator.remove_symbol("AAA")
    assert session.get_symbol_data("AAA") is None
    coordinator.advance(NOON + HOUR)
    assert session.get_active_symbols() == {"BBB"}
    assert set(session.bars()["symbol"]) == {"BBB"}
    assert session.bars("BBB", "1m").height == 240


def test_automatic_synchronization_symbol_added_again_has_all_that_came_meanwhile(replay: ReplaySession) -> None:
    coordinator, session = replay.coordinator, replay.session
    coordinator.advance(NOON)
    coordinator.remove_symbol("AAA")
    coordinator.advance(NOON + HOUR)
    coordinator.add_symbol("AAA")
    again = session.bars("AAA", "1m")
    assert again.height == 240
    assert session.quality(["AAA"]).filter(pl.col("interval") == "1m").select("present", "duplicates").rows() == [
        (240, 0)
    ]
    coordinator.advance(NOON + HOUR + MINUTE)
    assert session.bars("AAA", "1m").height == 241


def test_automatic_synchronization_symbol_added_again_has_its_conflicts_once(tmp_path: Path) -> None:
    twice = pl.concat([bars(minutes(FIRST, [3]), 55.0), bars(minutes(FIRST))])
    replay = ReplaySession(configured(write([File("AAA_1m.csv", twice)], tmp_path)))
    replay.coordinator.load(["AAA"], FIRST, FIRST)
    replay.coordinator.advance(NOON)
    replay.coordinator.remove_symbol("AAA")
    replay.coordinator.add_symbol("AAA")
    for _ in replay.steps():
        pass
    assert replay.session.snapshot().tables()["rejects"].height == 1


@pytest.mark.parametrize("hours", [3, 9, 15])
def test_automatic_synchronization_symbol_on_another_calendar_is_run_as_long_as_its_own_session(
    tmp_path: Path, hours: int
) -> None:
    around = [dt.datetime.combine(FIRST, dt.time(), dt.UTC) + 10 * n * MINUTE for n in range(288)]
    round_clock = bars(around).with_columns((pl.col("ts") + MINUTE).alias("available"))
    folder = write(
        [File("AAA_1m.csv", bars([*minutes(FIRST), *minutes(SECOND)])), File("BTC_1m.csv", round_clock)], tmp_path
    )
    replay = ReplaySession(configured(folder, session={"calendars": {"BTC": "24/7"}}))
    replay.coordinator.load(["AAA"], FIRST, SECOND)
    replay.coordinator.advance(opens(FIRST) + hours * HOUR)
    replay.coordinator.add_symbol("BTC")
    evening = closes(SECOND) + 3 * HOUR
    replay.coordinator.advance(evening)
    assert replay.coordinator.phase == "running"
    assert replay.session.bars("BTC", "1m")["ts"].max() == evening - 10 * MINUTE
    for _ in replay.steps():
        pass
    whole = engine.load(folder, CalendarMap("XNYS", (("BTC", "24/7"),)), derive=["5m", "1h", "1d"])
    assert_same_tables(shown(replay.session.snapshot()), shown(whole.snapshot()))


@pytest.mark.parametrize("symbol", ["NONE", "AAA"])
def test_automatic_synchronization_symbol_that_cannot_be_added_raises_and_leaves_nothing(
    replay: ReplaySession, symbol: str
) -> None:
    coordinator, session = replay.coordinator, replay.session
    coordinator.advance(NOON)
    before = session.snapshot()
    with pytest.raises(ParameterError, match=f"symbol: .*{symbol}"):
        coordinator.add_symbol(symbol)
    assert session.snapshot() is before
    assert coordinator.pending == frozenset()


def test_load_symbol_that_the_source_does_not_know_leaves_nothing_pending(files: Path) -> None:
    replay = ReplaySession(configured(files))
    with pytest.raises(ParameterError, match="nothing of NONE"):
        replay.coordinator.load(["AAA", "NONE"], FIRST, SECOND)
    assert replay.coordinator.pending == frozenset()
    assert replay.session.get_active_symbols() == set()
    replay.coordinator.load(["AAA"], FIRST, SECOND)
    assert replay.session.get_loaded_symbols() == {"AAA"}


def test_add_symbol_whose_catching_up_fails_leaves_nothing_and_can_be_tried_again(
    replay: ReplaySession, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator, session = replay.coordinator, replay.session
    coordinator.advance(NOON)
    before = session.snapshot()
    with monkeypatch.context() as broken:
        broken.setattr(DataQualityManager, "step", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            coordinator.add_symbol("CCC")
    assert session.snapshot() is before
    assert coordinator.pending == frozenset()
    coordinator.advance(NOON + MINUTE)
    assert "CCC" not in set(session.bars()["symbol"])
    coordinator.add_symbol("CCC")
    assert [session.bars("CCC", interval).height for interval in ("1m", "5m")] == [181, 37]
    assert [session.bars("AAA", interval).height for interval in ("1m", "5m")] == [181, 37]


# What readers hold


def test_held_frames_views_and_snapshots_never_change(running: Running) -> None:
    running.add("AAA")
    running.append("AAA", range(20))
    running.step()
    held: list[tuple[SymbolSessionData, Snapshot, pl.DataFrame]] = []

    def hold() -> None:
        view = running.session.get_symbol_data("AAA")
        assert view is not None
        held.append((view, running.session.snapshot(), view.bars_base))

    reader = threading.Thread(target=hold)
    reader.start()
    reader.join()
    view, snapshot, frame = held[0]
    before = (frame.clone(), view.bars("5m").clone(), shown(snapshot))
    running.append("AAA", range(5, 40), 77.0)
    running.step()
    assert snapshot.revision < running.session.revision
    running.session.remove_symbol("AAA")
    assert running.session.get_symbol_data("AAA") is None
    assert frame.equals(before[0])
    assert view.bars_base.equals(before[0])
    assert view.bars("5m").equals(before[1])
    assert view.bar_quality["1m"]["present"].to_list() == [20]
    assert_same_tables(shown(snapshot), before[2])


def test_wait_for_wakes_a_reader_when_something_was_written(running: Running) -> None:
    running.add("AAA")
    since = running.session.revision
    woken: list[tuple[bool, int]] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        # Without a limit: nothing but the write ends this.
        woken.append((running.session.wait_for_revision(since), running.session.bars("AAA").height))

    reader = threading.Thread(target=wait, daemon=True)
    reader.start()
    waiting.wait()
    running.append("AAA", range(3))
    reader.join(60)
    assert woken == [(True, 3)]


def test_wait_for_without_news_gives_up_and_says_so(running: Running) -> None:
    running.add("AAA")
    assert not running.session.wait_for_revision(running.session.revision, 0.01)
    assert running.session.wait_for_revision(running.session.revision - 1, 0.0)


def test_wait_for_inside_together_is_told_at_its_end_and_not_before(running: Running) -> None:
    running.add("AAA")
    since = running.session.revision
    seen: list[int] = []
    reader = threading.Thread(
        target=lambda: (running.session.wait_for_revision(since), seen.append(running.session.bars("AAA").height)),
        daemon=True,
    )
    reader.start()
    with running.session.transaction():
        running.append("AAA", range(3))
        assert not _seen_by_another(lambda: running.session.wait_for_revision(since, 0.0))
        running.append("AAA", range(3, 7))
    reader.join(60)
    assert seen == [7]


def test_together_that_fails_leaves_nothing_of_its_writes(running: Running) -> None:
    running.add("AAA")
    running.append("AAA", range(10))
    running.step()
    before = running.session.snapshot()

    def fail() -> None:
        with running.session.transaction():
            running.add("BBB")
            running.append("AAA", range(10, 30))
            running.append("BBB", range(5))
            running.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert running.session.snapshot() is before


def test_step_after_a_together_that_failed_derives_and_judges_what_comes_next(running: Running) -> None:
    running.add("AAA")
    running.append("AAA", range(5))

    def fail() -> None:
        with running.session.transaction():
            running.append("AAA", range(200, 260), 99.0)
            running.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    running.append("AAA", range(5, 10))
    running.step()
    wanted = Running()
    wanted.add("AAA")
    wanted.append("AAA", range(10))
    wanted.step()
    assert_same_tables(shown(running.session.snapshot()), shown(wanted.session.snapshot()))


def test_together_inside_another_that_fails_undoes_just_its_own_writes(running: Running) -> None:
    running.add("AAA")

    def fail() -> None:
        with running.session.transaction():
            running.append("AAA", range(3, 9))
            raise ZeroDivisionError

    with running.session.transaction():
        running.append("AAA", range(3))
        with pytest.raises(ZeroDivisionError):
            fail()
        running.append("AAA", range(9, 11))
    assert running.session.bars("AAA", "1m")["ts"].to_list() == minutes(FIRST, [0, 1, 2, 9, 10])


def test_together_shows_other_threads_all_or_nothing(running: Running) -> None:
    running.add("AAA")
    with running.session.transaction():
        running.append("AAA", range(3))
        assert running.session.bars("AAA").height == 3
        assert _seen_by_another(lambda: running.session.bars("AAA").height) == 0
    assert _seen_by_another(lambda: running.session.bars("AAA").height) == 3


def _seen_by_another(look):
    found = []
    thread = threading.Thread(target=lambda: found.append(look()))
    thread.start()
    thread.join()
    return found[0]


def test_current_session_is_history_once_the_next_one_is_current(replay: ReplaySession) -> None:
    coordinator, session = replay.coordinator, replay.session
    coordinator.advance(NOON)
    view = session.get_symbol_data("AAA")
    assert view is not None
    assert (session.snapshot().session_date, session.snapshot().session_active) == (FIRST, True)
    assert (view.session_bars.height, view.historical_bars["1m"]) == (180, {})
    coordinator.advance(opens(SECOND) - MINUTE)
    assert (session.snapshot().session_date, session.snapshot().session_active) == (SECOND, False)
    coordinator.advance(opens(SECOND) + HOUR)
    view = session.get_symbol_data("AAA")
    assert view is not None
    assert view.session_bars.height == 60
    assert {day: rows.height for day, rows in view.historical_bars["1d"].items()} == {FIRST: 1}
    assert session.snapshot().as_of == opens(SECOND) + dt.timedelta(hours=1)


def test_base_made_of_quotes_is_what_calls_mean_that_name_no_price_type(tmp_path: Path) -> None:
    stamps = [opens(FIRST) + dt.timedelta(seconds=n) for n in range(120)]
    quotes = pl.DataFrame({
        "ts": stamps, "bid": 9.5, "bid_size": 1.0, "ask": 10.5, "ask_size": 1.0, "available": stamps,
    })  # fmt: skip
    folder = write([File("a/AAA_1m.csv", bars(minutes(FIRST))), File("b/AAA_quotes.csv", quotes)], tmp_path)
    replay = ReplaySession(configured(folder, streams={"bars": "auto"}, derive=["5s", "5m"]))
    replay.coordinator.load(["AAA"], FIRST, FIRST)
    for _ in replay.steps():
        pass
    view = replay.session.get_symbol_data("AAA")
    assert view is not None
    assert (view.base_from, view.base_interval, view.price_type) == ("quotes", "5s", "bid")
    assert view.bars_base["close"].unique().to_list() == [9.5]
    assert view.bars("5m").height == 1
