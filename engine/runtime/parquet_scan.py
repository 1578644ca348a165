"""Large Parquet tables of bars of many symbols: surveyed by ranges of rows, without a store.

1. `cut_row_ranges` cuts files at their row groups into ranges of about `ROWS_PER_RANGE` rows.
2. `survey_row_range` reads and conforms a range as the readers do (`sources.frames.read_parquet_rows`), and
   `survey_rows` places, deduplicates (`store.deduplication`), counts and traces its rows. A series whose rows lie in
   several ranges is put together when surveys are joined.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from engine.audit.survey import COUNTS, FILES, SERIES, Survey
from engine.calendars.providers import calendar
from engine.checks.refused import CONFLICTS, conflict_pairs, count_refused
from engine.errors import SourceError
from engine.grid import Align, Stamp
from engine.interval import Interval
from engine.quality.causes.profiles import bin_width, summarize_bars
from engine.runtime.known_slots import off_grid_slots, with_refused_slots
from engine.runtime.options import LoadOptions
from engine.runtime.remote_files import RemoteFile, remote_metadata
from engine.runtime.store_survey import counters_of_series, measured_rows
from engine.schema import FIRST_DAY, LAST_DAY, PER_DAY, REJECTS, ROWS, empty
from engine.sources.batch import Batch
from engine.sources.frames import read_parquet_rows
from engine.sources.resolution import UNTOLD
from engine.store.anomalies import count_anomalies
from engine.store.batch_rows import conflict_rejects
from engine.store.deduplication import settle
from engine.store.panel import KEY
from engine.store.panel_key import BAR_VALUES
from engine.store.placement import axis_around

ROWS_PER_RANGE = 1 << 21
MOST_GROUPS_READ = 64
EPOCH = dt.date(1970, 1, 1)
TIME_UNITS = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}  # of a footer
MAY_BE_ABSENT = ("volume", "size", "vwap", "trades")


@dataclass(frozen=True)
class RowRange:
    """Rows `[first, first + count)` of a Parquet file or object; of some symbols only, if they are named.

    Of the files of an export, rows whose provenance is synthetic are left out. `identity` changes when the file does.
    """

    path: Path | str
    first: int
    count: int
    identity: str
    symbols: tuple[str, ...] = ()
    of_export: bool = False


def cut_row_ranges(
    path: Path | RemoteFile, symbols: tuple[str, ...] = (), *, of_export: bool = False
) -> Iterator[RowRange]:
    """Yield row ranges of a Parquet file: whole row groups of about 2M rows, 4M at most; `symbols` is passed on.

    Raises
    ------
    SourceError
        The file cannot be read.
    """
    meta, place, state = read_footer(path)
    ends = np.cumsum([meta.row_group(at).num_rows for at in range(meta.num_row_groups)])
    first = 0
    for at, end in enumerate(ends):
        if end - first >= ROWS_PER_RANGE or at == len(ends) - 1:
            for begin in range(first, int(end), 2 * ROWS_PER_RANGE):
                count = min(2 * ROWS_PER_RANGE, int(end) - begin)
                yield RowRange(place, begin, count, f"{place}|{state}|{begin}|{count}|{symbols}", symbols, of_export)
            first = int(end)


def dates_in_footer(path: Path | RemoteFile) -> tuple[dt.date, dt.date] | None:
    """(first, last) date of all datetime columns by statistics of sampled row groups; None if none or unreadable."""
    try:
        meta, _, _ = read_footer(path)
    except SourceError:
        return None
    step = max(1, meta.num_row_groups // MOST_GROUPS_READ)
    groups = [meta.row_group(at) for at in range(0, meta.num_row_groups, step)]
    statistics = [group.column(at).statistics for group in groups for at in range(group.num_columns)]
    stamps = [day for one in statistics if one is not None and one.has_min_max for day in dates_in_statistics(one)]
    return (min(stamps), max(stamps)) if stamps else None


def dates_in_statistics(statistics: pq.Statistics) -> list[dt.date]:
    """Dates (UTC) of the least and the greatest stamp of a chunk; empty for other types, and past the year 9999."""
    # Of the integers that the footer holds: their conversion by PyArrow imports pandas, which takes a second.
    if statistics.logical_type.type != "TIMESTAMP" or statistics.physical_type != "INT64":
        return []
    per_day = PER_DAY[TIME_UNITS[json.loads(statistics.logical_type.to_json())["timeUnit"]]]
    days = (raw // per_day for raw in (statistics.min_raw, statistics.max_raw))
    return [EPOCH + dt.timedelta(days=day) for day in days if FIRST_DAY <= day <= LAST_DAY]


def read_footer(path: Path | RemoteFile) -> tuple[pq.FileMetaData, Path | str, str]:
    """(Parquet metadata, path or URL, text of size and time of writing); SourceError when it cannot be read."""
    if isinstance(path, RemoteFile):
        return remote_metadata(path), path.url, f"{path.size}|{path.written_ns}"
    try:
        stat = path.stat()
        return pq.read_metadata(path), path, f"{stat.st_size}|{stat.st_mtime_ns}"
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(path, f"no Parquet file that can be read: {error}") from error


def survey_row_range(row_range: RowRange, options: LoadOptions) -> Survey:
    """Read and survey the bars of a row range, without a store; optional columns that are all null are dropped."""
    batch = read_row_range(row_range, options)
    names = [
        name
        for name in ROWS["bars"]
        if name not in MAY_BE_ABSENT or batch.frame[name].null_count() < batch.frame.height
    ]
    spec = AxisOptions(batch.align, batch.zone, batch.stamp)
    survey = survey_rows(batch.frame.select(*names, "row"), batch.interval, options, batch.source, spec, batch.rejects)
    return replace(survey, counters=counters_of_series([batch.counters], survey.series))


def survey_row_ranges(row_ranges: Sequence[RowRange], options: LoadOptions) -> Survey:
    """Survey the bars of several row ranges together, those of one file as one batch.

    Raises
    ------
    SourceError
        As `read_row_range`, or they differ in interval, stamps or alignment.
    """
    batches = [read_row_range(one, options) for one in row_ranges]
    numbers = {str(path): number for number, path in enumerate(dict.fromkeys(str(one.path) for one in row_ranges))}
    rows = pl.concat(
        batch.frame.with_columns(
            pl.lit(numbers[batch.source], pl.Int32).alias("batch"), pl.lit(batch.source).alias("source")
        )
        for batch in batches
    )
    kinds = {(one.interval, AxisOptions(one.align, one.zone, one.stamp)) for one in batches if one.frame.height}
    if len(kinds) != 1:
        raise SourceError(row_ranges[0].path, "its bars and those of other files have other intervals or stamps")
    ((interval, axis),) = kinds
    absent = [name for name in MAY_BE_ABSENT if rows[name].null_count() == rows.height]
    rejects = pl.concat([batch.rejects for batch in batches])
    survey = survey_rows(rows.drop(absent), interval, options, batches[0].source, axis, rejects)
    return replace(survey, counters=counters_of_series([batch.counters for batch in batches], survey.series))


def read_row_range(row_range: RowRange, options: LoadOptions) -> Batch:
    """Read and conform a row range (export: no synthetic rows); SourceError if not bars or no interval.

    Raises
    ------
    SourceError
        The file cannot be read, its columns are no bars, or nothing tells their interval.
    """
    # Synthetic rows of an export never count as present.
    synthetic = pl.col("provenance").cast(pl.String).eq_missing("synthetic") if row_range.of_export else None
    rows = row_range.first, row_range.count
    batch = read_parquet_rows(row_range.path, options.read, rows, row_range.symbols, synthetic)
    if batch.kind != "bars":
        raise SourceError(row_range.path, f"{batch.kind}; valid here: bars")
    if batch.interval is None and batch.frame.height:
        raise SourceError(row_range.path, f"{batch.frame.height} {UNTOLD}")
    return batch


class AxisOptions(NamedTuple):
    """Alignment and zone of the axis of some rows, and what their stamps mark (`sources.batch.Batch`)."""

    align: Align = "session"
    zone: str = "UTC"
    stamp: Stamp = "start"


def survey_rows(
    rows: pl.DataFrame,
    interval: Interval | None,
    options: LoadOptions,
    source: str,
    axis: AxisOptions | None = None,
    rejects: pl.DataFrame | None = None,
) -> Survey:
    """Survey bars of many symbols, each on its calendar: place, drop repeated keys (last stays), count, trace, check.

    Parameters
    ----------
    rows : DataFrame
        Conformed (`schema.conform`): `symbol, price_type, ts, open, high, low, close`, and any others of `schema.BARS`;
        in any order, in file order where stamps repeat. Of several rows of one key the last one is kept.
    interval : Interval or None
        None where there is no row.
    options : LoadOptions
        Calendars by symbol, dates, segments.
    source : str
        Name of the source in messages.
    axis : AxisOptions, optional
    rejects : DataFrame of `schema.REJECTS`, optional
        Rows that were refused.
    """
    axis = axis or AxisOptions()
    files = pl.DataFrame([(source, rows.height, None, None)], schema=dict(FILES), orient="row")
    refused = count_refused(empty(REJECTS) if rejects is None else rejects)
    if rows.is_empty() or interval is None:
        return replace(Survey.none(), refused=refused, files=files)
    absent = {"volume": pl.Float64(), "row": pl.Int64()}
    whole = rows.with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in absent.items() if name not in rows.columns
    )
    numbered, series = number_series(whole)
    codes = {symbol: options.calendars.of(symbol) for symbol in series["symbol"].unique(maintain_order=True)}
    calendars = series.select(
        "series", pl.col("symbol").replace_strict(codes, return_dtype=pl.String).alias("calendar")
    )
    by_calendar = calendars.partition_by("calendar", maintain_order=True)
    parts = [
        survey_axis(
            numbered if len(by_calendar) == 1 else numbered.filter(pl.col("series").is_in(own["series"].implode())),
            series,
            interval,
            options,
            source,
            axis,
        )
        for own in by_calendar
    ]
    survey = replace(combine_axes(parts), refused=refused, files=files)
    return survey if rejects is None else with_refused_slots(survey, rejects, options.read.timezone)


def number_series(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows with `series` for symbol, price type, sorted by series, ts; table of ALL pairs of symbols and price types)."""
    kinds = rows.select(pl.col("price_type").unique())["price_type"]
    code, names = number_symbols(rows["symbol"])
    pairs = names.to_frame("symbol").join(kinds.sort().to_frame("price_type"), how="cross")
    if len(kinds) > 1:
        code = code * len(kinds) + rows["price_type"].cast(pl.Enum(kinds.sort())).to_physical().cast(pl.Int32)
    # A file is read in pieces; each conversion of a column to an array would join them again.
    numbered = rows.drop("symbol", "price_type").with_columns(code.alias("series")).rechunk()
    ahead, ts = numbered["series"].to_numpy(), numbered["ts"].cast(pl.Int64).to_numpy()
    follows = ts[1:] >= ts[:-1]
    follows &= ahead[1:] == ahead[:-1]
    follows |= ahead[1:] > ahead[:-1]
    if not follows.all():
        numbered = numbered.sort("series", "ts", maintain_order=True)
    return numbered, pairs.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("series"))


