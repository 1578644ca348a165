"""Filling lost slots from a second source: what comes, what is refused, and that all of it can be taken back.

The market is made, so the right bars are known: the first vendor lacks some, the second has them, or has them wrongly.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from engine.audit.audit_files import read_audit_tables
from engine.cli.commands import app
from engine.errors import ExportError, ParameterError
from engine.export import dataset as dataset_module
from engine.export import session_export, tables
from engine.export.dataset import open_dataset
from engine.export.delta import apply_delta, read_delta
from engine.export.maintenance.verify import verify
from engine.export.tables import ADDED, DATA_TABLES, KEYS, TABLES
from engine.quality.causes.cause_table import CAUSES
from engine.query import sql
from engine.runtime import fill as filling
from engine.runtime.audit_report import write_audit
from engine.runtime.auditor import run_audit
from engine.runtime.fill import Filled, answers, drop_fill, fill
from engine.runtime.options import CalendarMap
from engine.runtime.run import export_session, load_options, run
from engine.store import views
from typer.testing import CliRunner

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
SYMBOLS = ("AAA", "BBB", "CCC")
HOLES = frozenset({(1, m) for m in range(60, 80)} | {(2, m) for m in range(100, 103)})
AMOUNTS = ["open", "high", "low", "close"]


@cache
def market(symbol: str) -> pl.DataFrame:
    """Four sessions of a price that moves by 7 bp a minute, with the day and the minute of each bar."""
    dice = np.random.default_rng(SYMBOLS.index(symbol))
    close = 100 * np.exp(np.cumsum(dice.normal(0, 0.0007, 4 * 390)))
    opened = np.append(100.0, close[:-1])
    day, minute = np.divmod(np.arange(4 * 390), 390)
    return pl.DataFrame({
        "symbol": symbol, "day": day, "minute": minute,
        "ts": [OPEN + dt.timedelta(days=int(d), minutes=int(m)) for d, m in zip(day, minute, strict=True)],
        "open": opened, "high": np.maximum(opened, close) * 1.0002, "low": np.minimum(opened, close) * 0.9998,
        "close": close, "volume": dice.integers(50, 500, 4 * 390).astype(float),
    })  # fmt: skip


def bars(symbol: str, lost: frozenset[tuple[int, int]] = frozenset()) -> pl.DataFrame:
    places = pl.DataFrame(sorted(lost), schema={"day": pl.Int64, "minute": pl.Int64}, orient="row")
    return market(symbol).join(places, on=["day", "minute"], how="anti", maintain_order="left").drop("day", "minute")


def write(folder: Path, frames: Sequence[pl.DataFrame]) -> Path:
    folder.mkdir()
    for rows in frames:
        rows.write_csv(folder / f"{rows['symbol'][0]}.csv")
    return folder


def contents(target: Path, revision: int | None = None) -> dict[str, pl.DataFrame]:
    dataset = open_dataset(target, revision)
    frames = {name: dataset.scan(name).collect().drop("revision") for name in DATA_TABLES}
    return {name: rows.sort(*KEYS[name], *(["gap_end"] if name == "gaps" else [])) for name, rows in frames.items()}


def assert_same(left: dict[str, pl.DataFrame], right: dict[str, pl.DataFrame], *tables: str) -> None:
    for name in tables or DATA_TABLES:
        assert left[name].equals(right[name]), name


OPTIONS = load_options("XNYS", derive=["5m", "1h", "1d", "1w"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BBB lacks twenty minutes of the second session and three of the third."""
    folder = tmp_path_factory.mktemp("fill")
    files = write(folder / "a", [bars(name, HOLES if name == "BBB" else frozenset()) for name in SYMBOLS])
    run(files, OPTIONS, export=folder / "out")
    return folder / "out"


