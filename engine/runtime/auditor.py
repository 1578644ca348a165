"""The batch audit: sources in, the tables of an audit out.

1. `plan_tasks` turns sources into tasks of bounded size: files of some symbols, a range of rows of a large Parquet
   file, files of an export.
2. `make_survey` does one task, anywhere; the survey of its rows is kept in the work folder (`task_runner`).
3. Surveys are joined, explained (`audit.pipeline`), and what stands out becomes findings (`audit.gap_findings`).
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Never

import polars as pl

from engine.arguments import Day, Instant, Names, check_arguments, path_of, refuse_unknown
from engine.audit.audit_tables import AUDIT_TABLES, FILLS, KEY, VOLUMES
from engine.audit.events import events
from engine.audit.gap_findings import gap_findings
from engine.audit.incidents import proposed_incidents
from engine.audit.pipeline import IN_PROCESS, BlockRunner, attribute_gaps
from engine.audit.survey import FILES, CheckedAxis, Survey, from_bytes, join_surveys, series_in_shared_slots, to_bytes
from engine.calendars.cache import adopt
from engine.calendars.candidates import CandidateSegments, UsualSegments
from engine.calendars.providers import SessionCalendar, calendar, preload_calendar
from engine.checks.bar_checks import check_tables, judge, judge_places, misplaced_series
from engine.checks.calendar_check import volume_shares
from engine.checks.check import Check, JudgeInput, added_checks, fingerprint, register
from engine.checks.filled import FILLED_SLOTS, filled_slots
from engine.checks.findings import FINDINGS
from engine.checks.refused import REFUSED, conflict_pairs, count_refused
from engine.checks.unreadable_files import PASSED_OVER
from engine.errors import CalendarError, EngineError, SourceError
from engine.export.dataset import open_dataset
from engine.export.target_folder import is_export
from engine.grid import Align, GridSpec, SessionGrid, Stamp
from engine.interval import Interval
from engine.publish import file_sha256
from engine.quality.causes.evidence_order import settle_known
from engine.runtime.audit_report import BAR, Audit, BarsReader, bars_of, with_strips
from engine.runtime.audited_export import export_counts, export_row_ranges
from engine.runtime.executor import DaskCluster, Executor, ProcessExecutor, SerialExecutor
from engine.runtime.known_slots import with_counted_slots, with_page_seams, with_refused_slots
from engine.runtime.load import no_data_found, read_scanned_files, store_contents, symbol_or_root
from engine.runtime.options import Auctions, CalendarMap, Calendars, LoadOptions, Progress
from engine.runtime.parquet_scan import (
    ROWS_PER_RANGE,
    RowRange,
    cut_row_ranges,
    dates_in_footer,
    read_row_range,
    survey_row_range,
    survey_row_ranges,
)
from engine.runtime.remedy_trials import Retry, Trials, measured_series, with_tried_remedies
from engine.runtime.remote_files import RemoteFile, remote_files
from engine.runtime.reported_events import with_reported_events
from engine.runtime.requested_symbols import unmatched_notes
from engine.runtime.run import load_options
from engine.runtime.store_survey import survey_session
from engine.runtime.task_batches import FilesTask, batch_groups
from engine.runtime.task_runner import run_tasks, work_folder
from engine.schema import REJECTS, empty
from engine.sources.batch import Problem, SourceFile
from engine.sources.columns import match_columns
from engine.sources.event_files import EventRows, EventSources, read_events
from engine.sources.inputs import IN_MEMORY, Input, Sources, inputs_of, scan_inputs
from engine.sources.options import GIB, read_arguments
from engine.sources.scan import non_data_reason
from engine.storage import ObjectPath
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot

BYTES_PER_TASK = 64 << 20
BLOCKS_PER_WORKER = 2
A_WEEK = dt.timedelta(days=7)
STORED = ("price_type", "open", "high", "low", "close", "volume", "vwap", "trades")  # of the bars of a store
LARGE_BYTES = 16 << 20  # a smaller Parquet file is read like any other
MOST_SYMBOLS_OF_FILE = 8  # that are kept: files of many symbols are mostly read again as a whole


@dataclass(frozen=True)
class RowsTask:
    """A task of a range of rows of a large file."""

    rows: RowRange
    options: LoadOptions

    @property
    def name(self) -> str:
        """Path or URL of the file, as text for progress and messages."""
        return str(self.rows.path)

    @property
    def identity(self) -> str:
        """File state (size, time of writing) and row range: changes when the file does."""
        return self.rows.identity


@dataclass(frozen=True)
class SharedTask:
    """A task of the series that several parts have in the same slots: their rows from all of these, and no others."""

    parts: tuple[FilesTask, ...] | tuple[RowsTask, ...]
    options: LoadOptions
    interval: str

    @property
    def series(self) -> pl.DataFrame:
        """`symbol, interval` of each series."""
        return pl.DataFrame({"symbol": self.options.read.symbols or ()}, schema={"symbol": pl.String}).with_columns(
            pl.lit(self.interval).alias("interval")
        )

    @property
    def name(self) -> str:
        """Name of the first part, as text for progress and messages."""
        return self.parts[0].name

    @property
    def identity(self) -> str:
        """Identities of the parts, joined."""
        return "shared|" + "|".join(part.identity for part in self.parts)


PartTask = FilesTask | RowsTask
AuditTask = PartTask | SharedTask


def audit(
    sources: Sources,
    options: LoadOptions,
    *,
    work: Path | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    strips: bool = False,
    reported: EventRows | None = None,
) -> Audit:
    """Survey sources in tasks, explain gaps, run checks; return the tables; SourceError if nothing could be read.

    Parameters
    ----------
    sources : path, frame, list of them, or mapping of symbols to them
        Vendor files and folders, Parquet tables of many symbols, exports; `s3://bucket/prefix` for Parquet objects;
        frames (`engine.sources.inputs`).
    options : LoadOptions
        Calendars, dates, how to read.
    work : Path, optional
        Folder of surveys: a task whose survey is there is not done again. Default: one that is removed.
    executor : Executor, optional
        Where tasks run; default this process.
    progress : callable, optional
        Called after each task: how many are done, of how many, and which.
    strips : bool
        Read the bars around the gravest gaps again, for pictures.
    reported : EventRows, optional
        Halts and incidents (`sources.event_files.read_events`).

    Raises
    ------
    ParameterError
        A source does not exist, or a symbol has no calendar.
    SourceError
        Nothing could be read at all.
    """
    inputs = inputs_of(sources)
    tasks, problems = plan_tasks(inputs, options)
    with work_folder(work, "engine-audit-") as folder, (executor or SerialExecutor()).open_pool() as workers:
        calendars = prepare_calendar(tasks, options) if workers.warm_up(echo) else []
        make = partial(make_survey, calendars=calendars, checks=added_checks())
        outcomes = run_tasks(tasks, make, folder, workers, progress, ".survey", fingerprint())
        parts = [read_survey(task, outcome) for task, outcome in zip(tasks, outcomes, strict=True)]
        counted = [
            export_counts(open_dataset(one.path)) for one in inputs if one.path is not None and is_stored_export(one)
        ]
        based = at_base(parts, options)
        shared = plan_shared_tasks(tasks, based, options)
        again = run_tasks(shared, make, folder, workers, suffix=".survey", job_identity=fingerprint())
        based = with_shared_series(based, shared, again)
        survey = join_surveys([*based, *counted, survey_of_problems(problems)])
        if options.read.symbols:
            found = survey.series["symbol"].unique()
            named = [
                Problem(path, reason)
                for path, reason in survey.files.drop_nulls("problem").select("source", "problem").iter_rows()
                if not reason.startswith(PASSED_OVER)
            ]
            unmatched_notes([one for one in inputs if not isinstance(one.path, ObjectPath)], options.read, found, named)
        if survey.series.is_empty():
            raise SourceError(", ".join(one.name for one in inputs), why_nothing_was_read(survey.files))
        with tempfile.TemporaryDirectory(prefix="blocks-", dir=folder) as blocks:
            runner = block_runner(workers, Path(blocks))
            retry = partial(survey_again, tasks, parts)
            done = with_fills(build_audit(survey, options, runner, retry, reported), inputs)
    if not strips:
        return done
    readers = [
        BarsReader(frozenset(part.series["symbol"]), partial(read_task_bars, task, read=part.files))
        for task, part in zip(tasks, parts, strict=True)
        if part.series.height
    ]
    return with_strips(done, readers)


@check_arguments("workers", "evidence")
def run_audit(
    sources: Sources | SessionData,
    calendar: Calendars | None = None,
    *,
    workers: int | None = None,
    evidence: bool = True,
    halts: EventSources = None,
    incidents: EventSources = None,
    work: str | Path | None = None,
    interval: str | Interval | None = None,
    start: Day = None,
    end: Day = None,
    segments: Names = (),
    auctions: Auctions = "in",
    align: Align | None = None,
    as_of: Instant = None,
    format: str | None = None,  # noqa: A002 - the option's name
    layout: str | None = None,
    timezone: str | dt.tzinfo | None = None,
    stamp: Stamp | None = None,
    shift: str | None = None,
    unit: Literal["s", "ms", "us", "ns"] | None = None,
    time_format: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    skip_rows: int = 0,
    decimal: Literal[".", ","] = ".",
    thousands: str | None = None,
    null: Names | None = None,
    ignore: Names | None = None,
    columns: Mapping[str, str | int] | None = None,
    symbol: str | None = None,
    symbol_from: str | None = None,
    price_type: str | None = None,
    symbols: Names | None = None,
    price_types: Names | None = None,
    allow_non_positive: bool = False,
    scale: int | None = None,
    max_bytes: int = 4 * GIB,
    max_ratio: int = 200,
    max_members: int = 50_000,
    **unknown: Never,
) -> Audit:
    """Audit a store, or files, frames or an export, and return the tables; a store gets `strips` too, the others do not.

    Parameters
    ----------
    sources : path, frame, list of them, mapping of symbols to them, or SessionData
        As `load` takes them, and an export. A store is audited as it is, whatever else is given.
    calendar : str, Path, CalendarMap or mapping, optional
        A calendar code, a calendar file, or calendars by symbol; an export names its own.
    workers : int, optional
        Number of processes; default this one alone.
    evidence : bool
        Read ticks and finer bars too, which tell what happened in gaps.
    halts, incidents : path, frame or list of them, optional
        Trading halts (files of Nasdaq, NYSE and Cboe, DBN of schema `status`, or `symbol, halt, resumption, reason`), and
        incidents of a venue or vendor (`start, end, symbols, kind, source, text`): they explain gaps inside them.
    work : Path, optional
        Folder of surveys: a task whose survey is there is not done again.
    interval, start, end, segments, auctions, align, as_of, timezone ...
        As `load` takes them.

    Returns
    -------
    Audit
        Its `tables` are those of `engine.audit.audit_tables`.
    """
    arguments = locals()
    refuse_unknown("run_audit", unknown, arguments)
    given = {name: arguments[name] for name in ("interval", "start", "end", "segments", "auctions", "align", "as_of")}
    options = load_options(calendar, keep_source=evidence, **given, **read_arguments(arguments))
    zone = options.read.timezone
    reported = read_events(halts, incidents, None if zone is None else str(zone))
    if isinstance(sources, SessionData):
        snapshot = sources.snapshot()
        retry = partial(survey_stored_again, snapshot)
        done = build_audit(survey_session(sources), options, retry=retry, reported=reported)
        return with_strips(done, [BarsReader(frozenset(snapshot.symbols), partial(bars_of, snapshot))])
    executor = SerialExecutor() if workers is None else ProcessExecutor(workers)
    folder = None if work is None else path_of("work", work)
    return audit(sources, options, work=folder, executor=executor, reported=reported)


def build_audit(
    survey: Survey,
    options: LoadOptions,
    runner: BlockRunner = IN_PROCESS,
    retry: Retry | None = None,
    reported: EventRows | None = None,
) -> Audit:
    """Attribute causes to a survey's gaps and run the checks; return all tables, and numbers of rows and read files.

    What is known of slots before gaps are weighed is settled here, whoever made the survey (`evidence_order.EVIDENCE`).
    `retry` reads rows with other options: remedies are tried with it (None: they are not).
    """
    counted = with_page_seams(with_counted_slots(survey))
    explained = counted if reported is None else with_reported_events(counted, reported)
    survey = replace(explained, known=settle_known(explained.known, explained.prints))
    found = judge_survey(survey)
    misplaced = misplaced_series(found, by_hours=True)
    filled = pl.concat([empty(FILLED_SLOTS), *(filled_slots(one.measured, misplaced) for one in survey.checks)])
    tables = attribute_gaps(survey, calendar, options.dates, options.as_of, runner, filled)
    shares = [volume_shares(one.measured["unscheduled"]) for one in survey.checks]
    tables["series"] = with_volume_shares(tables["series"], shares)
    files = survey.files.select(list(AUDIT_TABLES["files"])).sort("source", "rows", "problem", nulls_last=True)
    tables = {name: empty(schema) for name, schema in AUDIT_TABLES.items()} | tables | {"files": files}
    tables["incidents"] = proposed_incidents(tables["gaps"], tables["series"])
    of_tables = check_tables(tables | {"refused": survey.refused, "conflicts": survey.conflicts})
    if retry is not None:
        found = with_tried_remedies(
            found, Trials(retry, judge_trial, options, measured_series(tables["series"], survey.checks))
        )
    told, parts = events(tables, gap_findings(tables, pl.concat([of_tables, found])))
    whole = tables | {"findings": told, "parts": parts}
    # What was read of the files: rows that were refused or repeat others, and evidence, are among them.
    rows = (files if files.height else survey.series)["rows"].sum()
    return Audit(whole, int(rows), files.filter(pl.col("problem").is_null())["source"].n_unique())


def with_fills(done: Audit, inputs: Sequence[Input]) -> Audit:
    """Copy with the table `fills` of exports that were filled from second sources; the same without any."""
    exports = [open_dataset(one.path) for one in inputs if one.path is not None and is_stored_export(one)]
    fills = pl.concat([empty(FILLS), *(one.scan("fills").select(list(FILLS)).collect() for one in exports)])
    if fills.is_empty():
        return done
    return replace(done, tables={**done.tables, "fills": fills.sort(*KEY, "gap_start", "source")})


def with_volume_shares(series: pl.DataFrame, shares: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The table `series` with `VOLUMES` of the checks' measurements; null of series without measured bars."""
    known = pl.concat(
        [empty({**KEY, **VOLUMES}), *(one.select(*KEY, *VOLUMES) for one in shares)], how="vertical_relaxed"
    )
    joined = series.drop(*VOLUMES).join(known.unique(list(KEY)), on=list(KEY), how="left", maintain_order="left")
    return joined.select(series.columns)


