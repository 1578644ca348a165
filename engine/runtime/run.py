"""The main job: files in; bars, gaps and quality in one store; an export out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Never

import polars as pl

from engine.arguments import (
    Day,
    Instant,
    Names,
    check_arguments,
    date_of,
    instant_of,
    location_of,
    names_of,
    refuse_unknown,
)
from engine.clock import Clock, WallClock
from engine.errors import SourceError
from engine.export.session_export import export_snapshot
from engine.export.target_folder import LOCK_TIMEOUT_SECONDS, check_target
from engine.grid import Align, DailySegments, Stamp
from engine.interval import Interval, Intervals, intervals_of
from engine.report.summary_tables import RunSummary
from engine.runtime.auction_notes import auction_notes
from engine.runtime.indicator_manager import IndicatorManager
from engine.runtime.load import Loaded, load_files
from engine.runtime.options import (
    Auctions,
    Calendars,
    Indicators,
    LoadOptions,
    Progress,
    calendar_map,
    indicator_requests,
)
from engine.runtime.outside_sessions import end_stamp_notes, misplaced_bars_notes
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.sources.inputs import Sources
from engine.sources.options import GIB, ReadOptions, read_arguments
from engine.store.session_data import SessionData
from engine.store.session_state import Incomplete
from engine.store.snapshot import Snapshot


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
        return summarized_tables(self.session.snapshot())

    def summary(self) -> RunSummary:
        """Quality by series, and the worst sessions."""
        return RunSummary.of(self.tables())


def summarized_tables(snapshot: Snapshot) -> dict[str, pl.DataFrame]:
    """`quality` and `gaps` at all intervals, `symbols` and `calendars` of a store."""
    small = snapshot.small_tables()
    judged = {"quality": snapshot.outcomes("quality"), "gaps": snapshot.outcomes("gaps")}
    return {**judged, "symbols": small["symbols"], "calendars": small["calendars"]}


@check_arguments("options", "progress", "clock")
def run(
    sources: Sources,
    options: LoadOptions,
    export: str | Path | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> RunResult:
    """Load sources into a new store, derive, assess, compute indicators asked for, export if a target is given; return store and counts.

    Parameters
    ----------
    sources : path, frame, list of them, or mapping of symbols to them
        As `load` takes them.
    options : LoadOptions
    export : Path, optional
        Target of the dataset: a new folder, or an export that takes a new revision.
    progress : callable, optional
        Called after each file.
    clock : Clock, optional
        Stamps the export; default the machine's.
    """
    if export is not None:
        check_target(location_of("export", export))  # before the work is done
    loaded = load_files(sources, options, progress)
    derived = derive_session(loaded.session)
    assess_session(loaded.session, options.dates)
    if options.indicators or options.history_sessions is not None:
        IndicatorManager(loaded.session).step()
    loaded = replace(loaded, notes=(*loaded.notes, *session_notes(loaded.session)))
    revision = None if export is None else export_session(loaded.session, export, clock)
    return RunResult(loaded, derived, revision)


@check_arguments("keep_source", "history_sessions")
def load(
    sources: Sources,
    calendar: Calendars,
    *,
    derive: Intervals = (),
    interval: str | Interval | None = None,
    start: Day = None,
    end: Day = None,
    segments: Names = (),
    auctions: Auctions = "in",
    daily_segments: DailySegments = "regular",
    align: Align | None = None,
    incomplete: Incomplete = "flag",
    keep_source: bool = False,
    as_of: Instant = None,
    indicators: Indicators = (),
    history_sessions: int = 0,
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
) -> SessionData:
    """Load files or frames, derive bars, assess gaps and quality; return the store; SourceError if one cannot be read.

    Parameters
    ----------
    sources : path, frame, list of them, or mapping of symbols to them
        Paths of files, or of folders that are searched. Frames of Polars (eager, lazy), pandas (stamps in the index or
        a column; MultiIndex), PyArrow (tables, readers), DuckDB (relations). `{"SPY": frame, "QQQ": path}` names the
        symbol of what does not tell it.
    calendar : str, Path, CalendarMap or mapping
        A calendar code, a calendar file, or calendars by symbol pattern (`{"ES*": "CME_INDEX", "*": "XNYS"}`).
    derive : str, Interval or list of them
        Derived intervals.
    interval : str or Interval, optional
        The base; default 1m where there is one, else the finest. Of rows that do not tell theirs.
    start, end : date or ISO text, optional
        First and last trade date.
    segments : str or list of str
        Labels whose slots are expected (`["PRE", "RTH"]`); empty: the regular ones.
    auctions : {"in", "out"}
        Whether rows of closing auctions enter 1d, 1w and 1mo.
    daily_segments : {"regular", "all"}
        Which of these segments days, weeks and months fold.
    align : {"session", "clock", "date"}, optional
        Where bars begin; default as the format says.
    incomplete : {"flag", "drop"}
        Whether bars of incomplete windows are flagged or left out.
    keep_source : bool
        Keep other resolutions than the base as series of their own.
    as_of : datetime or ISO text with a zone, optional
        Slots that end later are not due.
    indicators : str, Indicator, list of them, or mapping of intervals to them
        Indicators of the base, or of the intervals that are named: `{"5m": ["sma(20)"]}`.
    history_sessions : int
        Sessions before the current one (the last with a bar) that are the history; 0: all.
    format : str, optional
        Name of a registered format, whatever files look like: `csv`, `parquet` ...
    layout : str, optional
        Name of a vendor's layout (`engine layouts` lists them), where nothing in the files tells the vendor.
    timezone : str or tzinfo, optional
        Zone of stamps that carry none: an IANA name or a fixed offset (`UTC-05`).
    stamp : {"start", "end", "end-inclusive"}, optional
        What a bar's stamp marks.
    shift : str, optional
        What is added to every stamp, after its zone: `-5h`, `1m`.
    unit : {"s", "ms", "us", "ns"}, optional
        Of stamps written as numbers since 1970.
    time_format : str, optional
        Of stamps written as text, as `strftime` has it.
    delimiter, header : str, bool, optional
        Of delimited text; found out by default.
    skip_rows : int
        Lines above the header of delimited text, or above its first row.
    decimal, thousands : str, optional
        Marks in numbers written as text.
    null, ignore : str or list of str
        Cells that mean none (`-1`, `N/A`), and columns that are left out, as the files name them.
    columns : mapping of str to str or int, optional
        Our name of a column to theirs, or to its place, counted from 1.
    symbol, price_type : str, optional
        Of all rows, and of bars without a column of it.
    symbol_from : str, optional
        Where paths have the symbol: `folder`, or a template of a path's end (`{symbol}/{date}.csv`).
    symbols, price_types : str or list of str, optional
        Keep only these; a root (`ES`) keeps all its contracts.
    allow_non_positive : bool
        Prices of zero and below are real.
    scale : int, optional
        Decimal digits of integers in fixed-size binary cells.
    max_bytes, max_ratio, max_members : int
        Refuse archives that hold more uncompressed bytes, shrink by more, or have more members.

    Returns
    -------
    SessionData
        Every symbol loaded. Files that could not be read raise; `run` reports them instead and goes on.

    Raises
    ------
    SourceError
        A file could not be read.
    ParameterError
        An argument is not valid, or unknown; the message names the valid form, or the nearest option.

    Examples
    --------
    >>> import polars as pl
    >>> import engine
    >>> from datetime import UTC, datetime
    >>> minutes = pl.datetime_range(datetime(2024, 1, 2, 14, 30, tzinfo=UTC), datetime(2024, 1, 2, 20, 59, tzinfo=UTC), "1m", eager=True)
    >>> bars = pl.DataFrame({"timestamp": minutes, "open": 10.0, "high": 10.5, "low": 9.5, "close": 10.2})
    >>> session = engine.load({"SPY": bars}, "XNYS", derive="1h")
    >>> session.quality("SPY")["quality"].to_list()
    [100.0, 100.0]
    """
    arguments = locals()
    refuse_unknown("load", unknown, arguments)
    options = load_options(**{name: arguments[name] for name in LOAD_ARGUMENTS}, **read_arguments(arguments))
    outcome = run(sources, options)
    bad = [problem for problem in outcome.loaded.problems if not problem.ignored]
    if bad:
        raise SourceError(bad[0].path, bad[0].reason + (f" (and {len(bad) - 1} more files)" if len(bad) > 1 else ""))
    return outcome.session


LOAD_ARGUMENTS = (
    *(
        "calendar",
        "derive",
        "interval",
        "start",
        "end",
        "segments",
        "auctions",
        "daily_segments",
        "align",
        "incomplete",
        "keep_source",
        "as_of",
        "indicators",
        "history_sessions",
    ),
)


def load_options(
    calendar: Calendars | None,
    *,
    derive: Intervals = (),
    interval: str | Interval | None = None,
    start: Day = None,
    end: Day = None,
    segments: Names = (),
    auctions: Auctions = "in",
    daily_segments: DailySegments = "regular",
    align: Align | None = None,
    incomplete: Incomplete = "flag",
    keep_source: bool = False,
    as_of: Instant = None,
    indicators: Indicators = (),
    history_sessions: int | None = None,
    **read: Any,  # noqa: ANN401 - the fields of ReadOptions
) -> LoadOptions:
    """Build `LoadOptions`, names and dates parsed by the rules of `engine.arguments`; `read` goes to its `ReadOptions`."""
    step = None if interval is None else Interval.parse(interval)
    return LoadOptions(
        calendars=calendar_map(calendar),
        interval=step,
        derive=intervals_of("derive", derive, least=0) or (),
        dates=(date_of("start", start), date_of("end", end)),
        segments=names_of("segments", segments, least=0) or (),
        auctions=auctions,
        daily_segments=daily_segments,
        align=align,
        keep_source=keep_source,
        as_of=instant_of("as_of", as_of),
        incomplete=incomplete,
        indicators=indicator_requests(indicators),
        history_sessions=history_sessions,
        read=ReadOptions(interval=step, align=align, **read),
    )


def session_notes(session: SessionData) -> list[str]:
    """Notes on a derived store: what days fold beside regular hours, series outside of slots, prints of closing auctions."""
    return [
        *daily_segments_notes(session),
        *misplaced_bars_notes(session),
        *end_stamp_notes(session.snapshot()),
        *auction_notes(session.snapshot()),
    ]


def daily_segments_notes(session: SessionData) -> list[str]:
    """One note per set of segments that days and longer bars fold because all were asked for, with its symbols."""
    symbols = session.snapshot().symbols
    specs = {name: data.spec for name, data in symbols.items() if data.spec.daily_segments == "all"}
    derived = {text for name in specs for text in symbols[name].derived_intervals}
    longer = sorted(text for text in derived if not Interval.parse(text).is_intraday)
    folded = {spec.labels: [name for name in specs if specs[name].labels == spec.labels] for spec in specs.values()}
    return [
        f"{', '.join(longer) or '1d'} of {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''} fold "
        f"{', '.join(labels)} (daily segments: all)"
        for labels, names in folded.items()
    ]


@check_arguments("session", "clock", "full")
def export_session(
    session: SessionData,
    target: str | Path,
    clock: Clock | None = None,
    *,
    full: bool = False,
    skip_unchanged: bool = False,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> int:
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
    skip_unchanged : bool
        Write no revision when a running session has the rows of the last one.
    lock_timeout : float
        Seconds to wait for another exporter of this target.

    Returns
    -------
    int
        The target's next revision, or its last one where nothing changed.
    """
    snapshot = session.snapshot()
    now = (clock or WallClock()).now()
    revision = export_snapshot(
        snapshot,
        location_of("target", target),
        written_at=now,
        full=full,
        skip_unchanged=skip_unchanged,
        lock_timeout=lock_timeout,
    )
    session.mark_exported(snapshot.revision)
    return revision
