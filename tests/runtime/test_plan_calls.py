"""Every call of the refactor plan works, or raises an error with a call that does."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import engine
import polars as pl
import pytest
from engine.errors import ParameterError, UnknownNameError
from engine.export.delta import read_delta
from engine.runtime import coordinator, processor, quality_manager
from engine.runtime.config import SessionConfig
from engine.runtime.deployments import ReplaySession
from engine.runtime.indicator_manager import IndicatorManager
from engine.runtime.processor import DataProcessor
from engine.runtime.quality_manager import DataQualityManager
from engine.store import session_data, symbol_data
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

from tests.runtime.live_world import OPEN, bars

DAY = OPEN.date()


class World(NamedTuple):
    """The plan's objects, of a replay of one symbol that lacks five bars."""

    session: SessionData
    data: SymbolSessionData
    coordinator: coordinator.SessionCoordinator
    processor: DataProcessor
    quality: DataQualityManager
    folder: Path


@pytest.fixture
def world(tmp_path: Path) -> World:
    bars("A", [m for m in range(390) if not 7 <= m < 12]).write_parquet(tmp_path / "A_1m.parquet")
    config = SessionConfig.of(
        {"session": {"calendar": "XNYS"}, "source": {"paths": [str(tmp_path)]}, "derive": ["5m", "15m"]}
    )
    replay = ReplaySession(config)
    session = replay.run()
    data = session.get_symbol_data("A")
    assert data is not None
    return World(session, data, replay.coordinator, DataProcessor(session), DataQualityManager(session), tmp_path)


def test_calls_of_the_plan_that_work(world: World) -> None:
    session, one = world.session, world.data
    assert (one.symbol, one.base_interval, one.is_loaded, list(one.derived_intervals)) == (
        "A",
        "1m",
        True,
        ["5m", "15m"],
    )
    assert session.get_active_symbols() == session.get_loaded_symbols() == {"A"}
    assert session.get_symbols_with_derived() == {"A": ["5m", "15m"]}
    assert [len(one.bars_derived.get(interval, [])) for interval in one.derived_intervals] == [78, 26]
    assert sum(one.bar_gaps["1m"]["bar_count"]) == 5
    assert one.bar_quality["1m"]["quality"].item() == 100 * 385 / 390
    assert (one.session_volume, one.session_high, one.session_low) == (385 * 5.0, 10.0, 10.0)
    assert one.last_update == OPEN + dt.timedelta(minutes=389)
    assert (one.bars_updated, one.quotes_updated, one.ticks_updated) == (True, False, False)
    assert (one.historical_bars, one.historical_indicators) == ({"1m": {}, "5m": {}, "15m": {}}, {})
    assert len(one.quotes) == len(one.ticks) == 0
    assert len(one.bars_base) == 385
    added = engine.SymbolSessionData(symbol="B", base_interval="1m", derived_intervals=["5m", "15m"], is_loaded=False)
    session.register_symbol_data(added)
    assert session.get_symbols_with_derived()["B"] == ["5m", "15m"]
    assert session.get_loaded_symbols() == {"A"}
    session.remove_symbol("B")
    assert session.get_symbol_data("B") is None
    assert world.coordinator.remove_symbol("A")
    assert session.get_active_symbols() == set()


def stored(w: World, table: str) -> pl.DataFrame:
    held = {"gaps": w.session.snapshot().gap_rows, "quality": w.session.snapshot().quality_rows}[table]
    return held[w.data.key_of("1m")].frame.drop("revision")


def register_with_hour(w: World) -> None:
    w.session.register_symbol_data(dataclasses.replace(w.data, derived_intervals=("5m", "15m", "1h")))
    w.processor.step()
    assert w.session.get_symbol_data("A").bars("1h").height == 7


def exported(w: World) -> int:
    revision = engine.export_session(w.session, w.folder / "out")
    return read_delta(w.folder / "out", 0).upserts["bars"].height * revision


