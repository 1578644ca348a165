"""Indicators over bars: one pass over all of them, or over what came after a former pass. Pure: frame in, frame out.

1. `begin` arranges the bars series by series (`series.sort_bars`) and computes them (`_computed`): what each bar contributes
   to the recursive columns (`_contributions`, the warm-up in `_warmed`), those columns, the windows, and then the values.
2. `extend` finds where the new bars of each series begin (`_Cut`), takes as many earlier ones as a window reaches back
   (`context`, `same_slots`), lets the last former bar stand for all before it (`_resumed`), and computes only those rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.derive.indicators import BEFORE, CLOCK, MOST_BARS, Indicator, Running
from engine.derive.series import (
    POSITION,
    RUN,
    RUN_OF_SESSION,
    SESSION_NUMBER,
    SLOT,
    check_columns,
    number_places,
    restore_order,
    series_key,
    sort_bars,
    with_sessions,
)
from engine.errors import ParameterError

Ints = NDArray[np.int64]
Wanted = Indicator | str | Iterable[Indicator | str]

NEW, HELD, IN = "_new", "_held_", "_in_"  # in a resumed pass: rows to compute, what the last former row has; inputs
PARTS = {"series": [RUN], "session": [RUN_OF_SESSION], "slot": [RUN, POSITION, SLOT]}


def indicators(bars: pl.DataFrame, wanted: Wanted) -> pl.DataFrame:
    """The bars with a column for each value of each indicator.

    Parameters
    ----------
    bars : DataFrame
        The columns of `views.BARS_VIEW` that the indicators read, and what tells series apart (`series.SERIES`); in order
        of `ts` within each series, each `ts` once. `relative_volume` also needs `ordinal` and `slot` (`SessionGrid.place`).
    wanted : Indicator, str, or iterable of these
        Indicators, or how configuration files spell them.

    Returns
    -------
    DataFrame
        The bars in their order, and Float64 columns (of your own indicators: what their expressions give). No value
        depends on a later row.

    Raises
    ------
    ParameterError
        Two indicators give a column of one name, or one that the bars have.
    SchemaError
        A column is missing.
    SortednessError
        The rows of a series are out of order.
    """
    wanted = _parsed(wanted)
    return begin(bars, wanted).drop(_hidden(wanted))


def begin(bars: pl.DataFrame, wanted: Wanted) -> pl.DataFrame:
    """What `indicators` gives, and the columns that `extend` needs to go on (their names begin with `_`)."""
    wanted = _checked(bars, wanted)
    rows = _prepared(bars, wanted)
    return restore_order(_computed(rows, wanted)).select(*bars.columns, *_hidden(wanted), *_columns(wanted))


def extend(bars: pl.DataFrame, former: pl.DataFrame, wanted: Wanted) -> pl.DataFrame:
    """The rows that `begin(bars, wanted)` has beyond `former`, from these bars alone.

    After a correction or a late bar, leave out of `former` that series' rows from its `ts` on: whatever comes after it
    is computed again. A series that `former` does not have is computed whole.

    Parameters
    ----------
    bars : DataFrame
        As for `indicators`. The whole of each series, or its last `lookback(wanted)` bars up to the last former one and
        all that follow; only the whole will do while a recursive value of the last former row is null.
    former : DataFrame
        Rows of `begin` or `extend` of the same indicators, whose bars are still the same. Only the last row of each series is read.

    Returns
    -------
    DataFrame
        The columns of `begin`, rows of `bars` later than the last former row of their series. Equal to a full pass: running
        sums and averages go on from the very number, window means and deviations within 1e-12 relative.

    Raises
    ------
    ParameterError
        The last former row of a series is not among its bars, or `former` lacks a column that it should have.
    """
    wanted = _checked(bars, wanted)
    rows = _prepared(bars, wanted)
    cut = _Cut.of(rows, _last_rows(former, wanted, series_key(bars)))
    near = [one for one in wanted if one.within != "slot"]
    made = _computed(cut.context(rows, near), near).filter(NEW)
    far = [one for one in wanted if one.within == "slot"]
    if far:
        made = made.hstack(_computed(cut.same_slots(rows), far).filter(NEW).select(_columns(far)))
    return restore_order(made).select(*bars.columns, *_hidden(wanted), *_columns(wanted))


def lookback(wanted: Wanted) -> int | None:
    """How many bars up to the last former one `extend` needs of each series; None: all of them.

    None also for what compares a slot with former sessions, which reaches back as many sessions as it names.
    """
    reaches = [None if one.within == "slot" else one.lookback for one in _parsed(wanted)]
    return None if None in reaches else max([1, *(reach for reach in reaches if reach is not None)])


@dataclass(frozen=True)
class _Cut:
    """Where the new rows of each run begin, and what the last former row of each run holds."""

    new: NDArray[np.bool_]
    starts: Ints
    first: Ints  # per run the first new row; the end of the run where none is new
    held: pl.DataFrame  # per run the last former row, nulls where there is none

    @classmethod
    def of(cls, rows: pl.DataFrame, last: pl.DataFrame) -> _Cut:
        runs = rows[RUN].to_numpy()
        starts = np.flatnonzero(np.diff(runs, prepend=-1))
        key = series_key(rows)
        held = rows[starts].select(key).join(last, on=key, how="left", maintain_order="left", nulls_equal=True)
        new = (rows["ts"] > held["ts"].gather(rows[RUN])).fill_null(value=True).to_numpy()
        first = np.append(starts[1:], rows.height)[: len(starts)] - np.bincount(runs[new], minlength=len(starts))
        cls._check_known(rows, starts, first, held)
        return cls(new, starts, first, held)

    @staticmethod
    def _check_known(rows: pl.DataFrame, starts: Ints, first: Ints, held: pl.DataFrame) -> None:
        before = rows["ts"].gather(np.maximum(first - 1, 0))
        known = held["ts"].is_null() | ((before == held["ts"]) & pl.Series(first > starts))
        if not known.all():
            at = held.filter(~known).row(0, named=True)
            raise ParameterError(
                f"former: its last row of {', '.join(str(at[name]) for name in series_key(held))} at {at['ts']} is not among "
                "the bars; valid: former rows whose bars are still there, and bars that reach back to them"
            )

    def context(self, rows: pl.DataFrame, wanted: Sequence[Indicator]) -> pl.DataFrame:
        """New rows after the former ones that windows reach back to, with `HELD` values at the last former one."""
        at = self._reached(rows.height, wanted)
        run = rows[RUN].gather(at)
        is_last = pl.Series(at == self.first[run.to_numpy()] - 1)
        values = self.held[run].select(pl.col(_recursive(wanted)).name.prefix(HELD))
        held = values.select(pl.when(pl.lit(is_last)).then(pl.all()))
        # Runs without a new row are gone, so the others are numbered anew.
        return rows[at].with_columns(run.rle_id().cast(pl.Int32), pl.Series(NEW, self.new[at]), *held.get_columns())

    def _reached(self, height: int, wanted: Sequence[Indicator]) -> Ints:
        begun = self.held.select(
            pl.all_horizontal(pl.col("ts").is_not_null(), pl.col(_recursive(wanted)).is_not_null())
        )
        reach = lookback(wanted)
        nearest = self.starts if reach is None else np.maximum(self.first - reach, self.starts)
        low = np.where(begun.to_series().to_numpy(), nearest, self.starts)
        ends = np.append(self.starts[1:], height)[: len(self.starts)]
        return _spans(np.where(self.first < ends, low, ends), ends)

    def same_slots(self, rows: pl.DataFrame) -> pl.DataFrame:
        """New rows and all earlier ones of their slots."""
        rows = rows.with_columns(pl.Series(NEW, self.new))
        key = PARTS["slot"]
        wanted = rows.filter(NEW).select(key).unique()
        near = rows.filter(pl.col(SLOT).is_in(wanted[SLOT].unique().implode()) | pl.col(SLOT).is_null())
        return near.join(wanted, on=key, how="semi", nulls_equal=True, maintain_order="left")


def _parsed(wanted: Wanted) -> list[Indicator]:
    return [Indicator.parse(one) for one in ([wanted] if isinstance(wanted, str | Indicator) else wanted)]


def _checked(bars: pl.DataFrame, wanted: Wanted) -> list[Indicator]:
    wanted = _parsed(wanted)
    check_columns(bars, ["ts", "session", *sorted({name for one in wanted for name in one.inputs})])
    names = [*bars.columns, *(name for one in wanted for name in one.columns)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ParameterError(
            f"indicators: more than one column would be called {', '.join(twice)}; valid: names that differ "
            "from each other and from the columns of the bars"
        )
    return wanted


def _prepared(bars: pl.DataFrame, wanted: Sequence[Indicator]) -> pl.DataFrame:
    rows = sort_bars(bars)
    if any(one.within != "series" for one in wanted):
        rows = with_sessions(rows)
    return number_places(rows) if any(one.within == "slot" for one in wanted) else rows


def _computed(rows: pl.DataFrame, wanted: Sequence[Indicator]) -> pl.DataFrame:
    """Rows with the recursive columns, the windows and the values."""
    parts = [(one, PARTS[indicator.within]) for indicator in wanted for one in indicator.running]
    rows = rows.with_columns(_contributions(rows, [one for one, _ in parts]))
    rows = rows.with_columns(
        *(one.fold(pl.col(IN + one.name)).forward_fill().over(part).alias(one.name) for one, part in parts),
        *(
            window.over(PARTS[indicator.within])
            for indicator in wanted
            if indicator.within != "slot"
            for window in indicator.windows
        ),
        *_along_slots(rows, [window for one in wanted if one.within == "slot" for window in one.windows]),
    )
    return rows.with_columns(
        value if indicator.running or indicator.windows else value.over(PARTS[indicator.within])
        for indicator in wanted
        for value in indicator.expressions
    )


def _along_slots(rows: pl.DataFrame, windows: Sequence[pl.Expr]) -> list[pl.Series]:
    """Windows over rows that stand slot by slot, with `CLOCK` so far apart from one slot to the next that none holds two."""
    # There are as many slots as days have bars, and a group for each would cost more than its few rows.
    if not windows:
        return []
    order = _slot_order(rows)
    apart = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in PARTS["slot"]).cum_sum()
    clock = apart.cast(pl.Int64) * (pl.col(SESSION_NUMBER).max() + MOST_BARS + 1) + pl.col(SESSION_NUMBER)
    needed = {name for one in windows for name in one.meta.root_names()} - {CLOCK}
    made = rows.select(*PARTS["slot"], SESSION_NUMBER, *needed)[order].with_columns(clock.alias(CLOCK)).select(windows)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return made[back].get_columns()


def _slot_order(rows: pl.DataFrame) -> Ints:
    position, slot = (rows[name].cast(pl.Int64).fill_null(-1).to_numpy() + 1 for name in (POSITION, SLOT))
    place = position * (slot.max(initial=0) + 1) + slot
    small = place.astype(np.uint16) if place.max(initial=0) < 2**16 else place  # numpy sorts those by radix
    return np.argsort(small, kind="stable")


def _contributions(rows: pl.DataFrame, running: Sequence[Running]) -> pl.DataFrame:
    """What each recursive column folds, as `IN` and its name."""
    same_run = pl.col(RUN) == pl.col(RUN).shift(1)
    seen = rows.with_columns(pl.when(same_run).then(pl.col("close").shift(1)).alias(BEFORE)) if running else rows
    made = seen.select(one.value.cast(pl.Float64).alias(IN + one.name) for one in running)
    warm = made.with_columns(_warmed(made[IN + one.name], rows[RUN], one.warmup) for one in running if one.warmup)
    if NEW not in rows.columns:
        return warm
    beside = pl.concat([made.select(pl.all().name.prefix("_all")), warm, rows], how="horizontal")
    return beside.select(_resumed(one) for one in running)


def _resumed(one: Running) -> pl.Expr:
    # The last former bar, which alone holds a value, stands for all before it.
    held = pl.col(HELD + one.name)
    begun = held.is_not_null().any().over(RUN)
    onward = pl.when(NEW).then(pl.col(f"_all{IN}{one.name}")).otherwise(held)
    return pl.when(begun).then(onward).otherwise(pl.col(IN + one.name)).alias(IN + one.name)


def _warmed(values: pl.Series, run: pl.Series, n: int) -> pl.Series:
    """Null until n of a run's values are there, then their mean, then the values; runs are numbered from 0."""
    numbers, runs = values.to_numpy(), run.to_numpy()
    valid = ~np.isnan(numbers)
    total = np.cumsum(valid)
    starts = np.flatnonzero(np.diff(runs, prepend=-1))
    have = total - (total[starts] - valid[starts])[runs]
    seeding, seeded = np.flatnonzero(valid & (have <= n)), np.flatnonzero(valid & (have == n))
    sums = np.bincount(runs[seeding], weights=numbers[seeding], minlength=len(starts))
    later = np.where(have > n, numbers, np.nan)
    later[seeded] = sums[runs[seeded]] / n
    return pl.Series(values.name, later, nan_to_null=True)