@pytest.fixture
def out(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "out"))


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The same market; it lacks one of the minutes, too."""
    return write(tmp_path / "b", [bars("BBB", frozenset({(1, 65)}))])


def outcomes(done: Filled) -> list[tuple[str, int]]:
    return done.fills.sort("gap_start").select("outcome", "bar_count").rows()


def test_fill_equals_a_run_on_the_union_of_rows(out: Path, second: Path, tmp_path: Path) -> None:
    done = fill(out, second)
    assert outcomes(done) == [("answered", 5), ("empty", 1), ("answered", 14), ("answered", 3)]
    assert (done.revision, done.bars) == (2, 22)
    union = [bars(name, frozenset({(1, 65)}) if name == "BBB" else frozenset()) for name in SYMBOLS]
    run(write(tmp_path / "union", union), OPTIONS, export=tmp_path / "whole")
    filled, whole = contents(out), contents(tmp_path / "whole")
    made_by = ["provenance", "verdict"]
    assert filled["bars"].drop(made_by).equals(whole["bars"].drop(made_by))
    assert_same(filled, whole, "gaps", "quality", "sessions", "symbols")
    assert verify(out).is_empty()


def test_fill_names_source_and_verdict_of_each_row(out: Path, second: Path) -> None:
    fill(out, second)
    stored = contents(out)["bars"]
    base = stored.filter(pl.col("interval") == "1m")
    assert base["verdict"].value_counts().sort("verdict").rows() == [("filled", 22), ("observed", 4679 - 22)]
    assert base.filter(pl.col("verdict") == "filled")["provenance"].unique().to_list() == ["fill"]
    around = stored.filter(
        pl.col("symbol") == "BBB", pl.col("interval") == "5m", pl.col("session") == dt.date(2024, 1, 3)
    )
    told = dict(around.select(pl.col("ts").dt.strftime("%H:%M"), "verdict").iter_rows())
    assert [told[at] for at in ("15:25", "15:30", "15:35", "15:40", "15:45", "15:50")] == [
        "observed", "filled", "incomplete", "filled", "filled", "observed",
    ]  # fmt: skip
    days = stored.filter(pl.col("symbol") == "BBB", pl.col("interval") == "1d").sort("ts")
    assert days["verdict"].to_list() == ["observed", "incomplete", "filled", "observed"]


def test_drop_restores_every_table_exactly(out: Path, second: Path) -> None:
    before = contents(out)
    fill(out, second, name="B")
    assert answers(out)["source"].unique().to_list() == ["B"]
    done = drop_fill(out, "B")
    assert (done.revision, done.bars, done.fills.height) == (3, 22, 4)
    assert_same(contents(out), before)
    assert_same(contents(out, 1), before)
    assert verify(out).is_empty()
    exports = open_dataset(out).exports["store_id"].to_list()
    assert exports[0] == exports[2] != exports[1]


def test_fill_again_writes_no_revision(out: Path, second: Path) -> None:
    fill(out, second)
    filled = contents(out)
    again = fill(out, second)
    assert (again.revision, again.bars, again.is_written) == (2, 0, False)
    assert_same(contents(out), filled)
    assert outcomes(again) == [("empty", 1)]


def test_dry_run_says_the_same_and_writes_nothing(out: Path, second: Path) -> None:
    trial = fill(out, second, dry_run=True)
    assert (trial.revision, trial.is_written) == (1, False)
    assert open_dataset(out).revision == 1
    assert trial.fills.equals(fill(out, second).fills)


def test_two_sources_fill_what_each_has_and_leave_in_either_order(out: Path, tmp_path: Path) -> None:
    before = contents(out)
    first = write(tmp_path / "b", [bars("BBB", frozenset((1, m) for m in range(65, 80)))])
    other = write(tmp_path / "c", [bars("BBB", frozenset({(1, 79)}))])
    fill(out, first, name="B")
    with_b = contents(out)
    fill(out, other, name="C")
    assert sorted(answers(out).select("source", "outcome", "bar_count").rows()) == [
        ("B", "answered", 3), ("B", "answered", 5), ("B", "empty", 15), ("C", "answered", 14), ("C", "empty", 1),
    ]  # fmt: skip
    both = Path(shutil.copytree(out, tmp_path / "both"))
    drop_fill(out, "C")
    assert_same(contents(out), with_b)
    drop_fill(out, "B")
    assert_same(contents(out), before)
    drop_fill(both, "B")
    assert contents(both)["gaps"].filter(pl.col("interval") == "1m")["bar_count"].sum() == 23 - 14
    assert verify(both).is_empty()
    drop_fill(both, "C")
    assert_same(contents(both), before)


def test_consumer_of_deltas_follows_fills_and_their_removal(out: Path, second: Path) -> None:
    fill(out, second)
    copy = apply_delta({}, read_delta(out, 0, 2))
    fill(out, write(second.parent / "c", [bars("BBB")]), name="C")
    delta = read_delta(out, 2)
    assert not delta.full
    copy = apply_delta(copy, delta)
    now = {name: open_dataset(out).scan(name).collect().sort(KEYS[name]) for name in DATA_TABLES}
    assert all(copy[name].sort(KEYS[name]).equals(now[name]) for name in DATA_TABLES)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.with_columns(pl.col(AMOUNTS) * 100), "scale: its prices are 100 times ours"),
        (lambda rows: rows.with_columns(pl.col(AMOUNTS) / 4), "scale: its prices are 0.25 times ours"),
        (lambda rows: rows.with_columns(pl.col(AMOUNTS) * 0.998), "scale: its prices are 0.998 times ours"),
        (lambda rows: rows.with_columns(pl.col("ts") + pl.duration(minutes=1)), "stamps: its bars agree 1m later"),
        (lambda rows: rows.with_columns(pl.col("ts") - pl.duration(hours=1)), "stamps: its bars agree 1h earlier"),
        (lambda rows: rows.with_columns(pl.col("volume") / 50), "volume: its volume is 0.02 times ours"),
        (
            lambda rows: rows.with_columns(pl.col(AMOUNTS) * (1 + 0.02 * (pl.int_range(pl.len()) % 5 - 2))),
            "spread: 80% of 60 bars differ by more than 0.50%",
        ),
        (
            lambda rows: rows.with_columns(
                pl.when(pl.col("ts") < OPEN + dt.timedelta(days=1, minutes=70)).then(pl.col(AMOUNTS) / 2).otherwise(
                    pl.col(AMOUNTS)
                )
            ),
            "scale: its prices are 0.5 times ours before the hole, 1 after it",
        ),
    ],
)  # fmt: skip
def test_fill_refuses_a_source_that_disagrees_around_the_hole(
    out: Path, tmp_path: Path, change: Callable[[pl.DataFrame], pl.DataFrame], reason: str
) -> None:
    done = fill(out, write(tmp_path / "b", [change(bars("BBB"))]))
    hole = done.fills.sort("gap_start").row(0, named=True)
    assert hole["outcome"] == "refused"
    assert hole["detail"].startswith(reason)
    of_hole = pl.col("gap_start") == hole["gap_start"]
    assert contents(out)["gaps"].filter(of_hole).equals(contents(out, 1)["gaps"].filter(of_hole))
    assert answers(out).height == done.fills.height
    assert not fill(out, tmp_path / "b").is_written


IN_LONG_HOLE = pl.col("ts").is_between(
    OPEN + dt.timedelta(days=1, minutes=60), OPEN + dt.timedelta(days=1, minutes=80), closed="left"
)


@pytest.mark.parametrize(
    ("where", "factor"),
    [
        (IN_LONG_HOLE, 100.0),
        (IN_LONG_HOLE, 0.01),
        (pl.col("ts") == OPEN + dt.timedelta(days=1, minutes=77), 2.2),
    ],
)
def test_fill_refuses_bars_of_another_level_inside_the_hole_alone(
    out: Path, tmp_path: Path, where: pl.Expr, factor: float
) -> None:
    scaled = [pl.when(where).then(pl.col(name) * factor).otherwise(name).alias(name) for name in AMOUNTS]
    done = fill(out, write(tmp_path / "b", [bars("BBB").with_columns(scaled)]))
    assert outcomes(done) == [("refused", 20), ("answered", 3)]
    assert done.fills["detail"].drop_nulls().item().startswith("level: it has ")
    assert verify(out).is_empty()


def test_fill_takes_bars_of_a_price_that_has_doubled_over_the_hole(tmp_path: Path) -> None:
    risen = pl.when(pl.col("ts") >= OPEN + dt.timedelta(days=1, minutes=70)).then(pl.col(AMOUNTS) * 2.5)
    doubled = [bars(name).with_columns(risen.otherwise(pl.col(AMOUNTS))) for name in SYMBOLS]
    lost = doubled[1].join(bars("BBB", HOLES), on="ts", how="semi")
    run(write(tmp_path / "a", [doubled[0], lost, doubled[2]]), OPTIONS, export=tmp_path / "out")
    asked = ("symbol_loss", "halt")  # so large a move over a hole looks like one
    assert fill(tmp_path / "out", write(tmp_path / "b", [doubled[1]]), causes=asked).bars == 23


def test_dropped_sources_leave_cause_and_retries_of_the_gap_as_they_were(tmp_path: Path) -> None:
    made = run(
        write(tmp_path / "a", [bars(name, HOLES if name == "BBB" else frozenset()) for name in SYMBOLS]), OPTIONS
    )
    for key, stored in made.session.snapshot().gap_rows.items():
        gaps = stored.since(dt.date(2024, 1, 1)).drop("revision", strict=False)
        told = gaps.with_columns(
            pl.lit("abandoned").alias("state"), pl.lit("symbol_loss").alias("cause"),
            pl.lit(3).cast(gaps.schema["retry_count"]).alias("retry_count"),
        )  # fmt: skip
        if str(key.interval) == "1m":
            made.session.set_gaps(key, told, gaps)
    out = tmp_path / "out"
    export_session(made.session, out)
    before = contents(out)
    assert before["gaps"].filter(pl.col("interval") == "1m")["retry_count"].to_list() == [3, 3]
    fill(out, write(tmp_path / "b", [bars("BBB", frozenset((1, m) for m in range(65, 80)))]), name="B")
    fill(out, write(tmp_path / "c", [bars("BBB")]), name="C")
    drop_fill(out, "B")
    drop_fill(out, "C")
    assert_same(contents(out), before)


def test_fill_without_shared_bars_is_refused(out: Path, tmp_path: Path) -> None:
    inside = bars("BBB").join(bars("BBB", HOLES), on="ts", how="anti")
    done = fill(out, write(tmp_path / "b", [inside]), read=filling.ReadOptions(interval="1m"))
    assert done.fills["detail"].unique().to_list() == [
        "overlap: 0 bars of both within a week of the hole, 5 are needed"
    ]
    assert done.bars == 0


def test_fill_takes_a_symbol_whose_case_differs(out: Path, tmp_path: Path) -> None:
    done = fill(out, write(tmp_path / "b", [bars("BBB").with_columns(pl.lit("bbb").alias("symbol"))]))
    assert done.bars == 23
    assert contents(out)["symbols"]["symbol"].to_list() == list(SYMBOLS)


def test_fill_takes_no_bars_off_the_grid_and_none_of_other_slots(out: Path, tmp_path: Path) -> None:
    is_first = pl.col("ts") == OPEN + dt.timedelta(days=1, minutes=60)
    moved = bars("BBB").with_columns(pl.when(is_first).then(pl.col("ts") + pl.duration(seconds=20)).otherwise("ts"))
    moved = moved.with_columns(
        pl.when(pl.col("ts") == OPEN).then(pl.col("close") * 1.0001).otherwise("close").alias("close")
    )
    done = fill(out, write(tmp_path / "b", [moved]))
    assert outcomes(done) == [("empty", 1), ("answered", 19), ("answered", 3)]
    first = (pl.col("ts") == OPEN) & (pl.col("interval") == "1m")
    assert contents(out)["bars"].filter(first).equals(contents(out, 1)["bars"].filter(first))


def test_fill_from_a_source_with_the_same_holes_is_empty(out: Path, tmp_path: Path) -> None:
    done = fill(out, write(tmp_path / "b", [bars("BBB", HOLES)]))
    assert outcomes(done) == [("empty", 20), ("empty", 3)]
    assert (done.bars, done.is_written) == (0, True)
    assert not fill(out, tmp_path / "b").is_written


def test_fill_from_coarser_bars_is_empty_and_says_so(out: Path, tmp_path: Path) -> None:
    coarse = bars("BBB").group_by_dynamic("ts", every="5m").agg(
        pl.col("symbol").first(), pl.col("open").first(), pl.col("high").max(), pl.col("low").min(),
        pl.col("close").last(), pl.col("volume").sum(),
    )  # fmt: skip
    done = fill(out, write(tmp_path / "b", [coarse]))
    assert done.bars == 0
    assert done.fills["detail"].unique().to_list() == ["it has no bars of 1m of this series"]


def test_fill_from_an_export_and_finer_bars_gives_the_same(out: Path, tmp_path: Path) -> None:
    run(write(tmp_path / "b", [bars("BBB")]), OPTIONS, export=tmp_path / "second")
    twin = Path(shutil.copytree(out, tmp_path / "twin"))
    fill(out, tmp_path / "second", name="B")
    fill(twin, tmp_path / "b", name="B")
    assert_same(contents(out), contents(twin))


def test_fill_of_an_unknown_symbol_or_source_names_what_there_is(out: Path, second: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="they hold 'ZZZ'"):
        fill(out, write(tmp_path / "z", [bars("AAA").with_columns(pl.lit("ZZZ").alias("symbol"))]))
    with pytest.raises(ParameterError, match="was filled from none"):
        drop_fill(out, "B")
    with pytest.raises(ParameterError, match="tolerance"):
        fill(out, second, tolerance=0)
    with pytest.raises(ExportError, match="no export"):
        fill(second, second)


def test_fill_begins_anew_when_another_process_wrote_meanwhile(
    out: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, turns = filling.compare_around, []

    def compare(*args: object) -> pl.DataFrame:
        turns.append(1)
        if len(turns) == 1:  # between reading and writing, somebody fills the short hole
            trial = write(second.parent / "c", [bars("BBB", frozenset((1, m) for m in range(60, 80)))])
            fill(out, trial, name="C")
        return compared(*args)

    monkeypatch.setattr(filling, "compare_around", compare)
    done = fill(out, second, name="B")
    assert done.revision == 3
    assert set(answers(out).select("source", "outcome", "bar_count").rows()) == {
        ("C", "answered", 3), ("C", "empty", 20), ("B", "answered", 5), ("B", "answered", 14), ("B", "empty", 1),
    }  # fmt: skip
    assert verify(out).is_empty()


def test_fill_that_fails_half_way_leaves_the_former_revision(
    out: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, staged = contents(out), filling.stage_changes

    def fail(name: str, *args: object) -> object:
        if name == "quality":
            raise OSError(28, "No space left on device")
        return staged(name, *args)

    monkeypatch.setattr(filling, "stage_changes", fail)
    with pytest.raises(ExportError, match="No space left"):
        fill(out, second)
    assert open_dataset(out).revision == 1
    assert_same(contents(out), before)
    assert verify(out).is_empty()
    monkeypatch.undo()
    assert fill(out, second).revision == 2


def test_next_export_of_the_store_is_full_and_consistent(second: Path, tmp_path: Path) -> None:
    made = run(write(tmp_path / "a", [bars("BBB", HOLES)]), OPTIONS, export=tmp_path / "out")
    before = contents(tmp_path / "out")
    fill(tmp_path / "out", second, causes=("symbol_loss", "feed_loss", "unknown"))
    assert export_session(made.session, tmp_path / "out") == 3
    assert_same(contents(tmp_path / "out"), before)
    assert verify(tmp_path / "out").is_empty()


def test_audit_of_a_filled_export_has_the_answers_and_a_later_one_without_none(
    out: Path, second: Path, tmp_path: Path
) -> None:
    fill(out, second, name="B")
    done = run_audit(out)
    assert done.tables["fills"].select("outcome", "bar_count").rows() == [
        ("answered", 5), ("empty", 1), ("answered", 14), ("answered", 3),
    ]  # fmt: skip
    assert done.tables["gaps"].filter(pl.col("symbol") == "BBB")["bar_count"].sum() == 1
    write_audit(done, tmp_path / "audit")
    assert read_audit_tables(tmp_path / "audit")["fills"].height == 4
    drop_fill(out, "B")
    write_audit(run_audit(out), tmp_path / "audit")
    assert "fills" not in read_audit_tables(tmp_path / "audit")


def test_export_with_prices_below_zero_is_audited_and_filled_as_one_of_others(tmp_path: Path) -> None:
    lowered = [pl.col(name) - 100 for name in AMOUNTS]  # a spread: its prices lie around zero
    first = [bars(name, HOLES if name == "BBB" else frozenset()).with_columns(lowered) for name in SYMBOLS]
    real = filling.ReadOptions(allow_non_positive=True)
    run(write(tmp_path / "a", first), replace(OPTIONS, read=real), export=tmp_path / "out")
    second = write(tmp_path / "b", [bars("BBB").with_columns(lowered)])
    tables = run_audit(tmp_path / "out").tables
    assert tables["series"]["rows"].sum() == 3 * 4 * 390 - 23
    assert tables["gaps"].select("cause", "bar_count").rows() == [("symbol_loss", 20), ("symbol_loss", 3)]
    assert fill(tmp_path / "out", second, read=real, dry_run=True).bars == 23
    command = ["fill", str(tmp_path / "out"), "--from", str(second), "--json"]
    told = CliRunner().invoke(app, [*command, "--allow-non-positive"])
    assert (told.exit_code, json.loads(told.stdout)["bars"]) == (0, 23), told.output
    filled = contents(tmp_path / "out")
    assert filled["gaps"].is_empty()
    assert filled["bars"].filter(pl.col("provenance") == "fill")["close"].min() < 0


def test_export_of_an_earlier_version_is_read_verified_and_filled(
    second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write(tmp_path / "a", [bars("AAA"), bars("BBB", HOLES)])
    with monkeypatch.context() as then:
        then.setitem(TABLES, "bars", {name: kind for name, kind in TABLES["bars"].items() if name != "verdict"})
        then.setitem(ADDED, "bars", ())
        then.setattr(session_export, "holds_fills", lambda _: True)  # which leaves the table `fills` alone
        for module in (tables, dataset_module):
            then.setattr(module, "DATA_TABLES", tuple(name for name in DATA_TABLES if name != "fills"))
        then.setattr(views, "BARS_VIEW", {k: v for k, v in views.BARS_VIEW.items() if k != "verdict"})
        run(files, OPTIONS, export=tmp_path / "old")
    shutil.rmtree(tmp_path / "old" / "fills", ignore_errors=True)
    assert "fills" not in open_dataset(tmp_path / "old").tables
    assert verify(tmp_path / "old").is_empty()
    before = contents(tmp_path / "old")
    assert before["bars"]["verdict"].null_count() == before["bars"].height
    assert sql(tmp_path / "old", "SELECT count(*) AS n FROM bars WHERE verdict IS NULL")["n"].item() > 0
    fill(tmp_path / "old", second, name="B", causes=("symbol_loss", "feed_loss", "unknown"))
    told = sql(
        tmp_path / "old", "SELECT verdict, count(*) AS n FROM bars WHERE interval = '1m' GROUP BY ALL ORDER BY ALL"
    )
    assert dict(told.iter_rows())["filled"] == 22
    assert verify(tmp_path / "old").is_empty()
    drop_fill(tmp_path / "old", "B")
    now = contents(tmp_path / "old")
    assert now["bars"].drop("verdict").equals(before["bars"].drop("verdict"))
    assert_same(now, before, "gaps", "quality", "symbols", "fills")


def test_audit_of_an_export_reads_symbols_of_several_files_and_axes_on_their_own(tmp_path: Path) -> None:
    hours = {"AAA": "XNYS", "BBB": "XNYS", "CCC": "24/7"}
    options = replace(OPTIONS, calendars=CalendarMap(None, tuple(hours.items())))
    files = write(tmp_path / "a", [bars(name, HOLES) for name in SYMBOLS])
    run(files, options, export=tmp_path / "out")
    fill(
        tmp_path / "out",
        write(tmp_path / "b", [bars(name) for name in SYMBOLS]),
        causes=CAUSES,
    )
    told = run_audit(tmp_path / "out").tables["series"].sort("symbol")
    run(write(tmp_path / "c", [bars(name) for name in SYMBOLS]), options, export=tmp_path / "whole")
    whole = run_audit(tmp_path / "whole").tables["series"].sort("symbol")
    counts = ["symbol", "calendar", "rows", "expected", "present", "missing", "duplicates"]
    assert told.select(counts).rows() == whole.select(counts).rows()
