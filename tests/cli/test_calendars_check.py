"""`engine calendars check`: the example of docs/calendars.md, its overrides, its JSON, and what it refuses."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.cli import USAGE

ALWAYS_FULL = 'code = "XNYS"\nextends = "XNYS"\n[[override]]\ndate = 2024-07-03\nclose = "16:00"\n'


@pytest.fixture(scope="module")
def stocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stocks over 63 sessions around the half day 2024-07-03, with a print at 16:05 each day."""
    folder = tmp_path_factory.mktemp("check") / "stocks"
    folder.mkdir()
    spans = calendar("XNYS").segments("2024-04-22", "2024-07-22").filter("regular")
    minutes = [
        pl.concat([
            pl.datetime_range(begin, end, "1m", closed="left", time_unit="us", eager=True),
            pl.Series([end.replace(hour=20, minute=5)]).cast(pl.Datetime("us", "UTC")),
        ])
        for begin, end in spans.select("segment_open", "segment_close").iter_rows()
    ]  # fmt: skip
    starts = pl.concat(minutes)
    for number, name in enumerate(("AAA", "BBB", "CCC")):
        there = np.random.default_rng(number).random(len(starts)) < 0.97
        print_at = (starts.dt.hour() == 20) & (starts.dt.minute() == 5)
        rows = pl.DataFrame({"ts": starts}).filter(pl.Series(there) | print_at)
        prices = dict.fromkeys(("open", "high", "low", "close"), 10.0)
        rows.with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ"), **{n: pl.lit(v) for n, v in prices.items()}, volume=pl.lit(100)).write_csv(folder / f"{name}.csv")  # fmt: skip
    return folder


def test_check_right_calendar_lists_only_the_habit(engine, stocks):
    code, out, _ = engine("calendars", "check", stocks, "--calendar", "XNYS", "--json")
    (found,) = json.loads(out)
    assert code == 0
    assert (found["calendar"], found["interval"], found["series"], found["days_against"]) == ("XNYS", "1m", 3, 0)
    # 16:05 is in POST of this calendar, so that nothing is outside.
    assert (found["days"], found["habits"]) == ([], [])


def test_check_calendar_without_the_half_day_prints_it_and_writes_what_mends_it(engine, stocks, tmp_path):
    path, mended = tmp_path / "XNYS.toml", tmp_path / "mended.toml"
    path.write_text(ALWAYS_FULL, encoding="utf-8")
    code, out, _ = engine("calendars", "check", stocks, "--calendar", path, "--overrides", mended)
    assert code == 0
    assert "XNYS: 71,221 bars (1m) of 3 series on 63 dates; 1 of these speak against the calendar" in out, out
    (row,) = [line for line in out.splitlines() if "2024-07-03" in line]
    assert [cell.strip() for cell in row.strip("│ ").split("│")][:9] == [
        "2024-07-03", "Wed", "the bars end early", "13:00", "16:00", "180", "3", "3", "09:30-16:00",
    ]  # fmt: skip
    assert '[[override]]\ndate = 2024-07-03\nclose = "13:00"\n' in mended.read_text()
    right = tmp_path / "right.toml"
    right.write_text(ALWAYS_FULL + mended.read_text(), encoding="utf-8")
    assert json.loads(engine("calendars", "check", stocks, "--calendar", right, "--json")[1])[0]["days"] == []


def test_check_as_json_has_the_days_with_their_overrides(engine, stocks, tmp_path):
    path = tmp_path / "XNYS.toml"
    path.write_text(ALWAYS_FULL, encoding="utf-8")
    (found,) = json.loads(engine("calendars", "check", stocks, "--calendar", path, "--json")[1])
    (day,) = found["days"]
    assert (day["date"], day["kind"], day["from_time"], day["to_time"]) == (
        "2024-07-03",
        "early_close",
        "13:00",
        "16:00",
    )
    assert day["override"] == '[[override]]\ndate = 2024-07-03\nclose = "13:00"\n'


def test_check_without_a_calendar_names_the_option(engine, stocks):
    code, _, err = engine("calendars", "check", stocks)
    assert code == USAGE
    assert "--calendar" in err


def test_check_is_a_command_of_two_words_and_codes_still_are_arguments(engine):
    assert "--overrides" in engine("calendars", "check", "--help")[1]
    assert "09:30:00 EST" in engine("calendars", "XNYS", "--date", "2024-12-24")[1]
    assert "calendars check" in engine("--help")[1]
    day = dt.date(2024, 12, 25)
    assert f"no session on {day}" in engine("calendars", "XNYS", "--date", day)[1]
