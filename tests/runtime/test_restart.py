"""Sessions that end and are started again: what the newest revision, the store and the source's requests are then."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import threading
import time
from pathlib import Path

import engine
import polars as pl
import pytest
from engine import open_dataset
from engine.clock import ManualClock
from engine.errors import CoverageError, ExportError, ParameterError
from engine.export import delta_table
from engine.export.dataset import write_dataset
from engine.export.delta import read_delta
from engine.export.maintenance.compact import compact
from engine.export.maintenance.vacuum import vacuum
from engine.export.maintenance.verify import verify
from engine.export.tables import DATA_TABLES, KEYS
from engine.export.target_folder import lock_target
from engine.runtime import deployments
from engine.runtime import live as live_module
from engine.runtime.config import SessionConfig
from engine.runtime.export_repair import repair
from engine.runtime.live import LiveSession, open_stream
from engine.runtime.resume import Continuation
from engine.schema import BARS, TICKS
from engine.sources.streams.contract import Delivery

from tests.runtime.live_world import MINUTE, OPEN, HandStream, Morning, bars, configured

DAY = 24 * 60
TUESDAY = 5 * DAY  # 27 June 2024 is a Thursday; its minute 0 is the open


@pytest.fixture(autouse=True)
def _without_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def launched(target: Path, minute: float, past: pl.DataFrame | None = None, **more: object) -> Morning:
    config = configured(**{"export": {"target": str(target), "every_seconds": 60}, **more})
    morning = Morning(HandStream(past), config, minute)  # type: ignore[arg-type]
    morning.live.start()
    return morning


def day_of(target: Path, day: int, *, stop: bool, **more: object) -> Morning:
    """A whole session from its morning to its evening, with a gap and a bar that came twice."""
    morning = launched(target, day - 60, **more)
    came = [minute for minute in range(day, day + 390) if minute not in (day + 7, day + 8)]
    morning.stream.push(bars("A", came))
    morning.stream.push(bars("A", [day]))
    morning.at(day + 30)
    for minute in (32, 40, 60, 391):
        morning.at(day + minute)
    if stop:
        morning.live.close()
    return morning


def two_days(target: Path, copy: Path | None = None) -> Morning:
    """A session that has dropped its first day from memory; `copy`: the target within that day."""
    morning = launched(target, -60, gaps={"fill": False})
    for day in (0, 4 * DAY):
        morning.stream.push(bars("A", range(day, day + 390)))
        morning.at(day + 30)
        if day == 0 and copy is not None:
            shutil.copytree(target, copy)
        morning.at(day + 391)
    assert morning.session.snapshot().held_from == dt.date(2024, 6, 30)
    return morning


def scanned(target: Path, table: str, interval: str = "1m") -> pl.DataFrame:
    return open_dataset(target).scan(table).filter(pl.col("interval") == interval, pl.col("symbol") == "A").collect()


@pytest.mark.parametrize("stop", [True, False])
def test_start_each_morning_keeps_former_sessions_with_their_gaps_and_counts(stop: bool, tmp_path: Path) -> None:
    for day in (0, DAY, 4 * DAY, TUESDAY):
        day_of(tmp_path / "out", day, stop=stop)
    assert scanned(tmp_path / "out", "bars").group_by("session").len().sort("session")["len"].to_list() == [388] * 4
    quality = scanned(tmp_path / "out", "quality").sort("session")
    assert quality.select("missing", "duplicates", "corrections").rows() == [(2, 1, 0)] * 4
    gaps = scanned(tmp_path / "out", "gaps")
    assert gaps.select("bar_count", "state", "retry_count").rows() == [(2, "abandoned", 3)] * 4
    symbols = open_dataset(tmp_path / "out").scan("symbols").filter(pl.col("symbol") == "A").collect()
    assert symbols.select("rows", "first_ts").row(0) == (4 * 388, OPEN)
    delta = read_delta(tmp_path / "out", since=1)
    assert (delta.full, delta.reason) == (False, "")
    assert verify(tmp_path / "out").is_empty()
    vacuum(tmp_path / "out", keep_revisions=1)
    assert scanned(tmp_path / "out", "bars").height == 4 * 388


def test_rows_that_somebody_else_wrote_after_the_start_are_those_of_the_session_again(tmp_path: Path) -> None:
    target = tmp_path / "out"
    first = launched(target, -5)
    first.stream.push(bars("A", range(30)))
    first.at(30).live.close()
    before = scanned(target, "bars")
    morning = launched(target, DAY - 60)
    last = open_dataset(target).exports.row(-1, named=True)
    tables = {name: open_dataset(target).scan(name).collect() for name in DATA_TABLES}
    altered = pl.when(pl.col("ts") == OPEN).then(pl.col("close") + 1).otherwise("close").alias("close")
    tables["bars"] = tables["bars"].with_columns(altered)
    state = {name: last[name] for name in ("store_id", "store_revision", "written_at", "as_of")}
    write_dataset(target, tables, **state)
    assert not scanned(target, "bars").drop("revision").equals(before.drop("revision"))
    morning.live.close()
    assert scanned(target, "bars").drop("revision").sort("ts").equals(before.drop("revision").sort("ts"))


def test_start_leaves_files_of_former_months_as_they_are(tmp_path: Path) -> None:
    day_of(tmp_path / "out", 0, stop=True)
    june = set(open_dataset(tmp_path / "out").files("bars"))
    for day in (TUESDAY, TUESDAY + DAY, TUESDAY + 8 * DAY):
        morning = day_of(tmp_path / "out", day, stop=True)
    assert june <= set(open_dataset(tmp_path / "out").files("bars"))
    held = morning.session.bars("A", "1m")["session"].unique()
    assert held.min() >= dt.date(2024, 7, 2)  # of the export only the last sessions were read


def test_start_asks_for_corrections_that_came_while_nobody_looked(tmp_path: Path) -> None:
    first = launched(tmp_path / "out", -5)
    first.stream.push(bars("A", range(30)))
    first.at(29).at(30)
    past = pl.concat([bars("A", range(27)), bars("A", range(27, 30), close=99.0), bars("A", range(30, 40))])
    second = launched(tmp_path / "out", 40, past)
    assert second.session.bars("A", "1m")["close"].to_list() == [10.0] * 27 + [99.0] * 3 + [10.0] * 10
    second.live.close()
    assert scanned(tmp_path / "out", "quality").select("duplicates", "corrections").rows() == [(0, 3)]


@pytest.mark.parametrize("with_ticks", [False, True])
def test_close_exports_the_bar_that_came_within_the_grace(with_ticks: bool, tmp_path: Path) -> None:
    morning = launched(tmp_path / "out", -5, live={"grace_seconds": 5}, streams={"ticks": with_ticks})
    if with_ticks:
        morning.stream.available = lambda symbols: dict.fromkeys(  # type: ignore[method-assign]
            symbols, frozenset({("bars", None), ("ticks", None)})
        )
    for minute in range(1, 8):
        morning.stream.push(bars("A", [minute - 1]))
        if with_ticks:
            tick = pl.DataFrame(
                [("A", OPEN + minute * MINUTE, minute, 10.0, 1.0, "Q", "@", False)], schema=dict(TICKS), orient="row"
            )
            morning.stream.pushed.append(Delivery("ticks", (tick,)))
        morning.at(minute + 1 / 60)
    morning.clock.set(OPEN + 7 * MINUTE + dt.timedelta(seconds=2))
    morning.live.close()
    assert scanned(tmp_path / "out", "bars").height == 7
    assert verify(tmp_path / "out").is_empty()


def test_verify_of_an_export_with_a_bar_within_the_grace_finds_nothing(tmp_path: Path) -> None:
    morning = launched(tmp_path / "out", -5, live={"grace_seconds": 5})
    for minute in range(1, 8):
        morning.stream.push(bars("A", [minute - 1]))
        morning.at(minute + 1 / 60)
    assert scanned(tmp_path / "out", "bars").height < 7
    assert verify(tmp_path / "out").is_empty()


def test_cadence_that_found_nothing_new_writes_no_revision(tmp_path: Path) -> None:
    morning = day_of(tmp_path / "out", 0, stop=False)
    last = open_dataset(tmp_path / "out").revision
    for minute in range(400, 500, 10):
        morning.at(minute)
    assert open_dataset(tmp_path / "out").revision == last


def test_late_row_of_a_former_session_comes_to_the_rows_that_the_export_has(tmp_path: Path) -> None:
    for day in (0, DAY, 4 * DAY):
        day_of(tmp_path / "out", day, stop=True, derive=["5m", "1d"])
    morning = launched(tmp_path / "out", TUESDAY - 60, derive=["5m", "1d"])
    assert morning.session.bars("A", "1m")["session"].min() > dt.date(2024, 6, 27)
    morning.stream.push(bars("A", [7, 8], close=12.0))
    morning.at(TUESDAY)
    morning.live.close()
    rows = scanned(tmp_path / "out", "bars")
    assert rows.group_by("session").len().sort("session")["len"].to_list() == [390, 388, 388]
    day = scanned(tmp_path / "out", "bars", "1d").sort("session")
    assert day.select("n_base", "high").rows() == [(390, 12.0), (388, 10.0), (388, 10.0)]
    quality = scanned(tmp_path / "out", "quality").sort("session")
    assert quality.select("missing", "duplicates").rows() == [(0, 1), (2, 1), (2, 1)]
    assert verify(tmp_path / "out").is_empty()


def test_removed_and_added_symbols_are_exported_at_once(tmp_path: Path) -> None:
    morning = day_of(tmp_path / "out", 0, stop=False)
    morning.live.remove_symbol("A")
    morning.live.add_symbol("C")
    listed = open_dataset(tmp_path / "out").scan("symbols").collect()["symbol"].to_list()
    assert listed == ["B", "C"]
    assert scanned(tmp_path / "out", "bars").is_empty()


def test_symbols_that_change_while_exports_fail_are_exported_with_the_next_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    morning = day_of(target, 0, stop=False)
    target.rename(tmp_path / "away")
    target.write_text("a file in the place of the folder")
    morning.live.remove_symbol("A")
    morning.live.add_symbol("C")
    assert len(morning.live.errors) == 2
    target.unlink()
    (tmp_path / "away").rename(target)
    morning.at(393).live.close()
    listed = open_dataset(target).scan("symbols").collect()["symbol"].to_list()
    assert listed == ["B", "C"]
    assert scanned(target, "bars").is_empty()


def test_symbol_that_is_followed_no_more_stays_in_the_export(tmp_path: Path) -> None:
    day_of(tmp_path / "out", 0, stop=True)
    only_b = {"session": {"calendar": "XNYS", "mode": "live", "symbols": ["B"]}}
    morning = launched(tmp_path / "out", DAY - 60, **only_b)
    morning.stream.push(bars("B", range(DAY, DAY + 10)))
    morning.at(DAY + 10)
    morning.live.close()
    symbols = open_dataset(tmp_path / "out").scan("symbols").collect()
    assert symbols.select("symbol", "is_loaded", "rows").rows() == [("A", False, 388), ("B", True, 10)]
    assert scanned(tmp_path / "out", "bars").height == 388
    assert verify(tmp_path / "out").is_empty()


def test_start_with_another_base_than_the_export_is_refused(tmp_path: Path) -> None:
    day_of(tmp_path / "out", 0, stop=True)
    other = {"session": {"calendar": "XLON", "mode": "live", "symbols": ["A"]}}
    with pytest.raises(ParameterError, match="has A with calendar 'XNYS', this session 'XLON'"):
        launched(tmp_path / "out", DAY - 60, **other)


def test_start_while_the_history_is_down_asks_again_and_loses_nothing(tmp_path: Path) -> None:
    first = launched(tmp_path / "out", -5)
    first.stream.push(bars("A", range(10)))
    first.at(9).at(10)
    stream = HandStream(bars("A", range(40)))
    stream.refuses = True
    config = configured(export={"target": str(tmp_path / "out"), "every_seconds": 60})
    second = Morning(stream, config, 15)
    second.live.start()
    for minute in range(16, 25):
        stream.refuses = minute < 20
        stream.push(bars("A", [minute - 1]))
        second.at(minute)
    view = second.session.get_symbol_data("A")
    assert view.bars_base.height == 24
    assert view.bar_quality["1m"].select("missing", "backfilled", "duplicates").row(0) == (0, 0, 0)


def test_history_that_is_down_spends_nothing_of_a_gap() -> None:
    morning = Morning()
    morning.live.start()
    morning.stream.refuses = True
    for minute in range(1, 60):
        morning.stream.push(bars("A", [minute - 1] if minute - 1 not in (5, 6, 7) else []))
        morning.stream.refuses = minute < 30
        if minute == 30:
            morning.stream.past = bars("A", range(60))
        morning.at(minute)
    assert morning.gaps() == []
    filled = morning.live.filler.filled
    assert filled.filter(pl.col("symbol") == "A").select("gap_start", "gap_end").rows() == [
        (OPEN + 5 * MINUTE, OPEN + 8 * MINUTE)
    ]


@pytest.mark.parametrize("silent", [30, 180, 270])
def test_gap_that_stops_growing_is_asked_for_within_two_intervals(silent: int) -> None:
    morning = Morning()
    morning.live.start()
    end, closed = 5 + silent, None
    for minute in range(1, end + 6):
        if minute <= 5 or minute > end:
            morning.stream.push(bars("A", [minute - 1]))
        if minute == end:
            morning.stream.past = bars("A", range(390))
        morning.at(minute)
        if minute > end and closed is None and not morning.gaps():
            closed = minute
    assert closed is not None
    assert closed <= end + 3


def test_gap_that_is_filled_in_part_shows_that_part_as_filled(tmp_path: Path) -> None:
    morning = launched(tmp_path / "out", -5)
    morning.stream.push(bars("A", [0, 4]))
    morning.at(5)
    morning.stream.past = bars("A", [2])
    morning.stream.push(bars("A", [5]))
    morning.at(6).at(7)
    morning.live.close()
    gaps = scanned(tmp_path / "out", "gaps").sort("gap_start")
    shown = [((row["gap_start"] - OPEN) // MINUTE, row["state"]) for row in gaps.iter_rows(named=True)]
    assert [one for one in shown if one[0] < 5] == [(1, "retrying"), (2, "filled"), (3, "retrying")]
    assert verify(tmp_path / "out").is_empty()
    with pytest.raises(CoverageError) as raised:
        engine.check(tmp_path / "out", "A", OPEN, OPEN + 5 * MINUTE, as_of=OPEN + 7 * MINUTE)
    assert [(at - OPEN) // MINUTE for at in raised.value.holes["hole_start"]] == [1, 3]
    assert raised.value.preflight.frame["missing"].to_list() == [2]
    again = launched(tmp_path / "out", 7)
    assert again.live.filler.filled.height == 1


def test_revision_that_first_has_a_gap_says_when_it_is_asked_for(tmp_path: Path) -> None:
    morning = launched(tmp_path / "out", -5)
    morning.stream.push(bars("A", [minute for minute in range(30) if minute != 10]))
    morning.at(30)  # killed after this step: the next process has the revision alone
    waits = dt.timedelta(seconds=morning.live.config.gaps.interval_seconds)
    gaps = scanned(tmp_path / "out", "gaps")
    assert gaps.select("bar_count", "retry_count", "next_retry").rows() == [(1, 0, OPEN + 30 * MINUTE + waits)]


def test_gaps_that_are_due_together_are_one_request() -> None:
    morning = Morning()
    morning.live.start()
    morning.stream.push(bars("A", range(0, 20, 2)))
    morning.at(19)
    asked = len(morning.stream.asked)
    morning.at(20)
    (request,) = [one for one in morning.stream.asked[asked:] if one.symbol == "A"]
    assert (request.start, request.end) == (OPEN + MINUTE, OPEN + 18 * MINUTE)


def test_start_on_a_folder_does_not_count_its_own_reading_as_duplicates(tmp_path: Path) -> None:
    start = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - 90 * MINUTE
    (tmp_path / "drops").mkdir()
    config = SessionConfig.of({
        "session": {"calendar": "24/7", "mode": "live", "symbols": ["A"]}, "streams": {"bars": "1m"},
        "source": {"kind": "folder", "paths": [str(tmp_path / "drops")], "options": {"settle_seconds": 0, "poll_seconds": 0}},
        "export": {"target": str(tmp_path / "out")}, "live": {"grace_seconds": 0},
    })  # fmt: skip

    def drop(name: str, minutes: range, close: float = 10.0) -> None:
        stamps = pl.Series("ts", [start + minute * MINUTE for minute in minutes], dtype=BARS["ts"])
        rows = bars("A", minutes, close).with_columns(stamps)
        rows.select("symbol", "ts", "open", "high", "low", "close", "volume").write_csv(tmp_path / "drops" / name)

    def session() -> None:
        time.sleep(0.1)
        live = LiveSession(config, open_stream(config), fetch_aside=False)
        live.start()
        live.step()
        live.close()

    drop("one.csv", range(40))
    drop("two.csv", range(30, 50), 11.0)
    session()
    drop("three.csv", range(48, 60), 11.0)
    for _ in range(2):
        session()
    quality = scanned(tmp_path / "out", "quality").select(pl.col("present", "duplicates", "corrections").sum())
    assert quality.row(0) == (60, 2, 10)
    closes = scanned(tmp_path / "out", "bars").sort("ts")["close"].to_list()
    assert closes == [10.0] * 30 + [11.0] * 30


def test_session_that_lives_for_days_holds_the_last_ones_and_exports_what_one_that_holds_all_does(
    tmp_path: Path,
) -> None:
    held = {}
    for name, more in (("last", {}), ("all", {"start": dt.date(2024, 6, 27)})):
        target = tmp_path / name
        config = configured(
            export={"target": str(target), "every_seconds": 0}, derive=["5m", "1d"], gaps={"fill": False}
        )
        config = config.model_copy(update={"session": config.session.model_copy(update=more)})
        morning = Morning(HandStream(), config, -60)
        morning.live.start()
        for day in (0, 4 * DAY, TUESDAY):
            morning.stream.push(bars("A", [minute for minute in range(day, day + 390) if minute != day + 7]))
            if (
                day == TUESDAY
            ):  # of a session that is in the export alone, one that was missing and one that is corrected
                morning.stream.push(bars("A", [7, 8], close=12.0))
            morning.at(day + 391)
        held[name] = morning.session.bars("A", "1m")["session"].unique().sort().to_list()
        morning.live.close()
    days = [dt.date(2024, 6, 27), dt.date(2024, 7, 1), dt.date(2024, 7, 2)]
    assert (held["last"], held["all"]) == (days[1:], days)
    for table in DATA_TABLES:
        one, other = (open_dataset(tmp_path / name).scan(table).drop("revision").collect() for name in held)
        assert one.sort(*KEYS[table]).equals(other.sort(*KEYS[table])), table
    counted = scanned(tmp_path / "last", "quality").sort("session")
    assert counted.filter(session=days[0]).select("missing", "corrections").row(0) == (0, 1)
    assert verify(tmp_path / "last").is_empty()


def test_what_was_missed_before_a_start_comes_after_the_close_that_the_history_was_down_over(tmp_path: Path) -> None:
    target, export = tmp_path / "out", {"target": str(tmp_path / "out"), "every_seconds": 0}
    first = launched(target, -5, export=export)
    first.stream.push(bars("A", range(100)))
    first.at(100).live.close()
    second = Morning(HandStream(bars("A", range(200))), configured(export=export), 200)
    second.stream.refuses = True
    second.live.start()
    second.stream.push(bars("A", range(200, 390)))
    second.at(391)
    second.stream.refuses = False
    second.at(DAY - 60).live.close()
    assert scanned(target, "bars").height == 390


def test_target_that_cannot_be_read_ends_no_session(tmp_path: Path) -> None:
    morning = two_days(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "away")
    morning.stream.push(bars("A", [7, TUESDAY - 1]))
    morning.at(TUESDAY - 60)
    (rejected,) = morning.session.snapshot().rejects
    assert rejected.height == 1
    assert "which cannot be read" in rejected["reason"][0]
    assert "1 late rows were rejected" in morning.live.coordinator.totals.notes[-1]


@pytest.mark.parametrize(
    ("replaced_by", "found"),
    [
        ("nothing", "has no revision"),
        ("another store", "of another store"),
        ("its earlier state", "ends with revision"),
    ],
)
def test_target_that_is_removed_or_replaced_gets_no_export_without_the_dropped_sessions(
    replaced_by: str, found: str, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    morning = two_days(target, copy=tmp_path / "earlier")
    target.rename(tmp_path / "away")
    if replaced_by == "another store":
        launched(target, TUESDAY - 60).live.close()
    elif replaced_by == "its earlier state":
        (tmp_path / "earlier").rename(target)
    before = sorted(target.rglob("*"))
    morning.stream.push(bars("A", range(TUESDAY, TUESDAY + 390)))
    morning.at(TUESDAY + 391)
    assert found in morning.live.errors[-1]
    assert [one for one in sorted(target.rglob("*")) if one not in before] == []
    with pytest.raises(ExportError, match="that target, or a new session for another one"):
        morning.live.close()
    shutil.rmtree(target, ignore_errors=True)
    (tmp_path / "away").rename(target)
    morning.live.close()
    assert scanned(target, "bars").height == 3 * 390


def test_session_goes_on_with_a_target_that_was_repaired_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "out"
    morning = two_days(target)
    next(path for path in open_dataset(target).files("bars") if "2024-06" in str(path)).unlink()
    assert "dropped" in repair(target, drop_damaged=True).actions["action"].to_list()
    morning.stream.push(bars("A", range(TUESDAY, TUESDAY + 390)))
    morning.at(TUESDAY + 391).live.close()
    assert not morning.live.errors
    kept = scanned(target, "bars")["session"].value_counts(sort=True).rows()
    assert sorted(kept) == [(dt.date(2024, 6, 27), 360), (dt.date(2024, 7, 1), 390), (dt.date(2024, 7, 2), 390)]


@pytest.mark.parametrize("every_seconds", [0, 60])
def test_export_that_fails_is_told_and_repeated_and_ends_no_session(every_seconds: int, tmp_path: Path) -> None:
    target = tmp_path / "out"
    morning = launched(
        target, -60, gaps={"fill": False}, export={"target": str(target), "every_seconds": every_seconds}
    )
    morning.stream.push(bars("A", range(390)))
    morning.at(10)
    if every_seconds:
        target.rename(tmp_path / "away")
    target.write_text("a file in the place of the folder")
    morning.at(391)
    assert "export: " in morning.live.errors[-1]
    assert "it is repeated" in morning.live.errors[-1]
    errors = morning.live.error_count
    assert morning.session.snapshot().held_from is None
    target.unlink()
    if every_seconds:
        (tmp_path / "away").rename(target)
    morning.at(393)
    assert morning.live.error_count == errors
    assert scanned(target, "bars").height == 390
    assert morning.session.snapshot().held_from == dt.date(2024, 6, 26)
    morning.live.close()


def test_sessions_are_dropped_once_the_export_of_a_close_that_failed_is_repeated(tmp_path: Path) -> None:
    target = tmp_path / "out"
    morning = launched(target, -60, gaps={"fill": False})
    for day in (0, 4 * DAY):
        morning.stream.push(bars("A", range(day, day + 390)))
        morning.at(day + 30)
        target.rename(tmp_path / "away")
        target.write_text("a file in the place of the folder")
        morning.at(day + 390)
        target.unlink()
        (tmp_path / "away").rename(target)
        morning.at(day + 393)
    assert len(morning.live.errors) == 2
    assert morning.session.snapshot().held_from == dt.date(2024, 6, 30)


def test_start_after_a_compaction_goes_on_from_when_the_session_wrote(tmp_path: Path) -> None:
    day_of(tmp_path / "out", 0, stop=True)
    before = Continuation.of(tmp_path / "out")
    done = compact(tmp_path / "out", clock=ManualClock(OPEN + dt.timedelta(days=3)))
    after = Continuation.of(tmp_path / "out")
    assert before is not None
    assert after is not None
    assert (done.revision, after.dataset.revision) == (before.dataset.revision + 1,) * 2
    assert after.entry["written_at"] > before.entry["written_at"]
    assert after.written_at == before.written_at


def test_target_that_is_out_of_reach_ends_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    morning = two_days(tmp_path / "out")

    def refused(path: Path) -> list[Path]:
        raise ConnectionRefusedError(f"{path}: connection refused")

    revisions = morning.live.coordinator.totals.exports
    with monkeypatch.context() as patched:
        patched.setattr(delta_table, "log_entries", refused)
        morning.stream.push(bars("A", [7, *range(TUESDAY, TUESDAY + 390)]))
        morning.at(TUESDAY + 391)
    assert "connection refused; it is repeated" in morning.live.errors[-1]
    assert morning.live.coordinator.totals.exports == revisions
    morning.at(TUESDAY + 393).live.close()
    assert scanned(tmp_path / "out", "bars").height == 3 * 390
    assert morning.live.coordinator.totals.exports == revisions + 1


def test_step_does_not_wait_for_another_process_that_writes_to_the_target(tmp_path: Path) -> None:
    target = tmp_path / "out"
    morning = launched(target, -60, gaps={"fill": False})
    morning.stream.push(bars("A", range(390)))
    morning.at(10)
    with lock_target(target, 0):
        morning.at(12)
    assert "another export is writing to it (waited 1 s" in morning.live.errors[-1]
    morning.at(391)
    assert scanned(target, "bars").height == 390


def test_export_that_does_not_end_is_left_and_ends_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, begun, clock = threading.Event(), [], ManualClock(OPEN - MINUTE)
    export = deployments.export_session

    def blocked(*arguments: object, **options: object) -> int:
        begun.append(clock.now())
        assert may_end.wait(60)
        return export(*arguments, **options)  # type: ignore[arg-type]

    config = configured(export={"target": str(tmp_path / "out"), "every_seconds": 60}, gaps={"fill": False})
    stream = HandStream()
    live = LiveSession(config, stream, clock)
    live.start()
    monkeypatch.setattr(deployments, "export_session", blocked)
    monkeypatch.setattr(live_module, "EXPORT_SECONDS", 0.2)
    stream.push(bars("A", range(10)))
    for minute in (2, 4, 6):
        clock.set(OPEN + minute * MINUTE)
        live.step()
    assert "out: the export has not returned in 0.2 s; it was left; it is repeated" in live.errors[0]
    assert "an export that began before has not ended" in live.errors[1]
    assert len(begun) == 1
    may_end.set()
    monkeypatch.setattr(live_module, "EXPORT_SECONDS", 60)
    clock.set(OPEN + 10 * MINUTE)
    live.step()
    assert scanned(tmp_path / "out", "bars").height == 10
    live.close()
    assert len(live.errors) == 3


@pytest.mark.parametrize("minute", [-60, 10])
def test_start_with_a_target_that_cannot_be_exported_to_is_an_error(minute: int, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file in the place of the folder")
    with pytest.raises(ExportError, match="is a file; valid: a folder"):
        launched(tmp_path / "out", minute, past=bars("A", range(10)))
