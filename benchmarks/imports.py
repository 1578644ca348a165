"""What `import engine` costs a process, beside `import polars`."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.timing import Contender, Measure, measures, race


def start(rounds: int) -> list[Measure]:
    """Whole processes, start to exit."""
    contenders = [Contender(f"import {name}", partial(_process, f"import {name}")) for name in ("polars", "engine")]
    times = race(
        [*contenders, Contender("an empty process", partial(_process, "pass"))], max(rounds, 7), lambda *_: None
    )
    return measures("Import", "whole process", 0, times, {"import engine": "<= 1.3"})


def _process(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)
