"""One writer and fifteen readers: what a reader sees is whole, of one revision, and never goes back."""

from __future__ import annotations

import datetime as dt
import sys
import threading
from collections.abc import Callable, Iterator

import polars as pl
import pytest
from engine.runtime.indicator_manager import IndicatorManager
from engine.runtime.processor import DataProcessor
from engine.runtime.quality_manager import DataQualityManager
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.symbol_data import SymbolSessionData

from tests.store.test_session_data import OPEN, bars

SYMBOLS = ("A", "B", "C", "D")
COMINGS = "E"  # a symbol that is added and removed in one transaction with the rows of the others
POISON = 666.0
STEPS = 6
INDICATORS = (("sma(2)", "1m"), ("session_vwap", "5m"))


def registered(symbol: str) -> SymbolSessionData:
    return SymbolSessionData(symbol, derived_intervals=("5m", "1h"), indicators=INDICATORS, is_loaded=True)


class Session:
    """A store whose writer adds minutes of all symbols in one transaction with all that follows from them."""

    def __init__(self) -> None:
        self.store = SessionData(as_of=OPEN)
        self.store.register_symbol_data(*map(registered, SYMBOLS))
        self.components = DataProcessor(self.store), IndicatorManager(self.store), DataQualityManager(self.store)
        self.minute = 0

    def write(self, step: int) -> None:
        """Minutes with a hole; every fifth time a correction, too; a symbol comes or goes; every fourth transaction is undone."""
        if step % 4 == 3:
            with pytest.raises(RuntimeError, match="undone"):
                self._undo()
        with self.store.transaction():
            if step % 2:
                self.store.remove_symbol(COMINGS)
            else:
                self.store.register_symbol_data(registered(COMINGS))
            names = sorted(self.store.get_active_symbols())
            first, self.minute = self.minute, self.minute + 3
            self.store.append([bars(one, [first, first + 2]) for one in names], interval="1m")
            if step % 5 == 4:
                self.store.append([bars(one, [first - 3], 10.0 + step) for one in SYMBOLS], interval="1m")
            self.store.set_as_of(OPEN + self.minute * dt.timedelta(minutes=1))
            self._follow()

    def _undo(self) -> None:
        with self.store.transaction():
            self.store.append([bars(one, [self.minute + 1], POISON) for one in SYMBOLS], interval="1m")
            self._follow()
            raise RuntimeError("undone")

    def _follow(self) -> None:
        for one in self.components:
            one.step()


def faults_of_snapshot(snapshot: Snapshot) -> Iterator[str]:
    """What does not agree inside one snapshot."""
    at = f"revision {snapshot.revision}"
    names = set(snapshot.symbols)
    if names - {COMINGS} != set(SYMBOLS):
        yield f"{at}: symbols {names}"
    counted = snapshot.bars(list(SYMBOLS), "1m").group_by("symbol").len()
    if counted["len"].n_unique() > 1 or counted.height not in (0, len(SYMBOLS)):
        yield f"{at}: bars of some symbols only: {counted.rows()}"
    whole = snapshot.bars()
    if (whole["close"] == POISON).any():
        yield f"{at}: a row of a transaction that was undone"
    base = (
        whole.filter(interval="1m")
        .group_by("symbol")
        .agg(pl.len().cast(pl.Int64).alias("base"), volume=pl.col("volume").sum())
    )
    for interval in ("5m", "1h"):
        folded = (
            whole.filter(interval=interval)
            .group_by("symbol")
            .agg(pl.col("n_base").sum().cast(pl.Int64).alias("base"), pl.col("volume").sum())
        )
        if not folded.sort("symbol").equals(base.sort("symbol")):
            yield f"{at}: {interval} of other bars than those of 1m"
    quality = (
        snapshot.quality().filter(interval="1m").group_by("symbol").agg(pl.col("expected", "present", "missing").sum())
    )
    missing = snapshot.gaps().filter(interval="1m").group_by("symbol").agg(pl.col("bar_count").sum().cast(pl.Int64))
    both = (
        quality.join(missing, on="symbol", how="left")
        .join(base, on="symbol")
        .with_columns(pl.col("bar_count").fill_null(0))
    )
    wrong = both.filter(
        (pl.col("missing") != pl.col("bar_count")) | (pl.col("present") != pl.col("base"))
        | (pl.col("present") + pl.col("missing") != pl.col("expected"))
    )  # fmt: skip
    if wrong.height or both.height != base.height:
        yield f"{at}: gaps, quality and bars disagree: {wrong.rows()}"
    newest = [part["revision"].max() or 0 for held in snapshot.panels.values() for part in held.parts]
    if max(newest, default=0) > snapshot.revision:
        yield f"{at}: a row of a later revision"


