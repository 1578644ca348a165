"""The session grid, by hand: what it refuses, vendors' stamps, periods, and what is due."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.errors import IntervalError, ParameterError, SchemaError
from engine.grid import ALL_IN_DAYS, GridSpec, SessionGrid, whole_years
from engine.interval import Interval
from engine.reference import Segment

from tests import axis

FRIDAY, MONDAY, TUESDAY = dt.date(2024, 3, 1), dt.date(2024, 3, 4), dt.date(2024, 3, 5)
NEW_YORK = "America/New_York"
DAY = [axis.at(day, 870, 1260) for day in (FRIDAY, MONDAY, TUESDAY)]  # 09:30 to 16:00 in New York
LONG_DAY = [
    axis.at(MONDAY, a, b, label, regular=label == "RTH")
    for label, a, b in (("PRE", 540, 870), ("RTH", 870, 1260), ("POST", 1260, 1440))
]


def build(spans: list[Segment], interval: str = "1m", **spec: object) -> SessionGrid:
    return SessionGrid.build(axis.frame(spans), interval, GridSpec("TEST", **spec))


def stamps(*clocks: str, day: dt.date = MONDAY) -> pl.Series:
    instants = [dt.datetime.combine(day, dt.time.fromisoformat(clock), dt.UTC) for clock in clocks]
    return pl.Series("ts", instants, pl.Datetime("us", "UTC"))


def clocks(ts: pl.Series) -> list[str]:
    return ts.dt.strftime("%a %H:%M:%S").to_list()


# ---------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("spans", "match"),
    [
        ([(600, 600)], "closes before it opens"),
        ([(600, 599)], "closes before it opens"),
        ([(600, 660), (659, 700)], "overlap or are out of order"),
        ([(700, 760), (600, 660)], "overlap or are out of order"),
    ],
)
def test_build_of_spans_that_are_none_raises(spans: list[tuple[int, int]], match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        build([axis.at(MONDAY, *span) for span in spans])


def test_build_of_spans_that_touch_is_right() -> None:
    assert build([axis.at(MONDAY, 600, 660), axis.at(MONDAY, 660, 700)]).table["slots"].to_list() == [60, 40]


def test_build_with_a_label_that_these_dates_lack_chooses_the_others() -> None:
    assert build(LONG_DAY, segments=("RTH", "NIGHT")).table.filter("chosen")["segment"].to_list() == ["RTH"]
    assert build([], segments=("NIGHT",)).table.height == 0


def test_starts_and_ends_of_no_segment_are_none() -> None:
    grid, none = build([]), pl.Series([], dtype=pl.Int32)
    assert (grid.starts(none, none).len(), grid.ends(none, none).len(), grid.sessions(none).len()) == (0, 0, 0)


def test_build_on_the_clock_needs_a_step_that_divides_a_day() -> None:
    with pytest.raises(ParameterError, match="divides a day; received 7m"):
        build(DAY, "7m", align="clock")
    assert build(DAY, "7m").table["slots"].to_list() == [56] * 3


def test_spec_takes_one_label_or_any_list_of_labels() -> None:
    assert GridSpec("TEST", "RTH").segments == ("RTH",)
    assert GridSpec("TEST", ["PRE", "RTH"]) == GridSpec("TEST", ("PRE", "RTH"))
    assert GridSpec("TEST", []).segments == ()


def test_spec_has_the_zone_by_its_name() -> None:
    assert GridSpec("TEST", zone="UTC-05").zone == "Etc/GMT+5"
    with pytest.raises(ParameterError, match="received 'Nowhere'"):
        GridSpec("TEST", zone="Nowhere")


def test_spec_and_stamps_refuse_other_words() -> None:
    with pytest.raises(ParameterError, match="align: received 'noon'; valid: session, clock, date"):
        GridSpec("TEST", align="noon")
    with pytest.raises(ParameterError, match="stamp: received 'middle'; valid: start, end, end-inclusive"):
        build(DAY).from_stamps(stamps("14:30"), "middle")
    with pytest.raises(IntervalError):
        build(DAY, "25h")
    with pytest.raises(SchemaError, match="segments"):
        SessionGrid.build(axis.frame(DAY).drop("regular"), "1m", GridSpec("TEST"))


def test_repr_shows_the_first_three_segments_and_how_many_more() -> None:
    shown = repr(build(axis.days(MONDAY, 5, [(870, 1260)])))
    assert [day for day in ("2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07") if f"  {day}  RTH" in shown] == [
        "2024-03-04",
        "2024-03-05",
        "2024-03-06",
    ]
    assert shown.endswith("and 2 more")


def test_grid_equals_itself_alone() -> None:
    grid = build(DAY)
    assert grid == grid  # noqa: PLR0124
    assert len({grid, grid, build(DAY)}) == 2


# ---------------------------------------------------------------------------- stamps


def test_from_stamps_on_the_clock_move_to_a_late_open() -> None:
    grid = build(DAY, "1h", align="clock", zone=NEW_YORK)
    found = grid.from_stamps(stamps("13:59", "14:00", "14:01", "14:30", "15:00", "20:00", "21:00", "22:00"))
    assert clocks(found) == [
        "Mon 13:59:00", "Mon 14:30:00", "Mon 14:01:00", "Mon 14:30:00", "Mon 15:00:00", "Mon 20:00:00", "Mon 21:00:00", "Mon 22:00:00",
    ]  # fmt: skip
    ends = grid.from_stamps(stamps("14:30", "15:00", "16:00", "21:00", "22:00"), "end")
    assert clocks(ends) == ["Mon 13:30:00", "Mon 14:30:00", "Mon 15:00:00", "Mon 20:00:00", "Mon 21:00:00"]


def test_from_stamps_on_the_clock_at_an_open_that_is_on_time_stay() -> None:
    grid = build([axis.at(MONDAY, 840, 1260)], "1h", align="clock", zone=NEW_YORK)
    assert clocks(grid.from_stamps(stamps("13:00", "14:00"))) == ["Mon 13:00:00", "Mon 14:00:00"]


@pytest.mark.parametrize(
    ("chosen", "clock", "start"),
    [
        (("PRE", "RTH"), "14:00", "14:00"),  # of the half hour before the open, which has a bar
        ((), "14:00", "14:30"),  # none is expected there
        (("RTH",), "13:00", "13:00"),
        (("PRE", "RTH"), "14:30", "14:30"),
    ],
)
@pytest.mark.parametrize("opening", [540, 840])  # PRE from 09:00 UTC, or from the hour before the open
def test_from_stamps_on_the_clock_at_a_slot_of_the_segment_before_stay(
    opening: int, chosen: tuple[str, ...], clock: str, start: str
) -> None:
    spans = [axis.at(MONDAY, opening, 870, "PRE", regular=False), axis.at(MONDAY, 870, 1260)]
    grid = build(spans, "1h", segments=chosen, align="clock", zone=NEW_YORK)
    assert grid.from_stamps(stamps(clock)).to_list() == stamps(start).to_list()


def test_from_stamps_on_the_clock_after_a_change_of_clocks_are_slots() -> None:
    sunday = dt.date(2024, 3, 10)  # at 02:00 the clocks of New York go to 03:00
    night = [axis.at(sunday, 300, 750), axis.at(sunday, 750, 960)]  # 00:00 to 08:30 to 12:00
    grid = build(night, "4h", align="clock", zone=NEW_YORK)
    found = grid.from_stamps(stamps("08:00", "09:00", "12:00", day=sunday))  # 04:00, 05:00 and 08:00 by the clock
    assert found.to_list() == stamps("08:00", "09:00", "12:00", day=sunday).to_list()
    assert grid.place(found)["slot"].to_list() == [1, None, 2]


@pytest.mark.parametrize(
    ("zone", "day", "step", "clock"),
    [
        (NEW_YORK, dt.date(2024, 3, 10), "4h", "00:00 04:00 08:00 12:00 16:00 20:00"),
        (NEW_YORK, dt.date(2024, 11, 3), "4h", "00:00 04:00 08:00 12:00 16:00 20:00"),
        ("Europe/Berlin", dt.date(2024, 3, 31), "2h", "00:00 03:00 04:00 06:00 08:00"),
        ("Europe/Berlin", dt.date(2024, 10, 27), "2h", "00:00 02:00 04:00 06:00 08:00"),
        ("Europe/Berlin", dt.date(2024, 10, 27), "1h", "00:00 01:00 02:00 02:00 03:00 04:00"),
        ("Europe/Berlin", dt.date(2024, 3, 31), "1h", "00:00 01:00 03:00 04:00"),
        ("Australia/Lord_Howe", dt.date(2024, 4, 7), "1h", "00:00 01:00 02:00 03:00 04:00"),
    ],
)
def test_slots_on_the_clock_begin_at_its_multiples_on_days_of_a_change(zone, day, step, clock) -> None:
    local = pl.Series([dt.datetime.combine(day, dt.time()), dt.datetime.combine(day + dt.timedelta(days=1), dt.time())])
    opened, closed = local.dt.replace_time_zone(zone).dt.epoch("us")
    grid = build([Segment(day, opened, closed, "ETH")], step, align="clock", zone=zone)
    slots = grid.slot_table()
    shown = slots["ts"].dt.convert_time_zone(zone).dt.strftime("%H:%M").to_list()
    expected = clock.split()
    assert shown[: len(expected)] == expected
    assert slots["ts_end"].head(-1).to_list() == slots["ts"].tail(-1).to_list()
    assert slots["ts_end"][-1] == pl.Series([closed]).cast(pl.Datetime("us", "UTC"))[0]
    assert grid.place(slots["ts"])["slot"].to_list() == list(range(slots.height))
    assert grid.from_stamps(slots["ts_end"], "end").to_list() == slots["ts"].to_list()


@pytest.mark.parametrize(
    ("interval", "windows"),
    [
        (
            "2d",
            [["2023-12-28", "2023-12-29"], ["2024-01-02", "2024-01-03"], ["2024-01-04", "2024-01-05"], ["2024-01-08"]],
        ),
        ("2w", [["2023-12-28", "2023-12-29"], ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"]]),
        ("3mo", [["2023-12-28", "2023-12-29"], ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"]]),
        ("1y", [["2023-12-28", "2023-12-29"], ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"]]),
    ],
)
def test_windows_of_several_days_weeks_and_months_are_of_trade_dates(interval, windows) -> None:
    year = calendar("XNYS").segments(dt.date(2023, 1, 1), dt.date(2024, 12, 31))
    grid = SessionGrid.build(year, "1d", GridSpec("XNYS"))
    days = grid.table.filter(pl.col("session").is_between(dt.date(2023, 12, 28), dt.date(2024, 1, 8)))
    places = days.select("ordinal", pl.lit(0, pl.Int32).alias("slot"))
    window = grid.windows(places, grid.at(Interval.parse(interval)))["ordinal"]
    found = days.select(pl.col("session").cast(pl.String)).with_columns(window).group_by("ordinal", maintain_order=True)
    assert found.agg("session")["session"].to_list() == windows


@pytest.mark.parametrize("interval", ["2d", "5d", "2w", "13w", "3mo", "1y"])
def test_windows_do_not_depend_on_where_the_axis_begins(interval) -> None:
    rows = dt.date(2023, 5, 2), dt.date(2024, 2, 20)
    long = calendar("XNYS").segments(dt.date(2015, 1, 1), dt.date(2025, 12, 31))
    short = calendar("XNYS").segments(*whole_years(*rows))
    found = []
    for segments in (long, short):
        grid = SessionGrid.build(segments, "1d", GridSpec("XNYS"))
        places = grid.table.filter(pl.col("session").is_between(*rows)).select(
            "ordinal", pl.lit(0, pl.Int32).alias("slot")
        )
        coarse = grid.at(Interval.parse(interval))
        window = grid.windows(places, coarse)
        found.append((window["ordinal"].to_list(), coarse.starts(window["ordinal"], window["slot"]).to_list()))
    assert found[0] == found[1]


def test_place_on_the_clock_is_at_late_opens_and_at_those_on_time() -> None:
    grid = build(LONG_DAY, "1h", segments=("PRE", "RTH", "POST"), align="clock", zone=NEW_YORK)
    placed = grid.place(stamps("09:00", "09:30", "14:00", "14:30", "15:00", "15:30", "21:00"))
    assert placed["slot"].to_list() == [0, None, 5, 0, 1, None, 0]


@pytest.mark.parametrize("align", ["session", "clock"])
def test_from_stamps_of_a_start_are_within_no_slot(align: str) -> None:
    grid = build(DAY, "1h", align=align, zone=NEW_YORK)
    assert grid.from_stamps(stamps("14:30"), "end-inclusive").to_list() == stamps("13:30:00.000001").to_list()


def test_from_stamps_of_the_end_of_a_short_segment_on_the_clock_are_its_open() -> None:
    grid = build([axis.at(MONDAY, 870, 890)], "1h", align="clock", zone=NEW_YORK)  # 09:30 to 09:50
    found = grid.from_stamps(stamps("14:50", "15:00"), "end")
    assert found.to_list() == stamps("14:30", "14:30").to_list()


@pytest.mark.parametrize("times", [1, 20])  # many stamps a step apart are placed by the ends of their runs
def test_place_of_hours_from_a_late_open_on_the_clock_is_at_the_open_alone(times: int) -> None:
    grid = build(DAY, "1h", align="clock", zone=NEW_YORK)
    hours = stamps("14:30", "15:30", "16:30", "17:30", "18:30")
    ordinal = grid.table["ordinal"][1]
    placed = grid.place(pl.concat([hours] * times))
    assert placed.rows() == [(MONDAY, ordinal, 0), *[(MONDAY, ordinal, None)] * 4] * times
    assert grid.place(pl.concat([hours] * times), exact=False)["slot"].to_list() == [0, 1, 2, 3, 4] * times


def test_from_stamps_at_the_start_are_left_as_they_are() -> None:
    ts = stamps("14:00", "14:30", "14:30:01", "21:00")
    assert build(DAY, "1h").from_stamps(ts).equals(ts)


@pytest.mark.parametrize(
    ("stamp", "clock", "start"),
    [
        ("end", "15:30", "14:30"),
        ("end", "14:30", "13:30"),  # the end of no slot
        ("end", "21:00", "20:30"),
        ("end", "21:30", "20:30"),
        ("end", "22:30", "21:30"),
        ("end-inclusive", "15:29:59.999999", "14:30"),
        ("end-inclusive", "15:29:59", "14:30"),
        ("end-inclusive", "15:29:58.999999", "14:30"),
        ("end-inclusive", "14:30:00.000001", "14:30"),
        ("end-inclusive", "15:30", "14:30:00.000001"),
        ("end-inclusive", "20:59:59", "20:30"),
    ],
)
def test_from_stamps_of_ends_give_the_slot_that_ends_there(stamp: str, clock: str, start: str) -> None:
    assert build(DAY, "1h").from_stamps(stamps(clock), stamp).to_list() == stamps(start).to_list()


@pytest.mark.parametrize("interval", ["1s", "1h"])
def test_from_stamps_within_a_slot_are_its_start_from_the_first_microsecond_on(interval: str) -> None:
    ends = stamps("14:30:00.000001", "14:30:00.999999", "14:30:01" if interval == "1h" else "14:30:00.5")
    assert build(DAY, interval).from_stamps(ends, "end-inclusive").to_list() == stamps(*["14:30"] * 3).to_list()


@pytest.mark.parametrize(
    ("interval", "stamp", "day", "clock", "session"),
    [
        ("1d", "start", MONDAY, "00:00", MONDAY),
        ("1d", "start", MONDAY, "05:00", MONDAY),
        ("1d", "end", TUESDAY, "05:00", MONDAY),  # midnight in New York
        ("1d", "end", TUESDAY, "05:00:00.000001", TUESDAY),
        ("1d", "end-inclusive", TUESDAY, "04:59:59", MONDAY),
        ("1d", "end-inclusive", TUESDAY, "05:00", TUESDAY),
        ("1w", "start", FRIDAY, "05:00", FRIDAY),
        ("1w", "start", dt.date(2024, 3, 2), "05:00", None),  # after the week's last session
        ("1w", "end", dt.date(2024, 3, 4), "05:00", FRIDAY),
        ("1w", "end-inclusive", dt.date(2024, 3, 3), "05:00", FRIDAY),
        ("1mo", "start", FRIDAY, "05:00", TUESDAY),
        ("1mo", "end", dt.date(2024, 4, 1), "04:00", TUESDAY),
        ("1mo", "end", dt.date(2024, 4, 2), "04:00", None),
        ("1d", "start", dt.date(2024, 3, 2), "05:00", None),  # a Saturday
        ("1d", "start", dt.date(2030, 1, 1), "05:00", None),
        ("1d", "start", dt.date(2020, 1, 1), "05:00", None),
    ],
)
def test_from_stamps_of_periods_are_dates_of_the_zone(
    interval: str, stamp: str, day: dt.date, clock: str, session: dt.date | None
) -> None:
    grid = build(DAY, interval, align="date", zone=NEW_YORK if clock != "00:00" else "UTC")
    ts = stamps(clock, day=day)
    found = grid.from_stamps(ts, stamp)
    if session is None:
        assert found.to_list() == ts.to_list()
    else:
        placed = grid.place(found)
        assert placed.select("session", "slot").rows() == [(session, 0)]


def test_from_stamps_of_weeks_are_of_the_week_from_monday_to_sunday() -> None:
    grid = build(axis.days(MONDAY, 50, [(870, 1260)]), "1w", align="date")
    mondays = [MONDAY + dt.timedelta(weeks=number) for number in range(10)]
    fridays = [monday + dt.timedelta(days=4) for monday in mondays]
    for weekday in (0, 2, 4):
        dates = [dt.datetime.combine(monday + dt.timedelta(days=weekday), dt.time(), dt.UTC) for monday in mondays]
        found = grid.from_stamps(pl.Series("ts", dates, pl.Datetime("us", "UTC")))
        assert grid.place(found).select("session", "slot").rows() == [(friday, 0) for friday in fridays]
    sundays = [dt.datetime.combine(monday + dt.timedelta(days=6), dt.time(), dt.UTC) for monday in mondays]
    found = grid.from_stamps(pl.Series("ts", sundays, pl.Datetime("us", "UTC")), "end-inclusive")
    assert grid.place(found)["session"].to_list() == fridays


# ---------------------------------------------------------------------------- segments and periods


def test_build_table_says_what_is_chosen_and_cut() -> None:
    table = build(LONG_DAY, "1h", segments=("RTH",), align="clock", zone=NEW_YORK).table
    assert table.select("segment", "regular", "chosen", "lead", "slots").rows() == [
        ("PRE", False, False, 0, 6),
        ("RTH", True, True, 30 * 60_000_000, 7),
        ("POST", False, False, 0, 3),
    ]
    assert table["first_session"].to_list() == [MONDAY] * 3


@pytest.mark.parametrize(
    ("chosen", "opening", "closing", "minutes"),
    [
        ((), 870, 1260, 390),
        (("PRE", "RTH"), 870, 1260, 390),
        (("PRE", "POST"), 540, 1440, 510),
        (("POST",), 1260, 1440, 180),
    ],
)
def test_days_are_of_the_regular_segments_that_are_chosen_or_of_all_that_are(
    chosen: tuple[str, ...], opening: int, closing: int, minutes: int
) -> None:
    base = build(LONG_DAY, segments=chosen)
    days = base.at(Interval.parse("1d"))
    whole = axis.at(MONDAY, opening, closing)
    assert days.table.select(pl.col("open", "close").cast(pl.Int64)).rows() == [(whole.open, whole.close)]
    places = pl.DataFrame({"ordinal": days.table["ordinal"], "slot": pl.Series([0], dtype=pl.Int32)})
    assert days.slots_in(places, base).to_list() == [minutes]


def test_days_fold_all_expected_segments_on_request() -> None:
    chosen = ("PRE", "RTH", ALL_IN_DAYS)
    grid = build(LONG_DAY, "1m", segments=chosen)
    day = grid.at(Interval.parse("1d")).table
    assert clocks(pl.concat([day["open"], day["close"]])) == ["Mon 09:00:00", "Mon 21:00:00"]
    places = grid.place(stamps("09:00", "14:30", "21:00"))
    assert places["slot"].to_list() == [0, 0, None]
    assert grid.windows(places.head(2), grid.at(Interval.parse("1d")))["slot"].to_list() == [0, 0]
    assert (grid.spec.labels, grid.spec.daily_segments) == (("PRE", "RTH"), "all")


def test_windows_of_a_day_leave_out_segments_that_it_is_not_folded_from() -> None:
    base = build(LONG_DAY, segments=("PRE", "RTH", "POST"))
    ordinals = base.table["ordinal"]
    places = pl.DataFrame({"ordinal": ordinals, "slot": pl.Series([0, 0, 0], dtype=pl.Int32)})
    assert base.windows(places, base.at(Interval.parse("1d"))).rows() == [(None, None), (ordinals[0], 0), (None, None)]


def test_periods_are_named_by_their_last_session() -> None:
    weeks = build(DAY, "1w")
    assert weeks.table.select("session", "first_session", "slots", "lead").rows() == [
        (FRIDAY, FRIDAY, 1, 0),
        (TUESDAY, MONDAY, 1, 0),
    ]
    assert weeks.table.select("regular", "chosen").rows() == [(True, True)] * 2
    days = pl.Series(
        "session", [dt.date(2024, 2, 1), FRIDAY, dt.date(2024, 3, 2), MONDAY, TUESDAY, dt.date(2024, 4, 1)]
    )
    assert weeks.periods_of(days).to_list() == [FRIDAY, FRIDAY, FRIDAY, TUESDAY, TUESDAY, TUESDAY]
    assert weeks.sessions(weeks.table["ordinal"]).to_list() == [FRIDAY, TUESDAY]


def test_slots_at_count_from_the_open_and_go_on_after_the_close() -> None:
    grid = build(DAY, "1h")
    ordinal = pl.Series([grid.table["ordinal"][1]] * 5)
    found = grid.slots_at(ordinal, stamps("14:29", "14:30", "15:29:59.999999", "15:30", "21:30"))
    assert found.to_list() == [0, 0, 0, 1, 7]
    assert found.dtype == pl.Int32


def test_slots_at_an_instant_of_another_century_is_the_last_number() -> None:
    grid = build(DAY, "1s")
    found = grid.slots_at(grid.table["ordinal"][:1], stamps("00:00", day=dt.date(2150, 1, 1)))
    assert found.to_list() == [2**31 - 1]


def test_at_gives_one_grid_per_interval() -> None:
    grid = build(DAY)
    hours = grid.at(Interval.parse("1h"))
    assert grid.at(Interval.parse("1m")) is grid
    assert grid.at(Interval.parse("60m")) is hours
    assert hours.table["slots"].to_list() == [7, 7, 7]


@pytest.mark.parametrize(
    ("clock", "due"),
    [
        ("14:29", 0),
        ("14:59:59.999999", 0),
        ("15:00", 1),
        ("15:59", 1),
        ("16:00", 2),
        ("20:59:59.999999", 6),
        ("21:00", 7),
        ("23:00", 7),
    ],
)
def test_due_counts_slots_of_the_clock_that_are_over(clock: str, due: int) -> None:
    grid = build(DAY, "1h", align="clock", zone=NEW_YORK)
    as_of = stamps(clock)[0]
    assert grid.due(as_of)["slots"].to_list() == [7, due, 0]
    assert grid.due(as_of).columns == ["ordinal", "session", "first_session", "segment", "slots"]
    assert grid.due()["slots"].to_list() == [7, 7, 7]


def test_due_of_many_instants_is_right_for_each() -> None:
    grid = build(DAY, "1h")
    asked = [stamps(clock)[0] for clock in ("15:30", "16:30", "17:30", "18:30", "19:30", "15:30", "16:30")]
    assert [grid.due(as_of)["slots"][1] for as_of in asked] == [1, 2, 3, 4, 5, 1, 2]


def test_due_of_four_instants_is_kept_and_of_a_fifth_begins_anew() -> None:
    grid = build(DAY, "1h")
    asked = [stamps(clock)[0] for clock in ("15:30", "16:30", "17:30", "18:30", "19:30")]
    first, *_, fourth = (grid.due(as_of) for as_of in asked[:4])
    assert grid.due(asked[0]) is first
    assert grid.due(asked[3]) is fourth
    grid.due(asked[4])
    assert grid.due(asked[3]) is not fourth


def test_due_lists_chosen_segments_alone() -> None:
    assert build(LONG_DAY).due()["segment"].to_list() == ["RTH"]
    assert build(LONG_DAY, segments=("POST", "PRE")).due()["segment"].to_list() == ["PRE", "POST"]


# ---------------------------------------------------------------------------- a calendar without a session in range


@pytest.mark.parametrize("exact", [True, False])
def test_place_on_a_grid_without_segments_gives_nulls(exact):
    placed = build([]).place(stamps("14:30", "14:31"), exact=exact)
    assert placed.rows() == [(None, None, None)] * 2
    assert placed.schema == {"session": pl.Date, "ordinal": pl.Int32, "slot": pl.Int32}


@pytest.mark.parametrize("interval", ["1m", "1d"])
@pytest.mark.parametrize("stamp", ["start", "end", "end-inclusive"])
def test_from_stamps_on_a_grid_without_segments_is_off_the_grid(interval, stamp):
    less = {"end": "14:29:00", "end-inclusive": "14:29:00.000001"}.get(stamp, "14:30") if interval == "1m" else "14:30"
    assert build([], interval).from_stamps(stamps("14:30"), stamp).to_list() == stamps(less).to_list()
