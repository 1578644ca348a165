"""Simulate trades and quotes that fold exactly to simulated bars.

Each bar's trades begin at its open, touch its high and its low, end at its close, and their sizes sum to its volume.
Before each trade stands a quote whose bid or ask is that trade's price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.arguments import check_known, names_of
from engine.errors import UnknownSymbolError
from engine.grid import SessionGrid
from engine.schema import QUOTES, TICKS, TS_NS, Schema, empty
from engine.simulation.sessions import Floats, Instrument, Market, Simulation, priced, stream
from engine.simulation.slots import Ints

VENUES = ("N", "P", "Q", "Z")
LOT = 100
WIDEST_SPREAD_TICKS = 4


@dataclass(frozen=True)
class TickSimulation:
    """Trades, quotes, and the bars that they fold to.

    Attributes
    ----------
    ticks : DataFrame of `schema.TICKS`
        By symbol and time; `seq` counts each symbol's trades from 1.
    quotes : DataFrame of `schema.QUOTES`
        One before each trade, in the same slot; `seq` is that trade's.
    bars : DataFrame of `schema.BARS`
        Those of `Simulation.clean`, with `vwap` of these trades.
    """

    ticks: pl.DataFrame
    quotes: pl.DataFrame
    bars: pl.DataFrame


def simulate_ticks(
    simulation: Simulation, grid: SessionGrid, market: Market, symbols: Iterable[str] | None = None
) -> TickSimulation:
    """Simulate trades that fold to the clean bars, one quote before each, and these bars with the trades' vwap.

    Parameters
    ----------
    simulation : Simulation
        What `simulate(grid, market, ...)` returned.
    grid, market
        The ones it was made from.
    symbols : str or iterable of str, optional
        None: all. A liquid symbol has some 15,000 trades a session.

    Raises
    ------
    UnknownSymbolError
        A symbol is none of the market's.
    """
    known = {instrument.symbol: instrument for instrument in market.instruments}
    wanted = names_of("symbols", symbols) or market.symbols
    check_known("symbols", wanted, known, UnknownSymbolError)
    parts = [simulate_symbol(simulation.clean, grid, known[symbol], market.seed) for symbol in wanted]
    return TickSimulation(*(pl.concat(frames) for frames in zip(*parts, strict=True)))


def simulate_symbol(
    clean: pl.DataFrame, grid: SessionGrid, instrument: Instrument, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Trades, one quote per trade, and the clean bars with the trades' vwap, of one symbol; empty without bars."""
    bars = clean.filter(pl.col("symbol") == instrument.symbol)
    if bars.is_empty():
        return empty(TICKS), empty(QUOTES), bars
    rng = stream(seed, instrument.symbol, "ticks")
    trades = TradePlaces.of(bars, grid)
    price = draw_prices(bars, trades, instrument.tick, rng)
    size = trades.split(bars["volume"].to_numpy(), rng)
    ts = draw_times(trades, rng)
    seq = np.arange(1, len(ts) + 1)
    ticks = {
        "symbol": instrument.symbol,
        "seq": seq,
        "price": priced(price, instrument.tick, 0),
        "size": size,
        "exchange": pl.Series(VENUES).gather(rng.integers(0, len(VENUES), len(ts))),
        "conditions": None,
        "suspicious": False,
    }
    quotes = {"symbol": instrument.symbol, "seq": seq, **draw_sides(price, instrument, rng)}
    notional = np.add.reduceat(price * size, trades.first)
    vwap = np.clip(notional / bars["volume"].to_numpy() * instrument.tick, bars["low"], bars["high"])
    return (
        typed_frame(ticks, ts, TICKS),
        typed_frame(quotes, draw_quote_times(trades, ts, rng), QUOTES),
        bars.with_columns(pl.Series("vwap", vwap)),
    )