def judge_survey(survey: Survey) -> pl.DataFrame:
    """Findings of the registered checks of bars from all measurements of a survey."""
    return pl.concat([empty(FINDINGS), *map(judge_checks, survey.checks)])


def survey_again(
    tasks: Sequence[PartTask], parts: Sequence[Survey], options: LoadOptions, symbols: Sequence[str]
) -> Survey:
    """Survey of the rows of some symbols, read with other options from the tasks that have them; here, not in workers."""
    wanted = set(symbols)
    own = replace(options, keep_source=False, read=replace(options.read, symbols=tuple(symbols)))
    surveys = []
    for task, part in zip(tasks, parts, strict=True):
        if not wanted.isdisjoint(part.series["symbol"]):
            if isinstance(task, RowsTask):
                again: PartTask = RowsTask(replace(task.rows, symbols=tuple(symbols)), own)
            else:
                again = FilesTask(files_with_symbols(task.files, symbols, part.files), own)
            surveys.append(survey_task(again))
    return join_surveys(at_base(surveys, own))


def survey_stored_again(snapshot: Snapshot, options: LoadOptions, symbols: Sequence[str]) -> Survey:
    """Survey of the stored base bars of some symbols, read as frames with other options; stamps carry a zone: UTC."""
    frames, codes = {}, {}
    for symbol in symbols:
        known = snapshot.symbols[symbol]
        bars = snapshot.bars(symbol, known.base_interval).filter(pl.col("provenance") != "synthetic")
        frames[symbol] = bars.select("ts", *(name for name in STORED if name in bars.columns))
        codes[symbol] = known.calendar
    interval = options.interval or Interval.parse(known.base_interval)
    calendars = options.calendars if options.calendars.default else CalendarMap(None, tuple(codes.items()))
    options = replace(
        options, calendars=calendars, interval=interval, read=replace(options.read, interval=interval, symbols=None)
    )
    tasks, _ = plan_tasks(inputs_of(frames), options)
    return join_surveys([survey_task(task) for task in tasks])


