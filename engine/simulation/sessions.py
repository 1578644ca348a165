"""Simulate sessions of any calendar with planned faults; return the feed together with the truth.

1. `simulate` draws how often each symbol trades in each slot (`draw_trade_counts`): a U over each segment; a thin
   name's zeros are its minutes without a trade.
2. `faults.plan_spans` picks the stretches without bars; a halt changes the market, so it is known before prices are.
3. `simulate_prices` walks each symbol's price through all slots, part of every step common to the market, and makes
   bars of it.
4. `faults.plan_rows` and `plan_strays` pick bars to disturb; `feed.deliver` puts everything in order of arrival.

Every stream of random numbers is keyed by seed, symbol and use, and read in order of time: another symbol, or more
sessions at the end, change no bar that was there. Numbers repeat exactly with one NumPy version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.arguments import check_arguments
from engine.errors import ParameterError
from engine.grid import SessionGrid
from engine.schema import BARS
from engine.simulation.faults import (
    Draft,
    FaultPlan,
    Planned,
    Span,
    plan_rows,
    plan_spans,
    plan_strays,
    silenced,
)
from engine.simulation.feed import deliver, truth
from engine.simulation.slots import Flags, Ints, Slots, instants

Floats = NDArray[np.float64]

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000
LONGEST_CLOSED_HOURS = 3.0  # a night moves a price as much as so many hours of trading
DAY_ACTIVITY_SIGMA = 0.2  # log-normal: some days are busier
FEWEST_TRADES_BOTH_EXTREMES = 4  # open, high, low and close are four prints


@dataclass(frozen=True)
class Instrument:
    """A symbol with its price level, volatility and activity.

    Attributes
    ----------
    symbol : str
        Its name; also a file name.
    price : float
        Where it starts.
    trades_per_minute : float
        Mean rate; below about 5 there are minutes without a trade.
    volatility : float
        Standard deviation of an hour's return, as a fraction.
    tick : float
        Smallest step of the price.
    trade_size : float
        Mean size of a trade, at least 1.
    """

    symbol: str
    price: float = 100.0
    trades_per_minute: float = 40.0
    volatility: float = 0.005
    tick: float = 0.01
    trade_size: float = 120.0

    def __post_init__(self) -> None:
        if not self.symbol or self.symbol.startswith(".") or set(self.symbol) & set("/\\\0"):
            raise ParameterError(f"symbol: received {self.symbol!r}; valid: text that can name a file")
        least = {"price": self.tick, "trades_per_minute": 0, "volatility": 0, "tick": 1e-9, "trade_size": 1}
        for name, bound in least.items():
            if not bound <= getattr(self, name) < np.inf:
                raise ParameterError(f"{name} of {self.symbol}: received {getattr(self, name)}; valid: from {bound}")


@dataclass(frozen=True)
class Market:
    """The instruments of a simulation and its seed.

    Attributes
    ----------
    instruments : tuple of Instrument
        Each symbol once.
    seed : int
        From 0; the same seed gives the same market.
    correlation : float
        Share of each return's variance that is common to all symbols, 0 to 1.
    """

    instruments: tuple[Instrument, ...]
    seed: int = 0
    correlation: float = 0.3

    def __post_init__(self) -> None:
        names = self.symbols
        if not names or len(set(names)) < len(names):
            raise ParameterError(f"instruments: received {', '.join(names) or 'none'}; valid: at least one, each once")
        if self.seed < 0:
            raise ParameterError(f"seed: received {self.seed}; valid: a whole number from 0")
        if not 0 <= self.correlation <= 1:
            raise ParameterError(f"correlation: received {self.correlation}; valid: from 0 to 1")

    @classmethod
    def of(cls, symbols: int | Iterable[str], seed: int = 0) -> Market:
        """A market of instruments with random level and activity, each drawn from its own name and the seed.

        Parameters
        ----------
        symbols : int or iterable of str
            How many (`S0000`, `S0001`, ...), or their names.
        seed : int
        """
        names = [f"S{i:04d}" for i in range(symbols)] if isinstance(symbols, int) else list(symbols)
        return cls(tuple(draw_instrument(name, seed) for name in names), seed)

    @property
    def symbols(self) -> list[str]:
        """The symbols in the order given."""
        return [instrument.symbol for instrument in self.instruments]


@dataclass(frozen=True)
class Simulation:
    """A feed with faults, the clean bars, and the truth about every fault.

    Attributes
    ----------
    rows : DataFrame of `feed.FEED`
        The feed in order of arrival: the columns of `schema.BARS`; `arrived`; `fault`, the number in `truth` of the row
        that is at fault (null for all others); `text`, what a file has in place of an unreadable cell.
        Without the faulty rows (those of kind `late` apart) it holds `clean`, but for the bars in a span of `truth`.
    clean : DataFrame of `schema.BARS`
        What a perfect feed would bring, by symbol and time. A bar corrected in the feed ends with these values.
    truth : DataFrame of `feed.TRUTH`
        Every fault, by start and symbol: `[start, end)`, `bar_count` (slots in it), `rows` (bars that never arrive, or
        1 for a single row), `note`. An outage has a row for each symbol under one number.
    no_trade : DataFrame of `symbol`, `ts`
        Slots without a trade, halts apart: absent, and rightly so.
    """

    rows: pl.DataFrame
    clean: pl.DataFrame
    truth: pl.DataFrame
    no_trade: pl.DataFrame


@check_arguments("grid", "market", "faults")
def simulate(grid: SessionGrid, market: Market, faults: FaultPlan | None = None) -> Simulation:
    """Simulate bars of all due segments; return the feed with planned faults, clean bars, truth and slots without trade.

    A slot of `grid` is, for each symbol, exactly one of: in `clean`; in `no_trade`; inside a halt of `truth`.
    It lacks a usable bar in `rows` if it is not in `clean`, or in a span of `truth` of one of `faults.EMPTY_KINDS`.

    Parameters
    ----------
    grid : SessionGrid
        Of an intraday interval.
    market : Market
    faults : FaultPlan, optional
        None: a perfect feed.

    Raises
    ------
    ParameterError
        The interval is not intraday, no segment is chosen, or the plan has no room.
    """
    slots = intraday_slots(grid)
    draft = Draft(slots, faults or FaultPlan(), stream(market.seed, "faults"))
    trades = np.stack([draw_trade_counts(slots, instrument, market.seed) for instrument in market.instruments])
    spans = plan_spans(draft, trades > 0)
    halts = [span for span in spans if span.kind == "halt"]
    halted = silenced(trades.shape, halts)
    present = (trades > 0) & ~halted
    clean = simulate_clean_bars(slots, market, trades, present, halts)
    kept = present & ~silenced(trades.shape, spans)
    planned = Planned(slots, spans, plan_rows(draft, kept), plan_strays(draft, grid, kept))
    ticks = {instrument.symbol: instrument.tick for instrument in market.instruments}
    return Simulation(
        deliver(clean, present, planned, ticks, draft.rng),
        clean,
        truth(market.symbols, present, planned),
        slot_keys(slots, market, np.flatnonzero((trades == 0) & ~halted)),
    )


def stream(seed: int, *key: str) -> np.random.Generator:
    """A NumPy generator seeded by `seed` and the key words alone: equal arguments repeat the same numbers."""
    words = np.frombuffer(hashlib.sha256("\0".join(key).encode()).digest(), "<u4")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=tuple(map(int, words)))))


def draw_instrument(symbol: str, seed: int) -> Instrument:
    """An instrument with random price, activity, volatility and trade size, from symbol and seed alone; tick 0.01."""
    z = stream(seed, "instrument", symbol).standard_normal(4)
    return Instrument(
        symbol,
        price=float(np.round(np.clip(45 * np.exp(0.9 * z[0]), 2, 2_000), 2)),
        trades_per_minute=float(np.clip(8 * np.exp(1.6 * z[1]), 0.3, 500)),
        volatility=float(0.006 * np.exp(0.3 * z[2])),
        trade_size=float(np.clip(100 * np.exp(0.5 * z[3]), 1, 2_000)),
    )


def intraday_slots(grid: SessionGrid) -> Slots:
    """Slots of a grid's due segments; ParameterError when its interval is not intraday or no segment is due."""
    if not grid.interval.is_intraday:
        raise ParameterError(f"grid: received one of {grid.interval}; valid: an interval below one day")
    if grid.due().is_empty():
        raise ParameterError("grid: received one without a chosen segment; valid: at least one session")
    return Slots.of(grid)


