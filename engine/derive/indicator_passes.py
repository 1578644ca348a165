"""Indicators over bars: one pass over all of them, or over the bars after an earlier pass. Pure: frame in, frame out.

1. `begin` sorts the bars by series (`series.sort_bars`) and computes them (`compute_columns`): the contribution of
   each bar to the recursive columns (`contributions`, warmed up by `seed_with_mean`), those columns, the windows, and then the
   values.
2. `extend` finds where the new bars of each series begin (`NewRows`), adds as many earlier ones as a window reaches
   back (`context`, `same_slots`), lets the last computed bar stand for all before it (`resumed`), and computes only
   those rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.arguments import check_arguments
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
from engine.keys import Ints, expand_ranges

Selection = Indicator | str | Iterable[Indicator | str]

# In a resumed pass: rows to compute, prefix of the values at the last computed row; prefix of inputs.
NEW, HELD, IN = "_new", "_held_", "_in_"
PARTS = {"series": [RUN], "session": [RUN_OF_SESSION], "slot": [RUN, POSITION, SLOT]}


@check_arguments("bars", "selected")
def indicators(bars: pl.DataFrame, selected: Selection) -> pl.DataFrame:
    """Bars in their order with the indicators' output columns added; no value depends on a later row; unsorted series raise.

    Parameters
    ----------
    bars : DataFrame
        The columns of `views.BARS_VIEW` that the indicators read, and the columns of the series (`series.SERIES`);
        in order of `ts` within each series, each `ts` once. `relative_volume` also needs `ordinal` and `slot`
        (`SessionGrid.place`).
    selected : Indicator, str, or iterable of these
        Indicators, or their spelling in configuration files.

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
    selected = parse_selection(selected)
    return begin(bars, selected).drop(hidden_columns(selected))


def begin(bars: pl.DataFrame, selected: Selection) -> pl.DataFrame:
    """`indicators` in full plus the hidden recursive columns (names begin with `_`) that `extend` continues from."""
    selected = check_selection(bars, selected)
    rows = number_rows(bars, selected)
    computed = restore_order(compute_columns(rows, selected))
    return computed.select(*bars.columns, *hidden_columns(selected), *output_columns(selected))


def extend(bars: pl.DataFrame, former: pl.DataFrame, selected: Selection) -> pl.DataFrame:
    """Rows of `begin` after each series' last row in `former` (new series: all), from its state; ParameterError if it is gone.

    After a correction or a late bar, leave out of `former` that series' rows from its `ts` on: all later rows are
    computed again. A series that `former` does not have is computed whole.

    Parameters
    ----------
    bars : DataFrame
        As for `indicators`. All bars of each series, or the last `lookback(selected)` up to the last row of `former`
        and all that follow; all bars are needed while a recursive value of that row is null.
    former : DataFrame
        Rows of `begin` or `extend` of the same indicators, whose bars are still the same. Only the last row of each
        series is read.

    Returns
    -------
    DataFrame
        The columns of `begin`, rows of `bars` later than the last row of `former` of their series. Equal to a full
        pass: running sums and averages exactly, window means and deviations within 1e-12 relative.

    Raises
    ------
    ParameterError
        The last row of a series in `former` is not among its bars, or `former` lacks a column that it should have.
    """
    selected = check_selection(bars, selected)
    rows = number_rows(bars, selected)
    new_rows = NewRows.of(rows, last_rows(former, selected, series_key(bars)))
    by_time = [one for one in selected if one.within != "slot"]
    computed = compute_columns(new_rows.context(rows, by_time), by_time).filter(NEW)
    by_slot = [one for one in selected if one.within == "slot"]
    if by_slot:
        values = compute_columns(new_rows.same_slots(rows), by_slot).filter(NEW)
        computed = computed.hstack(values.select(output_columns(by_slot)))
    return restore_order(computed).select(*bars.columns, *hidden_columns(selected), *output_columns(selected))


def lookback(selected: Selection) -> int | None:
    """Most bars up to the last computed one that `extend` needs per series (at least 1); None (all) if any is unbounded or per slot.

    None also for indicators within a slot, whose windows count sessions.
    """
    reaches = [None if one.within == "slot" else one.lookback for one in parse_selection(selected)]
    return None if None in reaches else max([1, *(reach for reach in reaches if reach is not None)])


