"""Text of dates and times to instants in UTC, by the spelling of the first stamps (`spellings`) or a stated format.

1. `spelled_to_utc` reads all cells in the spelling of the first one; what is left over, in others of the same date.
2. Where the fields of a date may change places, `readings_that_fit` keeps the formats that read every row that any of
   them reads (a field above 12 somewhere). If several are left that differ, the file is refused; each format in the
   message was tried on the file.
3. `24:00` is midnight of the next day. Fractions are kept to the nanosecond.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from engine.errors import SourceError
from engine.schema import TS_NS
from engine.sources.local_time import dates_to_utc
from engine.sources.options import UNIT_NS
from engine.sources.spellings import DATES, YEAR_FIRST, ZONES, Spelling, spellings_of, uncaught
from engine.sources.stamp_types import NAIVE, Reading, Stamps, as_stamps
from engine.sources.written_zones import LETTERS, zoned_to_utc

SAMPLES = 20  # first stamps whose spelling is tried
ROUNDS = 4  # further spellings of the same date: without seconds, with decimals
DAY_NS = 86_400 * UNIT_NS["s"]
YEARS = (1678, 2261)  # whose every instant nanoseconds hold
FEWEST_DATES, ROWS_A_DATE = 3, 10  # of intraday rows whose dates tell day and month apart
WEEK_DAYS, FAR_DAYS = 7, 20
FEW_BAD = 100  # of so many rows one may have digits that are no time
_UNPADDED = re.compile(rf"(?:{'|'.join(uncaught(date.pattern) for date in DATES)})(?:[T_-]|\s+)(\d{{1,9}})")
_TIME_DIGITS = r"^(?:[01]\d|2[0-4])[0-5]\d(?:[0-5]\d(?:\d{3})?)?$"
TIME_SIZES = (4, 6, 9)  # HHMM, HHMMSS, HHMMSSmmm
_MIDNIGHT = (r"^(|.*[^\d])24((?:[:.-]?00){1,2})$", r"^(\d{8})24((?:00){1,2})$", r"^()24((?::00){1,2}\D.*)$")
_TIME_DIRECTIVE = re.compile(r"%[-_0]?(?:\.?[369]?f|[HIkKlMSTRrXcs+])")
_ISO = re.compile(r"%Y([-/])%m\1%d")
_FRACTION_DIRECTIVE = re.compile(r"[.,]?%[-_0]?\.?[369]?f")


@dataclass(frozen=True)
class Text:
    """Cells of a column taken apart by a spelling; null where a cell is not so.

    Attributes
    ----------
    body : Series of String
        Date and time.
    fraction : Series of Int64
        Decimals of a second in ns, 0 without.
    zone : Series of String
        Null without.
    """

    body: pl.Series
    fraction: pl.Series
    zone: pl.Series


def spelled_to_utc(cells: pl.Series, reading: Reading, series: pl.Series | None) -> Stamps | None:
    """UTC instants of cells by the spelling of their first stamps; null where it is another; None if no spelling fits.

    Raises
    ------
    SourceError
        Day and month cannot be told apart, or the zone is not known; the message has options that were tried.
    """
    cells = padded(cells, reading)
    samples = first_stamps(cells)
    for sample in samples:
        for spelling in spellings_of(sample):
            found = read_spelled(cells, spelling, reading)
            if found is not None and found[0].gather((cells == sample).arg_max() or 0).null_count() == 0:
                naive, zones, used, notes = found
                forms = rival_forms(cells, spelling, naive)
                if forms:
                    forms = [with_fraction(spelling.formats[used], spelling), *forms]
                    raise SourceError(
                        reading.path,
                        f"{reading.column}: received {sample!r}, which may be read in several ways; "
                        f"give {' or '.join(f'--time-format {form!r}' for form in forms)}",
                    )
                if not spelling.has_time:
                    return dates_to_utc(naive, reading)
                naive, zones = with_other_spellings(cells, naive, zones, spelling, used, reading)
                try:
                    return zoned_to_utc(naive, zones, reading, series, *notes)
                except SourceError as error:
                    form = f"{with_fraction(spelling.formats[used], spelling)} {spelling.zone}"
                    if not LETTERS.fullmatch(spelling.zone) or formatted(cells, form) is None:
                        raise
                    advice = f"{error.reason}; or, as local time whatever the letters mean, --time-format {form!r}"
                    raise SourceError(reading.path, advice) from error
    return None


def rival_forms(cells: pl.Series, spelling: Spelling, naive: pl.Series) -> list[str]:
    """Formats of the first stamp's other spellings that read as many cells as other times; [] if its is YYYYMMDD."""
    sample = next(iter(first_stamps(cells)), "")
    rivals = [one for one in spellings_of(sample) if one != spelling and one.date != YEAR_FIRST]
    forms = []
    for one in rivals if spelling.date != YEAR_FIRST else ():
        text = taken_apart(cells, one)
        for form in one.formats:
            other = with_midnights(parse(text.body, form), text, form)
            if other.null_count() <= naive.null_count() and not other.equals(naive):
                forms.append(with_fraction(form, one))
    return [form for form in forms if formatted(cells, form) is not None]


