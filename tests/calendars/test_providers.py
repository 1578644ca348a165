"""Calendars: golden dates, files of one's own, the hours seen in vendor files, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from zoneinfo import ZoneInfo

import exchange_calendars
import pandas_market_calendars
import polars as pl
import pytest
from engine.calendars import libraries
from engine.calendars.cache import _entry
from engine.calendars.providers import SessionCalendar, calendar, calendar_codes, library_calendar, preload_calendar
from engine.errors import CalendarError, ParameterError
from engine.schema import SEGMENTS
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

HERE = Path(__file__).parent
NEW_YORK, CHICAGO = "America/New_York", "America/Chicago"


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def hours(which: SessionCalendar | str | Path, first: str, last: str | None = None, zone: str = "") -> list[str]:
    """Segments as text, such as `2015-12-24 RTH 24 09:30-13:00`, in the calendar's zone."""
    found = which if isinstance(which, SessionCalendar) else calendar(which)
    rows = found.segments(day(first), day(last or first)).filter(pl.col("segment") != "AUCTION").rows(named=True)
    shown = ZoneInfo(zone or found.zone)
    return [
        f"{row['session']} {row['segment']} {row['segment_open'].astimezone(shown):%d %H:%M}"
        f"-{row['segment_close'].astimezone(shown):%H:%M}"
        for row in rows
    ]


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


WEEK = 'zone = "America/New_York"\n[[hours]]\ndays = "Mon-Fri"\n'