def judge_trial(survey: Survey) -> pl.DataFrame:
    """Findings of stamps, interval and calendar of a survey, other calendars left out: they were tried before."""
    whole = [empty(FINDINGS)]
    for one in survey.checks:
        if one.measured["ends"].height:
            segments, zone, _, _ = hours_of(one)
            whole.append(judge_places(JudgeInput(one.measured, segments, zone, one.axis.calendar)))
    return pl.concat(whole)


def hours_of(one: CheckedAxis) -> tuple[pl.DataFrame, str, dt.date, dt.date]:
    """(segments of the calendar over the sessions that were measured, its zone, the first, the last of them)."""
    axis, ends = one.axis, one.measured["ends"]
    known = calendar(axis.calendar)
    first: Any = ends["session"].min()
    last: Any = ends["session"].max()
    spec = GridSpec(axis.calendar, axis.segments, axis.align, axis.zone)  # type: ignore[arg-type]
    grid = SessionGrid.build(known.segments_in_bounds(first, last), axis.interval, spec)
    return grid.segments, known.zone, first, last


def judge_checks(one: CheckedAxis) -> pl.DataFrame:
    """Findings of the registered checks from the measurements of one axis; no rows where no bar was measured."""
    if one.measured["ends"].is_empty():
        return empty(FINDINGS)
    segments, zone, first, last = hours_of(one)
    # The dates are trade dates of a calendar that may be the wrong one.
    others, usual = CandidateSegments(first - A_WEEK, last + A_WEEK), UsualSegments(last + A_WEEK)
    return judge(one.measured, segments, zone, one.axis.calendar, others, usual_hours=usual)