def with_history(w: World) -> None:
    w.session.set_session(DAY + dt.timedelta(days=1), active=True)
    IndicatorManager(w.session).step()
    assert w.session.get_symbol_data("A").historical_indicators["1m"]["sessions"] == 1
    assert list(w.session.get_symbol_data("A").historical_bars["1m"]) == [DAY]


def new_session(w: World) -> SessionData:
    session = SessionData()
    session.register_symbol_data(SymbolSessionData("A"))
    return session


# What the message proposes, tried.
PROPOSED: dict[str, dict[str, Callable[[World], object]]] = {
    "session": {
        "register_symbol": lambda w: w.session.register_symbol_data(SymbolSessionData("C")),
        "_active_symbols": lambda w: w.session.get_active_symbols() == {"A", "C"},
        "_session_active": lambda w: w.session.snapshot().session_active is False,
        "_current_session_date": lambda w: w.session.snapshot().current_session == DAY,
        "_active_streams": lambda w: w.session.snapshot().active_streams == {("A", "1m"): False},
        "_data_arrival_event": lambda w: w.session.wait_for_revision(0),
    },
    "data": {
        "to_json": lambda w: engine.write_json(w.session.snapshot().tables(), w.folder / "json", symbols="A").exists(),
        "_latest_bar": lambda w: w.data.latest_bar["close"] == 10.0,
        "_last_export_indices": lambda w: w.data.bars_updated and exported(w),
    },
    "coordinator": {
        "session_data": lambda w: w.coordinator.session is w.session,
        "get_loaded_symbols": lambda w: w.coordinator.session.get_loaded_symbols() == {"A"},
        "_loaded_symbols": lambda w: w.coordinator.session.get_loaded_symbols() == {"A"},
        "_pending_symbols": lambda w: w.coordinator.pending == frozenset(),
        "_streamed_data": lambda w: len(w.coordinator.plan("A").streams) == 1,
        "_initial_stream_marking": lambda w: len(w.coordinator.plan("A").streams) == 1,
        "_generated_data": lambda w: w.coordinator.session.get_symbols_with_derived() == {"A": ["5m", "15m"]},
        "_initial_derived_marking": lambda w: w.coordinator.session.get_symbols_with_derived() == {"A": ["5m", "15m"]},
        "_load_symbols_phase_3": lambda w: ReplaySession(w.coordinator.config).coordinator.load(["A"], DAY, DAY),
    },
    "processor": {
        "set_generated_data": register_with_hour,
        "get_derived_intervals_for_symbol": lambda w: w.session.get_symbol_data("A").derived_intervals,
        "_derived_intervals": lambda w: w.session.get_symbols_with_derived(),
        "_process_bar_data": lambda w: w.processor.step() == 0,
        "_generate_derived_bars": lambda w: w.processor.step() == 0,
    },
    "quality": {
        "_calculate_quality": lambda w: w.quality.step(force=True),
        "run": lambda w: w.quality.step(),
        "_failed_gaps": lambda w: w.session.gaps()["state", "retry_count", "last_retry", "next_retry"].height > 0,
        "_last_quality_calc": lambda w: DataQualityManager(w.session, every=dt.timedelta(seconds=5)).step(),
        "gap_filling_enabled": lambda w: w.coordinator.config.gaps.fill,
    },
}  # fmt: skip
NAMES = {
    "session": session_data.PLAN_NAMES, "data": symbol_data.PLAN_NAMES, "coordinator": coordinator.PLAN_NAMES,
    "processor": processor.PLAN_NAMES, "quality": quality_manager.PLAN_NAMES,
}  # fmt: skip


