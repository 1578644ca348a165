"""Large Parquet tables of bars, many symbols each, surveyed a stretch of rows at a time, without a store.

1. `stretches` cuts files at their row groups, into tasks of about `ROWS_PER_STRETCH` rows.
2. `survey_stretch` reads the columns that have a role, and `survey_rows` places, counts and traces the rows. A series whose
   rows lie in several stretches is put together when surveys are joined.

What the door (`schema.conform`) would refuse is counted and reported by reason, and enters nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from engine.audit.survey import COUNTS, FILES, SERIES, Survey
from engine.calendars.providers import calendar
from engine.checks.findings import FINDINGS, findings
from engine.errors import SourceError
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.quality.causes.profiles import bin_width, trace
from engine.runtime.options import LoadOptions
from engine.runtime.remote_files import RemoteFile, remote_metadata
from engine.runtime.store_survey import measured_rows
from engine.schema import TS, empty
from engine.sources.columns import match_columns
from engine.sources.layouts import OHLC
from engine.sources.stamps import Reading, utc
from engine.sources.table_rows import commonest_step
from engine.store.anomalies import count_anomalies

ROWS_PER_STRETCH = 1 << 21
ROWS_PER_RUN = 8  # of one symbol; fewer, and each row is looked up
ROWS_TO_TELL = 20_000  # the interval, where nothing else does
MOST_GROUPS_ASKED = 64
KEPT = ("symbol", "price_type", "ts", *OHLC, "volume")


@dataclass(frozen=True)
class Stretch:
    """Rows `[first, first + count)` of a Parquet file (or of an object, by its URL); of these symbols only, where they are named."""

    path: Path | str
    first: int
    count: int
    mark: str
    symbols: tuple[str, ...] = ()


def stretches(path: Path | RemoteFile, symbols: tuple[str, ...] = ()) -> Iterator[Stretch]:
    """Cut a Parquet file into tasks, at its row groups where those are smaller.

    Raises
    ------
    SourceError
        It cannot be read.
    """
    meta, place, state = _footer(path)
    ends = np.cumsum([meta.row_group(at).num_rows for at in range(meta.num_row_groups)])
    first = 0
    for at, end in enumerate(ends):
        if end - first >= ROWS_PER_STRETCH or at == len(ends) - 1:
            for begin in range(first, int(end), 2 * ROWS_PER_STRETCH):
                count = min(2 * ROWS_PER_STRETCH, int(end) - begin)
                yield Stretch(place, begin, count, f"{place}|{state}|{begin}|{count}|{symbols}", symbols)
            first = int(end)


def dates_of(path: Path | RemoteFile) -> tuple[dt.date, dt.date] | None:
    """Dates between which stamps of a Parquet file lie, as its footer tells of some row groups; None where it does not."""
    try:
        meta, _, _ = _footer(path)
    except SourceError:
        return None
    step = max(1, meta.num_row_groups // MOST_GROUPS_ASKED)
    groups = [meta.row_group(at) for at in range(0, meta.num_row_groups, step)]
    told = [one.column(at).statistics for one in groups for at in range(one.num_columns)]
    edges = [edge for one in told if one is not None and one.has_min_max for edge in (one.min, one.max)]
    stamps = [edge.date() for edge in edges if isinstance(edge, dt.datetime)]
    return (min(stamps), max(stamps)) if stamps else None


def _footer(path: Path | RemoteFile) -> tuple[pq.FileMetaData, Path | str, str]:
    """Metadata, the place to read from, and what changes when the file does."""
    if isinstance(path, RemoteFile):
        return remote_metadata(path.url), path.url, f"{path.size}|{path.written_ns}"
    try:
        stat = path.stat()
        return pq.read_metadata(path), path, f"{stat.st_size}|{stat.st_mtime_ns}"
    except (OSError, ValueError) as error:
        raise SourceError(path, f"no Parquet file that can be read: {error}") from error


def survey_stretch(stretch: Stretch, options: LoadOptions) -> Survey:
    """Survey the rows of a stretch; errors as of `read_stretch`."""
    rows, interval = read_stretch(stretch, options)
    return survey_rows(rows, interval, options, str(stretch.path), stretch.first)


def read_stretch(stretch: Stretch, options: LoadOptions) -> tuple[pl.DataFrame, Interval]:
    """Read the rows of a stretch as `survey_rows` takes them, and their interval.

    Raises
    ------
    SourceError
        The file cannot be read, its columns are no bars, or its interval is not told.
    """
    path = stretch.path
    try:
        scanned = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        names = scanned.collect_schema().names()
        found = match_columns(names, options.read, str(path))
        if found.kind != "bars" or "symbol" not in found.roles:
            raise SourceError(
                path, f"{found.kind} of columns {', '.join(names)}; valid here: bars with a column of symbols"
            )
        roles = {role: name for role, name in found.roles.items() if role in KEPT}
        raw = _kept(
            scanned.slice(stretch.first, stretch.count),
            names,
            stretch,
            roles,
            options,
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise SourceError(path, f"no Parquet file that can be read: {error}") from error
    ts = raw["ts"]
    if ts.dtype != TS:
        reading = Reading(str(path), roles["ts"], options.read.timezone, options.read.unit, is_bars=True)
        ts = utc(ts, reading, raw["symbol"]).ts.cast(TS)
    price_type = pl.lit(options.read.price_type or "last").alias("price_type")
    rows = raw.with_columns(ts.alias("ts"), pl.col("price_type") if "price_type" in raw.columns else price_type)
    interval = options.interval or options.read.interval or commonest_step(rows.head(ROWS_TO_TELL))
    if interval is None:
        raise SourceError(path, "bars that do not tell their interval; name it with --interval")
    return rows, interval


def _kept(
    rows: pl.LazyFrame, names: Sequence[str], stretch: Stretch, roles: Mapping[str, str], options: LoadOptions
) -> pl.DataFrame:
    # Synthetic rows are those of an export: they never count as present.
    if "provenance" in names:
        rows = rows.filter(
            pl.col("provenance").cast(pl.String).is_null() | (pl.col("provenance").cast(pl.String) != "synthetic")
        )
    if stretch.symbols:
        rows = rows.filter(pl.col(roles["symbol"]).is_in(list(stretch.symbols)))
    raw = rows.select(pl.col(name).alias(role) for role, name in roles.items()).collect()
    if options.read.symbols:
        wanted = [symbol for symbol in raw["symbol"].unique().drop_nulls() if options.read.selects(symbol)]
        raw = raw.filter(pl.col("symbol").is_in(wanted))
    if options.read.price_types and "price_type" in raw.columns:
        raw = raw.filter(pl.col("price_type").is_in(list(options.read.price_types)))
    return raw


def survey_rows(rows: pl.DataFrame, interval: Interval, options: LoadOptions, source: str, first: int = 0) -> Survey:
    """Survey bars of many symbols.

    Parameters
    ----------
    rows : DataFrame
        `symbol, price_type` (String), `ts` (Datetime[us, UTC], the vendor's stamps), `open, high, low, close` and, when there
        is one, `volume`; in any order, in file order where stamps repeat.
    interval : Interval
    options : LoadOptions
        Calendars by symbol, dates, segments, what stamps mark.
    source : str
        What messages call it.
    first : int
        Number of the first row in the file, from 0.
    """
    if rows.is_empty():
        return replace(Survey.none(), files=pl.DataFrame([(source, 0, None)], schema=dict(FILES), orient="row"))
    volume = pl.col("volume").cast(pl.Float64) if "volume" in rows.columns else pl.lit(None, pl.Float64).alias("volume")
    typed = rows.with_columns(pl.col(OHLC).cast(pl.Float64), volume)
    good, refused = _sifted(typed, options, source, first)
    numbered, series = _numbered(good)
    calendars = dict(_by_calendar(series, options))
    parts = [
        _surveyed(numbered if len(calendars) == 1 else numbered.filter(pl.col("series").is_in(numbers)), series, code, interval, options, source)
        for code, numbers in calendars.items()
    ]  # fmt: skip
    whole = _beside(parts)
    files = pl.DataFrame([(source, rows.height, None)], schema=dict(FILES), orient="row")
    return replace(whole, findings=pl.concat([whole.findings, refused]), files=files)


def _sifted(rows: pl.DataFrame, options: LoadOptions, source: str, first: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that hold, and a finding per reason of those that do not."""
    if _holds(rows):
        return rows, empty(FINDINGS)
    price = [pl.col(name) for name in OHLC]
    reasons = {
        "symbol or time missing": pl.col("symbol").is_null() | pl.col("ts").is_null(),
        "a price missing or not finite": pl.any_horizontal(~p.is_finite().fill_null(value=False) for p in price),
        "high below low": pl.col("high") < pl.col("low"),
        "open outside low..high": (pl.col("open") < pl.col("low")) | (pl.col("open") > pl.col("high")),
        "close outside low..high": (pl.col("close") < pl.col("low")) | (pl.col("close") > pl.col("high")),
        "volume negative": (pl.col("volume") < 0).fill_null(value=False),
    }
    if not options.read.allow_non_positive:
        reasons["a price not above zero"] = pl.any_horizontal(p <= 0 for p in price)
    bad = rows.select(pl.any_horizontal(list(reasons.values())).fill_null(value=True).alias("bad"))["bad"]
    if not bad.any():
        return rows, empty(FINDINGS)
    wrong = rows.with_row_index("row", offset=first + 1).filter(bad)
    found = []
    for reason, test in reasons.items():
        such = wrong.filter(test.fill_null(value=False))
        if such.height:
            at = such.row(0, named=True)
            found.append((
                "refused", "warning", such.height, source, f"{such.height} rows: {reason}",
                f"first: row {at['row']}, {at['symbol']} {at['ts']}: {', '.join(str(at[name]) for name in OHLC)}, {at['volume']}",
            ))  # fmt: skip
    shape = (
        dict.fromkeys(("check", "severity"), pl.String)
        | {"count": pl.Int64}
        | dict.fromkeys(("source", "message", "evidence"), pl.String)
    )
    return rows.filter(~bad), findings(pl.DataFrame(found, schema=shape, orient="row"))


def _holds(rows: pl.DataFrame) -> bool:
    """Whether every row plainly holds; what is null or NaN fails one of these."""
    if any(rows[name].null_count() for name in ("symbol", "ts", *OHLC)):
        return False
    low, high = pl.col("low"), pl.col("high")
    tests = [low > 0, high.is_finite(), *(low <= pl.col(n) for n in ("open", "close")), *(pl.col(n) <= high for n in ("open", "close"))]  # fmt: skip
    volume = (pl.col("volume") >= 0).fill_null(value=True)
    return all(rows.select(test.all().alias(str(at)) for at, test in enumerate((*tests, volume))).row(0))


def _numbered(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows with the number of their series, sorted by it and time; and the series."""
    kinds = rows.select(pl.col("price_type").unique())["price_type"]
    code, names = _codes(rows["symbol"])
    pairs = names.to_frame("symbol").join(kinds.sort().to_frame("price_type"), how="cross")
    if len(kinds) > 1:
        code = code * len(kinds) + rows["price_type"].cast(pl.Enum(kinds.sort())).to_physical().cast(pl.Int32)
    # A file is read in pieces, and whoever asks for a column as an array would put them together once more.
    numbered = rows.drop("symbol", "price_type").with_columns(code.alias("series")).rechunk()
    ahead, ts = numbered["series"].to_numpy(), numbered["ts"].cast(pl.Int64).to_numpy()
    follows = ts[1:] >= ts[:-1]
    follows &= ahead[1:] == ahead[:-1]
    follows |= ahead[1:] > ahead[:-1]
    if not follows.all():
        numbered = numbered.sort("series", "ts", maintain_order=True)
    return numbered, pairs.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("series"))


def _codes(symbols: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Number of each symbol in the order of names; and the names, sorted."""
    # Tables are mostly sorted by symbol: then a few heads of runs are looked up, not every row.
    begins = np.flatnonzero((symbols.slice(1) != symbols.head(-1)).to_numpy()) + 1
    heads = np.concatenate([[0], begins])
    shown = symbols.gather(heads) if len(heads) * ROWS_PER_RUN <= len(symbols) else symbols
    told = shown.cast(pl.Categorical)
    names = told.unique().cast(pl.String).sort()
    code = told.cast(pl.Enum(names)).to_physical().cast(pl.Int32)
    if len(shown) < len(symbols):
        code = pl.Series(np.repeat(code.to_numpy(), np.diff(np.append(heads, len(symbols)))))
    return code, names


def _by_calendar(series: pl.DataFrame, options: LoadOptions) -> Iterator[tuple[str, list[int]]]:
    codes = [options.calendars.of(symbol) for symbol in series["symbol"]]
    for (code,), rows in series.with_columns(pl.Series("code", codes)).group_by("code", maintain_order=True):
        yield str(code), rows["series"].to_list()


def _surveyed(
    rows: pl.DataFrame, series: pl.DataFrame, code: str, interval: Interval, options: LoadOptions, source: str
) -> Survey:
    spec = GridSpec(code, options.segments, options.align or "session", options.read.timezone or "UTC")
    first, last = (rows["ts"].min(), rows["ts"].max())
    segments = calendar(code).segments_in_bounds(first.date(), last.date())  # type: ignore[union-attr]
    grid = SessionGrid.build(segments, interval, spec)
    stamp = options.read.stamp or "start"
    if stamp != "start" or spec.align != "session":
        rows = rows.with_columns(grid.from_stamps(rows["ts"], stamp).alias("ts"))
    placed = pl.concat([rows, grid.place(rows["ts"])], how="horizontal")
    low, high = options.dates
    if low is not None or high is not None:
        inside = pl.col("session") >= low if low else pl.lit(value=True)
        placed = placed.filter(inside & (pl.col("session") <= high if high else pl.lit(value=True)))
    placed, repeats = _without_repeats(placed)
    in_slot = placed.drop_nulls("slot") if placed["slot"].null_count() else placed
    traced = trace(in_slot, bin_width(interval))
    sizes = _sizes(placed)
    # What `count_anomalies` would pass over, taken away before it looks closer.
    curious = placed.filter(pl.col("slot").is_null() | (pl.col("volume") == 0))
    odd = count_anomalies(
        curious.with_columns(pl.lit("source").alias("provenance")), grid.table.filter("chosen")["ordinal"]
    )
    told = series.join(sizes, on="series").with_columns(
        pl.lit(str(interval)).alias("interval"), pl.lit(code).alias("calendar"),
        pl.lit(list(spec.segments), pl.List(pl.String)).alias("segments"), pl.lit(spec.align).alias("align"),
        pl.lit(spec.zone).alias("zone"), pl.lit(source).alias("source"),
    )  # fmt: skip
    return replace(
        Survey.none(),
        series=told.sort("series").select(list(SERIES)),
        runs=traced.runs,
        profile=traced.profile,
        counts=_counts([repeats, odd]),
        checks=(measured_rows(placed, told, grid),),
    )


def _sizes(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows, first and last session of each series; rows are sorted by series."""
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


def _without_repeats(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The last row of each stamp; and how many others repeat it or differ, by session."""
    series, ts = rows["series"].to_numpy(), rows["ts"].cast(pl.Int64).to_numpy()
    twice = ts[1:] == ts[:-1]
    if twice.any():
        twice &= series[1:] == series[:-1]
    again = np.append(twice, [False])
    if not twice.any():
        return rows, empty(
            {"series": pl.Int32(), "session": pl.Date(), "duplicates": pl.Int64(), "corrections": pl.Int64()}
        )
    values = [*OHLC, "volume"]
    same = rows.select(
        pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in values).alias("same")
    )["same"]
    lost = rows.select("series", "session", same.alias("same")).filter(pl.Series(again))
    counted = lost.group_by("series", "session").agg(
        pl.col("same").sum().cast(pl.Int64).alias("duplicates"),
        (~pl.col("same")).sum().cast(pl.Int64).alias("corrections"),
    )
    return rows.filter(pl.Series(~again)), counted


def _counts(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    whole = pl.concat(parts, how="diagonal")
    given = [
        pl.col(name).fill_null(0) if name in whole.columns else pl.lit(0, pl.Int64).alias(name)
        for name in COUNTS
        if name not in ("series", "session")
    ]
    shaped = whole.select("series", "session", *given)
    return shaped.group_by("series", "session").sum().sort("series", "session").select(list(COUNTS))


def _beside(parts: Sequence[Survey]) -> Survey:
    """Surveys whose series are numbered alike, each with series of its own."""
    if len(parts) == 1:
        return parts[0]
    order = {
        "series": ["series"],
        "runs": ["series", "ordinal", "first"],
        "profile": ["series", "position", "bin"],
        "counts": ["series", "session"],
    }
    whole: dict[str, Any] = {
        name: pl.concat([getattr(part, name) for part in parts]).sort(by) for name, by in order.items()
    }
    return replace(Survey.none(), checks=tuple(one for part in parts for one in part.checks), **whole)
