"""Spellings of time by vendors and libraries: read, or refused with formats that were tried and read them."""

from __future__ import annotations

import datetime as dt
import re
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from engine.errors import SourceError
from engine.sources.fixed_stamps import parse_fixed
from engine.sources.frames import from_frame
from engine.sources.options import ReadOptions
from engine.sources.spellings import DATES, REWRITES, TIMES
from engine.sources.stamp_types import Reading
from engine.sources.stamps import column_to_utc

NEW_YORK = "America/New_York"
ZONE = ZoneInfo(NEW_YORK)
DAYS = [
    dt.datetime(2024, 1, day, hour, minute, tzinfo=ZONE) for day in (2, 12) for hour in (9, 13) for minute in (5, 30)
]
WITH_31 = [*DAYS, dt.datetime(2024, 1, 31, 15, 59, tzinfo=ZONE)]


def read(cells, **how):
    return column_to_utc(pl.Series(cells), Reading("file.csv", how.pop("column", "ts"), **{"timezone": NEW_YORK} | how))


def spelled(form, times=WITH_31):
    """Texts of times; `-` in a directive takes zeros away, as in C."""
    return [at.strftime(form) for at in times]


def upper(form):
    return lambda times: [text.upper() for text in spelled(form, times)]


def epoch(factor, show="{:.0f}"):
    return lambda times: [show.format(at.timestamp() * factor) for at in times]


