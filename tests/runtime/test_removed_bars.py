"""A corrected quote that takes away the only bid or ask of a slot removes the bars made of it, wherever they went."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import engine
import numpy as np
import polars as pl
import pytest
from engine.export.delta import apply_delta, read_delta
from engine.runtime.indicator_manager import IndicatorManager
from engine.runtime.processor import DataProcessor, derive_session
from engine.runtime.quality_manager import DataQualityManager, assess_session
from engine.schema import QUOTES
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData
from polars.testing import assert_frame_equal

OPEN = dt.datetime(2024, 6, 27, 13, 30, tzinfo=dt.UTC)
NOW = OPEN + dt.timedelta(days=2)
DERIVED = ("5m", "1h", "1d", "1w")
TABLES = ("bars", "gaps", "quality", "quotes", "symbols", "sessions")
WANTED = (("sma(2)", "1m"), ("ema(2)", "1m"), ("session_vwap", "5m"), ("relative_volume(1)", "5m"))
Quote = tuple[int, float | None, float | None]


def quotes(rows: list[Quote], symbol: str = "A") -> pl.DataFrame:
    made = [
        {"symbol": symbol, "ts": OPEN + dt.timedelta(seconds=s), "seq": 0, "bid": bid, "ask": ask, "bid_size": 1.0, "ask_size": 2.0}
        for s, bid, ask in rows
    ]  # fmt: skip
    return pl.DataFrame(made, infer_schema_length=None).select(
        pl.col(name).cast(dtype) for name, dtype in QUOTES.items()
    )


class Running:
    """A store of quotes that is stepped after each of them."""

    def __init__(self, price_type: str = "bid", **about: object) -> None:
        self.session = SessionData(as_of=NOW, **about)
        for symbol in "AB":
            self.session.register_symbol_data(
                SymbolSessionData(
                    symbol, derived_intervals=DERIVED, is_loaded=True, base_from="quotes", price_type=price_type, indicators=WANTED
                )
            )  # fmt: skip
        self.components = DataProcessor(self.session), DataQualityManager(self.session), IndicatorManager(self.session)

    def take(self, rows: list[Quote], symbol: str = "A") -> Running:
        self.session.append(quotes(rows, symbol), "quotes")
        for one in self.components:
            one.step()
        return self


def rebuilt(stories: list[tuple[str, list[Quote]]], price_type: str = "bid", **about: object) -> SessionData:
    """A store that has seen only the quotes as they were corrected, and steps once."""
    last: dict[tuple[str, int], Quote] = {}
    for symbol, rows in stories:
        last |= {(symbol, row[0]): row for row in rows}
    fresh = Running(price_type, **about)
    for symbol in "AB":
        rows = [row for (of, _), row in sorted(last.items()) if of == symbol]
        if rows:
            fresh.session.append(quotes(rows, symbol), "quotes")
    derive_session(fresh.session)
    assess_session(fresh.session)
    IndicatorManager(fresh.session).step()
    return fresh.session


def of_tables(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Tables without revisions and the count of corrections, which a rebuild does not have."""
    found = {}
    for name in TABLES:
        frame = tables[name].drop("revision", "corrections", "verdict", strict=False)
        frame = frame.select(sorted(frame.columns))
        found[name] = frame.sort([one for one in frame.columns if frame[one].dtype != pl.List])
    return found


def check_equal(ours: dict[str, pl.DataFrame], theirs: dict[str, pl.DataFrame]) -> None:
    for name, wanted in of_tables(theirs).items():
        assert_frame_equal(of_tables(ours)[name], wanted, check_exact=True, check_dtypes=False)


def test_only_bid_taken_away_removes_its_bars_and_no_other() -> None:
    running = Running().take([(0, 1.0, 2.0), (65, 1.1, None), (400, 1.2, 2.2)])
    held = running.session.snapshot()
    running.take([(65, None, None)])
    starts = {side: running.session.bars("A", "1m", side)["ts"].to_list() for side in ("bid", "ask", "mid")}
    minute = dt.timedelta(minutes=1)
    assert starts == {side: [OPEN, OPEN + 6 * minute] for side in ("bid", "ask")} | {
        "mid": [OPEN, OPEN + minute, OPEN + 6 * minute]
    }
    assert running.session.bars("A", "5m", "bid")["n_base"].to_list() == [1, 1]
    assert held.bars("A", "1m", "bid").height == 3  # a snapshot stays what it was
    assert (
        OPEN + minute
        in running.session.get_symbol_data("A").bar_gaps["1m"].filter(price_type="bid")["gap_start"].to_list()
    )
    assert running.session.get_symbol_data("A").indicator_values()["ts"].to_list() == starts["bid"]