GOLDEN = {
    "XNYS early close": (
        ("XNYS", "2015-12-24"),
        [
            "2015-12-24 OVERNIGHT 23 20:00-04:00",
            "2015-12-24 PRE 24 04:00-09:30",
            "2015-12-24 RTH 24 09:30-13:00",
            "2015-12-24 POST 24 13:00-17:00",
        ],
    ),
    "XNYS overnight of the trade date after a holiday": (
        ("XNYS", "2024-05-24", "2024-05-28"),
        [
            "2024-05-24 OVERNIGHT 23 20:00-04:00",
            "2024-05-24 PRE 24 04:00-09:30",
            "2024-05-24 RTH 24 09:30-16:00",
            "2024-05-24 POST 24 16:00-20:00",
            "2024-05-28 OVERNIGHT 27 20:00-04:00",
            "2024-05-28 PRE 28 04:00-09:30",
            "2024-05-28 RTH 28 09:30-16:00",
            "2024-05-28 POST 28 16:00-20:00",
        ],
    ),
    "Hong Kong lunch, half day without one": (
        ("XHKG", "2020-01-23", "2020-01-24"),
        ["2020-01-23 RTH 23 09:30-12:00", "2020-01-23 RTH 23 13:00-16:00", "2020-01-24 RTH 24 09:30-12:00"],
    ),
    "Tokyo, longer since November 2024": (
        ("XTKS", "2024-11-01", "2024-11-05"),
        [
            "2024-11-01 RTH 01 09:00-11:30",
            "2024-11-01 RTH 01 12:30-15:00",
            "2024-11-05 RTH 05 09:00-11:30",
            "2024-11-05 RTH 05 12:30-15:30",
        ],
    ),
    "Sunday 17:00 Chicago belongs to Monday, and CME pauses at 16:00": (
        ("CME_INDEX", "2024-06-07", "2024-06-11"),
        ["2024-06-07 ETH 06 17:00-16:00", "2024-06-10 ETH 09 17:00-16:00", "2024-06-11 ETH 10 17:00-16:00"],
    ),
    "ES paused at 15:15 until June 2021": (
        ("CME_Equity", "2021-06-25", "2021-06-28"),
        ["2021-06-25 ETH 24 17:00-15:15", "2021-06-25 ETH 25 15:30-16:00", "2021-06-28 ETH 27 17:00-16:00"],
    ),
    "Martin Luther King day is cleared with Tuesday": (
        ("CME_INDEX", "2024-01-12", "2024-01-16"),
        ["2024-01-12 ETH 11 17:00-16:00", "2024-01-16 ETH 14 17:00-12:00", "2024-01-16 ETH 15 17:00-16:00"],
    ),
    "Thanksgiving is cleared with Friday": (
        ("CME_Equity", "2023-11-22", "2023-11-24"),
        ["2023-11-22 ETH 21 17:00-16:00", "2023-11-24 ETH 22 17:00-12:00", "2023-11-24 ETH 23 17:00-12:15"],
    ),
    "ES in 2013": (
        ("CME_INDEX", "2013-10-07"),
        ["2013-10-07 ETH 06 17:00-15:15", "2013-10-07 ETH 07 15:30-16:15"],
    ),
    "ES on the day the close moved to 16:00": (
        ("CME_INDEX", "2015-09-18", "2015-09-21"),
        [
            "2015-09-18 ETH 17 17:00-15:15",
            "2015-09-18 ETH 18 15:30-16:15",
            "2015-09-21 ETH 20 17:00-15:15",
            "2015-09-21 ETH 21 15:30-16:00",
        ],
    ),
    "ES holiday of 2013 keeps its early halt": (
        ("CME_INDEX", "2013-01-22"),
        ["2013-01-22 ETH 20 17:00-10:30", "2013-01-22 ETH 21 17:00-15:15", "2013-01-22 ETH 22 15:30-16:15"],
    ),
    "GC in 2013 and now": (("COMEX_METALS", "2013-10-07"), ["2013-10-07 ETH 06 17:00-16:15"]),
    "FX weekend": (
        ("FX", "2024-03-08", "2024-03-11"),
        ["2024-03-08 ETH 07 17:00-17:00", "2024-03-11 ETH 10 17:00-17:00"],
    ),
    "gold CFD": (("GOLD_CFD", "2014-05-05"), ["2014-05-05 ETH 04 18:00-17:00"]),
    "every day of crypto": (
        ("24/7", "2024-02-29", "2024-03-01"),
        ["2024-02-29 ETH 29 00:00-00:00", "2024-03-01 ETH 01 00:00-00:00"],
    ),
    "Singapore before, between and after its mid-day breaks": (
        ("XSES", "2011-07-29", "2011-08-01"),
        ["2011-07-29 RTH 29 09:00-12:30", "2011-07-29 RTH 29 14:00-17:00", "2011-08-01 RTH 01 09:00-17:00"],
    ),
    "Singapore, half day": (
        ("XSES", "2024-12-23", "2024-12-24"),
        ["2024-12-23 RTH 23 09:00-12:00", "2024-12-23 RTH 23 13:00-17:00", "2024-12-24 RTH 24 09:00-12:00"],
    ),
    "a library's code that our calendar answers": (("CFE", "2024-07-03"), ["2024-07-03 ETH 02 17:00-12:15"]),
    "IEX, half day that the library lacks": (
        ("IEX", "2024-12-24"),
        ["2024-12-24 PRE 24 08:00-09:30", "2024-12-24 RTH 24 09:30-13:00", "2024-12-24 POST 24 13:00-17:00"],
    ),
    "IEX, holidays that the library lacks": (("Investors_Exchange", "2019-01-01"), []),
    "options on stocks, half day": (("CBOE_Equity_Options", "2024-12-24"), ["2024-12-24 RTH 24 08:30-12:00"]),
    "options on indices, half day": (("CBOE_Index_Options", "2024-12-24"), ["2024-12-24 RTH 24 08:30-12:15"]),
    "India": (("XBOM", "2019-01-01"), ["2019-01-01 RTH 01 09:15-15:30"]),
    "India, hours until 2009 and in 2010": (
        ("XNSE", "2009-12-31", "2010-01-04"), ["2009-12-31 RTH 31 09:55-15:30", "2010-01-04 RTH 04 09:00-15:30"],
    ),
    "India, hours since October 2010": (
        ("NSE", "2010-10-15", "2010-10-18"), ["2010-10-15 RTH 15 09:00-15:30", "2010-10-18 RTH 18 09:15-15:30"],
    ),
    "India, Diwali on a Sunday and the holiday after it": (
        ("XNSE", "2023-11-10", "2023-11-15"),
        [
            "2023-11-10 RTH 10 09:15-15:30", "2023-11-12 RTH 12 18:15-19:15", "2023-11-13 RTH 13 09:15-15:30",
            "2023-11-15 RTH 15 09:15-15:30",
        ],
    ),
    "India, Diwali on a weekday": (
        ("BSE", "2025-10-20", "2025-10-23"),
        ["2025-10-20 RTH 20 09:15-15:30", "2025-10-21 RTH 21 13:45-14:45", "2025-10-23 RTH 23 09:15-15:30"],
    ),
    "India, trial of the second site": (
        ("XBOM", "2024-03-02"), ["2024-03-02 RTH 02 09:15-10:00", "2024-03-02 RTH 02 11:30-12:30"],
    ),
    "India, a Saturday for a Monday": (
        ("XNSE", "2024-01-20", "2024-01-23"), ["2024-01-20 RTH 20 09:15-15:30", "2024-01-23 RTH 23 09:15-15:30"],
    ),
    "India, Budget on a Sunday": (("XNSE", "2026-02-01"), ["2026-02-01 RTH 01 09:15-15:30"]),
    "Korea, day of the college exam": (
        ("XKRX", "2024-11-13", "2024-11-14"), ["2024-11-13 RTH 13 09:00-15:30", "2024-11-14 RTH 14 10:00-16:30"],
    ),
    "Indonesia, longer break on Friday, Nyepi and Eid of 2026": (
        ("XIDX", "2026-03-17", "2026-03-27"),
        [
            f"2026-03-{date} RTH {date} {span}"
            for date, spans in (
                (17, ("09:00-12:00", "13:30-15:50")), (25, ("09:00-12:00", "13:30-15:50")),
                (26, ("09:00-12:00", "13:30-15:50")), (27, ("09:00-11:30", "14:00-15:50")),
            )
            for span in spans
        ],
    ),
    "Malaysia, mid-day break, and a half day": (
        ("XKLS", "2025-01-27", "2025-01-28"),
        ["2025-01-27 RTH 27 09:00-12:30", "2025-01-27 RTH 27 14:30-17:00", "2025-01-28 RTH 28 09:00-12:30"],
    ),
    "Thailand, shorter break since March 2024": (
        ("XBKK", "2024-03-22", "2024-03-25"),
        [
            "2024-03-22 RTH 22 10:00-12:30", "2024-03-22 RTH 22 14:30-16:30",
            "2024-03-25 RTH 25 10:00-12:30", "2024-03-25 RTH 25 14:00-16:30",
        ],
    ),
    "Philippines, the day full hours came back": (
        ("XPHS", "2022-02-28", "2022-03-01"),
        ["2022-02-28 RTH 28 09:30-13:00", "2022-03-01 RTH 01 09:30-12:00", "2022-03-01 RTH 01 13:00-15:00"],
    ),
    "Hong Kong, black rainstorm": (
        ("XHKG", "2023-09-07", "2023-09-08"), ["2023-09-07 RTH 07 09:30-12:00", "2023-09-07 RTH 07 13:00-16:00"],
    ),
    "FX over Christmas": (
        ("FX", "2024-12-24", "2024-12-26"), ["2024-12-24 ETH 23 17:00-17:00", "2024-12-26 ETH 25 17:00-17:00"],
    ),
    "FX, short 31 December, no New Year": (
        ("FX", "2013-12-31", "2014-01-02"), ["2013-12-31 ETH 30 17:00-14:00", "2014-01-02 ETH 01 17:00-17:00"],
    ),
    "gold CFD on Thanksgiving and the day after": (
        ("GOLD_CFD", "2023-11-23", "2023-11-24"),
        ["2023-11-23 ETH 22 18:00-14:30", "2023-11-24 ETH 23 18:00-13:45"],
    ),
    "gold CFD on 24 December and Christmas": (
        ("GOLD_CFD", "2024-12-24", "2024-12-26"), ["2024-12-24 ETH 23 18:00-13:45", "2024-12-26 ETH 25 18:00-17:00"],
    ),
    "gold CFD has no Good Friday": (("GOLD_CFD", "2018-03-30"), []),
    "gold CFD on Labor Day 2018": (("GOLD_CFD", "2018-09-03"), ["2018-09-03 ETH 02 18:00-13:00"]),
    "1998": (("NYSE", "1998-01-05"), [
        "1998-01-05 OVERNIGHT 04 20:00-04:00",
        "1998-01-05 PRE 05 04:00-09:30",
        "1998-01-05 RTH 05 09:30-16:00",
        "1998-01-05 POST 05 16:00-20:00",
    ]),
    "Korea's last session of a decade opens as every other": (
        ("XKRX", "1999-12-28"),
        ["1999-12-28 RTH 28 09:00-12:00", "1999-12-28 RTH 28 13:00-15:00"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_read_golden_dates_gives_known_hours(asked, expected):
    assert hours(*asked) == expected


@pytest.mark.parametrize(
    ("date", "opening"),
    [("2024-03-08", "14:30"), ("2024-03-11", "13:30"), ("2024-11-01", "13:30"), ("2024-11-04", "14:30")],
)
def test_read_weeks_of_clock_changes_moves_the_open_in_utc(date, opening):
    regular = calendar("XNYS").segments(day(date), day(date)).filter("regular")
    assert f"{regular['segment_open'].item():%H:%M}" == opening


@pytest.mark.parametrize(
    ("code", "halt"),
    [
        ("CME_Equity", "12:00"),
        ("CME_Bond", "12:00"),
        ("CMEGlobex_FX", "16:00"),
        ("CMEGlobex_EnergyAndMetals", "13:30"),
        ("CME Globex Equity", "12:00"),
        ("CME Globex Crypto", "16:00"),
        ("CME Globex Fixed Income", "12:00"),
    ],
)
def test_read_cme_holiday_of_each_group_is_cleared_with_the_next_trade_date(code, halt):
    # Martin Luther King day, a Monday, and Tuesday; a session of its own it has none.
    assert hours(code, "2024-01-12", "2024-01-16") == [
        "2024-01-12 ETH 11 17:00-16:00",
        f"2024-01-16 ETH 14 17:00-{halt}",
        "2024-01-16 ETH 15 17:00-16:00",
    ]


@pytest.mark.parametrize(("date", "length"), [("2024-03-11", 23), ("2024-11-04", 23), ("2024-03-12", 23)])
def test_read_cme_over_clock_changes_keeps_the_length_of_its_day(date, length):
    found = calendar("CME_INDEX").segments(day(date), day(date))
    # The clocks change on Sunday at 02:00, before the week opens.
    assert (found["segment_close"] - found["segment_open"]).sum() == dt.timedelta(hours=length)


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "CME_INDEX", "24/7", "FX", "IEPA", "24/5", "us_futures", "EUREX"])
def test_read_segments_of_years_keeps_the_promises_of_the_frame(code):
    first, last = day("2018-06-01"), day("2021-06-30")
    whole = calendar(code).segments(first, last)
    assert dict(whole.schema) == dict(SEGMENTS)
    assert whole["segment_open"].is_sorted()
    assert (whole["segment_open"].slice(1) >= whole["segment_close"].head(-1)).all()
    assert whole["session"].is_sorted()
    assert whole["session"].is_between(first, last).all()
    assert whole["ordinal"].is_unique().all()
    assert set(whole["segment"]) <= set(calendar(code).labels)
    place = whole.select(
        pl.col("ordinal") - pl.col("session").cast(pl.Int32) * 16 == pl.int_range(pl.len()).over("session")
    )
    assert place.to_series().all()
    part = calendar(code).segments(day("2019-12-20"), day("2020-01-10"))
    assert part.equals(whole.filter(pl.col("session").is_between(day("2019-12-20"), day("2020-01-10"))))


def test_mark_regular_takes_rth_or_eth():
    assert set(calendar("XNYS").segments(day("2024-01-02"), day("2024-01-05")).filter("regular")["segment"]) == {"RTH"}
    assert calendar("FX").segments(day("2024-01-02"), day("2024-01-05"))["regular"].all()


def test_read_day_without_session_gives_no_row():
    assert calendar("XNYS").segments(day("2024-12-25"), day("2024-12-25")).height == 0


def test_read_codes_of_india_gives_one_answer():
    first, last = day("1997-01-01"), day("2026-12-31")
    whole = calendar("XBOM").segments(first, last)
    for code in ("XNSE", "NSE", "BSE"):
        assert calendar(code).code == code
        assert calendar(code).segments(first, last).equals(whole)
    described = dict(calendar_codes().select("code", "description").iter_rows())
    assert {described[code] for code in ("XNSE", "NSE", "BSE")} == {"as XBOM"}


@pytest.mark.parametrize(
    ("first", "last", "sessions"),
    # Days of which the archives of NSE and of BSE hold prices, as another project counted them.
    [
        ("2006-01-02", "2024-07-05", 4588),
        ("2010-01-04", "2026-09-01", 4135),
        ("2011-06-22", "2019-09-30", 2048),
        ("2016-09-01", "2024-07-05", 1943),
        ("2019-10-01", "2026-09-01", 1718),
        ("2024-07-08", "2026-09-01", 535),
    ],
)
def test_count_sessions_of_india_equals_the_days_in_archives(first, last, sessions):
    assert calendar("XNSE").segments(day(first), day(last))["session"].n_unique() == sessions


@pytest.mark.parametrize(("year", "sessions"), [(2025, 236), (2026, 239)])
def test_count_sessions_of_indonesia_equals_the_announced_number(year, sessions):
    assert calendar("XIDX").segments(dt.date(year, 1, 1), dt.date(year, 12, 31))["session"].n_unique() == sessions


def test_split_zero_length_break_leaves_one_segment():
    sessions = calendar("CME_Equity").segments(day("2022-01-03"), day("2022-12-30"))
    lengths = (sessions["segment_close"] - sessions["segment_open"]).dt.total_minutes()
    assert set(lengths) <= {23 * 60, 19 * 60, 19 * 60 + 15, 15 * 60 + 15}
    assert 23 * 60 in lengths


def test_ask_dates_out_of_bounds_names_parameter_and_bound():
    with pytest.raises(CalendarError, match=r"`first` was 1969-12-31, earlier than .* calendar XNYS \(1970-01-01\)"):
        calendar("XNYS").segments(day("1969-12-31"), day("1970-02-01"))
    with pytest.raises(CalendarError, match=r"`last` was 2027-01-04, later than .* calendar XBOM \(2026-12-31\)"):
        calendar("XBOM").segments(day("2026-01-01"), day("2027-01-04"))
    with pytest.raises(CalendarError, match="`first` was 2024-02-01, later than `last`"):
        calendar("FX").segments(day("2024-02-01"), day("2024-01-01"))


def test_cover_dates_out_of_bounds_clips_them():
    found = calendar("XBOM")
    inside = found.segments(day("2026-12-01"), day("2026-12-31"))
    assert found.segments_in_bounds(day("2026-12-01"), day("2030-01-01")).equals(inside)
    assert found.segments_in_bounds(day("2030-12-01"), day("2031-01-01")).height == 0


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("CMES", "CME_INDEX"),
        ("COMEX", "daily pause"),
        ("FOREX", "use FX"),
        ("XNYZ", r"did you mean .*XNYS"),
        ("nyse", r"did you mean NYSE"),
        ("", "calendar_codes"),
    ],
)
def test_ask_wrong_code_names_the_right_one(code, message):
    with pytest.raises(CalendarError, match=message):
        calendar(code)


