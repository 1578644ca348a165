"""Simulated sessions: what is promised about the feed, the clean bars and the truth, checked in plain Python."""

from __future__ import annotations

import csv
import datetime as dt
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from engine.errors import ParameterError, UnknownSymbolError
from engine.grid import GridSpec, SessionGrid
from engine.schema import BARS, QUOTES, SEGMENTS, TICKS, conform
from engine.simulation.faults import EMPTY_KINDS, KINDS, SPAN_KINDS, FaultPlan
from engine.simulation.feed import FEED, TRUTH, write_csv
from engine.simulation.sessions import Instrument, Market, Simulation, simulate
from engine.simulation.ticks import simulate_ticks
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

KEY = ("symbol", "ts")
STEP = {"1m": 60, "5m": 300, "1h": 3600}


@dataclass(frozen=True)
class Venue:
    zone: str
    spans: tuple[tuple[str, str, str], ...]
    weekdays: bool = True


NEW_YORK = Venue("America/New_York", (("RTH", "09:30", "16:00"),))
SHANGHAI = Venue("Asia/Shanghai", (("AM", "09:30", "11:30"), ("PM", "13:00", "15:00")))
EXTENDED = Venue("America/New_York", (("PRE", "08:00", "09:30"), ("RTH", "09:30", "16:00"), ("POST", "16:00", "18:00")))
ALWAYS = Venue("UTC", (("ALL", "00:00", "24:00"),), weekdays=False)
HALF_DAY = dt.date(2024, 3, 12)  # the third session of NEW_YORK, two days into summer time


def segments_of(venue: Venue, sessions: int, first: dt.date = dt.date(2024, 3, 8)) -> pl.DataFrame:
    rows, day = [], first
    while len({row[0] for row in rows}) < sessions:
        if day.weekday() < 5 or not venue.weekdays:
            rows += [segment(venue, day, position) for position in range(len(venue.spans))]
        day += dt.timedelta(days=1)
    return pl.DataFrame(rows, schema=dict(SEGMENTS), orient="row")


def segment(venue: Venue, day: dt.date, position: int) -> tuple:
    label, opens, closes = venue.spans[position]
    if venue is NEW_YORK and day == HALF_DAY:
        closes = "13:00"
    ordinal = (day - dt.date(1970, 1, 1)).days * 16 + position
    return (day, ordinal, label, instant(venue, day, opens), instant(venue, day, closes), label not in {"PRE", "POST"})


def instant(venue: Venue, day: dt.date, clock: str) -> dt.datetime:
    hour, minute = map(int, clock.split(":"))
    midnight = dt.datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(venue.zone))
    return (midnight + dt.timedelta(hours=hour, minutes=minute)).astimezone(dt.UTC)


def grid_of(venue: Venue, sessions: int = 5, interval: str = "1m", **spec) -> SessionGrid:
    return SessionGrid.build(segments_of(venue, sessions), interval, GridSpec("TEST", **spec))


def slots_of(grid: SessionGrid) -> list[tuple[dt.date, int, dt.datetime, dt.datetime]]:
    """Session, segment, start and end of each expected slot, by counting."""
    step, slots = dt.timedelta(seconds=STEP[str(grid.interval)]), []
    for session, ordinal, _, opens, closes, regular in grid.segments.rows():
        start = opens
        while regular and start < closes:
            slots.append((session, ordinal, start, min(start + step, closes)))
            start += step
    return slots


LIQUID = Instrument("LIQ", price=150, trades_per_minute=200)
MEDIUM = Instrument("MID", price=30, trades_per_minute=12, volatility=0.01, tick=0.05)
THIN = Instrument("THIN", price=8, trades_per_minute=1.5, trade_size=300, tick=0.25)
MARKET = Market((LIQUID, MEDIUM, THIN), seed=7)
PLAN = FaultPlan(**dict.fromkeys(KINDS, 1) | {"bad_row": 5, "late": 4, "correction": 3, "off_grid": 3})


@pytest.fixture(scope="module")
def grid() -> SessionGrid:
    return grid_of(NEW_YORK)


@pytest.fixture(scope="module")
def simulation(grid) -> Simulation:
    return simulate(grid, MARKET, PLAN)


def faults(simulation: Simulation, *kinds: str) -> list[dict]:
    return simulation.truth.filter(pl.col("kind").is_in(kinds)).to_dicts()


