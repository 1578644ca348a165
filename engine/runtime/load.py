"""From files to a loaded store: scan, choose each symbol's base, read, append.

1. `scan` says what the files are without reading them, where a name or a path tells; the others are read first.
2. Of several resolutions of a symbol one is its base (`sources.resolution.base_of`), the others are named and left out.
3. Files are read side by side and appended in the order of their paths, so the number of workers changes nothing.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from engine.errors import ParameterError, SourceError
from engine.grid import GridSpec, Stamp
from engine.interval import Interval
from engine.runtime.options import LoadOptions, Progress
from engine.schema import Kind
from engine.sources.batch import Batch, Problem, SourceFile
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.resolution import DEFAULT_BASE, UNTOLD, Resolution, interval_of, interval_of_prints
from engine.sources.scan import scan
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData


@dataclass(frozen=True)
class Loaded:
    """What a load did.

    Attributes
    ----------
    session : SessionData
    files, rows : int
        Files read, and rows offered to the store.
    duplicates, corrections, rejected : int
    problems : tuple of Problem
        Files that could not be read.
    notes : tuple of str
        What was assumed, skipped or left out.
    """

    session: SessionData
    files: int
    rows: int
    duplicates: int
    corrections: int
    rejected: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Rows of one kind, interval and axis, as they are appended together: a frame per batch, in order of the batches."""

    kind: Kind
    interval: Interval | None
    stamp: Stamp
    spec: GridSpec | None
    frames: tuple[pl.DataFrame, ...]


@dataclass(frozen=True)
class Contents:
    """What files and folders hold, read and not yet in a store.

    Attributes
    ----------
    symbols : tuple of SymbolSessionData
        To be registered.
    groups : tuple of Group
    refused : tuple of DataFrame
        Rows that the readers refused (`schema.REJECTS`), a frame per batch.
    marks : frozenset of str
        What tells the batches, by content.
    files : int
    problems : tuple of Problem
    notes : tuple of str
    """

    symbols: tuple[SymbolSessionData, ...]
    groups: tuple[Group, ...]
    refused: tuple[pl.DataFrame, ...]
    marks: frozenset[str]
    files: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def load_files(sources: Sequence[Path], options: LoadOptions, progress: Progress | None = None) -> Loaded:
    """Read files and folders into a new store; nothing is derived or judged yet.

    Parameters
    ----------
    sources, options, progress
        As `read_files` takes them.
    """
    return loaded(read_files(sources, options, progress), options)


def loaded(contents: Contents, options: LoadOptions) -> Loaded:
    """Put what was read into a new store."""
    session = SessionData(as_of=options.as_of, incomplete=options.incomplete)
    for refused in contents.refused:
        session.add_rejects(refused)
    session.add_files(contents.marks)
    session.register_symbol_data(*contents.symbols)
    done = [
        session.append(list(one.frames), one.kind, one.interval, stamp=one.stamp, spec=one.spec, dates=options.dates)
        for one in contents.groups
    ]
    return Loaded(
        session,
        files=contents.files,
        rows=sum(one.offered for one in done),
        duplicates=sum(one.duplicates for one in done),
        corrections=sum(one.corrections for one in done),
        rejected=sum(frame.height for frame in session.snapshot().rejects),
        problems=contents.problems,
        notes=contents.notes,
    )


def read_files(sources: Sequence[Path], options: LoadOptions, progress: Progress | None = None) -> Contents:
    """Read files and folders: which symbols there are, their bases, and the rows of those.

    Parameters
    ----------
    sources : sequence of Path
        Files, or folders that are searched.
    options : LoadOptions
    progress : callable, optional
        Told after each file: how many are done, of how many, and which.

    Raises
    ------
    ParameterError
        A source does not exist, or a symbol has no calendar.
    SourceError
        Nothing could be read at all.
    """
    _check_sources(sources)
    found, problems = scan(sources, options.read)
    return read_found(found, problems, options, ", ".join(map(str, sources)), progress)


def read_found(
    found: Sequence[SourceFile], problems: Sequence[Problem], options: LoadOptions, name: str, progress: Progress | None = None
) -> Contents:  # fmt: skip
    """As `read_files`, of files that `scan` found (`name` is what messages call all of them)."""
    contents = read_part(found, problems, options, progress)
    check_some_batch(contents.files, contents.problems, name)
    _check_some_row(contents)
    return contents


