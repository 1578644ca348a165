"""Turn clean simulated bars into a feed with faults, and list the truth about it.

`deliver` puts bars and planned faults in the order in which they arrive, `truth` lists the faults, `write_csv` puts
the feed into files as a vendor would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from engine.schema import BARS, TS, Schema
from engine.simulation.faults import BAD_ROWS, ROW_KINDS, Planned, silenced
from engine.simulation.slots import Flags, Ints, instants

FEED: Schema = {**BARS, "arrived": TS, "fault": pl.Int32(), "text": pl.String()}
TRUTH: Schema = {
    "fault": pl.Int32(),
    "kind": pl.String(),
    "symbol": pl.String(),
    "session": pl.Date(),
    "start": TS,
    "end": TS,
    "bar_count": pl.Int32(),
    "rows": pl.Int32(),
    "note": pl.String(),
}
CSV = ("ts", "open", "high", "low", "close", "volume", "vwap", "trades")

TruthRow = tuple[int, str, int, int, int, int, int, int, str | None]
SECOND_US = 1_000_000
LAG_US = 1_000  # what comes again comes this much after the slot's own delivery
LONGEST_DELAY_SLOTS = 60
LONGEST_REPEAT_SLOTS = 5
LARGEST_MISTAKE_TICKS = 9
REPLACED = ("conflict", "correction", "late", "bad_row")  # the bar itself does not come in its place
PRICES = ("open", "high", "low", "close", "vwap")


def deliver(
    clean: pl.DataFrame, present: Flags, planned: Planned, tick: Mapping[str, float], rng: np.random.Generator
) -> pl.DataFrame:
    """Feed in order of arrival: clean bars not in spans nor replaced, altered bars, repeats, rows outside segments.

    Parameters
    ----------
    clean : DataFrame of `schema.BARS`
        The perfect bars, by symbol and time.
    present : array of bool, symbols by slots
        Where they are.
    planned : Planned
        The faults.
    tick : mapping of symbol to float
        Smallest step of each symbol's price.
    rng : Generator

    Returns
    -------
    DataFrame of `FEED`
        In order of arrival: bars, `arrived` (the slot's end, or later), `fault` (of the row that is at fault), `text`
        (what stands in the file where a cell is null because it cannot be read).
    """
    at = np.flatnonzero(present)
    replaced = np.concatenate([planned.rows[kind] for kind in REPLACED])
    stays = ~silenced(present.shape, planned.spans).ravel()[at] & ~np.isin(at, replaced)
    untouched = with_arrival(clean.filter(pl.Series(stays)), planned.slots.ends[at[stays] % present.shape[1]])
    parts = [untouched, *altered_bars(clean, at, planned, tick, rng), stray_bars(clean, at, planned)]
    return pl.concat(parts).sort("arrived", maintain_order=True)


def truth(symbols: Sequence[str], present: Flags, planned: Planned) -> pl.DataFrame:
    """One `TRUTH` row per planned fault (an outage: one per symbol), sorted by start, symbol and number.

    An outage is one fault with a row for each symbol. `present` (symbols by slots) says where the clean bars are.
    """
    found = [*span_truth(present, planned), *altered_bar_truth(planned), *stray_truth(planned)]
    numbers: dict[str, pl.DataType] = {name: pl.Int64() for name in ("symbol", "session", "start", "end")}
    frame = pl.DataFrame(found, schema={**TRUTH, **numbers}, orient="row")
    return frame.with_columns(
        pl.Series(symbols, dtype=pl.String).gather(frame["symbol"]).alias("symbol"),
        planned.slots.dates.gather(frame["session"]).alias("session"),
        instants(frame["start"]),
        instants(frame["end"]),
    ).sort("start", "symbol", "fault")


def write_csv(rows: pl.DataFrame, folder: Path) -> list[Path]:
    """Write (replace) one `SYMBOL.csv` per symbol, rows in the order given; return the paths sorted by symbol.

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
    texts = rows.select(
        "symbol",
        cell_or_text("ts", pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")),
        cell_or_text("close", pl.col("close").cast(pl.String)),
        pl.col("open", "high", "low", "vwap", "trades"),
        pl.col("volume").cast(pl.Int64),
    )
    paths = []
    for (symbol,), part in sorted(texts.partition_by("symbol", as_dict=True).items()):
        paths.append(folder / f"{symbol}.csv")
        part.select(CSV).write_csv(paths[-1])
    return paths


def cell_or_text(name: str, shown: pl.Expr) -> pl.Expr:
    """Expression `name`: `shown`, but the row's `text` where column `name` is null."""
    return pl.when(pl.col(name).is_null()).then(pl.col("text")).otherwise(shown).alias(name)


def span_truth(present: Flags, planned: Planned) -> Iterator[TruthRow]:
    """Yield a truth row per span and symbol: symbol and session by index, bounds (us), slots, clean bars lost, jump."""
    slots = planned.slots
    for fault, span in enumerate(planned.spans):
        note = f"reopens {np.expm1(span.jump):+.1%}" if span.jump else None
        session = slots.session[slots.segment[span.first]]
        start, end = slots.starts[span.first], slots.ends[span.end - 1]
        lost = present[list(span.symbols), span.first : span.end].sum(axis=1)
        for symbol, rows in zip(span.symbols, lost, strict=True):
            yield fault, span.kind, symbol, session, start, end, span.end - span.first, rows, note


def altered_bar_truth(planned: Planned) -> Iterator[TruthRow]:
    """Yield a truth row per altered bar (symbol, session by index): slot's bounds, 1 slot (off grid 0), 1 row, note."""
    slots = planned.slots
    for kind, faults in planned.row_numbers.items():
        symbols, at = np.divmod(planned.rows[kind], len(slots.starts))
        for turn, (fault, symbol, slot) in enumerate(zip(faults, symbols, at, strict=True)):
            note = BAD_ROWS[turn % len(BAD_ROWS)] if kind == "bad_row" else None
            session = slots.session[slots.segment[slot]]
            count = int(kind != "off_grid")
            yield fault, kind, symbol, session, slots.starts[slot], slots.ends[slot], count, 1, note


def stray_truth(planned: Planned) -> Iterator[TruthRow]:
    """Yield a truth row per row outside segments (symbol, source slot's session by index): bounds, 0 slots, 1 row."""
    slots = planned.slots
    for fault, stray in zip(planned.stray_numbers, planned.strays, strict=True):
        session = slots.session[slots.segment[stray.slot]]
        yield fault, "out_of_session", stray.symbol, session, stray.start, stray.end, 0, 1, None


def altered_bars(
    clean: pl.DataFrame, at: Ints, planned: Planned, tick: Mapping[str, float], rng: np.random.Generator
) -> list[pl.DataFrame]:
    """Feed frames of altered bars; conflicts, corrections also of the right bar; `at`: slot of each `clean` row."""
    slots, fault = planned.slots, planned.row_numbers
    slot = {kind: planned.rows[kind] % len(slots.starts) for kind in ROW_KINDS}
    bars = {kind: clean[np.searchsorted(at, planned.rows[kind])] for kind in ROW_KINDS}
    step = pl.col("symbol").replace_strict(dict(tick), return_dtype=pl.Float64)

    def after(kind: str, least: int, most: int) -> Ints:
        return slots.ends[slots.later(slot[kind], rng.integers(least, most + 1, len(slot[kind])))] + LAG_US

    own = {kind: slots.ends[slot[kind]] for kind in ROW_KINDS}
    return [
        with_arrival(bars["duplicate"], after("duplicate", 0, LONGEST_REPEAT_SLOTS), fault["duplicate"]),
        with_arrival(shift_values(bars["conflict"], step, rng), own["conflict"], fault["conflict"]),
        with_arrival(bars["conflict"], own["conflict"] + LAG_US),
        with_arrival(shift_values(bars["correction"], step, rng), own["correction"], fault["correction"]),
        with_arrival(bars["correction"], after("correction", 1, LONGEST_DELAY_SLOTS)),
        with_arrival(bars["late"], after("late", 1, LONGEST_DELAY_SLOTS), fault["late"]),
        with_arrival(
            move_off_grid(bars["off_grid"], own["off_grid"], rng), own["off_grid"] + LAG_US, fault["off_grid"]
        ),
        with_arrival(spoil_bars(bars["bad_row"], step), own["bad_row"], fault["bad_row"]),
    ]


def with_arrival(bars: pl.DataFrame, arrived: Ints, fault: Ints | None = None) -> pl.DataFrame:
    """Bars plus `arrived`, `fault` (null when None) and `text` (that column of `bars`, else null)."""
    number = pl.lit(None, pl.Int32) if fault is None else pl.lit(pl.Series(fault.astype(np.int32)))
    text = pl.col("text") if "text" in bars.columns else pl.lit(None, pl.String)
    return bars.select(*BARS, pl.lit(instants(arrived)).alias("arrived"), number.alias("fault"), text.alias("text"))


def shift_values(bars: pl.DataFrame, tick: pl.Expr, rng: np.random.Generator) -> pl.DataFrame:
    """The bars with all five prices raised by 1 to 9 ticks (random per bar) and volume by the same number."""
    ticks = pl.lit(pl.Series(rng.integers(1, LARGEST_MISTAKE_TICKS + 1, bars.height)))
    return bars.with_columns((pl.col(PRICES) + ticks * tick).round(9), pl.col("volume") + ticks)


def move_off_grid(bars: pl.DataFrame, ends: Ints, rng: np.random.Generator) -> pl.DataFrame:
    """The bars with `ts` at a random time inside their slot, never its start; whole seconds if the slot exceeds 1 s."""
    length = ends - bars["ts"].to_physical().to_numpy()
    unit = np.where(length > SECOND_US, SECOND_US, 1)
    within = rng.integers(1, (length - 1) // unit + 1) * unit
    return bars.with_columns(pl.col("ts") + pl.duration(microseconds=pl.lit(pl.Series(within))))


def spoil_bars(bars: pl.DataFrame, tick: pl.Expr) -> pl.DataFrame:
    """The bars, by turns: high below low, zero prices, negative volume, null close, null `ts` (bad cell in `text`)."""
    way = pl.lit(pl.Series([BAD_ROWS[turn % len(BAD_ROWS)] for turn in range(bars.height)], dtype=pl.String))
    is_zero = way == "price of zero"
    return bars.with_columns(
        pl.when(way == "high below low").then((pl.col("low") - tick).round(9)).otherwise("high").alias("high"),
        pl.when(way == "negative volume").then(-pl.col("volume")).otherwise("volume").alias("volume"),
        pl.when(way != "unreadable price").then("close").alias("close"),
        pl.when(way != "unreadable time").then("ts").alias("ts"),
        pl.when(way == "unreadable price")
        .then(pl.lit("1O.5O"))
        .when(way == "unreadable time")
        .then(pl.lit("25:61"))
        .alias("text"),
    ).with_columns(pl.when(is_zero).then(0.0).otherwise(pl.col(name)).alias(name) for name in PRICES)


def stray_bars(clean: pl.DataFrame, at: Ints, planned: Planned) -> pl.DataFrame:
    """Copies of clean bars with planned `ts` outside segments, arriving at its end; `at`: rising slots of `clean`."""
    width = len(planned.slots.starts)
    flat = np.array([stray.symbol * width + stray.slot for stray in planned.strays], np.int64)
    start = np.array([stray.start for stray in planned.strays], np.int64)
    end = np.array([stray.end for stray in planned.strays], np.int64)
    bars = clean[np.searchsorted(at, flat)].with_columns(pl.lit(instants(start)).alias("ts"))
    return with_arrival(bars, end, planned.stray_numbers)
