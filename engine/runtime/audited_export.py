"""An export as the source of an audit: base bars on the axes that it stores, and the counts of its load."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from engine.audit.survey import COUNTS, SERIES, CheckedAxis, Survey
from engine.calendars.providers import calendar
from engine.checks.check import QUOTES
from engine.checks.refused import conflict_pairs, count_refused
from engine.errors import ExportError
from engine.export.dataset import Dataset
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.quality.score import COUNTED
from engine.runtime.known_slots import with_refused_slots
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.parquet_scan import RowRange, cut_row_ranges
from engine.runtime.remote_files import remote_file
from engine.runtime.requested_symbols import symbol_of_path
from engine.runtime.store_survey import measured_rows
from engine.schema import TS, Schema, empty
from engine.sources.options import ReadOptions
from engine.store.panel_key import PANEL_SCHEMAS

AXIS = ["calendar", "segments", "align", "zone", "base_interval"]
STORED = ("duplicates", "corrections", "backfilled")  # counts that stored rows do not show

KEPT: Schema = {
    **dict.fromkeys(("symbol", "price_type", "interval"), pl.String()),
    "session": pl.Date(),
    "ts": TS,
    "close": pl.Float64(),
    "volume": pl.Float64(),
}


def export_row_ranges(dataset: Dataset, options: LoadOptions) -> Iterator[tuple[RowRange, LoadOptions]]:
    """Yield (row range of base bars, load options of its axis) of an export; ExportError if axes are not stored.

    Its rows have passed the rules of the run that wrote it: prices of any sign are valid.

    Raises
    ------
    ExportError
        The export is of a version that does not store the axes of its symbols.
    """
    symbols = dataset.scan("symbols").collect()
    if symbols["align"].null_count():
        raise ExportError(
            f"{dataset.target}: does not name the axis of its symbols; valid: an export with a later revision"
        )
    for key, rows in symbols.with_columns(pl.col("segments").list.join("\x1f")).group_by(AXIS, maintain_order=True):
        code, segments, align, zone, base = map(str, key)
        names = tuple(rows["symbol"])
        own = replace(
            options,
            calendars=CalendarMap(None, tuple((glob.escape(name), code) for name in names)),
            interval=Interval.parse(base),
            segments=tuple(label for label in segments.split("\x1f") if label),
            align=align,  # type: ignore[arg-type]
            read=replace(
                options.read,
                timezone=zone,
                interval=Interval.parse(base),
                columns={},
                stamp=None,
                unit=None,
                allow_non_positive=True,  # its rows have passed the rules of its own run
            ),
        )
        files = [
            file for file in dataset.intact_files("bars") if file.relative_to(dataset.target / "bars").parts[0] == base
        ]
        for file in files:
            for row_range in cut_row_ranges(
                remote_file(file), names if len(names) < symbols.height else (), of_export=True
            ):
                yield row_range, own


def export_counts(dataset: Dataset) -> Survey:
    """Survey of stored counts, rejects, quote checks, conflicts beside the bars kept; nothing is measured of bars."""
    base = dataset.scan("symbols").select(
        "symbol", "calendar", pl.col("base_interval").alias("interval"), "segments", "align", "zone"
    )
    judged = dataset.scan("quality").join(base, on=["symbol", "interval"]).collect()
    counted = judged.filter(pl.sum_horizontal(STORED) > 0)
    names = judged.select("symbol", "price_type", "interval", "calendar", "segments", "align", "zone").unique(
        ["symbol", "price_type"], maintain_order=True
    )
    spans = counted.group_by("symbol", "price_type").agg(
        pl.col("session").min().alias("first"), pl.col("session").max().alias("last")
    )
    # Without counts a series has no sessions from here: those of its bars are found with them.
    series = names.join(spans, on=["symbol", "price_type"], how="left").with_columns(
        pl.int_range(pl.len(), dtype=pl.Int32).alias("series"),
        pl.lit(str(dataset.target)).alias("source"),
        pl.lit(0, pl.Int64).alias("rows"),
    )
    counts = counted.join(series.select("symbol", "price_type", "series"), on=["symbol", "price_type"]).select(
        "series", "session", *(pl.col(name) if name in STORED else pl.lit(0, pl.Int64).alias(name) for name in COUNTED)
    )
    shaped = counts.select(pl.col(name).cast(dtype) for name, dtype in COUNTS.items()).sort("series", "session")
    rejects = dataset.scan("rejects").collect()
    whole = replace(Survey.none(), series=pl.concat([empty(SERIES), series.select(list(SERIES))]))
    sources = rejects["source"].unique().to_list()
    named = pl.DataFrame(
        [(one, symbol_of_path(one, ReadOptions())) for one in sources],
        schema={"source": pl.String, "named": pl.String},
        orient="row",
    )
    return replace(
        with_refused_slots(whole, rejects, None, named),
        counts=shaped,
        checks=tuple(measured_quotes(dataset)),
        refused=count_refused(rejects),
        conflicts=stored_conflicts(dataset, rejects),
    )


def stored_conflicts(dataset: Dataset, rejects: pl.DataFrame) -> pl.DataFrame:
    """Pair each bar rejected as conflicting with the stored base bar of the same key; empty if none was."""
    lost = conflict_pairs(rejects, empty(KEPT))
    if lost.is_empty():
        return lost
    base = dataset.scan("symbols").select("symbol", pl.col("base_interval").alias("interval"))
    stamps = lost.select("symbol", "price_type", "ts").unique()
    bars = dataset.scan("bars").join(base, on=["symbol", "interval"], how="semi")
    kept = bars.join(stamps.lazy(), on=["symbol", "price_type", "ts"], how="semi").select(list(KEPT)).collect()
    return conflict_pairs(rejects, kept)


def measured_quotes(dataset: Dataset) -> Iterator[CheckedAxis]:
    """Yield, per axis, what all checks measure of the export's quote ticks (no bars); nothing without quotes."""
    if not dataset.rows("quotes"):
        return
    symbols = dataset.scan("symbols").collect().with_columns(pl.col("segments").list.join("\x1f"))
    for key, rows in symbols.group_by(AXIS, maintain_order=True):
        code, segments, align, zone, base = map(str, key)
        ours = dataset.scan("quotes").filter(pl.col("symbol").is_in(rows["symbol"].implode()))
        quotes = ours.select(pl.col(name).cast(dtype) for name, dtype in QUOTES.items()).collect()
        if quotes.is_empty():
            continue
        first, last = quotes["session"].min(), quotes["session"].max()
        labels = tuple(label for label in segments.split("\x1f") if label)
        spec = GridSpec(code, labels, align, zone)  # type: ignore[arg-type]
        grid = SessionGrid.build(calendar(code).segments_in_bounds(first, last), base, spec)  # type: ignore[arg-type]
        yield measured_rows(empty(PANEL_SCHEMAS["bars"]), empty(SERIES), grid, quotes)
