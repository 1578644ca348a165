"""Survey of a loaded store: the summary of its base bars and evidence that an audit works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from engine.audit.survey import COUNTER_SPANS, COUNTS, KNOWN, SERIES, SLOTS, Axis, CheckedAxis, Survey, join_surveys
from engine.calendars.providers import calendar
from engine.checks.bar_checks import measure
from engine.checks.check import QUOTES
from engine.grid import SessionGrid
from engine.quality.causes.coarser_bars import slots_by_coarser_bars
from engine.quality.causes.evidence_order import RANKS
from engine.quality.causes.profiles import bin_width, summarize_bars
from engine.quality.gaps import slot_runs
from engine.quality.score import COUNTED
from engine.runtime.known_slots import off_grid_slots
from engine.runtime.processor import Cohort, derive_session, find_cohorts
from engine.runtime.quality_manager import lifetimes
from engine.schema import empty
from engine.store.panel_key import PanelKey
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot

COARSER = ["series", "ordinal", "slot", "high", "low", "volume"]
TRACED = ["series", "ordinal", "slot", "open", "close", "volume"]


def survey_session(session: SessionData) -> Survey:
    """Derive bars (written to the store); survey base bars, slots traded or quoted, counts, checks per cohort.

    Parameters
    ----------
    session : SessionData
        Bars of symbols that have only ticks or quotes are derived first. Ticks, finer bars of trades, and quotes of a
        symbol that has bars of its own tell whether its feed was up (`LoadOptions.keep_source` keeps them).
    """
    derive_session(session)
    snapshot = session.snapshot()
    parts = [survey_cohort(snapshot, cohort) for cohort in find_cohorts(snapshot) if cohort.key.spec in snapshot.axes]
    return join_surveys([part for part in parts if part.series.height])


def survey_cohort(snapshot: Snapshot, cohort: Cohort) -> Survey:
    """Survey a cohort: runs, profile of real base bars in slots; `rows` of all; checks of all but synthetic."""
    series = survey_series(snapshot, cohort)
    grid = snapshot.grid(cohort.key.spec, cohort.base)
    rows = snapshot.rows_of(cohort.key, series["series"].to_list())
    real = rows.filter(pl.col("slot").is_not_null() & (pl.col("provenance") != "synthetic"))
    traced = summarize_bars(real.select(TRACED), bin_width(cohort.base))
    sizes = rows.group_by("series").agg(pl.len().cast(pl.Int64).alias("rows"))
    described = series.drop("rows").join(sizes, on="series", how="left").with_columns(pl.col("rows").fill_null(0))
    return replace(
        Survey.none(),
        series=described.sort("series").select(list(SERIES)),
        runs=traced.runs,
        profile=traced.profile,
        counts=stored_counts(snapshot, cohort.key, series),
        prints=slots_with_trades(snapshot, cohort, grid, series),
        quotes=slots_with_quotes(snapshot, grid, series),
        counters=counters_of_series(snapshot.counters, series),
        known=pl.concat(
            [
                off_grid_slots(rows.filter(pl.col("provenance") != "synthetic"), grid),
                slots_of_coarser_bars(snapshot, cohort, real, grid),
            ]
        ).sort("series", "ordinal", "first"),
        checks=(
            measured_rows(
                rows.filter(pl.col("provenance") != "synthetic"), described, grid, quote_ticks(snapshot, cohort)
            ),
        ),
    )


def slots_of_coarser_bars(snapshot: Snapshot, cohort: Cohort, bars: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """`KNOWN` slots that source bars of coarser intervals prove to be without a trade, or lost; mostly there are none."""
    parts = [empty(KNOWN)]
    for key, panel in sorted(snapshot.panels.items(), key=lambda item: item[0].sort_key):
        is_source = key.kind == "bars" and key.origin == "source" and cohort.base.is_intraday and bars.height > 0
        if not is_source or key.interval is None or key.interval <= cohort.base:
            continue
        own = snapshot.grid(key.spec, key.interval)
        rows = pl.concat([part.drop_nulls("slot").select(COARSER) for part in panel.parts]).filter(
            pl.col("series").is_in(bars["series"].unique().implode())
        )
        spans = rows.with_columns(
            own.starts(rows["ordinal"], rows["slot"]).alias("start"),
            own.ends(rows["ordinal"], rows["slot"]).alias("end"),
        )
        slots = slots_by_coarser_bars(spans, bars, grid, str(key.interval))
        parts.append(slots.with_columns(pl.lit(RANKS["coarser_bar"]).alias("rank")))
    return pl.concat(part.select(pl.col(name).cast(dtype) for name, dtype in KNOWN.items()) for part in parts)


def counters_of_series(counters: Sequence[pl.DataFrame], series: pl.DataFrame) -> pl.DataFrame:
    """`COUNTER_SPANS` under the series of trades of each symbol; other price types have none."""
    trades = series.filter(pl.col("price_type") == "last").select("series", "symbol")
    named = [frame.join(trades, on="symbol").select(list(COUNTER_SPANS)) for frame in counters]
    return pl.concat([empty(COUNTER_SPANS), *named]).sort("series", "first_ts", "first_id")


def measured_rows(
    rows: pl.DataFrame, series: pl.DataFrame, grid: SessionGrid, quotes: pl.DataFrame | None = None
) -> CheckedAxis:
    """Measure bars (also outside slots) and quote ticks for all registered checks; findings are not judged."""
    spec = grid.spec
    axis = Axis(spec.calendar, spec.segments, spec.align, spec.zone, str(grid.interval))
    named = series.select("series", "symbol", "price_type", "interval")
    return CheckedAxis(axis, measure(rows, named, grid, calendar(spec.calendar).zone, quotes))


def quote_ticks(snapshot: Snapshot, cohort: Cohort) -> pl.DataFrame:
    """Quote ticks (`QUOTES` columns) of the cohort's symbols; empty when the store has none."""
    panel = snapshot.panels.get(cohort.raw("quotes"))
    names = snapshot.series.filter(pl.col("symbol").is_in(cohort.symbols)).select("series", "symbol")
    parts = [] if panel is None else [part.select("series", "session", "ts", "bid", "ask") for part in panel.parts]
    named = [part.join(names, on="series") for part in parts]
    return pl.concat(
        [empty(QUOTES), *(part.select(pl.col(n).cast(dtype) for n, dtype in QUOTES.items()) for part in named)]
    )


