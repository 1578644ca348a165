"""`run` in parts: workers load, derive and assess batches of symbols; one committer makes one export of their parts.

1. `plan_tasks` batches files by symbol; files whose names do not tell theirs are one task.
2. `write_part` does one task, anywhere: an export of its own and the counts of its load, in a folder of the work folder
   (`task_runner`).
3. Tasks that turn out to hold a symbol in common are joined to one (`join_sharing_tasks`) and done again: a symbol's rows are
   assessed together.
4. `export.gather.merge_exports` makes the parts the target's next revision.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import orjson
import polars as pl

from engine.clock import Clock, WallClock
from engine.errors import EngineError, SourceError
from engine.export.dataset import Dataset, open_dataset
from engine.export.gather import merge_exports
from engine.export.session_export import export_snapshot
from engine.export.target_folder import check_target
from engine.runtime.executor import Executor
from engine.runtime.load import (
    all_refused,
    check_some_batch,
    read_part,
    store_contents,
    symbol_or_root,
)
from engine.runtime.options import LoadOptions, Progress
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.runtime.refused_rows import RefusedRows
from engine.runtime.requested_symbols import unmatched_notes
from engine.runtime.run import session_notes
from engine.runtime.task_batches import FilesTask, batch_groups
from engine.runtime.task_runner import run_tasks, work_folder
from engine.sources.batch import Problem, SourceFile
from engine.sources.inputs import inputs_of, scan_inputs
from engine.urls import refuse_url

BYTES_PER_TASK = 32 << 20
EXPORT, COUNTS = "export", "counts.json"
COUNTED = ("files", "rows", "duplicates", "corrections", "rejected", "outside_sessions")
LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class LoadCounts:
    """Counts, problems and notes of a load, as in `load.Loaded`: of one part, or of all parts."""

    files: int
    rows: int
    duplicates: int
    corrections: int
    rejected: int
    outside_sessions: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    refused: tuple[RefusedRows, ...] = ()


@dataclass(frozen=True)
class PartitionedResult:
    """The export that a run in parts made, and what it loaded and derived.

    Attributes
    ----------
    loaded : LoadCounts
    derived : int
        Derived bars written.
    export_revision : int
    dataset : Dataset
        The export at that revision.
    """

    loaded: LoadCounts
    derived: int
    export_revision: int
    dataset: Dataset

    def tables(self) -> dict[str, pl.DataFrame]:
        """`quality` and `gaps` at each symbol's base interval only, `symbols` and `calendars`, read from the export."""
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


class Part(NamedTuple):
    """What one task left: its export, the counts of its load, the number of its derived bars."""

    dataset: Dataset
    counts: LoadCounts
    derived: int


