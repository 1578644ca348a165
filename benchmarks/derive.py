"""Derived bars against others: one target, every target, seconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import polars as pl
from engine.derive.bars import derive
from engine.interval import Interval
from polars.testing import assert_frame_equal

from benchmarks import rivals
from benchmarks.panel import COMPLETE, OHLCV, Panel, build
from benchmarks.timing import Contender, Measure, measures, race

FIVE = Interval.parse("5m")
MINUTE = Interval.parse("1m")
LADDER = tuple(Interval.parse(text) for text in ("5m", "15m", "30m", "1h", "1d"))
PLACES, STAMPS, SYMBOLS = "engine, stored places", "engine, raw timestamps", "engine, text symbols, timestamps"
DUCKDB, EXPORTED = "duckdb time_bucket, its best form", "duckdb time_bucket, as exported"
FLOOR, RESAMPLE = "pandas floor + groupby", "pandas groupby.resample"
TARGETS = {DUCKDB: ">= 3", EXPORTED: ">= 3", FLOOR: ">= 10", RESAMPLE: ">= 10"}
COLUMN_SETS = {"OHLCV": OHLCV, "with completeness": COMPLETE}


def one_target(panel: Panel, rounds: int) -> list[Measure]:
    """1m -> 5m, OHLCV alone and with n_base, n_expected, complete, vwap and trades."""
    return [
        line for label, columns in COLUMN_SETS.items() for line in _against_all(panel, FIVE, label, columns, rounds)
    ]


def seconds(symbols: int, sessions: int, rounds: int) -> list[Measure]:
    """1s -> 1m."""
    panel = build(symbols, sessions, "1s")
    return _against_all(panel, MINUTE, "OHLCV", OHLCV, rounds, group="1s -> 1m", slow=False)


def every_target(panel: Panel, rounds: int) -> list[Measure]:
    """5m, 15m, 30m, 1h and 1d together against 5m alone."""
    out: list[Measure] = []
    for label, columns in COLUMN_SETS.items():
        rows = _input(panel, columns)
        alone = Contender("5m alone", partial(derive, rows, panel.grid, [FIVE]))
        every = Contender("5m 15m 30m 1h 1d", partial(derive, rows, panel.grid, LADDER))
        times = race([alone, every], rounds, _no_check)
        out += measures(f"All intervals, {panel.name}", label, rows.height, times, {every.name: "<= 1.7"})
    return out


def _against_all(
    panel: Panel, target: Interval, label: str, columns: tuple[str, ...], rounds: int, group: str = "1m -> 5m", *, slow: bool = True
) -> list[Measure]:  # fmt: skip
    contenders = [
        Contender(PLACES, _from_places(panel, target, columns)),
        Contender(STAMPS, _from_stamps(panel, target, columns)),
        Contender(SYMBOLS, _from_symbols(panel, target, columns)),
        Contender(DUCKDB, rivals.duckdb_fold(panel, target, columns)),
        Contender(EXPORTED, rivals.duckdb_fold_exported(panel, target, columns)),
        Contender(FLOOR, rivals.pandas_floor(panel, target, columns)),
        *([Contender(RESAMPLE, rivals.pandas_resample(panel, target, columns), once=True)] if slow else []),
        Contender("polars group_by_dynamic on ts", rivals.polars_dynamic(panel, target, columns)),
        Contender("polars truncate + group_by", rivals.polars_truncate(panel, target, columns)),
        Contender("numpy reduceat (floor)", rivals.numpy_reduceat(panel, target, columns)),
    ]
    times = race(contenders, rounds, _equals_ours(_from_places(panel, target, columns)(), columns))
    title, height = f"{group}, {panel.name}", panel.raw.height
    stamped = {name: times[name] for name in (STAMPS, DUCKDB, EXPORTED)}
    named = {name: times[name] for name in (SYMBOLS, EXPORTED)}
    return [
        *measures(title, f"{label}, places", height, times, TARGETS),
        *measures(title, f"{label}, timestamps", height, stamped, {DUCKDB: ">= 2", EXPORTED: ">= 2"}),
        *measures(title, f"{label}, text symbols", height, named, {EXPORTED: ">= 2"}),
    ]


def _from_places(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], pl.DataFrame]:
    rows = _input(panel, columns)
    return lambda: derive(rows, panel.grid, [target])[target]


def _from_stamps(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], pl.DataFrame]:
    rows = _input(panel, columns).drop("ordinal", "slot").with_columns(panel.raw["ts"])

    def run() -> pl.DataFrame:
        placed = rows.with_columns(*panel.grid.place(rows["ts"]).get_columns()[1:])
        return derive(placed, panel.grid, [target])[target]

    return run


def _from_symbols(panel: Panel, target: Interval, columns: tuple[str, ...]) -> Callable[[], pl.DataFrame]:
    bars = panel.named.select("symbol", "ts", *_values(columns))

    def run() -> pl.DataFrame:
        number = bars["symbol"].rle_id().cast(pl.Int32).alias("series")
        places = panel.grid.place(bars["ts"]).get_columns()[1:]
        made = derive(bars.drop("symbol", "ts").with_columns(number, *places), panel.grid, [target])[target]
        return made.with_columns(bars["symbol"].unique(maintain_order=True)[made["series"]])

    return run


def _input(panel: Panel, columns: tuple[str, ...]) -> pl.DataFrame:
    return panel.placed.select("series", "ordinal", "slot", *_values(columns))


def _values(columns: tuple[str, ...]) -> tuple[str, ...]:
    return OHLCV if columns == OHLCV else (*OHLCV, "vwap", "trades")


def _equals_ours(ours: pl.DataFrame, columns: tuple[str, ...]) -> Callable[[str, object], None]:
    want = rivals.canonical(ours, columns)

    def check(name: str, result: object) -> None:
        try:
            assert_frame_equal(rivals.canonical(result, columns), want, rel_tol=1e-9, abs_tol=0)
        except AssertionError as error:
            raise AssertionError(f"{name}: its bars are not ours: {error}") from error

    return check


def _no_check(name: str, result: object) -> None:
    """Both are ours; tests prove that a bar does not depend on what else was asked for."""