def number_symbols(symbols: pl.Series) -> tuple[pl.Series, pl.Series]:
    """(Int32 code of each row's symbol: its position in the sorted names, sorted distinct names)."""
    # Tables are mostly sorted by symbol: then one name per run is looked up, not every row's.
    runs = symbols.rle().struct.unnest()
    categories = runs["value"].cast(pl.Categorical)
    names = categories.unique().cast(pl.String).sort()
    code = categories.cast(pl.Enum(names)).to_physical().cast(pl.Int32)
    if len(code) < len(symbols):
        code = pl.Series(np.repeat(code.to_numpy(), runs["len"].to_numpy()))
    return code, names


def survey_axis(
    rows: pl.DataFrame, series: pl.DataFrame, interval: Interval, options: LoadOptions, source: str, axis: AxisOptions
) -> Survey:
    """Survey one calendar's sorted bars (not none): shift to starts, place, cut to dates, last per key; count."""
    named = series.filter(pl.col("series") == rows["series"][0])["symbol"][0]
    zone = options.zone_of_dates(named, interval, axis.zone, rows["ts"])
    spec = options.spec_of(named, interval, axis.align, zone)
    code = spec.calendar
    grid = axis_around(spec, calendar(code), rows["ts"]).at(interval)
    if axis.stamp != "start" or spec.align != "session":
        rows = rows.with_columns(grid.from_stamps(rows["ts"], axis.stamp).alias("ts")).sort(
            "series", "ts", maintain_order=True
        )
    placed = pl.concat([rows, grid.place(rows["ts"])], how="horizontal")
    low, high = options.dates
    if low is not None or high is not None:
        inside = pl.col("session") >= low if low else pl.lit(value=True)
        placed = placed.filter(inside & (pl.col("session") <= high if high else pl.lit(value=True)))
    placed, repeats, losers = settle(placed, KEY, [name for name in BAR_VALUES if name in placed.columns])
    in_slot = placed.drop_nulls("slot") if placed["slot"].null_count() else placed
    traced = summarize_bars(in_slot, bin_width(interval))
    sizes = series_sizes(placed)
    # Only these rows can count as anomalies: the others need not be looked at.
    candidates = placed.filter(pl.col("slot").is_null() | (pl.col("volume") == 0))
    anomalies = count_anomalies(
        candidates.with_columns(pl.lit("source").alias("provenance")), grid.table.filter("chosen")["ordinal"]
    )
    described = series.join(sizes, on="series").with_columns(
        pl.lit(str(interval)).alias("interval"), pl.lit(code).alias("calendar"),
        pl.lit(list(spec.segments), pl.List(pl.String)).alias("segments"), pl.lit(spec.align).alias("align"),
        pl.lit(spec.zone).alias("zone"), pl.lit(source).alias("source"),
    )  # fmt: skip
    return replace(
        Survey.none(),
        series=described.sort("series").select(list(SERIES)),
        runs=traced.runs,
        profile=traced.profile,
        counts=sum_counts([repeats, anomalies]),
        known=off_grid_slots(placed, grid),
        checks=(measured_rows(placed, described, grid),),
        conflicts=conflicts_of(losers, placed, series, interval, source),
    )