def run_partitioned(
    sources: Sequence[Path],
    options: LoadOptions,
    export: Path,
    executor: Executor,
    work: Path | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> PartitionedResult:
    """Load, derive, assess by symbol batches in an executor; merge their exports into one revision; return counts.

    Parameters
    ----------
    sources, options
        As `run` takes them.
    export : Path
        A new folder, or an export that takes a new revision.
    executor : Executor
        Where tasks run. Workers on other machines need sources and `work` under the same paths.
    work : Path, optional
        Folder of parts: a part that is there is not made again. Default: one beside the export that is removed.
    progress : callable, optional
        Called after each task: how many are done, of how many, and its first file.
    clock : Clock, optional
        Stamps the export; default the machine's.

    Returns
    -------
    PartitionedResult
        The export holds what that of `run` holds.

    Raises
    ------
    ParameterError
        A source does not exist, or a symbol has no calendar.
    SourceError
        Nothing could be read at all.
    """
    refuse_url("export", export)
    check_target(export)
    tasks, problems = plan_tasks(sources, options)
    with work_folder(work, f".{export.name}-parts-", export.absolute().parent) as folder:
        parts: list[Part] = []
        joined = tasks
        while len(parts) != len(joined):
            tasks = joined
            parts = [read_part_export(one) for one in run_tasks(tasks, write_part, folder, executor, progress)]
            joined = join_sharing_tasks(tasks, [symbols_of_part(part) for part in parts])
        counts = sum_counts([part.counts for part in parts], problems)
        datasets = [part.dataset for part in parts]
        if options.read.symbols:
            found = {name for part in parts for name in symbols_of_part(part)}
            notes = unmatched_notes(inputs_of(sources), options.read, found, counts.problems)
            counts = replace(counts, notes=(*counts.notes, *notes))
        check_some_batch(counts.files, counts.problems, ", ".join(map(str, sources)))
        if counts.rejected and not any(dataset.rows("symbols") for dataset in datasets):
            refused = next(dataset for dataset in datasets if dataset.rows("rejects"))
            raise all_refused(refused.scan("rejects").head(1).collect(), counts.rejected, counts.notes)
        revision = merge_exports(datasets, export, store_id=uuid.uuid4().hex, written_at=(clock or WallClock()).now())
    return PartitionedResult(counts, sum(part.derived for part in parts), revision, open_dataset(export, revision))


def plan_tasks(sources: Sequence[Path], options: LoadOptions) -> tuple[list[FilesTask], list[Problem]]:
    """(tasks of about 32 MiB, files of a symbol together, all without symbol in one task; problems of the scan)."""
    files, problems = scan_inputs(inputs_of(sources), options.read)
    groups: dict[str, list[SourceFile]] = {}
    for file in files:
        groups.setdefault(symbol_or_root(file) if file.symbol else "", []).append(file)
    # Files whose names do not tell their symbols may share some: they are one task.
    unnamed = groups.pop("", [])
    batches = [*batch_groups(groups.values(), BYTES_PER_TASK), *([unnamed] if unnamed else [])]
    return [FilesTask(tuple(batch), options) for batch in batches], problems


def symbols_of_part(part: Part) -> frozenset[str]:
    """Symbols that a part's export holds."""
    return frozenset(part.dataset.scan("symbols").select("symbol").collect()["symbol"])


def join_sharing_tasks(tasks: Sequence[FilesTask], symbols: Sequence[frozenset[str]]) -> list[FilesTask]:
    """The tasks, those that hold a symbol in common joined to one, its files in order of their paths.

    Only rows tell the symbols of files without one in their names. A symbol's rows must be assessed together.
    """
    joined: list[tuple[FilesTask, frozenset[str]]] = []
    for task, held in zip(tasks, symbols, strict=True):
        sharing = [one for one in joined if not one[1].isdisjoint(held)]
        apart = [one for one in joined if one[1].isdisjoint(held)]
        files = [file for one, _ in sharing for file in one.files]
        if files:
            whole = tuple(sorted([*files, *task.files], key=lambda file: file.path))
            apart.append((replace(task, files=whole), held.union(*(names for _, names in sharing))))
        else:
            apart.append((task, held))
        joined = apart
    return [task for task, _ in joined]


def write_part(task: FilesTask, folder: Path) -> None:
    """Load a task's files, derive bars, assess; make the folder and write its export and `counts.json` into it."""
    folder.mkdir()
    loaded = store_contents(read_part(task.files, (), task.options), task.options)
    derived = derive_session(loaded.session)
    assess_session(loaded.session, task.options.dates)
    export_snapshot(loaded.session.snapshot(), folder / EXPORT, written_at=LONG_AGO)
    notes = (*loaded.notes, *session_notes(loaded.session))
    counts = LoadCounts(
        **{name: getattr(loaded, name) for name in COUNTED},
        problems=loaded.problems,
        notes=notes,
        refused=loaded.refused,
    )
    (folder / COUNTS).write_bytes(orjson.dumps({"derived": derived, **asdict(counts)}))


def read_part_export(part: Path | EngineError) -> Part:
    """Open a part's export with its counts; raise the error a failed task returned, SourceError if damaged.

    Raises
    ------
    SourceError
        The folder is damaged.
    EngineError
        The error of the task.
    """
    if isinstance(part, EngineError):
        raise part
    try:
        stored = orjson.loads((part / COUNTS).read_bytes())
        problems = tuple(Problem(**problem) for problem in stored.pop("problems"))
        derived = int(stored.pop("derived"))
        refused = tuple(RefusedRows(**one) for one in stored.pop("refused"))
        counts = LoadCounts(**{**stored, "problems": problems, "notes": tuple(stored["notes"]), "refused": refused})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(part, f"{error}; remove it and run again") from error
    return Part(open_dataset(part / EXPORT), counts, derived)


def sum_counts(parts: Sequence[LoadCounts], problems: Sequence[Problem]) -> LoadCounts:
    """Sum the counts of all parts; `problems` first, then problems and notes of each part in order."""
    return LoadCounts(
        **{name: sum(getattr(part, name) for part in parts) for name in COUNTED},
        problems=(*problems, *(problem for part in parts for problem in part.problems)),
        notes=tuple(note for part in parts for note in part.notes),
        refused=tuple(one for part in parts for one in part.refused),
    )
