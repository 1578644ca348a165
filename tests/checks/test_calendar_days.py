"""Days on which bars speak against a calendar: planted truth, and files of vendors with an old or a wrong calendar."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from engine.calendars.providers import SessionCalendar, calendar
from engine.checks.calendar_days import CALENDAR_DAYS, CLOCK_HABITS, calendar_days, clock_habits
from engine.errors import ParameterError
from engine.runtime.calendar_check import CalendarCheck, check_calendar, check_calendars
from engine.runtime.run import load_options

FIRST, LAST = dt.date(2024, 4, 15), dt.date(2024, 7, 19)  # with 2024-07-03, a half day, and 2024-06-19, a holiday


def bars_of(
    truth: SessionCalendar, *, series: int = 3, present: float = 0.97, step: int = 1, seed: int = 1
) -> pl.DataFrame:
    """Bars in the regular sessions of a calendar, each there with a probability: `series, ts, volume`."""
    segments = truth.segments(FIRST, LAST).filter("regular")
    starts = pl.concat(
        pl.datetime_range(begin, end, f"{step}m", closed="left", time_unit="us", eager=True)
        for begin, end in segments.select("segment_open", "segment_close").iter_rows()
    )
    chance = np.random.default_rng(seed)
    return pl.concat(
        pl.DataFrame({"series": pl.Series([number] * len(starts), dtype=pl.Int32), "ts": starts, "volume": 100})
        .filter(chance.random(len(starts)) < present)
        for number in range(series)
    )  # fmt: skip


def checked(
    code: str | Path, bars: pl.DataFrame, tmp_path: Path, overrides: str = "", interval: str = "1m"
) -> CalendarCheck:
    path = tmp_path / "planted.toml"
    path.write_text(overrides, encoding="utf-8")
    return check_calendar(calendar(code, path), interval, bars)


def told(found: CalendarCheck) -> list[tuple[str, str, str, str]]:
    return [
        (str(day), kind, begin, end)
        for day, kind, begin, end in found.days.select("date", "kind", "from_time", "to_time").iter_rows()
    ]


def override(text: str) -> str:
    return f"[[override]]\n{text}\n"


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "XLON", "CME_INDEX", "FX", "24/7"])
def test_check_right_calendar_lists_no_day(code, tmp_path):
    found = checked(code, bars_of(calendar(code)), tmp_path)
    assert told(found) == []
    assert found.habits.is_empty()
    assert dict(found.days.schema) == dict(CALENDAR_DAYS)
    assert dict(found.habits.schema) == dict(CLOCK_HABITS)


@pytest.mark.parametrize(
    ("code", "wrong", "expected", "right"),
    [
        ("XNYS", "date = 2024-05-08\nclose = '13:00'", ("2024-05-08", "after_close", "13:00", "16:00"), 'close = "16:00"'),
        ("XNYS", "date = 2024-07-03\nclose = '16:00'", ("2024-07-03", "early_close", "13:00", "16:00"), 'close = "13:00"'),
        ("XNYS", "date = 2024-06-19\nRTH = '09:30 to 16:00'", ("2024-06-19", "no_bars", "09:30", "16:00"), "closed = true"),
        ("XNYS", "date = 2024-05-08\nclosed = true", ("2024-05-08", "open_day", "09:30", "16:00"), 'RTH = ["09:30 to 16:00"]'),
        ("XNYS", "date = 2024-05-08\nopen = '08:30'", ("2024-05-08", "late_open", "08:30", "09:30"), ""),
        ("XLON", "date = 2024-05-08\nopen = '10:00'", ("2024-05-08", "before_open", "08:00", "10:00"), 'open = "08:00"'),
        ("XLON", "date = 2024-05-08\npause = '11:00 to 12:00'", ("2024-05-08", "in_break", "11:00", "12:00"), 'RTH = ["08:00 to 16:30"]'),
        ("XHKG", "date = 2024-05-08\nRTH = '09:30 to 16:00'", ("2024-05-08", "break", "12:00", "13:00"), 'pause = "12:00 to 13:00"'),
        ("CME_INDEX", "date = 2024-05-08\nclosed = true", ("2024-05-08", "before_open", "00:00", "16:00"), ""),
    ],
)  # fmt: skip
def test_check_planted_day_names_it_first_and_what_would_be_right(code, wrong, expected, right, tmp_path):
    found = checked(code, bars_of(calendar(code)), tmp_path, override(wrong.replace("'", '"')))
    assert told(found)[0] == expected
    assert right in found.days["override"][0]
    assert found.days["date"].n_unique() <= (2 if code == "CME_INDEX" else 1)


def test_check_several_wrong_half_days_lists_each(tmp_path):
    days = ["2024-04-24", "2024-05-08", "2024-05-22", "2024-06-05", "2024-06-26"]
    found = checked(
        "XLON", bars_of(calendar("XLON")), tmp_path, override(f'dates = [{", ".join(days)}]\nclose = "12:30"')
    )
    assert sorted(told(found)) == [(day, "after_close", "12:30", "16:30") for day in days]


def test_check_ranks_a_whole_day_before_a_half_and_many_series_before_one(tmp_path):
    wrong = override('date = 2024-05-08\nclose = "13:00"') + override("date = 2024-05-15\nclosed = true")
    found = checked("XLON", bars_of(calendar("XLON")), tmp_path, wrong)
    assert [day for day, *_ in told(found)] == ["2024-05-15", "2024-05-08"]
    lacking = override('date = 2024-05-27\nRTH = "08:00 to 16:30"')  # a bank holiday
    one, three = (
        checked("XLON", bars_of(calendar("XLON"), series=many), tmp_path, lacking).days["score"][0] for many in (1, 3)
    )
    assert one < 0.6 * three


def test_check_quiet_series_need_more_than_quiet_minutes(tmp_path):
    assert told(checked("XLON", bars_of(calendar("XLON"), series=1, present=0.4), tmp_path)) == []
    planted = override('date = 2024-05-27\nRTH = "08:00 to 16:30"')
    assert (
        told(checked("XLON", bars_of(calendar("XLON"), series=1, present=0.4), tmp_path, planted))[0][0] == "2024-05-27"
    )


@pytest.mark.parametrize(("interval", "step"), [("5m", 5), ("30m", 30), ("1h", 60)])
def test_check_coarse_bars_names_the_half_day(interval, step, tmp_path):
    planted = override('date = 2024-07-03\nclose = "16:00"')
    found = checked("XNYS", bars_of(calendar("XNYS"), step=step, present=1.0), tmp_path, planted, interval)
    day, kind, begin, _ = told(found)[0]
    assert (day, kind) == ("2024-07-03", "early_close")
    assert begin in {"13:00", "13:30"}  # the last hour begins at 12:30
    assert told(checked("XNYS", bars_of(calendar("XNYS"), step=step, present=1.0), tmp_path, "", interval)) == []


def test_check_days_before_the_first_and_after_the_last_bar_are_not_judged(tmp_path):
    bars = bars_of(calendar("XLON")).filter(pl.col("ts").is_between(dt.datetime(2024, 5, 1, 10, tzinfo=dt.UTC), dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)))  # fmt: skip
    assert told(checked("XLON", bars, tmp_path)) == []


def test_check_two_series_of_other_months_say_nothing_of_the_time_between(tmp_path):
    bars = bars_of(calendar("XLON"), series=2)
    may, july = dt.datetime(2024, 5, 8, 11, tzinfo=dt.UTC), dt.datetime(2024, 7, 3, 11, tzinfo=dt.UTC)
    apart = pl.concat([
        bars.filter((pl.col("series") == 0) & (pl.col("ts") < may)), bars.filter((pl.col("series") == 1) & (pl.col("ts") > july)),
    ])  # fmt: skip
    assert told(checked("XLON", apart, tmp_path)) == []


@pytest.mark.parametrize(("minutes", "habits"), [(35, []), (50, [("outside", "16:50", "16:51")])])
def test_check_a_print_of_every_day_after_the_close_is_a_habit_and_that_of_an_auction_none(minutes, habits, tmp_path):
    bars = bars_of(calendar("XLON"))
    prints = bars.group_by("series", pl.col("ts").dt.date().alias("date")).agg(pl.col("ts").max()).select(
        "series", (pl.col("date").cast(pl.Datetime("us")) + pl.duration(hours=15, minutes=minutes)).dt.replace_time_zone("UTC").alias("ts"), pl.lit(500).alias("volume")
    )  # fmt: skip
    found = checked("XLON", pl.concat([bars, prints.select(bars.columns).cast(bars.schema)]), tmp_path)
    assert told(found) == []
    assert found.habits.rows() == [(*habit, found.dates, found.dates) for habit in habits]


def test_check_break_that_the_calendar_lacks_is_a_habit(tmp_path):
    hours = 'zone = "Asia/Hong_Kong"\nholidays_from = "XHKG"\n[[hours]]\ndays = "Mon-Fri"\nRTH = "09:30 to 16:00"\n'
    path = tmp_path / "no_lunch.toml"
    path.write_text(hours, encoding="utf-8")
    found = checked(path, bars_of(calendar("XHKG")), tmp_path)
    assert found.habits.select("kind", "from_time", "to_time").rows() == [("never_traded", "12:00", "13:00")]
    assert told(found) == []


def test_check_extended_hours_after_a_half_day_are_none_but_a_full_afternoon_is(tmp_path):
    bars = bars_of(calendar("XNYS"))
    thin = pl.concat([
        pl.DataFrame({"ts": pl.datetime_range(dt.datetime(2024, 7, 3, 17, tzinfo=dt.UTC), dt.datetime(2024, 7, 3, 21, tzinfo=dt.UTC), "1m", closed="left", time_unit="us", eager=True)})
        .select(pl.lit(number, pl.Int32).alias("series"), "ts", pl.lit(3).alias("volume")) for number in range(3)
    ])  # fmt: skip
    assert told(checked("XNYS", pl.concat([bars, thin.cast(bars.schema)]), tmp_path)) == []
    thick = thin.with_columns(pl.lit(90).alias("volume")).filter(pl.col("ts").dt.hour() < 20)
    assert told(checked("XNYS", pl.concat([bars, thick.cast(bars.schema)]), tmp_path))[0] == (
        "2024-07-03", "after_close", "13:00", "16:00",
    )  # fmt: skip


def test_check_no_bars_gives_empty_tables():
    empty = pl.DataFrame(schema={"series": pl.Int32(), "ts": pl.Datetime("us", "UTC"), "volume": pl.Float64()})
    segments = calendar("XNYS").segments(FIRST, LAST)
    assert calendar_days(empty, segments, "America/New_York", 1).is_empty()
    assert clock_habits(empty, segments, "America/New_York", 1).is_empty()


def test_check_daily_bars_says_that_they_have_no_hours(tmp_path):
    (tmp_path / "A_1d.csv").write_text("date,open,high,low,close,volume\n2024-05-08,1,1,1,1,1\n2024-05-09,1,1,1,1,1\n")
    with pytest.raises(ParameterError, match="intraday"):
        check_calendars(tmp_path, load_options("XNYS", interval="1d"))


# ---------------------------------------------------------------------------- files of vendors


def test_check_vendor_stocks_by_a_weekly_calendar_finds_the_half_day(vendor, tmp_path):
    path = tmp_path / "weekly.toml"
    path.write_text('zone = "America/New_York"\nholidays_from = "XNYS"\n[[hours]]\ndays = "Mon-Fri"\nPRE = "04:00 to 09:30"\nRTH = "09:30 to 16:00"\nPOST = "16:00 to 20:00"\n')  # fmt: skip
    (found,) = check_calendars(vendor / "lean/equity/usa/minute", load_options(str(path)))
    # GOOG has prints up to 13:13, after the close at 13:00.
    assert told(found)[:1] == [("2015-12-24", "early_close", "13:14", "16:00")]
    (right,) = check_calendars(vendor / "lean/equity/usa/minute", load_options("XNYS"))
    assert told(right) == []


def test_check_vendor_futures_by_hours_of_another_year_names_the_stretches(vendor):
    (found,) = check_calendars(
        vendor / "lean/future/cme/minute", load_options(str(Path(__file__).parent / "es_today.toml"))
    )
    outside = found.habits.filter(pl.col("kind") == "outside").select("from_time", "to_time").rows()
    assert ("16:00", "16:16") in outside
