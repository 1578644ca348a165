"""Laws between the tables of one revision: bars, gaps, quality, sessions and symbols against one another.

Bars are read some folders (months, small years) of an interval at a time, as every law holds within a session; where one
is broken, folder by folder:

- `counts`: present + missing = expected, and quality is their rate
- `gaps`: the gaps of a series and session add up to its missing slots
- `present`: as many bars stand in a slot as quality counts
- `inside`: no bar stands in a gap
- `completeness`: no derived bar has more slots than its window
- `sessions`: every session of a bar is one of its symbol's calendar
- `symbols`: every symbol is listed, and has as many rows as its entry says

A law is left out where a table that it needs is damaged. A finding sums up a folder: how many series and sessions break
the law, and which is the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from engine.export.dataset import polars_sources, scan_files
from engine.export.folders import folder_groups
from engine.export.maintenance.verify_findings import Finding
from engine.export.tables import TABLES
from engine.schema import IS_MISSING, TS, empty
from engine.storage import polars_options, size_of

SERIES = ("symbol", "price_type")
BAR_COLUMNS = (*SERIES, "origin", "ts", "session", "n_base", "n_expected", "complete")
SOURCES = ("quotes", "ticks", "open_interest")
PER_CENT_TOLERANCE = 1e-9
BYTES_AT_ONCE = 32 << 20  # of files of bars; one folder may have more
NO_FILE: Sequence[Path] = ()


@dataclass(frozen=True)
class _Tables:
    target: Path
    paths: Mapping[str, Sequence[Path]]
    broken: set[str]
    groups: Mapping[str, str]  # as `folder_groups` gives them, of bars, lost ones among them
    gaps: pl.DataFrame
    quality: pl.DataFrame
    symbols: pl.DataFrame
    sessions: pl.DataFrame
    has_as_of: bool

    def has(self, *tables: str) -> bool:
        return not self.broken & set(tables)


def cross_table_findings(
    target: Path, paths: Mapping[str, Sequence[Path]], broken: set[str], entry: Mapping[str, object]
) -> Iterator[Finding]:
    """Yield findings where tables disagree (counts, gaps, sessions, totals); none if `symbols` or `exports` is broken.

    Parameters
    ----------
    target : Path
    paths : mapping of table to files
        Those that are intact.
    broken : set of str
        Tables, and folders of tables below `target`, that lost a file.
    entry : mapping
        The row of `exports`.
    """
    if broken & {"symbols", "exports"}:
        return
    groups = folder_groups([*map(_bar_folder, paths.get("bars", NO_FILE)), *_below_bars(broken)])
    small = read_small_tables(paths, set(groups.values()))
    filled, small["gaps"] = small["gaps"].filter(~IS_MISSING), small["gaps"].filter(IS_MISSING)
    tables = _Tables(target, paths, broken, groups, **small, has_as_of=entry.get("as_of") is not None)
    if tables.has("quality"):
        yield from check_counts(tables.quality)
    if tables.has("quality", "gaps"):
        yield from check_gap_sums(tables)
    for name in ("gaps", "quality"):
        rows = pl.concat([small[name], filled]) if name == "gaps" else small[name]
        unlisted = rows.join(tables.symbols, on="symbol", how="anti", nulls_equal=True)
        yield from summary_finding(name, name, "symbols", unlisted, pl.lit("the symbol is not in `symbols`"))
    totals = []
    broken_groups = {groups[folder] for folder in _below_bars(broken)}
    for interval, files in bar_batches(tables):
        bars = read_bars(files)
        is_source = pl.col("origin") == "source"
        counted = bars.group_by("symbol").agg(is_source.sum().cast(pl.Int64).alias("count"), last=pl.col("ts").max())
        totals.append(counted.with_columns(has_bars=pl.lit(value=True)))
        whole = [one for one in files if "bars" not in broken and f"{interval}/{one}" not in broken_groups]
        if whole and any(True for _ in check_periods(tables, interval, whole, bars)):
            for period in whole:
                yield from check_periods(tables, interval, [period], bars.filter(pl.col("period") == period))
    if not any(name.split("/")[0] in ("bars", *SOURCES) for name in broken):
        yield from check_row_totals(tables, totals)


def _bar_folder(path: Path) -> str:
    # `1m/2013-10` of a file of `bars`.
    return f"{path.parent.parent.name}/{path.parent.name}"


def _below_bars(broken: set[str]) -> list[str]:
    return [name.removeprefix("bars/") for name in broken if name.startswith("bars/")]


def read_small_tables(paths: Mapping[str, Sequence[Path]], groups: Collection[str]) -> dict[str, pl.DataFrame]:
    """Read `gaps`, `quality`, `symbols` and `sessions`; the first two with `period`: year of a group of bars, else month."""
    small = {}
    for name in ("gaps", "quality", "symbols", "sessions"):
        columns = {column: dtype for column, dtype in TABLES[name].items() if column != "revision"}
        files = [scan_files(name, [path]).select(list(columns)).collect() for path in paths.get(name, NO_FILE)]
        small[name] = pl.concat([empty(columns), *files])
    month, year = (pl.col("session").dt.strftime(form) for form in ("%Y-%m", "%Y"))
    is_in_year = pl.concat_str("interval", pl.lit("/"), year).is_in(list(groups))
    period = pl.when(is_in_year).then(year).otherwise(month).alias("period")
    return small | {name: small[name].with_columns(period) for name in ("gaps", "quality")}


def bar_groups(tables: _Tables) -> dict[str, list[Path]]:
    """Bar files by `<interval>/<period>`, sorted; groups that only `quality` implies get an empty list."""
    group = pl.concat_str("interval", pl.lit("/"), "period")
    in_quality = tables.quality.select(group.alias("group"))["group"].unique().to_list()
    held: dict[str, list[Path]] = {group: [] for group in in_quality}
    for path in tables.paths.get("bars", NO_FILE):
        held.setdefault(tables.groups[_bar_folder(path)], []).append(path)
    return dict(sorted(held.items()))


def bar_batches(tables: _Tables) -> Iterator[tuple[str, dict[str, list[Path]]]]:
    """Yield (interval, files by period) of some periods each, together at most `BYTES_AT_ONCE` or one period."""
    batch: dict[str, list[Path]] = {}
    former, held = "", 0
    for group, files in bar_groups(tables).items():
        interval, _, period = group.partition("/")
        size = sum(size_of(path) for path in files)
        if batch and (interval != former or held + size > BYTES_AT_ONCE):
            yield former, batch
            batch, held = {}, 0
        batch[period] = files
        former, held = interval, held + size
    if batch:
        yield former, batch


def read_bars(files_of_period: Mapping[str, Sequence[Path]]) -> pl.DataFrame:
    """Read the bar columns that the checks need, and `period`, that of a file's group; an empty frame without files."""
    none = empty({name: TABLES["bars"][name] for name in BAR_COLUMNS}).with_columns(pl.lit("").alias("period"))
    period_of = {str(path): period for period, files in files_of_period.items() for path in files}
    if not period_of:
        return none
    rows = pl.scan_parquet(
        list(period_of),
        schema=dict(TABLES["bars"]),
        hive_partitioning=False,
        glob=False,
        missing_columns="insert",
        include_file_paths="file",
        **polars_options(next(iter(period_of))),
    ).select(*BAR_COLUMNS, "file")
    period = pl.col("file").replace_strict(period_of, return_dtype=pl.String)
    return rows.select(*BAR_COLUMNS, period.alias("period")).collect()