UNAMBIGUOUS = {
    "ISO 8601 basic": "%Y%m%dT%H%M%S",
    "ISO 8601 basic, minutes and offset": "%Y%m%dT%H%M%z",
    "ISO 8601 basic, UTC": lambda times: [at.astimezone(dt.UTC).strftime("%Y%m%dT%H%M%SZ") for at in times],
    "ISO 8601 basic, milliseconds": "%Y%m%dT%H%M%S.000",
    "ISO 8601 with a comma": "%Y-%m-%dT%H:%M:%S,000%z",
    "ISO 8601 week": "%G-W%V-%uT%H:%M",
    "ISO 8601 week, basic": "%GW%V%uT%H%M",
    "ISO 8601 day of the year": "%Y-%jT%H:%M:%S",
    "YYYYDDD": "%Y%j %H:%M",
    "FIX": "%Y%m%d-%H:%M:%S.000",
    "Interactive Brokers": "%Y%m%d  %H:%M:%S",
    "Interactive Brokers, zone": "%Y%m%d %H:%M:%S US/Eastern",
    "Interactive Brokers, place": "%Y%m%d-%H:%M:%S America/New_York",
    "kdb+": "%Y.%m.%dD%H:%M:%S.000000000",
    "MetaTrader": "%Y.%m.%d %H:%M",
    "NinjaTrader": "%Y%m%d %H%M%S",
    "NinjaTrader, ticks": "%Y%m%d %H%M%S 0000000",
    "HistData": "%Y%m%d %H%M%S000",
    "Dukascopy": "%d.%m.%Y %H:%M:%S.000",
    "Dukascopy, offset": "%d.%m.%Y %H:%M:%S.000 GMT%z",
    "German Excel": "%d.%m.%Y %H:%M",
    "German Excel without zeros": "%-d.%-m.%Y %-H:%M",
    "American Excel": "%-m/%-d/%Y %-H:%M",
    "American Excel, AM and PM": "%-m/%-d/%Y %-I:%M:%S %p",
    "Spanish AM and PM": lambda times: [
        text.replace("AM", "a. m.").replace("PM", "p. m.") for text in spelled("%d/%m/%Y %-I:%M:%S %p", times)
    ],
    "British Excel": "%d/%m/%Y %H:%M",
    ".NET": "%-m/%-d/%Y %-I:%M:%S %p %:z",
    ".NET round trip": "%Y-%m-%dT%H:%M:%S.0000000%:z",
    "JavaScript toString": "%a %b %d %Y %H:%M:%S GMT%z (Eastern Standard Time)",
    "JavaScript toLocaleString": "%-m/%-d/%Y, %-I:%M:%S\u202f%p",
    "JavaScript toUTCString": lambda times: [
        at.astimezone(dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT") for at in times
    ],
    "Java Date": "%a %b %d %H:%M:%S EST %Y",
    "Java ZonedDateTime": "%Y-%m-%dT%H:%M%:z[America/New_York]",
    "Java, medium": "%b %-d, %Y, %-I:%M:%S\u202f%p",
    "C ctime": "%a %b %e %H:%M:%S %Y",
    "date of Unix": "%a %b %e %H:%M:%S EST %Y",
    "RFC 2822": "%a, %d %b %Y %H:%M:%S %z",
    "RFC 850": "%A, %d-%b-%y %H:%M:%S EST",
    "Apache": "%d/%b/%Y:%H:%M:%S %z",
    "Python logging": "%Y-%m-%d %H:%M:%S,000",
    "Oracle": upper("%d-%b-%y %I.%M.%S.000000 %p"),
    "SAS": upper("%d%b%Y:%H:%M:%S"),
    "Stata": "%d%b%Y %H:%M:%S",
    "PostgreSQL": "%Y-%m-%d %H:%M:%S-05",
    "SQL Server": "%b %e %Y %I:%M%p",
    "Investing.com": "%b %d, %Y %H:%M",
    "month in full": "%B %-d, %Y %-I:%M %p",
    "zone in brackets": "%Y-%m-%d %H:%M:%S (UTC-5)",
    "letters of the zone": "%Y-%m-%d %H:%M:%S EST",
    "names of files": "%Y-%m-%d_%H-%M-%S",
    "colon before milliseconds": "%Y-%m-%d %H:%M:%S:000",
    "time first": "%H:%M:%S %d.%m.%Y",
    "time first, milliseconds": "%H:%M:%S.000 %d.%m.%Y",
    "slashes, year first": "%Y/%-m/%-d %-H:%M",
    "comma between": "%Y-%m-%d, %H:%M:%S",
    "two digits of the year, days above 12": "%m/%d/%y %H:%M",
    "dots and two digits of the year": "%d.%m.%y %H:%M",
    "year of two digits first": "%y-%m-%d %H:%M",
    "day first, digits": "%d%m%Y %H%M%S",
    "HHMM as a number": lambda times: [f"{at:%Y%m%d} {at.hour * 100 + at.minute}" for at in times],
    "HHMMSS as a number": lambda times: [f"{at:%Y%m%d} {at.hour * 10_000 + at.minute * 100}" for at in times],
    "H:MM in a column of its own": "%m/%d/%Y %-H:%M",
    "a date with midnight beside a time": "%Y-%m-%d 00:00:00 %H:%M:%S",
    "s": epoch(1),
    "s with decimals": epoch(1, "{:.3f}"),
    "s, scientific": epoch(1, "{:.9e}"),
    "s, decimal comma": lambda times: [f"{at.timestamp():.3f}".replace(".", ",") for at in times],
    "ms": epoch(1e3),
    "ms with decimals": epoch(1e3, "{:.2f}"),
    "us": epoch(1e6),
    "us with decimals": epoch(1e6, "{:.1f}"),
    "ns": epoch(1e9),
    "ns, scientific": epoch(1e9, "{:.10e}"),
    ".NET JSON": lambda times: [f"/Date({at.timestamp() * 1000:.0f})/" for at in times],
    "YYYYMMDDHHMM": "%Y%m%d%H%M",
    "YYYYMMDDHHMMSSmmm": "%Y%m%d%H%M%S000",
}

OTHERS = (
    "2nd January 2024",
    "9:30A",
    "07-PM",
    "Sept 2, 2024",
    "Jan. 2, 2024",
    "09.30",
    "2024-Jan-02",
    "02-JAN-24 09.30.00 AM",
)


def cells_of(form, times):
    return form(times) if callable(form) else spelled(form.replace("%:z", "-05:00"), times)


@pytest.mark.parametrize("form", UNAMBIGUOUS.values(), ids=UNAMBIGUOUS)
def test_spelling_is_read_in_files_that_tell_their_days(form):
    found = read([*cells_of(form, WITH_31), None])
    assert found.ts.to_list() == [*WITH_31, None]
    assert found.refused.null_count() == len(WITH_31) + 1


@pytest.mark.parametrize("form", UNAMBIGUOUS.values(), ids=UNAMBIGUOUS)
def test_spelling_is_read_or_refused_with_formats_that_read_it(form):
    """Days up to 12 alone: what is read is right, and of the formats of a refusal one is right, and all read."""
    cells = cells_of(form, DAYS[:4])
    try:
        assert read(cells).ts.to_list() == DAYS[:4]
    except SourceError as error:
        formats = re.findall(r"--time-format '([^']+)'", str(error))
        results = [read(cells, time_format=one).ts for one in formats]
        assert len(results) > 1
        assert all(one.null_count() == 0 for one in results)
        assert DAYS[:4] in [one.to_list() for one in results]


@pytest.mark.parametrize(
    ("form", "how"),
    [
        ("%m/%d/%Y %H:%M", r"%m/%d/%Y %H:%M' .* or --time-format '%d/%m/%Y %H:%M'"),
        ("%d-%m-%Y %H:%M:%S.000", r"%m-%d-%Y %H:%M:%S%\.f' .* or --time-format '%d-%m-%Y %H:%M:%S%\.f'"),
        ("%d/%m/%y %H:%M EST", r"%d/%m/%y %H:%M'"),
        ("%d.%m.%y %H:%M", r"%d\.%m\.%y %H:%M' .* or --time-format '%y\.%m\.%d %H:%M'"),
        ("%m/%d/%Y", r"%m/%d/%Y' .* or --time-format '%d/%m/%Y'"),
        ("%y%m%d %H%M%S", r"%y%m%d %H%M%S'"),
    ],
)
def test_dates_that_may_be_read_two_ways_are_refused_with_the_options(form, how):
    with pytest.raises(SourceError, match=how):
        read(spelled(form, DAYS[:4]))


@pytest.mark.parametrize("form", ["%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%y %H:%M"])
def test_days_that_follow_each_other_one_way_only_tell_in_intraday_rows(form):
    first = dt.datetime(2024, 1, 2, 9, 30, tzinfo=ZONE)
    times = [first + dt.timedelta(days=day, minutes=minute) for day in (0, 1, 2, 3, 6, 7) for minute in range(20)]
    found = read(spelled(form, times))
    assert found.ts.to_list() == times
    assert found.notes == (f"ts: read as {form}, as only so its days follow each other",)
    for few in (times[:40], times[::20]):  # two days; a row of each day, as of months
        with pytest.raises(SourceError, match="no row tells"):
            read(spelled(form, few))


def test_a_day_equal_to_its_month_is_no_doubt():
    assert read(["02/02/2024 09:30"]).ts.to_list() == [dt.datetime(2024, 2, 2, 9, 30, tzinfo=ZONE)]


def test_rows_that_contradict_each_other_are_refused():
    with pytest.raises(SourceError, match="rows of one and of the other occur"):
        read(["13/02/2024 09:30", "02/13/2024 09:30"])


def test_dots_with_a_month_above_12_in_second_place_are_month_first():
    assert read(["01.31.2024 09:30"]).ts.to_list() == [dt.datetime(2024, 1, 31, 9, 30, tzinfo=ZONE)]


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-02 24:00:00",
        "2024-01-02T24:00:00.000",
        "2024-01-02 24:00",
        "20240102 240000",
        "20240102 2400",
        "20240102240000",
        "24:00 02.01.2024",
        "2024.01.02 24:00",
        "2024-01-02 24:00:00-05:00",
        "2024-01-02 24:00:00 America/New_York",
    ],
)
def test_hour_24_is_midnight_of_the_next_day(text):
    after = text.replace("2400", "0930").replace("24:00", "09:30")
    found = read([after, text])
    assert found.ts.to_list() == [
        dt.datetime(2024, 1, 2, 9, 30, tzinfo=ZONE),
        dt.datetime(2024, 1, 3, tzinfo=ZONE),
    ]
    assert "1 stamps of 24:00 were read as midnight of the next day" in " ".join(found.notes)
    assert read([text]).ts.to_list() == [dt.datetime(2024, 1, 3, tzinfo=ZONE)]


