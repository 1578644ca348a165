"""Verdicts for machines: JUnit as its readers want it, annotations as GitHub parses them, JSON that never moves."""

from __future__ import annotations

import datetime as dt
import json
from xml.etree import ElementTree as ET

import polars as pl
import pytest
from engine.audit.allowlist import parse_allowlist
from engine.audit.rules import parse_rules
from engine.audit.verdict import Verdict, apply_rules
from engine.audit.verdict_formats import render, to_annotations, to_json, to_junit
from engine.errors import ParameterError
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.tables import audit, found, quality, table

TODAY = dt.date(2024, 6, 1)
RULES = parse_rules(
    {
        "rule": [
            {"name": "q", "table": "quality", "where": "quality < 99"},
            {"name": "never", "table": "quality", "where": "missing > 999"},
        ]
    }
)
HOSTILE = [
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "[/]",
    "]]>",
    "a\x00b\x1f\ufffe",
    "x\r\n::error::pwned",
    "%0A,:",
    "😀" * 100,
]


def verdict_of(*symbols: str) -> Verdict:
    parts = [found("spike", "error", symbol, source=f"{symbol}.csv", evidence="a\nb") for symbol in symbols]
    return apply_rules(audit(findings=pl.concat([found().clear(), *parts])), RULES, today=TODAY)


def cases(verdict: Verdict, **more: int) -> list[ET.Element]:
    root = ET.fromstring(to_junit(verdict, **more))  # noqa: S314 - our own
    # What the schema of Jenkins asks for.
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        inner = list(suite)
        assert {case.tag for case in inner} == {"testcase"}
        assert int(suite.get("tests")) == len(inner)
        assert int(suite.get("failures")) == sum(case.find("failure") is not None for case in inner)
        assert int(suite.get("skipped")) == sum(case.find("skipped") is not None for case in inner)
        assert suite.get("errors") == "0"
        for case in inner:
            assert {"name", "classname", "time"} == set(case.keys())
            assert [one.tag for one in case] in (["failure"], ["skipped", "system-out"], ["system-out"], [])
    assert int(root.get("tests")) == sum(int(suite.get("tests")) for suite in root)
    return [case for suite in root for case in suite]


def test_to_junit_failures_skips_and_quiet_rules_are_cases() -> None:
    allowed = parse_allowlist({"allow": [{"symbol": "QQQ", "reason": "seen", "until": TODAY}]})
    tables = audit(
        quality=table("quality", quality(quality=90.0), quality("QQQ", quality=80.0)), findings=found("zone")
    )
    told = {
        case.get("name"): [one.tag for one in case]
        for case in cases(apply_rules(tables, RULES, today=TODAY, allowlist=allowed))
    }
    assert told == {
        "SPY last 1m 2024-01-02": ["failure"],
        "QQQ last 1m 2024-01-02": ["skipped", "system-out"],
        "SPY last 1m": ["system-out"],
        "nothing found": [],
    }


@pytest.mark.parametrize("symbol", HOSTILE)
def test_to_junit_hostile_symbol_is_text(symbol: str) -> None:
    case = next(case for case in cases(verdict_of(symbol)) if case.find("failure") is not None)
    clean = symbol.replace("\x00", "\\x00").replace("\x1f", "\\x1f").replace("\ufffe", "\\ufffe")
    assert case.get("name") == f"{clean} last 1m {clean}.csv"
    assert f"spike of {clean}".replace("\r\n", "\n") in case.find("failure").text


@given(st.text(max_size=30))
def test_to_junit_any_symbol_parses(symbol: str) -> None:
    assert sum(case.find("failure") is not None for case in cases(verdict_of(symbol))) == 1


def test_to_junit_beyond_the_bound_says_how_many_are_left_and_that_they_fail() -> None:
    told = cases(verdict_of("A", "B", "C"), most=1)
    assert told[-1].get("name") == "2 more findings, which are not listed here"
    assert told[-1].find("failure").get("message") == "2 of them fail"


def test_to_annotations_escapes_what_github_would_take_for_a_command() -> None:
    escaped = "x%0D%0A%3A%3Aerror%3A%3A100%25%2Ca%3Ab"
    lines = to_annotations(verdict_of("x\r\n::error::100%,a:b")).decode().splitlines()
    assert lines == [
        f"::error file={escaped}.csv,title=spike%3A {escaped} last 1m::spike of x%0D%0A::error::100%25,a:b%0Aa%0Ab",
        "::notice title=engine audit::FAILED: 1 at or over error; 1 new",
    ]


@given(st.lists(st.text(max_size=20), max_size=5, unique=True))
def test_to_annotations_any_symbols_are_one_line_each(symbols: list[str]) -> None:
    lines = to_annotations(verdict_of(*symbols)).decode().split("\n")
    assert len(lines) == len(symbols) + 2
    assert all(line.startswith(("::error ", "::notice ")) for line in lines[:-1])
    assert all(c.isprintable() for line in lines for c in line)


def test_to_annotations_are_bounded_and_say_what_is_left() -> None:
    lines = to_annotations(verdict_of(*map(str, range(25)))).decode().splitlines()
    assert sum(line.startswith("::error") for line in lines) == 10
    assert lines[-2] == "::notice title=engine audit::15 more of level error"


def test_to_annotations_levels_are_those_of_severity_unless_it_fails() -> None:
    tables = audit(findings=pl.concat([found("a", "warning"), found("b", "info")]))
    levels = [
        line.split(" ")[0] for line in to_annotations(apply_rules(tables, RULES, today=TODAY)).decode().splitlines()
    ]
    assert levels == ["::warning", "::notice", "::notice"]
    strict = parse_rules({"threshold": "warning"})
    levels = [
        line.split(" ")[0] for line in to_annotations(apply_rules(tables, strict, today=TODAY)).decode().splitlines()
    ]
    assert levels == ["::error", "::notice", "::notice"]


def test_to_json_is_the_same_bytes_whatever_order_the_findings_came_in() -> None:
    assert to_json(verdict_of("B", "A", "C")) == to_json(verdict_of("C", "B", "A"))


def test_to_json_holds_version_stamps_and_states() -> None:
    verdict = apply_rules(
        audit(findings=found(start_ts=dt.datetime(2024, 1, 2, tzinfo=dt.UTC), value=float("nan"))), RULES, today=TODAY
    )
    content = json.loads(to_json(verdict))
    assert (content["format"], content["version"], content["exit_code"]) == ("session-engine audit", 2, 0)
    assert content["findings"][0]["start_ts"] == "2024-01-02T00:00:00Z"
    assert (content["findings"][0]["value"], content["findings"][0]["state"]) == (None, "new")


def test_render_other_form_is_refused() -> None:
    with pytest.raises(ParameterError, match="format: received 'parquet'; valid: json, junit, github"):
        render(verdict_of(), "parquet")


def test_junit_rule_whose_findings_are_beyond_the_most_listed_is_no_passed_case() -> None:
    verdict = apply_rules(audit(quality=table("quality", quality(quality=90.0, missing=1000))), RULES, today=TODAY)
    assert set(verdict.findings["check_name"]) == {"q", "never"}
    for most in (0, 1, 2):
        told = cases(verdict, most=most)
        assert not [case for case in told if case.get("name") == "nothing found"]
