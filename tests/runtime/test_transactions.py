"""Rolled-back transactions: every component with state of its own follows them, by `SessionData.keep_state`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import engine
import polars as pl
import pytest
from engine import SessionData, SymbolSessionData
from engine.export.tables import DATA_TABLES
from engine.runtime.config import GapsPart
from engine.runtime.gap_filler import GapFiller
from engine.runtime.indicator_manager import IndicatorManager
from engine.runtime.processor import DataProcessor
from engine.runtime.quality_manager import DataQualityManager
from polars.testing import assert_frame_equal

from tests.runtime.live_world import MINUTE, OPEN, Morning, bars, configured

COMPONENTS = {
    "DataProcessor", "IndicatorManager", "Histories", "DataQualityManager", "GapFiller", "SessionCoordinator",
}  # fmt: skip
INDICATORS = (("sma(3)", "1m"), ("ema(3)", "1m"), ("ema(2)", "5m"))
DATE = OPEN.date()


class BrokenError(Exception):
    """What ends a transaction."""


class Runtime:
    """A store with all components, stepped by hand."""

    def __init__(self) -> None:
        self.session = SessionData()
        self.session.register_symbol_data(SymbolSessionData("A", "XNYS", "1m", ("5m",), indicators=INDICATORS))
        self.session.mark_loaded(["A"])
        self.session.set_session(DATE, active=True)
        self.filler = GapFiller(self.session, GapsPart(retries=2, interval_seconds=60))
        self.components = [DataProcessor(self.session), IndicatorManager(self.session)]
        self.quality = DataQualityManager(self.session)

    def step(self, minute: int, rows: pl.DataFrame) -> None:
        now = OPEN + minute * MINUTE
        with self.session.transaction():
            self.session.append(rows, "bars", "1m")
            self.session.set_as_of(now)
            for component in self.components:
                component.step()
            self.quality.step()
            requests = self.filler.due(now)
            if minute % 3 == 0:
                self.filler.settle(requests, now)
            else:
                self.filler.fail(requests)

    def tables(self) -> dict[str, pl.DataFrame]:
        tables = self.session.snapshot().tables()
        values = {i: self.session.get_symbol_data("A").indicator_values(i) for i in ("1m", "5m")}
        history = pl.DataFrame({"history": [str(self.session.get_symbol_data("A").historical_indicators)]})
        return {**{name: tables[name].drop("revision", strict=False) for name in tables}, **values, "history": history}


def rolled_back(runtime: Runtime, minute: int) -> None:
    with suppress(BrokenError), runtime.session.transaction():
        runtime.step(minute, bars("A", range(minute), close=900.0 + minute))
        raise BrokenError


def rolled_back_within(runtime: Runtime, minute: int) -> None:
    with runtime.session.transaction():
        rolled_back(runtime, minute)
        runtime.step(minute, bars("A", []))


@pytest.mark.parametrize("undone", [rolled_back, rolled_back_within])
def test_components_after_a_rolled_back_transaction_are_as_if_it_had_not_been(
    undone: Callable[[Runtime, int], None],
) -> None:
    disturbed, calm = Runtime(), Runtime()
    for minute in range(1, 30):
        rows = bars("A", [minute - 1] if minute % 7 else [], close=10.0 + minute)
        if minute in (6, 7, 15, 22):
            undone(disturbed, minute)
            if undone is rolled_back_within:
                calm.step(minute, bars("A", []))
        for runtime in (disturbed, calm):
            runtime.step(minute, rows)
        right = calm.tables()
        for name, table in disturbed.tables().items():
            assert_frame_equal(table, right[name], check_exact=True)


def test_session_whose_step_fails_goes_on_as_if_it_had_not_been_called() -> None:
    disturbed, calm = Morning(config=configured()), Morning(config=configured())
    for morning in (disturbed, calm):
        morning.live.start()
    step = disturbed.live.coordinator._quality.step

    def fail(**_: object) -> bool:
        step(force=True)
        raise BrokenError

    for minute in (5, 200, 389, 390, 391):
        disturbed.live.coordinator._quality.step = fail  # type: ignore[method-assign]
        with pytest.raises(BrokenError):
            disturbed.at(minute)
        disturbed.live.coordinator._quality.step = step  # type: ignore[method-assign]
        for morning in (disturbed, calm):
            morning.stream.push(bars("A", range(minute - 4, minute)))
            morning.at(minute)
        ours, right = (morning.live.coordinator for morning in (disturbed, calm))
        assert (ours.phase, ours.current, ours.now, ours.sessions) == (
            right.phase,
            right.current,
            right.now,
            right.sessions,
        )
        assert ours.totals.rows == right.totals.rows
    held, wanted = (morning.session.snapshot().tables() for morning in (disturbed, calm))
    for name in DATA_TABLES:
        if name in held:
            assert_frame_equal(held[name].drop("revision", strict=False), wanted[name].drop("revision", strict=False))


def test_classes_that_step_over_a_store_keep_their_state() -> None:
    found = set()
    for path in (Path(engine.__file__).parent / "runtime").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                inits = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
                takes = {ast.unparse(one.annotation) for init in inits for one in init.args.args if one.annotation}
                if "SessionData" in takes:
                    found.add(node.name)
                    assert "keep_state" in ast.unparse(node), f"{node.name} does not follow rolled-back transactions"
    assert found == COMPONENTS


def test_keep_state_outside_a_transaction_does_nothing() -> None:
    session, holder = SessionData(), Runtime()
    session.keep_state(holder, "quality")
    other = holder.quality = DataQualityManager(session)
    with suppress(BrokenError), session.transaction():
        raise BrokenError
    assert holder.quality is other
