"""`run` in parts: on any executor, the export equals that of one process."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.cli.commands import app
from engine.errors import ExportError, ParameterError, SourceError
from engine.export import session_export as export_session
from engine.export.dataset import open_dataset
from engine.export.share_place import SHARES
from engine.export.tables import KEYS, LIVE, PARTITION
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.runtime import executor, partitioned_run
from engine.runtime.executor import DaskExecutor, ProcessExecutor, SerialExecutor
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.partitioned_run import run_partitioned
from engine.runtime.run import run
from engine.simulation.faults import FaultPlan
from engine.simulation.feed import write_csv
from engine.simulation.sessions import Market, simulate
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

OPTIONS = LoadOptions(CalendarMap("XNYS"), derive=(Interval(5, "m"), Interval(1, "h"), Interval(1, "d")))
STORE_COLUMNS = ("written_at", "store_id", "store_revision")
HOSTILE = "=cmd|'[/]"


@pytest.fixture(scope="module")
def market():
    # Over the end of a month, so that there are two folders of each interval.
    segments = calendar("XNYS").segments(dt.date(2024, 10, 31), dt.date(2024, 11, 4))
    grid = SessionGrid.build(segments, "1m", GridSpec("XNYS"))
    return simulate(grid, Market.of(4, 5), FaultPlan(outage=1, missing_middle=2, duplicate=3, correction=2, bad_row=3))


@pytest.fixture
def folder(market, tmp_path, monkeypatch) -> Path:
    path = tmp_path / "feed"
    write_csv(market.rows, path)
    (path / "ZZZ.csv").write_text("nothing to see here\n")
    first = min(path.rglob("*.csv"))
    rest = path / "XHKG9.csv"
    rest.write_text(first.read_text().replace(first.stem, "XHKG9"))
    monkeypatch.setattr(partitioned_run, "BYTES_PER_TASK", 100_000)
    return path


def contents(target: Path) -> dict[str, pl.DataFrame]:
    dataset = open_dataset(target)
    tables = {name: dataset.scan(name).collect() for name in dataset.tables}
    # The last session's rows have files of their own, as many as there are batches.
    # Workers write a folder a month, one process a folder a year that is small.
    tables |= {name: tables[name].sort(KEYS[name]) for name in (*LIVE, *PARTITION)}
    return {**tables, "exports": tables["exports"].drop(*STORE_COLUMNS, "table_versions")}


def expect_equal(one: Path, other: Path) -> None:
    here, there = contents(one), contents(other)
    assert list(here) == list(there)
    for name, rows in here.items():
        assert_frame_equal(there[name], rows, check_exact=True)


@pytest.mark.parametrize(
    ("options", "batch"),
    [
        (OPTIONS, 1 << 20),
        (OPTIONS, 700),
        (replace(OPTIONS, as_of=dt.datetime(2024, 11, 1, 15, 0, tzinfo=dt.UTC), incomplete="drop"), 1 << 20),
        (replace(OPTIONS, dates=(None, dt.date(2024, 11, 1)), calendars=CalendarMap("XNYS", (("XHKG*", "XHKG"),))), 700),
    ],
    ids=["all", "small batches", "as of noon", "two calendars"],
)  # fmt: skip
def test_run_in_parts_exports_what_one_process_does(folder, tmp_path, monkeypatch, options, batch):
    whole = run([folder], options, tmp_path / "whole")
    monkeypatch.setattr(export_session, "ROWS_PER_BATCH", batch)
    assert len(partitioned_run.plan_tasks([folder], options)[0]) > 2
    cut = run_partitioned([folder], options, tmp_path / "cut", SerialExecutor())
    expect_equal(tmp_path / "whole", tmp_path / "cut")
    assert contents(tmp_path / "cut")["rejects"].height
    told = ("files", "rows", "duplicates", "corrections", "rejected")
    assert [getattr(cut.loaded, name) for name in told] == [getattr(whole.loaded, name) for name in told]
    assert cut.derived == whole.derived
    assert sorted(cut.loaded.notes) == sorted(whole.loaded.notes)
    assert sorted(cut.loaded.problems, key=repr) == sorted(whole.loaded.problems, key=repr)
    assert not (tmp_path / "cut" / SHARES).exists()


def test_run_in_parts_onto_an_export_is_its_next_revision(folder, tmp_path):
    for target in ("whole", "cut"):
        run([folder], OPTIONS, tmp_path / target)
    run([folder], OPTIONS, tmp_path / "whole")
    assert run_partitioned([folder], OPTIONS, tmp_path / "cut", SerialExecutor()).export_revision == 2
    expect_equal(tmp_path / "whole", tmp_path / "cut")


def dies_once(task, function, folder: Path):
    mark = folder / "died"
    if not mark.exists():
        mark.touch()
        os._exit(9)
    return function(task)


class Deadly:
    """Two processes, of which one dies at its first task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, function, tasks):
        yield from ProcessExecutor(2).run(partial(dies_once, function=function, folder=self.folder), tasks)

    def open_pool(self):
        return nullcontext(self)


