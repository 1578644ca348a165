"""Series whose bars are those of another symbol in another unit (pence for pounds, hundreds for shares). Pure: frame in, frame out.

Of one series in one session nothing says in which unit it is. Where a feed has the same bars under another name, the ratio says
that one of the two is in another unit; where it has them several times, the unit of most of these is the right one.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from engine.checks.check import SERIES, JudgeInput
from engine.schema import TS, Schema, empty

FEWEST_MOVES = 10  # of the closes that are compared: prices that stand have the same form in every series
SAME_FORM = 1e-9  # of the sum of weighted logarithms
EXACT = {"level": 1e-6, "size": 1e-4}  # by which the logarithm of a ratio may differ from a power of ten
SHOWN = 3
# `of`: prices (level) or volumes (size); `power` of ten against the series `others`, of which `alike` have one unit.
COPIES: Schema = {
    **SERIES,
    "of": pl.String(),
    "power": pl.Int64(),
    "session": pl.Date(),
    "ts": TS,
    "sessions": pl.UInt32(),
    "bars": pl.Int64(),
    "alike": pl.UInt32(),
    "others": pl.List(pl.String()),
}
KEY = list(SERIES)

Row = dict[str, Any]


def rescaled_copies(sums: pl.DataFrame) -> pl.DataFrame:
    """Return `COPIES`: series that are, bar by bar, a power of ten of those of other symbols; prices first, then volumes.

    Parameters
    ----------
    sums : DataFrame of `session_sums.SUMS`
        Compared are sessions of one date with equally many bars, whose sampled closes have the same form and 10 moves.
    """
    formed = sums.filter((pl.col("moves") >= FEWEST_MOVES) & pl.col("form").is_finite()).sort(
        "interval", "session", "bars", "form", *KEY
    )
    if formed.is_empty():
        return empty(COPIES)
    beside = ["interval", "session", "bars"]
    is_new = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in beside)
    is_new |= (pl.col("form") - pl.col("form").shift()).abs() > SAME_FORM
    grouped = formed.with_columns(is_new.fill_null(value=True).cum_sum().alias("group"))
    several = grouped.filter(pl.col("symbol").n_unique().over("group") > 1)
    prices = copies_of(several, "level", ["group"])
    # Volumes are compared among series whose prices have one unit.
    unit = pl.col("level").round(6).alias("unit")
    volumes = copies_of(several.with_columns(unit), "size", ["group", "unit"])
    return pl.concat([prices, volumes])


def rescaled_copies_of(measured: JudgeInput) -> pl.DataFrame:
    """Return `rescaled_copies` of all measurements, for the checks of prices and of volumes."""
    return rescaled_copies(measured.frames["session_sums"])


def copies_of(several: pl.DataFrame, name: str, group: list[str]) -> pl.DataFrame:
    """Return `COPIES` of one quantity (`level`, `size`) within groups of the same bars: what most of a group have is right."""
    value = pl.col(name).cast(pl.Float64)
    held = several.filter(pl.col(name).is_finite()).with_columns(value.round(4).alias("rounded"))
    count = pl.len().over([*group, "rounded"])
    # Of equally many the first by name.
    usual = value.sort_by(count, pl.col("symbol"), descending=[True, False]).first().over(group)
    off = value - usual
    power = off.round().cast(pl.Int64)
    is_usual = off.abs() <= EXACT[name]
    names = pl.col("symbol").filter(is_usual).unique().sort().over(group, mapping_strategy="join").alias("others")
    odd = held.with_columns(
        off.alias("off"), power.alias("power"), names, is_usual.sum().over(group).cast(pl.UInt32).alias("alike")
    ).filter((pl.col("power") != 0) & ((pl.col("off") - pl.col("power")).abs() <= EXACT[name]))
    return (
        odd.sort(*KEY, "session")
        .group_by(*KEY, "power", maintain_order=True)
        .agg(
            pl.col("session", "ts", "others").first(),
            pl.len().alias("sessions"),
            pl.col("bars").sum().cast(pl.Int64),
            pl.col("alike").min(),
        )
        .with_columns(pl.lit(name).alias("of"))
        .select(pl.col(column).cast(dtype) for column, dtype in COPIES.items())
    )


def copy_finding(row: Row, check: str) -> Row:
    """Build the finding of a row of `COPIES`: an error where two series or more have the other unit, else a warning."""
    factor = 10.0 ** row["power"]
    what, unit = ("Prices", "unit or decimal point") if row["of"] == "level" else ("Volumes", "unit")
    shown = ", ".join(row["others"][:SHOWN]) + (
        f" and {len(row['others']) - SHOWN} more" if len(row["others"]) > SHOWN else ""
    )
    is_sure = row["alike"] > 1
    which = f"another {unit}" if is_sure else f"one of the two is in another {unit}"
    return {
        **{name: row[name] for name in KEY},
        "check_name": check,
        "severity": "error" if is_sure else "warning",
        "session": row["session"],
        "start_ts": row["ts"],
        "count": row["bars"],
        "value": factor,
        "message": f"{what} of {row['sessions']:,} session{'s' if row['sessions'] > 1 else ''} are, bar by bar, x{factor:g} of those of {shown}: {which}.",
        "evidence": f"the closes of {row['bars']:,} bars move alike, by the same ratios in the same bars; confidence {'high' if is_sure else 'moderate'}",
        "remedy": f"divide by {factor:g}, or load them anew; one instrument under two names counts twice",
    }
