"""Stamps as vendors write them, against Python's own clock arithmetic."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from engine.errors import ParameterError, SourceError
from engine.sources.frames import from_frame
from engine.sources.local_time import localized
from engine.sources.options import ReadOptions, zone_name
from engine.sources.stamp_types import Reading
from engine.sources.stamps import column_to_utc
from hypothesis import given, settings
from hypothesis import strategies as st

NEW_YORK = "America/New_York"
INSTANT = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)


def read(cells, column="timestamp", **how):
    return column_to_utc(pl.Series(cells), Reading("file.csv", column, **how))


@pytest.mark.parametrize(
    ("cell", "how"),
    [
        ("2024-01-02T14:30:00Z", {}),
        ("2024-01-02 14:30:00+00:00", {}),
        ("2024-01-02 09:30:00-05:00", {}),
        ("2024-01-02 09:30:00.000-0500", {}),
        ("2024-01-02 09:30-05", {}),
        ("2024/01/02 14:30:00 UTC", {}),
        ("2024-01-02 09:30:00", {"timezone": NEW_YORK}),
        ("2024-01-02 09:30", {"timezone": NEW_YORK}),
        ("2024-01-02 14:30:00", {"column": "time_utc"}),
        ("20240102 09:30", {"timezone": NEW_YORK}),
        ("20240102 093000", {"timezone": NEW_YORK}),
        ("20240102 093000000", {"timezone": "Etc/GMT+5"}),
        ("20240102093000", {"timezone": NEW_YORK}),
        ("202401020930", {"timezone": NEW_YORK}),
        ("09:30:00", {"timezone": NEW_YORK, "day": dt.date(2024, 1, 2)}),
        ("02.01.2024 09:30", {"timezone": NEW_YORK, "time_format": "%d.%m.%Y %H:%M"}),
        ("1704205800", {}),
        ("1704205800.0", {}),
        ("1704205800000", {}),
        ("1704205800000000", {}),
        ("1704205800000000000", {}),
        (1704205800, {}),
        (1704205800.0, {"unit": "s"}),
        (dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC), {}),
        (dt.datetime(2024, 1, 2, 9, 30), {"timezone": NEW_YORK}),  # noqa: DTZ001
        (dt.time(9, 30), {"timezone": NEW_YORK, "day": dt.date(2024, 1, 2)}),
    ],
)
def test_utc_spellings_of_one_instant_agree(cell, how):
    assert read([cell, None], **how).ts.to_list() == [INSTANT, None]


@pytest.mark.parametrize("seconds", [315_532_800, 4_102_444_799])
@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_utc_units_are_inferred_for_1980_to_2100_and_noted(seconds, unit, factor):
    found = read([seconds * factor])
    assert found.ts.to_list() == [dt.datetime.fromtimestamp(seconds, dt.UTC)]
    assert found.notes == (f"timestamp: read as {unit} since 1970",)


def test_utc_numbers_far_from_the_others_are_unreadable():
    assert read([1704205800, 1704205800, 1704205800, 5, 10**18]).ts.null_count() == 2


def test_utc_nanoseconds_survive():
    ts = read(["2024-01-02T14:30:00.123456789Z"]).ts
    assert ts.to_physical()[0] % 10**9 == 123_456_789


@pytest.mark.parametrize(
    ("cell", "mend"),
    [
        ("2024-01-02 09:30:00", "--timezone"),
        (dt.datetime(2024, 1, 2), "--timezone"),  # noqa: DTZ001
        ("45293.395833", "spreadsheet"),
        ("99", "--unit"),
        ("01/02/2024 09:30", "--time-format"),
        ("09:30", "no date"),
        (True, "is no time"),
    ],
)
def test_utc_stamps_that_cannot_be_read_name_the_mend(cell, mend):
    with pytest.raises(SourceError, match=mend):
        read([cell])


def test_localized_times_that_the_clock_skips_are_refused_with_the_reason():
    naive = pl.Series([dt.datetime(2024, 3, 10, 1, 59), dt.datetime(2024, 3, 10, 2, 30)]).cast(pl.Datetime("ns"))  # noqa: DTZ001
    found = localized(naive, NEW_YORK)
    assert found.ts.to_list() == [dt.datetime(2024, 3, 10, 6, 59, tzinfo=dt.UTC), None]
    assert found.refused[1] == "ts: 2024-03-10 02:30:00 does not exist in America/New_York (the clock skips it)"
    assert found.refused[0] is None


def naive_hours(*texts):
    return pl.Series([f"2024-11-03 {text}" for text in texts]).str.to_datetime("%Y-%m-%d %H:%M", time_unit="ns")


def test_localized_times_shown_twice_are_the_second_pass_after_a_step_back():
    found = localized(naive_hours("00:59", "01:00", "01:59", "01:00", "01:30", "02:00"), NEW_YORK)
    assert found.ts.dt.strftime("%H:%M").to_list() == ["04:59", "05:00", "05:59", "06:00", "06:30", "07:00"]
    assert "4 local times that America/New_York shows twice: 2" in found.notes[0]


def test_localized_order_is_looked_at_within_a_symbol():
    symbols = pl.Series(["A", "A", "B", "B"])
    found = localized(naive_hours("01:00", "01:59", "01:00", "01:59"), NEW_YORK, symbols)
    assert found.ts.dt.strftime("%H:%M").to_list() == ["05:00", "05:59", "05:00", "05:59"]


def test_localized_hour_bar_that_comes_twice_is_the_second_pass_but_a_tick_is_not():
    twice = naive_hours("01:00", "01:00")
    assert localized(twice, NEW_YORK, is_bars=True).ts.dt.strftime("%H").to_list() == ["05", "06"]
    assert localized(twice, NEW_YORK).ts.dt.strftime("%H").to_list() == ["05", "05"]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2030, 1, 1)), min_size=1, max_size=6),  # noqa: DTZ001
    st.sampled_from([NEW_YORK, "Europe/Berlin", "Asia/Kolkata", "Etc/GMT+5", "UTC", "Australia/Lord_Howe"]),
)
def test_localized_agrees_with_the_clock_of_python(times, zone):
    found = localized(pl.Series(sorted(times)).cast(pl.Datetime("ns")), zone)
    for naive, ts, refused in zip(sorted(times), found.ts, found.refused, strict=True):
        due = naive.replace(tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)
        exists = due.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == naive
        assert (ts == due and refused is None) if exists else (ts is None and refused is not None)


@pytest.mark.parametrize(
    ("text", "name"), [("UTC-05", "Etc/GMT+5"), ("+09:00", "Etc/GMT-9"), ("UTC+0", "UTC"), ("Asia/Tokyo", "Asia/Tokyo")]
)
def test_zone_name_fixed_offsets_have_names(text, name):
    assert zone_name(text) == name


@pytest.mark.parametrize("text", ["Mars/Base", "UTC-99", "../etc", ""])
def test_zone_name_unknown_zones_are_refused(text):
    with pytest.raises(ParameterError, match="timezone: received"):
        zone_name(text)


def test_options_from_toml_reads_names_and_refuses_unknown_ones(tmp_path):
    path = tmp_path / "read.toml"
    path.write_text('timezone = "UTC-05"\ninterval = "60m"\nsymbols = ["A"]\n[columns]\nts = 1\nbid = "Bid"\n')
    options = ReadOptions.from_toml(path)
    assert (options.timezone, str(options.interval), options.symbols) == ("Etc/GMT+5", "1h", ("A",))
    assert options.columns == {"ts": 1, "bid": "Bid"}
    path.write_text("colums = 1\n")
    with pytest.raises(ParameterError, match="unknown option colums; valid: format"):
        ReadOptions.from_toml(path)
    with pytest.raises(SourceError):
        ReadOptions.from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "given",
    [
        {"stamp": "middle"},
        {"align": "x"},
        {"unit": "m"},
        {"format": "xls"},
        {"delimiter": "::"},
        {"price_types": ("mean",)},
        {"max_ratio": 0},
        {"interval": "200d"},
    ],
)
def test_options_values_that_are_not_valid_are_refused(given):
    with pytest.raises(ParameterError, match="received"):
        ReadOptions(**given)


@pytest.mark.parametrize(
    ("zone", "skips"),
    [
        ("America/Sao_Paulo", dt.date(2018, 11, 4)),
        ("Asia/Beirut", dt.date(2021, 3, 28)),
        ("Africa/Cairo", dt.date(2023, 4, 28)),
    ],
)
@pytest.mark.parametrize("form", ["date", "%Y-%m-%d", "%Y%m%d", "%d.%m.%Y"])
def test_utc_dates_whose_midnight_the_clock_skips_are_the_first_instant_of_the_day(zone, skips, form):
    days = [skips + dt.timedelta(days=n) for n in (-1, 0, 1)]
    cells = days if form == "date" else [day.strftime(form) for day in days]
    found = read(cells, timezone=zone, time_format=form if form == "%d.%m.%Y" else None)
    instants = [ts.astimezone(ZoneInfo(zone)) for ts in found.ts]
    assert [ts.date() for ts in instants] == days
    assert [ts.hour for ts in instants] == [0, 1, 0]
    assert all(
        (ts.astimezone(dt.UTC) - dt.timedelta(seconds=1)).astimezone(ZoneInfo(zone)).date() < ts.date()
        for ts in instants
    )
    assert found.refused.null_count() == 3
    assert found.dates_only


def test_read_daily_bar_of_a_day_without_midnight_is_kept():
    rows = pl.DataFrame({"date": ["2018-11-01", "2018-11-04"], **dict.fromkeys(["open", "high", "low", "close"], 1.0)})
    batch = from_frame(rows, symbol="A", options=ReadOptions(timezone="America/Sao_Paulo"), interval="1d")
    assert batch.frame.height == 2
    assert batch.rejects.is_empty()
