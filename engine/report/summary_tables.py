"""Summary tables of a run or an export. Frames in, frames out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from engine.schema import IS_MISSING

SERIES = ["symbol", "price_type"]
MOST_SERIES = 20  # of a summary: a screen of a terminal
MOST_SESSIONS = 10


@dataclass(frozen=True)
class RunSummary:
    """Quality of a run in a few rows.

    Attributes
    ----------
    series, worst : DataFrame
        As `summarize_series` and `worst_sessions` give them.
    calendars : DataFrame
        The table `calendars`.
    """

    series: pl.DataFrame
    worst: pl.DataFrame
    calendars: pl.DataFrame

    @classmethod
    def of(cls, tables: Mapping[str, pl.DataFrame]) -> RunSummary:
        """Summary of the tables `quality, gaps, symbols, calendars`."""
        quality, gaps, symbols, calendars = (tables[name] for name in ("quality", "gaps", "symbols", "calendars"))
        return cls(
            summarize_series(quality, gaps, symbols), worst_sessions(quality, gaps, symbols, calendars), calendars
        )

    @classmethod
    def of_shares(cls, summaries: Sequence[RunSummary], calendars: pl.DataFrame) -> RunSummary:
        """Summary of several runs of different symbols, and what their calendars are together."""
        series = pl.concat([one.series for one in summaries]).sort(SERIES)
        return cls(series, worst_first(pl.concat([one.worst for one in summaries])), calendars)


def summarize_series(quality: pl.DataFrame, gaps: pl.DataFrame, symbols: pl.DataFrame) -> pl.DataFrame:
    """Return a row per series at its base interval: sessions due, present, missing, longest gap, quality in %, ...

    Parameters
    ----------
    quality, gaps, symbols : DataFrame
        The tables of those names.

    Returns
    -------
    DataFrame
        `symbol, price_type, interval, sessions, present, missing, longest_gap, quality, duplicates, corrections,
        off_grid, out_of_session`, sorted by symbol and price type. `quality` is 0-100 over all sessions.
    """
    counted = ["expected", "present", "missing", "duplicates", "corrections", "off_grid", "out_of_session"]
    base = at_base_interval(quality, symbols)
    longest = (
        at_base_interval(gaps.filter(IS_MISSING), symbols)
        .group_by(SERIES)
        .agg(pl.col("bar_count").max().alias("longest_gap"))
    )
    rate = pl.when(pl.col("expected") > 0).then(100.0 * pl.col("present") / pl.col("expected")).alias("quality")
    return (
        base.group_by(*SERIES, "interval")
        .agg((pl.col("expected") > 0).sum().alias("sessions"), pl.col(counted).sum())
        .join(longest, on=SERIES, how="left")
        .with_columns(pl.col("longest_gap").fill_null(0), rate)
        .select(*SERIES, "interval", "sessions", *counted[1:3], "longest_gap", "quality", *counted[3:])
        .sort(SERIES)
    )


def worst_series(series: pl.DataFrame, count: int = MOST_SERIES) -> pl.DataFrame:
    """Return the `count` series of lowest quality of `summarize_series`, worst first; all in their order if no more.

    Of equal quality, that with more missing bars is worse. Series without a due session have no quality and come last.
    """
    if series.height <= count:
        return series
    order = ["quality", "missing", *SERIES]
    return series.sort(order, descending=[False, True, False, False], nulls_last=True).head(count)


def worst_sessions(
    quality: pl.DataFrame, gaps: pl.DataFrame, symbols: pl.DataFrame, zones: pl.DataFrame, count: int = MOST_SESSIONS
) -> pl.DataFrame:
    """Return `count` sessions of lowest quality with missing slots at base intervals; first missing in venue time.

    Parameters
    ----------
    quality, gaps, symbols : DataFrame
        The tables of those names.
    zones : DataFrame
        The `calendars` table.
    count : int
        How many.

    Returns
    -------
    DataFrame
        `symbol, price_type, session, quality, missing, longest_gap, first_missing`, worst first; sessions in which
        nothing is missing are left out.
    """
    first = (
        at_base_interval(gaps.filter(IS_MISSING), symbols)
        .group_by(*SERIES, "session")
        .agg(pl.col("gap_start").min(), pl.col("bar_count").max().alias("longest_gap"))
    )
    bad = worst_first(at_base_interval(quality, symbols).filter(pl.col("missing") > 0), count)
    zone_of = symbols.join(zones, on="calendar", how="left").select("symbol", "time_zone")
    found = bad.join(first, on=[*SERIES, "session"], how="left", maintain_order="left").join(
        zone_of, on="symbol", how="left", maintain_order="left"
    )
    return found.with_columns(venue_time(found, "gap_start").alias("first_missing")).select(
        *SERIES, "session", "quality", "missing", "longest_gap", "first_missing"
    )


def worst_first(sessions: pl.DataFrame, count: int = MOST_SESSIONS) -> pl.DataFrame:
    """Return the `count` sessions of lowest quality; of equal quality, that with more missing bars is worse."""
    order = ["quality", "missing", *SERIES, "session"]
    return sessions.sort(order, descending=[False, True, False, False, False]).head(count)


def venue_time(frame: pl.DataFrame, column: str) -> pl.Series:
    """Return instants of a column as text (date, time, abbreviation) in each row's `time_zone`; no zone: null."""
    # A zone belongs to a whole column in Polars, so each zone is converted at once and picked by row.
    text = pl.lit(None, pl.String)
    for zone in frame["time_zone"].unique().drop_nulls().sort():
        shown = pl.col(column).dt.convert_time_zone(zone).dt.strftime("%Y-%m-%d %H:%M:%S %Z")
        text = pl.when(pl.col("time_zone") == zone).then(shown).otherwise(text)
    return frame.with_columns(text.alias("text"))["text"]


def at_base_interval(table: pl.DataFrame, symbols: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a table whose `interval` is the base interval of their symbol, in order."""
    base = symbols.select("symbol", pl.col("base_interval").alias("interval"))
    return table.join(base, on=["symbol", "interval"], how="semi", maintain_order="left")
