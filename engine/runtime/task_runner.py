"""Run tasks whose outcomes are files of a work folder: on any executor, resumable, gathered in the order of the tasks.

`run` with workers (`partitioned_run`) and `audit` (`auditor`) share it:

1. Each task has an identity: the files it reads as they are now, its options, the version of this package, and what
   the whole job depends on (of an audit: the registered checks).
2. A worker returns the outcome, and needs nothing of the work folder. There it is kept and not made again, so that an
   interrupted job goes on where it stopped; a task done twice does no harm.
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
from engine.publish import replace_file
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
    make_outcome: Callable[[AnyTask], bytes],
    work: Path,
    executor: Executor,
    progress: Progress | None = None,
    suffix: str = "",
    job_identity: str = "",
    is_valid: Callable[[bytes], bool] | None = None,
) -> list[Path | EngineError]:
    """Have each task's outcome made, unless `work` has it; return paths there or EngineErrors in task order; raise ParameterError.

    Parameters
    ----------
    tasks : sequence of Task
    make_outcome : callable
        Returns the outcome of a task. Pickled for executors in other processes.
    work : Path
        Folder of the outcomes, which only this process uses.
    executor : Executor
    progress : callable, optional
        Called after each task with the number of tasks done, the number of all, and the name of this one.
    suffix : str
        Of the names of outcomes.
    job_identity : str
        Everything that all outcomes depend on beside their tasks.
    is_valid : callable, optional
        Whether an outcome that is there is still of use; default all are.

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
    places = [work / f"{outcome_key(task, job_identity)}{suffix}" for task in tasks]
    outcomes: dict[int, Path | EngineError] = {
        at: place
        for at, place in enumerate(places)
        if place.is_file() and (is_valid is None or is_valid(place.read_bytes()))
    }
    todo = [at for at in range(len(tasks)) if at not in outcomes]
    for count, at in enumerate(outcomes, 1):
        if progress is not None:
            progress(count, len(tasks), tasks[at].name)
    for number, outcome in executor.run(partial(return_outcome, make_outcome=make_outcome), [tasks[at] for at in todo]):
        at = todo[number]
        if isinstance(outcome, bytes):
            replace_file(places[at], outcome)
            outcomes[at] = places[at]
        else:
            outcomes[at] = outcome
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
