"""What each indicator gives: TA-Lib and plain Python as oracles, and how indicators are spelled."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
import polars as pl
import pytest
import talib
from engine import EngineError, Indicator, indicators
from engine.derive.indicators import atr, bollinger, custom, ema, relative_volume, rsi, session_vwap, sma
from engine.errors import ParameterError, SchemaError
from polars.testing import assert_frame_equal

from tests.derive import walks

DOCUMENT = Path(__file__).parents[2] / "docs" / "indicators.md"
SPELLINGS = [
    "sma(20)", "sma(5, of=volume)", "ema(50)", "ema(3, of=high)", "rsi(14)", "atr(14)", "bollinger(20, 2)",
    "bollinger(20, 2.5)", "session_vwap", "relative_volume(20)",
]  # fmt: skip
BANDS = ("upper", "mid", "lower")


def by_talib(one: pl.DataFrame, n: int) -> dict[str, np.ndarray]:
    high, low, close = (one[name].to_numpy() for name in ("high", "low", "close"))
    bands = zip(BANDS, talib.BBANDS(close, n, 2.5, 2.5), strict=True)
    return {
        f"sma_{n}": talib.SMA(close, n), f"ema_{n}": talib.EMA(close, n), f"sma_{n}_high": talib.SMA(high, n),
        f"ema_{n}_low": talib.EMA(low, n), f"rsi_{n}": talib.RSI(close, n), f"atr_{n}": talib.ATR(high, low, close, n),
        **{f"bollinger_{n}_2_5_{band}": values for band, values in bands},
    }  # fmt: skip


@pytest.mark.parametrize("n", [2, 14, 50, 10_000])
def test_indicators_over_many_series_with_gaps_equal_talib(n: int) -> None:
    bars = walks.bars()
    wanted = [sma(n), ema(n), sma(n, "high"), ema(n, "low"), rsi(n), atr(n), bollinger(n, 2.5)]
    for one in walks.each_series(indicators(bars, wanted)):
        for name, want in by_talib(one, n).items():
            np.testing.assert_allclose(one[name].to_numpy(), want, rtol=1e-9, atol=0, err_msg=name)
            assert one[name].null_count() == min(int(np.isnan(want).sum()), one.height)


@pytest.mark.parametrize("n", [3, 14])
def test_indicators_before_the_warmup_is_over_are_null(n: int) -> None:
    one = walks.each_series(indicators(walks.bars(), [sma(n), ema(n), rsi(n), atr(n), bollinger(n)]))[0]
    leading = {"sma": n - 1, "ema": n - 1, "rsi": n, "atr": n, "bollinger": n - 1}
    for name in one.columns[-7:]:
        assert one[name].is_null().arg_min() == leading[name.split("_")[0]]
        assert one[name].null_count() == leading[name.split("_")[0]]


def test_rsi_before_any_move_is_null_where_talib_says_oversold() -> None:
    bars = walks.bars((("A", "last"),)).with_columns(
        pl.when(pl.int_range(pl.len()) < 20).then(50.0).otherwise("close").alias("close")
    )
    got = indicators(bars, [rsi(5)])["rsi_5"]
    assert talib.RSI(bars["close"].to_numpy(), 5)[5:20].tolist() == [0.0] * 15
    assert got.is_null().arg_min() == 20
    assert got[20:].null_count() == 0


def test_averages_of_a_column_with_nulls_break_windows_and_hold_recursions() -> None:
    bars = walks.bars((("A", "last"),)).head(12)
    volume = [None, 1.0, 2.0, 3.0, None, 6.0, 7.0, 8.0, 9.0, None, None, 4.0]
    got = indicators(bars.with_columns(pl.Series("volume", volume)), ["sma(3, of=volume)", "ema(3, of=volume)"])
    assert got["sma_3_volume"].to_list() == [None, None, None, 2.0, None, None, None, 7.0, 8.0, None, None, None]
    assert got["ema_3_volume"].to_list() == [None, None, None, 2.0, 2.0, 4.0, 5.5, 6.75, 7.875, 7.875, 7.875, 5.9375]


def test_session_vwap_over_sessions_with_gaps_equals_plain_python() -> None:
    got = indicators(walks.bars(), [session_vwap()])
    for one in walks.each_series(got):
        day, notional, volume = None, 0.0, 0.0
        for row in one.iter_rows(named=True):
            if row["session"] != day:
                day, notional, volume = row["session"], 0.0, 0.0
            typical = (row["high"] + row["low"] + row["close"]) / 3
            price = typical if row["vwap"] is None else row["vwap"]
            notional, volume = notional + price * (row["volume"] or 0.0), volume + (row["volume"] or 0.0)
            assert row["session_vwap"] == (pytest.approx(notional / volume, rel=1e-12) if volume else None)


def usual_volume(rows: list[dict], row: dict, n: int) -> float | None:
    days = sorted({r["session"] for r in rows if r["session"] < row["session"]})
    if len(days) < n:
        return None
    place = (row["ordinal"] % 16, row["slot"])
    same = [r for r in rows if r["session"] in days[-n:] and (r["ordinal"] % 16, r["slot"]) == place]
    volumes = [r["volume"] for r in same if r["volume"] is not None]
    return fmean(volumes) if volumes else None


@pytest.mark.parametrize("n", [1, 3, 20])
def test_relative_volume_over_sessions_with_gaps_equals_plain_python(n: int) -> None:
    got = indicators(walks.bars(keep=0.6), [relative_volume(n)])
    known = 0
    for one in walks.each_series(got):
        rows = one.to_dicts()
        for row in rows:
            usual = usual_volume(rows, row, n)
            want = row["volume"] / usual if usual and row["volume"] is not None else None
            assert row[f"relative_volume_{n}"] == (None if want is None else pytest.approx(want, rel=1e-12))
            known += want is not None
    assert (known > 0) == (n < 12)


def test_relative_volume_by_segment_open_equals_that_by_slot() -> None:
    bars = walks.bars()
    opens = {s.session: [x.open for x in walks.SEGMENTS if x.session == s.session] for s in walks.SEGMENTS}
    by_open = [opens[session][o % 16] for session, o in bars.select("session", "ordinal").rows()]
    stamped = bars.drop("slot").with_columns(pl.Series("segment_open", by_open).cast(bars["ts"].dtype))
    want = indicators(bars, ["relative_volume(3)"])["relative_volume_3"]
    assert indicators(stamped, ["relative_volume(3)"])["relative_volume_3"].equals(want)


def test_relative_volume_of_days_needs_no_place_and_of_minutes_does() -> None:
    bars = walks.bars((("A", "last"),)).drop("ordinal", "slot").unique("session", maintain_order=True)
    got = indicators(
        bars.with_columns(pl.lit("1d").alias("interval"), pl.lit(2.0).alias("volume")), ["relative_volume(2)"]
    )
    assert got["relative_volume_2"].to_list() == [None, None, *[1.0] * (bars.height - 2)]
    with pytest.raises(SchemaError, match=r"SessionGrid\.place"):
        indicators(bars, ["relative_volume(2)"])


def test_relative_volume_off_the_grid_is_null() -> None:
    bars = walks.bars((("A", "last"),), keep=1.0).with_columns(pl.lit(5.0).alias("volume"))
    off = pl.col("slot") == 3
    odd = bars.with_columns(pl.when(~off).then("slot").alias("slot"))
    later = odd.filter(pl.col("session") > pl.col("session").min())
    common = (pl.col("ordinal") % 16 == 0) & (
        pl.col("slot").is_null() | (pl.col("slot") < 15)
    )  # every session has these
    got = indicators(odd, ["relative_volume(1)"]).filter(
        pl.col("session").is_in(later["session"].unique().implode()), common
    )
    assert 0 < got["slot"].null_count() < got.height
    assert got["relative_volume_1"].is_null().equals(got["slot"].is_null())


@pytest.mark.parametrize("within", ["series", "session"])
def test_custom_expression_sees_one_series_or_session_at_a_time(within: str) -> None:
    mine = custom("so_far", pl.col("high").cum_max(), within=within)
    got = indicators(walks.bars(), [mine])
    parts = ["symbol", "price_type", *(["session"] if within == "session" else [])]
    assert got["so_far"].equals(got.select(pl.col("high").cum_max().over(parts)).to_series())


def test_custom_of_several_expressions_gives_several_columns() -> None:
    pair = custom(
        "move", ((pl.col("close") - pl.col("open")).alias("body"), (pl.col("high") - pl.col("low")).alias("span"))
    )
    got = indicators(walks.bars(), [pair])
    assert got.columns[-2:] == ["body", "span"]
    assert (got["span"] >= got["body"].abs()).all()


def test_indicators_of_alternating_series_equal_those_of_contiguous_ones() -> None:
    bars = walks.bars()
    mixed = bars.sort("ts", maintain_order=True)
    got = indicators(mixed, SPELLINGS)
    assert got.select(bars.columns).equals(mixed)
    assert_frame_equal(
        got.sort("symbol", "price_type", "ts"), indicators(bars, SPELLINGS).sort("symbol", "price_type", "ts")
    )


def test_indicators_of_two_intervals_and_origins_do_not_mix() -> None:
    bars = walks.bars((("A", "last"),))
    other = bars.with_columns(pl.col("close") * 2, pl.lit("5m").alias("interval"))
    third = bars.with_columns(pl.col("close") * 3, pl.lit("derived").alias("origin"))
    got = indicators(pl.concat([bars, other, third]), ["ema(5)"])["ema_5"]
    alone = indicators(bars, ["ema(5)"])["ema_5"]
    size = bars.height
    for times, part in zip((1, 2, 3), (got[:size], got[size : 2 * size], got[2 * size :]), strict=True):
        np.testing.assert_allclose(part.to_numpy(), alone.to_numpy() * times, rtol=1e-12)


@pytest.mark.parametrize("text", SPELLINGS)
def test_parse_what_an_indicator_prints_gives_it_back(text: str) -> None:
    assert str(Indicator.parse(text)) == text
    assert Indicator.parse(Indicator.parse(text)) == Indicator.parse(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("sma( 20 )", sma(20)), ("ema(50, of=close)", ema(50)), ("ema(n=50)", ema(50)), ("rsi", rsi(14)),
        ("bollinger(20,2.0)", bollinger(20, 2)), ("session_vwap()", session_vwap()), (" atr(7) ", atr(7)), ("sma(5, volume)", sma(5, "volume")),
    ],
)  # fmt: skip
def test_parse_other_spellings_gives_the_same_indicator(text: str, same: Indicator) -> None:
    assert Indicator.parse(text) == same
    assert Indicator.parse(text).columns == same.columns


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("smma(20)", "sma(20)"), ("bolinger(20, 2)", "bollinger(20, 2)"), ("vwap", "session_vwap"), ("RSI(14)", "rsi(14)"),
        ("sma(0)", "sma(1)"), ("sma(-3)", "sma(1)"), ("sma(20.4)", "sma(20)"), ("sma(x)", "sma(20)"), ("sma", "sma(20)"),
        ("sma(99999999)", "sma(1000000)"), ("rsi(1)", "rsi(2)"), ("ema(5, of=clos)", "close"), ("ema(5, off=close)", "of"),
        ("bollinger(20, 0)", "bollinger(20, 2)"), ("bollinger(20, nan)", "bollinger(20, 2)"), ("ema(5, n=6)", "n"),
    ],
)  # fmt: skip
def test_parse_a_mistake_names_the_nearest_valid_one(text: str, near: str) -> None:
    with pytest.raises(ParameterError, match=r"did you mean") as caught:
        Indicator.parse(text)
    assert str(caught.value).endswith(f"did you mean {near}?")


def test_a_count_of_bars_that_is_a_boolean_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"n received True.*did you mean sma\(1\)\?"):
        sma(True)


@pytest.mark.parametrize(
    "text", ["", "???", "sma(20", "zzz", "session_vwap(3)", "sma(1, close, 3)", "sma(nan)", "sma(inf)"]
)
def test_parse_what_is_near_nothing_lists_what_is_valid(text: str) -> None:
    with pytest.raises(ParameterError, match="valid: "):
        Indicator.parse(text)


@pytest.mark.parametrize(
    "mine",
    [
        lambda: custom("", pl.col("close")),
        lambda: custom("_mine", pl.col("close")),
        lambda: custom("close", pl.col("close") * 2),
        lambda: custom("mine", pl.col("close"), within="day"),  # type: ignore[arg-type]
        lambda: custom("mine", pl.col("close"), lookback=-1),
    ],
)
def test_custom_with_a_wrong_argument_raises(mine) -> None:
    with pytest.raises(ParameterError, match=r"received .*; valid: "):
        mine()


def test_indicators_of_one_name_raise() -> None:
    with pytest.raises(ParameterError, match="sma_5"):
        indicators(walks.bars(), ["sma(5)", sma(5)])
    with pytest.raises(ParameterError, match="session"):
        indicators(walks.bars(), [custom("session", pl.col("close"))])


def test_indicators_without_a_column_raise() -> None:
    with pytest.raises(SchemaError, match="lacks high, low"):
        indicators(walks.bars().drop("high", "low"), ["atr(3)", "sma(3)"])
    with pytest.raises(SchemaError, match="lacks symbol"):
        indicators(walks.bars().drop("symbol"), "sma(3)")


@pytest.mark.parametrize(
    "change", [lambda b: b.reverse(), lambda b: pl.concat([b, b.tail(1)]), lambda b: pl.concat([b[:5], b[3:]])]
)
def test_indicators_of_rows_out_of_order_raise(change) -> None:
    with pytest.raises(EngineError, match=r"row \d+ \(A, last, 1m, source, 2024-.* is not later"):
        indicators(change(walks.bars((("A", "last"),))), "sma(3)")


def test_indicators_of_no_bars_give_the_same_columns() -> None:
    bars = walks.bars()
    assert indicators(bars.clear(), SPELLINGS).schema == indicators(bars, SPELLINGS).schema


def test_document_names_every_indicator() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [
        name
        for name in ("sma", "ema", "rsi", "atr", "bollinger", "session_vwap", "relative_volume", "custom")
        if f"`{name}" not in text
    ] == []