@dataclass(frozen=True)
class NewRows:
    """Rows later than an earlier pass, per run of `series.sort_bars`, with the state that the pass ended in.

    Attributes
    ----------
    new : array of bool
        Rows to compute.
    starts, first : array of int
        First row of each run, and its first new row; the end of the run where none is new.
    state : DataFrame
        Per run the last computed row, nulls where there is none.
    """

    new: NDArray[np.bool_]
    starts: Ints
    first: Ints
    state: pl.DataFrame

    @classmethod
    def of(cls, rows: pl.DataFrame, last: pl.DataFrame) -> NewRows:
        """Mark rows later than their series' row in `last` (none: all rows); ParameterError when that row is not among `rows`."""
        runs = rows[RUN].to_numpy()
        starts = np.flatnonzero(np.diff(runs, prepend=-1))
        key = series_key(rows)
        state = rows[starts].select(key).join(last, on=key, how="left", maintain_order="left", nulls_equal=True)
        new = (rows["ts"] > state["ts"].gather(rows[RUN])).fill_null(value=True).to_numpy()
        first = np.append(starts[1:], rows.height)[: len(starts)] - np.bincount(runs[new], minlength=len(starts))
        before = rows["ts"].gather(np.maximum(first - 1, 0))
        has_bar = state["ts"].is_null() | ((before == state["ts"]) & pl.Series(first > starts))
        if not has_bar.all():
            at = state.filter(~has_bar).row(0, named=True)
            raise ParameterError(
                f"former: its last row of {', '.join(str(at[name]) for name in series_key(state))} at {at['ts']} is "
                "not among the bars; valid: former rows whose bars are still there, and bars that reach back to them"
            )
        return cls(new, starts, first, state)

    def context(self, rows: pl.DataFrame, selected: Sequence[Indicator]) -> pl.DataFrame:
        """Of runs with new rows: these, earlier ones windows reach (no state: all); flag `NEW`, values `_held_*`."""
        recursive = pl.col(recursive_columns(selected))
        has_state = self.state.select(pl.all_horizontal(pl.col("ts").is_not_null(), recursive.is_not_null()))
        reach = lookback(selected)
        nearest = self.starts if reach is None else np.maximum(self.first - reach, self.starts)
        low = np.where(has_state.to_series().to_numpy(), nearest, self.starts)
        ends = np.append(self.starts[1:], rows.height)[: len(self.starts)]
        low = np.where(self.first < ends, low, ends)
        at = expand_ranges(low, ends - low)
        run = rows[RUN].gather(at)
        is_last = pl.Series(at == self.first[run.to_numpy()] - 1)
        values = self.state[run].select(recursive.name.prefix(HELD))
        state = values.select(pl.when(pl.lit(is_last)).then(pl.all()))
        # Runs without a new row are left out, so the others are renumbered.
        return rows[at].with_columns(run.rle_id().cast(pl.Int32), pl.Series(NEW, self.new[at]), *state.get_columns())

    def same_slots(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All rows of the (series, position, slot) that a new row has, old and new, `NEW` marking the new ones."""
        rows = rows.with_columns(pl.Series(NEW, self.new))
        key = PARTS["slot"]
        slots = rows.filter(NEW).select(key).unique()
        candidates = rows.filter(pl.col(SLOT).is_in(slots[SLOT].unique().implode()) | pl.col(SLOT).is_null())
        return candidates.join(slots, on=key, how="semi", nulls_equal=True, maintain_order="left")


def parse_selection(selected: Selection) -> list[Indicator]:
    """List of Indicators from one, a text or an iterable of both; texts are parsed, ParameterError if unknown."""
    return [Indicator.parse(one) for one in ([selected] if isinstance(selected, str | Indicator) else selected)]


def check_selection(bars: pl.DataFrame, selected: Selection) -> list[Indicator]:
    """Parsed indicators; SchemaError if bars lack an input, `ts`, `session`; ParameterError if a column exists or comes twice."""
    selected = parse_selection(selected)
    check_columns(bars, ["ts", "session", *sorted({name for one in selected for name in one.inputs})])
    names = [*bars.columns, *(name for one in selected for name in one.columns)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ParameterError(
            f"indicators: more than one column would be called {', '.join(twice)}; valid: names that differ "
            "from each other and from the columns of the bars"
        )
    return selected


def number_rows(bars: pl.DataFrame, selected: Sequence[Indicator]) -> pl.DataFrame:
    """Bars sorted by series with run numbers; session numbers added if an indicator is not per series, places if one is per slot."""
    rows = sort_bars(bars)
    if any(one.within != "series" for one in selected):
        rows = with_sessions(rows)
    return number_places(rows) if any(one.within == "slot" for one in selected) else rows


def compute_columns(rows: pl.DataFrame, selected: Sequence[Indicator]) -> pl.DataFrame:
    """Add recursive columns, then window columns, then output columns of the indicators to numbered rows."""
    parts = [(one, PARTS[indicator.within]) for indicator in selected for one in indicator.running]
    rows = rows.with_columns(contributions(rows, [one for one, _ in parts]))
    rows = rows.with_columns(
        *(one.fold(pl.col(IN + one.name)).forward_fill().over(part).alias(one.name) for one, part in parts),
        *(
            window.over(PARTS[indicator.within])
            for indicator in selected
            if indicator.within != "slot"
            for window in indicator.windows
        ),
        *slot_windows(rows, [window for one in selected if one.within == "slot" for window in one.windows]),
    )
    return rows.with_columns(
        value if indicator.running or indicator.windows else value.over(PARTS[indicator.within])
        for indicator in selected
        for value in indicator.expressions
    )


def slot_windows(rows: pl.DataFrame, windows: Sequence[pl.Expr]) -> list[pl.Series]:
    """Window expressions over numbered `rows`, each within one slot of a series, over sessions by `CLOCK`; in row order."""
    # One pass over rows sorted by slot, whose `CLOCK` jumps further from slot to slot than a window reaches. A group
    # per slot would cost more than its few rows.
    if not windows:
        return []
    position, slot = (rows[name].cast(pl.Int64).fill_null(-1).to_numpy() + 1 for name in (POSITION, SLOT))
    place = position * (slot.max(initial=0) + 1) + slot
    small = place.astype(np.uint16) if place.max(initial=0) < 2**16 else place  # numpy sorts those by radix
    order = np.argsort(small, kind="stable")
    apart = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in PARTS["slot"]).cum_sum()
    clock = apart.cast(pl.Int64) * (pl.col(SESSION_NUMBER).max() + MOST_BARS + 1) + pl.col(SESSION_NUMBER)
    needed = {name for one in windows for name in one.meta.root_names()} - {CLOCK}
    values = (
        rows.select(*PARTS["slot"], SESSION_NUMBER, *needed)[order].with_columns(clock.alias(CLOCK)).select(windows)
    )
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return values[back].get_columns()


def contributions(rows: pl.DataFrame, running: Sequence[Running]) -> pl.DataFrame:
    """Columns `_in_<name>`: each row's contribution, warmed up (nulls, then the mean); in a resumed run the state, then raw values."""
    same_run = pl.col(RUN) == pl.col(RUN).shift(1)
    with_before = rows.with_columns(pl.when(same_run).then(pl.col("close").shift(1)).alias(BEFORE)) if running else rows
    inputs = with_before.select(one.value.cast(pl.Float64).alias(IN + one.name) for one in running)
    warm = inputs.with_columns(
        seed_with_mean(inputs[IN + one.name], rows[RUN], one.warmup) for one in running if one.warmup
    )
    if NEW not in rows.columns:
        return warm
    joined = pl.concat([inputs.select(pl.all().name.prefix("_all")), warm, rows], how="horizontal")
    return joined.select(resumed(one) for one in running)


def resumed(one: Running) -> pl.Expr:
    """Input of a recursive column: in a run with a state, that state at its last computed bar, then raw inputs; else warmed up."""
    state = pl.col(HELD + one.name)
    has_state = state.is_not_null().any().over(RUN)
    onward = pl.when(NEW).then(pl.col(f"_all{IN}{one.name}")).otherwise(state)
    return pl.when(has_state).then(onward).otherwise(pl.col(IN + one.name)).alias(IN + one.name)


def seed_with_mean(values: pl.Series, run: pl.Series, n: int) -> pl.Series:
    """Per run (numbered 0, 1, ... in row order): null before the nth value, there the mean of the first n, then unchanged."""
    numbers, runs = values.to_numpy(), run.to_numpy()
    valid = ~np.isnan(numbers)
    total = np.cumsum(valid)
    starts = np.flatnonzero(np.diff(runs, prepend=-1))
    count = total - (total[starts] - valid[starts])[runs]
    seeding, seeded = np.flatnonzero(valid & (count <= n)), np.flatnonzero(valid & (count == n))
    sums = np.bincount(runs[seeding], weights=numbers[seeding], minlength=len(starts))
    later = np.where(count > n, numbers, np.nan)
    later[seeded] = sums[runs[seeded]] / n
    return pl.Series(values.name, later, nan_to_null=True)


def output_columns(selected: Sequence[Indicator]) -> list[str]:
    """Names of the output columns of all indicators, in order, without hidden ones."""
    return [name for one in selected for name in one.columns]


def recursive_columns(selected: Sequence[Indicator]) -> list[str]:
    """Names of the recursive (`running`) columns of all indicators, in order, hidden and shown."""
    return [one.name for indicator in selected for one in indicator.running]


def hidden_columns(selected: Sequence[Indicator]) -> list[str]:
    """Recursive columns that are not output columns: `begin` returns them, `indicators` drops them."""
    shown = set(output_columns(selected))
    return [name for name in recursive_columns(selected) if name not in shown]


def last_rows(former: pl.DataFrame, selected: Sequence[Indicator], key: list[str]) -> pl.DataFrame:
    """Per series its latest row in `former`: key, `ts`, recursive columns; ParameterError if one of these columns is missing."""
    needed = [*key, "ts", *recursive_columns(selected)]
    missing = sorted(set(needed) - set(former.columns))
    if missing:
        raise ParameterError(
            f"former: lacks {', '.join(missing)}; valid: rows of `begin` or `extend` of the same indicators"
        )
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in key)
    ends = former.select(needed).filter(~same)
    return ends.sort("ts", maintain_order=True).unique(key, keep="last", maintain_order=True)
