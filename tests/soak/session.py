"""Ten threads on one store in one process: symbols come and go, rows come and are corrected, readers look, exports are written.

Every write is one `together` with the step of the processor and of the quality manager that follows from it, so that no
snapshot may show rows without their derived bars, gaps and quality. Readers take a snapshot, build all of it anew from
nothing but its base rows, and compare; two symbols that are only ever written together must agree in it, no row may be of a
later revision, and a snapshot that was held for a while must still be what it was.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from engine.export.dataset import open_dataset
from engine.export.maintenance.verify import verify
from engine.export.tables import DATA_TABLES, conform_table
from engine.runtime.processor import DataProcessor, derive_session
from engine.runtime.quality_manager import DataQualityManager, assess_session
from engine.runtime.run import export_session
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.symbol_data import SymbolSessionData

from tests.soak.report import Line, first
from tests.soak.story import DAILY, SLOTS, _bars, comparable

SEED = 11
SYMBOLS = tuple(f"S{n:02}" for n in range(12))
TWINS = ("TWIN.A", "TWIN.B")  # written together, or not at all
DERIVED = ("5m", "30m", "1d")
DAYS = 3
ROWS_AT_ONCE = 6
HELD_SECONDS = 0.2
REST_SECONDS = 0.002  # a lock that is taken again at once leaves nothing to the others
ROLES = ("append", "append", "append", "correct", "come and go", "come and go", "read", "read", "wait", "export")
VALUES = (
    "ts",
    "ts_end",
    "session",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "n_base",
    "n_expected",
    "complete",
    "final",
)
KEYS = ("symbol", "price_type", "interval")
WRITTEN = ("symbol", "price_type", "ts", "open", "high", "low", "close", "volume", "size", "vwap", "trades")
# What a rebuild cannot know: how often rows came again.
COUNTED = ("duplicates", "corrections")


@dataclass
class Session:
    """A store, what follows it, and what the threads found."""

    folder: Path
    store: SessionData = field(default_factory=lambda: SessionData(calendars={DAILY.code: DAILY}))
    stop: threading.Event = field(default_factory=threading.Event)
    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.processor, self.quality = DataProcessor(self.store), DataQualityManager(self.store)
        with self.store.transaction():
            for symbol in (*TWINS, *SYMBOLS[::2]):
                self.register(symbol)
            self.append(random.Random(SEED), 10.0)  # noqa: S311

    def register(self, symbol: str) -> None:
        """Make a symbol known."""
        self.store.register_symbol_data(
            SymbolSessionData(symbol, calendar=DAILY.code, derived_intervals=DERIVED, is_loaded=True)
        )

    def append(self, chance: random.Random, value: float) -> None:
        """Rows of any symbol that is there, or of both twins, and all that follows from them."""
        with self.store.transaction():
            there = sorted(self.store.get_active_symbols() - {*TWINS})
            symbols = TWINS if chance.random() < 1 / 4 or not there else (chance.choice(there),)
            day, slots = chance.randrange(DAYS), sorted(chance.sample(range(SLOTS), ROWS_AT_ONCE))
            self.store.append(pl.concat([_bars(symbol, day, slots, value) for symbol in symbols]), interval="1m")
            self.step()

    def correct(self, chance: random.Random, value: float) -> None:
        """Another value for bars that are there."""
        with self.store.transaction():
            rows = self.store.bars(interval="1m").filter(~pl.col("symbol").is_in(TWINS))
            if rows.height:
                some = rows.sample(min(3, rows.height), seed=chance.randrange(1 << 30))
                self.store.append(some.select(WRITTEN).with_columns(volume=pl.lit(value)), interval="1m")
            self.step()

    def come_and_go(self, chance: random.Random) -> None:
        """A symbol is removed, or comes again with its first rows."""
        symbol = chance.choice(SYMBOLS)
        if self.store.remove_symbol(symbol):
            return
        with self.store.transaction():
            self.register(symbol)
            self.store.append(_bars(symbol, 0, list(range(0, SLOTS, 7)), 1.0), interval="1m")
            self.step()

    def step(self) -> None:
        """What follows from a write."""
        self.processor.step()
        self.quality.step()

    def read(self) -> None:
        """Whether a snapshot is whole, and stays what it was."""
        snapshot = self.store.snapshot()
        before = _told(snapshot)
        wrong = violations(snapshot)
        self.stop.wait(HELD_SECONDS)
        if not all(rows.equals(before[name]) for name, rows in _told(snapshot).items()):
            wrong.append("a snapshot that was held has changed")
        self.violations += [f"revision {snapshot.revision}: {one}" for one in wrong]

    def wait(self) -> None:
        """Whether who waits is woken by a later revision."""
        since = self.store.revision
        if self.store.wait_for_revision(since, 1.0) and self.store.revision <= since:
            self.violations.append(f"revision {since}: woken without news")

    def export(self) -> None:
        """A revision of the export."""
        export_session(self.store, self.folder / "out")


def soak_session(folder: Path, seconds: float) -> list[Line]:
    """Let ten threads work so long.

    Parameters
    ----------
    folder : Path
        Empty; filled with an export.
    seconds : float
    """
    session = Session(folder)
    threads = [threading.Thread(target=_work, args=(session, role, number)) for number, role in enumerate(ROLES)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    session.stop.set()
    for thread in threads:
        thread.join()
    writes = sum(session.done[role] for role in ("append", "correct", "come and go"))
    shares = ", ".join(f"{session.done[role]:,} x {role}" for role in dict.fromkeys(ROLES))
    counts = f"{len(session.violations)} violated: derived, gaps and quality as rebuilt from its rows, one revision, unchanged while held"
    return [
        Line(f"{seconds:g} s of {len(ROLES)} threads on one session", sum(session.done.values()),
             len(session.failures), (f"{len(session.failures)} exceptions; {shares}",), first(session.failures)),
        Line("snapshots of it", session.done["read"], len(session.violations),
             (f"{counts}; after {writes:,} writes, {session.store.revision:,} revisions",), first(session.violations)),
        _exported(session),
    ]  # fmt: skip


def violations(snapshot: Snapshot) -> list[str]:
    """What of a snapshot does not fit together; empty when all of it does."""
    have, want = _told(snapshot), _told(_rebuilt(snapshot))
    wrong = [f"{name} differ from a rebuild" for name, rows in want.items() if not have[name].equals(rows)]
    twins = [snapshot.bars(symbol).select(VALUES) for symbol in TWINS]
    if not twins[0].equals(twins[1]):
        wrong.append("what was written together is there in part")
    tables = snapshot.tables()
    newest = max((tables[name]["revision"].max() or 0 for name in ("bars", "gaps", "quality")), default=0)  # type: ignore[type-var]
    if newest > snapshot.revision:  # type: ignore[operator]
        wrong.append(f"a row is of revision {newest}")
    return wrong


def _rebuilt(snapshot: Snapshot) -> Snapshot:
    store = SessionData(calendars={DAILY.code: DAILY})
    store.register_symbol_data(*snapshot.symbols.values())
    base = snapshot.bars(interval="1m")
    # The verdict of a base row tells what was written before it, so it is given; those of derived bars follow from it.
    store.append(base.select(*WRITTEN, "verdict"), interval="1m")
    derive_session(store)
    assess_session(store)
    return store.snapshot()


def _told(snapshot: Snapshot) -> dict[str, pl.DataFrame]:
    bars, gaps, quality = snapshot.bars(), snapshot.gaps(), snapshot.quality().drop(COUNTED)
    return {
        "bars": bars.drop("provenance").sort(*KEYS, "ts"),
        "gaps": gaps.sort(*KEYS, "gap_start"),
        "quality": quality.sort(*KEYS, "session"),
    }


def _work(session: Session, role: str, number: int) -> None:
    chance = random.Random(f"{SEED} {number}")  # noqa: S311
    works: dict[str, Callable[[], None]] = {
        "append": lambda: session.append(chance, chance.random()),
        "correct": lambda: session.correct(chance, chance.random()),
        "come and go": lambda: session.come_and_go(chance),
        "read": session.read,
        "wait": session.wait,
        "export": session.export,
    }
    while not session.stop.is_set():
        try:
            works[role]()
        except Exception as error:  # noqa: BLE001 - counted, and told
            session.failures.append(f"{role}: {type(error).__name__}: {error}")
        session.done[role] += 1
        time.sleep(REST_SECONDS)


def _exported(session: Session) -> Line:
    """The last revision against the store, and the export as a whole."""
    session.export()
    snapshot, dataset = session.store.snapshot(), open_dataset(session.folder / "out")
    tables = snapshot.tables()
    wrong = [
        f"{name} are not those of the store"
        for name in DATA_TABLES
        if not _same(dataset.scan(name).collect(), tables.get(name), name)
    ]
    found = verify(session.folder / "out")
    wrong += [f"verify: {row}" for row in _named(found)]
    told = f"the last one holds what the store holds; verify finds {'nothing' if not _named(found) else 'damage'}"
    return Line("exports of it", session.done["export"] + 1, len(wrong), (told,), first(wrong))


def _same(have: pl.DataFrame, want: pl.DataFrame | None, name: str) -> bool:
    return comparable(name, have).equals(comparable(name, conform_table(name, want)))


def _named(found: pl.DataFrame) -> Sequence[str]:
    return [str(row) for row in found.rows()]
