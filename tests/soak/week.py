"""A week of a whole market by the minute, followed by a process that is killed five times, against one that is not.

    python -m tests.soak.week [--symbols N] [--sessions N] [--kills N] [--speed F]

A child follows a feed of one-minute bars (`Market`) on a clock of its own, minute after minute, `--speed` times faster than
real time or, with 0, as fast as it can, and exports every 15 minutes. It is ended by `kill -9` at random minutes and started
again some minutes later; what the feed sent in between, and what was not exported, it asks of the history. At the end every
table must equal that of a child that ran undisturbed. Memory is read at the end of each session, and the time of each start.
"""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median

import numpy as np
import polars as pl
from engine import open_dataset
from engine.calendars.providers import calendar
from engine.clock import ManualClock
from engine.export.dataset import Dataset
from engine.export.tables import DATA_TABLES, KEYS
from engine.interval import Interval
from engine.runtime.config import SessionConfig
from engine.runtime.live import LiveSession
from engine.schema import BARS, TS
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, StreamStatus, Subscription

from tests.soak.report import Line, first, heading, row

ROOT = Path(__file__).parents[2]
FIRST = dt.date(2024, 7, 1)  # with a half day, a holiday and a weekend
MINUTE = dt.timedelta(minutes=1)
ONE = Interval(1, "m")
SEED = 20240701
MOST_SILENT = 0.5
MOST_AWAY = 30  # minutes between an end and the next start
MEMORY_GROWTH = 1.5  # of the last session's end against the second's


