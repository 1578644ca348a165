"""Executors of tasks: in this process, in processes of this machine, on a Dask cluster; the results are the same.

A task is a function of its arguments that leaves files or returns what it made, and may be run again. The task of a
worker that dies is given to another worker; the one that takes down `ATTEMPTS` workers is named in the error.
"""

# ruff: noqa: PLC0415 - what starts processes or clusters loads where it is used

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from engine.errors import ParameterError, WorkerError

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

Task = TypeVar("Task")
Result = TypeVar("Result")
ATTEMPTS = 3
THREADS = "POLARS_MAX_THREADS"
CLUSTER_WORKERS = 16


class Executor(Protocol):
    """Runs a function of each task, in any order."""

    @property
    def concurrency(self) -> int:
        """Number of tasks that run at the same time."""
        ...

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Yield (position of the task in `tasks`, result) as tasks are done; raise the first error of a task."""
        ...

    def open_pool(self) -> AbstractContextManager[Executor]:
        """Context manager of an executor whose workers are shared by several `run` calls."""
        ...

    def warm_up(self, function: Callable[[int], object]) -> bool:
        """Start the workers by calling `function` once in each, without waiting; False where there is none to start."""
        ...


@dataclass(frozen=True)
class SerialExecutor:
    """Runs tasks in this process, one after the other."""

    concurrency: int = field(default=1, init=False)

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Yield (position, result) of each task in order, each run in this process when it is asked for."""
        for number, task in enumerate(tasks):
            yield number, function(task)

    def open_pool(self) -> AbstractContextManager[Executor]:
        """Context manager of this executor itself: there are no workers to open or close."""
        return nullcontext(self)

    def warm_up(self, function: Callable[[int], object]) -> bool:
        """Return False without calling `function`: there are no workers."""
        del function
        return False


@dataclass(frozen=True)
class ProcessExecutor:
    """Runs tasks in new processes of this machine, which share its cores.

    Attributes
    ----------
    workers : int
        Number of processes.
    threads : int, optional
        Threads of Polars in each; default its share of the cores.
    """

    workers: int
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ParameterError(f"workers: received {self.workers}; valid: from 1")

    @property
    def concurrency(self) -> int:
        """Number of worker processes."""
        return self.workers

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Run tasks in a pool of processes for this call; yield (position, result) as done; see `ProcessPool.run`."""
        with self.open_pool() as pool:
            yield from pool.run(function, tasks)

    @contextmanager
    def open_pool(self) -> Iterator[Executor]:
        """Yield a pool of spawned processes, Polars threads per process set; shut it down after the `with` block."""
        pool = ProcessPool(self.workers)
        with environment_variable(THREADS, str(self.threads or max(1, (os.cpu_count() or 1) // self.workers))):
            try:
                yield pool
            finally:
                pool.close()

    def warm_up(self, function: Callable[[int], object]) -> bool:
        """Return False without calling `function`: workers exist only in the pool of `open_pool`."""
        del function
        return False


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone: after its `kill -9`, workers would wait for tasks for ever."""
    import multiprocessing
    from threading import Thread

    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()  # type: ignore[union-attr]
        os._exit(1)

    if parent is not None:
        Thread(target=wait, name="end with parent", daemon=True).start()


