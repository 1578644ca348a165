"""The batch audit: sources in, the tables of an audit out.

1. `planned` turns sources into tasks, each bounded: files of some symbols, a stretch of a large Parquet file, files of an export.
2. `surveyed` runs one task, anywhere: what it finds is a survey, kept in a file, so that a run that was interrupted goes on
   where it stopped, and a task that is done twice does no harm.
3. Surveys are joined, explained (`audit.explanation`), and what stands out becomes findings (`audit.observed`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from engine.audit.audit_tables import AUDIT_TABLES
from engine.audit.gap_findings import PASSED_OVER, observed
from engine.audit.pipeline import HERE, Spread, explain
from engine.audit.survey import FILES, Checked, Survey, from_bytes, joined, to_bytes
from engine.calendars.providers import SessionCalendar, calendar, prepared, take_prepared
from engine.checks.bar_checks import capped, judge
from engine.checks.findings import FINDINGS
from engine.checks.refused import conflict_pairs, conflicts, count_refused, refused, repeats
from engine.errors import CalendarError, EngineError, ParameterError, SourceError
from engine.export.dataset import is_export, open_dataset
from engine.grid import GridSpec, SessionGrid
from engine.publish import atomic_publish
from engine.runtime.audit_report import BAR, Audit, Holder, bars_of, with_strips
from engine.runtime.audited_export import export_counts, export_stretches
from engine.runtime.executor import Executor, Here, Processes
from engine.runtime.load import Contents, loaded, no_data_found, read_found
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.parquet_scan import Stretch, dates_of, read_stretch, stretches, survey_stretch
from engine.runtime.remote_files import RemoteFile, is_remote, remote_files
from engine.runtime.run import load_options, paths_of
from engine.runtime.store_survey import survey_session
from engine.runtime.task_batches import bundled, key, state
from engine.schema import REJECTS, empty
from engine.sources.batch import Problem, SourceFile
from engine.sources.columns import match_columns
from engine.sources.scan import scan
from engine.store.session_data import SessionData

BYTES_PER_TASK = 64 << 20
BLOCKS_PER_WORKER = 2
LAKE_BYTES = 16 << 20  # a smaller Parquet file is read like any other
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class FilesTask:
    """Files that are read together, with the options to read them."""

    files: tuple[SourceFile, ...]
    options: LoadOptions
    name: str

    @property
    def mark(self) -> str:
        """What the task depends on."""
        return "|".join(f"{file.path}:{state(file.path)}" for file in self.files)

    def survey(self) -> Survey:
        """Read, and survey."""
        return _survey_files(self.files, self.options, self.name)

    def bars(self, symbols: Sequence[str]) -> pl.DataFrame:
        """Bars of some symbols: `BAR`."""
        files = [file for file in self.files if _may_hold(file, symbols)]
        options = replace(self.options, keep_source=False)
        snapshot = loaded(read_found(files, (), options, self.name), options).session.snapshot()
        return bars_of(snapshot, symbols)


@dataclass(frozen=True)
class StretchTask:
    """Rows of a large file."""

    stretch: Stretch
    options: LoadOptions

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.stretch.path)

    @property
    def mark(self) -> str:
        """What the task depends on."""
        return self.stretch.mark

    def survey(self) -> Survey:
        """Read, and survey."""
        return survey_stretch(self.stretch, self.options)

    def bars(self, symbols: Sequence[str]) -> pl.DataFrame:
        """Bars of some symbols: `BAR`."""
        own = [one for one in symbols if not self.stretch.symbols or one in self.stretch.symbols]
        rows = read_stretch(replace(self.stretch, symbols=tuple(own)), self.options).frame
        return rows.select(
            pl.col(name).cast(dtype) if name in rows.columns else pl.lit(None, dtype).alias(name)
            for name, dtype in BAR.items()
        )


Task = FilesTask | StretchTask


def audit(
    sources: Sequence[Path],
    options: LoadOptions,
    *,
    work: Path | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    strips: bool = False,
) -> Audit:
    """Audit files and folders.

    Parameters
    ----------
    sources : sequence of Path
        Vendor files and folders, Parquet tables of many symbols, exports; `s3://bucket/prefix` for Parquet objects.
    options : LoadOptions
        Calendars, dates, how to read.
    work : Path, optional
        Folder for surveys of parts: what is there is not done again. Default: one that is removed.
    executor : Executor, optional
        Where tasks run; default here.
    progress : callable, optional
        Told after each task: how many are done, of how many, and which.
    strips : bool
        Read the bars around the gravest gaps again, for pictures.

    Raises
    ------
    ParameterError
        A source does not exist, or a symbol has no calendar.
    SourceError
        Nothing could be read at all.
    """
    tasks, problems = planned(sources, options)
    with _folder(work) as folder, (executor or Here()).kept() as workers:
        known = _prepared(tasks, options) if workers.started(_loaded) else []
        parts = list(_surveys(tasks, folder, workers, progress, known))
        counted = [export_counts(open_dataset(path)) for path in sources if not is_remote(path) and is_export(path)]
        survey = joined([*parts, *counted, _unread(problems)])
        if survey.series.is_empty():
            raise SourceError(", ".join(map(str, sources)), _why_nothing(survey.files))
        with tempfile.TemporaryDirectory(prefix="blocks-", dir=folder) as blocks:
            done = explained(survey, options, _spread(workers, Path(blocks)))
    return with_strips(done, _holders(tasks, parts)) if strips else done


def run_audit(
    sources: str | Path | Sequence[str | Path] | SessionData,
    calendar: str | Path | CalendarMap | None = None,
    *,
    workers: int | None = None,
    evidence: bool = True,
    work: Path | None = None,
    **options: Any,  # noqa: ANN401 - as `load` takes them
) -> Audit:
    """Audit files, folders, an export or a store: `engine audit` for notebooks.

    Parameters
    ----------
    sources : path, sequence of paths, or SessionData
        A store is audited as it is, whatever else is given.
    calendar : str, Path or CalendarMap, optional
        A calendar code, a calendar file, or calendars by symbol; an export names its own.
    workers : int, optional
        Processes; default this one.
    evidence : bool
        Read ticks and finer bars too, which tell what happened in gaps.
    work : Path, optional
        Folder for surveys of parts: what is there is not done again.
    **options
        As `load` takes them: `start`, `end`, `segments`, `interval`, `as_of`, `timezone`, `columns` ...

    Returns
    -------
    Audit
        Its `tables` are those of `engine.audit.audit_tables`.
    """
    if isinstance(sources, SessionData):
        snapshot = sources.snapshot()
        done = explained(survey_session(sources), load_options(calendar, **options))
        return with_strips(done, [Holder(frozenset(snapshot.symbols), partial(bars_of, snapshot))])
    chosen = load_options(calendar, keep_source=evidence, **options)
    executor = Here() if workers is None else Processes(workers)
    return audit(paths_of(sources), chosen, work=work, executor=executor)


def explained(survey: Survey, options: LoadOptions, spread: Spread = HERE) -> Audit:
    """The audit of a survey."""
    tables = explain(survey, calendar, options.dates, options.as_of, spread)
    files = survey.files.sort("source", maintain_order=True)
    of_rows = [refused(survey.refused), conflicts(survey.conflicts), repeats(tables["quality"])]
    found = observed(tables, pl.concat([*map(_checked, survey.checks), *map(capped, of_rows)]), files)
    whole = (
        {name: empty(schema) for name, schema in AUDIT_TABLES.items()} | tables | {"files": files, "findings": found}
    )
    return Audit(
        whole, int(survey.series["rows"].sum()), files.filter(pl.col("problem").is_null())["source"].n_unique()
    )


def _holders(tasks: Sequence[Task], parts: Sequence[Survey]) -> list[Holder]:
    return [
        Holder(frozenset(part.series["symbol"]), task.bars)
        for task, part in zip(tasks, parts, strict=True)
        if part.series.height
    ]


def _checked(one: Checked) -> pl.DataFrame:
    """What the checks say of the series of an axis."""
    axis, ends = one.axis, one.measured.sanity.ends
    if ends.is_empty():
        return empty(FINDINGS)
    known = calendar(axis.calendar)
    first, last = ends["session"].min(), ends["session"].max()
    spec = GridSpec(axis.calendar, axis.segments, axis.align, axis.zone)  # type: ignore[arg-type]
    grid = SessionGrid.build(known.segments_in_bounds(first, last), axis.interval, spec)  # type: ignore[arg-type]
    return judge(one.measured, grid.segments, known.zone, axis.calendar)


def planned(sources: Sequence[Path], options: LoadOptions) -> tuple[list[Task], list[Problem]]:
    """Tasks that together cover all sources, in the order of their paths; and what is no data."""
    local = [path for path in sources if not is_remote(path)]
    absent = [str(path) for path in local if not path.exists()]
    if absent or not sources:
        raise ParameterError(f"source: {', '.join(absent)} does not exist" if absent else "source: none given")
    exports = [open_dataset(path) for path in local if is_export(path)]
    tasks: list[Task] = [StretchTask(*one) for dataset in exports for one in export_stretches(dataset, options)]
    found, problems = scan([path for path in local if not is_export(path)], options.read)
    large = [file for file in found if _is_lake(file, options)]
    objects = [one for path in sources if is_remote(path) for one in remote_files(str(path))]
    places: list[Path | RemoteFile] = [*(file.path for file in large), *objects]
    for place in places:
        try:
            tasks += [StretchTask(stretch, options) for stretch in stretches(place)]
        except SourceError as error:
            problems.append(Problem(error.path, error.reason))
    others = [file for file in found if file not in large]
    tasks += [FilesTask(tuple(files), options, str(files[0].path)) for files in _bundles(others)]
    return tasks, problems


def surveyed(task: Task, work: Path, known: Sequence[SessionCalendar] = ()) -> Path:
    """Survey one task into a file of `work`, if it is not there."""
    take_prepared(known)
    path = work / f"{key(task.mark, task.options)}.survey"
    if not path.exists():
        survey = _attempted(task)
        with atomic_publish(path) as staged:
            staged.write_bytes(to_bytes(survey))
    return path


def _spread(workers: Executor, folder: Path) -> Spread:
    if workers.at_once == 1:
        return Spread(folder=folder)
    return Spread(workers.run, BLOCKS_PER_WORKER * workers.at_once, folder)


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="engine-audit-") as scratch:
        yield Path(scratch)


def _loaded(worker: int) -> int:
    # That it can be called means that all of this module is there.
    return worker


def _prepared(tasks: Sequence[Task], options: LoadOptions) -> list[SessionCalendar]:
    """The usual calendar at the dates of large files, made here once: its library takes longer to load than this package."""
    places = dict.fromkeys(task.stretch.path for task in tasks if isinstance(task, StretchTask))
    spans = [span for place in places if isinstance(place, Path) and (span := dates_of(place)) is not None]
    code = options.calendars.default
    if not spans or code is None or code.endswith(".toml"):
        return []
    try:
        return [prepared(code, min(span[0] for span in spans), max(span[1] for span in spans))]
    except CalendarError:
        return []  # a task that needs it says what is wrong with it, as it does without workers


def _surveys(
    tasks: Sequence[Task], work: Path, executor: Executor, progress: Progress | None, known: Sequence[SessionCalendar]
) -> Iterator[Survey]:
    done: dict[int, Path] = {}
    for number, path in executor.run(partial(surveyed, work=work, known=known), tasks):
        done[number] = path
        if progress is not None:
            progress(len(done), len(tasks), tasks[number].name)
    for number in range(len(tasks)):
        yield _read(done[number])


def _read(path: Path) -> Survey:
    try:
        return from_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SourceError(path, f"{error}; remove it and audit again") from error


def _attempted(task: Task) -> Survey:
    try:
        return task.survey()
    except ParameterError:
        raise
    except EngineError as error:
        # One bad file is a finding, not the end.
        return _unread([Problem(getattr(error, "path", task.name), getattr(error, "reason", str(error)))])


def _survey_files(files: Sequence[SourceFile], options: LoadOptions, name: str) -> Survey:
    contents = read_found(files, (), options, name)
    done = loaded(contents, options)
    survey = survey_session(done.session)
    snapshot = done.session.snapshot()
    rejects = pl.concat([empty(REJECTS), *snapshot.rejects])
    read = _rows_of(contents, files)
    bad = {problem.path for problem in contents.problems}
    good = read.filter(~pl.col("source").is_in(list(bad)))
    return replace(
        survey,
        refused=count_refused(rejects),
        conflicts=conflict_pairs(rejects, snapshot.bars()) if rejects.height else survey.conflicts,
        files=pl.concat([good, _unread(contents.problems).files]),
    )


def _may_hold(file: SourceFile, symbols: Sequence[str]) -> bool:
    # A name alone does not tell: the rows may have a column of symbols; a root stands for its contracts.
    name = f"{file.symbol}{file.qualifier}"
    return file.kind is None or any(one == name or one.startswith(f"{file.symbol}.") for one in symbols)


def _rows_of(contents: Contents, files: Sequence[SourceFile]) -> pl.DataFrame:
    """How many rows each file gave: those of an archive's members are the archive's."""
    sources = [frame.group_by("source").len() for group in contents.groups for frame in group.frames]
    counted = pl.concat([pl.DataFrame(schema={"source": pl.String, "len": pl.get_index_type()}), *sources])
    by_file = (
        counted.select(pl.col("source").str.split("!").list.first(), pl.col("len").cast(pl.Int64))
        .group_by("source")
        .sum()
    )
    named = pl.DataFrame({"source": [str(file.path) for file in files]})
    whole = named.join(by_file, on="source", how="left", maintain_order="left")
    return whole.select("source", pl.col("len").fill_null(0).alias("rows"), pl.lit(None, pl.String).alias("problem"))


def _unread(problems: Sequence[Problem]) -> Survey:
    rows = [(one.path, 0, f"{PASSED_OVER}{one.reason}" if one.ignored else one.reason) for one in problems]
    return replace(Survey.none(), files=pl.DataFrame(rows, schema=dict(FILES), orient="row"))


def _why_nothing(files: pl.DataFrame) -> str:
    bad = files.drop_nulls("problem").filter(~pl.col("problem").str.starts_with(PASSED_OVER))
    if bad.is_empty():
        passed = files.drop_nulls("problem").with_columns(pl.col("problem").str.strip_prefix(PASSED_OVER))
        return no_data_found(list(passed.select("source", "problem").iter_rows()))
    first = bad.row(0, named=True)
    more = f" (and {bad.height - 1} more)" if bad.height > 1 else ""
    return f"nothing could be read; {first['source']}: {first['problem']}{more}"


def _is_lake(file: SourceFile, options: LoadOptions) -> bool:
    """Whether a file is large, and has bars of many symbols."""
    if file.format != "parquet" or file.path.stat().st_size < LAKE_BYTES:
        return False
    try:
        found = match_columns(list(pl.read_parquet_schema(file.path)), options.read, str(file.path))
    except (pl.exceptions.PolarsError, SourceError, OSError):
        return False  # whoever reads it says why it cannot be read
    return found.kind == "bars" and "symbol" in found.roles and not found.sides


def _bundles(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
    """Files of one symbol together; symbols in bundles of bounded size; files that do not tell theirs in the order of paths."""
    groups: dict[str, list[SourceFile]] = {}
    for number, file in enumerate(files):
        groups.setdefault(f"{file.symbol}{file.qualifier}" if file.symbol else f"\0{number:09}", []).append(file)
    return bundled(groups.values(), BYTES_PER_TASK)
