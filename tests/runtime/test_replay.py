"""A finished replay equals a plain run of the same files, in steps of any length."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine
import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.clock import ManualClock
from engine.export.tables import DATA_TABLES
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.runtime.demo import PLAN, write_feed
from engine.runtime.deployments import ReplaySession
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.run import run
from engine.simulation.sessions import Instrument, Market, simulate
from engine.sources.streams.contract import HistoryRequest

from tests.runtime.feeds import (
    DAYS,
    HOUR,
    MINUTE,
    File,
    again,
    assert_same_tables,
    bars,
    closes,
    configured,
    later,
    minutes,
    opens,
    replayed,
    shown,
    write,
)

FIRST, SECOND = DAYS[1], DAYS[2]
DERIVED = ["5m", "1h", "1d", "1w"]
ROOT = Path(__file__).parents[2]


def quotes(days: tuple[dt.date, ...] = (FIRST, SECOND)) -> pl.DataFrame:
    """Every third one lacks a side."""
    stamps = [opens(day) + dt.timedelta(seconds=97 * n, microseconds=250_000) for day in days for n in range(40)]
    bid = [None if n % 3 == 0 else 10 + 0.01 * n for n in range(len(stamps))]
    ask = [None if n % 3 == 1 else 10.5 + 0.01 * n for n in range(len(stamps))]
    return pl.DataFrame({"ts": stamps, "bid": bid, "ask": ask, "bid_size": 3.0, "ask_size": 4.0, "available": stamps})


def ticks(days: tuple[dt.date, ...] = (FIRST, SECOND)) -> pl.DataFrame:
    """Every other one repeats the one before, which makes it no duplicate."""
    stamps = [opens(day) + dt.timedelta(seconds=41 * (n // 2), microseconds=1) for day in days for n in range(60)]
    price = [10 + 0.01 * (n // 2 % 17) for n in range(len(stamps))]
    return pl.DataFrame({"ts": stamps, "price": price, "size": 5.0, "available": stamps})


def corrected() -> list[File]:
    """A -> B -> A in three files, duplicates across files, late rows and bars that come only later."""
    whole = bars([*minutes(FIRST), *minutes(SECOND)])
    told = whole.filter(~pl.col("ts").is_in(minutes(FIRST, range(50, 60))))
    late = pl.concat([told.head(20), told[40:50], told[20:40], told[50:]])
    wrong, twice = whole[100:103], whole[5:8]
    return [
        File("1/AAA_1m.csv", pl.concat([late, bars(minutes(SECOND, [3]), 55.0)])),
        later("2/AAA_1m.csv", pl.concat([again(wrong, 70.0), twice]), whole[50:55]),
        later("3/AAA_1m.csv", pl.concat([wrong.head(2), again(wrong[2:3], 71.0)]), whole[55:58]),
    ]


WORLDS: dict[str, Callable[[], list[File]]] = {
    "corrections": corrected,
    "strays": lambda: [
        File("AAA_1m.csv", bars(
            [opens(FIRST) - HOUR, *minutes(FIRST), closes(FIRST) + HOUR, opens(SECOND) + dt.timedelta(seconds=7), *minutes(SECOND)]
        )),
        File("BBB_1m.csv", bars(minutes(SECOND, range(100, 200)))),
    ],
    "ticks": lambda: [File("AAA_trades.csv", ticks()), File("BBB_trades.csv", ticks((SECOND,)))],
    "quotes": lambda: [File("AAA_quotes.csv", quotes())],
    "ticks and quotes": lambda: [File("a/AAA_trades.csv", ticks()), File("b/AAA_quotes.csv", quotes()), File("c/BBB_1m.csv", bars(minutes(FIRST)))],
    "a day absent": lambda: [File("AAA_1m.csv", bars([*minutes(FIRST), *minutes(DAYS[3])])), File("BBB_1m.csv", bars(minutes(SECOND)))],
}  # fmt: skip


@pytest.mark.parametrize("name", WORLDS)
def test_replay_that_has_ended_equals_a_run_of_the_same_files(name: str, tmp_path: Path) -> None:
    folder = write(WORLDS[name](), tmp_path / "files")
    have = replayed(folder, derive=DERIVED).snapshot()
    want = engine.load(folder, "XNYS", derive=DERIVED).snapshot()
    assert want.bars().height > 0
    assert_same_tables(shown(have), shown(want))


@pytest.mark.parametrize("stamp", ["start", "end"])
def test_fetch_finds_bars_by_the_start_of_their_slot(tmp_path: Path, stamp: str) -> None:
    stamped = bars(minutes(FIRST)).with_columns(pl.col("ts") + (MINUTE if stamp == "end" else 0 * MINUTE))
    folder = write([File("AAA_1m.csv", stamped)], tmp_path)
    stream = ReplaySession(configured(folder, source={"read": {"stamp": stamp}})).stream
    stream.take(opens(FIRST) + HOUR)
    start, step = opens(FIRST) + 5 * MINUTE, Interval.parse("1m")
    wanted = HistoryRequest("AAA", "bars", step, start, start + MINUTE, GridSpec("XNYS"))
    later = HistoryRequest("AAA", "bars", step, opens(FIRST) + HOUR, closes(FIRST), GridSpec("XNYS"))
    (delivery,) = stream.fetch([wanted, later, wanted._replace(symbol="BBB")])
    assert [row["ts"] for frame in delivery.frames for row in frame.iter_rows(named=True)] == [stamped["ts"][5]]


def test_replay_of_corrections_counts_and_ends_with_the_last_values(tmp_path: Path) -> None:
    """That the law above speaks of something: the files do hold corrections, conflicts, duplicates and late bars."""
    session = replayed(write(corrected(), tmp_path), derive=DERIVED)
    first, second = session.quality(["AAA"]).filter(pl.col("interval") == "1m").rows(named=True)
    assert (first["corrections"], first["duplicates"], first["missing"]) == (6, 3, 2)
    assert (second["corrections"], second["duplicates"], second["missing"]) == (0, 0, 0)
    ended = session.bars("AAA", "1m")
    assert ended.filter(pl.col("ts").is_in(minutes(FIRST, [102])))["close"].to_list() == [71.0]
    assert ended.filter(pl.col("ts").is_in(minutes(FIRST, [100])))["close"][0] not in (70.0, 71.0)
    assert session.snapshot().tables()["rejects"].height == 1


def test_replay_of_two_calendars_in_one_folder_equals_a_run(tmp_path: Path) -> None:
    round_clock = [dt.datetime(2024, 7, 1, 22, tzinfo=dt.UTC) + n * 10 * MINUTE for n in range(200)]
    level = [100 + 0.1 * n for n in range(len(round_clock))]
    crypto = pl.DataFrame({"ts": round_clock, "open": level, "high": level, "low": level, "close": level, "volume": 1.5,
                           "available": round_clock})  # fmt: skip
    folder = write([File("AAA_1m.csv", bars(minutes(FIRST))), File("BTCUSD_1m.csv", crypto)], tmp_path)
    have = replayed(folder, session={"calendars": {"BTC*": "24/7"}}, derive=DERIVED)
    want = engine.load(folder, CalendarMap("XNYS", (("BTC*", "24/7"),)), derive=DERIVED)
    assert set(want.quality()["symbol"]) == {"AAA", "BTCUSD"}
    assert_same_tables(shown(have.snapshot()), shown(want.snapshot()))


def test_replay_with_kept_resolutions_equals_a_run_that_keeps_them(tmp_path: Path) -> None:
    hours = [opens(day) + n * HOUR for day in (FIRST, SECOND) for n in range(7)]
    feed = [
        File("AAA_1m.csv", bars([*minutes(FIRST), *minutes(SECOND)])),
        File("AAA_1h.csv", bars(hours, 44.0, HOUR)),
        File("AAA_1d.csv", bars([dt.datetime.combine(day, dt.time(), dt.UTC) for day in DAYS[:3]], 88.0)),
    ]
    folder = write(feed, tmp_path)
    have = replayed(folder, source={"keep_source": True}, derive=DERIVED)
    want = engine.load(folder, "XNYS", derive=DERIVED, keep_source=True)
    kept = want.bars().filter((pl.col("origin") == "source") & (pl.col("interval") != "1m"))
    assert dict(kept.group_by("interval").len().iter_rows()) == {"1h": 14, "1d": 3}
    assert_same_tables(shown(have.snapshot()), shown(want.snapshot()))


def test_replay_of_some_dates_with_history_equals_a_run_of_all_of_them(tmp_path: Path) -> None:
    folder = write([File("AAA_1m.csv", bars([at for day in DAYS for at in minutes(day)]))], tmp_path)
    part = {"start": DAYS[2], "end": DAYS[3]}
    have = replayed(folder, session=part, history=[{"sessions": 1}], derive=DERIVED)
    want = engine.load(folder, "XNYS", derive=DERIVED, start=DAYS[1], end=DAYS[3])
    assert want.bars(interval="1d")["session"].to_list() == list(DAYS[1:4])
    assert_same_tables(shown(have.snapshot()), shown(want.snapshot()))


def test_a_first_row_on_a_day_when_the_other_market_is_closed_does_not_move_the_first_date(tmp_path: Path) -> None:
    monday, sunday = opens(DAYS[1]), opens(DAYS[1]) - dt.timedelta(days=DAYS[1].weekday() + 1)
    coin = bars([monday + n * MINUTE for n in range(5)])
    moved = [pl.col("ts", "available") - (monday - sunday)]
    folder = write([File("BTC_1m.csv", coin.with_columns(moved)), File("AAA_1m.csv", bars(minutes(DAYS[1])))], tmp_path)
    calendars = {"calendar": "XNYS", "calendars": {"BTC": "24/7"}}
    session = ReplaySession(configured(folder, session=calendars))
    assert session._dates() == (sunday.date(), DAYS[1])


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four simulated sessions with every fault that can be planned."""
    grid = SessionGrid.build(calendar("XNYS").segments(DAYS[1], DAYS[4]), "1m", GridSpec("XNYS"))
    market = Market((Instrument("LIQD", 95.0, 120.0), Instrument("BANK", 41.0, 60.0), Instrument("THIN", 8.1, 3.0)), 7)
    fewer = {"missing_start": 1, "missing_middle": 2, "missing_end": 1, "halt": 1, "out_of_session": 3}
    simulation = simulate(grid, market, replace(PLAN, **fewer))
    folder = tmp_path_factory.mktemp("faulty") / "files"
    write_feed(simulation, folder)
    assert set(simulation.truth["kind"]) >= {
        "absent_session",
        "outage",
        "halt",
        "correction",
        "late",
        "bad_row",
        "conflict",
    }
    return folder