def is_stored_export(one: Input) -> bool:
    """Whether an input is the path or URL of an export; False of frames."""
    return one.path is not None and is_export(one.path)


def separate_objects(inputs: Sequence[Input]) -> tuple[list[Input], list[RemoteFile]]:
    """(inputs without the Parquet objects of URLs; these, which are read where they lie)."""
    others: list[Input] = []
    tables: list[RemoteFile] = []
    for one in inputs:
        if not isinstance(one.path, ObjectPath) or one.symbol is not None:
            others.append(one)
            continue
        found, rest = remote_files(one.path)
        tables += found
        others += [Input(str(path), path) for path in rest if non_data_reason(path) is None]
    return others, tables


def plan_tasks(sources: Sources | Sequence[Input], options: LoadOptions) -> tuple[list[PartTask], list[Problem]]:
    """(tasks, problems): exports, large and remote Parquet by row ranges (copies: 0 rows); other files by symbol."""
    inputs = inputs_of(sources)
    stored = [one for one in inputs if is_stored_export(one)]
    others, objects = separate_objects([one for one in inputs if one not in stored])
    found, problems = scan_inputs(others, options.read)
    exports = [open_dataset(one.path) for one in stored if one.path is not None]
    tasks: list[PartTask] = [RowsTask(*one) for dataset in exports for one in export_row_ranges(dataset, options)]
    large = [file for file in found if is_large_table(file, options)]
    places: list[Path | RemoteFile] = [*(file.path for file in large), *objects]
    copies = shared_contents(found)
    seen: set[str] = set()
    for place in places:
        content = copies.get(place) if isinstance(place, Path) else None
        try:
            ranges = list(cut_row_ranges(place))
            if content in seen:  # a copy counts no row
                ranges = [replace(one, count=0, identity=f"{one.identity}|copy") for one in ranges[:1]]
            tasks += [RowsTask(row_range, options) for row_range in ranges]
        except SourceError as error:
            problems.append(Problem(error.path, error.reason))
        seen |= {content} if content else set()
    rest = [file for file in found if file not in large]
    groups: dict[str, list[SourceFile]] = {}
    for number, file in enumerate(rest):
        # Frames are in memory together, and may have the same symbols.
        content = IN_MEMORY if file.frame is not None else copies.get(file.path, f"{number:09}")
        groups.setdefault(symbol_or_root(file) if file.symbol else f"\0{content}", []).append(file)
    tasks += [FilesTask(tuple(batch), options) for batch in batch_groups(groups.values(), BYTES_PER_TASK)]
    return tasks, problems