@pytest.mark.parametrize("owner", NAMES)
def test_name_of_the_plan_says_which_call_to_use_and_that_works(world: World, owner: str) -> None:
    assert set(PROPOSED[owner]) == set(NAMES[owner])
    for name, call in NAMES[owner].items():
        with pytest.raises(UnknownNameError) as raised:
            getattr(getattr(world, owner), name)
        assert f"{name}: is not there; use {call}" in str(raised.value)
        assert PROPOSED[owner][name](world) is not False, name
    with pytest.raises(AttributeError, match="no attribute 'zzz'"):
        _ = getattr(world, owner).zzz


def append(w: World) -> None:
    assert w.session.append(bars("A", [8]), "bars", "1m").added == 1


ASSIGNED: dict[str, Callable[[World], object]] = {
    "is_loaded": lambda w: w.session.mark_loaded("A"),
    "derived_intervals": register_with_hour,
    **dict.fromkeys(("bars_base", "quotes", "ticks", "open_interest", "latest_bar"), append),
    **dict.fromkeys(("session_volume", "session_high", "session_low", "last_update"), append),
    **dict.fromkeys(("bars_updated", "quotes_updated", "ticks_updated"), lambda w: w.session.mark_exported(w.session.revision)),
    "bars_derived": lambda w: w.processor.step(),
    "bar_gaps": lambda w: w.session.set_gaps(w.data.key_of("1m"), stored(w, "gaps").head(0)),
    "bar_quality": lambda w: w.session.set_quality(w.data.key_of("1m"), stored(w, "quality")),
    **dict.fromkeys(("historical_bars", "historical_indicators"), with_history),
}  # fmt: skip


@pytest.mark.parametrize("name", ASSIGNED)
def test_assignment_to_a_view_says_which_call_stores(world: World, name: str) -> None:
    assert set(ASSIGNED) == {*symbol_data.ASSIGNMENTS, "derived_intervals"}
    with pytest.raises(UnknownNameError, match="cannot be assigned") as raised:
        setattr(world.data, name, getattr(world.data, name))
    call = symbol_data.ASSIGNMENTS.get(name, "session.register_symbol_data(dataclasses.replace(")
    assert call in str(raised.value)
    ASSIGNED[name](world)


@pytest.mark.parametrize("name", ["bar_gaps", "bar_quality"])
def test_assignment_to_an_interval_of_a_view_is_not_lost_in_silence(world: World, name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"use session\.set_(gaps|quality)"):
        getattr(world.data, name)["1m"] = []


GAP = {"start_time": OPEN, "end_time": OPEN + dt.timedelta(minutes=5), "bar_count": 5, "retry_count": 0}
PLAN_STORES: dict[str, tuple[Any, ...]] = {"set_gaps": ("A", "1m", [GAP]), "set_quality": ("A", "1m", 98.7)}


@pytest.mark.parametrize("name", PLAN_STORES)
def test_stores_of_symbol_and_interval_show_the_call_with_a_panel_key(world: World, name: str) -> None:
    with pytest.raises(ParameterError) as raised:
        getattr(world.session, name)(*PLAN_STORES[name])
    assert f"{name}(session.get_symbol_data(symbol).key_of(interval), frame)" in str(raised.value)
    assert "received 'A'" in str(raised.value)
    other, table = new_session(world), name.removeprefix("set_")
    other.append(world.data.bars_base.select(*bars("A", []).columns), "bars", "1m")
    getattr(other, name)(other.get_symbol_data("A").key_of("1m"), stored(world, table))
    assert (
        getattr(other, table)()
        .drop("session")
        .equals(getattr(world.session, table)().filter(pl.col("interval") == "1m").drop("session"))
    )
    DataQualityManager(other).step()
    assert getattr(other, table)().height == 1


def test_symbol_data_is_copied_and_pickled(world: World) -> None:
    for one in (
        copy.copy(world.data),
        copy.deepcopy(SymbolSessionData("A")),
        pickle.loads(pickle.dumps(SymbolSessionData("A"))),  # noqa: S301 - made here
    ):
        assert one.symbol == "A"
    assert not hasattr(world.session, "_repr_mimebundle_")