def activity_profile(slots: Slots) -> Floats:
    """Relative activity of each slot by its place in its segment: high at open and close, low between, mean about 1."""
    first, end = slots.bounds[slots.segment], slots.bounds[slots.segment + 1]
    opens, closes = slots.starts[first], slots.ends[end - 1]
    at = ((slots.starts + slots.ends) / 2 - opens) / (closes - opens)
    return np.asarray(0.65 + 2.2 * np.exp(-at / 0.09) + 1.7 * np.exp((at - 1) / 0.09))


def draw_trade_counts(slots: Slots, instrument: Instrument, seed: int) -> Ints:
    """Random trades per slot: Poisson; instrument's rate x slot minutes x U-shaped profile x a random day's factor."""
    days = stream(seed, instrument.symbol, "days").standard_normal(len(slots.dates))
    activity = np.exp(DAY_ACTIVITY_SIGMA * days - DAY_ACTIVITY_SIGMA**2 / 2)
    minutes = (slots.ends - slots.starts) / MINUTE_US
    rate = instrument.trades_per_minute * minutes * activity_profile(slots) * activity[slots.session[slots.segment]]
    return stream(seed, instrument.symbol, "trades").poisson(rate)


def simulate_clean_bars(slots: Slots, market: Market, trades: Ints, present: Flags, halts: list[Span]) -> pl.DataFrame:
    """`schema.BARS` of all symbols where `present`; a halt's jump moves the price from the slot after it on."""
    common = stream(market.seed, "market").standard_normal((len(slots.starts), 2))
    columns: dict[str, list[Floats]] = {name: [] for name in ("open", "high", "low", "close", "volume", "vwap")}
    for number, instrument in enumerate(market.instruments):
        shocks = np.zeros(len(slots.starts))
        for halt in halts:
            shocks[halt.end] += halt.jump if number in halt.symbols else 0.0
        own = stream(market.seed, instrument.symbol, "walk").standard_normal((len(slots.starts), 2))
        noise = np.sqrt(market.correlation) * common + np.sqrt(1 - market.correlation) * own
        path = price_path(slots, instrument, noise, shocks)
        for name, values in simulate_prices(instrument, market.seed, trades[number], path).items():
            columns[name].append(values[present[number]])
    at = np.flatnonzero(present)
    frame = slot_keys(slots, market, at).with_columns(pl.Series(name, np.concatenate(c)) for name, c in columns.items())
    return frame.with_columns(
        pl.lit("last").alias("price_type"),
        pl.lit(None, pl.Float64).alias("size"),
        pl.Series("trades", trades.ravel()[at]),
    ).select(list(BARS))


