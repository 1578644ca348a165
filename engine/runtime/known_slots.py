"""Slots whose cause the rows themselves tell (`audit.survey.KNOWN`): stamps off the grid, rows that were refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import polars as pl

from engine.audit.pipeline import axis_of, peer_groups
from engine.audit.survey import KNOWN, Axis, Survey, merge_known
from engine.calendars.providers import calendar
from engine.checks.refused import CONFLICT
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.quality.causes.attribution import KNOWN as SURE_OF_IT
from engine.quality.causes.counters import counted_slots
from engine.quality.causes.evidence_order import RANKS
from engine.quality.causes.page_seams import seam_slots
from engine.quality.causes.profiles import bin_width
from engine.schema import TS, empty

MOST_REFUSED = 1_000_000  # rows that are looked at
LEAST_EPOCH = 1e8  # seconds since 1970: smaller numbers are dates, or times of day
DAY = dt.timedelta(days=1)
# Names of the cells of a row, in the order in which they are looked for.
CELLS = {
    "ts": (
        "ts",
        "timestamp",
        "Timestamp",
        "time",
        "Time",
        "datetime",
        "Datetime",
        "DateTime",
        "date",
        "Date",
        "ts_event",
    ),
    "symbol": ("symbol", "Symbol", "ticker", "Ticker"),
    "price_type": ("price_type",),
}


def off_grid_slots(rows: pl.DataFrame, grid: SessionGrid) -> pl.DataFrame:
    """`KNOWN` slots of cause `off_grid`: a row of the series lies inside them, not at their start; most have none.

    Parameters
    ----------
    rows : DataFrame
        `series, ts, slot`: slot null off the grid and outside sessions.
    grid : SessionGrid
        Of the rows.
    """
    if not rows["slot"].null_count():
        return empty(KNOWN)
    off = rows.filter(pl.col("slot").is_null()).select("series", "ts")
    placed = pl.concat([off, grid.place(off["ts"].cast(TS), exact=False)], how="horizontal").drop_nulls("slot")
    summed = placed.group_by("series", "ordinal", "slot").agg(pl.col("ts").min()).sort("series", "ordinal", "slot")
    said = pl.format("a row is stamped {}, inside the slot", pl.col("ts").dt.strftime("%H:%M:%S%.f"))
    return known_slots(summed.with_columns(said.alias("evidence")), "off_grid")


def with_counted_slots(survey: Survey) -> Survey:
    """The survey with `KNOWN` slots that the feed's own counters prove to be without a trade, or lost (`causes.counters`)."""
    if survey.counters.is_empty():
        return survey
    parts = [survey.known]
    for own, axis, grid in intraday_groups(survey):
        spans = survey.counters.join(own.select("series"), on="series", how="semi")
        if spans.height:
            slots = counted_slots(spans, grid, f"{axis.calendar} {axis.interval}")
            parts.append(ranked(slots, "counter"))
    return replace(survey, known=pl.concat(parts))


def with_page_seams(survey: Survey) -> Survey:
    """The survey with `KNOWN` slots of rows that were lost at the seams of pages (`causes.page_seams`)."""
    parts = [survey.known]
    for own, _, grid in intraday_groups(survey):
        runs = survey.runs.filter(pl.col("series").is_in(own["series"].implode()))
        slots = seam_slots(runs, grid, bin_width(grid.interval))
        if slots.height:
            event = pl.format("{} {} pages", "symbol", "price_type").alias("event")
            named = slots.drop("event").join(own.select("series", event), on="series", maintain_order="left")
            parts.append(ranked(named, "page_seam"))
    return replace(survey, known=pl.concat(parts))


def intraday_groups(survey: Survey) -> Iterator[tuple[pl.DataFrame, Axis, SessionGrid]]:
    """Series of each peer group of an intraday interval, with their axis and its grid."""
    for own in peer_groups(survey.series):
        axis = axis_of(own)
        if Interval.parse(axis.interval).is_intraday:
            low, high = cast("dt.date", own["first"].min()), cast("dt.date", own["last"].max())
            segments = calendar(axis.calendar).segments_in_bounds(low, high)
            yield own, axis, SessionGrid.build(segments, axis.interval, GridSpec(*axis[:-1]))  # type: ignore[arg-type]


def ranked(slots: pl.DataFrame, evidence: str) -> pl.DataFrame:
    """`KNOWN` rows of slots by one kind of evidence."""
    whole = slots.with_columns(pl.lit(RANKS[evidence]).alias("rank"))
    return whole.select(pl.col(name).cast(dtype) for name, dtype in KNOWN.items())


