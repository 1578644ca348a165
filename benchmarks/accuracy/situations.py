"""Markets whose right verdict follows from how they are made: trades arrive by a Poisson process whose intensity has a time
of day, days, and disturbances of the symbol and of the market; what is missing besides is taken out, with its cause.

Nothing here is of `engine.simulation`: only calendars are shared with the package.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise

import engine
import numpy as np
import polars as pl
from engine.calendars.providers import calendar

from benchmarks.accuracy.results import Planted, Results, judge_causes, planted_frame

MINUTE = np.timedelta64(60_000_000, "us")
FIRST = dt.date(2024, 4, 8)
# Trades a minute. The share of minutes with a trade: (nearly) all, 97, 65, 18, 3 %.
RATES = (60.0, 4.5, 1.2, 0.2, 0.03)
GROUPS = (1, 3, 8)  # symbols of a feed
SOURCE = "situations"


@cache
def slots_of(code: str, first: dt.date, sessions: int) -> tuple[np.ndarray, ...]:
    """Minute starts of each session, its breaks left out."""
    segments = calendar(code).segments(first, first + dt.timedelta(days=2 * sessions + 6)).filter("regular")
    days = segments["session"].unique(maintain_order=True)[:sessions]
    out = []
    for day in days:
        spans = segments.filter(pl.col("session") == day).select(
            pl.col("segment_open", "segment_close").dt.replace_time_zone(None)
        )
        out.append(
            np.concatenate([np.arange(a, b, dt.timedelta(minutes=1), "datetime64[us]") for a, b in spans.rows()])
        )
    return tuple(out)


@dataclass
class Feed:
    """A market's bars by symbol, all of them right, and what was taken out of them."""

    code: str
    days: tuple[np.ndarray, ...]
    trades: dict[str, np.ndarray]  # per symbol, over all slots
    rng: np.random.Generator
    gone: dict[str, np.ndarray] = field(default_factory=dict)  # slots taken out
    planted: list[Planted] = field(default_factory=list)
    jumps: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  # slot, return: of prices from there on
    bursts: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  # slot, factor: of its volume
    variant: str = ""
    mangle: Callable[[str, pl.DataFrame], pl.DataFrame] | None = None

    @property
    def grid(self) -> np.ndarray:
        return np.concatenate(self.days)

    def offset(self, day: int) -> int:
        return sum(len(one) for one in self.days[:day])

    def take(self, symbol: str, first: int, last: int, cause: str, variant: str = "") -> None:
        """Take out the slots [first, last) of a symbol; where it has no bar there is nothing to judge (no cause)."""
        if not self.trades[symbol][first:last].any():
            cause = ""
        self.gone.setdefault(symbol, np.zeros(len(self.grid), bool))[first:last] = True
        grid = self.grid
        zone = dt.UTC
        start, end = grid[first].item().replace(tzinfo=zone), (grid[last - 1] + MINUTE).item().replace(tzinfo=zone)
        self.planted.append(
            Planted(symbol, cause, start, end, last - first, int((self.trades[symbol][first:last] > 0).sum()), variant)
        )

    def take_by_session(self, symbol: str, first: int, last: int, cause: str, variant: str = "") -> None:
        """Take out the slots [first, last) of a symbol, planted session by session."""
        starts = np.cumsum([0, *(len(day) for day in self.days)]).tolist()
        for begin, end in pairwise(starts):
            if max(first, begin) < min(last, end):
                self.take(symbol, max(first, begin), min(last, end), cause, variant)

    def frames(self) -> dict[str, pl.DataFrame]:
        made = {name: self._bars(name, number) for number, name in enumerate(self.trades)}
        return {name: self.mangle(name, rows) if self.mangle else rows for name, rows in made.items() if rows.height}

    def _bars(self, name: str, number: int) -> pl.DataFrame:
        trades, rng = self.trades[name], self.rng
        moves = rng.standard_t(4, len(trades)) * 2.5e-4 * np.sqrt(0.3 + np.minimum(trades, 60) / 30)
        moves[[self.offset(day) for day in range(len(self.days))]] += rng.normal(0, 4e-3, len(self.days))
        for slot, change in self.jumps.get(name, ()):
            moves[slot] += change
        close = (20 + 7 * number) * np.exp(np.cumsum(moves))
        opened = close * np.exp(-moves * rng.random(len(moves)))
        wide = np.abs(rng.normal(0, 1.5e-4, (2, len(moves))))
        volume = trades * 100 * np.exp(rng.normal(0, 0.6, len(trades)))
        for slot, factor in self.bursts.get(name, ()):
            volume[slot] *= factor
        high = np.maximum(opened, close) * (1 + wide[0])
        low = np.minimum(opened, close) * (1 - wide[1])
        rows = pl.DataFrame({"ts": self.grid, "open": opened, "high": high, "low": low, "close": close, "volume": np.ceil(volume)})  # fmt: skip
        there = (trades > 0) & ~self.gone.get(name, np.zeros(len(trades), bool))
        prices = pl.col("open", "high", "low", "close").round(4)
        return rows.filter(pl.Series(there)).with_columns(prices, pl.col("ts").dt.replace_time_zone("UTC"))