def first_stamps(cells: pl.Series) -> list[str]:
    """Up to 20 different texts of a column's first 200 cells, less null and empty ones; the cells must be stripped."""
    return (
        cells.drop_nulls()
        .head(SAMPLES * 10)
        .unique(maintain_order=True)
        .replace("", None)
        .drop_nulls()
        .head(SAMPLES)
        .to_list()
    )


def padded(cells: pl.Series, reading: Reading) -> pl.Series:
    """Cells with lost leading zeros of a time put back (`20240102 930`); SourceError if such digits are no times.

    Raises
    ------
    SourceError
        The digits are no times: minutes or seconds are above 59.
    """
    sample = next(iter(first_stamps(cells)), "")
    match = _UNPADDED.fullmatch(sample)
    lengths = cells.str.len_bytes()
    if match is None or (len(match[1]) in TIME_SIZES and lengths.min() == lengths.max()):
        return cells
    digits = cells.str.extract(r"[T_ -](\d{1,9})$")
    widest = digits.str.len_bytes().max()
    sizes = [width for width in TIME_SIZES if isinstance(widest, int) and width >= widest]
    # Up to four digits may be HHMMSS of the first hour; more are what they are.
    for width in sizes[: 1 + (sizes[:1] == [4])]:
        time = digits.str.zfill(width)
        is_time = time.str.contains(_TIME_DIGITS)
        if (~is_time).sum() * FEW_BAD <= len(digits):
            return (cells.str.replace(r"\d{1,9}$", "") + time).zip_with(is_time.fill_null(value=False), cells)
    raise SourceError(
        reading.path,
        f"{reading.column}: received {sample!r}, whose time is no HHMM, HHMMSS or HHMMSSmmm in all rows; "
        "write times with colons",
    )


def taken_apart(cells: pl.Series, spelling: Spelling) -> Text:
    """Body, fraction (ns) and zone of cells after their spelling's rewrites; the body of others is null or no time."""
    for one in spelling.rewrites:
        cells = cells.str.replace(one.pattern, one.value)
    even = cut_evenly(cells, spelling)
    if even is not None:
        return even
    fields = cells.str.extract_groups(spelling.cell_pattern).struct
    digits = fields.field("2").str.strip_prefix(".").fill_null("0")
    fraction = digits.str.pad_end(9, "0").str.head(9).cast(pl.Int64)
    return Text(fields.field("1"), fraction, fields.field("3"))


