"""A load of a folder equals a session that was fed the same rows, in every public accessor, on random inputs."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import engine
import numpy as np
import polars as pl
import pytest
from engine.derive.session_baseline import session_baseline
from engine.runtime.config import SessionConfig
from engine.runtime.deployments import ReplaySession
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData
from polars.testing import assert_frame_equal

CALENDARS = {"X*": "24/7", "*": "XNYS"}
DAYS = [dt.date(2024, 7, 2), dt.date(2024, 7, 3), dt.date(2024, 7, 5)]  # a half day, and a holiday between
DERIVED = ["5m", "1h", "1d", "1w"]
INDICATORS = {"1m": ["sma(3)", "session_vwap"], "5m": ["ema(4)"], "1d": ["relative_volume(1)"]}
MINUTE = dt.timedelta(minutes=1)


def random_bars(rng: np.random.Generator, symbol: str, day: dt.date) -> pl.DataFrame:
    """Minutes of a session with holes, one off the grid, one out of session; of all values a float that adds up unevenly."""
    around_the_clock = symbol.startswith("X")
    begin = dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)
    begin += dt.timedelta(0) if around_the_clock else dt.timedelta(hours=13, minutes=30)
    count = 1440 if around_the_clock else 210 if day == DAYS[1] else 390
    kept = np.flatnonzero(rng.random(count) < rng.choice([0.05, 0.9, 1.0]))
    stamps = [begin + int(m) * MINUTE for m in kept]
    stamps += [begin + dt.timedelta(seconds=int(rng.integers(61, 119)))]
    stamps += [] if around_the_clock else [begin - int(rng.integers(5, 90)) * MINUTE]
    close = np.round(50 + np.cumsum(rng.normal(0, 0.05, len(stamps))), 2)
    opened = np.round(close + rng.normal(0, 0.05, len(stamps)), 2)
    return pl.DataFrame({
        "symbol": symbol, "ts": stamps, "open": opened, "high": np.maximum(opened, close) + 0.03,
        "low": np.minimum(opened, close) - 0.03, "close": close, "volume": rng.integers(0, 900, len(stamps)) / 10,
    })  # fmt: skip


def random_folder(folder: Path, seed: int, *, every_day: bool = False) -> Path:
    """Files by symbol, day or month, with rows that come again, as they were or with other values, and rows that are refused."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    files: dict[str, list[pl.DataFrame]] = {}
    for symbol in ("AAA", "BBB", "XCC"):
        for day in DAYS[: int(rng.integers(1, 4))] if symbol == "BBB" and not every_day else DAYS:
            rows = random_bars(rng, symbol, day)
            name = [symbol, f"{symbol}_{day}", f"{day}"][int(rng.integers(0, 3))]
            files.setdefault(name, []).append(rows)
            if rng.random() < 0.5:
                again = rows.sample(fraction=0.2, seed=seed).with_columns(
                    pl.col("close").shift(1).fill_null(pl.first("close"))
                )
                wide = again.with_columns(
                    high=pl.max_horizontal("open", "high", "close"), low=pl.min_horizontal("open", "low", "close")
                )
                files.setdefault(f"later_{name}", []).append(wide)
    first = next(iter(files))
    files[first].append(files[first][0].head(1).with_columns(high=pl.lit(1.0), ts=pl.col("ts") + 2 * MINUTE))
    for name, parts in files.items():
        pl.concat(parts).write_csv(folder / f"{name}_1m.csv")
    return folder


