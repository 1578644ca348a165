"""Convert time stamps as vendors write them to instants in UTC.

1. `column_to_utc` tells numbers, text and typed columns apart.
2. Numbers since 1970 need a unit; it is inferred only from a magnitude that fits one unit (`infer_unit`).
3. Text is ISO-like, compact (`YYYYMMDD HHMMSSmmm`), a time of day with the date from the file's name, or as
   `time_format` says (`text_to_utc`). One spelling per file is taken from its first stamp; what differs is unreadable.
4. Local time becomes UTC in `local_time.localized`.
"""

from __future__ import annotations

import datetime as dt
import re

import polars as pl

from engine.errors import SourceError
from engine.schema import TS, TS_NS
from engine.sources.local_time import localized
from engine.sources.options import UNIT_NS
from engine.sources.stamp_types import NAIVE, Reading, Stamps, as_stamps

EARLIEST_S, LATEST_S = 315_532_800, 4_102_444_800  # 1980 and 2100: years for which a unit is inferred
MAX_NS = 2**63 - 1

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
_OFFSET = rf"{_CLOCK}\s*(Z|z|UTC|[+-]\d{{2}}(?::?\d{{2}})?)$"
_ISO = re.compile(rf"\d{{4}}[-/]\d{{2}}[-/]\d{{2}}(?:[T ]\s*{_CLOCK}(?!.*[AaPp]\.?[Mm]).*)?")
_TIME_DIRECTIVE = re.compile(r"%[-_0]?(?:\.?[369]?f|[HIkKlMSTRrXcs+])")
_COMPACT = {
    8: "%Y%m%d",
    12: "%Y%m%d%H%M",
    14: "%Y%m%d%H%M%S",
    17: "%Y%m%d%H%M%S%3f",
}
_COMPACT_SPACED = (
    (re.compile(r"\d{8} \d{9}"), "%Y%m%d %H%M%S%3f"),
    (re.compile(r"\d{8} \d{6}"), "%Y%m%d %H%M%S"),
    (re.compile(r"\d{8} \d{2}:\d{2}"), "%Y%m%d %H:%M"),
    (re.compile(r"\d{8} \d{2}:\d{2}:\d{2}(\.\d+)?"), "%Y%m%d %H:%M:%S%.f"),
)


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
    if dtype.is_numeric():
        return numbers_to_utc(cells, reading)
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


def local_to_utc(naive: pl.Series, reading: Reading, series: pl.Series | None, *notes: str) -> Stamps:
    """UTC instants of local times in `reading.zone` (`localized`), with notes; SourceError when no zone is known."""
    if reading.zone is None:
        raise SourceError(
            reading.path,
            f"{reading.column}: stamps carry no zone; give --timezone (America/New_York, UTC, UTC-05)",
        )
    found = localized(naive, reading.zone, series, is_bars=reading.is_bars)
    return Stamps(found.ts, found.refused, notes=(*notes, *found.notes))


def dates_to_utc(midnights: pl.Series, reading: Reading) -> Stamps:
    """First instants of dates in the reading's zone (default UTC) as UTC; sets `dates_only` and adds a note."""
    # A date names a trade date, whatever the zone: midnight in UTC keeps it.
    zone = reading.zone or "UTC"
    ts = localized(midnights, zone).ts
    if (
        ts.is_null() & midnights.is_not_null()
    ).any():  # the clock skips midnight: the day begins 24 hours after the last one
        ts = pl.select(
            pl.coalesce(ts, localized(midnights.dt.offset_by("-1d"), zone).ts.dt.offset_by("24h"))
        ).to_series()
    return as_stamps(ts, None, f"{reading.column}: dates without a time", dates_only=True)


def numbers_to_utc(cells: pl.Series, reading: Reading) -> Stamps:
    """UTC instants of numbers since 1970 in the stated unit, else one that puts the median in 1980-2100, or raise."""
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