def test_list_codes_accepts_every_one_and_says_the_same():
    listed = calendar_codes()
    assert listed["code"].is_unique().all()
    assert {"XNYS", "NASDAQ", "24/7", "FX", "CME_INDEX", "COMEX_METALS", "CMEGlobex_FX", "EUREX"} <= set(listed["code"])
    assert not {"CMES", "CME", "FOREX"} & set(listed["code"])
    for code, provider, zone, labels, description in listed.iter_rows():
        found = calendar(code)
        assert (found.code, found.provider, found.zone, list(found.labels)) == (code, provider, zone, labels)
        assert found.version
        assert description


def test_read_aliases_equals_their_calendar():
    dates = day("2020-01-01"), day("2020-12-31")
    assert calendar("NASDAQ").segments(*dates).equals(calendar("XNYS").segments(*dates))


@pytest.mark.parametrize("code", ["XNYS", "GC", "FX", str(HERE / "three_labels.toml")])
def test_pickle_calendar_gives_the_same_segments(code):
    found = calendar(code, HERE / "pause.toml")
    copy = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    dates = day("2023-01-01"), day("2024-12-31")
    assert copy == found
    assert copy.segments(*dates).equals(found.segments(*dates))


@pytest.mark.parametrize(("code", "zone"), [("XNYS", NEW_YORK), ("NSE", "Asia/Kolkata"), ("TSXV", "America/Toronto")])
def test_read_hours_equals_pandas_market_calendars(code, zone):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas on the library's own code
        library = pandas_market_calendars.get_calendar("NYSE" if code == "XNYS" else code)
        schedule = library.schedule("2012-01-01", "2022-12-31", market_times="all")
    ours = library_calendar(code).segments(day("2012-01-01"), day("2022-12-31"))  # our own NSE has more
    found = ours.filter(~pl.col("segment").is_in(["OVERNIGHT", "AUCTION"]))
    moments = ["pre", "market_open", "break_start", "break_end", "market_close", "post"]
    edges = [time for time in moments if time in schedule]
    if code == "XNYS":
        edges = ["pre", "market_open", "market_open", "market_close", "market_close", "post"]
    expected = [
        f"{at.tz_convert(zone):%Y-%m-%d %H:%M}" for row in schedule[edges].itertuples(index=False) for at in row
    ]
    edges_found = found.select(pl.concat_list("segment_open", "segment_close").explode().dt.convert_time_zone(zone))
    assert edges_found.to_series().dt.strftime("%Y-%m-%d %H:%M").to_list() == expected


