"""The command line as a user meets it: the short form, what it prints, and what wrong arguments are told."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path

import polars as pl
import pytest
from engine.cli import INTERRUPTED, PARTLY_READ, USAGE, main
from engine.cli.console import merge_notes
from engine.cli.parsing import parse_column_pairs, split_list

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["engine", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return Ran(int(stopped.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two symbols over one session; B lacks 20 minutes from 10:30 and has one bad row."""
    for name, holes in (("AAA", set()), ("BBB", set(range(60, 80)))):
        rows = [
            f"{(OPEN + dt.timedelta(minutes=m)).isoformat()},10,10.5,9.5,10.2,{100 + m}"
            for m in range(390)
            if m not in holes
        ]
        if name == "BBB":
            rows[5] = rows[5].replace("10.5,9.5", "9.5,10.5")
        path = tmp_path / "vendor" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("ts,open,high,low,close,volume\n" + "\n".join(rows))
    return tmp_path / "vendor"


@pytest.fixture
def out(engine, folder: Path, tmp_path: Path) -> Path:
    assert engine("run", folder, "--calendar", "XNYS", "--export", tmp_path / "out").code == 0
    return tmp_path / "out"


def test_run_folder_prints_series_worst_sessions_and_calendar(engine, folder: Path) -> None:
    ran = engine("run", folder, "--calendar", "XNYS")
    assert ran.code == 0
    assert "2024-01-02 09:35:00 EST" in ran.out
    assert "exchange_calendars" in ran.out
    assert "94.62" in ran.out


def test_run_many_series_prints_the_worst_unless_all_are_asked_for(engine, tmp_path: Path) -> None:
    for number in range(23):
        minutes = [m for m in range(40) if m % (number + 2)]  # the first symbols lack most
        rows = [f"{(OPEN + dt.timedelta(minutes=m)).isoformat()},10,10.5,9.5,10.2,100" for m in minutes]
        (tmp_path / f"S{number:02}.csv").write_text("ts,open,high,low,close,volume\n" + "\n".join(rows))
    words = ("run", tmp_path, "--calendar", "XNYS", "--derive", "5m", "--interval", "1m")
    cut, whole = engine(*words).out, engine(*words, "--all").out
    assert "The worst 20 of 23 series (--all: every one)" in cut
    series = cut.partition("Worst sessions")[0]
    assert [name for name in (f"S{number:02}" for number in range(23)) if name not in series] == ["S20", "S21", "S22"]
    assert "The worst" not in whole
    assert all(f"S{number:02}" in whole.partition("Worst sessions")[0] for number in range(23))


def test_run_as_json_gives_the_figures(engine, folder: Path, tmp_path: Path) -> None:
    told = json.loads(engine("run", folder, "--calendar", "XNYS", "--json", "--export", tmp_path / "o").out)
    series = {row["symbol"]: row for row in told["series"]}
    assert (series["AAA"]["present"], series["AAA"]["missing"]) == (390, 0)
    assert (series["BBB"]["missing"], series["BBB"]["longest_gap"]) == (21, 20)
    assert (told["rejected"], told["rows"], told["export_revision"]) == (1, 759, 1)
    assert told["calendars"][0]["calendar"] == "XNYS"


def test_sql_on_an_export_answers_as_table_csv_json_and_file(engine, out: Path, tmp_path: Path) -> None:
    query = "SELECT symbol, count(*) AS n FROM bars WHERE interval = '1m' GROUP BY symbol ORDER BY symbol"
    assert "AAA" in engine("sql", out, query).out
    assert engine("sql", out, query, "--format", "csv").out.splitlines() == ["symbol,n", "AAA,390", "BBB,369"]
    assert json.loads(engine("sql", out, query, "--format", "json").out)[1] == {"symbol": "BBB", "n": 369}
    assert engine("sql", out, query, "--output", tmp_path / "r.parquet").code == 0
    assert pl.read_parquet(tmp_path / "r.parquet")["n"].to_list() == [390, 369]