def row_at_fault(simulation: Simulation, fault: dict) -> tuple[int, dict]:
    """The feed's row with that number, and its place in order of arrival."""
    found = simulation.rows.with_row_index().filter(pl.col("fault") == fault["fault"]).to_dicts()
    assert len(found) == 1
    return found[0].pop("index"), found[0]


def arrivals(simulation: Simulation, symbol: str, ts: dt.datetime) -> list[tuple[int, dict]]:
    found = simulation.rows.with_row_index().filter((pl.col("symbol") == symbol) & (pl.col("ts") == ts)).to_dicts()
    return [(row.pop("index"), row) for row in found]


def clean_bar(simulation: Simulation, symbol: str, ts: dt.datetime) -> dict:
    return simulation.clean.filter((pl.col("symbol") == symbol) & (pl.col("ts") == ts)).row(0, named=True)


def bar_of(row: dict) -> dict:
    return {name: row[name] for name in BARS}


# --- the same numbers again -----------------------------------------------------------------------------------------


def test_simulate_same_seed_repeats(grid, simulation):
    again = simulate(grid, MARKET, PLAN)
    for name in ("rows", "clean", "truth", "no_trade"):
        assert_frame_equal(getattr(again, name), getattr(simulation, name))


def test_simulate_other_seed_differs(grid, simulation):
    other = simulate(grid, replace(MARKET, seed=8), PLAN)
    assert not other.clean.equals(simulation.clean)
    assert not other.truth.equals(simulation.truth)