def test_import_calendars_loads_no_calendar_library():
    probe = "import sys, engine.calendars.providers as c; c.calendar('FX'); print({'pandas','exchange_calendars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---------------------------------------------------------------------------- versions of the libraries


@pytest.fixture
def unbuilt(monkeypatch):
    """No calendar of a library is cached, in the process or on disk, before the test and after it."""
    monkeypatch.setenv("ENGINE_CACHE", "")
    _entry.cache_clear()
    yield
    _entry.cache_clear()


@pytest.mark.parametrize("code", ["ASEX", "XBEL", "XBSE", "XCYS", "XTAE"])
def test_read_calendar_with_a_week_mask_of_its_own_builds(code):
    sessions = calendar(code).segments(day("2023-12-27"), day("2024-01-03"))
    assert sessions["session"].n_unique() in {3, 4, 5, 6}
    assert calendar(code).provider == "exchange_calendars"


def test_read_from_library_that_lost_special_sessions_names_the_versions(unbuilt, monkeypatch):
    # What pandas 3.1 does to exchange_calendars 4.13.2: week masks of single weeks have no effect, silently.
    monkeypatch.setattr(exchange_calendars.exchange_calendar_xbom.XBOMExchangeCalendar, "special_weekmasks", [])
    message = (
        r"exchange_calendars [\d.]+ with pandas [\d.]+ does not know a special session .* install .*'exchange-calendars"
    )
    for _ in range(2):  # a second request is refused too
        with pytest.raises(CalendarError, match=message):
            calendar("XHKG").segments(day("2024-01-02"), day("2024-01-05"))
    assert calendar("CMEGlobex_FX").segments(day("2024-01-03"), day("2024-01-05")).height == 3


