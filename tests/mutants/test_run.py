"""Mutation tests are honest: changes have names of their own, survivors exist, and what is claimed of them is checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import run
from tests.mutants.operators import Mutant, mutants

SOURCE = """
def cut(values, size):
    if size > 0 and len(values) > 0:
        return values[1:size], values[1:]
    raise ValueError("size")
"""
LONG = "total = first_of_all_names + second_of_all_names + third_of_all_names + fourth_of_all_names + fifth\n"
KEYS = {"module", "function", "change", "class", "reason"}


def test_mutants_have_the_first_line_of_what_changes_and_a_name_of_their_own() -> None:
    found = mutants(SOURCE)
    names = [(one.function, one.change) for one in found]
    assert len(set(names)) == len(names)
    changes = [change for _, change in names]
    assert "if size > 0 and len(values) > 0: -> if True:" in changes
    assert "raise ValueError('size') -> pass" in changes
    assert [change for change in changes if change.startswith("values[1:]")] == ["values[1:] -> values[2:]"]
    assert {one.function for one in found} == {"cut"}
    assert all(one.source != SOURCE for one in found)


def test_mutants_of_a_long_line_are_cut_to_what_differs() -> None:
    assert mutants(LONG)[0].change == ("l_names + fourth_of_all_names + fifth -> l_names + fourth_of_all_names - fifth")


def test_mutants_with_equal_text_are_numbered() -> None:
    assert [one.change for one in mutants("a = b[1:]\nc = b[1:]\n")] == ["b[1:] -> b[2:]", "b[1:] -> b[2:] (2)"]


def main_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, survivor: str, outcomes: dict[str, bool]) -> int:
    """Exit code of a run over the mutants `outcomes` (change to whether it is killed), none of them really tried."""
    path = tmp_path / "survivors.toml"
    path.write_text(survivor)
    tried = [(Mutant("cut", change, 1, ""), is_killed) for change, is_killed in outcomes.items()]
    monkeypatch.setattr(run, "SURVIVORS", path)
    monkeypatch.setattr(run, "mutants", lambda _: [one for one, _ in tried])
    monkeypatch.setattr(run, "_passes", lambda _: True)
    monkeypatch.setattr(run, "_tried", lambda *_: iter(tried))
    monkeypatch.setattr(sys, "argv", ["run", "schema"])
    return run.main()


@pytest.mark.parametrize(
    ("name", "outcomes", "code"),
    [
        ("equivalent", {"a -> b": False, "c -> d": True}, 0),
        ("speed", {"a -> b": False, "c -> d": True}, 0),
        ("message", {"a -> b": False, "c -> d": True}, 1),  # half of those that can be killed
        ("message", {"a -> b": False, **{f"{n} -> {n + 1}": True for n in range(19)}}, 0),  # 95 %
        ("message", {"a -> b": False, **{f"{n} -> {n + 1}": True for n in range(18)}}, 1),
        ("equivalent", {"a -> b": False, "c -> d": False}, 1),  # one without a class
        ("equivalent", {"a -> b": True, "c -> d": True}, 1),  # not equivalent, as a test tells it
        ("speed", {"a -> b": True, "c -> d": True}, 1),
        ("equivalent", {"c -> d": True}, 1),  # none of the mutants any more
    ],
)
def test_run_fails_where_too_few_are_killed_or_a_class_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, outcomes: dict[str, bool], code: int
) -> None:
    entry = {"module": "schema", "function": "cut", "change": "a -> b", "class": name, "reason": "because"}
    survivor = "[[survivor]]\n" + "".join(f'{key} = "{value}"\n' for key, value in entry.items())
    assert main_of(monkeypatch, tmp_path, survivor, outcomes) == code


def test_survivors_have_a_module_a_class_and_a_reason() -> None:
    classed = run.classed()
    assert classed
    for one in classed:
        assert set(one) == KEYS
        assert one["module"] in run.TESTS
        assert all(one[key] for key in KEYS - {"function"})  # a constant of the module is in none
    assert len({(one["module"], one["function"], one["change"]) for one in classed}) == len(classed)


@pytest.mark.slow
@pytest.mark.parametrize("module", run.TESTS)
def test_survivors_are_mutants_of_the_module_as_it_is(module: str) -> None:
    assert run.stale_changes(module, mutants((run.ROOT / "engine" / f"{module}.py").read_text())) == []


@pytest.mark.slow
@pytest.mark.parametrize("module", run.TESTS)
def test_mutants_of_a_small_sample_are_killed(module: str) -> None:
    command = [sys.executable, "-m", "tests.mutants.run", module, "--per-module", "12", "--seed", "7"]
    done = subprocess.run(command, cwd=run.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
