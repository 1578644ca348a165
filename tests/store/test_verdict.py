"""The column `verdict`: what is known of each bar beside its values, over corrections, conflicts, backfills and derivation."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.export.dataset import open_dataset
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.runtime.run import export_session
from engine.schema import VERDICTS
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
FIVE = range(5)


def rows(minutes, close: float = 10.0) -> pl.DataFrame:
    ts = [OPEN + dt.timedelta(minutes=minute) for minute in minutes]
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    frame = pl.DataFrame({"ts": ts, **prices}).with_columns(symbol=pl.lit("A"), price_type=pl.lit("last"))
    empty = [pl.lit(None, kind).alias(name) for name, kind in (("volume", pl.Float64), ("size", pl.Float64))]
    return frame.with_columns(*empty, pl.lit(None, pl.Float64).alias("vwap"), pl.lit(None, pl.Int64).alias("trades"))


def store() -> SessionData:
    session = SessionData()
    session.register_symbol_data(SymbolSessionData("A", derived_intervals=("5m", "10m")))
    return session


def verdicts(session: SessionData, interval: str = "1m") -> list[str]:
    derive_session(session)
    return session.bars("A", interval)["verdict"].to_list()


def test_correction_is_marked_and_a_repeat_is_not() -> None:
    session = store()
    session.append([rows(FIVE), rows([1], 11.0), rows([2])], interval="1m")
    session.append(rows([3], 12.0), interval="1m")
    session.append(rows([3], 12.0), interval="1m")
    assert verdicts(session) == ["observed", "corrected", "observed", "corrected", "observed"]
    assert verdicts(session, "5m") == ["corrected"]


def test_bar_kept_against_a_conflict_is_disputed_until_it_is_corrected() -> None:
    session = store()
    session.append(pl.concat([rows(FIVE), rows([2], 11.0), rows([4])]), interval="1m")
    assert verdicts(session) == ["observed", "observed", "disputed", "observed", "observed"]
    assert verdicts(session, "5m") == ["disputed"]
    session.append(rows([2], 12.0), interval="1m")
    assert verdicts(session) == ["observed", "observed", "corrected", "observed", "observed"]
    assert verdicts(session, "5m") == ["corrected"]


def test_conflict_around_a_stored_value_makes_it_disputed_and_is_exported(tmp_path) -> None:
    session = store()
    session.append(rows(FIVE), interval="1m")
    derive_session(session)
    export_session(session, tmp_path / "out")
    again = session.append(pl.concat([rows([2], 11.0), rows([2])]), interval="1m")
    assert (again.duplicates, again.corrections, again.rejects.height) == (1, 0, 1)
    assert verdicts(session) == ["observed", "observed", "disputed", "observed", "observed"]
    export_session(session, tmp_path / "out")
    stored = open_dataset(tmp_path / "out").scan("bars").sort("interval", "ts").collect()
    of_minute = stored.filter(pl.col("interval") == "1m")
    assert of_minute.select("verdict", "revision").rows()[1:3] == [("observed", 1), ("disputed", 2)]
    assert stored.filter(pl.col("interval") == "5m").select("verdict", "revision").rows() == [("disputed", 2)]


@pytest.mark.parametrize(
    ("provenance", "verdict"), [("source", "observed"), ("backfill", "backfilled"), ("fill", "filled")]
)
def test_derived_bar_has_the_weakest_verdict_of_its_parts(provenance: str, verdict: str) -> None:
    session = store()
    session.append(rows([0, 1, 2, 3]), interval="1m")
    session.append(rows([4]), interval="1m", provenance=provenance)
    session.append(rows(range(5, 10)), interval="1m")
    assert verdicts(session)[4:6] == [verdict, "observed"]
    assert verdicts(session, "5m") == [verdict, "observed"]
    assert verdicts(session, "10m") == [verdict]


def test_window_that_lacks_a_slot_is_incomplete_whatever_it_is_made_of() -> None:
    session = store()
    session.append(rows([0, 1, 3, 4]), interval="1m")
    session.append(rows([2]), interval="1m", provenance="synthetic")
    session.append(rows(range(5, 9)), interval="1m")
    assert verdicts(session)[2] == "incomplete"
    assert verdicts(session, "5m") == ["incomplete", "incomplete"]
    session.append(rows([9]), interval="1m")
    session.append(rows([2], 11.0), interval="1m")
    assert verdicts(session, "5m") == ["corrected", "observed"]


def test_bar_that_is_not_over_is_incomplete() -> None:
    session = SessionData(as_of=OPEN + dt.timedelta(minutes=5))
    session.register_symbol_data(SymbolSessionData("A", derived_intervals=("5m", "10m")))
    session.append(rows(range(6)), interval="1m")
    assert verdicts(session) == ["observed"] * 5 + ["incomplete"]
    assert verdicts(session, "10m") == ["incomplete"]


def test_steps_and_a_rebuild_give_the_same_verdicts() -> None:
    batches = [(rows(FIVE), "source"), (rows([7]), "backfill"), (rows([1], 11.0), "source"), (rows([5, 6]), "fill")]
    stepped, whole = store(), store()
    for batch, provenance in batches:
        for session in (stepped, whole):
            session.append(batch, interval="1m", provenance=provenance)
        derive_session(stepped)
    derive_session(whole)
    assess_session(whole)
    for interval in ("1m", "5m", "10m"):
        assert stepped.bars("A", interval).equals(whole.bars("A", interval))
        assert set(stepped.bars("A", interval)["verdict"]) <= set(VERDICTS)