def cut_evenly(cells: pl.Series, spelling: Spelling) -> Text | None:
    """What `taken_apart` returns, by cutting all cells where the first is cut; None if they are not all of its form."""
    sample = cells.drop_nulls().first()
    match = re.match(spelling.cell_pattern, sample) if isinstance(sample, str) else None
    lengths = cells.str.len_bytes()
    if match is None or lengths.min() != lengths.max() or lengths.max() != len(str(sample)):
        return None
    (_, body_end), (_, fraction_end) = match.span(1), match.span(2) if match[2] else match.span(1)
    body, fraction = cells.str.head(body_end), pl.zeros(len(cells), pl.Int64, eager=True)
    if match[2]:
        written = cells.str.slice(body_end, fraction_end - body_end)
        digits = written.str.slice(1, 9).cast(pl.Int64, strict=False)
        if not written.str.starts_with(".").all() or digits.null_count() > cells.null_count():
            return None
        fraction = (digits * 10 ** max(10 - len(match[2]), 0)).fill_null(0)
    if not match[3]:
        return Text(body, fraction, cells.clear(len(cells))) if fraction_end == len(str(sample)) else None
    zone = cells.str.slice(fraction_end)
    texts = zone.unique().drop_nulls()
    if not texts.str.contains(rf"^\s*(?:{ZONES})$").all():
        return None
    return Text(body, fraction, zone.str.strip_chars())


def read_spelled(
    cells: pl.Series, spelling: Spelling, reading: Reading
) -> tuple[pl.Series, pl.Series, int, tuple[str, ...]] | None:
    """(local times, zone texts, index of the format, notes) by a spelling; None if all null; SourceError if ambiguous.

    Raises
    ------
    SourceError
        Several formats read all that any of them reads, and differ.
    """
    text = taken_apart(cells, spelling)
    parsed = [parse(text.body, form) for form in spelling.formats]
    readings = [with_midnights(one, text, form) for one, form in zip(parsed, spelling.formats, strict=True)]
    fitting = readings_that_fit(readings, spelling)
    if not fitting:
        if all(one.null_count() == len(one) for one in readings):
            return None
        raise ambiguity(
            cells, text.zone, spelling, range(len(readings)), readings, reading, "rows of one and of the other occur"
        )
    following = fitting if len(fitting) == 1 else with_days_that_follow(readings, fitting)
    if len(following) > 1:
        raise ambiguity(
            cells, text.zone, spelling, fitting, readings, reading, "no row tells day and month (or year) apart"
        )
    used = following[0]
    naive = readings[used]
    form = with_fraction(spelling.formats[used], spelling)
    notes = [] if _ISO.match(form) else [f"{reading.column}: read as {form}"]
    if len(fitting) > 1:
        notes = [f"{notes[0]}, as only so its days follow each other"]
    count = parsed[used].null_count() - naive.null_count()
    if count:
        notes.append(f"{reading.column}: {count} stamps of 24:00 were read as midnight of the next day")
    return naive, text.zone, used, tuple(notes)


def readings_that_fit(readings: list[pl.Series], spelling: Spelling) -> list[int]:
    """Indices of readings with a time wherever any has: the only one if rows or spelling decide; [] if none has all.

    A reading holds if it has a time wherever any other has one. Of readings with the year in another place those hold
    whose rows lie in fewest years.
    """
    if len(readings) == 1:
        return [0] if readings[0].null_count() < len(readings[0]) else []
    anywhere = pl.select(pl.coalesce(readings).is_not_null()).to_series()
    count = anywhere.sum()
    full = [at for at, one in enumerate(readings) if count and len(one) - one.null_count() == count]
    if spelling.is_settled and full:
        return full[:1]
    first_year = {at: spelling.formats[at].find("%y") < spelling.formats[at].find("%d") for at in full}
    if len(set(first_year.values())) > 1:
        years = {at: readings[at].dt.year().n_unique() for at in full}
        least = {place: min(years[at] for at in full if first_year[at] is place) for place in (True, False)}
        if least[True] != least[False]:
            full = [at for at in full if first_year[at] is (least[True] < least[False])]
    return full[:1] if all(readings[at].equals(readings[full[0]]) for at in full[1:]) else full


