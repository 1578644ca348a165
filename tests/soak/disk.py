"""A disk that is full, at ever other sizes, for every exporter.

`RLIMIT_FSIZE` stops the write that would make any file larger than the limit, as a quota does (EFBIG). The sizes reach from
one byte to one byte less than the largest file that the exporter writes, so that each export must fail, somewhere else
each time. A former output stands at the place; afterwards it must be there, readable and the same, and nothing beside it.
"""

from __future__ import annotations

import hashlib
import resource
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from engine.errors import EngineError, ExportError
from engine.export.dataset import open_dataset
from engine.export.formats.output_formats import OUTPUT_FORMATS
from engine.export.formats.session_files import write_files
from engine.export.maintenance.verify import verify
from engine.store.snapshot import Snapshot

from tests.soak.report import Line, first
from tests.soak.story import Chronicle, contents, export

# Whether all is written anew.
DATASETS = {"dataset, full": True, "dataset, incremental": False}
FORMER, NEXT = 1, 2
ANSWER_SECONDS = 300.0
Export = Callable[[], object]


@dataclass(frozen=True)
class _Job:
    """What one child exports: a generation of the store over a dataset, or a dataset as files over files."""

    exporter: str
    source: Path
    place: Path
    snapshots: Mapping[int, Snapshot]

    @property
    def is_dataset(self) -> bool:
        return self.exporter in DATASETS

    def run(self, generation: int = NEXT) -> None:
        if self.is_dataset:
            export(self.snapshots[generation], self.place, full=DATASETS[self.exporter])
        else:
            write_files(open_dataset(self.source, generation), self.exporter, self.place)


def fill_disks(folder: Path, sizes: int) -> list[Line]:
    """Let every exporter fail at so many sizes.

    Parameters
    ----------
    folder : Path
        Empty; filled with exports.
    sizes : int
        Per exporter.
    """
    chronicle = Chronicle()
    chronicle.snapshot(NEXT)
    source = folder / "source"
    for snapshot in chronicle.snapshots.values():
        export(snapshot, source, full=False)
    jobs = [
        _Job(exporter, source, folder / f"place-{number}" / "out", chronicle.snapshots)
        for number, exporter in enumerate([*DATASETS, *OUTPUT_FORMATS])
    ]
    with _child() as line:
        return [_fill(line, job, chronicle, sizes) for job in jobs]


def _fill(line: Connection, job: _Job, chronicle: Chronicle, sizes: int) -> Line:
    job.place.parent.mkdir()
    job.run(FORMER)
    former = _state(job.place)
    largest = _largest(job)
    limits = sorted({1 + (largest - 2) * step // max(sizes - 1, 1) for step in range(sizes)})
    failures: list[str] = []
    for limit in limits:
        said = _asked(line, job, limit)
        wrong = [] if said.startswith("ExportError") else [said]
        wrong += _beside(job) + (_changed_dataset(job, chronicle) if job.is_dataset else _changed_files(job, former))
        failures += [f"{job.exporter} at {limit:,} bytes: {'; '.join(wrong)}"] if wrong else []
    failures += _after(job, chronicle)
    span = f"files of at most {limits[0]:,} to {limits[-1]:,} bytes, the largest needs {largest:,}"
    seen = (
        "see below" if failures else "each an ExportError, the former output as it was, nothing left beside it or in it"
    )
    return Line(f"disk full, {job.exporter}", len(limits), len(failures), (span, seen), first(failures))


def _after(job: _Job, chronicle: Chronicle) -> list[str]:
    """With room again, the same export succeeds."""
    job.run()
    if not job.is_dataset:
        return _beside(job)
    verdict = chronicle.compare(NEXT, contents(open_dataset(job.place)))
    return [] if verdict.kind == "whole" else [f"{job.exporter}: the next export is {verdict.kind}: {verdict.why}"]


def _largest(job: _Job) -> int:
    """Size of the largest file that the export writes, try_reading out on a copy."""
    before = _state(job.place)
    copy = job.place.with_name("copy")
    shutil.copytree(job.place, copy)
    replace(job, place=copy).run()
    after = _state(copy)
    fresh = [(copy / name).stat().st_size for name, sha256 in after.items() if before.get(name) != sha256]
    shutil.rmtree(copy)
    return max(fresh)


def _state(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@contextmanager
def _child() -> Iterator[Connection]:
    context = get_context("spawn")
    mine, other = context.Pipe()
    process = context.Process(target=_export_limited, args=(other,), daemon=True)
    process.start()
    try:
        yield mine
    finally:
        process.kill()
        process.join()
        mine.close()


def _export_limited(line: Connection) -> None:
    while True:
        job, limit = line.recv()
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            said = _told(job.run)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        line.send(said)


def _told(action: Export) -> str:
    try:
        action()
    except ExportError as error:
        return f"ExportError {error}"
    except Exception as error:  # noqa: BLE001 - any other one is a failure of the soak
        return f"{type(error).__name__} {error}"
    return "no error"


def _asked(line: Connection, job: _Job, limit: int) -> str:
    try:
        line.send((job, limit))
        return str(line.recv()) if line.poll(ANSWER_SECONDS) else "no answer"
    except (EOFError, BrokenPipeError):
        return "the exporting process died"


def _beside(job: _Job) -> list[str]:
    beside = sorted(path.name for path in job.place.parent.iterdir() if path != job.place)
    return [f"left beside: {', '.join(beside)}"] if beside else []


def _changed_files(job: _Job, former: Mapping[str, str]) -> list[str]:
    return [] if _state(job.place) == former else ["the former files are not what they were"]


def _changed_dataset(job: _Job, chronicle: Chronicle) -> list[str]:
    try:
        now = open_dataset(job.place)
        verdict = chronicle.compare(FORMER, contents(now))
        found = verify(job.place)
    except EngineError as error:
        return [f"the former revision: {error}"]
    wrong = [f"revision {now.revision}"] if now.revision != FORMER else []
    wrong += [f"the former revision is {verdict.kind}: {verdict.why}"] if verdict.kind != "whole" else []
    return wrong + ([f"verify found {found.row(0)}"] if found.height else [])
