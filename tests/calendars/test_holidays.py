"""Days that recur by rule."""

from __future__ import annotations

import datetime as dt

import pytest
from dateutil.easter import easter as oracle
from engine.calendars.holidays import easter, holiday_dates, is_holiday_name


def test_date_easter_equals_dateutil():
    assert [easter(year) for year in range(1970, 2051)] == [oracle(year) for year in range(1970, 2051)]


@pytest.mark.parametrize(
    ("name", "dates"),
    [
        ("new_year", ["2010-01-01", "2012-01-02", "2013-01-01"]),  # 2011: a Saturday, not observed
        ("martin_luther_king", ["2010-01-18", "2011-01-17", "2012-01-16", "2013-01-21"]),
        ("presidents", ["2010-02-15", "2011-02-21", "2012-02-20", "2013-02-18"]),
        ("good_friday", ["2010-04-02", "2011-04-22", "2012-04-06", "2013-03-29"]),
        ("memorial", ["2010-05-31", "2011-05-30", "2012-05-28", "2013-05-27"]),
        ("juneteenth", []),
        ("independence_eve", ["2012-07-03", "2013-07-03"]),
        ("independence", ["2010-07-05", "2011-07-04", "2012-07-04", "2013-07-04"]),
        ("labor-1", ["2010-09-03", "2011-09-02", "2012-08-31", "2013-08-30"]),
        ("thanksgiving+1", ["2010-11-26", "2011-11-25", "2012-11-23", "2013-11-29"]),
        ("christmas_eve", ["2012-12-24", "2013-12-24"]),
        ("christmas", ["2010-12-24", "2011-12-26", "2012-12-25", "2013-12-25"]),
        ("christmas+1", ["2010-12-27", "2011-12-27", "2012-12-26", "2013-12-26"]),
        ("02-29", ["2012-02-29"]),
    ],
)
def test_date_holiday_gives_the_days_observed(name, dates):
    found = [day.isoformat() for day in holiday_dates((name,)) if 2010 <= day.year <= 2013]
    assert found == dates


def test_date_juneteenth_is_observed_since_2022():
    days = holiday_dates(("juneteenth",))
    assert [day.isoformat() for day in days[:6]] == [
        "2022-06-20", "2023-06-19", "2024-06-19", "2025-06-19", "2026-06-19", "2027-06-18",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["thanks", "christmas+", "13-01", "02-30", "12-24+10", "Christmas", ""])
def test_date_name_that_is_none_is_told(name):
    assert not is_holiday_name(name)


def test_date_several_names_are_sorted_and_distinct():
    days = holiday_dates(("christmas", "12-25"))
    assert list(days) == sorted(set(days))
    assert dt.date(2024, 12, 25) in days