def survey_series(snapshot: Snapshot, cohort: Cohort) -> pl.DataFrame:
    """Series of a cohort (`SERIES` columns) with lifetime, axis and source; `rows` is 0, to be filled by the caller."""
    alive = lifetimes(snapshot, cohort, (None, None)).join(snapshot.series, on="series")
    spec = cohort.key.spec
    symbols = pl.DataFrame(
        [(name, snapshot.symbols[name].source) for name in cohort.symbols], schema=["symbol", "source"], orient="row"
    )
    return (
        alive.join(symbols, on="symbol")
        .with_columns(
            pl.lit(str(cohort.base)).alias("interval"),
            pl.lit(spec.calendar).alias("calendar"),
            pl.lit(list(spec.segments), pl.List(pl.String)).alias("segments"),
            pl.lit(spec.align).alias("align"),
            pl.lit(spec.zone).alias("zone"),
            pl.lit(0, pl.Int64).alias("rows"),
        )
        .sort("series")
        .select(list(SERIES))
    )


def stored_counts(snapshot: Snapshot, key: PanelKey, series: pl.DataFrame) -> pl.DataFrame:
    """Stored anomaly counts of the given series by session, sorted; null or absent kinds are 0."""
    counts = snapshot.counts.get(key)
    if counts is None:
        return empty(COUNTS)
    own = counts.filter(pl.col("series").is_in(series["series"].implode()))
    columns = [
        pl.col(name).fill_null(0) if name in own.columns else pl.lit(0, pl.Int64).alias(name) for name in COUNTED
    ]
    return own.select("series", "session", *columns).sort("series", "session")


def slots_with_trades(snapshot: Snapshot, cohort: Cohort, grid: SessionGrid, series: pl.DataFrame) -> pl.DataFrame:
    """Runs of slots with a tick, or a source bar finer than the base, of series of price type `last`."""
    stamps = []
    for key, panel in snapshot.panels.items():
        is_finer = key.kind == "bars" and key.interval is not None and key.interval < cohort.base
        if key.origin == "source" and key != cohort.key and (key.kind == "ticks" or is_finer):
            stamps += [part.select("series", pl.col("ts").cast(pl.Datetime("us", "UTC"))) for part in panel.parts]
    trades = series.filter(pl.col("price_type") == "last")
    return runs_of_slots(snapshot, stamps, grid, trades, "last")


def slots_with_quotes(snapshot: Snapshot, grid: SessionGrid, series: pl.DataFrame) -> pl.DataFrame:
    """Runs of slots with a quote tick, under the series of price type `last` of the same symbol; none without such."""
    stamps = [
        part.select("series", pl.col("ts").cast(pl.Datetime("us", "UTC")))
        for key, panel in snapshot.panels.items()
        if key.kind == "quotes"
        for part in panel.parts
    ]
    trades = series.filter(pl.col("price_type") == "last")
    return runs_of_slots(snapshot, stamps, grid, trades, "quote")


def runs_of_slots(
    snapshot: Snapshot, stamps: Sequence[pl.DataFrame], grid: SessionGrid, trades: pl.DataFrame, *price_types: str
) -> pl.DataFrame:
    """Runs of consecutive slots with a stamp (of series with `price_types`), under the symbol's series in `trades`."""
    stamped = pl.concat([stamps[0].clear(), *stamps]) if stamps else None
    if stamped is None or stamped.is_empty() or trades.is_empty():
        return empty(SLOTS)
    named = snapshot.series.filter(pl.col("price_type").is_in(price_types))
    number = named.join(trades.select("symbol", pl.col("series").alias("number")), on="symbol").select(
        "series", "number"
    )
    ours = stamped.join(number, on="series").drop("series")
    placed = pl.concat([ours, grid.place(ours["ts"], exact=False)], how="horizontal").drop_nulls("slot")
    distinct = (
        placed.select(pl.col("number").alias("series"), "ordinal", "slot").unique().sort("series", "ordinal", "slot")
    )
    return slot_runs(distinct).select(list(SLOTS))
