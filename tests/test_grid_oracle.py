"""The grid's slots against `trading_index` of exchange_calendars, which shares no code with the grid."""

from __future__ import annotations

import datetime as dt
import warnings

import exchange_calendars
import numpy as np
import polars as pl
import pytest
from engine.calendars import providers
from engine.calendars.providers import SessionCalendar, calendar, calendar_codes
from engine.grid import GridSpec, SessionGrid

INTERVALS = {"1m": "1min", "5m": "5min", "7m": "7min", "15m": "15min", "30m": "30min", "1h": "1h", "4h": "4h"}
SAMPLE = ("XNYS", "XHKG", "XTKS", "XLON", "XASX", "XKRX", "us_futures", "24/7")
# Early closes, a change of Tokyo's hours, both changes of the clocks, and the end of a decade.
YEARS = (dt.date(2019, 11, 1), dt.date(2020, 12, 31))
LONG_YEARS = (dt.date(1998, 1, 1), dt.date(2000, 12, 31)), (dt.date(2018, 1, 1), dt.date(2021, 12, 31))


def library_codes() -> list[str]:
    listed = calendar_codes().filter(pl.col("provider") == "exchange_calendars")
    return listed.filter(~pl.col("description").str.starts_with("as "))["code"].to_list()


def found(code: str) -> SessionCalendar:
    # CMES is refused at the door for want of a daily pause; the grid of its sessions can be checked all the same.
    return providers.exchange_calendar(code) if code == "CMES" else calendar(code)


def instants(stamps) -> np.ndarray:
    return stamps.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)


def slots(code: str, interval: str, first: dt.date, last: dt.date) -> tuple[np.ndarray, np.ndarray]:
    grid = SessionGrid.build(found(code).segments(first, last), interval, GridSpec(code))
    counts = grid.due()["slots"].to_numpy()
    ordinal = pl.Series(np.repeat(grid.due()["ordinal"].to_numpy(), counts))
    slot = pl.Series(np.concatenate([np.arange(count) for count in counts]).astype(np.int32))
    return (
        grid.starts(ordinal, slot).to_physical().to_numpy(),
        grid.ends(ordinal, slot).to_physical().to_numpy(),
    )


def build_library(code: str, first: dt.date, last: dt.date):
    # Beyond the dates in question: XKRX takes the last session that it builds for the first one of a year.
    low, high = found(code).bounds()
    margin = dt.timedelta(days=100)
    start, end = max(first - margin, low), min(last + margin, high)
    return exchange_calendars.get_calendar(code, start=start.isoformat(), end=end.isoformat())


def expect_equal(code: str, years: tuple[dt.date, dt.date], intervals: dict[str, str]) -> None:
    low, high = found(code).bounds()
    first, last = max(years[0], low), min(years[1], high)
    if first >= last:
        pytest.skip(f"{code} begins in {low}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas on the library's own code
        library = build_library(code, first, last)
        bounds = max(first, library.first_session.date()).isoformat(), last.isoformat()
        for interval, period in intervals.items():
            index = library.trading_index(
                *bounds, period, intervals=True, closed="left", force_close=True, force_break_close=True
            )
            starts, ends = slots(code, interval, first, last)
            assert len(starts) == len(index), (code, interval)
            assert np.array_equal(starts, instants(index.left)), (code, interval)
            assert np.array_equal(ends, instants(index.right)), (code, interval)


@pytest.mark.parametrize("code", SAMPLE)
def test_cut_sample_calendar_equals_trading_index(code):
    expect_equal(code, YEARS, INTERVALS if code[0] == "X" else {"7m": "7min", "4h": "4h"})


@pytest.mark.slow
@pytest.mark.parametrize("years", LONG_YEARS, ids=["1998", "2018"])
@pytest.mark.parametrize("code", sorted({*library_codes(), "24/7", "CMES"}))
def test_cut_every_calendar_equals_trading_index(code, years):
    expect_equal(code, years, INTERVALS)


def test_list_codes_of_exchange_calendars_is_complete():
    canonical = set(exchange_calendars.get_calendar_names(include_aliases=False))
    ours = calendar_codes().filter(pl.col("provider") == "engine")["code"]
    assert set(library_codes()) == canonical - {"CMES", *ours}
    assert len(canonical) >= 71
