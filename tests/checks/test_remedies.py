"""Remedies as text, and the severities that the documentation states."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from engine.checks.check import Check, registered
from engine.checks.remedies import alternatives_of, any_of, options_of, shift_option
from engine.sources.options import parse_shift

CHECKS = Path(__file__).parents[2] / "docs" / "checks.md"


def test_alternatives_are_tried_in_their_order() -> None:
    remedy = any_of("--timezone UTC+01", "--shift=-1h --stamp end", "ask the vendor")
    assert [options_of(one) for one in alternatives_of(remedy)] == [
        {"timezone": "UTC+01"}, {"shift": "-1h", "stamp": "end"}, {},
    ]  # fmt: skip
    assert options_of("--calendar XNYS (XNAS, XTSE fit as well)") == {"calendar": "XNYS"}
    assert alternatives_of(None) == []


@pytest.mark.parametrize(("seconds", "text"), [(-18000, "=-5h"), (19800, " 330m"), (60, " 1m"), (-59, "=-59s")])
def test_shift_option_states_the_seconds(seconds: int, text: str) -> None:
    assert shift_option(seconds) == f"--shift{text}"
    assert parse_shift(text.lstrip(" =")).total_seconds() == seconds


def test_severities_of_the_documentation_are_those_of_the_registry() -> None:
    stated: dict[str, set[str]] = {}
    name = ""
    for line in CHECKS.read_text(encoding="utf-8").splitlines():
        cells = [one.strip() for one in line.strip("|").split("|")]
        if not line.startswith("|") or len(cells) < 3:
            continue
        if found := re.fullmatch(r"`(\w+)`", cells[0]):
            name = found[1]
            stated[name] = set(re.findall(r"\w+", cells[1]))
    known = {
        check.name: set(check.severities) for check in registered(Check) if type(check).__module__.startswith("engine.")
    }
    assert {one: words for one, words in stated.items() if one in known} == known
