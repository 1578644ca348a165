"""Axes, session breaks and captions shared by the plots of one symbol and of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from engine.report.plot_style import WIDTH, ThemeColours, alt
from engine.report.session_axis import Axis

Chart = Any  # Altair's layered, concatenated and simple charts have no common public type that chains
X = Any  # an encoding; what it takes is generated from a schema


def caption(*parts: str) -> str:
    """Join the nonempty notes with ` · ` into one line."""
    return " · ".join(one for one in parts if one)


def session_x(axis: Axis, zone: str, *, labels: bool = True) -> X:
    """Return an Altair encoding of column `x` over the axis length, date (and time) ticks; `labels=False`: no text."""
    ticks = axis.ticks(zone)
    texts = {f"{x:.6g}": text for x, text in ticks.iter_rows()}
    return alt.X(
        "x",
        type="quantitative",
        title=None,
        scale=alt.Scale(domain=[0, axis.length], nice=False, zero=False, padding=0),
        axis=alt.Axis(
            values=ticks["x"].to_list(),
            grid=False,
            labels=labels,
            labelAlign="left",
            labelFlush=False,
            labelExpr=tick_label_expression(texts),
        ),
    )


def tick_label_expression(texts: Mapping[str, str]) -> str:
    """Return a Vega expression mapping a tick value (6 significant digits) to its text, else to an empty label."""
    # Texts of our own making: dates and times of day.
    cases = ", ".join(f"'{key}': '{text}'" for key, text in texts.items())
    return f"({{{cases}}})[format(datum.value, '.6~g')] || ''"


def break_marks(axis: Axis, x: X, colours: ThemeColours) -> Chart | None:
    """Return a chart of rules where sessions begin (solid) and other segments begin (dotted); None without breaks."""
    breaks = axis.breaks()
    if breaks.is_empty():
        return None
    dash = alt.StrokeDash(
        "kind", type="nominal", legend=None, scale=alt.Scale(domain=["session", "pause"], range=[[1, 0], [2, 3]])
    )
    return alt.Chart(breaks).mark_rule(color=colours.line, strokeWidth=1).encode(x=x, strokeDash=dash)


def bar_width(axis: Axis) -> float:
    """Return the width of a bar in pixels: 70 % of a place, at least 1 and at most 12."""
    return max(min(0.7 * WIDTH / max(axis.length, 1), 12), 1)


def day_x(minutes: pl.Series, step: int) -> X:
    """Return an encoding of column `minute` up to its maximum plus `step`, with about 14 HH:MM labels at most."""
    low, high = int(minutes.min() or 0), int(minutes.max() or 0) + step  # type: ignore[arg-type]
    every = next((one for one in (5, 15, 30, 60, 120, 180, 240) if (high - low) / one <= 14), 480)  # noqa: PLR2004 - labels that fit
    values = list(range(-(-low // every) * every, high + 1, every))
    told = "format(floor((datum.value + 2880) % 1440 / 60), '02') + ':' + format((datum.value + 2880) % 60, '02')"
    return alt.X(
        "minute",
        type="quantitative",
        title=None,
        scale=alt.Scale(domain=[low, high], nice=False, zero=False, padding=0),
        axis=alt.Axis(values=values, labelExpr=told, grid=False, labelFlush=False),
    )


def clock_text() -> pl.Expr:
    """Return an expression: column `minute` modulo a day as HH:MM."""
    minute = pl.col("minute").cast(pl.Int64) % 1_440
    return pl.format("{}:{}", (minute // 60).cast(pl.String).str.zfill(2), (minute % 60).cast(pl.String).str.zfill(2))


def close_steps(rows: pl.DataFrame, step: int, values: Sequence[str]) -> pl.DataFrame:
    """Return rows (ascending by minute) plus, after each run, its last values at its end, then nulls: lines break."""
    ends = rows.filter((pl.col("minute").shift(-1) != pl.col("minute") + step).fill_null(value=True))
    untold = [pl.lit(None, pl.String).alias(name) for name in ("time",) if name in rows.columns]
    closing = ends.with_columns(pl.col("minute") + step, *untold)
    nothing = closing.with_columns(
        pl.col("minute") + step / 100, *(pl.lit(None, pl.Float64).alias(name) for name in values)
    )
    return pl.concat([rows, closing, nothing], how="vertical_relaxed").sort("minute", maintain_order=True)
