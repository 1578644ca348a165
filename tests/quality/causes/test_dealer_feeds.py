"""Verdicts on feeds of quotes around the clock: dates without a file, pauses, holidays, quotes that come and go.

What is right follows from how each feed is made.
"""

from __future__ import annotations

import datetime as dt

import engine
import numpy as np
import polars as pl
import pytest
from engine.calendars.providers import calendar

STEP = {"1m": dt.timedelta(minutes=1), "1h": dt.timedelta(hours=1)}
UTC = dt.UTC


def slots(code: str, first: dt.date, last: dt.date, interval: str = "1m") -> pl.Series:
    """Starts of all slots of the sessions."""
    segments = calendar(code).segments(first, last).filter("regular")
    spans = segments.select(
        pl.datetime_ranges("segment_open", "segment_close", interval, closed="left").explode().alias("ts")
    )
    return spans["ts"]


def quotes(ts: pl.Series, side: str, turn: float) -> pl.DataFrame:
    """Flat bars of a price that goes up and down by the minute, the ask above the bid; `turn`: of its symbol."""
    level = 1.3 + 0.01 * (ts.dt.epoch("s") / 7000 * turn).sin() + 1e-4 * (ts.dt.epoch("s") / 60 * 2.3 * turn).sin()
    price = level + (2e-4 if side == "ask" else 0.0)
    prices = dict.fromkeys(("open", "high", "low", "close"), price)
    return pl.DataFrame({"ts": ts, **prices}).with_columns(pl.lit(side).alias("price_type"))


def audited(code: str, interval: str, stamps: dict[str, dict[str, pl.Series]]) -> dict[str, pl.DataFrame]:
    """Tables of an audit of symbols, each with the stamps of its sides."""
    frames = {
        symbol: pl.concat([quotes(ts, side, 1 + number / 7) for side, ts in sides.items()])
        for number, (symbol, sides) in enumerate(stamps.items())
    }
    return dict(engine.run_audit(frames, code, interval=interval).tables)


def both(ts: pl.Series) -> dict[str, pl.Series]:
    return {"bid": ts, "ask": ts}


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


def without(ts: pl.Series, *spans: tuple[str, str]) -> pl.Series:
    kept = pl.Series([True]).new_from_index(0, len(ts))
    for start, end in spans:
        kept &= ~ts.is_between(at(start), at(end), closed="left")
    return ts.filter(kept)


def causes_of(tables: dict[str, pl.DataFrame], start: str, end: str) -> set[str]:
    inside = (pl.col("gap_start") < at(end)) & (pl.col("gap_end") > at(start))
    return set(tables["gaps"].filter(inside)["cause"])


def loud(tables: dict[str, pl.DataFrame]) -> list[str]:
    return tables["findings"].filter(pl.col("severity") != "info")["check_name"].to_list()


@pytest.mark.parametrize("interval", ["1m", "1h"])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-05-15T00:00", "2024-05-16T00:00"),  # a date of UTC
        ("2024-05-15T04:00", "2024-05-16T04:00"),  # of New York
        ("2024-05-12T21:00", "2024-05-13T00:00"),  # the Sunday
        ("2024-05-17T00:00", "2024-05-17T21:00"),  # the Friday
    ],
)
def test_audit_of_a_feed_without_a_whole_date_says_that_no_file_covers_it(interval, start, end) -> None:
    ts = without(slots("FX", dt.date(2024, 5, 6), dt.date(2024, 5, 24), interval), (start, end))
    tables = audited("FX", interval, {"EURUSD": both(ts), "GBPUSD": both(ts)})
    assert (causes_of(tables, start, end), loud(tables)) == ({"not_covered"}, [])


@pytest.mark.parametrize(
    ("start", "end"),
    [("2024-05-15T00:00", "2024-05-15T18:00"), ("2024-05-15T02:00", "2024-05-16T06:00")],
    ids=["part of a date", "between no midnights"],
)
def test_audit_of_a_feed_that_stops_within_a_date_is_a_loss(start, end) -> None:
    ts = without(slots("FX", dt.date(2024, 5, 6), dt.date(2024, 5, 24)), (start, end))
    tables = audited("FX", "1m", {name: both(ts) for name in ("EURUSD", "GBPUSD", "USDJPY")})
    assert causes_of(tables, start, end) == {"feed_loss"}
    assert loud(tables)


def test_audit_of_a_symbol_without_a_date_that_others_have_is_a_loss() -> None:
    whole = slots("FX", dt.date(2024, 5, 6), dt.date(2024, 5, 24))
    span = "2024-05-15T00:00", "2024-05-16T00:00"
    tables = audited("FX", "1m", {"EURUSD": both(without(whole, span)), "GBPUSD": both(whole)})
    assert causes_of(tables, *span) == {"symbol_loss"}


