"""What others do to fold the bars of a panel: DuckDB, pandas, plain Polars, NumPy. Each as fast as we know to write it.

Every rival takes the integer `series` instead of a text symbol and stamps without a zone, because both are faster for
it, and need not sort what it gives. The step of a fold must divide an hour: then one constant origin, the first open,
anchors the windows of every session at its open, in winter and summer.
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import numpy as np
import pandas as pd
import polars as pl

from benchmarks.panel import COMPLETE, OHLCV, PRICES, Panel
from engine.interval import Interval

US = 1_000_000


def duckdb_fold(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], object]:
    """`time_bucket` and GROUP BY over an Arrow table in memory; the result is an Arrow table."""
    connection = connect()
    connection.register("bars", panel.plain.select("series", "ts", *_needs(columns)).to_arrow())
    connection.register("hours", panel.plain_hours.to_arrow())
    query = duckdb_query(panel, target, columns)
    return lambda: connection.sql(query).to_arrow_table()


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory with all cores."""
    return duckdb.connect(config={"python_enable_replacements": "false"})


def duckdb_query(panel: Panel, target: Interval, columns: tuple[str, ...]) -> str:
    fold = (
        f"SELECT series, time_bucket(INTERVAL {target.seconds} seconds, ts, TIMESTAMP '{panel.plain_hours['open'][0]}') AS ts, "
        "arg_min(open, ts) AS open, max(high) AS high, min(low) AS low, arg_max(close, ts) AS close, sum(volume) AS volume"
    )
    if columns == OHLCV:
        return f"{fold} FROM bars GROUP BY ALL"
    base, ratio = _steps(panel, target)
    return (
        f"WITH folded AS ({fold}, sum(vwap * volume) / sum(volume) AS vwap, sum(trades)::BIGINT AS trades, "
        "count(*) AS n_base FROM bars GROUP BY ALL), "
        f"judged AS (SELECT folded.*, least({ratio}, datediff('second', folded.ts, hours.close) // {base}) AS n_expected "
        "FROM folded ASOF JOIN hours ON folded.ts >= hours.open) "
        "SELECT *, n_base >= n_expected AS complete FROM judged"
    )


def pandas_floor(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], object]:
    """Stamps rounded down, then one groupby over (series, window)."""
    bars = panel.plain.select("series", "ts", *_needs(columns)).to_pandas()
    judge = _pandas_judge(panel, target)

    def run() -> pd.DataFrame:
        origin = panel.plain_hours["open"][0]
        window = (bars["ts"] - origin).dt.floor(f"{target.seconds}s") + origin
        source, how = _pandas_how(bars, columns)
        folded = source.groupby(["series", window], sort=False).agg(**how).reset_index()
        return folded if columns == OHLCV else judge(folded)

    return run


def pandas_resample(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], object]:
    """`groupby("series").resample`, the way the manual shows; the windows without a bar that it adds are dropped."""
    bars = panel.plain.select("series", "ts", *_needs(columns)).to_pandas()
    judge = _pandas_judge(panel, target)

    def run() -> pd.DataFrame:
        source, how = _pandas_how(bars, columns)
        steps = source.set_index("ts").groupby("series").resample(f"{target.seconds}s", origin=panel.plain_hours["open"][0])
        folded = steps.agg(**how).dropna(subset=["open"]).reset_index()
        return folded if columns == OHLCV else judge(folded)

    return run


def polars_dynamic(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], object]:
    """`group_by_dynamic` on the stamps, one group per series."""
    bars = panel.plain.lazy().select("series", "ts", *_needs(columns))
    offset = _offset(panel, target)

    def run() -> pl.DataFrame:
        every = f"{target.seconds}s"
        folded = bars.group_by_dynamic("ts", every=every, offset=offset, group_by="series").agg(_polars_how(columns))
        return _polars_judged(folded, panel, target, columns).collect()

    return run


def polars_truncate(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], object]:
    """Stamps truncated, then a plain group_by over (series, window)."""
    bars = panel.plain.lazy().select("series", "ts", *_needs(columns))

    def run() -> pl.DataFrame:
        shift = pl.lit(panel.plain_hours["open"][0] - pd.Timestamp(0).to_pydatetime())
        window = (pl.col("ts") - shift).dt.truncate(f"{target.seconds}s") + shift
        folded = bars.group_by("series", window).agg(_polars_how(columns))
        return _polars_judged(folded, panel, target, columns).collect()

    return run


