"""A small store on a small calendar, and edits of it, for exports that build on one another."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from engine.calendars.providers import SessionCalendar
from engine.export.dataset import open_dataset
from engine.export.session_export import export_snapshot
from engine.export.tables import DATA_TABLES
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.schema import ROWS, TS, empty
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

from tests.export.sample import WRITTEN_AT, counting_fsync

FIRST = dt.date(2024, 1, 30)  # two months, so two folders
OPEN, SLOTS = dt.time(14, 30), 12


def spans(first: dt.date, last: dt.date) -> pl.DataFrame:
    days = [first + dt.timedelta(n) for n in range((last - first).days + 1)]
    opens = [dt.datetime.combine(day, OPEN, dt.UTC) for day in days if day.weekday() < 5]
    return pl.DataFrame(
        {"session": [at.date() for at in opens], "segment": "RTH", "segment_open": opens,
         "segment_close": [at + dt.timedelta(minutes=SLOTS) for at in opens]},
        schema={"session": pl.Date, "segment": pl.String, "segment_open": TS, "segment_close": TS},
    )  # fmt: skip


TINY = SessionCalendar("TINY", "file", "1", "UTC", "", ("RTH",), spans, (dt.date(2023, 1, 1), dt.date(2025, 12, 31)))
BASE = {"TINY": TINY}


def new_store(incomplete: str = "flag", store_id: str | None = None) -> SessionData:
    session = SessionData(calendars=BASE, incomplete=incomplete)
    if store_id is not None:
        session._swap(store_id=store_id)
    return session


def register(session: SessionData, symbol: str, derived: tuple[str, ...] = ("5m", "1d"), **fields: object) -> None:
    session.register_symbol_data(SymbolSessionData(symbol, calendar="TINY", derived_intervals=derived, **fields))


def at(day: int, slot: int) -> dt.datetime:
    """The start of a slot of the n-th weekday from FIRST."""
    date = FIRST
    for _ in range(day):
        date += dt.timedelta(days=3 if date.weekday() == 4 else 1)
    return dt.datetime.combine(date, OPEN, dt.UTC) + dt.timedelta(minutes=slot)


def bars(symbol: str, day: int, slots: list[int], value: float = 1.0) -> pl.DataFrame:
    rows = [
        {"symbol": symbol, "price_type": "last", "ts": at(day, slot), "open": value, "high": value, "low": value,
         "close": value, "volume": value}
        for slot in slots
    ]  # fmt: skip
    return filled("bars", rows)


def ticks(symbol: str, day: int, slots: list[int], value: float = 1.0, seq: int = 0) -> pl.DataFrame:
    rows = [{"symbol": symbol, "ts": at(day, s), "seq": seq, "price": value, "size": 1.0} for s in slots]
    return filled("ticks", rows)


def quotes(symbol: str, day: int, slots: list[int], value: float = 1.0, seq: int = 0) -> pl.DataFrame:
    return filled("quotes", [{"symbol": symbol, "ts": at(day, s), "seq": seq, "bid": value} for s in slots])


def interest(symbol: str, day: int, value: float) -> pl.DataFrame:
    return filled("open_interest", [{"symbol": symbol, "ts": at(day, 0), "value": value}])


def filled(kind: str, rows: list[dict[str, object]]) -> pl.DataFrame:
    schema = dict(ROWS[kind])
    return pl.concat([empty(schema), *(pl.DataFrame([{n: row.get(n) for n in schema}], schema=schema) for row in rows)])


def settle(session: SessionData) -> None:
    derive_session(session)
    assess_session(session)


def rows(target: Path, revision: int | None = None) -> dict[str, pl.DataFrame]:
    opened = open_dataset(target, revision)
    return {name: opened.scan(name).collect() for name in DATA_TABLES}


def put(session: SessionData, target: Path, **options: object) -> int:
    return export_snapshot(session.snapshot(), target, written_at=WRITTEN_AT, **options)


@dataclass(frozen=True)
class Story:
    """A store whose every edit is the same in every process."""

    store: SessionData

    @classmethod
    def begin(cls) -> Story:
        store = new_store(store_id="story")
        for symbol in ("A", "B/B", "gone"):
            register(store, symbol)
            store.append(bars(symbol, 0, list(range(SLOTS))), interval="1m")
            store.append(bars(symbol, 1, [0, 1, 4]), interval="1m")
        store.append(ticks("A", 1, [0, 1]), kind="ticks")
        store.set_as_of(at(1, 6))
        settle(store)
        return cls(store)

    def edit(self, generation: int) -> Story:
        """New, late and corrected rows, a gap filled, a symbol less, a window that ends."""
        store = self.store
        store.append(bars("A", 1, [4 + generation, 5 + generation], float(generation)), interval="1m")
        store.append(bars("B/B", 0, [3], float(generation)), interval="1m")
        store.append(bars("B/B", 1, [2]), interval="1m", provenance="backfill")
        store.append(quotes("A", 1, [generation]), kind="quotes")
        store.append(pl.concat([bars("A", 2, [0], 5.0), bars("A", 2, [0], 5.0 + generation)]), interval="1m")
        if generation == 2:
            store.remove_symbol("gone")
        store.set_as_of(at(1, 8 + generation))
        settle(store)
        return self

    @classmethod
    def told(cls, generation: int) -> Story:
        story = cls.begin()
        for n in range(2, generation + 1):
            story.edit(n)
        return story


def main(folder: str, generation: str, kill_at: str) -> int:
    """A child of the fault tests: exports a generation of the story, killed at its n-th fsync (0: not)."""
    store = Story.told(int(generation)).store
    seen = counting_fsync(int(kill_at))
    print("ready", flush=True)  # noqa: T201
    print(put(store, Path(folder)), *seen, flush=True)  # noqa: T201
    return 0


def without_revision(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {name: frame.drop("revision") for name, frame in tables.items()}


def renumbered(store: SessionData, store_id: str) -> SessionData:
    """The same store under another name."""
    copy = SessionData(calendars=BASE)
    copy._shown = replace(store.snapshot(), store_id=store_id)
    return copy


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
