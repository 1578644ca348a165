"""Trailing figures and the usual minute against plain Python, and that the session itself is never among them."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from statistics import fmean

import polars as pl
import pytest
from engine.derive.indicator_passes import indicators
from engine.derive.session_baseline import session_baseline, slot_averages
from engine.errors import ParameterError, SchemaError, SortednessError
from engine.reference import MINUTE
from engine.schema import BARS
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData
from polars.testing import assert_frame_equal

from tests import axis
from tests.derive import walks

BEFORE = dt.date(2024, 1, 15)
SERIES = ["symbol", "price_type", "interval", "origin"]
# A year and more of short sessions.
YEARS = axis.days(dt.date(2022, 12, 1), 300, [(570, 572)])


def by_day(rows: list[dict], before: dt.date) -> list[dict]:
    days: dict[dt.date, list[dict]] = defaultdict(list)
    for row in rows:
        if row["session"] < before:
            days[row["session"]].append(row)
    out = []
    for day, held in sorted(days.items()):
        volumes = [r["volume"] for r in held if r["volume"] is not None]
        high, low = max(r["high"] for r in held), min(r["low"] for r in held)
        out.append({"session": day, "high": high, "low": low, "range": high - low,
                    "close": held[-1]["close"], "volume": sum(volumes) if volumes else None})  # fmt: skip
    return out


def trailed(rows: list[dict], before: dt.date, sessions: int) -> dict[str, object]:
    days = by_day(rows, before)
    last = days[-sessions:]
    year = [d for d in days if d["session"] >= before - dt.timedelta(days=364)]
    want: dict[str, object] = {
        "sessions": len(last), "first_session": last[0]["session"], "last_session": last[-1]["session"],
    }  # fmt: skip
    for name in ("volume", "range", "close"):
        values = [d[name] for d in last if d[name] is not None]
        for title, how in (("average", fmean), ("max", max), ("min", min)):
            want[f"{title}_{name}"] = how(values) if values else None
    return want | {
        "high": max(d["high"] for d in last), "low": min(d["low"] for d in last),
        "high_52w": max((d["high"] for d in year), default=None), "low_52w": min((d["low"] for d in year), default=None),
    }  # fmt: skip


def approximately(want: dict[str, object]) -> dict[str, object]:
    return {
        name: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value for name, value in want.items()
    }


@pytest.mark.parametrize("sessions", [1, 4, 100])
@pytest.mark.parametrize("before", [dt.date(2024, 1, 3), BEFORE, dt.date(2025, 12, 1)])
def test_trailing_of_several_series_with_gaps_equals_plain_python(before: dt.date, sessions: int) -> None:
    bars = walks.bars()
    got = session_baseline(bars, before, sessions).to_dicts()
    assert [(g["symbol"], g["price_type"]) for g in got] == list(walks.MANY)
    for row, one in zip(got, walks.each_series(bars), strict=True):
        have = {name: value for name, value in row.items() if name not in SERIES}
        assert have == approximately(trailed(one.to_dicts(), before, sessions))


def test_trailing_over_more_than_a_year_forgets_what_is_older_than_52_weeks() -> None:
    bars = walks.bars(walks.MANY[:1], YEARS, keep=1.0)
    before = dt.date(2024, 1, 10)
    edge = before - dt.timedelta(days=364)
    spiked = bars.with_columns(
        pl.when(pl.col("session") == edge - dt.timedelta(days=1)).then(1e6).otherwise("high").alias("high"),
        pl.when(pl.col("session") == edge).then(1e-6).otherwise("low").alias("low"),
    )
    assert {edge, edge - dt.timedelta(days=1)} <= set(bars["session"])
    row = session_baseline(spiked, before, 5).row(0, named=True)
    assert (row["high_52w"] < 1e6, row["low_52w"]) == (True, 1e-6)
    assert session_baseline(spiked, before - dt.timedelta(days=1), 5)["high_52w"].item() == 1e6


def test_trailing_without_any_volume_is_null_there_alone() -> None:
    bars = walks.bars().with_columns(pl.lit(None, pl.Float64).alias("volume"))
    got = session_baseline(bars, BEFORE, 3)
    assert sorted(name for name in got.columns if got[name].null_count()) == [
        "average_volume",
        "max_volume",
        "min_volume",
    ]


def test_trailing_of_days_equals_that_of_their_minutes() -> None:
    bars = walks.bars()
    days = bars.group_by([*SERIES, "session"], maintain_order=True).agg(
        pl.col("ts").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(), pl.col("volume").sum()
    )
    assert_frame_equal(session_baseline(days, BEFORE, 4), session_baseline(bars, BEFORE, 4))


@pytest.mark.parametrize("sessions", [1, 4, 100])
def test_per_slot_of_several_series_with_gaps_equals_plain_python(sessions: int) -> None:
    bars = walks.bars(keep=0.6)
    got = slot_averages(bars, BEFORE, sessions)
    for one in walks.each_series(bars):
        rows = [r for r in one.to_dicts() if r["session"] < BEFORE]
        days = sorted({r["session"] for r in rows})[-sessions:]
        places: dict[tuple[int, int], list[dict]] = defaultdict(list)
        for row in (r for r in rows if r["session"] in days):
            places[row["ordinal"] % 16, row["slot"]].append(row)
        have = got.filter(pl.col("symbol") == one["symbol"][0], pl.col("price_type") == one["price_type"][0]).to_dicts()
        assert [(h["position"], h["slot"]) for h in have] == sorted(places)
        for row in have:
            held = places[row["position"], row["slot"]]
            volumes = [h["volume"] for h in held if h["volume"] is not None]
            want = {"sessions": len(held), "average_range": fmean(h["high"] - h["low"] for h in held),
                    "average_volume": fmean(volumes) if volumes else None}  # fmt: skip
            assert {name: row[name] for name in want} == approximately(want)


def test_per_slot_on_the_morning_is_what_relative_volume_divides_by() -> None:
    bars = walks.bars(keep=0.7)
    day = bars.filter(pl.col("session") == BEFORE).with_columns((pl.col("ordinal") % 16).alias("position"))
    usual = slot_averages(bars, BEFORE, 3).drop("sessions", "average_range").with_columns(pl.col("slot").cast(pl.Int32))
    beside = day.join(usual, on=[*SERIES, "position", "slot"], how="left", maintain_order="left")
    want = beside.select(pl.when(pl.col("average_volume") > 0).then(pl.col("volume") / pl.col("average_volume")))
    got = indicators(bars, ["relative_volume(3)"]).filter(pl.col("session") == BEFORE).select("relative_volume_3")
    assert got.height - got.null_count().item() > 50
    assert_frame_equal(got, want.rename({"volume": "relative_volume_3"}), rel_tol=1e-12)


def test_per_slot_after_an_early_close_only_lacks_the_later_slots() -> None:
    segments = axis.days(dt.date(2024, 1, 2), 3, [(570, 580)])
    segments[2] = type(segments[2])(segments[2].session, segments[2].open, segments[2].open + 4 * MINUTE)
    bars = walks.bars(walks.MANY[:1], segments, keep=1.0)
    got = slot_averages(bars, dt.date(2024, 2, 1), 3)
    assert got["sessions"].to_list() == [3] * 4 + [2] * 6
    assert slot_averages(bars, dt.date(2024, 2, 1), 1)["slot"].to_list() == [0, 1, 2, 3]


def test_per_slot_leaves_out_bars_off_the_grid() -> None:
    bars = walks.bars()
    odd = bars.with_columns(pl.when(pl.col("slot") != 3).then("slot").alias("slot"))
    want = slot_averages(bars, BEFORE, 4).filter(pl.col("slot") != 3)
    assert_frame_equal(slot_averages(odd, BEFORE, 4), want)


@pytest.mark.parametrize("before", [dt.date(2024, 1, 5), BEFORE])
def test_history_does_not_change_when_the_session_and_later_ones_are_poisoned(before: dt.date) -> None:
    bars = walks.bars()
    later = pl.col("session") >= before
    poison = {"high": 1e12, "low": -1e12, "close": 7e11, "volume": 1e15}
    poisoned = bars.with_columns(pl.when(later).then(v).otherwise(n).alias(n) for n, v in poison.items())
    assert poisoned.filter(later).height > 50
    for read in (session_baseline, slot_averages):
        assert read(poisoned, before, 3).equals(read(bars, before, 3))
        assert read(bars.filter(~later), before, 3).equals(read(bars, before, 3))
        assert not read(poisoned, before + dt.timedelta(days=20), 3).equals(
            read(bars, before + dt.timedelta(days=20), 3)
        )


def test_history_of_a_snapshot_does_not_change_when_history_is_revised_later() -> None:
    session = SessionData()
    session.register_symbol_data(SymbolSessionData("A", derived_intervals=()))
    opens = [dt.datetime(2024, 1, day, 14, 30, tzinfo=dt.UTC) for day in (2, 3, 4)]
    rows = pl.DataFrame(
        {"symbol": "A", "price_type": "last", "ts": opens, "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0,
         "volume": [100.0, 200.0, 300.0], "size": None, "vwap": None, "trades": None},
        schema=dict(BARS),
    )  # fmt: skip
    session.append(rows, interval="1m")
    morning = session.snapshot()
    known = session_baseline(morning.bars("A"), dt.date(2024, 1, 4), 5)
    revised = rows.with_columns(pl.lit(1e9).alias("volume"), pl.lit(500.0).alias("high"))
    assert session.append(revised, interval="1m").corrections == 3
    assert session_baseline(morning.bars("A"), dt.date(2024, 1, 4), 5).equals(known)
    assert known.select("sessions", "average_volume", "high").row(0) == (2, 150.0, 11.0)
    assert session_baseline(session.bars("A"), dt.date(2024, 1, 4), 5).select("average_volume", "high").row(0) == (
        1e9,
        500.0,
    )


def test_history_of_no_session_before_the_date_is_empty() -> None:
    bars = walks.bars()
    first = bars["session"].min()
    assert session_baseline(bars, first, 3).equals(session_baseline(bars.clear(), BEFORE, 3))
    assert slot_averages(bars, first, 3).height == 0


@pytest.mark.parametrize("read", [session_baseline, slot_averages])
def test_history_of_bad_input_raises(read) -> None:
    bars = walks.bars()
    with pytest.raises(ParameterError, match="sessions: received 0"):
        read(bars, BEFORE, 0)
    with pytest.raises(SchemaError, match="lacks high, volume"):
        read(bars.drop("high", "volume"), BEFORE, 1)
    with pytest.raises(SortednessError, match="is not later than"):
        read(bars.reverse(), BEFORE, 1)
    with pytest.raises(SchemaError, match=r"SessionGrid\.place"):
        slot_averages(bars.drop("slot"), BEFORE, 1)
