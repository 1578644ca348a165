"""The law of the running session: after any sequence of rows, stepping equals a rebuild from scratch."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.errors import UnknownSymbolError
from engine.runtime.processor import DataProcessor, derive_session
from engine.runtime.quality_manager import DataQualityManager, assess_session
from engine.schema import BARS, QUOTES, TICKS
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

Edit = Callable[[SessionData], None]
UTC = dt.UTC


@dataclass(frozen=True)
class World:
    """A calendar, a base and what is derived from it, with instants worth trying."""

    calendar: str
    base: str
    derived: tuple[str, ...]
    instants: tuple[dt.datetime, ...]
    step: dt.timedelta
    base_from: str = "bars"
    about: tuple[tuple[str, object], ...] = ()  # other fields of its symbols


def around(*texts: str) -> tuple[dt.datetime, ...]:
    return tuple(dt.datetime.fromisoformat(text).replace(tzinfo=UTC) for text in texts)


WORLDS = {
    "equities": World("XNYS", "1m", ("5m", "15m", "1h", "4h", "1d", "2d", "1w", "2w", "1mo", "3mo", "1y"),
                      around("2024-06-27T13:25", "2024-06-27T19:50", "2024-06-28T13:30", "2024-07-01T13:30", "2024-07-03T16:55", "2024-07-05T13:30"), dt.timedelta(minutes=1)),
    "lunch": World("XHKG", "1m", ("5m", "30m", "1d"),
                   around("2024-06-27T01:28", "2024-06-27T03:55", "2024-06-27T05:00", "2024-06-28T01:30"), dt.timedelta(minutes=1)),
    "clock": World("24/7", "15m", ("1h", "2h", "4h", "1d"),
                   around("2024-10-26T22:30", "2024-10-27T00:15", "2024-10-27T01:30", "2024-10-27T23:45", "2024-03-31T00:45"), dt.timedelta(minutes=15),
                   about=(("align", "clock"), ("zone", "Europe/Berlin"))),
    "seconds": World("XNYS", "1s", ("30s", "5m", "1h", "1d"),
                     around("2024-06-27T13:30", "2024-06-27T13:31", "2024-06-27T14:29:50", "2024-06-28T13:30"), dt.timedelta(seconds=1)),
    "ticks": World("XNYS", "1m", ("5m", "1h", "1d"),
                   around("2024-06-27T13:29:30", "2024-06-27T13:35", "2024-06-27T19:59", "2024-06-28T13:30"), dt.timedelta(seconds=17), "ticks"),
    "quotes": World("XNYS", "1m", ("5m", "1d"),
                    around("2024-06-27T13:30", "2024-06-27T13:34", "2024-06-27T13:51", "2024-06-27T19:58", "2024-06-28T13:30"), dt.timedelta(seconds=29), "quotes"),
}  # fmt: skip


@st.composite
def edits(draw: st.DrawFn, world: World) -> list[tuple[str, Edit]]:
    return draw(st.lists(edit(world), min_size=1, max_size=8))


@st.composite
def edit(draw: st.DrawFn, world: World) -> tuple[str, Edit]:
    kind = draw(st.sampled_from(["rows"] * 6 + ["remove", "register", "as_of", "session"]))
    symbol = draw(st.sampled_from(["A", "B"]))
    if kind == "remove":
        return f"remove {symbol}", lambda session: session.remove_symbol(symbol)
    if kind == "register":
        return f"register {symbol}", lambda session: register(session, world, symbol)
    if kind == "as_of":
        at = draw(st.sampled_from(world.instants)) + draw(st.integers(0, 400)) * world.step
        return f"as of {at}", lambda session: session.set_as_of(max(at, session.snapshot().as_of or at))
    if kind == "session":
        date, active = draw(st.sampled_from(world.instants)).date(), draw(st.booleans())
        return f"session {date} {active}", lambda session: session.set_session(date, active=active)
    rows = draw(rows_of(world, symbol))
    provenance = draw(st.sampled_from(["source", "source", "backfill", "synthetic"]))
    return f"rows {rows.to_dicts()} {provenance}", lambda session: append(session, world, rows, provenance)


@st.composite
def rows_of(draw: st.DrawFn, world: World, symbol: str) -> pl.DataFrame:
    start = draw(st.sampled_from(world.instants))
    slots = draw(st.lists(st.integers(0, 12), min_size=1, max_size=8))
    values = st.sampled_from([1.1, 2.3, 3.7])
    rows = []
    for at, slot in enumerate(slots):
        price, other = draw(values), draw(values)
        row = {
            "symbol": symbol, "price_type": "last", "ts": start + slot * world.step, "open": price, "high": max(price, other),
            "low": min(price, other), "close": other, "volume": draw(st.sampled_from([0.0, 0.1, 7.0, None])),
            "vwap": draw(st.sampled_from([None, 1.7])), "trades": draw(st.sampled_from([None, 3])), "size": None,
            "seq": 0 if world.base_from == "quotes" else at, "price": price, **draw(sides(price, other)), "bid_size": 1.0, "ask_size": None,
        }  # fmt: skip
        rows.append(row)
    schema = {"bars": BARS, "ticks": TICKS, "quotes": QUOTES}[world.base_from]
    wide = pl.DataFrame(rows, infer_schema_length=None)
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in wide.columns]
    return wide.with_columns(absent).select(pl.col(name).cast(dtype) for name, dtype in schema.items())


@st.composite
def sides(draw: st.DrawFn, bid: float, ask: float) -> dict[str, float | None]:
    """Of both sides or of one: a correction may take away the only bid or ask of a slot, and with it bars."""
    which = draw(st.sampled_from(["both", "both", "bid", "ask", "none"]))
    return {"bid": bid if which in ("both", "bid") else None, "ask": ask if which in ("both", "ask") else None}


def register(session: SessionData, world: World, symbol: str) -> None:
    session.register_symbol_data(
        SymbolSessionData(
            symbol,
            world.calendar,
            world.base,
            world.derived,
            is_loaded=True,
            base_from=world.base_from,
            **dict(world.about),
        )
    )


def append(session: SessionData, world: World, rows: pl.DataFrame, provenance: str) -> None:
    interval = world.base if world.base_from == "bars" else None
    try:
        session.append(rows, world.base_from, interval, provenance=provenance)
    except UnknownSymbolError:
        assert rows["symbol"][0] not in session.get_active_symbols()


def tables(session: SessionData) -> dict[str, pl.DataFrame]:
    frames = {"bars": session.bars(), "gaps": session.gaps(), "quality": session.quality()}
    keys = {"bars": ["interval", "ts"], "gaps": ["interval", "gap_start"], "quality": ["interval", "session"]}
    return {name: frame.sort("symbol", "price_type", *keys[name]) for name, frame in frames.items()}


@pytest.mark.parametrize("name", WORLDS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_step_after_any_edits_equals_a_rebuild(name: str, data: st.DataObject) -> None:
    check(WORLDS[name], data.draw(edits(WORLDS[name])), data.draw(st.sets(st.integers(0, 7))))


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
@given(data=st.data())
@settings(max_examples=1_000, deadline=None)
def test_step_after_very_many_edits_equals_a_rebuild(name: str, data: st.DataObject) -> None:
    check(WORLDS[name], data.draw(edits(WORLDS[name])), data.draw(st.sets(st.integers(0, 7))))


def check(world: World, story: list[tuple[str, Edit]], unobserved: set[int]) -> None:
    """Steps after each edit (but some), and compares with a store that sees all the edits and steps once."""
    running = SessionData(as_of=min(world.instants))
    processor, quality = DataProcessor(running), DataQualityManager(running)
    register(running, world, "A")
    for at, (_, one) in enumerate(story):
        one(running)
        if at not in unobserved:
            processor.step()
            quality.step()
    processor.step()
    quality.step()
    rebuilt = SessionData(as_of=min(world.instants))
    register(rebuilt, world, "A")
    for _, one in story:
        one(rebuilt)
    derive_session(rebuilt)
    assess_session(rebuilt)
    ours, wanted = tables(running), tables(rebuilt)
    for name in wanted:
        assert_frame_equal(ours[name], wanted[name], check_exact=True)


@pytest.mark.parametrize("code", ["XNYS", "XLON", "XHKG", "CME_Equity"])
def test_steps_around_the_ends_of_sessions_equal_a_rebuild(code: str) -> None:
    """Of venues with a closing auction a day is over minutes after its last slot."""
    segments = calendar(code).segments(dt.date(2024, 11, 27), dt.date(2024, 12, 3))
    regular = segments.filter("regular")
    bars = [
        ("A", "last", start, 1.0, 1.0, 1.0, 1.0, 5.0, None, None, None)
        for begin, end in regular.select("segment_open", "segment_close").iter_rows()
        for start in pl.datetime_range(begin, end, "15m", closed="left", time_zone="UTC", eager=True)[3:]
    ]
    ends = pl.concat([segments["segment_close"], regular["segment_open"]]).unique().sort().to_list()
    instants = [end + dt.timedelta(minutes=minutes) for end in ends for minutes in (0, 5)]
    derived = ("1h", "1d", "2d", "1w", "1mo")
    running = SessionData(as_of=instants[0])
    processor, quality = DataProcessor(running), DataQualityManager(running)
    running.register_symbol_data(SymbolSessionData("A", code, "15m", derived, is_loaded=True))
    running.append(pl.DataFrame(bars, schema=dict(BARS), orient="row"), "bars", "15m")
    for instant in instants:
        running.set_as_of(max(instant, running.snapshot().as_of))
        processor.step()
        quality.step()
    rebuilt = SessionData(as_of=running.snapshot().as_of)
    rebuilt.register_symbol_data(SymbolSessionData("A", code, "15m", derived, is_loaded=True))
    rebuilt.append(pl.DataFrame(bars, schema=dict(BARS), orient="row"), "bars", "15m")
    derive_session(rebuilt)
    assess_session(rebuilt)
    ours, wanted = tables(running), tables(rebuilt)
    for name in wanted:
        assert_frame_equal(ours[name], wanted[name], check_exact=True)
    assert wanted["quality"].filter(interval="1d").height >= 3