def test_simulate_in_another_process_repeats(tmp_path):
    # Names are hashed into seeds: that must not be Python's own hash, which differs from process to process.
    program = (
        "from engine.simulation.sessions import Market, stream;"
        "print(Market.of(3, 5), stream(5, 'LIQ', 'walk').standard_normal(3).tolist())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert "S0002" in printed.pop()


def test_simulate_with_another_symbol_leaves_the_others(grid):
    few = simulate(grid, Market((LIQUID, THIN), seed=7)).clean
    many = simulate(grid, Market((MEDIUM, THIN, LIQUID), seed=7)).clean
    for symbol in ("LIQ", "THIN"):
        assert_frame_equal(many.filter(pl.col("symbol") == symbol), few.filter(pl.col("symbol") == symbol))


def test_simulate_more_sessions_continues_the_same_path():
    short, long = (simulate(grid_of(NEW_YORK, sessions), MARKET).clean for sessions in (2, 4))
    assert short.height < long.height
    assert_frame_equal(long.join(short.select(KEY), on=KEY, how="semi", maintain_order="left"), short)


def test_simulate_faults_but_halts_leave_clean_as_it_is(grid, simulation):
    assert_frame_equal(simulate(grid, MARKET, replace(PLAN, halt=0)).clean, simulate(grid, MARKET).clean)
    assert not simulation.clean.equals(simulate(grid, MARKET).clean)


def test_market_of_more_symbols_keeps_the_first():
    assert Market.of(40, seed=3).instruments[:10] == Market.of(10, seed=3).instruments
    assert Market.of(["AAA", "BBB"], seed=3).instruments[1] == Market.of(["BBB"], seed=3).instruments[0]


def test_market_of_many_has_liquid_and_thin_names():
    rates = sorted(instrument.trades_per_minute for instrument in Market.of(200).instruments)
    assert rates[10] < 1.5
    assert 4 < rates[100] < 16
    assert rates[-10] > 60


# --- the clean bars -------------------------------------------------------------------------------------------------


def test_simulate_returns_the_promised_columns(simulation):
    assert simulation.rows.schema == dict(FEED)
    assert simulation.clean.schema == dict(BARS)
    assert simulation.truth.schema == dict(TRUTH)
    assert list(FEED)[: len(BARS)] == list(BARS)
    assert simulation.clean["price_type"].unique().to_list() == ["last"]


@pytest.mark.parametrize("interval", ["1m", "5m", "1h"])
def test_simulate_clean_bars_are_sane(interval):
    for bar in simulate(grid_of(NEW_YORK, 4, interval), MARKET).clean.to_dicts():
        assert 0 < bar["low"] <= min(bar["open"], bar["close"])
        assert max(bar["open"], bar["close"]) <= bar["high"]
        assert bar["low"] <= bar["vwap"] <= bar["high"]
        assert bar["volume"].is_integer()
        assert bar["volume"] >= bar["trades"] >= 1
        if bar["trades"] == 1:
            assert bar["low"] == bar["high"]


def test_simulate_prices_are_decimals_of_the_tick(simulation):
    ticks = {"LIQ": 100, "MID": 20, "THIN": 4}
    for bar in simulation.clean.to_dicts():
        for name in ("open", "high", "low", "close"):
            steps = round(bar[name] * ticks[bar["symbol"]])
            assert bar[name] == round(steps / ticks[bar["symbol"]], 2)
            assert len(repr(bar[name]).split(".")[1]) <= 2


def test_simulate_penny_price_never_reaches_zero(grid):
    penny = Instrument("PENNY", price=0.03, volatility=0.2)
    assert simulate(grid, Market((penny,))).clean["low"].min() == 0.01


@pytest.mark.parametrize("venue", [NEW_YORK, SHANGHAI, ALWAYS, EXTENDED])
def test_simulate_slot_is_traded_or_not_and_only_that(venue):
    grid = grid_of(venue, 3, "5m")
    simulation = simulate(grid, Market((LIQUID, replace(THIN, trades_per_minute=0.2)), seed=1))
    traded, untraded = (set(frame.select(KEY).rows()) for frame in (simulation.clean, simulation.no_trade))
    expected = {(symbol, start) for symbol in ("LIQ", "THIN") for _, _, start, _ in slots_of(grid)}
    assert traded | untraded == expected
    assert not traded & untraded
    assert len(untraded) > 50
    assert {symbol for symbol, _ in untraded} == {"THIN"}


def test_simulate_early_close_and_summer_time_have_their_slots(simulation):
    liquid = simulation.clean.filter((pl.col("symbol") == "LIQ") & pl.col("ts").dt.date().is_in([HALF_DAY]))
    assert liquid["ts"].max() == dt.datetime(2024, 3, 12, 16, 59, tzinfo=dt.UTC)
    assert liquid["ts"].min() == dt.datetime(2024, 3, 12, 13, 30, tzinfo=dt.UTC)
    assert simulation.clean["ts"].min() == dt.datetime(2024, 3, 8, 14, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(("venue", "length"), [(NEW_YORK, 390), (SHANGHAI, 120)])
def test_simulate_volume_is_u_shaped_in_each_segment(venue, length):
    grid = grid_of(venue, 8)
    volume = {row["ts"]: row["volume"] for row in simulate(grid, Market((LIQUID,))).clean.to_dicts()}
    by_minute = defaultdict(list)
    for opens, closes in grid.segments.select("segment_open", "segment_close").rows():
        if (closes - opens).seconds == length * 60:
            for minute in range(length):
                by_minute[minute].append(volume[opens + dt.timedelta(minutes=minute)])
    mean = [sum(by_minute[minute]) / len(by_minute[minute]) for minute in range(length)]
    tenth = length // 10
    first, middle, last = (sum(mean[at : at + tenth]) for at in (0, (length - tenth) // 2, length - tenth))
    assert first > 2 * middle
    assert last > 1.7 * middle
    assert first > last


def test_simulate_thin_name_lacks_minutes_at_the_rate_of_its_trades(grid):
    flat = simulate(grid, MARKET).no_trade.filter(pl.col("symbol") == "THIN").height
    total = len(slots_of(grid))
    # 1.5 trades a minute over the U of the day: between e^-1.5 (no U at all) and e^-0.975 (always noon) have none.
    assert 0.2 < flat / total < 0.4


def returns_of(simulation: Simulation, symbol: str) -> dict[dt.datetime, float]:
    closes = simulation.clean.filter(pl.col("symbol") == symbol).select("ts", "close").rows()
    return {ts: after / before - 1 for (_, before), (ts, after) in pairwise(closes)}


def correlation(left: dict[dt.datetime, float], right: dict[dt.datetime, float]) -> float:
    times = sorted(left.keys() & right.keys())
    return (
        pl.DataFrame({"a": [left[t] for t in times], "b": [right[t] for t in times]}).select(pl.corr("a", "b")).item()
    )


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, -0.1, 0.1), (0.5, 0.4, 0.6), (1.0, 0.9, 1.0)])
def test_simulate_returns_share_the_market(grid, share, low, high):
    pair = (replace(LIQUID, symbol="A"), replace(LIQUID, symbol="B"))
    simulation = simulate(grid, Market(pair, correlation=share))
    assert low < correlation(returns_of(simulation, "A"), returns_of(simulation, "B")) < high


def test_simulate_night_moves_the_price_and_an_open_market_does_not():
    def jumps(venue: Venue) -> list[float]:
        grid = grid_of(venue, 30, "5m")
        bars = {row["ts"]: row for row in simulate(grid, Market((LIQUID,))).clean.to_dicts()}
        edges = [(a[2], b[2]) for a, b in pairwise(slots_of(grid)) if a[0] != b[0]]
        return [abs(bars[after]["open"] / bars[before]["close"] - 1) for before, after in edges]

    nights, midnights = jumps(NEW_YORK), jumps(ALWAYS)
    assert 0.003 < sum(nights) / len(nights) < 0.02
    assert max(midnights) < 0.0005


# --- the faults -----------------------------------------------------------------------------------------------------

VENUES = st.sampled_from([NEW_YORK, SHANGHAI, EXTENDED, ALWAYS])


@st.composite
def cases(draw) -> tuple[SessionGrid, Simulation, FaultPlan]:
    venue = draw(VENUES)
    few, some = st.integers(0, 1), st.integers(0, 6)
    # Five sessions of three symbols hold one outage, two absences, two halts and some runs; not much more.
    counts = {kind: draw(few if kind == "outage" or kind.startswith("missing") else some) for kind in KINDS}
    counts |= {kind: min(counts[kind], 2) for kind in ("absent_session", "halt")}
    if venue is ALWAYS:
        counts["out_of_session"] = 0
    plan = FaultPlan(**counts, longest_run=draw(st.integers(2, 20)))
    grid = grid_of(venue, 5, draw(st.sampled_from(["1m", "5m"])))
    return grid, simulate(grid, replace(MARKET, seed=draw(st.integers(0, 2**63))), plan), plan


def spans_of(simulation: Simulation, kinds: tuple[str, ...]) -> dict[str, list[tuple[dt.datetime, dt.datetime]]]:
    spans = defaultdict(list)
    for fault in faults(simulation, *kinds):
        spans[fault["symbol"]].append((fault["start"], fault["end"]))
    return spans


def covered(spans: list[tuple[dt.datetime, dt.datetime]], ts: dt.datetime) -> bool:
    return any(start <= ts < end for start, end in spans)


@given(cases())
@settings(max_examples=25, deadline=None)
def test_simulate_rows_without_faults_are_clean_without_spans(case):
    _, simulation, _ = case
    late = {fault["fault"] for fault in faults(simulation, "late")}
    left = [row for row in simulation.rows.to_dicts() if row["fault"] is None or row["fault"] in late]
    repeated = {
        (f["symbol"], f["start"]) for f in faults(simulation, "conflict", "correction")
    }  # their wrong row is at fault, the right one is left
    lost = spans_of(simulation, EMPTY_KINDS)
    wanted = [bar for bar in simulation.clean.to_dicts() if not covered(lost[bar["symbol"]], bar["ts"])]
    assert sorted((bar_of(row) for row in left), key=lambda bar: (bar["symbol"], bar["ts"])) == sorted(
        wanted, key=lambda bar: (bar["symbol"], bar["ts"])
    )
    assert repeated <= {(bar["symbol"], bar["ts"]) for bar in wanted}


@given(cases())
@settings(max_examples=25, deadline=None)
def test_simulate_truth_and_clean_tell_every_gap(case):
    grid, simulation, _ = case
    slots = slots_of(grid)
    usable = usable_rows(simulation, grid)
    lost = spans_of(simulation, EMPTY_KINDS)
    clean = set(simulation.clean.select(KEY).rows())
    for symbol in MARKET.symbols:
        found = gaps_of(slots, {ts for name, ts in usable if name == symbol})
        told = {ts for name, ts in clean if name == symbol and not covered(lost[symbol], ts)}
        assert found == gaps_of(slots, told)
        exact = [fault for fault in faults(simulation, *EMPTY_KINDS) if fault["symbol"] == symbol]
        for fault in exact:
            if fault["kind"] not in {"outage", "absent_session"}:
                assert (fault["start"], fault["end"], fault["bar_count"]) in found
        absent = [fault for fault in exact if fault["kind"] == "absent_session"]
        for fault in absent:
            assert (
                sum(count for start, _, count in found if fault["start"] <= start < fault["end"]) == fault["bar_count"]
            )


def usable_rows(simulation: Simulation, grid: SessionGrid) -> dict[tuple[str, dt.datetime], dict]:
    """What a careful reader keeps: sane rows on the grid, the last one of each key."""
    starts = {start for _, _, start, _ in slots_of(grid)}
    rows = {}
    for row in simulation.rows.to_dicts():
        prices = [row[name] for name in ("open", "high", "low", "close")]
        if row["ts"] not in starts or None in prices or min(prices) <= 0 or row["volume"] < 0:
            continue
        if row["low"] <= min(row["open"], row["close"]) and max(row["open"], row["close"]) <= row["high"]:
            rows[row["symbol"], row["ts"]] = bar_of(row)
    return rows


def gaps_of(slots: list[tuple], present: set[dt.datetime]) -> list[tuple[dt.datetime, dt.datetime, int]]:
    gaps, before = [], None
    for session, ordinal, start, end in slots:
        if start in present:
            before = None
            continue
        if before == (session, ordinal):
            gaps[-1] = (gaps[-1][0], end, gaps[-1][2] + 1)
        else:
            gaps.append((start, end, 1))
        before = (session, ordinal)
    return gaps


@given(cases())
@settings(max_examples=15, deadline=None)
def test_simulate_last_row_of_each_key_is_the_clean_bar(case):
    grid, simulation, _ = case
    clean = {(bar["symbol"], bar["ts"]): bar for bar in simulation.clean.to_dicts()}
    for key, bar in usable_rows(simulation, grid).items():
        assert bar == clean[key]


@given(cases())
@settings(max_examples=15, deadline=None)
def test_simulate_truth_counts_what_was_planned(case):
    grid, simulation, plan = case
    numbers = simulation.truth.group_by("kind").agg(pl.col("fault").n_unique())
    assert dict(numbers.rows()) == {kind: count for kind, count in plan.counts().items() if count}
    clean = Counter(simulation.clean.select(KEY).rows())
    slots = slots_of(grid)
    for fault in simulation.truth.to_dicts():
        inside = [start for _, _, start, _ in slots if fault["start"] <= start < fault["end"]]
        assert fault["session"] in {session for session, _, _, _ in slots}
        if fault["kind"] in {"off_grid", "out_of_session"}:
            assert fault["bar_count"] == 0
            continue
        assert fault["bar_count"] == len(inside)
        if fault["kind"] in SPAN_KINDS:
            assert fault["rows"] == sum(clean[fault["symbol"], start] for start in inside)


@given(cases())
@settings(max_examples=15, deadline=None)
def test_simulate_faults_of_one_symbol_never_touch(case):
    _, simulation, _ = case
    spans = simulation.truth.filter(pl.col("kind").is_in(["off_grid", "out_of_session"]).not_()).to_dicts()
    by_symbol = defaultdict(list)
    for fault in spans:
        by_symbol[fault["symbol"]].append((fault["start"], fault["end"], fault["session"], fault["kind"]))
    for listed in by_symbol.values():
        for before, after in pairwise(sorted(listed)):
            assert before[1] <= after[0]
            if before[2] == after[2]:
                assert before[1] < after[0] or before[3] == after[3] == "absent_session"


def test_simulate_rows_come_in_order_of_arrival(simulation):
    arrived = simulation.rows["arrived"].to_list()
    assert arrived == sorted(arrived)
    moved = {fault["fault"] for fault in faults(simulation, "late", "duplicate", "off_grid", "out_of_session")}
    for row in simulation.rows.to_dicts():
        if row["ts"] is not None and row["fault"] not in moved:
            assert row["arrived"] >= row["ts"] + dt.timedelta(minutes=1)


def test_simulate_runs_lie_where_their_kind_says(grid, simulation):
    edges = {
        session: (opens, closes)
        for session, opens, closes in grid.segments.select("session", "segment_open", "segment_close").rows()
    }
    for fault in faults(simulation, *SPAN_KINDS):
        opens, closes = edges[fault["session"]]
        touching = (fault["start"] == opens, fault["end"] == closes)
        wanted = {"missing_start": (True, False), "missing_end": (False, True), "absent_session": (True, True)}
        assert touching == wanted.get(fault["kind"], (False, False))


def test_simulate_outage_hits_everyone_at_once(simulation):
    outage = faults(simulation, "outage")
    assert sorted(fault["symbol"] for fault in outage) == ["LIQ", "MID", "THIN"]
    assert len({(fault["fault"], fault["start"], fault["end"]) for fault in outage}) == 1
    assert simulation.rows.filter(
        pl.col("ts").is_between(outage[0]["start"], outage[0]["end"], closed="left")
    ).is_empty()
    assert max(fault["rows"] for fault in outage) == outage[0]["bar_count"]


def test_simulate_absent_session_is_never_the_first_or_last(grid):
    dates = grid.segments["session"].unique().sort().to_list()
    absent = faults(simulate(grid, MARKET, FaultPlan(absent_session=9)), "absent_session")
    assert {fault["session"] for fault in absent} == set(dates[1:-1])


@pytest.mark.parametrize("seed", range(6))
def test_simulate_halt_reopens_away(grid, seed):
    simulation = simulate(grid, replace(MARKET, seed=seed), FaultPlan(halt=1))
    (halt,) = faults(simulation, "halt")
    assert halt["symbol"] in {"LIQ", "MID"}
    assert halt["rows"] == 0
    bars = simulation.clean.filter(pl.col("symbol") == halt["symbol"]).to_dicts()
    before = next(bar for bar in bars if bar["ts"] == halt["start"] - dt.timedelta(minutes=1))
    after = next(bar for bar in bars if bar["ts"] == halt["end"])
    jump = after["open"] / before["close"] - 1
    assert 0.02 < abs(jump) < 0.1
    assert f"reopens {'+' if jump > 0 else '-'}" in halt["note"]
    silent = {bar["ts"] for bar in bars} | set(simulation.no_trade.filter(pl.col("symbol") == halt["symbol"])["ts"])
    assert not any(halt["start"] <= ts < halt["end"] for ts in silent)


def test_simulate_duplicate_comes_twice_with_the_same_values(simulation):
    for fault in faults(simulation, "duplicate"):
        place, row = row_at_fault(simulation, fault)
        (first, original), (second, _) = arrivals(simulation, fault["symbol"], fault["start"])
        assert (first, second) == (min(first, place), place)
        assert bar_of(original) == bar_of(row) == clean_bar(simulation, fault["symbol"], fault["start"])


@pytest.mark.parametrize("kind", ["conflict", "correction"])
def test_simulate_correction_brings_the_right_values_later(simulation, kind):
    for fault in faults(simulation, kind):
        (_, wrong), (_, right) = arrivals(simulation, fault["symbol"], fault["start"])
        assert (wrong["fault"], right["fault"]) == (fault["fault"], None)
        truth = clean_bar(simulation, fault["symbol"], fault["start"])
        assert bar_of(right) == truth
        for name in ("open", "high", "low", "close", "volume", "vwap"):
            assert wrong[name] > truth[name]
        slots_later = (right["arrived"] - fault["end"]) // dt.timedelta(minutes=1)
        assert slots_later == 0 if kind == "conflict" else slots_later >= 1


def test_simulate_late_row_comes_after_its_successor(simulation):
    for fault in faults(simulation, "late"):
        place, row = row_at_fault(simulation, fault)
        assert bar_of(row) == clean_bar(simulation, fault["symbol"], fault["start"])
        ((successor, _), *_) = arrivals(simulation, fault["symbol"], fault["end"])
        assert successor < place


def test_simulate_off_grid_row_lies_inside_a_slot(simulation):
    for fault in faults(simulation, "off_grid"):
        _, row = row_at_fault(simulation, fault)
        assert fault["start"] < row["ts"] < fault["end"]
        assert row["ts"].microsecond == 0
        assert len(arrivals(simulation, fault["symbol"], fault["start"])) == 1


@pytest.mark.parametrize("venue", [NEW_YORK, SHANGHAI, EXTENDED])
def test_simulate_out_of_session_row_lies_in_no_segment(venue):
    grid = grid_of(venue)
    simulation = simulate(grid, MARKET, FaultPlan(out_of_session=12))
    spans = grid.segments.select("session", "segment_open", "segment_close").rows()
    keys = set()
    for fault in faults(simulation, "out_of_session"):
        _, row = row_at_fault(simulation, fault)
        keys.add((row["symbol"], row["ts"]))
        assert row["ts"] == fault["start"]
        assert not any(opens <= row["ts"] < closes for _, opens, closes in spans)
        distance = {session: [] for session, _, _ in spans}
        for session, opens, closes in spans:
            distance[session] += [abs(row["ts"] - opens), abs(row["ts"] - closes)]
        assert fault["session"] == min(distance, key=lambda session: min(distance[session]))
    assert len(keys) == 12


def test_simulate_bad_rows_are_what_the_door_refuses(simulation):
    raw = simulation.rows.drop("fault", "arrived", "text")
    good, bad = conform(raw, "bars", {name: pl.col(name) for name in BARS}, "feed")
    reasons = {
        "high below low": "high below low",
        "price of zero": "open: not above zero",
        "negative volume": "volume: negative",
        "unreadable price": "close: missing or unreadable",
        "unreadable time": "ts: missing or unreadable",
    }
    assert good.height + bad.height == simulation.rows.height
    refused = {row["row"] - 1: row["reason"] for row in bad.to_dicts()}
    for fault in faults(simulation, "bad_row"):
        place, _ = row_at_fault(simulation, fault)
        assert reasons.pop(fault["note"]) in refused.pop(place)
    assert not refused
    assert not reasons


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Instrument(""), "symbol: received ''"),
        (lambda: Instrument("../up"), "symbol: received '../up'"),
        (lambda: Instrument("A", price=0), "price of A: received 0"),
        (lambda: Instrument("A", price=float("nan")), "price of A: received nan"),
        (lambda: Instrument("A", trade_size=0.5), "trade_size of A: received 0.5"),
        (lambda: Market(()), "instruments: received none"),
        (lambda: Market((LIQUID, LIQUID)), "instruments: received LIQ, LIQ"),
        (lambda: Market((LIQUID,), seed=-1), "seed: received -1"),
        (lambda: Market((LIQUID,), correlation=1.5), "correlation: received 1.5"),
        (lambda: FaultPlan(halt=-1), "halt: received -1"),
        (lambda: FaultPlan(shortest_run=9, longest_run=8), "longest_run: received 8; valid: from 9"),
    ],
)
def test_make_with_bad_value_says_which(make, text):
    with pytest.raises(ParameterError) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (FaultPlan(outage=6), "outage: received 6; valid: up to 5"),
        (FaultPlan(absent_session=10), "absent_session: received 10; valid: up to 9"),
        (FaultPlan(halt=11), "halt: received 11; valid: up to 10"),
        (FaultPlan(missing_middle=16), "missing_middle: received 16; valid: up to 15"),
        (FaultPlan(late=9_999), "late"),
        (FaultPlan(out_of_session=31), "out_of_session: received 31; valid: up to 30"),
    ],
)
def test_simulate_plan_without_room_says_how_much_there_is(grid, plan, text):
    with pytest.raises(ParameterError) as caught:
        simulate(grid, MARKET, plan)
    assert text in str(caught.value)


