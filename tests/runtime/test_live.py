"""A live session: retries of gaps, sources that fail, consumers that raise, processes that are killed."""

from __future__ import annotations

import datetime as dt
import json
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from engine import open_dataset
from engine.errors import ParameterError
from engine.runtime.coordinator import Step
from engine.runtime.resume import last_export
from engine.sources.streams.contract import Delivery
from engine.store.session_data import SessionData
from polars.testing import assert_frame_equal

from tests.runtime.live_world import (
    MINUTE,
    ONE_MINUTE,
    OPEN,
    HandStream,
    Morning,
    bars,
    configured,
    is_up,
    launch,
    until,
)


def started(**more: object) -> Morning:
    morning = Morning(**more)  # type: ignore[arg-type]
    morning.live.start()
    return morning


def test_step_bars_come_in_are_derived_and_judged() -> None:
    morning = started()
    for minute in range(5):
        morning.stream.push(bars("A", [minute]))
        morning.at(minute + 1)
    view = morning.session.get_symbol_data("A")
    assert view.is_loaded
    assert view.bars_base["final"].all()
    assert view.bars("5m").select("n_base", "complete", "final").row(0) == (5, True, True)
    assert view.bar_quality["1m"].select("expected", "present").row(0) == (5, 5)


def test_step_window_in_progress_is_flagged_and_not_complete() -> None:
    morning = started()
    morning.stream.push(bars("A", [0, 1]))
    morning.at(2)
    window = morning.session.get_symbol_data("A").bars("5m").row(0, named=True)
    assert (window["n_base"], window["complete"], window["final"]) == (2, False, False)