def read_part(
    found: Sequence[SourceFile], problems: Sequence[Problem], options: LoadOptions, progress: Progress | None = None
) -> Contents:
    """As `read_found`, of files that are a part of what is read: nothing in them is no error."""
    reader = _Reader(options.read, len(found), progress)
    told = [file for file in found if _tells(file)]
    read_first = reader.read([file for file in found if not _tells(file)])
    early, doubtful = _settled(told, read_first)
    bases = choose_bases(told, early, options)
    chosen = [f for f in told if f.kind == "open_interest" or options.keep_source or _resolution(f) == bases[_group(f)]]
    batches = sorted([*early, *reader.read(chosen)], key=lambda one: one[1].source)
    problems = [*problems, *reader.problems, *doubtful]
    return _Sorting(bases, options).contents(batches, tuple(problems), _left_out(told, chosen, bases))


def choose_bases(
    files: Iterable[SourceFile], batches: Iterable[tuple[SourceFile, Batch]], options: LoadOptions
) -> dict[str, Resolution]:
    """The base of each symbol (of each root, where a file holds many contracts)."""
    there = _resolutions(files, batches)
    return {group: options.base_of(group, found) for group, found in there.items()}


def _resolutions(
    files: Iterable[SourceFile], batches: Iterable[tuple[SourceFile, Batch]]
) -> defaultdict[str, set[Resolution]]:
    there: defaultdict[str, set[Resolution]] = defaultdict(set)
    for file in files:
        if file.kind != "open_interest":
            there[_group(file)].add(_resolution(file))
    for file, batch in batches:
        if batch.kind != "open_interest" and (batch.interval or batch.kind != "bars"):
            for group in _groups(file, batch):
                there[group].add(batch.interval)
    return there


class _Reader:
    """Reads files side by side; hands batches over in the order of the files, and keeps what went wrong."""

    def __init__(self, options: ReadOptions, total: int, progress: Progress | None) -> None:
        self.problems: list[Problem] = []
        self._options = options
        self._total = total
        self._done = 0
        self._progress = progress

    def read(self, files: Sequence[SourceFile]) -> list[tuple[SourceFile, Batch]]:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            return [
                (file, one)
                for file, got in zip(files, pool.map(self._one, files), strict=True)
                for one in self._kept(file, got)
            ]

    def _one(self, file: SourceFile) -> list[Batch] | SourceError:
        try:
            return read(file, self._options)
        except SourceError as error:
            return error

    def _kept(self, file: SourceFile, got: list[Batch] | SourceError) -> list[Batch]:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, str(file.path))
        if isinstance(got, SourceError):
            self.problems.append(Problem(got.path, got.reason))
            return []
        return got


