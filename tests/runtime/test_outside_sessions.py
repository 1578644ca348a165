"""Notes of a load about bars outside sessions, and bars whose stamps look like ends."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.runtime.run import load_options, run

OPEN = dt.datetime(2024, 1, 16, 14, 30, tzinfo=dt.UTC)
DAY = [OPEN + dt.timedelta(minutes=minute) for minute in range(390)]
END = "SPY last 1m: no bar at the open of a session, 2 at a close; if stamps mark ends: --stamp end"
INCLUSIVE = "SPY last 1m: all stamps lie just before the end of a bar; if they mark ends: --stamp end-inclusive"


def stamp_notes(stamps, calendar="XNYS", **options):
    rows = pl.DataFrame({"symbol": "SPY", "ts": stamps, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0})
    result = run(rows, load_options(calendar, interval="1m", **options))
    return [note for note in result.loaded.notes if "--stamp end" in note], result


def two_days(shift):
    return [day + dt.timedelta(days=days) + shift for days in (0, 1) for day in DAY]


@pytest.mark.parametrize(
    ("shift", "note", "stamp"),
    [
        (dt.timedelta(minutes=1), END, "end"),
        (dt.timedelta(seconds=59), INCLUSIVE, "end-inclusive"),
        (dt.timedelta(seconds=59, milliseconds=999), INCLUSIVE, "end-inclusive"),
    ],
)
def test_run_bars_with_stamps_of_ends_are_noted_with_the_option_that_reads_them(shift, note, stamp):
    stamps = two_days(shift)
    assert stamp_notes(stamps)[0] == [note]
    notes, mended = stamp_notes(stamps, stamp=stamp)
    assert notes == []
    assert mended.session.bars(interval="1m")["ts"].to_list() == two_days(dt.timedelta())


@pytest.mark.parametrize(
    "stamps",
    [
        two_days(dt.timedelta()),
        [*DAY, DAY[-1] + dt.timedelta(minutes=1)],  # and the closing auction
        [*DAY[1:], *(DAY[-1] + dt.timedelta(minutes=minute) for minute in range(1, 60))],  # late, and after the close
        DAY[5:],
    ],
    ids=["starts", "auction", "extended hours", "late"],
)
def test_run_bars_with_stamps_of_starts_have_no_such_note(stamps):
    assert stamp_notes(stamps)[0] == []


def test_run_bars_around_the_clock_with_stamps_of_last_seconds_are_noted():
    stamps = two_days(dt.timedelta(seconds=59))
    assert stamp_notes(stamps, "24/7")[0] == [INCLUSIVE]


def notes_on_places(stamps, **options):
    rows = pl.DataFrame({"symbol": "SPY", "ts": stamps, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0})
    result = run(rows, load_options("XNYS", interval="1m", **options))
    return [note for note in result.loaded.notes if "slot of a session" in note], result


def extended_day():
    """From 04:00 to 20:00 in New York."""
    return [OPEN + dt.timedelta(minutes=minute) for minute in range(-330, 630)]


def test_run_whole_sessions_with_more_bars_around_them_are_told_the_segments_that_hold_these():
    notes, _ = notes_on_places(extended_day())
    text = "390 bars lie in a slot of a session, 570 outside, of them 330 in PRE, 240 in POST"
    assert notes == [f"SPY last 1m: {text}: --segments PRE,RTH,POST gives these a slot"]
    notes, mended = notes_on_places(extended_day(), segments=("PRE", "RTH", "POST"))
    assert notes == []
    assert mended.session.quality()["present"].to_list() == [960]


@pytest.mark.parametrize("hours", [-9, 4, 6])
def test_run_regular_hours_of_another_zone_are_not_taken_for_extended_ones(hours):
    (note,), _ = notes_on_places([stamp + dt.timedelta(hours=hours) for stamp in DAY])
    assert "; check --timezone, --stamp, --align and --calendar" in note
    assert "--segments" not in note