def test_run_in_parts_a_worker_that_dies_changes_nothing(folder, tmp_path):
    run([folder], OPTIONS, tmp_path / "whole")
    run_partitioned([folder], OPTIONS, tmp_path / "cut", Deadly(tmp_path))
    assert (tmp_path / "died").exists()
    expect_equal(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.filterwarnings("default")
def test_run_on_dask_exports_what_one_process_does(folder, tmp_path):
    pytest.importorskip("distributed")
    run([folder], OPTIONS, tmp_path / "whole")
    run_partitioned([folder], OPTIONS, tmp_path / "cut", DaskExecutor("local", 1))
    expect_equal(tmp_path / "whole", tmp_path / "cut")


def test_run_in_parts_reuses_shares_that_exist(folder, tmp_path, monkeypatch):
    made = []
    work = tmp_path / "work"
    original = partitioned_run.make_share
    monkeypatch.setattr(partitioned_run, "make_share", lambda task, place: made.append(task) or original(task, place))

    def stop(*_: object, **__: object) -> None:
        raise ExportError("stopped before the commit")

    with monkeypatch.context() as stopped:
        stopped.setattr(partitioned_run, "commit_shares", stop)
        with pytest.raises(ExportError, match="stopped"):
            run_partitioned([folder], OPTIONS, tmp_path / "one", SerialExecutor(), work)
    tasks = len(made)
    changed = next(folder.rglob("XHKG9.csv"))
    os.utime(changed, (1, 1))
    run_partitioned([folder], OPTIONS, tmp_path / "one", SerialExecutor(), work)
    assert len(made) == tasks + 1
    run([folder], OPTIONS, tmp_path / "two")
    expect_equal(tmp_path / "one", tmp_path / "two")


@dataclass(frozen=True)
class Elsewhere(SerialExecutor):
    """As on another machine: tasks and results are bytes, and nothing in them leads to a folder of the client."""

    client: Path

    def run(self, function, tasks):
        for number, task in enumerate(tasks):
            sent = pickle.dumps((function, task))
            assert str(self.client).encode() not in sent
            received, its_task = pickle.loads(sent)  # noqa: S301 - its own
            yield number, pickle.loads(pickle.dumps(received(its_task)))  # noqa: S301


def test_run_in_parts_begins_anew_when_another_export_was_faster(folder, tmp_path, monkeypatch):
    commit = partitioned_run.commit_shares
    others = []

    def commit_after_another(shares, files, place, **state):
        if not others:
            others.append(run([folder / "XHKG9.csv"], OPTIONS, tmp_path / "cut").export_revision)
        return commit(shares, files, place, **state)

    monkeypatch.setattr(partitioned_run, "commit_shares", commit_after_another)
    workers = Elsewhere(client=tmp_path / "client")
    cut = run_partitioned([folder], OPTIONS, tmp_path / "cut", workers, tmp_path / "client")
    assert (others, cut.export_revision) == ([1], 2)
    run([folder / "XHKG9.csv"], OPTIONS, tmp_path / "whole")
    run([folder], OPTIONS, tmp_path / "whole")
    expect_equal(tmp_path / "whole", tmp_path / "cut")
    assert not (tmp_path / "cut" / SHARES).exists()


def test_run_in_parts_a_symbol_in_two_tasks_is_assessed_whole(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(partitioned_run, "BYTES_PER_TASK", 1)
    bars = contents_of_one(folder)
    other = bars.with_columns(close=pl.col("high"))  # corrections of the file before it
    of_two = [
        bars.with_columns(pl.lit(HOSTILE).alias("symbol")),
        other.head(200).with_columns(pl.lit("XHKG9").alias("symbol")),
    ]
    pl.concat(of_two).write_parquet(folder / "everything.parquet")
    hours = bars.filter(pl.col("ts").dt.minute() == 30).with_columns(pl.lit(HOSTILE).alias("symbol"))
    hours.write_parquet(folder / "=cmd_1h.parquet")
    whole = run([folder], OPTIONS, tmp_path / "whole")
    cut = run_partitioned([folder], OPTIONS, tmp_path / "cut", SerialExecutor())
    expect_equal(tmp_path / "whole", tmp_path / "cut")
    assert cut.loaded.corrections == whole.loaded.corrections > 0
    assert cut.loaded.rows == whole.loaded.rows


def contents_of_one(folder: Path) -> pl.DataFrame:
    run([folder / "XHKG9.csv"], OPTIONS, folder.parent / "one")
    bars = contents(folder.parent / "one")["bars"]
    return bars.filter(pl.col("interval") == "1m").select("ts", "open", "high", "low", "close", "volume")


def test_run_in_parts_files_that_do_not_tell_their_symbol_are_one_task(folder, tmp_path):
    bars = contents_of_one(folder)
    for name, symbol in (("all", HOSTILE), ("more", HOSTILE), ("others", "ABC")):
        part = bars.head(500) if name == "all" else bars.tail(500)
        part.with_columns(pl.lit(symbol).alias("symbol")).write_parquet(folder / f"{name}.parquet")
    run([folder], OPTIONS, tmp_path / "whole")
    run_partitioned([folder], OPTIONS, tmp_path / "cut", SerialExecutor())
    expect_equal(tmp_path / "whole", tmp_path / "cut")
    assert HOSTILE in contents(tmp_path / "cut")["symbols"]["symbol"]


@pytest.mark.parametrize("text", ["nothing to see here\n", "ts,open,high,low,close\n2024-11-01T14:00:00Z,1,0,1,1\n"])
def test_run_in_parts_of_nothing_fails_as_one_process_does(tmp_path, text):
    (tmp_path / "feed").mkdir()
    (tmp_path / "feed" / "SPY.csv").write_text(text)
    with pytest.raises(SourceError) as alone:
        run([tmp_path / "feed"], replace(OPTIONS, interval=Interval(1, "m")), tmp_path / "whole")
    with pytest.raises(SourceError) as apart:
        run_partitioned(
            [tmp_path / "feed"], replace(OPTIONS, interval=Interval(1, "m")), tmp_path / "cut", SerialExecutor()
        )
    assert str(apart.value) == str(alone.value)


def test_command_with_workers_prints_what_it_prints_without(folder, tmp_path):
    def told(*more: str) -> dict[str, object]:
        command = ["run", str(folder), "--calendar", "XNYS", "--export", str(tmp_path / "out"), "--json", *more]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 3, done.output
        return {**json.loads(done.stdout), "export_revision": None}

    assert told("--workers", "2") == told()
    assert not (tmp_path / "out.parts").exists()


def test_command_with_workers_exports_to_a_store(folder, tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["run", str(folder), "--calendar", "XNYS", "--derive", "5m,1h,1d", "--workers", "1", "--export", store]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 3, done.output
    run([folder], OPTIONS, tmp_path / "whole")
    expect_equal(tmp_path / "whole", store)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["feed", "whole"]


def test_command_with_workers_needs_an_export(folder):
    done = CliRunner().invoke(app, ["run", str(folder), "--calendar", "XNYS", "--workers", "2"])
    assert isinstance(done.exception, ParameterError)
    assert "--workers and --dask need --export" in str(done.exception)


def test_command_with_workers_that_fails_says_what_stays_and_the_next_removes_it(folder, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise ExportError("No space left on device")

    monkeypatch.setattr(executor, "choose_executor", lambda *_: SerialExecutor())
    target = tmp_path / "out"
    command = ["run", str(folder), "--calendar", "XNYS", "--workers", "1", "--export", str(target), "--derive", "5m"]
    with monkeypatch.context() as filled:
        filled.setattr(partitioned_run, "commit_shares", full)
        failed = CliRunner().invoke(app, command)
    assert f"{target}.parts and {target / SHARES} stay for --resume" in failed.stderr
    (old,) = (target / SHARES).iterdir()
    assert Path(f"{target}.parts").is_dir()
    with monkeypatch.context() as filled:
        filled.setattr(partitioned_run, "commit_shares", full)
        CliRunner().invoke(app, command)
    assert not old.exists()
    assert CliRunner().invoke(app, command[:4] + command[6:]).exit_code == 3
    assert not Path(f"{target}.parts").exists()
    assert not (target / SHARES).exists()