def test_read_from_library_that_lost_special_hours_names_the_versions(unbuilt, monkeypatch):
    monkeypatch.setattr(libraries, "market_special_session", lambda: False)
    with pytest.raises(CalendarError, match=r"pandas_market_calendars [\d.]+ with pandas [\d.]+ does not know"):
        calendar("TSXV").segments(day("2024-01-02"), day("2024-01-05"))


def test_read_from_library_that_fails_on_its_special_session_names_error_and_versions(unbuilt, monkeypatch):
    def fail(_self, **_dates):
        raise AttributeError("freq")

    monkeypatch.setattr(exchange_calendars.exchange_calendar_xbom.XBOMExchangeCalendar, "__init__", fail)
    with pytest.raises(CalendarError, match=r"exchange_calendars .* fails \(AttributeError: freq\); install"):
        calendar("XHKG").segments(day("2024-01-02"), day("2024-01-05"))


def test_read_market_that_one_library_cannot_build_gives_the_sessions_of_the_other(unbuilt, monkeypatch):
    def fail(_self, **_dates):
        raise NotImplementedError("implemented by subclasses")  # as with pandas 3.1

    monkeypatch.setattr(exchange_calendars.exchange_calendar_xtae.XTAEExchangeCalendar, "__init__", fail)
    found = calendar("XTAE")
    assert (found.code, found.provider, found.zone) == ("XTAE", "pandas_market_calendars", "Asia/Jerusalem")
    assert found.bounds()[0] == day("2019-01-01")
    # Independence Day of 2024, a Tuesday, and its eve; Friday and Saturday are the weekend.
    assert found.segments(day("2024-05-09"), day("2024-05-17"))["session"].dt.day().to_list() == [9, 12, 15, 16]


# ---------------------------------------------------------------------------- files


OVERRIDDEN = {
    "before the lunch break": ("2020-12-31", ["RTH 31 09:30-16:00"]),
    "holiday": ("2024-07-04", []),
    "closed": ("2024-03-01", []),
    "special session": ("2024-03-02", ["RTH 02 10:00-11:00"]),
    "late open": ("2024-03-04", ["PRE 04 07:00-10:30", "RTH 04 10:30-12:00", "RTH 04 13:00-16:00", "POST 04 16:00-18:30"]),
    "early close": ("2024-03-05", ["PRE 05 07:00-09:30", "RTH 05 09:30-12:00", "RTH 05 13:00-15:00", "POST 05 15:00-18:30"]),
    "extra pause": (
        "2024-03-06",
        ["PRE 06 07:00-09:30", "RTH 06 09:30-12:00", "RTH 06 13:00-14:00", "RTH 06 14:20-16:00", "POST 06 16:00-18:30"],
    ),
    "moved times": ("2024-03-12", ["PRE 12 06:00-09:30", "RTH 12 09:30-12:00", "RTH 12 13:00-16:15", "POST 12 16:15-18:30"]),
    "after the moved times": ("2024-03-14", ["PRE 14 07:00-09:30", "RTH 14 09:30-12:00", "RTH 14 13:00-16:00", "POST 14 16:00-18:30"]),
    "close in the lunch break": ("2024-03-20", ["PRE 20 07:00-09:30", "RTH 20 09:30-12:00", "POST 20 12:30-18:30"]),
}  # fmt: skip


@pytest.mark.parametrize(("date", "expected"), OVERRIDDEN.values(), ids=OVERRIDDEN.keys())
def test_read_own_calendar_applies_what_the_file_says(date, expected):
    assert hours(HERE / "three_labels.toml", date) == [f"{date} {text}" for text in expected]


def test_read_own_calendar_takes_code_labels_and_hash_from_the_file():
    found = calendar(str(HERE / "three_labels.toml"))
    assert (found.code, found.provider, found.zone, found.labels) == ("THREE", "file", NEW_YORK, ("PRE", "RTH", "POST"))
    assert len(found.version) == 16
    assert found.overrides_hash == ""


