"""Expected, present and missing slots and the longest gap of every vendor file, against FACTS.json.

The facts were counted from the vendor's bytes without a line of this package. One convention differs: their longest
gap runs on over a pause between two windows of a day, ours ends with its segment. `longest` numbers the slots of a day's
windows through, as the facts do; where no pause is inside a gap both are the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import engine
import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.grid import SessionGrid
from engine.interval import Interval
from engine.quality.gaps import expected_slots, find_gaps, slot_runs
from engine.runtime.options import CalendarMap

from tests.vendor.files import CALENDARS, Fact, batches, day_facts, grid_of, windows

EUREX = str(CALENDARS.parents[1] / "calendars" / "eurex_index.toml")
VENUES = CalendarMap(
    "XNYS",
    (
        ("EURUSD*", "FX"), ("XAUUSD", "GOLD_CFD"), ("ES.*", "CME_INDEX"), ("GC.*", "COMEX_METALS"),
        ("BTC*", "24/7"), ("ETH*", "24/7"), ("ADA*", "24/7"), ("N225", "XTKS"), ("SX5E", "XETR"),
        ("YESBANK", "XBOM"), ("JUNIORBEES", "XBOM"), ("NIFTY50", "XBOM"), ("FESX.*", EUREX), ("DE30EUR", EUREX),
    ),
)  # fmt: skip
MEASURED = ("expected_slots", "present_slots", "missing_slots", "longest_gap_slots", "longest_gap_from")
ONE = pl.lit(1, pl.Int32).alias("series")


@pytest.fixture(scope="session")
def facts(vendor) -> list[Fact]:
    return day_facts(vendor)


@pytest.fixture(scope="session")
def frames(vendor, facts) -> dict[tuple[str, str | None], tuple[str, pl.DataFrame, int]]:
    """(symbol, rows, rejected) of each file, or of each contract of a file."""
    found = {}
    for path, batch in batches(sorted({vendor / fact["path"] for fact in facts})):
        name = str(path.relative_to(vendor))
        for (symbol,), rows in batch.frame.group_by("symbol", maintain_order=True):
            contract = batch.source_symbols[symbol].rsplit("_", 1)[-1]
            for key in (contract, None):
                found[name, key] = (symbol, rows, batch.rejects.height)
    return found


def numbered(fact: Fact, step: int) -> pl.DataFrame:
    """Every slot of a fact's windows with its start, numbered through from window to window."""
    return pl.concat([
        pl.select(ts=pl.datetime_range(opened, closed, f"{step}s", closed="left")) for opened, closed in windows(fact)
    ]).with_row_index("number")  # fmt: skip


def longest(lost: pl.DataFrame) -> tuple[int, dt.datetime | None]:
    """Length and first slot of the longest run of lost slots, the first of several."""
    streaks = lost.group_by(pl.col("number").cast(pl.Int64) - pl.int_range(pl.len()), maintain_order=True).agg(
        pl.len().alias("slots"), pl.col("ts").first()
    )
    if streaks.is_empty():
        return 0, None
    best = streaks.row(streaks["slots"].arg_max(), named=True)
    return best["slots"], best["ts"]


def measured(fact: Fact, slots: pl.DataFrame, lost: pl.DataFrame) -> Fact:
    """What FACTS.json says of a file, from its slots and those that hold no row."""
    length, start = longest(lost.sort("number"))
    local = None if start is None else start.astimezone(ZoneInfo(fact["time_zone"])).strftime("%Y-%m-%d %H:%M:%S")
    return dict(zip(MEASURED, (slots.height, slots.height - lost.height, lost.height, length, local), strict=True))


def step_of(fact: Fact) -> int:
    return 1 if "/second/" in fact["path"] else 60


def differing(facts: Iterable[Fact], counted: Iterable[Fact]) -> list[tuple[str, str | None, dict[str, tuple]]]:
    pairs = ((fact, {k: (fact[k], have[k]) for k in have if fact[k] != have[k]})
             for fact, have in zip(facts, counted, strict=True))  # fmt: skip
    return [(fact["path"], fact["contract"], other) for fact, other in pairs if other]


