"""Bars, gaps, quality and sessions of any source (frame, export, audit, store) in the form that plots read.

`plot_source` takes a store, a snapshot, an export, an audit or a frame; each answers the same few questions with frames as
the tables of an export have them. What a source does not hold is an empty frame, and the plot that needs it says so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args

import polars as pl

from engine.arguments import check_known, list_names, location_of, one_name
from engine.audit.audit_files import is_audit, read_audit_tables
from engine.audit.audit_tables import CALENDARS, SESSIONS
from engine.calendars.providers import calendar
from engine.errors import ParameterError, UnknownSymbolError
from engine.export.dataset import Dataset, open_dataset
from engine.export.target_folder import is_export
from engine.grid import Align, GridSpec, SessionGrid
from engine.interval import Interval
from engine.schema import IS_MISSING, SEGMENTS, TS, empty, session_ordinal
from engine.sources.dataframes import is_frame, to_polars
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.views import BARS_VIEW, GAPS_VIEW, QUALITY_VIEW, SYMBOLS_VIEW

VALID = (
    "a SessionData, a Snapshot, the folder of an export or a Dataset, an Audit or the folder of one, or a frame "
    "of bars, quotes, gaps or quality"
)
SHAPES: Mapping[str, tuple[str, ...]] = {
    "gaps": ("gap_start", "gap_end", "bar_count"),
    "quality": ("symbol", "session", "expected", "missing"),
    "bars": ("ts", "open", "high", "low", "close"),
    "quotes": ("ts", "bid", "ask"),
}
EMPTY = {
    "bars": BARS_VIEW,
    "gaps": GAPS_VIEW,
    "quality": QUALITY_VIEW,
    "sessions": SESSIONS,
    "calendars": CALENDARS,
    "symbols": SYMBOLS_VIEW,
    "quotes": {"symbol": pl.String(), "ts": TS, "bid": pl.Float64(), "ask": pl.Float64()},
}
NAMELESS = "(no symbol)"


class HasTables(Protocol):
    """Protocol of an audit: tables by name."""

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """Frames by name."""
        ...


Source = SessionData | Snapshot | Dataset | HasTables | pl.DataFrame | str | Path
Table = Callable[[str, pl.Expr], pl.DataFrame]


class SymbolAxis(NamedTuple):
    """Session axis and default series of one symbol."""

    symbol: str
    calendar: str
    interval: str
    price_type: str
    segments: tuple[str, ...] = ()
    align: Align = "session"
    zone: str = "UTC"


@dataclass(frozen=True)
class PlotSource:
    """A source as plots read it: `table(name, filter)` returns rows of an export's table."""

    table: Table
    calendar: str | None = None

    def bars(self, symbol: str, interval: str, price_type: str, origin: str | None = None) -> pl.DataFrame:
        """Return the bars of one series, sorted by `ts`; `origin` None: of every origin."""
        wanted = (pl.col("symbol") == symbol) & (pl.col("interval") == interval) & (pl.col("price_type") == price_type)
        rows = self.table("bars", wanted if origin is None else wanted & (pl.col("origin") == origin))
        return rows.sort("ts")

    def quotes(self, symbol: str) -> pl.DataFrame:
        """Quotes of one symbol, sorted by `ts`."""
        return self.table("quotes", pl.col("symbol") == symbol).sort("ts")

    def gaps(self, where: pl.Expr) -> pl.DataFrame:
        """Return the gaps that pass the filter and are not filled; a null `cause` becomes "missing"."""
        gaps = self.table("gaps", where)
        gaps = gaps.filter(IS_MISSING) if "state" in gaps.columns else gaps
        return gaps.with_columns(pl.col("cause").fill_null("missing"))

    def quality(self) -> pl.DataFrame:
        """Return quality per series and session at base intervals; all intervals if the source has no symbols."""
        rows, base = self.table("quality", pl.lit(value=True)), self.symbols()
        at_base = base.select("symbol", pl.col("base_interval").alias("interval"))
        return rows.join(at_base, on=["symbol", "interval"], how="semi", maintain_order="left") if len(base) else rows

    def symbols(self) -> pl.DataFrame:
        """One row per symbol: `symbol, calendar, base_interval, price_type, segments, align, zone`."""
        return self.table("symbols", pl.lit(value=True))

    def about(self, symbol: str | None) -> SymbolAxis:
        """Return axis and default series of a symbol, None: of the only one; ParameterError if unknown or not single.

        Raises
        ------
        ParameterError
            There is no such symbol, or no single one.
        """
        known = self.symbols()
        names = known["symbol"].unique().sort().to_list()
        if symbol is None and len(names) != 1:
            raise ParameterError(f"symbol: none was named; valid: one of {list_names(names)}")
        if symbol is not None:
            check_known("symbol", [one_name("symbol", symbol)], names, UnknownSymbolError)
        row = known.filter(pl.col("symbol") == (names[0] if symbol is None else symbol)).row(0, named=True)
        align: Align = row["align"] if row["align"] in get_args(Align) else "session"
        return SymbolAxis(
            row["symbol"],
            row["calendar"],
            row["base_interval"],
            row["price_type"] or "last",
            tuple(row["segments"] or ()),
            align,
            row["zone"] or "UTC",
        )

    def time_zone(self, code: str) -> str:
        """Return the zone of a calendar code: the source's, else (frame with a calendar) its own, else UTC."""
        found = self.table("calendars", pl.col("calendar") == code)["time_zone"].drop_nulls()
        return str(found[0]) if len(found) else calendar(code).zone if self.calendar else "UTC"

    def grid(self, about: SymbolAxis, interval: str, rows: pl.DataFrame) -> SessionGrid:
        """Build the session grid of a symbol; without sessions one segment per date, from its first to its last row."""
        step = Interval.parse(interval)
        segments = self.segments(about.calendar, rows["session"] if "session" in rows.columns else rows["ts"].dt.date())
        if segments.is_empty():
            segments = segments_by_date(rows, step)
        spec = GridSpec(about.calendar, about.segments, about.align, about.zone)
        return SessionGrid.build(segments, step, spec)

    def segments(self, code: str, days: pl.Series) -> pl.DataFrame:
        """Return `SEGMENTS` of the source (regular: RTH, else ETH, else all), else of its calendar over `days`."""
        rows = self.table("sessions", pl.col("calendar") == code)
        if rows.is_empty() and self.calendar is not None:
            first, last = days.min(), days.max()
            whole = isinstance(first, dt.date) and isinstance(last, dt.date)
            return calendar(self.calendar).segments_in_bounds(first, last) if whole else empty(SEGMENTS)  # type: ignore[arg-type]
        by_open = rows.sort("segment_open").with_columns(pl.int_range(pl.len()).over("session").alias("position"))
        labels = set(by_open["segment"])
        regular = next(({label} for label in ("RTH", "ETH") if label in labels), labels)
        return by_open.with_columns(
            session_ordinal(pl.col("session"), pl.col("position")).alias("ordinal"),
            pl.col("segment").is_in(list(regular)).alias("regular"),
        ).select(list(SEGMENTS))