def with_refused_slots(
    survey: Survey,
    rejects: pl.DataFrame,
    timezone: str | dt.tzinfo | None,
    names: pl.DataFrame | None = None,
) -> Survey:
    """The survey with `KNOWN` slots of cause `refused`: those of refused rows whose cells tell the stamp and the symbol.

    Parameters
    ----------
    survey : Survey
        Of the rows that held.
    rejects : DataFrame of `schema.REJECTS`
    timezone : str or tzinfo, optional
        Of stamps without a zone; without it these are not looked at.
    names : DataFrame, optional
        `source, named`: the symbol of files of one symbol, whose rows need not name it.
    """
    if rejects.is_empty() or survey.series.is_empty():
        return survey
    rows = refused_stamps(rejects, timezone)
    if names is not None:
        rows = rows.join(names, on="source", how="left").with_columns(pl.coalesce("symbol", "named").alias("symbol"))
    parts = [survey.known]
    for own in peer_groups(survey.series):
        named = rows.join(own.select("series", "symbol", "price_type"), on="symbol", suffix="_of_series")
        ours = named.filter(pl.col("price_type").is_null() | (pl.col("price_type") == pl.col("price_type_of_series")))
        if ours.is_empty():
            continue
        context = axis_of(own)
        low, high = cast("dt.datetime", ours["ts"].min()).date(), cast("dt.datetime", ours["ts"].max()).date()
        segments = calendar(context.calendar).segments_in_bounds(low - DAY, high + DAY)
        grid = SessionGrid.build(segments, context.interval, GridSpec(*context[:-1]))  # type: ignore[arg-type]
        placed = pl.concat([ours, grid.place(ours["ts"], exact=False)], how="horizontal").drop_nulls("slot")
        said = pl.format("refused, line {} of {}: {}", "row", pl.col("source").str.split("/").list.last(), "reason")
        first = placed.sort("source", "row").group_by("series", "ordinal", "slot", maintain_order=True).first()
        parts.append(known_slots(first.with_columns(said.alias("evidence")), "refused"))
    return replace(survey, known=merge_known(parts))


def refused_stamps(rejects: pl.DataFrame, timezone: str | dt.tzinfo | None) -> pl.DataFrame:
    """`source, row, reason, symbol, price_type, ts` of refused rows whose cells have a stamp in a column of that name.

    Understood are ISO 8601 with a zone, or without one in `timezone`, and numbers of seconds to nanoseconds since 1970.
    """
    bad = rejects.filter(~pl.col("reason").str.starts_with(CONFLICT)).head(MOST_REFUSED)
    cells = bad["cells"]
    values = {
        name: pl.coalesce([pl.lit(cells.str.json_path_match(f"$.{key}")) for key in keys])
        for name, keys in CELLS.items()
    }
    read = bad.select("source", "row", "reason", **values)
    text = pl.col("ts").str.strip_chars().str.replace(" ", "T", literal=True)
    zoned = text.str.replace(r"(Z|UTC|\+00:?00)$", "+0000").str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", time_zone="UTC", strict=False
    )
    number = text.cast(pl.Float64, strict=False)
    per_second = 10.0 ** (3 * ((number.abs().log10() - 8) / 3).floor()).clip(0, 9)
    epoch = (number / per_second * 1e6).round().cast(pl.Int64, strict=False).cast(TS)
    parsed = [zoned, pl.when(number >= LEAST_EPOCH).then(epoch)]
    if timezone is not None:
        local = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
        moved = local.dt.replace_time_zone(str(timezone), ambiguous="earliest", non_existent="null")
        parsed.append(moved.dt.convert_time_zone("UTC"))
    return read.with_columns(pl.coalesce([one.cast(TS) for one in parsed]).alias("ts")).drop_nulls("ts")


def known_slots(slots: pl.DataFrame, cause: str) -> pl.DataFrame:
    """`KNOWN` runs of slots (`series, ordinal, slot, evidence`) of one cause; the first slot's evidence is the run's."""
    ordered = slots.sort("series", "ordinal", "slot")
    follows = (pl.col("slot") == pl.col("slot").shift(1) + 1) & (pl.col("ordinal") == pl.col("ordinal").shift(1))
    follows &= pl.col("series") == pl.col("series").shift(1)
    run = (~follows.fill_null(value=False)).cum_sum().alias("run")
    runs = ordered.group_by(run, maintain_order=True).agg(
        pl.col("series", "ordinal", "evidence").first(),
        pl.col("slot").first().alias("first"),
        pl.col("slot").last().alias("last"),
    )
    told = runs.with_columns(
        pl.lit(cause).alias("cause"),
        pl.lit(SURE_OF_IT).alias("confidence"),
        pl.lit(None, pl.String).alias("event"),
        pl.lit(RANKS["row"]).alias("rank"),
    )
    return told.select(pl.col(n).cast(t) for n, t in KNOWN.items())
