"""What others do to fold the bars of a panel: DuckDB, pandas, plain Polars, NumPy. Each as fast as we know to write it.

Every rival takes the integer `series` instead of a text symbol and stamps without a zone, because both are faster for
it, and need not sort what it gives; DuckDB also runs on symbols and stamps as an export has them. The step of a fold must divide an hour: then one constant origin, the first open,
anchors the windows of every session at its open, in winter and summer.
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import numpy as np
import pandas as pd
import polars as pl
from engine.interval import Interval

from benchmarks.panel import COMPLETE, OHLCV, Panel

US = 1_000_000


def duckdb_fold(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], object]:
    """`time_bucket` and GROUP BY over an Arrow table in memory; the result is an Arrow table."""
    bars = panel.plain.select("series", "ts", *_needs(columns))
    return _duckdb(bars, panel.plain_hours, duckdb_query(panel, target, columns, "series", "TIMESTAMP"))


def duckdb_fold_exported(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], object]:
    """The same over what an export holds: symbols as text, stamps in UTC."""
    bars = panel.named.select("symbol", "ts", *_needs(columns))
    return _duckdb(bars, panel.hours, duckdb_query(panel, target, columns, "symbol", "TIMESTAMPTZ"))


def _duckdb(bars: pl.DataFrame, hours: pl.DataFrame, query: str) -> Callable[[], object]:
    connection = connect()
    connection.register("bars", bars.to_arrow())
    connection.register("hours", hours.to_arrow())
    return lambda: connection.sql(query).to_arrow_table()


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory with all cores."""
    return duckdb.connect(config={"python_enable_replacements": "false"})


def duckdb_query(panel: Panel, target: Interval, columns: tuple[str, ...], key: str, stamp: str) -> str:
    """`arg_min` and `arg_max` are a third faster than `first(... ORDER BY ts)`, and as exact."""
    origin = f"{stamp} '{panel.plain_hours['open'][0]}{'+00' if stamp == 'TIMESTAMPTZ' else ''}'"
    fold = (
        f"SELECT {key}, time_bucket(INTERVAL {target.seconds} seconds, ts, {origin}) AS ts, arg_min(open, ts) AS open, "
        "max(high) AS high, min(low) AS low, arg_max(close, ts) AS close, sum(volume) AS volume"
    )
    if columns == OHLCV:
        return f"{fold} FROM bars GROUP BY ALL"
    base, ratio = _steps(panel, target)
    expected = f"least({ratio}, (epoch_us(hours.close) - epoch_us(folded.ts)) // {base * US})"
    priced = "sum(vwap * volume) / sum(volume) AS vwap, sum(trades)::BIGINT AS trades, count(*) AS n_base"
    judged = f"SELECT folded.*, {expected} AS n_expected FROM folded ASOF JOIN hours ON folded.ts >= hours.open"  # noqa: S608
    return (
        f"WITH folded AS ({fold}, {priced} FROM bars GROUP BY ALL), judged AS ({judged}) "  # noqa: S608
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
        steps = (
            source.set_index("ts").groupby("series").resample(f"{target.seconds}s", origin=panel.plain_hours["open"][0])
        )
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
    origin, opens, slots = _tables(panel)

    def run() -> dict[str, np.ndarray]:
        series, ordinal, window = arrays["series"], arrays["ordinal"], arrays["slot"] // ratio
        differs = (window[1:] != window[:-1]) | (ordinal[1:] != ordinal[:-1]) | (series[1:] != series[:-1])
        starts = np.concatenate([[0], np.flatnonzero(differs) + 1])
        ends = np.append(starts[1:], len(series)) - 1
        row = ordinal[starts] - origin
        out = {
            "series": series[starts], "ts": opens[row] + window[starts] * np.int64(target.step_us),
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
    frame = result if isinstance(result, pl.DataFrame) else pl.DataFrame(result)  # type: ignore[arg-type]
    series = (
        pl.col("symbol").str.slice(1).cast(pl.Int32) if "symbol" in frame.columns else pl.col("series").cast(pl.Int32)
    )
    ts = pl.col("ts").cast(pl.Int64) if frame["ts"].dtype.is_integer() else pl.col("ts").dt.timestamp("us")
    dtypes = {"complete": pl.Boolean, "trades": pl.Int64, "n_base": pl.Int64, "n_expected": pl.Int64}
    values = [pl.col(name).cast(dtypes.get(name, pl.Float64)) for name in columns]
    return frame.select(series.alias("series"), ts, *values).sort("series", "ts")


def _needs(columns: tuple[str, ...]) -> tuple[str, ...]:
    return OHLCV if columns == OHLCV else (*OHLCV, "vwap", "trades")


def _steps(panel: Panel, target: Interval) -> tuple[int, int]:
    base = panel.grid.interval.seconds
    return base, target.seconds // base


def _tables(panel: Panel) -> tuple[int, np.ndarray, np.ndarray]:
    """The first ordinal, and by ordinal from there on the open (microseconds) and the slots of each session."""
    ordinal, opens, closes = (panel.hours[name].to_physical().to_numpy() for name in ("ordinal", "open", "close"))
    origin = int(ordinal[0])
    by_ordinal = np.zeros((2, ordinal[-1] - origin + 1), np.int64)
    by_ordinal[:, ordinal - origin] = opens, (closes - opens) // panel.grid.interval.step_us
    return origin, by_ordinal[0], by_ordinal[1]


def _offset(panel: Panel, target: Interval) -> str:
    return f"{panel.hours['open'].to_physical()[0] % target.step_us}us"


def _pandas_how(bars: pd.DataFrame, columns: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, tuple[str, str]]]:
    folds = ("first", "max", "min", "last", "sum")
    how = {name: (name, fold) for name, fold in zip(OHLCV, folds, strict=True)}
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
    how = [
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    ]
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
    return folded.with_columns(
        (pl.col("notional") / pl.col("volume")).alias("vwap"), expected.alias("n_expected")
    ).with_columns((pl.col("n_base") >= pl.col("n_expected")).alias("complete"))