def with_days_that_follow(readings: list[pl.Series], fitting: list[int]) -> list[int]:
    """The one reading whose dates follow each other within a week, if all others have weeks between; else `fitting`.

    Three dates and ten rows of each are asked for: so many intraday rows of the first of each month there are not.
    """
    widest, least = {}, {}
    for at in fitting:
        dates = readings[at].drop_nulls().dt.date().unique().sort()
        steps = dates.diff().dt.total_days().drop_nulls()
        if len(steps) < FEWEST_DATES - 1 or len(readings[at]) < ROWS_A_DATE * len(dates):
            return fitting
        widest[at], least[at] = int(steps.max() or 0), int(steps.min() or 0)  # type: ignore[arg-type]
    near = [at for at in fitting if widest[at] <= WEEK_DAYS]
    is_told = len(near) == 1 and all(least[at] >= FAR_DAYS for at in fitting if at not in near)
    return near if is_told else fitting


def parse(body: pl.Series, form: str) -> pl.Series:
    """Datetimes in ns (UTC if the format has an offset) of strptime text, clipped to the years `YEARS`; else null."""
    body = without_second_60(body)
    read = body.str.to_datetime(form, strict=False, time_unit="us")
    fine = body.str.to_datetime(form, strict=False, time_unit="ns") if _FRACTION_DIRECTIVE.search(form) else read
    first, last = read.dt.year().min(), read.dt.year().max()
    if isinstance(first, int) and isinstance(last, int) and not YEARS[0] <= first <= last <= YEARS[1]:
        # Beyond these years nanoseconds begin again, and 2600 would be 2015; at their edge a stamp is rejected as too late.
        edges = [pl.lit(dt.datetime(year, 1, 1, tzinfo=dt.UTC)).cast(read.dtype) for year in YEARS]
        clipped = pl.select(pl.lit(read).clip(*edges)).to_series()
        fine = fine.zip_with(read.dt.year().is_between(*YEARS), clipped.cast(fine.dtype))
    aware = isinstance(read.dtype, pl.Datetime) and read.dtype.time_zone is not None
    return fine.dt.convert_time_zone("UTC").cast(TS_NS) if aware else fine.cast(NAIVE)


def without_second_60(body: pl.Series) -> pl.Series:
    """The text, null where the second is 60 and no leap second can be: those end an hour (of UTC, `23:59:60`)."""
    if not body.str.contains(":60", literal=True).any():
        return body
    return body.zip_with(~body.str.contains(r":(?:[0-4]\d|5[0-8]):60").fill_null(value=False), body.clear(1))


def with_midnights(naive: pl.Series, text: Text, form: str) -> pl.Series:
    """Local times with fractions added, and those of `24:00` as midnight of the next day."""
    naive = naive + text.fraction.cast(pl.Duration("ns"))
    left = naive.is_null() & text.body.is_not_null()
    if not left.any():
        return naive
    body = text.body.filter(left & (text.fraction == 0))
    for pattern in _MIDNIGHT:
        body = body.str.replace(pattern, "${1}00${2}")
    is_changed = body != text.body.filter(left & (text.fraction == 0))
    next_day = parse(body.zip_with(is_changed, body.clear(1)), form) + pl.Series([DAY_NS]).cast(pl.Duration("ns"))
    return naive.scatter((left & (text.fraction == 0)).arg_true(), next_day)


def with_other_spellings(
    cells: pl.Series, naive: pl.Series, zones: pl.Series, spelling: Spelling, used: int, reading: Reading
) -> tuple[pl.Series, pl.Series]:
    """Local times and zones, nulls filled by 4 or fewer more spellings of the date (time without seconds, decimals)."""
    for _ in range(ROUNDS):
        left = (naive.is_null() & cells.is_not_null()).arg_true()
        sample = next(iter(first_stamps(cells.gather(left))), None)
        others = [one for one in spellings_of(sample or "") if one.has_time and one.date == spelling.date]
        if not others or others[0] == spelling:
            break
        one = replace(others[0], formats=others[0].formats[used : used + 1])
        found = read_spelled(cells.gather(left), one, reading)
        if found is None:
            break
        naive, zones = naive.scatter(left, found[0]), zones.scatter(left, found[1])
    return naive, zones