class _Sorting:
    """Batches sorted out: which symbols they bring, which of them are of a symbol's base, and what is appended together."""

    def __init__(self, bases: Mapping[str, Resolution], options: LoadOptions) -> None:
        self._bases = bases
        self._options = options
        self._notes: list[str] = []

    def contents(
        self, batches: Sequence[tuple[SourceFile, Batch]], problems: tuple[Problem, ...], notes: Sequence[str]
    ) -> Contents:
        fresh, marks = self._without_repeats(batches)
        kept = [(file, batch) for file, batch in fresh if batch.frame.height or batch.rejects.height]
        self._notes += [
            f"{batch.source}: no rows" for _, batch in fresh if not batch.frame.height + batch.rejects.height
        ]
        for _, batch in kept:
            self._notes += [f"{batch.source}: {note}" for note in batch.notes]
        bases, others = self._parted([(file, batch) for file, batch in kept if batch.frame.height])
        symbols = self._symbols(bases, others)
        groups = self._groups(bases) + (self._groups(others, kept=True) if self._options.keep_source else [])
        if not self._options.keep_source:
            self._notes += [f"{b.source}: {_shown(b.interval)} left out, the base is another" for _, b in others]
        return Contents(
            symbols,
            tuple(groups),
            refused=tuple(batch.rejects for _, batch in kept if batch.rejects.height),
            marks=marks,
            files=len({batch.source.split("!")[0] for _, batch in batches}),
            problems=problems,
            notes=(*notes, *self._notes),
        )

    def _without_repeats(
        self, batches: Sequence[tuple[SourceFile, Batch]]
    ) -> tuple[list[tuple[SourceFile, Batch]], frozenset[str]]:
        """The batches whose bytes did not come before under the same symbols: a copy of a file is no correction."""
        first: dict[str, str] = {}
        fresh = []
        for file, batch in batches:
            # Symbol and date may come from the path, so equal bytes alone do not make equal rows.
            start = batch.frame["ts"].min() if batch.frame.height else None
            mark = " ".join([batch.sha256, batch.kind, *sorted(batch.frame["symbol"].unique()), str(start)])
            if first.setdefault(mark, batch.source) == batch.source or not batch.frame.height:
                fresh.append((file, batch))
            else:
                self._notes.append(f"{batch.source}: same bytes as {first[mark]}, left out")
        return fresh, frozenset(first)

    def _parted(
        self, batches: Sequence[tuple[SourceFile, Batch]]
    ) -> tuple[list[tuple[SourceFile, Batch]], list[tuple[SourceFile, Batch]]]:
        """Batches of their symbols' base (and open interest, which has none), and the others."""
        bases: list[tuple[SourceFile, Batch]] = []
        others: list[tuple[SourceFile, Batch]] = []
        for file, batch in batches:
            at_base = self._symbols_at_base(file, batch)
            for rows, into in ((at_base, bases), (~at_base, others)):
                if rows.any():
                    into.append((file, batch if rows.all() else replace(batch, frame=batch.frame.filter(rows))))
        return bases, others

    def _symbols_at_base(self, file: SourceFile, batch: Batch) -> pl.Series:
        """For each row of a batch, whether it is of its symbol's base: one file may be that of some symbols only."""
        symbols = batch.frame["symbol"]
        there = symbols.unique(maintain_order=True)
        if batch.kind == "open_interest":
            return symbols.is_in(there.implode())
        resolution = self._resolution_of(batch)
        return symbols.is_in([one for one in there if self._base_of(file, one) == resolution])

    def _resolution_of(self, batch: Batch) -> Resolution:
        return batch.interval if batch.kind == "bars" else None

    def _base_of(self, file: SourceFile, symbol: str) -> Resolution:
        return self._bases.get(_group(file) if _tells(file) else symbol, DEFAULT_BASE)

    def _symbols(
        self, bases: Sequence[tuple[SourceFile, Batch]], others: Sequence[tuple[SourceFile, Batch]]
    ) -> tuple[SymbolSessionData, ...]:
        grouped = _by_symbol(bases)
        # What a symbol has no row of at its base says least about it, but more than nothing.
        grouped = {**_by_symbol(others), **grouped}
        return tuple(self._symbol(name, of) for name, of in sorted(grouped.items()))

    def _symbol(self, name: str, batches: Sequence[tuple[SourceFile, Batch]]) -> SymbolSessionData:
        # Open interest alone tells nothing about bars, so any other batch speaks for the symbol first.
        file, batch = next(((f, b) for f, b in batches if b.kind != "open_interest"), batches[0])
        base = self._base_of(file, name) or interval_of_prints(self._options.interval, self._options.derive)
        if self._options.interval not in (None, base):
            self._notes.append(f"{name}: no bars of {self._options.interval}, the base is {base}")
        spec = self._options.spec_of(name, base, batch.align, batch.zone)
        types = [t for _, b in batches if b.kind == "bars" for t in b.frame["price_type"].unique()]
        kinds = {b.kind for _, b in batches}
        has_last = "last" in types or "ticks" in kinds or kinds == {"open_interest"}
        return SymbolSessionData(
            symbol=name,
            calendar=spec.calendar,
            base_interval=str(base),
            derived_intervals=self._derivable(name, base),
            is_loaded=True,
            price_type=_primary("last" if has_last else "bid", self._options.read.price_types),
            price_types=tuple(sorted(self._options.read.price_types)),
            base_from="bars" if "bars" in kinds else "ticks" if "ticks" in kinds else "quotes",
            segments=spec.segments,
            align=spec.align,
            zone=spec.zone,
            source_symbol=batch.source_symbols.get(name, name),
            source=file.market or file.format,
        )

    def _derivable(self, symbol: str, base: Interval) -> tuple[str, ...]:
        fits = [one for one in self._options.derive if base < one and base.nests_in(one)]
        for one in self._options.derive:
            if one not in fits and one != base:
                self._notes.append(f"{symbol}: {one} cannot be derived from {base}, left out")
        return tuple(str(one) for one in fits)

    def _groups(self, batches: Sequence[tuple[SourceFile, Batch]], *, kept: bool = False) -> list[Group]:
        groups: dict[tuple[Kind, Interval | None, Stamp, GridSpec | None], list[pl.DataFrame]] = defaultdict(list)
        for _, batch in batches:
            rows = batch.frame.with_columns(pl.lit(batch.source).alias("source"))
            for part in rows.partition_by("symbol", maintain_order=True) if kept else [rows]:
                symbol: str = part["symbol"][0]
                of_its_own = kept and batch.interval is not None
                spec = self._options.spec_of(symbol, batch.interval, batch.align, batch.zone) if of_its_own else None  # type: ignore[arg-type]
                groups[batch.kind, self._resolution_of(batch), batch.stamp, spec].append(part)
        return [Group(*what, tuple(frames)) for what, frames in groups.items()]