class ProcessPool:
    """Processes that are started when there is a task for them, and again after one died."""

    def __init__(self, workers: int) -> None:
        self.concurrency = workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Yield (position, result) as done; rerun tasks of dead workers; WorkerError at a task's third death."""
        attempts = dict.fromkeys(range(len(tasks)), 0)
        while attempts:
            # Tasks under way when a worker died run alone, so that the one that kills it costs the others no attempt.
            suspects = [number for number, count in attempts.items() if count]
            todo = deque(suspects[:1] or attempts)
            for number, result in self.run_until_death(function, tasks, todo, attempts):
                del attempts[number]
                yield number, result
            fatal = [number for number, count in attempts.items() if count >= ATTEMPTS]
            if fatal:
                raise WorkerError(f"{tasks[fatal[0]]}: its worker died {ATTEMPTS} times (out of memory, or killed)")

    def open_pool(self) -> AbstractContextManager[Executor]:
        """Context manager of this pool itself; leaving it does not stop the workers."""
        return nullcontext(self)

    def warm_up(self, function: Callable[[int], object]) -> bool:
        """Submit `function` once per worker, start them, and do not wait; return True."""
        for worker in range(self.concurrency):
            self._open().submit(function, worker)
        return True

    def close(self) -> None:
        """Cancel tasks not begun, wait for those under way, stop the workers; a later `run` starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None

    def run_until_death(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], todo: deque[int], attempts: dict[int, int]
    ) -> Iterator[tuple[int, Result]]:
        """Run and empty `todo`; yield (number, result); a dead worker: close, add 1 to `attempts` of running tasks."""
        from concurrent.futures import FIRST_COMPLETED, Future, wait
        from concurrent.futures.process import BrokenProcessPool

        under_way: dict[Future[Result], int] = {}
        pool = self._open()
        try:
            while todo or under_way:
                while todo and len(under_way) < self.concurrency:
                    number = todo.popleft()
                    under_way[pool.submit(function, tasks[number])] = number
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield under_way.pop(future), result
        except BrokenProcessPool:
            for number in under_way.values():
                attempts[number] += 1
            self.close()

    def _open(self) -> ProcessPoolExecutor:
        """The process pool; started by `spawn` (not fork) when there is none."""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        if self._pool is None:
            # Forks of a process that runs Polars hang.
            self._pool = ProcessPoolExecutor(
                self.concurrency, multiprocessing.get_context("spawn"), initializer=end_with_parent
            )
        return self._pool


@dataclass(frozen=True)
class DaskExecutor:
    """Runs tasks on a Dask cluster.

    Attributes
    ----------
    address : str
        Of its scheduler (`tcp://host:8786`), or `local` for one of this machine.
    workers : int, optional
        Number of workers of a local one.
    """

    address: str
    workers: int | None = None

    @property
    def concurrency(self) -> int:
        """`workers`, or 16 as a guess when it is None."""
        return self.workers or CLUSTER_WORKERS

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Connect to the cluster for this call and run the tasks there; yield (position, result) as done."""
        with self.open_pool() as cluster:
            yield from cluster.run(function, tasks)

    @contextmanager
    def open_pool(self) -> Iterator[Executor]:
        """Yield a client of the cluster at `address`, or of a new `local` one; ParameterError without Dask."""
        try:
            from dask import distributed
        except ImportError as error:
            raise ParameterError(
                "dask: the package is not installed; pip install 'session-engine[distributed]'"
            ) from error
        dask: Any = distributed
        local = {"n_workers": self.workers, "threads_per_worker": 1, "dashboard_address": None}
        with dask.Client(**local) if self.address == "local" else dask.Client(self.address) as client:
            yield DaskCluster(client, dask.as_completed, self.concurrency)

    def warm_up(self, function: Callable[[int], object]) -> bool:
        """Return False without calling `function`: cluster workers run already."""
        del function
        return False


@dataclass(frozen=True)
class DaskCluster:
    """A connected client of a Dask cluster."""

    client: Any
    as_completed: Callable[[list[Any]], Iterator[Any]]
    concurrency: int

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Submit all tasks at once; yield (position, result) as done; Dask retries a failing task 3 times."""
        # Equal arguments would be one task to Dask; each has its number.
        futures = {
            self.client.submit(function, task, key=f"task-{number}-{os.urandom(4).hex()}", retries=ATTEMPTS): number
            for number, task in enumerate(tasks)
        }
        for future in self.as_completed(list(futures)):
            yield futures[future], future.result()

    def run_with_state(
        self, function: Callable[[Task, Any], tuple[Result, Any]], tasks: Sequence[Task], states: Sequence[Any]
    ) -> tuple[list[Result], list[Any]]:
        """Run `function(task, state)` of each task, which returns (result, state); return results, and futures of the states.

        Parameters
        ----------
        function : callable
        tasks : sequence
        states : sequence
            Of each task: a value, or a future that this returned before. States stay in the memory of the workers.

        Returns
        -------
        list, list
            Both in task order.
        """
        # A list: keys of a dict would be those of its values on the cluster.
        before = [one if hasattr(one, "key") else self.client.scatter([one], hash=False)[0] for one in states]
        names = [f"step-{number}-{os.urandom(4).hex()}" for number in range(len(tasks))]
        pairs = [
            self.client.submit(function, task, one, key=name, retries=ATTEMPTS)
            for task, one, name in zip(tasks, before, names, strict=True)
        ]
        results, after = ([self.client.submit(itemgetter(at), pair) for pair in pairs] for at in (0, 1))
        return self.client.gather(results), after

    def open_pool(self) -> AbstractContextManager[Executor]:
        """Context manager of this cluster itself; leaving it does not disconnect."""
        return nullcontext(self)

    def warm_up(self, function: Callable[[int], object]) -> bool:
        """Return False without calling `function`: cluster workers run already."""
        del function
        return False


def choose_executor(workers: int | None = None, dask: str | None = None) -> Executor:
    """Dask at address `dask` if given (`workers`: size of `local`), else processes; both None: this process."""
    if dask is not None:
        return DaskExecutor(dask, workers)
    return SerialExecutor() if workers is None else ProcessExecutor(workers)


@contextmanager
def environment_variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable in the `with` block; afterwards restore its value, or remove it if it was unset."""
    previous = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if previous is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = previous
