"""Where tasks run: here, in processes of this machine, or on a Dask cluster. One door, the same results.

A task is a function of its arguments that leaves a file and may be run again. A worker that dies costs its task, which is
given to another one; a task that takes down `ATTEMPTS` workers is named in the error.
"""

# ruff: noqa: PLC0415 - what starts processes or clusters loads where it is used

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from engine.errors import ParameterError, WorkerError

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

Task = TypeVar("Task")
Result = TypeVar("Result")
ATTEMPTS = 3
THREADS = "POLARS_MAX_THREADS"
CLUSTER = 16


class Executor(Protocol):
    """Runs tasks in any order."""

    @property
    def at_once(self) -> int:
        """How many tasks it runs side by side."""
        ...

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Give the number of each task and its result, as they are done."""
        ...

    def kept(self) -> AbstractContextManager[Executor]:
        """The same workers for several runs: what they take to start is taken once."""
        ...

    def started(self, function: Callable[[int], object]) -> bool:
        """Have new processes load what a function needs while this one goes on; False where there are none to start."""
        ...


@dataclass(frozen=True)
class Here:
    """In this process, one after the other."""

    at_once: int = field(default=1, init=False)

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """As `Executor.run`, in order."""
        for number, task in enumerate(tasks):
            yield number, function(task)

    def kept(self) -> AbstractContextManager[Executor]:
        """As `Executor.kept`."""
        return nullcontext(self)

    def started(self, function: Callable[[int], object]) -> bool:
        """As `Executor.started`."""
        del function
        return False


@dataclass(frozen=True)
class Processes:
    """In new processes of this machine, which share its cores.

    Attributes
    ----------
    workers : int
        How many.
    threads : int, optional
        Of Polars, in each; default its share of the cores.
    """

    workers: int
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ParameterError(f"workers: received {self.workers}; valid: from 1")

    @property
    def at_once(self) -> int:
        """As `Executor.at_once`."""
        return self.workers

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """As `Executor.run`."""
        with self.kept() as pool:
            yield from pool.run(function, tasks)

    @contextmanager
    def kept(self) -> Iterator[Executor]:
        """As `Executor.kept`."""
        pool = _Pool(self.workers)
        with _environment(THREADS, str(self.threads or max(1, (os.cpu_count() or 1) // self.workers))):
            try:
                yield pool
            finally:
                pool.close()

    def started(self, function: Callable[[int], object]) -> bool:
        """As `Executor.started`: only workers that are kept can be started before they run."""
        del function
        return False


class _Pool:
    """Processes that are started when there is a task for them, and again after one died."""

    def __init__(self, workers: int) -> None:
        self.at_once = workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        tries = dict.fromkeys(range(len(tasks)), 0)
        while tries:
            # Whoever was at work when a worker died runs alone, so that the one who kills it costs nobody else a try.
            suspects = [number for number, count in tries.items() if count]
            todo = deque(suspects[:1] or tries)
            for number, result in self._round(function, tasks, todo, tries):
                del tries[number]
                yield number, result
            worn = [number for number, count in tries.items() if count >= ATTEMPTS]
            if worn:
                raise WorkerError(f"{tasks[worn[0]]}: its worker died {ATTEMPTS} times (out of memory, or killed)")

    def kept(self) -> AbstractContextManager[Executor]:
        return nullcontext(self)

    def started(self, function: Callable[[int], object]) -> bool:
        for worker in range(self.at_once):
            self._started().submit(function, worker)
        return True

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None

    def _round(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], todo: deque[int], tries: dict[int, int]
    ) -> Iterator[tuple[int, Result]]:
        from concurrent.futures import FIRST_COMPLETED, Future, wait
        from concurrent.futures.process import BrokenProcessPool

        under_way: dict[Future[Result], int] = {}
        pool = self._started()
        try:
            while todo or under_way:
                while todo and len(under_way) < self.at_once:
                    number = todo.popleft()
                    under_way[pool.submit(function, tasks[number])] = number
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield under_way.pop(future), result
        except BrokenProcessPool:
            for number in under_way.values():
                tries[number] += 1
            self.close()

    def _started(self) -> ProcessPoolExecutor:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        if self._pool is None:
            # Forks of a process that runs Polars hang.
            self._pool = ProcessPoolExecutor(self.at_once, multiprocessing.get_context("spawn"))
        return self._pool


@dataclass(frozen=True)
class Dask:
    """On a Dask cluster.

    Attributes
    ----------
    address : str
        Of its scheduler (`tcp://host:8786`), or `local` for one of this machine.
    workers : int, optional
        Of a local one.
    """

    address: str
    workers: int | None = None

    @property
    def at_once(self) -> int:
        """As `Executor.at_once`; a guess for a cluster that is named by its address."""
        return self.workers or CLUSTER

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """As `Executor.run`."""
        with self.kept() as cluster:
            yield from cluster.run(function, tasks)

    @contextmanager
    def kept(self) -> Iterator[Executor]:
        """As `Executor.kept`."""
        try:
            from dask import distributed
        except ImportError as error:
            raise ParameterError(
                "dask: the package is not installed; pip install 'session-engine[distributed]'"
            ) from error
        dask: Any = distributed
        local = {"n_workers": self.workers, "threads_per_worker": 1, "dashboard_address": None}
        with dask.Client(**local) if self.address == "local" else dask.Client(self.address) as client:
            yield _Cluster(client, dask.as_completed, self.at_once)

    def started(self, function: Callable[[int], object]) -> bool:
        """As `Executor.started`: whoever runs a cluster has started it."""
        del function
        return False


@dataclass(frozen=True)
class _Cluster:
    client: Any
    as_completed: Callable[[list[Any]], Iterator[Any]]
    at_once: int

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        # Equal arguments would be one task to Dask; each has its number.
        futures = {
            self.client.submit(function, task, key=f"task-{number}-{os.urandom(4).hex()}", retries=ATTEMPTS): number
            for number, task in enumerate(tasks)
        }
        for future in self.as_completed(list(futures)):
            yield futures[future], future.result()

    def kept(self) -> AbstractContextManager[Executor]:
        return nullcontext(self)

    def started(self, function: Callable[[int], object]) -> bool:
        del function
        return False


def executor(workers: int | None = None, dask: str | None = None) -> Executor:
    """Where tasks run: on the Dask cluster that is named, in so many processes, or here."""
    if dask is not None:
        return Dask(dask, workers)
    return Here() if workers is None else Processes(workers)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    former = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if former is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = former