def faults_of_symbol(store: SessionData) -> Iterator[str]:
    """What does not agree in the views of one symbol, or changes while they are held."""
    one = store.get_symbol_data("B")
    assert one is not None
    first = one.bars_base
    if one.indicator_values().height != first.height or one.session_bars.height != first.height:
        yield f"views of other rows: {first.height}, {one.indicator_values().height}, {one.session_bars.height}"
    if one.session_volume != 100.0 * first.height or one.bar_quality["1m"]["present"].sum() != first.height:
        yield f"metrics of other rows: {one.session_volume}, {first.height}"
    if not one.bars_base.equals(first):
        yield "a view changed while it was held"
    gone = store.get_symbol_data(COMINGS)
    if gone is not None and gone.bars_base.height != gone.indicator_values().height:
        yield "a symbol that is going shows half of itself"


class Follower:
    """A consumer that keeps a copy of the bars by `changes` and compares it with a full read."""

    def __init__(self, store: SessionData) -> None:
        self.store, self.revision, self.copy = store, 0, store.bars().clear()

    def faults(self) -> Iterator[str]:
        snapshot = self.store.snapshot()
        if snapshot.revision < self.revision:
            yield f"went back from {self.revision} to {snapshot.revision}"
        changes = snapshot.changes(self.revision)
        gone = changes.filter("removed")["symbol"].unique().implode()
        touched = changes.filter(kind="bars").select("symbol", "interval", "session").unique()
        now = snapshot.bars()
        kept = self.copy.filter(~pl.col("symbol").is_in(gone)).join(touched, on=touched.columns, how="anti")
        fresh = now.join(touched, on=touched.columns, how="semi")
        order = ["symbol", "interval", "ts"]
        self.copy, self.revision = pl.concat([kept, fresh]).sort(order), snapshot.revision
        # A bar that has become final, as time went on, is no change of the store.
        ageing = ["final", "complete", "verdict"]
        if not self.copy.drop(ageing).equals(now.sort(order).drop(ageing)):
            yield f"changes up to {snapshot.revision} do not lead to its bars"


def waiting(store: SessionData) -> Callable[[], Iterator[str]]:
    """A reader that is woken by revisions, each of which is later than the one before."""
    seen = [0]

    def faults() -> Iterator[str]:
        if store.wait_for_revision(seen[0], 0.5):
            now = store.revision
            if now <= seen[0]:
                yield f"woken for {seen[0]} at {now}"
            seen[0] = now

    return faults


def readers(session: Session) -> list[Callable[[], Iterator[str]]]:
    store = session.store
    return [
        *[lambda: faults_of_snapshot(store.snapshot())] * 5,
        *[lambda: faults_of_symbol(store)] * 4,
        *[Follower(store).faults for _ in range(3)],
        *[waiting(store) for _ in range(3)],
    ]


def test_sixteen_threads_see_whole_revisions_that_never_go_back() -> None:
    session, stop = Session(), threading.Event()
    session.write(0)
    faults: list[str] = []
    revisions: list[set[int]] = []

    def read(look: Callable[[], Iterator[str]], seen: set[int]) -> None:
        try:
            while not stop.is_set():
                faults.extend(look())
                seen.add(session.store.revision)
            faults.extend(look())
        except BaseException as error:  # noqa: BLE001 - a thread's error is the test's
            faults.append(f"{type(error).__name__}: {error}")

    threads = []
    for look in readers(session):
        revisions.append(set())
        threads.append(threading.Thread(target=read, args=(look, revisions[-1])))
    assert len(threads) + 1 == 16
    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        for one in threads:
            one.start()
        for step in range(1, STEPS):
            session.write(step)
    finally:
        stop.set()
        for one in threads:
            one.join()
        sys.setswitchinterval(former)
    assert faults == []
    assert len(set().union(*revisions)) > 3  # they did read while it wrote
    assert session.store.bars("A", "1m").height == 2 * STEPS
    alone = Session()
    for step in range(STEPS):
        alone.write(step)
    for name in ("bars", "gaps", "quality"):
        assert getattr(session.store, name)().equals(getattr(alone.store, name)())


@pytest.mark.parametrize("broken", ["half of the symbols", "undone", "another revision"])
def test_readers_notice_a_store_that_is_not_whole(broken: str) -> None:
    session = Session()
    session.write(0)
    store = session.store
    if broken == "half of the symbols":
        store.append(bars("A", [1]), interval="1m")
    elif broken == "undone":
        store.append([bars(one, [1], POISON) for one in SYMBOLS], interval="1m")
    else:
        store._shown = Snapshot(**{**store._shown.__dict__, "revision": 0})
    assert list(faults_of_snapshot(store.snapshot()))