def scan_one(path: Path) -> pl.LazyFrame:
    """Scan a Parquet file with the columns that it has."""
    (source,) = polars_sources([path])
    return pl.scan_parquet(source, hive_partitioning=False, glob=False, **polars_options(path))


def check_periods(tables: _Tables, interval: str, periods: Sequence[str], bars: pl.DataFrame) -> Iterator[Finding]:
    """Yield findings on bars of one interval and some periods: slot counts, unknown sessions, `present`, bars in gaps.

    Of several periods a finding is no more than a sign that one of them has some.
    """
    place = f"bars/{interval}/{periods[0]}"
    bars = bars.filter(pl.col("period").is_in(periods))
    assessed = assessed_bars(bars, tables.symbols, interval)
    is_over = (pl.col("n_base") > pl.col("n_expected")) | (
        pl.col("complete") != (pl.col("n_base") >= pl.col("n_expected"))
    )
    wrong = bars.filter((pl.col("origin") == "derived") & is_over.fill_null(value=False))
    detail = pl.format("the bar at {} has {} of {} slots", "ts", "n_base", "n_expected")
    yield from summary_finding("bars", place, "completeness", wrong, detail)
    if tables.has("sessions"):
        with_calendar = (
            bars.select("symbol", "session").unique().join(tables.symbols.select("symbol", "calendar"), on="symbol")
        )
        outside = with_calendar.join(tables.sessions, on=["calendar", "session"], how="anti")
        detail = pl.format("calendar {} has no such session", "calendar")
        yield from summary_finding("sessions", place, "sessions", outside, detail)
    if not tables.has("quality"):
        return
    in_periods = (pl.col("interval") == interval) & pl.col("period").is_in(periods)
    quality = tables.quality.filter(in_periods)
    yield from check_present(place, tables, assessed, quality, interval)
    if tables.has("gaps"):
        yield from check_inside(place, assessed, tables.gaps.filter(in_periods), quality)


