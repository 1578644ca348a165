"""The finding of stamps that are some steps off, whatever showed it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.checks.check import SERIES


def steps_in_words(steps: int) -> str:
    """`one step` or `N steps`, whatever the direction."""
    return "one step" if abs(steps) == 1 else f"{abs(steps)} steps"


def stamp_steps_finding(
    row: Mapping[str, Any], steps: int, *, shown_by: str, count: int, evidence: str, remedy: str
) -> dict[str, Any]:
    """Build the `stamp` finding of a series whose stamps are late (steps > 0) or early; one step is an error, more a warning.

    Parameters
    ----------
    row : mapping
        With `SERIES`.
    steps : int
        By how many steps of the series; becomes `value`.
    shown_by : str
        The end of the message: against, or by, what they are off.
    count : int
        Of what was measured.
    evidence : str
    remedy : str
        Of others than stamps that are one step late, which mark the ends of bars.
    """
    is_end = steps == 1
    return {
        **{name: row[name] for name in SERIES},
        "check_name": "stamp",
        "severity": "error" if abs(steps) == 1 else "warning",
        "count": count,
        "value": float(steps),
        "message": f"Stamps are {steps_in_words(steps)} ({row['interval']}) {'late' if steps > 0 else 'early'} {shown_by}"
        + (": they mark the end of each bar, and are read as its start." if is_end else "."),
        "evidence": evidence,
        "remedy": "--stamp end" if is_end else remedy,
    }
