"""Bars derived from vendor files beside the vendor's own coarser bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import engine
import polars as pl
from engine.grid import Align

from tests.vendor.files import CALENDARS

KEY = ["symbol", "price_type", "ts"]
PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
REGULAR = ("RTH", "ETH")


@dataclass(frozen=True)
class Fold:
    """Files of a finer interval, files of a coarser one, and on which axis they are compared.

    `fine` and `coarse` are patterns below `lean/`; `days` is the zone whose dates the finer files are cut by;
    `bars` is how many coarser bars both have.
    """

    fine: str
    base: str
    coarse: str
    target: str
    calendar: str
    bars: int
    days: str = "UTC"
    align: Align | None = None

    def __str__(self) -> str:
        return f"{self.fine.split('/*')[0]}-{self.base}-{self.target}"


def venue(calendar: str) -> str:
    """A calendar code, or the path of a calendar file of these tests."""
    return str(CALENDARS / calendar) if calendar.endswith(".toml") else calendar


def found(vendor: Path, pattern: str) -> list[Path]:
    """Files of a pattern below `lean/`, which must match some."""
    paths = sorted((vendor / "lean").glob(pattern))
    assert paths, pattern
    return paths


def ours(vendor: Path, fold: Fold) -> pl.DataFrame:
    """Bars derived from the finer files."""
    derived = [] if fold.base == fold.target else [fold.target]
    return bars(found(vendor, fold.fine), fold.calendar, fold.base, fold.align, derived).filter(
        (pl.col("interval") == fold.target) & (pl.col("origin") == "derived") & (pl.col("price_type") != "mid")
    )


def theirs(vendor: Path, fold: Fold) -> pl.DataFrame:
    """The vendor's bars, those within the regular sessions."""
    align = fold.align if fold.target != "1d" else None
    return bars(found(vendor, fold.coarse), fold.calendar, fold.target, align).filter(
        pl.col("segment").is_in(REGULAR) | (fold.target == "1d")
    )


def bars(
    paths: Sequence[Path], calendar: str, interval: str, align: Align | None = None, derived: Sequence[str] = ()
) -> pl.DataFrame:
    """Every bar of a load, as the `bars` table has them."""
    session = engine.load(paths, venue(calendar), interval=interval, derive=derived, align=align)
    return session.snapshot().tables()["bars"].sort(KEY)


def paired(have: pl.DataFrame, want: pl.DataFrame) -> pl.DataFrame:
    """Bars that both have; the vendor's values end in `_vendor`."""
    return have.join(want.select(*KEY, *VALUES, "size"), on=KEY, suffix="_vendor", maintain_order="left")


def unequal(pairs: pl.DataFrame, columns: Sequence[str] = PRICES) -> pl.DataFrame:
    """Pairs whose values differ in any of the columns."""
    return pairs.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_vendor")) for name in columns))


def left_over(have: pl.DataFrame, want: pl.DataFrame) -> pl.DataFrame:
    """Bars of `have` that `want` lacks."""
    return have.join(want, on=KEY, how="anti")


def of_the_same_days(want: pl.DataFrame, have: pl.DataFrame, zone: str) -> pl.DataFrame:
    """The vendor's bars of the days and series that ours are of."""
    day = pl.col("ts").dt.convert_time_zone(zone).dt.date().alias("day")
    held = have.select("symbol", "price_type", day).unique()
    return want.with_columns(day).join(held, on=["symbol", "price_type", "day"], how="semi").drop("day")
