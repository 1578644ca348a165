"""The main job in parts: bundles of symbols are loaded, derived and judged by workers; one committer makes one export of them.

1. `planned` bundles files by symbol; files that do not tell theirs are one task.
2. `parted` does one task, anywhere, and leaves an export of its own in the work folder, and what it counted. Done twice
   it does no harm, and what is there is not done again.
3. `export.gather` makes them the target's next revision. No symbol may be in two parts: its rows would have to be judged
   together.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson
import polars as pl

from engine.clock import Clock, WallClock
from engine.errors import ParameterError, SourceError
from engine.export.dataset import Dataset, open_dataset
from engine.export.gather import gather, shared_symbols
from engine.export.session_export import export_snapshot
from engine.publish import atomic_publish, remove_if_exists
from engine.runtime.executor import Executor
from engine.runtime.load import all_refused, check_some_batch, loaded, read_part
from engine.runtime.options import LoadOptions, Progress
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.runtime.run import misplaced
from engine.runtime.task_batches import bundled, key, state
from engine.sources.batch import Problem, SourceFile
from engine.sources.scan import scan

BYTES_PER_TASK = 32 << 20
EXPORT, TOLD = "export", "told.json"
COUNTED = ("files", "rows", "duplicates", "corrections", "rejected")
LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Totals:
    """What loading counted, as `load.Loaded` has it: of one part, or of all."""

    files: int
    rows: int
    duplicates: int
    corrections: int
    rejected: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PartedOutcome:
    """What a run in parts did.

    Attributes
    ----------
    loaded : Totals
    derived : int
        Derived bars written.
    export_revision : int
    dataset : Dataset
        The export at that revision.
    """

    loaded: Totals
    derived: int
    export_revision: int
    dataset: Dataset

    def tables(self) -> dict[str, pl.DataFrame]:
        """`quality` and `gaps` of base intervals, `symbols` and `calendars`: what a summary is made of."""
        symbols = self.dataset.scan("symbols")
        base = symbols.select("symbol", pl.col("base_interval").alias("interval"))
        judged = {
            name: self.dataset.scan(name)
            .join(base, on=["symbol", "interval"], how="semi", maintain_order="left")
            .collect()
            for name in ("quality", "gaps")
        }
        return {
            **judged,
            "symbols": symbols.collect(),
            "calendars": self.dataset.scan("calendars").drop("revision").collect(),
        }


@dataclass(frozen=True)
class PartTask:
    """Files that hold all there is of their symbols."""

    files: tuple[SourceFile, ...]
    options: LoadOptions

    @property
    def mark(self) -> str:
        """What the task depends on."""
        return "|".join(f"{file.path}:{state(file.path)}" for file in self.files)


class _Part(NamedTuple):
    dataset: Dataset
    totals: Totals
    derived: int


def run_parted(
    sources: Sequence[Path],
    options: LoadOptions,
    export: Path,
    executor: Executor,
    work: Path | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> PartedOutcome:
    """As `run`, with the work cut by symbols and given to an executor.

    Parameters
    ----------
    sources, options
        As `run` takes them.
    export : Path
        A new folder, or an export that takes a new revision.
    executor : Executor
        Where tasks run. Workers on other machines need sources and `work` under the same paths.
    work : Path, optional
        Folder for parts: what is there is not done again. Default: one beside the export that is removed.
    progress : callable, optional
        Told after each task: how many are done, of how many, and its first file.
    clock : Clock, optional
        Stamps the export; default the machine's.

    Returns
    -------
    PartedOutcome
        The export holds what that of `run` holds.

    Raises
    ------
    ParameterError
        A source does not exist, a symbol has no calendar, or is in files of two tasks.
    SourceError
        Nothing could be read at all.
    """
    tasks, problems = planned(sources, options)
    with _folder(work, export) as folder:
        parts = _parts(tasks, folder, executor, progress)
        totals = _summed([part.totals for part in parts], problems)
        _check_some(totals, parts, ", ".join(map(str, sources)))
        datasets = [part.dataset for part in parts]
        _check_apart(datasets)
        revision = gather(datasets, export, store_id=uuid.uuid4().hex, written_at=(clock or WallClock()).now())
    return PartedOutcome(totals, sum(part.derived for part in parts), revision, open_dataset(export, revision))


def planned(sources: Sequence[Path], options: LoadOptions) -> tuple[list[PartTask], list[Problem]]:
    """Tasks that together cover all sources, in the order of their paths; and what is no data."""
    absent = [str(path) for path in sources if not path.exists()]
    if absent or not sources:
        raise ParameterError(f"source: {', '.join(absent)} does not exist" if absent else "source: none given")
    found, problems = scan(list(sources), options.read)
    groups: dict[str, list[SourceFile]] = {}
    for file in found:
        groups.setdefault(f"{file.symbol}{file.qualifier}" if file.symbol else "", []).append(file)
    # Which symbols they hold is only known when they are read, so files that do not tell stay together, and apart.
    untold = groups.pop("", [])
    bundles = [*bundled(groups.values(), BYTES_PER_TASK), *([untold] if untold else [])]
    return [PartTask(tuple(files), options) for files in bundles], problems


def parted(task: PartTask, work: Path) -> Path:
    """Load, derive and judge one task into a folder of `work`, if it is not there."""
    place = work / key(task.mark, task.options)
    if not place.exists():
        try:
            with atomic_publish(place) as staged:
                staged.mkdir()
                counted = _made(task, staged / EXPORT)
                (staged / TOLD).write_bytes(orjson.dumps(counted))
        except OSError:
            # Two workers may have been given the same task: the first one's stays.
            if not place.exists():
                raise
    return place


@contextmanager
def _folder(work: Path | None, export: Path) -> Iterator[Path]:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    beside = export.absolute().parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{export.name}-parts-", dir=beside) as scratch:
        yield Path(scratch)


def _made(task: PartTask, target: Path) -> dict[str, object]:
    contents = read_part(task.files, (), task.options)
    done = loaded(contents, task.options)
    derived = derive_session(done.session)
    assess_session(done.session, task.options.dates)
    snapshot = done.session.snapshot()
    export_snapshot(snapshot, target, written_at=LONG_AGO)
    notes = (*done.notes, *misplaced(done.session))
    totals = Totals(done.files, done.rows, done.duplicates, done.corrections, done.rejected, done.problems, notes)
    return {"derived": derived, **asdict(totals)}


def _parts(tasks: Sequence[PartTask], work: Path, executor: Executor, progress: Progress | None) -> list[_Part]:
    for left in work.glob(".*.tmp"):
        remove_if_exists(left)  # of workers that died
    done: dict[int, Path] = {}
    for number, path in executor.run(partial(parted, work=work), tasks):
        done[number] = path
        if progress is not None:
            progress(len(done), len(tasks), str(tasks[number].files[0].path))
    return [_read(done[number]) for number in range(len(tasks))]


def _read(place: Path) -> _Part:
    try:
        counted = orjson.loads((place / TOLD).read_bytes())
        problems = tuple(Problem(**one) for one in counted.pop("problems"))
        derived = int(counted.pop("derived"))
        totals = Totals(**{**counted, "problems": problems, "notes": tuple(counted["notes"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(place, f"{error}; remove it and run again") from error
    return _Part(open_dataset(place / EXPORT), totals, derived)


def _summed(parts: Sequence[Totals], problems: Sequence[Problem]) -> Totals:
    counted = {name: sum(getattr(part, name) for part in parts) for name in COUNTED}
    return Totals(
        **counted,
        problems=(*problems, *(one for part in parts for one in part.problems)),
        notes=tuple(note for part in parts for note in part.notes),
    )


def _check_some(totals: Totals, parts: Sequence[_Part], name: str) -> None:
    check_some_batch(totals.files, totals.problems, name)
    if totals.rejected and not any(part.dataset.rows("symbols") for part in parts):
        refused = next(part.dataset for part in parts if part.dataset.rows("rejects"))
        raise all_refused(refused.scan("rejects").head(1).collect(), totals.rejected)


def _check_apart(parts: Sequence[Dataset]) -> None:
    twice = shared_symbols(parts)
    if twice:
        raise ParameterError(
            f"workers: {twice[0]!r} is in files of two tasks ({len(twice)} such symbols; some files do not tell theirs by "
            "name); valid: files of one symbol, or all files without; run without --workers and --dask"
        )
