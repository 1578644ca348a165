"""The table of causes, and that the documentation shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from engine.checks.findings import SEVERITIES
from engine.quality.causes.cause_table import CAUSE_TABLE, CAUSES, EXCLUDED, EXPLAINING, LOSSES, REPORTED, Cause

PAGE = Path(__file__).parents[3] / "docs" / "causes.md"
HEADER = ("cause", "attributed when", "is loss", "adjusted quality", "severity of findings", "remedy")


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def documented(cause: Cause) -> str:
    is_loss = "yes" if cause.is_loss else "no"
    counts = "explained" if cause.explained else "left out" if cause.excluded else "missing"
    return row([f"`{cause.name}`", cause.rule, is_loss, counts, cause.severity or "none", cause.remedy or "none"])


def test_read_docs_of_causes_shows_the_table() -> None:
    table = "\n".join([row(HEADER), row(["---"] * len(HEADER)), *map(documented, CAUSE_TABLE)])
    assert table in PAGE.read_text(encoding="utf-8"), f"put this into {PAGE.name}:\n{table}"


@pytest.mark.parametrize("cause", CAUSE_TABLE, ids=lambda cause: cause.name)
def test_read_cause_is_consistent(cause: Cause) -> None:
    assert not (cause.is_loss and cause.explained)
    assert cause.severity is None or cause.severity in SEVERITIES
    assert not (cause.excluded and (cause.is_loss or cause.explained))
    # Refused rows and rows off the grid are reported by checks of their own.
    assert cause.severity is not None or cause.explained or cause.name in ("refused", "off_grid")
    assert all((cause.text, cause.meaning, cause.rule))


def test_read_names_of_causes_by_their_facts() -> None:
    assert len(set(CAUSES)) == len(CAUSES)
    assert set(LOSSES) == {"feed_loss", "symbol_loss"}
    assert set(EXPLAINING) == {"no_trade", "halt", "venue_halt"}
    assert set(EXCLUDED) == {"not_covered", "not_listed"}
    assert set(CAUSES) - set(REPORTED) == {"no_trade", "refused", "off_grid"}


def test_read_marks_of_causes_are_distinct_within_a_colour() -> None:
    assert len({(cause.colour, cause.mark) for cause in CAUSE_TABLE}) == len(CAUSE_TABLE)
