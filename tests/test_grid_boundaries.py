"""Places one instant before, at and after each open and close, with and without a neighbouring segment."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.grid import LEAST_ROWS_TO_STRIDE, GridSpec, SessionGrid
from engine.interval import Interval
from engine.reference import MINUTE, SECOND, Segment

from tests import axis

TUESDAY, WEDNESDAY = dt.date(2024, 1, 2), dt.date(2024, 1, 3)
INTRADAY = ("1s", "7s", "30s", "1m", "5m", "7m", "15m", "30m", "1h", "4h", "23h")
VENUES = {
    "one segment a day": [axis.at(day, 870, 1260) for day in (TUESDAY, WEDNESDAY)],
    "half a day, to the second": [Segment(TUESDAY, 0, 11_101 * SECOND), axis.at(WEDNESDAY, 870, 1260)],
    "a lunch break": [axis.at(day, a, b) for day in (TUESDAY, WEDNESDAY) for a, b in ((90, 240), (300, 480))],
    "a break of one microsecond": [
        axis.at(TUESDAY, 90, 240),
        Segment(TUESDAY, axis.at(TUESDAY, 240, 241).open + 1, axis.at(TUESDAY, 0, 480).close),
    ],
    "before, in and after hours": [
        axis.at(day, a, b, label, regular=label == "RTH")
        for day in (TUESDAY, WEDNESDAY)
        for label, a, b in (("PRE", 540, 870), ("RTH", 870, 1260), ("POST", 1260, 1440))
    ],
    "round the clock": [axis.at(TUESDAY, 0, 1440, "ETH"), axis.at(WEDNESDAY, 0, 1440, "ETH")],
}
CHOSEN = ((), ("PRE", "RTH", "POST"), ("PRE", "POST"))


def cases() -> list[tuple[str, tuple[str, ...]]]:
    return [(venue, chosen) for venue in VENUES for chosen in (CHOSEN if venue.startswith("before") else CHOSEN[:1])]


def instants(stamps: list[int]) -> pl.Series:
    return pl.Series("ts", stamps, pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def build(segments: list[Segment], interval: str, chosen: tuple[str, ...] = ()) -> SessionGrid:
    return SessionGrid.build(axis.frame(segments), interval, GridSpec("TEST", chosen))


@pytest.mark.parametrize("interval", INTRADAY)
@pytest.mark.parametrize(("venue", "chosen"), cases())
def test_place_around_each_open_and_close_is_in_the_segment_that_holds_the_instant(
    venue: str, chosen: tuple[str, ...], interval: str
) -> None:
    segments = VENUES[venue]
    step = Interval.parse(interval).step_us
    grid = build(segments, interval, chosen)
    ordinals = axis.frame(segments)["ordinal"].to_list()
    opened, closed = {s.open: i for i, s in enumerate(segments)}, {s.close: i for i, s in enumerate(segments)}

    def expected(at: int | None, slot: int | None, beside: int) -> tuple:
        if at is None:
            return segments[beside].session, None, None
        one = segments[at]
        counts = one.label in chosen if chosen else one.regular
        return one.session, ordinals[at], slot if counts else None

    rows: list[tuple[int, tuple, tuple]] = []  # stamp, place of a bar, place of a tick
    for i, one in enumerate(segments):
        last = -(-(one.close - one.open) // step) - 1
        before, after = closed.get(one.open), opened.get(one.close)
        ends = last if before is None else -(-(segments[before].close - segments[before].open) // step) - 1
        rows += [
            (one.open - 1, expected(before, None, i), expected(before, ends, i)),
            (one.open, expected(i, 0, i), expected(i, 0, i)),
            (one.open + 1, expected(i, None, i), expected(i, 0, i)),
            (one.open + last * step, expected(i, last, i), expected(i, last, i)),
            (one.close - 1, expected(i, None, i), expected(i, last, i)),
            (one.close, expected(after, 0, i), expected(after, 0, i)),
        ]
        if one.close + 1 not in opened:
            rows.append((one.close + 1, expected(after, None, i), expected(after, 0, i)))
    stamps = instants([ts for ts, _, _ in rows])
    for one_by_one in (True, False):  # a few stamps are placed alone, many by contiguous runs
        several = stamps if one_by_one else pl.concat([stamps] * LEAST_ROWS_TO_STRIDE)
        times = len(several) // len(stamps)
        assert grid.place(several).rows() == [bar for _, bar, _ in rows] * times
        assert grid.place(several, exact=False).rows() == [tick for _, _, tick in rows] * times


@pytest.mark.parametrize("interval", ["1s", "30s", "1m"])
@pytest.mark.parametrize(
    "venue", ["one segment a day", "a lunch break", "before, in and after hours", "round the clock"]
)
def test_place_bars_that_run_into_the_close_stops_there(venue: str, interval: str) -> None:
    segments = VENUES[venue]
    first = next(s for s in segments if s.regular)
    step = Interval.parse(interval).step_us
    inside = (first.close - first.open) // step
    stamps = [first.open + k * step for k in range(inside + 1)]
    placed = build(segments, interval).place(instants(stamps))
    assert placed["slot"][:-1].to_list() == list(range(inside))
    following = {s.open: s for s in segments if s.regular}.get(first.close)
    assert placed["slot"][-1] == (0 if following else None)


@pytest.mark.parametrize("interval", ["30s", "1m"])
@pytest.mark.parametrize("venue", VENUES)
def test_place_all_starts_of_a_venue_in_order_have_the_numbers_of_their_slots(venue: str, interval: str) -> None:
    segments = VENUES[venue]
    step = Interval.parse(interval).step_us
    grid = build(segments, interval, ("PRE", "RTH", "POST") if venue.startswith("before") else ())
    counted = [
        (s.session, ordinal, number, s.open + number * step)
        for s, ordinal in zip(segments, axis.frame(segments)["ordinal"], strict=True)
        for number in range(-(-(s.close - s.open) // step))
    ]
    stamps = instants([ts for *_, ts in counted])
    assert len(stamps) >= LEAST_ROWS_TO_STRIDE
    places = [(session, ordinal, number) for session, ordinal, number, _ in counted]
    for times in (1, 2):  # the second series begins anew
        assert grid.place(pl.concat([stamps] * times)).rows() == places * times


@pytest.mark.parametrize("interval", INTRADAY)
@pytest.mark.parametrize("venue", VENUES)
def test_ends_of_last_slots_are_the_closes_and_starts_of_first_slots_the_opens(venue: str, interval: str) -> None:
    segments = VENUES[venue]
    grid = build(segments, interval, ("PRE", "RTH", "POST") if venue.startswith("before") else ())
    due = grid.due()
    assert grid.starts(due["ordinal"], due["slots"] * 0).to_list() == instants([s.open for s in segments]).to_list()
    assert grid.ends(due["ordinal"], due["slots"] - 1).to_list() == instants([s.close for s in segments]).to_list()


@pytest.mark.parametrize("venue", ["one segment a day", "a lunch break", "round the clock"])
def test_place_of_days_is_at_the_first_open_alone(venue: str) -> None:
    segments = VENUES[venue]
    grid = build(segments, "1d")
    for day in (TUESDAY, WEDNESDAY):
        spans = [s for s in segments if s.session == day]
        opening, closing = spans[0].open, spans[-1].close
        ordinal = (day - axis.EPOCH).days * 16
        stamps = instants([opening, opening + 1, closing - 1])
        assert grid.place(stamps).rows() == [(day, ordinal, 0), (day, ordinal, None), (day, ordinal, None)]
        assert grid.place(stamps, exact=False)["slot"].to_list() == [0, 0, 0]
    outside = instants([segments[0].open - 1, segments[-1].close])
    assert grid.place(outside, exact=False).rows() == [(TUESDAY, None, None), (WEDNESDAY, None, None)]


@pytest.mark.parametrize(
    ("beyond_the_middle", "session"), [(-1, TUESDAY), (0, WEDNESDAY), (1, WEDNESDAY)], ids=["before", "at", "after"]
)
@pytest.mark.parametrize("interval", ["1s", "1m", "4h"])
def test_place_outside_is_of_the_nearest_trade_date_and_of_two_equally_near_the_later(
    interval: str, beyond_the_middle: int, session: dt.date
) -> None:
    segments = VENUES["one segment a day"]
    middle = (segments[0].close + segments[1].open) // 2
    assert middle - segments[0].close == segments[1].open - middle
    placed = build(segments, interval).place(instants([middle + beyond_the_middle]))
    assert placed.rows() == [(session, None, None)]


def test_place_far_outside_is_of_the_first_or_last_trade_date() -> None:
    segments = VENUES["a lunch break"]
    stamps = [segments[0].open - 400 * 1440 * MINUTE, segments[-1].close + 400 * 1440 * MINUTE]
    placed = build(segments, "1m").place(instants(stamps))
    assert placed.rows() == [(TUESDAY, None, None), (WEDNESDAY, None, None)]