@dataclass(frozen=True)
class TradePlaces:
    """Bar of each trade, position in it, and start and end of the bar (nanoseconds)."""

    bar: Ints
    position: Ints
    count: Ints
    first: Ints
    start: Ints
    end: Ints

    @classmethod
    def of(cls, bars: pl.DataFrame, grid: SessionGrid) -> TradePlaces:
        """For as many trades as each bar counts: bar, position, bar's count, start, end; `first` is per bar."""
        count = bars["trades"].to_numpy()
        bar = np.repeat(np.arange(len(count)), count)
        first = np.cumsum(count) - count
        place = grid.place(bars["ts"])
        edges = (bars["ts"], grid.ends(place["ordinal"], place["slot"]))
        start, end = (ts.cast(TS_NS).to_physical().to_numpy()[bar] for ts in edges)
        return cls(bar, np.arange(len(bar)) - first[bar], count[bar], first, start, end)

    def split(self, volume: Floats, rng: np.random.Generator) -> Floats:
        """Random whole sizes, one per trade and at least 1, that sum to each bar's volume."""
        share = np.cumsum(rng.standard_exponential(len(self.bar)))
        before = np.concatenate([[0.0], share])[self.first[self.bar]]
        last = self.first + self.count[self.first] - 1
        part = (share - before) / (share[last] - before[last])[self.bar]
        filled = np.floor((volume[self.bar] - self.count) * part)
        return np.asarray(1 + filled - np.where(self.position == 0, 0.0, np.roll(filled, 1)))


def draw_prices(bars: pl.DataFrame, trades: TradePlaces, tick: float, rng: np.random.Generator) -> Floats:
    """Price of each trade in ticks: open first, close last; one at high and low where beyond both; else noise within."""
    open_, high, low, close = (
        np.rint(bars[name].to_numpy() / tick)[trades.bar] for name in ("open", "high", "low", "close")
    )
    inner = np.maximum(trades.count - 2, 1)
    at_high, shift = (rng.random(len(trades.first))[trades.bar] for _ in range(2))
    top = 1 + np.floor(at_high * inner)
    bottom = 1 + (top + np.floor(shift * np.maximum(inner - 1, 1))) % inner
    way = trades.position / np.maximum(trades.count - 1, 1)
    noise = rng.standard_normal(len(way)) * (high - low) / 4
    price = np.clip(np.rint(open_ + (close - open_) * way + noise), low, high)
    price = np.where((trades.position == bottom) & (low < np.minimum(open_, close)), low, price)
    price = np.where((trades.position == top) & (high > np.maximum(open_, close)), high, price)
    return np.where(trades.position == 0, open_, np.where(trades.position == trades.count - 1, close, price))


def draw_times(trades: TradePlaces, rng: np.random.Generator) -> Ints:
    """Random trade stamps in nanoseconds, ascending within each bar and in `[start, end)` of it."""
    # Sorted within each bar: the bar's number is the whole part, the time within the fraction.
    within = np.sort(trades.bar + rng.random(len(trades.bar))) - trades.bar
    length = trades.end - trades.start
    return trades.start + np.clip((within * length).astype(np.int64), 0, length - 1)


def draw_quote_times(trades: TradePlaces, ts: Ints, rng: np.random.Generator) -> Ints:
    """Random stamp (ns) of each trade's quote: at or before it, not before the bar's previous trade or its start."""
    since = np.where(trades.position == 0, trades.start, np.roll(ts, 1))
    return since + ((ts - since) * rng.random(len(ts))).astype(np.int64)


def draw_sides(price: Floats, instrument: Instrument, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Columns `bid, ask, bid_size, ask_size`: `price`, in ticks, is the ask or bid at random; spread 1 to 4 ticks."""
    spread = rng.integers(1, WIDEST_SPREAD_TICKS + 1, len(price))
    # A buyer lifts the ask; where that would put the bid at zero, the trade is a sale.
    buys = (rng.random(len(price)) < 0.5) & (price > spread)  # noqa: PLR2004
    bid = np.where(buys, price - spread, price)
    lots = rng.integers(1, 20, (2, len(price))) * float(LOT)
    sides = {"bid": bid, "ask": bid + spread}
    return {name: priced(side, instrument.tick, 0) for name, side in sides.items()} | dict(
        zip(("bid_size", "ask_size"), lots, strict=True)
    )


def typed_frame(columns: Mapping[str, object], ts: Ints, schema: Schema) -> pl.DataFrame:
    """A frame of exactly the columns of a schema, cast to its types; `ts` is made of stamps in nanoseconds."""
    stamps = pl.Series(ts).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")
    return pl.DataFrame({**columns, "ts": stamps}).select(pl.col(name).cast(dtype) for name, dtype in schema.items())
