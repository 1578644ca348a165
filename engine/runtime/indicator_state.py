"""Where series stand, so that values of bars to come are computed from there: operational state, nothing that is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from engine.derive.indicators import Indicator
from engine.derive.series import POSITION, SESSION_NUMBER, SLOT
from engine.schema import LATEST, TS

ENDED = "_ended"  # whether a bar is over: a column beside what indicators read of it
USUAL = {POSITION: pl.Int32(), SLOT: pl.Int64(), SESSION_NUMBER: pl.Int64()}
STEP = pl.duration(microseconds=1)


@dataclass(frozen=True)
class Former:
    """Series of which the same indicators are computed, each up to its last bar that is over.

    Attributes
    ----------
    wanted : tuple of Indicator
    series : Series of Int32
        Which were seen, also those with no such bar yet.
    last : DataFrame
        That bar: `series, ts`, and what recursive averages hold there.
    tail : DataFrame
        The bars up to it that windows reach back to, as the kernels read them.
    usual : DataFrame
        What bars of the session in `usual_for` are held against (`derive.usual`).
    usual_for : DataFrame of `series, session`
    """

    wanted: tuple[Indicator, ...]
    series: pl.Series
    last: pl.DataFrame
    tail: pl.DataFrame
    usual: pl.DataFrame
    usual_for: pl.DataFrame

    @classmethod
    def nothing(cls, wanted: tuple[Indicator, ...], columns: Mapping[str, pl.DataType]) -> Former:
        """Of no series; `columns` is what is read of bars."""
        series, number = {"series": pl.Int32()}, pl.Float64()
        return cls(
            wanted,
            pl.Series("series", [], pl.Int32),
            pl.DataFrame(schema={**series, "ts": TS, **dict.fromkeys(_held(wanted), number)}),
            pl.DataFrame(schema={**columns, ENDED: pl.Boolean()}),
            pl.DataFrame(schema={**series, **USUAL, **dict.fromkeys(_usual(wanted), number)}),
            pl.DataFrame(schema={**series, "session": pl.Date()}),
        )

    def seen(self, series: pl.Series) -> Former:
        """With these series among those that were seen."""
        return replace(self, series=pl.concat([self.series, series]).unique())

    def without(self, series: pl.Series) -> Former:
        """Without these series."""
        gone = pl.col("series").is_in(series.implode())
        return replace(
            self,
            series=self.series.filter(~self.series.is_in(series.implode())),
            last=self.last.filter(~gone),
            tail=self.tail.filter(~gone),
            usual=self.usual.filter(~gone),
            usual_for=self.usual_for.filter(~gone),
        )

    def onward(self, first: pl.DataFrame) -> pl.DataFrame:
        """`series, ts` of the last bar of series that go on from it.

        Parameters
        ----------
        first : DataFrame of `series, first_ts`
            The first bar of each that was touched.
        """
        # An average without a value has its first ahead, which is a mean of all the bars before.
        begun = pl.all_horizontal(pl.col("ts").is_not_null(), *(pl.col(n).is_not_null() for n in _held(self.wanted)))
        beside = self.last.join(first, on="series")
        return beside.filter(begun & (pl.col("first_ts") > pl.col("ts"))).select("series", "ts").sort("series")

    @staticmethod
    def after(onward: pl.DataFrame) -> pl.DataFrame:
        """Spans (`series, first, last`) of everything that comes after these bars."""
        return onward.select("series", (pl.col("ts") + STEP).cast(TS).alias("first"), pl.lit(LATEST, TS).alias("last"))

    def last_of(self, series: pl.Series) -> pl.DataFrame:
        """The last bar of each of these series."""
        return self.last.filter(pl.col("series").is_in(series.implode()))

    def tail_of(self, series: pl.Series) -> pl.DataFrame:
        """The bars before what comes, of these series."""
        return self.tail.filter(pl.col("series").is_in(series.implode()))

    def settled(self, made: pl.DataFrame, bars: pl.DataFrame, reach: int | None) -> Former:
        """Moved on to the last bar that is over.

        Parameters
        ----------
        made : DataFrame
            What a pass gave: all bars of some series, or those after their last one.
        bars : DataFrame
            What it was given.
        reach : int or None
            How many bars windows look at; None: no pass goes on from here.
        """
        if reach is None:
            return self
        ends = made.filter(ENDED).select(self.last.columns)
        ends = ends.filter((pl.col("series") != pl.col("series").shift(-1)).fill_null(value=True))
        beside = bars.join(ends.select("series", pl.col("ts").alias("_last")), on="series", maintain_order="left")
        past = beside.filter(pl.col("ts") <= pl.col("_last")).drop("_last")
        tail = past.filter(pl.int_range(pl.len(), 0, -1).over("series") <= reach)
        moved = pl.col("series").is_in(ends["series"].implode())
        return replace(
            self,
            last=pl.concat([self.last.filter(~moved), ends]),
            tail=pl.concat([self.tail.filter(~moved), tail]),
        )

    def with_usual(self, sessions: pl.DataFrame, usual: pl.DataFrame) -> Former:
        """With what is usual in these sessions (`series, session`), instead of what was there of their series."""
        ours = pl.col("series").is_in(sessions["series"].implode())
        return replace(
            self,
            usual=pl.concat([self.usual.filter(~ours), usual.select(self.usual.columns)]),
            usual_for=pl.concat([self.usual_for.filter(~ours), sessions.select("series", "session")]),
        )


def _held(wanted: tuple[Indicator, ...]) -> list[str]:
    return [one.name for indicator in wanted for one in indicator.running]


def _usual(wanted: tuple[Indicator, ...]) -> list[str]:
    return [window.meta.output_name() for one in wanted if one.sessions is not None for window in one.windows]