def feed(code: str, rates: list[float], sessions: int, rng: np.random.Generator, first: dt.date = FIRST) -> Feed:
    """A market without a fault."""
    days = slots_of(code, first, sessions)
    shape, common = [], []
    for day in days:
        part = np.linspace(0, 1, len(day))
        shape.append(0.75 + 1.6 * (part - 0.55) ** 2 + np.exp(-25 * part) + np.exp(-40 * (1 - part)))
        common.append(autoregressive(len(day), 0.12, 0.95, rng) + rng.normal(0, 0.15))
    shape_of, common_of = np.concatenate(shape), np.concatenate(common)
    trades = {}
    for number, rate in enumerate(rates):
        own = np.concatenate([autoregressive(len(day), 0.2, 0.9, rng) + rng.normal(0, 0.15) for day in days])
        trades[f"{code[:2].replace('2', 'C').replace('/', '')}{number:02}N"] = rng.poisson(
            rate * shape_of * np.exp(own + common_of)
        )
    made = Feed(code, days, trades, rng)
    for name in trades:  # opens and closes have auctions
        made.bursts[name] = [
            (slot, 8.0) for day, own in enumerate(days) for slot in (made.offset(day), made.offset(day) + len(own) - 1)
        ]
    return made


def autoregressive(length: int, deviation: float, kept: float, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(0, deviation * np.sqrt(1 - kept * kept), length)
    noise[0] = rng.normal(0, deviation)
    powers = kept ** np.arange(200)  # a moving average of it, cut where nothing is left
    return np.convolve(noise, powers)[:length]


def untouched(rng: np.random.Generator, rate: float, symbols: int) -> Iterator[Feed]:
    """Nothing is lost: every absence is silence."""
    for code, sessions in (("XNYS", 1), ("XNYS", 5), ("XNYS", 20), ("24/7", 3), ("FX", 5), ("XHKG", 10)):
        yield feed(code, [rate] * symbols, sessions, rng)
    mixed = [float(one) for one in np.exp(rng.uniform(np.log(0.05), np.log(40), symbols))]
    yield feed("XNYS", mixed, 10, rng)


def own_loss(rng: np.random.Generator, rate: float, symbols: int) -> Iterator[Feed]:
    """One symbol lacks runs that nobody else lacks: a run a session; whole sessions; one minute at one time of day."""
    for code, sessions in (("XNYS", 12), ("24/7", 6), ("XNYS", 2)):
        made = feed(code, [rate] * symbols, sessions, rng)
        (name, *_), size = made.trades, len(made.days[0])
        lengths = (1, 1, 3, 5, 10, 30, 90)
        for day, length in zip(range(0, sessions, 1 if sessions < 8 else 2), lengths, strict=False):
            first = made.offset(day) + int(rng.integers(5, size - length - 5))
            made.take(name, first, first + length, "symbol_loss", f"{code}, {sessions} sessions")
        yield made
    made = feed("XNYS", [rate] * symbols, 12, rng)
    name, day = next(iter(made.trades)), int(rng.integers(2, 10))
    made.take(name, made.offset(day), made.offset(day + 1), "symbol_loss", "whole session")
    yield made
    made = feed("XNYS", [rate] * symbols, 10, rng)
    name, minute = next(iter(made.trades)), int(rng.integers(30, 360))
    for day in (2, 4, 6):
        made.take(name, made.offset(day) + minute, made.offset(day) + minute + 1, "symbol_loss", "one time of day")
    yield made


def feed_loss(rng: np.random.Generator, rate: float, symbols: int) -> Iterator[Feed]:
    """All symbols lack the same slots; of a feed of one symbol that is its own loss, as nobody can tell."""
    cause = "feed_loss" if symbols > 1 else "symbol_loss"
    for code, sessions in (("XNYS", 10), ("24/7", 6)):
        made = feed(code, [rate] * symbols, sessions, rng)
        size = len(made.days[0])
        for day, length in zip(range(0, sessions, 2), (1, 2, 5, 30, 120), strict=False):
            first = made.offset(day) + int(rng.integers(5, size - length - 5))
            for name in made.trades:
                made.take(name, first, first + length, cause, f"{code}, all symbols")
        yield made
    made = feed("XNYS", [rate] * symbols, 10, rng)
    minute = int(rng.integers(30, 360))
    for day in (2, 4, 6):
        for name in made.trades:
            made.take(name, made.offset(day) + minute, made.offset(day) + minute + 1, cause, "all, one time of day")
    yield made
    made = feed("XNYS", [rate] * symbols, 12, rng)
    day = int(rng.integers(2, 10))
    for name in made.trades:
        made.take(name, made.offset(day), made.offset(day + 1), cause, "all, whole session")
    yield made
    if symbols > 2:
        mixed = [rate] + [float(one) for one in np.exp(rng.uniform(np.log(0.05), np.log(40), symbols - 1))]
        made = feed("XNYS", mixed, 10, rng)
        for day, length in zip(range(1, 10, 2), (1, 3, 10, 30, 60), strict=False):
            first = made.offset(day) + int(rng.integers(5, 390 - length - 5))
            for name in made.trades:
                made.take(name, first, first + length, cause, "all, of mixed rates")
        yield made


def halt(rng: np.random.Generator, rate: float, symbols: int) -> Iterator[Feed]:
    """A symbol stops and reopens with a jump and the volume of an auction."""
    made = feed("XNYS", [rate] * symbols, 10, rng)
    name = next(iter(made.trades))
    for day, length in zip(range(1, 10, 2), (5, 5, 10, 30, 90), strict=False):
        first = made.offset(day) + int(rng.integers(20, 380 - length))
        last = first + length
        made.take(name, first, last, "halt")
        made.trades[name][last] = max(1, made.trades[name][last]) * 3
        made.jumps.setdefault(name, []).append((last, float(rng.choice([-1, 1]) * rng.uniform(0.04, 0.12))))
        made.bursts[name].append((last, 15.0))
    yield made


def edges(rng: np.random.Generator, rate: float, symbols: int) -> Iterator[Feed]:
    """A month of a market of 24 hours cut at midnight UTC at both ends."""
    made = feed("FX", [rate] * symbols, 10, rng, dt.date(2024, 5, 1))
    bounds = np.datetime64("2024-05-01T00:00", "us"), np.datetime64("2024-05-13T00:00", "us")
    low, high = (int(slot) for slot in np.searchsorted(made.grid, bounds))
    for name in made.trades:
        made.take_by_session(name, 0, low, "not_covered", "midnight UTC")
        made.take_by_session(name, high, len(made.grid), "not_covered", "midnight UTC")
    made.planted = [one for one in made.planted if one.slots < 1400]  # in whole sessions outside nothing is due
    yield made


def sample_days(rng: np.random.Generator, rate: float, symbols: int) -> Iterator[Feed]:
    """Three sessions, weeks apart."""
    picked = [int(rng.integers(0, 8)), int(rng.integers(16, 24)), int(rng.integers(34, 44))]
    made = feed("XNYS", [rate] * symbols, 46, rng)
    for name in made.trades:
        for first, last in pairwise(picked):
            made.take_by_session(name, made.offset(first + 1), made.offset(last), "not_covered", "sample days")
        made.gone[name][: made.offset(picked[0])] = True
        made.gone[name][made.offset(picked[-1] + 1) :] = True
    yield made


def listings(rng: np.random.Generator, rate: float, symbols: int) -> Iterator[Feed]:
    """A contract that ends within a session, a listing that begins within one, beside symbols that trade on."""
    if symbols == 1:
        return
    made = feed("XNYS", [rate] * symbols, 10, rng)
    ends, begins, *_ = made.trades
    made.take_by_session(ends, made.offset(7) + int(rng.integers(60, 300)), len(made.grid), "not_listed", "ends")
    made.take_by_session(begins, 0, made.offset(2) + int(rng.integers(60, 300)), "not_listed", "begins")
    made.planted = [one for one in made.planted if one.slots < 390]  # nothing is due in the sessions before and after
    yield made


def odd_rows(rng: np.random.Generator, rate: float, symbols: int) -> Iterator[Feed]:
    """Rows that came and cannot be bars: high below low; or stamped inside their slot."""
    for cause in ("refused", "off_grid"):
        made = feed("XNYS", [rate] * symbols, 6, rng)
        name, spans = next(iter(made.trades)), []
        for day, length in ((1, 1), (3, 8), (4, 30)):
            first = made.offset(day) + int(rng.integers(20, 340))
            here = np.flatnonzero(made.trades[name][first : first + length])
            for slot in here:  # slots between them are silence
                start = made.grid[first + slot].item().replace(tzinfo=dt.UTC)
                spans.append(start)
                made.planted.append(Planted(name, cause, start, start + dt.timedelta(minutes=1), 1, 1))

        def mangle(symbol: str, rows: pl.DataFrame, name=name, spans=tuple(spans), cause=cause) -> pl.DataFrame:
            if symbol != name:
                return rows
            ours = pl.col("ts").is_in(list(spans))
            if cause == "refused":
                return rows.with_columns(pl.when(ours).then(pl.col("low") - 1).otherwise("high").alias("high"))
            return rows.with_columns(
                pl.when(ours).then(pl.col("ts") + pl.duration(seconds=17)).otherwise("ts").alias("ts")
            )

        made.mangle = mangle
        yield made


def venue(rng: np.random.Generator, rate: float, symbols: int) -> Iterator[Feed]:
    """An early close and a late open with the volume of an auction; a break every day; a known circuit breaker."""
    for cause in ("early_close", "late_open"):
        made = feed("XNYS", [rate] * symbols, 10, rng)
        day = int(rng.integers(3, 8))
        low, high = made.offset(day), made.offset(day + 1)
        span = (low + 210, high) if cause == "early_close" else (low, low + 60)
        for name in made.trades:
            edge = span[0] - 1 if cause == "early_close" else span[1]
            made.trades[name][edge] += max(1, int(8 * rate))
            made.bursts[name].append((edge, 8.0))
            made.take(name, *span, cause)
        yield made
    made = feed("XNYS", [rate] * symbols, 10, rng)
    first = int(rng.integers(60, 300))
    for name in made.trades:
        for day in range(10):
            made.take(name, made.offset(day) + first, made.offset(day) + first + 30, "calendar_suspect")
    yield made
    made = feed("XNYS", [rate] * symbols, 10, rng, dt.date(2020, 3, 2))
    low = int(np.searchsorted(made.grid, np.datetime64("2020-03-09T13:35", "us")))
    high = int(np.searchsorted(made.grid, np.datetime64("2020-03-09T13:49", "us")))
    for name in made.trades:
        made.take(name, low, high, "venue_halt", "2020-03-09")
    yield made


SITUATIONS: dict[str, Callable[[np.random.Generator, float, int], Iterator[Feed]]] = {
    one.__name__: one for one in (untouched, own_loss, feed_loss, halt, edges, sample_days, listings, odd_rows, venue)
}
EXPECTED = {"odd_rows": ("refused", "unscheduled", "interval", "stamp"), "venue": ("absent_slots",)}
LEAST_RATE = {
    "halt": 4.0,
    "venue": 1.0,
    "own_loss": 0.1,
    "feed_loss": 0.1,
    "odd_rows": 0.1,
}  # of thinner names the situation leaves no trace
KINDS = ("symbol_loss", "feed_loss", "halt", "venue_halt", "early_close", "late_open", "calendar_suspect", "refused", "off_grid", "not_covered", "not_listed", "no_trade")  # fmt: skip


def extents(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """First and last bar of each symbol."""
    spans = [(name, rows["ts"].min(), rows["ts"].max()) for name, rows in frames.items()]
    instant = pl.Datetime("us", "UTC")
    return pl.DataFrame(spans, {"symbol": pl.String, "first_bar": instant, "last_bar": instant}, orient="row")


def judged(name: str, seed: int, rates: tuple[float, ...] = RATES, groups: tuple[int, ...] = GROUPS) -> Results:
    """Results of one kind of situation at each rate and number of symbols."""
    parts = []
    for number, rate in enumerate(rates):
        if rate < LEAST_RATE.get(name, 0):
            continue
        for symbols in groups:
            rng = np.random.default_rng([seed, list(SITUATIONS).index(name), number, symbols])
            for made in SITUATIONS[name](rng, rate, symbols):
                frames = made.frames()
                if not frames:
                    continue
                tables = dict(engine.run_audit(frames, made.code, interval="1m").tables)
                tables["extents"] = extents(frames)
                here = judge_causes(
                    SOURCE, tables, planted_frame(made.planted), silence=True, expected=EXPECTED.get(name, ())
                )
                where = (
                    f"{name}, {made.code}, {len(made.days)} sessions, {symbols} symbols at {rate:g}/min, seed {seed}"
                )
                alarms = here.alarms.with_columns(pl.format("{}: {}", pl.lit(where), "message").alias("message"))
                parts.append(replace(here, alarms=alarms))
    return Results.joined(parts)