def test_override_library_calendar_records_the_hash_and_keeps_the_rest(tmp_path):
    plain, changed = calendar("XNYS"), calendar("XNYS", HERE / "pause.toml")
    assert (changed.code, changed.provider, changed.version) == (plain.code, plain.provider, plain.version)
    assert changed.overrides_hash
    assert changed.overrides_hash != calendar("XNYS", write(tmp_path, "holidays = [2024-02-20]")).overrides_hash
    assert hours(changed, "2024-02-20") == []
    assert hours(changed, "2024-02-21")[2:4] == ["2024-02-21 RTH 21 09:30-11:00", "2024-02-21 RTH 21 11:45-16:00"]
    assert hours(changed, "2024-02-22", "2024-06-30") == hours(plain, "2024-02-22", "2024-06-30")


def test_extend_library_calendar_names_what_it_stands_on(tmp_path):
    found = calendar(write(tmp_path, 'extends = "XTKS"\n[[override]]\ndate = 2020-01-23\nclose = "11:00"\n'))
    assert (found.code, found.provider, found.zone) == ("mine", "file", "Asia/Tokyo")
    assert " on exchange_calendars " in found.version
    assert hours(found, "2020-01-22", "2020-01-23") == [
        "2020-01-22 RTH 22 09:00-11:30", "2020-01-22 RTH 22 12:30-15:00", "2020-01-23 RTH 23 09:00-11:00",
    ]  # fmt: skip


def test_override_other_hours_over_a_range_changes_only_sessions(tmp_path):
    text = '[[override]]\nvalid_from = 2024-07-03\nvalid_to = 2024-07-05\nRTH = "10:00 to 12:00"\n'
    assert hours(calendar("XNYS", write(tmp_path, text)), "2024-07-03", "2024-07-07") == [
        "2024-07-03 RTH 03 10:00-12:00", "2024-07-05 RTH 05 10:00-12:00",
    ]  # fmt: skip


def test_borrow_holidays_closes_weekdays_only(tmp_path):
    text = (
        'zone = "America/New_York"\nholidays_from = "XNYS"\n[[hours]]\ndays = "Mon-Fri,Sun"\nETH = "00:00 to 24:00"\n'
    )
    sessions = calendar(write(tmp_path, text)).segments(day("2024-12-22"), day("2024-12-29"))["session"].to_list()
    assert [found.day for found in sessions] == [22, 23, 24, 26, 27, 29]


def test_extend_with_valid_dates_bounds_the_calendar():
    found = calendar(HERE / "eurex_index.toml")
    assert found.bounds() == (day("2018-12-10"), day("2049-12-31"))
    assert hours(found, "2024-03-28", "2024-04-02") == [
        "2024-03-28 ETH 28 01:15-22:00",
        "2024-04-02 ETH 02 02:15-22:00",
    ]


WRONG = {
    "unknown key": ('zone = "UTC"\nholiday = []\n' + WEEK[25:], r"mine.toml: holiday: unknown key \(did you mean holidays\?\)"),
    "unknown key of hours": (WEEK + 'RTH = "09:30 to 16:00"\nvalid_form = 2024-01-01', r"\[\[hours\]\] 1: valid_form: .*valid_from"),
    "label in small letters": (WEEK + 'rth = "09:30 to 16:00"', "labels in capitals"),
    "bad time": (WEEK + 'RTH = "09:30 to 25:00"', r"mine.toml: \[\[hours\]\] 1: RTH: received '25:00'"),
    "bad minutes": (WEEK + 'RTH = "09:75 to 16:00"', "received '09:75'"),
    "no close": (WEEK + 'RTH = "09:30"', "received '09:30'; valid: open and close"),
    "close before open": (WEEK + 'ETH = "18:00 to 17:00"', "18:00-1d"),
    "number for a time": (WEEK + "RTH = 930", "received 930"),
    "no hours": (WEEK, 'RTH = "09:30 to 16:00"'),
    "neither hours nor extends": ('zone = "UTC"', r"\[\[hours\]\]"),
    "no zone": (WEEK.split("\n", 1)[1] + 'RTH = "09:30 to 16:00"', "zone: received ''"),
    "unknown zone": (WEEK.replace("New_York", "New_Amsterdam") + 'RTH = "09:30 to 16:00"', "America/New_Amsterdam"),
    "unknown zone of a time": (WEEK + 'RTH = "09:30 Mars/Base to 16:00"', "Mars/Base"),
    "unknown weekday": (WEEK.replace("Mon-Fri", "Mon-Fry") + 'RTH = "09:30 to 16:00"', "received 'Mon-Fry'"),
    "quoted date": ('holidays = ["2024-01-01"]\n' + WEEK + 'RTH = "09:30 to 16:00"', "dates without quotes"),
    "no date": (WEEK + 'RTH = "09:30 to 16:00"\nvalid_from = []', r"valid_from: received \[\]; valid: one date"),
    "two dates for one": (
        'extends = "XNYS"\n[[override]]\nvalid_from = [2024-01-02, 2024-02-02]\nRTH = "10:00 to 12:00"',
        "valid_from: received .*2024, 2, 2.*valid: one date",
    ),
    "reversed dates": (WEEK + 'RTH = "09:30 to 16:00"\nvalid_from = 2024-01-02\nvalid_to = 2024-01-01', "valid_to: received '2024-01-01'"),
    "unknown base": ('extends = "XNYZ"', "XNYS"),
    "no TOML": ("zone = ", "not a readable calendar file"),
    "two kinds of override": ('extends = "XNYS"\n[[override]]\ndate = 2024-01-02\nclosed = true\nclose = "12:00"', "one of the three"),
    "override of nothing": ('extends = "XNYS"\n[[override]]\ndate = 2024-01-02', "one of the three"),
    "override without date": ('extends = "XNYS"\n[[override]]\nclosed = true', "either date or dates"),
    "closed by text": ('extends = "XNYS"\n[[override]]\ndate = 2024-01-02\nclosed = "yes"', "true or false"),
    "move to another day": ('extends = "XNYS"\n[[override]]\nvalid_from = 2024-01-02\nmove = { "16:00" = "16:00-1d" }', "without a day"),
    "move as text": ('extends = "XNYS"\n[[override]]\nvalid_from = 2024-01-02\nmove = "16:00"', "old and new times"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_read_file_with_a_mistake_names_it(tmp_path, text, message):
    with pytest.raises(CalendarError, match=message):
        calendar(write(tmp_path, text))


def test_read_absent_file_names_it(tmp_path):
    with pytest.raises(CalendarError, match=r"absent\.toml: not a readable"):
        calendar(tmp_path / "absent.toml")


def test_override_file_with_hours_of_its_own_is_refused():
    with pytest.raises(CalendarError, match="unknown key"):
        calendar("XNYS", HERE / "three_labels.toml")


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ('RTH = "09:30 to 16:00"\nETH = "15:00 to 18:00"', "ETH of 2024-01-02, .* overlaps the one before"),
        ('RTH = "09:30 America/New_York to 10:00 Europe/Berlin"', "RTH of 2024-01-02, .* closes before it opens"),
        ("RTH = [" + ", ".join(f'"{h:02}:00 to {h:02}:30"' for h in range(17)) + "]", "more than 16 segments"),
    ],
    ids=["overlap", "backwards across zones", "too many"],
)
def test_read_hours_that_contradict_each_other_names_segment_and_session(tmp_path, spans, message):
    with pytest.raises(CalendarError, match=message):
        calendar(write(tmp_path, WEEK + spans)).segments(day("2024-01-02"), day("2024-01-05"))