def ambiguity(
    cells: pl.Series,
    zones: pl.Series,
    spelling: Spelling,
    fitting: Sequence[int],
    readings: list[pl.Series],
    reading: Reading,
    why: str,
) -> SourceError:
    """The error for a date whose fields cannot be told apart, with each format that reads the file."""
    sample = first_stamps(cells)[0]
    tried = []
    for at in fitting:
        form = with_fraction(spelling.formats[at], spelling)
        found = formatted(cells, form)
        if found is not None and found[0].equals(readings[at]) and has_zones(readings[at], zones, reading):
            first = readings[at].drop_nulls().dt.to_string("%Y-%m-%d").first()
            tried.append(f"--time-format {form!r} (the first date is {first!s})")
    tried += [f"--time-format {form!r}" for form in rival_forms(cells, spelling, readings[fitting[0]])]
    return SourceError(reading.path, f"{reading.column}: received {sample!r}, and {why}; give {' or '.join(tried)}")


def has_zones(naive: pl.Series, zones: pl.Series, reading: Reading) -> bool:
    """Whether the zones behind the stamps go with these times; True if only `--timezone` is missing."""
    if reading.timezone is None:
        return True
    try:
        zoned_to_utc(naive, zones, reading, None)
    except SourceError:
        return False
    return True


def with_fraction(form: str, spelling: Spelling) -> str:
    """The format with the directive for decimals behind its seconds, if the spelling has them."""
    return form.replace("%S", "%S%.f", 1) if spelling.has_fraction else form


def formatted_to_utc(cells: pl.Series, time_format: str, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants of text in a strptime format (offset, zone, local or date), else null; SourceError if all would be.

    A format that reads no cell as it is written is tried without what no format can hold: a zone's name, a decimal
    comma, `a.m.`.

    Raises
    ------
    SourceError
        The format is not valid, or reads no stamp; the message has one that does, if there is one.
    """
    try:
        found = formatted(cells, time_format)
    except pl.exceptions.PolarsError as error:
        raise SourceError(reading.path, f"time_format: received {time_format!r}: {error}") from error
    if found is None:
        sample = first_stamps(cells)[0]
        advice = "".join(f"; --time-format {form!r} reads it" for form in formats_that_read(cells)[:1])
        raise SourceError(
            reading.path, f"{reading.column}: --time-format {time_format!r} reads no stamp, such as {sample!r}{advice}"
        )
    read, zones = found
    if isinstance(read.dtype, pl.Datetime) and read.dtype.time_zone is not None:
        return as_stamps(read)
    if not _TIME_DIRECTIVE.search(time_format):
        return dates_to_utc(read, reading)
    return zoned_to_utc(read, zones, reading, series)


def formatted(cells: pl.Series, time_format: str) -> tuple[pl.Series, pl.Series] | None:
    """(times of cells in a strptime format, texts of zones behind them); None if the format reads no cell."""
    plain = Text(cells, pl.zeros(len(cells), pl.Int64, eager=True), cells.clear(len(cells)))
    read = parse(cells, time_format)
    if read.null_count() < len(read):
        return (read if read.dtype == TS_NS else with_midnights(read, plain, time_format)), plain.zone
    for spelling in spellings_of(next(iter(first_stamps(cells)), "")):
        text = taken_apart(cells, spelling)
        form = _FRACTION_DIRECTIVE.sub("", time_format)
        read = parse(text.body, form)
        if read.null_count() < len(read):
            return with_midnights(read, text, form), text.zone
    return None


def formats_that_read(cells: pl.Series) -> list[str]:
    """Strptime formats of the first stamp's spellings that read at least one cell."""
    sample = next(iter(first_stamps(cells)), "")
    forms = [with_fraction(form, one) for one in spellings_of(sample) for form in one.formats]
    return [form for form in forms if formatted(cells, form) is not None]
