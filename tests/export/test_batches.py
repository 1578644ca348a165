"""A full export in batches: each bounded, together everything, in order; however small they are."""

from __future__ import annotations

import polars as pl
import pytest
from engine.export import session_export
from engine.export.dataset import open_dataset
from engine.export.tables import SORT

from tests.export.store_sample import SLOTS, Story, at, bars, new_store, put, register, rows, settle, ticks


def stored():
    """Symbols of few and of many rows on two months, corrections among them, series registered out of order."""
    store = Story.told(3).store
    for symbol in ("Z", "C", "M"):
        register(store, symbol)
        days = range(4 if symbol == "M" else 2)
        store.append(pl.concat([bars(symbol, day, list(range(SLOTS))) for day in days]), interval="1m")
        store.append(ticks(symbol, 2, list(range(SLOTS))), kind="ticks")
    store.append(bars("M", 1, [3], 9.0), interval="1m")
    store.set_as_of(at(5, 0))
    settle(store)
    return store


@pytest.mark.parametrize("size", [1, 5, 20, 70, 1000])
def test_export_in_batches_of_any_size_gives_the_same_rows_in_order(tmp_path, monkeypatch, size):
    store = stored()
    put(store, tmp_path / "whole")
    monkeypatch.setattr(session_export, "ROWS_PER_BATCH", size)
    put(store, tmp_path / "cut")
    whole, cut = rows(tmp_path / "whole"), rows(tmp_path / "cut")
    for name, expected in whole.items():
        assert cut[name].equals(expected), name
    opened = open_dataset(tmp_path / "cut")
    for folder in {path.parent for path in opened.files("bars")}:
        read = pl.concat(
            pl.read_parquet(path, hive_partitioning=False) for path in opened.files("bars") if path.parent == folder
        )
        assert read.equals(read.sort(SORT["bars"])), folder


def test_batches_hold_less_than_twice_their_size(monkeypatch):
    monkeypatch.setattr(session_export, "ROWS_PER_BATCH", 20)
    snapshot = stored().snapshot()
    heights = [
        (rows.height, rows.n_unique(["symbol", "session"]))
        for rows, _ in session_export.table_batches(snapshot, "bars")
    ]
    assert len(heights) > 5
    assert all(height < 2 * 20 or sessions == 1 for height, sessions in heights)


def test_batches_of_a_symbol_that_fills_one_are_cut_at_its_sessions(monkeypatch):
    store = new_store()
    register(store, "A", ())
    store.append(pl.concat([ticks("A", day, list(range(SLOTS))) for day in range(2)]), kind="ticks")
    monkeypatch.setattr(session_export, "ROWS_PER_BATCH", SLOTS)
    cut = [rows["session"].unique().to_list() for rows, _ in session_export.table_batches(store.snapshot(), "ticks")]
    assert cut == [[at(0, 0).date()], [at(1, 0).date()]]


def test_batches_of_many_small_symbols_in_one_month_are_cut(monkeypatch):
    store = new_store()
    symbols = [f"S{number}" for number in range(10)]
    for symbol in symbols:
        register(store, symbol, ())
    store.append(pl.concat([ticks(symbol, 0, list(range(SLOTS))) for symbol in symbols]), kind="ticks")
    monkeypatch.setattr(session_export, "ROWS_PER_BATCH", 3 * SLOTS)
    cut = [
        rows["symbol"].unique(maintain_order=True).to_list()
        for rows, _ in session_export.table_batches(store.snapshot(), "ticks")
    ]
    assert cut == [symbols[:3], symbols[3:6], symbols[6:9], symbols[9:]]
