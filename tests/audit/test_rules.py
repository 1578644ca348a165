"""Rules: what their language takes and refuses, and what they find."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from engine.audit.rule_language import FindingCheck, GapCheck, TableCheck, Window, parse_check
from engine.audit.rules import broken, read_rules, rules_of
from engine.errors import ParameterError
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.tables import OPEN, audit, found, gap, quality, series, table


def one(check: str, **more: object):
    return rules_of({"rule": [{"check": check, **more}]})


def messages(tables: dict[str, pl.DataFrame], check: str, **more: object) -> list[str]:
    return broken(tables, one(check, **more))["message"].to_list()


def test_parse_check_comparisons_reads_columns_operators_and_bounds() -> None:
    check = parse_check("quality < 99 % and missing>=5")
    assert isinstance(check, TableCheck)
    assert [(c.column, c.operator, c.bound) for c in check.comparisons] == [
        ("quality", "<", 99.0),
        ("missing", ">=", 5.0),
    ]
    assert str(check) == "quality < 99 and missing >= 5"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gap > 5 min in first hour", GapCheck(">", 300, in_bars=False, window=Window("first", 3600))),
        ("gap >= 90s in last 30 min", GapCheck(">=", 90, in_bars=False, window=Window("last", 1800))),
        ("gap > 20 bars", GapCheck(">", 20, in_bars=True, window=None)),
        ("gap > 1.5 h", GapCheck(">", 5400, in_bars=False, window=None)),
        ("finding stale*", FindingCheck("stale*")),
    ],
)
def test_parse_check_gaps_and_findings_reads_lengths_and_windows(text: str, expected: object) -> None:
    assert parse_check(text) == expected
    assert parse_check(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("qualty < 99", r"received 'qualty' \(did you mean 'quality'\?\); valid per session: expected, "),
        ("symbol < 99", "received 'symbol'; valid per session"),
        ("quality << 99", "received '<'; valid here: a number"),
        ("quality < x", "received 'x'; valid here: a number"),
        ("quality <", "ends too early; valid here: a number"),
        ("quality < 99 or missing > 1", "received 'or' after the check"),
        ("quality < 99; import os", "received '; import os'"),
        ("missing > 5 %", "received % after missing"),
        ("gap > 5 mim", r"received 'mim' \(did you mean 'min'\?\); valid units: s, sec"),
        ("gap > 5", "ends too early; valid here: a unit"),
        ("gap > 5 min in frist hour", r"received 'frist' \(did you mean 'first'\?\)"),
        ("gap > 5 bars in first hour", "received 'bars' in a window"),
        ("gap > 5 min in first 0 min", "a window of no length"),
        ("finding", "finding: no name"),
        ("", "ends too early; valid here: a column"),
    ],
)
def test_parse_check_mistake_is_named_with_what_is_valid(text: str, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        parse_check(text)


@given(st.text(max_size=40))
def test_parse_check_any_text_is_a_check_or_a_parameter_error(text: str) -> None:
    try:
        check = parse_check(text)
    except ParameterError:
        return
    assert parse_check(str(check)) == check


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"rules": []}, r"unknown key 'rules' \(did you mean 'rule'\?\); valid: threshold, tolerance, defaults, rule"),
        ({"rule": [{"check": "quality < 9"}, {"chek": "x"}]}, r"rule 2: unknown key 'chek' \(did you mean 'check'\?\)"),
        ({"rule": [{"name": "x"}]}, "rule 1: check: received None"),
        ({"rule": [{"check": "quality < 9", "severity": "eror"}]}, r"rule 1: severity: received 'eror' \(did you mean 'error'"),
        ({"rule": [{"check": "quality < 9", "severity": "off"}]}, "rule 1: severity: received 'off'"),
        ({"rule": [{"check": "quality < 9", "symbols": "SPY"}]}, "rule 1: symbols: received 'SPY'; valid: a list"),
        ({"rule": [{"check": "gap > 1 s", "cause": ["feedloss"]}]}, r"cause: received 'feedloss' \(did you mean 'feed_loss'"),
        ({"rule": [{"check": "quality < 9", "cause": ["halt"]}]}, "cause does not apply with the check quality < 9"),
        ({"rule": [{"check": "missing > 9", "per": "outage", "symbols": ["A"]}]}, "symbols does not apply per outage"),
        ({"rule": [{"check": "gap > 1 s", "per": "series"}]}, "per does not apply"),
        ({"rule": [{"check": "quality < 9", "allow": -1}]}, "allow: received -1"),
        ({"rule": [{"check": "quality < 9", "tolerance": "many"}]}, "tolerance: received 'many'"),
        ({"threshold": "fatal"}, "threshold: received 'fatal'; valid: error, warning, info"),
        ({"rule": {"check": "x"}}, r"rule: received .*; valid: tables that begin with \[\[rule\]\]"),
    ],
)  # fmt: skip
def test_rules_of_mistake_names_rule_value_and_what_is_valid(content: dict, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        rules_of(content)


def test_read_rules_file_that_is_no_toml_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[[rule")
    with pytest.raises(ParameterError, match=r"r\.toml: no rules could be read"):
        read_rules(tmp_path / "r.toml")


def test_broken_quality_per_session_finds_the_rows_below_with_measure_and_evidence() -> None:
    rows = table("quality", quality(quality=98.0, present=382, missing=8), quality("QQQ"), quality("TLT", quality=None))
    got = broken(audit(quality=rows), one("quality < 99", name="base quality")).row(0, named=True)
    assert (got["check"], got["symbol"], got["value"], got["count"]) == ("base quality", "SPY", 98.0, 8)
    assert got["message"] == "quality 98 (< 99)"
    assert got["evidence"] == "382 of 390 slots present, 0 of the others explained"
    assert broken(audit(quality=rows), one("quality < 99")).height == 1


def test_broken_comparisons_joined_by_and_must_all_hold() -> None:
    rows = table("quality", quality(quality=90.0, missing=39), quality("QQQ", quality=90.0, missing=2))
    assert messages(audit(quality=rows), "quality < 99 and missing > 5") == ["quality 90 (< 99), missing 39 (> 5)"]


def test_broken_rules_of_one_name_the_first_counts() -> None:
    rows = table("quality", quality(quality=90.0), quality("QQQ", quality=97.0))
    both = rules_of({"rule": [
        {"name": "q", "check": "quality < 95"},
        {"name": "q", "check": "quality < 99", "severity": "warning"},
    ]})  # fmt: skip
    assert broken(audit(quality=rows), both).select("symbol", "severity").rows() == [
        ("SPY", "error"),
        ("QQQ", "warning"),
    ]


@pytest.mark.parametrize(
    ("check", "hits"),
    [
        ("gap > 5 min in first hour", ["across"]),
        ("gap >= 5 min in first hour", ["across", "early"]),
        ("gap > 5 min", ["across", "long"]),
        ("gap > 29 bars", ["long"]),
        ("gap < 6 min in first hour", ["early"]),
        ("gap > 0 s in last 10 min", ["long"]),
        ("gap > 0 s in last hour", ["long"]),
    ],
)
def test_broken_gap_rules_measure_the_part_within_the_window(check: str, hits: list[str]) -> None:
    gaps = table("gaps", gap(10, 15, evidence="early"), gap(54, 62, evidence="across"), gap(360, 390, evidence="long"))
    assert sorted(broken(audit(gaps=gaps), one(check))["evidence"]) == hits


def test_broken_gap_in_the_first_hour_after_a_lunch_break_is_not_early() -> None:
    hour = dt.timedelta(hours=1)
    hours = [
        {"calendar": "XNYS", "session": OPEN.date(), "segment": "RTH", "segment_open": OPEN + a * hour, "segment_close": OPEN + b * hour}
        for a, b in ((0, 2), (3, 6))
    ]  # fmt: skip
    gaps = table("gaps", gap(0, 10), gap(180, 190))
    tables = audit(gaps=gaps, sessions=table("sessions", *hours))
    assert broken(tables, one("gap > 5 min in first hour"))["start"].to_list() == [OPEN]


@pytest.mark.parametrize(
    ("selectors", "symbols"),
    [
        ({"symbols": ["Q*"]}, ["QQQ"]),
        ({"symbols": ["[/]", "SPY"]}, ["SPY", "[/]"]),
        ({"activity": ["thin"]}, ["[/]"]),
        ({"cause": ["halt"]}, ["QQQ"]),
        ({"position": ["session"]}, ["[/]"]),
        ({"interval": ["5m"]}, []),
    ],
)
def test_broken_selectors_choose_by_symbol_class_cause_and_position(selectors: dict, symbols: list[str]) -> None:
    gaps = table("gaps", gap(0, 9), gap(0, 9, "QQQ", cause="halt"), gap(0, 9, "[/]", position="session"))
    tables = audit(gaps=gaps, series=table("series", series(), series("QQQ"), series("[/]", activity="thin")))
    assert sorted(broken(tables, one("gap > 1 min", **selectors))["symbol"]) == symbols


def test_broken_per_series_and_per_outage_read_their_tables() -> None:
    lost = {"start": OPEN, "end": OPEN + dt.timedelta(minutes=3), "symbols": 40, "missing": 120, "first_session": OPEN.date(),
            "cause": "feed_loss", "evidence": "40 of 41 symbols"}  # fmt: skip
    tables = audit(series=table("series", series(duplicates=7)), outages=table("outages", lost))
    assert messages(tables, "duplicates > 0", per="series") == ["duplicates 7 (> 0)"]
    got = broken(tables, one("symbols >= 10", per="outage", cause=["feed_loss"])).row(0, named=True)
    assert (got["start"], got["count"], got["value"], got["evidence"]) == (OPEN, 120, 40.0, "40 of 41 symbols")


def test_broken_finding_rules_set_severity_or_silence_and_the_first_counts() -> None:
    tables = audit(
        findings=pl.concat([found("zone"), found("stale run"), found("stale run", symbol="TLT"), found("spike")])
    )
    rules = rules_of({"rule": [
        {"check": "finding stale*", "symbols": ["TLT"], "severity": "info"},
        {"check": "finding stale*", "severity": "off"},
        {"check": "finding zone", "severity": "error"},
    ]})  # fmt: skip
    assert broken(tables, rules).select("check", "symbol", "severity").rows() == [
        ("zone", "SPY", "error"), ("stale run", "TLT", "info"), ("spike", "SPY", "warning"),
    ]  # fmt: skip


def test_broken_default_rules_spare_thin_symbols_and_name_long_losses() -> None:
    rows = table("quality", quality(quality_adjusted=90.0), quality("SHY", quality=85.0, quality_adjusted=90.0))
    tables = audit(
        quality=rows,
        series=table("series", series(), series("SHY", activity="thin")),
        gaps=table(
            "gaps",
            gap(0, 1),
            gap(5, 9, cause="symbol_loss"),
            gap(20, 290, "SHY", cause="no_trade"),
            gap(100, 161, "TLT", cause="symbol_loss"),
        ),
        files=table("files", {"source": "a.csv", "rows": 5}, {"source": "b.csv", "problem": "not a zip"}),
    )
    got = broken(tables, read_rules()).select("check", "severity", "symbol", "source").rows()
    assert got == [
        ("adjusted quality", "error", "SPY", None),
        ("long loss", "error", "TLT", None),
    ]
