"""The feed of simulated bars: what arrives, in the order in which it arrives, planned faults included.

`deliver` builds it, `write_csv` puts it into files as a vendor would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from engine.schema import BARS, TS, Schema
from engine.sources.faults import BAD_ROWS, ROW_KINDS, Flags, Ints, Slots, Stray, instants, numbered

FEED: Schema = {**BARS, "arrived": TS, "fault": pl.Int32(), "text": pl.String()}
CSV = ("ts", "open", "high", "low", "close", "volume", "vwap", "trades")

SECOND_US = 1_000_000
LAG_US = 1_000  # what comes again comes this much after the slot's own delivery
LONGEST_DELAY_SLOTS = 60
LARGEST_MISTAKE_TICKS = 9
PRICES = ("open", "high", "low", "close", "vwap")


def deliver(
    clean: pl.DataFrame, at: Ints, lost: Flags, slots: Slots, rows: Mapping[str, Ints], strays: Sequence[Stray],
    first_fault: int, tick: Mapping[str, float], rng: np.random.Generator,
) -> pl.DataFrame:  # fmt: skip
    """Turn clean bars into the feed.

    Parameters
    ----------
    clean : DataFrame of `schema.BARS`
        The perfect bars, by symbol and time.
    at : array of int64
        Their flat numbers, ascending.
    lost : array of bool
        Which of them never arrive.
    slots, rows, strays
        The axis and the plan.
    first_fault : int
        Number of the first row fault; the strays follow the rows.
    tick : mapping of symbol to float
        Smallest step of each symbol's price.
    rng : Generator

    Returns
    -------
    DataFrame of `FEED`
        In order of arrival: bars, `arrived` (the slot's end, or later), `fault` (of the row that is at fault), `text`
        (what stands in the file where a cell is null because it cannot be read).
    """
    width = len(slots.starts)
    slot = {kind: rows[kind] % width for kind in ROW_KINDS}
    own = {kind: slots.ends[slot[kind]] for kind in ROW_KINDS}
    bars = {kind: clean[np.searchsorted(at, rows[kind])] for kind in ROW_KINDS}
    fault = numbered(rows, first_fault)
    step = pl.col("symbol").replace_strict(dict(tick), return_dtype=pl.Float64)
    moved = np.isin(at, np.concatenate([rows[kind] for kind in ("conflict", "correction", "late", "bad_row")]))
    stay = ~lost & ~moved

    def after(kind: str, least: int, most: int) -> Ints:
        delay = rng.integers(least, most + 1, len(slot[kind]))
        return slots.ends[slots.later(slot[kind], delay)] + LAG_US

    parts = [
        _stamped(clean.filter(pl.Series(stay)), slots.ends[at[stay] % width]),
        _stamped(bars["duplicate"], after("duplicate", 0, 5), fault["duplicate"]),
        _stamped(_mistaken(bars["conflict"], step, rng), own["conflict"], fault["conflict"]),
        _stamped(bars["conflict"], own["conflict"] + LAG_US),
        _stamped(_mistaken(bars["correction"], step, rng), own["correction"], fault["correction"]),
        _stamped(bars["correction"], after("correction", 1, LONGEST_DELAY_SLOTS)),
        _stamped(bars["late"], after("late", 1, LONGEST_DELAY_SLOTS), fault["late"]),
        _stamped(_between(bars["off_grid"], own["off_grid"], rng), own["off_grid"] + LAG_US, fault["off_grid"]),
        _stamped(_spoiled(bars["bad_row"], step), own["bad_row"], fault["bad_row"]),
        _strayed(clean, at, width, strays, first_fault + sum(map(len, rows.values()))),
    ]
    return pl.concat(parts).sort("arrived", maintain_order=True)


def write_csv(rows: pl.DataFrame, folder: Path) -> list[Path]:
    """Write a feed as one CSV file per symbol, rows in order of arrival.

    Parameters
    ----------
    rows : DataFrame of `FEED`
    folder : Path
        Made if absent.

    Returns
    -------
    list of Path
        `SYMBOL.csv`, sorted; the header is `ts,open,high,low,close,volume,vwap,trades`, `ts` is the bar's start in
        ISO 8601, UTC. A cell that cannot be read holds its text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = rows.select("symbol", _cell("ts", _iso("ts")), _cell("close", pl.col("close").cast(pl.String)),
                        pl.col("open", "high", "low", "vwap", "trades"), pl.col("volume").cast(pl.Int64))  # fmt: skip
    paths = []
    for (symbol,), part in sorted(texts.partition_by("symbol", as_dict=True).items()):
        paths.append(folder / f"{symbol}.csv")
        part.select(CSV).write_csv(paths[-1])
    return paths


def _iso(name: str) -> pl.Expr:
    return pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")


def _cell(name: str, shown: pl.Expr) -> pl.Expr:
    return pl.when(pl.col(name).is_null()).then(pl.col("text")).otherwise(shown).alias(name)


def _stamped(bars: pl.DataFrame, arrived: Ints, fault: Ints | None = None) -> pl.DataFrame:
    number = pl.lit(None, pl.Int32) if fault is None else pl.lit(pl.Series(fault.astype(np.int32)))
    text = pl.col("text") if "text" in bars.columns else pl.lit(None, pl.String)
    return bars.select(*BARS, pl.lit(instants(arrived)).alias("arrived"), number.alias("fault"), text.alias("text"))


def _mistaken(bars: pl.DataFrame, tick: pl.Expr, rng: np.random.Generator) -> pl.DataFrame:
    """The same bars, some ticks too high and with too much volume: wrong, and nothing to see."""
    ticks = pl.lit(pl.Series(rng.integers(1, LARGEST_MISTAKE_TICKS + 1, bars.height)))
    return bars.with_columns((pl.col(PRICES) + ticks * tick).round(9), pl.col("volume") + ticks)


def _between(bars: pl.DataFrame, ends: Ints, rng: np.random.Generator) -> pl.DataFrame:
    """The same bars at a time inside their slot: on a second, where the slot is longer than one."""
    length = ends - bars["ts"].to_physical().to_numpy()
    unit = np.where(length > SECOND_US, SECOND_US, 1)
    within = rng.integers(1, (length - 1) // unit + 1) * unit
    return bars.with_columns(pl.col("ts") + pl.duration(microseconds=pl.lit(pl.Series(within))))


def _spoiled(bars: pl.DataFrame, tick: pl.Expr) -> pl.DataFrame:
    """The bars, spoiled in the ways of `BAD_ROWS` by turns."""
    way = pl.lit(pl.Series([BAD_ROWS[turn % len(BAD_ROWS)] for turn in range(bars.height)], dtype=pl.String))
    is_free = way == "price of zero"
    return bars.with_columns(
        pl.when(way == "high below low").then((pl.col("low") - tick).round(9)).otherwise("high").alias("high"),
        pl.when(way == "negative volume").then(-pl.col("volume")).otherwise("volume").alias("volume"),
        pl.when(way != "unreadable price").then("close").alias("close"),
        pl.when(way != "unreadable time").then("ts").alias("ts"),
        pl.when(way == "unreadable price").then(pl.lit("1O.5O")).when(way == "unreadable time").then(pl.lit("25:61"))
        .alias("text"),
    ).with_columns(pl.when(is_free).then(0.0).otherwise(pl.col(name)).alias(name) for name in PRICES)  # fmt: skip


def _strayed(clean: pl.DataFrame, at: Ints, width: int, strays: Sequence[Stray], first_fault: int) -> pl.DataFrame:
    flat = np.array([stray.symbol * width + stray.slot for stray in strays], np.int64)
    when = np.array([stray.at for stray in strays], np.int64)
    bars = clean[np.searchsorted(at, flat)].with_columns(pl.lit(instants(when)).alias("ts"))
    return _stamped(bars, when + LAG_US, first_fault + np.arange(len(strays)))
