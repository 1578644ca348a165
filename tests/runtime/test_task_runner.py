"""The task runner: outcomes in the order of tasks, made once, on every executor; an error costs its task only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from engine.errors import ParameterError, SourceError
from engine.interval import Interval
from engine.runtime.executor import ProcessExecutor, SerialExecutor
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.task_runner import outcome_key, run_tasks, work_folder

OPTIONS = LoadOptions(CalendarMap("XNYS"))
EXECUTORS = pytest.mark.parametrize("executor", [SerialExecutor(), ProcessExecutor(2)], ids=["serial", "processes"])


@dataclass(frozen=True)
class NumberTask:
    number: int
    options: LoadOptions = OPTIONS

    @property
    def name(self) -> str:
        return f"number {self.number}"

    @property
    def identity(self) -> str:
        return str(self.number)


def number_of(task: NumberTask) -> bytes:
    return str(task.number).encode()


def refuse_two(task: NumberTask) -> bytes:
    if task.number == 2:
        raise SourceError("two.csv", "cannot be read")
    return number_of(task)


def refuse_all(task: NumberTask) -> bytes:
    raise ParameterError("calendar: none")


@EXECUTORS
def test_run_tasks_returns_outcomes_in_the_order_of_tasks_and_reports_each(tmp_path, executor):
    reports = []
    tasks = [NumberTask(number) for number in (3, 1, 2)]
    paths = run_tasks(tasks, number_of, tmp_path, executor, lambda *report: reports.append(report), ".txt")
    assert [path.read_text() for path in paths] == ["3", "1", "2"]
    assert {path.suffix for path in paths} == {".txt"}
    assert [report[:2] for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert {report[2] for report in reports} == {"number 1", "number 2", "number 3"}


@EXECUTORS
def test_run_tasks_a_failed_task_gives_its_error_and_the_others_stay(tmp_path, executor):
    tasks = [NumberTask(number) for number in (1, 2, 3)]
    one, two, three = run_tasks(tasks, refuse_two, tmp_path, executor)
    assert (one.read_text(), three.read_text()) == ("1", "3")
    assert isinstance(two, SourceError)
    assert (two.path, two.reason, str(two)) == ("two.csv", "cannot be read", "two.csv: cannot be read")
    assert len(list(tmp_path.iterdir())) == 2
    assert [path.read_text() for path in run_tasks(tasks, number_of, tmp_path, executor)] == ["1", "2", "3"]


@EXECUTORS
def test_run_tasks_a_wrong_parameter_ends_the_job(tmp_path, executor):
    with pytest.raises(ParameterError, match="calendar: none"):
        run_tasks([NumberTask(1), NumberTask(2)], refuse_all, tmp_path, executor)
    assert list(tmp_path.iterdir()) == []


def test_run_tasks_makes_no_outcome_again_that_is_there_and_valid(tmp_path):
    tasks, reports = [NumberTask(1), NumberTask(2)], []
    for path in run_tasks(tasks, number_of, tmp_path, SerialExecutor()):
        path.write_text("made before")
    paths = run_tasks(tasks, refuse_all, tmp_path, SerialExecutor(), lambda *report: reports.append(report))
    assert [path.read_text() for path in paths] == ["made before"] * 2
    assert [report[0] for report in reports] == [1, 2]
    again = run_tasks(tasks, number_of, tmp_path, SerialExecutor(), is_valid=lambda content: content != b"made before")
    assert [path.read_text() for path in again] == ["1", "2"]


def test_outcome_key_changes_with_identity_and_options():
    other = replace(OPTIONS, interval=Interval(5, "m"))
    keys = {outcome_key(task) for task in (NumberTask(1), NumberTask(2), NumberTask(1, other))}
    assert len(keys) == 3
    assert outcome_key(NumberTask(1)) in keys


def test_work_folder_stays_when_named_and_is_removed_when_not(tmp_path):
    with work_folder(tmp_path / "named" / "work", "x-") as named, work_folder(None, "x-", tmp_path / "new") as scratch:
        assert named.is_dir()
        assert scratch.parent == tmp_path / "new"
        assert scratch.name.startswith("x-")
    assert named.is_dir()
    assert not scratch.exists()