@dataclass(frozen=True)
class Market:
    """Bars of a market: those of a minute follow from its number alone.

    Symbol by symbol the chance of a minute without a bar is `MOST_SILENT * u**4` with `u` uniform.

    Attributes
    ----------
    symbols : int
    sessions : int
    """

    symbols: int
    sessions: int

    @cached_property
    def names(self) -> list[str]:
        """Symbols, sorted."""
        return [f"S{number:05}" for number in range(self.symbols)]

    @cached_property
    def silent(self) -> np.ndarray:
        """Chance of a minute without a bar, per symbol."""
        return MOST_SILENT * np.random.default_rng(SEED).random(self.symbols) ** 4

    @cached_property
    def spans(self) -> list[tuple[dt.datetime, dt.datetime]]:
        """Open and close of the sessions."""
        table = calendar("XNYS").segments(FIRST, FIRST + dt.timedelta(days=2 * self.sessions + 7))
        regular = table.filter(pl.col("segment") == "RTH").head(self.sessions)
        return list(regular.select("segment_open", "segment_close").iter_rows())

    @cached_property
    def minutes(self) -> list[dt.datetime]:
        """Starts of all minutes of all sessions."""
        return [begin + number * MINUTE for begin, end in self.spans for number in range((end - begin) // MINUTE)]

    def bars(self, first: dt.datetime, last: dt.datetime) -> pl.DataFrame:
        """Conformed bars of the minutes that begin in `[first, last]`, in the order of time."""
        starts = [one for one in self.minutes if first <= one <= last]
        return pl.concat([pl.DataFrame(schema=dict(BARS)), *map(self._minute, starts)])

    def _minute(self, start: dt.datetime) -> pl.DataFrame:
        rng = np.random.default_rng([SEED, int(start.timestamp())])
        at = np.flatnonzero(rng.random(self.symbols) >= self.silent)
        price = 50 + at % 400 + rng.integers(-200, 201, len(at)) / 100
        frame = pl.DataFrame(
            {
                "symbol": pl.Series(self.names).gather(at),
                "open": price,
                "high": price + 0.05,
                "low": price - 0.04,
                "close": price + 0.01,
                "volume": rng.integers(1, 10_000, len(at)).astype(float),
                "trades": rng.integers(1, 90, len(at)),
            }
        )
        whole = frame.with_columns(
            pl.lit("last").alias("price_type"),
            pl.lit(start, TS).alias("ts"),
            pl.col("close").alias("vwap"),
        )
        return whole.select(
            (pl.col(name) if name in whole.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in BARS.items()
        )


class Feed:
    """The market to one process: bars that end while it runs, and a history of all that have ended."""

    def __init__(self, market: Market, clock: ManualClock) -> None:
        self.market, self.clock, self.at = market, clock, clock.now()

    def available(self, symbols: Sequence[str]) -> Mapping[str, frozenset[Resolution]]:
        return {symbol: frozenset({("bars", ONE)}) for symbol in symbols or self.market.names}

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        pass

    def unsubscribe(self, symbol: str) -> None:
        pass

    def next_at(self) -> dt.datetime | None:
        return None

    def take(self, until: dt.datetime) -> list[Delivery]:
        now, begin = self.clock.now(), self.at
        self.at = now
        rows = self.market.bars(begin, now - MINUTE)
        return [Delivery("bars", (rows,), ONE)] if rows.height else []

    def wait(self, seconds: float) -> bool:
        return True

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        if not requests:
            return []
        ended = self.clock.now() - MINUTE
        asked = pl.DataFrame(
            {
                "symbol": [one.symbol for one in requests],
                "first": pl.Series([one.start for one in requests], dtype=TS),
                "until": pl.Series([one.end for one in requests], dtype=TS),
            }
        )
        rows = self.market.bars(min(asked["first"]), min(max(asked["until"]) - MINUTE, ended))
        wanted = (pl.col("ts") >= pl.col("first")) & (pl.col("ts") < pl.col("until"))
        found = rows.join(asked, on="symbol", maintain_order="left").filter(wanted).select(list(BARS))
        return [Delivery("bars", (found,), ONE)] if found.height else []

    def status(self) -> StreamStatus:
        return StreamStatus()

    def close(self) -> None:
        pass


def configured(market: Market, target: Path) -> SessionConfig:
    """A live session of the market; gaps are not requested, their states are the matter of another law."""
    return SessionConfig.of(
        {
            "session": {"calendar": "XNYS", "mode": "live", "symbols": market.names},
            "source": {"kind": "alpaca"},
            "streams": {"bars": "1m"},
            "derive": ["5m", "15m", "1h"],
            "live": {"grace_seconds": 0},
            "gaps": {"fill": False},
            "export": {"target": str(target), "every_seconds": 900},
        }
    )


def follow(market: Market, target: Path, start: int, speed: float) -> None:
    """Follow the market from a minute on to its end; print `started SECONDS`, each minute, and memory after each session."""
    begin = time.monotonic()
    ends = {end for _, end in market.spans}
    clock = ManualClock(market.minutes[start])
    live = LiveSession(configured(market, target), Feed(market, clock), clock, fetch_aside=False)
    live.start()
    print(f"started {time.monotonic() - begin:.1f}", flush=True)
    for number in range(start, len(market.minutes)):
        due = time.monotonic() + (60 / speed if speed else 0)
        now = market.minutes[number] + MINUTE
        clock.set(now)
        live.step()
        print(f"minute {number} {_resident_mb():.0f}{' end' if now in ends else ''}", flush=True)
        time.sleep(max(due - time.monotonic(), 0))
    clock.set(clock.now() + 5 * MINUTE)
    live.step()
    live.close()


def _resident_mb() -> float:
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@dataclass
class Followed:
    """What was seen of the processes that followed the market.

    Attributes
    ----------
    starts : list of float
        Seconds of each start.
    memory : list of float
        MB at the end of each session.
    seconds : float
        All of it, by the clock.
    """

    starts: list[float]
    memory: list[float]
    seconds: float = 0.0


def run(market: Market, target: Path, kills: Sequence[tuple[int, float, int]], speed: float) -> Followed:
    """Follow the market to its end with kills: (minute, seconds after it, minutes away); ChildProcessError if one fails."""
    seen, start, begin = Followed([], []), 0, time.monotonic()
    for kill in [*kills, None]:
        command = [sys.executable, "-m", "tests.soak.week", "--child", str(target), str(start)]
        command += ["--symbols", str(market.symbols), "--sessions", str(market.sessions), "--speed", str(speed)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            killed = _watch(process, kill, seen)
        if kill is None and process.returncode:
            raise ChildProcessError(f"the process that began at minute {start} ended with {process.returncode}")
        if kill is not None:
            if not killed or process.returncode != -signal.SIGKILL:
                raise ChildProcessError(
                    f"the process that began at minute {start} ended with {process.returncode}, not killed"
                )
            start = min(kill[0] + kill[2], len(market.minutes) - 1)
    seen.seconds = time.monotonic() - begin
    return seen


def _watch(process: subprocess.Popen[str], kill: tuple[int, float, int] | None, seen: Followed) -> bool:
    if process.stdout is None:
        raise ChildProcessError("no output")
    for line in process.stdout:
        what, *rest = line.split()
        if what == "started" or rest[-1] == "end":
            print(f"  {time.strftime('%H:%M:%S')} {line.strip()}", file=sys.stderr, flush=True)
        if what == "started":
            seen.starts.append(float(rest[0]))
        elif what == "minute":
            if rest[-1] == "end":
                seen.memory.append(float(rest[1]))
            if kill is not None and int(rest[0]) >= kill[0]:
                time.sleep(kill[1])
                process.kill()
                return True
    return False


def kill_plan(market: Market, kills: int, random: Random) -> list[tuple[int, float, int]]:
    """Minutes at which processes are killed, far enough from each other, how long after, and how long they are away."""
    share = len(market.minutes) // (kills + 1)
    if kills and share <= 2 * MOST_AWAY:
        raise ValueError(
            f"kills: {kills} in {len(market.minutes)} minutes; valid: more than {2 * MOST_AWAY} minutes for each"
        )
    return [
        (
            share * number + random.randrange(share - 2 * MOST_AWAY),
            random.random() * 0.3,
            random.randrange(1, MOST_AWAY),
        )
        for number in range(1, kills + 1)
    ]


def differences(target: Path, undisturbed: Path) -> Iterator[str]:
    """Tables of the newest revisions that differ, session by session, without the number of the revision that wrote a row."""
    one, other = open_dataset(target), open_dataset(undisturbed)
    for name in DATA_TABLES:
        for day in _days(other, name):
            mine, its = (_rows(dataset, name, day) for dataset in (one, other))
            if not mine.equals(its):
                alone = [
                    a.join(b, on=a.columns, how="anti", nulls_equal=True).head(2).rows()
                    for a, b in ((mine, its), (its, mine))
                ]
                yield f"{name} {day or ''}: {mine.height} rows, {its.height} undisturbed; alone {alone}"


def _days(dataset: Dataset, name: str) -> list[dt.date | None]:
    rows = dataset.scan(name)
    if "session" not in rows.collect_schema().names():
        return [None]
    return rows.select(pl.col("session").unique().sort()).collect()["session"].to_list()


def _rows(dataset: Dataset, name: str, day: dt.date | None) -> pl.DataFrame:
    rows = dataset.scan(name).drop("revision")
    if day is not None:
        rows = rows.filter(pl.col("session") == day)
    return rows.collect().sort(*KEYS[name], maintain_order=True)


def week(folder: Path, symbols: int, sessions: int = 5, kills: int = 5, speed: float = 0) -> list[Line]:
    """Lines of the fault table: kills, and memory over the sessions."""
    market = Market(symbols, sessions)
    plan = kill_plan(market, kills, Random(SEED))  # noqa: S311 - no secret
    seen = run(market, folder / "killed", plan, speed)
    whole = run(market, folder / "whole", [], speed)
    wrong = list(differences(folder / "killed", folder / "whole"))
    again = seen.starts[1:]
    said = (
        f"{symbols:,} symbols, {sessions} sessions, all tables equal" if not wrong else f"{len(wrong)} differences",
        f"starts after a kill {min(again):.1f} to {max(again):.1f} s, median {median(again):.1f}"
        if again
        else "no start",
        f"{seen.seconds:.0f} s, undisturbed {whole.seconds:.0f} s",
    )
    grown = whole.memory[-1] / whole.memory[min(1, len(whole.memory) - 1)]
    steps = [round(after - before) for before, after in pairwise(whole.memory)]
    flat = (
        f"MB at the ends of sessions: {', '.join(f'{one:.0f}' for one in whole.memory)}; steps {steps}",
        f"with kills: {', '.join(f'{one:.0f}' for one in seen.memory)}",
    )
    return [
        Line("kill -9 of a market's session", kills, len(wrong), said, first(wrong)),
        Line("a week of a market: memory", sessions, int(grown > MEMORY_GROWTH), flat, ()),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the lines; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.week", description="See the module's docstring.")
    parser.add_argument("--symbols", type=int, default=8_000)
    parser.add_argument("--sessions", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--speed", type=float, default=0.0, help="times real time; 0: as fast as it goes")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        target, start = options.child
        follow(Market(options.symbols, options.sessions), Path(target), int(start), options.speed)
        return 0
    print(heading(), flush=True)
    with tempfile.TemporaryDirectory(prefix="engine-week-") as folder:
        lines = week(Path(folder), options.symbols, options.sessions, options.kills, options.speed)
    print("\n".join(map(row, lines)), flush=True)
    return int(any(line.failed for line in lines))


if __name__ == "__main__":
    sys.exit(main())
