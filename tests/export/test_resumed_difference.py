from __future__ import annotations

import datetime as dt
from random import Random

import polars as pl
from engine.export.resumed_difference import changed_rows, session_ranges
from engine.export.tables import KEYS, TABLES, conform_table
from engine.store.panel import Panel

from tests.export.store_sample import at, bars, new_store, register

TABLE = "quality"


def drawn(random: Random) -> pl.DataFrame:
    keys = sorted({(random.choice("ABC"), random.randrange(4)) for _ in range(random.randrange(12))})
    rows = [
        {
            "symbol": symbol,
            "price_type": "last",
            "interval": "1m",
            "session": dt.date(2024, 1, 2) + dt.timedelta(days=day),
            "present": random.choice([None, 1, 2]),
            "quality": random.choice([None, 50.0]),
        }
        for symbol, day in keys
    ]
    whole = pl.DataFrame(rows, schema={name: TABLES[TABLE][name] for name in TABLES[TABLE]}, orient="row")
    return conform_table(TABLE, whole.sample(fraction=1.0, shuffle=True, seed=random.randrange(1000)))


def by_key(rows: pl.DataFrame) -> dict[tuple[object, ...], tuple[object, ...]]:
    names = [name for name in rows.columns if name not in (*KEYS[TABLE], "revision")]
    return dict(zip(rows.select(KEYS[TABLE]).rows(), rows.select(names).rows(), strict=True))


def test_changed_rows_of_random_tables_equal_those_of_dictionaries() -> None:
    random = Random(7)  # noqa: S311 - no secret
    kinds = set()
    for _ in range(60):
        now, before = drawn(random), drawn(random)
        fresh, keys = changed_rows(TABLE, now, before)
        mine, its = by_key(now), by_key(before)
        changed = {key: row for key, row in mine.items() if its.get(key) != row}
        assert by_key(fresh) == changed
        assert set(keys.rows()) == changed.keys() | (its.keys() - mine.keys())
        kinds |= {(key in its, its.get(key) == row) for key, row in mine.items()}
    assert kinds == {(True, True), (True, False), (False, False)}


def test_session_ranges_are_adjacent_and_cut_where_rows_are_many(monkeypatch) -> None:
    store = new_store()
    register(store, "A", ())
    for day in range(5):
        store.append(bars("A", day, list(range(10))), "bars", "1m")
    panels: list[Panel] = list(store.snapshot().panels.values())
    first = dt.date(2024, 1, 1)
    monkeypatch.setattr("engine.export.resumed_difference.ROWS_COMPARED", 25)
    third, fifth = at(2, 0).date(), at(4, 0).date()
    assert session_ranges(panels, first) == [(first, third), (third, fifth), (fifth, None)]
    assert session_ranges([], first) == [(first, None)]