def numpy_reduceat(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], object]:
    """The floor: passes over the arrays of placed bars, checked by nobody, on one core."""
    _, ratio = _steps(panel, target)
    arrays = {name: panel.placed[name].to_numpy() for name in ("series", "ordinal", "slot", *_needs(columns))}
    opens = dict(zip(panel.hours["ordinal"], panel.hours["open"].to_physical(), strict=True))
    first_us = np.zeros(max(opens) + 1 - min(opens), np.int64)
    first_us[np.array(list(opens)) - min(opens)] = list(opens.values())
    length = {at: (b - a) // panel.grid.interval.step_us for at, a, b in _spans(panel)}
    slots = np.zeros(len(first_us), np.int64)
    slots[np.array(list(length)) - min(opens)] = list(length.values())

    def run() -> dict[str, np.ndarray]:
        series, ordinal, window = arrays["series"], arrays["ordinal"], arrays["slot"] // ratio
        differs = (window[1:] != window[:-1]) | (ordinal[1:] != ordinal[:-1]) | (series[1:] != series[:-1])
        starts = np.concatenate([[0], np.flatnonzero(differs) + 1])
        ends = np.append(starts[1:], len(series)) - 1
        row = ordinal[starts] - min(opens)
        out = {
            "series": series[starts], "ts": first_us[row] + window[starts] * np.int64(target.step_us),
            "open": arrays["open"][starts], "high": np.maximum.reduceat(arrays["high"], starts),
            "low": np.minimum.reduceat(arrays["low"], starts), "close": arrays["close"][ends],
            "volume": np.add.reduceat(arrays["volume"], starts),
        }  # fmt: skip
        if columns == OHLCV:
            return out
        out["n_base"] = ends - starts + 1
        out["n_expected"] = np.minimum(ratio, slots[row] - window[starts] * ratio)
        out["complete"] = out["n_base"] >= out["n_expected"]
        out["vwap"] = np.add.reduceat(arrays["vwap"] * arrays["volume"], starts) / out["volume"]
        out["trades"] = np.add.reduceat(arrays["trades"], starts)
        return out

    return run


def canonical(result: object, columns: tuple[str, ...]) -> pl.DataFrame:
    """Any contender's result as the same sorted frame, for the check."""
    frame = result if isinstance(result, pl.DataFrame) else pl.DataFrame(result)
    ts = pl.col("ts").cast(pl.Datetime("us", frame["ts"].dtype.time_zone if frame["ts"].dtype.is_temporal() else None))  # type: ignore[attr-defined]
    dtypes = {"series": pl.Int32, "complete": pl.Boolean, "trades": pl.Int64, "n_base": pl.Int64, "n_expected": pl.Int64}
    return frame.select(
        pl.col("series").cast(pl.Int32),
        ts.dt.replace_time_zone(None),
        *(pl.col(name).cast(dtypes.get(name, pl.Float64)) for name in columns),
    ).sort("series", "ts")


def _needs(columns: tuple[str, ...]) -> tuple[str, ...]:
    return OHLCV if columns == OHLCV else (*OHLCV, "vwap", "trades")


def _steps(panel: Panel, target: Interval) -> tuple[int, int]:
    base = panel.grid.interval.seconds
    return base, target.seconds // base


def _spans(panel: Panel) -> list[tuple[int, int, int]]:
    return panel.hours.select("ordinal", pl.col("open", "close").to_physical()).rows()


def _offset(panel: Panel, target: Interval) -> str:
    return f"{panel.hours['open'].to_physical()[0] % target.step_us}us"


def _pandas_how(bars: pd.DataFrame, columns: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, tuple[str, str]]]:
    how = dict(zip(PRICES, [(name, fold) for name, fold in zip(PRICES, ("first", "max", "min", "last"), strict=True)], strict=True))
    how["volume"] = ("volume", "sum")
    if columns == OHLCV:
        return bars, how
    priced = bars.assign(notional=bars["vwap"] * bars["volume"])
    return priced, {**how, "notional": ("notional", "sum"), "trades": ("trades", "sum"), "n_base": ("open", "size")}


def _pandas_judge(panel: Panel, target: Interval) -> Callable[[pd.DataFrame], pd.DataFrame]:
    base, ratio = _steps(panel, target)
    opens, closes = (panel.plain_hours[name].to_numpy() for name in ("open", "close"))

    def judge(folded: pd.DataFrame) -> pd.DataFrame:
        stamps = folded["ts"].to_numpy()
        left = closes[np.searchsorted(opens, stamps, side="right") - 1] - stamps
        expected = np.minimum(ratio, left // np.timedelta64(base, "s"))
        vwap = folded["notional"] / folded["volume"]
        return folded.assign(vwap=vwap, n_expected=expected, complete=folded["n_base"].to_numpy() >= expected)

    return judge


def _polars_how(columns: tuple[str, ...]) -> list[pl.Expr]:
    how = [pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(), pl.col("volume").sum()]
    if columns == OHLCV:
        return how
    notional = (pl.col("vwap") * pl.col("volume")).sum().alias("notional")
    return [*how, notional, pl.col("trades").sum(), pl.len().cast(pl.Int64).alias("n_base")]


def _polars_judged(folded: pl.LazyFrame, panel: Panel, target: Interval, columns: tuple[str, ...]) -> pl.LazyFrame:
    if columns != COMPLETE:
        return folded
    base, ratio = _steps(panel, target)
    at = pl.lit(panel.plain_hours["open"]).search_sorted(pl.col("ts"), side="right").cast(pl.Int64) - 1
    closes = pl.lit(panel.plain_hours["close"]).gather(at)
    expected = ((closes - pl.col("ts")).dt.total_seconds() // base).clip(upper_bound=ratio)
    return folded.with_columns((pl.col("notional") / pl.col("volume")).alias("vwap"), expected.alias("n_expected")).with_columns(
        (pl.col("n_base") >= pl.col("n_expected")).alias("complete")
    )
