"""`run` in shares: workers load, derive and assess batches of symbols and write the files; one committer names them.

1. `plan_tasks` batches files by symbol; files whose names do not tell theirs are one task.
2. `make_share` does one task, anywhere: it writes the final files of its rows where the export is, and returns their
   log entries, what is small, and the counts of its load (`share_records`).
3. Tasks that turn out to hold a symbol in common are joined to one (`join_sharing_tasks`) and done again: a symbol's
   rows are assessed together.
4. Workers merge the files that are small; `export.shares.commit_shares` makes all of them the target's next revision.
   If another export has made that revision meanwhile, the tasks are done again for the one after it.

Workers share nothing but the sources and the export.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from engine.arguments import location_of
from engine.clock import Clock, WallClock
from engine.errors import EngineError, ExportError, SourceError
from engine.export.dataset import Dataset, open_dataset
from engine.export.share_place import SharePlace, open_share_place
from engine.export.shares import (
    Share,
    commit_shares,
    files_after_merges,
    merge_files,
    next_revision,
    plan_merges,
    write_share,
)
from engine.export.target_folder import check_target
from engine.publish import replace_file
from engine.report.summary_tables import RunSummary
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
from engine.runtime.requested_symbols import unmatched_notes
from engine.runtime.run import session_notes, summarized_tables
from engine.runtime.share_records import LoadCounts, TaskOutcome, outcome_of_record, record_of_outcome
from engine.runtime.task_batches import FilesTask, batch_groups
from engine.runtime.task_runner import run_tasks, work_folder
from engine.sources.batch import Problem, SourceFile
from engine.sources.inputs import inputs_of, scan_inputs

BYTES_PER_TASK = 32 << 20
MOST_TURNS = 3
RUN = "run"  # file with the name of the run
COUNTED = ("files", "rows", "duplicates", "corrections", "rejected", "outside_sessions")


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
    quality : RunSummary
        As the tasks summarized it: the tables may be larger than the memory of one process.
    """

    loaded: LoadCounts
    derived: int
    export_revision: int
    dataset: Dataset
    quality: RunSummary

    def summary(self) -> RunSummary:
        """Quality by series, and the worst sessions."""
        return self.quality


