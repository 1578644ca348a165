"""The main job: files in; bars, gaps and quality in one store; an export out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from engine.clock import Clock, WallClock
from engine.errors import SourceError
from engine.export.session_export import export_snapshot
from engine.grid import Align
from engine.interval import Interval
from engine.runtime.load import Loaded, load_files
from engine.runtime.options import CalendarMap, LoadOptions, Progress
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.sources.options import ReadOptions
from engine.store.session_data import SessionData
from engine.store.session_state import Incomplete


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes
    ----------
    loaded : Loaded
        The store, and the counts of the load.
    derived : int
        Derived bars written.
    export_revision : int or None
        The export's revision, None without one.
    """

    loaded: Loaded
    derived: int
    export_revision: int | None

    @property
    def session(self) -> SessionData:
        """The loaded store."""
        return self.loaded.session

    def tables(self) -> dict[str, pl.DataFrame]:
        """`quality` and `gaps` at all intervals, `symbols` and `calendars`, from the store."""
        snapshot = self.session.snapshot()
        small = snapshot.small_tables()
        judged = {"quality": snapshot.outcomes("quality"), "gaps": snapshot.outcomes("gaps")}
        return {**judged, "symbols": small["symbols"], "calendars": small["calendars"]}


def run(
    sources: Sequence[Path],
    options: LoadOptions,
    export: Path | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> RunResult:
    """Load sources into a new store, derive, assess, export if a target is given; return store and counts.

    Parameters
    ----------
    sources : sequence of Path
        Files and folders.
    options : LoadOptions
    export : Path, optional
        Target of the dataset: a new folder, or an export that takes a new revision.
    progress : callable, optional
        Called after each file.
    clock : Clock, optional
        Stamps the export; default the machine's.
    """
    loaded = load_files(sources, options, progress)
    derived = derive_session(loaded.session)
    assess_session(loaded.session, options.dates)
    loaded = replace(loaded, notes=(*loaded.notes, *misplaced_series_notes(loaded.session)))
    revision = None if export is None else export_session(loaded.session, export, clock)
    return RunResult(loaded, derived, revision)


def load(
    sources: str | Path | Sequence[str | Path],
    calendar: str | Path | CalendarMap,
    *,
    derive: Sequence[str | Interval] = (),
    interval: str | Interval | None = None,
    start: dt.date | str | None = None,
    end: dt.date | str | None = None,
    segments: Sequence[str] = (),
    align: Align | None = None,
    incomplete: Incomplete = "flag",
    keep_source: bool = False,
    as_of: dt.datetime | None = None,
    **read: Any,  # noqa: ANN401 - the fields of ReadOptions
) -> SessionData:
    """Load files, derive bars, assess gaps and quality; return the store; SourceError if a file could not be read.

    Parameters
    ----------
    sources : path or sequence of paths
        Files, or folders that are searched.
    calendar : str, Path or CalendarMap
        A calendar code, a calendar file, or calendars by symbol.
    derive : sequence of str or Interval
        Derived intervals.
    interval : str or Interval, optional
        The base; default 1m where there is one, else the finest.
    start, end : date or ISO text, optional
        First and last trade date.
    segments, align, incomplete, keep_source, as_of
        As in `LoadOptions`.
    **read
        As in `sources.options.ReadOptions`: `symbols`, `timezone`, `stamp`, `columns` ...

    Returns
    -------
    SessionData
        Every symbol loaded. Files that could not be read raise; `run` reports them instead and goes on.

    Raises
    ------
    SourceError
        A file could not be read.
    """
    options = load_options(
        calendar,
        derive=derive,
        interval=interval,
        start=start,
        end=end,
        segments=segments,
        align=align,
        incomplete=incomplete,
        keep_source=keep_source,
        as_of=as_of,
        **read,
    )
    outcome = run(as_paths(sources), options)
    bad = [problem for problem in outcome.loaded.problems if not problem.ignored]
    if bad:
        raise SourceError(bad[0].path, bad[0].reason + (f" (and {len(bad) - 1} more files)" if len(bad) > 1 else ""))
    return outcome.session


def as_paths(sources: str | Path | Sequence[str | Path]) -> list[Path]:
    """List of `Path`: of one path, or of each in a sequence."""
    return [Path(path) for path in ([sources] if isinstance(sources, str | Path) else sources)]


def load_options(
    calendar: str | Path | CalendarMap | None,
    *,
    derive: Sequence[str | Interval] = (),
    interval: str | Interval | None = None,
    start: dt.date | str | None = None,
    end: dt.date | str | None = None,
    segments: Sequence[str] = (),
    align: Align | None = None,
    incomplete: Incomplete = "flag",
    keep_source: bool = False,
    as_of: dt.datetime | None = None,
    **read: Any,  # noqa: ANN401 - the fields of ReadOptions
) -> LoadOptions:
    """Build `LoadOptions` (ValueError for a wrong date); `interval`, `align` and `read` go to its `ReadOptions`."""
    step = None if interval is None else Interval.parse(interval)
    first, last = (dt.date.fromisoformat(date) if isinstance(date, str) else date for date in (start, end))
    known = calendar if calendar is None or isinstance(calendar, CalendarMap) else CalendarMap(str(calendar))
    return LoadOptions(
        calendars=known or CalendarMap(None),
        interval=step,
        derive=tuple(Interval.parse(one) for one in derive),
        dates=(first, last),
        segments=tuple(segments),
        align=align,
        keep_source=keep_source,
        as_of=as_of,
        incomplete=incomplete,
        read=ReadOptions(interval=step, align=align, **read),
    )


def misplaced_series_notes(session: SessionData) -> list[str]:
    """One note per series whose stored quality has more bars outside slots (off grid, out of session) than in."""
    counted = session.quality().group_by("symbol", "price_type", "interval", maintain_order=True).sum()
    outside = pl.col("off_grid") + pl.col("out_of_session")
    lost = counted.filter(outside > pl.col("present")).with_columns(outside.alias("outside"))
    return [
        f"{symbol} {price_type} {interval}: {present or 'no'} bar{'s lie' if present > 1 else ' lies'} in a slot of a "
        f"session, {outside} outside; check --timezone, --stamp, --align and --calendar (extended hours: --segments)"
        for symbol, price_type, interval, present, outside in lost.select(
            "symbol", "price_type", "interval", "present", "outside"
        ).iter_rows()
    ]


def export_session(session: SessionData, target: Path, clock: Clock | None = None, *, full: bool = False) -> int:
    """Export changes since the last export to this target, or all; mark them exported; return its revision.

    Parameters
    ----------
    session : SessionData
        The store.
    target : Path
        A new folder, or an export.
    clock : Clock, optional
        Stamps the export; default the machine's.
    full : bool
        Write everything.

    Returns
    -------
    int
        The target's next revision.
    """
    snapshot = session.snapshot()
    revision = export_snapshot(snapshot, target, written_at=(clock or WallClock()).now(), full=full)
    session.mark_exported(snapshot.revision)
    return revision