def test_replay_of_simulated_faults_leaves_the_tables_and_csv_files_of_a_run(faulty: Path, tmp_path: Path) -> None:
    part = {"start": DAYS[1], "end": DAYS[4]}
    session = replayed(faulty, session=part, derive=DERIVED, export={"target": tmp_path / "replay"})
    options = LoadOptions(CalendarMap("XNYS"), derive=tuple(map(Interval.parse, DERIVED)), dates=(DAYS[1], DAYS[4]))
    outcome = run([faulty], options, tmp_path / "run")
    assert_same_tables(shown(session.snapshot()), shown(outcome.session.snapshot()))
    exported = {name: engine.open_dataset(tmp_path / name) for name in ("replay", "run")}
    for name, dataset in exported.items():
        engine.write_csv(dataset, tmp_path / f"{name}-csv")
    for table in DATA_TABLES:
        have, want = (csv(tmp_path / f"{name}-csv" / f"{table}.csv") for name in exported)
        assert have == want, table
        assert table in ("quotes", "ticks", "open_interest", "fills") or len(want) > 1


def csv(path: Path) -> list[str]:
    """Lines of a CSV file without the revision that wrote each row, the head first and the others in one order."""
    rows = pl.read_csv(path, infer_schema=False).drop("revision", strict=False)
    head, *lines = rows.write_csv().splitlines()
    return [head, *sorted(lines)]


