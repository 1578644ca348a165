"""Mean volume of each slot before a session, and indicators of the session's bars from it.

`indicator_passes.indicators` computes the means by a window over all sessions of a slot. While one session runs, the
sessions before it do not change: `slot_baseline` reads them once, and each new bar costs a look-up
(`compare_to_baseline`). Pure: frame in, frame out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import reduce

import polars as pl

from engine.derive.indicators import Indicator
from engine.derive.series import POSITION, SESSION_NUMBER, SLOT, number_places, series_key
from engine.derive.session_baseline import slot_averages


def slot_baseline(bars: pl.DataFrame, before: dt.date, selected: Sequence[Indicator]) -> pl.DataFrame:
    """Per series, slot: mean volume over `sessions` before a date of each indicator (at least one), and number of sessions before.

    Parameters
    ----------
    bars : DataFrame
        As for `session_baseline.slot_averages`; bars of the session and of later ones are not read.
    before : date
        The session.
    selected : sequence of Indicator
        Each with `sessions`: the mean is over so many.

    Returns
    -------
    DataFrame
        One row per series and slot that bars before that session have: the columns of the series, `_position`,
        `_slot`, `_number` (Int64, how many sessions of the series came before), and the window of each indicator under
        its name.
    """
    key = [*series_key(bars), POSITION, SLOT]
    earlier = bars.filter(pl.col("session") < before)
    frames = []
    for one in selected:
        slots = slot_averages(earlier, before, one.sessions or 1).rename({"position": POSITION, "slot": SLOT})
        frames.append(slots.select(*key, pl.col("average_volume").alias(one.windows[0].meta.output_name())))
    windows = reduce(lambda one, other: one.join(other, on=key, how="full", coalesce=True, nulls_equal=True), frames)
    numbers = earlier.group_by(key[:-2]).agg(pl.col("session").n_unique().cast(pl.Int64).alias(SESSION_NUMBER))
    return windows.join(numbers, on=key[:-2], how="left", nulls_equal=True)


def compare_to_baseline(bars: pl.DataFrame, baseline: pl.DataFrame, selected: Sequence[Indicator]) -> pl.DataFrame:
    """Bars with the indicators' output columns, from the baseline row of their series and slot; null where it has none.

    Parameters
    ----------
    bars : DataFrame
        Bars of the session that `baseline` is for.
    baseline : DataFrame
        From `slot_baseline`.
    selected : sequence of Indicator
        As `slot_baseline` took them.
    """
    rows = number_places(bars)
    candidates = baseline.filter(pl.col(SLOT).is_in(rows[SLOT].unique().implode()))
    joined = rows.join(
        candidates, on=[*series_key(bars), POSITION, SLOT], how="left", maintain_order="left", nulls_equal=True
    )
    return bars.with_columns(joined.select(value for one in selected for value in one.expressions).get_columns())