@pytest.mark.parametrize("text", ["2024-01-02 24:01:00", "2024-01-02 24:00:00.5", "2024-01-02 25:00:00"])
def test_other_hours_beyond_the_day_are_unreadable(text):
    assert read(["2024-01-02 09:30:00", text]).ts.null_count() == 1


def test_second_60_is_a_leap_second_at_the_end_of_an_hour_and_else_unreadable():
    cells = ["2016-12-31 18:59:59", "2016-12-31 18:59:60", "2016-12-31 18:30:60"]
    midnight = dt.datetime(2017, 1, 1, tzinfo=dt.UTC)
    assert read(cells).ts.to_list() == [midnight - dt.timedelta(seconds=1), midnight, None]
    assert parse_fixed(pl.Series(cells)) is None


def test_hour_24_by_a_stated_format():
    found = read(["01/02/2024 23:59", "01/02/2024 24:00"], time_format="%m/%d/%Y %H:%M")
    assert found.ts.to_list()[1] == dt.datetime(2024, 1, 3, tzinfo=ZONE)


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["2024-01-02 09:30", "2024-01-02 09:30:15", "2024-01-02 09:30:15.5"], [0, 15, 15.5]),  # Java, Python
        (["2024-01-02 09:30:00.5", "2024-01-02 09:30:01"], [0.5, 1]),
        (["20240102 093000", "20240102 093001.25"], [0, 1.25]),
        (["1/2/2024 9:30:00 AM", "1/2/2024 9:30:59.5 AM", "1/13/2024 9:30:00 AM"], [0, 59.5, 11 * 86_400]),
    ],
)
def test_seconds_and_decimals_may_be_left_out_where_they_are_zero(cells, seconds):
    begin = dt.datetime(2024, 1, 2, 9, 30, tzinfo=ZONE)
    assert read(cells).ts.to_list() == [begin + dt.timedelta(seconds=after) for after in seconds]


