"""Questions about hours: exchange_calendars' own methods at random instants, a plain scan of segments, and published hours."""

from __future__ import annotations

import datetime as dt
import pickle
import random

import engine
import exchange_calendars
import pandas as pd
import polars as pl
import pytest
from engine.calendars.providers import SessionCalendar
from engine.calendars.search import search_calendars
from engine.errors import CalendarError, ParameterError

EDGES = ("next_open", "next_close", "previous_open", "previous_close")
FIRST, LAST = dt.datetime(2015, 1, 1, tzinfo=dt.UTC), dt.datetime(2019, 12, 31, tzinfo=dt.UTC)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def random_minutes(seed: int, count: int, opens: list[dt.datetime]) -> list[dt.datetime]:
    """Minutes anywhere, and at and around opens and closes."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    anywhere = [
        FIRST + dt.timedelta(minutes=draw.randrange(int((LAST - FIRST).total_seconds() // 60))) for _ in range(count)
    ]
    at_edges = [draw.choice(opens) + dt.timedelta(minutes=draw.choice((-1, 0, 1))) for _ in range(count)]
    return anywhere + at_edges


@pytest.mark.parametrize("code", ["XNYS", "XLON", "XHKG", "XTKS", "XWBO"])
def test_is_open_and_edges_equal_those_of_exchange_calendars_at_random_minutes(code: str) -> None:
    theirs = exchange_calendars.get_calendar(code, start="2014-01-01", end="2021-01-31")
    ours = engine.calendar(code)
    edges = [*theirs.opens, *theirs.closes, *theirs.break_starts.dropna(), *theirs.break_ends.dropna()]
    inside = [at.to_pydatetime().astimezone(dt.UTC) for at in edges if FIRST <= at <= LAST]
    minutes = random_minutes(7, 400, inside)
    stamps = [pd.Timestamp(at) for at in minutes]
    found = pl.DataFrame({"at": pl.Series(minutes, dtype=pl.Datetime("us", "UTC"))}).with_columns(
        ours.is_open(pl.col("at")).alias("open"),
        ours.is_open(pl.col("at"), ignore_breaks=True).alias("open_at_lunch"),
        *(getattr(ours, name)(pl.col("at"), ignore_breaks=True).alias(name) for name in EDGES),
    )
    # By their default side, "left", the minute of a close is closed, as ours.
    assert found["open"].to_list() == [theirs.is_trading_minute(at) for at in stamps]
    assert found["open_at_lunch"].to_list() == [theirs.is_open_on_minute(at, ignore_breaks=True) for at in stamps]
    for name in EDGES:
        expected = [getattr(theirs, name)(at).to_pydatetime() for at in stamps]
        assert found[name].to_list() == expected, name


@pytest.mark.parametrize("code", ["XNYS", "XTKS"])
def test_minutes_and_sessions_between_equal_those_of_exchange_calendars(code: str) -> None:
    theirs = exchange_calendars.get_calendar(code, start="2014-01-01", end="2021-01-31")
    ours = engine.calendar(code)
    minutes = random_minutes(11, 40, [LAST])[:40]
    pairs = list(zip(minutes[::2], minutes[1::2], strict=True))
    for begin, end in pairs:
        low, high = sorted((begin, end))
        last = high - dt.timedelta(minutes=1)
        expected = len(theirs.minutes_in_range(pd.Timestamp(low), pd.Timestamp(last)))
        assert ours.minutes_between(begin, end) == (expected if begin <= end else -expected)
        days = begin.date(), end.date()
        assert ours.sessions_between(*days) == theirs.sessions_distance(*map(pd.Timestamp, days))
        assert ours.sessions(*sorted(days)).to_list() == [
            day.date() for day in theirs.sessions_in_range(*map(pd.Timestamp, sorted(days)))
        ]


def test_lunch_is_closed_unless_breaks_are_ignored() -> None:
    tokyo = engine.calendar("XTKS")
    noon = "2024-06-03T12:00+09:00"
    assert not tokyo.is_open(noon)
    assert tokyo.is_open(noon, ignore_breaks=True)
    assert tokyo.next_open(noon) == utc("2024-06-03T12:30+09:00")
    assert tokyo.previous_close(noon) == utc("2024-06-03T11:30+09:00")
    assert tokyo.next_open(noon, ignore_breaks=True) == utc("2024-06-04T09:00+09:00")


def test_spans_that_touch_are_one_and_segments_choose_the_hours() -> None:
    york, whole_day = engine.calendar("XNYS"), ["PRE", "RTH", "POST"]
    assert york.is_open("2024-06-03T08:00-04:00", segments=whole_day)
    assert not york.is_open("2024-06-03T08:00-04:00")
    assert york.next_close("2024-06-03T08:00-04:00", segments=whole_day) == utc("2024-06-03T20:00-04:00")
    assert york.minutes_between("2024-06-03T00:00-04:00", "2024-06-04T00:00-04:00", segments=whole_day) == 16 * 60
    assert engine.calendar("FX").next_open("2024-06-03T00:00Z") == utc("2024-06-09T17:00-04:00")


def test_a_market_that_never_closes_has_no_next_open() -> None:
    always = engine.calendar("24/7")
    assert always.is_open("2024-06-03T00:00Z")
    assert always.next_open("2024-06-03T00:00Z") is None
    assert always.minutes_between("2024-06-03T00:00Z", "2024-06-04T00:00:30Z") == 1440.5


def test_answers_come_in_kind_and_nulls_stay_null() -> None:
    york = engine.calendar("XNYS")
    stamps = pl.Series(
        "ts", [utc("2024-07-04T11:00-04:00"), None, utc("2024-07-05T11:00-04:00")], pl.Datetime("ns", "UTC")
    )
    assert york.is_open(stamps).to_list() == [False, None, True]
    assert york.is_open(stamps).name == "ts"
    assert york.next_open(stamps).dtype == pl.Datetime("us", "UTC")
    lazy = pl.LazyFrame({"ts": stamps}).select(
        york.minutes_between(pl.col("ts"), "2024-07-05T12:00-04:00").alias("left")
    )
    assert lazy.collect()["left"].to_list() == [150.0, None, 60.0]
    days = pl.Series([dt.date(2024, 7, 3), None])
    assert york.sessions_between(days, "2024-07-08").to_list() == [3, None]  # 3, 5, 8 and not the 4th
    assert york.is_open(stamps.clear()).is_empty()


def test_a_question_is_refused_for_naive_instants_other_types_and_dates_out_of_bounds() -> None:
    york = engine.calendar("XNYS")
    with pytest.raises(ParameterError, match="no zone"):
        york.is_open(utc("2024-07-05T11:00Z").replace(tzinfo=None))
    with pytest.raises(ParameterError, match="time zone"):
        york.is_open(pl.Series([utc("2024-07-05T11:00Z").replace(tzinfo=None)]))
    with pytest.raises(ParameterError, match="date"):
        york.sessions_between(5, "2024-01-01")
    with pytest.raises(ParameterError, match="one length"):
        york.minutes_between(pl.Series([utc("2024-07-04T11:00Z")] * 2), pl.Series([utc("2024-07-04T11:00Z")] * 3))
    with pytest.raises(ParameterError, match="XNYS has"):
        york.next_open("2024-07-05T11:00Z", segments="ETH")
    with pytest.raises(CalendarError, match="1970-01-01 to 2049-12-31"):
        york.is_open("1950-07-05T11:00Z")
    with pytest.raises(CalendarError, match="1970-01-01 to 2049-12-31"):
        york.sessions_between("1950-07-05", "1980-01-01")


def test_a_copy_with_other_spans_answers_anew_and_a_pickled_one_the_same(tmp_path) -> None:
    york = engine.calendar("XNYS")
    assert york.is_open("2024-07-05T11:00-04:00")
    corrections = tmp_path / "corrections.toml"
    corrections.write_text("holidays = [2024-07-05]\n")
    corrected = engine.calendar("XNYS", overrides=corrections)
    assert isinstance(corrected, SessionCalendar)
    assert not corrected.is_open("2024-07-05T11:00-04:00")
    assert pickle.loads(pickle.dumps(york)).is_open("2024-07-05T11:00-04:00")  # noqa: S301 - made a line before


@pytest.mark.parametrize(
    ("text", "code"),
    [("tokyo", "XTKS"), ("japan", "JPX"), ("Germany", "XETR"), ("new york stock", "XNYS"), ("nifty", "XNSE"),
     ("xetra", "XETR"), ("gold", "COMEX_METALS"), ("bitcoin", "24/7"), ("us stocks", "NASDAQ"), ("dow", "CME_INDEX")],
)  # fmt: skip
def test_search_finds_a_code_by_city_country_index_or_product(text: str, code: str) -> None:
    assert code in search_calendars(text)["code"].to_list()


def test_search_puts_whole_words_first_and_names_similar_words_where_nothing_matches() -> None:
    assert search_calendars("ES")["code"][0] == "CME_INDEX"
    with pytest.raises(CalendarError, match="did you mean tokyo"):
        search_calendars("tokio")


def test_search_words_are_of_codes_that_can_be_had() -> None:
    from engine.calendars.search import WORDS  # noqa: PLC0415 - of this test alone

    words = pl.read_csv(WORDS)
    assert not set(words["code"]) - set(engine.calendar_codes()["code"])
    assert words["code"].is_unique().all()