def test_gaps_and_quality_list_the_worst_first(engine, out: Path) -> None:
    gaps = json.loads(engine("gaps", out, "--json").out)
    assert [(g["symbol"], g["bar_count"], g["from"]) for g in gaps] == [
        ("BBB", 20, "2024-01-02 10:30:00 EST"),
        ("BBB", 1, "2024-01-02 09:35:00 EST"),
    ]
    quality = json.loads(engine("quality", out, "--json", "--interval", "5m").out)
    assert [q["symbol"] for q in quality] == ["BBB", "AAA"]
    assert quality[0]["missing"] == 4
    assert engine("gaps", out, "--symbols", "AAA").out.startswith("0 gaps")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--symbols", ""], "--symbols"),
        (["--symbols", " , "], "--symbols"),
        (["--symbols", "CCC"], "there are 'AAA', 'BBB'"),
        (["--interval", "7m"], "the source has 1m, 5m, 15m"),
        (["--as-of", "2001-01-01T00:00:00Z"], "had no revision"),
        (["--as-of", "2001-01-01T00:00:00Z", "--revision", "1"], "one of them"),
        (["--since", "0", "--symbols", "CCC"], "there are 'AAA', 'BBB'"),
        (["--since", "0", "--consumer", "x"], "one of them"),
    ],
)
def test_export_of_what_is_not_there_is_refused(engine, out: Path, tmp_path: Path, words: list[str], told: str) -> None:
    ran = engine("export", out, "--to", "csv", "--output", tmp_path / "o", *words)
    assert ran.code == USAGE
    assert told in ran.err
    assert not (tmp_path / "o").exists()


def test_export_into_an_export_is_refused(engine, out: Path) -> None:
    ran = engine("export", out, "--to", "parquet", "--output", out / "bars" / "mine")
    assert (ran.code, "lies in the export" in ran.err) == (USAGE, True)
    assert not (out / "bars" / "mine").exists()


def test_export_of_an_instant_is_the_revision_that_stood_then(engine, out: Path, tmp_path: Path) -> None:
    assert engine("export", out, "--to", "csv", "--output", tmp_path / "o", "--as-of", "2100-01-01T00:00:00Z").code == 0
    assert (tmp_path / "o" / "bars.csv").stat().st_size > 1000


@pytest.mark.parametrize("to", ["json", "csv", "parquet"])
def test_export_for_a_consumer_takes_note_only_of_what_is_in_place(engine, out: Path, tmp_path: Path, to: str) -> None:
    words = ["export", out, "--to", to, "--consumer", f"of {to}", "--output"]
    (tmp_path / "mine.txt").write_text("x")
    assert engine(*words, tmp_path).code == USAGE
    assert "in full: nothing was read before" in engine(*words, tmp_path / "1").out
    assert "in full" not in engine(*words, tmp_path / "2").out


@pytest.mark.parametrize(
    "words",
    [
        ["gaps", "{out}"],
        ["quality", "{out}"],
        ["diff", "{out}", "1", "1"],
        ["diff", "{out}", "1", "1", "--json"],
        ["sql", "{out}", "SELECT 1"],
    ],
)
def test_negative_limit_is_refused(engine, out: Path, words: list[str]) -> None:
    ran = engine(*(word.format(out=out) for word in words), "--limit", "-1")
    assert (ran.code, ran.out) == (USAGE, "")
    assert "--limit: received -1; valid: 0 for all rows, or how many" in ran.err


def test_merge_notes_without_a_place_are_printed_once() -> None:
    notes = ["a.csv: no zone", "nothing was read", "b.csv: no zone", "nothing was read", "c.csv: rows: 3", "alone"]
    assert merge_notes(notes) == [
        "a.csv: no zone (and 1 more like it)",
        "nothing was read (and 1 more like it)",
        "c.csv: rows: 3",
        "alone",
    ]