def plot_source(source: Source, calendar: str | Path | None = None) -> PlotSource:
    """Wrap a store, export, audit, folder or frame for plotting (`calendar`: of frames); ParameterError for others.

    Parameters
    ----------
    source
        `VALID` says what.
    calendar : str or Path, optional
        For frames: whose sessions are the axis. Without one, days are cut at their first and last row.

    Raises
    ------
    ParameterError
        The source is none of these.
    """
    if isinstance(source, SessionData):
        return snapshot_source(source.snapshot())
    if isinstance(source, Snapshot):
        return snapshot_source(source)
    if isinstance(source, Dataset):
        return dataset_source(source)
    if is_frame(source):
        return frame_source(to_polars(source), None if calendar is None else str(calendar))
    if isinstance(source, str | Path):
        return folder_source(location_of("source", source))
    tables = getattr(source, "tables", None)
    if isinstance(tables, Mapping):
        return tables_source(add_symbols_table(tables))
    raise ParameterError(f"source: received {type(source).__name__}; valid: {VALID}")


def folder_source(path: Path) -> PlotSource:
    """Return a source over an export's or audit's folder; ParameterError for any other folder."""
    if is_export(path):
        return dataset_source(open_dataset(path))
    if is_audit(path):
        return tables_source(add_symbols_table(read_audit_tables(path)))
    raise ParameterError(f"source: {path} is neither an export nor an audit; valid: {VALID}")


def snapshot_source(snapshot: Snapshot) -> PlotSource:
    """Return a source over a snapshot; bars, gaps, quality and quotes are built at their first use and cached."""
    small = snapshot.small_tables()
    made: Mapping[str, Callable[[], pl.DataFrame]] = {
        "bars": snapshot.bars,
        "gaps": snapshot.gaps,
        "quality": snapshot.quality,
        "quotes": lambda: pl.concat(
            [
                empty(EMPTY["quotes"]).with_columns(pl.col("ts").cast(pl.Datetime("ns", "UTC"))),
                *(snapshot.raw_of(key).select("symbol", "ts", "bid", "ask") for key in snapshot.panels_of("quotes")),
            ]
        ),
    }
    held: dict[str, pl.DataFrame] = {}

    def table(name: str, where: pl.Expr) -> pl.DataFrame:
        """Return the rows of a table that pass the filter; a table not at hand is built once and cached."""
        rows = small.get(name)
        if rows is None:
            rows = held.setdefault(name, made[name]()) if name not in held else held[name]
        return rows.filter(where)

    return PlotSource(table)


