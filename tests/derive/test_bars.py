"""Derived bars against the reference, over venues and holes of every kind."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine import reference
from engine.derive.bars import (
    completeness_interval,
    derive,
    finish_bars,
    fold,
    fold_input,
    refold_input,
    uncovered_counts,
)
from engine.errors import IntervalError, SortednessError
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.reference import MINUTE, Segment
from engine.schema import PROVENANCE
from hypothesis import given
from hypothesis import strategies as st

from tests import axis

SPEC = GridSpec("TEST")
STEPS = {"5m": 5 * MINUTE, "7m": 7 * MINUTE, "15m": 15 * MINUTE, "30m": 30 * MINUTE, "1h": 60 * MINUTE,
         "90m": 90 * MINUTE, "4h": 240 * MINUTE, "1d": "1d", "1w": "1w", "1mo": "1mo"}  # fmt: skip
EXACT = ("ts", "ts_end", "open", "high", "low", "close", "volume", "trades", "n_base", "n_expected", "complete")


def grid(segments: list[Segment], interval: str = "1m") -> SessionGrid:
    return SessionGrid.build(axis.frame(segments), interval, SPEC)


def panel(series_rows: dict[int, list[dict]], on: SessionGrid) -> pl.DataFrame:
    schema = {"series": pl.Int32, "ts": pl.Int64, "open": pl.Float64, "high": pl.Float64, "low": pl.Float64,
              "close": pl.Float64, "volume": pl.Float64, "vwap": pl.Float64, "trades": pl.Int64}  # fmt: skip
    flat = [{"series": s, **r} for s, rows in series_rows.items() for r in sorted(rows, key=lambda r: r["ts"])]
    frame = pl.DataFrame(flat, schema=schema)
    stamps = frame["ts"].cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return frame.drop("ts").with_columns(on.place(stamps))


@st.composite
def rows_on(draw: st.DrawFn, segments: list[Segment], *, priced: bool = True) -> list[dict]:
    everywhere = axis.starts(segments)
    chosen = draw(st.sets(st.sampled_from(everywhere), min_size=1))
    odd = draw(st.sets(st.integers(segments[0].open - 10 * MINUTE, segments[-1].close + 10 * MINUTE), max_size=5))
    rows = []
    for at, ts in enumerate(sorted(chosen | odd)):
        low = draw(st.integers(1, 1000))
        high = low + draw(st.integers(0, 50))
        inside = st.integers(low, high)
        volume = draw(st.one_of(st.none(), st.integers(0, 10**6)))
        rows.append({
            "ts": ts, "open": draw(inside) / 4, "high": high / 4, "low": low / 4, "close": draw(inside) / 4,
            "volume": volume if volume is None else float(volume),
            "vwap": draw(st.one_of(st.none(), inside.map(float))) if priced else None,
            "trades": draw(st.one_of(st.none(), st.integers(0, 99))) if at % 2 else at,
        })  # fmt: skip
    return rows


def micros(frame: pl.DataFrame) -> list[dict]:
    return frame.with_columns(pl.col("ts", "ts_end").dt.timestamp("us")).to_dicts()


@given(st.data())
def test_derive_any_holes_equals_the_reference(data: st.DataObject) -> None:
    segments = data.draw(axis.venues())
    series = {n: data.draw(rows_on(segments)) for n in range(1, data.draw(st.integers(1, 3)) + 1)}
    steps = data.draw(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4, unique=True))
    on = grid(segments)
    got = derive(panel(series, on), on, [Interval.parse(s) for s in steps])
    for step in steps:
        bars = micros(got[Interval.parse(step)])
        for number, rows in series.items():
            want = reference.bars(reference.Grid(tuple(segments)), rows, MINUTE, STEPS[step])
            have = [b for b in bars if b["series"] == number]
            assert [{k: b[k] for k in EXACT} for b in have] == [{k: w[k] for k in EXACT} for w in want]
            for b, w in zip(have, want, strict=True):
                assert (b["vwap"] is None) == (w["vwap"] is None)
                assert w["vwap"] is None or b["vwap"] == pytest.approx(w["vwap"], rel=1e-12)


@given(st.data())
def test_derive_with_other_intervals_gives_the_same_bars(data: st.DataObject) -> None:
    segments = data.draw(axis.venues())
    on = grid(segments)
    rows = panel({1: data.draw(rows_on(segments)), 2: data.draw(rows_on(segments))}, on)
    alone = derive(rows, on, [Interval.parse("1h")])[Interval.parse("1h")]
    many = derive(rows, on, [Interval.parse(s) for s in STEPS])[Interval.parse("1h")]
    assert alone.equals(many)


@given(st.data())
def test_derive_a_slice_equals_the_slice_of_the_panel(data: st.DataObject) -> None:
    segments = data.draw(axis.venues())
    on = grid(segments)
    rows = panel({n: data.draw(rows_on(segments)) for n in (1, 2, 3)}, on)
    whole = derive(rows, on, [Interval.parse("15m")])[Interval.parse("15m")]
    one = derive(rows.filter(pl.col("series") == 2), on, [Interval.parse("15m")])[Interval.parse("15m")]
    assert one.equals(whole.filter(pl.col("series") == 2))


def test_derive_day_with_a_break_keeps_windows_inside_their_segment() -> None:
    segments = axis.days(dt.date(2024, 1, 2), 1, [(90, 240), (300, 480)])
    on = grid(segments)
    rows = [{"ts": a, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0, "vwap": 1.0, "trades": 1}
            for a in axis.starts(segments)]  # fmt: skip
    bars = derive(panel({1: rows}, on), on, [Interval.parse("1h")])[Interval.parse("1h")]
    assert bars["ts"].dt.strftime("%H:%M").to_list() == ["01:30", "02:30", "03:30", "05:00", "06:00", "07:00"]
    assert bars["n_expected"].to_list() == [60, 60, 30, 60, 60, 60]
    assert bars["ts_end"].dt.strftime("%H:%M").to_list() == ["02:30", "03:30", "04:00", "06:00", "07:00", "08:00"]


def test_derive_days_leave_out_rows_of_extended_hours() -> None:
    hours = (("PRE", 540, 570), ("RTH", 570, 580), ("POST", 580, 600))
    segments = [axis.at(dt.date(2024, 1, 2), a, b, label, regular=label == "RTH") for label, a, b in hours]
    on = SessionGrid.build(axis.frame(segments), "1m", GridSpec("TEST", ("PRE", "RTH", "POST")))
    price = {"volume": 1.0, "vwap": 1.0, "trades": 1}
    rows = [
        {"ts": a, **dict.fromkeys(("open", "high", "low", "close"), float(at)), **price}
        for at, a in enumerate(axis.starts(segments))
    ]
    made = derive(panel({1: rows}, on), on, [Interval.parse("1h"), Interval.parse("1d")])
    assert made[Interval.parse("1h")].select("open", "n_base").rows() == [(0.0, 30), (30.0, 10), (40.0, 20)]
    assert made[Interval.parse("1d")].select("open", "close", "n_base", "n_expected").rows() == [(30.0, 39.0, 10, 10)]


@pytest.mark.parametrize(
    ("volume", "vwap", "folded"),
    [
        ([None, None], [2.0, 4.0], (None, None)),
        ([1.0, 3.0], [None, None], (4.0, None)),
        ([None, None], [None, None], (None, None)),
        ([1.0, 3.0], [2.0, 4.0], (4.0, 3.5)),
        ([0.0, 3.0], [None, 4.0], (3.0, 4.0)),
        ([None, 3.0], [None, 4.0], (3.0, 4.0)),
        ([0.0, 0.0], [2.0, 4.0], (0.0, None)),
    ],
)
@pytest.mark.parametrize("steps", [("5m",), ("5m", "15m")])
def test_derive_columns_without_a_value_give_none(
    volume: list[float | None], vwap: list[float | None], folded: tuple, steps: tuple[str, ...]
) -> None:
    segments = axis.days(dt.date(2024, 1, 2), 1, [(570, 600)])
    on = grid(segments)
    rows = [
        {
            "ts": ts,
            **dict.fromkeys(("open", "high", "low", "close"), 1.0),
            "volume": volume[at],
            "vwap": vwap[at],
            "trades": None,
        }
        for at, ts in enumerate(axis.starts(segments)[:2])
    ]
    made = derive(panel({1: rows}, on), on, [Interval.parse(step) for step in steps])
    for step in steps:
        bars = made[Interval.parse(step)]
        assert bars.select("volume", "vwap", "trades", "size").rows() == [(*folded, None, None)]
    again = finish_bars(fold(refold_input(made[Interval.parse("5m")]), on.at(Interval.parse("5m")), on.at(Interval.parse("15m")),
                             counts_rows=False), on.at(Interval.parse("15m")), on)  # fmt: skip
    assert again.select("volume", "vwap").rows() == [folded]


@pytest.mark.parametrize(
    ("of_rows", "of_bar", "n_base"),
    [
        (("source", "source"), "source", 2),
        (("backfill", "backfill"), "backfill", 2),
        (("synthetic", "synthetic"), "synthetic", 0),
        (("source", "backfill"), "backfill", 2),
        (("synthetic", "source"), "synthetic", 1),
    ],
)
def test_derive_provenance_is_the_furthest_from_the_source_of_the_window(
    of_rows: tuple[str, str], of_bar: str, n_base: int
) -> None:
    segments = axis.days(dt.date(2024, 1, 2), 1, [(570, 600)])
    on, (five, hour) = grid(segments), (Interval.parse("5m"), Interval.parse("1h"))
    price = {**dict.fromkeys(("open", "high", "low", "close"), 1.0), "volume": None, "vwap": None, "trades": None}
    rows = panel({1: [{"ts": ts, **price} for ts in axis.starts(segments)[:2]]}, on)
    made = derive(rows.with_columns(pl.Series("provenance", of_rows, PROVENANCE)), on, [five])[five]
    assert made.select("provenance", "n_base").rows() == [(of_bar, n_base)]
    folded = fold(refold_input(made), on.at(five), on.at(hour), counts_rows=False)
    assert finish_bars(folded, on.at(hour), on).select("provenance", "n_base").rows() == [(of_bar, n_base)]


@pytest.mark.parametrize(("judge", "expected"), [("1m", 5), ("5m", 1), ("15m", 1)])
def test_finish_bars_expects_one_slot_of_an_interval_that_is_not_finer(judge: str, expected: int) -> None:
    segments = axis.days(dt.date(2024, 1, 2), 1, [(570, 600)])
    on, five = grid(segments), Interval.parse("5m")
    price = {**dict.fromkeys(("open", "high", "low", "close"), 1.0), "volume": None, "vwap": None, "trades": None}
    rows = fold_input(panel({1: [{"ts": segments[0].open, **price}]}, on))
    folded = fold(rows, on, on.at(five), counts_rows=False)
    assert finish_bars(folded, on.at(five), on.at(Interval.parse(judge)))["n_expected"].to_list() == [expected]


def test_fold_input_has_the_columns_with_a_value_alone() -> None:
    rows = pl.DataFrame(
        {"series": [1], "ordinal": [16], "slot": [0], **{name: [1.0] for name in ("open", "high", "low", "close")}}
    )
    empty = rows.with_columns(pl.lit(None, pl.Float64).alias("size"), pl.lit(None, pl.Int64).alias("trades"))
    carried = ["series", "ordinal", "slot", "open", "high", "low", "close"]
    assert fold_input(empty).columns == [*carried, "n_base"]
    assert fold_input(empty.with_columns(trades=7)).columns == [*carried, "trades", "n_base"]


@pytest.mark.parametrize(
    ("vwap", "volume", "counted"),
    [
        ([1.0, 1.0], [1.0, 1.0], None),
        ([1.0, None], [1.0, 0.0], None),
        ([1.0, None], [1.0, None], None),
        ([None, 1.0, None], [2.0, 2.0, 0.0], [1, 0, 0]),
    ],
)
def test_uncovered_counts_rows_with_a_volume_and_no_vwap(vwap: list, volume: list, counted: list[int] | None) -> None:
    found = uncovered_counts(pl.DataFrame({"vwap": vwap, "volume": volume}), "vwap")
    assert [(series.name, series.to_list()) for series in found] == ([("uncovered", counted)] if counted else [])


def test_derive_on_seconds_judges_presence_by_the_minute() -> None:
    segments = axis.days(dt.date(2024, 1, 2), 1, [(570, 580)])
    on = grid(segments, "1s")
    stamps = [segments[0].open + s * 1_000_000 for s in (0, 59, 61, 300)]
    rows = [{"ts": t, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0, "vwap": None, "trades": None}
            for t in stamps]  # fmt: skip
    made = derive(panel({1: rows}, on), on, [Interval.parse(i) for i in ("30s", "1m", "5m", "1d")])
    assert made[Interval.parse("30s")].select("n_base", "n_expected").rows() == [(1, 1)] * 4
    assert made[Interval.parse("1m")]["complete"].all()
    assert made[Interval.parse("5m")].select("n_base", "n_expected").rows() == [(2, 5), (1, 5)]
    assert made[Interval.parse("1d")].select("n_base", "n_expected", "volume").rows() == [(3, 10, 4.0)]
    strict = derive(panel({1: rows}, on), on, [Interval.parse("5m")], presence=Interval.parse("1s"))
    assert strict[Interval.parse("5m")].select("n_base", "n_expected").rows() == [(3, 300), (1, 300)]


@pytest.mark.parametrize(
    ("base", "target", "slots"),
    [
        ("1m", "5m", "1m"), ("5m", "1d", "5m"), ("1d", "1w", "1d"), ("1s", "1m", "1m"), ("1s", "5m", "1m"), ("30s", "1d", "1m"),
        ("1m", "90s", "1m"),
        ("1s", "30s", "30s"),  # minutes are coarser than the window
        ("1s", "90s", "90s"),  # the window is no whole number of minutes
        ("7s", "7m", "7m"), ("7s", "1d", "1d"),  # a minute is no whole number of base slots
    ],
)  # fmt: skip
def test_completeness_interval_is_the_base_or_minutes_where_the_three_nest(base: str, target: str, slots: str) -> None:
    assert completeness_interval(Interval.parse(base), Interval.parse(target)) == Interval.parse(slots)


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 0, 1], [0, 2, 1]])
def test_derive_unsorted_rows_raises(order: list[int]) -> None:
    on = grid(axis.days(dt.date(2024, 1, 2), 1, [(570, 580)]))
    rows = pl.DataFrame({"series": [1, 1, 1], "ordinal": [on.table["ordinal"][0]] * 3, "slot": order,
                         "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0}).cast(
        {"series": pl.Int32, "ordinal": pl.Int32, "slot": pl.Int32})  # fmt: skip
    with pytest.raises(SortednessError, match=r"row [12]"):
        derive(rows, on, [Interval.parse("5m")])


@pytest.mark.parametrize(("base", "target"), [("5m", "1m"), ("5m", "7m"), ("1m", "90s"), ("1d", "1h")])
def test_derive_what_does_not_nest_raises(base: str, target: str) -> None:
    on = grid(axis.days(dt.date(2024, 1, 2), 1, [(570, 600)]), base)
    rows = panel({1: []}, on)
    with pytest.raises(IntervalError, match=target):
        derive(rows, on, [Interval.parse(target)])


def test_derive_no_rows_gives_empty_frames_of_the_same_schema() -> None:
    on = grid(axis.days(dt.date(2024, 1, 2), 1, [(570, 600)]))
    made = derive(panel({}, on), on, [Interval.parse("5m")])[Interval.parse("5m")]
    assert made.height == 0
    assert "complete" in made.columns


def test_derive_clock_aligned_covers_the_late_open_with_a_short_window() -> None:
    segments = axis.days(dt.date(2024, 1, 2), 1, [(870, 960)])  # 09:30 New York
    on = SessionGrid.build(axis.frame(segments), "1m", GridSpec("TEST", align="clock", zone="America/New_York"))
    rows = [{"ts": a, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0, "vwap": 1.0, "trades": 1}
            for a in axis.starts(segments)]  # fmt: skip
    bars = derive(panel({1: rows}, on), on, [Interval.parse("1h")])[Interval.parse("1h")]
    assert bars["ts"].dt.strftime("%H:%M").to_list() == ["14:30", "15:00"]
    assert bars["n_expected"].to_list() == [30, 60]
    assert bars["complete"].all()