def _primary(natural: str, wanted: Sequence[str]) -> str:
    return natural if not wanted or natural in wanted else wanted[0]


def _check_sources(sources: Sequence[Path]) -> None:
    if not sources:
        raise ParameterError("source: none given; valid: files or folders")
    absent = [str(path) for path in sources if not path.exists()]
    if absent:
        raise ParameterError(f"source: {', '.join(absent)} does not exist")


def _tells(file: SourceFile) -> bool:
    known = file.kind is not None and (file.kind != "bars" or file.interval is not None)
    return known and file.symbol is not None


def _resolution(file: SourceFile) -> Resolution:
    return file.interval if file.kind == "bars" else None


def _group(file: SourceFile) -> str:
    return f"{file.symbol}{file.qualifier}"


def _groups(file: SourceFile, batch: Batch) -> set[str]:
    # Where the name does not tell all, the rows have the word: their symbols may be others than the one it shows.
    return {_group(file)} if _tells(file) else set(batch.frame["symbol"].unique())


def _by_symbol(batches: Sequence[tuple[SourceFile, Batch]]) -> dict[str, list[tuple[SourceFile, Batch]]]:
    grouped: dict[str, list[tuple[SourceFile, Batch]]] = defaultdict(list)
    for file, batch in batches:
        for symbol in batch.frame["symbol"].unique(maintain_order=True):
            grouped[symbol].append((file, batch))
    return grouped


def _settled(
    told: Sequence[SourceFile], batches: Sequence[tuple[SourceFile, Batch]]
) -> tuple[list[tuple[SourceFile, Batch]], list[Problem]]:
    """Batches with an interval each; those that do not tell theirs, even beside the other files of their symbols, are refused."""
    there = _resolutions(told, batches)
    settled, problems = [], []
    for file, batch in batches:
        if batch.kind != "bars" or batch.interval is not None or batch.frame.is_empty():
            settled.append((file, batch))
            continue
        others = {one for group in _groups(file, batch) for one in there[group] if one is not None}
        interval = interval_of(batch.frame, others)
        if interval is None:
            problems.append(Problem(batch.source, f"{batch.frame.height} {UNTOLD}"))
        else:
            notes = tuple(note for note in batch.notes if not note.startswith("interval: "))
            settled.append((file, replace(batch, interval=interval, notes=notes)))
    return settled, problems


def _left_out(told: Sequence[SourceFile], chosen: Sequence[SourceFile], bases: Mapping[str, Resolution]) -> list[str]:
    read_ones = set(chosen)
    spared: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for file in told:
        if file not in read_ones:
            spared[_group(file)][_shown(_resolution(file))] += 1
    return [
        f"{group}: base is {_shown(bases[group])}; left out "
        + ", ".join(f"{name} ({count} {'file' if count == 1 else 'files'})" for name, count in sorted(found.items()))
        for group, found in sorted(spared.items())
    ]


def _shown(resolution: Resolution) -> str:
    return "ticks" if resolution is None else str(resolution)


def check_some_batch(files: int, problems: Sequence[Problem], name: str) -> None:
    """Refuse sources of which nothing could be read.

    Raises
    ------
    SourceError
        It names the file, or the first of several.
    """
    bad = [one for one in problems if not one.ignored]
    if not files and len(bad) == 1:
        raise SourceError(bad[0].path, bad[0].reason)
    if not files:
        raise SourceError(name, _nothing(bad, [one for one in problems if one.ignored]))


def _check_some_row(contents: Contents) -> None:
    if contents.refused and not contents.symbols:
        raise all_refused(contents.refused[0], sum(frame.height for frame in contents.refused))


def all_refused(refused: pl.DataFrame, count: int) -> SourceError:
    """What to raise when all rows were refused: it shows the first of them."""
    first = refused.row(0, named=True)
    return SourceError(
        first["source"], f"all {count} rows refused; row {first['row']}: {first['reason']}: {first['cells']}"
    )


def _nothing(bad: Sequence[Problem], passed_over: Sequence[Problem]) -> str:
    if bad:
        return f"nothing could be read; {bad[0].path}: {bad[0].reason} ({len(bad) - 1} more files)"
    return no_data_found([(one.path, one.reason) for one in passed_over])


def no_data_found(passed_over: Sequence[tuple[str, str]]) -> str:
    """Why nothing was read where nothing was wrong: what there was instead of data."""
    valid = "no data file found; valid: csv, ndjson, parquet, Lean zip, Databento DBN"
    if not passed_over:
        return f"{valid}; there is no file at all"
    path, reason = passed_over[0]
    more = f", and {len(passed_over) - 1} more files" if len(passed_over) > 1 else ""
    return f"{valid}; passed over: {path} ({reason}){more}"