def shared_contents(files: Sequence[SourceFile]) -> dict[Path, str]:
    """SHA-256 by path, only of files whose bytes equal another file's; only files of equal size are hashed."""
    stored = [file for file in files if file.frame is None]
    sizes = Counter(file.size for file in stored)
    hashed = {file.path: file_sha256(file.path) for file in stored if sizes[file.size] > 1}
    often = Counter(hashed.values())
    return {path: content for path, content in hashed.items() if often[content] > 1}


def at_base(parts: Sequence[Survey], options: LoadOptions) -> list[Survey]:
    """Surveys without the series whose interval is not their symbol's base, chosen among the intervals of all parts."""
    named = [part.series.select("symbol", "interval") for part in parts]
    there = pl.concat([empty({"symbol": pl.String(), "interval": pl.String()}), *named]).unique()
    several = there.filter(pl.len().over("symbol") > 1).group_by("symbol").agg("interval").sort("symbol")
    if several.is_empty():
        return list(parts)
    bases = {
        symbol: str(options.base_of(symbol, map(Interval.parse, intervals)))
        for symbol, intervals in several.iter_rows()
    }
    rows = [(symbol, text) for symbol, texts in several.iter_rows() for text in texts if text != bases[symbol]]
    others = pl.DataFrame(rows, schema=["symbol", "interval"], orient="row")
    return [part.without_series(others) for part in parts]


