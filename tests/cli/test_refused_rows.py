"""What a run says of rows and symbols that are not there: refused, outside sessions, asked for in vain."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from engine.cli import USAGE
from engine.cli.exit_codes import MANY_REJECTS, PARTLY_READ

HEAD = "timestamp,open,high,low,close,volume\n"
OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)


def line(minute: int, high: float = 10.5) -> str:
    return f"{(OPEN + dt.timedelta(minutes=minute)).isoformat()},10,{high},9.5,10.2,100\n"


def bars(bad: int = 0, count: int = 390) -> str:
    return HEAD + "".join(line(minute, 1 if minute < bad else 10.5) for minute in range(count))


@pytest.mark.parametrize(
    ("bad", "words", "code"),
    [
        (0, (), 0),
        (3, (), 0),
        (4, (), MANY_REJECTS),
        (4, ("--max-rejects", "2%"), 0),
        (4, ("--max-rejects", "0.02"), 0),
        (1, ("--max-rejects", "0"), MANY_REJECTS),
        (300, (), MANY_REJECTS),
        (300, ("--max-rejects", "100%"), 0),
        (4, ("--export", "out", "--workers", "1"), MANY_REJECTS),
    ],
)
def test_run_ends_by_the_share_of_refused_rows_and_says_how_many(engine, tmp_path, monkeypatch, bad, words, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor/SPY_1m.csv").write_text(bars(bad))
    (tmp_path / "vendor/QQQ_1m.csv").write_text(bars())
    ended, out, _ = engine("run", "vendor", "--calendar", "XNYS", *words)
    assert ended == code
    told = [text for text in out.splitlines() if text.startswith("refused: ")]
    if bad:
        (text,) = told
        assert text.startswith(f"refused: {bad} of 390 rows: high below low")
        assert "the first is row 2 of vendor/SPY_1m.csv: " in text
    assert ("too many rows refused: vendor/SPY_1m.csv: " in out) == (code == MANY_REJECTS)
    ended, out, _ = engine("run", "vendor", "--calendar", "XNYS", "--json", *words)
    refused = json.loads(out)["refused"]
    assert ended == code
    assert [(one["source"], one["count"], one["of"], one["row"]) for one in refused] == (
        [("vendor/SPY_1m.csv", bad, 390, 2)] if bad else []
    )


def test_run_quiet_tells_files_of_too_many_refused_rows_on_standard_error(engine, tmp_path):
    (tmp_path / "SPY_1m.csv").write_text(bars(40))
    code, out, err = engine("run", tmp_path, "--calendar", "XNYS", "--quiet")
    assert (code, out) == (MANY_REJECTS, "")
    assert "40 of 390 rows were refused (10.3%), more than --max-rejects 0.01" in err


def test_run_with_unreadable_files_and_refused_rows_ends_with_the_code_of_files(engine, tmp_path):
    (tmp_path / "SPY_1m.csv").write_text(bars(40))
    (tmp_path / "QQQ_1m.csv").write_bytes(bytes(1000))
    assert engine("run", tmp_path, "--calendar", "XNYS")[0] == PARTLY_READ


@pytest.mark.parametrize("text", ["", "one", "-1%", "101%", "2", "1%%"])
def test_run_share_that_is_none_names_the_option(engine, tmp_path, text):
    (tmp_path / "SPY_1m.csv").write_text(bars())
    code, _, err = engine("run", tmp_path, "--calendar", "XNYS", f"--max-rejects={text}")
    assert (code, "--max-rejects: received" in err) == (USAGE, True)


@pytest.mark.parametrize("kind", ["bars", "ticks", "quotes"])
def test_run_counts_rows_outside_sessions(engine, tmp_path, kind):
    minutes = [-300, -240, 0, 1, 2, 3, 500]
    if kind == "bars":
        (tmp_path / "SPY_1m.csv").write_text(HEAD + "".join(map(line, minutes)))
    else:
        cells = "1.5,10" if kind == "ticks" else "1.5,1.6"
        rows = "".join(f"{(OPEN + dt.timedelta(minutes=m)).isoformat()},{cells}\n" for m in minutes)
        (tmp_path / "SPY.csv").write_text(("ts,price,size\n" if kind == "ticks" else "ts,bid,ask\n") + rows)
    code, out, _ = engine("run", tmp_path, "--calendar", "XNYS", "--json")
    assert (code, json.loads(out)["outside_sessions"]) == (0, 3)
    if kind != "bars":
        (tmp_path / "SPY.csv").write_text((tmp_path / "SPY.csv").read_text().replace("T14", "T09"))
        code, out, _ = engine("run", tmp_path, "--calendar", "XNYS")
        assert (code, f"SPY: no {kind} lie in a session, 7 outside; check --timezone" in out) == (0, True)


def test_run_symbols_that_match_nothing_are_an_error_that_blames_no_file(engine, tmp_path):
    (tmp_path / "SPY_1m.csv").write_text(bars())
    (tmp_path / "QQQ_1m.csv").write_text(bars())
    (tmp_path / "IWM_1m.csv").write_bytes(bytes(1000))
    (tmp_path / "2024-01-02.csv").write_text("symbol," + HEAD + "DIA," + line(0) + "DIA," + line(1))
    for words in ((), ("--export", tmp_path / "out", "--workers", "1")):
        code, _, err = engine("run", tmp_path, "--calendar", "XNYS", "--symbols", "SPYY", *words)
        assert code == USAGE
        assert "symbols: received SPYY (did you mean SPY?); no row of the sources has it" in err
        assert "IWM_1m.csv" not in err
        assert "'DIA'" in err
    code, _, err = engine("audit", tmp_path, "--calendar", "XNYS", "--symbols", "SPYY")
    assert (code, "symbols: received SPYY (did you mean SPY?)" in err, "IWM_1m.csv" in err) == (USAGE, True, False)


def test_run_symbols_of_which_some_match_name_the_others_in_a_note(engine, tmp_path):
    (tmp_path / "SPY_1m.csv").write_text(bars())
    code, out, _ = engine("run", tmp_path, "--calendar", "XNYS", "--symbols", "SPY,QQQ")
    assert (code, "note: symbols: 'QQQ' asked for, and no row has them" in out) == (0, True)


def test_run_symbol_whose_file_cannot_be_read_names_the_file(engine, tmp_path):
    (tmp_path / "SPY_1m.csv").write_text(bars())
    (tmp_path / "QQQ_1m.csv").write_bytes(bytes(1000))
    code, _, err = engine("run", tmp_path, "--calendar", "XNYS", "--symbols", "QQQ")
    assert (code, f"{Path(tmp_path, 'QQQ_1m.csv')}: is filled with zeros" in err) == (USAGE, True)


def test_run_by_workers_exports_into_the_folder_it_stands_in(engine, tmp_path, monkeypatch):
    (tmp_path / "SPY_1m.csv").write_text(bars())
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    code, _, err = engine("run", "../SPY_1m.csv", "--calendar", "XNYS", "--workers", "1", "--export", ".")
    assert (code, err, (tmp_path / "out" / "exports").is_dir()) == (0, "", True)