def test_nanoseconds_of_text_and_of_decimal_numbers_survive():
    texts = [
        "20240102-09:30:00.123456789",
        "1704205800.123456789",
        "1704205800123.456789",
        "9:30:00.123456789 AM 2.1.2024",
    ]
    assert [read([text]).ts.to_physical()[0] for text in texts] == [1704205800123456789] * 4


def test_years_that_nanoseconds_do_not_hold_become_one_for_which_a_row_is_rejected():
    cells = ["2024-01-02 09:30", "2600-01-02 09:30", "0024-01-02 09:30", "2250-01-02 09:30"]
    for options in ({}, {"time_format": "%Y-%m-%d %H:%M"}):
        years = read(cells, **options).ts.dt.year()
        assert years.is_between(1900, 2199).fill_null(value=False).to_list() == [True, False, False, False]


def test_text_that_only_looks_alike_is_unreadable():
    cells = ["2024-01-02 09:30", "2024-01-02 09:3", "2024-02-30 09:30", "+2024-01-02 09:30", "total", "2024-01-02"]
    assert read(cells).ts.is_null().to_list() == [False, *[True] * 5]


def test_letters_of_a_zone_tell_the_passes_of_a_repeated_hour():
    cells = ["2024-11-03 01:30:00 EST", "2024-11-03 01:30:00 EDT", "2024-07-01 09:30:00 EDT"]
    hours = [dt.datetime(2024, 11, 3, 6, 30), dt.datetime(2024, 11, 3, 5, 30), dt.datetime(2024, 7, 1, 13, 30)]  # noqa: DTZ001
    assert read(cells).ts.to_list() == [at.replace(tzinfo=dt.UTC) for at in hours]