def test_step_gap_is_asked_for_again_with_growing_pauses_until_its_budget_is_used_up() -> None:
    morning = started()
    morning.stream.push(bars("A", [0, 1, 4]))
    morning.at(5)
    assert morning.gaps() == [(2, 2, "open", 0)]
    asked_at = []
    for tick in range(5 * 4, 40 * 4):
        before = len(morning.stream.asked)
        morning.stream.push(bars("A", [tick // 4 - 1]))
        morning.at(tick / 4)
        if any(one.symbol == "A" for one in morning.stream.asked[before:]):
            asked_at.append(tick / 4)
    assert asked_at == [6, 8, 12]  # a minute after it was seen, then two, then four
    assert morning.gaps() == [(2, 2, "abandoned", 3)]
    asked = {(one.start, one.end) for one in morning.stream.asked[2:] if one.symbol == "A"}
    assert asked == {(OPEN + 2 * MINUTE, OPEN + 4 * MINUTE)}


def test_step_gap_that_the_source_fills_raises_quality_and_counts_as_backfill() -> None:
    morning = started()
    morning.stream.push(bars("A", [0, 1, 4]))
    morning.at(5)
    low = morning.session.get_symbol_data("A").bar_quality["1m"]["quality"][0]
    morning.stream.past = bars("A", [2, 3])
    morning.at(6.5)
    morning.stream.push(bars("A", [5]))
    morning.at(6.5)
    view = morning.session.get_symbol_data("A")
    quality = view.bar_quality["1m"].row(0, named=True)
    assert low == 60.0
    assert (quality["quality"], quality["backfilled"], quality["missing"]) == (100.0, 2, 0)
    assert view.bars_base["provenance"].to_list() == ["source", "source", "backfill", "backfill", "source", "source"]
    assert view.bars("5m").row(0, named=True)["complete"]
    assert morning.gaps() == []
    assert morning.live.filler.filled["state"].to_list() == ["filled"]


def test_step_gap_that_is_filled_in_part_keeps_what_was_tried() -> None:
    morning = started()
    morning.stream.push(bars("A", [0, 4]))
    morning.at(5)
    morning.stream.past = bars("A", [2])
    morning.stream.push(bars("A", [5]))
    morning.at(6)
    assert morning.gaps() == [(1, 1, "retrying", 1), (3, 1, "retrying", 1)]


def test_step_gap_at_the_end_of_what_is_due_is_not_abandoned_while_it_grows() -> None:
    morning = started()
    morning.stream.push(bars("A", [0]))
    for minute in range(1, 40):
        morning.at(minute)
    ((start, length, state, retries),) = morning.gaps()
    assert (start, length, state) == (1, 38, "retrying")
    assert retries >= 3


def test_step_source_that_refuses_is_noted_and_asked_again() -> None:
    morning = started()
    morning.stream.push(bars("A", [0, 3]))
    morning.at(4)
    morning.stream.refuses = True
    morning.at(5)
    assert "the history does not answer" in morning.live.errors[-1]
    morning.stream.refuses, morning.stream.past = False, bars("A", [1, 2])
    morning.at(8)
    assert [gap for gap in morning.gaps() if gap[0] < 4] == []


def test_step_after_the_session_forgets_its_gaps() -> None:
    morning = started()
    morning.stream.push(bars("A", [0, 4]))
    morning.at(5)
    morning.at(390)
    asked = len(morning.stream.asked)
    morning.at(500)
    assert len(morning.stream.asked) == asked
    assert morning.session.snapshot().session_date == dt.date(2024, 6, 28)
    assert not morning.session.snapshot().session_active


def test_step_consumer_that_raises_ends_neither_the_session_nor_the_others() -> None:
    morning, seen = started(), []

    def broken(session: SessionData, step: Step) -> None:
        raise RuntimeError("mine")

    morning.live.consumers += [broken, lambda _, step: seen.append(step.rows)]
    morning.stream.push(bars("A", [0]))
    morning.at(1)
    assert seen == [1]
    assert "RuntimeError: mine" in morning.live.errors[-1]


def test_start_in_mid_session_asks_for_the_past_and_symbols_are_loaded_with_it() -> None:
    morning = started(stream=HandStream(past=bars("A", range(30))), minute=30.5)
    view = morning.session.get_symbol_data("A")
    assert view.is_loaded
    assert view.bars_base.height == 30
    assert view.bar_quality["1m"].select("expected", "missing").row(0) == (30, 0)
    assert view.bars("5m").height == 6


def test_add_symbol_in_mid_session_has_caught_up_when_it_is_loaded() -> None:
    morning = started(stream=HandStream(past=bars("C", range(10))), minute=-5)
    morning.at(10)
    seen: list[bool] = []
    original = morning.stream.fetch
    morning.stream.fetch = lambda requests: (
        seen.append(morning.session.get_symbol_data("C") is None),
        original(requests),
    )[1]  # type: ignore[method-assign]
    morning.live.add_symbol("C")
    view = morning.session.get_symbol_data("C")
    assert seen == [True]
    assert (view.is_loaded, view.bars_base.height, view.bars("5m").height) == (True, 10, 2)
    assert morning.live.coordinator.pending == frozenset()


def test_add_symbol_that_the_source_does_not_know_leaves_nothing() -> None:
    morning = started()
    with pytest.raises(ParameterError, match="NOPE"):
        morning.live.add_symbol("NOPE")
    assert morning.session.get_symbol_data("NOPE") is None
    assert morning.live.coordinator.pending == frozenset()


def test_remove_symbol_rows_that_still_come_are_not_taken() -> None:
    morning = started()
    morning.stream.push(bars("A", [0]))
    morning.at(1)
    assert morning.live.remove_symbol("A")
    morning.stream.push(pl.concat([bars("A", [1]), bars("B", [1])]))
    morning.at(2)
    assert morning.session.get_symbol_data("A") is None
    assert morning.session.get_symbol_data("B").bars_base.height == 1


def test_start_after_a_crash_goes_on_from_the_last_export(tmp_path: Path) -> None:
    config = configured(export={"target": str(tmp_path / "out"), "every_seconds": 60})
    everything = bars("A", range(20))
    first = started(config=config)
    for minute in range(10):
        first.stream.push(bars("A", [minute]))
        first.at(minute + 1)
    # Nobody says good-bye: what the store holds since the last export is gone.
    second = started(stream=HandStream(past=everything), config=config, minute=15)
    view = second.session.get_symbol_data("A")
    assert view.bars_base["ts"].to_list() == everything["ts"].to_list()[:15]
    assert view.bars_base["provenance"].unique().to_list() == ["source"]  # as if the feed had not been left
    assert [one.start for one in second.stream.asked if one.symbol == "A"] == [OPEN + 4 * MINUTE]  # 300 s overlap
    second.live.close()
    exported = (
        open_dataset(tmp_path / "out")
        .scan("bars")
        .filter(pl.col("interval") == "1m", pl.col("symbol") == "A")
        .collect()
    )
    assert exported.height == 15


@pytest.mark.parametrize("behind", ["last", "bid"])
def test_start_after_a_crash_asks_from_the_price_type_that_is_furthest_behind(behind: str, tmp_path: Path) -> None:
    config = configured(export={"target": str(tmp_path / "out"), "every_seconds": 60})
    last, bid = (bars("A", range(20)).with_columns(pl.lit(name).alias("price_type")) for name in ("last", "bid"))
    first = started(config=config)
    for minute in range(10):
        came = pl.concat([last[minute], bid[minute]])
        first.stream.push(came if minute < 5 else came.filter(pl.col("price_type") != behind))
        first.at(minute + 1)
    second = started(stream=HandStream(past=pl.concat([last, bid])), config=config, minute=15)
    assert second.stream.asked[0].start < OPEN + 5 * MINUTE
    for minute in range(16, 40):  # what was exported as a gap is asked for by its retries, as without a restart
        second.at(minute)
    view = second.session.get_symbol_data("A")
    for price_type in ("last", "bid"):
        stored = view.bars(price_type=price_type)
        assert stored["ts"].to_list()[:15] == last["ts"].to_list()[:15]
        assert stored["provenance"].to_list()[5:10] == ["backfill" if price_type == behind else "source"] * 5


def test_step_row_that_corrects_a_stored_one_is_one_row() -> None:
    morning = started()
    morning.stream.push(bars("A", [0, 1]))
    morning.at(2)
    before = morning.live.coordinator.totals.rows
    morning.stream.push(bars("A", [1], close=11.0))
    morning.at(3)
    totals = morning.live.coordinator.totals
    assert (totals.rows - before, totals.corrections) == (1, 1)
    fetched = Delivery("bars", (bars("A", [1, 2], close=12.0),), ONE_MINUTE)
    assert morning.live.coordinator.take_in([fetched]) == 2


def test_run_ends_when_the_source_is_exhausted_and_writes_the_last_revision(tmp_path: Path) -> None:
    stream = HandStream()
    morning = Morning(stream, configured(tmp_path / "out"), minute=3)
    stream.push(bars("A", [0, 1, 2]))
    stream.exhausted = True
    last = morning.live.run(threading.Event())
    assert last.revision == 1
    assert stream.closed
    assert open_dataset(tmp_path / "out").rows("bars") == 3


CONFIG = """
derive = ["5m"]
[session]
calendar = "24/7"
mode = "live"
symbols = ["A"]
[source]
kind = "folder"
paths = ["drops"]
options = {{ settle_seconds = 0.0, poll_seconds = 0.05 }}
[streams]
bars = "1m"
[live]
poll_seconds = 0.05
grace_seconds = 0
[gaps]
every_seconds = 0
[export]
target = "out"
every_seconds = {every}
"""


def drop(folder: Path, name: str, first: int, count: int, start: dt.datetime) -> None:
    rows = bars("A", range(first, first + count)).with_columns(
        (start + pl.int_range(first, first + count) * pl.duration(minutes=1)).cast(pl.Datetime("us", "UTC")).alias("ts")
    )
    part = folder / f".{name}.csv"
    rows.select("symbol", "ts", "open", "high", "low", "close", "volume").write_csv(part)
    part.rename(folder / f"{name}.csv")


def exported(folder: Path) -> pl.DataFrame:
    held = last_export(folder / "out")
    return pl.DataFrame() if held is None else held.scan("bars").filter(pl.col("interval") == "1m").collect()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_live_told_to_stop_exports_the_last_revision_and_exits_0(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "drops").mkdir()
    (tmp_path / "live.toml").write_text(CONFIG.format(every=3600))
    start = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - 30 * MINUTE
    drop(tmp_path / "drops", "one", 0, 20, start)
    process = launch(tmp_path)
    try:
        time.sleep(1)
        until(lambda: process.poll() is None and is_up(process), "the session")
        drop(tmp_path / "drops", "two", 20, 5, start)
        time.sleep(3)
        process.send_signal(how)
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert json.loads(out)["exports"] >= 1
    assert exported(tmp_path).height >= 20


def test_live_killed_goes_on_after_a_restart_as_if_nothing_had_been(tmp_path: Path) -> None:
    (tmp_path / "drops").mkdir()
    (tmp_path / "live.toml").write_text(CONFIG.format(every=0.2))
    start = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - 60 * MINUTE
    drop(tmp_path / "drops", "one", 0, 20, start)
    first = launch(tmp_path)
    try:
        until(lambda: exported(tmp_path).height >= 19, "the first export")
    finally:
        first.kill()
        first.communicate()
    drop(tmp_path / "drops", "two", 20, 20, start)  # while nobody looks
    second = launch(tmp_path)
    try:
        until(lambda: exported(tmp_path).height >= 39, "what came meanwhile")
        second.send_signal(signal.SIGTERM)
        _, err = second.communicate(timeout=90)
    finally:
        second.kill()
    assert second.returncode == 0, err
    rows = exported(tmp_path)
    assert_frame_equal(rows.select("ts").unique().sort("ts"), rows.select("ts").sort("ts"))
    assert rows["ts"].to_list() == [start + minute * MINUTE for minute in range(40)]


def test_step_symbol_that_stays_silent_is_missing_once_the_feed_has_begun() -> None:
    morning = started()
    morning.at(3)
    assert morning.gaps("B") == []  # nothing came of anything: it may be the feed, or the clock
    morning.stream.push(bars("A", range(5)))
    morning.at(5)
    assert morning.gaps("B") == [(0, 5, "open", 0)]
    silent = morning.session.get_symbol_data("B")
    assert silent.bar_quality["1m"].select("expected", "present", "missing").rows() == [(5, 0, 5)]
    assert silent.bar_quality["5m"]["present"].to_list() == [0]
    morning.at(6.5)
    assert {one.symbol for one in morning.stream.asked[-2:]} == {"B"}
    morning.stream.push(bars("B", [6]))
    morning.at(7)
    assert morning.gaps("B")[0][:2] == (0, 6)
    assert silent.bars_base.height == 0


def test_step_silent_symbol_is_missing_in_each_session_and_has_no_lifetime_before_it_was_asked_for(
    tmp_path: Path,
) -> None:
    morning = started(config=configured(tmp_path / "out"))
    for day in (0, 24 * 60):
        morning.stream.push(bars("A", range(day, day + 390)))
        morning.at(day + 390)
        morning.at(day + 391)
    found = morning.session.quality(["B"]).filter(pl.col("interval") == "1m").sort("session")
    assert found.select("expected", "present", "missing", "quality").rows() == [(390, 0, 390, 0.0)] * 2
    exported = (
        open_dataset(tmp_path / "out")
        .scan("gaps")
        .filter(pl.col("symbol") == "B", pl.col("interval") == "1m")
        .collect()
    )
    assert exported["bar_count"].to_list() == [390, 390]


def test_step_symbol_whose_rows_come_under_another_price_type_is_missing_nothing_more_than_these() -> None:
    morning = started()
    morning.stream.push(bars("A", range(5)))
    morning.at(5)
    assert morning.gaps("B") == [(0, 5, "open", 0)]
    morning.stream.push(bars("B", range(6)).with_columns(pl.lit("bid").alias("price_type")))
    morning.at(6)
    assert morning.gaps("B") == []
    assert morning.session.quality(["B"])["price_type"].unique().to_list() == ["bid"]


def test_step_after_an_interval_is_added_keeps_what_was_tried_for_gaps() -> None:
    morning = started()
    morning.stream.push(bars("A", [0, 4]))
    morning.at(5).at(6)
    tried = morning.gaps()
    view = morning.session.get_symbol_data("A")
    morning.session.register_symbol_data(replace(view, derived_intervals=("5m", "15m")))
    morning.stream.push(bars("A", [5]))
    morning.at(6)
    assert tried == [(1, 3, "retrying", 1), (5, 1, "open", 0)]
    assert morning.gaps() == [(1, 3, "retrying", 1)]
