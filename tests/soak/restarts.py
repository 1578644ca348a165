"""Restarts of live sessions over several simulated days, against a session that ran undisturbed.

The worlds and the law are those of `tests/law/test_restart.py`; here are more of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

from tests.law.restart_world import World, broken_laws
from tests.soak.report import Line, first

PATTERNS = 5
FIRST_SEED = 1000  # others than those of the suite


def restart_sessions(folder: Path, histories: int) -> list[Line]:
    """Follow so many histories of restarts; wrong is each that ends with other tables or indicators."""
    failures: list[str] = []
    ends = done = 0
    with patch.object(os, "fsync", lambda handle: None):  # a killed process loses nothing that was written
        for seed in range(FIRST_SEED, FIRST_SEED + -(-histories // PATTERNS)):
            patterns = min(PATTERNS, histories - done)
            failures += broken_laws(folder, seed, patterns)
            ends += sum(len(World.of(seed).restarts(pattern)) for pattern in range(patterns))
            done += patterns
    wrong = len({one.partition(", [")[0] for one in failures})
    seen = (
        f"{ends} ends of processes, stopped, killed, or killed before the export",
        "all tables and indicators equal",
    )
    return [Line("restarts of a live session", histories, wrong, seen, first(failures))]