def random_quotes(folder: Path, seed: int) -> Path:
    """Quotes of both sides or of one, at any second."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for symbol in ("AAA", "XCC"):
        parts = []
        for day in DAYS:
            begin = dt.datetime(day.year, day.month, day.day, 13, 30, tzinfo=dt.UTC)
            at = np.sort(rng.integers(0, 210 * 60, 300))
            bid = np.round(50 + np.cumsum(rng.normal(0, 0.05, 300)), 2)
            sides = rng.random(300)
            parts.append(pl.DataFrame({
                "symbol": symbol, "ts": [begin + dt.timedelta(seconds=int(s)) for s in at],
                "bid": pl.Series(bid).set(pl.Series(sides < 0.2), None), "ask": pl.Series(bid + 0.02).set(pl.Series(sides > 0.8), None),
                "bid_size": 1.0, "ask_size": 2.0,
            }))  # fmt: skip
        pl.concat(parts).write_csv(folder / f"{symbol}_quotes.csv")
    return folder


def configured(folder: Path, history: int, **session: object) -> SessionConfig:
    indicators = [{"use": one, "intervals": [at]} for at, ours in INDICATORS.items() for one in ours]
    days = {"start": str(DAYS[0]), "end": str(DAYS[-1])}
    return SessionConfig.of({
        "session": {"calendars": CALENDARS, **days, **session}, "source": {"paths": [str(folder)]}, "derive": DERIVED,
        "indicators": indicators, "replay": {"step_seconds": 20_000},
        **({"history": [{"sessions": history}]} if history else {}),
    })  # fmt: skip


def loaded(folder: Path, history: int, **options: Any) -> SessionData:
    return engine.load(
        folder, CALENDARS, derive=DERIVED, indicators=INDICATORS, history_sessions=history, start=DAYS[0], end=DAYS[-1],
        **options,
    )  # fmt: skip


def accessors(data: SymbolSessionData) -> dict[str, object]:
    """Every public field and property of a symbol, and the frames of its methods at each of its intervals."""
    names = [name for name in dir(data) if not name.startswith("_")]
    values = {name: getattr(data, name) for name in names if not callable(getattr(type(data), name, None))}
    for interval in (data.base_interval, *data.derived_intervals):
        for side in ("last", "bid", "ask", "mid"):
            values[f"bars {interval} {side}"] = data.bars(interval, side)
        values[f"indicator_values {interval}"] = data.indicator_values(interval)
    return values


def of_session(session: SessionData) -> dict[str, object]:
    """Every public accessor of a store that tells of its data, without revisions and identity."""
    snapshot = session.snapshot()
    order = {
        "bars": ["symbol", "price_type", "interval", "origin", "ts"],
        "gaps": ["symbol", "price_type", "interval", "gap_start"],
    }
    tables = {name: frame.drop("revision", strict=False) for name, frame in snapshot.tables().items()}
    tables = {name: frame.sort(order.get(name, frame.columns[:4])) for name, frame in tables.items()}
    tables["symbols"] = tables["symbols"].drop("source")  # the format of the first file
    return {
        "active": session.get_active_symbols(), "loaded": session.get_loaded_symbols(),
        "derived": session.get_symbols_with_derived(), "current": snapshot.current_session, "slots": session.slots(),
        "tables": tables,
        "symbols": {name: accessors(session.get_symbol_data(name)) for name in sorted(session.get_active_symbols())},
    }  # fmt: skip


def document(session: SessionData, folder: Path) -> dict[str, Any]:
    tables = {name: frame.drop("revision", strict=False) for name, frame in session.snapshot().tables().items()}
    return json.loads(engine.write_json(tables, folder).read_bytes())


def differences(ours: object, theirs: object, path: str = "") -> Iterable[str]:
    """Places where two values differ; sums of windows within 1e-12."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if list(ours) != list(theirs):
            yield f"{path}: {list(ours)} and {list(theirs)}"
        for key in ours.keys() & theirs.keys():
            yield from differences(ours[key], theirs[key], f"{path}/{key}")
    elif isinstance(ours, pl.DataFrame) and isinstance(theirs, pl.DataFrame):
        try:
            windows = "indicator_values" in path
            assert_frame_equal(ours, theirs, check_exact=not windows, rel_tol=1e-12, abs_tol=0)
        except AssertionError as error:
            yield f"{path}: {error}"
    elif ours != theirs:
        yield f"{path}: {ours!r} and {theirs!r}"


CASES = [
    (seed, kind, history)
    for seed, (kind, history) in enumerate([("bars", 0), ("bars", 1), ("quotes", 0), ("quotes", 2)])
]
MORE = [
    pytest.param(seed, ("bars", "quotes")[seed % 3 == 0], seed % 4, marks=pytest.mark.slow) for seed in range(10, 60)
]


@pytest.mark.parametrize(("seed", "kind", "history"), [*CASES, *MORE])
def test_load_equals_a_session_fed_the_same_rows_in_every_accessor(
    tmp_path: Path, seed: int, kind: str, history: int
) -> None:
    folder = (random_folder if kind == "bars" else random_quotes)(tmp_path / "files", seed)
    batch = loaded(folder, history)
    replay = ReplaySession(configured(folder, history))
    fed = replay.run()
    assert list(differences(of_session(batch), of_session(fed))) == []
    documents = [document(one, tmp_path / name) for one, name in ((batch, "batch"), (fed, "fed"))]
    for one in documents:
        for block in one["symbols"].values():
            block.pop("source")
    assert list(differences(*documents)) == []
    check_metrics(batch, documents[0], history)


def check_metrics(session: SessionData, document: dict[str, Any], history: int) -> None:
    """Metrics and history by their definitions, from the rows in slots."""
    for name in session.get_active_symbols():
        data = session.get_symbol_data(name)
        bars = data.bars().join(session.slots(name), on="ts", how="semi")
        today = bars.filter(pl.col("session") == DAYS[-1])
        wanted = (today["volume"].sum(), today["high"].max(), today["low"].min(), data.bars()["ts"].max())
        assert (data.session_volume, data.session_high, data.session_low, data.last_update) == wanted
        told = document["symbols"][name]["metrics"]
        assert (told["session"], told["session_volume"]) == (str(DAYS[-1]), wanted[0])
        assert (told["session_high"], told["session_low"]) == wanted[1:3]
        assert told["last_update"] == wanted[3].isoformat().replace("+00:00", "Z")
        past = [day for day in bars["session"].unique().sort() if day < DAYS[-1]]
        past = past[-history:] if history else past
        assert sorted(data.historical_bars["5m"]) == past
        baseline = session_baseline(bars.drop("segment"), DAYS[-1], history or 99).drop(
            "symbol", "price_type", "interval", "origin"
        )
        assert data.historical_indicators.get("1m") == (baseline.row(0, named=True) if past else None)


@pytest.mark.parametrize("seed", [3, 4])
def test_load_equals_a_session_at_the_close_of_its_last_session(tmp_path: Path, seed: int) -> None:
    # The running session belongs to the lifetime of every symbol, so each has a bar in it here.
    folder = random_folder(tmp_path / "files", seed, every_day=True)
    replay = ReplaySession(configured(folder, 2))
    replay.load()
    last = dt.datetime(2024, 7, 6, tzinfo=dt.UTC)  # of the calendar around the clock
    replay.coordinator.advance(last)
    fed = replay.session
    assert fed.snapshot().session_date == fed.snapshot().current_session == DAYS[-1]
    batch = loaded(folder, 2, as_of=last)
    held, wanted = of_session(fed), of_session(batch)
    # What comes out of session, or is refused, is taken at the end of a replay.
    for one in (held, wanted):
        one["tables"].pop("rejects")
    assert list(differences(wanted, held)) == []
