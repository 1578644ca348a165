"""Convert time stamps as vendors write them to instants in UTC.

1. `column_to_utc` tells numbers, text and typed columns apart.
2. Numbers since 1970 need a unit (`epochs`).
3. Text is a number, a date, a time of day with the date from the file's name, or as `time_format` says (`date_text`;
   `spellings` has the tables). The first stamps of a file decide how it is spelled; what differs is unreadable.
4. A zone behind a stamp is read by `written_zones`; local time becomes UTC in `local_time`.
"""

from __future__ import annotations

import datetime as dt
import re

import polars as pl

from engine.errors import SourceError
from engine.schema import TS, TS_NS
from engine.sources.date_text import first_stamps, formats_that_read, formatted_to_utc, spelled_to_utc
from engine.sources.epochs import NUMBER, number_text_to_utc, numbers_to_utc
from engine.sources.local_time import dates_to_utc, local_to_utc
from engine.sources.spellings import spellings_of
from engine.sources.stamp_types import NAIVE, Reading, Stamps, as_stamps

DOUBTFUL = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)  # numbers since 1970 beyond it may be dates
DOTNET = re.compile(r"/Date\((-?\d+)(?:[-+]\d{4})?\)/")  # JSON of .NET
COMPACT = re.compile(r"(?:19|20)\d{2}(?:[01]\d|[0-3]\d{2})\d*")
COMPACT_SIZES = (7, 8, 12, 14, 17, 20, 23)  # of YYYYDDD, YYYYMMDD, and with HHMM, HHMMSS and decimals


def column_to_utc(cells: pl.Series, reading: Reading, series: pl.Series | None = None) -> Stamps:
    """UTC instants of text, numbers, Date, Time or Datetime; text not spelled as the first value is null.

    Parameters
    ----------
    cells : Series
        Text, integers or decimals since 1970, Date, Datetime with or without zone.
    reading : Reading
        How to read it.
    series : Series, optional
        Symbol (and side) of each row, in file order, for local times that the clock shows twice.

    Raises
    ------
    SourceError
        The spelling is not known, or the zone or unit is missing; the message names the option.
    """
    dtype = cells.dtype
    if dtype == pl.String:
        return text_to_utc(cells.str.strip_chars(), reading, series)
    if dtype.is_decimal() or (dtype.is_integer() and is_compact(cells, reading)):
        return text_to_utc(cells.cast(pl.String), reading, series)
    if dtype.is_numeric():
        return numbers_to_utc(cells, reading)
    return temporal_to_utc(cells, reading, series)


def temporal_to_utc(cells: pl.Series, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants of Date, Datetime or (with the day of the file's name) Time; SourceError for any other type."""
    dtype = cells.dtype
    if dtype == pl.Date:
        return dates_to_utc(cells.cast(NAIVE), reading)
    if dtype == pl.Time and reading.day is not None:
        midnight = pl.lit(dt.datetime.combine(reading.day, dt.time()), NAIVE)
        naive = pl.select(midnight + pl.lit(cells).cast(pl.Duration("ns"))).to_series()
        return local_to_utc(naive, reading, series)
    if not isinstance(dtype, pl.Datetime):
        raise SourceError(reading.path, f"{reading.column}: {dtype} is no time; valid: text, number, date, datetime")
    if dtype.time_zone is not None:
        instants = cells.dt.convert_time_zone("UTC")
        # Nanoseconds end in 2262: a bar's stamp beyond keeps its year, for which it is rejected.
        return as_stamps(instants if reading.is_bars and instants.dtype == TS else instants.cast(TS_NS))
    return local_to_utc(cells.cast(NAIVE), reading, series)


def is_compact(cells: pl.Series, reading: Reading) -> bool:
    """Whether the first number, without a stated unit, is a date's digits (`20240102`, `20240102093000`)."""
    if reading.unit is not None:
        return False
    text = str(cells.drop_nulls().first())
    return len(text) in COMPACT_SIZES and COMPACT.fullmatch(text) is not None and bool(spellings_of(text))


def text_to_utc(cells: pl.Series, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants by `time_format`, else as the first values are spelled: number, date, time of day; or raise.

    Raises
    ------
    SourceError
        No spelling is known, or the zone, the unit or the day is missing.
    """
    samples = first_stamps(cells)
    if not samples:
        return as_stamps(pl.Series([None], dtype=TS_NS).new_from_index(0, len(cells)))
    if reading.time_format is not None:
        return formatted_to_utc(cells, reading.time_format, reading, series)
    if DOTNET.fullmatch(samples[0]):
        return numbers_to_utc(cells.str.extract(rf"^{DOTNET.pattern}$").cast(pl.Int64, strict=False), reading)
    if NUMBER.fullmatch(samples[0]):
        return digits_to_utc(cells, samples[0], reading, series)
    found = spelled_to_utc(cells, reading, series)
    if found is not None:
        return found
    if any(":" in sample and spellings_of(f"2000-01-01 {sample}") for sample in samples):
        return times_of_day_to_utc(cells, reading, series)
    raise SourceError(
        reading.path,
        f"{reading.column}: received {samples[0]!r}, a spelling that is not known; valid: ISO 8601, numbers since 1970, "
        "or how it is spelled as --time-format, in the directives of strftime",
    )


def digits_to_utc(cells: pl.Series, sample: str, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants of dates (`YYYYMMDD[HHMM[SS[mmm]]]`, no unit) or numbers since 1970; SourceError if in doubt.

    Raises
    ------
    SourceError
        No unit puts the numbers into 1980-2100; or they are of 2030 and later, and may be dates.
    """
    may_be_date = reading.unit is None and bool(spellings_of(sample))
    if may_be_date and len(sample) in COMPACT_SIZES and COMPACT.fullmatch(sample):
        found = spelled_to_utc(cells, reading, series)
        if found is not None:
            return found
    try:
        found = number_text_to_utc(cells, reading)
    except SourceError:
        dates = spelled_to_utc(cells, reading, series) if may_be_date else None
        if dates is None:
            raise
        return dates
    middle = found.ts.median() if may_be_date else None
    forms = formats_that_read(cells) if isinstance(middle, dt.datetime) and middle >= DOUBTFUL else []
    if isinstance(middle, dt.datetime) and forms:
        raise SourceError(
            reading.path,
            f"{reading.column}: received {sample!r}, as a number since 1970 a time of {middle.year}, or a date; "
            f"give --time-format {forms[0]!r}, or --unit",
        )
    return found


def times_of_day_to_utc(cells: pl.Series, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants of local times of day on the date in the file's name or folder; SourceError without a date."""
    if reading.day is None:
        raise SourceError(
            reading.path,
            f"{reading.column}: times of day, and there is no date (or several) in the file's name or folder; rename it (2024-01-02)",
        )
    found = spelled_to_utc(f"{reading.day} " + cells, reading, series)
    if found is None:
        raise SourceError(reading.path, f"{reading.column}: received {first_stamps(cells)[0]!r}, no time of day")
    note = f"{reading.column}: times of {reading.day}, the date in the file's path"
    return Stamps(found.ts, found.refused, notes=(note, *found.notes))