def test_simulate_out_of_session_where_nothing_closes_is_refused():
    with pytest.raises(ParameterError, match="out_of_session: received 1; valid: up to 0"):
        simulate(grid_of(ALWAYS), MARKET, FaultPlan(out_of_session=1))


def test_simulate_daily_grid_is_refused(grid):
    with pytest.raises(ParameterError, match="grid: received one of 1d"):
        simulate(grid_of(NEW_YORK, interval="1d"), MARKET)


def test_simulate_without_session_is_refused(grid):
    empty = SessionGrid.build(segments_of(NEW_YORK, 1).clear(), "1m", GridSpec("TEST"))
    with pytest.raises(ParameterError, match="at least one session"):
        simulate(empty, MARKET)


def test_simulate_symbol_that_never_trades_has_no_row(grid):
    silent = Instrument("SILENT", trades_per_minute=0)
    simulation = simulate(grid, Market((LIQUID, silent)), FaultPlan(outage=2))
    assert simulation.rows["symbol"].unique().to_list() == ["LIQ"]
    assert simulation.no_trade.filter(pl.col("symbol") == "SILENT").height == len(slots_of(grid))
    assert simulate_ticks(simulation, grid, Market((LIQUID, silent)), ["SILENT"]).ticks.is_empty()


# --- files ----------------------------------------------------------------------------------------------------------