def test_column_pairs_are_trimmed_and_a_number_is_a_place() -> None:
    assert parse_column_pairs("ts = Date, close=Last price,volume=5") == {
        "ts": "Date",
        "close": "Last price",
        "volume": 5,
    }
    assert parse_column_pairs(None) == {}


def test_gaps_of_a_symbol_that_is_not_there_is_refused(engine, out: Path) -> None:
    assert "there are 'AAA', 'BBB'" in engine("gaps", out, "--symbols", "CCC").err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, ()),
        ("", ()),
        (" , ,", ()),
        ("A,B", ("A", "B")),
        (" A , B ", ("A", "B")),
        ('"a,b;c",D', ("a,b;c", "D")),
        ('" x "', (" x ",)),
        ('"say ""x""",=cmd', ('say "x"', "=cmd")),
        ('say "x",y', ('say "x"', "y")),
        ("two\nlines", ("two\nlines",)),
    ],
)
def test_words_are_cut_at_commas_outside_of_quotes(text: str | None, found: tuple[str, ...]) -> None:
    assert split_list(text) == found


@pytest.mark.parametrize(("to", "name"), [("json", "session.json"), ("csv", "bars.csv")])
def test_export_writes_files_for_people(engine, out: Path, tmp_path: Path, to: str, name: str) -> None:
    assert engine("export", out, "--to", to, "--output", tmp_path / to).code == 0
    assert (tmp_path / to / name).stat().st_size > 1000


def test_calendars_lists_codes_and_shows_one(engine) -> None:
    assert "XNYS" in engine("calendars").out
    shown = engine("calendars", "XNYS", "--start", "2024-11-29", "--end", "2024-11-29").out
    assert "2024-11-29 13:00:00 EST" in shown


def test_calendars_finds_codes_by_words_and_answers_one_date(engine) -> None:
    found = engine("calendars", "--search", "tokyo").out
    assert "XTKS" in found
    assert "XNYS" not in found
    assert "09:30:00 EST" in engine("calendars", "XNYS", "--date", "2024-12-24").out
    halted = engine("calendars", "XNYS", "--date", "2020-03-18").out
    assert "interrupted: 12:56:17 EDT to 13:11:17 EDT, circuit breaker (Report of the Market-Wide" in halted
    closed = engine("calendars", "XNYS", "--date", "2024-12-25").out
    assert "no session on 2024-12-25 (Wednesday); the one before is 2024-12-24, the next 2024-12-26" in closed
    assert json.loads(engine("calendars", "XNYS", "--date", "2024-12-25", "--json").out) == []