def _columns(wanted: Sequence[Indicator]) -> list[str]:
    return [name for one in wanted for name in one.columns]


def _recursive(wanted: Sequence[Indicator]) -> list[str]:
    return [one.name for indicator in wanted for one in indicator.running]


def _hidden(wanted: Sequence[Indicator]) -> list[str]:
    shown = set(_columns(wanted))
    return [name for name in _recursive(wanted) if name not in shown]


def _last_rows(former: pl.DataFrame, wanted: Sequence[Indicator], key: list[str]) -> pl.DataFrame:
    """The last row of each series: its `ts`, and the recursive columns."""
    kept = [*key, "ts", *_recursive(wanted)]
    missing = sorted(set(kept) - set(former.columns))
    if missing:
        raise ParameterError(
            f"former: lacks {', '.join(missing)}; valid: rows of `begin` or `extend` of the same indicators"
        )
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in key)
    ends = former.select(kept).filter(~same)
    return ends.sort("ts", maintain_order=True).unique(key, keep="last", maintain_order=True)


def _spans(low: Ints, high: Ints) -> Ints:
    """Every row number of the spans [low, high), in order."""
    lengths = high - low
    begins = np.cumsum(lengths) - lengths
    rows: Ints = np.arange(lengths.sum()) + np.repeat(low - begins, lengths)
    return rows