LEAN = {
    "equity minutes": ("equity/usa/minute/spy/20131007_trade.zip", "equity/usa/minute/spy/20131008_trade.zip"),
    "equity seconds": ("equity/usa/second/bac",),
    "equity ticks and quotes": ("equity/usa/tick/bac/20131007_trade.zip", "equity/usa/tick/bac/20131007_quote.zip"),
    "equity hours and days": ("equity/usa/hour/bac.zip", "equity/usa/daily/bac.zip"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow if one != "equity minutes" else []) for one in LEAN]
)
def test_replay_of_vendor_files_equals_a_run_of_them(name: str, vendor: Path) -> None:
    paths = [vendor / "lean" / one for one in LEAN[name]]
    if absent := [one for one in paths if not one.exists()]:
        pytest.skip(f"no {absent[0]}")
    kept = {"paths": paths, "keep_source": True}
    dates: dict[str, Any] = {"start": dt.date(2013, 10, 1), "end": dt.date(2013, 10, 31)}
    have = replayed(paths[0], session=dates, source=kept, streams={"bars": "auto"}, derive=["1d"])
    base = have.snapshot().symbol_table()["base_interval"][0]
    want = engine.load(paths, "XNYS", derive=["1d"], keep_source=True, interval=base, **dates)
    assert want.bars().height > 0
    assert_same_tables(shown(have.snapshot()), shown(want.snapshot()))


