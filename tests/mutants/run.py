"""Mutation testing of the kernels: `python -m tests.mutants.run [MODULE ...] [--per-module N] [--seed N]`.

Each mutant of a seeded sample is tried in a process of its own with the tests of `TESTS`, which stop at the first
failure. A mutant that no test fails survives; each survivor has its class and reason in `survivors.toml`:

- `equivalent`: no input tells it from the kernel.
- `speed`: only the cost changes, as where a test for a quick way is always false. No test of results can kill it.
- `message`, or any other word: a test could kill it, and none does.

The share is of the mutants that can be killed: neither `equivalent` nor `speed`. It exits with 1 where the share is below
95 %, where a survivor has no class, where one that cannot be killed is, or where `survivors.toml` has a change that is none
of the module's mutants any more.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import os
import random
import resource
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies  # noqa: F401 - what every child needs is loaded once, before it is forked
import numpy as np  # noqa: F401
import polars as pl  # noqa: F401
import pytest

from tests.mutants.operators import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
CASES = "tests/test_reference_cases.py::test_kernels_of_a_sample_of_cases_equal_the_reference[0]"
STORED = "tests/test_reference_cases.py::test_bars_folded_from_stored_bars_equal_the_reference"
# The quickest first: most mutants never see the others.
TESTS: dict[str, list[str]] = {
    "grid": ["tests/test_grid.py", "tests/test_grid_boundaries.py", CASES, "tests/test_grid_strides.py"],
    "derive/bars": ["tests/derive/test_bars.py", "tests/derive/test_tick_bars.py", CASES, STORED],
    "quality/gaps": ["tests/quality/test_gaps.py", CASES],
    "quality/score": ["tests/quality/test_score.py", CASES],
    "schema": ["tests/test_schema.py"],
}
# Random examples that the cases above hold already, at ten times the cost.
LEFT_OUT = (
    "tests/derive/test_bars.py::test_derive_any_holes_equals_the_reference",
    "tests/derive/test_bars.py::test_derive_with_other_intervals_gives_the_same_bars",
    "tests/derive/test_bars.py::test_derive_a_slice_equals_the_slice_of_the_panel",
    "tests/quality/test_gaps.py::test_find_gaps_any_holes_equals_the_reference",
)
KILLED_SHARE = 0.95
NOT_KILLABLE = ("equivalent", "speed")
CPU_SECONDS = 240  # of one mutant: an endless loop is a failure


class _Swapped(importlib.abc.MetaPathFinder):
    """One module is loaded from another file."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> object:
        return importlib.util.spec_from_file_location(fullname, self.path) if fullname == self.name else None


def main() -> int:
    """Try the mutants; 0 where enough are killed and each survivor is classed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("modules", nargs="*", default=list(TESTS), help=f"of {', '.join(TESTS)}")
    options.add_argument("--per-module", type=int, default=80, help="size of the sample")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options.add_argument("--survivors", action="store_true", help="try again the classed survivors alone")
    chosen = options.parse_args()
    classes = {(one["module"], one["function"], one["change"]): one["class"] for one in classed()}
    failed = False
    for module in chosen.modules:
        every = mutants((ROOT / "engine" / f"{module}.py").read_text())
        for function, change in stale_changes(module, every):
            _say(f"  STALE: {module}.py {function}: {change}: none of its mutants; delete it from {SURVIVORS.name}")
            failed = True
        size = min(chosen.per_module, len(every))
        sample = random.Random(chosen.seed).sample(every, size)  # noqa: S311
        if chosen.survivors:
            sample = [one for one in every if (module, one.function, one.change) in classes]
        if not _passes(module):
            _say(f"{module}: its tests fail without a mutant; `pytest {' '.join(TESTS[module])}` tells which")
            return 2
        counts: Counter[str] = Counter()
        for one, is_killed in _tried(module, sample, chosen.jobs):
            named = classes.get((module, one.function, one.change))
            outcome = (named or "SURVIVED") if not is_killed else "KILLED" if named in NOT_KILLABLE else "killed"
            counts[outcome] += 1
            if not is_killed or chosen.survivors or outcome == "KILLED":
                _say(f"  {outcome}: {module}.py:{one.line} {one.function}: {one.change}")
        share = counts["killed"] / max(len(sample) - sum(counts[name] for name in NOT_KILLABLE), 1)
        _say(
            f"{module}: {dict(counts)}; {len(sample)} of {len(every)} mutants tried, {share:.1%} of those killed that can be"
        )
        failed |= counts["SURVIVED"] + counts["KILLED"] > 0 or (share < KILLED_SHARE and not chosen.survivors)
    return int(failed)


def stale_changes(module: str, every: list[Mutant]) -> list[tuple[str, str]]:
    """(function, change) of each entry of `survivors.toml` for the module that is none of its mutants."""
    there = {(one.function, one.change) for one in every}
    keys = [(one["function"], one["change"]) for one in classed() if one["module"] == module]
    return [key for key in keys if key not in there]


def classed() -> list[dict[str, str]]:
    """Entries of `survivors.toml`: module, function, change, class and reason of each mutant that no test fails."""
    return tomllib.loads(SURVIVORS.read_text()).get("survivor", []) if SURVIVORS.exists() else []


def _tried(module: str, sample: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, bool]]:
    with tempfile.TemporaryDirectory() as folder:
        running: dict[int, Mutant] = {}
        waiting = list(sample)
        while waiting or running:
            while waiting and len(running) < jobs:
                one = waiting.pop()
                path = Path(folder) / f"mutant_{len(waiting)}.py"
                path.write_text(one.source)
                running[_start(module, path)] = one
            pid, status = os.wait()
            yield running.pop(pid), status != 0


def _passes(module: str) -> bool:
    path = ROOT / "engine" / f"{module}.py"
    return all(not is_killed for _, is_killed in _tried(module, [Mutant("", "", 0, path.read_text())], 1))


def _start(module: str, path: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    sys.meta_path.insert(0, _Swapped(f"engine.{module.replace('/', '.')}", path))
    # Nobody reads why a test fails, and rewriting its assertions (and those of hypothesis) takes most of the time.
    arguments = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "--assert=plain", "--hypothesis-profile=ci"]
    arguments += [f"--deselect={test}" for test in LEFT_OUT]
    code = 1
    try:
        code = int(pytest.main([*arguments, *TESTS[module]]))
    finally:
        os._exit(code)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