def conflicts_of(
    losers: pl.DataFrame, placed: pl.DataFrame, series: pl.DataFrame, interval: Interval, source: str
) -> pl.DataFrame:
    """Pair each bar in `losers` with the later bar of its key that replaced it; empty without losers."""
    if losers.is_empty():
        return empty(CONFLICTS)
    winners = placed.join(losers, on=KEY, how="semi").join(series, on="series")
    named = losers if "source" in losers.columns else losers.with_columns(pl.lit(source).alias("source"))
    lost = conflict_rejects(named, "bars", series)
    return conflict_pairs(lost, winners.with_columns(pl.lit(str(interval)).alias("interval")))


def series_sizes(rows: pl.DataFrame) -> pl.DataFrame:
    """`series, rows, first, last` (first and last session) per series; rows must be sorted by series."""
    series = rows["series"].to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(series[1:] != series[:-1]) + 1])[: len(series)]
    day = rows["session"].cast(pl.Int32).to_numpy()
    return pl.DataFrame(
        {
            "series": series[starts],
            "rows": np.diff(np.append(starts, len(series))).astype(np.int64),
            "first": pl.Series(np.minimum.reduceat(day, starts) if len(starts) else day).cast(pl.Date),
            "last": pl.Series(np.maximum.reduceat(day, starts) if len(starts) else day).cast(pl.Date),
        }
    )


def sum_counts(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sum anomaly counts of several tables by (series, session), sorted; count columns that are absent are 0."""
    whole = pl.concat(parts, how="diagonal")
    given = [
        pl.col(name).fill_null(0) if name in whole.columns else pl.lit(0, pl.Int64).alias(name)
        for name in COUNTS
        if name not in ("series", "session")
    ]
    shaped = whole.select("series", "session", *given)
    return shaped.group_by("series", "session").sum().sort("series", "session").select(list(COUNTS))


def combine_axes(parts: Sequence[Survey]) -> Survey:
    """Concatenate surveys of distinct series, without prints, quotes, counters, refused, files; a single one is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    order = {
        "series": ["series"],
        "runs": ["series", "ordinal", "first"],
        "profile": ["series", "position", "bin"],
        "counts": ["series", "session"],
        "known": ["series", "ordinal", "first"],
    }
    whole: dict[str, Any] = {
        name: pl.concat([getattr(part, name) for part in parts]).sort(by) for name, by in order.items()
    }
    conflicts = pl.concat([part.conflicts for part in parts])
    checks = tuple(one for part in parts for one in part.checks)
    return replace(Survey.none(), checks=checks, conflicts=conflicts, **whole)