def plan_shared_tasks(tasks: Sequence[AuditTask], parts: Sequence[Survey], options: LoadOptions) -> list[SharedTask]:
    """Tasks of the series that parts of one kind have in the same slots, of about 4M rows each; mostly none.

    Which row of a key counts, and what the others are, is told from all of them: by file and order, as a store tells it.
    """
    planned = []
    shared = series_in_shared_slots(parts)
    batch = (pl.col("rows").cum_sum() // (2 * ROWS_PER_RANGE)).over("interval")
    for (interval, _), some in shared.group_by("interval", batch.alias("batch"), maintain_order=True):
        held = [
            (task, part.series.join(some, on=["symbol", "interval"], how="semi")["symbol"].unique().sort())
            for task, part in zip(tasks, parts, strict=True)
        ]
        held = [(task, symbols) for task, symbols in held if len(symbols)]
        if len({type(task) for task, _ in held}) > 1:
            continue  # of a large file and small ones: their common slots stay duplicates
        # Files of an export are read on the axes that it stores, so those of each axis together.
        axes = [task.options for task, _ in held if isinstance(task, RowsTask) and task.rows.of_export]
        for own in [one for at, one in enumerate(axes) if one not in axes[:at]] or [options]:
            alike = [(task, symbols) for task, symbols in held if not axes or task.options == own]
            symbols = tuple(sorted({symbol for _, shared_symbols in alike for symbol in shared_symbols}))
            read = replace(own.read, symbols=symbols, interval=Interval.parse(str(interval)))
            of_rows = tuple(
                replace(task, rows=replace(task.rows, symbols=symbols))
                for task, _ in alike
                if isinstance(task, RowsTask)
            )
            of_files = tuple(task for task, _ in alike if isinstance(task, FilesTask))
            planned.append(SharedTask(of_rows or of_files, replace(own, read=read), str(interval)))
    return planned


def with_shared_series(
    parts: Sequence[Survey], shared: Sequence[SharedTask], outcomes: Sequence[Path | EngineError]
) -> list[Survey]:
    """The surveys with each shared series in one survey of its own; of a task that failed they stay as they were."""
    whole = list(parts)
    for task, outcome in zip(shared, outcomes, strict=True):
        series = task.series
        if isinstance(outcome, Path):
            own = from_bytes(outcome.read_bytes())
            others = own.series.join(series, on=["symbol", "interval"], how="anti").select("symbol", "interval")
            whole = [*(part.without_series(series) for part in whole), own.without_series(others)]
    return whole


def survey_shared(task: SharedTask) -> Survey:
    """Survey of the rows of a shared task together, ranges of large files, or files by path; counts of files left out."""
    of_rows = [part.rows for part in task.parts if isinstance(part, RowsTask)]
    files = [file for part in task.parts if isinstance(part, FilesTask) for file in part.files]
    by_path = sorted(files, key=lambda file: file.path)
    survey = survey_row_ranges(of_rows, task.options) if of_rows else survey_files(by_path, task.options, task.name)
    return replace(survey, refused=empty(REFUSED), files=empty(FILES))


def survey_task(task: AuditTask) -> Survey:
    """Survey the rows of a task."""
    if isinstance(task, SharedTask):
        return survey_shared(task)
    if isinstance(task, FilesTask):
        return survey_files(task.files, task.options, task.name)
    return survey_row_range(task.rows, task.options)


def make_survey(
    task: AuditTask, calendars: Sequence[SessionCalendar] = (), checks: Sequence[type[Check]] = ()
) -> bytes:
    """Use the given calendars, register the checks, survey the rows of a task, and return the survey as bytes."""
    adopt(calendars)
    for check in checks:
        register(check)
    return to_bytes(survey_task(task))


def block_runner(workers: Executor, folder: Path) -> BlockRunner:
    """Return where blocks are worked on: here, in processes that share files of `folder`, or on a cluster that has their states."""
    blocks = BLOCKS_PER_WORKER * workers.concurrency
    if isinstance(workers, DaskCluster):
        return BlockRunner(run_with_state=workers.run_with_state, blocks=blocks)
    if workers.concurrency > 1:
        return BlockRunner(workers.run, blocks, folder)
    return BlockRunner(folder=folder)


def read_survey(task: AuditTask, outcome: Path | EngineError) -> Survey:
    """Read a task's survey (SourceError if damaged); for a failed task one without rows, with the error in its `files`.

    Raises
    ------
    SourceError
        The file is damaged.
    """
    if isinstance(outcome, EngineError):
        reason = getattr(outcome, "reason", str(outcome))
        return survey_of_problems([Problem(getattr(outcome, "path", task.name), reason)])
    try:
        return from_bytes(outcome.read_bytes())
    except (OSError, ValueError) as error:
        raise SourceError(outcome, f"{error}; remove it and audit again") from error


def read_task_bars(task: PartTask, symbols: Sequence[str], read: pl.DataFrame | None = None) -> pl.DataFrame:
    """Read bars of the given symbols in a task's sources once more, as `BAR` columns; of plain files base bars.

    Parameters
    ----------
    task : FilesTask or RowsTask
    symbols : sequence of str
    read : DataFrame of `survey.FILES`, optional
        What is known of the task's files: those without these symbols are not read.
    """
    if isinstance(task, RowsTask):
        own = [symbol for symbol in symbols if not task.rows.symbols or symbol in task.rows.symbols]
        if not own:
            return empty(BAR)  # no symbols would mean all
        bars = read_row_range(replace(task.rows, symbols=tuple(own)), task.options).frame
        return bars.select(
            pl.col(name).cast(dtype) if name in bars.columns else pl.lit(None, dtype).alias(name)
            for name, dtype in BAR.items()
        )
    files = files_with_symbols(task.files, symbols, empty(FILES) if read is None else read)
    options = replace(task.options, keep_source=False)
    return bars_of(
        store_contents(read_scanned_files(files, (), options, task.name), options).session.snapshot(), symbols
    )


def echo(number: int) -> int:
    """Return `number` unchanged; calling it in a worker makes the worker import this module."""
    return number


def prepare_calendar(tasks: Sequence[AuditTask], options: LoadOptions) -> list[SessionCalendar]:
    """The default calendar over the footer dates of large local files, in a list; [] if none, TOML or in error."""
    # Computed once: its library takes longer to import than this package.
    places = dict.fromkeys(task.rows.path for task in tasks if isinstance(task, RowsTask))
    spans = [span for place in places if isinstance(place, Path) and (span := dates_in_footer(place)) is not None]
    code = options.calendars.default
    if not spans or code is None or code.endswith(".toml"):
        return []
    try:
        return [preload_calendar(code, min(span[0] for span in spans), max(span[1] for span in spans))]
    except CalendarError:
        return []  # a task that needs it says what is wrong with it, as it does without workers


def survey_files(files: Sequence[SourceFile], options: LoadOptions, name: str) -> Survey:
    """Load files into a store and survey it, with rows or problem per file, refused rows and conflicts."""
    contents = read_scanned_files(files, (), options, name)
    session = store_contents(contents, options).session
    survey = survey_session(session)
    snapshot = session.snapshot()
    rejects = pl.concat([empty(REJECTS), *snapshot.rejects])
    base = pl.DataFrame(
        [(name, data.base_interval) for name, data in snapshot.symbols.items()],
        schema=["symbol", "interval"],
        orient="row",
    )
    bars = snapshot.bars().join(base, on=["symbol", "interval"], how="semi") if rejects.height else empty(BAR)
    # Rows of an archive's members are the archive's.
    path = pl.col("source").str.split("!").list.first()
    rows = [frame.group_by(path).agg(pl.len().cast(pl.Int64)) for group in contents.groups for frame in group.frames]
    by_file = pl.concat([pl.DataFrame(schema={"source": pl.String, "len": pl.Int64}), *rows]).group_by("source").sum()
    read_rows = [frame.select("source", "symbol") for group in contents.groups for frame in group.frames]
    names = pl.concat([pl.DataFrame(schema={"source": pl.String, "symbol": pl.String}), *read_rows]).unique()
    alone = names.filter(pl.len().over("source") == 1).rename({"symbol": "named"})
    unreadable = [problem.path for problem in contents.problems]
    read = (
        pl.DataFrame({"source": [str(file.path) for file in files]})
        .filter(~pl.col("source").is_in(unreadable))
        .join(by_file, on="source", how="left", maintain_order="left")
        .join(symbols_of_files(names, rejects), on="source", how="left", maintain_order="left")
        .select("source", pl.col("len").fill_null(0).alias("rows"), pl.lit(None, pl.String).alias("problem"), "symbols")
    )
    return replace(
        with_refused_slots(survey, rejects, options.read.timezone, alone),
        refused=count_refused(rejects),
        conflicts=conflict_pairs(rejects, bars) if rejects.height else survey.conflicts,
        files=pl.concat([read, survey_of_problems(contents.problems).files]),
    )


def symbols_of_files(names: pl.DataFrame, rejects: pl.DataFrame) -> pl.DataFrame:
    """`source, symbols` of files of which no row was refused and that hold at most 8 symbols.

    Parameters
    ----------
    names : DataFrame
        `source, symbol` of the rows that were read, without repeats.
    rejects : DataFrame of `schema.REJECTS`
        A row that was refused may be of any symbol once it is read with other options.
    """
    archive = pl.col("source").str.split("!").list.first()
    whole = names.select(archive, "symbol").join(rejects.select(archive), on="source", how="anti")
    held = whole.group_by("source").agg(pl.col("symbol").unique().sort().alias("symbols"))
    return held.filter(pl.col("symbols").list.len() <= MOST_SYMBOLS_OF_FILE)


def files_with_symbols(
    files: Sequence[SourceFile], symbols: Sequence[str], read: pl.DataFrame
) -> tuple[SourceFile, ...]:
    """Files that may hold rows of any of the symbols: by the rows that were read of them (`survey.FILES`), else `may_hold`."""
    held = read.drop_nulls("symbols").explode("symbols").filter(pl.col("symbols").is_in(symbols))
    known, having = set(read.drop_nulls("symbols")["source"]), set(held["source"])
    return tuple(
        file for file in files if (str(file.path) in having if str(file.path) in known else may_hold(file, symbols))
    )


def may_hold(file: SourceFile, symbols: Sequence[str]) -> bool:
    """Whether a file may hold rows of any symbol: kind unknown, or it names the symbol or the contract's root."""
    # A name without a kind does not tell: the rows may have a column of symbols.
    name = symbol_or_root(file)
    return file.kind is None or any(symbol == name or symbol.startswith(f"{file.symbol}.") for symbol in symbols)


def survey_of_problems(problems: Sequence[Problem]) -> Survey:
    """Survey of no series whose `files` list each problem, 0 rows and reason (ignored: after `PASSED_OVER`)."""
    rows = [(one.path, 0, f"{PASSED_OVER}{one.reason}" if one.ignored else one.reason, None) for one in problems]
    return replace(Survey.none(), files=pl.DataFrame(rows, schema=dict(FILES), orient="row"))


def why_nothing_was_read(files: pl.DataFrame) -> str:
    """Message: the first unreadable file and the number of others; without one, the first without rows, else no data."""
    bad = files.drop_nulls("problem").filter(~pl.col("problem").str.starts_with(PASSED_OVER))
    if bad.is_empty():
        empty_files = files.filter(pl.col("problem").is_null())
        if empty_files.height:
            more = f" (and {empty_files.height - 1} more)" if empty_files.height > 1 else ""
            return f"no rows; {empty_files['source'][0]}: no rows in it{more}"
        passed = files.drop_nulls("problem").with_columns(pl.col("problem").str.strip_prefix(PASSED_OVER))
        return no_data_found(list(passed.select("source", "problem").iter_rows()))
    first = bad.row(0, named=True)
    more = f" (and {bad.height - 1} more)" if bad.height > 1 else ""
    return f"nothing could be read; {first['source']}: {first['problem']}{more}"


def is_large_table(file: SourceFile, options: LoadOptions) -> bool:
    """Whether a file is readable Parquet of 16 MiB or more with bars and a symbol column, without bid/ask columns."""
    if file.format != "parquet" or file.given_symbol is not None or file.size < LARGE_BYTES:
        return False
    try:
        columns = match_columns(list(pl.read_parquet_schema(file.path)), options.read, str(file.path))
    except (pl.exceptions.PolarsError, SourceError, OSError):
        return False  # the reader says why it cannot be read
    return columns.kind == "bars" and "symbol" in columns.roles and not columns.sides
