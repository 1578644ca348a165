"""Numbers since 1970 to instants in UTC: in the stated unit, else in the only one that fits years of today."""

from __future__ import annotations

import re

import polars as pl

from engine.errors import SourceError
from engine.schema import TS_NS
from engine.sources.options import UNIT_NS
from engine.sources.stamp_types import Reading, Stamps, as_stamps

EARLIEST_S, LATEST_S = 315_532_800, 4_102_444_800  # 1980 and 2100: years for which a unit is inferred
MAX_NS = 2**63 - 1
MINUTE_NS = 60 * UNIT_NS["s"]
COARSEST_NS = 100 * UNIT_NS["s"]  # of a number's last digit, for bars to be told apart

NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?|\d(?:\.\d+)?[eE]\+?\d+")


def numbers_to_utc(cells: pl.Series, reading: Reading) -> Stamps:
    """UTC instants of numbers in the stated unit, else the inferred (noted; null outside 1980-2100); SourceError if unfit."""
    if reading.unit is not None:
        check_unit(cells, reading, reading.unit)
        return as_stamps(scale_to_instants(cells, UNIT_NS[reading.unit], inferred=False))
    unit = infer_unit(cells, reading)
    ts = scale_to_instants(cells, UNIT_NS[unit], inferred=True)
    return as_stamps(ts, None, f"{reading.column}: read as {unit} since 1970")


def check_unit(cells: pl.Series, reading: Reading, unit: str) -> None:
    """SourceError if the median is outside 1980-2100 in the stated unit but inside in another; else nothing."""
    typical, fitting = fitting_unit(cells)
    is_far = typical is not None and not is_recent(typical, unit)
    if fitting is not None and is_far:
        raise SourceError(
            reading.path,
            f"{reading.column}: {typical:.0f} in {unit} is no time of 1980-2100, in {fitting} it is; "
            f"give --unit {fitting}, or no --unit",
        )


def fitting_unit(cells: pl.Series) -> tuple[float | None, str | None]:
    """Median of the numbers (None without any), and the first of s, ms, us, ns that puts it in 1980-2100, else None."""
    typical = cells.cast(pl.Float64, strict=False).median()
    if not isinstance(typical, int | float):
        return None, None
    return typical, next((unit for unit in UNIT_NS if is_recent(typical, unit)), None)


def is_recent(number: float, unit: str) -> bool:
    """Whether a number since 1970 in this unit lies from 1980 to before 2100."""
    return EARLIEST_S <= number * UNIT_NS[unit] / UNIT_NS["s"] < LATEST_S


def infer_unit(cells: pl.Series, reading: Reading) -> str:
    """First of s, ms, us, ns that puts the median in 1980-2100; `ns` without numbers; SourceError if none does."""
    typical, fitting = fitting_unit(cells)
    if typical is None or fitting is not None:
        return fitting or "ns"
    excel = 20_000 <= typical < 80_000  # noqa: PLR2004  # days since 1900, of 1954 to 2119
    mend = (
        "looks like a spreadsheet's day number: give the column a format such as yyyy-mm-dd hh:mm:ss there "
        "and save it again"
        if excel
        else "give --unit s, ms, us or ns"
    )
    raise SourceError(reading.path, f"{reading.column}: {typical:g} is no time of 1980-2100 in any unit; {mend}")


def scale_to_instants(cells: pl.Series, factor: int, *, inferred: bool) -> pl.Series:
    """Instants of numbers x `factor` ns; null outside 1980-2100 if `inferred`, else outside Int64 range."""
    value = pl.lit(cells)
    low, high = (EARLIEST_S, LATEST_S) if inferred else (-(MAX_NS // UNIT_NS["s"]), MAX_NS // UNIT_NS["s"])
    fits = value.cast(pl.Float64).is_between(
        low * (UNIT_NS["s"] // factor), high * (UNIT_NS["s"] // factor), closed="left"
    )
    # Decimals are split off first: nanoseconds since 1970 need more digits than a float has.
    whole = value.cast(pl.Int64, strict=False)
    fraction = ((value - whole) * factor).round(0).cast(pl.Int64) if cells.dtype.is_float() else pl.lit(0)
    return pl.select(pl.when(fits).then(whole * factor + fraction).cast(TS_NS)).to_series()


def number_text_to_utc(cells: pl.Series, reading: Reading) -> Stamps:
    """UTC instants of text of whole, decimal or scientific numbers since 1970, decimals to the nanosecond; else null.

    Raises
    ------
    SourceError
        The unit is not known, or scientific numbers were rounded so that stamps are lost.
    """
    plain = cells.cast(pl.Int64, strict=False)
    if plain.null_count() == cells.null_count():
        return numbers_to_utc(plain, reading)
    cells = cells.str.replace(",", ".", literal=True)
    if cells.str.contains(r"[eE]").any():
        numbers = cells.cast(pl.Float64, strict=False)
        found = numbers_to_utc(numbers, reading)
        check_rounding(cells, found.ts, reading)
        return found
    parts = cells.str.extract_groups(r"^(-?)(\d{1,19})(?:\.(\d+))?$").struct
    whole = parts.field("2").cast(pl.Int64, strict=False)
    whole = whole.zip_with(parts.field("1") != "-", -whole)
    decimals = parts.field("3")
    found = numbers_to_utc(whole, reading)
    if decimals.null_count() == len(decimals):
        return found
    factor = UNIT_NS[reading.unit or infer_unit(whole, reading)]
    billionths = decimals.fill_null("0").str.pad_end(9, "0").str.head(9).cast(pl.Int64)
    part = billionths * (factor // 1000) // (UNIT_NS["s"] // 1000)
    part = part.zip_with(parts.field("1") != "-", -part)
    return Stamps((found.ts.to_physical() + part).cast(TS_NS), found.refused, notes=found.notes)


def check_rounding(cells: pl.Series, ts: pl.Series, reading: Reading) -> None:
    """SourceError if scientific numbers have so few digits that stamps are rounded: 1.70421E+12; else nothing."""
    parts = cells.str.extract_groups(r"^\d(?:\.(\d+))?[eE]\+?(\d+)$").struct
    digits = parts.field("1").fill_null("").str.len_chars().cast(pl.Int64)
    last = (parts.field("2").cast(pl.Int64, strict=False) - digits).min()  # power of ten of the last digit
    unit = reading.unit or infer_unit(cells.cast(pl.Float64, strict=False), reading)
    finest = 10 ** int(last) * UNIT_NS[unit] if isinstance(last, int) and last >= 0 else 0
    is_even = (ts.drop_nulls().to_physical() % MINUTE_NS == 0).all()
    if finest > COARSEST_NS or (finest > UNIT_NS["s"] and not is_even):
        sample = cells.drop_nulls().first()
        raise SourceError(
            reading.path,
            f"{reading.column}: received {sample!r}, a number rounded to {finest // UNIT_NS['s']} s, so stamps are lost; "
            "write all its digits (in a spreadsheet: the number format 0)",
        )