def local_instant(date: dt.date, minutes: int, zone: str) -> dt.datetime:
    """PEP 495: the first of two, and a skipped time by the offset before the change."""
    naive = dt.datetime.combine(date, dt.time()) + dt.timedelta(minutes=minutes)
    return naive.replace(tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Sydney", "America/Santiago", "Asia/Kolkata"]),
    first=st.dates(dt.date(2000, 1, 1), dt.date(2025, 12, 1)),
    begin=st.integers(-1439, 1379),
    length=st.integers(60, 1440),
)
def test_convert_local_hours_equals_zoneinfo(tmp_path_factory, zone, first, begin, length):
    end = min(begin + length, 1440)
    span = " to ".join(f"{m % 1440 // 60:02}:{m % 60:02}{m // 1440:+d}d" for m in (begin, end - 1))
    path = write(tmp_path_factory.mktemp("own"), f'zone = "{zone}"\n[[hours]]\ndays = "Mon-Sun"\nETH = "{span}"\n')
    dates = [first + dt.timedelta(days=n) for n in range(0, 360, 2)]
    expected = [(local_instant(d, begin, zone), local_instant(d, end - 1, zone)) for d in dates]
    found = calendar(path).source(dates[0], dates[-1]).filter(pl.col("session").is_in(dates)).sort("session")
    assert list(zip(found["segment_open"], found["segment_close"], strict=True)) == expected


# ---------------------------------------------------------------------------- vendor files


SEEN = {
    "01:15-22:00 Berlin": HERE / "eurex_index.toml",
    "02:15-22:00 Berlin (as observed, summer)": HERE / "eurex_index.toml",
    "09:00-17:30 Berlin": "XETR",
    "18:00-17:00 New York, Sunday to Friday": "GOLD_CFD",
    "24x7, UTC day": "24/7",
    "XBOM session 09:15-15:30 Kolkata": "XBOM",
    "XNYS regular session": "XNYS",
    "XNYS regular session (08:30-15:00 Chicago)": "XNYS",
    "24x5, Sunday 17:00 - Friday 17:00 New York": "FX",
    "Globex 2013: 18:00-16:15, 16:30-17:15 New York": "CME_INDEX",
    "Globex 2013: 18:00-17:15 New York": "COMEX_METALS",
    "XTKS session with lunch break": "XTKS",
}