def assessed_bars(bars: pl.DataFrame, symbols: pl.DataFrame, interval: str) -> pl.DataFrame:
    """Bars that quality counts: drop source bars whose interval is not their symbol's base interval."""
    base = symbols.filter(pl.col("base_interval") == interval).select("symbol")
    if base.height == symbols.height:
        return bars
    coarser = bars.filter(pl.col("origin") == "source").join(base, on="symbol", how="anti")
    return (
        bars
        if coarser.is_empty()
        else bars.join(coarser, on=[*SERIES, "origin", "ts"], how="anti", maintain_order="left")
    )


def check_counts(quality: pl.DataFrame) -> Iterator[Finding]:
    """Yield a finding unless present + missing = expected and quality = 100 * present / expected (null if 0)."""
    rate = 100.0 * pl.col("present") / pl.col("expected")
    adds_up = pl.col("present") + pl.col("missing") == pl.col("expected")
    fits = pl.when(pl.col("expected") > 0).then((pl.col("quality") - rate).abs() < PER_CENT_TOLERANCE)
    bad = quality.filter(~(adds_up & fits.otherwise(pl.col("quality").is_null())).fill_null(value=False))
    shown = pl.format("present {} + missing {}, expected {}, quality {}", "present", "missing", "expected", "quality")
    yield from summary_finding("quality", "quality", "counts", bad, shown)


def check_gap_sums(tables: _Tables) -> Iterator[Finding]:
    """Yield a finding where the `bar_count` of a series' and session's gaps does not sum to quality's `missing`."""
    key = [*SERIES, "interval", "session"]
    summed = tables.gaps.group_by(key).agg(pl.col("bar_count").sum().alias("lost"))
    joined = tables.quality.select(*key, "missing").join(summed, on=key, how="full", coalesce=True, nulls_equal=True)
    joined = joined.with_columns(pl.col("lost").fill_null(0))
    shown = pl.format(
        "gaps of {} bars, quality says {}", "lost", pl.col("missing").cast(pl.String).fill_null("nothing")
    )
    yield from summary_finding(
        "gaps", "gaps", "gaps", joined.filter(pl.col("missing").ne_missing(pl.col("lost"))), shown
    )


def check_present(
    place: str, tables: _Tables, assessed: pl.DataFrame, quality: pl.DataFrame, interval: str
) -> Iterator[Finding]:
    """Yield findings of sessions with more on-grid bars than `present`, fewer (if all must be there) or no quality."""
    key = [*SERIES, "session", "period"]
    counts = assessed.group_by(key).agg(pl.len().cast(pl.Int64).alias("bars"))
    joined = quality.select(*key, "expected", "present", "off_grid", "out_of_session").join(
        counts, on=key, how="full", coalesce=True, nulls_equal=True
    )
    known = (
        tables.quality.filter(interval=interval).select(SERIES).unique().with_columns(pl.lit(value=True).alias("known"))
    )
    joined = joined.with_columns(pl.col("bars").fill_null(0)).join(known, on=SERIES, how="left", nulls_equal=True)
    strange = joined.filter(pl.col("known").is_null())
    if strange.height:
        yield from summary_finding(
            "bars", place, "present", strange, pl.format("{} bars of a series that was not judged", "bars"), "warning"
        )
    odd = pl.col("off_grid") + pl.col("out_of_session")
    off = pl.col("bars") - odd - pl.col("present")
    # Bars whose window is not over are not exported, but those of them off the grid were counted.
    late = pl.lit(tables.has_as_of) & (off < 0) & (-off <= odd)
    # Where windows that lack slots were dropped, quality counts more bars than there are, all of them complete.
    drops = interval not in set(tables.symbols["base_interval"]) and bool(assessed["complete"].all())
    dropped = pl.lit(drops) & (off < 0)
    unjudged = pl.col("present").is_null()
    bad = joined.filter(pl.col("known") & (unjudged | ((pl.col("expected") > 0) & (off != 0) & ~late & ~dropped)))
    shown = pl.format(
        "{} bars, {} of them out of place, quality says {} present",
        "bars",
        odd.fill_null(0),
        pl.col("present").fill_null(0),
    )
    yield from summary_finding("bars", place, "present", bad, shown)


