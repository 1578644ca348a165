"""Executors: the same results in this process, in processes and on Dask; a worker that dies costs its task only."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from engine.errors import ParameterError, WorkerError
from engine.runtime.executor import DaskExecutor, ProcessExecutor, SerialExecutor


def doubled(number: int) -> int:
    return 2 * number


def marked(number: int, folder: Path) -> int:
    """Dies the first time that it sees 3, and notes every start."""
    with (folder / f"{number}.starts").open("a") as starts:
        starts.write("x")
    if number == 3 and (folder / "3.starts").stat().st_size == 1:
        os._exit(9)
    return number


def deadly(number: int) -> int:
    if number == 1:
        os._exit(9)
    return number


def failing(number: int) -> int:
    raise ValueError(f"task {number}")


@pytest.mark.parametrize("executor", [SerialExecutor(), ProcessExecutor(2)], ids=["here", "processes"])
def test_run_gives_every_result_with_its_number(executor):
    assert dict(executor.run(doubled, [5, 6, 7])) == {0: 10, 1: 12, 2: 14}
    assert dict(executor.run(doubled, [])) == {}


def test_run_a_worker_that_dies_costs_only_its_task(tmp_path):
    done = dict(ProcessExecutor(2).run(partial(marked, folder=tmp_path), list(range(8))))
    assert done == {number: number for number in range(8)}
    starts = {path.stem: path.stat().st_size for path in tmp_path.iterdir()}
    assert starts["3"] == 2
    assert sum(starts.values()) <= 8 + 2  # its own second start, and that of whoever ran beside it


def test_run_a_task_that_kills_every_worker_is_named():
    with pytest.raises(WorkerError, match="1: its worker died 3 times"):
        list(ProcessExecutor(2).run(deadly, [0, 1]))


@pytest.mark.parametrize("executor", [SerialExecutor(), ProcessExecutor(1)], ids=["here", "processes"])
def test_run_a_task_that_fails_raises_its_error(executor):
    with pytest.raises(ValueError, match="task 4"):
        list(executor.run(failing, [4]))


def process(number: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("executor", [SerialExecutor(), ProcessExecutor(1)], ids=["here", "processes"])
def test_open_pool_runs_again_in_the_same_workers(executor):
    with executor.open_pool() as workers:
        first, second = (set(dict(workers.run(process, [1, 2])).values()) for _ in range(2))
    assert first == second
    assert (os.getpid() in first) == isinstance(executor, SerialExecutor)


def test_open_pool_goes_on_after_a_worker_died_and_after_a_task_failed(tmp_path):
    with ProcessExecutor(2).open_pool() as workers:
        assert dict(workers.run(partial(marked, folder=tmp_path), [3, 4])) == {0: 3, 1: 4}
        with pytest.raises(ValueError, match="task 4"):
            list(workers.run(failing, [4]))
        assert dict(workers.run(doubled, [5, 6])) == {0: 10, 1: 12}


def test_warm_up_starts_workers_that_run_later_tasks(tmp_path):
    with ProcessExecutor(2).open_pool() as workers:
        assert workers.warm_up(partial(marked, folder=tmp_path))
        assert dict(workers.run(doubled, [5, 6])) == {0: 10, 1: 12}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.starts", "1.starts"]
    assert not SerialExecutor().warm_up(doubled)


def is_running(process: int) -> bool:
    """Whether a process runs; of one that ended and that nobody waited for, the command line is empty."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
def test_workers_end_when_their_parent_is_killed():
    code = """
import multiprocessing, sys
from engine.runtime.executor import ProcessExecutor
with ProcessExecutor(2).open_pool() as pool:
    assert sorted(result for _, result in pool.run(abs, [-1, -2])) == [1, 2]
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        workers = [int(text) for text in parent.stdout.readline().split()]
        parent.kill()
    assert len(workers) == 2
    until = time.monotonic() + 60
    while any(map(is_running, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(is_running, workers))


def test_processes_without_a_worker_are_refused():
    with pytest.raises(ParameterError, match="workers: received 0; valid: from 1"):
        ProcessExecutor(0)


def test_workers_share_the_cores_and_the_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.delenv("POLARS_MAX_THREADS", raising=False)
    assert dict(ProcessExecutor(1, threads=3).run(os.getenv, ["POLARS_MAX_THREADS"])) == {0: "3"}
    assert "POLARS_MAX_THREADS" not in os.environ


@pytest.mark.filterwarnings("default")
def test_run_on_a_local_dask_cluster_gives_the_same():
    pytest.importorskip("distributed")
    assert dict(DaskExecutor("local", 1).run(doubled, [5, 6, 7])) == {0: 10, 1: 12, 2: 14}