def dataset_source(dataset: Dataset) -> PlotSource:
    """Return a source that scans an export's tables lazily, with the filter pushed down."""
    return PlotSource(lambda name, where: dataset.scan(name).filter(where).collect())


def tables_source(tables: Mapping[str, pl.DataFrame], calendar: str | None = None) -> PlotSource:
    """Return a source over frames by name; an absent table is an empty frame of its schema."""
    return PlotSource(lambda name, where: tables.get(name, empty(EMPTY[name])).filter(where), calendar)


def add_symbols_table(tables: Mapping[str, pl.DataFrame]) -> Mapping[str, pl.DataFrame]:
    """Return the tables plus `symbols`: one row per symbol, from its FIRST series, with its calendar's segments."""
    # The sessions of an audit are the segments it expected, and no others.
    chosen = (
        tables["sessions"].group_by("calendar").agg(pl.col("segment").drop_nulls().unique().sort().alias("segments"))
    )
    series = tables["series"].unique("symbol", keep="first", maintain_order=True)
    symbols = series.join(chosen, on="calendar", how="left", maintain_order="left").select(
        "symbol",
        "calendar",
        pl.col("interval").alias("base_interval"),
        "price_type",
        "segments",
        pl.lit(None, pl.String).alias("align"),
        pl.lit(None, pl.String).alias("zone"),
    )
    return {**tables, "symbols": symbols}


def frame_source(frame: pl.DataFrame, calendar: str | None) -> PlotSource:
    """Return a source over a frame, the first fit of gaps, quality, bars, quotes by columns; else ParameterError."""
    name = next((name for name, columns in SHAPES.items() if set(columns) <= set(frame.columns)), None)
    if name is None:
        raise ParameterError(f"source: a frame of {', '.join(frame.columns) or 'no column'}; valid: {VALID}")
    rows = complete_frame(frame, name)
    symbols = rows.group_by("symbol", maintain_order=True).agg(
        pl.lit(calendar or "", pl.String).first().alias("calendar"),
        pl.col("interval").first().alias("base_interval"),
        pl.col("price_type").first(),
        pl.lit(None, pl.List(pl.String)).first().alias("segments"),
        pl.lit(None, pl.String).first().alias("align"),
        pl.lit(None, pl.String).first().alias("zone"),
    )
    return tables_source({name: rows, "symbols": symbols}, calendar)


def complete_frame(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the frame with UTC us instants, absent columns filled by defaults; ParameterError for naive instants."""
    for column in [one for one in ("ts", "gap_start", "gap_end") if one in frame.columns]:
        dtype = frame.schema[column]
        if not (isinstance(dtype, pl.Datetime) and dtype.time_zone):
            raise ParameterError(f"source: its column {column} is {dtype}; valid: Datetime with a time zone")
        frame = frame.with_columns(pl.col(column).dt.convert_time_zone("UTC").dt.cast_time_unit("us"))
    usual: dict[str, Any] = {"symbol": NAMELESS, "price_type": "last", "origin": "source", "cause": None}
    if "interval" not in frame.columns:
        usual["interval"] = modal_interval(frame["ts"]) if "ts" in frame.columns else "1m"
    if name == "bars":
        usual |= {"volume": None}
    absent = {column: value for column, value in usual.items() if column not in frame.columns}
    return frame.with_columns(
        pl.lit(value, pl.Float64 if column == "volume" else pl.String).alias(column) for column, value in absent.items()
    )


def modal_interval(ts: pl.Series) -> str:
    """Return the commonest positive step (ties: shortest) as interval; a day or more: `1d`, no step: `1m`."""
    steps = ts.sort().diff().drop_nulls().dt.total_seconds()
    often = steps.filter(steps > 0).mode().sort()
    seconds = int(often[0]) if len(often) else 60
    return str(Interval.parse(f"{seconds}s" if seconds < 86_400 else "1d"))  # noqa: PLR2004 - a day


def segments_by_date(rows: pl.DataFrame, step: Interval) -> pl.DataFrame:
    """One segment per date (`session`, else UTC), label `day`, regular: first row to a step after the last (daily: a minute)."""
    day = pl.col("session") if "session" in rows.columns else pl.col("ts").dt.date()
    length = pl.duration(seconds=step.seconds if step.is_intraday else 60)
    spans = (
        rows.drop_nulls("ts")
        .group_by(day.alias("session"))
        .agg(
            pl.col("ts").min().cast(TS).alias("segment_open"),
            (pl.col("ts").max() + length).cast(TS).alias("segment_close"),
        )
    )
    return (
        spans.sort("segment_open")
        .with_columns(
            session_ordinal(pl.col("session"), pl.lit(0)).alias("ordinal"),
            pl.lit("day").alias("segment"),
            pl.lit(value=True).alias("regular"),
        )
        .select(list(SEGMENTS))
    )
