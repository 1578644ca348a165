"""The usual volume of each slot as it is known on a session's morning, and bars held against it. Pure: frame in, frame out.

`indicator_passes.indicators` computes it by a window over all sessions of a slot. While one session runs, what came before it
does not change: `slot_baseline` reads that once, and each new bar costs a look-up (`compare_to_baseline`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import reduce

import polars as pl

from engine.derive.indicators import Indicator
from engine.derive.series import POSITION, SESSION_NUMBER, SLOT, number_places, series_key
from engine.derive.session_baseline import slot_averages


def slot_baseline(bars: pl.DataFrame, before: dt.date, wanted: Sequence[Indicator]) -> pl.DataFrame:
    """What indicators of the kind of `relative_volume` compare bars of a session with.

    Parameters
    ----------
    bars : DataFrame
        As for `history.per_slot`; bars of the session and of later ones may be there, they are not read.
    before : date
        The session.
    wanted : sequence of Indicator
        With `sessions`.

    Returns
    -------
    DataFrame
        One row per series and slot that bars before that session have: what tells series apart, `_position`, `_slot`, `_number`
        (Int64, how many sessions of the series came before), and the window of each indicator under its name.
    """
    key = [*series_key(bars), POSITION, SLOT]
    known = bars.filter(pl.col("session") < before)
    frames = [_window(known, before, one, key) for one in wanted]
    windows = reduce(lambda one, other: one.join(other, on=key, how="full", coalesce=True, nulls_equal=True), frames)
    numbers = known.group_by(key[:-2]).agg(pl.col("session").n_unique().cast(pl.Int64).alias(SESSION_NUMBER))
    return windows.join(numbers, on=key[:-2], how="left", nulls_equal=True)


def compare_to_baseline(bars: pl.DataFrame, baseline: pl.DataFrame, wanted: Sequence[Indicator]) -> pl.DataFrame:
    """The bars with the columns of these indicators; each series' bars are of the session that its rows of `baseline` are for."""
    rows = number_places(bars)
    near = baseline.filter(pl.col(SLOT).is_in(rows[SLOT].unique().implode()))
    beside = rows.join(
        near, on=[*series_key(bars), POSITION, SLOT], how="left", maintain_order="left", nulls_equal=True
    )
    return bars.with_columns(beside.select(value for one in wanted for value in one.expressions).get_columns())


def _window(known: pl.DataFrame, before: dt.date, one: Indicator, key: list[str]) -> pl.DataFrame:
    slots = slot_averages(known, before, one.sessions or 1).rename({"position": POSITION, "slot": SLOT})
    return slots.select(*key, pl.col("average_volume").alias(one.windows[0].meta.output_name()))