def test_audit_of_hours_beside_christmas_is_one_matter_of_the_calendar() -> None:
    whole = slots("FX", dt.date(2023, 12, 4), dt.date(2024, 1, 19), "1h")
    spans = [
        ("2023-12-22T19:00", "2023-12-22T22:00"),
        ("2023-12-25T22:00", "2023-12-26T07:00"),
        ("2024-01-01T22:00", "2024-01-02T03:00"),
    ]
    tables = audited("FX", "1h", {"EURUSD": both(without(whole, *spans))})
    assert [causes_of(tables, *span) for span in spans] == [{"early_close"}, {"late_open"}, {"late_open"}]
    assert loud(tables) == []
    told = tables["gaps"].filter(pl.col("cause").is_in(["early_close", "late_open"]))["evidence"].unique().to_list()
    assert told == ["no series of this feed has rows there, beside 25 December or 1 January: hours of brokers differ"]
    ordinary = ("2023-12-12T19:00", "2023-12-12T22:00")
    assert causes_of(audited("FX", "1h", {"EURUSD": both(without(whole, ordinary))}), *ordinary) == {"symbol_loss"}


def test_audit_of_trades_on_an_exchange_beside_christmas_stays_a_loss() -> None:
    ts = without(slots("CME_INDEX", dt.date(2023, 12, 4), dt.date(2024, 1, 19), "1h"), ("2023-12-27T12:00", "2023-12-27T22:00"))  # fmt: skip
    tables = audited("CME_INDEX", "1h", {"ES": {"last": ts}})
    assert "symbol_loss" in causes_of(tables, "2023-12-27T12:00", "2023-12-27T22:00")


def test_audit_of_a_daily_pause_of_minutes_is_information_and_a_longer_one_a_warning() -> None:
    whole = slots("FX", dt.date(2024, 5, 6), dt.date(2024, 5, 24))
    minute = whole.dt.hour().cast(pl.Int32) * 60 + whole.dt.minute()
    for length, severity in ((5, "info"), (120, "warning")):
        ts = whole.filter(~minute.is_between(600, 600 + length, closed="left"))
        found = audited("FX", "1m", {"EURUSD": both(ts)})["findings"]
        assert found.select("check_name", "severity").rows().count(("absent_slots", severity)) == 1
        assert set(found.filter(pl.col("check_name") != "not_covered")["check_name"]) == {"absent_slots"}


def test_audit_of_a_day_that_ends_with_its_daily_pause_closed_early() -> None:
    whole = slots("COMEX_METALS", dt.date(2014, 5, 5), dt.date(2014, 5, 23))
    local = whole.dt.convert_time_zone("America/Chicago")
    pause = local.filter((local.dt.hour() == 16) & (local.dt.minute() < 3)).dt.convert_time_zone("UTC")
    friday = "2014-05-16T21:00", "2014-05-16T21:15"
    ts = without(whole.filter(~whole.is_in(pause.implode())), friday)
    tables = audited("COMEX_METALS", "1m", {"XAUUSD": both(ts)})
    assert causes_of(tables, *friday) == {"early_close"}
    assert loud(tables) == []


def comes_and_goes(whole: pl.Series, rng: np.random.Generator) -> pl.Series:
    """Stamps of a quote that is there in every minute for some hours, and away for up to three, several times a day."""
    there = np.zeros(len(whole), bool)
    begin = 0
    while begin < len(whole):
        stays, away = rng.integers(200, 500), rng.integers(60, 180)
        there[begin : begin + stays] = True
        begin += int(stays + away)
    return whole.filter(pl.Series(there))


@pytest.mark.parametrize("seed", range(3))
def test_audit_of_quotes_that_come_and_go_blames_no_loss(seed: int) -> None:
    whole = slots("CME_INDEX", dt.date(2024, 5, 6), dt.date(2024, 5, 17))
    rng = np.random.default_rng(seed)
    stamps = {f"ES.{month}": both(comes_and_goes(whole, rng)) for month in (202409, 202412, 202503)}
    tables = audited("CME_INDEX", "1m", stamps)
    assert loud(tables) == []


def test_audit_of_a_quote_whose_other_side_goes_on_blames_no_loss_unless_it_is_always_there() -> None:
    whole = slots("FX", dt.date(2024, 5, 6), dt.date(2024, 5, 17))
    rng = np.random.default_rng(8)
    span = "2024-05-14T12:00", "2024-05-14T12:07"
    thinner = whole.filter(pl.Series(rng.random(len(whole)) < 0.9))
    far = {"bid": thinner, "ask": without(thinner, span)}
    told = audited("FX", "1m", {"FAR": far})["gaps"].filter(price_type="ask")
    inside = told.filter((pl.col("gap_start") < at(span[1])) & (pl.col("gap_end") > at(span[0])))
    assert set(inside["cause"]) <= {"no_trade", "unknown"}
    alone = audited("FX", "1m", {"FAR": {"ask": far["ask"]}})
    assert causes_of(alone, *span) == {"symbol_loss"}
    steady = {"bid": whole, "ask": without(whole, ("2024-05-14T12:00", "2024-05-14T12:30"))}
    assert causes_of(audited("FX", "1m", {"NEAR": steady}), *span) == {"symbol_loss"}
