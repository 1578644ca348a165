"""Rules: what their language takes and refuses, and what they find."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from pathlib import Path

import polars as pl
import pytest
from engine.audit.rule_language import FUNCTIONS, KEYWORDS, TABLES, Comparison, parse_condition, replaced_check
from engine.audit.rules import parse_rules, read_rules, rule_findings
from engine.errors import ParameterError
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.tables import OPEN, audit, found, gap, quality, series, table

RULE = {"table": "quality", "where": "quality < 9"}


def one(where: str, table: str = "quality", **more: object):
    return parse_rules({"rule": [{"where": where, "table": table, **more}]})


def messages(tables: dict[str, pl.DataFrame], where: str, table: str = "quality", **more: object) -> list[str]:
    return rule_findings(tables, one(where, table, **more))["message"].to_list()


def test_parse_condition_reads_columns_operators_and_bounds_of_comparisons() -> None:
    condition = parse_condition("quality < 99 AND (missing>=5 or interval = '5m')", "quality")
    assert condition.comparisons == (Comparison("quality", "<", 99.0), Comparison("missing", ">=", 5.0))
    assert (condition.measured, condition.lower_is_worse) == ("quality", True)
    assert str(condition) == "quality where quality < 99 AND (missing>=5 or interval = '5m')"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("NOT quality >= 99", ["quality < 99"]),
        ("NOT quality >= 99 AND missing > 5", ["quality < 99", "missing > 5"]),
        ("not (quality >= 99 or missing < 3)", ["quality < 99", "missing >= 3"]),
        ("not not quality < 99", ["quality < 99"]),
        ("not (missing > 5 and not present = 1)", ["missing <= 5", "present = 1"]),
        ("case when quality >= 99 then false else true end", ["quality < 99"]),
        ("NOT case when quality >= 99 then true end", ["quality < 99"]),
        ("case when missing > 3 then quality < 9 else false end", ["quality < 9"]),
        ("symbol is not null and quality <= 3", ["quality <= 3"]),
        ("missing > -1 or quality<3", ["missing > -1", "quality < 3"]),
        ("(quality < 99) = false", []),
        ("quality < 99 is not true", []),
        ("coalesce(quality < 99, true)", []),
        ('symbol = \'"quality" < 9\' or "missing" > 1', ["missing > 1"]),
        ("missing > 1 case", []),
    ],
)
def test_parse_condition_negated_comparisons_are_read_as_their_opposites(text: str, found: list[str]) -> None:
    condition = parse_condition(text, "quality")
    assert [f"{one.column} {one.operator} {one.bound:g}" for one in condition.comparisons] == found


def test_broken_negated_rule_says_what_broke_it_and_that_lower_is_worse() -> None:
    condition = parse_condition("NOT quality >= 99", "quality")
    assert (condition.measured, condition.lower_is_worse) == ("quality", True)


@pytest.mark.parametrize(
    ("text", "table", "measured", "kept"),
    [
        ("present < 0.9 * expected", "quality", None, [True, False, None]),
        ("present / expected < 0.9", "quality", None, [True, False, None]),
        ("explained = 0 AND present <> 390", "quality", "explained", [True, False, None]),
        ("session >= DATE '2024-01-03'", "quality", None, [False, True, None]),
        ("interval LIKE '5%' OR symbol = 'it''s'", "quality", None, [False, True, None]),
        ("CASE WHEN present > 389 THEN true ELSE false END", "quality", "present", [False, True, False]),
        ("coalesce(present, 0) < 1 or present between 1 and 300", "quality", None, [True, False, True]),
        ("symbol IN ('SPY', 'QQQ') AND NOT starts_with(symbol, 'Q')", "quality", None, [True, False, None]),
    ],
)
def test_parse_condition_is_sql_over_the_columns_of_the_table(text, table, measured, kept) -> None:
    condition = parse_condition(text, table)
    rows = pl.DataFrame(
        {
            "symbol": ["SPY", "QQQ", None],
            "interval": ["1m", "5m", None],
            "present": [300, 390, None],
            "session": [dt.date(2024, 1, 2), dt.date(2024, 1, 3), None],
            "expected": 390,
            "explained": [0, 0, None],
        }
    )
    assert condition.measured == measured
    assert rows.select(condition.expression.alias("broken"))["broken"].to_list() == kept


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("qualty < 99", r"received 'qualty' \(did you mean 'quality'\?\); valid: symbol, "),
        ("quality << 99", "found unexpected|unable to parse|valid: a Boolean SQL expression"),
        ("quality < x", "received 'x'"),
        ("quality <", "valid: a Boolean SQL expression such as"),
        ("quality < 99; import os", "received '; import os'"),
        ("quality", "is Float64, not Boolean"),
        ("null", "is Null, not Boolean"),
        ("symbol < 99", "valid: a Boolean SQL expression such as"),
        ("sum(missing) > 5", "received 'sum'"),
        ("row_number() over () > 1", "received 'row_number'"),
        ("columns('.*') > 1", r"received 'columns'"),
        ("cast(symbol as int) > 1", "received 'cast'"),
        ("symbol ~ 'x'", "received \"~ 'x'\"; valid: columns"),
        ("(SELECT 1) = 1", "received 'SELECT'"),
        ("missing IN (SELECT column_1 FROM read_csv('/etc/passwd'))", "received 'SELECT'"),
        ("read_csv('/etc/passwd') IS NULL", "received 'read_csv'"),
        ("lpad(symbol, 1000000000, 'x') = 'x'", "received 'lpad'"),
        ('"symbol; DROP" = 1', "received '\"symbol; DROP\" = 1'"),
        ("(" * 400 + "missing" + ")" * 400 + " > 1", "valid: a Boolean SQL expression such as"),
        ("missing > 1" + " AND missing > 1" * 100, "has 1611 characters; valid: at most 1000"),
        ("", "valid: a Boolean SQL expression such as"),
    ],
)
def test_parse_condition_mistake_is_named_with_what_is_valid(text: str, told: str) -> None:
    with pytest.raises(ParameterError, match=told) as raised:
        parse_condition(text, "quality")
    assert "root:" not in str(raised.value)


WORDS = [
    *KEYWORDS,
    *FUNCTIONS,
    *TABLES["gaps"],
    "SELECT",
    "FROM",
    "1",
    "0.5",
    "'x'",
    "''",
    "(",
    ")",
    ",",
    "<",
    "=",
    "-",
    "*",
    "--",
]


@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)))
def test_parse_condition_any_text_is_a_boolean_column_or_a_parameter_error(text: str) -> None:
    try:
        condition = parse_condition(text, "gaps")
    except ParameterError:
        return
    rows = pl.DataFrame(schema=dict(TABLES["gaps"])).clear(2)
    assert rows.filter(condition.expression).height in (0, 2)


@pytest.mark.parametrize(
    ("check", "per", "toml"),
    [
        ("quality < 99 % and missing>=5", "session", 'table = "quality"\nwhere = "quality < 99 and missing>=5"'),
        ("explained == 0", "session", 'table = "quality"\nwhere = "explained = 0"'),
        ("duplicates > 0", "series", 'table = "series"\nwhere = "duplicates > 0"'),
        ("symbols >= 10", "outage", 'table = "outages"\nwhere = "symbols >= 10"'),
        ("gap > 5 min in first hour", "session", 'table = "gaps"\nwhere = "in_first > 300"'),
        ("gap >= 90s in last 30 min", "session", 'table = "gaps"\nwhere = "in_last >= 90"\nedge_minutes = 30'),
        ("gap < 6 min in first hours", "session", 'table = "gaps"\nwhere = "in_first < 360 AND in_first > 0"'),
        ("gap > 20 bars", "session", 'table = "gaps"\nwhere = "bar_count > 20"'),
        ("gap > 1.5 h", "session", 'table = "gaps"\nwhere = "seconds > 5400"'),
        ("finding stale*", "session", 'table = "findings"\nwhere = "check_name LIKE \'stale%\'"'),
        ("file unreadable", "session", 'table = "files"\nwhere = "problem IS NOT NULL"'),
        ("gap > 5 mim", "session", None),
        ("qualty < 9", "session", None),
    ],
)
def test_rule_in_the_form_of_earlier_versions_is_refused_with_the_sql_that_replaces_it(check, per, toml) -> None:
    assert replaced_check(check, per) == toml
    shown = "a table and an SQL condition" if toml is None else toml.replace("\n", ", ")
    with pytest.raises(ParameterError, match=re.escape(f"is the form of earlier versions; valid: {shown}")):
        parse_rules({"rule": [{"check": check, "per": per}]})
    if toml is not None:
        assert len(parse_rules(tomllib.loads("[[rule]]\n" + toml)).rules) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"rules": []}, r"unknown key 'rules' \(did you mean 'rule'\?\); valid: threshold, tolerance, defaults, rule"),
        ({"rule": [RULE, {"wher": "x"}]}, r"rule 2: unknown key 'wher' \(did you mean 'where'\?\)"),
        (
            {"rule": [{"name": "x"}]},
            "rule 1: table: received None; valid: quality, series, gaps, outages, findings, files",
        ),
        ({"rule": [{"table": "gap"}]}, r"rule 1: table: received 'gap' \(did you mean 'gaps'\?\)"),
        ({"rule": [{"table": "gaps"}]}, "rule 1: where: received None; valid: text"),
        ({"rule": [{**RULE, "severity": "eror"}]}, r"rule 1: severity: received 'eror' \(did you mean 'error'"),
        ({"rule": [{**RULE, "severity": "off"}]}, "rule 1: severity: received 'off'"),
        ({"rule": [{**RULE, "symbols": "SPY"}]}, "rule 1: symbols: received 'SPY'; valid: a list"),
        (
            {"rule": [{"table": "gaps", "where": "seconds > 1", "cause": ["feedloss"]}]},
            r"cause: received 'feedloss' \(did you mean 'feed_loss'",
        ),
        (
            {"rule": [{**RULE, "cause": ["halt"]}]},
            "cause does not apply to the table quality; valid: symbols, interval, activity",
        ),
        (
            {"rule": [{"table": "outages", "where": "missing > 9", "symbols": ["A"]}]},
            "symbols does not apply to the table outages; valid: cause",
        ),
        ({"rule": [{**RULE, "edge_minutes": 30}]}, "edge_minutes applies to conditions on in_first or in_last"),
        (
            {"rule": [{"table": "gaps", "where": "in_first > 1", "edge_minutes": 0}]},
            "edge_minutes: received 0; valid: a number above 0",
        ),
        ({"rule": [{**RULE, "allow": -1}]}, "allow: received -1"),
        ({"rule": [{**RULE, "tolerance": "many"}]}, "tolerance: received 'many'"),
        ({"threshold": "fatal"}, "threshold: received 'fatal'; valid: error, warning, info"),
        ({"rule": {"where": "x"}}, r"rule: received .*; valid: tables that begin with \[\[rule\]\]"),
    ],
)
def test_rules_of_mistake_names_rule_value_and_what_is_valid(content: dict, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        parse_rules(content)


def test_read_rules_file_that_is_no_toml_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[[rule")
    with pytest.raises(ParameterError, match=r"r\.toml: no rules could be read"):
        read_rules(tmp_path / "r.toml")


def test_broken_quality_per_session_finds_the_rows_below_with_measure_and_evidence() -> None:
    rows = table("quality", quality(quality=98.0, present=382, missing=8), quality("QQQ"), quality("TLT", quality=None))
    got = rule_findings(audit(quality=rows), one("quality < 99", name="base quality")).row(0, named=True)
    assert (got["check_name"], got["symbol"], got["value"], got["count"]) == ("base quality", "SPY", 98.0, 8)
    assert got["message"] == "quality 98 (< 99)"
    assert got["evidence"] == "382 of 390 slots present, 0 of the others explained"
    assert rule_findings(audit(quality=rows), one("quality < 99")).height == 1


def test_broken_comparisons_joined_by_and_must_all_hold() -> None:
    rows = table("quality", quality(quality=90.0, missing=39), quality("QQQ", quality=90.0, missing=2))
    assert messages(audit(quality=rows), "quality < 99 and missing > 5") == ["quality 90 (< 99), missing 39 (> 5)"]


def test_broken_rules_of_one_name_the_first_counts() -> None:
    rows = table("quality", quality(quality=90.0), quality("QQQ", quality=97.0))
    both = parse_rules(
        {
            "rule": [
                {"name": "q", "table": "quality", "where": "quality < 95"},
                {"name": "q", "table": "quality", "where": "quality < 99", "severity": "warning"},
            ]
        }
    )
    assert rule_findings(audit(quality=rows), both).select("symbol", "severity").rows() == [
        ("SPY", "error"),
        ("QQQ", "warning"),
    ]


@pytest.mark.parametrize(
    ("where", "minutes", "hits"),
    [
        ("in_first > 300", 60, ["across"]),
        ("in_first >= 300", 60, ["across", "early"]),
        ("seconds > 300", None, ["across", "long"]),
        ("bar_count > 29", None, ["long"]),
        ("in_first < 360 AND in_first > 0", 60, ["early"]),
        ("in_last > 0", 10, ["long"]),
        ("in_last > 0", 60, ["long"]),
        ("seconds > 300 AND position = 'inner' AND cause IN ('feed_loss')", None, ["across", "long"]),
    ],
)
def test_broken_gap_rules_measure_the_part_within_the_edge(where: str, minutes: int | None, hits: list[str]) -> None:
    gaps = table("gaps", gap(10, 15, evidence="early"), gap(54, 62, evidence="across"), gap(360, 390, evidence="long"))
    edge = {} if minutes is None else {"edge_minutes": minutes}
    assert sorted(rule_findings(audit(gaps=gaps), one(where, "gaps", **edge))["evidence"]) == hits


def test_broken_gap_rule_on_an_edge_says_how_much_of_the_gap_lies_there() -> None:
    gaps = table("gaps", gap(28, 40))
    (row,) = rule_findings(audit(gaps=gaps), one("in_first > 0", "gaps", edge_minutes=30)).iter_rows(named=True)
    assert row["message"] == "gap of 12 min, 2 min of it in the first 30 min, 12 bars: feed_loss"
    assert (row["value"], row["count"]) == (120.0, 12)


def test_broken_gap_in_the_first_hour_after_a_lunch_break_is_not_early() -> None:
    hour = dt.timedelta(hours=1)
    hours = [
        {
            "calendar": "XNYS",
            "session": OPEN.date(),
            "segment": "RTH",
            "segment_open": OPEN + a * hour,
            "segment_close": OPEN + b * hour,
        }
        for a, b in ((0, 2), (3, 6))
    ]
    gaps = table("gaps", gap(0, 10), gap(180, 190))
    tables = audit(gaps=gaps, sessions=table("sessions", *hours))
    assert rule_findings(tables, one("in_first > 300", "gaps"))["start_ts"].to_list() == [OPEN]


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
    assert sorted(rule_findings(tables, one("seconds > 60", "gaps", **selectors))["symbol"]) == symbols


def test_broken_per_series_and_per_outage_read_their_tables() -> None:
    lost = {
        "start_ts": OPEN,
        "end_ts": OPEN + dt.timedelta(minutes=3),
        "symbols": 40,
        "missing": 120,
        "first_session": OPEN.date(),
        "cause": "feed_loss",
        "evidence": "40 of 41 symbols",
    }
    tables = audit(series=table("series", series(duplicates=7)), outages=table("outages", lost))
    assert messages(tables, "duplicates > 0", "series") == ["duplicates 7 (> 0)"]
    got = rule_findings(tables, one("symbols >= 10", "outages", cause=["feed_loss"])).row(0, named=True)
    assert (got["start_ts"], got["count"], got["value"], got["evidence"]) == (OPEN, 120, 40.0, "40 of 41 symbols")


def test_broken_finding_rules_set_severity_or_silence_and_the_first_counts() -> None:
    tables = audit(
        findings=pl.concat([found("zone"), found("stale run"), found("stale run", symbol="TLT"), found("spike")])
    )
    rules = parse_rules(
        {
            "rule": [
                {"table": "findings", "where": "check_name LIKE 'stale%'", "symbols": ["TLT"], "severity": "info"},
                {"table": "findings", "where": "check_name LIKE 'stale%'", "severity": "off"},
                {"table": "findings", "where": "check_name = 'zone'", "severity": "error"},
            ]
        }
    )
    assert rule_findings(tables, rules).select("check_name", "symbol", "severity").rows() == [
        ("zone", "SPY", "error"),
        ("stale run", "TLT", "info"),
        ("spike", "SPY", "warning"),
    ]


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
    got = rule_findings(tables, read_rules()).select("check_name", "severity", "symbol", "source").rows()
    assert got == [
        ("adjusted quality", "error", "SPY", None),
        ("long loss", "error", "TLT", None),
    ]
