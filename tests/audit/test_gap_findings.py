"""Severities of findings of gaps: short doubtful losses and short pauses are information."""

from __future__ import annotations

import pytest
from engine.audit.gap_findings import series_gap_findings

from tests.audit.tables import audit, gap, quality, table


def severity(bars: int, cause: str, confidence: float, expected: int = 390) -> str:
    tables = audit(
        gaps=table("gaps", gap(10, 10 + bars, bar_count=bars, cause=cause, confidence=confidence)),
        quality=table("quality", quality(expected=expected)),
    )
    (found,) = series_gap_findings(tables["gaps"], table("outages"), tables["quality"])["severity"]
    return str(found)


@pytest.mark.parametrize(
    ("bars", "confidence", "expected"),
    [(1, 0.72, "info"), (5, 0.89, "info"), (5, 0.9, "warning"), (6, 0.72, "warning"), (1, 0.95, "warning")],
)
def test_severity_of_a_short_loss_that_is_not_sure_is_information(bars, confidence, expected) -> None:
    assert severity(bars, "symbol_loss", confidence) == expected


@pytest.mark.parametrize(("bars", "expected"), [(7, "info"), (8, "warning")])
def test_severity_of_a_pause_follows_its_share_of_the_session(bars, expected) -> None:
    assert severity(bars, "calendar_suspect", 0.9) == expected


def test_severity_of_a_pause_in_sessions_of_unknown_length_is_a_warning() -> None:
    tables = audit(gaps=table("gaps", gap(10, 12, cause="calendar_suspect", confidence=0.9)))
    told = series_gap_findings(tables["gaps"], table("outages"), table("quality"))
    assert told.select("check_name", "severity").rows() == [("calendar_suspect", "warning")]
