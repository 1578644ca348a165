"""A store whose n-th state is the same in every process, and what an export of that state must hold.

Every generation corrects bars of both months, fills one gap, brings a quote, a trade, an open interest and a rejected row,
and now and then a symbol comes or goes: so each table of an export says which generation it is of.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl
from engine.calendars.providers import SessionCalendar
from engine.export.dataset import Dataset
from engine.export.session_export import export_snapshot
from engine.export.tables import DATA_TABLES, KEYS, TABLES, conform_table
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.schema import ROWS, TS, Kind
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.symbol_data import SymbolSessionData

WRITTEN_AT = dt.datetime(2024, 2, 6, 12, tzinfo=dt.UTC)
STORE_ID = "soak"
FIRST = dt.date(2024, 1, 30)  # four sessions in two months: two folders per interval
SESSIONS = 4
OPEN = dt.time(14, 30)
SLOTS = 120
SYMBOLS = tuple(f"S{n:02}" for n in range(20))
# Session 1 lacks these, and each generation fills one of one symbol, until LAST.
HOLES = range(1, SLOTS, 2)
LAST = len(HOLES) * len(SYMBOLS)
SOON_GONE = 10

Expected = Mapping[str, pl.DataFrame]


def _spans(first: dt.date, last: dt.date) -> pl.DataFrame:
    opens = [dt.datetime.combine(first + dt.timedelta(n), OPEN, dt.UTC) for n in range((last - first).days + 1)]
    return pl.DataFrame(
        {"session": [at.date() for at in opens], "segment": "RTH", "segment_open": opens,
         "segment_close": [at + dt.timedelta(minutes=SLOTS) for at in opens]},
        schema={"session": pl.Date, "segment": pl.String, "segment_open": TS, "segment_close": TS},
    )  # fmt: skip


# Two hours every day: the libraries of real calendars take a second to load, in every child.
DAILY = SessionCalendar("DAILY", "file", "1", "UTC", "", ("RTH",), _spans, (dt.date(2023, 1, 1), dt.date(2025, 12, 31)))


@dataclass
class Story:
    """A store at one generation, counted from 1."""

    store: SessionData = field(default_factory=lambda: SessionData(calendars={DAILY.code: DAILY}))
    generation: int = 1

    @classmethod
    def begin(cls) -> Story:
        """Generation 1."""
        story = cls()
        for symbol in SYMBOLS:
            story._register(symbol)
        days = [_bars(symbol, day, _slots(day), 1.0) for symbol in SYMBOLS for day in range(SESSIONS)]
        story.store.append(pl.concat(days), interval="1m")
        return story._settled()

    def advance(self, generation: int) -> None:
        """Go on to a later generation."""
        while self.generation < generation:
            self._edit(self.generation + 1)

    @property
    def snapshot(self) -> Snapshot:
        """The state, as every process names it."""
        return replace(self.store.snapshot(), store_id=STORE_ID)

    def _edit(self, generation: int) -> None:
        self.generation = generation
        store, value = self.store, float(generation)
        round_, number = divmod(generation, len(SYMBOLS))
        symbol = SYMBOLS[number]
        store.append(_bars(symbol, 0, [round_ % SLOTS], value), interval="1m")
        # Two values of one key: the first one becomes a reject.
        store.append(pl.concat([_bars(symbol, 2, [5], value + 0.5), _bars(symbol, 2, [5], value)]), interval="1m")
        store.append(_bars(symbol, 1, [HOLES[round_ % len(HOLES)]], value), interval="1m", provenance="backfill")
        store.append(_rows("quotes", [{"symbol": symbol, "ts": _at(3, 1), "seq": generation, "bid": value}]), "quotes")
        store.append(_rows("ticks", [{"symbol": symbol, "ts": _at(3, 2), "seq": generation, "price": value}]), "ticks")
        store.append(_rows("open_interest", [{"symbol": symbol, "ts": _at(0, 0), "value": value}]), "open_interest")
        self._come_and_go(generation)
        self._settled()

    def _come_and_go(self, generation: int) -> None:
        if generation % SOON_GONE == 2:
            self._register("GONE")
            self.store.append(_bars("GONE", 1, [1, 2, 4], float(generation)), interval="1m")
        if generation % SOON_GONE == 5:
            self.store.remove_symbol("GONE")

    def _register(self, symbol: str) -> None:
        self.store.register_symbol_data(
            SymbolSessionData(symbol, calendar=DAILY.code, derived_intervals=("5m", "1d"), is_loaded=True)
        )

    def _settled(self) -> Story:
        derive_session(self.store)
        assess_session(self.store)
        return self


class Chronicle:
    """What each generation must hold, from the store alone; no export is read for it."""

    def __init__(self) -> None:
        self.story = Story.begin()
        self.snapshots: dict[int, Snapshot] = {}
        self.held: dict[int, Expected] = {}
        self._note()

    def snapshot(self, generation: int) -> Snapshot:
        """The store at a generation that was not forgotten, or one to come."""
        while self.story.generation < generation:
            self.story.advance(self.story.generation + 1)
            self._note()
        return self.snapshots[generation]

    def forget(self, before: int) -> None:
        """Free what is held of generations before this one."""
        self.snapshots = {number: one for number, one in self.snapshots.items() if number >= before}
        self.held = {number: one for number, one in self.held.items() if number >= before}

    def generation(self, dataset: Dataset) -> int:
        """Which one an export says that it holds."""
        said = dataset.exports["store_revision"].item(-1)
        return next((number for number, one in self.snapshots.items() if one.revision == said), 0)

    def compare(self, generation: int, tables: Expected) -> Verdict:
        """Whether tables are those of a generation: whole, of several generations, or of none."""
        wrong = {name: rows for name, rows in tables.items() if not self.held[generation][name].equals(rows)}
        if not wrong:
            return Verdict("whole")
        others = {
            name: [number for number, held in self.held.items() if held[name].equals(rows)]
            for name, rows in wrong.items()
        }
        torn = sorted(name for name, found in others.items() if not found)
        if torn:
            return Verdict("torn", f"{', '.join(torn)} hold what no generation held")
        return Verdict("mixed", f"of generation {generation}, but {others}")

    def _note(self) -> None:
        now = self.story.snapshot
        tables = now.tables()
        self.snapshots[self.story.generation] = now
        self.held[self.story.generation] = {
            name: comparable(name, conform_table(name, tables.get(name))) for name in DATA_TABLES
        }


class Verdict(NamedTuple):
    """How tables compare with what was written: `whole`, `torn` or `mixed`, and why."""

    kind: str
    why: str = ""


def export(snapshot: Snapshot, target: Path, *, full: bool) -> int:
    """Write a generation as the next revision."""
    return export_snapshot(snapshot, target, written_at=WRITTEN_AT, full=full)


def contents(dataset: Dataset) -> dict[str, pl.DataFrame]:
    """All tables of a revision."""
    return {name: comparable(name, dataset.scan(name).collect()) for name in DATA_TABLES}


def comparable(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in one order, without the revision that wrote them, which the store cannot know."""
    wanted = [name for name in TABLES[table] if name != "revision"]
    return rows.select(wanted).sort(wanted if table == "rejects" else KEYS[table])


def _slots(day: int) -> list[int]:
    return [slot for slot in range(SLOTS) if day != 1 or slot not in HOLES]


def _bars(symbol: str, day: int, slots: list[int], value: float) -> pl.DataFrame:
    series = {"symbol": symbol, "price_type": "last", "volume": value}
    prices = dict.fromkeys(("open", "high", "low", "close"), 100.0)
    return _rows("bars", [{**series, **prices, "ts": _at(day, slot)} for slot in slots])


def _rows(kind: Kind, rows: list[dict[str, object]]) -> pl.DataFrame:
    schema = dict(ROWS[kind])
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def _at(day: int, slot: int) -> dt.datetime:
    return dt.datetime.combine(FIRST + dt.timedelta(day), OPEN, dt.UTC) + dt.timedelta(minutes=slot)
