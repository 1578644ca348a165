"""Run tasks whose outcomes are files of a work folder: on any executor, resumable, gathered in the order of the tasks.

`run` with workers (`partitioned_run`) and `audit` (`auditor`) share it:

1. Each task has an identity: the files it reads as they are now, its options, the version of this package, and what
   the whole job depends on (of an audit: the registered checks).
2. An outcome is kept in the work folder and not made again, so that an interrupted job goes on where it stopped; a
   task done twice does no harm. A worker of `run_tasks` stages it, a file or a folder, and renames it to its place
   there; one of `run_returning_tasks` returns it, and needs nothing of that folder.
3. An engine error costs its task only: the others are finished and stay. A wrong parameter concerns all and ends the
   job.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from engine import __version__
from engine.errors import EngineError, ParameterError
from engine.publish import atomic_publish, remove_if_exists, replace_file
from engine.runtime.executor import Executor
from engine.runtime.options import LoadOptions, Progress


class Task(Protocol):
    """A part of a job."""

    @property
    def options(self) -> LoadOptions:
        """Load options of the task's files; part of the name of its outcome."""
        ...

    @property
    def name(self) -> str:
        """The name that progress and messages show."""
        ...

    @property
    def identity(self) -> str:
        """Text of all that the outcome depends on except options and version; a new text means a new outcome."""
        ...


AnyTask = TypeVar("AnyTask", bound=Task)


def run_tasks(
    tasks: Sequence[AnyTask],
    write_outcome: Callable[[AnyTask, Path], None],
    work: Path,
    executor: Executor,
    progress: Progress | None = None,
    suffix: str = "",
    job_identity: str = "",
) -> list[Path | EngineError]:
    """Write each task's outcome into `work` unless there; return paths or EngineErrors in task order; raise ParameterError.

    Parameters
    ----------
    tasks : sequence of Task
    write_outcome : callable
        Writes the outcome of a task to a new file or folder of the given path. Pickled for executors in other
        processes.
    work : Path
        The folder of outcomes, under the same path for every worker.
    executor : Executor
    progress : callable, optional
        Called after each task with the number of tasks done, the number of all, and the name of this one.
    suffix : str
        Of the names of outcomes.
    job_identity : str
        Everything that all outcomes depend on beside their tasks.

    Returns
    -------
    list of Path or EngineError
        The error instead of the path where a task failed; it is tried again when the job is resumed.

    Raises
    ------
    ParameterError
        A task found a parameter that is not valid.
    WorkerError
        A task took down every worker it was given to.
    """
    for staged in work.glob(".*.tmp"):
        remove_if_exists(staged)  # of workers that died
    outcomes: dict[int, Path | EngineError] = {}
    for number, outcome in executor.run(
        partial(run_task, write_outcome=write_outcome, work=work, suffix=suffix, job_identity=job_identity), tasks
    ):
        outcomes[number] = outcome
        if progress is not None:
            progress(len(outcomes), len(tasks), tasks[number].name)
    return [outcomes[number] for number in range(len(tasks))]


def run_task(
    task: AnyTask,
    write_outcome: Callable[[AnyTask, Path], None],
    work: Path,
    suffix: str = "",
    job_identity: str = "",
) -> Path | EngineError:
    """Write a task's outcome unless it exists; return its path, or its EngineError; a ParameterError is raised."""
    place = work / f"{outcome_key(task, job_identity)}{suffix}"
    if place.exists():
        return place
    try:
        with atomic_publish(place) as staged:
            write_outcome(task, staged)
    except ParameterError:
        raise
    except EngineError as error:
        return error
    except OSError:
        # Two workers may have been given the same task: the first one's outcome stays.
        if not place.exists():
            raise
    return place


def run_returning_tasks(
    tasks: Sequence[AnyTask],
    make_outcome: Callable[[AnyTask], bytes],
    work: Path,
    executor: Executor,
    progress: Progress | None = None,
    job_identity: str = "",
    is_valid: Callable[[bytes], bool] = bool,
) -> list[bytes | EngineError]:
    """Outcomes that workers return, or EngineErrors, in task order; kept in `work`, which only this process uses.

    Parameters
    ----------
    tasks : sequence of Task
    make_outcome : callable
        Returns the outcome of a task. Pickled for executors in other processes.
    work : Path
        Folder of the outcomes.
    executor : Executor
    progress : callable, optional
        As in `run_tasks`.
    job_identity : str
        Everything that all outcomes depend on beside their tasks.
    is_valid : callable
        Whether an outcome that is there is still of use.

    Raises
    ------
    ParameterError
        A task found a parameter that is not valid.
    WorkerError
        A task took down every worker it was given to.
    """
    places = [work / f"{outcome_key(task, job_identity)}.json" for task in tasks]
    existing = {at: place.read_bytes() for at, place in enumerate(places) if place.is_file()}
    outcomes: dict[int, bytes | EngineError] = {at: content for at, content in existing.items() if is_valid(content)}
    todo = [at for at in range(len(tasks)) if at not in outcomes]
    for number, outcome in executor.run(partial(return_outcome, make_outcome=make_outcome), [tasks[at] for at in todo]):
        at = todo[number]
        outcomes[at] = outcome
        if isinstance(outcome, bytes):
            replace_file(places[at], outcome)
        if progress is not None:
            progress(len(outcomes), len(tasks), tasks[at].name)
    return [outcomes[at] for at in range(len(tasks))]


def return_outcome(task: AnyTask, make_outcome: Callable[[AnyTask], bytes]) -> bytes | EngineError:
    """Make a task's outcome; return it, or its EngineError; a ParameterError is raised."""
    try:
        return make_outcome(task)
    except ParameterError:
        raise
    except EngineError as error:
        return error


def outcome_key(task: Task, job_identity: str = "") -> str:
    """File name of an outcome: hash of package version, job, task identity and options."""
    content = f"{__version__}|{job_identity}|{task.identity}|{task.options!r}"
    return hashlib.sha256(content.encode()).hexdigest()[:40]


@contextmanager
def work_folder(work: Path | None, prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield `work`, created if absent and not removed; if None a temporary folder in `parent`, removed afterwards."""
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as scratch:
        yield Path(scratch)