def test_removed_bar_comes_back_with_a_later_quote() -> None:
    stories = [("A", [(0, 1.0, 2.0), (65, 1.1, 2.1)]), ("A", [(65, None, 2.1)]), ("A", [(70, 1.3, None)])]
    running = Running()
    for symbol, rows in stories:
        running.take(rows, symbol)
    check_equal(running.session.snapshot().tables(), rebuilt(stories).snapshot().tables())


def test_all_quotes_taken_away_leave_no_bar_gap_or_value_of_the_side() -> None:
    running = Running().take([(0, 1.0, 2.0), (400, 1.1, 2.1)]).take([(0, None, 2.0), (400, None, 2.1)])
    assert running.session.bars("A", None, ["bid", "mid"]).height == 0
    assert set(running.session.gaps()["price_type"]) == set(running.session.quality()["price_type"]) == {"ask"}
    data = running.session.get_symbol_data("A")
    assert (data.indicator_values().height, data.indicator_values("5m").height, data.session_volume) == (0, 0, 0.0)
    assert running.session.changes(0).filter(kind="bars").height > 0


def test_session_that_lost_its_last_bar_is_current_no_more() -> None:
    night = 86_400
    running = Running().take([(0, 1.0, None), (night, 1.1, None)])
    assert running.session.snapshot().current_session == OPEN.date() + dt.timedelta(days=1)
    assert running.session.get_symbol_data("A").historical_indicators["1m"]["high"] == 1.0
    running.take([(night, None, None)])
    assert running.session.snapshot().current_session == OPEN.date()
    data = running.session.get_symbol_data("A")
    assert (data.historical_indicators, data.session_high) == ({}, 1.0)


def undo(running: Running) -> None:
    with running.session.transaction():
        running.take([(65, None, None)])
        assert running.session.bars("A", "1m", "bid").height == 1
        raise RuntimeError("undone")


def test_rolled_back_correction_removes_nothing() -> None:
    running = Running().take([(0, 1.0, 2.0), (65, 1.1, None)])
    before = running.session.snapshot().tables()
    with pytest.raises(RuntimeError, match="undone"):
        undo(running)
    check_equal(running.session.snapshot().tables(), before)
    running.take([(65, None, None)])
    assert running.session.bars("A", "1m", "bid").height == 1


def random_story(rng: np.random.Generator) -> list[tuple[str, list[Quote]]]:
    """Quotes of a few instants in three slots, the next hour and the next day, corrected again and again."""
    instants = [0, 20, 65, 70, 130, 3700, 86_400, 86_470]
    story = []
    for _ in range(int(rng.integers(3, 9))):
        at = rng.choice(instants, int(rng.integers(1, 4)), replace=False)
        sides = rng.integers(0, 4, len(at))
        rows = [
            (int(s), float(rng.integers(10, 30)) if side in (0, 1) else None, float(rng.integers(31, 50)) if side in (0, 2) else None)
            for s, side in zip(at, sides, strict=True)
        ]  # fmt: skip
        story.append((str(rng.choice(["A", "A", "B"])), rows))
    return story


SEEDS = [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 200))]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_corrections_equal_a_rebuild_in_tables_exports_deltas_and_indicators(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    about = {"incomplete": "drop"} if seed % 4 == 3 else {}
    price_type = ("bid", "ask", "mid")[seed % 3]
    story, target, copy, since = random_story(rng), tmp_path / "out", {}, 0
    running = Running(price_type, **about)
    for symbol, rows in story:
        running.take(rows, symbol)
        if rng.random() < 0.6:
            since, copy = follow(running.session, target, copy, since)
    since, copy = follow(running.session, target, copy, since)
    fresh = rebuilt(story, price_type, **about)
    check_equal(running.session.snapshot().tables(), fresh.snapshot().tables())
    check_equal(copy, fresh.snapshot().tables())
    dataset = engine.open_dataset(target)
    check_equal({name: dataset.scan(name).collect() for name in TABLES}, fresh.snapshot().tables())
    for symbol in "AB":
        ours, theirs = (one.get_symbol_data(symbol) for one in (running.session, fresh))
        assert ours.historical_indicators == theirs.historical_indicators
        for interval in ("1m", "5m"):
            values = [one.indicator_values(interval) for one in (ours, theirs)]
            if values[1].height or values[0].height:
                assert_frame_equal(*values, rel_tol=1e-12, abs_tol=0)


def follow(
    session: SessionData, target: Path, copy: dict[str, pl.DataFrame], since: int
) -> tuple[int, dict[str, pl.DataFrame]]:
    """Export what changed, and bring a consumer's copy up to it by the delta."""
    engine.export_session(session, target)
    delta = read_delta(target, since)
    return delta.until, apply_delta(copy, delta)