def test_write_csv_holds_every_row_in_order_of_arrival(simulation, tmp_path):
    paths = write_csv(simulation.rows, tmp_path / "feed")
    assert [path.name for path in paths] == ["LIQ.csv", "MID.csv", "THIN.csv"]
    texts = []
    for path in paths:
        written = list(csv.DictReader(path.read_text().splitlines()))
        rows = simulation.rows.filter(pl.col("symbol") == path.stem).to_dicts()
        assert len(written) == len(rows)
        for cells, row in zip(written, rows, strict=True):
            assert list(cells) == ["ts", "open", "high", "low", "close", "volume", "vwap", "trades"]
            texts += [cells[name] for name in ("ts", "close") if row[name] is None]
            if row["ts"] is not None:
                assert dt.datetime.fromisoformat(cells["ts"]) == row["ts"]
            for name in ("open", "high", "low", "volume", "vwap", "trades"):
                assert float(cells[name]) == row[name]
    assert sorted(texts) == ["1O.5O", "25:61"]


# --- trades and quotes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prints():
    grid = grid_of(SHANGHAI, 2, "5m")
    market = Market((MEDIUM, THIN, Instrument("PENNY", price=0.03, trades_per_minute=2, volatility=0.2)), seed=11)
    return grid, simulate_ticks(simulate(grid, market), grid, market)