def windows_of_day(found: SessionCalendar, date: dt.date, zone: str) -> list[list[str]]:
    """Regular segments within a civil day of `zone`, touching ones joined, as the vendor facts write them."""
    start = dt.datetime.combine(date, dt.time(), ZoneInfo(zone))
    end = dt.datetime.combine(date + dt.timedelta(days=1), dt.time(), ZoneInfo(zone))
    near = found.segments(date - dt.timedelta(days=4), date + dt.timedelta(days=4)).filter("regular")
    joined: list[list[dt.datetime]] = []
    for opens, closes in zip(near["segment_open"], near["segment_close"], strict=True):
        low, high = max(opens, start), min(closes, end)
        if low < high and joined and joined[-1][1] == low:
            joined[-1][1] = high
        elif low < high:
            joined.append([low, high])
    return [[f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}" for at in pair] for pair in joined]


def test_read_vendor_days_gives_the_hours_seen_in_the_files(vendor):
    facts = [fact for fact in json.loads((vendor / "FACTS.json").read_text()) if fact["windows"]]
    found = {name: calendar(code) for name, code in SEEN.items()}
    assert {fact["session"] for fact in facts} == set(SEEN)
    for fact in facts:
        date = dt.datetime.strptime(Path(fact["path"]).name[:8], "%Y%m%d").date()  # noqa: DTZ007 - a date
        assert windows_of_day(found[fact["session"]], date, fact["time_zone"]) == fact["windows"], fact["path"]


def test_read_feed_day_of_fxcm_gives_the_same_hours_with_sunday_as_session(vendor):
    facts = [
        fact for fact in json.loads((vendor / "FACTS.json").read_text()) if fact["windows"] and "fxcm" in fact["path"]
    ]
    found = calendar(HERE / "fxcm_day.toml")
    for fact in facts:
        date = dt.datetime.strptime(Path(fact["path"]).name[:8], "%Y%m%d").date()  # noqa: DTZ007 - a date
        assert found.segments(date, date)["session"].to_list() == [date]
        assert windows_of_day(found, date, fact["time_zone"]) == fact["windows"], fact["path"]


def test_count_minutes_of_euro_fx_month_equals_vendor_facts(vendor):
    fact = next(f for f in json.loads((vendor / "FACTS.json").read_text()) if "6EH4" in f["path"])
    low, high = (dt.datetime.fromisoformat(fact[end]).replace(tzinfo=dt.UTC) for end in ("first", "last"))
    high += dt.timedelta(minutes=1)
    near = calendar("CMEGlobex_FX").segments(day("2023-12-20"), day("2024-02-10"))
    inside = near.select(
        (
            pl.min_horizontal("segment_close", pl.lit(high)) - pl.max_horizontal("segment_open", pl.lit(low))
        ).dt.total_minutes()
    ).to_series()
    assert inside.clip(0).sum() == fact["expected_slots"]


def vendor_hours(path: Path, zone: str) -> pl.DataFrame:
    """`ts` of a Lean file of hourly bars, in UTC."""
    with zipfile.ZipFile(path) as archive:
        rows = pl.read_csv(archive.read(archive.namelist()[0]), has_header=False, infer_schema=False)
    stamp = rows.to_series(0).str.to_datetime("%Y%m%d %H:%M").dt.replace_time_zone(zone).dt.convert_time_zone("UTC")
    return pl.DataFrame({"ts": stamp})


@pytest.mark.parametrize(
    ("path", "zone", "code", "first", "outside", "absent"),
    [
        # Before 2010 Oanda quoted in the first hours of 25 December and the last of 1 January.
        ("forex/oanda/hour/eurusd.zip", "UTC", "FX", "2010-01-01", 0, 223),
        # Until September 2015 gold was quoted to 17:15; the 10 are single bars just after a close. What is absent are whole
        # days (12 to 15 December 2016) that the vendor lacks, of gold 20 more and many first hours of a Sunday evening.
        ("cfd/oanda/hour/xauusd.zip", "UTC", "GOLD_CFD", "2015-10-01", 10, 656),
    ],
)
def test_real_hours_of_years_lie_within_the_sessions(vendor, path, zone, code, first, outside, absent):
    bars = vendor_hours(vendor / "lean" / path, zone).filter(pl.col("ts").dt.date() >= day(first))
    found = calendar(code)
    due = found.segments(day(first), day("2019-12-31")).select(
        pl.datetime_ranges(pl.col("segment_open").dt.truncate("1h"), "segment_close", "1h", closed="left").alias("ts")
    )
    hours_due = due.explode("ts").filter(pl.col("ts").is_between(bars["ts"].min(), bars["ts"].max()))
    assert bars.join(hours_due, on="ts", how="anti").height == outside
    assert hours_due.join(bars, on="ts", how="anti").height == absent


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "CMEGlobex_FX", "24/7"])
def test_prepared_calendar_is_the_same_within_its_decades_and_beyond_them(code):
    held = pickle.loads(pickle.dumps(preload_calendar(code, dt.date(2013, 5, 1), dt.date(2014, 5, 1))))  # noqa: S301 - made here
    assert held == calendar(code)
    for first, last in ((2010, 2019), (2012, 2012), (2008, 2012), (2019, 2021)):
        dates = dt.date(first, 1, 1), dt.date(last, 12, 31)
        assert_frame_equal(held.segments(*dates), calendar(code).segments(*dates))


def test_taken_calendar_asks_its_library_only_for_other_decades(tmp_path):
    path = tmp_path / "calendar"
    path.write_bytes(pickle.dumps(preload_calendar("XNYS", dt.date(2013, 5, 1), dt.date(2014, 5, 1))))
    code = f"""
import datetime as dt, pickle, sys
from pathlib import Path
from engine.calendars.cache import adopt
from engine.calendars.providers import calendar
adopt([pickle.loads(Path({str(path)!r}).read_bytes())])
print(calendar("XNYS").segments_in_bounds(dt.date(2013, 1, 1), dt.date(2013, 12, 31)).height, "exchange_calendars" in sys.modules)
print(calendar("XNYS").segments_in_bounds(dt.date(2023, 1, 1), dt.date(2023, 12, 31)).height, "exchange_calendars" in sys.modules)
"""
    environment = {**os.environ, "ENGINE_CACHE": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    heights = [calendar("XNYS").segments_in_bounds(dt.date(y, 1, 1), dt.date(y, 12, 31)).height for y in (2013, 2023)]
    assert done.stdout.split() == [str(heights[0]), "False", str(heights[1]), "True"]


def test_check_labels_knows_labels_that_some_dates_lack_and_names_the_calendar_s_own(tmp_path):
    path = tmp_path / "half_days.toml"
    path.write_text(
        'zone = "UTC"\n[[hours]]\ndays = "Mon-Thu"\nRTH = "08:00 to 16:00"\nPOST = "16:00 to 17:00"\n'
        '[[hours]]\ndays = "Fri"\nRTH = "08:00 to 12:00"\n'
    )
    found = calendar(path)
    assert "POST" not in found.segments(dt.date(2023, 12, 22), dt.date(2023, 12, 22))["segment"].to_list()
    found.check_labels(("RTH", "POST"))
    with pytest.raises(ParameterError, match="received NIGHT; calendar half_days has RTH, POST"):
        found.check_labels(("RTH", "NIGHT"))
