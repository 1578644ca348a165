"""What a stranger does wrong on the first day: each ends in one paragraph that names the mend, and the mend works."""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from engine.cli import USAGE

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
MINUTES = [OPEN + dt.timedelta(minutes=m) for m in range(390)]
CELLS = "10,10.5,9.5,10.2,100"
HEAD = "ts,open,high,low,close,volume"


def rows(spell: Callable[[dt.datetime], object], cells: str = CELLS) -> list[str]:
    return [f"{spell(ts)},{cells}" for ts in MINUTES]


def iso(ts: dt.datetime) -> str:
    return ts.isoformat()


def local(ts: dt.datetime) -> str:
    return (ts - dt.timedelta(hours=5)).strftime("%Y-%m-%d %H:%M:%S")


def seconds(ts: dt.datetime) -> int:
    return int(ts.timestamp())


def spreadsheet_day(ts: dt.datetime) -> float:
    return round((ts - dt.datetime(1899, 12, 30, tzinfo=dt.UTC)) / dt.timedelta(days=1), 6)


def spelled(form: str) -> Callable[[dt.datetime], str]:
    return lambda ts: ts.strftime(form)


def of_two_symbols(column: str) -> list[str]:
    return [f"{column},{HEAD}", *(f"{symbol},{row}" for row in rows(iso) for symbol in ("AAA", "BBB"))]


# name: lines of the file, words of the command, what the message holds, words that mend it (None: the file must change)
MISTAKES: dict[str, tuple[list[str], list[str], list[str], list[str] | None]] = {
    "no zone": ([HEAD, *rows(local)], [], ["carry no zone", "--timezone"], ["--timezone", "America/New_York"]),
    "seconds as milliseconds": (
        [HEAD, *rows(seconds)],
        ["--unit", "ms"],
        ["in ms is no time", "--unit s"],
        ["--unit", "s"],
    ),
    "milliseconds as seconds": (
        [HEAD, *rows(lambda ts: seconds(ts) * 1000)],
        ["--unit", "s"],
        ["in s is no time", "--unit ms"],
        ["--unit", "ms"],
    ),
    "empty file": ([], [], ["is empty"], None),
    "spreadsheet dates": ([HEAD, *rows(spreadsheet_day)], [], ["spreadsheet's day number", "yyyy-mm-dd"], None),
    "european decimals": (
        [HEAD.replace(",", "\t"), *(f"{iso(ts)}\t10,0\t10,5\t9,5\t10,2\t100" for ts in MINUTES)],
        [],
        ["close: received '10,2'", "--decimal , (reads 10.2)"],
        ["--decimal", ","],
    ),
    "commas between thousands": (
        [HEAD, *rows(iso, '"1,010.0","1,010.5","1,009.5","1,010.2",100')],
        [],
        ["close: received '1,010.2'", "--thousands , (reads 1010.2)"],
        ["--thousands", ","],
    ),
    "a currency's sign": (
        [HEAD, *rows(iso, "$10,$10.5,$9.5,$10.2,100")],
        [],
        ["'$10.2', with a currency's sign"],
        None,
    ),
    "no header": (
        rows(iso),
        [],
        ["no header line", "--columns ts=1,open=2,high=3,low=4,close=5,volume=6"],
        ["--columns", "ts=1,open=2,high=3,low=4,close=5,volume=6"],
    ),
    "mixed symbols": (
        of_two_symbols("Stock"),
        [],
        ["390 stamps", "AAA, BBB", "--columns symbol=Stock"],
        ["--columns", "symbol=Stock"],
    ),
    "duplicate header": (
        ["ts,open,high,low,close,close,volume", *rows(iso, "10,10.5,9.5,10.2,99,100")],
        [],
        ["columns 5 and 6", "--columns close=5"],
        ["--columns", "close=5"],
    ),
    "missing column": (
        ["ts,open,high,low,Kurs", *rows(iso, "10,10.5,9.5,10.2")],
        [],
        ["close is missing", "--columns close="],
        ["--columns", "close=Kurs"],
    ),
    "american dates": (
        [HEAD, *rows(spelled("%m/%d/%Y %H:%M"))],
        ["--timezone", "UTC"],
        [
            "'01/02/2024 14:30'",
            "--time-format '%m/%d/%Y %H:%M' (the first date is 2024-01-02)",
            "--time-format '%d/%m/%Y %H:%M' (the first date is 2024-02-01)",
        ],
        ["--time-format", "%m/%d/%Y %H:%M"],
    ),
    "a web page": (["<!DOCTYPE html><html>403 Forbidden</html>"], [], ["is a web page", "fetch the file again"], None),
    "an answer in JSON": (['{"error": "bad key"}'], [], ["is JSON", "it says: bad key"], None),
    "remarks above rows without a header": (
        ["bars of SPY", *rows(iso)],
        [],
        ["'bars of SPY'", "--skip-rows"],
        ["--skip-rows", "1", "--columns", "ts=1,open=2,high=3,low=4,close=5,volume=6"],
    ),
    "minus one for no volume": (
        [HEAD, *rows(iso, "10,10.5,9.5,10.2,-1")],
        [],
        ["volume: negative"],
        ["--null", "-1"],
    ),
}