def test_letters_that_the_zone_does_not_show_are_refused_with_zones_that_do():
    cells = ["2024-07-01 09:30:00 EST"]  # as vendors write who mean the time of New York, or of winter all year
    why = "America/New_York does not show it at these times; give --timezone EST; or, .* --time-format '%Y-%m-%d %H:%M:%S EST'"
    with pytest.raises(SourceError, match=why):
        read(cells)
    assert read(cells, timezone="EST").ts.to_list() == [dt.datetime(2024, 7, 1, 14, 30, tzinfo=dt.UTC)]
    assert read(cells, timezone="Etc/GMT+5").ts.to_list() == [dt.datetime(2024, 7, 1, 14, 30, tzinfo=dt.UTC)]
    local = read(cells, time_format="%Y-%m-%d %H:%M:%S EST")
    assert local.ts.to_list() == [dt.datetime(2024, 7, 1, 13, 30, tzinfo=dt.UTC)]
    with pytest.raises(SourceError, match="give --timezone America/New_York"):
        read(["2024-07-01 09:30:00 EDT"], timezone=None)


def test_offsets_and_names_are_read_without_a_stated_zone():
    for text in (
        "2024-01-02 09:30:00 GMT-0500",
        "2024-01-02 09:30:00 America/New_York",
        "Tue, 02 Jan 2024 14:30:00 GMT",
    ):
        assert read([text], timezone=None).ts.to_list() == [dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)]
    with pytest.raises(SourceError, match="no zone is called 'Atlantis/Centre'"):
        read(["2024-01-02 09:30:00 Atlantis/Centre"])


def test_zones_of_several_kinds_in_one_column():
    cells = [
        "2024-01-02 09:30:00 EST",
        "2024-01-02 14:30:00 UTC",
        "2024-01-02 15:30:00 Europe/Berlin",
        "2024-01-02 09:30:00",
    ]
    found = read(cells)
    assert found.ts.to_list() == [dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)] * 4
    assert "stamps with and without a zone are mixed" in found.notes


@pytest.mark.parametrize("rounded", [["1.70421E+12", "1.70421E+12"], ["1.7042058E+09", "1.7042059E+09"]])
def test_scientific_numbers_that_a_spreadsheet_rounded_are_refused(rounded):
    with pytest.raises(SourceError, match="a number rounded to"):
        read(rounded)


def test_seconds_since_midnight_are_no_hhmmss():
    with pytest.raises(SourceError, match="no HHMM, HHMMSS or HHMMSSmmm"):
        read([f"20240102 {34200 + 60 * number}" for number in range(60)])


def test_digits_that_are_a_date_or_a_number_far_ahead_are_refused():
    with pytest.raises(SourceError, match="a time of 2046, or a date; give --time-format '%y%m%d%H%M', or --unit"):
        read(["2401020930", "2401020931"])


@pytest.mark.parametrize("dtype", [pl.Int64, pl.String, pl.Decimal(38, 0)])
@pytest.mark.parametrize("digits", [20240102093000, 202401020930])
def test_dates_in_digits_are_dates_in_typed_columns_too(digits, dtype):
    found = column_to_utc(pl.Series([digits]).cast(dtype), Reading("file.parquet", "ts", NEW_YORK))
    assert found.ts.to_list() == [dt.datetime(2024, 1, 2, 9, 30, tzinfo=ZONE)]


@pytest.mark.parametrize("cell", ["9:30 AM", "09:30", "09:30:00.000", "24:00"])
def test_times_of_day_are_of_the_day_in_the_name(cell):
    begin = dt.datetime(2024, 1, 3, tzinfo=ZONE) if cell == "24:00" else dt.datetime(2024, 1, 2, 9, 30, tzinfo=ZONE)
    assert read([cell], day=dt.date(2024, 1, 2)).ts.to_list() == [begin]