def simulate_prices(
    instrument: Instrument, seed: int, trades: Ints, path: tuple[Floats, Floats, Floats]
) -> dict[str, Floats]:
    """Columns `open` to `close` (on whole ticks), `volume`, `vwap` of one symbol for every slot, traded or not."""
    start, end, spread = path
    bounce = stream(seed, instrument.symbol, "bounce").integers(-1, 2, (len(trades), 2))
    # A trade happens at the bid or at the ask, so a tick beside the path; never at zero.
    open_, close = (np.maximum(np.rint(ticks) + bounce[:, at], 1.0) for at, ticks in enumerate((start, end)))
    open_ = np.where(trades == 1, close, open_)
    reach = stream(seed, instrument.symbol, "reach").random((len(trades), 2))
    high, low = draw_extremes(open_, close, spread * start, reach, trades)
    lots = stream(seed, instrument.symbol, "sizes").standard_gamma(trades)
    volume = trades + np.floor(lots * (instrument.trade_size - 1))
    mean = (open_ + high + low + close) / 4
    prices = {"open": open_, "high": high, "low": low, "close": close}
    return {
        **{name: priced(ticks, instrument.tick, 0) for name, ticks in prices.items()},
        "volume": volume.astype(np.float64),
        "vwap": priced(mean, instrument.tick, 2),
    }


def price_path(slots: Slots, instrument: Instrument, noise: Floats, shocks: Floats) -> tuple[Floats, Floats, Floats]:
    """Price in ticks at each slot's start, at its end, and standard deviation of its return, as arrays."""
    hours = (slots.ends - slots.starts) / HOUR_US
    spread = instrument.volatility * np.sqrt(hours * activity_profile(slots))
    closed = np.zeros(len(hours))
    closed[1:] = np.minimum((slots.starts[1:] - slots.ends[:-1]) / HOUR_US, LONGEST_CLOSED_HOURS)
    move = spread * noise[:, 0]
    log_end = np.cumsum(move + instrument.volatility * np.sqrt(closed) * noise[:, 1] + shocks)
    first = instrument.price / instrument.tick
    return first * np.exp(log_end - move), first * np.exp(log_end), spread


def draw_extremes(open_: Floats, close: Floats, spread: Floats, reach: Floats, count: Ints) -> tuple[Floats, Floats]:
    """High and low in ticks: both beyond open/close with 4+ trades, one of them with 3, none with fewer; low >= 1."""
    # The maximum of a Brownian bridge, by inversion: (a + b + sqrt((b - a)^2 - 2 s^2 ln u)) / 2.
    excess = np.sqrt((close - open_)[:, None] ** 2 - 2 * spread[:, None] ** 2 * np.log1p(-reach))
    middle = (open_ + close) / 2
    # Every extreme must be somebody's trade: two trades have none besides open and close, three have one.
    both = count >= FEWEST_TRADES_BOTH_EXTREMES
    one = count == FEWEST_TRADES_BOTH_EXTREMES - 1
    up, down = both | (one & (reach[:, 0] >= reach[:, 1])), both | (one & (reach[:, 0] < reach[:, 1]))
    top, bottom = np.maximum(open_, close), np.minimum(open_, close)
    high = np.where(up, np.maximum(np.rint(middle + excess[:, 0] / 2), top), top)
    low = np.where(down, np.minimum(np.rint(middle - excess[:, 1] / 2), bottom), bottom)
    return high, np.maximum(low, 1.0)


def priced(ticks: Floats, tick: float, more_digits: int) -> Floats:
    """`ticks * tick` rounded to the decimals of `tick` plus `more_digits`."""
    exponent = Decimal(str(tick)).normalize().as_tuple().exponent
    return np.asarray(np.round(ticks * tick, max(-int(exponent), 0) + more_digits))


def slot_keys(slots: Slots, market: Market, at: Ints) -> pl.DataFrame:
    """Frame `symbol, ts` (slot start) from flat numbers (symbol x slots + slot), in their order."""
    symbol, slot = np.divmod(at, len(slots.starts))
    return pl.DataFrame({"symbol": pl.Series(market.symbols).gather(symbol), "ts": instants(slots.starts[slot])})
