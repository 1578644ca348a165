"""A pass that goes on from a former one gives what one pass over everything gives, and nothing looks ahead."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import polars as pl
import pytest
from engine.derive.indicator_passes import begin, extend, indicators, lookback
from engine.derive.indicators import custom
from engine.errors import ParameterError
from engine.reference import Segment
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests import axis
from tests.derive import walks

RECURSIVE = ["ema(12)", "ema(3, of=volume)", "rsi(3)", "atr(5)", "session_vwap"]
WINDOWS = ["sma(3)", "sma(7, of=volume)", "bollinger(5, 2)", "relative_volume(1)", "relative_volume(3)"]
OWN = [
    custom("moved", pl.col("close") - pl.col("open").shift(2), lookback=2),
    custom("highest", pl.col("high").cum_max()),
    custom("of_session", pl.col("low").cum_min(), within="session"),
    custom("of_slot", pl.col("volume").cum_count(), within="slot"),
]
EVERYTHING = [*RECURSIVE, *WINDOWS, *OWN]
BOUNDED = [*RECURSIVE, *WINDOWS, OWN[0]]  # nothing among them needs the whole series, so little of it is taken
KEY = ["symbol", "price_type"]


@st.composite
def changing(draw: st.DrawFn) -> tuple[list[Segment], list[list[dict]]]:
    """Batches of bars in any order: new ones, late ones, and corrections of earlier ones."""
    segments = draw(axis.venues())
    places = [
        (name, price_type, begin)
        for name, price_type in draw(st.sampled_from([walks.MANY[:1], walks.MANY]))
        for begin in axis.starts(segments)
    ]
    sent = draw(st.lists(st.sampled_from(places), min_size=1, max_size=120))
    in_time = draw(st.booleans())
    rows = [_bar(draw, *place) for place in (sorted(sent, key=lambda p: p[2]) if in_time else sent)]
    cuts = sorted(draw(st.sets(st.integers(1, len(rows)), max_size=6)) | {0, len(rows)})
    return segments, [rows[a:b] for a, b in pairwise(cuts)]


def _bar(draw: st.DrawFn, symbol: str, price_type: str, ts: int) -> dict:
    low = draw(st.integers(300, 3000))
    high = low + draw(st.integers(0, 70))
    inside = st.integers(low, high).map(lambda n: n / 7)
    return {
        "symbol": symbol, "price_type": price_type, "interval": "1m", "origin": "source", "ts": ts,
        "open": draw(inside), "high": high / 7, "low": low / 7, "close": draw(inside),
        "volume": draw(st.one_of(st.none(), st.integers(0, 10**6).map(lambda n: n / 3))),
        "size": None, "vwap": draw(st.one_of(st.none(), inside)), "trades": None,
    }  # fmt: skip


def upserted(rows: pl.DataFrame, batch: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, batch]).unique([*KEY, "ts"], keep="last", maintain_order=True).sort(*KEY, "ts")


def untouched(former: pl.DataFrame, batch: pl.DataFrame) -> pl.DataFrame:
    since = batch.group_by(KEY).agg(pl.col("ts").min().alias("since"))
    beside = former.join(since, on=KEY, how="left", maintain_order="left")
    return beside.filter(pl.col("since").is_null() | (pl.col("ts") < pl.col("since"))).drop("since")


def check_equal(got: pl.DataFrame, want: pl.DataFrame) -> None:
    """Windows within 1e-12 of what they average; all else to the bit."""
    near = [n for n in got.columns if n.startswith(("sma", "bollinger", "relative"))]
    assert_frame_equal(got.drop(near), want.drop(near), check_exact=True)
    assert_frame_equal(got.select(near), want.select(near), rel_tol=1e-12, abs_tol=0)


@settings(max_examples=60)
@given(changing(), st.sampled_from([EVERYTHING, BOUNDED]))
def test_extend_after_any_batches_late_rows_and_corrections_equals_a_full_pass(
    case: tuple[list[Segment], list[list[dict]]], wanted: list
) -> None:
    segments, batches = case
    rows = walks.framed([], segments)
    state = begin(rows, wanted)
    for batch in batches:
        fresh = walks.framed(batch, segments)
        rows, kept = upserted(rows, fresh), untouched(state, fresh)
        tail = extend(rows, kept, wanted)
        assert tail.height == rows.height - kept.height
        state = pl.concat([kept, tail]).sort(*KEY, "ts")
        check_equal(state, begin(rows, wanted))


@settings(max_examples=30)
@given(st.data())
def test_extend_from_the_last_rows_and_bars_within_lookback_equals_a_full_pass(data: st.DataObject) -> None:
    wanted = [*RECURSIVE[:1], *RECURSIVE[2:], *WINDOWS[:3], OWN[0]]
    bars = walks.bars(seed=data.draw(st.integers(0, 50)))
    full = begin(bars, wanted)
    at = data.draw(st.integers(20, 300))
    former = full.group_by(KEY, maintain_order=True).head(at)
    reach = lookback(wanted)
    assert reach == 6
    short = pl.concat([one.slice(max(at - reach, 0)) for one in walks.each_series(bars)])
    later = pl.concat([one.slice(at) for one in walks.each_series(full)])
    check_equal(extend(short, former.group_by(KEY, maintain_order=True).tail(1), wanted), later)


@pytest.mark.parametrize("wanted", [EVERYTHING, BOUNDED, ["sma(3)"], ["relative_volume(1)"], [OWN[0]]])
def test_extend_bar_by_bar_equals_a_full_pass(wanted: list) -> None:
    bars = walks.bars((("A", "last"), ("A", "bid")), walks.SEGMENTS[:5])
    state = begin(bars.clear(), wanted)
    for stamp in bars["ts"].unique().sort():
        state = pl.concat([state, extend(bars.filter(pl.col("ts") <= stamp), state, wanted)])
    check_equal(state.sort("price_type", "ts"), begin(bars, wanted).sort("price_type", "ts"))


@pytest.mark.parametrize("wanted", [EVERYTHING, BOUNDED])
def test_extend_through_a_jump_of_price_and_volume_stays_exact(wanted: list) -> None:
    bars = walks.bars((("A", "last"),))
    big = pl.when(pl.int_range(pl.len()).is_between(50, 70)).then(1e7).otherwise(1.0)
    bars = bars.with_columns(pl.col("open", "high", "low", "close", "volume", "vwap") * big)
    full = begin(bars, wanted)
    for at in (40, 60, 71, 80, 120):
        check_equal(extend(bars, full.head(at), wanted), full.slice(at))


@pytest.mark.parametrize("at", [0, 1, 30, 200])
def test_no_value_changes_when_every_later_row_is_poisoned(at: int) -> None:
    bars = walks.bars()
    clean = begin(bars, EVERYTHING)
    later = pl.int_range(pl.len()).over(KEY) > at
    poison = [pl.when(later).then(value).otherwise(name).alias(name) for name, value in
              {"open": -1e9, "high": 1e12, "low": -1e12, "close": 7e11, "volume": 1e15, "vwap": -3e11}.items()]  # fmt: skip
    poisoned = bars.with_columns(poison)
    assert begin(poisoned, EVERYTHING).filter(~later).equals(clean.filter(~later))
    assert begin(bars.filter(~later), EVERYTHING).equals(clean.filter(~later))
    assert not begin(poisoned, EVERYTHING).equals(clean)


def test_indicators_hide_what_only_a_later_pass_needs() -> None:
    bars = walks.bars()
    whole = begin(bars, EVERYTHING)
    shown = indicators(bars, EVERYTHING)
    assert [name for name in whole.columns if name not in shown.columns] == [
        "_rsi_3_gain", "_rsi_3_loss", "_session_vwap_notional", "_session_vwap_volume",
    ]  # fmt: skip
    assert shown.equals(whole.select(shown.columns))


def test_extend_without_anything_new_gives_no_row() -> None:
    bars = walks.bars()
    full = begin(bars, EVERYTHING)
    assert extend(bars, full, EVERYTHING).equals(full.clear())


@pytest.mark.parametrize(
    ("wanted", "want"),
    [(["sma(20)", "ema(50)"], 19), (["ema(50)"], 1), (["rsi(14)", "atr(14)"], 1), (["relative_volume(5)"], None), ([OWN[1]], None)],
)  # fmt: skip
def test_lookback_is_as_far_as_the_longest_window(wanted: list, want: int | None) -> None:
    assert lookback(wanted) == want


def test_extend_from_a_bar_that_is_gone_raises() -> None:
    bars = walks.bars()
    former = begin(bars, ["ema(5)"])
    last = former.filter(pl.col("symbol") == "B")["ts"].max()
    without = bars.filter((pl.col("symbol") != "B") | (pl.col("ts") != last))
    with pytest.raises(ParameterError, match="last row of B, last, 1m, source at"):
        extend(without, former, ["ema(5)"])
    with pytest.raises(ParameterError, match="last row of A, last, 1m, source at"):
        extend(bars.filter(pl.col("ts") > bars["ts"].max() - dt.timedelta(minutes=3)), former.head(30), ["ema(5)"])


def test_extend_from_rows_of_other_indicators_raises() -> None:
    bars = walks.bars()
    with pytest.raises(ParameterError, match="lacks ema_5"):
        extend(bars, begin(bars, ["ema(6)"]), ["ema(5)"])
    with pytest.raises(ParameterError, match="_rsi_5_gain"):
        extend(bars, indicators(bars, ["rsi(5)"]), ["rsi(5)"])