def gaps_on(grid: SessionGrid, rows: pl.DataFrame) -> pl.DataFrame:
    """Gaps of one file by the kernels: a slot is present when a row's stamp falls into it."""
    places = grid.place(rows["ts"], exact=False).filter(pl.col("slot").is_not_null())
    day = grid.table["session"][0]
    alive = pl.DataFrame({"first": [day], "last": [day]}).select(ONE, "first", "last")
    wanted = expected_slots(alive, grid)
    return find_gaps(wanted, slot_runs(places.select(ONE, "ordinal", "slot").unique().sort("ordinal", "slot")), grid)


def lost_slots(slots: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """The slots that lie in a gap."""
    spans = gaps.select("gap_start", "gap_end").sort("gap_start")
    return slots.join_asof(spans, left_on="ts", right_on="gap_start").filter(pl.col("ts") < pl.col("gap_end"))


def test_read_vendor_file_has_every_row_of_its_facts(facts, frames) -> None:
    short = []
    for fact in facts:
        _, rows, rejected = frames[fact["path"], fact["contract"]]
        if (rows["row"].n_unique(), rejected) != (fact["rows"], 0):
            short.append((fact["path"], fact["contract"], fact["rows"], rows["row"].n_unique(), rejected))
    assert short == []


def test_find_gaps_in_every_vendor_file_equals_its_facts(facts, frames) -> None:
    counted, joined = [], []
    for fact in facts:
        grid = grid_of(fact, str(Interval.of_seconds(step_of(fact))))
        gaps = gaps_on(grid, frames[fact["path"], fact["contract"]][1])
        slots = numbered(fact, step_of(fact))
        counted.append(measured(fact, slots, lost_slots(slots, gaps)))
        assert grid.due()["slots"].sum() == fact["expected_slots"]
        assert gaps["bar_count"].sum() == fact["missing_slots"]
        if (gaps["bar_count"].max() or 0) != fact["longest_gap_slots"]:
            joined.append(touches_a_pause(gaps, fact))
    assert differing(facts, counted) == []
    assert joined == [True] * 4  # four contracts were silent on both sides of a pause
    assert len(counted) == 255


def touches_a_pause(gaps: pl.DataFrame, fact: Fact) -> bool:
    """Whether a gap ends at the close of one window and another begins at the next one's open."""
    spans = windows(fact)
    ends, starts = set(gaps["gap_end"]), set(gaps["gap_start"])
    return any(before[1] in ends and after[0] in starts for before, after in pairwise(spans))


def test_place_every_vendor_bar_lies_on_a_slot_start(facts, frames) -> None:
    for fact in facts:
        grid = grid_of(fact, str(Interval.of_seconds(step_of(fact))))
        ts = frames[fact["path"], fact["contract"]][1]["ts"]
        assert grid.place(ts).equals(grid.place(ts, exact=False)), fact["path"]


def test_segments_of_real_calendars_in_every_data_day_equal_the_windows(facts, frames) -> None:
    differ = []
    for fact in facts:
        spans = windows(fact)
        symbol = qualified(fact, frames)
        day = dt.date.fromisoformat(fact["windows"][0][0][:10])
        midnight = dt.datetime.combine(day, dt.time(), ZoneInfo(fact["time_zone"])).astimezone(dt.UTC)
        found = clipped(calendar_segments(VENUES.of(symbol), day), midnight, midnight + dt.timedelta(days=1))
        if [tuple(one) for one in spans] != found:
            differ.append((fact["path"], spans, found))
    assert differ == []


def calendar_segments(code: str, day: dt.date) -> pl.DataFrame:
    found = calendar(code).segments(day - dt.timedelta(days=4), day + dt.timedelta(days=4))
    return found.filter(pl.col("regular"))


def clipped(segments: pl.DataFrame, start: dt.datetime, end: dt.datetime) -> list[tuple[dt.datetime, dt.datetime]]:
    """The part of each segment that lies in one data day; segments that touch are one."""
    cut = segments.select(
        pl.max_horizontal("segment_open", pl.lit(start)).alias("open"),
        pl.min_horizontal("segment_close", pl.lit(end)).alias("close"),
    ).filter(pl.col("open") < pl.col("close"))
    merged: list[tuple[dt.datetime, dt.datetime]] = []
    for opened, closed in cut.rows():
        if merged and merged[-1][1] == opened:
            opened = merged.pop()[0]  # noqa: PLW2901
        merged.append((opened, closed))
    return merged


def qualified(fact: Fact, frames) -> str:
    return frames[fact["path"], fact["contract"]][0]


@pytest.fixture(scope="session")
def store_of(vendor, facts) -> Callable[[str], engine.SessionData]:
    """Every file of the facts of one interval in one store, each symbol on its venue's calendar."""

    @cache
    def loaded(step: str) -> engine.SessionData:
        paths = {vendor / fact["path"] for fact in facts if step_of(fact) == Interval.parse(step).seconds}
        return engine.load(sorted(paths), VENUES, interval=step, derive=["1d"])

    return loaded


@pytest.mark.parametrize(("step", "bars"), [("1m", 370), pytest.param("1s", 65, marks=pytest.mark.slow)])
def test_load_on_real_calendars_counts_in_daily_bars_what_quality_counts(step, bars, store_of) -> None:
    key = ["symbol", "price_type", "session"]
    quality = store_of(step).quality().filter((pl.col("interval") == step) & (pl.col("present") > 0)).sort(key)
    days = store_of(step).snapshot().tables()["bars"].filter(pl.col("interval") == "1d").sort(key)
    assert days.select(key).equals(quality.select(key))
    # The presence of seconds is judged at one minute.
    assert (days["n_expected"] * 60 == quality["expected"] * Interval.parse(step).seconds).all()
    assert step == "1s" or (days["n_base"] == quality["present"]).all()
    assert days.height == bars


@pytest.mark.parametrize("step", ["1m", pytest.param("1s", marks=pytest.mark.slow)])
def test_load_on_real_calendars_loses_exactly_the_slots_of_the_facts(step, facts, store_of, frames) -> None:
    asked = [fact for fact in facts if step_of(fact) == Interval.parse(step).seconds]
    gaps, quality = (
        dict(frame.filter(pl.col("interval") == step).group_by("symbol", "price_type"))
        for frame in (store_of(step).gaps(), store_of(step).quality())
    )
    counted = []
    for fact in asked:
        symbol = qualified(fact, frames)
        slots = numbered(fact, step_of(fact))
        sides = ("last",) if fact["path"].endswith("_trade.zip") else ("bid", "ask")
        lost = slots
        for side in sides:
            lost = lost_in_store(lost, gaps.get((symbol, side)), quality.get((symbol, side)), symbol)
        counted.append(measured(fact, slots, lost))
    assert differing(asked, counted) == []
    assert len(counted) == {"1m": 213, "1s": 42}[step]


def lost_in_store(
    slots: pl.DataFrame, gaps: pl.DataFrame | None, quality: pl.DataFrame | None, symbol: str
) -> pl.DataFrame:
    """Those of some slots that a series lacks: in a stored gap, or in a session outside its symbol's lifetime."""
    if quality is None or slots.is_empty():
        return slots
    code = VENUES.of(symbol)
    day = slots["ts"][0].date()
    spans = calendar_segments(code, day).join(quality.select("session").unique(), on="session", how="anti")
    outside = spans.select(pl.col("segment_open").alias("gap_start"), pl.col("segment_close").alias("gap_end"))
    stored = outside if gaps is None else pl.concat([gaps.select("gap_start", "gap_end"), outside])
    return lost_slots(slots, stored).select(slots.columns)
