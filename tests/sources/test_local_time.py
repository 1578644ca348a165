"""Repeated local hours, against `zoneinfo` with the fold of each row as the file was made."""

from __future__ import annotations

import datetime as dt
import random
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from engine.sources.local_time import localized, offset_periods
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan

NEW_YORK = "America/New_York"
CHANGES = [
    (NEW_YORK, dt.datetime(2024, 11, 3, 0, tzinfo=ZoneInfo(NEW_YORK))),
    ("Europe/Berlin", dt.datetime(2023, 10, 29, 0, tzinfo=ZoneInfo("Europe/Berlin"))),
    ("Australia/Lord_Howe", dt.datetime(2024, 4, 7, 0, tzinfo=ZoneInfo("Australia/Lord_Howe"))),  # half an hour
    ("America/Havana", dt.datetime(2024, 11, 3, 0, tzinfo=ZoneInfo("America/Havana"))),  # 01:00 is 00:00 again
    ("Atlantic/Azores", dt.datetime(2024, 10, 26, 22, tzinfo=ZoneInfo("Atlantic/Azores"))),
]


def instants(begin, minutes, count):
    first = begin.astimezone(dt.UTC)
    return [first + dt.timedelta(minutes=minutes * number) for number in range(count)]


def local_times(ts, zone):
    """Naive local times as a vendor writes them: what tells the two passes apart is lost."""
    return [at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for at in ts]


def read_back(ts, zone, series=None, *, is_bars=True):
    naive = pl.Series(local_times(ts, zone)).cast(pl.Datetime("ns"))
    return localized(naive, zone, None if series is None else pl.Series(series), is_bars=is_bars)


def cases():
    """Each change with bars and ticks; no coarser ones than the repeated time, and two ticks at one time tell nothing."""
    for zone, begin in CHANGES:
        repeated = 30 if zone == "Australia/Lord_Howe" else 60
        for minutes in (1, 5, 15, 30, 60):
            for is_bars in (True, False):
                if minutes < repeated or (is_bars and minutes == repeated):
                    yield zone, begin, minutes, is_bars


