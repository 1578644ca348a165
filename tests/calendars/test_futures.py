"""Calendars of futures: hours by era, halts, early closes and trade dates, against independent answers."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from zoneinfo import ZoneInfo

import pandas_market_calendars
import polars as pl
import pytest
from engine.calendars import providers
from engine.calendars.providers import calendar
from engine.errors import CalendarError

day = dt.date.fromisoformat
OPEN, CLOSED = "open", "closed"

# What trades on the civil date before 16:45: the last close, `closed`, or `open` for the usual one.
FACTS: dict[str, dict[str, str]] = {
    "CME_INDEX": {
        "2006-01-16": "10:30", "2006-02-20": "10:30", "2006-07-03": OPEN, "2006-07-04": "10:30", "2006-12-25": CLOSED,
        "2007-09-03": "10:30", "2005-12-26": CLOSED, "2009-12-24": "12:15", "2010-04-02": "08:15", "2011-04-22": CLOSED,
        "2011-11-25": "12:15", "2012-04-06": "08:15", "2012-07-03": "12:15", "2012-07-04": "10:30",
        "2012-10-29": "08:15", "2012-10-30": "08:15", "2014-02-17": "10:30", "2014-05-26": "12:00",
        "2014-12-31": OPEN, "2015-04-03": "08:15", "2015-07-03": "12:00", "2016-07-01": OPEN, "2017-07-03": "12:15",
        "2018-12-05": "08:30", "2018-12-24": "12:15", "2020-07-03": "12:00", "2021-04-02": "08:15",
        "2021-06-18": OPEN, "2021-12-23": OPEN, "2021-12-24": CLOSED, "2021-12-31": OPEN, "2022-04-15": CLOSED,
        "2022-06-20": "12:00", "2023-04-07": "08:15", "2023-07-03": "12:15", "2024-03-29": CLOSED,
        "2024-07-03": "12:15", "2024-11-29": "12:15", "2025-01-09": "08:30", "2025-04-18": CLOSED,
        "2025-07-04": "12:00", "2026-04-03": "08:15", "2026-06-19": "12:00", "2026-07-03": "12:00", "2026-12-24": "12:15",
    },
    "CME_RATES": {
        "2005-03-24": "15:15", "2009-10-09": "15:15", "2010-04-02": "10:15", "2010-12-31": "12:15",
        "2011-05-30": "12:00", "2012-10-29": "11:00", "2012-10-30": OPEN, "2014-08-29": "15:15", "2015-09-04": OPEN,
        "2018-12-05": CLOSED, "2021-04-02": "10:15", "2022-07-04": "12:00", "2024-03-29": CLOSED, "2024-11-29": "12:45",
        "2024-12-24": "12:15", "2025-01-09": "12:15", "2025-04-18": CLOSED, "2026-04-03": "10:15", "2026-07-03": "12:00",
    },
    "CME_FX": {
        "2012-10-29": OPEN, "2015-04-03": "10:15", "2018-12-05": OPEN, "2021-11-25": "12:00", "2022-01-17": OPEN,
        "2022-06-20": OPEN, "2022-11-25": "12:15", "2023-04-07": "10:15", "2024-03-29": CLOSED, "2024-12-24": "12:45",
        "2025-01-09": OPEN, "2025-07-04": "12:00", "2025-11-28": "13:45", "2026-06-19": "12:00", "2026-09-07": OPEN,
    },
    "CME_CRYPTO": {
        "2018-02-19": "12:00", "2018-07-03": "12:15", "2021-04-02": "08:15", "2021-11-26": "12:45", "2022-01-17": OPEN,
        "2022-04-15": CLOSED, "2023-04-07": "10:15", "2023-07-03": OPEN, "2024-11-29": "12:45", "2024-12-25": CLOSED,
        "2025-04-18": CLOSED, "2025-07-04": "12:00", "2025-11-28": "13:45", "2025-12-24": "12:45", "2026-04-03": "10:15",
    },
    "COMEX_METALS": {
        "2007-09-03": OPEN, "2008-01-21": OPEN, "2009-05-25": "12:15", "2009-07-03": "12:30", "2010-04-02": CLOSED,
        "2010-12-31": "15:15", "2014-05-26": "12:00", "2015-04-03": CLOSED, "2018-12-05": OPEN, "2021-12-24": CLOSED,
        "2022-09-05": "13:30", "2023-11-24": "12:45", "2024-11-29": "13:45", "2024-12-24": "12:45", "2025-01-09": OPEN,
        "2025-07-04": "12:00", "2025-09-01": "13:30", "2025-11-28": "13:45", "2026-06-19": "12:00", "2026-04-03": CLOSED,
    },
    "NYMEX_ENERGY": {"2024-07-04": "13:30", "2025-07-04": "12:00", "2026-07-03": "12:00", "2026-11-27": "13:45"},
    "CBOT_GRAINS": {
        "2011-11-25": "12:00", "2012-07-03": "12:00", "2013-01-21": CLOSED, "2016-12-23": "12:05", "2017-12-22": "12:05",
        "2020-07-02": "12:05", "2021-07-02": OPEN, "2022-06-20": CLOSED, "2024-06-19": CLOSED, "2024-11-29": "12:05",
        "2024-12-24": "12:05", "2025-01-09": "12:15", "2025-07-03": OPEN, "2025-07-04": CLOSED, "2026-06-19": CLOSED,
    },
    "CME_LIVESTOCK": {
        "2012-04-05": "13:55", "2013-07-03": "12:15", "2016-11-25": "12:15", "2020-11-27": "12:05", "2022-06-20": CLOSED,
        "2024-06-19": CLOSED, "2024-12-24": "12:15", "2025-12-24": "12:15", "2026-11-27": "12:05", "2026-07-03": CLOSED,
    },
    "CFE_VX": {
        "2007-01-02": CLOSED, "2012-10-29": CLOSED, "2014-01-20": CLOSED, "2015-01-19": "10:30", "2015-04-03": "08:15",
        "2018-03-30": CLOSED, "2018-07-03": OPEN, "2018-12-05": CLOSED, "2019-07-03": "12:15", "2021-04-02": "08:30",
        "2022-06-20": "10:30", "2023-04-07": "08:30", "2024-03-29": CLOSED, "2025-01-09": "08:30", "2025-07-03": "12:15",
        "2025-07-04": "10:30", "2026-04-03": "08:30", "2026-11-27": "12:15", "2026-12-25": CLOSED,
    },
    "EUREX_INDEX": {
        "2012-12-31": CLOSED, "2015-05-25": CLOSED, "2016-10-03": OPEN, "2018-12-24": CLOSED, "2020-12-28": OPEN,
        "2022-12-27": OPEN, "2025-12-31": CLOSED, "2026-04-06": CLOSED, "2026-05-01": CLOSED, "2026-12-24": CLOSED,
    },
    "EUREX_DAX": {"2016-10-03": CLOSED, "2018-05-21": CLOSED, "2019-10-03": OPEN},
    "EUREX_RATES": {"2016-10-03": OPEN, "2020-12-28": OPEN, "2024-12-24": CLOSED},
}  # fmt: skip

# Trade date, and the local spans that are cleared with it.
TRADE_DATES: dict[tuple[str, str], list[str]] = {
    ("CME_INDEX", "2010-01-19"): ["01-17 17:00 10:30", "01-18 17:00 15:15"],
    ("CME_INDEX", "2010-01-20"): ["01-19 15:30 16:30", "01-19 17:00 15:15"],
    ("CME_INDEX", "2011-12-27"): ["12-27 05:00 15:15"],
    ("CME_INDEX", "2012-07-05"): ["07-03 17:00 10:30", "07-04 17:00 15:15"],
    ("CME_INDEX", "2012-10-31"): ["10-30 17:00 15:15"],
    ("CME_INDEX", "2024-11-29"): ["11-27 17:00 12:00", "11-28 17:00 12:15"],
    ("CME_INDEX", "2026-07-06"): ["07-02 17:00 12:00", "07-05 17:00 16:00"],
    ("CME_INDEX", "2026-04-03"): ["04-02 17:00 08:15"],
    ("CME_FX", "2022-01-18"): ["01-16 17:00 16:00", "01-17 17:00 16:00"],
    ("CME_CRYPTO", "2026-06-01"): ["05-29 16:02 02:00", "05-30 04:00 16:00"],
    ("CME_CRYPTO", "2026-08-03"): ["07-31 16:02 02:00", "08-01 09:00 16:00"],
    ("CME_CRYPTO", "2026-09-08"): ["09-04 16:02 02:00", "09-05 04:00 16:00", "09-07 16:02 16:00"],
    ("CME_CRYPTO", "2026-12-28"): ["12-24 16:02 16:00", "12-25 16:02 02:00", "12-26 04:00 16:00"],
    ("COMEX_METALS", "2025-12-26"): ["12-25 17:00 16:00"],
    ("CBOT_GRAINS", "2012-05-21"): ["05-20 17:00 14:00"],
    ("CBOT_GRAINS", "2013-04-08"): ["04-07 19:00 07:45", "04-08 08:30 13:15"],
    ("CBOT_GRAINS", "2024-06-20"): ["06-19 19:00 07:45", "06-20 08:30 13:20"],
    ("CBOT_GRAINS", "2024-07-05"): ["07-05 08:30 13:20"],
    ("CBOT_GRAINS", "2025-07-07"): ["07-06 19:00 07:45", "07-07 08:30 13:20"],
    ("CBOT_GRAINS", "2026-01-02"): ["01-02 08:30 13:20"],
    ("CME_LIVESTOCK", "2012-11-23"): ["11-22 17:00 12:15"],
    ("CME_LIVESTOCK", "2015-01-20"): ["01-20 09:05 16:00"],
    ("CME_LIVESTOCK", "2026-11-27"): ["11-27 08:30 12:05"],
    ("CFE_VX", "2013-11-05"): ["11-04 15:30 16:15", "11-05 02:00 15:15"],
    ("CFE_VX", "2014-01-21"): ["01-21 02:00 15:15"],
    ("CFE_VX", "2015-04-06"): ["04-02 15:30 08:15", "04-05 17:00 15:15"],
    ("CFE_VX", "2018-02-26"): ["02-25 17:00 15:15", "02-26 15:30 16:00"],
    ("CFE_VX", "2026-07-06"): ["07-02 17:00 10:30", "07-05 17:00 16:00"],
    ("EUREX_INDEX", "2018-12-07"): ["12-07 07:50 22:00"],
    ("EUREX_INDEX", "2018-12-10"): ["12-10 01:10 22:00"],
    ("EUREX_INDEX", "2024-06-03"): ["06-03 02:10 22:00"],
    ("EUREX_RATES", "2018-12-07"): ["12-07 08:00 22:00"],
}


def local_spans(code: str, first: dt.date, last: dt.date) -> pl.DataFrame:
    """Segments with `opens` and `closes` on the wall clock of the venue."""
    found = calendar(code)
    both = pl.col("segment_open", "segment_close").dt.convert_time_zone(found.zone).dt.replace_time_zone(None)
    return found.segments_in_bounds(first, last).with_columns(both)


def last_closes(code: str, first: dt.date, last: dt.date) -> dict[dt.date, str]:
    """Last close before 16:45 (23:00 at Eurex) of each civil date on which the calendar is open before it."""
    until = dt.timedelta(hours=23 if code.startswith("EUREX") else 16.75)
    found: dict[dt.date, dt.datetime] = {}
    spans = local_spans(code, first - dt.timedelta(days=7), last + dt.timedelta(days=7))
    for opens, closes in spans.select("segment_open", "segment_close").iter_rows():
        for later in range((closes.date() - opens.date()).days + 1):
            midnight = dt.datetime.combine(opens.date() + dt.timedelta(days=later), dt.time())
            end = min(closes, midnight + until)
            if max(opens, midnight) < end:
                found[midnight.date()] = max(end, found.get(midnight.date(), end))
    return {date: f"{end:%H:%M}" for date, end in found.items()}


def usual_closes(code: str, date: dt.date) -> set[str]:
    """The closes of at least a fifth of the year around a date: what is no early close."""
    around = last_closes(code, date - dt.timedelta(days=180), date + dt.timedelta(days=180))
    counts = pl.Series(list(around.values())).value_counts()
    return set(counts.filter(pl.col("count") > len(around) / 5).to_series(0).to_list())


@pytest.mark.parametrize("code", FACTS)
def test_read_holidays_of_futures_gives_their_close(code):
    closes = last_closes(code, day("2005-01-01"), day("2026-12-31"))
    found = {}
    for text, expected in FACTS[code].items():
        said = closes.get(day(text), CLOSED)
        found[text] = OPEN if expected == OPEN and said in usual_closes(code, day(text)) else said
    assert found == FACTS[code]


@pytest.mark.parametrize(("code", "date"), TRADE_DATES)
def test_read_trade_date_of_futures_gives_all_that_is_cleared_with_it(code, date):
    spans = local_spans(code, day(date), day(date)).select("segment_open", "segment_close").rows()
    assert [f"{opens:%m-%d %H:%M} {closes:%H:%M}" for opens, closes in spans] == TRADE_DATES[code, date]


@pytest.mark.parametrize("code", FACTS)
def test_read_part_of_futures_calendar_equals_the_whole(code):
    # A holiday's halted session is cleared after it: a range that begins in between must know of it.
    whole = calendar(code).segments(day("2018-01-01"), day("2023-12-31"))
    for first in ("2019-12-31", "2020-01-21", "2021-07-06", "2022-06-21"):
        part = calendar(code).segments(day(first), day("2023-11-24"))
        assert part.equals(whole.filter(pl.col("session").is_between(day(first), day("2023-11-24"))))


# ---------------------------------------------------------------------------- libraries and databases


LIBRARIES = {
    "CME_INDEX": "CME Globex Equity",
    "CME_RATES": "CME Globex Fixed Income",
    "CME_CRYPTO": "CME Globex Crypto",
}
# Differences from the library on 2009 to 2026, decided by CME's schedules and notices (the sources in the TOML files).
AGAINST_LIBRARY = {
    "CME_INDEX": {"2012-10-29", "2012-10-30", "2018-12-05", "2025-01-09"},
    "CME_RATES": {
        "2009-10-09", "2010-10-08", "2011-10-07", "2012-10-05", "2012-10-29", "2018-12-05", "2024-11-29", "2025-01-09",
    },
    "CME_CRYPTO": {"2023-07-03", "2024-07-03", "2025-07-03", "2024-12-24", "2025-07-04", "2025-11-28", "2025-12-24"},
}  # fmt: skip
# Open in pandas_market_calendars 5.5.
CLOSED_GOOD_FRIDAYS = {"2024-03-29", "2025-04-18"}
ENDS = {"CME_CRYPTO": "2026-05-28"}
# Closes that are no early ones: ES ended at 15:15 before a holiday until 2012, and at 16:30 before other days.
REGULAR = {"CME_INDEX": {"15:15", "16:00", "16:15", "16:30"}}


@pytest.mark.parametrize("code", LIBRARIES)
def test_read_closes_of_futures_equals_the_library_that_is_right(code):
    first, last = max(day("2009-01-01"), calendar(code).bounds()[0]), day(ENDS.get(code, "2026-12-31"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas on the library's own code
        schedule = pandas_market_calendars.get_calendar(LIBRARIES[code]).schedule(first, last, tz="America/Chicago")
    theirs = {stamp.date(): f"{stamp:%H:%M}" for stamp in schedule["market_close"]}
    ours = last_closes(code, first, last)
    dates = [date for date in pl.date_range(first, last, "1d", eager=True) if date.weekday() < 5]
    regular = REGULAR.get(code, {"16:00"})
    differ = {
        date.isoformat()
        for date in dates
        if ours.get(date) != theirs.get(date) and not {ours.get(date), theirs.get(date)} <= regular
    }
    assert len(dates) > 2000
    assert differ - CLOSED_GOOD_FRIDAYS == AGAINST_LIBRARY[code]
    assert not CLOSED_GOOD_FRIDAYS & {date.isoformat() for date in ours}


MARKETS = {
    "CME_INDEX": "cme-ES", "CME_RATES": "cbot-ZN", "CME_FX": "cme-6E", "COMEX_METALS": "comex-MGC",
    "NYMEX_ENERGY": "nymex-CL", "EUREX_INDEX": "eurex-[*]",
}  # fmt: skip
# Christmas and New Year since 2023 stand among the database's late opens, and days for the whole exchange among its
# holidays; 2024-11-29 it lacks. The rest is decided by the exchanges' schedules and notices.
YEAR_ENDS = {"2023-12-25", "2024-01-01", "2024-12-25", "2025-01-01", "2025-12-25", "2026-01-01"}
SANDY = {"2012-10-29", "2012-10-30"}
AGAINST_DATABASE = {
    "CME_INDEX": YEAR_ENDS | SANDY | {"2018-12-05", "2023-07-03", "2024-07-03", "2024-11-29", "2025-01-09"},
    "CME_RATES": (YEAR_ENDS | SANDY | {"2011-05-30", "2024-11-29", "2025-01-09"})
    - {"2023-12-25", "2024-01-01", "2024-12-25"},
    "CME_FX": YEAR_ENDS | SANDY | {"2018-12-05", "2024-11-29", "2024-12-24"},
    "COMEX_METALS": (YEAR_ENDS | SANDY | {"2018-12-05", "2024-11-29", "2025-01-09"})
    - {"2023-12-25", "2024-01-01", "2024-12-25"},
    "NYMEX_ENERGY": (YEAR_ENDS | SANDY | {"2018-12-05", "2024-11-29"}) - {"2023-12-25", "2024-01-01", "2024-12-25"},
    "EUREX_INDEX": set(),
}


def database_status(entries: dict, market: str) -> dict[dt.date, str]:
    """Early closes (Chicago) and closed days of a market in the database."""

    def parsed(text: str) -> dt.date:
        month, date, year = map(int, text.split("/"))
        return dt.date(year, month, date)

    entry, whole = (entries[f"Future-{name}"] for name in (market, market.split("-", maxsplit=1)[0] + "-[*]"))
    earlier = 1 if entry["exchangeTimeZone"] == "America/New_York" else 0
    found = {parsed(text): CLOSED for text in entry["holidays"] + whole["holidays"]}
    for text, clock in entry.get("earlyCloses", {}).items():
        hours, minutes = map(int, clock.split(":")[:2])
        close = f"{hours - earlier:02d}:{minutes:02d}"
        found[parsed(text)] = close if close < "16:00" else OPEN
    return found


@pytest.mark.parametrize("code", MARKETS)
def test_read_closes_of_futures_equals_market_hours_database(code, vendor):
    path = vendor / "lean/market-hours/market-hours-database.json"
    theirs = database_status(json.loads(path.read_text())["entries"], MARKETS[code])
    first, last = day("2009-01-01"), day("2026-11-30")
    ours = last_closes(code, first, last)
    regular = REGULAR.get(code, {"16:00", "16:15", "22:00"})
    differ = set()
    for date in pl.date_range(first, last, "1d", eager=True):
        said = theirs.get(date, OPEN)
        usual = {*regular} - {said}
        mine = ours.get(date, CLOSED)
        if date.weekday() < 5 and (OPEN if mine in usual else mine) != said:
            differ.add(date.isoformat())
    assert differ == AGAINST_DATABASE[code]


@pytest.mark.parametrize(
    ("code", "first", "last"),
    [
        ("CME_INDEX", "2025-11-27T23:00", "2025-11-28T18:14"),
        ("CME_INDEX", "2025-01-08T23:00", "2025-01-09T14:29"),
        ("COMEX_METALS", "2025-11-27T23:00", "2025-11-28T19:44"),
        ("COMEX_METALS", "2025-08-31T22:00", "2025-09-01T18:29"),
    ],
)
def test_read_session_of_a_short_day_is_its_first_to_its_last_minute(code, first, last):
    begin, end = (dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC) for text in (first, last))
    spans = calendar(code).segments(begin.date(), end.date() + dt.timedelta(days=3))
    held = spans.filter(pl.col("segment_open") == begin)
    assert held["segment_close"].to_list() == [end + dt.timedelta(minutes=1)]


# ---------------------------------------------------------------------------- codes of libraries


@pytest.mark.parametrize(("alias", "code"), sorted(providers._ALIASES.items()))
def test_ask_wrong_code_of_a_library_answers_with_the_right_calendar(alias, code):
    found, right = calendar(alias), calendar(code)
    dates = max(day("2020-01-01"), right.bounds()[0]), day("2025-12-31")
    assert (found.code, found.provider) == (alias, "engine")
    assert found.segments(*dates).equals(right.segments(*dates))


def test_ask_cme_and_eurex_codes_of_the_library_are_all_answered_or_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas on the library's own code
        codes = [
            code
            for code in pandas_market_calendars.get_calendar_names()
            if type(pandas_market_calendars.get_calendar(code))
            .__module__.rpartition(".")[2]
            .startswith(("cme", "eurex"))
        ]
    assert len(codes) > 90
    assert set(codes) <= {*providers._ALIASES, *providers._SHIPPED, *providers._REFUSED}


@pytest.mark.parametrize("code", ["EUREX_PrePost", "EUREX_Extended"])
def test_ask_eurex_in_utc_names_the_right_code(code):
    with pytest.raises(CalendarError, match="use EUREX_INDEX"):
        calendar(code)


# ---------------------------------------------------------------------------- keys of calendar files


def built(tmp_path, override: str):
    path = tmp_path / "hours.toml"
    path.write_text(
        'zone = "America/Chicago"\n[[hours]]\ndays = "Mon-Fri"\nETH = ["15:30-1d to 16:30-1d", "17:00-1d to 15:00"]\n'
        f"[[override]]\n{override}\n"
    )
    return calendar(path)


def spans_of(found, first: str, last: str) -> list[str]:
    zone = ZoneInfo(found.zone)
    return [
        f"{row[0]} {row[3].astimezone(zone):%d %H:%M} {row[4].astimezone(zone):%d %H:%M}"
        for row in found.segments(day(first), day(last)).rows()
    ]


def test_halt_cuts_every_trade_date_that_trades_on_the_day(tmp_path):
    found = built(tmp_path, 'on = "labor"\nhalt = "10:30 to 17:00"')
    assert spans_of(found, "2024-09-02", "2024-09-03") == [
        "2024-09-02 01 15:30 01 16:30", "2024-09-02 01 17:00 02 10:30", "2024-09-03 02 17:00 03 15:00",
    ]  # fmt: skip


def test_halt_in_the_middle_of_a_segment_leaves_two(tmp_path):
    found = built(tmp_path, 'date = 2024-09-04\nhalt = "10:00 to 11:00"')
    assert spans_of(found, "2024-09-04", "2024-09-04") == [
        "2024-09-04 03 15:30 03 16:30", "2024-09-04 03 17:00 04 10:00", "2024-09-04 04 11:00 04 15:00",
    ]  # fmt: skip


def test_trade_date_next_gives_a_session_to_the_next_one_and_drops_the_last(tmp_path):
    found = built(tmp_path, 'dates = [2024-09-02, 2024-09-03]\ntrade_date = "next"')
    sessions = found.segments(day("2024-08-30"), day("2024-09-05"))["session"].to_list()
    assert sessions == [day("2024-08-30")] * 2 + [day("2024-09-04")] * 6 + [day("2024-09-05")] * 2
    # Asked for alone, it has the same.
    assert found.segments(day("2024-09-04"), day("2024-09-04")).height == 6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('on = "thanksgivings"\nclosed = true', r"on: received 'thanksgivings'; valid: new_year, .*12-24"),
        ("on = 3\nclosed = true", "on: received 3"),
        ('on = "labor"\ndate = 2024-09-02\nclosed = true', "either date or dates, or some of days, valid_from"),
        ('on = "labor"\ntrade_date = "previous"', "trade_date: received 'previous'"),
        ('on = "labor"\nhalt = ["10:30 to 17:00"]', "halt: received"),
        ('on = "labor"', "closed = true, or other hours"),
    ],
)
def test_parse_wrong_key_names_it(tmp_path, override, message):
    with pytest.raises(CalendarError, match=message):
        built(tmp_path, override)
