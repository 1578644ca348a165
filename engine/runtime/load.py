"""From files to a loaded store: scan, choose each symbol's base, read, append.

1. `scan` says what the files are without reading them, where a name or a path tells; the others are read first.
2. Of several resolutions of a symbol one is its base (`sources.resolution.base_of`), the others are named and left out.
3. Files are read side by side and appended in the order of their paths, so the number of workers changes nothing.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
import polars as pl

from engine.checks.refused import MANY_CORRECTIONS
from engine.errors import SourceError
from engine.grid import Align, GridSpec, Stamp
from engine.interval import Interval
from engine.runtime.options import LoadOptions, Progress
from engine.runtime.outside_sessions import misplaced_ticks_notes, outside_sessions
from engine.runtime.refused_rows import RefusedRows, refused_rows
from engine.runtime.requested_symbols import symbol_of_path, unmatched_notes
from engine.schema import Kind
from engine.sources.batch import Batch, Problem, SourceFile
from engine.sources.formats.registry import format_names
from engine.sources.inputs import Input, Sources, inputs_of, scan_inputs
from engine.sources.joint_parts import joint_groups
from engine.sources.options import ReadOptions
from engine.sources.read import read_all
from engine.sources.resolution import DEFAULT_BASE, UNTOLD, Resolution, interval_of, interval_of_prints
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

FileBatch = tuple[SourceFile, Batch]


@dataclass(frozen=True)
class Loaded:
    """Result of a load.

    Attributes
    ----------
    session : SessionData
    files, rows : int
        Files read, and their rows within the dates: bars, ticks and quotes, each once, also duplicates, corrections and conflicts.
    duplicates, corrections, rejected : int
    problems : tuple of Problem
        Files that could not be read.
    notes : tuple of str
        Messages on what was assumed, skipped or left out.
    outside_sessions : int
        Stored source rows (bars, ticks, quotes) that lie in no session.
    refused : tuple of RefusedRows
        Rows that readers refused, per file and reason.
    """

    session: SessionData
    files: int
    rows: int
    duplicates: int
    corrections: int
    rejected: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    outside_sessions: int = 0
    refused: tuple[RefusedRows, ...] = ()


@dataclass(frozen=True)
class Group:
    """Rows of one kind, interval and axis that are appended together: one frame per batch, in order of the batches."""

    kind: Kind
    interval: Interval | None
    stamp: Stamp
    spec: GridSpec | None
    frames: tuple[pl.DataFrame, ...]


@dataclass(frozen=True)
class Contents:
    """Symbols and rows of files, read and not yet in a store.

    Attributes
    ----------
    symbols : tuple of SymbolSessionData
        To be registered.
    groups : tuple of Group
    refused : tuple of DataFrame
        Rows that the readers refused (`schema.REJECTS`), a frame per batch.
    marks : frozenset of str
        Identities of the batches, by content.
    files : int
    problems : tuple of Problem
    notes : tuple of str
    refused_counts : tuple of RefusedRows
        The same rows, counted per file and reason.
    counters : tuple of DataFrame of `schema.COUNTERS`
        The feed's own numbers, a frame per batch that has them.
    """

    symbols: tuple[SymbolSessionData, ...]
    groups: tuple[Group, ...]
    refused: tuple[pl.DataFrame, ...]
    marks: frozenset[str]
    files: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    refused_counts: tuple[RefusedRows, ...] = ()
    counters: tuple[pl.DataFrame, ...] = ()


def load_files(sources: Sources, options: LoadOptions, progress: Progress | None = None) -> Loaded:
    """Read files into a new store and return it with counts; nothing is derived or assessed.

    Parameters
    ----------
    sources, options, progress
        As `read_files` takes them.
    """
    return store_contents(read_files(sources, options, progress), options)


def store_contents(contents: Contents, options: LoadOptions) -> Loaded:
    """New store with symbols, rejects, file marks and rows (within the dates) of files; return it with counts."""
    session = SessionData(as_of=options.as_of, incomplete=options.incomplete)
    for refused in contents.refused:
        session.add_rejects(refused)
    for counters in contents.counters:
        session.add_counters(counters)
    session.add_files(contents.marks)
    session.register_symbol_data(*contents.symbols)
    appended = [
        session.append(
            list(group.frames), group.kind, group.interval, stamp=group.stamp, spec=group.spec, dates=options.dates
        )
        for group in contents.groups
    ]
    outside = outside_sessions(session.snapshot())
    offered, left_out = sum(one.offered for one in appended), sum(one.left_out for one in appended)
    dates = " to ".join("..." if day is None else str(day) for day in options.dates)
    notes = [f"dates: none of {offered:,} rows lies in {dates}"] if offered and offered == left_out else []
    corrections = sum(one.corrections for one in appended)
    if corrections > MANY_CORRECTIONS * (offered - left_out):
        told = f"corrections: {corrections:,} of {offered - left_out:,} rows have other values than an earlier file has for their key"
        notes.append(f"{told}; the last path counts: read folders that are not versions of the same data apart")
    return Loaded(
        session,
        files=contents.files,
        rows=offered - left_out,
        duplicates=sum(one.duplicates for one in appended),
        corrections=corrections,
        rejected=sum(frame.height for frame in session.snapshot().rejects),
        problems=contents.problems,
        notes=(*contents.notes, *notes, *misplaced_ticks_notes(outside)),
        outside_sessions=int(outside["outside"].sum()),
        refused=contents.refused_counts,
    )


def read_files(sources: Sources, options: LoadOptions, progress: Progress | None = None) -> Contents:
    """Scan and read files: symbols, and rows at each one's base (`keep_source`: all resolutions); no store.

    Parameters
    ----------
    sources : path, frame, list of them, or mapping of symbols to them
        Files, folders that are searched, frames (`engine.sources.inputs`).
    options : LoadOptions
    progress : callable, optional
        Called after each file: how many are done, of how many, and which.

    Raises
    ------
    ParameterError
        A source does not exist, or a symbol has no calendar.
    SourceError
        Nothing could be read at all.
    """
    inputs = inputs_of(sources)
    files, problems = scan_inputs(inputs, options.read)
    contents = read_part(files, problems, options, progress)
    notes = check_read(contents, inputs, options)
    return replace(contents, notes=(*contents.notes, *notes))


def check_read(contents: Contents, inputs: Sequence[Input], options: LoadOptions) -> tuple[str, ...]:
    """Notes of requested symbols without a row.

    Raises
    ------
    ParameterError
        No row has one of the requested symbols.
    SourceError
        No file could be read, or all rows were refused.
    """
    files_of_requested = [
        one for one in contents.refused_counts if options.read.selects(symbol_of_path(one.source, options.read) or "")
    ]
    notes: tuple[str, ...] = ()
    if options.read.symbols and (contents.symbols or not files_of_requested):
        found = [one.symbol for one in contents.symbols]
        notes = unmatched_notes(inputs, options.read, found, contents.problems)
    check_some_rows(contents, ", ".join(one.name for one in inputs))
    return notes


def check_some_rows(contents: Contents, name: str) -> None:
    """SourceError if no file could be read, or if rows were refused and none is left."""
    check_some_batch(contents.files, contents.problems, name)
    if contents.refused and not contents.symbols:
        raise all_refused(contents.refused[0], sum(frame.height for frame in contents.refused), contents.notes)


def read_scanned_files(
    files: Sequence[SourceFile],
    problems: Sequence[Problem],
    options: LoadOptions,
    name: str,
    progress: Progress | None = None,
) -> Contents:
    """Read scanned files as `read_files`; SourceError if no file could be read, or if all rows were refused."""
    contents = read_part(files, problems, options, progress)
    check_some_rows(contents, name)
    return contents


def read_part(
    files: Sequence[SourceFile], problems: Sequence[Problem], options: LoadOptions, progress: Progress | None = None
) -> Contents:
    """Read scanned files as `read_files`, but no rows are no error; files of unknown resolution are read first."""
    reader = FileReader(options.read, len(files), progress)
    identified = [file for file in files if is_identified(file)]
    read_first = reader.read([file for file in files if not is_identified(file)])
    batches, without_interval = resolve_intervals(identified, read_first)
    bases = choose_bases(identified, batches, options)
    chosen = [
        file
        for file in identified
        if file.kind == "open_interest" or options.keep_source or resolution_of(file) == bases[symbol_or_root(file)]
    ]
    batches = sorted([*batches, *reader.read(chosen)], key=lambda file_batch: file_batch[1].source)
    problems = [*problems, *reader.problems, *without_interval]
    return ContentsBuilder(bases, options).build(
        batches, tuple(problems), notes_on_other_bases(identified, chosen, bases)
    )


def choose_bases(
    files: Iterable[SourceFile], batches: Iterable[FileBatch], options: LoadOptions
) -> dict[str, Resolution]:
    """Symbol (or root of a file's many contracts) -> base resolution, chosen by the options from those available."""
    available = available_resolutions(files, batches)
    if options.choose is not None:
        return {name: options.base_of(name, resolutions) for name, resolutions in available.items()}
    sets = {name: frozenset(resolutions) for name, resolutions in available.items()}
    base = {resolutions: options.base_of("", resolutions) for resolutions in set(sets.values())}
    return {name: base[resolutions] for name, resolutions in sets.items()}


def available_resolutions(
    files: Iterable[SourceFile], batches: Iterable[FileBatch]
) -> defaultdict[str, set[Resolution]]:
    """Symbol or root -> resolutions of its files and batches (None for ticks and quotes); without open interest."""
    available: defaultdict[str, set[Resolution]] = defaultdict(set)
    for file in files:
        if file.kind != "open_interest":
            available[symbol_or_root(file)].add(resolution_of(file))
    for file, batch in batches:
        if batch.kind != "open_interest" and (batch.interval or batch.kind != "bars"):
            for name in symbols_or_roots(file, batch):
                available[name].add(batch.interval)
    return available


class FileReader:
    """Reads files in threads; returns batches in the order of the files, and collects unreadable files."""

    def __init__(self, options: ReadOptions, total: int, progress: Progress | None) -> None:
        self.problems: list[Problem] = []
        self._options = options
        self._total = total
        self._done = 0
        self._progress = progress

    def read(self, files: Sequence[SourceFile]) -> list[FileBatch]:
        """Read in threads; return (file, batch) in file order; unreadable files, problems of batches: to `problems`."""
        groups = joint_groups(files)
        file_batches: list[FileBatch] = []
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            read_groups = pool.map(partial(read_all, options=self._options), groups)
            for file, batches in zip(files, chain.from_iterable(read_groups), strict=True):
                self._done += 1
                if self._progress is not None:
                    self._progress(self._done, self._total, str(file.path))
                if isinstance(batches, SourceError):
                    self.problems.append(Problem(batches.path, batches.reason))
                else:
                    file_batches += [(file, batch) for batch in batches]
                    self.problems += [problem for batch in batches for problem in batch.problems]
        return file_batches


class ContentsBuilder:
    """Builds `Contents` from batches: their symbols, and the groups of rows that are appended together."""

    def __init__(self, bases: Mapping[str, Resolution], options: LoadOptions) -> None:
        self._bases = bases
        self._options = options
        self._notes: list[str] = []
        # Thousands of symbols share what they are registered with, whose checks cost more than a name.
        self._specs: dict[tuple[str, Interval, Align, str], GridSpec] = {}
        self._derived: dict[Interval, tuple[list[Interval], list[Interval]]] = {}
        self._registered: dict[tuple[object, ...], SymbolSessionData] = {}

    def build(self, batches: Sequence[FileBatch], problems: tuple[Problem, ...], notes: Sequence[str]) -> Contents:
        """Contents of batches without byte-equal copies; rows off the base are noted and left out, or own groups."""
        distinct, marks = self._without_copies(batches)
        with_rows = [(file, batch) for file, batch in distinct if batch.frame.height or batch.rejects.height]
        self._notes += [
            f"{batch.source}: no rows{' left; ' * bool(batch.notes)}{'; '.join(batch.notes)}"
            for _, batch in distinct
            if not batch.frame.height + batch.rejects.height
        ]
        for _, batch in with_rows:
            self._notes += [f"{batch.source}: {note}" for note in batch.notes]
        at_base, others = self._split_at_base([(file, batch) for file, batch in with_rows if batch.frame.height])
        # A symbol without rows at its base is described by its other rows.
        by_symbol = {**batches_by_symbol(others), **batches_by_symbol(at_base)}
        symbols = tuple(self._symbol(name, own) for name, own in sorted(by_symbol.items()))
        groups = self._groups(at_base)
        if self._options.keep_source:
            groups += self._groups(others, own_axes=True)
        else:
            self._notes += [
                f"{batch.source}: {describe_resolution(batch.interval)} left out, the base is another"
                for _, batch in others
            ]
        return Contents(
            symbols,
            tuple(groups),
            refused=tuple(batch.rejects for _, batch in with_rows if batch.rejects.height),
            marks=marks,
            files=len({batch.source.split("!")[0] for _, batch in batches}),
            problems=problems,
            notes=(*notes, *self._notes),
            refused_counts=refused_rows([batch for _, batch in with_rows], self._options.read),
            counters=tuple(batch.counters for _, batch in with_rows if batch.counters.height),
        )

    def _without_copies(self, batches: Sequence[FileBatch]) -> tuple[list[FileBatch], frozenset[str]]:
        """Leave out, with a note, each batch with rows whose bytes another file of `batches` has; return (rest, all marks)."""
        first: dict[str, str] = {}
        distinct = []
        for file, batch in batches:
            mark = batch.content_mark
            if first.setdefault(mark, batch.source) == batch.source or not batch.frame.height:
                distinct.append((file, batch))
            else:
                self._notes.append(f"{batch.source}: same bytes as {first[mark]}, left out")
        return distinct, frozenset(first)

    def _split_at_base(self, batches: Sequence[FileBatch]) -> tuple[list[FileBatch], list[FileBatch]]:
        """Split batch rows into (symbol's base resolution or open interest, all others); batches are cut by symbol."""
        at_base: list[FileBatch] = []
        others: list[FileBatch] = []
        for file, batch in batches:
            based = [
                symbol
                for symbol in batch.symbols
                if batch.kind == "open_interest" or self._base_of(file, symbol) == resolution_of(batch)
            ]
            if len(based) in (0, len(batch.symbols)):
                (at_base if based else others).append((file, batch))
                continue
            is_at_base = pl.col("symbol").is_in(based)
            at_base.append((file, replace(batch, frame=batch.frame.filter(is_at_base))))
            others.append((file, replace(batch, frame=batch.frame.filter(~is_at_base))))
        return at_base, others

    def _base_of(self, file: SourceFile, symbol: str) -> Resolution:
        """Base of a symbol, or of the file's symbol or root if identified; `DEFAULT_BASE` if none chosen."""
        return self._bases.get(symbol_or_root(file) if is_identified(file) else symbol, DEFAULT_BASE)

    def _symbol(self, name: str, batches: Sequence[tuple[SourceFile, Batch]]) -> SymbolSessionData:
        """Registration: base, derived intervals that fit (others noted), axis, price type (`last`/`bid`, if chosen)."""
        file, batch = next(((f, b) for f, b in batches if b.kind != "open_interest"), batches[0])
        base = self._base_of(file, name) or interval_of_prints(self._options.interval, self._options.derive)
        if self._options.interval not in (None, base):
            self._notes.append(f"{name}: no bars of {self._options.interval}, the base is {base}")
        derived, underivable = self._derivable(base)
        self._notes += [f"{name}: {interval} cannot be derived from {base}, left out" for interval in underivable]
        spec = self._spec(
            name, base, batch.align, self._options.zone_of_dates(name, base, batch.zone, batch.frame["ts"])
        )
        types = frozenset[str]().union(*(batch.price_types[name] for _, batch in batches))
        kinds = {b.kind for _, b in batches}
        has_last = "last" in types or "ticks" in kinds or kinds == {"open_interest"}
        price_type, chosen = "last" if has_last else "bid", self._options.read.price_types
        price_type = price_type if not chosen or price_type in chosen else chosen[0]
        base_from: Kind = "bars" if "bars" in kinds else "ticks" if "ticks" in kinds else "quotes"
        source, source_symbol = file.market or file.format, batch.source_symbols.get(name, name)
        indicators = self._indicators(name, base, derived)
        shared = base, spec, price_type, base_from, source
        if alike := self._registered.get(shared):
            return alike.renamed(name, source_symbol)
        self._registered[shared] = SymbolSessionData(
            symbol=name,
            calendar=spec.calendar,
            base_interval=str(base),
            derived_intervals=tuple(str(interval) for interval in derived),
            is_loaded=True,
            price_type=price_type,
            price_types=tuple(sorted(self._options.read.price_types or ())),
            base_from=base_from,
            segments=spec.segments,
            align=spec.align,
            zone=spec.zone,
            source_symbol=source_symbol,
            source=source,
            history_sessions=self._options.history_sessions or 0,
            indicators=indicators,
        )
        return self._registered[shared]

    def _derivable(self, base: Interval) -> tuple[list[Interval], list[Interval]]:
        """Intervals to derive other than the base: those that can be made of it, and the others."""
        if base not in self._derived:
            others = [interval for interval in self._options.derive if interval != base]
            fits = [interval for interval in others if base < interval and base.nests_in(interval)]
            self._derived[base] = fits, [interval for interval in others if interval not in fits]
        return self._derived[base]

    def _spec(self, symbol: str, interval: Interval, align: Align, zone: str) -> GridSpec:
        """`LoadOptions.spec_of`, once per calendar."""
        key = self._options.calendars.of(symbol), interval, align, zone
        if key not in self._specs:
            self._specs[key] = self._options.spec_of(symbol, interval, align, zone)
        return self._specs[key]

    def _indicators(self, name: str, base: Interval, derived: Sequence[Interval]) -> tuple[tuple[Hashable, str], ...]:
        """Requested indicators at the base and derived intervals of a symbol; those at others are noted and left out."""
        placed = [(definition, at or base) for definition, at in self._options.indicators]
        self._notes += [
            f"{name}: {definition} at {at} left out, there are bars of {', '.join(map(str, (base, *derived)))}"
            for definition, at in placed
            if at not in (base, *derived)
        ]
        return tuple((definition, str(at)) for definition, at in placed if at in (base, *derived))

    def _groups(self, batches: Sequence[FileBatch], *, own_axes: bool = False) -> list[Group]:
        """Group rows by kind, interval, stamp (`own_axes`: and axis by symbol); add `source`; no batch may be empty."""
        groups: dict[tuple[Kind, Interval | None, Stamp, GridSpec | None], list[pl.DataFrame]] = defaultdict(list)
        sources: dict[tuple[Kind, Interval | None, Stamp, GridSpec | None], list[str]] = defaultdict(list)
        for _, batch in batches:
            for part in batch.frame.partition_by("symbol", maintain_order=True) if own_axes else [batch.frame]:
                symbol: str = part["symbol"][0]
                spec = None
                if own_axes and batch.interval is not None:
                    zone = self._options.zone_of_dates(symbol, batch.interval, batch.zone, part["ts"])
                    spec = self._spec(symbol, batch.interval, batch.align, zone)
                key = batch.kind, resolution_of(batch), batch.stamp, spec
                groups[key].append(part)
                sources[key].append(batch.source)
        return [Group(*key, with_sources(frames, sources[key])) for key, frames in groups.items()]


def with_sources(frames: Sequence[pl.DataFrame], sources: Sequence[str]) -> tuple[pl.DataFrame, ...]:
    """The frames, of one schema, each with the text of its source in a column `source`."""
    heights = [frame.height for frame in frames]
    source = pl.Series("source", sources, pl.String).gather(np.repeat(np.arange(len(frames)), heights))
    whole = pl.concat(frames).with_columns(source)
    ends = np.cumsum(heights).tolist()
    return tuple(whole.slice(end - height, height) for end, height in zip(ends, heights, strict=True))


def is_identified(file: SourceFile) -> bool:
    """Whether a file's symbol, kind and, for bars, interval are known without reading it."""
    has_resolution = file.kind is not None and (file.kind != "bars" or file.interval is not None)
    return has_resolution and file.symbol is not None


def resolution_of(rows: SourceFile | Batch) -> Resolution:
    """Interval of bars (None if unknown); None for ticks, quotes and open interest."""
    return rows.interval if rows.kind == "bars" else None


def symbol_or_root(file: SourceFile) -> str:
    """Symbol and qualifier of a file, joined; for a file of many contracts their root."""
    return f"{file.symbol}{file.qualifier}"


def symbols_or_roots(file: SourceFile, batch: Batch) -> set[str]:
    """{symbol or root by the file's name} if the file is identified, else the distinct symbols of the rows."""
    return {symbol_or_root(file)} if is_identified(file) else set(batch.symbols)


def batches_by_symbol(batches: Sequence[FileBatch]) -> dict[str, list[FileBatch]]:
    """Symbol -> (file, batch) pairs with rows of it, in the order of `batches`."""
    by_symbol: dict[str, list[FileBatch]] = defaultdict(list)
    for file, batch in batches:
        for symbol in batch.symbols:
            by_symbol[symbol].append((file, batch))
    return by_symbol


def resolve_intervals(
    files: Sequence[SourceFile], batches: Sequence[FileBatch]
) -> tuple[list[FileBatch], list[Problem]]:
    """Infer the interval of bars without one, by rows and other files; return (batches, problems of the others)."""
    available = available_resolutions(files, batches)
    resolved, problems = [], []
    for file, batch in batches:
        if batch.kind != "bars" or batch.interval is not None or batch.frame.is_empty():
            resolved.append((file, batch))
            continue
        others = {one for name in symbols_or_roots(file, batch) for one in available[name] if one is not None}
        interval = interval_of(batch.frame, others)
        if interval is None:
            proposed = f"{UNTOLD} 1d, if they are of days (stamps are dates)" if batch.align == "date" else UNTOLD
            problems.append(Problem(batch.source, f"{batch.frame.height} {proposed}"))
        else:
            others_note = f"interval: {interval}, that of other files of the symbol, which no step contradicts"
            notes = (*(note for note in batch.notes if not note.startswith("interval: ")), others_note)
            resolved.append((file, replace(batch, interval=interval, notes=notes)))
    return resolved, problems


def notes_on_other_bases(
    files: Sequence[SourceFile], chosen: Sequence[SourceFile], bases: Mapping[str, Resolution]
) -> list[str]:
    """One note per symbol or root with files not in `chosen`: its base, and their number per other resolution."""
    read_files = set(chosen)
    left_out: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for file in files:
        if file not in read_files:
            left_out[symbol_or_root(file)][describe_resolution(resolution_of(file))] += 1
    return [
        f"{symbol}: base is {describe_resolution(bases[symbol])}; left out "
        + ", ".join(f"{name} ({count} {'file' if count == 1 else 'files'})" for name, count in sorted(counts.items()))
        for symbol, counts in sorted(left_out.items())
    ]


def describe_resolution(resolution: Resolution) -> str:
    """Text of an interval; `ticks` for None."""
    return "ticks" if resolution is None else str(resolution)


def check_some_batch(files: int, problems: Sequence[Problem], name: str) -> None:
    """Raise SourceError if `files` is 0, naming the first unreadable file, else the first that is no data.

    Raises
    ------
    SourceError
        Nothing could be read; it names the file, or the first of several.
    """
    if files:
        return
    bad = [problem for problem in problems if not problem.ignored]
    if len(bad) == 1:
        raise SourceError(bad[0].path, bad[0].reason)
    if bad:
        more = len(bad) - 1
        raise SourceError(name, f"nothing could be read; {bad[0].path}: {bad[0].reason} ({more} more files)")
    raise SourceError(name, no_data_found([(problem.path, problem.reason) for problem in problems]))


def all_refused(refused: pl.DataFrame, count: int, notes: Sequence[str]) -> SourceError:
    """Build (not raise) the SourceError for files whose rows were all refused: the first one, and a note's options."""
    first = refused.row(0, named=True)
    hint = next((note for note in notes if " rows refused, " in note and note.startswith(first["source"])), "")
    advice = hint.partition(" rows refused, ")[2].partition("; ")[2]
    reason = f"all {count} rows refused; row {first['row']}: {first['reason']}: {first['cells']}"
    return SourceError(first["source"], f"{reason}{'; ' if advice else ''}{advice}")


def no_data_found(passed_over: Sequence[tuple[str, str]]) -> str:
    """Error message for sources without data files: valid formats, the first passed-over file, and how many more."""
    valid = f"no data file found; valid: {', '.join(format_names())}"
    if not passed_over:
        return f"{valid}; there is no file at all"
    path, reason = passed_over[0]
    more = f", and {len(passed_over) - 1} more files" if len(passed_over) > 1 else ""
    return f"{valid}; passed over: {path} ({reason}){more}"