@pytest.mark.parametrize(("zone", "begin", "minutes", "is_bars"), list(cases()))
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_day_with_a_repeated_hour_comes_back_whichever_way_the_file_runs(zone, begin, minutes, newest_first, is_bars):
    ts = instants(begin, minutes, 25 * 60 // minutes)
    found = read_back(ts[::-1] if newest_first else ts, zone, is_bars=is_bars)
    assert found.refused.null_count() == len(ts)
    assert found.ts.to_list() == (ts[::-1] if newest_first else ts)


@pytest.mark.parametrize("is_bars", [False, True])
def test_each_symbol_of_a_file_has_a_direction_of_its_own(is_bars):
    day = instants(CHANGES[0][1], 1, 1500)
    rows = [(at, "UP") for at in day] + [(at, "DOWN") for at in day[::-1]]
    mixed = [row for pair in zip(rows[:1500], rows[1500:], strict=True) for row in pair]  # and their rows alternate
    for rows_of_file in (rows, mixed):
        ts, series = zip(*rows_of_file, strict=True)
        assert read_back(ts, NEW_YORK, series, is_bars=is_bars).ts.to_list() == list(ts)


def test_days_in_order_whose_rows_run_backwards():
    days = [instants(CHANGES[0][1] + dt.timedelta(days=number), 1, 600) for number in (-1, 0, 1)]
    ts = [at for day in days for at in day[::-1]]
    assert read_back(ts, NEW_YORK).ts.to_list() == ts


def test_ticks_that_step_back_by_milliseconds_begin_no_second_pass():
    chance = random.Random(7)  # noqa: S311
    ticks = [at + dt.timedelta(seconds=chance.randrange(60)) for at in instants(CHANGES[0][1], 1, 1500)]
    for number in range(5, 1500, 9):  # delivered out of order by a moment
        ticks[number] = ticks[number - 1] - dt.timedelta(milliseconds=3)
    for ts in (ticks, ticks[::-1]):
        assert read_back(ts, NEW_YORK, is_bars=False).ts.to_list() == ts


def test_one_tick_that_comes_a_moment_late_begins_no_second_pass():
    ticks = [dt.datetime(2024, 11, 3, 4, 30, tzinfo=dt.UTC) + dt.timedelta(seconds=number) for number in range(3000)]
    ticks[2500] = ticks[2499] - dt.timedelta(milliseconds=250)  # in the first pass, and nowhere else
    found = read_back(ticks, NEW_YORK, is_bars=False)
    assert found.ts.to_list() == ticks
    assert "1200 as the first, 1200 of them because no step back tells" in found.notes[0]


def test_thin_ticks_step_back_by_a_few_minutes():
    begin = dt.datetime(2024, 11, 3, 4, 30, tzinfo=dt.UTC)  # 00:30, 01:20, then 01:10 and 02:30 an hour later
    ts = [begin + dt.timedelta(minutes=after) for after in (0, 50, 100, 180)]
    for rows in (ts, ts[::-1]):
        assert read_back(rows, NEW_YORK, is_bars=False).ts.to_list() == rows


def test_a_correction_at_the_end_of_the_file_moves_no_row():
    ts = instants(CHANGES[0][1], 1, 1500)
    late = dt.datetime(2024, 11, 3, 20, tzinfo=dt.UTC)
    assert read_back([*ts, late], NEW_YORK).ts.to_list() == [*ts, late]
    assert read_back([*ts, *ts], NEW_YORK).ts.to_list() == [*ts, *ts]


def test_rows_in_no_order_are_refused_where_the_clock_repeats_itself():
    ts = instants(CHANGES[0][1], 1, 1500)
    random.Random(3).shuffle(ts)  # noqa: S311
    found = read_back(ts, NEW_YORK)
    is_repeated = [at.astimezone(ZoneInfo(NEW_YORK)).hour == 1 for at in ts]
    assert found.ts.is_null().to_list() == is_repeated
    assert found.refused.is_not_null().to_list() == is_repeated
    assert (
        "is shown twice by America/New_York, and the order of the rows does not tell" in found.refused.drop_nulls()[0]
    )
    assert [at for at in found.ts if at] == [at for at, lost in zip(ts, is_repeated, strict=True) if not lost]


@pytest.mark.parametrize("zone", [NEW_YORK, "Europe/Dublin", "Africa/Casablanca", "Asia/Kolkata", "UTC", "Etc/GMT+5"])
@pytest.mark.parametrize("year", [1948, 1987, 2007, 2024, 2090])
def test_offset_periods_hold_every_change_of_the_clock(zone, year):
    starts, offsets = offset_periods(zone, year, year)
    for hour in range(24 * 366):
        at = dt.datetime(year, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=hour)
        held = offsets[starts.searchsorted(int(at.timestamp()), side="right") - 1]
        assert held == at.astimezone(ZoneInfo(zone)).utcoffset().total_seconds()


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_sides_of_a_minute_and_symbols_of_a_file_are_read_from_csv_and_parquet(tmp_path, suffix, newest_first):
    day = instants(CHANGES[0][1], 1, 1500)
    rows = [
        {"ts": local, "symbol": symbol, "price_type": side, "volume": number}
        for symbol in ("A", "B")
        for number, local in enumerate(local_times(day, NEW_YORK))
        for side in ("bid", "ask")
    ]
    frame = pl.DataFrame(rows).with_columns(pl.lit(1.0).alias(name) for name in ("open", "high", "low", "close"))
    frame = frame.reverse() if newest_first else frame
    path = tmp_path / f"bars_1m.{suffix}"
    frame.write_csv(path, datetime_format="%Y-%m-%d %H:%M:%S") if suffix == "csv" else frame.write_parquet(path)
    files, _ = scan([path])
    (batch,) = read(files[0], ReadOptions(timezone=NEW_YORK))
    assert batch.rejects.is_empty()
    for _, found in batch.frame.group_by("symbol", "price_type"):
        assert found.sort("volume")["ts"].to_list() == day
