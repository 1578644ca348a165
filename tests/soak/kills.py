"""kill -9 at random instants of exports that build on one another.

A child exports two generations; somewhere in between it is killed. Then

1. the last revision must be one that was being written or the one before, and every table of it as the store had it;
2. the next export must hold exactly its generation, through our reader and through the heads of the tables, which others
   read; and `verify` must find nothing, so no file is left over. By turns it is the generation that was killed, whose files
   have the same content, and one that the child never saw, whose files have not, so that what was left would stay beside them.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from statistics import median

import obstore.store  # noqa: F401 - loaded at first use else, which a child would be killed in
import polars as pl
from engine.errors import EngineError
from engine.export.dataset import STAGING, Dataset, open_dataset
from engine.export.delta_table import log_entries
from engine.export.maintenance.verify import verify
from engine.export.maintenance.verify_findings import try_reading
from engine.export.tables import DATA_TABLES
from engine.publish import remove_if_exists
from engine.storage import ObjectPath
from engine.store.snapshot import Snapshot
from engine.store_settings import store_options

from tests.soak.report import Line, first
from tests.soak.story import Chronicle, Expected, Verdict, comparable, contents, export

KINDS = ("full re-export", "incremental export")
SEED = 2024
EXPORTS_PER_CHILD = 2
KILLS_PER_TARGET = 20  # also the very first export of a target is killed, and one that makes checkpoints
KILLS_PER_LINE = 5  # of progress
START_SECONDS = 120.0
FIRST_GUESS_SECONDS = 0.4


@dataclass
class _Child:
    """A process that has everything imported before it is needed."""

    process: SpawnProcess
    line: Connection

    @classmethod
    def start(cls) -> _Child:
        context = get_context("spawn")
        mine, other = context.Pipe()
        process = context.Process(target=_export_all, args=(other,), daemon=True)
        process.start()
        other.close()
        return cls(process, mine)

    def killed_after(self, seconds: float) -> str:
        """Let it work so long; what it complained about, if it did."""
        time.sleep(seconds)
        self.process.kill()
        self.process.join()
        said = self._said()
        if self.process.exitcode != -signal.SIGKILL:
            said = said or f"exit code {self.process.exitcode}"
        self.line.close()
        return said

    def _said(self) -> str:
        try:
            return str(self.line.recv()) if self.line.poll() else ""
        except EOFError:
            return ""


@dataclass
class _Tally:
    times: int = 0
    inside: int = 0
    between: int = 0
    kept: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, outcome: str, why: str) -> None:
        self.counts[outcome] += 1
        self.failures.append(f"{outcome}: {why}")

    def line(self, kind: str) -> Line:
        seen = (
            f"{self.counts['torn']} torn, {self.counts['mixed']} mixed, {self.counts['next']} wrong next exports",
            f"{self.inside} kills inside an export, {self.between} between the commits of two tables",
            f"in {self.kept} a new revision was whole already",
        )
        return Line(f"kill -9 at a random instant, {kind}", self.times, self.counts.total(), seen, first(self.failures))


def kill_exports(folder: Path, kills: int, where: str = "", kills_per_target: int = KILLS_PER_TARGET) -> list[Line]:
    """Kill so many exports, every second one a full one; `where` they go is said in the lines.

    Prints the state to standard error after every few kills.

    Parameters
    ----------
    folder : Path
        Empty; filled with exports.
    kills : int
    where : str
    kills_per_target : int
        After so many a target has the first revision again: what checks it grows with the revisions.
    """
    chance, chronicle = random.Random(SEED), Chronicle()  # noqa: S311
    tallies = {kind: _Tally() for kind in KINDS}
    seconds, begin = [FIRST_GUESS_SECONDS], time.perf_counter()
    spare = _Child.start()
    for number in range(kills):
        child, kind = spare, KINDS[number % 2]
        if number + 1 < kills:
            spare = _Child.start()
        target = folder / f"out-{number // kills_per_target}"
        share = chance.uniform(0, EXPORTS_PER_CHILD)
        _kill_one(child, chronicle, target, share * median(seconds[-9:]), tallies[kind], full=kind == KINDS[0])
        skip = number % 4 < 2
        seconds.append(_check_next(chronicle, target, tallies[kind], full=kind == KINDS[0], skip=skip))
        if (number + 1) % KILLS_PER_LINE == 0:
            _print_progress(number + 1, kills, tallies.values(), time.perf_counter() - begin)
    return [tally.line(f"{kind}{where}") for kind, tally in tallies.items() if tally.times]


def _print_progress(done: int, kills: int, tallies: Iterable[_Tally], taken: float) -> None:
    inside, between, wrong = (
        sum(counted)
        for counted in zip(*((tally.inside, tally.between, tally.counts.total()) for tally in tallies), strict=True)
    )
    told = (
        f"{done} of {kills} kills in {taken:.0f} s: {inside} inside an export, {between} between commits, {wrong} wrong"
    )
    print(told, file=sys.stderr, flush=True)


def _export_all(line: Connection) -> None:
    target, snapshots, full = line.recv()
    line.send("ready")
    try:
        for one in snapshots:
            export(one, target, full=full)
    except EngineError as error:
        line.send(f"the export failed: {error}")
    # Wait to be killed.
    line.recv()


def _kill_one(child: _Child, chronicle: Chronicle, target: Path, seconds: float, tally: _Tally, *, full: bool) -> None:
    before = _last(target)
    done = chronicle.story.generation if before is None else chronicle.generation(before)
    wanted = range(done + 1, done + 1 + EXPORTS_PER_CHILD)
    snapshots: list[Snapshot] = [chronicle.snapshot(number) for number in wanted]
    child.line.send((target, snapshots, full))
    if not child.line.poll(START_SECONDS) or child.line.recv() != "ready":
        raise RuntimeError(f"the exporting process did not start within {START_SECONDS:g} s")
    complaint = child.killed_after(seconds)
    tally.times += 1
    tally.inside += (target / STAGING).exists()
    verdict = Verdict("torn", complaint) if complaint else _state_after(chronicle, target, before, wanted, tally)
    if verdict.kind != "whole":
        tally.add(verdict.kind, f"{target}: {verdict.why}")


def _state_after(chronicle: Chronicle, target: Path, before: Dataset | None, wanted: range, tally: _Tally) -> Verdict:
    after, former = _last(target), 0 if before is None else before.revision
    if after is None:
        return Verdict("torn", f"revision {former} is gone") if before else Verdict("whole")
    generation, fresh = chronicle.generation(after), after.revision - former
    tally.kept += fresh > 0
    tally.between += _is_ahead(after)
    if fresh not in range(len(wanted) + 1) or generation != wanted.start - 1 + fresh:
        return Verdict(
            "torn", f"revision {after.revision} after {former} says generation {generation}, of {list(wanted)}"
        )
    return _verdict(chronicle, generation, partial(contents, after))


def _check_next(chronicle: Chronicle, target: Path, tally: _Tally, *, full: bool, skip: bool) -> float:
    before = _last(target)
    known = chronicle.story.generation
    generation = known + 1 if skip or before is None else chronicle.generation(before) + 1
    snapshot = chronicle.snapshot(generation)
    begin = time.perf_counter()
    try:
        revision = export(snapshot, target, full=full)
        taken = time.perf_counter() - begin
        wrong = list(_wrong(chronicle, generation, target, revision, 1 + (before.revision if before else 0)))
    except EngineError as error:
        taken = time.perf_counter() - begin
        wrong = [f"the next export: {error}"]
    if wrong:
        tally.add("next", "; ".join(wrong))
        # One fault is counted once: the next trial begins anew.
        _remove(target)
    chronicle.forget(generation)
    return taken


def _wrong(chronicle: Chronicle, generation: int, target: Path, revision: int, wanted: int) -> Iterator[str]:
    if revision != wanted:
        yield f"{target}: the next export made revision {revision}, not {wanted}"
    for read in (partial(contents, open_dataset(target)), partial(_heads, target)):
        verdict = _verdict(chronicle, generation, read)
        if verdict.kind != "whole":
            yield f"{target} revision {revision}: {verdict.kind}: {verdict.why}"
    found = verify(target)
    if found.height:
        yield f"{target} revision {revision}: verify found {found.row(0)}"


def _verdict(chronicle: Chronicle, generation: int, read: Callable[[], Expected]) -> Verdict:
    tables, why = try_reading(read)
    return Verdict("torn", f"cannot be read: {why}") if tables is None else chronicle.compare(generation, tables)


def _last(target: Path) -> Dataset | None:
    try:
        return open_dataset(target)
    except EngineError:
        return None


def _is_ahead(dataset: Dataset) -> bool:
    last = dataset.exports.row(-1, named=True)
    pins = dict(zip(last["table_names"], last["table_versions"], strict=True))
    heads = {name: try_reading(partial(_head, dataset.target / name))[0] for name in DATA_TABLES}
    return any(head != pins[name] for name, head in heads.items())


def _head(table: Path) -> int:
    return max(log_entries(table))


def _heads(target: Path) -> dict[str, pl.DataFrame]:
    options = _options(target)
    return {
        name: comparable(name, pl.scan_delta(str(target / name), storage_options=options).collect())
        for name in DATA_TABLES
    }


def _options(place: Path) -> dict[str, str] | None:
    return store_options() if isinstance(place, ObjectPath) else None


def _remove(target: Path) -> None:
    for path in target.rglob("*") if isinstance(target, ObjectPath) else [target]:
        remove_if_exists(path)