def text_to_utc(cells: pl.Series, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants by `time_format`, else all as the first value is spelled (digits, compact, clock, ISO), or raise."""
    sample = next(iter(cells.filter(cells.is_not_null() & (cells != "")).head(1)), None)
    if sample is None:
        return as_stamps(pl.Series([None], dtype=TS_NS).new_from_index(0, len(cells)))
    if reading.time_format is not None:
        return formatted_to_utc(cells, reading.time_format, reading, series)
    if _NUMBER.fullmatch(sample):
        return digits_to_utc(cells, sample, reading, series)
    for spelled, time_format in _COMPACT_SPACED:
        if spelled.fullmatch(sample):
            return formatted_to_utc(cells, time_format, reading, series)
    if re.fullmatch(_CLOCK, sample):
        return times_of_day_to_utc(cells, reading, series)
    if _ISO.fullmatch(sample):
        return iso_to_utc(cells, sample, reading, series)
    raise SourceError(
        reading.path,
        f"{reading.column}: received {sample!r}; valid: ISO 8601, numbers since 1970, or its spelling as "
        f"--time-format {suggest_time_format(sample, cells)}",
    )


def suggest_time_format(sample: str, cells: pl.Series) -> str:
    """Quoted strptime format for a sample; day-first, month-first, or both if no value above 12 decides."""
    clock = re.search(r"\d{1,2}:\d{2}(:\d{2})?", sample)
    hours, half = ("%I", " %p") if re.search(r"[AaPp]\.?[Mm]", sample) else ("%H", "")
    time = f" {hours}:%M{':%S' if clock[1] else ''}{half}" if clock else ""
    year_first = re.match(r"\d{4}([-/])", sample)
    if year_first:
        return repr("%Y-%m-%d".replace("-", year_first[1]) + time)
    numbers = cells.str.extract_groups(r"^(\d{1,2})([./-])(\d{1,2})").struct.unnest()
    first, mark, second = (numbers.to_series(place) for place in range(3))
    sign = str(mark.drop_nulls().first() or "/")
    day, month = repr(f"%d{sign}%m{sign}%Y{time}"), repr(f"%m{sign}%d{sign}%Y{time}")
    if sign == "." or exceeds_months(first):
        return day
    return month if exceeds_months(second) else f"{month} (month first) or {day} (day first)"


def exceeds_months(numbers: pl.Series) -> bool:
    """Whether the largest number of the column is above 12, so that it cannot be a month; False without numbers."""
    largest = numbers.cast(pl.Int64).max()
    return isinstance(largest, int) and largest > 12  # noqa: PLR2004


def digits_to_utc(cells: pl.Series, sample: str, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants of `YYYYMMDD[HHMM[SS[mmm]]]` (sample from 19 or 20, no unit stated), else of numbers since 1970."""
    compact = _COMPACT.get(len(sample)) if sample.startswith(("19", "20")) and "." not in sample else None
    if compact is not None and reading.unit is None:
        if len(sample) == 8:  # noqa: PLR2004  # YYYYMMDD
            return dates_to_utc(cells.str.to_datetime(compact, strict=False, time_unit="ns"), reading)
        return formatted_to_utc(cells, compact, reading, series)
    dtype = pl.Float64 if "." in sample else pl.Int64
    return numbers_to_utc(cells.cast(dtype, strict=False), reading)


def formatted_to_utc(cells: pl.Series, time_format: str, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants of text in a strptime format: by its offset, else as local times, or dates; unreadable text is null."""
    try:
        read = cells.str.to_datetime(time_format, strict=False, time_unit="ns")
    except pl.exceptions.PolarsError as error:
        raise SourceError(reading.path, f"time_format: received {time_format!r}: {error}") from error
    if isinstance(read.dtype, pl.Datetime) and read.dtype.time_zone is not None:
        return as_stamps(read.dt.convert_time_zone("UTC"))
    if not _TIME_DIRECTIVE.search(time_format):
        return dates_to_utc(read, reading)
    return local_to_utc(read, reading, series)


def times_of_day_to_utc(cells: pl.Series, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants of local times of day on the date in the file's name; SourceError without a date."""
    if reading.day is None:
        raise SourceError(
            reading.path,
            f"{reading.column}: times of day, and the file's name has no date (or several); rename the file",
        )
    naive = parse_naive("1970-01-01 " + cells) + (reading.day - dt.date(1970, 1, 1))
    return local_to_utc(
        naive, reading, series, f"{reading.column}: times of {reading.day}, the date in the file's name"
    )


def iso_to_utc(cells: pl.Series, sample: str, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants of ISO text, by offset or as local time; if `sample` is a bare date, all cells are read as dates."""
    if len(sample) == 10:  # noqa: PLR2004  # YYYY-MM-DD
        return dates_to_utc(
            cells.str.replace_all("/", "-", literal=True).str.to_datetime("%Y-%m-%d", strict=False, time_unit="ns"),
            reading,
        )
    offset = cells.str.extract(_OFFSET)
    if offset.null_count() < len(offset):
        cells = cells.str.replace(rf"({_CLOCK})\s*(?:Z|z|UTC|[+-]\d{{2}}(?::?\d{{2}})?)$", "$1")
    cells = cells.str.replace("T", " ", literal=True).str.replace_all("/", "-", literal=True)
    naive = parse_naive(cells)
    if offset.null_count() == len(offset):
        return local_to_utc(naive, reading, series)
    aware = (naive - offset_durations(offset)).dt.replace_time_zone("UTC")
    bare = offset.is_null() & naive.is_not_null()
    if not bare.any():
        return as_stamps(aware)
    found = local_to_utc(naive, reading, series, "stamps with and without an offset are mixed")
    ts = pl.select(pl.when(bare).then(found.ts).otherwise(aware)).to_series()
    refused = pl.select(pl.when(bare).then(found.refused)).to_series()
    return Stamps(ts, refused, notes=found.notes)


def parse_naive(plain: pl.Series) -> pl.Series:
    """Datetimes without zone from `YYYY-MM-DD HH:MM:SS[.fraction]`, else `YYYY-MM-DD HH:MM`; null for other text."""
    read = plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="ns")
    if read.null_count() == 0:
        return read
    minutes = plain.str.to_datetime("%Y-%m-%d %H:%M", strict=False, time_unit="ns")
    return pl.select(pl.coalesce(read, minutes)).to_series()


def offset_durations(offset: pl.Series) -> pl.Series:
    """Signed durations of offsets from UTC (`-05`, `-0500`, `-05:00`); `Z`, `UTC` and null are zero."""
    digits = offset.str.extract_all(r"\d{2}")
    hours = digits.list.get(0, null_on_oob=True).cast(pl.Int64).fill_null(0)
    minutes = digits.list.get(1, null_on_oob=True).cast(pl.Int64).fill_null(0)
    sign = pl.select(pl.when(offset.str.starts_with("-")).then(-1).otherwise(1)).to_series()
    total = sign * (hours * 60 + minutes)
    return (total * 60 * UNIT_NS["s"]).cast(pl.Duration("ns"))
