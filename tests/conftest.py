"""Shared fixtures: where the vendor files are, when they are."""

from __future__ import annotations

from pathlib import Path

import pytest

VENDOR = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def vendor() -> Path:
    """The folder of real vendor files beside the project; tests that need it skip where it is absent."""
    if not VENDOR.is_dir():
        pytest.skip(f"no vendor files at {VENDOR}")
    return VENDOR