def run_partitioned(
    sources: Sequence[Path],
    options: LoadOptions,
    export: str | Path,
    executor: Executor,
    work: Path | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> PartitionedResult:
    """Load, derive, assess by symbol batches in an executor whose workers write the files; commit them; return counts.

    Parameters
    ----------
    sources, options
        As `run` takes them.
    export : str or Path
        A new folder or URL, or an export that takes a new revision.
    executor : Executor
        Where tasks run. Workers on other machines need the sources and the export under the same paths or URLs.
    work : Path, optional
        Folder of this process for what tasks returned: a task whose files are there is not done again. Default: a
        temporary one.
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
    ExportError
        The target cannot be written, or other exports made the revision first, three times.
    """
    target = location_of("export", export).absolute()
    check_target(target)
    tasks, problems = plan_tasks(sources, options)
    job = _Job(sources, options, target, tasks, problems, progress, (clock or WallClock()))
    with work_folder(work, "engine-run-") as records, executor.open_pool() as workers:
        for _ in range(MOST_TURNS):
            revision = next_revision(target)
            with open_share_place(target, revision, run_name(records), keep=work is not None) as place:
                try:
                    return write_and_commit(job, place, workers, records)
                except EngineError:
                    # What was written for a revision that somebody else made is of no use, and may be gone.
                    if next_revision(target) == revision:
                        raise
    raise ExportError(
        f"{target}: other exports are writing to it (each of {MOST_TURNS} times one was faster); try again later"
    )


class _Job(NamedTuple):
    sources: Sequence[Path]
    options: LoadOptions
    target: Path
    tasks: list[FilesTask]
    problems: list[Problem]
    progress: Progress | None
    clock: Clock


def run_name(records: Path) -> str:
    """Name of the run whose outcomes are in this folder: a new one, kept there for a run that goes on."""
    place = records / RUN
    if not place.is_file():
        replace_file(place, uuid.uuid4().hex.encode())
    return place.read_text()


def write_and_commit(job: _Job, place: SharePlace, workers: Executor, records: Path) -> PartitionedResult:
    """Have the tasks done and their small files merged by workers, and commit the files as the place's revision."""
    done: list[TaskOutcome] = []
    joined = job.tasks
    while len(done) != len(joined):
        outcomes = run_tasks(
            joined,
            partial(make_share, place=place),
            records,
            workers,
            job.progress,
            ".json",
            f"{place.target}|{place.revision}",
            partial(is_complete, place=place),
        )
        tasks, done = joined, [outcome_of_task(one) for one in outcomes]
        joined = join_sharing_tasks(tasks, [frozenset(one.share.symbols["symbol"]) for one in done])
    shares = [one.share for one in done]
    counts = checked_counts(job, [one.counts for one in done], shares)
    merges = plan_merges(shares)
    merged = dict(workers.run(partial(merge_files, place=place), merges))
    files = files_after_merges(shares, merges, [merged[at] for at in range(len(merges))])
    revision = commit_shares(shares, files, place, store_id=uuid.uuid4().hex, written_at=job.clock.now())
    dataset = open_dataset(place.target, revision)
    calendars = dataset.scan("calendars").drop("revision").collect()
    quality = RunSummary.of_shares([one.summary for one in done], calendars)
    return PartitionedResult(counts, sum(one.derived for one in done), revision, dataset, quality)


def outcome_of_task(outcome: Path | EngineError) -> TaskOutcome:
    """The outcome of a task from its record; raise the task's error if it has one, SourceError for a damaged record.

    Raises
    ------
    EngineError
        The error of the task, or a damaged record.
    """
    if isinstance(outcome, EngineError):
        raise outcome
    return outcome_of_record(outcome.read_bytes())


def checked_counts(job: _Job, counted: Sequence[LoadCounts], shares: Sequence[Share]) -> LoadCounts:
    """Counts of all tasks, with notes on symbols that were asked for and not found; SourceError if nothing was read."""
    counts = sum_counts(counted, job.problems)
    if job.options.read.symbols:
        found = {name for share in shares for name in share.symbols["symbol"]}
        notes = unmatched_notes(inputs_of(job.sources), job.options.read, found, counts.problems)
        counts = replace(counts, notes=(*counts.notes, *notes))
    check_some_batch(counts.files, counts.problems, ", ".join(map(str, job.sources)))
    if counts.rejected and not any(share.symbols.height for share in shares):
        refused = next(share.first_reject for share in shares if share.first_reject.height)
        raise all_refused(refused, counts.rejected, counts.notes)
    return counts


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


def make_share(task: FilesTask, place: SharePlace) -> bytes:
    """Load a task's files, derive bars, assess, and write the files of its share; return the record of the outcome."""
    loaded = store_contents(read_part(task.files, (), task.options), task.options)
    derived = derive_session(loaded.session)
    assess_session(loaded.session, task.options.dates)
    counts = LoadCounts(
        **{name: getattr(loaded, name) for name in COUNTED},
        problems=loaded.problems,
        notes=(*loaded.notes, *session_notes(loaded.session)),
        refused=loaded.refused,
    )
    snapshot = loaded.session.snapshot()
    return record_of_outcome(
        TaskOutcome(write_share(snapshot, place), counts, derived, RunSummary.of(summarized_tables(snapshot)))
    )


def is_complete(record: bytes, place: SharePlace) -> bool:
    """Whether a record can be read, and the files that it names are there."""
    try:
        return place.holds_all(outcome_of_record(record).share.files)
    except SourceError:
        return False


def sum_counts(parts: Sequence[LoadCounts], problems: Sequence[Problem]) -> LoadCounts:
    """Sum the counts of all parts; `problems` first, then problems and notes of each part in order."""
    return LoadCounts(
        **{name: sum(getattr(part, name) for part in parts) for name in COUNTED},
        problems=(*problems, *(problem for part in parts for problem in part.problems)),
        notes=tuple(note for part in parts for note in part.notes),
        refused=tuple(one for part in parts for one in part.refused),
    )
