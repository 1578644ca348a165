"""Indicators: one pass over every series against pandas, and one more bar of each series against that pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import polars as pl
from engine.derive.indicator_passes import begin, extend, indicators, lookback
from polars.testing import assert_frame_equal

from benchmarks.panel import Panel
from benchmarks.timing import Contender, Measure, measures, race

MOVING = ("sma(20)", "ema(50)", "rsi(14)", "atr(14)", "bollinger(20, 2)", "session_vwap")
ALL = (*MOVING, "relative_volume(4)")
PLACES, SYMBOLS, PANDAS = "engine, stored rows", "engine, text symbols", "pandas groupby, its best form"
PASS, STEP, NEAR = "one pass", "extend, all bars given", "extend, bars of lookback given"
OHLCV = ("open", "high", "low", "close", "volume", "vwap")


def whole(panel: Panel, rounds: int) -> list[Measure]:
    """All indicators over all rows."""
    rows = panel.placed.select("series", "session", "ordinal", "slot", "ts", *OHLCV)
    named = panel.named.select("symbol", "ts", *OHLCV).with_columns(panel.placed["session", "ordinal", "slot"])
    contenders = [
        Contender(PLACES, partial(indicators, rows, ALL)),
        Contender(SYMBOLS, partial(indicators, named, ALL)),
        Contender(PANDAS, pandas_indicators(panel)),
    ]
    times = race(contenders, rounds, _equals(indicators(rows, ALL)))
    return measures(f"Indicators, {panel.name}", "all of them", rows.height, times, {PANDAS: ">= 1.5"})


def one_more(panel: Panel, rounds: int) -> list[Measure]:
    """The last bar of each series, from what was there before it."""
    rows = panel.placed.select("series", "session", "ordinal", "slot", "ts", *OHLCV)
    return [
        *_one_more(panel, rows, ALL, rounds, "one more bar, all of them"),
        *_one_more(panel, rows, MOVING, rounds, "one more bar, no relative_volume"),
    ]


def _one_more(panel: Panel, rows: pl.DataFrame, wanted: Sequence[str], rounds: int, case: str) -> list[Measure]:
    full = begin(rows, wanted)
    is_last = pl.col("series") != pl.col("series").shift(-1, fill_value=0)
    former = full.filter(~is_last).filter(is_last)
    contenders = [
        Contender(PASS, lambda: begin(rows, wanted).filter(is_last)),
        Contender(STEP, partial(extend, rows, former, wanted)),
    ]
    reach = lookback(wanted)
    if reach is not None:
        near = rows.group_by("series", maintain_order=True).tail(reach + 1)
        contenders.append(Contender(NEAR, partial(extend, near, former, wanted)))
    times = race(contenders, rounds, _equals(full.filter(is_last)))
    return measures(f"Indicators, {panel.name}", case, panel.symbols, times, {STEP: "<= 0.2", NEAR: "<= 0.05"})


def pandas_indicators(panel: Panel) -> Callable[[], pd.DataFrame]:
    """The same definitions: one groupby per window, seeds by position in the series, relative volume on a dense table."""
    bars = panel.plain.select("series", "session", "slot", *OHLCV).to_pandas()

    def run() -> pd.DataFrame:
        series, close, volume = bars["series"], bars["close"], bars["volume"]
        by_series = bars.groupby("series", sort=False)
        at, before = by_series.cumcount(), by_series["close"].shift(1)
        change = close - before
        gain, loss = (_wilder(series, at, one, 14) for one in (change.clip(lower=0), (-change).clip(lower=0)))
        highest = bars["high"].where(bars["high"] >= before, before)
        true_range = highest - bars["low"].where(bars["low"] <= before, before)
        mid = _rolling(series, close, 20).mean().to_numpy()
        reach = 2 * _rolling(series, close, 20).std(ddof=0).to_numpy()
        by_session = [series, bars["session"]]
        traded = volume.groupby(by_session, sort=False).cumsum()
        notional = (bars["vwap"] * volume).groupby(by_session, sort=False).cumsum()
        return bars[[]].assign(
            sma_20=mid, ema_50=_seeded(series, at, close, 49, close.where(at < 50), 2 / 51), rsi_14=100 * gain / (gain + loss),
            atr_14=_wilder(series, at, true_range, 14), bollinger_20_2_mid=mid, bollinger_20_2_upper=mid + reach,
            bollinger_20_2_lower=mid - reach, session_vwap=notional / traded, relative_volume_4=_relative(bars, 4),
        )  # fmt: skip

    return run


def _rolling(series: pd.Series, values: pd.Series, n: int) -> pd.api.typing.RollingGroupby:
    return values.groupby(series, sort=False).rolling(n)


def _wilder(series: pd.Series, at: pd.Series, values: pd.Series, n: int) -> pd.Series:
    return _seeded(series, at, values, n, values.where(at <= n), 1 / n)


def _seeded(
    series: pd.Series, at: pd.Series, values: pd.Series, first: int, seeding: pd.Series, weight: float
) -> pd.Series:
    seed = seeding.groupby(series, sort=False).transform("mean")
    source = values.where(at > first).mask(at == first, seed)
    average = source.groupby(series, sort=False).ewm(alpha=weight, adjust=False, ignore_na=True).mean()
    return average.reset_index(drop=True)


def _relative(bars: pd.DataFrame, n: int) -> pd.Series:
    table = bars.set_index(["series", "slot", "session"])["volume"].unstack("session")  # noqa: PD010 - a plain reshape, faster
    held, total = table.notna(), table.fillna(0.0)
    sums = sum(total.shift(j, axis=1, fill_value=0.0) for j in range(1, n + 1))
    counts = sum(held.shift(j, axis=1, fill_value=False).astype("int8") for j in range(1, n + 1))
    usual = (sums / counts).where(lambda mean: mean > 0)
    usual.iloc[:, :n] = float("nan")
    ratio = (table / usual).to_numpy()
    row = table.index.get_indexer(pd.MultiIndex.from_frame(bars[["series", "slot"]]))
    return pd.Series(ratio[row, table.columns.get_indexer(bars["session"])], index=bars.index)


def _equals(ours: pl.DataFrame) -> Callable[[str, object], None]:
    columns = [name for name in ours.columns if name.startswith(tuple(one.split("(")[0] for one in ALL))]

    def check(name: str, result: object) -> None:
        frame = result if isinstance(result, pl.DataFrame) else pl.from_pandas(result)  # type: ignore[arg-type]
        try:
            assert_frame_equal(frame.select(columns), ours.select(columns), rel_tol=1e-9, abs_tol=0)
        except AssertionError as error:
            raise AssertionError(f"{name}: its values are not ours: {error}") from error

    return check