@pytest.fixture
def two_days(tmp_path: Path) -> Path:
    feed = [*corrected(), File("1/BBB_1m.csv", bars(minutes(SECOND)))]
    return write(feed, tmp_path / "files")


def test_replay_twice_exports_the_same_rows_and_revisions(two_days: Path, tmp_path: Path) -> None:
    digests = []
    # Neither the order of sets nor the number of threads may be seen.
    for number, (seed, threads) in enumerate([("1", "1"), ("2", "2")]):
        target = tmp_path / str(number)
        environment = {**os.environ, "PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": threads}
        command = [sys.executable, "-c", REPLAY, str(two_days), str(target)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=300, env=environment)
        dataset = engine.open_dataset(target)
        tables = {name: dataset.scan(name).collect() for name in DATA_TABLES}
        digests.append({**tables, "exports": dataset.exports.drop("written_at")})
    first, second = digests
    assert first["exports"].height > 4
    assert first["bars"]["revision"].n_unique() > 1
    # The files of an export are named after what they hold.
    assert_same_tables(second, first)


REPLAY = """
import sys
from pathlib import Path
from tests.runtime.feeds import configured
from engine.runtime.deployments import ReplaySession
folder, target = map(Path, sys.argv[1:])
ReplaySession(configured(folder, export={"target": target, "every_seconds": 7200})).run()
"""


def test_replay_of_other_files_or_another_question_is_another_store(two_days: Path) -> None:
    def store(**parts: Any) -> str:
        return ReplaySession(configured(two_days, **parts)).session.snapshot().store_id

    ids = [store(), store(derive=["5m"]), store(source={"paths": [two_days / "1"]}), store(replay={"step_seconds": 60})]
    assert len(set(ids)) == 4
    assert store(replay={"speed": 60}, export={"target": "elsewhere"}) == ids[0]


@pytest.mark.parametrize("seconds", [7200, 23_000, 86_400 * 3])
def test_replay_in_other_steps_ends_with_the_same_tables(two_days: Path, seconds: int) -> None:
    want = engine.load(two_days, "XNYS", derive=DERIVED).snapshot()
    have = replayed(two_days, derive=DERIVED, replay={"step_seconds": seconds})
    assert_same_tables(shown(have.snapshot()), shown(want))


