"""Sudden disconnects of a live stream: the vendor's own client against a vendor on 127.0.0.1 that lets it down.

A simulated session, with corrections, duplicates and late bars, is published minute by minute. Connections end without a
word: in silence, in the middle of a frame, by a TCP reset, or during the handshake of the next one; minutes pass
meanwhile. The historical endpoint is late, answers with 429 and 500 now and then, and frames come that nobody can read. What was
taken goes into a store; in the end it must hold every bar that was published, once, with its last values.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from engine.clock import ManualClock
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.schema import BARS
from engine.simulation.faults import FaultPlan
from engine.simulation.sessions import Market, simulate
from engine.sources.streams.contract import Subscription
from engine.sources.vendors.alpaca import AlpacaStream
from engine.sources.vendors.alpaca_options import AlpacaOptions
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

from tests.soak.loopback import KEY, SECRET, STAGES, Loopback, bar_messages
from tests.soak.report import Line, first
from tests.soak.story import DAILY, FIRST, SLOTS

SYMBOLS = 8
MINUTE = Interval(1, "m")
LONGEST_DELAY = dt.timedelta(minutes=65)  # of late bars and corrections in the simulation
WAYS = ("quiet", "frame", "reset")
PATIENCE_SECONDS = 120.0
WORTH_NOTING = ("open", "high", "low", "close", "volume", "vwap", "trades")
KEY_COLUMNS = ("symbol", "ts")


@dataclass
class Outcome:
    """What came of a session.

    Attributes
    ----------
    published, held : DataFrame of `schema.BARS`
        Each bar with its last values, as the vendor published it, and as the store holds it.
    counts : Counter
        Of disconnects (`dropped ...`), requests, duplicates, corrections and so on.
    unfinished : str
        What did not come to rest in time; empty when all did.
    """

    published: pl.DataFrame
    held: pl.DataFrame
    counts: Counter[str] = field(default_factory=Counter)
    unfinished: str = ""

    @property
    def disconnects(self) -> int:
        """Connections that ended suddenly."""
        return sum(count for name, count in self.counts.items() if name.startswith("dropped "))

    def wrong(self) -> list[str]:
        """Bars that were lost, doubled or hold other values; one text each."""
        return [*([self.unfinished] if self.unfinished else []), *differences(self.published, self.held)]


def disconnect_streams(folder: Path, disconnects: int) -> list[Line]:
    """Let a session run through so many sudden disconnects.

    Parameters
    ----------
    folder : Path
        Not used: nothing is written.
    disconnects : int
    """
    del folder
    outcome = live_through(disconnects)
    counts, wrong = outcome.counts, outcome.wrong()
    seen = (
        f"{outcome.published.height:,} bars published, {outcome.held.height:,} held, {len(wrong)} lost, doubled or wrong",
        f"{counts['in frames']:,} in frames, {counts['in handshakes']:,} in handshakes, {counts['missed']:,} bars published to nobody",
        f"{counts['requests']:,} requests, {counts['duplicates']:,} rows again, {counts['corrections']:,} corrections",
    )
    return [Line("sudden disconnect of a live stream", outcome.disconnects, len(wrong), seen, first(wrong))]


def live_through(disconnects: int, seed: int = 1) -> Outcome:
    """Run a session until so many connections have ended suddenly, and compare."""
    rng = random.Random(seed)  # noqa: S311 - to repeat a run, not to hide anything
    minutes = _minutes(disconnects, seed)
    clock = ManualClock(minutes[0][0] - dt.timedelta(minutes=1))
    with Loopback(clock, page_rows=200) as vendor:
        stream = AlpacaStream(
            AlpacaOptions(
                KEY, SECRET, stream_url=vendor.stream_url, rest_url=vendor.rest_url, backoff_seconds=(0.005, 0.05),
                overlap_seconds=LONGEST_DELAY.total_seconds(), again_seconds=30, attempts=3, bounds={"bars": 50 * SYMBOLS},
            ),
            clock,
        )  # fmt: skip
        try:
            return _Session(vendor, stream, clock, rng).run(minutes, disconnects)
        finally:
            stream.close()


def differences(published: pl.DataFrame, held: pl.DataFrame) -> list[str]:
    """Every bar that is in one only, twice, or has other values."""
    doubled = held.filter(pl.struct(KEY_COLUMNS).is_duplicated()).unique(KEY_COLUMNS)
    lost = published.join(held, on=KEY_COLUMNS, how="anti")
    strange = held.join(published, on=KEY_COLUMNS, how="anti")
    both = published.join(held.unique(KEY_COLUMNS), on=KEY_COLUMNS, suffix=":held")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}:held")) for name in WORTH_NOTING)
    parts = {"lost": lost, "doubled": doubled, "never published": strange, "of other values": both.filter(~same)}
    return [
        f"{symbol} {ts:%Y-%m-%d %H:%M} {what}"
        for what, rows in parts.items()
        for symbol, ts in rows.select(KEY_COLUMNS).sort(KEY_COLUMNS).iter_rows()
    ]


class _Session:
    def __init__(self, vendor: Loopback, stream: AlpacaStream, clock: ManualClock, rng: random.Random) -> None:
        self.vendor, self.stream, self.clock, self.rng = vendor, stream, clock, rng
        self.symbols = Market.of(SYMBOLS).symbols
        self.store = SessionData(calendars={DAILY.code: DAILY})
        self.store.register_symbol_data(*(SymbolSessionData(name, calendar=DAILY.code) for name in self.symbols))
        self.published: list[pl.DataFrame] = []
        self.seen: set[tuple[str, dt.datetime]] = set()
        self.counts: Counter[str] = Counter()

    def run(self, minutes: list[tuple[dt.datetime, pl.DataFrame]], disconnects: int) -> Outcome:
        self.stream.subscribe([Subscription(name, "bars", MINUTE) for name in self.symbols])
        for at, rows in minutes:
            self.clock.set(at)
            self._publish(rows)
            self._take()
            if self._disconnects() < disconnects:
                self._let_down()
            elif self.vendor.connected:
                break
        unfinished = self._settle()
        self.counts += self.vendor.counts
        self.counts["in frames"] = sum(self.counts[f"dropped {way}"] for way in WAYS)
        self.counts["in handshakes"] = sum(self.counts[f"dropped {stage}"] for stage in STAGES)
        last = pl.concat(self.published).unique(KEY_COLUMNS, keep="last", maintain_order=True)
        return Outcome(last, self.store.snapshot().tables()["bars"], self.counts, unfinished)

    def _publish(self, rows: pl.DataFrame) -> None:
        self.published.append(rows)
        self.counts["missed"] += 0 if self.vendor.connected else rows.height
        for row, message in zip(rows.select(KEY_COLUMNS).iter_rows(), bar_messages(rows), strict=True):
            # A bar that comes again is an update, or now and then a bar once more.
            is_update = row in self.seen and self.rng.random() < 0.8
            self.seen.add(row)
            self.vendor.publish("u" if is_update else "b", [message])

    def _let_down(self) -> None:
        chance = self.rng.random
        if chance() < 0.1:
            self.vendor.send_raw(self.rng.choice([b"\xc1", "text", b"\x93\x01\x02\x03", b"\x81\xa1T", b""]))
        if chance() < 0.1:
            self.vendor.rest_faults.extend(self.rng.choices([429, 500, 503], k=self.rng.randint(1, 4)))
        if chance() < 0.9 and self.vendor.connected:
            self.vendor.lag_seconds = self.rng.choice([0.0, 20.0])
            if chance() < 0.4:
                self.vendor.drop_at.extend(self.rng.choices(STAGES, k=self.rng.randint(1, 2)))
            self.vendor.drop(self.rng.choice(WAYS))
        time.sleep(self.rng.choice([0.0, 0.005, 0.03]))
        if chance() < 0.6:
            self._wait(lambda: bool(self.vendor.connected))

    def _disconnects(self) -> int:
        return sum(self.vendor.counts[f"dropped {how}"] for how in (*WAYS, *STAGES))

    def _take(self) -> None:
        for delivery in self.stream.take(self.clock.now()):
            self.counts["rejects"] += delivery.rejects.height
            if delivery.frames:
                done = self.store.append(delivery.frames, delivery.kind, delivery.interval, stamp=delivery.stamp)
                self.counts["duplicates"] += done.duplicates
                self.counts["corrections"] += done.corrections

    def _settle(self) -> str:
        """Let everything come to rest; what did not."""
        self.vendor.drop_at.clear()
        self.vendor.rest_faults.clear()
        self.vendor.lag_seconds = 0.0
        if not self._wait(lambda: bool(self.vendor.connected)):
            return f"no connection at the end: {self.stream.status().error}"
        if not self._wait(self._is_quiet):
            return f"{self.stream.pending_backfills} holes at the end: {self.stream.status().error}"
        return ""

    def _is_quiet(self) -> bool:
        self.clock.set(self.clock.now() + dt.timedelta(seconds=1))
        return self.stream.pending_backfills == 0 and self.stream.status().waiting == 0

    def _wait(self, done: Callable[[], bool]) -> bool:
        for _ in range(round(PATIENCE_SECONDS / 0.01)):
            self._take()
            if done():
                return True
            time.sleep(0.01)
        return False


def _minutes(disconnects: int, seed: int) -> list[tuple[dt.datetime, pl.DataFrame]]:
    """A feed by the minute in which its rows arrive, long enough for so many disconnects."""
    days = 2 + 2 * disconnects // SLOTS
    last = FIRST + dt.timedelta(days - 1)
    grid = SessionGrid.build(DAILY.segments(FIRST, last), "1m", GridSpec(DAILY.code))
    plan = FaultPlan(duplicate=4 * days, conflict=2 * days, correction=4 * days, late=4 * days)
    rows = simulate(grid, Market.of(SYMBOLS, seed), plan).rows
    return list(_by_minute(rows))


def _by_minute(rows: pl.DataFrame) -> Iterator[tuple[dt.datetime, pl.DataFrame]]:
    minute = pl.col("arrived").dt.truncate("1m")
    for part in rows.with_columns(minute.alias("minute")).partition_by("minute", maintain_order=True):
        yield part["arrived"].max(), part.select(list(BARS))  # type: ignore[misc]