def test_a_stated_format_that_reads_nothing_names_one_that_does():
    with pytest.raises(
        SourceError,
        match=re.escape("reads no stamp, such as '20240102-09:30:00'; --time-format '%Y%m%d-%H:%M:%S' reads it"),
    ):
        read(["20240102-09:30:00"], time_format="%d.%m.%Y")


def test_a_first_row_that_is_no_stamp_does_not_decide():
    assert read(["(local)", "2024-01-02 09:30", ""]).ts.to_list() == [
        None,
        dt.datetime(2024, 1, 2, 9, 30, tzinfo=ZONE),
        None,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "2nd January 2024 9:30",
        "January 2nd, 2024 9:30 AM",
        "Jan. 2, 2024 9:30 a.m.",
        "2024-Jan-02 09:30",
        "2 Jan. 2024 09.30",
        "2024-01-02 9:30A",
        "Tuesday, January 2, 2024 9:30 AM",
    ],
)
def test_rare_spellings(text):
    assert read([text]).ts.to_list() == [dt.datetime(2024, 1, 2, 9, 30, tzinfo=ZONE)]


def test_digits_that_two_forms_fit_are_refused_with_the_formats_of_both():
    with pytest.raises(SourceError, match=r"--time-format '%d%m%y %H%M%S' .*--time-format '%H%M%S %y%m%d'"):
        read(["120400 190423"])


def test_am_is_no_zone_and_hundredths_no_decimals_of_a_minute():
    assert read(["13/02/2024 09.30.00"]).ts.to_list() == [dt.datetime(2024, 2, 13, 9, 30, tzinfo=ZONE)]
    assert read(["2024-01-02 09:30", "2024-01-02 09:31.5"]).ts.null_count() == 1
    assert read(["2024-01-02 09:30:00 AM", "2024-01-02 09:30:00"]).ts.null_count() == 0


def test_hours_with_am_and_pm_alone():
    assert read(["2024-01-02 07-PM"]).ts.to_list() == [dt.datetime(2024, 1, 2, 19, tzinfo=ZONE)]
    assert read(["2 Sept 2024 7 AM"]).ts.to_list() == [dt.datetime(2024, 9, 2, 7, tzinfo=ZONE)]


def test_a_weekday_that_is_not_the_date_is_unreadable():
    assert read(["Tue, 02 Jan 2024 09:30", "Wed, 02 Jan 2024 09:30"]).ts.is_null().to_list() == [False, True]


@pytest.mark.parametrize(
    ("date", "time"),
    [
        (dt.date(2024, 1, 2), dt.time(9, 30)),
        (dt.datetime(2024, 1, 2), dt.time(9, 30)),  # noqa: DTZ001
        (20240102, 93000),
        (20240102.0, 930.0),
        (dt.date(2024, 1, 2), dt.timedelta(hours=9, minutes=30)),
        ("2024-01-02 00:00:00", "09:30:00"),
        ("1/13/2024", "9:30 AM"),
    ],
)
def test_stamps_in_two_columns_of_any_type(date, time):
    rows = pl.DataFrame({"date": [date], "time": [time], **dict.fromkeys(("open", "high", "low", "close"), 1.0)})
    found = from_frame(rows, symbol="A", interval="1m", options=ReadOptions(timezone=NEW_YORK))
    day = 13 if date == "1/13/2024" else 2
    assert found.frame["ts"].to_list() == [dt.datetime(2024, 1, day, 9, 30, tzinfo=ZONE)]


def test_unknown_spellings_are_refused():
    with pytest.raises(SourceError, match="a spelling that is not known"):
        read(["the second of January"])


@pytest.mark.parametrize("form", [*DATES, *TIMES, *REWRITES], ids=lambda form: form.meaning)
def test_every_entry_of_the_tables_has_an_example_here(form):
    texts = [text for spelling in UNAMBIGUOUS.values() for text in cells_of(spelling, WITH_31)]
    assert any(re.search(form.pattern, text) for text in [*texts, *OTHERS])