class Sleeper:
    """Time that passes only by sleeping, or by working."""

    def __init__(self) -> None:
        self.clock = ManualClock(dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.work(seconds)

    def work(self, seconds: float) -> None:
        self.clock.set(self.clock.now() + dt.timedelta(seconds=seconds))


def paced(
    folder: Path, sleeper: Sleeper, speed: float | None = None, work: float = 0.0, **parts: Any
) -> list[dt.datetime]:
    parts["replay"] = {"step_seconds": 7200, **parts.get("replay", {})}
    replay = ReplaySession(configured(folder, **parts), clock=sleeper.clock)
    instants = []
    for step in replay.paced(sleeper, speed):
        instants.append(step.at)
        sleeper.work(work)
    return instants


def test_paced_replay_sleeps_as_long_as_its_sessions_take_and_not_for_nights(two_days: Path) -> None:
    sleeper = Sleeper()
    instants = paced(two_days, sleeper, 3600.0)
    assert instants[:2] == [opens(FIRST), opens(FIRST) + 2 * HOUR]
    assert opens(SECOND) in instants
    # Two sessions of 6.5 hours, an hour of them a second, two hours a step.
    assert sleeper.slept == pytest.approx([2.0, 2.0, 2.0, 0.5] * 2)


def test_paced_replay_that_works_long_sleeps_less_and_never_backwards(two_days: Path) -> None:
    sleeper = Sleeper()
    paced(two_days, sleeper, 3600.0, work=0.75)
    assert sleeper.slept == pytest.approx([1.25, 1.25, 1.25, 0.0] * 2)


def test_paced_replay_takes_the_speed_of_its_configuration(two_days: Path) -> None:
    slow, none = Sleeper(), Sleeper()
    paced(two_days, slow, replay={"speed": 60})
    paced(two_days, none)
    assert sum(slow.slept) == pytest.approx(2 * 6.5 * 60)
    assert none.slept == []


def test_paced_replay_ends_with_the_same_tables(two_days: Path) -> None:
    replay = ReplaySession(configured(two_days), clock=Sleeper().clock)
    for _ in replay.paced(lambda _: None, 1e6):
        pass
    assert_same_tables(shown(replay.session.snapshot()), shown(replayed(two_days).snapshot()))


def test_replay_with_exports_at_a_cadence_writes_what_was_there_then(two_days: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    replay = ReplaySession(configured(two_days, export={"target": target, "every_seconds": 7200}))
    then: dict[int, dict[str, pl.DataFrame]] = {}
    due: list[tuple[dt.datetime, int]] = []
    for step in replay.steps():
        if step.revision is not None:
            due.append((step.at, step.revision))
            then[step.revision] = shown(replay.session.snapshot())
            at = step.at if step.session is not None or replay.coordinator.phase != "finished" else None
            revision = engine.open_dataset(target, revision=step.revision)
            held = revision.scan("bars").collect()
            assert at is None or held["ts_end"].max() <= at
    # At the open of the second session no row is new since the close of the first: the revision stays.
    assert due == [
        (opens(FIRST) + 4 * HOUR, 1), (closes(FIRST), 2), (opens(SECOND), 2), (opens(SECOND) + 4 * HOUR, 3),
        (closes(SECOND), 4), (closes(SECOND), 5),
    ]  # fmt: skip
    assert engine.open_dataset(target).revision == 5
    for revision, tables in then.items():
        dataset = engine.open_dataset(target, revision=revision)
        held = {name: dataset.scan(name).collect() for name in DATA_TABLES if name in tables}
        for name, rows in held.items():
            same = [
                column for column in tables[name].columns if column in rows.columns and column != "derived_intervals"
            ]
            assert rows.select(same).sort(same).equals(tables[name].select(same).sort(same)), (revision, name)


def test_replay_without_a_cadence_writes_at_the_end_of_each_session_and_at_the_end(
    two_days: Path, tmp_path: Path
) -> None:
    replay = ReplaySession(configured(two_days, export={"target": tmp_path / "out"}))
    written = [step.at for step in replay.steps() if step.revision is not None]
    assert written == [closes(FIRST), closes(SECOND), closes(SECOND)]