def test_simulate_ticks_fold_to_the_bars(prints):
    grid, ticks = prints
    slot = {start: (start, end) for _, _, start, end in slots_of(grid)}
    trades = defaultdict(list)
    for tick in ticks.ticks.to_dicts():
        minute = tick["ts"].replace(second=0, microsecond=0)
        trades[tick["symbol"], minute - dt.timedelta(minutes=minute.minute % 5)].append(tick)
    assert trades.keys() == set(ticks.bars.select(KEY).rows())
    for bar in ticks.bars.to_dicts():
        found = trades[bar["symbol"], bar["ts"]]
        prices, sizes = [tick["price"] for tick in found], [tick["size"] for tick in found]
        assert bar["ts"] in slot
        assert (bar["open"], bar["close"]) == (prices[0], prices[-1])
        assert (bar["high"], bar["low"]) == (max(prices), min(prices))
        assert (bar["volume"], bar["trades"]) == (sum(sizes), len(sizes))
        assert min(sizes) >= 1
        assert bar["vwap"] == pytest.approx(
            sum(p * s for p, s in zip(prices, sizes, strict=True)) / sum(sizes), rel=1e-12
        )
        assert bar["low"] <= bar["vwap"] <= bar["high"]


def test_simulate_ticks_keeps_the_clean_bars_but_vwap(prints):
    grid, ticks = prints
    market = Market((MEDIUM, THIN, Instrument("PENNY", price=0.03, trades_per_minute=2, volatility=0.2)), seed=11)
    assert_frame_equal(ticks.bars.drop("vwap"), simulate(grid, market).clean.drop("vwap"))