@pytest.mark.parametrize("command", ["run", "audit"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_read_a_strangers_file_names_the_mend(engine, tmp_path: Path, mistake: str, command: str) -> None:
    lines, words, told, _ = MISTAKES[mistake]
    (tmp_path / "SPY.csv").write_text("\n".join(lines))
    code, out, err = engine(command, tmp_path / "SPY.csv", "--calendar", "XNYS", *words)
    assert (code, out) == (USAGE, "")
    assert err.startswith("engine: ")
    message, *proposed = err.splitlines()
    assert [text for text in (*told, "SPY.csv") if text not in message] == []
    assert all(
        re.match(rf"{' or' if place else 'try'}.*: engine {command} ", line) for place, line in enumerate(proposed)
    )


@pytest.mark.parametrize("mistake", [name for name, (*_, mend) in MISTAKES.items() if mend])
def test_command_that_an_error_proposes_reads_every_row_as_printed(engine, tmp_path: Path, mistake: str) -> None:
    lines, words, *_ = MISTAKES[mistake]
    (tmp_path / "SPY.csv").write_text("\n".join(lines))
    refused = ["run", str(tmp_path), "--calendar", "XNYS", "--json", *words]
    for _ in range(3):  # a mend may show what else is wanted
        code, out, err = engine(*refused)
        proposed = [line.partition(": ")[2] for line in err.splitlines()[1:]]
        if not proposed:
            break
        refused = shlex.split(proposed[0])[1:]
    if mistake in ("remarks above rows without a header", "missing column"):
        assert code == USAGE  # how many lines, and which column, is for the reader to say
    else:
        assert (code, json.loads(out)["rejected"]) == (0, 0)


@pytest.mark.parametrize("mistake", [name for name, (*_, mend) in MISTAKES.items() if mend])
def test_mend_as_told_reads_every_row(engine, tmp_path: Path, mistake: str) -> None:
    lines, words, _, mend = MISTAKES[mistake]
    (tmp_path / "SPY.csv").write_text("\n".join(lines))
    given = words if "--timezone" in words else []
    code, out, _ = engine("run", tmp_path, "--calendar", "XNYS", *given, *(mend or ()), "--derive", "1h", "--json")
    told = json.loads(out)
    base = [row for row in told["series"] if row["interval"] == "1m"]
    assert (code, told["rejected"], {row["present"] for row in base}) == (0, 0, {390})
    assert [row["symbol"] for row in base] == (["AAA", "BBB"] if mistake == "mixed symbols" else ["SPY"])


@pytest.mark.parametrize(
    ("spell", "words", "told"),
    [
        (
            local,
            ["--calendar", "XNYS", "--timezone", "UTC"],
            "90 bars lie in a slot of a session, 300 outside; check --timezone",
        ),
        (iso, ["--calendar", "XHKG"], "no bar lies in a slot of a session, 390 outside; check --timezone"),
    ],
    ids=["wrong zone", "wrong calendar"],
)
def test_run_bars_that_miss_the_sessions_are_noted(engine, tmp_path: Path, spell, words: list[str], told: str) -> None:
    (tmp_path / "SPY.csv").write_text("\n".join([HEAD, *rows(spell)]))
    code, out, _ = engine("run", tmp_path, *words)
    assert (code, told in out) == (0, True)


@pytest.mark.parametrize(
    ("later_days", "form"),
    [(14, "%d/%m/%Y %H:%M"), (14, "%m/%d/%Y %H:%M"), (0, "%d.%m.%Y %H:%M:%S"), (0, "%Y-%m-%d %I:%M %p")],
    ids=["the 16th, day first", "the 16th, month first", "german", "half days"],
)
def test_read_dates_that_tell_the_day_reads_every_row(engine, tmp_path: Path, later_days: int, form: str) -> None:
    stamps = [ts + dt.timedelta(days=later_days) for ts in MINUTES]
    (tmp_path / "SPY.csv").write_text("\n".join([HEAD, *(f"{ts.strftime(form)},{CELLS}" for ts in stamps)]))
    words = ("--calendar", "XNYS", "--timezone", "UTC", "--json")
    code, out, _ = engine("run", tmp_path, *words)
    assert (code, [row["present"] for row in json.loads(out)["series"]]) == (0, [390])


def test_run_calendar_that_is_none_lists_those_that_are_near(engine, tmp_path: Path) -> None:
    (tmp_path / "SPY.csv").write_text("\n".join([HEAD, *rows(iso)]))
    code, _, err = engine("run", tmp_path, "--calendar", "NYSE1")
    assert (code, "did you mean" in err) == (USAGE, True)


def test_run_header_without_a_row_is_said(engine, tmp_path: Path) -> None:
    (tmp_path / "SPY.csv").write_text(HEAD + "\n")
    code, out, _ = engine("run", tmp_path, "--calendar", "XNYS")
    assert (code, "SPY.csv: no rows" in out) == (0, True)


def test_read_symbols_without_a_name_for_them_names_both_options(engine, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("\n".join(of_two_symbols("Paper")))
    code, _, err = engine("run", tmp_path, "--calendar", "XNYS")
    assert (code, "--symbol NAME" in err, "--columns symbol=" in err) == (USAGE, True, True)


def test_read_text_in_utf32_names_the_command(engine, tmp_path: Path) -> None:
    (tmp_path / "SPY.csv").write_text("\n".join([HEAD, *rows(iso)]), encoding="utf-32")
    code, _, err = engine("run", tmp_path, "--calendar", "XNYS")
    assert (code, "iconv -f UTF-32" in err) == (USAGE, True)


@pytest.mark.parametrize("given", ["", "SPY.xls"])
@pytest.mark.parametrize("command", ["run", "audit"])
def test_read_a_workbook_says_to_save_it_as_csv(engine, tmp_path: Path, command: str, given: str) -> None:
    (tmp_path / "SPY.xls").write_bytes(b"\xd0\xcf\x11\xe0 and so on")
    code, _, err = engine(command, tmp_path / given, "--calendar", "XNYS")
    assert (code, "save its sheet as CSV" in err) == (USAGE, True)


def test_read_an_empty_folder_says_that_there_is_nothing(engine, tmp_path: Path) -> None:
    code, _, err = engine("run", tmp_path, "--calendar", "XNYS")
    assert (code, "there is no file at all" in err) == (USAGE, True)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("SPY", "QQQ"):
        (folder / f"{name}.csv").write_text("\n".join([HEAD, *rows(iso)]))
    return folder


@pytest.mark.parametrize("command", ["run", "audit"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--symbols", ""], "--symbols"),
        (["--symbols", " , "], "--symbols"),
        (["--columns", "ts=ts,ts=open"], "'ts' twice"),
        (["--start", "2024-02-01", "--end", "2024-01-01"], "later than end"),
        (["--skip-rows", "-1"], "skip_rows"),
        (["--scale", "-1"], "scale"),
    ],
)
def test_read_options_that_select_nothing_or_contradict_are_refused(
    engine, two: Path, command: str, words: list[str], told: str
) -> None:
    code, _, err = engine(command, two, "--calendar", "XNYS", *words)
    assert (code, told in err) == (USAGE, True)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ("skip_rows = 3", ["--skip-rows", "0"]),
        ('decimal = ","', ["--decimal", "."]),
        ("allow_non_positive = true", ["--no-allow-non-positive"]),
    ],
)
def test_run_words_override_a_file_of_options_with_the_default_too(
    engine, tmp_path: Path, two: Path, stated: str, words: list[str]
) -> None:
    (two / "SPY.csv").write_text("\n".join([HEAD, *rows(iso), *rows(lambda ts: iso(ts.replace(day=3)), "-5,5,-9,1,1")]))
    (tmp_path / "options.toml").write_text(stated)
    plain = engine("run", two, "--calendar", "XNYS", "--json")
    code, out, _ = engine("run", two, "--calendar", "XNYS", "--json", "--options", tmp_path / "options.toml", *words)
    assert (code, json.loads(out)["rows"]) == (plain[0], json.loads(plain[1])["rows"]) == (4, 780)


def test_run_symbols_blames_no_file_of_others(engine, two: Path) -> None:
    code, out, _ = engine("run", two, "--calendar", "XNYS", "--symbols", "SPY", "--json")
    notes = [note for note in json.loads(out)["notes"] if "QQQ.csv" in note]
    assert code == 0
    assert ["no rows left" in note and "390 rows of other symbols left out" in note for note in notes] == [True]


def test_run_dates_without_a_row_are_noted(engine, two: Path) -> None:
    code, out, _ = engine("run", two, "--calendar", "XNYS", "--start", "2030-01-01", "--json")
    assert (code, "dates: none of 780 rows lies in 2030-01-01 to ..." in json.loads(out)["notes"]) == (0, True)


@pytest.mark.parametrize(
    "words", [["--symbols", "NOPE"], ["--unit", "parsec"], ["--timezone", "UTC", "--columns", "ts=9"]]
)
def test_audit_that_fails_leaves_no_folder(engine, tmp_path: Path, two: Path, words: list[str]) -> None:
    assert engine("audit", two, "--calendar", "XNYS", "--output", tmp_path / "out", *words)[0] == USAGE
    assert not (tmp_path / "out").exists()


def test_audit_that_fails_keeps_what_the_folder_had(engine, tmp_path: Path, two: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    assert engine("audit", two, "--calendar", "XNYS", "--output", tmp_path / "out", "--symbols", "NOPE")[0] == USAGE
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_audit_header_without_a_row_names_the_file(engine, tmp_path: Path) -> None:
    (tmp_path / "SPY.csv").write_text(HEAD + "\n")
    code, _, err = engine("audit", tmp_path, "--calendar", "XNYS")
    assert (code, "SPY.csv: no rows" in err, "no file at all" in err) == (USAGE, True, False)


def test_errors_with_options_print_the_whole_command(engine, tmp_path: Path) -> None:
    (tmp_path / "SPY.csv").write_text("\n".join([HEAD, *rows(local)]))
    code, _, err = engine("run", tmp_path / "SPY.csv", "--calendar", "XNYS", "--derive", "5m", "--timezone=Mars/Base")
    assert (code, "try:" in err) == (USAGE, False)  # the value is wrong, and no message knows a right one
    code, _, err = engine("run", tmp_path / "SPY.csv", "--calendar", "XNYS", "--derive", "5m")
    command = f"engine run {tmp_path / 'SPY.csv'} --calendar XNYS --derive 5m --timezone"
    ours = f"try, if stamps are the market's local time: {command} America/New_York"
    assert err.splitlines()[1:] == [ours, f" or, if stamps are UTC: {command} UTC"]


@pytest.mark.parametrize(("seconds", "stamp"), [(60, "end"), (59, "end-inclusive")])
def test_run_stamps_of_ends_print_the_command_that_reads_them(engine, tmp_path: Path, seconds: int, stamp: str) -> None:
    ends = [HEAD, *(f"{(ts + dt.timedelta(seconds=seconds)).isoformat()},{CELLS}" for ts in MINUTES)]
    (tmp_path / "SPY.csv").write_text("\n".join(ends))
    _, out, _ = engine("run", tmp_path, "--calendar", "XNYS")
    (command,) = [line.removeprefix("try: ") for line in out.splitlines() if line.startswith("try: ")]
    assert command.endswith(f"--stamp {stamp}")
    _, out, _ = engine(*shlex.split(command)[1:], "--json")
    assert [row["present"] for row in json.loads(out)["series"] if row["interval"] == "1m"] == [390]


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_run_export_that_cannot_be_written_is_refused_before_a_file_is_read(
    engine, tmp_path: Path, two: Path, workers: list[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    (two / "SPY.csv").write_bytes(bytes(100))
    code, out, err = engine("run", two, "--calendar", "XNYSE", "--export", tmp_path / "out", *workers)
    assert (code, out, "out: is a file; valid: a folder that is new" in err) == (USAGE, "", True)


@pytest.mark.parametrize("output", ["SPY.csv", "SPY.csv/deeper"])
def test_audit_output_that_is_no_folder_is_bad_input(engine, two: Path, output: str) -> None:
    code, _, err = engine("audit", two, "--calendar", "XNYS", "--output", two / output)
    assert (code, "--output: received" in err, "valid: a folder that can be written to" in err) == (USAGE, True, True)
    assert sorted(path.name for path in two.iterdir()) == ["QQQ.csv", "SPY.csv"]


def test_run_rows_that_another_folder_has_with_other_values_are_noted(engine, tmp_path: Path) -> None:
    for folder, cells in (("a", CELLS), ("b", "10,10.5,9.5,10.3,100")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "SPY.csv").write_text("\n".join([HEAD, *rows(iso, cells)]))
    code, out, _ = engine("run", tmp_path, "--calendar", "XNYS", "--json")
    assert code == 0
    assert [
        note for note in json.loads(out)["notes"] if note.startswith("corrections: 390 of 780 rows have other values")
    ]
