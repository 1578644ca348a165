"""Incremental indicator state per series: last closed bar and look-back window. Not part of a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from engine.derive.indicators import Indicator
from engine.derive.series import POSITION, SESSION_NUMBER, SLOT
from engine.schema import LATEST, TS

CLOSED = "_closed"  # column: whether a bar is over
BASELINE_KEY = {POSITION: pl.Int32(), SLOT: pl.Int64(), SESSION_NUMBER: pl.Int64()}
STEP = pl.duration(microseconds=1)


@dataclass(frozen=True)
class IndicatorState:
    """State of the series of one indicator group, each up to its last closed bar.

    Attributes
    ----------
    indicators : tuple of Indicator
    series : Series of Int32
        All series that were computed, also those without a closed bar.
    last : DataFrame
        The last closed bar: `series, ts`, and the values of recursive averages there.
    tail : DataFrame
        The bars up to it that windows look back to, as the kernels read them.
    baseline : DataFrame
        Slot baseline (`derive.slot_baseline`) of the sessions in `baseline_for`.
    baseline_for : DataFrame of `series, session`
    """

    indicators: tuple[Indicator, ...]
    series: pl.Series
    last: pl.DataFrame
    tail: pl.DataFrame
    baseline: pl.DataFrame
    baseline_for: pl.DataFrame

    @classmethod
    def empty(cls, indicators: tuple[Indicator, ...], columns: Mapping[str, pl.DataType]) -> IndicatorState:
        """State without series; `columns` are the bar columns that the look-back bars have."""
        series, number = {"series": pl.Int32()}, pl.Float64()
        return cls(
            indicators,
            pl.Series("series", [], pl.Int32),
            pl.DataFrame(schema={**series, "ts": TS, **dict.fromkeys(running_names(indicators), number)}),
            pl.DataFrame(schema={**columns, CLOSED: pl.Boolean()}),
            pl.DataFrame(schema={**series, **BASELINE_KEY, **dict.fromkeys(baseline_names(indicators), number)}),
            pl.DataFrame(schema={**series, "session": pl.Date()}),
        )

    def with_series(self, series: pl.Series) -> IndicatorState:
        """Copy whose computed series include the given ones, without repeats; `last` and `tail` unchanged."""
        return replace(self, series=pl.concat([self.series, series]).unique())

    def without(self, series: pl.Series) -> IndicatorState:
        """Copy without the given series: their last bars, look-back bars and baselines are dropped."""
        dropped = pl.col("series").is_in(series.implode())
        return replace(
            self,
            series=self.series.filter(~self.series.is_in(series.implode())),
            last=self.last.filter(~dropped),
            tail=self.tail.filter(~dropped),
            baseline=self.baseline.filter(~dropped),
            baseline_for=self.baseline_for.filter(~dropped),
        )

    def extendable(self, first: pl.DataFrame) -> pl.DataFrame:
        """`series, ts` of the last closed bar of series only touched after it, where no recursive average is null.

        Parameters
        ----------
        first : DataFrame of `series, first_ts`
            The first bar of each that was touched.
        """
        # The first value of a recursive average is a mean of all bars before it: without one, all are read.
        begun = pl.all_horizontal(
            pl.col("ts").is_not_null(), *(pl.col(n).is_not_null() for n in running_names(self.indicators))
        )
        touched = self.last.join(first, on="series")
        return touched.filter(begun & (pl.col("first_ts") > pl.col("ts"))).select("series", "ts").sort("series")

    @staticmethod
    def after(last: pl.DataFrame) -> pl.DataFrame:
        """Open-ended time ranges `series, first, last` that begin 1 microsecond after each bar's `ts`."""
        return last.select("series", (pl.col("ts") + STEP).cast(TS).alias("first"), pl.lit(LATEST, TS).alias("last"))

    def last_of(self, series: pl.Series) -> pl.DataFrame:
        """Last closed bar (`series, ts`, recursive averages) of the given series."""
        return self.last.filter(pl.col("series").is_in(series.implode()))

    def tail_of(self, series: pl.Series) -> pl.DataFrame:
        """Look-back bars of the given series, the last closed one included."""
        return self.tail.filter(pl.col("series").is_in(series.implode()))

    def advanced(self, values: pl.DataFrame, bars: pl.DataFrame, reach: int | None) -> IndicatorState:
        """Copy with `last`, `tail` (`reach` bars) at the last closed bar in sorted `values`; `reach` None: unchanged.

        Parameters
        ----------
        values : DataFrame
            Output of the pass: all bars of some series, or those after their last one.
        bars : DataFrame
            Input of the pass.
        reach : int or None
            Number of bars that windows look back; None: unknown, so that the state cannot be extended and stays.
        """
        if reach is None:
            return self
        ends = values.filter(CLOSED).select(self.last.columns)
        ends = ends.filter((pl.col("series") != pl.col("series").shift(-1)).fill_null(value=True))
        last = ends.select("series", pl.col("ts").alias("_last"))
        past = bars.join(last, on="series", maintain_order="left").filter(pl.col("ts") <= pl.col("_last")).drop("_last")
        tail = past.filter(pl.int_range(pl.len(), 0, -1).over("series") <= reach)
        moved = pl.col("series").is_in(ends["series"].implode())
        return replace(
            self,
            last=pl.concat([self.last.filter(~moved), ends]),
            tail=pl.concat([self.tail.filter(~moved), tail]),
        )

    def with_baseline(self, sessions: pl.DataFrame, baseline: pl.DataFrame) -> IndicatorState:
        """Copy in which the slot baselines of the series in `sessions` are replaced, with the sessions they are for."""
        replaced = pl.col("series").is_in(sessions["series"].implode())
        return replace(
            self,
            baseline=pl.concat([self.baseline.filter(~replaced), baseline.select(self.baseline.columns)]),
            baseline_for=pl.concat([self.baseline_for.filter(~replaced), sessions.select("series", "session")]),
        )


def running_names(indicators: tuple[Indicator, ...]) -> list[str]:
    """Column names of the recursive averages of the indicators, in order."""
    return [one.name for indicator in indicators for one in indicator.running]


def baseline_names(indicators: tuple[Indicator, ...]) -> list[str]:
    """Column names of the slot-baseline windows of the indicators that compare with earlier sessions."""
    return [window.meta.output_name() for one in indicators if one.sessions is not None for window in one.windows]
