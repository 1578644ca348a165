"""Shared fixtures: where the vendor files are, when they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("engine", deadline=None)
settings.load_profile("engine")

VENDOR = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def vendor() -> Path:
    """The folder of real vendor files beside the project; tests that need it skip where it is absent."""
    if not VENDOR.is_dir():
        pytest.skip(f"no vendor files at {VENDOR}")
    return VENDOR


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.getreports("skipped") if "no vendor files" in str(report.longrepr)]
    if skipped:
        terminalreporter.section("REAL VENDOR FILES WERE NOT TESTED", sep="!")
        terminalreporter.write_line(f"{len(skipped)} tests were skipped: no folder {VENDOR}")
