"""The reference against answers computed by hand: what `docs/explanation/grid.md` says, as numbers."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from engine.reference import (
    MINUTE,
    SECOND,
    Gap,
    Grid,
    Row,
    Segment,
    Slot,
    bar_start,
    bars,
    due_slots,
    gaps,
    place,
    quality,
    settle,
    slots,
)

NEW_YORK = ZoneInfo("America/New_York")
TUESDAY, WEDNESDAY = dt.date(2024, 1, 2), dt.date(2024, 1, 3)


def at(clock: str, day: dt.date = TUESDAY, zone: dt.tzinfo = dt.UTC) -> int:
    """Microseconds of a time of day, "09:30" or "09:30:00.000001"."""
    instant = dt.datetime.combine(day, dt.time.fromisoformat(clock), zone)
    return (instant - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def segment(begin: str, end: str, day: dt.date = TUESDAY, label: str = "RTH", *, regular: bool = True) -> Segment:
    return Segment(day, at(begin, day), at(end, day), label, regular)


def times(stamps: list[int]) -> list[str]:
    return [f"{dt.datetime.fromtimestamp(ts // SECOND, dt.UTC):%H:%M}" for ts in stamps]


def bar(clock: str, price: float = 10.0, day: dt.date = TUESDAY, **fields: object) -> Row:
    return {"ts": at(clock, day), **dict.fromkeys(("open", "high", "low", "close"), price), **fields}


def shown(derived: list[Row], *columns: str) -> list[tuple]:
    return [(*times([row["ts"], row["ts_end"]]), *(row[name] for name in columns)) for row in derived]


NEW_YORK_DAY = Grid((segment("14:30", "21:00"),))
HONG_KONG = Grid((segment("01:30", "04:00"), segment("05:00", "08:00")))
EXTENDED = Grid(
    (
        segment("09:00", "14:30", label="PRE", regular=False),
        segment("14:30", "21:00"),
        segment("21:00", "23:00", label="POST", regular=False),
    )
)
WEEK = Grid(tuple(segment("14:30", "14:40", dt.date(2024, 1, day)) for day in (2, 3, 4, 5, 8, 31)))


# ---------------------------------------------------------------------------- slots


def test_slots_of_hours_end_at_the_close_with_half_an_hour() -> None:
    found = slots(NEW_YORK_DAY, NEW_YORK_DAY.segments[0], 60 * MINUTE)
    assert times([slot.start for slot in found]) == ["14:30", "15:30", "16:30", "17:30", "18:30", "19:30", "20:30"]
    assert times([slot.end for slot in found]) == ["15:30", "16:30", "17:30", "18:30", "19:30", "20:30", "21:00"]
    assert [slot.number for slot in found] == [0, 1, 2, 3, 4, 5, 6]


def test_slots_of_a_half_day_are_four_hours_of_which_the_last_is_short() -> None:
    half_day = segment("14:30", "18:00", dt.date(2024, 11, 29))
    found = slots(Grid((half_day,)), half_day, 60 * MINUTE)
    assert times([slot.start for slot in found]) == ["14:30", "15:30", "16:30", "17:30"]
    assert times([found[-1].end]) == ["18:00"]


def test_slots_begin_anew_after_lunch() -> None:
    morning, afternoon = (slots(HONG_KONG, one, 60 * MINUTE) for one in HONG_KONG.segments)
    assert times([slot.start for slot in morning]) == ["01:30", "02:30", "03:30"]
    assert times([slot.end for slot in morning]) == ["02:30", "03:30", "04:00"]
    assert times([slot.start for slot in afternoon]) == ["05:00", "06:00", "07:00"]


def test_slots_of_seven_minutes_leave_a_last_one_of_five() -> None:
    found = slots(NEW_YORK_DAY, NEW_YORK_DAY.segments[0], 7 * MINUTE)
    assert len(found) == 56  # 390 = 55 * 7 + 5
    assert times([found[55].start, found[55].end]) == ["20:55", "21:00"]


def test_slots_longer_than_the_segment_are_one() -> None:
    assert slots(HONG_KONG, HONG_KONG.segments[0], 240 * MINUTE) == [Slot(0, at("01:30"), at("04:00"))]


def test_slots_of_the_wall_clock_begin_with_a_short_one() -> None:
    clock = Grid(NEW_YORK_DAY.segments, clock="America/New_York")
    found = slots(clock, clock.segments[0], 60 * MINUTE)
    assert times([slot.start for slot in found]) == ["14:30", "15:00", "16:00", "17:00", "18:00", "19:00", "20:00"]
    assert times([found[0].end, found[6].end]) == ["15:00", "21:00"]


def test_slots_of_the_wall_clock_follow_the_zone_and_not_utc() -> None:
    mumbai = segment("03:45", "10:00")  # 09:15 to 15:30, five and a half hours ahead
    found = slots(Grid((mumbai,), clock="Asia/Kolkata"), mumbai, 60 * MINUTE)
    assert times([slot.start for slot in found]) == ["03:45", "04:30", "05:30", "06:30", "07:30", "08:30", "09:30"]


def test_slots_over_a_change_of_the_clocks_are_as_many_as_there_are_hours() -> None:
    # Chicago went from 02:00 to 03:00 on 10 March 2024: a session from Saturday 17:00 to Sunday 16:00 lasts 22 hours.
    zone = ZoneInfo("America/Chicago")
    sunday = dt.date(2024, 3, 10)
    night = Segment(sunday, at("17:00", dt.date(2024, 3, 9), zone), at("16:00", sunday, zone))
    assert len(slots(Grid((night,)), night, 60 * MINUTE)) == 22
    assert times([slots(Grid((night,)), night, 60 * MINUTE)[21].start]) == ["20:00"]


# ---------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("clock", "number"),
    [("14:29:59.999999", None), ("14:30", 0), ("14:30:00.000001", None), ("14:31", 1), ("20:59", 389), ("21:00", None)],
)
def test_place_of_a_minute_is_its_slot_only_at_its_start(clock: str, number: int | None) -> None:
    session, _, slot = place(NEW_YORK_DAY, MINUTE, at(clock))
    assert session == TUESDAY
    assert (slot.number if slot else None) == number


def test_place_of_a_tick_is_the_slot_that_holds_its_instant() -> None:
    assert place(NEW_YORK_DAY, MINUTE, at("14:30:59.999999"), exact=False)[2] == Slot(0, at("14:30"), at("14:31"))
    assert place(NEW_YORK_DAY, MINUTE, at("21:00"), exact=False)[2] is None


def test_place_at_the_close_of_one_segment_is_the_open_of_the_next() -> None:
    every = Grid(EXTENDED.segments, ("PRE", "RTH", "POST"))
    _, within, slot = place(every, MINUTE, at("14:30"))
    assert (within.label, slot.number) == ("RTH", 0)
    _, within, slot = place(every, MINUTE, at("14:29"))
    assert (within.label, slot.number) == ("PRE", 329)


def test_place_in_a_segment_that_is_not_chosen_has_no_slot() -> None:
    session, within, slot = place(EXTENDED, MINUTE, at("21:00"))
    assert (session, within.label, slot) == (TUESDAY, "POST", None)


@pytest.mark.parametrize(
    ("clock", "day", "nearest"),
    [
        ("12:00", TUESDAY, TUESDAY),
        ("05:44:59.999999", WEDNESDAY, TUESDAY),  # 8:45 after one close, 8:45 before the next open
        ("05:45", WEDNESDAY, WEDNESDAY),
        ("23:00", WEDNESDAY, WEDNESDAY),
    ],
)
def test_place_between_sessions_is_of_the_nearest_and_of_two_the_later(
    clock: str, day: dt.date, nearest: dt.date
) -> None:
    two = Grid((segment("14:30", "21:00"), segment("14:30", "21:00", WEDNESDAY)))
    assert place(two, MINUTE, at(clock, day)) == (nearest, None, None)


@pytest.mark.parametrize(
    ("stamp", "clock", "start"),
    [
        ("end", "14:37", "14:30"),
        ("end", "21:00", "20:55"),  # the last slot of 7 minutes has 5
        ("end", "21:02", "20:55"),  # and is stamped as if it had 7
        ("end", "21:01", "20:54"),  # no slot's end, so back by the step
        ("end-inclusive", "14:36:59", "14:30"),
        ("end-inclusive", "14:36:59.999", "14:30"),
        ("end-inclusive", "14:30:01", "14:30"),
        ("end-inclusive", "14:30", "14:23"),  # within no slot past its start
        ("end-inclusive", "20:59:59", "20:55"),
    ],
)
def test_bar_start_of_a_stamped_end_is_the_start_of_the_slot_that_ends_there(
    stamp: str, clock: str, start: str
) -> None:
    assert times([bar_start(NEW_YORK_DAY, 7 * MINUTE, at(clock), stamp)]) == [start]


# ---------------------------------------------------------------------------- bars


def test_bars_of_five_minutes_fold_prices_volumes_and_vwap() -> None:
    rows = [
        {"ts": at("14:30"), "open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 100.0, "vwap": 10.0, "trades": 3},
        {"ts": at("14:31"), "open": 11.0, "high": 11.5, "low": 8.0, "close": 9.5, "volume": 300.0, "vwap": 9.0, "trades": 5},
        {"ts": at("14:34"), "open": 9.5, "high": 10.5, "low": 9.5, "close": 10.0, "volume": 100.0, "vwap": 10.0, "trades": None},
    ]  # fmt: skip
    assert bars(NEW_YORK_DAY, rows, MINUTE, 5 * MINUTE) == [
        {
            "ts": at("14:30"), "ts_end": at("14:35"), "open": 10.0, "high": 12.0, "low": 8.0, "close": 10.0,
            "volume": 500.0, "size": None, "vwap": 9.4, "trades": 8,  # (1000 + 2700 + 1000) / 500
            "n_base": 3, "n_expected": 5, "complete": False, "provenance": "source",
        }
    ]  # fmt: skip


def test_bars_of_hours_over_lunch_are_complete_where_their_segment_ends() -> None:
    rows = [bar(f"{minute // 60:02}:{minute % 60:02}") for minute in [*range(90, 240), *range(300, 479)]]
    assert shown(bars(HONG_KONG, rows, MINUTE, 60 * MINUTE), "n_base", "n_expected", "complete") == [
        ("01:30", "02:30", 60, 60, True),
        ("02:30", "03:30", 60, 60, True),
        ("03:30", "04:00", 30, 30, True),
        ("05:00", "06:00", 60, 60, True),
        ("06:00", "07:00", 60, 60, True),
        ("07:00", "08:00", 59, 60, False),
    ]


def test_bars_leave_out_rows_off_the_grid_and_outside_of_the_segments() -> None:
    rows = [bar("14:30", 1.0), bar("14:30:30", 99.0), bar("13:00", 99.0), bar("21:00", 99.0)]
    assert [row["high"] for row in bars(EXTENDED, rows, MINUTE, 60 * MINUTE)] == [1.0]


def test_bars_of_a_day_hold_the_regular_segments_of_those_chosen() -> None:
    rows = [bar("09:00", 1.0), bar("14:30", 2.0), bar("22:59", 3.0)]
    every = Grid(EXTENDED.segments, ("PRE", "RTH", "POST"))
    assert shown(bars(every, rows, MINUTE, "1d"), "open", "n_base", "n_expected") == [("14:30", "21:00", 2.0, 1, 390)]
    outer = Grid(EXTENDED.segments, ("PRE", "POST"))  # none of them is regular: all of them
    assert shown(bars(outer, rows, MINUTE, "1d"), "open", "n_base", "n_expected") == [("09:00", "23:00", 1.0, 2, 450)]


def test_bars_of_weeks_and_months_are_of_trade_dates() -> None:
    rows = [bar("14:30", 1.0, dt.date(2024, 1, 3)), bar("14:31", 2.0, dt.date(2024, 1, 8))]
    week = bars(WEEK, rows, MINUTE, "1w")
    assert [(row["ts"], row["ts_end"]) for row in week] == [
        (at("14:30"), at("14:40", dt.date(2024, 1, 5))),
        (at("14:30", dt.date(2024, 1, 8)), at("14:40", dt.date(2024, 1, 8))),
    ]
    assert [(row["n_base"], row["n_expected"]) for row in week] == [(1, 40), (1, 10)]
    month = bars(WEEK, rows, MINUTE, "1mo")
    assert [(row["ts"], row["ts_end"], row["n_expected"]) for row in month] == [
        (at("14:30"), at("14:40", dt.date(2024, 1, 31)), 60)
    ]
    days = [bar("14:30", 1.0, dt.date(2024, 1, day)) for day in (2, 4)]
    assert [(row["n_base"], row["n_expected"]) for row in bars(WEEK, days, "1d", "1w")] == [(2, 4)]


def test_bars_of_seconds_count_minutes() -> None:
    rows = [bar("14:30"), bar("14:30:59"), bar("14:32:01")]
    assert shown(bars(NEW_YORK_DAY, rows, SECOND, 5 * MINUTE), "n_base", "n_expected") == [("14:30", "14:35", 2, 5)]
    assert shown(bars(NEW_YORK_DAY, rows, SECOND, 90 * SECOND), "n_base", "n_expected") == [
        ("14:30", "14:31", 1, 1),  # 14:31:30
        ("14:31", "14:33", 1, 1),
    ]
    strict = bars(NEW_YORK_DAY, rows, SECOND, 5 * MINUTE, presence=SECOND)
    assert shown(strict, "n_base", "n_expected") == [("14:30", "14:35", 3, 300)]


def test_bars_without_a_volume_or_vwap_say_so() -> None:
    rows = [bar("14:30", volume=None), bar("14:31", volume=None, trades=None)]
    assert shown(bars(NEW_YORK_DAY, rows, MINUTE, 5 * MINUTE), "volume", "vwap", "trades") == [
        ("14:30", "14:35", None, None, None)
    ]
    rows = [bar("14:30", volume=10.0, vwap=10.0), bar("14:31", volume=5.0, vwap=None)]
    assert shown(bars(NEW_YORK_DAY, rows, MINUTE, 5 * MINUTE), "volume", "vwap") == [("14:30", "14:35", 15.0, None)]
    rows = [bar("14:30", volume=10.0, vwap=10.0), bar("14:31", volume=0.0, vwap=None)]
    assert shown(bars(NEW_YORK_DAY, rows, MINUTE, 5 * MINUTE), "volume", "vwap") == [("14:30", "14:35", 10.0, 10.0)]


def test_bars_with_a_synthetic_row_have_its_prices_and_lack_its_slot() -> None:
    rows = [bar("14:30"), bar("14:31", 12.0, provenance="synthetic")]
    assert shown(bars(NEW_YORK_DAY, rows, MINUTE, 2 * MINUTE), "high", "n_base", "complete", "provenance") == [
        ("14:30", "14:32", 12.0, 1, False, "synthetic")
    ]


# ---------------------------------------------------------------------------- gaps and quality


def test_gaps_are_leading_inner_and_trailing() -> None:
    short = Grid((segment("14:30", "14:40"),))
    present = [at(f"14:{minute}") for minute in (32, 33, 36)]
    assert gaps(short, present, MINUTE, (TUESDAY, TUESDAY)) == [
        Gap(TUESDAY, at("14:30"), at("14:32"), 2, "leading"),
        Gap(TUESDAY, at("14:34"), at("14:36"), 2, "inner"),
        Gap(TUESDAY, at("14:37"), at("14:40"), 3, "trailing"),
    ]


def test_gaps_never_cross_lunch() -> None:
    present = [ts for ts in range(at("01:30"), at("08:00"), MINUTE) if not at("03:50") <= ts < at("05:10")]
    assert gaps(HONG_KONG, present, MINUTE, (TUESDAY, TUESDAY)) == [
        Gap(TUESDAY, at("03:50"), at("04:00"), 10, "trailing"),
        Gap(TUESDAY, at("05:00"), at("05:10"), 10, "leading"),
    ]


def test_gaps_of_whole_segments_lie_among_those_that_have_bars() -> None:
    day = Grid(tuple(segment(f"0{hour}:00", f"0{hour}:05") for hour in (1, 2, 3, 4)))
    five = 5 * MINUTE
    assert [gap.position for gap in gaps(day, [at("02:00"), at("04:00")], five, (TUESDAY, TUESDAY))] == [
        "leading",
        "inner",
    ]
    assert [gap.position for gap in gaps(day, [at("01:00")], five, (TUESDAY, TUESDAY))] == ["trailing"] * 3
    assert [gap.position for gap in gaps(day, [], five, (TUESDAY, TUESDAY))] == ["session"] * 4


def test_gaps_of_derived_windows_are_windows_without_a_bar() -> None:
    hours = [at("15:30"), at("17:30")]
    found = gaps(NEW_YORK_DAY, hours, 60 * MINUTE, (TUESDAY, TUESDAY))
    assert [(*times([gap.start, gap.end]), gap.bar_count) for gap in found] == [
        ("14:30", "15:30", 1),
        ("16:30", "17:30", 1),
        ("18:30", "21:00", 3),
    ]


def test_gaps_of_weeks_without_a_bar_are_sessions() -> None:
    assert gaps(WEEK, [at("14:30")], "1w", (TUESDAY, dt.date(2024, 1, 8))) == [
        Gap(dt.date(2024, 1, 8), at("14:30", dt.date(2024, 1, 8)), at("14:40", dt.date(2024, 1, 8)), 1, "session")
    ]


@pytest.mark.parametrize(
    ("as_of", "due"),
    [("14:30:59.999999", 0), ("14:31", 1), ("20:59:59.999999", 389), ("21:00", 390)],
)
def test_due_slots_are_those_that_are_over(as_of: str, due: int) -> None:
    found = due_slots(NEW_YORK_DAY, MINUTE, (TUESDAY, TUESDAY), at(as_of))
    assert sum(len(within) for _, within in found) == due


def test_quality_is_the_share_of_expected_slots_and_explains_nothing_away() -> None:
    grid = Grid((segment("14:30", "14:40"), segment("14:30", "14:40", WEDNESDAY)))
    rows = [
        bar("14:30", volume=0.0),
        bar("14:31", provenance="backfill"),
        bar("14:32", provenance="synthetic"),
        bar("14:33:30"),  # off the grid
        bar("14:40"),  # at the close
    ]
    nothing = {"off_grid": 0, "out_of_session": 0, "backfilled": 0, "zero_volume": 0}
    assert quality(grid, rows, MINUTE, (TUESDAY, WEDNESDAY)) == [
        {"session": TUESDAY, "expected": 10, "present": 2, "missing": 8, "quality": 20.0,
         "off_grid": 1, "out_of_session": 1, "backfilled": 1, "zero_volume": 1},
        {"session": WEDNESDAY, "expected": 10, "present": 0, "missing": 10, "quality": 0.0, **nothing},
    ]  # fmt: skip
    assert quality(grid, rows[3:4], MINUTE, (WEDNESDAY, WEDNESDAY))[0] == (
        {"session": TUESDAY, "expected": 0, "present": 0, "missing": 0, "quality": None, **nothing, "off_grid": 1}
    )


# ---------------------------------------------------------------------------- repeated rows


def test_settle_last_row_of_a_batch_wins_and_the_others_are_duplicates_or_conflicts() -> None:
    rows, duplicates, corrections, conflicts = settle(
        [[bar("14:31", 1.0), bar("14:30", 2.0), bar("14:31", 3.0), bar("14:31", 3.0)]]
    )
    assert rows == [bar("14:30", 2.0), bar("14:31", 3.0)]
    assert (duplicates, corrections, conflicts) == (1, 0, [bar("14:31", 1.0)])


def test_settle_later_batch_corrects_and_is_counted_at_each_step() -> None:
    rows, duplicates, corrections, conflicts = settle([[bar("14:30", 1.0)], [bar("14:30", 2.0)], [bar("14:30", 1.0)]])
    assert (rows, duplicates, corrections, conflicts) == ([bar("14:30", 1.0)], 0, 2, [])


def test_settle_same_values_from_elsewhere_are_a_duplicate_and_the_first_row_stays() -> None:
    first, again = bar("14:30", provenance="source"), bar("14:30", provenance="backfill")
    assert settle([[first], [again]]) == ([first], 1, 0, [])


def test_settle_ticks_are_known_by_their_number_too() -> None:
    ticks = [{"ts": at("14:30"), "seq": seq, "price": 10.0} for seq in (2, 1)]
    assert settle([ticks], ("ts", "seq")) == (ticks[::-1], 0, 0, [])


def test_everything_of_no_rows_is_nothing() -> None:
    assert bars(NEW_YORK_DAY, [], MINUTE, "1d") == []
    assert settle([]) == ([], 0, 0, [])
    assert gaps(NEW_YORK_DAY, [], MINUTE, (WEDNESDAY, WEDNESDAY)) == []
    assert quality(NEW_YORK_DAY, [], MINUTE, (WEDNESDAY, WEDNESDAY)) == []
