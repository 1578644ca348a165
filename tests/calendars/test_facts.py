"""Every session from 2005 to 2026 equals the answer files, which no part of the product made."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest
from engine.calendars.providers import calendar_codes

from tests.calendars import compare_facts, facts_files
from tests.calendars.compare_facts import HOURS, PUBLIC, CodeResult, absent_databases, compare
from tests.calendars.facts_files import (
    FACTS,
    codes_of,
    dates_of,
    facts_path,
    facts_text,
    parse_spans,
    read_facts,
    read_tables,
    spans_text,
    to_local,
    to_utc,
)
from tests.calendars.make_facts import apply_corrections, make_facts, read_bases

CODES = sorted(read_bases())


@pytest.fixture(scope="module", params=CODES)
def compared(request) -> CodeResult:
    return compare(request.param)


def test_sessions_equal_the_answer_file_on_all_dates(compared):
    assert compared.sessions > 1_000
    assert [one for one in compared.disagreements if one.leg == "product"] == []
    assert compared.equal == compared.sessions


def test_every_disagreement_with_another_database_is_decided(compared):
    if absent_databases():
        pytest.skip("; ".join(absent_databases()))
    assert [one for one in compared.disagreements if one.leg != "product"] == []


@pytest.mark.slow
@pytest.mark.parametrize("code", CODES)
def test_answer_file_is_what_the_libraries_and_the_corrections_make(code):
    made = make_facts(code)
    header, sessions = read_facts(facts_path(code))
    assert sessions == made[1]
    assert {key: header[key] for key in ("code", "zone", "corrected")} == {
        key: made[0][key] for key in ("code", "zone", "corrected")
    }


def test_every_shipped_code_and_every_exchange_has_an_answer_file():
    listed = calendar_codes().filter(pl.col("provider") != "pandas_market_calendars")
    aliased = pl.col("description").str.starts_with("as ")
    assert set(listed.filter(~aliased)["code"]) - set(CODES) == set()
    assert set(listed.filter(aliased)["description"].str.strip_prefix("as ")) - set(CODES) == set()


@pytest.mark.parametrize("row", read_tables("corrections.toml", "correction"), ids=lambda row: str(row.get("code")))
def test_correction_says_source_and_day(row):
    assert set(row) <= {"code", "dates", "first", "last", "days", "was", "hours", "source", "looked_up", "sha256"}
    assert row["source"]
    assert isinstance(row["looked_up"], dt.date)
    assert set(codes_of(row)) <= set(CODES)
    assert len(row.get("sha256", "0" * 64)) == 64


@pytest.mark.parametrize(
    "row", read_tables("decisions.toml", "decision"), ids=lambda row: f"{row['leg']} {row['code']}"
)
def test_decision_says_who_is_right_and_why(row):
    assert row["leg"] in {"public", "market_hours"}
    # Where the other side is right, the answer file and the calendar are corrected, and nothing is left to decide.
    assert row["right"] in {"ours", "both"}
    assert row["why"]
    assert row["source"]
    assert isinstance(row["looked_up"], dt.date)
    assert set(codes_of(row)) <= set(CODES)


def test_compare_planted_half_day_names_the_date(monkeypatch, tmp_path):
    header, sessions = read_facts(facts_path("XNYS"))
    day = dt.date(2024, 7, 2)
    begin, end = sessions[day][0]
    tables = ("corrections.toml", "decisions.toml", "market_hours.toml")
    for name in tables:
        (tmp_path / name).write_bytes((FACTS / name).read_bytes())
    monkeypatch.setattr(facts_files, "FACTS", tmp_path)
    facts_path("XNYS").write_text(facts_text(header, {**sessions, day: ((begin, end - 3 * 3600),)}))
    wrong = [one for one in compare("XNYS").disagreements if one.leg == "product"]
    assert [(one.day, one.ours, one.theirs) for one in wrong] == [(day, "13:30/20:00", "13:30/17:00")]


def test_databases_are_those_that_were_compared():
    if absent_databases():
        pytest.skip("; ".join(absent_databases()))
    seen = tomllib.loads((FACTS / "market_hours.toml").read_text())["database"]
    assert hashlib.sha256(HOURS.read_bytes()).hexdigest() == seen["market_hours"]["sha256"]
    whole = b"".join(path.read_bytes() for path in sorted(PUBLIC.glob("*.csv")))
    assert hashlib.sha256(whole).hexdigest() == seen["public_answers"]["sha256"]


def test_make_facts_uses_nothing_of_the_package():
    probe = "import sys, tests.calendars.make_facts; print([name for name in sys.modules if name.split('.')[0] == 'engine'])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_write_and_read_spans_of_all_forms():
    for text in ("14:30/21:00", "23:00-1d/22:00", "23:00-2d/18:00-1d,23:00-1d/22:00", "00:00/24:00", "09:30:15/10:00"):
        assert spans_text(parse_spans(text)) == text
    day = dt.date(2024, 3, 11)  # the clocks went forward the day before
    local = parse_spans("17:00-1d/16:00")
    assert spans_text(to_utc(day, local, "America/Chicago")) == "22:00-1d/21:00"
    assert to_local(day, to_utc(day, local, "America/Chicago"), "America/Chicago") == local


def test_correction_without_effect_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(facts_files, "FACTS", tmp_path)
    (tmp_path / "corrections.toml").write_text(
        '[[correction]]\ncode = "X"\ndates = [2024-01-02]\nhours = "09:30/16:00"\nsource = "s"\nlooked_up = 2026-12-01\n'
    )
    day, spans = dt.date(2024, 1, 2), parse_spans("14:30/18:00")
    assert apply_corrections("X", "America/New_York", {day: spans}) == ({day: parse_spans("14:30/21:00")}, {day: "s"})
    with pytest.raises(ValueError, match="already so"):
        apply_corrections("X", "America/New_York", {day: parse_spans("14:30/21:00")})


def test_select_dates_by_range_and_weekday():
    days = [dt.date(2024, 1, n) for n in range(1, 15)]
    row = {"first": days[2], "last": days[10], "days": "Fri,Mon"}
    assert dates_of(row, days) == [dt.date(2024, 1, 5), dt.date(2024, 1, 8)]


def test_print_table_has_a_line_per_code_and_sums(monkeypatch, capsys):
    assert compare_facts.main(["24/7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["code", "sessions", "equal"], ["24/7", "8,035", "8,035"], ["all", "8,035", "8,035"],
    ]  # fmt: skip
    compare_facts.main(["24/7", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["equal"] == 8_035
    monkeypatch.setattr(compare_facts, "PUBLIC", FACTS / "nowhere")
    monkeypatch.setattr(compare_facts, "HOURS", FACTS / "nowhere.json")
    assert compare_facts.main(["24/7"]) == 0
    assert capsys.readouterr().err.count("NOT COMPARED") == 2
