"""Surveys of parts: joined they are the whole, and a file of one gives it back."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.audit.survey import Survey, from_bytes, join_surveys, to_bytes
from engine.calendars.providers import calendar
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.parquet_scan import survey_rows
from engine.schema import BARS
from engine.simulation.sessions import Market, simulate

OPTIONS = LoadOptions(CalendarMap("XNYS"))
FRAMES = ("series", "runs", "counts", "prints", "quotes", "refused", "conflicts", "files")


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    grid = SessionGrid.build(
        calendar("XNYS").segments(dt.date(2024, 11, 4), dt.date(2024, 11, 8)), "1m", GridSpec("XNYS")
    )
    return simulate(grid, Market.of(4, 9)).clean.select(list(BARS))


def survey(rows: pl.DataFrame) -> Survey:
    return survey_rows(rows, Interval(1, "m"), OPTIONS, "rows")


def test_to_bytes_and_back_is_the_same_survey(bars):
    one = survey(bars)
    again = from_bytes(to_bytes(one))
    assert all(getattr(again, name).equals(getattr(one, name)) for name in FRAMES)
    assert [check.axis for check in again.checks] == [check.axis for check in one.checks]
    assert all(frame.equals(one.checks[0].measured[name]) for name, frame in again.checks[0].measured.items())


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x05\x06" + bytes(18)])
def test_from_bytes_of_something_else_is_refused(content):
    with pytest.raises(ValueError, match="no survey"):
        from_bytes(content)


def test_joined_a_day_cut_in_two_is_no_truncated_session(bars):
    noon = pl.col("ts").dt.hour() < 17
    halves = [bars.filter(noon), bars.filter(~noon)]
    assert survey(halves[0]).checks[0].measured["truncated"].height > 10
    whole, cut = survey(bars), join_surveys([survey(half) for half in halves])
    assert cut.checks[0].measured["truncated"].equals(whole.checks[0].measured["truncated"])


def test_joined_rows_that_two_parts_have_are_duplicates(bars):
    some = bars.filter(pl.col("symbol") == "S0001").head(7)
    made = join_surveys([survey(bars), survey(some)])
    assert made.counts["duplicates"].sum() == 7
    assert made.runs.equals(join_surveys([survey(bars)]).runs)


def test_joined_nothing_is_a_survey_of_nothing():
    assert join_surveys([]).series.is_empty()
    assert join_surveys([Survey.none()]).runs.is_empty()