def test_run_again_on_an_export_makes_the_next_revision(engine, folder: Path, out: Path) -> None:
    assert (
        json.loads(engine("run", folder, "--calendar", "XNYS", "--json", "--export", out).out)["export_revision"] == 2
    )
    assert engine(
        "sql", out, "SELECT count(*) AS n FROM bars WHERE interval = '1m'", "--format", "csv"
    ).out.split() == ["n", "759"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "{folder}"], "--calendar"),
        (["run", "{folder}", "--calendar", "XNYZ"], "XNYS"),
        (["run", "{folder}/nowhere", "--calendar", "XNYS"], "does not exist"),
        (["run", "{folder}", "--calendar", "XNYS", "--interval", "1min"], "did you mean 1m?"),
        (["run", "{folder}", "--calendar", "XNYS", "--derive", "5m,200d"], "1d"),
        (["run", "{folder}", "--calendar", "XNYS", "--start", "02.01.2024"], "YYYY-MM-DD"),
        (["run", "{folder}", "--calendar", "XNYS", "--stamp", "middle"], "end-inclusive"),
        (["run", "{folder}", "--calendar", "XNYS", "--timezone", "Mars"], "America/New_York"),
        (["run", "{folder}", "--calendar", "XNYS", "--segments", "LUNCH"], "RTH"),
        (["run", "{folder}", "--calendar", "XNYS", "--incomplete", "hide"], "flag, drop"),
        (["run", "{folder}", "--calendar", "XNYS", "--columns", "ts"], "ts=Date"),
        (
            ["run", "{folder}", "--calendar", "XNYS", "--columns", "=Close"],
            "--columns: received '=Close'; valid: our name",
        ),
        (["run", "{folder}", "--calendar", "XNYS", "--columns", "ts="], "--columns: received 'ts='; valid: our name"),
        (
            ["reconcile", "{folder}", "{folder}", "--calendar", "XNYS", "--tolerance", "=1%"],
            "--tolerance: received '=1%'",
        ),
        (["reconcile", "{folder}", "{folder}", "--calendar", "XNYS", "--tolerance", "close"], "valid: column=size"),
        (["reconcile", "{folder}", "{folder}", "--calendar", "XNYS", "--names", "=B"], "--names: received '=B'"),
        (["reconcile", "{folder}", "{folder}", "--calendar", "XNYS", "--names", "A="], "--names: received 'A='"),
        (["run", "{folder}", "--calendar", "XNYS", "--as-of", "2024-01-02T10:00"], "zone"),
        (["run", "{folder}", "--calendar", "XNYS", "--export", "{folder}"], "{folder}"),
        (["sql", "{folder}", "SELECT 1"], "{folder}"),
        (["gaps", "{folder}"], "{folder}"),
        (["calendars", "NOPE"], "did you mean"),
        (["calendars", "--search", "tokio"], "did you mean tokyo"),
        (["calendars", "--date", "2024-12-25"], "without a code"),
        (["calendars", "XNYS", "--search", "tokyo"], "one of them"),
        (["calendars", "XNYS", "--date", "2024-12-25", "--start", "2024-12-01"], "one date, or a range"),
    ],
)
def test_wrong_argument_is_told_what_would_be_right(engine, folder: Path, words: list[str], told: str) -> None:
    ran = engine(*(word.format(folder=folder) for word in words))
    assert ran.code == USAGE
    assert told.format(folder=folder) in ran.err
    assert "Traceback" not in ran.err
    assert ran.err.count("\n") <= 6


def test_sql_mistake_points_at_the_place(engine, out: Path) -> None:
    ran = engine("sql", out, "SELECT clsoe FROM bars")
    assert (ran.code, "close" in ran.err) == (USAGE, True)


def test_run_with_one_broken_file_goes_on_and_says_so_by_its_code(engine, folder: Path) -> None:
    (folder / "CCC.csv.gz").write_bytes(b"\x1f\x8bnot really")
    ran = engine("run", folder, "--calendar", "XNYS")
    assert ran.code == PARTLY_READ
    assert "could not be read" in ran.out
    assert "CCC.csv.gz" in ran.out
    assert "AAA" in ran.out


def test_run_hostile_symbols_are_printed_as_text(engine, tmp_path: Path) -> None:
    rows = [f"[bold]x[/]\x1b[31m,{(OPEN + dt.timedelta(minutes=m)).isoformat()},1,1,1,1,1\n" for m in range(40)]
    (tmp_path / "all.csv").write_text("symbol,ts,open,high,low,close,volume\n" + "".join(rows))
    ran = engine("run", tmp_path / "all.csv", "--calendar", "XNYS")
    assert "[bold]x[/]\\x1b[31m" in ran.out
    assert "\x1b" not in ran.out


def test_interrupt_ends_quietly(engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.runtime.run.run", interrupt)
    ran = engine("run", folder, "--calendar", "XNYS")
    assert ran.code == INTERRUPTED
    assert ran.err.strip() == "engine: interrupted; what was in place before is as it was"
    assert "Traceback" not in ran.err


def test_demo_ends_with_planned_against_found_and_a_question(engine, tmp_path: Path) -> None:
    ran = engine("demo", "--export", tmp_path / "demo")
    assert ran.code == 0
    assert "Planned faults against what was found" in ran.out
    assert "engine sql" in ran.out
    assert "False" not in ran.out
