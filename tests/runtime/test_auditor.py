"""The audit of folders: the same result however the work is cut and wherever it runs; one bad file is a finding."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.audit import pipeline
from engine.audit.survey import join_surveys
from engine.calendars.providers import calendar
from engine.cli.commands import app
from engine.errors import ParameterError, SourceError
from engine.grid import GridSpec, SessionGrid
from engine.query import sql
from engine.runtime import auditor, parquet_scan
from engine.runtime.auditor import audit
from engine.runtime.executor import ProcessExecutor, SerialExecutor
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.task_runner import run_tasks
from engine.schema import BARS
from engine.simulation.faults import FaultPlan
from engine.simulation.feed import write_csv
from engine.simulation.sessions import Market, simulate
from typer.testing import CliRunner

OPTIONS = LoadOptions(CalendarMap("XNYS"))
FLOATS = ("quality", "quality_adjusted", "confidence", "traded", "value")


@pytest.fixture(scope="module")
def market():
    grid = SessionGrid.build(
        calendar("XNYS").segments(dt.date(2024, 11, 4), dt.date(2024, 11, 8)), "1m", GridSpec("XNYS")
    )
    return simulate(grid, Market.of(8, 5), FaultPlan(outage=1, missing_middle=2, duplicate=3, correction=2, bad_row=3))


@pytest.fixture
def folder(market, tmp_path) -> Path:
    write_csv(market.rows, tmp_path / "feed")
    return tmp_path / "feed"


@pytest.fixture
def table(market, tmp_path) -> Path:
    """All bars in one Parquet file, by time, so that every row range has every symbol."""
    path = tmp_path / "all.parquet"
    market.rows.filter(pl.col("fault").is_null()).select(list(BARS)).sort("ts").write_parquet(path, row_group_size=1000)
    return path


def same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    exact = [name for name in one.columns if name not in FLOATS]
    return one.select(exact).equals(other.select(exact))


def test_audit_a_folder_counts_what_was_planted(market, folder):
    done = audit([folder], OPTIONS)
    series = done.tables["series"]
    assert series.height == 8
    planted = dict(market.truth.group_by("kind").len().iter_rows())
    assert series["duplicates"].sum() == planted["duplicate"]
    assert done.tables["outages"]["cause"].to_list() == ["feed_loss"]
    assert done.tables["files"]["problem"].null_count() == done.tables["files"].height


@pytest.mark.parametrize("size", [1, 200_000, 1 << 30])
def test_audit_however_files_are_bundled_finds_the_same(folder, monkeypatch, size):
    whole = audit([folder], OPTIONS).tables
    monkeypatch.setattr(auditor, "BYTES_PER_TASK", size)
    tasks, _ = auditor.plan_tasks([folder], OPTIONS)
    assert (len(tasks) == 1) == (size > 1_000_000)
    cut = audit([folder], OPTIONS).tables
    assert {name: same(cut[name], whole[name]) for name in whole} == dict.fromkeys(whole, True)


def test_audit_in_processes_finds_the_same(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(auditor, "BYTES_PER_TASK", 200_000)
    here = audit([folder], OPTIONS, executor=SerialExecutor()).tables
    monkeypatch.setattr(pipeline, "LEAST_RUNS_PER_BLOCK", 20)  # so that blocks are explained there too
    there = audit([folder], OPTIONS, executor=ProcessExecutor(2), work=tmp_path / "work").tables
    assert {name: there[name].equals(here[name]) for name in here} == dict.fromkeys(here, True)
    assert [path.name for path in (tmp_path / "work").iterdir() if path.suffix != ".survey"] == []


def test_audit_a_table_in_row_ranges_finds_what_its_rows_say(market, table, tmp_path, monkeypatch):
    small = audit([table], OPTIONS).tables
    monkeypatch.setattr(auditor, "LARGE_BYTES", 1)
    monkeypatch.setattr(parquet_scan, "ROWS_PER_RANGE", 1500)
    tasks, _ = auditor.plan_tasks([table], OPTIONS)
    assert len(tasks) > 5
    cut = audit([table], OPTIONS).tables
    assert {name: same(cut[name], small[name]) for name in ("gaps", "quality", "outages")} == dict.fromkeys(
        ("gaps", "quality", "outages"), True
    )


def test_audit_a_table_in_processes_uses_no_calendar_that_it_would_not_use_alone(table, monkeypatch):
    monkeypatch.setattr(auditor, "LARGE_BYTES", 1)
    unused = LoadOptions(CalendarMap("NOPE", (("*", "XNYS"),)))
    alone, beside = audit([table], unused).tables, audit([table], unused, executor=ProcessExecutor(2)).tables
    assert alone["gaps"].height > 0
    assert all(same(beside[name], alone[name]) for name in ("gaps", "quality", "outages", "findings"))


def test_audit_rows_that_cannot_be_are_counted_and_enter_nothing(market, tmp_path, monkeypatch):
    monkeypatch.setattr(auditor, "LARGE_BYTES", 1)
    rows = market.clean.head(2000).with_columns(
        pl.when(pl.int_range(pl.len()).is_in([5, 7])).then(-1.0).otherwise("low").alias("low")
    )
    rows.write_parquet(tmp_path / "bad.parquet")
    done = audit([tmp_path / "bad.parquet"], OPTIONS)
    found = done.tables["findings"].filter(pl.col("check_name") == "refused").row(0, named=True)
    assert (found["count"], found["source"]) == (2, str(tmp_path / "bad.parquet"))
    assert found["evidence"].startswith(f'the first is row 6: {{"symbol":"{rows["symbol"][5]}"')
    assert done.tables["series"]["rows"].sum() == 1998


def test_audit_that_was_interrupted_resumes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(auditor, "BYTES_PER_TASK", 1)
    whole = audit([folder], OPTIONS).tables
    calls = []
    survey_files = auditor.survey_files

    def counted(files, options, name):
        calls.append(name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return survey_files(files, options, name)

    monkeypatch.setattr(auditor, "survey_files", counted)
    with pytest.raises(KeyboardInterrupt):
        audit([folder], OPTIONS, work=tmp_path / "work")
    assert len(list((tmp_path / "work").iterdir())) == 3
    resumed = audit([folder], OPTIONS, work=tmp_path / "work").tables
    assert len(calls) == 4 + len(whole["files"]) - 3
    assert {name: resumed[name].equals(whole[name]) for name in whole} == dict.fromkeys(whole, True)


def test_audit_a_file_that_changed_is_done_again(folder, tmp_path):
    audit([folder], OPTIONS, work=tmp_path / "work")
    first = next(folder.rglob("*.csv"))
    first.write_text("\n".join(first.read_text().splitlines()[:50]) + "\n")
    kept = audit([folder], OPTIONS, work=tmp_path / "work").tables["series"]["rows"].sum()
    assert kept == audit([folder], OPTIONS).tables["series"]["rows"].sum()


def test_audit_one_bad_file_is_a_finding_and_not_the_end(folder):
    (folder / "BROKEN.csv").write_bytes(b"\x00\xff not a table")
    (folder / "TORN.parquet").write_bytes(b"PAR1 torn")
    (folder / "README.md").write_text("about")
    (folder / "FEW.csv").write_text(
        "ts,open,high,low,close\n2024-01-02T15:00:00Z,1,1,1,1\n2024-01-02T15:07:00Z,1,1,1,1\n"
    )
    done = audit([folder], OPTIONS)
    bad = done.tables["findings"].filter(pl.col("check_name") == "unreadable_file")
    remedies = {Path(source).name: remedy for source, remedy in bad.select("source", "remedy").iter_rows()}
    assert sorted(remedies) == ["BROKEN.csv", "FEW.csv", "TORN.parquet"]
    assert set(bad["severity"]) == {"error"}
    assert remedies["FEW.csv"] == "give --interval, or deliver the file again"
    assert remedies["TORN.parquet"] == "deliver the file again, or name its format and columns"
    over = done.tables["findings"].filter(pl.col("check_name") == "passed_over")
    assert [Path(source).name for source in over["source"]] == ["README.md"]
    assert done.tables["series"].height == 8


def test_audit_of_nothing_that_can_be_read_says_so(tmp_path):
    (tmp_path / "TORN.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(SourceError, match=r"TORN.parquet"):
        audit([tmp_path], OPTIONS)
    with pytest.raises(ParameterError, match="does not exist"):
        audit([tmp_path / "nowhere"], OPTIONS)


def test_audit_command_leaves_tables_that_sql_joins(folder, tmp_path):
    out = tmp_path / "audit"
    done = CliRunner().invoke(app, ["audit", str(folder), "--calendar", "XNYS", "--output", str(out), "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == told["exit_code"]
    assert "feed_loss" in {one["check_name"] for one in told["findings"]}
    assert "<title>" in (out / "report.html").read_text()
    assert not (out / ".work").exists()
    exported = tmp_path / "export"
    assert CliRunner().invoke(app, ["run", str(folder), "--calendar", "XNYS", "--export", str(exported)]).exit_code == 0
    query = (
        "SELECT g.symbol, count(*) AS bars FROM audit_gaps g JOIN bars b ON b.symbol = g.symbol AND b.session = g.session "
        "AND b.interval = '1m' WHERE g.cause = 'symbol_loss' GROUP BY 1 ORDER BY 1"
    )
    asked = CliRunner().invoke(app, ["sql", str(exported), query, "--audit", str(out), "--format", "json"])
    gaps = pl.read_parquet(out / "tables" / "gaps.parquet")
    assert [row["symbol"] for row in json.loads(asked.stdout)] == sorted(
        gaps.filter(pl.col("cause") == "symbol_loss")["symbol"].unique()
    )
    alone = CliRunner().invoke(app, ["sql", str(out), "SELECT sum(bar_count) AS missing FROM gaps", "--format", "json"])
    assert json.loads(alone.stdout) == [{"missing": gaps["bar_count"].sum()}]


def test_audit_command_fails_on_what_is_new_and_passes_on_what_is_known(folder, tmp_path):
    out, rules = tmp_path / "audit", tmp_path / "rules.toml"
    rules.write_text('[[rule]]\ntable = "findings"\nwhere = "check_name = \'feed_loss\'"\nseverity = "error"\n')
    common = ["audit", str(folder), "--calendar", "XNYS", "--rules", str(rules)]
    assert (
        CliRunner().invoke(app, [*common, "--output", str(out), "--junit", str(tmp_path / "junit.xml")]).exit_code == 1
    )
    assert "<failure" in (tmp_path / "junit.xml").read_text()
    assert CliRunner().invoke(app, [*common, "--baseline", str(out / "audit.json")]).exit_code == 0
    wrong = CliRunner().invoke(app, [*common, "--baseline", str(rules)])
    assert isinstance(wrong.exception, ParameterError)


def test_audit_strips_hold_the_bars_around_a_gap(folder):
    done = audit([folder], OPTIONS, strips=True)
    strips = done.tables["strips"]
    loss = done.tables["gaps"].filter(pl.col("cause") == "feed_loss").row(0, named=True)
    beside = strips.filter(pl.col("gap_start") == loss["gap_start"])
    assert (
        beside["ts"]
        .is_between(loss["gap_start"] - dt.timedelta(minutes=30), loss["gap_end"] + dt.timedelta(minutes=30))
        .all()
    )
    assert beside.height > 20
    assert beside["close"].null_count() == 0


def test_audit_strips_of_a_store_with_derived_bars_hold_base_bars_alone(folder):
    plain, derived = (engine.load(folder, "XNYS", derive=intervals) for intervals in ((), ("5m", "1h")))
    strips, others = (engine.run_audit(session).tables["strips"] for session in (plain, derived))
    assert strips.height > 20
    assert others.equals(strips)


def test_audit_command_takes_hostile_symbols_as_text(market, tmp_path):
    names = [
        "BRK/B",
        "../x",
        "0700",
        "=cmd|' /C calc'!A0",
        "</script><script>alert(1)</script>",
        "[/]",
        "\N{ROCKET}\u202egnp.exe",
        "A" * 300,
    ]
    rows = market.rows.filter(pl.col("fault").is_null()).select(list(BARS))
    named = rows.with_columns(pl.col("symbol").replace_strict({f"S000{n}": name for n, name in enumerate(names)}))
    named.write_parquet(tmp_path / "bars.parquet")
    out = tmp_path / "audit"
    done = CliRunner().invoke(
        app,
        [
            "audit",
            str(tmp_path / "bars.parquet"),
            "--calendar",
            "XNYS",
            "--output",
            str(out),
            "--github",
            "--junit",
            str(out / "j.xml"),
        ],
    )
    assert done.exit_code in (0, 1), done.output
    assert sorted(pl.read_parquet(out / "tables" / "series.parquet")["symbol"]) == sorted(names)
    assert set(pl.read_parquet(out / "tables" / "strips.parquet")["symbol"]) <= set(names)
    assert "<script>alert(1)" not in (out / "report.html").read_text()


def test_sql_a_table_beside_under_a_name_that_is_taken_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="also: gaps is a table of the target"):
        sql({"gaps": pl.DataFrame({"a": [1]})}, "SELECT 1", also={"gaps": pl.DataFrame({"a": [1]})})


def test_audit_an_export_finds_what_an_audit_of_its_files_does(folder, tmp_path):
    whole = audit([folder], OPTIONS).tables
    exported = tmp_path / "export"
    run = ["run", str(folder), "--calendar", "XNYS", "--derive", "5m,1h", "--export", str(exported)]
    assert CliRunner().invoke(app, run).exit_code == 0
    made = audit([exported], LoadOptions(CalendarMap(None))).tables
    for name in ("gaps", "quality", "outages", "sessions", "calendars"):
        assert same(made[name], whole[name]), name
    kept = [name for name in whole["series"].columns if name not in ("source", *FLOATS)]
    assert made["series"].select(kept).equals(whole["series"].select(kept))


def test_audit_of_quote_ticks_reports_those_whose_bid_is_above_the_ask(tmp_path):
    opened = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
    number = pl.int_range(7700)
    quotes = pl.select(ts=pl.lit(opened) + pl.duration(seconds=3 * number), bid=10.0 + 0.05 * (number % 2), ask=10.02)
    quotes.write_parquet(tmp_path / "AAA_quotes.parquet")
    done = engine.run_audit(tmp_path, "XNYS")
    ticks = done.tables["findings"].filter((pl.col("check_name") == "crossed") & pl.col("interval").is_null())
    row = ticks.row(0, named=True)
    assert (ticks.height, row["symbol"], row["severity"], row["count"], row["value"]) == (
        1,
        "AAA",
        "warning",
        3850,
        0.5,
    )
    assert row["message"].startswith("The bid is above the ask in 3,850 of 7,700 quotes (50.00%), by up to 0.2994%")
    engine.export_session(engine.load(tmp_path, "XNYS"), tmp_path / "out")
    again = engine.run_audit(tmp_path / "out").tables["findings"].filter(pl.col("fingerprint") == row["fingerprint"])
    assert again.row(0, named=True) == row


def test_audit_of_parts_in_another_order_gives_the_same_rows_in_the_same_order(folder, monkeypatch, tmp_path_factory):
    monkeypatch.setattr(auditor, "BYTES_PER_TASK", 1)
    (folder / "BROKEN.csv").write_bytes(b"\x00\xff not a table")
    tasks, problems = auditor.plan_tasks([folder], OPTIONS)
    paths = run_tasks(tasks, auditor.make_survey, tmp_path_factory.mktemp("work"), SerialExecutor())
    parts = [*map(auditor.read_survey, tasks, paths), auditor.survey_of_problems(problems)]
    assert len(parts) > 5
    whole, turned = (auditor.build_audit(join_surveys(some), OPTIONS).tables for some in (parts, parts[::-1]))
    assert {name: turned[name].equals(whole[name]) for name in whole} == dict.fromkeys(whole, True)


def test_audit_of_a_half_day_without_one_of_the_segments_asked_for_is_an_audit(tmp_path):
    begin = dt.datetime(2023, 12, 22, 9, tzinfo=dt.UTC)
    stamps = [begin + dt.timedelta(minutes=minute) for minute in range(60)]
    rows = pl.DataFrame({"ts": stamps, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0})
    rows.write_parquet(tmp_path / "FDAX_1m.parquet")
    hours = tmp_path / "half_days.toml"
    hours.write_text(
        'zone = "UTC"\n[[hours]]\ndays = "Mon-Thu"\nRTH = "08:00 to 16:00"\nPOST = "16:00 to 17:00"\n'
        '[[hours]]\ndays = "Fri"\nRTH = "08:00 to 12:00"\n'
    )
    source = tmp_path / "FDAX_1m.parquet"
    found = engine.run_audit(source, hours, segments=("RTH", "POST"))
    assert found.tables["series"]["rows"].to_list() == [60]
    with pytest.raises(ParameterError, match="received NIGHT"):
        engine.run_audit(source, hours, segments=("NIGHT",))