def test_simulate_ticks_are_in_order_with_their_schema(prints):
    _, ticks = prints
    assert ticks.ticks.schema == dict(TICKS)
    assert ticks.quotes.schema == dict(QUOTES)
    for frame in (ticks.ticks, ticks.quotes):
        for _, part in frame.group_by("symbol"):
            assert part["ts"].is_sorted()
            assert part["seq"].to_list() == list(range(1, part.height + 1))


def test_simulate_quotes_stand_around_their_trades(prints):
    _, ticks = prints
    joined = ticks.ticks.join(ticks.quotes, on=["symbol", "seq"], suffix="_quote", validate="1:1")
    assert joined.height == ticks.quotes.height
    sides = Counter()
    for row in joined.to_dicts():
        assert 0 < row["bid"] < row["ask"]
        assert row["price"] in {row["bid"], row["ask"]}
        assert row["ts_quote"] <= row["ts"]
        assert row["bid_size"] >= 100 <= row["ask_size"]
        sides[row["price"] == row["ask"]] += 1
    assert 0.3 < sides[True] / joined.height < 0.6


def test_simulate_ticks_of_one_symbol_are_the_same_alone(prints):
    grid, ticks = prints
    market = Market((THIN,), seed=11)
    alone = simulate_ticks(simulate(grid, market), grid, market, ["THIN"])
    assert_frame_equal(alone.ticks, ticks.ticks.filter(pl.col("symbol") == "THIN"))


def test_simulate_ticks_of_unknown_symbol_is_refused(grid, simulation):
    with pytest.raises(UnknownSymbolError, match="received 'NONE'; there are 'LIQ', 'MID', 'THIN'"):
        simulate_ticks(simulation, grid, MARKET, ["NONE"])