def check_inside(place: str, assessed: pl.DataFrame, gaps: pl.DataFrame, quality: pl.DataFrame) -> Iterator[Finding]:
    """Yield one finding if sessions have more bars inside gaps than off-grid and out-of-session bars; else nothing."""
    if gaps.is_empty() or assessed.is_empty():
        return
    series, key = [*SERIES, "period"], [*SERIES, "session", "period"]
    spans = gaps.select(*series, "gap_start", "gap_end").sort("gap_start")
    stamps = assessed.select(*key, "ts").sort("ts")
    with_gap = stamps.join_asof(
        spans, left_on="ts", right_on="gap_start", by=series, strategy="backward", check_sortedness=False
    )
    in_gap = with_gap.filter(pl.col("ts") < pl.col("gap_end"))
    inside = in_gap.group_by(key).agg(pl.len().alias("inside"), pl.col("ts").min())
    # A bar off the grid may lie within a slot that no bar stands in.
    odd = quality.select(*key, (pl.col("off_grid") + pl.col("out_of_session")).alias("odd"))
    bad = inside.join(odd, on=key, how="left").filter(pl.col("inside") > pl.col("odd").fill_null(0))
    yield from summary_finding(
        "bars", place, "inside", bad, pl.format("{} bars in a gap, the first at {}", "inside", "ts")
    )


def check_row_totals(tables: _Tables, totals: Sequence[pl.DataFrame]) -> Iterator[Finding]:
    """Yield a finding where a symbol's source rows differ from `rows` in `symbols`; bars after as-of may be absent."""
    none = pl.DataFrame(schema={"symbol": pl.String, "count": pl.Int64, "last": TS, "has_bars": pl.Boolean})
    for path in (path for name in SOURCES for path in tables.paths.get(name, NO_FILE)):
        by_symbol = scan_one(path).group_by("symbol")
        counted = by_symbol.agg(pl.len().cast(pl.Int64).alias("count"), pl.col("ts").max().alias("last"))
        totals = [*totals, counted.with_columns(pl.lit(value=False).alias("has_bars")).collect()]
    by_symbol_in_all = pl.concat([none, *totals]).group_by("symbol")
    summed = by_symbol_in_all.agg(pl.col("count").sum(), pl.col("last").max(), pl.col("has_bars").any())
    joined = tables.symbols.select("symbol", "rows", "last_ts").join(summed, on="symbol", how="full", coalesce=True)
    short = pl.col("count").fill_null(0) - pl.col("rows").fill_null(0)
    # The last bars are left out until their window is over.
    running = pl.lit(tables.has_as_of) & pl.col("has_bars") & (short < 0) & (pl.col("last") < pl.col("last_ts"))
    bad = joined.filter((short != 0) & ~running.fill_null(value=False) | pl.col("rows").is_null())
    said = pl.col("rows").cast(pl.String).fill_null("nothing")
    yield from summary_finding(
        "symbols",
        "symbols",
        "symbols",
        bad,
        pl.format("{} rows, `symbols` says {}", pl.col("count").fill_null(0), said),
    )


def summary_finding(
    table: str, place: str, check: str, bad: pl.DataFrame, shown: pl.Expr, severity: str = "error"
) -> Iterator[Finding]:
    """Yield one finding that counts the rows breaking a law and describes the first; none for an empty frame."""
    if bad.is_empty():
        return
    order = [name for name in ("symbol", "price_type", "interval", "session", "ts") if name in bad.columns]
    bad = bad.with_columns(shown.alias("shown")).sort(order, nulls_last=True)
    first = bad.row(0, named=True)
    which = " ".join(str(first[name]) for name in order if name != "ts")
    symbols = bad["symbol"].drop_nulls()
    low, high = str(symbols.min()), str(symbols.max())
    dates = bad["session"].cast(pl.Datetime("us")).dt.replace_time_zone("UTC") if "session" in bad.columns else None
    held = {
        "rows": bad.height,
        "symbols": low if low == high else f"{low} to {high}",
        "first_ts": None if dates is None else dates.min(),
        "last_ts": None if dates is None else dates.max(),
    }
    more = f" (and {bad.height - 1} more)" if bad.height > 1 else ""
    yield Finding(table, place, check, f"{which}: {first['shown']}{more}", severity, held)  # type: ignore[arg-type]
